"""What webhooks are told of the ends of runs, through the real server and LangGraph's SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client, schema
from langgraph_sdk.client import LangGraphClient
from standardwebhooks.webhooks import Webhook

from tests.support.keys import NEW_SECRET
from tests.support.receiver import Received, Receiver, receiving
from tests.support.sdk import fields
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
from tests.support.waiting import PATIENCE, until

LEAP_DAY = "0 0 29 2 *"
APPROVE = {"resume": {"decisions": [{"type": "approve"}]}}


def configured(folder: Path, port: int) -> dict[str, str]:
    """The environment of a server that may tell this port."""
    hook = {"url": f"http://127.0.0.1:{port}", "secrets": ["env:CI_SECRET"], "allow_http": True}
    config = folder / "assent.json"
    config.write_text(json.dumps({"webhooks": {"ci": hook}}))
    return {"ASSENT_CONFIG": str(config), "CI_SECRET": NEW_SECRET}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("webhooks")
    target = scripted_agents(folder, "agent", "foreign")
    with serving(folder, target, **configured(folder, port)) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


@pytest.fixture
async def receiver(port: int) -> AsyncIterator[Receiver]:
    async with receiving(Receiver(), port=port) as receiver:
        yield receiver


@pytest.fixture
async def sdk(server: Server) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url) as client:
        yield client


def said(text: str) -> Any:
    return {"messages": [{"role": "user", "content": text}]}


async def told(receiver: Receiver, path: str, count: int = 1) -> list[Received]:
    """What came to this path, once that is so much."""
    while len(mine := [got for got in receiver.got if got.path == path]) < count:
        await receiver.until(len(receiver.got) + 1)
    return mine


def words(got: Received) -> list[str]:
    return [message["content"] for message in got.json["values"]["messages"]]


async def test_a_webhook_is_told_what_langgraphs_server_tells(
    sdk: LangGraphClient, receiver: Receiver, port: int, thread: str
) -> None:
    url = f"http://127.0.0.1:{port}/{thread}?token=secret-of-ci"
    run = await sdk.runs.create(
        thread,
        "agent",
        input=said("tell 2"),
        metadata={"ticket": 7},
        if_not_exists="create",
        webhook=url,
    )
    (got,) = await told(receiver, f"/{thread}?token=secret-of-ci")
    body = Webhook(NEW_SECRET).verify(got.body, got.headers)
    more = {"run_started_at", "run_ended_at", "webhook_sent_at", "values", "kwargs"}
    assert body.keys() == fields(schema.Run) | more
    assert (body["run_id"], body["thread_id"]) == (run["run_id"], thread)
    assert (body["status"], body["metadata"]) == ("success", {"ticket": 7})
    assert body["kwargs"] == {"input": said("tell 2")}
    assert words(got) == ["tell 2", "word0 word1"]
    times = ("created_at", "run_started_at", "run_ended_at", "webhook_sent_at")
    assert [body[name] for name in times] == sorted(body[name] for name in times)


async def test_a_webhook_is_told_of_a_pause_and_of_what_went_on_wherever_it_was_decided(
    sdk: LangGraphClient, api: Api, receiver: Receiver, port: int, thread: str, amount: int
) -> None:
    url = f"http://127.0.0.1:{port}/{thread}"
    values: Any = await sdk.runs.wait(
        thread, "agent", input=said(f"pay {amount}"), if_not_exists="create", webhook=url
    )
    (paused,) = await told(receiver, f"/{thread}")
    assert paused.json["status"] == "success"
    assert paused.json["values"]["__interrupt__"] == values["__interrupt__"]
    await api.decided(thread, type="approve")
    _, ended = await told(receiver, f"/{thread}", 2)
    assert ended.json["run_id"] != paused.json["run_id"]
    assert "__interrupt__" not in ended.json["values"]
    assert words(ended)[0] == f"pay {amount}"

    # Who decides may have another one told.
    await sdk.runs.wait(thread, "agent", input=said(f"pay {amount + 1}"), webhook=url)
    await sdk.runs.wait(thread, "agent", command=APPROVE, webhook=f"{url}-2")
    (other,) = await told(receiver, f"/{thread}-2")
    assert words(other)[: len(words(ended))] == words(ended)
    assert len(await told(receiver, f"/{thread}")) == 3


async def test_a_graph_of_ones_own_is_told_of_with_its_interrupts(
    sdk: LangGraphClient, receiver: Receiver, port: int, thread: str, amount: int
) -> None:
    url = f"http://127.0.0.1:{port}/{thread}"
    values: Any = await sdk.runs.wait(
        thread, "foreign", input=said(f"pay {amount}"), if_not_exists="create", webhook=url
    )
    (paused,) = await told(receiver, f"/{thread}")
    assert paused.json["values"] == values
    assert paused.json["values"]["__interrupt__"]


async def test_a_webhook_is_told_of_errors_and_of_runs_that_were_cancelled(
    sdk: LangGraphClient, api: Api, receiver: Receiver, port: int, thread: str, amount: int
) -> None:
    url = f"http://127.0.0.1:{port}/{thread}"
    options: Any = {"if_not_exists": "create", "webhook": url}
    failed = await sdk.runs.create(thread, "agent", input=said("boom"), **options)
    (got,) = await told(receiver, f"/{thread}")
    assert (got.json["run_id"], got.json["status"]) == (failed["run_id"], "error")
    assert got.json["error"] == (await api.ended(failed["run_id"]))["error"]["message"]
    assert words(got) == ["boom"]

    await sdk.runs.wait(thread, "agent", input=said(f"pay {amount}"), **options)
    asking = (await api.runs(thread))[0]["run_id"]
    later = await sdk.runs.create(
        thread, "agent", input=said("tell 1"), after_seconds=3600, **options
    )
    await sdk.runs.cancel(thread, asking, wait=True)
    await sdk.runs.cancel(thread, later["run_id"], wait=True)
    *_, first, second = await told(receiver, f"/{thread}", 4)
    assert [first.json["run_id"], second.json["run_id"]] == [asking, later["run_id"]]
    assert [first.json["status"], second.json["status"]] == ["interrupted", "interrupted"]
    # It never had the thread.
    assert second.json["values"] is None


async def test_every_way_to_start_a_run_takes_a_webhook(
    sdk: LangGraphClient, api: Api, receiver: Receiver, port: int, thread: str
) -> None:
    url = f"http://127.0.0.1:{port}/{thread}"
    every: Any = {"input": said("tell 1"), "webhook": url}
    async for _ in sdk.runs.stream(thread, "agent", if_not_exists="create", **every):
        pass
    async for _ in sdk.runs.stream(None, "agent", **every):
        pass
    await sdk.runs.wait(None, "agent", **every)
    await sdk.runs.create(None, "agent", **every)
    await sdk.runs.create_batch([{"assistant_id": "agent", **every}])
    cron: Any = await sdk.crons.create("agent", schedule=LEAP_DAY, **every)
    assert cron["payload"]["webhook"] == url
    await expect(await api.http.post(f"/schedules/{cron['cron_id']}/run"), 202)
    got = await told(receiver, f"/{thread}", 6)
    assert len({each.json["run_id"] for each in got}) == 6
    await sdk.crons.delete(cron["cron_id"])
    # Whoever watches notifications is not shown the URL, which may have a secret.
    assert url not in json.dumps(await api.get("/schedules"))


async def test_only_hosts_that_the_operator_lists_are_told(
    api: Api, port: int, thread: str
) -> None:
    before = await api.get("/threads")
    body = {"assistant_id": "agent", "input": said("tell 1"), "if_not_exists": "create"}
    cron = {**body, "schedule": LEAP_DAY}
    elsewhere = {"webhook": "https://elsewhere.example/path"}
    for path, sent in {
        f"/threads/{thread}/runs": body,
        f"/threads/{thread}/runs/stream": body,
        f"/threads/{thread}/runs/wait": body,
        "/runs": body,
        "/runs/stream": body,
        "/runs/wait": body,
        "/runs/crons": cron,
    }.items():
        refused = await problem(await api.http.post(path, json={**sent, **elsewhere}), 422)
        assert (
            "https://elsewhere.example, where this server may not send anything"
            in refused["detail"]
        )
        assert "'webhooks'" in refused["detail"]
    batch = [body, {**body, **elsewhere}]
    await problem(await api.http.post("/runs/batch", json=batch), 422)
    for wrong in (
        f"https://127.0.0.1:{port}/",
        f"http://127.0.0.1:{port + 1}/",
        f"http://127.0.0.1:{port}@elsewhere.example/",
        f"http://user:word@127.0.0.1:{port}/",
        f"http://localhost:{port}/",
        "/threads/search",
        "nothing",
    ):
        given = {**body, "webhook": wrong}
        await problem(await api.http.post(f"/threads/{thread}/runs", json=given), 422)
    assert await api.get("/threads") == before
    assert (await api.get("/schedules"))["schedules"] == []


async def test_what_a_webhook_is_to_be_told_outlives_a_kill(tmp_path: Path, thread: str) -> None:
    # It takes what is sent, and never answers.
    async with receiving(Receiver(after=PATIENCE)) as deaf:
        environment = configured(tmp_path, deaf.port)
        with serving(tmp_path, scripted_agents(tmp_path, "agent"), **environment) as server:
            async with get_client(url=server.url) as sdk:
                await sdk.runs.create(
                    thread,
                    "agent",
                    input=said("tell 1"),
                    if_not_exists="create",
                    webhook=f"http://127.0.0.1:{deaf.port}/{thread}",
                )
            (first,) = await deaf.until(1)
            server.kill()
            port = deaf.port
            deaf.after = 0.0
            server.start()
            again = (await deaf.until(2))[1]
            assert again.headers["webhook-id"] == first.headers["webhook-id"]
            assert words(again) == words(first) == ["tell 1", "word0"]
            async with asking(server) as api:

                async def delivered() -> list[Any]:
                    found = await api.get("/notifications", status="delivered")
                    return list(found["notifications"])

                (row,) = await until(delivered)
                assert (row["endpoint"], row["event"]) == ("webhooks.ci", "run_ended")
                shown = await api.get(f"/notifications/{row['notification_id']}")
                assert str(port) not in json.dumps(shown)
