"""LangGraph's streams: the frames of a run in each mode."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw

from assent.api.dialects.base import STATE, StateEntry
from assent.api.dialects.langgraph.stream import Stream
from assent.core.events import (
    ApprovalRequired,
    Checkpoint,
    Done,
    Event,
    LlmEnd,
    LlmStart,
    NodeEnd,
    NodeStart,
    Reasoning,
    RunCancelled,
    RunPaused,
    RunRecovered,
    RunStart,
    StateUpdate,
    Token,
    ToolCall,
    ToolCallDelta,
    ToolEnd,
    encode,
)
from assent.storage.base import LogEntry
from tests.support.folds import entries_of, every_event, replays

RUN = {"thread_id": "t", "run_id": "r"}
AT = {**RUN, "node": "agent", "task_id": "k"}
TOOL = {"type": "tool", "id": "m2", "content": "paid", "tool_call_id": "c"}


def frames(stream: Stream, *given: Event | LogEntry) -> list[tuple[str, Any]]:
    """The frames' names and data."""
    fold = stream.fold()
    told: list[tuple[str, Any]] = []
    for number, each in enumerate(given, start=1):
        entry = each if isinstance(each, LogEntry) else entries_of(each)[0]
        for frame in fold(LogEntry(number, entry.type, entry.run_id, entry.body)):
            told.append((frame.event, json.loads(frame.data)))
    return told


def state(values: Any, **fields: Any) -> LogEntry:
    """A checkpoint with its state."""
    event = encode(Checkpoint(**{**RUN, "checkpoint_id": "c1", "source": "loop", **fields}))
    shown = {
        "values": values,
        "next": [],
        "tasks": [],
        "metadata": {},
        "checkpoint": {"checkpoint_id": "c1"},
        "parent_checkpoint": None,
    }
    body = StateEntry(event=Raw(event), state=Raw(json.dumps(shown).encode()))
    return LogEntry(1, STATE, "r", body.encoded())


def test_a_message_comes_in_pieces_with_what_they_are_about() -> None:
    told = frames(
        Stream(["messages-tuple"]),
        RunStart(**RUN, agent="a"),
        LlmStart(**AT, message_id="m", metadata={"ls_provider": "x"}),
        Token(**AT, message_id="m", content='Say "hi"'),
        LlmEnd(**AT, message_id="m", finish_reason="stop"),
        StateUpdate(**AT, update={"messages": [{"type": "ai", "id": "m", "content": "…"}, TOOL]}),
    )
    assert [name for name, _ in told] == ["metadata", "messages", "messages", "messages"]
    (first, about), (last, _), (tool, _) = (data for _, data in told[1:])
    assert (first["content"], first["type"], first["id"]) == ('Say "hi"', "AIMessageChunk", "m")
    assert (about["ls_provider"], about["langgraph_node"]) == ("x", "agent")
    assert (last["chunk_position"], last["response_metadata"]) == (
        "last",
        {"finish_reason": "stop"},
    )
    # The model's message was told of already.
    assert tool == TOOL


def test_the_quick_way_of_a_token_says_what_the_other_one_says() -> None:
    start, token = (
        LlmStart(**AT, message_id="m"),
        Token(**AT, message_id="m", content="Hi \n\u2028"),
    )
    (_, quick), (_, both), *_ = (
        *frames(Stream(["messages-tuple"]), start, token),
        *(
            each
            for each in frames(Stream(["messages-tuple", "messages"]), start, token)
            if each[0] == "messages"
        ),
    )
    assert quick == both


def test_words_that_were_kept_from_streams_come_with_what_the_node_writes() -> None:
    kept = {"type": "ai", "id": "m", "content": "Kept."}
    told = frames(
        Stream(["messages-tuple"]),
        LlmStart(**AT, message_id="m"),
        LlmEnd(**AT, message_id="m"),
        StateUpdate(**AT, update={"messages": [kept]}),
    )
    assert [message for _, (message, _) in told] == [kept]


def test_calls_that_did_not_come_in_pieces_come_with_the_last_one() -> None:
    call = ToolCall(id="c", name="pay", args={"amount": 5})
    *_, (_, (last, _)) = frames(
        Stream(["messages-tuple"]),
        Token(**AT, message_id="m", content="I pay."),
        LlmEnd(**AT, message_id="m", tool_calls=(call,)),
    )
    assert last["tool_call_chunks"][0]["args"] == '{"amount":5}'
    assert last["tool_calls"][0]["args"] == {"amount": 5}


def test_reasoning_and_words_are_blocks_that_clients_merge() -> None:
    told = frames(
        Stream(["messages"]),
        Reasoning(**AT, message_id="m", content="Hm"),
        Reasoning(**AT, message_id="m", content="m."),
        Token(**AT, message_id="m", content="Yes.", index=1),
        ToolCallDelta(**AT, message_id="m", tool_call_id="c", tool="pay", args='{"amount": 5, "to'),
    )
    (last,) = told[-1][1]
    assert last["content"] == [
        {"type": "reasoning", "reasoning": "Hmm.", "index": 0},
        {"type": "text", "text": "Yes.", "index": 1},
    ]
    assert last["tool_calls"] == [
        {"id": "c", "name": "pay", "args": {"amount": 5}, "type": "tool_call"}
    ]


