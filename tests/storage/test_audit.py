"""The audit chain in a real file: whole after anything that Assent does, and broken by anything
that another program does."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assent.core.audit import AuditAction, AuditEntry, AuditHead, AuditRecord, Authentication
from assent.core.errors import ConfigurationError, Conflict, InvalidRequest
from assent.core.events import Done
from assent.core.rows import Thread, ThreadStatus
from assent.storage.base import Change, Storage
from assent.storage.chain import Heads, Verification, heads_from_text
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.audit_chain import (
    PAGE_ROWS,
    AuditFile,
    key_file,
    parse_audit_keys,
)
from tests.support.keys import KEY, key

# Hundreds of chains, each broken in its own place.
pytestmark = pytest.mark.slow

AUDIT_KEY = key("2026", "a")
START = datetime(2026, 1, 1, tzinfo=UTC)


def entry(number: int, **fields: object) -> AuditEntry:
    plain = AuditEntry(
        at=START + timedelta(seconds=number),
        action=AuditAction.DECIDED,
        authentication=Authentication.API_KEY,
        actor=f"person {number % 3}",
        thread_id=f"t{number % 2}",
        approval_id=f"a{number}",
        run_id="r",
        policy="b" * 64,
        digest="d" * 64,
        detail={"decision": "approve"},
        tenant="acme" if number % 3 else None,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def thread(version: int = 1) -> Thread:
    return Thread(
        thread_id="t",
        owner="ann",
        status=ThreadStatus.IDLE,
        created_at=START,
        updated_at=START,
        version=version,
    )


async def records(storage: Storage, **filters: object) -> list[AuditRecord]:
    found: list[AuditRecord] = []
    cursor: str | None = None
    while True:
        page = await storage.audit(limit=7, cursor=cursor, **filters)  # type: ignore[arg-type]
        found += page.rows
        cursor = page.next
        if cursor is None:
            return found


def verified(
    path: Path,
    heads: Heads | None = None,
    *,
    audit_key: str | None = AUDIT_KEY,
    encryption_key: str | None = None,
) -> Verification:
    with AuditFile.open(path, audit_key=audit_key, encryption_key=encryption_key) as file:
        return file.verify(heads)


def is_whole(path: Path, count: int, **keys: str | None) -> bool:
    looked = verified(path, **keys)  # type: ignore[arg-type]
    assert (looked.broken, looked.unchecked) == (None, {})
    return (looked.last.number if looked.last else 0) == count


# ── what storage promises ─────────────────────────────────────────────────────────────────────────


async def test_a_chain_from_before_there_were_tenants_is_still_whole(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path, audit_key=AUDIT_KEY) as storage:
        await storage.commit(Change(audit=tuple(entry(3 * number) for number in range(1, 5))))
    edit(path, "DROP INDEX audit_by_tenant; ALTER TABLE audit DROP COLUMN tenant")
    assert is_whole(path, 4)


async def test_entries_are_numbered_in_order_and_found_by_what_they_are_about(
    storage: Storage,
) -> None:
    assert await storage.audit_head() is None
    entries = [entry(number) for number in range(1, 31)]
    await storage.commit(Change(audit=tuple(entries[:10])))
    await storage.commit(Change(audit=tuple(entries[10:])))
    found = await records(storage)
    assert [record.number for record in found] == list(range(1, 31))
    assert [record.entry for record in found] == entries
    assert await storage.audit_head() == AuditHead(
        number=30, mac=found[-1].mac, key=found[-1].key, at=entries[-1].at
    )
    assert [record.number for record in await records(storage, actor="person 1")] == list(
        range(1, 31, 3)
    )
    assert [
        record.number for record in await records(storage, thread_id="t0", actor="person 1")
    ] == list(range(4, 31, 6))
    assert [record.number for record in await records(storage, approval_id="a7")] == [7]
    assert [record.number for record in await records(storage, since=entries[20].at)] == list(
        range(21, 31)
    )
    assert [record.number for record in await records(storage, until=entries[9].at)] == list(
        range(1, 11)
    )
    await storage.commit(Change(audit=(entry(31, action=AuditAction.VOTED),)))
    by_action = await records(storage, action=AuditAction.VOTED)
    assert [record.number for record in by_action] == [31]
    with pytest.raises(InvalidRequest, match="cursor"):
        await storage.audit(cursor="next")


async def test_entries_are_read_from_the_newest_on(storage: Storage) -> None:
    entries = [entry(number) for number in range(1, 31)]
    await storage.commit(Change(audit=tuple(entries)))
    found = await records(storage, sort="newest")
    assert [record.number for record in found] == list(range(30, 0, -1))
    between = {"since": entries[4].at, "until": entries[19].at, "sort": "newest"}
    assert [record.number for record in await records(storage, **between)] == list(range(20, 4, -1))
    found = await records(storage, actor="person 1", **between)
    assert [record.number for record in found] == [19, 16, 13, 10, 7]


async def test_an_entry_is_stored_with_its_change_or_not_at_all(storage: Storage) -> None:
    await storage.commit(Change(rows=(thread(),), audit=(entry(1),)))
    for change in (
        Change(rows=(thread(),), audit=(entry(2),)),
        Change(
            rows=(thread(2),),
            audit=(entry(2), entry(3, detail={"no": "canonical form", "of": 2**60})),
        ),
        Change(events=(Done(thread_id=""),), audit=(entry(2),)),
    ):
        with pytest.raises((Conflict, InvalidRequest, ValueError)):
            await storage.commit(change)
    assert [record.number for record in await records(storage)] == [1]
    row = await storage.thread("t")
    assert row is not None
    assert row.version == 1
    await storage.commit(Change(audit=(entry(2),)))
    assert [(record.number, record.entry) for record in await records(storage)] == [
        (1, entry(1)),
        (2, entry(2)),
    ]


async def test_what_fails_in_the_same_transaction_leaves_no_gap(tmp_path: Path) -> None:
    """200 at once share a few transactions. Every third fails, when its first entry is in the chain
    already."""
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path, audit_key=AUDIT_KEY) as storage:
        changes = [
            Change(
                audit=(
                    entry(number),
                    entry(
                        number, detail={} if number % 3 else {"no": "canonical form", "of": 2**60}
                    ),
                )
            )
            for number in range(200)
        ]
        done = await asyncio.gather(
            *(storage.commit(change) for change in changes), return_exceptions=True
        )
        assert sum(isinstance(each, ValueError) for each in done) == 67
        assert {record.entry.approval_id for record in await records(storage)} == {
            f"a{n}" for n in range(200) if n % 3
        }
    assert is_whole(path, 266)


async def test_erasing_a_thread_leaves_what_was_audited(storage: Storage) -> None:
    await storage.commit(Change(rows=(thread(),), audit=(entry(1, thread_id="t"),)))
    row = await storage.thread("t")
    assert row is not None
    await storage.commit(
        Change(
            unchanged=(row,), erase="t", audit=(entry(2, thread_id="t", action=AuditAction.ERASED),)
        )
    )
    assert await storage.thread("t") is None
    assert [record.entry.action for record in await records(storage, thread_id="t")] == [
        "decided",
        "erased",
    ]


# ── what another program does ─────────────────────────────────────────────────────────────────────

ROWS = 12


@pytest.fixture(scope="module", params=[None, KEY], ids=["plain", "sealed"])
def original(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str | None]:
    """A file with a chain of 12 rows, that nobody has open; and what it is encrypted with."""
    path = tmp_path_factory.mktemp("original") / "assent.db"

    async def fill() -> None:
        async with SqliteStorage.open(
            path, encryption_key=request.param, audit_key=AUDIT_KEY
        ) as storage:
            entries = tuple(entry(number) for number in range(1, ROWS + 1))
            await storage.commit(Change(audit=entries))

    asyncio.run(fill())
    return path, request.param


@pytest.fixture
def chain(original: tuple[Path, str | None], tmp_path: Path) -> tuple[Path, str | None]:
    """A copy of it, with what it is encrypted with."""
    file, encryption_key = original
    shutil.copytree(file.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "assent.db", encryption_key


def edit(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def test_a_chain_that_nobody_touched_is_whole(chain: tuple[Path, str | None]) -> None:
    path, encryption_key = chain
    assert is_whole(path, ROWS, encryption_key=encryption_key)


EVERY_COLUMN = {
    "at": "'2020-01-01T00:00:00.000000Z'",
    "action": "'voted'",
    "actor": "'mallory'",
    "authentication": "'local'",
    "tenant": "'other'",
    "thread_id": "'t9'",
    "approval_id": "'a9'",
    "run_id": "'r9'",
    "digest": "'e'",
    "policy": "'p'",
    "detail": """'{"decision":"reject"}'""",
    "key": "'2025'",
    "mac": "randomblob(32)",
}


@pytest.mark.parametrize("column", EVERY_COLUMN)
@pytest.mark.parametrize("number", [1, 5, ROWS])
def test_an_edited_row_is_found(chain: tuple[Path, str | None], column: str, number: int) -> None:
    path, encryption_key = chain
    edit(path, f'UPDATE audit SET "{column}" = {EVERY_COLUMN[column]} WHERE number = {number}')
    looked = verified(path, encryption_key=encryption_key)
    if column == "key":
        # Whoever is said to have signed it did not, or it cannot be known: in neither case all is
        # well.
        assert looked.unchecked == {"2025": 1}
    else:
        assert looked.broken is not None
        assert (looked.broken.number, looked.broken.sentence.split(":")[0]) == (
            number,
            f"Row {number} is not what Assent wrote there",
        )


@pytest.mark.parametrize(
    "value",
    [
        "NULL",
        "1",
        "x'00'",
        "'nonsense'",
        "''",
        "9e999",
        """'{"decision": 1e400}'""",
        """'["decision"]'""",
        "zeroblob(100)",
    ],
)
@pytest.mark.parametrize("column", EVERY_COLUMN)
def test_what_can_be_no_row_at_all_is_found_too(
    chain: tuple[Path, str | None], column: str, value: str
) -> None:
    path, encryption_key = chain
    try:
        edit(path, f'UPDATE audit SET "{column}" = {value} WHERE number = 5')
    except sqlite3.IntegrityError:
        # The schema itself refuses it.
        return
    looked = verified(path, encryption_key=encryption_key)
    assert looked.broken is not None or looked.unchecked
    assert looked.broken is None or looked.broken.number == 5


# In the order in which the table has them.
OTHERS = """
    at, action, actor, authentication, thread_id, approval_id, run_id, digest, policy, detail, key,
    mac, tenant
