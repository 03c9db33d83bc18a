"""An agent whose tool leaves a trace of who asked for its call and who approved it, to be served as
this file."""

from __future__ import annotations

from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime

from assent import approved_by, build_hitl_agent
from tests.support.agents import die_once, pays, trace
from tests.support.models import ScriptedModel


@tool
async def pay(amount: int, runtime: ToolRuntime) -> str:
    """Pay an amount, and die of it the first time."""
    user = runtime.server_info.user if runtime.server_info else None
    approved = approved_by(runtime)
    names = ",".join(approved.names) if approved else "nobody"
    trace(f"pay {amount}: for {user.identity if user else 'nobody'}, approved by {names}")
    die_once(str(amount))
    return f"paid {amount}"


graph = build_hitl_agent(
    ScriptedModel(script=pays, unique_ids=True),
    [pay],
    approve=["pay"],
    effects={"pay": "idempotent"},
)
