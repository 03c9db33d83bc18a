"""Branching off any checkpoint: nothing that was decided or done there opens a gate, answers a
question or passes for an effect here."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.channels import DeltaChannel
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from langgraph.types import Command, Interrupt, interrupt

from assent import Approve, apending_approvals, aresume
from assent.core.errors import InvalidRequest, NotFound
from assent.graph.closing import close
from assent.graph.effects import EFFECTS_KEY
from assent.graph.forking import Fork, Standing, fork, standing
from assent.graph.gate import NOT_APPROVED
from assent.graph.provider_history import provider_history
from tests.graph.harness import ASKED, THREAD, AgentHarness, Json, asks
from tests.graph.savers import Book, fated
from tests.support.models import ScriptedModel, call, lc_history_problems, say

NEW: RunnableConfig = {"configurable": {"thread_id": "new"}}


@pytest.fixture(params=["memory", "sqlite"])
async def saver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    async with fated(request.param, tmp_path / "checkpoints.db") as saver:
        yield saver


@pytest.fixture(params=["same thread", "new thread"])
def target(request: pytest.FixtureRequest) -> RunnableConfig | None:
    return NEW if request.param == "new thread" else None


def with_book(config: RunnableConfig, book: Book) -> RunnableConfig:
    return {"configurable": {**config["configurable"], EFFECTS_KEY: book}}


async def history(agent: Any, config: RunnableConfig = THREAD) -> list[Any]:
    """The thread's checkpoints, oldest first."""
    return [state async for state in agent.aget_state_history(config)][::-1]


def id_of(state: Any) -> str:
    return str(state.config["configurable"]["checkpoint_id"])


async def forked(
    agent: Any, state: Any, target: RunnableConfig | None
) -> tuple[Fork, RunnableConfig]:
    """The fork, and the config of the thread that it is on."""
    here = await fork(agent, THREAD, id_of(state), target=target)
    head = await agent.aget_state(target or THREAD)
    assert (
        head.config["configurable"]["checkpoint_id"] == here.config["configurable"]["checkpoint_id"]
    )
    assert here.standing is standing(agent, head)
    return here, target or THREAD


# ── agents of ours ────────────────────────────────────────────────────────────────────────────────


def by_turn(messages: list[Any]) -> Any:
    """A model that asks for three calls, and then is done."""
    if any(message.type == "tool" for message in messages):
        return say("Done.")
    return asks(
        ("c1", "pay", {"amount": 3}), ("c2", "mail", {"to": "Ada"}), ("c3", "look", {"record": 1})
    )


@pytest.mark.slow
async def test_no_checkpoint_leads_to_an_approved_call_without_asking(
    saver: Any, target: RunnableConfig | None
) -> None:
    harness, book = AgentHarness(), Book()
    model = ScriptedModel(script=by_turn)
    agent = harness.agent(model=model, checkpointer=saver)
    await agent.ainvoke(ASKED, with_book(THREAD, book), durability="sync")
    approvals = await apending_approvals(agent, THREAD)
    await aresume(
        agent, with_book(THREAD, book), {approval.approval_id: Approve() for approval in approvals}
    )
    gated = [("mail", "Ada"), ("pay", 3)]
    assert sorted(harness.ran) == [("look", 1), *gated]
    states = await history(agent)
    assert len({state.next for state in states}) == 7
    for state in states:
        await saver.adelete_thread("new")
        harness.ran.clear()
        here, config = await forked(agent, state, target)
        if here.standing is Standing.AT_REST:
            continue
        if here.standing is Standing.CAN_GO_ON:
            await agent.ainvoke(None, with_book(config, book), durability="sync")
            here = Fork(
                config=here.config,
                origin=here.origin,
                standing=standing(agent, await agent.aget_state(config)),
            )
        head = await agent.aget_state(config)
        assert not set(harness.ran) & set(gated)
        if head.next:
            assert here.standing is Standing.WAITING
            approvals = await apending_approvals(agent, config)
            assert [approval.tool for approval in approvals] == ["pay", "mail"]
            await aresume(
                agent,
                with_book(config, book),
                {approval.approval_id: Approve() for approval in approvals},
            )
            assert sorted(set(harness.ran) & set(gated)) == gated
        result = (await agent.aget_state(config)).values
        assert result["messages"][-1].content == "Done."
        # Asked about, and not refused.
        assert NOT_APPROVED not in [message.content for message in result["messages"]]
        assert lc_history_problems(provider_history(result["messages"])) == []
    assert len({intent.key for intent in book.intents}) == len(book.intents)


