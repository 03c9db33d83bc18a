"""Databases that LangGraph's own saver has written, imported: histories are the same, and what was
begun there goes on here."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from operator import add
from pathlib import Path
from typing import Annotated, Any

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, StateSnapshot, interrupt
from typing_extensions import TypedDict

from assent.core.clock import Clock
from assent.core.errors import AssentError, ConfigurationError, InvalidRequest
from assent.core.rows import ThreadStatus
from assent.importing.foreign import OldFile, OldWrite, in_order
from assent.importing.importer import Importer, ImportOutcome, Result, as_they_were_put
from assent.storage.base import Change
from assent.storage.sqlite import SqliteSaver, SqliteStorage
from assent.storage.sqlite.checkup import Level, check_up
from tests.storage.samples import NOON, thread
from tests.support.forks import forked, pipe

# Whole histories are written and read again.
pytestmark = pytest.mark.slow

Graph = CompiledStateGraph[Any, Any, Any, Any]
Saver = BaseCheckpointSaver[Any]


# ── graphs, and what they leave in a database ─────────────────────────────────────────────────────


def chat(saver: Saver) -> Graph:
    """Reads, which changes the first message in place and tells no channel's version; and
    answers."""

    def read(state: MessagesState) -> None:
        state["messages"][0].additional_kwargs["read"] = len(state["messages"])

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"you said {state['messages'][-1].text}")]}

    builder = StateGraph(MessagesState)
    builder.add_node(read)
    builder.add_node(answer)
    builder.add_edge(START, "read")
    builder.add_edge("read", "answer")
    return builder.compile(checkpointer=saver)


class Work(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add]
    notes: Annotated[list[str], add]
    large: str


def asking(saver: Saver) -> Graph:
    """Two workers ask a question each, at the same time, and each notes the answer."""

    def ask(state: dict[str, str]) -> dict[str, Any]:
        return {"notes": [f"{state['question']} {interrupt(state['question'])}"]}

    builder = StateGraph(Work)
    builder.add_node("ask", ask)
    builder.add_node("end", lambda state: {"notes": ["end"]})
    builder.add_conditional_edges(
        START,
        lambda state: [Send("ask", {"question": question}) for question in ("where?", "when?")],
    )
    builder.add_edge("ask", "end")
    return builder.compile(checkpointer=saver)


def nested(saver: Saver) -> Graph:
    """A graph in a graph, which asks."""
    inner = StateGraph(Work)
    inner.add_node("first", lambda state: {"notes": ["first"]})
    inner.add_node("second", lambda state: {"notes": [interrupt({"sure": state["notes"]})]})
    inner.add_edge(START, "first")
    inner.add_edge("first", "second")
    outer = StateGraph(Work)
    outer.add_node("before", lambda state: {"notes": ["before"], "large": "x" * 1000})
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "before")
    outer.add_edge("before", "inner")
    return outer.compile(checkpointer=saver)


def careful(saver: Saver) -> Graph:
    """Stops before its last node."""
    builder = StateGraph(Work)
    builder.add_node("plan", lambda state: {"notes": ["planned"]})
    builder.add_node("act", lambda state: {"notes": ["acted"]})
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "act")
    builder.add_edge("act", END)
    return builder.compile(checkpointer=saver, interrupt_before=["act"])


def failing(saver: Saver, *, mended: bool = False) -> Graph:
    """Two nodes at the same time, one of which fails after the other is done."""
    done = asyncio.Event()

    async def good(state: Work) -> dict[str, Any]:
        done.set()
        return {"notes": ["good"]}

    async def bad(state: Work) -> dict[str, Any]:
        if not mended:
            await done.wait()
            await asyncio.sleep(0.05)
            raise ValueError("bad")
        return {"notes": ["bad after all"]}

    builder = StateGraph(Work)
    for node in (good, bad):
        builder.add_node(node)
        builder.add_edge(START, node.__name__)
    return builder.compile(checkpointer=saver)


GRAPHS: dict[str, Callable[[Saver], Graph]] = {
    "chat": chat,
    "forked": chat,
    "asking": asking,
    "answered": asking,
    "nested": nested,
    "careful": careful,
    "failing": failing,
}


def at(thread_id: str, **more: str) -> Any:
    return {"configurable": {"thread_id": thread_id, **more}, "metadata": {"user": "ann"}}


def said(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


async def write_threads(saver: Saver) -> None:
    """A thread of every kind."""
    for turn in range(4):
        await chat(saver).ainvoke(said(f"turn {turn}"), at("chat"), durability="sync")
    await write_forks(saver)
    await asking(saver).ainvoke(said("go"), at("asking"), durability="sync")
    await asking(saver).ainvoke(said("go"), at("answered"), durability="sync")
    first = (await asking(saver).aget_state(at("answered"))).interrupts[0]
    # One question answered, one not; and a state changed with the answer, which leaves writes of
    # several kinds side by side.
    await asking(saver).ainvoke(
        Command(resume={first.id: "here"}, update={"notes": ["by the way"]}),
        at("answered"),
        durability="sync",
    )
    await nested(saver).ainvoke(said("go"), at("nested"), durability="sync")
    await careful(saver).ainvoke(said("go"), at("careful"), durability="sync")
    with pytest.raises(ValueError, match="bad"):
        await failing(saver).ainvoke(said("go"), at("failing"), durability="sync")


async def write_forks(saver: Saver) -> None:
    graph = chat(saver)
    for turn in range(3):
        await graph.ainvoke(said(f"turn {turn}"), at("forked"), durability="sync")
    history = [state async for state in graph.aget_state_history(at("forked"))]
    for old in (history[-3], history[4]):
        branch = await graph.aupdate_state(old.config, said("another way"), as_node="__start__")
        await graph.ainvoke(None, branch, durability="sync")
    # An edit of an old message, upon the newest.
    first = (await graph.aget_state(at("forked"))).values["messages"][0]
    await graph.aupdate_state(
        at("forked"), {"messages": [HumanMessage("edited", id=first.id)]}, as_node="answer"
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "old.sqlite"

    async def write() -> None:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            await write_threads(saver)

    asyncio.run(write())
    return path


@pytest.fixture
def old(written: Path, tmp_path: Path) -> Path:
    """A database of LangGraph's saver, with a thread of every kind."""
    return Path(shutil.copy(written, tmp_path / "old.sqlite"))


