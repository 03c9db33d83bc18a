"""Several people over HTTP: roles, quorum, time, handing over, grants, the feed, and the same
answer to the same key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from assent.cli.app import app
from tests.support.agui import AgUiClient
from tests.support.secrets import keys_of
from tests.support.server import (
    Api,
    Server,
    asking_as,
    events_of,
    expect,
    problem,
    scripted_agents,
    serving,
    types_of,
    without_tokens,
)

NAMES = ("ann", "bob", "cy", "dee")
KEYS = keys_of(*NAMES)

CONFIGURATION = """
[people]
bob = {roles = ["lead"]}
cy = {roles = ["lead"]}
dee = {roles = ["boss"]}

[policies.agents.agent.tools.slow]
roles = ["lead"]
quorum = 2
risk = "high"

[policies.agents.agent.tools.die]
roles = ["lead"]
timeout = "3s"
reminders = [1.5]
on_timeout = "escalate"
escalation = [{roles = ["boss"], timeout = "3s"}]

[policies.agents.chat_agent]
risk = "low"

[policies.agents.chat_agent.tools.slow]
quorum = 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("people")
    (folder / "assent.toml").write_text(CONFIGURATION)
    environment = {
        "ASSENT_API_KEYS": KEYS,
        "ASSENT_DEFAULT_ROLES": "operator,approver,auditor",
        "ASSENT_CONFIG": str(folder / "assent.toml"),
    }
    with serving(folder, scripted_agents(folder, "agent", "chat_agent"), **environment) as server:
        yield server


@pytest.fixture
async def people(server: Server) -> AsyncIterator[dict[str, Api]]:
    """A client for each of them."""
    async with asking_as(server, *NAMES) as people:
        yield people


APPROVE = {"type": "approve"}


async def decide(
    api: Api, approval: dict[str, Any], body: dict[str, Any], status: int = 202, **headers: str
) -> dict[str, Any]:
    response = await api.http.post(
        f"/approvals/{approval['approval_id']}/decide", json=body, headers=headers
    )
    return (
        (await expect(response, 202)).json() if status == 202 else await problem(response, status)
    )


async def act(api: Api, approval: dict[str, Any], verb: str, **body: Any) -> dict[str, Any]:
    response = await api.http.post(f"/approvals/{approval['approval_id']}/{verb}", json=body)
    assert response.status_code in (200, 201), response.text
    return dict(response.json())


