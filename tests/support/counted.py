"""Agents whose model counts its tokens, to be served by path: 10 in, 5 out, each time it is called.
They do what `agents.py` says."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from assent import build_hitl_agent
from tests.support.agents import die, look, pay, reply, slow, with_tools
from tests.support.models import ScriptedModel

TOOLS = [look, pay, slow, die]


class CountedModel(ScriptedModel):
    """Says what it used, and what it is called."""

    model_name: str = "penny-1"

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        return super()._next(messages).model_copy(update={"usage_metadata": usage})


def _counted(name: str, chat_decisions: bool = False, **options: Any) -> Any:
    return build_hitl_agent(
        CountedModel(script=reply, **options),
        TOOLS,
        approve="pay",
        name=name,
        chat_decisions=chat_decisions,
    )


def _own(name: str, **options: Any) -> Any:
    """A graph of somebody else's, whose one node of tools runs all calls of a turn."""
    model = CountedModel(script=reply).bind_tools(TOOLS)
    return with_tools(model, ToolNode(TOOLS)).compile(name=name, **options)


counted = _counted("counted")
talking = _counted("talking", chat_decisions=True)
other = _counted("other")
shared = _counted("shared")
late = _counted("late")
mystery = _counted("mystery", model_name="mystery-1")
chatty = _counted("chatty", delay=0.03)
uncounted = build_hitl_agent(ScriptedModel(script=reply), TOOLS, approve="pay", name="uncounted")
own = _own("own")
outer = (
    StateGraph(MessagesState)
    .add_node("inner", _counted("inner"))
    .add_edge(START, "inner")
    .compile(name="outer")
)
own_late = _own("own_late", interrupt_before=["tools"])

ALL = (
    "counted",
    "talking",
    "other",
    "shared",
    "late",
    "mystery",
    "chatty",
    "uncounted",
    "own",
    "own_late",
    "outer",
)
