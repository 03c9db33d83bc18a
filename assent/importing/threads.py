"""Taking the threads of LangGraph's own SQLite saver over, one by one, each whole or not at all.

A thread's row is there before its first checkpoint, marked as being imported, and the mark goes in
the transaction that gives it its status, after what was written has been read back and compared.
What a killed import has left is found by its mark, removed, and imported anew.

A checkpoint is put behind its parent, by the saver's own `aput`, so that lists grow at their ends
as they did when they were made. Which channels are new is told by their values: the old saver
stored all of them at every step, also one that was changed in place.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import xxhash
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, CheckpointTuple
from langgraph.checkpoint.serde.types import INTERRUPT, TASKS

from assent.core.clock import Clock
from assent.core.errors import AssentError, Conflict, Unavailable
from assent.core.rows import Thread, ThreadStatus
from assent.importing.foreign import (
    Carrier,
    OldFile,
    OldThread,
    OldWrite,
    Unreadable,
    parents_first,
)
from assent.storage.base import Change, Storage
from assent.storage.sqlite.checkpoints.tuples import config_of
from assent.storage.sqlite.saver import SqliteSaver

MARK = "importing"
"""In the metadata of a thread that is not all here yet."""

DONE = "imported"
"""In the metadata of a thread that is: the old file's name, and the latest checkpoint that was
there."""

REMEMBERED = 64
"""Checkpoints whose channels are remembered, so that one that follows them has only what is new
stored."""

Adopt = Callable[[Thread], Awaitable[Change]]
"""What to commit for a thread whose checkpoints are all here: its row as it was given, or changed,
and what belongs to it."""

Channels = dict[str, tuple[Any, bytes]]
"""By channel: its version, and the hash of its value."""


class Outcome(Enum):
    """What became of a thread: it is here now, it was here already, or it was left out."""

    TAKEN = "taken"
    THERE = "there"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a thread, and why it was left out. `unfinished`: it had stopped before its
    end, to wait for a person or cut off."""

    outcome: Outcome
    reason: str = ""
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """The latest checkpoint of a thread's root, and when the thread's first and last were made."""

    head: CheckpointTuple | None
    began: datetime | None
    ended: datetime | None


async def just_idle(thread: Thread) -> Change:
    """Take the thread over as one that waits for nobody."""
    return Change(rows=(thread,))


