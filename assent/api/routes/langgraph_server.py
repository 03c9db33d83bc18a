"""The server itself, as LangGraph's clients ask for it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from fastapi import Request, Response

from assent.api.access.rules import open_to_all
from assent.api.answers import answers
from assent.api.context import served
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.shapes.server import InfoView, Ok
from assent.core.errors import Unavailable

router = router_of("server")

FLAGS: Final = {
    "assistants": True,
    "crons": True,
    "langsmith": False,
    "langsmith_tracing_replicas": False,
    "langsmith_tracing_session_on_runs": False,
}


@router.get("/info")
@open_to_all("It says nothing of anybody.")
@answers(InfoView)
async def info(request: Request) -> Response:
    """The versions, and what the server has of LangGraph's. No key is needed."""
    return json_response(
        {
            "version": version("assent"),
            "langgraph_py_version": version("langgraph"),
            "flags": FLAGS,
            "host": {"kind": "self-hosted"},
        }
    )


@router.get("/ok")
@open_to_all("It says nothing of anybody.")
@answers(Ok)
async def ok(request: Request) -> Response:
    """200 if the server can take requests, and 503 with the reason while its storage is away. No
    key is needed."""
    outage = served(request).program.storage.outage()
    if outage is not None:
        raise Unavailable(outage.reason)
    return json_response({"ok": True})
