"""Another owner for all that somebody has: while a server knew nobody, everything is `local`'s."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from msgspec import structs

from assent.approvals.requesters import each_once
from assent.core.access import Owner, Sight
from assent.core.approval import Approval, Delegation, Edited, Vote
from assent.core.audit import LOCAL, AuditAction, AuditEntry, Authentication
from assent.core.clock import Clock
from assent.core.errors import InvalidRequest
from assent.core.rows import File, Notification, Row, Run, Schedule, Thread
from assent.storage.base import Change, Storage, all_pages, all_rows

Owned = TypeVar("Owned", Thread, Run, Schedule)


@dataclass(frozen=True, slots=True)
class Moved:
    """The number of threads, schedules and uploads that have another owner now."""

    threads: int = 0
    schedules: int = 0
    uploads: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """Gives what one owner has to another, in a storage that no server works on.

    Each thread goes in one change, with its runs, approvals and notifications and an entry in the
    audit chain: so after a kill it can be done again, and does the rest. Wherever the name was
    among those who asked, edited or voted, in the same tenant, the new one is: with four eyes they
    are one person. The store, the feeds and standing grants stay with the old name.
    """

    storage: Storage
    clock: Clock
    source: Owner
    target: Owner

    async def __call__(self) -> Moved:
        """Move everything. Raises `InvalidRequest` if the two are the same."""
        if self.source == self.target:
            raise InvalidRequest(f"'{self.source.name}' has all that already. Name another.")
        everybodys = self.storage.seen_by(Sight("tenant", self.source))
        own = self.storage.seen_by(Sight("own", self.source))
        threads = schedules = uploads = 0
        async for some in all_pages(everybodys.threads):
            for thread in some:
                threads += await self._thread(thread)
        for schedule in await all_rows(own.schedules):
            await self._commit([self._changed(schedule)])
            schedules += 1
        for file in await all_rows(self.storage.uploads_of, owner=self.source):
            await self._commit([self._upload(file)])
            uploads += 1
        return Moved(threads, schedules, uploads)

    async def _thread(self, thread: Thread) -> bool:
        """Move the thread if it is the owner's, or change their name in it; true for the first."""
        is_theirs = thread.owner == self.source.name
        if not is_theirs and self.source.tenant != self.target.tenant:
            return False
        id = thread.thread_id
        runs = await all_rows(self.storage.latest_runs, thread_id=id)
        approvals = await all_rows(self.storage.approvals, thread_id=id)
        before: list[Row] = [thread, *runs, *approvals]
        after: list[Row] = [self._changed(thread), *map(self._changed, runs)]
        after += map(self._approval, approvals)
        for approval in approvals:
            sent = await all_rows(self.storage.notifications, approval_id=approval.approval_id)
            before += sent
            after += map(self._notification, sent)
        rows = [new for old, new in zip(before, after, strict=True) if new != old]
        if rows:
            await self._commit(rows, thread_id=id)
        return is_theirs

    # ── rows ──

    def _changed(self, row: Owned) -> Owned:
        changed = replace(
            row,
            owner=self._renamed(row.owner),
            tenant=self.target.tenant,
            requested_by=self._all_renamed(row.requested_by),
        )
        return changed if changed == row else replace(changed, version=row.version + 1)

    def _upload(self, file: File) -> File:
        target = self.target
        return replace(file, owner=target.name, tenant=target.tenant, version=file.version + 1)

    def _notification(self, row: Notification) -> Notification:
        changed = replace(row, tenant=self.target.tenant)
        return changed if changed == row else replace(changed, version=row.version + 1)

    def _approval(self, row: Approval) -> Approval:
        changed = structs.replace(
            row,
            owner=self._renamed(row.owner),
            tenant=self.target.tenant,
            requested_by=self._all_renamed(row.requested_by),
            edit=self._edit(row.edit) if row.edit else None,
            votes=self._votes(row.votes),
            delegations=tuple(map(self._delegation, row.delegations)),
        )
        return changed if changed == row else structs.replace(changed, version=row.version + 1)

    def _votes(self, votes: tuple[Vote, ...]) -> tuple[Vote, ...]:
        """The votes under the new name, of which each person has one."""
        of_person: dict[str, Vote] = {}
        for vote in votes:
            by = self._renamed(vote.by)
            right = self._renamed(vote.voting_right)
            of_person[by] = structs.replace(vote, by=by, voting_right=right)
        return tuple(of_person.values())

    def _edit(self, edit: Edited) -> Edited:
        earlier = self._all_renamed(edit.earlier)
        return structs.replace(edit, by=self._renamed(edit.by), earlier=earlier)

    def _delegation(self, row: Delegation) -> Delegation:
        return structs.replace(
            row,
            voting_right=self._renamed(row.voting_right),
            to=structs.replace(row.to, name=self._renamed(row.to.name)),
            by=self._renamed(row.by),
        )

    def _renamed(self, name: str) -> str:
        return self.target.name if name == self.source.name else name

    def _all_renamed(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return each_once(map(self._renamed, names))

    # ── storing ──

    async def _commit(self, rows: list[Any], thread_id: str = "") -> None:
        entry = AuditEntry(
            at=self.clock.now(),
            action=AuditAction.MOVED,
            authentication=Authentication.LOCAL,
            actor=LOCAL,
            thread_id=thread_id,
            tenant=self.target.tenant,
            detail={"from": self.source.name, "to": self.target.name},
        )
        await self.storage.commit(Change(rows=tuple(rows), audit=(entry,)))
