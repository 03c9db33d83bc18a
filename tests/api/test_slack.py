"""Deciding in Slack, over the real server and a small Slack."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.support.secrets import bearer, keys_of
from tests.support.server import Api, Server, asking, expect, problem, scripted_agents, serving
from tests.support.slack import SIGNING, TEAM, SmallSlack, sent, signed, small_slack
from tests.support.waiting import until

CONFIGURATION = """
[slack.people]
U0ANN = "ann"
U0BOB = "bob"
U0CY = "cy"
U0VIV = "viv"
"T0OTHER:U0GUEST" = "bob"

[people]
ann = {roles = ["operator", "approver"]}
bob = {roles = ["approver", "lead"]}
cy = {roles = ["approver"]}
viv = {roles = ["viewer", "auditor"]}

[policies.agents.agent.tools.slow]
roles = ["lead"]

[policies.agents.chat_agent.tools.pay]
quorum = 2

[notify.team]
slack = "C0TEAM"
"""


@pytest.fixture(scope="module")
def slack() -> Iterator[SmallSlack]:
    with small_slack() as slack:
        yield slack


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, slack: SmallSlack) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("slack")
    (folder / "assent.toml").write_text(slack.section + CONFIGURATION)
    with serving(
        folder,
        scripted_agents(folder, "agent", "chat_agent", "asking"),
        ASSENT_API_KEYS=keys_of("ann", "bob", "cy", "viv"),
        ASSENT_CONFIG=str(folder / "assent.toml"),
    ) as server:
        yield server


@pytest.fixture
async def ann(server: Server) -> AsyncIterator[Api]:
    async with asking(server, **bearer("ann")) as api:
        yield api


@pytest.fixture
async def hook(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Slack, which has no key."""
    async with asking(server) as api:
        yield api.http


async def asked(ann: Api, message: str, **body: Any) -> str:
    (approval,) = await ann.paused(message, **body)
    return str(approval["approval_id"])


async def told(slack: SmallSlack, before: int) -> str:
    """What Slack has told only whoever clicked, since then."""
    await until(lambda: len(slack.told) > before)
    (text,) = slack.told[before:]
    return text


async def audited(ann: Api, id: str | None = None) -> Any:
    """The entries of the audit chain, on this approval or on all."""
    params = {} if id is None else {"approval_id": id}
    found = await expect(
        await ann.http.get("/audit", params={"limit": 1000, **params}, headers=bearer("viv")), 200
    )
    return found.json()["audit"]


async def is_done(response: httpx.Response) -> None:
    await expect(response, 200)
    assert response.content == b""


# ── deciding ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_click_approves_once_and_the_message_says_who_did(
    server: Server, slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    id = await asked(ann, f"pay {amount}", thread_id=thread)
    ts = await slack.card(id)
    message = slack.messages[ts]
    approval = await ann.approval(id)
    assert message["channel"] == "C0TEAM"
    assert (message["unfurl_links"], message["unfurl_media"]) == (False, False)
    assert f'{{"amount": {amount}}}' in slack.text(ts) and approval["digest"] in slack.text(ts)
    assert [*slack.buttons(ts)] == ["Approve", "Edit", "Answer", "Reject"]
    old = slack.buttons(ts)["Approve"]
    assert json.loads(old["value"]) == {"approval_id": id, "digest": approval["digest"]}

    click, before = slack.click(ts, "Approve", "U0BOB"), len(slack.told)
    await is_done(await sent(hook, click))
    await slack.card(id, "Approved: pay", "By: bob")
    assert slack.buttons(ts) == {}
    # Slack may send it again, and nobody is told anything: it is what they have done.
    await is_done(await sent(hook, click))
    await ann.at_rest(thread)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
    assert slack.told[before:] == []
    # Whoever clicks on what they still see is told who was faster.
    await is_done(await sent(hook, slack.click(ts, "Approve", "U0CY", old=old)))
    assert "it was approved by bob" in await told(slack, before)

    (decided,) = [each for each in await audited(ann, id) if each["action"] == "decided"]
    assert (decided["actor"], decided["authentication"]) == ("bob", "slack")
    assert decided["digest"] == approval["digest"]


