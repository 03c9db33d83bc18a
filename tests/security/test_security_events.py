"""Security events: in the audit chain, in the log and among the metrics, and not so many that
whoever makes them fills anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assent.core.audit import AuditAction
from assent.core.clock import Clock
from assent.runs.metrics import Metrics
from assent.runs.security_events import (
    MOST_A_MINUTE,
    MOST_WAITING,
    Refusal,
    Refusals,
    with_security_events,
)
from assent.storage.base import Storage, all_pages
from assent.storage.sqlite import SqliteStorage
from tests.support.secrets import bearer, keys_of, leaks, secret_of
from tests.support.server import Server, asking, expect, problem, scripted_agents, serving
from tests.support.waiting import until

LEADS = """
[people.ann]
roles = ["lead"]

[policies.agents.agent.tools.slow]
roles = ["lead"]
risk = "high"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("events")
    (folder / "assent.toml").write_text(LEADS)
    with serving(
        folder,
        scripted_agents(folder, "agent"),
        ASSENT_API_KEYS=keys_of("ann", "vic", "aud"),
        ASSENT_ROLES="vic:viewer,aud:auditor",
        ASSENT_CONFIG=str(folder / "assent.toml"),
    ) as server:
        yield server


async def noted(server: Server, action: str, **fields: Any) -> list[Any]:
    """The entries of this action with these fields, once there are some."""

    async def found() -> list[Any]:
        async with asking(server, **bearer("aud")) as aud:
            entries = (await aud.get("/audit", limit=1000))["audit"]
        wanted = {"action": action, **fields}
        return [each for each in entries if wanted.items() <= each.items()]

    entries: list[Any] = await until(found)
    return entries


async def test_a_failed_authentication_is_noted_without_what_was_sent(server: Server) -> None:
    for number in range(3):
        wrong = {"authorization": f"Bearer {secret_of(f'nobody-{number}')}"}
        async with asking(server, **wrong) as api:
            await problem(await api.http.get("/threads"), 401)
    # Without any secret nobody has tried to be somebody.
    async with asking(server) as api:
        await problem(await api.http.get("/threads"), 401)

    (entry,) = await noted(server, "auth_failed")
    assert entry["detail"]["address"] == "127.0.0.1"
    assert entry["detail"]["count"] in (1, 2, 3)
    assert entry["actor"] == ""
    assert "authentication failed" in server.output
    async with asking(server, **bearer("aud")) as aud:
        assert leaks((await aud.http.get("/audit")).text) == []
        text = (await expect(await aud.http.get("/metrics"), 200)).text
    assert 'assent_security_events_total{event="authentication failed"} ' in text


async def test_a_refused_decision_is_noted_with_who_and_why(server: Server, thread: str) -> None:
    async with asking(server, **bearer("ann")) as ann, asking(server, **bearer("vic")) as vic:
        (approval,) = await ann.paused("slow 9", thread_id=thread)
        path = f"/approvals/{approval['approval_id']}/decide"
        await problem(await ann.http.post(path, json={"type": "approve"}), 403)
        await problem(await vic.http.post(path, json={"type": "approve"}), 403)
        # That is no decision.
        item = {"namespace": ["vic"], "key": "k", "value": {}}
        await problem(await ann.http.put("/store/items", json=item), 403)

    (own,) = await noted(server, "refused", actor="ann")
    assert own["approval_id"] == approval["approval_id"]
    assert own["authentication"] == "api_key"
    assert own["detail"] == {"count": 1, "why": "the rules of the approval"}
    # Whose right does not reach it is not told, by the entry either, that the approval is there.
    (without,) = await noted(server, "refused", actor="vic")
    assert without["approval_id"] == ""
    assert without["detail"]["why"] == "they have no such right"
    assert server.output.count("decision refused") == 2


async def test_a_key_that_is_made_and_revoked_is_told(server: Server) -> None:
    async with asking(server, **bearer("ann")) as ann:
        made = (await expect(await ann.http.post("/keys", json={"roles": ["viewer"]}), 201)).json()
        await expect(await ann.http.delete(f"/keys/{made['key_id']}"), 200)
    for action, event in (("key_made", "key made"), ("key_revoked", "key revoked")):
        assert await noted(server, action, actor="ann")
        (line,) = [line for line in server.output.splitlines() if event in line]
        assert made["key_id"] in line and made["key"] not in line


# ── many of them ──────────────────────────────────────────────────────────────────────────────────


class Passing:
    """The seconds that have passed, as a test says."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


async def counts(storage: Storage) -> list[int]:
    """The number of attempts in each entry of the chain."""
    pages = all_pages(storage.audit, limit=1000)
    return [int(str(each.entry.detail["count"])) async for page in pages for each in page]


def failed(address: str) -> Refusal:
    return Refusal(AuditAction.AUTH_FAILED, address=address)


async def test_whoever_tries_on_is_noted_once_a_minute_and_no_attempt_is_lost(
    tmp_path: Path,
) -> None:
    metrics, passing = Metrics(), Passing()
    async with SqliteStorage.open(tmp_path / "a.db") as file:
        storage = with_security_events(file, metrics)
        refusals = Refusals(storage, Clock(), passing)
        for _ in range(100):
            refusals.note(failed("10.0.0.1"))
            await refusals.write()
        assert await counts(file) == [1]
        passing.seconds += 61
        await refusals.write()
        assert await counts(file) == [1, 99]
        assert metrics.security_events == Counter({"authentication failed": 100})


async def test_however_many_addresses_try_the_chain_grows_by_sixty_entries_a_minute(
    tmp_path: Path,
) -> None:
    metrics, passing, attempts = Metrics(), Passing(), 0
    async with SqliteStorage.open(tmp_path / "a.db") as file:
        refusals = Refusals(with_security_events(file, metrics), Clock(), passing)
        for minute in range(1, 4):
            for number in range(2 * MOST_WAITING):
                refusals.note(failed(f"10.{minute}.{number // 256}.{number % 256}"))
                attempts += 1
            for _ in range(10):
                await refusals.write()
            assert len(await counts(file)) == minute * MOST_A_MINUTE
            passing.seconds += 61
        for _ in range(2 * MOST_WAITING // MOST_A_MINUTE):
            await refusals.write()
            passing.seconds += 61
        assert sum(await counts(file)) == attempts


async def test_what_still_waits_is_written_at_the_end(tmp_path: Path) -> None:
    async with SqliteStorage.open(tmp_path / "a.db") as file:
        async with Refusals.open(file, Clock()) as refusals:
            for _ in range(5):
                refusals.note(failed("10.0.0.1"))
        assert sum(await counts(file)) == 5
