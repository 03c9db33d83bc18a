"""SIGKILL at moments that nobody chose: people go on deciding while the server dies again and again."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import Api, Server, asking, scripted_agents, serving

KILLS = 16
PEOPLE = 4
REST_SECONDS = 10
"""How long after the last start a thread may still be busy."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        yield server


@dataclass(slots=True)
class Payment:
    """What a person knows of one payment: which decisions were acknowledged, by approval."""

    amount: int
    acknowledged: dict[str, dict[str, Any]] = field(default_factory=dict)


async def test_killed_at_random_it_honours_each_decision_and_repeats_nothing(server: Server) -> None:
    number = random.randrange(1_000_000)
    # pytest shows this where the test fails.
    sys.stdout.write(f"The kills and decisions are those of random.Random({number}).\n")
    chance = random.Random(number)
    payments: list[Payment] = []
    stop = asyncio.Event()

    async with asking(server) as api:
        people = [asyncio.create_task(_person(api, f"p{index}", chance, payments, stop)) for index in range(PEOPLE)]
        for _ in range(KILLS):
            await asyncio.sleep(chance.random() * 0.8)
            server.kill()
            await asyncio.to_thread(server.start)
        started_at = time.monotonic()
        stop.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*people)

        threads = (await api.get("/threads"))["threads"]
        for thread in threads:
            await api.at_rest(thread["thread_id"], REST_SECONDS - (time.monotonic() - started_at))
            # The client is strict: the numbers are 1 to n without a gap.
            await api.events(thread["thread_id"])
        assert len(payments) > KILLS
        for payment in payments:
            await _check(api, server, payment)


async def _person(api: Api, name: str, chance: random.Random, payments: list[Payment], stop: asyncio.Event) -> None:
    """Ask for one payment after another, on two threads in turn, and decide whatever is asked back."""
    for turn in range(10_000):
        if stop.is_set():
            return
        payment = Payment(amount=len(payments) + 1)
        payments.append(payment)
        thread = f"{name}-{turn % 2}"
        await _ask(api, thread, f"look {payment.amount}; pay {payment.amount}")
        while pending := await _waiting(api, thread):
            for approval in pending:
                await _decide(api, approval, chance, payment)


async def _ask(api: Api, thread: str, message: str) -> None:
    """Say it until it is there. A message whose answer was lost may be there; then the thread is busy, paused, or has an answer."""
    while True:
        before = await _starts(api, thread)
        response = await _once(api, "POST", "/agent/invoke", json={"message": message, "thread_id": thread})
        if response is not None and response.status_code == 200:
            return
        if await _starts(api, thread) > before:
            return


async def _starts(api: Api, thread: str) -> int:
    """How many messages the thread has been sent."""
    only_starts, as_json = {"types": "run_start"}, {"accept": "application/json"}
    response = await _patiently(api, "GET", f"/threads/{thread}/events", params=only_starts, headers=as_json)
    return len(response.json().get("events", ()))


async def _waiting(api: Api, thread: str) -> list[dict[str, Any]]:
    """What the thread waits for, once it has come to rest."""
    while (await _patiently(api, "GET", f"/threads/{thread}")).json()["status"] == "busy":  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    response = await _patiently(api, "GET", "/approvals", params={"thread_id": thread, "status": "pending"})
    return list(response.json()["approvals"])


async def _decide(api: Api, approval: dict[str, Any], chance: random.Random, payment: Payment) -> None:
    """Decide until the answer is known: 202, or 409 if an earlier try was taken and only its answer got lost."""
    types = ["approve", "approve", "reject"] if approval["kind"] == "tool" else ["approve", "respond"]
    type_ = chance.choice(types)
    decision = {"type": type_} if type_ == "approve" else {"type": type_, "message": "seen to"}
    response = await _patiently(api, "POST", f"/approvals/{approval['approval_id']}/decide", json=decision)
    assert response.status_code in (202, 409), response.text
    if response.status_code == 409:
        assert response.json()["decision"] == decision
    payment.acknowledged[approval["approval_id"]] = decision


async def _check(api: Api, server: Server, payment: Payment) -> None:
    approved = asked_again = allowed_again = 0
    for approval_id, decision in payment.acknowledged.items():
        approval = await api.approval(approval_id)
        assert approval["decision"] == decision
        assert approval["args"] == {"amount": payment.amount}
        if approval["kind"] == "tool":
            approved += decision["type"] == "approve"
        else:
            asked_again += 1
            allowed_again += decision["type"] == "approve"
    assert payment.acknowledged
    paid = server.traces().count(f"pay {payment.amount}")
    # A start that was cut off may have left its line or not. Without one, an approved call has run exactly once.
    assert paid <= approved * (1 + allowed_again), f"{payment} was paid {paid} times"
    if not asked_again:
        assert paid == approved, f"{payment} was paid {paid} times"


async def _patiently(api: Api, method: str, path: str, **request: Any) -> httpx.Response:
    """Ask until there is an answer."""
    while True:
        if (response := await _once(api, method, path, **request)) is not None:
            return response
        await asyncio.sleep(0.05)


async def _once(api: Api, method: str, path: str, **request: Any) -> httpx.Response | None:
    try:
        return await api.http.request(method, path, **request)
    except httpx.TransportError:
        return None
