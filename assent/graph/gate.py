"""The gate: nothing runs a tool but through here, and no gated tool runs without a decision for
exactly its arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp
from langgraph.graph import END
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Send

from assent.core.decisions import Approve, Decision, Edit, Reject, Respond
from assent.graph.admission import hold_back
from assent.graph.approval_rules import ApprovalRules
from assent.graph.chat_decisions import decision_from_messages
from assent.graph.state import (
    AgentState,
    DecisionRecord,
    open_calls,
    record_decision,
    recorded_decision,
)
from assent.graph.tool_calls import AsyncExecute, Execute, ToolCalls, ToolOutput, response

NOT_APPROVED = "This call needs a person's approval, and none is recorded for exactly these arguments. It did not run."


class GateError(Exception):
    """Something failed around a call, not in it: its ledger, say. It must end the run: told to the
    model as the tool's failure, it would invite a repetition of what may have happened."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Gate:
    """Routes a turn's calls, and stands before each of them."""

    rules: ApprovalRules
    tools: Mapping[str, BaseTool]
    calls: ToolCalls

    # ── routing ───────────────────────────────────────────────────────────────────────────────────

    def route(self, state: AgentState) -> str | list[Send]:
        """Calls that may run go first, each as a task of its own; then those that wait for a
        person; then the model; then the end."""
        turn, calls = open_calls(state["messages"])
        ready = [call for call in calls if turn is not None and self._may_run(state, turn, call)]
        if ready:
            return [Send("tools", [call]) for call in ready]
        if calls:
            return "approval"
        return "agent" if turn is not None and _has_answers(state["messages"], turn) else END

    def waiting(self, state: AgentState) -> list[ToolCall]:
        """The calls of the last turn that need a person and have no decision, in the model's
        order."""
        turn, calls = open_calls(state["messages"])
        return [
            call
            for call in calls
            if turn is not None
            and self.rules.policy_for(call)
            and recorded_decision(state, turn, call) is None
        ]

    def _may_run(self, state: AgentState, turn: AIMessage, call: ToolCall) -> bool:
        if self.rules.policy_for(call) is None:
            return True
        return isinstance(recorded_decision(state, turn, call), Approve | Edit)

    # ── deciding ──────────────────────────────────────────────────────────────────────────────────

    def answers(self, state: AgentState) -> list[ToolMessage]:
        """What the model is told of the calls that a person rejected or answered himself."""
        turn, calls = open_calls(state["messages"])
        decided = [
            (call, recorded_decision(state, turn, call)) for call in calls if turn is not None
        ]
        return [
            answer for call, decision in decided if (answer := _answer(call, decision)) is not None
        ]

    def chat_decisions(self, state: AgentState) -> dict[str, DecisionRecord]:
        """What the words that a person wrote while calls waited decide: the same for each waiting
        call. Only a HumanMessage counts."""
        turn, _ = open_calls(state["messages"])
        if turn is None:
            return {}
        since = state["messages"][state["messages"].index(turn) + 1 :]
        said = [message for message in since if isinstance(message, HumanMessage)]
        if not said or not isinstance(state["messages"][-1], HumanMessage):
            return {}
        decision = decision_from_messages(said)
        return {
            call["id"] or "": record_decision(turn, call, decision) for call in self.waiting(state)
        }

    # ── running ───────────────────────────────────────────────────────────────────────────────────

    def run(self, request: ToolCallRequest, execute: Execute) -> ToolOutput:
        """One call, in a sync run."""
        with _failures_told_apart():
            permitted, note = self._permit(request)
            if permitted is None:
                return _refusal(request.tool_call)
            return _output_with_note(self.calls.run(permitted, execute), permitted.tool_call, note)

    async def arun(self, request: ToolCallRequest, execute: AsyncExecute) -> ToolOutput:
        """One call, in an async run."""
        with _failures_told_apart():
            permitted, note = self._permit(request)
            if permitted is None:
                return _refusal(request.tool_call)
            await hold_back(request)
            return _output_with_note(
                await self.calls.arun(permitted, execute), permitted.tool_call, note
            )

    def _permit(self, request: ToolCallRequest) -> tuple[ToolCallRequest | None, str]:
        """The request as it may run and what the model must be told of it, or None if it may
        not."""
        call = request.tool_call
        if self.rules.policy_for(call) is None:
            return request, ""
        turn, _ = open_calls(request.state["messages"])
        match recorded_decision(request.state, turn, call) if turn is not None else None:
            case Approve():
                return request, ""
            case Edit(args) as edit:
                return request.override(tool_call={**call, "args": args}), edit_note(edit)
            case _:
                return None, ""


@contextmanager
def _failures_told_apart() -> Iterator[None]:
    """What a tool raises has become its message inside `execute`, so any other exception is the
    gate's own."""
    try:
        yield
    except GraphBubbleUp:
        raise
    except Exception as error:
        raise GateError(error) from error


def _has_answers(messages: Sequence[AnyMessage], turn: AIMessage) -> bool:
    return any(isinstance(message, ToolMessage) for message in messages[messages.index(turn) + 1 :])


def _answer(call: ToolCall, decision: Decision | None) -> ToolMessage | None:
    match decision:
        case Reject(message):
            reason = f" The reason: {message}" if message else ""
            text = f"A person rejected this call. It did not run.{reason}"
            return ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")
        case Respond():
            return response(call, decision)
        case _:
            return None


def _refusal(call: ToolCall) -> ToolMessage:
    return ToolMessage(NOT_APPROVED, tool_call_id=call["id"], name=call["name"], status="error")


def _output_with_note(output: ToolOutput, call: ToolCall, note: str) -> ToolOutput:
    """The output with a note to the model before it. A Command's note goes into its own tool
    message for the call."""
    if not note:
        return output
    if isinstance(output, list):
        # LangGraph's types do not say so, but a tool may return several.
        return [_output_with_note(part, call, note) for part in output]  # type: ignore[return-value]
    if isinstance(output, ToolMessage):
        return with_note(output, note)
    if not isinstance(output.update, dict):
        return output
    messages = [
        with_note(message, note)
        if isinstance(message, ToolMessage) and message.tool_call_id == call["id"]
        else message
        for message in output.update.get("messages", [])
    ]
    return replace(output, update={**output.update, "messages": messages})


def edit_note(edit: Edit) -> str:
    """The note to the model that a call ran with other arguments than it gave."""
    args = json.dumps(edit.args, ensure_ascii=False)
    return f"A person changed the arguments of this call before it ran. It ran with: {args}"


def with_note(message: ToolMessage, note: str) -> ToolMessage:
    """The message, after a note to the model."""
    content: str | list[str | dict[Any, Any]]
    if isinstance(message.content, str):
        content = f"{note}\n\n{message.content}"
    else:
        content = [{"type": "text", "text": note}, *message.content]
    return message.model_copy(update={"content": content})
