"""What a process does that knows nothing but the checkpoint file.

It builds the agent, does one thing to the thread, and tells what is pending then. Each payment is a
line in `FILE.paid`.
"""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from assent import Approve, Reject, apending_approvals, aresume, build_hitl_agent
from tests.support.models import ScriptedModel, call, say

CONFIG: Any = {"configurable": {"thread_id": "t"}}


def reply(history: list[BaseMessage]) -> AIMessage:
    """Pays once, and then says so."""
    return (
        say("Done.")
        if any(isinstance(message, ToolMessage) for message in history)
        else call("pay", amount=3)
    )


async def act(agent: Any, action: str) -> None:
    match action:
        case "ask":
            await agent.ainvoke({"messages": [("user", "Pay.")]}, CONFIG, durability="sync")
        case "nothing":
            await agent.ainvoke(None, CONFIG, durability="sync")
        case "resume_true":
            await agent.ainvoke(Command(resume=True), CONFIG, durability="sync")
        case "say_approved":
            await agent.ainvoke({"messages": [("user", "approved")]}, CONFIG, durability="sync")
        case "approve":
            await aresume(agent, CONFIG, Approve())
        case "reject":
            await aresume(agent, CONFIG, Reject("No."))
        case _:
            raise SystemExit(f"There is no action {action}.")


def knowing_the_file(file: Path, action: str, pending: Connection) -> None:
    """Send the names of the tools that wait for a person after it."""
    pending.send(asyncio.run(_knowing_the_file(file, action)))


async def _knowing_the_file(file: Path, action: str) -> list[str]:
    def pay(amount: int) -> str:
        """Pay."""
        with Path(f"{file}.paid").open("a") as paid:
            paid.write(f"{amount}\n")
        return "Paid."

    async with AsyncSqliteSaver.from_conn_string(str(file)) as checkpointer:
        agent = build_hitl_agent(
            ScriptedModel(script=reply), [pay], approve="pay", checkpointer=checkpointer
        )
        await act(agent, action)
        return [approval.tool for approval in await apending_approvals(agent, CONFIG)]
