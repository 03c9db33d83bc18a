"""The one writer: what shares a commit, what fails alone, and what happens when the file cannot
serve."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from assent.core.clock import Clock
from assent.core.errors import Unavailable
from assent.core.events import Done, Token, decode, event_type
from assent.storage.sqlite import database
from assent.storage.sqlite.log import StoredEvent
from assent.storage.sqlite.pacing import Pacing
from assent.storage.sqlite.writer import MAX_WAITING, BulkOperation, Transaction, Writer
from tests.storage.samples import piece, token
from tests.support.disk import locked
from tests.support.waiting import PATIENCE, until

OPEN_FILES = Path("/proc/self/fd")


class Hold:
    """An operation that takes until it is released."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def __call__(self, _: Transaction) -> None:
        self.entered.set()
        self.release.wait(PATIENCE)


class WriterHarness:
    """A writer, what it has shown, and the statements it ran."""

    def __init__(self, path: Path, connection: sqlite3.Connection, pacing: Pacing) -> None:
        self.path = path
        self.connection = connection
        self.stored: list[StoredEvent] = []
        self.statements: list[str] = []
        self.writer = Writer(connection, path.name, self.stored.extend, pacing=pacing)
        connection.set_trace_callback(self.statements.append)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the writer inside a transaction: whatever is queued in this context waits, and
        becomes one batch."""
        hold = Hold()
        holding = asyncio.ensure_future(self.writer.write(hold))
        await asyncio.to_thread(hold.entered.wait, PATIENCE)
        try:
            yield
        finally:
            hold.release.set()
            await holding

    def numbers(self) -> list[int]:
        return [seq for _, seq, *_ in self.stored]

    async def until_shown(self, count: int) -> None:
        """Wait until so many events have been shown."""
        await until(lambda: len(self.stored) >= count, every=0.001)

    def texts(self) -> list[str]:
        """What the pieces said that were shown, and the types of other events."""
        return [
            event.content if isinstance(event, Token) else event_type(event)
            for event in (decode(body) for *_, body in self.stored)
        ]

    def names(self) -> list[str]:
        """What another connection sees committed."""
        with closing(sqlite3.connect(self.path)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM notes ORDER BY name")]


@asynccontextmanager
async def harness_at(path: Path, pacing: Pacing | None = None) -> AsyncIterator[WriterHarness]:
    with ExitStack() as stack:
        connection = stack.enter_context(database.connected(path, Clock()))
        connection.execute("CREATE TABLE notes (name TEXT PRIMARY KEY)")
        harness = WriterHarness(path, connection, pacing or Pacing())
        try:
            yield harness
        finally:
            await harness.writer.close()


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[WriterHarness]:
    async with harness_at(tmp_path / "harness.db") as harness:
        yield harness


def note(name: str) -> Callable[[Transaction], str]:
    def operation(transaction: Transaction) -> str:
        transaction.connection.execute("INSERT INTO notes VALUES (?)", (name,))
        return name

    return operation


def note_and_fail(name: str) -> Callable[[Transaction], str]:
    def operation(transaction: Transaction) -> str:
        note(name)(transaction)
        transaction.log.add([token("t", "never")])
        raise LookupError(name)

    return operation


def fail(error: Exception) -> None:
    raise error


async def test_what_waits_shares_one_commit(harness: WriterHarness) -> None:
    async with harness.held():
        waiting = [asyncio.ensure_future(harness.writer.write(note(f"n{n:02}"))) for n in range(50)]
        for _ in range(50):
            harness.writer.append([token()], fail)
        await asyncio.sleep(0)
    assert await asyncio.gather(*waiting) == [f"n{n:02}" for n in range(50)]
    assert harness.statements.count("COMMIT") == 2
    assert harness.numbers() == list(range(1, 51))


async def test_a_failing_operation_in_the_middle_of_a_batch_fails_alone(
    harness: WriterHarness,
) -> None:
    async with harness.held():
        writes = [note("a"), note_and_fail("b"), note("c"), note("a"), note("d")]
        waiting = [asyncio.ensure_future(harness.writer.write(write)) for write in writes]
        await asyncio.sleep(0)
        harness.writer.append([token()], fail)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [outcomes[n] for n in (0, 2, 4)] == ["a", "c", "d"]
    assert isinstance(outcomes[1], LookupError)
    # A breach of a constraint is no fault of the disk, and so not Unavailable.
    assert isinstance(outcomes[3], sqlite3.IntegrityError)
    assert harness.names() == ["a", "c", "d"]
    assert harness.statements.count("COMMIT") == 2
    assert harness.numbers() == [1]


@pytest.mark.skipif(not OPEN_FILES.exists(), reason="Only Linux tells which files are open.")
async def test_what_a_large_operation_would_undo_is_kept_in_memory(harness: WriterHarness) -> None:
    """SQLite's own way is a temporary file, in a folder that nobody watches."""

    def fill(transaction: Transaction) -> None:
        transaction.connection.execute("CREATE TABLE pages (body BLOB)")
        transaction.connection.executemany(
            "INSERT INTO pages VALUES (zeroblob(?))", [(4000,)] * 100
        )

    def change(transaction: Transaction) -> list[str]:
        transaction.connection.execute("UPDATE pages SET body = randomblob(4000)")
        return [str(file.readlink()) for file in OPEN_FILES.iterdir() if file.is_symlink()]

    await harness.writer.write(fill)
    opened = await harness.writer.write(change)
    assert f"{harness.path}-wal" in opened
    assert [name for name in opened if "etilqs" in name] == []


