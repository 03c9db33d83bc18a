"""The fields of what a graph is given, its input and its context, as JSON Schemas."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, is_dataclass
from itertools import islice
from typing import Any, NamedTuple, NotRequired, Required, get_args, get_origin, get_type_hints

from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError
from typing_extensions import ReadOnly, is_typeddict

from assent.core.events import ROOT_CHANNEL
from assent.core.json import Json
from assent.core.text import clipped
from assent.graph.json_schemas import Schema, validator
from assent.graph.kinds import Agent

MESSAGES = "messages"

SHOWN_PROBLEMS = 3
"""The most problems of an input that are named at once."""

PROBLEM_CHARACTERS = 300

NO_SCHEMA = (PydanticUserError, ValueError, TypeError, NameError)
"""The errors of types that pydantic has no JSON Schema of."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of an object, by its JSON Schema. `names` is None for a schema that takes any
    value."""

    schema: Schema
    names: frozenset[str] | None
    required: frozenset[str] = frozenset()

    def unknown(self, value: Collection[str]) -> list[str]:
        """The names in the value that are none of a field's."""
        if self.names is None or self.schema.get("additionalProperties"):
            return []
        return sorted(set(value) - self.names)

    def missing(self, value: Collection[str]) -> list[str]:
        """The fields that the value must have, and has not."""
        return sorted(self.required - set(value))

    def problems(self, value: Json) -> list[tuple[str, str]]:
        """The first reasons why the value does not fit, each with its place."""
        errors = islice(validator(self.schema).iter_errors(value), SHOWN_PROBLEMS)
        return [
            (".".join(map(str, error.absolute_path)), clipped(error.message, PROBLEM_CHARACTERS))
            for error in errors
        ]

    def shown(self) -> str:
        """The form of the object, for people: `{"topic": <string>, "notes"?: <array>}`."""
        if self.names is None:
            return f"<{self.schema.get('type', 'any')}>"
        properties = self.schema.get("properties", {})
        fields = [
            f'"{name}"{"" if name in self.required else "?"}: '
            f"<{properties.get(name, {}).get('type', 'any')}>"
            for name in sorted(self.names)
        ]
        return f"{{{', '.join(fields)}}}"


class InputFields(NamedTuple):
    """The fields of a graph's input, the names of those that hold messages, and True if a message
    is an input of it."""

    fields: Fields
    messages_keys: frozenset[str]
    takes_message: bool


def input_fields(agent: Agent) -> InputFields:
    """The fields of the agent's input."""
    if not isinstance(agent, CompiledStateGraph):
        return _argument(_schema_or_any(agent.get_input_jsonschema))
    builder = agent.builder
    kind = builder.input_schema
    names = frozenset(builder.schemas[kind]) - set(builder.managed)
    if names == {ROOT_CHANNEL}:
        schema = _schema_or_any(agent.get_input_jsonschema)
        return InputFields(Fields(schema, None), frozenset(), takes_message=False)

    # Messages have a reader of their own: their schema takes {"role": …, "content": …} for two
    # kinds of message at once, and so for none. It also costs more than all the others.
    holds_messages = {key for key in names if _adds_messages(agent, key)}
    schema = _schema_of(kind, agent.get_input_jsonschema, without=holds_messages)
    properties = {**schema.get("properties", {})}
    if MESSAGES in names and _may_hold_messages(properties.get(MESSAGES, {})):
        holds_messages.add(MESSAGES)
    properties.update({key: {} for key in holds_messages})
    # The keys of a TypedDict are channels. A graph begins with some of them, whatever it requires.
    required = frozenset(schema.get("required", ())) & names if is_made(kind) else frozenset[str]()
    schema = {**schema, "properties": properties, "required": sorted(required)}
    # LangGraph drops what it does not know, so it is refused by name, whatever the schema says.
    schema.pop("additionalProperties", None)
    takes_message = MESSAGES in holds_messages
    return InputFields(Fields(schema, names, required), frozenset(holds_messages), takes_message)


def context_fields(agent: Agent) -> Fields | None:
    """The fields of the agent's context; None if it declares none."""
    if agent.context_schema is None:
        return None
    return _fields(_schema_of(agent.context_schema, agent.get_context_jsonschema))


def is_made(kind: Any) -> bool:
    """True if values of this type are made by calling it: a model of pydantic's or a dataclass."""
    if not isinstance(kind, type) or get_origin(kind) is not None:
        return False
    return issubclass(kind, BaseModel) or is_dataclass(kind)


def _argument(schema: Schema) -> InputFields:
    """The same for the argument of a workflow, which gets what it is sent as it is. A message is
    one if the argument is an object that may have messages."""
    properties = schema.get("properties")
    takes_message = schema.get("type", "object") == "object" and (
        properties is None or MESSAGES in properties
    )
    if properties is not None and takes_message:
        schema = {**schema, "properties": {**properties, MESSAGES: {}}}
    return InputFields(_fields(schema), frozenset(), takes_message)


def _adds_messages(agent: Agent, key: str) -> bool:
    return getattr(agent.channels.get(key), "operator", None) is add_messages


def _may_hold_messages(schema: Schema) -> bool:
    """True unless a field of that name is no list, or one of plain values."""
    items = schema.get("items", {})
    kind = items.get("type") if isinstance(items, dict) else None
    is_list = schema.get("type", "array") == "array"
    return is_list and kind not in ("string", "integer", "number", "boolean")


# ── schemas of types ──────────────────────────────────────────────────────────────────────────────


def _schema_of(
    kind: Any, get: Callable[[], Schema | None], *, without: Collection[str] = ()
) -> Schema:
    """The JSON Schema of a type; `get` has LangGraph's. The fields `without` may be left out, and
    those that have no schema take any value."""
    return _of_typed_dict(kind, without) if is_typeddict(kind) else _schema_or_any(get)


def _schema_or_any(get: Callable[[], Schema | None]) -> Schema:
    try:
        return get() or {}
    except NO_SCHEMA:
        return {}


def _of_typed_dict(kind: Any, without: Collection[str]) -> Schema:
    adapters: list[tuple[str, Any, TypeAdapter[Any]]] = []
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, hint, is_required in _hints(kind):
        properties[name] = {}
        if is_required:
            required.append(name)
        if name not in without:
            try:
                adapter = TypeAdapter(hint)
                adapter.json_schema()
            except NO_SCHEMA:
                continue
            adapters.append((name, "validation", adapter))
    made, shared = TypeAdapter.json_schemas(adapters)
    properties.update({name: schema for (name, _), schema in made.items()})
    schema = {"type": "object", "properties": properties}
    return {**shared, **schema, "required": required}


def _hints(kind: Any) -> Iterator[tuple[str, Any, bool]]:
    """The fields of a TypedDict: name, type, and True if it must be there."""
    try:
        hints = get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):
        # They name what is not there, as when it is imported for type checkers only.
        hints = dict.fromkeys(kind.__annotations__, Any)
    for name, hint in hints.items():
        # Where annotations are texts, Python overlooks these words in them.
        is_required = name in kind.__required_keys__
        while (word := get_origin(hint)) in (Required, NotRequired, ReadOnly):
            is_required = word is Required or (is_required and word is ReadOnly)
            (hint,) = get_args(hint)
        yield name, hint, is_required


def _fields(schema: Schema) -> Fields:
    properties = schema.get("properties")
    names = None if properties is None else frozenset(properties)
    return Fields(schema, names, frozenset(schema.get("required", ())))
