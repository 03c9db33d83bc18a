"""Schedules in the page: made with a look at their times, switched, run, changed and deleted."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.support.pages import PHONE, check_access, check_fits, watched
from tests.support.server import Api, Server
from tests.web.conftest import Browse

HOSTILE = "<img src=x onerror=alert(1)> pay \u202eyna 3 [go](javascript:alert(1))"


async def make(api: Api, **fields: object) -> str:
    schedule = {"cron": "0 9 * * MON-FRI", "message": "Which records are old?", **fields}
    made = (await api.http.post("/schedules", json=schedule)).json()
    id: str = made["schedule_id"]
    return id


async def test_a_schedule_is_made_by_choosing_and_its_times_are_seen_before(
    page: Page, api: Api
) -> None:
    await page.goto("/ui/schedules")
    await expect(page.get_by_role("heading", name="Nothing is scheduled")).to_be_visible()
    await page.get_by_role("button", name="New schedule").click()
    form = page.get_by_role("dialog", name="New schedule")
    await form.get_by_role("button", name="Weekly").click()
    await form.get_by_role("button", name="Thursday").click()
    await form.get_by_label("At", exact=True).fill("17:30")
    times = form.get_by_role("region", name="Next times")
    await expect(times).to_contain_text("Every Monday and Thursday at 17:30, Europe/Berlin")
    await expect(times.get_by_role("listitem")).to_have_count(5)
    await expect(times.get_by_role("listitem").first).to_contain_text("17:30")

    await form.get_by_role("button", name="Create").click()
    await expect(form.get_by_text("Write what the agent is told.")).to_be_visible()
    await form.get_by_label("Message", exact=True).fill("Look for old records")
    await page.keyboard.press("Tab")
    await form.get_by_role("button", name="Create").click()

    row = page.get_by_role("listitem").filter(has_text="Look for old records")
    await expect(row).to_contain_text("Every Monday and Thursday at 17:30, Europe/Berlin")
    (schedule,) = (await api.get("/schedules"))["schedules"]
    made = {name: schedule[name] for name in ("cron", "timezone", "message", "enabled")}
    assert made == {
        "cron": "30 17 * * MON,THU",
        "timezone": "Europe/Berlin",
        "message": "Look for old records",
        "enabled": True,
    }


async def test_what_is_wrong_is_said_at_its_field_and_nothing_is_made(page: Page, api: Api) -> None:
    await page.goto("/ui/schedules")
    await page.get_by_role("button", name="New schedule").click()
    form = page.get_by_role("dialog", name="New schedule")
    await form.get_by_label("Message", exact=True).fill("Look")
    await form.get_by_role("button", name="Cron").click()
    cron = form.get_by_label("Cron expression")
    await expect(cron).to_have_value("0 9 * * MON-FRI")
    await cron.fill("0 99 * * *")
    await expect(cron).to_have_attribute("aria-invalid", "true")
    await expect(form.get_by_role("alert")).to_contain_text("bad hour")
    await form.get_by_role("button", name="Create").click()
    await cron.fill("0 9 * * *")
    await expect(cron).not_to_have_attribute("aria-invalid", "true")

    await form.get_by_label("Time zone").fill("Europe/Atlantis")
    await expect(form.get_by_label("Time zone")).to_have_attribute("aria-invalid", "true")
    assert (await api.get("/schedules"))["schedules"] == []


async def test_a_schedule_is_switched_run_changed_and_deleted(page: Page, api: Api) -> None:
    id = await make(api, timezone="Europe/Berlin")
    await page.goto("/ui/schedules")
    row = page.get_by_role("listitem").filter(has_text="Which records are old?")
    await expect(row).to_contain_text("Every weekday at 09:00, Europe/Berlin")
    await expect(row).to_contain_text("Has not run yet")

    switch = row.get_by_role("switch")
    await switch.click()
    await expect(switch).to_have_attribute("aria-checked", "false")
    await expect(row.get_by_text("Off", exact=True)).to_be_visible()
    assert (await api.get(f"/schedules/{id}"))["enabled"] is False
    await switch.click()
    await expect(switch).to_have_attribute("aria-checked", "true")

    await do(page, "Change")
    form = page.get_by_role("dialog", name="Change")
    await form.get_by_role("button", name="Every day").click()
    await form.get_by_role("button", name="Save").click()
    await expect(row).to_contain_text("Every day at 09:00, Europe/Berlin")

    await do(page, "Run now")
    await page.get_by_role("alertdialog").get_by_role("button", name="Run now").click()
    await expect(page).to_have_url(re.compile("/ui/runs/"))
    await page.goto("/ui/schedules")
    await expect(row.get_by_text("Done", exact=True)).to_be_visible()
    last = (await api.get(f"/schedules/{id}"))["last_run_id"]
    await expect(row.get_by_role("link")).to_have_attribute("href", f"/ui/runs/{last}")

    await do(page, "Delete")
    await page.get_by_role("alertdialog").get_by_role("button", name="Delete it").click()
    await expect(page.get_by_role("heading", name="Nothing is scheduled")).to_be_visible()
    assert (await api.get("/schedules"))["schedules"] == []


async def do(page: Page, what: str) -> None:
    await page.get_by_role("button", name="What can be done with").click()
    await page.get_by_role("menuitem", name=what).click()


async def test_an_error_leaves_the_list_that_was_shown(page: Page, api: Api) -> None:
    await make(api)
    await page.goto("/ui/schedules")
    row = page.get_by_role("listitem").filter(has_text="Which records are old?")
    await expect(row).to_be_visible()

    watched(page).forgive("console: Failed to load")
    await page.route("**/schedules?**", lambda route: route.abort())
    await row.get_by_role("switch").click()
    await expect(page.get_by_text("What you see may be old:")).to_be_visible()
    await expect(row).to_be_visible()
    await page.unroute_all()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_text("What you see may be old:")).to_be_hidden()
    await expect(row.get_by_text("Off", exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_schedules_are_for_everybody_and_what_they_say_is_text(
    server: Server, browse: Browse, api: Api, scheme: str
) -> None:
    await make(api, message=HOSTILE, timezone="Europe/Berlin")
    await make(api, message="x" * 300, enabled=False)
    page = await browse(server, size=PHONE, scheme=scheme)
    await page.goto("/ui/schedules")
    row = page.get_by_role("listitem").filter(has_text="<img src=x")
    await expect(row).to_contain_text("U+202E")
    await expect(page.locator("img")).to_have_count(0)
    await row.get_by_role("button", expanded=False).first.click()
    await expect(row.get_by_role("list", name="Next times").get_by_role("listitem")).to_have_count(
        5
    )
    await check_fits(page)
    await check_access(page)
    await page.get_by_role("button", name="New schedule").click()
    form = page.get_by_role("dialog", name="New schedule")
    await expect(form.get_by_role("region", name="Next times")).to_contain_text("Every weekday")
    await form.get_by_text("More settings").click()
    await check_fits(page)
    await check_access(page)
