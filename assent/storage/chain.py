"""The audit chain: each record's MAC covers the record and the MAC before it, so that no record can
be changed, removed or inserted unnoticed.

    mac = HMAC-SHA256(secret, previous mac ‖ RFC 8785 form of the record without its mac)

Before the first record, the previous MAC is 32 zero bytes. A chain cannot show by itself that its
end was cut off. For that a head, the number and MAC of the last record at some time, is kept where
nobody who can write to the database can write. No I/O.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import orjson
import rfc8785

from assent.core.audit import AuditEntry, AuditHead, AuditRecord
from assent.core.clock import time_text
from assent.core.errors import InvalidRequest
from assent.core.json import JsonObject
from assent.core.sealing import Key

GENESIS = bytes(32)
"""The MAC before the first record."""


class AuditKey(Key):
    """A secret that records are signed with, and the id that they name it by."""

    def proof(self) -> bytes:
        """A value by which another key can be compared with this one, and that says nothing of the
        secret."""
        return hmac.digest(self.secret, b"assent audit key " + self.id.encode(), "sha256")

    def mac(self, previous: bytes, number: int, entry: AuditEntry) -> bytes:
        """The MAC of the entry in its place. Raises `ValueError` for a detail that has no RFC 8785
        form, such as a 64-bit integer."""
        signed = rfc8785.dumps(_signed(number, entry, self.id))
        return hmac.digest(self.secret, previous + signed, "sha256")

    def sign(self, head: AuditHead | None, entry: AuditEntry) -> AuditRecord:
        """Make the record of the entry that follows the head (None: the first one)."""
        number = head.number + 1 if head else 1
        previous = bytes.fromhex(head.mac) if head else GENESIS
        mac = self.mac(previous, number, entry).hex()
        return AuditRecord(number=number, entry=entry, key=self.id, mac=mac)


def head_of(record: AuditRecord) -> AuditHead:
    """The head of a chain that ends with this record."""
    return AuditHead(number=record.number, mac=record.mac, key=record.key, at=record.entry.at)


def record_to_json(record: AuditRecord) -> JsonObject:
    """The record as a JSON object: everything that is signed, and the `mac`."""
    return {**_signed(record.number, record.entry, record.key), "mac": record.mac}


def head_to_json(head: AuditHead) -> JsonObject:
    """The head as a JSON object."""
    return {"number": head.number, "mac": head.mac, "key": head.key, "at": time_text(head.at)}


def _signed(number: int, entry: AuditEntry, key: str) -> JsonObject:
    signed: JsonObject = {
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
    if entry.tenant is not None:
        # So that records from before there were tenants are signed as they were.
        signed["tenant"] = entry.tenant
    return signed


# ── heads ─────────────────────────────────────────────────────────────────────────────────────────

Heads = Mapping[int, frozenset[str]]
"""The MACs that were noted as the chain's head, by number. If there are several for one number, at
most one of them can be right."""

_FORM = "A head is a line like 12:ab34…, or the JSON that Assent has written."


def heads_from_text(text: str) -> Heads:
    """Parse heads, one in each line: JSON (`{"number": 12, "mac": "…"}`), or `12:mac`. Raises
    `InvalidRequest` for any other line, and if there is no head."""
    heads: dict[int, frozenset[str]] = {}
    for at, line in enumerate(text.splitlines(), 1):
        if line.strip():
            number, mac = _head(line.strip(), at)
            heads[number] = heads.get(number, frozenset()) | {mac}
    if not heads:
        raise InvalidRequest(f"There is no head in it. {_FORM}")
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
    raise InvalidRequest(f"Line {at} is not a head: {line[:80]!r}. {_FORM}")


# ── verifying ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Broken:
    """The number of the first record that is not as Assent wrote it, and a sentence that says what
    is wrong."""

    number: int
    sentence: str


class Verification:
    """Verifies one record after another, in the order of their numbers. `broken` is the first that
    is wrong; nothing is verified behind it.

    `unchecked` counts, by key, the records that were signed with keys that are not given: they are
    only known not to be missing.
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
        """Verify the record with this number, None if it cannot even be read. False at the first
        that is wrong, and from then on."""
        if self.broken is None:
            self.broken = self._problem(number, record)
        if self.broken is None and record is not None:
            self._number, self._mac, self.last = number, bytes.fromhex(record.mac), record
        return self.broken is None

    def end(self) -> Broken | None:
        """Verify that the chain may end here, and return the first record that is wrong."""
        last_head = max(self._heads, default=0)
        if self.broken is None and last_head > self._number:
            missing = self._number + 1
            self.broken = Broken(
                missing,
                f"Row {missing} is missing, and all behind it: the chain ends with row "
                f"{self._number}, and row {last_head} has been its head. Its end was cut off.",
            )
        return self.broken

    def _problem(self, number: int, record: AuditRecord | None) -> Broken | None:
        expected = self._number + 1
        if number < expected:
            return Broken(number, f"Row {number} was put in: the chain begins with row 1.")
        if number > expected:
            missing = f"The rows {expected} to {number - 1} are"
            if number == expected + 1:
                missing = f"Row {expected} is"
            return Broken(expected, f"{missing} missing: the next is row {number}.")
        if record is None or record.number != number or not self._is_signed(record):
            return Broken(
                number,
                f"Row {number} is not what Assent wrote there: it was changed, moved, or put in.",
            )
        if self._heads.get(number, {record.mac}) != {record.mac}:
            return Broken(
                number,
                f"Row {number} is not the row {number} that has been the chain's head: rows were "
                "cut off there, and others written.",
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
    """The sentence to show about records that could not be verified."""
    counts = [f"{count:,} row(s) with the key '{key}'" for key, count in sorted(unchecked.items())]
    return (
        f"{' and '.join(counts)} could not be checked, since that key is not at hand. Put it "
        "behind the newest: ASSENT_AUDIT_KEY=2027:…,2026:…"
    )
