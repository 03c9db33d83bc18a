"""The agent's state, and its messages with their open tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    InvalidToolCall,
    ToolCall,
    ToolMessage,
)
from langgraph.graph import MessagesState
from langgraph.types import Command, StateSnapshot

from assent.core.clock import uuid7
from assent.core.decisions import Decision, decision_from_json, decision_to_json
from assent.core.digest import call_digest

DecisionRecord = dict[str, Any]
"""A decision in the state: its JSON, with the `message_id` and `digest` of the call it is for."""


def merge_decisions(
    old: dict[str, DecisionRecord] | None, new: dict[str, DecisionRecord] | None
) -> dict[str, DecisionRecord]:
    """The reducer of `decisions`: add the new ones. None, which each new turn of the model writes,
    removes all."""
    return {} if new is None else {**(old or {}), **new}


class Conversation(MessagesState):
    """The input and output of an agent: messages, and nothing that decides."""


class AgentState(MessagesState):
    """The conversation, and the decisions on the open calls of its last turn, by tool call id."""

    decisions: Annotated[dict[str, DecisionRecord], merge_decisions]


def without_decisions(command: Command[Any]) -> Command[Any]:
    """The command of code that is not a person, without decisions."""
    update = command._update_as_tuples()
    kept = [(name, value) for name, value in update if name != "decisions"]
    if len(kept) == len(update):
        return command
    return replace(command, update=dict(kept) if isinstance(command.update, dict) else kept)


def without_own(values: Mapping[str, Any]) -> dict[str, Any]:
    """The state as middleware sees it, or what this writes: without the decisions, which are the
    agent's own."""
    return {name: value for name, value in values.items() if name != "decisions"}


def messages_in(values: Any, key: str = "messages") -> list[AnyMessage]:
    """The messages in any graph's state; none if it keeps something else under that name."""
    messages = values.get(key) if isinstance(values, dict) else None
    if isinstance(messages, list) and all(isinstance(each, BaseMessage) for each in messages):
        return messages
    return []


@dataclass(frozen=True, slots=True)
class Head:
    """The checkpoint that a thread is at, and the nodes that come next."""

    checkpoint_id: str
    next: tuple[str, ...] = ()

    @classmethod
    def of(cls, snapshot: StateSnapshot) -> Head:
        """The head as it was read."""
        checkpoint_id = snapshot.config["configurable"].get("checkpoint_id", "")
        return cls(str(checkpoint_id), tuple(snapshot.next))


def last_turn(messages: Sequence[AnyMessage]) -> AIMessage | None:
    """The model's last message."""
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return message
    return None


def with_call_ids(message: AIMessage) -> AIMessage:
    """The message, each of whose calls has an id of its own. Some providers give none, or one id to
    two calls, and a decision must name its call."""
    seen: set[str] = set()
    fixed: list[ToolCall] = []
    for call in message.tool_calls:
        call_id = call["id"]
        if not call_id or call_id in seen:
            call_id = uuid7()
        seen.add(call_id)
        fixed.append(ToolCall(**{**call, "id": call_id}))
    if fixed == message.tool_calls:
        return message
    return message.model_copy(update={"tool_calls": fixed})


def messages_since(messages: Sequence[AnyMessage], turn: AIMessage) -> Sequence[AnyMessage]:
    """The messages after this one."""
    return messages[messages.index(turn) + 1 :]


def answered_calls(messages: Sequence[AnyMessage], turn: AIMessage) -> set[str]:
    """The ids of the calls in this message that have a ToolMessage. Only later messages count: a
    provider may reuse the ids of an earlier turn's calls."""
    since = messages_since(messages, turn)
    return {message.tool_call_id for message in since if isinstance(message, ToolMessage)}


def open_calls(messages: Sequence[AnyMessage]) -> tuple[AIMessage | None, list[ToolCall]]:
    """The model's last message, and those of its tool calls that have no ToolMessage yet."""
    turn = last_turn(messages)
    if turn is None or not turn.tool_calls:
        return turn, []
    answered = answered_calls(messages, turn)
    return turn, [call for call in turn.tool_calls if call["id"] not in answered]


def is_answer(message: Any, call: ToolCall | InvalidToolCall) -> bool:
    """True for a tool message that answers this call."""
    return isinstance(message, ToolMessage) and message.tool_call_id == call["id"]


def asked_call(state: Any, call_id: str | None) -> tuple[AIMessage | None, ToolCall | None]:
    """The newest call of this id, and before it the message that asks for it, in the state as a
    tool of any graph sees it: a list of messages, or a mapping or an object that has one."""
    messages = state
    if isinstance(state, Mapping):
        messages = state.get("messages")
    elif not isinstance(state, list):
        messages = getattr(state, "messages", None)
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, AIMessage):
            for call in message.tool_calls:
                if call["id"] == call_id:
                    return message, call
    return None, None


def record_decision(turn: AIMessage, call: ToolCall, decision: Decision) -> DecisionRecord:
    """The record of a decision. It holds for this call of this message with these arguments
    only."""
    return {
        **decision_to_json(decision),
        "message_id": turn.id,
        "digest": call_digest(call["name"], call["args"]),
    }


def recorded_decision(state: AgentState, turn: AIMessage, call: ToolCall) -> Decision | None:
    """The decision recorded for exactly this call, and not for other arguments or another message's
    call with the same id."""
    record = (state.get("decisions") or {}).get(call["id"] or "")
    if record is None:
        return None
    fields = dict(record)
    message_id = fields.pop("message_id", None)
    digest = fields.pop("digest", None)
    if message_id != turn.id or digest != call_digest(call["name"], call["args"]):
        return None
    return decision_from_json(fields)
