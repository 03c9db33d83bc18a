"""The people of a run, as its agent sees them: who asks, and who approved a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel

from assent import (
    Approve,
    Approved,
    Edit,
    Respond,
    apending_approvals,
    approved_by,
    aresume,
    build_hitl_agent,
)
from assent.approvals.decide import Verdict
from assent.core.access import APPROVES_ALL
from assent.core.approval import ApprovalStatus
from assent.core.assistants import assistant_id_of
from assent.core.audit import Actor
from assent.core.decisions import Decision
from assent.core.rows import Run, RunStatus
from assent.core.run_input import RunInput
from assent.runs.follow import wait_for_run
from assent.runs.opening import open_runs
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage
from tests.graph.harness import ASKED, THREAD, asks
from tests.support.models import ScriptedModel, call, say

ANN = Actor("ann", approves=APPROVES_ALL)


class Desk:
    """Tools that note what they know of people."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def tools(self) -> list[Any]:
        @tool
        def pay(amount: int, runtime: ToolRuntime) -> str:
            """Pay."""
            self.seen.append((amount, approved_by(runtime)))
            return "Paid."

        @tool
        def look(runtime: ToolRuntime) -> str:
            """Look."""
            self.seen.append(approved_by(runtime))
            return "Looked."

        @tool
        def confirm(amount: int, runtime: ToolRuntime) -> str:
            """Pay, after a question amid the call."""
            answer = interrupt("Which account?")
            self.seen.append((answer, approved_by(runtime)))
            return "Paid."

        return [pay, look, confirm]


@asynccontextmanager
async def working(folder: Path, agent: Any) -> AsyncIterator[tuple[SqliteStorage, Runs]]:
    async with (
        SqliteStorage.open(folder / "a.db") as storage,
        open_runs(storage, {"agent": agent}) as runs,
    ):
        yield storage, runs


async def submitted(
    storage: SqliteStorage,
    runs: Runs,
    by: Actor = ANN,
    given: RunInput | None = None,
    **more: Any,
) -> Run:
    given = given or RunInput("Pay.")
    submission = Submission(given=given, by=by, thread_id="t", **more)
    return await wait_for_run(storage, (await runs.submit(submission)).run)


async def decided(
    storage: SqliteStorage, runs: Runs, decision: Decision | None = None, by: str = "bob"
) -> tuple[str, Run]:
    """Decide the one thing that is pending. Returns its id, and the run that went on."""
    (pending,) = (await storage.approvals(thread_id="t", status=ApprovalStatus.PENDING)).rows
    decisions = {pending.approval_id: decision or Approve()}
    verdict = Verdict(decisions=decisions, by=Actor(by, approves=APPROVES_ALL))
    outcome = await runs.approvals.decide("t", verdict)
    return pending.approval_id, await wait_for_run(storage, await runs.run(outcome.run_id))


# ── who asks ──────────────────────────────────────────────────────────────────────────────────────


def asking_graph(seen: list[Any]) -> Any:
    """A graph of its user's, with a subgraph, which stops in between for a person."""

    def note(state: MessagesState, runtime: Runtime) -> None:
        info = runtime.server_info
        assert info is not None and info.user is not None
        seen.append((info.user.identity, info.graph_id, info.assistant_id))

    def ask(state: MessagesState) -> None:
        interrupt("Go on?")

    def also_note(state: MessagesState, config: RunnableConfig) -> None:
        seen.append(config["configurable"]["langgraph_auth_user"]["identity"])

    inner = StateGraph(MessagesState).add_sequence([note]).add_edge(START, "note").compile()
    return (
        StateGraph(MessagesState)
        .add_sequence([also_note, ask, ("inner", inner)])
        .add_edge(START, "also_note")
        .compile()
    )


async def test_a_graph_sees_who_asks_and_not_who_decides(tmp_path: Path) -> None:
    seen: list[Any] = []
    async with working(tmp_path, asking_graph(seen)) as (storage, runs):
        await submitted(storage, runs)
        _, run = await decided(storage, runs, Respond("Yes."))
        assert run.status is RunStatus.SUCCESS
    assert seen == ["ann", ("ann", "agent", assistant_id_of("agent"))]


