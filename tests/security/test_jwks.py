"""The keys of issuers: fetched seldom, kept long, and only those that fit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from assent.api.access.jwks import keys_in
from assent.api.access.tokens import BadToken, Tokens
from assent.config.issuers import Issuer
from assent.core.addresses import Egress, egress_from_texts
from assent.core.clock import Clock
from assent.core.errors import Unavailable
from assent.notify.reaching import NotReached
from tests.support.issuer import DISCOVERY, KEYS, KnownIssuer, a_key, issuing, reaching
from tests.support.waiting import PATIENCE

DOWN = "It answered with status 500."


class Passing:
    """The seconds that have passed, as a test says."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def corp() -> AsyncIterator[KnownIssuer]:
    async with issuing(KnownIssuer()) as corp:
        yield corp


class Verifying:
    """Tokens of one issuer, verified at a time that the test says."""

    def __init__(self, tokens: Tokens, issuer: Issuer, passing: Passing) -> None:
        self.tokens, self.issuer, self.passing = tokens, issuer, passing

    async def takes(self, text: str) -> bool:
        try:
            await self.tokens.verify(self.issuer, text)
        except BadToken:
            return False
        return True


@pytest.fixture
async def verifying(corp: KnownIssuer) -> AsyncIterator[Callable[..., Any]]:
    async with reaching() as reach:
        passing, issuer = Passing(), corp.issuer()
        async with Tokens.open([issuer], reach, Clock(), now=passing) as tokens:
            yield Verifying(tokens, issuer, passing)


async def test_keys_are_fetched_once_for_all_who_wait(
    corp: KnownIssuer, verifying: Verifying
) -> None:
    corp.after = 0.1
    tokens = [corp.token(sub=f"p{number}") for number in range(50)]
    assert all(await asyncio.gather(*map(verifying.takes, tokens)))
    assert corp.asked == {DISCOVERY: 1, KEYS: 1}
    verifying.passing.seconds += 599
    assert await verifying.takes(corp.token())
    assert corp.asked[KEYS] == 1


async def test_whoever_goes_away_leaves_the_fetch_to_the_others(
    corp: KnownIssuer, verifying: Verifying
) -> None:
    corp.after = 0.1
    gone = asyncio.create_task(verifying.takes(corp.token(sub="gone")))
    await asyncio.sleep(0.05)
    gone.cancel()
    assert await verifying.takes(corp.token())
    assert corp.asked[KEYS] == 1


async def test_a_thousand_unknown_keys_make_two_fetches(
    corp: KnownIssuer, verifying: Verifying
) -> None:
    assert await verifying.takes(corp.token())
    verifying.passing.seconds += 31
    for number in range(1000):
        assert not await verifying.takes(corp.token(header={"kid": f"k{number + 2}"}))
    assert corp.asked[KEYS] == 2
    assert await verifying.takes(corp.token(sub="bob"))


async def test_a_new_key_is_found_and_an_old_one_goes(
    corp: KnownIssuer, verifying: Verifying
) -> None:
    assert await verifying.takes(corp.token())
    corp.keys["k2"] = a_key()
    # Too early to ask again: whoever sends such tokens may be anybody.
    assert not await verifying.takes(corp.token("k2"))
    verifying.passing.seconds += 31
    assert await verifying.takes(corp.token("k2"))
    old = corp.token("k1", sub="bob")
    del corp.keys["k1"]
    verifying.passing.seconds += 601
    # The set that is kept is good while the newer one is on its way.
    await verifying.takes(old)
    async with asyncio.timeout(PATIENCE):
        while await verifying.takes(old):
            verifying.passing.seconds += 61
            await asyncio.sleep(0.01)
    assert await verifying.takes(corp.token("k2"))


async def fetches_ended() -> None:
    """Wait until nothing is asked of an issuer: whoever has what it published before does not."""
    async with asyncio.timeout(PATIENCE):
        while any(task.get_name() == "issuer" for task in asyncio.all_tasks()):
            await asyncio.sleep(0.001)


async def test_old_keys_last_for_a_day_while_the_issuer_is_down(
    corp: KnownIssuer, verifying: Verifying
) -> None:
    assert await verifying.takes(corp.token())
    corp.status = 500
    with capture_logs() as logs:
        for hour in range(1, 24):
            verifying.passing.seconds += 3600
            assert await verifying.takes(corp.token())
            await fetches_ended()
            assert sum(each["reason"] == DOWN for each in logs) >= hour
        verifying.passing.seconds += 3601
        with pytest.raises(Unavailable, match="Try again later"):
            await verifying.takes(corp.token())
        await fetches_ended()
    corp.status = 200
    # It failed a moment ago, so it is not asked at once.
    with pytest.raises(Unavailable):
        await verifying.takes(corp.token())
    verifying.passing.seconds += 31
    assert await verifying.takes(corp.token())


