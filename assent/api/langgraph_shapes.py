"""Bodies and answers in the shapes of LangGraph's server, with the field names of the
`langgraph-sdk` package: threads, their states, and their runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END
from langgraph.types import Interrupt, PregelTask, StateSnapshot
from msgspec import UNSET
from pydantic import ConfigDict, Field, PrivateAttr, StrictBool, StrictInt, model_validator

from assent.api.dialects.langgraph.inputs import task_in, without_own
from assent.api.dialects.langgraph.stream import Mode, Stream
from assent.api.dialects.questions import pause_interrupt
from assent.api.schemas import (
    Body,
    CheckpointId,
    Delay,
    GraphInput,
    Metadata,
    Name,
    ThreadId,
    Title,
)
from assent.api.views import approval_view, pick, state_json, values_json
from assent.approvals.idempotency import Key
from assent.approvals.people import People
from assent.core.approval import Approval
from assent.core.assistants import assistant_id_of, assistant_in
from assent.core.audit import Actor
from assent.core.json import Json, JsonObject
from assent.core.rows import Run, RunStatus, Thread
from assent.core.run_input import RunInput
from assent.runs.searching import shown_metadata
from assent.runs.transitions import IfPaused, OnBusy, Submission

LangGraphStatus = Literal["pending", "running", "error", "success", "timeout", "interrupted"]
"""The statuses of runs that LangGraph knows. `interrupted` is one that was cancelled."""

_STATUSES: Mapping[RunStatus, LangGraphStatus] = {
    RunStatus.PENDING: "pending",
    RunStatus.RUNNING: "running",
    RunStatus.CANCELLING: "running",
    RunStatus.ERROR: "error",
    RunStatus.SUCCESS: "success",
    RunStatus.INTERRUPTED: "success",
    RunStatus.TIMEOUT: "timeout",
    RunStatus.CANCELLED: "interrupted",
}


def statuses_of(status: LangGraphStatus) -> tuple[RunStatus, ...]:
    """Our statuses that LangGraph calls so."""
    return tuple(ours for ours, theirs in _STATUSES.items() if theirs == status)


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────


class LangGraphBody(Body):
    """A body in the shape of LangGraph's server. Unknown fields are ignored, since clients of its
    other releases send them."""

    model_config = ConfigDict(extra="ignore")

    refused: ClassVar[Mapping[str, str]] = {}
    """The fields that are not ignored, because something else would be done than was asked for;
    each with a sentence on what to do."""

    @model_validator(mode="before")
    @classmethod
    def _can_be_done(cls, body: Json) -> Json:
        if isinstance(body, dict):
            for name, instead in cls.refused.items():
                if body.get(name) is not None:
                    raise ValueError(f"'{name}' is not supported here. {instead}")
        return body


NO_TTL = "ASSENT_THREADS_TTL removes threads that nobody uses."


class ThreadRequest(LangGraphBody):
    """A new thread."""

    refused = {
        "supersteps": "To begin with the state of a thread, use POST /threads/{id}/fork.",
        "ttl": NO_TTL,
        "graph_id": "A thread belongs to the agent that it is first sent to.",
    }

    thread_id: ThreadId | None = None
    metadata: Metadata = Field(default_factory=dict)
    if_exists: Literal["raise", "do_nothing"] = "raise"


class ThreadChange(LangGraphBody):
    """The fields of a thread's metadata to change, of which those that are null are taken off; and
    another title, if there is one."""

    refused = {"ttl": NO_TTL}

    metadata: Metadata = Field(default_factory=dict)
    title: Title | None = None


class PlacedBody(LangGraphBody):
    """A body that may name a checkpoint of the thread's history."""

    checkpoint_id: CheckpointId | None = Field(
        default=None, description="A checkpoint of the thread's history, in place of its head"
    )
    checkpoint: JsonObject | None = Field(
        default=None, description="The same, as a checkpoint with its `checkpoint_id`"
    )

    @property
    def place(self) -> str | None:
        """The id of the checkpoint, in whichever way it is given."""
        return one_place(self.checkpoint_id, self.checkpoint)

    @model_validator(mode="after")
    def _names_one_place(self) -> Self:
        one_place(self.checkpoint_id, self.checkpoint)
        return self


