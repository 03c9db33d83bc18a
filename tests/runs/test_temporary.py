"""Threads that go with their run: erased once it has ended, and not before anybody has what they are
owed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assent.approvals.decide import Verdict
from assent.approvals.idempotency import Key
from assent.core.access import APPROVES_ALL
from assent.core.audit import Actor
from assent.core.decisions import Approve
from assent.core.rows import NotificationStatus, Run, RunStatus
from assent.core.run_input import RunInput
from assent.graph.builder import build_hitl_agent
from assent.runs.follow import wait_for_run
from assent.runs.opening import open_runs
from assent.runs.retention import ANSWERS_KEPT
from assent.runs.service import Runs
from assent.runs.temporary import KEPT, STILL_OWED, STILL_READ
from assent.runs.transitions import Submission
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import notification
from tests.support.agents import pay
from tests.support.manual_clock import ManualClock
from tests.support.models import ScriptedModel, call, say
from tests.support.rows import replace
from tests.support.waiting import until

ANN = Actor("ann", approves=APPROVES_ALL)
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def manual() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    return tmp_path / "a.db"


@asynccontextmanager
async def opened(path: Path, manual: ManualClock) -> AsyncIterator[Runs]:
    """The runs, as by a new process."""
    script = [say("Hello."), call("pay", amount=1), say("Paid."), say("More.")]
    agent = build_hitl_agent(ScriptedModel(script=script), [pay], approve=["pay"], name="clerk")
    async with (
        SqliteStorage.open(path, manual.clock) as storage,
        open_runs(storage, {"clerk": agent}, clock=manual.clock) as runs,
    ):
        yield runs


@pytest.fixture
async def runs(path: Path, manual: ManualClock) -> AsyncIterator[Runs]:
    async with opened(path, manual) as runs:
        yield runs


async def ran(runs: Runs, text: str = "Hi.", thread: str | None = None, **options: Any) -> Run:
    """A run whose thread goes with it, at rest."""
    given = RunInput(text, temporary=True)
    submission = Submission(given=given, by=ANN, thread_id=thread, **options)
    return await wait_for_run(runs.storage, (await runs.submit(submission)).run)


async def seen_to(runs: Runs) -> None:
    """Wait until no timer is due any more."""
    runs.engine.wake()

    async def nothing_is_due() -> bool:
        return not await runs.storage.due_timers(runs.clock.now())

    await until(nothing_is_due)


async def is_left(runs: Runs, run: Run) -> bool:
    """Whether the thread is there, once the timers that are due were seen to."""
    await seen_to(runs)
    return await runs.storage.thread(run.thread_id) is not None


async def test_it_is_erased_a_while_after_the_end_and_only_the_audit_chain_knows_of_it(
    runs: Runs, manual: ManualClock
) -> None:
    run = await ran(runs)
    assert run.status is RunStatus.SUCCESS
    manual.wait(KEPT - MOMENT)
    assert await is_left(runs, run)
    manual.wait(MOMENT)
    assert not await is_left(runs, run)
    assert await runs.storage.run(run.run_id) is None
    (record,) = (await runs.storage.audit(thread_id=run.thread_id)).rows
    assert (record.entry.action, record.entry.authentication) == ("erased", "time")


async def test_what_died_between_the_end_and_the_erasing_is_erased_by_the_next_process(
    path: Path, manual: ManualClock
) -> None:
    async with opened(path, manual) as runs:
        run = await ran(runs)
    manual.wait(KEPT)
    async with opened(path, manual) as runs:
        assert not await is_left(runs, run)


async def test_what_asks_a_person_is_kept_until_that_was_decided_and_has_run(
    path: Path, manual: ManualClock
) -> None:
    async with opened(path, manual) as runs:
        await ran(runs)
        asking = await ran(runs, "Pay.")
        assert asking.status is RunStatus.INTERRUPTED
        manual.wait(timedelta(days=30))
        assert await is_left(runs, asking)
    async with opened(path, manual) as runs:
        assert await is_left(runs, asking)
        verdict = Verdict(decisions=Approve(), by=ANN)
        outcome = await runs.approvals.decide(asking.thread_id, verdict)
        ended = await wait_for_run(runs.storage, await runs.run(outcome.run_id or ""))
        assert ended.status is RunStatus.SUCCESS
        assert await is_left(runs, asking)
        manual.wait(KEPT)
        assert not await is_left(runs, asking)
        actions = [each.entry.action for each in (await runs.storage.audit()).rows]
        assert actions == ["asked", "erased", "decided", "erased"]


async def test_what_is_cancelled_goes_too(runs: Runs, manual: ManualClock) -> None:
    await ran(runs)
    asking = await ran(runs, "Pay.")
    later = Submission(
        given=RunInput("Hi.", temporary=True), by=ANN, due_at=manual.time + timedelta(days=1)
    )
    waiting = (await runs.submit(later)).run
    for each in (asking, waiting):
        await wait_for_run(runs.storage, await runs.cancel_run(each.run_id, ANN))
        assert await is_left(runs, each)
    manual.wait(KEPT)
    assert not await is_left(runs, asking)
    assert not await is_left(runs, waiting)


async def test_nobody_loses_an_answer_that_they_are_still_given(
    runs: Runs, manual: ManualClock
) -> None:
    run = await ran(runs)
    with runs.temporary.read(run.thread_id):
        manual.wait(KEPT)
        assert await is_left(runs, run)
        with runs.temporary.read(run.thread_id):
            pass
        manual.wait(STILL_READ)
        assert await is_left(runs, run)
    manual.wait(STILL_READ)
    assert not await is_left(runs, run)


async def test_it_stays_while_the_request_may_come_again(runs: Runs, manual: ManualClock) -> None:
    key = Key.given("key", ANN.owner, "/runs", {})
    run = await ran(runs, key=key)
    manual.wait(KEPT)
    assert await is_left(runs, run)
    # Once more, and it is the same run.
    assert (await ran(runs, key=key)).run_id == run.run_id
    manual.wait(ANSWERS_KEPT)
    await runs.storage.remove_answers(manual.time)
    manual.wait(STILL_OWED)
    assert not await is_left(runs, run)


async def test_it_stays_while_somebody_is_to_be_told_of_it(runs: Runs, manual: ManualClock) -> None:
    run = await ran(runs)
    told = notification(
        thread_id=run.thread_id, status=NotificationStatus.PENDING, next_at=manual.time
    )
    await runs.storage.commit(Change(rows=(told,)))
    manual.wait(KEPT)
    assert await is_left(runs, run)
    delivered = replace(told, status=NotificationStatus.DELIVERED, next_at=None, version=2)
    await runs.storage.commit(Change(rows=(delivered,)))
    manual.wait(STILL_OWED)
    assert not await is_left(runs, run)


async def test_whoever_goes_on_with_the_thread_has_it(runs: Runs, manual: ManualClock) -> None:
    run = await ran(runs)
    again = Submission(given=RunInput("Hi.", temporary=True), by=ANN, thread_id=run.thread_id)
    asking = await wait_for_run(runs.storage, (await runs.submit(again)).run)
    assert asking.status is RunStatus.INTERRUPTED
    manual.wait(KEPT)
    assert await is_left(runs, run)
    await wait_for_run(runs.storage, await runs.cancel_run(asking.run_id, ANN))
    manual.wait(KEPT)
    assert await is_left(runs, run)
    assert await _timers(runs.storage, manual) == 0


async def test_a_copy_is_kept(runs: Runs, manual: ManualClock) -> None:
    run = await ran(runs)
    copied = await runs.copy(run.thread_id, by=ANN, metadata={})
    assert copied is not None
    fork = await wait_for_run(runs.storage, copied.run)
    manual.wait(KEPT)
    assert not await is_left(runs, run)
    assert await is_left(runs, fork)
    assert await _timers(runs.storage, manual) == 0


async def _timers(storage: Storage, manual: ManualClock) -> int:
    return len(await storage.due_timers(manual.time + timedelta(days=365)))
