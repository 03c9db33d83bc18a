"""LangGraph's thread protocol: what is told of each event, and under which numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from assent.api.dialects.base import STATE, StateEntry
from assent.api.dialects.langgraph.channels import CHANNELS, PLACES, PLACES_OF_ENTRY, Subscription
from assent.api.dialects.langgraph.protocol import CUT_OFF, ThreadProtocol
from assent.core.events import (
    ApprovalEdited,
    ApprovalRequired,
    ApprovalVoted,
    Checkpoint,
    Custom,
    Done,
    ErrorInfo,
    Event,
    Interrupt,
    LlmEnd,
    LlmRetry,
    LlmStart,
    Media,
    NodeEnd,
    NodeStart,
    Reasoning,
    RunCancelled,
    RunPaused,
    RunRecovered,
    RunResumed,
    RunStart,
    StateUpdate,
    Token,
    ToolCall,
    ToolCallDelta,
    encode,
)
from assent.storage.base import LogEntry
from tests.support.folds import entries_of, every_event
from tests.support.thread_client import check

RUN = {"thread_id": "t", "run_id": "r"}
AT: dict[str, Any] = {**RUN, "node": "agent", "task_id": "k"}
INNER: dict[str, Any] = {**RUN, "node": "think", "task_id": "i", "ns": ("outer:o",)}
OUTER: dict[str, Any] = {**RUN, "node": "outer", "task_id": "o"}
ALL = frozenset(CHANNELS)


def told(entries: list[LogEntry], *, channels: Any = ALL, **fields: Any) -> list[Any]:
    """The events that somebody hears of these entries."""
    subscription = Subscription(id="s", channels=frozenset(channels), **fields)
    fold = ThreadProtocol([subscription]).fold()
    return [check(json.loads(frame.data)) for entry in entries for frame in fold(entry)]


def said(*events: Event, channels: Any = ALL, **fields: Any) -> list[Any]:
    """What is said of these events, without where and when."""
    heard = told(entries_of(*events), channels=channels, **fields)
    return [each["params"]["data"] for each in heard]


def with_state(entry: LogEntry, values: Any) -> LogEntry:
    """The checkpoint with its state."""
    body = StateEntry(event=Raw(entry.body), state=Raw(json.dumps({"values": values}).encode()))
    return LogEntry(entry.seq, STATE, entry.run_id, body.encoded())


def test_a_message_is_told_in_blocks() -> None:
    pieces = said(
        LlmStart(**AT, message_id="m", model="x-1", metadata={"ls_provider": "x"}),
        Reasoning(**AT, message_id="m", content="Hm."),
        Token(**AT, message_id="m", content="I ", index=1),
        Token(**AT, message_id="m", content="pay.", index=1),
        Media(**AT, message_id="m", media="image", url="https://example.com/a.png"),
        ToolCallDelta(**AT, message_id="m", tool_call_id="c", tool="pay", args='{"amount"'),
        ToolCallDelta(**AT, message_id="m", args=": 5}"),
        LlmEnd(
            **AT,
            message_id="m",
            finish_reason="tool_calls",
            tool_calls=(ToolCall(id="c", name="pay", args={"amount": 5}),),
        ),
        channels=["messages"],
    )
    assert pieces[0] == {
        "event": "message-start",
        "role": "ai",
        "id": "m",
        "metadata": {"run_id": "r", "thread_id": "t", "provider": "x", "model": "x-1"},
    }
    assert [each["content"] for each in pieces if each["event"] == "content-block-finish"] == [
        {"type": "reasoning", "reasoning": "Hm."},
        {"type": "image", "url": "https://example.com/a.png"},
        {"type": "text", "text": "I pay."},
        {"type": "tool_call", "id": "c", "name": "pay", "args": {"amount": 5}},
    ]
    deltas = [each["delta"] for each in pieces if each["event"] == "content-block-delta"]
    assert [each["type"] for each in deltas] == [
        *("reasoning-delta", "text-delta", "text-delta"),
        *("tool-call-delta", "tool-call-delta"),
    ]
    assert pieces[-1] == {"event": "message-finish", "metadata": {"finish_reason": "tool_calls"}}


def test_words_that_were_kept_from_streams_come_with_what_the_node_writes() -> None:
    kept = {"type": "ai", "id": "m", "content": "Kept."}
    tool = {"type": "tool", "id": "n", "content": "paid", "tool_call_id": "c"}
    events = [
        LlmStart(**AT, message_id="m"),
        LlmEnd(**AT, message_id="m"),
        StateUpdate(**AT, update={"messages": [kept, tool]}),
        StateUpdate(**AT, update={"messages": [kept]}),
    ]
    kinds = [each["event"] for each in said(*events, channels=["messages"])]
    assert kinds == [
        "message-start",
        "content-block-start",
        "content-block-finish",
        "message-finish",
    ]


@pytest.mark.parametrize(
    "cut",
    [
        RunRecovered(**RUN, attempt=2, message_ids=("m",)),
        LlmRetry(**AT, error=ErrorInfo("OSError"), message_ids=("m",)),
    ],
)
def test_a_message_that_was_cut_off_ends_empty_with_an_error(cut: Event) -> None:
    *_, words, call, last = said(
        LlmStart(**AT, message_id="m"),
        Token(**AT, message_id="m", content="I "),
        ToolCallDelta(**AT, message_id="m", index=0, tool_call_id="c", tool="pay", args='{"amo'),
        cut,
        channels=["messages"],
    )
    # Clients keep the blocks that they have.
    none = {"type": "text", "text": ""}
    assert words == {"event": "content-block-finish", "index": 0, "content": none}
    assert (call["index"], call["content"]["type"], call["content"]["args"]) == (
        1,
        "invalid_tool_call",
        "",
    )
    assert last == {"event": "error", "message": CUT_OFF, "code": "cut_off"}


def test_graphs_within_graphs_begin_and_end() -> None:
    events = [
        RunStart(**RUN, agent="a"),
        NodeStart(**OUTER),
        NodeStart(**INNER),
        NodeEnd(**INNER),
        NodeEnd(**OUTER),
        NodeStart(**{**INNER, "ns": ("outer:p", "deep:q")}),
        Done(**RUN),
    ]
    heard = told(entries_of(*events), channels=["lifecycle"])
    assert [(each["params"]["namespace"], each["params"]["data"]["event"]) for each in heard] == [
        ([], "running"),
        (["outer:o"], "started"),
        (["outer:o"], "completed"),
        (["outer:p"], "started"),
        (["outer:p", "deep:q"], "started"),
        (["outer:p", "deep:q"], "completed"),
        (["outer:p"], "completed"),
        ([], "completed"),
    ]
    near = told(entries_of(*events), channels=["lifecycle"], namespaces=[["outer"]], depth=0)
    assert {len(each["params"]["namespace"]) for each in near} == {1}
    exact = told(entries_of(*events), channels=["lifecycle"], namespaces=[["outer:p"]])
    assert {each["params"]["namespace"][0] for each in exact} == {"outer:p"}


def asked(amount: int) -> ApprovalRequired:
    return ApprovalRequired(**RUN, approval_id="a", tool="pay", args={"amount": amount})


def test_what_is_asked_is_asked_again_until_enough_have_agreed() -> None:
    approval: dict[str, Any] = {**RUN, "approval_id": "a", "tool": "pay"}
    events = [
        asked(5),
        Interrupt(**INNER, interrupt_id="i", value="Which?"),
        RunPaused(**RUN, approvals=("a", "b")),
        ApprovalVoted(**approval, decision="approve", by="ann"),
        ApprovalEdited(**approval, args={"amount": 6}),
        RunResumed(thread_id="t", run_id="s", agent="a", paused_run="r"),
    ]
    *requests, answered = said(*events, channels=["input"])
    questions, payments = requests[::2], requests[1::2]
    assert questions == [{"interrupt_id": "i", "payload": "Which?"}] * 3
    amounts = [each["payload"]["action_requests"][0]["args"]["amount"] for each in payments]
    assert amounts == [5, 5, 6]
    assert answered == {"interrupt_ids": ["i", payments[0]["interrupt_id"]]}


def test_what_grants_answer_at_once_is_not_asked() -> None:
    paused = RunPaused(**RUN, approvals=("a",), next_run="s")
    assert said(asked(5), paused, channels=["input", "lifecycle"]) == []


def test_what_was_dropped_is_asked_no_more() -> None:
    events = [asked(5), RunPaused(**RUN, approvals=("a",)), RunCancelled(**RUN)]
    request, dropped = said(*events, channels=["input"])
    assert dropped == {"interrupt_ids": [request["interrupt_id"]]}


def test_custom_events_are_found_by_their_names() -> None:
    events = [Custom(**AT, name="step", data=1), Custom(**AT, data=2)]
    assert said(*events, channels=["custom:step"]) == [{"payload": 1, "name": "step"}]
    assert said(*events, channels=["custom:other"]) == []
    assert len(said(*events, channels=["custom"])) == 2


def test_a_state_is_told_where_it_is_new_and_a_checkpoint_in_any_case() -> None:
    checkpoints = [
        Checkpoint(**RUN, checkpoint_id=id, source=source, step=step)
        for step, (id, source) in enumerate([("1", "input"), ("2", "loop"), ("3", "loop")])
    ]
    entries = entries_of(*checkpoints)
    states = [with_state(entry, {"x": min(n, 1)}) for n, entry in enumerate(entries)]
    heard = told(states, channels=["values", "checkpoints"])
    assert [each["method"] for each in heard] == ["checkpoints"] * 2 + ["values", "checkpoints"]
    # A state that was removed is left out, and moves no number.
    assert told(entries) == [each for each in heard if each["method"] == "checkpoints"]


def test_all_that_one_step_asks_and_says_is_told() -> None:
    ids = [f"i{number}" for number in range(1000)]
    said_at_once = [{"type": "ai", "id": id, "content": "Yes."} for id in ids]
    events = [
        StateUpdate(**AT, update={"messages": said_at_once}),
        *(Interrupt(**AT, interrupt_id=id, value="Which?") for id in ids),
        RunPaused(**RUN, approvals=()),
    ]
    heard = told(entries_of(*events))
    assert [each["seq"] for each in heard] == sorted({each["seq"] for each in heard})
    data = [each["params"]["data"] for each in heard]
    assert [each["interrupt_id"] for each in data if "interrupt_id" in each] == ids
    assert len([each for each in data if each.get("event") == "message-finish"]) == len(ids)


def test_an_event_has_its_number_whatever_else_is_heard_and_was_removed() -> None:
    events = [*every_event(), *every_event("s"), RunStart(**RUN, agent="a"), Done(**RUN)]
    entries = entries_of(*events)
    whole = {each["seq"]: each for each in told(entries)}
    assert [*whole] == sorted(whole)
    for channel in CHANNELS:
        alone = {each["seq"]: each for each in told(entries, channels=[channel])}
        assert alone.items() <= whole.items()
        assert {seq % PLACES_OF_ENTRY for seq in alone} <= {*PLACES[channel]}
    for since in [0, *whole]:
        rest = told(entries, after=since)
        assert [each["seq"] for each in rest] == [seq for seq in whole if seq > since]
    half = told(entries[len(entries) // 2 :])
    assert {each["seq"]: each["method"] for each in half}.items() <= {
        seq: each["method"] for seq, each in whole.items()
    }.items()
    assert told([LogEntry(0, "broadcast", "", encode(every_event()[-1]))]) == []
