"""Readers that do not read, or take a byte a second, are cut; they cost little memory meanwhile,
which comes back, and nobody else notices.

make crash SLOW_READERS=400 SLOW_SECONDS=30
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.support import flooding_agent, readers
from tests.support.server import Api, Server, asking, serving
from tests.support.waiting import PATIENCE, until

READERS = int(os.environ.get("SLOW_READERS", "40"))
"""Half of them never read, and half take a byte a second."""

STALLED = float(os.environ.get("SLOW_SECONDS", "3"))
HEALTHY = max(READERS // 8, 10)
IS_LONG = READERS >= 400
"""Whether the machine has nothing else to do, so that times say something of the server."""

MIB = 1 << 20
EACH = 1.08 * MIB
"""What a reader that does not read may cost: 480 MiB are the most for 400, with the `SLACK`."""

SLACK = 48 * MIB
"""What the server itself may grow by: the end of each log that is kept for readers, its pages of
the database, the threads that read."""

BACK = 64 * MIB
"""So much of it may stay."""

LATE = 15.0
"""A reader is cut so many seconds after it should have been, at most. Its time is measured from its
connection, and the first byte that it does not take comes after those for all who came before."""

LAG = 1.0
TARGET = f"{flooding_agent.__file__}:graph"
LARGE = 256 << 10


async def test_readers_that_take_nothing_are_cut_in_time_and_nobody_else_notices(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, TARGET, ASSENT_STALLED=f"{STALLED:g}s") as server:
        async with asking(server) as api:
            # What is there before they come is no backlog: only the time counts.
            await api.stream(f"16 {LARGE} 0", thread_id="rests")
            async with AsyncExitStack() as stack:
                memory = await stack.enter_async_context(watched(server))
                lags = await stack.enter_async_context(beating(server, api))
                slow = await stack.enter_async_context(stuck(server, "rests", READERS))
                await until(lambda: slow.are_all_cut, STALLED + PATIENCE, every=0.1)
                waited = slow.seconds()
                assert min(waited) > STALLED - 1, waited
                assert max(waited) < STALLED + LATE or not IS_LONG, waited
                assert slow.were_told
            ages = ages_in(server)
            assert len(ages) == READERS
            assert min(ages) >= STALLED and max(ages) < STALLED + LATE, ages
            lag = percentile(lags, 99)
            with capfd.disabled():
                print(  # noqa: T201  (what `make crash` is run for)
                    f"\n{READERS} slow readers were cut after {min(waited):.1f} to "
                    f"{max(waited):.1f} s, and took {memory.growth / MIB:.0f} MiB; {HEALTHY} others "
                    f"had events {lag * 1000:.0f} ms after they were made (p99)"
                )
            assert memory.growth < READERS * EACH + SLACK, memory
            assert len(lags) > HEALTHY * STALLED, "Nobody healthy has read."
            assert lag < LAG or not IS_LONG, lag
            await memory_is_back(server, memory)
            assert "[error" not in server.output


async def test_a_reader_that_is_a_mebibyte_behind_is_cut_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, TARGET, ASSENT_STALLED="60s") as server:
        async with asking(server) as api:
            await api.stream("1 1 0", thread_id="t")
            async with AsyncExitStack() as stack:
                memory = await stack.enter_async_context(watched(server))
                last = len(await api.events("t"))
                slow = await stack.enter_async_context(stuck(server, "t", READERS, last))
                begun = time.monotonic()
                # 2 MiB a second.
                flooding = asyncio.create_task(api.stream(f"40 {LARGE // 4} 0.03", thread_id="t"))
                await until(lambda: slow.are_all_cut)
                assert time.monotonic() - begun < LATE
                events = await flooding
            assert events[-1]["type"] == "done"
            assert memory.growth < READERS * EACH + SLACK, memory
            await memory_is_back(server, memory)


async def test_a_large_thread_is_replayed_to_many_at_once_in_little_memory(tmp_path: Path) -> None:
    with serving(tmp_path, TARGET) as server:
        async with asking(server) as api:
            await api.stream(f"40 {LARGE} 0", thread_id="t")
            async with watched(server) as memory:
                await asyncio.gather(*(take(server, "t", 40 * LARGE) for _ in range(30)))
            assert memory.growth < 138 * MIB, memory
            await memory_is_back(server, memory)


# ── those who read ────────────────────────────────────────────────────────────────────────────────


async def take(server: Server, thread: str, size: int) -> None:
    """Read so many bytes of the thread's events."""
    async with readers.answer(server.port, readers.request(f"/threads/{thread}/events")) as reader:
        while size > 0:
            data = await reader.read(1 << 18)
            assert data, f"The stream ended, and {size:,} bytes were still to come."
            size -= len(data)


