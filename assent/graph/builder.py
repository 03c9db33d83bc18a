"""`build_hitl_agent`: an agent that asks a person before it acts, as a compiled LangGraph graph.

    START -> agent -> (route) ┬-> tools     one task per call that may run; then settle -> (route)
                              ├-> approval  after a pause, by interrupt_before; then (route)
                              ├-> ask       in place of it where the agent is nested (nested.py)
                              ├-> agent
                              └-> END

It differs from LangGraph's prebuilt agents on purpose:

1. New input on a paused thread does not drop the waiting calls: it leads back to the approval,
   which pauses again.
2. A run that goes on without a decision (`None`, `Command(resume=...)`) runs nothing, and pauses
   again.
3. The messages in the state are in the order in which they happened; the provider gets them in the
   order that it accepts (`provider_history.py`).
4. An edited call keeps its place in the model's message as the model wrote it; its tool message
   says with which arguments it ran.
5. Time limits and retries apply to single calls of a tool (`tool_calls.py`) or of the model
   (`model_retry.py`), not to their nodes.
6. What comes from its user, such as middleware, stands around the model and around the tools, and
   never around the gate (`tool_middleware.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.store.base import BaseStore
from langgraph.types import Send

from assent.core.errors import ConfigurationError
from assent.core.json import JsonObject
from assent.graph.approval_rules import ApprovalPolicy, ApproveOption, approval_rules
from assent.graph.each_turn import EachTurn, ModelOfTurn, Tools, ToolsOfTurn, tools_by_name
from assent.graph.effects import Effects, ledger_of
from assent.graph.gate import Gate
from assent.graph.middleware import Middleware, read_middleware
from assent.graph.model_node import (
    ModelNode,
    ResponseNode,
    TurnCalls,
    chat_model,
    read_response_format,
)
from assent.graph.model_retry import Retry, Timeout, retry_policy, timeout_policy
from assent.graph.nested import ask_node
from assent.graph.node_config import is_nested
from assent.graph.state import AgentState, Conversation
from assent.graph.state_schema import Schemas, schemas_of
from assent.graph.tool_calls import ToolTimeout, tool_calls
from assent.graph.tool_errors import gate_error, tool_error
from assent.graph.tool_middleware import AroundTools
from assent.graph.turns import Steps, as_agent

__all__ = ["APPROVAL_NODE", "ApprovalPolicy", "HitlGraph", "build_hitl_agent"]

APPROVAL_NODE = "approval"
ASK_NODE = "ask"


class HitlGraph(StateGraph[AgentState, Any, Conversation, Conversation]):
    """The builder of an agent, with its gate. A compiled graph keeps it as `.builder`, also through
    `copy` and `with_config`."""

    def __init__(
        self,
        gate: Gate,
        schemas: Schemas,
        *,
        context_schema: type | None,
        chat_decisions: bool,
        steps: Steps,
    ) -> None:
        super().__init__(
            schemas.state,
            context_schema=context_schema,
            input_schema=schemas.input,
            output_schema=schemas.output,
        )
        self.gate = gate
        self.steps = steps
        self.takes_chat_decisions = chat_decisions


def build_hitl_agent(
    model: str | BaseChatModel | ModelOfTurn,
    tools: Tools | ToolsOfTurn,
    *,
    approve: ApproveOption,
    system_prompt: str | SystemMessage | None = None,
    checkpointer: BaseCheckpointSaver[Any] | None = None,
    store: BaseStore | None = None,
    name: str = "agent",
    chat_decisions: bool = False,
    effects: Mapping[str, Effects] | None = None,
    tool_timeout: ToolTimeout = None,
    model_retry: Retry = 3,
    model_timeout: Timeout = None,
    context_schema: type | None = None,
    state_schema: type | None = None,
    response_format: Any = None,
    middleware: Sequence[AgentMiddleware[Any, Any, Any]] = (),
) -> CompiledStateGraph[AgentState, Any, Conversation, Conversation]:
    """Build an agent that runs its free tools at once and pauses before the gated ones.

    `model` is a chat model, a string for `init_chat_model` such as "openai:gpt-4o-mini", or a
    function of the state and the runtime that returns the model of each turn; what it returns other
    than a chat model has its tools bound already. `tools` are functions or tools, or a function of
    the state and the runtime that returns those of each turn.

    `approve` says which calls need a person: tool names; a mapping of tool name to
    `ApprovalPolicy`, predicate over the arguments, or True; or, for all tools, one policy or one
    predicate, `predicate(args)` or `predicate(tool, args)`. If only a turn knows a tool, each of
    its calls needs a person, unless `approve` maps its name to something else, such as False. A
    pause needs a `checkpointer`; a server brings its own. With `chat_decisions=True` a chat message
    on a paused thread decides: a whole message that is exactly a word of consent approves, any
    other rejects with that text as the reason. In code, input is trusted: whoever can also put the
    call itself into the state can consent to it. Under a server only messages to a paused thread
    decide, by its rules.

    `effects` declares, by tool name, what to do about a call that was cut off: "none" (it changes
    nothing: call it again), "idempotent" (call it again with the same `idempotency_key()`), or
    "once" (ask a person), the default. Only a run that has a ledger, as a server's has, can tell
    that a call was cut off. `tool_timeout` is in seconds, for all tools or by tool name.

    `model_retry` is the number of tries of a model call in all, if the provider fails for a moment
    (429, 5xx, a dropped connection), or a LangGraph `RetryPolicy`; None is one try. `model_timeout`
    is the limit of one try in seconds, or a LangGraph `TimeoutPolicy`. Both timeouts need an async
    run. A run's `recursion_limit` counts turns of the model.

    `store` and `context_schema` are LangGraph's. `state_schema` is a TypedDict with further keys of
    the state, which the input takes too. With `response_format`, a schema, the model is asked at
    the end for its answer in that form: `structured_response` in the output.

    `middleware` is langchain's. It stands around the model and the tools, and not around the gate:
    what a hook makes of a turn is what people are asked about, and a call reaches its tool as it
    was permitted, or not at all. Tools of middleware are tools like the others. With a
    `wrap_tool_call`, any tool that the agent does not know is gated.

    Raises `ConfigurationError` for a tool name that no tool has, an invalid option, or a model that
    cannot be set up or cannot call tools.
    """
    retry = retry_policy(model_retry)
    if isinstance(model, str):
        model = chat_model(model, retries=retry.max_attempts > 1)
    hooks = read_middleware(middleware)
    static: Tools = () if callable(tools) else tools
    _check_predicates(approve, static)
    known = tools_by_name([*static, *hooks.tools])
    each = EachTurn(model, known, tools if callable(tools) else None)
    has_others = callable(tools) or bool(hooks.around_tools)
    gate = Gate(
        approval_rules(approve, known, has_others=has_others),
        known,
        tool_calls(known, effects, tool_timeout, has_others=has_others),
        AroundTools(each, hooks.around_tools) if has_others else None,
    )
    response = read_response_format(response_format)
    graph = HitlGraph(
        gate,
        schemas_of(state_schema, hooks.schemas, response=response and response.type),
        context_schema=context_schema,
        chat_decisions=chat_decisions,
        steps=_steps(hooks, has_response=response is not None),
    )
    turns = TurnCalls(each, retry, timeout_policy(model_timeout))
    system = _system(system_prompt)
    agent_node = ModelNode(turns, system, hooks.around_model, response is not None)
    graph.add_node("agent", agent_node.runnable())
    roads = _roads(hooks, has_response=response is not None)
    if response is not None:
        graph.add_node("respond", ResponseNode(turns, response, system).runnable())
        graph.add_edge("respond", roads.leave)
    _add_gate(graph, roads, hooks)
    compiled = graph.compile(
        checkpointer=checkpointer, store=store, interrupt_before=[APPROVAL_NODE], name=name
    )
    return as_agent(compiled)


def _system(prompt: str | SystemMessage | None) -> Sequence[SystemMessage]:
    if prompt is None:
        return ()
    return (SystemMessage(prompt) if isinstance(prompt, str) else prompt,)


@dataclass(frozen=True, slots=True)
class Roads:
    """The nodes to which an agent's ways lead: those of new input, of the next turn, of the answer
    after the last turn, and out of the agent."""

    start: str
    turn: str
    answer: str
    leave: str


def _roads(hooks: Middleware, *, has_response: bool) -> Roads:
    turn = hooks.first("before_model") or "agent"
    leave = hooks.first("after_agent") or END
    answer = "respond" if has_response else leave
    return Roads(hooks.first("before_agent") or turn, turn, answer, leave)


def _steps(hooks: Middleware, *, has_response: bool) -> Steps:
    return Steps(
        of_a_turn=hooks.count("before_model", "after_model"),
        further=hooks.count("before_agent", "before_model", "after_agent") + has_response,
    )


def _add_gate(graph: HitlGraph, roads: Roads, hooks: Middleware) -> None:
    """Add the nodes around the model's, and the edges."""
    gate = graph.gate
    graph.add_node("tools", _tool_node(gate))
    graph.add_node("settle", _without_thread(_settle))
    graph.add_node(APPROVAL_NODE, _approval_node(gate))
    graph.add_node(ASK_NODE, ask_node(gate))
    routed = ["settle", APPROVAL_NODE, ASK_NODE]
    if after_model := hooks.first("after_model"):
        graph.add_edge("agent", after_model)
    else:
        routed.append("agent")
    waiting = APPROVAL_NODE
    if graph.takes_chat_decisions:
        waiting = "consent"
        graph.add_node(waiting, _consent_node(gate))
        routed.append(waiting)

    def here(node: str, config: RunnableConfig) -> str:
        return ASK_NODE if node == APPROVAL_NODE and is_nested(config) else node

    def route(state: AgentState, config: RunnableConfig) -> str | list[Send]:
        to = gate.route(state)
        if not isinstance(to, str):
            return to
        return {"agent": roads.turn, END: roads.answer}.get(to) or here(to, config)

    def start(state: AgentState, config: RunnableConfig) -> str:
        # New input goes to the model, unless calls of the last turn still wait for a person. A
        # server has taken the messages that decide, each from who may; in an input, anybody may
        # write the call and the consent to it.
        ask = waiting if ledger_of(config) is None else APPROVAL_NODE
        return here(ask, config) if gate.waiting(state) else roads.start

    graph.add_edge("tools", "settle")
    routes = [roads.turn, "tools", APPROVAL_NODE, ASK_NODE, roads.answer]
    for node in routed:
        graph.add_conditional_edges(node, _without_thread(route), routes)
    first = dict.fromkeys([waiting, APPROVAL_NODE, ASK_NODE, roads.start])
    graph.add_conditional_edges(START, _without_thread(start), list(first))
    _add_hooks(graph, roads, hooks, route)


