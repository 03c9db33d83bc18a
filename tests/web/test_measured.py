"""The part of `make bench` that needs a browser, here with numbers so small that the figures are worth
nothing. `tests/benchmarks` has the others."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.command import REPOSITORY
from tests.support.waiting import PATIENCE


def test_the_page_is_measured(built: None) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "web"],
        cwd=REPOSITORY,
        env={**os.environ, "ASSENT_BENCH_SMALL": "1"},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=True,
    )
    assert "── web ──" in done.stdout
    assert "could not be measured" not in done.stdout, done.stdout + done.stderr
