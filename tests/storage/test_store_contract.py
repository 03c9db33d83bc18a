"""LangGraph's store over each storage: what `InMemoryStore` of LangGraph answers, and what it has
beyond that: an order, ends, bounds, and leases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.graph import START, StateGraph
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    PutOp,
    SearchItem,
)
from langgraph.store.memory import InMemoryStore

from assent.core.errors import ConfigurationError, StaleLease
from assent.core.rows import LEASE_KEY, TENANT_KEY, Lease, RunStatus
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from assent.storage.store import MAX_OPERATIONS, MAX_VALUE_BYTES, StoreOptions
from tests.storage.samples import NOON, run
from tests.support.manual_clock import ManualClock
from tests.support.rows import replace

WORDS = ("red", "green", "blue", "redder", "")


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Vectors of how often four letters are in a text."""
    return [[float(text.count(letter)) for letter in "redg"] for text in texts]


INDEXED = StoreOptions(index={"embed": embed, "dims": 4, "fields": ["text", "notes[*]"]})


MINUTE = timedelta(minutes=1)


@asynccontextmanager
async def by_hand(folder: Path) -> AsyncIterator[tuple[SqliteStorage, ManualClock]]:
    manual = ManualClock()
    async with SqliteStorage.open(folder / "assent.db", manual.clock) as storage:
        yield storage, manual


@pytest.fixture
async def store(storage: Storage) -> BaseStore:
    return storage.store()


@pytest.fixture
async def indexed(storage: Storage) -> BaseStore:
    return storage.store(INDEXED)


# ── as LangGraph's own ──

labels = st.sampled_from(["a", "b", "é", "a b", "%", "_"])
namespaces = st.lists(labels, min_size=1, max_size=3).map(tuple)
prefixes = st.lists(labels, max_size=2).map(tuple)
keys = st.sampled_from(["k", "K", "k k", "%", "ü"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(WORDS))
values = st.fixed_dictionaries(
    {"n": st.integers(-3, 3), "text": st.sampled_from(WORDS)},
    optional={
        "what": st.one_of(scalars, st.lists(scalars, max_size=2)),
        "deep": st.dictionaries(st.sampled_from("xy"), scalars, max_size=2),
        "notes": st.lists(st.sampled_from(["ge", "dr", "rd"]), max_size=2, unique=True),
    },
)
numbers = st.dictionaries(
    st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]), st.integers(-3, 3), min_size=1
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "n": st.one_of(st.integers(-3, 3), numbers),
        "what": st.one_of(
            scalars, st.lists(scalars, max_size=2), st.fixed_dictionaries({"$ne": scalars})
        ),
        "deep": st.dictionaries(st.sampled_from("xy"), scalars, max_size=2),
        "none such": scalars,
    },
)
paths = st.lists(st.one_of(labels, st.just("*")), min_size=1, max_size=2).map(tuple)
puts = st.tuples(
    st.just("put"),
    namespaces,
    keys,
    st.one_of(st.none(), values),
    st.sampled_from([None, False, ["text"]]),
)
searches = st.tuples(
    st.just("search"), prefixes, filters, st.one_of(st.none(), st.sampled_from(WORDS))
)
listings = st.tuples(
    st.just("list"), st.none() | paths, st.none() | paths, st.none() | st.integers(1, 3)
)
histories = st.lists(st.one_of(puts, puts, searches, listings), min_size=1, max_size=12)


class Oracle:
    """What was put, told to a new store of LangGraph's for each question: it keeps the namespaces
    and the vectors of what is gone."""

    def __init__(self) -> None:
        self.items: dict[tuple[Any, str], tuple[Any, Any]] = {}

    def put(self, namespace: Any, key: str, value: Any, index: Any) -> None:
        self.items.pop((namespace, key), None)
        if value is not None:
            self.items[namespace, key] = (value, index)

    def asked(self) -> InMemoryStore:
        store = InMemoryStore(index=INDEXED.index)
        for (namespace, key), (value, index) in self.items.items():
            store.put(namespace, key, value, index)
        return store


