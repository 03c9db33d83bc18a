"""Runs of LangGraph's clients that name no thread, and what becomes of the one that they make."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import UnprocessableEntityError

from tests.support.keys import NEW_SECRET
from tests.support.receiver import Receiver, receiving
from tests.support.server import (
    Api,
    Server,
    asking,
    expect,
    free_port,
    problem,
    scripted_agents,
    serving,
)
from tests.support.waiting import until

LEAP_DAY = "0 0 29 2 *"
APPROVE: Any = {"resume": {"decisions": [{"type": "approve"}]}}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Server]:
    """A server that keeps what is over for a moment only."""
    folder = tmp_path_factory.mktemp("stateless")
    hook = {"url": f"http://127.0.0.1:{port}", "secrets": [NEW_SECRET], "allow_http": True}
    config = folder / "assent.json"
    config.write_text(json.dumps({"webhooks": {"ci": hook}}))
    environment = {"ASSENT_STATELESS_TTL": "0.1s", "ASSENT_CONFIG": str(config)}
    with serving(folder, scripted_agents(folder, "agent"), **environment) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


@pytest.fixture
async def sdk(server: Server) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url) as client:
        yield client


def said(text: str) -> Any:
    return {"messages": [{"role": "user", "content": text}]}


async def until_gone(api: Api, thread: str) -> None:
    async def is_gone() -> bool:
        return (await api.http.get(f"/threads/{thread}")).status_code == 404

    await until(is_gone)


async def threads(api: Api) -> set[str]:
    return {each["thread_id"] for each in (await api.get("/threads"))["threads"]}


async def test_who_waits_or_streams_has_the_answer_and_nothing_is_left(
    sdk: LangGraphClient, api: Api
) -> None:
    before = await threads(api)
    values: Any = await sdk.runs.wait(None, "agent", input=said("tell 3"))
    assert values["messages"][-1]["content"] == "word0 word1 word2"
    parts = [part async for part in sdk.runs.stream(None, "agent", input=said("tell 3"))]
    assert parts[-2].data["messages"][-1]["content"] == "word0 word1 word2"
    assert parts[-1].event == "end"
    told: Any = await sdk.runs.wait(None, "agent", input=said("boom"), raise_error=False)
    assert set(told) == {"__error__"}
    made = await sdk.runs.create(None, "agent", input=said("tell 1"))
    batch: Any = await sdk.runs.create_batch([{"assistant_id": "agent", "input": said("tell 1")}])
    await until_gone(api, made["thread_id"])
    await until_gone(api, batch[0]["thread_id"])

    async def nothing_is_left() -> bool:
        return await threads(api) == before

    await until(nothing_is_left)
    # Who comes late is told so.
    run = f"/threads/{made['thread_id']}/runs/{made['run_id']}"
    for path in (run, f"{run}/join", f"{run}/stream", f"/runs/{made['run_id']}/wait"):
        await problem(await api.http.get(path), 404)
    records = (await api.get("/audit", thread_id=made["thread_id"]))["audit"]
    assert [(each["action"], each["authentication"]) for each in records] == [("erased", "time")]


async def test_what_is_to_be_kept_is_kept(sdk: LangGraphClient, api: Api, thread: str) -> None:
    kept = await sdk.runs.create(None, "agent", input=said("tell 1"), on_completion="keep")
    await api.ended(kept["run_id"])
    await sdk.threads.create(thread_id=thread)
    on_thread = await sdk.runs.create(thread, "agent", input=said("tell 1"), on_completion="keep")
    await api.ended(on_thread["run_id"])
    later = await sdk.runs.create(None, "agent", input=said("tell 1"))
    await until_gone(api, later["thread_id"])
    for run in (kept, on_thread):
        values: Any = await sdk.runs.join(run["thread_id"], run["run_id"])
        assert values["messages"][-1]["content"] == "word0"
    with pytest.raises(UnprocessableEntityError, match="stays"):
        await sdk.runs.create(thread, "agent", input=said("tell 1"), on_completion="delete")


async def test_what_asks_a_person_is_found_and_decided_first(
    sdk: LangGraphClient, api: Api, server: Server, amount: int
) -> None:
    values: Any = await sdk.runs.wait(None, "agent", input=said(f"pay {amount}"))
    assert values["__interrupt__"]
    server.restart()
    later = await sdk.runs.create(None, "agent", input=said("tell 1"))
    await until_gone(api, later["thread_id"])
    (waiting,) = await sdk.threads.search(status="interrupted")
    thread = waiting["thread_id"]
    values = await sdk.runs.wait(thread, "agent", command=APPROVE)
    assert values["messages"][0]["content"] == f"pay {amount}"
    await until_gone(api, thread)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
    actions = [each["action"] for each in (await api.get("/audit", thread_id=thread))["audit"]]
    assert actions == ["asked", "decided", "erased"]


async def test_what_a_kill_leaves_is_erased_by_the_next_server(tmp_path: Path) -> None:
    target = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, target, ASSENT_STATELESS_TTL="5s") as server:
        async with get_client(url=server.url) as sdk, asking(server) as api:
            run = await sdk.runs.create(None, "agent", input=said("tell 1"))
            await api.ended(run["run_id"])
            server.restart()
            await until_gone(api, run["thread_id"])


async def test_a_webhook_is_told_before_the_thread_goes(
    sdk: LangGraphClient, api: Api, port: int
) -> None:
    # Until somebody listens there, it is tried again.
    url = f"http://127.0.0.1:{port}/in"
    run = await sdk.runs.create(None, "agent", input=said("tell 1"), webhook=url)
    other = await sdk.runs.create(None, "agent", input=said("tell 1"))
    await until_gone(api, other["thread_id"])
    async with receiving(Receiver(), port=port) as receiver:
        (row,) = (await api.get("/notifications", status="pending"))["notifications"]
        await expect(await api.http.post(f"/notifications/{row['notification_id']}/resend"), 202)
        (got,) = await receiver.until(1)
    assert got.json["run_id"] == run["run_id"]
    assert got.json["values"]["messages"][-1]["content"] == "word0"


async def test_crons_without_a_thread_say_what_becomes_of_those_of_their_runs(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    body: Any = {"schedule": LEAP_DAY, "input": said("tell 1")}

    async def ran(cron_id: str) -> Any:
        started = await api.http.post(f"/schedules/{cron_id}/run")
        return (await expect(started, 202)).json()["thread_id"]

    kept: Any = await sdk.crons.create("agent", on_run_completed="keep", **body)
    deleting: Any = await sdk.crons.create("agent", **body)
    assert (kept["on_run_completed"], deleting["on_run_completed"]) == ("keep", "delete")
    left = await ran(kept["cron_id"])
    await until_gone(api, await ran(deleting["cron_id"]))
    assert left in await threads(api)
    changed: Any = await sdk.crons.update(kept["cron_id"], on_run_completed="delete")
    assert changed["on_run_completed"] == "delete"
    await until_gone(api, await ran(kept["cron_id"]))

    # A thread that is named stays, whatever way it is named.
    moved = await api.http.patch(f"/schedules/{deleting['cron_id']}", json={"thread_id": thread})
    await expect(moved, 200)
    assert await ran(deleting["cron_id"]) == thread
    await api.at_rest(thread)
    await until_gone(api, await ran(kept["cron_id"]))
    assert thread in await threads(api)
    with pytest.raises(UnprocessableEntityError, match="stays"):
        await sdk.crons.update(deleting["cron_id"], on_run_completed="delete")
    with pytest.raises(UnprocessableEntityError, match="stays"):
        given = {"assistant_id": "agent", **body, "on_run_completed": "delete"}
        await sdk.http.post(f"/threads/{thread}/runs/crons", json=given)
