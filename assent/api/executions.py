"""Executions: what clients follow that know one id, of a thread or of a run."""

from __future__ import annotations

from typing import NamedTuple

from assent.core.errors import Gone, NotFound
from assent.core.rows import UNFINISHED, Run, RunKind, RunStatus
from assent.runs.service import Runs
from assent.storage.base import Storage, all_rows


class Found(NamedTuple):
    """The log behind an id: a thread's as a whole, or the execution in it that begins with the run
    `root`, "" for all of it; of a long one, with the first run that has events left. `agent` is the
    name of the agent at work, "" before the first run."""

    log_id: str
    root: str
    agent: str


async def find(runs: Runs, id: str) -> Found:
    """The thread with this id; or else the execution that the run with this id is of. Raises
    `NotFound`, or `Gone` for an execution whose events were removed."""
    thread = await runs.storage.thread(id)
    if thread is not None:
        return Found(id, "", thread.agent or "")
    run = await runs.storage.run(id)
    if run is None and (thread_id := runs.observed.thread_of(id)) is not None:
        return Found(thread_id, id, "")
    if run is None:
        raise NotFound(f"There is no thread and no run '{id}'.")
    return await found_left(runs.storage, await root_of(runs.storage, run))


async def found_left(storage: Storage, root: Run) -> Found:
    """The execution that begins with the run `root`, as far as its events are left. Raises `Gone`
    as `first_left` does."""
    left = await first_left(storage, root)
    return Found(left.thread_id, left.run_id, left.agent)


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


async def first_left(storage: Storage, root: Run) -> Run:
    """The first run of which events are left, in the execution that begins with the run `root`.

    A pause may take longer than events are kept. Then those of the run that has paused are removed
    as soon as another goes on. Raises `Gone` if the execution is over, and nothing is left of it.
    """
    run = root
    while run.status is not RunStatus.PENDING and not await _has_events(storage, run):
        behind = await going_on(storage, run)
        if behind is None:
            if run.status in UNFINISHED:
                break
            first = await storage.last_seq(run.thread_id) + 1
            raise Gone(
                f"All events of the run '{root.run_id}', and of those that went on behind it, "
                "have been removed.",
                first=first,
            )
        run = behind
    return run


def goes_on(run: Run, paused: Run) -> bool:
    """True if the run goes on where the other one has paused."""
    return run.kind is RunKind.RESUME and run.input["paused_run"] == paused.run_id


async def _has_events(storage: Storage, run: Run) -> bool:
    return bool(await storage.read_log(run.thread_id, run_id=run.run_id, limit=1))


async def going_on(storage: Storage, paused: Run) -> Run | None:
    """The run that goes on where this one has paused, if one does."""
    for run in await all_rows(storage.latest_runs, thread_id=paused.thread_id):
        if goes_on(run, paused):
            return run
    return None
