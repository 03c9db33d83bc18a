"""Graphs as other people write them, to serve by path or to run in memory: each asks a person in
another style.

They are told what to do as those of `agents.py` are, and leave their traces in the same file: "pay
5; pay 6" pays twice in one turn. "ask Which year?" asks with `ask_human`, and "ask Which year? 2019
2020" gives it choices.
"""

from __future__ import annotations

import asyncio
import math
import operator
import re
from datetime import date
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, wrap_tool_call
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Send, interrupt
from pydantic import BaseModel, field_validator
from typing_extensions import TypedDict

from assent import ask_human, build_hitl_agent, call_once
from tests.support import agents
from tests.support.agents import look, pay, results, trace
from tests.support.models import ScriptedModel, call, calls, say

# ── langchain's middleware ────────────────────────────────────────────────────────────────────────


def _reviewed(mode: Any, name: str) -> Any:
    review = HumanInTheLoopMiddleware(
        interrupt_on={
            "pay": {
                "allowed_decisions": ["approve", "edit", "reject", "respond"],
                "description": "Money leaves the house.",
            }
        },
        interrupt_mode=mode,
    )
    return create_agent(
        ScriptedModel(script=agents.reply), [look, pay], middleware=[review], name=name
    )


batched = _reviewed("batched", "batched")
per_call = _reviewed("per_call", "per_call")

own = build_hitl_agent(ScriptedModel(script=agents.reply), [look, pay], approve="pay", name="own")


# ── interrupt() ───────────────────────────────────────────────────────────────────────────────────


def _inbox(name: str, *, bare: bool) -> Any:
    """As agent-inbox would have it. The answer comes as a list, also to a request that stands
    alone."""

    def ask(state: MessagesState) -> dict[str, Any]:
        asked = [
            {
                "action_request": {"action": "publish", "args": {"page": page}},
                "config": {
                    "allow_accept": True,
                    "allow_edit": True,
                    "allow_respond": True,
                    "allow_ignore": True,
                },
                "description": "It will be public.",
            }
            for page in state["messages"][-1].text.split("; ")
        ]
        answers = interrupt(asked[0] if bare else asked)
        trace(f"answers {answers}")
        return {"messages": [AIMessage(f"Answers: {answers}")]}

    return StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(name=name)


inbox = _inbox("inbox", bare=False)
bare_inbox = _inbox("bare_inbox", bare=True)


class Booking(BaseModel):
    """What a person fills in."""

    city: str
    nights: int


def _asks(name: str, value: Any, **schema: Any) -> Any:
    """A graph with one node, which asks."""

    def ask(state: MessagesState) -> dict[str, Any]:
        answer = interrupt(value, **schema)
        trace(f"answer {answer!r}")
        return {"messages": [AIMessage(f"Answer: {answer!r}")]}

    return StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(name=name)


class Trip(BaseModel):
    """What its schema cannot say: the day must be to come."""

    day: date

    @field_validator("day")
    @classmethod
    def _is_to_come(cls, day: date) -> date:
        if day.year < 2030:
            raise ValueError("That day is over.")
        return day


question = _asks("question", {"question": "Which colour?"})
trip = _asks("trip", "When?", response_schema=Trip)
odd_question = _asks("odd_question", {"estimate": math.nan, "bounds": [-math.inf, math.inf]})
lookalike = _asks(
    "lookalike",
    {"kind": "unknown_outcome", "tool": "pay", "tool_call_id": "c", "args": {}, "digest": "d"},
)
form = _asks("form", "Where to?", response_schema=Booking)
own_schema = _asks(
    "own_schema", {"question": "How many?", "schema": {"type": "integer", "minimum": 1}}
)


class Task(TypedDict):
    """What one task is about."""

    subject: str


