"""Numbers to watch the server by."""

from __future__ import annotations

from fastapi import Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from assent.api.access.rules import Thing, may
from assent.api.answers import TEXT, answers
from assent.api.context import served
from assent.api.exposition import Exposition
from assent.api.routing import router_of
from assent.core.access import Right
from assent.core.errors import Unavailable
from assent.storage.base import Load, Storage

router = router_of("server")


@router.get("/metrics")
@may(Right.WATCH, Thing.SERVER, whole=True)
@answers(str, media_type=TEXT, description="The metrics, in the text form of Prometheus")
async def show_metrics(request: Request) -> Response:
    """Numbers about the whole server, for Prometheus and what reads its form. They name agents and
    routes, and no thread, run or person. Those of the storage are left out while it cannot be
    read."""
    server = served(request)
    storage = server.program.storage
    exposition = Exposition(
        server.metrics,
        server.connections,
        await _load(storage),
        storage.outage(),
        server.program.clock.now(),
    )
    return Response(exposition.text(), media_type=CONTENT_TYPE_LATEST)


async def _load(storage: Storage) -> Load | None:
    try:
        return await storage.load()
    except Unavailable:
        return None
