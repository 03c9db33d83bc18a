"""The example of `@assent/assistant-ui`, clicked in a browser under the policy of our own page."""

from __future__ import annotations

import mimetypes
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.support.command import REPOSITORY
from tests.support.node import node
from tests.support.pages import check_access
from tests.support.secrets import bearer, keys_of
from tests.support.server import Api, Server, asking, scripted_agents, serving
from tests.web.conftest import Browse

AGENTS = ("agent", "asking", "slow_agent")
WEB = REPOSITORY / "web"
PACKAGE = WEB / "packages" / "assistant-ui"
EXAMPLE = PACKAGE / "examples" / "chat"
PLAIN = PACKAGE / "test" / "plain"
"""A page with assistant-ui's own approvals in place of our card."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)

TWO = """
[policies.agents.agent.tools.pay]
quorum = 2
"""

Open = Callable[..., Awaitable[Page]]


def built_by_vite(source: Path, folder: Path) -> Path:
    """The page as Vite builds it into the folder."""
    vite = [node(), "node_modules/vite/bin/vite.js", "build", source, "--outDir", str(folder)]
    options = ["--config", EXAMPLE / "vite.config.ts", "--logLevel", "error", "--emptyOutDir"]
    subprocess.run([*vite, *options], cwd=WEB, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built."""
    return built_by_vite(EXAMPLE, tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with assistant-ui's own approvals, built."""
    return built_by_vite(PLAIN, tmp_path_factory.mktemp("plain"))


@pytest.fixture
def opened(server: Server, browse: Browse, example: Path) -> Open:
    """Opens the example, which stands beside the server's API: `await opened("?agent=agent")`. The
    server is asked for first, so that it ends after the pages that follow it."""

    async def opened(
        query: str = "", at: Server = server, files: Path = example, **options: str
    ) -> Page:
        page = await browse(at, **options)
        await page.route("**/example/**", partial(serve, files))
        await page.goto(f"/example/{query}")
        return page

    return opened


async def serve(example: Path, route: Route) -> None:
    """Answer with a file of the example, under the policy."""
    name = urlsplit(route.request.url).path.removeprefix("/example/") or "index.html"
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {"content-security-policy": POLICY, "content-type": kind}
    await route.fulfill(body=(example / name).read_bytes(), headers=headers)


async def say(page: Page, words: str) -> None:
    await page.get_by_label("Message").fill(words)
    await page.get_by_role("button", name="Send").click()


def card(page: Page, tool: str) -> Locator:
    """The card of the last call of the tool."""
    return page.locator(f'.assent-call[data-tool="{tool}"]').last


async def test_a_call_is_approved(opened: Open, server: Server) -> None:
    page = await opened("?agent=agent")
    await say(page, "pay 5")
    asked = card(page, "pay")
    await expect(asked).to_have_attribute("data-status", "waiting")
    await expect(asked.get_by_label("Arguments")).to_contain_text('"amount": 5')
    await asked.get_by_role("button", name="Approve").click()
    await expect(asked).to_have_attribute("data-status", "done")
    await expect(page.get_by_role("log")).to_contain_text("Results: paid 5")
    assert server.traces() == ["pay 5"]


async def test_a_call_is_edited_by_keyboard_and_stays_a_number(
    opened: Open, server: Server
) -> None:
    page = await opened("?agent=agent")
    await say(page, "pay 5")
    asked = card(page, "pay")
    await asked.get_by_role("button", name="Edit").press("Enter")
    field = asked.get_by_label("Arguments, as JSON")
    await expect(field).to_be_focused()
    await expect(asked.get_by_label("What it would do")).to_contain_text('"pays": 5')
    await field.fill('{"amount": 6}')
    await asked.get_by_role("button", name="Show what it would do").press("Enter")
    await expect(asked.get_by_label("What it would do").last).to_contain_text('"pays": 6')
    await field.fill("{")
    await asked.get_by_role("button", name="Approve with these arguments").press("Enter")
    await expect(asked.get_by_role("alert")).to_have_text("Write a JSON object.")
    await field.fill('{"amount": "much"}')
    await asked.get_by_role("button", name="Approve with these arguments").press("Enter")
    await expect(asked.get_by_role("alert").last).to_contain_text("amount")
    await field.fill('{"amount": 7}')
    await asked.get_by_role("button", name="Approve with these arguments").press("Enter")
    await expect(page.get_by_role("log")).to_contain_text("paid 7")
    assert server.traces() == ["pay 7"]


async def test_a_call_is_rejected_with_a_reason(opened: Open, server: Server) -> None:
    page = await opened("?agent=agent")
    await say(page, "pay 5")
    asked = card(page, "pay")
    await asked.get_by_role("button", name="Reject").click()
    await asked.get_by_label("Reason").fill("Too much.")
    await asked.get_by_role("button", name="Reject").click()
    await expect(asked).to_have_attribute("data-status", "denied")
    await expect(asked.get_by_role("status")).to_contain_text("rejected by local: Too much.")
    assert server.traces() == []


async def test_a_reload_shows_what_is_asked_and_what_was_said(opened: Open) -> None:
    page = await opened("?agent=agent")
    await say(page, "look 3; pay 5")
    await expect(card(page, "pay")).to_have_attribute("data-status", "waiting")
    await page.reload()
    await expect(card(page, "look")).to_have_attribute("data-status", "done")
    await expect(page.get_by_role("log")).to_contain_text("look 3; pay 5")
    await card(page, "pay").get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("log")).to_contain_text("paid 5")


