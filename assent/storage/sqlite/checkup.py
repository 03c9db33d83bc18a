"""Whether a database is sound: what `assent doctor` looks at. It only reads, also beside a server
that has the file open."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from assent.storage.sqlite import files

SHOWN = 5
"""Of many problems of one kind, so many are shown; the others are counted."""


class Level(StrEnum):
    """How good or bad a finding is."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look at the database showed."""

    level: Level
    subject: str
    sentence: str


Check = Callable[[sqlite3.Connection], list[str]]
"""Problems, a sentence each; none if there is none."""


def check_up(path: str | Path) -> list[Finding]:
    """Every finding, in the order in which they were looked for. It reads the whole file."""
    path = files.resolved(path)
    if not path.is_file():
        return [
            Finding(
                Level.WRONG,
                "file",
                f"There is no database at {path}. `assent serve` makes one; or set ASSENT_DATABASE.",
            )
        ]
    findings = [_held(path), *_found("modes", _modes(path), "Only its owner can read the files")]
    try:
        with closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        ) as connection:
            connection.execute(f"PRAGMA busy_timeout = {int(files.BUSY_SECONDS * 1000)}")
            # One snapshot for all, so that what a server writes meanwhile does not look like a
            # contradiction.
            connection.execute("BEGIN")
            findings += _schema(connection)
            if findings[-1].level is not Level.WRONG:
                for subject, check, all_well in CHECKS:
                    findings += _checked(connection, subject, check, all_well)
                findings += _figures(connection)
    except sqlite3.Error as error:
        findings.append(
            Finding(Level.WRONG, "file", f"The file {path} cannot be read as a database: {error}.")
        )
    return findings


def _checked(
    connection: sqlite3.Connection, subject: str, check: Check, all_well: str
) -> list[Finding]:
    try:
        return _found(subject, check(connection), all_well)
    except sqlite3.Error as error:
        return [Finding(Level.WRONG, subject, f"This could not be read: {error}.")]


def _found(subject: str, problems: list[str], all_well: str) -> list[Finding]:
    if not problems:
        return [Finding(Level.OK, subject, f"{all_well}.")]
    shown = [Finding(Level.WRONG, subject, problem) for problem in problems[:SHOWN]]
    if more := len(problems) - SHOWN:
        shown += (
            [Finding(Level.WRONG, subject, f"And {more} more of this kind.")] if more > 0 else []
        )
    return shown


# ── the file ──


def _held(path: Path) -> Finding:
    size = sum(file.stat().st_size for file in _files(path)) / (1 << 20)
    who = "A server has it open" if files.is_held(path) else "No server has it open"
    return Finding(Level.OK, "file", f"{path}, {size:,.1f} MiB. {who}.")


def _files(path: Path) -> Iterator[Path]:
    for suffix in ("", "-wal", "-shm", ".lock", ".audit-key"):
        if (file := path.with_name(f"{path.name}{suffix}")).is_file():
            yield file


def _modes(path: Path) -> list[str]:
    return [
        f"{file.name} is {stat.filemode(mode)}, so others than its owner may open it. Say: chmod 600 {file}"
        for file in _files(path)
        if (mode := file.stat().st_mode) & 0o077
    ]


def _schema(connection: sqlite3.Connection) -> list[Finding]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != files.APPLICATION_ID:
        return [Finding(Level.WRONG, "schema", "This is the database of another program.")]
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = files.migrations()
    newest = known[-1].number
    recorded = connection.execute("SELECT number, name FROM migrations ORDER BY number").fetchall()
    if version > newest:
        return [
            Finding(
                Level.WRONG,
                "schema",
                f"It is of a newer Assent: schema {version}, and this one knows {newest}. Install that one.",
            )
        ]
    if recorded != [(step.number, step.name) for step in known[:version]]:
        return [
            Finding(
                Level.WRONG,
                "schema",
                f"Its schema says {version}, but the migrations that it records are {recorded}.",
            )
        ]
    if version < newest:
        return [
            Finding(
                Level.NOTE,
                "schema",
                f"Schema {version}; the next start of a server brings it to {newest}.",
            )
        ]
    return [Finding(Level.OK, "schema", f"Schema {version}, the newest.")]


def _integrity(connection: sqlite3.Connection) -> list[str]:
    found = (problem for (problem,) in connection.execute("PRAGMA integrity_check"))
    return [f"{problem}. Restore the file from a backup." for problem in found if problem != "ok"]


# ── what the rows say of each other ──


