"""LangGraph's thread protocol: what happens on a thread, in the channels that a client takes.

    event: lifecycle
    data: {"type": "event", "event_id": "122880", "seq": 122880, "method": "lifecycle", "params":
        {"namespace": [], "timestamp": 1767225600000, "data": {"event": "running", …}}}

The stream goes on from run to run. The number of an event is that of the log's entry times 65,536,
and its place among what the entry tells. Each channel has places of its own, so that the number is
the same whatever else a client takes, and whatever has been removed from the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import singledispatchmethod
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, structs

from assent.api.dialects.base import STATE, Fold, Foreign, Frame, read_state_entry
from assent.api.dialects.blocks import (
    Block,
    Blocks,
    Change,
    Closed,
    Grown,
    Kind,
    Opened,
    content_blocks,
)
from assent.api.dialects.langgraph.channels import (
    PLACES,
    PLACES_OF_ENTRY,
    Ns,
    Subscription,
    types_of,
)
from assent.api.dialects.messages import messages_in, usage_json
from assent.api.dialects.questions import pause_interrupt
from assent.core.events import (
    ApprovalCancelled,
    ApprovalDecided,
    ApprovalEdited,
    ApprovalExpired,
    ApprovalRequired,
    ApprovalSuperseded,
    ApprovalVoted,
    ApprovalWithdrawn,
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
    Media,
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
    ToolEnd,
    ToolError,
    ToolProgress,
    ToolStart,
    as_written,
    decode,
)
from assent.core.json import Json, JsonObject, encode_json
from assent.storage.base import LogEntry


def last_before(seq: int) -> int:
    """The highest number that an event can have which is told of an entry before this one."""
    return seq * PLACES_OF_ENTRY - 1


class Told(NamedTuple):
    """What is told in a channel of the graph at the path `ns`, by its `node`. `method` names it if
    the channel does not."""

    channel: str
    ns: Ns
    data: Json
    node: str = ""
    method: str = ""
    name: str | None = None


class _Params(Struct, omit_defaults=True):
    namespace: Ns
    timestamp: int
    data: Json
    node: str | UnsetType = UNSET


class _Event(Struct, tag_field="type", tag="event"):
    event_id: str
    seq: int
    method: str
    params: _Params


class ThreadProtocol(Foreign):
    """The events that these subscriptions take. Each event is told once, whoever takes it; what a
    subscription has is moved on with each."""

    name = "langgraph-protocol"

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self._subscriptions = subscriptions
        self.types = types_of(subscriptions)

    def fold(self) -> Fold:
        """A fold that has seen nothing yet."""
        return _Thread(self._subscriptions).frames

    def wants(self, entry: LogEntry) -> bool:
        """True for a checkpoint whose state is shown."""
        if entry.type != "checkpoint":
            return False
        return any(each.wants_state(entry.seq) for each in self._subscriptions)


class _Thread:
    """Folds the events of a thread."""

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self._subscriptions = subscriptions
        self._messages = _Messages()
        self._asked: list[ApprovalRequired] = []
        self._interrupts: list[Interrupt] = []
        # The ids of what the thread waits for.
        self._pending: list[str] = []
        self._paused_run = ""
        self._is_paused = False
        self._agent = ""
        self._open: list[Ns] = []
        # By the id of a task: what it has written, None so far.
        self._tasks: dict[str, JsonObject | None] = {}
        # By the path of the graph: its last state, as JSON.
        self._values: dict[Ns, Raw] = {}

    def frames(self, entry: LogEntry) -> Sequence[Frame]:
        """The frames of the next entry."""
        if entry.type == "broadcast":
            return ()
        if entry.type == STATE:
            read = read_state_entry(entry.body)
            event = decode(read.event)
            told = self._at_checkpoint(event, read.state)
        else:
            event = decode(entry.body)
            told = self._told(event)
        timestamp = int(event.ts.timestamp() * 1000)
        frames: list[Frame] = []
        counts: Counter[str] = Counter()
        for each in told:
            places = PLACES[each.channel]
            count = counts[each.channel]
            counts[each.channel] += 1
            if count < len(places):
                seq = entry.seq * PLACES_OF_ENTRY + places[count]
                frames += self._taken(each, seq, timestamp)
        return frames

    def _taken(self, told: Told, seq: int, timestamp: int) -> Iterator[Frame]:
        channel, ns, data, node, method, name = told
        takers = [each for each in self._subscriptions if each.takes(channel, ns, name)]
        is_new = any(seq > each.after for each in takers)
        for each in takers:
            each.after = max(each.after, seq)
        if is_new:
            params = _Params(ns, timestamp, data, node or UNSET)
            body = _Event(str(seq), seq, method or channel, params)
            yield Frame(str(seq), method or channel, encode_json(body))

    @singledispatchmethod
    def _told(self, event: Event) -> Iterator[Told]:
        """What is told of the event."""
        return iter(())

    # ── runs ──

    @_told.register
    def _started(self, event: RunStart | RunResumed) -> Iterator[Told]:
        yield from self._answered()
        self._agent = event.agent
        self._open, self._tasks = [], {}
        yield self._lifecycle((), "running")

    @_told.register
    def _recovered(self, event: RunRecovered) -> Iterator[Told]:
        return self._messages.void(event.message_ids)

    @_told.register
    def _done(self, event: Done) -> Iterator[Told]:
        return self._ended("completed")

    @_told.register
    def _failed(self, event: Error) -> Iterator[Told]:
        return self._ended("failed", event.message)

    @_told.register
    def _cancelled(self, event: RunCancelled) -> Iterator[Told]:
        yield from self._answered()
        yield from self._ended("interrupted")

    def _ended(self, status: str, error: str = "") -> Iterator[Told]:
        """The end of a run, and of the graphs that it leaves behind, the innermost first."""
        for ns in sorted(self._open, key=len, reverse=True):
            yield self._lifecycle(ns, status)
        self._open = []
        yield self._lifecycle((), status, error)

    def _lifecycle(self, ns: Ns, status: str, error: str = "") -> Told:
        name = ns[-1].partition(":")[0] if ns else self._agent
        data: JsonObject = {"event": status, "graph_name": name}
        if error:
            data["error"] = error
        return Told("lifecycle", ns, data)

    # ── people ──

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
        if event.next_run:
            # Standing grants have answered: nobody is asked.
            self._asked, self._interrupts = [], []
            return
        self._asked = [each for each in self._asked if each.approval_id in event.approvals]
        self._paused_run, self._is_paused = event.run_id, True
        yield from self._requests()
        yield from self._ended("interrupted")

    @_told.register
    def _voted(self, event: ApprovalVoted) -> Iterator[Told]:
        # Whoever has voted shows the question no more, and others must agree.
        if self._is_paused:
            yield from self._requests()
            yield self._lifecycle((), "interrupted")

    @_told.register
    def _asks_again(self, event: ApprovalWithdrawn | ApprovalEdited) -> Iterator[Told]:
        if isinstance(event, ApprovalEdited):
            self._asked = [
                structs.replace(each, args=event.args)
                if each.approval_id == event.approval_id
                else each
                for each in self._asked
            ]
        if self._is_paused:
            yield from self._requests()

    @_told.register
    def _settled(
        self, event: ApprovalDecided | ApprovalExpired | ApprovalCancelled | ApprovalSuperseded
    ) -> Iterator[Told]:
        self._asked = [each for each in self._asked if each.approval_id != event.approval_id]
        return iter(())

    def _requests(self) -> Iterator[Told]:
        """What the thread waits for."""
        asked: list[tuple[Ns, str, Json]] = [
            (each.ns, each.interrupt_id, each.value) for each in self._interrupts
        ]
        more = pause_interrupt(self._paused_run, self._asked)
        if more is not None:
            asked.append(((), more["id"], more["value"]))
        self._pending = [id for _, id, _ in asked]
        for ns, id, value in asked:
            data = {"interrupt_id": id, "payload": value}
            yield Told("input", ns, data, method="input.requested")

    def _answered(self) -> Iterator[Told]:
        """The end of what the thread has waited for."""
        if self._pending:
            data = {"interrupt_ids": self._pending}
            yield Told("input", (), data, method="input.answered")
        self._asked, self._interrupts, self._pending = [], [], []
        self._is_paused = False

    # ── nodes ──

    @_told.register
    def _node_start(self, event: NodeStart) -> Iterator[Told]:
        self._tasks[event.task_id] = None
        data: JsonObject = {
            "id": event.task_id,
            "name": event.node,
            "input": self._values.get(event.ns, Raw(b"{}")),
            "triggers": event.triggers,
        }
        yield Told("tasks", event.ns, data)
        for depth in range(1, len(event.ns) + 1):
            if event.ns[:depth] not in self._open:
                self._open.append(event.ns[:depth])
                yield self._lifecycle(event.ns[:depth], "started")

    @_told.register
    def _updated(self, event: StateUpdate) -> Iterator[Told]:
        update = as_written(event.update)
        values = update if isinstance(update, dict) else {"value": update}
        self._tasks[event.task_id] = {**(self._tasks.get(event.task_id) or {}), **values}
        yield Told("updates", event.ns, values, event.node)
        yield from self._messages.written(event)

    @_told.register
    def _node_end(self, event: NodeEnd) -> Iterator[Told]:
        result = self._tasks.pop(event.task_id, None)
        yield _result(event, result or {})
        if result is None:
            yield Told("updates", event.ns, {}, event.node)
        yield from self._left(event, "completed")

    @_told.register
    def _node_error(self, event: NodeError) -> Iterator[Told]:
        yield _result(event, self._tasks.pop(event.task_id, None) or {}, event.error.type)
        yield from self._left(event, "failed")

    def _left(self, event: NodeEvent, status: str) -> Iterator[Told]:
        """The end of the graphs that the node was."""
        ns = (*event.ns, f"{event.node}:{event.task_id}")
        left = [each for each in self._open if each[: len(ns)] == ns]
        for each in sorted(left, key=len, reverse=True):
            self._open.remove(each)
            yield self._lifecycle(each, status)

    # ── states ──

    @_told.register
    def _checkpoint(self, event: Checkpoint) -> Iterator[Told]:
        data: JsonObject = {"id": event.checkpoint_id, "step": event.step, "source": event.source}
        if event.parent_id:
            data["parent_id"] = event.parent_id
        yield Told("checkpoints", event.ns, data)

    def _at_checkpoint(self, event: Event, state: Raw) -> Iterator[Told]:
        assert isinstance(event, Checkpoint)
        yield from self._checkpoint(event)
        values = _STATES.decode(state).values
        is_new = self._values.get(event.ns) != values
        if event.source != "input":
            self._values[event.ns] = values
            if is_new:
                yield Told("values", event.ns, values)

    # ── what nodes say ──

    @_told.register
    def _custom(self, event: Custom) -> Iterator[Told]:
        data: JsonObject = {"payload": event.data}
        if event.name:
            data["name"] = event.name
        yield Told("custom", event.ns, data, event.node, name=event.name)

    @_told.register
    def _progress(self, event: Progress) -> Iterator[Told]:
        payload: JsonObject = {"progress": event.progress}
        if event.message:
            payload["message"] = event.message
        yield Told("custom", event.ns, {"payload": payload}, event.node)

    # ── tools ──

    @_told.register
    def _tool_start(self, event: ToolStart) -> Iterator[Told]:
        yield _of_tool(event, "tool-started", tool_name=event.tool, input=event.input)

    @_told.register
    def _tool_progress(self, event: ToolProgress) -> Iterator[Told]:
        yield _of_tool(event, "tool-output-delta", delta=_text(event.data))

    @_told.register
    def _tool_end(self, event: ToolEnd) -> Iterator[Told]:
        yield _of_tool(event, "tool-finished", output=event.output)

    @_told.register
    def _tool_error(self, event: ToolError) -> Iterator[Told]:
        message = event.error.message or event.error.type
        yield _of_tool(event, "tool-error", message=message, code=event.error.type)

    # ── models ──

    @_told.register
    def _llm_start(self, event: LlmStart) -> Iterator[Told]:
        self._messages.start(event)
        return iter(())

    @_told.register
    def _token(self, event: Token) -> Iterator[Told]:
        return self._messages.token(event)

    @_told.register
    def _reasoning(self, event: Reasoning) -> Iterator[Told]:
        return self._messages.reasoning(event)

    @_told.register
    def _media(self, event: Media) -> Iterator[Told]:
        return self._messages.media(event)

    @_told.register
    def _call(self, event: ToolCallDelta) -> Iterator[Told]:
        return self._messages.call(event)

    @_told.register
    def _llm_end(self, event: LlmEnd) -> Iterator[Told]:
        return self._messages.end(event)

    @_told.register
    def _llm_failed(self, event: LlmError) -> Iterator[Told]:
        return self._messages.void([event.message_id])

    @_told.register
    def _llm_again(self, event: LlmRetry) -> Iterator[Told]:
        return self._messages.void(event.message_ids)


class _State(Struct):
    """The part of a state that is shown."""

    values: Raw


_STATES: Final = msgspec.json.Decoder(_State)


def _result(event: NodeEvent, result: JsonObject, error: str | None = None) -> Told:
    data: JsonObject = {
        "id": event.task_id,
        "name": event.node,
        "error": error,
        "result": result,
        "interrupts": [],
    }
    return Told("tasks", event.ns, data)


def _of_tool(event: Any, kind: str, **fields: Json) -> Told:
    data = {"event": kind, "tool_call_id": event.tool_call_id, **fields}
    return Told("tools", event.ns, data, event.node)


def _text(data: Json) -> str:
    return data if isinstance(data, str) else encode_json(data).decode()


# ── messages ──────────────────────────────────────────────────────────────────────────────────────


class _Message:
    """A message that is being written: its node, and by the id of each of its blocks the place of
    that and its pieces. `start` are the fields of its beginning, until that was told; `shown` are
    its blocks, by their places."""

    __slots__ = ("blocks", "node", "ns", "shown", "start")

    def __init__(self, event: NodeEvent, start: JsonObject) -> None:
        self.ns = event.ns
        self.node = event.node
        self.start: JsonObject | None = start
        self.blocks: dict[str, tuple[int, list[str]]] = {}
        self.shown: dict[int, Block] = {}

    def told(self, event: str, **fields: Json) -> Told:
        """Something of the message."""
        return Told("messages", self.ns, {"event": event, **fields}, self.node)

    def begin(self) -> Iterator[Told]:
        """The beginning of the message, unless that was told."""
        if self.start is not None:
            start, self.start = self.start, None
            yield self.told("message-start", **start)

    def opened(self, id: str) -> int:
        """The place of a block that begins."""
        index = len(self.blocks)
        self.blocks[id] = (index, [])
        return index


class _Messages:
    """The messages of a thread, with the blocks that they are written in.

    A message whose beginning was removed from the log is told when it is written to the state.
    """

    def __init__(self) -> None:
        self._blocks = Blocks()
        self._written: dict[str, _Message] = {}
        self._seen: set[str] = set()

    def start(self, event: LlmStart) -> None:
        """A model's message begins, with the first piece of it."""
        metadata: JsonObject = {"run_id": event.run_id, "thread_id": event.thread_id}
        for name, value in (
            ("provider", event.metadata.get("ls_provider")),
            ("model", event.model or event.metadata.get("ls_model_name")),
        ):
            if isinstance(value, str) and value:
                metadata[name] = value
        start = {"role": "ai", "id": event.message_id, "metadata": metadata}
        self._written[event.message_id] = _Message(event, start)

    def token(self, event: Token) -> Iterator[Told]:
        """A piece of text. The words of audio are none."""
        if event.kind != "transcript":
            yield from self._changed(event.message_id, self._blocks.token(event))

    def reasoning(self, event: Reasoning) -> Iterator[Told]:
        """A piece of the reasoning."""
        return self._changed(event.message_id, self._blocks.reasoning(event))

    def call(self, event: ToolCallDelta) -> Iterator[Told]:
        """A piece of a tool call."""
        return self._changed(event.message_id, self._blocks.call(event))

    def media(self, event: Media) -> Iterator[Told]:
        """An image, audio, video or file."""
        message = self._written.get(event.message_id)
        if message is None:
            return
        fields = ("url", "file_id", "mime_type")
        given = {name: getattr(event, name) for name in fields if getattr(event, name)}
        yield from message.begin()
        yield from _whole_block(message, {"type": event.media, **given})

    def end(self, event: LlmEnd) -> Iterator[Told]:
        """The end of a model's message."""
        yield from self._changed(event.message_id, self._blocks.end(event))
        message = self._written.pop(event.message_id, None)
        if message is None or message.start is not None:
            # Nothing of it was shown, so that it comes whole with what the node writes.
            return
        self._seen.add(event.message_id)
        given = {"finish_reason": event.finish_reason, "model_name": event.model}
        metadata = {name: value for name, value in given.items() if value}
        fields: JsonObject = {} if event.usage is None else {"usage": usage_json(event.usage)}
        yield message.told("message-finish", metadata=metadata, **fields)

    def void(self, message_ids: Iterable[str]) -> Iterator[Told]:
        """The ends of messages that were cut off. Clients keep what they have of one, so its blocks
        end with nothing in them."""
        for message_id in message_ids:
            for _ in self._blocks.void([message_id]):
                pass
            self._seen.discard(message_id)
            message = self._written.pop(message_id, None)
            if message is None or message.start is not None:
                continue
            for index, block in message.shown.items():
                nothing = _finished(block, "", None)
                yield message.told("content-block-finish", index=index, content=nothing)
            yield message.told("error", message=CUT_OFF, code="cut_off")

    def written(self, event: StateUpdate) -> Iterator[Told]:
        """The messages that a node wrote at once. The results of tools are told of as such."""
        for each in messages_in(event.update):
            role = _ROLES.get(each["type"])
            if role is not None and each["id"] not in self._seen:
                self._seen.add(each["id"])
                yield from _whole(_Message(event, {"role": role, "id": each["id"]}), each)

    def _changed(self, message_id: str, changes: Iterable[Change]) -> Iterator[Told]:
        message = self._written.get(message_id)
        for change in changes:
            if message is not None:
                yield from message.begin()
                yield _of_block(message, change)


