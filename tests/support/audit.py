"""The audit command beside a server."""

from __future__ import annotations

import os

from typer.testing import CliRunner

from assent.cli.app import app
from tests.support.keys import key
from tests.support.server import Server

AUDIT_KEY = key("2026", "a")


def assent_audit(server: Server, *arguments: str, code: int = 0, **variables: str) -> str:
    """Run `assent audit` in this process, and return what it says: on standard output, or on
    standard error if it is to leave with another code than 0."""
    environment = {**server.environment, "ASSENT_AUDIT_KEY": AUDIT_KEY, **variables}
    environment = {name: value for name, value in environment.items() if value}
    runner = CliRunner(
        env={name: None for name in os.environ if name.startswith("ASSENT_")} | environment
    )
    ended = runner.invoke(app, ["audit", *arguments])
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 else ended.stderr
