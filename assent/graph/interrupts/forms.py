"""The forms in which graphs ask with `interrupt()`, and the form of the answer that each expects.

- The gate, about a call that a crash cut off: `{kind: "unknown_outcome", tool, tool_call_id, args,
  digest, attempt}`. It takes our decision, with that `kind` and `digest`.
- An agent of ours within another graph: `{kind: "tool_approvals", digest, namespace, message_id,
  calls: […]}`. It takes `{kind, digest, decisions: {…}}`, our decisions by tool call id, also for
  some of the calls.
- `ask_human`: `{type: "ask_human", prompt, tool_call_id, …}`. It takes the answer, or `{type:
  "reject", message}`.
- LangChain's middleware, several calls at once: `{action_requests: […], review_configs: […]}`. It
  takes `{decisions: […]}`, one for each action, in order.
- LangChain's middleware, one call: `{type: "tool_approval", tool_call_id, name, args,
  description}`. It takes one such decision.
- agent-inbox: `{action_request: {action, args}, config: {allow_…}, description}`, or a list of
  them. It always takes a list of `{type, args}`.
- Any other value. It takes any JSON value that fits its schema, if it has one: LangGraph's
  `response_schema`, or else the value's own `response_schema` or `schema`.

Everything here is a pure function of values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from assent.core.approval import ApprovalKind
from assent.core.decisions import (
    DECISION_TYPES,
    Approve,
    Decision,
    Edit,
    Reject,
    Respond,
    decision_to_json,
)
from assent.core.digest import call_digest
from assent.core.json import Json, JsonObject
from assent.core.policy import Policy
from assent.graph.effects import UNKNOWN_OUTCOME
from assent.graph.json_schemas import Schema, references, schema_problem, usable_schema
from assent.graph.stream.jsonable import event_json

TOOL_APPROVALS = "tool_approvals"
"""The `kind` of the question that an agent within another graph asks (`graph/nested.py`)."""

ASK_HUMAN = "ask_human"
"""The `type` of the question that the tool `ask_human` asks."""

Answer = Callable[[Sequence[Any]], Json]
"""Makes an answer of decisions in the order of the questions. Where a form takes some, None stands
for a question that was not decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing to decide. `schema` describes the arguments of an edit (kind `tool`) or the answer
    (kind `input`); None allows any. An agent of ours that asks from within another graph has a
    `namespace` there, and a `message_id`, of its model's message."""

    kind: ApprovalKind
    args: Json
    allowed: tuple[str, ...]
    tool: str = ""
    tool_call_id: str = ""
    description: str = ""
    schema: Schema | None = None
    namespace: str = ""
    message_id: str = ""
    preview: Json = None
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Form:
    """The questions of an interrupt. `answer` turns the decisions on all of them, in their order,
    into the value that `interrupt()` returns. A form that `takes_some` asks again for the rest."""

    questions: tuple[Question, ...]
    answer: Answer
    takes_some: bool = False


def read_interrupt(value: Any, response_schema: Any = None) -> Form:
    """The form of an interrupt. A value of no known form is a question of kind `input`."""
    for read in (_lost_call, _tool_approvals, _ask_human, _batched, _per_call, _inbox):
        form = read(value, response_schema)
        if form is not None:
            return form
    return _free_question(value, response_schema)


# ── our own ───────────────────────────────────────────────────────────────────────────────────────


def _lost_call(value: Any, schema: Any) -> Form | None:
    if not _has(value, kind=str, tool=str, tool_call_id=str, digest=str, attempt=int):
        return None
    if value["kind"] != UNKNOWN_OUTCOME or not _has_own_digest(value):
        # A graph's own question may look alike.
        return None
    digest = value["digest"]
    question = Question(
        kind=ApprovalKind.UNKNOWN_OUTCOME,
        tool=value["tool"],
        tool_call_id=value["tool_call_id"],
        args=question_json(value.get("args")),
        allowed=("approve", "reject", "respond"),
    )
    # The gate accepts only an answer that names its question.
    named = {"kind": UNKNOWN_OUTCOME, "digest": digest}
    return Form((question,), lambda decisions: {**decision_to_json(decisions[0]), **named})


