"""A run from a checkpoint of the thread's past, and forks to new threads: what was decided then
opens no gate now."""

from __future__ import annotations

from langgraph_sdk import schema

from tests.support.sdk import check_state, fields
from tests.support.server import Api, Json, Server, expect, only, problem, without_tokens

AGENTS = ("agent", "slow_agent", "asking", "foreign")


async def history(api: Api, thread: str) -> list[Json]:
    """The thread's states, oldest first."""
    return list((await api.get(f"/threads/{thread}/history", limit=1000))[::-1])


def id_of(state: Json) -> str:
    return str(state["checkpoint"]["checkpoint_id"])


def texts(values: Json) -> list[str]:
    return [str(message["content"]) for message in values.get("messages", ())]


async def before(api: Api, thread: str, node: str) -> str:
    """The first checkpoint at which this node is next."""
    return next(id_of(state) for state in await history(api, thread) if node in state["next"])


async def fork(api: Api, thread: str, **body: Json) -> Json:
    response = await expect(await api.http.post(f"/threads/{thread}/fork", json=body), 201)
    forked = response.json()
    assert response.headers["location"] == f"/threads/{forked['thread_id']}"
    assert forked.keys() >= fields(schema.Thread)
    return forked


# ── looking back ──────────────────────────────────────────────────────────────────────────────────


async def test_every_state_of_the_past_is_read(api: Api) -> None:
    await api.stream("look 1 then tell 2", thread_id="t")
    await api.stream("tell 3", thread_id="t")
    states = await history(api, "t")
    for state in states:
        found = await api.get("/threads/t/state", checkpoint_id=id_of(state))
        check_state(found, "t")
        assert (found["values"], found["checkpoint"]["checkpoint_id"]) == (
            state["values"],
            id_of(state),
        )
    assert await api.get("/threads/t/state") == states[-1]
    for wrong in ("nonsense", "1f0c5d3e-0000-6000-8000-000000000000"):
        await problem(await api.http.get("/threads/t/state", params={"checkpoint_id": wrong}), 404)
    await problem(await api.http.get("/threads/t/state", params={"checkpoint_id": ""}), 422)


# ── from the past, on the same thread ─────────────────────────────────────────────────────────────


async def test_a_message_goes_on_from_the_past(api: Api) -> None:
    await api.stream("tell 1", thread_id="t")
    past = id_of(await api.get("/threads/t/state"))
    await api.stream("tell 2", thread_id="t")
    for path in ("/agent/stream", "/agent/invoke"):
        await expect(
            await api.http.post(
                path, json={"message": "tell 3", "thread_id": "t", "checkpoint_id": past}
            ),
            200,
        )
        assert texts((await api.get("/threads/t"))["values"]) == [
            "tell 1",
            "word0",
            "tell 3",
            "word0 word1 word2",
        ]
    run = await api.run("t", "tell 1", checkpoint_id=past)
    assert (await api.ended(run["run_id"]))["status"] == "success"
    # What came after is still there to go back to.
    assert ["tell 1", "word0", "tell 2", "word0 word1"] in [
        texts(state["values"]) for state in await history(api, "t")
    ]


async def test_without_a_message_the_graph_goes_on_there_by_itself(
    server: Server, api: Api
) -> None:
    await api.stream("look 1 then tell 2", thread_id="t")
    calling = await before(api, "t", "tools")
    response = await api.http.post(
        "/agent/invoke", json={"thread_id": "t", "checkpoint_id": calling}
    )
    body = (await expect(response, 200)).json()
    assert (body["status"], body["output"]) == ("success", "word0 word1")
    assert server.traces() == ["look 1", "look 1"]
    # At a state behind which nothing comes, nothing does.
    end = id_of(await api.get("/threads/t/state"))
    body = (
        await api.http.post("/agent/invoke", json={"thread_id": "t", "checkpoint_id": end})
    ).json()
    assert (body["status"], body["output"]) == ("success", "word0 word1")
    assert server.traces() == ["look 1", "look 1"]


