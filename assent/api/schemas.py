"""The bodies of requests, as clients send them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from assent.approvals.idempotency import Key
from assent.approvals.rules import MAX_COMMENT_CHARACTERS
from assent.core.audit import Actor
from assent.core.blocks import MAX_TEXT_CHARACTERS
from assent.core.json import MAX_DEPTH, Json, JsonObject, is_too_deep
from assent.core.metadata import MAX_METADATA_FIELDS, OWN_METADATA, count_fields
from assent.core.rows import CancelMode
from assent.core.run_input import GIVEN, INHERITED, RunInput
from assent.core.titles import MAX_TITLE, one_line
from assent.runs.schedules import IfMissed, Plan
from assent.runs.transitions import IfPaused, OnBusy, Submission

THREAD_ID = r"^[A-Za-z0-9_-]{1,64}$"

KEY = r"^[!-~]{1,255}$"
"""An idempotency key."""

MAX_DELAY_SECONDS = 365 * 24 * 3600
"""The longest delay of a run."""

ThreadId = Annotated[
    str, Field(pattern=THREAD_ID, description="1 to 64 letters, digits, `_` or `-`")
]
Name = Annotated[str, Field(min_length=1, max_length=200)]
CheckpointId = Annotated[str, Field(min_length=1, max_length=100)]
Amount = Annotated[StrictFloat, Field(gt=0)]
Delay = Annotated[
    StrictFloat,
    Field(
        ge=0,
        le=MAX_DELAY_SECONDS,
        allow_inf_nan=False,
        description="The delay; the run starts then, or as soon after as the thread is free",
    ),
]


def in_utc(time: datetime) -> datetime:
    """The time in UTC. Raises `ValueError` for one that is not in the years of a `datetime`."""
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is out of range") from None


Moment = Annotated[
    AwareDatetime, AfterValidator(in_utc), Field(description="RFC 3339, with a zone")
]

MAX_BLOCKS = 100
"""The most content blocks of a message."""

MAX_GIVEN_BYTES = 64 * 1024
"""The most bytes of a context, and of a config, as JSON: runs that go on keep copies. And of the
data of a broadcast, which every reader gets."""

MAX_BROADCAST_CHARACTERS = 4000


def _not_too_many_fields(metadata: JsonObject) -> JsonObject:
    count = count_fields(metadata)
    if count > MAX_METADATA_FIELDS:
        raise ValueError(
            f"it has {count:,} fields, and {MAX_METADATA_FIELDS:,} are the most that it may have"
        )
    return metadata


def _none_of_ours(metadata: JsonObject) -> JsonObject:
    if taken := OWN_METADATA & metadata.keys():
        raise ValueError(f"'{min(taken)}' is a field that only the server sets")
    return metadata


Metadata = Annotated[
    JsonObject,
    AfterValidator(_not_too_many_fields),
    AfterValidator(_none_of_ours),
    Field(description="Anything of yours, shown as it is. It has at most 1,000 fields"),
]


def _can_be_seen(title: str) -> str:
    if not (line := one_line(title)):
        raise ValueError("nothing of it can be seen")
    return line


Title = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_TITLE,
        description="It is kept on one line, without control characters and those that change the "
        "direction of text",
    ),
    AfterValidator(_can_be_seen),
]


def storable(body: Json) -> Json:
    """Refuse a body that Python can parse and no storage can hold: half a surrogate pair, NaN, an
    integer beyond 64 bits, endless nesting."""
    if is_too_deep(body):
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    try:
        orjson.dumps(body)
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"it cannot be stored: {error}") from error
    return body


class Body(BaseModel):
    """A body that refuses unknown fields, so that a misspelt one is not dropped in silence."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _can_be_stored(cls, body: Json) -> Json:
        return storable(body)


