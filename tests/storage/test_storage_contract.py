"""What every storage promises, whatever is behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from assent.core.access import Owner
from assent.core.approval import ApprovalStatus, Delegation, Target
from assent.core.errors import Conflict, Gone, InvalidRequest
from assent.core.events import Custom, Done, Token, decode
from assent.core.grant import Bound
from assent.core.policy import Policy, Risk
from assent.core.rows import (
    EffectStatus,
    Notification,
    NotificationStatus,
    Row,
    RunStatus,
    ThreadStatus,
)
from assent.storage.base import ApprovalOrder, Change, LogEntry, Storage, all_pages, together
from tests.storage.samples import (
    NOON,
    answer,
    api_key,
    approval,
    assistant,
    assistant_version,
    effect,
    grant,
    link,
    notification,
    run,
    schedule,
    session,
    thread,
    ticket,
    timer,
    token,
)
from tests.support.rows import replace
from tests.support.waiting import PATIENCE

Read = Callable[[Storage], Awaitable[Row | None]]


NEVER = 3600.0
"""Seconds that no test waits for."""


def fail(error: Exception) -> None:
    raise error


async def read_all(storage: Storage, thread_id: str) -> list[LogEntry]:
    """The whole log, page by page."""
    entries: list[LogEntry] = []
    while page := await storage.read_log(thread_id, entries[-1].seq if entries else 0):
        entries += page
    return entries


def seqs(entries: list[LogEntry] | tuple[LogEntry, ...]) -> list[int]:
    return [entry.seq for entry in entries]


# ── rows ──


@pytest.mark.parametrize(
    ("row", "other", "read"),
    [
        (thread(), thread(owner="bob"), lambda storage: storage.thread("t")),
        (run(), run(owner="bob"), lambda storage: storage.run("r")),
        (approval(), approval(owner="bob"), lambda storage: storage.approval("a")),
        (api_key(), api_key(roles=("admin",)), lambda storage: storage.api_key("key")),
        (session(), session(person="bob"), lambda storage: storage.session("session")),
        (effect(), effect(outcome="bob"), lambda storage: storage.effect("e")),
        (timer(), timer(payload={"k": "bob"}), lambda storage: storage.timer("i")),
        (timer(thread_id=""), timer(thread_id="", kind="bob"), lambda storage: storage.timer("i")),
        (schedule(), schedule(owner="bob"), lambda storage: storage.schedule("s")),
        (
            schedule(thread_id="", enabled=True),
            schedule(thread_id=""),
            lambda storage: storage.schedule("s"),
        ),
        (assistant(), assistant(name="bob"), lambda storage: storage.assistant("as")),
        (
            assistant_version(),
            assistant_version(config={}),
            lambda storage: storage.assistant_version("as:2"),
        ),
        (notification(), notification(endpoint="bob"), lambda storage: storage.notification("n")),
        (link(), link(recipient="eve"), lambda storage: storage.link("l")),
        (grant(), grant(bounds={"amount": Bound(any=True)}), lambda storage: storage.grant("g")),
        (answer(), answer(outcome=None), lambda storage: storage.answer("k")),
    ],
    ids=[
        *(
            "thread",
            "run",
            "approval",
            "key",
            "session",
            "effect",
            "timer",
            "timer of no thread",
            "schedule",
            "schedule of no thread",
            "assistant",
            "assistant version",
        ),
        *("notification", "link", "grant", "answer"),
    ],
)
class TestEveryRow:
    async def test_comes_back_as_it_was_written(
        self, storage: Storage, row: Row, other: Row, read: Read
    ) -> None:
        assert await read(storage) is None
        await storage.commit(Change(rows=(row,)))
        assert await read(storage) == row

    async def test_is_made_once(self, storage: Storage, row: Row, other: Row, read: Read) -> None:
        await storage.commit(Change(rows=(row,)))
        with pytest.raises(Conflict, match="exists already"):
            await storage.commit(Change(rows=(other,)))
        assert await read(storage) == row

    async def test_moves_one_version_at_a_time(
        self, storage: Storage, row: Row, other: Row, read: Read
    ) -> None:
        await storage.commit(Change(rows=(row,)))
        second = replace(other, version=2)
        await storage.commit(Change(rows=(second,)))
        assert await read(storage) == second
        for stale in (second, replace(row, version=4)):
            with pytest.raises(Conflict, match="has changed since it was read"):
                await storage.commit(Change(rows=(stale,)))
        assert await read(storage) == second

    async def test_that_is_not_there_cannot_be_moved(
        self, storage: Storage, row: Row, other: Row, read: Read
    ) -> None:
        with pytest.raises(Conflict, match="does not exist") as caught:
            await storage.commit(Change(rows=(replace(row, version=2),)))
        assert caught.value.details["kind"] == type(row).__name__.lower()
        assert await read(storage) is None

    async def test_may_be_required_not_to_have_moved(
        self, storage: Storage, row: Row, other: Row, read: Read
    ) -> None:
        bystander = thread("bystander")
        with pytest.raises(Conflict):
            await storage.commit(Change(rows=(bystander,), unchanged=(row,)))
        await storage.commit(Change(rows=(row,)))
        await storage.commit(Change(rows=(bystander,), unchanged=(row,)))
        with pytest.raises(Conflict):
            await storage.commit(
                Change(rows=(replace(bystander, version=2),), unchanged=(replace(row, version=2),))
            )
        assert await storage.thread("bystander") == bystander

    async def test_is_removed_as_it_was_read(
        self, storage: Storage, row: Row, other: Row, read: Read
    ) -> None:
        with pytest.raises(Conflict, match="does not exist"):
            await storage.commit(Change(removed=(row,)))
        await storage.commit(Change(rows=(row,)))
        with pytest.raises(Conflict, match="has changed since it was read"):
            await storage.commit(Change(removed=(replace(row, version=2),)))
        with pytest.raises(Conflict):
            await storage.commit(Change(removed=(row,), unchanged=(thread("nobody"),)))
        assert await read(storage) == row
        await storage.commit(Change(removed=(row,)))
        assert await read(storage) is None
        await storage.commit(Change(rows=(row,)))
        await storage.commit(Change(removed=(row,), rows=(other,)))
        assert await read(storage) == other


async def test_rows_with_nothing_optional_come_back_equal(storage: Storage) -> None:
    bare: list[Row] = [
        replace(thread(), agent=None, run_id=None, checkpoint_id=None, pending=(), metadata={}),
        replace(
            run(),
            started_at=None,
            ended_at=None,
            error=None,
            due_at=None,
            worker=None,
            cancel=None,
            at_checkpoint=None,
        ),
        replace(
            approval(),
            args=None,
            preview=None,
            expires_at=None,
            decision=None,
            decided_by=None,
            decided_at=None,
        ),
        replace(effect(), finished_at=None, outcome=None, status=EffectStatus.STARTED),
        replace(timer(), thread_id="", payload={}),
        replace(
            schedule(), thread_id="", next_at=None, last_at=None, last_run_id=None, metadata={}
        ),
        replace(assistant(), description=None, config={}, context={}, metadata={}),
        replace(assistant_version(), description=None, config={}, context={}, metadata={}),
        replace(notification(), next_at=None, last_error=None, delivered_at=None, payload={}),
        replace(link(), decisions=(), created_by="", used_at=None),
        replace(
            grant(),
            bounds={},
            roles=(),
            user="",
            used=0,
            revoked_by=None,
            revoked_at=None,
        ),
        replace(answer(), outcome=None),
    ]
    await storage.commit(Change(rows=tuple(bare)))
    assert await every_row(storage) == bare


async def every_row(storage: Storage) -> list[Row | None]:
    """One of each kind, with the samples' keys."""
    return [
        await storage.thread("t"),
        await storage.run("r"),
        await storage.approval("a"),
        await storage.effect("e"),
        await storage.timer("i"),
        await storage.schedule("s"),
        await storage.assistant("as"),
        await storage.assistant_version("as:2"),
        await storage.notification("n"),
        await storage.link("l"),
        await storage.grant("g"),
        await storage.answer("k"),
    ]


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.CANCELLING])
async def test_a_thread_that_is_distrusted_is_in_error_once_nothing_runs_on_it(
    storage: Storage, status: RunStatus
) -> None:
    active = run(status=status, ended_at=None, error=None)
    await storage.commit(Change(rows=(thread(), active)))
    await storage.distrust("t", "Something was changed.")
    marked = await storage.thread("t")
    assert marked is not None
    assert marked == thread(
        status=ThreadStatus.BUSY,
        tampered="Something was changed.",
        updated_at=marked.updated_at,
        version=2,
    )
    await storage.distrust("t", "Something was changed.", stopped=True)
    ended, marked = await storage.run("r"), await storage.thread("t")
    assert ended is not None
    assert marked is not None
    assert (ended.status, ended.error, ended.version) == (
        RunStatus.ERROR,
        {"code": "tampered", "message": "Something was changed."},
        2,
    )
    assert (marked.status, marked.pending) == (ThreadStatus.ERROR, thread().pending)
    assert [entry.type for entry in await storage.read_log("t")] == ["error"]
    await storage.distrust("t", "Something else was changed.")
    await storage.distrust("nobody", "Something was changed.")
    assert await storage.thread("t") == marked
    assert await storage.thread("nobody") is None


