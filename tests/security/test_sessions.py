"""Sessions over HTTP: a cookie that no other page can use, nobody can fix, and that is dead once it
was signed out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.server import Api, Server, asking, expect, problem, scripted_agents, serving
from tests.support.waiting import PATIENCE

PUBLIC = "https://assent.test"
OWN = {"origin": PUBLIC, "host": "assent.test"}
"""The headers of a page of the server's own, behind its proxy."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server behind TLS."""
    folder = tmp_path_factory.mktemp("server")
    settings = {
        "ASSENT_API_KEYS": keys_of("ann", "adm"),
        "ASSENT_ROLES": "adm:admin",
        "ASSENT_PUBLIC_URL": PUBLIC,
        "ASSENT_FAILED_KEYS": "1000/minute",
    }
    with serving(folder, scripted_agents(folder, "agent"), **settings) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    """A client that says nothing of who it is."""
    async with asking(server) as api:
        yield api


@pytest.fixture
async def ann(server: Server) -> AsyncIterator[Api]:
    async with asking(server, **bearer("ann")) as api:
        yield api


async def signed_in(api: Api, key: str, **headers: str) -> str:
    """The value of the cookie."""
    response = await api.http.post("/session", json={"key": key}, headers={**OWN, **headers})
    await expect(response, 200)
    (morsel,) = SimpleCookie(response.headers["set-cookie"]).values()
    return morsel.value


@asynccontextmanager
async def browser(server: Server, cookie: str) -> AsyncIterator[httpx.AsyncClient]:
    """A page of the server's own, in a browser with this cookie."""
    async with asking(server, **OWN, cookie=f"__Host-assent={cookie}") as api:
        yield api.http


async def test_a_key_signs_in_and_the_cookie_is_out_of_reach(server: Server, api: Api) -> None:
    response = await api.http.post("/session", json={"key": secret_of("ann")}, headers=OWN)

    me = (await expect(response, 200)).json()
    assert (me["name"], me["authentication"]) == ("ann", "session")
    assert me["expires_at"] is not None
    assert response.headers["cache-control"] == "no-store"
    name, rest = response.headers["set-cookie"].split("=", 1)
    assert name == "__Host-assent"
    marks = {part.strip().lower() for part in rest.split(";")[1:]}
    assert {"httponly", "secure", "samesite=strict", "path=/", "max-age=43200"} <= marks
    assert not any(mark.startswith("domain") for mark in marks)
    async with browser(server, rest.split(";")[0]) as http:
        assert (await expect(await http.get("/me"), 200)).json() == me


async def test_whoever_has_signed_out_is_out(server: Server, api: Api) -> None:
    cookie, other = [await signed_in(api, secret_of("ann")) for _ in range(2)]
    async with browser(server, cookie) as http:
        response = await expect(await http.delete("/session"), 204)
        assert "max-age=0" in response.headers["set-cookie"].lower()

        await problem(await http.get("/me"), 401)
        await problem(await http.delete("/session"), 401)
    async with browser(server, other) as http:
        await expect(await http.get("/me"), 200)
    server.restart()
    async with browser(server, cookie) as http:
        await problem(await http.get("/me"), 401)
    async with browser(server, other) as http:
        await expect(await http.get("/me"), 200)


async def test_nobody_is_signed_in_to_a_session_that_another_has_begun(
    server: Server, api: Api
) -> None:
    fixed = await signed_in(api, secret_of("ann"))

    own = await signed_in(api, secret_of("adm"), cookie=f"__Host-assent={fixed}")

    assert own != fixed
    async with browser(server, fixed) as http:
        await problem(await http.get("/me"), 401)
    async with browser(server, own) as http:
        assert (await http.get("/me")).json()["name"] == "adm"


async def test_a_session_is_good_only_as_long_as_its_key(
    server: Server, api: Api, ann: Api
) -> None:
    key = (await ann.http.post("/keys", json={"roles": ["viewer"]})).json()
    cookie = await signed_in(api, key["key"])
    async with browser(server, cookie) as http:
        assert (await http.get("/me")).json()["roles"] == ["viewer"]
        await problem(await http.post("/agent/runs", json={"message": "hi"}), 403)

        await expect(await ann.http.delete(f"/keys/{key['key_id']}"), 200)

        await problem(await http.get("/me"), 401)


async def test_another_secret_of_the_same_name_ends_what_began_with_the_old_one(
    tmp_path: Any,
) -> None:
    with serving(tmp_path, ASSENT_API_KEYS="ann:secret-of-ann", ASSENT_PUBLIC_URL=PUBLIC) as server:
        async with asking(server) as api:
            cookie = await signed_in(api, "secret-of-ann")
        server.environment["ASSENT_API_KEYS"] = "ann:secret-of-ann-2"
        server.restart()
        async with browser(server, cookie) as http:
            await problem(await http.get("/me"), 401)


