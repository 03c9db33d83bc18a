"""Imports the threads of LangGraph's own SQLite saver one by one, each whole or not at all.

A thread's row is stored before its first checkpoint, with a mark that it is being imported. The
transaction that gives the thread its status removes the mark, after its latest checkpoints were
read back and compared. If an import is killed, the next one finds the mark, removes what is there,
and imports the thread anew.

A checkpoint is put behind its parent, by the saver's own `aput`, so that lists grow at their ends
as they did when they were made. Channels are compared by value to find the new ones: the old saver
stored all of them at every step, also one that was changed in place.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from typing import Any

import xxhash
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, ChannelVersions, CheckpointTuple
from langgraph.checkpoint.serde.types import INTERRUPT, TASKS

from assent.core.clock import Clock
from assent.core.errors import AssentError, Conflict, Unavailable
from assent.core.json import JsonObject
from assent.core.remembered import Remembered
from assent.core.rows import Thread, ThreadStatus
from assent.importing.foreign import (
    Carrier,
    OldFile,
    OldThread,
    OldWrite,
    Unreadable,
    in_order,
)
from assent.storage.base import Change, Storage
from assent.storage.sqlite.checkpoints.tuples import config_of
from assent.storage.sqlite.saver import SqliteSaver

MARK = "importing"
"""The mark, in the metadata of a thread that is not all here yet."""

DONE = "imported"
"""In the metadata of an imported thread: the old file's name, and the latest checkpoint there."""

REMEMBERED = 64
"""The channels of this many checkpoints are remembered, to find what is new in a later one."""

Adopt = Callable[[Thread], Awaitable[Change]]
"""Makes the change to commit for a thread whose checkpoints are all here: its row as it was given
or changed, and what belongs to it."""

Channels = dict[str, tuple[Any, bytes]]
"""By channel: its version, and the hash of its value."""


BUSY = (
    "A run is active on the thread of that id here. "
    "Start the server, wait for its end, and import again."
)
GONE_ON = (
    "It has gone on in the old file since it was imported. To take that too, delete it here first."
)
ANOTHER = (
    "There is another thread of that id already. Delete that one first, or use another database."
)


