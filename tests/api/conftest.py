"""One real server for all the tests of a module, and a client of it. A module that needs more agents
than `agent` names them as AGENTS. One that needs another server has a fixture of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.server import Api, Server, asking, scripted_agents, serving


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of those agents of `agents.py`; `agent` is the one that takes messages for nobody."""
    folder = tmp_path_factory.mktemp("server")
    names = getattr(request.module, "AGENTS", ("agent",))
    with serving(folder, scripted_agents(folder, *names)) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    """A client."""
    async with asking(server) as api:
        yield api
