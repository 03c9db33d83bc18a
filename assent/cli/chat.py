"""`assent chat`: a conversation in a terminal, over HTTP. What a model wrote never reaches the
terminal as control characters.

Client      the HTTP API: events as they come, over dropped connections
Screen      events as a person sees them
Chat        the conversation: messages, approvals, and how it ends
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import click
import httpx
import msgspec
from httpx_sse import ServerSentEvent, connect_sse
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from assent.cli.wording import (
    Answers,
    Field,
    NotUnderstood,
    answers_for,
    as_asked_now,
    asked,
    choices,
    form_of,
    limit_from,
    line_of,
    local_time,
    said_by_people,
    subject,
)
from assent.core.clock import Clock
from assent.core.errors import AssentError
from assent.core.events import TERMINAL_TYPES
from assent.core.text import JOINERS, pretty, unseen
from assent.core.text import visible as visible

Json = Any
"""Any JSON value."""


# ── the server ────────────────────────────────────────────────────────────────────────────────────


class Refused(AssentError):
    """The server said no. `details` holds the `status`, and the members of its problem document."""


class Unreachable(AssentError):
    """The server does not answer."""


@dataclass(frozen=True, slots=True)
class Received:
    """An event, and its JSON exactly as it came."""

    body: str
    event: Mapping[str, Json]

    @property
    def type(self) -> str:
        return str(self.event["type"])


PAUSES = (0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8)
"""Seconds before each try to come back to a server that is gone: about a minute in all."""


class _Page(msgspec.Struct):
    events: list[msgspec.Raw]


class Client:
    """The HTTP API. `http` has the server's URL, and the key if it needs one."""

    def __init__(
        self,
        http: httpx.Client,
        *,
        pauses: Sequence[float] = PAUSES,
        on_drop: Callable[[], None] = lambda: None,
    ) -> None:
        self._http = http
        self._pauses = pauses
        self._on_drop = on_drop
        self.last: int | None = None
        """The number of the last event that was seen."""

    def say(self, thread_id: str, message: str, agent: str | None) -> Iterator[Received]:
        """Send a message; the events of its run. A thread id that is new makes the thread."""
        body = {"message": message, "thread_id": thread_id, **({"agent": agent} if agent else {})}
        return self._events(thread_id, "POST", "/agent/stream", body)

    def resume(self, thread_id: str, body: Json) -> Iterator[Received]:
        """Decide; the events of the decisions, and of the run if it goes on."""
        return self._events(thread_id, "POST", f"/threads/{thread_id}/resume", body)

    def cancel(self, run_id: str) -> None:
        """Ask the run to stop. Raises `Refused` if it has ended."""
        with self._reaching():
            response = self._http.post(f"/runs/{run_id}/cancel", json={})
        check_response(response)

    def follow(self, thread_id: str) -> Iterator[Received]:
        """What happens on a thread that is busy, past the last event seen, up to the end of its
        run."""
        return self._events(thread_id, "GET", f"/threads/{thread_id}/events", None)

    def logged(self, thread_id: str, types: Sequence[str] = ()) -> Iterator[Received]:
        """What has happened so far past the last event seen; with `types`, only such events."""
        params: dict[str, str | int] = {"types": ",".join(types)} if types else {}
        while True:
            page = self._get(
                f"/threads/{thread_id}/events", params={**params, "after": self.last or 0}
            )
            # Kept as they are on the wire, and not as they would be written anew.
            events = msgspec.json.decode(page.content, type=_Page).events
            yield from (
                self._received(bytes(event).decode(), msgspec.json.decode(event))
                for event in events
            )
            if not events:
                return

    def thread(self, thread_id: str) -> Json:
        """The thread, or `Refused`."""
        return self._get(f"/threads/{thread_id}").json()

    def pending(self, thread_id: str) -> list[Json]:
        """The approvals that the thread waits for, in the order in which the agent asked."""
        params: dict[str, str | int] = {"status": "pending", "thread_id": thread_id, "limit": 1000}
        approvals = {
            approval["approval_id"]: approval
            for approval in self._get("/approvals", params=params).json()["approvals"]
        }
        # The list is by time, which is the same for all that a turn asks.
        return [approvals[id] for id in self.thread(thread_id)["pending"] if id in approvals]

    def _get(self, path: str, params: Mapping[str, str | int] | None = None) -> httpx.Response:
        with self._reaching():
            response = self._http.get(path, params=params, headers={"Accept": "application/json"})
        check_response(response)
        return response

    def _events(self, thread_id: str, method: str, path: str, body: Json) -> Iterator[Received]:
        """The stream's events up to the run's last one. A connection that drops in between is taken
        up again after the last event seen."""
        pauses = iter(self._pauses)
        answered = method == "GET"
        while True:
            try:
                with self._connected(method, path, body) as (response, events):
                    answered = True
                    for event in events:
                        pauses = iter(self._pauses)
                        yield (received := self._received(event.data, json.loads(event.data)))
                        if received.type in TERMINAL_TYPES:
                            return
                    if method == "POST" and "x-run-id" not in response.headers:
                        # Decisions that leave others to take: nothing runs yet.
                        return
            except httpx.TransportError as error:
                if not answered:
                    raise self._unreachable(error) from error
                dropped: Exception | None = error
            except Refused as error:
                if not answered or error.details["status"] != 503:
                    raise
                dropped = error
            else:
                dropped = None
            if (pause := next(pauses, None)) is None:
                raise self._unreachable(dropped)
            self._on_drop()
            time.sleep(pause)
            method, path, body = "GET", f"/threads/{thread_id}/events", None

    @contextlib.contextmanager
    def _connected(
        self, method: str, path: str, body: Json
    ) -> Iterator[tuple[httpx.Response, Iterator[ServerSentEvent]]]:
        headers = (
            {"Last-Event-ID": str(self.last)} if method == "GET" and self.last is not None else {}
        )
        with connect_sse(self._http, method, path, json=body, headers=headers) as source:
            if source.response.is_error:
                source.response.read()
            check_response(source.response)
            # A comment that keeps the connection alive may come as an event without data.
            yield source.response, (event for event in source.iter_sse() if event.data)

    def _received(self, body: str, event: Mapping[str, Json]) -> Received:
        self.last = max(self.last or 0, int(event["seq"]))
        return Received(body, event)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception | None) -> Unreachable:
        cause = f": {error}" if error and str(error) else ""
        return Unreachable(
            f"The server at {self._http.base_url} does not answer{cause}. Is it running?"
        )


