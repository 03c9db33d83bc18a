"""The tables of rows: their columns, their statements, and the way from a row to columns and back.

A column is a field of the row, or a property of it that is stored only to be searched for. Times
are RFC 3339 texts in UTC with six decimals, so that text order is time order; enums are their
values, and anything that is not a scalar is JSON.

With encryption at rest, the content of a row is sealed, bound to every other column: none of them
can be changed unnoticed, nor a value be taken over from another row or from an older version of the
same. Whatever is searched for by its value stays readable.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import orjson

from assent.core.approval import Approval
from assent.core.clock import time_text
from assent.core.grant import Grant
from assent.core.rows import (
    Answer,
    ApiKey,
    Effect,
    File,
    FileUse,
    Link,
    Notification,
    Row,
    Run,
    Schedule,
    Session,
    Thread,
    Ticket,
    Timer,
)
from assent.core.sealing import Seal, tampered

R = TypeVar("R", bound=Row)

Column = str | int | bytes | None
"""A value as SQLite stores it."""

_NULL = b"null"


IS_VISIBLE = "thread_id NOT IN (SELECT thread_id FROM erased_rows)"
"""The condition on a row of a thread: the rows of erased ones are removed from the file in
steps."""


def visible(table: str) -> str:
    """The table to read, under its own name: without the rows of threads that were erased."""
    return f"(SELECT * FROM {table} WHERE {IS_VISIBLE}) AS {table}"


class Tables:
    """Every table of rows, with the columns of each that are content."""

    def __init__(self, seal: Seal) -> None:
        self.threads = Table(Thread, "threads", seal, content=["metadata"])
        self.runs = Table(Run, "runs", seal, content=["input", "error", "metadata"], numbered=True)
        self.approvals = Table(
            Approval,
            "approvals",
            seal,
            content=[
                "args",
                "schema",
                "preview",
                "decision",
                "policy",
                "edit",
                "votes",
                "delegations",
                "comments",
                "conversation",
            ],
            derived=["risk", "roles", "names", "assignees", "policy_digest", "asks_anybody"],
        )
        self.grants = Table(Grant, "grants", seal, content=["bounds"])
        self.answers = Table(Answer, "answers", seal, content=["outcome"])
        self.effects = Table(Effect, "effects", seal, content=["outcome"], numbered=True)
        self.timers = Table(Timer, "timers", seal, content=["payload"])
        self.schedules = Table(Schedule, "schedules", seal, content=["input", "metadata"])
        self.notifications = Table(Notification, "notifications", seal, content=["payload"])
        # The decisions are no secret. Sealing them is what binds the rest of the row.
        self.links = Table(Link, "links", seal, content=["decisions"])
        self.files = Table(File, "files", seal, content=["name"])
        self.file_uses = Table(FileUse, "file_uses", seal, content=["purpose"])
        self.keys = Table(ApiKey, "api_keys", seal, content=["note"])
        # These know of nothing that is a secret. Sealing one value is what binds the rest.
        self.sessions = Table(Session, "sessions", seal, content=["known_to"])
        self.tickets = Table(Ticket, "tickets", seal, content=["known_to"])

        self._by_type: dict[type, Table[Any]] = {
            table.row_type: table for table in vars(self).values()
        }

    def __iter__(self) -> Iterator[Table[Any]]:
        return iter(self._by_type.values())

    def of(self, row: Row) -> Table[Any]:
        """The table that the row belongs to."""
        return self._by_type[type(row)]


class Table(Generic[R]):
    """One table: its statements, and its rows in both directions.

    A row is a dataclass or a msgspec Struct whose first field is its key. `content` names the
    fields that are sealed, and `derived` the row's properties that have a column each: these are
    written, but not read back. If it is `numbered`, SQLite numbers the rows in the order in which
    they are inserted; a row does not know its number.
    """

    def __init__(
        self,
        row_type: type[R],
        name: str,
        seal: Seal,
        *,
        content: Collection[str],
        derived: Collection[str] = (),
        numbered: bool = False,
    ) -> None:
        # mypy takes a class whose instances have no hash for one that has none itself.
        kinds = _kinds(row_type, tuple(derived))  # type: ignore[arg-type]

        self.row_type = row_type
        self.name = name
        self.columns = tuple(kinds)
        self.selected = (*self.columns, "number") if numbered else self.columns
        self.key = self.columns[0]
        self.key_of: Callable[[R], str] = attrgetter(self.key)
        self._make: Callable[..., R] = row_type
        self._values = attrgetter(*self.columns)
        self._fields = self.columns[: len(kinds) - len(derived)]
        # As JSON a text is never taken for NULL, nor its bytes for a text, once it is opened.
        self._kinds = tuple(
            JSON if name in content and kind is PLAIN else kind for name, kind in kinds.items()
        )
        self._seal = seal
        self._sealed_at = [self.columns.index(column) for column in content]
        self._clear_at = [at for at in range(len(self.columns)) if at not in self._sealed_at]
        self._thread_at = self.columns.index("thread_id")

        names = ", ".join(f'"{column}"' for column in self.columns)
        marks = ", ".join("?" * len(self.columns))
        sets = ", ".join(f'"{column}" = ?' for column in self.columns)
        same_version = f'WHERE "{self.key}" = ? AND version = ?'
        selected = ", ".join(f'"{column}"' for column in self.selected)
        self.select = f"SELECT {selected} FROM {visible(name)}"
        self.insert = (
            f'INSERT INTO {name} ({names}) VALUES ({marks}) ON CONFLICT ("{self.key}") DO NOTHING'
        )
        self.update = f"UPDATE {name} SET {sets} {same_version}"
        self.delete = f"DELETE FROM {name} {same_version}"
        self.version = f'SELECT version FROM {name} WHERE "{self.key}" = ?'

    def encode(self, row: R) -> tuple[Column, ...]:
        """The row's columns. Raises `TypeError` or `ValueError` if a value cannot be stored."""
        values = zip(self._kinds, self._values(row), strict=True)
        columns = tuple(None if value is None else kind.encode(value) for kind, value in values)
        return self._sealed(columns) if self._seal.is_on else columns

    def decode(self, columns: Sequence[Column]) -> R:
        """The row of these columns. Raises `Tampered` if they are sealed, and not those of one row
        as it was stored, or if they are no row at all."""
        opened = self._opened(columns) if self._seal.is_on else columns
        try:
            return self._row(opened)
        except (ValueError, TypeError, msgspec.MsgspecError):
            thread_id = str(columns[self._thread_at])
            raise tampered(thread_id, self.row_type.__name__.lower(), str(columns[0])) from None

    def without_content(self, columns: Sequence[Column]) -> R:
        """The row of columns that were tampered with, as if its content were empty. Raises
        `ValueError` if even that is not possible."""
        emptied = list(columns)
        for at in self._sealed_at:
            emptied[at] = "{}"
        return self._row(emptied)

    def _row(self, columns: Sequence[Column]) -> R:
        # The derived columns and the number stand behind the fields, and are left out here.
        values = zip(self._fields, self._kinds, columns, strict=False)
        return self._make(
            **{name: None if value is None else kind.decode(value) for name, kind, value in values}
        )

    def _sealed(self, columns: Sequence[Column]) -> tuple[Column, ...]:
        thread_id, kind, key, clear = self._place(columns)
        sealed = list(columns)
        for at in self._sealed_at:
            # NULL is sealed too, or a value could be taken away.
            data = _NULL if columns[at] is None else str(columns[at]).encode()
            sealed[at] = self._seal.seal(data, thread_id, kind, key, self.columns[at], clear)
        return tuple(sealed)

    def _opened(self, columns: Sequence[Column]) -> list[Column]:
        thread_id, kind, key, clear = self._place(columns)
        opened = list(columns)
        for at in self._sealed_at:
            data = self._seal.open(columns[at], thread_id, kind, key, self.columns[at], clear)
            opened[at] = None if data == _NULL else data
        return opened

    def _place(self, columns: Sequence[Column]) -> tuple[str, str, str, str]:
        """The thread, the kind, the key and the clear columns of a row: its content is bound to
        them. NULLs are left out, so that a column that a later migration adds leaves rows bound as
        they were."""
        thread_id = str(columns[self._thread_at])
        kind = self.row_type.__name__.lower()
        key = str(columns[0])
        clear = {self.columns[at]: columns[at] for at in self._clear_at if columns[at] is not None}
        try:
            return thread_id, kind, key, orjson.dumps(clear).decode()
        except TypeError:
            # Bytes, or a number outside of JSON, in a column where Assent stores no such thing.
            raise tampered(thread_id, kind, key) from None


