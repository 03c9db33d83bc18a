"""Runs as one person sees them: what is somebody else's is as if there were none."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, MessagesState, StateGraph

from assent.approvals.decide import Verdict
from assent.approvals.idempotency import Key
from assent.approvals.rules import AddComment
from assent.core.access import (
    APPROVES_ALL,
    EVERYTHING,
    NOTHING,
    Approves,
    Owner,
    Sight,
)
from assent.core.approval import Approval, ApprovalStatus
from assent.core.audit import Actor
from assent.core.decisions import Approve, Reject
from assent.core.errors import Conflict, Gone, InvalidInput, NotFound
from assent.core.grant import Bound
from assent.core.policy import Person
from assent.core.rows import RunStatus
from assent.core.run_input import RunInput
from assent.graph.builder import build_hitl_agent
from assent.runs.feeds import with_feeds
from assent.runs.follow import wait_for_run
from assent.runs.opening import open_runs
from assent.runs.schedules import Plan
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.storage.base import Change, Storage
from assent.storage.seen import SeenStorage, Unseen
from assent.storage.sqlite import SqliteStorage
from tests.support.agents import pay
from tests.support.models import ScriptedModel, call

ANN, BOB = Actor("ann", approves=APPROVES_ALL), Actor("bob", approves=APPROVES_ALL)
OF_ANN, OF_BOB = Sight("own", ANN.owner), Sight("own", BOB.owner)
AN_APPROVER = Sight("own", BOB.owner, (), APPROVES_ALL)
THE_TENANTS = Sight("tenant", BOB.owner)
"""Bob's, as an auditor."""


def clerk() -> Any:
    said = [call("pay", amount=number) for number in range(6)]
    return build_hitl_agent(ScriptedModel(script=said), [pay], approve=["pay"], name="clerk")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    async with SqliteStorage.open(tmp_path / "a.db") as storage:
        yield with_feeds(storage)


@pytest.fixture
async def runs(storage: Storage) -> AsyncIterator[Runs]:
    async with open_runs(storage, {"clerk": clerk()}) as runs:
        yield runs


async def asked(runs: Runs, by: Actor = ANN, thread_id: str = "t") -> Approval:
    """A run of somebody's that waits for a decision."""
    submission = Submission(given=RunInput("Pay."), by=by, thread_id=thread_id)
    started = await runs.seen_by(Sight("own", by.owner)).submit(submission)
    paused = await wait_for_run(runs.storage, started.run)
    assert paused.status is RunStatus.INTERRUPTED
    [pending] = (await runs.storage.approvals(thread_id=thread_id)).rows
    return pending


async def test_with_every_right_the_runs_are_the_same(runs: Runs) -> None:
    assert runs.seen_by(EVERYTHING) is runs
    assert isinstance(runs.seen_by(NOTHING).storage, SeenStorage)


async def test_new_input_for_a_thread_of_somebody_else_is_for_none(runs: Runs) -> None:
    await asked(runs)
    before = await runs.storage.thread("t")
    submission = Submission(given=RunInput("Pay bob."), by=BOB, thread_id="t")
    async with asyncio.timeout(10):
        with pytest.raises(NotFound, match=r"^There is no thread 't'\.$"):
            await runs.seen_by(OF_BOB).submit(submission)
    assert await runs.storage.thread("t") == before


Attempt = Callable[[Runs], Awaitable[object]]

ATTEMPTS: dict[str, Attempt] = {
    "read": lambda runs: runs.thread("t"),
    "change": lambda runs: runs.change_thread("t", {"mine": True}),
    "begin": lambda runs: runs.create_thread("t", owner=BOB.owner, metadata={}),
    "write state": lambda runs: runs.update_state("t", {"messages": []}, by=BOB),
    "fork": lambda runs: runs.fork("t", by=BOB, metadata={}),
    "cancel": lambda runs: runs.cancel_thread("t", BOB),
    "delete": lambda runs: runs.delete("t", BOB),
    "decide": lambda runs: runs.approvals.decide("t", Verdict(decisions=Approve(), by=BOB)),
    "schedule": lambda runs: runs.schedules.create(
        Plan(cron="0 9 * * *", given=RunInput("Pay."), thread_id="t"), owner=BOB.owner
    ),
    "grant": lambda runs: runs.approvals.give_grant(
        agent=None,
        tool="pay",
        bounds={"amount": Bound(max=5)},
        by=BOB,
        until=runs.clock.now().replace(year=2100),
        uses=1,
        thread_id="t",
    ),
    "follow": lambda runs: runs.storage.read_log("t"),
    "look at the cursor": lambda runs: runs.storage.check_cursor("t", 1),
    "count events": lambda runs: runs.storage.last_seq("t"),
}


