"""`assent chat`: talk to an agent in a terminal, and decide what it asks for."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.console import Console

from assent.cli.approvals import approvals_table
from assent.cli.connecting import ApiKey, connected_or_serving
from assent.cli.lines import Lines, history_file
from assent.cli.prompts import Prompts
from assent.cli.said import (
    AgentName,
    Config,
    Context,
    Files,
    Input,
    Served,
    ThreadId,
    Url,
    read_said,
)
from assent.cli.screen import Screen
from assent.cli.talk import ExitCode, Talk
from assent.cli.terminal import complain, console, errors_as_sentences, note, program
from assent.cli.turns import JsonView, ScreenView, Turns, View
from assent.client import SyncClient, Unreachable
from assent.core.clock import Clock
from assent.core.errors import AssentError, ThreadPaused
from assent.core.events import TERMINAL_TYPES
from assent.core.json import JsonObject, read_typed

RECALLED = 4
"""Messages of a thread that are shown again."""

COMMANDS = {
    "/agents": "the server's agents",
    "/thread": "this thread, and how to come back to it",
    "/cancel": "cancel what runs on this thread",
    "/approvals": "all that waits for people",
    "/help": "these commands",
    "/quit": "leave, as Ctrl-D does",
}


def chat(
    message: Annotated[
        str | None,
        typer.Argument(
            help="Say this, and leave when the agent has answered or waits for a person."
        ),
    ] = None,
    url: Url = None,
    agent: AgentName = None,
    thread: ThreadId = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Write one event per line; read decisions as JSON, one per line."
        ),
    ] = False,
    input: Input = None,
    file: Files = None,
    context: Context = None,
    config: Config = None,
    api_key: ApiKey = None,
    serve: Served = None,
) -> None:
    """Talk to an agent in the terminal, and decide what it asks for.

    Ctrl-C cancels a run that you have begun here, and a second Ctrl-C leaves; at the prompt, Ctrl-C
    leaves as Ctrl-D does. Exits with 0 if the last run is done, 1 if it failed or the server
    refused it or is gone, 2 if the options make no sense, 3 if it waits for a person, 130 after
    Ctrl-C during a run.
    """
    said = read_said(
        message,
        url=url,
        serve=serve,
        agent=agent,
        input=input,
        file=file,
        context=context,
        config=config,
    )
    options = Options(
        agent=agent,
        thread_id=thread,
        json=json,
        command=" ".join([f"{program()} chat", *said.options]),
        given=said.given,
    )
    out = console()
    screen = Screen(out)
    with (
        errors_as_sentences(),
        connected_or_serving(url, api_key, serve, tell=screen.aside) as client,
    ):
        code = Chat(client, options, Clock(), out, screen).run(said.first(client))
    raise typer.Exit(code)


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

    def __init__(
        self, client: SyncClient, options: Options, clock: Clock, out: Console, screen: Screen
    ) -> None:
        self._client = client
        self._options = options
        self._talk = Talk(client, options.thread_id or clock.new_id())
        self._out = out
        self._screen = screen
        self._lines = Lines(out, commands=[*COMMANDS], history=history_file(os.environ))
        self._prompts = Prompts(self._screen, self._lines)
        self._begun = options.thread_id is not None
        self._once = False
        """True if there is one message, and without a person at a terminal nobody is asked."""
        self._view: View = ScreenView(self._screen, tells_totals=self._lines.is_person)
        if options.json:
            self._view = JsonView(sys.stdout, cancels=False)
        self._turns = Turns(self._talk, self._view, self._ask)

    def run(self, first: JsonObject | None) -> int:
        """Talk until there is no more to say, or send only this message or input; return the exit
        code."""
        try:
            self._once = first is not None
            outcome = self._turns.settle(self._attach())
            if outcome is not ExitCode.PAUSED and first is not None:
                outcome = self._turns.settle(self._say(first))
            elif outcome is not ExitCode.PAUSED:
                outcome = self._converse()
        except KeyboardInterrupt:
            self._screen.rest()
            cancelled = ", which is being cancelled" if self._turns.is_cancelling else ""
            self._say_how_to_come_back(f"Left the run to itself{cancelled}.")
            return ExitCode.STOPPED
        except Unreachable as gone:
            if not self._talk.has_begun:
                raise
            complain(gone.message)
            self._say_how_to_come_back("")
            return ExitCode.FAILED

        if outcome is ExitCode.PAUSED:
            self._say_how_to_come_back("The approval is left pending.")
        return outcome

    def _converse(self) -> ExitCode:
        outcome = ExitCode.DONE
        if not self._options.json:
            self._screen.line("Say something; Ctrl-D leaves.", "dim")

        while (message := self._read_message()) is not None:
            try:
                outcome = self._turns.settle(self._say({"message": message}))
            except Unreachable:
                raise
            except AssentError as refused:
                note(refused.message, "red")
                outcome = ExitCode.FAILED
            if outcome is ExitCode.PAUSED:
                return outcome
            if outcome is ExitCode.STOPPED and not self._lines.is_person:
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
        seen = list(self._talk.logged(types))
        thread = self._talk.thread()
        if not self._options.json:
            self._recall(thread)
        else:
            waits_for = {approval["approval_id"] for approval in thread["approvals"]}
            for heard in seen:
                if heard.fields.get("approval_id") in waits_for:
                    self._view.show(heard)
        return self._turns.outcome_of(thread)

    def _say(self, given: JsonObject) -> ExitCode:
        self._begun = True
        try:
            return self._turns.say({**given, **self._options.given}, self._options.agent)
        except ThreadPaused as refused:
            note(refused.message, "red")
            return ExitCode.PAUSED

    def _ask(self, approvals: list[JsonObject], refusal: str) -> JsonObject | None:
        """The decisions on those that were not decided here yet; None if they are left pending."""
        if self._options.json:
            if refusal:
                note(refusal, "red")
            return self._read_decisions()

        undecided = [each for each in approvals if each["approval_id"] not in self._turns.decided]
        if not undecided:
            self._screen.line("What you said is noted. Others must decide too.", "yellow")
            return None
        if self._once and not self._lines.is_person:
            self._prompts.show(undecided)
            return None
        decisions = self._prompts.decisions(undecided, refusal)
        return None if decisions is None else {"decisions": decisions}

    # ── reading and writing ───────────────────────────────────────────────────────────────────────

    def _read_message(self) -> str | None:
        """The next message that is not empty; None at the end of the input."""
        try:
            while True:
                line = sys.stdin.readline() if self._options.json else self._typed()
                if not line:
                    return None
                if text := line.strip():
                    return _message_of(text) if self._options.json else text
        except (EOFError, KeyboardInterrupt):
            self._screen.line("")
            return None

    def _typed(self) -> str:
        """The next line that is no command, with its end."""
        while self._lines.is_person:
            self._screen.line("")
            line = self._lines.message("you> ", self._toolbar)
            if not line.startswith("/"):
                return f"{line}\n"
            self._obey(line.split()[0])
        return self._lines.message("", self._toolbar) + "\n"

    def _toolbar(self) -> str:
        return self._screen.work.totals or "Tab completes a command · ↑ is what you said before"

    def _read_decisions(self) -> JsonObject | None:
        """The next line of JSON; None at the end of the input."""
        while line := sys.stdin.readline():
            if not line.strip():
                continue
            try:
                body = read_typed(line)
            except ValueError as error:
                note(f"This line is not JSON: {error}.", "red")
                continue
            if isinstance(body, dict):
                return body
            note(
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
            note(f"{sentence} Come back with: {self._way_back}".lstrip())

    @property
    def _way_back(self) -> str:
        return f"{self._options.command} --thread {self._talk.thread_id}"

    # ── commands ──────────────────────────────────────────────────────────────────────────────────

    def _obey(self, command: str) -> None:
        """Do what is typed in place of a message. Raises `EOFError` to leave."""
        doing: dict[str, Callable[[], None]] = {
            "/agents": self._show_agents,
            "/thread": self._show_thread,
            "/cancel": self._cancel_all,
            "/approvals": self._show_approvals,
            "/help": self._show_help,
        }
        if command == "/quit":
            raise EOFError
        if command not in doing:
            told = f"'{command}' is no command; /help lists them. A space before it sends it."
            self._screen.line(told, "yellow")
            return
        try:
            doing[command]()
        except Unreachable:
            raise
        except AssentError as refused:
            self._screen.line(refused.message, "red")

    def _show_agents(self) -> None:
        for agent in self._client.server.agents():
            words = f": {agent.description}" if agent.description else ""
            self._screen.line(f"{agent.agent}{words}")

    def _show_thread(self) -> None:
        status = self._talk.thread()["status"] if self._begun else "new"
        self._screen.line(f"{self._talk.thread_id} ({status})")
        self._screen.line(self._way_back, "dim")

    def _cancel_all(self) -> None:
        runs = self._client.threads.cancel(self._talk.thread_id)
        self._screen.line(f"{len(runs)} cancelled." if runs else "Nothing runs here.", "yellow")

    def _show_approvals(self) -> None:
        pending = [each.fields for each in self._client.approvals.list(status="pending")]
        self._out.print(approvals_table(pending, self._out.width))

    def _show_help(self) -> None:
        for command, words in COMMANDS.items():
            self._screen.line(f"{command:11} {words}")


def _message_of(line: str) -> str:
    """The message of a line: the line itself, or the `message` of a JSON object."""
    with contextlib.suppress(ValueError):
        value = read_typed(line)
        if isinstance(value, dict) and isinstance(value.get("message"), str):
            return str(value["message"])
    return line
