"""A graph that is tried again, `with_retry()`: it begins, fails until the file `<ledger>.go-1` is
there, asks, and ends. And two whose tool fails: a gated agent, and a graph that notes its calls."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt

from assent import build_hitl_agent, call_once
from tests.support.agents import ledger, trace
from tests.support.models import ScriptedModel, call, say


class Unreachable(ConnectionError):
    """Something out there does not answer."""


def begin(state: MessagesState) -> dict[str, Any]:
    """Do what must not be done twice."""
    trace("begin")
    return {}


def reach(state: MessagesState) -> dict[str, Any]:
    """Fail until it is let go."""
    trace("reach")
    if not ledger(".go-1").exists():
        raise Unreachable("It does not answer.")
    return {"messages": [AIMessage(f"Told: {interrupt('Shall I?')}")]}


_builder = StateGraph(MessagesState).add_node("begin", begin).add_node("reach", reach)
_compiled = _builder.add_edge(START, "begin").add_edge("begin", "reach").compile(name="retried")

graph = _compiled.with_retry(
    retry_if_exception_type=(Unreachable,),
    stop_after_attempt=1000,
    exponential_jitter_params={"initial": 0.02, "max": 0.02, "jitter": 0},
)
few = _compiled.with_retry(
    retry_if_exception_type=(Unreachable,), stop_after_attempt=3, wait_exponential_jitter=False
)
other = _compiled.with_retry(
    retry_if_exception_type=(KeyError,), stop_after_attempt=3, wait_exponential_jitter=False
)
stopping = _builder.compile(interrupt_before=["reach"]).with_retry(wait_exponential_jitter=False)


@tool
async def pay(amount: int) -> str:
    """Pay, and fail of it."""
    trace(f"pay {amount}")
    raise Unreachable("Nobody knows whether it was paid.")


def paying_reply(history: list[BaseMessage]) -> AIMessage:
    """Pays once."""
    return say("Bye.") if history[-1].type == "tool" else call("pay", amount=1)


paying = build_hitl_agent(
    ScriptedModel(script=paying_reply), [pay], approve="pay", name="paying"
).with_retry(wait_exponential_jitter=False)


def _noted() -> Any:
    tools = ToolNode([pay], awrap_tool_call=call_once([pay]), handle_tool_errors=False)

    def plan(state: MessagesState) -> dict[str, Any]:
        return {"messages": [call("pay", amount=2)]}

    graph = StateGraph(MessagesState).add_node("plan", plan).add_node("act", tools)
    return graph.add_edge(START, "plan").add_edge("plan", "act").compile(name="noted")


noted = _noted().with_retry(wait_exponential_jitter=False)
