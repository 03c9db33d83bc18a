"""Conversations of the AI SDK's clients. A conversation is a thread, and a turn of it is an
execution, which a client shows as one message: it lasts from what a person says, over all pauses,
until the agent has answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Literal, NamedTuple

from pydantic import ConfigDict, Field

from assent.api.decision_bodies import ThreadAnswer
from assent.api.deps import RunsBy
from assent.api.dialects.vercel.inputs import Answered, answered, said_last, says_the_same
from assent.api.dialects.vercel.stream import AT_REST, Vercel
from assent.api.executions import found_left, going_on, root_of
from assent.api.outcomes import readable_state
from assent.api.schemas import Body, ClientConfig, Metadata, SmallObject, ThreadId
from assent.approvals.decide import Verdict
from assent.approvals.idempotency import Key
from assent.core.access import Right
from assent.core.approval import Approval, Choice
from assent.core.audit import Actor
from assent.core.digest import call_digest
from assent.core.errors import InvalidInput
from assent.core.events import TERMINAL_TYPES, RunPaused, decode
from assent.core.json import Json, JsonObject
from assent.core.rows import UNFINISHED, Run, RunStatus, Thread, ThreadStatus
from assent.core.run_input import RunInput
from assent.runs.follow import (
    EXECUTION_TYPES,
    Batches,
    Execution,
    Following,
    Queued,
    first_of,
    follow_execution,
)
from assent.runs.service import Runs
from assent.runs.transitions import OnBusy, Submission
from assent.storage.base import LogEntry

MESSAGES = "messages"

NOTHING_NEW = (
    "The last message is the agent's own, and answers nothing: send what the person says behind "
    "it, or the 'decisions' on what was asked."
)

DECIDED_BESIDE_WORDS = (
    "The 'decisions' came with a message of the person, which would drop what is asked: send one "
    "or the other."
)


class ChatRequest(Body):
    """All messages of a conversation, of which the last one is new, or answers what was asked.
    Unknown fields are ignored, since clients of other releases send them."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    id: ThreadId = Field(description="The conversation: the id of its thread")
    messages: list[JsonObject] = Field(
        min_length=1,
        description="`UIMessage`s. The last one is enough, with those of the person behind the "
        "last answer",
    )
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = Field(
        default=None,
        alias="messageId",
        description="The message that the client goes on with, or has changed",
    )
    decisions: JsonObject = Field(
        default_factory=dict,
        description="By the ids of approvals, what no `approval-responded` can say: an edit, or "
        "the answer to a question",
    )
    context: SmallObject | None = Field(
        default=None, description="The context that the graph's `context_schema` declares"
    )
    config: ClientConfig | None = None
    metadata: Metadata = Field(default_factory=dict)


class Turn(NamedTuple):
    """A turn as a client is to see it: the runs that the request sees, the run that it waits for,
    the id of the message that the client has of it, and the number of the last event that it has of
    that."""

    runs: Runs
    run: Run
    message_id: str
    behind: int = 0


# ── beginning ─────────────────────────────────────────────────────────────────────────────────────


async def taken(
    runs_by: RunsBy, body: ChatRequest, agent: str | None, by: Actor, key: Key | None
) -> Turn:
    """The turn that the body begins, or goes on with. Raises what `Runs.submit` and
    `Approvals.decide` do."""
    answer = None
    if body.trigger == "submit-message":
        answer = answered(body.messages, body.message_id, body.decisions)
    if answer is not None:
        if not answer.decisions:
            raise InvalidInput(NOTHING_NEW)
        return await _decided(runs_by(Right.DECIDE), body.id, answer, by, key)
    if body.decisions:
        # To say something drops what is asked: nobody means that who decides it.
        raise InvalidInput(DECIDED_BESIDE_WORDS)
    return await _said(runs_by(Right.RUN), body, agent, by, key)


# ── something is said ─────────────────────────────────────────────────────────────────────────────


