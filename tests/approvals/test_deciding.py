"""What decisions come to: the pure function as values, and `decide` raced over a real storage."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assent.approvals.deciding import Decided, Verdict, decide, deciding
from assent.checkpoint.contracts import (
    Approval,
    ApprovalKind,
    ApprovalStatus,
    Change,
    Run,
    RunKind,
    RunStatus,
    Thread,
    ThreadStatus,
)
from assent.checkpoint.sqlite import SqliteStorage
from assent.clock import Clock
from assent.decisions import Approve, Decision, Edit, Reject, Respond
from assent.errors import AlreadyDecided, AssentError, InvalidDecision, NotFound, NothingPending
from assent.events import ApprovalDecided, RunResumed, decode

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
LATER = NOON + timedelta(hours=2)
CLOCK = Clock(now=lambda: LATER)


def an_approval(approval_id: str, **changes: Any) -> Approval:
    made = Approval(
        approval_id=approval_id,
        thread_id="t",
        run_id="asked",
        owner="ann",
        agent="clerk",
        kind=ApprovalKind.TOOL,
        status=ApprovalStatus.PENDING,
        requested_at=NOON,
        digest="d",
        allowed=("approve", "edit", "reject", "respond"),
        tool="pay",
        tool_call_id=f"call-{approval_id}",
        args={"amount": 5},
        version=3,
    )
    return replace(made, **changes)


def a_thread(*pending: str, **changes: Any) -> Thread:
    made = Thread(
        thread_id="t",
        owner="ann",
        status=ThreadStatus.INTERRUPTED,
        created_at=NOON,
        updated_at=NOON,
        agent="clerk",
        run_id="asked",
        checkpoint_id="c",
        pending=pending,
        version=7,
    )
    return replace(made, **changes)


def rows(change: Change, kind: type[Any]) -> list[Any]:
    return [row for row in change.rows if isinstance(row, kind)]


# ── the pure function ────────────────────────────────────────────────────────────────────────────────────────────────


def decided_all(decisions: Mapping[str, Decision], pending: list[Approval], **verdict: Any) -> tuple[Change, Decided]:
    matched = [(approval, decisions[approval.approval_id]) for approval in pending if approval.approval_id in decisions]
    thread = a_thread(*(approval.approval_id for approval in pending))
    return deciding(thread, pending, matched, Verdict(decisions=decisions, by="bob", **verdict), LATER, "new", "worker")


def test_the_last_decision_of_a_pause_brings_the_run_that_goes_on() -> None:
    change, decided = decided_all({"a": Approve()}, [an_approval("a")])
    (thread,), (approval,), (run,) = rows(change, Thread), rows(change, Approval), rows(change, Run)
    assert thread == a_thread(status=ThreadStatus.BUSY, run_id="new", updated_at=LATER, version=8)
    assert approval == an_approval(
        "a", status=ApprovalStatus.APPROVED, decision={"type": "approve"}, decided_by="bob", decided_at=LATER, version=4
    )
    assert run == Run(
        run_id="new",
        thread_id="t",
        owner="ann",
        agent="clerk",
        kind=RunKind.RESUME,
        status=RunStatus.RUNNING,
        worker="worker",
        attempt=1,
        created_at=LATER,
        input={"paused_run": "asked"},
        started_at=LATER,
    )
    assert change.events == (
        ApprovalDecided(
            ts=LATER, thread_id="t", run_id="new", approval_id="a", kind="tool", tool="pay", tool_call_id="call-a",
            decision="approve", by="bob",
        ),
        RunResumed(ts=LATER, thread_id="t", run_id="new", agent="clerk", approvals=("a",)),
    )  # fmt: skip
    assert decided == Decided(approvals=(approval,), pending=(), run=run, thread=thread)


def test_a_decision_that_leaves_others_pending_starts_nothing() -> None:
    pending = [an_approval("a"), an_approval("b"), an_approval("c")]
    change, decided = decided_all({"b": Reject("no")}, pending)
    (thread,), approvals = rows(change, Thread), rows(change, Approval)
    assert thread == a_thread("a", "c", updated_at=LATER, version=8)
    assert [approval.approval_id for approval in approvals] == ["b"]
    assert rows(change, Run) == []
    (event,) = change.events
    assert isinstance(event, ApprovalDecided)
    assert (event.decision, event.message, event.run_id) == ("reject", "no", "asked")
    assert (decided.pending, decided.run) == (("a", "c"), None)


@pytest.mark.parametrize(
    ("decision", "status", "stored"),
    [
        (Approve(), ApprovalStatus.APPROVED, {"type": "approve"}),
        (Edit({"amount": 3}), ApprovalStatus.EDITED, {"type": "edit", "args": {"amount": 3}}),
        (Reject("why"), ApprovalStatus.REJECTED, {"type": "reject", "message": "why"}),
        (Respond([1, None]), ApprovalStatus.RESPONDED, {"type": "respond", "message": [1, None]}),
    ],
)
def test_each_type_of_decision_is_stored_and_told(decision: Decision, status: ApprovalStatus, stored: dict[str, Any]) -> None:
    change, _ = decided_all({"a": decision}, [an_approval("a")])
    (approval,) = rows(change, Approval)
    assert (approval.status, approval.decision) == (status, stored)
    # What was asked stays as it was shown, also where something else will run.
    assert (approval.args, approval.digest) == ({"amount": 5}, "d")
    event = change.events[0]
    assert isinstance(event, ApprovalDecided)
    assert (event.decision, event.args, event.message) == (stored["type"], stored.get("args"), stored.get("message"))


def test_a_message_goes_along_with_the_run() -> None:
    change, _ = decided_all({"a": Reject("rather 3")}, [an_approval("a")], message="rather 3")
    (run,) = rows(change, Run)
    assert run.input == {"paused_run": "asked", "message": "rather 3"}


def test_every_row_that_was_read_moves_by_one_version() -> None:
    """So that of two changes that were computed from the same rows only one is stored."""
    change, _ = decided_all({"a": Approve(), "b": Approve()}, [an_approval("a"), an_approval("b", version=9)])
    assert [(type(row).__name__, row.version) for row in change.rows] == [("Thread", 8), ("Approval", 4), ("Approval", 10), ("Run", 1)]


# ── decide, over a storage ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        yield storage


async def paused(storage: SqliteStorage, *ids: str) -> None:
    """Store a thread that waits for these approvals."""
    approvals = [an_approval(id, version=1) for id in ids]
    await storage.commit(Change(rows=(a_thread(*ids, version=1), *approvals)))


def takes_all(approval: Approval, decision: Decision) -> None:
    """What the agent has to say against a decision: nothing."""


async def tried(storage: SqliteStorage, verdict: Verdict) -> Decided | AssentError:
    try:
        return await decide(storage, CLOCK, "t", verdict, takes_all)
    except AssentError as error:
        return error


async def test_of_a_hundred_conflicting_decisions_one_wins_and_the_others_learn_whose(storage: SqliteStorage) -> None:
    await paused(storage, "a")
    kinds: list[Decision] = [Approve(), Edit({"amount": 1}), Reject("no"), Respond("done")]
    verdicts = [
        Verdict(decisions={"a" if number % 2 else "call-a": kinds[number % 4]} if number % 3 else kinds[number % 4], by=f"person {number}")
        for number in range(100)
    ]
    outcomes = await asyncio.gather(*(tried(storage, verdict) for verdict in verdicts))
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Decided)]
    (approval,) = winner.approvals
    losers = [outcome for outcome in outcomes if not isinstance(outcome, Decided)]
    assert len(losers) == 99
    for loser in losers:
        assert isinstance(loser, AlreadyDecided)
        assert loser.details["decided_by"] == approval.decided_by
        assert loser.details["decision"] == approval.decision
        assert loser.details["decided_at"] == LATER.isoformat()
        assert str(approval.decided_by) in loser.message

    assert await storage.approval("a") == approval
    assert winner.run is not None
    assert [run.run_id for run in await storage.runs(thread_id="t")] == [winner.run.run_id]
    log = await storage.read_log("t")
    assert [(entry.seq, entry.type) for entry in log] == [(1, "approval_decided"), (2, "run_resumed")]
    assert winner.first_seq == 1
    assert decode(log[0].body).by == approval.decided_by


async def test_of_a_hundred_decisions_on_a_hundred_approvals_all_count_and_one_run_goes_on(storage: SqliteStorage) -> None:
    ids = [f"a{number:03}" for number in range(100)]
    await paused(storage, *ids)
    verdicts = [Verdict(decisions={id: Approve()}, by=id) for id in ids]
    outcomes = await asyncio.gather(*(tried(storage, verdict) for verdict in verdicts))
    assert all(isinstance(outcome, Decided) for outcome in outcomes), Counter(type(outcome).__name__ for outcome in outcomes)
    runs = [outcome.run for outcome in outcomes if isinstance(outcome, Decided) and outcome.run is not None]
    assert [run.run_id for run in await storage.runs(thread_id="t")] == [run.run_id for run in runs]
    assert len(runs) == 1
    for id in ids:
        stored = await storage.approval(id)
        assert stored is not None
        assert (stored.status, stored.decided_by) == (ApprovalStatus.APPROVED, id)
    types = [entry.type for entry in await storage.read_log("t")]
    assert types == ["approval_decided"] * 100 + ["run_resumed"]


async def test_overlapping_decisions_are_taken_whole_or_not_at_all(storage: SqliteStorage) -> None:
    await paused(storage, "a", "b", "c")
    verdicts = [Verdict(decisions={"a": Approve(), "b": Approve()}, by="1"), Verdict(decisions={"b": Reject(), "c": Reject()}, by="2")]
    outcomes = await asyncio.gather(*(tried(storage, verdict) for verdict in verdicts))
    assert sorted(isinstance(outcome, Decided) for outcome in outcomes) == [False, True]
    by = [stored.decided_by for id in "abc" if (stored := await storage.approval(id))]
    assert by in (["1", "1", None], [None, "2", "2"])


async def test_what_is_refused_changes_nothing(storage: SqliteStorage) -> None:
    await paused(storage, "a", "b")

    async def everything() -> tuple[Any, ...]:
        return await storage.thread("t"), await storage.approvals(), await storage.runs(), await storage.read_log("t")

    def takes_no_edit(approval: Approval, decision: Decision) -> None:
        if isinstance(decision, Edit):
            raise InvalidDecision("Not like this.")

    before = await everything()
    refused: list[tuple[Any, type[AssentError]]] = [
        (Approve(), InvalidDecision),
        ({}, InvalidDecision),
        ({"a": Approve(), "call-a": Approve()}, InvalidDecision),
        ({"a": Approve(), "b": Edit({})}, InvalidDecision),
        ({"a": Approve(), "x": Approve()}, NotFound),
        ({"": Approve()}, NotFound),
    ]
    for decisions, error in refused:
        with pytest.raises(error):
            await decide(storage, CLOCK, "t", Verdict(decisions=decisions, by="bob"), takes_no_edit)
    assert await everything() == before


async def test_a_thread_that_is_not_there_or_waits_for_nothing(storage: SqliteStorage) -> None:
    with pytest.raises(NotFound):
        await decide(storage, CLOCK, "t", Verdict(decisions=Approve(), by="bob"), takes_all)
    await storage.commit(Change(rows=(a_thread(status=ThreadStatus.IDLE, version=1),)))
    with pytest.raises(NothingPending):
        await decide(storage, CLOCK, "t", Verdict(decisions=Approve(), by="bob"), takes_all)
    with pytest.raises(NotFound):
        await decide(storage, CLOCK, "t", Verdict(decisions={"a": Approve()}, by="bob"), takes_all)


async def test_a_decision_that_the_approval_does_not_allow_is_refused(storage: SqliteStorage) -> None:
    await storage.commit(Change(rows=(a_thread("a", version=1), an_approval("a", allowed=("reject", "respond"), version=1))))
    with pytest.raises(InvalidDecision, match="It takes: reject, respond"):
        await decide(storage, CLOCK, "t", Verdict(decisions=Approve(), by="bob"), takes_all)
    assert isinstance(await decide(storage, CLOCK, "t", Verdict(decisions=Reject(), by="bob"), takes_all), Decided)
