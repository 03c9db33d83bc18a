"""`assent run`: say one thing, and get the answer, in a script or by hand."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from assent.cli.connecting import ApiKey, connected_or_serving
from assent.cli.folding import folded
from assent.cli.lines import Lines
from assent.cli.prompts import Prompts
from assent.cli.said import (
    AgentName,
    Config,
    Context,
    Files,
    Input,
    Said,
    Served,
    ThreadId,
    Url,
    read_said,
)
from assent.cli.screen import Screen
from assent.cli.talk import ExitCode, Talk
from assent.cli.terminal import complain, console, errors_as_sentences, fail, program
from assent.cli.turns import FAILURES, JsonView, ProgressView, ScreenView, Turns, View
from assent.client import RunResult, SyncClient, Unreachable
from assent.core.clock import Clock
from assent.core.json import JsonObject
from assent.core.text import JOINERS, visible


class Progress(StrEnum):
    """The way in which a run is shown on standard error."""

    AUTO = "auto"
    """What it is doing now on a terminal that can redraw a line; elsewhere as `PLAIN`."""

    PLAIN = "plain"
    """A line for each tool and node that has ended."""

    JSON = "json"
    """Each step as a line of JSON: `{"type": "progress", "agent", "task", "timestamp"}`."""

    EVENTS = "events"
    """Each event as a line of JSON, as on the wire."""

    NONE = "none"
    """Nothing but errors."""


class Ask(StrEnum):
    """Who is asked for decisions."""

    AUTO = "auto"
    """The person at the terminal, if standard input and standard error are one."""

    NEVER = "never"


WORDS = frozenset({"token", "reasoning", "media", "state_update"})
"""Events of what is said. The answer is for standard output."""


def run(
    message: Annotated[str | None, typer.Argument(help="Say this.")] = None,
    url: Url = None,
    agent: AgentName = None,
    thread: ThreadId = None,
    input: Input = None,
    file: Files = None,
    context: Context = None,
    config: Config = None,
    api_key: ApiKey = None,
    serve: Served = None,
    progress: Annotated[
        Progress, typer.Option(help="How the run is shown on standard error.")
    ] = Progress.AUTO,
    ask: Annotated[
        Ask, typer.Option(help="Whether a person at this terminal is asked for decisions.")
    ] = Ask.AUTO,
) -> None:
    """Say one thing. The answer, and nothing else, is written to standard output.

    Exits with 0 if the run is done, 1 if it failed or the server refused it or is gone, 2 if the
    options make no sense, 3 if it waits for a person, 4 if it is done without something that was
    rejected or not decided in time, 130 after Ctrl-C, which cancels the run.
    """
    if message is None and input is None:
        fail("Give a message, or an --input.", code=2)
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
    shown = Shown(progress, ask)
    with (
        errors_as_sentences(),
        connected_or_serving(url, api_key, serve, tell=shown.tell) as client,
    ):
        code = Once(client, said, agent, thread or Clock().new_id(), shown).run()
    raise typer.Exit(code)


class Shown:
    """What is shown on standard error, and whether a person is asked there."""

    def __init__(self, progress: Progress, ask: Ask) -> None:
        err = console(stderr=True)
        can_redraw = progress is Progress.AUTO and err.is_terminal and not err.is_dumb_terminal
        self.screen = Screen(err, tells_nodes=not can_redraw, redraws=can_redraw)
        self.lines = Lines(err)
        self._progress = progress
        self.is_for_programs = progress in (Progress.JSON, Progress.EVENTS)
        self.is_quiet = progress is Progress.NONE
        is_possible = self.lines.is_person and err.is_terminal and not self.is_for_programs
        self.asks = ask is Ask.AUTO and is_possible

    @property
    def view(self) -> View:
        """Where events are shown."""
        if self._progress is Progress.JSON:
            return ProgressView(sys.stderr)
        if self._progress is Progress.EVENTS:
            return JsonView(sys.stderr, cancels=True)
        if self.is_quiet:
            return ScreenView(self.screen, only=FAILURES, tells_totals=False)
        return ScreenView(self.screen, left_out=WORDS, tells_totals=True)

    def tell(self, text: str, style: str = "dim") -> None:
        """Write a sentence, unless programs read there."""
        if not self.is_for_programs:
            self.screen.aside(text, style)


class Once:
    """One message or input, and its answer."""

    def __init__(
        self, client: SyncClient, said: Said, agent: str | None, thread_id: str, shown: Shown
    ) -> None:
        self._client = client
        self._said = said
        self._agent = agent
        self._shown = shown
        self._talk = Talk(client, thread_id)
        self._turns = Turns(self._talk, shown.view, self._ask)
        self._prompts = Prompts(shown.screen, shown.lines)

    def run(self) -> ExitCode:
        """Say it, and write the answer. Returns the exit code."""
        given = {**(self._said.first(self._client) or {}), **self._said.given}
        try:
            outcome = self._turns.settle(self._turns.say(given, self._agent))
        except KeyboardInterrupt:
            self._shown.screen.rest()
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
            self._say_how_to_come_back("It waits for a person.")
        if outcome is not ExitCode.DONE:
            return outcome
        if not _written(_answer_of(self._client.runs.wait(self._talk.run_id))):
            return ExitCode.FAILED
        return ExitCode.REJECTED if self._turns.was_refused else ExitCode.DONE

    def _ask(self, approvals: list[JsonObject], refusal: str) -> JsonObject | None:
        undecided = [each for each in approvals if each["approval_id"] not in self._turns.decided]
        if not undecided:
            self._shown.tell("What you said is noted. Others must decide too.", "yellow")
            return None
        if self._shown.asks:
            decisions = self._prompts.decisions(undecided, refusal)
            return None if decisions is None else {"decisions": decisions}
        if not self._shown.is_for_programs and not self._shown.is_quiet:
            self._prompts.show(undecided)
        return None

    def _say_how_to_come_back(self, sentence: str) -> None:
        options = [*self._said.options, "--thread", self._talk.thread_id]
        command = " ".join([program(), "chat", *options])
        self._shown.tell(f"{sentence} Come back with: {command}".lstrip())


def _answer_of(result: RunResult) -> str:
    """The agent's last message; of a graph without messages, its state as JSON."""
    has_messages = isinstance(result.values, dict) and "messages" in result.values
    if result.output or has_messages:
        return result.output
    return json.dumps(result.values, ensure_ascii=False)


def _written(answer: str) -> bool:
    """Write the answer; return False if nobody reads it."""
    text = answer
    if sys.stdout.isatty():
        # A terminal would obey what a model wrote, and break its lines amid words.
        text = folded(visible(answer, keep=f"\n\t{JOINERS}"), console().width)
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush it once more as it ends, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
