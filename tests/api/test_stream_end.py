"""A stream from its first bytes to its last: signs of life, why it ends, and who gets none."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from assent.api.dialects.native import NATIVE
from assent.api.streams.connections import Connections
from assent.api.streams.sse import EventStream
from assent.core.clock import Clock
from assent.core.errors import Gone, Tampered, Unavailable
from tests.support import readers
from tests.support.failing_log import FailingLog, asked
from tests.support.server import (
    BEGIN,
    PING,
    Api,
    Server,
    asking,
    expect,
    problem,
    scripted_agents,
    serving,
    without_ends,
)
from tests.support.waiting import PATIENCE, until

SSE = {"accept": "text/event-stream"}
MOST = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose streams show often that they are alive, and of which nobody may open many."""
    folder = tmp_path_factory.mktemp("server")
    limits = {"ASSENT_HEARTBEAT": "0.2s", "ASSENT_MAX_STREAMS_PER_CLIENT": str(MOST)}
    with serving(folder, scripted_agents(folder, "agent"), **limits) as server:
        yield server


@asynccontextmanager
async def opened(api: Api, path: str, **options: Any) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a stream, as they come."""
    async with (
        asyncio.timeout(PATIENCE),
        api.http.stream("GET", path, headers=SSE, **options) as response,
    ):
        await expect(response, 200)
        yield response.aiter_raw()


async def read_until(chunks: AsyncIterator[bytes], end: bytes) -> bytes:
    body = b""
    async for chunk in chunks:
        body += chunk
        if body.endswith(end):
            return body
    raise AssertionError(f"It ended after {body[-200:]!r}")


async def test_a_stream_on_which_nothing_happens_shows_that_it_is_alive(
    api: Api, thread: str
) -> None:
    last = (await api.stream("tell 1", thread_id=thread))[-1]["seq"]
    path = f"/threads/{thread}/events"
    async with opened(api, path, params={"after": last}) as chunks:
        assert (await read_until(chunks, PING * 3)).replace(PING, b"") == BEGIN
    response = await api.http.head(path)
    assert response.headers["x-heartbeat"] == "0.2"


async def test_a_busy_thread_without_an_event_of_the_types_is_alive_too(
    api: Api, thread: str
) -> None:
    last = (await api.stream("tell 1", thread_id=thread))[-1]["seq"]
    run = asyncio.create_task(api.run(thread, "tell 300"))
    parameters = {"after": last, "types": "broadcast"}
    async with opened(api, f"/threads/{thread}/events", params=parameters) as chunks:
        assert (await read_until(chunks, PING * 2)).replace(PING, b"") == BEGIN
    await api.ended((await run)["run_id"])


async def test_a_run_that_has_ended_says_so_and_asks_nobody_to_return(
    api: Api, thread: str
) -> None:
    last = (await api.stream("tell 1", thread_id=thread))[-1]
    path = f"/runs/{last['run_id']}/stream"
    sent, reason = without_ends((await api.http.get(path)).content)
    assert (sent.count(b"data: "), reason) == (last["seq"], "done")
    # A browser that has all of it is told to ask no more.
    response = await api.http.get(path, headers={"last-event-id": str(last["seq"])})
    assert (response.status_code, response.content) == (204, b"")
    # One that has not gets the rest; and whoever only names a number gets the end.
    response = await api.http.get(path, headers={"last-event-id": str(last["seq"] - 1)})
    sent, reason = without_ends(response.content)
    assert (sent.count(b"data: "), reason) == (1, "done")
    response = await api.http.get(path, params={"after": last["seq"]})
    assert without_ends(response.content) == (b"", "done")


async def test_a_run_that_waits_for_a_person_is_over_until_it_goes_on(
    api: Api, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    last = (await api.events(thread))[-1]
    path, headers = f"/runs/{last['run_id']}/stream", {"last-event-id": str(last["seq"])}
    assert (await api.http.get(path, headers=headers)).status_code == 204


async def test_head_opens_no_stream(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    for _ in range(MOST + 1):
        response = await api.http.head(f"/threads/{thread}/events")
        assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Gone("Events were removed.", first=3), "gone"),
        (Unavailable("The disk is away."), "unavailable"),
        (Tampered("Somebody has changed it.", thread_id="t"), "failed"),
        (RuntimeError("swordfish"), "failed"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_the_end_says_why_no_more_events_come(error: Exception, reason: str) -> None:
    connections = Connections(Clock(), most=1, most_per_client=1, stalled=1)
    stream = EventStream(asked(connections), FailingLog(error), dialect=NATIVE)
    sent: asyncio.Queue[Any] = asyncio.Queue()
    with capture_logs() as lines:
        await stream({}, asyncio.Event().wait, sent.put)  # type: ignore[arg-type]
    head, *bodies = (sent.get_nowait() for _ in range(sent.qsize()))
    assert head["status"] == 200
    assert without_ends(b"".join(body["body"] for body in bodies)) == (b"", reason)
    assert [body["more_body"] for body in bodies] == [True, False]
    # An error that nobody has foreseen is for the operator.
    assert [line["event"] for line in lines] == ["a stream failed"] * isinstance(
        error, RuntimeError
    )
    assert not list(connections)


@asynccontextmanager
async def all_taken(api: Api, thread: str) -> AsyncIterator[None]:
    """As many streams as a client may open."""
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(MOST):
            chunks = await stack.enter_async_context(opened(api, f"/threads/{thread}/events"))
            assert (await anext(chunks)).startswith(BEGIN)
            # Its end would be that of the stream.
            streams.append(chunks)
        yield


async def test_whoever_has_too_many_gets_no_other_and_starts_nothing(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    path = f"/threads/{thread}/events"
    before = await api.events(thread)
    async with all_taken(api, thread):
        refused = await api.http.get(path, headers=SSE)
        told = await problem(refused, 429)
        assert told["detail"].startswith(f"You have {MOST} open streams, and may have no more.")
        assert refused.headers["retry-after"] == "10"
        body = {"message": "tell 1", "thread_id": thread}
        await problem(await api.http.post("/agent/stream", json=body), 429)
        assert await api.events(thread) == before
        # Pages, and what is no stream, are there.
        assert (await api.http.post("/agent/invoke", json=body)).status_code == 200

    async def is_free() -> bool:
        async with api.http.stream("GET", path, headers=SSE) as response:
            return response.status_code == 200

    await until(is_free)
    # Nor is room kept for a stream that was refused.
    for _ in range(MOST + 1):
        body = {"message": "tell 1", "agent": "nobody"}
        await problem(await api.http.post("/agent/stream", json=body), 404)


async def test_nobody_opens_more_by_asking_at_once(server: Server, api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    stream = readers.request(f"/threads/{thread}/events")
    socket = readers.handshake(f"/threads/{thread}/ws")
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5 * MOST)]
    for count, (_, writer) in enumerate(opened):
        writer.write(socket if count % 2 else stream)
    statuses = [(await reader.readline()).split()[1] for reader, _ in opened]
    assert Counter(status == b"429" for status in statuses) == {False: MOST, True: 4 * MOST}
    for _, writer in opened:
        writer.transport.abort()
    await api.until_streams(0)
    # What was kept for them is there again.
    async with all_taken(api, thread):
        pass


async def test_a_decision_with_a_stream_is_not_taken_where_there_is_none(
    api: Api, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    decision = {"type": "approve"}
    async with all_taken(api, thread):
        path = f"/threads/{thread}/resume"
        await problem(await api.http.post(path, json=decision, headers=SSE), 429)
        assert len(await api.pending(thread)) == 1
        await api.decided(thread, **decision)


async def test_a_server_that_stops_tells_its_readers(tmp_path: Path) -> None:
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        async with asking(server) as api:
            ended = await api.stream("tell 1", thread_id="idle")
            run = await api.run("busy", "slow 5 then tell 1")
            await api.until("busy", "run_paused")
            await api.decided("busy", type="approve")
            await server.until_traced("slow 5")
            bodies = [
                asyncio.create_task(whole(api, f"/threads/idle/events?after={ended[-1]['seq']}")),
                asyncio.create_task(whole(api, "/threads/busy/events")),
                asyncio.create_task(whole(api, "/approvals/stream")),
            ]
            await api.until_streams(3)
            stopping = asyncio.create_task(asyncio.to_thread(server.terminate))
            await until(lambda: not server.is_listening())
            server.let_go(5)
            assert await stopping in (0, -signal.SIGTERM)
            ends = [without_ends(await body) for body in bodies]
            assert [reason for _, reason in ends] == ["stopping"] * 3
            # The step came to its end, and its reader saw it.
            assert b'"type":"tool_end"' in ends[1][0]
            assert run["run_id"].encode() in ends[1][0]


async def whole(api: Api, path: str) -> bytes:
    response: httpx.Response = await api.http.get(path, headers=SSE)
    return response.content


async def test_whoever_waits_for_a_run_counts_as_a_reader_of_a_stream(
    server: Server, api: Api, thread: str, amount: int
) -> None:
    run = await api.run(thread, f"hold {amount}")
    await server.until_traced(f"hold {amount}")
    join = f"/threads/{thread}/runs/{run['run_id']}/join"
    started = {"assistant_id": "agent", "input": {"messages": "tell 1"}}
    async with AsyncExitStack() as stack:
        # Without what holds whole answers to the document.
        plain = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url))
        waiting = [await stack.enter_async_context(plain.stream("GET", join)) for _ in range(MOST)]
        assert {response.status_code for response in waiting} == {200}
        for path in (f"/threads/{thread}/runs/wait", "/runs/wait"):
            await problem(await plain.post(path, json=started), 429)
        await problem(await plain.get(join), 429)
        server.let_go(amount)
        for response in waiting:
            assert b"held" in await response.aread()
    assert len(await api.runs(thread)) == 1, "what was refused has begun nothing"
    await expect(await api.http.post("/runs/wait", json=started), 200)