def check_response(response: httpx.Response) -> None:
    """Raise `Refused` for an answer that is an error, with what its problem document says."""
    if not response.is_error:
        return
    try:
        problem = response.json()
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        problem, detail = (
            {},
            f"The server answered {response.status_code} {response.reason_phrase}: {response.text[:200].strip()}",
        )
    raise Refused(detail, **{**problem, "status": response.status_code})


# ── what is seen ──────────────────────────────────────────────────────────────────────────────────

ARGUMENTS_WIDTH = 60
OUTCOME_WIDTH = 30
"""How many characters of a tool's arguments, and at least of its result, stand on its line."""

PREVIEW_LINES = 40


class Screen:
    """The conversation on a terminal, or in a pipe without colours."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open: tuple[str, str] | None = None
        """What the line that is being written belongs to: a message's text or reasoning, or a
        call."""
        self._written = 0
        """How many characters of a call's line are written."""
        self._said: set[str] = set()
        """The messages that were written as they came."""

    def event(self, event: Mapping[str, Json]) -> None:
        """Show an event, if a person wants to see it."""
        match event:
            case {"type": "token", "content": content, "message_id": message_id}:
                self._said.add(message_id)
                self._piece(("token", message_id), content)
            case {"type": "reasoning", "content": content, "message_id": message_id}:
                self._piece(("reasoning", message_id), content, "dim italic")
            case {"type": "llm_end"}:
                self._end_line()
            case {"type": "tool_start", "tool": tool}:
                started = f"· {tool}({_arguments(event.get('input'))}) …"
                self.line(started, "dim", end="")
                self._open, self._written = ("call", event.get("tool_call_id", "")), len(started)
            case {"type": "tool_end", "tool": tool}:
                self._outcome(event, _summary(event.get("output"), self._room), "dim")
            case {"type": "tool_error", "tool": tool, "error": error}:
                self._outcome(event, f"failed: {error.get('message') or error['type']}", "red")
            case {"type": "tool_progress", "tool": tool}:
                self.line(f"  {tool}: {_summary(event.get('data'))}", "dim")
            case {"type": "progress", "progress": progress}:
                self.line(f"  {round(progress * 100)} % {event.get('message', '')}", "dim")
            case {
                "type": "state_update",
                "update": {"messages": [*_, {"type": "ai", "content": str(text), **message}]},
            }:
                # What a node of a graph says by itself, without a model whose words would have
                # come.
                if not event.get("ns") and message.get("id") not in self._said and text.strip():
                    self.line(text)
            case {"type": "done" | "run_paused"}:
                self._end_line()
            case _ if (line := line_of(event)) is not None:
                self.line(*line)

    def approval(self, approval: Mapping[str, Json], place: str) -> None:
        """Show what a person is asked: all of it, exactly."""
        self._end_line()
        title = Text(f"{visible(subject(approval))}{place}", style="bold")
        said = asked(approval)
        parts: list[RenderableType] = [
            Text(visible(words), overflow="fold") for words in said.words
        ]
        parts += [Text(visible(note), style="yellow") for note in said.notes]
        if said.value is not None:
            parts.append(Text(pretty(said.value), overflow="fold"))
        parts += self._beside(approval)
        digest = Text(f"sha256 {visible(approval['digest'])[:12]}", style="dim")
        self._console.print(
            Panel(
                Group(*parts),
                title=title,
                title_align="left",
                subtitle=digest,
                subtitle_align="right",
                border_style="yellow",
            )
        )

    def _beside(self, approval: Mapping[str, Json]) -> Iterator[RenderableType]:
        """What helps to judge it."""
        preview = approval.get("preview") if approval["kind"] != "budget" else None
        if (
            isinstance(preview, Mapping)
            and set(preview) == {"description"}
            and isinstance(preview["description"], str)
        ):
            yield Text(f"\n{visible(preview['description'])}", style="dim", overflow="fold")
        elif preview is not None:
            yield Text("\npreview", style="dim")
            yield Text(_shortened(pretty(preview)), style="dim", overflow="fold")
        if count := unseen([approval["args"], preview]):
            yield Text(
                f"\n{count} character(s) in this cannot be seen, and are shown like \\u200b.",
                style="red",
            )
        if lines := said_by_people(approval):
            yield Text("\n" + visible("\n".join(lines)), style="yellow", overflow="fold")
        if approval.get("expires_at"):
            yield Text(f"\nDecide until {local_time(approval['expires_at'])}.", style="yellow")

    def line(self, text: str, style: str = "", *, end: str = "\n") -> None:
        """A line of its own."""
        self._end_line()
        self._console.out(visible(text), style=style or None, highlight=False, end=end)

    def _piece(self, owner: tuple[str, str], content: str, style: str = "") -> None:
        if self._open != owner:
            self._end_line()
            content = content.lstrip("\n")
        if content:
            self._open = owner
            self._console.out(
                visible(content.replace("\r\n", "\n"), keep=f"\n\t{JOINERS}"),
                style=style or None,
                highlight=False,
                end="",
            )

    @property
    def _room(self) -> int:
        return max(OUTCOME_WIDTH, self._console.width - self._written - 1)

    def _outcome(self, event: Mapping[str, Json], outcome: str, style: str) -> None:
        if self._open == ("call", event.get("tool_call_id", "")):
            self._console.out(f" {visible(outcome)}", style=style, highlight=False)
            self._open = None
        else:
            self.line(f"· {event['tool']}: {outcome}", style)

    def _end_line(self) -> None:
        if self._open is not None:
            self._console.out("")
            self._open = None


