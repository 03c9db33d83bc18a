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
    """The state has what the SDK's `ThreadState` has."""
    assert state.keys() >= fields(schema.ThreadState)
    for checkpoint in filter(None, (state["checkpoint"], state["parent_checkpoint"])):
        assert checkpoint.keys() >= fields(schema.Checkpoint) - {"checkpoint_map"}
        assert checkpoint["thread_id"] == thread
    for task in state["tasks"]:
        assert task.keys() >= fields(schema.ThreadTask)
    for interrupt in [
        *state["interrupts"],
        *(interrupt for task in state["tasks"] for interrupt in task["interrupts"]),
    ]:
        assert interrupt.keys() >= fields(schema.Interrupt)
