"""A server under ASSENT_THREADS_TTL erases idle threads, whoever made them, and none that anybody
waits for; also after a kill, and whatever its clock says for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support import moved_clock
from tests.support.server import Api, asking, expect, scripted_agents, serving
from tests.support.waiting import until

TTL = 3.0
"""Seconds."""


async def threads(api: Api) -> set[str]:
    """The ids of all threads."""
    return {thread["thread_id"] for thread in (await api.get("/threads"))["threads"]}


async def test_idle_threads_are_erased_and_none_that_somebody_waits_for(tmp_path: Path) -> None:
    target = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, target, ASSENT_THREADS_TTL=f"{TTL:g}s") as server:
        async with asking(server) as api:
            await api.stream("look 1", thread_id="idle")
            await api.paused("pay 1", thread_id="paused")
            await api.stream("look 1", thread_id="queued")
            # No key: what was answered under one is kept for a day, and its thread with it.
            waits = {"message": "look 2", "thread_id": "queued", "after_seconds": 3600}
            queued = (await expect(await api.http.post("/agent/runs", json=waits), 202)).json()
            made = await api.http.post(
                "/schedules", json={"message": "look 3", "cron": "0 0 1 1 *"}
            )
            schedule = (await expect(made, 201)).json()["schedule_id"]
            ran = await expect(await api.http.post(f"/schedules/{schedule}/run"), 202)
            assert ran.json()["thread_id"] in await threads(api)
            server.restart()

            async def only_those_waited_for() -> bool:
                return await threads(api) == {"paused", "queued"}

            await until(only_those_waited_for, every=0.1)
            assert server.sql("SELECT thread_id FROM effects WHERE thread_id = 'idle'") == []
            await expect(await api.resume("paused", type="approve"), 202)
            assert await api.last_words("paused") == "Results: paid 1"
            # Nobody waits any more.
            await api.cancel(f"/runs/{queued['run_id']}")
            await until(lambda: is_empty(api), every=0.1)
            # The same name begins a thread anew, with the next event's number.
            begun = await api.stream("look 4", thread_id="idle")
            assert begun[0]["seq"] > 1


async def is_empty(api: Api) -> bool:
    return not await threads(api)


async def test_a_clock_that_is_weeks_ahead_for_a_moment_erases_nothing(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    hook = "tests.support.moved_clock:install"
    ttl = {"ASSENT_THREADS_TTL": "1h", "BEFORE_SERVING": hook, "CLOCK": str(clock)}
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **ttl) as server:
        async with asking(server) as api:
            await api.stream("look 1", thread_id="t")
            server.kill()
            moved_clock.move(clock, 40 * 86400)
            server.start()
            # Its first sweep is over once it has gone through what was answered before.
            await api.stream("look 1", thread_id="other")
            await asyncio.sleep(0.5)
            assert await threads(api) == {"t", "other"}
            moved_clock.move(clock, 0)
            assert (await api.stream("look 2", thread_id="t"))[-1]["type"] == "done"