def _call(approval: Mapping[str, Json]) -> str:
    return (
        f"{approval['tool']}({_arguments(approval['args'])})"
        if approval["kind"] == "tool"
        else subject(approval)
    )


def _arguments(value: Json) -> str:
    if isinstance(value, Mapping):
        return _cut(
            ", ".join(
                f"{name}={json.dumps(item, ensure_ascii=False)}" for name, item in value.items()
            )
        )
    return "" if value is None else _cut(json.dumps(value, ensure_ascii=False))


def _summary(output: Json, width: int = ARGUMENTS_WIDTH) -> str:
    """A tool's result in a few words: of JSON what stands at its top, of text its first line."""
    if isinstance(output, Mapping) and isinstance(output.get("content"), str):
        output = output["content"]
    if isinstance(output, str):
        try:
            output = json.loads(output)
        except ValueError:
            return _cut(output.strip().partition("\n")[0], width)
    if isinstance(output, Mapping):
        return _cut(", ".join(f"{name}: {_top(item)}" for name, item in output.items()), width)
    return "done" if output is None else _cut(_top(output), width)


def _top(value: Json) -> str:
    if isinstance(value, list):
        return f"{len(value)} items"
    return (
        "{…}"
        if isinstance(value, Mapping)
        else value
        if isinstance(value, str)
        else json.dumps(value)
    )


