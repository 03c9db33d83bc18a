"""`assent serve --reload`: a server that starts anew when the files of its project change.

This process keeps the listening socket, and a child serves on it. So nobody is refused while the
server starts: who connects meanwhile waits, and who was connected comes back.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

ASSENT = (sys.executable, "-P", "-c", "from assent.cli.app import main; main()")

SUFFIXES = frozenset({".py", ".json", ".toml", ".env", ".yaml", ".yml"})

BACKLOG = 2048
"""Connections that wait for the server, as uvicorn has it."""


class ProjectFilter(DefaultFilter):
    """The files that a project is made of, and not those that it writes."""

    def __call__(self, change: Change, path: str) -> bool:
        file = Path(path)
        is_source = file.suffix in SUFFIXES or file.name == ".env"
        return is_source and super().__call__(change, path)


def project_folder(target: str) -> Path:
    """The folder to watch for an agent, as `assent serve` names it."""
    name = target if target.endswith(".json") else target.rpartition(":")[0]
    is_file = name.endswith((".json", ".py"))
    return Path(name).resolve().parent if is_file else Path.cwd()


class Reloader:
    """A server's process, and its successors.

    `command` serves on a socket by its number, which comes last. A process that was asked to end
    has `patience` seconds for it.
    """

    def __init__(
        self,
        command: Sequence[str],
        sock: socket.socket,
        *,
        patience: float,
        tell: Callable[[str], None],
    ) -> None:
        self._command = command
        self._sock = sock
        self._patience = patience
        self._tell = tell

    async def run(self, *watched: Path) -> None:
        """Serve until this process is asked to end, and start anew on each change."""
        self._sock.listen(BACKLOG)
        stopping = asyncio.Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, stopping.set)

        changes = awatch(*watched, watch_filter=ProjectFilter(), stop_event=stopping)
        # The watch begins before the server reads the files, so that it misses no change to them.
        coming = asyncio.ensure_future(anext(changes, None))
        await asyncio.sleep(0)
        server = await self._start()
        telling = asyncio.create_task(self._tell_when_it_has_ended(server))
        try:
            while changed := await coming:
                names = sorted({Path(path).name for _, path in changed})
                self._tell(f"Starting anew, since this has changed: {', '.join(names)}.")
                telling.cancel()
                await self._end(server)
                server = await self._start()
                telling = asyncio.create_task(self._tell_when_it_has_ended(server))
                coming = asyncio.ensure_future(anext(changes, None))
        finally:
            telling.cancel()
            await self._end(server)

    async def _start(self) -> Process:
        number = self._sock.fileno()
        # Nothing is written to its input: that is closed when this process is gone, however it
        # went, and then the server ends too. In a session of its own it is not hit by Ctrl-C.
        return await asyncio.create_subprocess_exec(
            *self._command,
            str(number),
            stdin=PIPE,
            pass_fds=(number,),
            start_new_session=True,
        )

    async def _tell_when_it_has_ended(self, server: Process) -> None:
        """Say what goes on, once a server has ended that was not asked to."""
        await server.wait()
        self._tell("No server runs. The next change starts one, and requests wait until then.")

    async def _end(self, server: Process) -> None:
        if server.returncode is not None:
            # It has said why.
            return
        server.terminate()
        try:
            async with asyncio.timeout(self._patience):
                await server.wait()
        except TimeoutError:
            server.kill()
            await server.wait()
