"""The two sources tell the same story, and it is the one that is written here."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count, groupby
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import (
    BaseCallbackHandler,
    CallbackManager,
    CallbackManagerForRetrieverRun,
)
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.runtime import RunControl, Runtime, get_runtime
from langgraph.store.memory import InMemoryStore
from msgspec import structs

from assent import astream_typed
from assent.core.events import (
    TERMINAL_TYPES,
    ApprovalRequired,
    Checkpoint,
    Event,
    Interrupt,
    LlmEnd,
    NodeEnd,
    RetrieverEnd,
    RetrieverStart,
    RunEvent,
    RunResumed,
    RunStart,
    StateUpdate,
    Token,
    encode,
    event_type,
)
from assent.graph.stream.astream_events import V2Mapper, run_graph_v2
from assent.graph.stream.callbacks import run_graph
from assent.graph.stream.jsonable import event_json
from tests.graph import scenarios
from tests.graph.scenarios import (
    ASKED,
    BASE64,
    IN_PARALLEL,
    SCENARIOS,
    SECRET,
    ChunkModel,
    PlainModel,
    Scenario,
    answering,
    model,
    one_node,
    said,
)
from tests.support.goldens import check_golden
from tests.support.models import call
from tests.support.openai_server import OpenAIServer, Say
from tests.support.waiting import PATIENCE

Source = Callable[..., Any]
THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}
GOLDENS = Path(__file__).parent / "goldens"
"""The events of each scenario, one on a line; of tasks that run at once, one after the other."""

both_sources = pytest.mark.parametrize("source", [run_graph, run_graph_v2])


# ── the same story ────────────────────────────────────────────────────────────────────────────────


@both_sources
@pytest.mark.parametrize("name", SCENARIOS)
async def test_each_source_tells_what_happened_and_no_secret(name: str, source: Source) -> None:
    """A handled tool's error is told to the model too, in a message that LangGraph's ToolNode
    writes: that is state, not ours to change."""
    events = await recorded(source, SCENARIOS[name]())
    beside_state = [event for event in events if not isinstance(event, StateUpdate)]
    assert not any(SECRET.encode() in encode(event) for event in beside_state)
    told = ["\n".join(line(event) for event in part) for part in parts(name, events)]
    check_golden(GOLDENS / f"{name}.txt", "\n\n".join(told))


def test_each_scenario_has_its_golden() -> None:
    assert {file.stem for file in GOLDENS.iterdir()} == set(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_stream_frames_what_either_source_tells_in_every_field(name: str) -> None:
    """Each run begins with a start and ends with one terminal event; in between is the source."""
    events = await streamed("callbacks", SCENARIOS[name]())
    astream_events = await streamed("astream_events", SCENARIOS[name]())
    assert parts(name, events) == parts(name, astream_events)
    runs = [list(run) for _, run in groupby(events, key=lambda event: event.run_id)]
    assert len(runs) == len(SCENARIOS[name]().inputs)
    for run in runs:
        ends = [event for event in run if event_type(event) in TERMINAL_TYPES]
        assert isinstance(run[0], RunStart | RunResumed)
        assert ends == [run[-1]]
    framing = RunEvent | ApprovalRequired | Interrupt | Checkpoint
    told = [event for event in events if not isinstance(event, framing)]
    source_alone = await recorded(run_graph, SCENARIOS[name]())
    assert parts(name, ignoring_run_ids(told)) == parts(name, ignoring_run_ids(source_alone))


@pytest.mark.parametrize("name", ["images", "refusal_and_audio"])
async def test_events_have_no_bytes_of_media(name: str) -> None:
    events = await recorded(run_graph, SCENARIOS[name]())
    assert not any(BASE64.encode() in encode(event) for event in events)
    (update,) = [event for event in events if isinstance(event, StateUpdate)]
    assert b"<5 bytes>" in encode(update)


async def recorded(source: Source, scenario: Scenario) -> list[Event]:
    """The events of all the scenario's runs, one after the other."""
    events: list[Event] = []
    for number, graph_input in enumerate(scenario.inputs, 1):
        run = source(
            scenario.graph,
            graph_input,
            THREAD,
            events.append,
            thread_id="thread",
            run_id=f"run {number}",
        )
        if scenario.raises and number == len(scenario.inputs):
            with pytest.raises(scenario.raises):
                await run
        else:
            await run
    assert {event.thread_id for event in events} == {"thread"}
    return events


