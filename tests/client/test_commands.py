"""Commands of a WebSocket's client, without one: what becomes of each if the connection breaks."""

from __future__ import annotations

import json
from typing import TypeVar

import pytest

from assent.client import commands
from assent.client.commands import Command, Order, Orders, Reply, read_frame
from assent.client.following import TRIES
from assent.client.problems import ServerFailed, Unreachable
from assent.client.values import Heard, Outcome, ShownApproval
from assent.core.decisions import Approve
from assent.core.errors import AlreadyDecided, Gone, InvalidRequest, NotFound, Unavailable

T = TypeVar("T")

APPROVAL = ShownApproval(approval_id="apr_1", digest="d")
DECIDE: Command[Outcome] = commands.decide(APPROVAL, Approve(), "key")
CANCEL = commands.cancel(None, "interrupt")
LOST = Unreachable("It is lost.")
AWAY = Unavailable("It is away.")
DONE = {"run_id": "r", "runs": [], "after": 7}


def sent(orders: Orders, command: Command[T]) -> Order[T]:
    order = orders.give(command)
    order.sent()
    return order


def test_frames_are_events_replies_and_problems_of_no_command() -> None:
    event = read_frame('{"type":"dream","seq":4,"id":7}')
    assert isinstance(event, Heard) and event.seq == 4
    assert [read_frame(f'{{"type":"{kind}"}}') for kind in ("ready", "tick", "pong")] == [None] * 3
    assert read_frame('{"type":"answer","id":"c1","body":{"a":1}}') == Reply("c1", {"a": 1})
    refused = read_frame(
        b'{"type":"problem","id":"c2","status":409,"title":"Already Decided","detail":"No.",'
        b'"decided_by":"ann"}'
    )
    assert isinstance(refused, Reply) and isinstance(refused.error, AlreadyDecided)
    assert (refused.error.by, "id" in refused.error.details) == ("ann", False)
    with pytest.raises(Gone):
        read_frame('{"type":"problem","id":null,"status":410,"title":"Gone","detail":"Gone."}')
    with pytest.raises(ServerFailed):
        read_frame("no frame")


def test_a_command_is_one_object_and_nothing_in_it_is_taken_for_another() -> None:
    key = commands.message({"message": "Hi", "type": "decide", "idempotency_key": "theirs"}, "ours")
    assert json.loads(Orders().give(key).frame) == {
        "type": "message",
        "id": "c1",
        "message": "Hi",
        "idempotency_key": "ours",
    }
    with pytest.raises(InvalidRequest):
        Orders().give(commands.message({"message": float("nan")}, "key"))


def test_a_decision_is_about_what_was_shown() -> None:
    (decision,) = json.loads(Orders().give(DECIDE).frame)["decisions"].items()
    assert decision == ("apr_1", {"type": "approve", "digest": "d"})
    with pytest.raises(TypeError, match="an approval that was shown"):
        commands.decide("apr_1", Approve(), "key")  # type: ignore[arg-type]


def test_an_answer_is_of_the_command_with_its_id() -> None:
    orders = Orders()
    first, second = sent(orders, CANCEL), sent(orders, DECIDE)
    orders.answered(Reply(second.id, DONE))
    orders.answered(Reply("of nobody", DONE))
    assert (first.is_done, second.is_done) == (False, True)
    assert second.result().run_id == "r"
    orders.answered(Reply(first.id, {}))
    with pytest.raises(ServerFailed, match="none that this client reads"):
        first.result()


def test_what_has_a_key_is_sent_again_and_the_rest_has_failed() -> None:
    orders = Orders()
    keyed, bare, unsent = sent(orders, DECIDE), sent(orders, CANCEL), orders.give(CANCEL)
    orders.lost(LOST)
    with pytest.raises(Unreachable):
        bare.result()
    # What was not sent was not done either.
    assert orders.unsent() == [keyed, unsent]
    for _ in range(TRIES - 1):
        assert not keyed.is_done
        keyed.sent()
        orders.lost(LOST)
    with pytest.raises(Unreachable):
        keyed.result()
    assert orders.unsent() == [unsent]


def test_only_a_decision_waits_for_a_storage_that_is_away() -> None:
    orders = Orders()
    decision, message = sent(orders, DECIDE), sent(orders, commands.message({}, "key"))
    for order in (decision, message):
        orders.answered(Reply(order.id, {}, AWAY))
    with pytest.raises(Unavailable):
        message.result()
    assert orders.unsent() == [decision]
    decision.sent()
    orders.answered(Reply(decision.id, {}, NotFound("It is none.")))
    with pytest.raises(NotFound):
        decision.result()


def test_the_server_may_select_though_nobody_waits_any_more() -> None:
    orders, selected = Orders(), list[int]()
    selecting = sent(orders, commands.select(["done"], selected.append))
    given_up = sent(orders, DECIDE)
    for order in (selecting, given_up):
        orders.drop(order)
    orders.lost(LOST)
    assert orders.unsent() == [selecting]
    selecting.sent()
    orders.answered(Reply(selecting.id, {"after": 7}))
    assert (selected, orders.unsent()) == ([7], [])
