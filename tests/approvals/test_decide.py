"""What decisions come to in storage: as changes, and raced over a real one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs, to_builtins

from assent.approvals.ask import ask_all
from assent.approvals.decide import Decided, Decider, Verdict, decided_change
from assent.approvals.idempotency import Key
from assent.approvals.rules import (
    AddComment,
    Decide,
    Delegate,
    PersonalAction,
    Requirement,
    Withdraw,
    advance,
    ask_under,
)
from assent.core.access import APPROVES_ALL, APPROVES_NOTHING, Owner, Sight
from assent.core.approval import Approval, ApprovalStatus, Outcome, Target
from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.decisions import Approve, Decision, Edit, Reject, Respond
from assent.core.digest import call_digest
from assent.core.errors import (
    AlreadyDecided,
    AssentError,
    Conflict,
    Forbidden,
    InvalidDecision,
    InvalidRequest,
    NotFound,
    NothingPending,
    Superseded,
    Tampered,
)
from assent.core.events import ApprovalDecided, RunResumed, decode
from assent.core.logs import APPROVALS
from assent.core.policy import Escalation, OnTimeout, Person, Policy, policy_digest
from assent.core.rows import Run, RunKind, RunStatus, Thread, ThreadStatus
from assent.notify.links import new_link, using
from assent.storage.base import Change, together
from assent.storage.sqlite import SqliteStorage
from tests.support.approvals import (
    LATER,
    LEADS,
    NOON,
    Takes,
    a_thread,
    an_approval,
    decide,
    decider,
    takes_all,
)


def rows(change: Change, kind: type[Any]) -> list[Any]:
    return [row for row in change.rows if isinstance(row, kind)]


# ── the pure function ─────────────────────────────────────────────────────────────────────────────


BOB = Person(name="bob", approves=APPROVES_ALL)


def decided_all(
    decisions: Mapping[str, Decision], pending: list[Approval], **given: Any
) -> Decided:
    acted = []
    for approval in pending:
        if approval.approval_id in decisions:
            decision = decisions[approval.approval_id]
            action = Decide(by=BOB, decision=decision, requires=Requirement(Policy()))
            acted.append((approval, advance(approval, action, LATER)))
    ids = [approval.approval_id for approval in pending]
    timers = dict.fromkeys(ids)
    return decided_change(
        a_thread(*ids), pending, acted, timers, LATER, "new", worker="worker", **given
    )


def of_thread(change: Change) -> tuple[Any, ...]:
    """The events without the feed's copies."""
    return tuple(event for event in change.events if event.thread_id != APPROVALS)


def test_the_last_decision_of_a_pause_brings_the_run_that_goes_on() -> None:
    decided = decided_all({"a": Approve()}, [an_approval("a")])
    change = decided.change
    (thread,), (approval,), (run,) = rows(change, Thread), rows(change, Approval), rows(change, Run)
    assert thread == a_thread(status=ThreadStatus.BUSY, run_id="new", updated_at=LATER, version=8)
    assert approval.version == 4
    assert (approval.status, approval.decision) == (ApprovalStatus.APPROVED, Approve())
    assert (approval.decided_by, approval.decided_at) == ("bob", LATER)
    assert approval.policy == Policy()
    assert approval.policy_digest == policy_digest(Policy())
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
    assert of_thread(change) == (
        ApprovalDecided(
            ts=LATER, thread_id="t", run_id="new", approval_id="a", kind="tool", tool="pay", tool_call_id="call-a",
            agent="clerk", decision="approve", by="bob",
        ),
        RunResumed(ts=LATER, thread_id="t", run_id="new", agent="clerk", approvals=("a",), paused_run="asked"),
    )  # fmt: skip
    assert (decided.run, decided.thread) == (run, thread)
    assert decided.outcome == Outcome(
        thread_id="t",
        approvals=(approval,),
        pending=(),
        run_id="new",
        status=RunStatus.RUNNING,
        events=2,
    )


def test_a_decision_that_leaves_others_pending_starts_nothing() -> None:
    pending = [an_approval("a"), an_approval("b"), an_approval("c")]
    decided = decided_all({"b": Reject("no")}, pending)
    change = decided.change
    (thread,), approvals = rows(change, Thread), rows(change, Approval)
    assert thread == a_thread("a", "c", requested_by=("bob",), updated_at=LATER, version=8)
    assert [approval.approval_id for approval in approvals] == ["b"]
    assert rows(change, Run) == []
    (event,) = of_thread(change)
    assert isinstance(event, ApprovalDecided)
    assert (event.decision, event.message, event.run_id) == ("reject", "no", "asked")
    assert (decided.outcome.pending, decided.run) == (("a", "c"), None)


