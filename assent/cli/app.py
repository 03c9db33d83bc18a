"""The `assent` command and its subcommands."""

from __future__ import annotations

import os
import sys
import threading
from importlib.metadata import version
from typing import Annotated

import typer

from assent.cli.approvals import commands as approvals
from assent.cli.audit import commands as audit
from assent.cli.backup import backup
from assent.cli.chat import chat
from assent.cli.doctor import doctor
from assent.cli.imports import import_checkpoints
from assent.cli.run import run
from assent.cli.serve import serve
from assent.runs.sync_threads import SYNC_THREAD

app = typer.Typer(
    help="Runs LangGraph agents that must ask a person before they act.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(chat)
app.command()(run)
app.add_typer(approvals, name="approvals")
app.add_typer(audit, name="audit")
app.command()(doctor)
app.command()(backup)
app.command()(import_checkpoints)


def main() -> None:
    """The `assent` command."""
    try:
        app()
    except SystemExit as end:
        _leave_busy_threads(end.code)
        raise


def _leave_busy_threads(code: str | int | None) -> None:
    """End at once if a thread still runs a tool. Python would wait for it as long as it takes."""
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
