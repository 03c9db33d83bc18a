"""The dialect of the AI SDK: a turn of a conversation as chunks of one `UIMessage`.

A turn begins with what a person says, and lasts over pauses: what goes on where it has paused
continues the same message. Its steps are the calls of a model; those that overlap share one, since
a client can take back only all of its last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from assent.api.dialects.base import Fold, Foreign, Frame
from assent.api.dialects.blocks import Block, Blocks, Change, Closed, Grown, Kind, Opened
from assent.api.dialects.messages import encode_text
from assent.api.dialects.positions import positions_of
from assent.core.events import (
    ApprovalCancelled,
    ApprovalDecided,
    ApprovalEdited,
    ApprovalEvent,
    ApprovalExpired,
    ApprovalRequired,
    ApprovalSuperseded,
    ApprovalVoted,
    Broadcast,
    BudgetExceeded,
    BudgetWarning,
    Custom,
    Done,
    Error,
    Event,
    LlmEnd,
    LlmError,
    LlmRetry,
    LlmStart,
    Media,
    Reasoning,
    RunCancelled,
    RunRecovered,
    StateUpdate,
    Token,
    ToolCallDelta,
    ToolEnd,
    ToolError,
    ToolProgress,
    ToolStart,
    decode,
    event_type,
)
from assent.core.json import Json, JsonObject, encode_json
from assent.core.text import because
from assent.storage.base import LogEntry

REST = "~rest"
"""The type of an entry that no log has: the turn rests until people have decided."""

AT_REST = LogEntry(0, REST, "", b"")
"""That entry."""

DONE = b"[DONE]"
"""The data of the last frame of a stream that has come to its end."""

ENDS: Mapping[str, str] = {
    "paused": "Somebody must decide first what an earlier turn asks: ask for the stream to see it. "
    "What you said waits behind that.",
    "stopping": "The server stops. The turn goes on when it is back: ask for its stream again.",
    "unavailable": "The storage is away. The turn is kept: ask for its stream again in a while.",
    "gone": "The events of this turn have been removed meanwhile.",
    "failed": "The stream failed, and the turn did not: ask for its stream again.",
    "signed-out": "You may not read this conversation any more.",
}
"""What a client is told of a stream that ends before its turn does."""

Chunk = JsonObject


@dataclass(frozen=True, slots=True)
class Vercel(Foreign):
    """A turn as the message `message_id` of a client that has its events up to the number
    `behind`. They are read all the same, and say what later ones are about."""

    message_id: str
    behind: int = 0

    name = "vercel"
    types = frozenset({
        "run_start", "run_resumed", "run_recovered", "run_cancelled", "done", "error",
        "llm_start", "token", "reasoning", "media", "tool_call_delta",
        "llm_end", "llm_error", "llm_retry",
        "tool_start", "tool_progress", "tool_end", "tool_error",
        "approval_required", "approval_voted", "approval_edited", "approval_decided",
        "approval_expired", "approval_cancelled", "approval_superseded",
        "state_update", "custom", "budget_warning", "budget_exceeded", "broadcast", REST,
    })  # fmt: skip

    def fold(self) -> Fold:
        return _Message(self).frames

    def end(self, reason: str) -> Frame | None:
        if reason in ENDS:
            return Frame("", "", encode_json({"type": "error", "errorText": ENDS[reason]}))
        return Frame("", "", DONE)


class _Asked(Struct):
    """An approval of the turn, and the tool call that shows it; `of` is the call that it is about,
    by its own id. If `is_made`, there is no such call: it was made to show the approval with. A
    `question` is shown by itself. `shown` is what a client gives back."""

    call_id: str = ""
    of: str = ""
    is_made: bool = False
    question: JsonObject = {}
    shown: JsonObject = {}


class _Message:
    """The message as far as later events need it."""

    def __init__(self, turn: Vercel) -> None:
        self._turn = turn
        self._has_begun = False
        self._blocks = Blocks()
        # The block whose text grows, and what its chunks begin with.
        self._block: Block | None = None
        self._head = b""
        # Models whose messages are not complete.
        self._writing: set[str] = set()
        self._step = _Step()
        self._steps = 0
        self._calls: dict[str, _Call] = {}
        self._asked: dict[str, _Asked] = {}
        # By the ids of calls: the calls that are shown in their place.
        self._instead: dict[str, str] = {}

    def frames(self, entry: LogEntry) -> Sequence[Frame]:
        """The frames of the next entry."""
        if entry.type == "token":
            # The hot path.
            event = decode(entry.body)
            assert isinstance(event, Token)
            changes = self._blocks.token(event)
            if len(changes) == 1 and self._has_begun:
                return (Frame(f"{entry.seq}", "", self._grown(changes[0])),)
            return self._framed(entry, self._written(changes))
        if entry.type == REST:
            return self._framed(entry, iter(({"type": "finish", "finishReason": "tool-calls"},)))
        if entry.type in Vercel.types:
            event = decode(entry.body)
            return self._framed(entry, _MADE[event_type(event)](self, event))
        return ()

    def _framed(self, entry: LogEntry, made: Iterable[Chunk | bytes]) -> Sequence[Frame]:
        chunks = [*map(_encoded, made)]
        if 0 < entry.seq <= self._turn.behind:
            return ()
        if not self._has_begun:
            self._has_begun = True
            chunks.insert(0, encode_json({"type": "start", "messageId": self._turn.message_id}))
        if not chunks:
            return ()
        if not entry.seq:
            # What is of no log has no number.
            return [Frame("", "", chunk) for chunk in chunks]
        places = positions_of(entry.seq, len(chunks))
        return [Frame(str(place), "", chunk) for place, chunk in zip(places, chunks, strict=True)]

    # ── models ──

    def _grown(self, change: Change) -> bytes:
        """The chunk of a text that goes on."""
        assert isinstance(change, Grown)
        block = change.block
        if block is not self._block:
            self._block, self._head = block, _head(block)
        text = encode_text(change.text)
        self._step.grow(block.id, block.message_id, self._head, text)
        return self._head + text + b"}"

    def _written(self, changes: Iterable[Change]) -> Iterator[Chunk | bytes]:
        """The chunks of what was written."""
        for change in changes:
            block = change.block
            if isinstance(change, Closed) and change.is_void:
                continue
            if isinstance(change, Grown):
                yield self._grown(change)
            else:
                yield self._kept(block.id, block.message_id, _chunk(change))
            if block.kind is Kind.CALL:
                call = self._calls.setdefault(block.id, _Call(block.tool, self._steps))
                if isinstance(change, Closed):
                    call.args = change.args

    def _kept(
        self, part: str, message_id: str, chunk: Chunk, *, is_preliminary: bool = False
    ) -> bytes:
        encoded = encode_json(chunk)
        self._step.keep(part, message_id, encoded, is_preliminary=is_preliminary)
        return encoded

    def _model_started(self, event: LlmStart) -> Iterator[Chunk | bytes]:
        if not self._writing:
            yield from self._new_step()
        self._writing.add(event.message_id)

    def _new_step(self) -> Iterator[Chunk]:
        # A step that was taken back is begun already.
        if not self._step.is_fresh:
            self._step = _Step(is_fresh=True)
            self._steps += 1
            yield {"type": "start-step"}

    def _reasoned(self, event: Reasoning) -> Iterator[Chunk | bytes]:
        return self._written(self._blocks.reasoning(event))

    def _call_grew(self, event: ToolCallDelta) -> Iterator[Chunk | bytes]:
        return self._written(self._blocks.call(event))

    def _showed(self, event: Media) -> Iterator[Chunk | bytes]:
        if event.url:
            kind = event.mime_type or event.media
            chunk = {"type": "file", "url": event.url, "mediaType": kind}
            yield self._kept(f"{event.message_id}-media-{event.index}", event.message_id, chunk)

    def _model_ended(self, event: LlmEnd) -> Iterator[Chunk | bytes]:
        yield from self._written(self._blocks.end(event))
        yield from self._model_left({event.message_id})

    def _model_left(self, message_ids: set[str]) -> Iterator[Chunk]:
        if self._writing & message_ids:
            self._writing -= message_ids
            if not self._writing and not self._step.is_fresh:
                yield {"type": "finish-step"}

    def _model_failed(self, event: LlmError) -> Iterator[Chunk | bytes]:
        return self._taken_back((event.message_id,))

    def _cut_off(self, event: LlmRetry | RunRecovered) -> Iterator[Chunk | bytes]:
        return self._taken_back(event.message_ids)

    def _taken_back(self, message_ids: Sequence[str]) -> Iterator[Chunk | bytes]:
        """Take back what was written of these messages. A client drops all of its last step, so it
        gets the rest of that again."""
        gone = {*message_ids} - {""}
        for _ in self._blocks.void(gone):
            pass
        if self._step.has_any_of(gone):
            for part in self._step.parts_of(gone):
                self._calls.pop(part, None)
            yield {"type": "reset-step"}
            self._step = self._step.without(gone)
            yield from self._step.chunks()
        yield from self._model_left(gone)

    # ── tools ──

    def _tool_started(self, event: ToolStart) -> Iterator[Chunk | bytes]:
        if event.tool_call_id and event.tool_call_id not in self._calls:
            yield from self._new_call(event.tool_call_id, event.tool, event.input)

    def _new_call(
        self, call_id: str, tool: str, args: Json, *, is_made: bool = False
    ) -> Iterator[Chunk | bytes]:
        """A call that no model has written."""
        self._calls[call_id] = _Call(tool, self._steps, args)
        call = {"toolCallId": call_id, "toolName": tool, **({"dynamic": True} if is_made else {})}
        yield self._kept(call_id, "", {"type": "tool-input-start", **call})
        yield self._kept(call_id, "", {"type": "tool-input-available", **call, "input": args})

    def _tool_progressed(self, event: ToolProgress) -> Iterator[Chunk | bytes]:
        yield from self._output(event.tool_call_id, event.data, is_preliminary=True)

    def _tool_ended(self, event: ToolEnd) -> Iterator[Chunk | bytes]:
        yield from self._output(event.tool_call_id, event.output)

    def _output(
        self, call_id: str, output: Json, *, is_preliminary: bool = False
    ) -> Iterator[Chunk | bytes]:
        chunk = {"type": "tool-output-available", "toolCallId": call_id, "output": output}
        if is_preliminary:
            chunk["preliminary"] = True
        yield from self._answered(call_id, chunk, is_preliminary=is_preliminary)

    def _tool_failed(self, event: ToolError) -> Iterator[Chunk | bytes]:
        error = event.error.message or event.error.type
        chunk = {"type": "tool-output-error", "toolCallId": event.tool_call_id, "errorText": error}
        yield from self._answered(event.tool_call_id, chunk)

    def _answered(
        self, call_id: str, chunk: Chunk, *, is_preliminary: bool = False
    ) -> Iterator[Chunk | bytes]:
        """The answer of a call, if that waits for one."""
        shown = self._instead.get(call_id, call_id)
        call = self._calls.get(shown)
        if call is None or call.is_over:
            return
        call.is_over = not is_preliminary
        chunk = {**chunk, "toolCallId": shown}
        yield self._kept(shown, "", chunk, is_preliminary=is_preliminary)

    def _updated(self, event: StateUpdate) -> Iterator[Chunk | bytes]:
        """What a node wrote at once: messages of a model, and answers of calls that no tool has
        answered."""
        for place, message in enumerate(_new_messages(event.update)):
            if message["type"] == "tool":
                yield from self._answer_written(message)
            elif message.get("id"):
                yield from self._written(self._blocks.whole(event, message))
            elif not event.ns:
                # One of a subgraph comes again, when that ends, and has an id then.
                id = f"{event.run_id}-{event.task_id}-{place}"
                yield from self._written(self._blocks.whole(event, {**message, "id": id}))

    def _answer_written(self, message: JsonObject) -> Iterator[Chunk | bytes]:
        call_id, content = str(message.get("tool_call_id")), message["content"]
        if message.get("status") == "error" and isinstance(content, str):
            chunk = {"type": "tool-output-error", "toolCallId": call_id, "errorText": content}
            yield from self._answered(call_id, chunk)
        else:
            yield from self._output(call_id, content)

    # ── people ──

    def _required(self, event: ApprovalRequired) -> Iterator[Chunk | bytes]:
        if event.kind == "input":
            asked = self._asked[event.approval_id] = _Asked(question=_question(event))
            yield self._question(event, asked)
            return
        of = self._call_of(event)
        asked = self._asked[event.approval_id] = _Asked(self._instead.get(of, of), of)
        if not of:
            # In a step of its own: clients answer as soon as all calls of the last one are decided.
            yield from self._new_step()
            asked.call_id, asked.is_made = event.approval_id, True
            tool = event.tool or event.node or event.kind
            yield from self._new_call(event.approval_id, tool, event.args, is_made=True)
        yield from self._asks(event, _reason(event))

    def _call_of(self, event: ApprovalRequired) -> str:
        """The call that the approval is about, "" if none is known."""
        if event.tool_call_id in self._calls:
            return event.tool_call_id
        if event.tool_call_id or not event.tool:
            return ""
        shown = {asked.of for asked in self._asked.values()}
        for call_id, call in self._calls.items():
            is_free = not call.is_over and call_id not in shown
            if is_free and (call.tool, call.args) == (event.tool, event.args):
                return call_id
        return ""

    def _asks(
        self, event: ApprovalRequired | ApprovalEdited, reason: str
    ) -> Iterator[Chunk | bytes]:
        """The call with the arguments as they are asked, and the request."""
        asked = self._asked[event.approval_id]
        yield from self._shown_with(event.args, asked, event)
        self._calls[asked.call_id].is_over = False
        asked.shown = {**asked.shown, **_shown(event)}
        yield self._request(event, asked, reason)

    def _request(self, event: ApprovalEvent, asked: _Asked, reason: str) -> Chunk | bytes:
        chunk: Chunk = {
            "type": "tool-approval-request",
            "approvalId": event.approval_id,
            "toolCallId": asked.call_id,
            "approvalDescriptor": asked.shown,
        }
        if reason:
            chunk["reason"] = reason
        return self._kept(asked.call_id, "", chunk)

    def _shown_with(
        self, args: Json, asked: _Asked, event: ApprovalEvent
    ) -> Iterator[Chunk | bytes]:
        """The call with these arguments, if it was shown with others. A client can change a call of
        its last step. Of an earlier one it is told that it is over, with another approval's id, and
        it is shown a new one in its place: nobody is to approve what they do not see."""
        call = self._calls[asked.call_id]
        if args == call.args:
            return
        if call.step == self._steps:
            call.args = args
            fields = {"toolCallId": asked.call_id, "toolName": call.tool, "input": args}
            yield self._kept(asked.call_id, "", {"type": "tool-input-available", **fields})
            return
        call.is_over = True
        old = {"toolCallId": asked.call_id}
        id = f"{event.approval_id}-{call.step}"
        yield self._kept(
            asked.call_id, "", {"type": "tool-approval-request", "approvalId": id, **old}
        )
        yield self._kept(asked.call_id, "", {"type": "tool-output-denied", **old})
        yield from self._new_step()
        asked.call_id = f"{event.approval_id}-{self._steps}"
        if asked.of:
            self._instead[asked.of] = asked.call_id
        yield from self._new_call(asked.call_id, call.tool, args, is_made=asked.is_made)

    def _question(self, event: ApprovalEvent, asked: _Asked, **fields: Json) -> Chunk | bytes:
        data = {**asked.question, **fields}
        # One with the same id takes the place of the one before.
        chunk = {"type": "data-interrupt", "id": event.approval_id, "data": data}
        return self._kept(event.approval_id, "", chunk)

    def _voted(self, event: ApprovalVoted) -> Iterator[Chunk | bytes]:
        asked = self._asked.get(event.approval_id)
        if asked is None or not asked.call_id:
            return
        needed = event.quorum - event.votes
        more = "one more person" if needed == 1 else f"{needed} more people"
        reason = f"{event.by} said {event.decision}. It takes {more} to say the same."
        yield self._request(event, asked, reason)

    def _edited(self, event: ApprovalEdited) -> Iterator[Chunk | bytes]:
        asked = self._asked.get(event.approval_id)
        if asked is not None and asked.call_id:
            reason = f"{event.by} has changed the arguments, and others must agree."
            yield from self._asks(event, reason)

    def _decided(self, event: ApprovalDecided) -> Iterator[Chunk | bytes]:
        asked = self._asked.get(event.approval_id)
        if asked is None:
            return
        if not asked.call_id:
            answer = {"decision": event.decision, "by": event.by, "answer": event.message}
            yield self._question(event, asked, status="decided", **answer)
            return
        if event.decision == "edit":
            before = asked.call_id
            yield from self._shown_with(event.args, asked, event)
            if asked.call_id != before:
                yield self._request(event, asked, "")
        yield from self._closed(asked, event, event.decision != "reject", _said(event))
        if asked.is_made and event.decision != "reject":
            yield from self._output(asked.call_id, {"decision": event.decision, "by": event.by})

    def _void(
        self, event: ApprovalExpired | ApprovalCancelled | ApprovalSuperseded
    ) -> Iterator[Chunk | bytes]:
        asked = self._asked.get(event.approval_id)
        if asked is None:
            return
        if not asked.call_id:
            yield self._question(event, asked, status="void", reason=_said(event))
        else:
            yield from self._closed(asked, event, False, _said(event))

    def _closed(
        self, asked: _Asked, event: ApprovalEvent, approved: bool, reason: str
    ) -> Iterator[Chunk | bytes]:
        response = {
            "type": "tool-approval-response",
            "approvalId": event.approval_id,
            "approved": approved,
            "reason": reason,
        }
        yield self._kept(asked.call_id, "", response)
        if not approved:
            denied = {"type": "tool-output-denied", "toolCallId": asked.call_id}
            yield from self._answered(asked.call_id, denied)

    # ── other ──

    def _beside(self, event: Custom | BudgetWarning | BudgetExceeded) -> Iterator[Chunk | bytes]:
        if isinstance(event, Custom):
            chunk = {"type": f"data-{event.name or 'custom'}", "data": event.data}
        else:
            fields = {name: getattr(event, name) for name in ("scope", "budget", "used", "limit")}
            exceeded = isinstance(event, BudgetExceeded)
            chunk = {"type": "data-budget", "data": {**fields, "exceeded": exceeded}}
        yield self._kept(f"{event.seq}", "", chunk)

    def _broadcast(self, event: Broadcast) -> Iterator[Chunk]:
        data = {"message": event.message, "data": event.data, "by": event.by}
        yield {"type": "data-broadcast", "data": data, "transient": True}

    def _over(self, event: Done | Error | RunCancelled) -> Iterator[Chunk | bytes]:
        changes = [each for each in self._blocks.close() if each.block.kind is not Kind.CALL]
        yield from self._written(changes)
        yield from self._model_left({*self._writing})
        match event:
            case Done():
                yield {"type": "finish", "finishReason": "stop"}
            case Error():
                yield {"type": "error", "errorText": event.message}
            case RunCancelled():
                reason = event.reason or "The turn was cancelled."
                yield {"type": "abort", "reason": reason}

    def _nothing(self, event: Event) -> Iterator[Chunk]:
        return iter(())


class _Call(Struct):
    """A tool call that was shown in a step. One that `is_over` has its answer, or was denied."""

    tool: str
    step: int
    args: Json = None
    is_over: bool = False


class _Part:
    """The chunks of a part of the message, which was written in the message `message_id`. Text that
    grows is one chunk, and of outputs that take each other's place only the last one is there: a
    reader holds what was said, and not each word of it."""

    __slots__ = ("_chunks", "_is_preliminary", "head", "message_id", "text")

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        self._chunks: list[bytes] = []
        self._is_preliminary = False
        # The text that grows, in JSON, and what its chunks begin with.
        self.head = b""
        self.text = bytearray()

    def add(self, chunk: bytes, *, is_preliminary: bool) -> None:
        if self.text:
            self._chunks.append(self._grown())
            self.text.clear()
        if self._is_preliminary:
            self._chunks[-1] = chunk
        else:
            self._chunks.append(chunk)
        self._is_preliminary = is_preliminary

    def _grown(self) -> bytes:
        return b"".join((self.head, b'"', self.text, b'"}'))

    def chunks(self) -> Iterator[bytes]:
        yield from self._chunks
        if self.text:
            yield self._grown()


class _Step:
    """The chunks since the last step began, by the part of the message that they are of."""

    def __init__(self, *, is_fresh: bool = False) -> None:
        self._has_begun = is_fresh
        self._parts: dict[str, _Part] = {}

    @property
    def is_fresh(self) -> bool:
        """True if the step has begun, and has nothing."""
        return self._has_begun and not self._parts

    def keep(
        self, part: str, message_id: str, chunk: bytes, *, is_preliminary: bool = False
    ) -> None:
        """Keep what was sent. What is behind it takes the place of what `is_preliminary`."""
        self._part(part, message_id).add(chunk, is_preliminary=is_preliminary)

    def grow(self, part: str, message_id: str, head: bytes, text: bytes) -> None:
        """Keep a piece of a text that grows, as JSON; its chunks begin with the `head`."""
        found = self._parts.get(part) or self._part(part, message_id)
        found.head = head
        found.text += text[1:-1]

    def _part(self, part: str, message_id: str) -> _Part:
        found = self._parts.get(part)
        if found is None:
            found = self._parts[part] = _Part(message_id)
        return found

    def parts_of(self, message_ids: set[str]) -> list[str]:
        """The parts that were written in these messages."""
        return [part for part, kept in self._parts.items() if kept.message_id in message_ids]

    def has_any_of(self, message_ids: set[str]) -> bool:
        """True if something of these messages was sent."""
        return bool(self.parts_of(message_ids))

    def without(self, message_ids: set[str]) -> _Step:
        """The step without these messages."""
        step = _Step(is_fresh=self._has_begun)
        step._parts = {
            part: kept for part, kept in self._parts.items() if kept.message_id not in message_ids
        }
        return step

    def chunks(self) -> Iterator[bytes]:
        """What was sent."""
        for part in self._parts.values():
            yield from part.chunks()


_MADE: Mapping[str, Callable[[_Message, Any], Iterator[Chunk | bytes]]] = {
    "run_start": _Message._nothing,
    "run_resumed": _Message._nothing,
    "run_recovered": _Message._cut_off,
    "run_cancelled": _Message._over,
    "done": _Message._over,
    "error": _Message._over,
    "llm_start": _Message._model_started,
    "reasoning": _Message._reasoned,
    "media": _Message._showed,
    "tool_call_delta": _Message._call_grew,
    "llm_end": _Message._model_ended,
    "llm_error": _Message._model_failed,
    "llm_retry": _Message._cut_off,
    "tool_start": _Message._tool_started,
    "tool_progress": _Message._tool_progressed,
    "tool_end": _Message._tool_ended,
    "tool_error": _Message._tool_failed,
    "state_update": _Message._updated,
    "approval_required": _Message._required,
    "approval_voted": _Message._voted,
    "approval_edited": _Message._edited,
    "approval_decided": _Message._decided,
    "approval_expired": _Message._void,
    "approval_cancelled": _Message._void,
    "approval_superseded": _Message._void,
    "custom": _Message._beside,
    "budget_warning": _Message._beside,
    "budget_exceeded": _Message._beside,
    "broadcast": _Message._broadcast,
}
"""What becomes of an event, by its type."""


# ── chunks ────────────────────────────────────────────────────────────────────────────────────────


def _encoded(chunk: Chunk | bytes) -> bytes:
    return chunk if isinstance(chunk, bytes) else encode_json(chunk)


def _head(block: Block) -> bytes:
    """The chunk of a piece of text, before that."""
    if block.kind is Kind.CALL:
        of_call = b'{"type":"tool-input-delta","toolCallId":%b,"inputTextDelta":'
        return of_call % encode_text(block.id)
    return b'{"type":"%b-delta","id":%b,"delta":' % (block.kind.encode(), encode_text(block.id))


def _chunk(change: Opened | Closed) -> Chunk:
    """The chunk of the beginning or the end of a block."""
    block = change.block
    if block.kind is Kind.CALL:
        return _call_chunk(change)
    return {
        "type": f"{block.kind}-{'start' if isinstance(change, Opened) else 'end'}",
        "id": block.id,
    }


def _call_chunk(change: Opened | Closed) -> Chunk:
    block: Block = change.block
    call = {"toolCallId": block.id, "toolName": block.tool}
    if isinstance(change, Opened):
        return {"type": "tool-input-start", **call}
    if change.args is None:
        error = "The model has written arguments that are no JSON object."
        return {"type": "tool-input-error", **call, "input": None, "errorText": error}
    return {"type": "tool-input-available", **call, "input": change.args}


def _new_messages(update: Json) -> Iterator[JsonObject]:
    """The messages of models and tools in what a node wrote, of the present turn: a subgraph gives
    back the earlier ones too."""
    channels = update.values() if isinstance(update, dict) else ()
    for value in channels:
        listed = value if isinstance(value, list) else [value]
        messages = [each for each in listed if isinstance(each, dict) and "content" in each]
        said = [at for at, each in enumerate(messages) if each.get("type") == "human"]
        for message in messages[said[-1] + 1 if said else 0 :]:
            if message.get("type") in ("ai", "tool"):
                yield message


def _shown(event: ApprovalRequired | ApprovalEdited) -> JsonObject:
    """What a client gives back with its decision, so that it is on what was shown; and what else
    there is to show."""
    shown: JsonObject = {"digest": event.digest, "allowed": event.allowed}
    if event.kind:
        shown["kind"] = event.kind
    if event.expires_at is not None:
        shown["expiresAt"] = event.expires_at
    if isinstance(event, ApprovalRequired):
        beside = {"preview": event.preview, "schema": event.schema, "node": event.node}
        shown |= {name: value for name, value in beside.items() if value}
    return shown


def _question(event: ApprovalRequired) -> JsonObject:
    asked: JsonObject = {"status": "pending", "approvalId": event.approval_id, "value": event.args}
    if event.tool_call_id:
        asked["toolCallId"] = event.tool_call_id
    return {**asked, **_shown(event)}


def _reason(event: ApprovalRequired) -> str:
    preview = event.preview
    text = preview.get("description") if isinstance(preview, dict) else None
    return text if isinstance(text, str) else ""


def _said(event: ApprovalEvent) -> str:
    """What has become of an approval, and by whom, as a sentence."""
    match event:
        case ApprovalDecided():
            by = f" by {event.by}" if event.by else ""
            done = _DECISIONS.get(event.decision, "Decided")
            reason = event.message if event.decision == "reject" else ""
            return f"{done}{by}: {reason}" if reason else f"{done}{by}."
        case ApprovalExpired():
            return "Nobody decided in time."
        case ApprovalSuperseded():
            return f"Nobody need decide any more{because(event.reason)}."
    return "The run was cancelled, so nobody need decide any more."


_DECISIONS = {
    "approve": "Approved",
    "edit": "Approved with changes",
    "reject": "Rejected",
    "respond": "Answered",
}
