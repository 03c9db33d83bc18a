"""A browser signs in at a real identity provider, and out; and nobody else by what it was given."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from assent.api.access.oidc import Login, Providers, own_page
from assent.api.access.tokens import BadToken, Tokens
from assent.core.clock import Clock
from assent.core.errors import NotFound, Unavailable
from assent.notify.reaching import Reach
from tests.support.issuer import DISCOVERY, KnownIssuer, issuing
from tests.support.oidc_provider import CLIENT, MISDIRECTED, Browser, Provider, provider
from tests.support.server import Server, expect, problem, scripted_agents, serving

PUBLIC = "https://assent.test"


@pytest.fixture(scope="module")
def known() -> Iterator[Provider]:
    with provider(PUBLIC) as known:
        yield known


@pytest.fixture(scope="module")
def server(known: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows nobody but the people of the provider."""
    folder = tmp_path_factory.mktemp("server")
    file = folder / "assent.toml"
    file.write_text(known.configuration())
    settings = {
        "ASSENT_CONFIG": str(file),
        "ASSENT_PUBLIC_URL": PUBLIC,
        "ASSENT_FAILED_KEYS": "1000/minute",
    }
    with serving(folder, scripted_agents(folder, "agent"), **settings) as server:
        yield server


@asynccontextmanager
async def a_browser(server: Server) -> AsyncIterator[Browser]:
    browser = Browser(PUBLIC, server.url)
    async with browser.http:
        yield browser


@pytest.fixture
async def browser(server: Server) -> AsyncIterator[Browser]:
    async with a_browser(server) as browser:
        yield browser


async def test_a_browser_signs_in_decides_and_signs_out(browser: Browser, known: Provider) -> None:
    signed_in = await browser.sign_in("ann", next="/docs")

    me = (await expect(signed_in, 200)).json()
    assert me.pop("next") == "/docs"
    assert (me["name"], me["authentication"]) == ("corp:ann", "session")
    assert me["roles"] == ["approver", "operator"]
    assert (await browser.get("/me")).json() == me
    cookies = {cookie.name for cookie in browser.http.cookies.jar if cookie.domain == "assent.test"}
    assert cookies == {"__Host-assent"}

    asked = await browser.send("POST", "/agent/invoke", json={"message": "pay 3"})
    (approval,) = asked.json()["approvals"]
    path = f"/approvals/{approval['approval_id']}/decide"
    await expect(await browser.send("POST", path, json={"type": "approve"}), 202)
    shown = await browser.get(f"/approvals/{approval['approval_id']}")
    assert shown.json()["decided_by"] == "corp:ann"

    signed_out = await expect(await browser.send("DELETE", "/session"), 200)
    await problem(await browser.get("/me"), 401)
    there = httpx.URL(signed_out.json()["end_session"])
    assert str(there).startswith(f"{known.url}/oauth/end_session?")
    assert there.params["post_logout_redirect_uri"] == f"{PUBLIC}/"
    page = await browser.http.get(there)
    assert "Do you want to log out?" in page.text


async def test_a_page_learns_where_people_sign_in_before_they_have(browser: Browser) -> None:
    assert (await browser.get("/session/issuers")).json() == {"issuers": ["corp"]}


async def test_the_roles_are_those_of_the_providers_groups(browser: Browser) -> None:
    me = (await browser.sign_in("bob")).json()

    assert (me["name"], me["roles"]) == ("corp:bob", ["viewer"])
    await problem(await browser.send("POST", "/agent/runs", json={"message": "hi"}), 403)
    made = await browser.send("POST", "/keys", json={"roles": ["viewer"]})
    assert (await expect(made, 201)).json()["expires_at"] == me["expires_at"]


