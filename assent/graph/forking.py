"""Branch off an earlier checkpoint: onto another thread, or as the new head of its own.

    branched = await fork(agent, config, checkpoint_id)
    if branched.standing is Standing.CAN_GO_ON:
        await agent.ainvoke(None, branched.config)

A fork takes over the state, and nothing that was decided or done with it:

1. It always is a new checkpoint, so its tasks have new ids, and no effect of the old ones is taken
   for theirs.
2. The pending writes of the old checkpoint (answers to `interrupt()`, results of finished tasks)
   stay there: every task of the fork runs anew.
3. An agent of `build_hitl_agent` forgets its decisions and routes again: calls that were approved
   are asked about once more. Words that approved them are history in the fork, and decide nothing.
4. In other graphs, a checkpoint after an answered question is replaced by the one at which the
   question was asked: right after any, or as long as calls that it was about are open. Values that
   an answer left in the state further on belong to the graph, and are taken over.
5. Subgraphs begin anew, as their checkpoints belong to the old tasks. One compiled with
   `checkpointer=True` has a memory of its own: on the same thread that stays as it is now, and on a
   new thread it is empty.
6. A new thread gets the state at the checkpoint, and not the checkpoints before it.
7. A state that was written from outside as a node (`updating.py`) is marked so in the fork too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START
from langgraph.types import StateSnapshot

from assent.core.errors import InvalidRequest, NotFound
from assent.graph.checkpoints import at_checkpoint, saver_of, store_state, without_run
from assent.graph.interrupts.questions import find_pending, stops_before
from assent.graph.kinds import Agent, gated_graph, refuse_workflow
from assent.graph.state import AgentState, messages_in, open_calls
from assent.graph.updating import WRITTEN_AS


class Standing(StrEnum):
    """The next thing that a thread can do: take new input, wait for a person, or be run with
    None."""

    AT_REST = "at_rest"
    WAITING = "waiting"
    CAN_GO_ON = "can_go_on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A new branch: its head, the id of the checkpoint that this is a copy of, and what it can do
    next."""

    config: RunnableConfig
    origin: str
    standing: Standing


def standing(agent: Agent, snapshot: StateSnapshot) -> Standing:
    """The next thing that the thread can do, if no run is active on it.

    A graph with static interrupts that stands before such a node waits, even if it has not paused
    there yet.
    """
    # Not `next`: that leaves out tasks that have finished, though no checkpoint follows them yet.
    if not snapshot.tasks:
        return Standing.AT_REST
    # Before the input is applied, nothing can have paused.
    if snapshot.next != (START,) and find_pending(agent, snapshot):
        return Standing.WAITING
    return Standing.CAN_GO_ON


async def fork(
    agent: Agent,
    config: RunnableConfig,
    checkpoint_id: str,
    *,
    target: RunnableConfig | None = None,
) -> Fork:
    """Branch off a checkpoint of the thread in `config`: onto the new thread in `target`, or else
    on the same thread.

    The configurable of `target` (or of `config`) reaches the checkpointer, without any `run_id`:
    LangGraph would take the next run for that one resumed, and drop its input.

    Raises `NotFound` if the thread has no such checkpoint, and `InvalidRequest` if the target has
    one, or if the agent is a workflow; then nothing was changed.
    """
    saved, then = await _found(agent, config, checkpoint_id)
    saver = saver_of(agent)
    if target is not None and await saver.aget_tuple(at_checkpoint(target)) is not None:
        thread_id = target["configurable"]["thread_id"]
        raise InvalidRequest(
            f"The thread '{thread_id}' has a history already. Fork to a new thread."
        )
    return await _branch(agent, saved, then, without_run(target or config), agent)


async def would_be(
    agent: Agent, config: RunnableConfig, checkpoint_id: str
) -> tuple[Standing, StateSnapshot]:
    """The next thing that a fork from the checkpoint could do, and the state in which it would be.
    It is made in memory, and nothing is stored. Raises what `fork` does."""
    saved, then = await _found(agent, config, checkpoint_id)
    apart = agent.copy(update={"checkpointer": _InMemory(saver_of(agent))})
    # As onto a new thread, all of the state is copied.
    onto: RunnableConfig = {"configurable": {"thread_id": "in memory"}}
    forked = await _branch(agent, saved, then, onto, apart)
    return forked.standing, await apart.aget_state(at_checkpoint(onto), subgraphs=True)


