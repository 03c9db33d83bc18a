"""What events and approvals say to a person who reads them as text, and what he may answer. Pure
functions of their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = Any
"""Any JSON value."""

Approval = Mapping[str, Json]
"""An approval as the server shows it."""


# ── events ────────────────────────────────────────────────────────────────────────────────────────


def line_of(event: Mapping[str, Json]) -> tuple[str, str] | None:
    """An event as one line, and its style; None for those that say nothing by themselves, or are no
    single line."""
    match event["type"]:
        case "run_recovered":
            return (
                "· The server was started again, and the run goes on. What was cut off comes anew.",
                "yellow",
            )
        case "run_cancelled":
            undone = (
                " What it did to the conversation is undone." if event.get("rolled_back") else ""
            )
            return f"The run was cancelled{_because(event.get('reason'))}.{undone}", "yellow"
        case "llm_retry":
            wait = event.get("delay_seconds", 0)
            when = f" in {round(wait)} s" if wait >= 1 else ""
            return (
                f"· The model failed ({event['error']['type']}) and is called again{when}. What it said so far does not count.",
                "yellow",
            )
        case "tool_unknown":
            return f"· {event['tool']} was cut off. Nobody knows whether it happened.", "yellow"
        case "budget_warning" | "budget_exceeded" as kind:
            word = "nearly used up" if kind == "budget_warning" else "used up"
            of = f"{_number(event['used'])} of {_number(event['limit'])} {UNITS.get(event['budget'], event['budget'])}"
            return (
                f"· A budget of {SCOPES.get(event['scope'], event['scope'])} is {word}: {of}.",
                "yellow",
            )
        case "broadcast":
            return str(event["message"]), "bold yellow"
        case "error":
            return str(event["message"]), "red"
        case str(kind) if kind.startswith("approval_"):
            return _line_of_approval(kind.removeprefix("approval_"), event)
    return None


def _line_of_approval(kind: str, event: Mapping[str, Json]) -> tuple[str, str] | None:
    what, known, by = _thing(event), event.get("by"), event.get("by") or "somebody"
    match kind:
        case "decided":
            words = DONE | DONE_OTHERWISE.get(event.get("kind", ""), {})
            done = f"{words.get(event['decision'], event['decision'])}{f' by {known}' if known else ''}"
            return f"· {what}: {done}{' by a standing grant' if event.get('grant') else ''}", "dim"
        case "voted":
            return (
                f"· {what}: {by} says {event['decision']}, {event.get('votes', 0)} of {event.get('quorum', 1)} who must agree",
                "dim",
            )
        case "withdrawn":
            return f"· {what}: {by} took the vote back", "dim"
        case "edited":
            return f"· {what}: {by} changed what is asked, and others must agree", "yellow"
        case "delegated":
            to = event.get("to") or f"whoever is {event.get('role')}"
            return f"· {what}: {by} lets {to} decide", "dim"
        case "commented":
            return f"· {what}: {by} says: {event.get('text', '')}", "dim"
        case "reminder":
            return f"· {what}: still waits{_until(event.get('expires_at'))}", "yellow"
        case "escalated":
            return (
                f"· {what}: nobody decided in time, so others were asked too: {', '.join(event.get('to', []))}",
                "yellow",
            )
        case "expired":
            return f"· {what}: nobody decided in time", "yellow"
        case "cancelled":
            return f"· {what}: needs no decision any more, for the run was cancelled", "yellow"
        case "superseded":
            return f"· {what}: does not stand any more{_because(event.get('reason'))}", "yellow"
    return None


DONE = {
    "approve": "approved",
    "edit": "approved with other arguments",
    "reject": "rejected",
    "respond": "answered",
}

DONE_OTHERWISE = {
    "budget": {
        "approve": "more was granted",
        "edit": "more was granted",
        "reject": "no more was granted",
    },
    "unknown_outcome": {
        "approve": "did not happen, so it runs",
        "reject": "given up",
        "respond": "its result was told",
    },
    "input": {"reject": "declined"},
}
"""What was decided, where it has another name for some kinds of approval."""

THINGS = {"input": "the question", "budget": "the budget", "node": "the step"}


def _thing(about: Mapping[str, Json]) -> str:
    return str(about.get("tool") or THINGS.get(about.get("kind", ""), "the question"))


def _because(reason: str | None) -> str:
    return f": {reason.rstrip('.')}" if reason else ""


def _until(expires_at: str | None) -> str:
    return f", until {local_time(expires_at)}" if expires_at else ""


def local_time(moment: str) -> str:
    """A moment as it is written where the reader is."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")


# ── budgets ───────────────────────────────────────────────────────────────────────────────────────

SCOPES = {"run": "this run", "thread": "this conversation", "agent": "this agent"}

UNITS = {
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "total_tokens": "tokens",
    "model_calls": "calls of the model",
    "tool_calls": "calls of tools",
    "seconds": "seconds of work",
    "cost": "of cost",
}


def _number(value: float) -> str:
    return f"{value:,.6f}".rstrip("0").rstrip(".")


