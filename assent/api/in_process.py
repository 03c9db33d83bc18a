"""What the routes do, for code in the same process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeVar

import msgspec
from langchain_core.messages import BaseMessage
from langgraph.types import Command, StateSnapshot
from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict, Unpack

from assent.api.langgraph_shapes import StateChange
from assent.api.outcomes import RunResult, after_start, carried_out, result_of
from assent.api.problems import in_sentences
from assent.api.schemas import AgentRequest, Body, ForkRequest, Moment, storable
from assent.approvals.decide import Verdict
from assent.core.access import APPROVES_ALL
from assent.core.approval import Approval, ApprovalStatus, Outcome
from assent.core.audit import Actor, Authentication
from assent.core.decisions import Decision, decision_from_json
from assent.core.errors import InvalidDecision, InvalidRequest
from assent.core.events import AnyEvent, decode
from assent.core.json import Json, JsonObject, valid_text
from assent.core.names import MAX_NAME, is_tenant
from assent.core.rows import CancelMode, Run, Thread
from assent.core.run_input import Message, NodeNames
from assent.runs.follow import Batches, Following, follow, follow_run, wait_for_rest
from assent.runs.service import Runs, Started
from assent.runs.transitions import IfPaused, OnBusy
from assent.storage.base import all_rows

E = TypeVar("E", bound=StrEnum)
B = TypeVar("B", bound=Body)

MESSAGE_FIELDS = ("type", "content", "id", "name", "tool_calls", "tool_call_id")
"""The fields of a message that an input has."""


class RunOptions(TypedDict, total=False):
    """The fields of `POST /agent/stream`, and `due_at`, the time at which the run is to start."""

    input: Json
    thread_id: str
    agent: str
    context: Any
    config: JsonObject
    metadata: JsonObject
    if_paused: IfPaused
    on_busy: OnBusy
    checkpoint_id: str
    priority: int
    budget: JsonObject
    recursion_limit: int
    interrupt_before: NodeNames
    interrupt_after: NodeNames
    due_at: datetime


class InProcess(ABC):
    """The operations of a server. `user` is who does it, by name: the rules of approvals hold for
    them as they do over HTTP. The program sees everything; what it makes is the user's, in their
    `tenant`, and a thread of another tenant takes nothing from them."""

    @property
    @abstractmethod
    def runs(self) -> Runs:
        """The server's runs. Raises `Unavailable` while it is not open."""

    # ── running ───────────────────────────────────────────────────────────────────────────────────

    async def submit(
        self,
        message: Message | None = None,
        *,
        user: str,
        tenant: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Run:
        """Start a run; it is durable when this returns, and goes on in the background.

        Give a `message`, or the graph's own `input`. A thread that does not exist is created.
        Raises `InvalidRequest`, `NotFound`, `ThreadBusy`, `ThreadPaused` or `QueueFull`.
        """
        return (await self._start(message, user, tenant, options)).run

    async def invoke(
        self,
        message: Message | None = None,
        *,
        user: str,
        tenant: str | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """`submit`, and wait until the run has ended or somebody is asked: then its status is
        "interrupted"."""
        started = await self._start(message, user, tenant, options)
        with after_start(started.run):
            last = await wait_for_rest(self.runs.storage, started.run)
            return await result_of(self.runs, last)

    async def stream(
        self,
        message: Message | None = None,
        *,
        user: str,
        tenant: str | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncGenerator[AnyEvent, None]:
        """`submit`, and follow the run until it ends or pauses. It starts when the first event is
        asked for; whoever stops reading does not stop it."""
        started = await self._start(message, user, tenant, options)
        run = started.run
        following = Following(self.runs.storage, run.thread_id, started.first_seq - 1)
        batches = follow_run(following, run.run_id)
        async with aclosing(_events(batches)) as events:
            async for event in events:
                yield event

    async def _start(
        self, message: Message | None, user: str, tenant: str | None, options: RunOptions
    ) -> Started:
        fields: JsonObject = {**options}
        if message is not None:
            fields["message"] = message
        request = _body(_Request, fields)
        submission = request.submission(
            self._actor(user, tenant), request.thread_id, due_at=request.due_at
        )
        return await self.runs.submit(submission)

    # ── deciding ──────────────────────────────────────────────────────────────────────────────────

    async def approvals(
        self,
        *,
        thread_id: str | None = None,
        status: ApprovalStatus | Literal["pending"] | None = "pending",
        agent: str | None = None,
        tool: str | None = None,
        role: str | None = None,
        assignee: str | None = None,
    ) -> list[Approval]:
        """Approvals, oldest first: those that wait for people, or those of another `status`, None
        for all."""
        return await all_rows(
            self.runs.storage.approvals,
            thread_id=thread_id,
            status=None if status is None else _member(ApprovalStatus, "status", status),
            agent=agent,
            tool=tool,
            role=role,
            assignee=assignee,
        )

    async def resume(
        self,
        thread_id: str,
        decisions: Decision | Mapping[str, Decision],
        *,
        user: str,
        digests: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Decide what the thread waits for. The decisions are durable when this returns, and the
        run goes on once none is left to take.

        `decisions` maps ids of approvals (or of their tool calls) to decisions; a bare one does if
        exactly one approval is pending. `digests` are of what the person was shown, by the same
        ids, or by "" for a bare decision: if something else is asked now, nothing is decided.
        Raises what `POST /threads/{id}/resume` answers.
        """
        verdict = Verdict(decisions=_sent(decisions), by=self._actor(user), digests=digests or {})
        return await self.runs.approvals.decide(thread_id, verdict)

    async def stream_resume(
        self,
        thread_id: str,
        decisions: Decision | Mapping[str, Decision],
        *,
        user: str,
        digests: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[AnyEvent, None]:
        """`resume`, and follow the run that goes on until it ends or pauses; nothing, while others
        must decide too."""
        outcome = await self.resume(thread_id, decisions, user=user, digests=digests)
        if outcome.run_id is None:
            return
        following = Following(self.runs.storage, thread_id, outcome.first_seq - 1)
        batches = follow_run(following, outcome.run_id)
        async with aclosing(_events(batches)) as events:
            async for event in events:
                yield event

    # ── threads ───────────────────────────────────────────────────────────────────────────────────

    async def state(self, thread_id: str, checkpoint_id: str | None = None) -> StateSnapshot:
        """The thread's state at its head, or at a checkpoint. Raises `NotFound`."""
        return await self.runs.state(await self.runs.thread(thread_id), checkpoint_id)

    async def events(self, thread_id: str, after: int = 0) -> AsyncGenerator[AnyEvent, None]:
        """The thread's events numbered above `after`, and those to come, across runs. Raises
        `NotFound`, or `Gone` if events above `after` were removed."""
        await self.runs.thread(thread_id)
        await self.runs.storage.check_cursor(thread_id, after)
        batches = follow(self.runs.storage, thread_id, after)
        async with aclosing(_events(batches)) as events:
            async for event in events:
                yield event

    async def cancel(
        self, thread_id: str, *, user: str, mode: CancelMode | str = CancelMode.INTERRUPT
    ) -> tuple[Run, ...]:
        """Stop what runs on the thread, what it waits for a person to decide, and what waits its
        turn; return those runs as they are then. Raises `NotFound`."""
        how = _member(CancelMode, "mode", mode)
        return await self.runs.cancel_thread(thread_id, self._actor(user), how)

    async def fork(
        self,
        thread_id: str,
        checkpoint_id: str | None = None,
        *,
        user: str,
        tenant: str | None = None,
        target: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Thread:
        """Begin a new thread, `target`, with the state of this one at a checkpoint, or at its head.
        What that state waits for is asked anew. Raises `NotFound`, `InvalidRequest` or
        `Conflict`."""
        fields = {"checkpoint_id": checkpoint_id, "thread_id": target, "metadata": metadata or {}}
        place = _body(ForkRequest, fields)
        started = await self.runs.fork(
            thread_id,
            place.checkpoint_id,
            target=place.thread_id,
            by=self._actor(user, tenant),
            metadata=place.metadata,
        )
        return await self._thread_after(started, "The state could not be taken over")

    async def update_state(
        self,
        thread_id: str,
        values: Any,
        *,
        user: str,
        tenant: str | None = None,
        as_node: str | None = None,
        checkpoint_id: str | None = None,
    ) -> Thread:
        """Write values to the thread's state, at its head or at a checkpoint, as a node of the
        graph. What it then waits for is asked, also if it was approved before. Raises `NotFound`,
        `ThreadBusy`, `ThreadPaused`, `InvalidRequest` or `Conflict`."""
        fields = {"values": values or {}, "as_node": as_node, "checkpoint_id": checkpoint_id}
        change = _body(StateChange, fields)
        started = await self.runs.update_state(
            thread_id,
            change.values or {},
            as_node=change.as_node,
            checkpoint_id=change.checkpoint_id,
            by=self._actor(user, tenant),
        )
        return await self._thread_after(started, "The state could not be written")

    async def _thread_after(self, started: Started, failed: str) -> Thread:
        run = await carried_out(self.runs, started, failed)
        with after_start(run):
            return await self.runs.thread(run.thread_id)

    async def delete(self, thread_id: str, *, user: str) -> None:
        """Remove the thread and everything of it, but for its audit entries. Raises `NotFound` or
        `ThreadBusy`."""
        await self.runs.delete(thread_id, self._actor(user))

    def _actor(self, user: str, tenant: str | None = None) -> Actor:
        """The person of this name, who may decide what they like: the program says so."""
        if tenant is not None and not is_tenant(tenant):
            raise InvalidRequest("A tenant's name is 1 to 64 letters, digits, '_', '.' and '-'.")
        name = self.runs.approvals.people.canonical(_checked_name(user))
        return Actor(name, Authentication.HOST, tenant=tenant, approves=APPROVES_ALL)


class _Request(AgentRequest):
    due_at: Moment | None = None


def _member(kind: type[E], name: str, value: str) -> E:
    """The member of the enum with this value. Raises `InvalidRequest`."""
    try:
        return kind(value)
    except ValueError:
        raise InvalidRequest(
            f"There is no {name} '{value}'. There are: {', '.join(kind)}."
        ) from None


def _checked_name(user: str) -> str:
    name = user.strip() if isinstance(user, str) else ""
    if not name or len(user) > MAX_NAME or valid_text(name) != name:
        raise InvalidRequest(f"The user is a name of 1 to {MAX_NAME} characters.")
    # Without the blanks around it, as over HTTP: else they would be two people who agree.
    return name


async def _events(batches: Batches) -> AsyncGenerator[AnyEvent, None]:
    async with aclosing(batches):
        async for entries in batches:
            for entry in entries:
                yield decode(entry.body)


# ── input as JSON ─────────────────────────────────────────────────────────────────────────────────


def _body(kind: type[B], fields: JsonObject) -> B:
    """The fields as the body of a request, held to all that one is held to. Raises
    `InvalidRequest`."""
    try:
        return kind.model_validate(_as_json(fields))
    except ValidationError as error:
        raise InvalidRequest(" ".join(in_sentences(error))) from None


def _sent(decisions: Decision | Mapping[str, Decision]) -> Decision | Mapping[str, Decision]:
    """The decisions as a request would bring them. Raises `InvalidDecision` for what JSON cannot
    hold."""
    if isinstance(decisions, Mapping):
        return {id: _one_sent(each) for id, each in decisions.items()}
    return _one_sent(decisions)


def _one_sent(decision: Decision) -> Decision:
    try:
        return decision_from_json(storable(_as_json({"decision": decision})["decision"]))
    except (InvalidRequest, ValueError) as error:
        raise InvalidDecision(f"The decision cannot be taken: {error}.") from None


def _as_json(fields: JsonObject) -> JsonObject:
    """The fields as a body of a request has them."""
    if isinstance(fields.get("input"), Command):
        raise InvalidRequest("A Command is not taken as input: decide with resume().")
    try:
        found: JsonObject = msgspec.to_builtins(fields, enc_hook=_plain)
    except (TypeError, RecursionError) as error:
        raise InvalidRequest(f"The input has no form in JSON: {error}") from None
    return found


def _plain(value: Any) -> Any:
    """A message or a pydantic model as JSON."""
    if isinstance(value, BaseMessage):
        fields = {name: getattr(value, name, None) for name in MESSAGE_FIELDS}
        return {name: field for name, field in fields.items() if field}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"a {type(value).__name__}")
