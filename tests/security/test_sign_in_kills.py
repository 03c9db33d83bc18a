"""A server that is killed while people make keys, sign in and out: what it has answered holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.server import Api, Server, asking, expect, serving
from tests.support.waiting import until

ROUNDS = 3
EACH = 4
"""Keys that are shown before a kill."""


@dataclass
class Told:
    """What the server has acknowledged. What it was asked when it died is among none of these."""

    good: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    signed_in: set[str] = field(default_factory=set)
    signed_out: set[str] = field(default_factory=set)

    async def until_taken_back(self, count: int) -> None:
        """Wait until so many keys were revoked."""
        await until(lambda: len(self.revoked) >= count)


async def live(api: Api, told: Told) -> None:
    """Make keys and sign in, and take back every other one, until the server is gone."""
    is_odd = False
    try:
        while True:
            is_odd = not is_odd
            key = await expect(await api.http.post("/keys", json={"roles": ["viewer"]}), 201)
            text = key.json()["key"]
            told.good.add(text)
            session = await expect(
                await api.http.post("/session", json={"key": secret_of("ann")}), 200
            )
            cookie = session.headers["set-cookie"].split(";")[0]
            # To sign in again would end the session that the browser had.
            api.http.cookies.clear()
            told.signed_in.add(cookie)
            if is_odd:
                told.good.remove(text)
                await expect(await api.http.delete(f"/keys/{key.json()['key_id']}"), 200)
                told.revoked.add(text)
                told.signed_in.remove(cookie)
                headers = {"cookie": cookie, "sec-fetch-site": "same-origin"}
                request = api.http.build_request("DELETE", "/session", headers=headers)
                # The header would decide, and not the cookie.
                del request.headers["authorization"]
                await expect(await api.http.send(request), 204)
                told.signed_out.add(cookie)
    except httpx.TransportError:
        return


async def status(server: Server, **headers: str) -> int:
    async with asking(server, **headers) as api:
        return (await api.http.get("/me")).status_code


async def test_what_was_answered_holds(tmp_path: Path) -> None:
    told = Told()
    settings = {"ASSENT_API_KEYS": keys_of("ann"), "ASSENT_FAILED_KEYS": "1000/minute"}
    with serving(tmp_path, **settings) as server:
        for turn in range(1, ROUNDS + 1):
            async with asking(server, **bearer("ann")) as api:
                living = asyncio.create_task(live(api, told))
                await told.until_taken_back(EACH * turn)
                server.kill()
                await living
            server.start()

        for good, gone, header in (
            (told.good, told.revoked, "x-api-key"),
            (told.signed_in, told.signed_out, "cookie"),
        ):
            assert len(good) >= ROUNDS and len(gone) >= ROUNDS
            assert {await status(server, **{header: each}) for each in good} == {200}
            assert {await status(server, **{header: each}) for each in gone} == {401}
        async with asking(server, **bearer("ann")) as api:
            listed = (await api.get("/keys", limit=1000))["keys"]
            # A key that was stored and never shown can be seen, and revoked.
            ids = {text.split("_")[1] for text in told.good | told.revoked}
            assert ids <= {each["key_id"] for each in listed}
            for each in listed:
                await expect(await api.http.delete(f"/keys/{each['key_id']}"), 200)
