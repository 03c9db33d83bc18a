"""Many tabs of one browser, which has six connections to a server for all of them together."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route

from tests.support.command import REPOSITORY
from tests.support.node import node
from tests.support.server import Api, Server
from tests.support.waiting import until

WEB = REPOSITORY / "web"
TABS = 8
SLOTS = 4
"""The most streams of one browser."""

FOLLOW = """
([thread]) => {
  const { Assent } = window.client;
  const assent = new Assent({ url: "/" });
  window.heard = { thread: [], approvals: [] };
  window.faults = [];
  const follow = async (name, wanted) => {
    for await (const event of assent.follow({ ...wanted, share: true })) {
      window.heard[name].push(event.seq);
    }
  };
  for (const [name, wanted] of [["thread", { thread }], ["approvals", { approvals: true }]]) {
    follow(name, wanted).catch((error) => window.faults.push(String(error)));
  }
}
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The client as one script of a page, which has it as `window.client`."""
    file = tmp_path_factory.mktemp("client") / "client.js"
    source = WEB / "packages" / "client" / "src" / "index.ts"
    bundler = WEB / "node_modules" / "rolldown" / "bin" / "cli.mjs"
    options = ["--format", "iife", "--name", "client", "--file", str(file)]
    subprocess.run([node(), bundler, source, *options], cwd=WEB, check=True, capture_output=True)
    return Path(file).read_text()


async def tab(context: BrowserContext, server: Server, thread: str) -> Page:
    """A tab that follows the thread and the approvals."""
    page = await context.new_page()
    await page.goto(f"{server.url}/tab")
    await page.evaluate(FOLLOW, [thread])
    return page


async def heard(page: Page, name: str) -> list[int]:
    numbers: list[int] = await page.evaluate("(name) => window.heard[name]", name)
    return numbers


async def test_eight_tabs_hear_all_and_share_four_streams(
    server: Server, api: Api, chromium: Browser, script: str
) -> None:
    async def blank(route: Route) -> None:
        page = f"<!doctype html><title>Tab</title><script>{script}</script>"
        await route.fulfill(content_type="text/html", body=page)

    context = await chromium.new_context()
    await context.route("**/tab", blank)
    threads = [f"thread-{number}" for number in range(TABS)]
    for number, thread in enumerate(threads):
        await api.stream(f"pay {number}", thread_id=thread)
    tabs = [await tab(context, server, thread) for thread in threads]

    await say_everywhere(api, threads, "pay 100")
    await all_heard(api, tabs, threads)
    streams = await api.connections(transport="sse")
    assert 1 <= len(streams) <= SLOTS

    # The tabs that read are closed, and others read in their place.
    for page in tabs[:4]:
        await page.close()
    await say_everywhere(api, threads[4:], "pay 200")
    await all_heard(api, tabs[4:], threads[4:])
    assert [fault for page in tabs[4:] for fault in await page.evaluate("window.faults")] == []
    await context.close()


async def say_everywhere(api: Api, threads: list[str], message: str) -> None:
    """Answer what each thread waits for, and ask anew."""
    for thread in threads:
        await api.decided(thread, type="approve")
        await api.at_rest(thread)
        await api.stream(message, thread_id=thread)


async def all_heard(api: Api, tabs: list[Page], threads: list[str]) -> None:
    """Wait until each tab has heard its thread and all approvals, each number once, in order."""
    feed = [event["seq"] for event in (await api.page("/approvals/stream"))["events"]]
    for page, thread in zip(tabs, threads, strict=True):
        log = [event["seq"] for event in await api.events(thread)]

        async def is_there(page: Page = page, log: list[int] = log) -> bool:
            return await heard(page, "thread") == log and await heard(page, "approvals") == feed

        await until(is_there)
