"""The clients, in a process of their own: `python benchmarks/client.py PORT RUNS TOKENS TIMES`.

Sends RUNS messages at once, each asking for TOKENS tokens, follows each run's events to the end,
and does so TIMES times over. Prints, as JSON, `seconds` (of each time, from the first request to
the last end) and `first_token` (of each run, in seconds from before it connected). Reading costs
next to nothing while the clock runs; what was read is checked afterwards.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 60
TOKEN = b'"type":"token"'

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer, head and all, and how long its first token took."""

    raw: bytes
    first_token: float


class Listener(asyncio.Protocol):
    """Sends a request and keeps what comes back until the server closes the connection."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._started = time.perf_counter()
        self._first_token: float | None = None
        self._pieces: list[bytes] = []
        self.heard: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        if self._first_token is None and TOKEN in data:
            self._first_token = time.perf_counter() - self._started

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self.heard.set_exception(error)
        else:
            self.heard.set_result(Heard(b"".join(self._pieces), self._first_token or 0.0))


def request(tokens: int, headers: Mapping[str, str] = {}) -> bytes:
    """Ask for this many tokens."""
    body = b'{"message":"%d"}' % tokens
    head = (
        b"POST /agent/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\n"
    )
    head += b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def listen(port: int, tokens: int, headers: Mapping[str, str]) -> Heard:
    """One run, from the request to the end of its events."""
    _, listener = await asyncio.get_running_loop().create_connection(
        lambda: Listener(request(tokens, headers)), "127.0.0.1", port
    )
    return await listener.heard


def check(raw: bytes, tokens: int) -> None:
    """Raise unless the answer is a whole run: numbered from 1 without a gap, with every token,
    ending in `done`."""
    head, _, body = raw.partition(b"\r\n\r\n")
    if b" 200 " not in head.splitlines()[0]:
        raise ValueError(f"The server answered {raw[:500]!r}.")
    told = [(frame, event) for frame, event in frames(dechunked(body)) if event is not None]
    events = [event for _, event in told]
    numbers = [int(frame.partition(b"\n")[0].removeprefix(b"id: ")) for frame, _ in told]
    if numbers != list(range(1, len(told) + 1)) or numbers != [event["seq"] for event in events]:
        raise ValueError(f"The events are not numbered from 1 without a gap: {numbers[:20]} …")
    words = "".join(event["content"] for event in events if event["type"] == "token").split()
    if len(words) != tokens or events[-1]["type"] != "done":
        raise ValueError(
            f"Of {tokens} tokens {len(words)} came, and the last event was {events[-1]['type']}."
        )


def frames(body: bytes) -> Iterator[tuple[bytes, Fields | None]]:
    """The frames of a body, without the empty line behind each, and the event in it; comments, and
    what else begins as one, have none."""
    for frame in body.split(b"\n\n")[:-1]:
        is_comment = frame.startswith(b":")
        yield frame, None if is_comment else json.loads(frame.partition(b"\ndata: ")[2])


def dechunked(body: bytes) -> bytes:
    """The body without its transfer encoding."""
    return b"".join(body[chunk.start : chunk.stop] for chunk in chunks(body))


def chunks(raw: bytes, at: int = 0) -> Iterator[range]:
    """The places of the chunks in a body that begins at this place."""
    while True:
        line_end = raw.index(b"\r\n", at)
        size = int(raw[at:line_end], 16)
        if size == 0:
            return
        start = line_end + 2
        yield range(start, start + size)
        at = start + size + 2


async def measure(
    port: int, runs: int, tokens: int, times: int, *, headers: Mapping[str, str] = {}
) -> dict[str, list[float]]:
    """Do it, with these headers besides, and check every answer."""
    seconds, heard = [], []
    for _ in range(times):
        started = time.perf_counter()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            heard += await asyncio.gather(*(listen(port, tokens, headers) for _ in range(runs)))
        seconds.append(time.perf_counter() - started)
    for each in heard:
        check(each.raw, tokens)
    return {"seconds": seconds, "first_token": [each.first_token for each in heard]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(*map(int, sys.argv[1:])))))