@asynccontextmanager
async def beating(server: Server, api: Api) -> AsyncIterator[list[float]]:
    """While the context is entered, readers hear a thread that has an event every 50 ms; the
    seconds after which each heard each."""
    lags: list[float] = []
    begun = time.monotonic()

    async def hear() -> None:
        path = "/threads/beats/events?types=custom"
        async with aclosing(readers.events(server.port, path)) as events:
            async for event in events:
                made = json.loads(event.body)["data"]["at"]
                # What was there before is replayed.
                if made > begun:
                    lags.append(time.monotonic() - made)

    run = await api.run("beats", f"{int(20 * (STALLED + PATIENCE))} 100 0.05")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hear()) for _ in range(HEALTHY)]
        yield lags
        for task in tasks:
            task.cancel()
    await api.cancel(f"/runs/{run['run_id']}")


def percentile(values: Sequence[float], which: int) -> float:
    """So many of a hundred values are at most this."""
    return sorted(values)[len(values) * which // 100]


def ages_in(server: Server) -> list[float]:
    """The seconds for which the oldest byte of each reader that was cut had waited, as the log has
    them."""
    return [float(each) for each in re.findall(r"reader cut .* seconds=([0-9.]+)", server.output)]


# ── those who do not ──────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Stuck:
    """Connections of which the first half take nothing, and the others a byte a second. Each has
    the time at which it was opened, and that at which the server had let go of it."""

    sockets: dict[int, socket.socket] = field(default_factory=dict)
    begun: dict[int, float] = field(default_factory=dict)
    cut: dict[int, float] = field(default_factory=dict)

    @property
    def are_all_cut(self) -> bool:
        """Whether none is left."""
        return len(self.cut) == len(self.sockets)

    @property
    def were_told(self) -> bool:
        """Whether those who take nothing could know: their connections were reset."""
        silent = list(self.sockets.values())[: len(self.sockets) // 2]
        errors = {sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for sock in silent}
        return errors == {errno.ECONNRESET}

    def open(self, port: int, request: bytes) -> None:
        """Open one more."""
        sock = readers.slow_socket(port, request)
        number = sock.getsockname()[1]
        self.sockets[number] = sock
        self.begun[number] = time.monotonic()

    def seconds(self) -> list[float]:
        """The time that each was open, in order."""
        return sorted(self.cut[number] - self.begun[number] for number in self.cut)

    async def watch(self, server: Server) -> None:
        """Note whom the server lets go of. Its process is asked, since a client that does not read
        need not be told."""
        taken_at = time.monotonic()
        accepted: set[int] = set()
        while not self.are_all_cut:
            left = await asyncio.to_thread(server.peers)
            accepted |= left & self.sockets.keys()
            for number in accepted - left - self.cut.keys():
                self.cut[number] = time.monotonic()
            if time.monotonic() - taken_at > 1:
                taken_at = time.monotonic()
                self._take_a_byte()
            await asyncio.sleep(0.1)

    def _take_a_byte(self) -> None:
        half = len(self.sockets) // 2
        for number in list(self.sockets)[half:]:
            if number not in self.cut:
                with suppress(BlockingIOError, ConnectionResetError):
                    self.sockets[number].recv(1)


@asynccontextmanager
async def stuck(server: Server, thread: str, number: int, last: int = 0) -> AsyncIterator[Stuck]:
    """So many slow readers of what comes after this number."""
    slow = Stuck()
    request = readers.request(f"/threads/{thread}/events", last=last)
    try:
        for _ in range(number):
            await asyncio.to_thread(slow.open, server.port, request)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(slow.watch(server))
            yield slow
            watching.cancel()
    finally:
        for sock in slow.sockets.values():
            sock.close()


# ── memory ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Memory:
    """The bytes that the server's process has: before, and the most that were seen."""

    before: int
    most: int

    @property
    def growth(self) -> int:
        """The bytes by which it has grown, at most."""
        return self.most - self.before


def memory_of(server: Server) -> int:
    """The bytes that the server's process has."""
    rss: int = psutil.Process(server.pid).memory_info().rss
    return rss


@asynccontextmanager
async def watched(server: Server) -> AsyncIterator[Memory]:
    """The server's memory while the context is entered."""
    now = memory_of(server)
    memory = Memory(now, now)

    async def watch() -> None:
        while True:
            memory.most = max(memory.most, memory_of(server))
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    try:
        yield memory
    finally:
        watching.cancel()


async def memory_is_back(server: Server, memory: Memory) -> None:
    """Wait until the memory is what it was, or nearly."""
    with suppress(TimeoutError):
        await until(lambda: memory_of(server) - memory.before < BACK, every=0.1)
    left = memory_of(server) - memory.before
    assert left < BACK, f"{left / MIB:.0f} MiB of {memory.growth / MIB:.0f} have not come back."
