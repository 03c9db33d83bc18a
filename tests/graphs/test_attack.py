"""Random requests at gated agents: whatever somebody sends who may not approve, nothing is paid,
and no answer is a 500.

Ann attacks. Each payment needs the approval of somebody else, and only bob is there for that: he
approves of one before some of the attacks, so that there are approved calls to change, to open
again and to go back to.

ASSENT_ATTACKS says how many cases; 30 otherwise.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Header
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import tool
from structlog.testing import capture_logs

from assent import Assent, build_hitl_agent
from assent.core.digest import call_digest
from assent.core.rows import RunStatus, ThreadStatus
from tests.graphs import attacks
from tests.support.models import ScriptedModel, call, say
from tests.support.waiting import PATIENCE, until

# It takes longer than other tests may.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CASES = int(os.environ.get("ASSENT_ATTACKS", "30"))

FOUR_EYES = """
[policies.agents.ours.tools.pay]
four_eyes = true

[policies.agents.chat.tools.pay]
four_eyes = true

[policies.agents.reviewed]
four_eyes = true

[policies.agents.stopped]
four_eyes = true
"""
AGENTS = ("ours", "chat", "reviewed", "stopped")
FORGED = 8
STARTS = ("new", "paused", "paid", "rejected")
AT_WORK = (RunStatus.RUNNING, RunStatus.CANCELLING)


def reply(history: list[BaseMessage]) -> AIMessage:
    """Pays what the last message says, if that is a person's."""
    if not history or not isinstance(history[-1], HumanMessage):
        return say("Done.")
    amounts = [int(word) for word in history[-1].text.split() if word.isdecimal()]
    return call("pay", amount=amounts[0] if amounts else FORGED)


def agents_paying(paid: list[int]) -> dict[str, Any]:
    """Four agents, each of which asks before it pays in another style."""

    @tool
    def pay(amount: int) -> str:
        """Pay an amount."""
        paid.append(amount)
        return f"paid {amount}"

    @tool
    def look(amount: int) -> str:
        """Look at an amount."""
        return f"saw {amount}"

    tools = [pay, look]

    def model() -> ScriptedModel:
        return ScriptedModel(script=reply)

    review = HumanInTheLoopMiddleware(interrupt_on={"pay": True})
    return {
        "ours": build_hitl_agent(model(), tools, approve="pay"),
        "chat": build_hitl_agent(model(), tools, approve="pay", chat_decisions=True),
        "reviewed": create_agent(model(), tools, middleware=[review]),
        "stopped": create_agent(model(), tools, interrupt_before=["tools"]),
    }


@dataclass(repr=False)
class World:
    """The server, in this process, with those who talk to it."""

    assent: Assent
    loop: asyncio.AbstractEventLoop
    paid: list[int]
    ann: httpx.AsyncClient
    bob: httpx.AsyncClient
    cases: int = 0
    elsewhere: str = "none"
    """A checkpoint of another thread."""

    def do(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 5 * PATIENCE))

    async def ask(self, who: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
        """The answer of the server, which has an answer to everything."""
        response = await who.request(method, path, json=body)
        assert response.status_code < 500, (method, path, body, response.text)
        return response.json() if response.content else None

    async def settle(self, thread_id: str) -> None:
        """Wait until nothing is left to do on the thread without a person."""

        async def is_at_rest() -> bool:
            self.assent.runs.engine.wake()
            thread = await self.assent.runs.storage.thread(thread_id)
            if thread is None or thread.status is ThreadStatus.INTERRUPTED:
                return True
            waiting = await self.assent.runs.storage.runs(
                thread_id=thread_id, status=(*AT_WORK, RunStatus.PENDING)
            )
            return thread.status is not ThreadStatus.BUSY and not waiting

        await until(is_at_rest, every=0.001)


async def by_header(x_user: str = Header()) -> str:
    return x_user


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("attack")
    (folder / "assent.toml").write_text(FOUR_EYES)
    paid: list[int] = []
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()

    async def opened() -> World:
        assent = Assent(
            agents_paying(paid),
            database=str(folder / "a.db"),
            auth=by_header,
            settings={"config": folder / "assent.toml"},
        )
        await stack.enter_async_context(assent)
        people = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    # What fails in the server is an answer of its own.
                    transport=httpx.ASGITransport(assent.app, raise_app_exceptions=False),
                    base_url="http://localhost",
                    headers={"x-user": name},
                )
            )
            for name in ("ann", "bob")
        ]
        return World(assent, loop, paid, *people)

    try:
        # A traceback in the log takes longer than a case.
        with capture_logs():
            yield loop.run_until_complete(opened())
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


