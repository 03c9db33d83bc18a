"""Notifications in the page: what was told, what failed, and how one is sent again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.pages import PHONE, check_access, check_fits
from tests.support.server import Server, asking, free_port, scripted_agents, serving
from tests.web.conftest import Browse


@pytest.fixture
def telling(tmp_path: Path, built: None) -> Iterator[Server]:
    """A server that has somebody to tell, who does not listen."""
    file = tmp_path / "assent.toml"
    file.write_text(
        f'[notify.pager]\nurl = "http://127.0.0.1:{free_port()}/hooks"\nallow_http = true\n'
        f'secrets = ["whsec_{"A" * 32}"]\n'
    )
    agents = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, agents, ASSENT_CONFIG=str(file)) as server:
        yield server


async def test_an_empty_page_says_how_people_are_told(page: Page) -> None:
    await page.goto("/ui/notifications")
    await expect(
        page.get_by_role("heading", name="Nobody was told of anything yet")
    ).to_be_visible()
    await expect(page.get_by_text("[notify.pager]")).to_be_visible()
    await check_access(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_what_could_not_be_told_is_shown_and_sent_again(
    telling: Server, browse: Browse, scheme: str
) -> None:
    async with asking(telling) as api:
        await api.paused("pay 3")
    page = await browse(telling, size=PHONE, scheme=scheme)
    await page.goto("/ui/notifications")
    row = page.get_by_role("list", name="Notifications").get_by_role("listitem")
    await expect(row).to_contain_text("pager is told that somebody is asked")
    await expect(row).to_contain_text(re.compile(r"\d (try|tries)"))
    await expect(row.get_by_text("On the way")).to_be_visible()
    await row.get_by_role("button", expanded=False).first.click()
    sent = row.get_by_role("button", name=re.compile(r"\d+ fields"))
    await expect(sent.first).to_be_visible()
    await check_fits(page)
    await check_access(page)

    telling.sql("UPDATE notifications SET status = 'dead'")
    await page.get_by_role("button", name="Given up").click()
    await expect(page).to_have_url("/ui/notifications?status=dead")
    await row.get_by_role("button", name="Send again to pager").click()
    await expect(page.get_by_role("heading", name="Nothing was given up")).to_be_visible()
