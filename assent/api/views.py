"""Rows as clients see them. Threads, states and the runs of a thread are in `langgraph_shapes`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from langchain_core.messages import BaseMessage
from msgspec import Raw, to_builtins

from assent.approvals.people import People
from assent.core.approval import Approval, Outcome
from assent.core.audit import Actor
from assent.core.grant import Grant
from assent.core.json import Json, JsonObject, valid_text
from assent.core.rows import UNFINISHED, Run, Schedule
from assent.core.run_input import AFTER_ITS_END, SENT
from assent.core.shown import BLOCK, EMPTY, Shown
from assent.core.text import warnings
from assent.graph.stream.jsonable import encoded_message, event_json
from assent.runs.approvals import Approvals

_APPROVAL_FIELDS = (
    *("approval_id", "thread_id", "run_id", "agent", "node", "tool_call_id", "kind", "tool"),
    *("args", "schema", "digest", "status", "allowed", "requested_at", "requested_by"),
    *("expires_at", "preview", "conversation", "risk", "roles", "names", "assignees", "step"),
    *("edit", "votes", "delegations", "comments", "policy_digest"),
    *("decision", "decided_by", "decided_at"),
)
_QUESTION_FIELDS = (
    *("node", "tool_call_id", "kind", "tool", "args", "digest", "allowed"),
    *("risk", "roles", "names"),
)
_GRANT_FIELDS = (
    *("grant_id", "agent", "tool", "bounds", "thread_id", "user", "given_by", "given_at"),
    *("until", "uses", "used", "revoked_by", "revoked_at"),
)
_RUN_FIELDS = (
    *("run_id", "thread_id", "owner", "agent", "kind", "status", "attempt", "priority"),
    *("created_at", "due_at", "started_at", "ended_at", "error", "usage", "metadata"),
    *("requested_by", "schedule_id", "next_run"),
)
_SCHEDULE_FIELDS = (
    *("schedule_id", "owner", "agent", "cron", "timezone", "on_busy", "if_missed", "enabled"),
    *("metadata", "budget", "created_at", "requested_by", "next_at", "last_at", "last_run_id"),
    *("last_error", "ends_at"),
)

_GIVEN = tuple(name for name in SENT if name not in AFTER_ITS_END)


def approval_view(approval: Approval, people: People) -> JsonObject:
    """An approval. `args` and `digest` are what is asked now; if somebody edited them, `edit` says
    who, and `asked_first` has the first ones. `model_wrote` in `conversation` was written by the
    model, and may mislead. `warnings` are sentences about what the graph cannot promise, and about
    characters that are not seen as they are. `shortage` is one too, if hardly enough of the
    `people` are left to decide."""
    shortage = people.shortage(approval)
    shown = {
        "tool": approval.tool,
        "args": approval.current_args,
        "preview": approval.preview,
    }
    note = approval.conversation.get("warning")
    first = {"args": approval.args, "digest": approval.digest}
    return {
        **pick(approval, _APPROVAL_FIELDS),
        "args": approval.current_args,
        "digest": approval.current_digest,
        "asked_first": first if approval.edit else None,
        "quorum": approval.policy.quorum,
        "four_eyes": approval.policy.needs_another,
        "warnings": [*([note] if note else []), *warnings(shown, "approval")],
        "shortage": shortage.sentence if shortage else None,
    }


def question_view(approval: Approval) -> JsonObject:
    """What would be asked, as far as it is known before anybody is."""
    shown = {"tool": approval.tool, "args": approval.args}
    return {
        **pick(approval, _QUESTION_FIELDS),
        "quorum": approval.policy.quorum,
        "four_eyes": approval.policy.needs_another,
        "warnings": warnings(shown, "approval"),
    }


def approval_for(approval: Approval, approvals: Approvals, by: Actor) -> JsonObject:
    """An approval, and as `yours` what whoever looks at it may do about it."""
    return {
        **approval_view(approval, approvals.people),
        "yours": asdict(approvals.standing(approval, by)),
    }


def grant_view(grant: Grant) -> JsonObject:
    """A standing grant."""
    return {
        **pick(grant, _GRANT_FIELDS),
        "thread_id": grant.thread_id or None,
        "user": grant.user or None,
    }


def pick(value: Any, fields: Sequence[str]) -> JsonObject:
    """These fields of a row, as JSON."""
    return {name: to_builtins(getattr(value, name)) for name in fields}


def run_view(run: Run, agents: Collection[str], prefix: str) -> JsonObject:
    """A run. It goes on from where `paused_run` has paused, or from a state of the past,
    `checkpoint_id`. `reason` is a sentence if it cannot go on, because its agent is not among the
    server's `agents`; `events` is where to follow the run, under the server's `prefix`."""
    return {
        **pick(run, _RUN_FIELDS),
        "paused_run": run.input.get("paused_run"),
        "checkpoint_id": run.input.get("checkpoint_id"),
        "reason": _why_left(run, agents),
        "budget": run.budget.get("limits", {}),
        "events": f"{prefix}/runs/{run.run_id}/stream",
    }


def _why_left(run: Run, agents: Collection[str]) -> str | None:
    if run.status not in UNFINISHED or run.agent in agents:
        return None
    return (
        f"This server does not have the agent '{run.agent}', so the run is left as it is. "
        "It goes on when a server starts with that agent."
    )


def schedule_view(schedule: Schedule, upcoming: Sequence[datetime] | None = None) -> JsonObject:
    """A schedule; `next_times` are the next few, in its own time zone."""
    view = {
        **pick(schedule, _SCHEDULE_FIELDS),
        "thread_id": schedule.thread_id or None,
        "message": None,
        **{name: schedule.input[name] for name in _GIVEN if name in schedule.input},
    }
    if upcoming is not None:
        view["next_times"] = upcoming
    return view


def outcome_view(outcome: Outcome, people: People, prefix: str, *, sees_thread: bool) -> JsonObject:
    """The outcome of decisions. `pending` are the approvals that still wait; `events` is where to
    follow what happens now, under the server's `prefix`, for whoever sees the thread."""
    thread_id = outcome.thread_id
    events = f"{prefix}/threads/{thread_id}/events?after={outcome.first_seq - 1}"
    return {
        "thread_id": thread_id,
        "run_id": outcome.run_id,
        "status": outcome.status,
        "decisions": {each.approval_id: approval_view(each, people) for each in outcome.approvals},
        "pending": outcome.pending,
        "events": events if sees_thread else None,
    }


