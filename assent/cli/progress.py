"""What a run is doing: the nodes and tools that are at work, with their times, tokens and cost.

`Work` folds the events of a run. `Activity` shows it beneath the conversation, while it goes on, on
a terminal that can redraw a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from assent.cli.brief import arguments, number, seconds, tokens
from assent.core.events import TERMINAL_TYPES
from assent.core.json import JsonObject
from assent.core.text import visible

MOST_SHOWN = 5
"""Nodes and tools that are shown at once."""

LONG = 1.0
"""Seconds that a node takes at least to be notable, if it has used no tokens."""


@dataclass(slots=True)
class Task:
    """A node, or a call of a tool, that is at work."""

    name: str
    began: datetime | None
    """By the server's clock, as its end will be told."""

    since: float
    """By a clock of this process."""

    tokens: float = 0

    def seconds(self, end: JsonObject) -> float | None:
        """The time that it took, up to the event of its end."""
        ended = _moment(end)
        return (ended - self.began).total_seconds() if ended and self.began else None


@dataclass(slots=True)
class Work:
    """What a run has done so far, and is doing. A pure fold of its events.

    `now` is any clock that only goes forward, in seconds.
    """

    agent: str = ""
    run_id: str = ""
    tokens: float = 0
    cost: float | None = None
    nodes: dict[str, Task] = field(default_factory=dict)
    """The nodes that are at work, by the id of their task; those of subgraphs are not told."""

    tools: dict[str, Task] = field(default_factory=dict)
    """The calls that are at work, by their ids."""

    steps: set[int] = field(default_factory=set)
    began: datetime | None = None
    ended: datetime | None = None

    def add(self, event: JsonObject, now: float = 0.0) -> Task | None:
        """Take an event in. Returns the node or the call that it ends."""
        match event:
            case {"type": "run_start" | "run_resumed", "agent": agent}:
                self.agent, self.run_id = agent, event.get("run_id", "")
                self.began = _moment(event)
            case {"type": "node_start", "node": node} if not event.get("ns"):
                self.steps.add(event.get("step", 0))
                self.nodes[event.get("task_id", "")] = Task(node, _moment(event), now)
            case {"type": "node_end" | "node_error"} if not event.get("ns"):
                return self.nodes.pop(event.get("task_id", ""), None)
            case {"type": "llm_end", "usage": usage}:
                self._count(event, usage)
            case {"type": "tool_start", "tool": tool}:
                name = f"{tool}({arguments(event.get('input'))})"
                self.tools[_call_of(event)] = Task(name, _moment(event), now)
            case {"type": "tool_end" | "tool_error" | "tool_unknown"}:
                return self.tools.pop(_call_of(event), None)
            case {"type": "run_recovered"}:
                self._drop()
            case {"type": kind} if kind in TERMINAL_TYPES:
                self._drop()
                self._end(event)
        return None

    def _count(self, event: JsonObject, usage: JsonObject) -> None:
        used = _total(usage)
        self.tokens += used
        # A model inside a subgraph works for the node that the subgraph is.
        outermost = next(iter(event.get("ns") or ()), "").partition(":")[2]
        if task := self.nodes.get(outermost or event.get("task_id", "")):
            task.tokens += used

    def _drop(self) -> None:
        self.nodes.clear()
        self.tools.clear()

    def _end(self, event: JsonObject) -> None:
        self.ended = _moment(event)
        if usage := event.get("usage"):
            self.tokens = _total(usage)

    @property
    def is_going_on(self) -> bool:
        return self.began is not None and self.ended is None

    @property
    def totals(self) -> str:
        """All of it in one line: `clerk · 2 steps · 3.1 s · 900 tokens · cost 0.002`."""
        parts = [self.agent]
        if self.steps:
            parts.append("1 step" if len(self.steps) == 1 else f"{len(self.steps)} steps")
        if self.began and self.ended:
            parts.append(seconds((self.ended - self.began).total_seconds()))
        if self.tokens:
            parts.append(tokens(self.tokens))
        if self.cost is not None:
            parts.append(f"cost {number(self.cost)}")
        return " · ".join(filter(None, parts))


def told(task: Task, end: JsonObject) -> str:
    """The end of a node in a few words: `agent · 1.2 s · 340 tokens`."""
    took = task.seconds(end)
    parts = [task.name]
    if took is not None:
        parts.append(seconds(took))
    if task.tokens:
        parts.append(tokens(task.tokens))
    return " · ".join(parts)


def is_notable(task: Task, end: JsonObject) -> bool:
    """True if the node took long, or used tokens."""
    return bool(task.tokens) or (task.seconds(end) or 0) >= LONG


def _call_of(event: JsonObject) -> str:
    return str(event.get("tool_call_id") or event.get("tool", ""))


def _moment(event: JsonObject) -> datetime | None:
    moment = event.get("ts")
    return datetime.fromisoformat(moment) if moment else None


def _total(usage: JsonObject) -> float:
    total: float = usage.get("total_tokens", 0)
    return total or usage.get("input_tokens", 0) + usage.get("output_tokens", 0)


class Activity:
    """The lines beneath the conversation: a spinner for each node and tool that is at work."""

    def __init__(self, console: Console, work: Work, clock: Callable[[], float]) -> None:
        self._console = console
        self.work = work
        self._clock = clock
        self._spinner = Spinner("dots" if console.encoding.startswith("utf") else "line")
        self._live: Live | None = None
        self._began: float | None = None

    def show(self) -> None:
        """Show what goes on, if anything does."""
        if not self.work.is_going_on:
            self._began = None
            return
        if self._began is None:
            self._began = self._clock()
        if self._live is None:
            self._live = Live(
                console=self._console,
                get_renderable=self._lines,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def hide(self) -> None:
        """Take the lines away, before anything else is written."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _lines(self) -> RenderableType:
        now = self._clock()
        table = Table.grid(padding=(0, 1))
        table.add_column()
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, justify="right")
        for name, since in self._shown():
            passed = Text(_whole(now - since), style="dim")
            table.add_row(self._spinner, Text(visible(name, keep=""), style="dim"), passed)

        began = now if self._began is None else self._began
        totals = [_whole(now - began)]
        if self.work.tokens:
            totals.append(tokens(self.work.tokens))
        return Group(table, Text(f"  {' · '.join(totals)}", style="dim"))

    def _shown(self) -> Iterator[tuple[str, float]]:
        """The calls, and the nodes if there are none: a tool is at work in a node."""
        # Copied, since another thread draws what this one changes.
        tasks = [*self.work.tools.copy().values()] or [*self.work.nodes.copy().values()]
        for task in tasks[:MOST_SHOWN]:
            yield task.name, task.since
        if len(tasks) > MOST_SHOWN:
            yield f"and {len(tasks) - MOST_SHOWN} more", tasks[MOST_SHOWN].since


def _whole(passed: float) -> str:
    return f"{int(passed)} s" if passed < 60 else seconds(passed)
