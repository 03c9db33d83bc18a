"""Graphs whose streams are compared with those that LangGraph gives of them by itself."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.callbacks import adispatch_custom_event
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, RetryPolicy, Send, interrupt
from typing_extensions import TypedDict

from assent import build_hitl_agent
from tests.support.models import ScriptedModel, calls, say


class Report(TypedDict):
    """A state without messages."""

    topic: str
    notes: Annotated[list[str], operator.add]


class Part(TypedDict):
    """What one task is sent."""

    number: int


# Sync ones run in threads, and would end in either order.
@tool
async def pay(amount: int) -> str:
    """Pay an amount."""
    return f"paid {amount}"


@tool
async def look(record: int) -> str:
    """Read a record."""
    return f"seen {record}"


def pays_and_looks(history: list[BaseMessage]) -> AIMessage:
    """Calls both, and says that it is done."""
    if isinstance(history[-1], ToolMessage):
        return say("Done it is.")
    return calls(("pay", {"amount": 5}), ("look", {"record": 1}), text="I pay now. ")


def middleware() -> Any:
    review = HumanInTheLoopMiddleware(interrupt_on={"pay": True})
    model = ScriptedModel(script=pays_and_looks)
    return create_agent(model, [pay, look], middleware=[review], name="middleware")


def own() -> Any:
    model = ScriptedModel(script=pays_and_looks)
    return build_hitl_agent(model, [pay, look], approve="pay", name="own")


def _noting(*notes: str) -> Any:
    async def note(state: Report) -> dict[str, Any]:
        return {"notes": [*notes]}

    return note


def side_by_side() -> Any:
    """Three nodes at once, one of which writes nothing, and one behind them all."""

    async def idle(state: Report) -> None:
        await asyncio.sleep(0.02)

    async def later(state: Report) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"notes": ["later"]}

    graph = StateGraph(Report).add_node("first", _noting("first")).add_node("idle", idle)
    graph.add_node("later", later).add_node("last", _noting("last"))
    for name in ("first", "idle", "later"):
        graph.add_edge(START, name)
    return graph.add_edge(["first", "idle", "later"], "last").compile(name="side_by_side")


def sent() -> Any:
    """Tasks that a `Send` began, which end one after the other."""

    async def work(part: Part) -> dict[str, Any]:
        await asyncio.sleep(0.01 * part["number"])
        return {"notes": [f"part {part['number']}"]}

    def fan_out(state: Report) -> list[Send]:
        return [Send("work", {"number": number}) for number in range(3)]

    graph = StateGraph(Report).add_node("work", work)
    return graph.add_conditional_edges(START, fan_out, ["work"]).compile(name="sent")


def nested() -> Any:
    """A model in a subgraph, and a message behind it."""
    model = ScriptedModel(script=lambda history: say("In side."))

    async def talk(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def note(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("noted")]}

    inner = StateGraph(MessagesState).add_sequence([talk, note]).add_edge(START, "talk").compile()
    outer = StateGraph(MessagesState).add_node("inner", inner).add_node("note", note)
    return outer.add_edge(START, "inner").add_edge("inner", "note").compile(name="nested")


def stopping() -> Any:
    """A static pause."""
    graph = StateGraph(Report).add_node("write", _noting("w")).add_node("publish", _noting("p"))
    graph.add_edge(START, "write").add_edge("write", "publish")
    return graph.compile(interrupt_before=["publish"], name="stopping")


def asking() -> Any:
    """Two questions in one node, and what that answered."""

    def ask(state: Report) -> dict[str, Any]:
        return {"notes": [interrupt({"how": "many"}), interrupt("Whom?")]}

    return StateGraph(Report).add_node("ask", ask).add_edge(START, "ask").compile(name="asking")


def asking_inside() -> Any:
    """A question in a subgraph."""

    def ask(state: Report) -> dict[str, Any]:
        return {"notes": [interrupt("Whom?")]}

    inner = StateGraph(Report).add_node("ask", ask).add_edge(START, "ask").compile()
    outer = StateGraph(Report).add_node("inner", inner).add_edge(START, "inner")
    return outer.compile(name="asking_inside")


def failing() -> Any:
    def fail(state: Report) -> None:
        raise ValueError("The secret is 7.")

    graph = StateGraph(Report).add_node("write", _noting("w")).add_node("fail", fail)
    return graph.add_edge(START, "write").add_edge("write", "fail").compile(name="failing")


def retried() -> Any:
    """A node that fails behind its model's words, and succeeds then."""
    model = ScriptedModel(script=lambda history: say("Try it."))
    attempts: list[int] = []

    async def talk(state: MessagesState) -> dict[str, Any]:
        answer = await model.ainvoke(state["messages"])
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError
        return {"messages": [answer]}

    again = RetryPolicy(initial_interval=0.001, jitter=False)
    graph = StateGraph(MessagesState).add_node("talk", talk, retry_policy=again)
    return graph.add_edge(START, "talk").compile(name="retried")


def writing() -> Any:
    """A node that says what it does."""

    def write(state: Report) -> dict[str, Any]:
        told = get_stream_writer()
        for data in ({"found": 1}, "a text", {"progress": 0.5}, {"progress": 1, "message": "Done"}):
            told(data)
        return {"notes": ["written"]}

    return (
        StateGraph(Report).add_node("write", write).add_edge(START, "write").compile(name="writing")
    )


def commanding() -> Any:
    """Commands, alone and in a list, and channels that are written several times."""

    def first(state: Report) -> Command[Any]:
        return Command(update={"notes": ["a"]}, goto="several")

    def several(state: Report) -> list[Any]:
        pairs = [("notes", ["b3"]), ("topic", "new")]
        return [{"notes": ["b1"]}, Command(update={"notes": ["b2"]}), Command(update=pairs)]

    def both(state: Report) -> list[Any]:
        return [{"notes": ["c"]}, Command(update={"topic": "newest"})]

    graph = StateGraph(Report).add_node("first", first, destinations=("several",))
    graph.add_node("several", several).add_node("both", both)
    graph.add_edge(START, "first").add_edge("several", "both")
    return graph.compile(name="commanding")


def listed() -> Any:
    """A state that is a list."""
    graph: Any = StateGraph(Annotated[list[str], operator.add])  # type: ignore[type-var]
    graph.add_node("add", lambda state: ["b"]).add_edge(START, "add")
    return graph.compile(name="listed")


def repeating() -> Any:
    """A node that writes again what the conversation has, beside a new message without an id."""

    def repeat(state: MessagesState) -> dict[str, Any]:
        return {"messages": [*state["messages"], AIMessage("And again.")]}

    graph = StateGraph(MessagesState).add_node("repeat", repeat).add_edge(START, "repeat")
    return graph.compile(name="repeating")


def announcing() -> Any:
    """A model, its tool, and an event that is dispatched."""

    def reply(history: list[BaseMessage]) -> AIMessage:
        is_done = isinstance(history[-1], ToolMessage)
        return say("Done it is.") if is_done else calls(("look", {"record": 1}), text="I look. ")

    model = ScriptedModel(script=reply)

    async def talk(state: MessagesState) -> dict[str, Any]:
        await adispatch_custom_event("thinking", {"about": "it"})
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("talk", talk).add_node("tools", ToolNode([look]))
    graph.add_edge(START, "talk").add_conditional_edges("talk", tools_condition)
    return graph.add_edge("tools", "talk").compile(name="announcing")
