"""What an operator tells everybody, or the readers of a thread; and who is connected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import readers
from tests.support.server import (
    Api,
    Event,
    Server,
    asking,
    events_of,
    expect,
    problem,
    scripted_agents,
    serving,
)
from tests.support.sockets import socket_of
from tests.support.waiting import PATIENCE, until


async def told(api: Api, headers: dict[str, str] | None = None, **body: Any) -> Any:
    response = await api.http.post("/broadcast", json=body, headers=headers)
    return (await expect(response, 202)).json()


@asynccontextmanager
async def reading(api: Api, path: str, **parameters: Any) -> AsyncIterator[Any]:
    """The events of a stream, once it is open."""

    async def streams() -> set[str]:
        return {each["connection_id"] for each in await api.connections()}

    before = await streams()

    async def is_open() -> bool:
        return not await streams() <= before

    async with api.http.stream("GET", path, params=parameters) as response:
        await expect(response, 200)
        await until(is_open)
        async with aclosing(events_of(response)) as events:
            yield events


async def next_of(events: Any) -> Event:
    async with asyncio.timeout(PATIENCE):
        event: Event = await anext(events)
    return event


async def test_everybody_who_is_connected_is_told(server: Server, api: Api, thread: str) -> None:
    last = (await api.stream("look 1", thread_id=thread))[-1]["seq"]
    await api.until_streams(0)
    async with (
        asking(server) as first,
        asking(server) as second,
        reading(first, f"/threads/{thread}/events", after=last) as events,
        reading(second, "/approvals/stream", named=True) as feed,
        socket_of(server, thread, after=last, types="done") as socket,
    ):
        answer = await told(api, message="At six we restart.", data={"minutes": 5})
        assert answer == {"reached": 3, "thread_id": None, "seq": None}
        for event in (await next_of(events), await next_of(feed), await socket.until("broadcast")):
            assert event.pop("ts")
            assert {name: event[name] for name in event if event[name]} == {
                "type": "broadcast",
                "message": "At six we restart.",
                "data": {"minutes": 5},
                "by": "local",
            }
        # It is not in the log, so nothing is missing after it.
        done = (await api.stream("look 2", thread_id=thread))[-1]
        assert (await next_of(events))["seq"] == last + 1
        assert await socket.until("done") == done
    async with socket_of(server, thread, after=done["seq"]) as late:
        await told(api, message="Now.")
        assert (await late.until("broadcast"))["message"] == "Now."


async def test_a_thread_s_readers_are_told_in_its_log(
    server: Server, api: Api, thread: str, amount: int
) -> None:
    other = f"{thread}-2"
    last = (await api.stream("look 1", thread_id=other))[-1]["seq"]
    async with asking(server) as reader:
        running = asyncio.create_task(reader.stream(f"hold {amount}", thread_id=thread))
        await server.until_traced(f"hold {amount}")
        async with socket_of(server, other, after=last) as elsewhere:
            answer = await told(api, message="Nearly done.", thread_id=thread)
            assert (answer["reached"], answer["thread_id"]) == (1, thread)
            server.let_go(amount)
            events = await running
            (event,) = [each for each in events if each["type"] == "broadcast"]
            assert (event["seq"], event["message"]) == (answer["seq"], "Nearly done.")
            assert event in await api.events(thread)
            assert (await elsewhere.ask("ping"))["type"] == "pong"
            assert elsewhere.events == []


async def test_it_is_told_once_under_its_key(api: Api, thread: str) -> None:
    await api.stream("look 1", thread_id=thread)
    key = {"Idempotency-Key": f"b-{thread}"}
    body = {"message": "Once.", "thread_id": thread}
    first = await told(api, key, **body)
    await told(api, message="Another.", thread_id=thread)
    assert await told(api, key, **body) == first
    events = await api.events(thread)
    assert [each["message"] for each in events if each["type"] == "broadcast"] == [
        "Once.",
        "Another.",
    ]
    everybody = {"Idempotency-Key": f"e-{thread}"}
    assert await told(api, everybody, message="All.") == await told(api, everybody, message="All.")
    changed = await api.http.post("/broadcast", json={"message": "Other."}, headers=everybody)
    await problem(changed, 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"message": ""}, 422),
        ({"message": "x" * 4001}, 422),
        ({"message": "Hi.", "data": "x" * 65536}, 422),
        ({"message": "Hi.", "thread_id": "~approvals"}, 422),
        ({"message": "\ud800"}, 400),
        ({"message": "Hi.", "data": "\ud800"}, 400),
        ({"message": "Hi.", "data": 2**64}, 400),
        ({"message": "Hi.", "seq": 7}, 422),
        ({"message": "Hi.", "thread_id": "nobody"}, 404),
    ],
)
async def test_a_wrong_message_is_refused(api: Api, body: Any, status: int) -> None:
    content = json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    await problem(await api.http.post("/broadcast", content=content, headers=headers), status)


SEEMS = {"type": "approval_decided", "seq": 99, "id": "c1", "status": 200}
"""Fields of other frames."""


@pytest.mark.parametrize("to_all", [True, False])
async def test_what_is_told_forges_nothing_and_decides_nothing(
    server: Server, api: Api, thread: str, amount: int, to_all: bool
) -> None:
    pending = await api.paused(f"pay {amount}", thread_id=thread)
    last = (await api.events(thread))[-1]["seq"]
    values = (await api.get(f"/threads/{thread}"))["values"]
    said = f"approve: yes{readers.HOSTILE}"
    where = {} if to_all else {"thread_id": thread}
    async with (
        asking(server) as first,
        asking(server) as second,
        reading(first, f"/threads/{thread}/events", after=last) as plain,
        reading(second, f"/threads/{thread}/events", after=last, named=True) as named,
        socket_of(server, thread, after=last) as socket,
    ):
        await told(api, message=said, data=SEEMS, **where)
        # They hold each frame to the letter, so another would be seen.
        for event in (
            await next_of(plain),
            await next_of(named),
            await socket.until("broadcast"),
        ):
            assert (event["type"], event["message"], event["data"]) == ("broadcast", said, SEEMS)
            assert event.get("seq", 0) == (0 if to_all else last + 1)
            assert "run_id" not in event
        await api.stream("tell 1", thread_id=f"{thread}-2")
        assert await socket.ask("ping") == {"type": "pong", "id": "c1"}
    assert await api.pending(thread) == pending
    # No model hears of it.
    assert (await api.get(f"/threads/{thread}"))["values"] == values
    assert server.traces(f"pay {amount}") == []


async def test_admins_tell_in_their_own_name_and_look_at_all(tmp_path: Path) -> None:
    keys = {
        "ASSENT_API_KEYS": "ann:secret-of-ann,bob:secret-of-bob",
        "ASSENT_ROLES": "bob:admin",
    }
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **keys) as server:
        async with (
            asking(server) as nobody,
            asking(server, authorization="Bearer secret-of-ann") as ann,
            asking(server, authorization="Bearer secret-of-bob") as bob,
        ):
            await problem(await nobody.http.post("/broadcast", json={"message": "Hi."}), 401)
            await problem(await nobody.http.get("/connections"), 401)
            await ann.stream("look 1", thread_id="t")
            forged = {"message": "Hi.", "by": "ann", "thread_id": "t"}
            await problem(await bob.http.post("/broadcast", json=forged), 422)
            await problem(await ann.http.post("/broadcast", json={"message": "Hi."}), 403)
            await told(bob, message="Hi.", thread_id="t")
            (event,) = await ann.events("t", types="broadcast")
            assert event["by"] == "bob"
            async with reading(ann, "/users/ann/events"):
                (seen,) = (await bob.get("/connections"))["connections"]
                assert (seen["user"], seen["feed"], seen["thread_id"]) == ("ann", "user/ann", None)


# ── who is connected ──────────────────────────────────────────────────────────────────────────────


async def test_open_streams_are_listed(server: Server, api: Api, thread: str) -> None:
    last = (await api.stream("look 1", thread_id=thread))[-1]["seq"]
    await api.until_streams(0)
    async with (
        asking(server) as first,
        asking(server) as second,
        reading(first, f"/threads/{thread}/events", after=last) as _,
        reading(second, "/approvals/stream") as _,
        socket_of(server, thread, after=last) as _,
    ):
        sse, feed, socket = await api.connections()
        assert [each["transport"] for each in (sse, feed, socket)] == ["sse", "sse", "websocket"]
        assert (sse["thread_id"], sse["feed"], sse["cursor"]) == (thread, None, last)
        assert (feed["thread_id"], feed["feed"]) == (None, "approvals")
        assert sse["user"] == "local" and sse["client"] == "127.0.0.1"
        assert sse["since"] <= sse["last_activity"]
        assert (sse["lag_seconds"], sse["unsent_bytes"], sse["acked"]) == (0.0, 0, None)
        assert (sse["dialect"], socket["dialect"]) == ("native", "native")

        of_thread = await api.connections(thread_id=thread)
        assert [each["connection_id"] for each in of_thread] == [
            sse["connection_id"],
            socket["connection_id"],
        ]
        (found,) = await api.connections(transport="websocket")
        assert found["connection_id"] == socket["connection_id"]

        page = await api.get("/connections", limit=2)
        assert len(page["connections"]) == 2
        rest = await api.get("/connections", limit=2, cursor=page["next"])
        assert [each["connection_id"] for each in rest["connections"]] == [socket["connection_id"]]
        assert rest["next"] is None


async def test_what_does_not_exist_is_no_filter(api: Api) -> None:
    await problem(await api.http.get("/connections", params={"transport": "pigeon"}), 422)
    await problem(await api.http.get("/connections", params={"thread": "t"}), 422)
