"""Links: what is in them cannot be changed, and what they are for is what they decide."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assent.approvals.decide import Verdict
from assent.core.access import APPROVES_ALL
from assent.core.approval import ApprovalKind, ApprovalStatus
from assent.core.audit import Actor, Authentication
from assent.core.decisions import Approve, Reject
from assent.core.errors import (
    Conflict,
    Gone,
    InvalidRequest,
    NotFound,
    Superseded,
)
from assent.core.policy import Policy
from assent.core.rows import Link
from assent.notify.links import (
    MAX_LIFETIME,
    LinkKey,
    check_chosen,
    check_usable,
    new_link,
    token,
    using,
)
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import NOON, thread
from tests.support.approvals import LATER, a_thread, an_approval, decide, decider
from tests.support.notifications import NOW, PENDING, UNUSED_LINK
from tests.support.rows import replace

KEY = LinkKey(b"k" * 32, "https://assent.example")


async def found(tmp_path: Path, stored: Link, given: str) -> Link:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        await storage.commit(Change(rows=(thread(), stored)))
        return await KEY.find(storage, given)


async def test_a_link_is_found_by_what_was_sent(tmp_path: Path) -> None:
    url = KEY.url(UNUSED_LINK)
    assert url.startswith("https://assent.example/links/l.")
    assert await found(tmp_path, UNUSED_LINK, url.rpartition("/")[2]) == UNUSED_LINK


@pytest.mark.parametrize(
    "change",
    [
        {"approval_id": "other"},
        {"thread_id": "u"},
        {"digest": "1" * 64},
        {"recipient": "eve"},
        {"decisions": ("approve", "reject")},
        {"expires_at": NOON + timedelta(days=2)},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_link_whose_row_was_edited_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(NotFound):
        await found(tmp_path, replace(UNUSED_LINK, **change), token(UNUSED_LINK, KEY.secret))


@pytest.mark.parametrize(
    "given", ["", "l", "l.", ".", "l.AAAA", "l.é", "other.x", "l.x.y", "l" * 5_000]
)
async def test_what_was_not_sent_is_no_link(tmp_path: Path, given: str) -> None:
    with pytest.raises(NotFound, match="There is no such link"):
        await found(tmp_path, UNUSED_LINK, given)


async def test_no_character_of_a_link_can_be_another(tmp_path: Path) -> None:
    right = token(UNUSED_LINK, KEY.secret)
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        await storage.commit(Change(rows=(thread(), UNUSED_LINK)))
        for at, char in enumerate(right):
            with pytest.raises(NotFound):
                await KEY.find(
                    storage, right[:at] + ("A" if char != "A" else "B") + right[at + 1 :]
                )
        with pytest.raises(NotFound):
            await LinkKey(b"x" * 32, "").find(storage, right)


# ── made ──


def test_a_link_is_bound_to_what_is_asked_and_does_not_outlast_it() -> None:
    made = new_link(PENDING, "bob", link_id="l", now=NOW)
    assert (made.approval_id, made.thread_id, made.digest, made.recipient) == (
        "a",
        "t",
        PENDING.digest,
        "bob",
    )
    assert made.decisions == ("approve", "reject")
    assert made.expires_at == PENDING.expires_at
    assert new_link(
        PENDING, "bob", link_id="l", now=NOW, lasts=timedelta(hours=1)
    ).expires_at == NOW + timedelta(hours=1)
    assert new_link(PENDING, "bob", link_id="l", now=NOW, decision="reject").decisions == (
        "reject",
    )


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"decision": "edit"}, ("approve", "edit", "reject")),
        ({"decision": "approve"}, ("reject",)),
        ({}, ("respond",)),
        ({"lasts": timedelta(0)}, ("approve", "reject")),
        ({"lasts": MAX_LIFETIME + timedelta(seconds=1)}, ("approve", "reject")),
        ({"recipient": ""}, ("approve", "reject")),
    ],
)
def test_a_link_that_makes_no_sense_is_refused(
    options: dict[str, Any], allowed: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidRequest):
        new_link(
            replace(PENDING, allowed=allowed),
            **{"recipient": "bob", "link_id": "l", "now": NOW, **options},
        )


# ── used ──


def test_a_link_is_usable_until_it_expires() -> None:
    check_usable(UNUSED_LINK, PENDING, UNUSED_LINK.expires_at - timedelta(microseconds=1))
    with pytest.raises(Gone, match="expired"):
        check_usable(UNUSED_LINK, PENDING, UNUSED_LINK.expires_at)


def test_a_link_is_usable_once() -> None:
    (used,) = using(UNUSED_LINK, PENDING, NOW).rows
    assert isinstance(used, Link)
    with pytest.raises(Gone, match="has been used"):
        check_usable(used, PENDING, NOW)
    assert used.version == UNUSED_LINK.version + 1


def test_a_link_is_for_what_was_asked_when_it_was_made() -> None:
    with pytest.raises(Superseded):
        check_usable(UNUSED_LINK, replace(PENDING, digest="1" * 64), NOW)


@pytest.mark.parametrize(
    "status", [status for status in ApprovalStatus if status is not ApprovalStatus.PENDING]
)
def test_when_nothing_is_left_to_decide_a_link_is_for_nothing(status: ApprovalStatus) -> None:
    with pytest.raises(Gone):
        check_usable(UNUSED_LINK, replace(PENDING, status=status), NOW)


def test_a_link_decides_only_what_it_is_for() -> None:
    both = replace(UNUSED_LINK, decisions=("approve", "reject"))
    for chosen in both.decisions:
        check_chosen(both, chosen)
    for chosen in ("edit", "respond", "", "APPROVE"):
        with pytest.raises(InvalidRequest):
            check_chosen(both, chosen)
    with pytest.raises(InvalidRequest):
        check_chosen(UNUSED_LINK, "reject")


def test_a_link_answers_questions_and_nothing_in_place_of_a_tool() -> None:
    every = ("approve", "edit", "reject", "respond")
    made = {
        kind: new_link(replace(PENDING, kind=kind, allowed=every), "bob", link_id="l", now=NOW)
        for kind in ApprovalKind
    }
    assert made.pop(ApprovalKind.INPUT).decisions == ("respond", "reject")
    assert {link.decisions for link in made.values()} == {("approve", "reject")}


# ── used up with the decision ──


async def test_a_link_that_was_used_does_not_vote_again_where_several_must_agree(
    tmp_path: Path,
) -> None:
    row = an_approval("a", policy=Policy(quorum=3), version=1)
    stored = replace(UNUSED_LINK, digest="d")
    verdict = Verdict(
        decisions={"a": Approve()},
        by=Actor("bob", Authentication.SIGNED_LINK, approves=APPROVES_ALL),
        digests={"a": "d"},
        also=using(stored, row, LATER),
    )
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        await storage.commit(Change(rows=(a_thread("a", version=1), row, stored)))
        decided = await decide(decider(storage), "t", verdict)
        assert [vote.by for vote in decided.approvals[0].votes] == ["bob"]
        assert (await storage.link("l")) == replace(stored, used_at=LATER, version=2)
        events = await storage.last_seq("t")
        for decision in (Approve(), Reject()):
            with pytest.raises(Conflict, match="link"):
                async with asyncio.timeout(60):
                    again = replace(verdict, decisions={"a": decision})
                    await decide(decider(storage), "t", again)
        assert await storage.last_seq("t") == events
        assert (await storage.approval("a")) == decided.approvals[0]
