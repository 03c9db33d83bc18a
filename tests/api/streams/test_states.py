"""States in a stream, behind the checkpoints whose readers want them."""

from __future__ import annotations

from assent.api.dialects.base import STATE, read_state_entry
from assent.api.streams.states import with_states
from assent.core.events import Checkpoint, Event, NodeStart, encode, event_type
from assent.core.json import JsonObject
from assent.runs.follow import Batches
from assent.storage.base import LogEntry

REMOVED = "c-removed"


def entry(seq: int, event: Event) -> LogEntry:
    return LogEntry(seq, event_type(event), "r", encode(event))


FIRST = entry(1, Checkpoint(checkpoint_id="c1"))
NODE = entry(2, NodeStart(node="agent"))
INSIDE = entry(3, Checkpoint(checkpoint_id="c2", ns=("outer:1",)))
GONE = entry(4, Checkpoint(checkpoint_id=REMOVED))
LAST = entry(5, NodeStart(node="tools"))


async def batches(*given: tuple[LogEntry, ...]) -> Batches:
    for each in given:
        yield each


def is_wanted(entry: LogEntry) -> bool:
    return entry.type == "checkpoint"


async def load(event: Checkpoint) -> JsonObject | None:
    if event.checkpoint_id == REMOVED:
        return None
    return {"values": {"at": event.checkpoint_id, "ns": list(event.ns)}}


async def test_each_state_comes_with_its_checkpoint_and_one_at_a_time() -> None:
    given = batches((FIRST, NODE, INSIDE, GONE, LAST), (), (NODE,))
    parts = [part async for part in with_states(given, is_wanted, load)]
    assert [[(each.seq, each.type) for each in part] for part in parts] == [
        [(1, STATE)],
        [(2, "node_start"), (3, STATE)],
        [(4, "checkpoint")],
        [(5, "node_start")],
        [],
        [(2, "node_start")],
    ]
    read = read_state_entry(parts[1][1].body)
    assert bytes(read.event) == INSIDE.body
    assert bytes(read.state) == b'{"values":{"at":"c2","ns":["outer:1"]}}'


async def test_what_is_not_wanted_stays_as_it_is() -> None:
    given = batches((FIRST, NODE))
    parts = [part async for part in with_states(given, lambda entry: False, load)]
    assert parts == [(FIRST, NODE)]