@asynccontextmanager
async def importing(
    old: Path, new: Path, **options: Any
) -> AsyncIterator[tuple[Importer, OldFile, SqliteStorage]]:
    async with (
        OldFile.open(old, near=new.parent, prefix=".copy-") as opened,
        SqliteStorage.open(new, synchronous="normal") as storage,
    ):
        yield Importer(opened, storage, owner="ann", clock=Clock(), **options), opened, storage


async def import_all(old: Path, new: Path, **options: Any) -> dict[str, Result]:
    async with importing(old, new, **options) as (importer, opened, _):
        return {
            each.thread_id: await importer.import_thread(each) for each in await opened.threads()
        }


async def history(graph: Graph, config: Any) -> list[StateSnapshot]:
    return [state async for state in graph.aget_state_history(config)]


def files(old: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in old.parent.glob(f"{old.name}*")}


@pytest.fixture(scope="module")
def imported(written: Path) -> Path:
    """What an import makes of it."""
    new = written.with_name("new.db")
    results = asyncio.run(import_all(written, new))
    assert {result.outcome for result in results.values()} == {ImportOutcome.IMPORTED}
    return new


@pytest.fixture
async def both(
    old: Path, imported: Path, tmp_path: Path
) -> AsyncIterator[tuple[AsyncSqliteSaver, SqliteSaver]]:
    """LangGraph's saver over the old database, and ours over the imported one."""
    for file in imported.parent.glob(f"{imported.name}*"):
        shutil.copy(file, tmp_path)
    async with (
        AsyncSqliteSaver.from_conn_string(str(old)) as theirs,
        SqliteSaver.from_conn_string(tmp_path / "new.db") as ours,
    ):
        yield theirs, ours


