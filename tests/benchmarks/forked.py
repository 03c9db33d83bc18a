"""The benchmarks, with servers that are forks of a process that has imported everything already, but
for the first, which is started as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks import __main__, server
from tests.support import command

PARTS = tuple(part for part in __main__.PARTS if part != "web")
"""All but the one that needs a browser, which `tests/web` runs."""


def main() -> None:
    """Run them all."""
    cold, was_started = server.started, False

    def started(graph: str, log: Path, environment: dict[str, str]) -> Any:
        nonlocal was_started
        if not was_started:
            was_started = True
            return cold(graph, log, environment)
        argv = server.arguments(graph)
        log.touch()
        return command.started(argv, folder=log.parent, environment=environment, log=log)

    with patch.object(server, "started", started):
        __main__.main([*PARTS])
