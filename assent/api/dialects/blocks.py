"""The blocks that a model's messages are written in: pieces of text, of reasoning and of tool
calls, for dialects in which each has a beginning and an end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from assent.core.events import LlmEnd, NodeEvent, Reasoning, Token, ToolCallDelta
from assent.core.json import Json, JsonObject, encode_json


class Kind(StrEnum):
    """The kinds of blocks."""

    TEXT = "text"
    REASONING = "reasoning"
    CALL = "call"


class Block(Struct, frozen=True):
    """A block of the message `message_id`, in the graph or in the subgraph `ns`. Its `id` is that
    of no other block; that of a call is the tool call's, and `tool` is what it calls."""

    kind: Kind
    id: str
    message_id: str
    ns: tuple[str, ...] = ()
    tool: str = ""


class Opened(NamedTuple):
    """A block begins."""

    block: Block


class Grown(NamedTuple):
    """A block goes on with this text; that of a call is a piece of the JSON of its arguments."""

    block: Block
    text: str


class Closed(NamedTuple):
    """A block ends. `args` are those of a call, None if it is none that can be made. If `is_void`,
    its message was cut off, and what was told of it is to be discarded."""

    block: Block
    args: JsonObject | None = None
    is_void: bool = False


Change = Opened | Grown | Closed


class _Message:
    """The blocks of a message that are open, and the number of those that there were."""

    __slots__ = ("begun", "calls", "index", "open")

    def __init__(self) -> None:
        self.open: Block | None = None
        self.index = 0
        self.calls: dict[int, Block] = {}
        self.begun = 0