class Importer:
    """Imports threads into a storage. `owner` is whose they become; `advance` is told the bytes
    that were done with, again and again."""

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

    async def take(self, thread: OldThread) -> Result:
        """Import the thread, unless it is here. If that fails, or is cancelled, nothing of it
        stays.

        Raises `AssentError`, which names thread and channel, if a value was not stored as it was;
        or `Unavailable`.
        """
        before = await self._storage.thread(thread.thread_id)
        if before is not None and MARK in before.metadata:
            before = await self._discard(before)
        if (result := await self._known(thread, before)) is not None:
            self._advance(thread.size)
            return result
        marked = self._marked(thread.thread_id, before)
        try:
            await self._storage.commit(Change(rows=(marked,)))
            carried = await self._carry(thread.thread_id)
            await self._storage.commit(await self._change(marked, before, carried))
        except Unreadable as error:
            await self._discard(marked)
            return Result(Outcome.LEFT_OUT, error.message)
        except BaseException:
            # Should this fail too, the mark is still there.
            with suppress(Unavailable):
                await self._discard(marked)
            raise
        return Result(
            Outcome.TAKEN, unfinished=carried.head is not None and _is_unfinished(carried.head)
        )

    # ── whether it is here ──

    async def _known(self, thread: OldThread, row: Thread | None) -> Result | None:
        """What to say of a thread that is here already; None if it is not."""
        if row is not None and row.metadata.get(DONE, {}).get("checkpoint_id", "") == thread.head:
            return Result(Outcome.THERE)
        if await self._saver.aget_tuple(_latest(thread.thread_id)) is None:
            return _busy() if row is not None and row.status is ThreadStatus.BUSY else None
        if (
            thread.head is not None
            and await self._saver.aget_tuple(config_of(thread.thread_id, "", thread.head))
            is not None
        ):
            return Result(Outcome.THERE)
        if row is not None and DONE in row.metadata:
            return Result(
                Outcome.LEFT_OUT,
                "It has gone on in the old file since it was imported. To take that too, delete it here first.",
            )
        return Result(
            Outcome.LEFT_OUT,
            "There is another thread of that id already. Delete that one first, or use another database.",
        )

    # ── before and after ──

    def _marked(self, thread_id: str, before: Thread | None) -> Thread:
        """The thread's row as it is until all is here, so that nobody can talk to the thread."""
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
        """Remove what there is of a thread that is not all here; return its row as it was before,
        if there was one."""
        marked = replace(marked, version=marked.version + 1)
        try:
            # A commit that was cancelled may yet have happened. Then the thread is all here, or
            # there never was a mark.
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

    async def _change(self, marked: Thread, before: Thread | None, carried: Carried) -> Change:
        """What makes the thread one like any other."""
        head_id = carried.head.checkpoint["id"] if carried.head else None
        metadata = {
            **_without_mark(marked),
            DONE: {"from": self._old.path.name, "checkpoint_id": head_id},
        }
        thread = replace(marked, metadata=metadata, version=marked.version + 1)
        if before is not None and before.status is not ThreadStatus.IDLE:
            # It has its approvals, or its error, already.
            return Change(rows=(replace(thread, status=before.status),))
        thread = replace(thread, status=ThreadStatus.IDLE, checkpoint_id=head_id)
        if before is None:
            thread = replace(
                thread,
                created_at=carried.began or thread.created_at,
                updated_at=carried.ended or thread.updated_at,
            )
        return await self._adopt(thread)

    # ── the checkpoints ──

    async def _carry(self, thread_id: str) -> Carried:
        """Put every checkpoint and every write of the thread, and read the latest of each namespace
        back."""
        head, began = None, None
        for ns, lineage in (await self._old.lineage(thread_id)).items():
            channels: OrderedDict[str, Channels] = OrderedDict()
            for checkpoint_id in parents_first(
                {each: parent for each, (parent, _) in lineage.items()}
            ):
                found = await self._old.checkpoint(thread_id, ns, checkpoint_id)
                parent_id, size = lineage[checkpoint_id]
                await self._put(found, parent_id, channels)
                await self._put_writes(thread_id, ns, checkpoint_id)
                time = _time(found)
                began = min(began, time) if began and time else began or time
                self._advance(size)
            latest = await self._verified(thread_id, ns, max(lineage))
            head = latest if ns == "" else head
        for ns, checkpoint_id in await self._old.stray_writes(thread_id):
            await self._put_writes(thread_id, ns, checkpoint_id)
        self._old.check_unchanged()
        return Carried(head, began, _time(head) if head else None)

    async def _put(
        self, found: CheckpointTuple, parent_id: str | None, remembered: OrderedDict[str, Channels]
    ) -> None:
        checkpoint = found.checkpoint
        channels = self._channels(found)
        before = remembered.get(parent_id or "", {})
        new = {
            name: checkpoint["channel_versions"].get(name, 0)
            for name, channel in channels.items()
            if channel != before.get(name)
        }
        thread_id, ns = (
            found.config["configurable"][name] for name in ("thread_id", "checkpoint_ns")
        )
        config = config_of(thread_id, ns, parent_id) if parent_id else _latest(thread_id, ns)
        await self._saver.aput(config, checkpoint, found.metadata, new)
        remembered[checkpoint["id"]] = channels
        if len(remembered) > REMEMBERED:
            remembered.popitem(last=False)

    def _channels(self, found: CheckpointTuple) -> Channels:
        versions, values = found.checkpoint["channel_versions"], found.checkpoint["channel_values"]
        return {
            name: (versions.get(name), self._hash(values[name]) if name in values else b"")
            for name in versions.keys() | values.keys()
        }

    async def _put_writes(self, thread_id: str, ns: str, checkpoint_id: str) -> None:
        for task_id, task_path, writes in as_they_were_put(
            await self._old.writes(thread_id, ns, checkpoint_id)
        ):
            await self._saver.aput_writes(
                config_of(thread_id, ns, checkpoint_id), writes, task_id, task_path
            )

    # ── reading back ──

    async def _verified(self, thread_id: str, ns: str, checkpoint_id: str) -> CheckpointTuple:
        """The namespace's latest checkpoint, which was read back and found to be the same."""
        old = await self._old.checkpoint(thread_id, ns, checkpoint_id)
        new = await self._saver.aget_tuple(_latest(thread_id, ns))
        if (part := self._difference(old, new)) is not None:
            place = f" (in '{ns}')" if ns else ""
            raise AssentError(
                f"The thread '{thread_id}'{place} was not stored as it was: {part} of its checkpoint {checkpoint_id} reads back otherwise. "
                "It was removed again, and the import was stopped. Check the disk with `assent doctor`, and import again."
            )
        return old

    def _difference(self, old: CheckpointTuple, new: CheckpointTuple | None) -> str | None:
        """What of the two is not the same, in words; None if nothing is."""
        if new is None:
            return "all"
        before, after = self._parts(old), self._parts(new)
        return next(
            (
                name
                for name in sorted(before.keys() | after.keys())
                if before.get(name) != after.get(name)
            ),
            None,
        )

    def _parts(self, found: CheckpointTuple) -> dict[str, bytes]:
        """By name: the hash of everything that a checkpoint consists of."""
        parts: dict[str, Any] = {
            f"the field '{name}'": value
            for name, value in found.checkpoint.items()
            if name != "channel_values"
        }
        parts |= {
            f"the channel '{name}'": value
            for name, value in found.checkpoint["channel_values"].items()
        }
        parts["the parent"] = (
            (found.parent_config or {}).get("configurable", {}).get("checkpoint_id")
        )
        parts["the metadata"] = found.metadata
        parts["the pending writes"] = list(found.pending_writes or ())
        return {name: self._hash(value) for name, value in parts.items()}

    def _hash(self, value: Any) -> bytes:
        """Of the value as it is stored."""
        kind, body = self._carrier.dumps_typed(value)
        return kind.encode() + xxhash.xxh3_128_digest(body)


