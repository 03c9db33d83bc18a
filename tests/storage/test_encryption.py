"""Encryption at rest, through the file: nothing of what was said can be read in it, and nothing
that was changed in it is believed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint

from assent.core.access import Owner, Sight
from assent.core.clock import Clock
from assent.core.decisions import Edit
from assent.core.errors import ConfigurationError, NotFound, Tampered
from assent.core.events import Done
from assent.core.logs import feed_of_agent
from assent.core.rows import RunStatus, ThreadStatus
from assent.storage.base import Change, Page
from assent.storage.sqlite import SqliteSaver, SqliteStorage
from assent.storage.sqlite.checkup import Level, check_up
from tests.storage.samples import (
    NOON,
    approval,
    assistant,
    assistant_version,
    effect,
    link,
    notification,
    run,
    schedule,
    thread,
    timer,
    token,
)
from tests.support.database import sql
from tests.support.keys import KEY, key
from tests.support.rows import replace

# Hundreds of files, each changed in its own place.
pytestmark = pytest.mark.slow

SECRET = "swordfish"
OTHER = key("2027", "o")


def open_(path: Path, keys: str | None = KEY) -> Any:
    return SqliteStorage.open(path, Clock(now=lambda: NOON), encryption_key=keys)


def contents(path: Path) -> bytes:
    """Every byte of the database and of the files beside it."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def swap(path: Path, table: str, column: str, one: str, other: str) -> None:
    """Exchange a column's values in two rows, which conditions name."""
    ((first,), (second,)) = (
        sql(path, f"SELECT {column} FROM {table} WHERE {which}")[0] for which in (one, other)
    )
    assert first != second
    for value, which in ((second, one), (first, other)):
        sql(path, f"UPDATE {table} SET {column} = ? WHERE {which}", value)


def flip(path: Path, table: str, column: str, which: str) -> None:
    """Change one bit in the middle of a value."""
    ((value,),) = sql(path, f"SELECT {column} FROM {table} WHERE {which}")
    middle = len(value) - 20
    sql(
        path,
        f"UPDATE {table} SET {column} = ? WHERE {which}",
        value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :],
    )


def at(thread_id: str, checkpoint_id: str | None = None, ns: str = "") -> Any:
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": ns,
            **({"checkpoint_id": checkpoint_id} if checkpoint_id else {}),
        }
    }


async def put(
    saver: BaseCheckpointSaver[Any],
    number: int,
    thread_id: str = "t",
    parent: int | None = None,
    ns: str = "",
    **values: Any,
) -> Any:
    """Put a checkpoint with these values, all new."""
    versions = dict.fromkeys(values, number)
    checkpoint = {
        **empty_checkpoint(),
        "id": f"{number:08}",
        "channel_values": values,
        "channel_versions": versions,
    }
    metadata = {"source": "loop", "step": number, "parents": {}, "said": SECRET}
    before = at(thread_id, f"{parent:08}" if parent else None, ns)
    return await saver.aput(before, checkpoint, metadata, versions)  # type: ignore[arg-type]


async def a_bit_of_everything(storage: SqliteStorage) -> None:
    """Two threads with all kinds of rows and values, all of which hold the secret."""
    said = {"said": f"{SECRET} {'x' * 300}"}
    for name in ("t", "u"):
        await storage.commit(
            Change(
                rows=(
                    thread(name, metadata=said),
                    run(
                        f"run-{name}",
                        thread_id=name,
                        status=RunStatus.RUNNING,
                        input=said,
                        error=said,
                        metadata=said,
                    ),
                    approval(
                        f"approval-{name}",
                        thread_id=name,
                        args=said,
                        schema=said,
                        preview=said,
                        decision=Edit(args=said),
                    ),
                    approval(
                        f"bare-{name}",
                        thread_id=name,
                        args=None,
                        schema=None,
                        preview=None,
                        decision=None,
                    ),
                    effect(f"effect-{name}", thread_id=name, outcome=said),
                    timer(f"timer-{name}", thread_id=name, payload=said),
                    schedule(f"schedule-{name}", thread_id=name, input=said, metadata=said),
                    notification(f"notification-{name}", thread_id=name, payload=said),
                    link(f"link-{name}", thread_id=name),
                    assistant(f"assistant-{name}", config=said, context=said, metadata=said),
                    assistant_version(
                        f"assistant-{name}:1", config=said, context=said, metadata=said
                    ),
                    timer(f"free-timer-{name}", thread_id="", payload=said),
                    schedule(f"free-schedule-{name}", thread_id="", input=said, metadata=said),
                ),
                events=tuple(token(name, f"{SECRET} {number}") for number in range(3)),
            )
        )
        for number in (1, 2, 3):
            messages = [HumanMessage(f"{SECRET} {each}", id=str(each)) for each in range(number)]
            large, same = f"{SECRET} {number} " + "y" * 300, f"{SECRET} " + "z" * 300
            await put(
                storage.checkpointer,
                number,
                name,
                number - 1 or None,
                messages=messages,
                large=large,
                other=large,
                same=same,
                small=SECRET,
            )
        await put(
            storage.checkpointer,
            1,
            name,
            ns="sub",
            messages=[HumanMessage(SECRET, id="0")],
            large=f"{SECRET} 1 " + "y" * 300,
        )
        for number in (1, 3):
            await storage.checkpointer.aput_writes(
                at(name, f"{number:08}"), [("messages", SECRET), ("large", SECRET)], "task-1"
            )
            await storage.checkpointer.aput_writes(
                at(name, f"{number:08}"), [("messages", SECRET)], "task-2"
            )


