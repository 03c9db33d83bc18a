"""A message on a thread whose run has not ended is refused, waits, or takes its place; and however
many come at once, none is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.support.server import (
    Api,
    Event,
    Json,
    Server,
    asking,
    expect,
    only,
    problem,
    scripted_agents,
    serving,
    volley,
)
from tests.support.waiting import PATIENCE

AGENTS = ("agent", "slow_agent")
ENDED_WELL = {"success", "cancelled", "interrupted"}
ENDS = ("done", "error", "run_paused", "run_cancelled")


async def said(api: Api, thread: str) -> list[str]:
    """What stands in the thread, as a list of texts."""
    return [
        str(message["content"]) for message in (await api.at_rest(thread))["values"]["messages"]
    ]


async def all_runs(api: Api, thread: str) -> list[Json]:
    return await api.runs(thread)


def one_after_another(events: list[Event]) -> None:
    """No run says anything before the one that began before it has said its last word."""
    spoke = [
        event["run_id"]
        for event in events
        if event["type"] not in ("run_cancelled", "approval_decided")
    ]
    assert sum(run_id != after for run_id, after in pairwise([*spoke, ""])) == len(set(spoke))


# ── each strategy ─────────────────────────────────────────────────────────────────────────────────


async def test_reject_refuses_and_says_what_can_be_done(server: Server, api: Api) -> None:
    running = await api.run("t", "hold 5")
    await server.until_traced("hold 5")
    # The tool is at work before the event that says so is stored.
    async with asyncio.timeout(60):
        while "tool_start" not in [event["type"] for event in await api.events("t")]:
            await asyncio.sleep(0.05)
    before = await api.events("t")
    for path in ("/agent/stream", "/agent/invoke", "/agent/runs"):
        for strategy in ({}, {"on_busy": "reject"}):
            message = {"message": "look 1", "thread_id": "t", **strategy}
            body = await problem(await api.http.post(path, json=message), 409)
            assert body["runs"] == [running["run_id"]]
            assert all(
                word in body["detail"]
                for word in ("'t'", "enqueue", "interrupt", "rollback", "/cancel")
            )
    assert await api.events("t") == before
    assert [run["run_id"] for run in await all_runs(api, "t")] == [running["run_id"]]
    server.let_go(5)
    await api.at_rest("t")
    assert server.traces() == ["hold 5", "held 5"]


async def test_enqueue_waits_its_turn(server: Server, api: Api) -> None:
    await api.run("t", "hold 5")
    await server.until_traced("hold 5")
    queued = [await api.run("t", f"look {number}", on_busy="enqueue") for number in range(1, 4)]
    assert [run["status"] for run in queued] == ["pending"] * 3
    last = asyncio.create_task(api.stream("look 4", thread_id="t", on_busy="enqueue"))
    answer = asyncio.create_task(
        api.http.post(
            "/agent/invoke", json={"message": "tell 1", "thread_id": "t", "on_busy": "enqueue"}
        )
    )
    await asyncio.sleep(0.5)
    assert not last.done()
    assert not answer.done()
    server.let_go(5)
    events = await last
    # The stream is of this run alone.
    assert (events[0]["type"], events[0]["message"], events[-1]["type"]) == (
        "run_start",
        "look 4",
        "done",
    )
    assert (await expect(await answer, 200)).json()["status"] == "success"
    assert server.traces() == ["hold 5", "held 5", *(f"look {number}" for number in range(1, 5))]
    one_after_another(await api.events("t"))


async def test_interrupt_takes_the_place_and_keeps_what_was_done(server: Server, api: Api) -> None:
    first = await api.run("t", "look 1 then hold 5")
    await server.until_traced("hold 5")
    waiting = await api.run("t", "look 2", on_busy="enqueue")
    second = await api.run("t", "tell 2", on_busy="interrupt")
    assert second["status"] == "pending"
    # What waited is dropped at once, and what runs has not ended yet.
    assert (await api.get(f"/runs/{waiting['run_id']}"))["status"] == "cancelled"
    assert (await api.get(f"/runs/{first['run_id']}"))["status"] == "cancelling"
    assert (await api.get(f"/runs/{second['run_id']}"))["status"] == "pending"
    server.let_go(5)
    assert (await api.ended(second["run_id"]))["status"] == "success"
    assert (await api.get(f"/runs/{first['run_id']}"))["status"] == "cancelled"
    contents = await said(api, "t")
    assert (contents[0], contents[-2:]) == ("look 1 then hold 5", ["tell 2", "word0 word1"])
    assert "saw 1" in contents
    one_after_another(await api.events("t"))


async def test_rollback_takes_the_place_and_undoes_what_was_done(server: Server, api: Api) -> None:
    await api.stream("tell 1", thread_id="t")
    first = await api.run("t", "look 1 then hold 5")
    await server.until_traced("hold 5")
    second = await api.run("t", "tell 2", on_busy="rollback")
    server.let_go(5)
    assert (await api.ended(second["run_id"]))["status"] == "success"
    assert (await api.get(f"/runs/{first['run_id']}"))["status"] == "cancelled"
    assert await said(api, "t") == ["tell 1", "word0", "tell 2", "word0 word1"]
    assert only(
        [event for event in await api.events("t") if event["run_id"] == first["run_id"]],
        "run_cancelled",
    )["rolled_back"]


async def test_a_thread_that_is_free_takes_a_message_with_any_of_them(api: Api) -> None:
    for strategy in ("reject", "enqueue", "interrupt", "rollback"):
        assert (await api.stream("tell 1", thread_id="t", on_busy=strategy))[-1]["type"] == "done"
    assert len(await said(api, "t")) == 8


async def test_one_that_nobody_knows_is_refused(api: Api) -> None:
    for path in ("/agent/stream", "/agent/invoke", "/agent/runs"):
        await problem(
            await api.http.post(path, json={"message": "tell 1", "on_busy": "queue"}), 422
        )


# ── a thread that waits for a person ──────────────────────────────────────────────────────────────


async def test_what_waits_for_a_person_is_not_busy(server: Server, api: Api) -> None:
    pending = await api.paused("pay 1", thread_id="t")
    message = {"message": "tell 1", "thread_id": "t"}
    for strategy in ("reject", "enqueue", "interrupt", "rollback"):
        refused = await api.http.post("/agent/runs", json={**message, "on_busy": strategy})
        assert (await problem(refused, 409))["approvals"] == pending
    refused = await api.http.post("/agent/runs", json={**message, "if_paused": "wait"})
    body = await problem(refused, 409)
    assert '"wait" with "on_busy": "enqueue"' in body["detail"]
    waits = await api.run("t", "tell 2", if_paused="wait", on_busy="enqueue")
    await asyncio.sleep(0.6)
    assert (await api.get(f"/runs/{waits['run_id']}"))["status"] == "pending"
    assert await api.pending("t") == pending
    await api.decided("t", type="approve")
    assert (await api.ended(waits["run_id"]))["status"] == "success"
    assert (await said(api, "t"))[-3:] == ["Results: paid 1", "tell 2", "word0 word1"]
    assert server.traces() == ["pay 1"]


async def test_a_message_may_take_the_place_of_a_question(server: Server, api: Api) -> None:
    (approval,) = await api.paused("pay 1", thread_id="t")
    events = await api.stream("tell 2", thread_id="t", if_paused="cancel")
    assert (events[0]["type"], events[-1]["type"]) == ("run_start", "done")
    assert (await api.approval(approval["approval_id"]))["status"] == "cancelled"
    await problem(await api.resume("t", type="approve"), 409)
    contents = await said(api, "t")
    assert contents[-2:] == ["tell 2", "word0 word1"]
    assert "did not run" in contents[2]
    assert server.traces() == []


async def test_of_a_decision_and_a_message_in_its_place_one_wins(server: Server, api: Api) -> None:
    for number in range(1, 11):
        thread = f"t{number}"
        (approval,) = await api.paused(f"pay {number}", thread_id=thread)
        decided, message = await volley(
            server,
            [
                (f"/threads/{thread}/resume", {"type": "approve"}),
                (
                    "/agent/runs",
                    {"message": "tell 1", "thread_id": thread, "if_paused": "cancel"},
                ),
            ],
        )
        await api.at_rest(thread)
        status = (await api.approval(approval["approval_id"]))["status"]
        if decided[0] == 202:
            assert (status, server.traces(f"pay {number}")[:1]) == ("approved", [f"pay {number}"])
        else:
            assert (decided[0], message[0], status) == (409, 202, "cancelled")
            assert f"pay {number}" not in server.traces()
        for run in await all_runs(api, thread):
            await api.ended(run["run_id"])


# ── many at once ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("strategy", ["reject", "enqueue", "interrupt", "rollback"])
async def test_of_twenty_at_once_each_that_was_taken_ends_once(
    server: Server, api: Api, strategy: str
) -> None:
    bodies = [
        {"message": f"look {number}", "thread_id": "t", "on_busy": strategy}
        for number in range(100, 120)
    ]
    answers = await volley(server, [("/agent/runs", body) for body in bodies])
    taken = [answer for status, answer in answers if status == 202]
    assert all(status in ((202,) if strategy != "reject" else (202, 409)) for status, _ in answers)
    runs = {run["run_id"]: await api.ended(run["run_id"]) for run in taken}
    assert (await api.at_rest("t"))["status"] == "idle"
    assert {run["run_id"] for run in await all_runs(api, "t")} == runs.keys()
    statuses = Counter(run["status"] for run in runs.values())
    events = await api.events("t")
    assert Counter(event["run_id"] for event in events if event["type"] in ENDS) == dict.fromkeys(
        runs, 1
    )
    one_after_another(events)
    if strategy == "enqueue":
        assert statuses == {"success": 20}
        # In the order in which they were stored, which is that of the list.
        newest_first = [run["run_id"] for run in await all_runs(api, "t")]
        order = newest_first[::-1]
        assert [event["run_id"] for event in events if event["type"] == "run_start"] == order
        assert sorted(server.traces()) == [f"look {number}" for number in range(100, 120)]
    else:
        assert statuses.keys() <= {"success", "cancelled"}
        assert statuses["success"] >= 1
    assert (await api.stream("tell 1", thread_id="t"))[-1]["type"] == "done"


async def test_of_all_strategies_at_once_from_many_clients_none_leaves_a_thread_stuck(
    server: Server, api: Api
) -> None:
    threads = [f"t{number}" for number in range(4)]
    requests = [
        (
            "/agent/runs",
            {
                "message": f"tell {number}",
                "thread_id": thread,
                "on_busy": strategy,
                "agent": "slow_agent",
            },
        )
        for number in range(2, 5)
        for strategy in ("reject", "enqueue", "interrupt", "rollback", "enqueue")
        for thread in threads
    ]
    answers = await volley(server, requests)
    assert {status for status, _ in answers} <= {202, 409}
    for thread in threads:
        mine = [
            answer["run_id"]
            for status, answer in answers
            if status == 202 and answer["thread_id"] == thread
        ]
        for run_id in mine:
            assert (await api.ended(run_id))["status"] in ("success", "cancelled")
        assert {run["run_id"] for run in await all_runs(api, thread)} == set(mine)
        ends = Counter(
            event["run_id"] for event in await api.events(thread) if event["type"] in ENDS
        )
        assert ends == dict.fromkeys(mine, 1)
        assert (await api.stream("tell 1", thread_id=thread))[-1]["type"] == "done"


# ── a crash ───────────────────────────────────────────────────────────────────────────────────────


async def test_what_waits_its_turn_outlives_the_process(server: Server, api: Api) -> None:
    await api.run("t", "tell 60", agent="slow_agent")
    queued = [await api.run("t", f"look {number}", on_busy="enqueue") for number in range(1, 4)]
    await api.until("t", "token")
    server.restart()
    for run in queued:
        assert (await api.ended(run["run_id"]))["status"] == "success"
    assert server.traces() == ["look 1", "look 2", "look 3"]
    one_after_another(await api.events("t"))


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_killed_right_after_one_took_the_place_of_another_it_goes(
    server: Server, api: Api, strategy: str
) -> None:
    await api.stream("tell 1", thread_id="t")
    first = await api.run("t", "tell 300", agent="agent")
    slow = await api.run("s", "tell 300", agent="slow_agent")
    await api.until("s", "token")
    second = await api.run("s", "tell 2", on_busy=strategy)
    server.kill()
    server.start()
    assert (await api.ended(second["run_id"]))["status"] == "success"
    assert (await api.ended(slow["run_id"]))["status"] == "cancelled"
    assert (await api.ended(first["run_id"]))["status"] == "success"
    assert (await said(api, "s"))[-2:] == ["tell 2", "word0 word1"]


class Storm:
    """Eight clients that do whatever can be done on some threads, over several lives of a
    server. `taken` are the runs that the server promised."""

    def __init__(self, threads: list[str]) -> None:
        self.threads = threads
        self.taken: set[str] = set()
        self._chance = random.Random(20261120)

    async def over(self, server: Server, api: Api) -> None:
        # On a busy machine the clients may not get to each of them.
        for thread in self.threads:
            await api.stream("tell 1", thread_id=thread)
        for _ in range(2):
            until = time.monotonic() + 1.5
            clients = [asyncio.create_task(self._client(api, until)) for _ in range(8)]
            await asyncio.sleep(1.2)
            server.kill()
            await asyncio.gather(*clients)
            server.start()
        await self._client(api, time.monotonic() + 0.5)
        for thread in self.threads:
            await _brought_to_its_end(api, thread)

    def some_of(self, states: list[Json], count: int) -> list[Json]:
        """So many of the states, or all if there are no more, in their order."""
        chosen = self._chance.sample(range(len(states)), min(count, len(states)))
        return [states[place] for place in sorted(chosen)]

    async def _client(self, api: Api, until: float) -> None:
        while time.monotonic() < until:
            with suppress(httpx.TransportError):
                response = await self._something(api)
                if response is not None:
                    assert response.status_code in (200, 201, 202, 404, 409), response.text
                    if response.status_code == 202 and "attempt" in response.json():
                        self.taken.add(response.json()["run_id"])

    async def _something(self, api: Api) -> httpx.Response | None:
        chance = self._chance
        thread = chance.choice(self.threads)
        match chance.choice(["message"] * 6 + ["cancel", "decide", "decide", "back"]):
            case "message":
                body = {
                    "thread_id": thread,
                    "message": chance.choice(
                        ["look 1 then look 2", "tell 5; look 3", "pay 1", "look 1; pay 2"]
                    ),
                    "on_busy": chance.choice(["enqueue"] * 4 + ["interrupt", "rollback"]),
                    "if_paused": chance.choice(["reject", "cancel", "wait"]),
                    "priority": chance.randrange(-5, 5),
                }
                return await api.http.post("/agent/runs", json=body)
            case "cancel":
                return await api.http.post(
                    f"/threads/{thread}/cancel",
                    json={"mode": chance.choice(["interrupt", "rollback"])},
                )
            case "decide":
                return await api.http.post(
                    f"/threads/{thread}/resume",
                    json={"type": chance.choice(["approve", "reject"]), "all": True},
                )
        states = (await api.http.get(f"/threads/{thread}/history", params={"limit": 20})).json()
        if not isinstance(states, list) or not states:
            return None
        place = {"checkpoint_id": chance.choice(states)["checkpoint"]["checkpoint_id"]}
        if chance.random() < 0.3:
            return await api.http.post(f"/threads/{thread}/fork", json=place)
        body = {
            **place,
            "thread_id": thread,
            "on_busy": "enqueue",
            "if_paused": "cancel",
            **({"message": "tell 2"} if chance.random() < 0.5 else {}),
        }
        return await api.http.post("/agent/runs", json=body)


async def test_killed_amid_messages_cancels_decisions_and_going_back_every_run_ends_once(
    tmp_path: Path,
) -> None:
    storm = Storm([f"t{number}" for number in range(4)])
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), ASSENT_MAX_RUNS="6") as server:
        async with asking(server) as api:
            await storm.over(server, api)
            for thread in storm.threads:
                runs = {run["run_id"]: run for run in await all_runs(api, thread)}
                assert {run["status"] for run in runs.values()} <= ENDED_WELL
                ends = Counter(
                    event["run_id"] for event in await api.events(thread) if event["type"] in ENDS
                )
                assert ends.keys() == runs.keys()
                # One that had paused, and was cancelled then, has two last words.
                assert all(
                    count == 1 or (count == 2 and runs[run_id]["status"] == "cancelled")
                    for run_id, count in ends.items()
                )
                storm.taken -= runs.keys()
                assert (await api.stream("tell 1", thread_id=thread))[-1]["type"] == "done"
            assert not storm.taken


async def test_whatever_state_one_goes_on_from_no_call_is_left_open(tmp_path: Path) -> None:
    """After a storm, states of the history are gone on from, on its thread and on a fork: a run asks
    about the calls that are open there, or ends without any, and the next message is not asked
    about an old one."""
    storm = Storm(["t0"])

    async def goes_on(api: Api, thread: str, state: Json) -> None:
        place = {"checkpoint_id": id_of(state)}
        response = await api.http.post(f"/threads/{thread}/fork", json=place)
        forked = (await expect(response, 201)).json()["thread_id"]
        head = await api.get(f"/threads/{forked}/state")
        if (await api.at_rest(forked))["status"] == "idle" and head["next"]:
            # A fork amid a turn runs nothing by itself.
            body = {"thread_id": forked, "checkpoint_id": id_of(head)}
            await expect(await api.http.post("/agent/runs", json=body), 202)
        await _brought_to_its_end(api, forked)
        assert {run["status"] for run in await all_runs(api, forked)} <= ENDED_WELL
        assert not open_ids(await api.get(f"/threads/{forked}/state"))
        assert (await api.stream("tell 1", thread_id=forked))[-1]["type"] == "done"

    with serving(tmp_path, scripted_agents(tmp_path, "agent"), ASSENT_MAX_RUNS="6") as server:
        async with asking(server) as api:
            await storm.over(server, api)
            for thread in storm.threads:
                states = await api.get(f"/threads/{thread}/history", limit=1000)
                assert not [state for state in states if not state["next"] and open_ids(state)]
                assert len(states) < 1000
                states = storm.some_of(states, 40)
                for at in range(0, len(states), 10):
                    some = states[at : at + 10]
                    await asyncio.gather(*(goes_on(api, thread, state) for state in some))
                for number, state in enumerate(states):
                    place = {"checkpoint_id": id_of(state)}
                    if number % 2:
                        # Without a message, and then one from the head that this led to.
                        body = {"thread_id": thread, **place}
                        await expect(await api.http.post("/agent/runs", json=body), 202)
                        await _brought_to_its_end(api, thread)
                        assert not open_ids(await api.get(f"/threads/{thread}/state"))
                        place = {}
                    # A message from the past takes the place of what was asked there.
                    events = await api.stream("tell 1", thread_id=thread, **place)
                    assert events[-1]["type"] == "done"


def id_of(state: Json) -> str:
    return str(state["checkpoint"]["checkpoint_id"])


def open_ids(state: Json) -> set[str]:
    """The ids of the calls that have no answer in a state of the history."""
    messages = state["values"].get("messages", [])
    asked = {call["id"] for message in messages for call in message.get("tool_calls") or ()}
    return asked - {message.get("tool_call_id") for message in messages}


async def _brought_to_its_end(api: Api, thread: str) -> None:
    """Reject whatever is asked, until nothing waits its turn any more."""
    async with asyncio.timeout(PATIENCE):
        while True:
            # Read first, or one that waits now could be running when it is not found any more.
            waits = await api.runs(thread, status="pending")
            found = await api.at_rest(thread)
            if found["status"] == "interrupted":
                await api.resume(thread, type="reject", all=True)
            elif not waits:
                return
            await asyncio.sleep(0.1)
