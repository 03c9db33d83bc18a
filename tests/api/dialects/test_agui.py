"""AG-UI's dialect: the events of a run, each as the models of ag-ui-protocol have it, in an order
that the client's verifier takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Raw, structs

from assent.api.dialects.agui.inputs import graph_input
from assent.api.dialects.agui.interrupts import still_needed
from assent.api.dialects.agui.messages import agui_messages, sent_messages
from assent.api.dialects.agui.stream import ENDS, TYPES, AgUi
from assent.api.dialects.base import STATE, StateEntry
from assent.core.approval import Approval, ApprovalKind, Vote
from assent.core.decisions import Approve
from assent.core.events import (
    EVENT_TYPES,
    ApprovalRequired,
    BudgetWarning,
    Checkpoint,
    Custom,
    Done,
    Error,
    ErrorInfo,
    Event,
    LlmEnd,
    LlmRetry,
    NodeEnd,
    NodeError,
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
    Usage,
    encode,
)
from assent.core.policy import Policy
from assent.storage.base import LogEntry
from tests.support.agui import Conversation, Told, in_order, types_in
from tests.support.folds import entries_of, every_event, frames_of, replays

RUN = {"thread_id": "t", "run_id": "r"}
AT = {**RUN, "node": "model", "task_id": "k"}
START = RunStart(**RUN, agent="a")
DONE = Done(**RUN)
INNER = ("outer:1", "inner:2")


def told(*given: Event | LogEntry, dialect: AgUi | None = None) -> list[Told]:
    """What is told of a whole run, whose events are valid and in order."""
    entries = [
        structs.replace(each, seq=seq) if isinstance(each, LogEntry) else _entry(each, seq)
        for seq, each in enumerate(given, 1)
    ]
    frames = frames_of(dialect or AgUi("t", "theirs"), entries)
    return in_order(frame.data for frame in frames)


def _entry(event: Event, seq: int) -> LogEntry:
    (entry,) = entries_of(event)
    return structs.replace(entry, seq=seq)


def state(values: Any) -> LogEntry:
    """The state that a run leaves."""
    event = encode(Checkpoint(**RUN, checkpoint_id="c1", source="loop"))
    body = StateEntry(event=Raw(event), state=Raw(json.dumps({"values": values}).encode()))
    return LogEntry(1, STATE, "r", body.encoded())


def asking(approval_id: str = "apr_1", **fields: Any) -> ApprovalRequired:
    given = {"kind": "tool", "tool": "pay", "tool_call_id": "c", "args": {"n": 1}, "digest": "d"}
    allowed = ("approve", "edit", "reject")
    return ApprovalRequired(
        **{**RUN, "approval_id": approval_id, "allowed": allowed, **given, **fields}
    )


def paused(*approvals: str, **fields: Any) -> RunPaused:
    return RunPaused(**RUN, approvals=approvals or ("apr_1",), **fields)


# ── messages ──────────────────────────────────────────────────────────────────────────────────────


def test_reasoning_text_and_calls_are_messages_of_their_own() -> None:
    events = told(
        START,
        NodeStart(**AT, step=1),
        Reasoning(**AT, message_id="m", content="Hm"),
        Reasoning(**AT, message_id="m", content="m."),
        Token(**AT, message_id="m", content='Say "hi"\n'),
        ToolCallDelta(**AT, message_id="m", tool_call_id="c", tool="pay", args='{"n":'),
        ToolCallDelta(**AT, message_id="m", args=" 1}"),
        LlmEnd(**AT, message_id="m", tool_calls=(ToolCall("c", "pay", {"n": 1}),)),
        NodeEnd(**AT, step=1),
        StateUpdate(
            **AT,
            update={
                "messages": [
                    {"type": "ai", "id": "m", "content": "…", "tool_calls": []},
                    {"type": "tool", "id": None, "content": "paid", "tool_call_id": "c"},
                    {"type": "tool", "id": "t1", "content": "paid", "tool_call_id": "c"},
                ]
            },
        ),
        Done(**RUN, usage=Usage(input_tokens=3, output_tokens=4, total_tokens=7)),
    )
    assert types_in(events) == [
        "RUN_STARTED",
        "STEP_STARTED",
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "STEP_FINISHED",
        "TOOL_CALL_RESULT",
        "RUN_FINISHED",
    ]
    client = Conversation()
    for event in events:
        client.take(event)
    assert client.texts == [("reasoning", "Hmm."), ("assistant", 'Say "hi"\n'), ("tool", "paid")]
    (call,) = client.messages[1]["toolCalls"]
    assert json.loads(call["function"]["arguments"]) == {"n": 1}
    (usage,) = events[-1]["usage"]
    assert (usage["inputTokens"], usage["outputTokens"], usage["totalTokens"]) == (3, 4, 7)


@pytest.mark.parametrize(
    "again",
    [
        LlmRetry(**AT, error=ErrorInfo("Timeout"), message_ids=("m",)),
        RunRecovered(**RUN, attempt=2, message_ids=("m",)),
    ],
)
def test_a_message_that_was_cut_off_is_taken_back(again: Event) -> None:
    theirs = [{"id": "u", "role": "user", "content": "Hi"}, {"id": "x", "role": "reasoning"}]
    events = told(
        START,
        Token(**AT, message_id="l", content="First."),
        LlmEnd(**AT, message_id="l"),
        Token(**AT, message_id="m", content="Half"),
        again,
        Token(**AT, message_id="n", content="Whole"),
        DONE,
        dialect=AgUi("t", "theirs", messages=theirs),
    )
    (snapshot,) = [each for each in events if each["type"] == "MESSAGES_SNAPSHOT"]
    assert [message["id"] for message in snapshot["messages"]] == ["u", "l"]
    client = Conversation()
    client.messages = [theirs[0]]
    for event in events:
        client.take(event)
    assert client.texts == [("user", "Hi"), ("assistant", "First."), ("assistant", "Whole")]


def test_what_the_client_has_is_not_told_again() -> None:
    call = {"id": "c", "name": "pay", "args": {"n": 2}}
    events = told(
        RunResumed(**RUN, agent="a"),
        Token(**AT, message_id="m", content="More"),
        StateUpdate(
            **AT,
            update={
                "messages": [
                    {"type": "human", "id": "u", "content": "Hi"},
                    {"type": "ai", "id": "m", "content": "Yes.", "tool_calls": [call]},
                    {"type": "human", "id": "v", "content": "Go on."},
                ]
            },
        ),
        DONE,
        dialect=AgUi(
            "t",
            "theirs",
            messages=[
                {"id": "u", "role": "user", "content": "Hi"},
                {"id": "m", "role": "assistant", "content": "Yes."},
            ],
        ),
    )
    assert [each.get("messageId") for each in events[1:-1]] == ["v"] * 3
    assert events[1]["role"] == "user"


# ── the end ───────────────────────────────────────────────────────────────────────────────────────


def test_a_pause_ends_the_run_with_an_interrupt_for_each_approval() -> None:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    events = told(
        START,
        NodeStart(**AT, step=1),
        Token(**AT, message_id="m", content="Well"),
        asking(expires_at=until, preview={"description": "Pays one."}),
        asking(
            "apr_2",
            kind="input",
            tool="",
            tool_call_id="",
            args="Which?",
            schema={"type": "string"},
        ),
        asking(
            "apr_3", kind="node", tool="", tool_call_id="", node="publish", allowed=("approve",)
        ),
        asking("apr_0"),
        state({"messages": [], "n": 1}),
        paused("apr_1", "apr_2", "apr_3"),
    )
    assert types_in(events)[-6:] == [
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "STATE_SNAPSHOT",
        "MESSAGES_SNAPSHOT",
        "STEP_FINISHED",
        "RUN_FINISHED",
    ]
    first, second, third = events[-1]["outcome"]["interrupts"]
    assert (first["id"], first["reason"], first["toolCallId"]) == ("apr_1", "tool_call", "c")
    assert (first["message"], first["expiresAt"]) == ("Pays one.", "2030-01-01T00:00:00Z")
    assert set(first["responseSchema"]["properties"]) == {
        "approved",
        "reason",
        "digest",
        "editedArgs",
    }
    assert (second["reason"], second["message"]) == ("input_required", "Which?")
    assert second["responseSchema"] == {"type": "string"}
    assert (third["reason"], third["message"]) == (
        "confirmation",
        "May the run go on at 'publish'?",
    )
    assert "editedArgs" not in third["responseSchema"]["properties"]


def test_what_standing_grants_answer_ends_no_run() -> None:
    inner = {**RUN, "node": "inner", "task_id": "i", "ns": ("outer:1",)}
    outer = {**RUN, "node": "outer", "task_id": "1"}
    events = told(
        START,
        NodeStart(**outer, step=1),
        NodeStart(**inner, step=1),
        asking(),
        paused(next_run="r2"),
        RunResumed(**{**RUN, "run_id": "r2"}, agent="a"),
        NodeStart(**outer, step=1),
        NodeStart(**inner, step=1),
        NodeEnd(**inner, step=1),
        NodeEnd(**outer, step=1),
        DONE,
    )
    assert types_in(events) == [
        "RUN_STARTED",
        "STEP_STARTED",
        "SUBAGENT_STARTED",
        "STEP_STARTED",
        "STEP_FINISHED",
        "SUBAGENT_FINISHED",
        "STEP_FINISHED",
        "RUN_FINISHED",
    ]


@pytest.mark.parametrize(
    ("end", "last"),
    [
        (RunCancelled(**RUN), {"type": "cancelled"}),
        (DONE, {"type": "success"}),
        (Error(**RUN, code="failed", message="It failed."), None),
    ],
)
def test_everything_that_is_open_is_closed_before_the_end(end: Event, last: Told | None) -> None:
    inner = {**AT, "ns": ("outer:1",)}
    events = told(
        START,
        NodeStart(**AT, step=1),
        NodeStart(**inner, step=1),
        Token(**inner, message_id="m", content="Half"),
        ToolCallDelta(**AT, message_id="n", tool_call_id="c", tool="pay"),
        Reasoning(**AT, message_id="o", content="Hm"),
        end,
    )
    assert events[-1].get("outcome") == last
    if last is None:
        assert (events[-1]["code"], events[-1]["message"]) == ("failed", "It failed.")


# ── subagents ─────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_that_ends_early_ends_its_run_for_the_client() -> None:
    entry = _entry(START, 1)
    for reason in ENDS:
        dialect = AgUi("t", "theirs")
        last = dialect.end(reason)
        assert last is not None
        frames = [*dialect.fold()(entry), last]
        *_, error = in_order(frame.data for frame in frames)
        assert error["message"] == ENDS[reason]
    assert AgUi("t", "theirs").end("done") is None


def test_a_subgraph_is_a_subagent_that_is_suspended_where_it_asks() -> None:
    events = told(
        START,
        NodeStart(**{**RUN, "node": "outer", "task_id": "1"}, step=1),
        Token(**{**AT, "ns": INNER}, message_id="m", content="Inside"),
        LlmEnd(**{**AT, "ns": INNER}, message_id="m"),
        asking(node="outer|inner|tools"),
        state({"messages": [{"type": "human", "id": "u", "content": "Hi"}]}),
        paused(),
    )
    begun = [each for each in events if each["type"] == "SUBAGENT_STARTED"]
    assert [(each["subagentRunId"], each["name"]) for each in begun] == [
        ("outer:1", "outer"),
        ("outer:1|inner:2", "inner"),
    ]
    assert begun[1]["parentSubagentRunId"] == "outer:1"
    ended = [each for each in events if each["type"] == "SUBAGENT_FINISHED"]
    suspended = {"type": "suspended", "interruptIds": ["apr_1"]}
    assert [(each["subagentRunId"], each["outcome"]) for each in ended] == [
        ("outer:1|inner:2", suspended),
        ("outer:1", suspended),
    ]
    (interrupt,) = events[-1]["outcome"]["interrupts"]
    assert interrupt["subagentRunId"] == "outer:1|inner:2"
    # The message is not in the agent's own state, and stays.
    (snapshot,) = [each for each in events if each["type"] == "MESSAGES_SNAPSHOT"]
    assert [each["id"] for each in snapshot["messages"]] == ["u", "m"]
    assert snapshot["messages"][1]["subagentRunId"] == "outer:1|inner:2"


def test_a_subagent_that_failed_and_was_tried_again_is_one() -> None:
    outer = {**RUN, "node": "outer", "task_id": "1"}
    inner = {**AT, "ns": ("outer:1",)}
    failed = NodeError(**outer, error=ErrorInfo("ValueError", "It failed."))
    begin = (
        START,
        NodeStart(**outer, step=1),
        NodeStart(**inner, step=1),
        NodeEnd(**inner),
        failed,
    )
    again = (NodeStart(**outer, step=1), NodeStart(**inner, step=1), NodeEnd(**inner))
    ended = ("SUBAGENT_STARTED", "SUBAGENT_FINISHED", "SUBAGENT_ERROR")

    def of_subagents(*events: Event) -> list[Told]:
        return [each for each in told(*events) if each["type"] in ended]

    tried = of_subagents(*begin, *again, NodeEnd(**outer, step=1), DONE)
    assert types_in(tried) == ["SUBAGENT_STARTED", "SUBAGENT_FINISHED"]
    _, error = of_subagents(*begin, DONE)
    assert (error["type"], error["message"]) == ("SUBAGENT_ERROR", "It failed.")


# ── all events ────────────────────────────────────────────────────────────────────────────────────


def test_what_else_happens_is_custom() -> None:
    events = told(
        START,
        Custom(**AT, name="mine", data=None),
        Custom(**{**AT, "ns": ("outer:1",)}, data={"n": 1}),
        BudgetWarning(**RUN, scope="run", budget="tokens", used=8, limit=10),
        DONE,
    )
    named = {each["name"]: each["value"] for each in events if each["type"] == "CUSTOM"}
    assert named["mine"] is None and named["custom"] == {"n": 1}
    assert named["budget_warning"] == {"scope": "run", "budget": "tokens", "used": 8, "limit": 10}


def test_every_event_is_told_alike_each_time() -> None:
    assert set(EVENT_TYPES) >= TYPES
    events = every_event()
    ends = (Done, Error, RunPaused, RunCancelled)
    body = [each for each in events if not isinstance(each, ends)]
    for last in events:
        if isinstance(last, ends):
            frames = replays(AgUi("t", "theirs"), entries_of(*body, last))
            in_order(frame.data for frame in frames)


# ── inputs ────────────────────────────────────────────────────────────────────────────────────────


def test_messages_of_every_kind_are_read_and_written() -> None:
    picture = {
        "type": "image",
        "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"},
    }
    paper = {"type": "document", "source": {"type": "url", "value": "https://x.example/a"}}
    user = {"id": "u", "role": "user", "content": [{"type": "text", "text": "See"}, picture, paper]}
    failed = {"id": "c-result", "role": "tool", "toolCallId": "c", "content": "no", "error": "no"}
    sent = sent_messages([user, failed], known=())
    assert sent.new[0]["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
        {"type": "file", "url": "https://x.example/a"},
    ]
    assert (sent.new[1]["tool_call_id"], sent.new[1]["status"]) == ("c", "error")
    types = {"user": "human", "tool": "tool"}
    written = [{**message, "type": types[message["role"]]} for message in sent.new]
    assert agui_messages(written) == [user, failed]


def test_new_messages_are_those_behind_the_last_one_that_is_known() -> None:
    def user(id: str, **fields: str) -> Told:
        return {"id": id, "role": "user", "content": id, **fields}

    theirs = [
        user("gone"),
        user("known"),
        {"id": "think", "role": "reasoning", "content": "Hm"},
        user("inside", subagentRunId="s"),
        {"id": "call", "role": "assistant", "toolCalls": []},
        user("new"),
    ]
    sent = sent_messages(theirs, known={"known"})
    assert [message["id"] for message in sent.new] == ["new"]
    assert [message["id"] for message in sent.kept] == ["gone", "inside", "call"]


def test_of_the_state_is_taken_what_the_graph_takes_and_the_client_changed() -> None:
    given = {"topic": "b", "notes": ["x"], "messages": [1], "secret": 1}

    def taken(**fields: Any) -> Told:
        return graph_input(
            fields.pop("new", []),
            given,
            values={"topic": "a", "notes": ["x"]},
            fields=fields.pop("fields", {"topic", "notes", "messages"}),
            messages_keys={"messages"},
            **fields,
        )

    assert taken() == {"topic": "b"}
    assert taken(new=[{"id": "u"}]) == {"topic": "b", "messages": [{"id": "u"}]}
    # Tools and context go where AG-UI's own agents look for them, and run nothing by themselves.
    tools = [{"name": "f", "description": "F"}]
    assert taken(fields={"messages", "ag-ui"}, tools=tools) == {}
    beside = taken(fields={"topic", "ag-ui"}, tools=tools)
    assert beside == {"topic": "b", "ag-ui": {"tools": tools, "context": []}}


def test_a_decision_that_is_not_enough_says_who_is_still_needed() -> None:
    asked = datetime(2030, 1, 1, tzinfo=UTC)
    approval = Approval(
        approval_id="apr_1",
        thread_id="t",
        kind=ApprovalKind.TOOL,
        digest="d",
        allowed=("approve",),
        requested_at=asked,
    )
    assert still_needed(approval) == ""
    policy = Policy(roles=frozenset({"lead"}), quorum=3)
    strict = structs.replace(approval, policy=policy)
    assert still_needed(strict) == "It takes 3 of the role lead."
    vote = Vote(by="ann", decision=Approve(), digest="d", at=asked, voting_right="ann")
    voted = structs.replace(strict, votes=(vote,))
    assert still_needed(voted) == "ann agreed, and it takes 2 more of the role lead."
