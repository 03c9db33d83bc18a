"""Rows and states as clients see them. Threads and states use the field names of the
`langgraph-sdk` package's schema."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from langgraph.types import PregelTask, StateSnapshot
from msgspec import to_builtins

from assent.approvals.people import People
from assent.core.approval import Approval, Outcome
from assent.core.grant import Grant
from assent.core.json import Json, JsonObject
from assent.core.rows import UNFINISHED, Run, Schedule, Thread
from assent.core.text import warnings
from assent.graph.stream.jsonable import event_json

_APPROVAL_FIELDS = (
    *("approval_id", "thread_id", "run_id", "agent", "node", "tool_call_id", "kind", "tool"),
    *("args", "schema", "digest", "status", "allowed", "requested_at", "requested_by"),
    *("expires_at", "preview", "conversation", "risk", "roles", "names", "assignees", "step"),
    *("edit", "votes", "delegations", "comments", "policy_digest"),
    *("decision", "decided_by", "decided_at"),
)
_GRANT_FIELDS = (
    *("grant_id", "agent", "tool", "bounds", "thread_id", "user", "given_by", "given_at"),
    *("until", "uses", "used", "revoked_by", "revoked_at"),
)
_RUN_FIELDS = (
    *("run_id", "thread_id", "agent", "kind", "status", "attempt", "priority", "created_at"),
    *("due_at", "started_at", "ended_at", "error", "usage", "metadata", "requested_by"),
    *("schedule_id", "next_run"),
)
_THREAD_FIELDS = (
    *("thread_id", "created_at", "updated_at", "metadata", "status", "agent", "run_id"),
    "pending",
)
_SCHEDULE_FIELDS = (
    *("schedule_id", "owner", "agent", "cron", "timezone", "on_busy", "if_missed", "enabled"),
    *("metadata", "budget", "created_at", "requested_by", "next_at", "last_at", "last_run_id"),
    "last_error",
)


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
    conversation = dict(approval.conversation)
    notes = [conversation.pop("warning")] if "warning" in conversation else []
    first = {"args": approval.args, "digest": approval.digest}
    return {
        **pick(approval, _APPROVAL_FIELDS),
        "args": approval.current_args,
        "conversation": conversation,
        "digest": approval.current_digest,
        "asked_first": first if approval.edit else None,
        "quorum": approval.policy.quorum,
        "four_eyes": approval.policy.needs_another,
        "warnings": [*notes, *warnings(shown, "approval")],
        "shortage": shortage.sentence if shortage else None,
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


def run_view(run: Run, agents: Collection[str], prefix: str = "") -> JsonObject:
    """A run. `reason` is a sentence if it cannot go on, because its agent is not among the server's
    `agents`. `assistant_id` is the agent, by the name that the SDK has for it; `events` is where to
    follow the run, under the server's `prefix`."""
    return {
        **pick(run, _RUN_FIELDS),
        "reason": _why_left(run, agents),
        "assistant_id": run.agent,
        "updated_at": run.ended_at or run.started_at or run.created_at,
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


def thread_view(
    thread: Thread,
    approvals: Sequence[Approval] = (),
    values: Any = None,
    people: People = People(),
) -> JsonObject:
    """A thread. `interrupts` maps what waits (a task or node) to its questions; `pending` are the
    ids of its approvals."""
    interrupts: dict[str, list[JsonObject]] = {}
    for approval in approvals:
        question = {
            "id": approval.interrupt_id or approval.approval_id,
            "value": approval_view(approval, people),
        }
        interrupts.setdefault(approval.node, []).append(question)
    return {
        **pick(thread, _THREAD_FIELDS),
        "values": state_json(values),
        "interrupts": interrupts,
    }


def state_view(
    snapshot: StateSnapshot, approvals: Sequence[Approval] = (), people: People = People()
) -> JsonObject:
    """A state of a thread. A static pause has no interrupts of LangGraph's; the approvals made from
    it stand in `interrupts` too."""
    interrupts = [_interrupt(interrupt) for interrupt in snapshot.interrupts]
    known = {interrupt["id"] for interrupt in interrupts}
    for approval in approvals:
        if approval.interrupt_id not in known:
            value = approval_view(approval, people)
            interrupts.append({"id": approval.approval_id, "value": value})
    return {
        "values": state_json(snapshot.values),
        "next": list(snapshot.next),
        "checkpoint": _checkpoint(snapshot.config),
        "metadata": state_json(snapshot.metadata),
        "created_at": snapshot.created_at,
        "parent_checkpoint": _checkpoint(snapshot.parent_config),
        "tasks": list(map(_task, snapshot.tasks)),
        "interrupts": interrupts,
    }


def schedule_view(schedule: Schedule, upcoming: Sequence[datetime] | None = None) -> JsonObject:
    """A schedule; `next_times` are the next few, in its own time zone."""
    view = {
        **pick(schedule, _SCHEDULE_FIELDS),
        "thread_id": schedule.thread_id or None,
        "message": schedule.input.get("message"),
    }
    if upcoming is not None:
        view["next_times"] = upcoming
    return view


def outcome_view(outcome: Outcome, people: People, prefix: str = "") -> JsonObject:
    """The outcome of decisions. `pending` are the approvals that still wait; `events` is where to
    follow what happens now, under the server's `prefix`."""
    thread_id = outcome.thread_id
    return {
        "thread_id": thread_id,
        "run_id": outcome.run_id,
        "status": outcome.status,
        "decisions": {each.approval_id: approval_view(each, people) for each in outcome.approvals},
        "pending": outcome.pending,
        "events": f"{prefix}/threads/{thread_id}/events?after={outcome.first_seq - 1}",
    }


def state_json(value: Any) -> Json:
    """Any value of a state as JSON; what has no JSON form becomes its text."""
    return event_json(value, unknown=str)


def _task(task: PregelTask) -> JsonObject:
    return {
        "id": task.id,
        "name": task.name,
        # The text of an exception is for the server's log.
        "error": type(task.error).__name__ if task.error else None,
        "interrupts": list(map(_interrupt, task.interrupts)),
        "checkpoint": None,
        "state": None,
        "result": state_json(task.result),
    }


def _interrupt(interrupt: Any) -> JsonObject:
    return {"id": interrupt.id, "value": state_json(interrupt.value)}


def _checkpoint(config: Any) -> JsonObject | None:
    if config is None:
        return None
    configurable = config["configurable"]
    return {
        "thread_id": configurable.get("thread_id"),
        "checkpoint_ns": configurable.get("checkpoint_ns", ""),
        "checkpoint_id": configurable.get("checkpoint_id"),
    }
