"""The dialect of the AI SDK, without a server: each event as chunks that `useChat` takes."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from msgspec import structs

from assent.api.dialects.agui.stream import AgUi
from assent.api.dialects.vercel.stream import AT_REST, ENDS, Vercel
from assent.core.events import (
    ApprovalDecided,
    ApprovalEdited,
    ApprovalExpired,
    ApprovalRequired,
    ApprovalVoted,
    Broadcast,
    BudgetWarning,
    Custom,
    Done,
    Error,
    ErrorInfo,
    Event,
    LlmEnd,
    LlmError,
    LlmRetry,
    LlmStart,
    Media,
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
    ToolEnd,
    ToolError,
    ToolProgress,
    ToolStart,
)
from assent.storage.base import LogEntry
from tests.support.folds import entries_of, every_event, frames_of, replays
from tests.support.ui_messages import Message, check_chunk

PAY = ToolCall(id="c1", name="pay", args={"amount": 5})
FAILED = ErrorInfo(type="ValueError", message="It failed.")
START = RunStart(run_id="r", agent="agent", message="Pay 5.")


def chunks(entries: Sequence[LogEntry], *, behind: int = 0) -> list[Any]:
    frames = frames_of(Vercel("m", behind), entries)
    assert {frame.event for frame in frames} <= {""}
    return [json.loads(frame.data) for frame in frames]


def made(*events: Event) -> Message:
    """The message that the events make."""
    return Message().apply(chunks(entries_of(*events)))


def types(events: Iterable[Event]) -> list[str]:
    return [chunk["type"] for chunk in chunks(entries_of(*events))]


def writing(message_id: str = "m1", text: str = "On it.") -> list[Event]:
    return [LlmStart(message_id=message_id), Token(message_id=message_id, content=text)]


CALLED: tuple[Event, ...] = (
    START,
    *writing(),
    ToolCallDelta(message_id="m1", tool_call_id="c1", tool="pay"),
    ToolCallDelta(message_id="m1", args='{"amount"'),
    ToolCallDelta(message_id="m1", args=": 5}"),
    LlmEnd(message_id="m1", tool_calls=(PAY,)),
)
ASKED: tuple[Event, ...] = (
    *CALLED,
    ApprovalRequired(
        approval_id="a1", kind="tool", tool="pay", tool_call_id="c1", args=PAY.args, digest="d"
    ),
    RunPaused(run_id="r", approvals=("a1",)),
)


def test_every_event_makes_chunks_of_the_schema() -> None:
    for event in every_event():
        for chunk in chunks(entries_of(event)):
            check_chunk(chunk)


def test_whoever_comes_back_gets_the_rest() -> None:
    replays(Vercel("m"), entries_of(*ASKED, *CALLED[1:], Done()))


def test_a_turn_is_one_message() -> None:
    said = [
        START,
        LlmStart(message_id="m1"),
        Reasoning(message_id="m1", content="Hm"),
        Reasoning(message_id="m1", content="."),
        *CALLED[2:],
        ToolStart(tool="pay", tool_call_id="c1", input=PAY.args),
        ToolProgress(tool="pay", tool_call_id="c1", data="half"),
        ToolEnd(tool="pay", tool_call_id="c1", output="paid"),
        *writing("m2", "Paid."),
        LlmEnd(message_id="m2"),
        Done(run_id="r"),
    ]
    message = made(*said)
    kinds = [part["type"] for part in message.parts]
    assert kinds == ["step-start", "reasoning", "text", "tool-pay", "step-start", "text"]
    assert message.parts[3]["input"] == {"amount": 5}
    assert (message.id, message.text, message.finish) == ("m", "On it.Paid.", "stop")
    assert "tool-output-available" in types(said)


@pytest.mark.parametrize(
    "cut",
    [
        [LlmError(message_id="m1", error=FAILED), LlmRetry(error=FAILED, message_ids=("m1",))],
        [LlmRetry(error=FAILED, message_ids=("m1",))],
        [RunRecovered(run_id="r", attempt=2, message_ids=("m1",))],
    ],
)
def test_what_was_cut_off_is_taken_back(cut: list[Event]) -> None:
    message = made(*CALLED[:-1], *cut, *CALLED[1:], Done(run_id="r"))
    assert [part["type"] for part in message.parts] == ["step-start", "text", "tool-pay"]
    assert message.text == "On it."


def test_what_others_write_meanwhile_stays() -> None:
    message = made(
        START,
        *writing("m1", "One"),
        *writing("m2", "Two"),
        Custom(name="seen", data=3),
        LlmRetry(error=FAILED, message_ids=("m1",)),
        Token(message_id="m2", content="."),
        *writing("m1", "Once more."),
        LlmEnd(message_id="m1"),
        LlmEnd(message_id="m2"),
        Done(run_id="r"),
    )
    assert [part["type"] for part in message.parts] == ["step-start", "text", "data-seen", "text"]
    assert message.text == "Two.Once more."


def test_what_stays_of_a_step_is_told_again_in_short() -> None:
    beside = [
        ToolCallDelta(message_id="m2", tool_call_id="c2", tool="look"),
        *(ToolCallDelta(message_id="m2", args=each) for each in ("{", '"a": "\\u00e9', '\\n"}')),
        LlmEnd(message_id="m2", tool_calls=(ToolCall(id="c2", name="look", args={"a": "é\n"}),)),
        *(ToolProgress(tool="look", tool_call_id="c2", data=done) for done in range(100)),
    ]
    words = [Token(message_id="m2", content=each) for each in ('On "', "it\n", "é.")]
    began = [LlmStart(message_id="m1"), LlmStart(message_id="m2"), *words]
    cut = [Token(message_id="m1", content="Lost"), LlmError(message_id="m1", error=FAILED)]
    entries = entries_of(START, *began, *beside, *cut)
    assert Message().apply(chunks(entries)).json() == made(START, *began, *beside).json()
    told = chunks(entries)
    again = told[[each["type"] for each in told].index("reset-step") + 1 :]
    assert [each["type"] for each in again] == [
        *("text-start", "text-delta", "text-end"),
        *("tool-input-start", "tool-input-delta", "tool-input-available"),
        *("tool-output-available", "finish-step"),
    ]
    assert again[-2]["output"] == 99


def test_a_reader_holds_what_was_said_and_not_each_word() -> None:
    events = [
        START,
        LlmStart(message_id="m1"),
        *(Token(message_id="m1", content=f"word{n} ") for n in range(2000)),
        ToolCallDelta(message_id="m1", tool_call_id="c1", tool="look"),
        *(ToolCallDelta(message_id="m1", args=f"{n}, ") for n in range(2000)),
        *(ToolProgress(tool="look", tool_call_id="c1", data=n) for n in range(2000)),
    ]
    entries = entries_of(*events)
    for dialect in (Vercel("m"), AgUi("t", "r")):
        fold = dialect.fold()
        tracemalloc.start()
        for entry in entries:
            fold(entry)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 120_000, dialect.name


def test_who_goes_on_has_the_message_so_far() -> None:
    entries = entries_of(
        *ASKED,
        ApprovalDecided(
            run_id="r2", approval_id="a1", decision="edit", by="ann", args={"amount": 3}
        ),
        RunResumed(run_id="r2", agent="agent", approvals=("a1",), paused_run="r"),
        ToolStart(tool="pay", tool_call_id="c1", input={"amount": 3}),
        ToolEnd(tool="pay", tool_call_id="c1", output="paid"),
        Done(run_id="r2"),
    )
    before = Message().apply(chunks([*entries[: len(ASKED)], AT_REST]))
    assert before.finish == "tool-calls"
    rest = chunks(entries, behind=len(ASKED))
    assert rest[0] == {"type": "start", "messageId": "m"}
    whole = Message().apply(chunks(entries))
    assert Message(before.json()).apply(rest).json() == whole.json()
    (call,) = whole.calls
    assert (call["input"], call["state"]) == ({"amount": 3}, "output-available")
    assert call["approval"]["reason"] == "Approved with changes by ann."


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (
            ApprovalDecided(approval_id="a1", decision="reject", by="ann", message="No."),
            "Rejected by ann: No.",
        ),
        (ApprovalExpired(approval_id="a1"), "Nobody decided in time."),
    ],
)
def test_a_call_is_denied(ended: Event, reason: str) -> None:
    answer = {"type": "tool", "content": "It did not run.", "tool_call_id": "c1"}
    message = made(*ASKED, ended, StateUpdate(update={"messages": [answer]}))
    (call,) = message.calls
    assert (call["state"], call["approval"]["reason"]) == ("output-denied", reason)


def test_a_vote_says_who_is_still_needed_and_an_edit_asks_the_others() -> None:
    vote = ApprovalVoted(approval_id="a1", decision="approve", by="ann", votes=1, quorum=3)
    (call,) = made(*ASKED, vote).calls
    needed = "ann said approve. It takes 2 more people to say the same."
    assert (call["state"], call["approval"]["requestReason"]) == ("approval-requested", needed)
    assert call["approval"]["descriptor"]["digest"] == "d"

    edit = ApprovalEdited(approval_id="a1", args={"amount": 3}, digest="d3", by="ann")
    (call,) = made(*ASKED, edit).calls
    assert (call["state"], call["input"]) == ("approval-requested", {"amount": 3})
    assert call["approval"]["descriptor"]["digest"] == "d3"


def test_a_call_of_an_earlier_step_is_shown_anew_where_it_is_asked_with_other_arguments() -> None:
    beside = [*writing("m2", "Beside."), LlmEnd(message_id="m2")]
    asked = ASKED[len(CALLED) :]
    edits = [
        ApprovalEdited(approval_id="a1", args={"amount": n}, digest=f"d{n}", by="ann")
        for n in (3, 4)
    ]
    ends = [
        ToolEnd(tool="pay", tool_call_id="c1", output="paid 4"),
        StateUpdate(
            update={"messages": [{"type": "tool", "tool_call_id": "c1", "content": "paid 4"}]}
        ),
    ]
    for edited, amount in ((edits[:1], 3), (edits, 4)):
        message = made(*CALLED, *beside, *asked, *edited)
        (part,) = (each for each in message.calls if each["state"] == "approval-requested")
        assert (part["type"], part["input"]) == ("tool-pay", {"amount": amount})
        assert (part["approval"]["id"], part["approval"]["descriptor"]["digest"]) == (
            "a1",
            f"d{amount}",
        )
    approved = ApprovalDecided(approval_id="a1", decision="approve", by="bob", args={"amount": 4})
    first, last = made(*CALLED, *beside, *asked, *edits, approved, *ends).calls
    assert (first["state"], first["input"]) == ("output-denied", {"amount": 5})
    assert (last["state"], last["input"], last["output"]) == (
        "output-available",
        {"amount": 4},
        "paid 4",
    )
    assert last["approval"]["approved"] is True
    rejected = ApprovalDecided(approval_id="a1", decision="reject", by="bob")
    calls = made(*CALLED, *beside, *asked, *edits, rejected, ends[1]).calls
    assert [call["state"] for call in calls] == ["output-denied", "output-denied"]
    at_once = ApprovalDecided(approval_id="a1", decision="edit", by="bob", args={"amount": 4})
    *_, last = made(*CALLED, *beside, *asked, at_once, *ends).calls
    assert (last["state"], last["input"]) == ("output-available", {"amount": 4})
    replays(Vercel("m"), entries_of(*CALLED, *beside, *asked, *edits, approved, *ends))


def test_an_interrupt_of_a_middleware_asks_about_the_call_of_its_model() -> None:
    asked = ApprovalRequired(approval_id="a1", kind="tool", tool="pay", args=PAY.args)
    (call,) = made(*CALLED, asked).calls
    assert (call["toolCallId"], call["state"]) == ("c1", "approval-requested")
    other = structs.replace(asked, args={"amount": 6})
    first, second = made(*CALLED, other).calls
    assert (first["state"], second["type"]) == ("input-available", "dynamic-tool")


def test_messages_that_no_model_streamed_are_told_once() -> None:
    old = {"type": "ai", "id": "old", "content": "Before."}
    human = {"type": "human", "id": "h", "content": "Hm."}
    ai = {"type": "ai", "id": "m1", "content": "On it.", "tool_calls": []}
    inner = StateUpdate(ns=("sub:1",), update={"messages": [{**ai, "id": None}]})
    new = {"type": "ai", "id": None, "content": [{"type": "text", "text": "Then this."}]}
    message = made(
        *(START, *writing(), LlmEnd(message_id="m1"), inner),
        StateUpdate(update={"messages": [old, human, ai]}, task_id="t"),
        StateUpdate(update={"messages": new, "other": 5}, task_id="t"),
    )
    assert message.text == "On it.Then this."


def test_what_comes_beside_the_words() -> None:
    message = made(
        START,
        Custom(name="step", data={"at": 1}),
        Custom(data=2),
        BudgetWarning(scope="run", budget="cost", used=8, limit=10),
        Broadcast(message="Hello."),
        Media(message_id="m1", media="image", mime_type="image/png", url="https://a.example/b"),
        ToolStart(tool="look", tool_call_id="c9", input={"amount": 1}),
        ToolError(tool="look", tool_call_id="c9", error=FAILED),
    )
    kinds = [part["type"] for part in message.parts]
    assert kinds == ["data-step", "data-custom", "data-budget", "file", "tool-look"]
    assert message.calls[0]["errorText"] == "It failed."


def test_the_ends_of_a_turn() -> None:
    failed = made(START, *writing(), Error(run_id="r", code="x", message="Sorry."))
    assert (failed.error, failed.text) == ("Sorry.", "On it.")
    assert made(START, *writing(), RunCancelled(run_id="r", reason="Enough.")).aborted == "Enough."


def test_a_stream_that_ends_early_says_so() -> None:
    done = Vercel("m").end("done")
    assert done is not None
    assert done.data == b"[DONE]"
    for reason, text in ENDS.items():
        frame = Vercel("m").end(reason)
        assert frame is not None
        check_chunk(json.loads(frame.data))
        assert json.loads(frame.data)["errorText"] == text
