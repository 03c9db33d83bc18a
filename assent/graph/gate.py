"""The gate: every call of a tool passes through here, and no gated tool runs without a decision for
exactly its arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import HumanMessage, ToolCall, ToolMessage
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
    is_answer,
    messages_since,
    open_calls,
    record_decision,
    recorded_decision,
)
from assent.graph.tool_calls import (
    AsyncExecute,
    Execute,
    ToolCalls,
    ToolOutput,
    failure,
    rejection,
    response,
)
from assent.graph.tool_errors import GateError
from assent.graph.tool_middleware import AroundTools

NOT_APPROVED = (
    "This call needs a person's approval, and none is recorded for exactly these arguments. "
    "It did not run."
)


@dataclass(frozen=True, slots=True)
class Gate:
    """Routes the calls of a turn, and checks each of them before it runs. `around` is what a
    permitted call goes through on its way to the tool, in agents that have more there than the
    tool itself."""

    rules: ApprovalRules
    tools: Mapping[str, BaseTool]
    calls: ToolCalls
    around: AroundTools | None = None

    @property
    def has_others(self) -> bool:
        """True if the agent may have tools besides those that it knows."""
        return self.rules.otherwise is not None

    # ── routing ───────────────────────────────────────────────────────────────────────────────────

    def route(self, state: AgentState) -> str | list[Send]:
        """Route to the calls that may run, each as a task of its own; else to the approval of those
        that wait; else to the model; else to the end."""
        turn, calls = open_calls(state["messages"])
        if turn is None:
            return END
        ready: list[Send] = []
        for call in calls:
            if self._may_run(call, recorded_decision(state, turn, call)):
                ready.append(Send("tools", [call]))
        if ready:
            return ready
        if calls:
            return "approval"
        since = messages_since(state["messages"], turn)
        has_answers = any(isinstance(message, ToolMessage) for message in since)
        return "agent" if has_answers else END

    def has_open_calls(self, state: AgentState) -> bool:
        """True if calls of the last turn have no answer yet."""
        return bool(open_calls(state["messages"])[1])

    def waiting(self, state: AgentState) -> list[ToolCall]:
        """The last turn's calls that need a person and have no decision, in the model's order."""
        waiting: list[ToolCall] = []
        for call, decision in _decided(state):
            if decision is None and self.rules.policy_for(call):
                waiting.append(call)
        return waiting

    def _may_run(self, call: ToolCall, decision: Decision | None) -> bool:
        return isinstance(decision, Approve | Edit) or self.rules.policy_for(call) is None

    # ── deciding ──────────────────────────────────────────────────────────────────────────────────

    def answers(self, state: AgentState) -> list[ToolMessage]:
        """The messages to the model about the calls that a person rejected or answered."""
        answers: list[ToolMessage] = []
        for call, decision in _decided(state):
            answer = answer_for(call, decision)
            if answer is not None:
                answers.append(answer)
        return answers

    def chat_decisions(self, state: AgentState) -> dict[str, DecisionRecord]:
        """The decisions in the words that a person wrote while calls waited: the same for each
        waiting call. Only a HumanMessage counts."""
        messages = state["messages"]
        turn, _ = open_calls(messages)
        if turn is None or not isinstance(messages[-1], HumanMessage):
            return {}
        since = messages_since(messages, turn)
        said = [message for message in since if isinstance(message, HumanMessage)]
        decision = decision_from_messages(said)
        waiting = self.waiting(state)
        return {call["id"] or "": record_decision(turn, call, decision) for call in waiting}

    # ── running ───────────────────────────────────────────────────────────────────────────────────

    def run(self, request: ToolCallRequest, execute: Execute) -> ToolOutput:
        """Make one call in a sync run, if it is permitted."""
        with _own_failures_marked():
            permitted, note = self._permit(request)
            if permitted is None:
                return failure(request.tool_call, NOT_APPROVED)
            if self.around is not None:
                permitted = self.around.with_tool(permitted)
                execute = self.around.wrapped(execute, self.calls.effects_of(request.tool_call))
            return _output_with_note(self.calls.run(permitted, execute), permitted.tool_call, note)

    async def arun(self, request: ToolCallRequest, execute: AsyncExecute) -> ToolOutput:
        """Make one call in an async run, if it is permitted."""
        with _own_failures_marked():
            permitted, note = self._permit(request)
            if permitted is None:
                return failure(request.tool_call, NOT_APPROVED)
            await hold_back(request)
            if self.around is not None:
                permitted = await self.around.awith_tool(permitted)
                execute = self.around.awrapped(execute, self.calls.effects_of(request.tool_call))
            output = await self.calls.arun(permitted, execute)
            return _output_with_note(output, permitted.tool_call, note)

    def _permit(self, request: ToolCallRequest) -> tuple[ToolCallRequest | None, str]:
        """The request as it may run and a note about it to the model, or None if it may not."""
        call = request.tool_call
        if self.rules.policy_for(call) is None:
            return request, ""
        turn, _ = open_calls(request.state["messages"])
        if turn is None:
            return None, ""
        match recorded_decision(request.state, turn, call):
            case Approve():
                return request, ""
            case Edit(args) as edit:
                return request.override(tool_call={**call, "args": args}), edit_note(edit)
            case _:
                return None, ""


@contextmanager
def _own_failures_marked() -> Iterator[None]:
    """Turn exceptions into `GateError`. `execute` turns a tool's own into messages, so any other is
    the gate's."""
    try:
        yield
    except GraphBubbleUp:
        raise
    except Exception as error:
        raise GateError(error) from error


def _decided(state: AgentState) -> list[tuple[ToolCall, Decision | None]]:
    """The last turn's open calls, each with the decision recorded for it."""
    turn, calls = open_calls(state["messages"])
    if turn is None:
        return []
    return [(call, recorded_decision(state, turn, call)) for call in calls]


# ── messages to the model ─────────────────────────────────────────────────────────────────────────


def answer_for(call: ToolCall, decision: Decision | None) -> ToolMessage | None:
    """The message about a call that a person rejected, with their reason, or answered; None for one
    that waits or may run."""
    match decision:
        case Reject():
            return rejection(call, decision)
        case Respond():
            return response(call, decision)
        case _:
            return None


def edit_note(edit: Edit) -> str:
    """A note that the call ran with other arguments than the model's."""
    args = json.dumps(edit.args, ensure_ascii=False)
    return f"A person changed the arguments of this call before it ran. It ran with: {args}"


def with_note(message: ToolMessage, note: str) -> ToolMessage:
    """The message, with a note to the model before it."""
    content: str | list[str | dict[Any, Any]]
    if isinstance(message.content, str):
        content = f"{note}\n\n{message.content}"
    else:
        content = [{"type": "text", "text": note}, *message.content]
    return message.model_copy(update={"content": content})


def _output_with_note(output: ToolOutput, call: ToolCall, note: str) -> ToolOutput:
    """The output with a note to the model before it. In a Command, the note goes into the tool
    message for the call."""
    if not note:
        return output
    if isinstance(output, list):
        # A tool may return several, though LangGraph's types do not say so.
        return [_output_with_note(part, call, note) for part in output]  # type: ignore[return-value]
    if isinstance(output, ToolMessage):
        return with_note(output, note)
    if not isinstance(output.update, dict):
        return output
    messages = [
        with_note(message, note) if is_answer(message, call) else message
        for message in output.update.get("messages", [])
    ]
    return replace(output, update={**output.update, "messages": messages})
