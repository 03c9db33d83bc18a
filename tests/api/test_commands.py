"""Commands as a WebSocket's client sends them: what is one, and what is refused with a sentence."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from assent.api.problems import EXPECTED, Asked, document
from assent.api.streams.commands import (
    Ack,
    Cancel,
    Command,
    Decide,
    Filter,
    Message,
    Ping,
    command_of,
    id_of,
    read_frame,
)
from assent.core.json import encode_json

KINDS = ["message", "decide", "cancel", "ack", "filter", "ping"]
ASKED = Asked(method="POST", path="/threads/t/ws", logged_as="", has_key=False, runs=None)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(
    st.sampled_from(
        ["id", "idempotency_key", "message", "input", "decisions", "run_id", "mode", "seq", "types"]
    )
    | st.text(),
    anything,
)
frames = st.builds(lambda rest, kind: {**rest, "type": kind}, fields, st.sampled_from(KINDS))


def command(**frame: Any) -> Command:
    return command_of(read_frame(json.dumps(frame)))


def refusal(**frame: Any) -> str:
    """The sentence that refuses the frame, which is a command."""
    text = json.dumps(frame)
    with pytest.raises(EXPECTED) as raised:
        command_of(read_frame(text))
    found = asyncio.run(document(raised.value, ASKED))
    assert found.status == 422
    return str(found.body["detail"])


@given(st.text() | st.builds(json.dumps, frames) | st.builds(json.dumps, anything))
@example("[" * 100_000)
@example('{"type": "ping", "id": "\\ud800"}')
@example('{"type": "\\ud800"}')
@example('{"type": "filter", "types": ["\\ud800"]}')
@example('{"type": "ack", "seq": ' + "9" * 5000 + "}")
def test_any_text_is_a_command_or_is_refused_with_a_sentence(text: str) -> None:
    frame: dict[str, Any] = {}
    try:
        frame = read_frame(text)
        command_of(frame)
    except EXPECTED as error:
        found = asyncio.run(document(error, ASKED))
        assert found.status in (400, 422)
        assert found.body["detail"].endswith("."), found.body
        # It can be told to the client, with the id of what it is about.
        encode_json({**found.body, "id": id_of(frame)})


@pytest.mark.parametrize(
    "text",
    [
        *("", "ping", "[]", "{}", '{"type": 3}', '{"type": "approve"}', '{"type": ["ping"]}'),
        *('{"type": "ping", "type": "ack"}', '{"type": "ping", "seq": NaN}'),
    ],
)
def test_a_text_without_a_known_command_is_no_frame(text: str) -> None:
    with pytest.raises(HTTPException):
        read_frame(text)


def test_each_command_is_read() -> None:
    assert isinstance(command(type="ping", id="c3"), Ping)
    assert command(type="ack", seq=57) == Ack(type="ack", seq=57)
    assert command(type="filter", types=None) == Filter(type="filter", types=None)
    done = command(type="filter", types=["done"])
    assert isinstance(done, Filter) and done.types == {"done"}
    assert command(type="cancel", mode="rollback") == Cancel(type="cancel", mode="rollback")


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ({"type": "ping", "id": ""}, "In the frame, 'id': "),
        ({"type": "ping", "id": "x" * 65}, "In the frame, 'id': "),
        ({"type": "ping", "id": 3}, "In the frame, 'id': "),
        ({"type": "ping", "seq": 3}, "In the frame, 'seq': there is no such field. "),
        ({"type": "ack"}, "In the frame, 'seq': it is missing. "),
        ({"type": "ack", "seq": "7"}, "In the frame, 'seq': "),
        ({"type": "ack", "seq": True}, "In the frame, 'seq': "),
        ({"type": "ack", "seq": -1}, "In the frame, 'seq': "),
        ({"type": "filter"}, "In the frame, 'types': it is missing. "),
        ({"type": "filter", "types": ["dnoe"]}, "There is no event type 'dnoe'. "),
        ({"type": "cancel", "mode": "kill"}, "In the frame, 'mode': "),
        ({"type": "cancel", "wait": True}, "In the frame, 'wait': there is no such field. "),
        ({"type": "cancel", "run_id": "../x"}, "In the frame, 'run_id': an id is 1 to 64 "),
        ({"type": "message", "thread_id": "u"}, "The frame: leave out 'thread_id': "),
        ({"type": "message", "message": "Hi.", "idempotency_key": ""}, "In the frame, 'idempot"),
        ({"type": "decide"}, "In the frame, 'decisions': it is missing. "),
        ({"type": "decide", "decisions": {}}, "In the frame, 'decisions"),
        ({"type": "decide", "decisions": "approve"}, "In the frame, 'decisions"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_refused(
    frame: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(**frame)


def test_decisions_stand_for_the_body_of_the_request() -> None:
    approve = {"type": "approve", "digest": "d"}
    for decisions, body in (
        ({"a1": approve}, {"decisions": {"a1": approve}}),
        (approve, approve),
        ({"type": "approve", "all": True}, {"type": "approve", "all": True}),
        # An id that is named like a field.
        ({"type": approve}, {"decisions": {"type": approve}}),
        ([approve], {"decisions": [approve]}),
    ):
        decide = command(type="decide", decisions=decisions, idempotency_key="k")
        assert isinstance(decide, Decide)
        assert decide.post("t") == ("/threads/t/resume", body, "k")


def test_a_message_stands_for_a_run_on_the_thread_with_its_fields_as_they_came() -> None:
    # One that no agent takes is refused as the request is.
    fields = {"message": "Hi.", "metadata": {}, "model_config": 1, "mesage": None}
    message = command(type="message", id="1", idempotency_key="k", **fields)
    assert isinstance(message, Message)
    assert message.post("t") == ("/agent/runs", {**fields, "thread_id": "t"}, "k")
    assert command(type="message", message="Hi.") == Message(type="message", message="Hi.")


def test_a_cancel_stands_for_that_of_the_thread_or_of_a_run() -> None:
    for fields, post in (
        ({}, ("/threads/t/cancel", {"mode": "interrupt"}, None)),
        ({"run_id": "r", "mode": "rollback"}, ("/runs/r/cancel", {"mode": "rollback"}, None)),
    ):
        cancel = command(type="cancel", **fields)
        assert isinstance(cancel, Cancel)
        assert cancel.post("t") == post


def test_only_an_id_that_can_be_repeated_is() -> None:
    assert id_of({"id": "c1"}) == "c1"
    for id in (None, "", "x" * 65, 3, "\ud800"):
        assert id_of({"id": id}) is None
    assert id_of({}) is None
