"""A thread's WebSocket over a real server: each frame, each code, and what does not get in."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from assent.api.dialects.native import NATIVE
from assent.api.streams.connections import Connections, Transport
from assent.api.streams.encoder import ws_text
from assent.api.streams.requests import Reply, Requests
from assent.api.streams.sending import Outlet, connection_of
from assent.api.streams.speech import NativeSpeech
from assent.api.streams.websocket import Socket as ServersSocket
from assent.core.clock import Clock
from assent.core.errors import Gone, Unavailable
from assent.core.json import Json
from assent.runs.follow import Batches, Following
from assent.runs.service import Runs
from tests.support.failing_log import NO_STORAGE, FailingLog, asked
from tests.support.server import Api, Server, asking, expect, problem, scripted_agents, serving
from tests.support.sockets import socket_of
from tests.support.waiting import PATIENCE, until

MIB = 1 << 20
END = ("done", "error", "run_paused", "run_cancelled")


async def new_thread(api: Api, thread: str) -> str:
    await expect(await api.http.post("/threads", json={"thread_id": thread}), 200)
    return thread


async def shown(api: Api, thread: str) -> Any:
    (found,) = await api.connections(thread_id=thread)
    return found


async def refusal(server: Server, path: str, **headers: str) -> httpx.Response:
    """What a handshake gets that is denied."""
    sent = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        **headers,
    }
    async with asking(server) as api:
        return await api.http.get(path, headers=sent)


# ── to the client ─────────────────────────────────────────────────────────────────────────────────


async def test_it_has_the_events_of_the_log_past_the_cursor(
    server: Server, api: Api, thread: str
) -> None:
    await api.stream("look 1", thread_id=thread)
    async with socket_of(server, thread) as socket:
        await socket.until(*END)
        assert socket.events == await api.events(thread)
        await api.stream("tell 5", thread_id=thread)
        await socket.until(*END)
        assert socket.events == await api.events(thread)
    async with socket_of(server, thread, after=3) as socket:
        await socket.until("done")
        assert socket.events[0]["seq"] == 4


async def test_it_is_filtered_from_the_start_and_anew(
    server: Server, api: Api, thread: str
) -> None:
    await api.stream("look 1", thread_id=thread)
    everything = await api.events(thread)
    async with socket_of(server, thread, types="run_start,done") as socket:
        await socket.until("done")
        assert [event["type"] for event in socket.events] == ["run_start", "done"]
        after = everything[-1]["seq"]
        body = await socket.done("filter", types=["tool_start", "done"])
        assert body == {"types": ["done", "tool_start"], "after": after}
        await api.stream("look 2", thread_id=thread)
        await socket.until("done")
        assert [event["type"] for event in socket.events[2:]] == ["tool_start", "done"]
        assert (await socket.done("filter", types=None))["types"] is None
        last = (await api.stream("look 3", thread_id=thread))[-1]["seq"]
        after = socket.events[-1]["seq"]
        await socket.until("done")
        numbers = [event["seq"] for event in socket.events if event["seq"] > after]
        assert numbers == list(range(after + 1, last + 1))


async def test_a_quiet_connection_ticks_and_answers_pings(tmp_path: Path) -> None:
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), ASSENT_HEARTBEAT="0.1") as server:
        async with asking(server) as api:
            await new_thread(api, "t")
        async with socket_of(server, "t") as socket:
            assert socket.connection.response is not None
            assert socket.connection.response.headers["x-heartbeat"] == "0.1"
            for _ in range(3):
                assert await socket.next() == {"type": "tick"}
            assert await socket.ask("ping") == {"type": "pong", "id": "c1"}
            await socket.send("ping", id=None)
            assert await socket.until("pong") == {"type": "pong", "id": None}


# ── commands ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_message_is_sent_and_decided_on(
    server: Server, api: Api, thread: str, amount: int
) -> None:
    await new_thread(api, thread)
    async with socket_of(server, thread) as socket:
        run = await socket.done("message", message=f"pay {amount}", agent="agent")
        assert run == {**await api.get(f"/runs/{run['run_id']}"), **_moving(run)}
        await socket.until("run_paused")
        (approval,) = await api.pending(thread)

        wrong = {"type": "approve", "digest": "0" * 64}
        id = approval["approval_id"]
        changed = await socket.refused(409, "decide", decisions={id: wrong})
        assert changed["title"] == "Superseded"
        assert server.traces(f"pay {amount}") == []
        right = {"type": "approve", "digest": approval["digest"]}
        outcome = await socket.done("decide", decisions={id: right})
        assert outcome["decisions"][id]["status"] == "approved"
        await socket.until("done")
        assert server.traces(f"pay {amount}") == [f"pay {amount}"]
        again = await socket.refused(409, "decide", decisions={id: right})
        assert again["title"] in ("Already Decided", "Nothing Pending")


def _moving(run: Any) -> dict[str, Any]:
    """What may have changed of the run since."""
    return {name: run[name] for name in ("status", "started_at", "ended_at", "usage", "attempt")}


async def test_one_bare_decision_is_enough(
    server: Server, api: Api, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    async with socket_of(server, thread) as socket:
        await socket.done("decide", decisions={"type": "reject", "message": "No."})
        await socket.until("done")
    assert server.traces(f"pay {amount}") == []


async def test_a_message_to_a_paused_thread_decides_nothing(
    server: Server, api: Api, thread: str, amount: int
) -> None:
    approvals = await api.paused(f"pay {amount}", thread_id=thread)
    async with socket_of(server, thread) as socket:
        refused = await socket.refused(409, "message", message="Yes, approved.")
        assert [each["approval_id"] for each in refused["approvals"]] == [
            each["approval_id"] for each in approvals
        ]
    assert await api.pending(thread) == approvals


async def test_a_run_is_cancelled(server: Server, api: Api, thread: str, amount: int) -> None:
    await new_thread(api, thread)
    async with socket_of(server, thread) as socket:
        run = await socket.done("message", message=f"hold {amount}", agent="agent")
        await server.until_traced(f"hold {amount}")
        other = await api.run(f"{thread}-2", "look 1")
        await socket.refused(404, "cancel", run_id=other["run_id"])
        answer = await socket.ask("cancel", run_id=run["run_id"])
        assert (answer["status"], len(answer["body"]["runs"])) == (202, 1)
        server.let_go(amount)
        await socket.until("run_cancelled")
        assert (await socket.ask("cancel"))["body"] == {"thread_id": thread, "runs": []}


async def test_a_request_has_one_answer_over_both_transports(
    server: Server, api: Api, thread: str, amount: int
) -> None:
    await new_thread(api, thread)
    key = {"Idempotency-Key": f"m-{thread}"}
    message = {"message": f"pay {amount}", "agent": "agent"}
    async with socket_of(server, thread) as socket:
        run = await socket.done("message", **message, idempotency_key=f"m-{thread}")
        body = {**message, "thread_id": thread}
        again = await api.http.post("/agent/runs", json=body, headers=key)
        assert again.json()["run_id"] == run["run_id"]
        await socket.until("run_paused")
        (approval,) = await api.pending(thread)

        decisions = {approval["approval_id"]: {"type": "approve", "digest": approval["digest"]}}
        key = {"Idempotency-Key": f"d-{thread}"}
        outcome = await socket.done("decide", decisions=decisions, idempotency_key=f"d-{thread}")
        path = f"/threads/{thread}/resume"
        posted = await api.http.post(path, json={"decisions": decisions}, headers=key)
        assert posted.json() == outcome
        other = {approval["approval_id"]: {"type": "reject"}}
        await socket.refused(422, "decide", decisions=other, idempotency_key=f"d-{thread}")
        await socket.until("done")
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_an_acknowledgement_is_shown(server: Server, api: Api, thread: str) -> None:
    last = (await api.stream("look 1", thread_id=thread))[-1]["seq"]
    async with socket_of(server, thread) as socket:
        await socket.until("done")
        assert (await shown(api, thread))["acked"] is None
        for seq, acked in ((last, last), (2, last)):
            await socket.send("ack", seq=seq)
            await socket.ask("ping")
            listed = await shown(api, thread)
            assert (listed["acked"], listed["cursor"], listed["transport"]) == (
                acked,
                last,
                "websocket",
            )
        await socket.refused(422, "ack", seq=last + 1)


# ── codes ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "is_text", "code"),
    [
        (b"binary", False, 1003),
        (b"\xff\xfe", True, 1007),
        (b"no JSON", True, 1008),
        (b'{"type": "approve"}', True, 1008),
        (b'{"type": "ping", "id": "%s"}' % (b"x" * MIB), True, 1009),
    ],
    ids=["binary", "no UTF-8", "no JSON", "no command", "too large"],
)
async def test_what_is_no_command_ends_the_connection(
    server: Server, api: Api, thread: str, sent: bytes, is_text: bool, code: int
) -> None:
    await new_thread(api, thread)
    async with socket_of(server, thread) as socket:
        await socket.connection.send(sent, text=is_text)
        if code == 1008:
            assert (await socket.next())["id"] is None
        assert await socket.closed() == code


async def test_a_frame_may_be_as_large_as_a_body(server: Server, api: Api, thread: str) -> None:
    await new_thread(api, thread)
    async with socket_of(server, thread) as socket:
        frame = json.dumps({"type": "ping", "id": "x", "y": ""})
        await socket.connection.send(frame.replace('""', f'"{"y" * (MIB - len(frame))}"'))
        assert (await socket.next())["status"] == 422


async def test_twenty_mistakes_in_a_row_end_the_connection(
    server: Server, api: Api, thread: str
) -> None:
    await new_thread(api, thread)
    async with socket_of(server, thread) as socket:
        for _ in range(19):
            await socket.refused(422, "ack", seq=-1)
        await socket.ask("ping")
        for _ in range(20):
            await socket.refused(422, "ack", seq=-1)
        assert await socket.closed() == 1008


async def test_a_reader_who_misses_events_that_were_removed_is_told(
    server: Server, api: Api, thread: str
) -> None:
    words = "€" * 190_000
    for _ in range(10):
        last = (await api.stream(f"look 1 {words}", thread_id=thread))[-1]["seq"]
    async with socket_of(server, thread) as socket:
        # By now it is behind, since what it does not read does not fit on its way.
        await expect(await api.http.delete(f"/threads/{thread}"), 204)
        assert (await socket.until("problem"))["status"] == 410
        assert await socket.closed() == 1008
        numbers = [event["seq"] for event in socket.events]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) < last


class Stopping(Following):
    """A log that ends because the server stops."""

    def __init__(self) -> None:
        super().__init__(NO_STORAGE, "t")
        self.end = asyncio.Event()

    async def batches(self) -> Batches:
        yield ()
        await self.end.wait()
        self.ended = "stopping"


class AnyThread:
    """Finds any thread."""

    async def __call__(self, thread_id: str) -> None: ...


def closing(following: Following, requests: Requests | None = None) -> ServersSocket:
    """The server's side of a WebSocket."""
    request = asked(Connections(Clock(), most=1, most_per_client=1, stalled=1))
    connection = connection_of(request, following, Transport.WEBSOCKET, NATIVE, ws_text)
    runs = cast(Runs, SimpleNamespace(thread=AnyThread()))
    speech = NativeSpeech(cast(Requests, requests), runs, "/threads/t/ws")
    return ServersSocket(Outlet(request, connection), speech)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Gone("Events were removed.", first=3), 410, 1008),
        (Unavailable("The disk is away."), 503, 1013),
        (RuntimeError("swordfish"), 500, 1011),
    ],
)
async def test_the_code_says_why_no_more_events_come(
    error: Exception, status: int, code: int
) -> None:
    sent: asyncio.Queue[Any] = asyncio.Queue()
    await closing(FailingLog(error)).run(asyncio.Event().wait, sent.put)  # type: ignore[arg-type]
    accept, ready, problem, close = (sent.get_nowait() for _ in range(4))
    assert accept["type"] == "websocket.accept" and '"ready"' in ready["text"]
    assert json.loads(problem["text"])["status"] == status
    assert "swordfish" not in problem["text"]
    assert close == {"type": "websocket.close", "code": code}
    assert sent.empty()


