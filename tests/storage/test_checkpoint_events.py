"""The events of checkpoints: a run tells of each that it stores, in the transaction that stores
it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, MessagesState, StateGraph

from assent.core.errors import StaleLease
from assent.core.events import Checkpoint, decode, encode, ns_of
from assent.core.rows import LEASE_KEY, Lease, Run, RunStatus
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import NOON, run, thread
from tests.support.manual_clock import ManualClock

LEASE = Lease("r", 1)


def running(run_id: str = "r", thread_id: str = "t") -> Run:
    return run(run_id, thread_id=thread_id, status=RunStatus.RUNNING, attempt=1, ended_at=None)


def leased(thread_id: str = "t", lease: Lease = LEASE) -> Any:
    return {"configurable": {"thread_id": thread_id, LEASE_KEY: lease}}


async def put(storage: Storage, config: Any, number: int, ns: str = "") -> Any:
    checkpoint: Any = {**empty_checkpoint(), "id": f"{number:08}"}
    config["configurable"]["checkpoint_ns"] = ns
    metadata: Any = {"source": "loop", "step": number, "parents": {}}
    return await storage.checkpointer.aput(config, checkpoint, metadata, {})


async def told(storage: Storage, thread_id: str = "t") -> list[Checkpoint]:
    events = [decode(entry.body) for entry in await storage.read_log(thread_id)]
    return [event for event in events if isinstance(event, Checkpoint)]


async def answer(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("Yes, and " * 20)]}


def answering(saver: Any) -> Any:
    """A graph with a subgraph, whose steps are stored too."""
    inner = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
    outer = StateGraph(MessagesState).add_node("inner", inner).add_edge(START, "inner")
    return outer.compile(checkpointer=saver)


async def test_each_superstep_of_each_graph_is_told_once(storage: Storage) -> None:
    await storage.commit(Change(rows=(running(),)))
    graph = answering(storage.checkpointer)
    await graph.ainvoke({"messages": [HumanMessage("hi")]}, leased(), durability="sync")

    events = await told(storage)
    outer = [event for event in events if not event.ns]
    [ns] = {event.ns for event in events if event.ns}
    history = [each async for each in graph.aget_state_history(leased())]
    assert [event.checkpoint_id for event in reversed(outer)] == [
        state.config["configurable"]["checkpoint_id"] for state in history
    ]
    assert [(event.step, event.source) for event in outer] == [
        (-1, "input"),
        (0, "loop"),
        (1, "loop"),
    ]
    assert [event.parent_id for event in outer[1:]] == [event.checkpoint_id for event in outer[:-1]]
    assert outer[0].parent_id == ""
    assert len(ns) == 1
    assert ns[0].startswith("inner:")
    assert [event.step for event in events if event.ns] == [-1, 0, 1]
    assert {(event.thread_id, event.run_id) for event in events} == {("t", "r")}


async def test_they_have_the_time_of_the_storage(path: Path) -> None:
    async with SqliteStorage.open(path, ManualClock().clock) as storage:
        await storage.commit(Change(rows=(running(),)))
        await put(storage, leased(), 1)
        [event] = await told(storage)
        assert event.ts == NOON


async def test_what_is_stored_without_a_lease_is_not_told(storage: Storage) -> None:
    await put(storage, {"configurable": {"thread_id": "t"}}, 1)
    assert await storage.last_seq("t") == 0


async def test_what_was_refused_is_not_told_and_disturbs_no_other(storage: Storage) -> None:
    others = [running(f"r{number}", f"t{number}") for number in range(5)]
    await storage.commit(Change(rows=(running(), *others)))
    results = await asyncio.gather(
        *(put(storage, leased(each.thread_id, Lease(each.run_id, 1)), 1) for each in others[:3]),
        put(storage, leased(lease=Lease("r", 7)), 1),
        *(put(storage, leased(each.thread_id, Lease(each.run_id, 1)), 1) for each in others[3:]),
        return_exceptions=True,
    )
    assert [type(each) for each in results if isinstance(each, Exception)] == [StaleLease]
    assert await told(storage) == []
    for each in others:
        [event] = await told(storage, each.thread_id)
        assert (event.checkpoint_id, event.seq) == ("00000001", 1)


async def test_what_is_computed_anew_is_told_once(storage: Storage) -> None:
    await storage.commit(Change(rows=(running(), thread())))
    first = await put(storage, leased(), 1)
    await storage.checkpointer.adelete_thread("t")
    # It goes on from a checkpoint that is gone.
    first["configurable"][LEASE_KEY] = LEASE
    await put(storage, first, 2)
    assert [event.checkpoint_id for event in await told(storage)] == ["00000001", "00000002"]


async def test_a_run_tells_nothing_on_a_thread_that_is_not_its_own(storage: Storage) -> None:
    """A tool may call a graph on another thread, and what it is given reaches the checkpointer."""
    await storage.commit(Change(rows=(running(),)))
    await put(storage, leased("other"), 1)
    assert await storage.last_seq("other") == 0


@pytest.mark.slow
async def test_the_log_grows_by_as_much_in_a_late_turn_as_in_an_early_one(storage: Storage) -> None:
    await storage.commit(Change(rows=(running(),)))
    graph = answering(storage.checkpointer)
    sizes: list[int] = []
    for _ in range(30):
        after = await storage.last_seq("t")
        await graph.ainvoke({"messages": [HumanMessage("hi")]}, leased(), durability="sync")
        sizes.append(sum(len(entry.body) for entry in await storage.read_log("t", after)))
    assert sum(sizes[-10:]) < 1.1 * sum(sizes[:10])


def test_an_event_of_before_is_still_read() -> None:
    old = b'{"type":"checkpoint","ts":"2026-01-01T00:00:00Z","checkpoint_id":"c","step":3,"next":["a"]}'
    event = decode(old)
    assert isinstance(event, Checkpoint)
    assert (event.checkpoint_id, event.step, event.ns) == ("c", 3, ())


def test_the_path_of_a_subgraph_is_that_of_langgraph() -> None:
    assert ns_of("") == ()
    assert ns_of("outer:6f2c|1|inner:77aa") == ("outer:6f2c", "1", "inner:77aa")
    told = Checkpoint(checkpoint_id="c", ns=ns_of("outer:6f2c"))
    assert msgspec.json.decode(encode(told))["ns"] == ["outer:6f2c"]