async def test_a_code_is_good_once_and_kept_nowhere(server: Server, browser: Browser) -> None:
    login = await browser.get("/session/login")
    back = await browser.at_provider(login, "ann")
    cookie = login.headers["set-cookie"].split(";")[0]
    await expect(await browser.send("POST", "/session", json=back), 200)

    browser.http.cookies.clear()
    again = await browser.http.post(
        f"{PUBLIC}/session", json=back, headers={"origin": PUBLIC, "cookie": cookie}
    )

    assert "it was used" in (await problem(again, 401))["detail"]
    assert "set-cookie" not in again.headers
    kept = b"".join(file.read_bytes() for file in server.folder.iterdir() if file.is_file())
    for secret in (back["code"], back["state"], cookie.partition("=")[2].partition(".")[0]):
        assert secret.encode() not in kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "another"},
        {"code": "another"},
        {"iss": "https://evil.test"},
        {"iss": None},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_what_did_not_come_from_the_provider_signs_nobody_in(
    browser: Browser, wrong: dict[str, Any]
) -> None:
    back = await browser.at_provider(await browser.get("/session/login"), "ann")
    body = {name: value for name, value in {**back, **wrong}.items() if value is not None}

    response = await browser.send("POST", "/session", json=body)

    await problem(response, 401)
    assert "set-cookie" not in response.headers
    await problem(await browser.get("/me"), 401)


async def test_no_browser_finishes_the_login_of_another(server: Server, browser: Browser) -> None:
    """Nobody makes somebody else act as them, and nobody uses a code that they have seen."""
    stolen = await browser.at_provider(await browser.get("/session/login"), "ann")
    async with a_browser(server) as other:
        await problem(await other.send("POST", "/session", json=stolen), 401)
        own = await other.at_provider(await other.get("/session/login"), "bob")
        # With a state of their own the code still is of another login, whose verifier they lack.
        mixed = {**own, "code": stolen["code"]}
        await problem(await other.send("POST", "/session", json=mixed), 401)
        await problem(await other.get("/me"), 401)


async def test_signing_in_ends_the_session_that_the_browser_had(
    server: Server, browser: Browser
) -> None:
    await browser.sign_in("bob")
    fixed = browser.http.cookies["__Host-assent"]

    await browser.sign_in("ann")

    assert browser.http.cookies["__Host-assent"] != fixed
    async with a_browser(server) as other:
        other.http.cookies.set("__Host-assent", fixed, domain="assent.test")
        await problem(await other.get("/me"), 401)


async def test_a_login_leads_to_no_other_site(browser: Browser) -> None:
    signed_in = await browser.sign_in("ann", next="//evil.test")

    assert signed_in.json()["next"] == "/"


async def test_the_page_keeps_the_code_to_itself(browser: Browser) -> None:
    back = {"code": "a-code", "state": "s", "session_state": "of the provider's own"}

    page = await expect(await browser.get("/session/callback", params=back), 200)
    script = await expect(await browser.get("/session/callback.js"), 200)

    for response in (page, script):
        assert "a-code" not in response.text
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert "set-cookie" not in response.headers
    assert not re.search(r"<script(?! src)|<style|\son\w+=", page.text)


async def test_who_is_asked_for_must_be_there(browser: Browser) -> None:
    refused = await problem(await browser.get("/session/login", params={"issuer": "else"}), 404)

    assert "corp" in refused["detail"]


async def test_a_token_for_another_client_signs_nobody_in(known: Provider, tmp_path: Path) -> None:
    file = tmp_path / "assent.toml"
    file.write_text(known.configuration(MISDIRECTED))
    with serving(tmp_path, ASSENT_CONFIG=str(file), ASSENT_PUBLIC_URL=PUBLIC) as server:
        async with a_browser(server) as browser:
            await problem(await browser.sign_in("ann"), 401)


async def test_sessions_end_with_the_trust_in_their_provider(
    known: Provider, tmp_path: Path
) -> None:
    file = tmp_path / "assent.toml"
    file.write_text(known.configuration())
    keys = {"ASSENT_API_KEYS": "cy:secret-of-cy", "ASSENT_PUBLIC_URL": PUBLIC}
    with serving(tmp_path, ASSENT_CONFIG=str(file), **keys) as server:
        async with a_browser(server) as browser:
            await expect(await browser.sign_in("ann"), 200)
            server.restart()
            await expect(await browser.get("/me"), 200)
            without = known.configuration().replace('"app-approvers" = "approver", ', "")
            for written in (without, ""):
                file.write_text(written)
                server.restart()
                await problem(await browser.get("/me"), 401)
                if written:
                    me = (await expect(await browser.sign_in("ann"), 200)).json()
                    assert me["roles"] == ["operator"]


