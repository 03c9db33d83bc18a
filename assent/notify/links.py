"""Links by which one person may decide one approval, once.

What the person is sent is the link's id and a MAC, with a key that only the server has, over
everything that the link's row says: approval, digest, person, decisions and expiry. So neither the
person nor whoever can write to the database can make it say another thing. To open a link decides
nothing, for programs open links too; who decides posts a form. The link is used up in the
transaction of the decision.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import rfc8785

from assent.approvals.rows import question_of
from assent.core.clock import time_text
from assent.core.decisions import Approve, Decision, Reject
from assent.core.errors import ConfigurationError, Gone, InvalidRequest, NotFound, Superseded
from assent.core.rows import Approval, ApprovalStatus, Link
from assent.storage.base import Storage

KEY_BYTES = 32

BY_LINK: Mapping[str, type[Approve] | type[Reject]] = {"approve": Approve, "reject": Reject}
"""What can be decided by a link. To edit or to answer takes more than a button."""

LASTS = timedelta(days=3)
"""How long a link lasts if nothing is said."""

LASTS_AT_MOST = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class LinkKey:
    """What links are made with, and recognised by."""

    secret: bytes = field(repr=False)
    public_url: str

    def url(self, link: Link) -> str:
        """What the person is sent."""
        return f"{self.public_url.rstrip('/')}/links/{token(link, self.secret)}"

    async def link(self, storage: Storage, given: str) -> Link:
        """The link that was given to us. Raises `NotFound`, which does not tell what is wrong with
        it."""
        link_id, _, mac = given.partition(".")
        link = await storage.link(link_id)
        # A link that is none costs the same time.
        right = token(link or _NOBODYS, self.secret).partition(".")[2]
        if not hmac.compare_digest(mac.encode(), right.encode()) or link is None:
            raise NotFound(
                "There is no such link. It may have been cut off when it was copied: open it from the message that it came with."
            )
        return link


def token(link: Link, secret: bytes) -> str:
    """The link's id, and its MAC."""
    said = {
        "link": link.link_id,
        "approval": link.approval_id,
        "thread": link.thread_id,
        "digest": link.digest,
        "recipient": link.recipient,
        "decisions": list(link.decisions),
        "expires_at": time_text(link.expires_at),
    }
    mac = hmac.digest(secret, b"assent link " + rfc8785.dumps(said), "sha256")
    return f"{link.link_id}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def new_link(
    approval: Approval,
    recipient: str,
    *,
    link_id: str,
    now: datetime,
    by: str = "",
    decision: str | None = None,
    lasts: timedelta = LASTS,
) -> Link:
    """A link to what the approval asks now, for this person. It does not outlast the approval.

    Raises `InvalidRequest` for a decision that links are not for or that the approval does not
    take, and for one that lasts too long.
    """
    wanted = (decision,) if decision else tuple(BY_LINK)
    decisions = tuple(each for each in wanted if each in BY_LINK and each in approval.allowed)
    if not decisions:
        raise InvalidRequest(
            f"The approval {approval.approval_id} takes: {', '.join(approval.allowed)}. A link can only be for: {', '.join(BY_LINK)}."
        )
    if not timedelta(0) < lasts <= LASTS_AT_MOST:
        raise InvalidRequest(
            f"A link lasts longer than nothing and at most {LASTS_AT_MOST.days} days."
        )
    if not recipient:
        raise InvalidRequest("A link is for a person. Name the recipient.")
    until = now + lasts
    return Link(
        link_id=link_id,
        approval_id=approval.approval_id,
        thread_id=approval.thread_id,
        digest=question_of(approval).asked_digest,
        recipient=recipient,
        created_at=now,
        expires_at=min(until, approval.expires_at) if approval.expires_at else until,
        decisions=decisions,
        created_by=by,
    )


def check_usable(link: Link, approval: Approval, now: datetime) -> None:
    """Raises `Gone` for a link that has expired, was used, or whose approval is no longer pending,
    and `Superseded` if what is asked is not what it was made for."""
    if link.used_at is not None:
        raise Gone("This link has been used. It works once.")
    if now >= link.expires_at:
        raise Gone("This link has expired.")
    if approval.status is not ApprovalStatus.PENDING:
        raise Gone(f"Nothing is left to decide here: the approval is '{approval.status}'.")
    if question_of(approval).asked_digest != link.digest:
        raise Superseded(
            "What is asked has been changed since this link was made, so it decides nothing any more."
        )


def decision_by(link: Link, chosen: str, message: str = "") -> Decision:
    """The decision that was chosen. Raises `InvalidRequest` for one that the link is not for."""
    if chosen not in link.decisions:
        raise InvalidRequest(f"This link is for: {', '.join(link.decisions)}.")
    return Reject(message=message) if chosen == "reject" else BY_LINK[chosen]()


def used(link: Link, now: datetime) -> Link:
    """The row to be written with the decision. That it has not been written yet is what makes the
    link work once."""
    return replace(link, used_at=now, version=link.version + 1)


# ── the key ───────────────────────────────────────────────────────────────────────────────────────


def parse_key(written: str) -> bytes:
    """A key in base64. Raises `ConfigurationError`, which does not repeat it."""
    try:
        secret = base64.b64decode(written, validate=True)
    except (ValueError, binascii.Error):
        secret = b""
    if len(secret) < KEY_BYTES:
        raise ConfigurationError(
            f"The key of links is no base64 of {KEY_BYTES} bytes or more. Make one: openssl rand -base64 {KEY_BYTES}"
        )
    return secret


def key_beside(database: Path) -> bytes:
    """The key in the file beside the database, made if there is none, readable by its owner only.
    Raises `ConfigurationError`."""
    path = database.with_name(f"{database.name}.links-key")
    try:
        if not path.exists():
            _make_key(path)
        return parse_key(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise ConfigurationError(
            f"The key of links cannot be kept in {path}: {error.strerror}. Set ASSENT_LINK_KEY instead."
        ) from error
    except (ConfigurationError, ValueError):
        raise ConfigurationError(
            f"The file {path} holds no key of links. Restore it; or remove it, and links sent so far end."
        ) from None


def _make_key(path: Path) -> None:
    # Under another name first: a crash must not leave half a key.
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(
        os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
    ) as file:
        file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


_NOBODYS = Link(
    link_id="",
    approval_id="",
    thread_id="",
    digest="",
    recipient="",
    created_at=datetime.min.replace(tzinfo=UTC),
    expires_at=datetime.min.replace(tzinfo=UTC),
    decisions=(),
)
