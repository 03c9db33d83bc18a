"""Makes LangGraph's tuples of rows and blobs: functions of what was read."""

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

from assent.checkpoint import bindings
from assent.checkpoint.bindings import Owner
from assent.checkpoint.codec import Codec
from assent.checkpoint.extents import PLACES, Extents, from_json, position
from assent.checkpoint.heads import Stored
from assent.checkpoint.values import Encoded, Key
from assent.core.errors import InvalidRequest

Blobs = Mapping[int, Encoded]
"""Blobs by position."""

# Values that json would refuse, orjson is to refuse too.
_AS_JSON = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


class Gone(Exception):
    """A blob that a row refers to was removed since the row was read."""


class Address(NamedTuple):
    """The checkpoint that a config means; the latest if it names none."""

    thread_id: str
    ns: str
    checkpoint_id: str | None


class Found(NamedTuple):
    """A checkpoint's row, decoded, without the values that are in blobs."""

    number: int
    stored: Stored
    checkpoint_id: str
    parent_id: str | None
    checkpoint: Checkpoint
    metadata: CheckpointMetadata

    @property
    def place(self) -> tuple[int, str]:
        """The key of the row."""
        return self.stored.key.k, self.checkpoint_id


def address(config: RunnableConfig) -> Address:
    """The checkpoint that the config means.

    Raises `InvalidRequest` if a name in it holds a NUL, where SQLite would cut it.
    """
    configurable = config["configurable"]
    at = Address(
        str(configurable["thread_id"]),
        str(configurable.get("checkpoint_ns", "")),
        get_checkpoint_id(config) or None,
    )
    for name in at:
        if name and "\0" in name:
            raise InvalidRequest(
                f"The name {name!r} holds a NUL character. "
                "Use another for the thread, namespace or checkpoint."
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

    Raises `TypeError` if it is not JSON.
    """
    try:
        return orjson.dumps(metadata, option=_AS_JSON).decode()
    except TypeError:
        # A key that is not text, a number beyond 64 bits, half a surrogate pair; or not JSON.
        return json.dumps(metadata, ensure_ascii=False).encode("utf-8", "ignore").decode()


def found(row: Sequence[Any], codec: Codec) -> Found:
    """Decode a row of `reads.COLUMNS`."""
    number, k, generation, thread_id, ns, checkpoint_id, parent_id, *encoded = row
    encoding, body, refs, metadata = encoded
    binding = bindings.checkpoint(thread_id, ns, checkpoint_id, parent_id, encoding, refs)
    checkpoint, small = codec.decoded(encoding, body, binding)
    stored = Stored(
        key=Key(k=k, thread_id=thread_id, ns=ns, generation=generation, stored=True),
        versions=dict(checkpoint["channel_versions"]),
        refs={channel: from_json(ref) for channel, ref in orjson.loads(refs).items()},
        small={channel: (typed[0], typed[1]) for channel, typed in small.items()},
    )
    opened = codec.seal.open(metadata, *bindings.metadata(thread_id, ns, checkpoint_id))
    return Found(number, stored, checkpoint_id, parent_id, checkpoint, json.loads(opened))


def pending_writes(
    rows: Iterable[Sequence[Any]], checkpoint: Found, codec: Codec
) -> list[PendingWrite]:
    """Decode the checkpoint's rows of `reads.WRITE_COLUMNS`, in the order to apply them in."""
    key = checkpoint.stored.key
    writes: list[PendingWrite] = []
    for task_id, channel, encoding, body, task_path, idx in sorted(rows, key=_write_order):
        binding = bindings.write(
            key.owner(channel), checkpoint.checkpoint_id, task_id, idx, task_path, encoding
        )
        writes.append((task_id, channel, codec.decoded(encoding, body, binding)))
    return writes


def _write_order(row: Sequence[Any]) -> Any:
    task_id, _, _, _, task_path, idx = row
    return writes_sort_key(task_path, task_id, idx)


def as_tuple(row: Found, values: dict[str, Any], writes: list[PendingWrite]) -> CheckpointTuple:
    """The checkpoint with its values and writes."""
    key = row.stored.key
    parent = config_of(key.thread_id, key.ns, row.parent_id) if row.parent_id else None
    return CheckpointTuple(
        config=config_of(key.thread_id, key.ns, row.checkpoint_id),
        checkpoint={**row.checkpoint, "channel_values": values},
        metadata=row.metadata,
        parent_config=parent,
        pending_writes=writes,
    )


class Values:
    """Decodes the values of channels. Each blob of a list is decoded once, however many lists
    share it."""

    def __init__(self, blobs: Blobs, codec: Codec) -> None:
        self.size = sum(len(body) for _, body in blobs.values())
        self._blobs = blobs
        self._codec = codec
        self._places = sorted(blobs)
        self._decoded: dict[int, list[Any]] = {}

    def of(self, stored: Stored, channel: str) -> Any:
        """The value of the checkpoint's channel. Raises `Gone`."""
        if channel in stored.small:
            return self._codec.serde.loads_typed(stored.small[channel])
        ref, owner = stored.refs[channel], stored.key.owner(channel)
        if isinstance(ref, tuple):
            return self.items(ref, owner)
        if ref not in self._blobs:
            raise Gone
        encoding, body = self._blobs[ref]
        binding = bindings.value(owner, stored.versions.get(channel), ref, encoding)
        return self._codec.decoded(encoding, body, binding)

    def items(self, extents: Extents, owner: Owner) -> list[Any]:
        """The items of a list of the channel. Raises `Gone`."""
        items: list[Any] = []
        for log, start, stop in extents:
            items += self._stretch(position(log, start), position(log, stop), owner)
        return items

    def end_of(self, log: int, owner: Owner) -> int | None:
        """The place behind the last item of the log, if its last blob is here."""
        at = bisect_left(self._places, position(log + 1, 0)) - 1
        if at < 0 or self._places[at] < position(log, 0):
            return None
        last = self._places[at]
        return last % PLACES + len(self._blob_items(last, owner))

    def _stretch(self, begin: int, end: int, owner: Owner) -> list[Any]:
        """The items from one position before another, in one log. Raises `Gone`."""
        items: list[Any] = []
        first = max(bisect_right(self._places, begin) - 1, 0)
        for place in self._places[first : bisect_left(self._places, end)]:
            # If the blob at `begin` was removed, the one before may be of another log and owner.
            if place // PLACES < begin // PLACES:
                continue
            items += self._blob_items(place, owner)[max(begin - place, 0) : end - place]
        if len(items) < end - begin:
            raise Gone
        return items

    def _blob_items(self, place: int, owner: Owner) -> list[Any]:
        if place not in self._decoded:
            encoding, body = self._blobs[place]
            binding = bindings.items(owner, place, encoding)
            self._decoded[place] = self._codec.decoded(encoding, body, binding)
        return self._decoded[place]