# ── a provider that does what it likes ────────────────────────────────────────────────────────────


@pytest.fixture
async def odd() -> AsyncIterator[tuple[KnownIssuer, Providers]]:
    """A provider that answers as the test says, and what signs people in there."""
    async with issuing(KnownIssuer()) as issuer, Reach.open() as reach:
        document = {
            "issuer": issuer.url,
            "jwks_uri": f"{issuer.url}/keys",
            "authorization_endpoint": f"{issuer.url}/authorize",
            "token_endpoint": f"{issuer.url}/token",
        }
        issuer.bodies[DISCOVERY] = json.dumps(document).encode()
        configured = issuer.issuer(client_id=CLIENT)
        async with Tokens.open([configured], reach, Clock()) as tokens:
            yield issuer, Providers(tokens, reach, PUBLIC)


LOGIN = Login.begin("corp", "/", lambda count: b"r" * count)


def says(issuer: KnownIssuer, **claims: Any) -> None:
    """Have it answer the code with a token."""
    token = issuer.token(**{"aud": CLIENT, "nonce": LOGIN.nonce, **claims})
    issuer.bodies["/token"] = json.dumps({"id_token": token}).encode()


async def finished(providers: Providers, **options: Any) -> str:
    given = {"code": "code", "state": LOGIN.state, "issuer": None, **options}
    return (await providers.finish(LOGIN, **given)).name


async def test_the_token_of_this_very_login_is_believed(
    odd: tuple[KnownIssuer, Providers],
) -> None:
    issuer, providers = odd
    says(issuer)

    assert await finished(providers) == "corp:alice"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"aud": [CLIENT, "another"]},
        {"azp": "another"},
        {"iss": "https://evil.test"},
        {"exp": 1},
        {"exp": None},
    ],
    ids=str,
)
async def test_no_other_token_is(
    odd: tuple[KnownIssuer, Providers], claims: dict[str, Any]
) -> None:
    issuer, providers = odd
    says(issuer, **claims)

    with pytest.raises(BadToken):
        await finished(providers)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id_token": 1}', b"\xff", b"[" * 100_000])
async def test_a_provider_that_answers_nonsense_is_away(
    odd: tuple[KnownIssuer, Providers], body: bytes
) -> None:
    issuer, providers = odd
    issuer.bodies["/token"] = body

    with pytest.raises(Unavailable):
        await finished(providers)


async def test_nothing_is_sent_to_where_the_provider_may_not_be(
    odd: tuple[KnownIssuer, Providers],
) -> None:
    issuer, providers = odd
    document = json.loads(issuer.bodies[DISCOVERY])
    issuer.bodies[DISCOVERY] = json.dumps(
        {**document, "token_endpoint": "http://169.254.169.254/token"}
    ).encode()

    with pytest.raises(Unavailable):
        await finished(providers)
    with pytest.raises(NotFound):
        await providers.page(Login.begin("else", "/", lambda count: b"r" * count))


def test_a_cookie_that_is_none_of_ours_is_no_login() -> None:
    login = Login.begin("corp", "/docs?a=b#c", lambda count: b"r" * count)

    assert Login.of_cookie(login.cookie) == login
    assert login.secret not in repr(login)
    assert len({login.state, login.nonce, login.verifier, login.secret}) == 4
    for text in ("", "lgn_", login.cookie[1:], f"{login.secret}.corp.\u00e9", login.secret[:-1]):
        assert Login.of_cookie(text) is None, text
    forged = Login.of_cookie(f"{login.secret}.corp.Ly9ldmlsLnRlc3Q")
    assert forged is not None and forged.next == "/"


@pytest.mark.parametrize("page", ["/", "/docs", "/threads/1?x=//y", "/a/b#c"])
def test_a_page_of_our_own_is_gone_on_to(page: str) -> None:
    assert own_page(page) == page


@pytest.mark.parametrize(
    "page",
    ["", "docs", "//evil.test", "https://evil.test", "/\\evil.test", "/\t/evil.test", "/" * 2_000],
)
def test_no_other_page_is(page: str) -> None:
    assert own_page(page) == "/"
