"""The context that each value of a checkpoint is sealed with: the place where a reader finds it,
and the rest of its row.

A checkpoint is bound to its references, so that no channel can be made to mean another value.
A value that several checkpoints share is bound to its channel and that channel's version, and the
items of a list to their place in their log.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from assent.core.sealing import Part

Binding = tuple[str, str, Part, *tuple[Part, ...]]
"""A context, as `Seal` takes it."""


class Owner(NamedTuple):
    """The channel that a value belongs to."""

    thread_id: str
    ns: str
    channel: str


def checkpoint(
    thread_id: str, ns: str, checkpoint_id: str, parent_id: str | None, encoding: str, refs: str
) -> Binding:
    """The binding of a checkpoint. `refs` is the text that says where its larger values are."""
    return thread_id, "checkpoint", checkpoint_id, ns, parent_id, encoding, refs


def metadata(thread_id: str, ns: str, checkpoint_id: str) -> Binding:
    """The binding of a checkpoint's metadata."""
    return thread_id, "metadata of the checkpoint", checkpoint_id, ns


def value(owner: Owner, version: Any, place: int, encoding: str) -> Binding:
    """The binding of a channel's value."""
    return owner.thread_id, "channel", owner.channel, owner.ns, str(version), place, encoding


def items(owner: Owner, place: int, encoding: str) -> Binding:
    """The binding of some items of a channel's list."""
    return owner.thread_id, "list in the channel", owner.channel, owner.ns, place, encoding


def write(
    owner: Owner, checkpoint_id: str, task_id: str, idx: int, task_path: str, encoding: str
) -> Binding:
    """The binding of a task's write to a channel."""
    task = (task_id, idx, task_path)
    kind = "pending write to the channel"
    return owner.thread_id, kind, owner.channel, owner.ns, checkpoint_id, *task, encoding