async def _said(
    runs: Runs, body: ChatRequest, agent: str | None, by: Actor, key: Key | None
) -> Turn:
    """The turn that begins with what the person has said last: for the first time, or again."""
    said = said_last(body.messages)
    if not said:
        raise InvalidInput(NOTHING_NEW)
    last = said[-1]
    thread = await runs.storage.thread(body.id)
    if body.trigger == "submit-message" and body.message_id is None:
        key = key or _key(body.id, last, by)
    is_known = key is not None and await runs.storage.answer(key.answer_id) is not None
    ids = set() if thread is None or is_known else await _ids(runs, thread)
    place = await _place_of(runs, thread, last["id"]) if thread and last["id"] in ids else None
    # The answer that it takes the place of may still be at work, and have no state yet.
    is_anew = body.trigger == "regenerate-message" or body.message_id is not None
    on_busy: OnBusy = "interrupt" if is_anew or place is not None else "enqueue"
    if place is None:
        new = [each for each in said if each["id"] not in ids] or [last]
        submission = _submission(body, agent, by, new)
        return await _begun(runs, replace(submission, on_busy=on_busy, key=key))
    new = [] if body.trigger == "regenerate-message" else [last]
    submission = _submission(body, agent, by, new)
    return await _begun(runs, replace(submission, on_busy=on_busy, checkpoint_id=place, key=key))


def _submission(
    body: ChatRequest, agent: str | None, by: Actor, said: Sequence[JsonObject]
) -> Submission:
    given: JsonObject = {"input": {MESSAGES: [*said]}} if said else {}
    config = body.config
    if config is not None:
        given["config"] = config.model_dump(exclude_unset=True, exclude={"recursion_limit"})
    return Submission(
        given=RunInput(context=body.context, **given),
        by=by,
        assistant_id=agent,
        thread_id=body.id,
        metadata=body.metadata,
        # Whoever says something else does not want what waits for a word of theirs.
        if_paused="cancel",
        on_busy="enqueue",
        recursion_limit=config.recursion_limit if config else None,
    )


async def _begun(runs: Runs, submission: Submission) -> Turn:
    started = await runs.submit(submission)
    root = await root_of(runs.storage, started.run)
    return Turn(runs, started.run, root.run_id)


def _key(thread_id: str, message: JsonObject, by: Actor) -> Key:
    """The key under which the message is said once, however often a client sends it."""
    said = {"chat": thread_id, "owner": by.owner.name, "tenant": by.tenant, "message": message}
    digest = call_digest("chat", said)
    return Key(
        answer_id=call_digest("answer", {"of": digest}),
        owner=by.owner.name,
        tenant=by.tenant,
        request_digest=digest,
    )


async def _ids(runs: Runs, thread: Thread) -> set[str]:
    """The ids of the messages of the thread's conversation."""
    state = await readable_state(runs, thread)
    return {message.id for message in _messages(state.values if state is not None else None)}


async def _place_of(runs: Runs, thread: Thread, message_id: str) -> str | None:
    """The checkpoint of the newest state in which this was said last, and not answered yet."""
    async for state in await runs.history(thread):
        messages = _messages(state.values)
        if messages and messages[-1].id == message_id and state.next:
            place: str = state.config["configurable"]["checkpoint_id"]
            return place
    return None


def _messages(values: Json) -> Sequence[Json]:
    messages = values.get(MESSAGES) if isinstance(values, dict) else None
    return messages if isinstance(messages, list) else ()


# ── something is decided ──────────────────────────────────────────────────────────────────────────


