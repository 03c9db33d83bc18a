"""Answers and what becomes of them, over the real server: each goes to the question that it was
given to, or the question is asked again. The graphs are other people's.

One server serves all of these tests, and some of them kill it: each looks at its own threads, and
at the traces that are new.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from assent.core.digest import call_digest
from tests.support import any_graphs
from tests.support.server import Server, asking, problem, serving, types_of

APPROVE = {"type": "approve"}
NO = "A person rejected this call. It did not run. The reason: No."


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    names = (*any_graphs.UNLISTED, "bare_inbox", "question")
    target = folder / "langgraph.json"
    target.write_text(
        json.dumps({"graphs": {name: f"{any_graphs.__file__}:{name}" for name in names}})
    )
    with serving(folder, str(target)) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    """The server, and no traces yet."""
    shared.ledger.unlink(missing_ok=True)
    return shared


@pytest.fixture
def thread() -> str:
    return uuid4().hex


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
        refused = await problem(await api.resume(thread, type="edit", args=nested), 422)
        assert "nested deeper than 100 levels" in refused["detail"]
        assert await api.pending(thread) == [approval]
