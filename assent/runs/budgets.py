"""What runs may use, as values: limits and prices as they are written down, and what follows from
them for what has been used. Pure.

    rules = rules_from_json({"run": {"total_tokens": 100_000}})
    limits = limits_for(rules, agent="clerk", requested={"model_calls": 5}, now=now)

A budget is a *scope* (one run with whatever goes on from its pauses, a thread, all runs of an
agent) and a *name*, of `NAMES`. It is reached when what was used is as much as its amount.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from assent.core.decisions import Approve, Decision, Edit, decision_from_json
from assent.core.digest import approval_id_for, call_digest
from assent.core.errors import ConfigurationError, InvalidDecision, InvalidRequest
from assent.core.rows import Approval, ApprovalKind, ApprovalStatus
from assent.graph.interrupts.resume import PendingApproval

WARN_AT = 0.8
"""The part of a budget whose use is worth a warning."""

NAMES = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "model_calls",
    "tool_calls",
    "seconds",
    "cost",
)
"""What can be limited. `cost` is in whatever money the prices are in."""

OF_TOKENS = frozenset({"input_tokens", "output_tokens", "total_tokens", "cost"})
"""What is known only if a model says how many tokens it used."""

Scope: TypeAlias = Literal["run", "thread", "agent"]
OnExceeded: TypeAlias = Literal["error", "pause"]
Amount = Annotated[float, msgspec.Meta(gt=0)]

PERIODS = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
}


# ── as they are written down ──────────────────────────────────────────────────────────────────────


class Amounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be used, each without bound if it is not given; and what is done when one is
    reached."""

    input_tokens: Amount | None = None
    output_tokens: Amount | None = None
    total_tokens: Amount | None = None
    model_calls: Amount | None = None
    tool_calls: Amount | None = None
    seconds: Amount | None = None
    cost: Amount | None = None
    on_exceeded: OnExceeded | None = None

    def amounts(self) -> dict[str, float]:
        """Those that are given, by name."""
        return {name: value for name in NAMES if (value := getattr(self, name)) is not None}


class Windowed(Amounts, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same, of the runs that were created within the last hour, day, week or 30 days; without
    `per`, of all there ever were."""

    per: Literal["hour", "day", "week", "month"] | None = None


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a million tokens cost."""

    input: Annotated[float, msgspec.Meta(ge=0)]
    output: Annotated[float, msgspec.Meta(ge=0)]


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The budgets of a server. `run` is each run's, `thread` each thread's, `agent` each agent's
    unless `agents` names it; `prices` are by the model's name, with "*" for every other."""

    on_exceeded: OnExceeded = "error"
    run: Amounts = Amounts()
    thread: Windowed = Windowed()
    agent: Windowed = Windowed()
    agents: dict[str, Windowed] = {}
    prices: dict[str, Price] = {}

    def cost(self, model: str, input_tokens: float, output_tokens: float) -> float | None:
        """What these tokens cost; None if the model has no price."""
        price = self.prices.get(model) or self.prices.get("*")
        return (
            None
            if price is None
            else (input_tokens * price.input + output_tokens * price.output) / 1_000_000
        )


def rules_from_json(said: Any) -> Rules:
    """The budgets as a configuration has them. Raises `ConfigurationError`, which says what is
    wrong."""
    try:
        return msgspec.convert(said, Rules)
    except msgspec.ValidationError as error:
        # msgspec says where, from the part's own root.
        raise ConfigurationError(
            f"{str(error).replace('`$', '`budgets')}. It may have: {', '.join(Rules.__struct_fields__)}."
        ) from error


def check_agents(rules: Rules, agents: Iterable[str]) -> None:
    """Raise `ConfigurationError` for the budget of an agent that there is not: one of a misspelt
    name would hold nobody."""
    known = list(agents)
    if unknown := next((name for name in rules.agents if name not in known), None):
        raise ConfigurationError(
            f"There is a budget for the agent '{unknown}', and no such agent. There are: {', '.join(known)}."
        )


def requested_amounts(requested: Mapping[str, Any]) -> Amounts:
    """What a request says that its run may use. Raises `InvalidRequest`."""
    try:
        return msgspec.convert(dict(requested), Amounts)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"The budget of this run is not right: {error}. It may have: {', '.join(NAMES)}, on_exceeded."
        ) from error


# ── limits ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One budget of a run. `amount` may be used, and `step` is what was written down, which one
    approval adds. `before` was used by others before the run began, `per` names the window and
    `since` is its beginning."""

    scope: Scope
    name: str
    amount: float
    step: float
    on_exceeded: OnExceeded
    before: float = 0
    per: str | None = None
    since: datetime | None = None

    @property
    def key(self) -> str:
        """Its name among the run's limits."""
        return f"{self.scope}.{self.name}"

    def reached(self, used: float) -> bool:
        """Whether nothing is left. What money adds up to is not exact, so a billionth is
        nothing."""
        return used >= self.amount * (1 - 1e-9)

    def nearly(self, used: float) -> bool:
        """Whether most of it is used."""
        return used >= self.amount * WARN_AT * (1 - 1e-9)