async def test_old_words_of_consent_decide_nothing(
    saver: Any, target: RunnableConfig | None
) -> None:
    harness = AgentHarness()
    agent = harness.agent(
        model=ScriptedModel(script=by_turn), checkpointer=saver, chat_decisions=True
    )
    await agent.ainvoke(ASKED, THREAD, durability="sync")
    await agent.ainvoke({"messages": [("user", "yes")]}, THREAD, durability="sync")
    assert len(harness.ran) == 3
    states = await history(agent)
    seen = set()
    for state in states:
        await saver.adelete_thread("new")
        harness.ran.clear()
        here, config = await forked(agent, state, target)
        seen.add((state.next, here.standing))
        if here.standing is Standing.CAN_GO_ON:
            await agent.ainvoke(None, config, durability="sync")
        assert not {name for name, _ in harness.ran} & {"pay", "mail"}
    assert (("consent",), Standing.WAITING) in seen
    assert (("__start__",), Standing.WAITING) in seen


async def test_tasks_have_new_ids(saver: Any, target: RunnableConfig | None) -> None:
    agent = AgentHarness().agent(model=ScriptedModel(script=by_turn), checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD, durability="sync")
    ids = {task.id for state in await history(agent) for task in state.tasks}
    for state in await history(agent):
        await saver.adelete_thread("new")
        _, config = await forked(agent, state, target)
        assert not ids & {task.id for task in (await agent.aget_state(config)).tasks}


async def test_a_fork_takes_new_input(saver: Any, target: RunnableConfig | None) -> None:
    model = ScriptedModel(script=[say("One."), say("Two."), say("Other two.")])
    agent = AgentHarness().agent(model=model, checkpointer=saver)
    run: RunnableConfig = {"configurable": {"thread_id": "t"}, "metadata": {"run_id": "r1"}}
    await agent.ainvoke(ASKED, run)
    first = (await history(agent))[-1]
    await agent.ainvoke({"messages": [("user", "Two?")]}, THREAD)
    # The same run id as the fork's own checkpoint would have its input dropped.
    onto: RunnableConfig = {
        "configurable": {**(target or THREAD)["configurable"], "__lease": "me"},
        "metadata": {"run_id": "r2"},
    }
    saver.fate.puts.clear()
    here = await fork(
        agent,
        onto if target is None else THREAD,
        id_of(first),
        target=None if target is None else onto,
    )
    assert [put["__lease"] for put in saver.fate.puts] == ["me"]
    assert here.standing is Standing.AT_REST
    result = await agent.ainvoke({"messages": [("user", "Other?")]}, onto)
    assert [message.content for message in result["messages"]] == [
        "Please.",
        "One.",
        "Other?",
        "Other two.",
    ]


async def test_what_the_config_carries_reaches_the_checkpointer_when_routed_again(
    saver: Any, target: RunnableConfig | None
) -> None:
    agent = AgentHarness().agent(model=ScriptedModel(script=by_turn), checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD, durability="sync")
    (state,) = [state for state in await history(agent) if state.next == ("tools",)]
    onto: RunnableConfig = {"configurable": {**(target or THREAD)["configurable"], "__lease": "me"}}
    saver.fate.puts.clear()
    await fork(
        agent,
        onto if target is None else THREAD,
        id_of(state),
        target=None if target is None else onto,
    )
    assert {put.get("__lease") for put in saver.fate.puts} == {"me"}
    assert len(saver.fate.puts) >= 2


