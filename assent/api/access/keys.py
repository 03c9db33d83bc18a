"""The source of identities that knows people by the keys in the storage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from fastapi import Request

from assent.api.access.given import Given
from assent.api.access.identity import Credential, Found, Identity, Kind, not_known
from assent.api.access.recent import RecentRows
from assent.core.audit import Authentication
from assent.core.keys import KEY, key_id_in
from assent.core.rows import ApiKey
from assent.runs.keys import Keys
from assent.runs.sessions import NOTED_AFTER


class StoredKeys:
    """Knows people by the `keys` in the storage. `now` is a monotonic clock."""

    kind: Final[Kind] = "key"

    def __init__(self, keys: Keys, *, now: Callable[[], float] = time.monotonic) -> None:
        self.keys = keys
        self._rows: RecentRows[ApiKey] = RecentRows(keys.read, now)

    async def find(self, given: Given | None, request: Request) -> Found | None:
        """The person whose key it is. Whatever begins as our keys do is for nobody else to say."""
        if given is None or not given.text.startswith(KEY):
            return None
        key_id = key_id_in(given.text)
        row = None if key_id is None else await self._rows.get(key_id)
        if row is None or not self.keys.is_of(row, given.text) or not self.keys.is_good(row):
            raise not_known("This key is none of this server's, or is over: make another one.")
        await self._note(row)
        return _found(row)

    async def renew(self, identity: Identity) -> Found | None:
        return await self.by_id(identity.credential.id)

    async def by_id(self, key_id: str) -> Found | None:
        """The person whose key this is, while it is good."""
        row = await self._rows.get(key_id)
        return _found(row) if row is not None and self.keys.is_good(row) else None

    def forget_all(self) -> None:
        """Ask the storage anew about every key."""
        self._rows.drop_all()

    async def _note(self, row: ApiKey) -> None:
        """Note that the key is used, once a minute at most."""
        now = self.keys.clock.now()
        if row.last_used_at is None or abs(now - row.last_used_at) >= NOTED_AFTER:
            noted = replace(row, last_used_at=now)
            await self._rows.note(row.key_id, row, noted, self.keys.use)


def _found(row: ApiKey) -> Found:
    by_another = row.made_by not in ("", row.person)
    return Found(
        row.person,
        Authentication.API_KEY,
        Credential("key", row.key_id, row.expires_at),
        tenant=row.tenant,
        roles=row.roles,
        known_to=(row.made_by,) if by_another else (),
        # Whoever asked for it over the network gave it these, and no others.
        only_these_roles=bool(row.made_by),
        takes_defaults=not row.made_by,
    )
