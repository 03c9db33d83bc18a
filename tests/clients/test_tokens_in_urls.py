"""A key in a URL: it reads where the server allows it, and is in no log, no answer and no list of
connections, whatever is asked with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.routing import APIRoute
from starlette.routing import WebSocketRoute
from websockets.exceptions import InvalidStatus

from assent.api.routes.dialects import DIALECT_ROUTES
from tests.support import document_agent
from tests.support.document_readers import opened
from tests.support.server import Api, Server, asking, project_of, serving

SECRET = "swordfish-of-ann"
KEY = {"Authorization": f"Bearer {SECRET}"}
AGENT = "graph"

READING = ("/events/human-input/{execution_id}", "/poll/human-input/{execution_id}")
READING_SOCKET = "/ws/human-input/{execution_id}"
"""The routes that take one, of all that dialects have."""

ROUTES = [
    route for modules in DIALECT_ROUTES.values() for each in modules for route in each.router.routes
]
SOCKETS = {route.path for route in ROUTES if isinstance(route, WebSocketRoute)}
OTHER_SOCKETS = SOCKETS - {READING_SOCKET}
OTHERS = [
    (method, route.path)
    for route in ROUTES
    if isinstance(route, APIRoute) and route.path not in {*READING, *SOCKETS}
    for method in route.methods
]

REFUSED = (401, 422)
"""They know no parameter `token`, and need a key."""


@pytest.fixture(scope="module", params=["", "true"], ids=["refused", "allowed"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that writes all that it can to its log."""
    folder = tmp_path_factory.mktemp("server")
    agents = project_of(folder, {document_agent: [AGENT]})
    settings = {"ASSENT_API_KEYS": f"ann:{SECRET}", "ASSENT_LOG_LEVEL": "debug"}
    if request.param:
        settings["ASSENT_ALLOW_QUERY_TOKEN"] = request.param
    with serving(folder, agents, **settings) as server:
        yield server
        server.terminate()
        assert "debug" in server.output
        assert SECRET not in server.output


def may_read(server: Server) -> bool:
    """True if the server takes a key in a URL."""
    return "ASSENT_ALLOW_QUERY_TOKEN" in server.environment


async def answered(
    api: Api, path: str, *parameters: tuple[str, str], method: str = "GET", **headers: str
) -> int:
    """The status of an answer, in which there is no key. Of a stream, only the beginning is read."""
    body = {"json": {}} if method == "POST" else {}
    asking = api.http.stream(method, path, params=parameters, headers=headers, **body)
    async with asking as response:
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        text = "" if is_stream else (await response.aread()).decode()
        assert SECRET not in text + str(response.headers)
        return response.status_code


async def opens(server: Server, path: str, *parameters: tuple[str, str]) -> bool:
    """True if a WebSocket opens there."""
    try:
        async with opened(f"ws://127.0.0.1:{server.port}{path}?{urlencode(parameters)}"):
            return True
    except InvalidStatus as error:
        assert error.response.status_code in (401, 404, 410, 422)
        assert SECRET not in (error.response.body or b"").decode() + str(error.response.headers)
        return False


def at(path: str, id: str) -> str:
    """The path of the route, for what has this id."""
    return re.sub(r"\{\w+\}", id, path.replace("{agent_id}", AGENT))


def token(secret: str = SECRET) -> tuple[str, str]:
    """The parameter of a URL."""
    return ("token", secret)


async def test_a_key_in_a_url_reads_where_it_may_and_does_nothing_else(
    server: Server, thread: str
) -> None:
    read = 200 if may_read(server) else 401
    async with asking(server, **KEY) as api, asking(server) as anybody:
        (asked,) = await api.paused("ask Which year?", thread_id=thread)
        for id in (thread, asked["run_id"]):
            for path in READING:
                assert await answered(anybody, at(path, id), token()) == read
            assert await opens(server, at(READING_SOCKET, id), token()) == may_read(server)
            for method, path in OTHERS:
                assert await answered(anybody, at(path, id), token(), method=method) in REFUSED
            for path in OTHER_SOCKETS:
                assert not await opens(server, at(path, id), token())
        # A header goes first.
        for path in READING:
            whole = at(path, thread)
            assert await answered(api, whole, token("wrong")) == 200
            assert await answered(anybody, whole, token(), Authorization="Bearer wrong") == 401


async def test_a_key_in_a_url_is_repeated_by_nobody(server: Server, thread: str) -> None:
    wrongs = ("", f"{SECRET}x", SECRET.upper(), f"Bearer {SECRET}", f"{SECRET}\n")
    async with asking(server, **KEY) as api, asking(server) as anybody:
        await api.stream("Hello.", thread_id=thread)
        for path in READING:
            whole = at(path, thread)
            for wrong in wrongs:
                assert await answered(anybody, whole, token(wrong)) == 401
            assert await answered(anybody, whole, token(), token()) == 401
            # Whatever else is wrong with what is asked.
            for more in (("last_event_id", "x"), ("last_event_id", "99999"), ("unknown", SECRET)):
                assert await answered(anybody, whole, token(), more) in (401, 410, 422)
            assert await answered(anybody, at(path, "nobody"), token()) in (401, 404)
        for id, secret in (("nobody", SECRET), (thread, f"{SECRET}x")):
            assert not await opens(server, at(READING_SOCKET, id), token(secret))
        for path in ("/nowhere", *(f"{at(path, thread)}/" for path in READING)):
            assert await answered(anybody, path, token()) == 404


async def test_whoever_reads_by_it_is_listed_by_their_name(server: Server, thread: str) -> None:
    async with asking(server, **KEY) as api:
        await api.stream("Hello.", thread_id=thread)
        path = at(READING_SOCKET, thread)
        # Where it does not read, the header does, and the key in the URL is nowhere either.
        headers = {} if may_read(server) else KEY
        uri = f"ws://127.0.0.1:{server.port}{path}?{urlencode([token()])}"
        async with opened(uri, additional_headers=headers):
            listed: list[Any] = await api.connections()
            assert [each["user"] for each in listed] == ["ann"]
            assert SECRET not in json.dumps(listed)
