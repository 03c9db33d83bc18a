"""Graphs that between them do everything that a graph can report, built anew for each run so that
nothing is left over from another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun, adispatch_custom_event
from langchain_core.documents import Document
from langchain_core.language_models import LLM, BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, GenerationChunk
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import ToolException, create_retriever_tool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.errors import NodeTimeoutError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.pregel import Pregel
from langgraph.types import Command, RetryPolicy, Send, TimeoutPolicy, interrupt

from assent import build_hitl_agent
from assent.core.errors import NotFound
from tests.support.models import ScriptedModel

Graph = Pregel[Any, Any, Any, Any]
ASKED: dict[str, Any] = {"messages": [("user", "Hi")]}
SECRET = "postgres://admin:hunter2@db"
ONCE_MORE = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2)


BASE64 = "aW1hZ2U="
"""Five bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A graph, what it is sent one run after the other on one thread, and the exception that the
    last run ends with."""

    graph: Graph
    inputs: Sequence[Any] = (ASKED,)
    raises: type[BaseException] | None = None


class ChunkModel(BaseChatModel):
    """Streams exactly the given chunks, for what a provider sends besides text."""

    chunks: list[AIMessageChunk]

    @property
    def _llm_type(self) -> str:
        return "chunks"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="", id="whole"))])

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self.chunks:
            yield ChatGenerationChunk(message=chunk.model_copy(deep=True))

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self.chunks:
            yield ChatGenerationChunk(message=chunk.model_copy(deep=True))


class PlainModel(LLM):
    """Text in, text out."""

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
        return "whole"

    async def _astream(
        self, prompt: str, *args: Any, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[GenerationChunk]:
        for piece in ("piece by ", "piece"):
            chunk = GenerationChunk(text=piece)
            await run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk


def said(text: str, message_id: str | None = None, **kwargs: Any) -> AIMessage:
    return AIMessage(text, id=message_id, **kwargs)


def called(message_id: str, *calls: tuple[str, str, dict[str, Any]]) -> AIMessage:
    """A message that calls tools, each given as (id, name, arguments)."""
    return AIMessage(
        "",
        id=message_id,
        tool_calls=[tool_call(name=name, args=args, id=id_) for id_, name, args in calls],
    )


def model(*messages: Any, **kwargs: Any) -> ScriptedModel:
    return ScriptedModel(script=list(messages), **kwargs)


def answering(chat_model: Any) -> Callable[..., Any]:
    """A node that asks the model."""

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await chat_model.ainvoke(state["messages"])]}

    return agent


def one_node(node: Any, name: str = "agent", **kwargs: Any) -> Graph:
    graph = StateGraph(MessagesState).add_node(name, node, **kwargs).add_edge(START, name)
    return graph.compile(checkpointer=InMemorySaver())


def plain_chat() -> Scenario:
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    answer = said(
        "Hello there",
        "m1",
        usage_metadata=usage,
        response_metadata={"finish_reason": "stop", "model_name": "talker-1"},
    )
    return Scenario(graph=one_node(answering(model(answer))))


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────


@tool
async def search(query: str, state: str, runtime: ToolRuntime) -> str:
    """Search; an argument is named like what LangGraph injects."""
    runtime.emit_output_delta({"found": 1})
    get_stream_writer()({"progress": 0.5, "message": "half"})
    return f"{query} in {state}"


@tool
def read(path: str) -> str:
    """Read."""
    return f"<{path}>"


@tool
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


@tool
def broken() -> str:
    """Fail with a text that nobody may see."""
    raise ValueError(SECRET)


@tool
def refusing() -> str:
    """Fail with a text that was written to be seen."""
    raise ToolException("There is no such record.")


def excusing() -> Any:
    """A tool that turns its own exception into an answer."""

    @tool
    def excuse() -> str:
        """Excuse."""
        raise ToolException("Not today.")

    excuse.handle_tool_error = True
    return excuse


@tool
def hand_back() -> Command[Any]:
    """Answer with a command."""
    return Command(update={"messages": [ToolMessage("handed back", tool_call_id="c1")]})


def tool_loop(chat_model: Any, tools: Sequence[Any], **tool_node: Any) -> Graph:
    """An agent that calls its tools, all of a turn in one node, until it calls none."""
    graph = StateGraph(MessagesState)
    graph.add_node("agent", answering(chat_model))
    graph.add_node("tools", ToolNode(tools, **tool_node))
    graph.add_edge(START, "agent").add_edge("tools", "agent")
    graph.add_conditional_edges(
        "agent", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END]
    )
    return graph.compile(checkpointer=InMemorySaver())


def tool_calls() -> Scenario:
    script = called("m1", ("c1", "search", {"query": "rain", "state": "Oregon"})), said("Wet", "m2")
    return Scenario(graph=tool_loop(model(*script), [search]))


def failing_tool() -> Scenario:
    script = (
        called("m1", ("c1", "broken", {})),
        called("m2", ("c2", "refusing", {})),
        called("m3", ("c3", "excuse", {})),
        said("Sorry", "m4"),
    )
    return Scenario(
        graph=tool_loop(model(*script), [broken, refusing, excusing()], handle_tool_errors=True)
    )


def failing_tool_unhandled() -> Scenario:
    graph = tool_loop(model(called("m1", ("c1", "broken", {}))), [broken], handle_tool_errors=False)
    return Scenario(graph=graph, raises=ValueError)


class Library(BaseRetriever):
    """Finds all that it has; without anything it fails."""

    books: list[Document] = []

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        if not self.books:
            raise ConnectionError(SECRET)
        return self.books


BOOKS = [
    Document("Rain falls.", id="b1", metadata={"source": "weather.pdf", "page": 3}),
    Document("Sun shines.", metadata={"long": "x" * 3000}),
]


def retriever() -> Scenario:
    """A tool asks a retriever, and hands on what that has found beside what it says itself."""
    look_up = create_retriever_tool(
        Library(books=BOOKS, name="library"),
        "look_up",
        "Look up.",
        response_format="content_and_artifact",
    )
    script = called("m1", ("c1", "look_up", {"query": "rain"})), said("It falls.", "m2")
    return Scenario(graph=tool_loop(model(*script), [look_up]))


def failing_retriever() -> Scenario:
    async def look_up(state: MessagesState) -> None:
        await Library(name="library").ainvoke("rain")

    return Scenario(graph=one_node(look_up), raises=ConnectionError)


def tool_with_command() -> Scenario:
    return Scenario(
        graph=tool_loop(model(called("m1", ("c1", "hand_back", {})), said("Ok", "m2")), [hand_back])
    )


def gated_and_free() -> Scenario:
    """Two free calls run at once, one task each; the gated one waits before `approval`, and runs
    when the thread goes on."""
    free = {"read"}

    def pending(state: MessagesState) -> list[Any]:
        answered = {
            message.tool_call_id
            for message in state["messages"]
            if isinstance(message, ToolMessage)
        }
        asked = next(
            message for message in reversed(state["messages"]) if isinstance(message, AIMessage)
        )
        return [call for call in asked.tool_calls if call["id"] not in answered]

    def route(state: MessagesState) -> Any:
        calls = pending(state)
        return [Send("tools", {"calls": [call]}) for call in calls if call["name"] in free] or (
            "approval" if calls else "agent"
        )

    def approved(state: MessagesState) -> Any:
        return [Send("tools", {"calls": [call]}) for call in pending(state)]

    async def tools(task: dict[str, Any]) -> dict[str, Any]:
        by_name = {"read": read, "pay": pay}
        return {"messages": [await by_name[call["name"]].ainvoke(call) for call in task["calls"]]}

    turn = called(
        "m1",
        ("c1", "read", {"path": "a"}),
        ("c2", "pay", {"amount": 3}),
        ("c3", "read", {"path": "b"}),
    )
    graph = StateGraph(MessagesState)
    graph.add_node("agent", answering(model(turn, said("Done", "m2"))))
    graph.add_node("tools", tools)
    graph.add_node("settle", lambda state: None)
    graph.add_node("approval", lambda state: None)
    graph.add_edge(START, "agent").add_edge("tools", "settle")
    graph.add_conditional_edges(
        "agent", lambda state: route(state) if state["messages"][-1].tool_calls else END
    )
    graph.add_conditional_edges("settle", route, ["tools", "approval", "agent"])
    graph.add_conditional_edges("approval", approved, ["tools"])
    return Scenario(
        graph=graph.compile(checkpointer=InMemorySaver(), interrupt_before=["approval"]),
        inputs=(ASKED, None),
    )


# ── graphs in graphs ──────────────────────────────────────────────────────────────────────────────


def subgraph() -> Scenario:
    """One subgraph is a node, and another one is called by a node twice."""
    inner = (
        StateGraph(MessagesState)
        .add_node("think", answering(model(said("Hm", "m1"))))
        .add_edge(START, "think")
        .compile()
    )
    called_one = (
        StateGraph(MessagesState)
        .add_node("step", lambda state: None)
        .add_edge(START, "step")
        .compile()
    )

    async def calling(state: MessagesState) -> None:
        await called_one.ainvoke(ASKED)
        await called_one.ainvoke(ASKED)

    graph = StateGraph(MessagesState).add_node("inner", inner).add_node("calling", calling)
    graph.add_edge(START, "inner").add_edge("inner", "calling")
    return Scenario(graph=graph.compile(checkpointer=InMemorySaver()))


def handing_over() -> Scenario:
    """A node in a subgraph sends the outer graph on to another node."""

    def leave(state: MessagesState) -> Command[Any]:
        return Command(graph=Command.PARENT, goto="other", update={"messages": [said("Bye", "m1")]})

    inner = StateGraph(MessagesState).add_node("leave", leave).add_edge(START, "leave").compile()
    graph = (
        StateGraph(MessagesState)
        .add_node("inner", inner, destinations=("other",))
        .add_node("other", lambda state: None)
    )
    return Scenario(graph=graph.add_edge(START, "inner").compile(checkpointer=InMemorySaver()))


def functional() -> Scenario:
    """LangGraph's functional API: a task that another one calls is in the same graph. Only the
    entrypoint is a node."""
    talker = model(said("Hello", "m1"))

    @task
    async def ask() -> AIMessage:
        return await talker.ainvoke("Hi")

    @task
    async def outer() -> str:
        return str((await ask()).content)

    @entrypoint(checkpointer=InMemorySaver())
    async def workflow(question: str) -> dict[str, str]:
        return {"answer": await outer()}

    return Scenario(graph=workflow, inputs=("Hi",))


def parallel_branches() -> Scenario:
    graph = StateGraph(MessagesState)
    for branch in ("left", "right"):
        graph.add_node(
            branch, answering(model(said(f"{branch} one two three", branch), delay=0.001))
        )
        graph.add_edge(START, branch)
    return Scenario(graph=graph.compile(checkpointer=InMemorySaver()))


# ── failures ──────────────────────────────────────────────────────────────────────────────────────


def retried_node() -> Scenario:
    answers = iter([ConnectionError(SECRET), said("Up again", "m1")])
    talker = model(next(answers), next(answers))

    async def flaky(state: MessagesState) -> dict[str, Any]:
        get_stream_writer()("trying")
        return {"messages": [await talker.ainvoke(state["messages"])]}

    return Scenario(graph=one_node(flaky, retry_policy=ONCE_MORE))


def cut_off_in_the_middle() -> Scenario:
    """The model breaks off after its first words."""

    return Scenario(graph=one_node(answering(Breaking())), raises=ConnectionError)


class Breaking(BaseChatModel):
    """Breaks off after its first words, as often as it is to; then it answers."""

    breaks: int = 1
    calls: list[Any] = []

    @property
    def _llm_type(self) -> str:
        return "breaking"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.calls.append(messages)
        yield ChatGenerationChunk(message=AIMessageChunk(content="So", id=f"m{len(self.calls)}"))
        if len(self.calls) <= self.breaks:
            raise ConnectionError(SECRET)


def node_retried_in_the_middle() -> Scenario:
    """Its first call ends well, its second one breaks off, and with the node both are made again:
    all that was said is void."""
    first, second = model(said("One", "a1"), said("One", "a2")), Breaking()

    async def twice(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await first.ainvoke("Hi"), await second.ainvoke("Hi")]}

    return Scenario(graph=one_node(twice, retry_policy=ONCE_MORE))


def model_retried() -> Scenario:
    """Our own agent calls its model again."""
    retry = RetryPolicy(initial_interval=0.001, backoff_factor=2, jitter=False, max_attempts=3)
    agent = build_hitl_agent(
        Breaking(breaks=2), [], approve=[], model_retry=retry, checkpointer=InMemorySaver()
    )
    return Scenario(graph=agent)


def model_retried_in_vain() -> Scenario:
    retry = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2)
    agent = build_hitl_agent(
        Breaking(breaks=2), [], approve=[], model_retry=retry, checkpointer=InMemorySaver()
    )
    return Scenario(graph=agent, raises=ConnectionError)


def tool_out_of_time() -> Scenario:
    @tool
    async def wait() -> str:
        """Wait."""
        get_stream_writer()({"progress": 0.1})
        await asyncio.Event().wait()
        return "never"

    script = called("m1", ("c1", "wait", {})), said("Slow", "m2")
    agent = build_hitl_agent(
        model(*script),
        [wait],
        approve=[],
        effects={"wait": "none"},
        tool_timeout=0.5,
        checkpointer=InMemorySaver(),
    )
    return Scenario(graph=agent)


def failing_node() -> Scenario:
    def fail(state: MessagesState) -> None:
        raise ValueError(SECRET)

    return Scenario(graph=one_node(fail), raises=ValueError)


def failing_node_that_may_speak() -> Scenario:
    def fail(state: MessagesState) -> None:
        raise NotFound("There is no record 7.")

    return Scenario(graph=one_node(fail), raises=NotFound)


def failing_subgraph() -> Scenario:
    def fail(state: MessagesState) -> None:
        raise ValueError(SECRET)

    inner = StateGraph(MessagesState).add_node("fail", fail).add_edge(START, "fail").compile()
    return Scenario(graph=one_node(inner, "inner"), raises=ValueError)


def failing_sibling() -> Scenario:
    """The other branch is cancelled, which is no failure of its own."""

    async def fail(state: MessagesState) -> None:
        await asyncio.sleep(0.01)
        raise ValueError(SECRET)

    async def wait(state: MessagesState) -> None:
        await asyncio.sleep(60)

    graph = (
        StateGraph(MessagesState)
        .add_node("fail", fail)
        .add_node("wait", wait)
        .add_edge(START, "fail")
        .add_edge(START, "wait")
    )
    return Scenario(graph=graph.compile(checkpointer=InMemorySaver()), raises=ValueError)


def handled_failure() -> Scenario:
    """Another node takes over from the one that failed."""

    def fail(state: MessagesState) -> None:
        raise ValueError(SECRET)

    def mend(state: MessagesState) -> dict[str, Any]:
        return {"messages": [said("Mended", "m1")]}

    graph = (
        StateGraph(MessagesState).add_node("fail", fail, error_handler=mend).add_edge(START, "fail")
    )
    return Scenario(graph=graph.compile(checkpointer=InMemorySaver()))


def out_of_time() -> Scenario:
    """The first attempt is cut off, and so is the second, which is the last."""

    async def hang(state: MessagesState) -> None:
        await asyncio.sleep(60)

    graph = one_node(hang, timeout=TimeoutPolicy(run_timeout=0.02), retry_policy=ONCE_MORE)
    return Scenario(graph=graph, raises=NodeTimeoutError)


def out_of_time_beside_another() -> Scenario:
    """The node that is cut off fails; the one beside it is only cancelled."""

    async def hang(state: MessagesState) -> None:
        await asyncio.sleep(60)

    graph = (
        StateGraph(MessagesState)
        .add_node("hang", hang, timeout=TimeoutPolicy(run_timeout=0.02))
        .add_node("wait", hang)
    )
    graph.add_edge(START, "hang").add_edge(START, "wait")
    return Scenario(graph=graph.compile(checkpointer=InMemorySaver()), raises=NodeTimeoutError)


# ── pauses ────────────────────────────────────────────────────────────────────────────────────────


def static_pause() -> Scenario:
    graph = (
        StateGraph(MessagesState)
        .add_node("first", lambda state: None)
        .add_node("second", lambda state: None)
    )
    graph.add_edge(START, "first").add_edge("first", "second")
    return Scenario(
        graph=graph.compile(checkpointer=InMemorySaver(), interrupt_before=["second"]),
        inputs=(ASKED, None),
    )


def dynamic_interrupt() -> Scenario:
    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [said(interrupt("How much?"), "m1")]}

    return Scenario(graph=one_node(ask, "ask"), inputs=(ASKED, Command(resume="three")))


def interrupt_in_a_tool() -> Scenario:
    @tool
    def transfer(amount: int) -> str:
        """Ask before transferring."""
        return f"{amount}: {interrupt('Sure?')}"

    graph = tool_loop(
        model(called("m1", ("c1", "transfer", {"amount": 3})), said("Done", "m2")), [transfer]
    )
    return Scenario(graph=graph, inputs=(ASKED, Command(resume="yes")))


# ── models ────────────────────────────────────────────────────────────────────────────────────────


def reasoning() -> Scenario:
    """Reasoning as several providers send it, with text and a tool call in the same message."""
    contents: list[Any] = [
        [{"type": "thinking", "thinking": "Let me ", "index": 0}],
        [{"type": "thinking", "thinking": "see.", "index": 0}],
        [{"type": "thinking", "signature": "abc", "index": 0}],
        [
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "In short", "index": 0}],
                "index": 1,
            }
        ],
        [{"type": "reasoning", "reasoning": "Standard", "index": 2}],
        [{"type": "text", "text": "Yes", "index": 3}],
        [],
    ]
    chunks = [AIMessageChunk(content=content, id="m1") for content in contents]
    chunks.append(
        AIMessageChunk(content="", id="m1", additional_kwargs={"reasoning_content": "Deep"})
    )
    deltas = [
        {"name": "read", "args": "", "id": "c1", "index": 4},
        {"name": None, "args": '{"path": "a"}', "id": None, "index": 4},
    ]
    chunks += [AIMessageChunk(content=[], id="m1", tool_call_chunks=[delta]) for delta in deltas]
    return Scenario(graph=one_node(answering(ChunkModel(chunks=chunks))))


def refusal_and_audio() -> Scenario:
    """Words beside the text: as OpenAI's two interfaces write them, and in standard blocks."""
    extras: list[dict[str, Any]] = [
        {"refusal": "I will "},
        {"refusal": "not."},
        {"audio": {"id": "a1", "transcript": "Spoken "}},
        {"audio": {"transcript": "words"}},
        {"audio": {"data": BASE64}},
    ]
    chunks = [AIMessageChunk(content="", id="m1", additional_kwargs=extra) for extra in extras]
    contents: list[Any] = [
        [{"type": "refusal", "refusal": "Nor this.", "index": 1}],
        [{"type": "non_standard", "value": {"type": "refusal", "refusal": "Nor that."}}],
        [{"type": "audio", "transcript": "More", "base64": BASE64, "mime_type": "audio/wav"}],
    ]
    chunks += [AIMessageChunk(content=content, id="m1") for content in contents]
    return Scenario(graph=one_node(answering(ChunkModel(chunks=chunks))))


