"""One call of a tool: under its idempotency key, at most once per key, and within its time.

A tool that ran out of time was stopped in the middle of what it did, so nobody can say whether it
happened. In a run with a ledger a person is asked at once, as after a crash. What was declared to
change nothing, or to do nothing twice, is told to the model; and so is any call of a run without a
ledger, where nobody could remember the question: then the model is told that the call may have
happened.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from langchain_core.callbacks import adispatch_custom_event
from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.tools import tool as make_tool
from langgraph.errors import GraphInterrupt
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command, interrupt

from assent.core.decisions import Approve, Decision, Reject, Respond, decision_from_json
from assent.core.digest import call_digest
from assent.core.errors import ConfigurationError
from assent.graph.effects import (
    ASKED,
    UNKNOWN_OUTCOME,
    EffectIntent,
    EffectLedger,
    Effects,
    effect_key,
    effect_rules,
    ledger_of,
    pack_outcome,
    unpack_outcome,
    within_call,
)

ToolOutput: TypeAlias = ToolMessage | Command[Any]
Execute = Callable[[ToolCallRequest], ToolOutput]
AsyncExecute = Callable[[ToolCallRequest], Awaitable[ToolOutput]]
CallOnce = Callable[[ToolCallRequest, AsyncExecute], Awaitable[ToolOutput]]
ToolTimeout = float | Mapping[str, float] | None

TIMED_OUT = "assent:tool_timed_out"
"""The custom event by which a source learns that a tool ran out of time: LangChain only reports
that it was cancelled."""


class OutOfTime(Exception):
    """The tool was stopped before it had an outcome."""


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """How an agent's tools are called: what is declared of their effects, and their limits in
    seconds, both by tool name."""

    effects: Mapping[str, Effects]
    timeouts: Mapping[str, float]

    def run(self, request: ToolCallRequest, execute: Execute) -> ToolOutput:
        """One call, in a sync run. Raises `ConfigurationError` for what only an async run can do:
        keep a ledger, stop a tool."""
        name = request.tool_call["name"]
        if (
            self._effects(request.tool_call) != "none"
            and ledger_of(request.runtime.config) is not None
        ):
            raise ConfigurationError(
                "A run with an effect ledger must be async: use ainvoke or astream."
            )
        if name in self.timeouts:
            raise ConfigurationError(
                f"The tool '{name}' has a tool_timeout, so the run must be async: use ainvoke or astream."
            )
        with within_call(_key(request, 1)):
            return execute(request)

    async def arun(self, request: ToolCallRequest, execute: AsyncExecute) -> ToolOutput:
        """One call, in an async run."""
        ledger = ledger_of(request.runtime.config)
        if ledger is not None and self._effects(request.tool_call) != "none":
            return await self._once(request, execute, ledger)
        try:
            return await self._in_time(request, execute, _key(request, 1))
        except OutOfTime:
            return await self._told_of_timeout(request)

    async def _once(
        self, request: ToolCallRequest, execute: AsyncExecute, ledger: EffectLedger
    ) -> ToolOutput:
        """Run the call at most once per key: intent, call, outcome. If its outcome is lost, ask a
        person what became of it.

        An idempotent tool is called again with the same key, after a crash and with the answer to
        what it asked.
        """
        call = request.tool_call
        digest = call_digest(call["name"], call["args"])
        is_idempotent = self._effects(call) == "idempotent"
        for attempt in count(1):
            key = _key(request, attempt)
            earlier = await ledger.begin(
                EffectIntent(
                    key=key, tool=call["name"], tool_call_id=call["id"] or "", digest=digest
                )
            )
            if earlier is not None and earlier.outcome is not None and earlier.outcome != ASKED:
                return unpack_outcome(earlier.outcome)  # type: ignore[no-any-return]
            output = None
            if earlier is None or is_idempotent:
                output = await self._started(request, execute, ledger, key)
            elif earlier.outcome == ASKED:
                continue
            if output is None:
                decision = _what_became_of(call, digest, attempt)
                if isinstance(decision, Approve):
                    continue
                output = _answer_for_lost(call, decision)
            await ledger.finish(key, pack_outcome(output))
            return output
        raise AssertionError("attempts are counted without end")

    async def _started(
        self, request: ToolCallRequest, execute: AsyncExecute, ledger: EffectLedger, key: str
    ) -> ToolOutput | None:
        """What came of the call, or None if nobody can say."""
        try:
            return await self._in_time(request, execute, key)
        except GraphInterrupt:
            await ledger.finish(key, ASKED)
            raise
        except OutOfTime:
            return (
                await self._told_of_timeout(request)
                if self._effects(request.tool_call) == "idempotent"
                else None
            )

    async def _in_time(
        self, request: ToolCallRequest, execute: AsyncExecute, key: str
    ) -> ToolOutput:
        try:
            with within_call(key):
                async with asyncio.timeout(self.timeouts.get(request.tool_call["name"])) as limit:
                    output = await execute(request)
        except TimeoutError as error:
            # What a tool raises has become its message, so this is not the tool's.
            raise OutOfTime from error
        if limit.expired() and isinstance(output, ToolMessage) and output.status == "error":
            # It made an error of its own out of being stopped.
            raise OutOfTime
        return output

    async def _told_of_timeout(self, request: ToolCallRequest) -> ToolMessage:
        call = request.tool_call
        text = f"The tool ran out of time after {self.timeouts[call['name']]:g} seconds and was stopped."
        if self._effects(call) != "none":
            text += " The call may or may not have happened."
        message = ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")
        told = {"tool": call["name"], "tool_call_id": call["id"] or "", "message": text}
        await adispatch_custom_event(TIMED_OUT, told, config=request.runtime.config)
        return message

    def _effects(self, call: ToolCall) -> Effects:
        # A tool that the model made up does nothing.
        return self.effects.get(call["name"], "none")


def call_once(
    tools: Sequence[BaseTool | Callable[..., Any]],
    *,
    effects: Mapping[str, Effects] | None = None,
    tool_timeout: ToolTimeout = None,
) -> CallOnce:
    """For the tools of a graph of your own: a server then notes each call as it does those of
    `build_hitl_agent`'s agents, and one that a crash cut off is not repeated in silence. Inside of
    a tool, `idempotency_key()` is the call's.

        ToolNode(tools, awrap_tool_call=call_once(tools)) create_agent(model, tools,
        middleware=[wrap_tool_call(call_once(tools))])      # langchain's wrap_tool_call

    `effects` and `tool_timeout` are as `build_hitl_agent` takes them. The graph's runs must be
    async. Raises `ConfigurationError`.
    """
    by_name = {each.name: each for each in map(as_tool, tools)}
    declared = effect_rules(effects or {}, by_name)
    calls = ToolCalls(declared, timeout_rules(tool_timeout, by_name, declared))

    async def once(request: ToolCallRequest, execute: AsyncExecute) -> ToolOutput:
        return await calls.arun(request, execute)

    return once


def as_tool(tool: BaseTool | Callable[..., Any]) -> BaseTool:
    """The tool, or a function made one."""
    return tool if isinstance(tool, BaseTool) else make_tool(tool)


def timeout_rules(
    timeout: ToolTimeout, tools: Mapping[str, BaseTool], effects: Mapping[str, Effects]
) -> Mapping[str, float]:
    """The limits that `tool_timeout` stands for, in seconds: one for all tools, or some tools' own.

    Raises `ConfigurationError` for a name that no tool has, a limit that is none, or a plain
    function that must not be abandoned.
    """
    if timeout is None:
        return {}
    named = timeout if isinstance(timeout, Mapping) else dict.fromkeys(tools, timeout)
    if unknown := sorted(str(name) for name in set(named) - set(tools)):
        raise ConfigurationError(
            f"tool_timeout= names the tool '{unknown[0]}', and the agent has no such tool. It has: {', '.join(sorted(tools)) or 'none'}."
        )
    for name, seconds in named.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise ConfigurationError(
                f"tool_timeout= gives the tool '{name}' {seconds!r}. Give it a number of seconds above 0."
            )
        if effects[name] == "once" and not _is_async(tools[name]):
            raise ConfigurationError(
                f"tool_timeout= is for the tool '{name}' too, which is a plain function: a thread cannot be stopped, and would go on "
                "with what it changes. Make the tool async, give it no timeout, or declare its effects."
            )
    return dict(named)


def _is_async(tool: BaseTool) -> bool:
    if hasattr(tool, "coroutine"):
        return tool.coroutine is not None
    return type(tool)._arun is not BaseTool._arun


def _key(request: ToolCallRequest, attempt: int) -> str:
    runtime = request.runtime
    task_id = runtime.execution_info.task_id if runtime.execution_info is not None else ""
    thread_id = str(runtime.config.get("configurable", {}).get("thread_id", ""))
    return effect_key(thread_id, task_id, request.tool_call, attempt)


def response(call: ToolCall, decision: Respond) -> ToolMessage:
    """A person's own answer, in place of the tool's."""
    message = decision.message
    text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    return ToolMessage(text, tool_call_id=call["id"], name=call["name"])


def _what_became_of(call: ToolCall, digest: str, attempt: int) -> Decision:
    """A person's decision on a call whose outcome is lost.

    LangGraph hands out a task's answers by their position, so one may come up that the tool itself
    asked for, and anybody may send `Command(resume=...)`: only an answer that names this call
    counts, and with any other the question is asked again.
    """
    while True:
        answer = interrupt(_lost_call(call, digest, attempt))
        if isinstance(answer, Mapping) and (answer.get("kind"), answer.get("digest")) == (
            UNKNOWN_OUTCOME,
            digest,
        ):
            return decision_from_json(
                {key: value for key, value in answer.items() if key not in ("kind", "digest")}
            )


def _lost_call(call: ToolCall, digest: str, attempt: int) -> dict[str, Any]:
    return {
        "kind": UNKNOWN_OUTCOME,
        "tool": call["name"],
        "tool_call_id": call["id"],
        "args": call["args"],
        "digest": digest,
        "attempt": attempt,
    }


def _answer_for_lost(call: ToolCall, decision: Decision) -> ToolMessage:
    """What the model is told of a call that was cut off and does not run again. Nobody can say that
    it did not run."""
    if isinstance(decision, Respond):
        return response(call, decision)
    reason = (
        f" The reason: {decision.message}"
        if isinstance(decision, Reject) and decision.message
        else ""
    )
    text = f"This call was cut off, and may or may not have happened. A person decided not to run it again.{reason}"
    return ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")
