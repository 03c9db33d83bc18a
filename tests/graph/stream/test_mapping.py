"""What events repeat of LangGraph's and LangChain's words, and what they leave out of them."""

from __future__ import annotations

from asyncio import CancelledError
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langgraph.errors import GraphInterrupt

from assent.core.events import (
    ErrorInfo,
    Event,
    LlmError,
    LlmStart,
    NodeStart,
    RetrieverError,
    encode,
)
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


def test_a_call_says_how_much_text_it_was_given_and_counts_no_media() -> None:
    image = {"type": "image", "base64": "x" * 5000, "mime_type": "image/png"}
    messages = [SystemMessage("Be brief."), HumanMessage([{"type": "text", "text": "Hi"}, image])]
    for given, characters in (([messages], 11), (["Hello"], 5), ((), 0)):
        events: list[Event] = []
        mapper = EventMapper(events.append)
        mapper.model_start("call", None, None, given)
        mapper.model_text("call", "So")
        started = events[0]
        assert isinstance(started, LlmStart)
        assert started.input_characters == characters


@pytest.mark.parametrize(
    "error", [CancelledError(), GeneratorExit(), GraphInterrupt(), ConnectionError("secret")]
)
def test_what_failed_is_told_and_what_was_stopped_is_not(error: BaseException) -> None:
    events: list[Event] = []
    mapper = EventMapper(events.append)
    mapper.model_start("call", None, {"ls_model_name": "talker-1"})
    mapper.model_error("call", error)
    mapper.retriever_start("look", "library", "rain", None)
    mapper.retriever_error("look", error)
    failed = [event for event in events if isinstance(event, LlmError | RetrieverError)]
    if not isinstance(error, ConnectionError):
        assert failed == []
        return
    of_model, of_retriever = failed
    assert isinstance(of_model, LlmError) and isinstance(of_retriever, RetrieverError)
    assert (of_model.message_id, of_model.model) == ("", "talker-1")
    assert (of_retriever.retriever, of_retriever.call_id) == ("library", "look")
    assert of_model.error == of_retriever.error == ErrorInfo(type="ConnectionError")
