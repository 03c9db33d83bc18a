"""Graphs as other people write them, over the real server: every style of asking from a cold
process, and every order of deciding."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import pytest

from tests.support import any_graphs
from tests.support.history import history_problems
from tests.support.server import (
    Server,
    asking,
    expect,
    only,
    problem,
    project_of,
    serving,
    types_of,
)

APPROVE = {"type": "approve"}
REJECT = {"type": "reject", "message": "No."}
ALL = ("approve", "edit", "reject", "respond")
NO = "A person rejected this call. It did not run. The reason: No."
NO_STEP = "The step 'publish' was rejected. The reason: No."


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A graph, what it is told, what it asks as (kind, what it is about), the decisions in that
    order, and what comes of them."""

    graph: str
    told: str = "pay 1; pay 2"
    asks: Sequence[tuple[str, Any]] = (("tool", {"amount": 1}), ("tool", {"amount": 2}))
    decisions: Sequence[Any] = (APPROVE, REJECT)
    traces: Sequence[str] = ("pay 1",)
    says: str = ""


def answer(value: Any) -> dict[str, Any]:
    return {"type": "respond", "message": value}


YEARS = {"prompt": "Which year?", "choices": ["2019", "2020"], "reasons": ["ambiguity"]}
COLOUR = {"question": "Which colour?"}

STYLES = [
    Style(graph="own", says=f"Results: paid 1 | {NO}"),
    Style(graph="batched"),
    Style(graph="per_call"),
    Style(graph="batched", decisions=({"type": "edit", "args": {"amount": 7}}, answer("In cash.")), traces=("pay 7",)),
    Style(graph="per_call", decisions=({"type": "edit", "args": {"amount": 7}}, answer("In cash.")), traces=("pay 7",)),
    Style(
        graph="inbox",
        told="p1; p2",
        asks=(("tool", {"page": "p1"}), ("tool", {"page": "p2"})),
        decisions=({"type": "edit", "args": {"page": "p3"}}, REJECT),
        traces=("answers [{'type': 'edit', 'args': {'action': 'publish', 'args': {'page': 'p3'}}}, {'type': 'ignore', 'args': None}]",),
    ),
    Style(
        graph="bare_inbox",
        told="p1",
        asks=(("tool", {"page": "p1"}),),
        decisions=(APPROVE,),
        traces=("answers [{'type': 'accept', 'args': None}]",),
    ),
    Style(graph="question", asks=(("input", COLOUR),), decisions=(answer({"rgb": [0, 0, 9]}),), traces=("answer {'rgb': [0, 0, 9]}",)),
    Style(
        graph="form",
        asks=(("input", "Where to?"),),
        decisions=(answer({"city": "Rome", "nights": 2}),),
        traces=("answer Booking(city='Rome', nights=2)",),
    ),
    Style(
        graph="own_schema",
        asks=(("input", {"question": "How many?", "schema": {"type": "integer", "minimum": 1}}),),
        decisions=(answer(2),),
        traces=("answer 2",),
    ),
    Style(
        graph="parallel",
        told="a; b; c",
        asks=tuple(("input", {"subject": subject}) for subject in "abc"),
        decisions=(answer("red"), answer("green"), answer("blue")),
        # Each runs again once, as late as the last of them is decided.
        traces=(*("begin a", "begin b", "begin c") * 2, "a is red", "b is green", "c is blue"),
    ),
    Style(graph="nested_question", asks=(("input", COLOUR),), decisions=(answer("blue"),), traces=("answer 'blue'",)),
    Style(graph="nested_batch"),
    Style(graph="nested_agent", says=f"Results: paid 1 | {NO}"),
    Style(graph="deep_agent", says=f"Results: paid 1 | {NO}"),
    Style(graph="delegating", says=f"Results: paid 1 | {NO}"),
    Style(graph="delegating_agent", says=f"Results: paid 1 | {NO}"),
    Style(graph="stops_before", asks=(("node", {}),), decisions=(APPROVE,), traces=("write", "publish"), says="Published."),
    Style(graph="stops_before", asks=(("node", {}),), decisions=(REJECT,), traces=("write",), says=NO_STEP),
    Style(graph="stops_after", asks=(("node", {}),), decisions=(APPROVE,), traces=("write", "publish"), says="Published."),
    Style(graph="nested_stop", asks=(("node", {}),), decisions=(APPROVE,), traces=("write", "publish"), says="Published."),
    Style(graph="nested_stop", asks=(("node", {}),), decisions=(REJECT,), traces=("write",), says=NO_STEP),
    Style(
        graph="mixed",
        asks=(("tool", {"amount": 1}), ("tool", {"amount": 2}), ("input", "Which colour?"), ("node", {})),
        decisions=(APPROVE, REJECT, answer("blue"), APPROVE),
        traces=("write", "begin ask", "begin ask", "pay 1", "publish"),
    ),
    Style(graph="asker", told="ask Which year? 2019 2020", asks=(("input", YEARS),), decisions=(answer("2020"),), traces=(),
          says="I was told: 2020"),
    Style(graph="foreign_asker", told="ask Which year? 2019 2020", asks=(("input", YEARS),), decisions=(REJECT,), traces=(),
          says="I was told: The person did not answer. The reason: No."),
]  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    target = project_of(folder, {any_graphs: (*any_graphs.ALL, "hidden")})
    with serving(folder, target) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    """The server, which has run for other tests, and no traces yet."""
    shared.ledger.unlink(missing_ok=True)
    return shared


