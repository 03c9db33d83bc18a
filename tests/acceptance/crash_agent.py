"""The agent of the crash harness: it does what it is told, and each call of a tool leaves a line
that outlives the process.

    "look 1, pay 2 > note 3"    calls look(1) and pay(2) in one turn, then note(3) in the next

Every number is used for one call in all. `look` changes nothing, `save` may be repeated under its
key, `note` runs freely and once; `pay` runs once and needs a person, and so does `post`, which may
be repeated. A tool writes its line first and then takes some time, as what happens in the world
does: it happened, and nobody knows yet.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import tool

from assent import build_hitl_agent, idempotency_key
from tests.support.models import ScriptedModel, calls, lc_history_problems, say

AGENT = "crash"
"""The name that it is served by."""

GATED = ("pay", "post")
FREE = ("look", "note", "save")
ONCE = ("note", "pay")
"""Those that may never run twice under one key."""

CALL = re.compile(r"(look|note|save|pay|post) (\d+)")
SECONDS = float(os.environ.get("CRASH_TOOL_SECONDS", "0.04"))
"""The longest that a tool takes."""


def leave_a_line(name: str, number: int, text: str) -> float:
    """Note down that this call starts, for ever; return how long it is to take."""
    line = {"key": idempotency_key(), "tool": name, "number": number, "text": text}
    descriptor = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{json.dumps(line)}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return random.random() * SECONDS


@tool
async def look(number: int, text: str = "") -> str:
    """Look at something."""
    await asyncio.sleep(leave_a_line("look", number, text))
    return f"looked {number}"


@tool
def note(number: int, text: str = "") -> str:
    """Note something down, in a thread."""
    time.sleep(leave_a_line("note", number, text))
    return f"noted {number}"


@tool
async def save(number: int, text: str = "") -> str:
    """Save something, which may be repeated."""
    await asyncio.sleep(leave_a_line("save", number, text))
    return f"saved {number}"


@tool
async def pay(number: int, text: str = "") -> str:
    """Pay something."""
    await asyncio.sleep(leave_a_line("pay", number, text))
    return f"paid {number}"


@tool
async def post(number: int, text: str = "") -> str:
    """Post something, which may be repeated."""
    await asyncio.sleep(leave_a_line("post", number, text))
    return f"posted {number}"


def reply(history: list[BaseMessage]) -> AIMessage | BaseException:
    """The next turn of what the last message asks for, or the end."""
    if problems := lc_history_problems(history):
        return AssertionError(f"No provider would accept this history: {problems}")
    asked_at = max(
        position for position, message in enumerate(history) if isinstance(message, HumanMessage)
    )
    turns = sum(isinstance(message, AIMessage) for message in history[asked_at:])
    parts = history[asked_at].text.split(" > ")
    if turns >= len(parts):
        return say(f"All {turns} done.")
    return calls(
        *((name, {"number": int(number)}) for name, number in CALL.findall(parts[turns])),
        text="I shall.",
    )


agent: Any = build_hitl_agent(
    ScriptedModel(script=reply, delay=0.001, remembers=False),
    [look, note, save, pay, post],
    approve=list(GATED),
    effects={"look": "none", "save": "idempotent", "post": "idempotent"},
    name=AGENT,
)
