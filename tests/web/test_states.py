"""What each page shows where the server fails, refuses or is away: what was read stays, and says that
it may be old; what was never read says why, and is asked for again."""

from __future__ import annotations

import re

from playwright.async_api import Page, Route, expect

from tests.support.pages import PHONE, check_access, check_fits, watched
from tests.support.server import Api, Server
from tests.web.conftest import Browse

AGENTS = ("agent",)

LISTS = {
    "/ui/inbox": ("pay", "Nothing waits for you"),
    "/ui/runs": ("pay 5", "No agent has run yet"),
    "/ui/agents": ("agent", "No agent"),
    "/ui/grants": ("pay", "Nothing is approved in advance"),
    "/ui/audit": ("without keys", "Nothing has happened yet"),
    "/ui/threads/asked/state": ("agent", "no checkpoints"),
    "/ui/chat": ("pay 5", "Conversations are listed here"),
    "/ui/schedules": ("Look around", "Nothing is scheduled"),
}
"""Each page that lists something: what stands there, and what must not be said in its place. The
last of them is read anew by nothing but a reader."""

BROKEN = "It broke on purpose."
REFUSED = "ann has not the right to see this."

READ_AGAIN = """() => {
  document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
  window.dispatchEvent(new Event("focus"));
}"""
"""As if the reader had come back to the tab."""


async def answering(page: Page, status: int, detail: str) -> None:
    """Have the server answer like this to all that the page asks for, but for its own files and who
    is there."""
    watched(page).forgive("status of 5", "ERR_FAILED")

    async def answer(route: Route) -> None:
        if re.search(r"^https?://[^/]+/(ui/|me$)", route.request.url):
            await route.continue_()
            return
        problem = {"type": "about:blank", "title": "", "status": status, "detail": detail}
        await route.fulfill(status=status, json=problem, content_type="application/problem+json")

    await page.route("**/*", answer)


async def filled(api: Api) -> None:
    """Something stands on every page."""
    await api.paused("pay 5", thread_id="asked", agent="agent")
    schedule = {"agent": "agent", "message": "Look around", "cron": "0 9 * * *"}
    assert (await api.http.post("/schedules", json=schedule)).status_code == 201
    bounds = {"amount": {"max": 1}}
    until = "2099-01-01T00:00:00Z"
    grant = {"agent": "agent", "tool": "pay", "bounds": bounds, "uses": 3, "until": until}
    grant["thread_id"] = "asked"
    response = await api.http.post("/grants", json=grant)
    assert response.status_code == 201, response.text


async def test_an_error_empties_no_list_and_says_that_it_may_be_old(page: Page, api: Api) -> None:
    await filled(api)
    for path, (there, nothing) in LISTS.items():
        await page.unroute("**/*")
        await page.clock.install()
        await page.goto(path)
        main = page.get_by_role("main")
        await expect(main.get_by_text(there, exact=False).first).to_be_visible()
        await answering(page, 500, BROKEN)
        # What was read a minute ago is read again when somebody looks.
        await page.clock.fast_forward(120_000)
        await page.evaluate(READ_AGAIN)

        stale = page.get_by_role("alert").filter(has_text="What you see may be old: " + BROKEN)
        await expect(stale.first).to_be_visible()
        await expect(main.get_by_text(there, exact=False).first).to_be_visible()
        await expect(page.get_by_text(nothing)).to_have_count(0)
        retry = stale.first.get_by_role("button", name="Try again")
        await expect(retry).to_be_visible()
    await page.unroute("**/*")
    await retry.click()
    await expect(stale).to_have_count(0)


async def test_what_could_not_be_read_says_why_and_is_asked_for_again(page: Page, api: Api) -> None:
    await filled(api)
    await answering(page, 503, BROKEN)
    for path, (_, nothing) in LISTS.items():
        await page.goto(path)
        alert = page.get_by_role("alert").filter(has_text=BROKEN)
        await expect(alert.first).to_be_visible()
        await expect(page.get_by_text(nothing)).to_have_count(0)
        retry = alert.first.get_by_role("button", name="Try again")
        await expect(retry).to_be_visible()
        await check_access(page)
    await page.unroute("**/*")
    await retry.click()
    await expect(page.get_by_role("main").get_by_text("Look around").first).to_be_visible()


async def test_what_is_refused_is_no_failure_and_is_not_asked_for_again(
    server: Server, browse: Browse, api: Api
) -> None:
    phone = await browse(server, size=PHONE, scheme="dark")
    await filled(api)
    await answering(phone, 403, REFUSED)
    for path in [path for path in LISTS if path != "/ui/chat"]:
        await phone.goto(path)
        refused = phone.get_by_role("heading", name="This is not for you to see")
        await expect(refused.first).to_be_visible()
        await expect(phone.get_by_text(REFUSED).first).to_be_visible()
        await expect(phone.get_by_role("button", name="Try again")).to_have_count(0)
        await check_fits(phone)


async def test_a_server_that_is_away_is_said_to_be_and_what_was_read_stays(
    server: Server, browse: Browse, api: Api
) -> None:
    page = await browse(server, size=PHONE)
    await filled(api)
    watched(page).forgive("ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY", "Failed to fetch")
    await page.goto("/ui/runs")
    row = page.get_by_role("main").get_by_text("pay 5")
    await expect(row.first).to_be_visible()
    server.kill()
    said = page.get_by_role("status").filter(has_text="The server cannot be reached.")
    await expect(said).to_be_visible()
    sign = await said.locator("svg").bounding_box()
    assert sign is not None and sign["width"] == sign["height"]
    await expect(row.first).to_be_visible()
    await check_access(page)
    server.start()
    await expect(said).to_have_count(0)
    await expect(row.first).to_be_visible()
