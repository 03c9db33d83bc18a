"""What stands between the gate and a tool: langchain's `wrap_tool_call`, and tools that are looked
up anew for each call.

The gate comes first: it has permitted the call and, under a server, noted that it begins. Whatever
middleware makes of the request then, only this call reaches the tool, with exactly the arguments
that were permitted, and no more often than the tool's effects allow.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp, is_invalid_resume
from langgraph.prebuilt.tool_node import ToolCallRequest, ToolInvocationError
from langgraph.types import Command

from assent.core.digest import call_digest
from assent.graph.each_turn import EachTurn
from assent.graph.effects import Effects
from assent.graph.state import is_answer, without_decisions
from assent.graph.tool_calls import AsyncExecute, Execute, ToolOutput, failure
from assent.graph.tool_errors import error_message, is_about_arguments
from assent.graph.wrappers import Wrapper, within

OTHER_CALL = (
    "A middleware of the agent has changed this call after it was permitted. It did not run."
)
NOT_AGAIN = "It was not called again: the call may have happened."
TOO_LATE = "A middleware of the agent made this call after its end. It did not run."
NO_SUCH_TOOL = "The agent has no such tool. The call did not run."
NO_ANSWER = (
    "A middleware of the agent left no answer to this call. It may or may not have happened."
)


@dataclass(frozen=True, slots=True)
class AroundTools:
    """The way of a permitted call to its tool. The first of the wrappers is the outermost."""

    each: EachTurn
    wrappers: Sequence[Wrapper] = ()

    def with_tool(self, request: ToolCallRequest) -> ToolCallRequest:
        """The request with the tool that the turn has, in a sync run."""
        if request.tool is not None:
            return request
        tools = self.each.tools_now(request.state, request.runtime.config)
        return _with_tool(request, tools.get(request.tool_call["name"]))

    async def awith_tool(self, request: ToolCallRequest) -> ToolCallRequest:
        """The request with the tool that the turn has, in an async run."""
        if request.tool is not None:
            return request
        tools = await self.each.atools_now(request.state, request.runtime.config)
        return _with_tool(request, tools.get(request.tool_call["name"]))

    def wrapped(self, execute: Execute, effects: Effects) -> Execute:
        """The execution of a call in a sync run, within the wrappers. Raises `ConfigurationError`
        if one of them is only async."""
        wraps = [each.in_sync() for each in self.wrappers]

        def call(request: ToolCallRequest) -> ToolOutput:
            permitted = _Permitted(request, effects)

            def innermost(changed: ToolCallRequest) -> ToolOutput:
                refused = permitted.refusal(changed)
                if refused is not None:
                    return refused
                try:
                    return execute(permitted.request(changed))
                except Exception as error:
                    return permitted.failed_in_tool(error)

            try:
                return permitted.answer(within(wraps, innermost)(request))
            except Exception as error:
                return permitted.failed(error)
            finally:
                permitted.has_ended = True

        return call

    def awrapped(self, execute: AsyncExecute, effects: Effects) -> AsyncExecute:
        """The execution of a call in an async run, within the wrappers. Raises
        `ConfigurationError` if one of them is only sync."""
        wraps = [each.in_async() for each in self.wrappers]

        async def call(request: ToolCallRequest) -> ToolOutput:
            permitted = _Permitted(request, effects)

            async def innermost(changed: ToolCallRequest) -> ToolOutput:
                refused = permitted.refusal(changed)
                if refused is not None:
                    return refused
                try:
                    return await execute(permitted.request(changed))
                except Exception as error:
                    return permitted.failed_in_tool(error)

            try:
                return permitted.answer(await within(wraps, innermost)(request))
            except Exception as error:
                return permitted.failed(error)
            finally:
                permitted.has_ended = True

        return call


class _Permitted:
    """One call as it was permitted, and what has become of it."""

    def __init__(self, request: ToolCallRequest, effects: Effects) -> None:
        # A copy, since a middleware may change the arguments in place.
        self._call: ToolCall = deepcopy(request.tool_call)
        self._tool = request.tool
        self._may_repeat = effects != "once"
        self._tries = itertools.count()
        self._error: Exception | None = None
        self.has_ended = False

    def refusal(self, request: ToolCallRequest) -> ToolMessage | None:
        """The message about a request that may not reach the tool; None if it may."""
        if self.has_ended:
            return failure(self._call, TOO_LATE)
        if not self._is_same(request):
            return failure(self._call, OTHER_CALL)
        if request.tool is None:
            return failure(self._call, NO_SUCH_TOOL)
        if next(self._tries) > 0 and not self._may_repeat:
            return failure(self._call, f"{self._first_error()}{NOT_AGAIN}")
        return None

    def _is_same(self, request: ToolCallRequest) -> bool:
        call, tool = request.tool_call, request.tool
        if self._tool is not None and tool is not self._tool:
            return False
        # A middleware may bring a tool that the agent does not know, under its own name.
        if tool is not None and tool.name != self._call["name"]:
            return False
        return _digest(call) == _digest(self._call)

    def request(self, changed: ToolCallRequest) -> ToolCallRequest:
        """The request as the tool gets it: whatever was changed, the call is the permitted one."""
        return replace(changed, tool_call=deepcopy(self._call))

    def failed_in_tool(self, error: Exception) -> ToolMessage:
        """Raise what the tool raised, so that a middleware sees it; or return what the model is
        told about arguments that the tool does not take."""
        if isinstance(error, ToolInvocationError):
            if is_about_arguments(error, self._tool):
                return failure(self._call, str(error))
            error = error.source
        self._error = error
        raise error

    def failed(self, error: Exception) -> ToolMessage:
        """The message about a call that raised, also in a middleware."""
        if isinstance(error, GraphBubbleUp) or is_invalid_resume(error):
            raise error
        return failure(self._call, error_message(error, self._tool))

    def answer(self, output: Any) -> ToolOutput:
        """The output without what only a person may write, and with an answer to this call. A call
        without one would be made anew."""
        kept = self._kept(output)
        # A tool may return several, though LangGraph's types do not say so.
        return kept if len(kept) > 1 else kept[0]  # type: ignore[return-value]

    def _kept(self, output: Any) -> list[ToolOutput]:
        parts = output if isinstance(output, list) else [output]
        kept = [_undecided(part) for part in parts if isinstance(part, ToolMessage | Command)]
        if any(_answers(part, self._call) for part in kept):
            return kept
        commands = [part for part in kept if isinstance(part, Command)]
        return [*commands, failure(self._call, NO_ANSWER)]

    def _first_error(self) -> str:
        return f"{error_message(self._error, self._tool)} " if self._error is not None else ""


def _digest(call: ToolCall) -> str:
    return call_digest(call["name"], call["args"])


def _answers(part: ToolMessage | Command[Any], call: ToolCall) -> bool:
    if isinstance(part, ToolMessage):
        return is_answer(part, call)
    if part.graph is not None:
        # The graph around this one goes on with it.
        return True
    messages = dict(part._update_as_tuples()).get("messages")
    return isinstance(messages, list) and any(is_answer(message, call) for message in messages)


def _undecided(part: ToolMessage | Command[Any]) -> ToolMessage | Command[Any]:
    return part if isinstance(part, ToolMessage) else without_decisions(part)


def _with_tool(request: ToolCallRequest, tool: BaseTool | None) -> ToolCallRequest:
    return request if tool is None else request.override(tool=tool)