async def test_the_branch_it_came_from_stays(saver: Any, target: RunnableConfig | None) -> None:
    agent = AgentHarness().agent(model=ScriptedModel(script=by_turn), checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    before = await history(agent)
    here, _ = await forked(agent, before[1], target)
    assert here.origin == id_of(before[1])
    after = await history(agent)
    assert [id_of(state) for state in after][: len(before)] == [id_of(state) for state in before]
    assert [state.values for state in after][: len(before)] == [state.values for state in before]
    assert len(after) == len(before) + (target is None)
    (copy,) = [state async for state in agent.aget_state_history(here.config, limit=1)]
    assert copy.metadata["source"] == "fork"
    assert copy.metadata["forked_from"] == {"thread_id": "t", "checkpoint_id": here.origin}


async def test_a_fork_can_be_closed(saver: Any) -> None:
    harness = AgentHarness()
    agent = harness.agent(model=ScriptedModel(script=by_turn), checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    for state in await history(agent):
        await saver.adelete_thread("new")
        await forked(agent, state, NEW)
        await close(agent, NEW, {})
        assert (await agent.aget_state(NEW)).next == ()
        await agent.ainvoke(ASKED, NEW)
    assert {name for name, _ in harness.ran} == {"look"}


async def test_open_calls_with_nothing_next_are_routed_again(
    saver: Any, target: RunnableConfig | None
) -> None:
    """An earlier version left such states where it had cancelled a run."""
    harness = AgentHarness()
    agent = harness.agent(model=ScriptedModel(script=by_turn), checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    await agent.aupdate_state(THREAD, None, as_node="__end__")
    (dangling, *_) = (await history(agent))[::-1]
    assert not dangling.next
    here, config = await forked(agent, dangling, target)
    assert here.standing is Standing.WAITING
    approvals = await apending_approvals(agent, config)
    assert [approval.tool for approval in approvals] == ["pay", "mail"]
    await aresume(agent, config, {approval.approval_id: Approve() for approval in approvals})
    assert (await agent.aget_state(config)).values["messages"][-1].content == "Done."
    assert sorted(harness.ran) == [("look", 1), ("mail", "Ada"), ("pay", 3)]


async def test_an_unknown_checkpoint_changes_nothing(saver: Any) -> None:
    agent = AgentHarness().agent(say("One."), checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    (other, *_) = await history(agent)
    await fork(agent, THREAD, id_of(other), target=NEW)
    saver.fate.puts.clear()
    for config, unknown in (
        (THREAD, "1f0"),
        (THREAD, ""),
        (NEW, id_of(other)),
        ({"configurable": {"thread_id": "none"}}, id_of(other)),
    ):
        with pytest.raises(NotFound, match="no checkpoint"):
            await fork(agent, config, unknown)
    with pytest.raises(InvalidRequest, match="history already"):
        await fork(agent, THREAD, id_of(other), target=NEW)
    assert saver.fate.puts == []


# ── graphs of users ───────────────────────────────────────────────────────────────────────────────


class Steps(TypedDict):
    steps: Annotated[list[str], operator.add]


def asking_graph(saver: Any, ran: list[str], **compiled: Any) -> Any:
    """Two nodes side by side, one of which asks; then one that does what was answered."""

    def ask(state: Any) -> Json:
        return {"steps": [f"answer {interrupt('Sure?')}"]}

    def beside(state: Any) -> Json:
        ran.append("beside")
        return {"steps": ["beside"]}

    def act(state: Any) -> Json:
        ran.append("act")
        return {"steps": ["act"]}

    graph = StateGraph(Steps)
    graph.add_node("ask", ask)
    graph.add_node("beside", beside)
    graph.add_node("act", act)
    graph.add_conditional_edges(START, lambda state: ["ask", "beside"])
    graph.add_edge(["ask", "beside"], "act")
    return graph.compile(checkpointer=saver, **compiled)


async def test_a_question_is_asked_again(saver: Any, target: RunnableConfig | None) -> None:
    ran: list[str] = []
    agent = asking_graph(saver, ran)
    await agent.ainvoke({"steps": ["start"]}, THREAD, durability="sync")
    (old,) = (await agent.aget_state(THREAD)).interrupts
    await agent.ainvoke(Command(resume={old.id: "yes"}), THREAD, durability="sync")
    assert ran == ["beside", "act"]
    states = await history(agent)
    assert [state.next for state in states][-2:] == [("act",), ()]
    # Also from right behind the answer, which had opened the way.
    for state in states[:-1]:
        await saver.adelete_thread("new")
        ran.clear()
        here, config = await forked(agent, state, target)
        assert here.standing is Standing.CAN_GO_ON
        await agent.ainvoke(None, config, durability="sync")
        (question,) = (await agent.aget_state(config)).interrupts
        assert question.id != old.id
        assert ran == ["beside"]
        assert standing(agent, await agent.aget_state(config)) is Standing.WAITING
        # The id of the old question answers nothing.
        await agent.ainvoke(Command(resume={old.id: "yes"}), config, durability="sync")
        assert "act" not in ran


async def test_a_static_pause_waits_again(saver: Any, target: RunnableConfig | None) -> None:
    ran: list[str] = []
    graph = StateGraph(Steps)
    graph.add_node("plan", lambda state: {"steps": ["plan"]})
    graph.add_node("act", lambda state: ran.append("act"))
    graph.add_node("tell", lambda state: {"steps": ["tell"]})
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "act")
    graph.add_edge("act", "tell")
    agent = graph.compile(checkpointer=saver, interrupt_before=["act"])
    await agent.ainvoke({"steps": ["start"]}, THREAD, durability="sync")
    await agent.ainvoke(None, THREAD, durability="sync")
    assert ran == ["act"]
    found = {}
    for state in await history(agent):
        await saver.adelete_thread("new")
        here, config = await forked(agent, state, target)
        found[state.next] = here.standing
        if here.standing is Standing.WAITING:
            (approval,) = await apending_approvals(agent, config)
            assert approval.node == "act"
        elif here.standing is Standing.CAN_GO_ON:
            await agent.ainvoke(None, config, durability="sync")
            assert (await agent.aget_state(config)).next == ("act",)
    assert ran == ["act"]
    assert found == {
        ("__start__",): Standing.CAN_GO_ON,
        ("plan",): Standing.CAN_GO_ON,
        ("act",): Standing.WAITING,
        ("tell",): Standing.WAITING,
        (): Standing.AT_REST,
    }


async def test_the_middleware_of_langchain_asks_again(
    saver: Any, target: RunnableConfig | None
) -> None:
    ran: list[int] = []

    @tool
    def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return f"Paid {amount}."

    model = ScriptedModel(
        script=lambda messages: (
            say("Done.") if messages[-1].type == "tool" else call("pay", amount=3)
        )
    )
    agent: Any = create_agent(
        model,
        [pay],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"pay": True})],
        checkpointer=saver,
    )
    await agent.ainvoke(ASKED, THREAD, durability="sync")
    (question,) = (await agent.aget_state(THREAD)).interrupts
    await agent.ainvoke(
        Command(resume={question.id: {"decisions": [{"type": "approve"}]}}),
        THREAD,
        durability="sync",
    )
    assert ran == [3]
    states = await history(agent)
    assert any(state.next == ("tools",) for state in states)
    for state in states:
        await saver.adelete_thread("new")
        here, config = await forked(agent, state, target)
        if here.standing is Standing.CAN_GO_ON:
            await agent.ainvoke(None, config, durability="sync")
    assert ran == [3]


