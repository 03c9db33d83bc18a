"""Tickets for streams: a page cannot send a header with an `EventSource` or a WebSocket, and a key
in a URL would last. A ticket opens one stream, once, within half a minute."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from fastapi import Request

from assent.api.access.given import Given
from assent.api.access.identity import Credential, Found, Identity, Kind, Source, not_known
from assent.api.paths import own_path_of
from assent.core.access import Owner, approves_of, rights_of
from assent.core.audit import Authentication
from assent.core.clock import Clock, time_text
from assent.core.errors import Conflict
from assent.core.json import Json
from assent.core.keys import TICKET, Pepper, Random, is_secret, new_secret
from assent.core.rows import Ticket
from assent.runs.proofs import proven
from assent.storage.base import Change, Storage

USE = "ticket"
"""The use by which macs and proofs of tickets differ from those of other secrets."""

LASTS = timedelta(seconds=30)

_KNOWN_BY: Final[dict[Kind, Authentication]] = {
    "setting": Authentication.API_KEY,
    "key": Authentication.API_KEY,
    "session": Authentication.SESSION,
    "token": Authentication.TOKEN,
}


@dataclass(frozen=True, slots=True)
class MadeTicket:
    """A ticket that was just made, and its text."""

    row: Ticket
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ByTicket:
    """Knows whoever has a ticket in the storage, as the person who took it. What that is worth is
    asked of one of the `sources`, which their credential is of."""

    storage: Storage
    pepper: Pepper
    clock: Clock
    sources: Sequence[Source]
    random: Random = secrets.token_bytes
    kind: Final[Kind] = "ticket"

    async def make(self, identity: Identity, path: str, transport: str) -> MadeTicket:
        """Make a ticket for the stream at this path of the server."""
        now = self.clock.now()
        credential = identity.credential
        text = new_secret(TICKET, self.random)
        row = Ticket(
            ticket_id=self.pepper.mac(USE, text),
            person=identity.owner.name,
            tenant=identity.owner.tenant,
            roles=identity.roles,
            proof="",
            path=path,
            transport=transport,
            credential=f"{credential.kind}:{credential.id}",
            credential_ends=credential.expires_at,
            known_to=identity.known_to,
            created_at=now,
            expires_at=now + LASTS,
        )
        row = replace(row, proof=self._proof(row))
        await self.storage.commit(Change(rows=(row,)))
        return MadeTicket(row, text)

    async def find(self, given: Given | None, request: Request) -> Found | None:
        """The person who took the ticket, which is worth nothing from then on."""
        if given is None or given.how != "ticket":
            return None
        row = await self._used(given.text, own_path_of(request), str(given.transport))
        found = None if row is None else await self._person(row)
        if found is None:
            raise not_known("This ticket is none, or is spent: take another one.")
        return found

    async def renew(self, identity: Identity) -> Found | None:
        """Nobody stays known by a ticket: their stream is by what they took it with."""
        return None

    async def _used(self, text: str, path: str, transport: str) -> Ticket | None:
        """The ticket, which is removed; None if it is good for nothing."""
        if not is_secret(text, TICKET):
            return None
        row = await proven(self.storage.ticket(self.pepper.mac(USE, text)), self._proof)
        if row is None:
            return None
        is_for_this = (row.path, row.transport) == (path, transport)
        if not is_for_this or self.clock.now() >= row.expires_at:
            return None
        try:
            await self.storage.commit(Change(removed=(row,)))
        except Conflict:
            # Another one was faster.
            return None
        return row

    async def _person(self, row: Ticket) -> Found | None:
        """The person as their credential shows them now."""
        for source in self.sources:
            kind, _, id = row.credential.partition(":")
            if source.kind == kind:
                credential = Credential(source.kind, id, row.credential_ends)
                return await source.renew(_as_then(row, credential))
        return None

    def _proof(self, row: Ticket) -> str:
        ends = row.credential_ends
        fields: dict[str, Json] = {
            "ticket_id": row.ticket_id,
            "person": row.person,
            "tenant": row.tenant,
            "roles": [*row.roles],
            "path": row.path,
            "transport": row.transport,
            "credential": row.credential,
            "credential_ends": None if ends is None else time_text(ends),
            "known_to": [*row.known_to],
            "expires_at": time_text(row.expires_at),
        }
        return self.pepper.proof(USE, fields)


def _as_then(row: Ticket, credential: Credential) -> Identity:
    """The person as they were when they took the ticket."""
    return Identity(
        owner=Owner(row.person, row.tenant),
        authentication=_KNOWN_BY[credential.kind],
        credential=credential,
        roles=row.roles,
        rights=rights_of(row.roles),
        approves=approves_of(row.roles),
        known_to=row.known_to,
    )
