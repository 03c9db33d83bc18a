"""API keys: made, known again, listed and revoked, each with its entry in the audit chain.

The text of a key is shown to whoever makes it, and kept nowhere (`core/keys.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import msgspec

from assent.approvals.people import People
from assent.core.access import Owner, Right, misspelt, rights_of, role_of, roles_there_are
from assent.core.audit import Actor, AuditAction, AuditEntry
from assent.core.clock import Clock, time_text
from assent.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from assent.core.json import Json, JsonObject
from assent.core.keys import Pepper, Random, new_key, same
from assent.core.names import MAX_NAME, is_tenant, reads_as_one, why_no_name
from assent.core.rows import ApiKey, Session
from assent.core.text import visible
from assent.runs.proofs import proven
from assent.storage.base import Change, Storage, all_rows

USE = "key"
"""The use by which macs and proofs of keys differ from those of other secrets."""

MAX_ROLES = 100
MAX_NOTE = 500


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key that was just made, and its text."""

    row: ApiKey
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys in a storage, known by the server's pepper."""

    storage: Storage
    pepper: Pepper
    clock: Clock
    random: Random = secrets.token_bytes

    async def make(
        self,
        owner: Owner,
        roles: Collection[str],
        by: Actor,
        *,
        made_by: str = "",
        expires_at: datetime | None = None,
        note: str = "",
        beside: Collection[str] = (),
        by_key: str | None = None,
    ) -> MadeKey:
        """Make a key for the owner. `made_by` is who learns its text by a request; whoever has the
        server's machine is not named. The names of people who are known by something else are
        `beside`. It is asked for by the key with the id `by_key`, if by one that is stored.

        Raises `InvalidRequest`, and `Forbidden` if that key is over.
        """
        now = self.clock.now()
        check_owner(owner)
        await self._check_apart(owner.name, beside)
        check_roles(roles)
        if len(note) > MAX_NOTE:
            raise InvalidRequest(f"A note has at most {MAX_NOTE} characters.")
        if expires_at is not None and expires_at <= now:
            raise InvalidRequest("The key would have expired already: give a time to come.")
        made = new_key(self.random)
        row = ApiKey(
            key_id=made.key_id,
            person=owner.name,
            tenant=owner.tenant,
            roles=tuple(sorted(set(roles))),
            mac=self.pepper.mac(USE, made.text),
            proof="",
            made_by=made_by,
            created_at=now,
            expires_at=expires_at,
            note=note,
        )
        row = replace(row, proof=self._proof(row))
        entry = self._entry(AuditAction.KEY_MADE, row, by, roles=list(row.roles), made_by=made_by)
        change = Change(rows=(row,), audit=(entry,))
        if by_key is None:
            await self.storage.commit(change)
        else:
            await self._commit_by(by_key, change)
        return MadeKey(row, made.text)

    async def _commit_by(self, key_id: str, change: Change) -> None:
        """Commit what is asked for by this key while it is good: one that is revoked at the same
        moment leaves no other behind."""
        while True:
            row = await self.read(key_id)
            if row is None or not self.is_good(row):
                raise Forbidden("Your key was revoked, or has ended, so it makes no other.")
            try:
                await self.storage.commit(replace(change, unchanged=(row,)))
            except Conflict:
                # It was used meanwhile, or revoked.
                continue
            return

    async def _check_apart(self, name: str, beside: Collection[str]) -> None:
        """Raise `InvalidRequest` if somebody else has a name that reads the same: they would be two
        people, and be taken for one."""
        for other in {*beside, *(row.person for row in await self.of())}:
            if other != name and reads_as_one(other, name):
                raise InvalidRequest(
                    f"There is a '{visible(other)}' already, and '{visible(name)}' reads the same. "
                    "Write it in the same way, or give them another name."
                )

    async def read(self, key_id: str) -> ApiKey | None:
        """The key's row, good or not; None if there is none that was made with our pepper."""
        return await proven(self.storage.api_key(key_id), self._proof)

    async def made_otherwise(self) -> int:
        """The number of good keys that were made with another pepper, and so are known to
        nobody."""
        good = filter(self.is_good, await self.of())
        return sum(1 for row in good if not same(self._proof(row), row.proof))

    def is_of(self, row: ApiKey, text: str) -> bool:
        """True if the row is of the key with this text."""
        return same(self.pepper.mac(USE, text), row.mac)

    def is_good(self, row: ApiKey) -> bool:
        """True if the key is neither revoked nor expired."""
        return row.is_good(self.clock.now())

    async def use(self, row: ApiKey) -> ApiKey:
        """Note that the key was used just now. Raises `Conflict` if its row has moved."""
        used = replace(row, last_used_at=self.clock.now(), version=row.version + 1)
        await self.storage.commit(Change(rows=(used,)))
        return used

    async def revoke(self, key_id: str, by: Actor) -> ApiKey:
        """Revoke the key, and end the sessions that came from it: it is good for nothing from now
        on. Raises `NotFound`."""
        while True:
            row = await self.storage.api_key(key_id)
            if row is None:
                raise NotFound(f"There is no key '{visible(key_id)}'.")
            if row.revoked_at is not None:
                return row
            revoked = replace(row, revoked_at=self.clock.now(), version=row.version + 1)
            sessions = await self._sessions_of(row)
            entry = self._entry(AuditAction.KEY_REVOKED, row, by)
            change = Change(rows=(revoked,), removed=sessions, audit=(entry,))
            try:
                await self.storage.commit(change)
            except Conflict:
                # It was used meanwhile, or one of the sessions was.
                continue
            return revoked

    async def revoke_all(self, owner: Owner, by: Actor) -> list[ApiKey]:
        """Revoke every key of the person; those that were revoked."""
        revoked: list[ApiKey] = []
        # One of them may have made another before it was revoked.
        while good := [row for row in await self.of(owner) if row.revoked_at is None]:
            revoked += [await self.revoke(row.key_id, by) for row in good]
        return revoked

    async def of(self, owner: Owner | None = None) -> list[ApiKey]:
        """All keys, or those of one person, newest first."""
        return await all_rows(self.storage.api_keys, owner=owner)

    async def _sessions_of(self, row: ApiKey) -> tuple[Session, ...]:
        theirs = await all_rows(self.storage.sessions, owner=Owner(row.person, row.tenant))
        credential = credential_of(row)
        return tuple(session for session in theirs if session.credential == credential)

    def _proof(self, row: ApiKey) -> str:
        """The MAC over all that the key is worth."""
        expires_at = time_text(row.expires_at) if row.expires_at is not None else None
        fields: Mapping[str, Json] = {
            "key_id": row.key_id,
            "mac": row.mac,
            "person": row.person,
            "tenant": row.tenant,
            "roles": list(row.roles),
            "made_by": row.made_by,
            "expires_at": expires_at,
        }
        return self.pepper.proof(USE, fields)

    def _entry(self, action: AuditAction, row: ApiKey, by: Actor, **detail: Json) -> AuditEntry:
        return AuditEntry(
            at=self.clock.now(),
            action=action,
            actor=by.name,
            authentication=by.authentication,
            tenant=row.tenant,
            detail={"key_id": row.key_id, "person": row.person, **detail},
        )


