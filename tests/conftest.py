"""Marks the tests that start a process or a server as `slow`: `make test-fast` leaves them out.
And ends with each test what it set about the log.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Generator, Hashable, Iterator
from inspect import isclass, isfunction, unwrap
from pathlib import Path
from tempfile import gettempdir
from types import CodeType
from typing import Any
from uuid import uuid4

import pytest
import structlog
from hypothesis import HealthCheck, settings

from assent.config.logging import TALKATIVE, configure_logging
from tests.support.command import share_zygote
from tests.support.disk import unmount_garbage
from tests.support.openai_server import OpenAIServer
from tests.support.rewriting import write_bytecode
from tests.support.secrets import leaks
from tests.support.server import Server
from tests.support.zygote import Zygote

STARTING = (subprocess, multiprocessing, OpenAIServer, Server, Zygote)
UVICORN = ("uvicorn.error", "uvicorn.access", "uvicorn.asgi")
"""The loggers that uvicorn sets."""

BY_NAME = {"create_subprocess_exec", "create_subprocess_shell"}

# Each client of HTTP reads the certificates of all authorities, 50 ms of it, and no test leaves the
# machine: here there are none, for the processes that tests start either.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)

# A database is flushed to its disk at each commit, which costs more than what is tested. A process that
# is killed loses nothing of what it wrote to memory, either.
MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# How long an example takes, or its data, says how busy the machine is.
settings.register_profile("assent", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("assent")


# What is imported and collected stays until the end: to look for garbage among it is an eighth of the
# time. `pytest_collection_finish` turns that on again.
gc.disable()


def pytest_configure() -> None:
    log_plainly()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """What the workers of a run need once, and not one each: a process that has imported everything,
    and the bytecode of the tests. This process collects no tests itself."""
    gc.enable()
    unmount_garbage(Path(os.environ.get("PYTEST_DEBUG_TEMPROOT", gettempdir())))
    share_zygote()
    write_bytecode(config)


def log_plainly() -> None:
    """Log as structlog does, but tracebacks without its drawing of them, which takes two seconds."""
    structlog.reset_defaults()
    *before, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure([*before, renderer])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found: dict[Any, bool] = {}
    for item in items:
        if isinstance(item, pytest.Function) and any(
            starts_a_process(function, found) for function in functions_of(item)
        ):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Leave what stands now, thousands of tests and all that they import, out of each collection of
    garbage; and collect as seldom as the server does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 8)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test in whose log a secret stands, but for those that put one there on purpose."""
    report = yield
    logged = "".join(text for name, text in report.sections if "log" in name)
    if (
        report.passed
        and (found := leaks(logged))
        and item.get_closest_marker("logs_secrets") is None
    ):
        report.outcome = "failed"
        report.longrepr = f"Secrets were logged: {found[:5]}"
    return report


def pytest_runtest_teardown() -> None:
    """Undo what a command of the CLI has set about the log: the next test is in this process too."""
    root = logging.getLogger()
    ours = [each for each in root.handlers if each.name == configure_logging.__module__]
    if not ours:
        return
    for handler in ours:
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)
    for name in (*TALKATIVE, *UVICORN):
        logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger(name).propagate = True
    logging.captureWarnings(False)
    log_plainly()


def functions_of(item: pytest.Function) -> Iterator[Any]:
    """The test and its fixtures."""
    yield item.function
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        yield from (definition.func for definition in definitions)


def starts_a_process(thing: Any, found: dict[Any, bool]) -> bool:
    """True if this function or class of the tests, or any that it names, starts a process or a server.

    `found` remembers the answers.
    """
    if thing in STARTING:
        return True
    thing = unwrap(thing) if callable(thing) else thing
    if not (isfunction(thing) or isclass(thing)) or not thing.__module__.startswith("tests."):
        return False
    if thing not in found:
        found[thing] = False
        functions = filter(isfunction, vars(thing).values()) if isclass(thing) else [thing]
        found[thing] = any(names_what_starts(function, found) for function in functions)
    return found[thing]


def names_what_starts(function: Any, found: dict[Any, bool]) -> bool:
    names = set(names_in(function.__code__))
    named = (function.__globals__.get(name) for name in names)
    return bool(names & BY_NAME) or any(
        starts_a_process(each, found) for each in named if isinstance(each, Hashable)
    )


def names_in(code: CodeType) -> Iterator[str]:
    """The names in the code, and in that of the functions within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


@pytest.fixture
def thread() -> str:
    """The id of a thread that no other test has."""
    return f"t-{uuid4().hex}"


_amounts = iter(range(1000, 1_000_000))


@pytest.fixture
def amount() -> int:
    """An amount that no other test pays, so that its lines in the ledger are this test's."""
    return next(_amounts)
