"""Messages of operators: to those who follow a thread, in its log; or to everybody, in a log of
their own."""

from __future__ import annotations

from dataclasses import dataclass

from assent.approvals.idempotency import Key, stored_outcome
from assent.core.access import Owner
from assent.core.approval import Outcome
from assent.core.clock import Clock
from assent.core.errors import Conflict, Gone, NotFound
from assent.core.events import Broadcast, decode
from assent.core.json import Json
from assent.core.logs import BROADCASTS
from assent.core.rows import Thread
from assent.storage.base import Change, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """A message `by` somebody to the readers of a thread, or without one to everybody of their
    tenant. `reached` are the readers that there are."""

    message: str
    data: Json
    by: Owner
    thread_id: str | None
    reached: int


async def broadcast(storage: Storage, clock: Clock, telling: Telling, key: Key | None) -> Outcome:
    """Store the message, unless the same request under this key has; `first_seq` is its number.
    Raises `NotFound` if there is no such thread."""
    while True:
        if (known := await stored_outcome(storage, key)) is not None:
            return known.starting_at(await _number(storage, known, telling.message))
        thread = await _thread(storage, telling.thread_id)
        log_id = telling.thread_id or BROADCASTS
        outcome = Outcome(
            thread_id=log_id,
            status="sent",
            # What is stored with the event cannot have its number.
            first_seq=await storage.last_seq(log_id) + 1,
            events=1,
            reached=telling.reached,
        )
        event = Broadcast(
            ts=clock.now(),
            thread_id=log_id,
            message=telling.message,
            data=telling.data,
            by=telling.by.name,
            tenant=telling.by.tenant if thread is None else None,
        )
        change = Change(
            rows=(key.answer(outcome, clock.now()),) if key is not None else (),
            # A thread that is erased meanwhile gets no event.
            unchanged=(thread,) if thread is not None else (),
            events=(event,),
        )
        try:
            (number,) = await storage.commit(change)
        except Conflict:
            continue
        return outcome.starting_at(number)


async def _thread(storage: Storage, thread_id: str | None) -> Thread | None:
    if thread_id is None:
        return None
    thread = await storage.thread(thread_id)
    if thread is None:
        raise NotFound(f"There is no thread '{thread_id}'.", thread_id=thread_id)
    return thread


async def _number(storage: Storage, sent: Outcome, message: str) -> int:
    """The number of what was sent then; 0 if it was removed since."""
    try:
        entries = await storage.read_log(sent.thread_id, sent.first_seq - 1, types={"broadcast"})
    except Gone:
        return 0
    for entry in entries:
        event = decode(entry.body)
        if isinstance(event, Broadcast) and event.message == message:
            return entry.seq
    return 0
