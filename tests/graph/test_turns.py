"""The recursion limit of an agent counts turns of its model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, MessagesState, StateGraph

from assent import Approve, apending_approvals, aresume, astream_typed
from tests.graph.harness import ASKED, THREAD, AgentHarness, asks
from tests.support.models import ScriptedModel, say

LIMIT = 6


def busy(turns: int, tool: str = "look") -> ScriptedModel:
    """A model that calls a tool in each of so many turns but the last, and then is done."""

    def reply(history: list[Any]) -> AIMessage:
        done = sum(isinstance(message, ToolMessage) for message in history)
        if done + 1 == turns:
            return say("Done.")
        return asks((f"c{done}", tool, {"record": done} if tool == "look" else {"amount": done}))

    return ScriptedModel(script=reply)


def limited(limit: int = LIMIT) -> RunnableConfig:
    return {**THREAD, "recursion_limit": limit}


async def invoke(agent: Any, config: RunnableConfig) -> Any:
    return agent.invoke(ASKED, config)


async def ainvoke(agent: Any, config: RunnableConfig) -> Any:
    return await agent.ainvoke(ASKED, config)


@pytest.mark.parametrize("run", [invoke, ainvoke])
async def test_so_many_turns_may_be_taken_and_no_more(run: Callable[..., Any]) -> None:
    for turns in (LIMIT, LIMIT + 1):
        harness, model = AgentHarness(), busy(turns)
        agent = harness.agent(model=model, tools=harness.tools()[:1], approve=[])
        if turns == LIMIT:
            result = await run(agent, limited())
            assert result["messages"][-1].text == "Done."
        else:
            with pytest.raises(GraphRecursionError, match=f"the {LIMIT} turns"):
                await run(agent, limited())
        assert len(model.calls) == LIMIT


async def test_a_run_that_goes_on_has_as_many_again() -> None:
    harness, model = AgentHarness(), busy(2 * LIMIT, "pay")
    agent = harness.agent(model=model, tools=harness.tools()[:2], approve={"pay": first_only})
    await agent.ainvoke(ASKED, limited())
    assert len(await apending_approvals(agent, THREAD)) == 1
    with pytest.raises(GraphRecursionError):
        await aresume(agent, limited(), Approve())
    assert len(model.calls) == 1 + LIMIT


def first_only(args: dict[str, Any]) -> bool:
    return bool(args["amount"] == 0)


async def test_the_limit_of_the_graph_itself_counts_turns_too() -> None:
    harness, model = AgentHarness(), busy(LIMIT + 1)
    agent = harness.agent(model=model, tools=harness.tools()[:1], approve=[])
    with pytest.raises(GraphRecursionError):
        await agent.with_config(recursion_limit=LIMIT).ainvoke(ASKED, THREAD)
    assert len(model.calls) == LIMIT


async def test_an_agent_within_an_agent_has_the_same_limit() -> None:
    harness, model = AgentHarness(), busy(LIMIT + 1)
    inner = harness.agent(model=model, tools=harness.tools()[:1], approve=[], checkpointer=None)

    async def delegate() -> str:
        """Let an agent do it."""
        await inner.ainvoke(ASKED)
        return "Done."

    outer = harness.agent(asks(("c", "delegate", {})), say("Done."), tools=[delegate], approve=[])
    await outer.ainvoke(ASKED, limited())
    assert len(model.calls) == LIMIT


async def test_typed_events_know_no_other_limit_than_the_graph() -> None:
    """LangChain's default is 25 steps."""
    harness = AgentHarness()
    agent = harness.agent(model=busy(20), tools=harness.tools()[:1], approve=[])
    events = [event async for event in astream_typed(agent, ASKED, THREAD)]
    assert type(events[-1]).__name__ == "Done"

    graph = StateGraph(MessagesState).add_node("again", lambda state: {}).add_edge(START, "again")
    around = graph.add_edge("again", "again").compile().with_config(recursion_limit=LIMIT)
    events = []
    with pytest.raises(GraphRecursionError):
        async for event in astream_typed(around, ASKED):
            events.append(event)
    assert sum(type(event).__name__ == "NodeStart" for event in events) == LIMIT
