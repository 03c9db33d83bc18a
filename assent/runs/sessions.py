"""Sessions: browsers in which somebody has signed in. Begun, known by their cookie, and ended, with
entries in the audit chain.

A session ends a fixed time after it began, and earlier if it is not used. It gives no more than the
credential that it was begun with, and is good only as long as that is.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from assent.core.access import Owner
from assent.core.audit import Actor, AuditAction, AuditEntry
from assent.core.clock import Clock, time_text
from assent.core.errors import Conflict
from assent.core.json import Json
from assent.core.keys import SESSION, Pepper, Random, is_secret, new_secret
from assent.core.rows import Session
from assent.runs.proofs import proven
from assent.storage.base import Change, Storage, all_rows

USE = "session"
"""The use by which macs and proofs of sessions differ from those of other secrets."""

MOST = 50
"""The most sessions of one person. Of more, the oldest end."""

NOTED_AFTER = timedelta(minutes=1)
"""The time after which it is noted again that a session or a key is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """The person whom a session is for, as the `credential` shows them: with its `roles`, the
    others who know its secret, and until it ends."""

    owner: Owner
    credential: str
    roles: tuple[str, ...] = ()
    known_to: tuple[str, ...] = ()
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class MadeSession:
    """A session that has just begun, and the text of its cookie."""

    row: Session
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions in a storage, known by the server's pepper. One ends after its `lifetime`, or
    when it was `idle` for so long."""

    storage: Storage
    pepper: Pepper
    clock: Clock
    lifetime: timedelta
    idle: timedelta
    random: Random = secrets.token_bytes

    async def begin(self, who: SignIn, by: Actor) -> MadeSession:
        """Begin a session, which is always a new one. Those of the person that are over end, and
        the oldest if they have too many."""
        now = self.clock.now()
        expires_at = now + self.lifetime
        if who.until is not None:
            expires_at = min(expires_at, who.until)
        text = new_secret(SESSION, self.random)
        row = Session(
            session_id=self.pepper.mac(USE, text),
            person=who.owner.name,
            tenant=who.owner.tenant,
            roles=who.roles,
            known_to=who.known_to,
            proof="",
            credential=who.credential,
            created_at=now,
            seen_at=now,
            expires_at=expires_at,
        )
        row = replace(row, proof=self._proof(row))
        entry = self._entry(AuditAction.SIGNED_IN, row, by)
        while True:
            theirs = await all_rows(self.storage.sessions, owner=who.owner)
            left = [each for each in theirs if self.is_good(each)]
            kept = {each.session_id for each in left[: MOST - 1]}
            over = tuple(each for each in theirs if each.session_id not in kept)
            try:
                await self.storage.commit(Change(rows=(row,), removed=over, audit=(entry,)))
            except Conflict:
                # One of them was used, or has ended, meanwhile.
                continue
            return MadeSession(row, text)

    def id_of(self, text: str) -> str | None:
        """The id of the session of the cookie with this text; None if it is none of ours."""
        return self.pepper.mac(USE, text) if is_secret(text, SESSION) else None

    async def read(self, session_id: str) -> Session | None:
        """The session's row, good or not; None if there is none that was begun with our pepper."""
        return await proven(self.storage.session(session_id), self._proof)

    def is_good(self, row: Session) -> bool:
        """True until its time is over, as long as it is used. Its credential has to be asked for
        besides."""
        return self.clock.now() < min(row.expires_at, row.seen_at + self.idle)

    def noted_after(self) -> timedelta:
        """The time after which it is noted again that a session is used."""
        return min(NOTED_AFTER, self.idle / 10)

    async def use(self, row: Session) -> Session:
        """Note that the session was used just now. Raises `Conflict` if its row has moved."""
        used = replace(row, seen_at=self.clock.now(), version=row.version + 1)
        await self.storage.commit(Change(rows=(used,)))
        return used

    async def end(self, session_id: str, by: Actor) -> None:
        """End the session, if it has not ended yet."""
        row = await self.storage.session(session_id)
        while row is not None:
            entry = self._entry(AuditAction.SIGNED_OUT, row, by)
            try:
                await self.storage.commit(Change(removed=(row,), audit=(entry,)))
            except Conflict:
                row = await self.storage.session(session_id)
                continue
            return

    async def end_all(self, owner: Owner, by: Actor) -> int:
        """End every session of the person; how many there were."""
        theirs = await all_rows(self.storage.sessions, owner=owner)
        for row in theirs:
            await self.end(row.session_id, by)
        return len(theirs)

    def _proof(self, row: Session) -> str:
        """The MAC over all that the session is worth."""
        fields: Mapping[str, Json] = {
            "session_id": row.session_id,
            "person": row.person,
            "tenant": row.tenant,
            "roles": list(row.roles),
            "known_to": list(row.known_to),
            "credential": row.credential,
            "created_at": time_text(row.created_at),
            "expires_at": time_text(row.expires_at),
        }
        return self.pepper.proof(USE, fields)

    def _entry(self, action: AuditAction, row: Session, by: Actor) -> AuditEntry:
        kind, _, id = row.credential.partition(":")
        return AuditEntry(
            at=self.clock.now(),
            action=action,
            actor=by.name,
            authentication=by.authentication,
            tenant=row.tenant,
            # Without what shows that a secret is the same.
            detail={"person": row.person, "credential": f"{kind}:{id.rpartition(':')[2]}"},
        )
