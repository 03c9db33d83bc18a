"""The forms in which graphs ask with `interrupt()`, and the form in which each wants its answer.
Pure functions of values.

- Our gate, of a call that a crash cut off: `{kind: "unknown_outcome", tool, tool_call_id, args,
  digest, attempt}`. It takes our decision, with that `kind` and `digest`.
- Our `ask_human`: `{type: "ask_human", prompt, tool_call_id, …}`. It takes the answer, or `{type:
  "reject", message}`.
- langchain's middleware, batched: `{action_requests: […], review_configs: […]}`. It takes
  `{decisions: […]}`, one for each action, in order.
- langchain's middleware, one by one: `{type: "tool_approval", tool_call_id, name, args,
  description}`. It takes one such decision.
- agent-inbox: `{action_request: {action, args}, config: {allow_…}, description}`, or a list of
  them. It takes a list of `{type, args}`, always.
- Anybody else: any value. It takes any JSON value that fits its schema, if it has one: LangGraph's
  `response_schema`, or else what the value itself has under `response_schema` or `schema`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema
from jsonschema.validators import validator_for
from pydantic_core import to_jsonable_python
from referencing import Registry

from assent.core.decisions import (
    DECISION_TYPES,
    Approve,
    Decision,
    Edit,
    Reject,
    Respond,
    decision_to_json,
)
from assent.core.rows import ApprovalKind
from assent.graph.effects import UNKNOWN_OUTCOME

ASK_HUMAN = "ask_human"
"""The `type` of the question that the tool `ask_human` asks."""

Schema = Mapping[str, Any]
"""A JSON Schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing to decide. `schema` is what an edit's arguments (kind `tool`) or an answer (kind
    `input`) must be; None leaves it open."""

    kind: ApprovalKind
    args: Any
    allowed: tuple[str, ...]
    tool: str = ""
    tool_call_id: str = ""
    digest: str | None = None
    description: str = ""
    schema: Schema | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """What an interrupt asks, and `answer`: from the decisions on all its questions, in their
    order, to what `interrupt()` is to return."""

    questions: tuple[Question, ...]
    answer: Callable[[Sequence[Decision]], Any]


def read_interrupt(value: Any, response_schema: Any = None) -> Form:
    """The form of an interrupt. One of no known form is a question of kind `input`."""
    for known in (_lost_call, _question_of_tool, _batched, _per_call, _inbox):
        form = known(value, response_schema)
        if form is not None:
            return form
    return _free_question(value, response_schema)


# ── our own ───────────────────────────────────────────────────────────────────────────────────────


def _lost_call(value: Any, schema: Any) -> Form | None:
    if (
        not _has(value, kind=str, tool=str, tool_call_id=str, digest=str)
        or value["kind"] != UNKNOWN_OUTCOME
    ):
        return None
    question = Question(
        kind=ApprovalKind.UNKNOWN_OUTCOME,
        tool=value["tool"],
        tool_call_id=value["tool_call_id"],
        args=value.get("args"),
        digest=value["digest"],
        allowed=("approve", "reject", "respond"),
    )

    def answer(decisions: Sequence[Decision]) -> Any:
        # Named, so that the gate cannot take it for an answer to another question, nor another
        # answer for it.
        return {
            **decision_to_json(decisions[0]),
            "kind": UNKNOWN_OUTCOME,
            "digest": value["digest"],
        }

    return Form((question,), answer)


def _question_of_tool(value: Any, schema: Any) -> Form | None:
    if not _has(value, type=str, prompt=str, tool_call_id=str) or value["type"] != ASK_HUMAN:
        return None
    question = Question(
        kind=ApprovalKind.INPUT,
        tool_call_id=value["tool_call_id"],
        args={
            name: to_json(part)
            for name, part in value.items()
            if name not in ("type", "tool_call_id")
        },
        allowed=("respond", "reject"),
        schema=_usable(schema),
    )
    return Form((question,), _freely)


def _free_question(value: Any, schema: Any) -> Form:
    args = to_json(value)
    own = (args.get("response_schema") or args.get("schema")) if isinstance(args, dict) else None
    usable = _usable(schema) or _usable(own)
    # A graph that says what it takes may have no room for a rejection, and would fail on one.
    refusable = usable is None or fits({"type": "reject", "message": ""}, usable)
    question = Question(
        kind=ApprovalKind.INPUT,
        args=args,
        allowed=("respond", "reject") if refusable else ("respond",),
        schema=usable,
    )
    return Form((question,), _freely)


def _freely(decisions: Sequence[Decision]) -> Any:
    (decision,) = decisions
    return decision.message if isinstance(decision, Respond) else decision_to_json(decision)


# ── langchain's middleware ────────────────────────────────────────────────────────────────────────


def _batched(value: Any, schema: Any) -> Form | None:
    if not _has(value, action_requests=list) or not value["action_requests"]:
        return None
    requests: list[Mapping[str, Any]] = value["action_requests"]
    if not all(_has(request, name=str, args=Mapping) for request in requests):
        return None
    configs = value.get("review_configs")
    questions = tuple(
        Question(
            kind=ApprovalKind.TOOL,
            tool=request["name"],
            args=to_json(request["args"]),
            allowed=_allowed_in(configs if isinstance(configs, list) else [], request["name"]),
            description=str(request.get("description") or ""),
        )
        for request in requests
    )

    def answer(decisions: Sequence[Decision]) -> Any:
        return {
            "decisions": [
                _reviewed(question.tool, decision)
                for question, decision in zip(questions, decisions, strict=True)
            ]
        }

    return Form(questions, answer)


def _allowed_in(configs: Sequence[Any], tool: str) -> tuple[str, ...]:
    """What the review config for a tool allows. All actions of one tool have the same."""
    for config in configs:
        if (
            _has(config, action_name=str, allowed_decisions=list | tuple)
            and config["action_name"] == tool
        ):
            return tuple(word for word in DECISION_TYPES if word in config["allowed_decisions"])
    return DECISION_TYPES


def _per_call(value: Any, schema: Any) -> Form | None:
    if not _has(value, type=str, name=str, args=Mapping) or value["type"] != "tool_approval":
        return None
    branches = dict(_branches(schema)) if isinstance(schema, Mapping) else {}
    question = Question(
        kind=ApprovalKind.TOOL,
        tool=value["name"],
        tool_call_id=str(value.get("tool_call_id") or ""),
        args=to_json(value["args"]),
        allowed=tuple(word for word in DECISION_TYPES if word in branches) or DECISION_TYPES,
        description=str(value.get("description") or ""),
        schema=_schema_of_edit(schema, branches),
    )
    return Form((question,), lambda decisions: _reviewed(value["name"], decisions[0]))


def _branches(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The kinds of decision that a schema has room for, each with its own schema."""
    for branch in schema.get("oneOf") or schema.get("anyOf") or [schema]:
        resolved = _resolved(branch, schema)
        kind = _resolved(resolved.get("properties", {}).get("type", {}), schema)
        for word in [kind["const"]] if "const" in kind else kind.get("enum", ()):
            yield word, resolved


