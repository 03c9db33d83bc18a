"""A server whose clock is set while it works: no worker takes over what another one still does, or
what it does itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from assent.runs.worker import LEASE_SECONDS
from tests.support import moved_clock
from tests.support.server import Api, asking, scripted_agents, serving

AT_ONCE = 3
STEP = LEASE_SECONDS + 5
"""Seconds by which the clock is set, more than a lease is long."""

SETTINGS_OF_THE_CLOCK = 4
SECONDS_BETWEEN = 0.4
"""All in all long enough for each worker to look for runs of dead ones, once a second."""


async def test_no_run_begins_twice_however_the_clock_is_set(tmp_path: Path) -> None:
    hook = "tests.acceptance.crash_mutants:with_two_workers_an_hour_apart"
    clock = tmp_path / "clock"
    target = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, target, BEFORE_SERVING=hook, CLOCK=str(clock)) as server:
        async with asking(server) as api:
            held = await api.run("held", "hold 5")
            await server.until_traced("hold 5")
            ran = [held]
            for direction, step in (("ahead", STEP), ("back", -STEP)):
                for number in range(1, SETTINGS_OF_THE_CLOCK + 1):
                    moved_clock.move(clock, number * step)
                    ran += await _runs_for(api, SECONDS_BETWEEN, f"{direction}-{number}")
            server.let_go(5)
            ended = [await api.ended(run["run_id"]) for run in ran]
        assert {(run["status"], run["attempt"]) for run in ended} == {("success", 1)}
        assert len(server.traces("look")) == len(ran) - 1
        assert server.traces("hold") == ["hold 5"]
        assert "run recovered" not in server.output


async def _runs_for(api: Api, seconds: float, name: str) -> list[Any]:
    """Runs, some at a time, until the seconds are over."""
    until = time.monotonic() + seconds
    ran: list[Any] = []
    while time.monotonic() < until:
        started = [api.run(f"{name}-{len(ran)}-{place}", "look 1") for place in range(AT_ONCE)]
        ran += await asyncio.gather(*started)
        await api.ended(ran[-1]["run_id"])
    return ran
