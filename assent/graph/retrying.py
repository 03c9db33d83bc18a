"""`graph.with_retry()`: each node that fails is tried again where it failed.

langchain's wrapper would invoke the graph anew with its input, also behind an answer of a person.
Here what it says becomes a retry policy of LangGraph's on the nodes of the graph, so a run goes on
from its last checkpoint: nodes that have ended do not run again, and nobody is asked twice.

1. A node with a retry policy of its own keeps that.
2. A node that the graph pauses before is not tried again: a person has approved it once. Nor is any
   node of a graph with `interrupt_after`, where that is not known, or a subgraph that pauses so.
3. What Assent raises, such as a lease that was lost, is never a reason to try again.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from langchain_core.runnables.base import RunnableBinding
from langchain_core.runnables.retry import RunnableRetry
from langgraph.graph import START
from langgraph.pregel import Pregel

from assent.core.errors import AssentError
from assent.graph.interrupts.questions import PATH
from assent.graph.kinds import Agent, GraphRetry


def unwrapped(graph: Any) -> Any:
    """The graph that `with_retry()` wraps, with its rule on the nodes; or what was given, if that
    is no such wrapper of a graph. A config that the wrapper was given is the graph's."""
    has_config_only = (
        type(graph) is RunnableBinding and not graph.kwargs and not graph.config_factories
    )
    if not has_config_only and not isinstance(graph, RunnableRetry):
        return graph
    agent = unwrapped(graph.bound)
    if not isinstance(agent, Pregel):
        return graph
    if isinstance(graph, RunnableRetry):
        agent = _retried(agent, _policy_of(graph))
    return agent.with_config(graph.config) if graph.config else agent


def _retried(agent: Agent, policy: GraphRetry) -> Agent:
    nodes = dict(agent.nodes)
    for name, node in agent.nodes.items():
        if not node.retry_policy and not _is_approved(agent, name):
            nodes[name] = node.copy({"retry_policy": [policy]})
    return agent.copy(update={"nodes": nodes})


def approved_once(agent: Agent) -> Agent:
    """The agent, without the rule of `with_retry()` on nodes that it pauses before by now."""
    nodes = dict(agent.nodes)
    for name, node in agent.nodes.items():
        is_ours = any(isinstance(policy, GraphRetry) for policy in node.retry_policy or ())
        if is_ours and _is_approved(agent, name):
            # Not its own copy(), which forgets how the node is run.
            nodes[name] = copy(node)
            nodes[name].retry_policy = None
    return agent.copy(update={"nodes": nodes})


def _policy_of(graph: RunnableRetry[Any, Any]) -> GraphRetry:
    retry_on = _without_ours(graph.retry_exception_types)
    if not graph.wait_exponential_jitter:
        return GraphRetry(
            initial_interval=0,
            max_attempts=graph.max_attempt_number,
            jitter=False,
            retry_on=retry_on,
        )
    # As the wrapper waits, and at most a minute if it does not say for how long.
    waits = graph.exponential_jitter_params or {}
    return GraphRetry(
        initial_interval=waits.get("initial", 1.0),
        backoff_factor=waits.get("exp_base", 2.0),
        max_interval=waits.get("max", 60.0),
        max_attempts=graph.max_attempt_number,
        jitter=bool(waits.get("jitter", 1.0)),
        retry_on=retry_on,
    )


def _without_ours(
    types: tuple[type[BaseException], ...] | Callable[[BaseException], bool],
) -> Callable[[Exception], bool]:
    def retries(error: Exception) -> bool:
        if isinstance(error, AssentError):
            return False
        return isinstance(error, types) if isinstance(types, tuple) else types(error)

    return retries


def _is_approved(agent: Agent, node: str) -> bool:
    """True if a person may have approved the node as a whole, or one within it."""
    before = agent.interrupt_before_nodes
    if agent.interrupt_after_nodes or before == "*" or node in before or node == START:
        return True
    for path, graph in agent.get_subgraphs(recurse=True):
        if path.split(PATH)[0] != node or not isinstance(graph, Pregel):
            continue
        if graph.interrupt_before_nodes or graph.interrupt_after_nodes:
            return True
    return False
