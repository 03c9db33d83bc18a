"""What clients send, checked at the door."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_serializer, model_validator

from assent.approvals.rules import MAX_COMMENT_CHARACTERS
from assent.core.rows import Authentication, CancelMode
from assent.runs import transitions
from assent.runs.schedules import IfMissed
from assent.runs.transitions import Submission

THREAD_ID = r"^[A-Za-z0-9_-]{1,64}$"

YEAR_SECONDS = 365 * 24 * 3600
"""How much later a run may start."""

ThreadId = Annotated[
    str, Field(pattern=THREAD_ID, description="1 to 64 letters, digits, `_` or `-`")
]


def storable(body: Any) -> Any:
    """Refuse what Python's parser takes and no store holds: half a surrogate pair, NaN, an integer
    beyond 64 bits, endless nesting."""
    if isinstance(body, bytes):
        # It was not parsed, since it does not say that it is JSON.
        raise ValueError("send JSON, with the header 'content-type: application/json'")
    try:
        orjson.dumps(body)
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"it holds what cannot be stored: {error}") from error
    return body


class Body(BaseModel):
    """A body with a field that we do not know is refused: a misspelt one would be dropped in
    silence."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _can_be_stored(cls, body: Any) -> Any:
        return storable(body)


class Budget(Body):
    """What a run may use, with whatever goes on from its pauses. The server's own budgets hold as
    well. `cost` takes a price for the model that is called, in the file that `ASSENT_CONFIG`
    names."""

    input_tokens: float | None = Field(default=None, gt=0)
    output_tokens: float | None = Field(default=None, gt=0)
    total_tokens: float | None = Field(default=None, gt=0)
    model_calls: float | None = Field(default=None, gt=0)
    tool_calls: float | None = Field(default=None, gt=0)
    seconds: float | None = Field(
        default=None, gt=0, description="Of running, not of waiting for a person"
    )
    cost: float | None = Field(default=None, gt=0)
    on_exceeded: Literal["error", "pause"] | None = Field(
        default=None,
        description="`pause` asks a person for more, `error` ends the run; what the server is set to, if it is not given",
    )

    @model_serializer
    def given(self) -> dict[str, Any]:
        """What was given, by name."""
        return {
            name: value
            for name in type(self).model_fields
            if (value := getattr(self, name)) is not None
        }


class Input(Body):
    """What a run is asked to do, wherever it is asked."""

    message: str | None = Field(
        default=None,
        min_length=1,
        max_length=200_000,
        description="Needed, but where a `checkpoint_id` is to be gone on from as it is",
    )
    agent: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    if_paused: transitions.IfPaused = Field(
        default="refuse",
        description=(
            "On a thread that waits for a person. `reject` rejects the pending approvals with the message as the reason, and goes on; "
            "`cancel` drops them, and takes the message; `wait`, with another `on_busy` than `reject`, starts once they were decided and "
            "what follows from that has ended"
        ),
    )
    on_busy: transitions.OnBusy = Field(
        default="reject",
        description=(
            "On a thread with a run that is active, or waits its turn. `reject` is a 409; `enqueue` waits behind it; `interrupt` cancels "
            "it, and `rollback` also undoes what it did to the thread's state, and then this run starts"
        ),
    )
    checkpoint_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="A state of the thread's past to go on from, out of its history",
    )
    priority: int = Field(
        default=0,
        ge=-100,
        le=100,
        description="Higher ones start first, where more wait than may run at once",
    )
    budget: Budget = Field(default=Budget(), description="What the run may use")

    @model_validator(mode="after")
    def _says_something(self) -> Input:
        if self.message is None and self.checkpoint_id is None:
            raise ValueError("send a 'message', or a 'checkpoint_id' to go on from")
        return self

    def submission(
        self,
        owner: str,
        thread_id: str | None,
        authentication: Authentication,
        *,
        due_at: datetime | None = None,
    ) -> Submission:
        """What to hand to the runs; `authentication` is how the owner is known."""
        return Submission(
            message=self.message or "",
            owner=owner,
            agent=self.agent,
            thread_id=thread_id,
            metadata=self.metadata,
            if_paused=self.if_paused,
            on_busy=self.on_busy,
            checkpoint_id=self.checkpoint_id,
            due_at=due_at,
            priority=self.priority,
            budget=self.budget.given(),
            authentication=authentication,
        )


class AgentRequest(Input):
    """A new message. A `thread_id` of your choosing is made if it is new; without one, the server
    chooses."""

    thread_id: ThreadId | None = None

    @model_validator(mode="after")
    def _of_a_thread(self) -> AgentRequest:
        if self.checkpoint_id is not None and self.thread_id is None:
            raise ValueError("a 'checkpoint_id' is of a thread: send its 'thread_id' too")
        return self