async def test_what_the_app_around_knows_goes_on_with_the_run(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def note(state: MessagesState, runtime: Runtime) -> None:
        info = runtime.server_info
        assert info is not None and info.user is not None
        seen.append((dict(info.user), info.user.display_name))  # type: ignore[call-overload]
        if len(seen) == 1:
            interrupt("Go on?")

    graph = StateGraph(MessagesState).add_sequence([note]).add_edge(START, "note").compile()
    known = {"display_name": "Ann", "team": "till", "identity": "boss"}
    async with working(tmp_path, graph) as (storage, runs):
        forged = RunInput("Hi.", user={"identity": "boss", "team": "owners"})
        await submitted(storage, runs, Actor("ann", known=known), forged)
        await decided(storage, runs, Respond("Yes."))
        usual = {"permissions": [], "is_authenticated": True}
        assert seen == [({**usual, **known, "identity": "ann"}, "Ann")] * 2

        seen.clear()
        seen.append(None)
        await submitted(storage, runs, Actor("local", approves=APPROVES_ALL), forged)
        (_, (user, name)) = seen
        assert name == "local"
        assert user == {
            "identity": "local",
            "display_name": "local",
            "permissions": [],
            "is_authenticated": False,
        }


FORGED = {"order": "o-1", "run_id": "forged", "user": "eve"}


class Tracer(BaseCallbackHandler):
    def __init__(self) -> None:
        self.metadata: list[Any] = []

    def on_chain_start(self, *args: Any, metadata: Any = None, **kwargs: Any) -> None:
        self.metadata.append(metadata)


async def test_callbacks_learn_whose_run_it_is_and_checkpoints_keep_no_metadata_of_it(
    tmp_path: Path,
) -> None:
    tracer = Tracer()
    graph = (
        StateGraph(MessagesState)
        .add_sequence([("say", lambda state: {"messages": [AIMessage("Hi.")]})])
        .add_edge(START, "say")
        .compile()
        .with_config(callbacks=[tracer])
    )
    async with working(tmp_path, graph) as (storage, runs):
        run = await submitted(storage, runs, metadata=FORGED)
        config: Any = {"configurable": {"thread_id": "t"}}
        snapshot = await runs.agents["agent"].aget_state(config)
    known = {
        "run_id": run.run_id,
        "thread_id": "t",
        "graph_id": "agent",
        "user": "ann",
        "order": "o-1",
    }
    assert tracer.metadata
    for metadata in tracer.metadata:
        assert {key: metadata.get(key) for key in known} == known
    assert snapshot.metadata is not None
    assert not {"order", "user"} & snapshot.metadata.keys()
    assert snapshot.metadata["run_id"] == run.run_id  # type: ignore[typeddict-item]


# ── who approved ──────────────────────────────────────────────────────────────────────────────────


async def test_a_tool_sees_who_approved_its_call(tmp_path: Path) -> None:
    desk = Desk()
    model = ScriptedModel(
        script=[call("pay", amount=3), call("pay", amount=4), call("look"), say("Done.")]
    )
    agent = build_hitl_agent(model, desk.tools(), approve=["pay"])
    async with working(tmp_path, agent) as (storage, runs):
        await submitted(storage, runs)
        first, _ = await decided(storage, runs)
        second, _ = await decided(storage, runs, Edit({"amount": 5}), by="eve")
        rows = {row.approval_id: row for row in (await storage.approvals(thread_id="t")).rows}
    assert desk.seen == [
        (3, Approved(approval_id=first, names=("bob",), decided_at=rows[first].decided_at)),
        (
            5,
            Approved(
                approval_id=second,
                names=("eve",),
                decided_at=rows[second].decided_at,
                edited=True,
            ),
        ),
        None,
    ]


async def test_an_approval_is_not_that_of_a_later_call_with_its_id(tmp_path: Path) -> None:
    """Some providers number the calls of each turn anew."""
    desk = Desk()
    script = [asks(("c1", "pay", {"amount": 3})), asks(("c1", "look", {})), say("Done.")]
    agent = build_hitl_agent(ScriptedModel(script=script), desk.tools(), approve=["pay"])
    async with working(tmp_path, agent) as (storage, runs):
        await submitted(storage, runs)
        await decided(storage, runs)
    (_, approved), of_look = desk.seen
    assert (approved.names, of_look) == (("bob",), None)


async def test_a_tool_that_asks_amid_its_call_still_sees_who_approved_it(tmp_path: Path) -> None:
    desk = Desk()
    model = ScriptedModel(script=[call("confirm", amount=3), say("Done.")])
    agent = build_hitl_agent(model, desk.tools(), approve=["confirm"])
    async with working(tmp_path, agent) as (storage, runs):
        await submitted(storage, runs)
        first, _ = await decided(storage, runs)
        await decided(storage, runs, Respond("The red one."), by="eve")
    ((answer, approved),) = desk.seen
    assert (answer, approved.approval_id, approved.names) == ("The red one.", first, ("bob",))


# LangChain takes the state for a dict as it notes the call.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_a_tool_in_a_graph_whose_state_is_an_object_sees_who_approved_its_call(
    tmp_path: Path,
) -> None:
    class Conversation(BaseModel):
        messages: Annotated[list[AnyMessage], add_messages] = []

    def think(state: Conversation) -> Any:
        return {"messages": [call("pay", amount=3)]}

    desk = Desk()
    graph = StateGraph(Conversation).add_node("think", think)
    graph.add_node("tools", ToolNode(desk.tools()))
    graph.add_edge(START, "think").add_edge("think", "tools")
    async with working(tmp_path, graph.compile(interrupt_before=["tools"])) as (storage, runs):
        await submitted(storage, runs)
        await decided(storage, runs)
    ((amount, approved),) = desk.seen
    assert (amount, approved.names) == (3, ("bob",))


