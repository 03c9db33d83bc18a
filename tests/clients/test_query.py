"""The clients of query sockets, as their document prints them, and what it promises, on a server as
a user starts it: one without keys, and one with."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from assent.api.dialects.query import VOCABULARY
from assent.api.query_socket import MOST_WAITING
from assent.core.named_ids import named_id
from tests.support import agents, document_agent
from tests.support.command import REPOSITORY
from tests.support.document_agent import DOCUMENTS, THOUGHT
from tests.support.node import node
from tests.support.server import Server, problem, project_of, serving
from tests.support.waiting import PATIENCE, until

EXAMPLES = REPOSITORY / "examples" / "query"
PRINTED = "localhost:8000"
"""The server of the document's clients."""

KEY = "secret-of-ann"
ENDS = ("agent_execution_complete", "agent_execution_error")

Frame = dict[str, Any]


def project(folder: Path) -> str:
    graphs = {document_agent: ["graph"], agents: ["agent"]}
    return project_of(folder, graphs)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, project(folder)) as server:
        yield server


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keyed")
    settings = {"ASSENT_API_KEYS": f"ann:{KEY}", "ASSENT_IDLE_SOCKETS": "2s"}
    with serving(folder, project(folder), **settings) as server:
        yield server


# ── a client ──────────────────────────────────────────────────────────────────────────────────────


