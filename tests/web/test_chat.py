"""The chat: what is said and done is shown as it comes, and nothing that is written decides."""

from __future__ import annotations

import re

from playwright.async_api import Locator, Page, expect

from tests.support.pages import check_access


def box(page: Page) -> Locator:
    """Where one writes."""
    return page.get_by_role("textbox", name="Message")


def log(page: Page) -> Locator:
    """What was said and done."""
    return page.get_by_role("log")


async def say(page: Page, text: str) -> None:
    """Write, and send it by Enter."""
    await box(page).fill(text)
    await box(page).press("Enter")


async def begin(page: Page, text: str) -> str:
    """Begin a conversation with these words; its thread."""
    await page.goto("/ui/chat")
    await say(page, text)
    await expect(page).to_have_url(re.compile(r"/ui/chat/.+"))
    return page.url.rpartition("/")[2]


async def test_a_message_is_answered_and_shown_again_after_a_reload(page: Page) -> None:
    await begin(page, "tell 30; look 3")
    for _ in ("as it comes", "read again"):
        await expect(log(page).get_by_role("article", name="A person said")).to_contain_text(
            "tell 30; look 3"
        )
        await expect(log(page)).to_contain_text("word0 word1 word2")
        call = log(page).get_by_role("button", name=re.compile("^look amount: 3 Done"))
        await call.click()
        await expect(log(page)).to_contain_text("saw 3")
        await expect(log(page).get_by_role("link", name="Timeline")).to_be_visible()
        await expect(box(page)).to_have_value("")
        await check_access(page)
        await page.reload()
