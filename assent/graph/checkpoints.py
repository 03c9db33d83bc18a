"""The checkpoints of an agent's thread: who keeps them, where each is, and storing a state as a new
one."""

from __future__ import annotations

from collections.abc import Mapping
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
from langgraph.pregel._checkpoint import achannels_from_checkpoint, create_checkpoint

from assent.core.errors import ConfigurationError
from assent.graph.kinds import Agent


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
    configurable = {**config["configurable"], "checkpoint_ns": ""}
    configurable.pop("checkpoint_map", None)
    configurable.pop("checkpoint_id", None)
    if checkpoint_id:
        configurable["checkpoint_id"] = checkpoint_id
    return {**config, "configurable": configurable}


def without_run(config: RunnableConfig) -> RunnableConfig:
    """The config without the id of a run."""
    bare = cast(dict[str, Any], dict(config))
    bare.pop("run_id", None)
    for part in ("metadata", "configurable"):
        bare[part] = {key: value for key, value in bare.get(part, {}).items() if key != "run_id"}
    return cast(RunnableConfig, bare)


async def head_of(agent: Agent, config: RunnableConfig) -> CheckpointTuple | None:
    """The thread's head; None if nothing has happened there."""
    return await saver_of(agent).aget_tuple(at_checkpoint(config))


async def store_state(
    agent: Agent,
    state: CheckpointTuple,
    onto: RunnableConfig,
    metadata: dict[str, Any],
    *,
    base: CheckpointTuple,
    saver: BaseCheckpointSaver[Any],
    values: Mapping[str, Any] = MappingProxyType({}),
) -> RunnableConfig:
    """Store a state as the new head of a thread, and return its config. Pending writes of the old
    checkpoint are left out.

    The state is read with the agent's own checkpointer, and stored with `saver`, where it follows
    `base` if that is on the same thread. `values` replace those of channels that have one.

    LangGraph's own copy, `aupdate_state(…, as_node="__copy__")`, stays on its thread, and hands
    nothing of the config to the checkpointer.
    """
    parent = at_checkpoint(onto)
    stored_versions: ChannelVersions = {}
    if str(onto["configurable"]["thread_id"]) == str(base.config["configurable"]["thread_id"]):
        parent = at_checkpoint(onto, base.checkpoint["id"])
        stored_versions = dict(base.checkpoint["channel_versions"])
    channels, _ = await achannels_from_checkpoint(
        agent.channels, state.checkpoint, saver=saver_of(agent), config=state.config
    )
    # A delta channel is read from the writes on the checkpoints before it. Those of the new one
    # differ from the old one's.
    delta_channels: set[str] = set()
    for name, channel in channels.items():
        if isinstance(channel, DeltaChannel) and channel.is_available():
            delta_channels.add(name)
    step = base.metadata.get("step", -1)
    copy = create_checkpoint(
        state.checkpoint,
        channels,
        step,
        get_next_version=saver.get_next_version,
        channels_to_snapshot=delta_channels,
        stored_versions=stored_versions,
        trigger_to_nodes=agent.trigger_to_nodes,
    )
    versions = copy["channel_versions"]
    for name in values.keys() & copy["channel_values"].keys():
        copy["channel_values"][name] = values[name]
        versions[name] = saver.get_next_version(versions[name], None)
    new_versions = {
        name: version for name, version in versions.items() if stored_versions.get(name) != version
    }
    metadata = {"step": step + 1, "parents": base.metadata.get("parents", {}), **metadata}
    return await saver.aput(parent, copy, cast(CheckpointMetadata, metadata), new_versions)
