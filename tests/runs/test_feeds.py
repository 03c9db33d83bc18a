"""The feeds of agents and people: what is copied to them, in which change, and what never is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from assent import Approve, Assent, build_hitl_agent
from assent.approvals.decide import Verdict
from assent.approvals.feed import CONTENT, copied_to, is_copy
from assent.core.access import APPROVES_ALL
from assent.core.audit import Actor
from assent.core.events import (
    EVENT_TYPES,
    FEED_TYPES,
    ApprovalEvent,
    Event,
    RunEvent,
    RunStart,
    Token,
    decode,
    encode,
)
from assent.core.logs import feed_of_agent, feed_of_user
from assent.core.rows import CancelMode, Run, RunStatus
from assent.core.run_input import RunInput
from assent.runs.feeds import copies_for, with_feeds
from assent.runs.follow import wait_for_run
from assent.runs.opening import open_runs
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import approval, run, thread
from tests.support.models import ScriptedModel, call

ANN, BOB = Actor("ann", approves=APPROVES_ALL), Actor("bob", approves=APPROVES_ALL)
CANARY = "swordfish"


@tool
def pay(amount: int, note: str) -> str:
    """Pay an amount."""
    return f"paid {amount}, {note}"


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    async with SqliteStorage.open(tmp_path / "a.db") as storage:
        yield with_feeds(storage)


def clerk() -> Any:
    asked = [call("pay", amount=3, note=CANARY)]
    return build_hitl_agent(
        ScriptedModel(script=[*asked, AIMessage(CANARY)]), [pay], approve=["pay"], name="clerk"
    )


async def read(storage: Storage, feed: str) -> list[Event]:
    return [decode(entry.body) for entry in await storage.read_log(feed)]


def kinds(events: list[Event]) -> list[str]:
    return [str(event.__struct_config__.tag) for event in events]


async def submitted(runs: Runs, thread_id: str, by: Actor = ANN, text: str = CANARY) -> Run:
    submission = Submission(given=RunInput(text), by=by, thread_id=thread_id)
    return await wait_for_run(runs.storage, (await runs.submit(submission)).run)


async def test_a_feed_tells_the_lives_of_runs_and_approvals_and_nothing_of_their_content(
    storage: Storage,
) -> None:
    async with open_runs(storage, {"clerk": clerk()}) as runs:
        first = await submitted(runs, "t")
        [pending] = (await storage.approvals(thread_id="t")).rows
        verdict = Verdict(decisions={pending.approval_id: Approve()}, by=BOB)
        outcome = await runs.approvals.decide("t", verdict)
        assert outcome.run_id is not None
        await wait_for_run(storage, await runs.run(outcome.run_id))

    told = await read(storage, feed_of_agent("clerk"))
    assert kinds(told) == [
        *("run_start", "approval_required", "run_paused"),
        *("approval_decided", "run_resumed", "done"),
    ]
    assert [event.seq for event in told] == [1, 2, 3, 4, 5, 6]
    assert {event.run_id for event in told} == {first.run_id, outcome.run_id}
    for event in told:
        assert isinstance(event, RunEvent | ApprovalEvent)
        assert event.about == "t"
        assert CANARY.encode() not in encode(event)
        if isinstance(event, RunEvent):
            assert event.agent == "clerk"
    # Bob decided, and the run that went on is still Ann's.
    assert kinds(await read(storage, feed_of_user("ann"))) == kinds(told)
    assert await read(storage, feed_of_user("bob")) == []


async def test_the_numbers_of_a_commit_are_those_of_its_own_events(storage: Storage) -> None:
    mine = run("r", thread_id="t", agent="clerk", tenant=None)
    events = (
        EVENT_TYPES["done"](thread_id="t", run_id="r"),
        Token(thread_id="t", message_id="m", content="Hi"),
    )
    assert await storage.commit(Change(rows=(mine,), events=events)) == (1, 2)
    assert kinds(await read(storage, feed_of_agent("clerk"))) == ["done"]


async def test_tokens_go_another_way(tmp_path: Path) -> None:
    """Nothing that a server wraps around its storage stands in the way of pieces of messages."""
    async with Assent(clerk(), database=str(tmp_path / "b.db")) as assent:
        append: Any = assent.runs.storage.append
        assert append.__func__ is SqliteStorage.append


async def test_a_run_of_a_thread_that_was_tampered_with_ends_without_a_word(
    storage: Storage,
) -> None:
    """Nobody knows who may hear of it: whose it is may have been changed too."""
    begun = run("r", status=RunStatus.RUNNING, ended_at=None, tenant=None)
    event = RunStart(thread_id="t", run_id="r", agent="clerk")
    await storage.commit(Change(rows=(thread("t", run_id="r"), begun), events=(event,)))
    await storage.distrust("t", "Somebody has changed it.", stopped=True)
    assert kinds(await read(storage, "t")) == ["run_start", "error"]
    for feed in (feed_of_agent("clerk"), feed_of_user("ann")):
        assert kinds(await read(storage, feed)) == ["run_start"]


async def test_a_run_that_is_cancelled_is_told_of(storage: Storage) -> None:
    async with open_runs(storage, {"clerk": clerk()}) as runs:
        paused = await submitted(runs, "t")
        await runs.cancel_run(paused.run_id, BOB, CancelMode.INTERRUPT)
        await wait_for_run(storage, await runs.run(paused.run_id))
    told = kinds(await read(storage, feed_of_agent("clerk")))
    assert told[-2:] == ["approval_cancelled", "run_cancelled"]


# ── copies ──


def test_every_field_that_may_hold_content_is_blank_in_a_copy() -> None:
    for name in FEED_TYPES:
        kind = EVENT_TYPES[name]
        full = {field: CANARY for field in kind.__struct_fields__ if field in CONTENT}
        required: dict[str, Any] = {
            field: "x"
            for field in ("agent", "approval_id", "decision", "code", "message")
            if field in kind.__struct_fields__
        }
        numbers = {"attempt": 1} if "attempt" in kind.__struct_fields__ else {}
        event = kind(thread_id="t", **{**required, **numbers, **full})
        assert isinstance(event, RunEvent | ApprovalEvent)
        copy = copied_to("~agent/a", event)
        assert CANARY.encode() not in encode(copy)
        assert decode(encode(copy)) == copy
        assert (copy.thread_id, copy.about) == ("~agent/a", "t")


def test_an_approval_is_told_to_everybody_it_can_be_traced_to_once() -> None:
    asked = approval("a", agent="clerk", owner="ann", requested_by=("bob", "ann"))
    event = EVENT_TYPES["approval_expired"](thread_id="t", approval_id="a")
    copies = list(copies_for(Change(rows=(asked,), events=(event,))))
    assert [copy.thread_id for copy in copies] == [
        feed_of_agent("clerk", "acme"),
        feed_of_user("ann", "acme"),
        feed_of_user("bob", "acme"),
    ]


def test_a_run_is_told_to_who_started_it() -> None:
    mine = run("r", owner="ann", requested_by=("bob", "ann"), tenant=None)
    event = EVENT_TYPES["done"](thread_id="t", run_id="r")
    copies = list(copies_for(Change(rows=(mine,), events=(event,))))
    assert [copy.thread_id for copy in copies] == [feed_of_agent("clerk"), feed_of_user("ann")]


def test_copies_are_not_copied_again() -> None:
    asked = approval("a", agent="clerk")
    event = EVENT_TYPES["approval_expired"](thread_id="~approvals", approval_id="a")
    assert is_copy(event)
    assert list(copies_for(Change(rows=(asked,), events=(event,)))) == []


@pytest.mark.parametrize("name", ["ann@example.com", "a/b", "~ann", "Größe ☃", "..", "a%2Fb"])
def test_a_name_of_any_letters_has_a_feed_of_its_own(name: str) -> None:
    assert feed_of_user(name).count("/") == 1
    assert feed_of_user(name).startswith("~user/")
    assert feed_of_user(name) != feed_of_user(name + "x")
