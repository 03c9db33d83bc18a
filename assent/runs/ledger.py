"""The ledger of effects in the storage: an intent before each call of a tool, and its outcome
after."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from assent.core.clock import Clock
from assent.core.errors import Conflict
from assent.core.json import JsonObject
from assent.core.rows import Effect, EffectStatus, Lease
from assent.graph.closing import CallOutcome, Finished, Started
from assent.graph.effects import ASKED, EarlierEffect, EffectIntent, unpack_outcome
from assent.runs.patience import until_available
from assent.storage.base import Change, Storage


@dataclass(frozen=True, slots=True)
class StoredEffects:
    """The ledger of one run. It waits for a storage that is away: a call must neither run without
    its intent, nor lose its outcome."""

    storage: Storage
    clock: Clock
    thread_id: str
    lease: Lease

    async def begin(self, intent: EffectIntent) -> EarlierEffect | None:
        """Store the intent and return None, or return what an earlier start with the same key left.
        Raises `StaleLease`."""
        return await until_available(lambda: self._begin(intent))

    async def finish(self, key: str, outcome: JsonObject) -> None:
        """Store the outcome, without a lease: it happened, even if the worker has lost its
        lease."""
        await until_available(lambda: self._finish(key, outcome))

    async def _begin(self, intent: EffectIntent) -> EarlierEffect | None:
        row = await self.storage.effect(intent.key)
        if row is not None:
            return EarlierEffect(outcome=row.outcome)
        row = Effect(
            key=intent.key,
            thread_id=self.thread_id,
            run_id=self.lease.run_id,
            tool=intent.tool,
            tool_call_id=intent.tool_call_id,
            message_id=intent.message_id,
            digest=intent.digest,
            status=EffectStatus.STARTED,
            started_at=self.clock.now(),
        )
        # If two start with one key, the second commit raises Conflict, as the row exists.
        await self.storage.commit(Change(rows=(row,), lease=self.lease))
        return None

    async def _finish(self, key: str, outcome: JsonObject) -> None:
        while (row := await self.storage.effect(key)) is not None:
            finished = replace(
                row,
                status=EffectStatus.FINISHED,
                outcome=outcome,
                finished_at=self.clock.now(),
                version=row.version + 1,
            )
            # A worker that was believed dead may have finished the same call just now.
            with suppress(Conflict):
                await self.storage.commit(Change(rows=(finished,)))
                return


@dataclass(frozen=True, slots=True)
class StoredOutcomes:
    """The outcomes of a thread's open calls, for closing them."""

    storage: Storage
    thread_id: str

    async def __call__(self, tool_call_id: str, message_id: str) -> CallOutcome | None:
        """The outcome of the call's last start; None if it was never started.

        Some providers use an id again, and the outcome of another message's call says nothing about
        the open one.
        """
        started: Effect | None = None
        for effect in await self.storage.effects(self.thread_id, tool_call_id):
            if effect.message_id in ("", message_id):
                started = effect
        if started is None:
            return None
        outcome = started.outcome
        if outcome is None or outcome == ASKED:
            # A call that stopped to ask a person has begun, and not ended.
            return Started()
        return Finished(unpack_outcome(outcome))
