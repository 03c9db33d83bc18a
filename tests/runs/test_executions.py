"""Executions: a run and those that go on where it paused, out of all that is in a thread's log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from msgspec import structs

from assent import ApprovalPolicy, Approve, build_hitl_agent
from assent.api.executions import Found, find
from assent.approvals.decide import Verdict
from assent.core.access import APPROVES_ALL, Owner
from assent.core.audit import Actor
from assent.core.clock import utc_now
from assent.core.errors import Gone, NotFound
from assent.core.events import (
    ApprovalDecided,
    ApprovalRequired,
    Broadcast,
    Done,
    Error,
    Event,
    RunCancelled,
    RunPaused,
    RunResumed,
    RunStart,
    Token,
    decode,
)
from assent.core.rows import Run, RunStatus
from assent.core.run_input import RunInput
from assent.runs.broadcasts import Telling, broadcast
from assent.runs.follow import (
    EXECUTION_TYPES,
    Execution,
    Following,
    execution_so_far,
    first_of,
    follow_execution,
    held_until_rest,
    wait_for_run,
)
from assent.runs.opening import open_runs
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.storage.base import Change, LogEntry, Storage
from assent.storage.sqlite import SqliteStorage
from tests.support.folds import entries_of
from tests.support.models import ScriptedModel, call, say
from tests.support.waiting import PATIENCE, until

ANN = Actor("ann", approves=APPROVES_ALL)


# ── in a log ──────────────────────────────────────────────────────────────────────────────────────


def taken(execution: Execution, entries: Iterable[LogEntry]) -> list[int]:
    """The numbers of the entries that belong to it."""
    return [entry.seq for entry in entries if execution.takes(entry)]


def start(run_id: str) -> Event:
    return RunStart(run_id=run_id, agent="a")


def asks(run_id: str, approval_id: str) -> tuple[Event, Event]:
    """The run asks something, and pauses."""
    return (
        ApprovalRequired(run_id=run_id, approval_id=approval_id),
        RunPaused(run_id=run_id, approvals=(approval_id,)),
    )


def decided(run_id: str, approval_id: str, paused_run: str) -> tuple[Event, Event]:
    """It is decided, and this run goes on."""
    return (
        ApprovalDecided(run_id=run_id, approval_id=approval_id, decision="approve"),
        RunResumed(run_id=run_id, agent="a", approvals=(approval_id,), paused_run=paused_run),
    )


PAUSED_TWICE: tuple[Event, ...] = (
    start("r"),
    *asks("r", "one"),
    *decided("s", "one", "r"),
    Token(run_id="s", message_id="m", content="x"),
    *asks("s", "two"),
    *decided("u", "two", "s"),
    Done(run_id="u"),
)


def old(event: Event) -> Event:
    """The event as it was before it named the run that had paused."""
    return structs.replace(event, paused_run="") if isinstance(event, RunResumed) else event


@pytest.mark.parametrize("root", ["r", ""])
@pytest.mark.parametrize("events", [PAUSED_TWICE, tuple(map(old, PAUSED_TWICE))])
def test_it_goes_on_over_pauses_to_the_end(events: tuple[Event, ...], root: str) -> None:
    entries = entries_of(*events)
    execution = Execution(root)
    assert taken(execution, entries[:-1]) == list(range(1, len(events)))
    assert execution.ends_with is None
    assert taken(execution, entries[-1:]) == [len(events)]
    assert execution.ends_with == entries[-1]


def test_of_the_runs_before_and_behind_it_nothing_is_its_own() -> None:
    others = [start("q"), *asks("q", "nil"), *decided("p", "nil", "q"), Done(run_id="p")]
    entries = entries_of(*others, *PAUSED_TWICE, start("v"), Done(run_id="v"))
    execution = Execution("r")
    assert taken(execution, entries) == list(range(len(others) + 1, len(entries) - 1))
    # A run that goes on is followed alone, for who knows no other; and from there on it is whole.
    assert taken(Execution("u"), entries)[-2:] == [len(entries) - 3, len(entries) - 2]


def test_it_goes_on_with_the_run_that_a_pause_names() -> None:
    events = (
        start("r"),
        RunPaused(run_id="r", next_run="s"),
        Token(run_id="s", message_id="m", content="x"),
    )
    assert taken(Execution("r"), entries_of(*events)) == [1, 2, 3]


def test_a_program_that_decides_by_itself_names_no_approvals() -> None:
    events = (
        start("r"),
        RunPaused(run_id="r"),
        RunResumed(run_id="s", agent="a"),
        Done(run_id="s"),
    )
    assert taken(Execution(), entries_of(*events)) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "end",
    [
        Error(run_id="r", code="boom", message="It failed."),
        RunCancelled(run_id="r"),
        Done(run_id="r"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_end_ends_it(end: Event) -> None:
    execution = Execution("r")
    entries = entries_of(start("r"), end, *decided("s", "one", "r"))
    assert taken(execution, entries) == [1, 2]
    assert execution.ends_with == entries[1]


def test_a_pause_that_another_run_has_taken_over_is_its_end() -> None:
    execution = Execution("r")
    entries = entries_of(start("r"), *asks("r", "one"), start("s"), Done(run_id="s"))
    assert taken(execution, entries) == [1, 2, 3]
    assert execution.ends_with == entries[3]


def test_what_is_told_of_approvals_of_others_is_not_its_own() -> None:
    other = ApprovalDecided(run_id="s", approval_id="other", decision="approve")
    entries = entries_of(start("r"), *asks("r", "one"), other)
    assert taken(Execution("r"), entries) == [1, 2, 3]


# ── in a server ───────────────────────────────────────────────────────────────────────────────────


async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def reply(history: list[Any]) -> AIMessage:
    """Asks to pay what a message says, one after the other, and is done."""
    said = [message for message in history if message.type == "human"][-1]
    wanted = str(said.text).split()[1:]
    behind = history[history.index(said) + 1 :]
    had = sum(isinstance(message, ToolMessage) for message in behind)
    return call("pay", amount=int(wanted[had])) if had < len(wanted) else say("Done.")


@asynccontextmanager
async def working(folder: Path, **policy: Any) -> AsyncIterator[tuple[Storage, Runs]]:
    """A server's runs, with an agent that pays."""
    gated = {"pay": ApprovalPolicy(**policy)}
    agent = build_hitl_agent(ScriptedModel(script=reply), [pay], approve=gated)
    async with (
        asyncio.timeout(PATIENCE),
        SqliteStorage.open(folder / "a.db") as storage,
        open_runs(storage, {"agent": agent}) as runs,
    ):
        yield storage, runs