async def test_arguments_are_edited_in_a_dialog(
    server: Server, slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    id = await asked(ann, f"pay {amount}", thread_id=thread)
    ts = await slack.card(id)
    click = slack.click(ts, "Edit", "U0BOB")
    await is_done(await sent(hook, click))
    view = await slack.dialog(click["trigger_id"])
    _section, field = view["blocks"]
    assert json.loads(field["element"]["initial_value"]) == {"amount": amount}
    for wrong in ("{", "[1]", '{"amount": 1, "amount": 2}', '{"amount": "many"}', None):
        answer = await expect(await sent(hook, slack.submit(view, "U0BOB", typed=wrong)), 200)
        assert answer.json()["response_action"] == "errors", wrong
        assert answer.json()["errors"].keys() == {"typed"}
    assert (await ann.approval(id))["status"] == "pending"
    new = json.dumps({"amount": amount + 500_000})
    await is_done(await sent(hook, slack.submit(view, "U0BOB", typed=new)))
    await slack.card(id, "Approved with other arguments", f"{amount + 500_000}")
    await ann.at_rest(thread)
    assert server.traces(f"pay {amount + 500_000}") and not server.traces(f"pay {amount}")
    late = (await sent(hook, slack.submit(view, "U0CY", typed=new))).json()
    assert late["response_action"] == "update"
    assert "by bob" in late["view"]["blocks"][0]["text"]["text"]


async def test_a_reason_and_an_answer_are_typed_into_dialogs(
    server: Server, slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    id = await asked(ann, f"pay {amount}", thread_id=thread)
    click = slack.click(await slack.card(id), "Reject", "U0CY")
    await is_done(await sent(hook, click))
    view = await slack.dialog(click["trigger_id"])
    await is_done(await sent(hook, slack.submit(view, "U0CY", typed="Too much.")))
    await slack.card(id, "Rejected: pay", "By: cy")
    assert (await ann.approval(id))["decision"] == {"type": "reject", "message": "Too much."}
    assert server.traces(f"pay {amount}") == []

    id = await asked(ann, f"Which {amount}?", agent="asking")
    click = slack.click(await slack.card(id), "Answer", "U0ANN")
    await is_done(await sent(hook, click))
    view = await slack.dialog(click["trigger_id"])
    await is_done(await sent(hook, slack.submit(view, "U0ANN", answer=f"That {amount}")))
    await slack.card(id, "Answered")
    await server.until_traced(f"answered ['That {amount}']")


async def test_a_vote_counts_and_says_how_many_are_needed(
    server: Server, slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    id = await asked(ann, f"pay {amount}", thread_id=thread, agent="chat_agent")
    ts, before = await slack.card(id, "Agreed: 0 of 2"), len(slack.told)
    await is_done(await sent(hook, slack.click(ts, "Approve", "U0BOB")))
    assert await told(slack, before) == "Noted. It takes 2 people, and so far bob agreed."
    await slack.card(id, "Agreed: 1 of 2 (bob)")
    await is_done(await sent(hook, slack.click(ts, "Approve", "U0GUEST", team="T0OTHER")))
    assert "so far bob agreed" in await told(slack, before + 1)
    await is_done(await sent(hook, slack.click(ts, "Approve", "U0CY")))
    await slack.card(id, "Approved: pay")
    await ann.at_rest(thread)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_what_is_decided_or_changed_elsewhere_is_shown_and_an_old_button_decides_nothing(
    server: Server, slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    id = await asked(ann, f"pay {amount}", thread_id=thread, agent="chat_agent")
    ts, before = await slack.card(id), len(slack.told)
    old = slack.buttons(ts)["Approve"]
    views = {}
    for kind in ("Edit", "Answer", "Reject"):
        click = slack.click(ts, kind, "U0BOB")
        await is_done(await sent(hook, click))
        views[kind] = await slack.dialog(click["trigger_id"])
    edit = {"type": "edit", "args": {"amount": amount + 500_000}}
    await ann.http.post(f"/approvals/{id}/decide", json=edit, headers=bearer("cy"))
    await slack.card(id, "Edited by: cy", str(amount + 500_000))
    # Nor do dialogs decide that were opened before, whatever is typed into them by now.
    for kind, view in views.items():
        typed = json.dumps(edit["args"]) if kind == "Edit" else "No."
        late = (await sent(hook, slack.submit(view, "U0BOB", typed=typed))).json()
        assert "changed since it was shown" in late["view"]["blocks"][0]["text"]["text"], kind
    await until(lambda: slack.below(ts) == ["Approval needed for other arguments: pay"])
    for kind in ("Approve", "Edit"):
        button = {**old, "action_id": f"assent_{kind.lower()}"}
        await is_done(await sent(hook, slack.click(ts, kind, "U0BOB", old=button)))
        assert "changed since it was shown" in await told(slack, before)
        before += 1
    assert (await ann.approval(id))["status"] == "pending"
    reject = {"type": "reject", "message": ""}
    await expect(
        await ann.http.post(f"/approvals/{id}/decide", json=reject, headers=bearer("bob")), 202
    )
    await slack.card(id, "Rejected: pay", "By: bob")
    assert slack.cards_of(id) == [ts]
    assert server.traces(f"pay {amount}") == []


async def test_of_two_clicks_at_once_one_decides_and_the_other_is_told(
    server: Server, slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    id = await asked(ann, f"pay {amount}", thread_id=thread)
    ts, before = await slack.card(id), len(slack.told)
    clicks = [slack.click(ts, "Approve", user) for user in ("U0ANN", "U0BOB", "U0CY")]
    for response in await asyncio.gather(*(sent(hook, click) for click in clicks)):
        await is_done(response)
    await until(lambda: len(slack.told) == before + 2)
    decided_by = (await ann.approval(id))["decided_by"]
    assert all(f"approved by {decided_by}" in text for text in slack.told[before:])
    await ann.at_rest(thread)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_a_message_ends_with_the_last_word_however_slow_slack_is(
    slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    id = await asked(ann, f"pay {amount}", thread_id=thread, agent="chat_agent")
    ts, before = await slack.card(id), len(slack.told)
    old = slack.buttons(ts)["Approve"]
    edit = {"type": "edit", "args": {"amount": amount + 500_000}}
    await ann.http.post(f"/approvals/{id}/decide", json=edit, headers=bearer("cy"))
    await slack.card(id, "Edited by: cy")
    slack.silent.add("respond")
    await is_done(await sent(hook, slack.click(ts, "Approve", "U0BOB", old=old)))
    assert "changed since it was shown" in await told(slack, before)
    # It is decided while they are told, and so before the message is brought up to date for them.
    reject = {"type": "reject", "message": ""}
    await ann.http.post(f"/approvals/{id}/decide", json=reject, headers=bearer("bob"))
    await slack.card(id, "Rejected: pay")
    calls = len(slack.calls)
    slack.silent.clear()
    await until(lambda: "chat.update" in [method for method, _ in slack.calls[calls:]])
    await slack.card(id, "Rejected: pay")
    assert slack.buttons(ts) == {}


async def test_a_message_that_can_be_edited_no_more_is_posted_anew(
    slack: SmallSlack, ann: Api, thread: str, amount: int
) -> None:
    id = await asked(ann, f"pay {amount}", thread_id=thread, agent="chat_agent")
    first = await slack.card(id)
    slack.fails["chat.update"] = "edit_window_closed"
    edit = {"type": "edit", "args": {"amount": amount + 500_000}}
    await ann.http.post(f"/approvals/{id}/decide", json=edit, headers=bearer("cy"))
    await until(lambda: len(slack.cards_of(id)) == 2)
    del slack.fails["chat.update"]
    (second,) = (ts for ts in slack.cards_of(id) if ts != first)
    assert "Edited by: cy" in slack.text(second)


# ── who may not ───────────────────────────────────────────────────────────────────────────────────


async def test_who_may_not_decide_is_told_so_and_nothing_is_decided(
    server: Server, slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    id = await asked(ann, f"slow {amount}", thread_id=thread)
    ts, before = await slack.card(id, "For: the role lead"), len(slack.told)
    for button, user, team, said in (
        ("Approve", "U0WHO", TEAM, "This server does not know you"),
        ("Edit", "U0WHO", TEAM, "you are U0WHO of the workspace T0HOME"),
        # The ids of users are only unique within their workspace.
        ("Approve", "U0BOB", "T0OTHER", "This server does not know you"),
        ("Approve", "U0VIV", TEAM, "'viv' may not decide anything here"),
        ("Reject", "U0VIV", TEAM, "'viv' may not decide anything here"),
        ("Approve", "U0CY", TEAM, "There is no approval"),
        ("Approve", "U0ANN", TEAM, "It is for anyone with the role 'lead'"),
    ):
        await is_done(await sent(hook, slack.click(ts, button, user, team=team)))
        assert said in await told(slack, before), user
        before += 1
    assert slack.cards_of(id) == [ts] and "Approve" in slack.buttons(ts)
    approval = await ann.approval(id)
    assert (approval["status"], approval["votes"]) == ("pending", [])
    dialog = {
        "callback_id": "assent_reject",
        "private_metadata": slack.buttons(ts)["Reject"]["value"],
    }
    answer = (await sent(hook, slack.submit(dialog, "U0ANN", typed="no"))).json()
    assert "for anyone with the role 'lead'" in answer["view"]["blocks"][0]["text"]["text"]
    assert (await ann.approval(id))["status"] == "pending"

    everybody = {("", "slack"), ("viv", "slack"), ("ann", "slack")}

    async def is_noted() -> bool:
        entries = await audited(ann)
        refused = [each for each in entries if each["action"] == "refused"]
        return everybody <= {(each["actor"], each["authentication"]) for each in refused}

    await until(is_noted)


async def test_only_what_slack_has_signed_just_now_is_taken(
    server: Server, slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    id = await asked(ann, f"pay {amount}", thread_id=thread)
    click = slack.click(await slack.card(id), "Approve", "U0BOB")
    for options in ({"secret": f"{SIGNING}x"}, {"ago": 301}, {"ago": -302}):
        await problem(await sent(hook, click, **options), 401)
    body, headers = signed(click)
    for changed in (
        {"x-slack-signature": ""},
        {"x-slack-signature": "v0=\u00e9"},
        {"x-slack-request-timestamp": "now"},
        {"x-slack-request-timestamp": "9" * 400},
    ):
        sent_so = httpx.Headers({**headers, **changed}, encoding="latin-1")
        await problem(await hook.post("/slack/actions", content=body, headers=sent_so), 401)
    await problem(await hook.post("/slack/actions", content=body + b"&a=b", headers=headers), 401)
    await problem(await hook.post("/slack/actions", content=b"\xff", headers=headers), 401)
    await problem(await hook.post("/slack/actions", json=click), 415)
    await problem(await hook.post("/slack/actions", content=b"a" * (1 << 21), headers=headers), 413)
    for payload in (
        "nothing",
        {},
        {"type": "block_actions"},
        {**click, "actions": [{"action_id": "assent_approve", "value": "{"}]},
    ):
        await problem(await sent(hook, payload), 422)
    # A link in a message, say, is somebody else's click.
    await is_done(await sent(hook, {**click, "actions": [{"action_id": "other"}]}))
    await is_done(await sent(hook, {**click, "type": "shortcut"}))
    assert (await ann.approval(id))["status"] == "pending"


async def test_the_document_says_what_slack_sends(hook: httpx.AsyncClient) -> None:
    document = (await hook.get("/openapi.json")).json()
    operation = document["paths"]["/slack/actions"]["post"]
    (form,) = operation["requestBody"]["content"].items()
    assert form[0] == "application/x-www-form-urlencoded"
    assert form[1]["schema"]["required"] == ["payload"]
    assert {"401", "408", "413", "415", "422"} <= operation["responses"].keys()


# ── trouble ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_dialog_that_slack_does_not_open_is_said(
    slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    id = await asked(ann, f"pay {amount}", thread_id=thread)
    ts, before = await slack.card(id), len(slack.told)
    slack.fails["views.open"] = "expired_trigger_id"
    await is_done(await sent(hook, slack.click(ts, "Edit", "U0BOB")))
    assert "could not be opened" in await told(slack, before)
    del slack.fails["views.open"]


async def test_a_kill_between_decision_and_message_leaves_no_message_that_asks(
    server: Server, slack: SmallSlack, ann: Api, hook: httpx.AsyncClient, thread: str, amount: int
) -> None:
    # Posted, and killed before that was stored: it is posted again.
    slack.silent.add("chat.postMessage")
    id = await asked(ann, f"pay {amount}", thread_id=thread)
    await until(lambda: slack.cards_of(id) != [])
    server.kill()
    slack.silent.clear()
    server.start()
    await until(lambda: len(slack.cards_of(id)) == 2)
    lost, kept = slack.cards_of(id)

    async def is_stored() -> bool:
        sent_of = await ann.http.get(
            "/notifications", params={"approval_id": id}, headers=bearer("viv")
        )
        return [each["status"] for each in sent_of.json()["notifications"]] == ["delivered"]

    await until(is_stored)

    # Decided, and killed before the message was brought up to date.
    slack.stuck.add("chat.update")
    calls = len(slack.calls)
    await is_done(await sent(hook, slack.click(kept, "Approve", "U0BOB")))
    await until(lambda: "chat.update" in [method for method, _ in slack.calls[calls:]])
    # Amid the tool, the kill would leave the question what became of it.
    await ann.at_rest(thread)
    server.kill()
    assert "Approval needed" in slack.text(kept)
    slack.stuck.clear()
    server.start()
    await until(lambda: "Approved: pay" in slack.text(kept))
    await ann.at_rest(thread)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]

    # Nobody knows of the first message, until somebody clicks there.
    before = len(slack.told)
    await is_done(await sent(hook, slack.click(lost, "Approve", "U0CY")))
    assert "it was approved by bob" in await told(slack, before)
    await until(lambda: "Approved: pay" in slack.text(lost))
