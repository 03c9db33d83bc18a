"""A run as AG-UI's clients follow it.

Each stream is one run of theirs: it begins with RUN_STARTED and ends with RUN_FINISHED or
RUN_ERROR. What a run asks ends it with the outcome `interrupt`. Where standing grants answer a
pause at once, it goes on without an end. A client keeps the messages that it was told, and sends
all of them with its next run: what it has is not told again, and the snapshots at the end of a run
are what counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import singledispatchmethod
from typing import Final

import msgspec
from ag_ui.core import PROTOCOL_VERSION
from msgspec import Raw

from assent.api.dialects.agui.interrupts import interrupt_of
from assent.api.dialects.agui.messages import (
    ONLY_CLIENTS,
    agui_call,
    agui_message,
    agui_messages,
    id_of,
    tool_result,
    written,
)
from assent.api.dialects.base import STATE, Fold, Foreign, Frame, read_state_entry
from assent.api.dialects.blocks import Block, Blocks, Change, Closed, Grown, Kind, Opened
from assent.api.dialects.messages import encode_text
from assent.api.dialects.positions import positions_of
from assent.api.dialects.questions import Asked
from assent.core.events import (
    ApprovalRequired,
    Broadcast,
    BudgetEvent,
    Custom,
    Done,
    Error,
    Event,
    LlmEnd,
    LlmError,
    LlmRetry,
    NodeEnd,
    NodeError,
    NodeEvent,
    NodeStart,
    Progress,
    Reasoning,
    RunCancelled,
    RunPaused,
    RunRecovered,
    StateUpdate,
    Token,
    ToolCallDelta,
    ToolProgress,
    Usage,
    decode,
    event_type,
)
from assent.core.json import Json, JsonObject, encode_json
from assent.storage.base import LogEntry

TYPES: Final = frozenset(
    {
        *("run_start", "run_resumed", "run_paused", "run_recovered", "run_cancelled", "done"),
        *("error", "node_start", "node_end", "node_error", "token", "reasoning"),
        *("tool_call_delta", "llm_end", "llm_error", "llm_retry", "tool_progress", "progress"),
        *("approval_required", "state_update", "checkpoint", "custom", "broadcast"),
        *("budget_warning", "budget_exceeded"),
    }
)

MESSAGES = "messages"

ENDS: Final = {
    "paused": "The thread waits for decisions, so nothing was done. Answer every open interrupt "
    "with 'resume'. A run without new messages shows them.",
    "stopping": "The server stops. The run goes on when it is back: a run without new messages "
    "shows what has come of it.",
    "unavailable": "The storage is away. The run is kept: a run without new messages shows what "
    "has come of it.",
    "gone": "The events of this run have been removed meanwhile.",
    "failed": "The stream failed, and the run did not: a run without new messages shows what has "
    "come of it.",
    "signed-out": "You may not read this thread any more.",
}
"""What a client is told of a stream that ends before its run does, by the reason. AG-UI knows no
stream that ends amid a run."""

_CODES: Final = {"paused": "thread_paused", "signed-out": "signed_out"}
"""The codes of these errors, where they are not the reasons."""

Told = bytes
"""An event, as JSON."""


class AgUi(Foreign):
    """A run for a client that knows it as `run_id`. `messages` are those that the client has, and
    `kept` are those of them that only the client has."""

    name = "agui"
    types: frozenset[str] | None = TYPES

    def __init__(
        self,
        thread_id: str,
        run_id: str,
        *,
        parent_run_id: str | None = None,
        messages: Sequence[JsonObject] = (),
        kept: Sequence[JsonObject] = (),
    ) -> None:
        self.thread_id = thread_id
        self.run_id = run_id
        self.parent_run_id = parent_run_id
        self.messages = [each for each in messages if each["role"] not in ONLY_CLIENTS]
        self.kept = kept

    def fold(self) -> Fold:
        return _Run(self).frames

    def end(self, reason: str) -> Frame | None:
        if reason not in ENDS:
            return None
        code = _CODES.get(reason, reason)
        return Frame("", "", _error(code, ENDS[reason]))

    # ── runs of theirs that are none here ──

    def looked(
        self, values: Json, asked: Iterable[Asked], messages: Sequence[JsonObject]
    ) -> list[Frame]:
        """The frames of a run that does nothing: it shows the state, and what is asked."""
        outcome = outcome_of([interrupt_of(each) for each in asked])
        told = [self.started(), *_snapshots(values, messages), self.finished(outcome)]
        return [Frame("", "", data) for data in told]

    def refused(self, code: str, message: str) -> list[Frame]:
        """The frames of a run that did not begin."""
        return [Frame("", "", _error(code, message))]

    def started(self) -> Told:
        """The beginning of a run."""
        return _told(
            "RUN_STARTED",
            threadId=self.thread_id,
            runId=self.run_id,
            protocolVersion=PROTOCOL_VERSION,
            parentRunId=self.parent_run_id,
        )

    def finished(self, outcome: JsonObject, usage: Usage | None = None) -> Told:
        """The end of a run."""
        used = None if usage is None else [_usage(usage)]
        return _told(
            "RUN_FINISHED",
            threadId=self.thread_id,
            runId=self.run_id,
            outcome=outcome,
            usage=used,
        )


class _Subagent:
    """A subgraph that has begun."""

    __slots__ = ("error", "is_open")

    def __init__(self) -> None:
        self.is_open = True
        self.error = ""


class _Message:
    """A message that was told in this run."""

    __slots__ = ("calls", "ns", "result", "texts")

    def __init__(self, ns: tuple[str, ...], result: JsonObject | None = None) -> None:
        self.ns = ns
        self.texts: list[str] = []
        # By the id of a call: what it calls, and the pieces of its arguments.
        self.calls: dict[str, tuple[str, list[str]]] = {}
        self.result = result

    def as_json(self, id: str) -> JsonObject:
        """The message as it stands."""
        owner = {"subagentRunId": _id_of(self.ns)} if self.ns else {}
        if self.result is not None:
            return {"id": id, **self.result, **owner}
        calls = [agui_call(each, tool, "".join(args)) for each, (tool, args) in self.calls.items()]
        called = {"toolCalls": calls} if calls else {}
        return {"id": id, "role": "assistant", "content": "".join(self.texts), **called, **owner}


MOST_PIECES = 1000


def _add(piece: str, pieces: list[str]) -> None:
    """Add a piece to a text. Pieces cost ten times what their text does, so they are put together
    now and then."""
    if len(pieces) == MOST_PIECES:
        pieces[:] = ["".join(pieces)]
    pieces.append(piece)


class _Run:
    """Folds the events of a run, and of those that go on at once where it paused."""

    def __init__(self, dialect: AgUi) -> None:
        self._dialect = dialect
        self._is_started = False
        self._blocks = Blocks()
        self._asked: list[ApprovalRequired] = []
        # By the subgraph and the name of a step: the tasks of it that have begun.
        self._steps: dict[tuple[tuple[str, ...], str], set[str]] = {}
        self._subagents: dict[tuple[str, ...], _Subagent] = {}
        self._messages: dict[str, _Message] = {}
        self._theirs = {message["id"] for message in dialect.messages}
        # By the id of a block: the JSON of a piece of it, up to its text.
        self._pieces: dict[str, bytes] = {}

    def frames(self, entry: LogEntry) -> Sequence[Frame]:
        """The frames of the next entry."""
        if entry.type == STATE:
            told = [*self._at_rest(entry)]
        elif entry.type not in TYPES or entry.type == "checkpoint":
            return ()
        else:
            told = [*self._of_event(decode(entry.body))]
        if not told:
            return ()
        if not self._is_started:
            self._is_started = True
            told.insert(0, self._dialect.started())
        positions = positions_of(entry.seq, len(told))
        return [
            Frame(str(position), "", data) for position, data in zip(positions, told, strict=True)
        ]

    def _of_event(self, event: Event) -> Iterator[Told]:
        if type(event) is Token and not event.ns:
            # The hot path.
            yield from self._changed(self._blocks.token(event))
            return
        if isinstance(event, NodeEvent) and event.ns:
            yield from self._subagents_of(event.ns)
        yield from self._told(event)

    @singledispatchmethod
    def _told(self, event: Event) -> Iterator[Told]:
        """What is told of the event. The beginning of the run is told by itself."""
        if event_type(event) in ("run_start", "run_resumed") and not self._is_started:
            self._is_started = True
            yield self._dialect.started()

    # ── the run ──

    @_told.register
    def _recovered(self, event: RunRecovered) -> Iterator[Told]:
        return self._voided(event.message_ids)

    @_told.register
    def _asks(self, event: ApprovalRequired) -> Iterator[Told]:
        self._asked.append(event)
        return iter(())

    @_told.register
    def _paused(self, event: RunPaused) -> Iterator[Told]:
        asked = {
            each.approval_id: each for each in self._asked if each.approval_id in event.approvals
        }
        self._asked = []
        yield from self._changed(self._blocks.close())
        if event.next_run:
            # Standing grants have answered: nobody is asked, and everything goes on.
            return
        subagents = {id: self._asking(each.node) for id, each in asked.items()}
        yield from self._suspended(subagents)
        interrupts = [
            interrupt_of(asked[id], subagents[id]) if id in asked else _unknown_interrupt(id)
            for id in event.approvals
        ]
        yield self._dialect.finished(outcome_of(interrupts))

    @_told.register
    def _done(self, event: Done) -> Iterator[Told]:
        yield from self._changed(self._blocks.close())
        yield from self._finished_steps()
        for ns in self._open_subagents():
            yield from self._finished(ns)
        yield self._dialect.finished({"type": "success"}, event.usage)

    @_told.register
    def _cancelled(self, event: RunCancelled) -> Iterator[Told]:
        yield from self._changed(self._blocks.close())
        yield from self._finished_steps()
        for ns in self._open_subagents():
            yield self._failed_subagent(ns, "The run was cancelled.", "cancelled")
        yield self._dialect.finished({"type": "cancelled"})

    @_told.register
    def _failed(self, event: Error) -> Iterator[Told]:
        yield from self._changed(self._blocks.close())
        yield _error(event.code, event.message)

    # ── steps ──

    @_told.register
    def _node_start(self, event: NodeStart) -> Iterator[Told]:
        tasks = self._steps.setdefault((event.ns, event.node), set())
        if not tasks:
            yield _told("STEP_STARTED", stepName=event.node, subagentRunId=_id_of(event.ns))
        tasks.add(event.task_id)

    @_told.register
    def _node_end(self, event: NodeEnd) -> Iterator[Told]:
        inner = (*event.ns, f"{event.node}:{event.task_id}")
        for ns in self._open_subagents(inner):
            yield from self._finished(ns)
        yield from self._step_ended(event)

    @_told.register
    def _node_error(self, event: NodeError) -> Iterator[Told]:
        subagent = self._subagents.get((*event.ns, f"{event.node}:{event.task_id}"))
        if subagent is not None:
            # It may be tried again, and is one subagent then.
            subagent.error = event.error.message or event.error.type
        yield from self._step_ended(event)

    def _step_ended(self, event: NodeEvent) -> Iterator[Told]:
        tasks = self._steps.get((event.ns, event.node), set())
        if event.task_id in tasks:
            tasks.discard(event.task_id)
            if not tasks:
                yield from self._finished_step(event.ns, event.node)

    def _finished_steps(self, of: tuple[str, ...] | None = None) -> Iterator[Told]:
        for ns, node in [*self._steps]:
            if of is None or ns == of:
                yield from self._finished_step(ns, node)

    def _finished_step(self, ns: tuple[str, ...], node: str) -> Iterator[Told]:
        if (ns, node) in self._steps:
            del self._steps[ns, node]
            yield _told("STEP_FINISHED", stepName=node, subagentRunId=_id_of(ns))

    # ── subagents ──

    def _subagents_of(self, ns: tuple[str, ...]) -> Iterator[Told]:
        for depth in range(1, len(ns) + 1):
            path = ns[:depth]
            known = self._subagents.get(path)
            if known is not None:
                known.error = ""
                continue
            self._subagents[path] = _Subagent()
            yield _told(
                "SUBAGENT_STARTED",
                subagentRunId=_id_of(path),
                name=_name_of(path[-1]),
                parentSubagentRunId=_id_of(path[:-1]),
            )

    def _open_subagents(self, within: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        """The subagents that are open, the innermost first."""
        found = [
            ns
            for ns, subagent in self._subagents.items()
            if subagent.is_open and ns[: len(within)] == within
        ]
        return sorted(found, key=len, reverse=True)

    def _finished(self, ns: tuple[str, ...], outcome: JsonObject | None = None) -> Iterator[Told]:
        yield from self._finished_steps(ns)
        subagent = self._subagents[ns]
        if subagent.error:
            yield self._failed_subagent(ns, subagent.error)
            return
        subagent.is_open = False
        given = outcome or {"type": "success"}
        yield _told("SUBAGENT_FINISHED", subagentRunId=_id_of(ns), outcome=given)

    def _failed_subagent(self, ns: tuple[str, ...], message: str, code: str | None = None) -> Told:
        self._subagents[ns].is_open = False
        return _told("SUBAGENT_ERROR", subagentRunId=_id_of(ns), message=message, code=code)

    def _suspended(self, asking: dict[str, str]) -> Iterator[Told]:
        for ns in self._open_subagents():
            id = _id_of(ns) or ""
            its = [each for each, asks in asking.items() if f"{asks}|".startswith(f"{id}|")]
            outcome: JsonObject = {"type": "suspended"}
            yield from self._finished(ns, {**outcome, "interruptIds": its} if its else outcome)
        yield from self._finished_steps()

    def _asking(self, node: str) -> str:
        """The id of the subagent in which this node waits; empty for the agent itself, or if
        several may be meant."""
        names = node.split("|")[:-1]
        found = [ns for ns in self._open_subagents() if [*map(_name_of, ns)] == names]
        return _id_of(found[0]) or "" if len(found) == 1 and names else ""

    # ── messages ──

    @_told.register
    def _token(self, event: Token) -> Iterator[Told]:
        return self._changed(self._blocks.token(event))

    @_told.register
    def _reasoning(self, event: Reasoning) -> Iterator[Told]:
        return self._changed(self._blocks.reasoning(event))

    @_told.register
    def _call(self, event: ToolCallDelta) -> Iterator[Told]:
        return self._changed(self._blocks.call(event))

    @_told.register
    def _llm_end(self, event: LlmEnd) -> Iterator[Told]:
        return self._changed(self._blocks.end(event))

    @_told.register
    def _llm_failed(self, event: LlmError) -> Iterator[Told]:
        return self._voided((event.message_id,))

    @_told.register
    def _llm_again(self, event: LlmRetry) -> Iterator[Told]:
        return self._voided(event.message_ids)

    @_told.register
    def _written(self, event: StateUpdate) -> Iterator[Told]:
        for message in written(event.update):
            id = id_of(message)
            if id is None or id in self._theirs:
                # The snapshot has what has no id yet.
                continue
            if message["type"] == "ai":
                yield from self._changed(self._blocks.whole(event, message))
            elif id not in self._messages:
                yield from self._whole(event, id, message)

    def _whole(self, event: StateUpdate, id: str, message: JsonObject) -> Iterator[Told]:
        """A message that no model wrote: a tool's result, or words that the graph has put there."""
        shown = agui_message(message)
        if shown is None:
            return
        owner = _id_of(event.ns)
        self._messages[id] = _Message(event.ns, shown)
        if message["type"] == "tool":
            result = tool_result(message)
            yield _told(
                "TOOL_CALL_RESULT", messageId=id, role="tool", subagentRunId=owner, **result
            )
        elif isinstance(shown["content"], str):
            role = shown["role"]
            yield _told("TEXT_MESSAGE_START", messageId=id, role=role, subagentRunId=owner)
            yield _told("TEXT_MESSAGE_CONTENT", messageId=id, delta=shown["content"])
            yield _told("TEXT_MESSAGE_END", messageId=id)

    def _changed(self, changes: Iterable[Change]) -> Iterator[Told]:
        for change in changes:
            if change.block.message_id in self._theirs:
                continue
            if isinstance(change, Grown):
                yield self._grown(change.block, change.text)
            elif isinstance(change, Opened):
                yield from self._opened(change.block)
            else:
                yield from self._closed(change)

    def _opened(self, block: Block) -> Iterator[Told]:
        owner = _id_of(block.ns)
        self._pieces[block.id] = _piece(block)
        if block.kind is Kind.REASONING:
            yield _told("REASONING_START", messageId=block.id, subagentRunId=owner)
            yield _told(
                "REASONING_MESSAGE_START",
                messageId=block.id,
                role="reasoning",
                subagentRunId=owner,
            )
            return
        message = self._messages.setdefault(block.message_id, _Message(block.ns))
        if block.kind is Kind.CALL:
            message.calls[block.id] = (block.tool, [])
            yield _told(
                "TOOL_CALL_START",
                toolCallId=block.id,
                toolCallName=block.tool,
                parentMessageId=block.message_id,
                subagentRunId=owner,
            )
        else:
            id = block.message_id
            yield _told("TEXT_MESSAGE_START", messageId=id, role="assistant", subagentRunId=owner)

    def _grown(self, block: Block, text: str) -> Told:
        if block.kind is Kind.TEXT:
            _add(text, self._messages[block.message_id].texts)
        elif block.kind is Kind.CALL:
            _add(text, self._messages[block.message_id].calls[block.id][1])
        return b"%s%s}" % (self._pieces[block.id], encode_text(text))

    def _closed(self, change: Closed) -> Iterator[Told]:
        block = change.block
        del self._pieces[block.id]
        if block.kind is Kind.TEXT:
            yield _told("TEXT_MESSAGE_END", messageId=block.message_id)
        elif block.kind is Kind.CALL:
            yield _told("TOOL_CALL_END", toolCallId=block.id)
        else:
            yield _told("REASONING_MESSAGE_END", messageId=block.id)
            yield _told("REASONING_END", messageId=block.id)

    def _voided(self, message_ids: Collection[str]) -> Iterator[Told]:
        """The ends of messages that were cut off, and the conversation without them."""
        yield from self._changed(self._blocks.void(message_ids))
        cut = [id for id in message_ids if self._messages.pop(id, None) is not None]
        if cut:
            so_far = [message.as_json(id) for id, message in self._messages.items()]
            yield _told("MESSAGES_SNAPSHOT", messages=[*self._dialect.messages, *so_far])

    # ── states ──

    def _at_rest(self, entry: LogEntry) -> Iterator[Told]:
        yield from self._changed(self._blocks.close())
        state = _STATE.decode(read_state_entry(entry.body).state)
        in_subagents = [message.as_json(id) for id, message in self._messages.items() if message.ns]
        values = msgspec.json.decode(state["values"])
        yield from _snapshots(values, [*self._dialect.kept, *in_subagents])

    # ── what nodes say ──

    @_told.register
    def _custom(self, event: Custom) -> Iterator[Told]:
        yield _custom_told(event.name or "custom", event.data, event.ns)

    @_told.register
    def _progress(self, event: Progress) -> Iterator[Told]:
        value = {"node": event.node, "progress": event.progress, "message": event.message}
        yield _custom_told("progress", value, event.ns)

    @_told.register
    def _tool_progress(self, event: ToolProgress) -> Iterator[Told]:
        value = {"tool": event.tool, "toolCallId": event.tool_call_id, "data": event.data}
        yield _custom_told("tool_progress", value, event.ns)

    @_told.register
    def _budget(self, event: BudgetEvent) -> Iterator[Told]:
        names = ("scope", "budget", "used", "limit")
        yield _custom_told(event_type(event), {name: getattr(event, name) for name in names})

    @_told.register
    def _broadcast(self, event: Broadcast) -> Iterator[Told]:
        yield _custom_told("broadcast", {"message": event.message, "data": event.data})


