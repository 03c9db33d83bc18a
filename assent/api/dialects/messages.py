"""Messages as LangChain writes them in JSON: pieces of a model's message while it is written, and
what has come of it so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import msgspec
from langchain_core.messages import AIMessageChunk, ToolCallChunk
from langchain_core.messages.tool import tool_call_chunk
from pydantic_core import from_json

from assent.core.events import LlmEnd, Reasoning, Token, ToolCall, ToolCallDelta, Usage
from assent.core.json import Json, JsonObject, encode_json

MESSAGE_TYPES = frozenset({"human", "ai", "system", "tool", "function", "remove", "chat"})
"""The `type` of each kind of message."""

_NO_PIECE: JsonObject = {
    "additional_kwargs": {},
    "response_metadata": {},
    "type": "AIMessageChunk",
    "name": None,
    "tool_calls": [],
    "invalid_tool_calls": [],
    "usage_metadata": None,
    "tool_call_chunks": [],
    "chunk_position": None,
}


def messages_in(update: Json) -> Iterator[JsonObject]:
    """The messages in what a node wrote, in their order."""
    channels = update.values() if isinstance(update, dict) else ()
    for value in channels:
        for each in value if isinstance(value, list) else (value,):
            if is_message(each):
                yield each


def is_message(value: Any) -> bool:
    """True for a message that has an id."""
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        return False
    return value.get("type") in MESSAGE_TYPES and "content" in value


def removed(message_id: str) -> JsonObject:
    """The message by which clients drop the one with this id."""
    return {"type": "remove", "id": message_id, "content": ""}


def usage_json(usage: Usage | None) -> JsonObject | None:
    """The numbers of tokens as a message's `usage_metadata`."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "input_token_details": {
            "cache_read": usage.cache_read_tokens,
            "cache_creation": usage.cache_write_tokens,
        },
        "output_token_details": {"reasoning": usage.reasoning_tokens},
    }


class Writing:
    """A message of a model while it is written.

    Its content is a text, or a list of blocks once there was reasoning: clients merge the pieces of
    a list by their `index`, and would make a block of each text behind one.
    """

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        self._has_blocks = False
        self._text: list[str] = []
        self._blocks: dict[int, JsonObject] = {}
        self._calls: dict[int, JsonObject] = {}
        self._end: LlmEnd | None = None

    @property
    def has_blocks(self) -> bool:
        """True if its content is a list of blocks."""
        return self._has_blocks

    # ── pieces ──

    def token(self, event: Token) -> JsonObject | None:
        """The piece for a token; None for one that is no part of the content."""
        if event.kind == "refusal":
            return self._piece(additional_kwargs={"refusal": event.content})
        if event.kind:
            return None
        if not self._has_blocks:
            self._text.append(event.content)
            return self._piece(content=event.content)
        return self._piece(content=[self._add("text", event.index, event.content)])

    def reasoning(self, event: Reasoning) -> JsonObject:
        """The piece for a part of the reasoning."""
        if not self._has_blocks:
            self._has_blocks = True
            if self._text:
                # It is in front of all blocks, whatever their numbers.
                self._blocks[-1] = {"type": "text", "text": "".join(self._text), "index": -1}
        return self._piece(content=[self._add("reasoning", event.index, event.content)])

    def call(self, event: ToolCallDelta) -> JsonObject:
        """The piece for a part of a tool call."""
        call = self._calls.setdefault(event.index, {"id": None, "name": "", "args": ""})
        call["id"] = event.tool_call_id or call["id"]
        call["name"] += event.tool
        call["args"] += event.args
        chunk = tool_call_chunk(
            name=event.tool or None,
            args=event.args,
            id=event.tool_call_id or None,
            index=event.index,
        )
        return self._piece(**_as_chunks([chunk]))

    def end(self, event: LlmEnd) -> JsonObject:
        """The last piece: how it ended, and what it has used."""
        self._end = event
        # Those of a message that did not come in pieces.
        chunks = [] if self._calls else list(map(_whole_call, count(), event.tool_calls))
        return self._piece(
            **_as_chunks(chunks),
            response_metadata=_response_metadata(event),
            usage_metadata=usage_json(event.usage),
            chunk_position="last",
        )

    def _piece(self, **fields: Json) -> JsonObject:
        return {"content": "", **_NO_PIECE, "id": self.message_id, **fields}

    def _add(self, kind: str, index: int, text: str) -> JsonObject:
        block = self._blocks.setdefault(index, {"type": kind, kind: "", "index": index})
        block[kind] = block.get(kind, "") + text
        return {"type": kind, kind: text, "index": index}

    # ── as a whole ──

    def so_far(self) -> JsonObject:
        """The message as it stands."""
        end = self._end
        return {
            "content": self._content(),
            "additional_kwargs": {},
            "response_metadata": _response_metadata(end) if end else {},
            "type": "ai",
            "name": None,
            "id": self.message_id,
            "tool_calls": self._tool_calls(),
            "invalid_tool_calls": [],
            "usage_metadata": usage_json(end.usage) if end else None,
        }

    def _content(self) -> Json:
        if self._has_blocks:
            return [self._blocks[index] for index in sorted(self._blocks)]
        return "".join(self._text)

    def _tool_calls(self) -> Sequence[JsonObject]:
        if self._end is not None:
            return [
                {"name": call.name, "args": call.args, "id": call.id, "type": "tool_call"}
                for call in self._end.tool_calls
            ]
        return [
            {**call, "args": args_so_far(call["args"]), "type": "tool_call"}
            for call in self._calls.values()
        ]


def _whole_call(index: int, call: ToolCall) -> ToolCallChunk:
    args = encode_json(call.args).decode()
    return tool_call_chunk(name=call.name, args=args, id=call.id, index=index)


def _as_chunks(chunks: list[ToolCallChunk]) -> JsonObject:
    """The fields of a piece that has these pieces of tool calls: LangChain reads of each what it
    can."""
    if not chunks:
        return {}
    piece = AIMessageChunk(content="", tool_call_chunks=chunks)
    return {
        "tool_calls": piece.tool_calls,
        "invalid_tool_calls": piece.invalid_tool_calls,
        "tool_call_chunks": chunks,
    }


def args_so_far(text: str) -> JsonObject:
    """The arguments in a JSON text that is not complete yet."""
    try:
        args = from_json(text or "{}", allow_partial="trailing-strings")
    except ValueError:
        return {}
    return args if isinstance(args, dict) else {}


def _response_metadata(end: LlmEnd) -> JsonObject:
    fields = {"finish_reason": end.finish_reason, "model_name": end.model}
    return {name: value for name, value in fields.items() if value}


def piece_ends(message_id: str) -> tuple[bytes, bytes]:
    """The JSON of a piece before and behind its text: with that between them, it is what
    `Writing.token` makes of a token, and much quicker to make."""
    piece = encode_json({"content": "", **_NO_PIECE, "id": message_id})
    before, _, behind = piece.partition(b'""')
    return before, behind


encode_text = msgspec.json.Encoder().encode
"""A text as JSON."""
