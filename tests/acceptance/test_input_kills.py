"""SIGKILL, and input beside a message: the context of a paused run outlives the process, and so does
that of a run that waits or is cut off in a tool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import given_graphs
from tests.support.server import Server, asking, project_of, serving

ACME: Any = {"agent": "shop", "context": {"account": "acme"}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, project_of(tmp_path, {given_graphs: ["shop"]})) as server:
        yield server


async def test_a_paused_run_keeps_its_context(server: Server) -> None:
    async with asking(server) as api:
        await api.paused("pay 5", thread_id="t", **ACME)
        server.restart()
        (asked,) = await api.pending("t")
        assert json.loads(asked["conversation"]["context"]) == {"account": "acme"}
        run = await api.decided("t", type="approve")
        assert (await api.ended(run["run_id"]))["status"] == "success"
    assert server.traces() == ["pay 5 from acme in en"]


async def test_a_run_that_is_cut_off_in_a_tool_goes_on_with_its_context(server: Server) -> None:
    paid = "pay 5 from acme in slow"
    async with asking(server) as api:
        context = {"account": "acme", "language": "slow"}
        await api.paused("pay 5", thread_id="t", agent="shop", context=context)
        run = await api.decided("t", type="approve")
        await server.until_traced(paid)
        server.restart()
        await server.until_traced(paid, times=2)
        server.let_go(5)
        assert (await api.ended(run["run_id"]))["status"] == "success"
    assert server.traces() == [paid, paid]
