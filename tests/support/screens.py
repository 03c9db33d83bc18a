"""A program on a real terminal of any size, and the screen as a person sees it.

with on_screen(folder, "chat", "--url", url, columns=80) as screen:
    screen.until("you>")
    screen.type("hello\r")
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte

from tests.support.command import REPOSITORY, Process, on_terminal
from tests.support.waiting import PATIENCE

ROWS = 40

MASKS = (
    (re.compile(r"apr_[0-9a-f]{32}"), "apr_00000000000000000000000000000000"),
    (
        re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        "00000000-0000-0000-0000-000000000000",
    ),
    (re.compile(r"sha256 [0-9a-f]{12}"), "sha256 000000000000"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "0" * 64),
    (
        re.compile(r"digest     [0-9a-f]{29}\n {11}[0-9a-f]{29}\n {11}[0-9a-f]{6}"),
        f"digest     {'0' * 29}\n{' ' * 11}{'0' * 29}\n{' ' * 11}{'0' * 6}",
    ),
    (re.compile(r"127\.0\.0\.1:\d{5}"), "127.0.0.1:00000"),
    (re.compile(r"\d+\.\d s\b"), "0.0 s"),
    (re.compile(r"\b\d+s(?= )"), "0s"),
    (re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}"), "2000-01-01 00:00"),
    (re.compile(r"(?<=remaining: )\d{4}|\d{4}(?= records remain)"), "2900"),
)
"""What differs from run to run, and what stands in its place: as long, so that lines stay as they
are broken."""


class _Answering(pyte.Screen):
    """A screen that answers what a program asks of its terminal."""

    def __init__(self, columns: int, lines: int, near: int) -> None:
        self._near = near
        super().__init__(columns, lines)

    def write_process_input(self, data: str) -> None:
        os.write(self._near, data.encode())


class OnScreen:
    """The program, and what its terminal shows."""

    def __init__(self, process: Process, near: int, columns: int) -> None:
        self.process = process
        self._near = near
        self._screen = _Answering(columns, ROWS, near)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def shown(self) -> str:
        """What the terminal shows, without spaces at the ends of lines."""
        lines = [line.rstrip() for line in self._screen.display]
        return "\n".join(lines).rstrip()

    @property
    def golden(self) -> str:
        """The same, with `MASKS` over what differs from run to run."""
        text = self.shown
        for pattern, mask in MASKS:
            text = pattern.sub(mask, text)
        return text

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._near, text.encode())

    def until(self, text: str, *, gone: bool = False) -> str:
        """Wait until the terminal shows this, or does not any more; return what it shows."""
        deadline = time.monotonic() + PATIENCE
        while (text in (shown := self.shown)) is gone:
            # To draw the screen takes longer than to read what has changed on it.
            while not self._read():
                assert time.monotonic() < deadline, f"{text!r} in:\n{shown}"
        return shown

    def shows(self, text: str, *, within: float) -> bool:
        """True if the terminal shows this within so many seconds."""
        deadline = time.monotonic() + within
        while text not in self.shown and time.monotonic() < deadline:
            self._read()
        return text in self.shown

    def ended(self) -> int:
        """Wait until the program has ended; return its exit code."""
        deadline = time.monotonic() + PATIENCE
        while (code := self.process.poll()) is None:
            assert time.monotonic() < deadline, self.shown
            self._read()
        self._read()
        return code

    def _read(self) -> bool:
        """Take in what comes within a moment; return True if anything did."""
        if not select.select([self._near], [], [], 0.05)[0]:
            return False
        while select.select([self._near], [], [], 0)[0]:
            self._stream.feed(os.read(self._near, 65536))
        return True


@contextmanager
def on_screen(
    folder: Path, *arguments: str, columns: int = 80, **variables: str
) -> Iterator[OnScreen]:
    """The command on a terminal of this width; it has ended when the context has."""
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    inherited: dict[str, Any] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ASSENT_") and name not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    environment = {
        **inherited,
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONIOENCODING": "utf-8",
        "TERM": "xterm-256color",
        "NO_PROXY": "*",
        "XDG_STATE_HOME": str(folder),
        "TZ": "UTC",
        **variables,
    }
    process = on_terminal(arguments, os.ttyname(far), folder=folder, environment=environment)
    try:
        # The far end stays open here: it is closed for whoever reads it while nobody has it open.
        yield OnScreen(process, near, columns)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        os.close(near)
        os.close(far)
