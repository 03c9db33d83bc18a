"""Agents whose code ends the process, blocks it, or does not stop: only their own runs suffer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import rough_agent
from tests.support.server import Api, Server, only, project_of, serving
from tests.support.waiting import until

DRAIN_SECONDS = 1
CLOSING_SECONDS = 5
SLACK = 10
"""Seconds that a busy machine may take to end a process. What is not ended goes on for ever."""

THREADS = 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    target = project_of(tmp_path, {rough_agent: rough_agent.ALL})
    settings = {
        "ASSENT_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "ASSENT_SYNC_THREADS": str(THREADS),
        "NO_COLOR": "1",
    }
    with serving(tmp_path, target, **settings) as server:
        yield server


ENDS = {
    "leave": "SystemExit",
    "parse": "SystemExit",
    "task": "SystemExit",
    "interrupt": "KeyboardInterrupt",
    "stop": "Stop",
    "cancel": "NodeCancelledError",
}
"""What the run of each node fails with."""


async def test_whatever_a_node_raises_its_run_fails_and_the_others_go_on(
    server: Server, api: Api
) -> None:
    beside = await api.run("beside", "wait 1")
    await server.until_traced("wait 1")
    for node, error in ENDS.items():
        failed = (await api.stream(node, thread_id=node))[-1]
        assert (failed["type"], failed.get("code")) == ("error", "agent_error"), failed
        assert f"The run failed with {error}." in failed["message"]
        assert (await api.stream("answer", thread_id=node))[-1]["type"] == "done"
    # A callback of the event loop belongs to no run.
    assert (await api.stream("later", thread_id="later"))[-1]["type"] == "done"
    server.let_go(1)
    ended = await api.ended(beside["run_id"])
    assert (ended["status"], ended["attempt"]) == ("success", 1)


async def test_a_call_that_ended_its_run_is_closed_as_one_that_may_have_happened(
    server: Server, api: Api
) -> None:
    await api.paused("pay 5", thread_id="t", agent="gated")
    decided = await api.decided("t", type="approve")
    assert (await api.ended(decided["run_id"]))["status"] == "error"
    events = await api.stream("hello", thread_id="t", agent="gated")
    assert only(events, "done")
    answers = [
        each for each in (await api.at_rest("t"))["values"]["messages"] if each["type"] == "tool"
    ]
    assert "may or may not have happened" in answers[0]["content"]
    assert server.traces() == ["pay 5"]


# ── code that does not stop ───────────────────────────────────────────────────────────────────────


async def ended_in_time(server: Server) -> None:
    """Ask the server to end, and hold it to its time."""
    began = time.monotonic()
    await asyncio.to_thread(server.terminate)
    assert time.monotonic() - began < DRAIN_SECONDS + CLOSING_SECONDS + SLACK


async def test_while_all_threads_of_sync_nodes_are_busy_all_else_goes_on(
    server: Server, api: Api
) -> None:
    for number in range(1, THREADS + 1):
        await api.run(f"t{number}", f"hold {number}")
        await server.until_traced(f"hold {number}")
    waiting = await api.run("t0", f"hold {THREADS + 1}")
    await until(lambda: "all threads of sync nodes and tools are busy" in server.output)
    # Runs of async code, and our own agents, need no thread.
    server.let_go(7)
    assert (await api.stream("wait 7", thread_id="t7"))[-1]["type"] == "done"
    await api.paused("pay 5", thread_id="paying", agent="gated")
    server.let_go(1, THREADS + 1)
    assert (await api.ended(waiting["run_id"]))["status"] == "success"

    await api.run("deaf", "deaf 8")
    await server.until_traced("deaf 8")
    await ended_in_time(server)
    assert "engine stopped" in server.output
    assert "Traceback" not in server.output


async def test_a_node_that_blocks_the_loop_is_named_and_keeps_no_process_alive(
    server: Server, api: Api
) -> None:
    run = await api.run("t", "block 1")
    await server.until_traced("block 1")
    await until(lambda: "the event loop is blocked" in server.output)
    (line,) = (line for line in server.output.splitlines() if "the event loop is blocked" in line)
    assert re.search(r"node=block\b", line)
    assert f"run_id={run['run_id']}" in line
    assert "thread_id=t" in line
    assert re.search(r"rough_agent\.py:\d+ in hold", line)
    await ended_in_time(server)
    # The log says where it was.
    assert re.search(r"rough_agent\.py\", line \d+ in hold", server.output)

    server.let_go(1)
    server.start()
    assert (await api.ended(run["run_id"]))["status"] == "success"


async def test_a_loop_that_goes_on_says_so(server: Server, api: Api) -> None:
    await api.run("t", "block 1")
    await until(lambda: "the event loop is blocked" in server.output)
    server.let_go(1)
    await until(lambda: "the event loop goes on" in server.output)
