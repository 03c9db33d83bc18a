"""Pages of other sites change nothing, with whatever they show who sends the request."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from assent import Assent, build_hitl_agent
from tests.support.models import ScriptedModel, say
from tests.support.secrets import bearer, keys_of

LISTED = "https://app.example"
OURS = "http://assent.example"
SOCKET = "ws://assent.example/threads/t/ws"


def server(folder: Path) -> Assent:
    agent = build_hitl_agent(ScriptedModel(script=[say("Hello.")]), [], approve=[])
    settings = {"api_keys": keys_of("ann"), "cors_origins": [LISTED]}
    return Assent(agent, database=str(folder / "a.db"), settings=settings)


CASES = [
    ({}, True),
    ({"origin": OURS}, True),
    ({"origin": LISTED}, True),
    # A proxy may have changed the Host: then the browser's own word counts.
    ({"origin": "https://behind.example", "sec-fetch-site": "same-origin"}, True),
    ({"origin": "https://evil.example"}, False),
    ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, False),
    ({"origin": "https://app.example.evil.example"}, False),
    ({"origin": "null"}, False),
    ({"sec-fetch-site": "cross-site"}, False),
]


@pytest.mark.parametrize(("headers", "may"), CASES)
async def test_a_key_is_not_enough_for_a_change_that_another_page_asks_for(
    tmp_path: Path, headers: dict[str, str], may: bool
) -> None:
    async with server(tmp_path) as assent:
        transport = httpx.ASGITransport(assent.app, client=("10.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url=OURS) as client:
            sent = {**bearer("ann"), **headers}
            made = await client.post("/threads", json={"thread_id": "t"}, headers=sent)
            assert made.status_code == (200 if may else 403)
            # What only reads is for the browser to keep from other pages.
            seen = await client.get("/threads", headers=sent)
            assert [each["thread_id"] for each in seen.json()["threads"]] == ["t"] * may


@pytest.mark.parametrize(("headers", "may"), CASES)
def test_nor_for_a_websocket(tmp_path: Path, headers: dict[str, str], may: bool) -> None:
    with TestClient(server(tmp_path).app, base_url=OURS) as client:
        client.post("/threads", json={"thread_id": "t"}, headers=bearer("ann"))
        sent = {**bearer("ann"), **headers}
        if may:
            with client.websocket_connect(SOCKET, headers=sent) as socket:
                assert socket.receive_json()["type"] == "ready"
            return
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect(SOCKET, headers=sent),
        ):
            pass
        assert denied.value.status_code == 403
