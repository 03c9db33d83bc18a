"""Questions that are rarer than a call that wants to run: what became of one that a crash cut off,
and whether more may be used than a budget allows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Locator, Page, expect

from tests.support import agents, counted
from tests.support.pages import PHONE, check_access, check_fits
from tests.support.secrets import keys_of
from tests.support.server import Api, Server, project_of, serving
from tests.web.conftest import Browse

PEOPLE = ("ann",)

CUT_OFF = "Nobody knows whether it happened"
BUDGETS = """
[budgets.agents.counted]
model_calls = 2
on_exceeded = "pause"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, built: None) -> Iterator[Server]:
    """A server with an agent whose calls are cut off, and one that may call its model twice."""
    folder = tmp_path_factory.mktemp("rare")
    (folder / "assent.toml").write_text(BUDGETS)
    graphs = project_of(folder, {agents: ("agent",), counted: ("counted",)})
    settings = {
        "ASSENT_API_KEYS": keys_of(*PEOPLE),
        "ASSENT_CONFIG": str(folder / "assent.toml"),
    }
    with serving(folder, graphs, **settings) as server:
        yield server


def button(card: Locator, name: str) -> Locator:
    return card.get_by_role("button", name=name, exact=True)


async def shown(page: Page, approval_id: str) -> Locator:
    """The card of the approval, on its page."""
    await page.goto(f"/ui/approvals/{approval_id}")
    card = page.get_by_role("article")
    await expect(card.get_by_role("heading").first).to_be_visible()
    return card


async def cut_off(api: Api, server: Server, *amounts: int) -> list[str]:
    """The ids of the questions about calls with these amounts that a crash cut off."""
    for amount in amounts:
        await api.paused(f"slow {amount}", agent="agent", thread_id=f"cut-{amount}")
        await api.decided(f"cut-{amount}", type="approve")
        await server.until_traced(f"slow {amount}")
    server.restart()
    asked = []
    for amount in amounts:
        assert (await api.at_rest(f"cut-{amount}"))["status"] == "interrupted"
        (approval,) = await api.pending(f"cut-{amount}")
        assert approval["kind"] == "unknown_outcome"
        asked.append(str(approval["approval_id"]))
    return asked


async def test_what_became_of_a_call_that_a_crash_cut_off_is_found_out_by_a_person(
    page: Page, api: Api, server: Server
) -> None:
    again, happened, left = await cut_off(api, server, 1, 2, 3)

    # It did not happen. To run it a second time by mistake is what must not be: it is asked twice,
    # whatever its risk is.
    card = await shown(page, again)
    await expect(card.get_by_role("heading").first).to_have_text("slow was cut off. Did it happen?")
    await expect(card).to_contain_text(CUT_OFF)
    await expect(card.get_by_role("row", name="amount")).to_contain_text("1")
    await button(card, "It did not happen: run it").click()
    await expect(card).to_contain_text("If it did happen, it will have happened twice.")
    assert server.traces() == ["slow 1", "slow 2", "slow 3"]
    server.let_go(1)
    await button(card, "Yes, run it").click()
    await expect(card).to_contain_text("You said that it did not happen, so it ran again")
    assert await api.last_words("cut-1") == "Results: slowly paid 1"

    # It did, and this came of it.
    card = await shown(page, happened)
    await button(card, "It happened…").click()
    await expect(card).to_contain_text("It does not run again.")
    await button(card, "Answer").click()
    await expect(card).to_contain_text("Write an answer first.")
    await card.get_by_label("What was the result?").fill("The bank says that it was paid.")
    await button(card, "Answer").click()
    await expect(card).to_contain_text("You said that it happened")
    assert await api.last_words("cut-2") == "Results: The bank says that it was paid."

    # It is left as it is.
    card = await shown(page, left)
    await button(card, "Give up…").click()
    await expect(card).to_contain_text("the agent goes on without its result")
    await card.get_by_label("Why not?").fill("We will never know.")
    await button(card, "Give up").click()
    await expect(card).to_contain_text("You gave it up")
    assert "We will never know." in await api.last_words("cut-3")

    assert server.traces() == ["slow 1", "slow 2", "slow 3", "slow 1"]


async def over_budget(api: Api, thread: str) -> str:
    """The id of the question whether this thread's run may use more than is left of the budget."""
    message = "look 1 then look 2 then look 3 then look 4 then look 5 then look 6"
    (approval,) = await api.paused(message, agent="counted", thread_id=thread)
    assert approval["kind"] == "budget"
    return str(approval["approval_id"])


async def test_a_budget_is_raised_by_as_much_again_or_to_another_limit_or_not(
    page: Page, api: Api
) -> None:
    asked = await over_budget(api, "budget")
    card = await shown(page, asked)
    await expect(card.get_by_role("heading").first).to_have_text(
        "counted has used up its budget. May it use more model calls?"
    )
    used = "This agent has used 2 of the 2 model calls that it may use."
    await expect(card).to_contain_text(used)
    await button(card, "Allow up to 4").click()
    await expect(card).to_contain_text("You allowed more")

    # It is asked again at the new limit; another one than it proposes is given.
    await api.at_rest("budget")
    (approval,) = await api.pending("budget")
    card = await shown(page, approval["approval_id"])
    await expect(card).to_contain_text("has used 4 of the 4 model calls")
    await button(card, "Another limit…").click()
    limit = card.get_by_label("limit *")
    await limit.fill("3")
    await button(card, "Allow up to this").click()
    await expect(card.get_by_role("alert")).to_contain_text("above the 4 that are used")
    await limit.fill("5")
    await button(card, "Allow up to this").click()
    await expect(card).to_contain_text("You allowed more")

    # No more: the run ends, and says why.
    await api.at_rest("budget")
    (approval,) = await api.pending("budget")
    card = await shown(page, approval["approval_id"])
    await expect(card).to_contain_text("has used 5 of the 5 model calls")
    await button(card, "Allow no more…").click()
    await expect(card).to_contain_text("The run ends here")
    await button(card, "Allow no more").click()
    await expect(card).to_contain_text("You allowed no more")
    assert (await api.at_rest("budget"))["status"] == "error"


async def test_rare_questions_fit_a_phone(api: Api, server: Server, browse: Browse) -> None:
    phone = await browse(server, size=PHONE, scheme="dark")
    (asked,) = await cut_off(api, server, 4)
    card = await shown(phone, asked)
    await button(card, "It did not happen: run it").click()
    await check_access(phone)
    await check_fits(phone)