def test_a_message_that_was_cut_off_is_removed() -> None:
    told = frames(
        Stream(["messages-tuple"]),
        Token(**AT, message_id="m", content="Half"),
        RunRecovered(**RUN, attempt=2, message_ids=("m",)),
    )
    assert told[1] == ("metadata", {"run_id": "r", "attempt": 2})
    assert told[2][1][0] == {"type": "remove", "id": "m", "content": ""}


def test_each_node_says_what_it_wrote_once() -> None:
    told = frames(
        Stream(["updates"]),
        NodeStart(**AT, step=1),
        StateUpdate(**AT, update={"n": 1}),
        NodeEnd(**AT, step=1),
        NodeStart(**{**AT, "node": "settle", "task_id": "l"}, step=2),
        NodeEnd(**{**AT, "node": "settle", "task_id": "l"}, step=2),
    )
    assert told == [("updates", {"agent": {"n": 1}}), ("updates", {"settle": None})]


def test_a_state_is_told_once_and_a_pause_names_what_it_asks() -> None:
    told = frames(
        Stream(["values"]),
        state({"n": 0}, source="input"),
        state({"n": 1}),
        state({"n": 1}),
        state({"n": 9}, ns=("inner:1",)),
        ApprovalRequired(**RUN, approval_id="apr_1", tool="pay", args={"amount": 5}),
        RunPaused(**RUN, approvals=("apr_1",)),
    )
    assert told[0] == ("values", {"n": 1})
    assert len(told) == 2
    name, paused = told[1]
    assert (name, paused["n"]) == ("values", 1)
    (interrupt,) = paused["__interrupt__"]
    assert interrupt["value"]["action_requests"][0]["name"] == "pay"


def test_a_pause_that_grants_have_answered_asks_nobody() -> None:
    told = frames(
        Stream(["values"]),
        ApprovalRequired(**RUN, approval_id="apr_1", tool="pay"),
        RunPaused(**RUN, approvals=("apr_1",), next_run="r2"),
    )
    assert told == []


def test_subgraphs_are_told_of_under_their_paths_if_somebody_wants_them() -> None:
    inner = {**AT, "ns": ("outer:1",)}
    given = (
        NodeStart(**inner, step=1),
        StateUpdate(**inner, update={"n": 1}),
        NodeEnd(**inner, step=1),
    )
    assert frames(Stream(["updates"]), *given) == []
    assert frames(Stream(["updates"], subgraphs=True), *given) == [
        ("updates|outer:1", {"agent": {"n": 1}})
    ]


def test_the_end_is_said_but_not_where_the_server_stops() -> None:
    stream = Stream(["values"])
    done, stopping = stream.end("done"), stream.end("stopping")
    assert done is not None and (done.event, done.data) == ("end", b"null")
    assert stopping is None
    assert frames(stream, RunCancelled(**RUN)) == [
        ("error", {"error": "UserInterrupt", "message": "The run was cancelled."})
    ]
    assert frames(stream, Done(**RUN)) == []


def test_a_model_s_event_comes_before_the_piece_of_its_message() -> None:
    # Clients that take both, such as CopilotKit's, take the words of whichever comes first.
    stream = Stream(["events", "messages-tuple"])
    told = frames(
        stream,
        LlmStart(message_id="m", **AT),
        Token(message_id="m", content="Hel", **AT),
        Token(message_id="m", content="lo", **AT),
        LlmEnd(message_id="m", **AT),
    )
    pieces = [name for name, _ in told[1:]]
    assert pieces == ["events", "messages"] * 2 + ["events", "events", "messages"]
    words = [data["data"]["chunk"]["content"] for name, data in told[1:5] if name == "events"]
    assert words == ["Hel", "lo"]


def test_what_a_tool_returned_to_a_model_is_a_message() -> None:
    stream = Stream(["events"])
    answered = ToolEnd(tool="pay", tool_call_id="c", output="paid", **AT)
    counted = ToolEnd(tool="pay", tool_call_id="d", output={"paid": 5}, **AT)
    alone = ToolEnd(tool="pay", output={"paid": 5}, **AT)
    told = [data["data"]["output"] for _, data in frames(stream, answered, counted, alone)]
    message = {"type": "tool", "name": "pay", "tool_call_id": "c", "status": "success"}
    assert told == [
        {**message, "content": "paid"},
        {**message, "tool_call_id": "d", "content": '{"paid":5}'},
        {"paid": 5},
    ]


def test_whoever_comes_back_misses_nothing() -> None:
    modes = ["messages", "messages-tuple", "updates", "custom", "tasks", "debug", "events"]
    assert replays(Stream(modes, subgraphs=True), entries_of(*every_event()))