# ── the same as it was ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", GRAPHS)
async def test_the_history_is_the_same_state_by_state(both: tuple[Saver, Saver], name: str) -> None:
    then, now = [await history(GRAPHS[name](saver), at(name)) for saver in both]
    assert len(then) > 1
    for before, after in zip(then, now, strict=True):
        assert after == before


async def test_the_state_of_a_graph_in_a_graph_is_the_same(both: tuple[Saver, Saver]) -> None:
    then, now = [await nested(saver).aget_state(at("nested"), subgraphs=True) for saver in both]
    assert then == now
    inner: Any = then.tasks[0].state
    assert inner.values["notes"] == ["before", "first"]
    namespace = inner.config["configurable"]["checkpoint_ns"]
    then_inside, now_inside = [
        await history(nested(saver), at("nested", checkpoint_ns=namespace)) for saver in both
    ]
    assert then_inside == now_inside and len(then_inside) > 1


@pytest.mark.parametrize("name", GRAPHS)
async def test_every_checkpoint_is_the_same_to_the_last_write(
    both: tuple[Saver, Saver], name: str
) -> None:
    then, now = [
        [each async for each in saver.alist({"configurable": {"thread_id": name}})]
        for saver in both
    ]
    by_place = {str(each.config): each for each in now}
    assert len(then) == len(now) == len(by_place)
    for before in then:
        assert by_place[str(before.config)] == before
        # Also when it is read alone.
        assert await both[1].aget_tuple(before.config) == before


async def test_each_write_has_its_number_and_its_path(old: Path, tmp_path: Path) -> None:
    await import_all(old, tmp_path / "new.db")
    with (
        closing(sqlite3.connect(old)) as theirs,
        closing(sqlite3.connect(tmp_path / "new.db")) as ours,
    ):
        columns = "thread_id, {ns}, checkpoint_id, task_id, idx, task_path, channel, type"
        then = theirs.execute(
            f"SELECT {columns.format(ns='checkpoint_ns')}, value FROM writes"
        ).fetchall()
        now = ours.execute(
            f"SELECT {columns.format(ns='ns')}, body "
            "FROM checkpoint_writes JOIN checkpoint_threads USING (k)"
        ).fetchall()
    assert sorted(now) == sorted(then)
    # Special writes are there, and one beside a regular one of the same task.
    assert {row[4] for row in then} >= {-4, -3, -1, 0, 1}


async def test_a_message_that_was_changed_in_place_is_what_it_was_at_each_step(
    both: tuple[Saver, Saver],
) -> None:
    seen: list[dict[Any, set[Any]]] = []
    for saver in both:
        reads: dict[Any, set[Any]] = {}
        async for each in saver.alist({"configurable": {"thread_id": "chat"}}):
            if messages := each.checkpoint["channel_values"].get("messages"):
                reads.setdefault(each.checkpoint["channel_versions"]["messages"], set()).add(
                    messages[0].additional_kwargs.get("read")
                )
        seen.append(reads)
    assert seen[0] == seen[1]
    assert any(len(values) > 1 for values in seen[0].values()), "one version, several values"


async def test_a_list_is_stored_once(tmp_path: Path) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.db"
    async with AsyncSqliteSaver.from_conn_string(str(old)) as saver:
        for turn in range(80):
            await chat_of_lines(saver).ainvoke(
                said(f"{turn} {'x' * 500}"), at("t"), durability="sync"
            )
    await import_all(old, new)
    assert old.stat().st_size > 10 * new.stat().st_size


def chat_of_lines(saver: Saver) -> Graph:
    builder = StateGraph(MessagesState)
    builder.add_node("answer", lambda state: {"messages": [AIMessage("y" * 500)]})
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


# ── it goes on ────────────────────────────────────────────────────────────────────────────────────


async def both_go_on(
    both: tuple[Saver, Saver], go_on: Callable[[Saver], Awaitable[Any]], seen: Callable[[Any], Any]
) -> Any:
    then, now = [await go_on(saver) for saver in both]
    assert seen(now) == seen(then)
    return now


