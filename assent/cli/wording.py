"""Events and approvals in words, and the answers that a person may type. Pure functions of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from assent.cli.brief import number
from assent.core.json import Json, JsonObject
from assent.core.question_text import Asked, answers_for, form_of, read_question
from assent.core.text import because, clipped

Approval = Mapping[str, Json]
"""An approval as the server shows it."""

Line = tuple[str, str]
"""A text and its style."""


# ── events ────────────────────────────────────────────────────────────────────────────────────────


def line_of(event: JsonObject) -> Line | None:
    """An event as one line; None for those that say nothing by themselves, or not in one line."""
    match event["type"]:
        case "run_recovered":
            return (
                "· The server was restarted, and the run goes on. "
                "The message that was cut off starts again.",
                "yellow",
            )
        case "run_cancelled":
            words = f"The run was cancelled{because(event.get('reason'))}."
            if event.get("rolled_back"):
                words += " Its changes to the conversation are undone."
            return words, "yellow"
        case "llm_retry":
            seconds = event.get("delay_seconds", 0)
            delay = f" in {round(seconds)} s" if seconds >= 1 else ""
            return (
                f"· The model failed ({event['error']['type']}) and is called again{delay}. "
                "What it said so far does not count.",
                "yellow",
            )
        case "tool_unknown":
            return f"· {event['tool']} was cut off. Nobody knows whether it happened.", "yellow"
        case "budget_warning":
            return f"· A budget of {_holder(event)} is nearly used up: {_usage(event)}.", "yellow"
        case "budget_exceeded":
            return f"· A budget of {_holder(event)} is used up: {_usage(event)}.", "yellow"
        case "broadcast":
            # On one line, and as somebody's words: nobody takes them for the program's own.
            words = " ".join(str(event["message"]).split())
            return f"· {event.get('by') or 'somebody'} says: {words}", "bold yellow"
        case "error":
            return str(event["message"]), "red"
        case "approval_required":
            return None  # It is shown as a whole when it is asked for.
        case str(kind) if kind.startswith("approval_"):
            if news := news_of(event):
                text, style = news
                return f"· {subject_of(event)}: {text}", style
    return None


def subject_of(event: JsonObject) -> str:
    """The subject of an approval event."""
    return str(event.get("tool") or SUBJECTS.get(event.get("kind", ""), "the question"))


def news_of(event: JsonObject) -> Line | None:
    """The news of an approval event, to be read after its subject; None for an unknown event."""
    by = event.get("by") or "somebody"
    kind = str(event["type"]).removeprefix("approval_")
    match kind:
        case "required":
            return "waits for a decision", "yellow"
        case "decided":
            done = DONE | DONE_OTHERWISE.get(event.get("kind", ""), {})
            words = str(done.get(event["decision"], event["decision"]))
            if event.get("by"):
                words += f" by {by}"
            if event.get("grant"):
                words += " through a standing grant"
            return words, "dim"
        case "voted":
            votes = f"{event.get('votes', 0)} of {event.get('quorum', 1)}"
            return f"{by} voted '{event['decision']}' ({votes})", "dim"
        case "withdrawn":
            return f"{by} withdrew a vote", "dim"
        case "edited":
            return f"{by} changed the arguments, and others must agree", "yellow"
        case "delegated" if event.get("to") == by:
            return f"{by} took a delegation back", "dim"
        case "delegated":
            to = event.get("to") or f"the role {event.get('role')}"
            return f"{by} delegated to {to}", "dim"
        case "commented":
            text = f": {event['text']}" if event.get("text") else ""
            return f"{by} commented{text}", "dim"
        case "reminder":
            expires_at = event.get("expires_at")
            until = f", until {local_time(expires_at)}" if expires_at else ""
            return f"still waits for a decision{until}", "yellow"
        case "escalated":
            to = ", ".join(event.get("to", ()))
            return f"nobody decided in time, so others may decide too: {to}", "yellow"
        case "expired":
            return "nobody decided in time", "yellow"
        case "cancelled":
            return "needs no decision any more, since the run was cancelled", "yellow"
        case "superseded":
            return f"needs no decision any more{because(event.get('reason'))}", "yellow"
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
"""The same for the kinds of approval where a decision has another name."""

SUBJECTS = {"input": "the question", "budget": "the budget", "node": "the step"}


def local_time(moment: str) -> str:
    """The moment in the reader's time zone."""
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


def _holder(about: Mapping[str, Json]) -> str:
    return str(SCOPES.get(about["scope"], about["scope"]))


def _unit(about: Mapping[str, Json]) -> str:
    return str(UNITS.get(about["budget"], about["budget"]))


def _usage(event: JsonObject) -> str:
    return f"{number(event['used'])} of {number(event['limit'])} {_unit(event)}"


