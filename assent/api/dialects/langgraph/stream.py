"""LangGraph's streams: the frames of a run, in the stream modes of LangGraph's server.

    event: metadata    {"run_id": "…", "attempt": 1}
    event: values      the whole state
    event: updates     {"agent": {"messages": [...]}}
    event: messages    [{"content": "Hel", "type": "AIMessageChunk", …}, {"langgraph_node": …}]
    event: end         null

With `subgraphs` those of subgraphs follow their names: `values|outer:6f2c…`. The frames of a mode
are those that LangGraph's `astream` gives, with the differences that come of a log: neighbouring
tokens may be one piece; each state comes when its checkpoint was stored, and once; an update of a
subgraph's node has what the subgraph has changed; an error has the exception's class and not its
text; attempts of a node are one task; and the messages of a failed attempt are removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import singledispatchmethod
from typing import Final, Literal

import msgspec
from msgspec import Raw

from assent.api.dialects.base import STATE, Fold, Foreign, Frame, read_state_entry
from assent.api.dialects.langgraph.events_mode import RunEvents
from assent.api.dialects.messages import (
    Writing,
    encode_text,
    messages_in,
    piece_ends,
    removed,
)
from assent.api.dialects.positions import positions_of
from assent.api.dialects.questions import pause_interrupt
from assent.core.clock import time_text
from assent.core.events import (
    ApprovalRequired,
    Checkpoint,
    Custom,
    Done,
    Error,
    Event,
    Interrupt,
    LlmEnd,
    LlmError,
    LlmRetry,
    LlmStart,
    NodeEnd,
    NodeError,
    NodeEvent,
    NodeStart,
    Progress,
    Reasoning,
    RunCancelled,
    RunPaused,
    RunRecovered,
    RunResumed,
    RunStart,
    StateUpdate,
    Token,
    ToolCallDelta,
    as_written,
    decode,
    ns_of,
)
from assent.core.json import Json, JsonObject, encode_json
from assent.core.text import because
from assent.storage.base import LogEntry

Mode = Literal[
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "custom",
    "tasks",
    "checkpoints",
    "debug",
    "events",
]
"""The stream modes of LangGraph's server."""

OF_RUNS: Final = frozenset({
    *("run_start", "run_resumed", "run_recovered", "run_paused", "run_cancelled", "done", "error"),
    *("interrupt", "approval_required"),
})  # fmt: skip
"""The types of the events that are looked at in every mode."""

_MESSAGES: Final = frozenset({
    *("llm_start", "token", "reasoning", "tool_call_delta", "llm_end", "llm_error", "llm_retry"),
    *("node_start", "node_end", "state_update", "checkpoint"),
})  # fmt: skip
_TASKS: Final = frozenset({"node_start", "node_end", "node_error", "state_update", "checkpoint"})

OF_MODES: Final[dict[str, frozenset[str]]] = {
    "values": frozenset({"checkpoint"}),
    "updates": frozenset({"node_start", "node_end", "state_update"}),
    "messages": _MESSAGES,
    "messages-tuple": _MESSAGES,
    "custom": frozenset({"custom", "progress"}),
    "tasks": _TASKS,
    "checkpoints": frozenset({"checkpoint"}),
    "debug": _TASKS,
    "events": frozenset({
        *("llm_start", "token", "reasoning", "tool_call_delta", "llm_end", "checkpoint"),
        *("node_start", "node_end", "state_update", "tool_start", "tool_end", "tool_error"),
        *("retriever_start", "retriever_end", "custom"),
    }),
}  # fmt: skip
"""The types of the events that each mode is made of."""

STATEFUL: Final = frozenset({"values", "tasks", "checkpoints", "debug", "events"})
"""The modes that show states."""

OF_TASKS: Final = frozenset({"tasks", "debug", "events"})
"""The modes that show what each task was given."""

OF_MESSAGES: Final = frozenset({"messages", "messages-tuple"})
"""The modes that show messages, each once: those that a run finds in the state are not told."""

_PLACES: Final = frozenset({"checkpoint", "run_resumed"})

INTERRUPT = "__interrupt__"

SENDS = "sends"
"""The field of a state for what the tasks that a `Send` began were given."""