async def test_a_question_about_calls_is_asked_again_as_long_as_they_are_open(
    saver: Any, target: RunnableConfig | None
) -> None:
    ran: list[str] = []
    graph = StateGraph(MessagesState)
    graph.add_node(
        "model", lambda state: {"messages": [asks(("c1", "pay", {"amount": 3}), message_id="m1")]}
    )
    graph.add_node("review", lambda state: interrupt("Sure?") and {})
    graph.add_node("note", lambda state: {})
    graph.add_node(
        "tools",
        lambda state: ran.append("pay") or {"messages": [ToolMessage("Paid.", tool_call_id="c1")]},
    )
    graph.add_node("tell", lambda state: {})
    graph.add_edge(START, "model")
    graph.add_edge("model", "review")
    graph.add_edge("review", "note")
    graph.add_edge("note", "tools")
    graph.add_edge("tools", "tell")
    agent = graph.compile(checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD, durability="sync")
    await agent.ainvoke(Command(resume="yes"), THREAD, durability="sync")
    assert ran == ["pay"]
    for state in await history(agent):
        await saver.adelete_thread("new")
        here, config = await forked(agent, state, target)
        if here.standing is Standing.CAN_GO_ON:
            await agent.ainvoke(None, config, durability="sync")
        assert bool((await agent.aget_state(config)).interrupts) is (
            state.next not in ((), ("tell",))
        )
        # Behind its answer the call is past.
        assert (here.origin == id_of(state)) is (state.next not in (("note",), ("tools",)))
    assert ran == ["pay"]