async def test_a_conversation_goes_on(both: tuple[Saver, Saver]) -> None:
    async def go_on(saver: Saver) -> Any:
        return await chat(saver).ainvoke(said("and now?"), at("chat"), durability="sync")

    now = await both_go_on(
        both, go_on, lambda values: [message.text for message in values["messages"]]
    )
    assert len(now["messages"]) == 10


async def test_an_old_state_is_gone_back_to(both: tuple[Saver, Saver]) -> None:
    async def go_on(saver: Saver) -> Any:
        old = (await history(chat(saver), at("forked")))[5]
        branch = await chat(saver).aupdate_state(old.config, said("back here"), as_node="__start__")
        return await chat(saver).ainvoke(None, branch, durability="sync")

    now = await both_go_on(
        both, go_on, lambda values: [message.text for message in values["messages"]]
    )
    assert now["messages"][-1].text == "you said back here"


async def test_a_question_is_answered(both: tuple[Saver, Saver]) -> None:
    async def go_on(saver: Saver) -> Any:
        questions = (await asking(saver).aget_state(at("asking"))).interrupts
        return await asking(saver).ainvoke(
            Command(resume={each.id: f"to {each.value}" for each in questions}), at("asking")
        )

    now = await both_go_on(both, go_on, lambda values: values["notes"])
    assert now["notes"] == ["where? to where?", "when? to when?", "end"]


async def test_an_answer_that_was_given_before_is_not_asked_for_again(
    both: tuple[Saver, Saver],
) -> None:
    async def go_on(saver: Saver) -> Any:
        (question,) = (await asking(saver).aget_state(at("answered"))).interrupts
        return await asking(saver).ainvoke(Command(resume={question.id: "now"}), at("answered"))

    now = await both_go_on(both, go_on, lambda values: values["notes"])
    assert {"where? here", "when? now", "by the way", "end"} == set(now["notes"])


async def test_a_question_inside_is_answered(both: tuple[Saver, Saver]) -> None:
    now = await both_go_on(
        both,
        lambda saver: nested(saver).ainvoke(Command(resume="yes"), at("nested")),
        lambda values: values["notes"],
    )
    assert now["notes"][-1] == "yes"


async def test_a_static_pause_is_passed(both: tuple[Saver, Saver]) -> None:
    now = await both_go_on(
        both,
        lambda saver: careful(saver).ainvoke(None, at("careful")),
        lambda values: values["notes"],
    )
    assert now["notes"] == ["planned", "acted"]


async def test_what_was_done_before_a_failure_is_not_done_again(both: tuple[Saver, Saver]) -> None:
    now = await both_go_on(
        both,
        lambda saver: failing(saver, mended=True).ainvoke(None, at("failing")),
        lambda values: values["notes"],
    )
    assert sorted(now["notes"]) == ["bad after all", "good"]


# ── the old file ──────────────────────────────────────────────────────────────────────────────────


async def test_nothing_of_the_old_file_changes(old: Path, tmp_path: Path) -> None:
    before = files(old)
    await import_all(old, tmp_path / "new.db")
    assert files(old) == before and list(before) == ["old.sqlite"]


