"""Answers held to the types of the langgraph-sdk package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, get_origin, get_type_hints

from langgraph_sdk import schema


def fields(kind: Any) -> set[str]:
    """The fields that every value of this TypedDict has."""
    hints = get_type_hints(kind, include_extras=True)
    return {name for name, hint in hints.items() if get_origin(hint) is not NotRequired}


def check_state(state: Mapping[str, Any], thread: str) -> None:
    """The state has what the SDK's `ThreadState` has, and what else LangGraph's server says."""
    assert state.keys() >= fields(schema.ThreadState)
    for name in ("checkpoint", "parent_checkpoint"):
        checkpoint = state[name]
        assert state[f"{name}_id"] == (checkpoint and checkpoint["checkpoint_id"])
        if checkpoint is not None:
            assert checkpoint.keys() == fields(schema.Checkpoint)
            assert checkpoint["thread_id"] == thread
    for task in state["tasks"]:
        assert task.keys() == {*fields(schema.ThreadTask), "path"}
    for interrupt in [
        *state["interrupts"],
        *(interrupt for task in state["tasks"] for interrupt in task["interrupts"]),
    ]:
        assert interrupt.keys() >= fields(schema.Interrupt)
