"""An agent whose tool needs to know, of the context, from which account it pays. Without it there is
no run."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.tools import ToolRuntime
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from tests.support.agents import act, reply
from tests.support.models import ScriptedModel


class Shop(BaseModel):
    """The context that payments are made in."""

    account: str
    limit: int = Field(default=100, gt=0)


@tool
async def pay(amount: int, runtime: ToolRuntime[Shop]) -> str:
    """Pay an amount from the account of the context."""
    shop: Any = runtime.context
    await act(f"context_required: pay {amount} of {shop.limit} from {shop.account}")
    return f"paid {amount}"


graph = create_agent(
    ScriptedModel(script=reply),
    [pay],
    middleware=[HumanInTheLoopMiddleware(interrupt_on={"pay": True})],
    context_schema=Shop,
    name="context_required",
)

INPUT = {"messages": [{"role": "user", "content": "pay 5"}]}
CONTEXT = {"account": "acme"}
EDITED = {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 7}}}
ANSWERS = [[{"decisions": [EDITED]}]]
AGAIN = ["context_required: pay 7 of 100 from acme"]
