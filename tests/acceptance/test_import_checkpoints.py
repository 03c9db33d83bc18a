"""`assent import-checkpoints`, and the real server over what it has made: threads of plain
LangGraph programs go on there."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel
from typer.testing import CliRunner
from typing_extensions import TypedDict

from assent.cli.app import app
from tests.support import agents, typed_agent
from tests.support.command import on_terminal, started
from tests.support.server import (
    REPOSITORY,
    Server,
    asking,
    expect,
    only,
    scripted_agents,
    serving,
    types_of,
    without_tokens,
)
from tests.support.waiting import PATIENCE


def environment(folder: Path) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("ASSENT_")
    }
    files = {
        "ASSENT_DATABASE": f"sqlite:///{folder / 'assent.db'}",
        "LEDGER": str(folder / "ledger"),
    }
    return {**inherited, **files, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"}


def import_checkpoints(folder: Path, *arguments: str, status: int = 0, **settings: str) -> str:
    """Run the command to its end; what it said."""
    result = CliRunner().invoke(
        app, ["import-checkpoints", *arguments], env={**environment(folder), **settings}
    )
    assert (result.exit_code, result.stdout) == (status, ""), result.output
    return result.stderr


def write_old(folder: Path, threads: Mapping[str, tuple[str, str]]) -> Path:
    """A database of LangGraph's saver. By thread: the agent, and what was said to it."""
    path = folder / "old.sqlite"

    async def write() -> None:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            for thread_id, (name, text) in threads.items():
                agent = getattr(agents, name).copy(update={"checkpointer": saver})
                await agent.ainvoke(
                    {"messages": [HumanMessage(text)]},
                    {"configurable": {"thread_id": thread_id}},
                    durability="sync",
                )

    asyncio.run(write())
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where all files are, the tools' traces among them."""
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_threads_of_a_program_without_a_server_go_on_in_one(folder: Path) -> None:
    old = write_old(
        folder, {"talked": ("agent", "look 3"), "waits": ("agent", "look 1; pay 5; pay 6")}
    )
    before, target = old.read_bytes(), scripted_agents(folder, "agent")
    said = import_checkpoints(folder, "old.sqlite", "--agent", target)
    assert re.search(
        r"^Imported 2 thread\(s\) with \d+ checkpoint\(s\) in [\d.]+ s\.\nold\.sqlite has [\d.]+ MiB, assent\.db has",
        said,
    )
    assert old.read_bytes() == before
    with serving(folder, target) as server:
        asyncio.run(_go_on(server))
        assert server.traces() == ["look 3", "look 1", "pay 5", "look 4"]


async def _go_on(server: Server) -> None:
    async with asking(server) as api:
        threads = {each["thread_id"]: each for each in (await api.get("/threads"))["threads"]}
        found = {
            name: (each["status"], each["metadata"]["graph_id"]) for name, each in threads.items()
        }
        assert found == {"talked": ("idle", "agent"), "waits": ("interrupted", "agent")}
        first, second = await api.pending("waits")
        assert [(each["tool"], each["args"], each["preview"]) for each in (first, second)] == [
            ("pay", {"amount": 5}, {"pays": 5}),
            ("pay", {"amount": 6}, {"pays": 6}),
        ]
        decisions = {
            first["approval_id"]: {"type": "approve"},
            second["approval_id"]: {"type": "reject", "message": "no"},
        }
        await api.decided("waits", decisions=decisions)
        assert (await api.last_words("waits")).startswith(
            "Results: saw 1 | paid 5 | A person rejected"
        )
        events = await api.events("waits")
        assert without_tokens(events)[:4] == [
            "run_start",
            "approval_required",
            "approval_required",
            "run_paused",
        ]
        assert only(events, "run_paused")["approvals"] == [
            first["approval_id"],
            second["approval_id"],
        ]
        assert types_of(events)[-1] == "done"
        await api.stream("look 4", thread_id="talked")
        messages = (await api.get("/threads/talked"))["values"]["messages"]
        assert [each["content"] for each in messages if each["type"] == "human"] == [
            "look 3",
            "look 4",
        ]


@pytest.mark.parametrize(
    ("name", "said", "kind", "decision", "trace"),
    [
        ("asking", "Which?", "input", {"type": "respond", "message": "that"}, "answered ['that']"),
        ("stopping", "news", "node", {"type": "approve"}, "publish news"),
        ("foreign", "pay 7", "node", {"type": "approve"}, "pay 7"),
    ],
)
def test_a_pause_of_any_graph_is_decided(
    folder: Path, name: str, said: str, kind: str, decision: Any, trace: str
) -> None:
    write_old(folder, {"t": (name, said)})
    target = scripted_agents(folder, "agent", name)
    import_checkpoints(folder, "old.sqlite", "--agent", f"{target}:{name}")

    async def decide(server: Server) -> None:
        async with asking(server) as api:
            (approval,) = await api.pending("t")
            assert (approval["kind"], approval["agent"]) == (kind, name)
            await api.decided("t", **decision)
            assert (await api.at_rest("t"))["status"] == "idle"

    with serving(folder, target) as server:
        asyncio.run(decide(server))
        assert server.traces() == [trace]


