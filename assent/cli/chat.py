"""`assent chat`: talk to an agent in a terminal, and decide what it asks for."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from assent.cli.client import ApiKey, Client, Received, Refused, connected
from assent.cli.conversation import Conversation
from assent.cli.prompts import Prompts
from assent.cli.screen import Screen
from assent.cli.serve import server_in_thread
from assent.cli.terminal import console, errors_as_sentences, fail, program
from assent.core.blocks import MAX_NAME, MEDIA
from assent.core.clock import Clock
from assent.core.events import TERMINAL_TYPES
from assent.core.json import Json, JsonObject, read_typed
from assent.core.text import visible

RECALLED = 4
"""Messages of a thread that are shown again."""


def chat(
    message: Annotated[
        str | None,
        typer.Argument(
            help="Say this, and leave when the agent has answered or waits for a person."
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="A running server, such as http://127.0.0.1:8000. Without it, one is started."
        ),
    ] = None,
    agent: Annotated[
        str | None, typer.Option(help="The server's agent to talk to, if it has several.")
    ] = None,
    thread: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on with this thread.")
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Write one event per line; read decisions as JSON, one per line."
        ),
    ] = False,
    input: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="Send this input of the graph's own in place of a message. @FILE "
            "reads it from a file.",
        ),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Send this file with the message; also several times."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="The graph's context, as JSON or @FILE."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="configurable, tags and metadata of its config, as JSON or @FILE."
        ),
    ] = None,
    api_key: ApiKey = None,
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="AGENT", help="The agent to serve without --url, as in `assent serve AGENT`."
        ),
    ] = None,
) -> None:
    """Talk to an agent in the terminal, and decide what it asks for.

    Ctrl-C cancels a run that you have begun here, and a second Ctrl-C leaves; at the prompt, Ctrl-C
    leaves as Ctrl-D does. Exits with 0 if the last run is done, 1 if it failed, 3 if it waits for a
    person, 130 after Ctrl-C during a run.
    """
    if url and serve:
        fail(
            "Give --url for a running server, or --serve for a server of its own, but not both.",
            code=2,
        )

    if message is not None and input is not None:
        fail("Give a message or an --input, but not both.", code=2)

    if file and message is None:
        fail("Give a message with a --file.", code=2)
    files = {path: _bytes_of(path) for path in file or ()}

    command = [f"{program()} chat"]
    for name, value in (("--url", url), ("--serve", serve), ("--agent", agent)):
        if value:
            command.append(f"{name} {value}")
    given: JsonObject = {}
    for name, value in (("context", context), ("config", config)):
        if value is not None:
            given[name] = _json_of(f"--{name}", value)
            command.append(shlex.join([f"--{name}", value]))
    first: JsonObject | None = None if message is None else {"message": message}
    if input is not None:
        first = {"input": _json_of("--input", input)}
    options = Options(
        agent=agent, thread_id=thread, json=json, command=" ".join(command), given=given
    )

    with errors_as_sentences(), contextlib.ExitStack() as stack:
        if url:
            client = stack.enter_context(connected(url, api_key))
        else:
            own, secret = stack.enter_context(server_in_thread(serve))
            # No proxy stands between this process and itself.
            client = stack.enter_context(connected(own, api_key or secret, trust_env=False))
        if files:
            uploaded = [_upload(client, path, data) for path, data in files.items()]
            first = {"message": [{"type": "text", "text": message}, *uploaded]}
        code = Chat(client, options, Clock()).run(first)
    raise typer.Exit(code)


class ExitCode(IntEnum):
    """The end of the last run, as the program's exit code."""

    DONE = 0
    FAILED = 1
    PAUSED = 3
    STOPPED = 130
    """By the person, with Ctrl-C: the usual code of a program that was interrupted."""


