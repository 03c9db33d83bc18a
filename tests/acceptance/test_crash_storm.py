"""The real server is killed again and again while people talk to it, and nothing is lost, doubled
or stuck.

make crash CRASH_KILLS=500 CRASH_SEED=7
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.acceptance.crash_storm import Plan, storm

KILLS = int(os.environ.get("CRASH_KILLS", "7"))
SEED = int(os.environ.get("CRASH_SEED", random.randrange(1_000_000)))

MUTANT_KILLS = 5
MUTANT_LIFE = 2.0
"""The longest life of a mutant, in seconds: time for people to argue, also on a busy machine."""

ATTEMPTS = 12
"""How many short storms a mutant may survive: which kill comes in the midst of what is a matter of
luck. On a busy machine a storm sees runs that end wrongly in two cases of three."""


@pytest.mark.timeout(120 + 5 * KILLS)
async def test_killed_at_any_moment_it_loses_doubles_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = await storm(tmp_path, Plan(rounds=KILLS, seed=SEED, rest_every=min(KILLS, 10)))
    with capfd.disabled():
        print(f"\n{report}")  # noqa: T201  (what `make crash` is run for)
    assert not report.findings, str(report)


@pytest.mark.parametrize(
    ("mutant", "proofs"),
    [
        ("without_intents", [{"duplicate"}]),
        # Of two decisions the later one is forgotten, or the thread's row and the approval's differ.
        ("without_comparing", [{"forgotten"}, {"open", "stuck"}]),
        ("without_leases", [{"recovered", "ending"}]),
    ],
)
@pytest.mark.timeout(30 * ATTEMPTS)
async def test_the_storm_sees_what_a_server_lacks(
    mutant: str, proofs: list[set[str]], tmp_path: Path
) -> None:
    """Findings of all the kinds of one of the `proofs`, in one storm or in several."""
    seen: set[str] = set()
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        report = await storm(folder, _short(mutant))
        seen |= report.kinds().keys()
        if any(kinds <= seen for kinds in proofs):
            return
    raise AssertionError(
        f"Without a safeguard there should be findings of {proofs}, and in {ATTEMPTS} storms there "
        f"were those of {seen}. The last one:\n{report}"
    )


async def test_two_workers_that_respect_each_other_are_not_seen(tmp_path: Path) -> None:
    """What the mutant without leases is like, but for the leases."""
    report = await storm(tmp_path, _short("with_two_workers"))
    assert not report.findings, str(report)


def _short(mutant: str) -> Plan:
    """A few kills of a mutant whose tools take so long that most kills hit some."""
    environment = {
        "BEFORE_SERVING": f"tests.acceptance.crash_mutants:{mutant}",
        "CRASH_TOOL_SECONDS": "0.5",
    }
    return Plan(
        rounds=MUTANT_KILLS,
        seed=random.randrange(1_000_000),
        longest_life=MUTANT_LIFE,
        environment=environment,
    )