def state_json(value: Any) -> Json:
    """Any value of a state as JSON; what has no JSON form becomes its text."""
    return event_json(value, unknown=str)


class SharedJson:
    """Values of states as JSON. A message that several states have is encoded once: all states of a
    thread's history share most of theirs, and so do those that are `Shown` one after the other."""

    def __init__(self) -> None:
        # By the id of the message, which is kept so that the id stays its own.
        self._encoded: dict[int, tuple[BaseMessage, Raw]] = {}

    def __call__(self, values: Any) -> Json:
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            return self._value(values)
        return {valid_text(name): self._value(value) for name, value in values.items()}

    def _value(self, value: Any) -> Json:
        if isinstance(value, Shown):
            return _shown(value)
        if not isinstance(value, list) or not all(isinstance(each, BaseMessage) for each in value):
            return state_json(value)
        return [self._message(each) for each in value]

    def _message(self, message: BaseMessage) -> Raw:
        found = self._encoded.get(id(message))
        if found is None:
            found = self._encoded[id(message)] = message, Raw(_message_json(message))
        return found[1]


def values_json(values: Any) -> Json:
    """The values of one state as JSON. Its lists of messages are encoded already."""
    return SharedJson()(values)


def _shown(messages: Shown) -> list[Raw]:
    """The messages, each block of them as if it were one item: what is between its items is what
    is between those of a list."""
    items = []
    for number, start in enumerate(range(0, len(messages), BLOCK)):
        count = min(len(messages) - start, BLOCK)
        if number == len(messages.made):
            messages.made.append(EMPTY)
        known = messages.made[number]
        fresh = messages[start + len(known.ends) : start + count]
        if fresh:
            known = messages.made[number] = known.with_more(list(map(_message_json, fresh)))
        items.append(Raw(known.first(count)))
    return items


def _message_json(message: BaseMessage) -> bytes:
    return encoded_message(message, unknown=str)
