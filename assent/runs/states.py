"""The config by which LangGraph finds a thread's state."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig


def thread_config(thread_id: str, checkpoint_id: str | None = None) -> RunnableConfig:
    """The thread's head, or one of its checkpoints."""
    configurable = {"thread_id": thread_id}
    if checkpoint_id:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}
