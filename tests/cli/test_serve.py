"""The server that `assent serve` runs."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from assent.cli.listening import SEND_BUFFER, bind
from assent.cli.serve import AgentServer
from assent.config.settings import Settings
from tests.support.server import scripted_agents
from tests.support.waiting import PATIENCE


@pytest.fixture(autouse=True)
def collects_garbage_as_before() -> Iterator[None]:
    """A server tunes the collector of its process, which is the tests' here."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


# Old versions of uvicorn use what new ones of websockets call legacy.
@pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")
@pytest.mark.parametrize("steps", range(1, 6))
async def test_a_connection_that_is_accepted_as_the_server_stops_is_closed(
    tmp_path: Path, steps: int
) -> None:
    """The server stops so many steps of its loop after a client has connected. It would wait for
    the connection for an hour."""
    settings = Settings(database=f"sqlite:///{tmp_path / 'assent.db'}", drain_seconds=3600)
    server = AgentServer(settings, scripted_agents(tmp_path, "agent"), log_level="error")
    listening = bind("127.0.0.1", 0, settings)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup([listening])

    with closing(socket.create_connection(listening.getsockname())) as client:
        for _ in range(steps):
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            await server.shutdown([listening])
            reader, writer = await asyncio.open_connection(sock=client)
            assert await _end_of(reader)
            writer.close()


async def _end_of(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system has no such option")
def test_the_system_holds_little_for_a_reader_that_takes_nothing_and_not_for_long(
    tmp_path: Path,
) -> None:
    settings = Settings(database=f"sqlite:///{tmp_path / 'assent.db'}", stalled="2s")
    with closing(bind("127.0.0.1", 0, settings)) as listening:
        listening.listen()
        with closing(socket.create_connection(listening.getsockname())):
            accepted, _ = listening.accept()
            with closing(accepted):
                # Linux says twice what it was told, since it counts its own records of it.
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * SEND_BUFFER
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
