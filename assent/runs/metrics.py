"""Counts of what happens, for `GET /metrics`: plain numbers, which cost what they count next to
nothing. They carry no id and nobody's name, and begin at 0 with the process.

What is counted of runs and approvals is learnt from changes that were committed, in one place. So
nothing is counted twice, and nothing that was rolled back.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable

from assent.approvals.feed import is_copy
from assent.core.approval import Approval
from assent.core.events import TERMINAL_TYPES, ApprovalDecided, Event, Usage, event_type
from assent.core.rows import Run
from assent.core.tally import LONG_SECONDS, Tally
from assent.storage.base import Change

COUNTED_TOKENS = tuple(name for name in Usage.__struct_fields__ if name != "total_tokens")
"""The numbers of a run's usage that are tokens, but not their sum."""

MOST_AGENTS = 100
OTHER = "other"
"""The agents that are counted by name, and what all others are counted as."""

WORST_SECONDS = 60.0
"""The least time for which the worst lag is shown, so that nobody who looks once a minute misses
it."""


class LoopLag:
    """The longest time by which the event loop was late of late."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._worst = self._worst_before = 0.0

    def note(self, seconds: float) -> None:
        """It was so late."""
        self._turn()
        self._worst = max(self._worst, seconds)

    @property
    def worst(self) -> float:
        """The most in the last minute, or up to two."""
        self._turn()
        return max(self._worst, self._worst_before)

    def _turn(self) -> None:
        elapsed = self._now() - self._since
        if elapsed < WORST_SECONDS:
            return
        self._worst_before = self._worst if elapsed < 2 * WORST_SECONDS else 0.0
        self._worst, self._since = 0.0, self._now()


class Metrics:
    """The counts since the process began. `waiting_for_threads` are the sync nodes and tools
    that wait for a thread now, and `loop_lag` is None where nobody watches the loop."""

    def __init__(self) -> None:
        self.runs_ended: Counter[str] = Counter()
        """By status."""
        self.tokens: Counter[tuple[str, str]] = Counter()
        """By agent and kind."""
        self.cost: defaultdict[str, float] = defaultdict(float)
        """By agent."""
        self.decisions = Tally(LONG_SECONDS)
        """The seconds from asking to deciding."""
        self.requests: Counter[tuple[str, str, int]] = Counter()
        """By method, path of the route, and status."""
        self.limited: Counter[str] = Counter()
        """Requests that were refused with 429, by the kind of the problem."""
        self.security_events: Counter[str] = Counter()
        """By event."""
        self.waiting_for_threads: Callable[[], int] = lambda: 0
        self.loop_lag: LoopLag | None = None
        self._agents: set[str] = set()

    def learn(self, change: Change) -> None:
        """Count what the committed change says of runs and approvals."""
        ended = [event for event in change.events if _counts(event)]
        if not ended:
            return
        rows = {row.run_id: row for row in change.rows if isinstance(row, Run)}
        asked = {row.approval_id: row for row in change.rows if isinstance(row, Approval)}
        for event in ended:
            if isinstance(event, ApprovalDecided):
                self._decided(asked.get(event.approval_id))
            elif event.run_id in rows:
                self._ended(rows[event.run_id])

    def _decided(self, approval: Approval | None) -> None:
        if approval is not None and approval.decided_at is not None:
            waited = (approval.decided_at - approval.requested_at).total_seconds()
            # The clock may have been moved back meanwhile.
            self.decisions.add(max(waited, 0.0))

    def _ended(self, run: Run) -> None:
        self.runs_ended[run.status.value] += 1
        agent = self._label(run.agent)
        for name in COUNTED_TOKENS:
            if tokens := run.usage.get(name):
                self.tokens[agent, name.removesuffix("_tokens")] += int(tokens)
        if cost := run.usage.get("cost"):
            self.cost[agent] += cost

    def _label(self, agent: str) -> str:
        if len(self._agents) < MOST_AGENTS:
            self._agents.add(agent)
        return agent if agent in self._agents else OTHER


def _counts(event: Event) -> bool:
    ends = isinstance(event, ApprovalDecided) or event_type(event) in TERMINAL_TYPES
    return ends and not is_copy(event)
