"""An agent within another graph: how it asks for approvals.

Where LangGraph knows the graph inside of a node, it sees a static pause in it. It knows of none
that a tool calls, as in `await agent.ainvoke(…)`: such a pause is seen by nobody. An `interrupt()`
comes through from everywhere. So an agent that is nested asks by it, for all calls that wait at
once, and says what a client of the outer graph cannot know: the policy of each call, its preview,
and the schema of its tool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from langchain_core.messages import AIMessage, ToolCall
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph._internal._constants import NS_SEP
from langgraph.types import interrupt

from assent.core.decisions import decision_from_json
from assent.core.digest import call_digest
from assent.core.json import Json, JsonObject
from assent.core.policy import plain_policy
from assent.graph.approval_rules import ApprovalPolicy
from assent.graph.call_preview import preview_of, run_apart
from assent.graph.gate import Gate
from assent.graph.interrupts.forms import TOOL_APPROVALS, question_json
from assent.graph.json_schemas import schema_of_args
from assent.graph.state import AgentState, DecisionRecord, open_calls, record_decision


def ask_node(gate: Gate) -> Runnable[AgentState, JsonObject]:
    """The node that asks for the approval of the calls that wait, and records the decisions."""

    def ask(state: AgentState, config: RunnableConfig) -> JsonObject:
        return _asked(gate, state, config, run_apart(_previews(gate, gate.waiting(state))))

    async def aask(state: AgentState, config: RunnableConfig) -> JsonObject:
        return _asked(gate, state, config, await _previews(gate, gate.waiting(state)))

    return RunnableLambda(ask, aask, name="ask")


async def _previews(gate: Gate, calls: Sequence[ToolCall]) -> list[Json]:
    return [await preview_of(_policy(gate, call), call["args"]) for call in calls]


def _policy(gate: Gate, call: ToolCall) -> ApprovalPolicy:
    """The policy of a call that waits."""
    policy = gate.rules.policy_of(call["name"])
    assert policy is not None
    return policy


def _asked(
    gate: Gate, state: AgentState, config: RunnableConfig, previews: Sequence[Json]
) -> JsonObject:
    """Ask, and return what is decided as an update of the state.

    LangGraph hands out a task's answers by position, so one to another question of the same task
    may come up here, and anybody may send `Command(resume=…)`. Only an answer that names this
    question counts; after any other, it is asked again.
    """
    turn, _ = open_calls(state["messages"])
    assert turn is not None
    waiting = {str(call["id"]): call for call in gate.waiting(state)}
    calls = [
        _call_json(gate, call, preview)
        for call, preview in zip(waiting.values(), previews, strict=True)
    ]
    # Of the agent: another in the same task may have the same calls.
    namespace, _, _ = config["configurable"]["checkpoint_ns"].rpartition(NS_SEP)
    place = {"namespace": namespace, "message_id": turn.id}
    digest = call_digest(TOOL_APPROVALS, {**place, "calls": [*map(_identity, calls)]})
    question = {"kind": TOOL_APPROVALS, "digest": digest, **place, "calls": calls}
    while True:
        answer = interrupt(question)
        named = isinstance(answer, Mapping) and answer.get("digest") == digest
        if named and isinstance(answer.get("decisions"), Mapping):
            break
    records = _records(turn, waiting, answer["decisions"])
    known = {**(state.get("decisions") or {}), **records}
    decided = AgentState(messages=state["messages"], decisions=known)
    return {"decisions": records, "messages": gate.answers(decided)}


def _call_json(gate: Gate, call: ToolCall, preview: Json) -> JsonObject:
    name, args = call["name"], question_json(call["args"])
    return {
        "tool": name,
        "tool_call_id": call["id"],
        "args": args,
        "digest": call_digest(name, args),
        "policy": msgspec.to_builtins(plain_policy(_policy(gate, call))),
        "preview": preview,
        "schema": schema_of_args(gate.tools.get(name)),
    }


def _identity(call: JsonObject) -> JsonObject:
    return {name: call[name] for name in ("tool_call_id", "digest")}


def _records(
    turn: AIMessage, waiting: Mapping[str, ToolCall], decisions: Mapping[str, Any]
) -> dict[str, DecisionRecord]:
    records: dict[str, DecisionRecord] = {}
    for call_id, call in waiting.items():
        if call_id in decisions:
            decision = decision_from_json(decisions[call_id])
            records[call_id] = record_decision(turn, call, decision)
    return records
