"""The approvals of all threads: decided, commented on, granted in advance, and checked when their
deadline has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from datetime import datetime
from weakref import WeakValueDictionary

from msgspec import structs

from assent.approvals import grants, idempotency
from assent.approvals.decide import Decider, Verdict, pending_approvals, stored_approval
from assent.approvals.idempotency import Key
from assent.approvals.people import People, check_alone
from assent.approvals.rules import (
    Decide,
    PersonalAction,
    Standing,
    advance,
    already_decided,
    standing,
)
from assent.core.access import APPROVES_ALL, APPROVES_NOTHING, EVERYTHING, Owner, Sight
from assent.core.approval import Approval, Outcome
from assent.core.audit import LOCAL, Actor, Authentication
from assent.core.clock import Clock
from assent.core.decisions import Edit
from assent.core.errors import NotFound, Superseded, Tampered
from assent.core.grant import Bound, Grant
from assent.core.json import Json, JsonObject
from assent.core.policy import Person, Policy, PolicyBook
from assent.core.rows import Link, Thread, Timer
from assent.core.run_input import RunInput
from assent.graph import forking
from assent.graph.breakpoints import Breakpoints
from assent.graph.kinds import Agent, first_of, gate_of
from assent.runs.distrust import distrust
from assent.runs.engine import Engine
from assent.runs.inspection import AgentInspector, check_tool
from assent.runs.keys import keys_of
from assent.runs.shielding import shielded
from assent.runs.states import thread_config
from assent.storage.base import Storage


class Approvals:
    """Decides approvals, and starts the runs that go on."""

    def __init__(
        self,
        storage: Storage,
        engine: Engine,
        agents: Mapping[str, Agent],
        *,
        clock: Clock,
        policies: PolicyBook,
        people: People,
    ) -> None:
        self._storage = self._seen = storage
        self._sight = EVERYTHING
        self._engine = engine
        self._agents = agents
        self._clock = clock
        self._policies = policies
        self.people = people
        self._inspector = AgentInspector(storage, agents, policies, Breakpoints(agents))
        self._turns = WeakValueDictionary[str, asyncio.Lock]()

    def seen_by(self, storage: Storage, sight: Sight) -> Approvals:
        """The same approvals, as they are seen in this storage. Those that the sight shows can be
        decided; all that deciding them needs is read from the whole storage."""
        seen = copy(self)
        seen._seen, seen._sight = storage, sight
        return seen

    async def get(self, approval_id: str) -> Approval:
        """The approval. Raises `NotFound`."""
        return await stored_approval(self._seen, approval_id)

    async def pending(self, thread: Thread) -> list[Approval]:
        """The approvals that the thread waits for, in the order in which they were asked."""
        return await pending_approvals(self._seen, thread)

    @shielded
    async def decide(self, thread_id: str, verdict: Verdict) -> Outcome:
        """Decide pending approvals; if none is left, the run that goes on is started.

        Raises `NotFound`, `NothingPending`, `AlreadyDecided`, `InvalidDecision`, `Forbidden`,
        `Superseded` or `Tampered`, and then nothing was decided.
        """
        await self._check_seen(thread_id)
        # The storage takes one of those that decide at once and has the others try again. A hundred
        # on one thread would try five thousand times, so those of this process take turns.
        async with self._turns.setdefault(thread_id, asyncio.Lock()):
            with self._engine.reserve() as worker:
                async with self._distrusting(thread_id):
                    outcome = await self._decider(worker).decide(thread_id, verdict)
        return await self._told(outcome)

    async def _check_seen(self, thread_id: str) -> None:
        """Raise `NotFound` unless the thread is seen, or an approval of it."""
        if self._seen is self._storage or await self._seen.thread(thread_id) is not None:
            return
        if not (await self._seen.approvals(thread_id=thread_id, limit=1)).rows:
            raise NotFound(f"There is no thread '{thread_id}'.")

    async def _told(self, outcome: Outcome) -> Outcome:
        """The outcome, without the ids of approvals that are not seen."""
        if self._seen is self._storage or not outcome.pending:
            return outcome
        pending = [id for id in outcome.pending if await self._seen.approval(id) is not None]
        return structs.replace(outcome, pending=tuple(pending))

    async def claim(self, key: Key) -> None:
        """Reserve an idempotency key for a request whose parts are decided one by one. Raises
        `InvalidRequest` if it came with another request."""
        await idempotency.claim(self._seen, self._clock, key)

    async def asked_at(
        self, agent: str, given: RunInput, thread_id: str, checkpoint_id: str
    ) -> tuple[forking.Standing, list[Approval]]:
        """The next thing that a fork from a checkpoint of the thread could do, in a run of this
        agent that is given this; and what it would ask."""
        config = thread_config(thread_id)
        return await self._inspector.asked_at(agent, given, config, checkpoint_id)

    async def preview(self, approval_id: str, args: JsonObject, by: Actor) -> tuple[Approval, Json]:
        """What an edit to these arguments would make of the approval, and what its tool shows of
        such a call. Nothing is changed.

        Raises what `decide` raises of such an edit.
        """
        approval = await self.get(approval_id)
        thread = await self._storage.thread(approval.thread_id)
        pending = await pending_approvals(self._storage, thread) if thread else []
        if thread is None or approval_id not in {each.approval_id for each in pending}:
            raise already_decided(approval)
        inspection = await self._inspector.inspect(thread, pending)
        if approval_id in inspection.stale:
            raise Superseded(inspection.stale[approval_id], approval_id=approval_id)
        edit = Edit(args=args)
        action = Decide(
            by=self.person(by),
            decision=edit,
            digest=approval.current_digest,
            requires=inspection.requires(approval, args),
        )
        edited = advance(approval, action, self._clock.now()).approval
        inspection.check(approval, edit)
        return edited, await inspection.preview(approval, args)

    @shielded
    async def act(self, approval_id: str, action: PersonalAction, by: Actor) -> Approval:
        """Withdraw a vote, delegate a voting right or comment. Returns the approval as it is then.

        Raises `NotFound`, `AlreadyDecided`, `Forbidden`, `InvalidRequest` or `Tampered`, and then
        nothing was changed.
        """
        await self.get(approval_id)
        return await self._decider(None).act(approval_id, action, by)

    async def check_deadline(self, timer: Timer) -> None:
        """Store what time has done to the approval of the timer. Raises `Tampered`."""
        with self._engine.reserve() as worker:
            async with self._distrusting(timer.thread_id):
                await self._decider(worker).check_deadline(timer.timer_id)

    @asynccontextmanager
    async def _distrusting(self, thread_id: str) -> AsyncIterator[None]:
        """If something of the thread was tampered with, let nothing run on it any more."""
        try:
            yield
        except Tampered as error:
            # The row itself may name another thread, if that is what was changed.
            found = Tampered(error.message, **{**error.details, "thread_id": thread_id})
            await distrust(self._storage, self._engine, thread_id, found)
            raise found from error

    def _decider(self, worker: str | None) -> Decider:
        return Decider(
            storage=self._storage,
            sight=self._sight,
            clock=self._clock,
            person=self.person,
            inspect=self._inspector.inspect,
            start=self._engine.submit,
            worker=worker,
            agents=self._agents.keys(),
        )

    def person(self, by: Actor) -> Person:
        """The person who does something, with the roles that they do it with."""
        return self.people.acting(by)

    def standing(self, approval: Approval, by: Actor) -> Standing:
        """What whoever asks may do about the approval now."""
        return standing(approval, self.person(by), self._clock.now())

    async def recipient(self, link: Link, approval: Approval) -> Actor:
        """The person in whose name the link to the approval decides. Whoever made it for them has
        seen it too. Their word counts while both could approve such calls with what else they are
        known by: so a link is worth nothing once that was withdrawn."""
        now, tenant = self._clock.now(), approval.tenant
        makers = {link.created_by} - {"", LOCAL, link.recipient}
        counts = True
        for name in (link.recipient, *makers):
            owner = Owner(name, tenant)
            keys = await keys_of(self._storage, self.people, owner)
            counts &= self.people.approves_unasked(owner, keys, now).takes(approval)
        return Actor(
            link.recipient,
            Authentication.SIGNED_LINK,
            tenant=tenant,
            approves=APPROVES_ALL if counts else APPROVES_NOTHING,
            known_to=tuple(makers),
        )

    # ── grants ────────────────────────────────────────────────────────────────────────────────────

    @shielded
    async def give_grant(
        self,
        *,
        agent: str | None,
        tool: str,
        bounds: Mapping[str, Bound],
        by: Actor,
        until: datetime,
        uses: int,
        thread_id: str = "",
        user: str = "",
    ) -> Grant:
        """Approve calls of a tool in advance. Raises `Forbidden`, `InvalidRequest`, or `NotFound`
        for an unknown agent, tool or thread."""
        check_alone(by)
        agent = agent or first_of(self._agents)
        policy = self.policy(agent, tool)
        check_tool(self._agents[agent], agent, tool)
        if thread_id and await self._seen.thread(thread_id) is None:
            raise NotFound(f"There is no thread '{thread_id}'.")
        grant = Grant(
            grant_id=self._clock.new_id(),
            agent=agent,
            tool=tool,
            bounds=dict(bounds),
            given_by=by.name,
            tenant=by.tenant,
            roles=self.person(by).roles,
            given_at=self._clock.now(),
            until=until,
            uses=uses,
            thread_id=thread_id,
            user=self.people.canonical(user),
        )
        return await grants.give(self._seen, grant, policy, by)

    @shielded
    async def revoke_grant(self, grant_id: str, by: Actor) -> Grant:
        """Revoke a grant. Raises `NotFound` or `Forbidden`."""
        grant = await self.get_grant(grant_id)
        if grant.agent in self._agents:
            policy = self.policy(grant.agent, grant.tool)
        else:
            # A grant for an agent that is gone can still be revoked, by whoever gave it.
            policy = Policy(names=(grant.given_by,))
        person = self.person(by)
        return await grants.revoke(self._seen, self._clock, grant, person, policy, by)

    async def get_grant(self, grant_id: str) -> Grant:
        """The grant. Raises `NotFound`."""
        return await grants.stored_grant(self._seen, grant_id)

    def policy(self, agent: str, tool: str) -> Policy:
        """The policy for calls of the agent's tool, if they need anybody. Raises `NotFound` for an
        unknown agent."""
        if agent not in self._agents:
            raise NotFound(f"There is no agent '{agent}'. There are: {', '.join(self._agents)}.")
        gate = gate_of(self._agents[agent])
        written = gate.rules.policy_of(tool) if gate else None
        return self._policies.policy(agent, tool, written)