async def test_nobody_is_told_before_the_commit(harness: WriterHarness) -> None:
    second = Hold()
    async with harness.held():
        early = asyncio.ensure_future(harness.writer.write(note("early")))
        await asyncio.sleep(0)
        harness.writer.append([token()], fail)
        late = asyncio.ensure_future(harness.writer.write(second))
        await asyncio.sleep(0)
    await asyncio.to_thread(second.entered.wait, PATIENCE)
    # By now "early" has run, in the transaction that the second hold keeps open.
    await asyncio.sleep(0.02)
    assert not early.done()
    assert harness.names() == harness.numbers() == []
    second.release.set()
    await late
    assert early.done()
    assert harness.names() == ["early"]
    assert harness.numbers() == [1]


async def test_events_too_large_for_the_file_fail_alone(harness: WriterHarness) -> None:
    harness.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    errors: list[Exception] = []
    async with harness.held():
        harness.writer.append([token("t", "a")], fail)
        harness.writer.append([token("t", "b"), token("t", "x" * 200_000)], errors.append)
        written = asyncio.ensure_future(harness.writer.write(note("c")))
        await asyncio.sleep(0)
        too_large = asyncio.ensure_future(
            harness.writer.write(
                lambda transaction: transaction.log.add([token("t", "x" * 200_000)])
            )
        )
        await asyncio.sleep(0)
        harness.writer.append([token("t", "d")], fail)
    await written
    with pytest.raises(sqlite3.DataError):
        await too_large
    await asyncio.sleep(0.05)
    assert [type(error) for error in errors] == [sqlite3.DataError]
    assert harness.numbers() == [1, 2]
    assert harness.names() == ["c"]
    assert harness.connection.execute("SELECT seq FROM log_heads").fetchall() == [(2,)]


async def impatient(harness: WriterHarness) -> None:
    """Let it wait for another program's lock for a moment only."""
    await harness.writer.write(
        lambda transaction: transaction.connection.execute("PRAGMA busy_timeout = 50")
    )


async def test_while_a_file_is_locked_what_waits_is_kept_in_order_and_all_else_is_refused(
    harness: WriterHarness,
) -> None:
    await impatient(harness)
    order: list[str] = []

    def noted(name: str) -> Callable[[Transaction], str]:
        def operation(transaction: Transaction) -> str:
            order.append(name)
            return note(name)(transaction)

        return operation

    with locked(harness.path):
        harness.writer.append([token("t", "a")], fail)
        first = asyncio.ensure_future(harness.writer.write(noted("first"), waits=True))
        for name in ("a", "b"):
            with pytest.raises(Unavailable, match="another program holds it locked"):
                await harness.writer.write(note(name))
        assert harness.writer.outage is not None
        with pytest.raises(Unavailable, match="another program holds it locked"):
            await harness.writer.outside_transaction(lambda connection: None)
        harness.writer.append([token("t", "b")], fail)
        second = asyncio.ensure_future(harness.writer.write(noted("second"), waits=True))
        assert harness.stored == []
    assert [await first, await second] == ["first", "second"]
    assert order[-2:] == ["first", "second"]
    assert harness.writer.outage is None
    assert await harness.writer.write(note("c")) == "c"
    assert harness.names() == ["c", "first", "second"]
    assert harness.numbers() == [1, 2]
    ((patience,),) = harness.connection.execute("PRAGMA busy_timeout")
    assert patience == 50


