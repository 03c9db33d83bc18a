"""The real server under retention at full rate: its memory and its file level off.

make crash SOAK_MINUTES=5
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.acceptance.crash_soak import SAMPLES, Sample, Soaking, growing, soak

MINUTES = float(os.environ.get("SOAK_MINUTES", "0"))
SEED = int(os.environ.get("CRASH_SEED", random.randrange(1_000_000)))
MIB = 1 << 20


@pytest.mark.skipif(not MINUTES, reason="It takes minutes: SOAK_MINUTES says how many.")
@pytest.mark.timeout(300 + 90 * MINUTES)
async def test_memory_and_file_level_off(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = await soak(tmp_path, Soaking(rounds=0, seed=SEED, minutes=MINUTES))
    with capfd.disabled():
        print(f"\n{report}")  # noqa: T201  (what `make crash` is run for)
    assert not report.findings, str(report)


@pytest.mark.parametrize(
    ("memory", "file", "found"),
    [(0, 0, set()), (1, 0, {"memory"}), (0, 1, {"file"}), (1, 1, {"memory", "file"})],
)
def test_what_grows_all_the_time_is_found(memory: int, file: int, found: set[str]) -> None:
    samples = [
        Sample(
            seconds=number,
            memory=(100 + number * memory) * MIB,
            # It goes up and down with each sweep.
            file=(50 + number * file + number % 10) * MIB,
            staying=number * MIB,
            threads=number,
        )
        for number in range(SAMPLES)
    ]
    assert {sentence.split()[1] for _, sentence in growing(samples)} == found


def test_what_grows_at_first_is_not_found() -> None:
    samples = [
        Sample(number, min(number, 20) * 10 * MIB, min(number, 20) * MIB, 0, number)
        for number in range(SAMPLES)
    ]
    assert growing(samples) == []
