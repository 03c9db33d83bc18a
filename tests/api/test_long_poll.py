"""Pages of events as JSON, which wait for an event if they are asked to, and which go back from
the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.server import (
    JSON,
    Api,
    Server,
    asking,
    expect,
    problem,
    scripted_agents,
    serving,
)


async def until_polled(api: Api, count: int = 1) -> None:
    """Wait until so many wait."""
    await api.until_streams(count, transport="poll")


async def test_a_page_says_whether_there_is_more(api: Api, thread: str) -> None:
    events = await api.stream("look 1", thread_id=thread)
    path = f"/threads/{thread}/events"
    first = await api.page(path, limit=2)
    assert first == {"events": events[:2], "next": 2, "more": True}
    rest = await api.page(path, after=2, timeout=60)
    assert rest == {"events": events[2:], "next": events[-1]["seq"], "more": False}
    # Other types follow, but none that is asked for.
    only = await api.page(path, types="run_start")
    assert (only["events"], only["more"]) == (events[:1], False)
    assert await api.page(path, after=events[-1]["seq"]) == {
        "events": [],
        "next": events[-1]["seq"],
        "more": False,
    }


async def test_pages_go_back_from_the_end(api: Api, thread: str) -> None:
    events = await api.stream("look 1", thread_id=thread)
    last = events[-1]["seq"]
    path = f"/threads/{thread}/events"
    newest = await api.page(path, before="end", limit=3)
    assert newest == {"events": events[-3:], "next": last - 2, "more": True, "last": last}
    older = await api.page(path, before=newest["next"])
    assert older == {"events": events[:-3], "next": 1, "more": False, "last": last}
    assert await api.page(path, before=1) == {"events": [], "next": 1, "more": False, "last": last}
    # A number that there is not yet is behind the end.
    assert (await api.page(path, before=2**63 - 1))["events"] == events
    # Whoever follows the thread behind the last one misses nothing, whatever types they asked for.
    begun = await api.page(path, before="end", types="run_start", limit=1)
    assert begun == {"events": events[:1], "next": 1, "more": False, "last": last}


async def test_a_thread_without_events_goes_back_to_nothing(api: Api, thread: str) -> None:
    await expect(await api.http.post("/threads", json={"thread_id": thread}), 200)
    page = await api.page(f"/threads/{thread}/events", before="end")
    assert page == {"events": [], "next": 1, "more": False, "last": 0}


async def test_a_run_has_pages_of_its_own(api: Api, thread: str) -> None:
    first = await api.stream("look 1", thread_id=thread)
    second = await api.stream("look 2", thread_id=thread)
    last = second[-1]["seq"]
    for events in (first, second):
        path = f"/runs/{events[0]['run_id']}/events"
        page = await api.page(path, before="end")
        assert page == {"events": events, "next": events[0]["seq"], "more": False, "last": last}
        assert (await api.page(path, before="end", limit=2))["events"] == events[-2:]
        assert (await api.page(path, before=page["next"]))["events"] == []
        assert await api.page(path) == {
            "events": events,
            "next": events[-1]["seq"],
            "more": False,
        }
        on = await api.page(path, after=events[1]["seq"], types="done,run_start")
        assert (on["events"], on["more"]) == ([events[-1]], False)
    gone = await problem(await api.http.get(path, params={"after": last + 1}, headers=JSON), 410)
    assert gone["first"] == last + 1


@pytest.mark.parametrize(
    "path", ["/approvals/stream", "/agents/agent/events", "/users/local/events"]
)
async def test_feeds_go_back_too(api: Api, thread: str, amount: int, path: str) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    newest = await api.page(path, before="end", limit=1)
    [event] = newest["events"]
    assert event["thread_id"] == thread
    assert newest["last"] == event["seq"] == newest["next"]
    await api.decided(thread, type="reject")
    await api.at_rest(thread)
    since = await api.page(path, after=newest["last"])
    assert {each["thread_id"] for each in since["events"]} == {thread}
    older = await api.page(path, before=since["events"][0]["seq"], limit=1)
    assert older["events"] == newest["events"]


async def test_a_page_goes_one_way(api: Api, thread: str) -> None:
    await api.stream("look 1", thread_id=thread)
    path = f"/threads/{thread}/events"
    for params, headers, sentence in (
        ({"before": 3, "after": 1}, JSON, "and not for both"),
        ({"before": 3}, JSON | {"last-event-id": "1"}, "and not for both"),
        ({"before": "end", "timeout": 1}, JSON, "timeout waits for events that come"),
        ({"before": "end"}, {}, "before is for JSON pages: accept application/json."),
        ({"before": 0}, JSON, "before"),
        ({"before": "begin"}, JSON, "before"),
    ):
        refused = await problem(await api.http.get(path, params=params, headers=headers), 422)
        assert sentence in refused["detail"], refused


async def test_an_empty_page_waits_for_the_next_event(api: Api, thread: str) -> None:
    last = (await api.stream("look 1", thread_id=thread))[-1]["seq"]
    path = f"/threads/{thread}/events"
    waiting = asyncio.create_task(api.page(path, after=last, timeout=60, types="done"))
    await until_polled(api)
    done = (await api.stream("look 2", thread_id=thread))[-1]
    assert await waiting == {"events": [done], "next": done["seq"], "more": False}
    await until_polled(api, 0)


async def test_at_the_timeout_the_page_is_empty(api: Api, thread: str) -> None:
    last = (await api.stream("look 1", thread_id=thread))[-1]["seq"]
    path = f"/threads/{thread}/events"
    empty = {"events": [], "next": last, "more": False}
    assert await api.page(path, after=last, timeout=0) == empty
    assert await api.page(path, after=last, timeout=0.05) == empty


async def test_the_feed_of_approvals_is_polled_too(api: Api, thread: str, amount: int) -> None:
    after = (await api.page("/approvals/stream"))["next"]
    waiting = asyncio.create_task(api.page("/approvals/stream", after=after, timeout=60))
    await until_polled(api)
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    (event,) = (await waiting)["events"]
    assert (event["approval_id"], event["thread_id"]) == (approval["approval_id"], thread)


@pytest.mark.parametrize("timeout", ["-1", "61", "nan", "soon"])
async def test_a_wrong_timeout_is_refused(api: Api, thread: str, timeout: str) -> None:
    await api.stream("look 1", thread_id=thread)
    path = f"/threads/{thread}/events?timeout={timeout}"
    await problem(await api.http.get(path, headers=JSON), 422)


async def test_a_stream_has_no_timeout(api: Api, thread: str) -> None:
    await api.stream("look 1", thread_id=thread)
    for accept in ("text/event-stream", "*/*"):
        path = f"/threads/{thread}/events?timeout=1"
        refused = await problem(await api.http.get(path, headers={"accept": accept}), 422)
        assert refused["detail"] == "timeout is for JSON pages: accept application/json."


async def test_a_client_that_leaves_is_not_waited_for(
    api: Api, server: Server, thread: str
) -> None:
    last = (await api.stream("look 1", thread_id=thread))[-1]["seq"]
    path = f"/threads/{thread}/events"
    async with asking(server) as other:
        waiting = asyncio.create_task(other.page(path, after=last, timeout=60))
        await until_polled(api)
        waiting.cancel()
    await until_polled(api, 0)


async def test_polls_count_as_streams_and_a_server_that_stops_answers_them(
    tmp_path: Path,
) -> None:
    target = scripted_agents(tmp_path, "agent")
    with serving(tmp_path, target, ASSENT_MAX_STREAMS_PER_CLIENT="1") as server:
        async with asking(server) as api:
            last = (await api.stream("look 1", thread_id="t"))[-1]["seq"]
            path = "/threads/t/events"
            waiting = asyncio.create_task(api.page(path, after=last, timeout=60, types="error"))
            await until_polled(api)
            parameters = {"after": last, "timeout": 60}
            refused = await api.http.get(path, params=parameters, headers=JSON)
            await problem(refused, 429)
            # One that need not wait is no stream.
            assert (await api.page(path, timeout=60))["events"]
            await api.ended((await api.run("t", "look 2"))["run_id"])
            newest = (await api.events("t"))[-1]["seq"]
            stopping = asyncio.create_task(asyncio.to_thread(server.terminate))
            # With a filter the cursor moves with the log, so that it does not fall behind what is
            # removed.
            assert await waiting == {"events": [], "next": newest, "more": False}
            await stopping
