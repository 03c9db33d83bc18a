"""Agents to serve by path, for tests of the real server: offline, scripted by what they are told,
and leaving traces in a file.

What a message says is done, one turn of the model for each part between " then ", several calls of
a turn joined by ";":

    "look 3; pay 5 then pay 6"   calls look(3) and pay(5), then pay(6)
    "tell 40; look 3"            says 40 words, and calls look(3)
    "boom", "die"                the model raises, or kills the process the first time

The tools: `look` is free; `pay`, `slow` (waits for a file) and `die` (kills the process the first
time) need a person; `fail` is free and raises; `hold` is free, and waits for a file in a thread.
But for `hold`, what is free is declared to change nothing, so it is called again after a crash.
Each appends a line, `pay 5`, to the file that the environment's LEDGER names, and syncs it, before
it does anything else.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import ToolException, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Send, interrupt
from pydantic import Field
from typing_extensions import TypedDict

from assent import ApprovalPolicy, build_hitl_agent, call_once
from tests.support.models import ScriptedModel, call, calls, lc_history_problems, say

SECRET = "swordfish-4711"
"""Stands in exceptions that nobody outside may read."""

COMMAND = re.compile(r"(look|pay|slow|hold|die|fail|refuse) (\d+)")

Amount = Annotated[int, Field(gt=0)]


# ── traces ────────────────────────────────────────────────────────────────────────────────────────


def ledger(suffix: str = "") -> Path:
    """The file of traces, or one beside it."""
    return Path(os.environ["LEDGER"] + suffix)


def trace(line: str) -> None:
    """Leave a line that outlives the process."""
    descriptor = os.open(ledger(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def die_once(name: str) -> None:
    """Kill this process, the first time that this name is given."""
    marker = ledger(f".died-{name}")
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def die_in_time() -> None:
    """Kill this process at the n-th time that this is called, if the file `<ledger>.countdown`
    holds the number n."""
    file = ledger(".countdown")
    if not file.exists():
        return
    left = int(file.read_text()) - 1
    if left:
        file.write_text(str(left))
    else:
        file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


async def let_go(amount: int) -> None:
    """Wait until the file `<ledger>.go-<amount>` is there."""
    go = ledger(f".go-{amount}")
    while not await asyncio.to_thread(go.exists):
        await asyncio.sleep(0.02)


async def act(line: str) -> None:
    """Leave a line, and be done when the file `<ledger>.go-1` is there."""
    trace(line)
    await let_go(1)


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────


@tool
async def look(amount: int) -> str:
    """Look at an amount."""
    trace(f"look {amount}")
    return f"saw {amount}"


@tool
async def pay(amount: Amount, note: str = "") -> str:
    """Pay an amount."""
    trace(f"pay {amount}")
    return f"paid {amount}{note and f' for {note}'}"


@tool
async def slow(amount: Amount) -> str:
    """Pay an amount, and be done when the file `<ledger>.go-<amount>` is there."""
    trace(f"slow {amount}")
    await let_go(amount)
    return f"slowly paid {amount}"


@tool
def hold(amount: Amount) -> str:
    """Pay an amount, and be done when the file `<ledger>.go-<amount>` is there: in a thread, which
    nothing cuts off."""
    trace(f"hold {amount}")
    while not ledger(f".go-{amount}").exists():
        time.sleep(0.02)
    trace(f"held {amount}")
    return f"held {amount}"


@tool
async def die(amount: Amount) -> str:
    """Pay an amount, and die of it the first time."""
    trace(f"die {amount}")
    die_once(str(amount))
    return f"survived {amount}"


@tool
async def fail(amount: int) -> str:
    """Fail."""
    trace(f"fail {amount}")
    raise RuntimeError(f"The password is {SECRET}.")


@tool
async def refuse(amount: int) -> str:
    """Fail with words for the model."""
    raise ToolException(f"There is no {amount}.")


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


def reply(history: list[BaseMessage]) -> AIMessage | BaseException:
    """What the model says: the next part of what the person asked for, or what came of the last
    calls."""
    if problems := lc_history_problems(history):
        return AssertionError(f"No provider would accept this history: {problems}")
    asked_at = max(
        position for position, message in enumerate(history) if isinstance(message, HumanMessage)
    )
    turns = [message for message in history[asked_at:] if isinstance(message, AIMessage)]
    parts = history[asked_at].text.split(" then ")
    if len(turns) < len(parts):
        return part_of_script(parts[len(turns)])
    return say(f"Results: {' | '.join(results(history))}")


def pays(history: list[BaseMessage]) -> AIMessage:
    """What a model says that pays the amount that it is told, and then what came of it."""
    if isinstance(history[-1], ToolMessage):
        return say(history[-1].text)
    return call("pay", amount=int(history[-1].text))


def part_of_script(text: str) -> AIMessage | BaseException:
    """One turn."""
    words = (
        " ".join(f"word{number}" for number in range(int(text.split()[1].strip(";"))))
        if text.startswith("tell ")
        else ""
    )
    if found := COMMAND.findall(text):
        return calls(
            *((name, {"amount": int(amount)}) for name, amount in found), text=words or "On it."
        )
    if words:
        return say(words)
    if text == "boom":
        return RuntimeError(f"The password is {SECRET}.")
    if text.startswith("die"):
        die_once(text)
    return say(f"You said: {text}")


def results(history: Sequence[BaseMessage]) -> list[str]:
    """What the tools answered since the model's last message."""
    turn = max(
        position for position, message in enumerate(history) if isinstance(message, AIMessage)
    )
    return [message.text for message in history[turn:] if isinstance(message, ToolMessage)]


