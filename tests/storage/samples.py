"""Rows and events for the tests, with every field that has a default given something else, but that
nothing was tampered with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any

from assent.core.approval import (
    Approval,
    ApprovalKind,
    ApprovalStatus,
    Comment,
    Delegation,
    Edited,
    Outcome,
    Target,
    Vote,
)
from assent.core.decisions import Approve, Edit, Respond
from assent.core.events import Token
from assent.core.grant import Bound, Grant
from assent.core.policy import Escalation, OnTimeout, Policy, Risk
from assent.core.rows import (
    Answer,
    ApiKey,
    Assistant,
    AssistantVersion,
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
    Session,
    Thread,
    ThreadStatus,
    Ticket,
    Timer,
)
from tests.support.rows import replace

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
        requested_by=("ann", "bob"),
        metadata={"title": "Größe ☃", "tags": [1, 2.5, None, True, {"deep": []}]},
        tenant="acme",
        assistant_id="as",
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
        requested_by=("ann", "Zoë, jun."),
        schedule_id="s",
        trace=f"00-{'1' * 32}-{'2' * 16}-01",
        tenant="acme",
    )
    return replace(made, **changes)


VOTING: dict[str, Any] = {
    "requested_by": ("ann", "dee"),
    "policy": Policy(
        quorum=2,
        roles=("lead",),
        names=("bob", "cy"),
        risk=Risk.HIGH,
        timeout=timedelta(hours=1),
        on_timeout=OnTimeout.ESCALATE,
        escalation=(Escalation(roles=("boss",)),),
    ),
    "step": 1,
    "step_at": NOON + timedelta(minutes=5),
    "reminded_at": NOON + timedelta(minutes=6),
    "edit": Edited(args={"amount": 3}, digest="2" * 64, by="bob", at=NOON),
    "votes": (
        Vote(by="bob", decision=Approve(), digest="2" * 64, at=NOON, voting_right="bob"),
        Vote(by="cy", decision=Respond(["a", 1]), digest="0" * 64, at=NOON, voting_right="cy"),
    ),
    "delegations": (Delegation(voting_right="cy", to=Target(name="dee"), by="cy", at=NOON),),
    "comments": (Comment(by="eve", text="Größe ☃?", at=NOON),),
    "conversation": {"asked": "pay", "model_wrote": "On it."},
}
"""The fields of an approval that say who decides."""


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
        namespace="tools:1",
        position=1,
        expires_at=NOON + timedelta(days=1),
        decision=Edit(args={}),
        decided_by="bob",
        decided_at=NOON + timedelta(hours=1),
        tenant="acme",
        **VOTING,
    )
    return replace(made, **changes)


def grant(grant_id: str = "g", **changes: Any) -> Grant:
    made = Grant(
        grant_id=grant_id,
        agent="clerk",
        tool="pay",
        bounds={"amount": Bound(max=5), "to": Bound(among=("bob",))},
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
        tenant="acme",
    )
    return replace(made, **changes)


def answer(answer_id: str = "k", **changes: Any) -> Answer:
    made = Answer(
        answer_id=answer_id,
        owner="ann",
        thread_id="t",
        request_digest="d",
        created_at=NOON,
        outcome=Outcome(
            thread_id="t",
            approvals=(approval(),),
            pending=("a",),
            status="interrupted",
            first_seq=7,
            events=1,
        ),
        tenant="acme",
    )
    return replace(made, **changes)


def effect(key: str = "e", **changes: Any) -> Effect:
    made = Effect(
        key=key,
        thread_id="t",
        run_id="r",
        tool="pay",
        tool_call_id="call",
        message_id="m",
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
        requested_by=("ann", "bob"),
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
        tenant="acme",
    )
    return replace(made, **changes)


SET_BY_ASSISTANT: dict[str, Any] = {
    "owner": "ann",
    "agent": "clerk",
    "name": "Größe ☃",
    "description": "It is strict.",
    "config": {"configurable": {"k": "v"}, "tags": ["a"]},
    "context": {"tone": 1.5},
    "metadata": {"k": ["v", None]},
    "requested_by": ("ann", "bob"),
    "tenant": "acme",
}
"""The fields of an assistant that its versions have too."""


def assistant(assistant_id: str = "as", **changes: Any) -> Assistant:
    made = Assistant(
        assistant_id=assistant_id,
        created_at=NOON,
        updated_at=NOON + timedelta(seconds=1),
        number=2,
        last_number=3,
        **SET_BY_ASSISTANT,
    )
    return replace(made, **changes)


def assistant_version(version_id: str = "as:2", **changes: Any) -> AssistantVersion:
    assistant_id, _, number = version_id.partition(":")
    made = AssistantVersion(
        version_id=version_id,
        assistant_id=assistant_id,
        number=int(number or 1),
        created_at=NOON,
        **SET_BY_ASSISTANT,
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
        tenant="acme",
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


def api_key(key_id: str = "key", **changes: Any) -> ApiKey:
    made = ApiKey(
        key_id=key_id,
        person="ann",
        roles=("operator", "approver:tool:pay"),
        mac="1" * 64,
        proof="2" * 64,
        made_by="bob",
        created_at=NOON,
        expires_at=NOON + timedelta(days=90),
        revoked_at=NOON + timedelta(days=2),
        last_used_at=NOON + timedelta(days=1),
        note="Größe ☃",
        tenant="acme",
    )
    return replace(made, **changes)


def session(session_id: str = "session", **changes: Any) -> Session:
    made = Session(
        session_id=session_id,
        person="ann",
        roles=("operator",),
        proof="2" * 64,
        credential="key:key",
        created_at=NOON,
        seen_at=NOON + timedelta(hours=1),
        expires_at=NOON + timedelta(hours=12),
        known_to=("bob",),
        tenant="acme",
    )
    return replace(made, **changes)


def ticket(ticket_id: str = "ticket", **changes: Any) -> Ticket:
    made = Ticket(
        ticket_id=ticket_id,
        person="ann",
        roles=("operator",),
        proof="2" * 64,
        path="/threads/t/events",
        transport="sse",
        credential="key:key",
        created_at=NOON,
        expires_at=NOON + timedelta(seconds=30),
        credential_ends=NOON + timedelta(days=1),
        known_to=("bob",),
        tenant="acme",
    )
    return replace(made, **changes)


def token(thread_id: str = "t", content: str = "Hi ") -> Token:
    """A token of a message of its own, so that it is merged with no other."""
    return piece(content, thread_id, f"m{next(_numbers)}")


def piece(content: str, thread_id: str = "t", message_id: str = "m") -> Token:
    """A token that is merged with its neighbours when the writer has fallen behind."""
    return Token(thread_id=thread_id, run_id="r", message_id=message_id, content=content)


_numbers = count(1)
