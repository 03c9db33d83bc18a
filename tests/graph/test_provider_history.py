"""The history that a provider gets: always one that it accepts, whatever order a conversation came
in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call

from assent.graph.provider_history import RESULT_UNKNOWN, call_ids, provider_history
from tests.support.models import lc_history_problems

# Few ids, so that they meet: within a message, across turns, and with answers to nothing. Some
# providers give none.
IDS = st.sampled_from(["a", "b", "c", "d", "", None])
TEXT = st.sampled_from(["", "Hi", "approved"])
CALLS = st.builds(
    tool_call,
    name=st.sampled_from(["pay", "look"]),
    args=st.sampled_from([{}, {"amount": 3}]),
    id=IDS,
)
BAD_CALLS = st.builds(
    invalid_tool_call,
    name=st.sampled_from(["pay", None]),
    args=st.sampled_from(['{"amount": ', None]),
    id=IDS,
    error=st.none(),
)
AI = st.builds(
    AIMessage,
    content=TEXT,
    tool_calls=st.lists(CALLS, max_size=3),
    invalid_tool_calls=st.lists(BAD_CALLS, max_size=2),
)
ANSWERS = st.builds(
    ToolMessage, content=TEXT, tool_call_id=st.sampled_from(["a", "b", "c", "d", ""])
)
CONVERSATIONS = st.lists(
    st.one_of(st.builds(HumanMessage, content=TEXT), AI, ANSWERS), min_size=1, max_size=12
)


def spoken(messages: list[AnyMessage]) -> list[tuple[str, str]]:
    """What people and models said, in order."""
    return [
        (message.type, str(message.content))
        for message in messages
        if not isinstance(message, ToolMessage)
    ]


@pytest.mark.slow
@settings(max_examples=400)
@given(CONVERSATIONS)
def test_any_conversation_becomes_one_that_a_provider_accepts(
    conversation: list[AnyMessage],
) -> None:
    before = [message.model_dump() for message in conversation]
    history = provider_history(conversation)

    # The rule does not know an empty conversation; one of stray answers only becomes that.
    assert lc_history_problems([HumanMessage("Hi"), *history]) == []
    assert spoken(history) == spoken(conversation)
    assert [message.model_dump() for message in conversation] == before
    for message in history:
        # Nothing is invented but the stand-ins for answers that are missing.
        if isinstance(message, ToolMessage) and message.content != RESULT_UNKNOWN:
            assert any(message is said for said in conversation)


@settings(max_examples=200)
@given(CONVERSATIONS)
def test_it_changes_nothing_more_the_second_time(conversation: list[AnyMessage]) -> None:
    once = provider_history(conversation)
    assert provider_history(once) == once


@settings(max_examples=100)
@given(st.permutations(["a", "b", "c"]), st.integers(0, 3))
def test_each_call_gets_its_own_answer_in_whatever_order_they_came(
    order: list[str], spoken_after: int
) -> None:
    answers: list[AnyMessage] = [ToolMessage(f"answer {id_}", tool_call_id=id_) for id_ in order]
    turn = AIMessage("", tool_calls=[tool_call(name="pay", args={}, id=id_) for id_ in "abc"])
    history = provider_history(
        [
            HumanMessage("Pay."),
            turn,
            *answers[:spoken_after],
            HumanMessage("Well?"),
            *answers[spoken_after:],
        ]
    )
    assert [message.text for message in history] == [
        "Pay.",
        "",
        "answer a",
        "answer b",
        "answer c",
        "Well?",
    ]


def asking(*ids: Any) -> AIMessage:
    return AIMessage("", tool_calls=[tool_call(name="pay", args={}, id=id_) for id_ in ids])


def test_an_answer_that_is_missing_is_said_to_be_unknown_not_done() -> None:
    history = provider_history(
        [HumanMessage("Pay."), asking("a", "b"), ToolMessage("Paid.", tool_call_id="b")]
    )
    stand_in = history[2]
    assert isinstance(stand_in, ToolMessage)
    assert (stand_in.text, stand_in.status, stand_in.tool_call_id) == (RESULT_UNKNOWN, "error", "a")


def test_an_id_that_is_used_again_is_answered_for_each_turn() -> None:
    first, second = ToolMessage("one", tool_call_id="a"), ToolMessage("two", tool_call_id="a")
    history = provider_history(
        [
            HumanMessage("Pay."),
            asking("a"),
            first,
            asking("a"),
            second,
            ToolMessage("three", tool_call_id="a"),
        ]
    )
    assert [message.text for message in history] == ["Pay.", "", "one", "", "two"]


def test_a_call_whose_arguments_are_not_json_goes_out_as_json() -> None:
    bad = AIMessage(
        "",
        invalid_tool_calls=[invalid_tool_call(name="pay", args='{"amount": ', id="a", error=None)],
    )
    sent = provider_history(
        [
            SystemMessage("Be brief."),
            HumanMessage("Pay."),
            bad,
            ToolMessage("It did not run.", tool_call_id="a"),
        ]
    )[2]
    assert isinstance(sent, AIMessage)
    assert [(call["id"], call["args"]) for call in sent.tool_calls] == [
        ("a", {"not_json": '{"amount": '})
    ]
    assert sent.invalid_tool_calls == []


def test_of_two_calls_under_one_id_the_first_is_sent() -> None:
    bad = invalid_tool_call(name="pay", args="{", id="a", error=None)
    message = AIMessage(
        "",
        tool_calls=[
            tool_call(name="look", args={}, id="a"),
            tool_call(name="pay", args={}, id=None),
        ],
        invalid_tool_calls=[bad],
    )
    sent = provider_history([HumanMessage("Pay."), message])[1]
    assert isinstance(sent, AIMessage)
    assert [call["name"] for call in sent.tool_calls] == ["look"]
    assert list(call_ids(sent)) == ["a"]