INNER = "inner"
"""The field of the state that a run goes on from for those of the subgraphs that have paused, the
outer ones first."""

PUSH = "__pregel_push"
"""The beginning of the path of a task that a `Send` began. Its number follows."""

END_ID: Final = "end"
"""The id of the last frame, which is of no event."""

decode_json = msgspec.json.decode

Path = tuple[str, ...]
"""Where a subgraph is; () for the graph itself."""

Told = tuple[str, bytes]
"""The name of a frame, and its data."""


class Stream(Foreign):
    """The frames of a run in these modes; with `subgraphs` those of its subgraphs too."""

    name = "langgraph"

    def __init__(self, modes: Iterable[str], *, subgraphs: bool = False) -> None:
        self.modes = frozenset(modes)
        self.subgraphs = subgraphs
        self.types = types_of(self.modes)

    def fold(self) -> Fold:
        """A fold that has seen nothing yet."""
        return _Run(self.modes, subgraphs=self.subgraphs).frames

    @property
    def has_tasks(self) -> bool:
        """True if it shows what each task was given."""
        return not OF_TASKS.isdisjoint(self.modes)

    def wants(self) -> Callable[[LogEntry], bool]:
        """Tells of each entry, in their order, if it is a checkpoint whose state is looked at, or a
        run that goes on from such a state.

        For messages that is what a run finds: the first state behind its input.
        """
        if not STATEFUL.isdisjoint(self.modes):
            return lambda entry: entry.type in _PLACES
        is_behind_input = False

        def finds(entry: LogEntry) -> bool:
            nonlocal is_behind_input
            if entry.type != "checkpoint":
                return entry.type == "run_resumed"
            event = decode(entry.body)
            assert isinstance(event, Checkpoint)
            was_behind_input = is_behind_input
            is_behind_input = event.source == "input" and not event.ns
            return was_behind_input

        return finds if not OF_MESSAGES.isdisjoint(self.modes) else lambda entry: False

    def end(self, reason: str) -> Frame | None:
        """The frame by which clients know that no more will come; none where the server stops, so
        that they ask for the rest. By its id a browser that comes back says that it has it."""
        return Frame(END_ID, "end", b"null") if reason == "done" else None


def types_of(modes: frozenset[str]) -> frozenset[str]:
    """The types of the events that these modes are made of."""
    return OF_RUNS.union(*(OF_MODES[mode] for mode in modes))


class _Task:
    """A node that has begun, and the updates that it has written since."""

    __slots__ = ("start", "updates")

    def __init__(self, start: NodeStart) -> None:
        self.start = start
        self.updates: list[Json] = []

    @property
    def writes(self) -> list[tuple[str, Json]]:
        """The channels that it has written to, each time with what."""
        return [pair for update in self.updates for pair in update.items()]

    def told(self) -> Json:
        """The updates as LangGraph tells them: as one, or one for each channel if it has written
        to one of them several times."""
        pairs = self.writes
        if not pairs:
            return None
        if max(Counter(channel for channel, _ in pairs).values()) == 1:
            return as_written(dict(pairs))
        return [as_written({channel: value}) for channel, value in pairs]

    def result(self) -> JsonObject:
        """The updates by channel."""
        by_channel: dict[str, list[Json]] = {}
        for channel, value in self.writes:
            by_channel.setdefault(channel, []).append(value)
        return {
            channel: values[0] if len(values) == 1 else {"$writes": values}
            for channel, values in by_channel.items()
        }


