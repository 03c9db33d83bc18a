"""The `assent` command and its subcommands."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections import UserDict
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

MODULES = {
    "serve": "assent.cli.serve",
    "chat": "assent.cli.chat",
    "run": "assent.cli.run",
    "approvals": "assent.cli.approvals",
    "audit": "assent.cli.audit",
    "keys": "assent.cli.keys",
    "owners": "assent.cli.owners",
    "doctor": "assent.cli.doctor",
    "backup": "assent.cli.backup",
    "import-checkpoints": "assent.cli.imports",
}
"""The module of each command: `commands` are its subcommands, or else a function is the command."""


class _Commands(UserDict[str, Any]):
    """The commands, each imported when it is called: what asks a server needs none itself, and
    starts in a fraction of the time."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(MODULES))

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            self.data[name] = _command(name)
        return self.data[name]


def _command(name: str) -> Any:
    module = import_module(MODULES[name])
    holder = typer.Typer(rich_markup_mode="markdown", add_completion=False)
    if hasattr(module, "commands"):
        holder.add_typer(module.commands, name=name)
    else:
        holder.command(name)(getattr(module, name.replace("-", "_")))
    return get_group(holder).commands[name]


class _Group(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()


app = typer.Typer(
    cls=_Group,
    help="Runs LangGraph agents that must ask a person before they act.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The `assent` command."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.isatty():
        # What a terminal cannot show is escaped there, as it is on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as end:
        if threading.active_count() > 1:
            _leave_busy_threads(end.code)
        raise


def _leave_busy_threads(code: str | int | None) -> None:
    """End at once if a thread still runs a tool. Python would wait for it as long as it takes."""
    from assent.runs.sync_threads import SYNC_THREAD

    threads = [each for each in threading.enumerate() if each.name.startswith(SYNC_THREAD)]
    for thread in threads:
        # An idle one ends by itself now.
        thread.join(0.1)

    if any(thread.is_alive() for thread in threads):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"assent {version('assent')}")
        raise typer.Exit


@app.callback()
def _options(
    shown: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None: ...