async def test_every_style_of_asking_from_a_cold_process(server: Server, thread: str) -> None:
    assert {style.graph for style in STYLES} | {"gated_asker"} == set(any_graphs.ALL)
    async with asking(server) as api:
        for number, style in enumerate(STYLES):
            await api.stream(style.told, agent=style.graph, thread_id=f"{thread}-{number}")
        asked = {number: await api.pending(f"{thread}-{number}") for number in range(len(STYLES))}
        begun = server.traces()
        server.restart()

        for number, style in enumerate(STYLES):
            approvals = await api.pending(f"{thread}-{number}")
            assert approvals == asked[number]
            assert [(approval["kind"], approval["args"]) for approval in approvals] == list(
                style.asks
            ), style
        assert server.traces() == begun

        for number, style in enumerate(STYLES):
            before = server.traces()
            for approval, decision in zip(asked[number], style.decisions, strict=True):
                assert server.traces() == before
                await api.decided(
                    f"{thread}-{number}", decisions={approval["approval_id"]: decision}
                )
            rested = await api.at_rest(f"{thread}-{number}")
            assert rested["status"] == "idle", style
            new = server.traces()[len(before) :]
            # What it did before it was asked stands among the traces of the beginning.
            assert Counter(style.traces) - Counter(new) <= Counter(begun), style
            assert Counter(new) <= Counter(style.traces), style
            if style.says:
                assert rested["values"]["messages"][-1]["content"] == style.says


async def test_a_server_that_dies_when_it_was_told_goes_on_with_what_was_decided(
    server: Server, thread: str
) -> None:
    """Our agents, at any depth, have a gate that keeps their tools from running twice. A node of
    somebody else's may run again."""
    styles = [
        style
        for style in STYLES
        if style.graph
        in (
            *("own", "nested_agent", "deep_agent", "delegating"),
            *("asker", "question", "nested_question"),
        )
    ]
    async with asking(server) as api:
        for number, style in enumerate(styles):
            asked = await api.paused(style.told, agent=style.graph, thread_id=f"{thread}-{number}")
            decisions = {
                approval["approval_id"]: decision
                for approval, decision in zip(asked, style.decisions, strict=True)
            }
            before = server.traces()
            await api.decided(f"{thread}-{number}", decisions=decisions)
            server.restart()
            rested = await api.at_rest(f"{thread}-{number}")
            if is_lost := rested["status"] == "interrupted":
                (lost,) = await api.pending(f"{thread}-{number}")
                assert lost["kind"] == "unknown_outcome"
                await api.decided(f"{thread}-{number}", type="respond", message="paid 1")
                rested = await api.at_rest(f"{thread}-{number}")
            assert rested["status"] == "idle", style
            new = server.traces()[len(before) :]
            if is_lost and not new:
                # It was noted that the call begins, and then it did not.
                continue
            assert set(new) == set(style.traces), style
            assert len(new) == len(style.traces) or style.graph.endswith("question"), style


# ── several calls of one tool ─────────────────────────────────────────────────────────────────────


def decision_on(amount: int, kind: str) -> dict[str, Any]:
    return {
        "approve": APPROVE,
        "edit": {"type": "edit", "args": {"amount": amount * 10}},
        "reject": {"type": "reject", "message": f"Not {amount}."},
        "respond": answer(f"{amount} was paid in cash."),
    }[kind]


