"""The keys of a graph's config and metadata that LangGraph, LangChain and Assent write themselves,
and no client may."""

from __future__ import annotations

OWN_PREFIXES = ("__", "checkpoint_", "langgraph_", "assent_")
OWN_KEYS = frozenset({"thread_id", "run_id", "assistant_id", "graph_id"})
"""Keys of `configurable` by which LangGraph and Assent find a thread and say whose run it is."""

TRACE_PREFIXES = (*OWN_PREFIXES, "ls_", "lc_")
TRACE_KEYS = frozenset({"run_id", "thread_id", "source", "step", "parents"})
"""Keys of a run's metadata that LangChain and LangGraph write themselves."""


def is_own_key(key: str) -> bool:
    """True if the key of `configurable` is never a client's."""
    return key in OWN_KEYS or key.startswith(OWN_PREFIXES)


def is_trace_key(key: str) -> bool:
    """True if the key of the metadata is never a client's."""
    return key in TRACE_KEYS or key.startswith(TRACE_PREFIXES)
