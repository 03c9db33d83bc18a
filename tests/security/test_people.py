"""A person behind several credentials is one person; of two credentials in one request one counts,
and always the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import httpx
from langchain_core.tools import tool

from assent import ApprovalPolicy, Assent, build_hitl_agent
from assent.core.access import Owner
from assent.core.audit import LOCAL, Actor
from tests.support.handshakes import handshake, protocol
from tests.support.issuer import KnownIssuer, issuing
from tests.support.models import ScriptedModel, call
from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.server import expect, problem

ORIGIN = "http://localhost"
PEOPLE = ("ann", "bob", "ticket", "protocol", "setting", "other", "cookie")
SETTINGS = """
[people.ann]
aliases = ["corp:ann"]
roles = ["operator", "approver"]

[people.token]
aliases = ["corp:token"]
roles = ["operator"]

[issuers.corp]
issuer = "{url}"
audience = "assent"
algorithm = "ES256"
allow_http = true
"""

Headers = dict[str, str]


@tool
def pay(amount: int) -> str:
    """Pay an amount."""
    raise AssertionError(f"{amount} was paid, which two people should have approved")


@dataclass
class Site:
    assent: Assent
    corp: KnownIssuer
    client: httpx.AsyncClient

    async def stored_key(self, name: str) -> Headers:
        """A key that was made on the server's machine."""
        assert self.assent._served is not None and self.assent._served.sign_ins is not None
        keys = self.assent._served.sign_ins.stored.keys
        made = await keys.make(Owner(name), ["operator", "approver"], Actor(LOCAL))
        return {"authorization": f"Bearer {made.text}"}

    async def cookie(self, name: str) -> Headers:
        """The cookie of a browser in which they have signed in."""
        self.client.cookies.clear()
        body = {"key": secret_of(name)}
        answer = await self.client.post("/session", json=body, headers={"origin": ORIGIN})
        await expect(answer, 200)
        self.client.cookies.clear()
        return {"cookie": answer.headers["set-cookie"].split(";")[0]}

    def token(self, name: str) -> Headers:
        """A token of the issuer."""
        return {"authorization": f"Bearer {self.corp.token(sub=name)}"}

    async def ticket(self, name: str, thread: str) -> str:
        """A ticket for the WebSocket of the thread."""
        body = {"path": f"/threads/{thread}/ws", "transport": "websocket"}
        made = await self.client.post("/stream-tickets", json=body, headers=bearer(name))
        return str((await expect(made, 201)).json()["ticket"])

    async def post(self, path: str, who: Headers, **body: Any) -> httpx.Response:
        return await self.client.post(path, json=body, headers={"origin": ORIGIN, **who})


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    async with issuing(KnownIssuer()) as corp:
        (folder / "assent.toml").write_text(SETTINGS.format(url=corp.url))
        agent = build_hitl_agent(
            ScriptedModel(script=lambda history: call("pay", amount=3)),
            [pay],
            approve={"pay": ApprovalPolicy(quorum=2, risk="high")},
        )
        settings = {
            "api_keys": keys_of(*PEOPLE),
            "config": folder / "assent.toml",
            "failed_keys": "none",
            "allow_query_token": True,
        }
        async with Assent(agent, database=str(folder / "a.db"), settings=settings) as assent:
            transport = httpx.ASGITransport(assent.app, client=("127.0.0.1", 50_000))
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
                yield Site(assent, corp, client)


# ── of two credentials one counts ──

PLACES = ("ticket", "protocol", "setting", "stored", "token", "other", "cookie")
"""Where a credential may be in a handshake, the one that counts before the others first, and the
name of the person who has it here: a ticket, a subprotocol, `Authorization` with a key of the
settings, a stored key or a token, `X-Api-Key`, a cookie."""

OF_ONE_HEADER = {"setting", "stored", "token"}
WRONG = {
    "ticket": "tkt_" + "0" * 43,
    "protocol": protocol("secret-of-nobody"),
    **dict.fromkeys(OF_ONE_HEADER, "Bearer secret-of-nobody"),
    "other": "secret-of-nobody",
}
HEADERS = {
    "protocol": "sec-websocket-protocol",
    **dict.fromkeys(OF_ONE_HEADER, "authorization"),
    "other": "x-api-key",
    "cookie": "cookie",
}


