"""Events and approvals as a person sees them in a terminal.

What a model or a person wrote never reaches the terminal as control characters.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from assent.cli.brief import arguments, first_lines, seconds, summary, text_of
from assent.cli.folding import Folding
from assent.cli.progress import Activity, Task, Work, is_notable, told
from assent.cli.terminal import note
from assent.cli.wording import Approval, asked, line_of, local_time, said_by_people, subject
from assent.core.events import TERMINAL_TYPES
from assent.core.json import Json, JsonObject
from assent.core.text import JOINERS, clipped, look_alike_warnings, pretty, unseen, visible

OUTCOME_WIDTH = 30
"""Characters of a tool's result on its line, at least."""

PREVIEW_LINES = 40

OUTPUT_LINES = 10
"""Lines of a tool's result."""

OUTPUT_WIDTH = 400
"""Characters of one of these."""

BROKEN_INDENT = 2
"""Columns by which a line that was broken goes on further in."""

FACT_WIDTH = 10
"""The column of the names of facts."""

STYLES = {"token": "", "reasoning": "dim italic"}

BEGINNINGS = frozenset({"run_start", "run_resumed"})

CUTTING_OFF = TERMINAL_TYPES | {"run_recovered"}
"""Events after which no more comes of any message."""


class _Message:
    """A message of a model, as it comes."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.ended = False
        self.unwritten: list[tuple[str, str]] = []
        """Kinds and contents of pieces that are not on the screen yet."""
        self.may_be_json = False
        self._words: list[str] = []

    def add(self, kind: str, content: str) -> None:
        self.unwritten.append((kind, content))
        if kind == "token":
            if not self._words:
                self.may_be_json = content.lstrip().startswith(("{", "["))
            self._words.append(content)

    @property
    def text(self) -> str:
        return "".join(self._words)

    @property
    def is_json(self) -> bool:
        try:
            return isinstance(json.loads(self.text), dict | list)
        except ValueError:
            return False


class Screen:
    """The conversation on a terminal, or in a pipe without colours.

    A terminal that can redraw a line also shows what the run is doing, beneath the conversation,
    unless `redraws` is off. With `tells_nodes`, each node's end is told; a terminal tells only of
    those that took long or used tokens.
    """

    def __init__(
        self,
        console: Console,
        *,
        tells_nodes: bool = False,
        redraws: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.work = Work()
        """What the newest run has done so far."""
        self._console = console
        self._tells_nodes = tells_nodes
        self._clock = clock
        can_redraw = redraws and console.is_terminal and not console.is_dumb_terminal
        self._activity = Activity(console, self.work, clock) if can_redraw else None
        self._folding = Folding()
        self._open: tuple[str, str] | None = None
        """The owner of the line that is being written: a kind (the text or reasoning of a message,
        or a call), and an id."""
        self._written = 0
        """Characters of a call's line that are written."""
        self._messages: dict[str, _Message] = {}
        """Messages of models that have not ended, by id. The first has the screen, and the others
        wait for it, so that models which speak at once are kept apart."""
        self._said: set[str] = set()
        """The messages that were written as they came."""
        self._texts: set[str] = set()
        """What those of this run said."""

    def event(self, event: JsonObject) -> None:
        """Show an event, if a person wants to see it."""
        if event["type"] in BEGINNINGS:
            self.work = Work()
            if self._activity is not None:
                self._activity.work = self.work
        task = self.work.add(event, self._clock())
        self._show(event, task)
        if self._activity is not None and self._open is None:
            self._activity.show()

    def rest(self) -> None:
        """Take away what was shown of a run that goes on: no more is heard of it."""
        self._hide()
        if self._activity is not None:
            self._console.show_cursor(True)

    def totals(self, cost: float | None) -> None:
        """Show what the run has taken in all."""
        self.work.cost = cost
        if (self._console.is_terminal or self._tells_nodes) and self.work.ended:
            self.line(f"  {self.work.totals}", "dim")

    def _show(self, event: JsonObject, task: Task | None) -> None:
        match event:
            case {"type": "token" | "reasoning", "message_id": message_id}:
                self._hear(event, message_id)
            case {"type": "media", "media": media}:
                self.line(f"  [{media}] {event.get('url') or event.get('mime_type', '')}", "dim")
            case {"type": "tool_start"}:
                self._call(event)
            case {"type": "tool_end", "output": output}:
                self._outcome(event, task, output, "dim")
            case {"type": "tool_end"}:
                self._outcome(event, task, None, "dim")
            case {"type": "tool_error", "error": error}:
                reason = error.get("message") or error["type"]
                self._outcome(event, task, None, "red", f"failed: {reason}")
            case {"type": "tool_progress", "tool": tool}:
                self.line(f"  {tool}: {summary(event.get('data'))}", "dim")
            case {"type": "progress", "progress": progress}:
                self.line(f"  {round(progress * 100)} % {event.get('message', '')}", "dim")
            case {
                "type": "state_update",
                "update": {"messages": [*_, {"type": "ai", "content": str(text), **message}]},
            }:
                # Words of a node itself, rather than of a model that would have streamed them.
                if not event.get("ns") and not self._is_said(message.get("id"), text):
                    self.line(text)
            case {"type": "llm_end", "message_id": message_id}:
                self._end_message(message_id)
            case {"type": "llm_retry", "message_ids": message_ids}:
                self._forget(message_ids)
                if line := line_of(event):
                    self.line(*line)
            case {"type": "node_error"}:
                self._end_messages(event.get("task_id"))
            case {"type": "node_end"} if task is not None:
                self._tell(task, event)
            case _:
                if event["type"] in CUTTING_OFF:
                    self._end_messages()
                if event["type"] in TERMINAL_TYPES:
                    self._texts.clear()
                if line := line_of(event):
                    self.line(*line)

    def approval(self, approval: Approval, place: str = "") -> None:
        """Show all of what a person is asked, exactly. `place` is its place among several."""
        self._end_line()
        self._hide()
        question = asked(approval)
        parts: list[RenderableType] = []
        for words in question.words:
            parts.append(Text(visible(words), overflow="fold"))
        for remark in question.notes:
            parts.append(Text(visible(remark), style="yellow"))
        if question.value is not None:
            parts.append(Indented(pretty(question.value)))
        parts += _context(approval)

        panel = Panel(
            Group(*parts),
            title=Text(f"{visible(subject(approval))}{place}", style="bold"),
            title_align="left",
            subtitle=Text(f"sha256 {visible(approval['digest'])[:12]}", style="dim"),
            subtitle_align="right",
            border_style="yellow",
        )
        self._console.print(panel)

    def line(self, text: str, style: str = "", *, end: str = "\n") -> None:
        """Show a line of its own."""
        self._end_line()
        if self._console.is_terminal and end == "\n":
            # Only this breaks lines between words.
            self._hide()
            self._console.print(Text(visible(text), style=style))
        else:
            self._out(visible(text), style, end=end)

    def aside(self, text: str, style: str = "dim") -> None:
        """Write to standard error what is not part of the conversation."""
        if self._console.is_terminal:
            # What is redrawn beneath the conversation would be drawn over it.
            self._end_line()
            self._hide()
        note(text, style)

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show these, each on lines of its own behind its name."""
        if not self._console.is_terminal:
            for name, value in facts:
                self.line(f"{name:{FACT_WIDTH}} {value}")
            return
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(width=FACT_WIDTH, no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in facts:
            table.add_row(name, Text(visible(value)))
        self._end_line()
        self._console.print(table)

    def _out(self, text: str, style: str, *, end: str = "\n") -> None:
        self._hide()
        self._console.out(text, style=style or None, highlight=False, end=end)

    def _hide(self) -> None:
        if self._activity is not None:
            self._activity.hide()

    # ── messages of models ────────────────────────────────────────────────────────────────────────

    def _hear(self, event: JsonObject, message_id: str) -> None:
        """Show a piece of a message, or keep it until it is the message's turn."""
        message = self._messages.setdefault(message_id, _Message(event.get("task_id", "")))
        message.add(event["type"], event["content"])
        if next(iter(self._messages)) == message_id:
            self._write(message_id, message)

    def _write(self, message_id: str, message: _Message) -> None:
        """Write what has come of a message. What may become JSON waits for its end, and is not
        written if it has: a router's decision is no speech, and an answer is in the state that the
        node writes afterwards."""
        if message.may_be_json and (not message.ended or message.is_json):
            return
        for kind, content in message.unwritten:
            self._piece((kind, message_id), content, STYLES[kind])
        message.unwritten.clear()
        self._said.add(message_id)
        if message.ended:
            self._texts.add(message.text.strip())

    def _end_message(self, message_id: str) -> None:
        """End a message. Once the first has ended, the next has the screen."""
        if message_id in self._messages:
            self._messages[message_id].ended = True
        while self._messages:
            message_id, message = next(iter(self._messages.items()))
            self._write(message_id, message)
            if not message.ended:
                return
            self._end_line()
            del self._messages[message_id]

    def _forget(self, message_ids: Collection[str]) -> None:
        """Drop what was not written yet of messages that will be made anew."""
        for message_id in message_ids:
            if message_id in self._messages:
                self._messages[message_id].unwritten.clear()
                self._end_message(message_id)

    def _end_messages(self, task_id: str | None = None) -> None:
        """End all messages, or those of a task: no more comes of them."""
        for message_id, message in list(self._messages.items()):
            if task_id in (None, message.task_id):
                self._end_message(message_id)
        if not self._messages:
            self._end_line()

    def _is_said(self, message_id: object, text: str) -> bool:
        """True if these words of the state were written already, or wait for their turn."""
        waiting = self._messages.get(str(message_id))
        if waiting is not None and not waiting.is_json:
            return True
        said = text.strip()
        return not said or message_id in self._said or said in self._texts

    def _piece(self, owner: tuple[str, str], content: str, style: str = "") -> None:
        if self._open != owner:
            self._end_line()
            content = content.lstrip("\n")
        if content:
            if self._open is None:
                self._open, self._folding = owner, Folding()
            text = visible(content.replace("\r\n", "\n"), keep=f"\n\t{JOINERS}")
            if self._console.is_terminal:
                text = self._folding.add(text, self._console.width)
            self._out(text, style, end="")

    def _end_line(self) -> None:
        if self._open is not None:
            rest = self._folding.end(self._console.width)
            self._out(rest, STYLES.get(self._open[0], ""))
            self._open = None

    # ── nodes and tools ───────────────────────────────────────────────────────────────────────────

    def _call(self, event: JsonObject) -> None:
        """Begin the line of a call. If what goes on is shown beneath the conversation, the line is
        written as a whole once the call has ended."""
        if self._activity is None:
            started = f"· {event['tool']}({arguments(event.get('input'))}) …"
            self.line(started, "dim", end="")
            self._open, self._folding = ("call", event.get("tool_call_id", "")), Folding()
            self._written = cell_len(started)

    def _outcome(
        self, event: JsonObject, task: Task | None, output: Json, style: str, error: str = ""
    ) -> None:
        """Show the outcome of a call: one line, and the next few of a text of several lines."""
        took = task.seconds(event) if task else None
        time_taken = "" if took is None else f" · {seconds(took)}"
        is_open = self._open == ("call", event.get("tool_call_id", ""))
        begun = f"· {event['tool']}:"
        if self._activity is not None and task is not None:
            begun = f"· {task.name} …"
        written = self._written if is_open else cell_len(begun)
        room, gap = self._console.width - written - len(time_taken) - 1, " "
        if room < OUTCOME_WIDTH and self._console.is_terminal:
            # On a line of its own, beneath the call.
            room, gap = self._console.width - len(time_taken) - 2, "\n  "
        outcome = f"{error or summary(output, max(OUTCOME_WIDTH, room))}{time_taken}"

        if is_open:
            self._out(f"{gap}{visible(outcome)}", style)
            self._open = None
        else:
            self.line(f"{begun}{gap}{outcome}", style)
        self._more_lines(output, style)

    def _more_lines(self, output: Json, style: str) -> None:
        """Show the lines of a text after its first."""
        shown = first_lines((text_of(output) or "").strip(), OUTPUT_LINES)
        for line in shown.split("\n")[1:]:
            text = visible(clipped(line, OUTPUT_WIDTH))
            if self._console.is_terminal:
                self._hide()
                self._console.print(Padding(Text(text, style=style), (0, 0, 0, 2)))
            else:
                self._out(f"  {text}", style)

    def _tell(self, task: Task, end: JsonObject) -> None:
        """Show the end of a node."""
        is_shown = self._console.is_terminal and is_notable(task, end)
        if is_shown or self._tells_nodes:
            self.line(f"  {told(task, end)}", "dim")


