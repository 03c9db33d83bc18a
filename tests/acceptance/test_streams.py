"""Many clients follow many threads while connections break and the server is killed, and each hears
every event of every thread once, in order, and the same.

make crash STREAM_THREADS=50 STREAM_EVENTS=2000 STREAM_KILLS=20 STREAM_SEED=7
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from assent.client import Client, Unreachable
from assent.client.calls import Transport
from assent.core.errors import NotFound
from tests.support import readers
from tests.support.cutting_proxy import CuttingProxy, cuts_at_random, cutting
from tests.support.readers import Cut, Numbered, Refused
from tests.support.server import Api, Server, asking, scripted_agents, serving
from tests.support.stream_checker import Checker
from tests.support.waiting import PATIENCE, until

THREADS = int(os.environ.get("STREAM_THREADS", "4"))
EVENTS = int(os.environ.get("STREAM_EVENTS", "150"))
KILLS = int(os.environ.get("STREAM_KILLS", "2"))
SEED = int(os.environ.get("STREAM_SEED", random.randrange(1_000_000)))

TRANSPORTS: tuple[Transport, ...] = ("sse", "websocket", "poll")
LONGEST = min(EVENTS, 400)
"""The most events that a client hears before it hangs up of itself."""

SCRIPT = "tell 20; look 3 then tell 20"
"""What each message asks for: few enough words that a run is done between two kills. One that was
cut off three times would wait until the others are done."""

BETWEEN_TRIES = 0.05

SLOWEST = 200
"""Events that all clients together hear in a second, on a machine that has much else to do."""

AS_JSON = {"Accept": "application/json"}

Hear = Callable[[str, int], AsyncGenerator[Numbered]]
"""One connection: the events of a thread after a number."""


@pytest.mark.timeout(240 + 30 * KILLS + THREADS * EVENTS // 20)
async def test_every_client_hears_each_event_once_whatever_breaks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(SEED)
    threads = [f"thread-{number}" for number in range(THREADS)]
    with serving(tmp_path, scripted_agents(tmp_path, "slow_agent")) as server:
        async with AsyncExitStack() as stack:
            api = await stack.enter_async_context(asking(server))
            proxy = await stack.enter_async_context(cutting(server.port, cuts_at_random(draw)))
            client = await stack.enter_async_context(Client(proxy.url, trust_env=False))
            clients = {"by hand": by_hand(proxy)} | {
                transport: by_client(client, transport) for transport in TRANSPORTS
            }
            checker = Checker(clients)
            await stack.enter_async_context(following(checker, clients, threads))
            await asyncio.gather(
                kills(server, checker, draw, THREADS * EVENTS * len(clients)),
                *(fill(api, thread) for thread in threads),
            )
            last = {thread: len(await api.events(thread)) for thread in threads}
            with suppress(TimeoutError):
                await until(lambda: checker.verdict(last) == [], every=0.1)
            findings = checker.verdict(last)
    with capfd.disabled():
        print(  # noqa: T201  (what `make crash` is run for)
            f"\nseed {SEED}: {THREADS} threads of {sum(last.values()):,} events, "
            f"{checker.events:,} of them heard by {len(clients)} clients over "
            f"{proxy.connections:,} connections; {KILLS} kills"
        )
    assert findings == []
    assert proxy.connections > THREADS * len(clients), "Nothing was cut."


# ── those who talk, and what ends the server ──────────────────────────────────────────────────────


async def fill(api: Api, thread: str) -> None:
    """Talk on the thread until its log has enough events."""
    last = 0
    while last < EVENTS:
        said = {"message": SCRIPT, "agent": "slow_agent", "thread_id": thread}
        run = await asked(
            api, "POST", "/agent/runs", json=said, headers={"Idempotency-Key": str(uuid4())}
        )
        ended = await asked(api, "GET", f"/runs/{run['run_id']}/wait")
        assert ended["status"] == "success", ended
        last = (await page(api, thread, last))["next"]


async def asked(api: Api, method: str, path: str, **request: Any) -> Any:
    """The answer, asked for again until the server is there to give it."""

    async def answer() -> Any:
        with suppress(httpx.TransportError):
            response = await api.http.request(method, path, **request)
            if response.status_code != 503:
                assert response.is_success, response.text
                return response.json()
        return None

    return await until(answer, 2 * PATIENCE, every=BETWEEN_TRIES)


async def page(api: Api, thread: str, last: int) -> Any:
    """The thread's next events as JSON."""
    wanted = {"after": last, "limit": 1000}
    return await asked(api, "GET", f"/threads/{thread}/events", params=wanted, headers=AS_JSON)


async def kills(server: Server, checker: Checker, draw: random.Random, heard: int) -> None:
    """Kill the server at random points of what the clients are to hear."""
    patience = 2 * PATIENCE + heard / SLOWEST
    for at in sorted(draw.randrange(heard * 9 // 10) for _ in range(KILLS)):
        await until(lambda at=at: checker.events >= at, patience)
        await asyncio.to_thread(server.restart)


# ── the clients ───────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def following(
    checker: Checker, clients: Mapping[str, Hear], threads: Sequence[str]
) -> AsyncIterator[None]:
    """Have each client follow each thread, and tell the checker."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                follow(checker, client, hear, thread, random.Random(f"{SEED} {client} {thread}"))
            )
            for client, hear in clients.items()
            for thread in threads
        ]
        yield
        for task in tasks:
            task.cancel()


async def follow(
    checker: Checker, client: str, hear: Hear, thread: str, draw: random.Random
) -> None:
    """Hear the thread for ever, by one connection after another."""
    while True:
        left = draw.randint(1, LONGEST)
        # Our client says so too if a server that starts answers none of its first tries.
        with suppress(OSError, Cut, Refused, NotFound, Unreachable):
            async with aclosing(hear(thread, checker.last(client, thread))) as events:
                async for seq, body in events:
                    checker.heard(client, thread, seq, canonical(body))
                    left -= 1
                    if not left:
                        break
        await asyncio.sleep(BETWEEN_TRIES)


def canonical(body: bytes) -> bytes:
    """The event in one spelling: what is escaped in it depends on the transport."""
    return msgspec.json.encode(msgspec.json.decode(body), order="sorted")


def by_hand(proxy: CuttingProxy) -> Hear:
    """SSE, read from the socket."""
    return lambda thread, last: readers.events(proxy.port, f"/threads/{thread}/events", last)


def by_client(client: Client, transport: Transport) -> Hear:
    """Our own client, which connects again by itself."""

    async def hear(thread: str, last: int) -> AsyncGenerator[Numbered]:
        watching = client.watch(thread_id=thread, after=last, transport=transport)
        async with aclosing(watching) as events:
            async for heard in events:
                yield Numbered(heard.seq, heard.body)

    return hear
