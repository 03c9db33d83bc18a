"""An agent that lets another one pay, and hears of it. The other one is a subgraph, in which a person
sees the payment."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from tests.graphs.handing_over import hands_over_to
from tests.support.agents import act
from tests.support.models import ScriptedModel, call, say


class Conversation(MessagesState, total=False):
    """What all see, and who has the word."""

    active: str


@tool
async def pay(amount: int) -> str:
    """Pay an amount."""
    await act(f"supervisor: pay {amount}")
    return f"paid {amount}"


def supervise(history: list[BaseMessage]) -> AIMessage:
    """Hands it over, and says what came of it."""
    if history[-1].text.startswith("The cashier: "):
        return say(f"I had it done. {history[-1].text}")
    return call("transfer_to_cashier", text="This is for the cashier.")


def cash(history: list[BaseMessage]) -> AIMessage:
    """Pays, and tells."""
    if history[-1].text.startswith("paid"):
        return say(f"The cashier: {history[-1].text}")
    return call("pay", amount=8)


supervising = create_agent(
    ScriptedModel(script=supervise), [hands_over_to("cashier")], name="supervising"
)
cashier = create_agent(
    ScriptedModel(script=cash),
    [pay],
    middleware=[HumanInTheLoopMiddleware(interrupt_on={"pay": True})],
    name="cashier",
)

graph = (
    StateGraph(Conversation)
    .add_node("supervising", supervising, destinations=("cashier",))
    .add_node("cashier", cashier)
    .add_edge(START, "supervising")
    .add_edge("cashier", "supervising")
    .compile(name="supervisor")
)

INPUT = {"messages": [{"role": "user", "content": "Pay the rent."}]}
ANSWERS = [[{"decisions": [{"type": "approve"}]}]]
AGAIN = ["supervisor: pay 8"]