CUT_OFF: Final = "This message was cut off. Discard it."

_ROLES: Final = {"ai": "ai", "human": "human", "system": "system"}
"""The roles of the kinds of messages that are told at once."""

_DELTAS: Final = {
    Kind.TEXT: ("text-delta", "text"),
    Kind.REASONING: ("reasoning-delta", "reasoning"),
    Kind.CALL: ("tool-call-delta", "args"),
}


def _of_block(message: _Message, change: Change) -> Told:
    block = change.block
    match change:
        case Opened():
            index = message.opened(block.id)
            message.shown[index] = block
            return message.told("content-block-start", index=index, content=_chunk(block, ""))
        case Grown():
            index, pieces = message.blocks[block.id]
            pieces.append(change.text)
            kind, field = _DELTAS[block.kind]
            delta = {"type": kind, field: change.text}
            return message.told("content-block-delta", index=index, delta=delta)
        case Closed():
            index, pieces = message.blocks[block.id]
            content = _finished(block, "".join(pieces), change.args)
            return message.told("content-block-finish", index=index, content=content)


def _chunk(block: Block, text: str) -> JsonObject:
    if block.kind is not Kind.CALL:
        return {"type": block.kind.value, block.kind.value: text}
    return {"type": "tool_call_chunk", "id": block.id, "name": block.tool, "args": text}


def _finished(block: Block, text: str, args: JsonObject | None) -> JsonObject:
    if block.kind is not Kind.CALL:
        return _chunk(block, text)
    call = {"id": block.id, "name": block.tool}
    if args is None:
        return {"type": "invalid_tool_call", **call, "args": text, "error": CUT_OFF}
    return {"type": "tool_call", **call, "args": args}


def _whole(message: _Message, given: JsonObject) -> Iterator[Told]:
    """A message that was written at once."""
    yield from message.begin()
    for kind, text in content_blocks(given["content"]):
        yield from _whole_block(message, {"type": kind.value, kind.value: text})
    for call in given.get("tool_calls") or ():
        fields = {name: call.get(name) for name in ("id", "name", "args")}
        yield from _whole_block(message, {"type": "tool_call", **fields})
    usage = given.get("usage_metadata")
    yield message.told("message-finish", **({"usage": usage} if usage else {}))


def _whole_block(message: _Message, content: JsonObject) -> Iterator[Told]:
    index = message.opened(f"whole-{len(message.blocks)}")
    yield message.told("content-block-start", index=index, content=content)
    yield message.told("content-block-finish", index=index, content=content)
