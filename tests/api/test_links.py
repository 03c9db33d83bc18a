"""Links over the real server: for a mail scanner, a thief, a late comer and a person in a hurry."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from assent.core.keys import key_id_in
from tests.cli.test_keys import made
from tests.support.server import (
    Api,
    Server,
    asking,
    expect,
    only,
    problem,
    scripted_agents,
    serving,
)

KEYS = {"ann": "secret-of-ann", "bob": "secret-of-bob", "mailer": "secret-of-mailer"}
REASON = 'a <b>"bold"</b> & odd reason'


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


PAIR = """
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from assent import ApprovalPolicy, build_hitl_agent
from tests.support.agents import pay, reply
from tests.support.models import ScriptedModel

pair = build_hitl_agent(ScriptedModel(script=reply), [pay], approve={"pay": ApprovalPolicy(quorum=2)}, name="pair")

class Booking(TypedDict):
    messages: Annotated[list, add_messages]

ROOM = {
    "type": "object",
    "properties": {
        "nights": {"type": "integer", "minimum": 1, "description": "How long"},
        "class": {"enum": ["first", "second"]},
        "window": {"type": "boolean"},
        "wish": {"type": "string"},
    },
    "required": ["nights", "class"],
}

SCHEMAS = {"a form": ROOM, "a number": {"type": "integer"}, "anything": None}

def ask(state):
    schema = SCHEMAS[state["messages"][-1].text]
    return {"messages": [("ai", f"Answer: {interrupt({'question': 'Which <b>room</b>?', 'schema': schema})!r}")]}

graph = StateGraph(Booking)
graph.add_node("ask", ask)
graph.add_edge(START, "ask")
hotel = graph.compile(name="hotel")
lead = build_hitl_agent(ScriptedModel(script=reply), [pay], approve={"pay": ApprovalPolicy(names=("ann",))}, name="lead")
"""


def with_pair(folder: Path) -> str:
    """The agents of `agents.py`, one whose payments two people must agree to, one whose only Ann
    decides, and a graph that asks questions."""
    (folder / "pair.py").write_text(PAIR)
    file = Path(scripted_agents(folder, "agent"))
    graphs = json.loads(file.read_text())["graphs"]
    file.write_text(
        json.dumps(
            {
                "graphs": {
                    **graphs,
                    "pair": f"{folder}/pair.py:pair",
                    "lead": f"{folder}/pair.py:lead",
                    "hotel": f"{folder}/pair.py:hotel",
                }
            }
        )
    )
    return str(file)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("links")
    with serving(
        folder,
        with_pair(folder),
        ASSENT_API_KEYS=",".join(f"{name}:{secret}" for name, secret in KEYS.items()),
        ASSENT_ROLES="ann:operator approver auditor,mailer:approver auditor",
        ASSENT_PUBLIC_URL="https://assent.example/under",
        ASSENT_LINK_ISSUERS="mailer",
    ) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server, **key("ann")) as api:
        yield api


@pytest.fixture
async def browser(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who has no key."""
    async with httpx.AsyncClient(
        base_url=server.url, trust_env=False, verify=False, timeout=20
    ) as client:
        yield client


async def paused(api: Api, thread: str, amount: int, **body: Any) -> Any:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread, **body)
    return approval


async def path_for(api: Api, approval: Any, recipient: str = "bob", **body: Any) -> str:
    """A link's path on the server."""
    response = await api.http.post(
        f"/approvals/{approval['approval_id']}/links",
        json={"recipient": recipient, **body},
        headers=key("mailer"),
    )
    made = (await expect(response, 201)).json()
    assert made["url"].startswith("https://assent.example/under/links/")
    return str(made["url"].removeprefix("https://assent.example/under"))


async def page(response: httpx.Response, status: int) -> str:
    """The text of the page, held to what every page must be."""
    await expect(response, status)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["referrer-policy"] == "same-origin"
    assert response.headers["x-content-type-options"] == "nosniff"
    text = response.text.replace('<link rel="stylesheet" href="page.css">', "", 1)
    assert not re.search(r"<script|<style|<img|<link|<iframe|javascript:|\son\w+=|https?://", text)
    return response.text


# ── to open a link decides nothing ──