def _budget(approval: Approval) -> str:
    args, preview = approval["args"], approval["preview"]
    holder, unit = (
        SCOPES.get(args["scope"], args["scope"]),
        UNITS.get(args["budget"], args["budget"]),
    )
    within = f" within a {preview['per']}" if preview.get("per") else ""
    return f"{holder.capitalize()} has used {_number(preview['used'])} of the {_number(preview['limit'])} {unit} that it may use{within}."


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────


def subject(approval: Approval) -> str:
    """What an approval is about, in a few words."""
    tool, node = approval["tool"], " › ".join((approval.get("node") or "").split("|"))
    match approval["kind"]:
        case "tool":
            return f"{tool} wants to run"
        case "node":
            return f"{node or 'a step'} wants to run"
        case "budget":
            return "may more be used?"
        case "unknown_outcome":
            return f"{tool or node or 'a step'} was cut off"
    return "a question for you"


def as_asked_now(approval: Approval) -> Approval:
    """The approval with the arguments that somebody has put in place of those that were asked, if
    somebody did, and their digest."""
    edit = approval.get("edit")
    return {**approval, "args": edit["args"], "digest": edit["digest"]} if edit else approval


def said_by_people(approval: Approval) -> list[str]:
    """What people have done with an approval that still waits, a line for each."""
    edit = approval.get("edit")
    lines = [f"{edit['by']} changed it to this."] if edit else []
    lines += [
        f"{vote['by']} says {vote['decision']['type']}."
        for vote in approval.get("votes") or ()
        if vote["digest"] == approval["digest"]
    ]
    lines += [f"{comment['by']}: {comment['text']}" for comment in approval.get("comments") or ()]
    return (
        [*lines, f"{approval['quorum']} people must agree."]
        if (approval.get("quorum") or 1) > 1
        else lines
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person reads of an approval: `notes` of ours, the `words` of whoever asks, and the
    value that is left (None if none is)."""

    notes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    value: Json = None


def asked(approval: Approval) -> Asked:
    """All of what is asked: what is not in the words is in the value."""
    args = approval["args"] if approval["args"] not in ({}, "") else None
    match approval["kind"]:
        case "unknown_outcome":
            notes = (
                "This was cut off, by a crash or because it took too long, and nobody knows whether it happened.",
                "Please find out, and then say which.",
            )
            return Asked(notes=notes, value=args)
        case "budget":
            return Asked(notes=(_budget(approval), "May it use more? Without more it ends."))
        case "node":
            return Asked(notes=("Here the graph stops by itself, to be let go on.",), value=args)
        case "input":
            return _question(args, approval.get("schema"))
    return Asked(value=args)


def _question(args: Json, schema: Json) -> Asked:
    if isinstance(args, str):
        return Asked(words=(args,))
    if not isinstance(args, Mapping):
        return Asked(value=args)
    rest = {
        name: value
        for name, value in args.items()
        if not (name in ("schema", "response_schema") and value == schema)
    }
    words = [
        rest.pop(name)
        for name in ("prompt", "question", "context")
        if isinstance(rest.get(name), str)
    ]
    notes: tuple[str, ...] = ()
    if words and _are_texts(rest.get("reasons")):
        notes = (
            f"It is asked because {' and '.join(REASONS.get(reason, reason) for reason in rest.pop('reasons'))}.",
        )
    if words and _are_texts(rest.get("choices")):
        # They are listed where they are chosen from.
        rest.pop("choices")
    return Asked(notes=notes, words=tuple(words), value=rest or None)


REASONS = {
    "ambiguity": "something is ambiguous",
    "missing_field": "something is missing",
    "conflicting_data": "what is known contradicts itself",
    "low_confidence": "the agent is not sure",
    "out_of_scope": "it is beyond what the agent may decide",
    "other": "the agent cannot go on by itself",
}
"""The reasons that `ask_human` knows, as the end of a sentence."""


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


# ── what may be answered ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to decide: what is typed for it (the first of the `words`, or any other), what it is
    called, and the decision's type."""

    words: tuple[str, ...]
    label: str
    type: str


def choices(approval: Approval) -> list[Choice]:
    """How an approval may be decided, but for a question that takes an answer."""
    every: tuple[Choice, ...]
    match approval["kind"]:
        case "unknown_outcome":
            every = LOST
        case "budget":
            limit, unit = (
                _number(approval["args"]["limit"]),
                UNITS.get(approval["args"]["budget"], approval["args"]["budget"]),
            )
            more = Choice(("a", "allow", "approve"), f"[a]llow up to {limit} {unit}", "approve")
            every = (
                more,
                Choice(("<a number>",), "<a number> allows up to that", "edit"),
                Choice(("s", "stop"), "[s]top", "reject"),
            )
        case _:
            every = CALL
    return [choice for choice in every if choice.type in approval["allowed"]]


CALL = (
    Choice(("a", "approve"), "[a]pprove", "approve"),
    Choice(("e", "edit"), "[e]dit", "edit"),
    Choice(("r", "reject"), "[r]eject", "reject"),
    Choice(("s", "answer"), "an[s]wer for it", "respond"),
)

LOST = (
    Choice(("h", "happened"), "it [h]appened", "respond"),
    Choice(("n", "not"), "it did [n]ot, run it", "approve"),
    Choice(("g", "give up"), "[g]ive up", "reject"),
)


def limit_from(text: str, approval: Approval) -> float | str | None:
    """The limit that a person types for a budget; a sentence if it cannot be; None if it is no
    number."""
    try:
        limit = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return None
    used = approval["preview"]["used"]
    if not used < limit < float("inf"):
        return f"The new limit must be above the {_number(used)} that are used."
    return int(limit) if limit == int(limit) else limit


# ── answers to questions ──────────────────────────────────────────────────────────────────────────


class NotUnderstood(Exception):
    """What was typed is no answer; the exception's text is a sentence that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a question takes. `listed` are the answers to choose from, by number if they are
    `numbered`, and `only` says that there are no others. `type` is the JSON type of the answer; ""
    leaves it open: text, or JSON."""

    listed: tuple[Json, ...] = ()
    only: bool = False
    numbered: bool = True
    type: str = ""

    @property
    def hint(self) -> str:
        """What to type, in a few words."""
        if self.listed:
            number = "a number or the answer itself" if self.numbered else "one of these, in full"
            return number if self.only else f"{number}, or another"
        return HINTS.get(self.type, "text, or JSON")

    def lines(self) -> list[str]:
        """The answers to choose from, a line for each."""
        return [
            f"{f'{place:3}' if self.numbered else '  -'}  {_on_one_line(answer)}"
            for place, answer in enumerate(self.listed, 1)
        ]

    def read(self, text: str) -> Json:
        """What was typed as an answer. Raises `NotUnderstood`."""
        for answer in self.listed:
            if text == _as_text(answer):
                return answer
        if (
            self.listed
            and self.numbered
            and text.isdecimal()
            and 1 <= int(text) <= len(self.listed)
        ):
            return self.listed[int(text) - 1]
        if self.only:
            raise NotUnderstood("This is none of the answers.")
        return _read(text, self.type)


HINTS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "yes or no",
    "object": "JSON",
    "array": "JSON",
}


