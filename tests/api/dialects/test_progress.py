"""The fold of progress: a line for each step, and what came of an execution in the end."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.api.dialects.progress import Progress, error_frame
from assent.core.events import (
    Broadcast,
    Done,
    Error,
    Event,
    NodeStart,
    RunCancelled,
    RunPaused,
    RunResumed,
    RunStart,
    StateUpdate,
    ToolStart,
)
from assent.core.events import Progress as ProgressEvent
from assent.core.progress import STEP_TYPES, UPDATE_TYPES
from tests.support.folds import entries_of, every_event, frames_of, replays

AT = datetime(2026, 2, 6, 12, 0, tzinfo=UTC)
TEXT = "2026-02-06T12:00:00.000000Z"
RUN = Progress("clerk", has_end=True)
THREAD = Progress("clerk", has_end=False)

STEPS: list[Event] = [
    RunStart(agent="clerk", ts=AT),
    NodeStart(node="agent", ts=AT),
    ToolStart(tool="search", ts=AT),
    ProgressEvent(progress=0.5, message="Page 3", node="agent", ts=AT),
]


def said(text: str, **fields: Any) -> StateUpdate:
    return StateUpdate(update={"messages": [{"type": "ai", "content": text}]}, **fields)


def told(*events: Event, dialect: Progress = RUN) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in frames_of(dialect, entries_of(*events))]


def test_each_step_is_one_line_with_exactly_the_documents_fields() -> None:
    for dialect in (RUN, THREAD):
        frames = frames_of(dialect, entries_of(*STEPS))
        assert [(frame.id, frame.event) for frame in frames] == [("2", ""), ("3", ""), ("4", "")]
        assert [list(json.loads(frame.data).items()) for frame in frames] == [
            [
                ("type", "progress"),
                ("agent", "clerk"),
                ("task", task),
                ("timestamp", "2026-02-06T12:00:00Z"),
            ]
            for task in ("agent", "search", "Page 3")
        ]


def test_the_agent_is_that_of_the_run_or_the_one_that_is_known() -> None:
    unknown = Progress("", has_end=False)
    assert {each["agent"] for each in told(*STEPS, dialect=unknown)} == {"clerk"}
    # Somebody who comes back does not see the beginning again.
    assert {each["agent"] for each in told(*STEPS[1:], dialect=THREAD)} == {"clerk"}


@pytest.mark.parametrize(
    ("last", "frame"),
    [
        (Done(ts=AT), {"type": "result", "result": "Second.", "timestamp": TEXT}),
        (
            Error(code="graph_error", message="It failed.", ts=AT),
            {"type": "error", "error": "It failed.", "timestamp": TEXT},
        ),
        (
            RunCancelled(ts=AT),
            {"type": "error", "error": "The run was cancelled.", "timestamp": TEXT},
        ),
        (
            RunCancelled(reason="deadline", ts=AT),
            {"type": "error", "error": "The run was cancelled: deadline.", "timestamp": TEXT},
        ),
    ],
)
def test_what_came_of_an_execution_is_its_last_line(last: Event, frame: dict[str, Any]) -> None:
    words = [said("First."), RunPaused(), RunResumed(agent="clerk"), said("Second.")]
    assert told(*STEPS, *words, last)[3:] == [frame]
    assert told(*STEPS, *words, last, dialect=THREAD)[3:] == []


def test_an_execution_without_words_has_its_last_update_or_nothing() -> None:
    total = told(StateUpdate(update={"total": 3}), Done(ts=AT))
    assert total == [{"type": "result", "result": '{"total": 3}', "timestamp": TEXT}]
    assert told(Done(ts=AT)) == [{"type": "result", "result": None, "timestamp": TEXT}]


def test_nothing_else_is_a_line() -> None:
    assert told(Broadcast(message="hi")) == []
    entries = entries_of(*every_event())
    assert len(replays(RUN, entries)) == len(UPDATE_TYPES) + 3
    assert len(replays(THREAD, entries)) == len(UPDATE_TYPES)
    assert "token" not in RUN.types and THREAD.types == STEP_TYPES


@given(st.lists(st.sampled_from([*every_event(), said("Hello.")]), max_size=30))
def test_whoever_comes_back_gets_what_is_behind_their_last_line(events: list[Event]) -> None:
    entries = entries_of(*events)
    for dialect in (RUN, THREAD):
        replays(dialect, entries)


def test_the_end_is_a_mark_and_signs_of_life_are_the_transports() -> None:
    end = RUN.end("done")
    assert end is not None and (end.id, end.event, end.data) == ("", "", b"[DONE]")
    assert RUN.end("stopping") is None and RUN.heartbeat(AT) is None
    assert json.loads(error_frame("No.", AT)) == {
        "type": "error",
        "error": "No.",
        "timestamp": TEXT,
    }