def images() -> Scenario:
    """Blocks as providers write them: by reference, never with their bytes."""
    blocks: list[Any] = [
        {"type": "image", "url": "https://example.com/a.png", "mime_type": "image/png"},
        {"type": "image", "base64": BASE64, "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": BASE64, "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{BASE64}"}},
        {"type": "image_url", "image_url": "https://example.com/b.png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": BASE64}},
        {"type": "image_generation_call", "id": "ig", "status": "completed", "result": BASE64},
        {"type": "image_generation_call", "id": "ig", "status": "in_progress"},
        {"type": "file", "file_id": "file-1", "mime_type": "application/pdf"},
        {"type": "video", "base64": BASE64},
    ]
    whole = AIMessage(content=blocks, id="m1")
    return Scenario(graph=one_node(answering(model(whole, disable_streaming=True))))


def unnumbered_calls() -> Scenario:
    """Two tool calls at once of a provider that does not number their pieces."""
    deltas: list[Any] = [
        {"name": "read", "args": '{"path": ', "id": "c1", "index": None},
        {"name": None, "args": '"a"}', "id": None, "index": None},
        {"name": "read", "args": '{"path": "b"}', "id": "c2", "index": None},
    ]
    chunks = [AIMessageChunk(content="", id="m1", tool_call_chunks=[delta]) for delta in deltas]
    return Scenario(graph=one_node(answering(ChunkModel(chunks=chunks))))


