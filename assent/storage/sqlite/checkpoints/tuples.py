"""Rows of checkpoints as LangGraph's tuples: functions of what was read."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from assent.checkpoint import bindings
from assent.checkpoint.bindings import Owner
from assent.checkpoint.extents import PLACES, Extent, Extents, from_json, position
from assent.checkpoint.heads import Stored
from assent.checkpoint.values import Key
from assent.core.errors import InvalidRequest
from assent.core.sealing import Seal

COLUMNS = "t.k, t.generation, t.thread_id, t.ns, c.checkpoint_id, c.parent_id, c.type, c.body, c.refs, c.metadata"
WIDTH = 10
"""How many columns those are."""

WRITE_COLUMNS = "w.task_id, w.channel, w.type, w.body, w.task_path, w.idx"

_PLAIN = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)

Blobs = Mapping[int, tuple[str, bytes]]
"""By position: the encoding and the bytes."""


class Gone(Exception):
    """What a row refers to was removed since the row was read."""


class Address(NamedTuple):
    """Which checkpoint a config means; the latest if it names none."""

    thread_id: str
    ns: str
    checkpoint_id: str | None


class Found(NamedTuple):
    """A checkpoint's row, decoded, without the values that are elsewhere."""

    stored: Stored
    checkpoint_id: str
    parent_id: str | None
    checkpoint: Checkpoint
    metadata: CheckpointMetadata


def address(config: RunnableConfig) -> Address:
    """Which checkpoint the config means. Raises `InvalidRequest` if a name in it holds a NUL, which
    SQLite would cut it at."""
    configurable = config["configurable"]
    at = Address(
        str(configurable["thread_id"]),
        str(configurable.get("checkpoint_ns", "")),
        get_checkpoint_id(config) or None,
    )
    for name in at:
        if name and "\0" in name:
            raise InvalidRequest(
                f"The name {name!r} holds a NUL character. Use another for the thread, namespace or checkpoint."
            )
    return at


def config_of(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    """The config that means this checkpoint."""
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": ns,
            "checkpoint_id": checkpoint_id,
        }
    }


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Metadata as JSON. Half a surrogate pair, which no file can hold, is left out.

    Raises `TypeError` if it is no JSON.
    """
    try:
        return orjson.dumps(metadata, option=_PLAIN).decode()
    except TypeError:
        # A key that is no text, a number beyond 64 bits, half a surrogate pair; or no JSON at all.
        return json.dumps(metadata, ensure_ascii=False).encode("utf-8", "ignore").decode()


def found(row: Sequence[Any], serde: SerializerProtocol, seal: Seal) -> Found:
    """The checkpoint of a row of `COLUMNS`."""
    k, generation, thread_id, ns, checkpoint_id, parent_id, kind, body, refs, metadata = row[:WIDTH]
    opened = seal.open(
        body, *bindings.checkpoint(thread_id, ns, checkpoint_id, parent_id, kind, refs)
    )
    checkpoint, small = serde.loads_typed((kind, opened))
    stored = Stored(
        key=Key(k=k, thread_id=thread_id, ns=ns, generation=generation, stored=True),
        versions=dict(checkpoint["channel_versions"]),
        refs={
            channel: from_json(ref) if isinstance(ref, list) else ref
            for channel, ref in orjson.loads(refs).items()
        },
        small={channel: (typed[0], typed[1]) for channel, typed in small.items()},
    )
    metadata = json.loads(seal.open(metadata, *bindings.metadata(thread_id, ns, checkpoint_id)))
    return Found(stored, checkpoint_id, parent_id, checkpoint, metadata)


def pending(
    rows: Iterable[Sequence[Any]], of: Found, serde: SerializerProtocol, seal: Seal
) -> list[PendingWrite]:
    """The checkpoint's writes, of rows of `WRITE_COLUMNS`, in the order in which they are
    applied."""
    key, checkpoint_id = of.stored.key, of.checkpoint_id
    writes = sorted(
        (row for row in rows if row[0] is not None),
        key=lambda row: writes_sort_key(row[4], row[0], row[5]),
    )
    opened: list[PendingWrite] = []
    for task_id, channel, kind, body, task_path, idx in writes:
        binding = bindings.write(key.owner(channel), checkpoint_id, task_id, idx, task_path, kind)
        opened.append((task_id, channel, serde.loads_typed((kind, seal.open(body, *binding)))))
    return opened


def as_tuple(row: Found, values: dict[str, Any], writes: list[PendingWrite]) -> CheckpointTuple:
    """The checkpoint with its values and writes."""
    key = row.stored.key
    checkpoint: Checkpoint = {**row.checkpoint, "channel_values": values}
    return CheckpointTuple(
        config=config_of(key.thread_id, key.ns, row.checkpoint_id),
        checkpoint=checkpoint,
        metadata=row.metadata,
        parent_config=config_of(key.thread_id, key.ns, row.parent_id) if row.parent_id else None,
        pending_writes=writes,
    )


def value_at(
    blobs: Blobs, place: int, stored: Stored, channel: str, serde: SerializerProtocol, seal: Seal
) -> Any:
    """The value of the checkpoint's channel, at its position."""
    if place not in blobs:
        raise Gone
    kind, body = blobs[place]
    binding = bindings.value(stored.key.owner(channel), stored.versions.get(channel), place, kind)
    return serde.loads_typed((kind, seal.open(body, *binding)))


def extent_of_value(place: int) -> Extents:
    """The extent of a value at a position."""
    log, at = divmod(place, PLACES)
    return (Extent(log, at, at + 1),)


class Items:
    """The items of lists, each decoded once, however many lists share it."""

    def __init__(self, blobs: Blobs, serde: SerializerProtocol, seal: Seal) -> None:
        self._blobs = blobs
        self._serde = serde
        self._seal = seal
        self.size = sum(len(body) for _, body in blobs.values())
        self._places = sorted(blobs)
        self._items: dict[int, Any] = {}
        self._decoded: dict[int, list[Any]] = {}

    def of(self, extents: Extents, owner: Owner) -> list[Any]:
        """The list of that channel."""
        items: list[Any] = []
        for log, start, stop in extents:
            begin, end = position(log, start), position(log, stop)
            self._decode(begin, end, owner)
            try:
                items += map(self._items.__getitem__, range(begin, end))
            except KeyError:
                raise Gone from None
        return items

    def end_of(self, log: int, owner: Owner) -> int | None:
        """The place behind the last item of the log, if its last blob is here."""
        at = bisect_left(self._places, position(log + 1, 0)) - 1
        if at < 0 or self._places[at] < position(log, 0):
            return None
        return self._places[at] % PLACES + len(self._decoded_at(self._places[at], owner))

    def _decode(self, begin: int, end: int, owner: Owner) -> None:
        at = max(bisect_right(self._places, begin) - 1, 0)
        for place in self._places[at : bisect_left(self._places, end)]:
            # What stands before a blob that was removed is in another log, and another's.
            if place // PLACES == begin // PLACES:
                self._decoded_at(place, owner)

    def _decoded_at(self, place: int, owner: Owner) -> list[Any]:
        if place not in self._decoded:
            kind, body = self._blobs[place]
            opened = self._seal.open(body, *bindings.items(owner, place, kind))
            self._decoded[place] = self._serde.loads_typed((kind, opened))
            self._items.update(enumerate(self._decoded[place], place))
        return self._decoded[place]
