"""The history in the order that providers accept: each tool call answered by exactly one tool
message, directly after it.

The state keeps messages in the order in which they came. A person may write while calls wait, a run
may die between a call and its answer, a model may ask with arguments that are not JSON. The history
for the provider is put in order here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage

RESULT_UNKNOWN = (
    "This call was cut off before its result was known. It may or may not have happened: check "
    "before you repeat it."
)


def provider_history(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages with each tool message moved directly behind its call, and a stand-in for each
    missing answer.

    Calls with arguments that are not JSON need answers too: integrations send them back as calls.
    Of two answers to a call the first is kept, and an answer to no call is left out.
    """
    answers = _answers(messages)
    history: list[AnyMessage] = []
    for position, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            continue
        if not isinstance(message, AIMessage):
            history.append(message)
            continue
        history.append(_sendable(message))
        for call_id in call_ids(message):
            answer = answers.get((position, call_id))
            if answer is None:
                answer = ToolMessage(RESULT_UNKNOWN, tool_call_id=call_id, status="error")
            history.append(answer)
    return history


def _answers(messages: Sequence[AnyMessage]) -> dict[tuple[int, str], ToolMessage]:
    """The first answer to each call, by the position of the asking message and the call's id."""
    answers: dict[tuple[int, str], ToolMessage] = {}
    asked_at: dict[str, int] = {}
    for position, message in enumerate(messages):
        if isinstance(message, AIMessage):
            # From here on, an id that was used before belongs to this message.
            asked_at.update(dict.fromkeys(call_ids(message), position))
        elif isinstance(message, ToolMessage) and message.tool_call_id in asked_at:
            key = asked_at[message.tool_call_id], message.tool_call_id
            answers.setdefault(key, message)
    return answers


def _sendable(message: AIMessage) -> AIMessage:
    """The message with its invalid calls made valid, since many providers refuse arguments that are
    not JSON, and without calls that no answer could name, for want of an id of their own."""
    calls: dict[str, ToolCall] = {}
    for call in message.tool_calls:
        if call["id"]:
            calls.setdefault(call["id"], call)
    for invalid in message.invalid_tool_calls:
        if invalid["id"]:
            args = {"not_json": invalid["args"]}
            name = invalid["name"] or "unknown"
            mended = ToolCall(name=name, args=args, id=invalid["id"], type="tool_call")
            calls.setdefault(invalid["id"], mended)
    if list(calls.values()) == message.tool_calls and not message.invalid_tool_calls:
        return message
    return message.model_copy(update={"tool_calls": list(calls.values()), "invalid_tool_calls": []})


def call_ids(message: AIMessage) -> list[str]:
    """The ids of all calls that a provider will see in this message, each once."""
    calls = (*message.tool_calls, *message.invalid_tool_calls)
    return list(dict.fromkeys(call["id"] for call in calls if call["id"]))
