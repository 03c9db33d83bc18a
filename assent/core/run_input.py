"""The input of a run, as whoever starts it gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType, structs

from assent.core.json import Json, JsonObject

Message = str | list[JsonObject]
"""The words of a message: a text, or content blocks."""

NodeNames = list[str] | Literal["*"]
"""Nodes of a graph; "*" is all of them."""


class RunInput(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The input of a run: a `message`, or the graph's own `input`, which may be null.

    `context` and `config` (`configurable`, `tags` and `metadata`) are what the graph is run with,
    and before and after the nodes of `interrupt_before` and `interrupt_after` it pauses. `user` is
    who asks, as the graph sees them. `model` and `instructions` are what a task has chosen of its
    agent. The URL `webhook` is told of its end, and with `temporary` the thread that it makes is
    erased after it. `assistant` says whose settings are among the context and the config: it has
    the `assistant_id`, the number of the `version`, and the `recursion_limit` that this sets, if it
    does.
    """

    message: Message | None = None
    input: Json | UnsetType = UNSET
    context: JsonObject | None = None
    config: JsonObject | None = None
    interrupt_before: NodeNames | None = None
    interrupt_after: NodeNames | None = None
    user: JsonObject | None = None
    model: str | None = None
    instructions: str | None = None
    webhook: str | None = None
    assistant: JsonObject | None = None
    temporary: bool = False

    @property
    def has_input(self) -> bool:
        """True if there is an input of the graph's own, be it null."""
        return self.input is not UNSET

    @property
    def is_empty(self) -> bool:
        """True if there is neither a message nor an input."""
        return not self.message and not self.has_input

    @property
    def text(self) -> str:
        """The texts of the message, without its other blocks."""
        return message_text(self.message)

    @property
    def words(self) -> str:
        """The texts of the message, or of a person's first one among the `messages` of an input."""
        if self.message is not None or not isinstance(self.input, dict):
            return self.text
        messages = self.input.get("messages")
        listed = messages if isinstance(messages, list) else [messages]
        return next(filter(None, map(_words_of, listed)), "")

    def stored(self) -> JsonObject:
        """The fields that are given, as a run's row keeps them."""
        fields: JsonObject = msgspec.to_builtins(self)
        return fields

    def inherited(self) -> JsonObject:
        """The fields that runs which go on after a pause take over."""
        fields = self.stored()
        return {name: fields[name] for name in INHERITED if name in fields}


GIVEN = RunInput.__struct_fields__

AFTER_ITS_END = ("webhook", "temporary")
"""The fields that say what to do when a run has ended. A copy of what it did has none of them."""

INHERITED = (
    *("context", "config", "interrupt_before", "interrupt_after", "user"),
    *("model", "instructions", "assistant", *AFTER_ITS_END),
)

SENT = tuple(name for name in GIVEN if name not in ("user", "assistant", "temporary"))
"""The fields that clients send."""

GIVEN_EXCERPTS = ("context", "configurable", "model", "instructions")
"""The fields of an approval's conversation that show what the run was given."""


def given_in(stored: Mapping[str, Json]) -> RunInput:
    """The input that a run's row keeps, beside what else it does."""
    return RunInput(**{name: stored[name] for name in GIVEN if name in stored})


def with_changes(given: RunInput, changes: Mapping[str, Json]) -> RunInput:
    """The input with these fields changed. A message takes the place of an input, and an input that
    of a message."""
    if "message" in changes:
        changes = {"input": UNSET, **changes}
    elif "input" in changes:
        changes = {"message": None, **changes}
    return structs.replace(given, **changes)


def message_text(message: Message | None) -> str:
    """The texts of a message, without its other blocks."""
    if isinstance(message, list):
        texts = [
            str(block.get("text", ""))
            for block in message
            if isinstance(block, dict) and block.get("type") == "text"
        ]
        return "\n".join(texts)
    return message or ""


def _words_of(message: Json) -> str:
    """The texts of a message in one of the forms that LangChain takes, if it is a person's."""
    match message:
        case str():
            return message
        case {"role": role, "content": content} | {"type": role, "content": content}:
            pass
        case [role, content]:
            pass
        case _:
            return ""
    is_persons = role in ("user", "human") and isinstance(content, str | list)
    return message_text(content) if is_persons else ""
