"""States in a stream: for clients that want the whole state at each checkpoint, which no event
holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing

from msgspec import Raw, structs

from assent.api.dialects.base import STATE, StateEntry
from assent.core.events import Checkpoint, RunCancelled, RunPaused, RunResumed, decode
from assent.core.json import JsonObject, encode_json
from assent.runs.follow import Batches
from assent.storage.base import LogEntry

Load = Callable[[Checkpoint], Awaitable[JsonObject | None]]
"""Reads the state that an event tells of, as clients see it; None if it was removed."""

LoadBefore = Callable[[RunResumed], Awaitable[JsonObject | None]]
"""Reads the state that a run goes on from; None if it was removed."""

Wants = Callable[[LogEntry], bool]
"""True for a checkpoint whose state a reader wants, or for a run that goes on from one. It is asked
once for each entry, in their order."""


async def with_states(
    batches: Batches, wants: Wants, load: Load, load_before: LoadBefore | None = None
) -> Batches:
    """The batches, with the state at each checkpoint that is wanted: its entry has the type `STATE`
    and a body like `StateEntry`. So has that of a run which goes on with decisions, if `wants` says
    so and there is a `load_before`. Where the state was removed, the event stays as it is.

    The states of one batch are given one after the other, so a slow reader has one at a time.
    """
    async with aclosing(batches):
        async for entries in batches:
            for part, is_wanted in _parts(entries, wants):
                if is_wanted:
                    part = (*part[:-1], await _with_state(part[-1], load, load_before))
                yield part


async def with_state_at_rest(batches: Batches, load: Load) -> Batches:
    """The batches of a run, with the state that it leaves in front of its end or its pause: the
    last one of the graph itself. A run that has failed, or was undone, leaves none."""
    last: LogEntry | None = None
    async with aclosing(batches):
        async for entries in batches:
            for place, entry in enumerate(entries):
                if entry.type == "checkpoint" and _is_of_graph(entry):
                    last = entry
                elif last is not None and _leaves_state(entry):
                    state = await _with_state(last, load, None)
                    entries = (*entries[:place], state, *entries[place:])
                    break
            yield entries


def _is_of_graph(checkpoint: LogEntry) -> bool:
    event = decode(checkpoint.body)
    return isinstance(event, Checkpoint) and not event.ns


def _leaves_state(entry: LogEntry) -> bool:
    if entry.type not in ("done", "run_paused", "run_cancelled"):
        return False
    event = decode(entry.body)
    if isinstance(event, RunCancelled):
        return not event.rolled_back
    # Where standing grants have answered, it goes on.
    return not (isinstance(event, RunPaused) and event.next_run)


def _parts(
    entries: tuple[LogEntry, ...], wants: Wants
) -> Iterator[tuple[tuple[LogEntry, ...], bool]]:
    """The entries, cut behind each one that is wanted, and if they are. No entries are one part."""
    start = 0
    for end, entry in enumerate(entries, start=1):
        if wants(entry):
            yield entries[start:end], True
            start = end
    if start < len(entries) or not entries:
        yield entries[start:], False


async def _with_state(entry: LogEntry, load: Load, load_before: LoadBefore | None) -> LogEntry:
    event = decode(entry.body)
    if isinstance(event, Checkpoint):
        state = await load(event)
    else:
        assert isinstance(event, RunResumed)
        state = await load_before(event) if load_before else None
    if state is None:
        return entry
    body = StateEntry(event=Raw(entry.body), state=Raw(encode_json(state)))
    return structs.replace(entry, type=STATE, body=body.encoded())