async def said(runs: Runs, message: str, **options: Any) -> Run:
    """The run with this message, once it has stopped."""
    asked = Submission(given=RunInput(message), by=ANN, thread_id="t", **options)
    return await wait_for_run(runs.storage, (await runs.submit(asked)).run)


async def approved(runs: Runs) -> Run:
    """The run that goes on with a yes, once it has stopped."""
    outcome = await runs.approvals.decide(
        "t", Verdict(decisions=Approve(), by=Actor("bob", approves=APPROVES_ALL))
    )
    assert outcome.run_id is not None
    return await wait_for_run(runs.storage, await runs.run(outcome.run_id))


async def followed(storage: Storage, root: Run) -> list[LogEntry]:
    """The execution's entries, from its first to its end."""
    first = await first_of(storage, "t", root.run_id)
    following = Following(storage, "t", first - 1)
    found: list[LogEntry] = []
    async with aclosing(follow_execution(following, Execution(root.run_id))) as batches:
        async for entries in batches:
            found += entries
    return found


async def test_it_is_followed_over_pauses_from_its_beginning(tmp_path: Path) -> None:
    async with working(tmp_path) as (storage, runs):
        await said(runs, "tell")
        root = await said(runs, "pay 1 2")
        following = asyncio.create_task(followed(storage, root))
        second = await approved(runs)
        # In the middle somebody tells its readers something.
        telling = Telling(message="Hi", data=None, by=Owner("op"), thread_id="t", reached=0)
        await broadcast(storage, runs.clock, telling, None)
        last = await approved(runs)
        await said(runs, "tell")
        entries = await following
        assert entries == await followed(storage, root)
        ids = {root.run_id, second.run_id, last.run_id}
        told = [entry.type for entry in entries if entry.run_id not in ids]
        assert told == ["broadcast"]
        rest = await storage.read_log("t")
        mine = [entry for entry in rest if entry.run_id in ids or entry.type == "broadcast"]
        assert entries == mine
        assert entries[-1].type == "done"
        kinds = [entry.type for entry in entries if entry.type.startswith("approval_")]
        assert kinds == ["approval_required", "approval_decided"] * 2
        # All three are found by the id of any, and the thread by its own.
        for run in (root, second, last):
            assert await find(runs, run.run_id) == Found("t", root.run_id, "agent")
        assert await find(runs, "t") == Found("t", "", "agent")
        with pytest.raises(NotFound, match="no thread and no run 'x'"):
            await find(runs, "x")


