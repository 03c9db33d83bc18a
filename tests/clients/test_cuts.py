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
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.agui import AgUiClient
from tests.support.cutting_proxy import Cut, CuttingProxy, cutting, never
from tests.support.server import Api, Server, asking, scripted_agents, serving
from tests.support.thread_client import ALL, Event, is_end, streamed, thread_socket, until_end
from tests.support.ui_messages import Chat, Message
from tests.support.waiting import PATIENCE, until

AGENT = "slow_agent"

WORDS = 100
"""The words that the agent says before it waits, which all connections are cut amid; and then once
more, when the server is killed."""

CUT_OFF = (httpx.TransportError, AssertionError)
"""What a client of AG-UI raises: its order of events says that a stream ended amid a run."""

MODES: Any = ["values", "updates", "messages-tuple", "tasks", "custom"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, scripted_agents(folder, AGENT)) as server:
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
    """Follows the run of a thread, and comes back whenever it is cut off."""

    heard = 0
    """How much it was told so far, on whatever connection."""

    async def follow(self, proxy: CuttingProxy, thread: str) -> None:
        """Hear all of the run."""
        raise NotImplementedError


# ── LangGraph's thread protocol ───────────────────────────────────────────────────────────────────


class ProtocolClient(Client):
    """Follows a thread by LangGraph's protocol: from the beginning again, as LangGraph's SDK does,
    or behind what it has. It knows an event by its id."""

    def __init__(self, *, since: bool = False) -> None:
        self.events: dict[str, Event] = {}
        self._since = since

    async def follow(self, proxy: CuttingProxy, thread: str) -> None:
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
        async with aclosing(streamed(http, thread, channels=ALL, **given)) as stream:
            async for event in stream:
                assert not (self._since and event["event_id"] in self.events), event
                self.events[event["event_id"]] = event
                self.heard += 1
                if is_end(event):
                    return


class SocketClient(ProtocolClient):
    """The same on a WebSocket, on which it subscribes again."""

    async def follow(self, proxy: CuttingProxy, thread: str) -> None:
        while not self.is_over:
            with suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                async with thread_socket(proxy.port, thread) as socket:
                    socket.events = self.events
                    await socket.done("subscription.subscribe", channels=ALL)
                    while not self.is_over:
                        await socket.next()
                        self.heard += 1


# ── LangGraph's runs ──────────────────────────────────────────────────────────────────────────────


class RunClient(Client):
    """Starts a run with LangGraph's SDK, which comes back by itself."""

    def __init__(self, said: str) -> None:
        self.parts: list[Any] = []
        self._said = {"messages": [{"role": "user", "content": said}]}

    async def follow(self, proxy: CuttingProxy, thread: str) -> None:
        async with get_client(url=proxy.url) as sdk, aclosing(self._stream(sdk, thread)) as stream:
            async for part in stream:
                self.parts.append(part)
                self.heard += 1

    def _stream(self, sdk: LangGraphClient, thread: str) -> Any:
        given: Any = {"input": self._said, "if_not_exists": "create"}
        return sdk.runs.stream(thread, AGENT, stream_mode=MODES, **given)


class JoinedRunClient(RunClient):
    """Joins the run of another client behind what that has heard."""

    def __init__(self, other: RunClient) -> None:
        super().__init__("")
        self.behind = [*other.parts]

    def _stream(self, sdk: LangGraphClient, thread: str) -> Any:
        run_id = self.behind[0].data["run_id"]
        last = self.behind[-1].id
        return sdk.runs.join_stream(thread, run_id, stream_mode=MODES, last_event_id=last)


# ── the AI SDK ────────────────────────────────────────────────────────────────────────────────────


class ChatClient(Client):
    """Says something, and takes up the turn where the AI SDK's `resume` does: from its beginning."""

    def __init__(self, said: str) -> None:
        self.message = Message()
        self._said = {"id": "m-1", "role": "user", "parts": [{"type": "text", "text": said}]}

    async def follow(self, proxy: CuttingProxy, thread: str) -> None:
        async with httpx.AsyncClient(base_url=proxy.url, timeout=PATIENCE) as http:
            body = {"id": thread, "messages": [self._said], "trigger": "submit-message"}
            asked: dict[str, Any] = {
                "method": "POST",
                "url": f"/api/chat?agent={AGENT}",
                "json": body,
            }
            while not self.message.finish:
                with suppress(httpx.TransportError):
                    async with http.stream(**asked) as response:
                        assert response.status_code == 200
                        await self._hear(response)
                asked = {"method": "GET", "url": f"/api/chat/{thread}/stream"}

    async def _hear(self, response: httpx.Response) -> None:
        self.message = Message()
        async for line in response.aiter_lines():
            with suppress(json.JSONDecodeError):
                if line.startswith("data: {"):
                    self.message.apply([json.loads(line.removeprefix("data: "))])
                    self.heard += 1


