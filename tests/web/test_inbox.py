"""The inbox: what waits, one after the other, by keys and by hand."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.support import office_agent
from tests.support.pages import PHONE, check_access, check_fits, watched
from tests.support.secrets import keys_of
from tests.support.server import Api, Server, project_of, serving
from tests.web.conftest import Browse

PEOPLE = ("ann", "bob")


@pytest.fixture(autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory, built: None) -> Iterator[Server]:
    """A server with the office's agents and a key for each person. It outlives the pages."""
    folder = tmp_path_factory.mktemp("office")
    graphs = project_of(folder, {office_agent: tuple(office_agent.GRAPHS)})
    with serving(folder, graphs, ASSENT_API_KEYS=keys_of(*PEOPLE)) as server:
        yield server


async def asked(api: Api, name: str, **args: Any) -> str:
    """The id of the approval of this call."""
    [approval] = await api.paused(json.dumps({"calls": [[name, args]]}), agent="office")
    return str(approval["approval_id"])


async def status(api: Api, approval_id: str) -> str:
    return str((await api.approval(approval_id))["status"])


def rows(page: Page) -> Locator:
    return page.get_by_role("region", name="Approvals").get_by_role("listitem")


def card(page: Page) -> Locator:
    return page.get_by_role("article")


def pane(page: Page) -> Locator:
    return page.get_by_role("region", name="Approval", exact=True)


def selected(page: Page) -> Locator:
    return page.locator("[data-rows] [aria-current=true]")


async def test_three_keys_lead_from_an_arrival_to_its_decision(
    page: Page, api: Api, server: Server
) -> None:
    await page.goto("/ui/inbox")
    await expect(page.get_by_role("heading", name="Nothing waits for you")).to_be_visible()

    approval_id = await asked(api, "wipe", database="customers")
    await expect(selected(page)).to_contain_text("wipe")
    # Held down or pressed again, the key that gets ready decides nothing.
    confirm = card(page).get_by_role("button", name="Yes, approve")
    await pressed(page, "a", confirm, "Yes, approve")
    await page.keyboard.press("a")
    await expect(confirm).to_be_focused()
    # Nor does writing: whoever types a reason here has missed a key.
    await page.keyboard.press("Space")
    await expect(confirm).not_to_be_visible()
    await page.keyboard.press("Enter")
    assert await status(api, approval_id) == "pending"
    await page.keyboard.press("a")
    await expect(confirm).to_be_focused()
    assert await status(api, approval_id) == "pending"

    await page.keyboard.press("Enter")
    await expect(pane(page)).to_contain_text("You approved it")
    await server.until_traced('wipe {"database": "customers", "tables": 1}')
    await expect(page.get_by_role("heading", name="Nothing waits for you")).to_be_visible()


async def test_after_the_last_decision_nothing_is_selected_and_the_keyboard_is_not_lost(
    page: Page, api: Api
) -> None:
    await asked(api, "note", text="one")
    await page.goto("/ui/inbox")
    await expect(selected(page)).to_contain_text("note")
    # The list is read anew a little later than the decision is taken.
    asked_for, read = asyncio.Event(), asyncio.Event()

    async def later(route: Route) -> None:
        asked_for.set()
        await read.wait()
        await route.continue_()

    await page.route("**/approvals?**", later)
    await card(page).get_by_role("button", name="Approve").click()

    await expect(pane(page)).to_contain_text("You approved it")
    await expect(selected(page)).to_have_count(0)
    await expect(card(page)).to_have_count(0)
    await expect(page.get_by_role("heading", name="Inbox", level=1)).to_be_focused()
    await asked_for.wait()
    read.set()
    await expect(page.get_by_role("heading", name="Nothing waits for you")).to_be_visible()
    await expect(card(page)).to_have_count(0)

    # The next one that comes is there at once.
    await asked(api, "note", text="two")
    await expect(selected(page)).to_contain_text("two")


