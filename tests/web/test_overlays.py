"""Dialogs and menus: where the focus goes, which keys they take, and what a press meets that began
before they came or went."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Locator, Page, expect

from tests.support.pages import DESKTOP, PHONE, check_access, check_fits
from tests.support.server import Api, Server, scripted_agents, serving
from tests.web.conftest import Browse


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, built: None) -> Iterator[Server]:
    """A server for all tests of this file."""
    folder = tmp_path_factory.mktemp("overlays")
    with serving(folder, scripted_agents(folder, "agent")) as server:
        yield server


async def scheduled(api: Api) -> str:
    """The id of a schedule, which is the newest one."""
    schedule = {"cron": "0 9 * * *", "message": "look", "timezone": "Europe/Berlin"}
    response = await api.http.post("/schedules", json=schedule)
    assert response.status_code == 201, response.text
    return str(response.json()["schedule_id"])


def menu_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Account", exact=True)


async def test_a_dialog_keeps_the_focus_and_gives_it_back(page: Page) -> None:
    await page.goto("/ui/schedules")
    opener = page.get_by_role("button", name="New schedule").first
    form = page.get_by_role("dialog", name="New schedule")
    await opener.focus()
    await page.keyboard.press("Enter")
    await expect(form.get_by_role("button", name="Close")).to_be_focused()
    outside = "() => [document.body, null].includes(document.activeElement) || "
    outside += "document.activeElement.closest('dialog') !== null"
    for _ in range(25):
        await page.keyboard.press("Tab")
        assert await page.evaluate(outside), "The focus has left the dialog for the page."
    await page.keyboard.press("Escape")
    await expect(form).to_be_hidden()
    await expect(opener).to_be_focused()

    # Pressed inside and let go beside it is no click beside it: a text may be selected so.
    await opener.click()
    box = await form.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + 40, box["y"] + 30)
    await page.mouse.down()
    await page.mouse.move(box["x"] - 40, box["y"] + 30)
    await page.mouse.up()
    await expect(form).to_be_visible()
    await page.mouse.click(box["x"] - 40, box["y"] + 30)
    await expect(form).to_be_hidden()
    await expect(opener).to_be_focused()


async def test_a_question_is_answered_only_by_its_buttons(page: Page, api: Api) -> None:
    await scheduled(api)
    await page.goto("/ui/schedules")
    more = page.get_by_role("button", name="What can be done with").first
    await more.click()
    await page.get_by_role("menuitem", name="Delete").click()
    question = page.get_by_role("alertdialog")
    await expect(question.get_by_role("button", name="Go back")).to_be_focused()
    await page.mouse.click(5, 5)
    await expect(question).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(question).to_be_hidden()
    await expect(more).to_be_focused()


async def test_a_menu_works_by_keys(page: Page) -> None:
    await page.goto("/ui/schedules")
    button = menu_button(page)
    menu = page.get_by_role("menu", name="Account")

    def item(name: str) -> Locator:
        return menu.get_by_role("menuitem", name=name)

    await button.focus()
    await page.keyboard.press("ArrowUp")
    await expect(item("Dark")).to_be_focused()
    await expect(button).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("ArrowDown")
    await expect(item("Account")).to_be_focused()
    await page.keyboard.press("End")
    await expect(item("Dark")).to_be_focused()
    await page.keyboard.press("Home")
    await page.keyboard.type("as t")
    await expect(item("As the system")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(menu).to_be_hidden()
    await expect(button).to_be_focused()
    await expect(button).to_have_attribute("aria-expanded", "false")

    await page.keyboard.press("Enter")
    await expect(item("Account")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(menu).to_be_hidden()

    await button.click()
    await button.click()
    await expect(menu).to_be_hidden()
    await button.click()
    await page.get_by_role("heading", name="Schedules").click()
    await expect(menu).to_be_hidden()

    await button.focus()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    account = page.get_by_role("dialog", name="Account")
    await expect(account).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(account).to_be_hidden()
    await expect(button).to_be_focused()


async def test_a_held_key_and_a_second_press_meet_nothing_that_came_between(page: Page) -> None:
    await page.goto("/ui/schedules")
    menu = page.get_by_role("menu", name="Account")
    await menu_button(page).focus()
    for _ in range(4):
        await page.keyboard.down("Enter")
    await page.keyboard.up("Enter")
    await expect(menu.get_by_role("menuitem", name="Account")).to_be_focused()

    # The space bar is held when the focus goes elsewhere, and let go there.
    await page.keyboard.press("Escape")
    await page.keyboard.down(" ")
    await page.get_by_role("button", name="New schedule").first.focus()
    await page.keyboard.down(" ")
    await page.keyboard.up(" ")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await menu_button(page).click()

    # The account's dialog stands in the middle of the window, and the menu over the pages' links.
    dark = menu.get_by_role("menuitem", name="Dark")
    await dark.dblclick()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await expect(page).to_have_url("/ui/schedules")

    # The window is so small that the form's button comes under the pointer.
    await page.set_viewport_size({"width": 600, "height": 420})
    opener = page.get_by_role("button", name="New schedule").first
    form = page.get_by_role("dialog", name="New schedule")
    await opener.click()
    cancel = form.get_by_role("button", name="Cancel")
    box = await cancel.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    await form.get_by_role("button", name="Close").click()
    await expect(form).to_be_hidden()
    move = "([x, y]) => Object.assign(document.querySelector('#main button').style, "
    move += "{position: 'fixed', left: `${x - 20}px`, top: `${y - 10}px`})"
    await page.evaluate(move, [x, y])
    await page.mouse.dblclick(x, y)
    await expect(form).to_be_visible()


@pytest.mark.parametrize(("scheme", "size"), [("light", PHONE), ("dark", DESKTOP)])
async def test_what_is_open_is_for_everybody_and_fits(
    server: Server, api: Api, browse: Browse, scheme: str, size: tuple[int, int]
) -> None:
    await scheduled(api)
    page = await browse(server, scheme=scheme, size=size)
    await page.goto("/ui/schedules")

    async def check(shown: Locator) -> None:
        await expect(shown).to_be_visible()
        await check_access(page)
        await check_fits(page)
        await page.keyboard.press("Escape")
        await expect(shown).to_be_hidden()

    await page.get_by_role("button", name="New schedule").first.click()
    await check(page.get_by_role("dialog"))
    await page.get_by_role("button", name="What can be done with").first.click()
    await check(page.get_by_role("menu"))
    await page.get_by_role("button", name="What can be done with").first.click()
    await page.get_by_role("menuitem", name="Delete").click()
    await check(page.get_by_role("alertdialog"))
    if size == PHONE:
        await page.goto("/ui/chat")
        await page.get_by_role("button", name="Conversations").first.click()
        await check(page.get_by_role("dialog", name="Conversations"))
