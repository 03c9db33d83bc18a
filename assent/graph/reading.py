"""Read the state of a thread also where it does not take what its tasks have written.

A reducer of the user's may raise, and two tasks may have set one field that takes one value. The
run fails then, and the writes stay at the checkpoint, where LangGraph applies them whenever the
thread's head is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import TASKS
from langgraph.types import Send, StateSnapshot

from assent.core.errors import AssentError
from assent.graph.checkpoints import at_checkpoint, saver_of
from assent.graph.kinds import Agent


async def read_state(
    agent: Agent, config: RunnableConfig, *, subgraphs: bool = False
) -> StateSnapshot:
    """The thread's state; at its head, as it was before the tasks there wrote what it does not
    take."""
    try:
        return await agent.aget_state(config, subgraphs=subgraphs)
    except AssentError:
        raise
    except Exception:
        saved = await saver_of(agent).aget_tuple(at_checkpoint(config))
        if saved is None or "checkpoint_id" in config["configurable"]:
            raise
        # At a checkpoint that is named, LangGraph applies no writes. It does in its subgraphs.
        return await agent.aget_state(at_checkpoint(config, saved.checkpoint["id"]))


async def sent_at(agent: Agent, config: RunnableConfig) -> Sequence[Any]:
    """The values that nodes were sent by a `Send` at this checkpoint, in their order. A state does
    not show them."""
    saved = await saver_of(agent).aget_tuple(config)
    sends = saved.checkpoint["channel_values"].get(TASKS, ()) if saved else ()
    return [send.arg for send in sends if isinstance(send, Send)]
