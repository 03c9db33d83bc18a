"""Rows and events for the tests, with every field that has a default given something else, but that
nothing was tampered with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any

from assent.core.events import Token
from assent.core.rows import (
    Answer,
    Approval,
    ApprovalKind,
    ApprovalStatus,
    CancelMode,
    Effect,
    EffectStatus,
    Link,
    Notification,
    NotificationStatus,
    Run,
    RunKind,
    RunStatus,
    Schedule,
    StandingGrant,
    Thread,
    ThreadStatus,
    Timer,
)

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)


def thread(thread_id: str = "t", **changes: Any) -> Thread:
    made = Thread(
        thread_id=thread_id,
        owner="ann",
        status=ThreadStatus.INTERRUPTED,
        created_at=NOON,
        updated_at=NOON + timedelta(seconds=1),
        agent="clerk",
        run_id="r",
        checkpoint_id="c",
        pending=("a1", "a2"),
        metadata={"title": "Größe ☃", "tags": [1, 2.5, None, True, {"deep": []}]},
    )
    return replace(made, **changes)


def run(run_id: str = "r", **changes: Any) -> Run:
    made = Run(
        run_id=run_id,
        thread_id="t",
        owner="ann",
        agent="clerk",
        kind=RunKind.RESUME,
        status=RunStatus.TIMEOUT,
        created_at=NOON.astimezone(timezone(timedelta(hours=5, minutes=30))),
        input={"message": "pay"},
        attempt=3,
        priority=-2,
        due_at=NOON - timedelta(hours=1),
        worker="w",
        started_at=NOON,
        ended_at=NOON + timedelta(microseconds=1),
        cancel=CancelMode.ROLLBACK,
        at_checkpoint="c",
        stuck=1,
        error={"type": "Timeout"},
        metadata={"k": "v"},
        budget={"tokens": 1000, "then": "ask"},
        usage={"tokens": 12, "usd": 0.25},
        schedule_id="s",
    )
    return replace(made, **changes)


POLICIES: dict[str, Any] = {
    "requested_by": "ann",
    "risk": "high",
    "roles": ("lead",),
    "names": ("bob", "cy"),
    "assignees": ("dee",),
    "step": 2,
    "step_at": NOON + timedelta(minutes=5),
    "reminded_at": NOON + timedelta(minutes=6),
    "policy_digest": "1" * 64,
    "policy": {"quorum": 2, "roles": ["lead"]},
    "edit": {"args": {"amount": 3}, "digest": "2" * 64, "by": "bob"},
    "votes": ({"by": "bob", "decision": {"type": "approve"}},),
    "delegations": ({"say": "cy", "to": {"name": "dee", "role": ""}},),
    "comments": ({"by": "eve", "text": "Größe ☃?"},),
    "shown": {"asked": "pay", "model_wrote": "On it."},
}
"""The fields of an approval that are about its policy."""


def approval(approval_id: str = "a", **changes: Any) -> Approval:
    made = Approval(
        approval_id=approval_id,
        thread_id="t",
        run_id="r",
        owner="ann",
        agent="clerk",
        kind=ApprovalKind.UNKNOWN_OUTCOME,
        status=ApprovalStatus.EDITED,
        requested_at=NOON,
        digest="0" * 64,
        allowed=("approve", "reject"),
        tool="pay",
        tool_call_id="call",
        message_id="m",
        args={"amount": 12.5, "to": ["bob"]},
        schema={"type": "object"},
        preview=[1, "two"],
        node="tools",
        checkpoint_id="c",
        interrupt_id="i",
        expires_at=NOON + timedelta(days=1),
        decision={"type": "edit", "args": {}},
        decided_by="bob",
        decided_at=NOON + timedelta(hours=1),
        **POLICIES,
    )
    return replace(made, **changes)


def grant(grant_id: str = "g", **changes: Any) -> StandingGrant:
    made = StandingGrant(
        grant_id=grant_id,
        agent="clerk",
        tool="pay",
        bounds={"amount": {"max": 5}, "to": {"among": ["bob"]}},
        given_by="ann",
        roles=("lead", "boss"),
        given_at=NOON,
        until=NOON + timedelta(days=1),
        uses=3,
        thread_id="t",
        user="cy",
        used=1,
        revoked_by="dee",
        revoked_at=NOON + timedelta(hours=1),
    )
    return replace(made, **changes)


def answer(answer_id: str = "k", **changes: Any) -> Answer:
    made = Answer(
        answer_id=answer_id,
        owner="ann",
        thread_id="t",
        asked="d",
        created_at=NOON,
        first_seq=7,
        body={"run_id": None, "pending": ["a"]},
    )
    return replace(made, **changes)


def effect(key: str = "e", **changes: Any) -> Effect:
    made = Effect(
        key=key,
        thread_id="t",
        run_id="r",
        tool="pay",
        tool_call_id="call",
        digest="0" * 64,
        status=EffectStatus.FINISHED,
        started_at=NOON,
        finished_at=NOON + timedelta(seconds=2),
        outcome={"content": "paid"},
    )
    return replace(made, **changes)


def timer(timer_id: str = "i", **changes: Any) -> Timer:
    made = Timer(
        timer_id=timer_id, kind="expire", due_at=NOON, thread_id="t", payload={"approval_id": "a"}
    )
    return replace(made, **changes)


def schedule(schedule_id: str = "s", **changes: Any) -> Schedule:
    made = Schedule(
        schedule_id=schedule_id,
        owner="ann",
        agent="clerk",
        cron="0 9 * * 1-5",
        timezone="Europe/Vienna",
        input={"message": "Größe ☃"},
        created_at=NOON,
        thread_id="t",
        on_busy="reject",
        if_missed="skip",
        enabled=False,
        next_at=NOON + timedelta(days=1),
        last_at=NOON - timedelta(days=1),
        last_run_id="r",
        last_error="It was busy.",
        metadata={"k": "v"},
        budget={"tokens": 9},
    )
    return replace(made, **changes)


def notification(notification_id: str = "n", **changes: Any) -> Notification:
    made = Notification(
        notification_id=notification_id,
        endpoint="hook",
        event="approval_required",
        thread_id="t",
        approval_id="a",
        run_id="r",
        payload={"args": {"amount": 12.5}},
        status=NotificationStatus.PENDING,
        created_at=NOON,
        next_at=NOON + timedelta(seconds=5),
        attempts=2,
        last_error="It answered with status 500.",
        delivered_at=NOON + timedelta(hours=1),
    )
    return replace(made, **changes)


def link(link_id: str = "l", **changes: Any) -> Link:
    made = Link(
        link_id=link_id,
        approval_id="a",
        thread_id="t",
        digest="0" * 64,
        recipient="bob",
        created_at=NOON,
        expires_at=NOON + timedelta(days=1),
        decisions=("approve",),
        created_by="ann",
        used_at=NOON + timedelta(hours=1),
    )
    return replace(made, **changes)


def token(thread_id: str = "t", content: str = "Hi ") -> Token:
    """A token of a message of its own, so that it is merged with no other."""
    return piece(content, thread_id, f"m{next(_numbers)}")


def piece(content: str, thread_id: str = "t", message_id: str = "m") -> Token:
    """A token that is merged with its neighbours when the writer has fallen behind."""
    return Token(thread_id=thread_id, run_id="r", message_id=message_id, content=content)


_numbers = count(1)