class StateChange(PlacedBody):
    """What to write to the state of a thread."""

    values: JsonObject | None = Field(
        description="Fields of the graph's input schema; null writes none. It is required: as "
        "unknown fields are ignored, a misspelt one would write nothing"
    )
    as_node: Name | None = Field(
        default=None,
        description="The node to write as, by default the one that wrote last. With null `values`, "
        f"`{END}` drops what a paused thread waits for",
    )

    @property
    def drops(self) -> bool:
        """True if what the thread waits for is to be dropped."""
        return self.values is None and self.as_node == END


class HistoryRequest(LangGraphBody):
    """The states of a thread to list."""

    limit: StrictInt = Field(default=10, ge=1, le=1000)
    before: str | JsonObject | None = Field(
        default=None, description="The state to begin after: its checkpoint, or the id of that"
    )
    checkpoint: JsonObject | None = Field(
        default=None, description="The graph whose states are listed: only the thread's own"
    )
    metadata: JsonObject | None = Field(
        default=None, description="List only states with these values in their metadata"
    )

    @property
    def before_id(self) -> str | None:
        """The id of the checkpoint to begin after."""
        return None if self.before is None else checkpoint_id_in(self.before)

    @model_validator(mode="after")
    def _names_states_of_the_thread(self) -> HistoryRequest:
        if self.before is not None:
            checkpoint_id_in(self.before)
        check_root(self.checkpoint or {})
        return self


OUR_FIELD = "Send it to POST /agent/runs."


class RunCommand(LangGraphBody):
    """A command to a paused thread, in place of an input: a `resume`, or `{"goto": "__end__"}`,
    which drops what the thread waits for."""

    refused = {"update": "To write to the state of a thread, use POST /threads/{id}/state."}

    resume: Json = Field(
        default=None,
        description="The answer to what the thread waits for, as POST /threads/{id}/resume takes "
        "it",
    )
    goto: Json = Field(default=None, description=f"Nothing, or `{END}`")

    @property
    def drops(self) -> bool:
        """True if what the thread waits for is to be dropped."""
        return self.goto in (END, [END])

    @model_validator(mode="after")
    def _does_one_thing(self) -> Self:
        if self.goto not in (None, [], END, [END]):
            raise ValueError(
                "'goto' is not supported here: a graph goes where its edges lead. "
                f"'{END}' drops what the thread waits for."
            )
        if self.drops and self.resume is not None:
            raise ValueError("'resume' decides, and 'goto' drops what is asked: send one of them")
        if not self.drops and "resume" not in self.model_fields_set:
            raise ValueError("'command.resume' is missing: the answer to what the thread waits for")
        return self


OnCompletion = Literal["delete", "keep"]
"""What becomes of the thread that a run without one has, once that has ended."""

Webhook = Annotated[
    str,
    Field(
        max_length=2000,
        description="A URL that is told when the run ends or asks a person, at a host that the "
        "server's operator has listed",
    ),
]


