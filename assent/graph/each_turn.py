"""The model and the tools of a turn, where an agent chooses them anew for each."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool

from assent.core.errors import ConfigurationError
from assent.graph.node_config import runtime_of
from assent.graph.state import AgentState
from assent.graph.task_options import model_in
from assent.graph.tool_calls import as_tool

T = TypeVar("T")

BoundModel = Runnable[LanguageModelInput, AIMessage]
ChatModel = BaseChatModel | BoundModel
"""A chat model, to which the agent binds its tools; or any other runnable, which has them bound."""

Tools = Sequence[BaseTool | Callable[..., Any]]
ModelOfTurn = Callable[[Any, Any], ChatModel | Awaitable[ChatModel]]
ToolsOfTurn = Callable[[Any, Any], Tools | Awaitable[Tools]]


@dataclass(frozen=True, slots=True)
class EachTurn:
    """Chooses the model and the tools of each turn. A model that is given as a function of the
    state and the runtime is called; `further` are such tools, beside those that are `known`. The
    model that a task has chosen goes before."""

    model: ChatModel | ModelOfTurn
    known: Mapping[str, BaseTool]
    further: ToolsOfTurn | None = None
    # LangChain silences a deprecation of Pydantic while it makes a tool of a function. In two
    # threads at once the silence of one ends that of the other, and the warning reaches the call.
    _making: Lock = field(default_factory=Lock, repr=False, compare=False)

    def model_now(self, state: AgentState, config: RunnableConfig) -> ChatModel:
        """The model, in a sync run. The config is that of a node."""
        if (chosen := model_in(config)) is not None:
            return chosen
        if isinstance(self.model, Runnable):
            return self.model
        return _now("model", self.model(state, runtime_of(config)))

    async def amodel_now(self, state: AgentState, config: RunnableConfig) -> ChatModel:
        """The model, in an async run."""
        if (chosen := model_in(config)) is not None:
            return chosen
        if isinstance(self.model, Runnable):
            return self.model
        return await _awaited(self.model(state, runtime_of(config)))

    def tools_now(self, state: AgentState, config: RunnableConfig) -> Mapping[str, BaseTool]:
        """The tools by name, in a sync run."""
        if self.further is None:
            return self.known
        further = _now("tools", self.further(state, runtime_of(config)))
        with self._making:
            return tools_by_name([*self.known.values(), *further])

    async def atools_now(self, state: AgentState, config: RunnableConfig) -> Mapping[str, BaseTool]:
        """The tools by name, in an async run."""
        if self.further is None:
            return self.known
        further = await _awaited(self.further(state, runtime_of(config)))
        return tools_by_name([*self.known.values(), *further])


def tools_by_name(tools: Tools) -> dict[str, BaseTool]:
    """The tools, made of functions where need be. Raises `ConfigurationError` if two have the same
    name."""
    by_name = {tool.name: tool for tool in map(as_tool, tools)}
    if len(by_name) < len(tools):
        raise ConfigurationError(
            "Two tools have the same name. Give each tool of an agent a name of its own."
        )
    return by_name


def _now(option: str, made: T | Awaitable[T]) -> T:
    if not inspect.isawaitable(made):
        return made
    if isinstance(made, Coroutine):
        made.close()
    raise ConfigurationError(
        f"{option}= is an async function, so the run must be async: use ainvoke or astream."
    )


async def _awaited(made: T | Awaitable[T]) -> T:
    return await made if inspect.isawaitable(made) else made