_STATE: Final = msgspec.json.Decoder(dict[str, Raw])


def _snapshots(values: Json, kept: Sequence[JsonObject]) -> Iterator[Told]:
    """The state, and its conversation with the messages that are kept beside it."""
    is_object = isinstance(values, dict)
    rest = {name: values[name] for name in values if name != MESSAGES} if is_object else values
    yield _told("STATE_SNAPSHOT", snapshot=rest)
    if is_object and isinstance(values.get(MESSAGES), list):
        messages = agui_messages(values[MESSAGES])
        there = {message["id"] for message in messages}
        beside = [message for message in kept if message["id"] not in there]
        yield _told("MESSAGES_SNAPSHOT", messages=[*messages, *beside])


def outcome_of(interrupts: Sequence[JsonObject]) -> JsonObject:
    """The outcome of a run that waits for these, if there are any."""
    if not interrupts:
        return {"type": "success"}
    return {"type": "interrupt", "interrupts": [*interrupts]}


def _unknown_interrupt(approval_id: str) -> JsonObject:
    """The interrupt of an approval that is pending, where the event with which it began was
    removed."""
    return {"id": approval_id, "reason": "confirmation"}


_NEEDED = frozenset({"value", "snapshot"})
"""The fields that an event has even if they are null."""


def _told(kind: str, **fields: Json) -> Told:
    """The event, without what it does not have."""
    given = {name: value for name, value in fields.items() if value is not None or name in _NEEDED}
    return encode_json({"type": kind, **given})


def _custom_told(name: str, value: Json, ns: tuple[str, ...] = ()) -> Told:
    return _told("CUSTOM", name=name, value=value, subagentRunId=_id_of(ns))


def _error(code: str, message: str) -> Told:
    return _told("RUN_ERROR", code=code, message=message)


def _piece(block: Block) -> bytes:
    """The JSON of a piece of the block, up to its text."""
    if block.kind is Kind.CALL:
        kind, named = "TOOL_CALL_ARGS", {"toolCallId": block.id}
    elif block.kind is Kind.TEXT:
        kind, named = "TEXT_MESSAGE_CONTENT", {"messageId": block.message_id}
    else:
        kind, named = "REASONING_MESSAGE_CONTENT", {"messageId": block.id}
    whole = encode_json({"type": kind, **named, "delta": ""})
    return whole.removesuffix(b'""}')


def _id_of(ns: tuple[str, ...]) -> str | None:
    """The id of the subagent that a subgraph is; None for the agent itself."""
    return "|".join(ns) or None


def _name_of(segment: str) -> str:
    return segment.partition(":")[0]


def _usage(usage: Usage) -> JsonObject:
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cache_read_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }
