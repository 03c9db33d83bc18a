"""The operator's policies and the code's, where they do not go together; and approvals in advance
by people who may not approve any more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from assent import ApprovalPolicy, Escalation, build_hitl_agent
from assent.approvals.people import People
from assent.core.access import APPROVES_ALL, Owner
from assent.core.audit import Actor, AuditAction, Authentication
from assent.core.clock import Clock
from assent.core.errors import Conflict
from assent.core.grant import Bound, Grant
from assent.core.keys import Pepper
from assent.core.policy import AgentRules, PolicyBook
from assent.core.rows import RunStatus
from assent.core.run_input import RunInput
from assent.runs.follow import wait_for_run
from assent.runs.givers import Givers
from assent.runs.keys import Keys
from assent.runs.opening import open_runs
from assent.runs.transitions import Submission
from assent.storage.base import Change, all_rows
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


async def test_a_policy_that_asks_a_role_which_gives_rights_is_logged_at_the_start(
    tmp_path: Path,
) -> None:
    policy = ApprovalPolicy(
        roles=("lead",),
        timeout=timedelta(hours=1),
        on_timeout="escalate",
        escalation=(Escalation(roles=("approver:tool:pay",)),),
    )
    model = ScriptedModel(script=lambda history: "Done.")
    agent = build_hitl_agent(model, [pay], approve={"pay": policy})
    others = build_hitl_agent(model, [pay], approve=["pay"])
    rules = AgentRules(every={"roles": ["approver"]})
    policies = PolicyBook({"others": rules})
    with capture_logs() as lines:
        async with (
            SqliteStorage.open(tmp_path / "a.db") as storage,
            open_runs(storage, {"agent": agent, "others": others}, policies=policies),
        ):
            pass
    lines = [line for line in lines if line["event"] == "a policy asks a role that gives rights"]
    told = [(line["agent"], line["tools"], line["role"]) for line in lines]
    assert told == [("agent", ["pay"], "approver:tool:pay"), ("others", ["pay"], "approver")]
    assert {line["log_level"] for line in lines} == {"warning"}


async def test_what_somebody_granted_approves_nothing_once_their_key_is_revoked(
    tmp_path: Path,
) -> None:
    agent = build_hitl_agent(
        ScriptedModel(script=lambda history: calls(("pay", {"amount": 5}))), [pay], approve=["pay"]
    )
    eve = Actor("eve", Authentication.API_KEY, roles=("approver",), approves=APPROVES_ALL)
    async with (
        asyncio.timeout(PATIENCE),
        SqliteStorage.open(tmp_path / "a.db") as storage,
        open_runs(storage, {"agent": agent}) as runs,
    ):
        keys = Keys(storage, Pepper(b"p" * 32), Clock())
        made = await keys.make(Owner("eve"), ["approver"], Actor("oz"))
        given = await runs.approvals.give_grant(
            agent=None,
            tool="pay",
            bounds={"amount": Bound(any=True)},
            by=eve,
            until=Clock().now() + timedelta(days=1),
            uses=1,
            user="ann",
        )
        await keys.revoke(made.row.key_id, Actor("oz"))
        asked = Submission(given=RunInput("Pay."), by=Actor("ann"), thread_id="t")
        ended = await wait_for_run(storage, (await runs.submit(asked)).run)
        (approval,) = await all_rows(storage.approvals)
        found = await all_rows(storage.audit, actor="eve")
        unused = await storage.grant(given.grant_id)
    assert (ended.status, approval.is_pending) == (RunStatus.INTERRUPTED, True)
    assert unused == given
    (entry,) = (each.entry for each in found if each.entry.action is AuditAction.REFUSED)
    assert (entry.authentication, entry.approval_id) == (Authentication.GRANT, approval.approval_id)
    assert entry.detail == {
        "grant": given.grant_id,
        "why": "none of its giver's keys is good any more",
    }


async def test_a_key_that_is_revoked_before_the_pause_is_stored_keeps_it_from_being_stored(
    tmp_path: Path,
) -> None:
    """So the grant is judged anew."""
    async with SqliteStorage.open(tmp_path / "a.db") as storage:
        keys = Keys(storage, Pepper(b"p" * 32), Clock())
        made = await keys.make(Owner("corp:eve"), ["approver"], Actor("oz"))
        now = Clock().now()
        given = Grant(
            grant_id="g",
            agent="agent",
            tool="pay",
            bounds={},
            given_by="eve",
            given_at=now,
            until=now + timedelta(days=1),
            uses=1,
            user="ann",
        )
        givers = await Givers.of([given], storage, People(aliases={"corp:eve": "eve"}), now)
        voted = givers.holding(Change(rows=(given,)))
        await keys.revoke(made.row.key_id, Actor("oz"))
        with pytest.raises(Conflict):
            await storage.commit(voted)
        assert await storage.grant(given.grant_id) is None
