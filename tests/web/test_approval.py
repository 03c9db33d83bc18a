"""One approval on a page of its own: what is shown, each decision, and who is told what."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.support import office_agent
from tests.support.pages import PHONE, check_access, check_fits, watched
from tests.support.secrets import keys_of
from tests.support.server import Api, Server, project_of, serving
from tests.web.conftest import Browse

PEOPLE = ("ann", "bob", "carol")

WIRE: dict[str, Any] = {"to": "Ada", "amount": 1200, "purpose": None, "lines": []}
NO_FEED = ("ERR_FAILED", "Failed to load resource: net::")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, built: None) -> Iterator[Server]:
    """A server with the office's agents and a key for each person, for all tests of this file: each
    has threads of its own."""
    folder = tmp_path_factory.mktemp("office")
    graphs = project_of(folder, {office_agent: tuple(office_agent.GRAPHS)})
    with serving(folder, graphs, ASSENT_API_KEYS=keys_of(*PEOPLE)) as server:
        yield server


async def asked(api: Api, name: str, args: dict[str, Any], text: str = "") -> str:
    """The id of the approval of this call, which ann asks for."""
    message = json.dumps({"calls": [[name, args]], "text": text})
    [approval] = await api.paused(message, agent="office")
    approval_id: str = approval["approval_id"]
    return approval_id


async def shown(page: Page, approval_id: str) -> Locator:
    """The card of the approval, on its page."""
    await page.goto(f"/ui/approvals/{approval_id}")
    card = page.get_by_role("article")
    await expect(card.get_by_role("heading").first).to_be_visible()
    return card


async def cut_off(page: Page) -> None:
    """Keep what others do from the page, as a slow network does."""
    watched(page).forgive(*NO_FEED)
    await page.route("**/approvals/stream**", lambda route: route.abort())


def button(card: Locator, name: str) -> Locator:
    return card.get_by_role("button", name=name, exact=True)


async def status(api: Api, approval_id: str) -> str:
    return str((await api.approval(approval_id))["status"])


# ── what is decided ───────────────────────────────────────────────────────────────────────────────


async def test_approving_runs_the_call_as_it_was_shown(
    page: Page, api: Api, server: Server
) -> None:
    approval_id = await asked(api, "note", {"text": "Call Ada"})
    card = await shown(page, approval_id)
    await expect(card.get_by_role("row", name="text")).to_contain_text("Call Ada")

    await button(card, "Approve").click()

    await expect(card).to_contain_text("You approved it")
    await server.until_traced('note {"text": "Call Ada"}')
    assert await status(api, approval_id) == "approved"


async def test_a_rejection_has_a_reason_which_everybody_reads(
    page: Page, api: Api, server: Server, browse: Browse
) -> None:
    approval_id = await asked(api, "note", {"text": "Call Eve"})
    other = await shown(await browse(server, name="bob"), approval_id)
    card = await shown(page, approval_id)
    await expect(card).to_contain_text("for you,")
    await expect(other).to_contain_text("for ann,")
    await expect(card).to_contain_text("What will be done, exactly")

    await button(card, "Reject…").click()
    await card.get_by_label("Why not?").fill("She is away.")
    await button(card, "Reject").click()

    await expect(card).to_contain_text("You rejected it")
    await expect(card).to_contain_text("What was asked, exactly")
    await expect(card).not_to_contain_text("What will be done")
    # The feed tells the other window.
    await expect(other).to_contain_text("ann rejected it")
    await expect(other).to_contain_text("The reason: She is away.")
    assert server.traces('note {"text": "Call Eve"}') == []


async def test_an_edit_shows_its_difference_and_its_effect_and_keeps_types(
    page: Page, api: Api, server: Server
) -> None:
    approval_id = await asked(api, "wire", WIRE)
    card = await shown(page, approval_id)
    await button(card, "Edit…").click()
    editing = card.get_by_role("group", name="Change the arguments").first

    # A text that may be null is one field that may stay empty, and not a choice of two.
    await expect(editing.get_by_label("purpose")).to_have_value("")
    await expect(button(card, "Run it with these")).to_be_disabled()
    await editing.get_by_label("amount *").fill("1300")

    await expect(editing).to_contain_text("What you change")
    await expect(editing).to_contain_text("pays1300")
    await button(card, "Run it with these").click()
    await button(card, "Yes, run it with these").click()

    await expect(card).to_contain_text("You approved it with changes")
    await server.until_traced('wire {"amount": 1300, "currency": "EUR", "lines": [], "to": "Ada"}')
    assert (await api.approval(approval_id))["edit"]["args"] == {**WIRE, "amount": 1300}


async def test_an_edit_leaves_numbers_as_they_were_that_it_does_not_change(
    page: Page, api: Api, server: Server
) -> None:
    """A browser makes 1 of 1.0, which is the same number in JSON and another value in Python."""
    approval_id = await asked(api, "store", {"value": {"share": 1.0, "count": 2}})
    card = await shown(page, approval_id)
    await button(card, "Edit…").click()
    await card.get_by_role("button", name="JSON", exact=True).click()
    written = card.get_by_label("Arguments as JSON")
    await expect(written).to_have_value(re.compile('"count": 2'))
    await written.fill('{"value": {"share": 1, "count": 3}}')
    await button(card, "Run it with these").click()
    await expect(card).to_contain_text("You approved it with changes")
    size = len(json.dumps({"share": 1.0, "count": 3}))
    await server.until_traced(f'store {{"size": {size}}}')


async def test_what_a_tool_does_not_take_is_said_at_its_field(page: Page, api: Api) -> None:
    approval_id = await asked(api, "wire", WIRE)
    card = await shown(page, approval_id)
    await button(card, "Edit…").click()
    amount = card.get_by_label("amount *")
    await amount.fill("-3")

    await expect(card.get_by_text("Input should be greater than 0")).to_be_visible()
    await expect(amount).to_have_attribute("aria-invalid", "true")
    await expect(amount).to_have_value("-3")
    await expect(button(card, "Run it with these")).to_be_disabled()

    await button(card, "JSON").click()
    await card.get_by_label("Arguments as JSON").fill("{")
    await expect(card.get_by_text("This is no JSON")).to_be_visible()


async def test_an_answer_takes_the_place_of_the_call(page: Page, api: Api, server: Server) -> None:
    approval_id = await asked(api, "note", {"text": "Call Bo"})
    card = await shown(page, approval_id)
    await button(card, "More").click()
    await page.get_by_role("menuitem", name="Answer in its place…").click()
    await card.get_by_role("textbox").fill("I have called her.")
    await button(card, "Answer").click()

    await expect(card).to_contain_text("The answer: I have called her.")
    assert await status(api, approval_id) == "responded"
    assert server.traces('note {"text": "Call Bo"}') == []


async def test_a_choice_is_answered_by_a_button(page: Page, api: Api) -> None:
    question = {"prompt": "Which Miller?", "choices": ["Bonn", "Ulm"]}
    approval_id = await asked(api, "ask_human", question)
    card = await shown(page, approval_id)
    await expect(card).to_contain_text("Which Miller?")
    await button(card, "Ulm").click()
    await expect(card).to_contain_text("The answer: Ulm")


async def test_a_form_is_answered_with_values_of_their_types(
    page: Page, api: Api, server: Server
) -> None:
    [approval] = await api.paused("go", agent="form")
    card = await shown(page, approval["approval_id"])
    await card.get_by_label("nights *").fill("3")
    await button(card, "Send the answer").click()
    # What is missing is said at its field, and what was filled in stays.
    await expect(card.get_by_text("'city' is a required property")).to_be_visible()
    await card.get_by_label("city *").fill("Rome")
    await button(card, "Send the answer").click()

    await expect(card).to_contain_text("You answered")
    answer = {"breakfast": True, "city": "Rome", "guests": [], "nights": 3}
    await server.until_traced(f"trip {json.dumps(answer)}")


async def test_a_question_of_no_known_form_is_shown_and_answered_as_json(
    page: Page, api: Api, server: Server
) -> None:
    [approval] = await api.paused("go", agent="odd")
    card = await shown(page, approval["approval_id"])
    await expect(card).to_contain_text("dial")
    await button(card, "As JSON").click()
    await expect(card.locator("pre")).to_contain_text('"widget": "dial"')
    await button(card, "JSON").click()
    await card.get_by_label("Your answer").fill('{"turn": 11}')
    await button(card, "Send the answer").click()
    await server.until_traced('odd {"turn": 11}')


# ── the second look ───────────────────────────────────────────────────────────────────────────────


async def test_a_high_risk_takes_two_different_presses(
    page: Page, api: Api, server: Server
) -> None:
    approval_id = await asked(api, "wipe", {"database": "customers"})
    card = await shown(page, approval_id)
    await button(card, "Approve").focus()

    for _ in range(4):
        await page.keyboard.press("Enter")

    armed = card.get_by_role("group", name="Its risk is high")
    await expect(armed).to_be_focused()
    assert await status(api, approval_id) == "pending"

    await page.keyboard.press("Escape")
    await expect(armed).not_to_be_visible()
    await button(card, "Approve").dblclick()
    await expect(armed).to_be_visible()
    assert await status(api, approval_id) == "pending"

    await expect(button(card, "Yes, approve")).to_be_enabled()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await expect(button(card, "Yes, approve")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(card).to_contain_text("You approved it")
    await server.until_traced('wipe {"database": "customers", "tables": 1}')


# ── several people ────────────────────────────────────────────────────────────────────────────────


async def test_the_slower_of_two_reads_who_decided_and_when(
    page: Page, api: Api, server: Server, browse: Browse
) -> None:
    approval_id = await asked(api, "note", {"text": "Call Cy"})
    slow = await browse(server, name="bob")
    await cut_off(slow)
    loser = await shown(slow, approval_id)
    winner = await shown(page, approval_id)

    await button(winner, "Approve").click()
    await expect(winner).to_contain_text("You approved it")
    await button(loser, "Reject…").click()
    await loser.get_by_label("Why not?").fill("No.")
    await button(loser, "Reject").click()

    told = loser.get_by_role("alert")
    await expect(told).to_contain_text("ann was faster and approved it")
    await expect(told.get_by_role("time")).to_be_visible()
    await expect(told).to_contain_text("Your decision was not taken")
    await server.until_traced('note {"text": "Call Cy"}')


async def test_two_people_agree_and_each_sees_the_other_at_once(
    page: Page, api: Api, server: Server, browse: Browse
) -> None:
    approval_id = await asked(api, "release", {"version": "1.0"})
    second = await shown(await browse(server, name="bob", size=PHONE), approval_id)
    first = await shown(page, approval_id)

    await button(first, "Approve").click()
    await expect(first).to_contain_text("Your vote counts. 1 more person has to agree.")
    await expect(second).to_contain_text("1 of 2 agree")
    await expect(button(first, "Approve")).not_to_be_visible()
    assert server.traces("release") == []

    await button(second, "Approve").click()
    await expect(second).to_contain_text("You approved it")
    await expect(first).to_contain_text("bob approved it")
    await server.until_traced('release {"version": "1.0"}')


async def test_a_vote_can_be_withdrawn(page: Page, api: Api) -> None:
    approval_id = await asked(api, "release", {"version": "2.4"})
    card = await shown(page, approval_id)
    await button(card, "Approve").click()
    await expect(card).to_contain_text("1 of 2 agree")
    await button(card, "More").click()
    await page.get_by_role("menuitem", name="Withdraw my vote").click()
    await expect(card).to_contain_text("0 of 2 agree")
    assert (await api.approval(approval_id))["votes"] == []


async def test_what_was_changed_meanwhile_is_shown_before_it_is_decided(
    page: Page, api: Api, server: Server, browse: Browse
) -> None:
    approval_id = await asked(api, "release", {"version": "2.4"})
    await cut_off(page)
    card = await shown(page, approval_id)
    editor = await shown(await browse(server, name="bob"), approval_id)
    await button(editor, "Edit…").click()
    await editor.get_by_label("version *").fill("3.0")
    await button(editor, "Run it with these").click()
    await expect(editor).to_contain_text("1 of 2 agree")

    await button(card, "Approve").click()
    changed = card.get_by_role("alert").filter(has_text="bob changed what is asked")
    await expect(changed).to_contain_text("3.0")
    await expect(button(card, "Approve")).not_to_be_visible()
    assert await status(api, approval_id) == "pending"

    await button(card, "I have seen it").click()
    await button(card, "Approve").click()
    await expect(card).to_contain_text("You approved it")
    await server.until_traced('release {"version": "3.0"}')


async def test_a_change_that_comes_by_itself_has_to_be_seen_first(
    page: Page, api: Api, server: Server, browse: Browse
) -> None:
    approval_id = await asked(api, "release", {"version": "2.4"})
    card = await shown(page, approval_id)
    editor = await shown(await browse(server, name="bob"), approval_id)
    await button(editor, "Edit…").click()
    await editor.get_by_label("version *").fill("3.0")
    await button(editor, "Run it with these").click()

    await expect(card).to_contain_text("bob changed what is asked")
    await expect(button(card, "Approve")).not_to_be_visible()


async def test_whoever_may_not_decide_reads_why(page: Page, api: Api) -> None:
    card = await shown(page, await asked(api, "lock", {"door": "north"}))
    await expect(card).to_contain_text("You cannot decide this:")
    await expect(button(card, "Reject…")).to_be_visible()
    await expect(button(card, "Approve")).not_to_be_visible()


async def test_a_vote_can_be_handed_to_somebody(
    page: Page, api: Api, server: Server, browse: Browse
) -> None:
    approval_id = await asked(api, "sign", {"paper": "lease"})
    card = await shown(page, approval_id)
    await button(card, "More").click()
    await page.get_by_role("menuitem", name="Hand my vote to somebody…").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Their name").fill("bob")
    await check_access(page)
    await dialog.get_by_role("button", name="Hand it over").click()

    await expect(card).to_contain_text("Your vote is with bob now.")
    other = await shown(await browse(server, name="bob"), approval_id)
    await button(other, "Approve").click()
    await expect(other).to_contain_text("You approved it")
    await server.until_traced('sign {"paper": "lease"}')


async def test_a_comment_decides_nothing_and_everybody_reads_it(
    page: Page, api: Api, server: Server, browse: Browse
) -> None:
    approval_id = await asked(api, "release", {"version": "2.4"})
    other = await shown(await browse(server, name="bob"), approval_id)
    card = await shown(page, approval_id)
    await button(card, "More").click()
    await page.get_by_role("menuitem", name="Comment…").click()
    await page.get_by_role("dialog").get_by_role("textbox").fill("Is it tested?")
    await page.get_by_role("dialog").get_by_role("button", name="Comment").click()
    await expect(other).to_contain_text("Is it tested?")
    assert await status(api, approval_id) == "pending"


async def test_calls_like_this_one_can_be_allowed_in_advance(
    page: Page, api: Api, server: Server
) -> None:
    approval_id = await asked(api, "note", {"text": "Call Ada"})
    card = await shown(page, approval_id)
    await button(card, "More").click()
    await page.get_by_role("menuitem", name="Always allow this…").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("text may be").select_option("any")
    await dialog.get_by_role("button", name="Allow it").click()
    await expect(card).to_contain_text("It is allowed from now on.")
    [grant] = (await api.get("/grants"))["grants"]
    assert (grant["tool"], grant["uses"], grant["bounds"]["text"]["any"]) == ("note", 10, True)
    assert await status(api, approval_id) == "pending"


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


async def test_the_countdown_is_by_the_servers_clock(page: Page, api: Api) -> None:
    approval_id = await asked(api, "release", {"version": "2.4"})
    # This browser's clock is five hours ahead, so that by it the time is long over.
    await page.clock.install(time="2040-01-01T00:00:00Z")
    card = await shown(page, approval_id)
    await expect(card).to_contain_text(re.compile(r"(3 h 59 min|4 h) left"))
    await expect(button(card, "Approve")).to_be_visible()


async def test_when_time_is_over_nothing_can_be_decided_any_more(page: Page, api: Api) -> None:
    approval_id = await asked(api, "remind", {"whom": "Ada"})
    card = await shown(page, approval_id)
    await expect(button(card, "Approve")).not_to_be_visible()
    await expect(card).to_contain_text("Nobody decided in time, so it was rejected")


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────

HOSTILE = {
    "markup": "<img src=x onerror=\"document.title='pwned'\">",
    "bidi": "pay \u202egnp.exe\u202c",
    "joined": "admin\u200b@example.com",
    "alike": "p\u0430ypal.com",
    "script": "[x](javascript:alert(1)) ![y](https://elsewhere.example/y.png)",
    "<b>name</b>": None,
}


async def test_hostile_arguments_are_inert_marked_and_folded(
    page: Page, api: Api, phone: Page
) -> None:
    large = {"long": "x" * 150_000, **{f"key {place}": place for place in range(1000)}}
    text = "Ignore the arguments. <b>Approve</b> [here](javascript:alert(1))"
    first = await asked(api, "store", {"value": HOSTILE}, text)
    second = await asked(api, "store", {"value": large})

    card = await shown(page, first)
    what = card.get_by_role("table", name="Arguments")
    await expect(what).to_contain_text('<img src=x onerror="')
    await expect(what).to_contain_text("<b>name</b>")
    for number in ("U+202E", "U+202C", "U+200B", "U+0430"):
        await expect(what.get_by_text(number, exact=True)).to_be_visible()
    assert await card.locator("img").count() == 0
    assert await card.locator("a[href^=javascript]").count() == 0
    assert await page.title() != "pwned"
    # The model's words are marked as such, and stand apart from what will be done.
    said = card.get_by_role("figure").filter(has_text="The model wrote")
    await expect(said).to_contain_text("Ignore the arguments. <b>Approve</b>")

    await shown(phone, second)
    folded = phone.get_by_role("button", name=re.compile("149,200 characters more"))
    await expect(folded).to_be_visible()
    assert await phone.locator("article *").count() < 1000
    await check_fits(phone)


async def test_what_a_tool_says_of_its_arguments_is_marked_too(page: Page, api: Api) -> None:
    approval_id = await asked(api, "wire", WIRE)
    card = await shown(page, approval_id)
    await expect(card.get_by_role("row", name="purpose")).to_contain_text("U+200B")
    await button(card, "Edit…").click()
    form = card.get_by_role("group", name="Change the arguments").first
    await expect(form.get_by_text("U+200B", exact=True)).to_be_visible()


async def test_an_effect_is_a_table_that_scrolls_by_itself(api: Api, phone: Page) -> None:
    approval_id = await asked(api, "wire", WIRE)
    card = await shown(phone, approval_id)
    await expect(card).to_contain_text("first: 12 of 1,363")
    await expect(card.get_by_role("columnheader", name="balance")).to_be_attached()
    await check_fits(phone)
    # The decision is always in sight.
    await expect(button(card, "Approve")).to_be_in_viewport()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_keeps_anybody_from_using_it(
    browse: Browse, server: Server, api: Api, scheme: str
) -> None:
    page = await browse(server, size=PHONE, scheme=scheme)
    approval_id = await asked(api, "wire", WIRE, "I wire it.")
    card = await shown(page, approval_id)
    await expect(button(card, "Approve")).to_be_visible()
    await card.get_by_text("Who decides").click()
    await check_access(page)
    await button(card, "Approve").click()
    await check_access(page)
    await button(card, "Go back").click()
    await button(card, "Edit…").click()
    await card.get_by_label("amount *").fill("-3")
    await expect(card.get_by_text("Input should be greater than 0")).to_be_visible()
    await check_access(page)
    await check_fits(page)


async def test_an_approval_that_is_not_there_says_so(page: Page) -> None:
    await page.goto("/ui/approvals/apr_0")
    await expect(page.get_by_role("heading")).to_have_text("There is no such approval")
    await page.get_by_role("link", name="To the inbox").click()
    await expect(page).to_have_url(re.compile("/ui/inbox"))


async def test_a_refusal_keeps_what_was_typed(page: Page, api: Api) -> None:
    approval_id = await asked(api, "note", {"text": "Call Ada"})
    card = await shown(page, approval_id)
    watched(page).forgive("status of 5")
    problem = {"type": "about:blank", "title": "", "status": 500, "detail": "It broke."}
    await page.route("**/decide", lambda route: route.fulfill(status=500, json=problem))
    await button(card, "Reject…").click()
    await card.get_by_label("Why not?").fill("A long reason.")
    await button(card, "Reject").click()
    await expect(card.get_by_role("alert")).to_contain_text("It broke.")
    await expect(card.get_by_label("Why not?")).to_have_value("A long reason.")
    await page.unroute("**/decide")
    await button(card, "Reject").click()
    await expect(card).to_contain_text("The reason: A long reason.")
