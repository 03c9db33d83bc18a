"""The real server in bad weather: clocks are moved, the disk stalls, its agent is missing, and it is
killed. Nothing that was acknowledged is lost, doubled or stuck.

make crash WEATHER_ROUNDS=50 CRASH_SEED=7
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.acceptance.crash_weather import Forecast, weather

SHORT = 10
ROUNDS = int(os.environ.get("WEATHER_ROUNDS", SHORT))
SEED = int(os.environ.get("CRASH_SEED", random.randrange(1_000_000)))


def forecast() -> Forecast:
    """Few rounds are short ones, and the server loses its patience with a lock as soon."""
    if ROUNDS > SHORT:
        return Forecast(rounds=ROUNDS, seed=SEED)
    return Forecast(rounds=ROUNDS, seed=SEED, people=4, longest_trouble=0.8, busy_seconds=0.2)


@pytest.mark.timeout(120 + 60 * ROUNDS)
async def test_in_bad_weather_it_loses_doubles_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = await weather(tmp_path, forecast())
    with capfd.disabled():
        print(f"\n{report}")  # noqa: T201  (what `make crash` is run for)
    assert not report.findings, str(report)