def result_of(amount: int, kind: str) -> str:
    return {
        "approve": f"paid {amount}",
        "edit": f"paid {amount * 10}",
        "reject": f"Not {amount}.",
        "respond": "was paid in cash.",
    }[kind]


@pytest.mark.parametrize("graph", ["own", "batched"])
async def test_four_calls_decided_one_by_one_in_every_order(
    graph: str, server: Server, thread: str
) -> None:
    async with asking(server) as api:
        for number, order in enumerate(permutations(range(4))):
            id = f"{thread}-{number}"
            # Which call gets which kind of decision goes around with the order in which they are
            # decided.
            kinds = list(permutations(ALL))[(number * 7) % 24]
            asked = await api.paused("pay 1; pay 2; pay 3; pay 4", agent=graph, thread_id=id)
            before = server.traces()
            for place in order:
                assert server.traces() == before
                await api.decided(
                    id,
                    decisions={asked[place]["approval_id"]: decision_on(place + 1, kinds[place])},
                )
            messages = (await api.at_rest(id))["values"]["messages"]
            paid = [
                f"pay {amount * (10 if kind == 'edit' else 1)}"
                for amount, kind in enumerate(kinds, 1)
                if kind in ("approve", "edit")
            ]
            assert sorted(server.traces()[len(before) :]) == sorted(paid)
            check_history(messages, asked, kinds)


def check_history(messages: list[Any], asked: Sequence[Any], kinds: Sequence[str]) -> None:
    """Each call has one answer, the one that its decision makes; and a provider takes the history,
    once our agent has put it in order."""
    answers = {
        message["tool_call_id"]: message["content"]
        for message in messages
        if message["type"] == "tool"
    }
    assert len(answers) == len([message for message in messages if message["type"] == "tool"]) == 4
    for amount, (approval, kind) in enumerate(zip(asked, kinds, strict=True), 1):
        assert result_of(amount, kind) in answers[approval["tool_call_id"]]
    roles = {"human": "user", "ai": "assistant", "tool": "tool"}
    wire = [
        {**message, "role": roles[message["type"]], "tool_calls": wired(message)}
        for message in messages
    ]
    assert history_problems(wire) == []


def wired(message: Any) -> list[Any]:
    calls = message.get("tool_calls") or []
    return [
        {
            "id": call["id"],
            "function": {"name": call["name"], "arguments": json.dumps(call["args"])},
        }
        for call in calls
    ]


# ── whichever form it is answered in ──────────────────────────────────────────────────────────────

OURS = [{"type": "approve"}, {"type": "edit", "args": {"amount": 7}}]
LANGCHAIN = [
    {"type": "approve"},
    {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 7}}},
]
INBOX = [
    {"type": "accept", "args": None},
    {"type": "edit", "args": {"action": "pay", "args": {"amount": 7}}},
]
PUBLISHED = [
    {"type": "accept", "args": None},
    {"type": "edit", "args": {"action": "publish", "args": {"page": "p3"}}},
]


async def test_two_actions_that_are_asked_at_once_are_decided_in_every_form(
    server: Server, thread: str
) -> None:
    async with asking(server) as api:
        for number, words in enumerate((OURS, LANGCHAIN, INBOX)):
            for form in ("listed", "wrapped", "by id", "by call", "by interrupt"):
                id = f"{thread}-{number}-{form.replace(' ', '-')}"
                asked = await api.paused("pay 1; pay 2", agent="batched", thread_id=id)
                interrupts = (await api.get(f"/threads/{id}/state"))["interrupts"]
                body = {
                    "listed": words,
                    "wrapped": {"decisions": words},
                    "by id": {
                        "decisions": {
                            a["approval_id"]: word for a, word in zip(asked, words, strict=True)
                        }
                    },
                    "by call": {
                        a["tool_call_id"]: word for a, word in zip(asked, words, strict=True)
                    },
                    "by interrupt": {interrupts[0]["id"]: {"decisions": words}},
                }[form]
                before = server.traces()
                await expect(await api.http.post(f"/threads/{id}/resume", json=body), 202)
                assert (await api.at_rest(id))["status"] == "idle"
                assert sorted(server.traces()[len(before) :]) == ["pay 1", "pay 7"]


