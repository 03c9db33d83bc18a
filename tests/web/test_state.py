"""The states of a thread in the web page: its history, two compared, and a run or a fork from one."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.support.pages import PHONE, check_access, check_fits
from tests.support.server import Api, Server
from tests.web.conftest import Browse

HOSTILE = "<img src=x onerror=alert(1)> \u202egnp.exe"


async def test_a_run_from_the_past_says_what_it_asks_anew_and_asks_it(
    server: Server, api: Api, page: Page
) -> None:
    await api.paused("pay 1", thread_id="t")
    await api.decided("t", type="approve")
    await api.at_rest("t")
    assert server.traces("pay") == ["pay 1"]
    run = (await api.runs("t"))[-1]["run_id"]
    await page.goto(f"/ui/runs/{run}")
    await page.get_by_role("link", name="Run again").click()
    checkpoints = page.get_by_role("region", name="Checkpoints")
    # It begins where the run began: its model is asked again.
    await expect(checkpoints.get_by_role("button", name=re.compile("Input"))).to_have_attribute(
        "aria-current", "true"
    )
    await checkpoints.get_by_role("button", name=re.compile(r"^agent\s*step 1")).click()
    await page.get_by_role("button", name="Run from here").click()
    question = page.get_by_role("dialog", name="Run from this checkpoint?")
    await expect(question).to_contain_text("Asked anew at once")
    await expect(question).to_contain_text("amount")
    await check_access(page)
    await question.get_by_role("button", name="With a message").click()
    await question.get_by_role("button", name="Run from here").click()
    await expect(question).to_contain_text("Write a message first.")
    await question.get_by_role("button", name="With values").click()
    await question.get_by_label("Values").fill("[1]")
    await question.get_by_role("button", name="Run from here").click()
    await expect(question).to_contain_text("The input of a graph is an object")
    assert len(await api.runs("t")) == 2
    await question.get_by_role("button", name="As it is").click()
    await question.get_by_role("button", name="Run from here").click()
    await expect(page).to_have_url(re.compile("/ui/runs/"))
    await expect(page.get_by_role("link", name="1 question waits", exact=True)).to_be_visible()
    (asked,) = await api.pending("t")
    assert (asked["tool"], asked["args"]) == ("pay", {"amount": 1})
    assert server.traces("pay") == ["pay 1"]


async def test_two_states_are_compared_and_a_branch_has_a_line_of_its_own(
    api: Api, page: Page
) -> None:
    await api.stream("tell 1", thread_id="t")
    past = (await api.get("/threads/t/state"))["checkpoint_id"]
    await api.stream("tell 2", thread_id="t")
    newest = (await api.get("/threads/t/state"))["checkpoint_id"]
    await page.goto(f"/ui/threads/t/state?at={newest}&with={past}")
    different = page.get_by_role("region", name="What is different")
    await expect(different).to_contain_text("Added:")
    await expect(different).to_contain_text("word0 word1")
    await check_access(page)
    await page.get_by_label("Compare with…").select_option("")
    await expect(page.get_by_role("region", name="Values")).to_contain_text("tell 2")
    # What comes later comes by itself.
    await api.stream("tell 3", thread_id="t", checkpoint_id=past)
    checkpoints = page.get_by_role("region", name="Checkpoints")
    await expect(checkpoints.get_by_role("button", name=re.compile("Branch"))).to_have_count(1)
    lines = checkpoints.locator("circle")
    centres = set(await lines.evaluate_all("dots => dots.map(dot => dot.getAttribute('cx'))"))
    assert len(centres) == 2


async def test_a_fork_is_a_thread_that_asks_for_itself(
    server: Server, api: Api, page: Page
) -> None:
    await api.paused("pay 1", thread_id="t")
    await page.goto("/ui/threads/t/state")
    await expect(page.get_by_role("main")).to_contain_text("Waits for a person")
    await page.get_by_role("button", name="Fork").click()
    question = page.get_by_role("dialog", name="Fork from here?")
    await expect(question).to_contain_text("Asked anew at once")
    await question.get_by_role("button", name="Make the thread").click()
    await expect(page).not_to_have_url(re.compile("/threads/t/"))
    forked = page.url.split("/threads/")[1].split("/")[0]
    assert len(await api.pending(forked)) == 1
    assert len(await api.pending("t")) == 1
    assert server.traces("pay") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_anybody_can_read_it_on_a_phone_whatever_stands_there(
    api: Api, browse: Browse, scheme: str
) -> None:
    await api.stream(HOSTILE, thread_id="t")
    phone = await browse(size=PHONE, scheme=scheme)
    await phone.goto("/ui/threads/t/state")
    values = phone.get_by_role("region", name="Values")
    await expect(values).to_contain_text("<img src=x onerror=alert(1)>")
    await expect(values).to_contain_text("U+202E")
    await check_access(phone)
    await check_fits(phone)
    await phone.goto("/ui/threads/none/state")
    await expect(phone.get_by_role("heading", name="There is no such thread")).to_be_visible()