def _message(value: Json) -> Json:
    """Refuse what is neither a text nor a list of content blocks. The agent's check reads them."""
    if isinstance(value, str):
        if not value:
            raise ValueError("it is empty")
        if len(value) > MAX_TEXT_CHARACTERS:
            most = f"{MAX_TEXT_CHARACTERS:,} are the most"
            raise ValueError(f"it has {len(value):,} characters, and {most}")
    elif isinstance(value, list):
        if not 1 <= len(value) <= MAX_BLOCKS:
            raise ValueError(f"it has {len(value)} blocks, and may have 1 to {MAX_BLOCKS}")
    elif value is not None:
        raise ValueError("it should be a text, or a list of content blocks")
    return value


def _not_too_large(value: Json) -> Json:
    size = len(orjson.dumps(value))
    if size > MAX_GIVEN_BYTES:
        raise ValueError(f"it has {size:,} bytes as JSON, and {MAX_GIVEN_BYTES:,} are the most")
    return value


Message = Annotated[
    Json,
    AfterValidator(_message),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_CHARACTERS},
                {
                    "type": "array",
                    "items": {"type": "object"},
                    "minItems": 1,
                    "maxItems": MAX_BLOCKS,
                },
            ]
        }
    ),
]
SmallObject = Annotated[JsonObject, AfterValidator(_not_too_large)]
Tag = Annotated[str, Field(min_length=1, max_length=100)]
Scalar = str | StrictInt | StrictFloat | StrictBool | None
Breakpoints = Literal["*"] | Annotated[list[Name], Field(max_length=100)]


class ClientConfig(Body):
    """The part of a graph's config that a client may set."""

    configurable: SmallObject = Field(
        default_factory=dict, description="Keys that the graph or the server's file declares"
    )
    tags: list[Tag] = Field(
        default_factory=list, max_length=20, description="For callbacks and tracing"
    )
    metadata: dict[str, Scalar] = Field(
        default_factory=dict, max_length=100, description="For callbacks and tracing"
    )
    recursion_limit: StrictInt | None = Field(
        default=None, ge=1, description="The same as `recursion_limit` beside `config`"
    )


class GraphInput(Body):
    """The graph's own input, and what the graph is run with."""

    input: Json = Field(
        default=None,
        description="The graph's own input, in place of a `message`: an object with fields of its "
        "input schema",
    )
    context: SmallObject | None = Field(
        default=None, description="The context that the graph's `context_schema` declares"
    )
    config: ClientConfig | None = None
    interrupt_before: Breakpoints | None = Field(
        default=None, description='Nodes to pause before too, or `"*"`'
    )
    interrupt_after: Breakpoints | None = Field(
        default=None, description='Nodes to pause after too, or `"*"`'
    )

    def fields_given(self) -> JsonObject:
        """The fields of a `RunInput` that were sent."""
        sent = {name: getattr(self, name) for name in self.model_fields_set if name in GIVEN}
        if self.config is not None:
            sent["config"] = self.config.model_dump(exclude_unset=True, exclude={"recursion_limit"})
        return sent

    def given(self) -> RunInput:
        """The run's input."""
        return RunInput(**self.fields_given())


class Given(GraphInput):
    """The input of a run, and what its graph is run with."""

    message: Message | None = Field(
        default=None, description="A text, or a list of content blocks: text, or media by URL"
    )

    @model_validator(mode="after")
    def _has_one_input(self) -> Self:
        if self.message is not None and "input" in self.model_fields_set:
            raise ValueError("send a 'message' or an 'input', not both")
        return self


class Budget(Body):
    """Limits on a run and the runs that resume it. The server's own budgets apply as well. `cost`
    needs a price for the model in the file that `ASSENT_CONFIG` names."""

    input_tokens: Amount | None = None
    output_tokens: Amount | None = None
    total_tokens: Amount | None = None
    model_calls: Amount | None = None
    tool_calls: Amount | None = None
    seconds: Amount | None = Field(
        default=None, description="Running time; waiting for a person does not count"
    )
    cost: Amount | None = None
    on_exceeded: Literal["error", "pause"] | None = Field(
        default=None,
        description="`pause` asks a person for more, `error` ends the run. "
        "The default is the server's setting",
    )

    @model_serializer
    def given(self) -> JsonObject:
        """The limits that are set, by name."""
        return {name: value for name, value in self if value is not None}


