"""The holdings of a person, and of all of a tenant together, which triggers count along with the
rows; and the most that they may have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from assent.core.errors import FilesFull, QuotaFull
from assent.core.rows import AssistantVersion, File, Row, Run, RunStatus, Thread
from assent.storage.base import Caps, files_full
from assent.storage.sqlite.queries import HOLDING
from assent.storage.sqlite.writer import Transaction


class Held(NamedTuple):
    """A kind of what an owner has."""

    tenant: str
    owner: str
    kind: str


def grown_by(rows: Iterable[Row]) -> frozenset[Held]:
    """The holdings that grow as these rows are written."""
    return frozenset(
        Held(row.tenant or "", row.owner, kind)
        for row in rows
        if isinstance(row, Thread | Run | File | AssistantVersion)
        and (kind := _kind(row)) is not None
    )


def _kind(row: Thread | Run | File | AssistantVersion) -> str | None:
    if row.version > 1:
        return None
    match row:
        case Run():
            return "pending" if row.status is RunStatus.PENDING else None
        case Thread():
            return "threads"
        case AssistantVersion():
            return "assistants"
        case File():
            return "file_bytes"


def check(transaction: Transaction, caps: Caps, grown: Iterable[Held]) -> None:
    """Raise `QuotaFull` or `FilesFull` if there is more of something than there may be. Call it
    once the rows are written."""
    for held in grown:
        most_of_tenant: int | None = getattr(caps, f"tenant_{held.kind}")
        whole = Held(held.tenant, "", f"tenant_{held.kind}")
        if _amount(transaction, held) > (most := getattr(caps, held.kind)):
            raise _full(held.kind, most, "You have")
        if most_of_tenant is not None and _amount(transaction, whole) > most_of_tenant:
            raise _full(held.kind, most_of_tenant, "The people of your tenant have")


def _amount(transaction: Transaction, held: Held) -> int:
    found = transaction.connection.execute(HOLDING, held).fetchone()
    return int(found[0]) if found else 0


def _full(kind: str, most: int, who: str) -> QuotaFull | FilesFull:
    if kind == "file_bytes":
        return files_full(who, most)
    if kind == "threads":
        return QuotaFull(
            f"{who} {most:,} threads, and may have no more. Nothing was changed. Erase some, with "
            "DELETE /threads/{id}."
        )
    if kind == "assistants":
        return QuotaFull(
            f"{who} {most:,} versions of assistants, and may have no more. Nothing was changed. "
            "Delete an assistant, with DELETE /assistants/{id}: its versions go with it."
        )
    return QuotaFull(
        f"{who} {most:,} runs that wait for their turn, and may have no more. Nothing was changed. "
        "Try again when some have begun, or cancel some."
    )
