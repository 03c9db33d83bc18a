"""Bringing a thread to rest after its run was cancelled, or as if it had never been."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import InjectedToolCallId, tool
from langgraph._internal._constants import NULL_TASK_ID
from langgraph.channels import DeltaChannel
from langgraph.errors import InvalidUpdateError
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send, StateSnapshot, interrupt
from pydantic import BaseModel

from assent import Approve, Edit, Reject, Respond, apending_approvals, aresume
from assent.graph.closing import (
    CUT_OFF,
    NO_RESULT,
    NOT_STARTED,
    Finished,
    Started,
    close,
    roll_back,
)
from assent.graph.effects import EFFECTS_KEY
from assent.graph.interrupts.questions import find_pending
from assent.graph.interrupts.resume import continuation
from assent.graph.provider_history import provider_history
from assent.graph.state import messages_in, open_calls
from assent.graph.state_types import state_types
from tests.graph.harness import ASKED, THREAD, AgentHarness, Json, asks, told
from tests.graph.savers import Book, Died, fated
from tests.support.models import ScriptedModel, lc_history_problems, say

TWO_CALLS = (("c1", "pay", {"amount": 3}), ("c2", "mail", {"to": "Ada"}))


@pytest.fixture(params=["memory", "sqlite"])
async def saver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    async with fated(request.param, tmp_path / "checkpoints.db") as saver:
        yield saver


def run_of(run_id: str, book: Book | None = None) -> RunnableConfig:
    """The config that the engine runs an agent with."""
    return {
        "configurable": {"thread_id": "t", "__lease": "me", EFFECTS_KEY: book or Book()},
        "metadata": {"run_id": run_id},
    }


async def is_at_rest(agent: Any) -> bool:
    state = await agent.aget_state(THREAD)
    return (state.next, state.tasks, state.interrupts) == ((), (), ())


async def history(agent: Any) -> list[StateSnapshot]:
    """The thread's checkpoints, newest first."""
    return [state async for state in agent.aget_state_history(THREAD)]


def has_dangling_calls(state: StateSnapshot) -> bool:
    """True if calls are open, and nothing is left to run or to answer them."""
    return not state.tasks and bool(open_calls(messages_in(state.values))[1])


async def messages_of(agent: Any) -> list[AnyMessage]:
    messages: list[AnyMessage] = (await agent.aget_state(THREAD)).values.get("messages", [])
    return messages


# ── agents of ours ────────────────────────────────────────────────────────────────────────────────


