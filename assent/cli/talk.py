"""A person's talk with an agent on one thread of a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum

from assent.client import Heard, SyncClient
from assent.core.errors import NotFound
from assent.core.events import TERMINAL_TYPES
from assent.core.json import JsonObject


class ExitCode(IntEnum):
    """The end of the last run, as the program's exit code."""

    DONE = 0
    FAILED = 1
    PAUSED = 3
    REJECTED = 4
    """The run is done, but without something that it asked for and did not get."""

    STOPPED = 130
    """By the person, with Ctrl-C: the usual code of a program that was interrupted."""


EXIT_CODES = {
    "done": ExitCode.DONE,
    "error": ExitCode.FAILED,
    "run_cancelled": ExitCode.FAILED,
}


class Talk:
    """A thread, and how far its events were seen. Each method raises an `AssentError`."""

    def __init__(self, client: SyncClient, thread_id: str) -> None:
        self.thread_id = thread_id
        self.run_id = ""
        """The run whose event was seen last."""
        self._client = client
        self._last = 0

    @property
    def has_begun(self) -> bool:
        """True if an event of the thread was seen, so that there is one to come back to."""
        return self._last > 0

    def say(self, given: JsonObject, agent: str | None) -> Iterator[Heard]:
        """Send a message or another input; the events of its run. A new thread id makes the
        thread."""
        self.run_id = ""
        sent = self._client.runs.stream(thread_id=self.thread_id, agent=agent, **given)
        return map(self._seen, sent)

    def resume(self, decisions: JsonObject) -> Iterator[Heard]:
        """Decide; the events of the decisions, and of the run if it goes on."""
        return map(self._seen, self._client.runs.resume(self.thread_id, decisions))

    def follow(self) -> Iterator[Heard]:
        """The events of a busy thread past the last one seen, up to the end of its run. If standing
        grants answer a pause, the run that goes on is part of it."""
        for heard in self._client.watch(thread_id=self.thread_id, after=self._last):
            yield self._seen(heard)
            if heard.type in TERMINAL_TYPES and not heard.fields.get("next_run"):
                return

    def cancel(self) -> None:
        """Ask the run to stop. Raises `Conflict` if it has ended, `NotFound` if nothing has run."""
        # Of a run that has only just begun, no event may have been seen.
        self._client.runs.cancel(self.run_id or self._last_run())

    def _last_run(self) -> str:
        """The run that is active on the thread, or else the newest."""
        for status in ("running", None):
            for run in self._client.runs.list(thread_id=self.thread_id, status=status, limit=1):
                return run.run_id
        raise NotFound("Nothing has run yet.")

    def logged(self, types: Sequence[str] = ()) -> Iterator[Heard]:
        """All events so far past the last one seen; with `types`, only those."""
        wanted = types or None
        while True:
            page = self._client.threads.events(self.thread_id, after=self._last, types=wanted)
            yield from map(self._seen, page.events)
            if not page.events:
                return

    def thread(self) -> JsonObject:
        """The thread. Raises `NotFound` if there is none yet."""
        return self._client.threads.get(self.thread_id).fields

    def pending(self) -> list[JsonObject]:
        """The approvals that the thread waits for, in the order in which the agent asked."""
        approvals: list[JsonObject] = self.thread()["approvals"]
        return [approval for approval in approvals if approval["status"] == "pending"]

    def cost(self) -> float | None:
        """The cost of the last run, of those of its models that have a price."""
        return self._client.runs.get(self.run_id).usage.get("cost") if self.run_id else None

    def _seen(self, heard: Heard) -> Heard:
        self._last = max(self._last, heard.seq)
        self.run_id = heard.event.run_id or self.run_id
        return heard
