"""An agent with three of langchain's middlewares: a person sees each payment, another model answers
for one that is away, and a long history is summed up."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    ModelFallbackMiddleware,
    SummarizationMiddleware,
)
from langchain_core.tools import tool

from tests.support.agents import act, reply
from tests.support.models import ScriptedModel, say


@tool
async def pay(amount: int) -> str:
    """Pay an amount."""
    await act(f"with_middleware: pay {amount}")
    return f"paid {amount}"


graph = create_agent(
    ScriptedModel(script=lambda history: ConnectionError("The provider is away.")),
    [pay],
    middleware=[
        SummarizationMiddleware(
            ScriptedModel(script=lambda history: say("They spoke of tea.")),
            trigger=("messages", 5),
            keep=("messages", 1),
        ),
        HumanInTheLoopMiddleware(
            interrupt_on={"pay": {"allowed_decisions": ["approve", "reject"]}}
        ),
        ModelFallbackMiddleware(ScriptedModel(script=reply)),
    ],
    name="with_middleware",
)

INPUT = {
    "messages": [
        {"role": "user", "content": "Which tea?"},
        {"role": "assistant", "content": "Green."},
        {"role": "user", "content": "How much?"},
        {"role": "assistant", "content": "A pound."},
        {"role": "user", "content": "pay 5; pay 6"},
    ]
}
REJECTED = {"type": "reject", "message": "Too much."}
ANSWERS = [[{"decisions": [{"type": "approve"}, REJECTED]}]]
AGAIN = ["with_middleware: pay 5"]
