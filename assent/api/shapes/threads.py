"""Threads and their states, as LangGraph's server shows them."""

from __future__ import annotations

from typing import TypedDict

from assent.api.shapes.approvals import ApprovalView
from assent.api.shapes.common import ErrorView, Time
from assent.core.approval import ApprovalKind
from assent.core.json import Json, JsonObject
from assent.core.rows import ThreadStatus
from assent.graph.forking import Standing


class InterruptView(TypedDict):
    """A question that a graph asked with `interrupt()`; or all else that a pause asks, as a
    `HITLRequest` of langchain's."""

    id: str
    value: Json


class ThreadView(TypedDict):
    """A thread. `title` is the beginning of a person's first message, unless somebody has given it
    another. `interrupts` has the questions of each task, and `approvals` all that is waited for, of
    which `pending` are the ids."""

    thread_id: str
    owner: str
    created_at: Time
    updated_at: Time
    state_updated_at: Time
    metadata: JsonObject
    title: str | None
    status: ThreadStatus
    pending: list[str]
    config: JsonObject
    values: Json
    interrupts: dict[str, list[InterruptView]]
    error: ErrorView | None
    approvals: list[ApprovalView]


class FoundThread(TypedDict, total=False):
    """A thread that was found, with the fields that were selected."""

    thread_id: str
    owner: str
    created_at: Time
    updated_at: Time
    state_updated_at: Time
    metadata: JsonObject
    title: str | None
    status: ThreadStatus
    pending: list[str]
    config: JsonObject
    values: Json
    interrupts: dict[str, list[InterruptView]]
    error: ErrorView | None
    approvals: list[ApprovalView]


class PrunedThreads(TypedDict):
    """The number of threads that were removed, or of whose states some were."""

    pruned_count: int


class ThreadsPage(TypedDict):
    """Threads, and the cursor of the next page."""

    threads: list[ThreadView]
    next: str | None


class CheckpointView(TypedDict):
    """A place in the history of a thread."""

    thread_id: str | None
    checkpoint_ns: str
    checkpoint_id: str | None
    checkpoint_map: JsonObject | None


class TaskView(TypedDict):
    """A task of a state's next step. If it is a graph, `state` is that graph's, or `checkpoint`
    where to ask for it."""

    id: str
    name: str
    path: Json
    error: str | None
    interrupts: list[InterruptView]
    checkpoint: CheckpointView | None
    state: StateView | None
    result: Json


class StateView(TypedDict):
    """A state of a thread, and what it waits for."""

    values: Json
    next: list[str]
    checkpoint: CheckpointView | None
    metadata: JsonObject | None
    created_at: Time | None
    parent_checkpoint: CheckpointView | None
    tasks: list[TaskView]
    interrupts: list[InterruptView]
    checkpoint_id: str | None
    parent_checkpoint_id: str | None
    approvals: list[ApprovalView]


class WouldAsk(TypedDict):
    """A question that would be asked, under the policy that it has now."""

    node: str
    tool_call_id: str
    kind: ApprovalKind
    tool: str
    args: Json
    digest: str
    allowed: list[str]
    risk: str
    roles: list[str]
    names: list[str]
    quorum: int
    four_eyes: bool
    warnings: list[str]


class StateAsks(TypedDict):
    """What a fork from a state could do next: take input (`at_rest`), be run without any
    (`can_go_on`), or wait for people (`waiting`), who would be asked all of `asks` anew."""

    thread_id: str
    checkpoint_id: str
    standing: Standing
    asks: list[WouldAsk]


class WrittenState(TypedDict):
    """What has become of a thread whose state was written to."""

    checkpoint: CheckpointView | None
    status: ThreadStatus
    approvals: list[ApprovalView]
