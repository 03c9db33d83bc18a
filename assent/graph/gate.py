"""The gate: nothing runs a tool but through here, and no gated tool runs without a decision for exactly its arguments."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.graph import END
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command, Send, interrupt

from assent.decisions import Approve, Decision, Edit, Reject, Respond, decision_from_json
from assent.digest import call_digest
from assent.errors import ConfigurationError
from assent.graph.consent import decision_from_messages
from assent.graph.effects import (
    ASKED,
    UNKNOWN_OUTCOME,
    EffectIntent,
    EffectLedger,
    effect_key,
    ledger_of,
    pack_outcome,
    unpack_outcome,
)
from assent.graph.policy import ApprovalRules
from assent.graph.state import AgentState, DecisionRecord, open_calls, record_decision, recorded_decision

ToolOutput: TypeAlias = ToolMessage | Command[Any]

NOT_APPROVED = "This call needs a person's approval, and none is recorded for exactly these arguments. It did not run."


class GateError(Exception):
    """Something failed around a call, not in it: its ledger, say. It must end the run: told to the model as the tool's failure, it would
    invite a repetition of what may have happened."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Gate:
    """Routes a turn's calls, and stands before each of them."""

    rules: ApprovalRules
    tools: Mapping[str, BaseTool]

    # ── routing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def route(self, state: AgentState) -> str | list[Send]:
        """Calls that may run go first, each as a task of its own; then those that wait for a person; then the model; then the end."""
        turn, calls = open_calls(state["messages"])
        ready = [call for call in calls if turn is not None and self._may_run(state, turn, call)]
        if ready:
            return [Send("tools", [call]) for call in ready]
        if calls:
            return "approval"
        return "agent" if turn is not None and _has_answers(state["messages"], turn) else END

    def waiting(self, state: AgentState) -> list[ToolCall]:
        """The calls of the last turn that need a person and have no decision, in the model's order."""
        turn, calls = open_calls(state["messages"])
        return [call for call in calls if turn is not None and self.rules.policy_for(call) and recorded_decision(state, turn, call) is None]

    def _may_run(self, state: AgentState, turn: AIMessage, call: ToolCall) -> bool:
        if self.rules.policy_for(call) is None:
            return True
        return isinstance(recorded_decision(state, turn, call), Approve | Edit)

    # ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def answers(self, state: AgentState) -> list[ToolMessage]:
        """What the model is told of the calls that a person rejected or answered himself."""
        turn, calls = open_calls(state["messages"])
        decided = [(call, recorded_decision(state, turn, call)) for call in calls if turn is not None]
        return [answer for call, decision in decided if (answer := _answer(call, decision)) is not None]

    def chat_decisions(self, state: AgentState) -> dict[str, DecisionRecord]:
        """What the words that a person wrote while calls waited decide: the same for each waiting call. Only a HumanMessage counts."""
        turn, _ = open_calls(state["messages"])
        if turn is None:
            return {}
        since = state["messages"][state["messages"].index(turn) + 1 :]
        said = [message for message in since if isinstance(message, HumanMessage)]
        if not said or not isinstance(state["messages"][-1], HumanMessage):
            return {}
        decision = decision_from_messages(said)
        return {call["id"] or "": record_decision(turn, call, decision) for call in self.waiting(state)}

    # ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, request: ToolCallRequest, execute: Callable[[ToolCallRequest], ToolOutput]) -> ToolOutput:
        """One call, in a sync run. Raises `ConfigurationError` if the run carries an effect ledger: that is for async runs."""
        with _failures_told_apart():
            permitted, note = self._permit(request)
            if permitted is None:
                return _refusal(request.tool_call)
            if ledger_of(request.runtime.config) is not None:
                raise ConfigurationError("A run with an effect ledger must be async: use ainvoke or astream.")
            return _with_note(execute(permitted), permitted.tool_call, note)

    async def arun(self, request: ToolCallRequest, execute: Callable[[ToolCallRequest], Awaitable[ToolOutput]]) -> ToolOutput:
        """One call, in an async run."""
        with _failures_told_apart():
            permitted, note = self._permit(request)
            if permitted is None:
                return _refusal(request.tool_call)
            ledger = ledger_of(request.runtime.config)
            if ledger is None or self.rules.policy_for(request.tool_call) is None:
                output = await execute(permitted)
            else:
                output = await _once(permitted, execute, ledger)
            return _with_note(output, permitted.tool_call, note)

    def _permit(self, request: ToolCallRequest) -> tuple[ToolCallRequest | None, str]:
        """The request as it may run and what the model must be told of it, or None if it may not."""
        call = request.tool_call
        if self.rules.policy_for(call) is None:
            return request, ""
        turn, _ = open_calls(request.state["messages"])
        match recorded_decision(request.state, turn, call) if turn is not None else None:
            case Approve():
                return request, ""
            case Edit(args):
                note = f"A person changed the arguments of this call before it ran. It ran with: {json.dumps(args, ensure_ascii=False)}"
                return request.override(tool_call={**call, "args": args}), note
            case _:
                return None, ""


