"""Make one call of a tool: with its idempotency key, at most once per key, and within its time.

A tool that ran out of time was stopped in the middle, so nobody knows whether its call happened. In
a run with a ledger a person is asked at once, as after a crash. If the tool is declared to change
nothing, or to do nothing twice, or if the run has no ledger to remember the question, the model
gets the answer that the call may have happened.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

from langchain_core.callbacks import adispatch_custom_event
from langchain_core.messages import InvalidToolCall, ToolCall, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.tools import tool as make_tool
from langgraph.errors import GraphInterrupt, is_invalid_resume
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
    effect_rules,
    ledger_of,
    pack_outcome,
    unpack_outcome,
    within_call,
)
from assent.graph.interrupts.matching import asking_as
from assent.graph.state import asked_call
from assent.graph.tool_names import check_tool_names

ToolOutput: TypeAlias = ToolMessage | Command[Any]
Execute = Callable[[ToolCallRequest], ToolOutput]
AsyncExecute = Callable[[ToolCallRequest], Awaitable[ToolOutput]]
CallOnce = Callable[[ToolCallRequest, AsyncExecute], Awaitable[ToolOutput]]
ToolTimeout = float | Mapping[str, float] | None

TIMED_OUT = "assent:tool_timed_out"
"""The name of the custom event for a tool that ran out of time. LangChain reports only that it was
cancelled."""


class OutOfTime(Exception):
    """The tool was stopped before it had an outcome."""


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Makes an agent's tool calls. Both mappings are by tool name; timeouts are in seconds.
    `otherwise` are the effects of a tool that is not known by name."""

    effects: Mapping[str, Effects]
    timeouts: Mapping[str, float]
    # A tool that the model made up does nothing.
    otherwise: Effects = "none"

    def run(self, request: ToolCallRequest, execute: Execute) -> ToolOutput:
        """Make one call in a sync run. Raises `ConfigurationError` if it needs an async one, for a
        ledger or a timeout."""
        call = request.tool_call
        if self.effects_of(call) != "none" and ledger_of(request.runtime.config) is not None:
            raise ConfigurationError(
                "A run with an effect ledger must be async: use ainvoke or astream."
            )
        if call["name"] in self.timeouts:
            raise ConfigurationError(
                f"The tool '{call['name']}' has a tool_timeout, so the run must be async: "
                "use ainvoke or astream."
            )
        with within_call(_key(request, 1)), _own_questions(request):
            return execute(request)

    async def arun(self, request: ToolCallRequest, execute: AsyncExecute) -> ToolOutput:
        """Make one call in an async run."""
        ledger = ledger_of(request.runtime.config)
        if ledger is not None and self.effects_of(request.tool_call) != "none":
            return await self._once(request, execute, ledger)
        try:
            return await self._in_time(request, execute, _key(request, 1))
        except OutOfTime:
            return await self._report_timeout(request)

    async def _once(
        self, request: ToolCallRequest, execute: AsyncExecute, ledger: EffectLedger
    ) -> ToolOutput:
        """Make the call at most once per key: intent, call, outcome. If the outcome is lost, ask a
        person.

        An idempotent tool is called again with the same key, after a crash and after the answer to
        what it asked.
        """
        call = request.tool_call
        name, call_id = call["name"], call["id"] or ""
        turn, _ = asked_call(request.state, call_id)
        digest = call_digest(name, call["args"])
        is_idempotent = self.effects_of(call) == "idempotent"
        attempt = 0
        while True:
            attempt += 1
            key = _key(request, attempt)
            intent = EffectIntent(
                key=key,
                tool=name,
                tool_call_id=call_id,
                message_id=(turn and turn.id) or "",
                digest=digest,
            )
            earlier = await ledger.begin(intent)
            outcome = None if earlier is None else earlier.outcome
            if outcome is not None and outcome != ASKED:
                known: ToolOutput = unpack_outcome(outcome)
                return known

            output: ToolOutput | None = None
            if earlier is None or is_idempotent:
                output = await self._start(request, execute, ledger, key)
            elif outcome == ASKED:
                continue
            if output is None:
                decision = _ask_what_happened(request, digest, attempt)
                if isinstance(decision, Approve):
                    continue
                output = _answer_for_lost(call, decision)
            await ledger.finish(key, pack_outcome(output))
            return output

    async def _start(
        self, request: ToolCallRequest, execute: AsyncExecute, ledger: EffectLedger, key: str
    ) -> ToolOutput | None:
        """Make the call and return its output, or None if its outcome is lost."""
        try:
            return await self._in_time(request, execute, key)
        except OutOfTime:
            if self.effects_of(request.tool_call) == "idempotent":
                return await self._report_timeout(request)
            return None
        except Exception as error:
            if isinstance(error, GraphInterrupt) or is_invalid_resume(error):
                await ledger.finish(key, ASKED)
            raise

    async def _in_time(
        self, request: ToolCallRequest, execute: AsyncExecute, key: str
    ) -> ToolOutput:
        limit = asyncio.timeout(self.timeouts.get(request.tool_call["name"]))
        try:
            with within_call(key), _own_questions(request):
                async with limit:
                    output = await execute(request)
        except TimeoutError as error:
            if not limit.expired():
                # The tool's own.
                raise
            raise OutOfTime from error
        if limit.expired() and isinstance(output, ToolMessage) and output.status == "error":
            # The tool has turned its cancellation into an error.
            raise OutOfTime
        return output

    async def _report_timeout(self, request: ToolCallRequest) -> ToolMessage:
        call = request.tool_call
        seconds = self.timeouts[call["name"]]
        text = f"The tool ran out of time after {seconds:g} seconds and was stopped."
        if self.effects_of(call) != "none":
            text += " The call may or may not have happened."
        event = {"tool": call["name"], "tool_call_id": call["id"] or "", "message": text}
        await adispatch_custom_event(TIMED_OUT, event, config=request.runtime.config)
        return failure(call, text)

    def effects_of(self, call: ToolCall) -> Effects:
        """The effects of the call's tool."""
        return self.effects.get(call["name"], self.otherwise)