def _add_hooks(
    graph: HitlGraph, roads: Roads, hooks: Middleware, route: Callable[..., Any]
) -> None:
    """Add the nodes of hooks, each with the edge to the next one, or to where its `jump_to` leads.
    While calls are open, only the gate's routing leads to the tools or to the end."""
    gate = graph.gate

    def edge(following: str | None) -> Callable[..., Any]:
        def onward(state: Any, config: RunnableConfig) -> str | list[Send]:
            jump = state.get("jump_to")
            if jump == "model":
                return roads.turn
            if jump in ("tools", "end") and gate.has_open_calls(state):
                to: str | list[Send] = route(state, config)
                return to
            if jump == "end":
                return roads.leave
            return following or route(state, config)

        return onward

    # After the last `after_model`, the gate's routing follows.
    ends = {"before_agent": roads.turn, "before_model": "agent", "after_agent": END}
    places = {roads.turn, "tools", APPROVAL_NODE, ASK_NODE, roads.answer, roads.leave}
    for hook, nodes in hooks.nodes.items():
        names = [*nodes]
        for name, following in zip(names, [*names[1:], ends.get(hook)], strict=False):
            graph.add_node(name, nodes[name])
            ways = sorted(places | {following or roads.turn})
            graph.add_conditional_edges(name, _without_thread(edge(following)), ways)