async def test_questions_are_answered(opened: Open, server: Server) -> None:
    page = await opened("?agent=asking")
    await say(page, "Which?; How many?")
    questions = page.locator(".assent-question")
    await expect(questions).to_have_count(2)
    for number in (0, 1):
        asked = questions.first
        await asked.get_by_role("button", name="Answer").click()
        await asked.get_by_label("Answer").fill(f"answer {number}")
        await asked.get_by_role("button", name="Answer").click()
        await expect(questions).to_have_count(1 - number)
    await expect(page.get_by_role("log")).to_contain_text("Answers: ['answer 1']")


async def test_who_is_slower_reads_who_was_faster(opened: Open, api: Api, server: Server) -> None:
    page = await opened("?agent=agent")
    await say(page, "pay 5")
    asked = card(page, "pay")
    await expect(asked.get_by_role("button", name="Approve")).to_be_enabled()

    # The page hears nothing of it before the click: its own decision arrives second.
    async def late(route: Route) -> None:
        approval = (await api.get("/approvals", status="pending"))["approvals"][0]
        await api.decided(approval["thread_id"], type="reject")
        await route.continue_()

    await page.route("**/decide", late)
    await asked.get_by_role("button", name="Approve").click()
    await expect(asked.get_by_role("status")).to_contain_text("rejected by local")
    assert server.traces() == []


async def test_a_run_is_stopped(opened: Open) -> None:
    page = await opened("?agent=slow_agent")
    await say(page, "tell 400")
    await expect(page.get_by_role("log")).to_contain_text("word3")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("log")).to_contain_text("cancelled")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_assistant_uis_own_approvals_decide(
    opened: Open, api: Api, server: Server, plain: Path
) -> None:
    await api.stream("pay 5; pay 6", thread_id="calls", agent="agent")
    page = await opened("?thread=calls", files=plain)
    await page.get_by_role("button", name="Yes").first.click()
    await expect(page.get_by_role("button", name="No")).to_have_count(1)
    await page.get_by_label("Words").fill("Not six.")
    await page.get_by_role("button", name="No").click()
    await expect(page.locator('[data-approved="false"]')).to_have_count(1)
    assert "Not six." in await api.last_words("calls")
    assert server.traces() == ["pay 5"]

    await api.stream("Which?", thread_id="words", agent="asking")
    page = await opened("?thread=words", files=plain)
    await expect(page.get_by_role("group", name="Which?")).to_be_visible()
    await page.get_by_label("Words").fill("red")
    await page.get_by_role("button", name="Yes").click()
    await expect(page.locator('[data-approved="true"]')).to_have_count(1)
    assert await api.last_words("words") == "Answers: ['red']"


async def test_two_must_agree_to_what_one_of_them_has_edited(opened: Open, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "assent.toml").write_text(TWO)
    settings = {
        "ASSENT_CONFIG": str(folder / "assent.toml"),
        "ASSENT_API_KEYS": keys_of("ann", "bob"),
    }
    with serving(folder, scripted_agents(folder, "agent"), **settings) as server:
        page = await opened("?agent=agent", server, name="ann")
        await say(page, "pay 5")
        asked = card(page, "pay")
        await expect(asked).to_contain_text("0 of 2 people have decided.")
        async with asking(server, **bearer("bob")) as bob:
            (approval,) = (await bob.get("/approvals", status="pending"))["approvals"]
            edit = {"type": "edit", "args": {"amount": 7}}
            await bob.http.post(f"/approvals/{approval['approval_id']}/decide", json=edit)
        await expect(asked).to_contain_text("bob has changed the arguments.")
        await expect(asked).to_contain_text("1 of 2 people have decided.")
        await expect(asked.get_by_label("Arguments")).to_contain_text('"amount": 7')
        await expect(asked.get_by_role("button", name="Approve")).to_be_hidden()
        await asked.get_by_role("button", name="I have seen it").click()
        await asked.get_by_role("button", name="Approve").click()
        await expect(page.get_by_role("log")).to_contain_text("paid 7")
        assert server.traces() == ["pay 7"]
        # It follows a server that ends before the other.
        await page.close()


async def test_nothing_is_wrong_for_those_who_hear_the_page(opened: Open) -> None:
    page = await opened("?agent=agent")
    await say(page, "pay 5")
    await expect(card(page, "pay").get_by_role("button", name="Approve")).to_be_enabled()
    await check_access(page)
