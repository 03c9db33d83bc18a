"""Commands of a WebSocket's client: one JSON object a frame.

Those that change something stand for a request over HTTP, and are carried out as that request: the
answer is the same, and a decision that was sent here, and is repeated as a POST under its key, is
one decision.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from starlette.exceptions import HTTPException

from assent.api.decision_bodies import has_word
from assent.api.dialects.positions import LAST_NUMBER
from assent.api.event_query import known_types
from assent.api.json_body import SHOWN, read_as, read_json_text
from assent.api.schemas import KEY, Body, ThreadId
from assent.core.json import Json, JsonObject, valid_text
from assent.core.rows import CancelMode
from assent.core.text import visible

MAX_ID = 64

ClientId = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
IdempotencyKey = Annotated[str, Field(pattern=KEY)]


class Post(NamedTuple):
    """A POST: its path, its body, and the idempotency key that it is sent under."""

    path: str
    body: Json
    key: str | None = None


class _Command(Body):
    """A command. The answer repeats its `id`."""

    id: ClientId | None = None


class Message(_Command):
    """A message to an agent, or another input, on the connection's thread."""

    model_config = ConfigDict(extra="allow")

    type: Literal["message"]
    idempotency_key: IdempotencyKey | None = None

    @model_validator(mode="after")
    def _is_for_this_thread(self) -> Self:
        if "thread_id" in self._given:
            raise ValueError("leave out 'thread_id': a message is for the connection's thread")
        return self

    @property
    def _given(self) -> JsonObject:
        return self.model_extra or {}

    def post(self, thread_id: str) -> Post:
        """The request that it stands for."""
        body = {**self._given, "thread_id": thread_id}
        return Post("/agent/runs", body, self.idempotency_key)


class Decide(_Command):
    """Decisions by approval id, or one decision for what is asked."""

    type: Literal["decide"]
    decisions: JsonObject | list[Json] = Field(min_length=1)
    idempotency_key: IdempotencyKey | None = None

    def post(self, thread_id: str) -> Post:
        """The request that it stands for."""
        given = self.decisions
        body = given if has_word(given) else {"decisions": given}
        return Post(f"/threads/{thread_id}/resume", body, self.idempotency_key)


class Cancel(_Command):
    """Stop a run of the thread, or all that goes on there."""

    type: Literal["cancel"]
    run_id: ThreadId | None = None
    mode: CancelMode = CancelMode.INTERRUPT

    def post(self, thread_id: str) -> Post:
        """The request that it stands for."""
        of = f"/threads/{thread_id}" if self.run_id is None else f"/runs/{self.run_id}"
        return Post(f"{of}/cancel", {"mode": self.mode})


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
    return read_as(_COMMANDS[frame["type"]], frame, "frame")
