"""The runs of a talk: shown as they go on, cancelled by Ctrl-C, and a person asked for what they
need."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import Protocol, TextIO

from assent.cli.screen import Screen
from assent.cli.talk import EXIT_CODES, ExitCode, Talk
from assent.cli.terminal import complain, note
from assent.cli.wording import line_of
from assent.client import Heard, Unreachable
from assent.core.errors import AssentError, Conflict, InvalidRequest, NotFound
from assent.core.events import Event
from assent.core.json import JsonObject
from assent.core.progress import Steps

Asks = Callable[[list[JsonObject], str], JsonObject | None]
"""Asks for decisions on these approvals. Gets the sentence with which the last decisions were
refused, and returns the body that decides, or None if they are left pending."""

FAILURES = frozenset({"error", "run_cancelled"})


class View(Protocol):
    """Where events are shown."""

    cancels: bool
    """Whether Ctrl-C cancels the run. If programs read here, others may care for it."""

    def show(self, heard: Heard) -> None:
        """Show an event."""
        ...

    def rest(self) -> None:
        """Take note that nothing more is heard for now."""
        ...

    def ended(self, cost: Callable[[], float | None]) -> None:
        """Take note that a run has ended; `cost` asks what it has cost."""
        ...


class ScreenView:
    """Events as a person reads them: `only` these, or all but those that are `left_out`."""

    cancels = True

    def __init__(
        self,
        screen: Screen,
        *,
        only: Collection[str] = (),
        left_out: Collection[str] = (),
        tells_totals: bool,
    ) -> None:
        self._screen = screen
        self._only = only
        self._left_out = left_out
        self._tells_totals = tells_totals

    def show(self, heard: Heard) -> None:
        """Show an event."""
        is_wanted = heard.type in self._only if self._only else heard.type not in self._left_out
        if is_wanted:
            self._screen.event(heard.fields)

    def rest(self) -> None:
        """Take away what was shown of a run that goes on."""
        self._screen.rest()

    def ended(self, cost: Callable[[], float | None]) -> None:
        """Show what the run has taken in all."""
        if self._tells_totals:
            self._screen.totals(cost())


class JsonView:
    """Events as lines of JSON, exactly as they came."""

    def __init__(self, out: TextIO, *, cancels: bool) -> None:
        self.cancels = cancels
        self._out = out

    def show(self, heard: Heard) -> None:
        """Write an event."""
        self._out.write(f"{heard.body.decode()}\n")
        self._out.flush()

    def rest(self) -> None:
        """Do nothing."""

    def ended(self, cost: Callable[[], float | None]) -> None:
        """Do nothing."""


class ProgressView:
    """The progress as lines of JSON, and beside them a sentence about a run that failed."""

    cancels = True

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._steps = Steps()

    def show(self, heard: Heard) -> None:
        """Write the step that an event is, if it is one."""
        event = heard.event
        update = self._steps.update(event) if isinstance(event, Event) else None
        if update is not None:
            self._out.write(f"{update.json().decode()}\n")
            self._out.flush()
        elif heard.type in FAILURES and (line := line_of(heard.fields)) is not None:
            sentence, _ = line
            complain(" ".join(sentence.split()))

    def rest(self) -> None:
        """Do nothing."""

    def ended(self, cost: Callable[[], float | None]) -> None:
        """Do nothing."""


class Turns:
    """The runs on a thread that a person or a program has begun or found here."""

    def __init__(self, talk: Talk, view: View, asks: Asks) -> None:
        self.is_cancelling = False
        """True once a person has asked to cancel a run."""
        self.was_refused = False
        """True once something that a run asked for was rejected, or not decided in time."""
        self.decided: set[str] = set()
        """The approvals that were decided on here."""
        self._talk = talk
        self._view = view
        self._asks = asks

    def say(self, given: JsonObject, agent: str | None) -> ExitCode:
        """Send a message or another input, and show its run."""
        return self._watch(self._talk.say(given, agent))

    def settle(self, outcome: ExitCode) -> ExitCode:
        """Ask for decisions until none is needed, or they are left pending: then it is `PAUSED`."""
        refusal = ""
        while outcome is ExitCode.PAUSED:
            approvals = self._talk.pending()
            if not approvals:
                # Others have decided, and the run may be about to go on.
                time.sleep(0.2)
                outcome = self._catch_up()
                continue

            body = self._asks(approvals, refusal)
            if body is None:
                return outcome
            refusal = ""
            try:
                outcome = self._watch(self._talk.resume(body))
            except Unreachable:
                raise
            except InvalidRequest as refused:
                refusal = refused.message
            except AssentError as refused:
                note(refused.message, "red")
            else:
                self.decided |= set(body.get("decisions", ()))
        return outcome

    def outcome_of(self, thread: JsonObject) -> ExitCode:
        """The outcome of the thread's last run, shown to its end if it is not over."""
        match thread["status"]:
            case "busy":
                return self.show_all(self._talk.follow())
            case "interrupted":
                return ExitCode.PAUSED
            case "error":
                return ExitCode.FAILED
        return ExitCode.DONE

    def show_all(self, events: Iterator[Heard]) -> ExitCode:
        """Show events; return how the run ended. Without an end, decisions are left to take."""
        outcome = ExitCode.PAUSED
        try:
            for heard in events:
                self._note_refusal(heard)
                self._view.show(heard)
                outcome = EXIT_CODES.get(heard.type, ExitCode.PAUSED)
        finally:
            self._view.rest()
        if outcome is not ExitCode.PAUSED:
            self._view.ended(self._talk.cost)
        return outcome

    def _note_refusal(self, heard: Heard) -> None:
        is_rejection = heard.type == "approval_decided" and heard.fields.get("decision") == "reject"
        self.was_refused = self.was_refused or is_rejection or heard.type == "approval_expired"

    def _watch(self, events: Iterator[Heard]) -> ExitCode:
        """Show the events of a run that was begun here; Ctrl-C cancels it."""
        try:
            return self.show_all(events)
        except KeyboardInterrupt:
            if not self._view.cancels:
                raise
            self.is_cancelling = True
            return self._cancel()

    def _cancel(self) -> ExitCode:
        note("Cancelling the run; a tool that runs ends first. Ctrl-C again leaves.", "yellow")
        try:
            self._talk.cancel()
        except NotFound:
            return ExitCode.STOPPED
        except Unreachable as gone:
            # The run goes on when the server is there again.
            self.is_cancelling = False
            complain(gone.message)
            raise KeyboardInterrupt from None
        except Conflict:
            # It has ended meanwhile.
            return self._catch_up()
        self.show_all(self._talk.follow())
        return ExitCode.STOPPED

    def _catch_up(self) -> ExitCode:
        """Show what has happened meanwhile; return the outcome of the last run."""
        outcome = self.outcome_of(self._talk.thread())
        self.show_all(self._talk.logged())
        return outcome