def _has_own_digest(value: Mapping[str, Any]) -> bool:
    try:
        return bool(value["digest"] == call_digest(value["tool"], value.get("args")))
    except (TypeError, ValueError):
        # The arguments are not JSON.
        return False


def _tool_approvals(value: Any, schema: Any) -> Form | None:
    if not _has(value, kind=str, digest=str, namespace=str, message_id=str, calls=list):
        return None
    if value["kind"] != TOOL_APPROVALS:
        return None
    try:
        questions = tuple(_approval_of(call, value) for call in value["calls"])
    except (KeyError, TypeError, msgspec.ValidationError):
        # A graph's own question may look alike.
        return None
    named = {"kind": TOOL_APPROVALS, "digest": value["digest"]}

    def answer(decisions: Sequence[Decision | None]) -> Json:
        given: JsonObject = {}
        for question, decision in zip(questions, decisions, strict=True):
            if decision is not None:
                given[question.tool_call_id] = decision_to_json(decision)
        return {**named, "decisions": given}

    return Form(questions, answer, takes_some=True)


def _approval_of(call: Mapping[str, Any], asked: Mapping[str, Any]) -> Question:
    policy = msgspec.convert(call["policy"], Policy)
    return Question(
        kind=ApprovalKind.TOOL,
        tool=call["tool"],
        tool_call_id=call["tool_call_id"],
        args=question_json(call["args"]),
        allowed=policy.allowed,
        schema=call["schema"],
        namespace=asked["namespace"],
        message_id=asked["message_id"],
        preview=call["preview"],
        policy=policy,
    )


def _ask_human(value: Any, schema: Any) -> Form | None:
    if not _has(value, type=str, prompt=str, tool_call_id=str) or value["type"] != ASK_HUMAN:
        return None
    args = {name: part for name, part in value.items() if name not in ("type", "tool_call_id")}
    question = Question(
        kind=ApprovalKind.INPUT,
        tool_call_id=value["tool_call_id"],
        args=question_json(args),
        allowed=("respond", "reject"),
        schema=usable_schema(schema),
    )
    return Form((question,), _free_answer)


def _free_question(value: Any, schema: Any) -> Form:
    args = question_json(value)
    usable = usable_schema(schema)
    if usable is None and isinstance(args, dict):
        usable = usable_schema(args.get("response_schema") or args.get("schema"))
    allowed: tuple[str, ...] = ("respond", "reject")
    if usable is not None and schema_problem({"type": "reject", "message": ""}, usable):
        # The graph says what it takes, and would fail on a rejection.
        allowed = ("respond",)
    question = Question(kind=ApprovalKind.INPUT, args=args, allowed=allowed, schema=usable)
    return Form((question,), _free_answer)


def _free_answer(decisions: Sequence[Decision]) -> Json:
    (decision,) = decisions
    if isinstance(decision, Respond):
        return decision.message
    return decision_to_json(decision)


# ── LangChain's middleware ────────────────────────────────────────────────────────────────────────


def _batched(value: Any, schema: Any) -> Form | None:
    if not _has(value, action_requests=list) or not value["action_requests"]:
        return None
    requests: list[Schema] = value["action_requests"]
    if not all(_has(request, name=str, args=Mapping) for request in requests):
        return None
    configs = value.get("review_configs")
    questions: list[Question] = []
    for request in requests:
        allowed = _allowed_in(configs, request)
        questions.append(_tool_question(request, request["name"], request["args"], allowed))
    reviews = _one_by_one(questions, _review)
    return Form(tuple(questions), lambda decisions: {"decisions": reviews(decisions)})


def _allowed_in(configs: Any, request: Mapping[str, Any]) -> tuple[str, ...]:
    """The decisions that the review config of a request's tool allows."""
    if not isinstance(configs, list):
        return DECISION_TYPES
    for config in configs:
        if not _has(config, action_name=str, allowed_decisions=list | tuple):
            continue
        if config["action_name"] == request["name"]:
            return _types_in(config["allowed_decisions"])
    return DECISION_TYPES


