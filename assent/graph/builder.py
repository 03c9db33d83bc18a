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
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, InvalidToolCall, SystemMessage, ToolCall, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, ToolException
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolInvocationError
from langgraph.types import Send
from pydantic import BaseModel

from assent.core.clock import uuid7
from assent.core.errors import ConfigurationError
from assent.core.json import JsonObject
from assent.graph.approval_rules import ApprovalPolicy, ApproveOption, approval_rules
from assent.graph.effects import Effects
from assent.graph.gate import Gate, GateError
from assent.graph.model_retry import ModelCalls, Retry, Timeout, retry_policy, timeout_policy
from assent.graph.nested import ask_node, is_nested
from assent.graph.provider_history import provider_history
from assent.graph.state import AgentState, Conversation
from assent.graph.tool_calls import ToolTimeout, as_tool, failure, tool_calls
from assent.graph.turns import as_agent, begin_turn

__all__ = ["APPROVAL_NODE", "ApprovalPolicy", "HitlGraph", "build_hitl_agent"]

APPROVAL_NODE = "approval"
ASK_NODE = "ask"

logger = logging.getLogger(__name__)


class HitlGraph(StateGraph[AgentState, None, Conversation, Conversation]):
    """The builder of an agent, with its gate. A compiled graph keeps it as `.builder`, also through
    `copy` and `with_config`."""

    def __init__(self, gate: Gate, *, chat_decisions: bool) -> None:
        super().__init__(AgentState, input_schema=Conversation, output_schema=Conversation)
        self.gate = gate
        self.takes_chat_decisions = chat_decisions


def build_hitl_agent(
    model: str | BaseChatModel,
    tools: Sequence[BaseTool | Callable[..., Any]],
    *,
    approve: ApproveOption,
    system_prompt: str | SystemMessage | None = None,
    checkpointer: BaseCheckpointSaver[Any] | None = None,
    name: str = "agent",
    chat_decisions: bool = False,
    effects: Mapping[str, Effects] | None = None,
    tool_timeout: ToolTimeout = None,
    model_retry: Retry = 3,
    model_timeout: Timeout = None,
) -> CompiledStateGraph[AgentState, None, Conversation, Conversation]:
    """Build an agent that runs its free tools at once and pauses before the gated ones.

    `model` is a chat model, or a string for `init_chat_model` such as "openai:gpt-4o-mini".
    `approve` says which calls need a person: tool names; a mapping of tool name to
    `ApprovalPolicy`, predicate over the arguments, or True; or, for all tools, one policy or one
    predicate, `predicate(args)` or `predicate(tool, args)`. A pause needs a `checkpointer`; a
    server brings its own. With `chat_decisions=True` a chat message on a paused thread decides: a
    whole message that is exactly a word of consent approves, any other rejects with that text as
    the reason.

    `effects` declares, by tool name, what to do about a call that was cut off: "none" (it changes
    nothing: call it again), "idempotent" (call it again with the same `idempotency_key()`), or
    "once" (ask a person), the default. Only a run that has a ledger, as a server's has, can tell
    that a call was cut off. `tool_timeout` is in seconds, for all tools or by tool name.

    `model_retry` is the number of tries of a model call in all, if the provider fails for a moment
    (429, 5xx, a dropped connection), or a LangGraph `RetryPolicy`; None is one try. `model_timeout`
    is the limit of one try in seconds, or a LangGraph `TimeoutPolicy`. Both timeouts need an async
    run. A run's `recursion_limit` counts turns of the model.

    Raises `ConfigurationError` for a tool name that no tool has, an invalid option, or a model that
    cannot be set up or cannot call tools.
    """
    by_name = _by_name(tools, approve)
    calls = tool_calls(by_name, effects, tool_timeout)
    gate = Gate(approval_rules(approve, by_name), by_name, calls)
    retry = retry_policy(model_retry)
    chat_model = _chat_model(model, retries=retry.max_attempts > 1)
    bound = _bind(chat_model, list(by_name.values()))
    model_calls = ModelCalls(bound, retry, timeout_policy(model_timeout))
    graph = HitlGraph(gate, chat_decisions=chat_decisions)
    graph.add_node("agent", _agent_node(model_calls, system_prompt))
    _add_gate(graph)
    return as_agent(
        graph.compile(checkpointer=checkpointer, interrupt_before=[APPROVAL_NODE], name=name)
    )