async def streamed(source: Any, scenario: Scenario) -> list[Event]:
    """The events of all the scenario's runs, as `astream_typed` yields them."""
    events: list[Event] = []
    for number, graph_input in enumerate(scenario.inputs, 1):
        config: RunnableConfig = {**THREAD, "run_id": UUID(int=number)}
        expected: Any = nullcontext()
        if scenario.raises and number == len(scenario.inputs):
            expected = pytest.raises(scenario.raises)
        with expected:
            async for event in astream_typed(scenario.graph, graph_input, config, source=source):
                events.append(event)
    assert {event.thread_id for event in events} == {"1"}
    return events


def ignoring_run_ids(events: Iterable[Event]) -> list[Event]:
    return [structs.replace(event, thread_id="", run_id="") for event in events]


def parts(name: str, events: Iterable[Event]) -> list[list[dict[str, Any]]]:
    """The events in one part, or in one for each task if tasks run at once, in an order that does
    not depend on which was faster."""
    if name not in IN_PARALLEL:
        return [normalised(events)]
    tasks: dict[str, list[Event]] = {}
    for event in events:
        tasks.setdefault(getattr(event, "task_id", ""), []).append(event)
    return sorted(map(normalised, tasks.values()), key=lambda part: [line(event) for event in part])


MADE_ANEW = {
    *("task_id", "message_id", "id", "checkpoint_id", "parent_id"),
    *("approval_id", "approvals", "interrupt_id", "call_id"),
}
PATHS = {"ns", "langgraph_checkpoint_ns"}
TASK_ID = re.compile(r"(?<=:)[0-9a-f-]{36}")


