"""Query sockets in an app of somebody's own: which agent answers, and how it gets to know its
case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Header
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from starlette.testclient import TestClient, WebSocketDenialResponse
from typing_extensions import TypedDict

from assent import Assent
from assent.core.named_ids import named_id


class Numbered(TypedDict):
    """A context in which a case has a number."""

    case_id: int


class Total(TypedDict):
    """A state without messages."""

    total: int


def graph_of(state: Any, node: Any, **options: Any) -> Any:
    graph = StateGraph(state, **options).add_node("node", node)
    return graph.add_edge(START, "node").compile()


def said(text: str) -> dict[str, Any]:
    return {"messages": [AIMessage(text)]}


def by_context(state: MessagesState, runtime: Runtime[Numbered]) -> Any:
    return said(f"case {runtime.context['case_id']} by context")


def by_config(state: MessagesState, config: RunnableConfig) -> Any:
    return said(f"case {config['configurable'].get('case_id')} by config")


def total(state: Total) -> Total:
    return {"total": 1}


KEYS = {"ann": "secret-of-ann"}
BY_ANN = {"authorization": "Bearer secret-of-ann"}

AGENTS = {
    "counter": graph_of(Total, total),
    "config": graph_of(MessagesState, by_config),
    "context": graph_of(MessagesState, by_context, context_schema=Numbered),
}


def by_header(x_user: str | None = Header(None)) -> str | None:
    return x_user


def answer(client: TestClient, path: str, *queries: Any, **headers: str) -> list[Any]:
    """The last event of each query."""
    ends = []
    with client.websocket_connect(path, headers=headers) as socket:
        assert socket.receive_json()["type"] == "connection_established"
        for query in queries:
            socket.send_json(query)
            told = socket.receive_json()
            while told["type"] not in ("agent_execution_complete", "agent_execution_error"):
                told = socket.receive_json()
            ends.append(told)
    return ends


def test_an_agent_gets_its_case_as_its_graph_declares_it(tmp_path: Path) -> None:
    config = tmp_path / "assent.toml"
    config.write_text('[configurable]\nconfig = ["case_id"]\n')
    settings = {"config": str(config), "api_keys": KEYS}
    assent = Assent(AGENTS, database=str(tmp_path / "a.db"), settings=settings)
    asked = {"query": "Which?", "case_id": 7}
    with TestClient(assent.app, headers=BY_ANN) as client:
        # The first agent takes no messages.
        [end] = answer(client, "/ws/query", asked)
        assert end["output_data"]["answer"] == "case 7 by config"
        [none] = answer(client, "/ws/query?agent=config", {"query": "Which?"})
        assert none["output_data"]["answer"] == "case None by config"
        seven, named = answer(
            client, "/ws/query?agent=context", asked, {"query": "Which?", "case_id": "seven"}
        )
        assert seven["output_data"]["answer"] == "case 7 by context"
        assert named["type"] == "agent_execution_error"
        assert "'case_id'" in named["error"]
        for name, status in (("counter", 422), ("nobody", 404)):
            with pytest.raises(WebSocketDenialResponse) as denied:
                answer(client, f"/ws/query?agent={name}")
            assert denied.value.status_code == status


def test_without_an_agent_for_messages_there_is_none_for_queries(tmp_path: Path) -> None:
    counter, settings = {"counter": AGENTS["counter"]}, {"api_keys": KEYS}
    assent = Assent(counter, database=str(tmp_path / "a.db"), settings=settings)
    with (
        TestClient(assent.app, headers=BY_ANN) as client,
        pytest.raises(WebSocketDenialResponse) as denied,
    ):
        answer(client, "/ws/query")
    assert denied.value.status_code == 404


def test_within_an_app_each_of_its_people_has_their_own_cases(tmp_path: Path) -> None:
    assent = Assent({"config": AGENTS["config"]}, database=str(tmp_path / "a.db"), auth=by_header)
    host = FastAPI(lifespan=assent.lifespan)
    host.mount("/ai", assent.app)
    host.include_router(assent.router, prefix="/in")
    with TestClient(host, base_url="http://shop.example") as client:
        for prefix in ("/ai", "/in"):
            for user in ("ann", "bob"):
                headers = {"x-user": user}
                asked = {"query": "Hi", "case_id": 1, "query_id": f"{prefix} {user}"}
                [end] = answer(client, f"{prefix}/ws/query", asked, **headers)
                thread = named_id("case", user, "config", "1")
                assert end["metadata"]["thread_id"] == thread
                assert end["type"] == "agent_execution_complete"
