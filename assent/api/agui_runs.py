"""Runs as AG-UI's clients ask for them, and follow them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple

from ag_ui.core import Context, Message, ResumeEntry, Tool
from fastapi import Request, Response
from msgspec import UNSET
from pydantic import ConfigDict, Field, WithJsonSchema, field_validator

from assent.api.access.project_auth import metadata_of
from assent.api.decision_bodies import ThreadAnswer
from assent.api.deps import RunsBy
from assent.api.dialects.agui.inputs import graph_input
from assent.api.dialects.agui.interrupts import Answered, answer_to
from assent.api.dialects.agui.messages import ONLY_CLIENTS, agui_messages, sent_messages
from assent.api.dialects.agui.stream import ENDS, MESSAGES, TYPES, AgUi
from assent.api.dialects.base import Frame
from assent.api.leaving import cancelling
from assent.api.outcomes import readable_state, run_headers
from assent.api.schemas import Body, Name, ThreadId
from assent.api.streams.encoder import sse
from assent.api.streams.sse import EventStream
from assent.api.streams.states import with_state_at_rest
from assent.api.views import state_json, values_json
from assent.approvals.decide import Verdict
from assent.approvals.idempotency import Key, stored_outcome
from assent.core.access import Right
from assent.core.approval import Approval, Choice
from assent.core.audit import Actor
from assent.core.blocks import check_blocks
from assent.core.digest import call_digest
from assent.core.errors import (
    AssentError,
    Conflict,
    InvalidDecision,
    InvalidRequest,
    NotFound,
    ThreadPaused,
)
from assent.core.events import Checkpoint, LlmRetry, RunRecovered
from assent.core.json import Json, JsonObject
from assent.core.rows import Run, RunStatus, Thread, ThreadStatus
from assent.core.run_input import RunInput
from assent.runs.emitter import past_events
from assent.runs.follow import Following, Queued, follow_asked
from assent.runs.service import Runs, no_thread
from assent.runs.transitions import Submission

OF_AGUI = {"type": "array", "items": {"type": "object"}}


class AgUiRequest(Body):
    """AG-UI's `RunAgentInput`. Unknown fields are ignored, as its own clients do."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    thread_id: ThreadId = Field(alias="threadId")
    run_id: Name = Field(alias="runId", description="The client's own id of the run")
    parent_run_id: Name | None = Field(default=None, alias="parentRunId")
    messages: Annotated[
        list[Message],
        WithJsonSchema(
            {**OF_AGUI, "description": "The client's conversation: what the thread has not is new"}
        ),
    ]
    state: Json = Field(
        default=None,
        description="The client's state: fields of the graph's input, of which those that differ "
        "from the thread's are taken",
    )
    tools: Annotated[list[Tool], WithJsonSchema(OF_AGUI)] = Field(default_factory=list)
    context: Annotated[list[Context], WithJsonSchema(OF_AGUI)] = Field(default_factory=list)
    forwarded_props: Json = Field(default=None, alias="forwardedProps")
    resume: Annotated[
        list[ResumeEntry] | None,
        WithJsonSchema({**OF_AGUI, "description": "An answer to each open interrupt"}),
    ] = None

    @field_validator("forwarded_props")
    @classmethod
    def _decides_nothing(cls, props: Json) -> Json:
        if isinstance(props, dict) and props.get("command") is not None:
            raise ValueError("its 'command' is not taken: answer interrupts with 'resume'")
        return props

    @field_validator("tools", "context", mode="before")
    @classmethod
    def _none_of_them(cls, given: Any) -> Any:
        return [] if given is None else given

    def conversation(self) -> list[JsonObject]:
        """The client's messages, as JSON."""
        return list(map(_as_json, self.messages))

    def answers(self) -> list[Answered]:
        """The answers to interrupts."""
        return [
            Answered(
                entry.interrupt_id,
                entry.status == "cancelled",
                entry.payload if "payload" in entry.model_fields_set else UNSET,
                (entry.metadata or {}).get("digest"),
            )
            for entry in self.resume or ()
        ]


def _as_json(value: Any) -> JsonObject:
    dumped: JsonObject = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


