"""SIGKILL at each step of an approved call, one after the other, by a predicate that the graph asks
at all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.server import Api, Server, asking, expect, scripted_agents, serving, types_of

MOST_STEPS = 30


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        yield server


async def test_killed_at_any_step_an_approved_call_runs_once(server: Server) -> None:
    """The n-th payment's process dies at the n-th step, until one gets through: then every step has
    been died at."""
    async with asking(server) as api:
        for step in range(1, MOST_STEPS):
            died = await _pay(api, server, step)
            assert server.traces().count(f"pay {step}") == 1
            assert await api.last_words(f"t{step}") == f"Results: paid {step}"
            if not died:
                break
    # Some steps come before the decision (routing, finding what is pending), some after it.
    assert 6 < step < MOST_STEPS - 1


async def _pay(api: Api, server: Server, step: int) -> bool:
    """Pay, with a death at this step on the way, if there are so many; whether there was."""
    thread = f"t{step}"
    countdown = server.ledger.with_name(f"{server.ledger.name}.countdown")
    countdown.write_text(str(step))
    try:
        await api.stream(f"pay {step}", thread_id=thread)
        (approval,) = await api.pending(thread)
    except Exception:
        server.wait_for_death()
        server.restart()
        assert (await api.at_rest(thread))["status"] == "interrupted"
        (approval,) = await api.pending(thread)
        assert approval["kind"] == "tool"
        assert server.traces().count(f"pay {step}") == 0
        await api.decided(thread, type="approve")
        await api.at_rest(thread)
        return True
    try:
        await api.decided(thread, type="approve")
        await api.until(thread, "done")
    except Exception:
        server.wait_for_death()
        server.restart()
        if (await api.at_rest(thread))["status"] == "interrupted":
            # It died while it looked at the decision, and took none.
            assert await api.pending(thread) == [approval]
            await api.decided(thread, type="approve")
            await api.at_rest(thread)
        else:
            assert "run_recovered" in types_of(await api.events(thread))
        return True
    countdown.unlink()
    return False


async def test_killed_at_any_step_a_message_that_rejects_is_said_once(server: Server) -> None:
    async with asking(server) as api:
        for step in range(1, MOST_STEPS):
            thread = f"t{step}"
            await api.paused(f"pay {step}", thread_id=thread)
            countdown = server.ledger.with_name(f"{server.ledger.name}.countdown")
            countdown.write_text(str(step))
            body = {"message": f"look {step}", "thread_id": thread, "if_paused": "reject"}
            try:
                died = (await api.http.post("/agent/invoke", json=body)).status_code != 200
            except httpx.TransportError:
                died = True
            if died:
                server.wait_for_death()
                server.restart()
                if (await api.at_rest(thread))["status"] == "interrupted":
                    # It died while it looked at what was said, and took nothing.
                    await expect(await api.http.post("/agent/invoke", json=body), 200)
            messages = (await api.at_rest(thread))["values"]["messages"]
            assert [message["content"] for message in messages if message["type"] == "human"] == [
                f"pay {step}",
                f"look {step}",
            ]
            assert [message["type"] for message in messages].count("tool") == 2
            assert messages[-1]["content"] == f"Results: saw {step}"
            if not died:
                break
        countdown.unlink()
    assert 2 < step < MOST_STEPS - 1
    assert server.traces("pay") == []
