"""The history as a provider accepts it: each tool call answered by exactly one tool message,
directly after it.

The state keeps messages in the order they happened. A person may write while calls wait, a run may
die between a call and its answer, a model may ask with arguments that are not JSON: what the
provider gets is put in order here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage

UNFINISHED = "This call was cut off before its result was known. It may or may not have happened: check before you repeat it."


def provider_history(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages with each tool message moved directly behind its call, and a stand-in for each
    answer that is missing.

    Calls whose arguments are not JSON count too: integrations send them back as calls. Of two
    answers to a call the first is kept, and an answer to no call is left out.
    """
    answers: dict[tuple[int, str], ToolMessage] = {}
    asked_at: dict[str, int] = {}
    for position, message in enumerate(messages):
        if isinstance(message, AIMessage):
            # An id that a later message uses again is that message's from there on.
            asked_at.update((call_id, position) for call_id in call_ids(message))
        elif isinstance(message, ToolMessage) and message.tool_call_id in asked_at:
            answers.setdefault((asked_at[message.tool_call_id], message.tool_call_id), message)
    history: list[AnyMessage] = []
    for position, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            continue
        history.append(_sendable(message) if isinstance(message, AIMessage) else message)
        if isinstance(message, AIMessage):
            history.extend(
                answers.get((position, call_id))
                or ToolMessage(UNFINISHED, tool_call_id=call_id, status="error")
                for call_id in call_ids(message)
            )
    return history


def _sendable(message: AIMessage) -> AIMessage:
    """The message with its invalid calls as valid ones: many a provider refuses a history with
    arguments that are not JSON. A call that no answer could name, for want of an id of its own, is
    left out."""
    mended = [
        ToolCall(
            name=call["name"] or "unknown",
            args={"not_json": call["args"]},
            id=call["id"],
            type="tool_call",
        )
        for call in message.invalid_tool_calls
    ]
    by_id: dict[str, ToolCall] = {}
    for call in (*message.tool_calls, *mended):
        if call["id"]:
            by_id.setdefault(call["id"], call)
    calls = list(by_id.values())
    if calls == message.tool_calls and not message.invalid_tool_calls:
        return message
    return message.model_copy(update={"tool_calls": calls, "invalid_tool_calls": []})


def call_ids(message: AIMessage) -> Iterator[str]:
    """The ids of all calls that a provider will see in this message, each once."""
    yield from dict.fromkeys(
        call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls) if call["id"]
    )
