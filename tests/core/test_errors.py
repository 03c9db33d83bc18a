"""What errors say besides their sentence."""

from __future__ import annotations

from datetime import UTC, datetime

from assent.core.decisions import Edit
from assent.core.errors import AlreadyDecided, Superseded


def test_a_lost_race_says_who_decided_what_and_when() -> None:
    lost = AlreadyDecided(
        "The approval a1 is no longer pending.",
        decided_by="ann",
        decision={"type": "edit", "args": {"id": 7}},
        decided_at="2026-01-01T00:00:00+00:00",
    )
    assert lost.by == "ann"
    assert lost.decision == Edit({"id": 7})
    assert lost.at == datetime(2026, 1, 1, tzinfo=UTC)


def test_an_approval_that_expired_was_decided_by_nobody() -> None:
    lost = AlreadyDecided("It expired.", decided_by=None, decision=None, decided_at=None)
    assert (lost.by, lost.decision, lost.at) == ("", None, None)


def test_a_changed_question_says_how_it_is_now() -> None:
    assert Superseded("It was changed.", digest="d", args={}).changed == {"digest": "d", "args": {}}