async def test_a_message_at_any_checkpoint_is_answered_with_a_history_that_a_provider_takes(
    api: Api,
) -> None:
    for agent in ("agent", "foreign"):
        await api.stream("tell 1", thread_id=agent, agent=agent)
        approvals = await api.paused(
            "look 1; pay 2 then look 3" if agent == "agent" else "look 1; pay 2", thread_id=agent
        )
        assert approvals
        await api.decided(agent, type="approve", all=True)
        await api.at_rest(agent)
        for state in await history(api, agent):
            response = await api.http.post(
                "/agent/invoke",
                json={"message": "tell 2", "thread_id": agent, "checkpoint_id": id_of(state)},
            )
            body = (await expect(response, 200)).json()
            assert (body["status"], body["output"]) == ("success", "word0 word1"), (
                agent,
                state["next"],
                body,
            )


async def test_what_was_decided_then_is_asked_again(server: Server, api: Api) -> None:
    (approval,) = await api.paused("pay 1", thread_id="t")
    await api.decided("t", type="approve")
    assert await api.last_words("t") == "Results: paid 1"
    for number, state in enumerate([state for state in await history(api, "t") if state["next"]]):
        response = await api.http.post(
            "/agent/invoke", json={"thread_id": "t", "checkpoint_id": id_of(state)}
        )
        body = (await expect(response, 200)).json()
        if any(message["type"] == "tool" for message in state["values"].get("messages", ())):
            # Behind the payment there is nothing left to ask for.
            assert body["status"] == "success"
            continue
        assert body["status"] == "interrupted", state["next"]
        (asked,) = body["approvals"]
        assert (asked["status"], asked["args"]) == ("pending", {"amount": 1})
        assert asked["approval_id"] != approval["approval_id"]
        assert server.traces() == ["pay 1"]
        # The old decision is no answer, under its own id or under the call's.
        await problem(
            await api.resume("t", decisions={approval["approval_id"]: {"type": "approve"}}), 409
        )
        await api.decided("t", type="reject", message=f"not again ({number})")
        assert f"not again ({number})" in await api.last_words("t")
    assert server.traces() == ["pay 1"]
    assert (await api.approval(approval["approval_id"]))["status"] == "approved"


async def test_on_a_thread_that_waits_one_says_what_becomes_of_the_question(
    server: Server, api: Api
) -> None:
    await api.stream("tell 1", thread_id="t")
    past = id_of(await api.get("/threads/t/state"))
    (approval,) = await api.paused("pay 1", thread_id="t")
    body = await problem(
        await api.http.post(
            "/agent/runs", json={"message": "tell 2", "thread_id": "t", "checkpoint_id": past}
        ),
        409,
    )
    assert body["approvals"] == [approval]
    refused = await api.http.post(
        "/agent/runs",
        json={
            "message": "tell 2",
            "thread_id": "t",
            "checkpoint_id": past,
            "if_paused": "reject",
        },
    )
    await problem(refused, 422)
    events = await api.stream("tell 2", thread_id="t", checkpoint_id=past, if_paused="cancel")
    assert without_tokens(events) == ["run_start", "done"]
    assert (await api.approval(approval["approval_id"]))["status"] == "cancelled"
    assert texts((await api.get("/threads/t"))["values"]) == [
        "tell 1",
        "word0",
        "tell 2",
        "word0 word1",
    ]
    assert server.traces() == []


async def test_a_checkpoint_that_is_not_there_starts_nothing(api: Api) -> None:
    await api.stream("tell 1", thread_id="t")
    await api.stream("tell 1", thread_id="other")
    others = id_of(await api.get("/threads/other/state"))
    before = await api.events("t")
    for wrong in ("nonsense", others):
        for path in ("/agent/stream", "/agent/invoke"):
            await problem(
                await api.http.post(
                    path, json={"message": "tell 2", "thread_id": "t", "checkpoint_id": wrong}
                ),
                404,
            )
        for thread in ("t", "new"):
            body = {"thread_id": thread, "checkpoint_id": wrong}
            await problem(await api.http.post("/agent/runs", json=body), 404)
        await problem(await api.http.post("/threads/t/fork", json={"checkpoint_id": wrong}), 404)
    await problem(
        await api.http.post("/agent/stream", json={"message": "tell 2", "checkpoint_id": others}),
        422,
    )
    assert await api.events("t") == before
    assert {thread["thread_id"] for thread in (await api.get("/threads"))["threads"]} == {
        "t",
        "other",
    }


