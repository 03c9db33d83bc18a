"""One approval: what people are asked, under which policy, and what they have said so far.

The graph finds it, the rules advance it, storage keeps it, and events, notifications and views pick
fields of it. There is no other class for any of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from assent.core.decisions import Decision, Edit, Reject, Respond, decision_type
from assent.core.digest import call_digest
from assent.core.errors import InvalidDecision, NotFound, NothingPending
from assent.core.events import ApprovalDecided, ApprovalEvent
from assent.core.json import Json, JsonObject
from assent.core.names import folded
from assent.core.policy import Person, Policy, policy_digest


class ApprovalStatus(StrEnum):
    """The state of an approval. Only `pending` is not final."""

    PENDING = "pending"
    APPROVED = "approved"
    EDITED = "edited"
    REJECTED = "rejected"
    RESPONDED = "responded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


class ApprovalKind(StrEnum):
    """The kind of question.

    `tool`: may this call run? `node`: may this node of a user's graph run? `input`: a question that
    a graph asked with `interrupt()`. `unknown_outcome`: a call was cut off by a crash; did it
    happen? `budget`: may the run use more?
    """

    TOOL = "tool"
    NODE = "node"
    INPUT = "input"
    UNKNOWN_OUTCOME = "unknown_outcome"
    BUDGET = "budget"


class Vote(Struct, frozen=True, kw_only=True):
    """A decision by one person on the arguments with this `digest`.

    `voting_right` is the name of the person whose right was used: the voter's own, unless it was
    delegated to them. `grant` is the id of the standing grant that voted for them. `known_to` are
    others who know the secret that the voter was known by, and `sent_by` made the link that they
    used.
    """

    by: str
    decision: Decision
    digest: str
    at: datetime
    voting_right: str
    grant: str = ""
    known_to: tuple[str, ...] = ()
    sent_by: str = ""

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody whose word it may be."""
        return (self.by, *self.known_to, *filter(None, [self.sent_by]))

    @property
    def meaning(self) -> str:
        """A text that is equal for votes that agree."""
        answer = self.decision.message if isinstance(self.decision, Respond) else None
        return call_digest(decision_type(self.decision), answer)


class Edited(Struct, frozen=True, kw_only=True):
    """Arguments that somebody put in place of those that were asked. `earlier` are the people whose
    edits these replace, of whose words some may be left, and those who may have acted for `by`."""

    args: JsonObject
    digest: str
    by: str
    at: datetime
    earlier: tuple[str, ...] = ()

    @property
    def editors(self) -> tuple[str, ...]:
        """Everybody whose words the arguments may have."""
        return (*(name for name in self.earlier if name != self.by), self.by)


def people_behind(votes: Iterable[Vote]) -> int:
    """The number of people who have certainly given these votes: those who may have given each
    other's count as one, and so do those whose names read the same."""
    votes = tuple(votes)
    voters = {folded(name) for vote in votes for name in (vote.by, *vote.known_to)}
    groups: list[set[str]] = []
    for vote in votes:
        group = {folded(name) for name in (vote.by, *vote.known_to)}
        # Whoever sends links to many people is no voter by that, and must not be two.
        if folded(vote.sent_by) in voters:
            group.add(folded(vote.sent_by))
        for other in [each for each in groups if not group.isdisjoint(each)]:
            group |= other
            groups.remove(other)
        groups.append(group)
    return len(groups)


class Target(Struct, frozen=True, kw_only=True):
    """The receiver of a voting right: the person `name`, or anyone with the `role`. One of both."""

    name: str = ""
    role: str = ""

    def includes(self, person: Person) -> bool:
        return self.name == person.name if self.name else self.role in person.roles


class Delegation(Struct, frozen=True, kw_only=True):
    """The `voting_right` of the person with that name is with `to`; `by` handed it over last."""

    voting_right: str
    to: Target
    by: str
    at: datetime


class Comment(Struct, frozen=True, kw_only=True):
    """A remark by a person. It decides nothing."""

    by: str
    text: str
    at: datetime


