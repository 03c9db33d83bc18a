"""Approvals through their lives in a server's runs, over a real storage, by a clock that is held:
whatever people do, however time passes, and whenever the server is started again.

What is held to is what a person could check who has the payments, the rows and the log: nothing is
paid but what was decided, once; what is over stays as it is; and the log, the feed, the audit chain
and the timers tell the same story.

ASSENT_LIVES says how many lives of 50 steps; 4 otherwise.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from assent import ApprovalPolicy, Approve, Edit, Escalation, Reject, Respond, build_hitl_agent
from assent.approvals.decide import Verdict
from assent.approvals.people import People
from assent.approvals.rules import AddComment, Delegate, Withdraw, next_deadline
from assent.core.access import APPROVES_ALL
from assent.core.approval import Approval, ApprovalStatus, Target
from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.decisions import Decision
from assent.core.errors import AssentError
from assent.core.events import ApprovalEvent, Error, RunEvent, decode
from assent.core.logs import APPROVALS, feed_of_agent
from assent.core.policy import OnTimeout, Person, Risk
from assent.core.rows import UNFINISHED, RunStatus, ThreadStatus
from assent.core.run_input import RunInput
from assent.runs.feeds import with_feeds
from assent.runs.opening import open_runs
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage
from tests.support.models import ScriptedModel, calls, say

# Many lives take longer than other tests may.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PEOPLE = {
    "ann": Person(name="ann", approves=APPROVES_ALL),
    "bob": Person(name="bob", roles=("lead",), approves=APPROVES_ALL),
    "cy": Person(name="cy", roles=("lead",), approves=APPROVES_ALL),
    "dee": Person(name="dee", roles=("boss",), approves=APPROVES_ALL),
}
TOOLS = ("plain", "quorum", "timed", "escalated")
YES = (ApprovalStatus.APPROVED, ApprovalStatus.EDITED)


def asks(args: dict[str, Any]) -> bool:
    """Seven is paid without a word."""
    return bool(args["amount"] % 7)


POLICIES = {
    "plain": ApprovalPolicy(when=asks),
    "quorum": ApprovalPolicy(when=asks, roles=("lead",), quorum=2, risk=Risk.HIGH),
    "timed": ApprovalPolicy(when=asks, timeout=30 * MINUTE, reminders=(10 * MINUTE, -5 * MINUTE)),
    "escalated": ApprovalPolicy(
        when=asks, roles=("lead",), timeout=20 * MINUTE, on_timeout=OnTimeout.ESCALATE,
        escalation=(Escalation(roles=("boss",), timeout=20 * MINUTE),),
    ),
}  # fmt: skip

people = st.sampled_from(sorted(PEOPLE))
deciders = st.sampled_from(["bob", "cy", "bob", "cy", "dee", "ann"])
picks = st.integers(0, 5)
seldom = st.sampled_from([True, False, False, False])
asked = st.lists(st.sampled_from(TOOLS), min_size=1, max_size=3)


@dataclass
class World:
    """What there is outside of the server: the money that was paid, and the time."""

    paid: Counter[int] = field(default_factory=Counter)
    now: datetime = START


class Life(RuleBasedStateMachine):
    """A server, and a few threads on it."""

    @initialize(asked=st.lists(asked, min_size=3, max_size=4))
    def begin(self, asked: list[list[str]]) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.amounts = iter(number for number in range(1, 10**9) if number % 7)
        self.threads: list[str] = []
        self.left: set[str] = set()
        self.over: dict[str, Approval] = {}
        self.last: tuple[str, Verdict] | None = None
        self.do(self.start())
        for tools in asked:
            self.ask(tools, "ann")

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.do(self.stack.aclose())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.folder)

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    # ── the server ──

    async def start(self) -> None:
        self.stack = AsyncExitStack()
        clock = Clock(now=lambda: self.world.now)
        opening = SqliteStorage.open(self.folder / "a.db", clock, synchronous="normal")
        self.storage = await self.stack.enter_async_context(opening)
        self.runs = await self.stack.enter_async_context(
            open_runs(
                with_feeds(self.storage),
                {"agent": self.agent()},
                clock=clock,
                people=People(PEOPLE),
                drain_seconds=0.5,
            )
        )
        await self.settle()

    def agent(self) -> Any:
        world = self.world

        def made(name: str) -> Any:
            async def pay(amount: int) -> str:
                world.paid[amount] += 1
                return f"paid {amount}"

            pay.__name__, pay.__doc__ = name, "Pay."
            return pay

        def reply(history: list[Any]) -> AIMessage:
            if isinstance(history[-1], ToolMessage):
                return say("Done.")
            said = next(
                message for message in reversed(history) if isinstance(message, HumanMessage)
            ).text
            return calls(
                *(
                    (tool, {"amount": int(amount)})
                    for tool, amount in (part.split() for part in said.split(";"))
                )
            )

        return build_hitl_agent(
            ScriptedModel(script=reply), list(map(made, TOOLS)), approve=POLICIES
        )

    async def settle(self) -> None:
        """Wait until nothing is left to do at this time."""
        while True:
            self.runs.engine.wake()
            # Timers first: what one of them begins is there once it is not due any more.
            due = await self.storage.due_timers(self.world.now)
            going = await self.storage.runs(status=UNFINISHED)
            if not going and not due:
                break
            await asyncio.sleep(0.002)
        await self.check()

    # ── what is asked ──

    @rule(tools=asked, by=people)
    def ask_more(self, tools: list[str], by: str) -> None:
        if len(self.threads) < 10:
            self.ask(tools, by)

    def ask(self, tools: list[str], by: str) -> None:
        thread_id = f"t{len(self.threads)}"
        self.threads.append(thread_id)
        message = ";".join(f"{tool} {next(self.amounts)}" for tool in tools)
        self.do(
            self.runs.submit(
                Submission(
                    given=RunInput(message),
                    by=Actor(by, approves=APPROVES_ALL),
                    thread_id=thread_id,
                )
            )
        )
        self.do(self.settle())

    async def pending(self) -> list[Approval]:
        rows = (await self.storage.approvals(status=ApprovalStatus.PENDING, limit=1000)).rows
        # In an order that is the same when hypothesis tries a life again: ids are not.
        return sorted(rows, key=lambda row: (row.thread_id, row.args["amount"]))

    def picked(self, pick: int) -> Approval | None:
        pending = self.do(self.pending())
        return pending[pick % len(pending)] if pending else None

    # ── what people do ──

    @rule(pick=picks, by=deciders, seen=st.sampled_from(["now", "now", "unknown", "first"]))
    def approve(self, pick: int, by: str, seen: str) -> None:
        self.decide(pick, by, Approve(), seen)

    @rule(pick=picks, by=deciders, free=seldom)
    def edit(self, pick: int, by: str, free: bool) -> None:
        amount = next(self.amounts)
        self.decide(pick, by, Edit({"amount": amount * 7 if free else amount}), "unknown")

    @rule(pick=picks, by=deciders)
    def reject(self, pick: int, by: str) -> None:
        self.decide(pick, by, Reject("No."), "unknown")

    @rule(pick=picks, by=deciders)
    def respond(self, pick: int, by: str) -> None:
        self.decide(pick, by, Respond("By hand."), "now")

    def decide(self, pick: int, by: str, decision: Decision, seen: str) -> None:
        approval = self.picked(pick)
        if approval is None:
            return
        digests = (
            {}
            if seen == "unknown"
            else {
                approval.approval_id: approval.current_digest if seen == "now" else approval.digest
            }
        )
        verdict = Verdict(
            decisions={approval.approval_id: decision},
            by=Actor(by, approves=APPROVES_ALL),
            digests=digests,
        )
        self.last = approval.thread_id, verdict
        self.tried(self.runs.approvals.decide(approval.thread_id, verdict))

    @rule(times=st.integers(1, 3))
    def retry(self, times: int) -> None:
        """The same once more, at once: it is taken once, whoever is the first."""
        if self.last is None:
            return
        thread_id, verdict = self.last

        async def again() -> None:
            sent = [self.runs.approvals.decide(thread_id, verdict) for _ in range(times)]
            for outcome in await asyncio.gather(*sent, return_exceptions=True):
                assert not isinstance(outcome, BaseException) or isinstance(outcome, AssentError), (
                    outcome
                )

        self.tried(again())

    @rule(pick=picks, by=people, other=people)
    def at_once(self, pick: int, by: str, other: str) -> None:
        """Two who decide otherwise in the same moment."""
        approval = self.picked(pick)
        if approval is None:
            return

        async def both() -> None:
            verdicts = [
                Verdict(
                    decisions={approval.approval_id: each}, by=Actor(who, approves=APPROVES_ALL)
                )
                for each, who in ((Approve(), by), (Reject("No."), other))
            ]
            sent = [self.runs.approvals.decide(approval.thread_id, verdict) for verdict in verdicts]
            outcomes = await asyncio.gather(*sent, return_exceptions=True)
            for outcome in outcomes:
                assert not isinstance(outcome, BaseException) or isinstance(outcome, AssentError), (
                    outcome
                )
            runs = [
                outcome
                for outcome in outcomes
                if not isinstance(outcome, BaseException) and outcome.run_id
            ]
            assert len(runs) <= 1

        self.tried(both())

    @rule(pick=picks, by=people)
    def withdraw(self, pick: int, by: str) -> None:
        self.act(pick, Withdraw(by=PEOPLE[by]))

    @rule(pick=picks, by=people, to=people)
    def delegate(self, pick: int, by: str, to: str) -> None:
        self.act(pick, Delegate(by=PEOPLE[by], to=Target(name=to)))

    @rule(pick=picks, by=people)
    def comment(self, pick: int, by: str) -> None:
        self.act(pick, AddComment(by=PEOPLE[by], text="Hm."))

    def act(self, pick: int, action: Withdraw | Delegate | AddComment) -> None:
        approval = self.picked(pick)
        if approval is not None:
            self.tried(self.runs.approvals.act(approval.approval_id, action, Actor(action.by.name)))

    def tried(self, work: Any) -> None:
        async def tried() -> None:
            with suppress(AssentError):
                await work
            await self.settle()

        self.do(tried())

    # ── what happens ──

    @rule(minutes=st.integers(1, 25))
    def time_passes(self, minutes: int) -> None:
        self.world.now += minutes * MINUTE
        self.do(self.settle())

    @rule(minutes=st.integers(0, 45))
    def restart(self, minutes: int) -> None:
        """The server is down for a while."""
        self.do(self.stack.aclose())
        self.world.now += minutes * MINUTE
        self.do(self.start())

    @rule(pick=picks, by=people, really=seldom)
    def cancel(self, pick: int, by: str, really: bool) -> None:
        if not really:
            return
        thread_id = self.threads[pick % len(self.threads)]
        self.left.add(thread_id)
        self.tried(self.runs.cancel_thread(thread_id, by=Actor(by, approves=APPROVES_ALL)))

    @precondition(lambda self: len(self.threads) < 10)
    @rule(pick=picks, by=people)
    def fork(self, pick: int, by: str) -> None:
        source, target = self.threads[pick % len(self.threads)], f"t{len(self.threads)}"
        self.threads.append(target)
        self.left.add(target)
        self.tried(
            self.runs.fork(source, target=target, by=Actor(by, approves=APPROVES_ALL), metadata={})
        )

    @rule(pick=picks)
    def tamper(self, pick: int) -> None:
        """Somebody changes what the model asked for."""
        approval = self.picked(pick)
        if approval is None:
            return
        self.left.add(approval.thread_id)

        async def change() -> None:
            agent = self.runs.agents["agent"]
            config: Any = {"configurable": {"thread_id": approval.thread_id}}
            turn = next(
                message
                for message in reversed((await agent.aget_state(config)).values["messages"])
                if isinstance(message, AIMessage)
            )
            other = [
                {**call, "args": {"amount": next(self.amounts)}}
                if call["id"] == approval.tool_call_id
                else call
                for call in turn.tool_calls
            ]
            await agent.aupdate_state(
                config,
                {"messages": [turn.model_copy(update={"tool_calls": other})]},
                as_node="agent",
            )

        self.tried(change())

    # ── what must hold ──

    async def check(self) -> None:
        rows = list((await self.storage.approvals(limit=1000)).rows)
        self.check_paid(rows)
        for row in rows:
            await self.check_row(row)
        told = 0
        for thread_id in self.threads:
            told += await self.check_thread(thread_id, rows)
        copies = [decode(entry.body) for entry in await self.storage.read_log(APPROVALS)]
        assert len(copies) == told
        audited = await self.storage.audit(limit=1000)
        assert len([record for record in audited.rows if record.entry.approval_id]) == told
        await self.check_feed()

    async def check_feed(self) -> None:
        """The agent's feed tells of each run and approval what the logs of their threads do. Of a
        thread that was tampered with, nobody knows whose it was."""
        logs = [await self.told(thread_id) for thread_id in self.threads]
        feed = await self.told(feed_of_agent("agent"))
        assert Counter(feed) == Counter(each for log in logs for each in log)

    async def told(self, log_id: str) -> list[tuple[str, str, str]]:
        """The lives of runs and approvals that are told there: of whom, what."""
        events = [decode(entry.body) for entry in await self.storage.read_log(log_id)]
        return [
            (event.about or event.thread_id, id_of(event), type(event).__name__)
            for event in events
            if isinstance(event, RunEvent | ApprovalEvent)
            and not (isinstance(event, Error) and event.code == "tampered")
        ]

    def check_paid(self, rows: list[Approval]) -> None:
        agreed: Counter[int] = Counter()
        for row in rows:
            if row.status in YES:
                agreed[amount_of(row)] += 1
        assert self.world.paid <= agreed, (self.world.paid, agreed)

    async def check_row(self, row: Approval) -> None:
        timer = await self.storage.timer(row.approval_id)
        assert (timer.due_at if timer else None) == next_deadline(row)
        assert row.status is not ApprovalStatus.EXPIRED or row.decision == Reject(
            "Nobody decided in time."
        )
        if row.status in YES:
            said = {vote.by for vote in row.votes if vote.digest == row.current_digest}
            free = row.status is ApprovalStatus.EDITED and amount_of(row) % 7 == 0
            assert free or len(said) >= row.policy.quorum
            assert not row.policy.needs_another or said.isdisjoint(row.requested_by)
        if row.status is not ApprovalStatus.PENDING:
            # What is over stays as it is.
            assert self.over.setdefault(row.approval_id, row) == row

    async def check_thread(self, thread_id: str, rows: list[Approval]) -> int:
        thread = await self.storage.thread(thread_id)
        if thread is None:
            return 0
        mine = [row for row in rows if row.thread_id == thread_id]
        assert set(thread.pending) == {
            row.approval_id for row in mine if row.status is ApprovalStatus.PENDING
        }
        assert (thread.status is ThreadStatus.INTERRUPTED) == bool(thread.pending), thread
        entries = await self.storage.read_log(thread_id)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        events = [
            event
            for event in (decode(entry.body) for entry in entries)
            if isinstance(event, ApprovalEvent)
        ]
        endings = Counter(event.approval_id for event in events if type(event).__name__ in ENDINGS)
        assert endings == {
            row.approval_id: 1 for row in mine if row.status is not ApprovalStatus.PENDING
        }
        runs = await self.storage.runs(thread_id=thread_id)
        assert all(
            run.status
            in (RunStatus.SUCCESS, RunStatus.INTERRUPTED, RunStatus.CANCELLED, RunStatus.ERROR)
            for run in runs
        )
        if thread_id not in self.left and not thread.pending:
            # All was decided, so all that was agreed to has happened.
            for row in mine:
                if row.status in YES and row.decision is not None:
                    # Or more, if what a fork asked again was agreed to there too.
                    assert self.world.paid[amount_of(row)] >= 1
        return len(events)


def id_of(event: RunEvent | ApprovalEvent) -> str:
    """The approval, or the run."""
    return event.approval_id if isinstance(event, ApprovalEvent) else event.run_id


def amount_of(row: Approval) -> int:
    """The amount that was agreed to: the edited one, if somebody edited it."""
    return int(row.current_args["amount"])


ENDINGS = {"ApprovalDecided", "ApprovalExpired", "ApprovalCancelled", "ApprovalSuperseded"}

TestLives = Life.TestCase
TestLives.settings = settings(
    max_examples=int(os.environ.get("ASSENT_LIVES", "4")),
    stateful_step_count=50,
    suppress_health_check=list(HealthCheck),
)
