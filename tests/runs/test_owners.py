"""Giving all that somebody has to somebody else."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from assent.approvals.rules import needs_another
from assent.core.access import Owner, Sight
from assent.core.approval import Approval, Delegation, Target, Vote
from assent.core.audit import AuditAction
from assent.core.clock import Clock
from assent.core.decisions import Approve
from assent.core.errors import InvalidRequest
from assent.core.grant import Grant
from assent.core.policy import Policy
from assent.core.rows import File, Link, Row
from assent.runs.owners import Move, Moved
from assent.storage.base import Change, Storage, all_rows
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import (
    NOON,
    approval,
    assistant,
    assistant_version,
    grant,
    link,
    notification,
    run,
    schedule,
    thread,
)
from tests.support.rows import replace

LOCAL, ANN, OF_ACME = Owner("local"), Owner("ann"), Owner("ann", "acme")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        yield storage


def of(owner: Owner, row: Any, **changes: Any) -> Any:
    """The row as one of the owner's, who asked for it."""
    mine: dict[str, Any] = {"owner": owner.name, "tenant": owner.tenant}
    if hasattr(row, "requested_by"):
        mine["requested_by"] = (owner.name,)
    return replace(row, **{**mine, **changes})


def upload(owner: Owner) -> File:
    return File(
        file_id=f"f-{owner.name}",
        owner=owner.name,
        tenant=owner.tenant,
        created_at=NOON,
        mime_type="text/plain",
        size=5,
        sha256="0",
        name="a",
    )


def a_grant(id: str, by: Owner, **changes: Any) -> Grant:
    given = {"given_by": by.name, "user": by.name, "tenant": by.tenant, "revoked_at": None}
    return replace(grant(id), **{**given, "thread_id": "", "revoked_by": None, **changes})


def a_link(id: str, **changes: Any) -> Link:
    return replace(link(id), **{"used_at": None, **changes})


def all_of(owner: Owner, id: str) -> list[Row]:
    """A thread of the owner's with everything that hangs on it, a schedule, an assistant, an upload
    and a grant."""
    return [
        of(owner, thread(id)),
        of(owner, run(f"r-{id}", thread_id=id)),
        of(owner, approval(f"a-{id}", thread_id=id, run_id=f"r-{id}")),
        notification(f"n-{id}", thread_id=id, approval_id=f"a-{id}", tenant=owner.tenant),
        of(owner, schedule(f"s-{id}", thread_id="")),
        of(owner, assistant(f"as-{id}")),
        of(owner, assistant_version(f"as-{id}:1")),
        upload(owner),
        a_grant(f"g-{id}", owner),
        a_link(f"l-{id}", recipient=owner.name, thread_id=id, approval_id=f"a-{id}"),
    ]


async def seen(storage: Storage, owner: Owner) -> set[str]:
    """The ids of all that the owner has."""
    reads = storage.seen_by(Sight("own", owner))
    rows = [
        *await all_rows(reads.threads),
        *await all_rows(reads.latest_runs),
        *await all_rows(reads.approvals),
        *await all_rows(reads.schedules),
        *await all_rows(reads.assistants),
        *[
            version
            for each in await all_rows(reads.assistants)
            for version in await all_rows(reads.assistant_versions, assistant_id=each.assistant_id)
        ],
        *await all_rows(storage.uploads_of, owner=owner),
        *await all_rows(reads.grants),
    ]
    return {getattr(row, next(iter(type(row).__annotations__))) for row in rows}


@pytest.mark.parametrize("target", [ANN, OF_ACME])
async def test_all_that_somebody_has_is_somebody_elses(
    storage: SqliteStorage, target: Owner
) -> None:
    others = all_of(Owner("bob"), "u")
    await storage.commit(Change(rows=(*all_of(LOCAL, "t"), *others)))
    before = await seen(storage, LOCAL)
    assert len(before) == 8
    assert await Move(storage, Clock(), LOCAL, target)() == Moved(1, 1, 1, 1, 1)
    assert await seen(storage, LOCAL) == set()
    assert await seen(storage, target) == before
    moved = await storage.thread("t")
    sent = await storage.notification("n-t")
    assert moved is not None and moved.requested_by == ("ann",)
    assert sent is not None and sent.tenant == target.tenant
    bobs = (*[await storage.thread("u")], await storage.run("r-u"), await storage.approval("a-u"))
    assert list(bobs) == others[:3]
    # Everybody may have given what `local` gave; and what the old name was sent is nobody's.
    given, left = await storage.grant("g-t"), await storage.grant("g-u")
    assert given is not None and (given.given_by, given.user) == ("ann", "ann")
    assert (given.tenant, given.revoked_by) == (target.tenant, "local")
    assert left in others
    assert await storage.link("l-t") is None
    assert await storage.link("l-u") in others

    audited = (await storage.audit()).rows
    assert {record.entry.action for record in audited} == {AuditAction.MOVED}
    assert [record.entry.thread_id for record in audited] == ["t", ""]
    assert audited[0].entry.detail == {"from": "local", "to": "ann"}
    # Once more, as after a kill: there is nothing left to do.
    assert await Move(storage, Clock(), LOCAL, target)() == Moved()
    assert len((await storage.audit()).rows) == len(audited)


