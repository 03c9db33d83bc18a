"""The excerpt of a conversation that people see when they are asked: its last turn, shortened."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import StateSnapshot

from assent.core.json import JsonObject, encode_json
from assent.graph.state import messages_in

MAX_CHARACTERS = 1_000
"""Of each of the two texts."""

MAX_CONTEXT_CHARACTERS = 4_096


def excerpt(snapshot: StateSnapshot) -> dict[str, Any]:
    """`{"asked"?: …, "model_wrote"?: …}`: the last words of a person, and those of the model since.
    A key is left out where there are none, or where the graph keeps no messages."""
    shown: dict[str, Any] = {}
    for message in messages_in(snapshot.values):
        if isinstance(message, HumanMessage):
            shown = {"asked": _shortened(message.text)}
        elif isinstance(message, AIMessage) and message.text.strip():
            shown["model_wrote"] = _shortened(message.text)
    return shown


def context_excerpt(context: JsonObject | None) -> dict[str, str]:
    """`{"context"?: …}`: the context that the graph is run with, as JSON. It can change what an
    approved call does."""
    if not context:
        return {}
    return {"context": _shortened(encode_json(context).decode(), MAX_CONTEXT_CHARACTERS)}


def _shortened(text: str, most: int = MAX_CHARACTERS) -> str:
    # Half a surrogate pair, which no file can hold, is left out.
    text = text.strip().encode("utf-8", "ignore").decode()
    return text if len(text) <= most else f"{text[: most - 1]}…"
