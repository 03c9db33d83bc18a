"""The excerpt of a conversation that people see when they are asked: its last turn, shortened."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import StateSnapshot

from assent.core.json import JsonObject, encode_json
from assent.core.run_input import RunInput
from assent.core.text import clipped
from assent.graph.state import messages_in

MAX_CHARACTERS = 1_000
"""Of each of the two texts."""

MAX_GIVEN_CHARACTERS = 4_096
"""Of a context, and of the configurable part of a config."""

MAX_VALUE_CHARACTERS = 200
"""Of one value in these."""


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


def given_excerpt(given: RunInput) -> dict[str, str]:
    """What a client gave the graph to run with, by the names in `GIVEN_EXCERPTS`; the first two are
    JSON. It can change what an approved call does, or say why the model has made it. So no long
    value hides another field, and instructions are whole."""
    configurable = (given.config or {}).get("configurable")
    found = (("context", given.context), ("configurable", configurable))
    shown = {name: _fields_excerpt(fields) for name, fields in found if fields}
    of_task = (("model", given.model), ("instructions", given.instructions))
    return {**shown, **{name: text for name, text in of_task if text}}


def _fields_excerpt(fields: JsonObject) -> str:
    """The fields as JSON, with the beginning of each value that is long."""
    shown: JsonObject = {}
    for name, value in fields.items():
        text = value if isinstance(value, str) else encode_json(value).decode()
        is_long = len(text) > MAX_VALUE_CHARACTERS
        shown[name] = clipped(text, MAX_VALUE_CHARACTERS) if is_long else value
    return _shortened(encode_json(shown).decode(), MAX_GIVEN_CHARACTERS)


def _shortened(text: str, most: int = MAX_CHARACTERS) -> str:
    # Half a surrogate pair, which no file can hold, is left out.
    return clipped(text.strip().encode("utf-8", "ignore").decode(), most)
