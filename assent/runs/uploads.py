"""Uploads: files that people send, for messages to refer to.

First the bytes are stored and then the row, so whatever has a row has its bytes; and a row goes
before its bytes. What a kill leaves in between are bytes without a row, which the next start
removes.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from msgspec import structs

from assent.core.access import Owner
from assent.core.blocks import UPLOAD, block_lists, embedded_in, upload_in
from assent.core.clock import Clock
from assent.core.errors import Conflict, FilesFull, InvalidInput, NotFound, TooLarge
from assent.core.file_types import HEAD_BYTES, file_type
from assent.core.json import Json
from assent.core.rows import File, FileUse
from assent.core.run_input import RunInput
from assent.storage.base import Caps, Change, Storage, files_full

log = structlog.get_logger(__name__)

UNUSED_KEPT = timedelta(days=1)
"""An upload that no thread has referred to is kept for this long."""

AT_ONCE = 500
"""Files on the disk whose rows are asked for together."""

MOST_OF_A_THREAD = 1000
"""Uploads to which one thread refers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """The most bytes of one upload, and of all of them together."""

    each: int = 25 << 20
    in_all: int = 10 << 30


@dataclass(frozen=True, slots=True)
class Uploads:
    """Takes, gives and removes uploads; no more than the `caps` permit to whom they belong."""

    storage: Storage
    clock: Clock
    limits: UploadLimits = UploadLimits()
    caps: Caps | None = None

    async def add(
        self, chunks: AsyncIterator[bytes], *, name: str, declared: str | None, owner: Owner
    ) -> File:
        """Store a file; it is durable when this returns. Raises `TooLarge`, `FilesFull` or
        `Unavailable`; then nothing was stored. What there is no room for is not written to its
        end."""
        room, full = await self._room(owner)
        if room <= 0:
            raise full
        most = min(self.limits.each, room)
        file_id = UPLOAD + self.clock.new_id().replace("-", "")
        head = bytearray()

        async def noted() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                head.extend(chunk[: HEAD_BYTES - len(head)])
                yield chunk

        files = self.storage.files
        try:
            written = await files.write(file_id, noted(), most=most)
        except TooLarge:
            if most < self.limits.each:
                raise full from None
            raise
        is_all = written.size == len(head)
        row = File(
            file_id=file_id,
            owner=owner.name,
            tenant=owner.tenant,
            created_at=self.clock.now(),
            mime_type=file_type(bytes(head), name, declared, is_all=is_all),
            size=written.size,
            sha256=written.sha256,
            name=name,
        )
        try:
            await self.storage.commit(Change(rows=(row,)))
        except Exception:
            await files.remove(file_id)
            raise
        # One that is cancelled may be stored all the same. If not, `remove_spare` finds its bytes.
        return row

    async def _room(self, owner: Owner) -> tuple[int, FilesFull]:
        """The bytes that may be added, and the refusal of more."""
        limits, caps = self.limits, self.caps
        left = limits.in_all - await self.storage.size_of_files()
        rooms = [(left, files_full("The server has", limits.in_all))]
        if caps is not None:
            own, whole = await self.storage.size_of_files_of(owner)
            rooms.append((caps.file_bytes - own, files_full("You have", caps.file_bytes)))
            if (most := caps.tenant_file_bytes) is not None:
                rooms.append((most - whole, files_full("The people of your tenant have", most)))
        return min(rooms, key=lambda room: room[0])

    async def get(self, file_id: str) -> File:
        """Return the upload's row. Raises `NotFound`."""
        row = await self.storage.file(file_id)
        if row is None:
            raise NotFound(f"There is no upload '{file_id}'. Send it with POST /files.")
        return row

    async def remove(self, file_id: str) -> None:
        """Remove the upload. Raises `NotFound`, or `Conflict` if a thread refers to it."""
        await self.get(file_id)
        if not await self.storage.remove_file(file_id):
            raise Conflict(
                f"A thread refers to the upload '{file_id}', so it stays as long as that. Erase "
                "the thread."
            )
        await self.storage.files.remove(file_id)

    # ── in messages ──

    async def put_aside(
        self, given: RunInput, messages_keys: frozenset[str], owner: Owner
    ) -> RunInput:
        """The input, with an upload in place of each file whose bytes are in a block of a message,
        so that neither rows, events nor checkpoints hold them; and with its type and its name
        beside each upload.

        Raises `InvalidInput` for an upload that there is not, or what `add` does.
        """
        if isinstance(given.message, list):
            blocks = [await self._named(block, owner) for block in given.message]
            return structs.replace(given, message=blocks)
        if not given.has_input or not any(block_lists(given.input, messages_keys)):
            return given
        changed = copy.deepcopy(given.input)
        for blocks in block_lists(changed, messages_keys):
            blocks[:] = [await self._named(block, owner) for block in blocks]
        return structs.replace(given, input=changed)

    async def _named(self, block: Json, owner: Owner) -> Json:
        embedded = embedded_in(block)
        if embedded is not None:
            row = await self.add(
                _at_once(embedded.data),
                name=embedded.filename,
                declared=embedded.mime_type,
                owner=owner,
            )
            return embedded.by_id(row.file_id, row.mime_type)
        file_id = upload_in(block)
        if file_id is None:
            return block
        row = await self._row(file_id)
        name = block.get("filename") or row.name
        named = {"filename": name} if name else {}
        return {**block, "mime_type": row.mime_type, **named}

    async def _row(self, file_id: str) -> File:
        try:
            return await self.get(file_id)
        except NotFound as error:
            raise InvalidInput(error.message) from None

    async def uses(self, given: RunInput, messages_keys: frozenset[str], thread_id: str) -> Change:
        """The change by which the thread refers to the uploads of the input: it is of one commit
        with the run, and holds only if they are still there."""
        ids = uploads_of(given, messages_keys)
        if not ids:
            return Change()
        known = {use.file_id for use in await self.storage.file_uses(thread_id)}
        if len(known | ids) > MOST_OF_A_THREAD:
            raise InvalidInput(
                f"The thread '{thread_id}' would refer to {len(known | ids):,} uploads, and "
                f"{MOST_OF_A_THREAD:,} are the most. Begin another one."
            )
        rows = [await self._row(file_id) for file_id in sorted(ids)]
        new = tuple(_use(id, thread_id) for id in sorted(ids - known))
        # The second version of an upload says that a thread has referred to it.
        first = tuple(replace(row, version=2) for row in rows if row.version == 1)
        unchanged = tuple(row for row in rows if row.version > 1)
        return Change(rows=(*new, *first), unchanged=unchanged)

    async def uses_of_fork(self, source: str, target: str) -> Change:
        """The change by which a new thread refers to all uploads that its source refers to."""
        uses = await self.storage.file_uses(source)
        found = [await self.storage.file(use.file_id) for use in uses]
        rows = [row for row in found if row is not None]
        return Change(rows=tuple(_use(row.file_id, target) for row in rows), unchanged=tuple(rows))

    # ── what nobody needs ──

    async def remove_unused(self, now: datetime) -> None:
        """Remove the uploads that no thread refers to: those that had their day for that, and those
        whose threads are erased."""
        removed = 0
        while ids := await self.storage.remove_unused_files(now - UNUSED_KEPT):
            for file_id in ids:
                await self.storage.files.remove(file_id)
            removed += len(ids)
        if removed:
            log.info("unused uploads removed", count=removed)

    async def remove_spare(self) -> None:
        """Remove the bytes that have no row: a kill has left them. Call it before anything is
        uploaded."""
        ids = await self.storage.files.ids()
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            known = await self.storage.known_files(some)
            for file_id in some:
                if file_id not in known:
                    await self.storage.files.remove(file_id)


def uploads_of(given: RunInput, messages_keys: frozenset[str]) -> set[str]:
    """The ids of the uploads that the messages of an input refer to."""
    lists: list[list[Json]] = []
    if isinstance(given.message, list):
        lists.append(given.message)
    elif given.has_input:
        lists += block_lists(given.input, messages_keys)
    return {id for blocks in lists for block in blocks if (id := upload_in(block)) is not None}


def _use(file_id: str, thread_id: str) -> FileUse:
    return FileUse(use_id=f"{file_id}:{thread_id}", file_id=file_id, thread_id=thread_id)


async def _at_once(data: bytes) -> AsyncIterator[bytes]:
    yield data
