"""Merging: under load, neighbouring pieces of one message become one event. A pure function of the
items that wait for the writer.

A model's words come as hundreds of small events. While the writer and the event loop keep up, each
is stored and shown by itself. Once one of them has fallen behind, readers would get them in one
burst anyway; merged, they cost one number, one row and one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from assent.core.events import Event, Reasoning, Token, ToolCallDelta
from assent.core.rows import Lease

MERGE_FROM = 256
"""With more operations than that in a batch, the writer counts as behind. Far fewer arrive during
one commit of an idle disk."""

MAX_CHARACTERS = 16_384
"""The most characters of a merged piece, so that a frame stays small for slow readers."""

Piece = Token | Reasoning | ToolCallDelta


class Append(Struct, frozen=True):
    """Events to store, the callback if that fails, and the lease that must hold for it."""

    events: Sequence[Event]
    on_error: Callable[[Exception], None]
    lease: Lease | None = None


class Other(Protocol):
    """Anything else that waits for the writer."""

    @property
    def threads(self) -> Collection[str] | None:
        """The threads whose events it may add or remove, or whose runs it may write; None if that
        is not known."""


OtherT = TypeVar("OtherT", bound=Other)


def is_piece(item: object) -> bool:
    """True if the item is a piece of a message, and nothing else."""
    return isinstance(item, Append) and len(item.events) == 1 and isinstance(item.events[0], Piece)


def merged(items: Sequence[Append | OtherT]) -> list[Append | OtherT]:
    """Merge consecutive pieces of one message, and keep the order of the items.

    A piece never moves past another event of its thread, nor past another item that may add one or
    end a lease.
    """
    growing: dict[str, _Message] = {}
    result: list[Append | OtherT | _Message] = []
    for item in items:
        if not isinstance(item, Append):
            _end(growing, item.threads)
        elif len(item.events) == 1 and isinstance(piece := item.events[0], Piece):
            message = growing.get(piece.thread_id)
            if message is not None and message.takes(item, piece):
                continue
            growing[piece.thread_id] = message = _Message(item, piece)
            result.append(message)
            continue
        else:
            _end(growing, [event.thread_id for event in item.events])
        result.append(item)
    return [item.append() if isinstance(item, _Message) else item for item in result]


def _end(growing: dict[str, _Message], threads: Collection[str] | None) -> None:
    if threads is None:
        growing.clear()
    else:
        for thread_id in threads:
            growing.pop(thread_id, None)


class _Message:
    """Consecutive pieces of one message."""

    def __init__(self, append: Append, first: Piece) -> None:
        self._append = append
        self._first = first
        self._texts = [_text(first)]
        self._characters = len(self._texts[0])
        self._can_grow = _is_text(self._texts[0])

    def takes(self, append: Append, piece: Piece) -> bool:
        """Add the piece if it goes on where the last one ended. False if it does not."""
        first, text = self._first, _text(piece)
        goes_on = (
            self._can_grow
            and type(piece) is type(first)
            and piece.message_id == first.message_id
            and piece.index == first.index
            and _kind(piece) == _kind(first)
            and piece.task_id == first.task_id
            and piece.run_id == first.run_id
            and piece.attempt == first.attempt
            and piece.node == first.node
            and piece.ns == first.ns
            and not _begins_a_call(piece)
            and append.on_error == self._append.on_error
            and append.lease == self._append.lease
            and self._characters + len(text) <= MAX_CHARACTERS
            and _is_text(text)
        )
        if goes_on:
            self._texts.append(text)
            self._characters += len(text)
        return goes_on

    def append(self) -> Append:
        """All pieces as one event, with the time of the first."""
        if len(self._texts) == 1:
            return self._append
        field = "args" if isinstance(self._first, ToolCallDelta) else "content"
        whole = replace(self._first, **{field: "".join(self._texts)})
        return replace(self._append, events=(whole,))


def _text(piece: Piece) -> str:
    return piece.args if isinstance(piece, ToolCallDelta) else piece.content


def _kind(piece: Piece) -> str:
    return piece.kind if isinstance(piece, Token) else ""


def _begins_a_call(piece: Piece) -> bool:
    return isinstance(piece, ToolCallDelta) and bool(piece.tool_call_id or piece.tool)


def _is_text(text: str) -> bool:
    """False if the text cannot be stored, such as half a surrogate pair. Its neighbours must not
    fail with it."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
