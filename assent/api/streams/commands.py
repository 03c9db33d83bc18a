"""Commands of a WebSocket's client: one JSON object a frame, which stands for a request over HTTP.

A command is carried out by the same functions as that request, and its idempotency key is that
request's: a decision that was sent here, and is repeated as a POST under its key, is one decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from fastapi.exceptions import RequestValidationError
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from starlette.exceptions import HTTPException

from assent.api.decision_bodies import ThreadAnswer, has_word
from assent.api.event_query import LAST_NUMBER, known_types
from assent.api.json_body import SHOWN, read_json_text
from assent.api.schemas import Body, Input
from assent.api.views import cancelled_views, outcome_view, run_view
from assent.approvals.decide import Verdict
from assent.approvals.idempotency import Key
from assent.core.audit import Actor
from assent.core.errors import NotFound
from assent.core.json import Json, JsonObject, valid_text
from assent.core.rows import CancelMode, Run
from assent.core.text import visible
from assent.runs.service import Runs

MAX_ID = 64

ClientId = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
IdempotencyKey = Annotated[str, Field(min_length=1, max_length=255)]


class _Command(Body):
    """A command. The answer repeats its `id`."""

    id: ClientId | None = None


class _Keyed(_Command):
    """A command that may have an idempotency key."""

    idempotency_key: IdempotencyKey | None = None

    def key(self, by: Actor, path: str, body: Json) -> Key | None:
        """The key of the request to this path, with this body, that the command stands for."""
        if self.idempotency_key is None:
            return None
        return Key.given(self.idempotency_key, by.name, path, body)


class Message(_Keyed, Input):
    """A message to an agent, or another input, on the connection's thread."""

    type: Literal["message"]
    _given: JsonObject = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _kept_as_it_came(cls, frame: JsonObject, read: Callable[[JsonObject], Message]) -> Message:
        message = read(frame)
        message._given = {name: frame[name] for name in frame if name not in _ENVELOPE}
        return message

    def body(self, thread_id: str) -> Json:
        """The body of the request, as the client would have sent it."""
        return {**self._given, "thread_id": thread_id}


class Decide(_Keyed):
    """Decisions by approval id, or one decision for what is asked."""

    type: Literal["decide"]
    decisions: JsonObject | list[Json] = Field(min_length=1)

    @property
    def body(self) -> Json:
        """The body of the request."""
        return self.decisions if has_word(self.decisions) else {"decisions": self.decisions}


class Cancel(_Command):
    """Stop a run of the thread, or all that goes on there."""

    type: Literal["cancel"]
    run_id: str | None = None
    mode: CancelMode = CancelMode.INTERRUPT


class Ack(_Command):
    """The client has dealt with the events up to this number."""

    type: Literal["ack"]
    seq: int = Field(ge=0, le=LAST_NUMBER, strict=True)


class Filter(_Command):
    """From now on, only events of these types; null is all."""

    type: Literal["filter"]
    types: frozenset[str] | None

    @field_validator("types", mode="after")
    @classmethod
    def _are_known(cls, types: frozenset[str] | None) -> frozenset[str] | None:
        return types and known_types(types)


class Ping(_Command):
    """Asks for a `pong`."""

    type: Literal["ping"]


Command = Message | Decide | Cancel | Ack | Filter | Ping

_COMMANDS: dict[str, type[Command]] = {
    "message": Message,
    "decide": Decide,
    "cancel": Cancel,
    "ack": Ack,
    "filter": Filter,
    "ping": Ping,
}

_ENVELOPE = ("type", "id", "idempotency_key")
"""The fields of a frame that are not the request's."""


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


def read_frame(text: str) -> JsonObject:
    """The frame with a command. Raises `HTTPException` for a text that is none, so that whoever
    sends it speaks another language."""
    frame: Json = read_json_text(text, "frame")
    kind = frame.get("type") if isinstance(frame, dict) else None
    if not isinstance(kind, str) or kind not in _COMMANDS:
        known = ", ".join(sorted(_COMMANDS))
        if isinstance(kind, str):
            kind = visible(valid_text(kind[:SHOWN]))
            raise HTTPException(400, f"There is no command '{kind}'. The commands are: {known}.")
        raise HTTPException(400, f"A frame is a JSON object whose 'type' is one of: {known}.")
    return dict(frame)


def id_of(frame: JsonObject) -> str | None:
    """The frame's id; None if it has none that could be repeated to the client."""
    id = frame.get("id")
    if not isinstance(id, str) or not 0 < len(id) <= MAX_ID or valid_text(id) != id:
        return None
    return id


def command_of(frame: JsonObject) -> Command:
    """The command in the frame. Raises `RequestValidationError` or `InvalidRequest` for one that
    cannot be carried out as it is."""
    try:
        return _COMMANDS[frame["type"]].model_validate(frame)
    except ValidationError as error:
        found = [{**each, "loc": ("frame", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from None


# ── carrying out ──────────────────────────────────────────────────────────────────────────────────


class Reply(NamedTuple):
    """The answer to a command: the status and the body that the request would have got."""

    status: int
    body: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Carries out commands on a thread for a person whom the server knows. `prefix` is that of the
    server's paths."""

    runs: Runs
    by: Actor
    thread_id: str
    prefix: str

    async def carry_out(self, command: Message | Decide | Cancel) -> Reply:
        """Do it. Raises what the routes do."""
        match command:
            case Message():
                return await self._start(command)
            case Decide():
                return await self._decide(command)
            case Cancel():
                return await self._cancel(command)

    async def _start(self, command: Message) -> Reply:
        # A thread that was erased meanwhile does not begin anew.
        await self.runs.thread(self.thread_id)
        key = command.key(self.by, "/agent/stream", command.body(self.thread_id))
        started = await self.runs.submit(command.submission(self.by, self.thread_id, key=key))
        return Reply(202, run_view(started.run, self.runs.agents, self.prefix))

    async def _decide(self, command: Decide) -> Reply:
        answer = ThreadAnswer(command.body)
        key = command.key(self.by, f"/threads/{self.thread_id}/resume", command.body)
        verdict = Verdict(decisions=answer.choices, by=self.by, key=key)
        outcome = await self.runs.approvals.decide(self.thread_id, verdict)
        return Reply(202, outcome_view(outcome, self.runs.approvals.people, self.prefix))

    async def _cancel(self, command: Cancel) -> Reply:
        cancelled = await self._cancelled(command)
        status, views = cancelled_views(cancelled, self.runs.agents, self.prefix)
        return Reply(status, {"thread_id": self.thread_id, "runs": views})

    async def _cancelled(self, command: Cancel) -> tuple[Run, ...]:
        if command.run_id is None:
            return await self.runs.cancel_thread(self.thread_id, self.by, command.mode)
        run = await self.runs.run(command.run_id)
        if run.thread_id != self.thread_id:
            raise NotFound(f"The thread '{self.thread_id}' has no run '{run.run_id}'.")
        return (await self.runs.cancel_run(run.run_id, self.by, command.mode),)