def limits_for(
    rules: Rules, *, agent: str, requested: Mapping[str, Any], now: datetime
) -> tuple[Limit, ...]:
    """The limits of a run: of what its request and the rules say of runs, the lower one; and the
    thread's and the agent's."""
    asked = _limits("run", requested_amounts(requested), rules, now)
    own = {limit.name: limit for limit in _limits("run", rules.run, rules, now)}
    for limit in asked:
        if limit.name not in own or limit.amount < own[limit.name].amount:
            own[limit.name] = limit
    agents = rules.agents.get(agent, rules.agent)
    return (
        *own.values(),
        *_limits("thread", rules.thread, rules, now),
        *_limits("agent", agents, rules, now),
    )


def _limits(scope: Scope, amounts: Amounts, rules: Rules, now: datetime) -> list[Limit]:
    per = amounts.per if isinstance(amounts, Windowed) else None
    since = now - PERIODS[per] if per else None
    then = amounts.on_exceeded or rules.on_exceeded
    return [
        Limit(
            scope=scope,
            name=name,
            amount=amount,
            step=amount,
            on_exceeded=then,
            per=per,
            since=since,
        )
        for name, amount in amounts.amounts().items()
    ]


def raised(limits: Iterable[Limit], granted: Mapping[str, float]) -> tuple[Limit, ...]:
    """The limits with what persons granted, by key. A grant never lowers one."""
    return tuple(
        replace(limit, amount=max(limit.amount, granted.get(limit.key, 0))) for limit in limits
    )


# ── asking for more ───────────────────────────────────────────────────────────────────────────────


def question(
    limit: Limit, used: float, *, thread_id: str, run_id: str, checkpoint_id: str
) -> PendingApproval:
    """May more be used? `args` are what an approval sets: the limit is then what was used and as
    much again as was written down."""
    args = {"scope": limit.scope, "budget": limit.name, "limit": number(used + limit.step)}
    digest = call_digest("budget", args)
    return PendingApproval(
        approval_id=approval_id_for(
            {"thread": thread_id, "pause": run_id, "budget": limit.key, "digest": digest}
        ),
        kind=ApprovalKind.BUDGET,
        args=args,
        preview={
            "used": number(used),
            "limit": number(limit.amount),
            **({"per": limit.per} if limit.per else {}),
        },
        digest=digest,
        allowed=("approve", "edit", "reject"),
        checkpoint_id=checkpoint_id,
    )


def check_grant(approval: Approval, decision: Decision) -> None:
    """Raise `InvalidDecision` if an edit is no limit with which the run could go on."""
    if not isinstance(decision, Edit):
        return
    others = {name: value for name, value in decision.args.items() if name != "limit"}
    limit, used = decision.args.get("limit"), approval.preview["used"]
    if (
        any(approval.args.get(name) != value for name, value in others.items())
        or not _is_number(limit)
        or limit <= used
    ):
        raise InvalidDecision(
            f"A budget takes a new limit above the {used} that are used, and nothing else: "
            f'{{"type": "edit", "args": {{"limit": {approval.args["limit"]}}}}}.'
        )


def grants(approvals: Iterable[Approval]) -> dict[str, float]:
    """The limits that these approvals set, by key; of several for one, the highest."""
    granted: dict[str, float] = {}
    for approval in approvals:
        if approval.kind is ApprovalKind.BUDGET and approval.decision is not None:
            key = f"{approval.args['scope']}.{approval.args['budget']}"
            granted[key] = max(granted.get(key, 0), _granted(approval))
    return granted


def _granted(approval: Approval) -> float:
    decision = decision_from_json(approval.decision or {})
    if isinstance(decision, Edit):
        return float(decision.args["limit"])
    return float(approval.args["limit"]) if isinstance(decision, Approve) else 0.0


def refused(approvals: Iterable[Approval]) -> Approval | None:
    """The approval in which a person said that no more may be used."""
    return next(
        (
            each
            for each in approvals
            if each.kind is ApprovalKind.BUDGET and each.status is ApprovalStatus.REJECTED
        ),
        None,
    )


# ── words ─────────────────────────────────────────────────────────────────────────────────────────

HOLDERS = {"run": "This run", "thread": "This thread", "agent": "This agent"}


def sentence(limit: Limit, used: float) -> str:
    """What is said of a run that ended because of this limit."""
    within = f" within the last {limit.per}" if limit.per else ""
    return (
        f"{HOLDERS[limit.scope]} has used {number(used)} of the {number(limit.amount)} {limit.name} that it may use{within}. "
        "Ask for less, or give it a larger budget."
    )


def refusal(approval: Approval) -> str:
    """What is said of a run that ended because a person did not grant it more."""
    reason = (approval.decision or {}).get("message")
    return f"{approval.decided_by or 'A person'} granted no more {approval.args['budget']}{f': {reason}' if reason else '.'}"


def number(value: float) -> float:
    """The number as it is shown: a whole one without a fraction."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value == value
        and value != float("inf")
    )