def write_and_die(path: str) -> None:
    async def write() -> None:
        async with AsyncSqliteSaver.from_conn_string(path) as saver:
            await write_threads(saver)
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(write())


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A database whose writer was killed, and all of it still in the log."""
    path = tmp_path / "killed" / "old.sqlite"
    path.parent.mkdir()
    forked(write_and_die, str(path)).join()
    assert path.with_name("old.sqlite-wal").stat().st_size > 100_000
    return path


async def test_a_log_that_a_killed_writer_left_is_read_and_not_changed(
    killed: Path, tmp_path: Path
) -> None:
    # Without its index, which SQLite would make anew.
    for has_index in (True, False):
        if not has_index:
            killed.with_name("old.sqlite-shm").unlink()
        before, new = files(killed), tmp_path / f"new-{has_index}.db"
        results = await import_all(killed, new)
        assert len(results) == len(GRAPHS)
        assert files(killed) == before
        async with SqliteSaver.from_conn_string(new) as saver:
            assert len((await chat(saver).aget_state(at("chat"))).values["messages"]) == 8
    assert await asyncio.to_thread(lambda: list(tmp_path.glob(".copy-*"))) == []


async def test_a_database_without_a_log_mode_is_read_too(old: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("ALTER TABLE writes DROP COLUMN task_path")
    before = files(old)
    results = await import_all(old, tmp_path / "new.db")
    assert {result.outcome for result in results.values()} == {ImportOutcome.IMPORTED}
    assert files(old) == before


async def test_what_is_no_database_of_langgraphs_is_refused(old: Path, tmp_path: Path) -> None:
    text, other, ours = tmp_path / "text", tmp_path / "other.db", tmp_path / "ours.db"
    text.write_text("hello, this is no database at all")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE checkpoints (thread_id, thread_ts)")
    async with SqliteStorage.open(ours):
        pass
    for path, sentence in [
        (tmp_path / "none", "cannot be read: No such file"),
        (text, "is not a SQLite database"),
        (other, "lacks checkpoint, checkpoint_id"),
        (ours, "is not a database of LangGraph's"),
    ]:
        with pytest.raises(InvalidRequest, match=sentence):
            await import_all(path, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


async def test_a_file_that_is_written_to_meanwhile_is_noticed(old: Path, tmp_path: Path) -> None:
    def write(size: int) -> None:
        with closing(sqlite3.connect(old)) as connection:
            connection.execute(
                "UPDATE checkpoints SET metadata = '{}' WHERE thread_id = 'answered'"
            )
            connection.commit()

    async with importing(old, tmp_path / "new.db", advance=write) as (importer, opened, storage):
        with pytest.raises(AssentError, match="is being written to"):
            await importer.import_thread((await opened.threads())[0])
        assert (await storage.threads()).rows == ()


async def test_a_database_that_a_server_has_open_is_refused(old: Path, tmp_path: Path) -> None:
    async with SqliteStorage.open(tmp_path / "new.db"):
        with pytest.raises(ConfigurationError, match="open in another Assent process"):
            await import_all(old, tmp_path / "new.db")


@pytest.mark.parametrize("kind", ["pickle", "json", "msgpack+aes"])
async def test_a_thread_that_cannot_be_read_is_left_out_alone(
    old: Path, tmp_path: Path, kind: str
) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(
            "UPDATE checkpoints SET type = ? "
            "WHERE thread_id = 'chat' AND json_extract(metadata, '$.step') = 3",
            (kind,),
        )
        connection.commit()
    empty = thread("chat", status=ThreadStatus.IDLE, pending=())
    if kind == "json":
        async with SqliteStorage.open(tmp_path / "new.db") as storage:
            await storage.commit(Change(rows=(empty,)))
    results = await import_all(old, tmp_path / "new.db")
    assert results.pop("chat") == Result(
        ImportOutcome.LEFT_OUT,
        f"A value is encoded as '{kind}', and only what LangGraph writes without "
        "encryption and pickle is read.",
    )
    assert {result.outcome for result in results.values()} == {ImportOutcome.IMPORTED}
    async with SqliteStorage.open(tmp_path / "new.db") as storage:
        row = await storage.thread("chat")
        assert (row and replace(row, version=1)) == (empty if kind == "json" else None)
        assert await storage.checkpointer.aget_tuple(at("chat")) is None


async def test_no_code_of_the_old_file_is_run(old: Path, tmp_path: Path) -> None:
    """LangGraph's own reader would import the module, and call the name in it."""
    ran = tmp_path / "ran"
    evil = ormsgpack.Ext(0, ormsgpack.packb(("os", "mkdir", str(ran))))
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(
            "UPDATE writes SET value = ? WHERE thread_id = 'failing'", (ormsgpack.packb(evil),)
        )
        connection.commit()
    await import_all(old, tmp_path / "new.db")
    assert not ran.exists()
    async with SqliteStorage.open(tmp_path / "new.db") as storage:
        with pytest.raises(ConfigurationError, match="only types that were allowed"):
            await storage.checkpointer.aget_tuple(at("failing"))


