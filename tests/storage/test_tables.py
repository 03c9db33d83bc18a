"""Rows as columns and back: the rows that are dataclasses are tested with each storage; these are
msgspec Structs with Structs inside, and properties that have a column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
import orjson
import pytest

from assent.core.errors import Tampered
from assent.core.sealing import Key, KeySeal, NoSeal, Seal
from assent.storage.base import Change, together
from assent.storage.sqlite.tables import Table

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Circle(msgspec.Struct, frozen=True, kw_only=True, tag="circle"):
    radius: float


class Square(msgspec.Struct, frozen=True, kw_only=True, tag="square"):
    side: int
    note: Mapping[str, Any] = {}


class Stroke(msgspec.Struct, frozen=True, kw_only=True):
    at: datetime
    colour: Colour
    shape: Circle | Square
    by: str | None = None


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    drawing_id: str
    thread_id: str
    status: Colour
    made_at: datetime
    first: Stroke
    shape: Circle | Square | None = None
    strokes: tuple[Stroke, ...] = ()
    named: Mapping[str, Stroke] = {}
    metadata: Mapping[str, Any] = {}
    sold: bool = False
    version: int = 1

    @property
    def painters(self) -> tuple[str, ...]:
        return tuple(stroke.by for stroke in self.strokes if stroke.by)

    @property
    def last_at(self) -> datetime | None:
        return self.strokes[-1].at if self.strokes else None


STROKE = Stroke(at=NOON, colour=Colour.RED, shape=Circle(radius=1.5), by="ann")
OTHER = Stroke(at=NOON, colour=Colour.BLUE, shape=Square(side=2, note={"k": [None, "Größe ☃"]}))
DRAWING = Drawing(
    drawing_id="d",
    thread_id="t",
    status=Colour.BLUE,
    made_at=NOON,
    first=STROKE,
    shape=Square(side=3),
    strokes=(STROKE, OTHER),
    named={"one": OTHER},
    metadata={"tags": [1, 2.5, None, True]},
    sold=True,
)
BARE = Drawing(drawing_id="e", thread_id="t", status=Colour.RED, made_at=NOON, first=OTHER)

SEAL = KeySeal([Key("1", bytes(32))])


def table(seal: Seal) -> Table[Any]:
    row_type: Any = Drawing
    content = ["first", "shape", "strokes", "named", "metadata"]
    return Table(
        row_type, "drawings", seal, owned="row", content=content, derived=["painters", "last_at"]
    )


@pytest.mark.parametrize("seal", [NoSeal(), SEAL])
@pytest.mark.parametrize("row", [DRAWING, BARE])
def test_a_struct_comes_back_with_its_types(row: Drawing, seal: Seal) -> None:
    drawings = table(seal)
    found = drawings.decode(drawings.encode(row))
    assert found == row
    assert [type(each.shape) for each in (found.first, *found.strokes)] == [
        type(each.shape) for each in (row.first, *row.strokes)
    ]
    assert found.first.at.tzinfo is not None
    assert isinstance(found.first.colour, Colour)
    assert isinstance(found.strokes, tuple)


def test_a_property_has_a_column_of_its_own_kind() -> None:
    drawings = table(NoSeal())
    columns = dict(zip(drawings.columns, drawings.encode(DRAWING), strict=True))
    assert drawings.columns[-2:] == ("painters", "last_at")
    assert columns["painters"] == '["ann"]'
    assert columns["last_at"] == "2026-01-02T12:00:00.123456Z"
    assert columns["sold"] == 1
    assert orjson.loads(columns["shape"]) == {"type": "square", "side": 3, "note": {}}
    assert drawings.encode(BARE)[-2:] == ("[]", None)


@pytest.mark.parametrize(
    ("column", "value"),
    [("painters", '["eve"]'), ("last_at", None), ("status", "red"), ("first", b"other")],
)
def test_no_column_of_a_sealed_struct_can_be_changed(column: str, value: object) -> None:
    drawings = table(SEAL)
    columns: list[Any] = list(drawings.encode(DRAWING))
    assert b"ann" not in columns[drawings.columns.index("first")]
    columns[drawings.columns.index(column)] = value
    with pytest.raises(Tampered):
        drawings.decode(columns)


def test_a_sealed_row_opens_after_a_migration_has_added_a_column() -> None:
    before = table(SEAL)
    stored = dict(zip(before.columns, before.encode(DRAWING), strict=True))
    fields = [("bought_by", str | None, None)]
    later: Any = msgspec.defstruct("Drawing", fields, bases=(Drawing,), frozen=True, kw_only=True)
    content = ["first", "shape", "strokes", "named", "metadata"]
    after: Table[Any] = Table(
        later, "drawings", SEAL, owned="row", content=content, derived=["painters", "last_at"]
    )
    columns = [stored.get(name) for name in after.columns]
    found = after.decode(columns)
    assert (found.metadata, found.bought_by) == (DRAWING.metadata, None)
    columns[after.columns.index("bought_by")] = "eve"
    with pytest.raises(Tampered):
        after.decode(columns)


@pytest.mark.parametrize("value", ["not JSON", '{"no": "stroke"}', "[]", "7"])
def test_a_value_that_is_none_of_its_kind_is_no_row(value: str) -> None:
    drawings = table(NoSeal())
    columns: list[Any] = list(drawings.encode(DRAWING))
    columns[drawings.columns.index("first")] = value
    with pytest.raises(Tampered, match="the drawing 'd'"):
        drawings.decode(columns)


def test_changes_of_structs_are_put_together() -> None:
    row: Any = DRAWING
    change = together(Change(rows=(row,)), Change(unchanged=(row,)))
    assert change == Change(rows=(row,))
