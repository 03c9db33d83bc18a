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
from typing import (
    Any,
    Generic,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
import orjson

from assent.core.access import Sight
from assent.core.approval import Approval
from assent.core.clock import time_text
from assent.core.grant import Grant
from assent.core.rows import (
    Answer,
    ApiKey,
    Assistant,
    AssistantVersion,
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


def unerased(table: str) -> str:
    """The table to read, under its own name: without the rows of threads that were erased."""
    return f"(SELECT * FROM {table} WHERE {IS_VISIBLE}) AS {table}"


Owned = Literal["row", "run", "approval", "thread", "grant", "tenant", "person", "nobody"]
"""The way in which the rows of a table belong to somebody: each has its `tenant` and `owner`, as a
`row`, a `run` and an `approval` have, of which the latter two are shown to the owner of their
thread as well; they are their `thread`'s; a `grant` is its giver's and its user's; they belong to a
`tenant` as a whole, to a `person`, or to `nobody` who could ask for them."""


class Seen(NamedTuple):
    """A table to read, under its own name, with the parameters of its conditions."""

    sql: str
    parameters: tuple[Column, ...]


def visible(table: Table[Any], sight: Sight, *, few: bool = False) -> Seen:
    """The table to read with this sight. Where the `few` rows are sought that have a key, or belong
    to one thing, they are found by that, and not by whose they are."""
    if sight.reach == "everything":
        return Seen(unerased(table.name), ())
    condition, parameters = _condition(table.name, table.owned, sight, few)
    sql = f"(SELECT * FROM {table.name} WHERE {IS_VISIBLE} AND {condition}) AS {table.name}"
    return Seen(sql, parameters)


def _condition(name: str, owned: Owned, sight: Sight, few: bool) -> Seen:
    """The condition on the rows of the table that the sight shows."""
    owner = sight.owner
    own = (owner.tenant, owner.name)
    plus = "+" if few else ""
    in_tenant = f"{plus}tenant IS ?"
    if sight.reach == "nothing" or owned == "nobody":
        return Seen("false", ())
    if owned == "thread":
        is_own = " AND own.owner = ?" if sight.reach == "own" else ""
        return Seen(f"{_thread_of(name)}{is_own})", own[: 1 + bool(is_own)])
    if sight.reach == "tenant" or (owned == "grant" and sight.approves.anything):
        return Seen(in_tenant, own[:1])
    match owned:
        case "tenant":
            return Seen("false", ())
        case "grant":
            return Seen(f'{in_tenant} AND (given_by = ? OR "user" = ?)', (*own, owner.name))
        case "person":
            return Seen(f"{in_tenant} AND {plus}person = ?", own)
        case "row":
            return Seen(f"{in_tenant} AND {plus}owner = ?", own)
    others: list[Seen] = []
    if owned == "approval" and sight.approves.anything:
        others.append(_may_decide(sight))
    if few:
        others.append(Seen(f"{_thread_of(name)} AND own.owner = ?)", own))
    if not others:
        return Seen(f"{in_tenant} AND owner = ?", own)
    either = " OR ".join(["+owner = ?", *(sql for sql, _ in others)])
    return Seen(f"{in_tenant} AND ({either})", sum((each for _, each in others), own))


def _thread_of(name: str) -> str:
    """The beginning of the condition that the thread of a row is one of a tenant."""
    return (
        f"EXISTS (SELECT 1 FROM threads AS own WHERE own.thread_id = {name}.thread_id "
        "AND own.tenant IS ?"
    )


def _may_decide(sight: Sight) -> Seen:
    """The condition on an approval that `Sight.shows` has beside its owner."""
    roles = f"SELECT value FROM json_each({_LIST.format('roles')})"
    named = " UNION ALL ".join(
        f"SELECT value FROM json_each({_LIST.format(each)})" for each in ("names", "assignees")
    )
    given = "SELECT value FROM json_each(?)"
    takes = f"? OR tool IN ({given}) OR EXISTS ({roles} WHERE value IN ({given}))"
    asked = (
        "asks_anybody OR roles = '[]' AND names = '[]' "
        f"OR EXISTS ({roles} WHERE value IN ({given})) OR ? IN ({named})"
    )
    approves = sight.approves
    parameters: tuple[Column, ...] = (
        approves.everything,
        json_text(sorted(approves.tools)),
        json_text(sorted(approves.roles)),
        json_text(sight.roles),
        sight.owner.name,
    )
    return Seen(f"({takes}) AND ({asked})", parameters)


_LIST = "iif(json_valid({0}), {0}, '[]')"
"""A column with a JSON list. What another program has put there instead is an empty one."""


class Tables:
    """Every table of rows, with the columns of each that are content."""

    def __init__(self, seal: Seal) -> None:
        def table(row_type: type[R], name: str, owned: Owned, **options: Any) -> Table[R]:
            return Table(row_type, name, seal, owned=owned, **options)

        self.threads = table(Thread, "threads", "row", content=["metadata"])
        run_content = ["input", "error", "metadata"]
        self.runs = table(Run, "runs", "run", content=run_content, numbered=True)
        self.approvals = table(
            Approval,
            "approvals",
            "approval",
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
        self.grants = table(Grant, "grants", "grant", content=["bounds"])
        self.answers = table(Answer, "answers", "row", content=["outcome"])
        self.effects = table(Effect, "effects", "thread", content=["outcome"], numbered=True)
        self.timers = table(Timer, "timers", "nobody", content=["payload"])
        self.schedules = table(Schedule, "schedules", "row", content=["input", "metadata"])
        of_assistant = ["name", "description", "config", "context", "metadata"]
        self.assistants = table(Assistant, "assistants", "row", content=of_assistant)
        self.assistant_versions = table(
            AssistantVersion, "assistant_versions", "row", content=of_assistant
        )
        self.notifications = table(Notification, "notifications", "tenant", content=["payload"])
        # The decisions are no secret. Sealing them is what binds the rest of the row.
        self.links = table(Link, "links", "thread", content=["decisions"])
        self.files = table(File, "files", "row", content=["name"])
        self.file_uses = table(FileUse, "file_uses", "thread", content=["purpose"])
        self.keys = table(ApiKey, "api_keys", "person", content=["note"])
        # These know of nothing that is a secret. Sealing one value is what binds the rest.
        self.sessions = table(Session, "sessions", "person", content=["known_to"])
        self.tickets = table(Ticket, "tickets", "nobody", content=["known_to"])

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

    A row is a dataclass or a msgspec Struct whose first field is its key. `owned` says whose the
    rows are. `content` names the
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
        owned: Owned,
        content: Collection[str],
        derived: Collection[str] = (),
        numbered: bool = False,
    ) -> None:
        # mypy takes a class whose instances have no hash for one that has none itself.
        kinds = _kinds(row_type, tuple(derived))  # type: ignore[arg-type]

        self.row_type = row_type
        self.name = name
        self.owned = owned
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
        self.select = f"SELECT {selected} FROM {unerased(name)}"
        self.read = selected
        self.insert = (
            f'INSERT INTO {name} ({names}) VALUES ({marks}) ON CONFLICT ("{self.key}") DO NOTHING'
        )
        self.update = f"UPDATE {name} SET {sets} {same_version}"
        self.delete = f"DELETE FROM {name} {same_version}"
        self.version = f'SELECT version FROM {name} WHERE "{self.key}" = ?'

    @property
    def is_sealed(self) -> bool:
        """True if content of its rows is sealed, and so bound to whose they are."""
        return self._seal.is_on and bool(self._sealed_at)

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
