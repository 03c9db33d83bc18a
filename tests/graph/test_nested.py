"""An agent that another graph's tool calls asks as any other does."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from assent import (
    ApprovalPolicy,
    Approve,
    Edit,
    Reject,
    apending_approvals,
    aresume,
    pending_approvals,
    resume,
)
from assent.core.approval import Approval
from assent.core.errors import InvalidDecision
from tests.graph.harness import ASKED, THREAD, AgentHarness, asks, told
from tests.support.models import say

DELEGATED = {"messages": [asks(("t1", "delegate", {}))]}


@pytest.fixture
def harness() -> AgentHarness:
    return AgentHarness()


def payer(harness: AgentHarness, *amounts: int, **options: Any) -> Any:
    """An agent that pays these amounts in one turn."""
    calls = [(f"c{amount}", "pay", {"amount": amount}) for amount in amounts]
    # Some providers use the id of a message again.
    turn = asks(*calls, message_id="m")
    return harness.agent(turn, say(f"Paid {amounts}."), checkpointer=None, **options)


def around(delegate: Any) -> Any:
    graph = StateGraph(MessagesState).add_node("tools", ToolNode([tool("delegate")(delegate)]))
    return graph.add_edge(START, "tools").compile(checkpointer=InMemorySaver())


def calling(*agents: Any) -> Any:
    """A graph with a tool that calls these agents, one after the other."""

    async def delegate() -> str:
        """Let agents do it."""
        results = [await agent.ainvoke(ASKED) for agent in agents]
        return " ".join(result["messages"][-1].text for result in results)

    return around(delegate)


async def only(graph: Any) -> Approval:
    (approval,) = await apending_approvals(graph, THREAD)
    return approval


async def test_what_it_asks_says_all_that_its_own_thread_would(harness: AgentHarness) -> None:
    policy = ApprovalPolicy(roles=("lead",), quorum=2, preview=lambda args: {"pays": args})
    graph = calling(payer(harness, 5, approve={"pay": policy, "mail": True}))
    await graph.ainvoke(DELEGATED, THREAD)
    approval = await only(graph)
    assert (approval.kind, approval.tool, approval.args) == ("tool", "pay", {"amount": 5})
    assert (approval.tool_call_id, approval.node) == ("c5", "tools|approval")
    assert approval.preview == {"pays": {"amount": 5}}
    assert (approval.policy.roles, approval.policy.quorum) == (("lead",), 2)
    assert harness.ran == []

    for args in ({"amount": "much"}, {"amount": 1, "too": "Ada"}):
        with pytest.raises(InvalidDecision, match="does not take these arguments"):
            await aresume(graph, THREAD, Edit(args))
    result = await aresume(graph, THREAD, Edit({"amount": 4, "to": "Bob"}))
    assert harness.ran == [("pay", 4)]
    assert told(result, "t1").text == "Paid (5,)."


async def test_where_the_agent_is_a_node_its_tool_itself_checks_an_edit(
    harness: AgentHarness,
) -> None:
    """It takes what a model may call it with, also a number as a text."""
    outer = StateGraph(MessagesState).add_node("payer", payer(harness, 5)).add_edge(START, "payer")
    graph = outer.compile(checkpointer=InMemorySaver())
    await graph.ainvoke(ASKED, THREAD)
    assert ((await only(graph)).node, (await only(graph)).schema) == ("payer|approval", None)
    with pytest.raises(InvalidDecision, match="has no argument 'too'"):
        await aresume(graph, THREAD, Edit({"amount": 1, "too": "Ada"}))
    await aresume(graph, THREAD, Edit({"amount": "4"}))
    assert harness.ran == [("pay", 4)]


async def test_two_that_ask_the_same_at_once_are_told_apart(harness: AgentHarness) -> None:
    turn = asks(("c5", "pay", {"amount": 5}), message_id="m")
    agents = [harness.agent(turn, say("Paid."), checkpointer=None) for _ in range(2)]

    async def delegate() -> str:
        """Let the next agent do it."""
        return str((await agents.pop().ainvoke(ASKED))["messages"][-1].text)

    tools = ToolNode([tool("delegate")(delegate)])
    graph = StateGraph(MessagesState).add_node("first", tools).add_node("second", tools)
    both = graph.add_edge(START, "first").add_edge(START, "second")
    compiled = both.compile(checkpointer=InMemorySaver())
    await compiled.ainvoke(DELEGATED, THREAD)
    asked = await apending_approvals(compiled, THREAD)
    assert len({approval.approval_id for approval in asked}) == len(asked) == 2


async def test_of_several_calls_those_that_are_left_are_asked_again(
    harness: AgentHarness,
) -> None:
    graph = calling(payer(harness, 1, 2, 3))
    await graph.ainvoke(DELEGATED, THREAD)
    first, second, third = await apending_approvals(graph, THREAD)
    await aresume(graph, THREAD, {second.approval_id: Approve()})
    left = [approval.approval_id for approval in await apending_approvals(graph, THREAD)]
    assert left == [first.approval_id, third.approval_id]
    await aresume(graph, THREAD, dict.fromkeys(left, Reject("No.")))
    assert harness.ran == [("pay", 2)]


async def test_an_answer_reaches_the_agent_that_has_asked(harness: AgentHarness) -> None:
    """LangGraph hands a task's answers out by position, and the first agent does not ask again."""
    graph = calling(payer(harness, 1), payer(harness, 1), payer(harness, 2))
    await graph.ainvoke(DELEGATED, THREAD)
    first = await only(graph)
    await aresume(graph, THREAD, Approve())
    second = await only(graph)
    assert (first.args, second.args) == ({"amount": 1}, {"amount": 1})
    assert first.approval_id != second.approval_id
    await aresume(graph, THREAD, Reject("Once is enough."))
    assert harness.ran == [("pay", 1)]
    result = await aresume(graph, THREAD, Approve())
    assert harness.ran == [("pay", 1), ("pay", 2)]
    assert told(result, "t1").text == "Paid (1,). Paid (1,). Paid (2,)."