@contextmanager
def _failures_told_apart() -> Iterator[None]:
    """What a tool raises has become its message inside `execute`, so any other exception is the gate's own."""
    try:
        yield
    except GraphBubbleUp:
        raise
    except Exception as error:
        raise GateError(error) from error


async def _once(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Awaitable[ToolOutput]], ledger: EffectLedger) -> ToolOutput:
    """Run the call at most once per key: intent, call, outcome. If an earlier start was cut off, ask a person what became of it."""
    call, runtime = request.tool_call, request.runtime
    digest = call_digest(call["name"], call["args"])
    task_id = runtime.execution_info.task_id if runtime.execution_info is not None else ""
    thread_id = str(runtime.config.get("configurable", {}).get("thread_id", ""))
    attempt = 1
    while True:
        key = effect_key(thread_id, task_id, call, attempt)
        earlier = await ledger.begin(EffectIntent(key=key, tool=call["name"], tool_call_id=call["id"] or "", digest=digest))
        if earlier is None:
            output = await _started(request, execute, ledger, key)
        elif earlier.outcome == ASKED:
            attempt += 1
            continue
        elif earlier.outcome is not None:
            return unpack_outcome(earlier.outcome)  # type: ignore[no-any-return]
        else:
            decision = _what_became_of(call, digest, attempt)
            if isinstance(decision, Approve):
                attempt += 1
                continue
            output = _answer_for_lost(call, decision)
        await ledger.finish(key, pack_outcome(output))
        return output


async def _started(
    request: ToolCallRequest, execute: Callable[[ToolCallRequest], Awaitable[ToolOutput]], ledger: EffectLedger, key: str
) -> ToolOutput:
    try:
        return await execute(request)
    except GraphInterrupt:
        await ledger.finish(key, ASKED)
        raise


def _what_became_of(call: ToolCall, digest: str, attempt: int) -> Decision:
    """A person's decision on a call that was cut off.

    LangGraph hands out a task's answers by their position, so one may come up that the tool itself asked for, and anybody may send
    `Command(resume=...)`: only an answer that names this call counts, and with any other the question is asked again.
    """
    while True:
        answer = interrupt(_lost_call(call, digest, attempt))
        if isinstance(answer, Mapping) and (answer.get("kind"), answer.get("digest")) == (UNKNOWN_OUTCOME, digest):
            return decision_from_json({key: value for key, value in answer.items() if key not in ("kind", "digest")})


def _lost_call(call: ToolCall, digest: str, attempt: int) -> dict[str, Any]:
    return {
        "kind": UNKNOWN_OUTCOME,
        "tool": call["name"],
        "tool_call_id": call["id"],
        "args": call["args"],
        "digest": digest,
        "attempt": attempt,
    }


def _has_answers(messages: Sequence[AnyMessage], turn: AIMessage) -> bool:
    return any(isinstance(message, ToolMessage) for message in messages[messages.index(turn) + 1 :])


def _answer(call: ToolCall, decision: Decision | None) -> ToolMessage | None:
    match decision:
        case Reject(message):
            reason = f" The reason: {message}" if message else ""
            text = f"A person rejected this call. It did not run.{reason}"
            return ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")
        case Respond(message):
            text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
            return ToolMessage(text, tool_call_id=call["id"], name=call["name"])
        case _:
            return None


def _answer_for_lost(call: ToolCall, decision: Decision) -> ToolMessage:
    """What the model is told of a cut-off call that does not run again. Nobody can say that it did not run."""
    if isinstance(decision, Reject):
        reason = f" The reason: {decision.message}" if decision.message else ""
        text = f"This call was cut off, and may or may not have happened. A person decided not to run it again.{reason}"
        return ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")
    return _answer(call, decision) or _refusal(call)


def _refusal(call: ToolCall) -> ToolMessage:
    return ToolMessage(NOT_APPROVED, tool_call_id=call["id"], name=call["name"], status="error")


def _with_note(output: ToolOutput, call: ToolCall, note: str) -> ToolOutput:
    """The output with a note to the model before it. A Command's note goes into its own tool message for the call."""
    if not note:
        return output
    if isinstance(output, list):
        # LangGraph's types do not say so, but a tool may return several.
        return [_with_note(part, call, note) for part in output]  # type: ignore[return-value]
    if isinstance(output, ToolMessage):
        return _noted(output, note)
    if not isinstance(output.update, dict):
        return output
    messages = [
        _noted(message, note) if isinstance(message, ToolMessage) and message.tool_call_id == call["id"] else message
        for message in output.update.get("messages", [])
    ]
    return replace(output, update={**output.update, "messages": messages})


def _noted(message: ToolMessage, note: str) -> ToolMessage:
    content = message.content
    noted = f"{note}\n\n{content}" if isinstance(content, str) else [{"type": "text", "text": note}, *content]
    return message.model_copy(update={"content": noted})