# ── threads of the server ─────────────────────────────────────────────────────────────────────────


async def test_each_thread_has_a_row(old: Path, tmp_path: Path) -> None:
    results = await import_all(old, tmp_path / "new.db")
    async with SqliteStorage.open(tmp_path / "new.db") as storage:
        rows = {row.thread_id: row for row in (await storage.threads()).rows}
        assert rows.keys() == GRAPHS.keys()
        for name, row in rows.items():
            states = await history(GRAPHS[name](storage.checkpointer), at(name))
            assert (row.owner, row.status, row.agent, row.pending) == (
                "ann",
                ThreadStatus.IDLE,
                None,
                (),
            )
            assert row.checkpoint_id == states[0].config["configurable"]["checkpoint_id"]
            assert row.metadata == {
                "imported": {"from": "old.sqlite", "checkpoint_id": row.checkpoint_id}
            }
            assert (row.created_at.isoformat(), row.updated_at.isoformat()) == (
                states[-1].created_at,
                states[0].created_at,
            )
    assert {name for name, result in results.items() if result.unfinished} == GRAPHS.keys() - {
        "chat",
        "forked",
    }
    assert all(finding.level is not Level.WRONG for finding in check_up(tmp_path / "new.db"))


async def test_a_thread_without_checkpoints_is_filled(old: Path, tmp_path: Path) -> None:
    idle = thread("chat", status=ThreadStatus.IDLE, pending=(), checkpoint_id=None)
    waiting = thread("careful", pending=("a",))
    async with SqliteStorage.open(tmp_path / "new.db") as storage:
        await storage.commit(Change(rows=(idle, waiting)))
    results = await import_all(old, tmp_path / "new.db")
    assert {result.outcome for result in results.values()} == {ImportOutcome.IMPORTED}
    async with SqliteStorage.open(tmp_path / "new.db") as storage:
        for before in (idle, waiting):
            after = await storage.thread(before.thread_id)
            assert (
                after is not None
                and await storage.checkpointer.aget_tuple(at(before.thread_id)) is not None
            )
            assert (after.status, after.pending, after.created_at) == (
                before.status,
                before.pending,
                NOON,
            )
            assert after.metadata == {**before.metadata, "imported": after.metadata["imported"]}


