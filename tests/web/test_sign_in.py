"""Signing in in a browser: with a key or at an identity provider, again over a page, and out."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.support.oidc_provider import PASSWORD, provider
from tests.support.pages import PHONE, check_access, check_fits, watched
from tests.support.secrets import secret_of
from tests.support.server import Api, Server, asking, problem, scripted_agents, serving
from tests.web.conftest import Browse

PEOPLE = ("ann", "bob")

STORED = """() => [
  location.href, document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage),
  JSON.stringify(history.state),
].join(" ")"""
"""All that scripts of the page can read again later."""

TOO_MANY = re.compile(r"Too many keys were tried from here\. Try again in \d+ (s|min)")


async def sign_in(place: Page | Locator, name: str) -> None:
    await place.get_by_label("Key", exact=True).fill(secret_of(name))
    await place.get_by_role("button", name="Sign in").click()


async def asked(api: Api) -> str:
    """The id of an approval."""
    (approval,) = await api.paused("pay 3")
    return str(approval["approval_id"])


# ── with a key ────────────────────────────────────────────────────────────────────────────────────


async def test_a_wrong_key_is_said_at_the_field_and_the_right_one_leads_to_the_page(
    server: Server, browse: Browse
) -> None:
    page = await browse(server, name=None)
    await page.goto("/ui/schedules?of=them")
    key = page.get_by_label("Key", exact=True)
    await expect(key).to_be_focused()
    await expect(page).to_have_title("Sign in · Assent")
    await expect(key).to_have_attribute("autocomplete", "current-password")
    await expect(key).to_have_attribute("type", "password")

    await page.keyboard.type("another")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("This key is none of this server's.")
    await expect(key).to_have_attribute("aria-invalid", "true")
    await expect(key).to_be_focused()

    # What is written next takes the place of the wrong one.
    await page.keyboard.type(secret_of("ann"))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Schedules", level=1)).to_be_visible()
    await expect(page).to_have_url("/ui/schedules?of=them")
    assert secret_of("ann") not in await page.evaluate(STORED)

    (cookie,) = await page.context.cookies()
    assert cookie["name"] == "assent" and cookie["value"] not in await page.evaluate(STORED)
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")


async def test_a_link_to_one_approval_leads_to_it_over_the_sign_in(
    server: Server, browse: Browse, api: Api
) -> None:
    await asked(api)
    approval_id = await asked(api)
    phone = await browse(server, name=None, size=PHONE)
    await phone.goto(f"/ui/approvals/{approval_id}?from=mail")
    await sign_in(phone, "ann")

    card = phone.get_by_role("article")
    await expect(card.get_by_role("heading").first).to_contain_text("wants to call pay")
    await expect(phone).to_have_url(f"/ui/approvals/{approval_id}?from=mail")
    await card.get_by_role("button", name="Approve").click()
    await expect(card).to_contain_text("You approved it")
    statuses = {
        each["approval_id"]: each["status"] for each in (await api.get("/approvals"))["approvals"]
    }
    assert statuses.pop(approval_id) == "approved"
    assert list(statuses.values()) == ["pending"]


async def test_who_guesses_too_often_is_told_when_to_try_again(
    tmp_path: Path, built: None, browse: Browse
) -> None:
    keys = {"ASSENT_API_KEYS": f"ann:{secret_of('ann')}", "ASSENT_FAILED_KEYS": "2/minute"}
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **keys) as server:
        page = await browse(server, name=None)
        await page.goto("/ui/")
        await page.get_by_label("Key", exact=True).fill("another")
        said = page.get_by_role("alert")
        for _ in range(3):
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        await expect(said).to_have_text(TOO_MANY)
        await expect(page.get_by_role("button", name="Sign in")).to_be_disabled()
        await expect(page.get_by_label("Key", exact=True)).to_be_focused()
        await check_access(page)


async def test_nobody_signs_in_where_nobody_is_known(demo: Server, browse: Browse) -> None:
    page = await browse(demo, name=None)
    await page.goto("/ui/schedules")
    await expect(page.get_by_role("heading", name="Schedules", level=1)).to_be_visible()
    await account(page)
    dialog = page.get_by_role("dialog", name="Account")
    await expect(dialog).to_contain_text("This server has no keys")
    await expect(dialog.get_by_role("button", name="Sign out")).to_have_count(0)
    await check_access(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_sign_in_is_for_everybody_and_fits(
    server: Server, browse: Browse, scheme: str
) -> None:
    page = await browse(server, name=None, size=PHONE, scheme=scheme)
    await page.goto("/ui/")
    await page.get_by_label("Key", exact=True).fill("wrong")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await check_access(page)
    await check_fits(page)


# ── a session that ends ───────────────────────────────────────────────────────────────────────────


async def test_who_is_signed_out_signs_in_over_the_page_which_keeps_what_was_written(
    server: Server, page: Page, api: Api
) -> None:
    await page.goto("/ui/schedules")
    await page.get_by_role("button", name="New schedule").click()
    form = page.get_by_role("dialog", name="New schedule")
    message = form.get_by_label("Message", exact=True)
    await message.fill("Which records are old?")
    await expect(form.get_by_role("list", name="Next times").get_by_role("listitem")).to_have_count(
        5
    )

    await page.context.clear_cookies()
    # The times of another rhythm are asked for.
    await form.get_by_role("button", name="Every hour").click()
    over = page.get_by_role("dialog", name="You are signed out")
    await expect(over).to_be_visible()
    await check_access(page)
    await sign_in(over, "ann")

    await expect(over).to_be_hidden()
    await expect(message).to_have_value("Which records are old?")
    await form.get_by_role("button", name="Create", exact=True).click()
    await expect(page.get_by_role("main")).to_contain_text("Which records are old?")
    # What goes on by itself does so again: the feed of approvals.
    await asked(api)
    await expect(page.get_by_role("link", name="Inbox 1 question waits for you")).to_be_visible()


async def test_what_is_followed_goes_on_after_a_sign_in_over_the_page(
    server: Server, browse: Browse, api: Api
) -> None:
    (approval,) = await api.paused("pay 3 then look 9", thread_id="followed")
    run = await browse(server, name="ann")
    await run.goto(f"/ui/runs/{approval['run_id']}")
    await expect(run.get_by_role("main")).to_contain_text("Waits for a person")
    chat = await browse(server, name="ann")
    await chat.goto("/ui/chat/followed")
    await expect(chat.get_by_role("button", name="Approve")).to_be_visible()

    for page in (run, chat):
        ended = await page.context.request.delete("/session", headers={"origin": server.url})
        assert ended.ok
        over = page.get_by_role("dialog", name="You are signed out")
        await expect(over).to_be_visible()
        # What was shown stays behind it.
        await expect(page.get_by_text("pay 3 then look 9").first).to_be_attached()
        await sign_in(over, "ann")
        await expect(over).to_be_hidden()

    await api.decided("followed", type="approve")
    await expect(run.get_by_role("main").get_by_text("look", exact=True).first).to_be_visible()
    await expect(chat.get_by_role("log")).to_contain_text("Results: saw 9")


async def test_another_person_gets_a_page_of_their_own(server: Server, page: Page) -> None:
    await page.goto("/ui/schedules")
    await page.get_by_role("button", name="New schedule").click()
    form = page.get_by_role("dialog", name="New schedule")
    await form.get_by_label("Message", exact=True).fill("What only ann may know")
    await expect(form.get_by_role("list", name="Next times").get_by_role("listitem")).to_have_count(
        5
    )
    await page.context.clear_cookies()
    await form.get_by_role("button", name="Every hour").click()

    await sign_in(page.get_by_role("dialog", name="You are signed out"), "bob")

    await expect(page.get_by_title("bob")).to_be_visible()
    await expect(form).to_have_count(0)


async def account(page: Page) -> None:
    await page.get_by_role("button", name="Account").click()
    await page.get_by_role("menuitem", name="Account").click()


async def test_signing_out_ends_the_session(server: Server, page: Page) -> None:
    await page.goto("/ui/schedules")
    await account(page)
    dialog = page.get_by_role("dialog", name="Account")
    await expect(dialog).to_contain_text("a session of this browser")
    (cookie,) = await page.context.cookies()

    await dialog.get_by_role("button", name="Sign out").click()

    await expect(page.get_by_role("heading", name="Sign in to Assent")).to_be_visible()
    assert await page.context.cookies() == []
    async with asking(server, cookie=f"assent={cookie['value']}") as stolen:
        await problem(await stolen.http.get("/me"), 401)


async def test_a_key_is_shown_once_and_refused_once_it_is_revoked(
    server: Server, browse: Browse
) -> None:
    page = await browse(server, permissions=["clipboard-read", "clipboard-write"])
    await page.goto("/ui/schedules")
    await account(page)
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Make a key").click()
    await dialog.get_by_label("What it is for").fill("the laptop")
    await check_access(page)
    await dialog.get_by_role("button", name="Make a key").click()
    await dialog.get_by_role("button", name="Copy the key").click()
    key: str = await page.evaluate("() => navigator.clipboard.readText()")
    assert key.startswith("ask_")
    await expect(dialog.get_by_text(key)).to_be_visible()
    await check_access(page)

    await dialog.get_by_role("button", name="I have kept it").click()
    await expect(dialog.get_by_text(key)).to_have_count(0)
    await expect(dialog.get_by_role("listitem")).to_contain_text(["the laptop"])
    async with asking(server, authorization=f"Bearer {key}") as api:
        assert (await api.get("/me"))["name"] == "ann"

        await dialog.get_by_role("button", name="Revoke the laptop").click()
        await page.get_by_role("alertdialog").get_by_role("button", name="Revoke").click()
        await expect(dialog.get_by_text("Revoked", exact=True)).to_be_visible()
        await problem(await api.http.get("/me"), 401)


# ── other sites ───────────────────────────────────────────────────────────────────────────────────


@contextmanager
def another_site() -> Iterator[str]:
    """The address of a site that has an empty page, on another port of this machine."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