def normalised(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The events as JSON without the time, and with the ids that are made anew for each run named
    in order of their appearance."""
    names: dict[str, str] = {}

    def name_of(id: str, key: str) -> str:
        return names.setdefault(id, f"{key}{len(names)}")

    def renamed(key: str, value: Any) -> Any:
        if key in PATHS and isinstance(value, str):
            return TASK_ID.sub(lambda id: name_of(id[0], "task_id"), value)
        if isinstance(value, dict):
            return {key: renamed(key, item) for key, item in value.items() if key != "ts"}
        if isinstance(value, list):
            return [renamed(key, item) for item in value]
        is_made_anew = key in MADE_ANEW and isinstance(value, str) and len(value) > 30
        return name_of(value, key) if is_made_anew else value

    return [renamed("", json.loads(encode(event))) for event in events]


LANGGRAPHS = ("triggers", "path", "metadata", "tags")
"""What events say in LangGraph's words, which are its own to change."""


def line(event: dict[str, Any]) -> str:
    """An event as one line: type, subgraphs/node#attempt, then what it says; messages in an update
    are cut down to type and content."""
    enclosing = [part.partition(":")[0] for part in event.get("ns", ())]
    where = "/".join((*enclosing, event.get("node", "")))
    attempt = f"#{event['attempt']}" if "attempt" in event else ""
    names = [event[key] for key in ("message_id", "tool", "tool_call_id") if key in event]
    told = {
        "type",
        "thread_id",
        "run_id",
        "node",
        "ns",
        "task_id",
        "attempt",
        "message_id",
        "tool",
        "tool_call_id",
        *LANGGRAPHS,
    }
    rest = {key: value for key, value in event.items() if key not in told}
    if "tool_calls" in rest:
        rest["tool_calls"] = {
            call["id"]: {call["name"]: call["args"]} for call in rest["tool_calls"]
        }
    if event["type"] == "state_update":
        rest = {
            channel: [message_line(item) for item in value] if channel == "messages" else value
            for channel, value in event["update"].items()
        }
    return " ".join(
        [
            event["type"],
            where + attempt,
            *names,
            *(f"{key}={json.dumps(value)}" for key, value in rest.items()),
        ]
    )


def message_line(message: dict[str, Any]) -> str:
    content = message["content"]
    blocks = [content] if isinstance(content, str) else content
    shown = [block if isinstance(block, str) else block["type"] for block in blocks]
    return f"{message['type']}: {' '.join(shown)}"


@both_sources
async def test_nothing_goes_on_after_an_event_that_cannot_be_taken(source: Source) -> None:
    def refuse(event: Event) -> None:
        if isinstance(event, Token):
            raise OverflowError("No room.")

    scenario = SCENARIOS["plain_chat"]()
    with pytest.raises(OverflowError):
        await source(scenario.graph, ASKED, THREAD, refuse, thread_id="thread", run_id="run")
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Loose(BaseRetriever):
    """Returns whatever it has."""

    has: Any

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> Any:
        return self.has


@both_sources
@pytest.mark.parametrize("has", [None, ["a text", None, scenarios.BOOKS[0]]])
async def test_a_retriever_may_be_asked_and_return_what_langchain_has_no_type_for(
    source: Source, has: Any
) -> None:
    async def look_up(state: MessagesState) -> None:
        question: Any = {"rain": 1}
        assert await Loose(has=has, name="loose").ainvoke(question) == has

    scenario = Scenario(graph=scenarios.one_node(look_up))
    events = await recorded(source, scenario)
    [start] = [event for event in events if isinstance(event, RetrieverStart)]
    [end] = [event for event in events if isinstance(event, RetrieverEnd)]
    ids = ["b1"] if has else []
    assert start.query == "{'rain': 1}"
    assert (end.count, [each.id for each in end.documents]) == (len(ids), ids)


# ── any runnable ──────────────────────────────────────────────────────────────────────────────────


async def mapped(runnable: Any, asked: Any, **options: Any) -> list[str]:
    """What the pure mapper makes of a runnable's raw events, without any notes."""
    mapper = V2Mapper()
    raw_events = [raw async for raw in runnable.astream_events(asked, version="v2", **options)]
    return [
        line(event)
        for event in normalised(event for raw in raw_events for event in mapper.feed(raw))
    ]


CHAT = ["llm_start  m1", 'token  m1 content="Hello "', 'token  m1 content="there"', "llm_end  m1"]


async def test_a_bare_chat_model() -> None:
    assert await mapped(model(said("Hello there", "m1")), "Hi") == CHAT


async def test_a_chain_tells_each_token_once() -> None:
    chain = ChatPromptTemplate.from_messages([("user", "{question}")]) | model(
        said("Hello there", "m1")
    )
    assert await mapped(chain, {"question": "Hi"}) == [
        "llm_start  m1 input_characters=2",
        *CHAT[1:],
    ]


async def test_a_bare_plain_model() -> None:
    told = await mapped(PlainModel(), "Hi")
    assert told == [
        "llm_start  message_id0",
        'token  message_id0 content="piece by "',
        'token  message_id0 content="piece"',
        "llm_end  message_id0",
    ]


async def test_a_bare_retriever() -> None:
    assert await mapped(scenarios.Library(books=scenarios.BOOKS[:1]), "rain") == [
        'retriever_start  retriever="Library" call_id="call_id0" query="rain"',
        'retriever_end  retriever="Library" call_id="call_id0" documents=[{"id": "b1", "text": '
        '"Rain falls.", "metadata": {"source": "weather.pdf", "page": 3}}] count=1',
    ]


async def test_a_bare_tool() -> None:
    assert await mapped(scenarios.read, {"path": "a"}) == [
        'tool_start  read input={"path": "a"}',
        'tool_end  read output="<a>"',
    ]


async def test_a_bare_tool_that_answers_a_call() -> None:
    asked = {"type": "tool_call", "id": "c1", "name": "read", "args": {"path": "a"}}
    assert await mapped(scenarios.read, asked) == [
        'tool_start  read c1 input={"path": "a"}',
        'tool_end  read c1 output="<a>"',
    ]


async def test_without_notes_the_answer_names_the_call() -> None:
    told = await mapped(SCENARIOS["tool_calls"]().graph, ASKED, config=THREAD)
    assert [one for one in told if one.startswith(("tool_start", "tool_end"))] == [
        'tool_start tools search input={"query": "rain", "state": "Oregon"}',
        'tool_end tools search c1 output="rain in Oregon"',
    ]


async def test_half_a_character_is_replaced() -> None:
    """A provider that cuts its stream amid a surrogate pair sends what UTF-8 cannot hold."""
    chunks = [AIMessageChunk(content="\ud83d", id="m1"), AIMessageChunk(content="é", id="m1")]
    assert await mapped(ChunkModel(chunks=chunks), "Hi") == [
        CHAT[0],
        'token  m1 content="?"',
        'token  m1 content="\\u00e9"',
        CHAT[-1],
    ]


async def test_a_graph_without_notes_has_no_call_ids_and_no_failures() -> None:
    scenario = SCENARIOS["failing_tool_unhandled"]()
    told: list[Event] = []
    mapper = V2Mapper()
    with pytest.raises(ValueError, match="postgres"):
        async for raw in scenario.graph.astream_events(ASKED, THREAD, version="v2"):
            told += mapper.feed(raw)
    assert [line(event) for event in normalised(told)][-3:] == [
        "node_start tools step=2",
        "tool_start tools broken input={}",
        'tool_error tools broken error={"type": "ValueError"}',
    ]


@pytest.mark.parametrize(
    "options",
    [{"stream_mode": ["custom", "updates"]}, {"stream_mode": ["custom"], "subgraphs": True}],
)
async def test_a_graph_that_somebody_else_streams_tells_what_was_written(
    options: dict[str, Any],
) -> None:
    told = await mapped(SCENARIOS["retried_node"]().graph, ASKED, config=THREAD, **options)
    assert [one for one in told if one.startswith("custom")] == ['custom  data="trying"'] * 2


# ── ids and time ──────────────────────────────────────────────────────────────────────────────────


@both_sources
@pytest.mark.parametrize(
    "name",
    ["plain_chat", "unnamed_message", "not_streaming", "nostream", "tool_calls", "retried_node"],
)
async def test_the_events_name_the_message_as_the_state_does(name: str, source: Source) -> None:
    scenario = SCENARIOS[name]()
    events = await recorded(source, scenario)
    in_state = [
        message.id
        for message in scenario.graph.get_state(THREAD).values["messages"]
        if isinstance(message, AIMessage)
    ]
    assert [event.message_id for event in events if isinstance(event, LlmEnd)] == in_state
    # A call that failed before it sent anything has no message.
    named = {event.message_id for event in events if hasattr(event, "message_id")} - {""}
    assert named == set(in_state)


@both_sources
async def test_the_provider_names_the_message_in_its_first_chunk_only(source: Source) -> None:
    chunks = [
        AIMessageChunk(content="a", id="resp_1"),
        AIMessageChunk(content="b"),
        AIMessageChunk(content="c", id="msg_1"),
    ]
    scenario = Scenario(graph=one_node(answering(ChunkModel(chunks=chunks))))
    events = await recorded(source, scenario)
    assert {event.message_id for event in events if hasattr(event, "message_id")} == {"resp_1"}
    assert scenario.graph.get_state(THREAD).values["messages"][-1].id == "resp_1"


@both_sources
@pytest.mark.parametrize("streaming", [True, False])
async def test_the_real_client_of_a_provider(source: Source, streaming: bool) -> None:
    async with OpenAIServer(Say("Good morning")) as server:
        client = ChatOpenAI(
            model="gpt-4o-mini",
            base_url=server.url,
            api_key="test",
            stream_usage=True,
            disable_streaming=not streaming,
        )
        scenario = Scenario(graph=one_node(answering(client)))
        events = await recorded(source, scenario)
    end = next(event for event in events if isinstance(event, LlmEnd))
    assert "".join(event.content for event in events if isinstance(event, Token)) == "Good morning"
    assert (end.model, end.finish_reason) == ("gpt-4o-mini", "stop")
    assert end.usage is not None
    assert end.usage.total_tokens > 0
    assert {event.message_id for event in events if hasattr(event, "message_id")} == {
        end.message_id
    }
    assert scenario.graph.get_state(THREAD).values["messages"][-1].id == end.message_id


async def test_a_call_began_when_the_model_was_called() -> None:
    """`llm_start` waits for the first chunk, its time does not."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    ticks = (began + timedelta(seconds=second) for second in count())
    events: list[Event] = []
    graph = SCENARIOS["plain_chat"]().graph
    await run_graph(
        graph, ASKED, THREAD, events.append, thread_id="t", run_id="r", now=lambda: next(ticks)
    )
    seconds = [(event.__struct_config__.tag, (event.ts - began).seconds) for event in events[:3]]
    assert seconds == [("node_start", 0), ("llm_start", 1), ("token", 2)]


# ── the run itself ────────────────────────────────────────────────────────────────────────────────


class Counting(BaseCallbackHandler):
    """A callback of the user's own."""

    run_inline = True

    def __init__(self) -> None:
        self.models = 0

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.models += 1


@both_sources
@pytest.mark.parametrize("as_manager", [True, False])
async def test_callbacks_in_the_config_are_kept(source: Source, as_manager: bool) -> None:
    counting = Counting()
    callbacks: Any = CallbackManager([counting], [counting]) if as_manager else [counting]
    config: RunnableConfig = {**THREAD, "callbacks": callbacks}
    await source(
        SCENARIOS["plain_chat"]().graph,
        ASKED,
        config,
        lambda event: None,
        thread_id="t",
        run_id="r",
    )
    assert counting.models == 1
    assert len(callbacks.handlers if isinstance(callbacks, CallbackManager) else callbacks) == 1


@both_sources
async def test_the_graphs_own_store_and_context_reach_its_nodes_and_tools(source: Source) -> None:
    store = InMemoryStore()
    store.put(("likes",), "ann", {"drink": "tea"})
    found: list[tuple[Any, Any]] = []

    def look(runtime: Runtime[str] | ToolRuntime[str]) -> None:
        assert runtime.store is not None
        item = runtime.store.get(("likes",), runtime.context)
        found.append((item and item.value, runtime.context))

    def likes(runtime: ToolRuntime[str]) -> str:
        """Say what somebody likes."""
        look(runtime)
        return "Said."

    def think(state: MessagesState, runtime: Runtime[str]) -> dict[str, Any]:
        look(runtime)
        return {"messages": [call("likes")]}

    inner = StateGraph(MessagesState, context_schema=str).add_node("think", think)
    inner.add_node("tools", ToolNode([likes])).add_edge("think", "tools")
    graph = StateGraph(MessagesState, context_schema=str)
    graph.add_node("inner", inner.add_edge(START, "think").compile())
    served = graph.add_edge(START, "inner").compile(store=store)
    await source(served, ASKED, {}, print, thread_id="t", run_id="r", context="ann")
    assert found == [({"drink": "tea"}, "ann")] * 2


@both_sources
async def test_nothing_is_emitted_after_the_run_was_cancelled(source: Source) -> None:
    """A sync node goes on in its thread."""
    entered, go_on, finished = threading.Event(), threading.Event(), threading.Event()
    talker = model(said("Too late", "m1"))

    def agent(state: MessagesState) -> None:
        entered.set()
        go_on.wait(PATIENCE)
        talker.invoke("Hi")
        finished.set()

    events: list[Event] = []
    run = asyncio.create_task(
        source(one_node(agent), ASKED, THREAD, events.append, thread_id="t", run_id="r")
    )
    await asyncio.to_thread(entered.wait, PATIENCE)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    go_on.set()
    await asyncio.to_thread(finished.wait, PATIENCE)
    assert finished.is_set()
    assert [event.__struct_config__.tag for event in events] == ["node_start"]


@both_sources
async def test_an_event_that_cannot_be_emitted_fails_the_run(source: Source) -> None:
    def emit(event: Event) -> None:
        if isinstance(event, Token):
            raise OSError("The log is gone.")

    with pytest.raises(OSError, match="The log is gone"):
        await source(
            SCENARIOS["plain_chat"]().graph, ASKED, THREAD, emit, thread_id="t", run_id="r"
        )


@both_sources
async def test_a_drained_run_stops_after_its_step(source: Source) -> None:
    control = RunControl()
    graph = (
        StateGraph(MessagesState)
        .add_node("first", lambda state: control.request_drain("sigterm"))
        .add_node("second", lambda state: None)
    )
    graph.add_edge(START, "first").add_edge("first", "second")
    events: list[Event] = []
    with pytest.raises(GraphDrained):
        await source(
            graph.compile(), ASKED, {}, events.append, thread_id="t", run_id="r", control=control
        )
    assert [event.node for event in events if isinstance(event, NodeEnd)] == ["first"]


@both_sources
async def test_the_context_reaches_the_nodes(source: Source) -> None:
    seen: list[Any] = []
    graph = (
        StateGraph(MessagesState)
        .add_node("only", lambda state: seen.append(get_runtime().context))
        .add_edge(START, "only")
        .compile()
    )
    await source(
        graph, ASKED, {}, lambda event: None, thread_id="t", run_id="r", context={"user": "ann"}
    )
    assert seen == [{"user": "ann"}]


class SlowSaver(InMemorySaver):
    """Takes its time to save, and tells when it is done."""

    def __init__(self, history: list[str]) -> None:
        super().__init__()
        self.history = history

    async def aput(self, *args: Any) -> RunnableConfig:
        await asyncio.sleep(0.02)
        self.history.append("saved")
        return await super().aput(*args)


@both_sources
async def test_a_step_is_saved_before_the_next_one_begins(source: Source) -> None:
    history: list[str] = []
    graph = StateGraph(MessagesState)
    graph.add_node("first", lambda state: history.append("first")).add_node(
        "second", lambda state: history.append("second")
    )
    graph.add_edge(START, "first").add_edge("first", "second")
    saving = graph.compile(checkpointer=SlowSaver(history))
    await source(saving, ASKED, THREAD, lambda event: None, thread_id="t", run_id="r")
    assert history[history.index("first") : history.index("second") + 1] == [
        "first",
        "saved",
        "second",
    ]


@both_sources
async def test_a_tool_outside_of_the_run_is_heard_by_nobody(source: Source) -> None:
    events: list[Event] = []
    await source(
        SCENARIOS["plain_chat"]().graph, ASKED, THREAD, events.append, thread_id="t", run_id="r"
    )
    told = len(events)
    ToolRuntime(
        state={}, context=None, config={}, stream_writer=print, tool_call_id=None, store=None
    ).emit_output_delta("late")
    assert len(events) == told


def test_injected_arguments_are_known_by_type_not_by_name() -> None:
    asked = {"state": "Oregon", "runtime": Runtime(), "store": InMemoryStore()}
    raw = {
        "event": "on_tool_start",
        "run_id": "1",
        "name": "search",
        "parent_ids": ["0"],
        "metadata": {},
        "data": {"input": asked},
    }
    assert [line(event) for event in normalised(V2Mapper().feed(raw))] == [
        'tool_start  search input={"state": "Oregon"}'
    ]


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────


class Sulking:
    """Cannot even be compared or printed."""

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.builds(Sulking)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.builds(Sulking), inner)
    ),
    max_leaves=20,
)


