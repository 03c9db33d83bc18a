"""The effect ledger over the storage: an intent row before a call, its outcome after."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from assent.core.clock import Clock
from assent.core.errors import Conflict
from assent.core.events import LlmEnd
from assent.core.rows import Effect, EffectStatus, Lease
from assent.graph.closing import Finished, Outcome, Started
from assent.graph.effects import ASKED, EarlierEffect, EffectIntent, unpack_outcome
from assent.runs.emitter import past_events
from assent.storage.base import Change, Storage


@dataclass(frozen=True, slots=True)
class StoredEffects:
    """One run's ledger."""

    storage: Storage
    clock: Clock
    thread_id: str
    lease: Lease

    async def begin(self, intent: EffectIntent) -> EarlierEffect | None:
        """Store the intent and return None; or return what an earlier start with the same key left.
        Raises `StaleLease`."""
        row = await self.storage.effect(intent.key)
        if row is not None:
            return EarlierEffect(outcome=row.outcome)
        row = Effect(
            key=intent.key,
            thread_id=self.thread_id,
            run_id=self.lease.run_id,
            tool=intent.tool,
            tool_call_id=intent.tool_call_id,
            digest=intent.digest,
            status=EffectStatus.STARTED,
            started_at=self.clock.now(),
        )
        # Two starts with one key cannot both get past this: the second one's row exists, and the
        # commit raises Conflict.
        await self.storage.commit(Change(rows=(row,), lease=self.lease))
        return None

    async def finish(self, key: str, outcome: dict[str, Any]) -> None:
        """Store the outcome. Not even a worker that has lost its lease may withhold it: it
        happened."""
        while (row := await self.storage.effect(key)) is not None:
            finished = replace(
                row,
                status=EffectStatus.FINISHED,
                outcome=outcome,
                finished_at=self.clock.now(),
                version=row.version + 1,
            )
            # A worker that was thought gone, and is still at the same call, may have ended it just
            # now.
            with suppress(Conflict):
                await self.storage.commit(Change(rows=(finished,)))
                return


@dataclass(frozen=True, slots=True)
class StoredOutcomes:
    """What became of the calls that a thread has left open, for closing them."""

    storage: Storage
    thread_id: str

    async def __call__(self, tool_call_id: str) -> Outcome | None:
        """What the last start of the call came to; None if it was never started."""
        asked_at = await self._asked_at(tool_call_id)
        effects = await self.storage.effects(self.thread_id, tool_call_id)
        started = [
            effect for effect in effects if asked_at is None or effect.started_at >= asked_at
        ]
        if not started:
            return None
        outcome = started[-1].outcome
        # A call that stopped to ask a person has begun, and has not come to its end.
        return (
            Started() if outcome is None or outcome == ASKED else Finished(unpack_outcome(outcome))
        )

    async def _asked_at(self, tool_call_id: str) -> datetime | None:
        """When a model last asked for a call of this id: some providers use an id again, and what
        an earlier call came to says nothing of the one that is open. None if no model did, for then
        the id is the gate's own and names one call."""
        asked_at: datetime | None = None
        async for event in past_events(self.storage, self.thread_id, {"llm_end"}):
            if isinstance(event, LlmEnd) and any(
                call.id == tool_call_id for call in event.tool_calls
            ):
                asked_at = event.ts
        return asked_at
