"""Grants in the page: given with bounds, used without a person, and revoked."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support import office_agent
from tests.support.pages import PHONE, check_access, check_fits
from tests.support.secrets import bearer, keys_of
from tests.support.server import Api, Server, asking, project_of, serving
from tests.web.conftest import Browse

GRANT = {
    "tool": "pay",
    "bounds": {"amount": {"max": 100}, "to": {"among": ["<b>Ada</b>", "B\u202eob"]}},
    "user": "local",
    "uses": 10,
    "until": "2090-01-01T00:00:00Z",
}


async def test_a_grant_is_given_in_a_sentence_acts_and_is_revoked(page: Page, api: Api) -> None:
    await page.goto("/ui/grants")
    await expect(page.get_by_role("heading", name="Nothing is approved in advance")).to_be_visible()
    await page.get_by_role("button", name="New grant").click()
    form = page.get_by_role("dialog", name="New grant")
    await expect(form.get_by_text("done without a person")).to_be_visible()
    await form.get_by_label("Tool").select_option(label="pay of agent")
    summary = form.get_by_role("region", name="What this approves")
    await expect(summary).to_contain_text("within these bounds")

    await form.get_by_role("button", name="Approve in advance").click()
    least = form.get_by_label("amount from")
    await expect(least).to_have_attribute("aria-invalid", "true")
    await form.get_by_label("amount to").fill("5.5")
    await expect(form.get_by_text("Write whole numbers.")).to_be_visible()
    await form.get_by_label("amount to").fill("5")
    await form.get_by_label("How many calls").fill("2")
    await expect(summary).to_contain_text(
        "Without asking, the agent may call pay where amount is at most 5, for local up to 2 times"
    )
    await form.get_by_role("button", name="Approve in advance").click()

    row = page.get_by_role("listitem").filter(has_text="pay")
    await expect(row).to_contain_text("amount at most 5")
    await expect(row).to_contain_text("0 of 2 used")
    # The agent goes on by itself, and the page hears of it.
    events = await api.stream("pay 3")
    assert "approval_decided" in [event["type"] for event in events]
    await expect(row).to_contain_text("1 of 2 used")
    (approval,) = await api.paused("pay 6")
    assert approval["args"] == {"amount": 6}

    await row.get_by_role("button", name="Revoke the grant for pay").click()
    await page.get_by_role("alertdialog").get_by_role("button", name="Revoke it").click()
    await expect(page.get_by_role("heading", name="No grant is in force")).to_be_visible()
    await page.get_by_role("button", name="All").click()
    await expect(row.get_by_text("Revoked", exact=True)).to_be_visible()
    (grant,) = (await api.get("/grants"))["grants"]
    assert grant["revoked_by"] == "local"


async def test_what_may_be_anything_is_marked(page: Page, api: Api) -> None:
    await page.goto("/ui/grants")
    await page.get_by_role("button", name="New grant").click()
    form = page.get_by_role("dialog", name="New grant")
    await form.get_by_label("Tool").select_option(label="pay of agent")
    await form.get_by_label("amount", exact=True).select_option("any")
    await expect(form.get_by_text("Whatever the agent puts there is approved.")).to_be_visible()
    await form.get_by_label("For whom the agent works").fill("")
    await form.get_by_role("button", name="Approve in advance").click()
    await expect(form.get_by_text("Name a person, a thread, or both.")).to_be_visible()
    assert (await api.get("/grants"))["grants"] == []


async def test_what_a_tool_takes_of_a_few_values_is_picked(
    tmp_path: Path, built: None, browse: Browse
) -> None:
    graphs = project_of(tmp_path, {office_agent: ("office",)})
    with serving(tmp_path, graphs, ASSENT_API_KEYS=keys_of("ann", "bob")) as server:
        page = await browse(server, name="ann", size=PHONE)
        await page.goto("/ui/grants")
        await page.get_by_role("button", name="New grant").click()
        form = page.get_by_role("dialog", name="New grant")
        await form.get_by_label("Tool").select_option(label="wire of office")
        await form.get_by_label("to", exact=True).select_option("any")
        await form.get_by_label("amount to").fill("5")
        await form.get_by_label("currency", exact=True).select_option("among")
        await form.get_by_label("For whom the agent works").fill("ann")
        await form.get_by_role("button", name="Approve in advance").click()
        await expect(form.get_by_text("Choose at least one.")).to_be_visible()
        await form.get_by_role("checkbox", name="EUR").check()
        await form.get_by_role("checkbox", name="CHF").check()
        await check_access(page)
        await check_fits(page)
        await form.get_by_role("button", name="Approve in advance").click()
        await expect(form).to_be_hidden()
        async with asking(server, **bearer("ann")) as api:
            (grant,) = (await api.get("/grants"))["grants"]
        assert grant["bounds"]["currency"]["among"] == ["EUR", "CHF"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_grants_are_for_everybody_and_what_they_say_is_text(
    server: Server, browse: Browse, api: Api, scheme: str
) -> None:
    response = await api.http.post("/grants", json=GRANT)
    assert response.status_code == 201, response.text
    page = await browse(server, size=PHONE, scheme=scheme)
    await page.goto("/ui/grants")
    row = page.get_by_role("listitem").filter(has_text="pay").first
    await expect(row).to_contain_text("to “<b>Ada</b>” or “BU+202Eob”")
    await check_fits(page)
    await check_access(page)
    await row.get_by_role("button", name="Revoke").click()
    await expect(page.get_by_role("alertdialog")).to_be_visible()
    await check_access(page)
    await page.get_by_role("button", name="Go back").click()
    await page.get_by_role("button", name="New grant").click()
    await expect(page.get_by_role("region", name="What this approves")).to_be_attached()
    await check_fits(page)
    await check_access(page)
