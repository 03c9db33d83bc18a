"""The functional API, and graphs that are tried again, over the real server and its death."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from assent.graph.kinds import RUNS_AGAIN, TRIED_AGAIN
from tests.graphs import retried, workflow
from tests.support.server import Api, Server, asking, expect, problem, serving
from tests.support.waiting import until

RETRIED = ("graph", "few", "other", "stopping", "paying", "noted")
GRAPHS = {
    "workflow": f"{workflow.__file__}:graph",
    "plain": f"{workflow.__file__}:plain",
    "number": f"{workflow.__file__}:number",
    **{name: f"{retried.__file__}:{name}" for name in RETRIED},
}
YES = {"type": "respond", "message": "yes"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("workflows")
    target = folder / "langgraph.json"
    target.write_text(json.dumps({"graphs": GRAPHS}))
    with serving(folder, str(target)) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_traces(server: Server) -> None:
    for file in server.folder.glob("ledger*"):
        file.unlink()


async def answer(api: Api, thread_id: str, *answers: Any) -> None:
    for decision in answers:
        (approval,) = await api.pending(thread_id)
        decided = await api.decided(thread_id, decisions={approval["approval_id"]: decision})
        await api.ended(decided["run_id"])


# ── the functional API ────────────────────────────────────────────────────────────────────────────


async def test_a_workflow_asks_dies_goes_on_and_ends(server: Server) -> None:
    async with asking(server) as api:
        (approval,) = await api.paused("Ada", agent="workflow", thread_id="w1")
        assert (approval["kind"], approval["args"]) == ("input", {"send": "Dear Ada"})
        assert approval["warnings"] == [RUNS_AGAIN]
        server.restart()
        assert await api.pending("w1") == [approval]
        await answer(api, "w1", YES)
        assert await api.last_words("w1") == "Dear Ada: yes"
    # A task that has ended is not done again; what is outside of any runs again.
    assert server.traces() == ["begin", "draft Ada", "begin", "send Dear Ada: yes"]


async def test_a_task_may_ask_too(server: Server) -> None:
    async with asking(server) as api:
        await api.stream("Bob, twice", agent="workflow", thread_id="w2")
        await answer(api, "w2", YES)
        (second,) = await api.pending("w2")
        assert second["args"] == {"really": "Dear Bob, twice"}
        server.restart()
        await answer(api, "w2", {"type": "respond", "message": "really"})
        assert await api.last_words("w2") == "Dear Bob, twice: yes, really"
    assert [line for line in server.traces() if line != "begin"] == [
        "draft Bob, twice",
        "send Dear Bob, twice: yes, really",
    ]


async def test_a_task_that_was_cut_off_runs_again(server: Server) -> None:
    async with asking(server) as api:
        await api.stream("Cleo slowly", agent="workflow", thread_id="w3")
        (approval,) = await api.pending("w3")
        await api.decided("w3", decisions={approval["approval_id"]: YES})
        await server.until_traced("send Dear Cleo slowly: yes")
        server.restart()
        server.let_go(1)
        assert await api.last_words("w3") == "Dear Cleo slowly: yes"
    assert server.traces("draft") == ["draft Cleo slowly"]
    assert server.traces("send") == ["send Dear Cleo slowly: yes"] * 2


async def test_a_workflow_remembers_what_it_returned(server: Server) -> None:
    async with asking(server) as api:
        for name in ("Dora", "Emil"):
            await api.stream(name, agent="workflow", thread_id="w4")
            await answer(api, "w4", YES)
        letters = (await api.get("/threads/w4/state"))["values"]["letters"]
    assert letters == ["Dear Dora: yes", "Dear Emil: yes"]


async def test_a_workflow_may_return_anything(server: Server) -> None:
    async with asking(server) as api:
        await api.stream("Ask.", agent="plain", thread_id="w8")
        await answer(api, "w8", {"type": "respond", "message": 2019})
        assert (await api.get("/threads/w8"))["values"] == "told 2019"
        assert (await api.events("w8"))[-1]["type"] == "done"


async def test_a_workflow_takes_any_argument_and_dies_with_it(server: Server) -> None:
    async with asking(server) as api:
        body = {"agent": "number", "thread_id": "w9", "input": 20}
        run = (await expect(await api.http.post("/agent/runs", json=body), 202)).json()
        await server.until_traced("halve 20")
        server.restart()
        server.let_go(1)
        assert (await api.ended(run["run_id"]))["status"] == "success"
        assert (await api.get("/threads/w9"))["values"] == 10
    assert server.traces() == ["halve 20"] * 2


async def test_a_workflow_that_waits_is_cancelled(server: Server) -> None:
    async with asking(server) as api:
        await api.stream("Finn", agent="workflow", thread_id="w5")
        await api.cancel("/threads/w5")
        assert (await api.at_rest("w5"))["status"] == "idle"
        assert await api.pending("w5") == []
        await api.stream("Gwen", agent="workflow", thread_id="w5")
        await answer(api, "w5", YES)
        assert await api.last_words("w5") == "Dear Gwen: yes"
    assert server.traces("send") == ["send Dear Gwen: yes"]


async def test_a_workflow_that_is_cut_off_is_cancelled(server: Server) -> None:
    async with asking(server) as api:
        await api.stream("Hal slowly", agent="workflow", thread_id="w6")
        (approval,) = await api.pending("w6")
        run = await api.decided("w6", decisions={approval["approval_id"]: YES})
        await server.until_traced("send Dear Hal slowly: yes")
        await api.cancel(f"/runs/{run['run_id']}", mode="rollback")
        assert (await api.at_rest("w6"))["status"] == "idle"
        await api.stream("Ida", agent="workflow", thread_id="w6")
        await answer(api, "w6", YES)
        assert await api.last_words("w6") == "Dear Ida: yes"


async def test_nobody_goes_back_in_a_workflow(server: Server) -> None:
    sentence = (
        "The agent 'workflow' is a workflow: its state is what it returned, so it cannot be "
        "forked, and cannot go on from a checkpoint. Start a new thread."
    )
    async with asking(server) as api:
        await api.stream("Jo", agent="workflow", thread_id="w7")
        checkpoint = (await api.get("/threads/w7/state"))["checkpoint"]
        for path, body in (
            ("/threads/w7/fork", {}),
            ("/agent/stream", {"thread_id": "w7", "checkpoint_id": checkpoint["checkpoint_id"]}),
        ):
            refused = await problem(await api.http.post(path, json=body), 422)
            assert sentence in refused["detail"]
        (approval,) = await api.pending("w7")
        assert approval["args"] == {"send": "Dear Jo"}
    assert server.traces() == ["begin", "draft Jo"]


# ── with_retry() ──────────────────────────────────────────────────────────────────────────────────


async def test_a_node_is_tried_again_where_it_failed_also_by_the_next_process(
    server: Server,
) -> None:
    async with asking(server) as api:
        run = await api.run("r1", "Go.", agent="graph")
        await server.until_traced("reach", times=3)
        server.kill()
        before = server.traces("reach")
        server.start()
        await until(lambda: len(server.traces("reach")) > len(before) + 1)
        server.let_go(1)
        await api.ended(run["run_id"])
        (approval,) = await api.pending("r1")
        assert approval["warnings"] == [TRIED_AGAIN]
        await answer(api, "r1", YES)
        assert await api.last_words("r1") == "Told: yes"
    assert server.traces("begin") == ["begin"]


@pytest.mark.parametrize(("agent", "times"), [("few", 3), ("other", 1)])
async def test_the_rule_of_the_graph_says_how_often_and_after_what(
    server: Server, agent: str, times: int
) -> None:
    async with asking(server) as api:
        events = await api.stream("Go.", agent=agent)
    assert events[-1]["type"] == "error"
    assert server.traces() == ["begin", *["reach"] * times]


async def test_a_node_that_a_person_approved_is_not_tried_again(server: Server) -> None:
    async with asking(server) as api:
        (approval,) = await api.paused("Go.", agent="stopping", thread_id="r2")
        decided = await api.decided("r2", decisions={approval["approval_id"]: {"type": "approve"}})
        assert (await api.ended(decided["run_id"]))["status"] == "error"
    assert server.traces() == ["begin", "reach"]


async def test_a_call_that_failed_is_not_made_again_unasked(server: Server) -> None:
    async with asking(server) as api:
        (approval,) = await api.paused("Pay.", agent="paying", thread_id="r3")
        assert approval["warnings"] == []
        decided = await api.decided("r3", decisions={approval["approval_id"]: {"type": "approve"}})
        await api.ended(decided["run_id"])
        # The model is told.
        assert await api.last_words("r3") == "Bye."
        assert server.traces() == ["pay 1"]

        (lost,) = await api.paused("Pay.", agent="noted", thread_id="r4")
        assert (lost["kind"], lost["args"]) == ("unknown_outcome", {"amount": 2})
    assert server.traces() == ["pay 1", "pay 2"]