async def test_killed_while_it_goes_on_from_the_past_it_goes_on_from_there(
    server: Server, api: Api
) -> None:
    await api.stream("tell 1", thread_id="t", agent="slow_agent")
    past = id_of(await api.get("/threads/t/state"))
    await api.stream("tell 2", thread_id="t")
    last = len(await api.events("t"))
    await api.run("t", "look 5 then tell 60", checkpoint_id=past)
    await api.until("t", "tool_end", after=last)
    server.restart()
    assert (await api.last_words("t")).endswith("word59")
    contents = texts((await api.get("/threads/t"))["values"])
    assert contents[:3] == ["tell 1", "word0", "look 5 then tell 60"]
    assert "tell 2" not in contents


# ── to a new thread ───────────────────────────────────────────────────────────────────────────────


async def test_a_fork_is_a_thread_of_its_own(api: Api) -> None:
    await api.stream("tell 1", thread_id="t")
    past = id_of(await api.get("/threads/t/state"))
    await api.stream("tell 2", thread_id="t")
    as_it_was = await api.get("/threads/t")
    forked = await fork(api, "t", checkpoint_id=past, thread_id="f", metadata={"why": "to try"})
    assert (forked["thread_id"], forked["status"]) == ("f", "idle")
    assert forked["metadata"].items() >= {"why": "to try", "graph_id": "agent"}.items()
    assert texts(forked["values"]) == ["tell 1", "word0"]
    assert (await api.stream("tell 3", thread_id="f"))[-1]["type"] == "done"
    assert texts((await api.get("/threads/f"))["values"]) == [
        "tell 1",
        "word0",
        "tell 3",
        "word0 word1 word2",
    ]
    assert await api.get("/threads/t") == as_it_was
    # Its head, and an id that the server chooses, if nothing is said.
    other = (await api.http.post("/threads/t/fork")).json()
    assert texts(other["values"]) == texts(as_it_was["values"])
    assert (await api.events("f"))[0]["seq"] == 1
    # The old thread may go.
    await expect(await api.http.delete("/threads/t"), 204)
    assert texts((await api.get("/threads/f"))["values"])[0] == "tell 1"


async def test_a_fork_asks_anew_and_decides_for_itself(server: Server, api: Api) -> None:
    (approval,) = await api.paused("pay 1", thread_id="t")
    open_fork = await fork(api, "t", thread_id="open")
    await api.decided("t", type="approve")
    assert await api.last_words("t") == "Results: paid 1"
    asked_at = await before(api, "t", "approval")
    late_fork = await fork(api, "t", checkpoint_id=asked_at, thread_id="late")
    for forked in (open_fork, late_fork):
        assert forked["status"] == "interrupted"
        (question,) = await api.pending(forked["thread_id"])
        assert (question["args"], question["tool"], question["status"]) == (
            {"amount": 1},
            "pay",
            "pending",
        )
        assert question["approval_id"] != approval["approval_id"]
        assert question["thread_id"] == forked["thread_id"]
        events = await api.events(forked["thread_id"])
        assert without_tokens(events) == ["run_start", "approval_required", "run_paused"]
        assert only(events, "approval_required")["approval_id"] == question["approval_id"]
        await problem(
            await api.resume(
                forked["thread_id"], decisions={approval["approval_id"]: {"type": "approve"}}
            ),
            404,
        )
    assert server.traces() == ["pay 1"]
    await api.decided("open", type="reject", message="not here")
    assert "not here" in await api.last_words("open")
    await api.decided("late", type="edit", args={"amount": 2})
    assert "paid 2" in await api.last_words("late")
    assert server.traces() == ["pay 1", "pay 2"]


