"""Schedules of the real server, which is killed while they are due: one run for each time, and what
was missed is treated as was agreed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Api, Server, asking, expect, scripted_agents, serving
from tests.support.waiting import until

KILLS = 6


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        yield server


async def made(api: Api, **body: Any) -> Any:
    return (
        await expect(await api.http.post("/schedules", json={"message": "look 7", **body}), 201)
    ).json()


def nothing_runs(server: Server) -> bool:
    active = "SELECT 1 FROM runs WHERE status IN ('pending', 'running', 'cancelling')"
    return not server.sql(active)


async def test_each_time_has_one_run_however_often_the_server_is_killed(server: Server) -> None:
    """Every second is a time, so that each kill falls into one; no pause is long enough for a time
    to be missed."""
    async with asking(server) as api:
        schedules = [
            await made(api, cron="* * * * * *"),
            await made(api, cron="* * * * * *", thread_id="t", on_busy="interrupt"),
        ]
        begun = datetime.now(UTC) + timedelta(seconds=1)
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.3, 1.8))
            await asyncio.to_thread(server.restart)
        # As many times as kills may take longer, if the lives were short or many were busy at once.
        enough = "SELECT schedule_id FROM runs GROUP BY 1 HAVING count(DISTINCT due_at) > ?"
        restarted_at = datetime.now(UTC).isoformat()
        await until(lambda: server.sql("SELECT 1 FROM runs WHERE due_at > ?", restarted_at))
        await until(lambda: len(server.sql(enough, KILLS)) == len(schedules))
        for schedule in schedules:
            await expect(
                await api.http.patch(
                    f"/schedules/{schedule['schedule_id']}", json={"enabled": False}
                ),
                200,
            )
        await until(lambda: nothing_runs(server))
        for schedule in schedules:
            found = server.sql(
                "SELECT due_at, created_at, status FROM runs WHERE schedule_id = ?",
                schedule["schedule_id"],
            )
            times = sorted(datetime.fromisoformat(due_at) for due_at, _, _ in found)
            assert Counter(times).most_common(1)[0][1] == 1
            assert len(times) > KILLS
            # None is left out either.
            assert times == [times[0] + timedelta(seconds=second) for second in range(len(times))]
            assert times[0] <= begun + timedelta(seconds=1)
            assert all(due_at <= created_at for due_at, created_at, _ in found)
        assert {
            status
            for (status,) in server.sql("SELECT DISTINCT status FROM runs WHERE thread_id != 't'")
        } == {"success"}
    assert "Traceback" not in server.output


@pytest.mark.parametrize(("if_missed", "count"), [("once", 1), ("skip", 0)])
async def test_times_that_the_server_slept_through(
    server: Server, if_missed: str, count: int
) -> None:
    async with asking(server) as api:
        schedule = await made(api, cron="0 0 29 2 *", if_missed=if_missed)
        path = f"/schedules/{schedule['schedule_id']}"
        await asyncio.to_thread(server.kill)
        # The night before, as the file remembers it.
        past = (datetime.now(UTC) - timedelta(days=3000)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        server.sql("UPDATE schedules SET next_at = ?", past)
        server.sql("UPDATE timers SET due_at = ?", past)
        for _ in range(2):
            await asyncio.to_thread(server.start)
            # The missed times were dealt with, and nothing is due.
            await until(lambda: not server.sql("SELECT 1 FROM timers WHERE due_at = ?", past))
            await until(lambda: nothing_runs(server))
            found = server.sql("SELECT run_id, due_at FROM runs")
            now = await api.get(path)
            assert len(found) == count
            assert now["next_times"] == schedule["next_times"]
            assert now["last_run_id"] == (found[0][0] if found else None)
            if if_missed == "skip":
                assert now["last_error"].endswith(
                    "was more than 60 seconds ago, so it was skipped."
                )
            await asyncio.to_thread(server.kill)
    assert server.traces("look") == ["look 7"] * count
