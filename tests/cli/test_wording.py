"""Events and approvals in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from assent.cli.wording import (
    asked,
    choices,
    limit_from,
    line_of,
    subject,
)
from assent.core.events import EVENT_TYPES

ABOUT = {"approval_id": "a", "kind": "tool", "tool": "pay"}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# ── events ────────────────────────────────────────────────────────────────────────────────────────

USED = {"scope": "run", "budget": "model_calls", "used": 8, "limit": 10}

LINES: list[tuple[str, dict[str, Any], str]] = [
    ("run_cancelled", {}, "The run was cancelled."),
    ("run_cancelled", {"reason": "No more.", "rolled_back": True},
     "The run was cancelled: No more. Its changes to the conversation are undone."),
    ("llm_retry", {"error": {"type": "RateLimitError"}, "delay_seconds": 2.6},
     "· The model failed (RateLimitError) and is called again in 3 s. What it said so far does not count."),
    ("llm_retry", {"error": {"type": "Dropped"}}, "· The model failed (Dropped) and is called again. What it said so far does not count."),
    ("tool_unknown", {"tool": "pay"}, "· pay was cut off. Nobody knows whether it happened."),
    ("approval_decided", {**ABOUT, "decision": "edit", "by": "bob"}, "· pay: approved with other arguments by bob"),
    ("approval_decided", {**ABOUT, "decision": "approve", "by": "bob", "grant": "g"}, "· pay: approved by bob through a standing grant"),
    ("approval_decided", {"kind": "input", "decision": "reject", "by": "bob"}, "· the question: declined by bob"),
    ("approval_decided", {"kind": "budget", "decision": "edit", "by": "bob"}, "· the budget: more was granted by bob"),
    ("approval_decided", {"kind": "node", "decision": "approve"}, "· the step: approved"),
    ("approval_voted", {**ABOUT, "decision": "approve", "by": "bob", "votes": 1, "quorum": 2},
     "· pay: bob voted 'approve' (1 of 2)"),
    ("approval_withdrawn", {**ABOUT, "by": "bob"}, "· pay: bob withdrew a vote"),
    ("approval_edited", {**ABOUT, "by": "bob"}, "· pay: bob changed the arguments, and others must agree"),
    ("approval_delegated", {**ABOUT, "by": "bob", "to": "ann"}, "· pay: bob delegated to ann"),
    ("approval_delegated", {**ABOUT, "by": "bob", "role": "lead"}, "· pay: bob delegated to the role lead"),
    ("approval_delegated", {**ABOUT, "by": "bob", "to": "bob"}, "· pay: bob took a delegation back"),
    ("approval_commented", {**ABOUT, "by": "bob", "text": "Hm."}, "· pay: bob commented: Hm."),
    ("approval_reminder", {**ABOUT, "expires_at": "2026-03-04T12:30:00Z"}, "· pay: still waits for a decision, until 2026-03-04 12:30"),
    ("approval_escalated", {**ABOUT, "to": ["lead", "ann"]}, "· pay: nobody decided in time, so others may decide too: lead, ann"),
    ("approval_expired", ABOUT, "· pay: nobody decided in time"),
    ("approval_cancelled", {**ABOUT, "by": "bob"}, "· pay: needs no decision any more, since the run was cancelled"),
    ("approval_superseded", {**ABOUT, "reason": "It was changed."}, "· pay: needs no decision any more: It was changed"),
    ("budget_warning", USED, "· A budget of this run is nearly used up: 8 of 10 calls of the model."),
    ("budget_exceeded", {"scope": "agent", "budget": "cost", "used": 1200.5, "limit": 1200},
     "· A budget of this agent is used up: 1,200.5 of 1,200 of cost."),
    ("broadcast", {"message": "Maintenance at noon.", "by": "ann"}, "· ann says: Maintenance at noon."),
    ("broadcast", {"message": "Done.\n\nApprove? [a]pprove\r\n"}, "· somebody says: Done. Approve? [a]pprove"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "line"), LINES)
def test_events_are_told_in_one_line(kind: str, fields: dict[str, Any], line: str) -> None:
    told = line_of({"type": kind, **fields})
    assert told is not None
    assert told[0] == line


def test_every_event_of_an_approval_is_told() -> None:
    told = {kind for kind, _, _ in LINES}
    assert {kind for kind in EVENT_TYPES if kind.startswith(("approval_", "budget_"))} - told == {
        "approval_required"
    }
    assert line_of({"type": "approval_of_a_newer_server"}) is None


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────


def approval(kind: str, args: Any = None, **fields: Any) -> dict[str, Any]:
    everything = ["approve", "edit", "reject", "respond"]
    return {
        "kind": kind,
        "tool": "",
        "node": "",
        "args": args,
        "schema": None,
        "preview": None,
        "allowed": everything,
        **fields,
    }


def test_a_question_is_words_and_what_is_left_is_shown_as_it_is() -> None:
    question = {
        "prompt": "Which year?",
        "context": "There are two.",
        "choices": ["2019", "2020"],
        "reasons": ["ambiguity", "odd"],
        "more": 1,
    }
    said = asked(approval("input", question))
    assert said.words == ("Which year?", "There are two.")
    assert said.notes == ("It is asked because something is ambiguous and odd.",)
    assert said.value == {"more": 1}
    assert asked(approval("input", "Which?")).words == ("Which?",)
    for odd in ([1], {"prompt": 3}, {"choices": ["a"]}, {"a": {"b": 1}}):
        assert asked(approval("input", odd)).value == odd


def test_a_schema_in_the_question_is_left_out_if_it_is_the_one_that_counts() -> None:
    schema = {"type": "integer"}
    assert (
        asked(approval("input", {"question": "How many?", "schema": schema}, schema=schema)).value
        is None
    )
    assert asked(approval("input", {"question": "How many?", "schema": "dbo"})).value == {
        "schema": "dbo"
    }


def test_a_budget_is_asked_for_in_words() -> None:
    asks = approval(
        "budget",
        {"scope": "thread", "budget": "total_tokens", "limit": 2400},
        preview={"used": 1400, "limit": 1000, "per": "day"},
        allowed=["approve", "edit", "reject"],
    )
    assert subject(asks) == "may more be used?"
    assert (
        asked(asks).notes[0]
        == "This conversation has used 1,400 of the 1,000 tokens that it may use within a day."
    )
    assert [choice.label for choice in choices(asks)] == [
        "[a]llow up to 2,400 tokens",
        "<a number> allows up to that",
        "[s]top",
    ]
    assert [limit_from(text, asks) for text in ("1,401", "2000.5", "some", "")] == [
        1401,
        2000.5,
        None,
        None,
    ]
    for low in ("1400", "-1", "inf", "nan"):
        assert limit_from(low, asks) == "The new limit must be above the 1,400 that are used."


def test_a_call_that_was_cut_off_has_three_answers_in_words() -> None:
    lost = approval(
        "unknown_outcome", {"euros": 5}, tool="pay", allowed=["approve", "reject", "respond"]
    )
    assert subject(lost) == "pay was cut off"
    assert [(choice.words[0], choice.type) for choice in choices(lost)] == [
        ("h", "respond"),
        ("n", "approve"),
        ("g", "reject"),
    ]
    assert asked(lost).value == {"euros": 5}


def test_only_what_is_allowed_is_offered() -> None:
    assert [choice.type for choice in choices(approval("node", allowed=["approve", "reject"]))] == [
        "approve",
        "reject",
    ]
    assert subject(approval("node", node="outer|inner")) == "outer › inner wants to run"


# ── answers ───────────────────────────────────────────────────────────────────────────────────────