@pytest.mark.parametrize("what", ATTEMPTS)
async def test_whatever_somebody_else_does_to_it_there_is_no_thread(runs: Runs, what: str) -> None:
    pending = await asked(runs)
    before = await runs.storage.thread("t")
    seen = runs.seen_by(OF_BOB)
    async with asyncio.timeout(10):
        with pytest.raises(NotFound, match=r"^There is no thread 't'\.$"):
            await ATTEMPTS[what](seen)
    for missing in (seen.approvals.get(pending.approval_id), seen.run(pending.run_id)):
        with pytest.raises(NotFound):
            await missing
    assert await runs.storage.thread("t") == before
    assert await runs.storage.approval(pending.approval_id) == pending


async def test_a_fork_to_a_thread_of_somebody_else_is_to_none(runs: Runs) -> None:
    await asked(runs)
    await asked(runs, BOB, "mine")
    with pytest.raises(NotFound, match=r"^There is no thread 't'\.$"):
        await runs.seen_by(OF_BOB).fork("mine", target="t", by=BOB, metadata={})
    with pytest.raises(Conflict, match="There is a thread 'mine' already"):
        await runs.seen_by(OF_BOB).fork("mine", target="mine", by=BOB, metadata={})


async def test_a_thread_of_another_tenant_is_nobodys(runs: Runs) -> None:
    await asked(runs)
    elsewhere = Actor("ann", tenant="acme")
    for sight in (Sight("own", elsewhere.owner), Sight("tenant", elsewhere.owner)):
        with pytest.raises(NotFound):
            await runs.seen_by(sight).thread("t")
    # Also for a program that names a tenant, and sees everything.
    for attempt in (
        lambda: runs.submit(Submission(given=RunInput("Pay."), by=elsewhere, thread_id="t")),
        lambda: runs.update_state("t", {"messages": []}, by=elsewhere),
        lambda: runs.fork("t", by=elsewhere, metadata={}),
    ):
        with pytest.raises(NotFound, match=r"^There is no thread 't'\.$"):
            await attempt()


async def test_all_that_comes_of_a_run_is_of_its_owner_and_tenant(runs: Runs) -> None:
    by = Actor("ann", tenant="acme")
    pending = await asked(runs, by)
    outcome = await runs.approvals.decide("t", Verdict(decisions=Approve(), by=BOB))
    assert outcome.run_id is not None
    resumed = await wait_for_run(runs.storage, await runs.run(outcome.run_id))
    thread = await runs.thread("t")
    for row in (thread, pending, resumed, await runs.run(pending.run_id)):
        assert (row.owner, row.tenant) == ("ann", "acme")
    audited = (await runs.storage.audit(thread_id="t")).rows
    assert audited and {record.entry.tenant for record in audited} == {"acme"}
    assert await runs.storage.last_seq("~approvals/acme")
    assert await runs.storage.last_seq("~user/acme/ann")
    assert await runs.storage.last_seq("~agent/acme/clerk")
    for feed in ("~approvals", "~user/ann", "~agent/clerk"):
        assert not await runs.storage.last_seq(feed)


# ── deciding ──────────────────────────────────────────────────────────────────────────────────────


async def test_somebody_decides_what_they_see_on_a_thread_that_they_do_not(runs: Runs) -> None:
    pending = await asked(runs)
    seen = runs.seen_by(AN_APPROVER)
    with pytest.raises(NotFound):
        await seen.thread("t")
    assert (await seen.approvals.get(pending.approval_id)) == pending
    comment = AddComment(by=Person(name="bob"), text="Why?")
    assert (await seen.approvals.act(pending.approval_id, comment, BOB)).comments
    outcome = await seen.approvals.decide("t", Verdict(decisions=Approve(), by=BOB))
    [decided] = outcome.approvals
    assert decided.status is ApprovalStatus.APPROVED
    assert outcome.run_id is not None
    await wait_for_run(runs.storage, await runs.run(outcome.run_id))


async def test_nobody_decides_what_they_do_not_see_among_others(storage: Storage) -> None:
    both = call("pay", amount=3), call("send", amount=4)
    asking = AIMessage("", tool_calls=[each for one in both for each in one.tool_calls])
    model = ScriptedModel(script=[asking, AIMessage("Done.")])
    agent = build_hitl_agent(model, [pay, send], approve=["pay", "send"], name="clerk")
    async with open_runs(storage, {"clerk": agent}) as runs:
        submission = Submission(given=RunInput("Pay."), by=ANN, thread_id="t")
        await wait_for_run(storage, (await runs.submit(submission)).run)
        rows = (await storage.approvals(thread_id="t")).rows
        paying, sending = (next(each for each in rows if each.tool == t) for t in ("pay", "send"))

        sight = Sight("own", BOB.owner, (), Approves(tools=frozenset({"pay"})))
        seen = runs.seen_by(sight)
        with pytest.raises(NotFound, match=sending.approval_id) as told:
            one = {sending.approval_id: Approve()}
            await seen.approvals.decide("t", Verdict(decisions=one, by=BOB))
        assert sending.approval_id not in str(told.value).partition("Pending:")[2]
        with pytest.raises(NotFound):
            comment = AddComment(by=Person(name="bob"), text="Why?")
            await seen.approvals.act(sending.approval_id, comment, BOB)
        everything = Verdict(decisions=Reject("No."), by=BOB, for_all=True)
        outcome = await seen.approvals.decide("t", everything)
        assert [each.approval_id for each in outcome.approvals] == [paying.approval_id]
        assert outcome.pending == ()
        left = await storage.approval(sending.approval_id)
        assert left is not None and left.is_pending