async def test_of_two_credentials_in_a_request_the_first_place_counts_and_never_both(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as there:
        good = {
            "protocol": protocol(secret_of("protocol")),
            "setting": bearer("setting")["authorization"],
            "stored": (await there.stored_key("stored"))["authorization"],
            "token": there.token("token")["authorization"],
            "other": secret_of("other"),
            "cookie": (await there.cookie("cookie"))["cookie"],
        }
        for name in PLACES:
            who = (
                {HEADERS[name]: good[name]} if name in OF_ONE_HEADER | {"cookie"} else bearer(name)
            )
            await expect(await there.post("/threads", who, thread_id=f"of-{name}"), 200)

        async def opens(thread: str, given: dict[str, str]) -> int:
            """The status for whoever asks for the thread with what is given, each in its place."""
            query = f"ticket={given['ticket']}" if "ticket" in given else ""
            headers = {HEADERS[name]: text for name, text in given.items() if name != "ticket"}
            path = f"/threads/{thread}/ws"
            found, _, _ = await handshake(
                there.assent.app, path, {"origin": ORIGIN, **headers}, query
            )
            return found

        for first, second in combinations(PLACES, 2):
            if {first, second} <= OF_ONE_HEADER:
                continue
            if first in OF_ONE_HEADER and second == "other":
                # Of two headers that say who asks, a proxy may have read the other one.
                both = {name: good[name] for name in (first, second)}
                assert await opens(f"of-{first}", both) == 400
                continue
            for thread, status in ((f"of-{first}", 101), (f"of-{second}", 404)):
                both = {name: good[name] for name in (first, second) if name != "ticket"}
                if first == "ticket":
                    both["ticket"] = await there.ticket("ticket", thread)
                assert await opens(thread, both) == status, (first, second, thread)
            # What is wrong is not passed over for what is right.
            wrong = {first: WRONG[first], second: good[second]}
            assert await opens(f"of-{second}", wrong) == 401, (first, second)


async def test_a_key_in_a_url_counts_behind_the_headers_and_none_is_there_twice(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as there:
        nobody, path = bearer("nobody"), "/poll/human-input/none"
        for token, headers, status in (
            ("ann", {}, 404),
            ("nobody", {}, 401),
            ("ann", nobody, 401),
            ("nobody", bearer("ann"), 404),
            ("nobody", {"x-api-key": secret_of("ann")}, 404),
        ):
            answer = await there.client.get(
                path, params={"token": secret_of(token)}, headers=headers
            )
            assert answer.status_code == status, (token, headers)
        cookie = (await there.cookie("ann"))["cookie"]
        for name, value in (
            ("authorization", bearer("ann")["authorization"]),
            ("x-api-key", secret_of("ann")),
            ("cookie", cookie),
        ):
            twice = [(name, value), (name, value)]
            await problem(await there.client.get("/me", headers=twice), 400)
        both = f"{cookie}; {cookie}"
        await problem(await there.client.get("/me", headers={"cookie": both}), 400)


# ── one person ──


async def test_whoever_has_several_credentials_is_one_pair_of_eyes_and_one_vote(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as there:
        anns = {
            "key": bearer("ann"),
            "same key": {"x-api-key": secret_of("ann")},
            "stored key": await there.stored_key("ann"),
            "session": await there.cookie("ann"),
            "token": there.token("ann"),
        }

        async def asked(who: Headers) -> str:
            """The path of what an agent asks on behalf of this person."""
            answer = await expect(await there.post("/agent/invoke", who, message="Pay."), 200)
            return f"/approvals/{answer.json()['approvals'][0]['approval_id']}"

        own = {name: await asked(who) for name, who in anns.items()}
        bobs = await asked(bearer("bob"))
        for first, second in product(anns, repeat=2):
            decided = await there.post(f"{own[first]}/decide", anns[second], type="approve")
            assert decided.status_code == 403, (first, second)
        for name in (*anns, *reversed(anns)):
            await expect(await there.post(f"{bobs}/decide", anns[name], type="approve"), 202)
            approval = (await there.client.get(bobs, headers=anns[name])).json()
            assert approval["status"] == "pending", name
            assert [vote["by"] for vote in approval["votes"]] == ["ann"], name