async def keys_of(storage: Storage, people: People, owner: Owner) -> list[ApiKey]:
    """All keys of the person, whichever of their names they were made for, and also those that are
    over."""
    found: list[ApiKey] = []
    for name in people.names_of(owner.name):
        found += await all_rows(storage.api_keys, owner=Owner(name, owner.tenant))
    return found


async def may_run(storage: Storage, people: People, owner: Owner, now: datetime) -> bool:
    """False for a person who is known here and may not run agents any more: by the roles that the
    operator has given to the name, or because none of their keys is good any more."""
    given = people.roles_of(owner.name)
    keys = await keys_of(storage, people, owner)
    if not given and not keys:
        return True
    good = [key for key in keys if key.is_good(now)]
    if not given and not good and owner.name not in people.having_keys:
        return False
    roles = given.union(*(key.roles for key in good))
    return Right.RUN in rights_of(roles if any(map(role_of, roles)) else people.default)


def credential_of(row: ApiKey) -> str:
    """The name of the key among credentials, by which what came from it is found."""
    return f"key:{row.key_id}"


FIELDS = (
    *("key_id", "person", "tenant", "roles", "made_by", "note"),
    *("created_at", "expires_at", "last_used_at", "revoked_at"),
)


def key_to_json(row: ApiKey) -> JsonObject:
    """A key as it is shown: without what is made of its text."""
    return {name: msgspec.to_builtins(getattr(row, name)) for name in FIELDS}


# ── what a key may say ────────────────────────────────────────────────────────────────────────────


def check_owner(owner: Owner) -> None:
    """Raise `InvalidRequest` unless the name and the tenant may be those of a person."""
    name, tenant = owner
    if (reason := why_no_name(name)) is not None:
        raise InvalidRequest(f"Nobody can be called '{visible(name[:MAX_NAME])}': it {reason}.")
    if tenant is not None and not is_tenant(tenant):
        raise InvalidRequest("A tenant's name is 1 to 64 letters, digits, '_', '.' and '-'.")


def check_roles(roles: Collection[str]) -> None:
    """Raise `InvalidRequest` for texts that can be no roles."""
    if len(roles) > MAX_ROLES:
        raise InvalidRequest(f"A key has at most {MAX_ROLES} roles.")
    for role in roles:
        is_text = 1 <= len(role) <= MAX_NAME and role.isprintable() and "," not in role
        if not is_text or misspelt(role) is not None:
            raise InvalidRequest(
                f"'{visible(role[:MAX_NAME])}' is no role. {roles_there_are(role)}"
            )
