"""Rows and columns: one codec between the frozen dataclasses of `contracts` and their tables.

A table has one column per field, named alike; the first field is its key. Enums are stored by
value, times as text that sorts, whatever has a structure as JSON, and None as NULL.

With encryption, what a row holds (`CONTENT`) is sealed, bound to all else in the row: no column of
it can be changed unnoticed, nor a value taken over from another row or from an older version of the
same. What is asked for by its value stays readable.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import orjson

from assent.core.clock import time_text
from assent.core.rows import (
    Answer,
    Approval,
    Effect,
    Link,
    Notification,
    Row,
    Run,
    Schedule,
    StandingGrant,
    Thread,
    Timer,
)
from assent.core.sealing import Seal, tampered

R = TypeVar("R", bound=Row)

Column = str | int | bytes | None
"""A value as SQLite stores it."""

CONTENT: Mapping[type, frozenset[str]] = {
    Thread: frozenset({"metadata"}),
    Run: frozenset({"input", "error", "metadata"}),
    Approval: frozenset(
        {
            "args",
            "schema",
            "preview",
            "decision",
            "policy",
            "edit",
            "votes",
            "delegations",
            "comments",
            "shown",
        }
    ),
    StandingGrant: frozenset({"bounds"}),
    Answer: frozenset({"body"}),
    Effect: frozenset({"outcome"}),
    Timer: frozenset({"payload"}),
    Schedule: frozenset({"input", "metadata"}),
    Notification: frozenset({"payload"}),
    # Nothing secret. It is what binds the rest of the row.
    Link: frozenset({"decisions"}),
}
"""The columns that are sealed."""

LATER: Mapping[type, frozenset[str]] = {
    Approval: frozenset(
        {
            "requested_by",
            "risk",
            "roles",
            "names",
            "assignees",
            "step",
            "step_at",
            "reminded_at",
            "policy_digest",
        }
        | {"schema", "policy", "edit", "votes", "delegations", "comments", "shown"}
    ),
    Run: frozenset(
        {
            "priority",
            "due_at",
            "worker",
            "cancel",
            "at_checkpoint",
            "stuck",
            "budget",
            "usage",
            "schedule_id",
        }
    ),
    Schedule: frozenset({"last_error", "budget"}),
}
"""Columns that a table was given after rows had been sealed. They are bound too, but not as long as
they hold what those were given.

Of content, what those were given is not sealed. It is taken for that only in a row all of whose
other later columns hold it too: since those are bound once they hold something else, no newer row
can be made to look like such a one.
"""


def json_text(value: Any) -> str:
    """The value as JSON."""
    return orjson.dumps(value, default=_plain).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"A {type(value).__name__} cannot be stored as JSON.")


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of field is stored."""

    encode: Callable[[Any], Column]
    decode: Callable[[Any], Any]


def _as_is(value: Any) -> Any:
    return value


def _kind(hint: Any) -> Kind:
    """The kind of a field, from its annotation."""
    hint = _without_none(hint)
    if hint is str or hint is int:
        return Kind(_as_is, _as_is)
    if hint is bool:
        return Kind(int, bool)
    if hint is datetime:
        return Kind(time_text, datetime.fromisoformat)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return Kind(lambda member: str(member.value), hint)
    if get_origin(hint) is tuple:
        return Kind(json_text, lambda text: tuple(orjson.loads(text)))
    return Kind(json_text, orjson.loads)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not types.NoneType)
    return hint