class Blocks:
    """The blocks of the messages of a log, in the order of its events.

    A message has one open block of text or reasoning at a time: one of the other kind, or a call,
    ends it. Calls are open side by side until the message is complete.
    """

    def __init__(self) -> None:
        self._messages: dict[str, _Message] = {}
        self._with_text: set[str] = set()
        # By the id of a call: that of its message.
        self._calls: dict[str, str] = {}

    # ── pieces ──

    def token(self, event: Token) -> Sequence[Change]:
        """The changes that a piece of a text makes."""
        message = self._messages.get(event.message_id)
        if message is not None and message.open is not None and message.open.kind is Kind.TEXT:
            # The hot path.
            return (Grown(message.open, event.content),)
        self._with_text.add(event.message_id)
        return [*self._turned(event, event.message_id, Kind.TEXT, event.index, event.content)]

    def reasoning(self, event: Reasoning) -> Sequence[Change]:
        """The changes that a piece of the reasoning makes: each `index` is a block of its own."""
        message = self._messages.get(event.message_id)
        block = message.open if message is not None and message.index == event.index else None
        if block is not None and block.kind is Kind.REASONING:
            return (Grown(block, event.content),)
        return [*self._turned(event, event.message_id, Kind.REASONING, event.index, event.content)]

    def call(self, event: ToolCallDelta) -> Iterator[Change]:
        """The changes that a piece of a tool call makes. What belongs to none is left out: the
        complete message has the call again."""
        message = self._message(event.message_id)
        block = message.calls.get(event.index)
        if event.tool_call_id and (block is None or block.id != event.tool_call_id):
            if block is not None:
                yield Closed(block)
            yield from _closed_text(message)
            block = self._new_call(event, event.message_id, event.tool_call_id, event.tool)
            message.calls[event.index] = block
            yield Opened(block)
        if block is not None and event.args:
            yield Grown(block, event.args)

    def end(self, event: LlmEnd) -> Iterator[Change]:
        """The ends of the blocks of a message that is complete, and whole the calls that it has
        without pieces."""
        message = self._ended(event.message_id)
        yield from _closed_text(message)
        args: dict[str, JsonObject] = {call.id: call.args for call in event.tool_calls}
        for block in message.calls.values():
            yield Closed(block, args.get(block.id))
        for call in event.tool_calls:
            yield from self._whole_call(event, event.message_id, call.id, call.name, call.args)

    # ── whole messages ──

    def whole(self, event: NodeEvent, message: JsonObject) -> Iterator[Change]:
        """The blocks of an `ai` message that a node wrote at once, as LangChain has it in JSON.
        What its pieces have told is left out."""
        message_id = message["id"]
        if message_id not in self._with_text:
            self._with_text.add(message_id)
            for kind, text in content_blocks(message["content"]):
                index = self._message(message_id).begun
                yield from self._turned(event, message_id, kind, index, text)
        yield from _closed_text(self._ended(message_id))
        for call in message.get("tool_calls") or ():
            yield from self._whole_call(
                event, message_id, call.get("id") or "", call["name"], call["args"]
            )

    def _whole_call(
        self, event: NodeEvent, message_id: str, call_id: str, tool: str, args: JsonObject
    ) -> Iterator[Change]:
        if not call_id or call_id in self._calls:
            return
        block = self._new_call(event, message_id, call_id, tool)
        yield Opened(block)
        yield Grown(block, encode_json(args).decode())
        yield Closed(block, args)

    # ── ends ──

    def void(self, message_ids: Iterable[str]) -> Iterator[Closed]:
        """The ends of the blocks of messages that were cut off. They may be told anew."""
        for message_id in message_ids:
            self._with_text.discard(message_id)
            for call_id in [id for id, its in self._calls.items() if its == message_id]:
                del self._calls[call_id]
            yield from self._closed(message_id, is_void=True)

    def close(self) -> Iterator[Closed]:
        """The ends of all blocks."""
        for message_id in [*self._messages]:
            yield from self._closed(message_id)

    def _closed(self, message_id: str, *, is_void: bool = False) -> Iterator[Closed]:
        message = self._messages.pop(message_id, None)
        if message is None:
            return
        for block in (message.open, *message.calls.values()):
            if block is not None:
                yield Closed(block, is_void=is_void)

    # ── parts ──

    def _message(self, message_id: str) -> _Message:
        return self._messages.setdefault(message_id, _Message())

    def _ended(self, message_id: str) -> _Message:
        message = self._messages.pop(message_id, None)
        return message if message is not None else _Message()

    def _turned(
        self, event: NodeEvent, message_id: str, kind: Kind, index: int, text: str
    ) -> Iterator[Change]:
        """The end of what is open, and a block of this kind that begins with the text."""
        message = self._message(message_id)
        yield from _closed_text(message)
        id = f"{message_id}-{message.begun}"
        message.begun += 1
        message.index = index
        message.open = Block(kind, id, message_id, event.ns)
        yield Opened(message.open)
        yield Grown(message.open, text)

    def _new_call(self, event: NodeEvent, message_id: str, call_id: str, tool: str) -> Block:
        self._calls[call_id] = message_id
        return Block(Kind.CALL, call_id, message_id, event.ns, tool)


def _closed_text(message: _Message) -> Iterator[Closed]:
    if message.open is not None:
        yield Closed(message.open)
        message.open = None


_TEXTS = {
    "text": (Kind.TEXT, "text"),
    "refusal": (Kind.TEXT, "refusal"),
    "reasoning": (Kind.REASONING, "reasoning"),
    "thinking": (Kind.REASONING, "thinking"),
}
"""By the type of a block of content: what it is here, and where its text is."""


def content_blocks(content: Json) -> Iterator[tuple[Kind, str]]:
    """The texts and the reasoning in a message's content, in their order."""
    for each in content if isinstance(content, list) else (content,):
        block = {"type": "text", "text": each} if isinstance(each, str) else each
        named = _TEXTS.get(str(block.get("type"))) if isinstance(block, dict) else None
        if named is None:
            continue
        kind, name = named
        text = block.get(name)
        if text and isinstance(text, str):
            yield kind, text
