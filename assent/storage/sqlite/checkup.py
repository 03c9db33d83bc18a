"""The checkup of a database, which `assent doctor` shows. It only reads, also beside a server that
has the file open."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from assent.core.key_files import LINKS, PEPPER
from assent.core.sealing import NoSeal
from assent.storage.folder_files import WHOLE, folder_of
from assent.storage.sqlite import database
from assent.storage.sqlite.tables import IS_VISIBLE, Tables

SHOWN = 5
"""Of many problems of one kind, so many are shown. The others are counted."""


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the checkup found."""

    level: Level
    subject: str
    sentence: str


def check_up(path: str | Path) -> list[Finding]:
    """Check the database, and return every finding. Reads the whole file."""
    path = database.resolved(path)
    if not path.is_file():
        sentence = (
            f"There is no database at {path}. `assent serve` makes one; or set ASSENT_DATABASE."
        )
        return [Finding(Level.WRONG, "file", sentence)]
    findings = [_file(path), *_summary("modes", _modes(path), "Only its owner can read the files")]
    try:
        with database.snapshot(path) as connection:
            schema = _schema(connection)
            findings.append(schema)
            if schema.level is not Level.WRONG:
                _hide_what_was_erased(connection)
                for check in CHECKS:
                    findings += _checked(connection, check)
                if schema.level is Level.OK:
                    findings += _summary(
                        "uploads", _lost_uploads(path), "Each upload has its bytes"
                    )
                findings += _contents(connection, is_held=database.is_held(path))
    except sqlite3.Error as error:
        sentence = f"The file {path} cannot be read as a database: {error}."
        findings.append(Finding(Level.WRONG, "file", sentence))
    return findings


def _summary(subject: str, problems: Sequence[str], all_well: str) -> list[Finding]:
    """The problems, of which a few are shown; or that all is well."""
    if not problems:
        return [Finding(Level.OK, subject, f"{all_well}.")]
    sentences = list(problems[:SHOWN])
    if len(problems) > SHOWN:
        sentences.append(f"And {len(problems) - SHOWN} more of this kind.")
    return [Finding(Level.WRONG, subject, sentence) for sentence in sentences]


def _hide_what_was_erased(connection: sqlite3.Connection) -> None:
    """Let every check see what the server shows: what is left of erased threads is removed in
    steps, and contradicts nothing."""
    for table in Tables(NoSeal()):
        connection.execute(
            f"CREATE TEMP VIEW {table.name} AS SELECT * FROM main.{table.name} WHERE {IS_VISIBLE}"
        )
    connection.execute(
        """
        CREATE TEMP VIEW events AS SELECT * FROM main.events WHERE NOT EXISTS (
            SELECT 1 FROM erased_events JOIN log_heads USING (thread_id)
            WHERE thread_id = main.events.thread_id AND main.events.seq <= removed
        )
        """
    )


# ── the file ──


def _files(path: Path) -> Iterator[Path]:
    for suffix in ("", "-wal", "-shm", ".lock", ".audit-key", LINKS.suffix, PEPPER.suffix):
        file = path.with_name(f"{path.name}{suffix}")
        if file.is_file():
            yield file


def _uploads(path: Path) -> Iterator[Path]:
    return folder_of(path).glob(WHOLE)


def _file(path: Path) -> Finding:
    size = sum(file.stat().st_size for file in _files(path)) / (1 << 20)
    holder = "A server" if database.is_held(path) else "No server"
    return Finding(Level.OK, "file", f"{path}, {size:,.1f} MiB. {holder} has it open.")


def _modes(path: Path) -> list[str]:
    problems = []
    for file in (*_files(path), *_uploads(path)):
        mode = file.stat().st_mode
        if mode & 0o077:
            problems.append(
                f"{file.name} is {stat.filemode(mode)}, so others than its owner may open it. "
                f"Run: chmod 600 {file}"
            )
    return problems


