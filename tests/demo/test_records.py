from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from assent.core.errors import ConfigurationError, InvalidRequest, NotFound, Unavailable
from assent.demo.records import Filter, Records, delete_statement, update_statement, where
from assent.demo.samples import CATEGORIES, SAMPLE_COUNT, STATUSES, sample_records
from tests.demo.conftest import Sql
from tests.support.waiting import PATIENCE


async def test_the_first_start_makes_the_samples_and_a_later_one_keeps_what_is_left(
    records: Records, sql: Sql
) -> None:
    assert sql("SELECT count(*), count(DISTINCT id) FROM records") == [(SAMPLE_COUNT, SAMPLE_COUNT)]
    await records.delete(Filter(category="invoice"))
    left = sql("SELECT * FROM records")
    await Records.open(records.path)
    assert sql("SELECT * FROM records") == left


async def test_an_emptied_database_is_not_filled_again(records: Records, sql: Sql) -> None:
    await records.delete(Filter(from_year=1900))
    await Records.open(records.path)
    assert sql("SELECT count(*) FROM records") == [(0,)]


async def test_the_samples_are_the_same_in_every_database(
    records: Records, sql: Sql, tmp_path: Path
) -> None:
    other = await Records.open(tmp_path / "a folder" / "50% more.db")
    assert (await other.search(Filter(), SAMPLE_COUNT)) == (
        await records.search(Filter(), SAMPLE_COUNT)
    )
    assert [tuple(asdict(record).values()) for record in sample_records()] == sql(
        "SELECT * FROM records ORDER BY id"
    )


def test_the_samples_have_every_year_category_and_status() -> None:
    samples = list(sample_records())
    assert {record.year for record in samples} == set(range(2005, 2027))
    assert {record.category for record in samples} == set(CATEGORIES)
    assert {record.status for record in samples} == set(STATUSES)


async def test_of_many_first_starts_at_once_one_makes_the_samples(tmp_path: Path, sql: Sql) -> None:
    await asyncio.gather(*(Records.open(tmp_path / "records.db") for _ in range(8)))
    assert sql("SELECT count(*) FROM records") == [(SAMPLE_COUNT,)]


KILLED_HALF_WAY = """
import asyncio, sys, time
from pathlib import Path
from assent.demo.records import Records
from assent.demo.samples import sample_records

def slow():
    for record in sample_records():
        if record.id == 2000:
            print("half-way", flush=True)
            time.sleep(60)
        yield record

asyncio.run(Records.open(Path(sys.argv[1]), slow))
"""


def test_a_first_start_that_is_killed_half_way_leaves_nothing_half_made(
    tmp_path: Path, sql: Sql
) -> None:
    path = tmp_path / "records.db"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_HALF_WAY, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half-way\n"
        os.kill(process.pid, signal.SIGKILL)
    assert sql("SELECT count(*) FROM sqlite_schema") == [(0,)]
    asyncio.run(Records.open(path))
    assert sql("SELECT count(*) FROM records") == [(SAMPLE_COUNT,)]


async def test_another_programs_file_is_left_alone(tmp_path: Path, sql: Sql) -> None:
    sql("CREATE TABLE books (title)")
    with pytest.raises(ConfigurationError, match="another program"):
        await Records.open(tmp_path / "records.db")
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam, this is not a database at all. " * 20)
    with pytest.raises(ConfigurationError, match="cannot be opened or made"):
        await Records.open(tmp_path / "letter.txt")
    assert sql("SELECT name FROM sqlite_schema") == [("books",)]


FILTERS = [
    (Filter(), "1"),
    (Filter(before_year=2015), "year < 2015"),
    (Filter(from_year=2015), "year >= 2015"),
    (
        Filter(from_year=2010, before_year=2012, category="contract"),
        "year IN (2010, 2011) AND category = 'contract'",
    ),
    (Filter(status="archived", category="invoice"), "status = 'archived' AND category = 'invoice'"),
    (Filter(ids=(3, 17, 99999)), "id IN (3, 17)"),
    (Filter(text="MILLER"), "owner = 'Miller'"),
    (Filter(text="miller roof repair"), "owner = 'Miller' AND title LIKE '%roof repair'"),
    (Filter(text="berlin"), "notes LIKE '%Berlin%'"),
    (Filter(text="%"), "0"),
    (Filter(text="_"), "0"),
    (Filter(text="\\"), "0"),
    (Filter(text="' OR 1=1 --"), "0"),
    (Filter(category="' OR 1=1 --"), "0"),
    (Filter(ids=()), "0"),
]


@pytest.mark.parametrize(("chosen", "condition"), FILTERS, ids=str)
async def test_searches_summaries_and_deletions_count_what_plain_sql_counts(
    records: Records, sql: Sql, chosen: Filter, condition: str
) -> None:
    expected = sql(f"SELECT * FROM records WHERE {condition} ORDER BY id")
    found = await records.search(chosen, 7)
    assert found.count == len(expected)
    assert [tuple(asdict(record).values()) for record in found.first] == expected[:7]

    for by in ("year", "category", "status", "owner"):
        groups = await records.summarise(chosen, by)
        assert [(group.value, group.records, group.amount) for group in groups] == sql(
            f"SELECT {by}, count(*), sum(amount) FROM records WHERE {condition} GROUP BY {by} ORDER BY {by}"
        )

    if chosen == Filter():
        return
    untouched = sql(f"SELECT * FROM records WHERE NOT ({condition}) ORDER BY id")
    assert await records.delete(chosen) == (len(expected), len(untouched))
    assert sql("SELECT * FROM records ORDER BY id") == untouched