def _numbering(connection: sqlite3.Connection) -> list[str]:
    gaps = connection.execute(
        """
        SELECT thread_id, removed + 1, seq, count(number), min(number), max(number)
        FROM log_heads LEFT JOIN (SELECT thread_id, seq AS number FROM events) USING (thread_id)
        GROUP BY thread_id
        HAVING count(number) != seq - removed OR min(number) != removed + 1 OR max(number) != seq
        """
    )
    headless = connection.execute(
        "SELECT DISTINCT thread_id FROM events WHERE thread_id NOT IN (SELECT thread_id FROM log_heads)"
    )
    return [
        f"The thread '{thread_id}' should have the events {first} to {last}, and has {count}, from {lowest} to {highest}."
        for thread_id, first, last, count, lowest, highest in gaps
    ] + [
        f"The thread '{thread_id}' has events but no record of its last number."
        for (thread_id,) in headless
    ]


def _pending(connection: sqlite3.Connection) -> list[str]:
    missing = connection.execute(
        """
        SELECT threads.thread_id, waiting.value, approvals.status
        FROM threads JOIN json_each(threads.pending) AS waiting LEFT JOIN approvals ON approval_id = waiting.value
        WHERE approvals.status IS NOT 'pending'
        """
    )
    unasked = connection.execute(
        """
        SELECT approval_id, approvals.thread_id FROM approvals LEFT JOIN threads USING (thread_id)
        WHERE approvals.status = 'pending' AND NOT EXISTS (SELECT 1 FROM json_each(threads.pending) WHERE value = approval_id)
        """
    )
    stuck = connection.execute(
        "SELECT thread_id FROM threads WHERE status = 'interrupted' AND pending = '[]'"
    )
    return [
        *(
            f"The thread '{thread_id}' waits for the approval '{approval_id}', which "
            + (f"is {status}." if status else "does not exist.")
            for thread_id, approval_id, status in missing
        ),
        *(
            f"The approval '{approval_id}' is pending, but its thread '{thread_id}' does not wait for it."
            for approval_id, thread_id in unasked
        ),
        *(
            f"The thread '{thread_id}' is interrupted, but waits for no approval."
            for (thread_id,) in stuck
        ),
    ]


def _activity(connection: sqlite3.Connection) -> list[str]:
    idle = connection.execute(
        """
        SELECT threads.thread_id, threads.run_id, runs.status FROM threads LEFT JOIN runs USING (run_id)
        WHERE threads.status = 'busy' AND coalesce(runs.status, '') NOT IN ('pending', 'running', 'cancelling')
        """
    )
    strays = connection.execute(
        """
        SELECT runs.run_id, runs.status, runs.thread_id FROM runs LEFT JOIN threads ON threads.thread_id = runs.thread_id
        WHERE runs.status IN ('running', 'cancelling') AND (threads.status IS NOT 'busy' OR threads.run_id IS NOT runs.run_id)
        """
    )
    lost = connection.execute(
        "SELECT run_id, thread_id FROM runs WHERE status = 'pending' AND thread_id NOT IN (SELECT thread_id FROM threads)"
    )
    return [
        *(
            f"The thread '{thread_id}' is busy with the run '{run_id}', which "
            + (f"is {status}." if status else "does not exist.")
            for thread_id, run_id, status in idle
        ),
        *(
            f"The run '{run_id}' is {status}, but its thread '{thread_id}' is not busy with it."
            for run_id, status, thread_id in strays
        ),
        *(
            f"The run '{run_id}' waits for its thread '{thread_id}', which does not exist."
            for run_id, thread_id in lost
        ),
    ]


def _timers(connection: sqlite3.Connection) -> list[str]:
    """An approval's timer may stand at a reminder, so before its end; a schedule's is its next.
    Times are texts that sort as times do."""
    late = connection.execute(
        """
        SELECT approval_id, expires_at, due_at FROM approvals LEFT JOIN timers ON timer_id = approval_id AND timers.kind = 'approval'
        WHERE approvals.status = 'pending' AND expires_at IS NOT NULL AND (due_at IS NULL OR due_at > expires_at)
        """
    )
    of_nothing = connection.execute(
        """
        SELECT timer_id, approvals.status FROM timers LEFT JOIN approvals ON approval_id = timer_id
        WHERE timers.kind = 'approval' AND approvals.status IS NOT 'pending'
        """
    )
    schedules = connection.execute(
        """
        SELECT schedule_id, next_at, due_at FROM schedules LEFT JOIN timers ON timer_id = 'schedule:' || schedule_id
        WHERE next_at IS NOT due_at
        """
    )
    left = connection.execute(
        """
        SELECT timer_id FROM timers
        WHERE kind = 'schedule' AND NOT EXISTS (SELECT 1 FROM schedules WHERE timer_id = 'schedule:' || schedule_id)
        """
    )
    return [
        *(
            f"The approval '{approval_id}' expires at {expires_at}, but "
            + (f"its timer is at {due_at}." if due_at else "has no timer.")
            for approval_id, expires_at, due_at in late
        ),
        *(
            f"There is a timer of the approval '{timer_id}', which "
            + (f"is {status}." if status else "does not exist.")
            for timer_id, status in of_nothing
        ),
        *(
            f"The schedule '{schedule_id}' is next due at {next_at or 'no time'}, but "
            + (f"its timer is at {due_at}." if due_at else "has no timer.")
            for schedule_id, next_at, due_at in schedules
        ),
        *(
            f"There is a timer '{timer_id}' of a schedule that does not exist."
            for (timer_id,) in left
        ),
    ]