# ── values ──


def json_text(value: Any) -> str:
    """The value as JSON."""
    return orjson.dumps(value, default=_plain).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, enc_hook=_plain)
    raise TypeError(f"A {type(value).__name__} cannot be stored as JSON.")


@dataclass(frozen=True, slots=True)
class Kind:
    """The way in which one kind of field is stored."""

    encode: Callable[[Any], Column]
    decode: Callable[[Any], Any]


def _as_is(value: Any) -> Any:
    return value


PLAIN = Kind(_as_is, _as_is)
JSON = Kind(json_text, orjson.loads)


@cache
def _kinds(row_type: type, derived: tuple[str, ...]) -> dict[str, Kind]:
    """The kind of each field, and of each property that has a column.

    Remembered, since to read annotations takes as long as the rest of opening a storage.
    """
    hints = get_type_hints(row_type)
    for name in derived:
        hints[name] = get_type_hints(getattr(row_type, name).fget)["return"]
    return {name: _kind(hint) for name, hint in hints.items()}


def _kind(hint: Any) -> Kind:
    """The kind of a field, from its annotation. None is stored as NULL, whatever the kind."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = Union[tuple(each for each in get_args(hint) if each is not types.NoneType)]  # noqa: UP007
    if hint is str or hint is int:
        return PLAIN
    if hint is bool:
        return Kind(int, bool)
    if hint is datetime:
        return Kind(time_text, datetime.fromisoformat)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return Kind(lambda member: str(member.value), hint)
    if _holds_struct(hint):
        return Kind(json_text, msgspec.json.Decoder(hint).decode)
    if get_origin(hint) is tuple:
        return Kind(json_text, lambda text: tuple(orjson.loads(text)))
    return JSON


def _holds_struct(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return True
    return any(_holds_struct(each) for each in get_args(hint))
