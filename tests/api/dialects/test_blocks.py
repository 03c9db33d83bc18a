"""The blocks of a model's messages: where each begins and ends."""

from collections.abc import Iterable

import pytest

from assent.api.dialects.blocks import Blocks, Change, Closed, Grown, Kind
from assent.core.events import LlmEnd, NodeEvent, Reasoning, Token, ToolCall, ToolCallDelta
from assent.core.json import JsonObject


def told(changes: Iterable[Change]) -> list[tuple[str, str, object]]:
    """Each change by its name, the id of its block, and what it says."""
    found: list[tuple[str, str, object]] = []
    for change in changes:
        more: object = change.block.kind.value
        if isinstance(change, Grown):
            more = change.text
        elif isinstance(change, Closed):
            more = "void" if change.is_void else change.args
        found.append((type(change).__name__, change.block.id, more))
    return found


def test_a_block_ends_where_one_of_another_kind_begins() -> None:
    blocks = Blocks()
    changes = [
        *blocks.reasoning(Reasoning(message_id="m", content="Hm", index=0)),
        *blocks.reasoning(Reasoning(message_id="m", content="m.", index=0)),
        *blocks.reasoning(Reasoning(message_id="m", content="So:", index=1)),
        *blocks.token(Token(message_id="m", content="Yes", index=2)),
        *blocks.token(Token(message_id="m", content="!", index=3)),
        *blocks.end(LlmEnd(message_id="m")),
    ]
    assert told(changes) == [
        ("Opened", "m-0", "reasoning"),
        ("Grown", "m-0", "Hm"),
        ("Grown", "m-0", "m."),
        ("Closed", "m-0", None),
        ("Opened", "m-1", "reasoning"),
        ("Grown", "m-1", "So:"),
        ("Closed", "m-1", None),
        ("Opened", "m-2", "text"),
        ("Grown", "m-2", "Yes"),
        ("Grown", "m-2", "!"),
        ("Closed", "m-2", None),
    ]
    # Nothing is open any more.
    assert [*blocks.close()] == []


def test_calls_are_open_side_by_side_until_the_message_is_complete() -> None:
    blocks = Blocks()
    pieces = [
        ToolCallDelta(message_id="m", index=0, tool_call_id="a", tool="search", args='{"q":'),
        ToolCallDelta(message_id="m", index=1, tool_call_id="b", tool="send"),
        ToolCallDelta(message_id="m", index=0, args='"x"}'),
        # It belongs to a call whose beginning never came.
        ToolCallDelta(message_id="m", index=7, args="{}"),
    ]
    calls = (
        ToolCall("a", "search", {"q": "x"}),
        ToolCall("c", "wait", {"s": 1}),
    )
    changes = [
        *blocks.token(Token(message_id="m", content="Well")),
        *(change for piece in pieces for change in blocks.call(piece)),
        *blocks.end(LlmEnd(message_id="m", tool_calls=calls)),
    ]
    assert told(changes) == [
        ("Opened", "m-0", "text"),
        ("Grown", "m-0", "Well"),
        ("Closed", "m-0", None),
        ("Opened", "a", "call"),
        ("Grown", "a", '{"q":'),
        ("Opened", "b", "call"),
        ("Grown", "a", '"x"}'),
        ("Closed", "a", {"q": "x"}),
        # Its arguments are no JSON, so the message has no such call.
        ("Closed", "b", None),
        ("Opened", "c", "call"),
        ("Grown", "c", '{"s":1}'),
        ("Closed", "c", {"s": 1}),
    ]


def test_what_was_cut_off_is_void_and_may_be_told_anew() -> None:
    blocks = Blocks()
    piece = ToolCallDelta(message_id="m", tool_call_id="a", tool="search", args="{")
    first = [*blocks.token(Token(message_id="m", content="We")), *blocks.call(piece)]
    assert told(blocks.void(["m", "n"])) == [("Closed", "a", "void")]
    again = [*blocks.token(Token(message_id="m", content="We")), *blocks.call(piece)]
    assert again == first
    # A process that ends cuts off nothing.
    assert told(blocks.close()) == [("Closed", "a", None)]


@pytest.mark.parametrize(
    "content",
    ["Hi", [{"type": "text", "text": "Hi"}], [{"type": "image", "url": "x"}, "Hi"]],
)
def test_a_message_that_came_whole_is_told_once(content: object) -> None:
    call = {"name": "search", "args": {"q": "x"}, "id": "a", "type": "tool_call"}
    message: JsonObject = {"id": "m", "type": "ai", "content": content, "tool_calls": [call]}
    blocks = Blocks()
    event = NodeEvent(ns=("outer:1",))
    changes = [*blocks.whole(event, message)]
    assert told(changes) == [
        ("Opened", "m-0", "text"),
        ("Grown", "m-0", "Hi"),
        ("Closed", "m-0", None),
        ("Opened", "a", "call"),
        ("Grown", "a", '{"q":"x"}'),
        ("Closed", "a", {"q": "x"}),
    ]
    assert {change.block.ns for change in changes} == {("outer:1",)}
    assert [*blocks.whole(event, message)] == []


def test_pieces_and_the_whole_message_are_told_once() -> None:
    blocks = Blocks()
    thought = {"type": "thinking", "thinking": "Hm"}
    message: JsonObject = {"id": "m", "type": "ai", "content": [thought, "Hi"], "tool_calls": []}
    (opened, *_) = blocks.token(Token(message_id="m", content="Hi"))
    assert opened.block.kind is Kind.TEXT
    assert told(blocks.whole(NodeEvent(), message)) == [("Closed", "m-0", None)]
    assert [*blocks.end(LlmEnd(message_id="m"))] == []
