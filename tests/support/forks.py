"""A process for a function of the tests, such as one that writes until it is killed: a fork of one
that has imported everything already.

    ours, theirs = pipe()
    child = forked(crash.write_until_killed, path, theirs)
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

FORKED = (
    "tests.graph.cold_process",
    "tests.importing.test_importer",
    "tests.storage.crash",
    "tests.storage.saver_crash",
    "tests.storage.test_erasing",
)
"""The modules of all that is forked. The process that forks is started once, with what its first
child needs: a module that it has not imported, each child would."""


def forked(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that calls the function with these arguments, and ends."""
    assert function.__module__ in FORKED, f"{function.__module__} is not in FORKED."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*FORKED])
    child = context.Process(target=function, args=arguments)
    child.start()
    return child


def pipe() -> tuple[Connection, Connection]:
    """The end that receives, and the end that sends."""
    return multiprocessing.Pipe(duplex=False)