def _per_call(value: Any, schema: Any) -> Form | None:
    if not _has(value, type=str, name=str, args=Mapping) or value["type"] != "tool_approval":
        return None
    branches = dict(_branches(schema)) if isinstance(schema, Mapping) else {}
    question = _tool_question(
        value,
        value["name"],
        value["args"],
        _types_in(branches) or DECISION_TYPES,
        tool_call_id=str(value.get("tool_call_id") or ""),
        schema=_schema_of_edit(schema, branches),
    )
    return Form((question,), lambda decisions: _review(question.tool, decisions[0]))


def _branches(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The types of decision that a schema allows, each with its own schema."""
    for branch in schema.get("oneOf") or schema.get("anyOf") or [schema]:
        resolved = _resolved(branch, schema)
        kind = _resolved(resolved.get("properties", {}).get("type"), schema)
        words = [kind["const"]] if "const" in kind else kind.get("enum", ())
        for word in words:
            yield word, resolved


def _schema_of_edit(schema: Any, branches: Mapping[str, Schema]) -> Schema | None:
    """The schema of an edit's arguments, with the definitions that it refers to."""
    edited = branches.get("edit", {}).get("properties", {}).get("edited_action")
    args = _resolved(edited, schema).get("properties", {}).get("args")
    if not isinstance(args, Mapping):
        return None
    args = _resolved(args, schema)
    if any(references(args)):
        args = {"$defs": schema.get("$defs", {}), **args}
    return usable_schema(args)


def _resolved(part: Any, schema: Any) -> Schema:
    """The part, or the definition in the schema that it refers to."""
    if not isinstance(part, Mapping):
        return {}
    reference = part.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
        return part
    found = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
    return found if isinstance(found, Mapping) else {}


def _review(tool: str, decision: Decision) -> JsonObject:
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
    if not requests or not all(map(_is_inbox_request, requests)):
        return None
    questions: list[Question] = []
    for request in requests:
        action = request["action_request"]
        flags = request["config"]
        allowed = tuple(word for word, flag in INBOX_FLAGS.items() if flags.get(flag))
        # A request that allows nothing wants to be read. The graph goes on when it is ignored.
        question = _tool_question(request, action["action"], action["args"], allowed or ("reject",))
        questions.append(question)
    return Form(tuple(questions), _one_by_one(questions, _inbox_response))


def _is_inbox_request(request: Any) -> bool:
    if not _has(request, action_request=Mapping, config=Mapping):
        return False
    return _has(request["action_request"], action=str, args=Mapping)


def _inbox_response(tool: str, decision: Decision) -> JsonObject:
    match decision:
        case Approve():
            return {"type": "accept", "args": None}
        case Edit(args):
            return {"type": "edit", "args": {"action": tool, "args": args}}
        case Reject():
            # This form has no place for a reason.
            return {"type": "ignore", "args": None}
        case Respond(message):
            return {"type": "response", "args": message}


# ── calls of tools ────────────────────────────────────────────────────────────────────────────────


def _tool_question(
    request: Mapping[str, Any], tool: str, args: Any, allowed: tuple[str, ...], **more: Any
) -> Question:
    description = str(request.get("description") or "")
    return Question(
        kind=ApprovalKind.TOOL,
        tool=tool,
        args=question_json(args),
        allowed=allowed,
        description=description,
        **more,
    )


def _types_in(words: Collection[str]) -> tuple[str, ...]:
    """The types of decision among the words, in the usual order."""
    return tuple(word for word in DECISION_TYPES if word in words)


def _one_by_one(questions: Sequence[Question], worded: Callable[[str, Decision], Json]) -> Answer:
    tools = [question.tool for question in questions]
    return lambda decisions: [
        worded(tool, decision) for tool, decision in zip(tools, decisions, strict=True)
    ]


# ── values ────────────────────────────────────────────────────────────────────────────────────────


def question_json(value: Any) -> Json:
    """A value that a graph asks about, as JSON: exactly what is shown, digested, stored and
    compared. Bytes become base64, NaN and the infinities their names, and an object without a JSON
    form its text."""
    return event_json(value, unknown=str)


def _has(value: Any, **types: Any) -> bool:
    """True if the value is a mapping with fields of these types."""
    if not isinstance(value, Mapping):
        return False
    return all(isinstance(value.get(name), type_) for name, type_ in types.items())
