"""The page is there, under its policy; and what a page should not do fails its test."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.pages import browsing, check_fits, watched
from tests.support.server import Server
from tests.support.waiting import until


async def test_the_page_is_served_under_its_policy(page: Page) -> None:
    response = await page.goto("/ui/")
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert policy == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    await expect(page).to_have_title(re.compile("Assent"))
    await expect(page.get_by_role("main")).to_be_visible()


async def test_a_browser_that_asks_for_the_server_is_led_to_the_page(phone: Page) -> None:
    await phone.goto("/")
    await expect(phone).to_have_url(re.compile(r"/ui/"))
    await expect(phone.get_by_role("main")).to_be_visible()
    await check_fits(phone)


FAULTS = {
    "a policy's report": (
        "document.body.setAttribute('style', 'color: red')",
        "console: policy: style-src-attr",
    ),
    "a script as text": (
        "try { document.body.innerHTML = '<b>x</b>' } catch (_) {}",
        "console: policy: require-trusted-types-for",
    ),
    "an error in the console": ("console.error('It went wrong.')", "console: It went wrong."),
    "an exception": ("setTimeout(() => { throw new Error('Nobody caught it.') })", "uncaught: "),
    "another origin": (
        "location.assign('http://127.0.0.1:9/')",
        "request to elsewhere: GET http://127.0.0.1:9/",
    ),
}


@pytest.mark.parametrize(("script", "fault"), FAULTS.values(), ids=FAULTS.keys())
async def test_what_a_page_should_not_do_fails_its_test(
    script: str, fault: str, chromium: Browser, server: Server
) -> None:
    with pytest.raises(AssertionError, match="should not have done this"):
        async with browsing(chromium, server) as page:
            await page.goto("/ui/")
            await page.evaluate(f"() => {{ {script} }}")
            seen = watched(page).faults
            await until(lambda: any(each.startswith(fault) for each in seen))
