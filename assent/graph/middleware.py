"""langchain's middleware in an agent: its hooks are nodes before and after the model, and wrappers
around the model and the tools, in the order that `create_agent` gives them.

None of it stands around the gate. What a hook writes to the state holds no decision, and a way
that it chooses with `jump_to` leads past the gate's own routing only if no call is open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware
from langchain.agents.middleware.types import AgentState as LangchainState
from langchain_core.messages import convert_to_messages
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool
from langgraph.graph.message import add_messages
from langgraph.types import Command

from assent.core.errors import AssentError, ConfigurationError
from assent.core.json import JsonObject
from assent.graph.node_config import runtime_of
from assent.graph.state import AgentState, last_turn, with_call_ids, without_own
from assent.graph.wrappers import Wrapper, command_update

BEFORE = ("before_agent", "before_model")
AFTER = ("after_model", "after_agent")


@dataclass(frozen=True, slots=True)
class Middleware:
    """All the middleware of an agent. `nodes` are those of each hook, by name, in the order in
    which they run; `schemas` are pairs of a middleware's name and its `state_schema`."""

    tools: Sequence[BaseTool] = ()
    schemas: Sequence[tuple[str, type]] = ()
    around_model: Sequence[Wrapper] = ()
    around_tools: Sequence[Wrapper] = ()
    nodes: Mapping[str, Mapping[str, Runnable[AgentState, JsonObject]]] = field(
        default_factory=dict
    )

    def first(self, hook: str) -> str | None:
        """The node that runs first of this hook's."""
        return next(iter(self.nodes.get(hook, ())), None)

    def count(self, *hooks: str) -> int:
        """The nodes of these hooks."""
        return sum(len(self.nodes.get(hook, ())) for hook in hooks)


def read_middleware(given: Sequence[Any]) -> Middleware:
    """The middleware, taken apart. Raises `ConfigurationError`."""
    if not given:
        return Middleware()
    for each in given:
        _check(each)
    names = [each.name for each in given]
    if len(set(names)) < len(names):
        raise ConfigurationError(
            "middleware= has two of the same name. Give each a name of its own, or leave one out."
        )
    nodes: dict[str, dict[str, Runnable[AgentState, JsonObject]]] = {}
    for hook in (*BEFORE, *AFTER):
        wrappers = _wrappers(given, hook)
        in_order = wrappers if hook in BEFORE else wrappers[::-1]
        nodes[hook] = {f"{each.middleware}.{hook}": _node(each) for each in in_order}
    return Middleware(
        tools=[tool for each in given for tool in getattr(each, "tools", ())],
        schemas=[("AgentMiddleware", LangchainState)]
        + [(each.name, each.state_schema) for each in given],
        around_model=_wrappers(given, "wrap_model_call"),
        around_tools=_wrappers(given, "wrap_tool_call"),
        nodes=nodes,
    )


def _check(given: Any) -> None:
    if not isinstance(given, AgentMiddleware):
        raise ConfigurationError(
            f"middleware= has {given!r}. Give it langchain's: instances of AgentMiddleware."
        )
    if isinstance(given, HumanInTheLoopMiddleware):
        raise ConfigurationError(
            f"middleware= has a {type(given).__name__}, and the agent has a gate already: name "
            "the tools with approve=."
        )


def _wrappers(given: Sequence[AgentMiddleware[Any, Any, Any]], hook: str) -> list[Wrapper]:
    """The hook of each middleware that has it."""
    wrappers = [
        Wrapper(each.name, hook, _own(each, hook), _own(each, f"a{hook}")) for each in given
    ]
    return [each for each in wrappers if each.sync or each.asynchronous]


def _own(given: AgentMiddleware[Any, Any, Any], method: str) -> Callable[..., Any] | None:
    """The method, unless it is the one of the base class, which does nothing."""
    if getattr(type(given), method) is getattr(AgentMiddleware, method):
        return None
    own: Callable[..., Any] = getattr(given, method)
    return own


# ── hooks as nodes ────────────────────────────────────────────────────────────────────────────────


def _node(wrapper: Wrapper) -> Runnable[AgentState, JsonObject]:
    """The node of a hook. In an async run, a sync one is handed to a thread."""

    def call(state: AgentState, config: RunnableConfig) -> JsonObject:
        made = wrapper.in_sync()(without_own(state), runtime_of(config))
        return _writes(wrapper, state, made)

    async def acall(state: AgentState, config: RunnableConfig) -> JsonObject:
        seen, runtime = without_own(state), runtime_of(config)
        if wrapper.asynchronous is not None:
            made = await wrapper.asynchronous(seen, runtime)
        else:
            made = await run_in_executor(config, wrapper.in_sync(), seen, runtime)
        return _writes(wrapper, state, made)

    return RunnableLambda(call, acall, name=f"{wrapper.middleware}.{wrapper.hook}")


def _writes(wrapper: Wrapper, state: AgentState, made: Any) -> JsonObject:
    """What a hook has made, as it is written to the state."""
    writes = _update_of(f"{wrapper.middleware}.{wrapper.hook}", made)
    if wrapper.hook in BEFORE and state.get("decisions"):
        # Those on the calls of the last turn have been used. If a hook takes an answer out of the
        # conversation, its call must not run again.
        writes["decisions"] = None
    if wrapper.hook == "after_model":
        writes.update(_with_call_ids(state, writes))
    return writes


def _update_of(where: str, made: Any) -> JsonObject:
    """The update of the state that a hook has made, without decisions. Raises `AssentError` for
    anything else."""
    if made is None:
        return {}
    if isinstance(made, Command):
        return command_update(where, made)
    if not isinstance(made, Mapping):
        raise AssentError(
            f"The middleware's {where} has returned {type(made).__name__}. Let it return a dict, a "
            "Command, or None."
        )
    return without_own(made)


def _with_call_ids(state: AgentState, writes: Mapping[str, Any]) -> JsonObject:
    """The messages to write so that each call of the last turn has an id of its own, also if a hook
    has put another turn in its place, or changed it where it is."""
    messages: list[Any] = []
    then: Any = state["messages"]
    if "messages" in writes:
        given = writes["messages"]
        messages.extend(convert_to_messages(given if isinstance(given, list) else [given]))
        # Gives those without an id one, which stays theirs.
        then = add_messages(list[Any](state["messages"]), messages)
    turn = last_turn(then)
    if turn is not None and (fixed := with_call_ids(turn)) is not turn:
        messages.append(fixed)
    return {"messages": messages} if messages else {}
