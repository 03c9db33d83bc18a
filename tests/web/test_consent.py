"""What would make the page decide what nobody has seen: it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from tests.support import office_agent
from tests.support.secrets import keys_of, secret_of
from tests.support.server import Api, Server, project_of, serving
from tests.support.waiting import until
from tests.web.conftest import Browse
from tests.web.test_approval import asked, button, shown, status

PEOPLE = ("ann", "bob")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, built: None) -> Iterator[Server]:
    """A server with the office's agents, for all tests of this file."""
    folder = tmp_path_factory.mktemp("office")
    graphs = project_of(folder, {office_agent: tuple(office_agent.GRAPHS)})
    with serving(folder, graphs, ASSENT_API_KEYS=keys_of(*PEOPLE)) as server:
        yield server


async def test_what_is_armed_is_taken_back_when_the_reader_leaves_or_something_else_is_asked(
    page: Page, api: Api
) -> None:
    approval_id = await asked(api, "wire", {"to": "Ada", "amount": 1200})
    card = await shown(page, approval_id)
    armed = card.get_by_role("group", name="Its risk is high")
    await button(card, "Edit…").click()
    await card.get_by_label("amount *").fill("1300")
    await button(card, "Run it with these").click()
    await expect(armed).to_contain_text("1300")

    await page.get_by_role("link", name="Chat").first.click()
    await expect(page).to_have_url(re.compile("/ui/chat"))
    await expect(card).to_be_hidden()
    await page.go_back()
    await expect(card.get_by_label("amount *")).to_have_value("1300")
    await expect(armed).to_be_hidden()
    await expect(button(card, "Yes, run it with these")).to_be_hidden()
    assert await status(api, approval_id) == "pending"


async def test_an_edit_of_the_same_person_elsewhere_has_to_be_seen_first(
    page: Page, api: Api
) -> None:
    approval_id = await asked(api, "release", {"version": "2.4"})
    card = await shown(page, approval_id)
    await expect(button(card, "Approve")).to_be_visible()
    approval = await api.approval(approval_id)
    edit = {"type": "edit", "args": {"version": "3.0"}, "digest": approval["digest"]}
    response = await api.http.post(f"/approvals/{approval_id}/decide", json=edit)
    assert response.is_success
    await expect(card).to_contain_text("changed what is asked")
    await expect(button(card, "Approve")).to_be_hidden()
    await button(card, "I have seen it").click()
    await expect(card).to_contain_text("3.0")


async def test_a_held_key_presses_nothing_that_comes_under_it(page: Page, api: Api) -> None:
    approval_id = await asked(api, "note", {"text": "hello"})
    card = await shown(page, approval_id)
    await button(card, "Reject…").click()
    await button(card, "Go back").focus()
    await page.keyboard.down("Enter")
    await button(card, "Approve").focus()
    for _ in range(3):
        await page.keyboard.down("Enter")
    await page.keyboard.up("Enter")
    await expect(button(card, "Approve")).to_be_enabled()
    assert await status(api, approval_id) == "pending"


async def test_a_number_that_the_browser_rounds_is_told_exactly_and_never_sent(
    page: Page, api: Api
) -> None:
    exact = 12345678901234567890
    approval_id = await asked(api, "store", {"value": {"account": exact, "amount": 1}})
    card = await shown(page, approval_id)
    await expect(card).to_contain_text(str(exact))
    await expect(card).to_contain_text("about: this browser rounds it")
    await button(card, "Edit…").click()
    json_way = card.get_by_role("radio", name="JSON").or_(button(card, "JSON"))
    await json_way.first.click()
    field = card.get_by_label("Arguments", exact=False).last
    await field.fill('{"value": {"account": 12345678901234567890, "amount": 2}}')
    await expect(card).to_contain_text("more digits than JavaScript reads")
    await expect(button(card, "Run it with these")).to_be_disabled()


async def test_several_are_decided_only_as_they_are_shown_in_full(page: Page, api: Api) -> None:
    for tail in ("first-end", "second-end"):
        await asked(api, "note", {"text": f"{'x' * 400} {tail}"})
    await page.goto("/ui/inbox?q=-end")
    choices = page.get_by_role("checkbox", name=re.compile("note"))
    await expect(choices).to_have_count(2)
    for place in range(2):
        await choices.nth(place).check()
    await page.get_by_role("button", name="Approve 2").click()
    dialog = page.get_by_role("alertdialog").or_(page.get_by_role("dialog"))
    await expect(dialog).to_contain_text("first-end")
    await expect(dialog).to_contain_text("second-end")


async def test_another_person_in_one_tab_is_another_in_all_and_finds_nothing_of_the_first(
    page: Page, server: Server, browse: Browse
) -> None:
    await page.goto("/ui/chat")
    box = page.get_by_role("textbox", name="Message")
    await box.fill("a secret of ann")
    other = await page.context.new_page()
    await other.goto("/ui/schedules")
    await expect(page.get_by_title("ann")).to_be_visible()

    await page.evaluate(
        "key => fetch('/session', {method: 'POST', body: JSON.stringify({key}), "
        "headers: {'content-type': 'application/json'}})",
        secret_of("bob"),
    )
    await other.reload()
    await expect(other.get_by_title("bob")).to_be_visible()

    await expect(page.get_by_title("bob")).to_be_visible()
    await expect(box).to_have_value("")

    async def kept() -> bool:
        return "secret of ann" not in await page.evaluate("JSON.stringify(sessionStorage)")

    await until(kept)


async def test_an_edit_that_is_no_json_is_not_sent_as_it_was_before(page: Page, api: Api) -> None:
    approval_id = await asked(api, "release", {"version": "2.4"})
    card = await shown(page, approval_id)
    await button(card, "Edit…").click()
    await card.get_by_text("JSON", exact=True).click()
    field = card.get_by_label("Arguments", exact=False).last
    await field.fill('{"version": "3.0"}')
    await field.fill('{"version": "4.0"')
    await expect(button(card, "Run it with these")).to_be_disabled()
    await button(card, "Go back").click()
    await button(card, "Edit…").click()
    await expect(field).to_have_value('{"version": "4.0"')
    await expect(button(card, "Run it with these")).to_be_disabled()
