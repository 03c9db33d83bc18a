"""What threads are called, and how they are found by it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.server import Api, expect, problem


async def called(api: Api, thread_id: str) -> str | None:
    """The thread's title, the same in each place where it is shown."""
    thread = await api.get(f"/threads/{thread_id}")
    (listed,) = (await api.get("/threads", q=thread_id))["threads"]
    searched = await api.http.post(
        "/threads/search", json={"ids": [thread_id], "select": ["title", "pending"]}
    )
    (found,) = (await expect(searched, 200)).json()
    assert thread["title"] == listed["title"] == found["title"]
    assert thread["pending"] == listed["pending"] == found["pending"]
    assert "assent_title" not in thread["metadata"]
    title: str | None = thread["title"]
    return title


async def change(api: Api, thread_id: str, **body: Any) -> Any:
    return (await expect(await api.http.patch(f"/threads/{thread_id}", json=body), 200)).json()


async def test_a_thread_is_called_by_the_first_words_on_it(api: Api, thread: str) -> None:
    await expect(await api.http.post("/threads", json={"thread_id": thread}), 200)
    assert await called(api, thread) is None
    await api.stream("tell 1\n\u202eplease", thread_id=thread, metadata={"team": "blue"})
    assert await called(api, thread) == "tell 1 please"
    await api.stream("tell 2", thread_id=thread)
    assert await called(api, thread) == "tell 1 please"


async def test_a_run_that_is_to_start_later_gives_the_title_at_once(api: Api, thread: str) -> None:
    later = {"message": "tell 1", "thread_id": thread, "after_seconds": 1000}
    await expect(await api.http.post("/agent/runs", json=later), 202)
    assert await called(api, thread) == "tell 1"
    await expect(await api.http.post(f"/threads/{thread}/fork", json={}), 422)


async def test_langgraphs_clients_give_titles_too(api: Api, thread: str) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "tell 1"}]
    run = {"assistant_id": "agent", "input": {"messages": messages}, "if_not_exists": "create"}
    await expect(await api.http.post(f"/threads/{thread}/runs/wait", json=run), 200)
    assert await called(api, thread) == "tell 1"


async def test_a_title_is_changed_whatever_goes_on(api: Api, thread: str, amount: int) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread, metadata={"team": "blue"})
    changed = await change(api, thread, title="  Paying\u2066 the\nbaker ")
    assert (changed["title"], changed["metadata"]["team"]) == ("Paying the baker", "blue")
    assert changed["pending"] == [approval["approval_id"]]
    await api.decided(thread, type="reject")
    await api.at_rest(thread)
    await change(api, thread, metadata={"team": None})
    assert await called(api, thread) == "Paying the baker"
    both = await change(api, thread, metadata={"team": "red"}, title="Both")
    assert (both["title"], both["metadata"]["team"], both["pending"]) == ("Both", "red", [])


@pytest.mark.parametrize("title", ["", "x" * 201, "\u200b\n", 7, ["a"]])
async def test_what_is_no_title_changes_nothing(api: Api, thread: str, title: Any) -> None:
    await api.stream("tell 1", thread_id=thread)
    body = {"title": title, "metadata": {"team": "red"}}
    told = await problem(await api.http.patch(f"/threads/{thread}", json=body), 422)
    assert "title" in str(told)
    thread_now = await api.get(f"/threads/{thread}")
    assert thread_now["title"] == "tell 1" and "team" not in thread_now["metadata"]


async def test_a_fork_is_called_as_its_source(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    await change(api, thread, title="Telling")
    for path, body in (("fork", {"thread_id": f"{thread}-2"}), ("copy", {})):
        made = (await api.http.post(f"/threads/{thread}/{path}", json=body)).json()
        assert await called(api, made["thread_id"]) == "Telling"
        (run,) = (await api.get("/runs", thread_id=made["thread_id"]))["runs"]
        assert run["metadata"] == {}


async def test_threads_are_found_by_words_of_their_titles(api: Api, thread: str) -> None:
    canary = uuid4().hex
    for number in range(3):
        await api.stream(f"tell {number}", thread_id=f"{thread}-{number}")
    await change(api, f"{thread}-0", title=f"Ärger mit {canary}")
    await change(api, f"{thread}-1", title=f"Nothing with {canary.upper()}")

    async def found(**params: Any) -> list[str]:
        page = await api.get("/threads", limit=1000, **params)
        return [each["thread_id"] for each in page["threads"]]

    assert await found(q=canary) == [f"{thread}-1", f"{thread}-0"]
    assert await found(q=f"{canary} äRGER") == [f"{thread}-0"]
    assert await found(q=canary, status="interrupted") == []
    assert await found(q=f"{thread}-") == [f"{thread}-2", f"{thread}-1", f"{thread}-0"]
    await api.stream("tell 3", thread_id=f"{thread}-0")
    assert await found(q=canary, sort="used") == [f"{thread}-0", f"{thread}-1"]
    assert await found(q=canary, agent="agent") == [f"{thread}-1", f"{thread}-0"]
    assert await found(q=canary, agent="chat_agent") == []
    await expect(await api.http.delete(f"/threads/{thread}-0"), 204)
    assert await found(q=canary) == [f"{thread}-1"]
    await problem(await api.http.get("/threads", params={"q": ""}), 422)


async def test_a_page_of_a_search_may_have_others_behind_it(api: Api, thread: str) -> None:
    canary = uuid4().hex
    for number in range(4):
        await expect(await api.http.post("/threads", json={"thread_id": f"{thread}-{number}"}), 200)
    for number in (0, 3):
        await change(api, f"{thread}-{number}", title=canary)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while len(seen) < 2:
        page = await api.get("/threads", q=canary, limit=2, **cursor)
        seen += [each["thread_id"] for each in page["threads"]]
        cursor = {"cursor": page["next"]}
    assert seen == [f"{thread}-3", f"{thread}-0"]
