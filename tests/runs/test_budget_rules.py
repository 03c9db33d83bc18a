"""The budgets of budgets, as values: what limits follow from what is written down, when one is
reached, and what a person may grant."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from assent.config.file import read_configuration
from assent.core.approval import Approval, ApprovalKind, ApprovalStatus
from assent.core.decisions import Approve, Decision, Edit, Reject
from assent.core.errors import ConfigurationError, InvalidDecision, InvalidRequest
from assent.core.events import (
    BudgetExceeded,
    BudgetWarning,
    Event,
    LlmEnd,
    LlmStart,
    NodeEnd,
    RunRecovered,
    RunResumed,
    RunStart,
    ToolStart,
    event_type,
)
from assent.core.events import Usage as Tokens
from assent.core.rows import Run, RunKind, RunStatus
from assent.runs.budgets import (
    NAMES,
    Amounts,
    Budgets,
    Limit,
    Price,
    Windowed,
    budget_question,
    budgets_from_json,
    check_grant,
    granted_limits,
    limit_message,
    limits_for,
    raise_limits,
)
from assent.runs.emitter import RunProgress, UsageCounter
from assent.runs.metering import Meter, Spending

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
RUN = Run(
    run_id="r", thread_id="t", owner="ann", agent="clerk", kind=RunKind.INPUT, status=RunStatus.RUNNING, created_at=NOON, started_at=NOON,
    input={"message": "hi"},
)  # fmt: skip
PRICED = Budgets(prices={"penny": Price(2.0, 10.0), "*": Price(1.0, 1.0)})

amounts = st.floats(min_value=1e-6, max_value=1e12)


def limit(name: str = "model_calls", amount: float = 10, **changes: Any) -> Limit:
    return replace(
        Limit(scope="run", name=name, amount=amount, step=amount, on_exceeded="pause"), **changes
    )


def approval_of(limit: Limit, used: float, decision: Decision | None = None) -> Approval:
    asked = budget_question(limit, used, RUN, "c", NOON)
    statuses = {
        Approve: ApprovalStatus.APPROVED,
        Edit: ApprovalStatus.EDITED,
        Reject: ApprovalStatus.REJECTED,
    }
    status = statuses.get(type(decision), ApprovalStatus.PENDING)
    return structs.replace(asked, status=status, decision=decision)


# ── as they are written down ──────────────────────────────────────────────────────────────────────

TOML = """
on_exceeded = "pause"
[run]
total_tokens = 50_000
on_exceeded = "error"
[thread]
cost = 2.5
per = "day"
[agents.clerk]
model_calls = 100
[prices."penny"]
input = 2
output = 10
"""


def test_what_is_written_down_is_read() -> None:
    budgets = budgets_from_json(tomllib.loads(TOML))
    assert budgets.run == Amounts(total_tokens=50_000, on_exceeded="error")
    assert budgets.agents == {"clerk": Windowed(model_calls=100)}
    assert budgets_from_json(msgspec.to_builtins(budgets)) == budgets


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[run]\ntokens = 5", "unknown field `tokens` - at `budgets.run`"),
        ("[run]\ncost = 0", "at `budgets.run.cost`"),
        ("[run]\ncost = 'much'", "at `budgets.run.cost`"),
        ("[run]\nper = 'day'", "unknown field `per`"),
        ("[thread]\nper = 'year'", "at `budgets.thread.per`"),
        ("on_exceeded = 'ask'", "at `budgets.on_exceeded`"),
        ("[prices.penny]\ninput = 1", "missing required field `output`"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        budgets_from_json(tomllib.loads(text))
    assert said in raised.value.message
    assert raised.value.message.endswith(".")


def test_the_file_in_the_documentation_is_right(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "set-budgets.md"
    file = tmp_path / "assent.toml"
    file.write_text(page.read_text().partition("```toml\n")[2].partition("```")[0])
    budgets = read_configuration(file, {}).budgets
    assert (budgets.agents["clerk"].cost, budgets.prices["*"], budgets.run.on_exceeded) == (
        200,
        Price(10, 40),
        "error",
    )


# ── limits ────────────────────────────────────────────────────────────────────────────────────────


@given(
    of_all=st.dictionaries(st.sampled_from(NAMES), amounts),
    requested=st.dictionaries(st.sampled_from(NAMES), amounts),
)
def test_a_request_only_ever_lowers_what_a_run_may_use(
    of_all: dict[str, float], requested: dict[str, float]
) -> None:
    limits = {
        each.name: each.amount
        for each in limits_for(
            Budgets(run=Amounts(**of_all)), agent="clerk", requested=requested, now=NOON
        )
    }
    assert limits == {
        name: min(each[name] for each in (of_all, requested) if name in each)
        for name in {*of_all, *requested}
    }


def test_a_request_for_what_there_is_not_is_refused() -> None:
    with pytest.raises(
        InvalidRequest, match=r"unknown field `tokens`.*It may have: input_tokens, "
    ):
        limits_for(Budgets(), agent="clerk", requested={"tokens": 5}, now=NOON)


def test_each_scope_has_its_own_limits_and_says_what_is_done_at_them() -> None:
    budgets = Budgets(
        on_exceeded="pause",
        run=Amounts(seconds=60, on_exceeded="error"),
        thread=Windowed(cost=2, per="day"),
        agent=Windowed(cost=20),
        agents={"clerk": Windowed(model_calls=100, per="hour")},
    )
    clerk = limits_for(
        budgets, agent="clerk", requested={"tool_calls": 3, "on_exceeded": "error"}, now=NOON
    )
    assert [(each.key, each.amount, each.on_exceeded, each.since) for each in clerk] == [
        ("run.seconds", 60, "error", None),
        ("run.tool_calls", 3, "error", None),
        ("thread.cost", 2, "pause", NOON - timedelta(days=1)),
        ("agent.model_calls", 100, "pause", NOON - timedelta(hours=1)),
    ]
    assert [each.key for each in limits_for(budgets, agent="other", requested={}, now=NOON)] == [
        "run.seconds",
        "thread.cost",
        "agent.cost",
    ]


@given(amount=amounts, share=st.floats(min_value=0, max_value=2))
def test_what_is_reached_was_near_before(amount: float, share: float) -> None:
    one = limit(amount=amount)
    used = amount * share
    assert not one.reached(used) or one.nearly(used)
    assert one.reached(used) == (share >= 1) or abs(share - 1) < 1e-8
    assert one.nearly(used) == (share >= 0.8) or abs(share - 0.8) < 1e-8


def test_money_that_adds_up_to_its_budget_has_reached_it() -> None:
    assert limit("cost", 0.3).reached(0.1 + 0.1 + 0.1 - 1e-17)
    assert sum([0.1] * 10) < 1
    assert limit("cost", 1.0).reached(sum([0.1] * 10))


# ── asking for more ───────────────────────────────────────────────────────────────────────────────


@given(amount=amounts, share=st.floats(min_value=1, max_value=5))
def test_with_what_an_approval_grants_the_run_can_go_on(amount: float, share: float) -> None:
    one, used = limit("cost", amount), amount * share
    (more,) = raise_limits([one], granted_limits([approval_of(one, used, Approve())]))
    assert not more.reached(used) or amount < 1e-5
    assert more.amount == pytest.approx(used + amount, abs=1e-6)


@given(limits=st.lists(amounts, min_size=1, max_size=4))
def test_no_grant_lowers_a_limit(limits: list[float]) -> None:
    one = limit(amount=10)
    decided = [approval_of(one, 10, Edit({"limit": amount})) for amount in limits]
    assert raise_limits([one], granted_limits(decided))[0].amount == max(10, *limits)
    assert raise_limits([one], granted_limits([approval_of(one, 10, Reject())]))[0].amount == 10
    assert raise_limits([limit("cost", 1)], granted_limits(decided))[0].amount == 1


def test_the_question_shows_what_an_approval_sets() -> None:
    asked = budget_question(limit("total_tokens", 100, per="day"), 120, RUN, "c", NOON)
    assert asked.kind is ApprovalKind.BUDGET
    assert asked.args == {"scope": "run", "budget": "total_tokens", "limit": 220}
    assert asked.preview == {"used": 120, "limit": 100, "per": "day"}
    again = budget_question(limit("total_tokens", 100, per="day"), 120, RUN, "c", NOON)
    later = budget_question(
        limit("total_tokens", 100, per="day"), 120, replace(RUN, run_id="r2"), "c", NOON
    )
    assert again.approval_id == asked.approval_id != later.approval_id


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"limit": 12},
        {"limit": 11},
        {"limit": "20"},
        {"limit": True},
        {"limit": None},
        {"limit": 20, "budget": "cost"},
        {"max": 20},
    ],
)
def test_an_edit_that_is_no_higher_limit_is_refused(args: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidDecision, match="above the 12 that are used"):
        check_grant(approval_of(limit(), 12), Edit(dict(args)))


def test_an_edit_may_come_with_what_was_shown() -> None:
    asked = approval_of(limit(), 12)
    check_grant(asked, Edit({**asked.args, "limit": 12.5}))
    check_grant(asked, Edit({"limit": 13}))
    check_grant(asked, Approve())
    check_grant(asked, Reject())


def test_what_is_said_at_the_end_names_the_budget() -> None:
    assert limit_message(limit("cost", 2.5, scope="thread", per="day"), 3).startswith(
        "This thread has used 3 of the 2.5 cost that it may use within the last day. "
    )


# ── counting ──────────────────────────────────────────────────────────────────────────────────────


COUNTED = Tokens(10, 5, 15)


def llm(model: str, tokens: Tokens | None = COUNTED, ts: datetime = NOON) -> LlmEnd:
    return LlmEnd(message_id="m", model=model, usage=tokens, ts=ts)


def test_what_models_cost_is_counted_by_their_prices() -> None:
    usage = UsageCounter({"cost": 1.0}, PRICED)
    for model in ("penny", "another"):
        usage.add(llm(model, Tokens(1_000_000, 100_000, 1_100_000)))
    assert usage.numbers["cost"] == pytest.approx(1.0 + 3.0 + 1.1)
    unpriced = UsageCounter({}, Budgets())
    unpriced.add(llm("penny"))
    assert unpriced.numbers == {
        "model_calls": 1,
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
    }


def test_events_say_what_a_model_costs_that_has_a_price() -> None:
    priced = UsageCounter({}, budgets_from_json({"prices": {"penny": {"input": 4, "output": 10}}}))
    ended = priced.priced(llm("penny", Tokens(500_000, 100_000, 600_000)))
    assert isinstance(ended, LlmEnd) and ended.cost == pytest.approx(3.0)
    started = LlmStart(message_id="m", model="penny", input_characters=2_000_001)
    shown = priced.priced(started)
    assert isinstance(shown, LlmStart) and shown.estimated_cost == pytest.approx(4 * 0.500001)
    untold = structs.replace(started, input_characters=0)
    for event in (llm("another"), llm("penny", None), structs.replace(started, model="x"), untold):
        assert priced.priced(event) == event


def test_cached_input_has_a_price_of_its_own() -> None:
    million = 1_000_000
    tokens = Tokens(
        input_tokens=10 * million,
        output_tokens=million,
        total_tokens=11 * million,
        cache_read_tokens=6 * million,
        cache_write_tokens=million,
        reasoning_tokens=million,
    )
    written = """
        [budgets.prices.cached]
        input = 2
        output = 10
        cache_read = 0.2
        cache_write = 2.5
        [budgets.prices."*"]
        input = 2
        output = 10
    """
    budgets = budgets_from_json(tomllib.loads(written)["budgets"])
    usage = UsageCounter({}, budgets)
    usage.add(llm("cached", tokens))
    assert usage.numbers["cost"] == pytest.approx(3 * 2 + 6 * 0.2 + 2.5 + 10)
    assert usage.numbers["cache_read_tokens"] == 6 * million
    assert usage.numbers["reasoning_tokens"] == million
    assert budgets.cost("another", tokens) == pytest.approx(10 * 2 + 10)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_after_a_crash_the_log_tells_what_was_used_and_what_was_told() -> None:
    progress = RunProgress(PRICED, began=at(0))
    told = {"scope": "run", "budget": "model_calls", "used": 1, "limit": 1}
    events: list[Event] = [
        RunStart(ts=at(0), agent="clerk"),
        llm("penny", ts=at(1)),
        BudgetWarning(ts=at(2), **told),  # type: ignore[arg-type]
        ToolStart(ts=at(3), tool="look"),
        RunRecovered(ts=at(100), attempt=2),
        NodeEnd(ts=at(101.5)),
        BudgetExceeded(ts=at(101.5), **told),  # type: ignore[arg-type]
    ]
    for event in events:
        progress.add(event)
    assert progress.usage["seconds"] == 4.5
    assert progress.usage["model_calls"] == progress.usage["tool_calls"] == 1
    assert progress.usage["cost"] == pytest.approx(70 / 1e6)
    assert progress.reported == {
        ("run.model_calls", "budget_warning"),
        ("run.model_calls", "budget_exceeded"),
    }


@pytest.mark.parametrize("decided", [0, 3600])
def test_the_time_in_which_decided_runs_waited_for_their_turn_does_not_count(decided: int) -> None:
    """Also if the clock was put back meanwhile."""
    progress = RunProgress(Budgets(), began=at(50))
    for event in (RunResumed(ts=at(decided), agent="clerk"), NodeEnd(ts=at(52))):
        progress.add(event)
    assert progress.usage["seconds"] == 2


def test_a_clock_that_was_put_back_before_a_recovery_hides_no_time() -> None:
    progress = RunProgress(Budgets(), began=at(3600))
    for event in (
        RunStart(ts=at(3600), agent="clerk"),
        NodeEnd(ts=at(3601)),
        RunRecovered(ts=at(10), attempt=2),
    ):
        progress.add(event)
    progress.add(NodeEnd(ts=at(12)))
    assert progress.usage["seconds"] == 3


# ── metering ──────────────────────────────────────────────────────────────────────────────────────


def metered(usage: UsageCounter, *limits: Limit, **options: Any) -> tuple[Meter, list[str]]:
    stops: list[str] = []
    meter = Meter(
        RUN,
        limits,
        usage.numbers,
        budgets=PRICED,
        now=lambda: NOON,
        stop=lambda: stops.append("stop"),
        **options,
    )
    return meter, stops


async def test_each_thing_is_told_once_and_at_the_limit_the_run_is_asked_to_stop() -> None:
    usage = UsageCounter({}, PRICED)
    meter, stops = metered(
        usage,
        limit("model_calls", 5),
        limit("total_tokens", 1000),
        reported=[("run.total_tokens", "budget_warning")],
    )
    told: list[list[str]] = []
    for _ in range(6):
        usage.add(llm("penny"))
        told.append([event_type(event) for event in meter.new_events()])
    assert told == [[], [], [], ["budget_warning"], ["budget_exceeded"], []]
    assert stops == ["stop", "stop"]


async def test_of_what_is_about_to_begin_no_more_is_admitted_than_is_left() -> None:
    usage = UsageCounter({"tool_calls": 1}, PRICED)
    meter, stops = metered(usage, limit("tool_calls", 3), admits_tools=True)
    assert [meter.admit(task) for task in ("a", "b", "c", "a")] == [True, True, False, True]
    # A crash may have taken the events of their start, and one that only asks what became of it has
    # no other.
    assert [limit.name for limit in meter.reached()] == ["tool_calls"]
    for task in ("a", "b"):
        usage.add(ToolStart(tool="look", task_id=task))
        meter.observe(ToolStart(tool="look", task_id=task))
    assert not meter.admit("c")
    assert [event_type(event) for event in meter.new_events()] == [
        "budget_warning",
        "budget_exceeded",
    ]
    # The model may still say what came of it.
    assert stops == []
    assert meter.reached(tools=False) == []


@pytest.mark.parametrize("name", ["cost", "total_tokens", "model_calls"])
async def test_what_cannot_be_known_is_an_error_only_where_it_is_limited(name: str) -> None:
    meter = Meter(RUN, [limit(name)], {}, budgets=Budgets(), now=lambda: NOON)
    if name == "cost":
        with pytest.raises(
            ConfigurationError,
            match=r"no price for the model 'penny'.*\[budgets\.prices\.\"penny\"\]",
        ):
            meter.observe(LlmStart(message_id="m", model="penny"))
    else:
        meter.observe(LlmStart(message_id="m", model="penny"))
    if name != "model_calls":
        with pytest.raises(ConfigurationError, match="did not say how many tokens"):
            meter.observe(llm("penny", None))
    else:
        meter.observe(llm("penny", None))


async def test_a_model_that_says_who_it_is_only_at_its_end_has_its_price_looked_up_then() -> None:
    meter = Meter(
        RUN,
        [limit("cost")],
        {},
        budgets=Budgets(prices={"penny": Price(2.0, 10.0)}),
        now=lambda: NOON,
    )
    meter.observe(LlmStart(message_id="m"))
    meter.observe(llm("penny"))
    with pytest.raises(ConfigurationError, match="no price for the model 'another'"):
        meter.observe(llm("another"))


async def test_runs_of_one_agent_know_what_the_others_have_used_since_they_began() -> None:
    spending = Spending()
    first, second, third = {"model_calls": 3.0}, {}, {}  # type: dict[str, float], dict[str, float], dict[str, float]
    with spending.by_others(RUN, first) as seen_by_first:
        first["model_calls"] = 5
        with spending.by_others(replace(RUN, run_id="r2"), second) as seen_by_second:
            # Three were in the first one's row when it began, so they are in the sum over the rows.
            assert (seen_by_first("model_calls"), seen_by_second("model_calls")) == (0, 2)
            second["model_calls"] = 4
        assert seen_by_first("model_calls") == 4
        with spending.by_others(replace(RUN, run_id="r3"), third) as seen_by_third:
            # The second has ended, and has a row by now.
            assert seen_by_third("model_calls") == 2
        with spending.by_others(replace(RUN, run_id="r4", agent="other"), {}) as seen_by_another:
            assert seen_by_another("model_calls") == 0


async def test_time_is_measured_on_top_of_what_earlier_attempts_used() -> None:
    meter = Meter(
        RUN, [limit("seconds", 10)], {"seconds": 7.0}, budgets=Budgets(), now=lambda: NOON
    )
    await asyncio.sleep(0.05)
    assert 7.05 <= meter.usage["seconds"] < 8
    assert meter.seconds_left() == pytest.approx(2.9, abs=0.1)
    assert meter.seconds_left(on_exceeded="error") is None
    assert meter.seconds_left(0.5) is None
