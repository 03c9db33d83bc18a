"""Where LangGraph keeps a thread's state, and what is told of one."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

from assent.core.events import Checkpoint


def thread_config(thread_id: str, checkpoint_id: str | None = None) -> RunnableConfig:
    """The thread's head, or one of its checkpoints."""
    return {
        "configurable": {
            "thread_id": thread_id,
            **({"checkpoint_id": checkpoint_id} if checkpoint_id else {}),
        }
    }


def checkpoint_of(snapshot: StateSnapshot) -> Checkpoint:
    """The event that tells of it."""
    step = (snapshot.metadata or {}).get("step", 0)
    return Checkpoint(
        checkpoint_id=str(snapshot.config["configurable"].get("checkpoint_id", "")),
        step=step,
        next=tuple(snapshot.next),
    )
