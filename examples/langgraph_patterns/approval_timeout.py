"""Approval with a time limit and an escalation: `ApprovalManager`, with what it leaves as `pass`.

The policy is in the agent, whom to tell in `approval_timeout.toml`, and Assent keeps the time, also
while it is not running. Nobody decides here, so the call is rejected in the end.

python approval_timeout.py [seconds]
"""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from agent import open_agent

from assent import ApprovalPolicy, Assent, Escalation
from assent.core.events import event_type

CONFIG = Path(__file__).with_suffix(".toml")


class Reviewer:
    """Tells a person: `_notify_human`, and `_escalate`."""

    async def notify(self, message):
        approval = message.data["approval"]
        print(f"{message.type}: May {approval['tool']} run with {approval['args']}?", flush=True)


def policy(timeout: timedelta) -> ApprovalPolicy:
    return ApprovalPolicy(
        timeout=timeout,
        on_timeout="escalate",
        escalation=(Escalation(roles=("manager",), timeout=timeout),),
    )


async def main(seconds="300"):
    agent = await open_agent(delete=policy(timedelta(seconds=float(seconds))))
    settings = {"config": CONFIG}
    async with Assent({"clerk": agent}, database="assent.db", settings=settings) as assent:
        result = await assent.invoke("Delete all records older than 2015", user="ann")
        # Decide with `assent.resume(thread_id, Approve(), user=…)`, over HTTP, or by a link.
        print(f"The agent waits: {result.status}")
        async for event in assent.events(result.thread_id):
            kind = event_type(event)
            if kind.startswith(("approval_", "tool_start")):
                print(kind, event.tool)
            if kind == "done":
                break
        print((await assent.state(result.thread_id)).values["messages"][-1].text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
