"""What is particular to the SQLite saver: what it refuses, what it forgets, and what a crash or a
full disk leaves."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, TypedDict

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import EXT_CONSTRUCTOR_SINGLE_ARG, JsonPlusSerializer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from assent.api import views
from assent.api.views import state_json, values_json
from assent.checkpoint import fingerprints
from assent.checkpoint.extents import Extent, between, difference, is_beginning, joined, positions
from assent.checkpoint.fingerprints import Fingerprints
from assent.checkpoint.serializer import StrictSerializer
from assent.core.errors import ConfigurationError, Conflict, Unavailable
from assent.core.json import encode_json
from assent.core.shown import BLOCK, SHOWN_KEY
from assent.graph.stream.jsonable import encoded_message
from assent.storage.sqlite import SqliteSaver
from assent.storage.sqlite.checkpoints.writes import Stale
from assent.storage.sqlite.writer import Writer
from tests.storage import saver_crash
from tests.storage.saver_crash import answering
from tests.support.database import sql
from tests.support.disk import files_at_most
from tests.support.forks import forked, pipe
from tests.support.keys import KEY
from tests.support.waiting import until

TABLES = (
    "checkpoint_threads",
    "checkpoints",
    "checkpoint_logs",
    "checkpoint_blobs",
    "checkpoint_writes",
)


KILLS = int(os.environ.get("ASSENT_SAVER_KILLS", "8"))

STORED = """
    SELECT checkpoint_id FROM checkpoints JOIN checkpoint_threads USING (k)
    WHERE thread_id = ? ORDER BY number
