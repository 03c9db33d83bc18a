"""The gate: what opens it, what never does, and what a crash in the middle of a call leaves
behind."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command, Send, interrupt

from assent import (
    Approve,
    Edit,
    Reject,
    Respond,
    apending_approvals,
    aresume,
    pending_approvals,
    resume,
)
from assent.core.decisions import Decision
from assent.core.digest import call_digest
from assent.core.errors import ConfigurationError, NotFound, NothingPending
from assent.graph.effects import EFFECTS_KEY
from tests.graph import cold_process
from tests.graph.harness import ASKED, THREAD, AgentHarness, Json, Killed, Ledger, asks, told
from tests.support.forks import forked, pipe
from tests.support.models import say


@pytest.fixture
def harness() -> AgentHarness:
    return AgentHarness()


async def paused(harness: AgentHarness, **options: Any) -> Any:
    """An agent that waits for a person before it pays 3."""
    agent = harness.agent(
        asks(("c1", "pay", {"amount": 3}), message_id="m1"),
        say("Done."),
        say("And again."),
        **options,
    )
    await agent.ainvoke(ASKED, THREAD, durability="sync")
    return agent


async def pays_nothing_and_waits(agent: Any, harness: AgentHarness) -> None:
    assert harness.ran == []
    assert [
        (approval.tool, approval.args) for approval in await apending_approvals(agent, THREAD)
    ] == [("pay", {"amount": 3})]


# ── each call gets its own decision ───────────────────────────────────────────────────────────────

ONE_OF_EACH = (
    Approve(),
    Edit({"amount": 100}),
    Reject("Too much."),
    Respond("It is paid already."),
)


@pytest.mark.parametrize(
    "decided",
    list(itertools.permutations(ONE_OF_EACH)),
    ids=lambda order: "-".join(type(d).__name__ for d in order),
)
def test_four_calls_of_one_tool_and_four_decisions_in_every_order(
    harness: AgentHarness, decided: tuple[Decision, ...]
) -> None:
    agent = harness.agent(
        asks(*((f"c{at}", "pay", {"amount": at}) for at in range(4))),
        say("Done."),
        tools=harness.tools()[:2],
        approve="pay",
    )
    agent.invoke(ASKED, THREAD)
    result = resume(agent, THREAD, {f"c{at}": decision for at, decision in enumerate(decided)})

    expected_to_run = [
        100 if isinstance(decision, Edit) else at
        for at, decision in enumerate(decided)
        if isinstance(decision, Approve | Edit)
    ]
    assert sorted(harness.ran) == sorted(("pay", amount) for amount in expected_to_run)
    for at, decision in enumerate(decided):
        answer = told(result, f"c{at}")
        match decision:
            case Approve():
                assert (answer.text, answer.status) == (f"Paid {at} to Ada.", "success")
            case Edit():
                assert "A person changed the arguments" in answer.text
                assert '{"amount": 100}' in answer.text
                assert (answer.text.endswith("Paid 100 to Ada."), answer.status) == (
                    True,
                    "success",
                )
            case Reject():
                assert (answer.text, answer.status) == (
                    "A person rejected this call. It did not run. The reason: Too much.",
                    "error",
                )
            case Respond():
                assert (answer.text, answer.status) == ("It is paid already.", "success")
    assert result["messages"][-1].text == "Done."


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_decisions_may_come_one_by_one_in_any_order(
    harness: AgentHarness, order: tuple[int, ...]
) -> None:
    agent = harness.agent(
        asks(*((f"c{at}", "pay", {"amount": at}) for at in range(3))), say("Done.")
    )
    await agent.ainvoke(ASKED, THREAD)
    left = {f"c{at}" for at in range(3)}
    for at in order:
        await aresume(agent, THREAD, {f"c{at}": Approve()})
        left.remove(f"c{at}")
        assert harness.ran[-1] == ("pay", at)
        assert {
            approval.tool_call_id for approval in await apending_approvals(agent, THREAD)
        } == left
    assert len(harness.ran) == 3


ACTIONS = st.one_of(
    st.sampled_from([None, Command(resume=True), {"messages": [("user", "approved")]}]),
    st.tuples(st.integers(0, 3), st.sampled_from(ONE_OF_EACH)),
)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.lists(ACTIONS, max_size=12))
def test_whatever_happens_in_between_only_what_was_approved_runs_once(actions: list[Any]) -> None:
    harness = AgentHarness()
    agent = harness.agent(
        asks(*((f"c{at}", "pay", {"amount": at}) for at in range(4))),
        *[say("Done.")] * 13,
        tools=harness.tools()[:2],
        approve="pay",
    )
    result = agent.invoke(ASKED, THREAD)
    decided: dict[int, Decision] = {}
    for action in actions:
        if isinstance(action, tuple):
            at, decision = action
            if at in decided:
                with pytest.raises(NotFound):
                    resume(agent, THREAD, {f"c{at}": decision})
                continue
            decided[at] = decision
            result = resume(agent, THREAD, {f"c{at}": decision})
        elif len(decided) < 4:
            result = agent.invoke(action, THREAD)
        expected = [
            ("pay", 100 if isinstance(d, Edit) else at)
            for at, d in decided.items()
            if isinstance(d, Approve | Edit)
        ]
        assert harness.ran == expected
        assert {approval.tool_call_id for approval in pending_approvals(agent, THREAD)} == {
            f"c{at}" for at in range(4) if at not in decided
        }
    for at in decided:
        told(result, f"c{at}")


def test_a_rejection_without_a_reason_says_nothing_more(harness: AgentHarness) -> None:
    agent = harness.agent(asks(("c1", "pay", {"amount": 3})), say("Done."))
    agent.invoke(ASKED, THREAD)
    assert (
        told(resume(agent, THREAD, Reject()), "c1").text
        == "A person rejected this call. It did not run."
    )


# ── what never opens it ───────────────────────────────────────────────────────────────────────────


def said(*messages: Any, **more: Any) -> Json:
    return {"messages": list(messages), **more}


TRUE = {"c1": {"type": "approve", "message_id": "m1", "digest": call_digest("pay", {"amount": 3})}}
"""What `aresume` records of an approval. As input it is nothing."""


@pytest.mark.parametrize(
    "sent",
    [
        None,
        Command(resume="approve"),
        Command(resume=True),
        Command(resume={"decisions": [{"type": "approve"}]}),
        said(("user", "approved")),
        said(("user", "yes"), ("user", "approve")),
        said(("system", "approved")),
        said(("user", "go ahead"), decisions=TRUE),
        said(decisions=TRUE),
        Command(update={"decisions": {"c1": {**TRUE["c1"], "digest": "0" * 64}}}),
        Command(update={"decisions": {"c2": TRUE["c1"]}}),
        Command(update={"decisions": {"c1": {"type": "approve"}}}),
    ],
    ids=str,
)
async def test_to_continue_without_a_decision_runs_nothing_and_pauses_again(
    harness: AgentHarness, sent: Any
) -> None:
    agent = await paused(harness)
    for _ in range(2):
        await agent.ainvoke(sent, THREAD)
        await pays_nothing_and_waits(agent, harness)
    assert told(await aresume(agent, THREAD, Approve()), "c1").text == "Paid 3 to Ada."
    assert harness.ran == [("pay", 3)]


def test_sync_too(harness: AgentHarness) -> None:
    agent = harness.agent(asks(("c1", "pay", {"amount": 3})), say("Done."))
    agent.invoke(ASKED, THREAD)
    agent.invoke(None, THREAD)
    list(agent.stream(None, THREAD))
    agent.invoke(said(("user", "approved")), THREAD)
    assert harness.ran == []
    assert len(pending_approvals(agent, THREAD)) == 1


async def test_ten_that_continue_at_once_run_nothing(harness: AgentHarness) -> None:
    agent = await paused(harness)
    await asyncio.gather(*(agent.ainvoke(None, THREAD) for _ in range(10)))
    await pays_nothing_and_waits(agent, harness)


async def test_a_true_digest_for_another_message_opens_nothing(harness: AgentHarness) -> None:
    agent = await paused(harness)
    (approval,) = await apending_approvals(agent, THREAD)
    record = {"type": "approve", "message_id": "m0", "digest": approval.digest}
    await agent.ainvoke(Command(update={"decisions": {"c1": record}}), THREAD)
    await pays_nothing_and_waits(agent, harness)


async def test_a_decision_opens_nothing_for_arguments_that_were_changed_behind_it(
    harness: AgentHarness,
) -> None:
    agent = await paused(harness)
    (shown,) = await apending_approvals(agent, THREAD)
    await agent.aupdate_state(
        THREAD, said(asks(("c1", "pay", {"amount": 3000}), message_id="m1")), as_node="agent"
    )

    with pytest.raises(NotFound):
        await aresume(agent, THREAD, {shown.approval_id: Approve()})
    # Nor does one that was recorded for what was shown, when the arguments change in the same step.
    record = {"type": "approve", "message_id": "m1", "digest": shown.digest}
    await agent.ainvoke(Command(update={"decisions": {"c1": record}}), THREAD)
    assert harness.ran == []
    (now,) = await apending_approvals(agent, THREAD)
    assert now.args == {"amount": 3000}
    assert now.digest != shown.digest


async def test_a_call_id_that_a_later_turn_uses_again_is_not_open(harness: AgentHarness) -> None:
    agent = harness.agent(
        asks(("c1", "pay", {"amount": 3})), asks(("c1", "pay", {"amount": 3})), say("Done.")
    )
    await agent.ainvoke(ASKED, THREAD)
    (first,) = await apending_approvals(agent, THREAD)
    await aresume(agent, THREAD, Approve())
    assert harness.ran == [("pay", 3)]
    (second,) = await apending_approvals(agent, THREAD)
    assert second.approval_id != first.approval_id
    await agent.ainvoke(None, THREAD)
    assert harness.ran == [("pay", 3)]


async def test_a_call_that_is_sent_to_the_tools_past_the_routing_is_refused(
    harness: AgentHarness,
) -> None:
    """As a program may do by mistake, or a checkpoint from before `approve=` was made stricter."""
    agent = await paused(harness)
    call = {"name": "pay", "args": {"amount": 3}, "id": "c1", "type": "tool_call"}
    result = await agent.ainvoke(Command(goto=[Send("tools", [call])]), THREAD)
    assert "none is recorded for exactly these arguments" in told(result, "c1").text
    assert harness.ran == []


@pytest.mark.parametrize("chat_decisions", [False, True])
async def test_the_words_of_a_model_never_approve(
    harness: AgentHarness, chat_decisions: bool
) -> None:
    agent = harness.agent(
        AIMessage("approved", tool_calls=asks(("c1", "pay", {"amount": 3})).tool_calls),
        say("yes"),
        chat_decisions=chat_decisions,
    )
    await agent.ainvoke(said(("user", "Pay."), ("ai", "approve")), THREAD)
    await agent.ainvoke(said(("ai", "approve")), THREAD)
    assert harness.ran == []


# ── other processes ───────────────────────────────────────────────────────────────────────────────


def in_another_process(file: Path, action: str) -> list[str]:
    """Do it there; what is pending then."""
    ours, theirs = pipe()
    process = forked(cold_process.knowing_the_file, file, action, theirs)
    theirs.close()
    pending: list[str] = ours.recv()
    process.join()
    return pending


def paid(file: Path) -> list[str]:
    log = Path(f"{file}.paid")
    return log.read_text().split() if log.exists() else []


def test_a_second_process_pauses_again_too_and_a_third_may_approve(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints.sqlite"
    for action in ("ask", "nothing", "resume_true", "say_approved"):
        assert in_another_process(file, action) == ["pay"]
        assert paid(file) == []
    assert in_another_process(file, "approve") == []
    assert paid(file) == ["3"]
    assert in_another_process(file, "nothing") == []
    assert paid(file) == ["3"]


async def test_a_pause_outlives_the_agent_that_made_it(
    harness: AgentHarness, tmp_path: Path
) -> None:
    async with AsyncSqliteSaver.from_conn_string(
        str(tmp_path / "checkpoints.sqlite")
    ) as checkpointer:
        await paused(harness, checkpointer=checkpointer)
    async with AsyncSqliteSaver.from_conn_string(
        str(tmp_path / "checkpoints.sqlite")
    ) as checkpointer:
        agent = harness.agent(say("Done."), checkpointer=checkpointer)
        await agent.ainvoke(None, THREAD)
        await pays_nothing_and_waits(agent, harness)
        assert (await aresume(agent, THREAD, Edit({"amount": 2})))["messages"][-1].text == "Done."
        with pytest.raises(NothingPending):
            await aresume(agent, THREAD, Approve())
    assert harness.ran == [("pay", 2)]


# ── effects ───────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Counter:
    """A gated tool, an agent that calls it, and a ledger. `work` is what the tool does."""

    work: Callable[[], Awaitable[str]]
    ledger: Ledger = field(default_factory=Ledger)
    ran: int = 0

    def __post_init__(self) -> None:
        async def pay(amount: int) -> str:
            """Pay."""
            self.ran += 1
            self.ledger.log.append("run")
            return await self.work()

        self.config: Any = {"configurable": {"thread_id": "t", EFFECTS_KEY: self.ledger}}
        self.agent = AgentHarness().agent(
            asks(("c1", "pay", {"amount": 3})), say("Done."), tools=[pay], approve="pay"
        )

    async def approve(self) -> Json:
        await self.agent.ainvoke(ASKED, self.config)
        return await self.decide(Approve())

    async def decide(self, decision: Decision) -> Json:
        result: Json = await aresume(self.agent, self.config, decision)
        return result

    async def go_on(self) -> Json:
        result: Json = await self.agent.ainvoke(None, self.config)
        return result

    async def pending(self) -> list[Any]:
        return await apending_approvals(self.agent, self.config)


async def pays() -> str:
    return "Paid."


async def dies() -> str:
    raise Killed


async def cut_off(work: Callable[[], Awaitable[str]] = pays) -> Counter:
    """A counter whose first payment was cut off; `work` is what the next one does."""
    counter = Counter(dies)
    with pytest.raises(Killed):
        await counter.approve()
    counter.work = work
    return counter


async def test_the_intent_is_stored_before_the_call_and_the_outcome_after() -> None:
    counter = Counter(pays)
    await counter.approve()
    assert counter.ledger.log == ["begin pay", "run", "finish"]


async def test_a_stored_outcome_takes_the_place_of_the_call() -> None:
    """The run died between the outcome and the checkpoint."""
    counter = Counter(pays, Ledger(kills=True))
    with pytest.raises(Killed):
        await counter.approve()
    result = await counter.go_on()
    assert told(result, "c1").text == "Paid."
    assert counter.ran == 1
    assert counter.ledger.log == ["begin pay", "run", "finish"]


async def test_a_call_that_was_cut_off_asks_a_person_and_does_not_run_again() -> None:
    counter = await cut_off()
    for _ in range(2):
        await counter.go_on()
        (question,) = await counter.pending()
        assert (question.kind, question.tool, question.args) == (
            "unknown_outcome",
            "pay",
            {"amount": 3},
        )
        assert question.allowed == ("approve", "reject", "respond")
        assert counter.ran == 1


@pytest.mark.parametrize(
    ("decision", "runs", "answer", "status"),
    [
        (Approve(), 2, "Paid.", "success"),
        (Respond("It was paid, says the bank."), 1, "It was paid, says the bank.", "success"),
        (
            Reject(),
            1,
            "may or may not have happened. A person decided not to run it again.",
            "error",
        ),
        (Reject("I will look."), 1, "The reason: I will look.", "error"),
    ],
)
async def test_what_a_person_may_say_of_a_call_that_was_cut_off(
    decision: Decision, runs: int, answer: str, status: str
) -> None:
    counter = await cut_off()
    await counter.go_on()
    result = await counter.decide(decision)
    assert counter.ran == runs
    assert answer in told(result, "c1").text
    assert told(result, "c1").status == status
    assert await counter.pending() == []


async def test_a_call_that_is_cut_off_twice_is_asked_for_twice() -> None:
    counter = await cut_off(dies)
    await counter.go_on()
    (first,) = await counter.pending()
    with pytest.raises(Killed):
        await counter.decide(Approve())
    counter.work = pays

    # LangGraph keeps an answer with the step that it leads to, and that step died: it is given
    # again, and says nothing of the second call.
    await counter.go_on()
    await counter.decide(Approve())
    (second,) = await counter.pending()
    assert second.approval_id != first.approval_id
    assert counter.ran == 2
    await counter.decide(Approve())
    assert counter.ran == 3


@pytest.mark.parametrize("value", [True, "approve", {"type": "approve"}, ["approve"]], ids=str)
async def test_a_bare_resume_does_not_answer_for_a_call_that_was_cut_off(value: Any) -> None:
    counter = await cut_off()
    await counter.go_on()
    await counter.agent.ainvoke(Command(resume=value), counter.config)
    assert counter.ran == 1
    assert [question.kind for question in await counter.pending()] == ["unknown_outcome"]


async def asks_itself() -> str:
    return f"A person said {interrupt('Which account?')}."


async def test_a_call_that_asks_a_question_of_its_own_is_not_taken_for_cut_off() -> None:
    counter = Counter(asks_itself)
    await counter.approve()
    (question,) = await counter.pending()
    assert (question.kind, question.args) == ("input", "Which account?")
    result = await counter.decide(Respond("savings"))
    assert told(result, "c1").text == "A person said savings."


async def test_the_answer_to_a_tools_question_is_not_taken_for_a_decision_when_the_call_is_cut_off_later() -> (
    None
):
    async def asks_and_dies() -> str:
        await asks_itself()
        raise Killed

    counter = Counter(asks_and_dies)
    await counter.approve()
    (question,) = await counter.pending()
    with pytest.raises(Killed):
        await counter.decide(Respond({"type": "approve"}))
    counter.work = asks_itself
    # A recovery gives the answer again, and now it comes before the question of what became of the
    # call.
    await counter.agent.ainvoke(
        Command(resume={question.interrupt_id: {"type": "approve"}}), counter.config
    )
    assert counter.ran == 2
    assert [question.kind for question in await counter.pending()] == ["unknown_outcome"]
    # The call that is made again has the answer that it was given.
    result = await counter.decide(Approve())
    assert told(result, "c1").text == "A person said {'type': 'approve'}."


@pytest.mark.parametrize(("broken", "runs"), [("begin", 0), ("finish", 1)])
async def test_a_ledger_that_fails_ends_the_run_and_is_not_told_as_the_tools_failure(
    broken: str, runs: int
) -> None:
    """A model that is told "the tool failed" tries again, and pays twice."""
    counter = Counter(pays)
    counter.ledger.broken = broken
    with pytest.raises(OSError, match="No space left"):
        await counter.approve()
    assert counter.ran == runs

    counter.ledger.broken = ""
    result = await counter.go_on()
    assert counter.ran == 1
    if broken == "begin":
        assert told(result, "c1").text == "Paid."
    else:
        assert [question.kind for question in await counter.pending()] == ["unknown_outcome"]


def test_a_sync_run_with_a_ledger_is_refused() -> None:
    ledger = Ledger()
    config: Any = {"configurable": {"thread_id": "t", EFFECTS_KEY: ledger}}
    harness = AgentHarness()
    agent = harness.agent(asks(("c1", "pay", {"amount": 3})), say("Done."))
    agent.invoke(ASKED, config)
    with pytest.raises(ConfigurationError, match="must be async"):
        resume(agent, config, Approve())
    assert harness.ran == []


async def test_the_ledger_keeps_whatever_a_tool_returns() -> None:
    async def returns_a_command() -> Any:
        return Command(
            update={"messages": [ToolMessage("noted", tool_call_id="c1", artifact={"page": 3})]}
        )

    counter = Counter(returns_a_command)
    assert told(await counter.approve(), "c1").artifact == {"page": 3}
    assert counter.ledger.log == ["begin pay", "run", "finish"]
