"""Agents whose code does what no agent should: it ends the process, blocks its event loop, or does
not stop when it is told to. The first word of a message names the node that runs."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from assent import build_hitl_agent
from tests.support.agents import ledger, trace
from tests.support.models import ScriptedModel, call, say

ANSWER = {"messages": [AIMessage("Here.")]}


class Stop(BaseException):
    """Not an `Exception`, as in some libraries."""


def go_for(state: MessagesState) -> Callable[[], bool]:
    """Leave a trace of the message; return whether the file is there that lets its run go on."""
    text = state["messages"][-1].text
    trace(text)
    return ledger(f".go-{text.partition(' ')[2]}").exists


# ── nodes that raise what is no Exception ─────────────────────────────────────────────────────────


async def leave(state: MessagesState) -> NoReturn:
    raise SystemExit(3)


def parse(state: MessagesState) -> NoReturn:
    argparse.ArgumentParser(prog="pay").parse_args(["--unknown"])
    raise AssertionError("argparse has ended with SystemExit.")


async def task(state: MessagesState) -> NoReturn:
    await asyncio.create_task(leave(state))
    raise AssertionError("The task has ended with SystemExit.")


async def interrupt(state: MessagesState) -> NoReturn:
    raise KeyboardInterrupt


async def stop(state: MessagesState) -> NoReturn:
    raise Stop


async def cancel(state: MessagesState) -> NoReturn:
    raise asyncio.CancelledError


async def later(state: MessagesState) -> dict[str, Any]:
    asyncio.get_running_loop().call_soon(sys.exit)
    await asyncio.sleep(0.01)
    return ANSWER


# ── nodes that take their time ────────────────────────────────────────────────────────────────────


async def wait(state: MessagesState) -> dict[str, Any]:
    is_there = go_for(state)
    while not is_there():
        await asyncio.sleep(0.02)
    return ANSWER


async def deaf(state: MessagesState) -> dict[str, Any]:
    """Wait, and do not stop when it is cancelled."""
    is_there = go_for(state)
    while not is_there():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            continue
    return ANSWER


def hold(state: MessagesState) -> dict[str, Any]:
    """Wait in a thread."""
    is_there = go_for(state)
    while not is_there():
        time.sleep(0.02)
    return ANSWER


async def block(state: MessagesState) -> dict[str, Any]:
    """Wait, and let nothing else of the process go on."""
    return hold(state)


def answer(state: MessagesState) -> dict[str, Any]:
    return ANSWER


NODES = (leave, parse, task, interrupt, stop, cancel, later, wait, deaf, hold, block, answer)


def _rough() -> Any:
    # Not in a thread, as a sync function would be.
    async def named(state: MessagesState) -> str:
        return state["messages"][-1].text.partition(" ")[0]

    graph = StateGraph(MessagesState)
    for node in NODES:
        graph.add_node(node)
    graph.add_conditional_edges(START, named, [node.__name__ for node in NODES])
    return graph.compile(name="rough")


# ── an agent whose tool ends the process ──────────────────────────────────────────────────────────


@tool
async def pay(amount: int) -> str:
    """Pay an amount, with a program that thinks it is alone."""
    trace(f"pay {amount}")
    raise SystemExit(1)


def reply(history: list[BaseMessage]) -> AIMessage:
    said = history[-1].text
    if isinstance(history[-1], ToolMessage) or not said.startswith("pay"):
        return say("Here.")
    return call("pay", amount=int(said.split()[1]))


rough = _rough()
gated = build_hitl_agent(ScriptedModel(script=reply), [pay], approve=["pay"], name="gated")

ALL = ("rough", "gated")
