"""Thousands of readers that only wait, in a process of their own: raw sockets and one selector.

    with gathered(port) as crowd:
        crowd.open("/threads/t/events", 500)
        crowd.heard("a word")    # the monotonic time at which the last of them had it

This module is both ends: `python benchmarks/crowd.py PORT` is the process, which is asked and
answers in lines of JSON.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

AT_ONCE = 200
"""So many connect before the next do: fewer than the server lets wait."""

TIMEOUT_SECONDS = 120

SSE_REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
    "Last-Event-ID: {last}\r\n\r\n"
)
WEBSOCKET_REQUEST = (
    "GET {path}?after={last} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
)
PING, PONG = 0x9, 0x8A


# ── the side of who measures ──────────────────────────────────────────────────────────────────────


class Crowd:
    """The process of the readers. Made by `gathered`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def open(self, path: str, number: int, *, last: int = 0) -> float:
        """Open so many streams more, after the event with this number: WebSockets if the path is
        one's. Returns the seconds that it took."""
        told = self._ask(open=number, path=path, last=last)
        return float(told["seconds"])

    def expect(self, word: str) -> None:
        """Listen for this word from now on."""
        self._ask(expect=word)

    def heard(self) -> float:
        """Wait until each has heard what is expected; the monotonic time at which the last had.
        Raises `RuntimeError` if some have lost their connection or do not hear it."""
        told = self._ask(heard=True)
        if told["missing"]:
            raise RuntimeError(f"{told['missing']:,} of {told['open']:,} have not heard it.")
        return float(told["last"])

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The process of the readers has ended.")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


@contextmanager
def gathered(port: int) -> Iterator[Crowd]:
    """A crowd at this port, whose connections end with the context."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Crowd(process)
        finally:
            process.kill()


# ── the side of the process ───────────────────────────────────────────────────────────────────────


class Reader:
    """One connection. `rest` is what came last, if it is no whole line or frame yet."""

    __slots__ = ("has_frames", "is_open", "rest", "sock")

    def __init__(self, sock: socket.socket, *, has_frames: bool) -> None:
        self.sock = sock
        self.has_frames = has_frames
        self.is_open = False
        self.rest = b""

    def take(self) -> bytes:
        """The whole lines or frames that have come. Raises `OSError` if the connection has ended,
        or the server has refused it."""
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionResetError("The server has ended the stream.")
        data = self.rest + data
        if not self.is_open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.rest = head
                return b""
            if head.split(b" ", 2)[1] not in (b"200", b"101"):
                raise ConnectionRefusedError(f"The server answered {head + end + data!r}.")
            self.is_open = True
        return self._whole_frames(data) if self.has_frames else self._whole_lines(data)

    def _whole_lines(self, data: bytes) -> bytes:
        lines, _, self.rest = data.rpartition(b"\n")
        return lines

    def _whole_frames(self, data: bytes) -> bytes:
        """The WebSocket frames in the data. Pings are answered."""
        at = 0
        while len(data) >= at + 2:
            size, start = data[at + 1], at + 2
            if size >= 126:
                start += 2 if size == 126 else 8
                size = int.from_bytes(data[at + 2 : start])
            if len(data) < start + size:
                break
            if data[at] & 0xF == PING:
                masked = bytes((PONG, 0x80 | size)) + bytes(4) + data[start : start + size]
                self.sock.send(masked)
            at = start + size
        self.rest = data[at:]
        return data[:at]


class Gathering:
    """All connections of the process."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._readers: set[Reader] = set()
        self._word = b""
        self._listening: set[Reader] = set()
        self._last = 0.0

    def serve(self, asked: IO[str]) -> None:
        """Read what comes, and do what is asked, until nobody asks any more."""
        self._selector.register(asked, selectors.EVENT_READ)
        while True:
            if asked in self._read():
                line = asked.readline()
                if not line:
                    return
                try:
                    answer = self._answer(json.loads(line))
                except (OSError, TimeoutError) as error:
                    answer = {"error": str(error)}
                print(json.dumps(answer), flush=True)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "open" in request:
            return {"seconds": self._open(request["path"], request["open"], request["last"])}
        if "expect" in request:
            self._word = request["expect"].encode()
            self._listening = set(self._readers)
            return {}
        missing = self._hear()
        return {"missing": missing, "open": len(self._readers), "last": self._last}

    def _open(self, path: str, number: int, last: int) -> float:
        begun = time.monotonic()
        for first in range(0, number, AT_ONCE):
            opened = {self._connected(path, last) for _ in range(min(AT_ONCE, number - first))}
            while not all(reader.is_open for reader in opened):
                self._read()
                if lost := opened - self._readers:
                    raise ConnectionError(f"{len(lost)} were not let in.")
                if time.monotonic() - begun > TIMEOUT_SECONDS:
                    raise TimeoutError(f"{number:,} could not connect.")
        return time.monotonic() - begun

    def _connected(self, path: str, last: int) -> Reader:
        is_websocket = path.endswith("/ws")
        request = WEBSOCKET_REQUEST if is_websocket else SSE_REQUEST
        key = base64.b64encode(os.urandom(16)).decode()
        sock = socket.create_connection(("127.0.0.1", self._port), TIMEOUT_SECONDS)
        sock.sendall(request.format(path=path, last=last, key=key).encode())
        sock.setblocking(False)
        reader = Reader(sock, has_frames=is_websocket)
        self._readers.add(reader)
        self._selector.register(sock, selectors.EVENT_READ, reader)
        return reader

    def _hear(self) -> int:
        """Read until each that listens has heard, and return how many have not."""
        begun = time.monotonic()
        while self._listening and time.monotonic() - begun < TIMEOUT_SECONDS:
            self._read()
            if self._listening - self._readers:
                break
        return len(self._listening)

    def _read(self) -> list[Any]:
        """Take what has come, and return the files that it has come from and that are no
        reader's."""
        others = []
        for key, _ in self._selector.select(1.0):
            reader = key.data
            if reader is None:
                others.append(key.fileobj)
                continue
            try:
                data = reader.take()
            except OSError as error:
                print(error, file=sys.stderr)
                self._selector.unregister(reader.sock)
                self._readers.discard(reader)
                reader.sock.close()
                continue
            if reader in self._listening and self._word in data:
                self._listening.discard(reader)
                self._last = time.monotonic()
        return others


def main(port: int) -> None:
    """Be the process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Gathering(port).serve(sys.stdin)


if __name__ == "__main__":
    main(int(sys.argv[1]))