class Slow(Requests):
    """Requests that take until `answered`."""

    def __init__(self) -> None:
        self.begun, self.answered = asyncio.Event(), asyncio.Event()

    async def post(self, path: str, body: Json, key: str | None) -> Reply:
        self.begun.set()
        await self.answered.wait()
        return Reply(202, {"path": path})


async def test_a_command_at_work_is_answered_before_the_server_says_that_it_stops() -> None:
    following, requests = Stopping(), Slow()
    received: asyncio.Queue[Any] = asyncio.Queue()
    sent: asyncio.Queue[Any] = asyncio.Queue()
    received.put_nowait({"type": "websocket.receive", "text": '{"type": "cancel"}'})
    running = asyncio.create_task(closing(following, requests).run(received.get, sent.put))
    async with asyncio.timeout(PATIENCE):
        await requests.begun.wait()
        following.end.set()
        await asyncio.sleep(0.01)
        assert not running.done()
        requests.answered.set()
        await running
    _, _, answer, close = (sent.get_nowait() for _ in range(4))
    assert json.loads(answer["text"])["body"] == {"path": "/threads/t/cancel"}
    assert close == {"type": "websocket.close", "code": 1012}


async def test_a_server_that_stops_shows_a_run_to_its_end(tmp_path: Path) -> None:
    target = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, target, ASSENT_DRAIN_SECONDS="30") as server:
        async with asking(server) as api:
            await new_thread(api, "t")
        async with socket_of(server, "t") as socket, socket_of(server, "t") as idle:
            await socket.done("message", message="hold 1")
            await server.until_traced("hold 1")
            stopping = asyncio.create_task(asyncio.to_thread(server.terminate))
            await until(lambda: not server.is_listening())
            server.let_go(1)
            await socket.until("tool_end")
            assert await socket.closed() == 1012
            assert await idle.closed() == 1012
            assert await stopping == -signal.SIGTERM
            assert idle.events == socket.events


