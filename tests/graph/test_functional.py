"""Workflows of LangGraph's functional API, in code."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.types import interrupt

from assent import Respond, apending_approvals, aresume, astream_typed
from assent.core.errors import InvalidRequest
from assent.core.events import NodeStart
from assent.graph.closing import close
from assent.graph.forking import fork
from assent.graph.kinds import gate_of, is_workflow
from tests.graph.harness import THREAD, AgentHarness


def workflow(ran: list[str]) -> Any:
    @task
    async def weigh(amount: int) -> int:
        ran.append(f"weigh {amount}")
        return amount * 2

    @entrypoint(checkpointer=InMemorySaver())
    async def pay(amount: int) -> str:
        weight = await weigh(amount)
        return f"{weight}: {interrupt({'pay': weight})}"

    return pay


async def test_its_question_is_an_approval(ran: list[str]) -> None:
    pay = workflow(ran)
    await pay.ainvoke(3, THREAD)
    (approval,) = await apending_approvals(pay, THREAD)
    assert (approval.kind, approval.node, approval.args) == ("input", "pay", {"pay": 6})
    assert await aresume(pay, THREAD, Respond("yes")) == "6: yes"
    assert await apending_approvals(pay, THREAD) == []
    assert ran == ["weigh 3"]


async def test_its_events_are_those_of_one_node(ran: list[str]) -> None:
    pay = workflow(ran)
    events = [event async for event in astream_typed(pay, 3, THREAD)]
    begun = [event.node for event in events if isinstance(event, NodeStart)]
    assert begun == ["pay"]


async def test_one_that_waits_is_closed_and_takes_new_input(ran: list[str]) -> None:
    pay = workflow(ran)
    await pay.ainvoke(3, THREAD)
    await close(pay, THREAD, {})
    assert await apending_approvals(pay, THREAD) == []
    await pay.ainvoke(4, THREAD)
    (approval,) = await apending_approvals(pay, THREAD)
    assert approval.args == {"pay": 8}


async def test_one_that_waits_is_not_forked(ran: list[str]) -> None:
    pay = workflow(ran)
    await pay.ainvoke(3, THREAD)
    before = await pay.aget_state(THREAD)
    with pytest.raises(InvalidRequest, match="The agent 'pay' is a workflow"):
        await fork(pay, THREAD, before.config["configurable"]["checkpoint_id"])
    assert (await pay.aget_state(THREAD)).config == before.config


def test_only_a_workflow_is_one(ran: list[str]) -> None:
    agent = AgentHarness().agent()
    assert (is_workflow(agent), gate_of(agent) is not None) == (False, True)
    assert (is_workflow(workflow(ran)), gate_of(workflow(ran))) == (True, None)


@pytest.fixture
def ran() -> list[str]:
    return []
