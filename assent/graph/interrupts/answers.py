"""Turn an answer in any of the forms that clients send into decisions on the pending approvals.

Clients answer one form with another's words, so these are understood wherever they stand:

    approve   {"type": "approve"}
              {"type": "accept"}
    edit      {"type": "edit", "args": {…}}
              {"type": "edit", "args": {"action": tool, "args": {…}}}
              {"type": "edit", "edited_action": {"name": tool, "args": {…}}}
              with "editedAction" in its place, or beside it and the same
    reject    {"type": "reject", "message"?: why}
              {"type": "ignore"}
    respond   {"type": "respond", "message": answer}
              {"type": "response", "args": answer}

Several decisions come by position, as a list or as `{"decisions": [...]}`; or by id, as `{id:
answer}` or `{"decisions": {id: answer}}`. An id is an approval's, an interrupt's or a tool call's.
For a question of kind `input`, any other JSON value is the answer itself. An answer that looks like
a decision is sent as the `message` of a `respond`. No text is ever consent, whatever it says.

Everything here is a pure function of JSON values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from assent.core.approval import Approval, ApprovalKind, not_pending
from assent.core.decisions import FORMS, Approve, Decision, Edit, Reject, Respond
from assent.core.errors import InvalidDecision, NothingPending
from assent.core.json import Json

ID = re.compile(r"apr_[0-9a-f]{32}|[0-9a-f]{32}")
"""The id of an approval, or of a LangGraph interrupt."""

Pending = Sequence[Approval]


def decisions_from_answer(pending: Pending, answer: Json) -> dict[str, Decision]:
    """The decisions that an answer stands for, by approval id. `pending` are the thread's
    approvals, in their order.

    `check_decision` says if an approval takes its decision. Raises `NothingPending`, `NotFound` for
    an id that no pending approval has, and `InvalidDecision` for an answer of no known form, or for
    more or fewer approvals than are pending.
    """
    listed = _unwrapped(answer)
    is_by_id = listed is not answer and isinstance(listed, Mapping)
    if not pending and not (is_by_id and listed):
        raise NothingPending("Nothing waits for a decision on this thread.")
    if is_by_id:
        return _by_id(pending, listed)
    if isinstance(answer, Mapping) and _has_ids(pending, answer):
        return _by_id(pending, answer)
    return _all_of(pending, answer)


def _unwrapped(answer: Json) -> Json:
    """The decisions in `{"decisions": …}`, or any other answer as it is."""
    if isinstance(answer, Mapping) and set(answer) == {"decisions"}:
        return answer["decisions"]
    return answer


def _has_ids(pending: Pending, answers: Mapping[str, Json]) -> bool:
    if any(_with_id(pending, key) for key in answers):
        return True
    return bool(answers) and all(isinstance(key, str) and ID.fullmatch(key) for key in answers)


def _by_id(pending: Pending, answers: Mapping[str, Json]) -> dict[str, Decision]:
    if not answers:
        raise InvalidDecision("No decision was given.")
    decisions: dict[str, Decision] = {}
    for key, answer in answers.items():
        approvals = _with_id(pending, key)
        if not approvals:
            raise not_pending(pending, key)
        for approval_id, decision in _all_of(approvals, answer).items():
            if approval_id in decisions:
                raise InvalidDecision(
                    f"The approval {approval_id} is decided twice, under two of its ids."
                )
            decisions[approval_id] = decision
    return decisions


def _with_id(pending: Pending, key: Any) -> Pending:
    """The approval with this id or tool call id, or all approvals of the interrupt with it."""
    if not key:
        return []
    for approval in pending:
        if key in (approval.approval_id, approval.tool_call_id):
            return [approval]
    return [approval for approval in pending if key == approval.interrupt_id]


def _all_of(pending: Pending, answer: Json) -> dict[str, Decision]:
    """The decisions on all these approvals, in their order."""
    answers = _by_position(pending, answer)
    if answers is None and len(pending) > 1:
        raise _unclear(
            pending,
            f"{len(pending)} approvals are pending, and this is one answer. "
            "Say which is for which, by their ids.",
        )
    if answers is None:
        answers = [answer]
    if len(answers) != len(pending):
        raise _unclear(
            pending,
            f"Pending approvals: {len(pending)}; decisions that were given: {len(answers)}. "
            "Give one for each in order, or name them.",
        )
    if len({approval.interrupt_id for approval in pending}) > 1:
        raise _unclear(
            pending,
            "Several questions are pending, and nothing says in which order they were asked. "
            "Say which answer is for which, by their ids.",
        )
    decisions = map(_decision, pending, answers)
    return dict(zip(_ids(pending), decisions, strict=True))


def _ids(pending: Pending) -> list[str]:
    return [approval.approval_id for approval in pending]


def _unclear(pending: Pending, message: str) -> InvalidDecision:
    return InvalidDecision(message, approvals=_ids(pending))


def _by_position(pending: Pending, answer: Json) -> list[Json] | None:
    """The answers in a list; None if this is one answer. The answer to a question of kind `input`
    may itself be a list."""
    listed = _unwrapped(answer)
    if not isinstance(listed, list):
        return None
    if any(approval.kind is ApprovalKind.INPUT for approval in pending):
        return listed if listed and all(map(_is_worded, listed)) else None
    return listed


WORDS = {
    "approve": "approve",
    "accept": "approve",
    "edit": "edit",
    "reject": "reject",
    "ignore": "reject",
    "respond": "respond",
    "response": "respond",
}

FIELDS = {"type", "args", "message", "edited_action", "editedAction"}


def _has_word(answer: Json) -> bool:
    if not isinstance(answer, Mapping):
        return False
    word = answer.get("type")
    return isinstance(word, str) and word in WORDS


def _is_worded(answer: Json) -> bool:
    """True for one of the known words, without fields that no form has."""
    return _has_word(answer) and set(answer) <= FIELDS


def _looks_like_decision(answer: Json) -> bool:
    """True if the client meant a decision, though perhaps not a valid one: then it is not the
    answer to a question."""
    return _has_word(answer) or (isinstance(answer, Mapping) and "decisions" in answer)


def _decision(approval: Approval, answer: Json) -> Decision:
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
            return Respond(_response(answer))


def _check_unchanged(approval: Approval, answer: Mapping[str, Json]) -> None:
    """An approval has no other fields, but agent-inbox may repeat the call as it was shown."""
    shown = approval.current_args
    repeated = (None, shown, {"action": approval.tool, "args": shown})
    has_others = answer.get("message") or {"edited_action", "editedAction"} & set(answer)
    if has_others or answer.get("args") not in repeated:
        raise InvalidDecision(
            f"The approval {approval.approval_id} is for exactly what was shown, so an approval "
            f"takes neither words nor other arguments. {FORMS}",
            approval_id=approval.approval_id,
        )


def _reason(answer: Mapping[str, Json]) -> str:
    reason = answer.get("message") or answer.get("args") or ""
    if not isinstance(reason, str):
        raise InvalidDecision("The reason of a rejection must be a text, as its `message`.")
    return reason


def _response(answer: Mapping[str, Json]) -> Json:
    for name in ("message", "args"):
        if name in answer:
            return answer[name]
    raise InvalidDecision(
        'An answer needs its words: {"type": "respond", "message": "the answer"}.'
    )


def _edited_args(approval: Approval, answer: Mapping[str, Json]) -> dict[str, Any]:
    args: Json = answer.get("args")
    edited = answer.get("edited_action", answer.get("editedAction"))
    if edited != answer.get("editedAction", edited):
        raise InvalidDecision(
            "The edit names two actions that differ, as `edited_action` and `editedAction`. "
            "Send one of them."
        )
    if edited is not None:
        action = edited if isinstance(edited, Mapping) else {}
        _check_same_tool(approval, action.get("name"))
        args = action.get("args")
    elif _names_action(approval, args):
        _check_same_tool(approval, args["action"])
        args = args["args"]
    if not isinstance(args, Mapping):
        raise InvalidDecision(
            'An edit needs the complete arguments, as an object: {"type": "edit", "args": {…}}.'
        )
    return dict(args)


def _names_action(approval: Approval, args: Json) -> bool:
    """True for `{"action": tool, "args": {…}}`, unless the tool itself has an argument `action`."""
    if not isinstance(args, Mapping) or set(args) != {"action", "args"}:
        return False
    return not isinstance(approval.args, Mapping) or "action" not in approval.args


def _check_same_tool(approval: Approval, name: Any) -> None:
    if name != approval.tool:
        raise InvalidDecision(
            f"The approval {approval.approval_id} is for the tool '{approval.tool}', and an edit "
            f"cannot make it '{name}'. Edit its arguments, or reject it.",
            approval_id=approval.approval_id,
        )
