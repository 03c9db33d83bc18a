"""The four decisions that a person can take, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from assent.core.errors import InvalidDecision
from assent.core.json import JsonObject


class Approve(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="approve"
):
    """Run the call exactly as it was shown."""


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="edit"):
    """Run the call with these arguments instead. They are complete: they replace the shown ones."""

    args: dict[str, Any]


class Reject(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="reject"
):
    """Do not run the call. The model gets `message` as the reason."""

    message: str = ""


class Respond(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="respond"
):
    """Do not run the call: `message` is its result. For a question of a graph it is the answer, any
    JSON value."""

    message: Any


Decision = Approve | Edit | Reject | Respond

FORMS = (
    'Send {"type": "approve"}, {"type": "edit", "args": {…}}, '
    '{"type": "reject", "message": "why"} or {"type": "respond", "message": "the answer"}.'
)
"""The end of an error about something that is no decision."""

DECISION_TYPES = ("approve", "edit", "reject", "respond")


def decision_from_json(value: Mapping[str, Any]) -> Decision:
    """A decision from `{"type": "approve" | "edit" | "reject" | "respond", "args"?: …, "message"?:
    …}`. Raises `InvalidDecision`."""
    try:
        decision: Decision = msgspec.convert(dict(value), Decision)
        return decision
    except msgspec.ValidationError as error:
        raise InvalidDecision(f"This is not a decision: {error}. {FORMS}") from error


def decision_to_json(decision: Decision) -> JsonObject:
    """The decision as a JSON object, with its `type`."""
    return dict(msgspec.to_builtins(decision))


def decision_type(decision: Decision) -> str:
    """approve, edit, reject or respond."""
    return str(decision.__struct_config__.tag)


def check_allowed(decision: Decision, approval_id: str, allowed: Sequence[str]) -> None:
    """Raise `InvalidDecision` if the approval does not take decisions of this type."""
    if decision_type(decision) not in allowed:
        raise InvalidDecision(
            f"The approval {approval_id} does not take '{decision_type(decision)}'. "
            f"It takes: {', '.join(allowed)}.",
            approval_id=approval_id,
        )
