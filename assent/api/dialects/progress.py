"""Progress: which agent is at which task, and, of an execution, what came of it in the end.

    {"type": "progress", "agent": "clerk", "task": "search_records", "timestamp": "…"}
    {"type": "result", "result": "Deleted 2 records.", "timestamp": "…"}
    {"type": "error", "error": "The run was cancelled.", "timestamp": "…"}

The stream of an execution ends with `data: [DONE]` behind its result or its error.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from assent.api.dialects.answers import Answer
from assent.api.dialects.base import Fold, Foreign, Frame
from assent.core.clock import time_text
from assent.core.events import Done, Error, Event, RunCancelled, decode
from assent.core.json import encode_json
from assent.core.progress import STEP_TYPES, Steps
from assent.core.text import because
from assent.storage.base import LogEntry

RESULT_TYPES = frozenset({"state_update", "done", "error", "run_cancelled"})
"""The types of the events that tell what came of an execution."""


class Progress(Foreign):
    """The progress of a thread whose `agent` this is, if it has had one yet; with `has_end` that of
    an execution, and its result."""

    name = "progress"

    def __init__(self, agent: str, *, has_end: bool) -> None:
        self._agent = agent
        self._has_end = has_end
        # The result is in events that came before the last one.
        self.has_state = has_end
        self._looked_at = STEP_TYPES | RESULT_TYPES if has_end else STEP_TYPES
        self.types = self._looked_at

    def fold(self) -> Fold:
        """A fold that has seen nothing yet."""
        steps = Steps(self._agent)
        answer = Answer()

        def fold(entry: LogEntry) -> Sequence[Frame]:
            if entry.type not in self._looked_at:
                return ()
            event = decode(entry.body)
            data = _step(steps, event)
            if data is None and self._has_end:
                answer.add(event)
                data = _end(event, answer)
            return () if data is None else (Frame(str(entry.seq), "", data),)

        return fold

    def end(self, reason: str) -> Frame | None:
        """The mark behind everything, by which clients know that no more will come."""
        return Frame("", "", b"[DONE]") if reason == "done" else None


def error_frame(sentence: str, now: datetime) -> bytes:
    """The message that tells a client what is wrong."""
    return encode_json({"type": "error", "error": sentence, "timestamp": time_text(now)})


def _step(steps: Steps, event: Event) -> bytes | None:
    update = steps.update(event)
    return None if update is None else update.json()


def _end(event: Event, answer: Answer) -> bytes | None:
    match event:
        case Done():
            at = time_text(event.ts)
            return encode_json({"type": "result", "result": answer.text, "timestamp": at})
        case Error():
            return error_frame(event.message, event.ts)
        case RunCancelled():
            return error_frame(f"The run was cancelled{because(event.reason)}.", event.ts)
    return None
