"""Branching off an earlier checkpoint: to another thread, or to be the new head of its own.

    branched = await fork(agent, config, checkpoint_id)
    if branched.standing is Standing.CAN_GO_ON:
        await agent.ainvoke(None, branched.config)

What a fork takes over is the state, and nothing that was decided or done with it:

1. It always is a new checkpoint, so its tasks have new ids and no effect of the old ones passes for
   theirs.
2. What tasks left on the old checkpoint (answers to `interrupt()`, what siblings had finished)
   stays there: all that comes next runs anew.
3. An agent of ours forgets the decisions and routes again: calls that were approved then are asked
   about now. Where the old state has the words that approved, they are history and decide nothing.
4. In other graphs, a checkpoint behind an answered question about calls that are still open, or
   right behind any, gives way to the one at which the question was asked. What an answer has left
   in the state further on is the graph's own, and is taken over.
5. Subgraphs begin anew in a fork, as their checkpoints belong to the old tasks. One compiled with
   `checkpointer=True` has a memory of its own: on the same thread that stays as it is now, and on a
   new thread it is empty.
6. A new thread gets the state at the checkpoint, and not the checkpoints before it, which stay with
   the thread they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.graph import START
from langgraph.pregel._checkpoint import achannels_from_checkpoint, create_checkpoint
from langgraph.types import StateSnapshot

from assent.core.errors import ConfigurationError, InvalidRequest, NotFound
from assent.graph.builder import HitlGraph
from assent.graph.interrupts.resume import Agent, find_pending
from assent.graph.state import AgentState, messages_in, open_calls


class Standing(StrEnum):
    """What a thread can do next: take new input, wait for a person, or be run with None."""

    AT_REST = "at_rest"
    WAITING = "waiting"
    CAN_GO_ON = "can_go_on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Where the new branch begins: its head, the checkpoint of which that is a copy, and what it
    can do next."""

    config: RunnableConfig
    origin: str
    standing: Standing


def standing(agent: Agent, snapshot: StateSnapshot) -> Standing:
    """What the thread can do next, if no run is active on it.

    Where a graph has static interrupts, one that stands before such a node waits, whether it has
    paused there or not.
    """
    # Not `next`: it leaves out tasks that have finished, though the checkpoint after them is
    # missing.
    if not snapshot.tasks:
        return Standing.AT_REST
    # The input is not taken in yet, so nothing can have paused.
    if snapshot.next == (START,):
        return Standing.CAN_GO_ON
    return Standing.WAITING if find_pending(agent, snapshot) else Standing.CAN_GO_ON


async def fork(
    agent: Agent,
    config: RunnableConfig,
    checkpoint_id: str,
    *,
    target: RunnableConfig | None = None,
) -> Fork:
    """Branch off a checkpoint of the thread in `config`: on a new thread, the one in `target`, or
    else on the same one.

    What else the configurable of the target (or of `config`) holds reaches the checkpointer. A
    `run_id` does not: to LangGraph it would say that the run which comes next is resumed, and its
    input would be dropped.

    Raises `NotFound` if the thread has no such checkpoint and `InvalidRequest` if the target has
    any; then nothing was changed.
    """
    saver = saver_of(agent)
    source = at_checkpoint(config, checkpoint_id)
    thread_id = str(source["configurable"]["thread_id"])
    if not checkpoint_id or await saver.aget_tuple(source) is None:
        raise NotFound(
            f"The thread '{thread_id}' has no checkpoint '{checkpoint_id}' to fork from. Choose one from its history."
        )
    onto = without_run(target or config)
    if target is not None and await saver.aget_tuple(at_checkpoint(target)) is not None:
        raise InvalidRequest(
            f"The thread '{target['configurable']['thread_id']}' has a history already. Fork to a new thread."
        )
    then = await agent.aget_state(source)
    if not isinstance(agent.builder, HitlGraph):
        then = await _last_question(agent, config, then)
    saved = await saver.aget_tuple(
        at_checkpoint(config, then.config["configurable"]["checkpoint_id"])
    )
    assert saved is not None
    head = await _branch(agent, saved, onto, values=_undecided(agent))
    if isinstance(agent.builder, HitlGraph):
        head = await _routed_again(agent, saved, then, onto, head)
    now = await agent.aget_state(at_checkpoint(onto))
    return Fork(config=head, origin=saved.checkpoint["id"], standing=standing(agent, now))


async def _branch(
    agent: Agent, saved: CheckpointTuple, onto: RunnableConfig, *, values: Mapping[str, Any]
) -> RunnableConfig:
    """Make a copy of a checkpoint the head of a thread, with these values of channels; return its
    config.

    LangGraph's own copy, `aupdate_state(…, as_node="__copy__")`, stays on its thread, and hands
    nothing of the config to the checkpointer.
    """
    origin = saved.config["configurable"]
    checkpoint = saved.checkpoint
    same_thread = str(onto["configurable"]["thread_id"]) == str(origin["thread_id"])
    metadata: dict[str, Any] = {
        "source": "fork",
        "step": saved.metadata.get("step", -1) + 1,
        "parents": saved.metadata.get("parents", {}),
        "forked_from": {"thread_id": str(origin["thread_id"]), "checkpoint_id": checkpoint["id"]},
    }
    return await store_state(
        agent,
        saved,
        at_checkpoint(onto, checkpoint["id"] if same_thread else None),
        metadata,
        saver=saver_of(agent),
        stored_versions=checkpoint["channel_versions"] if same_thread else {},
        values=values,
    )