def detailed_usage() -> Scenario:
    usage: Any = {
        "input_tokens": 100,
        "output_tokens": 50,
        "total_tokens": 150,
        "input_token_details": {"cache_read": 60, "cache_creation": 20},
        "output_token_details": {"reasoning": 30},
    }
    return Scenario(graph=one_node(answering(model(said("Hi", "m1", usage_metadata=usage)))))


def nostream() -> Scenario:
    quiet = model(said("Secretly", "m1")).with_config(tags=["nostream"])
    return Scenario(graph=one_node(answering(quiet)))


def not_streaming() -> Scenario:
    content: Any = [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "All at once"}]
    whole = AIMessage(
        content=content, id="m1", tool_calls=[tool_call(name="read", args={"path": "a"}, id="c1")]
    )
    return Scenario(graph=one_node(answering(model(whole, disable_streaming=True))))


def sync_node() -> Scenario:
    """Its model and its tool report from the thread that LangGraph runs it in."""
    talker = model(said("From a thread", "m1"))

    def agent(state: MessagesState) -> dict[str, Any]:
        answer = talker.invoke(state["messages"])
        get_stream_writer()({"progress": 1})
        return {
            "messages": [answer, read.invoke(tool_call(name="read", args={"path": "a"}, id="c1"))]
        }

    return Scenario(graph=one_node(agent))