def _parallel() -> Any:
    """ "a; b; c" asks about each at once, in a task of its own that leaves a trace before it
    asks."""

    def ask(state: Task) -> dict[str, Any]:
        trace(f"begin {state['subject']}")
        answer = interrupt({"subject": state["subject"]})
        trace(f"{state['subject']} is {answer}")
        return {"messages": [AIMessage(f"{state['subject']} is {answer}")]}

    def fan_out(state: MessagesState) -> list[Send]:
        return [
            Send("ask", {"subject": subject}) for subject in state["messages"][-1].text.split("; ")
        ]

    return (
        StateGraph(MessagesState)
        .add_node("ask", ask)
        .add_conditional_edges(START, fan_out, ["ask"])
        .compile(name="parallel")
    )


parallel = _parallel()


# ── one in another ────────────────────────────────────────────────────────────────────────────────


def around(inner: Any, name: str) -> Any:
    """A graph with another one as its only node."""
    return (
        StateGraph(MessagesState)
        .add_node("inner", inner)
        .add_edge(START, "inner")
        .add_edge("inner", END)
        .compile(name=name)
    )


# ── several that ask in one node ──────────────────────────────────────────────────────────────────

_has_asked = asyncio.Event()


@tool
async def consent(amount: int) -> str:
    """Ask whether an amount is all right. Of two that run side by side, the one that the file
    `<ledger>.first` names asks first."""
    is_first = agents.ledger(".first").read_text() == str(amount)
    if not is_first:
        await _has_asked.wait()
        _has_asked.clear()
    try:
        answer = interrupt({"may": amount})
    finally:
        if is_first:
            _has_asked.set()
    trace(f"told {amount} {answer}")
    return f"{amount} was told {answer}"


@tool
async def consent_alike(amount: int) -> str:
    """Ask twice, in words that are the same for each amount."""
    answers = [interrupt("May I?"), interrupt("Really?")]
    trace(f"told {amount} {answers}")
    return f"{amount} was told {answers}"


ASKING = [consent, consent_alike, agents.slow]


def asking_side_by_side(history: list[BaseMessage]) -> AIMessage:
    """Makes all calls that it is told of in one turn."""
    if isinstance(history[-1], ToolMessage):
        return say(f"Results: {' | '.join(results(history))}")
    found = re.findall(r"(consent_alike|consent|slow) (\d+)", history[-1].text)
    return calls(*((name, {"amount": int(amount)}) for name, amount in found))


def _in_one_node(name: str, node: ToolNode) -> Any:
    model = ScriptedModel(script=asking_side_by_side).bind_tools(ASKING)
    return agents.with_tools(model, node).compile(name=name)


side_by_side = _in_one_node("side_by_side", ToolNode(ASKING))
noted_side_by_side = _in_one_node(
    "noted_side_by_side",
    ToolNode(ASKING, awrap_tool_call=call_once(ASKING)),
)


def _asking_around() -> Any:
    """Asks before and after a call of a tool that asks too, all in one node."""
    tools = ToolNode([consent_alike], awrap_tool_call=call_once([consent_alike]))

    def plan(state: MessagesState) -> dict[str, Any]:
        return {"messages": [calls(("consent_alike", {"amount": 1}))]}

    async def act(state: MessagesState, config: RunnableConfig) -> Any:
        before = interrupt("Before?")
        done = await tools.ainvoke(state, config)
        trace(f"around {[before, interrupt('After?')]}")
        return done

    graph = StateGraph(MessagesState).add_node("plan", plan).add_node("act", act)
    return graph.add_edge(START, "plan").add_edge("plan", "act").compile(name="asking_around")


asking_around = _asking_around()


def _quoting() -> Any:
    """Asks about a price that may be another one when the answer comes."""

    def buy(state: MessagesState) -> dict[str, Any]:
        price = agents.ledger(".price").read_text()
        answer = interrupt({"buy at": price})
        trace(f"bought at {price}: {answer}")
        return {"messages": [AIMessage("Bought.")]}

    return StateGraph(MessagesState).add_node("buy", buy).add_edge(START, "buy").compile()


