"""`make bench`: each of its parts runs, here with numbers so small that the figures are worth
nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.__main__ import PARTS
from tests.support.command import REPOSITORY
from tests.support.waiting import PATIENCE


@pytest.mark.timeout(11 * PATIENCE)
def test_every_part_of_the_report_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"],
        cwd=REPOSITORY,
        env={**os.environ, "ASSENT_BENCH_SMALL": "1"},
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
        check=True,
    )
    begun = [line for line in done.stdout.splitlines() if line.startswith("── ")]
    assert begun == [f"── {part} ──" for part in PARTS]
    assert "could not be measured" not in done.stdout, done.stdout + done.stderr
