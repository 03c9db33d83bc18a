"""An agent that ends with an object, kept in its state beside the messages."""

from __future__ import annotations

from datetime import date

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from tests.support.agents import act
from tests.support.models import ScriptedModel, call


class Receipt(BaseModel):
    """What came of it."""

    amount: int
    day: date


@tool
async def pay(amount: int) -> str:
    """Pay an amount."""
    await act(f"structured: pay {amount}")
    return f"paid {amount}"


def write_receipt(history: list[BaseMessage]) -> AIMessage:
    """Pays, and gives a receipt."""
    if isinstance(history[-1], ToolMessage):
        return call("Receipt", amount=3, day="2020-02-29")
    return call("pay", amount=3)


graph = create_agent(
    ScriptedModel(script=write_receipt),
    [pay],
    middleware=[HumanInTheLoopMiddleware(interrupt_on={"pay": True})],
    response_format=ToolStrategy(Receipt),
    name="structured",
)

INPUT = {"messages": [{"role": "user", "content": "Buy stamps."}]}
ANSWERS = [[{"decisions": [{"type": "approve"}]}]]
AGAIN = ["structured: pay 3"]
