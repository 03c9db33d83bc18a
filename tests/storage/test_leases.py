"""Leases: whoever has lost his run writes nothing more for it, neither events nor checkpoints nor
rows, whatever else shares the commit."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, StateGraph

from assent.core.errors import Conflict, StaleLease
from assent.core.events import Event
from assent.core.rows import LEASE_KEY, Lease, Run, RunStatus, ThreadStatus
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.leases import REMEMBERED, Leases
from assent.storage.sqlite.merging import MERGE_FROM
from assent.storage.sqlite.writer import Transaction
from tests.storage.samples import piece, run, thread, token
from tests.support.waiting import PATIENCE

# Everything twice, over a real file.
pytestmark = pytest.mark.slow

MINE = Lease("r", 1)


def running(run_id: str = "r", **changes: Any) -> Run:
    return run(run_id, **{"status": RunStatus.RUNNING, "attempt": 1, "ended_at": None, **changes})


LOST: dict[str, Change | None] = {
    "another worker has it": Change(rows=(running(attempt=2, version=2),)),
    "it waits to be given out": Change(rows=(running(status=RunStatus.PENDING, version=2),)),
    "it has succeeded": Change(rows=(running(status=RunStatus.SUCCESS, version=2),)),
    "it has paused": Change(rows=(running(status=RunStatus.INTERRUPTED, version=2),)),
    "it was removed": Change(removed=(running(),)),
    "its thread was erased": Change(erase="t"),
    "its thread is distrusted": None,
}
"""How a lease ends."""


async def lose(storage: Storage, how: str = "another worker has it") -> None:
    if change := LOST[how]:
        await storage.commit(change)
    else:
        await storage.distrust("t", "Something was changed.", stopped=True)


def at(lease: Lease | None, thread_id: str = "t", checkpoint_id: str | None = None) -> Any:
    named = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    leased = {LEASE_KEY: lease} if lease else {}
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", **named, **leased}}


async def put(storage: Storage, lease: Lease | None, number: int = 1, thread_id: str = "t") -> Any:
    checkpoint: Any = {
        **empty_checkpoint(),
        "id": f"{number:08}",
        "channel_values": {"n": number},
        "channel_versions": {"n": number},
    }
    return await storage.checkpointer.aput(
        at(lease, thread_id), checkpoint, {"source": "loop", "step": number}, {"n": number}
    )


async def put_writes(storage: Storage, lease: Lease | None, task: str = "task") -> None:
    await storage.checkpointer.aput_writes(at(lease, checkpoint_id="00000001"), [("n", 2)], task)


async def append(storage: Storage, lease: Lease | None, event: Event | None = None) -> None:
    """Append, and raise what became of it."""
    errors: list[Exception] = []
    storage.append([event or token()], errors.append, lease)
    await storage.commit(Change())
    await asyncio.sleep(0)
    for error in errors:
        raise error


async def commit(storage: Storage, lease: Lease | None) -> None:
    found = await storage.thread("t")
    await storage.commit(
        Change(
            rows=(thread(version=found.version + 1 if found else 1),),
            events=(token(),),
            lease=lease,
        )
    )


WRITES: dict[str, Callable[[Storage, Lease | None], Awaitable[Any]]] = {
    "an event": append,
    "a change": commit,
    "a checkpoint": put,
    "a task's writes": put_writes,
}


async def written(storage: Storage) -> tuple[Any, ...]:
    """Whatever there is of the thread."""
    saved = [
        (each.checkpoint["id"], each.pending_writes)
        async for each in storage.checkpointer.alist(at(None))
    ]
    return await storage.thread("t"), await storage.last_seq("t"), saved


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.CANCELLING])
@pytest.mark.parametrize("what", WRITES)
async def test_who_has_the_run_writes(storage: Storage, what: str, status: RunStatus) -> None:
    await storage.commit(Change(rows=(thread(), running(status=status, attempt=7))))
    await put(storage, None)
    before = await written(storage)
    await WRITES[what](storage, Lease("r", 7))
    assert await written(storage) != before


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("what", WRITES)
async def test_who_has_lost_the_run_writes_nothing(storage: Storage, what: str, how: str) -> None:
    await storage.commit(Change(rows=(thread(status=ThreadStatus.BUSY), running())))
    await put(storage, MINE)
    await append(storage, MINE)
    await lose(storage, how)
    await put(storage, None)
    before = await written(storage)
    with pytest.raises(StaleLease, match="Release it") as raised:
        await WRITES[what](storage, MINE)
    assert raised.value.details["run_id"] == "r"
    assert await written(storage) == before
    # Without a lease it would have been stored.
    await WRITES[what](storage, None)


async def test_an_event_right_after_its_thread_was_erased_does_not_begin_it_anew(
    storage: Storage,
) -> None:
    await storage.commit(Change(rows=(thread(), running())))
    await append(storage, MINE)
    await storage.commit(Change(erase="t"))
    with pytest.raises(StaleLease):
        await append(storage, MINE)
    assert await storage.read_log("t") == ()


@pytest.mark.parametrize(
    "lease", [Lease("r", 0), Lease("r", 2), Lease("nobody's", 1), Lease("", 0)]
)
@pytest.mark.parametrize("what", WRITES)
async def test_a_lease_that_was_never_given_holds_nothing(
    storage: Storage, what: str, lease: Lease
) -> None:
    await storage.commit(Change(rows=(running(),)))
    with pytest.raises(StaleLease):
        await WRITES[what](storage, lease)
    assert await written(storage) == (None, 0, [])


async def test_the_change_that_ends_the_run_comes_with_its_lease(storage: Storage) -> None:
    await storage.commit(Change(rows=(running(),)))
    ended = running(status=RunStatus.SUCCESS, version=2)
    assert await storage.commit(Change(rows=(ended,), events=(token(),), lease=MINE)) == (1,)
    # A version that has moved is the lesser trouble.
    with pytest.raises(StaleLease):
        await storage.commit(Change(rows=(ended,), lease=MINE))
    with pytest.raises(Conflict) as raised:
        await storage.commit(Change(rows=(ended,)))
    assert not isinstance(raised.value, StaleLease)


async def test_removing_and_copying_need_no_lease(storage: Storage) -> None:
    await storage.commit(Change(rows=(running(),)))
    for number in (1, 2):
        await put(storage, MINE, number)
    await lose(storage)
    await storage.checkpointer.acopy_thread("t", "u")
    await storage.prune_checkpoints(["t"], 1)
    await storage.checkpointer.adelete_thread("t")
    assert [each.checkpoint["id"] async for each in storage.checkpointer.alist(at(None, "u"))] == [
        "00000002",
        "00000001",
    ]


# ── with others in one commit ──


async def test_whoever_writes_beside_a_stale_one_is_not_held_back(storage: Storage) -> None:
    names = [f"t{number}" for number in range(6)]
    await storage.commit(Change(rows=tuple(running(f"r{name}", thread_id=name) for name in names)))
    for stale in ("t1", "t4"):
        await storage.commit(
            Change(rows=(running(f"r{stale}", thread_id=stale, attempt=2, version=2),))
        )
    errors: dict[str, list[Exception]] = {name: [] for name in names}
    for name in names:
        storage.append([token(name)], errors[name].append, Lease(f"r{name}", 1))
    puts = [put(storage, Lease(f"r{name}", 1), thread_id=name) for name in names]
    writes = [
        storage.checkpointer.aput_writes(
            at(Lease(f"r{name}", 1), name, "00000001"), [("n", 2)], "task"
        )
        for name in names
    ]
    outcomes = await asyncio.gather(*puts, *writes, return_exceptions=True)
    assert [type(outcome) is StaleLease for outcome in outcomes] == [
        name in ("t1", "t4") for name in names
    ] * 2
    assert [bool(await storage.checkpointer.aget_tuple(at(None, name))) for name in names] == [
        name not in ("t1", "t4") for name in names
    ]
    assert [await storage.last_seq(name) for name in names] == [
        0 if name in ("t1", "t4") else 2 for name in names
    ]
    assert [[type(error) for error in errors[name]] for name in names] == [
        [StaleLease] if name in ("t1", "t4") else [] for name in names
    ]


async def test_what_was_queued_before_the_run_was_lost_is_stored_and_what_came_after_is_not(
    storage: Storage,
) -> None:
    await storage.commit(Change(rows=(running(),)))
    errors: list[Exception] = []
    storage.append([token()], errors.append, MINE)
    before = asyncio.ensure_future(put(storage, MINE))
    await asyncio.sleep(0.05)
    lost = asyncio.ensure_future(lose(storage))
    await asyncio.sleep(0)
    storage.append([token(), token()], errors.append, MINE)
    with pytest.raises(StaleLease):
        await put(storage, MINE, 2)
    await asyncio.gather(before, lost)
    assert [entry.type for entry in await storage.read_log("t")] == ["token", "checkpoint"]
    assert [type(error) for error in errors] == [StaleLease]


async def test_under_load_no_word_is_merged_past_the_loss_of_its_run(storage: Storage) -> None:
    await storage.commit(Change(rows=(running(),)))
    assert isinstance(storage, SqliteStorage)
    errors: list[Exception] = []
    async with held(storage):
        for _ in range(MERGE_FROM):
            storage.append([piece("a")], errors.append, MINE)
        lost = asyncio.ensure_future(storage.commit(Change(rows=(running(attempt=2, version=2),))))
        await asyncio.sleep(0)
        for _ in range(MERGE_FROM):
            storage.append([piece("b")], errors.append, MINE)
        for _ in range(MERGE_FROM):
            storage.append([piece("c")], errors.append, Lease("r", 2))
    await lost
    await storage.commit(Change())
    await asyncio.sleep(0)
    told = b"".join(entry.body for entry in await storage.read_log("t"))
    assert (told.count(b"aaaa"), told.count(b"b" * 4), told.count(b"cccc")) == (
        MERGE_FROM // 4,
        0,
        MERGE_FROM // 4,
    )
    assert [type(error) for error in errors] == [StaleLease]


@asynccontextmanager
async def held(storage: SqliteStorage) -> AsyncIterator[None]:
    """Hold the writer inside a transaction, so that whatever is queued in this context becomes one
    batch."""
    entered, release = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        entered.set()
        release.wait(PATIENCE)

    holding = asyncio.ensure_future(storage._writer.write(hold, threads=()))
    await asyncio.to_thread(entered.wait, PATIENCE)
    try:
        yield
    finally:
        release.set()
        await holding


# ── what the writer remembers ──


async def test_a_change_that_is_rolled_back_leaves_nothing_behind_in_memory(
    storage: Storage,
) -> None:
    await storage.commit(Change(rows=(running(),)))
    await append(storage, MINE)
    assert isinstance(storage, SqliteStorage)

    def take_it_and_fail(transaction: Transaction) -> None:
        transaction.connection.execute("UPDATE runs SET attempt = 2")
        transaction.leases.forget("r")
        # Now it is known to be another's, in a transaction that will never have been.
        transaction.leases.check(Lease("r", 2))
        raise LookupError

    async with held(storage):
        failing = asyncio.ensure_future(storage._writer.write(take_it_and_fail, threads=()))
        await asyncio.sleep(0)
        errors: list[Exception] = []
        storage.append([token()], errors.append, MINE)
        storage.append([token()], errors.append, Lease("r", 2))
    with pytest.raises(LookupError):
        await failing
    await append(storage, MINE)
    assert [type(error) for error in errors] == [StaleLease]
    assert await storage.last_seq("t") == 3


async def test_a_commit_that_fails_leaves_nothing_behind_in_memory(storage: Storage) -> None:
    await storage.commit(Change(rows=(running(),)))
    assert isinstance(storage, SqliteStorage)

    def take_it(transaction: Transaction) -> None:
        transaction.connection.execute("UPDATE runs SET attempt = 2")
        transaction.leases.forget("r")
        transaction.leases.check(Lease("r", 2))

    def end_the_transaction(transaction: Transaction) -> None:
        # As SQLite does by itself when the disk is full.
        transaction.connection.execute("ROLLBACK")
        raise LookupError

    async with held(storage):
        jobs = [
            asyncio.ensure_future(storage._writer.write(each, threads=()))
            for each in (take_it, end_the_transaction)
        ]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [True, True]
    await append(storage, MINE)
    with pytest.raises(StaleLease):
        await append(storage, Lease("r", 2))


async def test_checkpoints_that_fail_together_leave_nothing_behind_in_memory(
    storage: Storage,
) -> None:
    await storage.commit(Change(rows=(running(), running("s", thread_id="u"))))
    outcomes = await asyncio.gather(
        put(storage, MINE), put(storage, Lease("s", 2), thread_id="u"), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [dict, StaleLease]
    await storage.commit(Change(rows=(running("s", thread_id="u", attempt=2, version=2),)))
    await put(storage, Lease("s", 2), thread_id="u")


async def test_an_event_costs_no_question_to_the_file_once_its_run_is_known(tmp_path: Path) -> None:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        await storage.commit(Change(rows=(running(),)))
        asked: list[str] = []
        await storage._writer.outside_transaction(
            lambda connection: connection.set_trace_callback(asked.append)
        )
        for _ in range(5):
            await append(storage, MINE)
            await put(storage, MINE)
        assert len([statement for statement in asked if "FROM runs" in statement]) == 1


async def test_memory_is_bounded_and_forgetting_loses_nothing(storage: Storage) -> None:
    assert isinstance(storage, SqliteStorage)
    await storage.commit(Change(rows=(running(),)))

    def ask_of_many(connection: Any) -> int:
        leases = Leases(connection)
        for number in range(REMEMBERED + 5):
            with pytest.raises(StaleLease):
                leases.check(Lease(f"r{number}", 1))
            leases.check(MINE)
        leases.check(None)
        return len(leases._held)

    assert await storage._writer.outside_transaction(ask_of_many) < 10


# ── through LangGraph ──


class State(TypedDict):
    said: Annotated[list[str], operator.add]


def steps(*nodes: tuple[str, Any]) -> StateGraph[Any]:
    builder = StateGraph(State)
    for name, node in nodes:
        builder.add_node(name, node)
    builder.add_edge(START, nodes[0][0])
    for (one, _), (other, _) in pairwise(nodes):
        builder.add_edge(one, other)
    return builder


async def say(_: State) -> dict[str, Any]:
    return {"said": ["a"]}


async def checkpoints(storage: Storage) -> set[Any]:
    """Every checkpoint of the thread, in each of its namespaces, and what tasks wrote there."""
    config: Any = {"configurable": {"thread_id": "t"}}
    return {
        (
            each.config["configurable"]["checkpoint_ns"],
            each.checkpoint["id"],
            len(each.pending_writes or ()),
        )
        async for each in storage.checkpointer.alist(config)
    }


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("within", [False, True], ids=["the graph", "a graph within it"])
async def test_a_graph_that_lost_its_run_in_the_middle_of_a_step_stores_nothing_more(
    storage: Storage, within: bool, durability: Any
) -> None:
    await storage.commit(Change(rows=(running(),)))
    stored: set[Any] = set()

    async def lose_it(_: State) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        await lose(storage)
        stored.update(await checkpoints(storage))
        return {"said": ["lost"]}

    if within:
        middle: Any = steps(("before", say), ("middle", lose_it), ("after", say)).compile(
            checkpointer=True
        )
    else:
        middle = lose_it
    graph = steps(("first", say), ("middle", middle), ("last", say)).compile(
        checkpointer=storage.checkpointer
    )
    with pytest.raises(StaleLease):
        await graph.ainvoke({"said": []}, at(MINE), durability=durability)
    assert await checkpoints(storage) == stored
    assert len({ns for ns, *_ in stored}) == (0 if durability == "exit" else 2 if within else 1)


async def test_a_graph_that_has_its_run_goes_to_the_end_and_the_lease_is_stored_nowhere(
    storage: Storage,
) -> None:
    await storage.commit(Change(rows=(running(),)))
    within = steps(("deep", say)).compile(checkpointer=True)
    graph = steps(("first", say), ("middle", within), ("last", say)).compile(
        checkpointer=storage.checkpointer
    )
    result = await graph.ainvoke({"said": []}, at(MINE))
    assert len(result["said"]) >= 3
    config: Any = {"configurable": {"thread_id": "t"}}
    found = [each async for each in storage.checkpointer.alist(config)]
    assert {each.config["configurable"]["checkpoint_ns"].split(":")[0] for each in found} == {
        "",
        "middle",
    }
    assert not [each for each in found if "lease" in repr(each).lower()]


async def test_an_update_of_a_state_carries_its_lease(storage: Storage) -> None:
    await storage.commit(Change(rows=(running(),)))
    graph = steps(("first", say)).compile(checkpointer=storage.checkpointer)
    await graph.ainvoke({"said": []}, at(MINE))
    await graph.aupdate_state(at(MINE), {"said": ["b"]})
    await lose(storage)
    before = await checkpoints(storage)
    with pytest.raises(StaleLease):
        await graph.aupdate_state(at(MINE), {"said": ["c"]})
    with pytest.raises(StaleLease):
        await graph.aupdate_state(at(MINE), None, as_node="__end__")
    assert await checkpoints(storage) == before
    assert (await graph.aget_state(at(MINE))).values == {"said": ["a", "b"]}


async def test_a_lost_lease_is_refused_on_another_thread_too(storage: Storage) -> None:
    """`put` may be called by whoever runs the graph without an event loop."""
    await storage.commit(Change(rows=(running(),)))
    await lose(storage)
    checkpoint: Any = empty_checkpoint()
    with pytest.raises(StaleLease):
        await asyncio.to_thread(
            storage.checkpointer.put, at(MINE), checkpoint, {"source": "loop", "step": 1}, {}
        )
    with pytest.raises(StaleLease):
        await asyncio.to_thread(
            storage.checkpointer.put_writes, at(MINE, checkpoint_id="1"), [("n", 1)], "task"
        )


async def test_a_lost_lease_is_lost_after_a_restart_too(tmp_path: Path) -> None:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        await storage.commit(Change(rows=(running(), replace(running("s"), attempt=2))))
        await lose(storage)
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        with pytest.raises(StaleLease):
            await append(storage, MINE)
        await append(storage, Lease("r", 2))
        await append(storage, Lease("s", 2))
