"""The start after a crash goes on with every run that was active, however many there were."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from assent.core.rows import RunKind, RunStatus, ThreadStatus
from assent.storage.base import Change
from tests.runs.harness import EngineHarness
from tests.storage.samples import run, thread
from tests.support.waiting import PATIENCE

COUNT = 1_050
"""More than a page of any list holds."""


@pytest.mark.slow
async def test_every_run_is_gone_on_with(tmp_path: Path) -> None:
    harness = EngineHarness(tmp_path)
    rows = []
    for number in range(COUNT):
        thread_id, run_id = f"t{number}", f"r{number}"
        rows.append(
            thread(
                thread_id,
                status=ThreadStatus.BUSY,
                agent="agent",
                run_id=run_id,
                pending=(),
                tampered=None,
            )
        )
        started = {
            "kind": RunKind.INPUT,
            "status": RunStatus.RUNNING,
            "agent": "agent",
            "input": {"message": ""},
            "error": None,
        }
        rows.append(run(run_id, thread_id=thread_id, **started))
    async with harness.storage() as storage:
        await storage.commit(Change(rows=tuple(rows)))
        async with harness.engine(storage).working(), asyncio.timeout(PATIENCE):
            while (await storage.threads(status=ThreadStatus.BUSY, limit=1)).rows:
                await asyncio.sleep(0.1)
        assert len(await storage.runs(status=(RunStatus.SUCCESS,), limit=COUNT + 1)) == COUNT
    assert sorted(harness.jobs.ended) == sorted(f"r{number}" for number in range(COUNT))