def test_a_state_with_types_of_the_agents_own_file_is_taken_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(typed_agent.__file__, folder / "shop.py")
    # The old program had it as the module `shop`.
    monkeypatch.syspath_prepend(str(folder))
    shop = importlib.import_module("shop")
    asyncio.run(_pause_in_the_old_program(folder / "old.sqlite", shop.graph))
    del sys.modules["shop"]

    said = import_checkpoints(folder, "old.sqlite", "--agent", "shop.py:graph")
    assert said.startswith("Imported 1 thread(s) with 3 checkpoint(s)")

    async def decide(server: Server) -> None:
        async with asking(server) as api:
            await api.decided("t", type="respond", message="yes")
            assert await api.last_words("t") == "yes: 3 of RED"

    with serving(folder, "shop.py:graph") as server:
        asyncio.run(decide(server))


async def _pause_in_the_old_program(path: Path, graph: Any) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        agent = graph.copy(update={"checkpointer": saver})
        await agent.ainvoke(
            {"messages": [HumanMessage("One, please.")]},
            {"configurable": {"thread_id": "t"}},
            durability="sync",
        )


def test_without_an_agent_a_pause_is_told_of_and_nothing_runs_for_a_message(folder: Path) -> None:
    write_old(folder, {"t": ("agent", "pay 5"), "done": ("agent", "look 2")})
    said = import_checkpoints(folder, "old.sqlite")
    assert "import again with --agent.\n  1 thread(s): t\n" in said

    async def talk(server: Server) -> None:
        async with asking(server) as api:
            assert (await api.get("/threads/t"))["status"] == "idle"
            # An agent of ours asks again for what it waited for.
            (approval,) = await api.paused("go on", thread_id="t")
            assert approval["args"] == {"amount": 5}
            # As it says: delete it, and it is taken anew.
            await expect(await api.http.delete("/threads/t"), 204)

    with serving(folder, scripted_agents(folder, "agent")) as server:
        asyncio.run(talk(server))
        assert server.traces() == ["look 2"]
    said = import_checkpoints(folder, "old.sqlite", "--agent", scripted_agents(folder, "agent"))
    assert "Imported 1 thread(s)" in said and "1 were there already" in said


class Thing(BaseModel):
    """Of a type that no state declares."""

    size: int


def test_an_agent_that_cannot_read_a_state_leaves_the_thread_idle(folder: Path) -> None:
    class State(TypedDict):
        thing: Any

    builder = StateGraph(State)
    builder.add_node("make", lambda state: {"thing": Thing(size=3)})
    builder.add_edge(START, "make")

    async def write() -> None:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "old.sqlite")) as saver:
            await builder.compile(checkpointer=saver).ainvoke(
                {"thing": None}, {"configurable": {"thread_id": "t"}}
            )

    asyncio.run(write())
    (folder / "other.py").write_text(
        "from typing import Any, TypedDict\nfrom langgraph.graph import StateGraph, START\n"
        "class State(TypedDict):\n    thing: Any\n"
        "graph = StateGraph(State).add_node('make', lambda state: {}).add_edge(START, 'make').compile()\n"
    )
    said = import_checkpoints(folder, "old.sqlite", "--agent", "other.py:graph")
    assert (
        "Imported as idle, and as nobody's: the agent 'graph' cannot read its state. A checkpoint may not hold a "
        in said
    )
    assert "test_import_checkpoints.Thing" in said and "Imported 1 thread(s)" in said

    said = import_checkpoints(
        folder,
        *("old.sqlite", "--database", "other.db", "--agent", "other.py:graph"),
        ASSENT_STATE_TYPES=f"{__name__}:Thing",
    )
    assert said.startswith("Imported 1 thread(s)")


def test_what_cannot_be_asked_for_is_refused_with_2(folder: Path) -> None:
    write_old(folder, {"t": ("stopping", "news")})
    target = scripted_agents(folder)
    (folder / "text").write_text("no database")
    for arguments, sentence in [
        (["none"], "cannot be read: No such file"),
        (["text"], "is not a SQLite database"),
        (["old.sqlite", "--database", "old.sqlite"], "cannot be imported into itself"),
        (["old.sqlite", "--agent", target], "has several agents: agent, slow_agent"),
        (["old.sqlite", "--agent", f"{target}:nobody"], "has no agent 'nobody'"),
        ([], "Missing argument"),
    ]:
        assert sentence in import_checkpoints(folder, *arguments, status=2).replace("\n", " ")
    assert not (folder / "assent.db").exists()


