"""Requests of LangGraph's clients that come again: a client that has lost the answer sends the same
once more, and so does a graph with a `RemoteGraph` in it, whose process was killed and which does
its last step anew. What they asked for was done, and is not done again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from assent.api.dialects.questions import pause_id
from assent.api.executions import going_on, root_of
from assent.approvals.decide import ReadAnswer
from assent.approvals.idempotency import Key, stored_outcome
from assent.approvals.rules import already_decided
from assent.core.access import Owner
from assent.core.approval import Approval, Choice
from assent.core.audit import Actor
from assent.core.digest import call_digest
from assent.core.errors import AssentError, InvalidDecision, NotFound, NothingPending
from assent.core.json import Json, JsonObject
from assent.core.rows import UNFINISHED, Run, ThreadStatus
from assent.runs.follow import first_of
from assent.runs.service import Runs
from assent.storage.base import Storage, all_rows


class Begun(NamedTuple):
    """A run that was asked for, now or before, as the request may see it, and a number that none of
    its events is below. With `stays` nothing goes on: others must agree too, or what was asked is
    dropped."""

    runs: Runs
    run: Run
    first_seq: int
    stays: bool = False


# ── decisions ─────────────────────────────────────────────────────────────────────────────────────


async def decided_before(
    runs: Runs,
    thread_id: str,
    choices: ReadAnswer,
    ids: Collection[str],
    by: Actor,
    error: AssentError,
    *,
    is_known: bool,
) -> Begun:
    """The run that went on with these choices, which are not pending any more, if the same person
    has made them before. Otherwise raises `AlreadyDecided` for one that was decided in another way
    or by somebody else, or the `error` by which that was noticed. They are of what the `ids` name;
    if these name nothing, of what the error is about. Of somebody who is not known to be the
    same nothing counts as made before."""
    storage = runs.storage
    rows = await all_rows(storage.approvals, thread_id=thread_id)
    key = error.details.get("approval_id")
    meant = [row for row in rows if not _names(row).isdisjoint(ids)]
    meant = meant or [row for row in rows if row.approval_id == key]
    paused = await storage.run(meant[-1].run_id) if meant else None
    if paused is None:
        raise error
    over = [row for row in rows if row.run_id == paused.run_id and not row.is_pending]
    try:
        chosen = choices(over)
    except (InvalidDecision, NotFound, NothingPending):
        raise error from None
    for choice in chosen:
        if not (is_known and _has_made(choice, by)):
            raise already_decided(choice.approval)
    run = await going_on(storage, paused)
    if run is None:
        return Begun(runs, paused, 0, stays=True)
    return Begun(runs, run, await first_of(storage, thread_id, run.run_id))


def _names(approval: Approval) -> set[str | None]:
    """The ids by which clients name what is asked."""
    return {
        *(approval.approval_id, approval.tool_call_id or None),
        approval.interrupt_id or pause_id(approval.run_id),
    }


def _has_made(choice: Choice, by: Actor) -> bool:
    """True if it was this person who has chosen so, of what is asked there now."""
    approval, decision = choice.approval, choice.decision
    if choice.digest not in (None, approval.current_digest):
        return False
    if approval.decided_by == by.name and approval.decision == decision:
        return True
    return any(vote.by == by.name and vote.decision == decision for vote in approval.votes)


async def answered_before(
    storage: Storage, thread_id: str, carried: Mapping[str, Json]
) -> JsonObject:
    """The carried answers that are to the last thing that the thread has asked of what they
    name."""
    rows = await all_rows(storage.approvals, thread_id=thread_id) if carried else []
    named = [row for row in rows if not _names(row).isdisjoint(carried)]
    if not named:
        return {}
    last = {name for row in named if row.run_id == named[-1].run_id for name in _names(row)}
    return {name: answer for name, answer in carried.items() if name in last}


# ── tasks of other graphs ─────────────────────────────────────────────────────────────────────────


def task_key(task: JsonObject, thread_id: str, given: Json, owner: Owner) -> Key:
    """The key under which a task of another graph sends this input to the thread."""
    digest = call_digest("task", {"task": task, "thread": thread_id, "given": given})
    return Key.given(digest, owner, f"/threads/{thread_id}/runs", digest)


async def begun_before(runs: Runs, key: Key) -> tuple[bool, Begun | None]:
    """True if the task has sent its input before; and the run that is at work on it, or waits for
    somebody. Behind the end there is none: a task may say the same twice."""
    storage = runs.storage
    outcome = await stored_outcome(storage, key)
    if outcome is None or outcome.run_id is None:
        return False, None
    root = await storage.run(outcome.run_id)
    thread = await storage.thread(outcome.thread_id)
    if root is None or thread is None:
        return True, None
    if root.status in UNFINISHED:
        return True, Begun(runs, root, outcome.first_seq)
    last = await storage.run(thread.run_id) if thread.run_id else None
    at_work = (ThreadStatus.BUSY, ThreadStatus.INTERRUPTED)
    if last is None or thread.status not in at_work:
        return True, None
    if (await root_of(storage, last)).run_id != root.run_id:
        return True, None
    return True, Begun(runs, last, await first_of(storage, thread.thread_id, last.run_id))
