"""The clock is set, between two processes or within one: a thread goes on from what was written
last, and every call is told as it was."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support import moved_clock
from tests.support.server import Api, Server, asking, expect, problem, scripted_agents, serving

HOUR = 3600.0

Json = Any


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    return tmp_path / "clock"


@pytest.fixture
def server(tmp_path: Path, clock: Path) -> Iterator[Server]:
    """Its clock is an hour ahead at first."""
    moved_clock.move(clock, HOUR)
    hook = "tests.support.moved_clock:install"
    target = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, target, BEFORE_SERVING=hook, CLOCK=str(clock)) as server:
        yield server


async def said(api: Api, thread_id: str) -> list[str]:
    """The texts of the person's messages in the thread's state."""
    messages = (await api.get(f"/threads/{thread_id}"))["values"]["messages"]
    return [each["content"] for each in messages if each["type"] == "human"]


def ids(states: list[Json]) -> list[str]:
    return [state["checkpoint"]["checkpoint_id"] for state in states]


async def test_a_thread_goes_on_from_what_was_written_last(server: Server, clock: Path) -> None:
    asked = []
    async with asking(server) as api:
        for amount, ahead in enumerate([HOUR, 0, 2 * HOUR, -HOUR], 1):
            server.kill()
            moved_clock.move(clock, ahead)
            server.start()
            (approval,) = await api.paused(f"pay {amount}", thread_id="t")
            assert approval["args"] == {"amount": amount}
            asked.append(f"pay {amount}")
            # The decision comes to a process with yet another clock.
            server.kill()
            moved_clock.move(clock, ahead - 3 * HOUR)
            server.start()
            assert await api.pending("t") == [approval]
            await api.decided("t", type="approve")
            assert await api.last_words("t") == f"Results: paid {amount}"
            assert await said(api, "t") == asked
    assert server.traces() == asked


async def test_a_thread_that_waits_is_cancelled_where_it_waits(server: Server, clock: Path) -> None:
    async with asking(server) as api:
        await api.stream("tell 1", thread_id="t")
        server.kill()
        moved_clock.move(clock, 0)
        server.start()
        await api.paused("pay 5", thread_id="t")
        server.kill()
        moved_clock.move(clock, -HOUR)
        server.start()
        (run,) = await api.cancel("/threads/t", wait=True)
        assert run["status"] == "cancelled"
        assert await said(api, "t") == ["tell 1", "pay 5"]
        assert "did not run" in await api.last_words("t")
        assert (await api.stream("tell 2", thread_id="t"))[-1]["type"] == "done"
    assert server.traces() == []


async def test_the_history_is_in_the_order_of_what_happened(server: Server, clock: Path) -> None:
    async with asking(server) as api:
        for number, ahead in enumerate([HOUR, 0, -HOUR]):
            server.kill()
            moved_clock.move(clock, ahead)
            server.start()
            await api.stream(f"tell {number + 1}", thread_id="t")

        states = await api.get("/threads/t/history", limit=100)
        sizes = [len(state["values"].get("messages", [])) for state in states]
        assert sizes == sorted(sizes, reverse=True)
        assert ids(states) != sorted(ids(states), reverse=True)
        head = await api.get("/threads/t/state")
        assert ids([head]) == ids(states)[:1]
        for newer, older in pairwise(states):
            assert newer["parent_checkpoint"]["checkpoint_id"] == ids([older])[0]

        read: list[Json] = []
        while page := await api.get(
            "/threads/t/history", limit=2, **({"before": ids(read)[-1]} if read else {})
        ):
            read += page
        assert read == states
        found = await api.http.get("/threads/t/history", params={"before": "0"})
        assert "no checkpoint '0'" in (await problem(found, 404))["detail"]

        # From a state of the past, by the process whose clock is behind.
        place = {"checkpoint_id": ids(states)[len(states) // 2]}
        forked = (await expect(await api.http.post("/threads/t/fork", json=place), 201)).json()
        assert (await api.stream("tell 4", thread_id=forked["thread_id"]))[-1]["type"] == "done"
        assert (await said(api, forked["thread_id"]))[-1] == "tell 4"
        assert (await api.stream("tell 5", thread_id="t", **place))[-1]["type"] == "done"
        assert (await said(api, "t"))[-1] == "tell 5"


async def test_a_call_that_began_is_not_told_as_one_that_did_not(
    server: Server, clock: Path
) -> None:
    async with asking(server) as api:
        await api.paused("slow 5", thread_id="t")
        # Before its call starts, the clock is an hour behind the one by which the model asked.
        moved_clock.move(clock, 0)
        await api.decided("t", type="approve")
        await server.until_traced("slow 5")
        await api.cancel("/threads/t", wait=True)
        assert "may or may not have happened" in await api.last_words("t")


async def test_what_waits_its_turn_goes_in_the_order_in_which_it_came(
    server: Server, clock: Path
) -> None:
    async with asking(server) as api:
        await api.paused("slow 1", thread_id="t")
        await api.decided("t", type="approve")
        await server.until_traced("slow 1")
        first = await api.run("t", "tell 2", on_busy="enqueue")
        moved_clock.move(clock, 0)
        second = await api.run("t", "tell 3", on_busy="enqueue")
        moved_clock.move(clock, -HOUR)
        third = await api.run("t", "tell 4", on_busy="enqueue")
        listed = await api.runs("t", status="pending")
        waiting = [third, second, first]
        assert [run["run_id"] for run in listed] == [run["run_id"] for run in waiting]
        server.let_go(1)
        for run in waiting:
            assert (await api.ended(run["run_id"]))["status"] == "success"
        assert await said(api, "t") == ["slow 1", "tell 2", "tell 3", "tell 4"]
