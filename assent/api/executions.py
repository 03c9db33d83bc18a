"""Executions: what clients follow that know one id, of a thread or of a run."""

from __future__ import annotations

from typing import NamedTuple

from assent.core.errors import NotFound
from assent.core.rows import Run, RunKind
from assent.runs.service import Runs
from assent.storage.base import Storage


class Found(NamedTuple):
    """The log behind an id: a thread's as a whole, or the execution in it that begins with the run
    `root`, "" for all of it. `agent` is the name of the agent at work, "" before the first run."""

    log_id: str
    root: str
    agent: str


async def find(runs: Runs, id: str) -> Found:
    """The thread with this id; or else the execution that the run with this id is of. Raises
    `NotFound`."""
    thread = await runs.storage.thread(id)
    if thread is not None:
        return Found(id, "", thread.agent or "")
    run = await runs.storage.run(id)
    if run is None and (thread_id := runs.observed.thread_of(id)) is not None:
        return Found(thread_id, id, "")
    if run is None:
        raise NotFound(f"There is no thread and no run '{id}'.")
    root = await root_of(runs.storage, run)
    return Found(root.thread_id, root.run_id, root.agent)


async def root_of(storage: Storage, run: Run) -> Run:
    """The run that the execution began with: this one goes on where that one has paused. Runs that
    were removed are left out."""
    root = run
    while root.kind is RunKind.RESUME:
        paused = await storage.run(str(root.input["paused_run"]))
        if paused is None:
            break
        root = paused
    return root
