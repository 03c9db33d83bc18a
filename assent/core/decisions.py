"""The four decisions a person can take, how each is written down, and which decision answers which
approval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from assent.core.errors import InvalidDecision, NotFound, NothingPending


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
    """Do not run the call. The model is told so, with `message` as the reason."""

    message: str = ""


class Respond(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="respond"
):
    """Do not run the call: `message` is its result. For a question of a graph it is the answer, any
    JSON value."""

    message: Any


Decision = Approve | Edit | Reject | Respond

DECISION_TYPES = ("approve", "edit", "reject", "respond")


def decision_from_json(value: Mapping[str, Any]) -> Decision:
    """A decision from `{"type": "approve" | "edit" | "reject" | "respond", "args"?: …, "message"?:
    …}`. Raises `InvalidDecision`."""
    try:
        decision: Decision = msgspec.convert(dict(value), Decision)
        return decision
    except msgspec.ValidationError as error:
        raise InvalidDecision(
            f'This is not a decision: {error}. Send {{"type": "approve"}}, {{"type": "edit", "args": {{…}}}}, '
            '{"type": "reject", "message": "why"} or {"type": "respond", "message": "the answer"}.'
        ) from error


def decision_to_json(decision: Decision) -> dict[str, Any]:
    """The decision as a JSON object, with its `type`."""
    return dict(msgspec.to_builtins(decision))


def decision_type(decision: Decision) -> str:
    """approve, edit, reject or respond."""
    return str(decision.__struct_config__.tag)


class Answerable(Protocol):
    """What can be decided: it has an id, and the id of the tool call that it is about ("" if it is
    about none)."""

    @property
    def approval_id(self) -> str: ...

    @property
    def tool_call_id(self) -> str: ...


A = TypeVar("A", bound=Answerable)


def match_decisions(
    pending: Sequence[A], decisions: Decision | Mapping[str, Decision], *, for_all: bool = False
) -> list[tuple[A, Decision]]:
    """Which decision answers which approval. Keys are approval ids or tool call ids; a bare
    decision answers the only approval, or all of them `for_all`.

    Raises `NothingPending`, `NotFound` for a key that nothing pending has (`details["key"]`), and
    `InvalidDecision` for an ambiguous answer.
    """
    if not pending and not isinstance(decisions, Mapping):
        raise NothingPending("Nothing waits for a decision on this thread.")
    if not isinstance(decisions, Mapping):
        if len(pending) > 1 and not for_all:
            raise InvalidDecision(
                f"{len(pending)} approvals are pending. Say which decision is for which, by their ids.",
                approvals=[approval.approval_id for approval in pending],
            )
        return [(approval, decisions) for approval in pending]
    if not decisions:
        raise InvalidDecision("No decision was given.")
    matched: dict[str, tuple[A, Decision]] = {}
    for key, decision in decisions.items():
        approval = next(
            (
                approval
                for approval in pending
                if key and key in (approval.approval_id, approval.tool_call_id)
            ),
            None,
        )
        if approval is None:
            known = ", ".join(approval.approval_id for approval in pending) or "none"
            raise NotFound(f"No pending approval has the id '{key}'. Pending: {known}.", key=key)
        if approval.approval_id in matched:
            raise InvalidDecision(
                f"The approval {approval.approval_id} is decided twice, by its own id and by its tool call's."
            )
        matched[approval.approval_id] = (approval, decision)
    return list(matched.values())


def check_allowed(decision: Decision, approval_id: str, allowed: Sequence[str]) -> None:
    """Raise `InvalidDecision` if the approval does not take decisions of this type."""
    if decision_type(decision) not in allowed:
        raise InvalidDecision(
            f"The approval {approval_id} does not take '{decision_type(decision)}'. It takes: {', '.join(allowed)}.",
            approval_id=approval_id,
        )