async def test_it_takes_two_leads_and_not_the_one_who_asked(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    server.let_go(amount)
    (approval,) = await people["bob"].paused(f"slow {amount}", thread_id=thread)
    assert (approval["risk"], approval["quorum"], approval["four_eyes"], approval["roles"]) == (
        "high",
        2,
        True,
        ["lead"],
    )
    assert approval["requested_by"] == ["bob"]
    assert approval["conversation"] == {"asked": f"slow {amount}", "model_wrote": "On it."}
    await decide(people["ann"], approval, APPROVE, 403)
    await decide(people["bob"], approval, APPROVE, 403)
    first = await decide(people["cy"], approval, APPROVE)
    assert (first["status"], first["run_id"], first["pending"]) == (
        "interrupted",
        None,
        [approval["approval_id"]],
    )
    (voted,) = (await people["ann"].approval(approval["approval_id"]))["votes"]
    assert voted["by"] == "cy"
    # There are two leads, and one of them asked. So he who may not decide cannot hand his say over;
    # cy can take his back, and does.
    await problem(
        await people["bob"].http.post(
            f"/approvals/{approval['approval_id']}/delegate", json={"to": "ann"}
        ),
        403,
    )
    assert (await act(people["cy"], approval, "withdraw"))["votes"] == []
    await decide(people["cy"], approval, {"type": "reject", "message": "No second lead."})
    assert "No second lead." in await people["ann"].last_words(thread)
    assert server.traces(f"slow {amount}") == []


async def test_a_vote_by_agui_says_who_is_still_needed(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    server.let_go(amount)
    client = AgUiClient(people["ann"].http, "chat_agent", thread)
    await client.run(f"slow {amount}")
    (asked,) = client.interrupts
    told = await client.answer({"approved": True})
    assert told[-1]["outcome"]["type"] == "interrupt"
    (left,) = client.interrupts
    assert left["id"] == asked["id"]
    assert left["message"].endswith("ann agreed, and it takes 1 more.")
    assert server.traces(f"slow {amount}") == []

    (approval,) = await people["bob"].pending(thread)
    await decide(people["bob"], approval, APPROVE)
    assert await people["ann"].last_words(thread) == f"Results: slowly paid {amount}"
    # Whoever comes back is shown what has become of it.
    told = await client.run()
    assert told[-1]["outcome"] == {"type": "success"}
    assert client.texts[-1] == ("assistant", f"Results: slowly paid {amount}")


async def test_the_second_vote_lets_it_run(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    server.let_go(amount)
    (approval,) = await people["ann"].paused(f"slow {amount}", thread_id=thread)
    await act(people["dee"], approval, "comment", text="Is this right?")
    await decide(people["bob"], approval, {**APPROVE, "digest": approval["digest"]})
    await decide(people["bob"], approval, {**APPROVE, "digest": "0" * 64}, 409)
    second = await decide(people["cy"], approval, APPROVE)
    assert second["run_id"] is not None
    assert await people["ann"].last_words(thread) == f"Results: slowly paid {amount}"
    story = without_tokens(await people["ann"].events(thread))
    assert [kind for kind in story if kind.startswith("approval_")] == [
        *("approval_required", "approval_commented", "approval_voted", "approval_decided")
    ]
    assert server.traces(f"slow {amount}") == [f"slow {amount}"]


async def test_a_word_of_consent_is_a_vote_where_several_must_agree(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    server.let_go(amount)
    await people["ann"].paused(f"slow {amount}", thread_id=thread, agent="chat_agent")
    said = {"message": "yes", "thread_id": thread}
    first = await problem(await people["ann"].http.post("/agent/invoke", json=said), 409)
    assert first["detail"].startswith(
        "Your message was taken as your vote, and others must agree before anything runs. The thread"
    )
    assert [vote["by"] for vote in first["approvals"][0]["votes"]] == ["ann"]
    # Bob decides, and still has nothing to say on ann's thread.
    await problem(await people["bob"].http.post("/agent/invoke", json=said), 404)
    await decide(people["bob"], first["approvals"][0], APPROVE)
    await people["ann"].at_rest(thread)
    assert server.traces(f"slow {amount}") == [f"slow {amount}"]


async def test_what_follows_from_a_decision_is_still_asked_for_whoever_began_it(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    await people["bob"].stream("tell 1", thread_id=thread)
    (first,) = await people["bob"].paused(f"pay {amount} then slow {amount}", thread_id=thread)
    await decide(people["cy"], first, APPROVE)
    await people["bob"].at_rest(thread)
    (second,) = await people["ann"].pending(thread)
    assert first["requested_by"] == second["requested_by"] == ["bob"]
    await decide(people["bob"], second, APPROVE, 403)
    await act(people["cy"], second, "delegate", role="boss")
    assert [
        each["approval_id"] for each in await found(people["dee"], role="boss", thread_id=thread)
    ] == [second["approval_id"]]
    await decide(people["dee"], second, {"type": "reject"})


async def test_an_edit_is_for_another_to_approve_with_its_digest(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    server.let_go(amount, amount + 500_000)
    (approval,) = await people["ann"].paused(f"slow {amount}", thread_id=thread)
    edited = await decide(
        people["bob"], approval, {"type": "edit", "args": {"amount": amount + 500_000}}
    )
    edit = edited["decisions"][approval["approval_id"]]["edit"]
    assert (edit["by"], edit["args"]) == ("bob", {"amount": amount + 500_000})
    # What is asked now is shown everywhere alike.
    (listed,) = await found(people["ann"], thread_id=thread)
    (of_thread,) = (await people["ann"].get(f"/threads/{thread}"))["approvals"]
    (of_state,) = (await people["ann"].get(f"/threads/{thread}/state"))["approvals"]
    stored = await people["ann"].approval(approval["approval_id"])
    for shown in (
        edited["decisions"][approval["approval_id"]],
        listed,
        of_thread,
        of_state,
        stored,
    ):
        assert (shown["args"], shown["digest"]) == (edit["args"], edit["digest"])
        assert shown["asked_first"] == {"args": {"amount": amount}, "digest": approval["digest"]}
    assert approval["asked_first"] is None
    stale = await decide(people["cy"], approval, APPROVE, 409)
    assert stale["digest"] == edit["digest"]
    await decide(people["cy"], approval, {**APPROVE, "digest": edit["digest"]})
    # An editor is in the place of whoever asked, so there is nobody else, and it waits.
    assert (await people["ann"].approval(approval["approval_id"]))["status"] == "pending"
    await act(people["cy"], approval, "delegate", to="dee")
    await decide(people["cy"], approval, APPROVE, 403)
    await decide(people["dee"], approval, {"type": "reject", "message": "Enough."})
    assert "Enough." in await people["ann"].last_words(thread)
    assert server.traces(f"slow {amount}") == []


async def test_time_reminds_escalates_and_rejects(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    (approval,) = await people["ann"].paused(f"die {amount}", thread_id=thread)
    asked_at = datetime.fromisoformat(approval["requested_at"])
    await people["ann"].until(thread, "approval_escalated")
    await decide(people["ann"], approval, {"type": "reject"}, 403)
    events = await people["ann"].until(thread, "approval_expired")
    told = [
        (event["type"], datetime.fromisoformat(event["ts"]) - asked_at)
        for event in events
        if event["type"].startswith("approval_")
    ]
    kinds = [
        *(
            "approval_required",
            "approval_reminder",
            "approval_escalated",
            "approval_reminder",
            "approval_expired",
        )
    ]
    assert [kind for kind, _ in told] == kinds
    for (_, after), due in zip(told, (0, 1.5, 3, 4.5, 6), strict=True):
        assert timedelta(seconds=due) <= after < timedelta(seconds=due + 20)
    assert "Nobody decided in time." in await people["ann"].last_words(thread)
    lost = await decide(people["bob"], approval, APPROVE, 409)
    assert (lost["outcome"], lost["decided_by"]) == ("expired", None)
    assert server.traces(f"die {amount}") == []


async def test_who_was_escalated_to_may_decide(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    (approval,) = await people["ann"].paused(f"die {amount}", thread_id=thread)
    await decide(people["dee"], approval, {"type": "reject"}, 403)
    await people["ann"].until(thread, "approval_escalated")
    assert [
        each["approval_id"] for each in await found(people["dee"], role="boss", thread_id=thread)
    ] == [approval["approval_id"]]
    await decide(people["dee"], approval, {"type": "reject", "message": "Not today."})
    assert "Not today." in await people["ann"].last_words(thread)


async def test_a_deadline_that_passed_while_the_server_was_down_is_kept_at_its_start(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    (_approval,) = await people["ann"].paused(f"die {amount}", thread_id=thread)
    server.kill()
    await asyncio.sleep(3.2)
    server.start()
    events = await people["ann"].until(thread, "approval_expired")
    # Its time begins when somebody is asked, so the second step has all of its time.
    told = {event["type"]: datetime.fromisoformat(event["ts"]) for event in events}
    assert told["approval_expired"] - told["approval_escalated"] >= timedelta(seconds=3)
    assert types_of(events).count("approval_escalated") == 1
    assert "Nobody decided in time." in await people["ann"].last_words(thread)


# ── finding ───────────────────────────────────────────────────────────────────────────────────────


async def found(api: Api, **wanted: Any) -> list[dict[str, Any]]:
    approvals: list[dict[str, Any]] = (await api.get("/approvals", **wanted))["approvals"]
    return approvals


async def test_approvals_are_found_by_what_they_are_and_for_whom(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    api = people["ann"]
    pay, slow = await api.paused(f"pay {amount}; slow {amount}", thread_id=thread)
    mine = {"thread_id": thread, "status": "pending"}
    assert [each["tool"] for each in await found(api, **mine)] == ["pay", "slow"]
    for wanted, ids in (
        ({"tool": "slow"}, [slow]),
        ({"role": "lead"}, [slow]),
        ({"role": "boss"}, []),
        ({"agent": "agent"}, [pay, slow]),
        ({"agent": "chat_agent"}, []),
        ({"assignee": "dee"}, []),
        ({"older_than": "1h"}, []),
        ({"older_than": "0"}, [pay, slow]),
    ):
        assert [each["approval_id"] for each in await found(api, **mine, **wanted)] == [
            each["approval_id"] for each in ids
        ], wanted
    await act(people["bob"], slow, "delegate", to="dee")
    assert [each["approval_id"] for each in await found(api, **mine, assignee="dee")] == [
        slow["approval_id"]
    ]
    await problem(await api.http.get("/approvals", params={"older_than": "soon"}), 422)
    first = await api.get("/approvals", **mine, limit=1)
    second = await api.get("/approvals", **mine, limit=1, cursor=first["next"])
    assert [first["approvals"][0]["tool"], second["approvals"][0]["tool"], second["next"]] == [
        "pay",
        "slow",
        None,
    ]


async def test_each_sees_what_they_may_do_and_why_not_more(
    people: dict[str, Api], thread: str, amount: int
) -> None:
    pay, slow = await people["ann"].paused(f"pay {amount}; slow {amount}", thread_id=thread)
    here = {"thread_id": thread, "status": "pending", "mine": True}
    # `slow` is for leads, and of high risk; `pay` is for anybody.
    for name, tools in (("ann", ["pay"]), ("bob", ["pay", "slow"]), ("dee", ["pay"])):
        assert [each["tool"] for each in await found(people[name], **here)] == tools
    path = f"/approvals/{slow['approval_id']}"
    assert (await people["bob"].get(path))["yours"] == {
        "may": ["approve", "edit", "reject", "respond"],
        "why_not": None,
    }
    not_dees = (await people["dee"].get(path))["yours"]
    assert not_dees["may"] == [] and "anyone with the role 'lead'" in not_dees["why_not"]
    await problem(await people["dee"].http.post(f"{path}/decide", json=APPROVE), 403)
    # Whoever asked may reject what takes somebody else to approve.
    four_eyes = await people["bob"].paused(f"slow {amount + 1}", thread_id=f"{thread}-bobs")
    (bobs,) = [await people["bob"].get(f"/approvals/{four_eyes[0]['approval_id']}")]
    assert bobs["yours"]["may"] == ["reject"]
    assert "bob asked for" in bobs["yours"]["why_not"]
    only_risky = await found(people["bob"], thread_id=thread, risk="high")
    assert [each["approval_id"] for each in only_risky] == [slow["approval_id"]]
    newest = await found(people["bob"], thread_id=thread, sort="newest")
    assert [each["tool"] for each in newest] in (["slow", "pay"], ["pay", "slow"])
    await expect(
        await people["bob"].http.post(f"/approvals/{pay['approval_id']}/decide", json=APPROVE), 202
    )
    decided = (await people["cy"].get(f"/approvals/{pay['approval_id']}"))["yours"]
    assert decided["may"] == [] and "was approved by bob" in decided["why_not"]
    for wrong in ({"sort": "best"}, {"risk": "none"}, {"mine": "perhaps"}):
        await problem(await people["ann"].http.get("/approvals", params=wrong), 422)


async def test_a_page_of_mine_looks_past_what_is_for_others(
    people: dict[str, Api], thread: str, amount: int
) -> None:
    for number in range(3):
        await people["bob"].paused(f"slow {amount + number}", thread_id=f"{thread}-{number}")
    (pay,) = await people["bob"].paused(f"pay {amount}", thread_id=thread)
    found_ids: list[str] = []
    cursor = None
    for _ in range(1000):
        more = {} if cursor is None else {"cursor": cursor}
        page = await people["ann"].get("/approvals", mine=True, status="pending", limit=1, **more)
        found_ids += [each["approval_id"] for each in page["approvals"]]
        assert all(each["yours"]["may"] for each in page["approvals"])
        cursor = page["next"]
        if cursor is None:
            break
    assert found_ids.count(pay["approval_id"]) == 1


async def test_what_cannot_be_seen_is_pointed_out(
    people: dict[str, Api], thread: str, amount: int
) -> None:
    (approval,) = await people["ann"].paused(f"pay {amount}", thread_id=thread)
    assert approval["warnings"] == []
    answer = await decide(
        people["bob"],
        approval,
        {"type": "edit", "args": {"amount": amount, "note": "to \u202eboB"}},
    )
    (warning,) = answer["decisions"][approval["approval_id"]]["warnings"]
    assert "U+202E RIGHT-TO-LEFT OVERRIDE" in warning


# ── the feed ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_feed_tells_of_all_threads_and_goes_on_where_one_left_off(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    api = people["ann"]
    page = (
        await api.http.get(
            "/approvals/stream", headers={"accept": "application/json"}, params={"limit": 1000}
        )
    ).json()
    last = page["next"]
    approvals = [
        (await api.paused(f"pay {amount}", thread_id=f"{thread}-{number}"))[0]
        for number in range(3)
    ]
    for approval in approvals:
        await decide(people["bob"], approval, {"type": "reject", "message": "A secret reason."})
    seen = []
    async with api.http.stream(
        "GET", "/approvals/stream", headers={"last-event-id": str(last)}
    ) as response:
        async for event in events_of(response):
            seen.append(event)
            if len(seen) == 6:
                break
    assert [event["seq"] for event in seen] == list(range(last + 1, last + 7))
    assert {event["thread_id"] for event in seen} == {f"{thread}-{number}" for number in range(3)}
    assert sorted(types_of(seen)) == ["approval_decided"] * 3 + ["approval_required"] * 3
    assert all(
        "args" not in event and "message" not in event and "about" not in event for event in seen
    )
    only = await api.http.get(
        "/approvals/stream",
        params={"after": last, "types": "approval_decided"},
        headers={"accept": "application/json"},
    )
    assert types_of(only.json()["events"]) == ["approval_decided"] * 3


# ── the same again ────────────────────────────────────────────────────────────────────────────────


async def test_the_same_key_gets_the_same_answer_and_another_body_a_422(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    api, key = people["bob"], {"idempotency-key": f"key-{amount}"}
    (approval,) = await people["ann"].paused(f"pay {amount}", thread_id=thread)
    path = f"/approvals/{approval['approval_id']}/decide"
    first = await expect(await api.http.post(path, json=APPROVE, headers=key), 202)
    assert await people["ann"].last_words(thread) == f"Results: paid {amount}"
    again = await expect(await api.http.post(path, json=APPROVE, headers=key), 202)
    assert (again.content, again.headers["location"], again.headers["x-run-id"]) == (
        *(first.content, first.headers["location"]),
        first.headers["x-run-id"],
    )
    server.kill()
    server.start()
    assert (
        await expect(await api.http.post(path, json=APPROVE, headers=key), 202)
    ).content == first.content
    await problem(await api.http.post(path, json={"type": "reject"}, headers=key), 422)
    await problem(await api.http.post(f"/threads/{thread}/resume", json=APPROVE, headers=key), 422)
    # Another person's key of the same name is another key, and without one there is nothing to
    # repeat.
    await problem(await people["cy"].http.post(path, json=APPROVE, headers=key), 409)
    await problem(await api.http.post(path, json=APPROVE), 409)
    streamed = await api.http.post(
        path, json=APPROVE, headers={**key, "accept": "text/event-stream"}
    )
    assert streamed.content.count(b"\nid: ") == len(
        await api.events(thread, after=int(first.json()["events"].rpartition("=")[2]))
    )
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_the_same_key_at_once_decides_once(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    (_approval,) = await people["ann"].paused(f"pay {amount}", thread_id=thread)
    sent = [
        people["bob"].http.post(
            f"/threads/{thread}/resume",
            json=APPROVE,
            headers={"idempotency-key": f"at-once-{amount}"},
        )
        for _ in range(20)
    ]
    answers = await asyncio.gather(*sent)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    await people["ann"].last_words(thread)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


# ── in advance, and several at once ───────────────────────────────────────────────────────────────


def grant_of(amount: int, uses: int) -> dict[str, Any]:
    """A grant for dee to pay at most this amount, for a day."""
    return {
        "tool": "pay",
        "agent": "agent",
        "bounds": {"amount": {"max": amount}},
        "user": "dee",
        "uses": uses,
        "until": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    }


async def test_a_grant_answers_what_is_within_its_bounds_and_no_more(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    body = grant_of(amount, uses=3)
    grant = (await expect(await people["bob"].http.post("/grants", json=body), 201)).json()
    assert (grant["given_by"], grant["used"]) == ("bob", 0)
    events = await people["dee"].stream(f"pay {amount}", thread_id=thread)
    assert events == await people["dee"].events(thread)
    assert await people["dee"].last_words(thread) == f"Results: paid {amount}"
    story = without_tokens(events)
    # Who waits for the answer gets it, and not the pause that nobody needed to end.
    invoked = await people["dee"].http.post(
        "/agent/invoke", json={"message": f"pay {amount}", "thread_id": f"{thread}-i"}
    )
    answer = (await expect(invoked, 200)).json()
    assert (answer["status"], answer["output"], answer["approvals"]) == (
        "success",
        f"Results: paid {amount}",
        [],
    )
    assert story[1:] == [
        "approval_required",
        "run_paused",
        "approval_decided",
        "run_resumed",
        "tool_start",
        "tool_end",
        "done",
    ]
    runs = {event["type"]: event["run_id"] for event in events}
    assert runs["approval_decided"] == runs["run_resumed"] == runs["done"] != runs["run_paused"]
    (pause,) = [event for event in events if event["type"] == "run_paused"]
    assert pause["next_run"] == runs["done"]
    decided = (await found(people["ann"], thread_id=thread))[0]
    assert (decided["status"], decided["decided_by"], decided["votes"][0]["grant"]) == (
        "approved",
        "bob",
        grant["grant_id"],
    )
    # Too much, or of somebody else: people are asked.
    await people["dee"].paused(f"pay {amount + 1}", thread_id=f"{thread}-2")
    await people["ann"].paused(f"pay {amount}", thread_id=f"{thread}-3")
    assert (await people["ann"].get(f"/grants/{grant['grant_id']}"))["used"] == 2
    # Two calls at once, and one use left.
    approvals = await people["dee"].paused(f"pay {amount}; pay {amount}", thread_id=f"{thread}-4")
    assert len(approvals) == 1
    await problem(
        await people["ann"].http.post("/grants", json={**body, "tool": "slow", "user": "ann"}), 403
    )
    unknown = await problem(
        await people["bob"].http.post("/grants", json={**body, "tool": "pai"}), 404
    )
    assert unknown["detail"].startswith("The agent 'agent' has no tool 'pai'. It has: ")
    revoked = await expect(await people["bob"].http.delete(f"/grants/{grant['grant_id']}"), 200)
    assert revoked.json()["revoked_by"] == "bob"
    audit = (await people["ann"].get("/audit", actor="bob", limit=1000))["audit"]
    assert {"granted", "revoked"} <= {record["action"] for record in audit}


async def test_what_follows_a_run_goes_on_where_grants_answer(
    people: dict[str, Api], thread: str, amount: int
) -> None:
    """To its real end: a stream that is opened by a decision, one that is opened afterwards or in
    the middle, and whoever waits."""
    dee = people["dee"]
    await expect(await people["bob"].http.post("/grants", json=grant_of(amount, uses=2)), 201)
    message = f"pay {amount + 1} then pay {amount} then pay {amount} then pay {amount}"
    await dee.paused(message, thread_id=thread)
    async with people["ann"].http.stream(
        "POST",
        f"/threads/{thread}/resume",
        json=APPROVE,
        headers={"accept": "text/event-stream"},
    ) as response:
        decided = [event async for event in events_of(response)]

    # One for a person, two for the grant, and one for a person again.
    pauses = [event for event in decided if event["type"] == "run_paused"]
    first, second, third = [event["run_id"] for event in pauses]
    assert [event.get("next_run") for event in pauses] == [second, third, None]
    assert decided[-1] == pauses[-1]
    assert (await dee.get(f"/runs/{first}"))["next_run"] == second
    waited = await dee.get(f"/runs/{first}/wait")
    assert (waited["run_id"], waited["status"]) == (third, "interrupted")
    assert [each["args"] for each in waited["approvals"]] == [{"amount": amount}]

    replayed = [event for event in decided if event["run_id"] in (first, second, third)]
    middle = pauses[1]["seq"] + 1
    for after in (0, pauses[0]["seq"], middle):
        async with dee.http.stream(
            "GET", f"/runs/{first}/stream", params={"after": after}
        ) as stream:
            read = [event async for event in events_of(stream)]
        assert read == [event for event in replayed if event["seq"] > after]


async def test_a_chat_goes_on_where_grants_answer(
    people: dict[str, Api], server: Server, amount: int
) -> None:
    await expect(await people["bob"].http.post("/grants", json=grant_of(amount, uses=1)), 201)
    options = ["--url", server.url, "--api-key", "secret-of-dee", "--agent", "agent"]
    chat = await asyncio.to_thread(CliRunner().invoke, app, ["chat", *options, f"pay {amount}"])
    assert chat.exit_code == 0, chat.output
    assert f"Results: paid {amount}" in chat.stdout


async def test_several_of_a_low_risk_are_decided_each_for_itself(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    low = [
        (
            await people["ann"].paused(
                f"pay {amount}", thread_id=f"{thread}-{n}", agent="chat_agent"
            )
        )[0]
        for n in range(2)
    ]
    (medium,) = await people["ann"].paused(f"pay {amount}", thread_id=f"{thread}-m")
    wanted = {
        low[0]["approval_id"]: APPROVE,
        low[1]["approval_id"]: {"type": "edit", "args": {"amount": 0}},
        medium["approval_id"]: APPROVE,
    }
    response = await people["bob"].http.post(
        "/approvals/decide", json={"decisions": {**wanted, "apr_nobody": APPROVE}}
    )
    outcomes = (await expect(response, 200)).json()["outcomes"]
    assert [outcome["status"] for outcome in outcomes.values()] == [202, 422, 422, 404]
    assert "risk" in outcomes[medium["approval_id"]]["detail"]
    assert await people["ann"].last_words(f"{thread}-0") == f"Results: paid {amount}"
    assert (await people["ann"].approval(low[1]["approval_id"]))["status"] == "pending"


async def test_several_under_one_key_are_decided_once(
    people: dict[str, Api], server: Server, thread: str, amount: int
) -> None:
    low = [
        (
            await people["ann"].paused(
                f"pay {amount + n}", thread_id=f"{thread}-{n}", agent="chat_agent"
            )
        )[0]
        for n in range(3)
    ]
    ids = [each["approval_id"] for each in low]
    body = {"decisions": {ids[0]: APPROVE, ids[1]: {"type": "edit", "args": {"amount": 0}}}}
    api, key = people["bob"], {"idempotency-key": f"several-{amount}"}
    sent = await asyncio.gather(
        *(api.http.post("/approvals/decide", json=body, headers=key) for _ in range(10))
    )
    assert {answer.content for answer in sent} == {sent[0].content}
    outcomes = sent[0].json()["outcomes"]
    assert [outcomes[id]["status"] for id in ids[:2]] == [202, 422]
    await people["ann"].last_words(f"{thread}-0")
    server.kill()
    server.start()
    again = await expect(await api.http.post("/approvals/decide", json=body, headers=key), 200)
    assert again.content == sent[0].content
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
    # Another batch under this key is refused as a whole, also where it is about what was not
    # decided yet; and so is a single decision.
    await problem(
        await api.http.post(
            "/approvals/decide", json={"decisions": {ids[2]: APPROVE}}, headers=key
        ),
        422,
    )
    await problem(
        await api.http.post(f"/approvals/{ids[2]}/decide", json=APPROVE, headers=key), 422
    )
    assert (await people["ann"].approval(ids[2]))["status"] == "pending"
    without = (await expect(await api.http.post("/approvals/decide", json=body), 200)).json()[
        "outcomes"
    ]
    assert without[ids[0]]["status"] == 409