@pytest.mark.parametrize(
    ("decision", "status", "stored"),
    [
        (Approve(), ApprovalStatus.APPROVED, {"type": "approve"}),
        (Edit({"amount": 3}), ApprovalStatus.EDITED, {"type": "edit", "args": {"amount": 3}}),
        (Reject("why"), ApprovalStatus.REJECTED, {"type": "reject", "message": "why"}),
        (Respond([1, None]), ApprovalStatus.RESPONDED, {"type": "respond", "message": [1, None]}),
    ],
)
def test_each_type_of_decision_is_stored_and_told(
    decision: Decision, status: ApprovalStatus, stored: dict[str, Any]
) -> None:
    change = decided_all({"a": decision}, [an_approval("a")]).change
    (approval,) = rows(change, Approval)
    assert (approval.status, to_builtins(approval.decision)) == (status, stored)
    # What was asked stays as it was shown, also where something else will run.
    assert (approval.args, approval.digest) == ({"amount": 5}, "d")
    event = change.events[0]
    assert isinstance(event, ApprovalDecided)
    assert (event.decision, event.args, event.message) == (
        stored["type"],
        stored.get("args"),
        stored.get("message"),
    )


def test_a_message_goes_along_with_the_run() -> None:
    change = decided_all({"a": Reject("rather 3")}, [an_approval("a")], message="rather 3").change
    (run,) = rows(change, Run)
    assert run.input == {"paused_run": "asked", "message": "rather 3"}


def test_every_row_that_was_read_moves_by_one_version() -> None:
    """So that of two changes that were computed from the same rows only one is stored."""
    change = decided_all(
        {"a": Approve(), "b": Approve()}, [an_approval("a"), an_approval("b", version=9)]
    ).change
    assert [(type(row).__name__, row.version) for row in change.rows] == [
        ("Thread", 8),
        ("Approval", 4),
        ("Approval", 10),
        ("Run", 1),
    ]


# ── decide, over a storage ────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        yield storage


async def paused(storage: SqliteStorage, *ids: str) -> None:
    """Store a thread that waits for these approvals."""
    approvals = [an_approval(id, version=1) for id in ids]
    await storage.commit(Change(rows=(a_thread(*ids, version=1), *approvals)))


async def act(decider: Decider, approval_id: str, action: PersonalAction) -> Approval:
    return await decider.act(approval_id, action, Actor(action.by.name))


async def look(decider: Decider, approval_id: str) -> Outcome | None:
    return await decider.check_deadline(approval_id)


async def tried(storage: SqliteStorage, verdict: Verdict) -> Outcome | AssentError:
    try:
        return await decide(decider(storage), "t", verdict, takes_all)
    except AssentError as error:
        return error


async def test_of_a_hundred_conflicting_decisions_one_wins_and_the_others_learn_whose(
    storage: SqliteStorage,
) -> None:
    await paused(storage, "a")
    kinds: list[Decision] = [Approve(), Edit({"amount": 1}), Reject("no"), Respond("done")]
    verdicts = [
        Verdict(
            decisions={"a" if number % 2 else "call-a": kinds[number % 4]}
            if number % 3
            else kinds[number % 4],
            by=Actor(f"person {number}"),
        )
        for number in range(100)
    ]
    outcomes = await asyncio.gather(*(tried(storage, verdict) for verdict in verdicts))
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
    (approval,) = winner.approvals
    losers = [outcome for outcome in outcomes if not isinstance(outcome, Outcome)]
    assert len(losers) == 99
    for loser in losers:
        assert isinstance(loser, AlreadyDecided)
        assert loser.details["decided_by"] == approval.decided_by
        assert loser.details["decision"] == to_builtins(approval.decision)
        assert loser.details["decided_at"] == LATER.isoformat()
        assert str(approval.decided_by) in loser.message

    assert await storage.approval("a") == approval
    assert winner.run_id is not None
    assert [run.run_id for run in await storage.runs(thread_id="t")] == [winner.run_id]
    log = await storage.read_log("t")
    assert [(entry.seq, entry.type) for entry in log] == [
        (1, "approval_decided"),
        (2, "run_resumed"),
    ]
    assert winner.first_seq == 1
    assert decode(log[0].body).by == approval.decided_by


