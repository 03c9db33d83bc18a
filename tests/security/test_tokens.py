"""Tokens of others, rule by rule: which of them are believed, and as whom."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import Request
from jwt.algorithms import RSAAlgorithm

from assent import Assent, build_hitl_agent
from assent.api.access.identity import Access, Roles
from assent.api.access.rules import Rule, Thing
from assent.api.access.tokens import BadToken, ByToken, Claimed, Tokens
from assent.approvals.people import People
from assent.config.issuers import Issuer, issuers_from_json
from assent.core.access import Right
from assent.core.clock import Clock
from assent.core.errors import ConfigurationError, Forbidden
from tests.support.issuer import KEYS, KnownIssuer, a_key, issuing, reaching
from tests.support.manual_clock import ManualClock
from tests.support.models import ScriptedModel, say
from tests.support.secrets import bearer, keys_of

SECRET = "s" * 64


@pytest.fixture
async def corp() -> AsyncIterator[KnownIssuer]:
    async with issuing(KnownIssuer()) as corp:
        yield corp


async def verified(text: str, issuer: Issuer) -> Claimed:
    async with reaching() as reach, Tokens.open([issuer], reach, Clock()) as tokens:
        found = tokens.issuer_of(text)
        assert found in (issuer, None)
        return await tokens.verify(issuer, text)


class After(int):
    """A time, in seconds from when the test runs. Parameters are made long before."""


def as_of_now(claims: dict[str, Any]) -> dict[str, Any]:
    return {
        name: time.time() + value if isinstance(value, After) else value
        for name, value in claims.items()
    }


async def is_refused(text: str, issuer: Issuer) -> bool:
    try:
        await verified(text, issuer)
    except BadToken as error:
        assert text not in str(error)
        return True
    return False


# ── who ──


async def test_a_token_is_the_person_whom_it_names(corp: KnownIssuer) -> None:
    claimed = await verified(corp.token(exp=4_000_000_000), corp.issuer())
    assert (claimed.name, claimed.roles, claimed.tenant) == ("corp:alice", (), None)
    assert claimed.expires_at == datetime.fromtimestamp(4_000_000_030, UTC)


@pytest.mark.parametrize(
    ("options", "claims", "name"),
    [
        ({"prefix": ""}, {}, "alice"),
        ({"prefix": "x/"}, {}, "x/alice"),
        ({"name": "preferred_username"}, {"preferred_username": "al"}, "corp:al"),
        ({"name": "who.name"}, {"who": {"name": "al"}}, "corp:al"),
        ({"name": "https://a.example/n"}, {"https://a.example/n": "al"}, "corp:al"),
        ({"name": "email"}, {"email": "a@b.example", "email_verified": True}, "corp:a@b.example"),
    ],
)
async def test_the_claim_and_the_prefix_are_those_of_the_settings(
    corp: KnownIssuer, options: dict[str, Any], claims: dict[str, Any], name: str
) -> None:
    assert (await verified(corp.token(**claims), corp.issuer(**options))).name == name


@pytest.mark.parametrize(
    ("options", "claims"),
    [
        ({"name": "preferred_username"}, {}),
        ({"name": "who.name"}, {"who": "alice"}),
        ({"name": "number"}, {"number": 7}),
        ({"name": "n"}, {"n": ""}),
        ({"name": "email"}, {"email": "a@b.example"}),
        ({"name": "email"}, {"email": "a@b.example", "email_verified": "true"}),
        ({"prefix": ""}, {"sub": "local"}),
        ({"prefix": ""}, {"sub": "LOCAL"}),
        ({"prefix": ""}, {"sub": "~approvals"}),
        ({"prefix": ""}, {"sub": " alice"}),
        ({}, {"sub": "al\u200bice"}),
        ({}, {"sub": "al\nice"}),
        ({}, {"sub": "a" * 200}),
    ],
)
async def test_who_has_no_name_that_one_may_have_is_nobody_here(
    corp: KnownIssuer, options: dict[str, Any], claims: dict[str, Any]
) -> None:
    with pytest.raises(Forbidden):
        await verified(corp.token(**claims), corp.issuer(**options))


async def test_only_the_roles_that_the_operator_has_mapped_count(corp: KnownIssuer) -> None:
    role_map = {"app-admin": "admin", "app-lead": ["approver:tool:pay", "lead"]}
    mapped = corp.issuer(role_map=role_map)
    for theirs, ours in (
        (["app-admin", "auditor", "admin", 7], ("admin",)),
        ("app-lead openid", ("approver:tool:pay", "lead")),
        (["admin"], ()),
        ({"app-admin": True}, ()),
        (None, ()),
    ):
        assert (await verified(corp.token(roles=theirs), mapped)).roles == ours
    assert (await verified(corp.token(roles=["admin"]), corp.issuer())).roles == ()
    nested = corp.issuer(roles="realm_access.roles", role_map=role_map)
    token = corp.token(realm_access={"roles": ["app-admin"]})
    assert (await verified(token, nested)).roles == ("admin",)


async def test_a_tenant_that_is_expected_is_never_none(corp: KnownIssuer) -> None:
    issuer = corp.issuer(tenant="org")
    assert (await verified(corp.token(org="acme"), issuer)).tenant == "acme"
    assert (await verified(corp.token(org="acme"), corp.issuer())).tenant is None
    for org in (None, "", "a b", "a" * 65, 7, ["acme"]):
        with pytest.raises(Forbidden, match="names no tenant"):
            await verified(corp.token(org=org), issuer)


# ── whose ──


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"aud": ["other", "another"]},
        {"aud": None},
        {"aud": ""},
        {"iss": None},
        {"iss": "https://other.example"},
        {"exp": None},
        {"exp": 1},
        {"exp": After(-31)},
        {"exp": "never"},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"nbf": After(90)},
        {"iat": After(90)},
        {"nbf": "soon"},
        {"sub": 7},
    ],
)
async def test_what_is_not_for_this_server_now_is_refused(
    corp: KnownIssuer, claims: dict[str, Any]
) -> None:
    assert await is_refused(corp.token(**as_of_now(claims)), corp.issuer())


@pytest.mark.parametrize(
    "claims",
    [{"exp": After(-10)}, {"nbf": After(10)}, {"aud": ["other", "assent"]}],
)
async def test_clocks_may_differ_a_little(corp: KnownIssuer, claims: dict[str, Any]) -> None:
    assert not await is_refused(corp.token(**as_of_now(claims)), corp.issuer(leeway=60))


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_a_token_that_nobody_signed_is_refused(corp: KnownIssuer) -> None:
    issuer = corp.issuer()
    _, claims, signature = corp.token().split(".")
    for algorithm in ("none", "None", "NONE", "", None, 7):
        head = part({"alg": algorithm, "kid": "k1"})
        assert await is_refused(f"{head}.{claims}.", issuer)
        assert await is_refused(f"{head}.{claims}.{signature}", issuer)
    assert await is_refused(jwt.encode(corp.claims(), "", algorithm="none"), issuer)


async def test_a_token_signed_with_the_public_key_is_refused() -> None:
    """The key that everybody may know, taken as the secret of HMAC."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key()
    written = {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": "k1"}
    async with issuing(KnownIssuer()) as corp:
        corp.bodies[KEYS] = json.dumps({"keys": [written]}).encode()
        issuer = corp.issuer(algorithm="RS256")
        good = jwt.encode(corp.claims(), private, algorithm="RS256", headers={"kid": "k1"})
        assert not await is_refused(good, issuer)
        pem = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for secret in (pem, json.dumps(written).encode()):
            # PyJWT will not sign so, and an attacker will.
            head = part({"alg": "HS256", "typ": "JWT", "kid": "k1"})
            signed = f"{head}.{part(corp.claims())}"

            digest = hmac.digest(secret, signed.encode(), "sha256")
            forged = f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
            assert await is_refused(forged, issuer)


async def test_the_one_algorithm_is_that_of_the_settings(corp: KnownIssuer) -> None:
    assert await is_refused(corp.token(), corp.issuer(algorithm="RS256"))
    assert await is_refused(corp.token(), corp.issuer(algorithm="ES384"))
    _, claims, signature = corp.token().split(".")
    head = part({"alg": "ES384", "kid": "k1"})
    assert await is_refused(f"{head}.{claims}.{signature}", corp.issuer())


async def test_a_key_that_the_issuer_does_not_publish_signs_nothing(corp: KnownIssuer) -> None:
    thief = KnownIssuer(keys={"k1": a_key()}, port=corp.port)
    assert await is_refused(thief.token(), corp.issuer())
    own = thief.jwk("k1")
    for header in ({"jwk": own}, {"jku": "http://127.0.0.1:1/"}, {"x5u": "http://127.0.0.1:1/"}):
        assert await is_refused(thief.token(header=header), corp.issuer())
    assert await is_refused(corp.token(header={"crit": ["x"], "x": 1}), corp.issuer())


@pytest.mark.parametrize("kid", ["k2", "", "k" * 201, "../k1", "K1"])
async def test_a_key_is_found_by_its_exact_name(corp: KnownIssuer, kid: str) -> None:
    corp.keys["other"] = a_key()
    assert await is_refused(corp.token(header={"kid": kid}), corp.issuer())


async def test_a_token_without_the_name_of_a_key_is_signed_by_the_only_one() -> None:
    async with issuing(KnownIssuer()) as corp:
        token = jwt.encode(corp.claims(), corp.keys["k1"], algorithm="ES256")
        assert not await is_refused(token, corp.issuer())
        corp.keys["k2"] = a_key()
        assert await is_refused(token, corp.issuer())


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "a.b.c", "a.b.c.d", "é.é.é", "=.=.=", f"{part(7)}.{part(7)}.a"),
        f"{part({'alg': 'ES256', 'kid': 7})}.{part({})}.a",
        f"{part({'alg': 'ES256', 'kid': 'k1'})}.{part([])}.a",
        base64.urlsafe_b64encode(b'{"a":' * 1500).decode() + ".e30.a",
        f"{part({'alg': 'ES256', 'kid': 'k1'})}.e30.{'a' * 8192}",
    ],
)
async def test_what_is_no_token_is_refused_without_a_word_of_it(
    corp: KnownIssuer, text: str
) -> None:
    with pytest.raises(BadToken, match="no valid token of the issuer 'corp'"):
        await verified(text, corp.issuer())