class ThreadRunRequest(GraphInput, PlacedBody):
    """A run on a thread."""

    refused = {
        **dict.fromkeys(
            ("message", "agent", "if_paused", "on_busy", "priority", "budget", "recursion_limit"),
            OUR_FIELD,
        ),
        "supersteps": "To write to the state of a thread, use POST /threads/{id}/state.",
        "ttl": NO_TTL,
    }

    assistant_id: Name = Field(
        description="The agent's name, its id as an assistant, or that of an assistant which was "
        "created"
    )
    command: RunCommand | None = Field(
        default=None, description="With one, the `input` is not read, as LangGraph's server does"
    )
    metadata: Metadata = Field(default_factory=dict)
    multitask_strategy: OnBusy = Field(
        default="enqueue", description="What `on_busy` is in POST /agent/runs"
    )
    after_seconds: Delay = 0
    webhook: Webhook | None = None
    if_not_exists: Literal["create", "reject"] = Field(
        default="reject", description="If there is no such thread: make it, or answer 404"
    )

    on_completion: OnCompletion | None = Field(
        default=None, description="Only `keep`: the thread was there before the run"
    )
    on_disconnect: Literal["continue", "cancel"] = Field(
        default="continue",
        description="If the client goes while it follows the run, or waits for it: `cancel` stops "
        "the run, if the client may",
    )

    makes_thread: ClassVar[bool] = False
    """True for a run that has a thread of its own."""

    _carried: JsonObject = PrivateAttr(default_factory=dict)
    _task: JsonObject | None = PrivateAttr(default=None)

    @property
    def carried(self) -> JsonObject:
        """The answers that a graph was resumed with whose node sends this request, by the ids of
        interrupts: it has no command for them."""
        return self._carried

    @property
    def task(self) -> JsonObject | None:
        """The task of another graph that sends this request, if one does."""
        return self._task

    @model_validator(mode="wrap")
    @classmethod
    def _without_what_a_graph_adds(cls, body: Json, handler: Callable[[Json], Self]) -> Self:
        sent = body.get("config") if isinstance(body, dict) else None
        config, carried = without_own(sent)
        made = handler({**body, "config": config} if config is not None else body)
        made._carried, made._task = carried, task_in(sent)
        return made

    @model_validator(mode="after")
    def _keeps_a_thread(self) -> Self:
        if self.on_completion == "delete" and not self.makes_thread:
            raise ValueError(
                "'on_completion' is 'delete', and the run is on a thread that stays: to remove "
                "that, use DELETE /threads/{id}; or send the run to POST /runs, without a thread"
            )
        return self

    @model_validator(mode="after")
    def _delayed_runs_wait(self) -> ThreadRunRequest:
        if self.after_seconds and self.multitask_strategy != "enqueue":
            raise ValueError(
                "a delayed run waits until the thread is free, so "
                f'"multitask_strategy": "{self.multitask_strategy}" is not possible: leave it out'
            )
        return self

    @model_validator(mode="after")
    def _decides_now(self) -> ThreadRunRequest:
        if self.command is not None and self.after_seconds:
            raise ValueError("a 'command' decides, now: leave out 'after_seconds'")
        return self

    def given_at(self, place: str | None) -> RunInput:
        """The run's input. With a place to go on from, null is none."""
        fields = self.fields_given()
        if place is None:
            fields.setdefault("input", None)
        elif fields.get("input", UNSET) is None:
            fields.pop("input", None)
        return RunInput(**fields)

    def submission(
        self,
        by: Actor,
        thread_id: str,
        *,
        place: str | None = None,
        if_paused: IfPaused = "refuse",
        due_at: datetime | None = None,
        key: Key | None = None,
    ) -> Submission:
        """The submission of this input by the actor; to go on from the `place`, a checkpoint."""
        return Submission(
            given=self.given_at(place),
            by=by,
            assistant_id=self.assistant_id,
            thread_id=thread_id,
            metadata=self.metadata,
            on_busy=self.multitask_strategy,
            if_paused=if_paused,
            checkpoint_id=place,
            due_at=due_at,
            recursion_limit=self.config.recursion_limit if self.config else None,
            key=key,
        )


class StreamedRunRequest(ThreadRunRequest):
    """A run on a thread, and what is to be streamed of it."""

    stream_mode: Mode | list[Mode] = Field(
        default_factory=list, description="`values` if it is left out"
    )
    stream_subgraphs: StrictBool = False

    @property
    def stream(self) -> Stream:
        """The stream that is asked for."""
        modes = self.stream_mode if isinstance(self.stream_mode, list) else [self.stream_mode]
        return Stream(modes or ["values"], subgraphs=self.stream_subgraphs)