quoting = _quoting()
nested_quoting = around(quoting, "nested_quoting")


# ── subgraphs ─────────────────────────────────────────────────────────────────────────────────────


def _stopping(name: str, **pause: Any) -> Any:
    """A graph that pauses by itself: before it publishes, or after it has written."""

    def write(state: MessagesState) -> dict[str, Any]:
        trace("write")
        return {"messages": [AIMessage("Written.")]}

    def publish(state: MessagesState) -> dict[str, Any]:
        trace("publish")
        return {"messages": [AIMessage("Published.")]}

    graph = StateGraph(MessagesState).add_node("write", write).add_node("publish", publish)
    return graph.add_edge(START, "write").add_edge("write", "publish").compile(name=name, **pause)


stops_before = _stopping("stops_before", interrupt_before=["publish"])
stops_after = _stopping("stops_after", interrupt_after=["write"])


@tool
async def plan_trip() -> str:
    """Ask when to go."""
    answer = interrupt("When?", response_schema=Trip)
    trace(f"answer {answer!r}")
    return "planned"


def trip_reply(history: list[BaseMessage]) -> AIMessage:
    """Plans one trip."""
    return say("Bye.") if isinstance(history[-1], ToolMessage) else call("plan_trip")


noted_trip = create_agent(
    ScriptedModel(script=trip_reply),
    [plan_trip],
    middleware=[wrap_tool_call(call_once([plan_trip]))],
    name="noted_trip",
)

stopped_calls = create_agent(
    ScriptedModel(script=agents.reply),
    [look, pay],
    interrupt_before=["tools"],
    name="stopped_calls",
)


def _stopped_nodes() -> Any:
    """Each tool has a node of its own, before which the graph pauses."""
    model = ScriptedModel(script=agents.reply).bind_tools([look, pay])

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def fan_out(state: MessagesState) -> list[Send]:
        (*_, turn) = state["messages"]
        assert isinstance(turn, AIMessage)
        return [Send(each["name"], [each]) for each in turn.tool_calls]

    graph = StateGraph(MessagesState).add_node("think", think).add_edge(START, "think")
    for each in (look, pay):
        graph.add_node(each.name, ToolNode([each])).add_edge(each.name, "think")
    graph.add_conditional_edges("think", fan_out, ["look", "pay"])
    return graph.compile(interrupt_before=["look", "pay"], name="stopped_nodes")


stopped_nodes = _stopped_nodes()
nested_stopped_calls = around(stopped_calls, "nested_stopped_calls")


@tool
async def weigh(amount: float) -> str:
    """Weigh an amount, which need not be a number."""
    trace(f"weigh {amount}")
    return f"weighed {amount}"


def odd_reply(history: list[BaseMessage]) -> AIMessage:
    """Weighs what is no number, as pandas makes them."""
    done = results(history) if isinstance(history[-1], ToolMessage) else []
    return say(f"Results: {done[0]}") if done else call("weigh", amount=math.nan)


odd_call = build_hitl_agent(
    ScriptedModel(script=odd_reply), [weigh], approve="weigh", name="odd_call"
)
odd_stop = create_agent(
    ScriptedModel(script=odd_reply), [weigh], interrupt_before=["tools"], name="odd_stop"
)

nested_question = around(around(question, "middle"), "nested_question")
nested_batch = around(batched, "nested_batch")
nested_agent = around(own, "nested_agent")
deep_agent = around(around(own, "middle"), "deep_agent")
nested_stop = around(_stopping("inner_stop", interrupt_before=["publish"]), "nested_stop")


class Votes(MessagesState):
    """What several branches found, side by side."""

    found: Annotated[list[str], operator.add]