def _cut(text: str, width: int = ARGUMENTS_WIDTH) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _shortened(text: str) -> str:
    lines = text.split("\n")
    return (
        text
        if len(lines) <= PREVIEW_LINES
        else "\n".join([*lines[:PREVIEW_LINES], f"… {len(lines) - PREVIEW_LINES} more lines"])
    )


# ── the conversation ──────────────────────────────────────────────────────────────────────────────


class Outcome(Enum):
    """How the last run ended."""

    DONE = 0
    FAILED = 1
    PAUSED = 3
    STOPPED = 130
    """By the person, with Ctrl-C. The number is the exit code of a program that was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`again` is the command that comes back here, without its --thread. With `json`, events and
    decisions are lines of JSON."""

    agent: str | None = None
    thread_id: str | None = None
    json: bool = False
    again: str = "assent chat"


class Chat:
    """A conversation on one thread."""

    def __init__(
        self, client: Client, options: Options, clock: Clock, console: Console | None = None
    ) -> None:
        self._client = client
        self._options = options
        self._thread_id = options.thread_id or clock.new_id()
        self._screen = Screen(console or Console(markup=False, highlight=False, emoji=False))
        self._notes = Console(stderr=True, markup=False, highlight=False, emoji=False)
        self._begun = options.thread_id is not None
        self._given: set[str] = set()
        """The approvals that were decided on here."""
        self._left = "Left the run to itself."
        self._interactive = sys.stdin.isatty()
        client._on_drop = lambda: self._note("The connection dropped. Trying to come back …")

    def run(self, message: str | None) -> int:
        """Talk until there is no more to say; the exit code. With a `message`, that is all there is
        to say."""
        if self._interactive:
            _edit_lines()
        try:
            outcome = self._settle(self._attach(), once=message is not None)
            if message is not None:
                outcome = (
                    self._settle(self._say(message), once=True)
                    if outcome is not Outcome.PAUSED
                    else outcome
                )
            elif outcome is not Outcome.PAUSED:
                outcome = self._talk()
        except KeyboardInterrupt:
            self._come_back(self._left)
            return Outcome.STOPPED.value
        if outcome is Outcome.PAUSED:
            self._come_back("The approval is left pending.")
        return outcome.value

    def _talk(self) -> Outcome:
        outcome = Outcome.DONE
        if not self._options.json:
            self._screen.line("Say something; Ctrl-D leaves.", "dim")
        while (message := self._read_message()) is not None:
            try:
                outcome = self._settle(self._say(message))
            except Refused as refused:
                self._problem(refused)
                outcome = Outcome.FAILED
            if outcome is Outcome.PAUSED or (outcome is Outcome.STOPPED and not self._interactive):
                return outcome
        if self._begun and not self._options.json:
            self._come_back("")
        return outcome

    def _attach(self) -> Outcome:
        """Take up the thread where it stands."""
        if self._options.thread_id is None:
            return Outcome.DONE
        # The log is read before the status: if the thread is busy then, the end of its run is yet
        # to come.
        seen = list(
            self._client.logged(self._thread_id, sorted({*TERMINAL_TYPES, "approval_required"}))
        )
        thread = self._client.thread(self._thread_id)
        if not self._options.json:
            self._recall(thread)
        else:
            pending = set(thread["pending"])
            self._write(
                received for received in seen if received.event.get("approval_id") in pending
            )
        return self._standing(thread)

    def _standing(self, thread: Json) -> Outcome:
        match thread["status"]:
            case "busy":
                return self._show(self._client.follow(self._thread_id))
            case "interrupted":
                return Outcome.PAUSED
            case "error":
                return Outcome.FAILED
        return Outcome.DONE

    def _say(self, message: str) -> Outcome:
        self._begun = True
        try:
            return self._watch(self._client.say(self._thread_id, message, self._options.agent))
        except Refused as refused:
            if "approvals" not in refused.details:
                raise
            self._problem(refused)
            return Outcome.PAUSED

    def _show(self, events: Iterator[Received]) -> Outcome:
        """Show events; how the run ended. Without an end, decisions are left to take."""
        outcome = Outcome.PAUSED
        for received in events:
            if self._options.json:
                self._write([received])
            else:
                self._screen.event(received.event)
            outcome = {
                "done": Outcome.DONE,
                "error": Outcome.FAILED,
                "run_cancelled": Outcome.FAILED,
            }.get(received.type, Outcome.PAUSED)
        return outcome

    def _watch(self, events: Iterator[Received]) -> Outcome:
        """Show the events of a run that was begun here; Ctrl-C cancels it."""
        run_id = ""

        def noted() -> Iterator[Received]:
            nonlocal run_id
            for received in events:
                run_id = str(received.event["run_id"])
                yield received

        try:
            return self._show(noted())
        except KeyboardInterrupt:
            if self._options.json:
                # It is a program that reads this, and may have others to see to the run.
                raise
            self._left = "Left the run to itself, which is being cancelled."
            return self._cancel(run_id)

    def _cancel(self, run_id: str) -> Outcome:
        """Cancel the run that was watched; "" if nothing was heard of it yet."""
        self._screen.line(
            "Cancelling the run. What a tool has begun may take its time. Ctrl-C again leaves.",
            "yellow",
        )
        try:
            self._client.cancel(run_id or self._client.thread(self._thread_id)["run_id"])
        except Refused as refused:
            if refused.details["status"] == 404:
                return Outcome.STOPPED
            # It has come to its end before that.
            self._show(self._client.logged(self._thread_id))
            return self._standing(self._client.thread(self._thread_id))
        self._show(self._client.follow(self._thread_id))
        return Outcome.STOPPED

    def _settle(self, outcome: Outcome, *, once: bool = False) -> Outcome:
        """Have what is asked decided, until nothing is; or it is left pending, which is
        `PAUSED`."""
        while outcome is Outcome.PAUSED:
            approvals = self._client.pending(self._thread_id)
            if not approvals:
                outcome = self._catch_up()
                continue
            left = [
                as_asked_now(approval)
                for approval in approvals
                if approval["approval_id"] not in self._given
            ]
            if not left and not self._options.json:
                self._screen.line("What you said is noted. Others must decide too.", "yellow")
                return outcome
            body = self._read_decisions() if self._options.json else self._ask(left, once=once)
            if body is None:
                return outcome
            try:
                outcome = self._watch(self._client.resume(self._thread_id, body))
                self._given |= set() if self._options.json else set(body["decisions"])
            except Refused as refused:
                self._problem(refused)
        return outcome

    def _catch_up(self) -> Outcome:
        """Others have decided: show what came of it."""
        time.sleep(0.2)
        outcome = self._standing(self._client.thread(self._thread_id))
        self._show(self._client.logged(self._thread_id))
        return outcome

    # ── asking ────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, approvals: Sequence[Json], *, once: bool) -> Json | None:
        """The decisions on these approvals, all of which are shown before the first is asked for.
        None if they are left pending."""
        for number, approval in enumerate(approvals, 1):
            self._screen.approval(
                approval, f" ({number} of {len(approvals)})" if len(approvals) > 1 else ""
            )
        if once and not self._interactive:
            return None
        self._forget_typing()
        try:
            return {"decisions": self._decisions(approvals)}
        except (KeyboardInterrupt, EOFError):
            self._screen.line("")
            return None

    def _forget_typing(self) -> None:
        """What was typed before the question was shown is no answer to it."""
        if self._interactive and os.name == "posix":
            import termios

            termios.tcflush(sys.stdin, termios.TCIFLUSH)

    def _decisions(self, approvals: Sequence[Json]) -> dict[str, Json]:
        decisions: dict[str, Json] = {}
        for number, approval in enumerate(approvals):
            rest = approvals[number:]
            together = len(rest) > 1 and all(
                other["kind"] in ("tool", "node") and "approve" in other["allowed"]
                for other in rest
            )
            if len(approvals) > 1:
                # Two calls may be of one tool, so each question says which of them it is about.
                self._screen.line(f"({number + 1} of {len(approvals)}) {_call(approval)}", "bold")
            decision = self._decision(approval, together=together)
            if decision is None:
                return {
                    **decisions,
                    **{other["approval_id"]: _on({"type": "approve"}, other) for other in rest},
                }
            decisions[approval["approval_id"]] = _on(decision, approval)
        return decisions

    def _decision(self, approval: Json, *, together: bool) -> Json | None:
        """The decision on one approval; None approves this one and all that follow."""
        if approval["kind"] == "input":
            return self._answer(approval)
        ways = choices(approval)
        question = f"{' / '.join([*(way.label for way in ways), *(['[A]pprove all'] if together else [])])} ? "
        while True:
            typed = input(question).strip()
            if typed == "A" and together:
                return None
            if (
                approval["kind"] == "budget"
                and "edit" in approval["allowed"]
                and (limit := limit_from(typed, approval)) is not None
            ):
                if not isinstance(limit, str):
                    return {"type": "edit", "args": {"limit": limit}}
                self._screen.line(limit, "yellow")
                continue
            way = next((way for way in ways if typed.lower() in way.words), None)
            if way is None:
                keys = ", ".join([*(way.words[0] for way in ways), *(["A"] if together else [])])
                self._screen.line(f"Type one of {keys}. Ctrl-C leaves it pending.", "yellow")
            elif (decision := self._details(way.type, approval)) is not None:
                return decision

    def _details(self, kind: str, approval: Json) -> Json | None:
        match kind:
            case "edit":
                args = self._edit(approval["args"])
                return None if args is None else {"type": "edit", "args": args}
            case "reject":
                return _rejection(
                    input(
                        "why (may be empty): "
                        if approval["kind"] == "budget"
                        else "why (the agent is told; may be empty): "
                    )
                )
            case "respond" if approval["kind"] == "unknown_outcome":
                return {
                    "type": "respond",
                    "message": input("its result (the agent is told; may be empty): ").strip()
                    or "It happened.",
                }
            case "respond":
                return {"type": "respond", "message": input("the result to tell the agent: ")}
        return {"type": "approve"}

    def _answer(self, approval: Json) -> Json:
        """The answer to a question, or that there is none."""
        refusal = f"; {REFUSE} <why> declines" if "reject" in approval["allowed"] else ""
        try:
            if fields := form_of(approval.get("schema")):
                self._screen.line(f"Please fill in{refusal}:", "dim")
                filled = {each.name: self._read_field(each, refusal) for each in fields}
                return {
                    "type": "respond",
                    "message": {
                        name: value for name, value in filled.items() if value is not _LEFT_OUT
                    },
                }
            answers = answers_for(approval)
            for line in answers.lines():
                self._screen.line(line)
            return {
                "type": "respond",
                "message": self._read_answer(
                    f"your answer ({answers.hint}{refusal}): ", answers, refusal
                ),
            }
        except _Declined as declined:
            return _rejection(str(declined))

    def _read_field(self, field: Field, refusal: str) -> Json:
        for line in field.answers.lines():
            self._screen.line(line)
        about = f", {visible(field.description)}" if field.description else ""
        question = f"{visible(field.name)} ({field.answers.hint}{about}{'' if field.needed else '; may be empty'}): "
        return self._read_answer(
            question, field.answers, refusal, default=None if field.needed else _LEFT_OUT
        )

    def _read_answer(
        self, question: str, answers: Answers, refusal: str, default: object = None
    ) -> Json:
        while True:
            text = input(question).strip()
            if refusal and (text == REFUSE or text.startswith(f"{REFUSE} ")):
                raise _Declined(text.removeprefix(REFUSE))
            if not text and default is not None:
                return default
            if not text:
                self._screen.line("An answer is needed. Ctrl-C leaves the question open.", "yellow")
                continue
            try:
                return answers.read(text)
            except NotUnderstood as problem:
                self._screen.line(str(problem), "yellow")

    def _edit(self, args: Json) -> Json | None:
        """The arguments as a person changed them, in an editor or on one line; None if they are
        left as they were."""
        text = pretty(args)
        while True:
            if self._interactive:
                edited = click.edit(f"{text}\n", extension=".json")
                if edited is None:
                    self._screen.line("Nothing was changed.", "yellow")
                    return None
            else:
                edited = input("the arguments as one line of JSON: ")
            try:
                changed = json.loads(edited)
            except ValueError as error:
                self._screen.line(f"This is not JSON: {error}.", "red")
                if self._interactive:
                    input("Enter edits it again, Ctrl-C leaves it pending: ")
            else:
                if isinstance(changed, dict):
                    return changed
                self._screen.line("The arguments must be a JSON object.", "red")
            text = edited.rstrip("\n")

    # ── reading and writing ───────────────────────────────────────────────────────────────────────

    def _read_message(self) -> str | None:
        while True:
            try:
                text = (
                    sys.stdin.readline()
                    if self._options.json
                    else input("\nyou> " if self._interactive else "") + "\n"
                )
            except (EOFError, KeyboardInterrupt):
                self._screen.line("")
                return None
            if not text:
                return None
            if text.strip():
                return _message_of(text.strip()) if self._options.json else text.strip()

    def _read_decisions(self) -> Json | None:
        """A line of JSON from standard input; None at its end."""
        while line := sys.stdin.readline():
            if not line.strip():
                continue
            try:
                body = json.loads(line)
            except ValueError as error:
                self._note(f"This line is not JSON: {error}.", "red")
                continue
            if isinstance(body, dict):
                return body
            self._note(
                'This line is not a decision. Write {"type": "approve"}, or {"decisions": {"<approval id>": {"type": …}}}.',
                "red",
            )
        return None

    def _write(self, events: Iterable[Received]) -> None:
        for received in events:
            sys.stdout.write(f"{received.body}\n")
            sys.stdout.flush()

    def _recall(self, thread: Json) -> None:
        """The last of what was said on the thread."""
        values = thread.get("values")
        messages = values.get("messages") if isinstance(values, dict) else None
        said = [
            message
            for message in messages or []
            if isinstance(message, dict) and message.get("type") in ("human", "ai")
        ]
        for message in said[-4:]:
            text = message["content"] if isinstance(message.get("content"), str) else ""
            if text.strip():
                self._screen.line(
                    f"{'you> ' if message['type'] == 'human' else ''}{text.strip()}", "dim"
                )

    def _problem(self, refused: Refused) -> None:
        self._note(refused.message, "red")

    def _come_back(self, sentence: str) -> None:
        if self._begun:
            self._note(
                f"{sentence} Come back with: {self._options.again} --thread {self._thread_id}".strip()
            )

    def _note(self, text: str, style: str = "dim") -> None:
        """What is not part of the conversation goes to standard error."""
        self._notes.print(Text(visible(text), style=style), soft_wrap=True)


REFUSE = "/reject"
"""What is typed in place of an answer, with the reason behind it if there is one."""

_LEFT_OUT = object()


class _Declined(Exception):
    """There is no answer, for the reason that is the exception's text."""


def _on(decision: Mapping[str, Json], approval: Mapping[str, Json]) -> Json:
    """The decision on what was shown, and on nothing else."""
    return {**decision, "digest": approval["digest"]}


def _rejection(reason: str) -> Json:
    return {"type": "reject", **({"message": reason.strip()} if reason.strip() else {})}


def _message_of(line: str) -> str:
    """The message of a line: the line itself, or the `message` of a JSON object."""
    with contextlib.suppress(ValueError):
        value = json.loads(line)
        if isinstance(value, dict) and isinstance(value.get("message"), str):
            return str(value["message"])
    return line


def _edit_lines() -> None:
    """Let lines that are typed be edited, where the system can."""
    if os.name == "posix":
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
