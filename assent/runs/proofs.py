"""Rows that are believed only with their proof: the MAC over what they allow. So whoever writes to
the database can make none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from assent.core.errors import Tampered
from assent.core.keys import same
from assent.core.rows import ApiKey, Session, Ticket

log = structlog.get_logger(__name__)

R = TypeVar("R", ApiKey, Session, Ticket)


async def proven(reading: Awaitable[R | None], proof_of: Callable[[R], str]) -> R | None:
    """The row that is read; None if there is none, or if its proof is not the one that it should
    have."""
    try:
        row = await reading
    except Tampered as error:
        log.error("a stored value was tampered with", **error.details)
        return None
    return row if row is not None and same(proof_of(row), row.proof) else None