async def test_signing_out_ends_the_streams_of_that_browser_and_no_others(
    server: Server, api: Api
) -> None:
    gone, left = [await signed_in(api, secret_of("ann")) for _ in range(2)]
    async with browser(server, gone) as one, browser(server, left) as other:
        run = (await one.post("/agent/invoke", json={"message": "hi"})).json()
        path = f"/threads/{run['thread_id']}/events"
        async with one.stream("GET", path) as ended, other.stream("GET", path) as open_still:
            await expect(await one.delete("/session"), 204)
            async with asyncio.timeout(PATIENCE):
                seen = (await ended.aread()).decode()
            assert seen.endswith('{"reason": "signed-out"}\n\n')
            streams = (await other.get("/connections")).json()["connections"]
            assert len(streams) == 1
            await open_still.aclose()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": PUBLIC}, 202),
        ({"sec-fetch-site": "same-origin"}, 202),
        ({"origin": "https://evil.test"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://evil.test", "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        # Whatever made it, it says nothing of a page.
        ({}, 403),
    ],
)
async def test_no_page_of_another_site_changes_anything_by_the_cookie(
    server: Server, api: Api, headers: dict[str, str], status: int
) -> None:
    cookie = await signed_in(api, secret_of("ann"))
    given = {"host": "assent.test", "cookie": f"__Host-assent={cookie}", **headers}

    async with asking(server, **given) as page:
        await expect(await page.http.post("/agent/runs", json={"message": "hi"}), status)
        await expect(await page.http.get("/me"), 200)


@pytest.mark.parametrize("origin", ["https://evil.test", "null"])
async def test_no_page_of_another_site_signs_anybody_in(api: Api, origin: str) -> None:
    response = await api.http.post(
        "/session", json={"key": secret_of("ann")}, headers={**OWN, "origin": origin}
    )

    await problem(response, 403)
    assert "set-cookie" not in response.headers


async def test_the_header_decides_also_where_there_is_a_cookie(server: Server, api: Api) -> None:
    cookie = await signed_in(api, secret_of("ann"))
    async with browser(server, cookie) as http:
        me = await http.get("/me", headers=bearer("adm"))
        assert me.json()["name"] == "adm"
        await problem(await http.get("/me", headers={"authorization": "Bearer nobody's"}), 401)
        await problem(await http.delete("/session", headers=bearer("ann")), 409)


@pytest.mark.parametrize(
    "cookie",
    [
        "__Host-assent=",
        "__Host-assent=ses_short",
        f"__Host-assent=ses_{'0' * 43}",
        f"__Host-assent={'x' * 5_000}",
        # Behind TLS only the one that no other host can set is a session.
        f"assent=ses_{'0' * 43}",
    ],
)
async def test_what_is_no_session_is_nobody(server: Server, cookie: str) -> None:
    async with asking(server, **OWN, cookie=cookie) as api:
        await problem(await api.http.get("/me"), 401)


async def test_two_sessions_in_one_request_are_none(server: Server, api: Api) -> None:
    cookie = await signed_in(api, secret_of("ann"))
    twice = f"__Host-assent={cookie}; __Host-assent={cookie}"
    async with asking(server, **OWN, cookie=twice) as both:
        await problem(await both.http.get("/me"), 400)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"key": "no key"}, 401),
        ({"key": f"ask_{'0' * 10}_{'0' * 49}"}, 401),
        ({}, 422),
        ({"key": "k", "code": "c", "state": "s"}, 422),
        ({"code": "c"}, 422),
        ({"code": "c", "state": "s"}, 401),
        ({"key": secret_of("ann"), "roles": ["admin"]}, 422),
    ],
)
async def test_nobody_signs_in_with_anything_else(
    api: Api, body: dict[str, Any], status: int
) -> None:
    response = await api.http.post("/session", json=body, headers=OWN)

    await problem(response, status)
    assert "set-cookie" not in response.headers


async def test_keys_are_guessed_slowly_and_nobody_is_kept_out_by_it(tmp_path: Any) -> None:
    settings = {"ASSENT_API_KEYS": keys_of("ann"), "ASSENT_FAILED_KEYS": "3/minute"}
    with serving(tmp_path, ASSENT_PUBLIC_URL=PUBLIC, **settings) as server:
        async with asking(server, **OWN) as api:
            await signed_in(api, secret_of("ann"))
            for status in (401, 401, 401, 429):
                response = await api.http.post("/session", json={"key": "no key"})
                await problem(response, status)
            assert int(response.headers["retry-after"]) > 0
            await signed_in(api, secret_of("ann"))


async def test_without_tls_a_browser_on_this_machine_alone_signs_in(tmp_path: Any) -> None:
    with serving(tmp_path, ASSENT_API_KEYS=keys_of("ann")) as server:
        async with asking(server) as api:
            key = {"key": secret_of("ann")}
            response = await expect(await api.http.post("/session", json=key), 200)
            name, _, value = response.headers["set-cookie"].split(";")[0].partition("=")
            assert name == "assent" and "secure" not in response.headers["set-cookie"].lower()
            me = await api.http.get("/me", headers={"cookie": f"assent={value}"})
            assert me.json()["name"] == "ann"
            elsewhere = await api.http.post("/session", json=key, headers={"host": "10.0.0.7"})
            await problem(elsewhere, 403)


async def test_the_chain_says_who_signed_in_and_out(
    server: Server, api: Api, tmp_path: Any
) -> None:
    cookie = await signed_in(api, secret_of("adm"))
    async with browser(server, cookie) as http:
        await http.delete("/session")
    settings = {"ASSENT_API_KEYS": keys_of("ann"), "ASSENT_ROLES": "ann:auditor"}
    server.terminate()
    with serving(server.folder, **settings) as other:
        async with asking(other, **bearer("ann")) as auditor:
            rows = [row async for row in auditor.client.audit.list(actor="adm")]
    server.start()
    told = [(row.action, row.authentication, row.detail["credential"]) for row in rows[-2:]]
    assert told == [
        ("signed_in", "api_key", "setting:adm"),
        ("signed_out", "session", "setting:adm"),
    ]
