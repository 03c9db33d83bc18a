"""What AG-UI's clients send for a graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from assent.api.dialects.agui.stream import MESSAGES
from assent.core.json import Json, JsonObject


def graph_input(
    new: Sequence[JsonObject],
    state: Json,
    *,
    values: Json,
    fields: Collection[str],
    messages_keys: Collection[str],
    tools: Sequence[JsonObject] = (),
    context: Sequence[JsonObject] = (),
) -> JsonObject:
    """The input of a graph that takes these `fields`: the new messages, and of the client's `state`
    the fields that differ from the thread's `values`, since a client sends back all that it was
    shown. Empty if there is nothing new.

    The client's `tools` and `context` go where AG-UI's and CopilotKit's own agents look for them,
    if the graph has such fields.
    """
    known = values if isinstance(values, Mapping) else {}
    given = state if isinstance(state, Mapping) else {}
    changed = {
        name: value
        for name, value in given.items()
        if name in fields and name not in messages_keys and known.get(name) != value
    }
    if new and MESSAGES in messages_keys:
        changed[MESSAGES] = [*new]
    if not changed:
        return {}
    beside: JsonObject = {}
    if tools or context:
        beside = {
            "tools": [*tools],
            "ag-ui": {"tools": [*tools], "context": [*context]},
            "copilotkit": {"actions": [*tools], "context": [*context]},
        }
    return {**{name: value for name, value in beside.items() if name in fields}, **changed}
