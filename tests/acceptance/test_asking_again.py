"""Answers and what becomes of them, over the real server: each goes to the question that it was
given to, or the question is asked again. The graphs are other people's.

One server serves all of these tests, and some of them kill it: each looks at its own threads, and
at the traces that are new.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from assent.core.digest import call_digest
from tests.support import any_graphs
from tests.support.server import (
    Server,
    asking,
    problem,
    project_of,
    serving,
    types_of,
    without_tokens,
)
from tests.support.waiting import until

APPROVE = {"type": "approve"}
NO = "A person rejected this call. It did not run. The reason: No."


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    names = (*any_graphs.UNLISTED, "bare_inbox", "question")
    with serving(folder, project_of(folder, {any_graphs: names})) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    """The server, and no traces yet."""
    shared.ledger.unlink(missing_ok=True)
    return shared


def answer(value: Any) -> dict[str, Any]:
    return {"type": "respond", "message": value}


# ── a pause before several calls ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("graph", ["stopped_calls", "nested_stopped_calls", "stopped_nodes"])
async def test_rejecting_a_pause_before_several_calls_answers_each_of_them(
    graph: str, server: Server
) -> None:
    """The scripted model refuses a history with a call that has no answer, as a provider does."""
    told, killed, worded = (f"{graph}-{name}" for name in ("told", "killed", "worded"))
    async with asking(server) as api:
        for each in (told, killed, worded):
            (approval,) = await api.paused("pay 1; look 2", agent=graph, thread_id=each)
            assert len(approval["args"]["tool_calls"]) == 2
        await api.decided(told, type="reject", message="No.")
        assert await api.last_words(told) == f"Results: {NO} | {NO}"
        await api.stream("tell 1", thread_id=told)
        assert await api.last_words(told) == "word0"

        await api.decided(killed, type="reject", message="No.")
        server.restart()
        assert await api.last_words(killed) == f"Results: {NO} | {NO}"

        events = await api.stream("tell 2", thread_id=worded, if_paused="reject")
        assert types_of(events)[-1] == "done", events[-1]
        # What was asked for is next; nothing runs, and a pause in between would be asked about.
        await api.stream("tell 3", thread_id=worded)
        assert await api.last_words(worded) == "word0 word1 word2"

        (_,) = await api.paused("pay 3; look 4", thread_id=told)
        await api.decided(told, type="approve")
        assert await api.last_words(told) == "Results: paid 3 | saw 4"
    assert sorted(server.traces()) == ["look 4", "pay 3"]


# ── values that JSON has not ──────────────────────────────────────────────────────────────────────


async def test_what_is_no_number_is_shown_by_its_name_and_can_be_decided(server: Server) -> None:
    shown = {
        "odd_question": {"estimate": "NaN", "bounds": ["-Infinity", "Infinity"]},
        "odd_call": {"amount": "NaN"},
        "odd_stop": {"amount": "NaN"},
    }
    async with asking(server) as api:
        for graph, args in shown.items():
            (approval,) = await api.paused("ask", agent=graph, thread_id=graph)
            asked = approval["args"]
            if graph == "odd_stop":
                (asked,) = [call["args"] for call in asked["tool_calls"]]
            assert asked == args
            tool = approval["tool"] or approval["node"]
            assert approval["digest"] == call_digest(tool, approval["args"])
            kind = answer("It is.") if graph == "odd_question" else APPROVE
            await api.decided(graph, **{**kind, "digest": approval["digest"]})
            assert (await api.at_rest(graph))["status"] == "idle"
            assert len((await api.get("/approvals", thread_id=graph))["approvals"]) == 1
    assert server.traces() == ["answer 'It is.'", "weigh nan", "weigh nan"]


async def test_a_question_that_looks_like_one_of_ours_is_the_graphs_own(
    server: Server, thread: str
) -> None:
    async with asking(server) as api:
        (approval,) = await api.paused("ask", agent="lookalike", thread_id=thread)
        assert (approval["kind"], approval["args"]["kind"]) == ("input", "unknown_outcome")
        await api.decided(thread, **answer("so it is"))
        await api.at_rest(thread)
    assert server.traces() == ["answer 'so it is'"]


async def test_an_edit_that_is_nested_too_deep_to_be_shown_is_refused(
    server: Server, thread: str
) -> None:
    nested: Any = 1
    for _ in range(250):
        nested = {"in": nested}
    async with asking(server) as api:
        (approval,) = await api.paused("p1", agent="bare_inbox", thread_id=thread)
        refused = await problem(await api.resume(thread, type="edit", args=nested), 400)
        assert "nested too deeply" in refused["detail"]
        assert await api.pending(thread) == [approval]


# ── an answer that the graph itself does not take ─────────────────────────────────────────────────


@pytest.mark.parametrize("graph", ["trip", "noted_trip"])
async def test_an_answer_that_only_the_graph_can_refuse_is_asked_for_again(
    graph: str, server: Server, thread: str
) -> None:
    async with asking(server) as api:
        (first,) = await api.paused("ask", agent=graph, thread_id=thread)
        refused = await problem(await api.resume(thread, **answer({"day": "tomorrow"})), 422)
        assert "is not a 'date'" in refused["detail"]
        assert await api.pending(thread) == [first]

        before = len(await api.events(thread))
        for killed in (False, True):
            await api.decided(thread, **answer({"day": "2020-01-01"}))
            if killed:
                server.restart()
            assert (await api.at_rest(thread))["status"] == "interrupted"
            (again,) = await api.pending(thread)
            assert again["approval_id"] != first["approval_id"]
            assert (again["kind"], again["args"], again["schema"]) == (
                "input",
                first["args"],
                first["schema"],
            )
            assert "day: Value error, That day is over." in again["preview"]["problem"]
            first = again
        story = without_tokens(await api.events(thread, after=before))
        assert not {"error", "tool_error", "tool_unknown"} & set(story)
        assert story.count("approval_required") == 2

        await api.decided(thread, **answer({"day": "2031-01-01"}))
        await api.at_rest(thread)
    assert server.traces() == ["answer Trip(day=datetime.date(2031, 1, 1))"]


# ── several that ask in one node ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("graph", ["side_by_side", "noted_side_by_side"])
async def test_an_answer_goes_to_the_tool_that_asked_in_whatever_order_they_ask_again(
    graph: str, server: Server, thread: str
) -> None:
    async with asking(server) as api:
        said = {1: "yes", 2: "no"}
        server.ledger_file("first").write_text("1")
        await api.paused("consent 1; consent 2", agent=graph, thread_id=thread)
        asked: list[int] = []
        for _ in said:
            (approval,) = await api.pending(thread)
            assert approval["preview"] is None
            amount = approval["args"]["may"]
            asked.append(amount)
            # From now on the other one comes first.
            server.ledger_file("first").write_text(str(3 - asked[0]))
            await api.decided(thread, **answer(said[amount]))
            await api.at_rest(thread)
        assert sorted(asked) == [1, 2]
        assert await api.last_words(thread) == "Results: 1 was told yes | 2 was told no"
    told = sorted(server.traces())
    if graph == "side_by_side":
        # LangGraph makes all calls of a node again; with call_once none is made twice.
        told = sorted(set(told))
    assert told == ["told 1 yes", "told 2 no"]


async def test_tools_that_ask_in_the_same_words_get_their_own_answers(
    server: Server, thread: str
) -> None:
    async with asking(server) as api:
        await api.stream(
            "consent_alike 1; consent_alike 2", agent="noted_side_by_side", thread_id=thread
        )
        asked: list[str] = []
        for number in range(4):
            assert (await api.at_rest(thread))["status"] == "interrupted"
            (approval,) = await api.pending(thread)
            asked.append(approval["args"])
            if number == 2:
                server.restart()
            await api.decided(thread, **answer(str(number)))
        assert (await api.at_rest(thread))["status"] == "idle"
        assert sorted(asked) == ["May I?"] * 2 + ["Really?"] * 2
        told = server.traces()
        assert len(told) == 2
        answers = [line.split(" ", 2)[2] for line in told]
        assert sorted(re.findall(r"\d", "".join(answers))) == ["0", "1", "2", "3"]


async def test_a_node_that_asks_around_its_tool_call_gets_its_own_answers(
    server: Server, thread: str
) -> None:
    async with asking(server) as api:
        (approval,) = await api.paused("ask", agent="asking_around", thread_id=thread)
        state = await api.get(f"/threads/{thread}/state")
        (task,), call = state["tasks"], state["values"]["messages"][-1]["tool_calls"][0]
        # In this form the task keeps the answers of its tool calls.
        question = f"act:{task['id']}|{call['id']}|0"
        id = hashlib.sha256(question.encode()).hexdigest()[:32]
        forged = {"interrupt": id, "answer": "yes"}
        for asks, said in (("Before?", forged), ("May I?", 1), ("Really?", 2), ("After?", 3)):
            (approval,) = await api.pending(thread)
            assert approval["args"] == asks
            if asks == "Really?":
                server.restart()
            await api.decided(thread, **answer(said))
            await api.at_rest(thread)
        assert await api.pending(thread) == []
    assert server.traces() == ["told 1 [1, 2]", f"around {[forged, 3]}"]


async def test_a_pause_waits_for_the_tools_beside_the_one_that_asks(
    server: Server, thread: str
) -> None:
    """What they did is known by then, so it is neither done twice nor asked about."""
    async with asking(server) as api:
        server.ledger_file("first").write_text("1")
        run = await api.run(thread, "consent 1; slow 5", agent="noted_side_by_side")
        await server.until_traced("slow 5")
        finished = "SELECT 1 FROM effects WHERE tool = 'consent' AND status = 'finished'"
        await until(lambda: server.sql(finished))
        # Another run comes to its end meanwhile.
        await api.stream("ask", agent="question", thread_id="other")
        assert (await api.get(f"/threads/{thread}"))["status"] == "busy"
        server.let_go(5)
        await api.ended(run["run_id"])
        (approval,) = await api.pending(thread)
        assert (approval["kind"], approval["args"]) == ("input", {"may": 1})
        await api.decided(thread, **answer("yes"))
        assert await api.last_words(thread) == "Results: 1 was told yes | slowly paid 5"
    assert server.traces() == ["slow 5", "told 1 yes"]


@pytest.mark.parametrize("graph", ["quoting", "nested_quoting"])
async def test_an_answer_is_not_given_to_another_question_than_was_shown(
    graph: str, server: Server, thread: str
) -> None:
    async with asking(server) as api:
        server.ledger_file("price").write_text("5")
        (first,) = await api.paused("buy", agent=graph, thread_id=thread)
        assert first["args"] == {"buy at": "5"}
        server.ledger_file("price").write_text("7")
        await api.decided(thread, **answer("yes"))
        assert (await api.at_rest(thread))["status"] == "interrupted"
        (second,) = await api.pending(thread)
        assert second["args"] == {"buy at": "7"}
        assert "something else than what was answered" in second["preview"]["problem"]
        assert server.traces() == []
        server.restart()
        await api.decided(thread, **answer("all right"))
        await api.at_rest(thread)
    assert server.traces() == ["bought at 7: all right"]
