"""The records: one SQLite table, and the statements that read and change it.

A pure function makes each statement, and the same statement is shown to the person and then run.
Every value is a parameter; the names of columns come only from this file.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import aiosqlite

from assent.core.errors import ConfigurationError, InvalidRequest, NotFound, Unavailable
from assent.demo.samples import CATEGORIES, STATUSES, Record, sample_records

APPLICATION_ID = 0x41535243
"""Written into the file's header ("ASRC"), so that another program's database is never taken for
ours."""

COLUMNS = tuple(field.name for field in fields(Record))
Editable = Literal["title", "category", "owner", "year", "status", "amount", "notes"]
Grouping = Literal["year", "category", "status", "owner"]

EDITABLE: tuple[str, ...] = get_args(Editable)
GROUPINGS: tuple[str, ...] = get_args(Grouping)
LIMITS = {"year": (1900, 2100), "amount": (-(10**12), 10**12)}
"""The least and the most of each field that holds a whole number."""

SCHEMA = """
CREATE TABLE records (
    id       INTEGER PRIMARY KEY,
    title    TEXT    NOT NULL,
    category TEXT    NOT NULL,
    owner    TEXT    NOT NULL,
    year     INTEGER NOT NULL,
    status   TEXT    NOT NULL,
    amount   INTEGER NOT NULL,
    notes    TEXT    NOT NULL
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Chooses the records that fit everything given.

    Each word of `text` must occur in the title, the owner or the notes, in any case of letters. The
    years are `from_year` and later, and earlier than `before_year`.
    """

    text: str | None = None
    ids: tuple[int, ...] | None = None
    category: str | None = None
    status: str | None = None
    from_year: int | None = None
    before_year: int | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL, and the values of its question marks."""

    sql: str
    parameters: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The number of records that fit, and the first of them."""

    count: int
    first: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The records that share one value of a column; `amount` is their sum in euros."""

    value: str | int
    records: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One record, before and after a change of one field."""

    before: Record
    after: Record


# ── the statements: pure ──────────────────────────────────────────────────────────────────────────


def where(chosen: Filter) -> Statement:
    """The condition, beginning with `WHERE`; empty for an empty filter."""
    conditions: list[str] = []
    parameters: list[str | int] = []
    for word in (chosen.text or "").split():
        conditions.append("title || ' ' || owner || ' ' || notes LIKE ? ESCAPE '\\'")
        parameters.append(_pattern(word))
    if chosen.ids is not None:
        conditions.append(f"id IN ({', '.join('?' * len(chosen.ids))})")
        parameters += chosen.ids
    for condition, value in (
        ("category = ?", chosen.category),
        ("status = ?", chosen.status),
        ("year >= ?", chosen.from_year),
        ("year < ?", chosen.before_year),
    ):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)

    if not conditions:
        return Statement("")
    return Statement(f"WHERE {' AND '.join(conditions)}", tuple(parameters))


def delete_statement(chosen: Filter) -> Statement:
    """The statement that deletes the chosen records.

    Raises `InvalidRequest` for an empty filter.
    """
    condition = where(chosen)
    if not condition.sql:
        raise InvalidRequest(
            "It is not clear which records to delete: give a year, a category, a status, "
            "a text or ids. Nothing was deleted."
        )
    return Statement(f"DELETE FROM records {condition.sql}", condition.parameters)


def update_statement(record_id: int, field: str, value: str | int) -> Statement:
    """The statement that sets one field of one record.

    Raises `InvalidRequest` if there is no such field, or the value does not fit it.
    """
    if field not in EDITABLE:
        raise InvalidRequest(
            f"A record has no field '{field}' that can be changed. "
            f"It has: {', '.join(EDITABLE)}. Nothing was changed."
        )
    return Statement(
        f"UPDATE records SET {field} = ? WHERE id = ?", (field_value(field, value), record_id)
    )


def field_value(field: str, value: str | int) -> str | int:
    """The value as the column holds it. Raises `InvalidRequest` if it does not fit the field."""
    if field in LIMITS:
        return _number(field, value)

    choices = {"category": CATEGORIES, "status": STATUSES}.get(field)
    if choices is None:
        return str(value)
    choice = str(value).lower()
    if choice not in choices:
        raise InvalidRequest(
            f"The {field} of a record is one of {', '.join(choices)}; '{value}' is not. "
            "Nothing was changed."
        )
    return choice


def _number(field: str, value: str | int) -> int:
    least, most = LIMITS[field]
    try:
        number = int(value)
    except ValueError:
        raise InvalidRequest(
            f"The {field} of a record is a whole number, and '{value}' is not. Nothing was changed."
        ) from None
    if not least <= number <= most:
        raise InvalidRequest(
            f"The {field} of a record is between {least} and {most}, and {number} is not. "
            "Nothing was changed."
        )
    return number


def _pattern(word: str) -> str:
    """A LIKE pattern for a word anywhere, in which `%` and `_` stand for themselves."""
    return "%" + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


# ── the file ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Records:
    """The records in the file at `path`. Open it with `Records.open`.

    Each operation has a connection and a transaction of its own. All raise `Unavailable` if the
    file cannot be used now; then nothing was changed. `lock_seconds` is the time to wait for
    another process that is writing.
    """

    path: Path
    lock_seconds: float = 5.0

    @classmethod
    async def open(
        cls, path: Path, samples: Callable[[], Iterable[Record]] = sample_records
    ) -> Records:
        """Open the records at `path`. If there is no file, it is made with the samples in it.

        Raises `ConfigurationError` if the file is not a records database, or cannot be made.
        """
        path = await asyncio.to_thread(path.absolute)
        records = cls(path)
        await _make_samples(path, samples, records.lock_seconds)
        return records

    async def search(self, chosen: Filter, limit: int = 10) -> Found:
        """Count the records that fit, and return the first `limit` of them by id."""
        async with self._reading() as db:
            return await _find(db, where(chosen), limit)

    async def summarise(self, chosen: Filter, by: str = "category") -> tuple[Group, ...]:
        """Count and sum the records that fit by a column, one of `GROUPINGS`."""
        if by not in GROUPINGS:
            raise InvalidRequest(
                f"Records cannot be grouped by '{by}'. They can be by: {', '.join(GROUPINGS)}."
            )
        condition = where(chosen)
        async with self._reading() as db:
            rows = await db.execute_fetchall(
                f"SELECT {by}, count(*), sum(amount) FROM records {condition.sql} "
                f"GROUP BY {by} ORDER BY {by}",
                condition.parameters,
            )
            return tuple(
                Group(value=value, records=records, amount=amount)
                for value, records, amount in rows
            )

    async def get(self, record_id: int) -> Record:
        """One record. Raises `NotFound` if there is none."""
        async with self._reading() as db:
            return await _get(db, record_id)

    async def update(self, record_id: int, field: str, value: str | int) -> Edit:
        """Set one field of one record.

        Raises `NotFound` if there is no such record, `InvalidRequest` if the value does not fit.
        """
        statement = update_statement(record_id, field, value)
        async with self._writing() as db:
            before = await _get(db, record_id)
            await db.execute(statement.sql, statement.parameters)
            return Edit(before=before, after=await _get(db, record_id))

    async def delete(self, chosen: Filter) -> tuple[int, int]:
        """Delete the chosen records; return the numbers of those deleted and of those left.

        Raises `InvalidRequest` for an empty filter.
        """
        statement = delete_statement(chosen)
        async with self._writing() as db:
            cursor = await db.execute(statement.sql, statement.parameters)
            return cursor.rowcount, await _count(db, Statement(""))

    async def preview_delete(self, chosen: Filter) -> tuple[Statement, Found]:
        """The statement that `delete` would run, and the records it would delete. Changes
        nothing."""
        statement = delete_statement(chosen)
        return statement, await self.search(chosen)

    async def preview_update(
        self, record_id: int, field: str, value: str | int
    ) -> tuple[Statement, Edit]:
        """The statement that `update` would run, and what it would change. Changes nothing."""
        statement = update_statement(record_id, field, value)
        before = await self.get(record_id)
        after = Record(**{**asdict(before), field: statement.parameters[0]})
        return statement, Edit(before=before, after=after)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[aiosqlite.Connection]:
        """A connection that cannot write, in one transaction, so that a count and its records
        agree."""
        async with self._transaction("BEGIN", query_only=True) as db:
            yield db

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._transaction("BEGIN IMMEDIATE", query_only=False) as db:
            yield db

    @asynccontextmanager
    async def _transaction(
        self, begin: str, *, query_only: bool
    ) -> AsyncIterator[aiosqlite.Connection]:
        # Mode rw: a file that has gone since the start is an error, not an empty new database.
        try:
            async with _connect(f"{self.path.as_uri()}?mode=rw", self.lock_seconds) as db:
                await db.execute(f"PRAGMA query_only = {int(query_only)}")
                await db.execute(begin)
                yield db
                await db.commit()
        except sqlite3.Error as error:
            raise Unavailable(
                f"The records in '{self.path.name}' cannot be used now ({error}), "
                "so nothing was changed. Look at the file, then try again."
            ) from error


def _connect(database: str, lock_seconds: float) -> aiosqlite.Connection:
    """A connection in autocommit mode; closing it rolls back what was not committed."""
    return aiosqlite.connect(database, uri=True, timeout=lock_seconds, isolation_level=None)


async def _find(db: aiosqlite.Connection, condition: Statement, limit: int) -> Found:
    rows = await db.execute_fetchall(
        f"SELECT {', '.join(COLUMNS)} FROM records {condition.sql} ORDER BY id LIMIT ?",
        (*condition.parameters, limit),
    )
    return Found(
        count=await _count(db, condition),
        first=tuple(Record(**dict(zip(COLUMNS, row, strict=True))) for row in rows),
    )


async def _count(db: aiosqlite.Connection, condition: Statement) -> int:
    ((count,),) = await db.execute_fetchall(
        f"SELECT count(*) FROM records {condition.sql}", condition.parameters
    )
    return int(count)


async def _get(db: aiosqlite.Connection, record_id: int) -> Record:
    found = await _find(db, where(Filter(ids=(record_id,))), 1)
    if not found.first:
        raise NotFound(
            f"There is no record {record_id}. Search for the right one. Nothing was changed."
        )
    return found.first[0]


async def _make_samples(
    path: Path, samples: Callable[[], Iterable[Record]], lock_seconds: float
) -> None:
    """Make the table and the samples in one transaction, unless they are there.

    Of two first starts at the same time, one makes them.
    """
    try:
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        async with _connect(f"{path.as_uri()}?mode=rwc", lock_seconds) as db:
            await db.execute("BEGIN IMMEDIATE")
            ((application_id,),) = await db.execute_fetchall("PRAGMA application_id")
            if application_id == APPLICATION_ID:
                return
            ((tables,),) = await db.execute_fetchall("SELECT count(*) FROM sqlite_schema")
            if application_id or tables:
                raise ConfigurationError(
                    f"'{path}' is a database of another program. "
                    "Give the demo's records a file of their own."
                )
            await db.execute(SCHEMA)
            await db.executemany(
                f"INSERT INTO records ({', '.join(COLUMNS)}) "
                f"VALUES ({', '.join('?' * len(COLUMNS))})",
                (tuple(asdict(record).values()) for record in samples()),
            )
            await db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            await db.commit()
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"The records database '{path}' cannot be opened or made: {error}. "
            "Give a path in a folder that can be written to."
        ) from error
