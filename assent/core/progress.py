"""Progress: which agent is at which task, as the shortest form of a run's events. Pure.

>>> update = progress_of(ToolStart(tool="search_records"), "clerk")
>>> update.task
'search_records'
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from assent.core.clock import time_text
from assent.core.events import (
    Event,
    NodeEvent,
    NodeStart,
    Progress,
    RunResumed,
    RunStart,
    ToolStart,
)
from assent.core.json import JsonObject

UPDATE_TYPES = frozenset({"node_start", "tool_start", "progress"})
"""The types of the events that are updates."""

STEP_TYPES = UPDATE_TYPES | {"run_start", "run_resumed"}
"""The types of the events that `Steps` looks at."""


class ProgressUpdate(msgspec.Struct, frozen=True, tag="progress", tag_field="type"):
    """An agent has begun a task, or says how far it is with it: a node, with those that it is in
    (`outer/inner`), a tool, or what the agent's code calls it.

    As JSON it is `{"type": "progress", "agent": …, "task": …, "timestamp": …}`.
    """

    agent: str
    task: str
    timestamp: datetime

    def json(self) -> bytes:
        """The update as one line of JSON, without its end."""
        return msgspec.json.encode(self)


def progress_of(event: Event, agent: str) -> ProgressUpdate | None:
    """The update that this event of the agent's is, if it is one."""
    match event:
        case NodeStart():
            task = _path_of(event)
        case ToolStart():
            task = event.tool
        case Progress():
            task = event.message or _path_of(event)
        case _:
            return None
    return ProgressUpdate(agent, task, event.ts)


def _path_of(event: NodeEvent) -> str:
    """The node and those around it, without the ids of their tasks."""
    around = (outer.partition(":")[0] for outer in event.ns)
    return "/".join((*around, event.node))


class Steps:
    """The updates in a thread's events, which it is told in order. `agent` is whose they are, if
    that is known before the first."""

    def __init__(self, agent: str = "") -> None:
        self._agent = agent

    def update(self, event: Event) -> ProgressUpdate | None:
        """The update that the next event is, if it is one."""
        if isinstance(event, RunStart | RunResumed):
            self._agent = event.agent
        return progress_of(event, self._agent)


class Totals:
    """Updates, added up by agent and task."""

    def __init__(self, updates: Iterable[ProgressUpdate] = ()) -> None:
        self.updates = 0
        """The number of all updates."""
        self._tasks: dict[str, dict[str, _Task]] = {}
        for update in updates:
            self.add(update)

    def add(self, update: ProgressUpdate) -> None:
        """Count the update."""
        self.updates += 1
        tasks = self._tasks.setdefault(update.agent, {})
        tasks.setdefault(update.task, _Task(update.timestamp)).count(update.timestamp)

    @property
    def by_agent(self) -> dict[str, dict[str, JsonObject]]:
        """The number of updates of each agent's tasks, and the times of the first and the last, in
        the order in which they began: `{agent: {task: {"updates", "first", "last"}}}`."""
        return {
            agent: {name: task.view() for name, task in tasks.items()}
            for agent, tasks in self._tasks.items()
        }


class _Task:
    def __init__(self, first: datetime) -> None:
        self._updates = 0
        self._first = self._last = first

    def count(self, at: datetime) -> None:
        self._updates += 1
        self._last = at

    def view(self) -> JsonObject:
        first, last = time_text(self._first), time_text(self._last)
        return {"updates": self._updates, "first": first, "last": last}
