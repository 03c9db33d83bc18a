"""Links by which one person can decide one approval, once.

A link holds its id and a MAC over everything that its row says: approval, digest, recipient,
decisions and expiry. Only the server has the key, so neither the recipient nor anybody who can
write to the database can change what a link is for. Programs open links too, so opening one decides
nothing: the page's form does. The link is marked as used in the transaction of the decision.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import rfc8785

from assent.core.approval import Approval, ApprovalKind
from assent.core.audit import AuditAction, AuditEntry, Authentication
from assent.core.clock import time_text
from assent.core.errors import Gone, InvalidRequest, NotFound, Superseded
from assent.core.keys import same
from assent.core.rows import Link
from assent.storage.base import Change, Storage

BY_LINK = ("approve", "reject")
"""The decisions that links can make about an action. To edit it, or to answer in its place, takes
more than a button."""

ON_QUESTIONS = ("respond", "reject")
"""The decisions that links can make about a graph's question."""

DEFAULT_LIFETIME = timedelta(days=3)
MAX_LIFETIME = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class LinkKey:
    """The server's key: makes the URLs of links, and recognises them."""

    secret: bytes = field(repr=False)
    public_url: str

    def url(self, link: Link) -> str:
        """The URL to send to the recipient."""
        return f"{self.public_url.rstrip('/')}/links/{token(link, self.secret)}"

    async def find(self, storage: Storage, given: str) -> Link:
        """The link with this token. Raises `NotFound`, which does not say what is wrong with
        it."""
        link_id, _, mac = given.partition(".")
        link = await storage.link(link_id)
        # An unknown link takes the same time.
        expected = token(link or _UNKNOWN, self.secret).partition(".")[2]
        if not same(mac, expected) or link is None:
            raise NotFound("There is no such link.")
        return link


def token(link: Link, secret: bytes) -> str:
    """The link's id and MAC: `<id>.<mac>`."""
    signed = {
        "link": link.link_id,
        "approval": link.approval_id,
        "thread": link.thread_id,
        "digest": link.digest,
        "recipient": link.recipient,
        "decisions": list(link.decisions),
        "expires_at": time_text(link.expires_at),
    }
    mac = hmac.digest(secret, b"assent link " + rfc8785.dumps(signed), "sha256")
    return f"{link.link_id}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def new_link(
    approval: Approval,
    recipient: str,
    *,
    link_id: str,
    now: datetime,
    by: str = "",
    decision: str | None = None,
    lasts: timedelta = DEFAULT_LIFETIME,
) -> Link:
    """A link for the recipient to what the approval asks now. It expires no later than the
    approval.

    Without a `decision` the recipient chooses. Raises `InvalidRequest` for a decision that links
    cannot make or the approval does not allow, and for a lifetime out of bounds.
    """
    offered = decisions_by_link(approval)
    decisions = tuple(each for each in offered if decision in (None, each))
    if not decisions:
        raise InvalidRequest(
            f"The approval {approval.approval_id} takes: {', '.join(approval.allowed)}. "
            f"A link to it can only be for: {', '.join(offered) or 'none of these'}."
        )
    if not timedelta(0) < lasts <= MAX_LIFETIME:
        raise InvalidRequest(
            f"A link lasts longer than 0 seconds and at most {MAX_LIFETIME.days} days."
        )
    if not recipient:
        raise InvalidRequest("A link is for a person. Name the recipient.")

    expires_at = now + lasts
    if approval.expires_at is not None:
        expires_at = min(expires_at, approval.expires_at)
    return Link(
        link_id=link_id,
        approval_id=approval.approval_id,
        thread_id=approval.thread_id,
        digest=approval.current_digest,
        recipient=recipient,
        created_at=now,
        expires_at=expires_at,
        decisions=decisions,
        created_by=by,
    )


def decisions_by_link(approval: Approval) -> tuple[str, ...]:
    """The decisions that a link to the approval can make."""
    by_link = ON_QUESTIONS if approval.kind is ApprovalKind.INPUT else BY_LINK
    return tuple(each for each in by_link if each in approval.allowed)


def check_usable(link: Link, approval: Approval, now: datetime) -> None:
    """Raises `Gone` if the link was used or has expired or its approval is no longer pending, and
    `Superseded` if the approval asks something else now."""
    if link.used_at is not None:
        raise Gone("This link has been used. It works once.")
    if now >= link.expires_at:
        raise Gone("This link has expired.")
    if not approval.is_pending:
        raise Gone(f"Nothing is left to decide here: the approval is '{approval.status}'.")
    if approval.current_digest != link.digest:
        raise Superseded(
            "The question has been changed since this link was made, "
            "so the link decides nothing any more."
        )


def check_chosen(link: Link, chosen: str) -> None:
    """Raise `InvalidRequest` for a decision that the link is not for."""
    if chosen not in link.decisions:
        raise InvalidRequest(f"This link is for: {', '.join(link.decisions)}.")


async def store_link(storage: Storage, link: Link, approval: Approval) -> None:
    """Store a new link. Raises `Conflict` if the approval has changed meanwhile."""
    await storage.commit(Change(rows=(link,), unchanged=(approval,)))


def using(link: Link, approval: Approval, now: datetime) -> Change:
    """The change to commit with the decision. It conflicts if the link was used before, which is
    what makes a link work once."""
    entry = AuditEntry(
        at=now,
        action=AuditAction.LINK_USED,
        actor=link.recipient,
        authentication=Authentication.SIGNED_LINK,
        thread_id=link.thread_id,
        approval_id=link.approval_id,
        tenant=approval.tenant,
        digest=link.digest,
        detail={"link_id": link.link_id, "created_by": link.created_by},
    )
    used = replace(link, used_at=now, version=link.version + 1)
    return Change(rows=(used,), audit=(entry,))


_UNKNOWN = Link(
    link_id="",
    approval_id="",
    thread_id="",
    digest="",
    recipient="",
    created_at=datetime.min.replace(tzinfo=UTC),
    expires_at=datetime.min.replace(tzinfo=UTC),
    decisions=(),
)
