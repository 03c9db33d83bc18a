"""Budgets as values: limits and prices as written in a configuration, and what follows from them.

    budgets = budgets_from_json({"run": {"total_tokens": 100_000}})
    limits = limits_for(budgets, agent="clerk", requested={"model_calls": 5}, now=now)

A budget has a *scope* (one run with whatever goes on from its pauses, a thread, or all runs of an
agent) and a *name* (one of `NAMES`). It is reached when the usage is as high as its amount.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from assent.core.approval import Approval, ApprovalKind, ApprovalStatus
from assent.core.decisions import Approve, Decision, Edit, Reject
from assent.core.digest import approval_id_for, call_digest
from assent.core.errors import ConfigurationError, InvalidDecision, InvalidRequest
from assent.core.events import Usage
from assent.core.json import Json, JsonObject
from assent.core.rows import Run

WARN_AT = 0.8
"""The share of a budget whose use is worth a warning."""

TOKEN_NAMES = frozenset({"input_tokens", "output_tokens", "total_tokens", "cost"})
"""The budgets that depend on the model reporting how many tokens it used."""

CHARACTERS_OF_A_TOKEN = 4
"""As models count English. Other languages have fewer."""

Scope: TypeAlias = Literal["run", "thread", "agent"]
OnExceeded: TypeAlias = Literal["error", "pause"]
Amount = Annotated[float, msgspec.Meta(gt=0)]
Rate = Annotated[float, msgspec.Meta(ge=0)]

PERIODS = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
}

HOLDERS = {"run": "This run", "thread": "This thread", "agent": "This agent"}


# ── configuration ─────────────────────────────────────────────────────────────────────────────────


class Amounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The amounts that may be used, each unlimited unless given, and what is done when one is
    reached. `cost` is in the currency of the prices."""

    input_tokens: Amount | None = None
    output_tokens: Amount | None = None
    total_tokens: Amount | None = None
    model_calls: Amount | None = None
    tool_calls: Amount | None = None
    seconds: Amount | None = None
    cost: Amount | None = None
    on_exceeded: OnExceeded | None = None