async def test_keys_move_and_decide_one_after_the_other(
    page: Page, api: Api, server: Server
) -> None:
    first = await asked(api, "note", text="one")
    second = await asked(api, "note", text="two")
    third = await asked(api, "note", text="three")
    await page.goto("/ui/inbox")
    await expect(selected(page)).to_contain_text("one")
    await expect(card(page)).to_contain_text("one")

    await pressed(page, "j", selected(page), "two")
    await page.keyboard.press("ArrowDown")
    await expect(selected(page)).to_contain_text("three")
    await page.keyboard.press("k")
    await expect(selected(page)).to_contain_text("two")

    await pressed(page, "r", card(page), "Why not?")
    await expect(card(page).get_by_label("Why not?")).to_be_focused()
    # While somebody writes, these are letters.
    await page.keyboard.type("jare")
    await page.keyboard.press("Control+Enter")
    await expect(page.get_by_text("Just now:")).to_contain_text("You rejected it")
    assert (await api.approval(second))["decision"] == {"type": "reject", "message": "jare"}

    # The next one is selected, has the focus and is announced.
    await expect(selected(page)).to_contain_text("three")
    await expect(selected(page)).to_be_focused()
    await expect(page.get_by_role("status").last).to_contain_text("Next: office wants to call note")

    # Enter leads to the card, and pressed again it decides nothing.
    await pressed(page, "Enter", page.locator("[data-card-title]:focus"), "office wants to call")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    assert (await status(api, first), await status(api, third)) == ("pending", "pending")

    await pressed(page, "e", card(page), "text *")
    await expect(card(page).get_by_label("text *")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(card(page).get_by_label("text *")).not_to_be_visible()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    await check_access(page)
    await page.get_by_label("Use these keys in this browser").uncheck()
    await page.keyboard.press("Escape")
    await page.keyboard.press("k")
    await expect(selected(page)).to_contain_text("three")
    await page.reload()
    await expect(selected(page)).to_contain_text("three")
    await page.keyboard.press("k")
    await expect(selected(page)).to_contain_text("three")
    assert server.traces() == []


async def pressed(page: Page, key: str, place: Locator, text: str) -> None:
    """Press the key until it works: after the list has changed, keys do nothing for a moment."""
    for _ in range(20):
        await page.keyboard.press(key)
        # Longer than keys do nothing for, since each that is pressed meanwhile counts again.
        with suppress(AssertionError):
            await expect(place.first).to_contain_text(text, timeout=450)
            return
    raise AssertionError(f"'{key}' does nothing.")


async def test_keys_do_nothing_right_after_the_list_has_changed(page: Page, api: Api) -> None:
    await asked(api, "note", text="one")
    await page.goto("/ui/inbox")
    await expect(card(page)).to_contain_text("one")
    # From here on, no time passes for keys.
    await page.evaluate("performance.now = () => 1e9")
    await asked(api, "note", text="two")
    await expect(rows(page)).to_have_count(2)
    confirm = card(page).get_by_role("button", name="Yes, approve")

    await page.keyboard.press("a")
    await page.keyboard.press("Enter")
    await expect(confirm).not_to_be_visible()
    await expect(pane(page).get_by_role("alert")).to_contain_text("that one did nothing")
    await page.evaluate("performance.now = () => 1e9 + 500")
    await page.keyboard.press("a")
    await expect(confirm).to_be_visible()


async def test_arrivals_never_move_the_selection(page: Page, api: Api) -> None:
    await asked(api, "note", text="one")
    await asked(api, "note", text="two")
    await page.goto("/ui/inbox?sort=newest")
    await expect(selected(page)).to_contain_text("two")
    await asked(api, "note", text="three")
    await expect(rows(page).first).to_contain_text("three")
    await expect(selected(page)).to_contain_text("two")
    await expect(card(page)).to_contain_text("two")


async def test_what_is_listed_stands_in_the_address(page: Page, api: Api) -> None:
    await asked(api, "note", text="a letter")
    await asked(api, "wipe", database="letters")
    await asked(api, "release", version="2.0")
    await page.goto("/ui/inbox")
    await expect(rows(page)).to_have_count(3)

    await page.get_by_label("Search").fill("letter")
    await expect(rows(page)).to_have_count(2)
    await page.get_by_role("button", name="Filters").click()
    await page.get_by_label("Risk").select_option("high")
    await expect(rows(page)).to_have_count(1)
    await page.get_by_label("First").select_option("newest")
    await expect(page).to_have_url(re.compile(r"q=letter.*risk=high.*sort=newest"))
    await check_access(page)

    await page.reload()
    await expect(page.get_by_label("Search")).to_have_value("letter")
    await expect(rows(page)).to_have_count(1)
    await page.get_by_label("Tool").select_option("release")
    await page.get_by_role("button", name="Clear the filters").first.click()
    await expect(rows(page)).to_have_count(2)


async def test_several_of_a_low_risk_are_decided_at_once_and_each_outcome_is_told(
    page: Page, api: Api, server: Server, browse: Browse
) -> None:
    ids = [await asked(api, "note", text=text) for text in ("one", "two", "three")]
    await asked(api, "wipe", database="customers")
    watched(page).forgive("ERR_FAILED", "net::")
    await page.route("**/approvals/stream**", lambda route: route.abort())
    await page.goto("/ui/inbox")
    await expect(rows(page)).to_have_count(4)
    await expect(page.get_by_role("checkbox")).to_have_count(3)
    await page.get_by_role("checkbox").first.check()
    await page.get_by_role("button", name="Choose all of low risk").click()

    # Somebody else is faster with one of them.
    other = await browse(server, name="bob")
    await other.goto(f"/ui/approvals/{ids[1]}")
    await other.get_by_role("button", name="Reject…").click()
    await other.get_by_role("button", name="Reject", exact=True).click()
    await expect(card(other)).to_contain_text("You rejected it")

    await page.get_by_role("button", name="Approve 3").click()
    question = page.get_by_role("alertdialog", name="Approve 3 calls of low risk?")
    await expect(question.get_by_role("listitem")).to_have_count(3)
    await check_access(page)
    await question.get_by_role("button", name="Yes, approve these").click()

    told = page.get_by_role("dialog", name="What became of each")
    await expect(told).to_contain_text("2 of 3 were taken.")
    await expect(told.get_by_role("listitem").nth(1)).to_contain_text("rejected by bob")
    await server.until_traced('note {"text": "one"}', 'note {"text": "three"}')
    assert await status(api, ids[1]) == "rejected"


async def test_an_error_never_empties_the_list(page: Page, api: Api) -> None:
    await asked(api, "note", text="one")
    watched(page).forgive("status of 503")
    await page.goto("/ui/inbox")
    await expect(rows(page)).to_have_count(1)
    problem = {"type": "about:blank", "title": "", "status": 503, "detail": "The disk is full."}
    await page.route("**/approvals?*", lambda route: route.fulfill(status=503, json=problem))
    await asked(api, "note", text="two")
    await expect(page.get_by_role("alert")).to_contain_text("The disk is full.", timeout=30_000)
    await expect(rows(page)).to_have_count(1)
    await page.unroute("**/approvals?*")
    await asked(api, "note", text="three")
    await expect(rows(page)).to_have_count(3)
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_everybody_sees_a_vote_at_once_and_what_was_decided_stays(
    page: Page, api: Api, server: Server, browse: Browse
) -> None:
    await asked(api, "release", version="2.0")
    other = await browse(server, name="bob", scheme="dark")
    await other.goto("/ui/inbox")
    await page.goto("/ui/inbox")
    await expect(rows(other)).to_contain_text("0 of 2")
    await card(page).get_by_role("button", name="Approve").click()
    await expect(rows(other)).to_contain_text("1 of 2")
    await card(other).get_by_role("button", name="Approve").click()
    # It stays in sight where somebody else has decided it.
    await expect(card(page)).to_contain_text("bob approved it")
    await expect(rows(page)).to_have_count(0)

    await page.get_by_role("button", name="Decided").click()
    await expect(rows(page)).to_contain_text("by bob")
    await expect(card(page)).to_contain_text("bob approved it")
    await check_access(page)


async def test_a_choice_has_a_key(page: Page, api: Api) -> None:
    approval_id = await asked(api, "ask_human", prompt="Which?", choices=["Bonn", "Ulm"])
    await page.goto("/ui/inbox")
    await pressed(page, "2", card(page).get_by_role("group", name="Give this answer?"), "Ulm")
    await page.keyboard.press("Enter")
    await expect(pane(page)).to_contain_text("You answered")
    assert (await api.approval(approval_id))["decision"]["message"] == "Ulm"


async def test_a_long_list_is_drawn_in_part_and_says_that_it_is_cut(page: Page, api: Api) -> None:
    await asked(api, "note", text="one")
    [one] = (await api.get("/approvals"))["approvals"]
    many = [{**one, "approval_id": f"apr_{place}"} for place in range(250)]

    async def answer(route: Route) -> None:
        await route.fulfill(json={"approvals": many, "next": None})

    await page.route("**/approvals?*", answer)
    await page.goto("/ui/inbox")
    await expect(rows(page).first).to_be_visible()
    assert await page.locator("[data-rows] li").count() < 40
    await page.locator("[data-rows]").evaluate("list => list.parentElement.scrollTo(0, 1e6)")
    await expect(page.get_by_text("Showing the first 200.")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_on_a_phone_the_list_leads_to_pages(
    browse: Browse, server: Server, api: Api, scheme: str
) -> None:
    approval_id = await asked(api, "note", text="one")
    page = await browse(server, size=PHONE, scheme=scheme)
    await page.goto("/ui/inbox")
    await expect(rows(page)).to_have_count(1)
    await check_access(page)
    await check_fits(page)
    await rows(page).get_by_role("button").tap()
    await expect(page).to_have_url(re.compile(f"/ui/approvals/{approval_id}"))
    await card(page).get_by_role("button", name="Approve").tap()
    await expect(card(page)).to_contain_text("You approved it")
    await page.get_by_role("link", name="To the inbox").tap()
    await expect(page.get_by_role("heading", name="Nothing waits for you")).to_be_visible()
    await check_access(page)
    await check_fits(page)


async def test_tab_leads_through_the_page_in_its_order(page: Page, api: Api) -> None:
    await asked(api, "note", text="one")
    await asked(api, "note", text="two")
    await page.goto("/ui/inbox")
    await expect(card(page)).to_be_visible()
    await page.get_by_label("Search").focus()
    reached: list[str] = []
    for _ in range(8):
        await page.keyboard.press("Tab")
        name = "e => (e.getAttribute('aria-label') || e.textContent).slice(0, 12)"
        reached.append(await page.locator(":focus").evaluate(name))
    # One row of the list can be reached, and then what stands in the card.
    assert reached[0] == "Filters"
    assert reached[1].startswith("Choose")
    assert reached[2].startswith("note")
    assert reached[3] == "As JSON"
    assert "Approve" in reached