async def test_a_token_is_asked_of_the_issuer_that_it_names_alone() -> None:
    async with issuing(KnownIssuer()) as corp, issuing(KnownIssuer()) as lab:
        issuers = [corp.issuer("corp"), lab.issuer("lab")]
        async with reaching() as reach, Tokens.open(issuers, reach, Clock()) as tokens:
            mine, other = tokens.issuers["corp"], tokens.issuers["lab"]
            assert tokens.issuer_of(corp.token()) is mine
            assert tokens.issuer_of(lab.token()) is other
            assert tokens.issuer_of(corp.token(iss="https://third.example")) is None
            assert tokens.issuer_of(f"e30.{part({'iss': [corp.url]})}.a") is None
            assert tokens.issuer_of("ask_nothing.of.that") is None
            assert (await tokens.verify(other, lab.token())).name == "lab:alice"
            # What one of them has signed is worth nothing in the name of the other.
            with pytest.raises(BadToken):
                await tokens.verify(other, corp.token(iss=lab.url))
            with pytest.raises(BadToken):
                await tokens.verify(other, corp.token())


async def test_a_verified_token_is_remembered_and_never_beyond_its_end(corp: KnownIssuer) -> None:
    clock = ManualClock()
    clock.time = datetime.now(UTC)
    issuer = corp.issuer(leeway=0)
    token = corp.token(exp=time.time() + 50)
    async with (
        reaching() as reach,
        Tokens.open([issuer], reach, clock.clock, now=lambda: clock.passed) as tokens,
    ):
        first = await tokens.verify(issuer, token)
        clock.passed = 30
        assert await tokens.verify(issuer, token) is first
        clock.passed = 51
        assert await tokens.verify(issuer, token) is not first
        long = corp.token()
        first = await tokens.verify(issuer, long)
        clock.passed += 59
        assert await tokens.verify(issuer, long) is first
        clock.passed += 2
        assert await tokens.verify(issuer, long) is not first