def told(found: Sequence[SearchItem]) -> dict[Any, Any]:
    """What was found, by namespace and key; scores without the last digits."""
    return {
        (item.namespace, item.key): (item.value, item.score and pytest.approx(item.score, abs=1e-4))
        for item in found
    }


async def play(store: BaseStore, history: Sequence[Any], root: str) -> None:
    """Tell the history to the store below a label of its own, and to the oracle."""
    oracle = Oracle()
    for name, *told_so in history:
        match name, *told_so:
            case "put", namespace, key, value, index:
                here = (root, *namespace)
                oracle.put(here, key, value, index)
                if value is None:
                    await store.adelete(here, key)
                else:
                    await store.aput(here, key, value, index)
                item = await store.aget(here, key)
                assert (item.value if item else None) == value
            case "search", prefix, filter, query:
                asked = {"query": query, "filter": filter, "limit": 100}
                expected = oracle.asked().search((root, *prefix), **asked)
                found = await store.asearch((root, *prefix), **asked)
                assert told(found) == told(expected)
                scores = [item.score for item in found if item.score is not None]
                assert scores == sorted(scores, reverse=True)
                assert all(item.score is None for item in found[len(scores) :])
                page = await store.asearch((root, *prefix), **{**asked, "limit": 2}, offset=1)
                assert page == found[1:3]
            case "list", prefix, suffix, depth:
                narrowed = {"prefix": (root, *(prefix or ())), "suffix": suffix}
                depth = depth and depth + 1
                expected = oracle.asked().list_namespaces(**narrowed, max_depth=depth)
                assert await store.alist_namespaces(**narrowed, max_depth=depth) == expected
                assert (
                    await store.alist_namespaces(**narrowed, max_depth=depth, limit=1, offset=1)
                    == expected[1:2]
                )


async def test_it_answers_as_the_store_of_langgraph(indexed: BaseStore) -> None:
    loop, roots = asyncio.get_running_loop(), count()

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def compare(history: Sequence[Any]) -> None:
        played = play(indexed, history, f"root {next(roots)}")
        asyncio.run_coroutine_threadsafe(played, loop).result()

    await asyncio.to_thread(compare)


# ── its order ──


async def test_the_newest_comes_first_whatever_the_clock_says(tmp_path: Path) -> None:
    async with by_hand(tmp_path) as (storage, manual):
        store = storage.store()
        for key in ("one", "two", "three", "one"):
            await store.aput(("n",), key, {"key": key})
            manual.wait(-60 * MINUTE)
        found = await store.asearch(("n",))
    assert [item.key for item in found] == ["one", "three", "two"]


async def test_an_item_that_is_written_again_keeps_the_time_it_was_made(tmp_path: Path) -> None:
    async with by_hand(tmp_path) as (storage, manual):
        store = storage.store()
        await store.aput(("n",), "k", {})
        manual.wait(MINUTE)
        await store.aput(("n",), "k", {})
        item = await store.aget(("n",), "k")
    assert item is not None
    assert (item.created_at, item.updated_at) == (NOON, NOON + MINUTE)


async def test_a_search_goes_on_behind_a_page(store: BaseStore) -> None:
    await store.abatch([PutOp(("n",), f"{number}", {"n": number}) for number in range(450)])
    found = await store.asearch(("n",), filter={"n": {"$lt": 3}}, limit=2, offset=1)
    assert [item.value["n"] for item in found] == [1, 0]


# ── batches ──


async def test_the_reads_of_a_batch_see_what_was_there_before_it(store: BaseStore) -> None:
    before, _, _, listed = await store.abatch(
        [
            GetOp(("n",), "k"),
            PutOp(("n",), "k", {"is": "first"}),
            PutOp(("n",), "k", {"is": "last"}),
            ListNamespacesOp(),
        ]
    )
    assert (before, listed) == (None, [])
    item = await store.aget(("n",), "k")
    assert item is not None and item.value == {"is": "last"}


