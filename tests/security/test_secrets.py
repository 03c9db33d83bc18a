"""After every kind of secret was used, none is in what is stored, shown or printed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
from fastapi import Request
from langchain_core.tools import tool

from assent import Assent, build_hitl_agent
from assent.api.access.given import given_by
from assent.api.access.rules import Rule, Thing
from assent.core.access import Right
from tests.support.issuer import KnownIssuer, issuing
from tests.support.models import ScriptedModel, call
from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.server import expect

PUBLIC = "http://localhost"
PEPPER = base64.b64encode(b"pepper of a test" * 2).decode()
LINKS = base64.b64encode(b"key of its links" * 2).decode()
WEBHOOK = "whsec_" + base64.b64encode(b"secret of a hook" * 2).decode()
SETTINGS = """
[people.ann]
aliases = ["corp:ann"]
roles = ["operator", "approver", "auditor", "admin"]

[notify.pager]
url = "http://127.0.0.1:9/hook"
secrets = ["{webhook}"]
allow_private = true
allow_http = true

[issuers.corp]
issuer = "{url}"
audience = "assent"
algorithm = "ES256"
allow_http = true
"""
SHOWN = ("/me", "/keys", "/connections", "/audit", "/metrics", "/notifications", "/threads/t")
SHOWN += ("/approvals", "/threads/t/events", "/runs", "/openapi.json", "/health")


@tool
def pay(amount: int) -> str:
    """Pay an amount."""
    return "paid"


async def test_no_secret_is_kept_or_shown(tmp_path: Path) -> None:
    secrets = {
        "key of the settings": secret_of("ann"),
        "pepper": PEPPER,
        "key of links": LINKS,
        "secret of a webhook": WEBHOOK.removeprefix("whsec_"),
    }
    agent = build_hitl_agent(
        ScriptedModel(script=lambda history: call("pay", amount=3)), [pay], approve=["pay"]
    )
    async with issuing(KnownIssuer()) as corp:
        file = tmp_path / "assent.toml"
        file.write_text(SETTINGS.format(url=corp.url, webhook=WEBHOOK))
        folder = tmp_path / "kept"
        folder.mkdir()
        settings: dict[str, Any] = {
            "api_keys": keys_of("ann"),
            "config": file,
            "key_pepper": PEPPER,
            "link_key": LINKS,
            "public_url": PUBLIC,
        }
        async with Assent(agent, database=str(folder / "a.db"), settings=settings) as assent:
            transport = httpx.ASGITransport(assent.app, client=("127.0.0.1", 50_000))
            async with httpx.AsyncClient(transport=transport, base_url=PUBLIC) as http:
                ann = {**bearer("ann"), "accept": "application/json"}

                async def post(path: str, status: int, /, **body: Any) -> httpx.Response:
                    answer = await http.post(path, json=body, headers={**ann, "origin": PUBLIC})
                    return await expect(answer, status)

                key = (await post("/keys", 201, roles=["viewer"])).json()["key"]
                signed_in = await post("/session", 200, key=key)
                cookie = signed_in.headers["set-cookie"].partition("=")[2].partition(";")[0]
                http.cookies.clear()
                asked = (await post("/agent/invoke", 200, message="Pay.", thread_id="t")).json()
                approval = f"/approvals/{asked['approvals'][0]['approval_id']}"
                made = (await post(f"{approval}/links", 201, recipient="ann")).json()
                ticket = {"path": "/threads/t/events", "transport": "sse"}
                used, left = [
                    (await post("/stream-tickets", 201, **ticket)).json()["ticket"]
                    for _ in range(2)
                ]
                token = corp.token(sub="ann")
                for headers, query in (
                    ({"x-api-key": key}, {}),
                    ({"cookie": f"assent={cookie}"}, {}),
                    ({"authorization": f"Bearer {token}"}, {}),
                    ({}, {"ticket": used}),
                ):
                    given = {**headers, "accept": "application/json"}
                    answer = await http.get("/threads/t/events", params=query, headers=given)
                    await expect(answer, 200)
                await expect(await http.get(httpx.URL(made["url"]).path), 200)
                secrets |= {
                    "stored key": key,
                    "cookie": cookie,
                    "link": made["url"].rpartition("/")[2],
                    "used ticket": used,
                    "ticket": left,
                    "token": token,
                }

                shown = {path: (await http.get(path, headers=ann)).text for path in SHOWN}
                for path, text in shown.items():
                    assert "problem" not in text[:40], text
                    for kind, secret in secrets.items():
                        assert secret not in text, (path, kind)

            given_key = given_by(
                Request({"type": "http", "headers": [(b"x-api-key", key.encode())]}),
                Rule(Right.READ, Thing.LIST),
            )
            served: Any = assent._served
            things = (assent._settings, served, served.sign_ins, assent.runs, given_key, assent)
            for thing, (kind, secret) in ((a, b) for a in things for b in secrets.items()):
                assert secret not in repr(thing), (type(thing), kind)

            # The database, its log of writes, and what else is beside it.
            kept = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
            assert {"a.db", "a.db-wal"} <= {*kept}
            for name, content in kept.items():
                for kind, secret in secrets.items():
                    assert secret.encode() not in content, (name, kind)