@pytest.mark.parametrize("running", [False, True])
async def test_of_a_thread_that_is_distrusted_what_waits_ends_with_what_runs(
    storage: Storage, running: bool
) -> None:
    waiting = tuple(
        run(name, status=RunStatus.PENDING, ended_at=None, error=None) for name in ("w1", "w2")
    )
    running_one = run(status=RunStatus.RUNNING, ended_at=None, error=None)
    await storage.commit(
        Change(
            rows=(thread(status=ThreadStatus.BUSY), *([running_one] if running else []), *waiting)
        )
    )
    await storage.distrust("t", "Something was changed.")
    if running:
        assert [each.status for each in await storage.runs()] == [
            RunStatus.RUNNING,
            RunStatus.PENDING,
            RunStatus.PENDING,
        ]
        # Its worker ended it as any other.
        await storage.commit(
            Change(rows=(replace(running_one, status=RunStatus.ERROR, version=2),))
        )
        await storage.distrust("t", "Something was changed.", stopped=True)
    marked = await storage.thread("t")
    assert marked is not None
    assert marked.status is ThreadStatus.ERROR
    assert {each.status for each in await storage.runs()} == {RunStatus.ERROR}
    assert [entry.type for entry in await storage.read_log("t")] == ["error"]


async def test_a_change_is_applied_whole_or_not_at_all(storage: Storage) -> None:
    await storage.commit(Change(rows=(run("taken"),)))
    with pytest.raises(Conflict, match="taken"):
        await storage.commit(Change(rows=(thread(), approval(), run("taken")), events=(token(),)))
    assert await storage.thread("t") is None
    assert await storage.approval("a") is None
    assert await storage.read_log("t") == ()
    assert await storage.commit(Change(rows=(thread(),), events=(token(), token()))) == (1, 2)


async def test_an_event_that_is_no_json_takes_its_change_down_and_nobody_else(
    storage: Storage,
) -> None:
    bad = Custom(thread_id="t", data=object())
    outcomes = await asyncio.gather(
        storage.commit(Change(rows=(thread("t1"),), events=(token(),))),
        storage.commit(Change(rows=(thread("t2"),), events=(token(), bad))),
        storage.commit(Change(rows=(thread("t3"),), events=(token(),))),
        return_exceptions=True,
    )
    assert outcomes[0] == (1,)
    assert isinstance(outcomes[1], TypeError)
    assert outcomes[2] == (2,)
    assert [bool(await storage.thread(name)) for name in ("t1", "t2", "t3")] == [True, False, True]


