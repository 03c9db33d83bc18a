"""Answers of clients, in any form that clients of LangGraph send, and the decisions that they are
on what is pending."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, RootModel, model_validator

from assent.api.schemas import storable
from assent.core.approval import Approval, Choice, match_decisions
from assent.core.decisions import FORMS
from assent.core.errors import InvalidDecision, NotFound
from assent.core.json import Json, JsonObject
from assent.graph.interrupts.answers import ID, WORDS, decisions_from_answer

Schema = JsonObject
"""A JSON Schema."""


# ── as OpenAPI describes them ─────────────────────────────────────────────────────────────────────


def _object(title: str, required: Sequence[str], **properties: Json) -> Schema:
    return {
        "type": "object",
        "title": title,
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_ARGS: Schema = {"type": "object", "description": "The complete arguments"}
_REASON: Schema = {"type": "string", "description": "The reason. The model reads it"}
_SAID: Schema = {
    "description": "A text in place of the tool's result; or the answer to a question of kind "
    "`input`, any JSON"
}

_DIGEST: Schema = {
    "type": "string",
    "description": "What was shown. If something else is asked now, nothing is decided: 409",
}

DECISION: Schema = {
    "title": "Decision",
    "oneOf": [
        _object("Approve", ["type"], type={"const": "approve"}, digest=_DIGEST),
        _object("Edit", ["type", "args"], type={"const": "edit"}, args=_ARGS, digest=_DIGEST),
        _object("Reject", ["type"], type={"const": "reject"}, message=_REASON, digest=_DIGEST),
        _object(
            "Respond", ["type", "message"], type={"const": "respond"}, message=_SAID, digest=_DIGEST
        ),
    ],
}
"""One decision, in our own words."""

_EDITED = _object("Action", ["name", "args"], name={"type": "string"}, args=_ARGS)
_REVIEW: Schema = {
    "title": "Review",
    "description": "One of langchain's `HITLResponse`",
    "oneOf": [
        *DECISION["oneOf"],
        _object(
            "Edit of an action",
            ["type", "edited_action"],
            type={"const": "edit"},
            edited_action=_EDITED,
        ),
    ],
}
_INBOX: Schema = {
    "title": "agent-inbox",
    "description": "agent-inbox's `HumanResponse`. The `args` of an `accept` repeat what was "
    "shown, if they are given",
    "type": "object",
    "properties": {"type": {"enum": ["accept", "edit", "response", "ignore"]}, "args": {}},
    "required": ["type"],
    "additionalProperties": False,
}
_ANSWER: Schema = {
    "title": "Answer",
    "description": "The answer to the only pending approval, if that is a question of kind "
    "`input`: any JSON",
}
_IN_ORDER = "One for each of the questions that one interrupt asks, in their order"

_ONE: list[Schema] = [DECISION, _INBOX]
_LISTS: list[Schema] = [
    _object(
        "langchain",
        ["decisions"],
        decisions={"type": "array", "items": _REVIEW, "minItems": 1, "description": _IN_ORDER},
    ),
    {
        "title": "agent-inbox's list",
        "type": "array",
        "items": _INBOX,
        "minItems": 1,
        "description": _IN_ORDER,
    },
]
_FOR_ALL: Schema = {
    "title": "One decision for all that is pending",
    "type": "object",
    "properties": {
        "type": {"enum": ["approve", "edit", "reject", "respond"]},
        "args": _ARGS,
        "message": {},
        "all": {"const": True},
    },
    "required": ["type", "all"],
    "additionalProperties": False,
}
_BY_ID = _object(
    "By id",
    ["decisions"],
    decisions={
        "type": "object",
        "minProperties": 1,
        "description": "By the id of an approval, of its tool call or of its interrupt",
        "additionalProperties": {"anyOf": [*_ONE, *_LISTS, _ANSWER]},
    },
)


# ── as they are read ──────────────────────────────────────────────────────────────────────────────


class _Answer(RootModel[Any]):
    """An answer in any form."""

    @model_validator(mode="before")
    @classmethod
    def _can_be_stored(cls, body: Json) -> Json:
        return storable(body)


class ThreadAnswer(_Answer):
    """An answer to what a thread waits for: decisions by id, or in the order in which one interrupt
    asks; one for the only pending approval, or for `all`; or the answer to the only question."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [_BY_ID, *_ONE, _FOR_ALL, *_LISTS, _ANSWER]}
    )

    def choices(self, pending: Sequence[Approval]) -> list[Choice]:
        """The decisions, each with its approval. Raises what `decisions_from_answer` does."""
        digests = _digests(self.root)
        _check_names(digests, pending)
        answer, for_all = _for_all(_not_empty(_without_digests(self.root)))
        if for_all:
            answer = {"decisions": {approval.approval_id: answer for approval in pending}}
        return match_decisions(pending, decisions_from_answer(pending, answer), digests=digests)


