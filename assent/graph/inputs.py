"""The input that a graph takes, and what is given to it: checked before a run exists, and again
before the graph runs, as the agent may be another version of itself by then."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, is_dataclass
from itertools import islice
from typing import Any, get_origin, get_type_hints

import jsonschema
from jsonschema.validators import validator_for
from langgraph.graph import START
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from referencing import Registry
from typing_extensions import is_typeddict

from assent.core.blocks import check_blocks
from assent.core.errors import InvalidInput
from assent.core.json import Json, JsonObject
from assent.core.run_input import Message, NodeNames, RunInput
from assent.graph.client_config import check_client_config, check_form
from assent.graph.kinds import Agent, gate_of
from assent.graph.outside_messages import read_messages

MESSAGES = "messages"

SHOWN_PROBLEMS = 3
"""The most problems of an input that are named at once."""

PROBLEM_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of an object, by its JSON Schema. `names` is None for a schema that takes any
    value."""

    schema: Mapping[str, Any]
    names: frozenset[str] | None
    required: frozenset[str]

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
        # With an empty registry, no schema can make the server fetch another document.
        kind = validator_for(self.schema, jsonschema.Draft202012Validator)
        errors = kind(self.schema, registry=Registry()).iter_errors(value)
        return [
            (".".join(map(str, error.absolute_path)), _shortened(error.message))
            for error in islice(errors, SHOWN_PROBLEMS)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShape:
    """The input that one agent takes. `messages_keys` are the fields of it that hold messages, and
    `takes_message` is True if the conversation is one of them. `make_context` makes the context as
    LangGraph will, if it makes one."""

    agent: str
    fields: Fields
    messages_keys: frozenset[str]
    takes_message: bool
    context: Fields | None
    make_context: Callable[..., Any] | None
    configurable: frozenset[str]
    nodes: frozenset[str]
    is_gated: bool

    def check(self, given: RunInput) -> None:
        """Raise `InvalidInput` if the agent does not take this."""
        if given.message and given.has_input:
            raise InvalidInput("Send a 'message' or an 'input', not both.")
        if given.message:
            self._check_message(given.message)
        elif given.has_input:
            self._check_input(given.input)
        self.check_run_with(given)

    def check_run_with(self, given: RunInput) -> None:
        """Raise `InvalidInput` if the graph cannot be run with the context, config and breakpoints
        that are given."""
        self._check_context(given.context)
        if given.config is not None:
            check_form(given.config)
            check_client_config(self.agent, given.config, self.configurable)
        for names in (given.interrupt_before, given.interrupt_after):
            if names:
                self._check_breakpoints(names)

    # ── the input ─────────────────────────────────────────────────────────────────────────────────

    def _check_message(self, message: Message) -> None:
        if isinstance(message, list):
            check_blocks(message)
        if not self.takes_message:
            raise InvalidInput(
                f"The agent '{self.agent}' keeps no messages, so it takes an 'input': "
                f"{self.fields.shown()}."
            )
        self._check_nothing_is_missing({MESSAGES})

    def _check_input(self, value: Json) -> None:
        if isinstance(value, Command):
            raise InvalidInput("A Command is not taken: decide with resume().")
        if value is None:
            # LangGraph would go on with whatever the thread has left.
            raise InvalidInput("The 'input' is null, and there would be nothing to do.")
        if self.fields.names is not None and not isinstance(value, dict):
            raise InvalidInput(
                f"The 'input' of the agent '{self.agent}' is an object: {self.fields.shown()}."
            )
        self._check_fields(value)
        if isinstance(value, dict):
            for key in self.messages_keys & set(value):
                read_messages(value[key], self._place(key))

    def _check_fields(self, value: Json) -> None:
        if isinstance(value, dict):
            unknown = self.fields.unknown(value)
            if unknown:
                names = ", ".join(f"'{name:.100}'" for name in unknown[:SHOWN_PROBLEMS])
                known = ", ".join(sorted(self.fields.names or ()))
                raise InvalidInput(
                    f"The agent '{self.agent}' takes no input {names}. It takes: {known}."
                )
            self._check_nothing_is_missing(value)
        problems = [f"{self._place(at)}: {why}." for at, why in self.fields.problems(value)]
        if problems:
            raise InvalidInput(" ".join(problems))

    def _check_nothing_is_missing(self, given: Collection[str]) -> None:
        if missing := self.fields.missing(given):
            raise InvalidInput(
                f"The agent '{self.agent}' needs an 'input' with {_listed(missing)}: "
                f"{self.fields.shown()}."
            )

    def _place(self, at: str) -> str:
        where = f"In the input of the agent '{self.agent}'"
        return f"{where}, '{at}'" if at else where

    # ── what it is run with ───────────────────────────────────────────────────────────────────────

    def _check_context(self, context: JsonObject | None) -> None:
        fields, agent = self.context, self.agent
        if fields is None:
            if context:
                raise InvalidInput(
                    f"The agent '{agent}' declares no context_schema, so it takes no 'context'."
                )
            return
        if context is None and self.make_context is None:
            # A TypedDict has no defaults, so graphs with one also run without.
            return
        given = context or {}
        if unknown := fields.unknown(given):
            raise InvalidInput(
                f"The context of the agent '{agent}' has no {_listed(unknown[:SHOWN_PROBLEMS])}. "
                f"It has: {', '.join(sorted(fields.names or ()))}."
            )
        if missing := fields.missing(given):
            raise InvalidInput(f"The agent '{agent}' needs a 'context' with {_listed(missing)}.")
        problems = [f"'{at}': {why}." for at, why in fields.problems(given)]
        if problems:
            raise InvalidInput(f"In the context of the agent '{agent}', {' '.join(problems)}")
        self._try_context(given)

    def _try_context(self, context: JsonObject) -> None:
        """Make the context once: a validator may refuse what fits the schema."""
        if self.make_context is None:
            return
        try:
            self.make_context(**context)
        except ValidationError as error:
            places = {".".join(map(str, each["loc"])) for each in error.errors()} - {""}
            at = f": {_listed(sorted(places))} is not right" if places else ""
            raise InvalidInput(f"The agent '{self.agent}' refuses the 'context'{at}.") from error
        except Exception as error:
            # A check of the user's own; its text is not written for clients.
            raise InvalidInput(f"The agent '{self.agent}' refuses the 'context'.") from error

    def _check_breakpoints(self, names: NodeNames) -> None:
        if self.is_gated:
            raise InvalidInput(
                f"The agent '{self.agent}' pauses before the calls that need a person, and takes "
                "no other breakpoints."
            )
        unknown = [] if names == "*" else sorted(set(names) - self.nodes)
        if unknown:
            raise InvalidInput(
                f"The agent '{self.agent}' has no node '{unknown[0]:.100}' to pause at. "
                f"It has: {', '.join(sorted(self.nodes))}."
            )


def shape_of(agent: Agent, name: str, configurable: Collection[str] = ()) -> InputShape:
    """The input that the agent takes. `configurable` are keys that the operator declares for it,
    besides those of the graph."""
    fields, messages_keys, takes_message = _input_fields(agent)
    context = None
    if agent.context_schema is not None:
        context = _fields(_schema_of(agent.get_context_jsonschema, agent.context_schema))
    declared = {spec.id for spec in agent.config_specs} | set((context and context.names) or ())
    # What the graph was given with `with_config` is pinned.
    declared -= set((agent.config or {}).get("configurable", {}))
    return InputShape(
        agent=name,
        fields=fields,
        messages_keys=messages_keys,
        takes_message=takes_message,
        context=context,
        make_context=agent.context_schema if _is_made(agent.context_schema) else None,
        configurable=frozenset(declared) | frozenset(configurable),
        nodes=frozenset(agent.nodes) - {START},
        is_gated=gate_of(agent) is not None,
    )


def _input_fields(agent: Agent) -> tuple[Fields, frozenset[str], bool]:
    """The fields of the graph's input, the names of those that hold messages, and True if a message
    is an input of it."""
    if not isinstance(agent, CompiledStateGraph):
        return _argument(_schema_of(agent.get_input_jsonschema))
    builder = agent.builder
    schema = dict(_schema_of(agent.get_input_jsonschema, builder.input_schema))
    names = frozenset(builder.schemas[builder.input_schema]) - set(builder.managed)
    if names == {"__root__"}:
        return Fields(schema, None, frozenset()), frozenset(), False

    properties = dict(schema.get("properties", {}))
    holds_messages: set[str] = set()
    for key in names:
        is_added = getattr(agent.channels.get(key), "operator", None) is add_messages
        if is_added or (key == MESSAGES and _may_hold_messages(properties.get(key, {}))):
            holds_messages.add(key)
            # Its schema takes {"role": …, "content": …} for two kinds of message at once, and so
            # for none: messages have a reader of their own.
            properties[key] = {}
    # The keys of a TypedDict are channels. A graph begins with some of them, whatever it requires.
    is_made = _is_made(builder.input_schema)
    required = frozenset(schema.get("required", ())) & names if is_made else frozenset[str]()
    schema = {**schema, "properties": properties, "required": sorted(required)}
    schema.pop("additionalProperties", None)
    fields = Fields(schema, names, required)
    return fields, frozenset(holds_messages), MESSAGES in holds_messages


def _argument(schema: Mapping[str, Any]) -> tuple[Fields, frozenset[str], bool]:
    """The same for the argument of a workflow, which gets what it is sent as it is. A message is
    one if the argument is an object that may have messages."""
    properties = schema.get("properties")
    takes_message = schema.get("type", "object") == "object" and (
        properties is None or MESSAGES in properties
    )
    if properties is not None and takes_message:
        schema = {**schema, "properties": {**properties, MESSAGES: {}}}
    return _fields(schema), frozenset(), takes_message


def _may_hold_messages(schema: Mapping[str, Any]) -> bool:
    """True unless a field of that name is no list, or one of plain values."""
    items = schema.get("items", {})
    kind = items.get("type") if isinstance(items, dict) else None
    is_list = schema.get("type", "array") == "array"
    return is_list and kind not in ("string", "integer", "number", "boolean")


def _is_made(schema: Any) -> bool:
    """True if values of this type are made by calling it: a model of pydantic's or a dataclass."""
    if not isinstance(schema, type) or get_origin(schema) is not None:
        return False
    return issubclass(schema, BaseModel) or is_dataclass(schema)


def _schema_of(get: Callable[[], Mapping[str, Any] | None], kind: Any = None) -> Mapping[str, Any]:
    """The JSON Schema that LangGraph has of this `kind` of value. Where it has none, as of some
    TypedDicts, one of its fields; and for fields without one, any value does."""
    try:
        return get() or {}
    except (PydanticUserError, ValueError, TypeError, NameError):
        return _schema_by_fields(kind) if is_typeddict(kind) else {}


def _schema_by_fields(kind: Any) -> Mapping[str, Any]:
    properties: dict[str, Any] = {}
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):
        hints = dict.fromkeys(kind.__annotations__, Any)
    for name, hint in hints.items():
        try:
            schema = TypeAdapter(hint).json_schema()
        except (PydanticUserError, ValueError, TypeError, NameError):
            schema = {}
        # What it refers to would have to stand at the top.
        properties[name] = {} if "$defs" in schema else schema
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(kind.__required_keys__),
    }


def _fields(schema: Mapping[str, Any]) -> Fields:
    properties = schema.get("properties")
    names = None if properties is None else frozenset(properties)
    return Fields(schema, names, frozenset(schema.get("required", ())))


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name:.100}'" for name in names)


def _shortened(text: str) -> str:
    return text if len(text) <= PROBLEM_CHARACTERS else f"{text[: PROBLEM_CHARACTERS - 1]}…"