async def store_state(
    agent: Agent,
    state: CheckpointTuple,
    parent: RunnableConfig,
    metadata: dict[str, Any],
    *,
    saver: BaseCheckpointSaver[Any],
    stored_versions: ChannelVersions,
    values: Mapping[str, Any] = MappingProxyType({}),
) -> RunnableConfig:
    """Store a state as a new checkpoint after `parent`, and return its config. Nothing that is
    pending on the old one comes along.

    The state is read with the agent's own checkpointer, and stored with `saver`, which has the
    channels' `stored_versions` already. `values` replace those of channels that have one.
    """
    checkpoint = state.checkpoint
    channels, _ = await achannels_from_checkpoint(
        agent.channels, checkpoint, saver=saver_of(agent), config=state.config
    )
    # A delta channel is read from the writes on the checkpoints before it. Those of the new one
    # differ from the old one's.
    delta_channels = {
        name
        for name, channel in channels.items()
        if isinstance(channel, DeltaChannel) and channel.is_available()
    }
    copy = create_checkpoint(
        checkpoint,
        channels,
        metadata["step"] - 1,
        get_next_version=saver.get_next_version,
        channels_to_snapshot=delta_channels,
        stored_versions=dict(stored_versions),
        trigger_to_nodes=agent.trigger_to_nodes,
    )
    versions = copy["channel_versions"]
    for name in values.keys() & copy["channel_values"].keys():
        copy["channel_values"][name] = values[name]
        versions[name] = saver.get_next_version(versions[name], None)
    new_versions = {
        name: version for name, version in versions.items() if stored_versions.get(name) != version
    }
    return await saver.aput(parent, copy, cast(CheckpointMetadata, metadata), new_versions)


def saver_of(agent: Agent) -> BaseCheckpointSaver[Any]:
    """The agent's checkpointer. Raises `ConfigurationError` if it has none."""
    if not isinstance(agent.checkpointer, BaseCheckpointSaver):
        raise ConfigurationError(
            f"The agent '{agent.name}' has no checkpointer. Compile it with one."
        )
    return agent.checkpointer


def at_checkpoint(config: RunnableConfig, checkpoint_id: str | None = None) -> RunnableConfig:
    """The config for a checkpoint of the thread's own graph (not of a subgraph), or for its
    head."""
    kept = {
        key: value
        for key, value in config["configurable"].items()
        if key not in ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
    }
    named = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    return {**config, "configurable": {**kept, "checkpoint_ns": "", **named}}


def without_run(config: RunnableConfig) -> RunnableConfig:
    """The config without the id of a run."""
    given = cast(dict[str, Any], config)
    bare = {
        part: {key: value for key, value in given.get(part, {}).items() if key != "run_id"}
        for part in ("metadata", "configurable")
    }
    return cast(
        RunnableConfig, {key: value for key, value in {**given, **bare}.items() if key != "run_id"}
    )


# ── asking again ──────────────────────────────────────────────────────────────────────────────────


def _undecided(agent: Agent) -> Mapping[str, Any]:
    return {"decisions": {}} if isinstance(agent.builder, HitlGraph) else {}


async def _routed_again(
    agent: Agent,
    saved: CheckpointTuple,
    then: StateSnapshot,
    onto: RunnableConfig,
    head: RunnableConfig,
) -> RunnableConfig:
    """The head from which calls that were decided then are asked about anew.

    The tasks of a checkpoint between decision and effect are replaced. As the join, because all it
    does is route, and a routing takes the place of what was to come next.
    """
    graph = agent.builder
    assert isinstance(graph, HitlGraph)
    values: dict[str, Any] = {"decisions": None}
    names = {task.name for task in then.tasks}
    # An earlier version left open calls with nothing next where it had cancelled a run.
    is_dangling = not names and bool(open_calls(messages_in(then.values))[1])
    if (
        START in names
        and graph.takes_chat_decisions
        and graph.gate.waiting(cast(AgentState, then.values))
    ):
        # A word of consent that was about to be taken in.
        values["messages"] = (saved.checkpoint["channel_values"].get(START) or {}).get(
            "messages"
        ) or []
    elif not names & {"tools", "consent"} and not is_dangling:
        return head
    return await agent.aupdate_state(at_checkpoint(onto), values, as_node="settle")


async def _last_question(
    agent: Agent, config: RunnableConfig, then: StateSnapshot
) -> StateSnapshot:
    """The state in which a person was asked what opened the way from there to `then`; or `then`
    itself."""
    found = then
    turn = _open_turn(then)
    at = then
    while then.tasks and at.parent_config is not None:
        at = await agent.aget_state(
            at_checkpoint(config, at.parent_config["configurable"]["checkpoint_id"])
        )
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
    before = agent.interrupt_before_nodes
    names = {task.name for task in snapshot.tasks} - {START}
    return bool(snapshot.interrupts) or bool(names if before == "*" else names & set(before))