"""
TOLD = "SELECT body ->> 'checkpoint_id' FROM events WHERE thread_id = ? ORDER BY seq"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.db"


def at(thread_id: str = "t", checkpoint_id: str | None = None) -> Any:
    named = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", **named}}


async def put(
    saver: BaseCheckpointSaver[Any],
    config: Any,
    number: int,
    metadata: dict[str, Any] | None = None,
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
    given = {"source": "loop", "step": number, "parents": {}, **(metadata or {})}
    return await saver.aput(config, checkpoint, given, versions)  # type: ignore[arg-type]


async def values(saver: BaseCheckpointSaver[Any], config: Any) -> Any:
    found = await saver.aget_tuple(config)
    return found and found.checkpoint["channel_values"]


def holds(path: Path, text: bytes) -> bool:
    return text in path.read_bytes()


def size(path: Path) -> int:
    return path.stat().st_size


def rows(path: Path) -> dict[str, int]:
    return {table: sql(path, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


# ── lists that share what they have in common ──


def test_a_part_of_a_list_is_cut_out_of_its_extents() -> None:
    whole = (Extent(1, 0, 5), Extent(2, 10, 12), Extent(1, 6, 9))
    assert between(whole, 0, 10) == whole
    assert between(whole, 4, 8) == (Extent(1, 4, 5), Extent(2, 10, 12), Extent(1, 6, 7))
    assert between(whole, 7, 7) == ()
    assert joined(between(whole, 0, 3), between(whole, 3, 10)) == whole


def test_a_list_begins_with_what_it_was_before_it_grew() -> None:
    edited = (Extent(1, 0, 4), Extent(2, 0, 1), Extent(1, 5, 9))
    for earlier in ((), (Extent(1, 0, 3),), edited[:1], edited[:2], edited):
        assert is_beginning(earlier, edited)
    # As it was before its fifth item was edited, and longer.
    for other in ((Extent(1, 0, 9),), (Extent(1, 1, 3),), (*edited, Extent(1, 9, 10))):
        assert not is_beginning(other, edited)


@pytest.mark.parametrize(
    ("old", "new", "shared"),
    [
        ("abc", "abcd", (3, 4, 0)),
        ("abc", "axc", (1, 2, 1)),
        ("abc", "bc", (0, 0, 2)),
        ("aa", "aaa", (2, 3, 0)),
        ("abc", "", (0, 0, 0)),
    ],
)
def test_what_two_lists_share_is_at_their_ends(
    old: str, new: str, shared: tuple[int, int, int]
) -> None:
    assert difference([bytes([ord(c)]) for c in old], [bytes([ord(c)]) for c in new]) == shared


def test_stretches_of_the_file_do_not_overlap() -> None:
    assert positions([Extent(0, 4, 6), Extent(0, 0, 5), Extent(0, 8, 9)]) == [(0, 6), (8, 9)]


@pytest.mark.slow
async def test_a_thread_grows_with_what_is_said_in_it(path: Path) -> None:
    sizes = []
    for _ in range(3):
        async with SqliteSaver.from_conn_string(path) as saver:
            graph = answering(saver)
            for _ in range(40):
                await graph.ainvoke(
                    {"messages": [HumanMessage("h" * 500)]}, at(), durability="sync"
                )
        sizes.append(size(path))
    assert sizes[2] - sizes[1] < 1.3 * (sizes[1] - sizes[0])
    assert sizes[2] < 120 * 12_000
    # Each message is in the log once, whatever restarts came between, and in the log is one
    # stretch.
    ((refs,),) = sql(path, "SELECT refs FROM checkpoints ORDER BY checkpoint_id DESC LIMIT 1")
    assert refs.count("[") == 2
    assert "240" in refs


async def test_an_edit_of_an_old_message_stores_that_message_alone(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        messages: list[AnyMessage] = [
            HumanMessage(f"{number}" * 500, id=str(number)) for number in range(1000)
        ]
        config = await put(saver, at(), 1, messages=messages)
        before = sql(path, "SELECT sum(length(body)) FROM checkpoint_blobs")[0][0]
        messages[500].content = "edited"
        config = await put(saver, config, 2, messages=messages)
        del messages[100:110]
        config = await put(saver, config, 3, messages=messages)
        await put(saver, config, 4, messages=[*messages, AIMessage("end")])
        assert sql(path, "SELECT sum(length(body)) FROM checkpoint_blobs")[0][0] - before < 1000
    async with SqliteSaver.from_conn_string(path) as saver:
        assert (await values(saver, at()))["messages"] == [*messages, AIMessage("end")]
        assert (await values(saver, at("t", "00000001")))["messages"][500].content == "500" * 500


async def test_a_list_of_plain_values_has_one_hash_and_stores_what_was_added_or_all(
    path: Path,
) -> None:
    plain: list[Any] = [1.5, 1, True, "text", None, b"bytes", {"k": [1]}, [2], float("inf"), -0.0]
    hashes = Fingerprints()
    assert hashes.each(plain, hashes.of(plain)) is None
    mixed = [*plain, HumanMessage("hi")]
    assert len(hashes.each(mixed, hashes.of(mixed)) or ()) == len(mixed)

    counts = []
    saved: list[Any] = [*plain, *map(float, range(10_000))]
    async with SqliteSaver.from_conn_string(path) as saver:
        config = at()

        async def save(number: int) -> None:
            nonlocal config
            config = await put(saver, config, number, numbers=saved)
            counts.append(rows(path)["checkpoint_blobs"])
            assert repr(await values(saver, config)) == repr({"numbers": saved})

        await save(1)
        # Of 128, 256, 512, 1024, 2048, 4096 and 1946 items.
        assert counts == [7]
        saved.append(0.5)
        await save(2)
        saved[6]["k"].append(2)
        await save(3)
        saved[1] = 1.0
        await save(4)
        saved += [HumanMessage("hi", id="1"), 1]
        await save(5)
        saved[-2].content = "ho"
        await save(6)
    assert counts == [7, 8, 15, 22, 23, 24]
    async with SqliteSaver.from_conn_string(path) as saver:
        assert repr(await values(saver, at())) == repr({"numbers": saved})


async def test_a_list_that_changes_everywhere_stays_readable(path: Path) -> None:
    shuffled = random.Random(7)
    messages = [HumanMessage(f"{number}", id=str(number)) for number in range(300)]
    async with SqliteSaver.from_conn_string(path) as saver:
        config = at()
        for number in range(150):
            messages[shuffled.randrange(300)].content = f"changed {number}"
            config = await put(saver, config, number, messages=messages)
        assert sql(path, "SELECT max(length(refs)) FROM checkpoints")[0][0] < 2000
    async with SqliteSaver.from_conn_string(path) as saver:
        assert (await values(saver, at()))["messages"] == messages


# ── a drop-in for LangGraph's ──


class Counting(TypedDict):
    messages: Annotated[list[AnyMessage], lambda old, new: old + new]
    total: int


def conversation(saver: Any) -> CompiledStateGraph[Any]:
    """A graph with a subgraph that asks a person."""

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {
            "messages": [
                AIMessage(f"asked: {interrupt('sure?')}", id=f"ask-{len(state['messages'])}")
            ]
        }

    async def answer(state: MessagesState) -> dict[str, Any]:
        # In place, in an old message.
        state["messages"][0].additional_kwargs["turns"] = len(state["messages"])
        return {"messages": [AIMessage("answered", id=f"answer-{len(state['messages'])}")]}

    inner = StateGraph(MessagesState).add_node(ask).add_edge(START, "ask").compile()
    outer = (
        StateGraph(MessagesState)
        .add_node("inner", inner)
        .add_node(answer)
        .add_edge(START, "inner")
        .add_edge("inner", "answer")
    )
    return outer.compile(checkpointer=saver)


async def told(graph: CompiledStateGraph[Any]) -> list[Any]:
    """A conversation with a pause, a resume, an edit, a removal and a fork; what every state in it
    looked like."""
    config = at()
    for turn in range(3):
        await graph.ainvoke(
            {"messages": [HumanMessage(f"turn {turn}", id=f"human-{turn}")]},
            config,
            durability="sync",
        )
        assert (await graph.aget_state(config)).interrupts
        await graph.ainvoke(Command(resume="yes"), config, durability="sync")
    await graph.aupdate_state(
        config, {"messages": [HumanMessage("edited", id="human-1"), RemoveMessage("ask-1")]}
    )
    old = [state async for state in graph.aget_state_history(config)][6]
    forked = await graph.aupdate_state(
        old.config, {"messages": [HumanMessage("another way", id="fork")]}
    )
    await graph.ainvoke(None, forked, durability="sync")
    return [
        (
            state.values,
            state.next,
            state.metadata,
            [task.interrupts and "asks" for task in state.tasks],
            [task.name for task in state.tasks],
        )
        async for state in graph.aget_state_history(config)
    ]


async def test_a_graph_cannot_tell_it_from_the_saver_in_memory(path: Path) -> None:
    theirs = await told(
        conversation(InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None)))
    )
    async with SqliteSaver.from_conn_string(path) as saver:
        ours = await told(conversation(saver))

    def plain(states: list[Any]) -> list[Any]:
        # The ids of parents differ in each run.
        return [
            (values, next_, {**metadata, "parents": None}, *rest)
            for values, next_, metadata, *rest in states
        ]

    assert plain(ours) == plain(theirs)
    async with SqliteSaver.from_conn_string(path) as saver:
        states = [state async for state in conversation(saver).aget_state_history(at())]
        assert [state.values for state in states] == [values for values, *_ in theirs]


@pytest.mark.parametrize("counts", [True, False])
async def test_what_is_read_is_its_readers_alone(
    path: Path, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on an interpreter that does not count references."""
    if not counts:
        monkeypatch.setattr(fingerprints, "COUNTS_REFERENCES", False)
    async with SqliteSaver.from_conn_string(path) as saver:
        mine = [
            HumanMessage("hello", id="1", additional_kwargs={"k": [1]}),
            AIMessage("hi", id="2", extra=[1]),
        ]
        await put(saver, at(), 1, messages=mine)
        one = (await values(saver, at()))["messages"]
        mine[0].content = "changed by the writer"
        other = (await values(saver, at()))["messages"]
        one[0].additional_kwargs["k"].append(2)
        one[1].extra.append(2)
        assert other[0].content == "hello"
        assert other[0].additional_kwargs == {"k": [1]}
        assert other[1].extra == [1]
        del one, other
        mine.clear()
        again = (await values(saver, at()))["messages"]
        assert [message.content for message in again] == ["hello", "hi"]
        assert again[0].additional_kwargs == {"k": [1]}


