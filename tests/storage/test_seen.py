"""What each sight shows of a storage: exactly what a filter over everything leaves."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from assent.core.access import (
    APPROVES_ALL,
    EVERYTHING,
    NOTHING,
    Approves,
    Owner,
    Right,
    Sight,
    approves_of,
    sight_for,
)
from assent.core.approval import Approval, ApprovalStatus, Delegation, Target
from assent.core.audit import AuditAction, AuditEntry, Authentication
from assent.core.clock import Clock
from assent.core.errors import NotFound
from assent.core.events import ApprovalVoted, Broadcast, Done, Event
from assent.core.grant import Grant
from assent.core.logs import BROADCASTS, feed_of_agent, feed_of_approvals, feed_of_user
from assent.core.policy import Escalation, Policy
from assent.core.rows import (
    Answer,
    ApiKey,
    Assistant,
    AssistantVersion,
    File,
    FileUse,
    Link,
    Notification,
    Row,
    Run,
    RunStatus,
    Schedule,
    Session,
    Thread,
    ThreadStatus,
)
from assent.core.sealing import NoSeal
from assent.notify.outbox import with_outbox
from assent.runs.feeds import with_feeds
from assent.runs.log_lines import with_log_lines
from assent.storage.base import Change, LogEntry, Reads, Storage, all_rows
from assent.storage.seen import SeenStorage, Unseen
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.seen_reads import SeenReads
from assent.storage.sqlite.tables import Tables, visible
from tests.storage import samples
from tests.storage.samples import NOON

TENANTS = (None, "acme")
NAMES = ("ann", "bob", "cy")
ROLES = ("lead", "boss")
TOOLS = ("pay", "send", "")
OWNERS = [Owner(name, tenant) for name in NAMES for tenant in TENANTS]


# ── a world, and what is seen of it ───────────────────────────────────────────────────────────────


class World:
    """Rows of every kind, of everybody's, made by chance."""

    def __init__(self, seed: int) -> None:
        self._choice = random.Random(seed)
        self.rows: list[Row] = []
        self.threads = {}
        for number in range(14):
            self._thread(f"t{number}")
        some = range(14)
        for number in some:
            owner = self._owner()
            mine: dict[str, Any] = {"tenant": owner.tenant, "version": 1}
            self.rows += [
                samples.schedule(f"s{number}", owner=owner.name, created_at=at(number), **mine),
                samples.assistant(f"as{number}", owner=owner.name, created_at=at(number), **mine),
                samples.assistant_version(f"as{number}:1", owner=owner.name, **mine),
                samples.answer(f"k{number}", owner=owner.name, outcome=None, **mine),
                File(
                    file_id=f"f{number}",
                    owner=owner.name,
                    tenant=owner.tenant,
                    created_at=at(number),
                    mime_type="text/plain",
                    size=1,
                    sha256="0",
                    name="a",
                ),
                samples.api_key(f"key{number}", person=owner.name, created_at=at(number), **mine),
                samples.session(f"se{number}", person=owner.name, created_at=at(number), **mine),
                samples.ticket(f"ti{number}", person=owner.name, **mine),
                self._grant(f"g{number}"),
            ]
        self.audit = tuple(self._entry(number) for number in some)

    def _one(self, values: Iterable[Any]) -> Any:
        return self._choice.choice(list(values))

    def _owner(self) -> Owner:
        return self._one(OWNERS)

    def _thread(self, thread_id: str) -> None:
        owner, place = self._owner(), len(self.rows)
        thread = samples.thread(
            thread_id,
            owner=owner.name,
            tenant=owner.tenant,
            status=self._one(ThreadStatus),
            created_at=at(place),
        )
        self.threads[thread_id] = thread
        self.rows.append(thread)
        for number in range(3):
            # Not all of a thread's runs were started by whom it belongs to: programs may do so.
            by = owner.name if number else self._one(NAMES)
            id = f"{thread_id}.{number}"
            run = samples.run(
                f"r{id}",
                thread_id=thread_id,
                owner=by,
                tenant=owner.tenant,
                status=self._one(RunStatus),
            )
            self.rows += [run, self._approval(f"a{id}", run), self._notification(f"n{id}", run)]
        self.rows += [
            FileUse(use_id=f"u{thread_id}", file_id="f0", thread_id=thread_id),
            samples.link(f"l{thread_id}", thread_id=thread_id, version=1),
            samples.effect(f"e{thread_id}", thread_id=thread_id),
            samples.timer(f"i{thread_id}", thread_id=thread_id),
        ]

    def _approval(self, id: str, run: Run) -> Approval:
        by, to = self._one(NAMES), self._one([*(Target(role=each) for each in ROLES), None])
        to = to or Target(name=self._one(NAMES))
        delegation = Delegation(voting_right=by, to=to, by=by, at=NOON)
        return samples.approval(
            id,
            thread_id=run.thread_id,
            run_id=run.run_id,
            owner=run.owner,
            tenant=run.tenant,
            tool=self._one(TOOLS),
            status=self._one(ApprovalStatus),
            policy=self._one(POLICIES),
            step=0,
            delegations=self._one([(), (delegation,)]),
            requested_at=at(len(self.rows)),
        )

    def _grant(self, id: str) -> Grant:
        return samples.grant(
            id,
            given_by=self._one(NAMES),
            user=self._one((*NAMES, "")),
            tenant=self._one(TENANTS),
            given_at=at(len(self.rows)),
            until=NOON + timedelta(days=99),
        )

    def _notification(self, id: str, run: Run) -> Notification:
        return samples.notification(
            id, thread_id=run.thread_id, tenant=run.tenant, created_at=at(len(self.rows))
        )

    def _entry(self, number: int) -> AuditEntry:
        return AuditEntry(
            at=at(number),
            action=AuditAction.DECIDED,
            authentication=Authentication.API_KEY,
            tenant=self._one(TENANTS),
            thread_id=self._one(self.threads),
        )

    def of(self, kind: type[Any]) -> list[Any]:
        return [row for row in self.rows if isinstance(row, kind)]