def unnamed_message() -> Scenario:
    """The provider names no message, so langchain-core does."""
    return Scenario(graph=one_node(answering(model(said("Hello")))))


def plain_model() -> Scenario:
    """Not a chat model: text in, text out, in pieces if asked for."""
    talker = PlainModel()

    async def agent(state: MessagesState) -> None:
        assert [piece async for piece in talker.astream("Hi")] == ["piece by ", "piece"]
        assert await talker.ainvoke("Hi") == "whole"

    return Scenario(graph=one_node(agent))


def prompted_model() -> Scenario:
    """A chain inside of a node, with steps that bear the node's name."""
    from langchain_core.prompts import ChatPromptTemplate

    chain = (
        ChatPromptTemplate.from_messages([("user", "{question}")]) | model(said("In a chain", "m1"))
    ).with_config(run_name="agent")

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await chain.ainvoke({"question": "Hi"})]}

    return Scenario(graph=one_node(agent))


# ── what nodes write ──────────────────────────────────────────────────────────────────────────────


def commands() -> Scenario:
    """A node that returns several updates, and one that returns none."""

    def both(state: MessagesState) -> list[Any]:
        return [
            Command(update={"messages": [said("One", "m1")]}),
            {"messages": [said("Two", "m2")]},
            Command(goto="last"),
        ]

    graph = (
        StateGraph(MessagesState)
        .add_node("both", both, destinations=("last",))
        .add_node("last", lambda state: Command())
    )
    return Scenario(graph=graph.add_edge(START, "both").compile(checkpointer=InMemorySaver()))