async def test_it_begins_with_what_is_left_of_it(tmp_path: Path) -> None:
    """A pause may take longer than events are kept."""
    async with working(tmp_path) as (storage, runs):
        root = await said(runs, "pay 1 2")
        second = await approved(runs)
        # What is pending is kept, and what was before it is not.
        await storage.remove_events(utc_now() + timedelta(hours=1))
        assert await find(runs, root.run_id) == Found("t", second.run_id, "agent")
        last = await approved(runs)
        await storage.remove_events(_began(await storage.read_log("t", run_id=last.run_id)))
        for run in (root, second, last):
            assert await find(runs, run.run_id) == Found("t", last.run_id, "agent")
        entries = await followed(storage, last)
        assert entries[-1].type == "done"
        await storage.remove_events(utc_now() + timedelta(hours=1))
        for run in (root, second, last):
            with pytest.raises(Gone, match="have been removed"):
                await find(runs, run.run_id)


def _began(entries: tuple[LogEntry, ...]) -> datetime:
    return decode(entries[0].body).ts


async def test_a_reader_is_there_before_the_run_begins(tmp_path: Path) -> None:
    async with working(tmp_path) as (storage, runs):
        await said(runs, "pay 1")
        waiting = Submission(
            given=RunInput("tell"), by=ANN, thread_id="t", if_paused="wait", on_busy="enqueue"
        )
        queued = (await runs.submit(waiting)).run
        following = asyncio.create_task(followed(storage, queued))
        await approved(runs)
        entries = await following
        assert (entries[0].type, entries[-1].type) == ("run_start", "done")
        assert {entry.run_id for entry in entries} == {queued.run_id}


async def test_a_message_in_place_of_a_decision_goes_on_in_it(tmp_path: Path) -> None:
    async with working(tmp_path) as (storage, runs):
        root = await said(runs, "pay 1")
        going_on = await said(runs, "tell", if_paused="reject")
        entries = await followed(storage, root)
        assert {entry.run_id for entry in entries} == {root.run_id, going_on.run_id}
        assert entries[-1].type == "done"


@pytest.mark.parametrize("how", ["cancelled", "by a message"])
async def test_a_pause_that_is_cancelled_ends_it(tmp_path: Path, how: str) -> None:
    async with working(tmp_path) as (storage, runs):
        root = await said(runs, "pay 1")
        if how == "cancelled":
            await runs.cancel_run(root.run_id, ANN)
        else:
            assert (await said(runs, "tell", if_paused="cancel")).status is RunStatus.SUCCESS
        entries = await followed(storage, root)
        assert entries[-1].type == "run_cancelled"
        assert (await execution_so_far(storage, "t", root.run_id)).ends_with == entries[-1]