def _schema_of_edit(schema: Any, branches: Mapping[str, Schema]) -> Schema | None:
    """What the arguments of an edit must be, as a schema that stands alone."""
    edited = _resolved(
        branches.get("edit", {}).get("properties", {}).get("edited_action", {}), schema
    )
    args = edited.get("properties", {}).get("args")
    if not isinstance(args, Mapping):
        return None
    args = _resolved(args, schema)
    definitions = {"$defs": schema["$defs"]} if any(_references(args)) else {}
    return _usable({**definitions, **args})


def _resolved(part: Any, schema: Any) -> Schema:
    """The part, or what it refers to among the schema's definitions."""
    if not isinstance(part, Mapping):
        return {}
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        found = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        return found if isinstance(found, Mapping) else {}
    return part


def _reviewed(tool: str, decision: Decision) -> dict[str, Any]:
    match decision:
        case Approve():
            return {"type": "approve"}
        case Edit(args):
            return {"type": "edit", "edited_action": {"name": tool, "args": args}}
        case Reject(message):
            return {"type": "reject", "message": message} if message else {"type": "reject"}
        case Respond(message):
            return {"type": "respond", "message": message}


# ── agent-inbox ───────────────────────────────────────────────────────────────────────────────────

INBOX_FLAGS = {
    "approve": "allow_accept",
    "edit": "allow_edit",
    "reject": "allow_ignore",
    "respond": "allow_respond",
}


