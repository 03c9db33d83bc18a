"""A phone's keyboard takes half of the page: what somebody writes in stays in sight, and so does the
button that sends it. Some browsers make the window smaller for the keyboard; others lay it over the
page, and only `visualViewport` tells."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator

import pytest
from playwright.async_api import Locator, Page, expect

from tests.support import office_agent
from tests.support.pages import PHONE
from tests.support.secrets import keys_of
from tests.support.server import Api, Server, project_of, serving
from tests.support.waiting import until
from tests.web.conftest import Browse

PEOPLE = ("ann", "bob")

LEFT = 330
"""The pixels of the page's height that a keyboard leaves."""

OVERLAID = """() => {
  const viewport = new EventTarget();
  Object.assign(viewport, { height: innerHeight, width: innerWidth, scale: 1, offsetTop: 0 });
  Object.defineProperty(window, "visualViewport", { value: viewport });
}"""
"""A browser that lays its keyboard over the page."""

SHOWN_OVER = """(left) => {
  visualViewport.height = left;
  visualViewport.dispatchEvent(new Event("resize"));
}"""

IN_SIGHT = """([field, left]) => {
  const { top, bottom, x, width } = field.getBoundingClientRect();
  const middle = document.elementFromPoint(x + width / 2, (top + bottom) / 2);
  return top >= 0 && bottom <= left && (middle === field || field.contains(middle));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, built: None) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keyboard")
    graphs = project_of(folder, {office_agent: ("office",)})
    with serving(folder, graphs, ASSENT_API_KEYS=keys_of(*PEOPLE)) as server:
        yield server


async def resized(page: Page) -> None:
    await page.set_viewport_size({"width": PHONE[0], "height": LEFT})


async def overlaid(page: Page) -> None:
    await page.evaluate(SHOWN_OVER, LEFT)


KEYBOARDS: dict[str, Callable[[Page], Awaitable[None]]] = {
    "makes the window smaller": resized,
    "lies over the page": overlaid,
}


async def in_sight(place: Locator) -> None:
    """Wait until nothing covers it."""
    await expect(place).to_be_visible()
    handle = await place.element_handle()

    async def is_seen() -> bool:
        seen: bool = await place.page.evaluate(IN_SIGHT, [handle, LEFT])
        return seen

    await until(is_seen)


@pytest.mark.parametrize("keyboard", KEYBOARDS)
async def test_what_is_written_in_stays_above_the_keyboard(
    keyboard: str, server: Server, api: Api, browse: Browse
) -> None:
    calls = [["wire", {"to": "Ada", "amount": 3, "purpose": "Rent", "lines": []}]]
    (approval,) = await api.paused(json.dumps({"calls": calls}), agent="office")
    show = KEYBOARDS[keyboard]

    async def phone(name: str | None) -> Page:
        page = await browse(server, size=PHONE, name=name)
        if show is overlaid:
            await page.add_init_script(f"({OVERLAID})()")
        return page

    async def open_(path: str) -> None:
        await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        await page.goto(path)

    page = await phone("ann")
    path = f"/ui/approvals/{approval['approval_id']}"

    # The reason of a rejection, and the button that sends it.
    await open_(path)
    await page.get_by_role("button", name="Reject…").click()
    reason = page.get_by_label("Why not?")
    await expect(reason).to_be_focused()
    await show(page)
    await in_sight(reason)
    await in_sight(page.get_by_role("button", name="Reject", exact=True))

    # A field deep in a form, whose foot is pinned below it.
    await open_(path)
    await page.get_by_role("button", name="Edit…").click()
    for name in ("purpose", "amount *"):
        field = page.get_by_label(name)
        await field.focus()
        await show(page)
        await in_sight(field)
    await in_sight(page.get_by_role("button", name="Run it with these"))

    # A dialog.
    await open_(path)
    card = page.get_by_role("article")
    await card.get_by_role("button", name="More", exact=True).click()
    await page.get_by_role("menuitem", name="Comment…").click()
    dialog = page.get_by_role("dialog")
    comment = dialog.get_by_role("textbox")
    await comment.focus()
    await show(page)
    await in_sight(comment)
    await in_sight(dialog.get_by_role("button", name="Comment", exact=True))

    # A message.
    await open_(f"/ui/chat/{approval['thread_id']}")
    message = page.get_by_role("textbox", name="Message")
    await message.fill("one line\nanother\na third")
    await show(page)
    await in_sight(message)
    await in_sight(page.get_by_role("button", name="Send", exact=True))

    # A key.
    page = await phone(None)
    await open_("/ui/")
    key = page.get_by_label("Key", exact=True)
    await key.focus()
    await show(page)
    await in_sight(key)
