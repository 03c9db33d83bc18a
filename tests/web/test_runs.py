"""The life of runs in the web page: their list, the timeline of one, its events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.support import agents, flooding_agent
from tests.support.pages import PHONE, check_access, check_fits, watched
from tests.support.server import Api, Event, Json, Server, project_of, serving
from tests.support.waiting import until
from tests.web.conftest import Browse

HOSTILE = "<img src=x onerror=alert(1)> \u202egnp.exe [x](javascript:alert(1))"
EVENTS = 10_000
MOST_NODES = 500

BEGINNINGS = {"node_start": "node_end", "llm_start": "llm_end", "tool_start": "tool_end"}


@pytest.fixture
def server(tmp_path: Path, built: None) -> Iterator[Server]:
    graphs = {agents: ("agent", "slow_agent"), flooding_agent: ("graph",)}
    with serving(tmp_path, project_of(tmp_path, graphs)) as server:
        yield server


def milliseconds(event: Event) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp() * 1000


def spans_of(events: list[Event]) -> list[tuple[float, float]]:
    """When each node, model and tool began and ended. What a crash cut off ends as the run is taken
    up again, or as its outcome is said to be unknown; what a pause cut off ends with the pause."""
    spans: list[tuple[float, float]] = []
    begun: dict[tuple[str, str], float] = {}
    lost: list[tuple[str, float, float]] = []
    for event in events:
        kind = event["type"]
        about = event.get("tool_call_id") or event.get("message_id") or event.get("task_id", "")
        if kind in BEGINNINGS:
            begun[BEGINNINGS[kind], about] = milliseconds(event)
        elif (kind, about) in begun:
            spans.append((begun.pop((kind, about)), milliseconds(event)))
        elif kind in ("run_recovered", "run_paused"):
            lost += [(its, at, milliseconds(event)) for (_, its), at in begun.items()]
            begun.clear()
        elif kind == "tool_unknown":
            [(_, at, _)] = found = [each for each in lost if each[0] == about]
            lost = [each for each in lost if each not in found] + [(about, at, milliseconds(event))]
    assert not begun
    return sorted(spans + [(at, end) for _, at, end in lost])


async def drawn(rows: Locator) -> list[tuple[float, float]]:
    """From when until when the bars of these rows are."""
    bars = rows.locator("[data-from]")
    read = "bars => bars.map(bar => [Number(bar.dataset.from), Number(bar.dataset.to)])"
    return sorted((begun, ended) for begun, ended in await bars.evaluate_all(read))


async def newest_run(api: Api, thread: str) -> str:
    return str((await api.runs(thread))[0]["run_id"])


async def crashed(server: Server, api: Api) -> str:
    """A thread whose run was approved, died with the server amid its tool, asked again, and went
    on; its last run."""
    await api.paused("slow 1", thread_id="t")
    await api.decided("t", type="approve")
    await server.until_traced("slow 1")
    server.restart()
    await api.at_rest("t")
    server.let_go(1)
    await api.decided("t", type="approve")
    await api.at_rest("t")
    return await newest_run(api, "t")


async def test_a_run_is_called_after_what_began_it_and_not_after_its_conversation(
    page: Page, api: Api
) -> None:
    for message in ("look 1", "look 2"):
        await api.stream(message, thread_id="t")
    await page.goto(f"/ui/runs/{await newest_run(api, 't')}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("look 2")


async def test_a_pause_a_crash_and_a_recovery_are_drawn_as_the_log_has_them(
    server: Server, api: Api, page: Page
) -> None:
    run = await crashed(server, api)
    await page.goto(f"/ui/runs/{run}")
    rows = page.get_by_role("list", name="Timeline of the run")
    await expect(rows.get_by_role("button", name="Tool slow: Done")).to_be_visible()
    works = rows.get_by_role("button", name=re.compile("^(Node|Model|Tool) "))
    expected = spans_of(await api.events("t"))
    found = await drawn(works)
    assert len(found) == len(expected)
    for bar, span in zip(found, expected, strict=True):
        assert bar == pytest.approx(span, abs=0.01, rel=0)

    waits = rows.get_by_role("button", name=re.compile("^Waits for a person: slow"))
    await expect(waits).to_have_count(2)
    await expect(waits.first).to_contain_text(re.compile("Approved by local after .* m?s"))
    cut = rows.get_by_role("button", name="Node tools: Cut off")
    await expect(cut).to_have_count(1)
    await expect(rows.get_by_text("attempt 2")).to_be_visible()

    await rows.get_by_role("button", name="The server's process died: Crashed").click()
    details = page.get_by_role("complementary", name="Details")
    await expect(details).to_contain_text("Last sign of life")
    await rows.get_by_role("button", name="Tool slow: Done").click()
    await expect(details).to_contain_text("slowly paid 1")
    await expect(details.get_by_role("link", name="approve by local")).to_be_visible()
    await rows.get_by_role("button", name=re.compile("^Model ")).last.click()
    await expect(details).to_contain_text("Results: slowly paid 1")
    await check_access(page)
    # What is selected is in the address.
    await page.reload()
    await expect(details).to_contain_text("Results: slowly paid 1")


async def test_a_run_is_followed_and_cancelled(api: Api, server: Server, page: Page) -> None:
    run = (await api.run("t", "hold 1"))["run_id"]
    await server.until_traced("hold 1")
    await page.goto(f"/ui/runs/{run}")
    rows = page.get_by_role("list", name="Timeline of the run")
    await expect(rows.get_by_role("button", name="Tool hold: At work")).to_be_visible()
    await page.get_by_role("button", name="Cancel", exact=True).click()
    question = page.get_by_role("alertdialog", name="Cancel this run?")
    await check_access(page)
    await question.get_by_role("button", name="Go back").click()
    assert (await api.get(f"/runs/{run}"))["status"] == "running"
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await question.get_by_role("button", name="Cancel the run").click()
    await expect(page.get_by_role("main")).to_contain_text("Being cancelled")
    server.let_go(1)
    await expect(page.get_by_role("main")).to_contain_text("Cancelled")
    assert (await api.ended(run))["status"] == "cancelled"
    await expect(page.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)


async def test_filters_are_in_the_address_and_runs_come_by_themselves(api: Api, page: Page) -> None:
    await api.stream("tell 1", thread_id="first")
    await api.paused("pay 1", thread_id="paid")
    await page.goto("/ui/runs")
    table = page.get_by_role("table", name="Runs")
    await expect(table.get_by_role("row")).to_have_count(3)
    await page.get_by_label("Status").select_option("interrupted")
    await expect(table.get_by_role("row")).to_have_count(2)
    await expect(table).to_contain_text("Waits for a person")
    await page.reload()
    await expect(page).to_have_url(re.compile(r"/ui/runs\?status=interrupted$"))
    await expect(page.get_by_label("Status")).to_have_value("interrupted")
    await expect(table.get_by_role("link")).to_have_text(["pay 1"])
    # Nobody is waited for any more.
    await api.decided("paid", type="approve")
    await expect(table).to_contain_text("Paused, gone on")
    await page.get_by_label("Thread").fill("nothing")
    await expect(page.get_by_role("heading", name="No run is like that")).to_be_visible()
    await page.get_by_role("button", name="Show all runs").click()
    await expect(table.get_by_role("row")).to_have_count(4)
    await api.run("third", "tell 3")
    await expect(table.get_by_role("link").first).to_have_text("tell 3")


async def test_older_runs_come_on_demand(api: Api, page: Page) -> None:
    for number in range(60):
        await api.run(f"t{number}", "tell 1")
    await page.goto("/ui/runs")
    rows = page.get_by_role("table", name="Runs").get_by_role("row")
    await expect(rows).to_have_count(51)
    await page.get_by_role("button", name="Show older runs").click()
    await expect(rows).to_have_count(61)
    await expect(page.get_by_text("These are all.")).to_be_visible()


async def test_older_runs_come_though_others_begin_meanwhile(api: Api, page: Page) -> None:
    for number in range(60):
        await api.run(f"t{number}", "tell 1")
    await asyncio.gather(*(api.at_rest(f"t{number}") for number in range(60)))
    asked, answered = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        asked.set()
        await answered.wait()
        await route.continue_()

    await page.route(re.compile(r"/runs\?.*cursor="), hold)
    await page.goto("/ui/runs")
    rows = page.get_by_role("table", name="Runs").get_by_role("row")
    await expect(rows).to_have_count(51)
    await page.get_by_role("button", name="Show older runs").click()
    await asked.wait()
    await api.stream("tell 1", thread_id="another")
    # Longer than the page gathers news before it would read the list anew.
    await page.wait_for_timeout(600)
    answered.set()
    await expect(rows).to_have_count(62)


async def test_ten_thousand_events_are_few_nodes(api: Api, page: Page, tmp_path: Path) -> None:
    events = await api.stream(f"{EVENTS} 1 0", agent="graph", thread_id="flood")
    await page.goto(f"/ui/runs/{events[0]['run_id']}?show=events")
    shown = page.get_by_role("list", name="Events, newest first")
    newest = shown.get_by_role("listitem").first
    await expect(newest).to_contain_text("done")
    older = page.get_by_role("button", name="Show older events")
    while await older.is_visible():
        await older.click()
        await expect(older.or_(page.get_by_text("This is the beginning."))).to_be_enabled()
    oldest = shown.get_by_role("listitem").last
    await expect(oldest).to_contain_text("run_start")
    assert int(await oldest.get_attribute("aria-setsize") or "") >= EVENTS
    assert await page.locator("*").count() < MOST_NODES
    await page.get_by_label("Kind of event").select_option("run")
    await expect(shown.get_by_role("listitem")).to_have_count(2)
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Download all").click()
    await (await saving.value).save_as(tmp_path / "log")
    saved = await asyncio.to_thread((tmp_path / "log").read_text)
    assert len(saved.splitlines()) == len(await api.events("flood"))


async def test_tokens_of_a_message_are_one_row_and_an_event_is_its_json(
    api: Api, page: Page
) -> None:
    events = await api.stream("tell 40", thread_id="t")
    await page.goto(f"/ui/runs/{events[0]['run_id']}?show=events")
    shown = page.get_by_role("list", name="Events, newest first")
    pieces = shown.get_by_role("button", name=re.compile("token"))
    await expect(pieces).to_have_count(1)
    await pieces.click()
    await expect(shown).to_contain_text("word0 word1 word2")
    await shown.get_by_role("button", name=re.compile("run_start")).click()
    await expect(shown).to_contain_text("tell 40")
    await page.keyboard.press("ArrowUp")
    focused = await page.evaluate("document.activeElement.closest('[data-index]').dataset.index")
    total = await shown.get_by_role("listitem").first.get_attribute("aria-setsize")
    assert int(focused) == int(total or "") - 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_anybody_can_use_it_on_a_phone_whatever_stands_there(
    api: Api, browse: Browse, scheme: str
) -> None:
    approvals: list[Json] = await api.paused(f"{HOSTILE}; pay 1", thread_id="t")
    run = await newest_run(api, "t")
    assert approvals
    phone = await browse(size=PHONE, scheme=scheme)
    await phone.goto("/ui/runs")
    await expect(phone.get_by_role("row")).to_have_count(2)
    await check_access(phone)
    await check_fits(phone)
    await phone.goto(f"/ui/runs/{run}")
    listed = phone.get_by_role("list", name="Timeline of the run")
    await expect(
        listed.get_by_role("button", name=re.compile("Waits for a person: pay"))
    ).to_be_visible()
    await expect(phone.get_by_role("heading", level=1)).to_contain_text("<img src=x")
    await check_access(phone)
    await check_fits(phone)
    await listed.get_by_role("button").first.click()
    details = phone.get_by_role("dialog", name="Details")
    await expect(details).to_contain_text("U+202E")
    await check_access(phone)
    await phone.keyboard.press("Escape")
    await phone.get_by_role("button", name="Events").click()
    await expect(phone.get_by_role("list", name="Events, newest first")).to_be_visible()
    await check_access(phone)
    await check_fits(phone)


async def test_what_was_shown_stays_while_the_server_is_away(
    server: Server, api: Api, page: Page
) -> None:
    watched(page).forgive("ERR_CONNECTION", "Failed to load resource", "Failed to fetch")
    run = (await api.run("t", "hold 1"))["run_id"]
    await server.until_traced("hold 1")
    await page.goto(f"/ui/runs/{run}")
    tool = page.get_by_role("button", name=re.compile("^Tool hold"))
    await expect(tool).to_be_visible()
    server.kill()
    await expect(page.get_by_role("status").filter(has_text="cannot be reached")).to_be_visible()
    await expect(tool).to_be_visible()
    server.let_go(1)
    server.start()
    await expect(page.get_by_role("main")).to_contain_text("attempt 2", timeout=30_000)
    await until(lambda: api.at_rest("t"))