async def test_what_came_in_before_the_outage_was_known_is_refused_then(
    harness: WriterHarness,
) -> None:
    await impatient(harness)
    with locked(harness.path):
        refused = [asyncio.ensure_future(harness.writer.write(note("a")))]
        apart = asyncio.ensure_future(harness.writer.outside_transaction(lambda connection: None))
        refused += [asyncio.ensure_future(harness.writer.write(note(name))) for name in ("b", "c")]
        outcomes = await asyncio.gather(*refused, apart, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 4
    await until(lambda: harness.writer.outage is None)
    assert harness.names() == []


async def test_what_waits_is_given_up_with_its_caller(harness: WriterHarness) -> None:
    await impatient(harness)
    with locked(harness.path):
        gone = asyncio.ensure_future(harness.writer.write(note("gone"), waits=True))
        stays = asyncio.ensure_future(harness.writer.write(note("stays"), waits=True))
        await until(lambda: harness.writer.outage is not None)
        gone.cancel()
        await asyncio.sleep(0)
    await stays
    assert harness.names() == ["stays"]


async def test_what_waits_is_given_up_when_the_writer_is_closed(tmp_path: Path) -> None:
    errors: list[Exception] = []
    async with harness_at(tmp_path / "harness.db") as harness:
        await impatient(harness)
        with locked(harness.path):
            harness.writer.append([token()], errors.append)
            waiting = asyncio.ensure_future(harness.writer.write(note("a"), waits=True))
            await until(lambda: harness.writer.outage is not None)
            await harness.writer.close()
        with pytest.raises(Unavailable, match="another program holds it locked"):
            await waiting
        assert [type(error) for error in errors] == [Unavailable]
        assert harness.names() == []


async def test_what_waits_is_committed_when_the_storage_is_back_as_the_writer_is_closed(
    tmp_path: Path,
) -> None:
    async with harness_at(tmp_path / "harness.db") as harness:
        await impatient(harness)
        with locked(harness.path):
            waiting = asyncio.ensure_future(harness.writer.write(note("a"), waits=True))
            await until(lambda: harness.writer.outage is not None)
        await harness.writer.close()
        assert await waiting == "a"
        assert harness.names() == ["a"]


async def test_an_outage_is_over_though_nobody_writes(harness: WriterHarness) -> None:
    await impatient(harness)
    with locked(harness.path):
        with pytest.raises(Unavailable):
            await harness.writer.write(note("a"))
        assert harness.writer.outage is not None
    await until(lambda: harness.writer.outage is None)


async def test_one_damaged_page_is_no_outage(harness: WriterHarness) -> None:
    def damaged(transaction: Transaction) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    async with harness.held():
        fails = asyncio.ensure_future(harness.writer.write(damaged, waits=True))
        succeeds = asyncio.ensure_future(harness.writer.write(note("a")))
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="the file is damaged"):
        await fails
    assert await succeeds == "a"
    assert harness.writer.outage is None


async def test_on_a_full_disk_what_waits_is_kept_and_all_else_is_refused(
    harness: WriterHarness,
) -> None:
    (pages,) = harness.connection.execute("PRAGMA page_count").fetchone()
    harness.writer.append([token()], fail)
    await harness.writer.write(
        lambda transaction: transaction.connection.execute(f"PRAGMA max_page_count = {pages}")
    )
    for _ in range(3):
        harness.writer.append([token("t", "x" * 10_000)], fail)
    for text in ("x" * 10_000, "small"):
        with pytest.raises(Unavailable, match="is full"):
            await harness.writer.write(note(text))
    assert harness.numbers() == [1]
    harness.connection.execute("PRAGMA max_page_count = 1000000")
    # The numbers that were given in vain are given again.
    await harness.until_shown(4)
    assert harness.writer.outage is None
    assert harness.numbers() == [1, 2, 3, 4]
    await harness.writer.write(note("y" * 10_000))
    assert harness.names() == ["y" * 10_000]


