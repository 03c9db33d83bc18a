"""Approvals that are asked, the people who decide them, and a decider over a storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import structs

from assent.approvals.decide import Decider, Inspect, Verdict
from assent.approvals.rules import Requirement, ask_under
from assent.core.access import APPROVES_ALL, EVERYTHING
from assent.core.approval import Approval, ApprovalKind, ApprovalStatus, Outcome
from assent.core.clock import Clock
from assent.core.decisions import Decision
from assent.core.digest import call_digest
from assent.core.policy import Person, Policy
from assent.core.rows import Thread, ThreadStatus
from assent.storage.sqlite import SqliteStorage

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

ANN = Person(name="ann", roles=("clerk",), approves=APPROVES_ALL)
BOB = Person(name="bob", roles=("clerk",), approves=APPROVES_ALL)
CY = Person(name="cy", roles=("clerk", "lead"), approves=APPROVES_ALL)
DEE = Person(name="dee", roles=("lead",), approves=APPROVES_ALL)
EVE = Person(name="eve", approves=APPROVES_ALL)
FAY = Person(name="fay", roles=("director",), approves=APPROVES_ALL)
PEOPLE = (ANN, BOB, CY, DEE, EVE, FAY)

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
LATER = NOON + timedelta(hours=2)
CLOCK = Clock(now=lambda: LATER)


def an_approval(approval_id: str, **changes: Any) -> Approval:
    """A pending approval as its row is stored."""
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
    return structs.replace(made, **changes)


def a_thread(*pending: str, **changes: Any) -> Thread:
    """The thread that waits for these approvals."""
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


def question(policy: Policy, requested_by: Sequence[str] = ("ann",), args: Any = None) -> Approval:
    """An approval that was asked for under this policy at `START`."""
    args = {"amount": 1} if args is None else args
    made = Approval(
        approval_id="apr_1",
        thread_id="t",
        run_id="r",
        agent="records",
        kind=ApprovalKind.TOOL,
        tool="pay",
        tool_call_id="c1",
        args=args,
        digest=call_digest("pay", args),
        policy=policy,
        allowed=policy.allowed,
        requested_by=tuple(requested_by),
        requested_at=START,
        step_at=START,
    )
    return ask_under(made, policy, START)


@dataclass(frozen=True)
class Takes:
    """What an agent says of its approvals: these are `stale`, and no other is refused unless the
    `check` does."""

    stale: Mapping[str, str] = field(default_factory=dict)
    checks: Callable[[Approval, Decision], None] = lambda approval, decision: None

    def check(self, approval: Approval, decision: Decision) -> None:
        self.checks(approval, decision)

    def requires(self, approval: Approval, args: Mapping[str, Any]) -> Requirement:
        return Requirement(approval.policy)


async def takes_all(thread: Thread, pending: Sequence[Approval]) -> Takes:
    return Takes()


LEADS = {
    name: Person(name=name, roles=("lead",), approves=APPROVES_ALL)
    for name in ("ann", "bob", "cy", "dee")
}


def decider(storage: SqliteStorage, clock: Clock = CLOCK) -> Decider:
    return Decider(
        sight=EVERYTHING,
        storage=storage,
        clock=clock,
        person=lambda by: LEADS.get(by.name, Person(name=by.name, approves=APPROVES_ALL)),
        inspect=takes_all,
        start=lambda run, thread: None,
    )


async def decide(
    decider: Decider, thread_id: str, verdict: Verdict, inspect: Inspect = takes_all
) -> Outcome:
    return await replace(decider, inspect=inspect).decide(thread_id, verdict)
