"""What holds for every page: nothing is refused by its policy or asked of another origin (which
`browsing` watches), everybody can use it, it fits on a phone, and it comes fast."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.support.command import REPOSITORY
from tests.support.pages import DESKTOP, PHONE, check_access, check_fits
from tests.support.server import Api, Server
from tests.web.conftest import Browse

APP = REPOSITORY / "web" / "app" / "src" / "App.tsx"
UI = REPOSITORY / "assent" / "ui"

PAGES: Mapping[str, str] = {
    "/chat/:thread?": "/chat",
    "/chat/:thread": "/chat/{thread}",
    "/inbox": "/inbox",
    "/approvals/:id": "/approvals/{approval}",
    "/runs": "/runs",
    "/runs/:id": "/runs/{run}",
    "/threads/:id/state": "/threads/{thread}/state",
    "/agents/:name?": "/agents",
    "/agents/:name": "/agents/agent",
    "/schedules": "/schedules",
    "/grants": "/grants",
    "/audit": "/audit",
    "/notifications": "/notifications",
    "": "/nothing/here",
}
"""An address for each route, and for none."""

WHOLE = 400_000
FIRST_VIEW = 180_000
"""The most bytes, compressed, of all of the page's files, and of those without which an address shows
nothing."""

LATER = ("Markdown-",)
"""What comes behind a page that is shown already: the looks of messages, whose text is there
before."""


@dataclass(frozen=True)
class Shown:
    """A server's things that have a page."""

    thread: str
    approval: str
    run: str

    def path(self, pattern: str) -> str:
        return f"/ui{pattern.format(**vars(self))}"


@pytest_asyncio.fixture(loop_scope="session")
async def shown(api: Api) -> AsyncIterator[Shown]:
    """Something of everything."""
    (approval,) = await api.paused("pay 3")
    schedule = {"cron": "0 9 * * *", "message": "look", "timezone": "Europe/Berlin"}
    bounds = {"amount": {"max": 2}}
    grant = {"tool": "pay", "bounds": bounds, "user": "x", "uses": 3}
    for path, body in (
        ("/schedules", schedule),
        ("/grants", {**grant, "until": "2090-01-01T00:00:00Z"}),
    ):
        response = await api.http.post(path, json=body)
        assert response.status_code == 201, response.text
    yield Shown(approval["thread_id"], approval["approval_id"], approval["run_id"])


async def open_(page: Page, path: str) -> None:
    """Go there, and wait until what there is to see has come."""
    await page.goto(path)
    main = page.get_by_role("main")
    await expect(main.get_by_role("heading").first).to_be_visible()
    await expect(main.get_by_text("Loading", exact=True)).to_have_count(0)


def test_every_route_is_looked_at() -> None:
    routes = set(re.findall(r'<Route path="([^"]+)"', APP.read_text(encoding="utf-8")))
    assert routes - {"/"} <= {*PAGES}


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", PHONE)])
async def test_every_page_has_a_title_fits_and_is_for_everybody(
    server: Server, browse: Browse, shown: Shown, scheme: str, size: tuple[int, int]
) -> None:
    page = await browse(server, scheme=scheme, size=size)
    wrong: list[str] = []
    for pattern in PAGES.values():
        await open_(page, shown.path(pattern))
        try:
            await expect(page).to_have_title(re.compile(r".+ · Assent"))
            await check_fits(page)
            await check_access(page)
        except AssertionError as error:
            wrong.append(f"{pattern}: {error}")
    assert "\n".join(wrong) == ""


CONTROLS = """() => [...document.querySelectorAll(
  'a[href], button, input, select, textarea, summary, [tabindex="0"]'
)].filter((each) => !each.disabled && each.tabIndex >= 0 && each.checkVisibility({
  visibilityProperty: true, opacityProperty: true
}) && !each.closest('[inert], [aria-hidden="true"]')).map((each, place) => {
  each.dataset.control = place;
  return `${place} ${each.tagName} ${(each.ariaLabel ?? each.textContent ?? '').trim().slice(0, 40)}`;
})"""

FOCUSED = """() => {
  const each = document.activeElement;
  if (each === null || each === document.body) return null;
  // A box may show it for the field that it is around.
  const shows = (box) => {
    const style = getComputedStyle(box);
    return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  };
  const ring = shows(each) || shows(each.parentElement) || shows(each.parentElement.parentElement);
  return [each.dataset.control ?? null, ring, each.outerHTML.slice(0, 120)];
}"""


async def test_every_control_is_reached_by_tab_and_shows_that(
    server: Server, browse: Browse, shown: Shown
) -> None:
    page = await browse(server)
    wrong: list[str] = []
    for pattern in PAGES.values():
        await open_(page, shown.path(pattern))
        controls: list[str] = await page.evaluate(CONTROLS)
        reached: set[str] = set()
        await page.evaluate("() => document.activeElement?.blur()")
        for _ in range(len(controls) + 10):
            await page.keyboard.press("Tab")
            found = await page.evaluate(FOCUSED)
            if found is None:
                break
            place, has_ring, html = found
            if place is not None:
                reached.add(place)
            if not has_ring:
                wrong.append(f"{pattern}: no ring on {html}")
        missed = [each for each in controls if each.split(" ", 1)[0] not in reached]
        wrong += [f"{pattern}: not reached: {each}" for each in missed]
    assert "\n".join(wrong) == ""


def compressed(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 9))


def is_needed(path: str) -> bool:
    return path.startswith("/ui/assets/") and not Path(path).name.startswith(LATER)


async def test_the_page_comes_fast(server: Server, browse: Browse, shown: Shown) -> None:
    files = [path for path in UI.rglob("*") if path.suffix in (".js", ".css", ".html")]
    assert sum(map(compressed, files)) <= WHOLE

    views: dict[str, int] = {}
    for pattern in PAGES.values():
        # Each in a browser of its own, which has nothing yet.
        page = await browse(server)
        loaded: set[str] = set()
        page.on("response", lambda each, loaded=loaded: loaded.add(urlsplit(each.url).path))
        await open_(page, shown.path(pattern))
        mine = {UI / path.removeprefix("/ui/") for path in loaded if is_needed(path)}
        views[pattern] = sum(map(compressed, mine))
        await page.context.close()
    assert {pattern: size for pattern, size in views.items() if size > FIRST_VIEW} == {}
