"""The clients against the real server: what they ask, what they hear while connections break, and
that a decision is taken once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from random import Random
from typing import TypeVar

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets
from websockets.http11 import Request as WsRequest
from websockets.http11 import Response as WsResponse

from assent.client import (
    Client,
    Heard,
    Link,
    OpenStream,
    ServerFailed,
    ShownApproval,
    SyncClient,
    Unauthorized,
    UnknownEvent,
    Unreachable,
)
from assent.client.calls import Transport
from assent.core.decisions import Approve, Reject
from assent.core.errors import (
    AlreadyDecided,
    ConfigurationError,
    Gone,
    InvalidRequest,
    NotFound,
    Superseded,
    ThreadBusy,
)
from assent.core.events import Broadcast, Done, RunPaused, Token
from tests.support.command import REPOSITORY
from tests.support.cutting_proxy import Cut, cuts_at_random, cutting
from tests.support.listening import listening
from tests.support.server import Server, free_port
from tests.support.waiting import PATIENCE

AGENTS = ("agent", "slow_agent", "chat_agent")

T = TypeVar("T")

TRANSPORTS: tuple[Transport, ...] = ("sse", "websocket", "poll")


async def everything(stream: AsyncGenerator[T, None]) -> list[T]:
    return [each async for each in stream]


async def asked(client: Client, thread: str, amount: int) -> ShownApproval:
    """What the agent asks before it pays this much."""
    await everything(client.stream(f"pay {amount}", thread_id=thread, agent="agent"))
    (approval,) = (await client.threads.get(thread)).approvals
    return approval


async def heard_up_to_done(stream: AsyncGenerator[Heard, None], times: int = 1) -> list[Heard]:
    """The events up to the end of so many runs."""
    heard: list[Heard] = []
    async with asyncio.timeout(PATIENCE), aclosing(stream) as events:
        async for each in events:
            heard.append(each)
            if [one.type for one in heard].count("done") == times:
                return heard
    return heard


# ── what it asks ──────────────────────────────────────────────────────────────────────────────────


async def test_a_conversation_with_a_decision(client: Client, thread: str, amount: int) -> None:
    events = await everything(client.stream(f"pay {amount}", thread_id=thread, agent="agent"))
    assert isinstance(events[-1], RunPaused)
    (approval,) = await everything(client.approvals.list(thread_id=thread, status="pending"))
    assert approval.is_pending and approval.args == {"amount": amount}
    assert approval.fields["digest"] == approval.digest

    outcome = await client.approvals.decide(approval, Approve())
    assert outcome.decisions[approval.approval_id].status == "approved"
    assert outcome.run_id is not None
    result = await client.runs.wait(outcome.run_id)
    assert (result.status, result.output) == ("success", f"Results: paid {amount}")


async def test_decisions_by_id_are_followed_to_the_end(
    client: Client, thread: str, amount: int
) -> None:
    approval = await asked(client, thread, amount)
    events = await everything(
        client.resume(
            thread,
            {approval.approval_id: Reject(message="No.")},
            digests={approval.approval_id: approval.digest},
        )
    )
    assert isinstance(events[-1], Done)
    with pytest.raises(Superseded):
        other = await asked(client, thread, amount)
        await client.threads.resume(
            thread, {other.approval_id: Approve()}, digests={other.approval_id: "0" * 64}
        )


async def test_a_run_is_started_waited_for_and_cancelled(client: Client, thread: str) -> None:
    result = await client.runs.invoke("tell 3", thread_id=thread, agent="slow_agent")
    assert result.output == "word0 word1 word2"
    run = await client.runs.start("tell 400", thread_id=thread)
    assert (await client.runs.wait(run.run_id, timeout=0)).status in ("pending", "running")
    with pytest.raises(ThreadBusy):
        await client.runs.start("Hi", thread_id=thread)
    (cancelled,) = await client.threads.cancel(thread)
    assert cancelled.run_id == run.run_id
    assert (await client.runs.wait(run.run_id)).status == "cancelled"
    ids = [each.run_id async for each in client.runs.list(thread_id=thread, limit=1)]
    assert ids == [run.run_id, result.run_id]


async def test_threads_and_states(client: Client, thread: str) -> None:
    assert (await client.threads.create(thread, metadata={"team": "blue"})).status == "idle"
    await client.runs.invoke("Hi", thread_id=thread, agent="agent")
    changed = await client.threads.change(thread, {"team": None, "city": "Bonn"})
    assert changed.metadata["city"] == "Bonn" and "team" not in changed.metadata
    assert changed.title == "Hi"
    assert (await client.threads.change(thread, title="Greeting")).title == "Greeting"
    (listed,) = [each async for each in client.threads.list(q=thread, sort="used")]
    assert (listed.title, listed.pending) == ("Greeting", ())
    state = await client.threads.state(thread)
    (newest, *_) = await client.threads.history(thread, limit=2)
    assert newest.checkpoint_id == state.checkpoint_id
    fork = await client.threads.fork(thread, checkpoint_id=state.checkpoint_id, to=f"{thread}-2")
    assert fork.thread_id == f"{thread}-2"
    page = await client.threads.events(thread, types=["done"])
    assert [heard.type for heard in page.events] == ["done"]
    newest = await client.threads.events(thread, before="end", limit=1)
    assert (newest.events, newest.more, newest.last) == (page.events, True, page.next)
    of_run = await client.runs.events(page.events[0].event.run_id, before=newest.next)
    assert of_run.next < newest.next and not of_run.more
    assert thread in [each.thread_id async for each in client.threads.list()]
    await client.threads.delete(thread)
    with pytest.raises(NotFound):
        await client.threads.get(thread)


async def test_everything_else_that_a_server_does(client: Client, thread: str) -> None:
    first, second = await client.schedules.preview("0 9 * * *", timezone="Asia/Tokyo", count=2)
    assert (first.hour, second - first) == (9, timedelta(days=1))
    schedule = await client.schedules.create("0 9 * * *", "Hi", agent="agent", thread_id=thread)
    assert (await client.schedules.change(schedule.schedule_id, enabled=False)).enabled is False
    run = await client.schedules.run(schedule.schedule_id)
    assert (await client.runs.wait(run.run_id)).status == "success"
    assert schedule.schedule_id in [each.schedule_id async for each in client.schedules.list()]
    await client.schedules.delete(schedule.schedule_id)

    until = datetime.now(UTC) + timedelta(hours=1)
    grant = await client.grants.give(
        "pay", bounds={"amount": {"max": 9}}, until=until, uses=1, thread_id=thread, agent="agent"
    )
    assert (await client.grants.get(grant.grant_id)).until == until
    assert (await client.grants.revoke(grant.grant_id)).revoked_by == "local"
    assert "granted" in [each.action async for each in client.audit.list(limit=500)]
    assert await client.audit.head() is not None
    assert (await client.audit.verify()).is_whole

    file = await client.files.upload(b"hello", "notes.txt")
    assert await client.files.content(file.file_id) == b"hello"
    assert (await client.files.get(file.file_id)).size == 5
    await client.files.delete(file.file_id)

    assert "agent" in [each.agent for each in await client.server.agents()]
    assert (await client.server.health()).status == "healthy"
    assert (await client.server.ready()).status == "ready"


async def test_people_say_what_they_think_of_an_approval(
    client: Client, thread: str, amount: int
) -> None:
    approval = await asked(client, thread, amount)
    other = await client.approvals.preview(approval.approval_id, {"amount": amount + 1})
    assert (other.args, other.digest != approval.digest) == ({"amount": amount + 1}, True)
    said = await client.approvals.comment(approval.approval_id, "Why?")
    assert said.comments[0].text == "Why?"
    outcomes = await client.approvals.decide_several([(approval, Approve())])
    assert outcomes[approval.approval_id].code == 422
    assert "is of medium risk" in outcomes[approval.approval_id].detail
    page = await client.feeds.events(approvals=True, types=["approval_required"])
    assert page.events[-1].type == "approval_required"


# ── what it is refused ────────────────────────────────────────────────────────────────────────────


async def test_whoever_comes_second_learns_what_was_decided(
    client: Client, thread: str, amount: int
) -> None:
    approval = await asked(client, thread, amount)
    await client.approvals.decide(approval, Reject(message="Too much."))
    with pytest.raises(AlreadyDecided) as second:
        await client.approvals.decide(approval, Approve())
    assert second.value.by == "local"
    assert second.value.decision == Reject(message="Too much.")
    assert second.value.at is not None and second.value.at.tzinfo is not None


async def test_refusals_are_the_servers_own(client: Client, thread: str) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await everything(client.stream("Hi", agent="nobody"))
    with pytest.raises(InvalidRequest, match="priority"):
        await client.runs.start("Hi", agent="agent", priority=1000)
    await client.runs.invoke("Hi", thread_id=thread, agent="agent")
    with pytest.raises(Gone) as gone:
        await everything(client.watch(thread_id=thread, after=10_000))
    assert gone.value.details["first"] > 1


async def test_a_server_that_is_not_there(client: Client) -> None:
    with pytest.raises(
        ConfigurationError, match=r"'here:80' is not a URL\. Write http://here:80\."
    ):
        Client("here:80")
    for key in ("grün-und-blau", "two\nlines", "a-space-behind "):
        with pytest.raises(ConfigurationError, match="none that a request can carry") as refused:
            Client("http://here:80", key=key)
        assert key.strip() not in str(refused.value)
    async with Client(f"http://127.0.0.1:{free_port()}", trust_env=False) as nobody:
        for asking in (nobody.server.health(), everything(nobody.watch(thread_id="t"))):
            with pytest.raises(Unreachable, match=r"does not answer: .* Is it running"):
                await asking


async def test_a_host_that_is_no_server_of_ours() -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\nHello")
        writer.close()

    async with (
        listening(hello) as port,
        Client(f"http://127.0.0.1:{port}", key="k", trust_env=False) as client,
    ):
        with pytest.raises(
            Unauthorized, match="The server answered 401, as Assent does not: Hello"
        ):
            await client.server.agents()
        with pytest.raises(Unauthorized):
            await everything(client.stream("Hi"))


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Encoding: gzip\r\n", b"This is no gzip."),
        (b"", b'{"status": "\xff"}'),
        (b"", b"[" * 10_000 + b"]" * 10_000),
        (b"", b"null"),
    ],
    ids=["no gzip", "no UTF-8", "deep", "null"],
)
async def test_an_answer_that_cannot_be_read_is_an_error_of_ours(head: bytes, body: bytes) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        length = b"Content-Length: %d\r\nConnection: close\r\n" % len(body)
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + head + b"\r\n" + body)
        writer.close()

    async with listening(answers) as port:
        url = f"http://127.0.0.1:{port}"

        def asked_without_asyncio() -> None:
            with SyncClient(url, trust_env=False) as client:
                client.server.health()

        async with Client(url, trust_env=False) as client:
            with pytest.raises((ServerFailed, Unreachable)):
                await client.server.health()
            with pytest.raises((ServerFailed, Unreachable)):
                await asyncio.to_thread(asked_without_asyncio)


# ── what it hears ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_connections_that_break_anywhere_cost_no_event(
    server: Server, client: Client, thread: str, transport: Transport
) -> None:
    links: list[Link] = []
    await client.runs.invoke("tell 50", thread_id=thread, agent="agent")
    async with (
        cutting(server.port, cuts_at_random(Random(12), 5_000, 30_000)) as proxy,
        Client(proxy.url, trust_env=False, on_link=links.append) as cut_off,
    ):
        watching = asyncio.create_task(
            heard_up_to_done(cut_off.watch(thread_id=thread, transport=transport), 2)
        )
        run = [each async for each in cut_off.stream("tell 100", thread_id=thread, agent="agent")]
        heard = await watching
    assert isinstance(run[-1], Done)
    assert "".join(each.content for each in run if isinstance(each, Token)).split()[-1] == "word99"
    assert [each.seq for each in heard] == list(range(1, len(heard) + 1))
    page = await client.threads.events(thread)
    assert [each.body for each in page.events] == [each.body for each in heard]
    assert run == [each.event for each in heard if each.event.run_id == run[0].run_id]
    assert {link.state for link in links} == {"up", "down"}
    assert len(await everything(client.runs.list(thread_id=thread))) == 2


async def test_a_lost_answer_to_a_decision_is_asked_for_again(
    server: Server, client: Client, thread: str, amount: int
) -> None:
    approval = await asked(client, thread, amount)
    cuts = chain([Cut(after=1), Cut(after=1, reset=True)], repeat(None))
    async with (
        cutting(server.port, cuts) as proxy,
        Client(proxy.url, trust_env=False) as cut_off,
    ):
        outcome = await cut_off.approvals.decide(approval, Approve())
        assert proxy.connections == 3
    assert outcome.run_id is not None
    assert (await client.runs.wait(outcome.run_id)).status == "success"
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
    page = await client.threads.events(thread, types=["approval_decided"])
    assert len(page.events) == 1


async def test_a_lost_answer_to_what_has_no_key_is_not_asked_for_again(server: Server) -> None:
    cuts = chain([Cut(after=1)], repeat(None))
    async with (
        cutting(server.port, cuts) as proxy,
        Client(proxy.url, trust_env=False) as cut_off,
    ):
        with pytest.raises(Unreachable):
            await cut_off.threads.create()
        assert proxy.connections == 1
        assert (await cut_off.server.health()).status == "healthy"


async def test_a_read_over_a_connection_that_broke_is_sent_once_more(server: Server) -> None:
    cuts = chain([Cut(after=1), None, Cut(after=1), Cut(after=1)], repeat(None))
    async with (
        cutting(server.port, cuts) as proxy,
        Client(proxy.url, trust_env=False) as cut_off,
    ):
        assert (await cut_off.server.health()).status == "healthy"
    async with (
        cutting(server.port, repeat(Cut(after=1))) as proxy,
        Client(proxy.url, trust_env=False) as cut_off,
    ):
        with pytest.raises(Unreachable):
            await cut_off.server.health()
        assert proxy.connections == 2


SILENT = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Heartbeat: 0.1\r\n\r\n"
DREAM = b'id: 1\ndata: {"type":"dream","seq":1}\n\n'


async def test_a_connection_without_a_sign_of_life_is_dead() -> None:
    """Frames that a server may send one day are no error either: a comment, a named end, an event
    of an unknown type, with what Unicode ends lines with, as the server escapes it."""
    asked_for: list[bytes] = []

    async def half_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked_for.append(await reader.readuntil(b"\r\n\r\n"))
        if len(asked_for) == 1:
            writer.write(SILENT + b": assent\nretry: 1000\n\n" + DREAM)
            await reader.read()
            writer.close()
            return
        last = b'id: 2\ndata: {"type":"dream","seq":2,"text":"a\\u2028b\\u0085c"}\n\n'
        writer.write(SILENT + DREAM + last + b': end\nevent: end\ndata: {"reason":"done"}\n\n')
        writer.close()

    async with (
        listening(half_open) as port,
        Client(f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        heard = await everything(client.watch(thread_id="t"))
    assert [each.seq for each in heard] == [1, 2]
    assert all(isinstance(each.event, UnknownEvent) for each in heard)
    assert heard[1].fields["text"] == "a\u2028b\u0085c"
    assert b"last-event-id: 1\r\n" in asked_for[1].lower()


@pytest.mark.parametrize("charset", [b"utf-16", b"latin-1", b"none"])
async def test_events_are_read_as_utf_8_whatever_their_head_says(charset: bytes) -> None:
    kind = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=%s\r\n\r\n" % charset
    said = 'id: 1\ndata: {"type":"dream","seq":1,"text":"ä☃"}\n\n'.encode()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(kind + said + b': end\nevent: end\ndata: {"reason":"done"}\n\n')

    async with listening(answers) as port:
        url = f"http://127.0.0.1:{port}"

        def heard_without_asyncio() -> list[Heard]:
            with SyncClient(url, trust_env=False) as client:
                return list(client.watch(thread_id="t"))

        async with Client(url, trust_env=False) as client:
            heard = await everything(client.watch(thread_id="t"))
        heard += await asyncio.to_thread(heard_without_asyncio)
    assert [each.fields["text"] for each in heard] == ["ä☃", "ä☃"]


@pytest.mark.parametrize("transport", ["sse", "poll"])
async def test_the_feeds_of_an_agent_and_a_person_are_followed(
    client: Client, thread: str, transport: Transport
) -> None:
    before = (await client.feeds.events(agent="chat_agent")).next
    await client.runs.invoke("tell 5", thread_id=thread, agent="chat_agent")
    watching = client.watch(agent="chat_agent", after=before, transport=transport)
    heard = await heard_up_to_done(watching)
    assert [each.type for each in heard] == ["run_start", "done"]
    assert [each.fields["thread_id"] for each in heard] == [thread, thread]
    theirs = await client.feeds.events(user="local", types=["done"])
    assert theirs.events


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_selection_is_followed_live(
    client: Client, thread: str, transport: Transport
) -> None:
    await client.runs.invoke("tell 5", thread_id=thread, agent="agent")
    watching = client.watch(thread_id=thread, types=["done"], transport=transport)
    async with asyncio.timeout(PATIENCE), aclosing(watching) as events:
        first = await anext(events)
        await client.runs.invoke("tell 5", thread_id=thread)
        second = await anext(events)
    assert (first.type, second.type) == ("done", "done")
    assert second.seq > first.seq + 5


async def test_readers_are_seen_and_told(client: Client, thread: str) -> None:
    await client.threads.create(thread)
    watching = client.watch(thread_id=thread, transport="websocket")
    async with asyncio.timeout(PATIENCE), aclosing(watching) as events:
        first = asyncio.ensure_future(anext(events))
        found: list[OpenStream] = []
        while not found:
            found = await everything(client.server.connections(thread_id=thread))
        assert (found[0].transport, found[0].user, found[0].cursor) == ("websocket", "local", 0)
        told = await client.server.broadcast("Lunch.", data={"at": 12}, thread_id=thread)
        assert (told.reached, told.seq) == (1, 1)
        heard = await first
        assert isinstance(heard.event, Broadcast)
        assert (heard.event.message, heard.event.by) == ("Lunch.", "local")
        await client.server.broadcast("Fire!")
        heard = await anext(events)
        assert (heard.seq, heard.fields["message"]) == (0, "Fire!")


async def test_a_refused_socket_is_the_error_that_it_was(client: Client, thread: str) -> None:
    with pytest.raises(NotFound, match=thread):
        await everything(client.watch(thread_id=thread, transport="websocket"))
    await client.threads.create(thread)
    with pytest.raises(InvalidRequest, match="no event type 'dream'"):
        await everything(client.watch(thread_id=thread, types=["dream"], transport="websocket"))
    with pytest.raises(InvalidRequest, match="name its thread_id"):
        client.watch(approvals=True, transport="websocket")
    with pytest.raises(InvalidRequest, match="no pages to poll"):
        client.watch(run_id="r", transport="poll")


async def test_the_end_of_a_socket_says_if_it_is_opened_again(thread: str) -> None:
    """A server that stops, or falls silent, is asked again after the last number; a problem is
    raised."""
    opened: list[str] = []

    async def serve(socket: ServerConnection) -> None:
        assert socket.request is not None
        opened.append(socket.request.path)
        await socket.send('{"type":"ready","thread_id":"t","after":0,"connection_id":"c"}')
        match len(opened):
            case 1:
                await socket.send('{"type":"dream","seq":1}')
                await socket.close(1012)
            case 2:
                await socket.send('{"type":"tick"}')
                await socket.wait_closed()
            case _:
                await socket.send('{"type":"dream","seq":2}')
                await socket.send(
                    '{"type":"problem","id":null,"status":410,"title":"Gone","detail":"It is gone.","first":9}'
                )
                await socket.close(1008)

    async with serve_sockets(serve, "127.0.0.1", 0, process_response=beating) as there:
        (listening,) = there.sockets
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with Client(url, trust_env=False) as client:
            heard = []
            with pytest.raises(Gone, match="It is gone") as gone:
                async for each in client.watch(thread_id=thread, transport="websocket"):
                    heard.append(each.seq)
    assert heard == [1, 2]
    assert gone.value.details["first"] == 9
    assert opened == [f"/threads/{thread}/ws?after={after}" for after in (0, 1, 1)]


def beating(connection: ServerConnection, request: WsRequest, response: WsResponse) -> None:
    """Say how often the server shows life."""
    response.headers["X-Heartbeat"] = "0.1"


# ── without asyncio ───────────────────────────────────────────────────────────────────────────────


async def test_the_client_without_asyncio_does_the_same(
    server: Server, thread: str, amount: int
) -> None:
    def talk() -> list[str]:
        with SyncClient(server.url, trust_env=False) as client:
            *_, last = client.stream(f"pay {amount}", thread_id=thread, agent="agent")
            assert isinstance(last, RunPaused)
            (approval,) = client.approvals.list(thread_id=thread)
            outcome = client.approvals.decide(approval, Approve())
            assert outcome.run_id is not None
            assert client.runs.wait(outcome.run_id).status == "success"
            with pytest.raises(AlreadyDecided, match="approved by local"):
                client.approvals.decide(approval, Approve())
            run = [heard.type for heard in client.watch(run_id=outcome.run_id)]
            assert run[-1] == "done"
            for transport in TRANSPORTS:
                watching = client.watch(thread_id=thread, transport=transport)
                with closing(watching) as events:
                    assert any(heard.type == "done" for heard in events)
        return server.traces(f"pay {amount}")

    assert await asyncio.to_thread(talk) == [f"pay {amount}"]


FORKING = """
import os, sys
from assent.client import SyncClient

with SyncClient(sys.argv[1], trust_env=False) as client:
    print(client.server.health().status, flush=True)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    print(client.server.health().status, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Nothing is forked here.")
async def test_a_process_that_is_forked_has_connections_of_its_own() -> None:
    """On the same one, either would read what the other is answered."""
    count = 0

    async def numbered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        answer = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status": "%d"}' % count
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)

    async with listening(numbered) as port:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FORKING, f"http://127.0.0.1:{port}"),
            cwd=REPOSITORY,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
    # The one process, the other, and the one again.
    assert said.split() == [b"1", b"2", b"1"]