class Input(Given):
    """The input of a run. It has a `message` or an `input`, unless it continues from a
    `checkpoint_id`."""

    agent: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    if_paused: IfPaused = Field(
        default="refuse",
        description="If the thread waits for a person: `refuse` answers 409; `reject` rejects the "
        "pending approvals with the message as the reason, and continues; `cancel` cancels them, "
        "and sends the message; `wait`, which needs another `on_busy` than `reject`, starts after "
        "they were decided and the thread is free",
    )
    on_busy: OnBusy = Field(
        default="reject",
        description="If a run is active or queued on the thread: `reject` answers 409; `enqueue` "
        "waits for it; `interrupt` cancels it, then starts; `rollback` also undoes what it did to "
        "the thread's state",
    )
    checkpoint_id: CheckpointId | None = Field(
        default=None, description="A checkpoint of the thread's history to continue from"
    )
    priority: StrictInt = Field(
        default=0,
        ge=-100,
        le=100,
        description="Runs of a higher priority start first when the server is at its limit",
    )
    budget: Budget = Field(default=Budget(), description="Limits on the run")
    recursion_limit: StrictInt | None = Field(
        default=None,
        ge=1,
        description="The turns of the model, or in other graphs the supersteps, that the run may "
        "take, up to the server's highest limit",
    )

    @model_validator(mode="after")
    def _has_input(self) -> Input:
        has_input = self.message is not None or "input" in self.model_fields_set
        if not has_input and self.checkpoint_id is None:
            raise ValueError("send a 'message' or an 'input', or a 'checkpoint_id' to go on from")
        return self

    @model_validator(mode="after")
    def _has_one_limit(self) -> Input:
        limits = {self.recursion_limit, self.config and self.config.recursion_limit} - {None}
        if len(limits) > 1:
            raise ValueError("'recursion_limit' and that of 'config' differ: send one of them")
        return self

    def submission(
        self,
        by: Actor,
        thread_id: str | None,
        *,
        due_at: datetime | None = None,
        key: Key | None = None,
    ) -> Submission:
        """The submission of this input by the actor, under the key that came with it."""
        in_config = self.config.recursion_limit if self.config is not None else None
        return Submission(
            given=self.given(),
            by=by,
            agent=self.agent,
            thread_id=thread_id,
            metadata=self.metadata,
            if_paused=self.if_paused,
            on_busy=self.on_busy,
            checkpoint_id=self.checkpoint_id,
            due_at=due_at,
            priority=self.priority,
            budget=self.budget.given(),
            recursion_limit=self.recursion_limit or in_config,
            key=key,
        )


class AgentRequest(Input):
    """A message to an agent. A `thread_id` that does not exist is created; without one, the server
    chooses it."""

    thread_id: ThreadId | None = None

    @model_validator(mode="after")
    def _has_thread(self) -> AgentRequest:
        if self.checkpoint_id is not None and self.thread_id is None:
            raise ValueError("a 'checkpoint_id' belongs to a thread: send its 'thread_id' too")
        return self


class RunRequest(AgentRequest):
    """A run in the background, now or later."""

    after_seconds: Delay = 0

    @model_validator(mode="after")
    def _delayed_runs_wait(self) -> RunRequest:
        if self.after_seconds and self.on_busy != "enqueue" and "on_busy" in self.model_fields_set:
            raise ValueError(
                "a delayed run waits until the thread is free, so "
                f'"on_busy": "{self.on_busy}" is not possible: leave it out'
            )
        return self


