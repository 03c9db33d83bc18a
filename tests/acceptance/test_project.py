"""A project of LangGraph's CLI, served unchanged by its langgraph.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.support.server import asking, expect, problem, serving

TEMPLATE = Path(__file__).parents[1] / "graphs/template"


async def test_a_new_project_runs_without_its_variables(tmp_path: Path) -> None:
    folder = shutil.copytree(TEMPLATE, tmp_path / "project")
    with serving(tmp_path, str(folder / "langgraph.json")) as server:
        async with asking(server) as api:
            ended = await api.http.post("/agent/invoke", json={"input": {"changeme": "hello"}})
            assert ended.json()["status"] == "success", ended.text
            answer = "output from call_model. Configured with"
            state = await api.get(f"/threads/{ended.json()['thread_id']}/state")
            assert state["values"] == {"changeme": f"{answer} None"}

            context = {"my_configurable_param": "care"}
            body = {"input": {}, "context": context, "thread_id": "t"}
            await expect(await api.http.post("/agent/invoke", json=body), 200)
            state = await api.get("/threads/t/state")
            assert state["values"] == {"changeme": f"{answer} care"}

            refused = await problem(
                await api.http.post("/agent/invoke", json={"message": "Hi."}), 422
            )
            assert "keeps no messages, so it takes an 'input'" in refused["detail"]
        assert "the file of variables is not there" in server.output


MAKING = """
from contextlib import asynccontextmanager
from pathlib import Path

from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from langgraph_sdk.runtime import ServerRuntime

OPENED = Path(__file__).with_name("opened")


@asynccontextmanager
async def make(runtime: ServerRuntime):
    with OPENED.open("a") as file:
        file.write("+")
    try:
        runtime.store.get(("years",), "last")
    except RuntimeError as error:
        OPENED.with_name("refused").write_text(str(error))

    async def ask(state):
        year = interrupt("Which year?")
        await runtime.store.aput(("years",), "last", {"year": year})
        return {}

    def tell(state, *, store):
        return {"messages": [("ai", store.get(("years",), "last").value["year"])]}

    graph = StateGraph(MessagesState).add_node("ask", ask).add_node("tell", tell)
    yield graph.add_edge(START, "ask").add_edge("ask", "tell")
    with OPENED.open("a") as file:
        file.write("-")
"""


async def test_a_graph_that_is_made_waits_dies_and_goes_on_with_the_servers_store(
    tmp_path: Path,
) -> None:
    (tmp_path / "making.py").write_text(MAKING)
    opened = tmp_path / "opened"
    file = tmp_path / "langgraph.json"
    graphs = {"making": {"path": "./making.py:make", "description": "Asks for a year."}}
    file.write_text(json.dumps({"graphs": graphs, "env": {}, "dependencies": ["."]}))
    with serving(tmp_path, str(file)) as server:
        async with asking(server) as api:
            (listed,) = (await api.get("/agents"))["agents"]
            assert listed["description"] == "Asks for a year."
            (approval,) = await api.paused("Ask.", thread_id="t")
            server.restart()
            decisions = {approval["approval_id"]: {"type": "respond", "message": "2019"}}
            decided = await api.decided("t", decisions=decisions)
            await api.ended(decided["run_id"])
            assert await api.last_words("t") == "2019"
        # Once for each process, and closed by the one that was not killed.
        assert opened.read_text() == "++"
        sentence = "The store is not open while graphs are made. Use it in their nodes and tools."
        assert (tmp_path / "refused").read_text() == sentence
        server.terminate()
        assert opened.read_text() == "++-"
