"""The checkpoints of all threads in one file. Used on the event loop that opened it.

A checkpoint's row says where its channels' values are; a channel that did not change is taken over
from the checkpoint before. A list is compared with its stored version (`fingerprints.py`), and
only its new items are written (`plan.py`, `extents.py`). A write may rely on something that was
removed before the writer came to it. Then the writer refuses it (`writes.py`), and it is computed
anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from assent.checkpoint import bindings
from assent.checkpoint.bindings import Owner
from assent.checkpoint.codec import Codec
from assent.checkpoint.extents import (
    PLACES,
    Extents,
    extents_of,
    is_beginning,
    length,
    position,
    positions,
)
from assent.checkpoint.fingerprints import Fingerprints, are_held_elsewhere, are_messages, copies
from assent.checkpoint.heads import Heads, Listing, OwnHead, Stored
from assent.checkpoint.plan import Logs, Plan, is_log
from assent.checkpoint.values import Key
from assent.core import events
from assent.core.errors import ConfigurationError, Conflict
from assent.core.rows import LEASE_KEY, Lease
from assent.core.sealing import Seal
from assent.core.shown import SHOWN_KEY, Shown, first_of
from assent.storage.sqlite.checkpoints import removals
from assent.storage.sqlite.checkpoints.copies import copy_thread
from assent.storage.sqlite.checkpoints.reads import (
    NUMBER,
    PAGE,
    WIDTH,
    WRITE_WIDTH,
    Conditions,
    Reads,
    add_before,
    can_compare,
    conditions,
)
from assent.storage.sqlite.checkpoints.tuples import (
    Address,
    Blobs,
    Found,
    Gone,
    Values,
    address,
    as_tuple,
    config_of,
    found,
    metadata_text,
    pending_writes,
)
from assent.storage.sqlite.checkpoints.writes import CheckpointWrite, Stale, WriteRow
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.writer import Transaction, Writer

UNNUMBERED = 0
"""In place of the number of a row that was not read."""

ATTEMPTS = 5
"""A write is computed at most this often, if each time something it relied on was removed."""


class Checkpoints:
    """Reads and writes checkpoints. `serde` is passed with each call, because every graph may have
    a serializer of its own."""

    def __init__(
        self,
        writer: Writer,
        reads: Reads,
        seal: Seal,
        *,
        last_key: int,
        last_log: int,
        cache_bytes: int,
        now: Callable[[], datetime],
    ) -> None:
        self._writer = writer
        self._reads = reads
        self._seal = seal
        self._heads = Heads(cache_bytes)
        self._fingerprints = Fingerprints()
        self._new_keys = count(last_key + 1)
        self._logs = Logs(last_log + 1)
        self._now = now

    @classmethod
    async def open(
        cls,
        writer: Writer,
        reader: Reader,
        seal: Seal,
        *,
        cache_bytes: int,
        now: Callable[[], datetime],
    ) -> Checkpoints:
        """Open the checkpoints of the file that the writer and the reader have open."""
        reads = Reads(reader)
        key, log = await reads.last_numbers()
        return cls(
            writer, reads, seal, last_key=key, last_log=log, cache_bytes=cache_bytes, now=now
        )

    # ── putting ──

    async def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        serde: SerializerProtocol,
    ) -> RunnableConfig:
        """Store a checkpoint; return its config."""
        parent, codec = address(config), Codec(serde, self._seal)
        saved = get_checkpoint_metadata(config, metadata)
        text = metadata_text(saved)
        lease = config["configurable"].get(LEASE_KEY)
        for _ in range(ATTEMPTS):
            try:
                plan = await self._plan(parent, checkpoint, new_versions, codec)
                # The plan has taken places in the logs: nothing is awaited before it is queued.
                row = self._row(plan, checkpoint, parent, saved, text, codec)
                event = self._event(plan, checkpoint, parent, metadata, lease) if lease else None
                write = CheckpointWrite(
                    key=plan.key, row=row, blobs=plan.blobs, lease=lease, event=event
                )
                threads = (parent.thread_id,) if event else ()
                await self._writer.write(write, threads=threads, waits=lease is not None)
            except (Stale, Gone):
                self._forget_namespace(parent)
            else:
                self._remember(plan, checkpoint)
                if lease is None:
                    self._heads.drop_own(plan.key.k)
                else:
                    self._heads.put_own(_own_head(plan.key, lease, row))
                thread_id = config["configurable"]["thread_id"]
                return config_of(thread_id, parent.ns, checkpoint["id"])
        raise _removed_again_and_again(parent.thread_id)

    def _row(
        self,
        plan: Plan,
        checkpoint: Checkpoint,
        parent: Address,
        metadata: CheckpointMetadata,
        text: str,
        codec: Codec,
    ) -> tuple[Any, ...]:
        """The row of a checkpoint. `text` is its metadata as JSON."""
        key, refs = plan.key, plan.refs_text()
        id, parent_id = checkpoint["id"], parent.checkpoint_id
        outer = metadata.get("parents")
        outer_ids = metadata_text(outer) if outer else None
        without_values = {**checkpoint, "channel_values": {}}
        encoding, body = codec.serde.dumps_typed((without_values, plan.small))
        described: str | bytes = text
        if self._seal.is_on:
            binding = bindings.checkpoint(key.thread_id, key.ns, id, parent_id, encoding, refs)
            body = codec.sealed(body, binding)
            binding = bindings.metadata(key.thread_id, key.ns, id)
            described = codec.sealed(text.encode(), binding)
        ids = id, parent_id, outer_ids, metadata.get("run_id")
        return key.k, key.generation, *ids, encoding, body, refs, described

    def _event(
        self,
        plan: Plan,
        checkpoint: Checkpoint,
        parent: Address,
        metadata: CheckpointMetadata,
        lease: Lease,
    ) -> events.Checkpoint:
        """The event by which the run says that it stored the checkpoint."""
        return events.Checkpoint(
            ts=self._now(),
            thread_id=plan.key.thread_id,
            run_id=lease.run_id,
            checkpoint_id=checkpoint["id"],
            step=metadata.get("step", 0),
            parent_id=parent.checkpoint_id or "",
            source=metadata.get("source", ""),
            ns=events.ns_of(plan.key.ns),
        )

    async def _plan(
        self,
        parent: Address,
        checkpoint: Checkpoint,
        new_versions: ChannelVersions,
        codec: Codec,
    ) -> Plan:
        stored = await self._stored(parent, codec)
        # The parent's own generation was read no later than what the plan is computed from.
        key = stored.key if stored else await self._key(parent)
        lists: dict[str, Listing] = {}
        if stored:
            lists = await self._lists(stored, checkpoint, new_versions, codec)
        plan = Plan(key, stored, lists, self._logs, self._fingerprints, codec)
        plan.add(checkpoint, new_versions)
        return plan

    async def _stored(self, at: Address, codec: Codec) -> Stored | None:
        if not at.checkpoint_id:
            return None
        key = self._heads.key(at.thread_id, at.ns)
        stored = self._heads.checkpoints.get((key.k, at.checkpoint_id)) if key else None
        if stored is None and (read := await self._checkpoint(at)):
            stored = found(read[0][:WIDTH], codec).stored
        return stored

    async def _lists(
        self,
        parent: Stored,
        checkpoint: Checkpoint,
        new_versions: ChannelVersions,
        codec: Codec,
    ) -> dict[str, Listing]:
        """The parent's lists that may have changed."""
        values = checkpoint["channel_values"]
        lists: dict[str, Listing] = {}
        for channel, ref in parent.refs.items():
            if not isinstance(ref, tuple) or channel not in new_versions:
                continue
            if not is_log(channel, values.get(channel)):
                continue
            listing = self._heads.lists.get(ref)
            if listing is None:
                read = Values(await self._blobs([ref]), codec)
                listing = self._listing(parent.key, channel, ref, read)
            lists[channel] = listing
        return lists

    def _remember(self, plan: Plan, checkpoint: Checkpoint) -> None:
        """Remember a checkpoint that has committed."""
        key = plan.key
        if not key.stored:
            key = replace(key, stored=True)
            self._heads.put_key(key)
        versions = dict(checkpoint["channel_versions"])
        stored = Stored(key=key, versions=versions, refs=plan.refs, small=plan.small)
        self._heads.checkpoints.put((key.k, checkpoint["id"]), stored)
        for channel, listing in plan.lists.items():
            if plan.parent and channel in plan.parent.refs:
                # The list goes on under its new name. Another branch from the old one reads it
                # again.
                self._heads.lists.drop(plan.parent.refs[channel])
            self._heads.lists.put(plan.refs[channel], listing)

    async def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
        serde: SerializerProtocol,
    ) -> None:
        """Store a task's writes."""
        at, codec = address(config), Codec(serde, self._seal)
        if not writes:
            return None
        lease = config["configurable"].get(LEASE_KEY)
        rows: list[WriteRow] = []
        for index, (channel, value) in enumerate(writes):
            task = (task_id, WRITES_IDX_MAP.get(channel, index), task_path)
            encoding, body = serde.dumps_typed(value)
            owner, id = Owner(at.thread_id, at.ns, channel), str(at.checkpoint_id)
            body = codec.sealed(body, bindings.write(owner, id, *task, encoding))
            rows.append((id, *task, channel, encoding, body))
        for _ in range(ATTEMPTS):
            key = await self._key(at)
            self._heads.note_writes(key.k, str(at.checkpoint_id))
            try:
                write = CheckpointWrite(key=key, writes=rows, lease=lease)
                return await self._writer.write(write, threads=(), waits=lease is not None)
            except Stale:
                self._forget_namespace(at)
        raise _removed_again_and_again(at.thread_id)

    # ── removing and copying ──

    async def delete_thread(self, thread_id: str) -> None:
        """Remove everything of the thread."""
        await self._apply(removals.delete_thread(thread_id))

    async def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that the runs made, with their writes."""
        if run_ids:
            await self._apply(removals.delete_for_runs(run_ids))

    async def prune(self, thread_ids: Sequence[str], keep: int, serde: SerializerProtocol) -> None:
        """Keep the latest checkpoints of each namespace."""
        if thread_ids:
            await self._apply(removals.prune(thread_ids, keep, Codec(serde, self._seal)))

    async def copy_thread(self, source: str, target: str, serde: SerializerProtocol) -> None:
        """Copy everything of a thread to another."""
        if source != target:
            codec = Codec(serde, self._seal)
            await self._apply(
                copy_thread(source, target, self._new_keys.__next__, self._logs.new, codec)
            )

    async def _apply(self, operation: Callable[[Transaction], set[int]]) -> None:
        """Run an operation that returns the keys of the namespaces to forget."""
        self._forget(await self._writer.write(operation, threads=()))

    def forget_thread(self, thread_id: str) -> None:
        """Keep nothing of the thread in memory, because it was erased from the file."""
        self._logs.forget_values(self._heads.keys_of(thread_id))
        self._heads.forget_thread(thread_id)

    def _forget(self, keys: set[int]) -> None:
        self._heads.forget(keys)
        self._logs.forget_values(keys)

    def _forget_namespace(self, at: Address) -> None:
        if key := self._heads.key(at.thread_id, at.ns):
            self._forget({key.k})

    # ── keys ──

    async def _key(self, at: Address) -> Key:
        """The key of a namespace; a new one if it is not in the file."""
        if key := self._heads.key(at.thread_id, at.ns):
            return key
        namespace = await self._reads.namespace(at)
        # Another task may have been faster while this one was reading.
        if key := self._heads.key(at.thread_id, at.ns):
            return key
        return self._new_key(at, namespace)

    def _new_key(self, at: Address, namespace: tuple[int, int] | None = None) -> Key:
        k, generation = namespace or (next(self._new_keys), 0)
        key = Key(
            k=k,
            thread_id=at.thread_id,
            ns=at.ns,
            generation=generation,
            stored=namespace is not None,
        )
        self._heads.put_key(key)
        return key

    # ── getting ──

    async def get(
        self, config: RunnableConfig, serde: SerializerProtocol
    ) -> CheckpointTuple | None:
        """The checkpoint that was named, or the latest."""
        at, codec = address(config), Codec(serde, self._seal)
        is_shown = SHOWN_KEY in config["configurable"]
        lease = config["configurable"].get(LEASE_KEY)
        tried: Key | None = None
        while read := self._own_row(at, lease) or await self._checkpoint(at):
            row = found(read[0][:WIDTH], codec)
            key = row.stored.key
            if key == tried:
                # Nothing was removed between the two times that the row was read.
                raise _damaged(at.thread_id)
            self._heads.put_key(key)
            self._heads.checkpoints.put(row.place, row.stored)
            try:
                values = await self._values(row.stored, codec, is_shown=is_shown)
            except Gone:
                self._heads.drop_own(key.k)
                tried = key
                continue
            writes = [each[WIDTH:] for each in read if each[WIDTH] is not None]
            return as_tuple(row, values, pending_writes(writes, row, codec))
        return None

    def _own_row(self, at: Address, lease: Lease | None) -> list[Any]:
        """The row of the head, without writes, if the run with this lease has put it: that comes
        back to it when it ends."""
        own = self._heads.own(self._heads.key(at.thread_id, at.ns), lease)
        if own is None or at.checkpoint_id not in (None, own.checkpoint_id):
            return []
        return [own.row]

    async def _checkpoint(self, at: Address) -> list[Any]:
        """The checkpoint's row, once with each of its writes and at least once; empty if there is
        no such checkpoint."""
        read = await self._reads.checkpoint(at)
        if not read and self._heads.key(at.thread_id, at.ns) is None:
            # The namespace is not in the file, so a put need not ask for its key.
            self._new_key(at)
        return [row for row in read if row[NUMBER] is not None]

    async def _values(self, stored: Stored, codec: Codec, *, is_shown: bool) -> dict[str, Any]:
        """The values of the checkpoint's channels, which are the caller's alone, unless they are
        only shown. Raises `Gone`."""
        values: dict[str, Any] = {}
        missing: dict[str, Any] = {}
        for channel, ref in stored.refs.items():
            items = self._from_memory(stored.key.k, ref, is_shown=is_shown)
            if items is None:
                missing[channel] = ref
            else:
                values[channel] = items
        read = Values(await self._blobs(missing.values()), codec)
        if missing and is_shown:
            # Meanwhile anybody may have changed what they hold of these lists.
            for channel in values:
                ref = stored.refs[channel]
                items = self._from_memory(stored.key.k, ref, is_shown=True)
                if items is None:
                    return await self._values(stored, codec, is_shown=True)
                values[channel] = items
        for channel in stored.small:
            values[channel] = read.of(stored, channel)
        for channel, ref in missing.items():
            if isinstance(ref, tuple):
                listing = self._listing(stored.key, channel, ref, read)
                self._heads.lists.put(ref, listing)
                values[channel] = _shown(listing) if is_shown else list(listing.items)
            else:
                values[channel] = read.of(stored, channel)
        return values

    def _from_memory(self, k: int, ref: Any, *, is_shown: bool) -> list[Any] | None:
        """The list from memory, if it is still there as it was stored.

        If anybody holds one of its messages, they keep it, and the caller gets copies, unless they
        are only shown.
        """
        listing = self._heads.list_with(k, ref) if isinstance(ref, tuple) else None
        if listing is None or listing.digest is None or not are_messages(listing.items):
            return None
        must_copy = not is_shown and are_held_elsewhere(listing.items)
        if self._fingerprints.digest(listing.items) != listing.digest:
            self._heads.lists.drop(listing.extents)
            return None
        if is_shown:
            return first_of(_shown(listing), length(ref))
        items = listing.items[: length(ref)]
        return copies(items) if must_copy else items

    def _listing(self, key: Key, channel: str, extents: Extents, read: Values) -> Listing:
        """The list as it was read."""
        log, owner = extents[-1].log, key.owner(channel)
        if self._logs.should_learn_end(log) and (end := read.end_of(log, owner)):
            self._logs.learn_end(log, end)
        items = read.items(extents, owner)
        fingerprint = self._fingerprints.of(items)
        return Listing(
            k=key.k,
            extents=extents,
            items=items,
            digest=fingerprint.digest() if fingerprint else None,
            hashes=self._fingerprints.each(items, fingerprint),
            size=read.size,
            made=[],
        )

    async def _blobs(self, refs: Iterable[Any]) -> Blobs:
        """The blobs that these references lead to, and the last one of each log that a list may
        go on in."""
        lists = [extents_of(ref) for ref in refs]
        if not lists:
            return {}
        stretches = positions(extent for extents in lists for extent in extents)
        for log in {extents[-1].log for extents in lists}:
            if self._logs.should_learn_end(log):
                stretches.append((position(log, PLACES - 1), position(log, PLACES)))
        return await self._reads.blobs(stretches)

    # ── listing ──

    async def search(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
        serde: SerializerProtocol,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first. Nothing is held between two of them."""
        filter, codec = filter or {}, Codec(serde, self._seal)
        is_shown = config is not None and SHOWN_KEY in config["configurable"]
        # Sealed metadata, and what SQLite cannot compare, is filtered here.
        in_python = self._seal.is_on or not all(map(can_compare, filter.values()))
        asked = conditions(config, {} if in_python else filter)
        if before is not None:
            await self._add_before(asked, config, before)
        left, last = limit, None
        while left is None or left > 0:
            size = PAGE
            if left is not None and not (filter and in_python):
                size = min(PAGE, left)
            read = await self._reads.page(asked, last, size)
            page = [found(row, codec) for row in read]
            chosen = [row for row in page if _matches(row.metadata, filter)]
            for each in await self._tuples(chosen[:left], codec, is_shown=is_shown):
                yield each
            if left is not None:
                left -= len(chosen)
            if len(page) < size:
                break
            last = page[-1].number

    async def _add_before(
        self, asked: Conditions, config: RunnableConfig | None, before: RunnableConfig
    ) -> None:
        """Add the condition that a checkpoint comes before the one that `before` names.

        Of one that is not there only the id is known. Ids sort by the time at which they were made,
        and that is all that other savers go by.
        """
        checkpoint_id = before["configurable"].get("checkpoint_id")
        if not checkpoint_id:
            return
        named = {**(config or before)["configurable"], **before["configurable"]}
        places = []
        if "thread_id" in named:
            places = await self._reads.places(str(named["thread_id"]), str(checkpoint_id))
        if not places:
            asked.add("c.checkpoint_id < ?", checkpoint_id)
            return
        ns = named.get("checkpoint_ns")
        at = next((place for place in places if place.ns == ns), places[0])
        add_before(asked, config, at)

    async def _tuples(
        self, page: Sequence[Found], codec: Codec, *, is_shown: bool
    ) -> list[CheckpointTuple]:
        """The tuples of a page. Items that their lists share are made once: copies of long lists
        would keep the garbage collector busy."""
        writes = await self._reads.writes([row.place for row in page])
        known = self._known_lists(page, is_shown=is_shown)
        refs = [ref for row in page for ref in row.stored.refs.values()]
        missing = {ref for ref in refs if ref not in known}
        read = Values(await self._blobs(missing), codec)
        if missing and is_shown:
            # Meanwhile anybody may have changed what they hold of these lists.
            known = self._known_lists(page, is_shown=True)
            if any(ref not in known for ref in refs if ref not in missing):
                return await self._tuples(page, codec, is_shown=True)
        tuples = []
        for row in page:
            stored = row.stored
            try:
                values = {
                    channel: _again(known[ref]) if ref in known else read.of(stored, channel)
                    for channel, ref in (
                        *dict.fromkeys(stored.small).items(),
                        *stored.refs.items(),
                    )
                }
            except Gone:
                # Removed since the page was read.
                continue
            pending = pending_writes(writes.get(row.place, ()), row, codec)
            tuples.append(as_tuple(row, values, pending))
        return tuples

    def _known_lists(self, page: Sequence[Found], *, is_shown: bool) -> dict[Any, list[Any]]:
        """The lists of the page that are in memory, or are the beginning of one that is: those of
        a thread's latest checkpoints are."""
        known: dict[Any, list[Any]] = {}
        longest: tuple[Extents, list[Any]] | None = None
        for row in page:
            for ref in row.stored.refs.values():
                if not isinstance(ref, tuple) or ref in known:
                    continue
                if longest is not None and is_beginning(ref, longest[0]):
                    known[ref] = first_of(longest[1], length(ref))
                    continue
                items = self._from_memory(row.stored.key.k, ref, is_shown=is_shown)
                if items is not None:
                    longest = ref, items
                    known[ref] = items
        return known

    # ── delta channels ──

    async def delta_history(
        self, config: RunnableConfig, channels: Sequence[str], serde: SerializerProtocol
    ) -> Mapping[str, DeltaChannelHistory]:
        """By channel: its value at the nearest ancestor that has one, and the writes from there on,
        oldest first."""
        at, codec = address(config), Codec(serde, self._seal)
        tried: Any = ()
        while True:
            try:
                return await self._delta_history(at, channels, codec)
            except Gone:
                namespace = await self._reads.namespace(at)
                if namespace == tried:
                    # Nothing was removed between the two times that it was read.
                    raise _damaged(at.thread_id) from None
                tried = namespace

    async def _delta_history(
        self, at: Address, channels: Sequence[str], codec: Codec
    ) -> Mapping[str, DeltaChannelHistory]:
        """The history as it is read now. Raises `Gone`."""
        history: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        looking = set(channels)
        async for row, pending in self._ancestors(at, looking, codec):
            for write in reversed(pending):
                if write[1] in looking:
                    history[write[1]]["writes"].append(write)
            for channel in looking & {*row.stored.small, *row.stored.refs}:
                history[channel]["seed"] = await self._value(row.stored, channel, codec)
                looking.discard(channel)
        for each in history.values():
            each["writes"].reverse()
        return history

    async def _ancestors(
        self, at: Address, channels: set[str], codec: Codec
    ) -> AsyncIterator[tuple[Found, list[PendingWrite]]]:
        """The checkpoints before this one, nearest first, with their writes to the channels, until
        the caller has removed every channel from the set."""
        read = await self._checkpoint(at) if channels else []
        parent_id = found(read[0][:WIDTH], codec).parent_id if read else None
        seen = set[str]()
        while parent_id is not None and channels:
            rows = await self._reads.ancestors(at._replace(checkpoint_id=parent_id))
            chain = [found(row, codec) for row in rows]
            writes = await self._reads.writes([row.place for row in chain], channels)
            for row in chain:
                if row.checkpoint_id in seen or not channels:
                    return
                seen.add(row.checkpoint_id)
                yield row, pending_writes(writes.get(row.place, ()), row, codec)
            parent_id = chain[-1].parent_id if chain else None

    async def _value(self, stored: Stored, channel: str, codec: Codec) -> Any:
        refs = [stored.refs[channel]] if channel in stored.refs else []
        return Values(await self._blobs(refs), codec).of(stored, channel)


