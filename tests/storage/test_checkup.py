"""What `assent doctor` finds: nothing in a sound database, however it is used meanwhile; and each
thing that can be wrong."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assent.cli.app import app
from assent.core.approval import ApprovalStatus
from assent.core.clock import Clock
from assent.core.rows import NotificationStatus, RunStatus, ThreadStatus
from assent.runs.uploads import Uploads
from assent.storage.base import Change
from assent.storage.folder_files import folder_of
from assent.storage.sqlite import SqliteStorage, database
from assent.storage.sqlite.checkup import SHOWN, Level, check_up
from tests.runs.harness import sent
from tests.storage.samples import (
    approval,
    assistant,
    assistant_version,
    notification,
    run,
    schedule,
    thread,
    timer,
    token,
)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database with something of everything: a busy, a waiting and an idle thread, one that was
    cut, and one that was erased."""
    path = tmp_path / "assent.db"
    waiting = [
        approval(name, thread_id="waiting", run_id="paused", status=ApprovalStatus.PENDING)
        for name in ("a1", "a2")
    ]
    rows = (
        thread("busy", status=ThreadStatus.BUSY, run_id="active", pending=()),
        run("active", thread_id="busy", status=RunStatus.RUNNING, ended_at=None),
        run("behind", thread_id="busy", status=RunStatus.PENDING, ended_at=None),
        run("later", thread_id="idle", status=RunStatus.PENDING, ended_at=None),
        # One stands at a reminder, and one at the end.
        timer("a1", kind="approval", thread_id="waiting"),
        timer("a2", kind="approval", thread_id="waiting", due_at=waiting[1].expires_at),
        schedule(enabled=True),
        timer("schedule:s", kind="schedule", due_at=schedule().next_at),
        schedule("off", next_at=None),
        assistant("as"),
        *(assistant_version(f"as:{number}") for number in (1, 2, 3)),
        notification("told", status=NotificationStatus.DELIVERED, next_at=None),
        notification("to tell"),
        thread("waiting", run_id="paused"),
        run("paused", thread_id="waiting", status=RunStatus.INTERRUPTED),
        *waiting,
        thread("idle", status=ThreadStatus.IDLE, pending=()),
    )
    events = [token(name) for name in ("busy", "idle", "idle", "idle", "erased", "cut", "cut")]
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=rows, events=tuple(events)))
        await storage.commit(Change(erase="erased"))
        await storage.remove_events(events[-1].ts - timedelta(seconds=-1))
        await storage.commit(Change(events=(token("idle"), token("idle"), token("idle"))))
    return path


def wrong(path: Path) -> list[str]:
    return [
        f"{finding.subject}: {finding.sentence}"
        for finding in check_up(path)
        if finding.level is Level.WRONG
    ]


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def sentences(path: Path) -> str:
    return "\n".join(finding.sentence for finding in check_up(path))


def content(path: Path) -> bytes:
    return path.read_bytes()


def overwrite(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(content(path).replace(old, new))


async def test_a_sound_database_is_called_so(path: Path) -> None:
    before = content(path)
    assert wrong(path) == []
    said = sentences(path)
    assert "No server has it open" in said
    assert "3 threads with 3 events" in said
    assert (
        "3 run(s) of the agent 'clerk' have not ended; the next server that has this agent goes on "
        "with: active, behind, later." in said
    )
    assert "3 timer(s) and 1 schedule(s) wait for their time." in said
    assert "2 approval(s) wait for a person" in said
    assert content(path) == before
    # One that was asked to stop is its thread's as long as it has not.
    sql(path, "UPDATE runs SET status = 'cancelling' WHERE run_id = 'active'")
    assert wrong(path) == []
    # It goes on working afterwards.
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(events=(token("idle"),)))