async def test_a_link_opened_a_hundred_times_decides_nothing_and_works_then(
    api: Api, browser: httpx.AsyncClient, server: Server, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    path = await path_for(api, approval)
    before = await api.events(thread)
    agents = ["Mozilla/5.0", "Microsoft Office Protection", "Slackbot-LinkExpanding 1.0", "curl/8"]
    for number in range(25):
        for response in await asyncio.gather(
            *(browser.get(path, headers={"User-Agent": agent}) for agent in agents)
        ):
            await page(response, 200)
        if number == 0:
            assert (await browser.head(path)).status_code == 200
            for method in ("OPTIONS", "PUT", "DELETE"):
                assert (await browser.request(method, path)).status_code == 405
    assert await api.approval(approval["approval_id"]) == approval
    assert await api.events(thread) == before
    assert server.traces(f"pay {amount}") == []

    said = await page(await browser.post(path, data={"decision": "approve", "message": ""}), 200)
    assert "It is approved" in said
    await api.at_rest(thread)
    decided = await api.approval(approval["approval_id"])
    assert (decided["status"], decided["decided_by"]) == ("approved", "bob")
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
    assert only(await api.events(thread), "approval_decided")["by"] == "bob"


async def test_a_rejection_has_the_reason_from_the_form(
    api: Api, browser: httpx.AsyncClient, server: Server, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    await page(
        await browser.post(
            await path_for(api, approval), data={"decision": "reject", "message": REASON}
        ),
        200,
    )
    await api.at_rest(thread)
    decided = await api.approval(approval["approval_id"])
    assert (decided["status"], decided["decided_by"], decided["decision"]["message"]) == (
        "rejected",
        "bob",
        REASON,
    )
    assert server.traces(f"pay {amount}") == []


async def test_of_a_form_that_says_two_things_the_first_counts(
    api: Api, browser: httpx.AsyncClient, server: Server, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    form = {"decision": ["reject", "approve"], "message": ["No.", "Yes."]}
    await page(await browser.post(await path_for(api, approval), data=form), 200)
    await api.at_rest(thread)
    decided = await api.approval(approval["approval_id"])
    assert decided["decision"] == {"type": "reject", "message": "No."}
    assert server.traces(f"pay {amount}") == []


async def test_what_was_decided_by_a_link_is_audited_as_that(
    api: Api, browser: httpx.AsyncClient, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    await page(await browser.post(await path_for(api, approval), data={"decision": "approve"}), 200)
    records = (await api.get("/audit", approval_id=approval["approval_id"]))["audit"]
    by_action = {record["action"]: record for record in records}
    assert (
        by_action["decided"]["authentication"]
        == by_action["link_used"]["authentication"]
        == "signed_link"
    )
    assert by_action["link_used"]["actor"] == "bob"
    assert by_action["link_used"]["detail"]["created_by"] == "mailer"


# ── the page ──


async def test_the_page_shows_exactly_what_is_asked(
    api: Api, browser: httpx.AsyncClient, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    said = unescape(await page(await browser.get(await path_for(api, approval)), 200))
    for part in (
        "Approval needed: pay",
        f'"amount": {amount}',
        approval["digest"],
        thread,
        "written by the model",
        "bob",
    ):
        assert part in said
    assert re.findall(r'name="decision" value="(\w+)"', said) == ["approve", "reject"]


async def test_a_link_for_one_decision_takes_no_other(
    api: Api, browser: httpx.AsyncClient, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    path = await path_for(api, approval, decision="reject")
    assert re.findall(r'value="(\w+)"', await page(await browser.get(path), 200)) == ["reject"]
    for chosen in ("approve", "edit", "respond", "", "nonsense"):
        await page(await browser.post(path, data={"decision": chosen}), 422)
    form = {"content-type": "application/x-www-form-urlencoded"}
    twenty = b"&" * 100 + b"decision=reject" * 20
    await page(await browser.post(path, content=twenty, headers=form), 422)
    await problem(await browser.post(path, json={"decision": "reject"}), 415)
    assert (await api.approval(approval["approval_id"]))["status"] == "pending"
    await page(await browser.post(path, data={"decision": "reject"}), 200)


# ── questions ──


async def test_a_question_is_answered_by_its_link(
    api: Api, browser: httpx.AsyncClient, thread: str
) -> None:
    (question,) = await api.paused("a number", thread_id=thread, agent="hotel")
    path = await path_for(api, question)
    shown = await page(await browser.get(path), 200)
    assert "Which &lt;b&gt;room&lt;/b&gt;?" in shown
    assert re.findall(r'name="decision" value="(\w+)"', shown) == ["respond"]
    # What the question does not take is said on the page, and the link is as good as before.
    for typed, sentence in (
        ("", "An answer is needed."),
        ("two", "This is not a whole number."),
        ("2.5", "does not take this answer: 2.5 is not of type 'integer'"),
    ):
        answer = {"decision": "respond", "answer": typed}
        again = unescape(await page(await browser.post(path, data=answer), 422))
        assert sentence in again
        assert f'value="{typed}"' in again
    assert (await api.approval(question["approval_id"]))["status"] == "pending"
    said = await page(await browser.post(path, data={"decision": "respond", "answer": "7"}), 200)
    assert "You chose: answer. The agent gets your answer" in said
    assert await api.last_words(thread) == "Answer: 7"
    decided = await api.approval(question["approval_id"])
    assert (decided["decision"], decided["decided_by"]) == (
        {"type": "respond", "message": 7},
        "bob",
    )
    await page(await browser.post(path, data={"decision": "respond", "answer": "8"}), 410)


async def test_a_question_with_fields_is_a_form(
    api: Api, browser: httpx.AsyncClient, thread: str
) -> None:
    (question,) = await api.paused("a form", thread_id=thread, agent="hotel")
    path = await path_for(api, question, decision="respond")
    shown = await page(await browser.get(path), 200)
    labels = re.findall(r"<label[^>]*>([^<]*)</label>", shown)
    assert labels == [
        "nights: How long (a whole number)",
        "class (a number or the answer itself)",
        "window (yes or no; may be empty)",
        "wish (text; may be empty)",
    ]
    form = {"decision": "respond", "answer.0": "0", "answer.1": "second", "answer.3": "<Quiet>"}
    again = await page(await browser.post(path, data=form), 422)
    assert "0 is less than the minimum of 1" in again
    assert '<option value="second" selected>' in again
    assert "&lt;Quiet&gt;</textarea>" in again
    await page(await browser.post(path, data={**form, "answer.0": "2", "answer.2": "yes"}), 200)
    answer = {"nights": 2, "class": "second", "window": True, "wish": "<Quiet>"}
    assert await api.last_words(thread) == f"Answer: {answer!r}"


async def test_what_could_not_be_stored_as_it_was_typed_is_no_answer(
    api: Api, browser: httpx.AsyncClient, thread: str
) -> None:
    (question,) = await api.paused("anything", thread_id=thread, agent="hotel")
    path = await path_for(api, question)
    for typed, sentence in (
        ('{"pay": "ann", "pay": "bob"}', "This is not JSON: the field 'pay' is there twice."),
        ("[NaN]", "This is not JSON: NaN is no number there."),
        ("[1e999]", "This is not JSON: the number is too large."),
        ("9" * 30, "This cannot be taken: it cannot be stored"),
        ('"\\ud800"', "This cannot be taken: it cannot be stored"),
        ("[" * 100_000, "This is not JSON: it is nested too deeply."),
        ("9" * 5_000, "This cannot be taken: "),
    ):
        form = {"decision": "respond", "answer": typed}
        assert sentence in unescape(await page(await browser.post(path, data=form), 422)), typed
    # Python would read a number, which is stored as null.
    await page(await browser.post(path, data={"decision": "respond", "answer": "NaN"}), 200)
    assert await api.last_words(thread) == "Answer: 'NaN'"


async def test_a_page_says_how_many_have_agreed(
    api: Api, browser: httpx.AsyncClient, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount, agent="pair")
    path = await path_for(api, approval)
    assert "<dd>0 of 2</dd>" in await page(await browser.get(path), 200)
    await api.decided(thread, type="approve")
    assert "<dd>1 of 2 (ann)</dd>" in await page(await browser.get(path), 200)
    await page(await browser.post(path, data={"decision": "approve"}), 200)
    assert (await api.approval(approval["approval_id"]))["status"] == "approved"


# ── links that are none, or no longer ──


async def test_a_link_works_once_however_many_hands_press_it(
    api: Api, browser: httpx.AsyncClient, server: Server, thread: str, amount: int
) -> None:
    path = await path_for(api, await paused(api, thread, amount))
    answers = await asyncio.gather(
        *(browser.post(path, data={"decision": "approve"}) for _ in range(20))
    )
    assert sorted(answer.status_code for answer in answers)[:2] != [200, 200]
    assert [answer.status_code for answer in answers].count(200) == 1
    assert {answer.status_code for answer in answers} <= {200, 409, 410}
    await api.at_rest(thread)
    assert "has been used" in await page(
        await browser.post(path, data={"decision": "approve"}), 410
    )
    assert "has been used" in await page(await browser.get(path), 410)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_an_edited_link_is_unknown_and_reveals_nothing(
    api: Api, browser: httpx.AsyncClient, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    path = await path_for(api, approval)
    other = await path_for(api, approval, recipient="ann")
    link_id, _, mac = path.rpartition("/")[2].partition(".")
    edited = [
        f"/links/{link_id}.{mac[:-1]}{'A' if mac[-1] != 'A' else 'B'}",
        f"/links/{link_id}",
        f"/links/{link_id}.",
        "/links/x.y",
    ]
    edited += [
        f"/links/{link_id}.{other.partition('.')[2]}",
        f"/links/{'x' * 4000}",
        "/links/%00.%00",
        f"/links/{link_id}.%ED%A0%80",
    ]
    for tried in edited:
        for response in (
            await browser.get(tried),
            await browser.post(tried, data={"decision": "approve"}),
        ):
            said = await page(response, 404)
            assert thread not in said
            assert "pay" not in said
    assert (await api.approval(approval["approval_id"]))["status"] == "pending"


async def test_an_expired_link_is_over(
    api: Api, browser: httpx.AsyncClient, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    path = await path_for(api, approval, expires_in=0.2)
    await asyncio.sleep(0.25)
    for response in (
        await browser.get(path),
        await browser.post(path, data={"decision": "approve"}),
    ):
        said = await page(response, 410)
        assert "has expired" in said
        assert str(amount) not in said
    assert (await api.approval(approval["approval_id"]))["status"] == "pending"


async def test_a_link_for_what_was_decided_otherwise_is_over(
    api: Api, browser: httpx.AsyncClient, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    path = await path_for(api, approval)
    await api.decided(thread, type="reject")
    await page(await browser.get(path), 410)
    await page(await browser.post(path, data={"decision": "approve"}), 410)
    assert (await api.approval(approval["approval_id"]))["decided_by"] == "ann"


async def test_a_link_of_an_erased_thread_is_unknown(
    api: Api, browser: httpx.AsyncClient, thread: str, amount: int
) -> None:
    path = await path_for(api, await paused(api, thread, amount))
    await expect(await api.http.delete(f"/threads/{thread}"), 204)
    await page(await browser.get(path), 404)


@pytest.mark.parametrize(
    "column",
    [
        "digest = 'x'",
        "recipient = 'ann'",
        "expires_at = '2099-01-01T00:00:00.000000Z'",
        """decisions = '["approve"]'""",
    ],
)
async def test_a_link_that_was_changed_in_the_database_is_unknown(
    api: Api, browser: httpx.AsyncClient, server: Server, thread: str, amount: int, column: str
) -> None:
    path = await path_for(api, await paused(api, thread, amount), decision="reject")
    with sqlite3.connect(server.folder / "assent.db") as file:
        file.execute(
            f"UPDATE links SET {column} WHERE link_id = ?",
            (path.rpartition("/")[2].partition(".")[0],),
        )
    file.close()
    await page(await browser.post(path, data={"decision": "approve"}), 404)


async def test_after_an_edit_a_link_decides_nothing_and_a_new_one_does(
    api: Api, browser: httpx.AsyncClient, server: Server, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount, agent="pair")
    old = await path_for(api, approval)
    edited = {"type": "edit", "args": {"amount": amount + 100_000}}
    assert (await api.decided(thread, **edited))["pending"] == [approval["approval_id"]]
    for response in (await browser.get(old), await browser.post(old, data={"decision": "approve"})):
        assert "has been changed" in await page(response, 409)
    assert server.traces(f"pay {amount}") == []

    new = await path_for(api, approval)
    assert f'"amount": {amount + 100_000}' in unescape(await page(await browser.get(new), 200))
    await page(await browser.post(new, data={"decision": "approve"}), 200)
    await api.at_rest(thread)
    assert server.traces(f"pay {amount + 100_000}") == [f"pay {amount + 100_000}"]


async def test_a_vote_by_link_counts_once_and_is_not_the_last_word(
    api: Api, browser: httpx.AsyncClient, server: Server, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount, agent="pair")
    path, again = await path_for(api, approval), await path_for(api, approval)
    assert "Others still have to agree" in await page(
        await browser.post(path, data={"decision": "approve"}), 200
    )
    answers = await asyncio.gather(
        *(browser.post(path, data={"decision": "approve"}) for _ in range(5))
    )
    assert {answer.status_code for answer in answers} == {410}
    # Another link of the same person repeats their vote, which counts once.
    await page(await browser.post(again, data={"decision": "approve"}), 200)
    assert (await api.approval(approval["approval_id"]))["status"] == "pending"
    assert server.traces(f"pay {amount}") == []
    await api.decided(thread, type="approve")
    await api.at_rest(thread)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_whoever_may_not_decide_may_not_by_a_link(
    api: Api, browser: httpx.AsyncClient, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount, agent="lead")
    path = await path_for(api, approval)
    await page(await browser.post(path, data={"decision": "approve"}), 403)
    assert (await api.approval(approval["approval_id"]))["status"] == "pending"
    await page(
        await browser.post(
            await path_for(api, approval, recipient="ann"), data={"decision": "approve"}
        ),
        200,
    )


async def test_a_link_is_worth_nothing_once_the_key_of_its_recipient_was_revoked(
    api: Api, browser: httpx.AsyncClient, server: Server, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    server.kill()
    zoes = await asyncio.to_thread(made, server.folder, "zoe", "--role", "approver")
    server.start()
    async with asking(server, Authorization=f"Bearer {zoes}") as zoe:
        url = f"/approvals/{approval['approval_id']}/links"
        link = await expect(await zoe.http.post(url, json={"recipient": "zoe"}), 201)
        path = link.json()["url"].removeprefix("https://assent.example/under")
        await page(await browser.get(path), 200)
        await expect(await zoe.http.delete(f"/keys/{key_id_in(zoes)}"), 200)
    assert "Not yours to decide" in await page(await browser.get(path), 403)
    await page(await browser.post(path, data={"decision": "approve"}), 403)
    assert (await api.approval(approval["approval_id"]))["status"] == "pending"


# ── who may make them ──


async def test_a_key_may_make_links_for_its_own_name_only(
    api: Api, thread: str, amount: int
) -> None:
    approval = await paused(api, thread, amount)
    url = f"/approvals/{approval['approval_id']}/links"
    said = await problem(await api.http.post(url, json={"recipient": "bob"}), 403)
    assert "ASSENT_LINK_ISSUERS" in said["detail"]
    await expect(await api.http.post(url, json={"recipient": "ann"}), 201)
    await problem(
        await api.http.post(
            url, json={"recipient": "ann"}, headers={"Authorization": "Bearer nobody-s-key"}
        ),
        401,
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"recipient": ""},
        {"recipient": "bob", "decision": "edit"},
        {"recipient": "bob", "expires_in": 0},
        {"recipient": "bob", "expires_in": 1e9},
    ],
)
async def test_a_link_that_makes_no_sense_is_refused(
    api: Api, thread: str, amount: int, body: Any
) -> None:
    approval = await paused(api, thread, amount)
    await problem(
        await api.http.post(
            f"/approvals/{approval['approval_id']}/links", json=body, headers=key("mailer")
        ),
        422,
    )


async def test_there_is_no_link_to_what_is_not_there_or_decided(
    api: Api, thread: str, amount: int
) -> None:
    await problem(
        await api.http.post(
            "/approvals/none/links", json={"recipient": "bob"}, headers=key("mailer")
        ),
        404,
    )
    approval = await paused(api, thread, amount)
    await api.decided(thread, type="reject")
    url = f"/approvals/{approval['approval_id']}/links"
    await problem(await api.http.post(url, json={"recipient": "bob"}, headers=key("mailer")), 409)


async def test_a_link_works_after_a_kill_and_is_used_up_with_its_decision(
    api: Api, browser: httpx.AsyncClient, server: Server, thread: str, amount: int
) -> None:
    path = await path_for(api, await paused(api, thread, amount))
    server.restart()
    await page(await browser.post(path, data={"decision": "approve"}), 200)
    # Amid the tool, the kill would leave the question what became of it.
    await api.at_rest(thread)
    server.restart()
    await page(await browser.post(path, data={"decision": "approve"}), 410)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
    assert json.dumps(path.partition(".")[2]) not in server.output
    assert path.partition(".")[2] not in server.output