def _mixed() -> Any:
    """Side by side: an agent of ours, a question, and a graph with a pause of its own."""

    def talk(agent: Any) -> Any:
        async def node(state: Votes) -> dict[str, Any]:
            result = await agent.ainvoke({"messages": [("user", state["messages"][-1].text)]})
            return {"found": [result["messages"][-1].text]}

        return node

    def ask(state: Votes) -> dict[str, Any]:
        trace("begin ask")
        return {"found": [f"told {interrupt('Which colour?')}"]}

    graph = (
        StateGraph(Votes)
        .add_node("agent", talk(own))
        .add_node("ask", ask)
        .add_node("stop", talk(stops_before))
    )
    return (
        graph.add_edge(START, "agent")
        .add_edge(START, "ask")
        .add_edge(START, "stop")
        .compile(name="mixed")
    )


mixed = _mixed()


def _delegate(agent: Any) -> Any:
    """A tool that lets an agent do it. LangGraph does not find a graph that is called in it, so
    nobody can see a static pause of that."""

    @tool
    async def delegate(task: str) -> str:
        """Let an agent do it."""
        result = await agent.ainvoke({"messages": [("user", task)]})
        return str(result["messages"][-1].text)

    return delegate


def _delegating(agent: Any, name: str) -> Any:
    def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [call("delegate", task=state["messages"][-1].text)]}

    tools = ToolNode([_delegate(agent)])
    graph = StateGraph(MessagesState).add_node("think", think).add_node("tools", tools)
    return graph.add_edge(START, "think").add_edge("think", "tools").compile(name=name)


def _delegates(history: list[BaseMessage]) -> AIMessage:
    if history[-1].type == "tool":
        return say(history[-1].text)
    return call("delegate", task=history[-1].text)


delegating = _delegating(own, "delegating")
delegating_agent = build_hitl_agent(
    ScriptedModel(script=_delegates), [_delegate(own)], approve=[], name="delegating_agent"
)
hidden = _delegating(stops_before, "hidden")


# ── ask_human ─────────────────────────────────────────────────────────────────────────────────────

QUESTION = re.compile(r"ask ([^?]+\?) ?(.*)")


def asking_reply(history: list[BaseMessage]) -> AIMessage | BaseException:
    """Asks what it is told to ask, and does the rest as the other agents do."""
    asked_at = max(
        position for position, message in enumerate(history) if isinstance(message, HumanMessage)
    )
    turns = [message for message in history[asked_at:] if isinstance(message, AIMessage)]
    parts = history[asked_at].text.split(" then ")
    if len(turns) < len(parts) and (match := QUESTION.fullmatch(parts[len(turns)])):
        choices = {"choices": match[2].split()} if match[2] else {}
        return call("ask_human", prompt=match[1], reasons=["ambiguity"], **choices)
    return (
        say(f"I was told: {' | '.join(results(history))}")
        if len(turns) == len(parts)
        else agents.reply(history)
    )


asker = build_hitl_agent(
    ScriptedModel(script=asking_reply), [look, pay, ask_human], approve="pay", name="asker"
)
gated_asker = build_hitl_agent(
    ScriptedModel(script=asking_reply), [ask_human], approve="ask_human", name="gated_asker"
)
foreign_asker = create_agent(
    ScriptedModel(script=asking_reply), [look, pay, ask_human], name="foreign_asker"
)

ALL = (
    "asker",
    "bare_inbox",
    "batched",
    "deep_agent",
    "delegating",
    "delegating_agent",
    "foreign_asker",
    "form",
    "gated_asker",
    "inbox",
    "mixed",
    "nested_agent",
    "nested_batch",
    "nested_question",
    "nested_stop",
    "own",
    "own_schema",
    "parallel",
    "per_call",
    "question",
    "stops_after",
    "stops_before",
)

UNLISTED = (
    "asking_around",
    "hidden",
    "lookalike",
    "nested_quoting",
    "nested_stopped_calls",
    "noted_side_by_side",
    "noted_trip",
    "odd_call",
    "odd_question",
    "odd_stop",
    "quoting",
    "side_by_side",
    "stopped_calls",
    "stopped_nodes",
    "trip",
)
"""Graphs with tests of their own."""
