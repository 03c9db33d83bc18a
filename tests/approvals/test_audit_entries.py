"""What the audit chain is told of approvals, as values; and where its head is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from assent.approvals.audit_entries import ACTIONS, audit_entries
from assent.core import events
from assent.core.audit import AuditAction, AuditEntry, AuditHead, Authentication
from assent.core.digest import call_digest
from assent.core.events import EVENT_TYPES, ApprovalEvent, Event
from assent.core.rows import Thread, ThreadStatus
from assent.notify.audit_head import publish_heads, to_file
from assent.storage.base import Change, Storage, together
from assent.storage.chain import heads_from_text, record_to_json
from assent.storage.sqlite import SqliteStorage
from tests.support.waiting import PATIENCE, until

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WORDS = "a secret that somebody wrote"
ABOUT: dict[str, Any] = {
    "ts": NOON,
    "thread_id": "t",
    "run_id": "r",
    "approval_id": "a",
    "kind": "tool",
    "tool": "pay",
}
ARGS = {"to": WORDS}

TOLD: tuple[ApprovalEvent, ...] = (
    events.ApprovalRequired(
        **ABOUT, args=ARGS, digest="asked", allowed=("approve",), preview=WORDS, expires_at=NOON
    ),
    events.ApprovalVoted(**ABOUT, decision="respond", by="bob", message=WORDS, votes=1, quorum=2),
    events.ApprovalVoted(**ABOUT, decision="approve", by="bob", grant="g", votes=1, quorum=2),
    events.ApprovalDecided(**ABOUT, decision="edit", by="bob", args=ARGS),
    events.ApprovalDecided(**ABOUT, decision="reject", by="bob", message=WORDS),
    events.ApprovalDecided(**ABOUT, decision="approve", by="bob", grant="g"),
    events.ApprovalEdited(**ABOUT, args=ARGS, digest="edited", by="bob"),
    events.ApprovalWithdrawn(**ABOUT, by="bob"),
    events.ApprovalDelegated(**ABOUT, by="bob", to="eve"),
    events.ApprovalDelegated(**ABOUT, by="bob", role="lead"),
    events.ApprovalCommented(**ABOUT, by="bob", text=WORDS),
    events.ApprovalReminder(**ABOUT, expires_at=NOON),
    events.ApprovalEscalated(**ABOUT, to=("lead",), expires_at=NOON),
    events.ApprovalExpired(**ABOUT),
    events.ApprovalCancelled(**ABOUT, by="bob"),
    events.ApprovalCancelled(**ABOUT),
    events.ApprovalSuperseded(**ABOUT, reason="It was asked anew."),
)


def entries(*told: Event) -> tuple[AuditEntry, ...]:
    return audit_entries(
        told, authentication=Authentication.API_KEY, digest="shown", policy="policy"
    )


def one(event: Event) -> AuditEntry:
    (entry,) = entries(event)
    return entry


def test_every_event_of_an_approval_is_audited_and_no_other() -> None:
    assert set(ACTIONS) == {
        kind for kind in EVENT_TYPES.values() if issubclass(kind, ApprovalEvent)
    }
    assert {type(event) for event in TOLD} == set(ACTIONS)
    others = (events.RunResumed(ts=NOON, thread_id="t", agent="clerk"), events.Done(thread_id="t"))
    made = entries(*TOLD, *others)
    assert [entry.action for entry in made] == [ACTIONS[type(event)] for event in TOLD]
    assert {(entry.at, entry.thread_id, entry.run_id, entry.approval_id) for entry in made} == {
        (NOON, "t", "r", "a")
    }


@pytest.mark.parametrize("event", TOLD, ids=lambda event: type(event).__name__)
def test_no_word_that_somebody_wrote_is_in_an_entry(event: ApprovalEvent) -> None:
    entry = one(event)
    text = json.dumps({field.name: str(getattr(entry, field.name)) for field in fields(entry)})
    assert "secret" not in text
    # What has no RFC 8785 form could not be stored.
    assert orjson.loads(orjson.dumps(dict(entry.detail))) == entry.detail


def test_what_somebody_wrote_can_be_proved_by_who_has_it() -> None:
    assert one(TOLD[3]).detail["args_digest"] == call_digest("pay", ARGS)
    assert (
        one(TOLD[4]).detail["message_digest"]
        == one(TOLD[10]).detail["message_digest"]
        == call_digest("message", WORDS)
    )
    assert one(TOLD[6]).detail["args_digest"] == "edited"
    assert "message_digest" not in one(TOLD[5]).detail


def test_it_is_said_how_he_was_known_who_did_it_and_when_it_was_nobody() -> None:
    known = [entry.authentication for entry in entries(*TOLD)]
    key, grant, time, itself = (
        Authentication.API_KEY,
        Authentication.GRANT,
        Authentication.TIME,
        Authentication.ASSENT,
    )
    assert known == [
        itself,
        key,
        grant,
        key,
        key,
        grant,
        key,
        key,
        key,
        key,
        key,
        time,
        time,
        time,
        key,
        itself,
        itself,
    ]
    assert [entry.actor for entry in entries(*TOLD) if entry.authentication in (time, itself)] == [
        ""
    ] * 6
    assert {entry.actor for entry in entries(*TOLD) if entry.authentication in (key, grant)} == {
        "bob"
    }


def test_it_is_said_what_he_was_shown_and_by_which_policy_it_was_judged() -> None:
    assert [entry.digest for entry in entries(*TOLD)] == ["asked", *["shown"] * (len(TOLD) - 1)]
    assert {entry.policy for entry in entries(*TOLD)} == {"policy"}


def test_two_changes_together_lose_nothing() -> None:
    """Whatever a change may have that is a list, both have."""

    def change(name: str) -> Change:
        row, read, gone = (
            Thread(
                thread_id=f"{name} {what}",
                owner="ann",
                status=ThreadStatus.IDLE,
                created_at=NOON,
                updated_at=NOON,
            )
            for what in ("written", "read", "removed")
        )
        entry = AuditEntry(
            at=NOON, action=AuditAction.ERASED, authentication=Authentication.LOCAL, thread_id=name
        )
        return Change(
            rows=(row,),
            unchanged=(read,),
            removed=(gone,),
            events=(events.Done(thread_id=name),),
            audit=(entry,),
        )

    first, second = change("a"), change("b")
    both = together(first, second)
    for field in fields(Change):
        if isinstance(getattr(first, field.name), tuple):
            assert getattr(both, field.name) == getattr(first, field.name) + getattr(
                second, field.name
            ), field.name


# ── the head ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        yield storage


class Sink:
    """Takes heads, but for the first few."""

    def __init__(self, refuses: int = 0) -> None:
        self.heads: list[AuditHead] = []
        self._refuses = refuses

    async def __call__(self, head: AuditHead) -> None:
        if self._refuses:
            self._refuses -= 1
            raise ConnectionError("It is down.")
        self.heads.append(head)

    async def until(self, number: int) -> None:
        await until(lambda: self.heads and self.heads[-1].number >= number)


async def add(storage: Storage) -> None:
    await storage.commit(Change(audit=(one(TOLD[1]),)))


async def test_a_head_is_sent_whenever_it_has_moved_and_at_the_end(storage: Storage) -> None:
    sink, down = Sink(), Sink(refuses=3)
    async with publish_heads(storage, [down, sink], timedelta(milliseconds=10)):
        await asyncio.sleep(0.05)
        assert sink.heads == []
        for number in (1, 2):
            await add(storage)
            await sink.until(number)
            await asyncio.sleep(0.05)
        await down.until(2)
    assert [head.number for head in sink.heads] == [1, 2]
    assert sink.heads[-1] == await storage.audit_head()
    seldom = Sink()
    async with publish_heads(storage, [seldom], timedelta(hours=1)):
        await seldom.until(2)
        await add(storage)
        await asyncio.sleep(0.05)
        assert [head.number for head in seldom.heads] == [2]
    assert [head.number for head in seldom.heads] == [2, 3]


async def test_a_sink_that_does_not_answer_holds_nobody_up(storage: Storage) -> None:
    async def stuck(head: AuditHead) -> None:
        await asyncio.Event().wait()

    sink = Sink()
    async with (
        asyncio.timeout(PATIENCE),
        publish_heads(storage, [stuck, sink], timedelta(milliseconds=10), last_seconds=0.1),
    ):
        await add(storage)
        await sink.until(1)
        await add(storage)
    assert [head.number for head in sink.heads][-1] == 2


async def test_a_file_has_the_newest_head_and_is_whole(storage: Storage, tmp_path: Path) -> None:
    place = tmp_path / "head"
    write = to_file(place)
    for number in range(1, 4):
        await add(storage)
        head = await storage.audit_head()
        assert head is not None
        await write(head)
        assert heads_from_text(await asyncio.to_thread(place.read_text)) == {number: {head.mac}}
    (record,) = (await storage.audit(limit=1)).rows
    assert record_to_json(record)["number"] == 1
    with pytest.raises(OSError, match="No such file"):
        await to_file(tmp_path / "none" / "head")(replace(head, number=9))
    assert names_of_heads(tmp_path) == ["head"]


def names_of_heads(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if "head" in file.name)