@pytest.mark.slow
@given(VALUES)
def test_any_value_can_be_shown(value: Any) -> None:
    msgspec.json.encode(event_json(value))


def test_a_value_that_contains_itself_is_shown_to_some_depth() -> None:
    endless: dict[str, Any] = {"name": "loop"}
    endless["again"] = endless
    shown = event_json(endless)
    assert shown["again"]["again"]["name"] == "loop"
    msgspec.json.encode(shown)


def test_what_cannot_be_shown_takes_nothing_else_with_it() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert event_json({"good": [1, Sulking()], "bad": endless})["good"] == [1, "<Sulking>"]


@both_sources
async def test_a_subgraph_tells_only_what_it_changed(source: Source) -> None:
    """Also where its state cannot be compared."""

    class State(MessagesState):
        opaque: Any
        note: str

    inner = (
        StateGraph(State)
        .add_node("think", lambda state: {"messages": [said("New", "m2")], "opaque": Sulking()})
        .add_edge(START, "think")
    )
    outer = StateGraph(State).add_node("inner", inner.compile()).add_edge(START, "inner").compile()
    events: list[Event] = []
    asked = {"messages": [said("Old", "m1")], "opaque": Sulking(), "note": "same"}
    await source(outer, asked, {}, events.append, thread_id="t", run_id="r")
    told = [
        event["update"]
        for event in normalised(events)
        if event["type"] == "state_update" and not event.get("ns")
    ]
    assert [(update.keys(), list(map(message_line, update["messages"]))) for update in told] == [
        ({"messages", "opaque"}, ["ai: New"])
    ]
