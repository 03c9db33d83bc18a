"""What a page follows: nothing is missed while it opens, nor by a server that is away just then."""

from __future__ import annotations

import re

from playwright.async_api import Page, expect

from tests.support.pages import watched
from tests.support.server import Api

NO_ANSWER = ("ERR_FAILED", "Failed to load resource: net::")


async def test_a_page_that_is_come_back_to_has_what_happened_meanwhile(
    page: Page, api: Api
) -> None:
    await api.paused("pay 1", thread_id="t")
    await page.goto("/ui/threads/t/state")
    states = page.get_by_role("region", name="Checkpoints").get_by_role("button")
    await expect(states.first).to_be_visible()
    before = await states.count()
    await page.get_by_role("link", name="Agents").first.click()
    await expect(page).to_have_url(re.compile("/ui/agents$"))
    await api.decided("t", type="approve")
    await api.at_rest("t")
    await page.go_back()
    await expect(states.nth(before)).to_be_visible()


async def test_a_page_that_a_server_did_not_answer_as_it_opened_follows_it_later(
    page: Page, api: Api
) -> None:
    watched(page).forgive(*NO_ANSWER)
    await api.paused("pay 1", thread_id="t")
    await page.route("**/threads/t/events**", lambda route: route.abort())
    async with page.expect_event("requestfailed"):
        await page.goto("/ui/threads/t/state")
    states = page.get_by_role("region", name="Checkpoints").get_by_role("button")
    await expect(states.first).to_be_visible()
    before = await states.count()
    await api.decided("t", type="approve")
    await api.at_rest("t")
    await page.unroute("**/threads/t/events**")
    await expect(states.nth(before)).to_be_visible()
