"""The channels of LangGraph's thread protocol, and what a client takes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

PLACES_OF_ENTRY: Final = 2**16
"""The places that the events of one entry of a log share: a step may ask thousands of questions, or
take over a long conversation. So the numbers of 10^11 entries are whole ones in JavaScript too."""

Ns = tuple[str, ...]
"""The path of a graph within others: () is the thread's own."""

_STARTS: Final = frozenset({"run_start", "run_resumed"})
_ENDS: Final = frozenset({"run_paused", "run_cancelled", "done", "error"})
_NODES: Final = frozenset({"node_start", "node_end", "node_error"})
_APPROVALS: Final = frozenset({
    *("approval_required", "interrupt", "approval_voted", "approval_withdrawn", "approval_edited"),
    *("approval_decided", "approval_expired", "approval_cancelled", "approval_superseded"),
})  # fmt: skip
_MODELS: Final = frozenset({
    *("llm_start", "token", "reasoning", "media", "tool_call_delta", "llm_end", "llm_error"),
    "llm_retry",
})  # fmt: skip
_TOOLS: Final = frozenset({"tool_start", "tool_progress", "tool_end", "tool_error"})


class Channel(NamedTuple):
    """A channel: the first of its places among what an entry of a log tells, and the types of the
    entries that it is made of."""

    first: int
    types: frozenset[str]


CHANNELS: Final[Mapping[str, Channel]] = {
    "tasks": Channel(0, _NODES | {"state_update", "checkpoint"}),
    "checkpoints": Channel(8, frozenset({"checkpoint"})),
    "values": Channel(16, frozenset({"checkpoint"})),
    "updates": Channel(24, frozenset({"node_start", "node_end", "state_update"})),
    "custom": Channel(32, frozenset({"custom", "progress"})),
    "tools": Channel(40, _TOOLS),
    "messages": Channel(64, _MODELS | {"run_recovered", "state_update"}),
    "input": Channel(49_152, _STARTS | _ENDS | _APPROVALS),
    # Behind all else that an entry tells: with the end of a run, clients stop reading.
    "lifecycle": Channel(57_344, _STARTS | _ENDS | _NODES | {"approval_voted"}),
}
"""The channels by their names, in the order in which an entry tells of them."""

PLACES: Final[Mapping[str, range]] = {
    name: range(channel.first, end.first)
    for (name, channel), end in zip(
        CHANNELS.items(),
        [*[*CHANNELS.values()][1:], Channel(PLACES_OF_ENTRY, frozenset())],
        strict=True,
    )
}
"""The places of each channel among what an entry tells."""

STATEFUL: Final = frozenset({"values", "tasks"})
"""The channels that show states."""

NAMED: Final = "custom:"
"""The beginning of the name of a channel that has only what was sent under one name."""

CHANNEL: Final = rf"^({'|'.join(CHANNELS)}|{NAMED}.+)$"
"""What a channel's name matches."""


@dataclass(eq=False, slots=True, kw_only=True)
class Subscription:
    """What a client takes: events in these channels, of graphs whose paths begin with one of the
    `namespaces`, at most so many levels below it. It has those up to the number `after`, and is
    shown no states of entries up to `states_after`."""

    id: str
    channels: frozenset[str]
    namespaces: Sequence[Sequence[str]] | None = None
    depth: int | None = None
    after: int = 0
    states_after: int = 0

    def takes(self, channel: str, ns: Ns, name: str | None = None) -> bool:
        """True for what is told in the channel, under this name, of the graph at the path."""
        if channel not in self.channels and (not name or NAMED + name not in self.channels):
            return False
        return not self.namespaces or any(self._reaches(each, ns) for each in self.namespaces)

    def wants_state(self, seq: int) -> bool:
        """True if the state at the entry with this number is shown."""
        return seq > self.states_after and not STATEFUL.isdisjoint(self.channels)

    def _reaches(self, prefix: Sequence[str], ns: Ns) -> bool:
        if len(prefix) > len(ns) or not all(map(_is_segment, prefix, ns)):
            return False
        return self.depth is None or len(ns) - len(prefix) <= self.depth


def _is_segment(asked: str, segment: str) -> bool:
    """True for the segment of a path that is asked for: as it is, or without the id of a task."""
    return asked in (segment, segment.partition(":")[0])


def types_of(subscriptions: Sequence[Subscription]) -> frozenset[str]:
    """The types of the entries that these subscriptions are told of."""
    names = {name.partition(":")[0] for each in subscriptions for name in each.channels}
    return frozenset().union(*(CHANNELS[name].types for name in names))