class Approval(Struct, frozen=True, kw_only=True):
    """One question to people, and where it stands.

    What is asked: `args` are exactly what will run (or the value of a graph's question), `digest`
    is their SHA-256 (`core.digest`), and neither ever changes; `edit` replaces them if somebody
    edited. `schema` is the JSON Schema of an edit's arguments or of the answer to a question of
    kind `input`; None leaves it open, or to the tool. `preview` is what the tool's policy shows of
    the effect, or `{"description": …}` for a graph's own question. `conversation` is the last turn
    of the conversation, and the context and config that the graph is run with, for people to read.
    `allowed` are the types of decision it takes.

    Where it comes from: `run_id` is the run that paused, `node` where it waits (in a subgraph with
    the nodes around it, "outer|inner"), `namespace` the subgraph as LangGraph writes it.
    `interrupt_id` is LangGraph's, if the question came from `interrupt()`; several questions of
    one interrupt have a `position` each and are answered together.

    Who decides: `policy` is the one that it was asked under. `requested_by` are the people whose
    words or changes it can be traced to, the one for whom the agent works first. `step` counts the
    escalations so far; its people were asked at `step_at` and have until `expires_at`.
    `reminded_at` is when people were last reminded. `decided_by` is who gave the last vote that was
    needed.

    Read by an agent's code without a server, `run_id`, `owner` and `agent` are empty.
    """

    approval_id: str
    thread_id: str
    kind: ApprovalKind
    digest: str
    allowed: tuple[str, ...]
    requested_at: datetime
    run_id: str = ""
    owner: str = ""
    agent: str = ""
    status: ApprovalStatus = ApprovalStatus.PENDING
    tool: str = ""
    tool_call_id: str = ""
    message_id: str = ""
    args: Json = None
    schema: JsonObject | None = None
    preview: Json = None
    conversation: dict[str, str] = {}
    node: str = ""
    namespace: str = ""
    checkpoint_id: str = ""
    interrupt_id: str | None = None
    position: int = 0
    requested_by: tuple[str, ...] = ()
    policy: Policy = Policy()
    step: int = 0
    step_at: datetime | None = None
    expires_at: datetime | None = None
    reminded_at: datetime | None = None
    edit: Edited | None = None
    votes: tuple[Vote, ...] = ()
    delegations: tuple[Delegation, ...] = ()
    comments: tuple[Comment, ...] = ()
    decision: Decision | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    tenant: str | None = None
    version: int = 1

    @property
    def is_pending(self) -> bool:
        return self.status is ApprovalStatus.PENDING

    @property
    def is_gated_call(self) -> bool:
        """True for a tool call that the gate of one of our own agents holds back."""
        return self.kind is ApprovalKind.TOOL and self.interrupt_id is None

    @property
    def current_args(self) -> Json:
        """Exactly what is asked now: the edited arguments, or else the first ones."""
        return self.edit.args if self.edit else self.args

    @property
    def current_digest(self) -> str:
        """The digest of exactly what is asked now."""
        return self.edit.digest if self.edit else self.digest

    @property
    def agreeing(self) -> tuple[Vote, ...]:
        """The votes on exactly what is asked now that say the same: of several answers, those of
        the most frequent one."""
        most: list[Vote] = []
        by_meaning: dict[str, list[Vote]] = {}
        for vote in self.votes:
            if vote.digest == self.current_digest:
                same = by_meaning.setdefault(vote.meaning, [])
                same.append(vote)
                most = max(most, same, key=len)
        return tuple(most)

    @property
    def asked_at(self) -> datetime:
        """The time at which the people of the present step were asked."""
        return self.step_at or self.requested_at

    @property
    def risk(self) -> str:
        return str(self.policy.risk)

    @property
    def policy_digest(self) -> str:
        return policy_digest(self.policy)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles whose people may decide now, delegated voting rights included, sorted."""
        roles, _ = self.policy.asked(self.step)
        delegated = {each.to.role for each in self.delegations if each.to.role}
        return tuple(sorted(roles | delegated))

    @property
    def names(self) -> tuple[str, ...]:
        """The people whom the policy asks by name now, sorted."""
        _, names = self.policy.asked(self.step)
        return tuple(sorted(names))

    @property
    def asks_anybody(self) -> bool:
        """True if the policy asks nobody in particular, so that everybody may decide."""
        return not self.policy.roles and not self.policy.names

    @property
    def assignees(self) -> tuple[str, ...]:
        """The people to whom a voting right was delegated by name."""
        return tuple(each.to.name for each in self.delegations if each.to.name)


E = TypeVar("E", bound=ApprovalEvent)

_OWN_FIELDS = frozenset({"ts", "seq", "about"})
"""Fields of an event that are not those of its approval."""


def approval_event(cls: type[E], approval: Approval, now: datetime, **fields: Any) -> E:
    """An event about the approval: a field that has the approval's name has its value, unless it is
    given."""
    shared = {
        name: getattr(approval, name)
        for name in cls.__struct_fields__
        if name in Approval.__struct_fields__ and name not in _OWN_FIELDS
    }
    return cls(**{**shared, **fields, "ts": now})


def decided_event(
    approval: Approval, decision: Decision, now: datetime, **fields: Any
) -> ApprovalDecided:
    """The event that a person has taken the decision on the approval."""
    return approval_event(
        ApprovalDecided,
        approval,
        now,
        decision=decision_type(decision),
        args=decision.args if isinstance(decision, Edit) else None,
        message=decision.message if isinstance(decision, Reject | Respond) else None,
        **fields,
    )


class Outcome(Struct, frozen=True, kw_only=True):
    """The result of decisions: the approvals as they are then, and the ids that are still pending;
    or, with neither, of a request that started a run, or told something to the `reached` readers.

    When none is left, `run_id` is the run that goes on and `status` its status; until then the
    status is `interrupted`. `first_seq` is a number that no event of the decisions is below, and
    `events` how many of the thread's events report them.
    """

    thread_id: str
    approvals: tuple[Approval, ...] = ()
    pending: tuple[str, ...] = ()
    status: str
    run_id: str | None = None
    first_seq: int = 0
    events: int = 0
    reached: int = 0

    def starting_at(self, first_seq: int) -> Outcome:
        return replace(self, first_seq=first_seq)

    def resumed_by(self, run_id: str, status: str) -> Outcome:
        """The outcome with the run that goes on, whose first event belongs to it."""
        return replace(self, run_id=run_id, status=status, events=self.events + 1)


# ── matching decisions with approvals ─────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision on an approval. `digest` is of what the person was shown, if they say so."""

    approval: Approval
    decision: Decision
    digest: str | None = None