@pytest.mark.parametrize("chosen", [Filter(), Filter(text=""), Filter(text=" \n ")])
async def test_a_deletion_needs_a_filter(records: Records, sql: Sql, chosen: Filter) -> None:
    with pytest.raises(InvalidRequest, match="which records to delete"):
        await records.delete(chosen)
    assert sql("SELECT count(*) FROM records") == [(SAMPLE_COUNT,)]


async def test_each_of_many_deletions_at_once_knows_what_it_left(records: Records) -> None:
    results = await asyncio.gather(
        *(records.delete(Filter(ids=(number,))) for number in range(1, 21))
    )
    assert sorted(results) == [(1, SAMPLE_COUNT - number) for number in range(20, 0, -1)]


def test_statements_hold_every_value_as_a_parameter() -> None:
    assert where(Filter()).sql == ""
    assert delete_statement(Filter(before_year=2015)) == delete_statement(Filter(before_year=2015))
    statement = delete_statement(
        Filter(text="a_b", ids=(1, 2), category="x", status="y", from_year=1, before_year=3)
    )
    assert statement.sql == (
        "DELETE FROM records WHERE title || ' ' || owner || ' ' || notes LIKE ? ESCAPE '\\' AND id IN (?, ?) "
        "AND category = ? AND status = ? AND year >= ? AND year < ?"
    )
    assert statement.parameters == ("%a\\_b%", 1, 2, "x", "y", 1, 3)
    assert update_statement(17, "title", "x").sql == "UPDATE records SET title = ? WHERE id = ?"


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("title", "Robert'); DROP TABLE records;--", "Robert'); DROP TABLE records;--"),
        ("status", "Archived", "archived"),
        ("category", "report", "report"),
        ("amount", "1200", 1200),
        ("year", 2012, 2012),
        ("notes", "", ""),
    ],
)
async def test_an_update_changes_one_field_of_one_record(
    records: Records, sql: Sql, field: str, value: str | int, stored: str | int
) -> None:
    others = sql("SELECT * FROM records WHERE id != 17 ORDER BY id")
    before = await records.get(17)
    edit = await records.update(17, field, value)
    assert edit.before == before
    assert asdict(edit.after) == {**asdict(before), field: stored}
    assert sql("SELECT * FROM records WHERE id = 17") == [tuple(asdict(edit.after).values())]
    assert sql("SELECT * FROM records WHERE id != 17 ORDER BY id") == others


@pytest.mark.parametrize(
    ("record_id", "field", "value", "error"),
    [
        (17, "id", 18, InvalidRequest),
        (17, "title = 'x', owner", "x", InvalidRequest),
        (17, "status", "lost", InvalidRequest),
        (17, "year", "MMXII", InvalidRequest),
        (17, "year", 3000, InvalidRequest),
        (17, "amount", 10**30, InvalidRequest),
        (99999, "title", "x", NotFound),
    ],
)
async def test_an_update_that_makes_no_sense_changes_nothing(
    records: Records, sql: Sql, record_id: int, field: str, value: str | int, error: type[Exception]
) -> None:
    before = sql("SELECT * FROM records")
    with pytest.raises(error):
        await records.update(record_id, field, value)
    assert sql("SELECT * FROM records") == before


async def test_previews_change_nothing_and_foretell_the_effect(records: Records, sql: Sql) -> None:
    chosen = Filter(category="invoice", before_year=2012)
    statement, found = await records.preview_delete(chosen)
    assert sql("SELECT count(*) FROM records") == [(SAMPLE_COUNT,)]
    assert statement == delete_statement(chosen)
    assert (found.count, len(found.first)) == ((await records.delete(chosen))[0], 10)

    statement, edit = await records.preview_update(18, "amount", "5")
    assert sql("SELECT amount FROM records WHERE id = 18") == [(edit.before.amount,)]
    assert statement.parameters == (5, 18)
    assert edit == await records.update(18, "amount", "5")


async def test_a_file_that_has_gone_or_is_locked_is_unavailable(records: Records) -> None:
    impatient = replace(records, lock_seconds=0.05)
    holder = sqlite3.connect(records.path, isolation_level=None)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="nothing was changed"):
            await impatient.delete(Filter(ids=(17,)))
    finally:
        holder.close()
    assert (await records.get(17)).id == 17

    records.path.unlink()
    with pytest.raises(Unavailable, match=r"records\.db"):
        await records.search(Filter())
    assert not records.path.exists()
    # Of a connection that could not be opened, the library leaves a thread to end by itself, and
    # that needs the loop.
    for each in threading.enumerate():
        if "_connection_worker_thread" in each.name:
            each.join(PATIENCE)
