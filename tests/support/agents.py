"""Agents to serve by path, for tests of the real server: offline, scripted by what they are told,
and leaving traces in a file.

What a message says is done, one turn of the model for each part between " then ", several calls of
a turn joined by ";":

    "look 3; pay 5 then pay 6"   calls look(3) and pay(5), then pay(6)
    "tell 40; look 3"            says 40 words, and calls look(3)
    "boom", "die"                the model raises, or kills the process the first time

The tools: `look` is free; `pay`, `slow` (waits for a file) and `die` (kills the process the first
time) need a person; `fail` is free and raises; `hold` is free, and waits for a file in a thread.
But for `hold`, what is free is declared to change nothing, so it is called again after a crash.
Each appends a line, `pay 5`, to the file that the environment's LEDGER names, and syncs it, before
it does anything else.

Each is made when it is asked for: to make them all takes as long as the rest of a server's start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

from assent import ApprovalPolicy, build_hitl_agent, call_once
from tests.support.models import ScriptedModel
from tests.support.told import (
    SECRET,
    act,
    die,
    die_in_time,
    die_once,
    fail,
    hold,
    ledger,
    let_go,
    look,
    pay,
    pays,
    refuse,
    reply,
    results,
    slow,
    trace,
)

__all__ = ["SECRET", "act", "ledger", "pays", "results"]


def asks(args: dict[str, Any]) -> bool:
    """Every payment needs a person. The graph asks this at each of its steps, so here a test can
    have the process killed at any of them."""
    die_in_time()
    return True


def scripted(name: str, *, delay: float = 0, chat_decisions: bool = False) -> Any:
    """An agent that does as it is told."""
    return build_hitl_agent(
        ScriptedModel(script=reply, delay=delay),
        [look, pay, slow, hold, die, fail, refuse],
        approve={
            "pay": ApprovalPolicy(when=asks, preview=lambda args: {"pays": args["amount"]}),
            "slow": True,
            "die": ApprovalPolicy(allowed=("approve", "reject")),
        },
        effects={"look": "none", "fail": "none", "refuse": "none"},
        name=name,
        chat_decisions=chat_decisions,
    )


class Questions(TypedDict):
    """What one task of `asking` is to ask, joined by " then "."""

    questions: str


def _asking() -> Any:
    """A graph of somebody else's, with `interrupt()`: "Which? then How many?; When?" asks two at
    once, and the first asks twice."""

    def ask(state: Questions) -> dict[str, Any]:
        answers = []
        for question in state["questions"].split(" then "):
            if question.startswith("die"):
                # Late enough for what the other tasks write to be stored.
                time.sleep(0.3)
                die_once(question)
            else:
                answers.append(interrupt({"question": question}))
        trace(f"answered {answers}")
        return {"messages": [AIMessage(f"Answers: {answers}")]}

    def fan_out(state: MessagesState) -> list[Send]:
        return [
            Send("ask", {"questions": questions})
            for questions in state["messages"][-1].text.split("; ")
        ]

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_conditional_edges(START, fan_out, ["ask"])
    graph.add_edge("ask", END)
    return graph.compile(name="asking")


def _foreign() -> Any:
    """A graph of somebody else's, as LangGraph's own tutorials write it: a pause before its node of
    tools."""
    tools = [look, pay, die]
    model = ScriptedModel(script=reply).bind_tools(tools)
    return with_tools(model, ToolNode(tools)).compile(interrupt_before=["tools"], name="foreign")


def _noted() -> Any:
    """A graph of somebody else's that asks nobody, and has its calls noted; all calls of a turn are
    made in one node."""
    tools = [look, pay, slow]
    once = call_once(tools, effects={"look": "none"})
    model = ScriptedModel(script=reply).bind_tools(tools)
    return with_tools(model, ToolNode(tools, awrap_tool_call=once)).compile(name="noted")


def with_tools(model: Any, node: ToolNode) -> Any:
    """A graph of a model and one node that makes the calls of its turns."""

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", node)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return graph


def _stopping() -> Any:
    """A graph of somebody else's that pauses before a node, and has no tool calls to show."""

    def publish(state: MessagesState) -> dict[str, Any]:
        trace(f"publish {state['messages'][-1].text}")
        return {"messages": [AIMessage("Published.")]}

    graph = StateGraph(MessagesState)
    graph.add_node("publish", publish)
    graph.add_edge(START, "publish")
    graph.add_edge("publish", END)
    return graph.compile(interrupt_before=["publish"], name="stopping")


def _waiting() -> Any:
    """A graph of somebody else's that asks, waits until the file `<ledger>.go-1` is there, and acts
    then."""

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"Told: {interrupt('Shall I?')}")]}

    async def wait(state: MessagesState) -> dict[str, Any]:
        trace("waits")
        await let_go(1)
        return {}

    def act(state: MessagesState) -> dict[str, Any]:
        trace("acts")
        return {"messages": [AIMessage("Done.")]}

    graph = StateGraph(MessagesState).add_sequence([ask, wait, act])
    return graph.add_edge(START, "ask").compile(name="waiting")


GRAPHS: dict[str, Callable[[], Any]] = {
    "agent": lambda: scripted("agent"),
    "slow_agent": lambda: scripted("slow_agent", delay=0.03),
    "chat_agent": lambda: scripted("chat_agent", chat_decisions=True),
    "asking": _asking,
    "foreign": _foreign,
    "noted": _noted,
    "stopping": _stopping,
    "waiting": _waiting,
}

ALL = tuple(GRAPHS)


def __getattr__(name: str) -> Any:
    """The graph of this name, which is made now."""
    if name not in GRAPHS:
        raise AttributeError(f"There is no '{name}' in {__name__}.")
    graph = globals()[name] = GRAPHS[name]()
    return graph