def _budget(approval: Approval) -> str:
    args, preview = approval["args"], approval["preview"]
    within = f" within a {preview['per']}" if preview.get("per") else ""
    return (
        f"{_holder(args).capitalize()} has used {number(preview['used'])} of the "
        f"{number(preview['limit'])} {_unit(args)} that it may use{within}."
    )


# ── the question ──────────────────────────────────────────────────────────────────────────────────


def subject(approval: Approval) -> str:
    """The subject of an approval in a few words."""
    node = (approval.get("node") or "").replace("|", " › ")
    match approval["kind"]:
        case "tool":
            return f"{approval['tool']} wants to run"
        case "node":
            return f"{node or 'a step'} wants to run"
        case "budget":
            return "may more be used?"
        case "unknown_outcome":
            return f"{approval['tool'] or node or 'a step'} was cut off"
    return "a question for you"


def said_by_people(approval: Approval) -> list[str]:
    """A line for each act of a person on an approval that still waits."""
    lines: list[str] = []
    if edit := approval.get("edit"):
        lines.append(f"{edit['by']} changed it to this.")
    for vote in approval.get("votes") or ():
        if vote["digest"] == approval["digest"]:
            lines.append(f"{vote['by']} voted '{vote['decision']['type']}'.")
    for comment in approval.get("comments") or ():
        lines.append(f"{comment['by']}: {comment['text']}")

    quorum = approval.get("quorum") or 1
    if quorum > 1:
        lines.append(f"{quorum} people must agree.")
    return lines


def asked(approval: Approval) -> Asked:
    """All of what is asked: anything that is not in the words is in the value."""
    args = approval["args"] if approval["args"] not in ({}, "") else None
    match approval["kind"]:
        case "unknown_outcome":
            notes = (
                "This was cut off, by a crash or because it took too long, "
                "and nobody knows whether it happened.",
                "Please find out, and then say which.",
            )
            return Asked(notes=notes, value=args)
        case "budget":
            return Asked(notes=(_budget(approval), "May it use more? Without more it ends."))
        case "node":
            return Asked(notes=("The graph pauses here until somebody approves.",), value=args)
        case "input":
            return read_question(args, approval.get("schema"))
    return Asked(value=args)


def answers(approval: Approval) -> list[str]:
    """A line for each answer that a question offers, and for each field that it asks for."""
    if approval["kind"] != "input":
        return []
    lines = []
    for field in form_of(approval.get("schema")):
        needed = "" if field.needed else "; may be empty"
        lines.append(f"  -  {field.name} ({field.answers.hint}{needed})")
        lines += [f"   {line}" for line in field.answers.lines()]
    return lines or answers_for(approval["args"], approval.get("schema")).lines()


# ── the answer ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to decide: the first of the `words`, or another, is typed for it; the `label` is shown;
    `type` is the decision's type."""

    words: tuple[str, ...]
    label: str
    type: str


CALL = (
    Choice(("a", "approve"), "[a]pprove", "approve"),
    Choice(("e", "edit"), "[e]dit", "edit"),
    Choice(("r", "reject"), "[r]eject", "reject"),
    Choice(("s", "answer"), "an[s]wer for it", "respond"),
)

CUT_OFF = (
    Choice(("h", "happened"), "it [h]appened", "respond"),
    Choice(("n", "not"), "it did [n]ot, run it", "approve"),
    Choice(("g", "give up"), "[g]ive up", "reject"),
)


def choices(approval: Approval) -> list[Choice]:
    """The ways to decide an approval that is no question."""
    every: tuple[Choice, ...] = CALL
    if approval["kind"] == "unknown_outcome":
        every = CUT_OFF
    elif approval["kind"] == "budget":
        args = approval["args"]
        allow = f"[a]llow up to {number(args['limit'])} {_unit(args)}"
        every = (
            Choice(("a", "allow", "approve"), allow, "approve"),
            Choice(("<a number>",), "<a number> allows up to that", "edit"),
            Choice(("s", "stop"), "[s]top", "reject"),
        )
    return [choice for choice in every if choice.type in approval["allowed"]]


def no_choice(typed: str, keys: Sequence[str]) -> str:
    """The sentence for a key that is none of those that decide."""
    told = f"{clipped(typed, 20)!r} is no choice. " if typed else ""
    return f"{told}Type one of {', '.join(keys)}. Ctrl-C leaves it pending."


def limit_from(text: str, approval: Approval) -> float | str | None:
    """The new limit that a person typed for a budget; a sentence if it is too low; None if the text
    is not a number."""
    try:
        limit = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return None
    used = approval["preview"]["used"]
    if not used < limit < float("inf"):
        return f"The new limit must be above the {number(used)} that are used."
    return int(limit) if limit.is_integer() else limit
