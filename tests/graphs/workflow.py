"""A workflow of LangGraph's functional API: it drafts a letter, asks, and sends it. With "twice" in
what it is told, it asks once more in a task."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage
from langgraph.func import entrypoint, task
from langgraph.types import interrupt

from tests.support.agents import let_go, trace


@task
async def draft(told: str) -> str:
    """Write the letter."""
    trace(f"draft {told}")
    return f"Dear {told}"


@task
async def confirm(text: str) -> str:
    """Ask once more."""
    return str(interrupt({"really": text}))


@task
async def send(text: str, answer: str) -> str:
    """Send the letter."""
    trace(f"send {text}: {answer}")
    if "slowly" in text:
        await let_go(1)
    return f"{text}: {answer}"


@entrypoint()
async def graph(given: dict[str, Any], *, previous: Any = None) -> dict[str, Any]:
    """Draft, ask, send."""
    trace("begin")
    told = given["messages"][-1]
    text = await draft(told.text if hasattr(told, "text") else told["content"])
    answer = interrupt({"send": text})
    if "twice" in text:
        answer = f"{answer}, {await confirm(text)}"
    sent = await send(text, str(answer))
    letters = [*((previous or {}).get("letters", [])), sent]
    return {"messages": [AIMessage(sent, id=f"m{len(letters)}")], "letters": letters}


@entrypoint()
def plain(given: dict[str, Any]) -> str:
    """Ask, and return words: sync, and without a state that is an object."""
    return f"told {interrupt('Which year?')}"


@task
async def halve(amount: int) -> int:
    """Halve it, once it is let go."""
    trace(f"halve {amount}")
    await let_go(1)
    return amount // 2


@entrypoint()
async def number(amount: int) -> int:
    """Halve a number, in a task."""
    return await halve(amount)


INPUT = {"messages": [{"role": "user", "content": "Ada slowly"}]}
ANSWERS = [["yes"]]
AGAIN = ["begin", "send Dear Ada slowly: yes"]
