"""What another program changes in an encrypted database while the server is down: nothing of it is
executed when it is up again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.keys import KEY
from tests.support.server import (
    Api,
    Server,
    asking,
    expect,
    only,
    problem,
    scripted_agents,
    serving,
    types_of,
)

STATE = "k IN (SELECT k FROM checkpoint_threads WHERE thread_id = 't')"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(
        tmp_path,
        scripted_agents(tmp_path, "agent"),
        ASSENT_ENCRYPTION_KEY=KEY,
        ASSENT_DRAIN_SECONDS="0.1",
    ) as server:
        yield server


def sql(server: Server, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(server.folder / "assent.db", isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()


def flip(server: Server, table: str, column: str, which: str) -> None:
    """Change one bit of every value."""
    for rowid, value in sql(server, f"SELECT {KEYS[table]}, {column} FROM {table} WHERE {which}"):
        sql(
            server,
            f"UPDATE {table} SET {column} = ? WHERE {KEYS[table]} = ?",
            value[:-1] + bytes([value[-1] ^ 1]),
            rowid,
        )


KEYS = {
    "approvals": "approval_id",
    "effects": "key",
    "runs": "run_id",
    "threads": "thread_id",
    "events": "seq",
    "checkpoints": "number",
    "checkpoint_blobs": "position",
}
LOG = f"position / {1 << 24} IN (SELECT log FROM checkpoint_logs WHERE {STATE})"


async def is_marked(api: Api, thread_id: str) -> None:
    """The thread says that it is in error, and takes nothing more."""
    thread = await api.get(f"/threads/{thread_id}")
    assert (thread["status"], thread["values"]) == ("error", None)
    listed = {each["thread_id"]: each["status"] for each in (await api.get("/threads"))["threads"]}
    assert listed[thread_id] == "error"
    for again in (
        await api.resume(thread_id, type="approve"),
        await api.http.post("/agent/stream", json={"message": "look 9", "thread_id": thread_id}),
    ):
        told = await problem(again, 500)
        assert (told["title"], told["type"]) == ("Tampered", "urn:assent:problem:tampered")


async def others_go_on(api: Api) -> None:
    """A thread that nobody touched takes its decision, and new ones begin."""
    await api.decided("other", type="approve")
    assert await api.last_words("other") == "Results: paid 7"
    assert types_of(await api.stream("look 8"))[-1] == "done"
    await expect(await api.http.get("/health"), 200)


@pytest.mark.parametrize(
    ("table", "column", "which"),
    [
        ("approvals", "args", "thread_id = 't'"),
        ("approvals", "decision", "thread_id = 't'"),
        ("threads", "metadata", "thread_id = 't'"),
    ],
)
async def test_a_decision_on_what_was_changed_is_refused(
    server: Server, table: str, column: str, which: str
) -> None:
    async with asking(server) as api:
        (approval,) = await api.paused("pay 5", thread_id="t")
        await api.paused("pay 7", thread_id="other")
        server.terminate()
        flip(server, table, column, which)
        server.start()
        told = await problem(
            await api.resume("t", decisions={approval["approval_id"]: {"type": "approve"}}), 500
        )
        assert told["title"] == "Tampered"
        assert told["thread_id"] == "t"
        await is_marked(api, "t")
        await others_go_on(api)
    assert server.traces("pay") == ["pay 7"]


async def test_arguments_in_the_clear_are_refused_too(server: Server) -> None:
    async with asking(server) as api:
        (approval,) = await api.paused("pay 5", thread_id="t")
        server.terminate()
        sql(server, """UPDATE approvals SET args = '{"amount": 5000}'""")
        server.start()
        await problem(
            await api.http.post(
                f"/approvals/{approval['approval_id']}/decide", json={"type": "approve"}
            ),
            500,
        )
        assert (await api.get("/approvals"))["approvals"] == []
        await is_marked(api, "t")
    assert server.traces() == []


@pytest.mark.parametrize(
    ("table", "column", "which"),
    [
        ("checkpoint_blobs", "body", LOG),
        ("checkpoints", "body", STATE),
        ("checkpoints", "metadata", STATE),
    ],
)
async def test_a_state_that_was_changed_takes_no_decision(
    server: Server, table: str, column: str, which: str
) -> None:
    async with asking(server) as api:
        await api.paused("pay 5", thread_id="t")
        await api.paused("pay 7", thread_id="other")
        server.terminate()
        flip(server, table, column, which)
        server.start()
        # The row of the question is still what it was; what it asks about is not.
        await problem(await api.resume("t", type="approve"), 500)
        await is_marked(api, "t")
        assert "tool_start" not in types_of(await api.events("t"))
        await others_go_on(api)
    assert server.traces("pay") == ["pay 7"]


def _after(decided: Any) -> int:
    return int(decided["events"].rpartition("=")[2])


@pytest.mark.parametrize(
    ("table", "column", "which"),
    [
        ("runs", "input", "thread_id = 't' AND status = 'running'"),
        ("threads", "metadata", "thread_id = 't'"),
        ("effects", "outcome", "thread_id = 't'"),
        ("checkpoint_blobs", "body", LOG),
        ("checkpoints", "body", STATE),
        ("events", "body", "thread_id = 't' AND type = 'tool_start'"),
    ],
)
async def test_a_start_goes_on_with_no_run_that_was_changed(
    server: Server, table: str, column: str, which: str
) -> None:
    async with asking(server) as api:
        await api.paused("slow 5", thread_id="t")
        await api.paused("pay 7", thread_id="other")
        decided = await api.decided("t", type="approve")
        await api.until("t", "tool_start", after=_after(decided))
        server.kill()
        flip(server, table, column, which)
        before = server.traces("slow")
        server.start()
        async with asking(server) as api:
            thread = await api.at_rest("t")
            assert thread["status"] == "error"
            await is_marked(api, "t")
            if table != "events":
                assert (
                    only(await api.events("t", after=_after(decided)), "error")["code"]
                    == "tampered"
                )
            await others_go_on(api)
    assert server.traces("slow") == before


async def test_of_two_decisions_neither_counts_if_one_was_changed(server: Server) -> None:
    async with asking(server) as api:
        first, second = await api.paused("pay 5; slow 6", thread_id="t")
        await api.decided("t", decisions={first["approval_id"]: {"type": "approve"}})
        decided = await api.decided("t", decisions={second["approval_id"]: {"type": "approve"}})
        await api.until("t", "tool_end", after=_after(decided))
        server.kill()
        # As if the process had been killed before it began: nothing of the run but its row.
        sql(server, f"DELETE FROM checkpoints WHERE {STATE} AND run_id = ?", decided["run_id"])
        sql(server, "DELETE FROM effects")
        flip(server, "approvals", "decision", f"approval_id = '{first['approval_id']}'")
        before = server.traces()
        server.start()
        assert (await api.at_rest("t"))["status"] == "error"
        await is_marked(api, "t")
    assert server.traces() == before


async def test_a_page_of_events_that_were_changed_is_a_problem_and_a_stream_ends_before_them(
    server: Server,
) -> None:
    async with asking(server) as api:
        events = await api.stream("look 3", thread_id="t")
        server.terminate()
        flip(server, "events", "body", "thread_id = 't' AND seq = 4")
        server.start()
        async with api.following("t") as told:
            assert [event["seq"] async for event in told] == [1, 2, 3]
        for accept in ("text/event-stream", "application/json"):
            response = await api.http.get(
                "/threads/t/events", params={"after": 3}, headers={"accept": accept}
            )
            assert (await problem(response, 500))["name"] == 4
        await is_marked(api, "t")
        assert [event["seq"] for event in await api.events("t", after=4)] == [
            each["seq"] for each in events[4:]
        ] + [len(events) + 1]


async def test_what_is_found_while_a_run_is_active_stops_it(server: Server) -> None:
    async with asking(server) as api:
        await api.stream("look 3", thread_id="t")
        await api.paused("slow 5", thread_id="t")
        server.terminate()
        flip(server, "events", "body", "thread_id = 't' AND seq = 2")
        server.start()
        decided = await api.decided("t", type="approve")
        await api.until("t", "tool_start", after=_after(decided))
        await problem(
            await api.http.get(
                "/threads/t/events", params={"after": 1}, headers={"accept": "application/json"}
            ),
            500,
        )
        assert (
            only(await api.until("t", "error", after=_after(decided)), "error")["code"]
            == "tampered"
        )
        await is_marked(api, "t")


async def test_a_server_without_the_key_says_what_to_do(server: Server) -> None:
    async with asking(server) as api:
        await api.paused("pay 5", thread_id="t")
    server.terminate()
    with (
        pytest.raises(AssertionError, match="is encrypted, with the key '2026', and no key is set"),
        serving(server.folder, scripted_agents(server.folder, "agent")),
    ):
        pass
    assert KEY.partition(":")[2] not in server.output