class _InMemory(InMemorySaver):
    """A checkpointer for a moment. Versions of channels go on as in the one that they come from."""

    def __init__(self, origin: BaseCheckpointSaver[Any]) -> None:
        super().__init__(serde=origin.serde)
        self._origin = origin

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._origin.get_next_version(current, channel)


async def _found(
    agent: Agent, config: RunnableConfig, checkpoint_id: str
) -> tuple[CheckpointTuple, StateSnapshot]:
    """The checkpoint to copy, and its state: in a graph that is not ours, the one in which a person
    was asked the question that led to it."""
    refuse_workflow(agent)
    saver = saver_of(agent)
    source = at_checkpoint(config, checkpoint_id)
    if not checkpoint_id or await saver.aget_tuple(source) is None:
        thread_id = config["configurable"]["thread_id"]
        raise NotFound(
            f"The thread '{thread_id}' has no checkpoint '{checkpoint_id}' to fork from. "
            "Choose one from its history."
        )
    then = await agent.aget_state(source)
    if gated_graph(agent) is None:
        then = await _last_question(agent, config, then)
        source = at_checkpoint(config, then.config["configurable"]["checkpoint_id"])
    saved = await saver.aget_tuple(source)
    assert saved is not None
    return saved, then


async def _branch(
    agent: Agent,
    saved: CheckpointTuple,
    then: StateSnapshot,
    onto: RunnableConfig,
    target: Agent,
) -> Fork:
    """Store a copy of the agent's checkpoint as the head of a thread, with the checkpointer of the
    `target`, which is the same agent."""
    is_ours = gated_graph(agent) is not None
    origin = saved.checkpoint["id"]
    thread_id = str(saved.config["configurable"]["thread_id"])
    metadata: dict[str, Any] = {
        "source": "fork",
        "forked_from": {"thread_id": thread_id, "checkpoint_id": origin},
    }
    if (node := saved.metadata.get(WRITTEN_AS)) is not None:
        metadata[WRITTEN_AS] = node
    values: dict[str, Any] = {"decisions": {}} if is_ours else {}
    saver = saver_of(target)
    head = await store_state(agent, saved, onto, metadata, base=saved, saver=saver, values=values)
    if is_ours and (writes := _writes_to_route_again(agent, saved, then)):
        # As "settle", because that only routes, and the routing replaces the tasks.
        head = await target.aupdate_state(at_checkpoint(onto), writes, as_node="settle")
    now = await target.aget_state(at_checkpoint(onto))
    return Fork(config=head, origin=origin, standing=standing(target, now))


# ── asking again ──────────────────────────────────────────────────────────────────────────────────


def _writes_to_route_again(
    agent: Agent, saved: CheckpointTuple, then: StateSnapshot
) -> dict[str, Any] | None:
    """The values to write before routing again, so that calls which were decided then are asked
    about anew; None if nothing was decided."""
    graph = gated_graph(agent)
    assert graph is not None
    names = {task.name for task in then.tasks}
    if START in names:
        waiting = graph.gate.waiting(cast(AgentState, then.values))
        if not graph.takes_chat_decisions or not waiting:
            return None
        # A word of consent that was about to be applied.
        given = saved.checkpoint["channel_values"].get(START) or {}
        return {"decisions": None, "messages": given.get("messages") or []}
    # An earlier version left open calls with nothing next when it closed a thread.
    is_dangling = not names and _open_turn(then) is not None
    return {"decisions": None} if is_dangling or names & {"tools", "consent"} else None


async def _last_question(
    agent: Agent, config: RunnableConfig, then: StateSnapshot
) -> StateSnapshot:
    """The state in which a person was asked the question that led to `then`; or `then` itself."""
    found = then
    turn = _open_turn(then)
    at = then
    while then.tasks and at.parent_config is not None:
        parent_id = at.parent_config["configurable"]["checkpoint_id"]
        at = await agent.aget_state(at_checkpoint(config, parent_id))
        if at.metadata is not None and _has_asked(agent, at):
            found = at
        elif turn is None or _open_turn(at) != turn:
            break
    return found


def _open_turn(snapshot: StateSnapshot) -> str | None:
    """The id of the model's last message, if calls of it are open."""
    turn, calls = open_calls(messages_in(snapshot.values))
    return turn.id if turn is not None and calls else None


def _has_asked(agent: Agent, snapshot: StateSnapshot) -> bool:
    nodes = [task.name for task in snapshot.tasks if task.name != START]
    return bool(snapshot.interrupts) or bool(nodes and stops_before(agent, nodes))
