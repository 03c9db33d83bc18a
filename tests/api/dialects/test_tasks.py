"""The dialect of tasks, without a server: what becomes of each event, and what somebody gets who
comes back in the middle."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.api.dialects.base import Frame
from assent.api.dialects.positions import Position, event_id, read_position
from assent.api.dialects.tasks import MAX_RESULT_CHARACTERS, NamedOnly, Tasks
from assent.core.events import (
    EVENT_TYPES,
    BudgetExceeded,
    BudgetWarning,
    Done,
    Error,
    ErrorInfo,
    Event,
    LlmEnd,
    LlmError,
    LlmStart,
    NodeEnd,
    NodeError,
    NodeStart,
    RunCancelled,
    RunPaused,
    RunRecovered,
    RunResumed,
    RunStart,
    StateUpdate,
    Token,
    ToolCall,
    ToolEnd,
    ToolError,
    ToolStart,
    ToolUnknown,
    Usage,
)
from tests.support.folds import entries_of, frames_of, replays

TS = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TASK = Tasks("t", "clerk")
FAILED = ErrorInfo(type="ValueError", message="It failed.")

SAID: tuple[Event, ...] = (
    RunStart(agent="clerk", message="Pay 5.", metadata={"user_id": "user123"}),
    NodeStart(node="agent", task_id="n1", step=1),
    LlmStart(message_id="m1", model="gpt-4", estimated_cost=0.25),
    Token(message_id="m1", content="On it."),
    LlmEnd(
        message_id="m1",
        model="gpt-4",
        usage=Usage(input_tokens=3),
        cost=0.5,
        finish_reason="tool_calls",
        tool_calls=(ToolCall(id="c1", name="pay", args={"amount": 5}),),
    ),
    StateUpdate(update={"messages": [{"type": "ai", "content": "", "tool_calls": [{}]}]}),
    NodeEnd(node="agent", task_id="n1", step=1),
    RunPaused(approvals=("apr_1",), next=("approval",)),
    RunResumed(run_id="s", agent="clerk", approvals=("apr_1",), paused_run="r"),
    NodeStart(node="tools", task_id="n2", step=2),
    NodeStart(node="inner", task_id="n3", step=1, ns=("tools:n2",)),
    ToolStart(tool="pay", tool_call_id="c1", input={"amount": 5}),
    BudgetWarning(scope="run", budget="cost", used=0.8, limit=1),
    RunRecovered(attempt=2, message_ids=("m9",)),
    ToolUnknown(tool="pay", tool_call_id="c1"),
    ToolError(tool="pay", tool_call_id="c1", error=FAILED),
    ToolEnd(tool="pay", tool_call_id="c1", output="Paid."),
    NodeError(node="tools", task_id="n2", error=FAILED),
    BudgetExceeded(scope="run", budget="cost", used=1.5, limit=1),
    LlmError(error=ErrorInfo(type="Timeout")),
    LlmStart(message_id="m2"),
    LlmError(message_id="m2", model="gpt-4", error=FAILED),
    StateUpdate(update={"messages": [{"type": "ai", "content": "Paid 5."}]}),
    Done(usage=Usage(input_tokens=3), steps=2),
    Error(code="agent_error", message="It broke.", node="tools"),
    RunCancelled(),
    RunCancelled(reason="ann cancelled it."),
)

TOLD: list[tuple[int, str, dict[str, Any]]] = [
    (1, "Started", {"query": "Pay 5.", "user_id": "user123"}),
    (2, "StepStarted", {"step": 1, "name": "agent"}),
    (3, "LLMCallStarted", {"call_id": "m1", "model": "gpt-4", "estimated_cost": 0.25}),
    (5, "LLMCallCompleted", {
        "call_id": "m1", "model": "gpt-4", "usage": {"input_tokens": 3}, "cost": 0.5,
        "finish_reason": "tool_calls",
        "tool_calls": [{"id": "c1", "name": "pay", "args": {"amount": 5}}],
        "success": True, "error": None,
    }),
    (7, "StepCompleted", {"step": 1, "name": "agent", "success": True, "error": None}),
    (8, "Paused", {"approvals": ["apr_1"], "next": ["approval"]}),
    (9, "Resumed", {"approvals": ["apr_1"], "recovered": False}),
    (10, "StepStarted", {"step": 2, "name": "tools"}),
    (12, "ToolCallStarted", {
        "tool_name": "pay", "tool_call_id": "c1", "arguments": {"amount": 5},
    }),
    (13, "BudgetWarning", {"scope": "run", "budget": "cost", "used": 0.8, "limit": 1.0}),
    (14, "Resumed", {"approvals": [], "recovered": True, "cut_off": ["m9"]}),
    *(
        (seq, "ToolCallCompleted", {
            "tool_name": "pay", "tool_call_id": "c1", "result": result, "success": error is None,
            "error": error,
        })
        for seq, result, error in (
            (15, None, "The tool was started, and nobody knows how that ended."),
            (16, None, "It failed."),
            (17, "Paid.", None),
        )
    ),
    (18, "StepCompleted", {"step": 2, "name": "tools", "success": False, "error": "It failed."}),
    (19, "BudgetExceeded", {"scope": "run", "budget": "cost", "used": 1.5, "limit": 1.0}),
    (20, "LLMCallStarted", {
        "call_id": event_id("t", 20, 2), "model": "", "estimated_cost": None,
    }),
    (20, "LLMCallCompleted", {
        "call_id": event_id("t", 20, 2), "model": "", "usage": None, "cost": None,
        "finish_reason": "", "tool_calls": [], "success": False, "error": "Timeout",
    }),
    (21, "LLMCallStarted", {"call_id": "m2", "model": "", "estimated_cost": None}),
    (22, "LLMCallCompleted", {
        "call_id": "m2", "model": "gpt-4", "usage": None, "cost": None,
        "finish_reason": "", "tool_calls": [], "success": False, "error": "It failed.",
    }),
    (24, "Completed", {"final_response": "Paid 5.", "usage": {"input_tokens": 3}, "steps": 2}),
    (25, "Failed", {
        "error": "It broke.", "code": "agent_error", "node": "tools", "cancelled": False,
    }),
    *(
        (seq, "Failed", {"error": error, "code": "cancelled", "node": "", "cancelled": True})
        for seq, error in ((26, "The task was cancelled."), (27, "ann cancelled it."))
    ),
]  # fmt: skip
"""What is said of them: of which, under which name, and with which fields."""


def stamped(*events: Event) -> list[Event]:
    return [msgspec.structs.replace(event, ts=TS, run_id=event.run_id or "r") for event in events]


ENTRIES = entries_of(*stamped(*SAID))


def test_each_event_is_told_by_its_name_and_once_more_without() -> None:
    frames = frames_of(TASK, ENTRIES)
    named, unnamed = frames[::2], frames[1::2]
    assert [frame.event for frame in named] == [f"Workflow{name}" for _, name, _ in TOLD]
    assert {frame.event for frame in unnamed} == {""}
    assert [frame.data for frame in named] == [frame.data for frame in unnamed]
    for frame, (seq, name, fields) in zip(unnamed, TOLD, strict=True):
        place = read_position(frame.id, "t")
        assert place.seq == seq
        assert json.loads(frame.data) == {
            "event_id": event_id("t", *place),
            "event": f"Workflow{name}",
            "task_id": "t",
            "agent_id": "clerk",
            # That of the run which it began with, also after a pause.
            "execution_id": "r",
            "timestamp": "2026-01-02T03:04:05Z",
            **fields,
        }
    assert [frame.id for frame in frames[:2]] == ["1-1", "1"]
    twice = [frame.id for frame in frames if frame.id.startswith("20")]
    assert twice == ["20-1", "20-2", "20-3", "20"]


def test_whoever_comes_back_gets_what_is_behind() -> None:
    frames = replays(TASK, ENTRIES)
    # An event's own id is as good as the frame's: that of its second copy.
    for frame in frames[1::2]:
        place = read_position(json.loads(frame.data)["event_id"], "t")
        assert place == read_position(frame.id, "t")


@given(st.lists(st.sampled_from(SAID), max_size=12))
def test_in_whatever_order_things_happen(events: list[Event]) -> None:
    frames = replays(TASK, entries_of(*stamped(*events)))
    assert len({frame.id for frame in frames}) == len(frames)


def named_after(position: Position) -> list[Frame]:
    return frames_of(NamedOnly(TASK, position), ENTRIES)


def test_by_name_alone_each_comes_once_and_no_reader_misses_or_repeats_one() -> None:
    both = frames_of(TASK, ENTRIES)
    once = named_after(Position(0))
    assert [(frame.event, frame.data) for frame in once] == [
        (frame.event, frame.data) for frame in both[::2]
    ]
    assert [frame.id for frame in once] == [frame.id for frame in both[1::2]]
    # Also who has read both until then, and has the named copy of the last.
    for at, frame in enumerate(both):
        position = read_position(frame.id, "t")
        assert named_after(position) == once[at // 2 + 1 :], frame


@pytest.mark.parametrize("cls", EVENT_TYPES.values(), ids=EVENT_TYPES)
def test_every_event_is_taken(cls: type[Event]) -> None:
    required: dict[Any, Any] = {str: "x", int: 1, float: 0.5, ErrorInfo: FAILED}
    given = {
        field.name: required[field.type] for field in msgspec.structs.fields(cls) if field.required
    }
    entries = entries_of(cls(run_id="r", **given))
    frames = frames_of(TASK, entries)
    silent = {"state_update"}
    assert bool(frames) is (entries[0].type in Tasks.types - silent)


def test_what_happens_in_a_subgraph_is_no_step_and_a_long_result_is_cut() -> None:
    inner = NodeStart(node="inner", ns=("outer:1",))
    assert frames_of(TASK, entries_of(inner)) == []
    for output, is_cut in ((["x" * 10], False), (["x" * MAX_RESULT_CHARACTERS], True)):
        named, _ = frames_of(TASK, entries_of(ToolEnd(tool="look", output=output)))
        result = json.loads(named.data)["result"]
        assert (result != output) is is_cut
        assert len(str(result)) < MAX_RESULT_CHARACTERS + 50


def test_the_sign_of_life_has_a_name_of_its_own() -> None:
    beat = TASK.heartbeat(TS)
    assert beat == Frame(
        "",
        "heartbeat",
        b'{"event":"heartbeat","task_id":"t","timestamp":"2026-01-02T03:04:05Z"}',
    )
    assert TASK.end("done") is None