class Windowed(Amounts, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Amounts for the runs that were created within the last hour, day, week or 30 days; without
    `per`, for all runs there ever were."""

    per: Literal["hour", "day", "week", "month"] | None = None


NAMES = tuple(name for name in Amounts.__struct_fields__ if name != "on_exceeded")


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of a million tokens: of input, of output, and of the input that is read from the
    provider's cache or written to it (as other input, unless given)."""

    input: Rate
    output: Rate
    cache_read: Rate | None = None
    cache_write: Rate | None = None

    def of(self, usage: Usage) -> float:
        """The price of these tokens. Those of reasoning are output."""
        cached = usage.cache_read_tokens + usage.cache_write_tokens
        cache_read = self.input if self.cache_read is None else self.cache_read
        cache_write = self.input if self.cache_write is None else self.cache_write
        total = (
            max(usage.input_tokens - cached, 0) * self.input
            + usage.cache_read_tokens * cache_read
            + usage.cache_write_tokens * cache_write
            + usage.output_tokens * self.output
        )
        return total / 1_000_000


class Budgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The budgets of a server: for each run, each thread, and each agent unless `agents` names it.
    `prices` are by model name, with "*" for every other model."""

    on_exceeded: OnExceeded = "error"
    run: Amounts = Amounts()
    thread: Windowed = Windowed()
    agent: Windowed = Windowed()
    agents: dict[str, Windowed] = {}
    prices: dict[str, Price] = {}

    def price(self, model: str) -> Price | None:
        """The price of the model's tokens, if it has one."""
        return self.prices.get(model) or self.prices.get("*")

    def cost(self, model: str, usage: Usage) -> float | None:
        """The cost of these tokens; None if the model has no price."""
        price = self.price(model)
        return None if price is None else price.of(usage)

    def estimate(self, model: str, characters: int) -> float | None:
        """About what an input of so many characters costs; None if the model has no price."""
        tokens = math.ceil(characters / CHARACTERS_OF_A_TOKEN)
        return self.cost(model, Usage(input_tokens=tokens))


def budgets_from_json(value: Json) -> Budgets:
    """The budgets of a configuration. Raises `ConfigurationError`."""
    try:
        return msgspec.convert(value, Budgets)
    except msgspec.ValidationError as error:
        # msgspec calls the root of the value `$`.
        problem = str(error).replace("`$", "`budgets")
        known = ", ".join(Budgets.__struct_fields__)
        raise ConfigurationError(f"{problem}. It may have: {known}.") from error


def requested_amounts(requested: Mapping[str, Any]) -> Amounts:
    """The amounts that a request sets for its run. Raises `InvalidRequest`."""
    try:
        return msgspec.convert(dict(requested), Amounts)
    except msgspec.ValidationError as error:
        known = ", ".join(NAMES)
        raise InvalidRequest(
            f"The budget of this run is not right: {error}. It may have: {known}, on_exceeded."
        ) from error


# ── limits ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One budget of a run.

    `amount` is what may be used now, and `step` the configured amount, which each approval adds.
    `before` was used before the run began. `per` names the window, which begins at `since`.
    """

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
        """True if nothing is left. Sums of money are not exact, so a billionth counts as
        nothing."""
        return used >= self.amount * (1 - 1e-9)

    def nearly(self, used: float) -> bool:
        """True if the usage is worth a warning."""
        return used >= self.amount * WARN_AT * (1 - 1e-9)


def limits_for(
    budgets: Budgets, *, agent: str, requested: Mapping[str, Any], now: datetime
) -> tuple[Limit, ...]:
    """The limits of a run. Where both the request and the budgets limit the run, the lower one
    holds."""
    of_run = {limit.name: limit for limit in _limits("run", budgets.run, budgets, now)}
    for limit in _limits("run", requested_amounts(requested), budgets, now):
        if limit.name not in of_run or limit.amount < of_run[limit.name].amount:
            of_run[limit.name] = limit
    return (
        *of_run.values(),
        *_limits("thread", budgets.thread, budgets, now),
        *_limits("agent", budgets.agents.get(agent, budgets.agent), budgets, now),
    )


def _limits(scope: Scope, amounts: Amounts, budgets: Budgets, now: datetime) -> list[Limit]:
    per = amounts.per if isinstance(amounts, Windowed) else None
    limits = []
    for name in NAMES:
        amount = getattr(amounts, name)
        if amount is not None:
            limit = Limit(
                scope=scope,
                name=name,
                amount=amount,
                step=amount,
                on_exceeded=amounts.on_exceeded or budgets.on_exceeded,
                per=per,
                since=now - PERIODS[per] if per else None,
            )
            limits.append(limit)
    return limits


def raise_limits(limits: Iterable[Limit], granted: Mapping[str, float]) -> tuple[Limit, ...]:
    """The limits, with the amounts that people granted, by key. A grant never lowers a limit."""
    return tuple(
        replace(limit, amount=max(limit.amount, granted.get(limit.key, 0))) for limit in limits
    )


# ── asking for more ───────────────────────────────────────────────────────────────────────────────


def budget_question(
    limit: Limit, used: float, run: Run, checkpoint_id: str, now: datetime
) -> Approval:
    """The approval that asks for a larger budget. `args` are what an approval sets: the limit is
    then what was used and as much again as was written down."""
    args = {"scope": limit.scope, "budget": limit.name, "limit": rounded(used + limit.step)}
    digest = call_digest("budget", args)
    preview: JsonObject = {"used": rounded(used), "limit": rounded(limit.amount)}
    if limit.per:
        preview["per"] = limit.per
    parts = {"thread": run.thread_id, "pause": run.run_id, "budget": limit.key, "digest": digest}
    return Approval(
        approval_id=approval_id_for(parts),
        thread_id=run.thread_id,
        run_id=run.run_id,
        kind=ApprovalKind.BUDGET,
        args=args,
        preview=preview,
        digest=digest,
        allowed=("approve", "edit", "reject"),
        requested_at=now,
        checkpoint_id=checkpoint_id,
    )


def check_grant(approval: Approval, decision: Decision) -> None:
    """Raise `InvalidDecision` if the decision is an edit that sets no limit above the usage."""
    if not isinstance(decision, Edit):
        return
    limit, used = decision.args.get("limit"), approval.preview["used"]
    is_number = (
        isinstance(limit, int | float) and not isinstance(limit, bool) and math.isfinite(limit)
    )
    changes_rest = any(
        name != "limit" and value != approval.args.get(name)
        for name, value in decision.args.items()
    )
    if changes_rest or not is_number or limit <= used:
        raise InvalidDecision(
            f"A budget takes a new limit above the {used} that are used, and nothing else: "
            f'{{"type": "edit", "args": {{"limit": {approval.args["limit"]}}}}}.'
        )


def granted_limits(approvals: Iterable[Approval]) -> dict[str, float]:
    """The limits that these approvals set, by key; if several set one, the highest."""
    granted: dict[str, float] = {}
    for approval in approvals:
        if approval.kind is ApprovalKind.BUDGET and approval.decision is not None:
            key = f"{approval.args['scope']}.{approval.args['budget']}"
            granted[key] = max(granted.get(key, 0), _granted(approval))
    return granted


def _granted(approval: Approval) -> float:
    decision = approval.decision
    if isinstance(decision, Edit):
        return float(decision.args["limit"])
    return float(approval.args["limit"]) if isinstance(decision, Approve) else 0.0


def refused_budget(approvals: Iterable[Approval]) -> Approval | None:
    """The first approval in which a person refused a larger budget."""
    for approval in approvals:
        if approval.kind is ApprovalKind.BUDGET and approval.status is ApprovalStatus.REJECTED:
            return approval
    return None


# ── messages ──────────────────────────────────────────────────────────────────────────────────────


def limit_message(limit: Limit, used: float) -> str:
    """The error of a run that ended because of this limit."""
    within = f" within the last {limit.per}" if limit.per else ""
    return (
        f"{HOLDERS[limit.scope]} has used {rounded(used)} of the {rounded(limit.amount)} "
        f"{limit.name} that it may use{within}. Ask for less, or give it a larger budget."
    )


def refusal_message(approval: Approval) -> str:
    """The error of a run that ended because a person refused it a larger budget."""
    reason = approval.decision.message if isinstance(approval.decision, Reject) else ""
    said = f"{approval.decided_by or 'A person'} granted no more {approval.args['budget']}"
    return f"{said}: {reason}" if reason else f"{said}."


def rounded(value: float) -> float:
    """The number for display: to six places, and whole numbers without a fraction."""
    number = round(value, 6)
    return int(number) if number == int(number) else number
