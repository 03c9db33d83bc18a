"""langchain's `wrap_model_call`: the way of a turn through middleware to the model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain.agents.middleware.types import ExtendedModelResponse, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.types import Command

from assent.core.errors import AssentError
from assent.graph.wrappers import Wrapper


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What a turn has come to, with the commands that middleware added, the innermost first."""

    messages: Sequence[BaseMessage]
    commands: Sequence[Command[Any]] = ()


def around_model(
    wrappers: Sequence[Wrapper], call: Callable[[ModelRequest], BaseMessage], request: ModelRequest
) -> ModelResult:
    """The result of a sync turn."""

    def innermost(request: ModelRequest) -> ModelResult:
        return ModelResult([call(request)])

    layered: Callable[[ModelRequest], ModelResult] = innermost
    for wrapper in reversed(wrappers):
        layered = _layer(wrapper, layered)
    return layered(request)


async def around_model_async(
    wrappers: Sequence[Wrapper],
    call: Callable[[ModelRequest], Awaitable[BaseMessage]],
    request: ModelRequest,
) -> ModelResult:
    """The result of an async turn."""

    async def innermost(request: ModelRequest) -> ModelResult:
        return ModelResult([await call(request)])

    layered: Callable[[ModelRequest], Awaitable[ModelResult]] = innermost
    for wrapper in reversed(wrappers):
        layered = _async_layer(wrapper, layered)
    return await layered(request)


def _layer(
    wrapper: Wrapper, inner: Callable[[ModelRequest], ModelResult]
) -> Callable[[ModelRequest], ModelResult]:
    wrap = wrapper.in_sync()

    def layer(request: ModelRequest) -> ModelResult:
        last = ModelResult([])

        def handler(changed: ModelRequest) -> ModelResponse:
            nonlocal last
            last = inner(changed)
            return ModelResponse(result=list(last.messages))

        return _result(wrapper, wrap(request, handler), last)

    return layer


def _async_layer(
    wrapper: Wrapper, inner: Callable[[ModelRequest], Awaitable[ModelResult]]
) -> Callable[[ModelRequest], Awaitable[ModelResult]]:
    wrap = wrapper.in_async()

    async def layer(request: ModelRequest) -> ModelResult:
        last = ModelResult([])

        async def handler(changed: ModelRequest) -> ModelResponse:
            nonlocal last
            last = await inner(changed)
            return ModelResponse(result=list(last.messages))

        return _result(wrapper, await wrap(request, handler), last)

    return layer


def _result(wrapper: Wrapper, made: Any, inner: ModelResult) -> ModelResult:
    """The result of a wrapper. Of the calls of its handler, the last one's commands count."""
    commands = [*inner.commands]
    if isinstance(made, ExtendedModelResponse):
        if made.command is not None:
            commands.append(made.command)
        made = made.model_response
    if isinstance(made, AIMessage):
        return ModelResult([made], commands)
    if isinstance(made, ModelResponse):
        return ModelResult(made.result, commands)
    raise AssentError(
        f"The middleware '{wrapper.middleware}' has returned {type(made).__name__} from "
        f"{wrapper.hook}. Let it return a ModelResponse or an AIMessage."
    )
