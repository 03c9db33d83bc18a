"""A server that is started without an agent leaves that agent's runs as they are, and the next
server that has it goes on with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from assent.storage.sqlite.checkup import check_up
from tests.support.server import (
    Api,
    Server,
    asking,
    expect,
    problem,
    scripted_agents,
    serving,
)

POLICIES = """
[policies.agents.agent.tools.pay]
timeout = "1h"
"""
LONG_AGO = "2020-01-01T00:00:00.000000Z"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    target = configured(tmp_path, "agent", "slow_agent")
    config = str(tmp_path / "assent.toml")
    # As many runs as are active when it is killed; the others wait their turn.
    with serving(tmp_path, target, ASSENT_MAX_RUNS="4", ASSENT_CONFIG=config) as server:
        yield server


def configured(folder: Path, *agents: str) -> str:
    """Have the next process serve these. Policies of an agent that is not there are refused."""
    (folder / "assent.toml").write_text(POLICIES if "agent" in agents else "")
    return scripted_agents(folder, *agents)


async def test_runs_wait_until_a_server_has_their_agent(server: Server) -> None:
    async with asking(server) as api:
        left, others = await _leave_runs(server, api)
        before = {kind: await api.get(f"/runs/{run_id}") for kind, run_id in left.items()}
        assert {kind: run["status"] for kind, run in before.items()} == {
            "cut-off": "running",
            "cancelled": "cancelling",
            "decided": "pending",
            "queued": "pending",
            "delayed": "pending",
        }
        server.kill()
        # The time of one approval comes while its agent is away.
        for column in ("approvals SET expires_at", "timers SET due_at"):
            server.sql(f"UPDATE {column} = ? WHERE thread_id = 'expiring'", LONG_AGO)

        configured(server.folder, "slow_agent")
        for _ in range(2):
            server.restart()
            # What was done with the other agent's runs was not done with these.
            for run_id in others:
                await api.ended(run_id)
            await api.until("expiring", "run_resumed")
            for kind, run_id in left.items():
                run = await api.get(f"/runs/{run_id}")
                assert run.pop("reason").startswith("This server does not have the agent 'agent'")
                assert run == {name: before[kind][name] for name in run}
        traces = ["slow 5", "hold 6", "hold 7", "hold 9", "look 8", "look 9"]
        assert sorted(server.traces()) == sorted(traces)
        await _say_what_waits(server, api)
        # The agent may never come back.
        await expect(await api.http.delete("/threads/erased"), 204)

        server.kill()
        configured(server.folder, "agent", "slow_agent")
        server.start()
        ended = {kind: await api.ended(run_id) for kind, run_id in left.items()}
        assert {kind: (run["status"], run["attempt"]) for kind, run in ended.items()} == {
            "cut-off": ("interrupted", 2),
            "cancelled": ("cancelled", 2),
            "decided": ("success", 1),
            "queued": ("success", 1),
            "delayed": ("success", 1),
        }
        assert {run["reason"] for run in ended.values()} == {None}
        (question,) = await api.pending("cut-off")
        assert (question["kind"], question["tool"]) == ("unknown_outcome", "slow")
        assert await api.last_words("decided") == "Results: paid 1"
        assert "Nobody decided" in await api.last_words("expiring")
        await api.decided("asked", type="approve")
        assert await api.last_words("asked") == "Results: paid 7"
    assert sorted(server.traces()) == sorted([*traces, "pay 1", "pay 7", "look 3", "look 4"])


async def _leave_runs(server: Server, api: Api) -> tuple[dict[str, str], list[str]]:
    """Runs of `agent`, by what a kill will make of them, and runs of another agent that came after
    them."""
    await api.paused("pay 7", thread_id="asked")
    await api.paused("pay 2", thread_id="expiring")
    await api.paused("pay 1", thread_id="decided")
    await api.paused("slow 5", thread_id="cut-off")
    cut_off = await api.decided("cut-off", type="approve")
    cancelled = await api.run("cancelled", "hold 7")
    await api.run("erased", "hold 6")
    active = await api.run("active", "hold 9", agent="slow_agent")
    await server.until_traced("slow 5", "hold 6", "hold 7", "hold 9")
    await api.cancel(f"/runs/{cancelled['run_id']}")
    # All places are taken.
    decided = await api.decided("decided", type="approve")
    queued = await api.run("queued", "look 3")
    delayed = await api.run("delayed", "look 4", after_seconds=1)
    others = [
        active,
        await api.run("also-queued", "look 8", agent="slow_agent"),
        await api.run("also-delayed", "look 9", agent="slow_agent", after_seconds=1),
    ]
    left = {
        "cut-off": cut_off,
        "cancelled": cancelled,
        "decided": decided,
        "queued": queued,
        "delayed": delayed,
    }
    return {kind: run["run_id"] for kind, run in left.items()}, [run["run_id"] for run in others]


async def _say_what_waits(server: Server, api: Api) -> None:
    said = [finding.sentence for finding in check_up(server.folder / "assent.db")]
    (sentence,) = [each for each in said if "'agent'" in each]
    assert sentence.startswith("7 run(s) of the agent 'agent' are left as they are")
    assert "runs wait for their agent" in server.output
    (listed,) = await api.runs("queued")
    assert listed["reason"] is not None
    # Threads can still be looked at, without the values that only their agent can read.
    threads = [await api.get(f"/threads/{id}") for id in ("cut-off", "asked")]
    assert [thread["status"] for thread in threads] == ["busy", "interrupted"]
    assert [thread["values"] for thread in threads] == [None, None]
    # What is decided could not be carried out, so it is not taken.
    await problem(await api.resume("asked", type="approve"), 404)
    assert len(await api.pending("asked")) == 1
    new = {"message": "look 1", "thread_id": "cut-off"}
    await problem(await api.http.post("/agent/invoke", json=new), 404)