class Indented:
    """Text whose lines, where they are broken, go on a little further in than they begin."""

    def __init__(self, text: str, style: str = "") -> None:
        self._text = text
        self._style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, none wider than there is room."""
        width = options.max_width
        for line in self._text.split("\n"):
            if cell_len(line) <= width:
                yield Text(line, self._style)
                continue
            words = line.lstrip(" ")
            first = len(line) - len(words)
            further = first + BROKEN_INDENT
            if further > width // 2:
                # There is more room at the border.
                first = further = 0
            begin = Text(words).wrap(console, width - first, overflow="fold")[0].plain.rstrip()
            yield Text(f"{' ' * first}{begin}", self._style)
            rest = Text(words.removeprefix(begin).lstrip(" "), self._style)
            for part in rest.wrap(console, width - further, overflow="fold"):
                yield Text(" " * further).append_text(part)


def _context(approval: Approval) -> Iterator[RenderableType]:
    """The parts that help to judge what is asked."""
    preview = approval.get("preview") if approval["kind"] != "budget" else None
    match preview:
        case {"description": str(description), **rest} if not rest:
            yield Text(f"\n{visible(description)}", style="dim", overflow="fold")
        case None:
            pass
        case _:
            label = "what it is about to see (the graph's)"
            yield Text(f"\n{label if approval['kind'] == 'node' else 'preview'}", style="dim")
            yield Indented(first_lines(pretty(preview), PREVIEW_LINES), style="dim")

    if note := approval.get("conversation", {}).get("warning"):
        yield Text(f"\n{visible(note)}", style="red", overflow="fold")
    if count := unseen([approval["args"], preview]):
        note = f"\n{count} character(s) in this cannot be seen, and are shown like \\u200b."
        yield Text(note, style="red")
    for warning in look_alike_warnings({"args": approval["args"], "preview": preview}, "this"):
        yield Text(f"\n{visible(warning)}", style="red", overflow="fold")
    if lines := said_by_people(approval):
        yield Text("\n" + visible("\n".join(lines)), style="yellow", overflow="fold")
    if approval.get("expires_at"):
        yield Text(f"\nDecide until {local_time(approval['expires_at'])}.", style="yellow")


def call_line(approval: Approval) -> str:
    """The call that an approval is about, on one line."""
    if approval["kind"] != "tool":
        return subject(approval)
    return f"{approval['tool']}({arguments(approval['args'])})"