REFUSED: dict[str, tuple[Any, str]] = {
    "no namespace": (PutOp((), "k", {}), "Namespace cannot be empty"),
    "a dot": (GetOp(("a.b",), "k"), "period"),
    "an empty label": (GetOp(("",), "k"), "empty"),
    "a control character": (PutOp(("a\x1fb",), "k", {}), "control character"),
    "a long label": (PutOp(("a" * 257,), "k", {}), "at most 256 characters, not 257"),
    "many labels": (PutOp(("a",) * 17, "k", {}), "at most 16 labels, not 17"),
    "a long key": (PutOp(("n",), "k" * 513, {}), "at most 512 characters"),
    "no mapping": (PutOp(("n",), "k", [1]), "'k' cannot be stored as JSON: it is a list"),  # type: ignore[arg-type]
    "a set": (PutOp(("n",), "k", {"x": {1}}), "'k' cannot be stored as JSON: .*set"),
    "no number": (PutOp(("n",), "k", {"x": float("nan")}), "'k' cannot be stored as JSON"),
    "half a character": (PutOp(("n",), "k", {"x": "\ud800"}), "'k' cannot be stored as JSON"),
    "too much": (PutOp(("n",), "k", {"x": "x" * MAX_VALUE_BYTES}), "has 1,048,584 bytes"),
    "no time": (PutOp(("n",), "k", {}, ttl=0), "a number of minutes above 0"),
    "endless": (PutOp(("n",), "k", {}, ttl=float("inf")), "a number of minutes above 0"),
    "a limit": (ListNamespacesOp(limit=-1), "must not be below 0"),
    "no operation": ("get", "knows no operation str"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_store_does_not_take_is_named_and_changes_nothing(
    store: BaseStore, name: str
) -> None:
    op, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence):
        await store.abatch([PutOp(("other",), "k", {}), op])
    assert await store.alist_namespaces() == []


async def test_a_batch_has_an_end(store: BaseStore) -> None:
    with pytest.raises(ValueError, match="at most 1000 operations, not 1001"):
        await store.abatch([PutOp(("n",), "k", {})] * (MAX_OPERATIONS + 1))


async def test_a_filter_has_only_the_operators_there_are(store: BaseStore) -> None:
    wrong = ({"$in": [1]}, {"$gt": 1, "in": [1]}, {"y": [{"$in": [1]}]})
    for _ in ("nothing is there", "something is"):
        for each in wrong:
            with pytest.raises(ValueError, match=r"no operator '\$?in'. There are: \$eq"):
                await store.asearch(("n",), filter={"a": 1, "x": each})
        await store.aput(("n",), "k", {"x": "text", "$in": 1})
    assert len(await store.asearch(("n",), filter={"$in": 1})) == 1
    assert await store.asearch(("n",), filter={"x": {"$gt": 1}}) == []
    hostile = {"x') OR 1=1 --": 1}
    assert await store.asearch(("n",), filter=hostile) == []


async def test_a_root_that_langgraph_keeps_for_itself_is_refused(store: BaseStore) -> None:
    with pytest.raises(InvalidNamespaceError):
        await store.aput(("langgraph", "x"), "k", {})


# ── ends ──


async def test_an_item_ends_when_nobody_has_read_it_for_its_time(tmp_path: Path) -> None:
    async with by_hand(tmp_path) as (storage, manual):
        store = storage.store()
        await store.aput(("n",), "read", {}, ttl=10)
        await store.aput(("n",), "found", {"found": True}, ttl=10)
        await store.aput(("n",), "left", {}, ttl=10)
        await store.aput(("other",), "kept", {})
        manual.wait(9 * MINUTE)
        assert await store.aget(("n",), "read") is not None
        assert await store.aget(("n",), "left", refresh_ttl=False) is not None
        assert len(await store.asearch(("n",), filter={"found": True})) == 1
        assert len(await store.asearch(("n",), refresh_ttl=False)) == 3
        manual.wait(2 * MINUTE)
        assert {item.key for item in await store.asearch((), refresh_ttl=False)} == {
            "read", "found", "kept"
        }  # fmt: skip
        assert await store.aget(("n",), "left") is None
        manual.wait(9 * MINUTE)
        assert await store.alist_namespaces() == [("other",)]
        assert await storage.remove_items(manual.time) == 3
        assert await storage.remove_items(manual.time) == 0


async def test_what_was_read_gives_no_other_item_its_end(tmp_path: Path) -> None:
    async with by_hand(tmp_path) as (storage, manual):
        store = storage.store()
        for _ in range(20):
            await store.aput(("n",), "old", {}, ttl=10)
            manual.wait(5 * MINUTE)
            # The new item has the number that the old one had while it was read.
            await asyncio.gather(
                store.aget(("n",), "old"),
                store.adelete(("n",), "old"),
                store.aput(("n",), "new", {}),
            )
            manual.wait(60 * MINUTE)
            assert await store.aget(("n",), "new") is not None
            await store.adelete(("n",), "new")


async def test_items_get_the_end_that_the_store_gives_them(tmp_path: Path) -> None:
    async with by_hand(tmp_path) as (storage, manual):
        store = storage.store(StoreOptions(ttl={"default_ttl": 10, "refresh_on_read": False}))
        await store.aput(("n",), "short", {})
        await store.aput(("n",), "long", {}, ttl=None)
        manual.wait(9 * MINUTE)
        assert await store.aget(("n",), "short") is not None
        manual.wait(2 * MINUTE)
        assert [item.key for item in await store.asearch(("n",))] == ["long"]


# ── vectors ──


async def test_a_vector_of_another_model_says_nothing(storage: Storage, indexed: BaseStore) -> None:
    await indexed.aput(("n",), "k", {"text": "red"})

    def other(texts: Sequence[str]) -> list[list[float]]:
        return embed(texts)

    async def score(store: BaseStore) -> float | None:
        ((found),) = await store.asearch(("n",), query="red")
        return found.score

    assert await score(indexed) == pytest.approx(1)
    assert await score(storage.store(StoreOptions(index={"embed": other, "dims": 4}))) is None
    assert await score(storage.store()) is None


@pytest.mark.parametrize(
    ("embedded", "sentence"),
    [
        ([[1.0, 2.0]], "a vector of 2 numbers, and its index has dims 4"),
        ([], "made 0 vectors of 1 texts"),
        ([[float("nan")] * 4], "numbers that are none"),
    ],
)
async def test_vectors_that_make_no_sense_change_nothing(
    storage: Storage, embedded: list[list[float]], sentence: str
) -> None:
    store = storage.store(StoreOptions(index={"embed": lambda texts: embedded, "dims": 4}))
    with pytest.raises(ValueError, match=sentence):
        await store.aput(("n",), "k", {"text": "red"})
    assert await store.aget(("n",), "k") is None


async def test_an_index_that_makes_no_sense_is_refused_at_once(storage: Storage) -> None:
    with pytest.raises(ConfigurationError, match="'nobody:nothing' of the store cannot be opened"):
        storage.store(StoreOptions(index={"embed": "nobody:nothing", "dims": 4}))
    with pytest.raises(ConfigurationError, match="needs 'dims'"):
        storage.store(StoreOptions(index={"embed": embed}))


# ── threads and loops ──


async def test_the_methods_that_wait_do_so_in_another_thread(indexed: BaseStore) -> None:
    with pytest.raises(asyncio.InvalidStateError, match="Call the async one"):
        indexed.get(("n",), "k")

    def use() -> list[SearchItem]:
        indexed.put(("n",), "k", {"text": "red"})
        assert indexed.get(("n",), "k") is not None
        return indexed.search(("n",), query="red")

    # None of those that wait in the only two threads needs a third to embed.
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(2) as threads:
        loop.set_default_executor(threads)
        for found in await asyncio.gather(*(asyncio.to_thread(use) for _ in range(6))):
            assert found[0].score == pytest.approx(1)


async def test_another_loop_may_use_it(indexed: BaseStore) -> None:
    async def use() -> Item | None:
        await indexed.aput(("n",), "k", {"text": "red"})
        return await indexed.aget(("n",), "k")

    item = await asyncio.to_thread(lambda: asyncio.run(use()))
    assert item is not None and item.value == {"text": "red"}


# ── leases ──


class State(TypedDict):
    done: bool


async def test_a_worker_that_has_lost_its_run_stores_nothing(storage: Storage) -> None:
    held = replace(run("r"), status=RunStatus.RUNNING, attempt=2, version=1)
    await storage.commit(Change(rows=(held,)))

    async def remember(state: State, *, store: BaseStore) -> State:
        await store.aput(("n",), "k", {"by": "a node"})
        return {"done": True}

    def remember_in_thread(state: State, *, store: BaseStore) -> State:
        store.put(("n",), "k", {"by": "a sync node"})
        return {"done": True}

    def lease(token: int) -> Any:
        return {"configurable": {LEASE_KEY: Lease("r", token)}}

    for node in (remember, remember_in_thread):
        graph = StateGraph(State).add_node("remember", node).add_edge(START, "remember")
        agent = graph.compile(store=storage.store())
        with pytest.raises(StaleLease):
            await agent.ainvoke({"done": False}, lease(1))
        assert await storage.store().aget(("n",), "k") is None
        await agent.ainvoke({"done": False}, lease(2))
        assert await storage.store().aget(("n",), "k") is not None
        await storage.store().adelete(("n",), "k")


# ── tenants ──


def used_by(store: BaseStore, tenant: str | None, do: Any) -> Any:
    """The result of what a node of a run of that tenant does with the store."""
    found: list[Any] = []

    async def node(state: State, *, store: BaseStore) -> State:
        found.append(await do(store))
        return {"done": True}

    async def done() -> Any:
        graph = StateGraph(State).add_node("node", node).add_edge(START, "node")
        key = {} if tenant is None else {TENANT_KEY: tenant}
        await graph.compile(store=store).ainvoke({"done": False}, {"configurable": key})
        return found[0]

    return done()


async def test_no_namespace_reaches_the_items_of_another_tenant(indexed: BaseStore) -> None:
    tenants = (None, "acme", "acme2", "other")
    for tenant in tenants:
        item = {"text": "red", "of": tenant}
        await used_by(indexed, tenant, lambda store, item=item: store.aput(("n", "x"), "k", item))

    for tenant in tenants:
        asked: list[Any] = [
            lambda store: store.asearch(()),
            lambda store: store.asearch((), query="red"),
            lambda store: store.asearch(("n",), filter={"text": "red"}),
            lambda store: store.asearch(("n", "x"), limit=9),
        ]
        for do in asked:
            [found] = await used_by(indexed, tenant, do)
            assert found.value["of"] == tenant
            assert found.namespace == ("n", "x")
        one = await used_by(indexed, tenant, lambda store: store.aget(("n", "x"), "k"))
        assert (one.value["of"], one.namespace) == (tenant, ("n", "x"))
        for conditions in ({}, {"prefix": ("n",)}, {"suffix": ("x",)}, {"prefix": ("*", "x")}):
            listed = await used_by(
                indexed, tenant, lambda store, given=conditions: store.alist_namespaces(**given)
            )
            assert listed == [("n", "x")]
        assert (
            await used_by(
                indexed, tenant, lambda store: store.alist_namespaces(suffix=("*", "n", "x"))
            )
            == []
        )
        assert (
            await used_by(indexed, tenant, lambda store: store.aget(("acme", "n", "x"), "k"))
            is None
        )
        for label in ("\x1eacme", "\x1fn"):
            with pytest.raises(InvalidNamespaceError):
                await used_by(indexed, tenant, lambda store, x=label: store.aget((x, "n"), "k"))

    await used_by(indexed, "acme", lambda store: store.adelete(("n", "x"), "k"))
    assert await used_by(indexed, "acme", lambda store: store.asearch(())) == []
    [left] = await used_by(indexed, "acme2", lambda store: store.asearch(()))
    assert left.value["of"] == "acme2"
    # A program that uses the store by itself has no tenant.
    [own] = await indexed.asearch(())
    assert own.value["of"] is None