async def shown(saver: BaseCheckpointSaver[Any], config: Any) -> bytes:
    """The values as they are shown."""
    config = {"configurable": {**config["configurable"], SHOWN_KEY: True}}
    return encode_json(values_json(await values(saver, config)))


async def test_what_is_shown_is_what_was_stored_whatever_was_shown_before(path: Path) -> None:
    """The list grows, is edited and cut, and those who hold its messages change them."""
    chance, ids = random.Random(5), count()
    now: list[Any] = []
    stored: dict[str, bytes] = {}
    async with SqliteSaver.from_conn_string(path) as saver:
        config = at()
        for number in range(60):
            if now and chance.random() < 0.3:
                place = chance.randrange(len(now))
                now[place] = HumanMessage("NaN", id=now[place].id)
            if chance.random() < 0.1:
                del now[chance.randrange(len(now) + 1) :]
            fresh = range(chance.choice([1, 2, BLOCK - 1, BLOCK, BLOCK + 1]))
            now += [AIMessage(f"\ud800 {each}", id=str(next(ids))) for each in fresh]
            config = await put(saver, config, number, messages=now)
            stored[f"{number:08}"] = encode_json(state_json({"messages": now}))
            for old in chance.sample([*stored], min(len(stored), 2)):
                assert await shown(saver, at(checkpoint_id=old)) == stored[old]
            if chance.random() < 0.3:
                chance.choice(now).content = "changed by whoever holds it"
        async for each in saver.alist({"configurable": {"thread_id": "t", SHOWN_KEY: True}}):
            made = encode_json(values_json(each.checkpoint["channel_values"]))
            assert made == stored[each.checkpoint["id"]]


async def test_a_message_is_encoded_once_however_often_it_is_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []

    def noting(message: AnyMessage, **given: Any) -> bytes:
        encoded.append(str(message.id))
        return encoded_message(message, **given)

    monkeypatch.setattr(views, "encoded_message", noting)
    async with SqliteSaver.from_conn_string(path) as saver:
        config, now = at(), [HumanMessage("Hi.", id="0")]
        for number in range(1, BLOCK * 3):
            config = await put(saver, config, number, messages=now)
            await shown(saver, at())
            await shown(saver, at(checkpoint_id=f"{(number + 1) // 2:08}"))
            now = [*now, HumanMessage("Hello.", id=str(number))]
    assert encoded == [str(number) for number in range(BLOCK * 3 - 1)]


async def test_the_memory_it_takes_is_bounded(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path, cache_bytes=100_000) as saver:
        for number in range(50):
            await put(saver, at(f"t{number}"), 1, messages=[HumanMessage("x" * 10_000, id="1")])
        kept = list(saver._checkpoints._heads.lists._values.values())
        assert 4 <= len(kept) <= 10
        assert (await values(saver, at("t0")))["messages"][0].content == "x" * 10_000

        # A short message is far larger as an object than in the file.
        for number in range(100):
            await put(saver, at(f"s{number}"), 1, messages=[HumanMessage("x", id="1")])
        assert 10 <= len(saver._checkpoints._heads.lists._values) <= 50


