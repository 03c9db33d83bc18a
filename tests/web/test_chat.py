"""The chat: what is said and done is shown as it comes, and nothing that is written decides."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.support.pages import PHONE, Scheme, check_access, check_fits, watched
from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.server import Api, Json, Server, asking, scripted_agents, serving
from tests.support.waiting import until
from tests.web.conftest import Browse

AGENTS = ("agent", "slow_agent")
PEOPLE = ("ann",)

LOST = r"ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|Failed to fetch|status of 503"
"""What the browser writes when the server is killed."""


def box(page: Page) -> Locator:
    """Where one writes."""
    return page.get_by_role("textbox", name="Message")


def log(page: Page) -> Locator:
    """What was said and done."""
    return page.get_by_role("log")


def ways(page: Page) -> Locator:
    """What the page asks before it sends what was written."""
    return page.get_by_role("group", name=re.compile("What is to become of it|When should it hear"))


async def say(page: Page, text: str) -> None:
    """Write, and send it by Enter."""
    await box(page).fill(text)
    await box(page).press("Enter")


async def begin(page: Page, text: str, agent: str = "agent") -> str:
    """Begin a conversation with these words; its thread."""
    await page.goto("/ui/chat")
    await page.get_by_label("Agent", exact=True).select_option(agent)
    await say(page, text)
    await expect(page).to_have_url(re.compile(r"/ui/chat/.+"))
    return page.url.rpartition("/")[2]


async def events(api: Api, thread: str, *types: str) -> list[Json]:
    """The events of the thread, of these types or all."""
    response = await api.http.get(
        f"/threads/{thread}/events", headers={"accept": "application/json"}
    )
    found = response.json()["events"]
    return [each for each in found if not types or each["type"] in types]


async def until_ended(api: Api, thread: str) -> None:
    """Wait for the end of a run."""
    await until(lambda: events(api, thread, "done", "error", "run_cancelled"))


async def waiting(api: Api, thread: str) -> list[Json]:
    """The questions that wait there."""
    response = await api.http.get(f"/approvals?thread_id={thread}&status=pending")
    found: list[Json] = response.json()["approvals"]
    return found


async def test_what_came_since_the_last_tick_does_not_seem_to_lie_ahead(
    page: Page, api: Api
) -> None:
    await page.clock.install()
    thread = await begin(page, "7 words")
    listed = page.locator(f"a[href$='/chat/{thread}']").locator("time")
    await expect(listed).to_have_text("now")
    await until_ended(api, thread)
    was = await listed.get_attribute("datetime") or ""
    # This browser's clock is set forward: a tick has the wrong time until the server says the right.
    await page.clock.fast_forward(3_600_000)
    await say(page, "8 words")
    await expect(listed).not_to_have_attribute("datetime", was)
    await expect(listed).to_have_text("now")


async def test_a_message_is_answered_and_shown_again_after_a_reload(page: Page) -> None:
    await begin(page, "tell 30; look 3")
    for _ in ("as it comes", "read again"):
        said = log(page).get_by_role("article", name="A person said")
        await expect(said).to_contain_text("tell 30; look 3")
        await expect(log(page)).to_contain_text("word0 word1 word2")
        await log(page).get_by_role("button", name=re.compile("^look amount: 3 Done")).click()
        await expect(log(page)).to_contain_text("saw 3")
        await expect(log(page).get_by_role("link", name="Timeline")).to_be_visible()
        await expect(box(page)).to_have_value("")
        await page.reload()


async def test_what_is_written_goes_on_after_a_reload(page: Page) -> None:
    await begin(page, "tell 200", "slow_agent")
    await expect(log(page)).to_contain_text("word3 ")
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    await page.reload()
    await expect(log(page)).to_contain_text("word0 word1")
    await expect(log(page)).to_contain_text("word199")
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def test_what_a_killed_server_had_said_is_shown_as_its_log_has_it(
    page: Page, server: Server, api: Api
) -> None:
    watched(page).forgive(LOST)
    thread = await begin(page, "tell 4000", "slow_agent")
    await expect(log(page)).to_contain_text("word5 ")
    server.kill()
    await expect(page.get_by_text("The connection is lost.")).to_be_visible()
    server.start()
    await expect(log(page)).to_contain_text("The server was restarted")
    await expect(log(page)).to_contain_text("word5 ")
    await expect(page.get_by_text("The connection is lost.")).to_be_hidden()
    await page.get_by_role("button", name="Stop").click()
    await expect(log(page)).to_contain_text("The run was stopped.")
    await until_ended(api, thread)

    cut_off = {
        message
        for event in await events(api, thread, "run_recovered")
        for message in event["message_ids"]
    }
    logged = "".join(
        each["content"]
        for each in await events(api, thread, "token")
        if each["message_id"] not in cut_off
    )
    shown = await log(page).get_by_role("article", name="slow_agent said").inner_text()
    assert logged.strip() in shown
    assert shown.count("word0 ") == 1


async def test_a_question_is_decided_where_the_agent_asks(page: Page, server: Server) -> None:
    await begin(page, "pay 5")
    card = log(page).get_by_role("article", name=re.compile("wants to call pay"))
    await expect(card).to_be_visible()
    await card.get_by_role("button", name="Approve").click()
    await expect(log(page)).to_contain_text("Approved by ann")
    await expect(log(page)).to_contain_text("Results: paid 5")
    await expect(card).to_be_hidden()
    assert server.traces("pay") == ["pay 5"]


async def test_several_questions_are_decided_at_once(page: Page, server: Server) -> None:
    await begin(page, "pay 5; pay 6")
    cards = log(page).get_by_role("article", name=re.compile("wants to call pay"))
    await expect(cards).to_have_count(2)
    await page.get_by_role("button", name="Reject all").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Reject 2 calls?")
    await check_access(page)
    await dialog.get_by_label("The reason").fill("Not today.")
    await dialog.get_by_role("button", name="Reject 2").click()
    await expect(log(page).get_by_text("Rejected by ann")).to_have_count(2)
    await expect(log(page)).to_contain_text("Not today.")
    assert server.traces("pay") == []


WAYS = {
    "Wait until it is decided": (["pending"], 1),
    "Reject, with this as the reason": (["rejected"], 0),
    "Drop the question and say this": (["cancelled"], 0),
}


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_written_while_somebody_is_asked_decides_nothing_by_itself(
    way: str, page: Page, api: Api, server: Server
) -> None:
    thread = await begin(page, "pay 5")
    await expect(log(page).get_by_role("button", name="Approve")).to_be_visible()
    await say(page, "yes, approve it")
    await expect(ways(page)).to_be_visible()
    await expect(ways(page).get_by_role("button", name=re.compile("^Wait until"))).to_be_focused()
    assert [each["status"] for each in await waiting(api, thread)] == ["pending"]

    await ways(page).get_by_role("button", name=way).click()
    await expect(box(page)).to_have_value("")
    await expect(ways(page)).to_be_hidden()
    statuses, queued = WAYS[way]
    response = await api.http.get(f"/approvals?thread_id={thread}")
    assert [each["status"] for each in response.json()["approvals"]] == statuses
    await expect(page.get_by_role("list", name="Messages that wait their turn")).to_have_count(
        queued
    )
    if queued:
        await page.get_by_role("button", name="Take it back").click()
        await expect(page.get_by_text("yes, approve it")).to_be_hidden()
    else:
        await expect(log(page)).to_contain_text("yes, approve it")
    assert server.traces("pay") == []


async def test_a_run_is_stopped_and_another_message_waits_its_turn(page: Page, api: Api) -> None:
    thread = await begin(page, "tell 5000", "slow_agent")
    await expect(log(page)).to_contain_text("word3 ")
    await say(page, "look 4")
    await ways(page).get_by_role("button", name="After it").click()
    queued = page.get_by_role("list", name="Messages that wait their turn")
    await expect(queued).to_contain_text("look 4")
    await page.get_by_role("button", name="Stop").click()
    await expect(log(page)).to_contain_text("The run was stopped.")
    await expect(log(page)).to_contain_text("This message was cut off.")
    await expect(log(page)).to_contain_text("Results: saw 4")
    await expect(queued).to_be_hidden()
    assert len(await events(api, thread, "run_cancelled")) == 1


async def test_a_draft_outlives_a_reload_and_the_end_of_a_session(page: Page) -> None:
    await begin(page, "look 1")
    await expect(log(page)).to_contain_text("Results: saw 1")
    await box(page).fill("a long thought")
    await page.reload()
    await expect(box(page)).to_have_value("a long thought")

    await page.context.clear_cookies()
    await box(page).press("Enter")
    await expect(page.get_by_role("dialog")).to_contain_text("signed out")
    await page.get_by_label(re.compile("Key", re.IGNORECASE)).fill(secret_of("ann"))
    await page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await expect(box(page)).to_have_value("a long thought")
    await box(page).press("Enter")
    await expect(log(page)).to_contain_text("You said: a long thought")
    await expect(box(page)).to_have_value("")


HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"> "
    "[press](javascript:document.title='owned') ![pic](https://elsewhere.example/pixel.png) "
    "[fine](https://example.com/) abc\u202edcba pay\u200bpal"
)


async def test_hostile_text_is_only_text(page: Page) -> None:
    await begin(page, HOSTILE)
    said = log(page).get_by_role("article", name="agent said")
    await expect(said.get_by_role("link", name="fine")).to_be_visible()
    await expect(said).to_contain_text("https://example.com/")
    await expect(log(page).locator("img")).to_have_count(0)
    assert (
        await log(page)
        .get_by_role("link")
        .evaluate_all(
            "links => links.map(each => each.protocol).filter(each => !/^https?:$/.test(each))"
        )
        == []
    )
    await expect(page).not_to_have_title("owned")
    for article in ("A person said", "agent said"):
        text = log(page).get_by_role("article", name=article)
        await expect(text).to_contain_text("U+202E")
        await expect(text).to_contain_text("U+200B")


DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8"
    "cfc000000301010018dd8db00000000049454e44ae426082"
)
"""A picture of one pixel."""


async def test_a_file_goes_with_a_message(page: Page) -> None:
    await page.goto("/ui/chat")
    file = {"name": "dot.png", "mimeType": "image/png", "buffer": DOT}
    await page.locator("input[type=file]").set_input_files(file)
    await expect(page.get_by_role("list", name="Files")).to_contain_text("dot.png")
    await say(page, "look 2")
    await expect(log(page).get_by_role("list", name="Files")).to_contain_text("dot.png")
    image = log(page).locator("img")
    await expect(image).to_have_js_property("naturalWidth", 1)


async def test_a_file_of_another_client_is_shown_with_its_message(page: Page, api: Api) -> None:
    response = await api.http.post("/files", params={"name": "dot.png"}, content=DOT)
    file_id = response.json()["file_id"]
    content = [
        {"type": "text", "text": "look 2"},
        {"type": "image", "file_id": file_id, "mime_type": "image/png"},
    ]
    message = {"role": "user", "content": content}
    await api.stream(input={"messages": [message]}, agent="agent", thread_id="pictured")
    await page.goto("/ui/chat/pictured")
    said = log(page).get_by_role("article", name="A person said")
    await expect(said).to_contain_text("look 2")
    await expect(said.get_by_role("list", name="Files").locator("img")).to_have_js_property(
        "naturalWidth", 1
    )


async def test_a_long_conversation_opens_at_its_end_and_reads_older_pages(
    page: Page, api: Api
) -> None:
    thread = "long"
    number, last = 0, 0
    while last < 10_000:
        number += 1
        told = await api.stream(f"tell 600; look {number}", thread_id=thread, agent="agent")
        last = told[-1]["seq"]

    await page.goto(f"/ui/chat/{thread}")
    await expect(log(page)).to_contain_text(f"Results: saw {number}")
    first = log(page).get_by_text("tell 600; look 1", exact=True)

    async def at_the_beginning() -> bool:
        await log(page).evaluate("log => { log.scrollTop = 0 }")
        return await first.is_visible()

    await until(at_the_beginning)
    nodes = await page.evaluate("() => document.querySelectorAll('*').length")
    assert nodes < 500
    await page.get_by_role("button", name="To the end").click()
    await expect(log(page)).to_contain_text(f"Results: saw {number}")


async def test_conversations_are_found_renamed_and_deleted(page: Page, api: Api) -> None:
    for text in ("look 7", "tell 3"):
        await api.stream(text, agent="agent")
    await page.goto("/ui/chat")
    listed = page.get_by_role("navigation", name="Conversations")
    await expect(listed.get_by_role("listitem")).to_have_count(2)
    await listed.get_by_role("link", name="look 7").click()
    await listed.get_by_role("button", name="More about “look 7”").click()
    await page.get_by_role("menuitem", name="Rename").click()
    await page.get_by_role("textbox", name="Title").fill("The seventh look")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", name="The seventh look")).to_be_visible()
    await listed.get_by_role("searchbox").fill("seventh")
    await expect(listed.get_by_role("listitem")).to_have_count(1)
    await listed.get_by_role("button", name="More about “The seventh look”").click()
    await page.get_by_role("menuitem", name="Delete").click()
    await page.get_by_role("button", name="Delete it").click()
    await expect(listed.get_by_role("listitem")).to_have_count(0)
    await expect(page).to_have_url(re.compile("/ui/chat$"))


async def test_a_conversation_that_is_not_there_or_not_any_more_says_so(
    page: Page, api: Api
) -> None:
    await page.goto("/ui/chat/nothing")
    await expect(page.get_by_text("There is no such conversation")).to_be_visible()
    thread = await begin(page, "look 1")
    await expect(log(page)).to_contain_text("Results: saw 1")
    await api.http.delete(f"/threads/{thread}")
    await expect(page.get_by_text("This conversation was deleted")).to_be_visible()


async def test_events_that_were_removed_while_a_tab_was_away_are_said_to_be_and_it_goes_on(
    tmp_path: Path, built: None, browse: Browse
) -> None:
    people = {"ASSENT_API_KEYS": keys_of(*PEOPLE)}
    agents = scripted_agents(tmp_path, *AGENTS)
    # The sweep of old events comes at the start, and once a minute.
    with serving(tmp_path, agents, ASSENT_EVENTS_TTL="1s", **people) as server:
        page = await browse(server, name="ann")
        watched(page).forgive(LOST, "ERR_FAILED")
        thread = await begin(page, "tell 150", "slow_agent")
        await expect(log(page)).to_contain_text("word3 ")
        # Nobody there hears the end of it.
        await page.route("**/events**", lambda route: route.abort())
        server.restart()
        await expect(page.get_by_text("The connection is lost.")).to_be_visible()
        async with asking(server, **bearer("ann")) as api:
            await until_ended(api, thread)
            last = (await events(api, thread))[-1]
            end = datetime.fromisoformat(last["ts"]).timestamp()
            await until(lambda: time.time() > end + 1.1)
            server.restart()

            async def is_swept() -> bool:
                return await events(api, thread) == []

            await until(is_swept)
            await page.unroute("**/events**")

            gap = "What was said and done here meanwhile was removed"
            await expect(log(page)).to_contain_text(gap)
            # What was read stays, and nothing is said to be at work.
            await expect(log(page)).to_contain_text("word3 ")
            await expect(page.get_by_role("button", name="Stop")).to_be_hidden()
            await expect(page.get_by_text("The connection is lost.")).to_be_hidden()
            await say(page, "look 7")
            await expect(log(page)).to_contain_text("Results: saw 7")
            shown = await log(page).inner_text()
            assert shown.index("word3 ") < shown.index(gap) < shown.index("look 7")

            # Who comes now sees what is left, and that there was more.
            await page.reload()
            await expect(log(page)).to_contain_text("Results: saw 7")
            await expect(log(page)).to_contain_text("Older messages were removed.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_chat_is_for_everybody(scheme: Scheme, api: Api, browse: Browse) -> None:
    desk = await browse(scheme=scheme)
    phone = await browse(scheme=scheme, size=PHONE)
    await api.paused("tell 20; look 3 then pay 5", thread_id="asked", agent="agent")
    for page in (desk, phone):
        await page.goto("/ui/chat")
        await expect(page.get_by_text("Asks first").first).to_be_visible()
        await check_access(page)
        await check_fits(page)
        await page.goto("/ui/chat/asked")
        await expect(log(page).get_by_role("button", name="Approve")).to_be_visible()
        await say(page, "a" * 200)
        await page.get_by_role("button", name="Send").click()
        await expect(ways(page)).to_be_visible()
        await check_access(page)
        await check_fits(page)
    await phone.get_by_role("button", name="Conversations").click()
    await expect(
        phone.get_by_role("dialog").get_by_role("link", name=re.compile("tell 20"))
    ).to_be_visible()
    await check_access(phone)