class ImportOutcome(Enum):
    """The outcome for a thread: it is here now, it was here already, or it was left out."""

    IMPORTED = "imported"
    ALREADY_THERE = "already there"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome for a thread, and the reason if it was left out. An `unfinished` thread had
    stopped before its end: it waited for a person, or was cut off."""

    outcome: ImportOutcome
    reason: str = ""
    unfinished: bool = False


async def just_idle(thread: Thread) -> Change:
    """Adopt the thread as one that waits for nobody."""
    return Change(rows=(thread,))


class Importer:
    """Imports threads into a storage, for their new `owner`. `advance` is called with the number of
    bytes after each step."""

    def __init__(
        self,
        old: OldFile,
        storage: Storage,
        *,
        owner: str,
        clock: Clock,
        adopt: Adopt = just_idle,
        advance: Callable[[int], None] = lambda size: None,
    ) -> None:
        assert isinstance(storage.checkpointer, SqliteSaver)
        self._old = old
        self._storage = storage
        self._carrier = Carrier()
        self._saver = copy.copy(storage.checkpointer)
        self._saver.serde = self._carrier
        self._owner = owner
        self._clock = clock
        self._adopt = adopt
        self._advance = advance

    async def import_thread(self, thread: OldThread) -> Result:
        """Import the thread, unless it is here. If that fails, or is cancelled, nothing of it
        stays.

        Raises `AssentError`, which names thread and channel, if a value reads back otherwise; or
        `Unavailable`.
        """
        before = await self._storage.thread(thread.thread_id)
        if before is not None and MARK in before.metadata:
            before = await self._discard(before)
        known = await self._known(thread, before)
        if known is not None:
            self._advance(thread.size)
            return known
        marked = self._marked(thread.thread_id, before)
        try:
            await self._storage.commit(Change(rows=(marked,)))
            head, began = await self._carry(thread.thread_id)
            await self._storage.commit(await self._change(marked, before, head, began))
        except Unreadable as error:
            await self._discard(marked)
            return Result(ImportOutcome.LEFT_OUT, error.message)
        except BaseException:
            # Should this fail too, the mark is still there.
            with suppress(Unavailable):
                await self._discard(marked)
            raise
        return Result(ImportOutcome.IMPORTED, unfinished=head is not None and _is_unfinished(head))

    async def _known(self, thread: OldThread, row: Thread | None) -> Result | None:
        """The result for a thread that is here already; None if it is not."""
        done = row.metadata.get(DONE) if row is not None else None
        if done is not None and done.get("checkpoint_id", "") == thread.head:
            return Result(ImportOutcome.ALREADY_THERE)
        if not await self._has(thread.thread_id):
            is_busy = row is not None and row.status is ThreadStatus.BUSY
            return Result(ImportOutcome.LEFT_OUT, BUSY) if is_busy else None
        if thread.head is not None and await self._has(thread.thread_id, thread.head):
            return Result(ImportOutcome.ALREADY_THERE)
        return Result(ImportOutcome.LEFT_OUT, GONE_ON if done is not None else ANOTHER)

    async def _has(self, thread_id: str, checkpoint_id: str | None = None) -> bool:
        return await self._saver.aget_tuple(_config(thread_id, "", checkpoint_id)) is not None

    # ── before and after ──

    def _marked(self, thread_id: str, before: Thread | None) -> Thread:
        """The marked row of a thread. Its status keeps everybody from talking to the thread."""
        now = self._clock.now()
        row = before or Thread(
            thread_id=thread_id,
            owner=self._owner,
            status=ThreadStatus.IDLE,
            created_at=now,
            updated_at=now,
            version=0,
        )
        mark = {"from": self._old.path.name, "status": before.status if before else None}
        return replace(
            row,
            status=ThreadStatus.INTERRUPTED,
            metadata={**row.metadata, MARK: mark},
            version=row.version + 1,
        )

    async def _discard(self, marked: Thread) -> Thread | None:
        """Remove a thread that is not all here; return the row that it had before, if any."""
        marked = replace(marked, version=marked.version + 1)
        try:
            # A commit that was cancelled may have happened nevertheless. Then the thread is all
            # here, or there never was a mark.
            await self._storage.commit(Change(rows=(marked,)))
        except Conflict:
            return None
        status = marked.metadata[MARK]["status"]
        if status is None:
            await self._storage.commit(Change(unchanged=(marked,), erase=marked.thread_id))
            return None
        await self._saver.adelete_thread(marked.thread_id)
        before = replace(
            marked,
            status=ThreadStatus(status),
            metadata=_without_mark(marked),
            version=marked.version + 1,
        )
        await self._storage.commit(Change(rows=(before,)))
        return before

    async def _change(
        self,
        marked: Thread,
        before: Thread | None,
        head: CheckpointTuple | None,
        began: datetime | None,
    ) -> Change:
        """The change that makes the thread one like any other."""
        head_id = head.checkpoint["id"] if head else None
        done = {"from": self._old.path.name, "checkpoint_id": head_id}
        metadata = {**_without_mark(marked), DONE: done}
        thread = replace(marked, metadata=metadata, version=marked.version + 1)
        if before is not None and before.status is not ThreadStatus.IDLE:
            # It has its approvals, or its error, already.
            return Change(rows=(replace(thread, status=before.status),))
        thread = replace(thread, status=ThreadStatus.IDLE, checkpoint_id=head_id)
        if before is None:
            ended = _time(head) if head else None
            created_at, updated_at = began or thread.created_at, ended or thread.updated_at
            thread = replace(thread, created_at=created_at, updated_at=updated_at)
        return await self._adopt(thread)

    # ── the checkpoints ──

    async def _carry(self, thread_id: str) -> tuple[CheckpointTuple | None, datetime | None]:
        """Put every checkpoint and every write of the thread, and read the latest of each namespace
        back; return the root namespace's latest, and the time of the first."""
        head: CheckpointTuple | None = None
        began: datetime | None = None
        for ns, lineage in (await self._old.lineage(thread_id)).items():
            remembered: Remembered[Channels] = Remembered(REMEMBERED)
            parents = {id: parent_id for id, (parent_id, _) in lineage.items()}
            for checkpoint_id in in_order(parents):
                parent_id, size = lineage[checkpoint_id]
                found = await self._old.checkpoint(thread_id, ns, checkpoint_id)
                config = _config(thread_id, ns, parent_id)
                await self._put(config, found, remembered.get(parent_id) or {}, remembered)
                await self._put_writes(thread_id, ns, checkpoint_id)
                time = _time(found)
                if time is not None and (began is None or time < began):
                    began = time
                self._advance(size)
            latest = await self._verified(thread_id, ns, max(lineage))
            if ns == "":
                head = latest
        for ns, checkpoint_id in await self._old.stray_writes(thread_id):
            await self._put_writes(thread_id, ns, checkpoint_id)
        self._old.check_unchanged()
        return head, began

    async def _put(
        self,
        config: RunnableConfig,
        found: CheckpointTuple,
        before: Channels,
        remembered: Remembered[Channels],
    ) -> None:
        versions, values = found.checkpoint["channel_versions"], found.checkpoint["channel_values"]
        channels: Channels = {}
        new: ChannelVersions = {}
        for name in versions.keys() | values.keys():
            hashed = self._hash(values[name]) if name in values else b""
            channels[name] = (versions.get(name), hashed)
            if channels[name] != before.get(name):
                new[name] = versions.get(name, 0)
        await self._saver.aput(config, found.checkpoint, found.metadata, new)
        remembered.put(found.checkpoint["id"], channels)

    async def _put_writes(self, thread_id: str, ns: str, checkpoint_id: str) -> None:
        config = _config(thread_id, ns, checkpoint_id)
        old = await self._old.writes(thread_id, ns, checkpoint_id)
        for task_id, task_path, writes in as_they_were_put(old):
            await self._saver.aput_writes(config, writes, task_id, task_path)

    # ── reading back ──

    async def _verified(self, thread_id: str, ns: str, checkpoint_id: str) -> CheckpointTuple:
        """The namespace's latest checkpoint, which reads back as it was."""
        old = await self._old.checkpoint(thread_id, ns, checkpoint_id)
        new = await self._saver.aget_tuple(_config(thread_id, ns))
        part = self._difference(old, new)
        if part is not None:
            place = f" (in '{ns}')" if ns else ""
            raise AssentError(
                f"The thread '{thread_id}'{place} was not stored as it was: {part} of its "
                f"checkpoint {checkpoint_id} reads back otherwise. It was removed again, and the "
                "import was stopped. Check the disk with `assent doctor`, and import again."
            )
        return old

    def _difference(self, old: CheckpointTuple, new: CheckpointTuple | None) -> str | None:
        """The name of a part that the two do not have in common; None if they are the same."""
        if new is None:
            return "all"
        before, after = self._parts(old), self._parts(new)
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                return name
        return None

    def _parts(self, found: CheckpointTuple) -> dict[str, bytes]:
        """By name: the hash of everything that a checkpoint consists of."""
        parent = (found.parent_config or {}).get("configurable", {})
        parts: dict[str, Any] = {
            "the parent": parent.get("checkpoint_id"),
            "the metadata": found.metadata,
            "the pending writes": list(found.pending_writes or ()),
        }
        for name, value in found.checkpoint.items():
            if name != "channel_values":
                parts[f"the field '{name}'"] = value
        for name, value in found.checkpoint["channel_values"].items():
            parts[f"the channel '{name}'"] = value
        return {name: self._hash(value) for name, value in parts.items()}

    def _hash(self, value: Any) -> bytes:
        """The hash of the value as it is stored."""
        kind, body = self._carrier.dumps_typed(value)
        return kind.encode() + xxhash.xxh3_128_digest(body)