async def test_one_of_many_that_move_a_row_wins(storage: Storage) -> None:
    await storage.commit(Change(rows=(approval(),)))
    moves = [replace(approval(), version=2, decided_by=f"person {n}") for n in range(20)]
    outcomes = await asyncio.gather(
        *(storage.commit(Change(rows=(move,))) for move in moves), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(Conflict) == 19
    won = await storage.approval("a")
    assert won == moves[outcomes.index(())]


async def test_times_without_a_zone_are_refused(storage: Storage) -> None:
    with pytest.raises(ValueError, match="no zone"):
        await storage.commit(Change(rows=(thread(created_at=NOON.replace(tzinfo=None)),)))


# ── the log ──


async def test_events_are_numbered_per_thread_and_stored_as_json(storage: Storage) -> None:
    assert await storage.last_seq("t") == 0
    assert await storage.commit(
        Change(events=(token("t", "a"), token("u", "b"), token("t", "c")))
    ) == (1, 1, 2)
    storage.append([token("t", "d")], fail)
    assert await storage.commit(Change(events=(Done(thread_id="t"),))) == (4,)
    entries = await storage.read_log("t")
    events = [decode(entry.body) for entry in entries]
    assert [(event.seq, type(event)) for event in events] == [
        (1, Token),
        (2, Token),
        (3, Token),
        (4, Done),
    ]
    assert [event.content for event in events if isinstance(event, Token)] == ["a", "c", "d"]
    assert [(entry.seq, entry.type) for entry in entries] == [
        (1, "token"),
        (2, "token"),
        (3, "token"),
        (4, "done"),
    ]
    assert await storage.last_seq("t") == 4
    assert await storage.last_seq("u") == 1


@pytest.mark.parametrize("listening", [False, True], ids=["from the file", "from the tail"])
async def test_the_log_is_read_past_a_cursor_by_type_and_in_part(
    storage: Storage, listening: bool
) -> None:
    with storage.listen("t" if listening else "somebody else"):
        await storage.read_log("t")
        for number in range(6):
            await storage.commit(
                Change(events=(token("t") if number % 2 else Done(thread_id="t"),))
            )
        assert seqs(await storage.read_log("t")) == [1, 2, 3, 4, 5, 6]
        assert seqs(await storage.read_log("t", 2)) == [3, 4, 5, 6]
        assert seqs(await storage.read_log("t", 2, limit=2)) == [3, 4]
        assert seqs(await storage.read_log("t", 1, types={"done"})) == [3, 5]
        assert seqs(await storage.read_log("t", types=["token", "done"], limit=5)) == [
            1,
            2,
            3,
            4,
            5,
        ]
        assert seqs(await storage.read_log("t", 1, types=["done"], limit=1)) == [3]
        assert await storage.read_log("t", types=[]) == ()
        assert seqs(await storage.read_log("t", 1, run_id="r")) == [2, 4, 6]
        assert seqs(await storage.read_log("t", 1, run_id="", limit=1)) == [3]
        assert seqs(
            await storage.read_log("t", 2, run_id="r", types=["token", "error"], limit=2)
        ) == [4, 6]
        assert await storage.read_log("t", run_id="", types=["token"]) == ()
        assert await storage.read_log("t", run_id="another") == ()
        assert [entry.run_id for entry in await storage.read_log("t", 4)] == ["", "r"]
        assert await storage.read_log("t", 6) == ()
        assert await storage.read_log("t", 1000) == ()
        assert await storage.read_log("nowhere") == ()


async def test_a_cursor_is_a_number_that_the_thread_has(storage: Storage) -> None:
    await storage.commit(Change(events=(token(), token(), token())))
    for thread_id, after in (("t", 0), ("t", 1), ("t", 3), ("nowhere", 0)):
        await storage.check_cursor(thread_id, after)
    for thread_id, after, last in (("t", 4, 3), ("t", 2**63 - 1, 3), ("nowhere", 1, 0)):
        with pytest.raises(Gone, match=f"Begin after {last}, or after 0") as caught:
            await storage.check_cursor(thread_id, after)
        assert caught.value.details == {"first": last + 1}
    await storage.commit(Change(erase="t"))
    await storage.check_cursor("t", 3)
    with pytest.raises(Gone, match="up to number 3 have been removed"):
        await storage.check_cursor("t", 2)


async def test_what_was_written_before_anybody_listened_is_read_too(storage: Storage) -> None:
    await storage.commit(Change(events=(token(), token(), token())))
    with storage.listen("t"):
        assert seqs(await storage.read_log("t", 1)) == [2, 3]
        await storage.commit(Change(events=(token(),)))
        assert seqs(await storage.read_log("t", 1)) == [2, 3, 4]
        assert seqs(await storage.read_log("t", 3)) == [4]


async def test_what_was_committed_can_be_read_at_once(storage: Storage) -> None:
    with storage.listen("t"):
        for number in range(1, 50):
            await storage.commit(Change(events=(token(),)))
            assert seqs(await storage.read_log("t", number - 1)) == [number]
            assert await storage.last_seq("t") == number


async def test_numbers_have_no_gap_under_concurrent_committers_and_appenders(
    storage: Storage,
) -> None:
    async def commit(who: int) -> list[int]:
        numbers: list[int] = []
        for turn in range(10):
            numbers += await storage.commit(
                Change(events=(token("t", f"c{who}.{turn}.0"), token("t", f"c{who}.{turn}.1")))
            )
        return numbers

    async def append(who: int) -> None:
        for turn in range(20):
            storage.append([token("t", f"a{who}.{turn}")], fail)
            await asyncio.sleep(0)

    async def conflict() -> None:
        with pytest.raises(Conflict):
            await storage.commit(
                Change(rows=(replace(thread(), version=9),), events=(token("t", "never"),))
            )

    await storage.commit(Change(rows=(thread(),)))
    async with asyncio.TaskGroup() as group:
        commits = [group.create_task(commit(who)) for who in range(50)]
        for who in range(50):
            group.create_task(append(who))
            group.create_task(conflict())
    await storage.commit(Change())

    entries = await read_all(storage, "t")
    assert seqs(entries) == list(range(1, 2001))
    texts = [json.loads(entry.body)["content"] for entry in entries]
    assert len(set(texts)) == 2000
    assert "never" not in texts
    for who, task in enumerate(commits):
        assert [texts[seq - 1] for seq in task.result()] == [
            f"c{who}.{turn}.{half}" for turn in range(10) for half in (0, 1)
        ]
        mine = [text for text in texts if text.startswith(f"a{who}.")]
        assert mine == [f"a{who}.{turn}" for turn in range(20)]


async def test_a_commit_comes_after_every_append_queued_before_it(storage: Storage) -> None:
    for turn in range(1, 30):
        for _ in range(turn):
            storage.append([token()], fail)
        (number,) = await storage.commit(Change(events=(Done(thread_id="t"),)))
        assert seqs(await storage.read_log("t", number - turn - 1)) == list(
            range(number - turn, number + 1)
        )


async def test_an_append_that_fails_fails_alone_and_leaves_no_gap(storage: Storage) -> None:
    errors: list[Exception] = []
    storage.append([token("t", "first")], fail)
    storage.append([token("t", "lost"), Custom(thread_id="t", data=object())], errors.append)
    storage.append([token("")], errors.append)
    storage.append([token("t", "second")], fail)
    assert await storage.commit(Change(events=(Done(thread_id="t"),))) == (3,)
    assert [json.loads(entry.body).get("content") for entry in await storage.read_log("t")] == [
        "first",
        "second",
        None,
    ]
    await asyncio.sleep(0)
    assert [type(error) for error in errors] == [TypeError, InvalidRequest]


async def test_a_list_may_be_filled_again_once_it_was_handed_over(storage: Storage) -> None:
    events = [token("t", "kept")]
    storage.append(events, fail)
    events.clear()
    await storage.commit(Change())
    assert await storage.last_seq("t") == 1


@pytest.mark.parametrize("listening", [False, True])
async def test_erasing_removes_all_of_a_thread_but_its_numbering(
    storage: Storage, listening: bool
) -> None:
    with storage.listen("t" if listening else "somebody else"):
        await storage.read_log("t")
        rows = (
            thread(),
            run(),
            approval(),
            effect(),
            timer(),
            schedule(),
            notification(),
            link(),
            grant(),
            answer(),
        )
        others = (
            thread("u"),
            run("ru", thread_id="u"),
            timer("iu", thread_id=""),
            schedule("su", thread_id="u"),
        )
        await storage.commit(Change(rows=rows, events=(token("t"), token("t"))))
        await storage.commit(Change(rows=others, events=(token("u"),)))
        with pytest.raises(Conflict):
            await storage.commit(Change(erase="t", unchanged=(replace(thread(), version=2),)))
        assert seqs(await storage.read_log("t")) == [1, 2]

        storage.append([token("t", "swept away too")], fail)
        await storage.commit(Change(erase="t", unchanged=(thread(),)))
        assert await every_row(storage) == [None] * 12
        assert await storage.read_log("t") == ()
        assert await storage.last_seq("t") == 0
        assert (
            await storage.thread("u"),
            await storage.run("ru"),
            await storage.timer("iu"),
            await storage.schedule("su"),
        ) == others
        assert seqs(await storage.read_log("u")) == [1]

        assert await storage.commit(Change(rows=(thread(),), events=(token("t"),))) == (4,)
        assert seqs(await storage.read_log("t")) == [4]


async def test_a_thread_is_erased_if_it_is_settled(storage: Storage) -> None:
    pending = notification(thread_id="t", status=NotificationStatus.PENDING, next_at=NOON)
    asked = answer(thread_id="t")
    others = (answer("other", thread_id="u"), replace(pending, notification_id="m", thread_id="u"))
    await storage.commit(Change(rows=(thread(), pending, asked, *others)))
    erasing = Change(erase="t", if_settled=True)
    with pytest.raises(Conflict, match="not settled"):
        await storage.commit(erasing)
    sent = replace(pending, status=NotificationStatus.DEAD, next_at=None, version=2)
    await storage.commit(Change(rows=(sent,)))
    with pytest.raises(Conflict, match="not settled"):
        await storage.commit(together(erasing, Change()))
    await storage.commit(Change(removed=(asked,)))
    await storage.commit(erasing)
    assert await storage.thread("t") is None


async def test_a_run_may_be_removed_and_what_it_did_stays(storage: Storage) -> None:
    ended = run(status=RunStatus.SUCCESS, usage={"total_tokens": 7.0}, worker=None)
    left = (thread(status=ThreadStatus.IDLE, pending=()), effect(), approval(), run("other"))
    events = (replace(token(), run_id="r"),)
    await storage.commit(Change(rows=(ended, *left), events=events))
    used = await storage.usage(thread_id="t")
    removing = Change(removed=(ended,), unchanged=(left[0],))
    moved = replace(left[0], version=2)
    await storage.commit(Change(rows=(moved,)))
    with pytest.raises(Conflict):
        await storage.commit(removing)
    assert await storage.run("r") == ended

    await storage.commit(replace(removing, unchanged=(moved,)))
    assert await storage.run("r") is None
    assert [each.run_id for each in await storage.runs(thread_id="t")] == ["other"]
    assert [each.run_id for each in (await storage.latest_runs()).rows] == ["other"]
    assert await storage.thread("t") == moved
    assert await storage.effects("t", effect().tool_call_id) == (effect(),)
    assert await storage.approval("a") == approval()
    assert len(await storage.read_log("t", run_id="r")) == 1
    # Budgets are not refilled by it.
    assert await storage.usage(thread_id="t") == used
    assert await storage.usage(agent=ended.agent) == used


async def test_a_change_may_erase_a_thread_and_begin_it_anew(storage: Storage) -> None:
    await storage.commit(Change(rows=(thread(version=1), run()), events=(token(),)))
    assert await storage.commit(
        Change(erase="t", rows=(thread(owner="bob"),), events=(token(),))
    ) == (2,)
    assert await storage.thread("t") == thread(owner="bob")
    assert await storage.run("r") is None
    assert seqs(await storage.read_log("t")) == [2]


async def test_an_erasure_that_fails_erases_nothing(storage: Storage) -> None:
    await storage.commit(Change(rows=(thread(), run()), events=(token(),)))
    storage.append([token()], fail)
    with pytest.raises(Conflict):
        await storage.commit(Change(erase="t", rows=(replace(run("nowhere"), version=2),)))
    assert await storage.thread("t") == thread()
    assert seqs(await storage.read_log("t")) == [1, 2]
    assert await storage.commit(Change(events=(token(),))) == (3,)


# ── listening ──


async def follow(
    storage: Storage,
    thread_id: str,
    until: int,
    *,
    after: int = 0,
    limit: int = 1000,
    pause: float = 0,
) -> list[int]:
    """The loop that every transport is; the poll is far slower than the test, so a ring that is
    lost shows as a timeout."""
    seen: list[int] = []
    with storage.listen(thread_id) as ring:
        while not seen or seen[-1] < until:
            entries = await storage.read_log(thread_id, seen[-1] if seen else after, limit=limit)
            seen += seqs(entries)
            if not entries:
                await ring.wait(PATIENCE)
            elif pause:
                await asyncio.sleep(pause)
    return seen


async def test_followers_see_each_event_once_in_order_whenever_they_begin(storage: Storage) -> None:
    total = 6000
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        followers = {group.create_task(follow(storage, "t", total)): 0}
        for number in range(1, total + 1):
            storage.append([token()], fail)
            if number % 50 == 0:
                await asyncio.sleep(0)
            if number % 1000 == 0:
                # One that begins at the beginning, one that begins in the middle, and slow ones
                # that fall out of memory.
                followers[group.create_task(follow(storage, "t", total))] = 0
                followers[group.create_task(follow(storage, "t", total, after=number - 500))] = (
                    number - 500
                )
                followers[
                    group.create_task(follow(storage, "t", total, limit=300, pause=0.002))
                ] = 0
                await asyncio.sleep(0.001)
    for follower, after in followers.items():
        assert follower.result() == list(range(after + 1, total + 1))


async def test_followers_fall_back_to_the_file_when_events_are_large(storage: Storage) -> None:
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        follower = group.create_task(follow(storage, "t", 40, pause=0.01))
        for _ in range(40):
            storage.append([token("t", "x" * 200_000)], fail)
            await asyncio.sleep(0.001)
    assert follower.result() == list(range(1, 41))


async def test_a_ring_between_listening_and_waiting_is_kept(storage: Storage) -> None:
    with storage.listen("t") as ring:
        await storage.commit(Change(events=(token(),)))
        async with asyncio.timeout(PATIENCE):
            await ring.wait(NEVER)


async def test_a_ring_wakes_every_listener_of_its_thread_only(storage: Storage) -> None:
    with storage.listen("t") as first, storage.listen("t") as second, storage.listen("u") as other:
        waits = [asyncio.create_task(ring.wait(NEVER)) for ring in (first, second, other)]
        await asyncio.sleep(0)
        await storage.commit(Change(events=(token("t"),)))
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*waits[:2])
        assert not waits[2].done()
        waits[2].cancel()


