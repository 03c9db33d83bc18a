"""The dialect of clients that are told when a person is needed, and when no longer: an event
`human_input_required` for each question, and `human_input_completed` for what became of it.

Its texts are for people to read: nothing in them is invisible, or commands a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from assent.api.dialects.base import Fold, Foreign, Frame
from assent.api.dialects.positions import event_id
from assent.core.clock import time_text
from assent.core.events import (
    ApprovalCancelled,
    ApprovalDecided,
    ApprovalEdited,
    ApprovalEvent,
    ApprovalExpired,
    ApprovalRequired,
    ApprovalSuperseded,
    decode,
)
from assent.core.json import Json, JsonObject, encode_json
from assent.core.question_text import REASONS
from assent.core.text import because, pretty, shortened, visible
from assent.storage.base import LogEntry

MAX_PROMPT = 2_000
MAX_TEXT = 4_000
"""The most characters of a prompt, and of a context or a feedback."""

ALWAYS_FLAGGED = ("ambiguity", "missing_field")
"""The reasons of a question that every event flags, true or false."""


TYPES = frozenset({
    "approval_required", "approval_edited", "approval_decided", "approval_expired",
    "approval_cancelled", "approval_superseded",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class HumanInput(Foreign):
    """What people are asked in the thread, or in the execution of the run, that a client knows by
    `execution_id`. Its events are in the log `log_id`, and `agent` is the agent at work there, for
    events that do not name one."""

    execution_id: str
    log_id: str
    agent: str = ""

    name = "human-input"
    has_state = False
    types = TYPES

    def fold(self) -> Fold:
        return self._frames

    def heartbeat(self, now: datetime) -> Frame | None:
        return Frame("", "", encode_json({"type": "heartbeat", "timestamp": time_text(now)}))

    def _frames(self, entry: LogEntry) -> Sequence[Frame]:
        if entry.type not in TYPES:
            return ()
        event = decode(entry.body)
        assert isinstance(event, ApprovalEvent)
        id = event_id(self.log_id, entry.seq)
        if isinstance(event, ApprovalRequired | ApprovalEdited):
            fields = self._required(event, id)
        else:
            fields = self._completed(event, id)
        return (Frame(id, "", encode_json(fields)),)

    def _required(self, event: ApprovalRequired | ApprovalEdited, id: str) -> JsonObject:
        return {
            "type": "human_input_required",
            **self._whose(event),
            "prompt": _text(prompt_of(event), MAX_PROMPT),
            "context": _text(_context_of(event), MAX_TEXT),
            "timestamp": time_text(event.ts),
            "event_id": id,
            "reason_flags": _flags(event),
        }

    def _completed(self, event: ApprovalEvent, id: str) -> JsonObject:
        return {
            "type": "human_input_completed",
            **self._whose(event),
            "event_id": id,
            "human_feedback": _text(feedback_of(event), MAX_TEXT),
            "timestamp": time_text(event.ts),
        }

    def _whose(self, event: ApprovalEvent) -> JsonObject:
        return {
            "execution_id": self.execution_id,
            "crew_id": event.agent or self.agent,
            "task_id": event.approval_id,
            "agent_id": event.node,
        }


def error_frame(sentence: str, now: datetime) -> bytes:
    """A message on a WebSocket that tells its client what is wrong."""
    return encode_json({"type": "error", "message": sentence, "timestamp": time_text(now)})


# ── questions ─────────────────────────────────────────────────────────────────────────────────────


def prompt_of(event: ApprovalRequired | ApprovalEdited) -> str:
    """What a person is asked, as one question."""
    match event.kind:
        case "tool":
            return f"May {event.tool} run with {_plain(event.args)}?"
        case "node":
            return f"May the step {_step(event)} run?"
        case "unknown_outcome":
            cut_off = event.tool or f"The step {_step(event)}"
            return f"{cut_off} was cut off. Did it happen with {_plain(event.args)}?"
        case "budget":
            return f"A budget is used up. May it be raised to {_plain(event.args)}?"
    if isinstance(event.args, Mapping):
        for name in ("prompt", "question"):
            if isinstance(event.args.get(name), str):
                return str(event.args[name])
    return _plain(event.args)


def _step(event: ApprovalEvent) -> str:
    return event.node.replace("|", " › ")


def _context_of(event: ApprovalRequired | ApprovalEdited) -> str:
    """What a person needs to know in order to answer, as far as the event has it."""
    if event.kind == "input":
        context = event.args.get("context") if isinstance(event.args, Mapping) else None
        return context if isinstance(context, str) else ""
    preview = event.preview if isinstance(event, ApprovalRequired) else None
    if preview is None:
        return ""
    if isinstance(preview, Mapping) and isinstance(preview.get("description"), str):
        return str(preview["description"])
    return preview if isinstance(preview, str) else pretty(preview)


def _flags(event: ApprovalRequired | ApprovalEdited) -> dict[str, bool]:
    """The reasons why a person is asked."""
    args = event.args if event.kind == "input" else None
    given = args.get("reasons") if isinstance(args, Mapping) else None
    reasons = [each for each in REASONS if each in given] if isinstance(given, list) else []
    return dict.fromkeys(ALWAYS_FLAGGED, False) | dict.fromkeys(reasons, True)


# ── answers ───────────────────────────────────────────────────────────────────────────────────────


def feedback_of(event: ApprovalEvent) -> str:
    """What has become of a question, in words."""
    match event:
        case ApprovalDecided():
            return _decision(event)
        case ApprovalExpired():
            return "Nobody decided in time."
        case ApprovalCancelled():
            return "The run was cancelled, so nobody need decide any more."
        case ApprovalSuperseded(reason=reason):
            return f"Nobody need decide any more{because(reason)}."
    raise TypeError(f"{type(event).__name__} ends no question.")


def _decision(event: ApprovalDecided) -> str:
    match event.decision:
        case "edit":
            return f"Approved with changes: {_plain(event.args)}"
        case "reject":
            return f"Rejected: {_plain(event.message)}" if event.message else "Rejected"
        case "respond":
            return f"Answered: {_plain(event.message)}"
    return "Approved"


# ── texts ─────────────────────────────────────────────────────────────────────────────────────────


def _plain(value: Json) -> str:
    """A text as it is, and anything else as JSON on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(text: str, most: int) -> str:
    shown = visible(text)
    return shown if len(shown) <= most else shortened(shown, most)
