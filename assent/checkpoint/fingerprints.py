"""Finds out whether a list has changed since it was stored, also in its old items, at 0.15 us an
item.

A node may change a message in place, so that it is the same object with another content.
Serializing the whole list at every step would find that, at 2 us a message. Encoding a message's
fields, without the detour through pydantic, and hashing them is as exact, and fast enough to be
done for every item at every step.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any

import msgspec
import xxhash
from langchain_core import messages
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

MESSAGES: frozenset[type] = frozenset(
    {
        messages.AIMessage,
        messages.AIMessageChunk,
        messages.ChatMessage,
        messages.FunctionMessage,
        messages.HumanMessage,
        messages.RemoveMessage,
        messages.SystemMessage,
        messages.ToolMessage,
    }
)
"""Classes whose objects hold nothing but their fields, one of which names the class. A subclass
might hold anything."""

COUNTS_REFERENCES = sys.implementation.name == "cpython"
"""True if `sys.getrefcount` is exact."""

_fields_and_extras = attrgetter("__dict__", "__pydantic_extra__")
_fields = attrgetter("__dict__")
_extras = attrgetter("__pydantic_extra__")
_set_fields = attrgetter("__pydantic_fields_set__")
_IMMUTABLE = frozenset({str, int, float, bool, type(None)})


Hashes = list[bytes] | None
"""A hash of each item of a list, by which items are found again that were moved, or stand beside
one that was changed. None for a list of plain values, which are serialized faster than hashed one
by one: the list has one hash, and is stored anew unless it has only grown."""


class Fingerprint:
    """The hash of a list so far: of its items, or of its messages' fields and of their extras,
    which are what else was set on them. It `is_plain` while the encoder knows all that is in it."""

    __slots__ = ("extras", "fields", "is_plain")

    def __init__(self) -> None:
        self.fields = xxhash.xxh3_128()
        self.extras = xxhash.xxh3_128()
        self.is_plain = True

    def digest(self) -> bytes:
        return self.fields.digest() + self.extras.digest()


class Fingerprints:
    """Hashes lists and their items. Not to be used by two threads at once."""

    def __init__(self) -> None:
        self._serializer = JsonPlusSerializer(allowed_msgpack_modules=None)
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._unknown)
        self._met_unknown = False

    def of(self, items: list[Any]) -> Fingerprint | None:
        """The hash of a list, to which more may be added.

        None if the list holds something that can only be compared as the serializer writes it.
        """
        fingerprint = Fingerprint()
        return fingerprint if self.add(fingerprint, items) else None

    def add(self, fingerprint: Fingerprint, items: list[Any]) -> bool:
        """Add items to the end of a list; False if that is impossible."""
        if not items:
            return True
        self._met_unknown = False
        try:
            if are_messages(items):
                fingerprint.is_plain = False
                # Two passes over existing objects. A pair for each message would be work for the
                # garbage collector.
                fingerprint.fields.update(self._encoded(list(map(_fields, items))))
                fingerprint.extras.update(self._encoded(list(map(_extras, items))))
            else:
                fingerprint.fields.update(self._encoded(items))
        except Exception:
            return False
        if self._met_unknown:
            fingerprint.is_plain = False
        return True

    def _unknown(self, value: Any) -> tuple[str, bytes]:
        # What the encoder does not know (a model, a Send) is encoded as it is stored.
        self._met_unknown = True
        return self._serializer.dumps_typed(value)

    def _encoded(self, items: list[Any]) -> memoryview:
        """The items without the header that counts them, so that the hash of a list goes on where
        that of its beginning stopped."""
        header = 1
        if len(items) >= 16:
            header = 3 if len(items) < 65536 else 5
        return memoryview(self._encoder.encode(items))[header:]

    def digest(self, items: list[Any]) -> bytes | None:
        """The hash of a whole list; None as in `of`."""
        fingerprint = self.of(items)
        return fingerprint.digest() if fingerprint else None

    def each(
        self, items: list[Any], fingerprint: Fingerprint | None, known: Hashes = None
    ) -> Hashes:
        """The hashes of the items of a list with this fingerprint. Those of the first may be known
        already.

        Raises what the serializer raises if an item cannot be stored.
        """
        if fingerprint is not None and fingerprint.is_plain:
            return None
        known = known or []
        return known + [self._one(item) for item in items[len(known) :]]

    def _one(self, item: Any) -> bytes:
        try:
            held = _fields_and_extras(item) if type(item) in MESSAGES else item
            data = self._encoder.encode(held)
        except Exception:
            _, data = self._serializer.dumps_typed(item)
        return bytes(xxhash.xxh3_128_digest(data))


def are_messages(items: Sequence[Any]) -> bool:
    """True if every item is of one of LangChain's own message classes."""
    return MESSAGES.issuperset(map(type, items))


def are_held_elsewhere(items: Sequence[Any]) -> bool:
    """True if anybody may hold one of the items, apart from the one list that they are in."""
    # Reference counts alone answer this faster than the items can be copied: neither an object nor
    # a weak reference to it knows who holds it, and `gc.get_referrers` walks the heap. Where there
    # are no counts, every list is copied.
    if not COUNTS_REFERENCES:
        return True
    # The probe is held by its list alone, so its count is the one to expect, with the references
    # that counting itself takes.
    probe = [object()]
    return max(map(sys.getrefcount, items), default=0) > max(map(sys.getrefcount, probe))


def copies(items: Sequence[Any]) -> list[Any]:
    """New messages that share nothing with the old ones that could be changed in place, short of
    objects that are not JSON. 1.3 us each, a fifth of the time that their constructors take."""
    new: list[Any] = list(map(object.__new__, map(type, items)))
    _assign(new, "__dict__", map(_deep_copy, map(_fields, items)))
    _assign(new, "__pydantic_extra__", map(_deep_copy, map(_extras, items)))
    _assign(new, "__pydantic_fields_set__", map(set.copy, map(_set_fields, items)))
    _assign(new, "__pydantic_private__", repeat(None))
    return new


def _deep_copy(value: Any) -> Any:
    # The check beside each element spares a call for most of them.
    if type(value) is dict:
        return {
            key: each if type(each) in _IMMUTABLE else _deep_copy(each)
            for key, each in value.items()
        }
    if type(value) is list:
        return [each if type(each) in _IMMUTABLE else _deep_copy(each) for each in value]
    return value


def _assign(objects: Sequence[Any], name: str, values: Iterable[Any]) -> None:
    deque(map(object.__setattr__, objects, repeat(name), values), maxlen=0)
