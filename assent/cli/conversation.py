"""One thread on a server, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from assent.cli.client import Client, Received, Refused
from assent.core.events import TERMINAL_TYPES
from assent.core.json import Json, JsonObject


class _Page(msgspec.Struct):
    events: list[msgspec.Raw]


class Conversation:
    """A thread, and how far its events were seen. Each method raises `Refused` or `Unreachable`."""

    def __init__(self, client: Client, thread_id: str) -> None:
        self.thread_id = thread_id
        self._client = client
        self._last: int | None = None
        """The number of the last event that was seen."""
        self._run_id: str | None = None
        """The run that it was of."""

    def say(self, given: JsonObject, agent: str | None) -> Iterator[Received]:
        """Send a message or another input; the events of its run. A new thread id makes the
        thread."""
        body = {**given, "thread_id": self.thread_id}
        if agent:
            body["agent"] = agent
        return self._run(("/agent/stream", body))

    def resume(self, decisions: Json) -> Iterator[Received]:
        """Decide; the events of the decisions, and of the run if it goes on."""
        return self._run((f"/threads/{self.thread_id}/resume", decisions))

    def follow(self) -> Iterator[Received]:
        """The events of a busy thread past the last one seen, up to the end of its run."""
        return self._run()

    def cancel(self) -> None:
        """Ask the run to stop. Raises `Refused` if it has ended, or nothing has run yet."""
        # Of a run that has only just begun, no event may have been seen.
        run_id = self._run_id or self._last_run()
        self._client.post(f"/runs/{run_id}/cancel", {})

    def _last_run(self) -> str:
        """The run that is active on the thread, or else the newest."""
        path = f"/threads/{self.thread_id}/runs"
        runs = self._client.get(path, {"status": "running"}) or self._client.get(path)
        if not runs:
            raise Refused("Nothing has run yet.", status=404)
        run_id: str = runs[0]["run_id"]
        return run_id

    def logged(self, types: Sequence[str] = ()) -> Iterator[Received]:
        """All events so far past the last one seen; with `types`, only those."""
        params: dict[str, str | int] = {"types": ",".join(types)} if types else {}
        while True:
            params["after"] = self._last or 0
            page = self._client.request("GET", self._events_path, params=params)
            # Kept as they are on the wire, not as they would be written anew.
            events = msgspec.json.decode(page.content, type=_Page).events
            if not events:
                return
            for event in events:
                yield self._seen(Received.read(bytes(event).decode()))

    def thread(self) -> JsonObject:
        """The thread. Raises `Refused` if there is none yet."""
        thread: JsonObject = self._client.get(f"/threads/{self.thread_id}")
        return thread

    def pending(self) -> list[JsonObject]:
        """The approvals that the thread waits for, in the order in which the agent asked."""
        approvals: list[JsonObject] = self.thread()["approvals"]
        return [approval for approval in approvals if approval["status"] == "pending"]

    @property
    def _events_path(self) -> str:
        return f"/threads/{self.thread_id}/events"

    def _run(self, opening: tuple[str, Json] | None = None) -> Iterator[Received]:
        """Events up to a run's last one; with `opening`, the first answer that POST. If standing
        grants answer a pause, the run that goes on is part of it."""
        self._run_id = None
        for received in self._client.events(self._events_path, after=self._last, opening=opening):
            yield self._seen(received)
            going_on = received.event.get("next_run")
            if received.type in TERMINAL_TYPES and not going_on:
                return

    def _seen(self, received: Received) -> Received:
        self._last = max(self._last or 0, received.seq)
        self._run_id = received.event.get("run_id") or self._run_id
        return received