async def test_an_issuer_that_was_never_reached_is_asked_seldom(
    corp: KnownIssuer, verifying: Verifying
) -> None:
    corp.status = 503
    for _ in range(100):
        with pytest.raises(Unavailable):
            await verifying.takes(corp.token())
    assert corp.asked == {DISCOVERY: 1}


async def test_a_set_that_is_named_needs_no_discovery(corp: KnownIssuer) -> None:
    issuer = corp.issuer(jwks=f"{corp.url}/elsewhere")
    async with reaching() as reach, Tokens.open([issuer], reach, Clock()) as tokens:
        await tokens.verify(issuer, corp.token())
    assert corp.asked == {"/elsewhere": 1}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (DISCOVERY, b'{"issuer": "https://other.example", "jwks_uri": "{url}/keys"}'),
        (DISCOVERY, b'{"issuer": "{url}"}'),
        (DISCOVERY, b'{"issuer": "{url}", "jwks_uri": "http://127.0.0.1.nip.example/keys"}'),
        (DISCOVERY, b'{"issuer": "{url}", "jwks_uri": "file:///etc/passwd"}'),
        (DISCOVERY, b'{"issuer": "{url}", "jwks_uri": "https://127.0.0.1:1/keys"}'),
        (KEYS, b"[]"),
        (KEYS, b'{"keys": {}}'),
        (KEYS, b"<html>"),
        (KEYS, b'{"keys": [], "keys": []}'),
        (KEYS, b"[" * 100_000),
        (KEYS, b"\xff"),
        (KEYS, b'{"keys": [' + b",".join([b"{}"] * 101) + b"]}"),
        (KEYS, b'{"keys": []}' + b" " * (256 * 1024)),
    ],
)
async def test_what_makes_no_sense_is_not_taken(
    corp: KnownIssuer, verifying: Verifying, path: str, body: bytes
) -> None:
    corp.bodies[path] = body.replace(b"{url}", corp.url.encode())
    with pytest.raises(Unavailable):
        await verifying.takes(corp.token())


async def test_an_issuer_is_reached_by_the_rules_of_addresses_and_the_list(
    corp: KnownIssuer,
) -> None:
    issuer = corp.issuer()
    for egress in (egress_from_texts(["login.example"]), Egress(permits=lambda *_: False)):
        async with (
            reaching(egress=egress) as reach,
            Tokens.open([issuer], reach, Clock()) as tokens,
        ):
            with pytest.raises(Unavailable):
                await tokens.verify(issuer, corp.token())
    assert not corp.asked


async def test_a_fetch_under_way_does_not_hold_up_the_end(corp: KnownIssuer) -> None:
    corp.after = 60
    issuer = corp.issuer()
    async with asyncio.timeout(5), reaching() as reach:
        async with Tokens.open([issuer], reach, Clock()) as tokens:
            waiting = asyncio.create_task(tokens.verify(issuer, corp.token()))
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await waiting


# ── which keys ──

KNOWN = KnownIssuer()
GOOD = KNOWN.jwk("k1")


@pytest.mark.parametrize(
    "key",
    [
        {**GOOD, "use": "enc"},
        {**GOOD, "alg": "ES384"},
        {**GOOD, "alg": "HS256"},
        {**GOOD, "crv": "P-384"},
        {**GOOD, "kty": "RSA"},
        {**GOOD, "key_ops": ["encrypt"]},
        {**GOOD, "kid": 7},
        {**GOOD, "x": "!"},
        {**GOOD, "x": None},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"},
        {"kty": "EC"},
        {},
        "k1",
        None,
    ],
)
def test_a_key_for_another_end_is_left_out(key: Any) -> None:
    other = {**GOOD, "kid": "other"}
    assert set(keys_in({"keys": [key, other]}, "ES256")) == {"other", ""}


def test_keys_are_known_by_their_names() -> None:
    assert set(keys_in({"keys": [GOOD]}, "ES256")) == {"k1", ""}
    two = {**GOOD, "kid": "k2"}
    assert set(keys_in({"keys": [GOOD, two]}, "ES256")) == {"k1", "k2"}
    nameless = {name: value for name, value in GOOD.items() if name != "kid"}
    assert set(keys_in({"keys": [nameless]}, "ES256")) == {""}
    assert set(keys_in({"keys": [nameless, two]}, "ES256")) == {"k2"}
    assert keys_in({"keys": []}, "ES256") == {}
    for document in ({}, {"keys": "k1"}, {"keys": [json.loads("{}")] * 101}):
        with pytest.raises(NotReached):
            keys_in(document, "ES256")
