"""Sessions: known by their cookie, raised by nobody, and over in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assent.core.access import Owner
from assent.core.audit import Actor, AuditAction, Authentication
from assent.core.keys import Pepper
from assent.core.rows import Session
from assent.runs.sessions import MOST, MadeSession, Sessions, SignIn
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.support.manual_clock import ManualClock
from tests.support.rows import replace

ANN = Owner("ann")
BY = Actor("ann", Authentication.API_KEY)
PEPPER = Pepper(b"p" * 32)
WHO = SignIn(owner=ANN, credential="key:k", roles=("viewer",), known_to=("bob",))
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def manual() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def sessions(tmp_path: Path, manual: ManualClock) -> AsyncIterator[Sessions]:
    async with SqliteStorage.open(tmp_path / "assent.db", manual.clock) as storage:
        yield Sessions(storage, PEPPER, manual.clock, lifetime=12 * HOUR, idle=2 * HOUR)


async def known(sessions: Sessions, text: str) -> Session | None:
    """The session of the cookie with this text, if there is one and it is good."""
    session_id = sessions.id_of(text)
    row = None if session_id is None else await sessions.read(session_id)
    return row if row is not None and sessions.is_good(row) else None


async def test_a_session_is_known_by_its_cookie_alone(sessions: Sessions) -> None:
    made = await sessions.begin(WHO, BY)

    assert await known(sessions, made.text) == made.row
    for wrong in (made.row.session_id, made.text[:-1], f"{made.text}0", "", "ses_"):
        assert await known(sessions, wrong) is None
    assert await known(replace(sessions, pepper=Pepper(b"q" * 32)), made.text) is None
    assert made.text not in repr(made)


@pytest.mark.parametrize(
    "raised",
    [
        {"roles": ("admin",)},
        {"person": "bob"},
        {"tenant": "acme"},
        {"known_to": ()},
        {"credential": "key:other"},
        {"expires_at": None},
    ],
    ids=lambda raised: next(iter(raised)),
)
async def test_nobody_raises_a_session_in_the_file(sessions: Sessions, raised: Any) -> None:
    made = await sessions.begin(WHO, BY)
    if "expires_at" in raised:
        raised = {"expires_at": made.row.expires_at + HOUR}
    await sessions.storage.commit(Change(rows=(replace(made.row, version=2, **raised),)))

    assert await known(sessions, made.text) is None


async def test_a_session_ends_when_it_is_not_used(sessions: Sessions, manual: ManualClock) -> None:
    used, unused = await sessions.begin(WHO, BY), await sessions.begin(WHO, BY)

    manual.wait(2 * HOUR - SECOND)
    await sessions.use(used.row)
    manual.wait(SECOND)

    assert await known(sessions, unused.text) is None
    assert await known(sessions, used.text) is not None


async def test_a_session_ends_in_time_however_much_it_is_used(
    sessions: Sessions, manual: ManualClock
) -> None:
    made = await sessions.begin(WHO, BY)
    row = made.row
    for _ in range(11):
        manual.wait(HOUR)
        row = await sessions.use(row)
    assert await known(sessions, made.text) == row

    manual.wait(HOUR)

    assert await known(sessions, made.text) is None


async def test_a_session_lasts_no_longer_than_what_it_came_from(
    sessions: Sessions, manual: ManualClock
) -> None:
    made = await sessions.begin(replace(WHO, until=manual.time + HOUR), BY)

    manual.wait(HOUR)

    assert await known(sessions, made.text) is None


async def test_a_session_that_was_ended_is_over_for_ever(sessions: Sessions) -> None:
    made, other = await sessions.begin(WHO, BY), await sessions.begin(WHO, BY)

    await asyncio.gather(*(sessions.end(made.row.session_id, BY) for _ in range(5)))

    assert await known(sessions, made.text) is None
    assert await known(sessions, other.text) is not None
    actions = [each.entry.action for each in (await sessions.storage.audit()).rows]
    assert actions == [AuditAction.SIGNED_IN, AuditAction.SIGNED_IN, AuditAction.SIGNED_OUT]


async def test_of_too_many_the_oldest_end_and_those_of_others_do_not(
    sessions: Sessions, manual: ManualClock
) -> None:
    bobs = await sessions.begin(replace(WHO, owner=Owner("bob")), BY)
    acmes = await sessions.begin(replace(WHO, owner=Owner("ann", "acme")), BY)
    made: list[MadeSession] = []
    for _ in range(MOST + 2):
        made.append(await sessions.begin(WHO, BY))
        manual.wait(SECOND)

    good = [each for each in made if await known(sessions, each.text)]

    assert good == made[2:]
    assert await known(sessions, bobs.text) and await known(sessions, acmes.text)


async def test_every_session_of_a_person_is_ended(sessions: Sessions) -> None:
    made = [await sessions.begin(WHO, BY) for _ in range(3)]
    bobs = await sessions.begin(replace(WHO, owner=Owner("bob")), BY)

    assert await sessions.end_all(ANN, BY) == 3

    assert not any([await known(sessions, each.text) for each in made])
    assert await known(sessions, bobs.text)
