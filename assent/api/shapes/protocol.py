"""What LangGraph's thread protocol answers."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from assent.core.json import JsonObject


class CommandAnswer(TypedDict):
    """The answer to a command: its `result`, or an `error` and a `message` that says what is wrong
    and what to do."""

    type: Literal["success", "error"]
    id: int
    result: NotRequired[JsonObject]
    error: NotRequired[str]
    message: NotRequired[str]
