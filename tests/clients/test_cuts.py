"""Two cuts and a SIGKILL in the middle of what each client follows: it has heard all of it, once, as
it counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.cutting_proxy import Cut, CuttingProxy, cutting, never
from tests.support.server import Api, Server, asking, scripted_agents, serving
from tests.support.thread_client import ALL, Event, done, is_end, streamed, thread_socket, until_end
from tests.support.waiting import PATIENCE, until

WORDS = 150
"""The words that the agent says, slowly enough for all that happens meanwhile."""

TAKEN = [channel for channel in ALL if channel not in ("values", "tasks")]
"""All channels but those with states: some of these are removed in time."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, scripted_agents(folder, "slow_agent")) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


def two_cuts() -> Iterator[Cut | None]:
    yield Cut(after=2_500)
    yield Cut(after=6_000, reset=True)
    yield from never()


class Client:
    """Follows a thread by LangGraph's protocol, and comes back whenever it is cut off: from the
    beginning, as LangGraph's SDK does, or behind what it has. It knows an event by its id."""

    def __init__(self, *, since: bool = False) -> None:
        self.events: dict[str, Event] = {}
        self._since = since

    async def follow(self, proxy: CuttingProxy, thread: str) -> None:
        """Hear all of the run."""
        async with httpx.AsyncClient(base_url=proxy.url, timeout=PATIENCE) as http:
            while not self.is_over:
                with suppress(httpx.TransportError, json.JSONDecodeError):
                    await self._hear(http, thread)

    @property
    def is_over(self) -> bool:
        """True once the run has ended."""
        return any(map(is_end, self.events.values()))

    async def _hear(self, http: httpx.AsyncClient, thread: str) -> None:
        given = {"since": int([*self.events][-1])} if self._since and self.events else {}
        async with aclosing(streamed(http, thread, channels=TAKEN, **given)) as stream:
            async for event in stream:
                assert not (self._since and event["event_id"] in self.events), event
                self.events[event["event_id"]] = event
                if is_end(event):
                    return


class SocketClient(Client):
    """The same on a WebSocket, on which it subscribes again."""

    async def follow(self, proxy: CuttingProxy, thread: str) -> None:
        while not self.is_over:
            with suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                async with thread_socket(proxy.port, thread) as socket:
                    socket.events = self.events
                    await socket.done("subscription.subscribe", channels=TAKEN)
                    while not self.is_over:
                        await socket.next()


async def test_the_thread_protocol_loses_and_doubles_nothing(
    server: Server, api: Api, thread: str
) -> None:
    said: dict[str, Any] = {"messages": [{"type": "human", "content": f"tell {WORDS}"}]}
    clients = {
        "from the beginning": Client(),
        "behind what it has": Client(since=True),
        "on a WebSocket": SocketClient(),
    }
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(cutting(server.port, two_cuts(), holds=True))
            for _ in clients
        ]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        await done(api.http, thread, "run.start", assistant_id="slow_agent", input=said)
        following = [
            group.create_task(client.follow(proxy, thread))
            for client, proxy in zip(clients.values(), proxies, strict=True)
        ]
        await until(lambda: all(proxy.connections == 3 for proxy in proxies))
        assert not any(task.done() for task in following), "The run is over already."
        await asyncio.to_thread(server.restart)
        await asyncio.wait(following)
    assert [proxy.connections > 3 for proxy in proxies] == [True] * len(proxies)
    told = await until_end(api.http, thread, channels=TAKEN)
    for name, client in clients.items():
        assert client.events == {event["event_id"]: event for event in told}, name
    assert [each["status"] for each in await api.runs(thread)] == ["success"]
