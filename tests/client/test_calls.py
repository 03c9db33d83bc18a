"""Requests and their answers as values: nothing is sent that was not meant, and a newer server's
answers are read."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from assent.client import calls, commands
from assent.client.calls import Again, Decisions
from assent.client.following import Selection
from assent.client.problems import ServerFailed
from assent.client.values import Heard, Outcome, ShownApproval, Thread, UnknownEvent
from assent.core.decisions import Approve, Edit, Reject
from assent.core.errors import InvalidRequest
from assent.core.events import Token

SHOWN = ShownApproval.of({"approval_id": "apr_1", "digest": "d1", "risk": "low"})


def body(call: calls.Call[Any]) -> Any:
    return json.loads(call.body or b"null")


def test_a_decision_carries_the_digest_of_what_was_shown_and_its_key() -> None:
    call = calls.decide(SHOWN, Edit(args={"a": 1}), "k")
    assert (call.method, call.path) == ("POST", "/approvals/apr_1/decide")
    assert body(call) == {"type": "edit", "args": {"a": 1}, "digest": "d1"}
    assert call.headers[calls.KEY] == "k"
    assert call.again is Again.DECIDING


def test_a_decision_on_an_id_is_refused_here() -> None:
    with pytest.raises(TypeError, match=r"on an approval that was shown, not on 'apr_1'"):
        calls.decide("apr_1", Approve(), "k")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"approvals\.get"):
        calls.decide_several([("apr_1", Approve())], "k")  # type: ignore[list-item]


@pytest.mark.parametrize("decision", [None, "approve", {"type": "approve"}])
def test_what_is_no_decision_is_refused_here(decision: Any) -> None:
    with pytest.raises(TypeError, match=r"is no decision: give Approve\(\)"):
        calls.decide(SHOWN, decision, "k")


def test_several_decisions_carry_each_its_digest() -> None:
    call = calls.decide_several([(SHOWN, Approve())], "k")
    assert body(call) == {"decisions": {"apr_1": {"type": "approve", "digest": "d1"}}}


@pytest.mark.parametrize(
    ("decisions", "digests", "sent"),
    [
        (Approve(), None, {"type": "approve"}),
        (
            {"a": Reject(message="no"), "b": {"type": "approve"}},
            {"a": "d"},
            {"decisions": {"a": {"type": "reject", "message": "no", "digest": "d"}, "b": {"type": "approve"}}},
        ),
        ({"decisions": {"a": {"type": "approve"}}}, None, {"decisions": {"a": {"type": "approve"}}}),
        ({"type": "approve", "all": True}, None, {"type": "approve", "all": True}),
        ([{"type": "accept"}], None, [{"type": "accept"}]),
    ],
)  # fmt: skip
def test_decisions_in_every_form(
    decisions: Decisions, digests: dict[str, str] | None, sent: Any
) -> None:
    assert body(calls.resume_thread("t", decisions, digests, "k")) == sent
    assert body(calls.stream_answer("t", decisions, digests, "k")) == sent


def test_digests_are_given_to_a_copy_and_only_where_there_is_a_decision() -> None:
    mine = {"decisions": {"a": {"type": "approve"}}}
    calls.resume_thread("t", mine, {"a": "d"}, "k")
    assert mine == {"decisions": {"a": {"type": "approve"}}}
    for decisions in (Approve(), {"b": Approve()}, [{"type": "accept"}]):
        with pytest.raises(InvalidRequest, match="a digest for 'a', and no decision by that id"):
            calls.resume_thread("t", decisions, {"a": "d"}, "k")


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_an_id_that_would_lead_elsewhere_is_refused(id: str) -> None:
    with pytest.raises(InvalidRequest, match="is no id"):
        calls.get_thread(id)


def test_an_id_is_one_part_of_the_path() -> None:
    assert calls.get_thread("a/../b?c").path == "/threads/a%2F..%2Fb%3Fc"


def test_a_number_that_json_does_not_have_is_not_sent_as_null() -> None:
    with pytest.raises(InvalidRequest, match="The body is no JSON"):
        calls.decide(SHOWN, Edit(args={"a": math.nan}), "k")


def test_words_of_any_language_take_no_more_bytes_than_in_utf_8() -> None:
    assert calls.body_of({"message": "5 €"}) == '{"message": "5 €"}'.encode()
    with pytest.raises(InvalidRequest, match="The body is no JSON"):
        calls.body_of({"message": "\ud800"})


def test_what_is_none_is_left_out_but_for_a_graphs_own_input() -> None:
    assert calls.run_body("Hi", {"agent": None, "priority": 1}) == {"message": "Hi", "priority": 1}
    assert calls.run_body(None, {"input": None}) == {"input": None}


def test_times_are_sent_with_their_zone() -> None:
    until = datetime(2026, 1, 1, tzinfo=UTC)
    assert calls.params_of(since=until) == {"since": "2026-01-01T00:00:00.000000Z"}
    call = calls.give_grant("pay", {"amount": {"max": 9}}, until, 3, {"user": "ann", "agent": None})
    assert body(call)["until"] == "2026-01-01T00:00:00Z"


def test_only_one_log_is_watched() -> None:
    assert calls.log_path(agent="a b") == "/agents/a%20b/events"
    assert calls.log_path(approvals=True) == "/approvals/stream"
    with pytest.raises(InvalidRequest, match="Name one of thread_id, agent"):
        calls.log_path()
    with pytest.raises(InvalidRequest, match="Name one of"):
        calls.log_path(thread_id="t", user="u")
    with pytest.raises(
        InvalidRequest, match=r"no transport 'tcp'\. There are: sse, websocket, poll"
    ):
        calls.log_path("tcp", thread_id="t")  # type: ignore[arg-type]


def test_types_are_a_list_and_not_the_letters_of_a_text() -> None:
    for given in (
        lambda: calls.types_of("done"),
        lambda: Selection("done"),
        lambda: commands.select("done", print),
    ):
        with pytest.raises(InvalidRequest, match=r"a list of names: write \['done'\]"):
            given()


def test_a_newer_servers_answer_is_read_and_kept_whole() -> None:
    shown = {"approval_id": "apr_1", "status": "pending", "colour": "red"}
    thread = calls.get_thread("t").read(
        json.dumps({"thread_id": "t", "approvals": [shown], "new": 1}).encode()
    )
    assert isinstance(thread, Thread)
    assert repr(thread).startswith("Thread(thread_id='t', ") and "fields=" not in repr(thread)
    assert thread.fields["new"] == 1
    assert thread.approvals[0].is_pending
    assert thread.approvals[0].fields == shown
    outcome = Outcome.of({"decisions": {"apr_1": shown}, "pending": ["x"]})
    assert outcome.decisions["apr_1"].fields == shown


def test_a_newer_servers_event_is_heard_with_its_number() -> None:
    body = b'{"type":"dream","seq":7,"thread_id":"t","depth":3}'
    heard = Heard.read(body)
    assert (heard.type, heard.seq, heard.body) == ("dream", 7, body)
    assert isinstance(heard.event, UnknownEvent)
    assert heard.event.fields["depth"] == 3


def test_an_event_of_a_known_type_and_an_unknown_form_is_heard_too() -> None:
    heard = Heard.read(b'{"type":"token","seq":8,"content":["x"]}')
    assert isinstance(heard.event, UnknownEvent)
    assert (heard.type, heard.seq) == ("token", 8)


def test_what_is_no_event_at_all_is_the_servers_failure() -> None:
    for body in (b"[]", b"{", b'{"seq":1}'):
        with pytest.raises(ServerFailed, match="what is no event"):
            Heard.read(body)


def test_a_page_keeps_events_as_they_came() -> None:
    body = b'{"events":[{"type":"token","message_id":"m",  "content":"\xc3\xa9","seq":1}],"next":1}'
    (heard,) = calls.get_events("/threads/t/events", 0, None, None).read(body).events
    assert isinstance(heard.event, Token)
    assert heard.body in body