def match_decisions(
    pending: Sequence[Approval],
    decisions: Decision | Mapping[str, Decision],
    *,
    for_all: bool = False,
    digests: Mapping[str, str] | None = None,
) -> list[Choice]:
    """The decisions, each with its approval.

    Keys are approval ids or tool call ids; a bare decision is for the only approval, or for all of
    them with `for_all`. `digests` has the same keys, and "" for a bare decision.

    Raises `NothingPending`, `NotFound` for a key that nothing pending has (`details["key"]`), and
    `InvalidDecision` for an ambiguous answer.
    """
    digests = digests or {}
    if isinstance(decisions, Mapping):
        return _match_by_id(pending, decisions, digests)
    if not pending:
        raise NothingPending("Nothing waits for a decision on this thread.")
    if len(pending) > 1 and not for_all:
        raise InvalidDecision(
            f"{len(pending)} approvals are pending. Say which decision is for which, by their ids.",
            approvals=[approval.approval_id for approval in pending],
        )
    return [Choice(approval, decisions, _digest(digests, approval)) for approval in pending]


def _match_by_id(
    pending: Sequence[Approval], decisions: Mapping[str, Decision], digests: Mapping[str, str]
) -> list[Choice]:
    if not decisions:
        raise InvalidDecision("No decision was given.")
    by_id: dict[str, Approval] = {}
    for approval in reversed(pending):
        by_id[approval.tool_call_id] = approval
    by_id.pop("", None)
    by_id.update({approval.approval_id: approval for approval in pending})

    choices: dict[str, Choice] = {}
    for key, decision in decisions.items():
        if key not in by_id:
            raise not_pending(pending, key)
        approval = by_id[key]
        id = approval.approval_id
        if id in choices:
            raise InvalidDecision(
                f"The approval {id} is decided twice, by its own id and by its tool call's."
            )
        choices[id] = Choice(approval, decision, _digest(digests, approval))
    return list(choices.values())


def not_pending(pending: Sequence[Approval], key: str) -> NotFound:
    """The error for an id that no pending approval has."""
    known = ", ".join(approval.approval_id for approval in pending) or "none"
    return NotFound(f"No pending approval has the id '{key}'. Pending: {known}.", key=key)


def _digest(digests: Mapping[str, str], approval: Approval) -> str | None:
    for key in (approval.approval_id, approval.tool_call_id, ""):
        if key in digests:
            return digests[key]
    return None
