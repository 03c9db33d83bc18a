"""The server dies as it stores what a client decides: just before the commit, or after it and before
the answer. The client, which cannot know, asks again under its key, and it is one decision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from assent.client import Client, Outcome, ShownApproval, Unreachable
from assent.core.decisions import Approve, Reject
from assent.core.errors import AlreadyDecided
from assent.storage.sqlite.checkup import Level, check_up
from tests.support.server import Server, scripted_agents, serving

MOMENTS = pytest.mark.parametrize("moment", ["before", "after"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(
        folder,
        scripted_agents(folder, "agent"),
        ASSENT_API_KEYS="ann:ann-secret,bob:bob-secret",
        BEFORE_SERVING="tests.support.dying:install",
        DIES=str(folder / "dies"),
    ) as server:
        yield server
        server.kill()
        found = check_up(folder / "assent.db")
        assert [each for each in found if each.level is Level.WRONG] == []


@pytest.fixture
async def people(server: Server) -> AsyncIterator[tuple[Client, Client]]:
    async with AsyncExitStack() as stack:
        ann, bob = [
            await stack.enter_async_context(
                Client(server.url, key=f"{name}-secret", trust_env=False)
            )
            for name in ("ann", "bob")
        ]
        yield ann, bob


async def asked(ann: Client, thread: str, amount: int) -> ShownApproval:
    run = await ann.runs.invoke(f"pay {amount}", thread_id=thread, agent="agent")
    (approval,) = run.approvals
    return approval


def dies(server: Server, moment: str) -> None:
    """Let it die at the next decision."""
    Path(server.environment["DIES"]).write_text(moment)


async def died(server: Server) -> None:
    await asyncio.to_thread(server.wait_for_death)


async def is_one_decision(
    server: Server, people: tuple[Client, Client], approval: ShownApproval, outcome: Outcome
) -> None:
    """Ann's decision stands, was stored once, and let the call run once."""
    ann, bob = people
    for client in people:
        with pytest.raises(AlreadyDecided) as late:
            await client.approvals.decide(approval, Reject(message="No."))
        assert (late.value.by, late.value.decision) == ("ann", Approve())
        assert late.value.at == (await bob.approvals.get(approval.approval_id)).decided_at
    assert outcome.run_id is not None
    assert (await ann.runs.wait(outcome.run_id)).status == "success"
    page = await ann.threads.events(approval.thread_id, types=["approval_decided", "run_resumed"])
    assert [heard.type for heard in page.events] == ["approval_decided", "run_resumed"]
    call = f"pay {approval.args['amount']}"
    assert server.traces(call) == [call]


@MOMENTS
async def test_a_decision_is_one_whenever_the_server_dies(
    server: Server, people: tuple[Client, Client], thread: str, amount: int, moment: str
) -> None:
    ann, _ = people
    approval = await asked(ann, thread, amount)
    dies(server, moment)
    # It asks three times by itself, and gives up on a server that stays away.
    with pytest.raises(Unreachable):
        await ann.approvals.decide(approval, Approve(), key=thread)
    await died(server)
    server.restart()
    status = (await ann.approvals.get(approval.approval_id)).status
    assert status == ("pending" if moment == "before" else "approved")
    outcome = await ann.approvals.decide(approval, Approve(), key=thread)
    assert await ann.approvals.decide(approval, Approve(), key=thread) == outcome
    await is_one_decision(server, people, approval, outcome)


@MOMENTS
async def test_a_decision_on_a_websocket_comes_back_with_the_server(
    server: Server, people: tuple[Client, Client], thread: str, amount: int, moment: str
) -> None:
    ann, _ = people
    approval = await asked(ann, thread, amount)
    async with ann.socket(thread) as socket:
        dies(server, moment)
        deciding = asyncio.create_task(socket.decide(approval, Approve(), key=thread))
        await died(server)
        server.restart()
        outcome = await deciding
        assert await socket.decide(approval, Approve(), key=thread) == outcome
        types = []
        async for heard in socket:
            types.append(heard.type)
            if heard.type == "done":
                break
    assert types.count("approval_decided") == 1
    await is_one_decision(server, people, approval, outcome)
