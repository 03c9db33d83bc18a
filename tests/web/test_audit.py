"""The audit chain in the page: read, filtered, verified, and taken along as a file."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.pages import PHONE, check_access, check_fits
from tests.support.secrets import secret_of
from tests.support.server import Api, Server, scripted_agents, serving
from tests.web.conftest import Browse


async def decided(api: Api) -> str:
    """The id of an approval that was rejected with words."""
    (approval,) = await api.paused("pay 3")
    await api.decided(approval["thread_id"], type="reject", message="<img src=x onerror=alert(1)>")
    return str(approval["approval_id"])


async def test_rows_come_newest_first_by_themselves_and_are_filtered_by_the_address(
    page: Page, api: Api
) -> None:
    await page.goto("/ui/audit")
    await expect(page.get_by_role("heading", name="Nothing has happened yet")).to_be_visible()
    approval = await decided(api)
    listed = page.get_by_role("list", name="Rows, newest first").get_by_role("listitem")
    await expect(listed).to_have_count(2)
    await expect(listed.first).to_contain_text("Decided")
    await expect(listed.first).to_contain_text("local")
    await expect(listed.first).to_contain_text("reject · pay")
    await expect(listed.last).to_contain_text("Asked")

    await page.get_by_label("What was done").select_option(label="Asked")
    await expect(listed).to_have_count(1)
    await expect(page).to_have_url("/ui/audit?action=asked")
    await page.get_by_label("Who", exact=True).fill("nobody of this name")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="No row fits")).to_be_visible()
    await page.get_by_role("button", name="Show all").first.click()
    await expect(listed).to_have_count(2)
    await page.goto(f"/ui/audit?approval={approval}&action=decided&since=2020-01-01")
    await expect(listed).to_have_count(1)
    await page.get_by_label("To", exact=True).fill("2020-01-02")
    await expect(page.get_by_role("heading", name="No row fits")).to_be_visible()


async def test_the_chain_is_verified_and_says_where_it_broke(
    server: Server, page: Page, api: Api
) -> None:
    await decided(api)
    head = (await api.get("/audit/head"))["head"]
    await page.goto("/ui/audit")
    await page.get_by_role("button", name="Verify the chain").click()
    await expect(page.get_by_text("The chain is whole. All 2 rows are as written")).to_be_visible()
    await check_access(page)
    kept = page.get_by_label("A head that you have kept")
    await kept.fill(f"{head['number']}:{head['mac']}")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("It goes on from the head that you gave")).to_be_visible()
    await kept.fill("12")
    await page.keyboard.press("Enter")
    await expect(kept).to_have_attribute("aria-invalid", "true")
    await kept.fill("")

    with closing(sqlite3.connect(server.folder / "assent.db")) as database, database:
        database.execute("UPDATE audit SET actor = 'somebody else' WHERE number = 1")
    await page.get_by_role("button", name="Verify the chain").click()
    broken = page.get_by_role("alert")
    await expect(broken).to_contain_text("The chain is broken.")
    await expect(broken).to_contain_text("Nothing from row 1 on is proven")
    await check_access(page)


@pytest.mark.parametrize("kind", ["JSON", "CSV"])
async def test_the_rows_are_taken_along_as_a_file(
    page: Page, api: Api, kind: str, tmp_path: Path
) -> None:
    await decided(api)
    await page.goto("/ui/audit?action=asked")
    await page.get_by_role("button", name="Download").click()
    async with page.expect_download() as begun:
        await page.get_by_role("menuitem", name=kind).click()
    path = tmp_path / "rows"
    await (await begun.value).save_as(path)
    (row,) = (await api.get("/audit", action="asked"))["audit"]
    if kind == "JSON":
        assert [json.loads(line) for line in path.read_text().splitlines()] == [row]
    else:
        with path.open(newline="") as file:
            (read,) = csv.DictReader(file)
        assert (read["number"], read["mac"]) == (str(row["number"]), row["mac"])
        assert json.loads(read["detail"]) == row["detail"]


async def test_without_the_right_the_page_says_who_gives_it(
    tmp_path: Path, built: None, browse: Browse
) -> None:
    settings = {"ASSENT_API_KEYS": f"vic:{secret_of('vic')}", "ASSENT_ROLES": "vic:viewer"}
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **settings) as server:
        page = await browse(server, name="vic")
        for path, title in (("audit", "auditors"), ("notifications", "auditors and admins")):
            await page.goto(f"/ui/{path}")
            await expect(
                page.get_by_role("heading", name="This is not for you to see")
            ).to_be_visible()
            await expect(page.get_by_role("main")).to_contain_text(title)
            await expect(page.get_by_role("link", name="Audit")).to_have_count(0)
            await check_access(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_audit_is_for_everybody_and_fits(
    server: Server, browse: Browse, api: Api, scheme: str
) -> None:
    await decided(api)
    page = await browse(server, size=PHONE, scheme=scheme)
    await page.goto("/ui/audit")
    row = page.get_by_role("list", name="Rows, newest first").get_by_role("listitem").first
    await row.get_by_role("button").first.click()
    await expect(row.get_by_role("button", name="Copy the MAC")).to_be_visible()
    await expect(row).to_contain_text("message_digest")
    await check_fits(page)
    await check_access(page)
