"""What events repeat of LangGraph's and LangChain's words, and what they leave out of them."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessageChunk

from assent.core.events import Event, LlmStart, NodeStart, encode
from assent.graph.stream.mapping import CALL_BYTES, EventMapper

IN_A_SUBGRAPH: dict[str, Any] = {
    "langgraph_node": "think",
    "langgraph_step": 2,
    "langgraph_checkpoint_ns": "outer:6f2c|1|think:77aa",
    "langgraph_triggers": ("branch:to:think",),
    "langgraph_path": ("__pregel_pull", "think"),
}


def call_started(tags: list[str] | None, metadata: dict[str, Any]) -> LlmStart:
    events: list[Event] = []
    mapper = EventMapper(events.append)
    mapper.model_start("call", tags, metadata)
    mapper.model_chunk("call", AIMessageChunk("", id="m"))
    [started] = events
    assert isinstance(started, LlmStart)
    return started


def test_a_node_says_where_it_stands_and_what_started_it() -> None:
    events: list[Event] = []
    EventMapper(events.append).chain_start("1", "think", ["graph:step:2"], IN_A_SUBGRAPH)
    [started] = events
    assert isinstance(started, NodeStart)
    assert (started.ns, started.task_id) == (("outer:6f2c", "1"), "77aa")
    assert started.triggers == ("branch:to:think",)
    assert started.path == ["__pregel_pull", "think"]


def test_a_call_says_what_langgraph_and_langchain_say_of_it() -> None:
    started = call_started(
        ["seq:step:1", "graph:step:2", "langsmith:hidden", "nostream", "draft"],
        {
            **IN_A_SUBGRAPH,
            "ls_provider": "openai",
            "thread_id": "t",
            "secret": "sk-1",
            "langgraph_auth_user_id": "ann",
        },
    )
    assert started.tags == ("draft",)
    assert started.metadata.keys() == {*IN_A_SUBGRAPH, "ls_provider"}
    assert started.metadata["langgraph_triggers"] == ["branch:to:think"]


def test_what_is_said_of_a_call_is_bounded() -> None:
    started = call_started(None, {"ls_provider": "openai", "ls_stop": ["x" * 3000] * 2})
    assert started.metadata == {"ls_provider": "openai"}
    many = call_started(None, {f"ls_{number:04}": "x" * 20 for number in range(1000)})
    assert len(encode(many)) < 2 * CALL_BYTES


def test_what_cannot_be_json_is_named() -> None:
    started = call_started(None, {"ls_client": object()})
    assert started.metadata == {"ls_client": "<object>"}