POLICIES = (
    Policy(),
    Policy(roles=("lead",)),
    Policy(names=("bob", "cy")),
    Policy(
        roles=("boss",),
        timeout=timedelta(hours=1),
        on_timeout="escalate",  # type: ignore[arg-type]
        escalation=(Escalation(names=("cy",)),),
    ),
)


def at(number: int) -> Any:
    return NOON + timedelta(seconds=number)


def is_shown(world: World, sight: Sight, row: Any, *, alone: bool = True) -> bool:
    """True if the sight shows the row: `alone`, or as one of those of its thread; or else in a list
    of everybody's."""
    owner = sight.owner
    if sight.reach in ("everything", "nothing"):
        return sight.reach == "everything"
    wide = sight.reach == "tenant"
    thread = world.threads.get(row.thread_id) if alone or not hasattr(row, "tenant") else None
    if isinstance(row, Approval):
        return sight.shows(row, thread)
    if not hasattr(row, "tenant"):
        return thread is not None and is_shown(world, sight, thread)
    if row.tenant != owner.tenant:
        return False
    match row:
        case Grant():
            mine = row.given_by == owner.name or row.user == owner.name
            return wide or sight.approves.anything or mine
        case Notification():
            return wide
        case ApiKey() | Session():
            return wide or row.person == owner.name
        case Run():
            is_own_thread = thread is not None and thread.owner == owner.name
            return wide or is_own_thread or row.owner == owner.name
        case _:
            return wide or row.owner == owner.name


SIGHTS: dict[str, Sight] = {
    "everything": EVERYTHING,
    "nothing": NOTHING,
    "ann": Sight("own", Owner("ann")),
    "bob of acme": Sight("own", Owner("bob", "acme")),
    "an auditor": Sight("tenant", Owner("dee")),
    "an auditor of acme": Sight("tenant", Owner("dee", "acme")),
    "an approver": Sight("own", Owner("bob", "acme"), ("lead",), APPROVES_ALL),
    "an approver of a tool": Sight(
        "own", Owner("cy"), ("boss",), Approves(tools=frozenset({"pay", "other"}))
    ),
    "an approver for a role": sight_for(
        Owner("dee", "acme"),
        ["approver:role:lead"],
        approves_of(["approver:role:lead"]),
        Right.SEE,
    ),
    "whoever forgot": Sight("own"),
}


