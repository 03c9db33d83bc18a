"""Middleware of a served agent in which the process dies: what was approved is done once."""

from __future__ import annotations

from pathlib import Path

from tests.support import middleware_agent
from tests.support.server import asking, serving


async def test_what_was_approved_is_done_once_wherever_middleware_dies(tmp_path: Path) -> None:
    with serving(tmp_path, f"{middleware_agent.__file__}:graph") as server:
        async with asking(server) as api:
            for thread in ("1", "2"):
                await api.paused(thread, thread_id=thread)
            await api.decided("1", type="approve")
        server.wait_for_death()
        server.restart()
        async with asking(server) as api:
            await api.at_rest("1")
            (asked,) = await api.pending("1")
            assert (asked["kind"], asked["args"]) == ("unknown_outcome", {"amount": 1})
            await api.decided("1", type="reject", message="It happened.")
            await api.at_rest("1")
            await api.decided("2", type="approve")
        server.wait_for_death()
        server.restart()
        async with asking(server) as api:
            await api.at_rest("2")
            assert await api.last_words("2") == "paid 2"
            assert server.traces() == ["pay 1", "pay 2"]


async def test_a_turn_that_middleware_rewrites_is_asked_about_as_it_left_it(tmp_path: Path) -> None:
    with serving(tmp_path, f"{middleware_agent.__file__}:graph") as server:
        async with asking(server) as api:
            await api.run("3", "3")
        server.wait_for_death()
        server.restart()
        async with asking(server) as api:
            await api.at_rest("3")
            (asked,) = await api.pending("3")
            assert (asked["tool"], asked["args"], server.traces()) == ("pay", {"amount": 6}, [])
            await api.decided("3", type="approve")
            await api.at_rest("3")
            assert server.traces() == ["pay 6"]