async def test_time_that_passes_is_no_end(tmp_path: Path) -> None:
    async with working(tmp_path, timeout=timedelta(seconds=0.1)) as (storage, runs):
        root = await said(runs, "pay 1")
        entries = await followed(storage, root)
        kinds = [entry.type for entry in entries]
        assert "approval_expired" in kinds and kinds[-1] == "done"


async def test_it_is_known_from_few_types_of_events(tmp_path: Path) -> None:
    async with working(tmp_path) as (storage, runs):
        root = await said(runs, "pay 1")
        assert (await execution_so_far(storage, "t", root.run_id)).ends_with is None
        await approved(runs)
        await said(runs, "tell")
        end = (await execution_so_far(storage, "t", root.run_id)).ends_with
        assert end is not None and end == (await followed(storage, root))[-1]
        assert (await execution_so_far(storage, "t")).ends_with == end
        few = await storage.read_log("t", types=EXECUTION_TYPES)
        assert [entry.seq for entry in few if entry.seq <= end.seq] == taken(Execution(), few)


async def test_it_is_held_until_it_rests_and_then_all_of_it_is_told(tmp_path: Path) -> None:
    async with working(tmp_path) as (storage, runs):
        await said(runs, "tell")
        root = await said(runs, "pay 1 2")
        live = asyncio.create_task(_held(storage, root))
        await approved(runs)
        await approved(runs)
        await said(runs, "tell")
        for told in (await live, await _held(storage, root)):
            assert [entry for entries in told for entry in entries] == await followed(storage, root)
            assert {entries[-1].type for entries in told[:-1]} <= {"run_paused"}
            assert told[-1][-1].type == "done"
        # Only some types, and none that it is known by but these.
        few = await _held(storage, root, types={*EXECUTION_TYPES, "tool_start"})
        kinds = {entry.type for entries in few for entry in entries}
        assert "tool_start" in kinds and kinds <= EXECUTION_TYPES | {"tool_start"}


async def _held(
    storage: Storage, root: Run, types: Collection[str] | None = None
) -> list[tuple[LogEntry, ...]]:
    """What is told of the execution at once, each time that it rests."""
    first = await first_of(storage, "t", root.run_id)
    following = Following(storage, "t", first - 1, types=types)
    async with aclosing(held_until_rest(following, root.run_id)) as batches:
        return [entries async for entries in batches if entries]


class ErasedMeanwhile:
    """A storage whose thread is erased just before events of these types are read."""

    def __init__(self, storage: Storage, types: frozenset[str]) -> None:
        self._storage = storage
        self._types = types

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def read_log(self, thread_id: str, after: int, **options: Any) -> tuple[LogEntry, ...]:
        if options.get("types") == self._types:
            await self._storage.commit(Change(erase=thread_id))
        return await self._storage.read_log(thread_id, after, **options)


async def test_what_is_erased_before_it_is_told_is_gone(tmp_path: Path) -> None:
    types = frozenset({"run_start", "run_paused"})
    async with working(tmp_path) as (storage, runs):
        root = await said(runs, "pay 1")
        meanwhile = cast(Storage, ErasedMeanwhile(storage, types))
        following = Following(meanwhile, "t", types=types)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(Gone):
                async with aclosing(held_until_rest(following, root.run_id)) as batches:
                    assert [entry async for entries in batches for entry in entries] == []


async def test_a_server_that_stops_leaves_it_open(tmp_path: Path) -> None:
    async with working(tmp_path) as (storage, runs):
        root = await said(runs, "pay 1")
        following = Following(storage, "t")
        waiting = asyncio.create_task(_all(following, Execution(root.run_id)))
        await until(lambda: following.is_waiting)
        storage.end_listening()
        assert (await waiting)[-1].type == "run_paused"
        assert following.ended == "stopping"


async def _all(following: Following, execution: Execution) -> list[LogEntry]:
    async with aclosing(follow_execution(following, execution)) as batches:
        return [entry async for entries in batches for entry in entries]


def test_what_everybody_is_told_is_nobodys() -> None:
    told = entries_of(start("r"), Broadcast(message="Hi"))
    assert taken(Execution(), told) == [1]
