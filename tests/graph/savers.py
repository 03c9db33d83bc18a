"""Checkpointers that show what they are handed, and that die of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from assent.graph.closing import CallOutcome, Finished, Started
from assent.graph.effects import ASKED, EarlierEffect, EffectIntent, unpack_outcome
from assent.storage.sqlite.saver import SqliteSaver


class Died(Exception):
    """The process is gone."""


@dataclass
class Fate:
    """`puts` are the configurables of what was put so far; at `dies_at` of them, counted from 1, it
    dies: just before, or just after."""

    puts: list[dict[str, Any]] = field(default_factory=list)
    dies_at: int = 0
    after: bool = False

    def meet(self, config: RunnableConfig) -> int:
        """Note a put, and return its number."""
        self.puts.append(dict(config["configurable"]))
        self.die(number := len(self.puts), after=False)
        return number

    def die(self, number: int, *, after: bool) -> None:
        if number == self.dies_at and self.after is after:
            raise Died


class Fated:
    """What both checkpointers do beside their work."""

    fate: Fate

    async def aput(self, config: Any, *args: Any) -> Any:
        number = self.fate.meet(config)
        stored = await super().aput(config, *args)  # type: ignore[misc]
        self.fate.die(number, after=True)
        return stored

    async def aput_writes(
        self, config: Any, writes: Any, task_id: str, task_path: str = ""
    ) -> None:
        number = self.fate.meet(config)
        await super().aput_writes(config, writes, task_id, task_path)  # type: ignore[misc]
        self.fate.die(number, after=True)


class FatedMemory(Fated, InMemorySaver):
    pass


class FatedSqlite(Fated, SqliteSaver):
    pass


@asynccontextmanager
async def fated(backend: str, path: Any) -> AsyncIterator[Any]:
    """A checkpointer of the backend, with a fate."""
    if backend == "memory":
        memory = FatedMemory()
        memory.fate = Fate()
        yield memory
        return
    async with FatedSqlite.from_conn_string(path) as saver:
        saver.fate = Fate()  # type: ignore[attr-defined]
        yield saver


@dataclass
class Book:
    """An effect ledger in memory. `intents` are all that were begun, in order."""

    intents: list[EffectIntent] = field(default_factory=list)
    outcomes: dict[str, Any] = field(default_factory=dict)

    async def begin(self, intent: EffectIntent) -> EarlierEffect | None:
        if any(intent.key == earlier.key for earlier in self.intents):
            return EarlierEffect(outcome=self.outcomes.get(intent.key))
        self.intents.append(intent)
        return None

    async def finish(self, key: str, outcome: Any) -> None:
        self.outcomes[key] = outcome

    async def became_of(self, tool_call_id: str, message_id: str) -> CallOutcome | None:
        """What the closing of a thread asks."""
        asked = (tool_call_id, message_id)
        found = [each for each in self.intents if (each.tool_call_id, each.message_id) == asked]
        latest = found[-1:]
        for intent in latest:
            outcome = self.outcomes.get(intent.key)
            return (
                Started()
                if outcome is None or outcome == ASKED
                else Finished(unpack_outcome(outcome))
            )
        return None