async def _decided(
    runs: Runs, thread_id: str, answer: Answered, by: Actor, key: Key | None
) -> Turn:
    """The turn that goes on with the decisions, or waits for others who must agree."""
    # Whoever only decides what others asked is shown none of their runs.
    paused = await runs.thread(thread_id)
    found = [await runs.storage.approval(each) for each in answer.decisions]
    approvals = [each for each in found if each is not None and each.thread_id == thread_id]
    settled = [
        each for each in approvals if says_the_same(each, answer.decisions[each.approval_id])
    ]
    if len(settled) == len(answer.decisions) and all(_is_by(each, by) for each in settled):
        return await _decided_before(runs, settled[-1], answer)
    left = dict(answer.decisions)
    if len(settled) < len(left):
        # A client sends back what others have decided, and what it has not sent yet.
        for each in settled:
            del left[each.approval_id]
    verdict = Verdict(decisions=_reading(left), by=by, key=key)
    outcome = await runs.approvals.decide(thread_id, verdict)
    run = await runs.run(outcome.run_id or paused.run_id or "")
    return Turn(runs, run, answer.message_id, outcome.first_seq - 1)


def _reading(decisions: JsonObject) -> Callable[[Sequence[Approval]], Sequence[Choice]]:
    def choices(pending: Sequence[Approval]) -> Sequence[Choice]:
        return ThreadAnswer({"decisions": decisions}).choices(pending)

    return choices


def _is_by(approval: Approval, by: Actor) -> bool:
    return approval.decided_by == by.name


async def _decided_before(runs: Runs, approval: Approval, answer: Answered) -> Turn:
    """The turn that goes on already with the same decision of the same person, who did not learn of
    it."""
    run = await runs.run(approval.run_id)
    behind = await going_on(runs.storage, run)
    if behind is None:
        return Turn(runs, run, answer.message_id, await runs.storage.last_seq(run.thread_id))
    first = await first_of(runs.storage, run.thread_id, behind.run_id)
    return Turn(runs, behind, answer.message_id, first - 1)


# ── following ─────────────────────────────────────────────────────────────────────────────────────


async def present_turn(runs: Runs, thread: Thread) -> Turn | None:
    """The turn that is at work on the thread, or waits for a person; None if none is."""
    run_id = thread.run_id
    if thread.status not in (ThreadStatus.BUSY, ThreadStatus.INTERRUPTED):
        waiting = await runs.storage.runs(
            thread_id=thread.thread_id, status=UNFINISHED, due_by=runs.clock.now()
        )
        run_id = waiting[0].run_id if waiting else None
    run = await runs.storage.run(run_id) if run_id is not None else None
    if run is None:
        return None
    root = await root_of(runs.storage, run)
    return Turn(runs, run, root.run_id)


async def turn_batches(turn: Turn) -> tuple[Following, Batches]:
    """The events of the turn, from its first one that is left until it rests. Raises `Gone`."""
    storage, thread_id = turn.runs.storage, turn.run.thread_id
    found = await found_left(storage, await root_of(storage, turn.run))
    until = await storage.last_seq(thread_id)
    first = await first_of(storage, thread_id, found.root)
    types = Vercel.types | EXECUTION_TYPES
    following = Following(storage, thread_id, first - 1, types=types)
    if turn.run.status is RunStatus.PENDING:
        following = Queued(following, turn.run.run_id, _nothing)
    return following, _until_rest(following, found.root, turn.run.run_id, until)


async def _nothing() -> None:
    """What was said is said: it waits."""


async def _until_rest(following: Following, root: str, run_id: str, until: int) -> Batches:
    """The events of the execution until the run, or what goes on at once behind it, has ended or
    paused; and those that the log has up to the number `until`, in case that others have decided
    since."""
    at_work, has_rested, is_paused = True, False, False
    async with aclosing(follow_execution(following, Execution(root))) as batches:
        async for entries in batches:
            for entry in entries:
                if entry.type in ("run_start", "run_resumed"):
                    at_work = True
                elif entry.type in TERMINAL_TYPES:
                    next_run = _next_run(entry)
                    at_work, is_paused = bool(next_run), entry.type == "run_paused"
                    if entry.run_id == run_id:
                        has_rested, run_id = not next_run, next_run or run_id
            yield entries
            if has_rested and not at_work and following.after >= until:
                break
    if is_paused and not at_work:
        yield (AT_REST,)


def _next_run(last: LogEntry) -> str:
    event = decode(last.body) if last.type == "run_paused" else None
    return event.next_run if isinstance(event, RunPaused) else ""