class _Begun(NamedTuple):
    """A run that a client asked for, as the request may see it; a number that none of its events is
    below; and the messages that only the client has."""

    runs: Runs
    run: Run
    first_seq: int
    kept: Sequence[JsonObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A request of somebody to an agent, which is named as clients of LangGraph name it: by its
    name, or as an assistant."""

    request: Request
    assistant_id: str
    body: AgUiRequest
    by: Actor
    runs_by: RunsBy

    # ── what is asked ──

    async def response(self) -> Response:
        """The run as a stream. What the thread does not take as it is ends the stream at once:
        RUN_ERROR with the sentence why."""
        conversation = self.body.conversation()
        dialect = self._dialect(conversation)
        try:
            begun = await self._begun(conversation)
        except (Conflict, InvalidDecision) as error:
            return _at_once(dialect.refused(_code(error), self._sentence(error)))
        if isinstance(begun, Response):
            return begun
        return await self._followed(begun, self._dialect(conversation, begun.kept))

    def _dialect(self, conversation: Sequence[JsonObject], kept: Sequence[JsonObject] = ()) -> AgUi:
        body = self.body
        return AgUi(
            body.thread_id,
            body.run_id,
            parent_run_id=body.parent_run_id,
            messages=conversation,
            kept=kept,
        )

    async def _begun(self, conversation: Sequence[JsonObject]) -> _Begun | Response:
        if self.body.resume:
            return await self._decided(self.runs_by(Right.DECIDE), conversation)
        return await self._submitted(self.runs_by(Right.RUN), conversation)

    def _key(self) -> Key:
        """The key of the request: a client that sends the same run again gets the same one."""
        path = f"/agui/{self.assistant_id}"
        digest = call_digest(path, self.body.model_dump(mode="json", by_alias=True))
        return Key.given(digest, self.by.owner, path, digest)

    def _sentence(self, error: AssentError) -> str:
        if isinstance(error, ThreadPaused):
            return ENDS["paused"]
        return error.message

    # ── a run ──

    async def _submitted(self, runs: Runs, conversation: Sequence[JsonObject]) -> _Begun | Response:
        body, key = self.body, self._key()
        thread = await runs.storage.thread(body.thread_id)
        agent = await self._agent(runs, thread)
        shape = runs.shape_of(agent)
        values = await self._values(runs, thread, agent)
        conversation = await _without_drafts(runs, thread, conversation, values)
        sent = sent_messages(conversation, _ids_in(values))
        outcome = await stored_outcome(runs.storage, key)
        if outcome is not None and outcome.run_id is not None:
            return _Begun(runs, await runs.run(outcome.run_id), outcome.first_seq, sent.kept)
        for message in sent.new:
            if isinstance(message["content"], list):
                check_blocks(message["content"])
        # What the agent itself has said asks for no answer.
        is_said = thread is None or any(message["role"] != "assistant" for message in sent.new)
        given = graph_input(
            sent.new if is_said else (),
            body.state,
            values=values,
            fields=shape.fields.names or (),
            messages_keys=shape.messages_keys,
            tools=list(map(_as_json, body.tools)),
            context=list(map(_as_json, body.context)),
        )
        if not given:
            if thread is None:
                raise no_thread(body.thread_id)
            return await self._looked(runs, thread, agent, conversation)
        submission = Submission(
            given=RunInput(input=given),
            by=self.by,
            assistant_id=self.assistant_id,
            thread_id=body.thread_id,
            metadata=metadata_of(self.request),
            on_busy="enqueue",
            key=key,
        )
        started = await runs.submit(submission)
        return _Begun(runs, started.run, started.first_seq, sent.kept)

    # ── a decision ──

    async def _decided(self, runs: Runs, conversation: Sequence[JsonObject]) -> _Begun | Response:
        body = self.body
        # Whoever only decides what others asked is shown none of their runs.
        thread = await runs.thread(body.thread_id)
        agent = await self._agent(runs, thread)
        runs.shape_of(agent)
        kept = _kept(conversation, await self._values(runs, thread, agent))

        def choices(pending: Sequence[Approval]) -> Sequence[Choice]:
            return ThreadAnswer(answer_to(pending, body.answers())).choices(pending)

        verdict = Verdict(decisions=choices, by=self.by, key=self._key())
        try:
            outcome = await runs.approvals.decide(body.thread_id, verdict)
        except NotFound as error:
            # The thread is there, and asks something else.
            raise InvalidDecision(error.message) from error
        if outcome.run_id is None:
            thread = await runs.thread(body.thread_id)
            return await self._looked(runs, thread, agent, conversation)
        return _Begun(runs, await runs.run(outcome.run_id), outcome.first_seq, kept)

    # ── states ──

    async def _agent(self, runs: Runs, thread: Thread | None) -> str:
        """The name of the agent that is asked, be there such a one or not."""
        found = await runs.assistants.agent_of(self.assistant_id, thread)
        return found or self.assistant_id

    async def _values(self, runs: Runs, thread: Thread | None, agent: str) -> Json:
        if thread is None:
            return {}
        if thread.agent is not None and thread.agent != agent:
            raise InvalidRequest(
                f"The thread belongs to the agent '{thread.agent}', so '{agent}' cannot take "
                "it. Start a new thread."
            )
        state = await readable_state(runs, thread)
        return state_json(state.values) if state is not None else {}

    async def _looked(
        self, runs: Runs, thread: Thread, agent: str, conversation: Sequence[JsonObject]
    ) -> Response:
        """The thread as it is: nothing is done."""
        values = await self._values(runs, thread, agent)
        asked = await runs.approvals.pending(thread)
        dialect = self._dialect(conversation)
        return _at_once(dialect.looked(values, asked, _kept(conversation, values)))

    # ── following ──

    async def _followed(self, begun: _Begun, dialect: AgUi) -> Response:
        runs, run, first_seq, _ = begun
        following = Following(runs.storage, run.thread_id, first_seq - 1, types=TYPES)
        if run.status is RunStatus.PENDING:
            # Whoever comes a moment later is refused: they are to decide first.
            following = Queued(following, run.run_id, partial(self._undone, runs, run))
        batches = await follow_asked(following, run)
        thread = await runs.thread(run.thread_id)

        async def load(event: Checkpoint) -> JsonObject | None:
            snapshot = await runs.state_behind(thread, event, is_shown=True)
            return None if snapshot is None else {"values": values_json(snapshot.values)}

        return EventStream(
            self.request,
            following,
            with_state_at_rest(batches, load),
            dialect=dialect,
            headers=run_headers(run),
            # AG-UI has no way to come back to a run.
            when_gone=cancelling(self.request, run, self.by),
        )

    async def _undone(self, runs: Runs, run: Run) -> None:
        """Undo that the run was asked for."""
        with suppress(Conflict, NotFound):
            await runs.cancel_run(run.run_id, self.by)


async def _without_drafts(
    runs: Runs, thread: Thread | None, conversation: Sequence[JsonObject], values: Json
) -> Sequence[JsonObject]:
    """The client's messages without those of the agent's that are written anew: by a run that is at
    work, or by another attempt than the one that wrote them."""
    new = sent_messages(conversation, _ids_in(values)).new
    drafts = {message["id"] for message in new if message["role"] == "assistant"}
    if thread is None or not drafts:
        return conversation
    if thread.status is not ThreadStatus.BUSY:
        drafts &= await _given_up(runs, thread.thread_id)
    return [message for message in conversation if message["id"] not in drafts]


async def _given_up(runs: Runs, thread_id: str) -> set[str]:
    """The ids of the messages of attempts that were given up, as far as the log goes back."""
    ids: set[str] = set()
    async for event in past_events(runs.storage, thread_id, ("run_recovered", "llm_retry")):
        if isinstance(event, RunRecovered | LlmRetry):
            ids.update(event.message_ids)
    return ids


def _kept(conversation: Sequence[JsonObject], values: Json) -> list[JsonObject]:
    """The messages that the thread has not, where none of them is taken."""
    known = _ids_in(values)
    return [
        message
        for message in conversation
        if message["id"] not in known and message["role"] not in ONLY_CLIENTS
    ]


def _ids_in(values: Json) -> frozenset[str]:
    """The ids of the messages in a state, as clients know them."""
    messages = values.get(MESSAGES) if isinstance(values, dict) else None
    return frozenset(message["id"] for message in agui_messages(messages))


def _at_once(frames: Sequence[Frame]) -> Response:
    """A stream that is all there."""
    body = b"".join(map(sse, frames))
    return Response(body, media_type=EventStream.media_type, headers={"Cache-Control": "no-cache"})


def _code(error: AssentError) -> str:
    """The error's class as a code: `already_decided`."""
    return _BEGINNINGS.sub("_", type(error).__name__).lower()


_BEGINNINGS = re.compile(r"(?<=[a-z])(?=[A-Z])")
