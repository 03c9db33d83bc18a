"""`ask_human`: a tool with which an agent asks a person."""

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

Prompt = Annotated[
    str,
    Field(
        min_length=1,
        description="The question, in words that a person understands without the conversation.",
    ),
]
Context = Annotated[str, Field(description="What the person needs to know in order to answer.")]
Choices = Annotated[
    list[str] | None,
    Field(description="The answers to choose from. Leave them out for an open question."),
]
Reasons = Annotated[list[Reason] | None, Field(description="Why you have to ask.")]


def ask_human(
    prompt: Prompt,
    runtime: ToolRuntime,
    context: Context = "",
    choices: Choices = None,
    reasons: Reasons = None,
) -> str:
    """Ask a person a question, and wait for the answer. Use it when something is ambiguous, missing
    or beyond what you may decide."""
    question: dict[str, Any] = {
        "type": ASK_HUMAN,
        "tool_call_id": runtime.tool_call_id or "",
        "prompt": prompt,
    }
    schema: dict[str, Any] = ANY_ANSWER
    if context:
        question["context"] = context
    if choices:
        question["choices"] = list(dict.fromkeys(choices))
        schema = {"type": "string", "enum": question["choices"]}
    if reasons:
        question["reasons"] = list(dict.fromkeys(reasons))
    answer = interrupt(question, response_schema=schema)
    if isinstance(answer, Mapping) and answer.get("type") == "reject":
        refusal = "The person did not answer."
        reason = answer.get("message")
        return f"{refusal} The reason: {reason}" if reason else refusal
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
