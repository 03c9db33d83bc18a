"""Heads of requests that a proxy in front may have read otherwise."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from assent import Assent, build_hitl_agent
from tests.support.models import ScriptedModel
from tests.support.readers import handshake
from tests.support.server import Api, Server, problem
from tests.support.waiting import PATIENCE

REFUSED = {
    "two hosts": "Host: 127.0.0.1\r\nHost: 127.0.0.1",
    "two hosts of which one is foreign": "Host: 127.0.0.1\r\nhost: evil.example",
    "no host": "Accept: */*",
    "an empty host": "Host:",
    "a host with a path": "Host: 127.0.0.1/?",
    "a host with a query": "Host: 127.0.0.1?a",
    "a host with a name before it": "Host: evil.example@127.0.0.1",
    "a host with a space": "Host: 127.0.0.1 evil.example",
    "two ports": "Host: 127.0.0.1:80:90",
    "two keys": "Host: 127.0.0.1\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b",
    "one key in each of two fields of a name": "Host: 127.0.0.1\r\nX-Api-Key: a\r\nX-API-KEY: b",
    "two cookies": "Host: 127.0.0.1\r\nCookie: a=1\r\nCookie: a=2",
    "a body that is packed as well": "Host: 127.0.0.1\r\nTransfer-Encoding: gzip, chunked",
    "two origins": "Host: 127.0.0.1\r\nOrigin: http://a\r\nOrigin: http://127.0.0.1",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("path", ["/threads", "/none"])
async def test_a_head_that_says_two_things_is_refused(server: Server, path: str, name: str) -> None:
    sent = f"GET {path} HTTP/1.1\r\n{REFUSED[name]}\r\nConnection: close\r\n\r\n"
    head, body = await asked(server.port, sent.encode())
    assert head.startswith(b"HTTP/1.1 400 ")
    found = json.loads(body)
    assert found["type"] == "urn:assent:problem:bad-request"
    assert found["detail"].endswith("Nothing was changed.")


async def test_so_is_the_handshake_of_a_websocket(server: Server, api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    sent = handshake(f"/threads/{thread}/ws").replace(
        b"\r\n\r\n", b"\r\nHost: evil.example\r\n\r\n"
    )
    head, _ = await asked(server.port, sent)
    assert head.startswith(b"HTTP/1.1 400 ")


async def test_two_lengths_are_refused(server: Server) -> None:
    head, _ = await asked(
        server.port,
        b"POST /agent/invoke HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n"
        b"Content-Length: 2\r\n\r\n{}",
    )
    assert head.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("path", ["/a%3Fb", "/a%23b"])
async def test_a_path_is_named_as_it_is(api: Api, path: str) -> None:
    detail = (await problem(await api.http.get(path), 404))["detail"]
    assert detail.startswith(f"There is no {path.replace('%3F', '?').replace('%23', '#')} on ")


async def test_an_app_around_refuses_them_too(tmp_path: Path) -> None:
    agent = build_hitl_agent(ScriptedModel(script=[]), [], approve=[])
    assent = Assent(agent, database=str(tmp_path / "a.db"))
    app = FastAPI(lifespan=assent.lifespan)
    app.include_router(assent.router)
    mounting = FastAPI()
    mounting.mount("/assent", assent.app)
    async with assent:
        for each, path in ((app, "/threads"), (mounting, "/assent/threads")):
            transport = httpx.ASGITransport(each, client=("127.0.0.1", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                await problem(await http.get(path, headers={"host": "127.0.0.1/?"}), 400)
                two = [("authorization", "Bearer a"), ("authorization", "Bearer b")]
                await problem(await http.get(path, headers=two), 400)


async def asked(port: int, sent: bytes) -> tuple[bytes, bytes]:
    """The head and the body of what is answered, until the server closes."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            return head, await reader.readexactly(int(length))
        finally:
            writer.close()