@pytest.mark.parametrize("answer", ["yes", True, {"decisions": {"c1": {"type": "approve"}}}])
async def test_an_answer_to_something_else_approves_nothing(
    answer: Any, harness: AgentHarness
) -> None:
    graph = calling(payer(harness, 1))
    await graph.ainvoke(DELEGATED, THREAD)
    before = await only(graph)
    await graph.ainvoke(Command(resume=answer), THREAD)
    await graph.ainvoke(None, THREAD)
    assert harness.ran == []
    assert (await only(graph)).approval_id == before.approval_id


async def test_the_tool_may_ask_too(harness: AgentHarness) -> None:
    agent = payer(harness, 1)

    async def delegate() -> str:
        """Ask, and let an agent do it."""
        whose = interrupt("Whose money?")
        result = await agent.ainvoke(ASKED)
        return f"{whose}: {result['messages'][-1].text}"

    graph = around(delegate)
    await graph.ainvoke(DELEGATED, THREAD)
    await graph.ainvoke(Command(resume="Ada's"), THREAD)
    assert (await only(graph)).tool == "pay"
    result = await aresume(graph, THREAD, Approve())
    assert told(result, "t1").text == "Ada's: Paid (1,)."
    assert harness.ran == [("pay", 1)]


def test_a_sync_tool_calls_an_agent(harness: AgentHarness) -> None:
    async def preview(args: Any) -> Any:
        return {"pays": args}

    agent = payer(harness, 1, approve={"pay": ApprovalPolicy(preview=preview)})

    def delegate() -> str:
        """Let an agent do it."""
        return str(agent.invoke(ASKED)["messages"][-1].text)

    graph = around(delegate)
    graph.invoke(DELEGATED, THREAD)
    (approval,) = pending_approvals(graph, THREAD)
    assert (approval.tool, approval.preview) == ("pay", {"pays": {"amount": 1}})
    assert told(resume(graph, THREAD, Approve()), "t1").text == "Paid (1,)."
    assert harness.ran == [("pay", 1)]


async def test_a_thread_of_its_own_is_not_nested(harness: AgentHarness) -> None:
    agent = harness.agent(asks(("c1", "pay", {"amount": 1})), say("Paid."))
    own = {"configurable": {"thread_id": "own"}}

    async def delegate() -> str:
        """Start an agent, and do not wait for people."""
        await agent.ainvoke(ASKED, own)
        return "Started."

    result = await around(delegate).ainvoke(DELEGATED, THREAD)
    assert told(result, "t1").text == "Started."
    (approval,) = await apending_approvals(agent, own)
    assert (approval.tool, approval.node) == ("pay", "approval")