async def test_a_digest_under_an_interrupt_is_not_passed_over(server: Server, thread: str) -> None:
    async with asking(server) as api:
        (approval,) = await api.paused("pay 1", agent="batched", thread_id=thread)
        (interrupt,) = (await api.get(f"/threads/{thread}/state"))["interrupts"]
        stale = {**APPROVE, "digest": "0" * 64}
        refused = await problem(await api.resume(thread, decisions={interrupt["id"]: stale}), 422)
        assert "under that approval's own id" in refused["detail"]
        await problem(await api.resume(thread, decisions={approval["approval_id"]: stale}), 409)
        await api.decided(
            thread, decisions={approval["approval_id"]: {**APPROVE, "digest": approval["digest"]}}
        )
        assert await api.last_words(thread) == "Results: paid 1"


async def test_each_graph_gets_its_own_form_whichever_the_answer_came_in(
    server: Server, thread: str
) -> None:
    hitl = {
        "decisions": [
            {"type": "approve"},
            {"type": "edit", "edited_action": {"name": "publish", "args": {"page": "p3"}}},
        ]
    }
    async with asking(server) as api:
        for number, body in enumerate((hitl, PUBLISHED)):
            await api.paused("p1; p2", agent="inbox", thread_id=f"{thread}-{number}")
            await expect(await api.http.post(f"/threads/{thread}-{number}/resume", json=body), 202)
            await api.at_rest(f"{thread}-{number}")
    assert server.traces() == [f"answers {PUBLISHED}"] * 2


async def test_the_only_question_is_answered_with_any_json_that_it_takes(
    server: Server, thread: str
) -> None:
    bodies: list[tuple[str, Any, str]] = [
        ("question", "blue", "answer 'blue'"),
        ("question", ["blue", "red"], "answer ['blue', 'red']"),
        (
            "question",
            {"type": "respond", "message": {"type": "approve"}},
            "answer {'type': 'approve'}",
        ),
        ("question", [{"type": "response", "args": "blue"}], "answer 'blue'"),
        ("form", {"city": "Rome", "nights": 2}, "answer Booking(city='Rome', nights=2)"),
        ("own_schema", 3, "answer 3"),
    ]
    async with asking(server) as api:
        for number, (graph, body, trace) in enumerate(bodies):
            for door in ("resume", "decide"):
                id = f"{thread}-{number}-{door}"
                (approval,) = await api.paused("ask", agent=graph, thread_id=id)
                path = (
                    f"/threads/{id}/resume"
                    if door == "resume"
                    else f"/approvals/{approval['approval_id']}/decide"
                )
                before = server.traces()
                await expect(await api.http.post(path, json=body), 202)
                await api.at_rest(id)
                assert server.traces()[len(before) :] == [trace]


async def test_what_an_answer_must_be_like_is_told_with_the_question(
    server: Server, thread: str
) -> None:
    schemas = {
        "question": None,
        "own_schema": {"type": "integer", "minimum": 1},
        "asker": {"type": "string", "enum": ["2019", "2020"]},
    }
    async with asking(server) as api:
        for graph, schema in schemas.items():
            events = await api.stream(
                "ask Which year? 2019 2020", agent=graph, thread_id=f"{thread}-{graph}"
            )
            (approval,) = await api.pending(f"{thread}-{graph}")
            assert approval["schema"] == schema
            assert only(events, "approval_required").get("schema") == schema
        (form,) = await api.paused("ask", agent="form", thread_id=thread)
        assert form["schema"]["properties"]["nights"]["type"] == "integer"
        # An edit's too, where the graph says what it takes.
        (reviewed,) = await api.paused("pay 1", agent="per_call", thread_id=f"{thread}-per_call")
        assert reviewed["schema"]["properties"]["amount"]["exclusiveMinimum"] == 0


# ── what is not taken ─────────────────────────────────────────────────────────────────────────────


REFUSED = [
    ("batched", {"type": "edit", "args": {"amount": "much"}}, "does not take these arguments"),
    ("per_call", {"type": "edit", "args": {"amount": -1}}, "does not take these arguments"),
    ("nested_agent", {"type": "edit", "args": {"sum": 1}}, "has no argument 'sum'"),
    ("form", answer({"city": "Rome"}), "'nights' is a required property"),
    ("own_schema", answer("two"), "is not of type 'integer'"),
    ("own_schema", REJECT, "It takes: respond."),
    ("question", APPROVE, "It takes: respond, reject."),
    ("question", {"decisions": []}, "This is not a decision"),
    ("question", {"decisions": [APPROVE]}, "It takes: respond, reject."),
    ("question", {}, "The body decides nothing."),
    ("question", {"type": "reject", "why": "No."}, "This is not a decision"),
    ("form", "Rome", "is not of type 'object'"),
    ("form", {"city": "Rome"}, "'nights' is a required property"),
    ("own_schema", 0, "is less than the minimum of 1"),
    ("per_call", "approve", "This is not a decision"),
    ("batched", [APPROVE, APPROVE], "decisions that were given: 2"),
    (
        "batched",
        [{"type": "edit", "args": {"action": "look", "args": {"amount": 1}}}],
        "an edit cannot make it 'look'",
    ),
]