# ── one case ──────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Case:
    """A thread of one of the agents, and the payments on it that were approved."""

    world: World
    agent: str
    thread_id: str
    amount: int
    approved: list[int] = field(default_factory=list)

    @property
    def thread(self) -> str:
        return f"/threads/{self.thread_id}"

    async def begin(self, start: str) -> None:
        """Have the thread wait for a person, or have bob decide that."""
        if start == "new":
            return
        await self.send({"message": f"pay {self.amount}"})
        if start == "paused":
            return
        if start == "paid":
            self.approved.append(self.amount)
        kind = "approve" if start == "paid" else "reject"
        await self.world.ask(self.world.bob, "POST", f"{self.thread}/resume", {"type": kind})
        await self.world.settle(self.thread_id)
        assert self.world.paid == self.approved

    async def send(self, body: dict[str, Any]) -> None:
        given = {"agent": self.agent, "thread_id": self.thread_id, **body}
        await self.world.ask(self.world.ann, "POST", "/agent/runs", given)
        await self.world.settle(self.thread_id)

    async def do(self, kind: str, body: Any) -> None:
        ask, ann = self.world.ask, self.world.ann
        body = attacks.filled(body, await self.names(body))
        match kind:
            case "run":
                await self.send(body)
            case "langgraph run":
                given = {"assistant_id": self.agent, "if_not_exists": "create", **body}
                await ask(ann, "POST", f"{self.thread}/runs", given)
            case "schedule":
                times = {"cron": "0 0 29 2 *", "agent": self.agent, "thread_id": self.thread_id}
                made = await ask(ann, "POST", "/schedules", {**times, **body})
                if "schedule_id" in made:
                    await ask(ann, "POST", f"/schedules/{made['schedule_id']}/run")
            case "fork":
                made = await ask(ann, "POST", f"{self.thread}/fork", body)
                self.thread_id = made.get("thread_id", self.thread_id)
            case "state":
                await ask(ann, "POST", f"{self.thread}/state", body)
            case "patch":
                await ask(ann, "PATCH", self.thread, body)
            case "answer":
                await ask(ann, "POST", f"{self.thread}/resume", body)
            case "cancel":
                await ask(ann, "POST", f"{self.thread}/cancel", body)
        await self.world.settle(self.thread_id)

    async def names(self, body: Any) -> dict[Any, Any]:
        """What the names in a body stand for on this thread, as it is now."""
        names: dict[Any, Any] = {
            attacks.LATEST: self.amount,
            attacks.FORGED: FORGED,
            "$digest": call_digest("pay", {"amount": self.amount}),
            "$elsewhere": self.world.elsewhere,
        }
        if "$" not in str(body):
            return names
        history = await self.world.ask(self.world.ann, "GET", f"{self.thread}/history?limit=7")
        if not isinstance(history, list) or not history:
            return names
        ids = [state["checkpoint_id"] for state in history]
        names |= {f"$at{position}": id for position, id in enumerate(ids)}
        names |= {"$head": ids[0], "$run": history[0]["metadata"].get("run_id", "none")}
        for message in history[0]["values"].get("messages", []):
            kind = {"ai": "$said", "tool": "$answer", "human": "$person"}.get(message["type"])
            if kind:
                names[kind] = message["id"]
            for each in message.get("tool_calls") or []:
                names |= {"$turn": message["id"], "$call": each["id"]}
        return names


@given(
    agent=st.sampled_from(AGENTS),
    start=st.sampled_from(STARTS),
    tried=st.lists(attacks.attacks, min_size=1, max_size=4),
)
@example("chat", "new", [("run", {"input": attacks.WITH_CONSENT})])
@example(
    "chat",
    "new",
    [
        ("state", {"values": attacks.WITH_CONSENT, "as_node": "__start__"}),
        ("run", {"checkpoint_id": "$head"}),
    ],
)
@example(
    "reviewed",
    "rejected",
    [
        (
            "state",
            {"values": attacks.WITH_CONSENT, "as_node": "HumanInTheLoopMiddleware.after_model"},
        ),
        ("fork", {}),
        ("run", {"checkpoint_id": "$head"}),
    ],
)
@example("stopped", "paid", [("run", {"input": {"messages": [attacks.UNKNOWN_REMOVED]}})])
@settings(
    max_examples=CASES,
    derandomize=True,
    database=None,
    # A smaller case would be on another thread, and the search for one takes minutes.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_nothing_is_paid_that_was_not_approved(
    world: World, agent: str, start: str, tried: list[tuple[str, Any]]
) -> None:
    async def attacked() -> None:
        world.cases += 1
        world.paid.clear()
        case = Case(world, agent, f"t-{world.cases}", 1000 + world.cases)
        await case.begin(start)
        for kind, body in tried:
            await case.do(kind, body)
            assert world.paid == case.approved
        state = await world.ask(world.ann, "GET", f"{case.thread}/state")
        await world.ask(world.ann, "GET", case.thread)
        world.elsewhere = state.get("checkpoint_id") or "none"

    world.do(attacked())