async def test_of_thirty_decisions_on_thirty_approvals_all_count_and_one_run_goes_on(
    storage: SqliteStorage,
) -> None:
    ids = [f"a{number:03}" for number in range(30)]
    await paused(storage, *ids)
    verdicts = [Verdict(decisions={id: Approve()}, by=Actor(id)) for id in ids]
    outcomes = await asyncio.gather(*(tried(storage, verdict) for verdict in verdicts))
    assert all(isinstance(outcome, Outcome) for outcome in outcomes), Counter(
        type(outcome).__name__ for outcome in outcomes
    )
    runs = [
        outcome.run_id
        for outcome in outcomes
        if isinstance(outcome, Outcome) and outcome.run_id is not None
    ]
    assert [run.run_id for run in await storage.runs(thread_id="t")] == runs
    assert len(runs) == 1
    for id in ids:
        stored = await storage.approval(id)
        assert stored is not None
        assert (stored.status, stored.decided_by) == (ApprovalStatus.APPROVED, id)
    types = [entry.type for entry in await storage.read_log("t")]
    assert types == ["approval_decided"] * 30 + ["run_resumed"]


async def test_overlapping_decisions_are_taken_whole_or_not_at_all(storage: SqliteStorage) -> None:
    await paused(storage, "a", "b", "c")
    verdicts = [
        Verdict(decisions={"a": Approve(), "b": Approve()}, by=Actor("1")),
        Verdict(decisions={"b": Reject(), "c": Reject()}, by=Actor("2")),
    ]
    outcomes = await asyncio.gather(*(tried(storage, verdict) for verdict in verdicts))
    assert sorted(isinstance(outcome, Outcome) for outcome in outcomes) == [False, True]
    by = [stored.decided_by for id in "abc" if (stored := await storage.approval(id))]
    assert by in (["1", "1", None], [None, "2", "2"])


async def test_what_is_refused_changes_nothing(storage: SqliteStorage) -> None:
    await paused(storage, "a", "b")

    async def everything() -> tuple[Any, ...]:
        return (
            await storage.thread("t"),
            await storage.approvals(),
            await storage.runs(),
            await storage.read_log("t"),
        )

    def no_edit(approval: Approval, decision: Decision) -> None:
        if isinstance(decision, Edit):
            raise InvalidDecision("Not like this.")

    async def takes_no_edit(thread: Thread, pending: Sequence[Approval]) -> Takes:
        return Takes(checks=no_edit)

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
            await decide(
                decider(storage), "t", Verdict(decisions=decisions, by=Actor("bob")), takes_no_edit
            )
    assert await everything() == before


async def test_a_thread_that_is_not_there_or_waits_for_nothing(storage: SqliteStorage) -> None:
    with pytest.raises(NotFound):
        await decide(
            decider(storage), "t", Verdict(decisions=Approve(), by=Actor("bob")), takes_all
        )
    await storage.commit(Change(rows=(a_thread(status=ThreadStatus.IDLE, version=1),)))
    with pytest.raises(NothingPending):
        await decide(
            decider(storage), "t", Verdict(decisions=Approve(), by=Actor("bob")), takes_all
        )
    with pytest.raises(NotFound):
        await decide(
            decider(storage), "t", Verdict(decisions={"a": Approve()}, by=Actor("bob")), takes_all
        )


async def test_what_is_asked_just_after_the_thread_was_read_is_not_called_decided(
    storage: SqliteStorage,
) -> None:
    """Whoever read the thread before it asked finds an approval that it does not wait for yet."""
    idle = a_thread(status=ThreadStatus.IDLE, version=1)
    await storage.commit(Change(rows=(idle, an_approval("asked-since", version=1))))
    verdict = Verdict(decisions=Approve(), by=Actor("bob"))
    with pytest.raises(NothingPending):
        await decide(decider(storage), "t", verdict)

    earlier = an_approval(
        "earlier", status=ApprovalStatus.REJECTED, decided_by="cy", decided_at=NOON, version=1
    )
    await storage.commit(Change(rows=(earlier,)))
    with pytest.raises(AlreadyDecided) as told:
        await decide(decider(storage), "t", verdict)
    assert (told.value.details["approval_id"], told.value.details["decided_by"]) == (
        "earlier",
        "cy",
    )