def send(amount: int) -> str:
    """Send it."""
    return "Sent."


# ── uploads ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_model_gets_no_upload_that_the_thread_does_not_refer_to(storage: Storage) -> None:
    """However its id comes into a message: here a node puts it there."""
    sent: list[str] = []

    class Seer(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "seer"

        def _generate(self, messages: Any, *args: Any, **options: Any) -> ChatResult:
            sent.append(str(messages))
            return ChatResult(generations=[ChatGeneration(message=AIMessage("I see."))])

    async def look(state: MessagesState) -> Any:
        named = state["messages"][-1].text.removeprefix("Look at ")
        block = {"type": "file", "file_id": named, "mime_type": "text/plain"}
        said = HumanMessage(content=[block])
        return {"messages": [await Seer().ainvoke([*state["messages"], said])]}

    graph = StateGraph(MessagesState).add_node("look", look).add_edge(START, "look").compile()
    async with open_runs(storage, {"seer": graph}) as runs:

        async def upload(by: Actor, text: bytes) -> str:
            async def chunks() -> AsyncIterator[bytes]:
                yield text

            seen = runs.seen_by(Sight("own", by.owner))
            row = await seen.uploads.add(chunks(), name="a", declared=None, owner=by.owner)
            return row.file_id

        theirs, mine = await upload(BOB, b"Bob's words"), await upload(ANN, b"Ann's words")
        seen = runs.seen_by(OF_ANN)
        naming = RunInput([{"type": "file", "file_id": theirs}])
        with pytest.raises(InvalidInput, match="There is no upload"):
            await seen.submit(Submission(given=naming, by=ANN, thread_id="t"))

        blocks = [{"type": "file", "file_id": mine}, {"type": "text", "text": f"Look at {theirs}"}]
        started = await seen.submit(Submission(given=RunInput(blocks), by=ANN, thread_id="t"))
        assert (await wait_for_run(storage, started.run)).status is RunStatus.SUCCESS
    [messages] = sent
    assert base64.b64encode(b"Ann's words").decode() in messages
    assert base64.b64encode(b"Bob's words").decode() not in messages
    assert "is not there any more" in messages


# ── keys, logs, the net under it all ──────────────────────────────────────────────────────────────


async def test_the_same_key_is_anothers_in_another_tenant(runs: Runs) -> None:
    one = Key.given("k", Owner("ann"), "/threads", {})
    other = Key.given("k", Owner("ann", "acme"), "/threads", {})
    assert one.answer_id != other.answer_id


@pytest.mark.parametrize("is_listening", [True, False])
async def test_a_reader_does_not_go_on_with_the_next_thread_of_that_name(
    runs: Runs, is_listening: bool
) -> None:
    await asked(runs)
    reading = runs.seen_by(OF_ANN).storage
    with runs.storage.listen("t") if is_listening else nullcontext():
        assert await reading.read_log("t")
        await runs.cancel_thread("t", ANN)
        waiting = await runs.storage.thread("t")
        while waiting is not None and waiting.status != "idle":
            await asyncio.sleep(0.01)
            waiting = await runs.storage.thread("t")
        await runs.delete("t", ANN)
        with pytest.raises(Gone):
            await reading.read_log("t", 1)
        pending = await asked(runs, BOB)
        last = await runs.storage.last_seq("t")
        for after in (0, 1, last - 1):
            with pytest.raises(Gone) if is_listening or after == 1 else nullcontext():
                assert await reading.read_log("t", after) == ()
        with pytest.raises(Gone) if is_listening else nullcontext():
            assert await reading.newest_event("t", pending.run_id) is None


async def test_no_request_writes_what_is_not_its_senders(runs: Runs) -> None:
    await asked(runs)
    thread = await runs.thread("t")
    for sight in (NOTHING, Sight("own", Owner("ann", "acme"))):
        with pytest.raises(Unseen):
            await runs.seen_by(sight).storage.commit(Change(removed=(thread,)))
    for sight in (OF_BOB, THE_TENANTS, NOTHING):
        with pytest.raises(Unseen):
            await ATTEMPTS["begin"](_for_anybody(runs.seen_by(sight)))
    with pytest.raises(Unseen):
        runs.seen_by(OF_BOB).storage.seen_by(EVERYTHING)


def _for_anybody(runs: Runs) -> Any:
    class Begins:
        @staticmethod
        async def create_thread(*args: Any, **options: Any) -> object:
            return await runs.create_thread("new", owner=ANN.owner, metadata={})

    return Begins()
