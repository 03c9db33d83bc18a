"""Lists of a state that are only shown, and the JSON that was made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

SHOWN_KEY = "__assent_shown"
"""The key in `config["configurable"]` by which the checkpointer is told that a state is only looked
at, and at once."""

BLOCK = 64
"""The items of a list whose JSON is kept as one text: fewer would be more to join each time, and of
more, more would be copied as the list grows."""


class Block(NamedTuple):
    """The JSON of up to `BLOCK` neighbouring items, with commas in between, and where that of each
    ends."""

    encoded: bytes
    ends: tuple[int, ...]

    def first(self, count: int) -> bytes:
        """The JSON of the first items."""
        return self.encoded if count == len(self.ends) else self.encoded[: self.ends[count - 1]]

    def up_to(self, count: int) -> Block:
        """The same without the items behind the first ones."""
        return Block(self.first(count), self.ends[:count]) if count < len(self.ends) else self

    def with_more(self, items: Sequence[bytes]) -> Block:
        """The same with more items."""
        ends = list(self.ends)
        for item in items:
            ends.append((ends[-1] + 1 if ends else 0) + len(item))
        known = [self.encoded] if self.ends else []
        return Block(b",".join([*known, *items]), tuple(ends))


EMPTY = Block(b"", ())

Blocks = list[Block]
"""The JSON of the first items of a list, block by block. Only the last may have fewer than
`BLOCK`."""


def first_blocks(blocks: Blocks, count: int) -> Blocks:
    """Those of the first `count` items."""
    whole, rest = divmod(count, BLOCK)
    return [*blocks[:whole], *(each.up_to(rest) for each in blocks[whole : whole + 1] if rest)]


class Shown(list[Any]):
    """A list of messages that the storage and others hold too, so it is looked at before anything
    else is awaited, and not changed.

    `made` is the JSON of the messages, and maybe of more behind them, as far as it was made.
    Whoever makes it adds to it. It is kept as long as the storage remembers the list, and in what
    the list grows to, so that a message is encoded once, and not each time that its thread is
    shown.
    """

    __slots__ = ("made",)

    def __init__(self, items: Sequence[Any], made: Blocks) -> None:
        super().__init__(items)
        self.made = made


def first_of(items: list[Any], count: int) -> list[Any]:
    """The first items of the list, shown too if it is."""
    return Shown(items[:count], items.made) if isinstance(items, Shown) else items[:count]
