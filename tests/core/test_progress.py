"""Updates of progress: what is one, its JSON, and their totals."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from assent.core.events import (
    EVENT_TYPES,
    Event,
    NodeEnd,
    NodeStart,
    Progress,
    RunStart,
    ToolStart,
    event_type,
)
from assent.core.progress import UPDATE_TYPES, ProgressUpdate, Totals, progress_of

AT = datetime(2026, 2, 6, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "task"),
    [
        (NodeStart(node="agent", ts=AT), "agent"),
        (NodeStart(node="write", ns=("research:6f2c", "draft:77"), ts=AT), "research/draft/write"),
        (ToolStart(tool="search", node="tools", ns=("research:6f2c",), ts=AT), "search"),
        (Progress(node="agent", progress=0.5, message="Reading page 3", ts=AT), "Reading page 3"),
        (Progress(node="agent", ns=("outer:1",), progress=0.5, ts=AT), "outer/agent"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_update_says_which_agent_is_at_which_task(event: Event, task: str) -> None:
    update = progress_of(event, "clerk")
    assert update == ProgressUpdate("clerk", task, AT)
    line = update.json()
    assert json.loads(line) == {
        "type": "progress",
        "agent": "clerk",
        "task": task,
        "timestamp": "2026-02-06T12:00:00Z",
    }
    assert msgspec.json.decode(line, type=ProgressUpdate) == update


def test_other_events_are_no_updates() -> None:
    for event in (RunStart(agent="clerk"), NodeEnd(node="agent")):
        assert progress_of(event, "clerk") is None
    made = {NodeStart(), ToolStart(tool="x"), Progress(progress=1)}
    assert {event_type(event) for event in made} == UPDATE_TYPES < {*EVENT_TYPES}


def test_updates_are_added_up_by_agent_and_task() -> None:
    def at(minute: int) -> datetime:
        return AT + timedelta(minutes=minute)

    totals = Totals(
        [
            ProgressUpdate("researcher", "search", at(0)),
            ProgressUpdate("researcher", "read", at(1)),
            ProgressUpdate("writer", "search", at(2)),
        ]
    )
    totals.add(ProgressUpdate("researcher", "search", at(3)))
    assert totals.updates == 4
    assert totals.by_agent == {
        "researcher": {
            "search": {
                "updates": 2,
                "first": "2026-02-06T12:00:00.000000Z",
                "last": "2026-02-06T12:03:00.000000Z",
            },
            "read": {
                "updates": 1,
                "first": "2026-02-06T12:01:00.000000Z",
                "last": "2026-02-06T12:01:00.000000Z",
            },
        },
        "writer": {
            "search": {
                "updates": 1,
                "first": "2026-02-06T12:02:00.000000Z",
                "last": "2026-02-06T12:02:00.000000Z",
            }
        },
    }
    assert [*totals.by_agent] == ["researcher", "writer"]
    assert Totals().by_agent == {}
