"""The dialect of query sockets, as a fold over events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from assent.api.dialects.positions import event_id
from assent.api.dialects.query import (
    BROADCAST,
    MOST_THINKING_CHARACTERS,
    QUERY_TYPES,
    VOCABULARY,
    Query,
)
from assent.core.events import (
    EVENT_TYPES,
    ApprovalDecided,
    ApprovalRequired,
    Broadcast,
    Done,
    Error,
    ErrorInfo,
    Event,
    LlmEnd,
    LlmError,
    LlmStart,
    Reasoning,
    RetrieverEnd,
    RetrieverError,
    RetrieverStart,
    RunCancelled,
    RunPaused,
    RunRecovered,
    RunResumed,
    RunStart,
    SourceDocument,
    StateUpdate,
    ToolCall,
    ToolEnd,
    ToolError,
    ToolStart,
    ToolUnknown,
    Usage,
)
from tests.support.folds import entries_of, frames_of, replays

QUERY = Query(
    session_id="s",
    thread_id="t",
    agent="clerk",
    text="What was the response?",
    case_id=1,
    query_id="q",
)
FAILED = ErrorInfo(type="ConnectionError")
BOOK = SourceDocument(id="b1", text="Rain falls.", metadata={"source": "weather.pdf"})
CITATION = {"index": 1, "source": "weather.pdf", "text": "Rain falls.", "metadata": BOOK.metadata}
SAID: dict[str, Any] = {"messages": [{"type": "ai", "content": "It rains."}]}

EXECUTION: Sequence[Event] = (
    RunStart(agent="clerk", message=QUERY.text),
    LlmStart(message_id="m1", model="talker"),
    Reasoning(message_id="m1", content="Let me "),
    Reasoning(message_id="m1", content="see."),
    LlmEnd(
        message_id="m1",
        model="talker",
        finish_reason="tool_calls",
        usage=Usage(total_tokens=3),
        tool_calls=(ToolCall(id="c1", name="look", args={"topic": "rain"}),),
    ),
    ApprovalRequired(approval_id="a", kind="tool", tool="look", args={"topic": "rain"}, digest="d"),
    RunPaused(approvals=("a",)),
    RunResumed(agent="clerk", approvals=("a",)),
    ApprovalDecided(approval_id="a", tool="look", decision="approve"),
    ToolStart(tool="look", tool_call_id="c1", input={"topic": "rain"}),
    RetrieverStart(retriever="library", call_id="r", query="rain"),
    RetrieverEnd(retriever="library", call_id="r", documents=(BOOK,), count=7),
    ToolEnd(tool="look", tool_call_id="c1", output="Rain falls.", documents=(BOOK,)),
    LlmStart(message_id="m2"),
    RunRecovered(attempt=2, message_ids=("m1", "m2")),
    LlmError(model="talker", error=FAILED),
    StateUpdate(update=SAID),
    Done(),
)


def told(*events: Event, query: Query = QUERY) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in replays(query, entries_of(*events))]


def types_of(frames: Sequence[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in frames]


def one(kind: str, *events: Event) -> dict[str, Any]:
    [frame] = [each for each in told(*events) if each["type"] == kind]
    return frame


# ── an execution ──────────────────────────────────────────────────────────────────────────────────


def test_an_execution_is_told_in_the_documents_events() -> None:
    frames = told(*EXECUTION)
    assert types_of(frames) == [
        *("agent_execution_start", "agent_start"),
        *("llm_start", "thinking_start", "thinking_end", "llm_end", "agent_action"),
        *("agent_action", "agent_observation"),
        *("tool_start", "rag_query_start", "rag_query_end", "tool_end", "agent_observation"),
        *("llm_start", "thinking_start", "thinking_end", "llm_error"),
        *("llm_start", "thinking_start", "thinking_end", "llm_error"),
        *("agent_end", "agent_execution_complete"),
    ]
    for frame in frames:
        assert frame["type"] in VOCABULARY
        assert (frame["session_id"], frame["agent_name"]) == ("s", "clerk")
        assert frame["task"] == QUERY.text
        assert isinstance(frame["timestamp"], float)
        about = frame["metadata"]
        assert (about["query_id"], about["thread_id"]) == ("q", "t")
    ids = [frame["metadata"]["event_id"] for frame in frames]
    assert ids[:3] == [event_id("t", 1, 1), event_id("t", 1), event_id("t", 2, 1)]
    assert len(set(ids)) == len(ids)


def test_it_ends_with_the_answer_and_what_that_rests_on() -> None:
    assert told(*EXECUTION)[-1]["output_data"] == {"answer": "It rains.", "citations": [CITATION]}
    assert told(Done())[-1]["output_data"] == {"answer": "", "citations": []}


def test_each_event_says_what_it_is_about() -> None:
    asked = {"query": QUERY.text, "case_id": 1}
    frames = told(*EXECUTION)
    assert frames[0]["input_data"] == frames[1]["input_data"] == asked
    thought, ended, called, needed, decided = frames[4:9]
    assert thought["output_data"] == {"thinking": "Let me see."}
    assert ended["metadata"]["usage"] == {"total_tokens": 3}
    assert ended["metadata"]["model"] == "talker"
    assert (called["action"], called["tool_name"]) == ("tool_usage", "look")
    assert called["input_data"] == needed["input_data"] == {"topic": "rain"}
    assert called["metadata"]["tool_call_id"] == "c1"
    assert needed["action"] == "approval_required"
    ids = ("approval_id", "digest", "kind")
    assert [needed["metadata"][id] for id in ids] == ["a", "d", "tool"]
    assert decided["output_data"] == {"decision": "approve", "message": None}
    started, looked_up, found, returned, observed = frames[9:14]
    assert (started["tool_name"], started["input_data"]) == ("look", {"topic": "rain"})
    assert looked_up["input_data"] == {"query": "rain", "case_id": 1}
    assert found["output_data"] == {"documents": 7, "citations": [CITATION]}
    assert returned["output_data"] == {"result": "Rain falls.", "citations": [CITATION]}
    assert observed["output_data"] == returned["output_data"]
    assert frames[17]["error"] == "The model was cut off."
    assert frames[21]["error"] == "The model failed: ConnectionError."


def test_without_thinking_only_the_frame_of_it_is_told() -> None:
    frames = told(*EXECUTION, query=Query(thread_id="t", thinking=False))
    assert types_of(frames) == [
        "agent_execution_start",
        "rag_query_start",
        "rag_query_end",
        "agent_execution_complete",
    ]


def test_a_failure_names_the_query_and_its_case() -> None:
    failed = one("agent_execution_error", Error(code="internal", message="The agent failed."))
    assert failed["error"] == "The agent failed."
    about = {name: failed["metadata"][name] for name in ("query", "case_id", "code")}
    assert about == {"query": QUERY.text, "case_id": 1, "code": "internal"}
    cancelled = one("agent_execution_error", RunCancelled(reason="by ann"))
    assert cancelled["error"] == "The run was cancelled: by ann."
    assert one("agent_execution_error", RunCancelled())["error"] == "The run was cancelled."


def test_a_message_that_was_begun_ends_with_the_execution() -> None:
    frames = told(LlmStart(message_id="m"), Reasoning(message_id="m", content="Hm"), RunCancelled())
    assert types_of(frames)[2:4] == ["thinking_end", "llm_error"]
    assert frames[2]["output_data"] == {"thinking": "Hm"}


def test_a_model_that_broke_off_amid_its_message_is_told_once() -> None:
    error = LlmError(message_id="m", error=ErrorInfo(type="X", message="Too long."))
    frames = told(LlmStart(message_id="m"), error, Error(code="x", message="."))
    assert types_of(frames)[:4] == ["llm_start", "thinking_start", "thinking_end", "llm_error"]
    assert frames[3]["error"] == "Too long."
    assert types_of(frames).count("llm_error") == 1


def test_what_fails_is_told_in_words() -> None:
    events = (
        ToolError(tool="look", error=FAILED),
        ToolUnknown(tool="look"),
        RetrieverError(retriever="library", call_id="r", error=FAILED),
    )
    frames = told(*events)
    assert types_of(frames) == [
        *("tool_end", "agent_observation"),
        *("tool_end", "agent_observation"),
        "rag_query_end",
    ]
    assert frames[0]["error"] == frames[1]["error"] == "The tool failed: ConnectionError."
    assert frames[3]["error"] == "The tool was started, and nobody knows its result."
    assert frames[4]["error"] == "The retriever failed: ConnectionError."


def test_an_execution_that_begins_with_a_decision_has_a_beginning() -> None:
    frames = told(RunResumed(agent="clerk"), Done())
    assert types_of(frames)[:2] == ["agent_execution_start", "agent_start"]


def test_what_is_repeated_and_kept_is_bounded() -> None:
    long = Reasoning(message_id="m", content="x" * MOST_THINKING_CHARACTERS)
    frames = told(LlmStart(message_id="m"), long, long, LlmEnd(message_id="m"))
    assert len(frames[2]["output_data"]["thinking"]) == MOST_THINKING_CHARACTERS
    [started, _] = told(RunStart(agent="clerk"), query=Query(thread_id="t", text="y" * 5000))
    assert len(started["task"]) == 200
    assert started["input_data"]["query"] == "y" * 5000


# ── what operators say ────────────────────────────────────────────────────────────────────────────


def test_an_operators_message_has_the_type_that_they_gave_it_but_none_of_ours() -> None:
    for data, kind in (
        (None, BROADCAST),
        ({"type": "notification"}, "notification"),
        ({"type": "agent_execution_complete"}, BROADCAST),
        ({"type": "x" * 65}, BROADCAST),
        ({"type": 7}, BROADCAST),
        ([], BROADCAST),
    ):
        [frame] = frames_of(QUERY, entries_of(Broadcast(message="Soon.", data=data)))
        said = json.loads(frame.data)
        assert said.pop("timestamp") > 0
        assert said == {"type": kind, "message": "Soon."}


# ── any events ────────────────────────────────────────────────────────────────────────────────────


def test_the_types_that_it_looks_at_are_types_of_events() -> None:
    assert set(EVENT_TYPES) >= QUERY_TYPES
    assert "token" not in QUERY_TYPES


ANY = st.lists(st.sampled_from(EXECUTION), max_size=30)


@given(ANY, st.booleans())
def test_whoever_comes_back_gets_exactly_what_is_behind(events: list[Event], thinks: bool) -> None:
    replays(Query(thread_id="t", thinking=thinks), entries_of(*events))
