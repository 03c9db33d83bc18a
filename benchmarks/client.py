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
from dataclasses import dataclass

TIMEOUT_SECONDS = 60
TOKEN = b'"type":"token"'


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


def request(tokens: int) -> bytes:
    """Ask for this many tokens."""
    body = b'{"message":"%d"}' % tokens
    head = (
        b"POST /agent/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\n"
    )
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def listen(port: int, tokens: int) -> Heard:
    """One run, from the request to the end of its events."""
    _, listener = await asyncio.get_running_loop().create_connection(
        lambda: Listener(request(tokens)), "127.0.0.1", port
    )
    return await listener.heard


def check(raw: bytes, tokens: int) -> None:
    """Raise unless the answer is a whole run: numbered from 1 without a gap, with every token,
    ending in `done`."""
    head, _, body = raw.partition(b"\r\n\r\n")
    if b" 200 " not in head.splitlines()[0]:
        raise ValueError(f"The server answered {raw[:500]!r}.")
    frames = [
        frame
        for frame in dechunked(body).decode().split("\n\n")
        if frame and not frame.startswith(":")
    ]
    events = [json.loads(frame.partition("\ndata: ")[2]) for frame in frames]
    numbers = [int(frame.partition("\n")[0].removeprefix("id: ")) for frame in frames]
    if numbers != list(range(1, len(frames) + 1)) or numbers != [event["seq"] for event in events]:
        raise ValueError(f"The events are not numbered from 1 without a gap: {numbers[:20]} …")
    words = "".join(event["content"] for event in events if event["type"] == "token").split()
    if len(words) != tokens or events[-1]["type"] != "done":
        raise ValueError(
            f"Of {tokens} tokens {len(words)} came, and the last event was {events[-1]['type']}."
        )


def dechunked(body: bytes) -> bytes:
    """The body without its transfer encoding."""
    pieces: list[bytes] = []
    at = 0
    while True:
        line_end = body.index(b"\r\n", at)
        size = int(body[at:line_end], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2


async def measure(port: int, runs: int, tokens: int, times: int) -> dict[str, list[float]]:
    """Do it, and check every answer."""
    seconds, heard = [], []
    for _ in range(times):
        started = time.perf_counter()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            heard += await asyncio.gather(*(listen(port, tokens) for _ in range(runs)))
        seconds.append(time.perf_counter() - started)
    for each in heard:
        check(each.raw, tokens)
    return {"seconds": seconds, "first_token": [each.first_token for each in heard]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(*map(int, sys.argv[1:])))))
