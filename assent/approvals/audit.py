"""What the audit chain is told of approvals, and where its head is sent.

An entry outlives the thread that it is about, so it says who did what to which question, and has digests of what people and models wrote
in place of the words: whoever has the words can prove that they are those, and whoever has not cannot read them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog

from assent import events
from assent.approvals.notifier import Message, NotDelivered, Notifier
from assent.checkpoint.chain import head_to_json
from assent.checkpoint.contracts import AuditAction, AuditEntry, AuditHead, Authentication, Storage
from assent.clock import time_text
from assent.digest import call_digest
from assent.events import ApprovalEvent, Event

log = structlog.get_logger(__name__)

Json = Any
"""Any JSON value."""

AUDIT_HEAD = "audit_head"
"""What an endpoint is told that is given the head of the chain."""

GIVING_SECONDS = 60.0
"""How long one sink may take for a head."""

LAST_SECONDS = 5.0
"""How long a server that stops waits for its sinks to take the last head."""

ACTIONS: dict[type[ApprovalEvent], AuditAction] = {
    events.ApprovalRequired: AuditAction.ASKED,
    events.ApprovalVoted: AuditAction.VOTED,
    events.ApprovalDecided: AuditAction.DECIDED,
    events.ApprovalEdited: AuditAction.EDITED,
    events.ApprovalWithdrawn: AuditAction.WITHDRAWN,
    events.ApprovalDelegated: AuditAction.DELEGATED,
    events.ApprovalCommented: AuditAction.COMMENTED,
    events.ApprovalReminder: AuditAction.REMINDED,
    events.ApprovalEscalated: AuditAction.ESCALATED,
    events.ApprovalExpired: AuditAction.EXPIRED,
    events.ApprovalSuperseded: AuditAction.SUPERSEDED,
    events.ApprovalCancelled: AuditAction.CANCELLED,
}
"""Every event of an approval is an entry too."""

NOBODY = {
    events.ApprovalRequired: Authentication.ASSENT,
    events.ApprovalSuperseded: Authentication.ASSENT,
    events.ApprovalReminder: Authentication.TIME,
    events.ApprovalEscalated: Authentication.TIME,
    events.ApprovalExpired: Authentication.TIME,
}
"""What happens without anybody doing it, whoever is at work meanwhile."""


def audit_of(told: Iterable[Event], *, authentication: Authentication, digest: str = "", policy: str = "") -> tuple[AuditEntry, ...]:
    """An entry for each event of an approval among these, in order. `authentication` is how it was known who acts; `digest` is of what he
    was shown, or, where nobody acts, of what is asked; `policy` is the digest of the policy that it was judged by. A question that is new
    says itself what is asked."""
    return tuple(_entry(event, authentication, digest, policy) for event in told if isinstance(event, ApprovalEvent))


def _entry(event: ApprovalEvent, authentication: Authentication, digest: str, policy: str) -> AuditEntry:
    actor = getattr(event, "by", "")
    if type(event) in NOBODY:
        authentication = NOBODY[type(event)]
    elif getattr(event, "grant", ""):
        authentication = Authentication.GRANT
    elif not actor:
        authentication = Authentication.ASSENT
    return AuditEntry(
        at=event.ts,
        action=ACTIONS[type(event)],
        actor=actor,
        authentication=authentication,
        thread_id=event.thread_id,
        approval_id=event.approval_id,
        run_id=event.run_id,
        digest=event.digest if isinstance(event, events.ApprovalRequired) else digest,
        policy=policy,
        detail={name: value for name, value in {"kind": event.kind, "tool": event.tool, **_detail(event)}.items() if value},
    )


def _detail(event: ApprovalEvent) -> dict[str, Json]:
    """What belongs to the event, without a word of what somebody wrote."""
    match event:
        case events.ApprovalRequired():
            return {"allowed": list(event.allowed), "expires_at": event.expires_at and time_text(event.expires_at)}
        case events.ApprovalDecided():
            args = None if event.args is None else call_digest(event.tool, event.args)
            return {"decision": event.decision, "args_digest": args, "message_digest": _digest(event.message), "grant": event.grant}
        case events.ApprovalVoted():
            said = {"decision": event.decision, "message_digest": _digest(event.message), "grant": event.grant}
            return {**said, "votes": event.votes, "quorum": event.quorum}
        case events.ApprovalEdited():
            return {"args_digest": event.digest}
        case events.ApprovalDelegated():
            return {"to": event.to, "role": event.role}
        case events.ApprovalCommented():
            return {"message_digest": _digest(event.text)}
        case events.ApprovalEscalated():
            return {"to": list(event.to), "expires_at": event.expires_at and time_text(event.expires_at)}
        case events.ApprovalSuperseded():
            return {"reason": event.reason}
        case _:
            return {}


def _digest(message: Json) -> str | None:
    """Of the form that a call's digest has, as if a tool 'message' were called with it. Nothing has none."""
    return call_digest("message", message) if message not in (None, "") else None