FORGED = """([url, type]) => fetch(url, {
  method: "POST", mode: "no-cors", credentials: "include",
  headers: {"content-type": type}, body: JSON.stringify({type: "approve"}),
}).then(() => null, () => null)"""


async def test_no_page_of_another_origin_decides_with_the_cookie(
    server: Server, page: Page, api: Api
) -> None:
    """Another port is the same site to a browser, which sends the cookie along: the server looks
    where a request comes from."""
    approval = await asked(api)
    path = f"/approvals/{approval}"
    with another_site() as site:
        watched(page).forgive("request to elsewhere", "console: ")
        await page.goto(site)
        for type in ("text/plain", "application/json"):
            await page.evaluate(FORGED, [f"{server.url}{path}/decide", type])
    assert (await api.get(path))["status"] == "pending"

    # With the same cookie a page of the server's own decides.
    await page.goto("/ui/schedules")
    own = FORGED.replace('mode: "no-cors", ', "").replace("() => null)", "(error) => `${error}`)")
    assert await page.evaluate(own, [f"{path}/decide", "application/json"]) is None
    assert (await api.get(path))["status"] == "approved"


# ── at an identity provider ───────────────────────────────────────────────────────────────────────


async def test_somebody_signs_in_at_their_provider_and_comes_back_to_the_page(
    tmp_path: Path, built: None, browse: Browse
) -> None:
    server = Server(tmp_path, scripted_agents(tmp_path, "agent"), {})
    with provider(server.url) as known:
        file = tmp_path / "assent.toml"
        file.write_text(known.configuration())
        server.environment |= {"ASSENT_CONFIG": str(file), "ASSENT_PUBLIC_URL": server.url}
        server.start()
        try:
            page = await browse(server, name=None)
            watched(page).forgive("request to elsewhere", f"console: .*{known.url}")
            await page.goto("/ui/schedules?of=them")
            await page.get_by_role("link", name="Sign in with corp").click()
            await page.get_by_label("Login").fill("ann")
            await page.keyboard.press("Enter")
            await page.locator("input[type=password]").fill(PASSWORD)
            await page.keyboard.press("Enter")

            await expect(page.get_by_role("heading", name="Schedules", level=1)).to_be_visible()
            await expect(page).to_have_url("/ui/schedules?of=them")
            await expect(page.get_by_title("corp:ann")).to_be_visible()
        finally:
            server.kill()