# ── agents ────────────────────────────────────────────────────────────────────────────────────────


def asks(args: dict[str, Any]) -> bool:
    """Every payment needs a person. The graph asks this at each of its steps, so here a test can
    have the process killed at any of them."""
    die_in_time()
    return True


def scripted(name: str, *, delay: float = 0, chat_decisions: bool = False) -> Any:
    """An agent that does as it is told."""
    return build_hitl_agent(
        ScriptedModel(script=reply, delay=delay),
        [look, pay, slow, hold, die, fail, refuse],
        approve={
            "pay": ApprovalPolicy(when=asks, preview=lambda args: {"pays": args["amount"]}),
            "slow": True,
            "die": ApprovalPolicy(allowed=("approve", "reject")),
        },
        effects={"look": "none", "fail": "none", "refuse": "none"},
        name=name,
        chat_decisions=chat_decisions,
    )


agent = scripted("agent")
slow_agent = scripted("slow_agent", delay=0.03)
chat_agent = scripted("chat_agent", chat_decisions=True)


class Questions(TypedDict):
    """What one task of `asking` is to ask, joined by " then "."""

    questions: str


def _asking() -> Any:
    """A graph of somebody else's, with `interrupt()`: "Which? then How many?; When?" asks two at
    once, and the first asks twice."""

    def ask(state: Questions) -> dict[str, Any]:
        answers = []
        for question in state["questions"].split(" then "):
            if question.startswith("die"):
                # Late enough for what the other tasks write to be stored.
                time.sleep(0.3)
                die_once(question)
            else:
                answers.append(interrupt({"question": question}))
        trace(f"answered {answers}")
        return {"messages": [AIMessage(f"Answers: {answers}")]}

    def fan_out(state: MessagesState) -> list[Send]:
        return [
            Send("ask", {"questions": questions})
            for questions in state["messages"][-1].text.split("; ")
        ]

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_conditional_edges(START, fan_out, ["ask"])
    graph.add_edge("ask", END)
    return graph.compile(name="asking")


def _foreign() -> Any:
    """A graph of somebody else's, as LangGraph's own tutorials write it: a pause before its node of
    tools."""
    tools = [look, pay, die]
    model = ScriptedModel(script=reply).bind_tools(tools)
    return with_tools(model, ToolNode(tools)).compile(interrupt_before=["tools"], name="foreign")


def _noted() -> Any:
    """A graph of somebody else's that asks nobody, and has its calls noted; all calls of a turn are
    made in one node."""
    tools = [look, pay, slow]
    once = call_once(tools, effects={"look": "none"})
    model = ScriptedModel(script=reply).bind_tools(tools)
    return with_tools(model, ToolNode(tools, awrap_tool_call=once)).compile(name="noted")


def with_tools(model: Any, node: ToolNode) -> Any:
    """A graph of a model and one node that makes the calls of its turns."""

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", node)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return graph


def _stopping() -> Any:
    """A graph of somebody else's that pauses before a node, and has no tool calls to show."""

    def publish(state: MessagesState) -> dict[str, Any]:
        trace(f"publish {state['messages'][-1].text}")
        return {"messages": [AIMessage("Published.")]}

    graph = StateGraph(MessagesState)
    graph.add_node("publish", publish)
    graph.add_edge(START, "publish")
    graph.add_edge("publish", END)
    return graph.compile(interrupt_before=["publish"], name="stopping")


def _waiting() -> Any:
    """A graph of somebody else's that asks, waits until the file `<ledger>.go-1` is there, and acts
    then."""

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"Told: {interrupt('Shall I?')}")]}

    async def wait(state: MessagesState) -> dict[str, Any]:
        trace("waits")
        await let_go(1)
        return {}

    def act(state: MessagesState) -> dict[str, Any]:
        trace("acts")
        return {"messages": [AIMessage("Done.")]}

    graph = StateGraph(MessagesState).add_sequence([ask, wait, act])
    return graph.add_edge(START, "ask").compile(name="waiting")


asking = _asking()
foreign = _foreign()
noted = _noted()
stopping = _stopping()
waiting = _waiting()

ALL = ("agent", "slow_agent", "chat_agent", "asking", "foreign", "noted", "stopping", "waiting")
