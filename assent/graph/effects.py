"""The effects of tool calls: how a tool declares them, the idempotency key of a call, and the
ledger.

The ledger gets an intent before a call and the outcome after it, so that a call which a crash cut
off is not repeated in silence: its intent has no outcome. The gate then does what the tool
declares:

- `"once"`, the default: it asks a person what became of the call.
- `"idempotent"`: it makes the call again with the same key. The tool does nothing twice for a key.
- `"none"`: it makes the call again. Such calls have no rows in the ledger.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from assent.core.errors import ConfigurationError
from assent.core.json import JsonObject
from assent.graph.tool_names import check_tool_names

Effects = Literal["none", "idempotent", "once"]

EFFECTS_KEY = "__assent_effects"
"""The key in `config["configurable"]` of a run's ledger. LangGraph stores no key that starts with
`__` in checkpoints."""

UNKNOWN_OUTCOME = "unknown_outcome"
"""The `kind` of the question that the gate asks if a call's outcome is lost."""

ASKED = {"type": "asked", "data": ""}
"""The outcome of a call that stopped to ask a person with `interrupt()`, perhaps again since their
answer was invalid. It is not lost: after the answer, the call is made as a new attempt."""

_current_key: ContextVar[str] = ContextVar("assent_idempotency_key")


# ── declaring ─────────────────────────────────────────────────────────────────────────────────────


def effect_rules(
    effects: Mapping[str, Effects], tool_names: Collection[str], *, has_others: bool = False
) -> Mapping[str, Effects]:
    """The effects of each tool. Raises `ConfigurationError` for a name that no tool has, unless the
    agent `has_others` than those named here, or for an unknown word."""
    if not isinstance(effects, Mapping):
        raise ConfigurationError(
            f"effects= is {effects!r}. "
            'Give it a mapping of tool name to effects, such as {"search": "none"}.'
        )
    if not has_others:
        check_tool_names("effects", effects, tool_names)
    for name, declared in effects.items():
        if declared not in get_args(Effects):
            raise ConfigurationError(
                f"effects= gives the tool '{name}' {declared!r}. "
                f"Give it one of: {', '.join(get_args(Effects))}."
            )
    return {**dict.fromkeys(tool_names, "once"), **effects}


# ── the key ───────────────────────────────────────────────────────────────────────────────────────


def idempotency_key() -> str:
    """The idempotency key of the tool call that this code runs in. It stays the same if the call is
    made again after a crash, and no other call has it.

    For tools of `build_hitl_agent` and `call_once`, sync and async. It looks like
    `<thread>:<task>:<tool call>:<attempt>`. Raises `ConfigurationError` outside of such a call.
    """
    try:
        return _current_key.get()
    except LookupError:
        raise ConfigurationError(
            "idempotency_key() was called outside of a call of a tool. "
            "In a graph of your own, let its tools go through call_once()."
        ) from None


@contextmanager
def within_call(key: str) -> Iterator[None]:
    """Make this the value of `idempotency_key()`."""
    token = _current_key.set(key)
    try:
        yield
    finally:
        _current_key.reset(token)


# ── the ledger ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectIntent:
    """A call that is about to start. `key` is its idempotency key, and `message_id` names the
    model's message that asks for it; empty if that is not known."""

    key: str
    tool: str
    tool_call_id: str
    message_id: str = ""
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierEffect:
    """A call with the same key that started before. `outcome` is None if it was cut off."""

    outcome: JsonObject | None


class EffectLedger(Protocol):
    """Remembers calls across crashes."""

    async def begin(self, intent: EffectIntent) -> EarlierEffect | None:
        """Store the intent durably and return None. If a call with its key has started before,
        return that one and store nothing."""

    async def finish(self, key: str, outcome: JsonObject) -> None:
        """Store the outcome durably, in place of an earlier one."""


def ledger_of(config: RunnableConfig) -> EffectLedger | None:
    """The run's ledger, if it has one."""
    ledger: EffectLedger | None = config.get("configurable", {}).get(EFFECTS_KEY)
    return ledger


def pack_outcome(output: Any) -> JsonObject:
    """A tool's output as JSON, by LangGraph's own serializer."""
    kind, data = JsonPlusSerializer().dumps_typed(output)
    return {"type": kind, "data": base64.b64encode(data).decode()}


def unpack_outcome(outcome: JsonObject) -> Any:
    """The output that `pack_outcome` was given."""
    return JsonPlusSerializer().loads_typed((outcome["type"], base64.b64decode(outcome["data"])))
