"""What each value of a checkpoint is bound to when it is sealed: the place where a reader finds it,
and what the row says beside it.

A checkpoint's own value is bound to what it refers to, so that no channel of it can be made to mean
another value. A value that other checkpoints share is bound to its channel and that channel's
version, and the items of a list to their place in their log.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from assent.core.sealing import Part

Binding = tuple[str, str, Part, *tuple[Part, ...]]
"""A context, as `Seal` takes it."""


class Owner(NamedTuple):
    """Whose a value is."""

    thread_id: str
    ns: str
    channel: str


def checkpoint(
    thread_id: str, ns: str, checkpoint_id: str, parent_id: str | None, encoding: str, refs: str
) -> Binding:
    """Of a checkpoint without the values that are elsewhere; `refs` says where those are."""
    return thread_id, "checkpoint", checkpoint_id, ns, parent_id, encoding, refs


def metadata(thread_id: str, ns: str, checkpoint_id: str) -> Binding:
    """Of a checkpoint's metadata."""
    return thread_id, "metadata of the checkpoint", checkpoint_id, ns


def value(owner: Owner, version: Any, place: int, encoding: str) -> Binding:
    """Of a channel's value."""
    return owner.thread_id, "channel", owner.channel, owner.ns, str(version), place, encoding


def items(owner: Owner, place: int, encoding: str) -> Binding:
    """Of some items of a channel's list."""
    return owner.thread_id, "list in the channel", owner.channel, owner.ns, place, encoding


def write(
    owner: Owner, checkpoint_id: str, task_id: str, idx: int, task_path: str, encoding: str
) -> Binding:
    """Of what a task wrote to a channel."""
    return (
        owner.thread_id,
        "pending write to the channel",
        owner.channel,
        owner.ns,
        checkpoint_id,
        task_id,
        idx,
        task_path,
        encoding,
    )