class _Run:
    """Folds the events of a run, and of those that go on at once where it paused."""

    def __init__(self, modes: frozenset[str], *, subgraphs: bool) -> None:
        self._modes = modes
        self._types = types_of(modes - {"events"})
        self._subgraphs = subgraphs
        self._asked: list[ApprovalRequired] = []
        self._interrupts: list[Interrupt] = []
        # By the path of the graph: its last state, and what its tasks were sent, as JSON.
        self._values: dict[Path, bytes] = {}
        # True until the run's input is in its state; and the last state without it.
        self._awaits_input = False
        self._without_input: dict[str, Raw] | None = None
        self._sends: dict[Path, list[Raw]] = {}
        # Those of the subgraphs in which the run goes on, until these are told of.
        self._found: dict[Path, dict[str, Raw]] = {}
        self._tasks: dict[str, _Task] = {}
        # The tasks that have failed, and may be tried again.
        self._failed: dict[str, tuple[NodeError, _Task]] = {}
        # By the id of a message: the call that is to write it; what its pieces are about, as JSON;
        # all of a piece but its text; the message.
        self._called: dict[str, LlmStart] = {}
        self._about: dict[str, bytes] = {}
        self._ends: dict[str, tuple[bytes, bytes]] = {}
        self._writing: dict[str, Writing] = {}
        self._events: RunEvents | None = None
        if "events" in modes:
            self._events = RunEvents(self._input, lambda: self._values.get(()))
        self._knows = False
        # The messages that were told, or were there before, and the graphs that wrote them.
        self._seen: dict[str, Path] = {}

    def frames(self, entry: LogEntry) -> Sequence[Frame]:
        """The frames of the next entry."""
        if entry.type == STATE:
            told = [*self._at_state(entry)]
        elif entry.type == "checkpoint":
            # Its state was removed, or nobody wants it.
            return ()
        else:
            told = [*self._told_of(decode(entry.body), entry.type)]
        positions = positions_of(entry.seq, len(told))
        return [
            Frame(str(position), name, data)
            for position, (name, data) in zip(positions, told, strict=False)
        ]

    def _told_of(self, event: Event, kind: str) -> Iterator[Told]:
        """What is told of the event, of this type, in all modes."""
        is_inside = isinstance(event, NodeEvent) and event.ns
        # LangGraph tells of what a model says as an event first, and then as a piece of a message:
        # clients that take both take the words of whichever comes first.
        comes_first = isinstance(event, Token | Reasoning | ToolCallDelta | LlmEnd)
        if comes_first:
            yield from self._happened(event)
        if kind in self._types and (self._subgraphs or not is_inside):
            yield from self._told(event)
        if not comes_first:
            yield from self._happened(event)

    def _happened(self, event: Event) -> Iterator[Told]:
        """What is told of the event in the mode `events`: also of those of subgraphs."""
        if self._events is not None:
            for each in self._events.told(event):
                yield "events", encode_json(each)

    @singledispatchmethod
    def _told(self, event: Event) -> Iterator[Told]:
        """What is told of the event in the modes other than `events`."""
        return iter(())

    def _name(self, mode: str, ns: Path) -> str:
        return "|".join((mode, *ns))

    # ── the run ──

    @_told.register
    def _started(self, event: RunStart | RunResumed) -> Iterator[Told]:
        self._knows = False
        self._without_input = None
        has_input = isinstance(event, RunStart) and (event.message or event.input is not None)
        self._awaits_input = bool(has_input)
        yield "metadata", encode_json({"run_id": event.run_id, "attempt": 1})

    @_told.register
    def _recovered(self, event: RunRecovered) -> Iterator[Told]:
        yield "metadata", encode_json({"run_id": event.run_id, "attempt": event.attempt})
        yield from self._voided(event.message_ids, {"run_id": event.run_id})

    @_told.register
    def _asks(self, event: ApprovalRequired) -> Iterator[Told]:
        self._asked.append(event)
        return iter(())

    @_told.register
    def _interrupted(self, event: Interrupt) -> Iterator[Told]:
        self._interrupts.append(event)
        return iter(())

    @_told.register
    def _paused(self, event: RunPaused) -> Iterator[Told]:
        yield from self._at_end()
        interrupts, self._interrupts = self._interrupts, []
        asked = [each for each in self._asked if each.approval_id in event.approvals]
        self._asked = []
        more = pause_interrupt(event.run_id, asked)
        if event.next_run or not (interrupts or more):
            # Standing grants have answered: nobody is asked.
            return
        inside: dict[Path, list[Interrupt]] = {(): []}
        for each in interrupts:
            for depth in range(len(each.ns) + 1 if self._subgraphs else 1):
                inside.setdefault(each.ns[:depth], []).append(each)
        # A subgraph tells of it before the graph around it does.
        for ns in sorted(inside, key=len, reverse=True):
            told = [*map(_interrupt, inside[ns]), *([more] if more and not ns else [])]
            yield from self._asking(ns, told)
            yield from self._pausing_tasks(event.ts, ns, inside[ns])

    def _asking(self, ns: Path, interrupts: Sequence[JsonObject]) -> Iterator[Told]:
        """A graph waits for answers."""
        if "updates" in self._modes:
            yield self._name("updates", ns), encode_json({INTERRUPT: interrupts})
        if "values" in self._modes:
            values = _with_interrupts(self._values.get(ns, b"{}"), interrupts)
            yield self._name("values", ns), values
        elif "updates" not in self._modes:
            # LangGraph's server tells of it in any mode.
            yield self._name("values", ns), encode_json({INTERRUPT: interrupts})

    def _pausing_tasks(
        self, at: datetime, ns: Path, interrupts: Sequence[Interrupt]
    ) -> Iterator[Told]:
        """The tasks of a graph that wait, each with what it asks."""
        asking: dict[str, list[JsonObject]] = {}
        for each in interrupts:
            asking.setdefault(_task_id_in(each, ns), []).append(_interrupt(each))
        for task_id, asked in asking.items():
            task = self._tasks.pop(task_id, None)
            if task is not None:
                yield from self._result(task, at, interrupts=asked)

    @_told.register
    def _error(self, event: Error) -> Iterator[Told]:
        yield from self._failures(None)
        yield "error", encode_json({"error": event.code, "message": event.message})

    @_told.register
    def _cancelled(self, event: RunCancelled) -> Iterator[Told]:
        error = "UserRollback" if event.rolled_back else "UserInterrupt"
        message = f"The run was cancelled{because(event.reason)}."
        yield "error", encode_json({"error": error, "message": message})

    @_told.register
    def _done(self, event: Done) -> Iterator[Told]:
        yield from self._at_end()
        yield from self._failures(None)

    # ── nodes ──

    @_told.register
    def _node_start(self, event: NodeStart) -> Iterator[Told]:
        self._failed.pop(event.task_id, None)
        self._tasks[event.task_id] = _Task(event)
        if event.attempt > 1:
            return
        task: JsonObject = {
            "id": event.task_id,
            "name": event.node,
            "input": self._input(event),
            "triggers": event.triggers,
        }
        yield from self._of_task(event, event.ts, "task", task)
        inside = (*event.ns, _place(event))
        if inside in self._found:
            yield from self._state(event.ts, inside, self._found.pop(inside))

    def _input(self, event: NodeStart) -> Json:
        """The value that a task was sent, or the state that it has found."""
        if isinstance(event.path, list) and event.path[0] == PUSH:
            sends, number = self._sends.get(event.ns, []), event.path[1]
            return sends[number] if number in range(len(sends)) else None
        return Raw(self._values.get(event.ns, b"{}"))

    @_told.register
    def _updated(self, event: StateUpdate) -> Iterator[Told]:
        task = self._tasks.get(event.task_id)
        yield from self._whole_messages(event)
        if task is not None and isinstance(event.update, dict):
            task.updates.append(event.update)
        elif "updates" in self._modes:
            # Its beginning was removed.
            yield self._name("updates", event.ns), encode_json({event.node: event.update})

    @_told.register
    def _node_end(self, event: NodeEnd) -> Iterator[Told]:
        task = self._tasks.pop(event.task_id, None)
        if task is None:
            return
        if "updates" in self._modes:
            yield self._name("updates", event.ns), encode_json({event.node: task.told()})
        yield from self._result(task, event.ts)

    @_told.register
    def _node_error(self, event: NodeError) -> Iterator[Told]:
        # It is told when the task is not tried again.
        task = self._tasks.pop(event.task_id, None)
        if task is not None:
            self._failed[event.task_id] = event, task
        return iter(())

    def _failures(self, ns: Path | None) -> Iterator[Told]:
        """The tasks of a graph, or of all, that have failed and are not tried again."""
        for task_id, (event, task) in [*self._failed.items()]:
            if ns is None or event.ns == ns:
                del self._failed[task_id]
                yield from self._result(task, event.ts, error=event.error.type)

    def _result(
        self,
        task: _Task,
        at: datetime,
        *,
        error: str | None = None,
        interrupts: Sequence[JsonObject] = (),
    ) -> Iterator[Told]:
        result: JsonObject = {
            "id": task.start.task_id,
            "name": task.start.node,
            "error": error,
            "result": task.result(),
            "interrupts": interrupts,
        }
        return self._of_task(task.start, at, "task_result", result)

    def _of_task(
        self, start: NodeStart, at: datetime, kind: str, payload: JsonObject
    ) -> Iterator[Told]:
        if "tasks" in self._modes:
            yield self._name("tasks", start.ns), encode_json(payload)
        if "debug" in self._modes:
            yield self._name("debug", start.ns), _debug(at, start.step, kind, payload)

    # ── states ──

    def _at_state(self, entry: LogEntry) -> Iterator[Told]:
        read = read_state_entry(entry.body)
        event = decode(read.event)
        state = _STATES.decode(read.state)
        if isinstance(event, RunResumed):
            yield from self._told_of(event, "run_resumed")
            self._know(state["values"])
            yield from self._state(event.ts, (), state)
            for ns, inner in _inner_states(state):
                if OF_TASKS.isdisjoint(self._modes):
                    yield from self._state(event.ts, ns, inner)
                else:
                    self._found[ns] = inner
            return
        assert isinstance(event, Checkpoint)
        if event.ns and not self._subgraphs:
            return
        yield from self._failures(event.ns)
        is_shown = event.source != "input"
        if not event.ns:
            self._without_input = None
            if not is_shown:
                self._awaits_input = False
            elif self._awaits_input:
                # A run goes back to where its input belongs. LangGraph does not tell of that.
                self._without_input = state
                is_shown = False
            else:
                self._know(state["values"])
        yield from self._state(event.ts, event.ns, state, is_shown=is_shown)

    def _at_end(self) -> Iterator[Told]:
        """The state of a run that has ended before it had an input: one that only wrote it."""
        state, self._without_input = self._without_input, None
        if state is not None:
            values = bytes(state["values"])
            self._values[()] = values
            if "values" in self._modes:
                yield "values", values

    def _know(self, values: Raw) -> None:
        """Note the messages that a run has found."""
        if not self._knows and not OF_MESSAGES.isdisjoint(self._modes):
            self._knows = True
            found = messages_in(decode_json(values))
            self._seen.update((message["id"], ()) for message in found)

    def _state(
        self, at: datetime, ns: Path, state: dict[str, Raw], *, is_shown: bool = True
    ) -> Iterator[Told]:
        if (ns and not self._subgraphs) or STATEFUL.isdisjoint(self._modes):
            return
        if SENDS in state:
            self._sends[ns] = msgspec.json.decode(state[SENDS], type=list[Raw])
        values = bytes(state["values"])
        if is_shown:
            is_new = self._values.get(ns) != values
            self._values[ns] = values
            if "values" in self._modes and is_new:
                yield self._name("values", ns), values
        if self._modes.isdisjoint({"checkpoints", "debug"}):
            return
        payload = _checkpoint_payload(state)
        if "checkpoints" in self._modes:
            yield self._name("checkpoints", ns), encode_json(payload)
        if "debug" in self._modes:
            step = decode_json(state["metadata"]).get("step", 0)
            data = _debug(at, step, "checkpoint", _with_checkpoints(payload))
            yield self._name("debug", ns), data

    # ── messages ──

    @_told.register
    def _llm_start(self, event: LlmStart) -> Iterator[Told]:
        self._called[event.message_id] = event
        return iter(())

    def _opened(self, event: NodeEvent, message_id: str) -> Iterator[Told]:
        """What is told of a message before its first piece."""
        called = self._called.pop(message_id, None)
        about: JsonObject = {"langgraph_node": event.node, **(called.metadata if called else {})}
        if called and called.tags:
            about["tags"] = called.tags
        about["run_id"] = event.run_id
        about["thread_id"] = event.thread_id
        path = (*event.ns, _place(event))
        about.setdefault("langgraph_checkpoint_ns", "|".join(path))
        # LangGraph keeps the outermost.
        about.setdefault("checkpoint_ns", path[0])
        self._about[message_id] = encode_json(about)
        self._ends[message_id] = piece_ends(message_id)
        self._writing[message_id] = Writing(message_id)
        self._seen[message_id] = event.ns
        if "messages" in self._modes:
            told = encode_json({message_id: {"metadata": about}})
            yield self._name("messages/metadata", event.ns), told

    @_told.register
    def _token(self, event: Token) -> Iterator[Told]:
        message_id = event.message_id
        writing = self._writing.get(message_id)
        if writing is None:
            yield from self._opened(event, message_id)
            writing = self._writing[message_id]
        if "messages" not in self._modes and not event.kind and not writing.has_blocks:
            # The hot path: only the text differs from piece to piece.
            before, behind = self._ends[message_id]
            text = encode_text(event.content)
            data = b"[%s%s%s,%s]" % (before, text, behind, self._about[message_id])
            yield self._name("messages", event.ns), data
            return
        piece = writing.token(event)
        if piece is not None:
            yield from self._piece(event, message_id, piece)

    @_told.register
    def _reasoning(self, event: Reasoning) -> Iterator[Told]:
        return self._next_piece(event, event.message_id, lambda writing: writing.reasoning(event))

    @_told.register
    def _call(self, event: ToolCallDelta) -> Iterator[Told]:
        return self._next_piece(event, event.message_id, lambda writing: writing.call(event))

    @_told.register
    def _llm_end(self, event: LlmEnd) -> Iterator[Told]:
        # One of which there was no piece was kept from streams. What its node writes is told.
        if event.message_id in self._writing:
            yield from self._next_piece(event, event.message_id, lambda writing: writing.end(event))
        self._forget(event.message_id)

    @_told.register
    def _llm_failed(self, event: LlmError) -> Iterator[Told]:
        return self._voided((event.message_id,), {"langgraph_node": event.node})

    @_told.register
    def _llm_again(self, event: LlmRetry) -> Iterator[Told]:
        return self._voided(event.message_ids, {"langgraph_node": event.node})

    def _next_piece(
        self, event: NodeEvent, message_id: str, write: Callable[[Writing], JsonObject]
    ) -> Iterator[Told]:
        if message_id not in self._writing:
            yield from self._opened(event, message_id)
        yield from self._piece(event, message_id, write(self._writing[message_id]))

    def _piece(self, event: NodeEvent, message_id: str, piece: JsonObject) -> Iterator[Told]:
        if "messages" in self._modes:
            so_far = encode_json([self._writing[message_id].so_far()])
            yield self._name("messages/partial", event.ns), so_far
        if "messages-tuple" in self._modes:
            about = Raw(self._about[message_id])
            yield self._name("messages", event.ns), encode_json([piece, about])

    def _voided(self, message_ids: Iterable[str], about: JsonObject) -> Iterator[Told]:
        for message_id in message_ids:
            self._forget(message_id)
            ns = self._seen.pop(message_id, None)
            if ns is None:
                # None of it was told.
                continue
            if "messages-tuple" in self._modes:
                yield self._name("messages", ns), encode_json([removed(message_id), about])
            if "messages" in self._modes:
                yield self._name("messages/complete", ns), encode_json([removed(message_id)])

    def _forget(self, message_id: str) -> None:
        for kept in (self._called, self._about, self._ends, self._writing):
            kept.pop(message_id, None)

    def _whole_messages(self, event: StateUpdate) -> Iterator[Told]:
        """The messages that a node wrote at once, such as those of tools."""
        if OF_MESSAGES.isdisjoint(self._modes):
            return
        for message in messages_in(event.update):
            if message["id"] in self._seen:
                continue
            self._seen[message["id"]] = event.ns
            about = self._about_task(event)
            if "messages" in self._modes:
                told = encode_json({message["id"]: {"metadata": about}})
                yield self._name("messages/metadata", event.ns), told
                yield self._name("messages/complete", event.ns), encode_json([message])
            if "messages-tuple" in self._modes:
                yield self._name("messages", event.ns), encode_json([message, about])

    def _about_task(self, event: NodeEvent) -> JsonObject:
        task = self._tasks.get(event.task_id)
        start = task.start if task else None
        return {
            **({"checkpoint_ns": event.ns[0]} if event.ns else {}),
            "langgraph_step": start.step if start else 0,
            "langgraph_node": event.node,
            "langgraph_triggers": start.triggers if start else (),
            "langgraph_path": start.path if start else None,
            "langgraph_checkpoint_ns": "|".join((*event.ns, _place(event))),
            "thread_id": event.thread_id,
            "run_id": event.run_id,
        }

    # ── what nodes say ──

    @_told.register
    def _custom(self, event: Custom) -> Iterator[Told]:
        # What was dispatched under a name is an event of LangChain's, and not the graph's stream.
        if "custom" in self._modes and not event.name:
            yield self._name("custom", event.ns), encode_json(event.data)

    @_told.register
    def _progress(self, event: Progress) -> Iterator[Told]:
        if "custom" in self._modes:
            data: JsonObject = {"progress": event.progress}
            if event.message:
                data["message"] = event.message
            yield self._name("custom", event.ns), encode_json(data)


