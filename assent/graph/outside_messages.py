"""Messages from outside, in a graph's own input: read strictly, and held against the conversation
that they join, so that none replaces or answers what a person was asked about."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    ToolMessage,
    convert_to_messages,
)
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from assent.core.errors import InvalidInput
from assent.core.json import Json, JsonObject
from assent.core.run_input import Message
from assent.graph.state import open_calls

ROLES = ("user", "human", "assistant", "ai", "system", "developer", "tool", "remove")

FIELDS = frozenset(
    {
        *("role", "type", "content", "id", "name", "tool_calls", "tool_call_id", "status"),
        # As LangChain writes them: clients send back what they have read.
        *("invalid_tool_calls", "artifact", "example"),
        *("additional_kwargs", "response_metadata", "usage_metadata"),
    }
)

LeftOut = tuple[str, str]
"""The id of a message that does not join, and a sentence: why."""


def spoken(message: Message, id: str) -> HumanMessage:
    """The words of a person, as a message of a conversation."""
    return HumanMessage(content=message, id=id)  # type: ignore[arg-type]


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


def read_messages(value: Json, where: str) -> list[BaseMessage]:
    """The messages in a field of an input: a text, a message as an object, or a list of these.
    `where` begins the sentence of the `InvalidInput` that is raised for anything else."""
    given = value if isinstance(value, list) else [value]
    return [_read(each, f"{where}, message {place}") for place, each in enumerate(given, 1)]


def _read(value: Json, where: str) -> BaseMessage:
    if isinstance(value, str):
        return HumanMessage(value)
    if not isinstance(value, dict):
        raise InvalidInput(f'{where}: send a text, or {{"role": "user", "content": "…"}}.')
    if "lc" in value:
        # LangChain would make any object of its own from it.
        raise InvalidInput(f"{where}: the form with 'lc' is not taken.")
    unknown = sorted(set(value) - FIELDS)
    if unknown:
        raise InvalidInput(f"{where}: a message has no field '{unknown[0]}'.")
    role = value.get("role") or value.get("type")
    if role not in ROLES:
        raise InvalidInput(f"{where}: its role is {role!r:.40}. It may be: {', '.join(ROLES)}.")
    return _converted(value, role, where)


def _converted(value: JsonObject, role: str, where: str) -> BaseMessage:
    fields = {name: each for name, each in value.items() if name != "type" and each is not None}
    if role in ("assistant", "ai", "remove"):
        fields.setdefault("content", "")
    try:
        (message,) = convert_to_messages([{**fields, "role": role}])
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        raise InvalidInput(
            f"{where}: LangChain makes no message of it. Look at its 'content', and for the "
            "role 'tool' at its 'tool_call_id'."
        ) from error
    if not isinstance(message.id, str | None) or (role == "remove" and not message.id):
        raise InvalidInput(f"{where}: its 'id' is not a text.")
    if isinstance(message, AIMessage):
        called = [call["id"] for call in message.tool_calls]
        if not all(called) or len(set(called)) < len(called):
            # An answer or a decision could not say which of them it is for.
            raise InvalidInput(f"{where}: each of its 'tool_calls' needs an 'id' of its own.")
    return message


def with_ids(messages: Sequence[BaseMessage], run_id: str) -> list[BaseMessage]:
    """The messages, those without an id with one that is the same at each attempt of the run: an
    input that is applied twice is in the conversation once."""
    return [
        message if message.id else message.model_copy(update={"id": f"{run_id}-{place}"})
        for place, message in enumerate(messages, 1)
    ]


# ── joining a conversation ────────────────────────────────────────────────────────────────────────


def may_clash(messages: Sequence[BaseMessage]) -> bool:
    """True if one of them, as they were read, could replace, remove or answer what is there."""
    return any(message.id or not isinstance(message, HumanMessage) for message in messages)


def joining(
    messages: Sequence[BaseMessage], conversation: Sequence[AnyMessage]
) -> tuple[list[BaseMessage], list[LeftOut]]:
    """The messages that may join the conversation, and those that may not.

    No message takes the place of one of the model's or of a tool's; none of a tool's stands for a
    call that is not open; no answer of a tool is removed from a call that stays, since the call
    would be open again; and nothing is removed that is not there, since LangGraph could not read
    the state any more.
    """
    known = {message.id: message for message in conversation}
    removed = {message.id for message in messages if isinstance(message, RemoveMessage)}
    kept: list[BaseMessage] = []
    left_out: list[LeftOut] = []
    so_far: list[BaseMessage] = [*conversation]
    for message in messages:
        reason = _why_not(message, known, removed, so_far)
        if reason is not None:
            left_out.append((str(message.id), reason))
            continue
        kept.append(message)
        if message.id == REMOVE_ALL_MESSAGES:
            so_far = []
        elif not isinstance(message, RemoveMessage):
            so_far.append(message)
    return kept, left_out


def _why_not(
    message: BaseMessage,
    known: dict[str | None, AnyMessage],
    removed: set[str | None],
    so_far: Sequence[BaseMessage],
) -> str | None:
    there = known.get(message.id)
    if isinstance(message, RemoveMessage):
        if message.id not in (REMOVE_ALL_MESSAGES, *(each.id for each in so_far)):
            return "The conversation has no message with this id."
        if isinstance(there, ToolMessage) and not _turn_goes(there, known, removed):
            return "It would remove a tool's answer from a call that stays."
        return None
    if there is not None and isinstance(there, AIMessage | ToolMessage):
        return "The conversation has a message of the model's or of a tool's with this id."
    if there is not None and isinstance(message, AIMessage | ToolMessage):
        return "The conversation has another message with this id."
    if isinstance(message, ToolMessage):
        _, calls = open_calls(so_far)  # type: ignore[arg-type]
        if message.tool_call_id not in {call["id"] for call in calls}:
            return "It answers a call that is not open."
    return None


def _turn_goes(
    answer: ToolMessage, known: dict[str | None, AnyMessage], removed: set[str | None]
) -> bool:
    """True if the turn with the answered call is removed too."""
    if REMOVE_ALL_MESSAGES in removed:
        return True
    turns = [
        message
        for message in known.values()
        if isinstance(message, AIMessage)
        and any(call["id"] == answer.tool_call_id for call in message.tool_calls)
    ]
    return all(turn.id in removed for turn in turns)
