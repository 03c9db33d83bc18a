"""`build_hitl_agent`: an agent that asks a person before it acts, as a compiled LangGraph graph.

    START -> agent -> (route) ┬-> tools     one task per call that may run; then settle -> (route)
                              ├-> approval  compiled with interrupt_before=["approval"]; then (route)
                              ├-> agent
                              └-> END

Where this differs from LangGraph's prebuilt agents, on purpose:

1. New input on a paused thread does not drop the waiting calls: it leads back to the approval,
   which pauses again.
2. Continuing without a decision (`None`, `Command(resume=...)`) runs nothing, and pauses again.
3. The order of the state's messages is what happened; the provider gets them in the order that it
   accepts (`history.py`).
4. An edited call keeps its place in the model's message as the model wrote it; its tool message
   says what ran instead.
5. Time limits and retries are of single calls, of a tool or of the model, and not of their nodes
   (`calls.py`, `retrying.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, InvalidToolCall, SystemMessage, ToolCall, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, ToolException
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolInvocationError
from pydantic import BaseModel

from assent.core.clock import uuid7
from assent.core.errors import ConfigurationError
from assent.graph.approval_rules import ApprovalPolicy, ApproveOption, approval_rules
from assent.graph.effects import Effects, effect_rules
from assent.graph.gate import Gate, GateError
from assent.graph.model_retry import ModelCalls, Retry, Timeout, retry_policy, timeout_policy
from assent.graph.provider_history import provider_history
from assent.graph.state import AgentState, Conversation
from assent.graph.tool_calls import ToolCalls, ToolTimeout, as_tool, timeout_rules

__all__ = ["APPROVAL_NODE", "ApprovalPolicy", "HitlGraph", "build_hitl_agent"]

APPROVAL_NODE = "approval"

logger = logging.getLogger(__name__)


class HitlGraph(StateGraph[AgentState, None, Conversation, Conversation]):
    """The builder of an agent, which knows its gate. A compiled graph keeps it as `.builder`, also
    through `copy` and `with_config`."""

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
    """An agent that runs its free tools at once and pauses before the gated ones.

    `model` is a chat model, or a string for `init_chat_model` such as "openai:gpt-4o-mini".
    `approve` says which calls need a person: tool names; a mapping of tool name to
    `ApprovalPolicy`, predicate over the arguments, or True; or, for all tools, one policy or one
    predicate, `predicate(args)` or `predicate(tool, args)`. A pause needs a `checkpointer`; a
    server brings its own. With `chat_decisions=True` a chat message on a paused thread decides: a
    whole message that is exactly a word of consent approves, any other rejects with that text as
    the reason.

    `effects` declares, by tool name, what may be done with a call that was cut off: "none" (it
    changes nothing: call it again), "idempotent" (call it again with the same `idempotency_key()`),
    or "once" (ask a person), which every other tool is taken for. Only a run that has a ledger, as
    a server's has, can tell that a call was cut off. `tool_timeout` is in seconds, for all tools or
    by tool name.

    `model_retry` is how often a call of the model is tried in all when the provider fails for a
    moment (429, 5xx, a dropped connection), or a LangGraph `RetryPolicy`; None is once.
    `model_timeout` is how many seconds one try may take, or a LangGraph `TimeoutPolicy`. Both
    limits need an async run.

    Raises `ConfigurationError` for a tool name that no tool has, an option that makes no sense, or
    a model that cannot be set up or cannot call tools.
    """
    if any(given is tool for given in _values(approve) for tool in tools):
        raise ConfigurationError(
            "approve= was given a tool where it takes the name of one: it would be called as a predicate. Name it."
        )
    by_name = {tool.name: tool for tool in map(as_tool, tools)}
    if len(by_name) < len(tools):
        raise ConfigurationError(
            "Two tools have the same name. Give each tool of an agent a name of its own."
        )
    declared = effect_rules(effects or {}, by_name)
    gate = Gate(
        approval_rules(approve, by_name),
        by_name,
        ToolCalls(declared, timeout_rules(tool_timeout, by_name, declared)),
    )
    graph = HitlGraph(gate, chat_decisions=chat_decisions)
    retry = retry_policy(model_retry)
    bound = _bind(_chat_model(model, retries=retry.max_attempts > 1), list(by_name.values()))
    graph.add_node(
        "agent", _agent_node(ModelCalls(bound, retry, timeout_policy(model_timeout)), system_prompt)
    )
    graph.add_node(
        "tools",
        ToolNode(
            list(by_name.values()),
            wrap_tool_call=gate.run,
            awrap_tool_call=gate.arun,
            handle_tool_errors=_tool_error(by_name),
        ),
    )
    # A conditional edge straight after parallel tasks would see only its own task's message: this
    # join sees them all.
    graph.add_node("settle", _join)
    graph.add_node(APPROVAL_NODE, _approval_node(gate))
    graph.add_edge("tools", "settle")
    targets = ["agent", "tools", APPROVAL_NODE, "__end__"]
    for node in ("agent", "settle", APPROVAL_NODE):
        graph.add_conditional_edges(node, gate.route, targets)
    if chat_decisions:
        graph.add_node("consent", _consent_node(gate))
        graph.add_conditional_edges("consent", gate.route, targets)
    # New input goes to the model, unless calls of the last turn still wait for a person.
    waiting = "consent" if chat_decisions else APPROVAL_NODE
    graph.add_conditional_edges(
        START, lambda state: waiting if gate.waiting(state) else "agent", [waiting, "agent"]
    )
    return graph.compile(checkpointer=checkpointer, interrupt_before=[APPROVAL_NODE], name=name)


def _agent_node(
    model: ModelCalls, system_prompt: str | SystemMessage | None
) -> Runnable[AgentState, dict[str, Any]]:
    system = (
        [SystemMessage(system_prompt)]
        if isinstance(system_prompt, str)
        else [system_prompt]
        if system_prompt
        else []
    )

    def call(state: AgentState, config: RunnableConfig) -> dict[str, Any]:
        return _turn(state, model.call([*system, *provider_history(state["messages"])], config))

    async def acall(state: AgentState, config: RunnableConfig) -> dict[str, Any]:
        return _turn(
            state, await model.acall([*system, *provider_history(state["messages"])], config)
        )

    return RunnableLambda(call, acall, name="agent")


def _turn(state: AgentState, message: AIMessage) -> dict[str, Any]:
    """What a turn of the model writes. The decisions of the turn before end with it."""
    if message.id is not None and any(message.id == earlier.id for earlier in state["messages"]):
        # Under an id that is taken it would replace the earlier message, and that one's answers
        # would pass for its own.
        message = message.model_copy(update={"id": uuid7()})
    if (calls := _with_ids(message.tool_calls)) != message.tool_calls:
        message = message.model_copy(update={"tool_calls": calls})
    refused = [
        _refused(call, f"Its arguments are not valid JSON ({call['error'] or 'cut off'}).")
        for call in message.invalid_tool_calls
    ]
    if _is_cut_off(message):
        # The rest of the arguments may be missing, and streaming closes what is open: `{"amount":
        # 12` may have been meant to go on.
        refused += [
            _refused(call, "The model's message was cut off, so its arguments may not be whole.")
            for call in message.tool_calls
        ]
    return {"messages": [message, *refused], "decisions": None}


def _refused(call: ToolCall | InvalidToolCall, why: str) -> ToolMessage:
    return ToolMessage(
        f"This call did not run. {why} Call again.",
        tool_call_id=call["id"] or "",
        name=call["name"],
        status="error",
    )


def _is_cut_off(message: AIMessage) -> bool:
    """Whether the provider says that the message is not whole, or, where it always says how a
    message ended, does not say."""
    metadata = message.response_metadata
    reason = metadata.get("finish_reason") or metadata.get("stop_reason")
    if reason is None and metadata.get("model_provider") == "openai":
        return "status" not in metadata
    return reason in ("length", "max_tokens")


def _with_ids(calls: Sequence[ToolCall]) -> list[ToolCall]:
    """The calls with an id each. Some providers give none, or the same one twice, and a decision
    must know which call it is for."""
    seen: set[str] = set()
    fixed = []
    for call in calls:
        call_id = call["id"] if call["id"] and call["id"] not in seen else uuid7()
        seen.add(call_id)
        fixed.append(ToolCall(**{**call, "id": call_id}))
    return fixed


def _approval_node(gate: Gate) -> Runnable[AgentState, dict[str, Any]]:
    def approval(state: AgentState) -> dict[str, Any]:
        return {"messages": gate.answers(state)}

    return RunnableLambda(approval)


def _consent_node(gate: Gate) -> Runnable[AgentState, dict[str, Any]]:
    def consent(state: AgentState) -> dict[str, Any]:
        decisions = gate.chat_decisions(state)
        decided = AgentState(
            messages=state["messages"], decisions={**(state.get("decisions") or {}), **decisions}
        )
        return {"decisions": decisions, "messages": gate.answers(decided)}

    return RunnableLambda(consent)


def _join(state: AgentState) -> dict[str, Any]:
    return {}


def _tool_error(tools: Mapping[str, BaseTool]) -> Callable[[Exception], str]:
    """What the model is told of a tool that raised.

    `ToolException` is what a tool raises for the model to read; the text of any other error may
    hold what nobody outside should see, so only its class is named, and the log has the rest. A
    failure of the gate is nothing for the model: it ends the run.
    """

    def told(error: Exception) -> str:
        if isinstance(error, GateError):
            raise error.cause
        if isinstance(error, ToolInvocationError) and not _is_of_arguments(error, tools):
            return failed(error.source)
        return str(error) if isinstance(error, ToolException) else failed(error)

    def failed(error: Exception) -> str:
        logger.warning("A tool failed.", exc_info=error)
        return f"The tool failed with {type(error).__name__}."

    return told


def _is_of_arguments(error: ToolInvocationError, tools: Mapping[str, BaseTool]) -> bool:
    """Whether the call's arguments were refused. LangGraph also says so of a `ValidationError` from
    the middle of the tool's work, and asks the model to try again what may have happened."""
    schema = tools[error.tool_name].get_input_schema() if error.tool_name in tools else BaseModel
    return error.source.title in (schema.__name__, getattr(schema, "model_config", {}).get("title"))


def _values(approve: ApproveOption) -> Sequence[Any]:
    return list(approve.values()) if isinstance(approve, Mapping) else [approve]


def _chat_model(model: str | BaseChatModel, *, retries: bool) -> BaseChatModel:
    """The model. One that is made here leaves retries to the agent, if that makes any: the client's
    own would be seen by nobody."""
    if not isinstance(model, str):
        return model
    try:
        made: BaseChatModel = init_chat_model(model)
        return (
            init_chat_model(model, max_retries=0)
            if retries and "max_retries" in type(made).model_fields
            else made
        )
    except ImportError as error:
        provider = model.partition(":")[0]
        raise ConfigurationError(
            f"The model '{model}' needs a package that is not installed: {error}. Try: pip install 'assent[{provider}]'."
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
