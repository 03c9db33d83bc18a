"""Write to the state of a thread from outside, as `update_state` of LangGraph does.

An agent of `build_hitl_agent` routes through its gate whichever node is written as, so open calls
are asked about. Another graph may stand before a step that it would have asked about on its way, so
its checkpoint is marked (`WRITTEN_AS`): the graph does not go on from there by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.graph import START

from assent.core.errors import InvalidInput
from assent.graph.checkpoints import at_checkpoint, head_of, without_run
from assent.graph.kinds import Agent, gated_graph

UPDATED_BY = "assent_updated_by"
"""The metadata key of a checkpoint for the run that wrote it from outside. It is not `run_id`:
LangGraph would take the next run for that one resumed, and drop its input."""

WRITTEN_AS = "assent_written_as"
"""The metadata key of a checkpoint that was written from outside, for the node that it was written
as. What follows there was never asked about."""


def nodes_to_write_as(agent: Agent) -> list[str]:
    """The nodes that a state can be written as."""
    return sorted(name for name, node in agent.nodes.items() if node.flat_writers)


def node_to_write_as(agent: Agent, saved: CheckpointTuple | None, as_node: str | None) -> str:
    """The node to write as: the one that is asked for, or else the last one that has written the
    saved state. Raises `InvalidInput` if there is no such node, or nobody can tell which it was."""
    if as_node is not None:
        nodes = nodes_to_write_as(agent)
        if as_node not in nodes:
            raise InvalidInput(
                f"There is no node '{as_node:.100}' to write the state as. "
                f"There are: {', '.join(nodes)}."
            )
        return as_node
    if saved is None:
        return START
    if gated_graph(agent) is not None:
        # It only routes.
        return "settle"
    last = agent._infer_as_node(saved.checkpoint["versions_seen"])
    if last is None:
        raise InvalidInput(
            "Several nodes have written this state last. Say with 'as_node' which of them to "
            f"write as: {', '.join(nodes_to_write_as(agent))}."
        )
    return last


async def write_state(
    agent: Agent,
    config: RunnableConfig,
    values: dict[str, Any],
    as_node: str | None,
    *,
    run_id: str,
) -> None:
    """Write these values to the thread's head, as a node. The checkpoint names the run that does
    it."""
    node = node_to_write_as(agent, await head_of(agent, config), as_node)
    onto = at_checkpoint(without_run(config))
    metadata = {**onto.get("metadata", {}), UPDATED_BY: run_id}
    if gated_graph(agent) is None and node != START:
        metadata[WRITTEN_AS] = node
    await agent.aupdate_state({**onto, "metadata": metadata}, values, as_node=node)


def check_may_go_on(metadata: Mapping[str, Any] | None) -> None:
    """Raise `InvalidInput` if the graph must not go on by itself from a checkpoint with this
    metadata."""
    node = (metadata or {}).get(WRITTEN_AS)
    if node is not None:
        raise InvalidInput(
            f"The state at this checkpoint was written from outside as the node '{node}', so "
            "nobody was asked about what would follow. Send input with it, or write it as "
            f"'{START}'."
        )
