"""The server is killed between a command on a WebSocket and its answer. The client, which cannot
know whether it was carried out, sends it again under its key: it is carried out once."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from assent.storage.sqlite.checkup import Level, check_up
from tests.support.server import Api, Server, asking, expect, scripted_agents, serving
from tests.support.sockets import socket_of

ROUNDS = 2


async def killed_amid(
    server: Server, thread: str, seconds: float, type: str, **fields: Any
) -> None:
    """Send a command, and kill the server so long after; then start it again."""
    with suppress(ConnectionClosed):
        async with socket_of(server, thread) as socket:
            await socket.send(type, **fields)
            await asyncio.sleep(seconds)
            server.kill()
            # Frames that wait to be read would keep the end of the connection from being seen.
            socket.connection.transport.abort()
    server.start()


async def again(server: Server, thread: str, type: str, **fields: Any) -> Any:
    async with socket_of(server, thread) as socket:
        return await socket.done(type, **fields)


async def killed_round(server: Server, api: Api, amount: int, wait: random.Random) -> None:
    thread = f"t{amount}"
    await expect(await api.http.post("/threads", json={"thread_id": thread}), 200)

    message = {"message": f"pay {amount}", "idempotency_key": f"m-{amount}"}
    await killed_amid(server, thread, wait.uniform(0, 0.03), "message", **message)
    run = await again(server, thread, "message", **message)
    await api.ended(run["run_id"])
    (approval,) = await api.pending(thread)
    assert [each["run_id"] for each in await api.runs(thread)] == [run["run_id"]]

    decision = {"type": "approve", "digest": approval["digest"]}
    decisions = {approval["approval_id"]: decision}
    decide = {"decisions": decisions, "idempotency_key": f"d-{amount}"}
    await killed_amid(server, thread, wait.uniform(0, 0.03), "decide", **decide)
    outcome = await again(server, thread, "decide", **decide)
    posted = await api.http.post(
        f"/threads/{thread}/resume",
        json={"decisions": decisions},
        headers={"Idempotency-Key": f"d-{amount}"},
    )
    assert posted.json() == outcome
    await api.ended(outcome["run_id"])
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
    decided = [each for each in await api.events(thread) if each["type"] == "approval_decided"]
    assert len(decided) == 1


async def test_a_command_is_carried_out_once_whenever_the_server_dies(tmp_path: Path) -> None:
    wait = random.Random(12)
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        async with asking(server) as api:
            for amount in range(1, ROUNDS + 1):
                await killed_round(server, api, amount, wait)
    found = check_up(tmp_path / "assent.db")
    assert [each for each in found if each.level is Level.WRONG] == []


async def test_what_was_told_under_a_key_is_told_once(tmp_path: Path) -> None:
    wait = random.Random(13)
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        async with asking(server) as api:
            await api.stream("look 1", thread_id="t")
            for round in range(ROUNDS):
                body = {"message": f"No. {round}", "thread_id": "t"}
                key = {"Idempotency-Key": f"b-{round}"}
                asked = asyncio.create_task(api.http.post("/broadcast", json=body, headers=key))
                await asyncio.sleep(wait.uniform(0, 0.02))
                server.kill()
                await asyncio.wait({asked})
                asked.exception()
                server.start()
                response = await api.http.post("/broadcast", json=body, headers=key)
                told = (await expect(response, 202)).json()
                events = await api.events("t")
                (event,) = [each for each in events if each.get("message") == body["message"]]
                assert (event["type"], event["seq"]) == ("broadcast", told["seq"])