# ── signing in ──


async def test_the_token_of_a_sign_in_is_for_our_client_and_that_sign_in(
    corp: KnownIssuer,
) -> None:
    issuer = corp.issuer(client_id="web", client_secret=SECRET)
    async with reaching() as reach, Tokens.open([issuer], reach, Clock()) as tokens:

        async def signs_in(**claims: Any) -> bool:
            try:
                text = corp.token(**{"aud": "web", "nonce": "n", **claims})
                await tokens.verify_sign_in(issuer, text, "n")
            except BadToken:
                return False
            return True

        assert await signs_in()
        assert await signs_in(azp="web")
        assert await signs_in(aud=["web", "other"], azp="web")
        assert not await signs_in(nonce=None)
        assert not await signs_in(nonce="m")
        assert not await signs_in(nonce=7)
        assert not await signs_in(nonce="ñ")
        assert not await signs_in(nonce="\ud800")
        assert not await signs_in(aud="assent")
        assert not await signs_in(azp="other")
        assert not await signs_in(aud=["web", "other"])
    assert SECRET not in repr(issuer)


# ── over HTTP ──


@asynccontextmanager
async def serving_for(
    corp: KnownIssuer, folder: Path, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that knows the people of `corp`."""
    (folder / "assent.toml").write_text(
        f"""
        [people."corp:zoe"]
        roles = ["viewer"]
        [issuers.corp]
        issuer = "{corp.url}"
        audience = "assent"
        algorithm = "ES256"
        allow_http = true
        roles = "groups"
        role_map = {{"app-users" = "operator"}}
        """
    )
    settings = {"config": folder / "assent.toml", "failed_keys": "none", **settings}
    agent = build_hitl_agent(ScriptedModel(script=[say("Hello.")]), [], approve=[])
    assent = Assent(agent, database=str(folder / "a.db"), settings=settings)
    async with assent:
        transport = httpx.ASGITransport(assent.app, client=("203.0.113.7", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="https://assent.test") as client:
            yield client


async def test_a_request_is_of_the_person_whom_its_token_names(
    corp: KnownIssuer, tmp_path: Path
) -> None:
    async with serving_for(corp, tmp_path, api_keys=keys_of("zoe")) as client:

        async def asked(token: str, way: str = "Bearer") -> httpx.Response:
            return await client.get("/threads", headers={"authorization": f"{way} {token}"})

        for token in (corp.token(groups=["app-users"]), corp.token(sub="zoe")):
            assert (await asked(token)).status_code == 200
            assert (await asked(token, "Basic")).status_code == 401
            by_other_header = await client.get("/threads", headers={"x-api-key": token})
            assert by_other_header.status_code == 200
        # The roles of everybody else are not for whoever has an account there.
        refused = await asked(corp.token())
        assert (refused.status_code, "ASSENT_ROLES" in refused.text) == (403, True)
        for token in (
            corp.token(groups=["app-users"], exp=1),
            corp.token(groups=["app-users"], aud="other"),
            corp.token(groups=["app-users"], iss="https://other.example"),
        ):
            refused = await asked(token)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert token not in refused.text
        assert (await client.get("/threads")).status_code == 401
        assert (await client.get("/threads", headers=bearer("zoe"))).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 200


async def test_a_person_has_what_is_theirs_and_no_namesake(
    corp: KnownIssuer, tmp_path: Path
) -> None:
    async with serving_for(corp, tmp_path, api_keys=keys_of("alice")) as client:
        theirs = {"authorization": f"Bearer {corp.token(groups=['app-users'])}"}
        made = await client.post("/threads", headers=theirs, json={})
        assert made.status_code == 200, made.text
        path = f"/threads/{made.json()['thread_id']}"
        assert (await client.get(path, headers=theirs)).status_code == 200
        assert (await client.get(path, headers=bearer("alice"))).status_code == 404
        # What they know by a token for some minutes makes no key that lasts.
        key = (await client.post("/keys", headers=theirs, json={"roles": ["viewer"]})).json()
        assert datetime.fromisoformat(key["expires_at"]) < datetime.now(UTC) + timedelta(hours=1)


async def test_a_token_is_good_for_an_open_stream_until_it_ends(corp: KnownIssuer) -> None:
    clock = ManualClock()
    clock.time = datetime.now(UTC)
    issuer = corp.issuer(leeway=0)
    async with reaching() as reach, Tokens.open([issuer], reach, clock.clock) as tokens:
        source = ByToken(tokens, clock.clock)
        people = Roles(People(given={"corp:alice": ("operator",)}, default=("admin",)))
        access = Access([source], people, allows_query_token=False)
        headers = [(b"authorization", f"Bearer {corp.token()}".encode())]
        scope = {"type": "http", "headers": headers, "query_string": b"", "method": "GET"}
        identity = await access.identify(Request(scope), Rule(Right.READ, Thing.LIST))
        assert identity.roles == ("operator",)
        assert await access.renew(identity) is identity
        clock.time += timedelta(seconds=599)
        assert await access.renew(identity) is identity
        clock.time += timedelta(seconds=2)
        assert await access.renew(identity) is None


def test_an_app_that_says_who_asks_leaves_nothing_to_issuers(tmp_path: Path) -> None:
    (tmp_path / "assent.toml").write_text(
        '[issuers.corp]\nissuer = "https://a.example"\naudience = "a"\nalgorithm = "ES256"\n'
    )
    agent = build_hitl_agent(ScriptedModel(script=[]), [], approve=[])
    assent = Assent(
        agent,
        database=str(tmp_path / "a.db"),
        auth=lambda: "ann",
        settings={"config": tmp_path / "assent.toml"},
    )

    async def opened() -> None:
        async with assent:
            pass

    with pytest.raises(ConfigurationError, match="auth or issuers"):
        asyncio.run(opened())
    assert not (tmp_path / "a.db").exists()


# ── settings ──


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"algorithm": "HS256"}, "anybody could make one"),
        ({"algorithm": "none"}, "anybody could make one"),
        ({"audience": ""}, "'audience' is empty"),
        ({"issuer": "http://login.example", "allow_http": False}, "begins with 'http:'"),
        ({"issuer": "file:///etc"}, "names no host"),
        ({"jwks": "ftp://login.example/keys"}, "begins with 'ftp:'"),
        ({"leeway": 301}, "leeway"),
        ({"leeway": -1}, "leeway"),
        ({"client_secret": SECRET}, "no client_id"),
        ({"client_id": "web", "scopes": "profile"}, "lack 'openid'"),
        ({"role_map": {"a": "approver:tols:pay"}}, "is no role"),
        ({"role_map": {"a": "approver :tool:pay"}}, "is no role"),
        ({"role_map": {"a": ["viewer", ""]}}, "is no role"),
        ({"client_id": "web", "client_secret": "env:NOBODY"}, "NOBODY, which is not set"),
        ({"audiences": ["a"]}, "unknown field"),
    ],
)
def test_an_issuer_that_cannot_be_meant_so_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        KnownIssuer(port=1).issuer(**options)
    assert "The issuer 'corp' is wrong" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_it_is_clear_of_which_issuer_a_name_is() -> None:
    base = {"audience": "assent", "algorithm": "ES256"}
    one, two = ({**base, "issuer": f"https://{name}.example"} for name in ("one", "two"))
    assert len(issuers_from_json({"one": one, "two": two}, {})) == 2
    for first, second in (
        (one, one),
        ({**one, "prefix": ""}, two),
        ({**one, "prefix": "x:"}, {**two, "prefix": "x:y:"}),
        ({**one, "prefix": "x:"}, {**two, "prefix": "x:"}),
    ):
        with pytest.raises(ConfigurationError):
            issuers_from_json({"one": first, "two": second}, {})
    with pytest.raises(ConfigurationError, match="bad name"):
        issuers_from_json({"a b": one}, {})
    with pytest.raises(ConfigurationError, match="no table"):
        issuers_from_json([], {})