# ── several people, and time ──────────────────────────────────────────────────────────────────────


def asked(approval_id: str, policy: Policy, **changes: Any) -> Approval:
    args = {"amount": 5}
    row = an_approval(
        approval_id,
        version=1,
        requested_by=("ann",),
        args=args,
        digest=call_digest("pay", args),
        allowed=policy.allowed,
        **changes,
    )
    return ask_under(row, policy, row.requested_at)


async def put(storage: SqliteStorage, *approvals: Approval) -> None:
    """Store a thread that waits for these, each with the timer that it needs."""
    new = [structs.replace(approval, version=0) for approval in approvals]
    done, _ = ask_all(new, ())
    thread = a_thread(*(each.approval_id for each in approvals), version=1)
    await storage.commit(
        together(Change(rows=(thread,)), *(each.change(with_votes=False) for each in done))
    )


async def types(storage: SqliteStorage, thread_id: str = "t") -> list[str]:
    return [entry.type for entry in await storage.read_log(thread_id)]


async def test_a_quorum_needs_as_many_and_whoever_asked_is_none_of_them(
    storage: SqliteStorage,
) -> None:
    policy = Policy(roles=("lead",), quorum=2, four_eyes=True)
    await put(storage, asked("a", policy))
    with pytest.raises(Forbidden, match="ann asked for"):
        await decide(
            decider(storage), "t", Verdict(decisions=Approve(), by=Actor("ann")), takes_all
        )
    with pytest.raises(Forbidden, match="zoe may not decide"):
        await decide(
            decider(storage), "t", Verdict(decisions=Approve(), by=Actor("zoe")), takes_all
        )
    first = await decide(
        decider(storage), "t", Verdict(decisions=Approve(), by=Actor("bob")), takes_all
    )
    assert (first.pending, first.run_id, first.approvals[0].status) == (
        ("a",),
        None,
        ApprovalStatus.PENDING,
    )
    again = await decide(
        decider(storage), "t", Verdict(decisions=Approve(), by=Actor("bob")), takes_all
    )
    assert again.run_id is None
    second = await decide(
        decider(storage), "t", Verdict(decisions=Approve(), by=Actor("cy")), takes_all
    )
    assert second.run_id is not None
    assert second.approvals[0].status is ApprovalStatus.APPROVED
    assert await types(storage) == [
        "approval_required",
        "approval_voted",
        "approval_decided",
        "run_resumed",
    ]
    # What the feed tells is the same, without what was asked.
    feed = [decode(entry.body) for entry in await storage.read_log(APPROVALS)]
    assert [event.about for event in feed] == ["t"] * 3  # type: ignore[union-attr]
    assert feed[0].args is None  # type: ignore[union-attr]


async def test_of_three_who_vote_at_once_two_make_the_quorum_once(storage: SqliteStorage) -> None:
    for number in range(20):
        ids = f"a{number}"
        await storage.commit(Change(rows=(a_thread(thread_id=f"t{number}", version=1),)))
        thread = await storage.thread(f"t{number}")
        assert thread is not None
        row = structs.replace(asked(ids, Policy(roles=("lead",), quorum=2)), thread_id=f"t{number}")
        await storage.commit(Change(rows=(replace(thread, pending=(ids,), version=2), row)))

        async def vote(name: str, thread_id: str = f"t{number}") -> Outcome | AssentError:
            try:
                return await decide(
                    decider(storage),
                    thread_id,
                    Verdict(decisions=Approve(), by=Actor(name)),
                    takes_all,
                )
            except AssentError as error:
                return error

        outcomes = await asyncio.gather(*map(vote, ("bob", "cy", "dee")))
        runs = [each.run_id for each in outcomes if isinstance(each, Outcome) and each.run_id]
        assert len(runs) == 1
        assert [run.run_id for run in await storage.runs(thread_id=f"t{number}")] == [runs[0]]
        assert sum(isinstance(each, AlreadyDecided) for each in outcomes) == 1
        stored = await storage.approval(ids)
        assert stored is not None
        assert len(stored.votes) == 2