async def test_a_thread_that_is_here_already_stays_as_it_is(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    async with SqliteStorage.open(new) as storage:
        await chat(storage.checkpointer).ainvoke(said("another"), at("chat"))
        await storage.commit(Change(rows=(thread("forked", status=ThreadStatus.BUSY, pending=()),)))
    results = await import_all(old, new)
    assert [
        name for name, result in results.items() if result.outcome is ImportOutcome.LEFT_OUT
    ] == [
        "chat",
        "forked",
    ]
    assert (
        "another thread of that id" in results["chat"].reason
        and "A run is active" in results["forked"].reason
    )
    async with SqliteSaver.from_conn_string(new) as saver:
        assert len((await chat(saver).aget_state(at("chat"))).values["messages"]) == 2
        assert await saver.aget_tuple(at("forked")) is None


async def test_a_second_import_changes_nothing(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    await import_all(old, new)
    async with SqliteStorage.open(new) as storage:
        await chat(storage.checkpointer).ainvoke(said("gone on"), at("chat"))
        await storage.prune_checkpoints(["chat", "forked"], 1)
        before = [each async for each in storage.checkpointer.alist(None)], await storage.threads()
    assert {result.outcome for result in (await import_all(old, new)).values()} == {
        ImportOutcome.ALREADY_THERE
    }
    async with SqliteStorage.open(new) as storage:
        assert (
            [each async for each in storage.checkpointer.alist(None)],
            await storage.threads(),
        ) == before


async def test_a_thread_that_went_on_in_the_old_file_is_left_out_and_taken_anew_once_it_is_deleted(
    old: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.db"
    await import_all(old, new)
    async with AsyncSqliteSaver.from_conn_string(str(old)) as saver:
        await chat(saver).ainvoke(said("gone on"), at("chat"))
    result = (await import_all(old, new))["chat"]
    assert result.outcome is ImportOutcome.LEFT_OUT and "gone on in the old file" in result.reason
    async with SqliteStorage.open(new) as storage:
        await storage.commit(Change(erase="chat"))
    assert (await import_all(old, new))["chat"].outcome is ImportOutcome.IMPORTED
    async with SqliteSaver.from_conn_string(new) as ours:
        assert len((await chat(ours).aget_state(at("chat"))).values["messages"]) == 10


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            "UPDATE checkpoint_blobs SET body = x'91a178'",
            "the channel 'messages'",
        ),
        ("""UPDATE checkpoints SET metadata = '{"step": 9}'""", "the metadata"),
        ("UPDATE checkpoints SET parent_id = 'another' WHERE number > 1", "the parent"),
        ("DELETE FROM checkpoint_writes", "the pending writes"),
    ],
)
async def test_what_reads_back_otherwise_stops_the_import_and_is_removed(
    tmp_path: Path, spoil: str, said: str
) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.db"
    async with AsyncSqliteSaver.from_conn_string(str(old)) as saver:
        await asking(saver).ainvoke(
            {"messages": [HumanMessage("x" * 1000)]}, at("t"), durability="sync"
        )
    done = 0

    def spoil_the_last(size: int) -> None:
        nonlocal done
        done += 1
        if done == 2:
            with closing(sqlite3.connect(new)) as connection:
                connection.execute(spoil)
                connection.commit()

    async with importing(old, new, advance=spoil_the_last) as (importer, opened, storage):
        with pytest.raises(
            AssentError, match=f"The thread 't' was not stored as it was: {said} of its checkpoint"
        ):
            await importer.import_thread((await opened.threads())[0])
        assert done == 2
        assert (
            await storage.thread("t") is None
            and await storage.checkpointer.aget_tuple(at("t")) is None
        )
    assert (await import_all(old, new))["t"].outcome is ImportOutcome.IMPORTED


