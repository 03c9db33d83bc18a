"""An agent with middleware that dies, and with a tool that only a turn knows, to be served as this
file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import after_model, before_model, wrap_tool_call
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, tool

from assent import build_hitl_agent
from tests.support.agents import die_once, pays, trace
from tests.support.models import ScriptedModel


@tool
async def pay(amount: int) -> str:
    """Pay an amount."""
    trace(f"pay {amount}")
    return f"paid {amount}"


def tools_now(state: Any, runtime: Any) -> list[BaseTool]:
    return [pay]


@wrap_tool_call
async def dies_behind_the_tool(
    request: Any, handler: Callable[[Any], Awaitable[ToolMessage]]
) -> ToolMessage:
    answer = await handler(request)
    if request.tool_call["args"]["amount"] == 1:
        die_once("tool")
    return answer


@before_model
def dies_before_the_model(state: Any, runtime: Any) -> None:
    if state["messages"][-1].text == "paid 2":
        die_once("before")


@after_model
def doubles_and_dies(state: Any, runtime: Any) -> dict[str, Any] | None:
    turn = state["messages"][-1]
    if not turn.tool_calls or turn.tool_calls[0]["args"]["amount"] != 3:
        return None
    die_once("after")
    doubled = {**turn.tool_calls[0], "args": {"amount": 6}}
    return {"messages": [turn.model_copy(update={"tool_calls": [doubled]})]}


graph = build_hitl_agent(
    ScriptedModel(script=pays, unique_ids=True),
    tools_now,
    approve=["pay"],
    middleware=[dies_behind_the_tool, dies_before_the_model, doubles_and_dies],
)
