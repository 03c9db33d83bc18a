"""The input of a run beside its message: what runs that go on after a pause take over, whatever the
pause was and whatever happened to the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.tools import ToolRuntime
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph

from assent.approvals.decide import Verdict
from assent.core.access import APPROVES_ALL
from assent.core.approval import Approval, ApprovalKind, ApprovalStatus
from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.decisions import Approve, Decision, Edit, Reject
from assent.core.grant import Bound
from assent.core.rows import Run, RunStatus, ThreadStatus
from assent.core.run_input import RunInput, given_in, message_text, with_changes
from assent.graph.inputs import shape_of
from assent.runs import transitions
from assent.runs.budgets import Budgets, Windowed
from assent.runs.engine import HeldRun
from assent.runs.executor import GraphExecutor
from assent.runs.follow import wait_for_run
from assent.runs.inputs import check_given
from assent.runs.opening import open_runs
from assent.runs.service import Runs
from assent.runs.sync_threads import SyncThreads
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage
from tests.support.models import ScriptedModel, call, say

ANN, BOB = Actor("ann", approves=APPROVES_ALL), Actor("bob", approves=APPROVES_ALL)


@dataclass
class Shop:
    """The context that the agent is run with."""

    account: str
    language: str = "en"


@dataclass
class Till:
    """What was paid, each with the account of the context."""

    paid: list[str] = field(default_factory=list)

    def tools(self) -> list[BaseTool]:
        @tool
        async def pay(amount: int, runtime: ToolRuntime[Shop]) -> str:
            """Pay."""
            self.paid.append(f"{amount} from {runtime.context.account}")
            return f"paid {amount}"

        return [pay]


def one_by_one(history: list[BaseMessage]) -> AIMessage:
    """Pay 1, then 2."""
    done = sum(isinstance(message, ToolMessage) for message in history)
    return say("Done.") if done == 2 else call("pay", amount=done + 1)


def shop_agent(till: Till) -> Any:
    review = HumanInTheLoopMiddleware(interrupt_on={"pay": True})
    model = ScriptedModel(script=one_by_one)
    return create_agent(model, till.tools(), middleware=[review], context_schema=Shop)


@asynccontextmanager
async def desk(folder: Path, till: Till, **options: Any) -> AsyncIterator[Runs]:
    async with (
        SqliteStorage.open(folder / "a.db") as storage,
        open_runs(storage, {"shop": shop_agent(till)}, **options) as runs,
    ):
        yield runs


GIVEN = RunInput(
    "Pay 1 and 2.",
    context={"account": "acme"},
    config={"tags": ["shop"], "metadata": {"tenant": "acme"}},
)
INHERITED = {
    "context": {"account": "acme"},
    "config": {"tags": ["shop"], "metadata": {"tenant": "acme"}},
}


async def submit(runs: Runs, given: RunInput = GIVEN, thread: str = "t", **options: Any) -> Run:
    asked = Submission(given=given, by=ANN, thread_id=thread, **options)
    return await wait_for_run(runs.storage, (await runs.submit(asked)).run)


async def newest(runs: Runs) -> Run:
    """The newest run of the thread, when it has stopped."""
    page = await runs.storage.latest_runs(thread_id="t", limit=1)
    return await wait_for_run(runs.storage, page.rows[0])


async def decide(runs: Runs, answer: Callable[[Approval], Decision]) -> Run:
    """Decide all that the thread waits for. Returns the run that went on, when it has stopped."""
    pending = await runs.storage.approvals(thread_id="t", status=ApprovalStatus.PENDING)
    answers = {each.approval_id: answer(each) for each in pending.rows}
    await runs.approvals.decide("t", Verdict(decisions=answers, by=BOB))
    return await newest(runs)


def inherited(run: Run) -> dict[str, Any]:
    return {name: run.input[name] for name in run.input if name in INHERITED}


async def test_the_runs_after_an_approval_an_edit_and_a_rejection_have_it(tmp_path: Path) -> None:
    till = Till()
    async with desk(tmp_path, till) as runs:
        run = await submit(runs)
        assert run.input == {"message": "Pay 1 and 2.", **INHERITED}
        run = await decide(runs, lambda asked: Edit({"amount": 7}))
        assert (run.status, inherited(run)) == (RunStatus.INTERRUPTED, INHERITED)
        assert till.paid == ["7 from acme"]
        run = await decide(runs, lambda asked: Reject("Enough."))
        assert (run.status, inherited(run)) == (RunStatus.SUCCESS, INHERITED)
        assert till.paid == ["7 from acme"]


async def test_the_run_after_a_grant_has_it(tmp_path: Path) -> None:
    till = Till()
    async with desk(tmp_path, till) as runs:
        await runs.approvals.give_grant(
            agent="shop",
            tool="pay",
            bounds={"amount": Bound(any=True)},
            by=BOB,
            until=datetime.now(UTC) + timedelta(days=1),
            uses=2,
            user="ann",
        )
        await submit(runs)
        run = await wait_for_all(runs)
        assert (run.status, inherited(run)) == (RunStatus.SUCCESS, INHERITED)
        assert till.paid == ["1 from acme", "2 from acme"]


async def wait_for_all(runs: Runs) -> Run:
    """The newest run, when no other goes on behind it."""
    run = await newest(runs)
    while run.next_run is not None:
        run = await newest(runs)
    return run


def grant_or_approve(asked: Approval) -> Decision:
    if asked.kind is ApprovalKind.BUDGET:
        return Edit({**asked.args, "limit": 100})
    return Approve()


async def test_the_run_after_a_budget_was_raised_has_it(tmp_path: Path) -> None:
    till = Till()
    async with desk(tmp_path, till) as runs:
        run = await submit(runs, budget={"model_calls": 1, "on_exceeded": "pause"})
        assert run.status is RunStatus.INTERRUPTED
        for _ in range(2):
            run = await decide(runs, grant_or_approve)
            assert inherited(run) == INHERITED
        assert till.paid == ["1 from acme"]


async def test_the_run_after_one_that_a_budget_kept_from_beginning_has_it(tmp_path: Path) -> None:
    """It acts on the decisions that the run which never began was to act on."""
    till = Till()
    budgets = Budgets(on_exceeded="pause", agent=Windowed(model_calls=2))
    async with desk(tmp_path, till, budgets=budgets) as runs:
        first = await submit(runs)
        await submit(runs, thread="other")
        kept = await decide(runs, lambda asked: Approve())
        assert (kept.status, till.paid) == (RunStatus.INTERRUPTED, [])
        assert kept.input == {"paused_run": first.run_id, **INHERITED}
        run = await decide(runs, grant_or_approve)
        assert run.input == {"paused_run": kept.run_id, **INHERITED}
        assert till.paid == ["1 from acme"]


# ── workers that die ──────────────────────────────────────────────────────────────────────────────


def talking() -> Any:
    """A graph that keeps what it is told, and nothing else."""
    graph = StateGraph(MessagesState).add_node("rest", lambda state: {})
    return graph.add_edge(START, "rest").compile()


TALK = RunInput(
    input={"messages": [{"role": "system", "content": "Be kind."}, "Hello.", "Anybody?"]}
)


@pytest.mark.parametrize("executions", [0, 1])
async def test_input_that_is_taken_up_again_is_there_once(tmp_path: Path, executions: int) -> None:
    """The worker dies before it has begun, or when all is done but not stored as such."""
    async with SqliteStorage.open(tmp_path / "a.db") as storage:
        agent = talking().copy(update={"checkpointer": storage.checkpointer})
        executor = GraphExecutor(storage, {"talk": agent}, clock=Clock(), threads=SyncThreads())
        asked = Submission(given=TALK, by=ANN)
        run = transitions.new_run(asked, "t", "talk", "r", datetime.now(UTC))
        change, _ = transitions.submitted(None, run, "w1", datetime.now(UTC), metadata={})
        await storage.commit(change)
        (held,) = [HeldRun(row) for row in change.rows if isinstance(row, Run)]
        for _ in range(executions):
            await executor.execute(held)
        state = await executor.recovery_state(held.run)
        change, taken = transitions.taken_over(held.run, "w2", state, datetime.now(UTC))
        await storage.commit(change)
        await executor.execute(HeldRun(taken))
        values = (await agent.aget_state({"configurable": {"thread_id": "t"}})).values
        assert [(each.id, each.text) for each in values["messages"]] == [
            ("r-1", "Be kind."),
            ("r-2", "Hello."),
            ("r-3", "Anybody?"),
        ]


async def test_input_that_an_agent_takes_no_more_ends_the_run_that_waited(tmp_path: Path) -> None:
    """The server was stopped meanwhile, and the agent is another version now."""
    async with SqliteStorage.open(tmp_path / "a.db") as storage:
        asked = Submission(given=RunInput("Hello.", context={"old": "x"}), by=ANN)
        run = transitions.new_run(asked, "t", "talk", "r", datetime.now(UTC))
        change, _ = transitions.queued(None, run, datetime.now(UTC), metadata={})
        await storage.commit(change)
        async with open_runs(storage, {"talk": talking()}) as runs:
            ended = await wait_for_run(storage, await runs.run("r"))
            assert ended.status is RunStatus.ERROR
            assert ended.error == {
                "code": "invalid_input",
                "message": "The agent 'talk' declares no context_schema, so it takes no 'context'.",
            }
            assert (await runs.thread("t")).status is ThreadStatus.ERROR


async def test_a_large_input_does_not_hold_up_the_event_loop() -> None:
    shape = shape_of(talking(), "talk")
    checked = asyncio.create_task(
        check_given(shape, RunInput(input={"messages": ["Hello."] * 5_000}))
    )
    await asyncio.sleep(0)
    assert not checked.done()
    await checked


# ── the value ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "given",
    [
        RunInput(),
        RunInput("Hello."),
        RunInput([{"type": "text", "text": "Hello."}]),
        RunInput(input=None),
        RunInput(input={"topic": "tea"}, context={}, interrupt_before="*"),
    ],
)
def test_it_is_kept_as_it_was_given(given: RunInput) -> None:
    assert given_in({**given.stored(), "paused_run": "r"}) == given


def test_null_is_an_input() -> None:
    assert RunInput(input=None).stored() == {"input": None}
    assert not RunInput(input=None).is_empty
    assert RunInput("").is_empty


def test_a_message_takes_the_place_of_an_input_and_an_input_that_of_a_message() -> None:
    given = with_changes(RunInput("Hello.", context={"a": 1}), {"input": {"topic": "tea"}})
    assert given == RunInput(input={"topic": "tea"}, context={"a": 1})
    assert with_changes(given, {"message": "Hi."}) == RunInput("Hi.", context={"a": 1})


def test_the_text_of_blocks_is_that_of_the_text_blocks() -> None:
    blocks = [
        {"type": "text", "text": "Look:"},
        {"type": "image", "url": "https://example.com/a.png"},
        {"type": "text", "text": "What is it?"},
    ]
    assert message_text(blocks) == "Look:\nWhat is it?"
