"""The web page in a real browser, for tests that look at it as a person does.

Each page is watched: a report of its Content-Security-Policy, an error in its console, an exception
that nobody caught and a request to another origin all fail the test that has opened it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, WebError

from tests.support.secrets import secret_of
from tests.support.server import Server

DESKTOP = (1280, 800)
PHONE = (375, 667)

Scheme = Literal["light", "dark"]

REPORTS = """
document.addEventListener("securitypolicyviolation", (event) => {
  const where = `${event.sourceFile}:${event.lineNumber}`;
  console.error(`policy: ${event.effectiveDirective} ${event.blockedURI} ${event.sample} ${where}`);
});
"""
"""Tells of what the policy has stopped, also where the browser itself says nothing."""

REFUSED = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d")
"""What the browser writes of each answer that refuses something: the page may well ask for it."""

WCAG = {"resultTypes": ["violations"]}


@dataclass
class Watched:
    """What the pages of one browser context have done that they should not."""

    server: Server
    faults: list[str] = field(default_factory=list)
    forgiven: list[str] = field(default_factory=list)

    def forgive(self, *patterns: str) -> None:
        """Let what matches one of these patterns pass: a test that kills the server expects that
        requests fail."""
        self.forgiven += patterns

    def check(self) -> None:
        """Fail the test if there was a fault."""
        faults = [each for each in self.faults if not self._is_forgiven(each)]
        assert faults == [], f"The page should not have done this: {faults}"

    def watch(self, context: BrowserContext) -> None:
        """Listen to all pages of the context."""
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("request", self._request)

    def _is_forgiven(self, fault: str) -> bool:
        return any(re.search(pattern, fault) for pattern in self.forgiven)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "assert"):
            return
        url = message.location.get("url", "")
        is_answer = REFUSED.match(message.text) and "/ui/" not in urlsplit(url).path
        if not is_answer:
            self.faults.append(f"console: {message.text} ({url})")

    def _error(self, error: WebError) -> None:
        self.faults.append(f"uncaught: {error.error}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.server.url}/", "data:", f"blob:{self.server.url}/")):
            self.faults.append(f"request to elsewhere: {request.method} {request.url}")


WATCHED: dict[BrowserContext, Watched] = {}
"""The watch over each context that is open."""


def watched(page: Page) -> Watched:
    """The watch over a page."""
    return WATCHED[page.context]


@asynccontextmanager
async def browsing(
    chromium: Browser,
    server: Server,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Scheme = "light",
    name: str | None = None,
    **options: Any,
) -> AsyncIterator[Page]:
    """A new page in a browser of its own, at no address yet: `await page.goto("/ui/")`. It is held
    to what pages should not do, once the context is left. With a `name`, that person has signed in
    with their key."""
    context = await chromium.new_context(
        base_url=server.url,
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        has_touch=size == PHONE,
        is_mobile=size == PHONE,
        locale="en-GB",
        timezone_id="Europe/Berlin",
        reduced_motion="reduce",
        **options,
    )
    watching = WATCHED[context] = Watched(server)
    try:
        watching.watch(context)
        await context.add_init_script(REPORTS)
        if name is not None:
            await sign_in(context, server, name)
        yield await context.new_page()
        watching.check()
    finally:
        del WATCHED[context]
        await context.close()


async def sign_in(context: BrowserContext, server: Server, name: str) -> None:
    """Have the context the cookie of this person's session, as the page's form would get it."""
    response = await context.request.post(
        "/session", data={"key": secret_of(name)}, headers={"origin": server.url}
    )
    assert response.ok, await response.text()


async def check_access(page: Page) -> None:
    """Fail the test for whatever axe finds that keeps somebody from using the page as it is now."""
    results = await Axe().run(page, options=WCAG)
    assert results.violations_count == 0, results.generate_report()


async def check_fits(page: Page) -> None:
    """Fail the test if the page can be scrolled sideways."""
    script = "() => [document.documentElement.scrollWidth, window.innerWidth]"
    inner, outer = await page.evaluate(script)
    assert inner <= outer, f"The page is {inner} px wide, in a window of {outer}."
