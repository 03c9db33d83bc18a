"""Answers that come late, as on a slow network: they move nobody from what they do meanwhile."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.support import office_agent
from tests.support.secrets import keys_of
from tests.support.server import Api, Server, project_of, serving
from tests.support.waiting import until
from tests.web.test_approval import asked, button, shown, status

PEOPLE = ("ann", "bob")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, built: None) -> Iterator[Server]:
    """A server with the office's agents, for all tests of this file."""
    folder = tmp_path_factory.mktemp("office")
    graphs = project_of(folder, {office_agent: tuple(office_agent.GRAPHS)})
    with serving(folder, graphs, ASSENT_API_KEYS=keys_of(*PEOPLE)) as server:
        yield server


class Late:
    """Keeps the answers of one path from the page until they are let through."""

    def __init__(self) -> None:
        self.has_come = False
        self._let = asyncio.Event()

    @classmethod
    async def of(cls, page: Page, path: str) -> Late:
        late = cls()
        await page.route(path, late._keep)
        return late

    def let(self) -> None:
        self._let.set()

    def hold(self) -> None:
        self._let.clear()

    async def _keep(self, route: Route) -> None:
        if route.request.method != "POST":
            await route.continue_()
            return
        response = await route.fetch()
        self.has_come = True
        await self._let.wait()
        await route.fulfill(response=response)


def selected(page: Page) -> Locator:
    return page.locator("[data-rows] [aria-current=true]")


def box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message")


async def test_a_decision_that_is_taken_late_leaves_its_reader_with_what_they_went_on_to(
    page: Page, api: Api
) -> None:
    for text in ("late one", "late two", "late three"):
        await asked(api, "note", {"text": text})
    await page.goto("/ui/inbox?q=late")
    await expect(selected(page)).to_contain_text("late one")
    late = await Late.of(page, "**/decide")
    await button(page.get_by_role("article"), "Approve").click()
    await page.get_by_role("listitem").filter(has_text="late three").get_by_role("button").click()
    await expect(selected(page)).to_contain_text("late three")
    await button(page.get_by_role("article"), "Reject…").click()
    reason = page.get_by_label("Why not?")
    await reason.fill("because")
    late.let()
    await expect(page.get_by_text("Just now:")).to_contain_text("You approved it")
    await expect(selected(page)).to_contain_text("late three")
    await expect(reason).to_be_focused()

    late.hold()
    await reason.press("Control+Enter")
    await page.get_by_role("link", name="Chat").first.click()
    await expect(box(page)).to_be_visible()
    async with page.expect_response("**/decide"):
        late.let()
    await expect(page.get_by_role("status").first).to_contain_text("You rejected it")
    await expect(page).to_have_url(re.compile("/ui/chat$"))


async def test_what_is_written_while_a_message_is_sent_is_kept(page: Page) -> None:
    await page.goto("/ui/chat")
    late = await Late.of(page, "**/agent/runs")
    await box(page).fill('{"text": "hello"}')
    await box(page).press("Enter")
    await box(page).press_sequentially(" and more")
    late.let()
    await expect(box(page)).to_have_value("and more")


async def test_a_conversation_that_begins_late_leads_nobody_away_from_another_page(
    page: Page, api: Api
) -> None:
    await page.goto("/ui/chat")
    late = await Late.of(page, "**/agent/runs")
    await box(page).fill('{"text": "hello"}')
    await box(page).press("Enter")
    await until(lambda: _came(late))
    await page.get_by_role("link", name="Agents").first.click()
    await expect(page.get_by_role("heading", name="Agents")).to_be_visible()
    async with page.expect_response("**/agent/runs"):
        late.let()
    await page.get_by_role("link", name="Chat").first.click()
    # It was sent, so it is not to be sent again.
    await expect(box(page)).to_have_value("")
    await expect(page).to_have_url(re.compile("/ui/chat$"))


async def _came(late: Late) -> bool:
    return late.has_come


async def test_a_link_that_cannot_be_copied_is_shown(page: Page, api: Api) -> None:
    approval_id = await asked(api, "note", {"text": "hello"})
    await page.add_init_script("delete Navigator.prototype.clipboard")
    card = await shown(page, approval_id)
    await button(card, "More").click()
    await page.get_by_role("menuitem", name="Copy the link to this").click()
    await expect(card).to_contain_text(f"/ui/approvals/{approval_id}")
    await button(card, "As JSON").click()
    await card.get_by_role("button", name="Copy", exact=True).first.click()
    await expect(page.get_by_role("status").last).to_contain_text("Not copied")
    assert await status(api, approval_id) == "pending"
