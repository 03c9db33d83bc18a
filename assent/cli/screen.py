"""Events and approvals as a person sees them in a terminal.

What a model or a person wrote never reaches the terminal as control characters.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from assent.cli.wording import Approval, asked, line_of, local_time, said_by_people, subject
from assent.core.events import TERMINAL_TYPES
from assent.core.json import Json, JsonObject
from assent.core.text import JOINERS, clipped, look_alike_warnings, pretty, unseen, visible

ARGUMENTS_WIDTH = 60
"""Characters of a tool's arguments on its line."""

OUTCOME_WIDTH = 30
"""Characters of a tool's result on its line, at least."""

PREVIEW_LINES = 40

STYLES = {"token": "", "reasoning": "dim italic"}

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
    """The conversation on a terminal, or in a pipe without colours."""

    def __init__(self, console: Console) -> None:
        self._console = console
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
        match event:
            case {"type": "token" | "reasoning", "message_id": message_id}:
                self._hear(event, message_id)
            case {"type": "media", "media": media}:
                self.line(f"  [{media}] {event.get('url') or event.get('mime_type', '')}", "dim")
            case {"type": "tool_start", "tool": tool}:
                started = f"· {tool}({_arguments(event.get('input'))}) …"
                self.line(started, "dim", end="")
                self._open = ("call", event.get("tool_call_id", ""))
                self._written = len(started)
            case {"type": "tool_end"}:
                self._outcome(event, _summary(event.get("output"), self._room), "dim")
            case {"type": "tool_error", "error": error}:
                self._outcome(event, f"failed: {error.get('message') or error['type']}", "red")
            case {"type": "tool_progress", "tool": tool}:
                self.line(f"  {tool}: {_summary(event.get('data'))}", "dim")
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
        question = asked(approval)
        parts: list[RenderableType] = []
        for words in question.words:
            parts.append(Text(visible(words), overflow="fold"))
        for note in question.notes:
            parts.append(Text(visible(note), style="yellow"))
        if question.value is not None:
            parts.append(Text(pretty(question.value), overflow="fold"))
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
            self._console.print(Text(visible(text), style=style))
        else:
            self._console.out(visible(text), style=style or None, highlight=False, end=end)

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
            self._open = owner
            text = visible(content.replace("\r\n", "\n"), keep=f"\n\t{JOINERS}")
            self._console.out(text, style=style or None, highlight=False, end="")

    @property
    def _room(self) -> int:
        return max(OUTCOME_WIDTH, self._console.width - self._written - 1)

    def _outcome(self, event: JsonObject, outcome: str, style: str) -> None:
        if self._open == ("call", event.get("tool_call_id", "")):
            self._console.out(f" {visible(outcome)}", style=style, highlight=False)
            self._open = None
        else:
            self.line(f"· {event['tool']}: {outcome}", style)

    def _end_line(self) -> None:
        if self._open is not None:
            self._console.out("")
            self._open = None


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
            yield Text(_first_lines(pretty(preview)), style="dim", overflow="fold")

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
    return f"{approval['tool']}({_arguments(approval['args'])})"


def _arguments(value: Json) -> str:
    if value is None:
        return ""
    if not isinstance(value, Mapping):
        return _cut(_compact(value))
    return _cut(", ".join(f"{name}={_compact(item)}" for name, item in value.items()))


def _summary(output: Json, width: int = ARGUMENTS_WIDTH) -> str:
    """A tool's result in a few words: the top of JSON, the first line of text."""
    if isinstance(output, Mapping) and isinstance(output.get("content"), str):
        output = output["content"]
    if isinstance(output, str):
        try:
            output = json.loads(output)
        except ValueError:
            return _cut(output.strip().partition("\n")[0], width)

    if output is None:
        return "done"
    if not isinstance(output, Mapping):
        return _cut(_top(output), width)
    return _cut(", ".join(f"{name}: {_top(item)}" for name, item in output.items()), width)


def _top(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "1 item" if len(value) == 1 else f"{len(value)} items"
    return "{…}" if isinstance(value, Mapping) else _compact(value)


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cut(text: str, width: int = ARGUMENTS_WIDTH) -> str:
    return clipped(" ".join(text.split()), width)


def _first_lines(text: str) -> str:
    lines = text.split("\n")
    rest = len(lines) - PREVIEW_LINES
    if rest <= 0:
        return text
    return "\n".join([*lines[:PREVIEW_LINES], f"… {rest} more lines"])
