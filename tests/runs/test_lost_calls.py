"""Calls of tools in a server's runs, whose ledger is in the storage: what is noted, and what
becomes of those that nobody finished."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy

from assent import Approve, Respond, build_hitl_agent, idempotency_key
from assent.approvals.decide import Verdict
from assent.core.access import APPROVES_ALL
from assent.core.approval import ApprovalKind, ApprovalStatus
from assent.core.audit import Actor
from assent.core.decisions import Decision
from assent.core.rows import EffectStatus, Run, RunStatus
from assent.core.run_input import RunInput
from assent.runs.follow import Following, follow_run
from assent.runs.opening import open_runs
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage
from tests.support.models import ScriptedModel, call, say

ASKING = ("tool_unknown", "approval_required", "run_paused")
QUICK = RetryPolicy(initial_interval=0.001, jitter=False)


class Till:
    """A tool that needs no approval, and notes the key of each call. Its first call takes for
    ever."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def pay(self, amount: int) -> str:
        """Pay."""
        self.keys.append(idempotency_key())
        if len(self.keys) == 1:
            await asyncio.Event().wait()
        return f"paid {amount}"


async def ended(storage: SqliteStorage, run: Run, first_seq: int) -> tuple[Run, list[str]]:
    """The run when it has stopped, and the types of its events."""
    following = Following(storage, run.thread_id, first_seq - 1)
    pages = [page async for page in follow_run(following, run.run_id)]
    stored = await storage.run(run.run_id)
    assert stored is not None
    return stored, [entry.type for page in pages for entry in page]


def agent(till: Till, effects: Mapping[str, Any]) -> Any:
    model = ScriptedModel(script=[ConnectionError(), call("pay", amount=3), say("Done.")])
    return build_hitl_agent(
        model, [till.pay], approve=[], effects=effects, tool_timeout=0.5, model_retry=QUICK
    )


@pytest.mark.parametrize(("decision", "calls"), [(Approve(), 2), (Respond("It was paid."), 1)])
async def test_a_call_that_ran_out_of_time_is_asked_of(
    tmp_path: Path, decision: Decision, calls: int
) -> None:
    till = Till()
    async with (
        SqliteStorage.open(tmp_path / "a.db") as storage,
        open_runs(storage, {"agent": agent(till, {})}) as runs,
    ):
        started = await runs.submit(
            Submission(given=RunInput("Pay 3."), by=Actor("ada", approves=APPROVES_ALL))
        )
        run, types = await ended(storage, started.run, started.first_seq)
        assert run.status is RunStatus.INTERRUPTED
        assert "llm_retry" in types
        assert [kind for kind in types if kind in ASKING] == list(ASKING)
        (approval,) = (await storage.approvals(thread_id=run.thread_id)).rows
        assert (approval.kind, approval.tool, approval.args) == (
            ApprovalKind.UNKNOWN_OUTCOME,
            "pay",
            {"amount": 3},
        )

        decided = await runs.approvals.decide(
            run.thread_id, Verdict(decisions=decision, by=Actor("bob", approves=APPROVES_ALL))
        )
        assert decided.run_id is not None
        run, _ = await ended(storage, await runs.run(decided.run_id), decided.first_seq)
        assert run.status is RunStatus.SUCCESS
        assert (len(till.keys), len(set(till.keys))) == (calls, calls)
        rows = [await storage.effect(key) for key in till.keys]
        assert [row.status for row in rows if row is not None] == [
            *[EffectStatus.STARTED] * (calls - 1),
            EffectStatus.FINISHED,
        ]


@pytest.mark.parametrize(("effects", "rows"), [("none", 0), ("idempotent", 1)])
async def test_a_call_that_may_be_made_again_is_told_to_the_model(
    tmp_path: Path, effects: str, rows: int
) -> None:
    till = Till()
    async with (
        SqliteStorage.open(tmp_path / "a.db") as storage,
        open_runs(storage, {"agent": agent(till, {"pay": effects})}) as runs,
    ):
        started = await runs.submit(
            Submission(given=RunInput("Pay 3."), by=Actor("ada", approves=APPROVES_ALL))
        )
        run, types = await ended(storage, started.run, started.first_seq)
        assert run.status is RunStatus.SUCCESS
        assert "tool_error" in types
        assert [bool(await storage.effect(key)) for key in till.keys] == [bool(rows)]


async def test_an_approved_node_that_was_cut_off_is_asked_about(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def work(state: MessagesState) -> None:
        begun.set()
        await asyncio.Event().wait()

    builder = StateGraph(MessagesState).add_node("work", work).add_edge(START, "work")
    agents = {"agent": builder.compile(interrupt_before=["work"])}
    async with (
        SqliteStorage.open(tmp_path / "a.db") as storage,
        open_runs(storage, agents, drain_seconds=0) as runs,
    ):
        started = await runs.submit(
            Submission(given=RunInput("Go."), by=Actor("ada", approves=APPROVES_ALL))
        )
        run, _ = await ended(storage, started.run, started.first_seq)
        verdict = Verdict(decisions=Approve(), by=Actor("bob", approves=APPROVES_ALL))
        decided = await runs.approvals.decide(run.thread_id, verdict)
        await begun.wait()

    assert decided.run_id is not None
    async with (
        SqliteStorage.open(tmp_path / "a.db") as storage,
        open_runs(storage, agents) as runs,
    ):
        run, _ = await ended(storage, await runs.run(decided.run_id), decided.first_seq)
        assert run.status is RunStatus.INTERRUPTED
        pending = await storage.approvals(thread_id=run.thread_id, status=ApprovalStatus.PENDING)
        assert [approval.kind for approval in pending.rows] == [ApprovalKind.UNKNOWN_OUTCOME]