_STATES: Final = msgspec.json.Decoder(dict[str, Raw])


def _with_interrupts(values: bytes, interrupts: Sequence[JsonObject]) -> bytes:
    """The state with what it waits for. It is not decoded: it may be large."""
    added = encode_json({INTERRUPT: interrupts})
    if not values.startswith(b"{") or values == b"{}":
        return added
    return b"%s,%s" % (values[:-1], added[1:])


def _interrupt(event: Interrupt) -> JsonObject:
    interrupt: JsonObject = {"id": event.interrupt_id, "value": event.value}
    if event.response_schema is not None:
        interrupt["response_schema"] = event.response_schema
    return interrupt


def _place(event: NodeEvent) -> str:
    """The task that an event is of, as it stands in the paths of what is in it."""
    return f"{event.node}:{event.task_id}"


def _task_id_in(event: NodeEvent, ns: Path) -> str:
    """The id of the task of this graph in which something happened."""
    if len(event.ns) == len(ns):
        return event.task_id
    return event.ns[len(ns)].rpartition(":")[2]


def _inner_states(state: dict[str, Raw]) -> Iterator[tuple[Path, dict[str, Raw]]]:
    """The states of the subgraphs in which the graph has paused, the outer ones first."""
    for inner in msgspec.json.decode(state[INNER], type=list[dict[str, Raw]]):
        place = decode_json(inner["checkpoint"])
        yield ns_of(place["checkpoint_ns"]), inner