async def test_a_fork_from_behind_a_decision_asks_again(server: Server, api: Api) -> None:
    await api.paused("pay 1; pay 2", thread_id="t")
    await api.decided("t", type="approve", all=True)
    await api.last_words("t")
    decided_at = await before(api, "t", "tools")
    forked = await fork(api, "t", checkpoint_id=decided_at)
    assert [question["args"] for question in await api.pending(forked["thread_id"])] == [
        {"amount": 1},
        {"amount": 2},
    ]
    assert sorted(server.traces()) == ["pay 1", "pay 2"]


async def test_forks_of_graphs_of_somebody_elses(server: Server, api: Api) -> None:
    await api.paused("Which?; When?", thread_id="t", agent="asking")
    forked = await fork(api, "t")
    # It is a node that asks, and none runs by itself in a fork.
    assert (forked["status"], forked["approvals"]) == ("idle", [])
    head = id_of(await api.get(f"/threads/{forked['thread_id']}/state"))
    response = await api.http.post(
        "/agent/invoke", json={"thread_id": forked["thread_id"], "checkpoint_id": head}
    )
    assert (await expect(response, 200)).json()["status"] == "interrupted"
    questions = await api.pending(forked["thread_id"])
    assert sorted(question["args"]["question"] for question in questions) == ["When?", "Which?"]
    decisions = {
        question["approval_id"]: {"type": "respond", "message": "x"} for question in questions
    }
    await api.decided(forked["thread_id"], decisions=decisions)
    await api.at_rest(forked["thread_id"])
    assert len(server.traces("answered")) == 2
    assert len(await api.pending("t")) == 2
    await api.paused("pay 1", thread_id="u", agent="foreign")
    await api.decided("u", type="approve")
    await api.at_rest("u")
    again = await fork(api, "u", checkpoint_id=await before(api, "u", "tools"))
    assert again["status"] == "interrupted"
    assert server.traces("pay") == ["pay 1"]


async def test_a_fork_amid_a_turn_is_gone_on_with_from_its_head(server: Server, api: Api) -> None:
    await api.stream("look 1 then tell 2", thread_id="t")
    forked = await fork(api, "t", checkpoint_id=await before(api, "t", "tools"), thread_id="f")
    assert forked["status"] == "idle"
    assert server.traces() == ["look 1"]
    head = id_of(await api.get("/threads/f/state"))
    body = {"thread_id": "f", "checkpoint_id": head}
    response = await api.http.post("/agent/runs", json=body)
    run = (await expect(response, 202)).json()
    assert (await api.ended(run["run_id"]))["status"] == "success"
    assert await api.last_words("f") == "word0 word1"
    assert server.traces() == ["look 1", "look 1"]


async def test_what_cannot_be_forked(api: Api) -> None:
    await api.stream("tell 1", thread_id="t")
    await api.http.post("/threads", json={"thread_id": "empty"})
    await problem(await api.http.post("/threads/nobody/fork"), 404)
    await problem(await api.http.post("/threads/empty/fork"), 422)
    for taken in ("t", "empty"):
        body = await problem(await api.http.post("/threads/t/fork", json={"thread_id": taken}), 409)
        assert taken in body["detail"]
    for wrong in (
        {"thread_id": "a b"},
        {"checkpoint": "x"},
        {"metadata": 1},
        {"checkpoint_id": ""},
    ):
        await problem(await api.http.post("/threads/t/fork", json=wrong), 422)
    assert {thread["thread_id"] for thread in (await api.get("/threads"))["threads"]} == {
        "t",
        "empty",
    }


async def test_a_fork_that_is_acknowledged_outlives_the_process(server: Server, api: Api) -> None:
    await api.paused("pay 1", thread_id="t")
    forked = await fork(api, "t")
    server.restart()
    assert (await api.get(f"/threads/{forked['thread_id']}"))["status"] == "interrupted"
    await api.decided(forked["thread_id"], type="approve")
    assert await api.last_words(forked["thread_id"]) == "Results: paid 1"
    assert server.traces() == ["pay 1"]
