"""Agents in the web page: what they are, and their graphs with what is lit in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.support import agents, any_graphs, wide_graph
from tests.support.pages import PHONE, check_access, check_fits
from tests.support.server import Api, Server, project_of, serving
from tests.support.waiting import until
from tests.web.conftest import Browse


@pytest.fixture
def server(tmp_path: Path, built: None) -> Iterator[Server]:
    graphs = {agents: ("agent",), any_graphs: ("nested_question",), wide_graph: ("wide",)}
    with serving(tmp_path, project_of(tmp_path, graphs)) as server:
        yield server


async def test_an_agent_says_which_of_its_tools_ask(server: Server, page: Page) -> None:
    await page.goto("/ui/agents")
    await page.get_by_role("link", name="agent", exact=True).click()
    tools = page.get_by_role("region", name="Tools")
    pay = tools.get_by_role("listitem").filter(has_text="Pay an amount.")
    await expect(pay.first).to_contain_text("Needs approval")
    graph = page.get_by_role("region", name="Graph")
    await expect(graph.get_by_text("approval", exact=True)).to_be_visible()
    await check_access(page)
    # It cannot be lost.
    await graph.get_by_role("button", name="Zoom out").click()
    await graph.get_by_role("button", name="Show all").click()
    await expect(graph.get_by_text("approval", exact=True)).to_be_in_viewport()
    await page.goto("/ui/agents/nobody")
    await expect(page.get_by_role("heading", name="There is no such agent")).to_be_visible()


async def test_the_node_that_waits_is_lit_in_its_subgraph(api: Api, page: Page) -> None:
    await page.goto("/ui/agents/nested_question")
    graph = page.get_by_role("region", name="Graph")
    await graph.get_by_role("button", name="Open inner").click()
    await expect(graph.get_by_role("button", name="Fold inner")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(graph.get_by_role("button", name="Open inner")).to_be_focused()

    await api.paused("Hello", thread_id="t", agent="nested_question")
    await page.goto("/ui/agents/nested_question?thread=t")
    await expect(graph.get_by_text("inner › inner › ask: waits for a person")).to_be_visible()
    await expect(graph.get_by_text("ask", exact=True)).to_be_visible()
    await check_access(page)
    await page.get_by_role("button", name="List").click()
    listed = page.get_by_role("list", name="Nodes of the graph")
    waits = listed.get_by_role("listitem").filter(has_text="waits for a person")
    await expect(waits).to_have_count(1)
    await expect(waits).to_contain_text("ask")
    await api.decided("t", type="respond", message="blue")
    await expect(waits).to_have_count(0)


async def test_a_large_graph_is_drawn_on_request(server: Server, page: Page) -> None:
    await page.goto("/ui/agents/wide")
    await expect(page.get_by_role("heading", name="This graph has 72 nodes")).to_be_visible()
    await page.get_by_role("button", name="Draw it all the same").click()
    await expect(page.get_by_text("step_00", exact=True)).to_be_visible()


async def wide(node: Locator) -> float:
    """How wide it is on the screen, in tens of pixels."""
    box = await node.bounding_box()
    assert box is not None
    return round(box["width"], -1)


async def is_wide(node: Locator, least: float, most: float) -> bool:
    return least <= await wide(node) <= most


async def test_the_picture_is_walked_by_keys_moved_and_zoomed(server: Server, page: Page) -> None:
    await page.goto("/ui/agents/agent")
    nodes = page.locator("[data-node]")
    asks = page.get_by_role("img", name=re.compile("^approval. Pauses for a person. Leads to .*"))
    await expect(asks).to_be_visible()
    # All but one are left out by Tab.
    await expect(page.locator('[data-node][tabindex="0"]')).to_have_count(1)
    await nodes.first.focus()
    await page.keyboard.press("ArrowDown")
    await expect(nodes.first).not_to_be_focused()
    await page.keyboard.press("End")
    await expect(nodes.last).to_be_focused()
    await page.keyboard.press("Home")
    await expect(nodes.first).to_be_focused()

    before = await wide(asks)
    box = await asks.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    await page.mouse.move(x, y)
    await page.keyboard.down("Control")
    for _ in range(6):
        await page.mouse.wheel(0, -50)
    await page.keyboard.up("Control")
    await until(lambda: is_wide(asks, before * 1.5, before * 9))
    assert await page.evaluate("window.visualViewport.scale") == 1
    # What was under the pointer still is.
    hit = "([x, y]) => document.elementFromPoint(x, y).closest('[data-node]')?.dataset.node"
    assert await page.evaluate(hit, [x, y]) == "approval"
    await page.mouse.down()
    await page.mouse.move(x - 60, y - 80)
    await page.mouse.up()
    assert await page.evaluate(hit, [x - 60, y - 80]) == "approval"
    await page.get_by_role("button", name="Show all").click()
    await until(lambda: is_wide(asks, before, before))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_has_the_list(server: Server, browse: Browse, scheme: str) -> None:
    phone = await browse(size=PHONE, scheme=scheme)
    await phone.goto("/ui/agents")
    await expect(phone.get_by_role("link", name="agent", exact=True)).to_be_visible()
    await check_access(phone)
    await check_fits(phone)
    await phone.goto("/ui/agents/agent")
    listed = phone.get_by_role("list", name="Nodes of the graph")
    await expect(listed.get_by_text(re.compile("Leads to .*approval"))).not_to_have_count(0)
    await check_access(phone)
    await check_fits(phone)
    await phone.get_by_role("button", name="Picture").click()
    await expect(phone.get_by_role("button", name="Show all")).to_be_visible()
    await check_access(phone)
    await check_fits(phone)

    # Two fingers that part.
    node = phone.get_by_text("approval", exact=True)
    before = await wide(node)
    fingers = await phone.context.new_cdp_session(phone)
    for step in range(8):
        points = [
            {"x": 180 - 8 * step, "y": 400, "id": 1},
            {"x": 200 + 8 * step, "y": 400, "id": 2},
        ]
        kind = "touchMove" if step else "touchStart"
        await fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    await fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    await until(lambda: is_wide(node, before + 10, before * 9))
    assert await phone.evaluate("window.visualViewport.scale") == 1
    await check_fits(phone)
