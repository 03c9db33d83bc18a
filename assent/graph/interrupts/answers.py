"""From an answer in whichever form a client sends it to decisions on what is pending. Pure
functions of JSON values.

Clients answer one form with another's words, so the words are understood wherever they stand:

    approve   {"type": "approve"}, {"type": "accept"} edit      {"type": "edit", "args": {…}},
    {"type": "edit", "args": {"action": tool, "args": {…}}},
              {"type": "edit", "edited_action": {"name": tool, "args": {…}}}
    reject    {"type": "reject", "message"?: why}, {"type": "ignore"}
    respond   {"type": "respond", "message": answer}, {"type": "response", "args": answer}

Several come as `{"decisions": [...]}` or as a list, by position; or by id, as `{"decisions": {id:
answer}}` or `{id: answer}`, where an id is an approval's, an interrupt's or a tool call's. For a
question of kind `input`, any other JSON value is the answer itself; one that looks like a decision
is given as the `message` of a `respond`. No text is ever consent, whatever it says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from assent.core.decisions import Approve, Decision, Edit, Reject, Respond
from assent.core.errors import InvalidDecision, NotFound, NothingPending
from assent.core.rows import ApprovalKind

ID = re.compile(r"apr_[0-9a-f]{32}|[0-9a-f]{32}")
"""An approval's id, or that of an interrupt of LangGraph's."""

FORMS = (
    'Send {"type": "approve"}, {"type": "edit", "args": {…}}, {"type": "reject", "message": "why"} or '
    '{"type": "respond", "message": "the answer"}.'
)


class Answerable(Protocol):
    """What an answer is mapped to: a `PendingApproval`, or a stored one."""

    @property
    def approval_id(self) -> str: ...
    @property
    def kind(self) -> ApprovalKind: ...
    @property
    def tool(self) -> str: ...
    @property
    def tool_call_id(self) -> str: ...
    @property
    def args(self) -> Any: ...
    @property
    def interrupt_id(self) -> str | None: ...


A = TypeVar("A", bound=Answerable)


def decisions_from_answer(pending: Sequence[A], answer: Any) -> dict[str, Decision]:
    """The decisions, by approval id, that an answer in any known form is. `pending` are the
    thread's approvals, in their order.

    Whether an approval takes its decision is for `check_decision` to say. Raises `NothingPending`,
    `NotFound` for an id that nothing pending has, and `InvalidDecision` for an answer that is of no
    known form, or for more or fewer questions than are pending.
    """
    named = (
        isinstance(answer, Mapping)
        and set(answer) == {"decisions"}
        and isinstance(answer["decisions"], Mapping)
    )
    if not pending and not (named and answer["decisions"]):
        raise NothingPending("Nothing waits for a decision on this thread.")
    if named:
        return _by_id(pending, answer["decisions"])
    if _is_by_id(pending, answer):
        return _by_id(pending, answer)
    return _all_of(pending, answer)


def _is_by_id(pending: Sequence[A], answer: Any) -> bool:
    if not isinstance(answer, Mapping) or not answer:
        return False
    return any(_named(pending, key) for key in answer) or all(
        isinstance(key, str) and ID.fullmatch(key) for key in answer
    )


def _by_id(pending: Sequence[A], answers: Mapping[str, Any]) -> dict[str, Decision]:
    if not answers:
        raise InvalidDecision("No decision was given.")
    decisions: dict[str, Decision] = {}
    for key, answer in answers.items():
        meant = _named(pending, key)
        if not meant:
            known = ", ".join(approval.approval_id for approval in pending) or "none"
            raise NotFound(f"No pending approval has the id '{key}'. Pending: {known}.", key=key)
        for approval_id, decision in _all_of(meant, answer).items():
            if approval_id in decisions:
                raise InvalidDecision(
                    f"The approval {approval_id} is decided twice, under two of its ids."
                )
            decisions[approval_id] = decision
    return decisions


def _named(pending: Sequence[A], key: Any) -> list[A]:
    """The approvals that an id means: one, or all those of an interrupt."""
    if not key:
        return []
    one = [approval for approval in pending if key in (approval.approval_id, approval.tool_call_id)]
    return one[:1] or [approval for approval in pending if key == approval.interrupt_id]


def _all_of(pending: Sequence[A], answer: Any) -> dict[str, Decision]:
    """The decisions on all of these, which are in order."""
    answers = _by_position(pending, answer)
    if answers is None:
        if len(pending) > 1:
            raise InvalidDecision(
                f"{len(pending)} approvals are pending, and this is one answer. Say which is for which, by their ids.",
                approvals=[approval.approval_id for approval in pending],
            )
        answers = [answer]
    if len(answers) != len(pending):
        raise InvalidDecision(
            f"{len(pending)} approvals are pending, and these are {len(answers)} decisions. Give one for each in order, or name them.",
            approvals=[approval.approval_id for approval in pending],
        )
    if len({approval.interrupt_id for approval in pending}) > 1:
        raise InvalidDecision(
            "Several questions are pending, and nothing says in which order they were asked. Say which answer is for which, by their ids.",
            approvals=[approval.approval_id for approval in pending],
        )
    return {
        approval.approval_id: _decision(approval, each)
        for approval, each in zip(pending, answers, strict=True)
    }


def _by_position(pending: Sequence[A], answer: Any) -> list[Any] | None:
    """The answers in a list of them; None if it is one answer. What a question of kind `input`
    takes may itself be a list."""
    listed = (
        answer["decisions"]
        if isinstance(answer, Mapping) and set(answer) == {"decisions"}
        else answer
    )
    if not isinstance(listed, list):
        return None
    if all(approval.kind is not ApprovalKind.INPUT for approval in pending):
        return listed
    return listed if listed and all(_is_worded(each) for each in listed) else None


WORDS = {
    "approve": "approve",
    "accept": "approve",
    "edit": "edit",
    "reject": "reject",
    "ignore": "reject",
    "respond": "respond",
    "response": "respond",
}

FIELDS = {"type", "args", "message", "edited_action"}


def _is_worded(answer: Any) -> bool:
    """Whether it is one of the known words, with nothing beside that they do not have."""
    return (
        isinstance(answer, Mapping)
        and isinstance(answer.get("type"), str)
        and answer["type"] in WORDS
        and set(answer) <= FIELDS
    )


def _looks_like_decision(answer: Any) -> bool:
    """Whether somebody has meant it as a decision, so that it is none of a question's answers, even
    if it is not quite one."""
    return isinstance(answer, Mapping) and (
        "decisions" in answer or (isinstance(answer.get("type"), str) and answer["type"] in WORDS)
    )


def _decision(approval: Answerable, answer: Any) -> Decision:
    if approval.kind is ApprovalKind.INPUT and not _looks_like_decision(answer):
        return Respond(answer)
    if not _is_worded(answer):
        raise InvalidDecision(
            f"This is not a decision on the approval {approval.approval_id}. {FORMS}",
            approval_id=approval.approval_id,
        )
    match WORDS[answer["type"]]:
        case "approve":
            _check_unchanged(approval, answer)
            return Approve()
        case "edit":
            return Edit(_edited_args(approval, answer))
        case "reject":
            return Reject(_reason(answer))
        case _:
            return Respond(_said(answer))


def _check_unchanged(approval: Answerable, answer: Mapping[str, Any]) -> None:
    """An approval says nothing more, or what agent-inbox lets it repeat: the call as it was
    shown."""
    repeated = (None, approval.args, {"action": approval.tool, "args": approval.args})
    if answer.get("message") or "edited_action" in answer or answer.get("args") not in repeated:
        raise InvalidDecision(
            f"The approval {approval.approval_id} is for exactly what was shown, so an approval takes neither words nor other arguments. "
            f"{FORMS}",
            approval_id=approval.approval_id,
        )


def _reason(answer: Mapping[str, Any]) -> str:
    reason = answer.get("message") or answer.get("args") or ""
    if not isinstance(reason, str):
        raise InvalidDecision("The reason of a rejection must be a text, as its `message`.")
    return reason


def _said(answer: Mapping[str, Any]) -> Any:
    if "message" not in answer and "args" not in answer:
        raise InvalidDecision(
            'An answer needs its words: {"type": "respond", "message": "the answer"}.'
        )
    return answer["message"] if "message" in answer else answer["args"]


def _edited_args(approval: Answerable, answer: Mapping[str, Any]) -> dict[str, Any]:
    args = answer.get("args")
    edited = answer.get("edited_action")
    if edited is not None:
        name, args = (
            (edited.get("name"), edited.get("args"))
            if isinstance(edited, Mapping)
            else (None, None)
        )
        _check_same_tool(approval, name)
    elif (
        isinstance(args, Mapping)
        and set(args) == {"action", "args"}
        and not _takes(approval, "action")
    ):
        _check_same_tool(approval, args["action"])
        args = args["args"]
    if not isinstance(args, Mapping):
        raise InvalidDecision(
            'An edit needs the complete arguments, as an object: {"type": "edit", "args": {…}}.'
        )
    return dict(args)


def _takes(approval: Answerable, argument: str) -> bool:
    return isinstance(approval.args, Mapping) and argument in approval.args


def _check_same_tool(approval: Answerable, name: Any) -> None:
    if name != approval.tool:
        raise InvalidDecision(
            f"The approval {approval.approval_id} is for the tool '{approval.tool}', and an edit cannot make it '{name}'. "
            "Edit its arguments, or reject it.",
            approval_id=approval.approval_id,
        )
