"""Another owner for all that somebody has: while a server knew nobody, everything is `local`'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from msgspec import structs

from assent.approvals.requesters import each_once
from assent.core.access import Owner, Sight
from assent.core.approval import Approval, Delegation, Edited, Vote
from assent.core.audit import LOCAL, AuditAction, AuditEntry, Authentication
from assent.core.clock import Clock
from assent.core.errors import InvalidRequest
from assent.core.grant import Grant
from assent.core.rows import (
    Assistant,
    AssistantVersion,
    File,
    Link,
    Notification,
    Row,
    Run,
    Schedule,
    Thread,
)
from assent.storage.base import Change, Storage, all_pages, all_rows

Owned = TypeVar("Owned", Thread, Run, Schedule, Assistant, AssistantVersion)
Alone = TypeVar("Alone", Schedule, Assistant, AssistantVersion)


@dataclass(frozen=True, slots=True)
class Moved:
    """The number of threads, schedules, uploads, standing grants and assistants that are somebody
    else's now."""

    threads: int = 0
    schedules: int = 0
    uploads: int = 0
    grants: int = 0
    assistants: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """Gives what one owner has to another, in a storage that no server works on.

    Each thread goes in one change, with its runs, approvals, notifications and links and an entry
    in the audit chain, and everything else in another one: so after a kill it can be done again,
    and does the rest. Wherever the name was among those who asked, edited, voted or granted, in the
    same tenant, the new one is: with four eyes they are one person. So links that were sent to the
    old name, or by it, decide nothing any more: a link names its person for good.

    Standing grants count on as the new owner's. Between tenants they are revoked, and so are those
    of `local`, which everybody may have given.

    What is only read again as it was stays as it is: the audit chain, the feeds of what happened,
    and the answers to requests that may be sent again. So does what agents keep in the store, under
    names that are theirs; and the keys of the old name, which are somebody's secrets.
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
        threads = 0
        async for some in all_pages(everybodys.threads):
            for thread in some:
                threads += await self._thread(thread)
        found = await all_rows(everybodys.schedules)
        files = await all_rows(self.storage.uploads_of, owner=self.source)
        grants = await all_rows(everybodys.grants)
        assistants = await all_rows(everybodys.assistants)
        versions = [
            version
            for each in assistants
            for version in await all_rows(
                self.storage.assistant_versions, assistant_id=each.assistant_id
            )
        ]
        before: list[Row] = [*found, *files, *grants, *assistants, *versions]
        after: list[Row] = [*map(self._alone, found), *map(self._upload, files)]
        after += [*map(self._grant, grants), *map(self._alone, assistants)]
        after += map(self._alone, versions)
        if rows := _changes(before, after):
            await self._commit(rows)
        schedules = sum(each.owner == self.source.name for each in found)
        given = sum(isinstance(row, Grant) for row in rows)
        own = sum(each.owner == self.source.name for each in assistants)
        return Moved(threads, schedules, len(files), given, own)

    async def _thread(self, thread: Thread) -> bool:
        """Move the thread if it is the owner's, or change their name in it; true for the first."""
        is_theirs = thread.owner == self.source.name
        if not is_theirs and self._crosses:
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
        links = [link for link in await self.storage.links_of(id) if self._is_void(link)]
        rows = _changes(before, after)
        if rows or links:
            await self._commit(rows, links, thread_id=id)
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

    def _is_void(self, link: Link) -> bool:
        return link.used_at is None and self.source.name in (link.recipient, link.created_by)

    def _alone(self, row: Alone) -> Alone:
        """The row of no thread, if it is the owner's, or in the same tenant as the new one's."""
        is_theirs = row.owner == self.source.name
        return self._changed(row) if is_theirs or not self._crosses else row

    def _grant(self, row: Grant) -> Grant:
        """The grant that was given by the owner or, in the same tenant, to them."""
        is_theirs = row.given_by == self.source.name
        if not is_theirs and (self._crosses or row.user != self.source.name):
            return row
        changed = structs.replace(
            row,
            given_by=self._renamed(row.given_by),
            user=self._renamed(row.user),
            tenant=self.target.tenant,
            version=row.version + 1,
        )
        is_nobodys = self._crosses or self.source.name == LOCAL
        if not (is_theirs and is_nobodys) or row.revoked_at is not None:
            return changed
        return structs.replace(changed, revoked_by=LOCAL, revoked_at=self.clock.now())

    @property
    def _crosses(self) -> bool:
        return self.source.tenant != self.target.tenant

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

    async def _commit(
        self, rows: list[Row], removed: Sequence[Row] = (), *, thread_id: str = ""
    ) -> None:
        entry = AuditEntry(
            at=self.clock.now(),
            action=AuditAction.MOVED,
            authentication=Authentication.LOCAL,
            actor=LOCAL,
            thread_id=thread_id,
            tenant=self.target.tenant,
            detail={"from": self.source.name, "to": self.target.name},
        )
        change = Change(rows=tuple(rows), removed=tuple(removed), audit=(entry,))
        await self.storage.commit(change)


def _changes(before: Sequence[Row], after: Sequence[Row]) -> list[Row]:
    return [new for old, new in zip(before, after, strict=True) if new != old]