@pytest.fixture(scope="module")
def world() -> World:
    return World(1)


@pytest.fixture(scope="module")
def filled(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all of it, that nobody has open."""
    path = tmp_path_factory.mktemp("world") / "assent.db"

    async def fill() -> None:
        async with SqliteStorage.open(path) as storage:
            await storage.commit(Change(rows=tuple(world.rows), audit=world.audit))

    asyncio.run(fill())
    return path


@pytest.fixture
async def full(tmp_path: Path, filled: Path) -> AsyncIterator[SqliteStorage]:
    shutil.copytree(filled.parent, tmp_path, dirs_exist_ok=True)
    async with SqliteStorage.open(tmp_path / "assent.db", synchronous="normal") as storage:
        yield storage


ONE_BY_ONE: Mapping[str, type[Any]] = {
    "thread": Thread,
    "run": Run,
    "approval": Approval,
    "schedule": Schedule,
    "assistant": Assistant,
    "assistant_version": AssistantVersion,
    "grant": Grant,
    "answer": Answer,
    "file": File,
    "notification": Notification,
    "link": Link,
    "api_key": ApiKey,
    "session": Session,
}

LISTS: Mapping[str, type[Any]] = {
    "threads": Thread,
    "latest_runs": Run,
    "approvals": Approval,
    "schedules": Schedule,
    "assistants": Assistant,
    "grants": Grant,
    "notifications": Notification,
    "api_keys": ApiKey,
    "sessions": Session,
}

OTHERS = {"runs", "file_uses", "assistant_versions", "audit", "audit_head"}
LOGS = {"read_log", "read_log_back", "check_cursor", "newest_event", "last_seq", "listen"}


def test_every_way_to_read_is_tried() -> None:
    assert {*ONE_BY_ONE, *LISTS, *OTHERS, *LOGS} == Reads.__abstractmethods__


@pytest.mark.parametrize("name", SIGHTS)
async def test_exactly_what_a_sight_shows_is_read(
    full: SqliteStorage, world: World, name: str
) -> None:
    sight = SIGHTS[name]
    reads = full.seen_by(sight)

    def shown(kind: type[Any], **options: Any) -> set[str]:
        rows = world.of(kind)
        return {key(row) for row in rows if is_shown(world, sight, row, **options)}

    for method, kind in ONE_BY_ONE.items():
        found = [await getattr(reads, method)(key(row)) for row in world.of(kind)]
        assert {key(row) for row in found if row is not None} == shown(kind), method
    for method, kind in LISTS.items():
        listed = await all_rows(getattr(reads, method), limit=7)
        assert len({key(row) for row in listed}) == len(listed)
        assert {key(row) for row in listed} == shown(kind, alone=False), method

    everywhere = {key(row) for row in await reads.runs()}
    assert everywhere == shown(Run, alone=False)
    of_thread: dict[str, set[str]] = {"r": set(), "l": set(), "a": set(), "u": set()}
    for thread_id in world.threads:
        of_thread["r"] |= {key(row) for row in await reads.runs(thread_id=thread_id)}
        of_thread["l"] |= {
            key(row) for row in await all_rows(reads.latest_runs, thread_id=thread_id)
        }
        of_thread["a"] |= {key(row) for row in await all_rows(reads.approvals, thread_id=thread_id)}
        of_thread["u"] |= {key(row) for row in await reads.file_uses(thread_id)}
    assert of_thread["r"] == of_thread["l"] == shown(Run)
    assert of_thread["a"] == shown(Approval)
    assert of_thread["u"] == shown(FileUse)
    of_assistant = [
        await all_rows(reads.assistant_versions, assistant_id=key(row))
        for row in world.of(Assistant)
    ]
    assert {key(row) for rows in of_assistant for row in rows} == shown(AssistantVersion)
    of_run = [await all_rows(reads.approvals, run_id=key(run)) for run in world.of(Run)]
    assert {key(row) for rows in of_run for row in rows} == shown(Approval)

    tenants = {"everything": TENANTS, "tenant": (sight.owner.tenant,)}.get(sight.reach, ())
    audited = [entry for entry in world.audit if entry.tenant in tenants]
    assert [record.entry for record in await all_rows(reads.audit, limit=7)] == audited
    for thread_id in world.threads:
        about = [record.entry for record in await all_rows(reads.audit, thread_id=thread_id)]
        assert about == [entry for entry in audited if entry.thread_id == thread_id]
    assert (await reads.audit_head() is not None) == bool(tenants)


def key(row: Any) -> str:
    return str(getattr(row, next(iter(type(row).__annotations__))))


@pytest.mark.parametrize("name", SIGHTS)
async def test_filters_leave_a_part_of_what_is_seen(
    full: SqliteStorage, world: World, name: str
) -> None:
    sight = SIGHTS[name]
    reads = full.seen_by(sight)
    rows = [row for row in world.of(Approval) if is_shown(world, sight, row, alone=False)]
    filters: list[tuple[dict[str, Any], Callable[[Approval], bool]]] = [
        ({"status": ApprovalStatus.PENDING}, lambda row: row.is_pending),
        ({"tool": "pay"}, lambda row: row.tool == "pay"),
        ({"role": "lead"}, lambda row: "lead" in row.roles),
        ({"assignee": "bob"}, lambda row: "bob" in (*row.names, *row.assignees)),
        ({"before": at(100)}, lambda row: row.requested_at < at(100)),
    ]
    for given, wanted in filters:
        found = await all_rows(reads.approvals, limit=5, **given)
        assert [key(row) for row in found] == [
            key(row) for row in sorted(rows, key=lambda row: row.requested_at) if wanted(row)
        ]
    busy = await all_rows(reads.threads, status=ThreadStatus.BUSY)
    assert {key(row) for row in busy} == {
        key(row)
        for row in world.of(Thread)
        if is_shown(world, sight, row) and row.status is ThreadStatus.BUSY
    }


# ── everything ────────────────────────────────────────────────────────────────────────────────────


def test_with_everything_the_query_is_what_it_was() -> None:
    for table in Tables(NoSeal()):
        assert visible(table, EVERYTHING) == (
            f"(SELECT * FROM {table.name} WHERE "
            f"thread_id NOT IN (SELECT thread_id FROM erased_rows)) AS {table.name}",
            (),
        )
        assert visible(table, EVERYTHING, few=True) == visible(table, EVERYTHING)
        assert "false" in visible(table, NOTHING).sql


async def test_whoever_sees_everything_reads_the_storage_itself(full: SqliteStorage) -> None:
    assert full.seen_by(EVERYTHING) is full


# ── the storage of a request ──────────────────────────────────────────────────────────────────────

PASSED_ON = {
    "store",
    "outage",
    "load",
    "timer",
    "size_of_files",
    "size_of_files_of",
    "distrust",
    "commit",
}
"""The methods that are no reading, and that a request may call; each with a reason there."""

OWN = Sight("own", Owner("ann"))


def test_each_method_of_a_storage_is_decided_upon() -> None:
    assert Storage.__abstractmethods__ <= vars(SeenStorage).keys()

    class Forgetful(Storage):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Forgetful()  # type: ignore[abstract]


async def test_what_no_request_needs_is_refused(full: SqliteStorage) -> None:
    seen = SeenStorage(full, OWN)
    theirs = [
        each.thread_id
        for each in await all_rows(full.threads)
        if await seen.thread(each.thread_id) is None
    ]
    assert theirs
    for name in Storage.__abstractmethods__ - Reads.__abstractmethods__ - PASSED_ON:
        needed = {
            "seen_by": (EVERYTHING,),
            "append": ((), print),
            "remove_file": ("f0",),
            "prune_checkpoints": (theirs, 1),
        }
        with pytest.raises(Unseen, match=name) if name != "remove_file" else nullcontext():
            called = getattr(seen, name)(*needed.get(name, ()))
            assert name == "remove_file" or called is not None
            assert (await called) is False


async def test_only_an_upload_that_is_seen_is_removed(full: SqliteStorage, world: World) -> None:
    seen = SeenStorage(full, OWN)
    theirs = [file for file in world.of(File) if not is_shown(world, OWN, file)]
    for file in theirs:
        assert not await seen.remove_file(file.file_id)
        assert await full.file(file.file_id) == file


async def test_through_every_wrapper_reads_are_seen_and_changes_are_whole(
    full: SqliteStorage,
) -> None:
    whole = with_log_lines(with_feeds(with_outbox(full, (), Clock(), lambda: None)))
    seen = SeenStorage(whole, OWN)
    assert isinstance(whole.seen_by(OWN), SeenReads)
    before = await full.last_seq(feed_of_user("ann"))
    mine = samples.run("new", thread_id="new", owner="ann", tenant=None, version=1)
    done = Done(thread_id="new", run_id="new")
    await seen.commit(Change(rows=(mine,), events=(done,)))
    assert await full.last_seq(feed_of_user("ann")) == before + 1


# ── logs ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_listening", [False, True])
@pytest.mark.parametrize("name", SIGHTS)
async def test_a_log_is_read_with_its_thread(
    full: SqliteStorage, world: World, name: str, is_listening: bool
) -> None:
    sight = SIGHTS[name]
    events = tuple(Done(thread_id=id, run_id=f"r{id}.0") for id in world.threads for _ in range(2))
    first = next(iter(world.threads))
    with full.listen(first) if is_listening else nullcontext():
        await full.commit(Change(events=events))
        for thread_id, thread in world.threads.items():
            reads = full.seen_by(sight)
            asked: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
                (reads.read_log, ()),
                (reads.read_log, (1,)),
                (partial(reads.read_log, types={"done"}), ()),
                (partial(reads.read_log, run_id=f"r{thread_id}.0"), ()),
                (reads.read_log_back, ()),
                (reads.read_log_back, (2,)),
                (partial(reads.read_log_back, types={"done"}), ()),
                (partial(reads.read_log_back, run_id=f"r{thread_id}.0"), ()),
                (reads.last_seq, ()),
                (reads.check_cursor, (1,)),
                (reads.newest_event, (f"r{thread_id}.0",)),
            ]
            for ask, arguments in asked:
                if is_shown(world, sight, thread):
                    await ask(thread_id, *arguments)
                else:
                    with pytest.raises(NotFound, match=f"^There is no thread '{thread_id}'.$"):
                        await ask(thread_id, *arguments)
            if is_shown(world, sight, thread):
                assert [entry.seq for entry in await reads.read_log(thread_id)] == [1, 2]
                assert [entry.seq for entry in await reads.read_log_back(thread_id, 2)] == [1]


def told(number: int, thread_id: str, run: Run, approval: Approval | None) -> Event:
    if approval is None:
        return Done(thread_id=thread_id, run_id=run.run_id, about=run.thread_id)
    return ApprovalVoted(
        thread_id=thread_id,
        run_id=run.run_id,
        approval_id=approval.approval_id,
        about=run.thread_id,
        tool="pay",
        decision="approve",
        by="bob",
        votes=1,
        quorum=number,
    )


@pytest.mark.parametrize("name", SIGHTS)
async def test_a_feed_has_what_its_reader_sees(
    full: SqliteStorage, world: World, name: str
) -> None:
    sight = SIGHTS[name]
    runs = {run.run_id: run for run in world.of(Run)}
    feeds = {
        feed: [
            told(number, feed, runs[approval.run_id], approval if number % 3 else None)
            for number, approval in enumerate(world.of(Approval))
            if approval.tenant == tenant
        ]
        for tenant in TENANTS
        for feed in (feed_of_agent("clerk", tenant), feed_of_approvals(tenant))
    }
    for events in feeds.values():
        await full.commit(Change(events=tuple(events)))

    rows = {key(row): row for row in (*world.of(Run), *world.of(Approval))}
    for tenant in TENANTS:
        for feed in (feed_of_agent("clerk", tenant), feed_of_approvals(tenant)):
            wanted = [
                number
                for number, event in enumerate(feeds[feed], 1)
                if is_shown(world, sight, rows[getattr(event, "approval_id", "") or event.run_id])
            ]
            reads = full.seen_by(sight)
            if sight.reach == "nothing" or (
                sight.reach != "everything" and sight.owner.tenant != tenant
            ):
                for read in (reads.read_log, reads.read_log_back):
                    with pytest.raises(NotFound):
                        await read(feed)
                continue
            assert [entry.seq for entry in await _all(reads, feed, limit=4)] == wanted
            assert [entry.seq for entry in await _all_back(reads, feed, limit=4)] == wanted
            with full.listen(feed):
                assert [entry.seq for entry in await _all(reads, feed, limit=7)] == wanted
                votes = await _all(reads, feed, limit=2, types={"approval_voted"})
                assert [entry.seq for entry in votes] == [
                    number
                    for number in wanted
                    if isinstance(feeds[feed][number - 1], ApprovalVoted)
                ]


async def _all(reads: Reads, feed: str, **options: Any) -> list[LogEntry]:
    found: list[LogEntry] = []
    after = 0
    while page := await reads.read_log(feed, after, **options):
        found += page
        after = page[-1].seq
        assert await reads.read_log(feed, after) == await reads.read_log(feed, after)
    return found


async def _all_back(reads: Reads, feed: str, **options: Any) -> list[LogEntry]:
    found: list[LogEntry] = []
    before: int | None = None
    while page := await reads.read_log_back(feed, before, **options):
        found = [*page, *found]
        before = page[0].seq
    return found


@pytest.mark.parametrize("name", SIGHTS)
async def test_a_persons_feed_is_theirs_and_the_auditors(full: SqliteStorage, name: str) -> None:
    sight = SIGHTS[name]
    reads = full.seen_by(sight)
    for owner in OWNERS:
        feed = feed_of_user(owner.name, owner.tenant)
        await full.commit(Change(events=(Done(thread_id=feed, run_id="gone", about="t"),)))
        is_theirs = sight.reach == "own" and sight.owner == owner
        is_auditors = sight.reach == "tenant" and sight.owner.tenant == owner.tenant
        if sight.reach == "everything" or is_theirs or is_auditors:
            assert len(await reads.read_log(feed)) == 1
        else:
            with pytest.raises(NotFound):
                await reads.read_log(feed)
    for unknown in ("~", "~agent", "~user", "~users/ann", "~agent/a/b/c", "~approvals/a/b"):
        if sight.reach != "everything":
            with pytest.raises(NotFound):
                await reads.read_log(unknown)


@pytest.mark.parametrize("tenant", TENANTS)
async def test_what_everybody_was_told_is_told_to_those_of_the_tenant(
    full: SqliteStorage, tenant: str | None
) -> None:
    sent = [
        Broadcast(thread_id=BROADCASTS, message=f"{number}", tenant=TENANTS[number % 2])
        for number in range(6)
    ]
    await full.commit(Change(events=tuple(sent)))
    reads = full.seen_by(Sight("tenant", Owner("dee", tenant)))
    wanted = [number for number in range(1, 7) if sent[number - 1].tenant == tenant]
    assert [entry.seq for entry in await _all(reads, BROADCASTS, limit=1)] == wanted
    with pytest.raises(NotFound):
        await full.seen_by(Sight("own", Owner("dee", tenant))).read_log(BROADCASTS)


class Counting:
    """Answers from another reader, and counts the events that were read."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.events = 0

    async def rows(self, sql: str, *args: Any, **options: Any) -> list[Any]:
        found: list[Any] = await self._reader.rows(sql, *args, **options)
        self.events += len(found) if "FROM events" in sql else 0
        return found


async def test_what_is_passed_by_in_a_feed_is_looked_at_once(
    full: SqliteStorage, world: World
) -> None:
    """A reader who sees nothing of a long feed does not read it anew at each ring."""
    run = next(each for each in world.of(Run) if each.tenant is None)
    feed = feed_of_agent("clerk")
    counting: Any = Counting(full._reader)
    sight = Sight("own", Owner("nobody"))
    reads = SeenReads(counting, full._tails, NoSeal(), full._tables, nothing_tampered, sight)
    for _ in range(4):
        await full.commit(Change(events=tuple(told(1, feed, run, None) for _ in range(50))))
        assert await reads.read_log(feed) == ()
    assert counting.events == 200


async def nothing_tampered(error: Exception) -> None:
    raise AssertionError from error