@pytest.mark.slow
async def test_an_import_that_is_cancelled_at_any_step_leaves_whole_threads_only(
    old: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.db"
    async with importing(old, new) as (importer, opened, storage):
        for one in await opened.threads():
            for steps in (1, 3, 10, 30, 60, 100, 150):
                task = asyncio.create_task(importer.import_thread(one))
                for _ in range(steps):
                    await asyncio.sleep(0.0002)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                row, head = (
                    await storage.thread(one.thread_id),
                    await storage.checkpointer.aget_tuple(at(one.thread_id)),
                )
                assert (row is None) == (head is None)
                if row is not None:
                    assert (
                        head is not None and head.checkpoint["id"] == one.head == row.checkpoint_id
                    )
            assert (await importer.import_thread(one)).outcome in (
                ImportOutcome.IMPORTED,
                ImportOutcome.ALREADY_THERE,
            )


KILLS = int(os.environ.get("ASSENT_IMPORT_KILLS", "8"))


def import_until_killed(old: Path, new: Path, began: Connection) -> None:
    def said(size: int) -> None:
        began.send(size)

    asyncio.run(import_all(old, new, advance=said))


@pytest.mark.timeout(300 + 2 * KILLS)
async def test_a_kill_at_any_instant_leaves_whole_threads_and_the_next_import_the_others(
    old: Path, tmp_path: Path
) -> None:
    moments = random.Random(4)
    new = tmp_path / "new.db"
    began = time.perf_counter()
    await import_all(old, tmp_path / "whole.db")
    # Kills are spread over as long as an import takes on this machine, and a little more, for two
    # processes are slower than one.
    span = 1.5 * (time.perf_counter() - began)
    whole, seen = await contents(tmp_path / "whole.db"), set[int]()
    for kill in range(KILLS):
        if len(await whole_threads(new, whole)) == len(whole):
            new = tmp_path / f"new-{kill}.db"
        await asyncio.to_thread(kill_import, old, new, moments.uniform(0, span))
        assert not [
            finding
            for finding in check_up(new)
            if finding.level is Level.WRONG and "waits for no approval" not in finding.sentence
        ]
        seen.add(len(await whole_threads(new, whole)))
    # The kills have met it in its midst, and not only before the first thread or after the last.
    assert seen - {0, len(whole)}
    results = await import_all(old, new)
    assert {result.outcome for result in results.values()} <= {
        ImportOutcome.IMPORTED,
        ImportOutcome.ALREADY_THERE,
    }
    assert await whole_threads(new, whole) == whole.keys()


def kill_import(old: Path, new: Path, after: float) -> None:
    ours, theirs = pipe()
    process = forked(import_until_killed, old, new, theirs)
    theirs.close()
    with suppress(EOFError):
        ours.recv()
        time.sleep(after)
    process.kill()
    process.join()


async def contents(path: Path) -> dict[str, list[Any]]:
    """Everything of each thread that has no mark."""
    async with SqliteStorage.open(path) as storage:
        rows = [row for row in (await storage.threads()).rows if "importing" not in row.metadata]
        return {
            row.thread_id: [
                row,
                [each async for each in storage.checkpointer.alist(at(row.thread_id))],
            ]
            for row in rows
        }


async def whole_threads(path: Path, whole: dict[str, list[Any]]) -> set[str]:
    found = await contents(path)
    for thread_id, (row, checkpoints) in found.items():
        assert checkpoints == whole[thread_id][1]
        assert replace(row, version=0) == replace(whole[thread_id][0], version=0)
    return set(found)


async def test_a_thread_goes_on_where_it_did_though_its_clock_was_put_back(tmp_path: Path) -> None:
    old, config = tmp_path / "old.sqlite", at("t", checkpoint_ns="")
    async with AsyncSqliteSaver.from_conn_string(str(old)) as saver:
        for step, name in enumerate(["1", "9", "3", "4"]):
            checkpoint = {**empty_checkpoint(), "id": f"0000000{name}"}
            config = await saver.aput(config, checkpoint, {"source": "loop", "step": step}, {})  # type: ignore[arg-type]
        theirs = await saver.aget_tuple(at("t", checkpoint_ns=""))
    assert theirs is not None
    assert theirs.checkpoint["id"] == "00000009"
    results = await import_all(old, tmp_path / "new.db")
    assert results["t"].outcome is ImportOutcome.IMPORTED
    async with SqliteSaver.from_conn_string(tmp_path / "new.db") as ours:
        assert await ours.aget_tuple(at("t", checkpoint_ns="")) == theirs


# ── the order of things ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("parents", "order"),
    [
        ({}, ""),
        ({"a": None, "b": "a", "c": "b"}, "abc"),
        ({"a": "c", "b": None, "c": "b", "d": "a"}, "bcad"),
        ({"a": "c", "b": None, "c": "b"}, "bac"),
        ({"b": "gone", "c": "b"}, "bc"),
        ({"a": "b", "b": "a", "c": "b"}, "bac"),
        ({"a": "a"}, "a"),
    ],
)
def test_parents_come_first_and_the_latest_last(parents: dict[str, str | None], order: str) -> None:
    assert "".join(in_order(parents)) == order


def write(idx: int, channel: str, task: str = "t", path: str = "") -> OldWrite:
    return OldWrite(task, path, idx, channel, f"{channel} {idx}")


def test_writes_get_the_numbers_that_they_had() -> None:
    writes = [
        write(-4, "__resume__"),
        write(1, "a"),
        write(2, "b"),
        write(-3, "__interrupt__", "u"),
        write(0, "a", "u", "p"),
        write(4, "b", "u", "p"),
        write(-1, "__error__", "v"),
        write(0, "a", "v"),
    ]
    put = [
        (task, path, [channel for channel, _ in theirs])
        for task, path, theirs in as_they_were_put(writes)
    ]
    assert put == [
        ("t", "", ["__resume__", "a", "b"]),
        ("u", "", ["__interrupt__"]),
        ("u", "p", ["a", "b"]),
        ("v", "", ["a", "__error__"]),
    ]