def _notifications(connection: sqlite3.Connection) -> list[str]:
    wrong = connection.execute(
        """
        SELECT notification_id, status, endpoint, next_at FROM notifications
        WHERE (status = 'pending') != (next_at IS NOT NULL) OR endpoint = '' OR status NOT IN ('pending', 'delivered', 'dead')
        """
    )
    return [
        f"The notification '{notification_id}' is {status}, to the endpoint '{endpoint}', and to be sent at {next_at or 'no time'}."
        for notification_id, status, endpoint, next_at in wrong
    ]


CHECKS: tuple[tuple[str, Check, str], ...] = (
    ("integrity", _integrity, "Every page and every index is whole"),
    ("numbering", _numbering, "No thread's events have a gap"),
    ("approvals", _pending, "What threads wait for is there, and pending"),
    ("runs", _activity, "Every busy thread has its run, and every active run its thread"),
    ("timers", _timers, "What is to happen at a time has its timer, and nothing else has"),
    ("notifications", _notifications, "What is to be told has its time"),
)


def _figures(connection: sqlite3.Connection) -> list[Finding]:
    def figure(sql: str) -> int:
        (value,) = connection.execute(sql).fetchone()
        return int(value)

    threads, events = figure("SELECT count(*) FROM threads"), figure("SELECT count(*) FROM events")
    free = figure("PRAGMA freelist_count") * figure("PRAGMA page_size") / (1 << 20)
    findings = [
        Finding(
            Level.OK,
            "holds",
            f"{threads:,} threads with {events:,} events; {free:.1f} MiB of the file are free.",
        )
    ]
    if active := figure(f"SELECT count(*) FROM runs WHERE {_UNFINISHED}"):
        (ids,) = connection.execute(
            f"SELECT group_concat(run_id, ', ') FROM (SELECT run_id FROM runs WHERE {_UNFINISHED} ORDER BY created_at, run_id LIMIT ?)",
            (SHOWN,),
        ).fetchone()
        ids += ", …" if active > SHOWN else ""
        findings.append(
            Finding(
                Level.NOTE,
                "holds",
                f"{active:,} run(s) have not ended; the next start of a server goes on with: {ids}.",
            )
        )
    findings += _sealed(connection)
    if waiting := figure("SELECT count(*) FROM approvals WHERE status = 'pending'"):
        findings.append(Finding(Level.NOTE, "holds", f"{waiting:,} approval(s) wait for a person."))
    return findings + _timed(connection)


_UNFINISHED = "status IN ('pending', 'running', 'cancelling')"


def _timed(connection: sqlite3.Connection) -> list[Finding]:
    """What is to be done at a time."""
    timers, schedules = connection.execute(
        "SELECT (SELECT count(*) FROM timers), (SELECT count(*) FROM schedules WHERE enabled)"
    ).fetchone()
    if not timers and not schedules:
        return []
    return [
        Finding(
            Level.NOTE,
            "holds",
            f"{timers:,} timer(s) and {schedules:,} schedule(s) wait for their time.",
        )
    ]


def _sealed(connection: sqlite3.Connection) -> list[Finding]:
    """Whether the file is encrypted, and what was found to be tampered with. What is sealed is not
    opened here: the doctor has no key."""
    ids = [id for (id,) in connection.execute("SELECT key_id FROM seals ORDER BY key_id")]
    findings = (
        [Finding(Level.OK, "sealed", f"What it holds is encrypted, with the key {', '.join(ids)}.")]
        if ids
        else []
    )
    found = [
        reason
        for (reason,) in connection.execute(
            "SELECT tampered FROM threads WHERE tampered IS NOT NULL ORDER BY thread_id"
        )
    ]
    return findings + (_found("sealed", found, "") if found else [])
