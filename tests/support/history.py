"""The rule a provider holds a chat history to, as pure functions: OpenAI's wire messages, or
LangChain's.

An assistant message with tool calls is followed directly by exactly one tool message for each call,
in any order, and a tool message stands nowhere else. OpenAI answers 400 to anything else, and then
the thread can never be continued.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

__all__ = ["history_problems", "lc_history_problems"]

ROLES = frozenset({"developer", "system", "user", "assistant", "tool"})
LC_ROLES = {
    "human": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "tool": "tool",
}


def history_problems(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a provider would refuse in `messages` (as in the body of a chat completion request), as
    sentences; empty if nothing."""
    problems = [] if messages else ["The history is empty."]
    answers_end = 0
    for at, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            problems.append(f"messages[{at}] has the role {role!r}, which does not exist.")
        elif role == "assistant":
            answers = list(takewhile(lambda m: m.get("role") == "tool", messages[at + 1 :]))
            answers_end = at + 1 + len(answers)
            problems += _assistant_problems(at, message, answers)
        elif role == "tool" and at >= answers_end:
            problems.append(
                f"messages[{at}] answers {message.get('tool_call_id')!r}, but does not follow a message with 'tool_calls'."
            )
        if role != "assistant" and message.get("content") is None:
            problems.append(f"messages[{at}] has the role {role!r} and no content.")
    return problems


def lc_history_problems(messages: Sequence[BaseMessage]) -> list[str]:
    """`history_problems` of what `messages` become on the wire."""
    return history_problems([_on_the_wire(message) for message in messages])


def _assistant_problems(
    at: int, message: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]
) -> list[str]:
    calls: Sequence[Mapping[str, Any]] = message.get("tool_calls") or ()
    problems = [problem for call in calls for problem in _call_problems(at, call)]
    if not calls and message.get("content") is None:
        problems.append(f"messages[{at}] has neither content nor tool calls.")

    asked = Counter(str(call.get("id")) for call in calls)
    answered = Counter(str(answer.get("tool_call_id")) for answer in answers)
    problems += [
        f"messages[{at}] has {count} calls with the id {id_!r}."
        for id_, count in asked.items()
        if count > 1
    ]
    problems += [
        f"messages[{at}] calls {id_!r}, which no tool message directly after it answers."
        for id_ in asked - answered
    ]
    problems += [
        f"messages[{at}] calls {id_!r}, which {count} tool messages answer."
        for id_, count in answered.items()
        if id_ in asked and count > 1
    ]
    problems += [
        f"messages[{at}] is followed by an answer to {id_!r}, which it does not call."
        for id_ in answered
        if id_ not in asked
    ]
    return problems


def _call_problems(at: int, call: Mapping[str, Any]) -> list[str]:
    function: Mapping[str, Any] = call.get("function") or {}
    id_, arguments = call.get("id"), function.get("arguments")
    problems = []
    if not isinstance(id_, str) or not id_:
        problems.append(f"messages[{at}] has a tool call without an id.")
    if not function.get("name"):
        problems.append(f"messages[{at}] has a tool call {id_!r} without a name.")
    if not isinstance(arguments, str) or not _is_json_object(arguments):
        problems.append(
            f"messages[{at}] has a tool call {id_!r} whose arguments are not the text of a JSON object: {arguments!r}."
        )
    return problems


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _on_the_wire(message: BaseMessage) -> dict[str, Any]:
    """The message as integrations send it: calls that could not be parsed go out too, and so need
    their answer."""
    wire: dict[str, Any] = {
        "role": LC_ROLES.get(message.type, message.type),
        "content": message.content,
    }
    if isinstance(message, AIMessage):
        calls = [
            (call["id"], call["name"], json.dumps(call["args"])) for call in message.tool_calls
        ]
        calls += [
            (bad["id"], bad["name"] or "", bad["args"] or "") for bad in message.invalid_tool_calls
        ]
        wire["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": args}}
            for id_, name, args in calls
        ]
    if isinstance(message, ToolMessage):
        wire["tool_call_id"] = message.tool_call_id
    return wire
