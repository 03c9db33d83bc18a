"""`GET /me`: who somebody is, and what their roles let them do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from assent import Assent, build_hitl_agent
from assent.core.errors import ConfigurationError
from tests.support.models import ScriptedModel, say
from tests.support.secrets import bearer, keys_of
from tests.support.server import problem


@asynccontextmanager
async def server(folder: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    agent = build_hitl_agent(ScriptedModel(script=[say("Hello.")]), [], approve=[])
    async with Assent(agent, database=str(folder / "a.db"), settings=settings) as assent:
        transport = httpx.ASGITransport(assent.app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


async def test_everybody_learns_who_they_are_and_what_their_roles_let_them_do(
    tmp_path: Path,
) -> None:
    people = tmp_path / "assent.toml"
    people.write_text('[people.cleo]\nroles = ["lead", "approver:tool:pay"]\n')
    settings = {
        "api_keys": keys_of("ann", "bob", "cleo", "dan"),
        "roles": "ann:auditor admin,bob:approver:role:lead viewer",
        "config": str(people),
    }
    async with server(tmp_path, **settings) as client:
        ann, bob, cleo, dan = [
            (await client.get("/me", headers=bearer(name))).json()
            for name in ("ann", "bob", "cleo", "dan")
        ]
        assert ann == {
            "name": "ann",
            "tenant": None,
            "roles": ["admin", "auditor"],
            "rights": ["admin", "audit", "read", "say", "see", "self", "stop", "watch"],
            "approves": {"everything": False, "tools": [], "roles": []},
            "authentication": "api_key",
            "expires_at": None,
        }
        assert bob["approves"] == {"everything": False, "tools": [], "roles": ["lead"]}
        assert bob["rights"] == ["decide", "read", "say", "see", "self"]
        assert cleo["approves"] == {"everything": False, "tools": ["pay"], "roles": []}
        assert "run" not in cleo["rights"]
        # Who was given no role has those of everybody.
        assert dan["roles"] == ["approver", "operator"]

        kept = await client.get("/me", headers={"x-api-key": "secret-of-ann"})
        assert (kept.json(), kept.headers["cache-control"]) == (ann, "no-store")
        await problem(await client.get("/me"), 401)
        wrong = await client.get("/me", headers={"x-api-key": "secret-of-nobody"})
        assert "was sent is none of this server's" in (await problem(wrong, 401))["detail"]
        assert "needs a key" in (await problem(await client.get("/me"), 401))["detail"]
        both = {**bearer("ann"), "x-api-key": "secret-of-bob"}
        await problem(await client.get("/me", headers=both), 400)
        twice = [*bearer("ann").items(), *bearer("bob").items()]
        await problem(await client.get("/me", headers=twice), 400)


async def test_without_default_roles_somebody_without_any_may_do_nothing(tmp_path: Path) -> None:
    settings = {"api_keys": keys_of("ann", "bob"), "roles": "ann:viewer", "default_roles": "none"}
    async with server(tmp_path, **settings) as client:
        assert (await client.get("/me", headers=bearer("ann"))).json()["roles"] == ["viewer"]
        refused = await problem(await client.get("/me", headers=bearer("bob")), 403)
        assert "ASSENT_ROLES" in refused["detail"]


async def test_without_keys_everybody_is_one_person_who_may_do_everything(tmp_path: Path) -> None:
    async with server(tmp_path) as client:
        me = (await client.get("/me")).json()
        assert (me["name"], me["roles"], me["authentication"]) == ("local", [], "local")
        assert me["approves"]["everything"] and len(me["rights"]) == 10


@pytest.mark.parametrize(
    "settings",
    [
        {"roles": "ann"},
        {"roles": "ann:"},
        {"roles": "ann:viewer,ann:admin"},
        {"roles": "ann:opertor"},
        {"roles": {"ann": ["opertor"]}},
        {"default_roles": "operator approver"},
        {"default_roles": ["approver:tool:"]},
    ],
)
def test_a_slip_of_the_pen_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="role"):
        Assent(lambda: None, settings=settings)  # type: ignore[arg-type]