async def test_the_sync_methods_serve_other_threads_and_refuse_the_loops_own(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        graph = (
            StateGraph(MessagesState)
            .add_node("node", lambda state: {"messages": [AIMessage("hi")]})
            .add_edge(START, "node")
        )
        agent = graph.compile(checkpointer=saver)
        await asyncio.to_thread(agent.invoke, {"messages": [HumanMessage("hello")]}, at())
        assert await asyncio.to_thread(lambda: len(list(saver.list(at(), limit=2)))) == 2
        with pytest.raises(asyncio.InvalidStateError, match="in another thread"):
            saver.get_tuple(at())
        with pytest.raises(asyncio.InvalidStateError, match="aget_tuple"):
            next(saver.list(at()))


def test_it_serves_a_program_that_is_not_async(path: Path) -> None:
    with SqliteSaver.from_conn_string(path) as saver:
        graph = (
            StateGraph(MessagesState)
            .add_node("node", lambda state: {"messages": [AIMessage("hi")]})
            .add_edge(START, "node")
        )
        agent = graph.compile(checkpointer=saver)
        agent.invoke({"messages": [HumanMessage("hello")]}, at())
        assert len(agent.get_state(at()).values["messages"]) == 2
        saver.copy_thread("t", "u")
        saver.prune(["t"])
        assert len(list(saver.list(at("t")))) == 1
        assert len(list(saver.list(at("u")))) == 3
        saver.delete_thread("t")
        assert saver.get_tuple(at("t")) is None
        # A loop of its own can use it all the same.
        assert asyncio.run(saver.aget_tuple(at("u"))) is not None
    with (
        pytest.raises(ConfigurationError, match="No such file"),
        SqliteSaver.from_conn_string(path.parent / "no" / "where.db"),
    ):
        pass


async def test_a_name_in_memory_is_a_file_that_goes_away() -> None:
    async with SqliteSaver.from_conn_string(":memory:") as saver:
        await put(saver, at(), 1, value=1)
        assert await values(saver, at()) == {"value": 1}
    async with SqliteSaver.from_conn_string(":memory:") as saver:
        assert await values(saver, at()) is None


async def test_a_second_saver_on_the_file_is_refused(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path):
        with pytest.raises(ConfigurationError, match="open in another Assent process"):
            async with SqliteSaver.from_conn_string(str(path)):
                pass


async def test_no_name_in_a_filter_becomes_part_of_the_query(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        odd = """a') = 1 OR 1=1; DROP TABLE checkpoints; --"""
        await put(saver, at(), 1, {odd: "x", "n": 1, "nested": {"a": [1, 2]}})
        await put(saver, at(), 2, {"n": 2})
        found = [each.checkpoint["id"] async for each in saver.alist(at(), filter={odd: "x"})]
        assert found == ["00000001"]
        assert [each async for each in saver.alist(None, filter={odd: "y", '"': 1, "$.n": 1})] == []
        assert [
            each.metadata["step"]
            async for each in saver.alist(None, filter={"nested": {"a": [1, 2]}}, limit=1)
        ] == [1]
        assert [
            each.metadata["step"]
            async for each in saver.alist(None, filter={"absent": None}, limit=1)
        ] == [2]


async def test_a_listing_holds_nothing_between_two_of_its_steps(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        config = at()
        for number in range(100):
            config = await put(saver, config, number, value=number)
        seen = []
        async for each in saver.alist(at()):
            seen.append(each.checkpoint["channel_values"]["value"])
            await put(saver, config, 1000 + len(seen), value=1)
            if len(seen) == 40:
                await saver.aprune(["t"])
        assert seen[:40] == list(range(99, 59, -1))


# ── types ──


class Colour(Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    colour: Colour = Colour.RED


@dataclass
class Pair:
    left: Any
    right: Any


async def test_a_type_that_was_not_allowed_is_refused_when_it_is_written(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        for value in (
            Point(x=1),
            [Pair(1, 2)],
            {"deep": [Colour.RED]},
            HumanMessage("hi", extra={"point": Point(x=1)}),
        ):
            with pytest.raises(
                ConfigurationError,
                match=r"may not hold a \S*test_saver\.(Point|Pair|Colour).*allowed=\[",
            ):
                await put(saver, at(), 1, value=value)
        with pytest.raises(ConfigurationError):
            await saver.aput_writes(at("t", "1"), [("value", Point(x=1))], "task")
        assert rows(path) == dict.fromkeys(TABLES, 0)


async def test_a_type_that_was_allowed_is_made_again_after_a_restart(path: Path) -> None:
    value = {"point": Point(x=1), "pairs": [Pair(Colour.RED, {1, 2})]}
    for _ in range(2):
        async with SqliteSaver.from_conn_string(
            path, allowed=[Point, Colour, (Pair.__module__, "Pair")]
        ) as saver:
            assert await values(saver, at()) in (None, {"value": value, "list": [Pair(1, 2)]})
            await put(saver, at(), 1, value=value, list=[Pair(1, 2)])
    async with SqliteSaver.from_conn_string(path) as saver:
        with pytest.raises(ConfigurationError, match=r"may not hold a \S*test_saver"):
            await saver.aget_tuple(at())
        more = saver.with_allowlist(
            [(each.__module__, each.__name__) for each in (Point, Colour, Pair)]
        )
        assert await values(more, at()) == {"value": value, "list": [Pair(1, 2)]}
        assert saver.with_allowlist([]) is saver


def evil(reference: tuple[str, str, Any], code: int = EXT_CONSTRUCTOR_SINGLE_ARG) -> bytes:
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(reference)))


TAMPERED = """
import asyncio, sys
from assent.storage.sqlite import SqliteSaver
from assent.core.errors import ConfigurationError
async def main():
    for path in sys.argv[1:]:
        async with SqliteSaver.from_conn_string(path) as saver:
            try:
                print("read:", await saver.aget_tuple({"configurable": {"thread_id": "t"}}))
            except ConfigurationError as error:
                print("refused:", error)
asyncio.run(main())
"""


async def test_no_code_comes_from_a_row_that_was_tampered_with(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        config = await put(saver, at(), 1, messages=[HumanMessage("hi")], value="x" * 1000)
        await saver.aput_writes(config, [("value", 1)], "task")
    made = path.parent / "made"
    bodies = {
        "msgpack": evil(("os", "system", f"touch {made}")),
        "json": b'{"lc": 2, "type": "constructor", "id": ["os", "system"], '
        + f'"args": ["touch {made}"]}}'.encode(),
        "pickle": f"cos\nsystem\n(S'touch {made}'\ntR.".encode(),
    }
    tampered = []
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        for kind, body in bodies.items():
            copy = path.with_name(f"{table}-{kind}.db")
            shutil.copyfile(path, copy)
            sql(copy, f"UPDATE {table} SET type = ?, body = ?", kind, body)
            tampered.append(str(copy))
    environment = {
        name: value for name, value in os.environ.items() if name != "LANGGRAPH_STRICT_MSGPACK"
    }
    command = [sys.executable, "-c", TAMPERED, *tampered]
    said = await asyncio.to_thread(
        subprocess.check_output, command, text=True, timeout=60, env=environment
    )
    assert [line.split(":")[0] for line in said.splitlines()] == ["refused"] * len(tampered)
    assert not made.exists()


def test_what_was_cut_short_is_refused() -> None:
    serializer = StrictSerializer()
    kind, body = serializer.dumps_typed([HumanMessage("hello")])
    with pytest.raises(ConfigurationError, match="damaged"):
        serializer.loads_typed((kind, body[:-3]))


def test_the_types_of_a_graphs_state_are_allowed_when_langgraph_is_strict() -> None:
    program = """
    import asyncio, dataclasses, typing
    from langgraph.graph import START, StateGraph
    from assent.storage.sqlite import SqliteSaver

    @dataclasses.dataclass
    class Mine:
        x: int

    class State(typing.TypedDict):
        mine: Mine

    async def main():
        async with SqliteSaver.from_conn_string(":memory:") as saver:
            builder = StateGraph(State).add_edge(START, "node")
            builder.add_node("node", lambda state: {"mine": Mine(state["mine"].x + 1)})
            graph = builder.compile(checkpointer=saver)
            config = {"configurable": {"thread_id": "t"}}
            await graph.ainvoke({"mine": Mine(1)}, config)
            print((await graph.aget_state(config)).values)

    asyncio.run(main())
    """
    environment = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    assert done.stdout == "{'mine': Mine(x=2)}\n"


class Cipher:
    """Enough to tell that the bytes of the file went through it, and never the same for the same
    text."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "xor", os.urandom(8) + bytes(byte ^ 77 for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return bytes(byte ^ 77 for byte in ciphertext[8:])


async def test_a_serializer_that_encrypts_differently_each_time_does_too(path: Path) -> None:
    serde = EncryptedSerializer(Cipher(), StrictSerializer())
    async with SqliteSaver.from_conn_string(path, serde=serde) as saver:
        graph = answering(saver)
        for _ in range(20):
            await graph.ainvoke(
                {"messages": [HumanMessage("secret" * 10)]}, at(), durability="sync"
            )
    assert not holds(path, b"secret")
    assert sql(path, "SELECT count(*) FROM checkpoint_logs") == [(2,)]
    async with SqliteSaver.from_conn_string(path, serde=serde) as saver:
        assert len((await values(saver, at()))["messages"]) == 40


# ── removing ──


async def test_nothing_of_a_deleted_thread_is_left(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        for thread_id in ("t", "u"):
            for _ in range(3):
                await conversation(saver).ainvoke(
                    {"messages": [HumanMessage("secret-" + thread_id)]},
                    at(thread_id),
                    durability="sync",
                )
                await conversation(saver).ainvoke(
                    Command(resume="yes"), at(thread_id), durability="sync"
                )
        await saver.adelete_thread("t")
        left = rows(path)
        await saver.acopy_thread("u", "v")
        assert rows(path) == {table: 2 * count for table, count in left.items()}
        await saver.adelete_thread("v")
        assert rows(path) == left
        assert len((await values(saver, at("u")))["messages"]) == 9
        await saver.adelete_thread("u")
        assert rows(path) == dict.fromkeys(TABLES, 0)
    assert not holds(path, b"secret-t")


async def test_pruning_keeps_what_the_latest_checkpoint_needs_and_nothing_else(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        graph = answering(saver)
        for _ in range(50):
            await graph.ainvoke({"messages": [HumanMessage("hi")]}, at(), durability="sync")
        before = await values(saver, at())
        old = [each.config async for each in saver.alist(at())][20]
        forked = await graph.aupdate_state(old, {"messages": [HumanMessage("fork" * 1000)]})
        await saver.adelete_for_runs(["no such run"])
        await saver.aprune(["t"], keep=3)
        assert rows(path)["checkpoints"] == 3
        await saver.aprune(["t"])
        assert rows(path) | {"checkpoint_blobs": 0} == {
            "checkpoint_threads": 1,
            "checkpoints": 1,
            "checkpoint_logs": 2,
            "checkpoint_blobs": 0,
            "checkpoint_writes": 0,
        }
        # The fork was the latest: only the messages up to it, and its own.
        kept = (await values(saver, forked))["messages"]
        assert rows(path)["checkpoint_blobs"] == len(kept)
        assert kept[:-1] == before["messages"][: len(kept) - 1]
        assert sql(path, "PRAGMA auto_vacuum") == [(2,)]
        with pytest.raises(ValueError, match="no strategy 'all'"):
            await saver.aprune(["t"], strategy="all")


# ── the calls of subgraphs ──


class Talk(MessagesState):
    asks: bool


def calling(saver: Any, *, remembers: bool = False) -> CompiledStateGraph[Any]:
    """A graph that has each message answered by a graph in a graph, which may ask first."""

    async def answer(state: Talk) -> dict[str, Any]:
        said = interrupt("what?") if state["asks"] else "hi"
        return {"messages": [AIMessage(f"{said} {len(state['messages'])}")]}

    def around(inner: Any) -> StateGraph[Any]:
        return StateGraph(Talk).add_node("inner", inner).add_edge(START, "inner")

    innermost = StateGraph(Talk).add_node("answer", answer).add_edge(START, "answer")
    inner = around(innermost.compile()).compile(checkpointer=remembers or None)
    return around(inner).compile(checkpointer=saver)


def namespaces(path: Path) -> list[str]:
    """Without the ids of tasks."""
    found = sql(path, "SELECT ns FROM checkpoint_threads ORDER BY length(ns)")
    return [re.sub(":[^|]*", ":", ns) for (ns,) in found]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_of_subgraphs_calls_pruning_keeps_what_is_still_open(
    path: Path, durability: Any
) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        graph = calling(saver)

        async def say(given: Any) -> list[str]:
            state = await graph.ainvoke(given, at(), durability=durability)
            return [message.content for message in state["messages"]]

        sizes = []
        for turn in range(6):
            await say({"messages": [HumanMessage(f"turn {turn}")], "asks": turn == 5})
            await saver.aprune(["t"])
            sizes.append({**rows(path), "checkpoint_blobs": 0})
            is_asked = turn == 5
            assert namespaces(path) == ["", "inner:", "inner:|inner:"][: 3 if is_asked else 1]
        assert sizes[1:5] == [sizes[0]] * 4
        assert (await say(Command(resume="bye")))[-2:] == ["turn 5", "bye 11"]
        await saver.aprune(["t"])
        assert namespaces(path) == [""]
        # Of three states, the last two steps of the turn and the one before, one has called.
        await say({"messages": [HumanMessage("again")], "asks": False})
        await saver.aprune(["t"], keep=3)
        assert (
            namespaces(path) == ["", "inner:", "inner:|inner:"][: 1 if durability == "exit" else 3]
        )
        assert rows(path)["checkpoint_threads"] == len(namespaces(path))


async def test_a_call_that_is_stored_before_the_step_that_it_is_made_in_is_kept(path: Path) -> None:
    """The step's checkpoint is still to come."""
    inside = at()
    inside["configurable"]["checkpoint_ns"] = "inner:task"
    async with SqliteSaver.from_conn_string(path) as saver:
        config = await put(saver, at(), 1, messages=[1])
        await put(saver, inside, 9, {"parents": {"": "00000002"}}, messages=[1])
        for number, is_kept in ((2, True), (3, True), (4, False)):
            await saver.aprune(["t"])
            assert (namespaces(path) == ["", "inner:"]) is is_kept
            config = await put(saver, config, number, messages=[number])


async def test_a_subgraph_that_remembers_is_kept(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        graph = calling(saver, remembers=True)
        for turn in range(3):
            given = {"messages": [HumanMessage(f"turn {turn}")], "asks": False}
            await graph.ainvoke(given, at(), durability="sync")
            before = rows(path)["checkpoints"]
            await saver.aprune(["t"])
            assert rows(path)["checkpoints"] < before
            assert namespaces(path) == ["", "inner"]


async def test_a_thread_goes_on_after_its_newest_checkpoints_were_deleted(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        graph = answering(saver)
        for run in range(4):
            config = {**at(), "metadata": {"run_id": f"run-{run}"}}
            await graph.ainvoke({"messages": [HumanMessage(f"{run}")]}, config, durability="sync")
        await saver.adelete_for_runs(["run-2", "run-3"])
        assert [message.content for message in (await values(saver, at()))["messages"]] == [
            "0",
            "1 so far",
            "1",
            "3 so far",
        ]
        await graph.ainvoke({"messages": [HumanMessage("again")]}, at(), durability="sync")
    async with SqliteSaver.from_conn_string(path) as saver:
        assert [message.content for message in (await values(saver, at()))["messages"]][-3:] == [
            "3 so far",
            "again",
            "5 so far",
        ]


# ── the order of the writes ──
# Ids are made of the time, so after a clock was put back they sort the wrong way.


async def listed(saver: SqliteSaver, config: Any, **how: Any) -> list[str]:
    return [each.checkpoint["id"] async for each in saver.alist(config, **how)]


async def head(saver: SqliteSaver, config: Any) -> str | None:
    found = await saver.aget_tuple(config)
    return found and found.checkpoint["id"]


PUT = (5, 9, 8, 2, 3)
IDS = [f"{number:08}" for number in PUT]


async def put_in_that_order(saver: SqliteSaver, config: Any) -> None:
    for number in PUT:
        config = await put(saver, config, number, messages=[number], other=number)


async def test_the_head_is_what_was_put_last_and_the_history_what_was_put_before(
    path: Path,
) -> None:
    for _ in range(2):
        async with SqliteSaver.from_conn_string(path) as saver:
            if await saver.aget_tuple(at()) is None:
                await put_in_that_order(saver, at())
                await put(saver, at("another"), 9, messages=[1])
            assert await head(saver, at()) == IDS[-1]
            assert await values(saver, at()) == {"messages": [3], "other": 3}
            assert await listed(saver, at()) == IDS[::-1]
            assert await listed(saver, at(), limit=2) == IDS[:-3:-1]
            for place, each in enumerate(IDS):
                before = await listed(saver, at(), before=at("t", each))
                assert before == IDS[:place][::-1]
                assert await listed(saver, at(), before=at("t", each), limit=1) == before[:1]
                found = await saver.aget_tuple(at("t", each))
                assert found is not None
                assert found.parent_config == (at("t", IDS[place - 1]) if place else None)
            # One that is not there has no place but its name.
            assert await listed(saver, at(), before=at("t", "00000004")) == [IDS[4], IDS[3]]
            every = await listed(saver, None, before=at("t", IDS[1]))
            assert every == IDS[:1]
            await saver.acopy_thread("t", "copy")
            assert await listed(saver, at("copy")) == IDS[::-1]
            await saver.adelete_thread("copy")


async def test_a_checkpoint_that_is_put_again_is_the_newest(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        await put_in_that_order(saver, at())
        await put(saver, at("t", IDS[-1]), PUT[0], messages=[0])
        assert await listed(saver, at()) == [IDS[0], *IDS[:0:-1]]
        assert await values(saver, at()) == {"messages": [0]}


async def test_a_rollback_leads_back_to_what_was_put_before(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        config = at()
        for number in PUT:
            run = {"run_id": "undone" if number < 5 else "kept"}
            config = await put(saver, config, number, run, messages=[number])
        await saver.adelete_for_runs(["undone"])
        assert await head(saver, at()) == "00000008"
        await put(saver, at("t", "00000008"), 1, messages=[1])
        assert await listed(saver, at()) == ["00000001", "00000008", "00000009", "00000005"]


async def test_pruning_keeps_what_was_put_last_and_what_is_still_to_come(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        await put_in_that_order(saver, at())
        for each in [*IDS, "00000004", "00000001"]:
            await saver.aput_writes(at("t", each), [("messages", [each])], "task")
            if each == "00000004":
                # It never came, and what was written to it was of no use.
                await put(saver, at("t", IDS[-1]), 0, messages=[0])
                await saver.aput_writes(at("t", "00000000"), [("messages", [0])], "task")
        await saver.aprune(["t"], keep=2)
        assert await listed(saver, at()) == ["00000000", IDS[-1]]
        left = sql(path, "SELECT checkpoint_id FROM checkpoint_writes ORDER BY number")
        assert [each for (each,) in left] == [IDS[-1], "00000000", "00000001"]
        await put(saver, at("t", "00000000"), 1, messages=[1])
        found = await saver.aget_tuple(at())
        assert found is not None
        assert found.pending_writes == [("task", "messages", ["00000001"])]


@pytest.mark.parametrize("key", [None, KEY], ids=["clear", "sealed"])
async def test_a_subgraphs_checkpoints_come_behind_the_step_that_they_were_made_in(
    path: Path, key: str | None
) -> None:
    """They may be written first: LangGraph waits for a step's checkpoint only behind the step."""

    def inside(checkpoint_id: str | None = None) -> Any:
        config = at("t", checkpoint_id)
        config["configurable"]["checkpoint_ns"] = "inner"
        return config

    async with SqliteSaver.from_conn_string(path, encryption_key=key) as saver:
        config: Any = at()
        for number in (7, 6, 5):
            # Twice ahead of the checkpoint whose step it is made in, once behind.
            made_in = {"parents": {"": f"{number:08}"}}
            if number != 6:
                await put(saver, inside(), 10 + number, made_in, messages=[number])
            config = await put(saver, config, number, messages=[number])
            if number == 6:
                await put(saver, inside(), 10 + number, made_in, messages=[number])
        assert await listed(saver, inside()) == ["00000015", "00000016", "00000017"]
        named = [{"configurable": {"checkpoint_id": f"{number:08}"}} for number in (7, 6, 5)]
        assert [await listed(saver, inside(), before=each) for each in named] == [
            [],
            ["00000017"],
            ["00000016", "00000017"],
        ]


# ── delta channels ──


def appended(old: list[Any], writes: list[list[Any]]) -> list[Any]:
    return [*old, *(item for write in writes for item in write)]


class Delta(TypedDict):
    items: Annotated[list[str], DeltaChannel(appended, snapshot_frequency=10)]
    other: int


def delta_graph(saver: Any) -> CompiledStateGraph[Any]:
    async def node(state: Delta) -> dict[str, Any]:
        return {"items": [f"item {len(state['items'])}"]}

    return (
        StateGraph(Delta).add_node("node", node).add_edge(START, "node").compile(checkpointer=saver)
    )


async def test_delta_channels_are_rebuilt_from_the_file_also_after_pruning(path: Path) -> None:
    turns = 17
    memory = delta_graph(InMemorySaver())
    async with SqliteSaver.from_conn_string(path) as saver:
        for graph in (memory, delta_graph(saver)):
            for number in range(turns):
                await graph.ainvoke(
                    {"items": [f"input {number}"], "other": number}, at(), durability="sync"
                )
    expected = (await memory.aget_state(at())).values
    async with SqliteSaver.from_conn_string(path) as saver:
        graph = delta_graph(saver)
        assert (await graph.aget_state(at())).values == expected
        ours = [state.values async for state in graph.aget_state_history(at())]
        assert ours == [state.values async for state in memory.aget_state_history(at())]
        history = await saver.aget_delta_channel_history(config=at(), channels=["items", "none"])
        assert history["none"] == {"writes": []}
        assert history["items"]["seed"].value
        before = rows(path)["checkpoints"]
        await saver.aprune(["t"])
        assert 1 < rows(path)["checkpoints"] < before
        assert (await graph.aget_state(at())).values == expected


# ── many at once ──


async def test_many_branches_at_once_lose_nothing_of_each_other(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        base = await put(saver, at(), 0, messages=[HumanMessage("base", id="base")])

        async def branch(number: int) -> list[AnyMessage]:
            config = base
            messages: list[AnyMessage] = [HumanMessage("base", id="base")]
            for step in range(10):
                messages = [*messages, AIMessage(f"{number}.{step}", id=f"{number}.{step}")]
                config = await put(
                    saver,
                    config,
                    1 + number * 100 + step,
                    messages=messages,
                    value=f"{number}" * 200,
                )
            return messages

        stored = await asyncio.gather(*(branch(number) for number in range(20)))
    async with SqliteSaver.from_conn_string(path) as saver:
        for number, messages in enumerate(stored):
            found = await values(saver, at("t", f"{1 + number * 100 + 9:08}"))
            assert found == {"messages": messages, "value": f"{number}" * 200}


class Refusals:
    """Counts the writes that the writer refuses because something they rely on was removed."""

    def __init__(self, writer: Writer) -> None:
        self.count = 0
        self._writer = writer

    async def write(self, operation: Any, **options: Any) -> Any:
        try:
            return await self._writer.write(operation, **options)
        except Stale:
            self.count += 1
            raise


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_writes_race_with_removals_and_every_reader_sees_whole_checkpoints(
    path: Path,
) -> None:
    chosen = random.Random(3)

    def is_over(rounds: int, least: int) -> bool:
        """Go on until enough writes have met a removal, however fast the machine is."""
        return rounds >= least and refusals.count >= 10

    async def say(saver: SqliteSaver, thread_id: str, number: int) -> None:
        found = await saver.aget_tuple(at(thread_id))
        messages = found.checkpoint["channel_values"]["messages"] if found else []
        assert [message.id for message in messages] == [str(n) for n in range(len(messages))]
        config = await put(
            saver,
            found.config if found else at(thread_id),
            number,
            {"run_id": f"{thread_id}-{number % 40}"},
            messages=[*messages, HumanMessage("m" * 200, id=str(len(messages)))],
            value="v" * 500,
        )
        await saver.aput_writes(config, [("messages", "w")], "task")

    async def talker(saver: SqliteSaver, thread_id: str) -> None:
        number = 0
        while not is_over(number, 40):
            # A busy machine may put a removal before each attempt of a write. The error asks to try
            # again.
            with suppress(Conflict):
                await say(saver, thread_id, number)
                number += 1

    async def remover(saver: SqliteSaver) -> None:
        for rounds in count():
            if is_over(rounds, 60):
                return
            thread_id = chosen.choice(["t0", "t1", "t2"])
            match chosen.randrange(4):
                case 0:
                    await saver.adelete_thread(thread_id)
                case 1:
                    await saver.adelete_for_runs([f"{thread_id}-{chosen.randrange(40)}"])
                case _:
                    await saver.aprune([thread_id], keep=chosen.choice([1, 2]))
            await asyncio.sleep(0.001)

    async def reader(saver: SqliteSaver) -> None:
        for rounds in count():
            if is_over(rounds, 60):
                return
            async for each in saver.alist(None, limit=5):
                ids = [message.id for message in each.checkpoint["channel_values"]["messages"]]
                assert ids == [str(n) for n in range(len(ids))]
            await asyncio.sleep(0)

    async with SqliteSaver.from_conn_string(path, cache_bytes=20_000) as saver:
        refusals = Refusals(saver._checkpoints._writer)
        saver._checkpoints._writer = refusals  # type: ignore[assignment]
        async with asyncio.timeout(240), asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(talker(saver, f"t{number % 3}"))
            group.create_task(remover(saver))
            group.create_task(reader(saver))
        for thread_id in ("t0", "t1", "t2"):
            await saver.adelete_thread(thread_id)
        assert rows(path) == dict.fromkeys(TABLES, 0)


# ── failing ──


async def test_a_write_that_failed_leaves_nothing_in_the_file_nor_in_memory(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        messages: list[AnyMessage] = [HumanMessage("one", id="1")]
        config = await put(saver, at(), 1, messages=messages)
        failed: list[AnyMessage] = [*messages, AIMessage("x" * 200_000, id="2")]
        with files_at_most(path.with_name("checkpoints.db-wal").stat().st_size + 10_000):
            with pytest.raises(Unavailable, match=r"checkpoints\.db cannot serve"):
                await put(saver, config, 2, messages=failed)
            with pytest.raises(Unavailable):
                await saver.aput_writes(config, [("messages", "x" * 200_000)], "task")
            assert (await values(saver, at()))["messages"] == messages
        await until(lambda: saver._checkpoints._writer.outage is None)
        second = await put(saver, config, 3, messages=[*messages, AIMessage("three", id="3")])
        third = await put(
            saver,
            second,
            4,
            messages=[*messages, AIMessage("three", id="3"), HumanMessage("four", id="4")],
        )
        assert (await saver.aget_tuple(config)).pending_writes == []  # type: ignore[union-attr]
        assert await values(saver, at("t", "00000002")) is None
    async with SqliteSaver.from_conn_string(path) as saver:
        assert [message.id for message in (await values(saver, third))["messages"]] == [
            "1",
            "3",
            "4",
        ]
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_write_that_relies_on_what_is_being_removed_brings_it_along(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        old = await put(saver, at(), 1, value="x" * 1000)
        await put(saver, old, 2, value="y" * 1000)
        # The old checkpoint, and its value, are removed after this put has looked at them and
        # before it is written.
        removal = asyncio.create_task(saver.aprune(["t"]))
        await asyncio.sleep(0)
        found = {"value": "x" * 1000, "other": 1}
        checkpoint = {
            **empty_checkpoint(),
            "id": "00000003",
            "channel_values": found,
            "channel_versions": {"value": 1, "other": 3},
        }
        saved = await saver.aput(old, checkpoint, {"step": 3}, {"other": 3})  # type: ignore[arg-type]
        await removal
        assert rows(path)["checkpoints"] == 2
        assert await values(saver, saved) == found


async def test_one_that_fails_among_many_fails_alone(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        first = await put(saver, at("gone"), 1, value="x" * 1000)
        # What is remembered of it is stale from here on, and the write that relies on it is refused
        # in the middle of the others.
        removal = asyncio.create_task(saver.adelete_thread("gone"))
        await asyncio.sleep(0)
        writes = [put(saver, at(f"t{number}"), 1, value=number) for number in range(50)]
        await asyncio.gather(
            removal, *writes[:25], put(saver, first, 2, value="y" * 1000), *writes[25:]
        )
        for number in range(50):
            assert await values(saver, at(f"t{number}")) == {"value": number}
        assert await values(saver, at("gone")) == {"value": "y" * 1000}
        assert await values(saver, first) is None


async def test_a_checkpoint_whose_values_are_missing_is_said_to_be_damaged(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        await put(saver, at(), 1, value="x" * 1000)
        sql(path, "DELETE FROM checkpoint_blobs")
        with pytest.raises(ConfigurationError, match="'t' refers to values that the file lacks"):
            await saver.aget_tuple(at())


async def test_a_history_whose_values_are_missing_is_said_to_be_damaged(path: Path) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        first = await put(saver, at(), 1, value="x" * 1000)
        second = await put(saver, first, 2, value="y" * 1000)
        sql(path, "DELETE FROM checkpoint_blobs")
        with pytest.raises(ConfigurationError, match="'t' refers to values that the file lacks"):
            await saver.aget_delta_channel_history(config=second, channels=["value"])


async def test_a_history_that_is_removed_while_it_is_read_is_read_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteSaver.from_conn_string(path) as saver:
        first = await put(saver, at(), 1, value="x" * 1000)
        second = await put(saver, first, 2, value="y" * 1000)
        reads = saver._checkpoints._reads
        blobs = reads.blobs

        async def prune_first(stretches: Any) -> Any:
            monkeypatch.setattr(reads, "blobs", blobs)
            await saver.aprune(["t"])
            return await blobs(stretches)

        monkeypatch.setattr(reads, "blobs", prune_first)
        history = await saver.aget_delta_channel_history(config=second, channels=["value"])
        assert history == {"value": {"writes": []}}


def received(pipe: Connection) -> Iterator[tuple[str, int]]:
    """Everything that was sent before the sender died; it may have died in the middle of a
    message."""
    with suppress(EOFError, OSError):
        while True:
            yield pipe.recv()


@pytest.mark.timeout(300 + 10 * KILLS)
async def test_a_kill_at_any_instant_loses_no_turn_that_was_acknowledged(path: Path) -> None:
    moments = random.Random(20260102)
    acknowledged = dict.fromkeys(saver_crash.THREADS, 0)
    for _ in range(KILLS):
        ours, theirs = pipe()
        child = forked(saver_crash.converse_until_killed, path, theirs)
        theirs.close()
        with ours:
            await asyncio.to_thread(ours.poll, 30)
            await asyncio.sleep(moments.uniform(0, 0.15))
            child.kill()
            child.join()
            for thread_id, messages in received(ours):
                acknowledged[thread_id] = max(acknowledged[thread_id], messages)
        child.close()
        await _check(path, acknowledged)
    # Had hardly anything been acknowledged, the checks above would have proved nothing.
    assert min(acknowledged.values()) > 2 * KILLS


async def _check(path: Path, acknowledged: dict[str, int]) -> None:
    """Every turn that was acknowledged is there, each state is whole, and of each checkpoint there
    is one event."""
    async with SqliteSaver.from_conn_string(path) as saver:
        for thread_id, count in acknowledged.items():
            found = await values(saver, at(thread_id))
            messages = found.get("messages", []) if found else []
            assert len(messages) >= count
            answers = [message.content for message in messages if isinstance(message, AIMessage)]
            assert answers == [f"{2 * turn + 1} so far" for turn in range(len(answers))]
            stored = sql(path, STORED, thread_id)
            assert stored == sql(path, TOLD, thread_id)
            assert len(stored) >= count
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]
