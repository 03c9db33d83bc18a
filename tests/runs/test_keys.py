"""API keys: made, known, raised by nobody, and revoked for ever."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assent.core.access import Owner
from assent.core.audit import Actor, AuditAction, Authentication
from assent.core.errors import Forbidden, InvalidRequest, NotFound
from assent.core.keys import SECRET_BYTES, Pepper, key_id_in, new_key
from assent.core.rows import ApiKey
from assent.runs.keys import MAX_NOTE, Keys
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import session
from tests.support.keys import KEY
from tests.support.manual_clock import ManualClock
from tests.support.rows import replace

ANN = Owner("ann")
BY = Actor("bob", Authentication.API_KEY)
PEPPER = Pepper(b"p" * 32)
HOUR = timedelta(hours=1)


@pytest.fixture
def manual() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=[None, KEY])
async def keys(
    tmp_path: Path, manual: ManualClock, request: pytest.FixtureRequest
) -> AsyncIterator[Keys]:
    opening = SqliteStorage.open(tmp_path / "assent.db", manual.clock, encryption_key=request.param)
    async with opening as storage:
        yield Keys(storage, PEPPER, manual.clock)


def stored_in(folder: Path) -> str:
    """All that the files of the folder have."""
    return "".join(file.read_text("latin-1") for file in folder.iterdir() if file.is_file())


async def known(keys: Keys, text: str) -> ApiKey | None:
    """The key with this text, if there is one and it is good."""
    key_id = key_id_in(text)
    row = None if key_id is None else await keys.read(key_id)
    return row if row is not None and keys.is_of(row, text) and keys.is_good(row) else None


async def test_a_key_is_known_by_its_text_alone(keys: Keys, tmp_path: Path) -> None:
    made = await keys.make(ANN, ["operator", "approver:tool:pay"], BY, note="her laptop")

    row = await known(keys, made.text)

    assert row == made.row
    assert (row.person, row.roles) == ("ann", ("approver:tool:pay", "operator"))
    stranger = new_key(secrets.token_bytes).text
    other = made.text.replace(made.row.key_id, "0" * 10)
    for wrong in (stranger, other, made.row.key_id, made.row.mac, made.text[:-1], ""):
        assert await known(keys, wrong) is None
    # Nothing that is stored is of any use to who reads it.
    assert made.text.rpartition("_")[2] not in stored_in(tmp_path)
    assert made.text not in repr(made)


async def test_the_id_of_a_key_is_not_enough(keys: Keys) -> None:
    made = await replace(keys, random=lambda count: b"r" * count).make(ANN, ["operator"], BY)

    forged = new_key(lambda count: (b"s" if count == SECRET_BYTES else b"r") * count)

    assert forged.key_id == made.row.key_id
    assert await known(keys, forged.text) is None


async def test_another_pepper_knows_no_key(keys: Keys) -> None:
    made = await keys.make(ANN, ["operator"], BY)

    assert await known(replace(keys, pepper=Pepper(b"q" * 32)), made.text) is None


@pytest.mark.parametrize(
    "raised",
    [
        {"roles": ("admin",)},
        {"person": "bob"},
        {"tenant": "acme"},
        {"expires_at": None},
        {"made_by": ""},
    ],
    ids=lambda raised: next(iter(raised)),
)
async def test_nobody_raises_a_key_in_the_file(
    keys: Keys, raised: Any, manual: ManualClock
) -> None:
    made = await keys.make(ANN, ["viewer"], BY, made_by="bob", expires_at=manual.time + HOUR)
    forged = replace(made.row, version=2, **raised)
    await keys.storage.commit(Change(rows=(forged,)))

    assert await known(keys, made.text) is None


async def test_a_key_that_was_revoked_leaves_no_other_behind(keys: Keys) -> None:
    asking = await keys.make(ANN, ["viewer"], BY)

    async def others() -> None:
        for _ in range(100):
            await keys.make(ANN, ["viewer"], BY, by_key=asking.row.key_id)

    made, revoked = await asyncio.gather(
        others(), keys.revoke(asking.row.key_id, BY), return_exceptions=True
    )

    assert isinstance(made, Forbidden) and isinstance(revoked, ApiKey)
    actions = [record.entry.action for record in (await keys.storage.audit(limit=1000)).rows]
    assert actions.index(AuditAction.KEY_REVOKED) == len(actions) - 1


async def test_a_key_ends_at_its_time(keys: Keys, manual: ManualClock) -> None:
    made = await keys.make(ANN, ["viewer"], BY, expires_at=manual.time + HOUR)

    manual.wait(HOUR - timedelta(microseconds=1))
    assert await known(keys, made.text) is not None
    manual.wait(timedelta(microseconds=1))
    assert await known(keys, made.text) is None


async def test_a_revoked_key_is_good_for_nothing_and_neither_is_what_came_from_it(
    keys: Keys, manual: ManualClock
) -> None:
    made, other = [await keys.make(ANN, ["viewer"], BY) for _ in range(2)]
    for name, key in (("its", made), ("another's", other)):
        credential = f"key:{key.row.key_id}"
        row = session(name, tenant=None, credential=credential)
        await keys.storage.commit(Change(rows=(row,)))
    used = await keys.use(made.row)

    revoked = await keys.revoke(made.row.key_id, BY)

    assert revoked == replace(used, revoked_at=manual.time, version=3)
    assert await keys.revoke(made.row.key_id, BY) == revoked
    assert await known(keys, made.text) is None
    assert await known(keys, other.text) is not None
    assert await keys.storage.session("its") is None
    assert await keys.storage.session("another's") is not None
    with pytest.raises(NotFound):
        await keys.revoke("none", BY)


async def test_the_audit_chain_says_who_made_and_revoked_a_key_and_never_its_text(
    keys: Keys,
) -> None:
    made = await keys.make(Owner("ann", "acme"), ["viewer"], BY, made_by="bob")
    await keys.revoke(made.row.key_id, BY)

    records = (await keys.storage.audit()).rows

    told = [(each.entry.action, each.entry.actor, each.entry.tenant) for each in records]
    assert told == [
        (AuditAction.KEY_MADE, "bob", "acme"),
        (AuditAction.KEY_REVOKED, "bob", "acme"),
    ]
    assert records[0].entry.detail == {
        "key_id": made.row.key_id,
        "person": "ann",
        "roles": ["viewer"],
        "made_by": "bob",
    }
    assert "ask_" not in repr(records)


@pytest.mark.parametrize(
    ("owner", "roles", "note"),
    [
        (Owner(""), ["viewer"], ""),
        (Owner("local"), ["viewer"], ""),
        (Owner("~ann"), ["viewer"], ""),
        (Owner(" ann"), ["viewer"], ""),
        (Owner("an\nn"), ["viewer"], ""),
        (Owner("a" * 201), ["viewer"], ""),
        (Owner("ann", ""), ["viewer"], ""),
        (Owner("ann", "a/b"), ["viewer"], ""),
        (ANN, ["approver:toll:pay"], ""),
        (ANN, ["approver:tool:"], ""),
        (ANN, ["a,b"], ""),
        (ANN, [""], ""),
        (ANN, ["viewer"] * 101, ""),
        (ANN, ["viewer"], "n" * (MAX_NOTE + 1)),
    ],
)
async def test_what_cannot_be_a_key_is_refused(
    keys: Keys, owner: Owner, roles: list[str], note: str
) -> None:
    with pytest.raises(InvalidRequest):
        await keys.make(owner, roles, BY, note=note)

    assert await keys.of() == []


@pytest.mark.parametrize("name", ["Ann", "ＡＮＮ", "BOB"])
async def test_no_two_people_have_names_that_read_the_same(keys: Keys, name: str) -> None:
    await keys.make(ANN, ["viewer"], BY)

    with pytest.raises(InvalidRequest, match="reads the same"):
        await keys.make(Owner(name), ["viewer"], BY, beside=["bob"])
    await keys.make(ANN, ["viewer"], BY, beside=["ann"])


async def test_a_key_that_has_expired_is_not_made(keys: Keys, manual: ManualClock) -> None:
    with pytest.raises(InvalidRequest, match="would have expired"):
        await keys.make(ANN, ["viewer"], BY, expires_at=manual.time)


async def test_a_row_that_another_program_has_written_is_no_key(
    tmp_path: Path, manual: ManualClock
) -> None:
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path, manual.clock, encryption_key=KEY) as storage:
        made = await Keys(storage, PEPPER, manual.clock).make(ANN, ["viewer"], BY)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE api_keys SET roles = '[\"admin\"]'")
        connection.commit()

    async with SqliteStorage.open(path, manual.clock, encryption_key=KEY) as storage:
        assert await known(Keys(storage, PEPPER, manual.clock), made.text) is None


async def test_the_keys_of_one_person_are_listed(keys: Keys, manual: ManualClock) -> None:
    made: list[ApiKey] = []
    for owner in (ANN, Owner("bob"), Owner("ann", "acme")):
        made.append((await keys.make(owner, ["viewer"], BY)).row)
        manual.wait(HOUR)

    assert await keys.of() == made[::-1]
    assert await keys.of(ANN) == made[:1]