class RunRequest(Input):
    """A run in the background, now or later."""

    after_seconds: float = Field(
        default=0,
        ge=0,
        le=YEAR_SECONDS,
        allow_inf_nan=False,
        description="How much later it starts, or as soon after as the thread is free",
    )

    @model_validator(mode="after")
    def _waits(self) -> RunRequest:
        if self.after_seconds and self.on_busy != "enqueue" and "on_busy" in self.model_fields_set:
            raise ValueError(
                f'a run that starts later waits its turn then, so "on_busy": "{self.on_busy}" cannot be: leave it out'
            )
        return self


class CancelRequest(Body):
    """How to cancel. `interrupt` keeps what was done; `rollback` puts the thread's state back to
    where the run began."""

    mode: CancelMode = CancelMode.INTERRUPT
    wait: bool = Field(default=False, description="Answer when it has ended")


class ForkRequest(Body):
    """Where to branch off, the thread's head if nothing is said, and the thread to make."""

    checkpoint_id: str | None = Field(default=None, min_length=1, max_length=100)
    thread_id: ThreadId | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class ThreadRequest(Body):
    """A new thread."""

    thread_id: ThreadId | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    if_exists: Literal["raise", "do_nothing"] = "raise"


Cron = Annotated[
    str,
    Field(
        max_length=200,
        description="Minute, hour, day of the month, month, day of the week: `30 9 * * MON-FRI`. Seconds may stand before",
    ),
]
Zone = Annotated[str, Field(max_length=100, description="An IANA name: `Europe/Berlin`")]
WhenTaken = Annotated[
    transitions.OnBusy,
    Field(
        description="While a run is active on the thread: wait behind it, pass this time over, cancel it, or cancel it and undo what it did"
    ),
]
WhenMissed = Annotated[
    IfMissed,
    Field(
        description="After times that were missed by more than a minute: one run for all of them, or none"
    ),
]


class ScheduleRequest(Body):
    """A message to an agent at the times of a cron expression. Without a `thread_id`, each time on
    a new thread."""

    cron: Cron
    timezone: Zone = "UTC"
    message: str = Field(min_length=1, max_length=200_000)
    agent: str | None = None
    thread_id: ThreadId | None = None
    on_busy: WhenTaken = "enqueue"
    if_missed: WhenMissed = "once"
    enabled: bool = True
    metadata: dict[str, Any] = Field(default_factory=dict)
    budget: Budget = Field(default=Budget(), description="What each of its runs may use")


class ScheduleChange(Body):
    """What is to be another way. `"thread_id": null` is a new thread each time; no other field may
    be null."""

    cron: Cron | None = None
    timezone: Zone | None = None
    message: str | None = Field(default=None, min_length=1, max_length=200_000)
    agent: str | None = None
    thread_id: ThreadId | None = None
    on_busy: WhenTaken | None = None
    if_missed: WhenMissed | None = None
    enabled: bool | None = None
    metadata: dict[str, Any] | None = None
    budget: Budget | None = None

    @model_validator(mode="after")
    def _not_null(self) -> ScheduleChange:
        for name in self.model_fields_set - {"thread_id"}:
            if getattr(self, name) is None:
                raise ValueError(f"'{name}' is null: send a value, or leave the field out")
        return self


class GrantRequest(Body):
    """What is approved in advance: calls of the tool with all arguments within `bounds`, in this
    thread or for this user or both."""

    tool: str = Field(min_length=1, max_length=200)
    agent: str | None = None
    bounds: dict[str, dict[str, Any]] = Field(
        description='By argument: `{"min": 0, "max": 9}`, `{"among": ["a", "b"]}` or `{"any": true}`. One that is not named is outside'
    )
    until: AwareDatetime = Field(description="RFC 3339, with a zone")
    uses: int = Field(ge=1, le=1_000_000, description="How often it may be used")
    thread_id: ThreadId | None = None
    user: str | None = Field(
        default=None, min_length=1, max_length=200, description="For whom the agent works"
    )


class DelegateRequest(Body):
    """Whom your say is handed to: a person by name, or whoever has a role. To yourself: you take it
    back."""

    to: str | None = Field(default=None, min_length=1, max_length=200)
    role: str | None = Field(default=None, min_length=1, max_length=200)


class CommentRequest(Body):
    """What you say. It decides nothing."""

    text: str = Field(min_length=1, max_length=MAX_COMMENT_CHARACTERS)


class BatchRequest(Body):
    """Decisions by approval id, each as `POST /approvals/{id}/decide` takes it."""

    decisions: dict[str, Any] = Field(min_length=1, max_length=100)