async def test_a_subgraph_begins_anew(saver: Any, target: RunnableConfig | None) -> None:
    ran: list[str] = []

    def note(state: Any) -> Json:
        ran.append("note")
        return {"steps": ["note"]}

    inner = StateGraph(Steps)
    inner.add_node("note", note)
    inner.add_node("ask", lambda state: {"steps": [interrupt("Sure?")]})
    inner.add_edge(START, "note")
    inner.add_edge("note", "ask")
    outer = StateGraph(Steps)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    agent = outer.compile(checkpointer=saver)
    await agent.ainvoke({"steps": []}, THREAD, durability="sync")
    (old,) = (await agent.aget_state(THREAD)).interrupts
    (state,) = [state for state in await history(agent) if state.next == ("inner",)]
    here, config = await forked(agent, state, target)
    assert here.standing is Standing.CAN_GO_ON
    await agent.ainvoke(None, config, durability="sync")
    (new,) = (await agent.aget_state(config)).interrupts
    assert isinstance(new, Interrupt) and new.id != old.id
    assert ran == ["note", "note"]


class Delta(TypedDict):
    messages: Annotated[list[Any], DeltaChannel(_messages_delta_reducer)]


async def test_a_delta_channel_comes_along(saver: Any, target: RunnableConfig | None) -> None:
    texts = iter("abcdef")
    graph = StateGraph(Delta)
    graph.add_node("one", lambda state: {"messages": [("ai", next(texts))]})
    graph.add_node("two", lambda state: {"messages": [("ai", next(texts))]})
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    agent = graph.compile(checkpointer=saver)
    await agent.ainvoke({"messages": [HumanMessage("go")]}, THREAD, durability="sync")
    (state,) = [state for state in await history(agent) if state.next == ("two",)]
    here, config = await forked(agent, state, target)
    assert here.standing is Standing.CAN_GO_ON
    result = await agent.ainvoke(None, config, durability="sync")
    assert [message.content for message in result["messages"]] == ["go", "a", "c"]
    assert [message.content for message in (await agent.aget_state(config)).values["messages"]] == [
        "go",
        "a",
        "c",
    ]


async def test_a_graph_that_stops_behind_a_node_waits() -> None:
    async with fated("memory", None) as saver:
        graph = StateGraph(MessagesState)
        graph.add_node("one", lambda state: {})
        graph.add_node("two", lambda state: {})
        graph.add_edge(START, "one")
        graph.add_edge("one", "two")
        agent = graph.compile(checkpointer=saver, interrupt_after=["one"])
        await agent.ainvoke(ASKED, THREAD)
        standings = [
            (await fork(agent, THREAD, id_of(state))).standing for state in await history(agent)
        ]
        assert standings == [Standing.CAN_GO_ON, Standing.WAITING, Standing.WAITING]