async def test_waiting_ends_after_its_timeout(storage: Storage) -> None:
    with storage.listen("t") as ring:
        async with asyncio.timeout(PATIENCE):
            await ring.wait(0.01)


async def test_a_wait_ends_in_its_own_time_whatever_was_waited_for_before(
    storage: Storage,
) -> None:
    loop = asyncio.get_running_loop()
    with storage.listen("t") as ring:
        for before, seconds in ((NEVER, 0.05), (0.05, 0.3)):
            coming = asyncio.create_task(ring.wait(before))
            await asyncio.sleep(0)
            ring.ring()
            await coming
            began = loop.time()
            async with asyncio.timeout(PATIENCE):
                await ring.wait(seconds)
            assert loop.time() - began > seconds * 0.9


async def test_a_wait_can_be_cancelled_and_taken_up_again(storage: Storage) -> None:
    with storage.listen("t") as ring:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await ring.wait(NEVER)
        await storage.commit(Change(events=(token(),)))
        async with asyncio.timeout(PATIENCE):
            await ring.wait(NEVER)


async def test_an_erased_thread_can_be_followed_on(storage: Storage) -> None:
    with storage.listen("t") as ring:
        await storage.commit(Change(events=(token(), token())))
        assert seqs(await storage.read_log("t", 0)) == [1, 2]
        await storage.commit(Change(erase="t"))
        assert await storage.read_log("t", 0) == ()
        await storage.commit(Change(events=(token(),)))
        await ring.wait(PATIENCE)
        assert seqs(await storage.read_log("t", 2)) == [3]
        assert seqs(await storage.read_log("t", 0)) == [3]


