"""What calls of tools do in the world: how that is declared, the key by which a tool can tell a
repetition, and the ledger.

The ledger has an intent before a call, and its outcome after. With one, a call that a crash cut off
is not repeated in silence: the gate finds the intent without an outcome. What it does then is what
was declared of the tool:

- `"once"`, which is what every tool is taken for: a person is asked what became of the call.
- `"idempotent"`: it is called again with the same key, by which the tool does nothing twice.
- `"none"`: it changes nothing, so it is simply called again. Such calls have no rows in the ledger,
  and cost none.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from langchain_core.messages import ToolCall
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from assent.core.errors import ConfigurationError

Effects = Literal["none", "idempotent", "once"]

EFFECTS_KEY = "__assent_effects"
"""Where in `config["configurable"]` a run carries its ledger. LangGraph keeps names that start with
`__` out of checkpoints."""

UNKNOWN_OUTCOME = "unknown_outcome"
"""The `kind` of the question that the gate asks when a call's outcome is lost."""

ASKED = {"type": "asked", "data": ""}
"""The outcome of a call that stopped to ask a person with `interrupt()`. It is not lost: with the
answer it runs as a new attempt."""

_current_key: ContextVar[str] = ContextVar("assent_idempotency_key")


# ── declaring ─────────────────────────────────────────────────────────────────────────────────────


def effect_rules(
    effects: Mapping[str, Effects], tool_names: Collection[str]
) -> Mapping[str, Effects]:
    """What is declared of each tool. Raises `ConfigurationError` for a name that no tool has, or a
    word that says nothing."""
    if not isinstance(effects, Mapping):
        raise ConfigurationError(
            f'effects= is {effects!r}. Give it a mapping of tool name to effects, such as {{"search": "none"}}.'
        )
    if unknown := sorted(str(name) for name in set(effects) - set(tool_names)):
        raise ConfigurationError(
            f"effects= names the tool '{unknown[0]}', and the agent has no such tool. It has: {', '.join(sorted(tool_names)) or 'none'}."
        )
    for name, declared in effects.items():
        if declared not in get_args(Effects):
            raise ConfigurationError(
                f"effects= gives the tool '{name}' {declared!r}. Give it one of: {', '.join(get_args(Effects))}."
            )
    return {name: effects.get(name, "once") for name in tool_names}


# ── the key ───────────────────────────────────────────────────────────────────────────────────────


def idempotency_key() -> str:
    """The idempotency key of the call that this code runs in: the same if the call is made again
    after a crash, and no other call's.

    For tools of `build_hitl_agent` and `call_once`, sync and async. It looks like
    `<thread>:<task>:<tool call>:<attempt>`. Raises `ConfigurationError` outside of such a call.
    """
    try:
        return _current_key.get()
    except LookupError:
        raise ConfigurationError(
            "idempotency_key() was called outside of a call of a tool. In a graph of your own, let its tools go through call_once()."
        ) from None


@contextmanager
def within_call(key: str) -> Iterator[None]:
    """Within this context, `idempotency_key()` is this one."""
    token = _current_key.set(key)
    try:
        yield
    finally:
        _current_key.reset(token)


def effect_key(thread_id: str, task_id: str, call: ToolCall, attempt: int) -> str:
    """The idempotency key of a call. LangGraph's task id stays the same across crash, retry and
    resume; `attempt` counts the times that a person said "it did not happen, run it", or answered
    what the tool asked."""
    return f"{thread_id}:{task_id}:{call['id']}:{attempt}"


# ── the ledger ────────────────────────────────────────────────────────────────────────────────────


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
        """Store the intent durably and return None; or return what an earlier start with the same
        key left, and store nothing."""

    async def finish(self, key: str, outcome: dict[str, Any]) -> None:
        """Store the outcome durably, in place of an earlier one."""


def ledger_of(config: RunnableConfig) -> EffectLedger | None:
    """The run's ledger, if it has one."""
    ledger: EffectLedger | None = config.get("configurable", {}).get(EFFECTS_KEY)
    return ledger


def pack_outcome(output: Any) -> dict[str, Any]:
    """A tool's output as JSON, by LangGraph's own serializer."""
    kind, data = JsonPlusSerializer().dumps_typed(output)
    return {"type": kind, "data": base64.b64encode(data).decode()}


def unpack_outcome(outcome: dict[str, Any]) -> Any:
    """The output that `pack_outcome` was given."""
    return JsonPlusSerializer().loads_typed((outcome["type"], base64.b64decode(outcome["data"])))
