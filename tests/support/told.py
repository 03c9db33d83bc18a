"""What the agents of `agents.py` are made of: tools that leave traces, and a model that does what it
is told. A server of the tests has it from the process that it is a fork of."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import ToolException, tool
from pydantic import Field

from tests.support.models import call, calls, lc_history_problems, say

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