# ── the head ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class HeadSink(Protocol):
    """Takes the chain's head to where whoever has the database cannot change it. It may raise; then it is given that head again."""

    async def __call__(self, head: AuditHead) -> None: ...


def to_file(path: Path) -> HeadSink:
    """Keeps the newest head in a file, as a line of JSON that `assent audit verify --head` takes. The file is whole at every moment."""

    async def write(head: AuditHead) -> None:
        await asyncio.to_thread(_replace, path, orjson.dumps(head_to_json(head)) + b"\n")

    return write


def to_endpoint(name: str, notifier: Notifier) -> HeadSink:
    """Tells an endpoint of each head. There is no queue: what it misses is in the next one."""

    async def tell(head: AuditHead) -> None:
        said = head_to_json(head)
        await notifier.notify(Message(id=f"head-{head.number}-{head.mac}", endpoint=name, type=AUDIT_HEAD, at=head.at, data={"head": said}))

    return tell


def _replace(path: Path, content: bytes) -> None:
    made = path.with_name(f".{path.name}.{os.getpid()}")
    with made.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)


@asynccontextmanager
async def publishing(
    storage: Storage, sinks: Sequence[HeadSink], every: timedelta, *, last_seconds: float = LAST_SECONDS
) -> AsyncIterator[None]:
    """Give the chain's head to each sink, at once and then whenever it has moved, but no more often than that; and at the end once more.

    A sink that fails delays no other, and is given the head of that time at the next look. At the end each has `last_seconds`.
    """
    if not sinks:
        yield
        return
    publishers = [_Publisher(storage, sink) for sink in sinks]
    going = asyncio.gather(*(publisher.go_on(every.total_seconds()) for publisher in publishers))
    try:
        yield
    finally:
        going.cancel()
        with suppress(asyncio.CancelledError):
            await going
        with suppress(TimeoutError):
            async with asyncio.timeout(last_seconds):
                await asyncio.gather(*(publisher.publish() for publisher in publishers))


class _Publisher:
    """One sink, and the head that it was given last."""

    def __init__(self, storage: Storage, sink: HeadSink) -> None:
        self._storage = storage
        self._sink = sink
        self._given: AuditHead | None = None

    async def go_on(self, every: float) -> None:
        while True:
            await self.publish()
            await asyncio.sleep(every)

    async def publish(self) -> None:
        try:
            head = await self._storage.audit_head()
            if head is not None and head != self._given:
                async with asyncio.timeout(GIVING_SECONDS):
                    await self._sink(head)
                self._given = head
        except NotDelivered as error:
            log.warning("the head of the audit chain was not taken", why=str(error))
        except Exception:
            # A full disk, say, or a receiver that is down. Decisions do not wait for it; the next look tries again.
            log.exception("the head of the audit chain could not be sent")