def _checkpoint_payload(state: dict[str, Raw]) -> JsonObject:
    return {
        "config": _config(decode_json(state["checkpoint"])),
        "parent_config": _config(decode_json(state["parent_checkpoint"])),
        "values": state["values"],
        "metadata": state["metadata"],
        "next": state["next"],
        "tasks": list(map(_coming_task, decode_json(state["tasks"]))),
    }


def _config(place: JsonObject | None) -> JsonObject | None:
    if place is None:
        return None
    return {"configurable": {name: value for name, value in place.items() if value is not None}}


def _coming_task(task: JsonObject) -> JsonObject:
    """A task of the next superstep. Whatever it has done by now is no part of the checkpoint."""
    return {
        "id": task["id"],
        "name": task["name"],
        "interrupts": [],
        "state": _config(task["checkpoint"]),
    }


def _with_checkpoints(payload: JsonObject) -> JsonObject:
    """The same with checkpoints in place of configs, as LangGraph's server adds them."""
    parent = payload["parent_config"]
    return {
        **payload,
        "checkpoint": payload["config"]["configurable"],
        "parent_checkpoint": parent and parent["configurable"],
        "tasks": list(map(_with_checkpoint, payload["tasks"])),
    }


def _with_checkpoint(task: JsonObject) -> JsonObject:
    inner = task["state"]
    if inner is None:
        return task
    bare = {name: value for name, value in task.items() if name != "state"}
    return {**bare, "checkpoint": inner["configurable"]}


def _debug(at: datetime, step: int, kind: str, payload: Json) -> bytes:
    told = {"step": step, "timestamp": time_text(at), "type": kind, "payload": payload}
    return encode_json(told)