@pytest.mark.parametrize("edited", [False, True])
async def test_a_call_of_langchains_middleware_is_approved_by_somebody_too(
    tmp_path: Path, edited: bool
) -> None:
    desk = Desk()
    model = ScriptedModel(script=[call("pay", amount=3), say("Done.")])
    hitl = HumanInTheLoopMiddleware(interrupt_on={"pay": True})
    agent = create_agent(model, desk.tools(), middleware=[hitl])
    async with working(tmp_path, agent) as (storage, runs):
        await submitted(storage, runs)
        await decided(storage, runs, Edit({"amount": 5}) if edited else Approve())
    ((amount, approved),) = desk.seen
    assert (amount, approved.names, approved.edited) == (5 if edited else 3, ("bob",), edited)


async def test_a_call_of_a_step_that_was_approved_is_approved_by_somebody_too(
    tmp_path: Path,
) -> None:
    desk = Desk()
    model = ScriptedModel(script=[call("pay", amount=3)])

    async def think(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(desk.tools()))
    graph.add_edge(START, "think")
    graph.add_edge("think", "tools")
    graph.add_edge("tools", END)
    async with working(tmp_path, graph.compile(interrupt_before=["tools"])) as (storage, runs):
        await submitted(storage, runs)
        await decided(storage, runs)
    ((amount, approved),) = desk.seen
    assert (amount, approved.names) == (3, ("bob",))


@pytest.mark.parametrize("edited", [False, True])
async def test_without_a_server_an_approval_has_no_names(edited: bool) -> None:
    desk = Desk()
    model = ScriptedModel(script=[call("pay", amount=3), call("look"), say("Done.")])
    agent = build_hitl_agent(model, desk.tools(), approve=["pay"], checkpointer=InMemorySaver())
    await agent.ainvoke(ASKED, THREAD)
    (approval,) = await apending_approvals(agent, THREAD)
    decision = Edit({"amount": 5}) if edited else Approve()
    await aresume(agent, THREAD, {approval.approval_id: decision})
    assert desk.seen == [(5 if edited else 3, Approved(edited=edited)), None]
