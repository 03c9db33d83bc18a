"""Notifications through the real server: told of with what they tell of, kept through kills, dead,
and sent again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.support.keys import NEW_SECRET
from tests.support.receiver import Receiver, receiving
from tests.support.server import (
    Api,
    Server,
    expect,
    free_port,
    problem,
    scripted_agents,
    serving,
)
from tests.support.waiting import until


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("notifications")
    target = scripted_agents(folder, "agent")
    config = folder / "assent.json"
    hook = {
        "url": f"http://127.0.0.1:{port}/hook",
        "secrets": ["env:HOOK_SECRET"],
        "allow_http": True,
        "recipient": "bob",
    }
    blocked = {"url": f"https://localhost:{port}/", "secrets": [NEW_SECRET], "tools": ["slow"]}
    config.write_text(json.dumps({"notify": {"hook": hook, "blocked": blocked}}))
    environment = {
        "ASSENT_CONFIG": str(config),
        "ASSENT_PUBLIC_URL": "http://127.0.0.1:1",
        "HOOK_SECRET": NEW_SECRET,
    }
    with serving(folder, target, **environment) as server:
        yield server


def about(receiver: Receiver, thread: str) -> list[Any]:
    return [got for got in receiver.got if got.json["data"]["approval"]["thread_id"] == thread]


async def notified(api: Api, status: str, **parameters: str) -> list[Any]:
    """The notifications of this status, once there are any."""

    async def rows() -> list[Any]:
        found = await api.get("/notifications", status=status, **parameters)
        return list(found["notifications"])

    return await until(rows)


async def test_a_receiver_is_told_and_a_link_that_it_was_sent_decides(
    api: Api, port: int, server: Server, thread: str, amount: int
) -> None:
    async with receiving(Receiver(), port=port) as receiver:
        (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
        while not (mine := about(receiver, thread)):
            await receiver.until(len(receiver.got) + 1)
        said = Webhook(NEW_SECRET).verify(mine[0].body, mine[0].headers)
        assert said["type"] == "approval_required"
        shown = said["data"]["approval"]
        assert {
            name: shown[name] for name in ("approval_id", "tool", "args", "digest", "preview")
        } == {name: approval[name] for name in ("approval_id", "tool", "args", "digest", "preview")}
        page = f"http://127.0.0.1:1/ui/approvals/{approval['approval_id']}"
        assert said["data"]["page"] == page
        path = said["data"]["link"].removeprefix("http://127.0.0.1:1")
        assert (await api.http.get(path)).status_code == 200
        await expect(await api.http.post(path, data={"decision": "approve"}), 200)
        await api.at_rest(thread)
        while len(mine := about(receiver, thread)) < 2:
            await receiver.until(len(receiver.got) + 1)
        assert mine[1].json["type"] == "approval_decided"
        assert mine[1].json["data"]["event"]["by"] == "bob"
        assert "link" not in mine[1].json["data"]
        assert mine[1].json["data"]["page"] == page
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
    assert NEW_SECRET not in server.output


async def test_what_was_not_delivered_before_a_kill_is_after_it(
    api: Api, port: int, server: Server, thread: str, amount: int
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    (row,) = await notified(api, "pending", approval_id=approval["approval_id"])
    server.restart()
    async with receiving(Receiver(), port=port) as receiver:
        await expect(await api.http.post(f"/notifications/{row['notification_id']}/resend"), 202)
        while not (mine := about(receiver, thread)):
            await receiver.until(len(receiver.got) + 1)
        await notified(api, "delivered", approval_id=approval["approval_id"])
    assert {got.headers["webhook-id"] for got in mine} == {row["notification_id"]}


async def test_a_receiver_in_a_private_network_is_told_nothing_and_its_neighbours_all(
    api: Api, port: int, thread: str, amount: int
) -> None:
    async with receiving(Receiver(), port=port) as receiver:
        (approval,) = await api.paused(f"slow {amount}", thread_id=thread)
        await notified(api, "delivered", approval_id=approval["approval_id"], endpoint="hook")
        (row,) = await notified(
            api, "pending", approval_id=approval["approval_id"], endpoint="blocked"
        )

        async def error() -> str:
            tried = await api.get(f"/notifications/{row['notification_id']}")
            return tried["last_error"] or ""

        assert "private network" in await until(error)
        assert all(got.path == "/hook" for got in receiver.got)
        await api.decided(thread, type="reject")


async def test_a_notification_can_be_looked_at(api: Api, thread: str, amount: int) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    (row,) = (await api.get("/notifications", approval_id=approval["approval_id"]))["notifications"]
    whole = await api.get(f"/notifications/{row['notification_id']}")
    assert whole["data"]["approval"]["args"] == {"amount": amount}
    assert "link" not in json.dumps(whole)
    await problem(await api.http.get("/notifications/none"), 404)
    await problem(await api.http.post("/notifications/none/resend"), 404)
    await problem(await api.http.get("/notifications", params={"status": "lost"}), 422)


def test_a_server_that_does_not_know_its_address_sends_no_links(tmp_path: Path) -> None:
    config = tmp_path / "assent.toml"
    config.write_text('[notify.bob]\nurl = "json://localhost"\nrecipient = "bob"\n')
    server = Server(tmp_path, None, {"ASSENT_CONFIG": str(config)})
    with pytest.raises(AssertionError, match="ASSENT_PUBLIC_URL"):
        server.start()
