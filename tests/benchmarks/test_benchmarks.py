"""`make bench`: each of its parts runs, here with numbers so small that the figures are worth
nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.benchmarks.forked import PARTS
from tests.support.command import REPOSITORY, share_zygote, started
from tests.support.waiting import PATIENCE


@pytest.mark.timeout(11 * PATIENCE)
def test_every_part_of_the_report_is_measured(tmp_path: Path) -> None:
    share_zygote()
    log, errors = tmp_path / "log", tmp_path / "errors"
    process = started(
        [],
        folder=REPOSITORY,
        environment={**os.environ, "ASSENT_BENCH_SMALL": "1", "PYTHONPATH": str(REPOSITORY)},
        log=log,
        errors=errors,
        program="tests.benchmarks.forked:main",
    )
    code = process.wait(10 * PATIENCE)
    told = log.read_text()
    assert code == 0, told + errors.read_text()
    begun = [line for line in told.splitlines() if line.startswith("── ")]
    assert begun == [f"── {part} ──" for part in PARTS]
    assert "could not be measured" not in told, told + errors.read_text()
