"""Two agents that hand over to each other as they see fit. Each asks a person in one of its tools:
the one hands over before it, the other when it was answered."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from tests.graphs.handing_over import hands_over_to
from tests.support.agents import act, trace
from tests.support.models import ScriptedModel, call, say


class Conversation(MessagesState, total=False):
    """What all see, and who has the word."""

    active: str


@tool
async def book(city: str) -> str:
    """Book a flight."""
    day = interrupt({"when": city})
    trace(f"swarm: book {city} on {day}")
    return f"booked {city} on {day}"


@tool
async def reserve(city: str) -> str:
    """Reserve a room."""
    nights = interrupt({"nights": city})
    await act(f"swarm: reserve {city} for {nights}")
    return f"reserved {city} for {nights}"


def fly(history: list[BaseMessage]) -> AIMessage:
    """Books, and lets the other one go on."""
    if history[-1].text.startswith("booked"):
        return call("transfer_to_hotels", text="Now for a room.")
    return call("book", city="Rome")


def stay(history: list[BaseMessage]) -> AIMessage:
    """Lets the other one book first, and reserves then."""
    if history[-1].text.startswith("reserved"):
        return say(f"All done: {history[-1].text}.")
    if any(message.text.startswith("booked") for message in history):
        return call("reserve", city="Rome")
    return call("transfer_to_flights", text="A flight comes first.")


flights = create_agent(ScriptedModel(script=fly), [book, hands_over_to("hotels")], name="flights")
hotels = create_agent(
    ScriptedModel(script=stay), [reserve, hands_over_to("flights")], name="hotels"
)


def who_has_the_word(state: Conversation) -> str:
    return state.get("active", "hotels")


graph = (
    StateGraph(Conversation)
    .add_node("flights", flights, destinations=("hotels",))
    .add_node("hotels", hotels, destinations=("flights",))
    .add_conditional_edges(START, who_has_the_word, ["flights", "hotels"])
    .compile(name="swarm")
)

INPUT = {"messages": [{"role": "user", "content": "I go to Rome."}]}
ANSWERS = [["Monday"], [3]]
AGAIN = ["swarm: reserve Rome for 3"]
