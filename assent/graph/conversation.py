"""What people are shown of a conversation when they are asked: its last turn, in short."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import StateSnapshot

from assent.graph.interrupts.questions import messages_of

MAX_CHARACTERS = 1_000
"""Of what each of the two said."""


def last_turn(snapshot: StateSnapshot) -> dict[str, Any]:
    """`{"asked"?: …, "model_wrote"?: …}`: what a person said last, and what the model has written
    since. Without either where there is none, or where the graph keeps no messages."""
    shown: dict[str, Any] = {}
    for message in messages_of(snapshot):
        if isinstance(message, HumanMessage):
            shown = {"asked": _short(message.text)}
        elif isinstance(message, AIMessage) and message.text.strip():
            shown["model_wrote"] = _short(message.text)
    return shown


def _short(text: str) -> str:
    # Half a surrogate pair, which no file can hold, is left out.
    text = text.strip().encode("utf-8", "ignore").decode()
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
