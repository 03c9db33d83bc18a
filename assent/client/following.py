"""Where a reader of events stands, and when a connection that was lost is tried again. No I/O.

A stream is followed over many connections. Each event has a number, so each is heard once, and one
that is left out is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import msgspec

from assent.client.calls import (
    Call,
    Params,
    get_events,
    names_of,
    open_events,
    params_of,
    types_of,
)
from assent.client.problems import Unreachable, may_pass, unreachable, wait_of
from assent.client.values import EventPage, Heard
from assent.core.errors import AssentError
from assent.core.events import TERMINAL_TYPES, RunPaused

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0
"""Seconds before a connection is tried again: the first, doubled up to the longest, and shortened
by up to half at random, so that the readers of one server do not all return at once."""

HEARTBEAT = 5.0
"""Seconds between two signs of life of a server that says nothing of it."""

LONGEST_HEARTBEAT = 3600.0

BEATS = 3
"""A connection on which so many signs of life have not come is dead."""

POLL_SECONDS = 25.0
"""A page waits so long for an event."""

PAGE = 200
"""Events on a page: half as many after a connection that broke, twice as many after a page that got
through."""

TRIES = 3
"""Times that anything is asked for of which no answer has come yet."""

GOING = frozenset({"stopping", "unavailable"})
"""Reasons for which a server ends streams that are soon to be had again."""


class Selection:
    """The types of events that are wanted, None for all; from some numbers on, others."""

    def __init__(self, types: Sequence[str] | None) -> None:
        self._types = names_of(types)
        self._earlier: list[tuple[int, Sequence[str] | None]] = []
        """Those that were wanted before, each with the last number that they hold for."""
        self._was_changed = False

    @property
    def asked_for(self) -> str | None:
        """The types to ask for, as a parameter: all that hold for any number to come."""
        wanted = [*(types for _, types in self._earlier), self._types]
        named = [types for types in wanted if types is not None]
        if len(named) < len(wanted):
            return None
        return types_of(list(dict.fromkeys(chain.from_iterable(named))))

    def change(self, types: Sequence[str] | None, after: int) -> None:
        """Want these types from the event after this number on."""
        _, held = self.at(after)
        before = [each for each in self._earlier if each[0] < after]
        self._earlier = [*before, (after, held)]
        self._types, self._was_changed = types, True

    def passed(self, seq: int) -> None:
        """Take note that nothing up to this number is still to come."""
        self._earlier = [each for each in self._earlier if each[0] > seq]

    def at(self, seq: int) -> tuple[int, Sequence[str] | None]:
        """The types that hold for this number, and the last number before them."""
        begin = 0
        for last, types in self._earlier:
            if seq <= last:
                return begin, types
            begin = last
        return begin, self._types

    def has(self, kind: str, types: Sequence[str]) -> bool:
        """True unless an event of this type came only because it was wanted before."""
        return not self._was_changed or kind in types


class Follower:
    """A reader of the events at a path, or of what a POST has begun.

    `is_one_run` if the stream ends with a run; else each number follows the one before, unless only
    some `types` are wanted.
    """

    def __init__(
        self,
        url: str,
        path: str = "",
        *,
        after: int | None = None,
        types: Sequence[str] | None = None,
        opening: Call[None] | None = None,
        is_one_run: bool = False,
        random: Callable[[], float],
    ) -> None:
        self.after = after or 0
        """The number of the last event that was heard."""
        self.is_over = False
        """True once nothing more will come."""
        self.silence = BEATS * HEARTBEAT
        """The seconds without a byte after which a connection is dead."""
        self.path = path
        self.selection = Selection(types)
        """The events that are wanted."""
        self._url = url
        self._opening = opening
        self._is_one_run = is_one_run or opening is not None
        self._is_placed = bool(after)
        self.has_begun = False
        """True once there was an answer: before, there is no connection to lose."""
        self._is_down = False
        self._tries = 0
        self._pause = FIRST_PAUSE
        self._goes_at_once = True
        self._limit = PAGE
        self._random = random

    # ── asking ────────────────────────────────────────────────────────────────────────────────────

    def request(self) -> Call[None]:
        """The request for what comes next, as a stream."""
        if self._opening is not None and not (self._is_placed and self.path):
            # Under its key it is done once, and answered from its beginning.
            return self._opening
        after = self.after if self._is_placed else None
        return open_events(self.path, after, self.selection.asked_for)

    def page(self) -> Call[EventPage]:
        """The request for what comes next, as a page that is waited for."""
        types = self.selection.asked_for
        return get_events(self.path, self.after, types, self._limit, POLL_SECONDS)

    def socket(self) -> tuple[str, Params]:
        """The path of the WebSocket with what comes next, and its parameters."""
        return self.path, params_of(after=self.after, types=self.selection.asked_for)

    def select(self, types: Sequence[str] | None, after: int) -> None:
        """Take note that other events are wanted from the one after this number on."""
        self.selection.change(types, after)
        self.selection.passed(self.after)

    # ── hearing ───────────────────────────────────────────────────────────────────────────────────

    def opened(self, headers: Mapping[str, str], *, is_empty: bool = False) -> bool:
        """Take note of a connection that is open; return True if it takes the place of one that was
        lost. `is_empty` if the server says that there is nothing more to come."""
        run_id = headers.get("x-run-id")
        if self._opening is not None and run_id:
            self.path = f"/runs/{run_id}/stream"
        self.silence = BEATS * _heartbeat(headers.get("x-heartbeat", ""))
        self.is_over = is_empty
        self.has_begun = True
        was_down, self._is_down = self._is_down, False
        return was_down

    def heard(self, heard: Heard) -> bool:
        """Take note of an event; return False if it was heard before, or is not wanted. Raises
        `AssentError` if one before it is missing."""
        if heard.seq:
            if heard.seq <= self.after:
                return False
            is_wanted = self._is_wanted(heard)
            self.after, self._is_placed = heard.seq, True
            self.selection.passed(heard.seq)
            if not is_wanted:
                return False
        self._pause, self._goes_at_once = FIRST_PAUSE, True
        self.is_over = self._is_one_run and _is_last(heard)
        return True

    def _is_wanted(self, heard: Heard) -> bool:
        """True unless the event came only because others were wanted before. Raises `AssentError`
        if one before it is missing."""
        begin, types = self.selection.at(heard.seq)
        if types is not None:
            return self.selection.has(heard.type, types)
        due = max(self.after, begin) + 1
        if self._is_placed and not self._is_one_run and heard.seq != due:
            raise AssentError(
                f"The event {due} did not come, and {heard.seq} did. Ask for the events after "
                f"{self.after} again."
            )
        return True

    def turned(self, page: EventPage, seconds: float) -> None:
        """Take note of a page whose events were heard, and that came after so many seconds. Raises
        `Unreachable` for an empty one that came too soon: the server stops."""
        self._limit = min(2 * self._limit, PAGE)
        if page.next > self.after:
            self.after, self._is_placed = page.next, True
        elif not page.events and seconds < POLL_SECONDS / 2:
            raise Unreachable(_ended_sentence(self._url, "stopping"), reason="stopping")

    def ended(self, reason: str) -> None:
        """Take note that the server has ended the stream. Raises `Unreachable` if there is more to
        come."""
        if reason == "done" or self.is_over:
            self.is_over = True
            return
        if not reason and self._opening is not None and not self.path:
            # What was posted has begun no run: these events were all.
            self.is_over = True
            return
        raise Unreachable(_ended_sentence(self._url, reason), reason=reason)

    # ── losing ────────────────────────────────────────────────────────────────────────────────────

    def dropped(self, error: AssentError) -> float:
        """The seconds before the next try, after this error. Raises it if another try would not
        help, or if there was no answer to several tries and never one before."""
        self._tries += 1
        may_begin = isinstance(error, Unreachable) and self._tries < TRIES
        if not may_pass(error) or not (self.has_begun or may_begin):
            raise error
        self._is_down = True
        self._limit = max(1, self._limit // 2)
        if error.details.get("reason") in GOING and self._goes_at_once:
            self._goes_at_once = False
            return 0.0
        pause = self._pause * (1 - self._random() / 2)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return max(pause, wait_of(error))


def _heartbeat(seconds: str) -> float:
    """The seconds between two signs of life, as a server says; the usual ones if it says none."""
    try:
        said = float(seconds)
    except ValueError:
        return HEARTBEAT
    return said if 0 < said <= LONGEST_HEARTBEAT else HEARTBEAT


def reason_of(data: str) -> str:
    """The reason in the frame that ends a stream."""
    try:
        return str(msgspec.json.decode(data)["reason"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "for no reason that this client knows"


def _is_last(heard: Heard) -> bool:
    event = heard.event
    going_on = isinstance(event, RunPaused) and event.next_run
    return heard.type in TERMINAL_TYPES and not going_on


def _ended_sentence(url: str, reason: str) -> str:
    if not reason:
        return unreachable(url, "it closed the connection").message
    return f"The server at {url} has ended the stream: {reason}."