def _tool_node(gate: Gate) -> ToolNode:
    # What stands around a tool handles its errors too.
    errors = tool_error(gate.tools) if gate.around is None else gate_error
    return ToolNode(
        list(gate.tools.values()),
        wrap_tool_call=gate.run,
        awrap_tool_call=gate.arun,
        handle_tool_errors=errors,
    )


def _check_predicates(approve: ApproveOption, tools: Collection[object]) -> None:
    """Raise `ConfigurationError` if a tool stands where a predicate is meant."""
    options = list(approve.values()) if isinstance(approve, Mapping) else [approve]
    if any(option is tool for option in options for tool in tools):
        raise ConfigurationError(
            "approve= was given a tool where it takes the name of one: it would be called as a "
            "predicate. Name it."
        )


def _without_thread(function: Callable[..., Any]) -> Runnable[AgentState, Any]:
    """The function as a runnable that also runs on the event loop. LangGraph would hand it to a
    thread, and those may all be busy with tools."""

    @wraps(function)
    async def on_the_loop(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return RunnableLambda(function, on_the_loop, name=function.__name__)


# ── nodes ─────────────────────────────────────────────────────────────────────────────────────────


def _settle(state: AgentState) -> JsonObject:
    """Join parallel tasks. A conditional edge straight after them would see the message of its own
    task only."""
    return {}


def _approval_node(gate: Gate) -> Runnable[AgentState, JsonObject]:
    def approval(state: AgentState) -> JsonObject:
        return {"messages": gate.answers(state)}

    return _without_thread(approval)


def _consent_node(gate: Gate) -> Runnable[AgentState, JsonObject]:
    def consent(state: AgentState) -> JsonObject:
        decisions = gate.chat_decisions(state)
        known = {**(state.get("decisions") or {}), **decisions}
        decided = AgentState(messages=state["messages"], decisions=known)
        return {"decisions": decisions, "messages": gate.answers(decided)}

    return _without_thread(consent)