async def test_votes_are_taken_back_says_handed_over_and_comments_kept(
    storage: SqliteStorage,
) -> None:
    await put(storage, asked("a", Policy(roles=("lead",), quorum=2)))
    await decide(decider(storage), "t", Verdict(decisions=Approve(), by=Actor("bob")), takes_all)
    assert (await act(decider(storage), "a", Withdraw(by=LEADS["bob"]))).votes == ()
    row = await act(decider(storage), "a", Delegate(by=LEADS["bob"], to=Target(name="zoe")))
    assert row.assignees == ("zoe",)
    assert [each.approval_id for each in (await storage.approvals(assignee="zoe")).rows] == ["a"]
    row = await act(decider(storage), "a", AddComment(by=Person(name="eve"), text="Why so much?"))
    assert [each.text for each in row.comments] == ["Why so much?"]
    done = await decide(
        decider(storage), "t", Verdict(decisions=Approve(), by=Actor("zoe")), takes_all
    )
    assert done.run_id is None
    done = await decide(
        decider(storage), "t", Verdict(decisions=Approve(), by=Actor("cy")), takes_all
    )
    assert done.run_id is not None
    with pytest.raises(AlreadyDecided):
        await act(decider(storage), "a", Withdraw(by=LEADS["cy"]))


async def test_what_is_done_to_one_approval_depends_on_no_other(
    storage: SqliteStorage, tmp_path: Path
) -> None:
    await paused(storage, "a", "b")
    with closing(sqlite3.connect(tmp_path / "assent.db")) as connection, connection:
        connection.execute("UPDATE approvals SET args = 'broken' WHERE approval_id = 'b'")
    with pytest.raises(Tampered, match="the approval 'b'"):
        await storage.approval("b")
    row = await act(decider(storage), "a", AddComment(by=Person(name="eve"), text="Why?"))
    assert [each.text for each in row.comments] == ["Why?"]


def at(time: datetime) -> Clock:
    return Clock(now=lambda: time)


HOUR = timedelta(hours=1)


async def test_time_reminds_escalates_and_rejects_each_once_and_never_early(
    storage: SqliteStorage,
) -> None:
    policy = Policy(
        roles=("lead",), timeout=HOUR, reminders=(timedelta(minutes=20),), on_timeout=OnTimeout.ESCALATE,
        escalation=(Escalation(names=("eve",), timeout=HOUR),),
    )  # fmt: skip
    await put(storage, asked("a", policy))
    timer = await storage.timer("a")
    assert timer is not None
    assert (timer.kind, timer.due_at, timer.thread_id) == (
        "approval",
        NOON + timedelta(minutes=20),
        "t",
    )
    assert await look(decider(storage, at(NOON + timedelta(minutes=19))), "a") is None
    for minutes, what, due in (
        (20, "approval_reminder", 60),
        (60, "approval_escalated", 80),
        (80, "approval_reminder", 120),
    ):
        now = at(NOON + timedelta(minutes=minutes))
        assert await look(decider(storage, now), "a") is not None
        assert await look(decider(storage, now), "a") is None
        assert (await types(storage))[-1] == what
        assert (await storage.timer("a")).due_at == NOON + timedelta(minutes=due)  # type: ignore[union-attr]
    assert [each.approval_id for each in (await storage.approvals(assignee="eve")).rows] == ["a"]
    expired = await look(decider(storage, at(NOON + 2 * HOUR)), "a")
    assert expired is not None
    assert expired.run_id is not None
    assert await storage.timer("a") is None
    row = await storage.approval("a")
    assert row is not None
    assert (row.status, row.decided_by) == (ApprovalStatus.EXPIRED, None)
    assert row.decision == Reject("Nobody decided in time.")
    assert await types(storage) == [
        *(
            "approval_required",
            "approval_reminder",
            "approval_escalated",
            "approval_reminder",
            "approval_expired",
            "run_resumed",
        )
    ]