def _add_gate(graph: HitlGraph) -> None:
    """Add the nodes around the model's, and the edges."""
    gate = graph.gate
    tool_node = ToolNode(
        list(gate.tools.values()),
        wrap_tool_call=gate.run,
        awrap_tool_call=gate.arun,
        handle_tool_errors=_tool_error(gate.tools),
    )
    graph.add_node("tools", tool_node)
    graph.add_node("settle", _without_thread(_settle))
    graph.add_node(APPROVAL_NODE, _approval_node(gate))
    graph.add_node(ASK_NODE, ask_node(gate))
    routed = ["agent", "settle", APPROVAL_NODE, ASK_NODE]
    waiting = APPROVAL_NODE
    if graph.takes_chat_decisions:
        waiting = "consent"
        graph.add_node(waiting, _consent_node(gate))
        routed.append(waiting)

    def here(node: str, config: RunnableConfig) -> str:
        return ASK_NODE if node == APPROVAL_NODE and is_nested(config) else node

    def route(state: AgentState, config: RunnableConfig) -> str | list[Send]:
        to = gate.route(state)
        return here(to, config) if isinstance(to, str) else to

    def start(state: AgentState, config: RunnableConfig) -> str:
        # New input goes to the model, unless calls of the last turn still wait for a person.
        return here(waiting, config) if gate.waiting(state) else "agent"

    graph.add_edge("tools", "settle")
    for node in routed:
        routes = ["agent", "tools", APPROVAL_NODE, ASK_NODE, END]
        graph.add_conditional_edges(node, _without_thread(route), routes)
    graph.add_conditional_edges(START, _without_thread(start), [waiting, ASK_NODE, "agent"])


def _by_name(
    tools: Sequence[BaseTool | Callable[..., Any]], approve: ApproveOption
) -> dict[str, BaseTool]:
    options = list(approve.values()) if isinstance(approve, Mapping) else [approve]
    if any(option is tool for option in options for tool in tools):
        raise ConfigurationError(
            "approve= was given a tool where it takes the name of one: it would be called as a "
            "predicate. Name it."
        )
    by_name = {tool.name: tool for tool in map(as_tool, tools)}
    if len(by_name) < len(tools):
        raise ConfigurationError(
            "Two tools have the same name. Give each tool of an agent a name of its own."
        )
    return by_name