async def test_what_the_graph_would_not_take_is_refused_before_a_run_is_started(
    server: Server, thread: str
) -> None:
    async with asking(server) as api:
        for number, (graph, wrong, sentence) in enumerate(REFUSED):
            id = f"{thread}-{number}"
            (approval,) = await api.paused("pay 1", agent=graph, thread_id=id)
            events = await api.events(id)
            assert (
                sentence
                in (await problem(await api.http.post(f"/threads/{id}/resume", json=wrong), 422))[
                    "detail"
                ]
            )
            assert await api.pending(id) == [approval]
            assert await api.events(id) == events
    assert server.traces() == []


async def test_a_message_in_place_of_an_answer_is_refused_or_tells_the_agent_that_there_is_none(
    server: Server, thread: str
) -> None:
    async with asking(server) as api:
        for graph in ("asker", "foreign_asker"):
            (question,) = await api.paused(
                "ask Which year? 2019 2020", agent=graph, thread_id=f"{thread}-{graph}"
            )
            events = await api.events(f"{thread}-{graph}")
            refused = await problem(
                await api.http.post(
                    "/agent/stream", json={"message": "2019", "thread_id": f"{thread}-{graph}"}
                ),
                409,
            )
            assert refused["approvals"] == [question]
            assert await api.events(f"{thread}-{graph}") == events
            events = await api.stream(
                "Never mind.", thread_id=f"{thread}-{graph}", if_paused="reject"
            )
            assert (
                only(events, "tool_end")["output"]
                == "The person did not answer. The reason: Never mind."
            )
            assert only(events, "approval_decided")["decision"] == "reject"
            assert types_of(events)[-1] == "done", events[-1]

        # A question that has no room for a rejection.
        await api.paused("ask", agent="form", thread_id=thread)
        body = {"message": "Never mind.", "thread_id": thread, "if_paused": "reject"}
        assert (
            '"if_paused": "cancel"'
            in (await problem(await api.http.post("/agent/stream", json=body), 422))["detail"]
        )
        assert len(await api.pending(thread)) == 1
        (again,) = await api.paused("ask", thread_id=thread, if_paused="cancel")
        assert again["kind"] == "input"


async def test_words_that_reject_leave_a_history_that_a_provider_takes(
    server: Server, thread: str
) -> None:
    """The scripted model refuses any other."""
    async with asking(server) as api:
        for graph in ("batched", "per_call", "nested_agent", "nested_batch"):
            await api.paused("pay 1; pay 2", agent=graph, thread_id=f"{thread}-{graph}")
            events = await api.stream("Wait.", thread_id=f"{thread}-{graph}", if_paused="reject")
            assert types_of(events)[-1] == "done", events[-1]
            assert "Wait." in await api.last_words(f"{thread}-{graph}")
    assert server.traces() == []


async def test_a_pause_that_nobody_can_see_is_an_error_and_not_the_end(
    server: Server, thread: str
) -> None:
    async with asking(server) as api:
        events = await api.stream("pay 1", agent="hidden", thread_id=thread)
        assert types_of(events)[-1] == "error"
        assert (
            "stopped at a pause inside of 'tools' that nobody can see and decide"
            in events[-1]["message"]
        )
    assert server.traces() == ["write"]


async def test_a_tool_that_was_approved_and_then_asks_is_answered_in_a_third_process(
    server: Server, thread: str
) -> None:
    """The gate notes that the call stopped to ask, and does not take it for one that was cut
    off."""
    async with asking(server) as api:
        (approval,) = await api.paused(
            "ask Which year? 2019 2020", agent="gated_asker", thread_id=thread
        )
        server.restart()
        await api.decided(thread, decisions={approval["approval_id"]: APPROVE})
        assert (await api.at_rest(thread))["status"] == "interrupted"
        (question,) = await api.pending(thread)
        assert (question["kind"], question["args"]) == ("input", YEARS)
        server.restart()
        await api.decided(thread, decisions={question["approval_id"]: answer("2019")})
        assert await api.last_words(thread) == "I was told: 2019"