"""

TAMPERED: dict[str, tuple[str, int, str]] = {
    "the first removed": ("DELETE FROM audit WHERE number = 1", 1, "Row 1 is missing"),
    "one removed": ("DELETE FROM audit WHERE number = 5", 5, "Row 5 is missing"),
    "several removed": (
        "DELETE FROM audit WHERE number IN (5, 6, 9)",
        5,
        "The rows 5 to 6 are missing",
    ),
    "removed, and the gap closed": (
        "DELETE FROM audit WHERE number = 5; UPDATE audit SET number = -number WHERE number > 5;"
        "UPDATE audit SET number = -number - 1 WHERE number < 0",
        5,
        "Row 5 is not what",
    ),
    "two exchanged": (
        "UPDATE audit SET number = -1 WHERE number = 4; UPDATE audit SET number = 4 WHERE number = 8;"
        "UPDATE audit SET number = 8 WHERE number = -1",
        4,
        "Row 4 is not what",
    ),
    "neighbours exchanged": (
        "UPDATE audit SET number = -1 WHERE number = 4; UPDATE audit SET number = 4 WHERE number = 5;"
        "UPDATE audit SET number = 5 WHERE number = -1",
        4,
        "Row 4 is not what",
    ),
    "one put in front": (
        f"INSERT INTO audit SELECT 0, {OTHERS} FROM audit WHERE number = 3",
        0,
        "Row 0 was put in",
    ),
    "one put in between": (
        "UPDATE audit SET number = -number WHERE number > 5; UPDATE audit SET number = -number + 1 WHERE number < 0;"
        f"INSERT INTO audit SELECT 6, {OTHERS} FROM audit WHERE number = 3",
        6,
        "Row 6 is not what",
    ),
    "one put behind": (
        f"INSERT INTO audit SELECT {ROWS + 1}, {OTHERS} FROM audit WHERE number = {ROWS}",
        ROWS + 1,
        f"Row {ROWS + 1} is not what",
    ),
    "two edited": (
        "UPDATE audit SET actor = 'mallory' WHERE number IN (3, 9)",
        3,
        "Row 3 is not what",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_removed_moved_or_put_in_is_found(
    chain: tuple[Path, str | None], what: str
) -> None:
    path, encryption_key = chain
    script, number, begins = TAMPERED[what]
    edit(path, script)
    broken = verified(path, encryption_key=encryption_key).broken
    assert broken is not None
    assert broken.number == number
    assert broken.sentence.startswith(begins)


async def test_a_tail_that_was_cut_is_found_by_a_head_that_was_exported(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path, audit_key=AUDIT_KEY) as storage:
        await storage.commit(Change(audit=tuple(entry(number) for number in range(1, ROWS + 1))))
        early, late = await storage.audit(limit=8), await storage.audit_head()
    assert late is not None
    heads = heads_from_text(f"8:{early.rows[-1].mac}\n{late.number}:{late.mac.upper()}\n")
    assert verified(path, heads).broken is None
    edit(path, "DELETE FROM audit WHERE number > 9")
    # By itself, a chain that was cut is as whole as one that never was longer.
    assert is_whole(path, 9)
    broken = verified(path, heads).broken
    assert broken is not None
    assert (broken.number, "Its end was cut off" in broken.sentence) == (10, True)
    # The head of row 8 shows nothing of what came after it.
    assert verified(path, {8: heads[8]}).broken is None
    # Nor does it help to have the server write on from there.
    async with SqliteStorage.open(path, audit_key=AUDIT_KEY) as storage:
        await storage.commit(Change(audit=tuple(entry(number + 100) for number in range(20))))
    assert is_whole(path, 29)
    broken = verified(path, heads).broken
    assert broken is not None
    assert (broken.number, "rows were cut off there" in broken.sentence) == (ROWS, True)
    edit(path, "DELETE FROM audit")
    broken = verified(path, heads).broken
    assert broken is not None
    assert broken.number == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "12",
        "12:zz",
        "0:" + "0" * 64,
        "-1:" + "0" * 64,
        "12:" + "0" * 62,
        '{"number": 3}',
        "{",
        '{"number": "3", "mac": ""}',
    ],
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="head"):
        heads_from_text(text)


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────


async def add(path: Path, *numbers: int, audit_key: str | None = None) -> None:
    async with SqliteStorage.open(path, audit_key=audit_key) as storage:
        await storage.commit(Change(audit=tuple(entry(number) for number in numbers)))


async def test_without_a_key_one_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    await add(path, 1)
    made = key_file(path).read_text()
    assert key_file(path).stat().st_mode & 0o777 == 0o600
    await add(path, 2)
    assert key_file(path).read_text() == made
    assert is_whole(path, 2, audit_key=None)
    assert [name for name in names_in(tmp_path) if "audit-key" in name] == ["assent.db.audit-key"]


async def test_a_wrong_key_is_no_broken_chain(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    await add(path, 1, audit_key=AUDIT_KEY)
    with pytest.raises(ConfigurationError, match="'2026' is not the one"):
        verified(path, audit_key=key("2026", "b"))
    with pytest.raises(ConfigurationError, match="'2026' is not the one"):
        await add(path, 2, audit_key=key("2026", "b"))
    looked = verified(path, audit_key=key("2027", "b"))
    assert (looked.broken, looked.unchecked) == (None, {"2026": 1})


async def test_a_new_key_takes_over_and_the_old_one_still_verifies(tmp_path: Path) -> None:
    path, new = tmp_path / "assent.db", key("2027", "b")
    await add(path, 1, 2, audit_key=AUDIT_KEY)
    await add(path, 3, audit_key=f"{new},{AUDIT_KEY}")
    await add(path, 4, audit_key=new)
    assert is_whole(path, 4, audit_key=f"{new},{AUDIT_KEY}")
    looked = verified(path, audit_key=new)
    assert (looked.broken, looked.unchecked) == (None, {"2026": 2})
    # Who has only the old key cannot change the old rows either: the new one's cover them.
    edit(path, "UPDATE audit SET mac = randomblob(32) WHERE number = 2")
    broken = verified(path, audit_key=new).broken
    assert broken is not None
    assert broken.number == 3


async def test_a_chain_never_goes_on_with_another_key_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    await add(path, 1, audit_key=AUDIT_KEY)
    with pytest.raises(ConfigurationError, match="signed with the key '2026'"):
        await add(path, 2)
    assert not key_file(path).exists()
    own = tmp_path / "own.db"
    await add(own, 1)
    key_file(own).unlink()
    with pytest.raises(ConfigurationError, match="restore that file"):
        await add(own, 2)
    # With one that was set on purpose it does.
    await add(own, 2, audit_key=AUDIT_KEY)
    looked = verified(own)
    assert (looked.broken, sum(looked.unchecked.values())) == (None, 1)


async def test_a_key_that_was_made_verifies_after_one_was_set(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    await add(path, 1)
    await add(path, 2, audit_key=AUDIT_KEY)
    assert is_whole(path, 2)
    with pytest.raises(ConfigurationError, match="signed with the key '2026'"):
        await add(path, 3)


@pytest.mark.parametrize(
    "held", ["", "nonsense", "2026:short", "\xff", f"{AUDIT_KEY},{key('2027', 'b')}"]
)
async def test_a_spoilt_key_file_is_refused_and_stays(tmp_path: Path, held: str) -> None:
    path = tmp_path / "assent.db"
    key_file(path).write_text(held, encoding="latin-1")
    with pytest.raises(ConfigurationError, match="audit key"):
        await add(path, 1)
    assert key_file(path).read_text(encoding="latin-1") == held


async def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="audit key 'x' has 5 bytes") as raised:
        await add(tmp_path / "assent.db", 1, audit_key="x:aGVsbG8=")
    assert "aGVsbG8" not in str(raised.value)
    assert "aaaa" not in repr(parse_audit_keys(AUDIT_KEY))
    assert names_in(tmp_path) == []


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# ── beside a server ───────────────────────────────────────────────────────────────────────────────


async def test_it_is_verified_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    counts: list[int] = []

    async def grow(storage: Storage) -> None:
        for number in range(60):
            await storage.commit(Change(audit=(entry(number),)))

    async with SqliteStorage.open(path, audit_key=AUDIT_KEY) as storage:
        growing = asyncio.create_task(grow(storage))
        while not growing.done():
            looked = await asyncio.to_thread(verified, path)
            assert looked.broken is None
            counts.append(looked.last.number if looked.last else 0)
        await growing
    assert counts == sorted(counts)
    assert is_whole(path, 60)


def test_a_file_without_a_chain_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no database at"):
        verified(tmp_path / "none.db")
    other = tmp_path / "other.db"
    edit(other, "CREATE TABLE t (x)")
    with pytest.raises(ConfigurationError, match="another program"):
        verified(other)
    (tmp_path / "text.db").write_text("hello" * 1000)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        verified(tmp_path / "text.db")


# ── beside a server ───────────────────────────────────────────────────────────────────────────────


def empty_log(connection: sqlite3.Connection) -> tuple[int, int, int]:
    found: tuple[int, int, int] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return found


async def test_whoever_takes_their_time_reading_holds_nothing_up(tmp_path: Path) -> None:
    """As `assent audit export | less` does."""
    path = tmp_path / "assent.db"
    wal = path.with_name("assent.db-wal")
    count = 3 * PAGE_ROWS
    async with SqliteStorage.open(path, audit_key=AUDIT_KEY) as storage:
        await storage.commit(Change(audit=tuple(entry(number) for number in range(count))))
        with AuditFile.open(path, audit_key=AUDIT_KEY) as file:
            export = file.records()
            shown = [next(export).number for _ in range(PAGE_ROWS + 1)]
            await storage.commit(Change(audit=(entry(0), entry(1))))
            # A snapshot would keep what is in the log from being moved into the database.
            busy, *_ = await storage._writer.outside_transaction(empty_log)
            assert not busy
            assert wal.stat().st_size == 0
            shown += [record.number for record in export]
            # What was added since is for the next export, or a busy server would never let it end.
            assert shown == list(range(1, count + 1))
            assert len(list(file.records(START + timedelta(seconds=count - 2)))) == 2
    assert is_whole(path, count + 2)