def custom_events() -> Scenario:
    class Opaque:
        pass

    async def agent(state: MessagesState) -> None:
        write = get_stream_writer()
        write({"progress": 0.25})
        write({"progress": 2})
        write({"progress": 0.5, "extra": True})
        write({"opaque": Opaque(), "bytes": b"\xff", "half a pair": "\ud83d"})
        await adispatch_custom_event("named", [1])

    return Scenario(graph=one_node(agent))


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        plain_chat, tool_calls, failing_tool, failing_tool_unhandled, retriever, failing_retriever, tool_with_command, gated_and_free, subgraph, handing_over, functional,
        parallel_branches, retried_node, cut_off_in_the_middle,
        node_retried_in_the_middle, model_retried, model_retried_in_vain, tool_out_of_time, failing_node,
        failing_node_that_may_speak, failing_subgraph,
        failing_sibling, handled_failure, out_of_time, out_of_time_beside_another, static_pause,
        dynamic_interrupt, interrupt_in_a_tool, reasoning, refusal_and_audio, images, unnumbered_calls, detailed_usage, nostream,
        not_streaming, sync_node, unnamed_message, plain_model, prompted_model, commands, custom_events,
    )
}  # fmt: skip
"""Every scenario by its name."""

IN_PARALLEL = frozenset(
    {"gated_and_free", "parallel_branches", "failing_sibling", "out_of_time_beside_another"}
)
"""Where tasks run at once: how their events interleave is nobody's promise, the order within each
task is."""
