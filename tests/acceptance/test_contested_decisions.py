"""A hundred people decide one approval at the same moment, each in another way: one is heard, and
what they said happens once. `make crash` does the same for longer; CRASH_CONTESTS says how often.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from tests.support.server import Api, Server, asking, scripted_agents, serving, types_of, volley

ROUNDS = int(os.environ.get("CRASH_CONTESTS", "5"))
PEOPLE = 100
ABREAST = 5
"""Rounds that are prepared, and looked at afterwards, together."""

Json = Any


async def test_of_a_hundred_conflicting_decisions_one_is_taken_and_runs_once(
    tmp_path: Path,
) -> None:
    paid: list[str] = []
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        async with asking(server) as api:
            for first in range(1, ROUNDS + 1, ABREAST):
                numbers = range(first, first + ABREAST)
                asked = await asyncio.gather(
                    *(
                        api.paused(f"pay {number * 1000}", thread_id=f"t{number}")
                        for number in numbers
                    )
                )
                for number, (approval,) in zip(numbers, asked, strict=True):
                    paid.append(f"pay {await _contest(server, number, approval)}")
                await asyncio.gather(*(_came_to_one_end(api, f"t{number}") for number in numbers))
        assert len(paid) == ROUNDS
        assert sorted(server.traces()) == sorted(paid)


async def _contest(server: Server, number: int, approval: Json) -> int:
    """One approves, and each of the others changes the amount, all at once; the amount that was
    taken."""
    amounts = [number * 1000 + person for person in range(PEOPLE)]
    decisions: list[Json] = [
        {"type": "approve"},
        *({"type": "edit", "args": {"amount": amount}} for amount in amounts[1:]),
    ]
    paths = [f"/approvals/{approval['approval_id']}/decide", f"/threads/t{number}/resume"]
    # Each round somebody else comes first.
    order = [(place + number * 7) % PEOPLE for place in range(PEOPLE)]
    answers = await volley(server, [(paths[person % 2], decisions[person]) for person in order])
    assert sorted(status for status, _ in answers) == [202] + [409] * (PEOPLE - 1)
    (winner,) = [
        person for person, (status, _) in zip(order, answers, strict=True) if status == 202
    ]
    assert all(body["decision"] == decisions[winner] for status, body in answers if status == 409)
    return amounts[winner]


async def _came_to_one_end(api: Api, thread: str) -> None:
    assert (await api.at_rest(thread))["status"] == "idle"
    types = types_of(await api.events(thread))
    assert [
        types.count(kind)
        for kind in ("approval_decided", "run_resumed", "tool_start", "tool_end", "done")
    ] == [1] * 5