async def test_a_caller_that_went_away_spoils_nothing(harness: WriterHarness) -> None:
    async with harness.held():
        gone = asyncio.ensure_future(harness.writer.write(note("a")))
        gone_and_failed = asyncio.ensure_future(harness.writer.write(note_and_fail("b")))
        stays = asyncio.ensure_future(harness.writer.write(note("c")))
        await asyncio.sleep(0)
        gone.cancel()
        gone_and_failed.cancel()
        await asyncio.sleep(0)
    assert await stays == "c"
    assert harness.names() == ["a", "c"]


@pytest.mark.slow
async def test_too_much_waiting_is_refused(harness: WriterHarness) -> None:
    errors: list[Exception] = []
    async with harness.held():
        for _ in range(MAX_WAITING + 10):
            harness.writer.append((), errors.append)
        with pytest.raises(Unavailable, match="cannot keep up"):
            await harness.writer.write(note("a"))
    await asyncio.sleep(0)
    assert 5 < len(errors) < 15
    while True:
        try:
            await harness.writer.write(note("b"))
            break
        except Unavailable:
            await asyncio.sleep(0.01)
    assert harness.names() == ["b"]


async def test_closing_commits_what_waits_even_when_it_is_cancelled(tmp_path: Path) -> None:
    async with harness_at(tmp_path / "harness.db") as harness:
        async with harness.held():
            waiting = asyncio.ensure_future(harness.writer.write(note("a")))
            await asyncio.sleep(0)
            closing_ = asyncio.ensure_future(harness.writer.close())
            await asyncio.sleep(0.01)
            closing_.cancel()
            await asyncio.sleep(0.01)
            assert not closing_.done()
            with pytest.raises(Unavailable, match="shutting down"):
                await harness.writer.write(note("b"))
        with pytest.raises(asyncio.CancelledError):
            await closing_
        assert await waiting == "a"
        assert harness.names() == ["a"]


# ── between two transactions ──


async def test_what_must_be_apart_runs_between_what_was_queued_before_and_behind_it(
    harness: WriterHarness,
) -> None:
    async with harness.held():
        before = asyncio.ensure_future(harness.writer.write(note("before")))
        await asyncio.sleep(0)
        apart = asyncio.ensure_future(
            harness.writer.outside_transaction(
                lambda connection: (connection.in_transaction, harness.names())
            )
        )
        await asyncio.sleep(0)
        behind = asyncio.ensure_future(harness.writer.write(note("behind")))
        await asyncio.sleep(0)
    assert await apart == (False, ["before"])
    assert [await before, await behind] == ["before", "behind"]
    assert harness.names() == ["before", "behind"]


