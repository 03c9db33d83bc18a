"""The config of a node, as LangGraph gives it."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import CONFIG_KEY_RUNTIME, NS_SEP
from langgraph.runtime import Runtime


def runtime_of(config: RunnableConfig) -> Runtime[Any]:
    """The runtime of the node that this config is of."""
    runtime: Runtime[Any] = config["configurable"][CONFIG_KEY_RUNTIME]
    return runtime


def is_nested(config: RunnableConfig) -> bool:
    """True for the config of a node whose graph another graph has called."""
    return NS_SEP in config.get("configurable", {}).get("checkpoint_ns", "")