@pytest.mark.slow
async def test_a_decision_and_its_deadline_have_one_outcome(storage: SqliteStorage) -> None:
    """Three hundred times, half of them a moment before it, and half at it."""
    count = 300
    moments = [NOON + HOUR - timedelta(microseconds=number % 2) for number in range(count)]
    for number in range(count):
        row = structs.replace(asked(f"a{number}", Policy(timeout=HOUR)), thread_id=f"t{number}")
        await storage.commit(
            Change(rows=(a_thread(f"a{number}", thread_id=f"t{number}", version=1), row))
        )

    async def person(number: int) -> Outcome | None:
        try:
            return await decide(
                decider(storage, at(moments[number])),
                f"t{number}",
                Verdict(decisions=Approve(), by=Actor("bob")),
                takes_all,
            )
        except AlreadyDecided:
            return None

    async def time(number: int) -> Outcome | None:
        return await look(decider(storage, at(NOON + HOUR)), f"a{number}")

    for start in range(0, count, 100):
        numbers = range(start, start + 100)
        work = [
            doing(number)
            for number in numbers
            for doing in ((person, time) if number % 3 else (time, person))
        ]
        await asyncio.gather(*work)
    outcomes: Counter[str] = Counter()
    for number in range(count):
        row_now = await storage.approval(f"a{number}")
        assert row_now is not None
        outcomes[row_now.status] += 1
        runs = await storage.runs(thread_id=f"t{number}")
        assert len(runs) == 1
        last = (
            "approval_expired" if row_now.status is ApprovalStatus.EXPIRED else "approval_decided"
        )
        assert await types(storage, f"t{number}") == [last, "run_resumed"]
        if number % 2 == 0:
            # At the deadline it is too late, whether or not anybody had looked.
            assert row_now.status is ApprovalStatus.EXPIRED
    assert outcomes[ApprovalStatus.APPROVED] + outcomes[ApprovalStatus.EXPIRED] == count
    assert outcomes[ApprovalStatus.APPROVED] > 15


async def test_who_is_told_that_it_expired_is_told_what_is_stored(storage: SqliteStorage) -> None:
    """And not what his clock says: whoever was in time may still be on his way to the storage."""
    await put(storage, asked("a", Policy(timeout=HOUR)), asked("b", Policy(timeout=2 * HOUR)))
    late = decider(storage, at(NOON + HOUR))
    with pytest.raises(AlreadyDecided) as told:
        await decide(
            late,
            "t",
            Verdict(decisions={"a": Approve(), "b": Approve()}, by=Actor("bob")),
            takes_all,
        )
    assert (told.value.details["approval_id"], told.value.details["outcome"]) == ("a", "expired")
    states = [row.status for id in ("a", "b") if (row := await storage.approval(id))]
    assert states == [ApprovalStatus.EXPIRED, ApprovalStatus.PENDING]
    assert await storage.timer("a") is None
    assert (await types(storage))[-1] == "approval_expired"
    # Nor does he who only comments.
    with pytest.raises(AlreadyDecided) as told:
        await act(
            decider(storage, at(NOON + 2 * HOUR)), "b", AddComment(by=LEADS["bob"], text="Hm.")
        )
    assert told.value.details["outcome"] == "expired"
    row = await storage.approval("b")
    assert row is not None
    assert (row.status, row.comments) == (ApprovalStatus.EXPIRED, ())
    # That was all that was pending, so it goes on.
    assert (await types(storage))[-2:] == ["approval_expired", "run_resumed"]
    assert await look(late, "b") is None


@pytest.mark.slow
async def test_who_comes_too_late_is_told_of_him_who_was_in_time(storage: SqliteStorage) -> None:
    """One decides a moment before the deadline and one at it, whichever of the two is stored
    first."""
    for number in range(100):
        thread, id = f"t{number}", f"a{number}"
        row = structs.replace(asked(id, Policy(timeout=HOUR)), thread_id=thread)
        await storage.commit(Change(rows=(a_thread(id, thread_id=thread, version=1), row)))
        in_time = (
            Verdict(decisions=Approve(), by=Actor("bob")),
            decider(storage, at(NOON + HOUR - timedelta(microseconds=1))),
        )
        too_late = (
            Verdict(decisions=Reject("No."), by=Actor("cy")),
            decider(storage, at(NOON + HOUR)),
        )
        sent = [
            decide(in_room, thread, verdict, takes_all) for verdict, in_room in (in_time, too_late)
        ]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        row_now = await storage.approval(id)
        assert row_now is not None
        refused = [each for each in outcomes if isinstance(each, AlreadyDecided)]
        assert {each.details["outcome"] for each in refused} == {row_now.status}
        assert len(refused) == (1 if row_now.status is ApprovalStatus.APPROVED else 2)