def test_a_database_that_a_server_has_open_is_refused(folder: Path) -> None:
    write_old(folder, {"t": ("stopping", "news")})
    with serving(folder, scripted_agents(folder, "stopping")):
        assert "is open in another Assent process. Stop that one first" in import_checkpoints(
            folder, "old.sqlite", status=1
        )


def test_a_thread_that_is_left_out_is_named_and_ends_it_with_1(folder: Path) -> None:
    write_old(folder, {"a:1": ("stopping", "news"), "b": ("stopping", "news")})
    import_checkpoints(folder, "old.sqlite", "--database", "other.db")
    write_old(folder, {"b": ("stopping", "more news")})
    said = import_checkpoints(folder, "old.sqlite", "--database", "other.db", status=1)
    assert "gone on in the old file" in said and "1 thread(s): b\n" in said
    assert "Imported 0 thread(s)" in said and "1 were there already, 1 were left out." in said


def test_a_thread_that_no_url_can_name_is_told_of(folder: Path) -> None:
    write_old(folder, {"a:\x1b[1m": ("stopping", "news")})
    assert (
        "no URL can name it" in (said := import_checkpoints(folder, "old.sqlite"))
        and "a:\\u001b[1m" in said
    )


def test_a_file_with_a_log_is_copied_and_no_copy_is_left(folder: Path) -> None:
    async def write() -> None:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "open.sqlite")) as saver:
            agent = agents.stopping.copy(update={"checkpointer": saver})
            await agent.ainvoke(
                {"messages": [HumanMessage("news")]}, {"configurable": {"thread_id": "t"}}
            )
            # As a kill would leave it.
            for suffix in ("", "-wal"):
                shutil.copy(folder / f"open.sqlite{suffix}", folder / f"old.sqlite{suffix}")

    asyncio.run(write())
    of_a_killed_import = folder / ".assent.db.import-abc"
    of_a_killed_import.mkdir()
    (of_a_killed_import / "old.sqlite").touch()
    said = import_checkpoints(folder, "old.sqlite")
    assert said.startswith("A log stands beside the old file") and "Imported 1 thread(s)" in said
    assert not list(folder.glob(".assent.db.import-*"))
    said = import_checkpoints(folder, "old.sqlite", "--database", "missing/new.db", status=1)
    assert "is copied to be read, and that failed: No such file or directory." in said


# ── large ones ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that takes a while."""
    path = tmp_path_factory.mktemp("large") / "old.sqlite"
    builder = StateGraph(MessagesState)
    builder.add_node("answer", lambda state: {"messages": [AIMessage("y" * 500)]})
    builder.add_edge(START, "answer")

    async def write() -> None:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            await saver.setup()
            await saver.conn.execute("PRAGMA synchronous = OFF")
            graph = builder.compile(checkpointer=saver)
            for thread in range(8):
                for turn in range(60):
                    await graph.ainvoke(
                        {"messages": [HumanMessage(f"{turn}")]},
                        {"configurable": {"thread_id": f"t{thread}"}},
                    )

    asyncio.run(write())
    return path


@pytest.fixture
def large(large_file: Path, folder: Path) -> Path:
    """A folder with that database."""
    shutil.copy(large_file, folder / "old.sqlite")
    return folder


def test_ctrl_c_keeps_what_is_there_and_says_how_to_go_on(large: Path) -> None:
    errors = large / "errors"
    process = started(
        ["import-checkpoints", "old.sqlite"],
        folder=large,
        environment=environment(large),
        log=large / "log",
        errors=errors,
    )
    while not (large / "assent.db-wal").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, said = process.wait(PATIENCE), errors.read_text()
    assert code == 1, said
    stopped = re.fullmatch(
        r"Stopped\. (\d) thread\(s\) are in the database and stay there; run the same command again.*\n",
        said,
    )
    assert stopped, said
    there = int(stopped[1])
    said = import_checkpoints(large, "old.sqlite")
    assert f"Imported {8 - there} thread(s)" in said and (
        f"{there} were there already" in said or not there
    )


def test_a_bar_is_drawn_on_a_terminal(large: Path) -> None:
    import pty

    near, far = pty.openpty()
    variables = {**environment(large), "TERM": "xterm"}
    process = on_terminal(
        ["import-checkpoints", "old.sqlite"], os.ttyname(far), folder=large, environment=variables
    )
    shown = b""
    while select.select([near], [], [], 0.05)[0] or process.poll() is None:
        if select.select([near], [], [], 0)[0]:
            shown += os.read(near, 65536)
    os.close(near)
    os.close(far)
    assert process.wait(PATIENCE) == 0
    text = shown.decode()
    assert re.search(r"[0-8] of 8 threads.*━", text) and "8 thread(s)" in text
