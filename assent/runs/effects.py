"""The effect ledger in the storage: what the gate writes before and after a call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from assent.checkpoint.contracts import Change, Effect, EffectStatus, Storage
from assent.clock import Clock
from assent.graph.effects import EarlierEffect, EffectIntent


@dataclass(frozen=True, slots=True)
class StoredEffects:
    """One run's ledger."""

    storage: Storage
    clock: Clock
    thread_id: str
    run_id: str

    async def begin(self, intent: EffectIntent) -> EarlierEffect | None:
        """Store the intent, or return what an earlier start left."""
        earlier = await self.storage.effect(intent.key)
        if earlier is not None:
            return EarlierEffect(outcome=earlier.outcome)
        row = Effect(
            key=intent.key,
            thread_id=self.thread_id,
            run_id=self.run_id,
            tool=intent.tool,
            tool_call_id=intent.tool_call_id,
            digest=intent.digest,
            status=EffectStatus.STARTED,
            started_at=self.clock.now(),
        )
        # Two starts with one key cannot both get past this: the second one's row exists, and the commit raises Conflict.
        await self.storage.commit(Change(rows=(row,)))
        return None

    async def finish(self, key: str, outcome: dict[str, Any]) -> None:
        """Store the outcome."""
        row = await self.storage.effect(key)
        if row is not None:
            finished = replace(row, status=EffectStatus.FINISHED, outcome=outcome, finished_at=self.clock.now(), version=row.version + 1)
            await self.storage.commit(Change(rows=(finished,)))
