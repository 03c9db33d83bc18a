"""The fold of human input: the events of approvals as the document's clients read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.api.dialects.human_input import (
    MAX_PROMPT,
    MAX_TEXT,
    TYPES,
    HumanInput,
    error_frame,
)
from assent.api.dialects.positions import event_id, read_position
from assent.core.events import (
    ApprovalCancelled,
    ApprovalCommented,
    ApprovalDecided,
    ApprovalEdited,
    ApprovalEvent,
    ApprovalExpired,
    ApprovalRequired,
    ApprovalSuperseded,
    ApprovalVoted,
    Broadcast,
    Event,
    RunStart,
)
from assent.core.question_text import REASONS
from tests.support.folds import entries_of, every_event, frames_of, replays

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DIALECT = HumanInput("run-1", "t", "clerk")


def asked(kind: str = "tool", **fields: Any) -> ApprovalRequired:
    return ApprovalRequired(ts=NOW, approval_id="a", kind=kind, **fields)


def decided(decision: str, **fields: Any) -> ApprovalDecided:
    return ApprovalDecided(ts=NOW, approval_id="a", kind="tool", decision=decision, **fields)


def told(event: Event, dialect: HumanInput = DIALECT) -> dict[str, Any]:
    """The one frame of the event, read as a client reads it."""
    (frame,) = replays(dialect, entries_of(event))
    told: dict[str, Any] = json.loads(frame.data)
    assert (frame.event, told["event_id"]) == ("", frame.id)
    return told


def test_a_question_has_exactly_the_documents_fields() -> None:
    args = {"prompt": "Which year?", "context": "Two invoices.", "reasons": ["ambiguity"]}
    event = asked("input", args=args, agent="archive", node="tools")
    assert list(told(event).items()) == [
        ("type", "human_input_required"),
        ("execution_id", "run-1"),
        ("crew_id", "archive"),
        ("task_id", "a"),
        ("agent_id", "tools"),
        ("prompt", "Which year?"),
        ("context", "Two invoices."),
        ("timestamp", "2026-01-02T03:04:05.000000Z"),
        ("event_id", event_id("t", 1)),
        ("reason_flags", {"ambiguity": True, "missing_field": False}),
    ]


def test_an_answer_has_exactly_the_documents_fields() -> None:
    assert list(told(decided("approve", agent="archive", node="tools")).items()) == [
        ("type", "human_input_completed"),
        ("execution_id", "run-1"),
        ("crew_id", "archive"),
        ("task_id", "a"),
        ("agent_id", "tools"),
        ("event_id", event_id("t", 1)),
        ("human_feedback", "Approved"),
        ("timestamp", "2026-01-02T03:04:05.000000Z"),
    ]


def test_events_of_older_logs_have_the_agent_of_the_thread() -> None:
    assert told(asked())["crew_id"] == "clerk"
    assert told(asked(), HumanInput("t", "t"))["crew_id"] == ""


@pytest.mark.parametrize(
    ("event", "prompt"),
    [
        (asked("tool", tool="pay", args={"amount": 3}), 'May pay run with {"amount": 3}?'),
        (asked("node", node="outer|send"), "May the step outer › send run?"),
        (
            asked("unknown_outcome", tool="pay", args={"amount": 3}),
            'pay was cut off. Did it happen with {"amount": 3}?',
        ),
        (
            asked("unknown_outcome", node="send", args={}),
            "The step send was cut off. Did it happen with {}?",
        ),
        (
            asked("budget", args={"scope": "run", "budget": "total_tokens", "limit": 9}),
            "A budget is used up. May it be raised to "
            '{"scope": "run", "budget": "total_tokens", "limit": 9}?',
        ),
        (asked("input", args={"question": "Why?"}), "Why?"),
        (asked("input", args="Why?"), "Why?"),
        (asked("input", args={"prompt": 1}), '{"prompt": 1}'),
        (asked("input", args=["é", 1]), '["é", 1]'),
        (asked("input"), "null"),
        (
            ApprovalEdited(approval_id="a", kind="tool", tool="pay", args={"amount": 4}),
            'May pay run with {"amount": 4}?',
        ),
    ],
)
def test_the_prompt_is_one_question(event: Event, prompt: str) -> None:
    assert told(event)["prompt"] == prompt


@pytest.mark.parametrize(
    ("event", "context"),
    [
        (asked(preview="2 records"), "2 records"),
        (asked(preview={"description": "Deletes 2.", "more": 1}), "Deletes 2."),
        (asked(preview={"records": [1, 2]}), '{"records": [1, 2]}'),
        (asked(), ""),
        (asked("input", args={"prompt": "?"}, preview="2"), ""),
        (asked("input", args={"context": 1}), ""),
        (asked("input", args="Why?"), ""),
        (ApprovalEdited(approval_id="a", kind="tool", tool="pay"), ""),
    ],
)
def test_the_context_is_what_the_question_or_its_preview_says(event: Event, context: str) -> None:
    assert told(event)["context"] == context


@pytest.mark.parametrize(
    ("args", "flagged"),
    [
        ({"reasons": ["missing_field", "low_confidence"]}, {"missing_field", "low_confidence"}),
        ({"reasons": [*REASONS]}, set(REASONS)),
        ({"reasons": ["mine", {}, 1]}, set()),
        ({"reasons": "ambiguity"}, set()),
        ({}, set()),
        ("text", set()),
    ],
)
def test_the_reasons_are_flags(args: Any, flagged: set[str]) -> None:
    expected = {"ambiguity": False, "missing_field": False} | dict.fromkeys(flagged, True)
    assert told(asked("input", args=args))["reason_flags"] == expected


@pytest.mark.parametrize(
    ("event", "feedback"),
    [
        (decided("approve"), "Approved"),
        (decided("edit", args={"amount": 4}), 'Approved with changes: {"amount": 4}'),
        (decided("reject"), "Rejected"),
        (decided("reject", message="Too much."), "Rejected: Too much."),
        (decided("respond", message="2015"), "Answered: 2015"),
        (decided("respond", message={"year": 2015}), 'Answered: {"year": 2015}'),
        (decided("respond", message=False), "Answered: false"),
        (ApprovalExpired(approval_id="a"), "Nobody decided in time."),
        (
            ApprovalCancelled(approval_id="a"),
            "The run was cancelled, so nobody need decide any more.",
        ),
        (
            ApprovalSuperseded(approval_id="a", reason="It was edited."),
            "Nobody need decide any more: It was edited.",
        ),
        (ApprovalSuperseded(approval_id="a"), "Nobody need decide any more."),
    ],
)
def test_the_feedback_says_what_became_of_it(event: ApprovalEvent, feedback: str) -> None:
    completed = told(event)
    assert completed["type"] == "human_input_completed"
    assert completed["human_feedback"] == feedback


def test_texts_are_cut_and_have_nothing_unseen() -> None:
    event = asked("input", args={"prompt": "p" * 9_999, "context": "c" * 9_999})
    assert told(event)["prompt"] == "p" * MAX_PROMPT + "… (cut: 9999 characters in all)"
    assert told(event)["context"] == "c" * MAX_TEXT + "… (cut: 9999 characters in all)"
    hidden = "\x1b[2J\u202eyes\n\tno"
    shown = "\\u001b[2J\\u202eyes\n\tno"
    required = told(asked("input", args={"prompt": hidden, "context": hidden}))
    assert (required["prompt"], required["context"]) == (shown, shown)
    assert told(decided("reject", message=hidden))["human_feedback"] == f"Rejected: {shown}"


def test_nothing_else_is_an_event() -> None:
    others = [RunStart(agent="a"), Broadcast(message="hi")]
    others += [ApprovalVoted(approval_id="a", decision="approve")]
    others += [ApprovalCommented(approval_id="a")]
    assert frames_of(DIALECT, entries_of(*others)) == []
    entries = entries_of(*every_event())
    looked_at = [entry for entry in entries if entry.type in TYPES]
    assert len(replays(DIALECT, entries)) == len(looked_at) == len(TYPES)


@given(st.lists(st.sampled_from([*every_event(), *every_event("other")]), max_size=30))
def test_whoever_comes_back_gets_what_is_behind_their_last_event(events: list[Event]) -> None:
    entries = entries_of(*events)
    frames = replays(DIALECT, entries)
    positions = [read_position(frame.id, "t").seq for frame in frames]
    assert positions == [entry.seq for entry in entries if entry.type in TYPES]


def test_signs_of_life_and_errors_are_events_of_their_own() -> None:
    beat = DIALECT.heartbeat(NOW)
    assert beat is not None
    assert (beat.id, beat.event) == ("", "")
    assert json.loads(beat.data) == {
        "type": "heartbeat",
        "timestamp": "2026-01-02T03:04:05.000000Z",
    }
    assert json.loads(error_frame("No.", NOW)) == {
        "type": "error",
        "message": "No.",
        "timestamp": "2026-01-02T03:04:05.000000Z",
    }
    assert DIALECT.end("done") is None
