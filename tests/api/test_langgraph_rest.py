"""What LangGraph's server has beside runs, asked by the langgraph-sdk package itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from langgraph_sdk import get_client, schema
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import (
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    UnprocessableEntityError,
)

from assent.api.langgraph_store import label_of
from assent.core.assistants import assistant_id_of
from tests.support.sdk import check_state, fields
from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.server import Api, Server, asking, expect, problem, scripted_agents, serving

DOTTED = "ann@example.com"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that ann and bob have keys of."""
    folder = tmp_path_factory.mktemp("server")
    agents = scripted_agents(folder, "agent", "foreign")
    with serving(folder, agents, ASSENT_API_KEYS=keys_of("ann", "bob", DOTTED)) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server, **bearer("ann")) as api:
        yield api


@pytest.fixture
async def sdks(server: Server) -> AsyncIterator[dict[str, LangGraphClient]]:
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                get_client(url=server.url, api_key=secret_of(name))
            )
            for name in ("ann", "bob", DOTTED)
        }


@pytest.fixture
def sdk(sdks: dict[str, LangGraphClient]) -> LangGraphClient:
    return sdks["ann"]


# ── the server ────────────────────────────────────────────────────────────────────────────────────


async def test_anybody_may_ask_what_the_server_is(server: Server) -> None:
    async with asking(server) as nobody:
        assert await nobody.get("/ok") == {"ok": True}
        found = await nobody.get("/info")
    assert found["flags"]["assistants"] and found["flags"]["crons"]
    assert found.keys() == {"version", "langgraph_py_version", "flags", "host"}


# ── threads ───────────────────────────────────────────────────────────────────────────────────────


async def test_threads_are_found_by_what_is_known_of_them(
    sdks: dict[str, LangGraphClient], sdk: LangGraphClient, api: Api, thread: str, amount: int
) -> None:
    ids = [f"{thread}-{number}" for number in range(4)]
    for number, each in enumerate(ids):
        metadata = {"of": thread, "number": number, "tags": ["a", {"b": number}]}
        await sdk.threads.create(thread_id=each, metadata=metadata)
    await sdks["bob"].threads.create(thread_id=f"{thread}-bob", metadata={"of": thread})
    await api.stream("tell 1", thread_id=ids[1])
    await api.paused(f"pay {amount}", thread_id=ids[0])
    await api.paused(f"pay {amount + 1}", thread_id=ids[2], agent="foreign")

    async def found(**asked: Any) -> list[int]:
        threads = await sdk.threads.search(
            metadata={"of": thread, **asked.pop("also", {})}, **asked
        )
        return [ids.index(each["thread_id"]) for each in threads]

    assert await found() == [3, 2, 1, 0]
    assert await found(sort_order="asc") == [0, 1, 2, 3]
    assert await found(sort_by="updated_at") == [2, 0, 1, 3]
    assert await found(sort_by="thread_id", sort_order="asc", limit=2, offset=1) == [1, 2]
    assert await found(ids=[ids[2], ids[0], f"{thread}-bob", "none"]) == [2, 0]
    assert await found(status="interrupted") == [2, 0]
    assert await found(also={"tags": [{"b": 1}]}) == [1]
    assert await found(also={"number": True}) == []
    assert await found(also={"graph_id": "agent"}) == [1, 0]
    assert await found(also={"assistant_id": assistant_id_of("foreign")}) == [2]
    said = {"messages": [{"type": "human", "content": "tell 1"}]}
    assert await found(values=said) == [1]

    assert await sdk.threads.count(metadata={"of": thread}) == 4
    assert await sdk.threads.count(metadata={"of": thread}, status="interrupted") == 2
    assert await sdk.threads.count(metadata={"of": thread}, values=said) == 1
    assert await sdks["bob"].threads.count(metadata={"of": thread}) == 1
    assert await sdks["bob"].threads.search(ids=ids) == []


