"""The web page in a real browser, served by a real server.

    async def test_something(server: Server, page: Page) -> None:
        await page.goto("/ui/")

`page` and `phone` show the pages of `server`, which knows nobody and has the scripted agents of
`tests/support/agents.py` that the module names as AGENTS; without that, `agent`. A module with
`PEOPLE = ("ann", "bob")` has a server with a key for each, and `page` is the first one's. `browse`
opens more: `await browse(name="bob")`, `await browse(size=PHONE, scheme="dark")`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support import browser
from tests.support.command import REPOSITORY
from tests.support.pages import PHONE, browsing
from tests.support.secrets import bearer, keys_of
from tests.support.server import Api, Server, asking, scripted_agents, serving
from tests.support.waiting import PATIENCE

HERE = Path(__file__).parent

expect.set_options(timeout=PATIENCE * 1000)

Browse = Callable[..., Awaitable[Page]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests on one event loop, on which the browser is."""
    for item in items:
        if HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def built() -> None:
    """The page is built from the sources as they are now."""
    command = [sys.executable, str(REPOSITORY / "web" / "build.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The browser, one for all tests of a process."""
    # A machine that builds and tests at once takes longer than the five seconds of Playwright.
    expect.set_options(timeout=PATIENCE * 1000)
    async with async_playwright() as playwright:
        program = await playwright.chromium.launch(
            executable_path=browser.chromium(), args=["--no-sandbox", "--headless=shell"]
        )
        yield program
        await program.close()


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path, built: None) -> Iterator[Server]:
    """A server with the module's agents and people."""
    agents = getattr(request.module, "AGENTS", ("agent",))
    people = getattr(request.module, "PEOPLE", ())
    keys = {"ASSENT_API_KEYS": keys_of(*people)} if people else {}
    with serving(tmp_path, scripted_agents(tmp_path, *agents), **keys) as server:
        yield server


@pytest.fixture
def demo(tmp_path: Path, built: None) -> Iterator[Server]:
    """A server as `make serve` starts it: with the demo's clerk, for whoever sits in front of it."""
    with serving(tmp_path) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def api(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Api]:
    """A client of the server, by which a test prepares what the page shows."""
    people = getattr(request.module, "PEOPLE", ())
    headers = bearer(people[0]) if people else {}
    async with asking(server, **headers) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def browse(request: pytest.FixtureRequest, chromium: Browser) -> AsyncIterator[Browse]:
    """Opens pages, each in a browser context of its own; `browsing` says with what."""
    people = getattr(request.module, "PEOPLE", ())

    async def browse(server: Server | None = None, **options: Any) -> Page:
        served = server or request.getfixturevalue("server")
        if people:
            options.setdefault("name", people[0])
        return await opened.enter_async_context(browsing(chromium, served, **options))

    async with AsyncExitStack() as opened:
        yield browse


@pytest_asyncio.fixture(loop_scope="session")
async def page(browse: Browse, server: Server) -> Page:
    """A page of the server in a window of 1280 x 800."""
    return await browse(server)


@pytest_asyncio.fixture(loop_scope="session")
async def phone(browse: Browse, server: Server) -> Page:
    """A page of the server on a phone of 375 x 667, which is touched."""
    return await browse(server, size=PHONE)
