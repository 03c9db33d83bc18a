"""What every storage says of what is to be done next: which runs may start, which have lost their
worker, and what waits for its time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from assent.core.rows import ACTIVE, UNFINISHED, Run, RunStatus, ThreadStatus, Timer
from assent.storage.base import Change, Storage
from tests.storage.samples import NOON, run, thread, timer

CLERK = {"clerk"}
"""The agent of the samples."""


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def waiting(run_id: str, thread_id: str = "t", created: float = 0, **changes: Any) -> Run:
    fresh: dict[str, Any] = {
        "due_at": None,
        "worker": None,
        "ended_at": None,
        "priority": 0,
        **changes,
    }
    return run(
        run_id, thread_id=thread_id, created_at=after(created), status=RunStatus.PENDING, **fresh
    )


def ids(rows: tuple[Run, ...] | tuple[Timer, ...]) -> list[str]:
    return [row.run_id if isinstance(row, Run) else row.timer_id for row in rows]


# ── runs that may start ──


async def test_a_run_comes_back_whole(storage: Storage) -> None:
    made = waiting("r1", due_at=NOON, usage={"tokens": 1})
    await storage.commit(Change(rows=(thread(status=ThreadStatus.IDLE), made)))
    assert await storage.due_runs(NOON, agents=CLERK) == (made,)


@pytest.mark.parametrize("status", ThreadStatus)
async def test_a_run_may_start_when_its_thread_is_free_or_its_own(
    storage: Storage, status: ThreadStatus
) -> None:
    await storage.commit(Change(rows=(thread("t", status=status, run_id="other"), waiting("r1"))))
    await storage.commit(Change(rows=(thread("u", status=status, run_id="r2"), waiting("r2", "u"))))
    await storage.commit(
        Change(
            rows=(thread("v", status=status, run_id="r3", tampered="It was."), waiting("r3", "v"))
        )
    )
    await storage.commit(Change(rows=(waiting("r4", "no such thread"),)))
    free = status in (ThreadStatus.IDLE, ThreadStatus.ERROR)
    assert ids(await storage.due_runs(NOON, agents=CLERK)) == (["r1", "r2"] if free else ["r2"])


@pytest.mark.parametrize("status", [each for each in RunStatus if each is not RunStatus.PENDING])
async def test_what_does_not_wait_does_not_start(storage: Storage, status: RunStatus) -> None:
    await storage.commit(
        Change(
            rows=(
                thread(status=ThreadStatus.IDLE, run_id="r1"),
                replace(waiting("r1"), status=status),
            )
        )
    )
    assert await storage.due_runs(NOON, agents=CLERK) == ()


async def test_the_first_of_each_thread_comes_and_those_of_the_highest_priority_first(
    storage: Storage,
) -> None:
    """The first is the one that was submitted first, whatever the clock showed then."""
    await storage.commit(
        Change(rows=tuple(thread(name, status=ThreadStatus.IDLE, run_id=None) for name in "tuvw"))
    )
    rows = (
        waiting("v2", "v", 9),
        waiting("v1", "v", 0),
        waiting("t2", "t", 2),
        waiting("t1", "t", 1, priority=9),
        waiting("u1", "u", 5, priority=5),
        waiting("w1", "w", 0, priority=-1),
    )
    for row in rows:
        await storage.commit(Change(rows=(row,)))
    # A later version keeps the place.
    await storage.commit(Change(rows=(replace(rows[0], version=2),)))
    assert ids(await storage.due_runs(NOON, agents=CLERK)) == ["u1", "v2", "t2", "w1"]
    assert ids(await storage.due_runs(NOON, agents=CLERK, limit=2)) == ["u1", "v2"]


async def test_a_run_that_has_its_thread_comes_before_older_ones(storage: Storage) -> None:
    await storage.commit(
        Change(rows=(thread(status=ThreadStatus.ERROR, run_id="mine"), waiting("older", created=1)))
    )
    await storage.commit(Change(rows=(waiting("mine", created=2, priority=-5),)))
    assert ids(await storage.due_runs(NOON, agents=CLERK)) == ["mine"]


async def test_a_delayed_run_starts_when_it_is_due_and_not_before(storage: Storage) -> None:
    rows = (
        waiting("late", created=0, due_at=after(10)),
        waiting("later", created=1, due_at=after(5)),
        waiting("u1", "u", 3, due_at=NOON),
    )
    await storage.commit(
        Change(
            rows=(thread(status=ThreadStatus.IDLE), thread("u", status=ThreadStatus.IDLE), *rows)
        )
    )
    assert ids(await storage.due_runs(NOON - timedelta(microseconds=1), agents=CLERK)) == []
    assert ids(await storage.due_runs(NOON, agents=CLERK)) == ["u1"]
    assert ids(await storage.due_runs(after(5), agents=CLERK)) == ["later", "u1"]
    # Of two that have come to their time, the one that did first.
    assert ids(await storage.due_runs(after(10), agents=CLERK)) == ["later", "u1"]


async def test_a_run_starts_where_its_agent_is(storage: Storage) -> None:
    rows = [thread(name, status=ThreadStatus.IDLE, run_id=None) for name in "tu"]
    runs = [
        waiting("t1", "t", 0, agent="miner"),
        waiting("t2", "t", 1),
        waiting("u1", "u", 2, priority=9),
    ]
    await storage.commit(Change(rows=(*rows, *runs)))
    # Nothing of a thread goes before what waits there for another agent.
    assert ids(await storage.due_runs(NOON, agents=CLERK)) == ["u1"]
    assert ids(await storage.due_runs(NOON, agents={"miner"})) == ["t1"]
    assert ids(await storage.due_runs(NOON, agents={"clerk", "miner"})) == ["u1", "t1"]
    assert ids(await storage.due_runs(NOON, agents={"miner", "clerk"}, limit=1)) == ["u1"]
    assert await storage.due_runs(NOON, agents=()) == ()


# ── runs without a worker ──


@pytest.mark.parametrize("status", RunStatus)
async def test_an_active_run_is_orphaned_without_a_worker_that_lives(
    storage: Storage, status: RunStatus
) -> None:
    rows = [
        run(f"r{n}", status=status, worker=worker, created_at=after(-n))
        for n, worker in enumerate([None, "alive", "unheard of", "gone"])
    ]
    await storage.commit(Change(rows=tuple(rows)))
    for worker in ("alive", "gone", "alive"):
        await storage.heartbeat(worker, agents=CLERK)
    await storage.retire("gone")
    await storage.retire("nobody")
    orphaned = [rows[0], rows[2], rows[3]] if status in ACTIVE else []
    assert list(await storage.orphaned_runs(agents=CLERK)) == orphaned
    assert list(await storage.orphaned_runs(agents=CLERK, limit=1)) == orphaned[:1]


async def test_a_worker_is_retired_unless_it_was_heard_meanwhile(storage: Storage) -> None:
    assert await storage.workers() == {}
    for worker in ("w", "w", "v"):
        await storage.heartbeat(worker, agents=CLERK)
    assert await storage.workers() == {"w": 2, "v": 1}
    await storage.retire("w", 1)
    await storage.retire("v", 1)
    assert await storage.workers() == {"w": 2}
    # One that was taken for dead, and is not, comes back.
    await storage.retire("w")
    await storage.heartbeat("w", agents=CLERK)
    assert await storage.workers() == {"w": 1}


async def test_an_orphan_is_for_a_worker_with_its_agent(storage: Storage) -> None:
    rows = [
        run(f"r{n}", status=RunStatus.RUNNING, worker=None, agent=agent, created_at=after(n))
        for n, agent in enumerate(["clerk", "miner", "clerk"])
    ]
    await storage.commit(Change(rows=tuple(rows)))
    assert ids(await storage.orphaned_runs(agents=CLERK)) == ["r0", "r2"]
    assert ids(await storage.orphaned_runs(agents={"miner", "clerk"})) == ["r0", "r1", "r2"]
    assert await storage.orphaned_runs(agents=()) == ()


async def test_unfinished_runs_are_counted_by_agent(storage: Storage) -> None:
    assert await storage.unfinished_runs() == {}
    rows = [
        run(f"r{n}-{status}", thread_id=f"t{n}", status=status, agent=agent)
        for n, agent in enumerate(["clerk", "miner", "clerk"])
        for status in (RunStatus if agent == "clerk" else [RunStatus.ERROR, RunStatus.PENDING])
    ]
    await storage.commit(Change(rows=tuple(rows)))
    assert await storage.unfinished_runs() == {"clerk": 6, "miner": 1}


def test_what_is_active_and_what_waits_is_unfinished() -> None:
    assert (
        UNFINISHED
        == {RunStatus.PENDING, RunStatus.RUNNING, RunStatus.CANCELLING}
        == ACTIVE | {RunStatus.PENDING}
    )


# ── what was used ──


async def test_what_runs_have_used_is_summed_by_name(storage: Storage) -> None:
    used = [{"tokens": 10, "usd": 0.25}, {"tokens": 5}, {}, {"usd": 0.5, "seconds": 2.5}]
    agents = ["clerk", "clerk", "clerk", "miner"]
    rows = [
        run(f"r{n}", thread_id=f"t{n % 2}", agent=agents[n], created_at=after(n), usage=used[n])
        for n in range(4)
    ]
    await storage.commit(Change(rows=tuple(rows)))
    assert await storage.usage() == {"tokens": 15, "usd": 0.75, "seconds": 2.5}
    assert await storage.usage(thread_id="t1") == {"tokens": 5, "usd": 0.5, "seconds": 2.5}
    assert await storage.usage(agent="clerk") == {"tokens": 15, "usd": 0.25}
    assert await storage.usage(agent="clerk", since=after(1)) == {"tokens": 5}
    assert await storage.usage(thread_id="t0", agent="miner") == {}
    assert await storage.usage(since=after(3.1)) == {}


# ── what waits for its time ──


async def test_timers_come_when_they_are_due_the_longest_due_first(storage: Storage) -> None:
    rows = [timer(f"i{n}", due_at=after(seconds)) for n, seconds in enumerate([3, 1, 1, 2])]
    await storage.commit(Change(rows=tuple(rows)))
    assert await storage.due_timers(after(0.999999)) == ()
    assert await storage.due_timers(after(1)) == (rows[1], rows[2])
    assert ids(await storage.due_timers(after(9))) == ["i1", "i2", "i3", "i0"]
    assert ids(await storage.due_timers(after(9), limit=1)) == ["i1"]
    moved = replace(rows[1], due_at=after(5), version=2)
    await storage.commit(Change(rows=(moved,), removed=(rows[2],)))
    assert ids(await storage.due_timers(after(9))) == ["i3", "i0", "i1"]


async def test_nothing_is_due_on_a_thread_that_was_tampered_with(storage: Storage) -> None:
    await storage.commit(
        Change(
            rows=(
                thread(tampered="It was."),
                timer("i1"),
                timer("i2", thread_id=""),
                timer("i3", thread_id="u"),
            )
        )
    )
    assert ids(await storage.due_timers(NOON)) == ["i2", "i3"]


async def test_what_is_due_next_is_a_timer_or_a_run_that_waits(storage: Storage) -> None:
    assert await storage.next_due(NOON) is None
    await storage.commit(
        Change(
            rows=(waiting("r1"), run("ended", due_at=after(0.5)), waiting("r2", due_at=after(2)))
        )
    )
    assert await storage.next_due(NOON) == after(2)
    await storage.commit(Change(rows=(timer("i1", due_at=after(1)), timer("i2", due_at=after(3)))))
    assert await storage.next_due(NOON) == after(1)
    assert await storage.next_due(after(1)) == after(2)
    assert await storage.next_due(after(2)) == after(3)
    assert await storage.next_due(after(3)) is None


async def test_lists_of_runs_leave_out_what_is_to_start_later(storage: Storage) -> None:
    due = [waiting("r1"), waiting("r2", due_at=after(5), created=1)]
    later = waiting("r3", due_at=after(6), created=2)
    await storage.commit(Change(rows=(*due, later)))
    assert list(await storage.runs(due_by=after(5))) == due
    assert (await storage.latest_runs(due_by=after(5))).rows == (due[1], due[0])
    assert (await storage.latest_runs(due_by=after(6), limit=1)).rows == (later,)
    # Whatever the clock shows by now, this one has started.
    active = replace(later, status=RunStatus.RUNNING, version=2)
    await storage.commit(Change(rows=(active,)))
    assert list(await storage.runs(due_by=after(5))) == [*due, active]
