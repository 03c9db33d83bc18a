"""The config by which LangGraph finds a thread's state, and what a checkpoint says of its run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

from assent.core.rows import Run
from assent.core.shown import SHOWN_KEY

REQUESTED_BY = "assent_requested_by"
"""The metadata key for a run's requesters, as JSON: LangGraph stores no list there."""


def thread_config(
    thread_id: str,
    checkpoint_id: str | None = None,
    ns: Sequence[str] = (),
    *,
    is_shown: bool = False,
) -> RunnableConfig:
    """The thread's head, or one of its checkpoints; with `ns` those of a subgraph. If the state
    `is_shown`, its lists are like `core/shown.py:Shown`."""
    configurable: dict[str, Any] = {"thread_id": thread_id}
    if is_shown:
        configurable[SHOWN_KEY] = True
    if checkpoint_id:
        configurable["checkpoint_id"] = checkpoint_id
    if ns:
        configurable["checkpoint_ns"] = "|".join(ns)
    return {"configurable": configurable}


def run_metadata(run: Run) -> dict[str, str]:
    """The metadata of the run's checkpoints. A recovery finds its checkpoints by it, and whoever
    goes back to one meets its requesters again. Nothing from a client goes in here."""
    return {"run_id": run.run_id, REQUESTED_BY: json.dumps(run.requested_by)}


def run_id_at(snapshot: StateSnapshot) -> str | None:
    """The id of the run that wrote this checkpoint; None if no run of Assent did."""
    run_id = (snapshot.metadata or {}).get("run_id")
    return str(run_id) if run_id else None


def wrote(run: Run, snapshot: StateSnapshot) -> bool:
    """True if the run wrote this checkpoint."""
    return run_id_at(snapshot) == run.run_id


def requesters_at(snapshot: StateSnapshot) -> tuple[str, ...]:
    """The requesters of the run that wrote this checkpoint; none if no run of Assent did."""
    stored = (snapshot.metadata or {}).get(REQUESTED_BY)
    return tuple(json.loads(str(stored))) if stored else ()
