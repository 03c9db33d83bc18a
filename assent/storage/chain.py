"""The audit chain: each record's MAC covers the record and the MAC before it, so nothing can be
changed, taken out or put in unnoticed.

    mac = HMAC-SHA256(secret, previous mac ‖ RFC 8785 form of the record without its mac)

The first record's previous MAC is 32 zero bytes. What no chain can show by itself is that its end
was cut off: for that a head, the number and MAC of the last record at some time, is kept where
whoever has the database cannot write. Pure functions and a fold, no I/O.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import rfc8785

from assent.core.clock import time_text
from assent.core.errors import InvalidRequest
from assent.core.rows import AuditEntry, AuditHead, AuditRecord

Json = dict[str, Any]

GENESIS = bytes(32)
"""What stands in the place of the MAC before the first record."""


@dataclass(frozen=True, slots=True)
class AuditKey:
    """A secret, and the id by which records name it."""

    id: str
    secret: bytes = field(repr=False)

    def proof(self) -> bytes:
        """What tells whether another key is this one, and nothing of the secret."""
        return hmac.digest(self.secret, b"assent audit key " + self.id.encode(), "sha256")

    def mac(self, previous: bytes, number: int, entry: AuditEntry) -> bytes:
        """What binds the entry to its place. Raises `ValueError` for a detail that has no RFC 8785
        form, such as a 64-bit integer."""
        return hmac.digest(
            self.secret, previous + rfc8785.dumps(_signed(number, entry, self.id)), "sha256"
        )

    def added(self, head: AuditHead | None, entry: AuditEntry) -> AuditRecord:
        """The entry as the record behind the head."""
        number, previous = (head.number + 1, bytes.fromhex(head.mac)) if head else (1, GENESIS)
        return AuditRecord(
            number=number, entry=entry, key=self.id, mac=self.mac(previous, number, entry).hex()
        )


def head_of(record: AuditRecord) -> AuditHead:
    """The end of a chain whose last record this is."""
    return AuditHead(number=record.number, mac=record.mac, key=record.key, at=record.entry.at)


def record_to_json(record: AuditRecord) -> Json:
    """The record as a JSON object: what is signed, and the `mac`."""
    return {**_signed(record.number, record.entry, record.key), "mac": record.mac}


def head_to_json(head: AuditHead) -> Json:
    """The head as a JSON object."""
    return {"number": head.number, "mac": head.mac, "key": head.key, "at": time_text(head.at)}


def _signed(number: int, entry: AuditEntry, key: str) -> Json:
    return {
        "number": number,
        "at": time_text(entry.at),
        "action": entry.action.value,
        "actor": entry.actor,
        "authentication": entry.authentication.value,
        "thread_id": entry.thread_id,
        "approval_id": entry.approval_id,
        "run_id": entry.run_id,
        "digest": entry.digest,
        "policy": entry.policy,
        "detail": dict(entry.detail),
        "key": key,
    }


# ── heads ─────────────────────────────────────────────────────────────────────────────────────────

Heads = Mapping[int, frozenset[str]]
"""The MACs that were the chain's head at each number. More than one of a number cannot all be
right."""


def heads_from_text(text: str) -> Heads:
    """Heads, one in each line: as JSON (`{"number": 12, "mac": "…"}`), or `12:mac`. Raises
    `InvalidRequest` for anything else, or none."""
    heads: dict[int, frozenset[str]] = {}
    for at, line in enumerate(text.splitlines(), 1):
        if line.strip():
            number, mac = _head(line.strip(), at)
            heads[number] = heads.get(number, frozenset()) | {mac}
    if not heads:
        raise InvalidRequest(
            "There is no head in it. A head is a line like 12:ab34…, or the JSON that Assent has written."
        )
    return heads


def _head(line: str, at: int) -> tuple[int, str]:
    try:
        if line.startswith("{"):
            read = orjson.loads(line)
            number, mac = read["number"], read["mac"]
        else:
            before, _, mac = line.partition(":")
            number = int(before)
        if type(number) is int and number > 0 and len(bytes.fromhex(mac)) == len(GENESIS):
            return number, mac.lower()
    except (KeyError, TypeError, ValueError):
        pass
    raise InvalidRequest(
        f"Line {at} is no head: {line[:80]!r}. A head is a line like 12:ab34…, or the JSON that Assent has written."
    )


# ── verifying ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Broken:
    """The first record that is not what Assent wrote there: its number, and a sentence that says
    what is wrong."""

    number: int
    sentence: str


class Verification:
    """Looks at one record after another, in the order of their numbers. The first that is wrong is
    `broken`, and ends it.

    `unchecked` counts the records signed with keys that are not at hand, by key: of those it is
    known only that none is missing.
    """

    def __init__(self, keys: Collection[AuditKey], heads: Heads | None = None) -> None:
        self._keys = {key.id: key for key in keys}
        self._heads = heads or {}
        self._number = 0
        self._mac = GENESIS
        self.last: AuditRecord | None = None
        self.broken: Broken | None = None
        self.unchecked: Counter[str] = Counter()

    def add(self, number: int, record: AuditRecord | None) -> bool:
        """Look at the record that stands under this number, None if it cannot even be read; return
        whether to go on."""
        if self.broken is None:
            self.broken = self._problem(number, record)
        if self.broken is None and record is not None:
            self._number, self._mac, self.last = number, bytes.fromhex(record.mac), record
        return self.broken is None

    def end(self) -> Broken | None:
        """There are no more records. What is wrong, if anything is."""
        cut = sorted(number for number in self._heads if number > self._number)
        if self.broken is None and cut:
            self.broken = Broken(
                self._number + 1,
                f"Row {self._number + 1} is missing, and all behind it: the chain ends with row {self._number}, and row {cut[-1]} has been "
                "its head. Its end was cut off.",
            )
        return self.broken

    def _problem(self, number: int, record: AuditRecord | None) -> Broken | None:
        expected = self._number + 1
        if number < expected:
            return Broken(number, f"Row {number} was put in: the chain begins with row 1.")
        if number > expected:
            which = (
                f"Row {expected} is"
                if number == expected + 1
                else f"The rows {expected} to {number - 1} are"
            )
            return Broken(expected, f"{which} missing: the next is row {number}.")
        if record is None or record.number != number or not self._is_signed(record):
            return Broken(
                number,
                f"Row {number} is not what Assent wrote there: it was changed, moved, or put in.",
            )
        if any(mac != record.mac for mac in self._heads.get(number, ())):
            return Broken(
                number,
                f"Row {number} is not the row {number} that has been the chain's head: rows were cut off there, and others written.",
            )
        return None

    def _is_signed(self, record: AuditRecord) -> bool:
        key = self._keys.get(record.key)
        if key is None:
            self.unchecked[record.key] += 1
            return True
        try:
            made = key.mac(self._mac, record.number, record.entry)
        except ValueError:
            return False
        return hmac.compare_digest(made, bytes.fromhex(record.mac))


def unchecked_sentence(unchecked: Mapping[str, int]) -> str:
    """What to say of records that could not be checked."""
    parts: Sequence[str] = [
        f"{count:,} row(s) with the key '{key}'" for key, count in sorted(unchecked.items())
    ]
    return (
        f"{' and '.join(parts)} could not be checked, since that key is not at hand. Put it behind the newest: "
        "ASSENT_AUDIT_KEY=2027:…,2026:…"
    )