def answers_for(approval: Approval) -> Answers:
    """What the question takes: by its schema, and by the choices that it names."""
    args, schema = approval["args"], approval.get("schema") or {}
    named = args.get("choices") if isinstance(args, Mapping) else None
    return answers_like(schema, named if isinstance(named, list) and _are_texts(named) else ())


def answers_like(schema: Mapping[str, Json], named: Sequence[str] = ()) -> Answers:
    """What such a schema takes; `named` are choices that it does not have itself."""
    enum = schema.get("enum")
    listed = tuple(enum) if isinstance(enum, list) else tuple(named)
    kind = schema.get("type")
    # An answer that looks like the number of another cannot be told from it.
    numbers = {str(place) for place in range(1, len(listed) + 1)}
    numbered = not any(
        _as_text(answer) in numbers and _as_text(answer) != str(place)
        for place, answer in enumerate(listed, 1)
    )
    return Answers(
        listed=listed,
        only=isinstance(enum, list),
        numbered=numbered,
        type=kind if isinstance(kind, str) else "",
    )


def _as_text(answer: Json) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _on_one_line(answer: Json) -> str:
    text = _as_text(answer)
    return text if text.isprintable() else json.dumps(answer, ensure_ascii=False)


def _read(text: str, kind: str) -> Json:
    if kind == "string":
        return text
    if kind == "boolean" and text.lower() in YES | NO:
        return text.lower() in YES
    try:
        return json.loads(text)
    except ValueError as error:
        if not kind and text[:1] not in ("{", "[", '"'):
            return text
        if kind in ("integer", "number", "boolean"):
            raise NotUnderstood(f"This is not {HINTS[kind]}.") from error
        raise NotUnderstood(
            f"This is no JSON: {error}." if kind else f"This begins like JSON and is none: {error}."
        ) from error


YES = frozenset({"y", "yes"})
NO = frozenset({"n", "no"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a form."""

    name: str
    answers: Answers
    needed: bool
    description: str = ""


def form_of(schema: Mapping[str, Json] | None) -> list[Field]:
    """The fields to fill in, if the answer is an object of plain values; empty if it is anything
    else."""
    if (
        not schema
        or schema.get("type") != "object"
        or not isinstance(schema.get("properties"), Mapping)
    ):
        return []
    properties: Mapping[str, Json] = schema["properties"]
    if not all(isinstance(each, Mapping) and _is_plain(each) for each in properties.values()):
        return []
    needed = schema.get("required") or []
    return [
        Field(
            name=name,
            answers=answers_like(each),
            needed=name in needed,
            description=str(each.get("description") or ""),
        )
        for name, each in properties.items()
    ]


def _is_plain(schema: Mapping[str, Json]) -> bool:
    return schema.get("type") in ("string", "integer", "number", "boolean") or isinstance(
        schema.get("enum"), list
    )