async def test_what_somebody_has_is_counted_with_whoever_has_it(
    storage: SqliteStorage, tmp_path: Path
) -> None:
    await storage.commit(Change(rows=tuple(all_of(LOCAL, "t"))))
    await Move(storage, Clock(), LOCAL, OF_ACME)()
    with closing(sqlite3.connect(tmp_path / "assent.db")) as connection:
        found = connection.execute("SELECT tenant, owner, kind, amount FROM holdings").fetchall()
    assert {each for each in found if each[1] and each[3]} == {
        ("acme", "ann", "threads", 1),
        ("acme", "ann", "file_bytes", 5),
        ("acme", "ann", "assistants", 1),
    }


async def test_with_four_eyes_the_two_are_one_person(storage: SqliteStorage) -> None:
    vote = Vote(by="local", decision=Approve(), digest="d", at=NOON, voting_right="local")
    handed = Delegation(voting_right="local", to=Target(name="local"), by="local", at=NOON)
    asked: Approval = approval(
        "a",
        thread_id="u",
        run_id="r",
        owner="bob",
        tenant=None,
        requested_by=("bob", "local"),
        policy=Policy(four_eyes=True, quorum=2),
        votes=(replace(vote, by="ann", voting_right="ann"), vote),
        delegations=(handed,),
    )
    bobs = [
        of(Owner("bob"), thread("u"), requested_by=("local",)),
        of(Owner("bob"), run("r", thread_id="u")),
    ]
    await storage.commit(Change(rows=(*bobs, asked)))
    assert not needs_another(asked, "ann")
    # The thread stays Bob's.
    assert await Move(storage, Clock(), LOCAL, ANN)() == Moved()
    moved = await storage.approval("a")
    assert moved is not None
    assert needs_another(moved, "ann")
    assert (moved.owner, moved.requested_by) == ("bob", ("bob", "ann"))
    assert [each.by for each in moved.votes] == ["ann"]
    assert [(each.voting_right, each.to.name, each.by) for each in moved.delegations] == [
        ("ann", "ann", "ann")
    ]
    assert moved.edit == asked.edit
    changed = await storage.thread("u")
    assert changed is not None and changed.requested_by == ("ann",)


async def test_what_somebody_granted_counts_on_as_whoever_they_are_now(
    storage: SqliteStorage,
) -> None:
    bob, cy = Owner("bob"), Owner("cy")
    by, to = a_grant("by", bob, user="cy"), a_grant("to", cy, user="bob")
    others = a_grant("others", cy, user="dee")
    asked = of(cy, schedule("s", thread_id=""), requested_by=("cy", "bob"))
    used = link("used", thread_id="t", recipient="bob")
    rows = (by, to, others, asked, used, a_link("sent", created_by="bob", thread_id="t"))
    await storage.commit(Change(rows=(of(cy, thread("t")), *rows)))

    # Into another tenant nobody takes what others gave there.
    assert await Move(storage, Clock(), Owner("dee"), OF_ACME)() == Moved()
    assert await Move(storage, Clock(), bob, ANN)() == Moved(grants=2)

    for before, names in ((by, ("ann", "cy")), (to, ("cy", "ann")), (others, ("cy", "dee"))):
        now = await storage.grant(before.grant_id)
        assert now is not None and (now.given_by, now.user) == names
        assert now.revoked_at is None
    moved = await storage.schedule("s")
    assert moved is not None and (moved.owner, moved.requested_by) == ("cy", ("cy", "ann"))
    assert await storage.link("used") == used
    assert await storage.link("sent") is None


async def test_nobody_gives_something_to_themselves(storage: SqliteStorage) -> None:
    with pytest.raises(InvalidRequest, match="'ann' has all that already"):
        await Move(storage, Clock(), ANN, ANN)()
