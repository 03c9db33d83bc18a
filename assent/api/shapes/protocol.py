"""What LangGraph's thread protocol answers."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from assent.core.json import JsonObject


class CommandAnswer(TypedDict):
    """The answer to a command: its `result`, or an `error` and a `message` that says what is wrong
    and what to do. `meta.applied_through_seq` is a number that no event which came of the command
    is below: what was asked up to it is asked no more."""

    type: Literal["success", "error"]
    id: int
    result: NotRequired[JsonObject]
    meta: NotRequired[JsonObject]
    error: NotRequired[str]
    message: NotRequired[str]
