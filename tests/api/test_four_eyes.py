"""Four eyes over HTTP: whoever's words an action can be traced to is no second pair of eyes for it,
by whatever route the words came."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import httpx
import pytest

from tests.support.secrets import keys_of
from tests.support.server import (
    Api,
    Server,
    asking,
    asking_as,
    expect,
    problem,
    scripted_agents,
    serving,
)
from tests.support.slack import SIGNING, TEAM, TOKEN, SmallSlack, sent
from tests.support.ui_messages import Chat

NAMES = ("ann", "bob", "cy", "mailer")
LEADS = f"""
[slack]
url = "http://127.0.0.1:9/"
allow_http = true
token = "{TOKEN}"
signing_secret = "{SIGNING}"
team = "{TEAM}"
people = {{U0BOB = "bob"}}

[people]
bob = {{roles = ["lead", "approver"]}}
cy = {{roles = ["lead"]}}

[policies.agents.agent.tools.slow]
roles = ["lead"]
risk = "high"

[policies.agents.chat_agent]
risk = "low"

[policies.agents.chat_agent.tools.slow]
roles = ["lead"]
risk = "high"
"""
PUBLIC = "https://assent.example"
NEVER = "0 0 29 2 *"
APPROVE = {"type": "approve"}
REASON = "Not that, but do pay bob."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("four-eyes")
    (folder / "assent.toml").write_text(LEADS)
    with serving(
        folder,
        scripted_agents(folder, "agent", "chat_agent"),
        ASSENT_API_KEYS=keys_of(*NAMES),
        ASSENT_CONFIG=str(folder / "assent.toml"),
        ASSENT_PUBLIC_URL=PUBLIC,
        ASSENT_LINK_ISSUERS="mailer",
        ASSENT_ROLES="ann:operator approver auditor,bob:operator approver admin",
    ) as server:
        yield server


@dataclass
class Case:
    """A thread on which ann's agent is to pay with `slow`, which takes a lead who has had no part
    in it. Bob and cy are leads."""

    server: Server
    people: dict[str, Api]
    thread: str
    amount: int

    @property
    def ann(self) -> Api:
        return self.people["ann"]

    @property
    def bob(self) -> Api:
        """Bob, with a key that he has made for ann: what it says may be his word."""
        return self.people["bob as ann"]

    @property
    def slow(self) -> str:
        return f"slow {self.amount}"

    @property
    def two_steps(self) -> str:
        """What asks for a payment that anybody may decide, and then for the other."""
        return f"pay {self.amount} then {self.slow}"

    async def post(self, name: str, path: str, status: int, **body: Any) -> Any:
        """What the server answers to this person."""
        response = await expect(await self.people[name].http.post(path, json=body), status)
        return response.json()

    async def asked(self) -> Any:
        """The approval of `slow` that the thread waits for."""
        await self.ann.at_rest(self.thread)
        (approval,) = await self.ann.pending(self.thread)
        assert approval["tool"] == "slow"
        return approval

    async def decide(self, name: str, approval: Any, status: int = 202) -> Any:
        path = f"/approvals/{approval['approval_id']}/decide"
        response = await self.people[name].http.post(path, json=APPROVE)
        if status == 202:
            return (await expect(response, 202)).json()
        return await problem(response, status)


@pytest.fixture
async def case(server: Server, thread: str, amount: int) -> AsyncIterator[Case]:
    server.let_go(amount)
    async with asking_as(server, *NAMES) as people:
        key = {"authorization": f"Bearer {await bobs_key_of_ann(server, people['bob'])}"}
        async with asking(server, **key) as bob_as_ann:
            yield Case(server, {**people, "bob as ann": bob_as_ann}, thread, amount)


async def bobs_key_of_ann(server: Server, bob: Api) -> str:
    """A key that bob has made for ann, once for all tests."""
    if server not in MADE:
        body = {"person": "ann", "roles": ["operator"]}
        made = await expect(await bob.http.post("/keys", json=body), 201)
        MADE[server] = made.json()["key"]
    return MADE[server]


MADE: WeakKeyDictionary[Server, str] = WeakKeyDictionary()


# ── every route ───────────────────────────────────────────────────────────────────────────────────

Way = Callable[[Case], Awaitable[None]]
WAYS: list[tuple[str, Way]] = []
"""The ways in which bob's words come to what ann's agent asks, each by its route."""


def way(route: str) -> Callable[[Way], Way]:
    def add(function: Way) -> Way:
        WAYS.append((route, function))
        return function

    return add


NO_WAY = {
    "POST /threads": "an empty thread has no words, and its metadata does not reach the agent",
    "PATCH /threads/{id}": "metadata of a thread does not reach the agent",
    **dict.fromkeys(
        (
            "POST /threads/{id}/history",
            "POST /threads/{id}/state/checkpoint",
            "POST /threads/search",
            "POST /threads/count",
            "POST /assistants/search",
            "POST /assistants/count",
            "POST /assistants/{assistant_id}/versions",
            "POST /approvals/{id}/preview",
        ),
        "it reads",
    ),
    "POST /threads/prune": "nothing is left",
    "POST /threads/{id}/stream/events": "it reads",
    "POST /store/items/search": "it reads",
    "POST /store/namespaces": "it reads",
    "PUT /store/items": "no gate stands before the store: what runs have kept there is anybody's",
    "DELETE /store/items": "nothing is left",
    **dict.fromkeys(
        ("POST /runs", "POST /runs/stream", "POST /runs/wait", "POST /runs/batch"),
        "it has a new thread, and the words are those of whoever starts it",
    ),
    "POST /files": "a file reaches an agent only by a message, whose sender answers for it",
    "DELETE /files/{id}": "nothing is left",
    "DELETE /threads/{id}": "nothing is left",
    "DELETE /threads/{id}/runs/{run_id}": "it has no words",
    "POST /approvals/{id}/withdraw": "a vote has no words",
    "POST /approvals/{id}/delegate": "a voting right has no words",
    "POST /approvals/{id}/preview": "changes nothing",
    "POST /approvals/{id}/comment": "people read it, and the agent does not",
    "POST /approvals/{id}/links": "the words are those of the link's user",
    "POST /grants": "consent has no words",
    "DELETE /grants/{id}": "consent has no words",
    "DELETE /schedules/{id}": "nothing is left",
    "DELETE /runs/crons/{cron_id}": "nothing is left",
    "DELETE /assistants/{assistant_id}": "nothing is left",
    "POST /runs/crons/search": "it reads",
    "POST /runs/crons/count": "it reads",
    "POST /broadcast": "people read it, and the agent does not",
    "POST /ws/broadcast": "people read it, and the agent does not",
    **dict.fromkeys(
        (
            "POST /keys",
            "DELETE /keys",
            "DELETE /keys/{id}",
            "POST /session",
            "DELETE /session",
            "POST /stream-tickets",
        ),
        "it says who somebody is, and nothing else",
    ),
    "POST /notifications/{id}/resend": "people read it, and the agent does not",
}
"""The other routes that change anything, each with the reason why nobody's words reach another's
run by it."""


@way("POST /agent/stream")
async def wrote_before(case: Case) -> None:
    await case.bob.stream("tell 1", thread_id=case.thread)
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /agent/stream")
async def wrote_what_failed(case: Case) -> None:
    await case.bob.stream("boom", thread_id=case.thread)
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /agent/invoke")
async def dropped_the_question_for_another_request(case: Case) -> None:
    await case.ann.paused(f"pay {case.amount}", thread_id=case.thread)
    body = {"message": "tell 1", "thread_id": case.thread, "if_paused": "cancel"}
    await case.post("bob as ann", "/agent/invoke", 200, **body)
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /threads/{id}/state")
async def wrote_to_the_state(case: Case) -> None:
    await case.ann.stream("tell 1", thread_id=case.thread)
    await case.post(
        "bob as ann", f"/threads/{case.thread}/state", 200, values={"messages": "tell 1"}
    )
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /threads/{id}/runs")
async def gave_the_graphs_own_input(case: Case) -> None:
    await case.ann.stream("tell 1", thread_id=case.thread)
    body = {"assistant_id": "agent", "input": {"messages": "tell 1"}}
    run = await case.post("bob as ann", f"/threads/{case.thread}/runs", 200, **body)
    await case.ann.ended(run["run_id"])
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /threads/{id}/runs/stream")
async def gave_the_graphs_own_input_and_followed(case: Case) -> None:
    await case.ann.stream("tell 1", thread_id=case.thread)
    body = {"assistant_id": "agent", "input": {"messages": "tell 1"}}
    path = f"/threads/{case.thread}/runs/stream"
    followed = await expect(await case.people["bob as ann"].http.post(path, json=body), 200)
    assert followed.text.endswith("event: end\ndata: null\n\n")
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /threads/{id}/runs/wait")
async def gave_the_graphs_own_input_and_waited(case: Case) -> None:
    await case.ann.stream("tell 1", thread_id=case.thread)
    body = {"assistant_id": "agent", "input": {"messages": "tell 1"}}
    await case.post("bob as ann", f"/threads/{case.thread}/runs/wait", 200, **body)
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /threads/{id}/runs/{run_id}/cancel")
async def took_words_of_a_thread_back(case: Case) -> None:
    (pay,) = await case.ann.paused(f"pay {case.amount}", thread_id=case.thread)
    path = f"/threads/{case.thread}/runs/{pay['run_id']}/cancel?action=rollback&wait=1"
    await expect(await case.bob.http.post(path), 204)
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /runs/cancel")
async def took_words_back_among_others(case: Case) -> None:
    (pay,) = await case.ann.paused(f"pay {case.amount}", thread_id=case.thread)
    body = {"run_ids": [pay["run_id"]]}
    await expect(await case.bob.http.post("/runs/cancel?action=rollback", json=body), 204)
    await case.ann.at_rest(case.thread)
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /api/chat")
async def said_it_in_a_chat(case: Case) -> None:
    await case.ann.stream("tell 1", thread_id=case.thread)
    said = await Chat(case.people["bob as ann"], case.thread).say("tell 1")
    assert said.finish == "stop"
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /agui/{agent_id}")
async def asked_for_it_by_agui(case: Case) -> None:
    message = {"id": "m-1", "role": "user", "content": case.slow}
    body = {"threadId": case.thread, "runId": "r-1", "messages": [message]}
    response = await case.people["bob as ann"].http.post("/agui/agent", json=body)
    assert '"interrupt"' in (await expect(response, 200)).text


@way("POST /threads/{id}/commands")
async def started_a_run_by_a_command(case: Case) -> None:
    await case.ann.stream("tell 1", thread_id=case.thread)
    params = {"assistant_id": "agent", "input": {"messages": "tell 1"}}
    command = {"id": 1, "method": "run.start", "params": params}
    begun = await case.post("bob as ann", f"/threads/{case.thread}/commands", 200, **command)
    await case.ann.ended(begun["result"]["run_id"])
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /agent/runs")
async def waited_in_the_queue(case: Case) -> None:
    await case.ann.run(case.thread, f"hold {case.amount + 1_000_000}")
    await case.bob.run(case.thread, "tell 1", on_busy="enqueue")
    last = await case.ann.run(case.thread, case.slow, on_busy="enqueue")
    case.server.let_go(case.amount + 1_000_000)
    await case.ann.ended(last["run_id"])


@way("POST /agent/runs")
async def wrote_while_the_thread_was_paused(case: Case) -> None:
    await case.ann.paused(f"pay {case.amount}", thread_id=case.thread)
    await case.bob.run(case.thread, "tell 1", on_busy="enqueue", if_paused="wait")
    last = await case.ann.run(case.thread, case.slow, on_busy="enqueue", if_paused="wait")
    await case.people["cy"].decided(case.thread, type="approve")
    await case.ann.ended(last["run_id"])


@way("POST /threads/{id}/resume")
async def gave_a_reason(case: Case) -> None:
    await case.ann.paused(case.two_steps, thread_id=case.thread)
    await case.people["bob"].decided(case.thread, type="reject", message=REASON)


@way("POST /threads/{id}/resume")
async def put_in_other_arguments(case: Case) -> None:
    await case.ann.paused(case.two_steps, thread_id=case.thread)
    args = {"amount": case.amount, "note": REASON}
    await case.people["bob"].decided(case.thread, type="edit", args=args)


@way("POST /approvals/{id}/decide")
async def answered_in_place_of_the_tool(case: Case) -> None:
    (pay,) = await case.ann.paused(case.two_steps, thread_id=case.thread)
    path = f"/approvals/{pay['approval_id']}/decide"
    await case.post("bob", path, 202, type="respond", message=REASON)


@way("POST /approvals/decide")
async def gave_a_reason_for_several(case: Case) -> None:
    (pay,) = await case.ann.paused(case.two_steps, thread_id=case.thread, agent="chat_agent")
    decisions = {pay["approval_id"]: {"type": "reject", "message": REASON}}
    await case.post("bob", "/approvals/decide", 200, decisions=decisions)


@way("POST /links/{token}")
async def gave_a_reason_by_link(case: Case) -> None:
    (pay,) = await case.ann.paused(case.two_steps, thread_id=case.thread)
    path = f"/approvals/{pay['approval_id']}/links"
    link = await case.post("mailer", path, 201, recipient="bob")
    async with httpx.AsyncClient(
        base_url=case.server.url, trust_env=False, verify=False
    ) as browser:
        form = {"decision": "reject", "message": REASON}
        await expect(await browser.post(link["url"].removeprefix(PUBLIC), data=form), 200)


@way("POST /slack/actions")
async def gave_a_reason_in_slack(case: Case) -> None:
    (pay,) = await case.ann.paused(case.two_steps, thread_id=case.thread)
    shown = json.dumps({"approval_id": pay["approval_id"], "digest": pay["digest"]})
    view = {"callback_id": "assent_reject", "private_metadata": shown}
    ended = SmallSlack().submit(view, "U0BOB", typed=REASON)
    await expect(await sent(case.people["bob"].http, ended), 200)


@way("POST /threads/{id}/fork")
async def forked_it(case: Case) -> None:
    await case.ann.paused(case.slow, thread_id=case.thread)
    forked = await case.post("bob as ann", f"/threads/{case.thread}/fork", 201)
    case.thread = forked["thread_id"]


@way("POST /threads/{id}/copy")
async def copied_it(case: Case) -> None:
    await case.ann.paused(case.slow, thread_id=case.thread)
    path = f"/threads/{case.thread}/copy"
    copied = await expect(await case.people["bob as ann"].http.post(path), 200)
    case.thread = copied.json()["thread_id"]


@way("POST /threads/{id}/fork")
async def wrote_to_what_was_forked(case: Case) -> None:
    await case.bob.stream("tell 1", thread_id=case.thread)
    forked = await case.post("ann", f"/threads/{case.thread}/fork", 201)
    case.thread = forked["thread_id"]
    await case.ann.paused(case.slow, thread_id=case.thread)


async def _anns_schedule(case: Case, message: str) -> str:
    body = {"cron": NEVER, "message": message, "thread_id": case.thread}
    return f"/schedules/{(await case.post('ann', '/schedules', 201, **body))['schedule_id']}"


@way("PATCH /schedules/{id}")
async def changed_a_schedule(case: Case) -> None:
    path = await _anns_schedule(case, "tell 1")
    await expect(await case.bob.http.patch(path, json={"message": case.slow}), 200)
    run = await case.post("ann", f"{path}/run", 202)
    await case.ann.ended(run["run_id"])


@way("PATCH /schedules/{id}")
async def changed_when_a_schedule_runs(case: Case) -> None:
    path = await _anns_schedule(case, case.slow)
    await expect(
        await case.bob.http.patch(path, json={"cron": "* * * * * *", "on_busy": "reject"}), 200
    )
    await case.ann.until_there(case.thread)
    await case.ann.until(case.thread, "run_paused")
    await expect(await case.ann.http.delete(path), 204)


async def _cron(case: Case, name: str, path: str, message: str, assistant: str = "agent") -> str:
    given = {"messages": [{"role": "user", "content": message}]}
    body = {"schedule": NEVER, "assistant_id": assistant, "input": given}
    cron = await case.post(name, path, 200, **body)
    return f"/schedules/{cron['cron_id']}/run"


@way("POST /runs/crons")
async def made_a_cron(case: Case) -> None:
    path = await _cron(case, "bob as ann", "/runs/crons", case.slow)
    run = await case.post("ann", path, 202)
    case.thread = run["thread_id"]


@way("POST /threads/{id}/runs/crons")
async def made_a_cron_on_her_thread(case: Case) -> None:
    await case.ann.stream("tell 1", thread_id=case.thread)
    path = await _cron(case, "bob as ann", f"/threads/{case.thread}/runs/crons", case.slow)
    await case.ann.ended((await case.post("ann", path, 202))["run_id"])


@way("PATCH /runs/crons/{cron_id}")
async def changed_a_cron(case: Case) -> None:
    path = await _cron(case, "ann", "/runs/crons", "tell 1")
    given = {"messages": [{"role": "user", "content": case.slow}]}
    cron = f"/runs/crons/{path.split('/')[2]}"
    await expect(await case.bob.http.patch(cron, json={"input": given}), 200)
    case.thread = (await case.post("ann", path, 202))["thread_id"]


async def _assistant(case: Case, name: str) -> str:
    """The path of an assistant that this person makes for ann."""
    made = await case.post(name, "/assistants", 200, graph_id="agent", metadata={"by": name})
    return f"/assistants/{made['assistant_id']}"


async def _begun_with(case: Case, assistant: str, path: str = "") -> None:
    body = {
        "assistant_id": assistant.removeprefix("/assistants/"),
        "input": {"messages": case.slow},
        "if_not_exists": "create",
    }
    run = await case.post("ann", path or f"/threads/{case.thread}/runs", 200, **body)
    case.thread = run["thread_id"]
    await case.ann.ended(run["run_id"])


@way("POST /assistants")
async def made_her_assistant(case: Case) -> None:
    await _begun_with(case, await _assistant(case, "bob as ann"))


@way("POST /assistants")
async def made_the_assistant_of_her_stateless_run(case: Case) -> None:
    await _begun_with(case, await _assistant(case, "bob as ann"), "/runs")


@way("POST /assistants")
async def made_the_assistant_of_her_cron(case: Case) -> None:
    assistant = await _assistant(case, "bob as ann")
    path = await _cron(case, "ann", "/runs/crons", case.slow, assistant.split("/")[2])
    case.thread = (await case.post("ann", path, 202))["thread_id"]


@way("PATCH /assistants/{assistant_id}")
async def changed_her_assistant(case: Case) -> None:
    assistant = await _assistant(case, "ann")
    await expect(await case.bob.http.patch(assistant, json={"metadata": {"more": 1}}), 200)
    await _begun_with(case, assistant)


@way("PATCH /assistants/{assistant_id}")
async def changed_what_the_version_that_she_went_back_to_was_made_of(case: Case) -> None:
    assistant = await _assistant(case, "ann")
    await expect(await case.bob.http.patch(assistant, json={"metadata": {"more": 1}}), 200)
    await expect(await case.ann.http.patch(assistant, json={"name": "Hers"}), 200)
    await case.post("ann", f"{assistant}/latest", 200, version=2)
    await _begun_with(case, assistant)


@way("POST /assistants/{assistant_id}/latest")
async def chose_its_version(case: Case) -> None:
    assistant = await _assistant(case, "ann")
    await case.post("bob as ann", f"{assistant}/latest", 200, version=1)
    await _begun_with(case, assistant)


@way("POST /schedules/{id}/run")
async def started_a_schedule(case: Case) -> None:
    path = await _anns_schedule(case, case.slow)
    run = await case.post("bob as ann", f"{path}/run", 202)
    await case.ann.ended(run["run_id"])


@way("POST /schedules")
async def scheduled_words_for_her_thread(case: Case) -> None:
    body = {"cron": NEVER, "message": "tell 1", "thread_id": case.thread}
    path = f"/schedules/{(await case.post('bob as ann', '/schedules', 201, **body))['schedule_id']}"
    run = await case.post("ann", f"{path}/run", 202)
    await case.ann.ended(run["run_id"])
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /runs/{id}/cancel")
async def took_words_back(case: Case) -> None:
    (pay,) = await case.ann.paused(f"pay {case.amount}", thread_id=case.thread)
    await case.bob.cancel(f"/runs/{pay['run_id']}", mode="rollback", wait=True)
    await case.ann.paused(case.slow, thread_id=case.thread)


@way("POST /threads/{id}/cancel")
async def took_back_all_that_was_said(case: Case) -> None:
    await case.ann.paused(f"pay {case.amount}", thread_id=case.thread)
    await case.bob.cancel(f"/threads/{case.thread}", mode="rollback", wait=True)
    await case.ann.paused(case.slow, thread_id=case.thread)


TASKS = "/api/v1/agents/agent/tasks"


@way("POST /api/v1/agents/{agent_id}/tasks")
async def described_a_task_that_she_executed(case: Case) -> None:
    task = await case.post("bob as ann", TASKS, 200, description=case.slow)
    case.thread = task["id"]
    await case.post("ann", f"{TASKS}/{case.thread}/execute", 200)


@way("POST /api/v1/agents/{agent_id}/tasks/{task_id}/execute")
async def executed_a_task_of_hers(case: Case) -> None:
    task = await case.post("ann", TASKS, 200, description="tell 1")
    case.thread = task["id"]
    await case.post("bob as ann", f"{TASKS}/{case.thread}/execute", 200, query=case.slow)


@pytest.mark.parametrize(
    ("route", "way"), [pytest.param(*each, id=f"{each[0]} {each[1].__name__}") for each in WAYS]
)
async def test_whoever_had_a_part_in_it_does_not_decide_it(
    case: Case, route: str, way: Way
) -> None:
    await way(case)
    approval = await case.asked()
    assert "bob" in approval["requested_by"]
    assert approval["shortage"] == "Only cy can still decide."
    await case.decide("bob", approval, 403)

    records = (await case.ann.get("/audit", approval_id=approval["approval_id"]))["audit"]
    assert records[0]["detail"]["requested_by"] == approval["requested_by"]

    assert case.server.traces(case.slow) == []
    await case.decide("cy", approval)
    await case.ann.at_rest(case.thread)
    assert case.server.traces(case.slow) == [case.slow]


def test_a_policy_that_nobody_can_meet_stops_the_start(tmp_path: Path) -> None:
    configuration = tmp_path / "assent.toml"
    configuration.write_text(LEADS.replace('risk = "high"', "quorum = 3"))
    keys = keys_of(*NAMES)
    environment = {"ASSENT_API_KEYS": keys, "ASSENT_CONFIG": str(configuration)}
    server = Server(tmp_path, scripted_agents(tmp_path, "agent", "chat_agent"), environment)
    server.launch()
    server.wait_for_death()
    assert (
        "Nobody can meet the policy of the agent 'agent' for its tool 'slow'. It takes 3 people, "
        "and only bob and cy may decide."
    ) in server.output


async def test_every_route_that_changes_anything_is_thought_of(case: Case) -> None:
    paths = (await case.ann.get("/openapi.json"))["paths"]
    changing = {
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method in methods
        if method in ("post", "put", "patch", "delete")
    }
    assert changing == {route for route, _ in WAYS} | set(NO_WAY)


# ── how long words count ──────────────────────────────────────────────────────────────────────────


async def test_consent_has_no_words(case: Case) -> None:
    await case.ann.paused(case.two_steps, thread_id=case.thread)
    await case.people["bob"].decided(case.thread, type="approve")
    approval = await case.asked()
    assert (approval["requested_by"], approval["shortage"]) == (["ann"], None)
    await case.decide("bob", approval)


async def test_once_somebody_else_has_agreed_they_count_no_more(case: Case) -> None:
    await case.bob.stream("tell 1", thread_id=case.thread)
    await case.ann.paused(case.slow, thread_id=case.thread)
    await case.decide("cy", await case.asked())
    await case.ann.at_rest(case.thread)
    await case.ann.paused(case.slow, thread_id=case.thread)
    again = await case.asked()
    assert again["requested_by"] == ["ann"]
    await case.decide("bob", again)


async def test_nobody_has_agreed_to_what_they_rejected(case: Case) -> None:
    await case.bob.stream("tell 1", thread_id=case.thread)
    await case.ann.paused(case.slow, thread_id=case.thread)
    await case.people["cy"].decided(case.thread, type="reject")
    await case.ann.at_rest(case.thread)
    await case.ann.paused(case.slow, thread_id=case.thread)
    approval = await case.asked()
    assert approval["requested_by"] == ["ann", "bob"]
    await case.decide("bob", approval, 403)


async def test_nobody_agrees_with_themselves(case: Case) -> None:
    # Payments with `pay` take no second pair of eyes, so whoever decides one agrees for nobody.
    await case.bob.paused(f"pay {case.amount}", thread_id=case.thread)
    await case.people["bob"].decided(case.thread, type="approve")
    await case.ann.at_rest(case.thread)
    await case.ann.paused(case.slow, thread_id=case.thread)
    await case.decide("bob", await case.asked(), 403)


@pytest.mark.parametrize("decided_first", ["pay", "slow"])
async def test_whoever_approved_one_call_has_not_seen_the_reason_given_to_another(
    case: Case, decided_first: str
) -> None:
    await case.bob.stream("tell 1", thread_id=case.thread)
    asked = await case.ann.paused(f"pay {case.amount}; {case.slow}", thread_id=case.thread)
    for approval in sorted(asked, key=lambda each: each["tool"] != decided_first):
        if approval["tool"] == "slow":
            await case.decide("cy", approval)
        else:
            path = f"/approvals/{approval['approval_id']}/decide"
            await case.post("bob", path, 202, type="reject", message=REASON)
    await case.ann.at_rest(case.thread)
    await case.ann.paused(case.slow, thread_id=case.thread)
    again = await case.asked()
    assert again["requested_by"] == ["ann", "bob"]
    await case.decide("bob", again, 403)


async def test_what_a_run_was_told_counts_to_its_end(case: Case) -> None:
    await case.bob.stream("tell 1", thread_id=case.thread)
    await case.ann.paused(f"{case.slow} then {case.slow}", thread_id=case.thread)
    await case.decide("cy", await case.asked())
    second = await case.asked()
    assert second["requested_by"] == ["ann", "bob"]
    await case.decide("bob", second, 403)


@pytest.mark.parametrize("forks", [True, False])
async def test_whoever_goes_back_meets_the_words_of_then(case: Case, forks: bool) -> None:
    await case.bob.stream("tell 1", thread_id=case.thread)
    then = (await case.ann.get(f"/threads/{case.thread}/state"))["checkpoint"]["checkpoint_id"]
    await case.ann.paused(case.slow, thread_id=case.thread)
    await case.decide("cy", await case.asked())
    await case.ann.at_rest(case.thread)
    place = {"checkpoint_id": then}
    if forks:
        forked = await case.post("ann", f"/threads/{case.thread}/fork", 201, **place)
        case.thread, place = forked["thread_id"], {}
    await case.ann.paused(case.slow, thread_id=case.thread, **place)
    approval = await case.asked()
    assert approval["requested_by"] == ["ann", "bob"]
    await case.decide("bob", approval, 403)


async def test_an_editor_who_leaves_nobody_is_told_so_and_the_operator_too(case: Case) -> None:
    await case.people["cy"].paused(case.slow, thread_id=case.thread)
    approval = await case.asked()
    assert approval["shortage"] == "Only bob can still decide."
    edit = {"type": "edit", "args": {"amount": case.amount + 1}}
    answer = await case.post("bob", f"/approvals/{approval['approval_id']}/decide", 202, **edit)
    after = answer["decisions"][approval["approval_id"]]
    assert after["shortage"] == "Nobody is left who can approve this."
    said = [line for line in case.server.output.splitlines() if approval["approval_id"] in line]
    short = [line for line in said if "approval short of people" in line]
    assert len(short) == 2
    assert "left=['bob']" in short[0]
    assert "left=[]" in short[1]
    await case.people["bob"].decided(case.thread, type="reject")


async def test_a_kill_forgets_nobody(case: Case) -> None:
    await case.ann.paused(case.two_steps, thread_id=case.thread)
    await case.people["bob"].decided(case.thread, type="reject", message=REASON)
    case.server.restart()
    approval = await case.asked()
    assert approval["requested_by"] == ["ann", "bob"]
    await case.decide("bob", approval, 403)
    case.server.restart()
    await case.decide("bob", approval, 403)
