"""The operator's policies and the code's, where they do not go together."""

from __future__ import annotations

import asyncio
from pathlib import Path

from assent import ApprovalPolicy, build_hitl_agent
from assent.core.audit import Actor
from assent.core.policy import AgentRules, PolicyBook
from assent.core.rows import RunStatus
from assent.core.run_input import RunInput
from assent.runs.follow import wait_for_run
from assent.runs.opening import open_runs
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage
from tests.support.models import ScriptedModel, calls
from tests.support.waiting import PATIENCE


async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


async def test_a_run_that_asks_under_no_policy_that_can_be_kept_fails_and_says_why(
    tmp_path: Path,
) -> None:
    """The tool is known in a turn only, and its policy not before."""
    agent = build_hitl_agent(
        ScriptedModel(script=lambda history: calls(("pay", {"amount": 5}))),
        lambda state, runtime: [pay],
        approve=ApprovalPolicy(names=("bob", "cy")),
    )
    policies = PolicyBook({"agent": AgentRules(tools={"pay": {"quorum": 3}})})
    async with (
        asyncio.timeout(PATIENCE),
        SqliteStorage.open(tmp_path / "a.db") as storage,
        open_runs(storage, {"agent": agent}, policies=policies) as runs,
    ):
        started = await runs.submit(
            Submission(given=RunInput("Pay."), by=Actor("ann"), thread_id="t")
        )
        ended = await wait_for_run(storage, started.run)
    assert (ended.status, ended.attempt) == (RunStatus.ERROR, 1)
    assert ended.error == {
        "code": "configuration_error",
        "message": "The policy of the agent 'agent' for its tool 'pay' is wrong: A policy's quorum "
        "is 3, and it names only 2 who may decide. Name more, or ask fewer.",
    }
