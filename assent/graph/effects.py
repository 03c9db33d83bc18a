"""The effect ledger as the gate sees it: an intent before a call, its outcome after.

With a ledger, a call that a crash cut off is not repeated in silence: the gate finds the intent without an outcome and asks a person.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Protocol

from langchain_core.messages import ToolCall
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

EFFECTS_KEY = "__assent_effects"
"""Where in `config["configurable"]` a run carries its ledger. LangGraph keeps names that start with `__` out of checkpoints."""

UNKNOWN_OUTCOME = "unknown_outcome"
"""The `kind` of the question that the gate asks when a call's outcome is lost."""

ASKED = {"type": "asked", "data": ""}
"""The outcome of a call that stopped to ask a person with `interrupt()`. It is not lost: with the answer it runs as a new attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectIntent:
    """A call that is about to start. `key` is its idempotency key."""

    key: str
    tool: str
    tool_call_id: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierEffect:
    """A call with the same key that started before. `outcome` is None if it was cut off."""

    outcome: dict[str, Any] | None


class EffectLedger(Protocol):
    """Remembers calls across crashes."""

    async def begin(self, intent: EffectIntent) -> EarlierEffect | None:
        """Store the intent durably and return None; or return what an earlier start with the same key left, and store nothing."""

    async def finish(self, key: str, outcome: dict[str, Any]) -> None:
        """Store the outcome durably."""


def ledger_of(config: RunnableConfig) -> EffectLedger | None:
    """The run's ledger, if it has one."""
    ledger: EffectLedger | None = config.get("configurable", {}).get(EFFECTS_KEY)
    return ledger


def effect_key(thread_id: str, task_id: str, call: ToolCall, attempt: int) -> str:
    """The idempotency key of a call. LangGraph's task id stays the same across crash, retry and resume; `attempt` counts the times that a
    person said "it did not happen, run it", or answered what the tool asked."""
    return f"{thread_id}:{task_id}:{call['id']}:{attempt}"


def pack_outcome(output: Any) -> dict[str, Any]:
    """A tool's output as JSON, by LangGraph's own serializer."""
    kind, data = JsonPlusSerializer().dumps_typed(output)
    return {"type": kind, "data": base64.b64encode(data).decode()}


def unpack_outcome(outcome: dict[str, Any]) -> Any:
    """The output that `pack_outcome` was given."""
    return JsonPlusSerializer().loads_typed((outcome["type"], base64.b64decode(outcome["data"])))