def _lost_uploads(path: Path) -> list[str]:
    """The uploads without bytes, looked at twice: a server may send or remove one meanwhile."""
    lost = _without_bytes(path)
    if lost:
        lost = [file_id for file_id in _without_bytes(path) if file_id in lost]
    folder = folder_of(path)
    return [
        f"The bytes of the upload {file_id} are gone from {folder}. Take them from a backup."
        for file_id in lost
    ]


def _without_bytes(path: Path) -> list[str]:
    there = {file.name for file in _uploads(path)}
    return [file_id for file_id in _upload_ids(path) if file_id not in there]


def _upload_ids(path: Path) -> list[str]:
    with database.reading(path) as connection:
        return database.column(
            connection, f"SELECT file_id FROM files WHERE {IS_VISIBLE} ORDER BY file_id"
        )


def _schema(connection: sqlite3.Connection) -> Finding:
    if database.pragma(connection, "application_id") != database.APPLICATION_ID:
        return Finding(Level.WRONG, "schema", "This is the database of another program.")
    version = database.pragma(connection, "user_version")
    known = database.migrations()
    newest = known[-1].number
    recorded = connection.execute("SELECT number, name FROM migrations ORDER BY number").fetchall()
    level = Level.WRONG
    if version > newest:
        sentence = (
            f"It is of a newer Assent: schema {version}, and this one knows {newest}. "
            "Install that one."
        )
    elif recorded != [(step.number, step.name) for step in known[:version]]:
        sentence = f"Its schema says {version}, but the migrations that it records are {recorded}."
    elif version < newest:
        level = Level.NOTE
        sentence = f"Schema {version}; the next start of a server brings it to {newest}."
    else:
        level = Level.OK
        sentence = f"Schema {version}, the newest."
    return Finding(level, "schema", sentence)


# ── contradictions between rows ──


@dataclass(frozen=True, slots=True)
class Check:
    """One subject, the sentence for the case that all is well, and its rules. A rule is a query,
    and the sentence for each row that it finds, with a place for each column."""

    subject: str
    all_well: str
    rules: tuple[tuple[str, str], ...]


def _checked(connection: sqlite3.Connection, check: Check) -> list[Finding]:
    problems: list[str] = []
    try:
        for query, sentence in check.rules:
            problems += [sentence.format(*row) for row in connection.execute(query)]
    except sqlite3.Error as error:
        return [Finding(Level.WRONG, check.subject, f"This could not be read: {error}.")]
    return _summary(check.subject, problems, check.all_well)


INTEGRITY = Check(
    "integrity",
    "Every page and every index is whole",
    (
        (
            """
            SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check != 'ok'
            """,
            "{}. Restore the file from a backup.",
        ),
    ),
)

NUMBERING = Check(
    "numbering",
    "No thread's events have a gap",
    (
        (
            """
            SELECT thread_id, removed + 1, seq, count(number), min(number), max(number)
            FROM log_heads
            LEFT JOIN (SELECT thread_id, seq AS number FROM events) USING (thread_id)
            GROUP BY thread_id
            HAVING count(number) != seq - removed
            OR min(number) != removed + 1
            OR max(number) != seq
            """,
            "The thread '{}' should have the events {} to {}, and has {}, from {} to {}.",
        ),
        (
            """
            SELECT DISTINCT thread_id FROM events
            WHERE thread_id NOT IN (SELECT thread_id FROM log_heads)
            """,
            "The thread '{}' has events but no record of its last number.",
        ),
    ),
)