async def test_what_the_thread_does_not_ask_any_more_is_superseded_and_decides_nothing(
    storage: SqliteStorage,
) -> None:
    await put(storage, asked("a", Policy(timeout=HOUR)), asked("b", Policy()))

    async def only_b(thread: Thread, pending: Sequence[Approval]) -> Takes:
        ids = [row.approval_id for row in pending if row.approval_id == "a"]
        return Takes(stale=dict.fromkeys(ids, "It changed."))

    with pytest.raises(Superseded, match="It changed"):
        await decide(
            decider(storage), "t", Verdict(decisions={"a": Approve()}, by=Actor("bob")), only_b
        )
    row, thread = await storage.approval("a"), await storage.thread("t")
    assert row is not None
    assert thread is not None
    assert (row.status, row.decision, thread.pending) == (ApprovalStatus.SUPERSEDED, None, ("b",))
    assert await storage.timer("a") is None
    # The other one is decided as if nothing had been.
    done = await decide(
        decider(storage), "t", Verdict(decisions=Approve(), by=Actor("bob")), only_b
    )
    assert done.run_id is not None


KEY = Key(answer_id="k", owner="bob", request_digest="x")


async def test_an_outcome_is_stored_with_its_decision_and_answers_the_same_request_again(
    storage: SqliteStorage,
) -> None:
    await put(storage, asked("a", Policy()), asked("b", Policy()))
    verdict = Verdict(decisions={"a": Approve()}, by=Actor("bob"), key=KEY)
    outcome = await decide(decider(storage), "t", verdict)
    assert outcome.first_seq == 3
    stored = await storage.answer("k")
    assert stored is not None
    assert stored.outcome == outcome
    # Whatever has happened since, the same request has the same answer.
    await decide(decider(storage), "t", Verdict(decisions=Approve(), by=Actor("cy")))
    assert await decide(decider(storage), "t", verdict) == outcome
    other = Verdict(
        decisions={"a": Approve()}, by=Actor("bob"), key=replace(KEY, request_digest="y")
    )
    with pytest.raises(InvalidRequest, match="with another request"):
        await decide(decider(storage), "t", other)
    assert await storage.remove_answers(LATER) == 0
    assert await storage.remove_answers(LATER + HOUR) == 1


async def test_the_same_request_sent_twenty_times_at_once_is_decided_once(
    storage: SqliteStorage,
) -> None:
    await put(storage, asked("a", Policy()))
    verdict = Verdict(decisions=Approve(), by=Actor("bob"), key=KEY)
    outcomes = await asyncio.gather(*(decide(decider(storage), "t", verdict) for _ in range(20)))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert (await types(storage)).count("approval_decided") == 1


async def test_a_change_that_goes_with_a_decision_is_committed_with_it_or_neither_is(
    storage: SqliteStorage,
) -> None:
    await put(storage, asked("a", Policy()))
    link = new_link(asked("a", Policy()), "bob", link_id="l", now=NOON)
    await storage.commit(Change(rows=(link,)))
    await storage.commit(using(link, asked("a", Policy()), LATER))
    verdict = Verdict(
        decisions=Approve(), by=Actor("bob"), also=using(link, asked("a", Policy()), LATER)
    )
    with pytest.raises(Conflict):
        await decide(decider(storage), "t", verdict)
    assert (await storage.approval("a")).status is ApprovalStatus.PENDING  # type: ignore[union-attr]


# ── what is not seen ──────────────────────────────────────────────────────────────────────────────


async def test_what_is_not_seen_when_it_is_decided_is_not_decided(storage: SqliteStorage) -> None:
    """Also if it was seen a moment before: a delegation was taken back, or it escalated."""
    await put(storage, asked("a", Policy()))
    unseen = replace(decider(storage), sight=Sight("own", Owner("bob"), (), APPROVES_NOTHING))
    with pytest.raises(NothingPending):
        await unseen.decide("t", Verdict(decisions=Approve(), by=Actor("bob")))
    with pytest.raises(NotFound, match="There is no approval 'a'"):
        await unseen.act("a", AddComment(by=Person(name="bob"), text="Why?"), Actor("bob"))
    assert (await storage.approval("a")) == asked("a", Policy())
    seen = replace(unseen, sight=Sight("own", Owner("bob"), (), APPROVES_ALL))
    comment = AddComment(by=Person(name="bob"), text="Why?")
    assert (await seen.act("a", comment, Actor("bob"))).comments
