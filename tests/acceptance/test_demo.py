"""The issue's first example, as a newcomer sees it: the demo's clerk on the real server, with a
database that can be looked into."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.server import Server, asking, events_of, only, serving, types_of, without_tokens

ASK = "Delete all records older than 2015"


def sql(server: Server, query: str) -> Any:
    """One value, asked for with plain SQL on the records' own file."""
    with closing(sqlite3.connect(server.folder / "records.db")) as records:
        return records.execute(query).fetchone()[0]


async def test_delete_all_records_older_than_2015(tmp_path: Path) -> None:
    with serving(tmp_path, cold=True) as server:
        old = sql(server, "SELECT count(*) FROM records WHERE year < 2015")
        all_of_them = sql(server, "SELECT count(*) FROM records")
        assert 1000 < old < all_of_them

        async with (
            asking(server) as api,
            api.http.stream(
                "POST", "/agent/stream", json={"message": ASK, "thread_id": "demo"}
            ) as response,
        ):
            events = [event async for event in events_of(response)]
            assert types_of(events).count("token") > 5
            assert without_tokens(events) == ["run_start", "approval_required", "run_paused"]
            asked = only(events, "approval_required")
            assert (asked["tool"], asked["args"]) == ("delete_records", {"before_year": 2015})
            assert asked["preview"]["records"] == old
            assert asked["preview"]["sql"] == "DELETE FROM records WHERE year < ?"

            assert sql(server, "SELECT count(*) FROM records") == all_of_them
            assert (await api.get("/threads/demo"))["status"] == "interrupted"

            # The person takes their time, and the machine is restarted meanwhile.
            server.restart()
            (approval,) = await api.pending("demo")
            assert approval["preview"]["records"] == old

            answer = await api.decided("demo", type="approve")
            assert answer["status"] == "running"
            resumed = await api.until("demo", "done", after=events[-1]["seq"])
            assert without_tokens(resumed) == [
                "approval_decided",
                "run_resumed",
                "tool_start",
                "tool_end",
                "done",
            ]
            words = "".join(event["content"] for event in resumed if event["type"] == "token")
            assert (
                words
                == f"I deleted {old} records from before 2015. {all_of_them - old} records remain."
            )
            assert sql(server, "SELECT count(*) FROM records") == all_of_them - old
            assert sql(server, "SELECT min(year) FROM records") == 2015
            assert await api.pending("demo") == []


async def test_a_rejected_deletion_leaves_every_record(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        before = sql(server, "SELECT group_concat(id || title || year || status, ' ') FROM records")
        async with asking(server) as api:
            await api.paused(ASK, thread_id="demo")
            await api.decided("demo", type="reject", message="The auditors still need them.")
            assert "The auditors still need them." in await api.last_words("demo")
        assert (
            sql(server, "SELECT group_concat(id || title || year || status, ' ') FROM records")
            == before
        )
