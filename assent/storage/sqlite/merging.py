"""Under load, neighbouring pieces of one message become one event. A pure function of what waits
for the writer.

A model's words come as hundreds of small events. As long as the writer keeps up, each is stored and
shown by itself. When it has fallen behind, a reader would get them in one burst anyway; merged,
they cost one number, one row and one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, TypeVar

from msgspec.structs import replace

from assent.core.events import Event, Reasoning, Token, ToolCallDelta
from assent.core.rows import Lease

MERGE_FROM = 256
"""Operations in a batch from which on the writer counts as behind: what comes in during one commit
of an idle disk is far less."""

MAX_CHARACTERS = 16_384
"""In a merged piece, so that a frame stays small beside what a slow reader may cost."""

Piece = Token | Reasoning | ToolCallDelta


class Append(NamedTuple):
    """Events to store, whom to tell if that fails, and the lease that must hold for it."""

    events: Sequence[Event]
    on_error: Callable[[Exception], None]
    lease: Lease | None = None


class Other(Protocol):
    """Whatever else waits."""

    @property
    def threads(self) -> Collection[str] | None:
        """The threads whose events it may add or remove, or whose runs it may write; None if that
        is not known."""


Else = TypeVar("Else", bound=Other)


class _Message:
    """The pieces of one message so far, with none of another kind between them."""

    def __init__(self, append: Append, first: Piece) -> None:
        self._append = append
        self._first = first
        self._texts = [_text(first)]
        self._characters = len(self._texts[0])
        self._open = _is_text(self._texts[0])

    def takes(self, append: Append, piece: Piece) -> bool:
        """Add the piece if it goes on where the last one ended."""
        first, text = self._first, _text(piece)
        goes_on = (
            self._open
            and type(piece) is type(first)
            and piece.message_id == first.message_id
            and piece.index == first.index
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
        """All of it as one event, which happened when the first piece did."""
        if len(self._texts) == 1:
            return self._append
        text = "".join(self._texts)
        whole = (
            replace(self._first, args=text)
            if isinstance(self._first, ToolCallDelta)
            else replace(self._first, content=text)
        )
        return Append((whole,), self._append.on_error, self._append.lease)


def merged(items: Sequence[Append | Else]) -> list[Append | Else]:
    """The items in order, with pieces that follow each other in a message and in their thread made
    one.

    Never across messages, and never past another event of the thread, nor past something else that
    may add one, or end a lease.
    """
    open_: dict[str, _Message] = {}
    result: list[Append | Else | _Message] = []
    for item in items:
        if not isinstance(item, Append):
            _close(open_, item.threads)
        elif len(item.events) == 1 and isinstance(piece := item.events[0], Piece):
            message = open_.get(piece.thread_id)
            if message is not None and message.takes(item, piece):
                continue
            open_[piece.thread_id] = message = _Message(item, piece)
            result.append(message)
            continue
        else:
            _close(open_, [event.thread_id for event in item.events])
        result.append(item)
    return [item.append() if isinstance(item, _Message) else item for item in result]


def _close(open_: dict[str, _Message], threads: Collection[str] | None) -> None:
    if threads is None:
        open_.clear()
    else:
        for thread_id in threads:
            open_.pop(thread_id, None)


def _text(piece: Piece) -> str:
    return piece.args if isinstance(piece, ToolCallDelta) else piece.content


def _begins_a_call(piece: Piece) -> bool:
    return isinstance(piece, ToolCallDelta) and bool(piece.tool_call_id or piece.tool)


def _is_text(text: str) -> bool:
    """Whether it can be stored. Half a surrogate pair cannot, and must not take its neighbours down
    with it."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