class Table(Generic[R]):
    """One table: its statements, and its rows in both directions."""

    def __init__(self, row_type: type[R], name: str, seal: Seal) -> None:
        hints = get_type_hints(row_type)
        self.row_type = row_type
        self._make: Callable[..., R] = row_type
        self.name = name
        self.columns = tuple(field.name for field in fields(row_type))
        self.key = self.columns[0]
        self._kinds = tuple(_kind(hints[column]) for column in self.columns)
        self._values = attrgetter(*self.columns)
        self.key_of: Callable[[R], str] = attrgetter(self.key)
        self._seal = seal
        self._content = tuple(column in CONTENT[row_type] for column in self.columns)
        self._thread_at = self.columns.index("thread_id")
        later = LATER.get(row_type, frozenset())
        self._later = {
            at: None if (default := _default(field)) is None else kind.encode(default)
            for at, (field, kind) in enumerate(zip(fields(row_type), self._kinds, strict=True))
            if field.name in later
        }
        self._later_clear = {
            at: default for at, default in self._later.items() if not self._content[at]
        }

        names = ", ".join(f'"{column}"' for column in self.columns)
        marks = ", ".join("?" * len(self.columns))
        sets = ", ".join(f'"{column}" = ?' for column in self.columns)
        self.select = f"SELECT {names} FROM {name}"
        self.insert = (
            f'INSERT INTO {name} ({names}) VALUES ({marks}) ON CONFLICT ("{self.key}") DO NOTHING'
        )
        self.update = f'UPDATE {name} SET {sets} WHERE "{self.key}" = ? AND version = ?'
        self.delete = f'DELETE FROM {name} WHERE "{self.key}" = ? AND version = ?'
        self.version = f'SELECT version FROM {name} WHERE "{self.key}" = ?'

    def encode(self, row: R) -> tuple[Column, ...]:
        """The row's columns. Raises `TypeError` or `ValueError` if a value cannot be stored."""
        values = zip(self._kinds, self._values(row), strict=True)
        columns = tuple(None if value is None else kind.encode(value) for kind, value in values)
        return self._sealed(columns) if self._seal.is_on else columns

    def decode(self, columns: Sequence[Column]) -> R:
        """The row of these columns. Raises `Tampered` if they are sealed, and not those of one row
        as it was stored."""
        return self._row(self._opened(columns) if self._seal.is_on else columns)

    def without_content(self, columns: Sequence[Column]) -> R:
        """The row of columns that were tampered with, as if it held nothing. Raises `ValueError` if
        they are no row at all."""
        return self._row(
            [
                "{}" if sealed else column
                for column, sealed in zip(columns, self._content, strict=True)
            ]
        )

    def _row(self, columns: Sequence[Column]) -> R:
        values = zip(self.columns, self._kinds, columns, strict=True)
        return self._make(
            **{name: None if value is None else kind.decode(value) for name, kind, value in values}
        )

    def _sealed(self, columns: Sequence[Column]) -> tuple[Column, ...]:
        thread_id, kind, key, clear = self._place(columns)
        return tuple(
            # Nothing is sealed too, or a value could be taken away.
            self._seal.seal(
                _NULL if column is None else str(column).encode(), thread_id, kind, key, name, clear
            )
            if sealed
            else column
            for name, column, sealed in zip(self.columns, columns, self._content, strict=True)
        )

    def _opened(self, columns: Sequence[Column]) -> list[Column]:
        thread_id, kind, key, clear = self._place(columns)
        is_old = all(columns[at] == default for at, default in self._later_clear.items())
        return [
            self._seal.open(column, thread_id, kind, key, name, clear)
            if sealed and not (is_old and at in self._later and column == self._later[at])
            else column
            for at, (name, column, sealed) in enumerate(
                zip(self.columns, columns, self._content, strict=True)
            )
        ]

    def _place(self, columns: Sequence[Column]) -> tuple[str, str, str, str]:
        """What the row's values are bound to: its thread, its kind, its key, and every column that
        is not sealed."""
        thread_id, kind, key = (
            str(columns[self._thread_at]),
            self.row_type.__name__.lower(),
            str(columns[0]),
        )
        clear: list[Any] = [
            column
            for at, (column, sealed) in enumerate(zip(columns, self._content, strict=True))
            if not sealed and at not in self._later
        ]
        if later := {
            self.columns[at]: columns[at]
            for at, default in self._later_clear.items()
            if columns[at] != default
        }:
            clear.append(later)
        try:
            return thread_id, kind, key, orjson.dumps(clear).decode()
        except TypeError:
            # Bytes, or a number that is none, in a column where Assent stores no such thing.
            raise tampered(thread_id, kind, key) from None


_NULL = b"null"


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


class Tables:
    """All of them."""

    def __init__(self, seal: Seal) -> None:
        self.threads = Table(Thread, "threads", seal)
        self.runs = Table(Run, "runs", seal)
        self.approvals = Table(Approval, "approvals", seal)
        self.grants = Table(StandingGrant, "grants", seal)
        self.answers = Table(Answer, "answers", seal)
        self.effects = Table(Effect, "effects", seal)
        self.timers = Table(Timer, "timers", seal)
        self.schedules = Table(Schedule, "schedules", seal)
        self.notifications = Table(Notification, "notifications", seal)
        self.links = Table(Link, "links", seal)
        every: tuple[Table[Any], ...] = (
            *(self.threads, self.runs, self.approvals, self.grants, self.answers, self.effects),
            *(self.timers, self.schedules, self.notifications, self.links),
        )
        self._by_type: dict[type, Table[Any]] = {table.row_type: table for table in every}

    def __iter__(self) -> Iterator[Table[Any]]:
        return iter(self._by_type.values())

    def of(self, row: Row) -> Table[Any]:
        """The table a row belongs to."""
        return self._by_type[type(row)]
