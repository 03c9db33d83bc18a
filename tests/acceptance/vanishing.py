"""Readers that vanish, on a network of its own: `unshare --net python -m tests.acceptance.vanishing
FOLDER`.

The network is taken down in their midst: nothing that one end sends gets to the other any more, not
even that it has gone.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

from assent.cli.listening import SYSTEM_SECONDS
from tests.support import flooding_agent, readers
from tests.support.server import Server, asking, serving
from tests.support.waiting import PATIENCE

STALLED = 1.0
SETTINGS = {"ASSENT_STALLED": f"{STALLED:g}s", "ASSENT_HEARTBEAT": "0.5s"}
TARGET = f"{flooding_agent.__file__}:graph"

SET_FLAGS, IS_UP = 0x8914, 1
"""Of Linux: the request that sets the flags of a network interface, and the flag of one that is
up."""


async def main(folder: Path) -> None:
    """Have readers vanish, and see when the server lets go of each."""
    network(is_up=True)
    with serving(folder, TARGET, cold=True, **SETTINGS) as server, ExitStack() as stack:
        connected = await opened(server, stack)
        begun = time.monotonic()
        network(is_up=False)
        seconds = await asyncio.to_thread(let_go_after, server, connected, begun)
    # What waits for the one that takes nothing is in the server, which cuts it off: unless the
    # machine stood still until the system did. What was sent to the others is in the system, and
    # only that knows that nobody takes it. As it is set by default, it would wait for minutes.
    by_system = set(seconds) - ({"behind"} if server.output.count("reader cut") == 1 else set())
    assert by_system >= {"stream", "socket"}
    for name in by_system:
        assert seconds[name] > STALLED + SYSTEM_SECONDS - 1, seconds
    assert "[error" not in server.output


def network(*, is_up: bool) -> None:
    """Bring the loopback interface up, or take it down."""
    with socket.socket() as sock:
        flags = struct.pack("16sh14x", b"lo", IS_UP if is_up else 0)
        fcntl.ioctl(sock, SET_FLAGS, flags)


async def opened(server: Server, stack: ExitStack) -> dict[int, str]:
    """Readers who have heard all, and one who is behind and takes nothing, by their ports."""
    async with asking(server) as api:
        await api.stream("1 1 0", thread_id="small")
        await api.stream(f"16 {256 << 10} 0", thread_id="large")
        last = len(await api.events("small"))
        requests = {
            "stream": readers.request("/threads/small/events", last=last),
            "socket": readers.handshake(f"/threads/small/ws?after={last}"),
            "behind": readers.request("/threads/large/events"),
        }
        connected = {}
        for name, request in requests.items():
            sock = stack.enter_context(closing(readers.slow_socket(server.port, request)))
            connected[sock.getsockname()[1]] = name
        await api.until_streams(len(requests))
    return connected


def let_go_after(server: Server, connected: dict[int, str], begun: float) -> dict[str, float]:
    """The seconds after which the server had let go of each. It has as long as it needs."""
    seconds: dict[str, float] = {}
    while len(seconds) < len(connected):
        assert time.monotonic() - begun < PATIENCE, seconds
        held = server.peers()
        for port, name in connected.items():
            if port not in held and name not in seconds:
                seconds[name] = time.monotonic() - begun
        time.sleep(0.1)
    return seconds


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
