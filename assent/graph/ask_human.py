"""`ask_human`: a tool by which an agent asks a person what it does not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from langgraph.prebuilt import ToolRuntime
from langgraph.types import interrupt
from pydantic import Field

from assent.graph.interrupts.forms import ASK_HUMAN

Reason = Literal[
    "ambiguity", "missing_field", "conflicting_data", "low_confidence", "out_of_scope", "other"
]

ANY_ANSWER = {"type": ["string", "number", "boolean", "array", "object"]}


def ask_human(
    prompt: Annotated[
        str,
        Field(
            min_length=1,
            description="The question, in words that a person understands without the conversation.",
        ),
    ],
    runtime: ToolRuntime,
    context: Annotated[
        str, Field(description="What the person needs to know in order to answer.")
    ] = "",
    choices: Annotated[
        list[str] | None,
        Field(description="The answers to choose from. Leave them out for an open question."),
    ] = None,
    reasons: Annotated[list[Reason] | None, Field(description="Why you have to ask.")] = None,
) -> str:
    """Ask a person a question, and wait for the answer. Use it when something is ambiguous, missing
    or beyond what you may decide."""
    choices = list(dict.fromkeys(choices or ()))
    said: dict[str, Any] = {
        "prompt": prompt,
        "context": context,
        "choices": choices,
        "reasons": list(dict.fromkeys(reasons or ())),
    }
    question = {name: value for name, value in said.items() if value}
    schema: dict[str, Any] = {"type": "string", "enum": choices} if choices else ANY_ANSWER
    answer = interrupt(
        {"type": ASK_HUMAN, "tool_call_id": runtime.tool_call_id or "", **question},
        response_schema=schema,
    )
    if isinstance(answer, Mapping) and answer.get("type") == "reject":
        reason = answer.get("message")
        return f"The person did not answer.{f' The reason: {reason}' if reason else ''}"
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