async def everything_of(storage: SqliteStorage, name: str) -> list[Any]:
    """Whatever can be read of a thread."""
    saver = storage.checkpointer
    return [
        await storage.thread(name),
        await storage.run(f"run-{name}"),
        await storage.approval(f"approval-{name}"),
        await storage.approval(f"bare-{name}"),
        await storage.effect(f"effect-{name}"),
        await storage.timer(f"timer-{name}"),
        await storage.schedule(f"schedule-{name}"),
        await storage.notification(f"notification-{name}"),
        await storage.link(f"link-{name}"),
        await storage.timer(f"free-timer-{name}"),
        await storage.schedule(f"free-schedule-{name}"),
        await storage.assistant(f"assistant-{name}"),
        await storage.assistant_version(f"assistant-{name}:1"),
        (await read_all(storage, name)),
        [each async for each in saver.alist({"configurable": {"thread_id": name}})],
        [await saver.aget_tuple(at(name, f"{number:08}")) for number in (1, 2, 3)],
        await saver.aget_tuple(at(name, ns="sub")),
        await saver.aget_delta_channel_history(config=at(name, "00000003"), channels=["large"]),
    ]


async def read_all(storage: SqliteStorage, name: str) -> list[Any]:
    entries: list[Any] = []
    while page := await storage.read_log(name, entries[-1].seq if entries else 0):
        entries += page
    return entries


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A file with a bit of everything; what is in the thread 'u'."""
    path = tmp_path_factory.mktemp("original") / "assent.db"

    async def fill() -> list[Any]:
        async with open_(path) as storage:
            await a_bit_of_everything(storage)
            return await everything_of(storage, "u")

    return path, asyncio.run(fill())


@pytest.fixture
def filled(original: tuple[Path, list[Any]], path: Path) -> list[Any]:
    """What is in the thread 'u' of `path`, a copy of that file."""
    file, of_u = original
    shutil.copytree(file.parent, path.parent, dirs_exist_ok=True)
    return of_u


# ── secrecy ──


async def test_no_byte_of_what_was_said_is_in_any_file(path: Path) -> None:
    async with open_(path) as storage:
        await a_bit_of_everything(storage)
        await storage.checkpointer.acopy_thread("t", "v")
        await storage.prune_checkpoints(["t"], 1)
        while_open = contents(path)
    assert SECRET.encode() not in while_open + contents(path)
    assert b"approval-t" in while_open


async def test_what_was_said_is_there_again_and_what_lists_are_asked_for_is_found(
    path: Path,
) -> None:
    async with open_(path) as storage:
        await a_bit_of_everything(storage)
        before = await everything_of(storage, "t")
    async with open_(path) as storage:
        assert await everything_of(storage, "t") == before
        assert [each.thread_id for each in (await storage.threads()).rows] == ["u", "t"]
        assert [each.run_id for each in await storage.runs(status=[RunStatus.RUNNING])] == [
            "run-t",
            "run-u",
        ]
        found = [
            each
            async for each in storage.checkpointer.alist(
                at("t"), filter={"said": SECRET, "step": 2}
            )
        ]
        assert [each.checkpoint["id"] for each in found] == ["00000002"]
        assert [
            each async for each in storage.checkpointer.alist(at("t"), filter={"said": "other"})
        ] == []
        await storage.checkpointer.acopy_thread("t", "v")
        copied = await storage.checkpointer.aget_tuple(at("v", "00000002"))
        original = await storage.checkpointer.aget_tuple(at("t", "00000002"))
        assert copied and original
        assert (copied.checkpoint, copied.metadata, copied.pending_writes) == (
            original.checkpoint,
            original.metadata,
            original.pending_writes,
        )


# ── the file and its keys ──


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (KEY, None, "is encrypted, with the key '2026', and no key is set. Set the keys"),
        (KEY, OTHER, "is sealed with the key '2026' too, which is not set"),
        (
            KEY,
            key("2026", "x"),
            "The key '2026' is not the one that the database .* was sealed with",
        ),
        (f"{OTHER},{KEY}", KEY, "is sealed with the key '2027' too, which is not set"),
        (
            None,
            KEY,
            "is not encrypted, and a file that is in use already is never encrypted afterwards. Name a new file",
        ),
    ],
)
async def test_a_file_is_opened_with_its_own_keys_or_not_at_all(
    path: Path, before: str | None, after: str | None, says: str
) -> None:
    if before == f"{OTHER},{KEY}":
        async with open_(path, KEY):
            pass
    async with open_(path, before) as storage:
        await storage.commit(Change(rows=(thread(),)))
    for opening in (open_(path, after), SqliteSaver.from_conn_string(path, encryption_key=after)):
        with pytest.raises(ConfigurationError, match=says) as raised:
            async with opening:
                pass
        assert "kkkk" not in str(raised.value)
    async with open_(path, before) as storage:
        assert await storage.thread("t") == thread()


async def test_an_empty_file_may_yet_be_encrypted(path: Path) -> None:
    async with open_(path, None):
        pass
    async with open_(path) as storage:
        await storage.commit(Change(rows=(thread(metadata={"said": SECRET}),)))
    assert SECRET.encode() not in contents(path)


async def test_after_a_rotation_all_that_is_new_has_the_new_key_and_the_old_still_opens(
    path: Path, filled: list[Any]
) -> None:
    async with open_(path, f"{OTHER},{KEY}") as storage:
        assert await everything_of(storage, "u") == filled
        await storage.commit(
            Change(
                rows=(thread("new"), approval("new", thread_id="new")),
                events=(token("new"), token("u")),
            )
        )
        await put(
            storage.checkpointer, 4, "u", 3, messages=[HumanMessage("new", id="0")], large="l" * 300
        )
        old = await storage.approval("approval-t")
        assert old is not None
        await storage.commit(Change(rows=(replace(old, version=2),)))
        assert await storage.approval("approval-t") == replace(old, version=2)
    with_new = [
        *sql(path, "SELECT metadata FROM threads WHERE thread_id = 'new'"),
        *sql(path, "SELECT args FROM approvals WHERE approval_id IN ('new', 'approval-t')"),
        *sql(path, "SELECT body FROM events WHERE thread_id = 'new' OR seq = 4"),
        *sql(path, "SELECT body FROM checkpoints WHERE checkpoint_id = '00000004'"),
        *sql(path, "SELECT metadata FROM checkpoints WHERE checkpoint_id = '00000004'"),
        *sql(path, "SELECT body FROM checkpoint_blobs ORDER BY rowid DESC LIMIT 1"),
    ]
    assert len(with_new) == 8
    assert all(value[:7] == b"\xa5\x01\x042027" for (value,) in with_new)
    assert (
        sql(path, "SELECT args FROM approvals WHERE approval_id = 'approval-u'")[0][0][:7]
        == b"\xa5\x01\x042026"
    )
    # Each new key is recorded once, and the first may be the old one again.
    async with open_(path, f"{KEY},{OTHER}") as storage:
        assert await storage.thread("new") == thread("new")
    assert sql(path, "SELECT key_id FROM seals") == [("2026",), ("2027",)]


async def test_what_was_sealed_in_one_file_opens_in_no_other_with_the_same_key(
    path: Path, tmp_path: Path
) -> None:
    for file in (path, tmp_path / "other.db"):
        async with open_(file) as storage:
            await storage.commit(Change(rows=(thread(),), events=(token(content=file.name),)))
    ((body,),) = sql(tmp_path / "other.db", "SELECT body FROM events")
    sql(path, "UPDATE events SET body = ?", body)
    async with open_(path) as storage:
        with pytest.raises(Tampered):
            await storage.read_log("t")


async def test_the_doctor_needs_no_key(path: Path) -> None:
    async with open_(path) as storage:
        sound = thread(status=ThreadStatus.IDLE, pending=(), run_id=None)
        await storage.commit(Change(rows=(sound,), events=(token(),)))
    findings = check_up(path)
    assert {finding.level for finding in findings} == {Level.OK}
    assert "What it holds is encrypted, with the key 2026." in [
        finding.sentence for finding in findings
    ]
    async with open_(path) as storage:
        await storage.distrust("t", "Something was changed.")
    assert [finding.sentence for finding in check_up(path) if finding.level is Level.WRONG] == [
        "Something was changed."
    ]


# ── tampering ──

T3 = "k = (SELECT k FROM checkpoint_threads WHERE thread_id = 't' AND ns = '') AND checkpoint_id = '00000003'"
T2 = T3.replace("3'", "2'")
U3 = T3.replace("'t'", "'u'")
FIRST_WRITE, SECOND_WRITE = (f"{T3} AND task_id = 'task-1' AND idx = {index}" for index in (0, 1))
SUB = "(SELECT k FROM checkpoint_threads WHERE thread_id = 't' AND ns = 'sub')"
ROOT1, SUB1 = T3.replace("3", "1"), f"k = {SUB} AND checkpoint_id = '00000001'"
OTHER_WRITE = f"{T3} AND task_id = 'task-2'"
APPROVAL = "approval_id = 'approval-t'"
EXCHANGE = [("large", "_"), ("other", "large"), ("_", "other")]

Tampering = Callable[[Path], None]


def statements(*texts: str) -> Tampering:
    def tamper(path: Path) -> None:
        for text in texts:
            sql(path, text)

    return tamper


def flipped(table: str, column: str, which: str) -> Tampering:
    return lambda path: flip(path, table, column, which)


def swapped(table: str, column: str, one: str, other: str) -> Tampering:
    return lambda path: swap(path, table, column, one, other)


def blob(thread_id: str, channel: str, checkpoint_id: str = "00000003", item: int = 0) -> str:
    """The condition that names where a channel's value is, or a list's item."""
    place = f"(SELECT json_extract(refs, '$.{channel}') FROM checkpoints WHERE {T3})".replace(
        "'t'", f"'{thread_id}'"
    ).replace("00000003", checkpoint_id)
    if channel == "messages":
        place = place.replace(".messages", ".messages[0][0]") + f" * {1 << 24} + {item}"
    return f"position = {place}"


ROWS: dict[str, Tampering] = {
    "an event's body flipped": flipped("events", "body", "thread_id = 't' AND seq = 2"),
    "two events swapped": swapped(
        "events", "body", "thread_id = 't' AND seq = 1", "thread_id = 't' AND seq = 2"
    ),
    "an event in the clear": statements(
        "UPDATE events SET body = '{}' WHERE thread_id = 't' AND seq = 3"
    ),
    "an event's type": statements(
        "UPDATE events SET type = 'done' WHERE thread_id = 't' AND seq = 3"
    ),
    "an event's number": statements("UPDATE events SET seq = 4 WHERE thread_id = 't' AND seq = 3"),
    "an event's run": statements(
        "UPDATE events SET run_id = 'run-u' WHERE thread_id = 't' AND seq = 3"
    ),
    "a run's usage taken away": statements("UPDATE runs SET usage = '{}' WHERE run_id = 'run-t'"),
    "a run's budget": statements("UPDATE runs SET budget = '{}' WHERE run_id = 'run-t'"),
    "a run's worker": statements("UPDATE runs SET worker = NULL WHERE run_id = 'run-t'"),
    "a run's attempt": statements("UPDATE runs SET attempt = 1 WHERE run_id = 'run-t'"),
    "a run's turn": statements("UPDATE runs SET priority = 9 WHERE run_id = 'run-t'"),
    "a timer's payload flipped": flipped("timers", "payload", "timer_id = 'timer-t'"),
    "a timer's time": statements(
        "UPDATE timers SET due_at = '2036-01-02T12:00:00.123456Z' WHERE timer_id = 'timer-t'"
    ),
    "a schedule's input flipped": flipped("schedules", "input", "schedule_id = 'schedule-t'"),
    "a schedule's time": statements(
        "UPDATE schedules SET cron = '* * * * *' WHERE schedule_id = 'schedule-t'"
    ),
    "a schedule enabled": statements(
        "UPDATE schedules SET enabled = 1 WHERE schedule_id = 'schedule-t'"
    ),
    "a thread's assistant": statements(
        "UPDATE threads SET assistant_id = 'eve' WHERE thread_id = 't'"
    ),
    "a notification's payload flipped": flipped(
        "notifications", "payload", "notification_id = 'notification-t'"
    ),
    "a notification's endpoint": statements(
        "UPDATE notifications SET endpoint = 'eve' WHERE notification_id = 'notification-t'"
    ),
    "a link's recipient": statements("UPDATE links SET recipient = 'eve' WHERE link_id = 'link-t'"),
    "a link unused": statements("UPDATE links SET used_at = NULL WHERE link_id = 'link-t'"),
    "an event added": statements(
        "INSERT INTO events SELECT thread_id, 4, run_id, type, at, body FROM events WHERE thread_id = 't' AND seq = 3"
    ),
    "a thread's metadata flipped": flipped("threads", "metadata", "thread_id = 't'"),
    "a thread's owner": statements("UPDATE threads SET owner = 'eve' WHERE thread_id = 't'"),
    "a thread's tenant": statements("UPDATE threads SET tenant = 'eves' WHERE thread_id = 't'"),
    "a thread's tenant taken away": statements(
        "UPDATE threads SET tenant = NULL WHERE thread_id = 't'"
    ),
    "a run's owner": statements("UPDATE runs SET owner = 'eve' WHERE run_id = 'run-t'"),
    "a run's tenant": statements("UPDATE runs SET tenant = 'eves' WHERE run_id = 'run-t'"),
    "a thread's status": statements("UPDATE threads SET status = 'idle' WHERE thread_id = 't'"),
    "a thread's status is none": statements(
        "UPDATE threads SET status = 'x', version = 'y' WHERE thread_id = 't'"
    ),
    "a thread's version is bytes": statements(
        "UPDATE threads SET version = x'00' WHERE thread_id = 't'"
    ),
    "a run's input in the clear": statements(
        """UPDATE runs SET input = '{"message": "pay"}' WHERE run_id = 'run-t'"""
    ),
    "a run's input and metadata swapped": statements(
        "UPDATE runs SET input = metadata, metadata = input WHERE run_id = 'run-t'"
    ),
    "a run's agent": statements("UPDATE runs SET agent = 'other' WHERE run_id = 'run-t'"),
    "an approval's args flipped": flipped("approvals", "args", APPROVAL),
    "an approval's args in the clear": statements(
        f"UPDATE approvals SET args = '{{}}' WHERE {APPROVAL}"
    ),
    "an approval's args taken away": statements(
        "UPDATE approvals SET args = NULL WHERE approval_id = 'approval-t'"
    ),
    "an approval's args as bytes in the clear": statements(
        "UPDATE approvals SET args = x'7b7d' WHERE approval_id = 'approval-t'"
    ),
    "two threads' args swapped": swapped(
        "approvals", "args", APPROVAL, "approval_id = 'approval-u'"
    ),
    "an approval's args and preview swapped": statements(
        f"UPDATE approvals SET args = preview, preview = args WHERE {APPROVAL}"
    ),
    "an approval's status": statements(
        "UPDATE approvals SET status = 'approved' WHERE approval_id = 'bare-t'"
    ),
    "an approval's decision": statements(
        "UPDATE approvals SET decision = '{}' WHERE approval_id = 'bare-t'"
    ),
    "an approval's tool": statements(
        "UPDATE approvals SET tool = 'wipe' WHERE approval_id = 'bare-t'"
    ),
    "an approval's digest": statements(
        "UPDATE approvals SET digest = 'd' WHERE approval_id = 'bare-t'"
    ),
    "what an approval allows": statements(
        """UPDATE approvals SET allowed = '["approve"]' WHERE approval_id = 'approval-t'"""
    ),
    "two threads' outcomes swapped": swapped(
        "effects", "outcome", "key = 'effect-t'", "key = 'effect-u'"
    ),
    "an effect's status": statements(
        "UPDATE effects SET status = 'started' WHERE key = 'effect-t'"
    ),
    "a checkpoint flipped": flipped("checkpoints", "body", T3),
    "a checkpoint's encoding": statements(f"UPDATE checkpoints SET type = 'bytes' WHERE {T3}"),
    "two checkpoints swapped": swapped("checkpoints", "body", T3, T2),
    "two threads' checkpoints swapped": swapped("checkpoints", "body", T3, U3),
    "an older checkpoint under a newer name": statements(
        f"UPDATE checkpoints SET checkpoint_id = '00000009' WHERE {T2}"
    ),
    "a checkpoint's parent": statements(
        f"UPDATE checkpoints SET parent_id = '00000001' WHERE {T3}"
    ),
    "a checkpoint's metadata flipped": flipped("checkpoints", "metadata", T3),
    "a checkpoint's metadata in the clear": statements(
        f"UPDATE checkpoints SET metadata = '{{}}' WHERE {T3}"
    ),
    "two checkpoints' metadata swapped": swapped("checkpoints", "metadata", T3, T2),
    "two channels exchanged": statements(
        *(
            f"UPDATE checkpoints SET refs = replace(refs, '{old}', '{new}') WHERE {T3}"
            for old, new in EXCHANGE
        ),
    ),
    "an older value referred to": statements(
        f"UPDATE checkpoints SET refs = (SELECT refs FROM checkpoints WHERE {T2}) WHERE {T3}"
    ),
    "a list cut short": statements(
        f"UPDATE checkpoints SET refs = replace(refs, ',0,3]]', ',0,2]]') WHERE {T3}"
    ),
    "two namespaces' checkpoints swapped": swapped("checkpoints", "body", ROOT1, SUB1),
    "two namespaces' metadata swapped": swapped("checkpoints", "metadata", ROOT1, SUB1),
    "a value's encoding": statements(
        f"UPDATE checkpoint_blobs SET type = 'bytes' WHERE {blob('t', 'large')}"
    ),
    "a message's encoding": statements(
        f"UPDATE checkpoint_blobs SET type = 'bytes' WHERE {blob('t', 'messages')}"
    ),
    "a write's encoding": statements(
        f"UPDATE checkpoint_writes SET type = 'bytes' WHERE {FIRST_WRITE}"
    ),
    "a write's number": statements(f"UPDATE checkpoint_writes SET idx = 9 WHERE {FIRST_WRITE}"),
    "a write's path": statements(
        f"UPDATE checkpoint_writes SET task_path = 'z' WHERE {FIRST_WRITE}"
    ),
    "a write in another namespace": statements(
        f"UPDATE checkpoint_writes SET k = {SUB} WHERE {T3.replace('3', '1')}"
    ),
    "a value flipped": flipped("checkpoint_blobs", "body", blob("t", "large")),
    "two channels' values swapped": swapped(
        "checkpoint_blobs", "body", blob("t", "large"), blob("t", "other")
    ),
    "two checkpoints' values swapped": swapped(
        "checkpoint_blobs", "body", blob("t", "large"), blob("t", "large", "00000002")
    ),
    "two threads' values swapped": swapped(
        "checkpoint_blobs", "body", blob("t", "large"), blob("u", "large")
    ),
    "a value in the clear": statements(
        f"UPDATE checkpoint_blobs SET body = x'a3706179' WHERE {blob('t', 'large')}"
    ),
    "a message flipped": flipped("checkpoint_blobs", "body", blob("t", "messages")),
    "two messages swapped": swapped(
        "checkpoint_blobs", "body", blob("t", "messages"), blob("t", "messages", item=1)
    ),
    "two threads' messages swapped": swapped(
        "checkpoint_blobs", "body", blob("t", "messages"), blob("u", "messages")
    ),
    "two threads exchanged": statements(
        "UPDATE checkpoint_threads SET thread_id = replace(thread_id, 't', 'x')",
        "UPDATE checkpoint_threads SET thread_id = 't' WHERE thread_id = 'u'",
    ),
    "a namespace renamed": statements(
        "UPDATE checkpoint_threads SET ns = 'other' WHERE thread_id = 't' AND ns = 'sub'",
        "UPDATE checkpoint_threads SET ns = 'sub' WHERE thread_id = 't' AND ns = ''",
    ),
    "a write flipped": flipped("checkpoint_writes", "body", FIRST_WRITE),
    "a write in the clear": statements(
        f"UPDATE checkpoint_writes SET body = x'a3706179' WHERE {T3}"
    ),
    "two channels' writes swapped": swapped("checkpoint_writes", "body", FIRST_WRITE, SECOND_WRITE),
    "two tasks' writes swapped": swapped("checkpoint_writes", "body", FIRST_WRITE, OTHER_WRITE),
    "a write to another channel": statements(
        f"UPDATE checkpoint_writes SET channel = 'small' WHERE {T3} AND task_id = 'task-2'"
    ),
    "an older checkpoint's write": statements(
        f"UPDATE checkpoint_writes SET checkpoint_id = '00000002' WHERE {T3.replace('3', '1')}"
    ),
}
"""What another program does to the thread 't' of the file."""


@pytest.mark.parametrize("case", ROWS)
async def test_what_was_changed_is_refused_and_what_was_not_is_there(
    path: Path, filled: list[Any], case: str
) -> None:
    ROWS[case](path)
    swapped = "two threads" in case
    async with open_(path) as storage:
        with pytest.raises(Tampered, match="is not what Assent stored there") as raised:
            await everything_of(storage, "t")
        assert raised.value.details["thread_id"] == "t"
        assert SECRET not in str(raised.value)
        if not swapped:
            assert await everything_of(storage, "u") == filled


async def test_an_older_version_of_a_row_cannot_be_put_back_in_parts(path: Path) -> None:
    async with open_(path) as storage:
        first = approval("a", args={"amount": 1}, version=1)
        await storage.commit(Change(rows=(first,)))
        ((before,),) = sql(path, "SELECT args FROM approvals")
        await storage.commit(Change(rows=(replace(first, args={"amount": 2}, version=2),)))
    sql(path, "UPDATE approvals SET args = ?", before)
    async with open_(path) as storage:
        with pytest.raises(Tampered):
            await storage.approval("a")


@pytest.mark.usefixtures("filled")
async def test_events_before_the_one_that_was_changed_are_still_told(path: Path) -> None:
    flip(path, "events", "body", "thread_id = 't' AND seq = 3")
    async with open_(path) as storage:
        assert [entry.seq for entry in await storage.read_log("t")] == [1, 2]
        with pytest.raises(Tampered, match="the event '3'"):
            await storage.read_log("t", 2)


@pytest.mark.usefixtures("filled")
async def test_what_belongs_to_no_thread_is_left_out_and_told_of_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flip(path, "timers", "payload", "timer_id = 'free-timer-t'")
    flip(path, "schedules", "metadata", "schedule_id = 'free-schedule-t'")
    async with open_(path) as storage:
        for _ in range(3):
            assert sorted(each.timer_id for each in await storage.due_timers(NOON)) == [
                "free-timer-u",
                "timer-t",
                "timer-u",
            ]
            listed = [each.schedule_id for each in (await storage.schedules()).rows]
            assert listed == ["schedule-u", "schedule-t", "free-schedule-u"]
        with pytest.raises(
            Tampered,
            match=r"In the database, the timer 'free-timer-t' is not what .* It is not used any more",
        ):
            await storage.timer("free-timer-t")
        with pytest.raises(Tampered, match="the schedule 'free-schedule-t'"):
            await storage.schedule("free-schedule-t")
    assert len(caplog.messages) == 2
    assert SECRET not in caplog.text


OF_ASSISTANTS: dict[str, Tampering] = {
    "an assistant's config flipped": flipped(
        "assistants", "config", "assistant_id = 'assistant-t'"
    ),
    "an assistant's authors": statements(
        "UPDATE assistants SET requested_by = '[]' WHERE assistant_id = 'assistant-t'"
    ),
    "a version's context flipped": flipped(
        "assistant_versions", "context", "version_id = 'assistant-t:1'"
    ),
    "a version's agent": statements(
        "UPDATE assistant_versions SET agent = 'eve' WHERE version_id = 'assistant-t:1'"
    ),
}


@pytest.mark.parametrize("case", OF_ASSISTANTS)
async def test_an_assistant_that_was_changed_is_not_used(
    path: Path, filled: list[Any], case: str
) -> None:
    OF_ASSISTANTS[case](path)
    async with open_(path) as storage:
        read = storage.assistant if "an assistant" in case else storage.assistant_version
        with pytest.raises(Tampered, match="the assistant") as raised:
            await read("assistant-t" if "an assistant" in case else "assistant-t:1")
        assert SECRET not in str(raised.value)
        assert await everything_of(storage, "u") == filled
        listed = [
            *(await storage.assistants()).rows,
            *(await storage.assistant_versions("assistant-t")).rows,
        ]
        assert len(listed) == 2


@pytest.mark.usefixtures("filled")
async def test_a_timer_that_was_changed_makes_its_thread_distrusted(path: Path) -> None:
    flip(path, "timers", "payload", "timer_id = 'timer-t'")
    async with open_(path) as storage:
        assert "timer-t" not in [each.timer_id for each in await storage.due_timers(NOON)]
        marked = await storage.thread("t")
        assert marked is not None
        assert "the timer 'timer-t'" in (marked.tampered or "")


@pytest.mark.usefixtures("filled")
async def test_no_effect_is_ever_left_out_for_it_would_be_had_again(path: Path) -> None:
    async with open_(path) as storage:
        assert [each.key for each in await storage.effects("t", "call")] == ["effect-t"]
    flip(path, "effects", "outcome", "key = 'effect-t'")
    async with open_(path) as storage:
        with pytest.raises(Tampered, match="the effect 'effect-t'"):
            await storage.effects("t", "call")


@pytest.mark.parametrize("waits", [True, False])
async def test_a_run_that_was_changed_neither_starts_nor_goes_on(path: Path, waits: bool) -> None:
    async with open_(path) as storage:
        for name in ("t", "u"):
            status = RunStatus.PENDING if waits else RunStatus.RUNNING
            row = run(f"run-{name}", thread_id=name, status=status, due_at=None, worker=None)
            await storage.commit(
                Change(rows=(thread(name, status=ThreadStatus.BUSY, run_id=row.run_id), row))
            )
    flip(path, "runs", "input", "run_id = 'run-t'")
    async with open_(path) as storage:
        for _ in range(2):
            if waits:
                found = await storage.due_runs(NOON, agents={"clerk"})
            else:
                found = await storage.orphaned_runs(agents={"clerk"})
            assert [each.run_id for each in found] == ["run-u"]
        marked = await storage.thread("t")
        assert marked is not None
        assert "the run 'run-t'" in (marked.tampered or "")
        # What waited has ended, for nobody would ever begin it.
        assert marked.status is (ThreadStatus.ERROR if waits else ThreadStatus.BUSY)
        assert sql(path, "SELECT status FROM runs WHERE run_id = 'run-t'") == [
            ("error" if waits else "running",)
        ]


async def test_what_was_used_is_summed_whatever_somebody_has_put_there(path: Path) -> None:
    async with open_(path) as storage:
        await storage.commit(
            Change(rows=tuple(run(f"r{number}", usage={"tokens": 2}) for number in range(3)))
        )
        sql(path, "UPDATE runs SET usage = 'no json' WHERE run_id = 'r1'")
        sql(
            path,
            """UPDATE runs SET usage = '{"tokens": "many", "usd": null}' WHERE run_id = 'r2'""",
        )
        assert await storage.usage() == {"tokens": 2}


@pytest.mark.parametrize(
    "change",
    [
        "votes = '[]'",
        "policy = '{}'",
        "policy = '{}', policy_digest = ''",
        "risk = 'low'",
        "roles = '[]'",
        "step = 0",
        "step_at = NULL",
        "assignees = '[\"eve\"]'",
    ],
)
async def test_nothing_that_people_must_say_can_be_taken_from_an_approval(
    path: Path, change: str
) -> None:
    async with open_(path) as storage:
        await storage.commit(Change(rows=(approval(),)))
        sql(path, f"UPDATE approvals SET {change}")
        with pytest.raises(Tampered):
            await storage.approval("a")


# ── what becomes of the thread ──


async def test_lists_leave_out_what_was_changed_lose_no_page_and_mark_the_thread(
    path: Path,
) -> None:
    async with open_(path) as storage:
        for number in range(9):
            when = NOON + timedelta(seconds=number)
            await storage.commit(
                Change(
                    rows=(
                        thread(f"t{number}", created_at=when, status=ThreadStatus.IDLE),
                        approval(f"a{number}", thread_id=f"t{number}", requested_at=when),
                    )
                )
            )
    flip(path, "approvals", "args", "approval_id = 'a2'")
    flip(path, "approvals", "args", "approval_id = 'a8'")
    flip(path, "threads", "metadata", "thread_id = 't5'")
    async with open_(path) as storage:
        assert await _paged(storage.approvals) == [f"a{number}" for number in (0, 1, 3, 4, 5, 6, 7)]
        assert await _paged(storage.threads) == [
            f"t{number}" for number in (8, 7, 6, 4, 3, 2, 1, 0)
        ]
        # From now on its row is one that can be read, and says what there was.
        assert await _paged(storage.threads) == [f"t{number}" for number in range(8, -1, -1)]
        marked = {
            each.thread_id: each for each in (await storage.threads(status=ThreadStatus.ERROR)).rows
        }
        assert sorted(marked) == ["t2", "t5", "t8"]
        assert "the approval 'a2'" in (marked["t2"].tampered or "")
        assert marked["t2"].metadata == thread().metadata
        assert "the thread 't5'" in (marked["t5"].tampered or "")
        assert marked["t5"].metadata == {}
        assert [entry.type for entry in await storage.read_log("t5")] == ["error"]


async def _paged(list_: Callable[..., Any]) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        page = await list_(limit=3, cursor=cursor)
        ids += [getattr(row, "approval_id", None) or row.thread_id for row in page.rows]
        if (cursor := page.next) is None:
            return ids


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize(
    "case", ["nothing", *(case for case in ROWS if case.startswith(("a thread's", "a run's")))]
)
async def test_a_thread_is_marked_whatever_is_left_of_its_rows(
    path: Path, case: str, stopped: bool
) -> None:
    if case != "nothing":
        ROWS[case](path)
    async with open_(path) as storage:
        for _ in range(2):
            await storage.distrust("t", "Something was changed.", stopped=stopped)
        marked = await storage.thread("t")
        assert marked is not None
        assert marked.tampered == "Something was changed."
        assert marked.status is (ThreadStatus.ERROR if stopped else ThreadStatus.BUSY)
        assert sql(path, "SELECT status FROM runs ORDER BY run_id") == [
            ("error" if stopped else "running",),
            ("running",),
        ]
        told = await storage.read_log("t", 3)
        assert [entry.type for entry in told] == (["error"] if stopped else [])
        if stopped:
            ended = await storage.run("run-t")
            assert ended is not None
            assert ended.error == {"code": "tampered", "message": "Something was changed."}
            assert b'"code":"tampered"' in told[0].body
        await storage.distrust("nobody", "Something was changed.")


OF_EVE = (Sight("own", Owner("eve", "acme")), Sight("own", Owner("ann", "eves")))


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "case", ["a thread's owner", "a thread's tenant", "a run's owner", "a run's tenant"]
)
async def test_whose_it_is_cannot_be_changed_in_the_file(path: Path, case: str) -> None:
    """Neither before it was noticed, nor once the thread is distrusted for it."""
    ROWS[case](path)
    async with open_(path) as storage:
        whole = await storage.run("run-u")
        assert whole is not None
        tenants = {sight.owner.tenant for sight in OF_EVE}
        feeds = {tenant: feed_of_agent(whole.agent, tenant) for tenant in tenants}
        told = [Done(thread_id=feed, run_id="run-t", about="t") for feed in feeds.values()]
        await storage.commit(Change(events=tuple(told)))
        for times in range(2):
            for sight in OF_EVE:
                reads = storage.seen_by(sight)
                assert await reads.read_log(feeds[sight.owner.tenant]) == ()
                with pytest.raises((Tampered, NotFound)):
                    await reads.read_log("t")
                with pytest.raises((Tampered, NotFound)):
                    await reads.newest_event("t", "run-t")
            if times == 0:
                await storage.distrust("t", "Something was changed.", stopped=True)
        for sight in OF_EVE:
            reads = storage.seen_by(sight)
            assert await reads.thread("t") is None
            assert await reads.run("run-t") is None
            assert await reads.approvals(thread_id="t") == Page(())
            assert await reads.latest_runs(thread_id="t") == Page(())
        marked = await storage.thread("t")
        assert marked is not None
        assert (marked.owner, marked.tenant) in ((whole.owner, whole.tenant), ("", None))


async def test_a_prune_passes_by_what_was_changed(path: Path) -> None:
    async with open_(path) as storage:
        await a_bit_of_everything(storage)
        for name in ("t", "u"):
            row = await storage.thread(name)
            assert row is not None
            idle = replace(row, status=ThreadStatus.IDLE, version=row.version + 1)
            await storage.commit(Change(rows=(idle,)))
    flip(path, "checkpoints", "body", T3)
    async with open_(path) as storage:
        await storage.prune_checkpoints(["t", "u"], 1)
        marked = await storage.thread("t")
        assert marked is not None
        assert marked.tampered is not None
    assert sql(
        path,
        "SELECT thread_id, count(*) FROM checkpoints JOIN checkpoint_threads USING (k) GROUP BY thread_id, ns",
    ) == [
        ("t", 3),
        ("t", 1),
        ("u", 1),
        ("u", 1),
    ]


async def test_a_thread_that_was_tampered_with_can_be_erased(path: Path, filled: list[Any]) -> None:
    for case in (
        "a thread's owner",
        "a run's agent",
        "a checkpoint flipped",
        "an event's body flipped",
    ):
        ROWS[case](path)
    async with open_(path) as storage:
        with suppress(Tampered):
            await storage.thread("t")
        await storage.distrust("t", "Something was changed.", stopped=True)
        marked = await storage.thread("t")
        assert marked is not None
        await storage.commit(Change(unchanged=(marked,), erase="t"))
        assert await storage.thread("t") is None
        assert await storage.checkpointer.aget_tuple(at("t")) is None
        assert await everything_of(storage, "u") == filled


# ── the saver alone ──


async def test_the_saver_alone_takes_a_key(path: Path) -> None:
    said = [HumanMessage(SECRET, id="1"), AIMessage(SECRET, id="2")]
    async with SqliteSaver.from_conn_string(path, encryption_key=KEY) as saver:
        await put(saver, 1, messages=said)
    assert SECRET.encode() not in contents(path)
    async with SqliteSaver.from_conn_string(path, encryption_key=KEY) as saver:
        found = await saver.aget_tuple(at("t"))
        assert found is not None
        assert found.checkpoint["channel_values"]["messages"] == said
    with pytest.raises(ConfigurationError, match="no key is set"):
        async with SqliteSaver.from_conn_string(path):
            pass
    with pytest.raises(ConfigurationError, match="does not begin with an id"):
        async with SqliteSaver.from_conn_string(path, encryption_key=""):
            pass
