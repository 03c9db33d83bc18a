"""The clients of a server at the pace of real models, in a process of their own:
`python -m benchmarks.paced_client PORT STREAMS TOKENS`.

Asks for so many streams at once, and reads each to its end. While they come, it only notes when
each piece was read; tokens are looked for afterwards. Prints a `Streamed` as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import cast

import uvloop

from benchmarks import client
from benchmarks.lags import Heard, Streamed

TIMEOUT_SECONDS = 600


class Listener(asyncio.Protocol):
    """Sends a request, and keeps what comes back, and when."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.pieces: list[bytes] = []
        self.times: list[int] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        cast(asyncio.WriteTransport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self.times.append(time.monotonic_ns())
        self.pieces.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)


async def listen(port: int, tokens: int) -> Listener:
    """One run, from the request to the end of its events."""
    _, listener = await asyncio.get_running_loop().create_connection(
        lambda: Listener(client.request(tokens)), "127.0.0.1", port
    )
    await listener.ended
    return listener


def heard_by(listener: Listener, tokens: int) -> tuple[list[Heard], int]:
    """The tokens of a checked answer, each when its whole frame had been read, and the events in
    which they came."""
    raw = b"".join(listener.pieces)
    client.check(raw, tokens)
    ends = list(accumulate(map(len, listener.pieces)))
    heard: list[Heard] = []
    events = 0
    for end, event in framed(raw):
        if event["type"] == "token":
            events += 1
            at = listener.times[bisect_right(ends, end - 1)]
            heard += [Heard.of(token, at) for token in event["content"].split()]
    return heard, events


def framed(raw: bytes) -> Iterator[tuple[int, client.Fields]]:
    """The events of the answer, each with the place in its bytes where the frame ends."""
    chunks = list(client.chunks(raw, raw.index(b"\r\n\r\n") + 4))
    starts = list(accumulate((len(chunk) for chunk in chunks), initial=0))
    end = 0
    for frame, event in client.frames(b"".join(raw[chunk.start : chunk.stop] for chunk in chunks)):
        end += len(frame) + 2
        if event is not None:
            number = bisect_right(starts, end - 1) - 1
            yield chunks[number].start + end - starts[number], event


async def measure(port: int, streams: int, tokens: int) -> Streamed:
    """Listen to all, then look at what was heard."""
    gc.freeze()
    gc.disable()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        listeners = await asyncio.gather(*(listen(port, tokens) for _ in range(streams)))
    told = [heard_by(listener, tokens) for listener in listeners]
    return Streamed.of([heard for heard, _ in told], events=sum(events for _, events in told))


def main() -> None:
    """Measure, and print it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(measure(*map(int, sys.argv[1:]))).as_json())


if __name__ == "__main__":
    main()
