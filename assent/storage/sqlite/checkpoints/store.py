"""The checkpoints of all threads in one file: how they are put there, and read again. Everything
here is on the event loop that opened it.

A checkpoint's row says where its channels' values are, and a channel that did not change is taken
over from the checkpoint before. A list is compared with what it was there (`fingerprints.py`), and
only what is new of it is written (`plan.py`, `extents.py`). What was remembered, or read, may be
gone by the time the writer comes to it; then the write is refused there (`writing.py`), and
computed anew from what is true now.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from assent.checkpoint import bindings
from assent.checkpoint.bindings import Owner
from assent.checkpoint.extents import PLACES, Extents, position, positions
from assent.checkpoint.fingerprints import Fingerprints, are_messages, are_ours_alone, copies
from assent.checkpoint.heads import Heads, Listing, Stored
from assent.checkpoint.plan import Logs, Plan, is_log
from assent.checkpoint.values import Key
from assent.core.errors import ConfigurationError, Conflict
from assent.core.rows import LEASE_KEY, Lease
from assent.core.sealing import Seal
from assent.storage.sqlite.checkpoints import copies as copying
from assent.storage.sqlite.checkpoints import tuples as rows
from assent.storage.sqlite.checkpoints import writes as writing
from assent.storage.sqlite.checkpoints.tuples import (
    COLUMNS,
    WIDTH,
    WRITE_COLUMNS,
    Address,
    Blobs,
    Found,
    Gone,
    Items,
    address,
)
from assent.storage.sqlite.checkpoints.writes import CheckpointWrite, NewCheckpoint, Stale, Write
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.writer import Writer

ATTEMPTS = 5
"""How often a write is computed anew, or something read again, when what it was computed from has
just been removed."""

PAGE = 32
"""Checkpoints read at once when they are listed."""

ROWS = f"""
SELECT s.key, {COLUMNS}, {WRITE_COLUMNS} FROM json_each(?) s
CROSS JOIN checkpoint_threads t ON t.thread_id = json_extract(s.value, '$[0]') AND t.ns = json_extract(s.value, '$[1]')
LEFT JOIN checkpoints c ON c.k = t.k
AND c.checkpoint_id = coalesce(json_extract(s.value, '$[2]'), (SELECT max(checkpoint_id) FROM checkpoints WHERE k = t.k))
LEFT JOIN checkpoint_writes w ON w.k = c.k AND w.checkpoint_id = c.checkpoint_id
"""
"""The checkpoints at these addresses, and their writes."""

CHECKPOINT_ID = 4
"""Its place among the columns."""


class Checkpoints:
    """Reads and writes checkpoints. `serde` comes with each call, because every graph may have its
    own."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        seal: Seal,
        *,
        first_key: int,
        first_log: int,
        cache_bytes: int,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._seal = seal
        self._heads = Heads(cache_bytes)
        self._fingerprints = Fingerprints()
        self._new_keys = count(first_key)
        self._logs = Logs(first_log)
        self._asked: dict[Address, asyncio.Future[list[Any]]] = {}
        self._answering: set[asyncio.Future[None]] = set()

    @classmethod
    async def open(
        cls, writer: Writer, reader: Reader, seal: Seal, *, cache_bytes: int
    ) -> Checkpoints:
        """Over the file that the writer writes and the reader reads, and whose values this
        seals."""
        ((key, log),) = await reader.rows(
            "SELECT coalesce((SELECT max(k) FROM checkpoint_threads), 0), coalesce((SELECT max(log) FROM checkpoint_logs), 0)"
        )
        return cls(
            writer, reader, seal, first_key=key + 1, first_log=log + 1, cache_bytes=cache_bytes
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
        parent, lease = address(config), _lease(config)
        text = rows.metadata_text(saved := get_checkpoint_metadata(config, metadata))
        for _ in range(ATTEMPTS):
            try:
                plan = await self._plan(parent, checkpoint, new_versions, serde)
                typed = serde.dumps_typed(({**checkpoint, "channel_values": {}}, plan.small))
                columns = self._columns(
                    plan, checkpoint["id"], parent.checkpoint_id, saved.get("run_id"), typed, text
                )
                new = NewCheckpoint(columns=columns, blobs=plan.blobs)
                await self._writer.write(CheckpointWrite(plan.key, new, lease=lease), threads=())
            except (Stale, Gone):
                self._forget_name(parent)
            else:
                self._remember(plan, checkpoint)
                return rows.config_of(
                    config["configurable"]["thread_id"], parent.ns, checkpoint["id"]
                )
        raise _moving(parent.thread_id)

    def _columns(
        self,
        plan: Plan,
        id: str,
        parent_id: str | None,
        run_id: str | None,
        typed: tuple[str, bytes],
        metadata: str,
    ) -> tuple[Any, ...]:
        """The row of a checkpoint."""
        key, (kind, body), refs = plan.key, typed, plan.refs_text()
        described: str | bytes = metadata
        if self._seal.is_on:
            body = self._seal.seal(
                body, *bindings.checkpoint(key.thread_id, key.ns, id, parent_id, kind, refs)
            )
            described = self._seal.seal(
                metadata.encode(), *bindings.metadata(key.thread_id, key.ns, id)
            )
        return key.k, key.generation, id, parent_id, run_id, kind, body, refs, described

    async def _plan(
        self,
        parent: Address,
        checkpoint: Checkpoint,
        new_versions: ChannelVersions,
        serde: SerializerProtocol,
    ) -> Plan:
        """What to store. Once it is returned nothing may be awaited before it is queued: it has
        taken places in the logs."""
        before = await self._stored(parent, serde)
        # The generation is that of what the plan is computed from, so that it was read no later.
        key = before.key if before else await self._key(parent)
        lists = await self._lists(before, checkpoint, new_versions, serde)
        plan = Plan(key, before, lists, self._logs, self._fingerprints, serde, self._seal)
        plan.add(checkpoint, new_versions)
        return plan

    async def _lists(
        self,
        parent: Stored | None,
        checkpoint: Checkpoint,
        new_versions: ChannelVersions,
        serde: SerializerProtocol,
    ) -> Mapping[str, Listing]:
        """The parent's lists that may have changed."""
        lists: dict[str, Listing] = {}
        for channel, ref in parent.refs.items() if parent else ():
            if (
                parent
                and isinstance(ref, tuple)
                and channel in new_versions
                and is_log(channel, checkpoint["channel_values"].get(channel))
            ):
                listing = self._heads.listing(ref)
                lists[channel] = listing or self._listed(
                    parent.key, channel, ref, Items(await self._blobs([ref]), serde, self._seal)
                )
        return lists

    def _remember(self, plan: Plan, checkpoint: Checkpoint) -> None:
        """The write has committed."""
        key = plan.key
        if not key.stored:
            key = replace(key, stored=True)
            self._heads.keys.put((key.thread_id, key.ns), key)
        self._heads.checkpoints.put(
            (key.k, checkpoint["id"]),
            Stored(
                key=key,
                versions=dict(checkpoint["channel_versions"]),
                refs=plan.refs,
                small=plan.small,
            ),
        )
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
        """Store what a task wrote."""
        at, lease = address(config), _lease(config)
        new = [
            self._write_row(
                at,
                task_id,
                WRITES_IDX_MAP.get(channel, index),
                task_path,
                channel,
                serde.dumps_typed(value),
            )
            for index, (channel, value) in enumerate(writes)
        ]
        for _ in range(ATTEMPTS if new else 0):
            key = await self._key(at)
            try:
                await self._writer.write(CheckpointWrite(key, writes=new, lease=lease), threads=())
            except Stale:
                self._forget_name(at)
            else:
                return
        if new:
            raise _moving(at.thread_id)

    def _write_row(
        self,
        at: Address,
        task_id: str,
        idx: int,
        task_path: str,
        channel: str,
        typed: tuple[str, bytes],
    ) -> Write:
        checkpoint_id, (kind, body) = str(at.checkpoint_id), typed
        owner = Owner(at.thread_id, at.ns, channel)
        body = self._seal.seal(
            body, *bindings.write(owner, checkpoint_id, task_id, idx, task_path, kind)
        )
        return checkpoint_id, task_id, idx, task_path, channel, kind, body

    # ── removing and copying ──

    async def delete_thread(self, thread_id: str) -> None:
        """Remove everything of the thread."""
        self._forget(await self._writer.write(writing.delete_thread(thread_id), threads=()))

    async def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that the runs made, with their writes."""
        if run_ids:
            self._forget(await self._writer.write(writing.delete_for_runs(run_ids), threads=()))

    async def prune(self, thread_ids: Sequence[str], keep: int, serde: SerializerProtocol) -> None:
        """Keep the latest checkpoints of each namespace."""
        if thread_ids:
            self._forget(
                await self._writer.write(
                    writing.prune(thread_ids, keep, serde, self._seal), threads=()
                )
            )

    async def copy_thread(self, source: str, target: str, serde: SerializerProtocol) -> None:
        """Copy everything of a thread to another."""
        if source != target:
            operation = copying.copy_thread(
                source, target, lambda: next(self._new_keys), self._logs.new, serde, self._seal
            )
            self._forget(await self._writer.write(operation, threads=()))

    def _forget(self, keys: set[int]) -> None:
        self._heads.forget(keys)
        self._logs.forget_values(keys)

    def _forget_name(self, at: Address) -> None:
        key = self._heads.key(at.thread_id, at.ns)
        self._heads.keys.drop((at.thread_id, at.ns))
        if key:
            self._forget({key.k})

    async def _key(self, at: Address) -> Key:
        if key := self._heads.key(at.thread_id, at.ns):
            return key
        found = await self._reader.rows(
            "SELECT k, generation FROM checkpoint_threads WHERE thread_id = ? AND ns = ?",
            (at.thread_id, at.ns),
        )
        # Another task may have been faster while this one was reading.
        if key := self._heads.key(at.thread_id, at.ns):
            return key
        k, generation = found[0] if found else (next(self._new_keys), 0)
        key = Key(k=k, thread_id=at.thread_id, ns=at.ns, generation=generation, stored=bool(found))
        self._heads.keys.put((at.thread_id, at.ns), key)
        return key

    # ── getting ──

    async def get(
        self, config: RunnableConfig, serde: SerializerProtocol
    ) -> CheckpointTuple | None:
        """The checkpoint that was named, or the latest."""
        at = address(config)
        for _ in range(ATTEMPTS):
            read = await self._row(at)
            if not read:
                return None
            row = rows.found(read[0], serde, self._seal)
            self._heads.keys.put((at.thread_id, at.ns), row.stored.key)
            self._heads.checkpoints.put((row.stored.key.k, row.checkpoint_id), row.stored)
            try:
                values = await self._values(row.stored, serde)
            except Gone:
                continue
            return rows.as_tuple(
                row, values, rows.pending((each[WIDTH:] for each in read), row, serde, self._seal)
            )
        raise _damaged(at.thread_id)

    async def _row(self, at: Address) -> list[Any]:
        """The checkpoint's row, once for each of its writes and at least once.

        All that are asked for in one turn of the loop share a query, for a trip to the reader's
        thread costs more than what it brings.
        """
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._answer)
        answer = self._asked.get(at)
        if answer is None:
            answer = self._asked[at] = asyncio.get_running_loop().create_future()
        # Others may wait for the same answer when this caller is cancelled.
        return await asyncio.shield(answer)

    def _answer(self) -> None:
        asked, self._asked = self._asked, {}
        task = asyncio.ensure_future(self._rows(asked))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _rows(self, asked: Mapping[Address, asyncio.Future[list[Any]]]) -> None:
        found: dict[int, list[Any]] = {}
        try:
            for number, *row in await self._reader.rows(
                ROWS, (orjson.dumps([list(at) for at in asked]).decode(),)
            ):
                found.setdefault(number, []).append(row)
        except Exception as error:
            for answer in asked.values():
                # An exception each, which gathers only its own raiser's traceback.
                answer.set_exception(type(error)(*error.args))
                # Whoever asked may have been cancelled since.
                answer.exception()
            return
        for number, (at, answer) in enumerate(asked.items()):
            self._learn_key(at, found.get(number))
            # A namespace without checkpoints has a row without one.
            answer.set_result(
                [row for row in found.get(number, ()) if row[CHECKPOINT_ID] is not None]
            )

    def _learn_key(self, at: Address, found: list[Any] | None) -> None:
        """A namespace that the file does not have gets its key now, unless it has one that was not
        stored yet."""
        if found is None and self._heads.key(at.thread_id, at.ns) is None:
            key = Key(
                k=next(self._new_keys), thread_id=at.thread_id, ns=at.ns, generation=0, stored=False
            )
            self._heads.keys.put((at.thread_id, at.ns), key)

    async def _stored(self, at: Address, serde: SerializerProtocol) -> Stored | None:
        if not at.checkpoint_id:
            return None
        key = self._heads.key(at.thread_id, at.ns)
        if key and (stored := self._heads.checkpoint(key.k, at.checkpoint_id)):
            return stored
        read = await self._row(at)
        return rows.found(read[0], serde, self._seal).stored if read else None

    async def _values(self, stored: Stored, serde: SerializerProtocol) -> dict[str, Any]:
        """The values of the checkpoint's channels, which the caller may do with as it likes."""
        values = {channel: serde.loads_typed(typed) for channel, typed in stored.small.items()}
        at_hand = {
            channel: self._at_hand(ref)
            for channel, ref in stored.refs.items()
            if isinstance(ref, tuple)
        }
        missing = [
            ref if isinstance(ref, tuple) else rows.extent_of_value(ref)
            for channel, ref in stored.refs.items()
            if not at_hand.get(channel)
        ]
        blobs = await self._blobs(missing) if missing else {}
        items = Items(blobs, serde, self._seal)
        for channel, ref in stored.refs.items():
            if not isinstance(ref, tuple):
                values[channel] = rows.value_at(blobs, ref, stored, channel, serde, self._seal)
            elif kept := at_hand[channel]:
                values[channel] = kept
            else:
                listing = self._listed(stored.key, channel, ref, items)
                self._heads.lists.put(ref, listing)
                values[channel] = list(listing.items)
        return values

    def _at_hand(self, extents: Extents) -> list[Any] | None:
        """The list from memory, if it is still there as it was stored.

        If somebody holds any of its messages, they get to keep them, and the caller gets copies.
        """
        listing = self._heads.listing(extents)
        if listing is None or listing.digest is None or not are_messages(listing.items):
            return None
        alone = are_ours_alone(listing.items)
        if self._fingerprints.digest(listing.items) != listing.digest:
            self._heads.lists.drop(extents)
            return None
        return list(listing.items) if alone else copies(listing.items)

    def _listed(self, key: Key, channel: str, extents: Extents, items: Items) -> Listing:
        """The list from what was read."""
        log = extents[-1].log
        if not self._logs.knows_end(log) and (end := items.end_of(log, key.owner(channel))):
            self._logs.learn_end(log, end)
        whole = items.of(extents, key.owner(channel))
        return Listing(
            k=key.k,
            items=whole,
            digest=self._fingerprints.digest(whole),
            hashes=self._fingerprints.each(whole),
            size=items.size,
        )

    async def _blobs(self, lists: Sequence[Extents]) -> Blobs:
        """Every blob that holds something of these lists, and the last of each log that they may go
        on in."""
        stretches = positions(extent for extents in lists for extent in extents)
        logs = {extents[-1].log for extents in lists}
        stretches += [
            (position(log, PLACES - 1), position(log, PLACES))
            for log in logs
            if not self._logs.knows_end(log)
        ]
        read = await self._reader.rows(
            "SELECT b.position, b.type, b.body FROM json_each(?) s CROSS JOIN checkpoint_blobs b "
            "WHERE b.position >= (SELECT max(position) FROM checkpoint_blobs WHERE position <= json_extract(s.value, '$[0]')) "
            "AND b.position < json_extract(s.value, '$[1]')",
            (orjson.dumps(stretches).decode(),),
        )
        return {place: (kind, body) for place, kind, body in read}

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
        filter, in_python = filter or {}, self._seal.is_on or _in_python(filter or {})
        where, parameters = _wanted(config, {} if in_python else filter, before)
        left, last = limit, None
        while left is None or left > 0:
            size = min(PAGE, left) if left is not None and not (filter and in_python) else PAGE
            read = await self._page(where, parameters, last, size)
            last = (read[-1][4], read[-1][0]) if read else None
            chosen = [
                row
                for row in (rows.found(each, serde, self._seal) for each in read)
                if _matches(row.metadata, filter)
            ]
            for each in await self._tuples(chosen[:left], serde):
                yield each
            left = None if left is None else left - len(chosen)
            if len(read) < size:
                break

    async def _page(
        self,
        where: Sequence[str],
        parameters: Sequence[Any],
        last: tuple[str, int] | None,
        size: int,
    ) -> list[Any]:
        conditions = [*where, "(c.checkpoint_id, c.k) < (?, ?)"] if last else where
        sql = (
            f"SELECT {COLUMNS} FROM checkpoint_threads t JOIN checkpoints c ON c.k = t.k WHERE {' AND '.join(conditions or ['1'])} "
            "ORDER BY c.checkpoint_id DESC, c.k DESC LIMIT ?"
        )
        return await self._reader.rows(sql, (*parameters, *(last or ()), size))

    async def _tuples(
        self, page: Sequence[Found], serde: SerializerProtocol
    ) -> Sequence[CheckpointTuple]:
        """The tuples of a page. What their lists share is made once: copies of long lists would
        keep the garbage collector busy."""
        writes = await self._writes([(row.stored.key.k, row.checkpoint_id) for row in page])
        refs = [ref for row in page for ref in row.stored.refs.values()]
        blobs = (
            await self._blobs(
                [ref if isinstance(ref, tuple) else rows.extent_of_value(ref) for ref in refs]
            )
            if refs
            else {}
        )
        items = Items(blobs, serde, self._seal)
        tuples = []
        for row in page:
            try:
                values = {
                    channel: serde.loads_typed(typed) for channel, typed in row.stored.small.items()
                }
                for channel, ref in row.stored.refs.items():
                    if isinstance(ref, tuple):
                        values[channel] = items.of(ref, row.stored.key.owner(channel))
                    else:
                        values[channel] = rows.value_at(
                            blobs, ref, row.stored, channel, serde, self._seal
                        )
            except Gone:
                # Removed since the page was read.
                continue
            pending = rows.pending(
                writes.get((row.stored.key.k, row.checkpoint_id), ()), row, serde, self._seal
            )
            tuples.append(rows.as_tuple(row, values, pending))
        return tuples

    async def _writes(
        self, checkpoints: Sequence[tuple[int, str]], channels: Iterable[str] | None = None
    ) -> dict[tuple[int, str], list[Any]]:
        """Rows of `WRITE_COLUMNS` by checkpoint."""
        only = "AND w.channel IN (SELECT value FROM json_each(?))" if channels is not None else ""
        read = await self._reader.rows(
            f"SELECT w.k, w.checkpoint_id, {WRITE_COLUMNS} FROM json_each(?) s CROSS JOIN checkpoint_writes w "
            f"ON w.k = json_extract(s.value, '$[0]') AND w.checkpoint_id = json_extract(s.value, '$[1]') {only}",
            [
                orjson.dumps(each).decode()
                for each in (checkpoints, None if channels is None else list(channels))
                if each is not None
            ],
        )
        writes: dict[tuple[int, str], list[Any]] = {}
        for k, checkpoint_id, *row in read:
            writes.setdefault((k, checkpoint_id), []).append(row)
        return writes

    # ── delta channels ──

    async def delta_history(
        self, config: RunnableConfig, channels: Sequence[str], serde: SerializerProtocol
    ) -> Mapping[str, DeltaChannelHistory]:
        """For each channel: its value at the nearest ancestor that has one, and the writes from
        there on, oldest first."""
        history: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        thread_id, ns, checkpoint_id = address(config)
        read = await self._row(Address(thread_id, ns, checkpoint_id)) if channels else []
        at = read[0][5] if read else None
        looking, seen = set(channels), set[str]()
        while at is not None and looking:
            chain = await self._ancestors(thread_id, ns, at, serde)
            writes = await self._writes(
                [(row.stored.key.k, row.checkpoint_id) for row in chain], looking
            )
            for row in chain:
                if row.checkpoint_id in seen or not looking:
                    return _oldest_first(history)
                seen.add(row.checkpoint_id)
                pending = rows.pending(
                    writes.get((row.stored.key.k, row.checkpoint_id), ()), row, serde, self._seal
                )
                for write in reversed(pending):
                    if write[1] in looking:
                        history[write[1]]["writes"].append(write)
                for channel in [
                    channel
                    for channel in looking
                    if channel in row.stored.small or channel in row.stored.refs
                ]:
                    history[channel]["seed"] = await self._one_value(row.stored, channel, serde)
                    looking.discard(channel)
            at = chain[-1].parent_id if chain else None
        return _oldest_first(history)

    async def _ancestors(
        self, thread_id: str, ns: str, checkpoint_id: str, serde: SerializerProtocol
    ) -> Sequence[Found]:
        """The checkpoint and those before it, nearest first, as many as make a page."""
        sql = (
            "WITH RECURSIVE chain (k, checkpoint_id, parent_id, depth) AS ("
            "SELECT c.k, c.checkpoint_id, c.parent_id, 1 FROM checkpoint_threads t JOIN checkpoints c ON c.k = t.k "
            "WHERE t.thread_id = ? AND t.ns = ? AND c.checkpoint_id = ? UNION ALL "
            "SELECT c.k, c.checkpoint_id, c.parent_id, depth + 1 FROM chain CROSS JOIN checkpoints c "
            f"ON c.k = chain.k AND c.checkpoint_id = chain.parent_id WHERE depth < {PAGE}) "
            f"SELECT {COLUMNS} FROM chain CROSS JOIN checkpoint_threads t ON t.k = chain.k "
            "CROSS JOIN checkpoints c ON c.k = chain.k AND c.checkpoint_id = chain.checkpoint_id ORDER BY depth"
        )
        return [
            rows.found(row, serde, self._seal)
            for row in await self._reader.rows(sql, (thread_id, ns, checkpoint_id))
        ]

    async def _one_value(self, stored: Stored, channel: str, serde: SerializerProtocol) -> Any:
        if channel in stored.small:
            return serde.loads_typed(stored.small[channel])
        ref = stored.refs[channel]
        if isinstance(ref, tuple):
            return Items(await self._blobs([ref]), serde, self._seal).of(
                ref, stored.key.owner(channel)
            )
        return rows.value_at(
            await self._blobs([rows.extent_of_value(ref)]), ref, stored, channel, serde, self._seal
        )


def _oldest_first(history: dict[str, DeltaChannelHistory]) -> dict[str, DeltaChannelHistory]:
    for each in history.values():
        each["writes"].reverse()
    return history


# ── what a list is asked for ──


def _wanted(
    config: RunnableConfig | None, filter: Mapping[str, Any], before: RunnableConfig | None
) -> tuple[list[str], list[Any]]:
    """Conditions, and their parameters."""
    where: list[str] = []
    parameters: list[Any] = []
    if config is not None:
        thread_id, ns, checkpoint_id = address(config)
        where.append("t.thread_id = ?")
        parameters.append(thread_id)
        if config["configurable"].get("checkpoint_ns") is not None:
            where.append("t.ns = ?")
            parameters.append(ns)
        if checkpoint_id:
            where.append("c.checkpoint_id = ?")
            parameters.append(checkpoint_id)
    if before is not None and (limit := address_id(before)):
        where.append("c.checkpoint_id < ?")
        parameters.append(limit)
    for name, value in filter.items():
        if _is_scalar(name) and _is_scalar(value):
            where.append(
                "EXISTS (SELECT 1 FROM json_each(iif(json_valid(c.metadata), c.metadata, '{}')) WHERE key = ? AND value = ?)"
            )
            parameters += [name, value]
    return where, parameters


def address_id(config: RunnableConfig) -> str | None:
    """The checkpoint that a config names, if any."""
    checkpoint_id: str | None = config["configurable"].get("checkpoint_id")
    return checkpoint_id


def _is_scalar(value: Any) -> bool:
    """Whether SQLite can compare the value as Python does."""
    return isinstance(value, (str, bool)) or (isinstance(value, int) and abs(value) < 1 << 53)


def _in_python(filter: Mapping[str, Any]) -> bool:
    return not all(_is_scalar(value) for value in filter.values())


def _matches(metadata: Mapping[str, Any], filter: Mapping[str, Any]) -> bool:
    return all(metadata.get(name) == value for name, value in filter.items())


def _lease(config: RunnableConfig) -> Lease | None:
    """The lease of the run that the config is of, if it has one."""
    lease: Lease | None = config["configurable"].get(LEASE_KEY)
    return lease


# ── what is raised ──


def _moving(thread_id: str) -> Conflict:
    return Conflict(
        f"Checkpoints of the thread '{thread_id}' were removed again and again while it was written to. Try again."
    )


def _damaged(thread_id: str) -> ConfigurationError:
    return ConfigurationError(
        f"A checkpoint of the thread '{thread_id}' refers to values that the file lacks. Restore it from a backup."
    )
