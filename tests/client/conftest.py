"""One real server for all the tests of a module, and a client of it. A module that needs more agents
than `agent` names them as AGENTS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from assent.client import Client
from tests.support.server import Server, scripted_agents, serving


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
async def client(server: Server) -> AsyncIterator[Client]:
    """A client."""
    async with Client(server.url, trust_env=False) as client:
        yield client
