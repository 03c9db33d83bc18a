"""Graphs in every style of asking, decided by id: each call runs or not exactly as decided, and
each graph gets the answer it expects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from assent import (
    Approval,
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
from assent.core.errors import InvalidDecision, NotFound
from assent.graph.interrupts.questions import find_pending
from assent.graph.interrupts.resume import apply_updates, continuation
from assent.graph.provider_history import provider_history
from tests.graph.savers import Died, Fate, FatedMemory
from tests.support import any_graphs
from tests.support.models import lc_history_problems

THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}
FOUR_PAYMENTS = "pay 1; pay 2; pay 3; pay 4"


class Bench:
    """A graph in memory, on one thread, and the traces that it leaves."""

    def __init__(self, graph: Any, ledger: Path) -> None:
        self.graph = graph.copy(update={"checkpointer": InMemorySaver()})
        self.ledger = ledger

    async def told(self, text: str) -> list[Approval]:
        """Say something to the graph; what it asks."""
        await self.graph.ainvoke({"messages": [("user", text)]}, THREAD, durability="sync")
        return await self.pending()

    async def pending(self) -> list[Approval]:
        return await apending_approvals(self.graph, THREAD)

    async def decide(self, decisions: Any) -> Any:
        return await aresume(self.graph, THREAD, decisions)

    @property
    def traces(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []


Benches = Callable[[Any], Bench]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benches:
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    return lambda graph: Bench(
        graph if not isinstance(graph, str) else getattr(any_graphs, graph), tmp_path / "ledger"
    )


# ── several calls of one tool ─────────────────────────────────────────────────────────────────────

KINDS: Sequence[Callable[[int], Decision]] = (
    lambda amount: Approve(),
    lambda amount: Edit({"amount": amount * 10}),
    lambda amount: Reject(f"Not {amount}."),
    lambda amount: Respond(f"{amount} was paid in cash."),
)
ORDERS = list(permutations(range(4)))


def expected_traces(kinds: Sequence[int]) -> list[str]:
    """What runs of the payments of 1, 2, 3 and 4, each decided by the kind at its place."""
    amounts = [
        amount * (10 if kind == 1 else 1) for amount, kind in enumerate(kinds, start=1) if kind < 2
    ]
    return sorted(f"pay {amount}" for amount in amounts)


def check_answers(messages: Sequence[Any], kinds: Sequence[int]) -> None:
    """Each call has one answer, the one that its decision makes; and a provider takes the
    history."""
    assert lc_history_problems(provider_history(messages)) == []
    (turn,) = [
        message for message in messages if isinstance(message, AIMessage) and message.tool_calls
    ]
    for amount, (call, kind) in enumerate(zip(turn.tool_calls, kinds, strict=True), start=1):
        assert call["args"] == {"amount": amount}
        (answer,) = [
            message
            for message in messages
            if isinstance(message, ToolMessage) and message.tool_call_id == call["id"]
        ]
        words = (
            f"paid {amount}",
            f"paid {amount * 10}",
            f"Not {amount}.",
            f"{amount} was paid in cash.",
        )[kind]
        assert words in answer.text
        assert (answer.status == "error") == (kind == 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "orders"),
    [
        ("own", ORDERS),
        # Every order, among them.
        ("nested_agent", ORDERS[::3]),
        ("deep_agent", ORDERS[1::3]),
        ("per_call", ORDERS[2::3]),
    ],
)
async def test_four_calls_decided_one_by_one_in_every_order(
    name: str, orders: Sequence[tuple[int, ...]], bench: Benches
) -> None:
    for number, order in enumerate(orders):
        desk = bench(name)
        # Which call gets which kind of decision goes around with the order in which they are
        # decided.
        kinds = ORDERS[(number * 7) % len(ORDERS)]
        asked = await desk.told(FOUR_PAYMENTS)
        result: Any = None
        for place in order:
            left = {approval.approval_id for approval in await desk.pending()}
            assert asked[place].approval_id in left
            result = await desk.decide({asked[place].approval_id: KINDS[kinds[place]](place + 1)})
        assert await desk.pending() == []
        assert sorted(desk.traces) == expected_traces(kinds)
        check_answers(result["messages"], kinds)
        desk.ledger.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "orders"),
    [
        ("own", ORDERS[::2]),
        ("nested_agent", ORDERS[1::2]),
        ("per_call", ORDERS[::2]),
        ("batched", ORDERS),
        ("nested_batch", ORDERS[1::2]),
    ],
)
async def test_four_calls_decided_at_once_in_every_order(
    name: str, orders: Sequence[tuple[int, ...]], bench: Benches
) -> None:
    for order in orders:
        desk = bench(name)
        asked = await desk.told(FOUR_PAYMENTS)
        decisions = {
            asked[place].approval_id: KINDS[kind](place + 1) for kind, place in enumerate(order)
        }
        kinds = [order.index(place) for place in range(4)]
        result = await desk.decide(decisions)
        assert await desk.pending() == []
        assert sorted(desk.traces) == expected_traces(kinds)
        check_answers(result["messages"], kinds)
        desk.ledger.unlink()


async def test_two_calls_that_are_the_same_are_two_approvals(bench: Benches) -> None:
    for name in ("own", "batched", "per_call", "nested_batch"):
        desk = bench(name)
        first, second = await desk.told("pay 5; pay 5")
        assert first.approval_id != second.approval_id
        assert first.tool_call_id != second.tool_call_id
        assert first.digest == second.digest
        result = await desk.decide(
            {second.tool_call_id: Approve(), first.tool_call_id: Reject("Once is enough.")}
        )
        answers = {
            message.tool_call_id: message.text
            for message in result["messages"]
            if isinstance(message, ToolMessage)
        }
        assert "Once is enough." in answers[first.tool_call_id]
        assert answers[second.tool_call_id] == "paid 5"
        assert desk.traces == ["pay 5"]
        desk.ledger.unlink()


# ── each style ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["batched", "per_call", "nested_batch"])
async def test_the_middleware_asks_about_calls_of_tools(name: str, bench: Benches) -> None:
    desk = bench(name)
    asked = await desk.told("pay 1; pay 2")
    calls = [(approval.kind, approval.tool, approval.args, approval.allowed) for approval in asked]
    assert calls == [
        ("tool", "pay", {"amount": amount}, ("approve", "edit", "reject", "respond"))
        for amount in (1, 2)
    ]
    assert [approval.preview for approval in asked] == [
        {"description": "Money leaves the house."}
    ] * 2
    assert len({approval.tool_call_id for approval in asked}) == 2
    assert desk.traces == []


async def test_a_batch_takes_its_decisions_together_or_not_at_all(bench: Benches) -> None:
    desk = bench("batched")
    first, second = await desk.told("pay 1; pay 2")
    with pytest.raises(
        InvalidDecision, match=r"takes one answer for all of them\. Decide these too: pay"
    ):
        await desk.decide({first.approval_id: Approve()})
    assert await desk.pending() == [first, second]
    assert desk.traces == []


@pytest.mark.parametrize("name", ["batched", "per_call", "nested_batch"])
@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        (Edit({"amount": "much"}), "does not take these arguments"),
        (Edit({"amount": -1}), "does not take these arguments"),
        (Edit({"amount": 1, "to": "Ada"}), "has no argument 'to'"),
        (Respond({"paid": True}), "must be a text"),
    ],
)
async def test_the_middleware_is_given_only_what_its_tool_takes(
    name: str, decision: Decision, sentence: str, bench: Benches
) -> None:
    desk = bench(name)
    (approval,) = await desk.told("pay 1")
    with pytest.raises(InvalidDecision, match=sentence):
        await desk.decide(decision)
    assert await desk.pending() == [approval]
    assert desk.traces == []


WORDS = [
    (Approve(), "accept", None),
    (Edit({"page": "p9"}), "edit", {"action": "publish", "args": {"page": "p9"}}),
    (Reject("No."), "ignore", None),
    (Respond("Later."), "response", "Later."),
]


@pytest.mark.parametrize(("decision", "word", "args"), WORDS)
async def test_agent_inbox_is_answered_in_its_words_and_in_a_list(
    decision: Decision, word: str, args: Any, bench: Benches
) -> None:
    desk = bench("bare_inbox")
    (approval,) = await desk.told("p1")
    assert (approval.kind, approval.tool, approval.args, approval.node) == (
        "tool",
        "publish",
        {"page": "p1"},
        "ask",
    )
    await desk.decide(decision)
    assert desk.traces == [f"answers {[{'type': word, 'args': args}]}"]


async def test_several_requests_of_agent_inbox_are_answered_by_position(bench: Benches) -> None:
    for order in ORDERS:
        desk = bench("inbox")
        asked = await desk.told("p1; p2; p3; p4")
        assert [approval.args["page"] for approval in asked] == ["p1", "p2", "p3", "p4"]
        await desk.decide(
            {asked[place].approval_id: WORDS[kind][0] for kind, place in enumerate(order)}
        )
        answers = [
            {"type": WORDS[order.index(place)][1], "args": WORDS[order.index(place)][2]}
            for place in range(4)
        ]
        assert desk.traces == [f"answers {answers}"]
        desk.ledger.unlink()


@pytest.mark.parametrize("name", ["question", "nested_question"])
async def test_a_question_of_no_known_shape_takes_any_json(name: str, bench: Benches) -> None:
    for answer in ("blue", 3, False, ["a"], {"type": "approve"}, {"decisions": []}):
        desk = bench(name)
        (approval,) = await desk.told("Hi")
        assert (approval.kind, approval.args, approval.schema) == (
            "input",
            {"question": "Which colour?"},
            None,
        )
        await desk.decide({approval.approval_id: Respond(answer)})
        assert desk.traces == [f"answer {answer!r}"]
        desk.ledger.unlink()


@pytest.mark.parametrize(
    ("name", "wrong", "right", "trace"),
    [
        (
            "form",
            {"city": "Rome"},
            {"city": "Rome", "nights": 2},
            "answer Booking(city='Rome', nights=2)",
        ),
        ("form", "Rome", {"city": "Rome", "nights": 3}, "answer Booking(city='Rome', nights=3)"),
        ("own_schema", 0, 2, "answer 2"),
        ("own_schema", "two", 3, "answer 3"),
    ],
)
async def test_a_question_with_a_schema_takes_what_fits(
    name: str, wrong: Any, right: Any, trace: str, bench: Benches
) -> None:
    desk = bench(name)
    (approval,) = await desk.told("Hi")
    assert approval.schema is not None
    assert approval.allowed == ("respond",)
    with pytest.raises(InvalidDecision, match="does not take this answer"):
        await desk.decide(Respond(wrong))
    assert desk.traces == []
    await desk.decide(Respond(right))
    assert desk.traces == [trace]


async def test_no_answer_is_given_to_what_is_not_pending(bench: Benches) -> None:
    desk = bench("parallel")
    first, second = await desk.told("a; b")
    await desk.decide({first.approval_id: Respond("red")})
    with pytest.raises(NotFound):
        await desk.decide({first.approval_id: Respond("green")})
    await desk.decide({second.approval_id: Respond("blue")})
    assert [trace for trace in desk.traces if " is " in trace] == ["a is red", "b is blue"]


async def test_nodes_side_by_side_run_again_once_when_all_are_answered(bench: Benches) -> None:
    desk = bench("parallel")
    asked = await desk.told("a; b; c")
    await desk.decide(
        {
            approval.approval_id: Respond(approval.args["subject"].upper())
            for approval in reversed(asked)
        }
    )
    assert Counter(desk.traces) == {
        "begin a": 2,
        "begin b": 2,
        "begin c": 2,
        "a is A": 1,
        "b is B": 1,
        "c is C": 1,
    }


@pytest.mark.parametrize("name", ["stops_before", "stops_after", "nested_stop"])
async def test_a_pause_of_the_graphs_own_is_approved_or_rejected(name: str, bench: Benches) -> None:
    for decision, traces in ((Approve(), ["write", "publish"]), (Reject("No."), ["write"])):
        desk = bench(name)
        (approval,) = await desk.told("Hi")
        assert (approval.kind, approval.allowed) == ("node", ("approve", "reject"))
        await desk.decide(decision)
        assert desk.traces == traces
        assert await desk.pending() == []
        assert (await desk.graph.aget_state(THREAD)).next == ()
        desk.ledger.unlink()


# ── subgraphs ─────────────────────────────────────────────────────────────────────────────────────


async def test_everything_that_waits_side_by_side_is_decided_together(bench: Benches) -> None:
    desk = bench("mixed")
    first, second, colour, publish = await desk.told("pay 1; pay 2")
    assert [approval.node for approval in (first, second, colour, publish)] == [
        "agent|approval",
        "agent|approval",
        "ask",
        "stop|publish",
    ]
    result = await desk.decide(
        {
            publish.approval_id: Approve(),
            second.approval_id: Reject(),
            colour.approval_id: Respond("blue"),
            first.approval_id: Approve(),
        }
    )
    assert sorted(desk.traces) == ["begin ask", "begin ask", "pay 1", "publish", "write"]
    assert result["found"] == [
        "Results: paid 1 | A person rejected this call. It did not run.",
        "told blue",
        "Published.",
    ]


async def test_a_pause_side_by_side_is_not_passed_while_something_else_goes_on(
    bench: Benches,
) -> None:
    """LangGraph passes every static pause of a subgraph when the graph around it goes on."""
    desk = bench("mixed")
    asked = await desk.told("pay 1; pay 2")
    first, _second, colour, publish = asked
    for decisions in (
        {first.approval_id: Approve()},
        {colour.approval_id: Respond("blue"), first.approval_id: Approve()},
    ):
        with pytest.raises(
            InvalidDecision, match=r"it also passes its pause at 'stop\|publish'\. Decide that too"
        ):
            await desk.decide(decisions)
        # After a crash a server may find that some of it is decided: then it asks again.
        snapshot = await desk.graph.aget_state(THREAD, subgraphs=True)
        decided = [
            (approval, decisions[approval.approval_id])
            for approval in asked
            if approval.approval_id in decisions
        ]
        assert continuation(desk.graph, snapshot, decided).ended
    assert await desk.pending() == asked
    assert sorted(desk.traces) == ["begin ask", "write"]

    await desk.decide({first.approval_id: Approve(), publish.approval_id: Reject()})
    assert sorted(desk.traces) == ["begin ask", "begin ask", "pay 1", "write"]
    second, colour = await desk.pending()
    assert (second.args, colour.kind) == ({"amount": 2}, "input")


async def test_an_agent_in_an_agents_graph_forgets_no_decision_between_two_pauses(
    bench: Benches,
) -> None:
    desk = bench("deep_agent")
    (first,) = await desk.told("pay 1 then pay 2")
    await desk.decide(Approve())
    (second,) = await desk.pending()
    assert (first.args, second.args) == ({"amount": 1}, {"amount": 2})
    result = await desk.decide(Edit({"amount": 3}))
    assert desk.traces == ["pay 1", "pay 3"]
    assert lc_history_problems(provider_history(result["messages"])) == []


def two_stops() -> Any:
    def step(name: str) -> Any:
        return lambda state: any_graphs.trace(name)

    inner = (
        StateGraph(MessagesState)
        .add_node("first", step("first"))
        .add_node("second", step("second"))
    )
    inner.add_edge(START, "first").add_edge("first", "second")
    return any_graphs.around(inner.compile(interrupt_before=["first", "second"]), "two_stops")


async def test_a_rejected_step_of_a_subgraph_does_not_let_the_next_one_pass(bench: Benches) -> None:
    desk = bench(two_stops())
    (first,) = await desk.told("Hi")
    assert first.node == "inner|first"
    await desk.decide(Reject())
    assert desk.traces == []

    desk = bench(two_stops())
    await desk.told("Hi")
    await desk.decide(Approve())
    (second,) = await desk.pending()
    assert (second.node, desk.traces) == ("inner|second", ["first"])
    await desk.decide(Approve())
    assert desk.traces == ["first", "second"]


def stops_everywhere() -> Any:
    """A graph that pauses before each node, and whose first node answers a call."""

    def publish(state: MessagesState) -> None:
        any_graphs.trace("publish")

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("", tool_calls=[{"name": "pay", "args": {}, "id": "c1"}])]}

    graph = (
        StateGraph(MessagesState)
        .add_node("ask", ask)
        .add_node("pay", publish)
        .add_node("publish", publish)
    )
    graph.add_edge(START, "ask").add_edge("ask", "pay").add_edge("pay", "publish")
    return graph.compile(interrupt_before=["pay", "publish"])


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_rejected_step_does_not_let_the_next_one_pass(
    asynchronous: bool, bench: Benches
) -> None:
    desk = bench(stops_everywhere())
    (pay,) = await desk.told("Hi")
    assert pay.node == "pay"
    result = (
        await desk.decide(Reject("No."))
        if asynchronous
        else resume(desk.graph, THREAD, Reject("No."))
    )
    assert (
        result["messages"][-1].text
        == "A person rejected this call. It did not run. The reason: No."
    )
    (publish,) = await desk.pending()
    assert (publish.node, desk.traces) == ("publish", [])
    await desk.decide(Approve())
    assert desk.traces == ["publish"]


async def test_a_rejected_call_of_a_subgraph_is_answered_and_does_not_let_the_next_step_pass(
    bench: Benches,
) -> None:
    desk = bench(any_graphs.around(stops_everywhere(), "nested"))
    (pay,) = await desk.told("Hi")
    assert pay.node == "inner|pay"
    result = await desk.decide(Reject("No."))
    assert (
        result["messages"][-1].text
        == "A person rejected this call. It did not run. The reason: No."
    )
    assert desk.traces == []


@pytest.mark.parametrize("name", ["stopped_calls", "nested_stopped_calls", "stopped_nodes"])
async def test_a_rejection_that_a_crash_cuts_off_is_whole_or_asked_again(
    name: str, bench: Benches
) -> None:
    """Amid the writes of a rejection of two calls, none of which runs."""
    writes = await rejected(bench(name), Fate())
    assert writes
    for dies_at in range(1, writes + 1):
        for after in (False, True):
            await rejected(bench(name), Fate(dies_at=dies_at, after=after))


async def rejected(desk: Bench, fate: Fate) -> int:
    """Reject two calls before which a graph stops, by a server that may die of it, and see it
    through; the number of writes it took at first."""
    saver = FatedMemory()
    saver.fate = Fate()
    desk.graph = desk.graph.copy(update={"checkpointer": saver})
    (asked,) = await desk.told("pay 1; look 2")
    saver.fate = fate
    snapshot = await desk.graph.aget_state(THREAD, subgraphs=True)
    plan = continuation(desk.graph, snapshot, [(asked, Reject("No."))])
    with pytest.raises(Died) if fate.dies_at else nullcontext():
        await apply_updates(desk.graph, THREAD, plan)
    writes, saver.fate = len(fate.puts), Fate()

    pending = await desk.pending()
    assert pending in ([asked], [])
    if pending:
        result = await desk.decide(Reject("No."))
    else:
        result = await desk.graph.ainvoke(None, THREAD)
    no = "A person rejected this call. It did not run. The reason: No."
    assert result["messages"][-1].text == f"Results: {no} | {no}"
    assert desk.traces == []
    return writes


# ── ids, and what a crash leaves ──────────────────────────────────────────────────────────────────

ASK = "ask Which year? 2019 2020"
TEXTS = {
    "inbox": "p1; p2",
    "parallel": "a; b",
    "asker": ASK,
    "gated_asker": ASK,
    "foreign_asker": ASK,
}


@pytest.mark.parametrize("name", any_graphs.ALL)
async def test_asking_again_gives_the_same_ids(name: str, bench: Benches) -> None:
    desk = bench(name)
    asked = await desk.told(TEXTS.get(name, "pay 1; pay 2"))
    ids = [approval.approval_id for approval in asked]
    assert len(set(ids)) == len(ids) > 0
    for graph in (
        desk.graph,
        getattr(any_graphs, name).copy(update={"checkpointer": desk.graph.checkpointer}),
    ):
        snapshot = await graph.aget_state(THREAD, subgraphs=True)
        assert [approval.approval_id for approval in find_pending(graph, snapshot)] == ids
        if snapshot.interrupts:
            shallow = find_pending(graph, await graph.aget_state(THREAD))
            assert [a.approval_id for a in shallow] == [
                a.approval_id for a in asked if a.interrupt_id
            ]
    if name != "mixed":
        assert pending_approvals(desk.graph, THREAD) == asked
    # Pauses that ask the same thing again have other ids.
    assert not set(ids) & {
        approval.approval_id for approval in find_pending(graph, snapshot, pause="run-2")
    }


@pytest.mark.parametrize(
    "name", ["question", "batched", "parallel", "per_call", "stops_before", "nested_question"]
)
async def test_without_a_decision_on_what_is_asked_now_nothing_runs(
    name: str, bench: Benches
) -> None:
    """As after a crash in which the next question had been reached."""
    desk = bench(name)
    await desk.told("a; b; pay 1")
    before = desk.traces
    plan = continuation(desk.graph, await desk.graph.aget_state(THREAD, subgraphs=True), [])
    assert plan.ended
    assert desk.traces == before


async def test_decisions_written_into_a_subgraph_before_a_crash_are_not_lost_and_not_written_twice(
    bench: Benches,
) -> None:
    desk = bench("nested_agent")
    first, second = await desk.told("pay 1; pay 2")
    snapshot = await desk.graph.aget_state(THREAD, subgraphs=True)
    decided = [(first, Approve()), (second, Reject("No."))]
    await apply_updates(desk.graph, THREAD, continuation(desk.graph, snapshot, decided))

    # Here the process died. What is pending is read again, and nothing is.
    snapshot = await desk.graph.aget_state(THREAD, subgraphs=True)
    pending = {approval.approval_id for approval in find_pending(desk.graph, snapshot)}
    again = continuation(
        desk.graph,
        snapshot,
        [(approval, decision) for approval, decision in decided if approval.approval_id in pending],
    )
    assert not again.ended
    plan = await apply_updates(desk.graph, THREAD, again)
    result = await desk.graph.ainvoke(plan.input, THREAD)
    assert desk.traces == ["pay 1"]
    check = [message.text for message in result["messages"] if isinstance(message, ToolMessage)]
    assert sorted(check) == [
        "A person rejected this call. It did not run. The reason: No.",
        "paid 1",
    ]


async def test_words_that_reject_do_not_come_between_a_call_and_its_answer(bench: Benches) -> None:
    """As on a server, where `"if_paused": "reject"` sends them."""
    for name in ("batched", "per_call", "own"):
        desk = bench(name)
        asked = await desk.told("pay 1; pay 2")
        snapshot = await desk.graph.aget_state(THREAD, subgraphs=True)
        decided = [(approval, Reject("Wait.")) for approval in asked]
        plan = continuation(desk.graph, snapshot, decided, messages=[HumanMessage("Wait.")])
        result = await desk.graph.ainvoke(plan.input, THREAD)
        assert lc_history_problems(provider_history(result["messages"])) == []
        assert sum("Wait." in message.text for message in result["messages"]) >= 2
        assert desk.traces == []


@pytest.mark.parametrize("sent", [None, Command(resume=True), {"messages": [("user", "approved")]}])
@pytest.mark.parametrize("name", ["nested_agent", "deep_agent"])
async def test_a_nested_agent_runs_nothing_without_a_decision(
    name: str, sent: Any, bench: Benches
) -> None:
    desk = bench(name)
    await desk.told("pay 1")
    await desk.graph.ainvoke(sent, THREAD)
    assert desk.traces == []
