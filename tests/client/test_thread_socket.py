"""Commands in the other direction of a thread's WebSocket, to the real server: their answers, and
what becomes of them if the connection breaks before those come."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, cycle, repeat

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets

from assent.api.limits import MAX_BODY_BYTES
from assent.client import (
    Client,
    Heard,
    Link,
    OpenStream,
    ShownApproval,
    SyncClient,
    Unreachable,
    commands,
)
from assent.client.aio_socket import ThreadSocket
from assent.client.commands import MOST_BYTES, Order
from assent.core.decisions import Approve, Reject
from assent.core.errors import (
    AlreadyDecided,
    InvalidRequest,
    NotFound,
    Superseded,
    ThreadBusy,
    TooLarge,
)
from assent.core.events import RunPaused
from tests.support.cutting_proxy import Cut, cutting
from tests.support.server import Server, free_port
from tests.support.waiting import PATIENCE

AGENTS = ("agent", "slow_agent")


async def heard_until(socket: ThreadSocket, kind: str) -> list[Heard]:
    """The next events, up to the first of this type."""
    heard: list[Heard] = []
    async with asyncio.timeout(PATIENCE):
        async for each in socket:
            heard.append(each)
            if each.type == kind:
                return heard
    raise AssertionError(heard)


async def asked(client: Client, thread: str) -> ShownApproval:
    (approval,) = (await client.threads.get(thread)).approvals
    return approval


async def test_a_conversation_with_a_decision(client: Client, thread: str, amount: int) -> None:
    await client.threads.create(thread)
    async with client.socket(thread) as socket:
        run = await socket.message(f"pay {amount}", agent="agent")
        heard = await heard_until(socket, "run_paused")
        assert isinstance(heard[-1].event, RunPaused)
        assert {each.event.run_id for each in heard if each.event.run_id} == {run.run_id}
        await socket.ack()
        approval = await asked(client, thread)
        outcome = await socket.decide(approval, Approve())
        assert outcome.decisions[approval.approval_id].status == "approved"
        heard += await heard_until(socket, "done")
        assert heard[-1].event.run_id == outcome.run_id
        # Each event once and in order, those too that came while an answer was waited for.
        assert [each.seq for each in heard] == list(range(1, len(heard) + 1))
        with pytest.raises(AlreadyDecided) as second:
            await socket.decide(approval, Reject())
        assert (second.value.by, second.value.decision) == ("local", Approve())
        assert second.value.at is not None

        with pytest.raises(NotFound):
            await socket.message("Hi", agent="nobody")
        with pytest.raises(InvalidRequest, match="The event 999 has not come yet"):
            await socket.ack(999)
        (stream,) = [each async for each in client.server.connections(thread_id=thread)]
        assert stream.acked is not None
    with pytest.raises(StopAsyncIteration):
        await anext(socket)
    with pytest.raises(Exception, match="The WebSocket is closed"):
        await socket.message("Hi")


async def test_decisions_by_id(client: Client, thread: str, amount: int) -> None:
    await client.threads.create(thread)
    async with client.socket(thread) as socket:
        await socket.message(f"pay {amount}", agent="agent")
        await heard_until(socket, "run_paused")
        approval = await asked(client, thread)
        rejected = {approval.approval_id: Reject(message="No.")}
        with pytest.raises(Superseded):
            await socket.resume(rejected, digests={approval.approval_id: "0" * 64})
        await socket.resume(rejected, digests={approval.approval_id: approval.digest})
        await heard_until(socket, "done")


async def test_a_run_is_cancelled(client: Client, thread: str) -> None:
    await client.threads.create(thread)
    async with client.socket(thread) as socket:
        run = await socket.message("tell 400", agent="slow_agent")
        with pytest.raises(ThreadBusy):
            await socket.message("Hi")
        with pytest.raises(NotFound):
            await socket.cancel("no-such-run")
        (cancelled,) = await socket.cancel(run.run_id)
        assert cancelled.run_id == run.run_id
        await heard_until(socket, "run_cancelled")
        # Over HTTP that is no error either.
        assert [each.status for each in await socket.cancel(run.run_id)] == ["cancelled"]
        assert await socket.cancel() == ()


async def test_commands_of_several_tasks_go_on_beside_the_events(
    client: Client, thread: str
) -> None:
    await client.threads.create(thread)
    async with client.socket(thread) as socket:
        listening = asyncio.create_task(heard_until(socket, "done"))
        refused = [socket.message("Hi", agent="nobody") for _ in range(5)]
        answers = await asyncio.gather(
            *refused, socket.message("tell 5", agent="agent"), return_exceptions=True
        )
        assert [type(answer) for answer in answers[:5]] == [NotFound] * 5
        heard = await listening
        assert [each.seq for each in heard] == list(range(1, len(heard) + 1))


async def test_other_events_are_selected_on_the_way(client: Client, thread: str) -> None:
    await client.runs.invoke("tell 5", thread_id=thread, agent="agent")
    async with client.socket(thread, types=["done"]) as socket:
        assert [each.type for each in await heard_until(socket, "done")] == ["done"]
        after = await socket.filter(None)
        await socket.message("tell 5")
        heard = await heard_until(socket, "done")
        assert [each.seq for each in heard] == list(range(after + 1, after + 1 + len(heard)))
        after = await socket.filter(["done", "run_start"])
        await socket.message("tell 5")
        assert [each.type for each in await heard_until(socket, "done")] == ["run_start", "done"]
        with pytest.raises(InvalidRequest, match="no event type 'dream'"):
            await socket.filter(["dream"])


async def test_commands_whose_answers_are_lost_are_carried_out_once(
    server: Server, client: Client, thread: str, amount: int
) -> None:
    """Every other connection breaks before the first answer has come whole."""
    links: list[Link] = []
    await client.threads.create(thread)
    cuts = cycle([Cut(after=700, reset=True), None])
    async with (
        cutting(server.port, cuts) as proxy,
        Client(proxy.url, trust_env=False, on_link=links.append) as cut_off,
    ):
        async with cut_off.socket(thread, types=["run_paused"]) as socket:
            run = await socket.message(f"pay {amount}", agent="agent")
            await heard_until(socket, "run_paused")
        approval = await asked(client, thread)
        async with cut_off.socket(thread, types=["done"]) as socket:
            outcome = await socket.decide(approval, Approve())
            await heard_until(socket, "done")
        async with cut_off.socket(thread) as socket:
            heard = [await anext(socket)]
            selected = await socket.filter(["done"])
            heard += await heard_until(socket, "done")
    assert [link.state for link in links] == ["down", "up"] * 3
    assert proxy.connections == 6
    runs = [each.run_id async for each in client.runs.list(thread_id=thread)]
    assert runs == [outcome.run_id, run.run_id]
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
    page = await client.threads.events(thread)
    wanted = [each for each in page.events if each.seq <= selected or each.type == "done"]
    assert [each.body for each in heard] == [each.body for each in wanted]


async def test_what_has_no_key_is_not_sent_again(
    server: Server, client: Client, thread: str
) -> None:
    await client.runs.start("tell 4000", thread_id=thread, agent="slow_agent")
    # The first connection breaks as soon as anything but its opening has come.
    async with (
        cutting(server.port, chain([Cut(after=1_500)], repeat(None))) as proxy,
        Client(proxy.url, trust_env=False) as cut_off,
        cut_off.socket(thread, types=["run_cancelled"]) as socket,
    ):
        cancelling = [asyncio.create_task(socket.cancel("r" * 64)) for _ in range(20)]
        answers = await asyncio.gather(*cancelling, return_exceptions=True)
        kinds = [type(answer) for answer in answers]
        assert set(kinds) == {NotFound, Unreachable}
        (run,) = await socket.cancel()
        assert run.thread_id == thread
        (last,) = await heard_until(socket, "run_cancelled")
        assert last.event.run_id == run.run_id


async def test_a_socket_that_is_refused_is_the_error_that_it_was(client: Client) -> None:
    with pytest.raises(NotFound):
        async with client.socket("nothing-here"):
            pass
    with pytest.raises(Unreachable):
        async with Client(f"http://127.0.0.1:{free_port()}", trust_env=False).socket("t"):
            pass


async def test_a_command_that_is_too_large_is_not_sent(client: Client, thread: str) -> None:
    assert MOST_BYTES == MAX_BODY_BYTES
    await client.threads.create(thread)
    async with client.socket(thread) as socket:
        with pytest.raises(TooLarge, match=r"at most 1,048,576 bytes as JSON, and this one has"):
            await socket.message("€" * 400_000)
        # The largest one is taken, and whatever is in it is the server's to judge.
        left = MOST_BYTES - len(Order("c2", commands.message({"message": ""}, "k" * 36)).frame)
        with pytest.raises(InvalidRequest, match="200,000 are the most"):
            await socket.message("x" * left)
        assert await socket.cancel() == ()


async def test_an_answer_is_waited_for_as_long_as_the_client_waits(thread: str) -> None:
    got: list[str] = []

    async def silent(socket: ServerConnection) -> None:
        await socket.send('{"type":"ready","thread_id":"t","after":0,"connection_id":"c"}')
        got.extend([str(frame) async for frame in socket])

    async with serve_sockets(silent, "127.0.0.1", 0) as there:
        (listening,) = there.sockets
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with Client(url, timeout=1, trust_env=False).socket(thread) as socket:
            with pytest.raises(Unreachable, match=r"not answered the command within 1 s"):
                await socket.message("Hi")

        def wait() -> None:
            with (
                SyncClient(url, timeout=1, trust_env=False) as client,
                client.socket(thread) as socket,
                pytest.raises(Unreachable, match=r"not answered the command within 1 s"),
            ):
                socket.message("Hi")

        await asyncio.to_thread(wait)
    assert len(got) == 2


async def test_a_socket_is_for_one_thread_at_a_time(
    server: Server, client: Client, thread: str
) -> None:
    await client.runs.invoke("tell 5", thread_id=thread, agent="agent")
    refused: list[BaseException | None] = []

    def listen(url: str) -> None:
        def told(link: Link) -> None:
            # The one thread is amid its wait for the next event.
            with ThreadPoolExecutor(1) as other:
                refused.append(other.submit(socket.cancel).exception())

        with SyncClient(url, trust_env=False, on_link=told) as cut_off:
            socket = cut_off.socket(thread)
            with socket:
                assert "done" in (heard.type for heard in socket)
                assert socket.cancel() == ()

    async with cutting(server.port, chain([Cut(after=1_500)], repeat(None))) as proxy:
        await asyncio.to_thread(listen, proxy.url)
    # As the connection is lost, and as it is back.
    assert [type(each) for each in refused] == [InvalidRequest] * 2
    assert "Another thread" in str(refused[0])


async def test_the_socket_without_asyncio_does_the_same(
    server: Server, thread: str, amount: int
) -> None:
    def talk() -> list[OpenStream]:
        with SyncClient(server.url, trust_env=False) as client:
            client.threads.create(thread)
            with client.socket(thread) as socket:
                socket.message(f"pay {amount}", agent="agent")
                for heard in socket:
                    if heard.type == "run_paused":
                        break
                socket.ack()
                (approval,) = client.threads.get(thread).approvals
                outcome = socket.decide(approval, Approve())
                with pytest.raises(AlreadyDecided):
                    socket.decide(approval, Approve())
                after = socket.filter(["done"])
                (last,) = [next(socket)] if after else []
                while last.type != "done":
                    last = next(socket)
                assert last.event.run_id == outcome.run_id
                assert socket.cancel() == ()
                streams = list(client.server.connections(thread_id=thread))
            assert next(socket, None) is None
        return streams

    (stream,) = await asyncio.to_thread(talk)
    assert stream.acked is not None
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