def _own_head(key: Key, lease: Lease, stored: tuple[Any, ...]) -> OwnHead:
    """The head as it is read, of the row that was stored."""
    k, generation, id, parent_id, _, _, encoding, body, refs, metadata = stored
    where = k, generation, key.thread_id, key.ns
    no_writes = (None,) * WRITE_WIDTH
    row = (UNNUMBERED, *where, id, parent_id, encoding, body, refs, metadata, *no_writes)
    size = sum(map(len, (body, refs, metadata)))
    return OwnHead(k=k, lease=lease, checkpoint_id=id, row=row, size=size)


def _again(items: list[Any]) -> list[Any]:
    return first_of(items, len(items))


def _shown(listing: Listing) -> list[Any]:
    is_of_messages = listing.digest is not None and are_messages(listing.items)
    return Shown(listing.items, listing.made) if is_of_messages else list(listing.items)


def _matches(metadata: Mapping[str, Any], filter: Mapping[str, Any]) -> bool:
    return all(metadata.get(name) == value for name, value in filter.items())


def _removed_again_and_again(thread_id: str) -> Conflict:
    return Conflict(
        f"Checkpoints of the thread '{thread_id}' were removed again and again "
        "while it was written to. Try again."
    )


def _damaged(thread_id: str) -> ConfigurationError:
    return ConfigurationError(
        f"A checkpoint of the thread '{thread_id}' refers to values that the file lacks. "
        "Restore it from a backup."
    )