# ── declaring ─────────────────────────────────────────────────────────────────────────────────────


def call_once(
    tools: Sequence[BaseTool | Callable[..., Any]],
    *,
    effects: Mapping[str, Effects] | None = None,
    tool_timeout: ToolTimeout = None,
) -> CallOnce:
    """Give the tools of a graph of your own what `build_hitl_agent` gives its tools: a server notes
    each call, one that a crash cut off is not repeated in silence, and `idempotency_key()` works
    inside of the tool.

        ToolNode(tools, awrap_tool_call=call_once(tools))
        create_agent(model, tools, middleware=[wrap_tool_call(call_once(tools))])

    `wrap_tool_call` is LangChain's. `effects` and `tool_timeout` are those of `build_hitl_agent`.
    The graph's runs must be async. Raises `ConfigurationError`.
    """
    calls = tool_calls({each.name: each for each in map(as_tool, tools)}, effects, tool_timeout)

    async def once(request: ToolCallRequest, execute: AsyncExecute) -> ToolOutput:
        return await calls.arun(request, execute)

    return once


def tool_calls(
    tools: Mapping[str, BaseTool],
    effects: Mapping[str, Effects] | None,
    timeout: ToolTimeout,
    *,
    has_others: bool = False,
) -> ToolCalls:
    """The calls of these tools, as the options declare them. With `has_others` there may be further
    tools, which the options may name too. Raises `ConfigurationError`."""
    declared = effect_rules(effects or {}, tools, has_others=has_others)
    timeouts = _timeout_rules(timeout, tools, declared)
    return ToolCalls(declared, timeouts, otherwise="once" if has_others else "none")


def as_tool(tool: BaseTool | Callable[..., Any]) -> BaseTool:
    """The tool, or one made of a function."""
    return tool if isinstance(tool, BaseTool) else make_tool(tool)