async def test_what_fails_apart_fails_alone(harness: WriterHarness) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await harness.writer.outside_transaction(
            lambda connection: connection.execute("SELECT * FROM nowhere")
        )
    await harness.writer.outside_transaction(
        lambda connection: connection.execute("PRAGMA busy_timeout = 50")
    )
    with closing(sqlite3.connect(harness.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another program holds it locked"):
            await harness.writer.outside_transaction(
                lambda connection: connection.execute("DELETE FROM notes")
            )
    assert await harness.writer.write(note("a")) == "a"


async def test_nothing_is_taken_apart_once_it_is_closed(tmp_path: Path) -> None:
    async with harness_at(tmp_path / "harness.db") as harness:
        waiting = asyncio.ensure_future(
            harness.writer.outside_transaction(lambda connection: connection.in_transaction)
        )
        await asyncio.sleep(0)
        await harness.writer.close()
        assert await waiting is False
        with pytest.raises(Unavailable, match="shutting down"):
            await harness.writer.outside_transaction(lambda connection: connection.total_changes)


# ── pacing ──


def paced(seconds: float = 3600.0) -> Pacing:
    """Commits of pieces are so far apart; without an argument, pieces are held until something ends
    it."""
    return Pacing(apart=seconds, join=seconds)


@pytest.fixture
async def held_harness(tmp_path: Path) -> AsyncIterator[WriterHarness]:
    """A writer that has just committed a piece, and so holds the next."""
    async with harness_at(tmp_path / "harness.db", paced()) as harness:
        harness.writer.append([piece("first ")], fail)
        await harness.until_shown(1)
        harness.writer.append([piece("held ")], fail)
        await asyncio.sleep(0.02)
        harness.writer.append([piece("too ")], fail)
        await asyncio.sleep(0.02)
        assert harness.texts() == ["first "]
        yield harness


class Noted(BulkOperation):
    def __call__(self, transaction: Transaction) -> None:
        self.apply_all(transaction, (self,))

    @staticmethod
    def apply_all(transaction: Transaction, operations: Sequence[Noted]) -> None:
        note("bulk")(transaction)


async def test_a_job_takes_the_pieces_that_are_held_along(held_harness: WriterHarness) -> None:
    assert await held_harness.writer.write(note("a")) == "a"
    assert held_harness.texts() == ["first ", "held ", "too "]
    assert held_harness.statements.count("COMMIT") == 2


async def test_a_bulk_operation_takes_the_pieces_that_are_held_along(
    held_harness: WriterHarness,
) -> None:
    await held_harness.writer.write(Noted())
    assert held_harness.texts() == ["first ", "held ", "too "]
    assert held_harness.statements.count("COMMIT") == 2


async def test_what_must_be_apart_ends_the_hold(held_harness: WriterHarness) -> None:
    seen = await held_harness.writer.outside_transaction(
        lambda connection: connection.execute("SELECT count(*) FROM events").fetchone()
    )
    assert seen == (3,)


async def test_closing_commits_the_pieces_that_are_held(held_harness: WriterHarness) -> None:
    await held_harness.writer.close()
    assert held_harness.texts() == ["first ", "held ", "too "]
    assert held_harness.statements.count("COMMIT") == 2


async def test_other_events_take_those_that_follow_them_along(tmp_path: Path) -> None:
    pacing = Pacing(together=3600.0)
    async with harness_at(tmp_path / "harness.db", pacing) as harness:
        harness.writer.append([Done(thread_id="t")], fail)
        await asyncio.sleep(0.02)
        harness.writer.append([piece("a ")], fail)
        await asyncio.sleep(0.02)
        assert harness.texts() == []
        assert await harness.writer.write(note("b")) == "b"
        assert harness.texts() == ["done", "a "]
        assert harness.statements.count("COMMIT") == 1


async def test_only_pieces_are_held_for_long(tmp_path: Path) -> None:
    async with harness_at(tmp_path / "harness.db", paced()) as harness:
        for number, event in enumerate((piece("a "), Done(thread_id="t"), Done(thread_id="u")), 1):
            harness.writer.append([event], fail)
            await harness.until_shown(number)
        assert harness.texts() == ["a ", "done", "done"]


async def test_pieces_are_committed_when_it_is_time_and_at_once_after_a_pause(
    tmp_path: Path,
) -> None:
    async with harness_at(tmp_path / "harness.db", paced(0.1)) as harness:
        began = time.monotonic()
        for number in range(1, 4):
            harness.writer.append([piece(f"{number} ")], fail)
            await harness.until_shown(number)
        # The first is not held; the others are, until they are as far apart as they must be.
        assert time.monotonic() - began > 0.19
        assert harness.texts() == ["1 ", "2 ", "3 "]


async def test_pieces_that_are_held_survive_an_outage_in_their_order(
    held_harness: WriterHarness,
) -> None:
    await impatient(held_harness)
    with locked(held_harness.path):
        held_harness.writer.append([piece("before ")], fail)
        with pytest.raises(Unavailable, match="another program holds it locked"):
            await held_harness.writer.write(note("a"))
        held_harness.writer.append([piece("amid ")], fail)
    await until(lambda: held_harness.writer.outage is None)
    held_harness.writer.append([piece("after ")], fail)
    await held_harness.writer.write(note("b"))
    assert held_harness.texts() == ["first ", "held ", "too ", "before ", "amid ", "after "]


async def test_while_the_event_loop_is_late_pieces_of_a_message_are_joined(tmp_path: Path) -> None:
    pacing = Pacing(join=3600.0)
    async with harness_at(tmp_path / "harness.db", pacing) as harness:
        for word in ("by ", "itself "):
            harness.writer.append([piece(word)], fail)
            await harness.writer.write(lambda transaction: None)
        while not pacing.is_late:
            # Something else keeps the event loop while the commit is made and handed over.
            asyncio.get_running_loop().call_soon(time.sleep, 0.05)
            await harness.writer.write(lambda transaction: None)
        for thread_id in "tut":
            harness.writer.append([piece("on ", thread_id)], fail)
            harness.writer.append([piece("time ", thread_id)], fail)
        await harness.writer.write(note("a"))
        assert harness.texts() == ["by ", "itself ", "on time on time ", "on time "]
