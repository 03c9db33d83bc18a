"""A thousand readers that only wait cost little, and hear an event at once. `make bench` asks ten
thousand."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from benchmarks.readers import KILOBYTES, PATHS, SECONDS, Size, cost_of
from tests.support.server import scripted_agents, serving

SIZE = Size(first=500, readers=1_000, heartbeat=0.5)
MORE = 1.2
"""With so few of them, it shows that a process takes memory in pieces."""


@pytest.mark.parametrize("transport", PATHS)
async def test_a_reader_that_waits_costs_little_and_hears_at_once(
    transport: str, tmp_path: Path
) -> None:
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **SIZE.settings) as server:
        process = psutil.Process(server.pid)
        cost = await asyncio.to_thread(cost_of, SIZE, PATHS[transport], process, server.port)
    assert cost.each < MORE * KILOBYTES[transport] * 1000, cost
    assert max(cost.broadcast, cost.event) < SECONDS, cost
