"""A log that cannot be read on, and somebody who asks for it, without a server.

stream = EventStream(asked(Connections(…)), FailingLog(Gone("…")), dialect=NATIVE)
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from fastapi import Request

from assent.api.context import SCOPE_KEY
from assent.api.streams.connections import READER, Connections, Reader
from assent.api.streams.encoder import Encoders
from assent.core.access import Owner
from assent.runs.follow import Batches, Following
from assent.storage.base import Storage

NO_STORAGE = cast(Storage, SimpleNamespace(read_log=None))
"""For a log that is not read."""


class FailingLog(Following):
    """A log that fails after its first batch."""

    def __init__(self, error: Exception) -> None:
        super().__init__(NO_STORAGE, "t")
        self.error = error

    async def batches(self) -> Batches:
        """Nothing, and then the error."""
        yield ()
        raise self.error


def asked(connections: Connections) -> Request:
    """A request for a stream, of somebody whom the server knows."""
    encoders = Encoders(shared=lambda log_id: False)
    server = SimpleNamespace(connections=connections, encoders=encoders, heartbeat=60.0)
    reader = Reader(Owner("ann"), "127.0.0.1", Owner("ann"))
    return Request({"type": "http", "headers": [], SCOPE_KEY: server, READER: reader})