def _inbox(value: Any, schema: Any) -> Form | None:
    requests = value if isinstance(value, list | tuple) else [value]
    if not requests or not all(_is_inbox_request(request) for request in requests):
        return None
    questions = tuple(
        Question(
            kind=ApprovalKind.TOOL,
            tool=request["action_request"]["action"],
            args=to_json(request["action_request"]["args"]),
            allowed=_allowed_by_flags(request["config"]),
            description=str(request.get("description") or ""),
        )
        for request in requests
    )

    def answer(decisions: Sequence[Decision]) -> Any:
        return [
            _in_inbox_words(question.tool, decision)
            for question, decision in zip(questions, decisions, strict=True)
        ]

    return Form(questions, answer)


def _is_inbox_request(request: Any) -> bool:
    return _has(request, action_request=Mapping, config=Mapping) and _has(
        request["action_request"], action=str, args=Mapping
    )


def _allowed_by_flags(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What the flags allow. Whoever allows nothing wants to be read, and ignoring it is how the
    graph gets on."""
    return tuple(word for word in DECISION_TYPES if config.get(INBOX_FLAGS[word])) or ("reject",)


def _in_inbox_words(tool: str, decision: Decision) -> dict[str, Any]:
    match decision:
        case Approve():
            return {"type": "accept", "args": None}
        case Edit(args):
            return {"type": "edit", "args": {"action": tool, "args": args}}
        case Reject():
            # There is no place for a reason in this form.
            return {"type": "ignore", "args": None}
        case Respond(message):
            return {"type": "response", "args": message}


# ── schemas ───────────────────────────────────────────────────────────────────────────────────────


def schema_problem(value: Any, schema: Schema) -> str | None:
    """What is wrong with a value, as the end of a sentence; None if it fits."""
    # The registry is empty, so that a schema makes nobody fetch anything.
    validator = validator_for(schema, jsonschema.Draft202012Validator)(schema, registry=Registry())
    error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    return None if error is None else f"{error.message} (at {error.json_path})"


def fits(value: Any, schema: Schema) -> bool:
    """Whether a value is what the schema describes."""
    return schema_problem(value, schema) is None


def _usable(schema: Any) -> Schema | None:
    """The schema, if it is one and can be judged by without any other document."""
    if not isinstance(schema, Mapping) or not schema or not set(schema) & SCHEMA_WORDS:
        return None
    schema = to_json(schema)
    try:
        validator_for(schema, jsonschema.Draft202012Validator).check_schema(schema)
    except jsonschema.SchemaError:
        return None
    return schema if all(reference.startswith("#") for reference in _references(schema)) else None


SCHEMA_WORDS = frozenset(
    {
        "type",
        "enum",
        "const",
        "properties",
        "items",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "$ref",
        "if",
        "required",
    }
)
"""A mapping with none of these says nothing of a value, and is no schema but something else of that
name."""


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for name, part in schema.items():
            if name in ("$ref", "$dynamicRef") and isinstance(part, str):
                yield part
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


# ── values ────────────────────────────────────────────────────────────────────────────────────────


def to_json(value: Any) -> Any:
    """A value of a graph as JSON; what has no JSON form becomes its text."""
    return to_jsonable_python(value, serialize_unknown=True)


def _has(value: Any, **fields: Any) -> bool:
    """Whether the value is a mapping with fields of these types."""
    return isinstance(value, Mapping) and all(
        isinstance(value.get(name), type_) for name, type_ in fields.items()
    )