def as_they_were_put(
    writes: Iterable[OldWrite],
) -> Iterator[tuple[str, str, Sequence[tuple[str, Any]]]]:
    """Task, path and writes, so that a saver that numbers writes by their place gives each the
    number that it had.

    A special write has a number of its own wherever it stands; so where a number is missing, one of
    those has stood.
    """
    tasks: dict[tuple[str, str], list[OldWrite]] = {}
    for write in writes:
        tasks.setdefault((write.task_id, write.task_path), []).append(write)
    for (task_id, task_path), theirs in tasks.items():
        special = [write for write in theirs if write.channel in WRITES_IDX_MAP]
        placed: list[OldWrite] = []
        for write in sorted(
            (write for write in theirs if write.channel not in WRITES_IDX_MAP),
            key=lambda write: write.idx,
        ):
            while len(placed) < write.idx and special:
                placed.append(special.pop(0))
            placed.append(write)
        yield task_id, task_path, [(write.channel, write.value) for write in (*placed, *special)]


def _latest(thread_id: str, ns: str = "") -> RunnableConfig:
    """The config that names no checkpoint: for a reader the latest, for a writer the first."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}}


def _is_unfinished(head: CheckpointTuple) -> bool:
    """Whether a task was to run next: only then does its trigger still hold a value, or a question
    of its own wait."""
    values = head.checkpoint["channel_values"]
    asked = any(channel == INTERRUPT for _, channel, _ in head.pending_writes or ())
    return asked or bool(values.get(TASKS)) or any(name.startswith("branch:to:") for name in values)


def _time(found: CheckpointTuple) -> datetime | None:
    try:
        time = datetime.fromisoformat(found.checkpoint["ts"])
    except (KeyError, TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _without_mark(thread: Thread) -> dict[str, Any]:
    return {name: value for name, value in thread.metadata.items() if name != MARK}


def _busy() -> Result:
    return Result(
        Outcome.LEFT_OUT,
        "A run is active on the thread of that id here. Start the server, wait for its end, and import again.",
    )
