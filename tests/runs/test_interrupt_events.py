"""What a graph's code asks with `interrupt()` is in the log as it asked it, beside the approval."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from assent import Respond, build_hitl_agent
from assent.approvals.decide import Verdict
from assent.core.access import APPROVES_ALL
from assent.core.audit import Actor
from assent.core.events import Event, Interrupt, decode, event_type
from assent.core.rows import RunStatus
from assent.core.run_input import RunInput
from assent.runs.follow import wait_for_run
from assent.runs.opening import open_runs
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage
from tests.support.models import ScriptedModel, call

PICTURE = {"type": "image", "base64": "aGVsbG8=", "mime_type": "image/png"}


@tool
def pay(amount: int) -> str:
    """Pay an amount."""
    return f"paid {amount}"


def asking() -> Any:
    """A graph in which a node asks, and beside it a node in a subgraph."""

    def ask(state: MessagesState) -> None:
        interrupt({"question": "How much?", "shown": PICTURE})

    def also(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(str(interrupt("Which account?")))]}

    inner = StateGraph(MessagesState).add_node("also", also).add_edge(START, "also").compile()
    return (
        StateGraph(MessagesState)
        .add_node("ask", ask)
        .add_node("inner", inner)
        .add_edge(START, "ask")
        .add_edge(START, "inner")
        .compile()
    )


@asynccontextmanager
async def paused(folder: Path, agent: Any) -> AsyncIterator[tuple[SqliteStorage, Runs]]:
    """A server whose agent has paused on the thread `t`."""
    async with (
        SqliteStorage.open(folder / "a.db") as storage,
        open_runs(storage, {"agent": agent}) as runs,
    ):
        submission = Submission(
            given=RunInput("Pay 3."), by=Actor("ann", approves=APPROVES_ALL), thread_id="t"
        )
        run = await wait_for_run(storage, (await runs.submit(submission)).run)
        assert run.status is RunStatus.INTERRUPTED
        yield storage, runs


async def logged(storage: SqliteStorage, after: int = 0) -> list[Event]:
    return [decode(entry.body) for entry in await storage.read_log("t", after)]


async def test_each_interrupt_is_told_where_it_was_made_before_the_run_pauses(
    tmp_path: Path,
) -> None:
    async with paused(tmp_path, asking()) as (storage, runs):
        events = await logged(storage)
        *_, first, second, last = events
        assert event_type(last) == "run_paused"
        assert isinstance(first, Interrupt)
        assert isinstance(second, Interrupt)
        snapshot = await runs.state(await runs.thread("t"), None, subgraphs=True)
        ids = {each.id: task for task in snapshot.tasks for each in task.interrupts}
        assert ids.keys() == {first.interrupt_id, second.interrupt_id}
        assert (first.node, first.ns, first.task_id) == ("ask", (), ids[first.interrupt_id].id)
        around = ids[second.interrupt_id]
        assert (second.node, second.ns) == ("also", (f"inner:{around.id}",))
        assert second.value == "Which account?"
        assert first.value == {"question": "How much?", "shown": {**PICTURE, "base64": "<5 bytes>"}}
        assert (first.thread_id, first.run_id) == ("t", last.run_id)


async def test_the_next_question_of_a_node_is_told_by_itself(tmp_path: Path) -> None:
    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{interrupt('How much?')} to {interrupt('Whom?')}")]}

    agent = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile()
    async with paused(tmp_path, agent) as (storage, runs):
        after = await storage.last_seq("t")
        [pending] = (await storage.approvals(thread_id="t")).rows
        decisions = {pending.approval_id: Respond("3")}
        outcome = await runs.approvals.decide(
            "t", Verdict(decisions=decisions, by=Actor("bob", approves=APPROVES_ALL))
        )
        assert outcome.run_id is not None
        await wait_for_run(storage, await runs.run(outcome.run_id))
        told = [each for each in await logged(storage, after) if isinstance(each, Interrupt)]
        assert [(each.node, each.value) for each in told] == [("ask", "Whom?")]


async def test_a_gate_interrupts_nothing(tmp_path: Path) -> None:
    agent = build_hitl_agent(ScriptedModel(script=[call("pay", amount=3)]), [pay], approve=["pay"])
    async with paused(tmp_path, agent) as (storage, _):
        assert not any(isinstance(event, Interrupt) for event in await logged(storage))