def _without_thread(function: Callable[..., Any]) -> Runnable[AgentState, Any]:
    """The function as a runnable that also runs on the event loop. LangGraph would hand it to a
    thread, and those may all be busy with tools."""

    @wraps(function)
    async def on_the_loop(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return RunnableLambda(function, on_the_loop, name=function.__name__)


# ── nodes ─────────────────────────────────────────────────────────────────────────────────────────


def _agent_node(
    model: ModelCalls, system_prompt: str | SystemMessage | None
) -> Runnable[AgentState, JsonObject]:
    if isinstance(system_prompt, str):
        system_prompt = SystemMessage(system_prompt)
    system = [] if system_prompt is None else [system_prompt]

    def call(state: AgentState, config: RunnableConfig) -> JsonObject:
        begin_turn(config)
        history = provider_history(state["messages"])
        return _turn(state, model.call([*system, *history], config))

    async def acall(state: AgentState, config: RunnableConfig) -> JsonObject:
        begin_turn(config)
        history = provider_history(state["messages"])
        return _turn(state, await model.acall([*system, *history], config))

    return RunnableLambda(call, acall, name="agent")


def _turn(state: AgentState, message: AIMessage) -> JsonObject:
    """The writes of a turn of the model. The decisions of the turn before end with it."""
    if message.id is not None and any(message.id == earlier.id for earlier in state["messages"]):
        # Under an id that is taken it would replace the earlier message, and that one's answers
        # would pass for its own.
        message = message.model_copy(update={"id": uuid7()})
    calls = _with_ids(message.tool_calls)
    if calls != message.tool_calls:
        message = message.model_copy(update={"tool_calls": calls})
    refused: list[ToolMessage] = []
    for invalid in message.invalid_tool_calls:
        error = invalid["error"] or "cut off"
        refused.append(_refusal(invalid, f"Its arguments are not valid JSON ({error})."))
    if _is_cut_off(message):
        # The rest of the arguments may be missing, and streaming closes what is open: `{"amount":
        # 12` may have been meant to go on.
        why = "The model's message was cut off, so its arguments may not be whole."
        refused += [_refusal(call, why) for call in calls]
    return {"messages": [message, *refused], "decisions": None}


def _refusal(call: ToolCall | InvalidToolCall, why: str) -> ToolMessage:
    return failure(call, f"This call did not run. {why} Call again.")


def _is_cut_off(message: AIMessage) -> bool:
    """True if the provider says that the message is not whole; or if it says nothing, though it
    always says how a message ended."""
    metadata = message.response_metadata
    reason = metadata.get("finish_reason") or metadata.get("stop_reason")
    if reason is None and metadata.get("model_provider") == "openai":
        return "status" not in metadata
    return reason in ("length", "max_tokens")


def _with_ids(calls: Sequence[ToolCall]) -> list[ToolCall]:
    """The calls, each with an id of its own. Some providers give none, or one id to two calls, and
    a decision must name its call."""
    seen: set[str] = set()
    fixed: list[ToolCall] = []
    for call in calls:
        call_id = call["id"]
        if not call_id or call_id in seen:
            call_id = uuid7()
        seen.add(call_id)
        fixed.append(ToolCall(**{**call, "id": call_id}))
    return fixed


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


# ── errors of tools ───────────────────────────────────────────────────────────────────────────────


def _tool_error(tools: Mapping[str, BaseTool]) -> Callable[[Exception], str]:
    """The message to the model about a tool that raised.

    A `ToolException` is written for the model. The text of any other error may hold what nobody
    outside should see, so the model gets its class and the log the rest. A failure of the gate ends
    the run.
    """

    def message(error: Exception) -> str:
        if isinstance(error, GateError):
            raise error.cause
        if isinstance(error, ToolInvocationError) and not _is_about_arguments(error, tools):
            error = error.source
        elif isinstance(error, ToolException):
            return str(error)
        logger.warning("A tool failed.", exc_info=error)
        return f"The tool failed with {type(error).__name__}."

    return message


def _is_about_arguments(error: ToolInvocationError, tools: Mapping[str, BaseTool]) -> bool:
    """True if the call's arguments were refused. For a `ValidationError` from within the tool,
    LangGraph also raises this error, and asks the model to repeat a call that may have happened."""
    if error.tool_name not in tools:
        return error.source.title == BaseModel.__name__
    schema = tools[error.tool_name].get_input_schema()
    return error.source.title in (schema.__name__, getattr(schema, "model_config", {}).get("title"))


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


def _chat_model(model: str | BaseChatModel, *, retries: bool) -> BaseChatModel:
    """The model, made if it is given by name. If the agent makes retries, a client made here makes
    none: nobody would see them."""
    if not isinstance(model, str):
        return model
    try:
        made: BaseChatModel = init_chat_model(model)
        if retries and "max_retries" in type(made).model_fields:
            made = init_chat_model(model, max_retries=0)
        return made
    except ImportError as error:
        provider = model.partition(":")[0]
        raise ConfigurationError(
            f"The model '{model}' needs a package that is not installed: {error}. "
            f"Try: pip install 'assent[{provider}]'."
        ) from error
    except Exception as error:
        raise ConfigurationError(f"The model '{model}' cannot be set up: {error}") from error


def _bind(model: BaseChatModel, tools: list[BaseTool]) -> Runnable[LanguageModelInput, AIMessage]:
    if not tools:
        return model
    try:
        return model.bind_tools(tools)
    except NotImplementedError as error:
        raise ConfigurationError(
            f"The model {type(model).__name__} cannot call tools: it has no bind_tools."
        ) from error