async def test_a_thread_that_waited_takes_new_input(saver: Any) -> None:
    harness = AgentHarness()
    model = ScriptedModel(script=[asks(*TWO_CALLS, ("c3", "look", {"record": 1})), say("Fine.")])
    agent = harness.agent(model=model, checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    await close(agent, THREAD, {})
    assert await is_at_rest(agent)
    assert await apending_approvals(agent, THREAD) == []
    result = await agent.ainvoke({"messages": [("user", "Something else.")]}, THREAD)
    assert harness.ran == [("look", 1)]
    assert [told(result, call_id).content for call_id in ("c1", "c2", "c3")] == [
        NOT_STARTED,
        NOT_STARTED,
        "Record 1 is in order.",
    ]
    assert result["messages"][-1].content == "Fine."
    assert [lc_history_problems(history) for history in model.calls] == [[], []]


async def test_each_call_is_told_what_became_of_it(saver: Any) -> None:
    harness = AgentHarness()
    calls = [(f"c{number}", "pay", {"amount": number}) for number in range(6)]
    agent = harness.agent(asks(*calls), say("Fine."), checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    # Decided, and cut off before the decisions were carried out.
    snapshot = await agent.aget_state(THREAD)
    command = continuation(
        agent, snapshot, list(zip(find_pending(agent, snapshot), decisions_for_six(), strict=True))
    ).input
    await saver.aput_writes(snapshot.config, list(command.update.items()), NULL_TASK_ID)
    paid = ToolMessage("Paid 7 to Ada.", tool_call_id="c3", name="pay")
    refunded = Command(
        update={"messages": [ToolMessage("Paid at last.", tool_call_id="c5")], "unknown": 1}
    )
    await close(agent, THREAD, {"c2": Started(), "c3": Finished(paid), "c5": Finished([refunded])})
    result = await agent.ainvoke(ASKED, THREAD)
    texts = [str(told(result, f"c{number}").content) for number in range(6)]
    assert texts[0] == "A person rejected this call. It did not run. The reason: no"
    assert texts[1] == "from a person"
    assert texts[2] == CUT_OFF
    assert (
        texts[3].startswith("A person changed the arguments")
        and '{"amount": 7}' in texts[3]
        and texts[3].endswith("Paid 7 to Ada.")
    )
    assert texts[4] == NOT_STARTED
    assert texts[5] == "Paid at last."
    assert harness.ran == []
    assert (await agent.aget_state(THREAD)).values["decisions"] == {}


def decisions_for_six() -> list[Any]:
    return [
        Reject("no"),
        Respond("from a person"),
        Approve(),
        Edit({"amount": 7}),
        Approve(),
        Approve(),
    ]


async def _asks_and_decides(agent: Any, book: Book) -> None:
    config = run_of("r1", book)
    await agent.ainvoke(ASKED, config, durability="sync")
    approvals = await apending_approvals(agent, config)
    await aresume(agent, config, {approval.approval_id: Approve() for approval in approvals})


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
async def test_it_may_be_cut_off_at_any_point_of_a_run(saver: Any, after: bool) -> None:
    """A run that dies at its first, second, … write is closed, and what the model is told of each
    call is true."""
    survived = False
    for dies_at in range(1, 40):
        await saver.adelete_thread("t")
        harness, book = AgentHarness(), Book()
        model = ScriptedModel(script=[asks(*TWO_CALLS), say("Done."), say("Done.")])
        agent = harness.agent(model=model, checkpointer=saver)
        saver.fate.puts.clear()
        saver.fate.dies_at, saver.fate.after = dies_at, after
        try:
            await _asks_and_decides(agent, book)
            survived = True
        except Died:
            pass
        saver.fate.dies_at = 0
        await _is_closed_truly(agent, harness, book, began=dies_at > 1 or after)
        assert [lc_history_problems(history) for history in model.calls] == [[]] * len(model.calls)
        if survived:
            return
    raise AssertionError("The run never got to its end.")


async def _is_closed_truly(agent: Any, harness: AgentHarness, book: Book, *, began: bool) -> None:
    before = list(harness.ran)
    checkpoints = len(await history(agent))
    await close(agent, THREAD, book.became_of)
    assert await is_at_rest(agent)
    states = await history(agent)
    assert len(states) <= checkpoints + 1
    assert not any(map(has_dangling_calls, states))
    messages = await messages_of(agent)
    assert [message.content for message in messages if isinstance(message, HumanMessage)] == [
        "Please."
    ] * began
    answers = {
        message.tool_call_id: str(message.content)
        for message in messages
        if isinstance(message, ToolMessage)
    }
    asked = {
        call["id"]
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    assert set(answers) == asked
    for call_id, name in (("c1", "pay"), ("c2", "mail")):
        if call_id in answers:
            ran = any(tool == name for tool, _ in before)
            assert (answers[call_id] != NOT_STARTED) is ran, (call_id, answers, before)
            assert not ran or answers[call_id].startswith(("Paid", "Wrote"))
    await agent.ainvoke(ASKED, run_of("r2", book), durability="sync")
    assert harness.ran == before


async def test_a_call_that_changes_nothing_is_not_said_to_have_never_run(saver: Any) -> None:
    """The ledger knows nothing of it, so nobody knows whether it ran."""
    agent = AgentHarness().agent(asks(*TWO_CALLS), checkpointer=saver, effects={"pay": "none"})
    await agent.ainvoke(ASKED, THREAD)
    await close(agent, THREAD, {})
    texts = {
        message.name: message.content
        for message in await messages_of(agent)
        if isinstance(message, ToolMessage)
    }
    assert texts == {"pay": NO_RESULT, "mail": NOT_STARTED}


@pytest.mark.parametrize("after", [False, True])
async def test_closing_is_one_write_and_may_be_cut_off(saver: Any, after: bool) -> None:
    agent = AgentHarness().agent(asks(*TWO_CALLS), checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    paused = await agent.aget_state(THREAD)
    checkpoints = len(await history(agent))
    saver.fate.puts.clear()
    saver.fate.dies_at, saver.fate.after = 1, after
    with pytest.raises(Died):
        await close(agent, THREAD, {"c2": Started()})
    assert after or await agent.aget_state(THREAD) == paused
    saver.fate.dies_at = 0
    await close(agent, THREAD, {"c2": Started()})
    assert await is_at_rest(agent)
    assert len(saver.fate.puts) == (1 if after else 2)
    assert len(await history(agent)) == checkpoints + 1
    assert [str(message.content) for message in await messages_of(agent)] == [
        "Please.",
        "",
        NOT_STARTED,
        CUT_OFF,
    ]


async def test_a_thread_that_an_earlier_version_left_half_closed_is_closed(saver: Any) -> None:
    agent = AgentHarness().agent(asks(*TWO_CALLS), checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    await agent.aupdate_state(THREAD, None, as_node=END)
    assert has_dangling_calls(await agent.aget_state(THREAD))
    await close(agent, THREAD, {"c2": Started()})
    assert [str(message.content) for message in (await messages_of(agent))[2:]] == [
        NOT_STARTED,
        CUT_OFF,
    ]


async def test_tools_that_run_side_by_side_are_told_apart(saver: Any) -> None:
    """One has finished when the run is cancelled, the other is under way: as tasks are really
    cancelled."""
    book, started = Book(), asyncio.Event()

    @tool
    async def quick(n: int) -> str:
        """Quick."""
        return f"quick {n}"

    @tool
    async def slow(n: int) -> str:
        """Slow."""
        while len(book.outcomes) < 1:
            await asyncio.sleep(0)
        started.set()
        await asyncio.Event().wait()
        return "never"

    calls = asks(("c1", "quick", {"n": 1}), ("c2", "slow", {"n": 2}))
    agent = AgentHarness().agent(
        calls, say("Fine."), tools=[quick, slow], approve=["quick", "slow"], checkpointer=saver
    )
    await agent.ainvoke(ASKED, run_of("r1", book))
    approvals = await apending_approvals(agent, THREAD)
    run = asyncio.create_task(
        aresume(
            agent, run_of("r1", book), {approval.approval_id: Approve() for approval in approvals}
        )
    )
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await close(agent, THREAD, book.became_of)
    assert await is_at_rest(agent)
    result = await agent.ainvoke(ASKED, THREAD)
    assert [told(result, call_id).content for call_id in ("c1", "c2")] == ["quick 1", CUT_OFF]


async def test_a_model_that_was_cancelled_leaves_the_question(saver: Any) -> None:
    model = ScriptedModel(script=[say("word " * 50), say("Fine.")], delay=0.05)
    agent = AgentHarness().agent(model=model, checkpointer=saver)
    run = asyncio.create_task(agent.ainvoke(ASKED, THREAD, durability="sync"))
    while not model.calls:
        await asyncio.sleep(0.001)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await close(agent, THREAD, {})
    assert await is_at_rest(agent)
    assert [message.content for message in await messages_of(agent)] == ["Please."]


async def test_where_nothing_was_written_nothing_is(saver: Any) -> None:
    agent = AgentHarness().agent(say("Hi."), checkpointer=saver)
    await close(agent, THREAD, {})
    assert saver.fate.puts == []
    await agent.ainvoke(ASKED, THREAD)
    saver.fate.puts.clear()
    await close(agent, THREAD, {})
    assert saver.fate.puts == []


async def test_what_the_config_carries_reaches_the_checkpointer(saver: Any) -> None:
    agent = AgentHarness().agent(asks(*TWO_CALLS), checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    saver.fate.puts.clear()
    await close(agent, run_of("r1"), {})
    assert [put.get("__lease") for put in saver.fate.puts] == ["me"]


# ── graphs of users ───────────────────────────────────────────────────────────────────────────────


def pays(amount: int) -> str:
    """Pay."""
    return f"Paid {amount}."


def tools_graph(
    model: ScriptedModel, saver: Any, state: Any = MessagesState, **compiled: Any
) -> Any:
    """The usual graph: a model, its tools, and a routing that is made for the model's messages
    only."""

    def routed(state: Any) -> str:
        return "tools" if state["messages"][-1].tool_calls else END

    graph = StateGraph(state)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([pays]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", routed)
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=saver, **compiled)


class Added(TypedDict):
    messages: Annotated[list[AnyMessage], operator.add]


class Replaced(TypedDict):
    messages: list[AnyMessage]


class Delta(TypedDict):
    messages: Annotated[list[Any], DeltaChannel(_messages_delta_reducer)]


@pytest.mark.parametrize("state", [MessagesState, Added, Delta])
async def test_a_static_pause_is_closed(saver: Any, state: Any) -> None:
    model = ScriptedModel(script=[asks(("c1", "pays", {"amount": 3})), say("Fine.")])
    agent = tools_graph(model, saver, state, interrupt_before=["tools"])
    await agent.ainvoke({"messages": [HumanMessage("Please.")]}, THREAD)
    await close(agent, THREAD, {})
    assert await is_at_rest(agent)
    result = await agent.ainvoke({"messages": [HumanMessage("Please.")]}, THREAD)
    assert [message.content for message in result["messages"]] == [
        "Please.",
        "",
        CUT_OFF,
        "Please.",
        "Fine.",
    ]
    assert lc_history_problems(model.calls[-1]) == []


async def test_messages_without_a_reducer_are_replaced_whole(saver: Any) -> None:
    model = ScriptedModel(script=[asks(("c1", "pays", {"amount": 3}))])
    graph = StateGraph(Replaced)
    graph.add_node(
        "model", lambda state: {"messages": [*state["messages"], model.invoke(state["messages"])]}
    )
    graph.add_node("tools", ToolNode([pays]))
    graph.add_edge(START, "model")
    graph.add_edge("model", "tools")
    agent = graph.compile(checkpointer=saver, interrupt_before=["tools"])
    await agent.ainvoke({"messages": [HumanMessage("Please.")]}, THREAD)
    await close(agent, THREAD, {})
    assert [message.content for message in await messages_of(agent)] == ["Please.", "", CUT_OFF]


async def test_where_nobody_kept_a_ledger_a_call_may_have_happened(saver: Any) -> None:
    agent = tools_graph(
        ScriptedModel(script=[asks(("c1", "pays", {"amount": 3}))]),
        saver,
        interrupt_before=["tools"],
    )
    await agent.ainvoke(ASKED, THREAD)
    await close(agent, THREAD, {})
    assert (await messages_of(agent))[-1].content == CUT_OFF


async def test_what_was_said_while_calls_waited_goes_behind_the_answers(saver: Any) -> None:
    model = ScriptedModel(script=[asks(("c1", "pays", {"amount": 3})), say("Fine.")])
    agent = tools_graph(model, saver, interrupt_before=["tools"])
    await agent.ainvoke(ASKED, THREAD)
    await agent.aupdate_state(THREAD, {"messages": [("user", "Hurry!")]}, as_node=START)
    await close(agent, THREAD, {})
    assert [message.content for message in await messages_of(agent)] == [
        "Please.",
        "",
        CUT_OFF,
        "Hurry!",
    ]
    await agent.ainvoke(ASKED, THREAD)
    assert lc_history_problems(model.calls[-1]) == []


async def test_a_question_of_a_graph_is_taken_back(saver: Any) -> None:
    ran = []

    def ask(state: Any) -> Json:
        ran.append("ask")
        return {"answer": interrupt("What is your name?")}

    class State(TypedDict):
        answer: str
        done: Annotated[list[str], operator.add]

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_node("beside", lambda state: {"done": ["beside"]})
    graph.add_node("end", lambda state: {"done": ["end"]})
    graph.add_conditional_edges(START, lambda state: ["ask", "beside"])
    graph.add_edge(["ask", "beside"], "end")
    agent = graph.compile(checkpointer=saver)
    await agent.ainvoke({"done": ["start"]}, THREAD)
    assert (await agent.aget_state(THREAD)).interrupts
    await close(agent, THREAD, {})
    assert await is_at_rest(agent)
    # What had finished beside it is kept.
    assert (await agent.aget_state(THREAD)).values == {"done": ["start", "beside"]}
    await agent.ainvoke({"done": ["again"]}, THREAD)
    assert ran == ["ask", "ask"]
    assert len((await agent.aget_state(THREAD)).interrupts) == 1


async def test_a_question_in_a_subgraph_is_taken_back(saver: Any) -> None:
    inner = StateGraph(MessagesState)
    inner.add_node("ask", lambda state: {"messages": [interrupt("Sure?")]})
    inner.add_edge(START, "ask")
    outer = StateGraph(MessagesState)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    agent = outer.compile(checkpointer=saver)
    await agent.ainvoke(ASKED, THREAD)
    await close(agent, THREAD, {})
    assert await is_at_rest(agent)
    await agent.ainvoke(ASKED, THREAD)
    (question,) = (await agent.aget_state(THREAD)).interrupts
    await agent.ainvoke(Command(resume={question.id: ("user", "yes")}), THREAD)
    assert [message.content for message in await messages_of(agent)] == [
        "Please.",
        "Please.",
        "yes",
    ]


class Form(BaseModel):
    name: str = ""
    steps: Annotated[list[str], operator.add] = []


async def test_input_that_was_never_taken_in_is_kept_whatever_its_shape(saver: Any) -> None:
    graph = StateGraph(Form)
    graph.add_node("only", lambda state: {"steps": ["ran"]})
    graph.add_edge(START, "only")
    agent = graph.compile(checkpointer=saver.with_allowlist(state_types(graph.compile())))
    for given in ({"name": "Ada", "steps": ["one"]}, Form(name="Ada", steps=["one"])):
        await saver.adelete_thread("t")
        saver.fate.puts.clear()
        saver.fate.dies_at, saver.fate.after = 1, True
        with pytest.raises(Died):
            await agent.ainvoke(given, THREAD, durability="sync")
        saver.fate.dies_at = 0
        await close(agent, THREAD, {})
        assert await is_at_rest(agent)
        assert (await agent.aget_state(THREAD)).values == {"name": "Ada", "steps": ["one"]}


async def test_odd_states_are_only_cleared(saver: Any) -> None:
    class Odd(TypedDict):
        messages: str

    graph = StateGraph(Odd)
    graph.add_node("only", lambda state: {"messages": "never"})
    graph.add_edge(START, "only")
    agent = graph.compile(checkpointer=saver, interrupt_before=["only"])
    await agent.ainvoke({"messages": "text"}, THREAD)
    await close(agent, THREAD, {})
    assert await is_at_rest(agent)
    assert (await agent.aget_state(THREAD)).values == {"messages": "text"}


def strict(old: list[AnyMessage], new: list[AnyMessage]) -> list[AnyMessage]:
    assert not any(isinstance(message, ToolMessage) for message in new)
    return [*old, *new]


class Strict(TypedDict):
    messages: Annotated[list[AnyMessage], strict]


async def test_a_state_that_refuses_the_answers_keeps_its_messages(saver: Any) -> None:
    model = ScriptedModel(script=[asks(("c1", "pays", {"amount": 3}))])
    agent = tools_graph(model, saver, Strict, interrupt_before=["tools"])
    await agent.ainvoke({"messages": [HumanMessage("Please.")]}, THREAD)
    await close(agent, THREAD, {})
    assert await is_at_rest(agent)
    assert len(await messages_of(agent)) == 2


def limited(old: int, new: int) -> int:
    if new > 100:
        raise ValueError("It is too much.")
    return old + new


class Limited(MessagesState):
    spent: Annotated[int, limited]
    last: str


@tool
def spends(amount: int, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Spend."""
    answer = ToolMessage(f"Spent {amount}.", tool_call_id=tool_call_id)
    return Command(update={"messages": [answer], "spent": amount, "last": str(amount)})


def each_call(state: Limited) -> list[Send]:
    turn = state["messages"][-1]
    assert isinstance(turn, AIMessage)
    return [Send("tools", [call]) for call in turn.tool_calls]


@pytest.mark.parametrize("amounts", [(1000,), (3, 4)], ids=["a reducer raises", "one field twice"])
async def test_what_a_state_does_not_take_keeps_no_thread_from_being_closed(
    saver: Any, amounts: tuple[int, ...]
) -> None:
    asked = asks(*((f"c{amount}", "spends", {"amount": amount}) for amount in amounts))
    model = ScriptedModel(script=[asked, say("Sorry.")])
    graph = StateGraph(Limited)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([spends]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", each_call, ["tools"])
    agent = graph.compile(checkpointer=saver)
    with pytest.raises((ValueError, InvalidUpdateError)):
        await agent.ainvoke({"messages": [HumanMessage("Please.")]}, THREAD)

    finished = {str(call["id"]): Finished(spends.invoke(call)) for call in asked.tool_calls}
    await close(agent, THREAD, finished)
    assert await is_at_rest(agent)
    state = await agent.aget_state(THREAD)
    assert not has_dangling_calls(state)
    assert [each.text for each in state.values["messages"][2:]] == [
        f"Spent {amount}." for amount in amounts
    ]


# ── rolling back ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Any]:
    """LangGraph's checkpointer in memory cannot delete a run."""
    async with fated("sqlite", tmp_path / "checkpoints.db") as saver:
        yield saver


async def test_a_run_is_rolled_back(sqlite: Any) -> None:
    model = ScriptedModel(script=[say("One."), asks(*TWO_CALLS), say("Three.")])
    agent = AgentHarness().agent(model=model, checkpointer=sqlite)
    await agent.ainvoke(ASKED, run_of("r1"))
    before = await messages_of(agent)
    await agent.ainvoke({"messages": [("user", "Two?")]}, run_of("r2"))
    await roll_back(agent, run_of("r2"), "r2", {})
    assert await is_at_rest(agent)
    assert await messages_of(agent) == before
    result = await agent.ainvoke({"messages": [("user", "Three?")]}, run_of("r3"))
    assert [message.content for message in result["messages"]] == [
        "Please.",
        "One.",
        "Three?",
        "Three.",
    ]


async def test_the_first_run_is_rolled_back(sqlite: Any) -> None:
    agent = AgentHarness().agent(asks(*TWO_CALLS), say("Fine."), checkpointer=sqlite)
    await agent.ainvoke(ASKED, run_of("r1"))
    await roll_back(agent, run_of("r1"), "r1", {})
    assert (await agent.aget_state(THREAD)).values == {}
    result = await agent.ainvoke({"messages": [("user", "Hello?")]}, run_of("r2"))
    assert [message.content for message in result["messages"]] == ["Hello?", "Fine."]


async def test_a_run_that_went_on_after_a_pause_is_rolled_back_to_rest(sqlite: Any) -> None:
    """Its message and its decisions go, and what it has done in the world is told."""
    harness, book = AgentHarness(), Book()
    agent = harness.agent(
        asks(*TWO_CALLS, ("c3", "mail", {"to": "Bob"})),
        say("Done."),
        say("Fine."),
        checkpointer=sqlite,
    )
    await agent.ainvoke(ASKED, run_of("r1", book))
    first, second, _ = await apending_approvals(agent, THREAD)
    await aresume(
        agent,
        run_of("r2", book),
        {first.approval_id: Edit({"amount": 4}), second.approval_id: Approve()},
    )
    assert sorted(harness.ran) == [("mail", "Ada"), ("pay", 4)]
    for _ in range(2):
        await roll_back(agent, run_of("r2", book), "r2", book.became_of)
        assert await is_at_rest(agent)
        _, _, *answers = await messages_of(agent)
        texts = [str(answer.content) for answer in answers]
        assert '{"amount": 4}' in texts[0] and texts[0].endswith("Paid 4 to Ada.")
        assert texts[1:] == ["Wrote to Ada.", NOT_STARTED]
    result = await agent.ainvoke(ASKED, run_of("r3", book))
    assert lc_history_problems(provider_history(result["messages"])) == []
    assert sorted(harness.ran) == [("mail", "Ada"), ("pay", 4)]


@pytest.mark.parametrize("after", [False, True])
async def test_rolling_back_may_be_cut_off_too(sqlite: Any, after: bool) -> None:
    """A rollback that dies at its first, second, … write is done again, and what has run is told:
    it must not be asked about anew."""
    for dies_at in range(1, 20):
        await sqlite.adelete_thread("t")
        harness, book = AgentHarness(), Book()
        agent = harness.agent(asks(*TWO_CALLS), say("Done."), checkpointer=sqlite)
        await agent.ainvoke(ASKED, run_of("r1", book), durability="sync")
        approvals = await apending_approvals(agent, THREAD)
        await aresume(
            agent, run_of("r2", book), {approval.approval_id: Approve() for approval in approvals}
        )
        sqlite.fate.puts.clear()
        sqlite.fate.dies_at, sqlite.fate.after = dies_at, after
        try:
            await roll_back(agent, run_of("r2", book), "r2", book.became_of)
            return
        except Died:
            sqlite.fate.dies_at = 0
        await roll_back(agent, run_of("r2", book), "r2", book.became_of)
        assert await is_at_rest(agent)
        assert [str(message.content) for message in await messages_of(agent)] == [
            "Please.",
            "",
            "Paid 3 to Ada.",
            "Wrote to Ada.",
        ]
    raise AssertionError("Rolling back never came to its end.")


async def test_what_a_command_left_before_the_run_does_not_linger(sqlite: Any) -> None:
    agent = tools_graph(
        ScriptedModel(script=[asks(("c1", "pays", {"amount": 3})), say("Paid."), say("Fine.")]),
        sqlite,
        interrupt_before=["tools"],
    )
    await agent.ainvoke(ASKED, run_of("r1"))
    await agent.ainvoke(Command(update={"messages": [("user", "Hurry!")]}), run_of("r2"))
    assert "Hurry!" in [message.content for message in await messages_of(agent)]
    await sqlite.adelete_for_runs(["r2"])
    # As measured: deleting a run's checkpoints alone leaves what it wrote on the one before.
    assert "Hurry!" in [message.content for message in await messages_of(agent)]
    await roll_back(
        agent, run_of("r2"), "r2", {"c1": Finished(ToolMessage("Paid 3.", tool_call_id="c1"))}
    )
    assert [message.content for message in await messages_of(agent)] == ["Please.", "", "Paid 3."]
    assert await is_at_rest(agent)


async def test_another_thread_of_the_same_agent_is_not_touched(sqlite: Any) -> None:
    agent = AgentHarness().agent(say("One."), say("Two."), checkpointer=sqlite)
    other: RunnableConfig = {"configurable": {"thread_id": "u"}, "metadata": {"run_id": "r9"}}
    await agent.ainvoke(ASKED, other)
    await agent.ainvoke(ASKED, run_of("r1"))
    await roll_back(agent, run_of("r1"), "r1", {})
    assert [message.content for message in (await agent.aget_state(other)).values["messages"]] == [
        "Please.",
        "One.",
    ]
