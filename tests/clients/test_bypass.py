"""Whatever is asked of a paused thread, through whichever door: what needs a person does not run
without one, and the ledger of the tools says so.

The ways to ask are in tests/support/bypasses.py. Most of them make bare LangGraph run the step that
it has paused before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from tests.support.bypasses import DOORS, NODES, ROWS, Door, Paused, Way, opened
from tests.support.server import Api, Server, asking, expect, scripted_agents, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, scripted_agents(folder, *NODES)) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


async def paused_on(api: Api, thread: str, agent: str, amount: int) -> Paused:
    """The thread, once it waits for consent to pay the amount."""
    await api.stream(f"pay {amount}", thread_id=thread, agent=agent, if_paused="cancel")
    head = await api.get(f"/threads/{thread}/state")
    view = await api.get(f"/threads/{thread}")
    return Paused(agent=agent, amount=amount, view=view, earlier=head, head=head)


async def ask_anew(door: Door) -> None:
    """Have the thread wait for consent once more, in place of whatever it does."""
    before = door.paused
    paused = await paused_on(door.api, before.thread, before.agent, before.amount)
    door.paused = replace(paused, earlier=before.earlier, another=before.another)
    await door.look()


async def consent(door: Door) -> None:
    """Decide, as a client of the dialect does: what was shown runs, once."""
    before = door.server.traces("pay")
    door.consented = [door.consent()]
    assert await door.ask(*door.consented) == "done"
    assert door.server.traces("pay") == [*before, f"pay {door.paused.amount}"]


async def check(door: Door, way: Way) -> None:
    """Ask in this way: it is answered as it should be, and nothing has run."""
    api, paused, about = door.api, door.paused, (way.row, way.name)
    before = door.server.traces()
    assert [await door.ask(asked) for asked in way.asks] == way.heard, about
    view = await api.get(f"/threads/{paused.thread}")
    assert door.server.traces() == before, about
    is_same = way.is_refused or way.keeps
    assert (view == paused.view) == is_same, about
    if way.row in door.inexpressible:
        assert is_same, about
    if not is_same:
        approval = await api.approval(paused.approval["approval_id"])
        assert (approval["status"], approval["decision"]) == ("cancelled", None), about
        await ask_anew(door)


@pytest.mark.parametrize(
    ("name", "agent"), [(name, agent) for name, (_, agents) in DOORS.items() for agent in agents]
)
async def test_nothing_runs_without_consent(
    api: Api, server: Server, thread: str, amount: int, name: str, agent: str
) -> None:
    another = await paused_on(api, f"{thread}-another", agent, amount)
    first = await paused_on(api, thread, agent, amount)
    kind, _ = DOORS[name]
    async with opened(kind(api, server, replace(first, another=another))) as door:
        await door.look()
        await consent(door)
        # What was agreed to has run. The same is asked anew, with the same arguments.
        await ask_anew(door)

        ways = [(way.row, way.name) for way in door.ways()]
        assert len(ways) == len({*ways})
        assert {row for row, _ in ways} == ROWS.keys()
        for row, how in ways:
            (way,) = (way for way in door.ways() if (way.row, way.name) == (row, how))
            await check(door, way)
        assert await api.get(f"/threads/{another.thread}") == another.view
        entries = (await api.get("/audit", thread_id=thread))["audit"]
        assert [entry["action"] for entry in entries].count("decided") == 1

        # With consent it does run: the ledger can tell.
        await consent(door)


@pytest.mark.parametrize("agent", NODES)
async def test_what_waits_behind_a_question_asks_it_anew(
    api: Api, server: Server, thread: str, amount: int, agent: str
) -> None:
    """A run that is to go on later from where the thread waits, with nothing: that is decided by
    whoever looks at it then, and not by what was decided before."""
    paused = await paused_on(api, thread, agent, amount)
    place = {"checkpoint": paused.head["checkpoint"], "after_seconds": 1.0}
    body = {"assistant_id": agent, "input": None, **place}
    waits = await expect(await api.http.post(f"/threads/{thread}/runs", json=body), 200)
    await api.decided(thread, type="reject")
    run = await api.ended(waits.json()["run_id"])
    assert run["status"] == "interrupted"
    (anew,) = await api.pending(thread)
    assert anew["approval_id"] != paused.approval["approval_id"]
    assert server.traces(f"pay {amount}") == []
    await api.decided(thread, type="approve")
    await api.at_rest(thread)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]