def _timeout_rules(
    timeout: ToolTimeout, tools: Mapping[str, BaseTool], effects: Mapping[str, Effects]
) -> Mapping[str, float]:
    if timeout is None:
        return {}
    by_name = timeout if isinstance(timeout, Mapping) else dict.fromkeys(tools, timeout)
    check_tool_names("tool_timeout", by_name, tools)
    for name, seconds in by_name.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise ConfigurationError(
                f"tool_timeout= gives the tool '{name}' {seconds!r}. "
                "Give it a number of seconds above 0."
            )
        if effects[name] == "once" and not _is_async(tools[name]):
            raise ConfigurationError(
                f"tool_timeout= is for the tool '{name}' too, which is a plain function: a thread "
                "cannot be stopped, and would go on with what it changes. Make the tool async, "
                "give it no timeout, or declare its effects."
            )
    return dict(by_name)


def _is_async(tool: BaseTool) -> bool:
    if hasattr(tool, "coroutine"):
        return tool.coroutine is not None
    return type(tool)._arun is not BaseTool._arun


def _key(request: ToolCallRequest, attempt: int) -> str:
    """The idempotency key of a call.

    LangGraph's task id stays the same across crash, retry and resume. `attempt` grows each time
    that a person says "it did not happen, run it", or answers what the tool asked.
    """
    runtime = request.runtime
    thread_id = runtime.config.get("configurable", {}).get("thread_id", "")
    task_id = runtime.execution_info.task_id if runtime.execution_info is not None else ""
    return f"{thread_id}:{task_id}:{request.tool_call['id']}:{attempt}"


# ── answers to the model ──────────────────────────────────────────────────────────────────────────


def failure(call: ToolCall | InvalidToolCall, text: str) -> ToolMessage:
    """A tool message with the reason why the call has no result."""
    return ToolMessage(text, tool_call_id=call["id"] or "", name=call["name"], status="error")


def response(call: ToolCall, decision: Respond) -> ToolMessage:
    """A person's own answer, in place of the tool's."""
    text = decision.message
    if not isinstance(text, str):
        text = json.dumps(text, ensure_ascii=False)
    return ToolMessage(text, tool_call_id=call["id"], name=call["name"])


def rejection(call: ToolCall, decision: Decision) -> ToolMessage:
    """The message about a call that a person rejected, with their reason."""
    return failure(call, _with_reason("A person rejected this call. It did not run.", decision))


def _with_reason(text: str, decision: Decision) -> str:
    if isinstance(decision, Reject) and decision.message:
        return f"{text} The reason: {decision.message}"
    return text


def _own_questions(request: ToolCallRequest) -> AbstractContextManager[None]:
    """The tool's own questions are this call's, in each attempt at it."""
    return asking_as(request.runtime.config, request.tool_call["id"] or "")


def _ask_what_happened(request: ToolCallRequest, digest: str, attempt: int) -> Decision:
    """Ask a person about a call whose outcome is lost, and return the decision.

    Anybody may send `Command(resume=...)`. Only an answer that names this call counts; after any
    other, the question is asked again.
    """
    call = request.tool_call
    question = {
        "kind": UNKNOWN_OUTCOME,
        "tool": call["name"],
        "tool_call_id": call["id"],
        "args": call["args"],
        "digest": digest,
        "attempt": attempt,
    }
    with asking_as(request.runtime.config, f"{attempt}:{call['id']}"):
        while True:
            answer = interrupt(question)
            decision = dict(answer) if isinstance(answer, Mapping) else {}
            named = (decision.pop("kind", None), decision.pop("digest", None))
            if named == (UNKNOWN_OUTCOME, digest):
                return decision_from_json(decision)


def _answer_for_lost(call: ToolCall, decision: Decision) -> ToolMessage:
    """The message to the model about a call that was cut off and is not made again. Nobody knows
    that it did not run."""
    if isinstance(decision, Respond):
        return response(call, decision)
    text = (
        "This call was cut off, and may or may not have happened. "
        "A person decided not to run it again."
    )
    return failure(call, _with_reason(text, decision))
