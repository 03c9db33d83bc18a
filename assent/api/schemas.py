"""What clients send, checked at the door."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from assent.decisions import Decision, decision_from_json

THREAD_ID = r"^[A-Za-z0-9_-]{1,64}$"

ThreadId = Annotated[str, Field(pattern=THREAD_ID, description="1 to 64 letters, digits, `_` or `-`")]


class Body(BaseModel):
    """A body with a field that we do not know is refused: a misspelt one would be dropped in silence."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _can_be_stored(cls, body: Any) -> Any:
        """Refuse what Python's parser takes and no store holds: half a surrogate pair, NaN, an integer beyond 64 bits, endless nesting."""
        try:
            orjson.dumps(body)
            json.dumps(body, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"it holds what cannot be stored: {error}") from error
        return body


class AgentRequest(Body):
    """A new message. A `thread_id` of your choosing is made if it is new; without one, the server chooses."""

    message: str = Field(min_length=1, max_length=200_000)
    thread_id: ThreadId | None = None
    agent: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    if_paused: Literal["refuse", "reject"] = Field(
        default="refuse", description="`reject` rejects the pending approvals with the message as the reason, and goes on"
    )


class DecisionBody(Body):
    """One decision. `args` belongs to `edit`; `message` to `reject` (why) and `respond` (the answer)."""

    type: Literal["approve", "edit", "reject", "respond"]
    args: dict[str, Any] | None = None
    message: Any = None

    def decision(self) -> Decision:
        """The decision. Raises `InvalidDecision` if it lacks what its type needs, or has what it does not."""
        return decision_from_json(self.model_dump(include={"type", "args", "message"}, exclude_unset=True))


class ResumeRequest(Body):
    """Either `decisions`, by approval id or tool call id, or one bare decision (`type` …) for the only pending approval, or for `all`."""

    decisions: dict[str, DecisionBody] | None = Field(default=None, min_length=1, max_length=1000)
    type: Literal["approve", "edit", "reject", "respond"] | None = None
    args: dict[str, Any] | None = None
    message: Any = None
    all: bool = False

    @model_validator(mode="after")
    def _one_form(self) -> ResumeRequest:
        bare = self.model_fields_set - {"decisions"}
        if (self.decisions is None) == (self.type is None) or (self.decisions is not None and bare):
            raise ValueError('send either {"decisions": {"<id>": {"type": …}}} or one bare decision {"type": …}')
        return self

    def verdict(self) -> dict[str, Decision] | Decision:
        """The decisions by id, or the bare one."""
        if self.decisions is not None:
            return {key: body.decision() for key, body in self.decisions.items()}
        return decision_from_json(self.model_dump(include={"type", "args", "message"}, exclude_unset=True))


class ThreadRequest(Body):
    """A new thread."""

    thread_id: ThreadId | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    if_exists: Literal["raise", "do_nothing"] = "raise"