def as_they_were_put(
    writes: Iterable[OldWrite],
) -> Iterator[tuple[str, str, Sequence[tuple[str, Any]]]]:
    """Task, path and writes, so that a saver that numbers writes by their place gives each the
    number that it had.

    A special write has a number of its own wherever it stands; so where a number is missing, a
    special write has stood.
    """
    tasks: dict[tuple[str, str], list[OldWrite]] = {}
    for write in writes:
        tasks.setdefault((write.task_id, write.task_path), []).append(write)
    for (task_id, task_path), of_task in tasks.items():
        special = deque(write for write in of_task if write.channel in WRITES_IDX_MAP)
        regular = [write for write in of_task if write.channel not in WRITES_IDX_MAP]
        placed: list[OldWrite] = []
        for write in sorted(regular, key=attrgetter("idx")):
            while len(placed) < write.idx and special:
                placed.append(special.popleft())
            placed.append(write)
        placed += special
        yield task_id, task_path, [(write.channel, write.value) for write in placed]


def _config(thread_id: str, ns: str, checkpoint_id: str | None = None) -> RunnableConfig:
    """The config of a checkpoint. One that names none means the latest to a reader, and no parent
    to a writer."""
    if checkpoint_id:
        return config_of(thread_id, ns, checkpoint_id)
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}}


def _is_unfinished(head: CheckpointTuple) -> bool:
    """True if a task was to run next: only then does its trigger still hold a value, or an
    interrupt of its own wait."""
    values = head.checkpoint["channel_values"]
    if values.get(TASKS) or any(name.startswith("branch:to:") for name in values):
        return True
    return any(channel == INTERRUPT for _, channel, _ in head.pending_writes or ())


def _time(found: CheckpointTuple) -> datetime | None:
    try:
        time = datetime.fromisoformat(found.checkpoint["ts"])
    except (KeyError, TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _without_mark(thread: Thread) -> JsonObject:
    return {name: value for name, value in thread.metadata.items() if name != MARK}