# ── pages ──


async def pages(read: Callable[..., Awaitable[Any]], **query: Any) -> list[list[Any]]:
    found, cursor = [], None
    while True:
        page = await read(cursor=cursor, **query)
        found.append(list(page.rows))
        cursor = page.next
        if cursor is None:
            return found


async def test_threads_come_in_pages_newest_first(storage: Storage) -> None:
    # Two share a microsecond, so the id must break the tie; whole seconds must sort among halves.
    noon = NOON.replace(microsecond=0)
    made = [
        thread(
            f"t{n}",
            created_at=noon + timedelta(seconds=n // 2 / 2),
            status=list(ThreadStatus)[n % 2],
        )
        for n in range(7)
    ]
    await storage.commit(Change(rows=tuple(made)))
    newest = made[::-1]
    assert await pages(storage.threads, limit=3) == [newest[:3], newest[3:6], newest[6:]]
    assert await pages(storage.threads, limit=7) == [newest]
    assert await pages(storage.threads, status=ThreadStatus.BUSY, limit=2) == [
        newest[1::2][:2],
        newest[1::2][2:],
    ]
    assert await pages(storage.threads, status=ThreadStatus.ERROR) == [[]]


async def test_a_page_of_large_rows_ends_before_they_are_too_much(storage: Storage) -> None:
    large = {"text": "x" * (3 << 19)}
    for n in range(5):
        await storage.commit(Change(rows=(thread(f"t{n}", metadata=large, version=1),)))
    pages = [len(rows) async for rows in all_pages(storage.threads, limit=4)]
    assert pages == [2, 2, 1]
    one = {"text": "x" * (5 << 20)}
    for n in range(2):
        await storage.commit(Change(rows=(thread(f"u{n}", metadata=one, version=1),)))
    pages = [len(rows) async for rows in all_pages(storage.threads)]
    assert pages[:2] == [1, 1] and sum(pages) == 7


async def test_a_page_goes_on_where_it_ended_though_newer_rows_came(storage: Storage) -> None:
    made = [thread(f"t{n}", created_at=NOON + timedelta(seconds=n)) for n in range(4)]
    await storage.commit(Change(rows=tuple(made)))
    first = await storage.threads(limit=2)
    await storage.commit(Change(rows=(thread("newer", created_at=NOON + timedelta(days=1)),)))
    assert (await storage.threads(limit=2, cursor=first.next)).rows == (made[1], made[0])


async def test_approvals_come_in_pages_oldest_first(storage: Storage) -> None:
    made = [
        approval(
            f"a{n}",
            requested_at=NOON + timedelta(seconds=n // 2),
            thread_id=f"t{n % 2}",
            run_id=f"r{n % 3}",
            status=list(ApprovalStatus)[n % 2],
        )
        for n in range(6)
    ]
    await storage.commit(Change(rows=tuple(made[::-1])))
    assert await pages(storage.approvals, limit=4) == [made[:4], made[4:]]
    assert await pages(storage.approvals, thread_id="t1", limit=2) == [
        [made[1], made[3]],
        [made[5]],
    ]
    assert await pages(storage.approvals, run_id="r1") == [[made[1], made[4]]]
    assert await pages(
        storage.approvals, status=ApprovalStatus.PENDING, thread_id="t0", limit=2
    ) == [[made[0], made[2]], [made[4]]]
    assert await pages(storage.approvals, status=ApprovalStatus.EXPIRED) == [[]]


async def test_approvals_are_found_by_what_they_are_and_who_may_decide(storage: Storage) -> None:
    nobody: dict[str, Any] = {"step": 0, "delegations": ()}
    to = [Delegation(voting_right="x", to=Target(name=n), by="x", at=NOON) for n in ("cy", "dee")]
    one = approval("a", **nobody, policy=Policy(roles=("lead", "boss")))
    two = approval(
        "b",
        **nobody,
        policy=Policy(names=("cy",)),
        tool="mail",
        requested_at=NOON + timedelta(seconds=1),
    )
    three = approval(
        "c",
        agent="other",
        requested_at=NOON + timedelta(seconds=2),
        **{**nobody, "delegations": tuple(to)},
        policy=Policy(),
    )
    await storage.commit(Change(rows=(one, two, three)))
    wanted: list[tuple[dict[str, Any], list[Row]]] = [
        ({"tool": "mail"}, [two]),
        ({"agent": "other"}, [three]),
        ({"role": "boss"}, [one]),
        ({"role": "bos"}, []),
        ({"assignee": "cy"}, [two, three]),
        ({"assignee": "cy", "tool": "mail"}, [two]),
        ({"before": NOON + timedelta(seconds=1)}, [one]),
    ]
    for given, found in wanted:
        assert list((await storage.approvals(**given)).rows) == found, given
    assert await pages(storage.approvals, assignee="cy", limit=1) == [[two], [three]]


async def test_approvals_are_listed_in_the_order_that_is_asked_for_and_by_their_risk(
    storage: Storage,
) -> None:
    hours = {"a": None, "b": 2, "c": 1, "d": None, "e": 3}
    asked = {
        name: approval(
            name,
            requested_at=NOON + timedelta(seconds=number),
            expires_at=None if hour is None else NOON + timedelta(hours=hour),
            policy=Policy(risk=Risk.HIGH if name in "ae" else Risk.LOW),
        )
        for number, (name, hour) in enumerate(hours.items())
    }
    await storage.commit(Change(rows=tuple(asked.values())))
    orders: dict[ApprovalOrder, str] = {
        "oldest": "abcde",
        "newest": "edcba",
        # Those that never expire come last.
        "expiring": "cbead",
    }
    for sort, names in orders.items():
        wanted = [asked[name] for name in names]
        assert list((await storage.approvals(sort=sort)).rows) == wanted
        assert await pages(storage.approvals, sort=sort, limit=2) == [
            wanted[:2],
            wanted[2:4],
            wanted[4:],
        ]
    risky = await storage.approvals(sort="newest", risk=Risk.HIGH)
    assert list(risky.rows) == [asked["e"], asked["a"]]


async def test_open_grants_are_those_that_could_be_used_now(storage: Storage) -> None:
    is_open: dict[str, Any] = {"revoked_at": None, "revoked_by": None}
    made = [
        grant("new", given_at=NOON + timedelta(seconds=1), **is_open),
        grant("old", **is_open),
        grant("revoked"),
        grant("over", given_at=NOON - timedelta(days=2), until=NOON, **is_open),
        grant("used", used=3, **is_open),
        grant("other tool", tool="mail", **is_open),
        grant("other agent", agent="other", **is_open),
        grant("other tenant", tenant=None, **is_open),
    ]
    await storage.commit(Change(rows=tuple(made)))

    async def found(tenant: str | None, *tools: str) -> list[str]:
        return [each.grant_id for each in await storage.open_grants(tenant, "clerk", tools, NOON)]

    assert await found("acme", "pay", "look") == ["old", "new"]
    assert await found(None, "pay") == ["other tenant"]
    assert await found("acme") == []
    assert [each.grant_id for each in (await storage.grants(limit=1)).rows] == ["new"]


async def test_keys_and_sessions_are_listed_by_their_person(storage: Storage) -> None:
    makers: dict[str, Callable[..., Any]] = {"api_keys": api_key, "sessions": session}
    for name, make in makers.items():
        rows = [
            make("old", tenant=None),
            make("new", tenant=None, created_at=NOON + timedelta(seconds=1)),
            make("bob's", tenant=None, person="bob", created_at=NOON + timedelta(seconds=2)),
            make("acme's", created_at=NOON + timedelta(seconds=3)),
        ]
        await storage.commit(Change(rows=tuple(rows)))
        read = getattr(storage, name)
        old, new, bobs, acmes = rows
        assert await pages(read, limit=2) == [[acmes, bobs], [new, old]]
        assert await pages(read, limit=1, owner=Owner("ann")) == [[new], [old]]
        assert await pages(read, owner=Owner("ann", "acme")) == [[acmes]]
        assert await pages(read, owner=Owner("ann", "other")) == [[]]
    assert await storage.api_key("old") == api_key("old", tenant=None)
    assert await storage.session("old") == session("old", tenant=None)
    assert await storage.api_key("none") is await storage.session("none") is None


async def test_sessions_and_tickets_are_removed_once_they_are_over(storage: Storage) -> None:
    over, lasting = NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)
    rows = [
        make(name, expires_at=expires_at)
        for make in (session, ticket)
        for name, expires_at in (("over", over), ("lasting", lasting))
    ]
    await storage.commit(Change(rows=tuple(rows)))
    assert await storage.remove_sign_ins(over) == 0
    assert await storage.remove_sign_ins(lasting) == 2
    assert await storage.session("over") is None
    assert await storage.session("lasting") is not None


async def test_answers_are_removed_by_their_age(storage: Storage) -> None:
    await storage.commit(
        Change(
            rows=tuple(
                answer(f"k{n}", created_at=NOON + timedelta(seconds=n // 200)) for n in range(400)
            )
        )
    )
    assert await storage.remove_answers(NOON) == 0
    assert await storage.remove_answers(NOON + timedelta(seconds=1)) == 200
    assert await storage.answer("k0") is None
    assert await storage.answer("k399") is not None


async def test_schedules_come_in_pages_newest_first(storage: Storage) -> None:
    made = [schedule(f"s{n}", created_at=NOON + timedelta(seconds=n // 2)) for n in range(5)]
    await storage.commit(Change(rows=tuple(made)))
    assert await pages(storage.schedules, limit=2) == [made[:2:-1], made[2:0:-1], made[:1]]


async def test_assistants_come_newest_first_and_their_versions_last_first(
    storage: Storage,
) -> None:
    made = [assistant(f"a{n}", created_at=NOON + timedelta(seconds=n // 2)) for n in range(5)]
    # As texts, 10 would come before 9.
    versions = [assistant_version(f"a{n % 2}:{n // 2 + 1}") for n in range(24)]
    await storage.commit(Change(rows=(*made, *versions)))
    assert await pages(storage.assistants, limit=2) == [made[:2:-1], made[2:0:-1], made[:1]]
    of_first = versions[::2][::-1]
    assert [each.number for each in of_first] == list(range(12, 0, -1))
    read = partial(storage.assistant_versions, "a0")
    assert await pages(read, limit=5) == [of_first[:5], of_first[5:10], of_first[10:]]
    assert await pages(partial(storage.assistant_versions, "a2")) == [[]]


async def test_the_versions_of_an_assistant_go_with_it(storage: Storage) -> None:
    versions = [assistant_version(f"a{n % 2}:{n // 2 + 1}") for n in range(6)]
    await storage.commit(Change(rows=(assistant("a0"), assistant("a1"), *versions)))
    await storage.commit(Change(removed=(assistant("a0"),)))
    assert await storage.assistant("a0") is None
    assert await storage.assistant_version("a0:1") is None
    assert (await storage.assistant_versions("a0")).rows == ()
    assert (await storage.assistant_versions("a1")).rows == tuple(versions[1::2][::-1])
    # Whoever changes it meanwhile learns that it is gone, and leaves nothing behind.
    changed = replace(assistant("a0"), number=4, last_number=4, version=2)
    with pytest.raises(Conflict):
        await storage.commit(Change(rows=(changed, assistant_version("a0:4"))))
    assert await storage.assistant_version("a0:4") is None


async def test_effects_of_one_call_come_in_the_order_in_which_they_started(
    storage: Storage,
) -> None:
    made = [
        effect(
            f"e{n}",
            started_at=NOON - timedelta(seconds=n),
            thread_id=f"t{n % 2}",
            tool_call_id=f"call{n % 3 % 2}",
        )
        for n in range(6)
    ]
    await storage.commit(Change(rows=tuple(made)))
    # The clock was put back meanwhile.
    assert await storage.effects("t0", "call0") == (made[0], made[2])
    assert await storage.effects("t1", "call1") == (made[1],)
    assert await storage.effects("t1", "call2") == ()


async def test_runs_come_as_they_were_submitted_by_thread_and_status(storage: Storage) -> None:
    statuses = [RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SUCCESS]
    made = [
        run(
            f"r{n}",
            created_at=NOON - timedelta(seconds=n),
            thread_id=f"t{n % 2}",
            status=statuses[n % 3],
        )
        for n in range(6)
    ]
    await storage.commit(Change(rows=tuple(made)))
    assert list(await storage.runs()) == made
    assert list(await storage.runs(limit=2)) == made[:2]
    assert list(await storage.runs(thread_id="t1")) == made[1::2]
    assert list(await storage.runs(status={RunStatus.PENDING, RunStatus.RUNNING})) == [
        made[0],
        made[1],
        made[3],
        made[4],
    ]
    assert list(await storage.runs(thread_id="t1", status=[RunStatus.SUCCESS])) == [made[5]]
    assert await storage.runs(status=[]) == ()


async def test_the_latest_runs_come_in_pages_newest_first(storage: Storage) -> None:
    statuses = [RunStatus.PENDING, RunStatus.SUCCESS]
    made = [
        run(
            f"r{n}",
            created_at=NOON - timedelta(seconds=n // 2),
            thread_id=f"t{n % 2}",
            status=statuses[n // 2 % 2],
        )
        for n in range(8)
    ]
    await storage.commit(Change(rows=tuple(made)))
    assert await pages(storage.latest_runs, limit=3) == [made[:4:-1], made[4:1:-1], made[1::-1]]
    assert await pages(storage.latest_runs, thread_id="t1", limit=2) == [
        [made[7], made[5]],
        [made[3], made[1]],
    ]
    assert await pages(storage.latest_runs, thread_id="t0", status={RunStatus.PENDING}) == [
        [made[4], made[0]]
    ]


@pytest.mark.parametrize(
    "cursor", ["", "x", "!!!!", "bnVsbA", "WzFd", "WyJhIiwxXQ", "é", "A" * 1000]
)
async def test_a_cursor_of_nobodys_making_is_refused(storage: Storage, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        await storage.threads(cursor=cursor)
    with pytest.raises(InvalidRequest, match="cursor"):
        await storage.approvals(cursor=cursor)
    with pytest.raises(InvalidRequest, match="cursor"):
        await storage.schedules(cursor=cursor)
    with pytest.raises(InvalidRequest, match="cursor"):
        await storage.assistant_versions("a", cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_must_ask_for_something(storage: Storage, limit: int) -> None:
    for read in (
        storage.threads,
        storage.approvals,
        storage.runs,
        storage.schedules,
        storage.assistants,
        partial(storage.assistant_versions, "a"),
        storage.notifications,
    ):
        with pytest.raises(InvalidRequest, match="limit"):
            await read(limit=limit)
    with pytest.raises(InvalidRequest, match="limit"):
        await storage.due_runs(NOON, agents={"clerk"}, limit=limit)
    with pytest.raises(InvalidRequest, match="limit"):
        await storage.orphaned_runs(agents={"clerk"}, limit=limit)
    with pytest.raises(InvalidRequest, match="limit"):
        await storage.due_timers(NOON, limit=limit)
    with pytest.raises(InvalidRequest, match="limit"):
        await storage.read_log("t", limit=limit)


# ── checkpoints ──


async def test_the_checkpointer_keeps_checkpoints(storage: Storage) -> None:
    from langgraph.checkpoint.base import empty_checkpoint

    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    saved = await storage.checkpointer.aput(
        config, empty_checkpoint(), {"source": "input", "step": -1}, {}
    )
    found = await storage.checkpointer.aget_tuple(config)
    assert found is not None
    assert found.config["configurable"]["checkpoint_id"] == saved["configurable"]["checkpoint_id"]


# ── notifications ──


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def ids_of(rows: Sequence[Notification]) -> list[str]:
    return [row.notification_id for row in rows]


async def test_notifications_come_in_pages_newest_first(storage: Storage) -> None:
    made = [
        notification(
            f"n{n}",
            created_at=at(n // 2),
            status=[*NotificationStatus][n % 3],
            approval_id=f"a{n % 2}",
        )
        for n in range(5)
    ]
    await storage.commit(Change(rows=tuple(made)))
    assert await pages(storage.notifications, limit=2) == [made[:2:-1], made[2:0:-1], made[:1]]
    assert ids_of((await storage.notifications(status=NotificationStatus.PENDING)).rows) == [
        "n3",
        "n0",
    ]
    assert ids_of((await storage.notifications(approval_id="a1", endpoint="hook")).rows) == [
        "n3",
        "n1",
    ]
    assert (await storage.notifications(endpoint="other")).rows == ()


async def test_each_endpoint_is_told_what_is_due_the_longest_due_first(storage: Storage) -> None:
    rows = (
        notification("n3", next_at=at(3)),
        notification("n1", next_at=at(1)),
        notification("n2", next_at=at(2)),
        notification("n9", next_at=at(9)),
        notification("dead", next_at=None, status=NotificationStatus.DEAD),
        notification("delivered", next_at=None, status=NotificationStatus.DELIVERED),
        notification("other", endpoint="other", next_at=at(0)),
    )
    assert await storage.next_notification("hook") is None
    await storage.commit(Change(rows=rows))
    assert ids_of(await storage.due_notifications("hook", at(3))) == ["n1", "n2", "n3"]
    assert ids_of(await storage.due_notifications("hook", at(3), limit=2)) == ["n1", "n2"]
    assert ids_of(await storage.due_notifications("other", at(3))) == ["other"]
    assert await storage.next_notification("hook") == at(1)
    assert await storage.next_notification("nobody") is None


async def test_nothing_is_told_of_a_thread_that_was_tampered_with(storage: Storage) -> None:
    await storage.commit(
        Change(rows=(thread("t", tampered="It was."), notification("n1", next_at=at(0))))
    )
    assert await storage.due_notifications("hook", at(9)) == ()
    assert await storage.next_notification("hook") is None


async def test_old_notifications_are_removed_by_their_status(storage: Storage) -> None:
    statuses = [*NotificationStatus] * 2
    await storage.commit(
        Change(
            rows=tuple(
                notification(f"n{n}", created_at=at(n // 3), status=status)
                for n, status in enumerate(statuses)
            )
        )
    )
    told = notification(
        "kept", created_at=at(0), approval_id="asks", status=NotificationStatus.DELIVERED
    )
    asks = approval("asks", status=ApprovalStatus.PENDING)
    await storage.commit(Change(rows=(asks, told)))
    assert await storage.remove_notifications(NotificationStatus.DELIVERED, at(1)) == 1
    assert ids_of((await storage.notifications()).rows) == ["n5", "n4", "n3", "n2", "n0", "kept"]
    assert await storage.remove_notifications(NotificationStatus.DELIVERED, at(1)) == 0
    (row,) = (await storage.approvals()).rows
    decided = replace(row, status=ApprovalStatus.APPROVED, version=2)
    await storage.commit(Change(rows=(decided,)))
    assert await storage.remove_notifications(NotificationStatus.DELIVERED, at(1)) == 1
