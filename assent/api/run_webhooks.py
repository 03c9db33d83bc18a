"""The ends of runs as the webhooks of LangGraph's clients are told of them: what LangGraph's server
posts, signed as all webhooks are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec
from langgraph.types import StateSnapshot

from assent.api.dialects.langgraph.stream import INTERRUPT
from assent.api.dialects.questions import pause_interrupt
from assent.api.langgraph_shapes import langgraph_run_view
from assent.api.views import state_json
from assent.core.approval import Approval
from assent.core.clock import Clock
from assent.core.errors import NotFound
from assent.core.events import Error, Interrupt
from assent.core.json import Json, JsonObject, encode_json
from assent.core.rows import Run, Thread
from assent.notify.notifier import Message, NotDelivered
from assent.notify.reaching import Reach
from assent.notify.run_webhooks import RunReceiver
from assent.notify.webhooks import WebhookSender
from assent.runs.service import Runs
from assent.storage.base import Change

CHECKPOINT = "checkpoint_id"
"""The field of a notification that says in which state the run has left its thread."""

KWARGS = "kwargs"


def told_of(run: Run, change: Change) -> JsonObject:
    """The run as its webhook is told of it, given the change by which it ends or pauses. The values
    and what the run was given are not copied: they are read when it is told."""
    failed = any(isinstance(each, Error) and each.run_id == run.run_id for each in change.events)
    left = next(
        (row for row in change.rows if isinstance(row, Thread) and row.run_id == run.run_id), None
    )
    told = {
        **langgraph_run_view(run),
        "run_started_at": run.started_at,
        "run_ended_at": run.ended_at,
        # A run that failed stores no head. Its last checkpoint is the thread's, until another runs.
        CHECKPOINT: left.checkpoint_id if left is not None and not failed else None,
    }
    del told[KWARGS]
    if run.error is not None:
        told["error"] = run.error.get("message")
    if asked := _asked(run, change):
        told[INTERRUPT] = asked
    shown: JsonObject = msgspec.to_builtins(told)
    return shown


def _asked(run: Run, change: Change) -> list[JsonObject]:
    """What the run has paused to ask and nobody has answered in the same change."""
    pending = [
        row
        for row in change.rows
        if isinstance(row, Approval) and row.run_id == run.run_id and row.is_pending
    ]
    ids = {each.interrupt_id for each in pending}
    asked: list[JsonObject] = [
        {"id": each.interrupt_id, "value": each.value}
        for each in change.events
        if isinstance(each, Interrupt) and each.interrupt_id in ids
    ]
    more = pause_interrupt(run.run_id, pending)
    return asked if more is None else [*asked, more]


@dataclass(eq=False)
class EndedRuns:
    """Reads what is told of runs that have ended, once the runs are open: what is to be told may
    wait since before the start."""

    _opened: asyncio.Future[Runs] = field(default_factory=asyncio.Future)

    def open(self, runs: Runs) -> None:
        """Read from these runs."""
        self._opened.set_result(runs)

    async def body(self, message: Message) -> JsonObject:
        """The body for a message. Raises `NotDelivered` if its thread was erased."""
        runs = await self._opened
        told = dict(message.data)
        checkpoint_id, asked = told.pop(CHECKPOINT, None), told.pop(INTERRUPT, None)
        run_id = str(told["run_id"])
        thread = await runs.storage.thread(str(told["thread_id"]))
        if thread is None:
            raise NotDelivered("Its thread was erased.")
        # Somebody may have deleted the run.
        run = await runs.storage.run(run_id)
        given = langgraph_run_view(run)[KWARGS] if run is not None else {}
        state = await _state(runs, thread, checkpoint_id, run_id)
        values: Json = None if state is None else state_json(state.values)
        if asked is not None:
            values = {**(values if isinstance(values, dict) else {}), INTERRUPT: asked}
        return {**told, KWARGS: given, "values": values}


async def _state(
    runs: Runs, thread: Thread, checkpoint_id: Json, run_id: str
) -> StateSnapshot | None:
    """The state that the run has left, as far as it is still there, and the server has its
    agent."""
    if checkpoint_id is None and thread.run_id != run_id:
        return None
    try:
        return await runs.state(thread, checkpoint_id)
    except NotFound:
        return None


@dataclass(frozen=True, slots=True)
class RunNotifier:
    """Tells a host of the ends of the runs that have named it."""

    receiver: RunReceiver
    reach: Reach
    clock: Clock
    ended: EndedRuns

    async def notify(self, message: Message) -> None:
        """Post the run."""
        now = self.clock.now()
        body = {**await self.ended.body(message), "webhook_sent_at": now}
        sender = WebhookSender(self.receiver.target(message.webhook), self.reach)
        await sender.send(message.id, encode_json(body), now)