# ── the handshake ─────────────────────────────────────────────────────────────────────────────────


async def test_a_handshake_is_refused_as_a_request_is(
    server: Server, api: Api, thread: str
) -> None:
    await new_thread(api, thread)
    for path, status in (
        (f"/threads/{thread}-2/ws", 404),
        ("/threads/~approvals/ws", 422),
        (f"/threads/{thread}/ws?after=99", 410),
        (f"/threads/{thread}/ws?afetr=9", 422),
        (f"/threads/{thread}/ws?types=dnoe", 422),
    ):
        await problem(await refusal(server, path), status)
    await problem(await refusal(server, f"/threads/{thread}/ws", host="evil.example"), 421)
    evil = {"origin": "https://evil.example"}
    await problem(await refusal(server, f"/threads/{thread}/ws", **evil), 403)
    plain = await problem(await api.http.get(f"/threads/{thread}/ws"), 426)
    assert plain["title"] == "Upgrade Required"
    assert (await api.http.get(f"/threads/{thread}/ws")).headers["upgrade"] == "websocket"
    assert "[error" not in server.output


async def test_a_server_with_keys_needs_one_and_counts_streams_by_it(tmp_path: Path) -> None:
    keys = {"ASSENT_API_KEYS": "ann:secret-of-ann,bob:secret-of-bob"}
    target = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, target, **keys, ASSENT_MAX_STREAMS_PER_CLIENT="2") as server:
        ann = {"authorization": "Bearer secret-of-ann"}
        async with asking(server, **ann) as api:
            await new_thread(api, "t")
            with pytest.raises(InvalidStatus) as refused:
                async with socket_of(server, "t"):
                    pass
            assert refused.value.response.status_code == 401
            assert b"needs a key" in refused.value.response.body
            async with (
                socket_of(server, "t", headers=ann) as socket,
                socket_of(server, "t", headers=ann),
            ):
                await problem(await refusal(server, "/threads/t/ws", **ann), 429)
                bob = {"authorization": "Bearer secret-of-bob"}
                # It is hers, and he is told of none.
                await problem(await refusal(server, "/threads/t/ws", **bob), 404)
                await socket.done("message", message="pay 1")
                await socket.until("run_paused")
                (approval,) = await api.pending("t")
                assert approval["requested_by"] == ["ann"]
            # Their clients learn of the end a moment before the server has counted it.
            await api.until_streams(0, thread_id="t")
            async with socket_of(server, "t", headers=ann):
                pass


async def test_a_client_that_leaves_is_not_connected(server: Server, api: Api, thread: str) -> None:
    await new_thread(api, thread)
    async with socket_of(server, thread) as socket:
        assert len(await api.connections(thread_id=thread)) == 1
        await socket.connection.close()
        assert await socket.closed() == 1000
    async with socket_of(server, thread) as lost:
        lost.connection.transport.abort()
        await api.until_streams(0, thread_id=thread)