async def test_it_tells_which_runs_wait_for_an_agent_that_is_not_there(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        waiting = run("other", thread_id="idle", agent="miner", status=RunStatus.PENDING)
        await storage.commit(Change(rows=(waiting,)))
        await storage.heartbeat("w", agents={"clerk"})
        said = sentences(path)
        assert "3 run(s) of the agent 'clerk' have not ended: active, behind, later." in said
        assert "1 run(s) of the agent 'miner' are left as they are, since the server does" in said
        assert wrong(path) == []


async def test_it_may_be_looked_over_while_a_server_writes(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        row = thread("new", pending=(), status=ThreadStatus.IDLE)
        for _ in range(20):
            row = replace(row, version=row.version + 1) if await storage.thread("new") else row
            await storage.commit(Change(rows=(row,), events=(token("new"),)))
            assert wrong(path) == []
        assert "A server has it open" in sentences(path)
        await storage.commit(Change(events=(token("new"),)))


FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (
        lambda path: sql(path, "DELETE FROM events WHERE thread_id = 'idle' AND seq = 5"),
        "numbering: The thread 'idle' should have the events 4",
    ),
    (
        lambda path: sql(path, "DELETE FROM events WHERE thread_id = 'idle' AND seq = 4"),
        "numbering: The thread 'idle'",
    ),
    (
        lambda path: sql(path, "UPDATE log_heads SET seq = 9 WHERE thread_id = 'idle'"),
        "numbering: The thread 'idle' should have .* 4 to 9",
    ),
    (
        lambda path: sql(path, "UPDATE events SET seq = 9 WHERE thread_id = 'idle' AND seq = 6"),
        "numbering: .*from 4 to 9",
    ),
    (
        lambda path: sql(path, "DELETE FROM log_heads WHERE thread_id = 'idle'"),
        "numbering: .*no record of its last number",
    ),
    (
        lambda path: sql(
            path,
            "DELETE FROM approvals WHERE approval_id = 'a2'",
            "DELETE FROM timers WHERE timer_id = 'a2'",
        ),
        "approvals: .*waits for the approval 'a2', which does not exist",
    ),
    (
        lambda path: sql(
            path,
            "UPDATE approvals SET status = 'rejected' WHERE approval_id = 'a2'",
            "DELETE FROM timers WHERE timer_id = 'a2'",
        ),
        "approvals: .*waits for the approval 'a2', which is rejected",
    ),
    (
        lambda path: sql(path, "DELETE FROM threads WHERE thread_id = 'waiting'"),
        "approvals: The approval 'a1' is pending, but its thread",
    ),
    (
        lambda path: sql(
            path,
            "UPDATE threads SET pending = '[]' WHERE thread_id = 'waiting'",
            "DELETE FROM approvals",
            "DELETE FROM timers WHERE kind = 'approval'",
        ),
        "approvals: The thread 'waiting' is interrupted, but waits for no approval",
    ),
    (
        lambda path: sql(path, "DELETE FROM runs WHERE run_id = 'active'"),
        "runs: The thread 'busy' is busy with the run 'active', which does not",
    ),
    (
        lambda path: sql(path, "UPDATE runs SET status = 'success'"),
        "runs: .*'active', which is success",
    ),
    (
        lambda path: sql(
            path, "UPDATE threads SET status = 'idle', pending = '[]' WHERE thread_id = 'busy'"
        ),
        "runs: The run 'active' is running, but",
    ),
    (
        lambda path: sql(
            path,
            "UPDATE threads SET run_id = 'behind' WHERE thread_id = 'busy'",
            "UPDATE runs SET status = 'cancelling'",
        ),
        "runs: The run 'active' is cancelling, but",
    ),
    (
        lambda path: sql(path, "DELETE FROM threads WHERE thread_id = 'idle'"),
        "runs: The run 'later' waits for its thread 'idle', which does not",
    ),
    (
        lambda path: sql(path, "DELETE FROM timers WHERE timer_id = 'a2'"),
        "timers: The approval 'a2' expires at 2026-01-03T12:00:00.123456.*, but has no timer",
    ),
    (
        lambda path: sql(
            path, "UPDATE timers SET due_at = '2026-02-01T00:00:00.000000Z' WHERE timer_id = 'a2'"
        ),
        "timers: The approval 'a2' expires .* its timer is at 2026-02-01",
    ),
    (
        lambda path: sql(
            path,
            "UPDATE timers SET timer_id = 'gone' WHERE timer_id = 'a1'",
            "UPDATE approvals SET expires_at = NULL",
        ),
        "timers: There is a timer of the approval 'gone', which does not exist",
    ),
    (
        lambda path: sql(
            path,
            "UPDATE approvals SET status = 'expired' WHERE approval_id = 'a1'",
            "UPDATE threads SET pending = '[\"a2\"]' WHERE thread_id = 'waiting'",
        ),
        "timers: There is a timer of the approval 'a1', which is expired",
    ),
    (
        lambda path: sql(path, "DELETE FROM timers WHERE kind = 'schedule'"),
        "timers: The schedule 's' is next due at .*, but has no timer",
    ),
    (
        lambda path: sql(path, "UPDATE schedules SET next_at = NULL"),
        "timers: The schedule 's' is next due at no time, but its timer is at",
    ),
    (
        lambda path: sql(path, "DELETE FROM schedules"),
        "timers: There is a timer 'schedule:s' of a schedule that does not exist",
    ),
    (
        lambda path: sql(path, "DELETE FROM assistant_versions WHERE number = 2"),
        "assistants: The assistant 'as' is at its version 2, which does not exist",
    ),
    (
        lambda path: sql(path, "UPDATE assistants SET last_number = 2"),
        "assistants: There is the version 'as:3', but the last one of its assistant is 2",
    ),
    (
        lambda path: sql(
            path, "UPDATE assistant_versions SET assistant_id = 'gone' WHERE number = 1"
        ),
        "assistants: There is the version 'as:1' of an assistant that does not exist",
    ),
    (
        lambda path: sql(path, "UPDATE notifications SET next_at = NULL"),
        "notifications: The notification 'to tell' is pending, to the endpoint 'hook', and to be sent at no time",
    ),
    (
        lambda path: sql(
            path, "UPDATE notifications SET status = 'dead' WHERE notification_id = 'to tell'"
        ),
        "notifications: The notification 'to tell' is dead",
    ),
    (
        lambda path: sql(
            path, "UPDATE notifications SET endpoint = '' WHERE notification_id = 'told'"
        ),
        "notifications: The notification 'told' is delivered, to the endpoint ''",
    ),
    (
        lambda path: sql(path, "PRAGMA user_version = 999"),
        "schema: It is of a newer Assent: schema 999",
    ),
    (
        lambda path: sql(path, "UPDATE migrations SET name = 'other'"),
        "schema: .*the migrations that it records",
    ),
    (
        lambda path: sql(path, "PRAGMA application_id = 7"),
        "schema: This is the database of another program",
    ),
    (lambda path: path.chmod(0o644), "modes: assent.db is -rw-r--r--.*chmod 600"),
    (lambda path: path.write_bytes(b"Dear diary, " * 1000), "file: .*cannot be read as a database"),
    (lambda path: path.unlink(), "file: There is no database at"),
]


@pytest.mark.parametrize(
    ("damage", "found"),
    FAULTS,
    ids=[found.split(":")[0] + str(n) for n, (_, found) in enumerate(FAULTS)],
)
async def test_each_fault_is_found(path: Path, damage: Callable[[Path], None], found: str) -> None:
    damage(path)
    problems = wrong(path)
    assert any(re.match(found, problem) for problem in problems), problems
    assert {problem.split(":")[0] for problem in problems} == {found.split(":")[0]}


async def test_a_damaged_page_is_found(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        await storage.commit(
            Change(
                rows=tuple(
                    thread(f"needle-{n}", status=ThreadStatus.IDLE, pending=()) for n in range(50)
                )
            )
        )
    overwrite(path, b"needle-7", b"noodle-7")
    assert any(problem.startswith("integrity: ") for problem in wrong(path))


async def test_many_faults_of_a_kind_are_counted(path: Path) -> None:
    sql(
        path,
        *[f"INSERT INTO log_heads (thread_id, seq) VALUES ('x{n}', 3)" for n in range(SHOWN + 4)],
    )
    problems = wrong(path)
    assert len(problems) == SHOWN + 1
    assert problems[-1] == "numbering: And 4 more of this kind."


async def test_an_upload_without_its_bytes(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        uploads = Uploads(storage, Clock())
        kept, lost = [(await sent(uploads)).file_id for _ in range(2)]
    assert wrong(path) == []
    assert "Each upload has its bytes." in sentences(path)
    (bytes_of_kept,) = folder_of(path).glob(f"??/{kept}")
    (bytes_of_lost,) = folder_of(path).glob(f"??/{lost}")
    bytes_of_lost.unlink()
    (problem,) = wrong(path)
    assert problem.startswith(f"uploads: The bytes of the upload {lost} are gone from ")

    bytes_of_kept.chmod(0o644)
    assert f"modes: {kept} is -rw-r--r--" in wrong(path)[0]


async def test_an_older_schema_is_no_fault(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = database.migrations()
    newest = database.Migration(known[-1].number + 1, "made_up", "")
    monkeypatch.setattr(database, "migrations", lambda: (*known, newest))
    assert wrong(path) == []
    assert f"the next start of a server brings it to {newest.number}" in sentences(path)


async def test_the_command_says_it_and_its_exit_status_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSENT_DATABASE", f"sqlite:///{path}")
    well = CliRunner().invoke(app, ["doctor"])
    assert well.exit_code == 0
    lines = well.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:11]] == [
        *(["ok", "file"], ["ok", "modes"], ["ok", "schema"], ["ok", "integrity"]),
        *(
            ["ok", "numbering"],
            ["ok", "approvals"],
            ["ok", "runs"],
            ["ok", "timers"],
            ["ok", "notifications"],
            ["ok", "assistants"],
            ["ok", "uploads"],
        ),
    ]
    # Every sentence begins in the same column.
    assert {line[:22][-2:] for line in lines} == {"  "}
    sql(path, "DELETE FROM events WHERE thread_id = 'idle' AND seq = 5")
    ill = CliRunner().invoke(app, ["doctor"])
    assert ill.exit_code == 1
    assert (
        "WRONG  numbering      The thread 'idle' should have the events 4 to 6, and has 2"
        in ill.stdout
    )
    assert "1 finding(s) need your attention" in ill.stderr