APPROVALS = Check(
    "approvals",
    "Every approval that a thread waits for exists, and is pending",
    (
        (
            """
            SELECT threads.thread_id, waiting.value,
                coalesce('is ' || approvals.status, 'does not exist')
            FROM threads
            JOIN json_each(threads.pending) AS waiting
            LEFT JOIN approvals ON approval_id = waiting.value
            WHERE approvals.status IS NOT 'pending'
            """,
            "The thread '{}' waits for the approval '{}', which {}.",
        ),
        (
            """
            SELECT approval_id, approvals.thread_id
            FROM approvals LEFT JOIN threads USING (thread_id)
            WHERE approvals.status = 'pending'
            AND NOT EXISTS (SELECT 1 FROM json_each(threads.pending) WHERE value = approval_id)
            """,
            "The approval '{}' is pending, but its thread '{}' does not wait for it.",
        ),
        (
            "SELECT thread_id FROM threads WHERE status = 'interrupted' AND pending = '[]'",
            "The thread '{}' is interrupted, but waits for no approval.",
        ),
    ),
)

RUNS = Check(
    "runs",
    "Every busy thread has its run, and every active run its thread",
    (
        (
            """
            SELECT threads.thread_id, threads.run_id,
                coalesce('is ' || runs.status, 'does not exist')
            FROM threads LEFT JOIN runs USING (run_id)
            WHERE threads.status = 'busy'
            AND coalesce(runs.status, '') NOT IN ('pending', 'running', 'cancelling')
            """,
            "The thread '{}' is busy with the run '{}', which {}.",
        ),
        (
            """
            SELECT runs.run_id, runs.status, runs.thread_id
            FROM runs LEFT JOIN threads ON threads.thread_id = runs.thread_id
            WHERE runs.status IN ('running', 'cancelling')
            AND (threads.status IS NOT 'busy' OR threads.run_id IS NOT runs.run_id)
            """,
            "The run '{}' is {}, but its thread '{}' is not busy with it.",
        ),
        (
            """
            SELECT run_id, thread_id FROM runs
            WHERE status = 'pending' AND thread_id NOT IN (SELECT thread_id FROM threads)
            """,
            "The run '{}' waits for its thread '{}', which does not exist.",
        ),
    ),
)

# An approval's timer may be set to a reminder, so to a time before the expiry. A schedule's is set
# to its next run. Times are compared as text, whose order is that of the times.
TIMERS = Check(
    "timers",
    "Everything that is to happen at a time has its timer, and every timer its purpose",
    (
        (
            """
            SELECT approval_id, expires_at, coalesce('its timer is at ' || due_at, 'has no timer')
            FROM approvals
            LEFT JOIN timers ON timer_id = approval_id AND timers.kind = 'approval'
            WHERE approvals.status = 'pending' AND expires_at IS NOT NULL
            AND (due_at IS NULL OR due_at > expires_at)
            """,
            "The approval '{}' expires at {}, but {}.",
        ),
        (
            """
            SELECT timer_id, coalesce('is ' || approvals.status, 'does not exist')
            FROM timers LEFT JOIN approvals ON approval_id = timer_id
            WHERE timers.kind = 'approval' AND approvals.status IS NOT 'pending'
            """,
            "There is a timer of the approval '{}', which {}.",
        ),
        (
            """
            SELECT schedule_id, coalesce(next_at, 'no time'),
                coalesce('its timer is at ' || due_at, 'has no timer')
            FROM schedules LEFT JOIN timers ON timer_id = 'schedule:' || schedule_id
            WHERE next_at IS NOT due_at
            """,
            "The schedule '{}' is next due at {}, but {}.",
        ),
        (
            """
            SELECT timer_id FROM timers
            WHERE kind = 'schedule'
            AND NOT EXISTS (SELECT 1 FROM schedules WHERE timer_id = 'schedule:' || schedule_id)
            """,
            "There is a timer '{}' of a schedule that does not exist.",
        ),
    ),
)

NOTIFICATIONS = Check(
    "notifications",
    "Every pending notification has its time",
    (
        (
            """
            SELECT notification_id, status, endpoint, coalesce(next_at, 'no time')
            FROM notifications
            WHERE (status = 'pending') != (next_at IS NOT NULL)
            OR endpoint = '' OR status NOT IN ('pending', 'delivered', 'dead')
            """,
            "The notification '{}' is {}, to the endpoint '{}', and to be sent at {}.",
        ),
    ),
)

