"""The word of the app around the server: who somebody is, in which tenant, with which roles, and
who else knows their secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Header

from assent import Assent, build_hitl_agent
from tests.support.models import ScriptedModel, call, say

SAID: dict[str, Any] = {
    "ann": "ann",
    "viewer": {"identity": "vic", "assent_roles": ["viewer"]},
    "object": SimpleNamespace(identity="vic", assent_roles=("viewer",)),
    "none": {"identity": "vic", "assent_roles": []},
    "policies": {"identity": "vic", "assent_roles": ["lead"]},
    "alias": {"identity": "sso|ann"},
    "acme": {"identity": "ann", "assent_tenant": "acme"},
    "lead": {"identity": "lea", "assent_roles": ["approver:tool:pay", "lead"]},
    "as_lead": {"identity": "lea", "assent_roles": ["approver"], "assent_known_to": ["sso|ann"]},
    "local": "local",
    "roles": {"identity": "vic", "assent_roles": "viewer"},
    "typo": {"identity": "vic", "assent_roles": ["approver:tols:pay"]},
    "tenant": {"identity": "vic", "assent_tenant": "a b"},
    "tenants": {"identity": "vic", "assent_tenant": 7},
    "known": {"identity": "vic", "assent_known_to": "ann"},
}
LEAD_PAYS = """
[people.ann]
aliases = ["sso|ann"]
roles = ["lead"]

[policies.agents.agent.tools.pay]
four_eyes = true
"""


async def by_header(x_user: str | None = Header(None)) -> Any:
    return SAID.get(x_user or "")


@asynccontextmanager
async def hosted(folder: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    def pay(amount: int) -> str:
        """Pay an amount."""
        return f"paid {amount}"

    script = [call("pay", amount=1), say("Paid.")]
    agent = build_hitl_agent(ScriptedModel(script=script), [pay], approve=["pay"])
    (folder / "assent.toml").write_text(LEAD_PAYS)
    settings = {"config": folder / "assent.toml", **settings}
    assent = Assent(
        {"agent": agent}, database=str(folder / "a.db"), auth=by_header, settings=settings
    )
    async with assent:
        transport = httpx.ASGITransport(assent.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://assent.test") as client:
            yield client


def said(name: str) -> dict[str, str]:
    return {"x-user": name}


async def test_roles_tenant_and_name_are_those_that_the_app_gives(tmp_path: Path) -> None:
    async with hosted(tmp_path) as client:
        for who in ("ann", "viewer", "object", "alias", "acme"):
            assert (await client.get("/threads", headers=said(who))).status_code == 200
        for who in ("viewer", "object"):
            assert (await client.post("/threads", headers=said(who), json={})).status_code == 403
        for who in ("none", "policies", "local"):
            assert (await client.get("/threads", headers=said(who))).status_code == 403
        for who in ("roles", "typo", "tenant", "tenants", "known"):
            assert (await client.get("/threads", headers=said(who))).status_code == 500
        made = (await client.post("/threads", headers=said("ann"), json={})).json()
        path = f"/threads/{made['thread_id']}"
        assert (await client.get(path, headers=said("alias"))).status_code == 200
        assert (await client.get(path, headers=said("acme"))).status_code == 404
        assert (await client.get("/threads", headers=said("nobody"))).status_code == 401


async def test_without_defaults_only_those_with_roles_are_let_in(tmp_path: Path) -> None:
    async with hosted(tmp_path, default_roles="none") as client:
        assert (await client.get("/threads", headers=said("ann"))).status_code == 403
        assert (await client.get("/threads", headers=said("viewer"))).status_code == 200


@pytest.mark.parametrize(("who", "status"), [("as_lead", 403), ("alias", 403), ("lead", 202)])
async def test_whoever_may_be_the_one_who_asked_is_no_second_pair_of_eyes(
    tmp_path: Path, who: str, status: int
) -> None:
    async with hosted(tmp_path) as client:
        asked = await client.post("/agent/invoke", headers=said("ann"), json={"message": "Pay."})
        assert asked.status_code == 200, asked.text
        [approval] = (await client.get("/approvals", headers=said("lead"))).json()["approvals"]
        path = f"/approvals/{approval['approval_id']}/decide"
        decided = await client.post(path, headers=said(who), json={"type": "approve"})
        assert decided.status_code == status, decided.text