class CancelRequest(Body):
    """The way to cancel. `interrupt` keeps what the run did; `rollback` restores the thread's state
    from before it."""

    mode: CancelMode = CancelMode.INTERRUPT
    wait: StrictBool = Field(default=False, description="Answer only after the run has ended")


class ForkRequest(Body):
    """The checkpoint to branch off from (default: the latest), and the thread to create."""

    checkpoint_id: CheckpointId | None = None
    thread_id: ThreadId | None = None
    metadata: Metadata = Field(default_factory=dict)


Cron = Annotated[
    str,
    Field(
        max_length=200,
        description="Minute, hour, day of the month, month, day of the week: `30 9 * * MON-FRI`. "
        "A field for seconds may come first",
    ),
]
Zone = Annotated[str, Field(max_length=100, description="An IANA name: `Europe/Berlin`")]
ScheduleOnBusy = Annotated[
    OnBusy,
    Field(
        description="If a run is active on the thread: `enqueue` waits for it, `reject` skips this "
        "time, `interrupt` cancels it, `rollback` also undoes what it did"
    ),
]
ScheduleIfMissed = Annotated[
    IfMissed,
    Field(
        description="After times that were missed by more than a minute: `once` starts one run for "
        "all of them, `skip` none"
    ),
]


class ScheduleRequest(Given):
    """Input for an agent at the times of a cron expression. Without a `thread_id`, each run has
    a new thread."""

    cron: Cron
    timezone: Zone = "UTC"
    agent: str | None = None
    thread_id: ThreadId | None = None
    on_busy: ScheduleOnBusy = "enqueue"
    if_missed: ScheduleIfMissed = "once"
    enabled: StrictBool = True
    metadata: Metadata = Field(default_factory=dict)
    budget: Budget = Field(default=Budget(), description="Limits on each of its runs")
    ends_at: Moment | None = Field(default=None, description="No run is due after that")

    def plan(self) -> Plan:
        """The plan for the schedule."""
        return Plan(given=self.given(), **self.model_dump(exclude=set(GIVEN)))

    @model_validator(mode="after")
    def _has_input(self) -> ScheduleRequest:
        if self.message is None and "input" not in self.model_fields_set:
            raise ValueError("send a 'message' or an 'input'")
        check_no_limit(self.config)
        return self


def check_no_limit(config: ClientConfig | None) -> None:
    """Raise `ValueError` for a limit in the config of a schedule."""
    if config is not None and config.recursion_limit is not None:
        raise ValueError("the runs of a schedule have the agent's own 'recursion_limit'")


class ScheduleChange(Given):
    """The fields to change. A `message` takes the place of an `input`, and an `input` that of a
    `message`. `"thread_id": null` means a new thread for each run, and null takes `ends_at`, the
    `context`, `config` and breakpoints off; no other field may be null."""

    cron: Cron | None = None
    timezone: Zone | None = None
    agent: str | None = None
    thread_id: ThreadId | None = None
    on_busy: ScheduleOnBusy | None = None
    if_missed: ScheduleIfMissed | None = None
    enabled: StrictBool | None = None
    metadata: Metadata | None = None
    budget: Budget | None = None
    ends_at: Moment | None = None

    @model_validator(mode="after")
    def _not_null(self) -> ScheduleChange:
        for name in self.model_fields_set - {"thread_id", "ends_at", *INHERITED}:
            if getattr(self, name) is None:
                raise ValueError(f"'{name}' is null: send a value, or leave the field out")
        check_no_limit(self.config)
        return self

    def changes(self) -> JsonObject:
        """The fields that were sent, with their new values."""
        others = self.model_dump(exclude_unset=True, exclude=set(GIVEN))
        return {**others, **self.fields_given()}