ASSISTANTS = Check(
    "assistants",
    "Every assistant has its versions, and every version its assistant",
    (
        (
            """
            SELECT assistant_id, assistants.number
            FROM assistants LEFT JOIN assistant_versions AS each USING (assistant_id, number)
            WHERE version_id IS NULL
            """,
            "The assistant '{}' is at its version {}, which does not exist.",
        ),
        (
            """
            SELECT version_id, last_number
            FROM assistant_versions AS each JOIN assistants USING (assistant_id)
            WHERE each.number > last_number
            """,
            "There is the version '{}', but the last one of its assistant is {}.",
        ),
        (
            """
            SELECT version_id FROM assistant_versions
            WHERE assistant_id NOT IN (SELECT assistant_id FROM assistants)
            """,
            "There is the version '{}' of an assistant that does not exist.",
        ),
    ),
)

CHECKS = (INTEGRITY, NUMBERING, APPROVALS, RUNS, TIMERS, NOTIFICATIONS, ASSISTANTS)


# ── contents ──


_COUNTS = """
    SELECT
        (SELECT count(*) FROM threads),
        (SELECT count(*) FROM events),
        (SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size),
        (SELECT count(*) FROM approvals WHERE status = 'pending'),
        (SELECT count(*) FROM timers),
        (SELECT count(*) FROM schedules WHERE enabled)
"""

_UNFINISHED = """
    SELECT agent, run_id FROM runs WHERE status IN ('pending', 'running', 'cancelling')
    ORDER BY agent, created_at, run_id
"""


def _contents(connection: sqlite3.Connection, *, is_held: bool) -> Iterator[Finding]:
    threads, events, free, approvals, timers, schedules = connection.execute(_COUNTS).fetchone()
    yield Finding(
        Level.OK,
        "holds",
        f"{threads:,} threads with {events:,} events; {free / (1 << 20):.1f} MiB of the file are "
        "free.",
    )

    yield from _unfinished(connection, is_held=is_held)

    # The sealed values themselves are not opened here: the doctor has no key.
    keys = database.column(connection, database.SEALED_WITH)
    if keys:
        sentence = f"What it holds is encrypted, with the key {', '.join(keys)}."
        yield Finding(Level.OK, "sealed", sentence)
    reasons = database.column(
        connection, "SELECT tampered FROM threads WHERE tampered IS NOT NULL ORDER BY thread_id"
    )
    if reasons:
        yield from _summary("sealed", reasons, "")

    if approvals:
        yield Finding(Level.NOTE, "holds", f"{approvals:,} approval(s) wait for a person.")
    if timers or schedules:
        sentence = f"{timers:,} timer(s) and {schedules:,} schedule(s) wait for their time."
        yield Finding(Level.NOTE, "holds", sentence)


def _unfinished(connection: sqlite3.Connection, *, is_held: bool) -> Iterator[Finding]:
    """The runs that have not ended, by agent: only a server that has the agent goes on with
    them."""
    served = set(database.column(connection, "SELECT value FROM workers, json_each(agents)"))
    runs: dict[str, list[str]] = {}
    for agent, run_id in connection.execute(_UNFINISHED):
        runs.setdefault(agent, []).append(run_id)
    for agent, run_ids in runs.items():
        shown = ", ".join(run_ids[:SHOWN]) + (", …" if len(run_ids) > SHOWN else "")
        if not is_held:
            rest = f"have not ended; the next server that has this agent goes on with: {shown}."
        elif agent in served:
            rest = f"have not ended: {shown}."
        else:
            rest = (
                "are left as they are, since the server does not have this agent. They go on when "
                f"a server starts with it: {shown}."
            )
        sentence = f"{len(run_ids):,} run(s) of the agent '{agent}' {rest}"
        yield Finding(Level.NOTE, "holds", sentence)
