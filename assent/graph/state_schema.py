"""The state of an agent, with the keys that its user's `state_schema` and its middleware add."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    NotRequired,
    Required,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import typing_extensions
from langchain.agents.middleware.types import OmitFromSchema

from assent.core.errors import ConfigurationError
from assent.graph.state import AgentState, Conversation

RESPONSE = "structured_response"
"""The key of the answer in the form of `response_format`."""


@dataclass(frozen=True, slots=True)
class Schemas:
    """The types of an agent's state, of what it takes, and of what it returns."""

    state: type[AgentState]
    input: type[Conversation]
    output: type[Conversation]


def schemas_of(
    own: type | None, of_middleware: Sequence[tuple[str, type]] = (), response: Any = None
) -> Schemas:
    """The schemas of an agent. `own` is its `state_schema`; `of_middleware` are pairs of a name and
    a schema; `response` is the type of its structured response, if it gives one.

    No schema may say what decides, or how messages are joined. Raises `ConfigurationError`.
    """
    if own is None and not of_middleware and response is None:
        return Schemas(AgentState, Conversation, Conversation)
    added: dict[str, Any] = {}
    for name, schema in of_middleware:
        added.update(_hints(f"The state_schema of the middleware '{name}'", schema))
    if own is not None:
        added.update(_hints("state_schema=", own))
    if response is not None:
        omitted = OmitFromSchema(input=True, output=False)
        added[RESPONSE] = NotRequired[Annotated[response, omitted]]
    return Schemas(
        _typed_dict("AgentState", AgentState, added),
        _typed_dict("AgentInput", Conversation, _without(added, "input")),
        _typed_dict("AgentOutput", Conversation, _without(added, "output")),
    )


def _typed_dict(name: str, base: type, added: dict[str, Any]) -> Any:
    hints = {**get_type_hints(base, include_extras=True), **added}
    # Not that of `typing`: before Python 3.12 pydantic makes no schema of it.
    return typing_extensions.TypedDict(name, hints)  # type: ignore[operator]


def _hints(where: str, schema: Any) -> dict[str, Any]:
    """The keys that a schema adds, with their types."""
    if not typing_extensions.is_typeddict(schema):
        raise ConfigurationError(f"{where} is {schema!r}. Give it a TypedDict.")
    hints = get_type_hints(schema, include_extras=True)
    if "decisions" in hints:
        raise ConfigurationError(
            f"{where} has a key 'decisions'. That is the agent's own: give yours another name."
        )
    messages = hints.pop("messages", None)
    usual = get_type_hints(AgentState, include_extras=True)["messages"]
    if messages is not None and _bare(messages) != _bare(usual):
        raise ConfigurationError(
            f"{where} declares 'messages' in a way of its own. Extend LangGraph's MessagesState, "
            "or leave the key out."
        )
    if RESPONSE in hints and any(isinstance(part, TypeVar) for part in _parts(hints[RESPONSE])):
        # LangChain's own state declares it for every agent, without a type.
        del hints[RESPONSE]
    return hints


def _without(hints: dict[str, Any], direction: str) -> dict[str, Any]:
    """The keys that langchain's annotations do not leave out of the input, or of the output."""
    return {
        name: hint
        for name, hint in hints.items()
        if not any(
            isinstance(part, OmitFromSchema) and getattr(part, direction) for part in _parts(hint)
        )
    }


def _bare(hint: Any) -> Any:
    """The type, without the word that says if the key must be there."""
    return get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint


def _parts(hint: Any) -> Iterator[Any]:
    """The type itself, and what it is annotated with."""
    bare = _bare(hint)
    if get_origin(bare) is Annotated:
        yield from get_args(bare)
    else:
        yield bare
