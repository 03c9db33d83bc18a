"""An agent that shows clients of documents all there is to see: it thinks, asks a person, pays with a
person's leave, and finds documents, by a retriever and by a tool that returns some. Served by path.

What a message says is done, one turn of the model for each part between " then ":

    "search courts"   asks the retriever
    "cite courts"     calls a tool with documents as its artifact
    "ask Which one?"  asks a person
    "pay 5"           needs a person
    "fail 5"          calls a tool that raises
    "case"            says which case it is
    "tell 40"         says 40 words
    "boom"            the model raises

Whatever it calls may be called again after a crash, so a kill asks nobody anything. `pay` and
`fail` leave lines as the tools of `agents.py` do.
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from typing_extensions import TypedDict

from assent import ask_human, build_hitl_agent
from tests.support.models import ScriptedModel, call, say
from tests.support.told import SECRET, fail, part_of_script, results, trace

THOUGHT = "What would a lawyer do?"

DOCUMENTS = [
    Document(
        f"{topic.capitalize()} decide on {matter}.",
        id=f"document-{number}",
        metadata={"source": f"{topic}.txt", "page": number},
    )
    for number, (topic, matter) in enumerate(
        [
            ("courts", "guilt"),
            ("juries", "facts"),
            ("judges", "law"),
            ("clerks", "courts"),
            ("parties", "nothing"),
        ],
        1,
    )
]


def about(topic: str) -> list[Document]:
    """The documents with this word."""
    return [each for each in DOCUMENTS if topic.lower() in each.page_content.lower()]


class Archive(BaseRetriever):
    """Finds the documents that name a topic."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return self._found(query)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        return self._found(query)

    def _found(self, query: str) -> list[Document]:
        if query == "fire":
            raise RuntimeError(f"The archive burns: {SECRET}.")
        return about(query)


archive = Archive()


class Case(TypedDict, total=False):
    """What a run is about."""

    case_id: int | str | None


@tool
async def search(topic: str) -> str:
    """Look a topic up in the archive."""
    found = await archive.ainvoke(topic)
    return " ".join(each.page_content for each in found)


@tool(response_format="content_and_artifact")
async def cite(topic: str) -> tuple[str, list[Document]]:
    """Quote what there is on a topic."""
    found = about(topic)
    return f"{len(found)} documents", found


@tool
async def case(runtime: ToolRuntime[Case]) -> str:
    """Say which case this is."""
    context = runtime.context or {}
    return f"case {context.get('case_id')}"


@tool
async def pay(amount: int) -> str:
    """Pay an amount."""
    trace(f"pay {amount}")
    return f"paid {amount}"


def reply(history: list[BaseMessage]) -> AIMessage | BaseException:
    """What the model says, and what it thought before."""
    said = _next_part(history)
    if isinstance(said, AIMessage):
        said.additional_kwargs["reasoning_content"] = THOUGHT
    return said


def _next_part(history: list[BaseMessage]) -> AIMessage | BaseException:
    asked_at = max(at for at, each in enumerate(history) if isinstance(each, HumanMessage))
    turns = sum(isinstance(each, AIMessage) for each in history[asked_at:])
    parts = history[asked_at].text.split(" then ")
    if turns == len(parts):
        return say(f"Results: {' | '.join(results(history))}")
    return _turn(parts[turns])


def _turn(part: str) -> AIMessage | BaseException:
    verb, _, rest = part.partition(" ")
    match verb:
        case "search" | "cite":
            return call(verb, topic=rest)
        case "ask":
            return call("ask_human", prompt=rest, context="The file is old.", reasons=["ambiguity"])
        case "case":
            return call("case")
    return part_of_script(part)


FREE = ("ask_human", "search", "cite", "case", "fail")
"""The tools that change nothing."""


def made(name: str, *, delay: float = 0.0) -> Any:
    """The agent, its model so many seconds slow at each piece."""
    tools = [ask_human, search, cite, case, pay, fail]
    return build_hitl_agent(
        ScriptedModel(script=reply, delay=delay, remembers=False),
        tools,
        approve=["pay"],
        effects={"pay": "idempotent"} | dict.fromkeys(FREE, "none"),
        name=name,
        context_schema=Case,
    )


graph = made("clerk")
slow_graph = made("slow_clerk", delay=0.01)
