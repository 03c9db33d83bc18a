"""Without keys nothing is asked of whoever tries the server out on their machine; with the first
key it knows people, and stays closed to everybody else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx

from tests.support.command import run
from tests.support.secrets import leaks
from tests.support.server import asking, expect, problem, scripted_agents, serving

QUIET = {
    *("Started server process", "engine started", "server started", "engine stopped"),
    *("run started", "run resumed", "run paused", "run succeeded"),
    *("approval required", "approval decided", "reader cut"),
    *("Shutting down", "Finished server process"),
}
"""What the log says of a server without keys, and said before there were any."""

UNBUILT = {"the web page is not there"}
"""What it says where the page has not been built."""

BUSY = {"the event loop is blocked", "the event loop goes on"}
"""What it says of a busy machine."""

PAGES = [
    *("/health", "/health/ready", "/me", "/agents", "/threads", "/runs", "/approvals", "/grants"),
    *("/schedules", "/connections", "/notifications", "/audit", "/audit/head", "/metrics"),
    *("/openapi.json", "/docs", "/ws/status", "/api/v1/agents"),
]


async def test_without_keys_everything_is_open_and_nothing_is_set(tmp_path: Path) -> None:
    seen: list[httpx.Response] = []

    async def look(response: httpx.Response) -> None:
        seen.append(response)

    target = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, target, ASSENT_LOG_FORMAT="json") as server:
        async with asking(server) as api:
            api.http.event_hooks = {"response": [look]}
            (approval,) = await api.paused("pay 3", thread_id="t")
            await api.decided("t", decisions={approval["approval_id"]: {"type": "approve"}})
            assert (await api.at_rest("t"))["status"] == "idle"
            for path in PAGES:
                await expect(await api.http.get(path), 200)
            for _ in range(300):
                await api.http.get("/me")
            me = await api.get("/me")
            await expect(await api.http.post("/broadcast", json={"message": "Hello."}), 202)
            await expect(await api.http.delete("/threads/t"), 204)
        server.terminate()
        lines = [json.loads(line) for line in server.output.splitlines()]

    assert (me["name"], me["authentication"]) == ("local", "local")
    assert {401, 403, 429}.isdisjoint(response.status_code for response in seen)
    assert [response for response in seen if "set-cookie" in response.headers] == []
    assert server.traces() == ["pay 3"]
    lines = [line for line in lines if line["event"] not in BUSY | UNBUILT]
    assert {re.sub(r" \[\d+\]$", "", line["event"]) for line in lines} <= QUIET
    assert {line["level"] for line in lines} == {"info"}


async def test_with_the_first_key_the_server_knows_people_and_what_was_there_is_given_to_one(
    tmp_path: Path,
) -> None:
    target = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, target) as server:
        async with asking(server) as api:
            await api.stream("tell 1", thread_id="t")
        server.terminate()

        def told(*argv: str) -> str:
            done = run(argv, folder=tmp_path, environment=server.environment)
            assert done.returncode == 0, done.stderr
            return done.stdout

        key = re.search(r"ask_\w+", told("keys", "create", "alice", "--role", "operator"))
        assert key is not None
        server.start()
        async with asking(server) as anybody, known_by(server, key[0]) as alice:
            await problem(await anybody.http.get("/threads"), 401)
            # What was made without keys is nobody's yet.
            await problem(await alice.http.get("/threads/t"), 404)
        server.terminate()
        told("owners", "move", "local", "alice")
        server.start()
        async with known_by(server, key[0]) as alice:
            assert (await alice.get("/threads/t"))["thread_id"] == "t"
            listed = (await alice.get("/keys"))["keys"]
        # Without its last key it is not open again.
        server.terminate()
        told("keys", "revoke", listed[0]["key_id"])
        server.start()
        async with asking(server) as anybody, known_by(server, key[0]) as alice:
            await problem(await anybody.http.get("/threads"), 401)
            await problem(await alice.http.get("/threads"), 401)
        assert leaks(server.output) == []


def known_by(server: Any, key: str) -> Any:
    return asking(server, authorization=f"Bearer {key}")