class NewThreadRunRequest(StreamedRunRequest):
    """A run on a new thread, which has nothing to decide, and no state to go on from."""

    refused = {
        **StreamedRunRequest.refused,
        "command": "The run has a new thread, on which nobody is asked anything yet.",
        "checkpoint": "The run has a new thread.",
        "checkpoint_id": "The run has a new thread.",
    }

    makes_thread = True

    on_completion: OnCompletion | None = Field(
        default="delete",
        description="What becomes of the thread: `delete` erases it some time after the run has "
        "ended; what it asks a person is decided and done before",
    )

    def fields_given(self) -> JsonObject:
        return {**super().fields_given(), "temporary": self.on_completion != "keep"}


class StoppedRunsRequest(LangGraphBody):
    """The runs to stop: those with these ids, or those of this status, on a thread or on all."""

    thread_id: ThreadId | None = None
    run_ids: list[Name] | None = Field(default=None, min_length=1, max_length=100)
    status: Literal["pending", "running", "all"] | None = None

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if (self.run_ids is None) == (self.status is None):
            raise ValueError("send either 'run_ids' or a 'status'")
        return self

    @property
    def statuses(self) -> tuple[RunStatus, ...]:
        """The statuses of the runs to stop."""
        if self.status == "pending":
            return (RunStatus.PENDING,)
        running = (RunStatus.RUNNING, RunStatus.CANCELLING)
        return running if self.status == "running" else (RunStatus.PENDING, *running)


def checkpoint_id_in(place: str | JsonObject) -> str:
    """The id of a checkpoint that is given as such, as a checkpoint, or as a config with one.
    Raises `ValueError`."""
    if isinstance(place, str):
        return place
    inner = place.get("configurable", place)
    checkpoint_id = inner.get("checkpoint_id") if isinstance(inner, dict) else None
    if not isinstance(checkpoint_id, str):
        raise ValueError("send a checkpoint with its 'checkpoint_id'")
    check_root(inner)
    return checkpoint_id


_OF_HEAD = frozenset({"thread_id", "checkpoint_ns", "checkpoint_map"})
"""The fields of a checkpoint that name no state of a thread."""


def one_place(checkpoint_id: str | None, checkpoint: JsonObject | None) -> str | None:
    """The id of the checkpoint that is given in one of these ways, if any is. Raises
    `ValueError`."""
    if checkpoint and checkpoint.keys() <= _OF_HEAD:
        # RemoteGraph names the thread alone.
        check_root(checkpoint)
        return checkpoint_id
    place = checkpoint_id_in(checkpoint) if checkpoint else checkpoint_id
    if checkpoint_id not in (None, place):
        raise ValueError("'checkpoint_id' and that of 'checkpoint' differ: send one of them")
    return place


def check_root(checkpoint: JsonObject) -> None:
    """Raise `ValueError` for a checkpoint of a subgraph."""
    if checkpoint.get("checkpoint_ns"):
        raise ValueError(
            "'checkpoint_ns' names a subgraph, and only the states of the whole graph are kept "
            "apart here: leave it out"
        )


