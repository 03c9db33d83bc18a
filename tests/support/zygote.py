"""Servers at a fork's price: one process imports everything once, and each server is a child of it.

A cold start spends its time on imports, and the tests start hundreds of servers. What they get here
is `assent serve` itself, in a process of its own that a signal kills like any other: a fork of one
that has imported, and done nothing else. It has one thread, no event loop, no socket but the one it
is spoken to by, and no file of ours open.

    zygote = Zygote()
    process = zygote.start(["serve", "--port", "8000"], folder=…, environment={…}, log=…)
    process.send_signal(signal.SIGKILL)
    process.wait(5)    # -9

This module is both ends. With `COLD_SERVERS=1`, and where there is no safe fork, the tests start
the cold command instead.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HAS_SAFE_FORK = hasattr(os, "fork") and sys.platform != "darwin"
"""On macOS the system's own libraries may have threads that a fork loses."""

TAKEN_LATER = (
    "anyio._backends._asyncio",
    "httpcore",
    "langchain_core.messages.block_translators.langchain_v0",
    "langchain_core.tracers.context",
    "langchain_core.tracers.run_collector",
    "langchain_core.tracers.stdout",
    "langchain_openai",
    "uvicorn.lifespan.off",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.loops.uvloop",
    "uvicorn.main",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
"""What else a server imports, only as it starts or as it serves."""

STREAMS = ((0, "r", "strict"), (1, "w", "strict"), (2, "w", "backslashreplace"))
"""Standard input, output and error, as Python opens them."""

STARTS = "from tests.support.zygote import main; main()"

ASSENT = "assent.cli.app:main"
UVICORN = "uvicorn.main:main"
"""The programs, as `module:function`."""


# ── the side of the tests ─────────────────────────────────────────────────────────────────────────


class Zygote:
    """The process that forks: one of our own, or the one that listens at the `address`. It ends,
    and its children with it, when it is closed or the process that started it is gone; the children
    that one asked for, when that one closes it."""

    def __init__(self, repository: Path, address: str | None = None) -> None:
        self._own = None if address else _Own(repository)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(self._own.address if self._own else str(address))
        self._lines = self._socket.makefile("rw", buffering=1)
        self._lock = threading.Lock()
        atexit.register(self.close)

    @property
    def address(self) -> str:
        """Where others of our processes may ask it too."""
        address: str = self._socket.getpeername()
        return address

    def start(
        self,
        argv: list[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        errors: Path | None = None,
        typed: Path | None = None,
        terminal: str | None = None,
        program: str = ASSENT,
    ) -> Forked:
        """A child that runs the program with these arguments in this folder. It reads what is in
        `typed`, or nothing, and writes to the log, and its errors to a file of their own if one is
        named; or it does both on a terminal."""
        asked = {
            "argv": argv,
            "folder": str(folder),
            "environment": dict(environment),
            "log": str(log),
            "errors": str(errors or log),
            "typed": str(typed or os.devnull),
            "terminal": terminal,
            "program": program,
        }
        return Forked(self, self.ask(start=asked))

    def ask(self, **request: Any) -> Any:
        """What the process answers. Only one thread of ours speaks to it at a time."""
        with self._lock:
            self._lines.write(json.dumps(request) + "\n")
            answer = self._lines.readline()
        assert answer, "The process that starts the servers is gone."
        return json.loads(answer)

    def close(self) -> None:
        """End the process and its children."""
        atexit.unregister(self.close)
        self._lines.close()
        self._socket.close()
        if self._own:
            self._own.close()


class _Own:
    """The process, started here. It imports when it is asked for the first child."""

    def __init__(self, repository: Path) -> None:
        self._folder = TemporaryDirectory(prefix="zygote-")
        self.address = str(Path(self._folder.name, "socket"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSENT_")}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-c", STARTS, str(listener.fileno())],
                cwd=repository,
                env=kept | {"PYTHONPATH": str(repository)},
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


class Forked:
    """One child. Its parent sends the signals, who alone knows that its id is not somebody else's
    by now."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self.pid = pid
        self._zygote = zygote
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process lives."""
        if self._code is None:
            self._code = self._zygote.ask(poll=self.pid)
        return self._code

    def wait(self, timeout: float) -> int:
        """The exit code. Raises `subprocess.TimeoutExpired`, as `Popen` does."""
        deadline, pause = time.monotonic() + timeout, 0.002
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("assent", timeout)
            time.sleep(pause)
            # Each look takes both processes some time.
            pause = min(1.5 * pause, 0.05)
        return code

    def send_signal(self, number: int) -> None:
        """Send it, if the process lives."""
        self._zygote.ask(signal=[self.pid, int(number)])


# ── the side of the process ───────────────────────────────────────────────────────────────────────


def prepare() -> None:
    """Call what the environment's BEFORE_SERVING names, as `module:function`: what a test does to
    the process that is to serve."""
    if wanted := os.environ.get("BEFORE_SERVING"):
        call(wanted)


def call(name: str) -> None:
    """Call what is named as `module:function`."""
    module, _, function = name.partition(":")
    getattr(importlib.import_module(module), function)()


def main() -> None:
    """Fork for whoever asks. Returns in no process but the children, as what they are."""
    # Ctrl-C is for the tests, who then let go of the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        _become(request)
        prepare()
        call(request["program"])


@cache
def _import_everything() -> None:
    from assent.cli.app import MODULES
    from assent.core.sealing import NoSeal
    from assent.storage.sqlite import database
    from assent.storage.sqlite.tables import Tables

    # Made for what they import. Their file is loaded anew by each server, as somebody's agents are.
    agents = importlib.import_module("tests.support.agents")
    for name in agents.ALL:
        getattr(agents, name)
    del sys.modules["tests.support.agents"]
    for module in (*MODULES.values(), *TAKEN_LATER):
        importlib.import_module(module)
    # Each storage reads the annotations of its rows, once in a process, and the first new file has
    # its schema read.
    Tables(NoSeal())
    database.new_database(database.migrations(), page_size=4096)
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()


def _serve(listener: socket.socket) -> dict[str, Any] | None:
    """Answer requests until standard input is closed. In a child, return what it is to be."""
    askers: list[_Asker] = []
    with ExitStack() as ours:
        ours.enter_context(listener)
        while True:
            ready, _, _ = select.select([0, listener, *askers], [], [])
            if 0 in ready:
                break
            if listener in ready:
                askers.append(ours.enter_context(closing(_Asker(listener.accept()[0]))))
                ready.remove(listener)
            for asker in ready:
                request = asker.next_request()
                if request is None:
                    asker.end()
                    askers.remove(asker)
                elif (child := asker.answer(request)) is not None:
                    return child
    for asker in askers:
        asker.end()
    return None


class _Asker:
    """A process of tests, and the children that were forked for it."""

    def __init__(self, asking: socket.socket) -> None:
        self._socket = asking
        self._lines = asking.makefile("rw", buffering=1)
        self._codes: dict[int, int | None] = {}

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        with suppress(OSError):
            self._lines.close()
        self._socket.close()

    def next_request(self) -> dict[str, Any] | None:
        """The next request. Whoever asks sends it whole, and another one only once it is
        answered."""
        with suppress(OSError):
            if line := self._lines.readline():
                return dict(json.loads(line))
        return None

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Answer a request. In a child, return what it is to be."""
        ((kind, what),) = request.items()
        self._reap()
        answer: int | None = None
        if kind == "start":
            _import_everything()
            answer = os.fork()
            if answer == 0:
                return dict(what)
            self._codes[answer] = None
        elif kind == "signal":
            if self._codes[what[0]] is None:
                os.kill(*what)
        else:
            answer = self._codes[what]
        self._lines.write(f"{json.dumps(answer)}\n")
        self._lines.flush()
        return None

    def end(self) -> None:
        """Kill its children."""
        self._reap()
        for pid, code in self._codes.items():
            if code is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self.close()

    def _reap(self) -> None:
        for pid, code in self._codes.items():
            if code is None and (ended := os.waitpid(pid, os.WNOHANG))[0] == pid:
                self._codes[pid] = os.waitstatus_to_exitcode(ended[1])


def _become(request: Mapping[str, Any]) -> None:
    """Be a process as the cold command's would be."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    encoding = request["environment"].get("PYTHONIOENCODING", "utf-8")
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding=encoding, line_buffering=stream is not sys.stdin)
    if request["terminal"]:
        take_terminal(request["terminal"])
        # Those that there are take a terminal for a file.
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(descriptor, mode, encoding=encoding, errors=errors, closefd=False)
            for descriptor, mode, errors in STREAMS
        )
    else:
        appended = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        _open_as(0, request["typed"], os.O_RDONLY)
        _open_as(1, request["log"], appended)
        _open_as(2, request["errors"], appended)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [request["program"].partition(".")[0], *request["argv"]]


def take_terminal(name: str) -> None:
    """Be on this terminal, alone: what is typed there is read, and Ctrl-C is a signal."""
    os.setsid()
    for descriptor in range(3):
        # The first that a session opens becomes its own.
        _open_as(descriptor, name, os.O_RDWR)


def _open_as(descriptor: int, path: str, flags: int) -> None:
    opened = os.open(path, flags, 0o600)
    os.dup2(opened, descriptor)
    os.close(opened)