class ApprovalAnswer(_Answer):
    """An answer to one approval: a decision, or the answer to its question."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [*_ONE, *_LISTS, _ANSWER]})

    def choices(self, approval_id: str, pending: Sequence[Approval]) -> list[Choice]:
        """The decision with its approval. Raises what `decisions_from_answer` does."""
        meant = [approval for approval in pending if approval.approval_id == approval_id]
        if not meant:
            raise NotFound(f"The approval {approval_id} is not pending.", key=approval_id)
        answer = _not_empty(_without_digests(self.root))
        decisions = decisions_from_answer(meant, answer)
        return match_decisions(meant, decisions, digests=_digests(self.root))


def _check_names(digests: Mapping[str, str], pending: Sequence[Approval]) -> None:
    """Raise `InvalidDecision` for a digest under an interrupt's id: the interrupt may ask several
    things, and a digest is of one."""
    interrupts = {approval.interrupt_id for approval in pending if approval.interrupt_id}
    if several := sorted(digests.keys() & interrupts):
        raise InvalidDecision(
            f"The digest under the interrupt '{several[0]}' is of one approval. "
            "Give it under that approval's own id."
        )


def _digests(body: Json) -> dict[str, str]:
    return {name: one["digest"] for name, one in _worded(body) if "digest" in one}


def _without_digests(body: Json) -> Json:
    """The body as clients of LangGraph know it."""
    by_name: dict[str, JsonObject] = {}
    for name, one in _worded(body):
        by_name[name] = {key: value for key, value in one.items() if key != "digest"}
    if "" in by_name:
        return by_name[""]
    if isinstance(body, dict) and isinstance(body.get("decisions"), dict):
        return {**body, "decisions": {**body["decisions"], **by_name}}
    return {**body, **by_name} if by_name else body


def _worded(body: Json) -> Iterator[tuple[str, dict[str, Json]]]:
    """The decisions in the body that may have a digest, by their ids; a bare one under ""."""
    if not isinstance(body, dict):
        return
    if _is_worded(body):
        yield "", body
        return
    named = body.get("decisions")
    if not isinstance(named, dict):
        # A body with any other key may be the answer to a question, in which nothing is ours.
        is_by_id = all(isinstance(name, str) and ID.fullmatch(name) for name in body)
        named = body if is_by_id else {}
    for name, one in named.items():
        if _is_worded(one):
            yield name, one


def _is_worded(one: Json) -> bool:
    """True for a decision in one of the known words. Raises `InvalidDecision` for a bad digest."""
    if not has_word(one):
        return False
    if "digest" in one and not isinstance(one["digest"], str):
        raise InvalidDecision(
            "A decision's 'digest' is a text: that of the approval as it was shown."
        )
    return True


def has_word(one: Json) -> bool:
    """True for an object whose `type` is one of the words of decisions."""
    return isinstance(one, dict) and isinstance(one.get("type"), str) and one["type"] in WORDS


def _not_empty(body: Json) -> Json:
    """A client that forgot its body answers nothing, though `{}` is JSON."""
    if body is None or body == {}:
        raise InvalidDecision(f"The body decides nothing. {FORMS}")
    return body


def _for_all(body: Json) -> tuple[Json, bool]:
    """The decision, and True if it is for all that is pending."""
    if not has_word(body) or "all" not in body:
        return body, False
    if not isinstance(body["all"], bool):
        raise InvalidDecision(
            "'all' is true or false: whether the decision is for all that is pending."
        )
    return {name: value for name, value in body.items() if name != "all"}, body["all"]