async def test_nothing_is_lost_or_doubled(
    server: Server, api: Api, thread: str, amount: int
) -> None:
    chats, held = f"{thread}-chat", amount + 500_000
    running = RunClient(f"tell {WORDS}; hold {amount} then tell {WORDS}")
    chatting = ChatClient(f"tell {WORDS}; hold {held} then tell {WORDS}")
    protocols = {
        "from the beginning": ProtocolClient(),
        "behind what it has": ProtocolClient(since=True),
        "on a WebSocket": SocketClient(),
    }
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        proxies: list[CuttingProxy] = []

        async def begin(client: Client, thread: str) -> asyncio.Task[None]:
            proxy = await stack.enter_async_context(cutting(server.port, two_cuts(), holds=True))
            proxies.append(proxy)
            return group.create_task(client.follow(proxy, thread))

        following = [await begin(running, thread), await begin(chatting, chats)]
        await until(lambda: len(running.parts) > 5)
        joined = JoinedRunClient(running)
        following += [await begin(each, thread) for each in (joined, *protocols.values())]
        clients = [running, chatting, joined, *protocols.values()]

        # While the agent waits they are cut off, and come back.
        await until(lambda: all(proxy.connections == 3 for proxy in proxies))
        await server.until_traced(f"hold {amount}", f"hold {held}")
        before = [client.heard for client in clients]
        server.let_go(amount, held)
        await until(
            lambda: all(
                each.heard > count + 20 for each, count in zip(clients, before, strict=True)
            )
        )
        assert not any(task.done() for task in following), "The run is over already."
        await asyncio.to_thread(server.restart)
        await asyncio.wait(following)
    assert all(proxy.connections > 3 for proxy in proxies)
    assert len(server.traces(f"hold {amount}")) == len(server.traces(f"hold {held}")) == 1

    told = await until_end(api.http, thread)
    for name, client in protocols.items():
        assert client.events == {event["event_id"]: event for event in told}, name
    run_id = running.parts[0].data["run_id"]
    async with get_client(url=server.url) as sdk:
        stream = sdk.runs.join_stream(thread, run_id, stream_mode=MODES)
        parts = [part async for part in stream]
    assert running.parts == parts
    assert joined.behind + joined.parts == parts

    words = " ".join(f"word{number}" for number in range(WORDS))
    assert chatting.message.text == words * 2
    assert [call["state"] for call in chatting.message.calls] == ["output-available"]
    assert await Chat(api, chats).resume() is None
    for id in (thread, chats):
        assert [each["status"] for each in await api.runs(id)] == ["success"]


# ── AG-UI ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cut_stops_a_run_of_agui_and_leaves_nothing_behind(
    server: Server, api: Api, thread: str, amount: int
) -> None:
    """A client of AG-UI has no way to come back, and closes the connection to stop its run."""
    cuts = (Cut(after=4_000, reset=reset) for reset in (False, True))
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(cutting(server.port, cuts))
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=proxy.url, timeout=PATIENCE)
        )
        client = AgUiClient(http, AGENT, thread)
        for _ in range(2):
            with pytest.raises(CUT_OFF):
                await client.run(f"tell {WORDS}; look {amount}")
            await api.at_rest(thread)
    assert [run["status"] for run in await api.runs(thread)] == ["cancelled"] * 2

    # So is one that a person has agreed to, in the middle of the call.
    direct = AgUiClient(api.http, AGENT, thread)
    direct.messages = client.messages
    await direct.run(f"slow {amount} then look {amount}")
    async with direct.opened(resume=direct.resume({"approved": True})) as events:
        await anext(events)
        await server.until_traced(f"slow {amount}")
    assert (await api.at_rest(thread))["status"] == "idle"
    server.let_go(amount)
    told = await direct.run(f"hold {amount}")
    assert told[-1]["outcome"] == {"type": "success"}
    assert [line for line in server.traces() if line.endswith(f" {amount}")] == [
        f"slow {amount}",
        f"hold {amount}",
        f"held {amount}",
    ]
    results = [text for role, text in direct.texts if role == "tool"]
    assert f"held {amount}" in results
    assert any(text.startswith("The run was stopped while this call ran.") for text in results)
    there = (await api.get(f"/threads/{thread}"))["values"]["messages"]
    assert len(direct.messages) == len(there)


async def test_a_client_of_agui_asks_again_after_a_kill(
    server: Server, api: Api, thread: str, amount: int
) -> None:
    words = " ".join(f"word{number}" for number in range(WORDS))

    def told_words(client: AgUiClient) -> list[str]:
        return [text for _, text in client.texts if text.startswith("word0")]

    server.let_go(amount)
    client = AgUiClient(api.http, AGENT, thread)
    client.say(f"look {amount}; hold {amount} then tell {WORDS}")
    asked = client.body()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(CUT_OFF):
            async with client.opened(**asked) as events:
                async for event in events:
                    if event.get("delta") == "word9 ":
                        await asyncio.to_thread(server.restart)
        # In another run it says nothing new, and is shown the thread as it is: what it has of the
        # answer, which is written anew, is neither said nor kept.
        shown = await client.run()
        assert shown[-1]["type"] == "RUN_FINISHED"
        assert told_words(client) in ([], [words])
        # The same request again is the same run, from its beginning.
        again = AgUiClient(api.http, AGENT, thread)
        told = await again.run(**asked)
        assert told[-1]["outcome"] == {"type": "success"}
    assert again.texts[-1] == ("assistant", words)
    assert [(run["status"], run["attempt"]) for run in await api.runs(thread)] == [("success", 2)]

    for each in (client, again):
        await each.run("look 8")
        there = (await api.get(f"/threads/{thread}"))["values"]["messages"]
        assert len(each.messages) == len(there)
        assert told_words(each) == [words]
    assert server.traces().count(f"held {amount}") == 1
    assert server.traces().count(f"look {amount}") == 1
