"""Assistants with settings of their own, as LangGraph's SDK for Python makes and uses them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk import get_client, schema
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from assent.core.assistants import assistant_id_of
from tests.support import agents, given_graphs
from tests.support.agui import AgUiClient
from tests.support.sdk import fields
from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.server import Api, Server, asking, expect, problem, project_of, serving
from tests.support.waiting import PATIENCE, until
from tests.support.weakening import CONFIGS

APPROVE = {"decisions": [{"type": "approve"}]}
NEVER = "0 0 29 2 *"
SHOP = {"account": "main", "language": "de"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that ann and bob have keys of."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "assent.toml").write_text('[configurable]\nlooking = ["model"]\n')
    project = project_of(folder, {given_graphs: given_graphs.ALL, agents: ["agent"]})
    settings = {
        "ASSENT_API_KEYS": keys_of("ann", "bob"),
        "ASSENT_CONFIG": str(folder / "assent.toml"),
        "ASSENT_MAX_RECURSION_LIMIT": "500",
    }
    with serving(folder, project, **settings) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server, **bearer("ann")) as api:
        yield api


@pytest.fixture
async def sdks(server: Server) -> AsyncIterator[dict[str, LangGraphClient]]:
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                get_client(url=server.url, api_key=secret_of(name))
            )
            for name in ("ann", "bob")
        }


@pytest.fixture
def sdk(sdks: dict[str, LangGraphClient]) -> LangGraphClient:
    return sdks["ann"]


def said(text: str) -> Any:
    return {"messages": [{"role": "user", "content": text}]}


async def paused(sdk: LangGraphClient, assistant: Any, thread: str, amount: int) -> Any:
    """The values of a run that asks for a payment."""
    values: Any = await sdk.runs.wait(
        thread, assistant["assistant_id"], input=said(f"pay {amount}"), if_not_exists="create"
    )
    assert len(values["__interrupt__"]) == 1
    return values


async def approved(sdk: LangGraphClient, thread: str, agent: str = "own_shop") -> Any:
    return await sdk.runs.wait(thread, agent, command={"resume": APPROVE})


# ── made, found, changed ──────────────────────────────────────────────────────────────────────────


async def test_an_assistant_is_made_and_found(sdk: LangGraphClient, amount: int) -> None:
    of = {"test": amount}
    made = await sdk.assistants.create(
        "own_shop",
        config={"tags": ["a"], "recursion_limit": 7},
        context=SHOP,
        metadata=of,
        name=f"Shop {amount}",
        description="It pays.",
    )
    assert made.keys() == fields(schema.Assistant)
    assert (made["graph_id"], made["version"], made["metadata"]) == ("own_shop", 1, of)
    assert made["config"] == {"tags": ["a"], "recursion_limit": 7}
    assert (made["context"], made["description"]) == (SHOP, "It pays.")
    assert made["created_at"] == made["updated_at"]
    assert await sdk.assistants.get(made["assistant_id"]) == made
    bare = await sdk.assistants.create("agent", metadata=of)
    assert (bare["name"], bare["config"], bare["context"]) == ("Untitled", {}, {})

    assert await sdk.assistants.search(metadata=of) == [bare, made]
    assert await sdk.assistants.search(metadata=of, limit=1, offset=1) == [made]
    by_name = await sdk.assistants.search(metadata=of, sort_by="name", sort_order="asc")
    assert by_name == [made, bare]
    (found,) = await sdk.assistants.search(metadata=of, name="SHOP", select=["name"])
    assert found == {"name": f"Shop {amount}"}
    assert await sdk.assistants.search(metadata=of, graph_id="agent") == [bare]
    both = await sdk.assistants.search(graph_id="agent", limit=1000)
    assert (both[0], both[-1]["metadata"]) == (bare, {"created_by": "system"})
    assert await sdk.assistants.count(metadata=of) == 2
    assert await sdk.assistants.count(metadata=of, name="untitled") == 1

    drawn = await sdk.assistants.get_graph(made["assistant_id"])
    assert drawn == await sdk.assistants.get_graph("own_shop")
    schemas = await sdk.assistants.get_schemas(made["assistant_id"])
    assert "account" in schemas["context_schema"]["properties"]  # type: ignore[index]
    assert await sdk.assistants.get_subgraphs(made["assistant_id"]) == {}


async def test_an_id_is_given_once(sdks: dict[str, LangGraphClient], sdk: LangGraphClient) -> None:
    id = str(uuid4())
    made = await sdk.assistants.create("agent", assistant_id=id, name="One")
    with pytest.raises(ConflictError, match="There is an assistant"):
        await sdk.assistants.create("agent", assistant_id=id)
    again = await sdk.assistants.create("agent", assistant_id=id, if_exists="do_nothing")
    assert again == made
    for if_exists in ("raise", "do_nothing"):
        with pytest.raises(NotFoundError):
            await sdks["bob"].assistants.create("agent", assistant_id=id, if_exists=if_exists)  # type: ignore[arg-type]
    itself = assistant_id_of("agent")
    with pytest.raises(ConflictError):
        await sdk.assistants.create("agent", assistant_id=itself)
    found = await sdk.assistants.create("agent", assistant_id=itself, if_exists="do_nothing")
    assert found["metadata"] == {"created_by": "system"}
    with pytest.raises(UnprocessableEntityError):
        await sdk.assistants.create("agent", assistant_id="no-uuid")
    with pytest.raises(NotFoundError, match="no agent 'nobody'"):
        await sdk.assistants.create("nobody")


async def test_each_change_is_a_version_to_go_back_to(sdk: LangGraphClient) -> None:
    first = await sdk.assistants.create("own_shop", context=SHOP, metadata={"a": 1}, name="One")
    id = first["assistant_id"]
    other = {"account": "other"}
    second = await sdk.assistants.update(id, context=other, metadata={"b": 2})
    assert (second["version"], second["name"], second["context"]) == (2, "One", other)
    assert second["metadata"] == {"a": 1, "b": 2}
    assert second["created_at"] == first["created_at"] < second["updated_at"]
    third = await sdk.assistants.update(
        id, graph_id="agent", context={}, name="Three", metadata={"a": None}
    )
    assert (third["graph_id"], third["context"], third["metadata"]) == ("agent", {}, {"b": 2})

    versions = await sdk.assistants.get_versions(id)
    assert [each["version"] for each in versions] == [3, 2, 1]
    assert versions[0].keys() == fields(schema.AssistantVersion)
    assert await sdk.assistants.get_versions(id, limit=2) == versions[:2]
    assert await sdk.assistants.get_versions(id, limit=1, offset=1) == [versions[1]]
    assert await sdk.assistants.get_versions(id, metadata={"a": 1}) == versions[1:]

    back = await sdk.assistants.set_latest(id, 1)
    assert (back["version"], back["graph_id"], back["name"]) == (1, "own_shop", "One")
    assert (back["context"], back["metadata"]) == (SHOP, {"a": 1})
    assert await sdk.assistants.get(id) == back
    # What comes next is made of that, under a number that was never given before.
    fourth = await sdk.assistants.update(id, name="Four")
    assert (fourth["version"], fourth["context"]) == (4, SHOP)
    assert len(await sdk.assistants.get_versions(id)) == 4
    with pytest.raises(NotFoundError, match="has no version 9"):
        await sdk.assistants.set_latest(id, 9)

    await sdk.assistants.delete(id)
    with pytest.raises(NotFoundError):
        await sdk.assistants.get(id)
    with pytest.raises(NotFoundError):
        await sdk.assistants.get_versions(id)


async def test_changes_that_come_at_once_are_a_version_each(sdk: LangGraphClient) -> None:
    id = str(uuid4())
    makes = [sdk.assistants.create("agent", assistant_id=id, name=f"{n}") for n in range(4)]
    made = await asyncio.gather(*makes, return_exceptions=True)
    (first,) = [each for each in made if not isinstance(each, BaseException)]
    assert {type(each) for each in made if each is not first} == {ConflictError}
    changes = [sdk.assistants.update(id, metadata={f"of {n}": n}) for n in range(8)]
    changed = await asyncio.gather(*changes)
    assert sorted(each["version"] for each in changed) == list(range(2, 10))
    last = await sdk.assistants.get(id)
    assert last["metadata"] == {f"of {n}": n for n in range(8)}
    versions = await sdk.assistants.get_versions(id, limit=100)
    assert [each["version"] for each in versions] == list(range(9, 0, -1))


async def test_an_agent_itself_is_not_changed(sdk: LangGraphClient) -> None:
    for id in ("agent", assistant_id_of("agent")):
        before = await sdk.assistants.get(id)
        (only,) = await sdk.assistants.get_versions(id)
        assert {**only, "updated_at": before["updated_at"]} == before
        with pytest.raises(ConflictError, match="it is not changed or deleted"):
            await sdk.assistants.update(id, name="Mine")
        with pytest.raises(ConflictError):
            await sdk.assistants.set_latest(id, 1)
        with pytest.raises(ConflictError):
            await sdk.assistants.delete(id)
        assert await sdk.assistants.get(id) == before


async def test_nobody_finds_anothers_assistant(
    sdks: dict[str, LangGraphClient], sdk: LangGraphClient, thread: str
) -> None:
    bob = sdks["bob"]
    id = (await sdk.assistants.create("agent", metadata={"of": thread}))["assistant_id"]
    assert await bob.assistants.search(metadata={"of": thread}) == []
    assert await bob.assistants.count(metadata={"of": thread}) == 0
    calls = (
        bob.assistants.get(id),
        bob.assistants.get_graph(id),
        bob.assistants.get_schemas(id),
        bob.assistants.get_subgraphs(id),
        bob.assistants.get_versions(id),
        bob.assistants.set_latest(id, 1),
        bob.assistants.update(id, name="Mine"),
        bob.assistants.delete(id),
        bob.runs.create(thread, id, input=said("tell 1"), if_not_exists="create"),
        bob.runs.create(None, id, input=said("tell 1")),
        bob.crons.create(id, schedule=NEVER, input=said("tell 1")),
    )
    for call in calls:
        with pytest.raises(NotFoundError):
            await call
    assert (await sdk.assistants.get(id))["version"] == 1


# ── what it may set ───────────────────────────────────────────────────────────────────────────────

UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"graph_id": "own_shop", "context": {"colour": "red"}}, "has no 'colour'"),
    ({"graph_id": "own_shop", "context": {"account": 5}}, "'account'"),
    ({"graph_id": "agent", "context": SHOP}, "declares no context_schema"),
    ({"graph_id": "looking", "config": {"configurable": {"colour": 1}}}, "declares no"),
    ({"graph_id": "agent", "config": {"recursion_limit": 501}}, "at most 500"),
    ({"graph_id": "agent", "metadata": {"assent_task": {}}}, "only the server sets"),
    ({"graph_id": "agent", "metadata": {"a": "x" * 65_536}}, "65,536 are the most"),
    ({"graph_id": "own_shop", "context": {"account": "x" * 65_536}}, "65,536 are the most"),
    *(({"graph_id": "looking", "config": config}, "") for config in CONFIGS),
]


@pytest.mark.parametrize(("settings", "sentence"), UNFIT)
async def test_what_no_client_may_give_a_run_no_assistant_sets(
    sdk: LangGraphClient, api: Api, settings: dict[str, Any], sentence: str
) -> None:
    before = await sdk.assistants.count()
    told = await problem(await api.http.post("/assistants", json=settings), 422)
    assert sentence in told["detail"]
    assert await sdk.assistants.count() == before
    made = await sdk.assistants.create("report")
    path = f"/assistants/{made['assistant_id']}"
    await problem(await api.http.patch(path, json=settings), 422)
    assert await sdk.assistants.get(made["assistant_id"]) == made


async def test_what_it_sets_is_held_to_the_rules_again_when_it_is_used(
    sdk: LangGraphClient, api: Api, server: Server, thread: str
) -> None:
    """The agent may be another by then: here the row is one of before."""
    made = await sdk.assistants.create("looking", config={"configurable": {"model": "m"}})
    id = made["assistant_id"]
    change = "UPDATE assistants SET config = ? WHERE assistant_id = ?"
    body = {"assistant_id": id, "input": said("Hm."), "if_not_exists": "create"}
    for config in ('{"configurable":{"colour":1}}', '{"configurable":{"checkpoint_id":"x"}}'):
        server.sql(change, config, id)
        for path in (f"/threads/{thread}/runs", "/runs", "/runs/wait"):
            await problem(await api.http.post(path, json=body), 422)
        cron = {**body, "schedule": NEVER}
        await problem(await api.http.post("/runs/crons", json=cron), 422)
    await problem(await api.http.get(f"/threads/{thread}"), 404)
    server.sql("UPDATE assistants SET agent = 'gone' WHERE assistant_id = ?", id)
    told = await problem(await api.http.post("/runs", json=body), 404)
    assert "There is no agent 'gone'" in told["detail"]
    await problem(await api.http.get(f"/assistants/{id}/schemas"), 404)


async def test_there_are_no_more_versions_than_there_may_be(
    sdk: LangGraphClient, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("capped")
    settings = {"ASSENT_API_KEYS": keys_of("ann"), "ASSENT_MAX_ASSISTANTS_PER_USER": "2"}
    project = project_of(folder, {agents: ["agent"]})
    with serving(folder, project, **settings) as server:
        async with asking(server, **bearer("ann")) as api:
            made = await expect(await api.http.post("/assistants", json={"graph_id": "agent"}), 200)
            path = f"/assistants/{made.json()['assistant_id']}"
            await expect(await api.http.patch(path, json={"name": "Two"}), 200)
            told = await problem(await api.http.patch(path, json={"name": "Three"}), 429)
            assert "You have 2 versions of assistants" in told["detail"]
            assert (await api.get(path))["name"] == "Two"
            await expect(await api.http.delete(path), 204)
            await expect(await api.http.post("/assistants", json={"graph_id": "agent"}), 200)


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────


async def test_what_it_sets_lies_under_what_a_run_gives(
    sdk: LangGraphClient, server: Server, thread: str, amount: int
) -> None:
    # Of the context that the graph needs, the other part is the run's.
    made = await sdk.assistants.create(
        "own_shop",
        context={"account": "main", "language": "de"},
        config={"tags": ["set"], "metadata": {"x": 1, "y": 1}},
        metadata={"team": "blue", "shift": "day"},
    )
    id = made["assistant_id"]
    run = await sdk.runs.create(
        thread,
        id,
        input=said(f"pay {amount}"),
        context={"language": "fr"},
        config={"metadata": {"y": 2}},  # type: ignore[typeddict-unknown-key]
        metadata={"shift": "night"},
        if_not_exists="create",
    )
    assert run["assistant_id"] == id
    assert run["metadata"] == {"team": "blue", "shift": "night"}
    kwargs: Any = run["kwargs"]  # type: ignore[typeddict-item]
    assert kwargs["context"] == {"account": "main", "language": "fr"}
    assert kwargs["config"] == {"tags": ["set"], "metadata": {"x": 1, "y": 2}}
    await sdk.runs.join(thread, run["run_id"])
    await approved(sdk, thread)
    assert server.traces(f"pay {amount} ") == [f"pay {amount} from main in fr"]

    (of_resume, of_start) = await sdk.runs.list(thread)
    assert of_start["run_id"] == run["run_id"]
    assert of_resume["assistant_id"] == id
    shown: Any = (await sdk.threads.get(thread))["metadata"]
    assert (shown["graph_id"], shown["assistant_id"]) == ("own_shop", id)
    assert (shown["team"], shown["shift"]) == ("blue", "night")
    found = await sdk.threads.search(metadata={"assistant_id": id})
    assert [each["thread_id"] for each in found] == [thread]
    # Where the agent itself is asked next, the thread is one of its own.
    await sdk.runs.wait(thread, "own_shop", input=said("tell 1"), context=SHOP)
    assert await sdk.threads.search(metadata={"assistant_id": id}) == []
    itself = assistant_id_of("own_shop")
    found = await sdk.threads.search(metadata={"assistant_id": itself}, limit=100)
    assert thread in [each["thread_id"] for each in found]


async def test_every_way_to_begin_a_run_takes_it(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    made = await sdk.assistants.create("looking", config={"configurable": {"model": "m-1"}})
    id = made["assistant_id"]
    expected = "HumanMessage 'Hm.', model m-1"

    async def last(thread_id: str) -> Any:
        await api.at_rest(thread_id)
        state: Any = await sdk.threads.get_state(thread_id)
        return state["values"]["messages"][-1]["content"]

    waited: Any = await sdk.runs.wait(None, id, input=said("Hm."))
    assert waited["messages"][-1]["content"] == expected
    created = await sdk.runs.create(None, id, input=said("Hm."))
    assert await last(created["thread_id"]) == expected
    parts = [part async for part in sdk.runs.stream(None, id, input=said("Hm."))]
    assert parts[-2].data["messages"][-1]["content"] == expected
    payload: Any = {"assistant_id": id, "input": said("Hm.")}
    for run in await sdk.runs.create_batch([payload, payload]):
        assert await last(run["thread_id"]) == expected
    command = {
        "id": 1,
        "method": "run.start",
        "params": {"assistant_id": id, "input": said("Hm.")},
    }
    path = f"/threads/{thread}-protocol/commands"
    answer = await expect(await api.http.post(path, json=command), 200)
    assert answer.json()["type"] == "success"
    assert await last(f"{thread}-protocol") == expected
    chat = {
        "id": f"{thread}-chat",
        "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hm."}]}],
    }
    path = f"/api/chat?agent={id}"
    async with api.http.stream("POST", path, json=chat) as response:
        await expect(response, 200)
        await response.aread()
    assert await last(f"{thread}-chat") == expected
    body = {"threadId": f"{thread}-agui", "runId": "r-1", "messages": []}
    body["messages"] = [{"id": "m-1", "role": "user", "content": "Hm."}]  # type: ignore[assignment]
    async with api.http.stream("POST", f"/agui/{id}", json=body) as response:
        await expect(response, 200)
        await response.aread()
    assert await last(f"{thread}-agui") == expected


async def test_its_recursion_limit_counts_where_a_run_has_none(
    sdk: LangGraphClient, api: Api, server: Server
) -> None:
    made = await sdk.assistants.create("looking", config={"recursion_limit": 9})
    id = made["assistant_id"]
    limits = []
    for config in (None, {"recursion_limit": 11}):
        run = await sdk.runs.create(None, id, input=said("Hm."), config=config)  # type: ignore[arg-type]
        ((budget,),) = server.sql("SELECT budget FROM runs WHERE run_id = ?", run["run_id"])
        limits.append(budget)
    assert limits == ['{"recursion_limit":9}', '{"recursion_limit":11}']
    cron: Any = await sdk.crons.create(id, schedule=NEVER, input=said("Hm."))
    path = f"/schedules/{cron['cron_id']}/run"
    run = (await expect(await api.http.post(path), 202)).json()
    ((budget,),) = server.sql("SELECT budget FROM runs WHERE run_id = ?", run["run_id"])
    assert budget == '{"recursion_limit":9}'


@pytest.mark.parametrize("changes", ["changed", "gone back", "deleted"])
async def test_what_was_asked_goes_on_as_it_was_asked(
    sdk: LangGraphClient, server: Server, thread: str, amount: int, changes: str
) -> None:
    """A change of the assistant between a pause and the decision changes nothing of the run."""
    made = await sdk.assistants.create("own_shop", context={"account": "first"})
    id = made["assistant_id"]
    made = await sdk.assistants.update(id, context={"account": "main"})
    await paused(sdk, made, thread, amount)
    if changes == "changed":
        await sdk.assistants.update(id, context={"account": "mallory"})
    elif changes == "gone back":
        await sdk.assistants.set_latest(id, 1)
    else:
        await sdk.assistants.delete(id)
    await approved(sdk, thread, id)
    assert server.traces(f"pay {amount} ") == [f"pay {amount} from main in en"]
    # A new run has what the assistant sets now, or finds none.
    if changes == "deleted":
        with pytest.raises(NotFoundError):
            await sdk.runs.create(thread, id, input=said("tell 1"))
        return
    other = amount + 1_000_000
    await paused(sdk, made, thread, other)
    await approved(sdk, thread, id)
    account = "mallory" if changes == "changed" else "first"
    assert server.traces(f"pay {other} ") == [f"pay {other} from {account} in en"]


async def test_a_client_of_ag_ui_answers_though_the_assistant_is_gone(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    made = await sdk.assistants.create("own_shop", context={"account": "main"})
    client = AgUiClient(api.http, made["assistant_id"], thread)
    await client.run(f"pay {amount}")
    assert len(client.interrupts) == 1
    await sdk.assistants.delete(made["assistant_id"])
    await client.answer({"approved": True})
    assert server.traces(f"pay {amount} ") == [f"pay {amount} from main in en"]


async def test_a_breakpoint_is_passed_though_the_assistant_is_gone(
    sdk: LangGraphClient, server: Server, thread: str
) -> None:
    id = (await sdk.assistants.create("report"))["assistant_id"]
    topic = {"topic": thread}
    await sdk.runs.wait(
        thread, id, input=topic, interrupt_before=["publish"], if_not_exists="create"
    )
    assert server.traces(f"publish {thread}") == []
    await sdk.assistants.delete(id)
    await sdk.runs.wait(thread, id, input=None)
    assert len(server.traces(f"publish {thread}")) == 1


async def test_whoever_decides_is_shown_what_the_assistant_has_set(
    sdk: LangGraphClient, api: Api, thread: str, amount: int
) -> None:
    made = await sdk.assistants.create("own_shop", context=SHOP)
    await paused(sdk, made, thread, amount)
    (approval,) = await api.pending(thread)
    assert json.loads(approval["conversation"]["context"]) == SHOP


async def test_a_cron_keeps_what_it_was_made_with(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    made = await sdk.assistants.create(
        "looking", config={"configurable": {"model": "m-1"}, "tags": ["a"]}, metadata={"x": 1}
    )
    id = made["assistant_id"]
    cron: Any = await sdk.crons.create(id, schedule=NEVER, input=said("Hm."), metadata={"y": 2})
    assert cron["assistant_id"] == cron["payload"]["assistant_id"] == id
    assert cron["metadata"] == {"x": 1, "y": 2}
    found = await sdk.crons.search(assistant_id=id)
    assert [each["cron_id"] for each in found] == [cron["cron_id"]]
    others = await sdk.crons.search(assistant_id="looking", limit=1000)
    assert cron["cron_id"] not in [each["cron_id"] for each in others]

    async def model() -> Any:
        path = f"/schedules/{cron['cron_id']}/run"
        run = (await expect(await api.http.post(path), 202)).json()
        await api.ended(run["run_id"])
        assert (await sdk.runs.get(run["thread_id"], run["run_id"]))["assistant_id"] == id
        state: Any = await sdk.threads.get_state(run["thread_id"])
        return state["values"]["messages"][-1]["content"].split()[-1]

    await sdk.assistants.update(id, config={"configurable": {"model": "m-2"}})
    assert await model() == "m-1"
    # What is set anew lies on what the assistant sets now.
    path = f"/runs/crons/{cron['cron_id']}"
    changed = await expect(await api.http.patch(path, json={"config": {"tags": ["b"]}}), 200)
    config = {"configurable": {"model": "m-2"}, "tags": ["b"]}
    assert changed.json()["payload"]["config"] == config
    await sdk.assistants.delete(id)
    assert await model() == "m-2"
    changed = await expect(await api.http.patch(path, json={"config": {"tags": ["c"]}}), 200)
    assert changed.json()["payload"]["config"] == {"tags": ["c"]}


async def test_a_fork_goes_on_with_what_the_assistant_had_set(
    sdk: LangGraphClient, server: Server, thread: str, amount: int
) -> None:
    made = await sdk.assistants.create("own_shop", context={"account": "main"})
    await paused(sdk, made, thread, amount)
    await sdk.assistants.update(made["assistant_id"], context={"account": "mallory"})
    copy: Any = await sdk.threads.copy(thread)
    shown: Any = (await sdk.threads.get(copy["thread_id"]))["metadata"]
    assert shown["assistant_id"] == made["assistant_id"]
    await approved(sdk, copy["thread_id"])
    assert server.traces(f"pay {amount} ") == [f"pay {amount} from main in en"]


async def test_its_threads_are_deleted_with_it_if_that_is_asked(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    made = await sdk.assistants.create("agent")
    id = made["assistant_id"]
    await sdk.runs.wait(thread, id, input=said("tell 1"), if_not_exists="create")
    other = f"{thread}-other"
    await sdk.runs.wait(other, "agent", input=said("tell 1"), if_not_exists="create")
    busy = f"{thread}-busy"
    await sdk.runs.wait(busy, id, input=said(f"slow {amount}"), if_not_exists="create")
    run = await sdk.runs.create(busy, "agent", command={"resume": APPROVE})
    await api.until(busy, "tool_start")
    with pytest.raises(ConflictError):
        await sdk.assistants.delete(id, delete_threads=True)
    assert (await sdk.assistants.get(id))["version"] == 1
    assert (await sdk.threads.get(thread))["thread_id"] == thread
    server.let_go(amount)
    await api.ended(run["run_id"])
    await sdk.assistants.delete(id, delete_threads=True)
    for each in (thread, busy):
        with pytest.raises(NotFoundError):
            await sdk.threads.get(each)
    assert (await sdk.threads.get(other))["thread_id"] == other


# ── kills ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_killed_server_goes_on_with_what_the_assistant_had_set(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    made = await sdk.assistants.create("own_shop", context={"account": "main", "language": "slow"})
    await paused(sdk, made, thread, amount)
    server.restart()
    await sdk.assistants.update(made["assistant_id"], context={"account": "mallory"})
    run = await sdk.runs.create(thread, "own_shop", command={"resume": APPROVE})
    await api.until(thread, "tool_start")
    await until(lambda: server.traces(f"pay {amount} ") != [])
    server.restart()
    server.let_go(amount)
    await api.ended(run["run_id"])
    # What was begun may have been done: a person is asked, and nothing is paid twice.
    assert server.traces(f"pay {amount} ") == [f"pay {amount} from main in slow"]
    shown: Any = (await sdk.threads.get(thread))["metadata"]
    assert shown["assistant_id"] == made["assistant_id"]


async def test_a_kill_amid_changes_leaves_each_version_whole(
    sdk: LangGraphClient, server: Server
) -> None:
    made = await sdk.assistants.create("agent", name="0")
    id = made["assistant_id"]
    acknowledged = [1]

    async def change() -> None:
        while True:
            changed = await sdk.assistants.update(id, name=str(acknowledged[-1]))
            acknowledged.append(changed["version"])

    for _ in range(2):
        enough = len(acknowledged) + 3
        changing = asyncio.create_task(change())
        await until(lambda enough=enough: len(acknowledged) >= enough or changing.done())  # noqa: B023
        server.restart()
        changing.cancel()
        await asyncio.wait([changing])
        now = await sdk.assistants.get(id)
        versions = await sdk.assistants.get_versions(id, limit=1000)
        assert [each["version"] for each in versions] == list(range(now["version"], 0, -1))
        assert versions[0]["name"] == now["name"]
        assert now["version"] >= acknowledged[-1]
        acknowledged.append(now["version"])
    await sdk.assistants.delete(id)
    assert server.sql("SELECT * FROM assistant_versions WHERE assistant_id = ?", id) == []
