"""A run is cancelled at any point: it ends as `cancelled`, and the thread takes new input.

The model of `agents.py` refuses a history that no provider would accept, so an answer shows that it
was sound.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.server import Api, Json, Server, only, problem, types_of
from tests.support.waiting import until

AGENTS = ("agent", "slow_agent", "asking", "foreign", "stopping")


async def takes_input(api: Api, thread: str) -> None:
    """The thread is at rest, and the agent answers there with a history that a provider takes."""
    found = await api.at_rest(thread)
    assert (found["status"], found["approvals"], found["interrupts"]) == ("idle", [], {})
    assert (await api.get(f"/threads/{thread}/state"))["next"] == []
    assert (await api.stream("tell 2", thread_id=thread))[-1]["type"] == "done"
    assert await api.last_words(thread) == "word0 word1"


async def is_cancelled(api: Api, run_id: str) -> Json:
    """The run, which ends as cancelled, and whose last event says so."""
    run = await api.ended(run_id)
    assert (run["status"], run["error"]) == ("cancelled", None)
    assert run["ended_at"] is not None
    events = [event for event in await api.events(run["thread_id"]) if event["run_id"] == run_id]
    assert events[-1]["type"] == "run_cancelled"
    return run


def tool_answers(thread: Json) -> list[str]:
    return [
        message["content"] for message in thread["values"]["messages"] if message["type"] == "tool"
    ]


# ── where a run can be ────────────────────────────────────────────────────────────────────────────


async def test_amid_what_the_model_says(api: Api) -> None:
    run = await api.run("t", "tell 400", agent="slow_agent")
    assert (run["status"], run["thread_id"]) == ("running", "t")
    await api.until("t", "token")
    (asked,) = await api.cancel(f"/runs/{run['run_id']}")
    assert (asked["run_id"], asked["status"]) == (run["run_id"], "cancelling")
    await is_cancelled(api, run["run_id"])
    assert types_of(await api.events("t")).count("token") < 300
    await takes_input(api, "t")


async def test_before_its_first_step(api: Api) -> None:
    for number in range(5):
        run = await api.run(f"t{number}", "tell 400", agent="slow_agent")
        await api.cancel(f"/runs/{run['run_id']}")
        await is_cancelled(api, run["run_id"])
        await takes_input(api, f"t{number}")


async def test_in_a_tool(server: Server, api: Api) -> None:
    await api.paused("slow 5", thread_id="t")
    decided = await api.decided("t", type="approve")
    await server.until_traced("slow 5")
    (asked,) = await api.cancel("/threads/t", wait=True)
    assert (asked["run_id"], asked["status"]) == (decided["run_id"], "cancelled")
    thread = await api.get("/threads/t")
    assert thread["status"] == "idle"
    # The model is told that it may have happened, since nobody knows.
    (answer,) = tool_answers(thread)
    assert "may or may not have happened" in answer
    await takes_input(api, "t")
    assert server.traces() == ["slow 5"]


async def test_in_a_tool_that_nothing_cuts_off(server: Server, api: Api) -> None:
    """A thread goes on when its task is cancelled, and until it has ended the run has not."""
    run = await api.run("t", "hold 5")
    await server.until_traced("hold 5")
    assert [each["status"] for each in await api.cancel("/threads/t")] == ["cancelling"]
    # A run that is cancelled after it has ended before it.
    other = await api.run("other", "tell 400", agent="slow_agent")
    await api.cancel("/threads/other")
    await is_cancelled(api, other["run_id"])
    assert (await api.get(f"/runs/{run['run_id']}"))["status"] == "cancelling"
    assert (await api.get("/threads/t"))["status"] == "busy"
    await problem(
        await api.http.post("/agent/stream", json={"message": "tell 1", "thread_id": "t"}), 409
    )
    # Nor does asking again change anything.
    assert [each["status"] for each in await api.cancel(f"/runs/{run['run_id']}")] == ["cancelling"]
    assert [each["status"] for each in await api.cancel("/threads/t", mode="rollback")] == [
        "cancelling"
    ]
    server.let_go(5)
    await is_cancelled(api, run["run_id"])
    # It was told that what it did is kept, so a rollback that was asked for later does not take it
    # away.
    assert not only(await api.events("t"), "run_cancelled").get("rolled_back")
    assert (await api.get("/threads/t"))["values"]["messages"][0]["content"] == "hold 5"
    assert server.traces() == ["hold 5", "held 5"]
    (answer,) = tool_answers(await api.get("/threads/t"))
    assert answer == "held 5" or "may or may not have happened" in answer
    await takes_input(api, "t")


async def test_among_parallel_tools(server: Server, api: Api) -> None:
    await api.paused("pay 1; slow 2; look 3; slow 4", thread_id="t")
    await api.decided("t", type="approve", all=True)
    await server.until_traced("pay 1", "slow 2", "look 3", "slow 4")
    server.let_go(4)

    async def three_have_ended() -> bool:
        return types_of(await api.events("t")).count("tool_end") == 3

    await until(three_have_ended)
    (run,) = await api.cancel("/threads/t")
    await is_cancelled(api, run["run_id"])
    answers = tool_answers(await api.get("/threads/t"))
    (unknown,) = [answer for answer in answers if "may or may not have happened" in answer]
    assert sorted(answer for answer in answers if answer != unknown) == [
        "paid 1",
        "saw 3",
        "slowly paid 4",
    ]
    await takes_input(api, "t")


async def test_while_a_person_is_asked(server: Server, api: Api) -> None:
    approvals = await api.paused("pay 1; pay 2", thread_id="t")
    await api.decided("t", decisions={approvals[0]["approval_id"]: {"type": "approve"}})
    (run,) = await api.cancel("/threads/t", wait=True)
    assert run["status"] == "cancelled"
    events = await api.events("t")
    dropped = only(events, "approval_cancelled")
    assert (dropped["approval_id"], dropped["by"]) == (approvals[1]["approval_id"], "local")
    assert events[-1]["type"] == "run_cancelled"
    assert [(await api.approval(each["approval_id"]))["status"] for each in approvals] == [
        "approved",
        "cancelled",
    ]
    # It is too late to decide, and nothing of it ever runs.
    await problem(await api.resume("t", type="approve"), 409)
    await takes_input(api, "t")
    assert server.traces() == []


async def test_while_a_graph_of_somebody_elses_asks(server: Server, api: Api) -> None:
    for agent, message in (
        ("asking", "Which?; When?"),
        ("foreign", "pay 1; look 2"),
        ("stopping", "the news"),
    ):
        await api.paused(message, thread_id=agent, agent=agent)
        (run,) = await api.cancel(f"/threads/{agent}")
        await is_cancelled(api, run["run_id"])
        found = await api.at_rest(agent)
        assert (found["status"], found["approvals"]) == ("idle", [])
        assert (await api.get(f"/threads/{agent}/state"))["next"] == []
    await takes_input(api, "foreign")
    assert server.traces() == []


async def test_while_it_waits_its_turn(server: Server, api: Api) -> None:
    first = await api.run("t", "hold 5")
    queued = [await api.run("t", f"look {number}", on_busy="enqueue") for number in (1, 2)]
    assert [run["status"] for run in queued] == ["pending", "pending"]
    (stopped,) = await api.cancel(f"/runs/{queued[0]['run_id']}")
    assert stopped["status"] == "cancelled"
    await is_cancelled(api, queued[0]["run_id"])
    server.let_go(5)
    assert (await api.ended(first["run_id"]))["status"] == "success"
    assert (await api.ended(queued[1]["run_id"]))["status"] == "success"
    assert server.traces() == ["hold 5", "held 5", "look 2"]


async def test_all_that_is_on_a_thread_but_what_is_to_start_later(server: Server, api: Api) -> None:
    running = await api.run("t", "slow 1 then look 5", agent="slow_agent")
    queued = await api.run("t", "look 1", on_busy="enqueue")
    later = await api.run("t", "look 2", after_seconds=3600)
    stopped = await api.cancel("/threads/t")
    assert {run["run_id"] for run in stopped} == {running["run_id"], queued["run_id"]}
    for run in stopped:
        await is_cancelled(api, run["run_id"])
    assert (await api.get(f"/runs/{later['run_id']}"))["status"] == "pending"
    await api.cancel(f"/runs/{later['run_id']}")
    await is_cancelled(api, later["run_id"])
    assert "look 1" not in server.traces()


# ── what cannot be cancelled ──────────────────────────────────────────────────────────────────────


async def test_a_run_that_has_ended(api: Api) -> None:
    for thread, message, status in (("done", "tell 1", "success"), ("failed", "boom", "error")):
        run = await api.run(thread, message)
        await api.ended(run["run_id"])
        body = await problem(await api.http.post(f"/runs/{run['run_id']}/cancel"), 409)
        assert body["run_status"] == status
        assert f"'{status}'" in body["detail"]
        assert body["ended_at"]
        assert (await api.get(f"/runs/{run['run_id']}"))["status"] == status
        # Of a thread one asks for rest, and it has it.
        assert await api.cancel(f"/threads/{thread}") == []


async def test_a_pause_that_was_decided(api: Api) -> None:
    """The run that paused has ended; it is the one that went on which may be cancelled."""
    run = await api.run("t", "pay 1")
    await api.ended(run["run_id"])
    await api.decided("t", type="approve")
    await api.last_words("t")
    body = await problem(await api.http.post(f"/runs/{run['run_id']}/cancel"), 409)
    assert body["run_status"] == "interrupted"


async def test_nothing_that_there_is(api: Api) -> None:
    await problem(await api.http.post("/runs/nobody/cancel"), 404)
    await problem(await api.http.post("/threads/nobody/cancel"), 404)
    for body in ({"mode": "kill"}, {"action": "interrupt"}, {"wait": "long"}):
        await problem(await api.http.post("/threads/nobody/cancel", json=body), 422)


async def test_twice_is_as_good_as_once(api: Api) -> None:
    run = await api.run("t", "tell 400", agent="slow_agent")
    await api.until("t", "token")
    answers = await asyncio.gather(*(api.cancel(f"/runs/{run['run_id']}") for _ in range(10)))
    assert {each["status"] for (each,) in answers} <= {"cancelling", "cancelled"}
    ended = await is_cancelled(api, run["run_id"])
    assert await api.cancel(f"/runs/{run['run_id']}") == [ended]
    assert types_of(await api.events("t")).count("run_cancelled") == 1


# ── undone ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_rollback_restores_the_state(server: Server, api: Api) -> None:
    await api.stream("look 1 then tell 2", thread_id="t")
    before = (await api.get("/threads/t"))["values"]
    run = await api.run("t", "look 2 then hold 5")
    await server.until_traced("hold 5")
    assert len((await api.get("/threads/t"))["values"]["messages"]) > len(before["messages"])
    (asked,) = await api.cancel("/threads/t", mode="rollback")
    assert asked["status"] == "cancelling"
    server.let_go(5)
    await is_cancelled(api, run["run_id"])
    assert (await api.get("/threads/t"))["values"] == before
    assert (
        only(
            [event for event in await api.events("t") if event["run_id"] == run["run_id"]],
            "run_cancelled",
        )["rolled_back"]
        is True
    )
    await takes_input(api, "t")


async def test_a_rollback_of_the_first_run_leaves_nothing(server: Server, api: Api) -> None:
    run = await api.run("t", "look 2 then hold 5")
    await server.until_traced("hold 5")
    await api.cancel("/threads/t", mode="rollback")
    server.let_go(5)
    await is_cancelled(api, run["run_id"])
    assert not (await api.get("/threads/t"))["values"]
    await takes_input(api, "t")
    assert [
        message["content"] for message in (await api.get("/threads/t"))["values"]["messages"]
    ] == ["tell 2", "word0 word1"]


async def test_a_rollback_of_a_pause(server: Server, api: Api) -> None:
    await api.stream("tell 2", thread_id="t")
    before = (await api.get("/threads/t"))["values"]
    await api.paused("look 1 then pay 5", thread_id="t")
    await api.cancel("/threads/t", mode="rollback", wait=True)
    assert (await api.get("/threads/t"))["values"] == before
    await takes_input(api, "t")
    assert server.traces() == ["look 1"]


async def test_a_rollback_of_a_run_from_the_past_goes_back_to_where_the_thread_was(
    server: Server, api: Api
) -> None:
    await api.stream("tell 1", thread_id="t")
    past = (await api.get("/threads/t/state"))["checkpoint"]["checkpoint_id"]
    await api.stream("tell 2", thread_id="t")
    before = (await api.get("/threads/t"))["values"]
    await api.run("t", "look 1 then hold 5", checkpoint_id=past)
    await server.until_traced("hold 5")
    await api.cancel("/threads/t", mode="rollback")
    server.let_go(5)
    assert (await api.at_rest("t"))["values"] == before
    await takes_input(api, "t")


# ── a crash ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["interrupt", "rollback"])
async def test_killed_right_after_a_cancel_was_acknowledged_it_ends_cancelled(
    server: Server, api: Api, mode: str
) -> None:
    """In the model, in a tool, at the approval, and in the queue; and what was not cancelled goes
    on."""
    await api.stream("tell 1", thread_id="tool")
    before = (await api.get("/threads/tool"))["values"]
    await api.paused("slow 1", thread_id="tool")
    tool = (await api.decided("tool", type="approve"))["run_id"]
    model = (await api.run("model", "tell 400", agent="slow_agent"))["run_id"]
    asked = (await api.run("asked", "pay 3"))["run_id"]
    await api.ended(asked)
    await api.run("queue", "slow 4", agent="agent")
    queued = (await api.run("queue", "look 5", if_paused="wait", on_busy="enqueue"))["run_id"]
    await api.until("model", "token")
    await server.until_traced("slow 1")
    runs = [tool, model, asked, queued]
    answers = await asyncio.gather(
        *(api.http.post(f"/runs/{run_id}/cancel", json={"mode": mode}) for run_id in runs)
    )
    server.kill()
    assert {answer.status_code for answer in answers} <= {200, 202}
    server.start()
    for run_id in runs:
        await is_cancelled(api, run_id)
    if mode == "rollback":
        # What comes back is the thread before the decision: the call that waited is answered, as
        # one that may have happened.
        assert (await api.get("/threads/tool"))["values"]["messages"][
            : len(before["messages"])
        ] == before["messages"]
    for thread in ("tool", "model", "asked"):
        await takes_input(api, thread)
    assert server.traces() == ["slow 1"]
    # A thread that waits for a person is not touched by the cancelling of what waits behind.
    assert [approval["args"] for approval in await api.pending("queue")] == [{"amount": 4}]


async def test_the_first_word_counts_after_a_crash_too(server: Server, api: Api) -> None:
    run = await api.run("t", "hold 5")
    await server.until_traced("hold 5")
    await api.cancel("/threads/t")
    await api.cancel("/threads/t", mode="rollback")
    server.restart()
    await is_cancelled(api, run["run_id"])
    assert (await api.get("/threads/t"))["values"]["messages"][0]["content"] == "hold 5"
    await takes_input(api, "t")