async def test_what_is_found_is_shown_as_far_as_it_was_selected(
    sdk: LangGraphClient, api: Api, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    (whole,) = await sdk.threads.search(ids=[thread])
    assert whole == await sdk.threads.get(thread)
    assert whole.keys() >= fields(schema.Thread)
    ((asked,),) = whole["interrupts"].values()
    (action,) = asked["value"]["action_requests"]  # type: ignore[index]
    assert action["arguments"] == {"amount": amount}
    # Clients that read the history take what is asked from its first state.
    state = (await sdk.threads.get_history(thread))[0]
    assert state["tasks"][-1]["interrupts"] == [asked]

    (some,) = await sdk.threads.search(ids=[thread], select=["thread_id", "interrupts"])
    assert some == {"thread_id": thread, "interrupts": whole["interrupts"]}
    (clear,) = await sdk.threads.search(ids=[thread], select=["status"])
    assert clear == {"status": "interrupted"}


async def test_a_search_has_pages(sdk: LangGraphClient, api: Api, thread: str) -> None:
    for number in range(3):
        await sdk.threads.create(thread_id=f"{thread}-{number}", metadata={"of": thread})
    asked = {"metadata": {"of": thread}, "limit": 2}
    first = await api.http.post("/threads/search", json=asked)
    assert (first.headers["x-pagination-total"], first.headers["x-pagination-next"]) == ("3", "2")
    last = await api.http.post("/threads/search", json={**asked, "offset": 2})
    assert last.headers["x-pagination-total"] == "3"
    assert "x-pagination-next" not in last.headers
    assert len(first.json() + last.json()) == 3
    for wrong in ({"limit": 0}, {"sort_by": "owner"}, {"extract": {"a": "b"}}, {"offset": 10_001}):
        await problem(await api.http.post("/threads/search", json=wrong), 422)


async def test_a_state_is_asked_for_by_its_checkpoint(
    sdk: LangGraphClient, api: Api, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    history = await sdk.threads.get_history(thread)
    for state in history:
        found = await sdk.threads.get_state(thread, checkpoint=state["checkpoint"])
        check_state(found, thread)
        assert found == state
    latest = await sdk.threads.get_state(thread, checkpoint={"thread_id": thread})  # type: ignore[typeddict-item]
    assert latest == history[0]
    for unknown in ({"checkpoint_id": "none"}, {"checkpoint_ns": "inner:1"}):
        with pytest.raises(NotFoundError):
            await sdk.threads.get_state(thread, checkpoint=unknown)  # type: ignore[arg-type]


async def test_a_copy_has_the_state_and_asks_anew(
    sdks: dict[str, LangGraphClient],
    sdk: LangGraphClient,
    api: Api,
    server: Server,
    thread: str,
    amount: int,
) -> None:
    await sdk.threads.create(thread_id=thread, metadata={"of": thread})
    await sdk.threads.copy(thread)
    assert await sdk.threads.count(metadata={"of": thread}) == 2

    (asked,) = await api.paused(f"pay {amount}", thread_id=thread)
    await sdk.threads.copy(thread)
    copied, *_ = await sdk.threads.search(metadata={"of": thread})
    assert copied["thread_id"] != thread
    assert copied["values"] == (await sdk.threads.get(thread))["values"]
    (again,) = await api.pending(copied["thread_id"])
    assert (again["args"], again["approval_id"] == asked["approval_id"]) == (asked["args"], False)
    assert server.traces(f"pay {amount}") == []
    with pytest.raises(NotFoundError):
        await sdks["bob"].threads.copy(thread)


async def test_threads_are_pruned_all_or_none(
    sdks: dict[str, LangGraphClient],
    sdk: LangGraphClient,
    api: Api,
    server: Server,
    thread: str,
    amount: int,
) -> None:
    kept, gone, bobs = (f"{thread}-{name}" for name in ("kept", "gone", "bobs"))
    await sdks["bob"].threads.create(thread_id=bobs)
    for each in (kept, gone):
        await api.stream("tell 1", thread_id=each)
    for strategy in ("delete", "keep_latest"):
        with pytest.raises(NotFoundError):
            await sdk.threads.prune([gone, bobs], strategy=strategy)
    assert len(await sdk.threads.get_history(gone)) > 1

    assert await sdk.threads.prune([kept], strategy="keep_latest") == {"pruned_count": 1}
    assert len(await sdk.threads.get_history(kept)) == 1
    assert (await sdk.threads.get(kept))["values"]["messages"]  # type: ignore[index, call-overload]

    run = await api.run(kept, f"hold {amount}")
    await api.until(kept, "tool_start")
    with pytest.raises(ConflictError):
        await sdk.threads.prune([gone, kept])
    server.let_go(amount)
    await api.ended(run["run_id"])
    assert await sdk.threads.prune([gone, kept]) == {"pruned_count": 2}
    assert await sdk.threads.search(ids=[gone, kept]) == []


# ── requests that come again ──────────────────────────────────────────────────────────────────────


async def test_a_decision_that_its_sender_sends_again_is_the_same(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    """As a client does that has lost the answer."""
    words = f"pay {amount} then pay {amount + 1}"
    (asked,) = await api.paused(words, thread_id=thread)
    (listed,) = (await sdk.threads.get(thread))["interrupts"].values()
    id = listed[0]["id"]
    approve: Any = {"resume": {id: {"decisions": [{"type": "approve"}]}}}
    once = await sdk.runs.create(thread, "agent", command=approve)
    await sdk.runs.join(thread, once["run_id"])
    (behind,) = await api.pending(thread)
    again = await sdk.runs.create(thread, "agent", command=approve)
    assert again["run_id"] == once["run_id"]
    by_id: Any = {"resume": {"decisions": {asked["approval_id"]: {"type": "approve"}}}}
    values = await sdk.runs.wait(thread, "agent", command=by_id)
    parts = [part async for part in sdk.runs.stream(thread, "agent", command=approve)]
    assert parts[0].data == {"run_id": once["run_id"], "attempt": 1}
    assert parts[-2].data["__interrupt__"] == values["__interrupt__"]  # type: ignore[index]
    assert len(await sdk.runs.list(thread)) == 2

    # Something else is none of it, and neither is what nobody has asked.
    for other in ({"type": "reject"}, {"type": "edit", "args": {"amount": 1}}):
        command: Any = {"resume": {id: {"decisions": [other]}}}
        with pytest.raises(ConflictError, match="approved by ann"):
            await sdk.runs.create(thread, "agent", command=command)
    nobodys: Any = {"resume": {"0" * 32: {"decisions": [{"type": "approve"}]}}}
    with pytest.raises(NotFoundError):
        await sdk.runs.create(thread, "agent", command=nobodys)
    assert await api.pending(thread) == [behind]
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_what_somebody_else_has_decided_alike_is_no_decision_of_ones_own(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    (asked,) = await api.paused(f"pay {amount}", thread_id=thread)
    (listed,) = (await sdk.threads.get(thread))["interrupts"].values()
    async with asking(server, **bearer("bob")) as bob:
        path = f"/approvals/{asked['approval_id']}/decide"
        await expect(await bob.http.post(path, json={"type": "approve"}), 202)
    await api.at_rest(thread)
    one: Any = {"decisions": [{"type": "approve"}]}
    for answer in ({listed[0]["id"]: one}, one):
        with pytest.raises(ConflictError, match="approved by bob"):
            await sdk.runs.create(thread, "agent", command={"resume": answer})
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


# ── assistants ────────────────────────────────────────────────────────────────────────────────────


async def test_each_agent_is_an_assistant(sdk: LangGraphClient, api: Api) -> None:
    assistants = await sdk.assistants.search(sort_by="name", sort_order="asc")
    assert [each["name"] for each in assistants] == ["agent", "foreign"]
    for each in assistants:
        assert each.keys() == fields(schema.Assistant)
        assert each["assistant_id"] == assistant_id_of(each["graph_id"])
        assert await sdk.assistants.get(each["assistant_id"]) == each
        assert await sdk.assistants.get(each["graph_id"]) == each
    assert await sdk.assistants.search(graph_id="foreign") == assistants[1:]
    assert await sdk.assistants.search(name="AGE") == assistants[:1]
    assert await sdk.assistants.search(metadata={"created_by": "me"}) == []
    (named,) = await sdk.assistants.search(name="agent", select=["name"])
    assert named == {"name": "agent"}
    page = await sdk.assistants.search(limit=1, response_format="object")
    assert (len(page["assistants"]), page["next"]) == (1, "1")
    assert await sdk.assistants.count() == 2
    assert await sdk.assistants.count(graph_id="foreign") == 1
    with pytest.raises(NotFoundError):
        await sdk.assistants.get("nobody")


async def test_an_assistant_shows_its_graph_and_its_schemas(sdk: LangGraphClient, api: Api) -> None:
    drawn = await sdk.assistants.get_graph("agent", xray=True)
    assert {"agent", "approval", "tools"} <= {node["id"] for node in drawn["nodes"]}
    assert {edge["source"] for edge in drawn["edges"]} >= {"agent", "approval"}
    schemas = await sdk.assistants.get_schemas("foreign")
    assert schemas.keys() == fields(schema.GraphSchema)
    for name in ("input_schema", "output_schema", "state_schema"):
        assert "messages" in schemas[name]["properties"]  # type: ignore[literal-required]
    assert await sdk.assistants.get_subgraphs("agent", recurse=True) == {}
    assert await sdk.assistants.get_subgraphs("agent", "none") == {}
    await problem(await api.http.get("/assistants/agent/graph", params={"xray": "deep"}), 422)


# ── the store ─────────────────────────────────────────────────────────────────────────────────────


async def test_items_are_put_and_found_below_ones_own_name(
    sdks: dict[str, LangGraphClient], sdk: LangGraphClient
) -> None:
    store, bobs = sdk.store, sdks["bob"].store
    for number in range(3):
        await store.put_item(["ann", "notes"], f"k{number}", {"number": number}, ttl=60)
    await store.put_item(["ann", "prefers"], "language", {"is": "German"}, index=False)
    await bobs.put_item(["bob", "notes"], "k0", {"number": 9})

    item = await store.get_item(["ann", "notes"], "k1")
    assert item is not None and item.keys() == fields(schema.Item)
    assert (item["namespace"], item["key"], item["value"]) == (
        ["ann", "notes"],
        "k1",
        {"number": 1},
    )
    assert await store.get_item(["ann", "notes"], "none") is None

    async def found(prefix: list[str], **asked: Any) -> list[str]:
        answer = await store.search_items(prefix, **asked)
        for each in answer["items"]:
            assert each.keys() == {*fields(schema.Item), "score"}
        return [each["key"] for each in answer["items"]]

    assert await found(["ann", "notes"]) == ["k2", "k1", "k0"]
    assert await found(["ann"], limit=2, offset=1) == ["k2", "k1"]
    assert await found(["ann"], filter={"number": {"$gte": 2}}) == ["k2"]
    assert await found([]) == ["language", "k2", "k1", "k0"]
    assert await store.list_namespaces() == {"namespaces": [["ann", "notes"], ["ann", "prefers"]]}
    suffix = await store.list_namespaces(suffix=["notes"], max_depth=1)
    assert suffix == {"namespaces": [["ann"]]}

    # What is bob's is as if it were not there.
    assert await store.get_item(["bob", "notes"], "k0") is None
    assert await found(["bob"]) == []
    for prefix in (["bob"], ["*"]):
        assert await store.list_namespaces(prefix=prefix) == {"namespaces": []}
    for change in (
        store.put_item(["bob", "notes"], "k0", {"number": 0}),
        store.put_item([], "k0", {"number": 0}),
        store.delete_item(["bob", "notes"], "k0"),
    ):
        with pytest.raises(PermissionDeniedError):
            await change
    kept = await bobs.get_item(["bob", "notes"], "k0")
    assert kept is not None and kept["value"] == {"number": 9}

    await store.delete_item(["ann", "notes"], "k1")
    await store.delete_item(["ann", "notes"], "k1")
    assert await found(["ann", "notes"]) == ["k2", "k0"]


async def test_people_with_points_in_their_names_have_a_store(
    sdks: dict[str, LangGraphClient],
) -> None:
    store, label = sdks[DOTTED].store, "ann@example%2Ecom"
    with pytest.raises(PermissionDeniedError, match=label):
        await store.put_item(["ann"], "k", {})
    await store.put_item([label, "notes"], "k", {"is": 1})
    item = await store.get_item([label, "notes"], "k")
    assert item is not None and item["value"] == {"is": 1}
    assert [each["key"] for each in (await store.search_items([]))["items"]] == ["k"]
    assert await store.list_namespaces() == {"namespaces": [[label, "notes"]]}
    assert await sdks["ann"].store.get_item([label, "notes"], "k") is None
    await store.delete_item([label, "notes"], "k")
    assert (await store.search_items([label]))["items"] == []


def test_each_name_has_a_label_of_its_own() -> None:
    names = ["a.b", "a%2Eb", "a%252Eb", "a%b", "ab", "a_b"]
    labels = [label_of(name) for name in names]
    assert len({*labels}) == len(names)
    assert not any("." in label for label in labels)


async def test_what_the_store_does_not_take_is_refused(sdk: LangGraphClient) -> None:
    store = sdk.store
    for wrong in (
        store.put_item(["ann", "a\x1eb"], "k", {}),
        store.put_item(["ann"], "k", {}, ttl=0),
        store.search_items(["ann"], filter={"a": {"$near": 1}}),
    ):
        with pytest.raises(UnprocessableEntityError):
            await wrong


# ── crons ─────────────────────────────────────────────────────────────────────────────────────────

LEAP_DAY = "0 0 29 2 *"


async def test_crons_are_schedules(
    sdks: dict[str, LangGraphClient], sdk: LangGraphClient, api: Api, thread: str
) -> None:
    said = {"messages": [{"role": "user", "content": "tell 1"}]}
    end = datetime(2099, 1, 1, tzinfo=UTC)
    made: Any = await sdk.crons.create(
        "agent", schedule=LEAP_DAY, input=said, metadata={"of": thread}, end_time=end
    )
    assert made.keys() == fields(schema.Cron)
    assert (made["schedule"], made["timezone"], made["user_id"]) == (LEAP_DAY, "UTC", "ann")
    assert made["payload"] == {"assistant_id": assistant_id_of("agent"), "input": said}
    ours = await api.get(f"/schedules/{made['cron_id']}")
    assert (ours["ends_at"], ours["next_at"]) == (made["end_time"], made["next_run_date"])

    await sdk.threads.create(thread_id=thread)
    assistant = assistant_id_of("agent")
    on_thread: Any = await sdk.crons.create_for_thread(
        thread, assistant, schedule=LEAP_DAY, input=said, metadata={"of": thread}, enabled=False
    )
    assert (on_thread["thread_id"], on_thread["next_run_date"]) == (thread, None)

    async def found(**asked: Any) -> list[str]:
        return [each["cron_id"] for each in await sdk.crons.search(**asked)]

    ids = [on_thread["cron_id"], made["cron_id"]]
    assert await found(metadata={"of": thread}) == ids
    assert await found(metadata={"of": thread}, sort_by="next_run_date") == ids[::-1]
    assert await found(metadata={"of": thread}, enabled=True) == ids[1:]
    assert await found(thread_id=thread, assistant_id="agent") == ids[:1]
    assert await sdk.crons.count(metadata={"of": thread}) == 2
    assert await sdks["bob"].crons.count(metadata={"of": thread}) == 0

    changed: Any = await sdk.crons.update(made["cron_id"], timezone="Asia/Tokyo", end_time=None)
    assert (changed["timezone"], changed["end_time"]) == ("Asia/Tokyo", None)
    assert changed["payload"] == made["payload"]
    run = (await api.http.post(f"/schedules/{made['cron_id']}/run")).json()
    assert (await api.ended(run["run_id"]))["status"] == "success"
    for each in ids:
        with pytest.raises(NotFoundError):
            await sdks["bob"].crons.delete(each)
        await sdk.crons.delete(each)
    assert await sdk.crons.count(metadata={"of": thread}) == 0


async def test_a_cron_that_would_be_something_else_is_refused(sdk: LangGraphClient) -> None:
    said = {"messages": "tell 1"}
    for wrong in (
        sdk.crons.create("agent", schedule=LEAP_DAY, input=said, webhook="https://a.example"),
        sdk.crons.create("agent", schedule=LEAP_DAY, input=said, end_time=datetime(2020, 1, 1)),
        sdk.crons.create("agent", schedule="now", input=said),
    ):
        with pytest.raises(UnprocessableEntityError):
            await wrong
    given = {"assistant_id": "agent", "schedule": LEAP_DAY, "input": said}
    for more in (
        {"end_time": "9999-12-31T23:59:59-01:00"},
        {"end_time": "0001-01-01T00:00:00+01:00"},
        {"command": {"resume": [{"type": "approve"}]}},
        {"checkpoint": {"checkpoint_id": "1"}},
    ):
        with pytest.raises(UnprocessableEntityError):
            await sdk.http.post("/runs/crons", json={**given, **more})
    with pytest.raises(NotFoundError):
        await sdk.crons.create("nobody", schedule=LEAP_DAY, input=said)