EXIT_CODES = {
    "done": ExitCode.DONE,
    "error": ExitCode.FAILED,
    "run_cancelled": ExitCode.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`command` is the command that comes back here, without its --thread. With `json`, events and
    decisions are lines of JSON. `given` goes with each message."""

    agent: str | None = None
    thread_id: str | None = None
    json: bool = False
    command: str = "assent chat"
    given: JsonObject = field(default_factory=dict)


class Chat:
    """A conversation on one thread."""

    def __init__(self, client: Client, options: Options, clock: Clock) -> None:
        self._options = options
        self._conversation = Conversation(client, options.thread_id or clock.new_id())
        self._screen = Screen(console())
        self._prompts = Prompts(self._screen)
        self._notes = console(stderr=True)
        self._begun = options.thread_id is not None
        self._decided: set[str] = set()
        """The approvals that were decided on here."""
        self._farewell = "Left the run to itself."
        client.on_drop = lambda: self._note("The connection dropped. Trying to come back …")

    def run(self, first: JsonObject | None) -> int:
        """Talk until there is no more to say, or send only this message or input; return the exit
        code."""
        if self._prompts.interactive:
            _make_input_editable()
        try:
            outcome = self._settle(self._attach(), once=first is not None)
            if outcome is not ExitCode.PAUSED and first is not None:
                outcome = self._settle(self._say(first), once=True)
            elif outcome is not ExitCode.PAUSED:
                outcome = self._talk()
        except KeyboardInterrupt:
            self._say_how_to_come_back(self._farewell)
            return ExitCode.STOPPED

        if outcome is ExitCode.PAUSED:
            self._say_how_to_come_back("The approval is left pending.")
        return outcome

    def _talk(self) -> ExitCode:
        outcome = ExitCode.DONE
        if not self._options.json:
            self._screen.line("Say something; Ctrl-D leaves.", "dim")

        while (message := self._read_message()) is not None:
            try:
                outcome = self._settle(self._say({"message": message}))
            except Refused as refused:
                self._note(refused.message, "red")
                outcome = ExitCode.FAILED
            if outcome is ExitCode.PAUSED:
                return outcome
            if outcome is ExitCode.STOPPED and not self._prompts.interactive:
                return outcome

        if not self._options.json:
            self._say_how_to_come_back("")
        return outcome

    def _attach(self) -> ExitCode:
        """Go on with the thread of the options, if there is one."""
        if self._options.thread_id is None:
            return ExitCode.DONE

        # The log is read before the status: if the thread is busy then, the end of its run is yet
        # to come.
        types = sorted({*TERMINAL_TYPES, "approval_required"})
        seen = list(self._conversation.logged(types))
        thread = self._conversation.thread()
        if not self._options.json:
            self._recall(thread)
        else:
            waits_for = {approval["approval_id"] for approval in thread["approvals"]}
            for received in seen:
                if received.event.get("approval_id") in waits_for:
                    self._show(received)
        return self._outcome_of(thread)

    def _outcome_of(self, thread: JsonObject) -> ExitCode:
        """The outcome of the thread's last run, shown to its end if it is not over."""
        match thread["status"]:
            case "busy":
                return self._show_all(self._conversation.follow())
            case "interrupted":
                return ExitCode.PAUSED
            case "error":
                return ExitCode.FAILED
        return ExitCode.DONE

    def _say(self, given: JsonObject) -> ExitCode:
        self._begun = True
        given = {**given, **self._options.given}
        try:
            return self._watch(self._conversation.say(given, self._options.agent))
        except Refused as refused:
            if "approvals" not in refused.details:
                raise
            self._note(refused.message, "red")
            return ExitCode.PAUSED

    # ── a run ─────────────────────────────────────────────────────────────────────────────────────

    def _show_all(self, events: Iterator[Received]) -> ExitCode:
        """Show events; return how the run ended. Without an end, decisions are left to take."""
        outcome = ExitCode.PAUSED
        for received in events:
            self._show(received)
            outcome = EXIT_CODES.get(received.type, ExitCode.PAUSED)
        return outcome

    def _show(self, received: Received) -> None:
        if self._options.json:
            sys.stdout.write(f"{received.body}\n")
            sys.stdout.flush()
        else:
            self._screen.event(received.event)

    def _watch(self, events: Iterator[Received]) -> ExitCode:
        """Show the events of a run that was begun here; Ctrl-C cancels it."""
        try:
            return self._show_all(events)
        except KeyboardInterrupt:
            if self._options.json:
                # The reader is a program, and may have others that care for the run.
                raise
            self._farewell = "Left the run to itself, which is being cancelled."
            return self._cancel()

    def _cancel(self) -> ExitCode:
        self._screen.line(
            "Cancelling the run; a tool that runs ends first. Ctrl-C again leaves.",
            "yellow",
        )
        try:
            self._conversation.cancel()
        except Refused as refused:
            if refused.details["status"] == 404:
                return ExitCode.STOPPED
            # It has ended meanwhile.
            return self._catch_up()
        self._show_all(self._conversation.follow())
        return ExitCode.STOPPED

    def _catch_up(self) -> ExitCode:
        """Show what has happened meanwhile; return the outcome of the last run."""
        outcome = self._outcome_of(self._conversation.thread())
        self._show_all(self._conversation.logged())
        return outcome

    # ── approvals ─────────────────────────────────────────────────────────────────────────────────

    def _settle(self, outcome: ExitCode, *, once: bool = False) -> ExitCode:
        """Ask for decisions until none is needed, or they are left pending: then it is `PAUSED`.

        With `once`, only a person at a terminal is asked.
        """
        while outcome is ExitCode.PAUSED:
            approvals = self._conversation.pending()
            if not approvals:
                # Others have decided, and the run may be about to go on.
                time.sleep(0.2)
                outcome = self._catch_up()
                continue

            body = self._read_decisions() if self._options.json else self._ask(approvals, once=once)
            if body is None:
                return outcome
            try:
                outcome = self._watch(self._conversation.resume(body))
            except Refused as refused:
                self._note(refused.message, "red")
            else:
                if not self._options.json:
                    self._decided |= set(body["decisions"])
        return outcome

    def _ask(self, approvals: list[JsonObject], *, once: bool) -> JsonObject | None:
        """The decisions on those that were not decided here yet; None if they are left pending."""
        undecided = [each for each in approvals if each["approval_id"] not in self._decided]
        if not undecided:
            self._screen.line("What you said is noted. Others must decide too.", "yellow")
            return None
        if once and not self._prompts.interactive:
            self._prompts.show(undecided)
            return None
        decisions = self._prompts.decisions(undecided)
        return None if decisions is None else {"decisions": decisions}

    # ── reading and writing ───────────────────────────────────────────────────────────────────────

    def _read_message(self) -> str | None:
        """The next message that is not empty; None at the end of the input."""
        prompt = "\nyou> " if self._prompts.interactive else ""
        try:
            while True:
                line = sys.stdin.readline() if self._options.json else input(prompt) + "\n"
                if not line:
                    return None
                if text := line.strip():
                    return _message_of(text) if self._options.json else text
        except (EOFError, KeyboardInterrupt):
            self._screen.line("")
            return None

    def _read_decisions(self) -> JsonObject | None:
        """The next line of JSON; None at the end of the input."""
        while line := sys.stdin.readline():
            if not line.strip():
                continue
            try:
                body = read_typed(line)
            except ValueError as error:
                self._note(f"This line is not JSON: {error}.", "red")
                continue
            if isinstance(body, dict):
                return body
            self._note(
                'This line is not a decision. Write {"type": "approve"}, or '
                '{"decisions": {"<approval id>": {"type": …}}}.',
                "red",
            )
        return None

    def _recall(self, thread: JsonObject) -> None:
        """Show the last messages of the thread."""
        values = thread.get("values")
        messages = values.get("messages") if isinstance(values, dict) else None
        spoken = [
            message
            for message in messages or []
            if isinstance(message, dict) and message.get("type") in ("human", "ai")
        ]
        for message in spoken[-RECALLED:]:
            content = message.get("content")
            if isinstance(content, str) and content.strip():
                speaker = "you> " if message["type"] == "human" else ""
                self._screen.line(speaker + content.strip(), "dim")

    def _say_how_to_come_back(self, sentence: str) -> None:
        if self._begun:
            command = f"{self._options.command} --thread {self._conversation.thread_id}"
            self._note(f"{sentence} Come back with: {command}".strip())

    def _note(self, text: str, style: str = "dim") -> None:
        """Write to standard error what is not part of the conversation."""
        self._notes.print(Text(visible(text), style=style), soft_wrap=True)


def _json_of(option: str, value: str) -> Json:
    """The value of an option that takes JSON, or `@` and the name of a file with it."""
    try:
        text = Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
        return read_typed(text)
    except OSError as error:
        fail(f"{option}: the file {value[1:]} cannot be read: {error.strerror}.", code=2)
    except ValueError as error:
        fail(f"{option} is not JSON: {error}. Quote it, or write @FILE.", code=2)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"--file: the file {path} cannot be read: {error.strerror}.", code=2)


def _upload(client: Client, path: Path, data: bytes) -> JsonObject:
    """Send the file; the content block that names it."""
    name = {"name": path.name[:MAX_NAME]}
    uploaded = client.request("POST", "/files", params=name, content=data).json()
    kind = uploaded["mime_type"].partition("/")[0]
    return {"type": kind if kind in MEDIA else "file", "file_id": uploaded["file_id"]}


def _message_of(line: str) -> str:
    """The message of a line: the line itself, or the `message` of a JSON object."""
    with contextlib.suppress(ValueError):
        value = json.loads(line)
        if isinstance(value, dict) and isinstance(value.get("message"), str):
            return str(value["message"])
    return line


def _make_input_editable() -> None:
    """Let a person edit the line that they type, where the system can."""
    if os.name == "posix":
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