class GrantRequest(Body):
    """An approval in advance of calls of the tool whose arguments are all within `bounds`: in this
    thread, for this user, or both."""

    tool: Name
    agent: str | None = None
    bounds: dict[str, JsonObject] = Field(
        description='By argument: `{"min": 0, "max": 9}`, `{"among": ["a", "b"]}` or '
        '`{"any": true}`. A call with an argument that has no bound is not covered'
    )
    until: Moment
    uses: StrictInt = Field(ge=1, le=1_000_000, description="The number of calls that it approves")
    thread_id: ThreadId | None = None
    user: Name | None = Field(default=None, description="The user for whom the agent works")


class DelegateRequest(Body):
    """The person or the role that may decide in your place. Your own name takes it back."""

    to: Name | None = None
    role: Name | None = None


class CommentRequest(Body):
    """A comment. It decides nothing."""

    text: str = Field(min_length=1, max_length=MAX_COMMENT_CHARACTERS)


class PreviewRequest(Body):
    """Other arguments of a call."""

    args: JsonObject


class BatchRequest(Body):
    """Decisions by approval id, each as in `POST /approvals/{id}/decide`."""

    decisions: JsonObject = Field(min_length=1, max_length=100)


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]


class TaskParameters(BaseModel):
    """What a task chooses. Any other parameter is kept with it, and does nothing."""

    model_config = ConfigDict(extra="allow")

    enable_streaming: StrictBool | None = Field(
        default=None, description="Show the events as they come, and not only at rest"
    )
    model: Name | None = Field(
        default=None, description="One of the `models` that the agent has for tasks"
    )
    instructions: Text | None = Field(
        default=None, description="An addition to the agent's prompt, where it takes `instructions`"
    )


class TaskRequest(Body):
    """A task for an agent. It does nothing before it is executed."""

    description: Text
    user_id: Name | None = Field(
        default=None, description="Whose task it is to you. It says nothing about who asks"
    )
    task_parameters: Annotated[
        TaskParameters, BeforeValidator(_not_too_large), BeforeValidator(_not_too_many_fields)
    ] = TaskParameters()


class ExecuteRequest(Body):
    """The execution of a task."""

    query: Text | None = Field(
        default=None, description="What the agent is told; by default the task's description"
    )
    enable_streaming: StrictBool | None = Field(
        default=None, description="By default as the task says, or else the agent's configuration"
    )


class BroadcastRequest(Body):
    """A message to the readers of a thread, or without one to those of all logs."""

    message: str = Field(min_length=1, max_length=MAX_BROADCAST_CHARACTERS)
    data: Annotated[Json, AfterValidator(_not_too_large)] = Field(
        default=None, description="Anything else, for programs"
    )
    thread_id: ThreadId | None = None


# ── signing in ──


class KeyRequest(Body):
    """A key for yourself, or as an admin for another `person`, with these roles alone."""

    person: Name | None = None
    roles: list[Name] = Field(
        min_length=1,
        max_length=100,
        description="`viewer`, `operator`, `approver`, `approver:tool:<tool>`, "
        "`approver:role:<role>`, `auditor`, `admin`, and roles of policies",
    )
    expires_at: Moment | None = Field(
        default=None, description="RFC 3339, with a zone; without it, the key does not expire"
    )
    note: str = Field(default="", max_length=500, description="What the key is for")


class TicketRequest(Body):
    """The stream that a ticket is for: its `path` on this server, without its query, and its
    transport."""

    path: str = Field(min_length=1, max_length=1_000, pattern="^/")
    transport: Literal["sse", "websocket"]


class SignInRequest(Body):
    """The key by which somebody signs in in a browser; or what came back from their identity
    provider: its `code`, the `state`, and the issuer, if it says that."""

    key: str | None = Field(default=None, min_length=1, max_length=1_000, repr=False)
    code: str | None = Field(default=None, min_length=1, max_length=4_000, repr=False)
    state: str | None = Field(default=None, max_length=1_000, repr=False)
    iss: str | None = Field(default=None, max_length=1_000)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        by_key, by_code = self.key is not None, self.code is not None
        if by_key == by_code or (self.state is not None) != by_code:
            raise ValueError("send either 'key', or 'code' and 'state'")
        return self
