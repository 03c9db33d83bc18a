"""The lines that the server logs for its operator: one for each thing that happened, and nothing of
what was said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Api, Server, scripted_agents, serving
from tests.support.waiting import until

SECRET = "marzipan"
CONFIG = """
[policies.agents.agent.tools.slow]
timeout = "1s"
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    config = tmp_path / "assent.toml"
    config.write_text(CONFIG)
    environment = {"ASSENT_LOG_FORMAT": "json", "ASSENT_CONFIG": str(config)}
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **environment) as server:
        yield server


def lines(server: Server) -> list[Any]:
    """What was logged of runs, approvals and the engine."""
    logged = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    return [line for line in logged if line["event"].split()[0] in ("run", "approval", "engine")]


async def logged(server: Server, *events: str) -> list[Any]:
    """The lines, once these are the last ones: they are written a moment after the commit."""

    def those() -> list[Any]:
        found = lines(server)
        return found if [line["event"] for line in found][-len(events) :] == list(events) else []

    return await until(those)


async def test_a_run_that_asks_and_ends(server: Server, api: Api) -> None:
    (approval,) = await api.paused(f"pay 5 for {SECRET}", thread_id="t")
    edit = {"type": "edit", "args": {"amount": 6, "note": SECRET}}
    resumed = await api.decided("t", **edit)
    assert SECRET in await api.last_words("t")
    engine, started, asked, paused, decided, goes_on, ended = await logged(
        server,
        *("engine started", "run started", "approval required", "run paused"),
        *("approval decided", "run resumed", "run succeeded"),
    )
    assert engine["worker"]
    assert {line["level"] for line in (started, asked, paused, decided, goes_on, ended)} == {"info"}
    first = {"thread_id": "t", "run_id": approval["run_id"], "agent": "agent"}
    second = {**first, "run_id": resumed["run_id"]}
    id = approval["approval_id"]
    assert started.items() >= first.items()
    assert asked.items() >= {**first, "approval_id": id, "kind": "tool", "tool": "pay"}.items()
    assert paused.items() >= {**first, "approval_ids": [id]}.items()
    edited = {"approval_id": id, "decision": "edit", "by": "local"}
    assert decided.items() >= {**second, **edited}.items()
    assert goes_on.items() >= {**second, "approval_ids": [id]}.items()
    assert ended.items() >= second.items()
    runs = {run["run_id"]: run for run in await api.runs("t")}
    assert set(runs) == {line["run_id"] for line in (paused, ended)}
    assert 0 < paused["duration"] < 60
    assert 0 < ended["duration"] < 60
    assert SECRET not in server.output


async def test_a_run_that_fails_and_one_that_is_cancelled(server: Server, api: Api) -> None:
    await api.stream("boom", thread_id="t")
    _, started, failed = await logged(server, "engine started", "run started", "run failed")
    assert failed["level"] == "error"
    assert failed["run_id"] == started["run_id"]
    assert failed["code"] == "agent_error"
    assert failed["duration"] > 0
    await api.paused(f"pay 5 for {SECRET}", thread_id="u")
    await api.cancel("/threads/u")
    *_, dropped, cancelled = await logged(
        server,
        *("run started", "approval required", "run paused"),
        *("approval cancelled", "run cancelled"),
    )
    assert (dropped["thread_id"], cancelled["thread_id"]) == ("u", "u")
    assert SECRET not in server.output


async def test_a_run_whose_server_was_killed(server: Server, api: Api) -> None:
    run = await api.run("t", f"hold 5 for {SECRET}")
    await server.until_traced("hold 5")
    server.kill()
    server.let_go(5)
    server.start()
    await api.ended(run["run_id"])
    *_, recovered, asked, _ = await logged(
        server, "engine started", "run recovered", "approval required", "run paused"
    )
    assert asked["kind"] == "unknown_outcome"
    assert recovered.items() >= {"run_id": run["run_id"], "agent": "agent", "attempt": 2}.items()
    server.terminate()
    assert lines(server)[-1]["event"] == "engine stopped"
    assert SECRET not in server.output


async def test_an_approval_that_nobody_decides_in_time(server: Server, api: Api) -> None:
    (approval,) = await api.paused(f"slow 5 for {SECRET}", thread_id="t")
    await api.at_rest("t")
    await api.until("t", "approval_expired")
    expired = await until(
        lambda: [line for line in lines(server) if line["event"] == "approval expired"]
    )
    assert [line["approval_id"] for line in expired] == [approval["approval_id"]]
    assert expired[0]["level"] == "warning"
    assert SECRET not in server.output