class Socket:
    """A query socket. `frames` are those that came so far."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[Frame] = []

    async def next(self) -> Frame:
        async with asyncio.timeout(PATIENCE):
            frame: Frame = json.loads(await self.connection.recv())
        self.frames.append(frame)
        return frame

    async def until(self, *types: str) -> list[Frame]:
        """The next frames, up to one of these types."""
        frames = [await self.next()]
        while frames[-1]["type"] not in types:
            frames.append(await self.next())
        return frames

    async def send(self, query: str, case_id: Any = None, **fields: Any) -> None:
        message = {"query": query, "case_id": case_id, "stream_thinking": True, **fields}
        await self.connection.send(json.dumps(message))

    async def ask(self, query: str, case_id: Any = None, **fields: Any) -> list[Frame]:
        """What is told of the query."""
        await self.send(query, case_id, **fields)
        return await self.until(*ENDS)

    async def answer(self, query: str, case_id: Any = None, **fields: Any) -> str:
        last = (await self.ask(query, case_id, **fields))[-1]
        assert last["type"] == "agent_execution_complete", last
        return str(last["output_data"]["answer"])

    async def closed(self) -> int:
        """The code with which the server closes."""
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await self.next()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code


@asynccontextmanager
async def socket_of(
    server: Server, query: str = "", key: str | None = None
) -> AsyncIterator[Socket]:
    headers = {"authorization": f"Bearer {key}"} if key else None
    url = f"ws://127.0.0.1:{server.port}/ws/query{query}"
    async with connect(
        url, additional_headers=headers, proxy=None, open_timeout=PATIENCE
    ) as connection:
        socket = Socket(connection)
        assert (await socket.next())["type"] == "connection_established"
        yield socket


@asynccontextmanager
async def http(server: Server, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {key}"} if key else None
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE) as client:
        yield client


def thread_of(frames: list[Frame]) -> str:
    (id,) = {frame["metadata"]["thread_id"] for frame in frames}
    return str(id)


def ids_of(frames: list[Frame]) -> list[str]:
    return [id for frame in frames if (id := frame["metadata"].get("event_id"))]


# ── as they are printed ───────────────────────────────────────────────────────────────────────────


async def output_of(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE):
        told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    return told.decode()


@pytest.mark.parametrize("with_key", [False, True])
async def test_the_printed_python_client(
    with_key: bool, server: Server, keyed: Server, tmp_path: Path
) -> None:
    asked = keyed if with_key else server
    printed = (EXAMPLES / "client.py").read_text()
    assert printed.count(PRINTED) == 1
    text = printed.replace(PRINTED, f"localhost:{asked.port}")
    if with_key:
        header = f'additional_headers={{"Authorization": "Bearer {KEY}"}}'
        text = text.replace("connect(uri)", f"connect(uri, {header})")
    program = tmp_path / "client.py"
    program.write_text(text)
    lines = (await output_of(sys.executable, str(program))).splitlines()
    assert lines[0].startswith("Connected: {'type': 'connection_established'")
    assert lines[1].startswith("[query_received] {")
    assert lines[-1].startswith("[agent_execution_complete] {")


async def test_the_printed_class_in_javascript(server: Server) -> None:
    page, module = Path(__file__).with_name("query_client.mjs"), EXAMPLES / "client.mjs"
    url = f"ws://localhost:{server.port}/ws/query"
    options = ["--experimental-websocket", "--no-warnings"]
    queries = ["search courts", "boom", "tell 1"]
    text = await output_of(node(), *options, str(page), module.as_uri(), url, *queries)
    lines = text.splitlines()
    assert "Id: true" in lines
    for query in queries:
        assert f"Agent graph started: {query}" in lines
    assert [line for line in lines if line.startswith(("Tool", "Final", "Sources"))] == [
        "Tool search started",
        "Final answer: Results: Courts decide on guilt. Clerks decide on courts.",
        "Sources: courts.txt,clerks.txt",
        "Final answer: word0",
        "Sources: ",
    ]
    assert lines[-1] == "Disconnected from legal agent streaming service"


# ── what it promises ──────────────────────────────────────────────────────────────────────────────


async def test_every_event_of_the_document_comes(server: Server) -> None:
    async with socket_of(server) as socket:
        found = await socket.ask("search courts then cite juries")
        failed = await socket.ask("boom")
        assert {frame["type"] for frame in socket.frames} == VOCABULARY
        session = socket.frames[0]["connection_id"]
    for frame in (*found, *failed):
        assert frame["session_id"] == session
        assert isinstance(frame["timestamp"], float)
        assert (frame["agent_name"], frame["task"]) in (
            ("graph", "search courts then cite juries"),
            ("graph", "boom"),
        )
    times = [frame["timestamp"] for frame in found if frame["type"] != "llm_start"]
    assert times == sorted(times)
    thoughts = [each["output_data"] for each in found if each["type"] == "thinking_end"]
    assert thoughts == [{"thinking": THOUGHT}] * 3

    # One by the retriever within a tool, one from the tool itself.
    answer = found[-1]["output_data"]
    assert answer["answer"].startswith("Results: ")
    cited = [(each["index"], each["source"], each["text"]) for each in answer["citations"]]
    texts = [DOCUMENTS[0].page_content, DOCUMENTS[3].page_content, DOCUMENTS[1].page_content]
    sources = ["courts.txt", "clerks.txt", "juries.txt"]
    assert cited == [*zip((1, 2, 3), sources, texts, strict=True)]
    assert failed[-1]["metadata"].keys() >= {"query", "case_id"}
    assert agents.SECRET not in json.dumps(failed)


async def test_without_thinking_only_what_the_client_waits_for_comes(server: Server) -> None:
    async with socket_of(server) as socket:
        frames = await socket.ask("search courts", stream_thinking=False)
    assert Counter(frame["type"] for frame in frames) == Counter(
        [
            *("query_received", "agent_execution_start", "rag_query_start", "rag_query_end"),
            "agent_execution_complete",
        ]
    )


async def test_a_case_is_a_thread_and_the_agent_knows_which(server: Server) -> None:
    async with socket_of(server) as socket, socket_of(server) as other:
        first = await socket.ask("case", 41)
        assert first[-1]["output_data"]["answer"] == "Results: case 41"
        again = await other.ask("tell 1", "41")
        elsewhere = await other.ask("case", "forty-one")
        none = await socket.ask("case")
        none_again = await socket.ask("tell 1")
        of_other = await other.ask("case")
    threads = [thread_of(each) for each in (first, again, elsewhere, none, none_again, of_other)]
    assert threads[0] == threads[1] and threads[3] == threads[4]
    assert len(set(threads)) == 4
    assert elsewhere[-1]["output_data"]["answer"] == "Results: case forty-one"
    async with http(server) as client:
        thread = (await client.get(f"/threads/{threads[0]}")).json()
        assert thread["metadata"]["case_id"] == 41
        state = (await client.get(f"/threads/{threads[0]}/state")).json()
        said = [each["content"] for each in state["values"]["messages"] if each["type"] == "human"]
        assert said == ["case", "tell 1"]


async def test_queries_of_a_socket_are_answered_one_after_the_other(server: Server) -> None:
    async with socket_of(server) as socket:
        for words in (1, 2, 3):
            await socket.send(f"tell {words}", "one after the other")
        answers = [await socket.until(*ENDS) for _ in range(3)]
    assert [each[0]["type"] for each in answers] == ["query_received"] * 3
    assert [each[-1]["output_data"]["answer"] for each in answers] == [
        "word0",
        "word0 word1",
        "word0 word1 word2",
    ]


# ── a person ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_pause_is_no_end_and_the_same_query_joins_what_is_under_way(
    server: Server,
) -> None:
    server.ledger.unlink(missing_ok=True)
    async with socket_of(server) as socket, socket_of(server) as other, http(server) as client:
        await socket.send("pay 7", 7)
        before = await socket.until("agent_action")
        before += await socket.until("agent_action")
        asked = before[-1]
        assert asked["action"] == "approval_required"
        assert (asked["tool_name"], asked["input_data"]) == ("pay", {"amount": 7})
        assert asked["metadata"].keys() >= {"approval_id", "digest", "kind"}

        refused = (await other.ask("look 1", 7))[-1]
        assert refused["type"] == "agent_execution_error"
        assert refused["error"].endswith("/resume, and ask again then.")
        await other.send("pay 7", "7")
        joined = await other.until("agent_action")
        assert joined[0]["metadata"]["joined"] is True
        joined += await other.until("agent_action")

        path = f"/approvals/{asked['metadata']['approval_id']}/decide"
        decided = await client.post(path, json={"type": "approve"})
        assert decided.status_code == 202
        after, after_too = await socket.until(*ENDS), await other.until(*ENDS)
        assert after[0]["type"] == "agent_observation"
        assert after[0]["output_data"]["decision"] == "approve"
        assert ids_of(before + after) == ids_of(joined + after_too)
        assert after[-1]["output_data"]["answer"] == "Results: paid 7"
        assert server.traces() == ["pay 7"]

        # What is over is asked anew.
        again = await other.ask("tell 1", 7)
        assert again[0]["metadata"]["joined"] is False


async def test_a_query_under_an_id_is_asked_once(server: Server) -> None:
    async with socket_of(server) as socket:
        first = await socket.ask("tell 2", query_id="q1")
    async with socket_of(server) as socket:
        again = await socket.ask("tell 2", query_id="q1")
        assert (first[0]["metadata"]["joined"], again[0]["metadata"]["joined"]) == (False, True)
        assert ids_of(again) == ids_of(first) != []
        assert {frame["metadata"]["query_id"] for frame in again} == {"q1"}
        [_, refused] = await socket.ask("tell 3", query_id="q1")
        assert "query_id" in refused["error"]


async def test_of_two_who_ask_the_same_at_once_one_begins(server: Server) -> None:
    async with socket_of(server) as one, socket_of(server) as two:
        sockets = (one, two)
        await asyncio.gather(*(each.send("pay 8", "at once") for each in sockets))
        told = [await each.until("agent_action") for each in sockets]
        assert sorted(each[0]["metadata"]["joined"] for each in told) == [False, True]
        assert ids_of(told[0]) == ids_of(told[1])


# ── a socket ──────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_no_query_is_answered_and_the_socket_stays(server: Server) -> None:
    wrong: list[tuple[str | bytes, str, Any, Any]] = [
        ("{", "The message is not JSON", None, None),
        ("[]", "it should be a JSON object", None, None),
        ('{"case_id": 3}', "'query': it is missing", None, 3),
        ('{"query": "x", "case_id": true}', "case_id", "x", None),
        ('{"query": "x", "stream_thinking": 1}', "stream_thinking", "x", None),
        ('{"query": "x", "user": "ann"}', "'user': there is no such field", "x", None),
        ('{"query": "\\ud83d"}', "half a character", None, None),
        (b"\x00\xff", "no binary messages", None, None),
    ]
    async with socket_of(server) as socket:
        for message, sentence, query, case in wrong:
            await socket.connection.send(message)
            told = await socket.next()
            assert told["type"] == "agent_execution_error"
            assert sentence in told["error"]
            assert told["metadata"] == {"query": query, "case_id": case}
        assert await socket.answer("tell 1") == "word0"
        for _ in range(20):
            await socket.connection.send("{")
        assert await socket.closed() == 1008


async def test_only_some_queries_wait(server: Server) -> None:
    async with socket_of(server) as socket:
        await socket.send("pay 9")
        await socket.until("agent_action")
        for number in range(MOST_WAITING + 1):
            await socket.send(f"tell {number + 1}")
        refused = (await socket.until("agent_execution_error"))[-1]
        assert refused["error"].startswith("4 queries wait on this socket already.")


async def test_what_is_erased_ends_its_query_and_not_the_socket(server: Server) -> None:
    async with socket_of(server) as socket, http(server) as client:
        await socket.send("pay 10", "erased")
        frames = await socket.until("agent_action")
        frames += await socket.until("agent_action")
        erased = await client.delete(f"/threads/{thread_of(frames)}")
        assert erased.status_code < 300, erased.text
        error = (await socket.until(*ENDS))[-1]
        assert error["type"] == "agent_execution_error"
        assert error["metadata"]["query"] == "pay 10"
        # Its case begins anew.
        assert await socket.answer("tell 1", "erased") == "word0"


async def test_the_agent_is_the_first_that_takes_messages_or_the_one_that_is_named(
    server: Server,
) -> None:
    async with socket_of(server, "?agent=agent") as socket:
        assert socket.frames[0]["agent_name"] == "agent"
    with pytest.raises(InvalidStatus) as unknown:
        async with socket_of(server, "?agent=nobody"):
            pass
    assert unknown.value.response.status_code == 404
    async with http(server) as client:
        await problem(await client.get("/ws/query"), 426)


async def test_a_key_is_needed_and_comes_in_the_header(keyed: Server) -> None:
    for query in ("", f"?token={KEY}"):
        with pytest.raises(InvalidStatus) as refused:
            async with socket_of(keyed, query):
                pass
        assert refused.value.response.status_code in (401, 422)
    async with http(keyed) as client:
        for method, path in (("GET", "/ws/status"), ("POST", "/ws/broadcast")):
            await problem(await client.request(method, path), 401)
    async with socket_of(keyed, key=KEY) as socket:
        # Each person has their own cases.
        assert thread_of(await socket.ask("tell 1", 1)) == named_id("case", "ann", "graph", "1")


async def test_an_idle_socket_is_closed_and_one_that_waits_for_an_answer_is_not(
    keyed: Server,
) -> None:
    async with socket_of(keyed, key=KEY) as waiting, socket_of(keyed, key=KEY) as idle:
        await waiting.send("pay 11", "idle")
        frames = await waiting.until("agent_action")
        frames += await waiting.until("agent_action")
        assert await idle.closed() == 1000
        async with http(keyed, KEY) as client:
            path = f"/approvals/{frames[-1]['metadata']['approval_id']}/decide"
            await client.post(path, json={"type": "reject", "message": "No."})
        assert (await waiting.until(*ENDS))[-1]["type"] == "agent_execution_complete"


# ── all of them ───────────────────────────────────────────────────────────────────────────────────


async def test_the_status_shows_the_sockets_that_are_open(server: Server) -> None:
    async with http(server) as client:
        await until(lambda: nobody_on(client))
        async with socket_of(server) as one, socket_of(server) as two:
            told = (await client.get("/ws/status")).json()
            assert told.keys() == {"active_connections", "connections"}
            assert told["active_connections"] == 2
            for socket, view in zip((one, two), told["connections"], strict=True):
                assert view.keys() == {"connection_id", "metadata"}
                assert view["connection_id"] == socket.frames[0]["connection_id"]
                assert view["metadata"].keys() == {"connected_at", "last_activity"}
        await until(lambda: nobody_on(client))


async def nobody_on(client: httpx.AsyncClient) -> bool:
    """Whether no socket is open."""
    told = (await client.get("/ws/status")).json()
    return bool(told == {"active_connections": 0, "connections": []})


async def test_nothing_is_left_of_a_client_that_leaves_as_its_query_begins(server: Server) -> None:
    for milliseconds in (0, 2, 4, 6, 8, 12):
        async with socket_of(server) as socket:
            await socket.send("pay 14", f"left after {milliseconds}")
            await asyncio.sleep(milliseconds / 1000)
    async with http(server) as client:
        await until(lambda: nobody_on(client))


async def test_a_broadcast_reaches_all_under_its_type_which_is_none_of_the_agents(
    server: Server,
) -> None:
    async with http(server) as client:
        await until(lambda: nobody_on(client))
    async with socket_of(server) as idle, socket_of(server) as busy, http(server) as client:
        await busy.send("pay 12", "broadcast")
        await busy.until("agent_action")
        await busy.until("agent_action")
        sent = await client.post("/ws/broadcast", json={"message": "Test", "type": "test"})
        assert (sent.status_code, sent.json()) == (200, {"status": "sent", "recipients": 2})
        for socket in (idle, busy):
            told = await socket.next()
            assert told.pop("timestamp") > 0
            assert told == {"type": "test", "message": "Test"}
        await client.post("/ws/broadcast", json={"message": "Plain"})
        assert (await idle.next())["type"] == "broadcast"
        spoof = "agent_execution_complete"
        await problem(
            await client.post("/ws/broadcast", json={"message": "Yes", "type": spoof}), 422
        )
        await client.post("/broadcast", json={"message": "Yes", "data": {"type": spoof}})
        assert (await idle.next())["type"] == "broadcast"


async def test_a_server_that_stops_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, project(tmp_path)) as server:
        async with socket_of(server) as idle, socket_of(server) as busy:
            await busy.send("pay 13", "stops")
            await busy.until("agent_action")
            stopping = asyncio.create_task(asyncio.to_thread(server.terminate))
            assert await idle.closed() == 1012
            assert await busy.closed() == 1012
            await stopping