# ── threads ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All of a thread that is not in its row: its state, if the server has its agent; the approvals
    that it waits for; and the error of its last run."""

    state: StateSnapshot | None
    approvals: Sequence[Approval]
    error: Mapping[str, Json] | None


NOTHING = Content(state=None, approvals=(), error=None)


def thread_view(
    thread: Thread, content: Content = NOTHING, people: People = People()
) -> JsonObject:
    """A thread. `interrupts` has, by the id of its task, each question that a graph asked with
    `interrupt()`, and one for all else that is waited for; `approvals` has it by itself."""
    state = content.state
    asking = _tasks(state, content.approvals) if state else []
    return {
        **pick(thread, ("thread_id", "owner", "created_at", "updated_at")),
        "state_updated_at": thread.updated_at,
        "metadata": shown_metadata(thread),
        "title": thread.title,
        "status": thread.status,
        "pending": list(thread.pending),
        "config": {"configurable": {}},
        "values": values_json(state.values) if state else None,
        "interrupts": {task["id"]: task["interrupts"] for task in asking if task["interrupts"]},
        "error": content.error,
        "approvals": [approval_view(each, people) for each in content.approvals],
    }


# ── states ────────────────────────────────────────────────────────────────────────────────────────


def state_view(
    snapshot: StateSnapshot,
    approvals: Sequence[Approval] = (),
    people: People = People(),
    *,
    asked: Sequence[Approval] = (),
    values_json: Callable[[Any], Json] = values_json,
) -> JsonObject:
    """A state of a thread, with the approvals that it waits for. `interrupts` are the questions
    that a graph asked with `interrupt()`, and one for whatever else is `asked` in this state."""
    checkpoint, parent = _checkpoint(snapshot.config), _checkpoint(snapshot.parent_config)
    tasks = _tasks(snapshot, asked or approvals)
    return {
        "values": values_json(snapshot.values),
        "next": list(snapshot.next),
        "checkpoint": checkpoint,
        "metadata": state_json(snapshot.metadata),
        "created_at": snapshot.created_at,
        "parent_checkpoint": parent,
        "tasks": tasks,
        "interrupts": [each for task in tasks for each in task["interrupts"]],
        "checkpoint_id": checkpoint and checkpoint["checkpoint_id"],
        "parent_checkpoint_id": parent and parent["checkpoint_id"],
        "approvals": [approval_view(each, people) for each in approvals],
    }


def written_view(
    thread: Thread, snapshot: StateSnapshot, approvals: Sequence[Approval], people: People
) -> JsonObject:
    """What has become of a thread whose state was written to."""
    return {
        "checkpoint": _checkpoint(snapshot.config),
        "status": thread.status,
        "approvals": [approval_view(each, people) for each in approvals],
    }


def _tasks(snapshot: StateSnapshot, asked: Sequence[Approval]) -> list[JsonObject]:
    """The tasks of the state's next step. What a pause asks beside the graph's own interrupts is
    the last one's, where LangGraph's clients look for it."""
    tasks = list(map(_task, snapshot.tasks))
    interrupt = pause_interrupt(asked[0].run_id, asked) if asked else None
    if interrupt is not None and tasks:
        tasks[-1]["interrupts"].append(interrupt)
    return tasks


def _task(task: PregelTask) -> JsonObject:
    # The state of a subgraph, or the config by which to ask for it.
    inner = task.state
    return {
        "id": task.id,
        "name": task.name,
        "path": state_json(task.path),
        # The text of an exception is for the server's log.
        "error": type(task.error).__name__ if task.error else None,
        "interrupts": list(map(interrupt_view, task.interrupts)),
        "checkpoint": _checkpoint(inner.config if isinstance(inner, StateSnapshot) else inner),
        "state": state_view(inner) if isinstance(inner, StateSnapshot) else None,
        "result": state_json(task.result),
    }


def interrupt_view(interrupt: Interrupt) -> JsonObject:
    """A question that a graph asked with `interrupt()`."""
    return {"id": interrupt.id, "value": state_json(interrupt.value)}


def _checkpoint(config: RunnableConfig | None) -> JsonObject | None:
    if config is None:
        return None
    configurable = config["configurable"]
    return {
        "thread_id": configurable.get("thread_id"),
        "checkpoint_ns": configurable.get("checkpoint_ns", ""),
        "checkpoint_id": configurable.get("checkpoint_id"),
        "checkpoint_map": configurable.get("checkpoint_map"),
    }


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────


def langgraph_run_view(run: Run) -> JsonObject:
    """A run. One that paused for a person is a `success`, since it did what it could; one that was
    cancelled is `interrupted`. `kwargs` has the input that was given."""
    given = ("message", "input", "context", "config")
    return {
        **pick(run, ("run_id", "thread_id", "created_at", "metadata")),
        "assistant_id": assistant_in(run.input) or assistant_id_of(run.agent),
        "updated_at": run.ended_at or run.started_at or run.created_at,
        "status": _STATUSES[run.status],
        "kwargs": {name: run.input[name] for name in given if name in run.input},
        "multitask_strategy": run.input.get("on_busy", "reject"),
    }
