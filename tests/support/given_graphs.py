"""Graphs that take more than a message, to serve by path: a state of their own, a context, keys of
the config. They leave their traces in the file of `agents.py`."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.tools import ToolRuntime
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from typing_extensions import TypedDict

from assent import build_hitl_agent
from tests.support import agents
from tests.support.agents import trace
from tests.support.any_graphs import around
from tests.support.models import ScriptedModel


class Report(TypedDict):
    """A state without messages."""

    topic: str
    notes: Annotated[list[str], operator.add]


def _report() -> Any:
    def research(state: Report) -> dict[str, Any]:
        return {"notes": [f"about {state['topic']}"]}

    def publish(state: Report) -> dict[str, Any]:
        trace(f"publish {state['topic']}: {', '.join(state['notes'])}")
        return {}

    graph = StateGraph(Report).add_sequence([research, publish]).add_edge(START, "research")
    return graph.compile(name="report")


report = _report()


@dataclass
class Shop:
    """The context that payments are made in."""

    account: str
    language: str = "en"


@tool("pay")
async def pay_from(amount: int, runtime: ToolRuntime[Shop]) -> str:
    """Pay an amount from the account of the context."""
    trace(f"pay {amount} from {runtime.context.account} in {runtime.context.language}")
    if runtime.context.language == "slow":
        await agents.let_go(amount)
    return f"paid {amount}"


class Tracer(BaseCallbackHandler):
    """Writes down what a tracing callback is told of a run's tags and metadata."""

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        metadata = kwargs["metadata"] or {}
        if "tenant" in metadata:
            tags = [tag for tag in kwargs["tags"] if ":" not in tag]
            trace(json.dumps({"tenant": metadata["tenant"], "tags": tags}))


shop = create_agent(
    ScriptedModel(script=agents.reply, callbacks=[Tracer()]),
    [pay_from],
    middleware=[HumanInTheLoopMiddleware(interrupt_on={"pay": True})],
    context_schema=Shop,
    name="shop",
)
own_shop = build_hitl_agent(
    ScriptedModel(script=agents.reply),
    [pay_from],
    approve="pay",
    context_schema=Shop,
    name="own_shop",
)


def _looking() -> Any:
    """Says what it was told, and which model the client chose."""

    def look(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        (*_, last) = state["messages"]
        chosen = config["configurable"].get("model", "none")
        return {"messages": [AIMessage(f"{type(last).__name__} {last.content!r}, model {chosen}")]}

    return StateGraph(MessagesState).add_node("look", look).add_edge(START, "look").compile()


looking = _looking()
nested_chat_agent = around(agents.chat_agent, "nested_chat_agent")

ALL = ("report", "shop", "own_shop", "looking", "nested_chat_agent")
