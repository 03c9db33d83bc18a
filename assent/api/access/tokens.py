"""JSON Web Tokens of configured issuers: verified, and read as the person whom they name.

A token is believed if one of its issuer's keys signed it by the issuer's one algorithm, if it is
for this server, and while it lasts. Of any other it is said that it is none, and not why.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import jwt
from fastapi import Request
from jwt import PyJWK

from assent.api.access.given import Given
from assent.api.access.identity import Credential, Found, Identity, Kind, not_known
from assent.api.access.jwks import ONLY_KEY, Published
from assent.config.issuers import Issuer
from assent.core.audit import Authentication
from assent.core.clock import Clock
from assent.core.errors import Forbidden
from assent.core.json import Json, JsonObject
from assent.core.keys import same
from assent.core.names import is_tenant, why_no_name
from assent.core.remembered import Remembered
from assent.notify.reaching import Reach

MOST_CHARACTERS = 8 * 1024
MOST_OF_KID = 200

REMEMBERED_SECONDS = 60.0
"""The time for which a verified token is not verified again: to check a signature takes long."""

MOST_REMEMBERED = 10_000


class BadToken(Exception):
    """A token is not to be believed. The text is a sentence for clients, without what was sent."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A person as a verified token describes them, in the words of this server."""

    name: str
    roles: tuple[str, ...]
    tenant: str | None
    expires_at: datetime

    def found(self, credential: Credential) -> Found:
        """The person, as they are known by this credential. Whom the issuer gives no role that the
        operator knows has none."""
        return Found(
            self.name,
            Authentication.TOKEN,
            credential,
            tenant=self.tenant,
            roles=self.roles,
            takes_defaults=False,
        )


class Tokens:
    """Verifies the tokens of some issuers. Made by `open`."""

    def __init__(
        self, issuers: Sequence[Issuer], reach: Reach, clock: Clock, now: Callable[[], float]
    ) -> None:
        self.issuers: Mapping[str, Issuer] = {issuer.section: issuer for issuer in issuers}
        self._by_claim = {issuer.issuer: issuer for issuer in issuers}
        self._published = {each.section: Published(each, reach, now) for each in issuers}
        self._clock = clock
        self._now = now
        self._remembered: Remembered[tuple[Claimed, float]] = Remembered(MOST_REMEMBERED)
        """The content of tokens, by their digests, and until when it is not asked again."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        issuers: Sequence[Issuer],
        reach: Reach,
        clock: Clock,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> AsyncIterator[Tokens]:
        """Verify until the context is left. `now` is a monotonic clock."""
        tokens = cls(issuers, reach, clock, now)
        try:
            yield tokens
        finally:
            for published in tokens._published.values():
                await published.close()

    async def discovery(self, issuer: Issuer) -> JsonObject:
        """The issuer's discovery document. Raises `Unavailable`."""
        return await self._published[issuer.section].discovery()

    def issuer_of(self, text: str) -> Issuer | None:
        """The issuer that the token says it is of; None if it is no token, or of none of these.
        Nothing of it is verified."""
        if text.count(".") != 2 or len(text) > MOST_CHARACTERS:
            return None
        try:
            claims = jwt.decode(text, options={"verify_signature": False})
        except _NO_TOKEN:
            return None
        named = claims.get("iss")
        return self._by_claim.get(named) if isinstance(named, str) else None

    def verified(self, text: str) -> Claimed | None:
        """The content of the token, if it was verified a moment ago."""
        remembered = self._remembered.get(_digest(text))
        return remembered[0] if remembered is not None and self._now() < remembered[1] else None

    async def verify(self, issuer: Issuer, text: str) -> Claimed:
        """The content of the issuer's token, if it is for this server. Raises `BadToken`,
        `Forbidden` if it names a person who may not be here, and `Unavailable`."""
        if (verified := self.verified(text)) is not None:
            return verified
        claims = await self._claims(issuer, text, issuer.audience)
        claimed = _read(issuer, claims)
        left = (claimed.expires_at - self._clock.now()).total_seconds()
        until = self._now() + min(left, REMEMBERED_SECONDS)
        self._remembered.put(_digest(text), (claimed, until))
        return claimed

    async def verify_sign_in(self, issuer: Issuer, text: str, nonce: str) -> Claimed:
        """The content of an ID token that the issuer gave for a sign-in of ours, which had this
        nonce. Raises as `verify` does."""
        claims = await self._claims(issuer, text, issuer.client_id)
        given = claims.get("nonce")
        if not isinstance(given, str) or not same(given, nonce):
            raise BadToken("The token was given for another sign-in.")
        for_several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if for_several else issuer.client_id) != issuer.client_id:
            raise BadToken("The token was given to another client.")
        return _read(issuer, claims)

    async def _claims(self, issuer: Issuer, text: str, audience: str) -> JsonObject:
        key = await self._key(issuer, text)
        try:
            claims: JsonObject = jwt.decode(
                text,
                key,
                algorithms=[issuer.algorithm],
                issuer=issuer.issuer,
                audience=audience,
                leeway=issuer.leeway,
                options={"require": ["iss", "aud", "exp"], "enforce_minimum_key_length": True},
            )
        except jwt.ExpiredSignatureError:
            raise BadToken("The token has expired. Get a new one.") from None
        except _NO_TOKEN:
            raise _none_of(issuer) from None
        return claims

    async def _key(self, issuer: Issuer, text: str) -> PyJWK:
        """The key by which the token says that it was signed."""
        if len(text) > MOST_CHARACTERS:
            raise _none_of(issuer)
        try:
            header = jwt.get_unverified_header(text)
        except _NO_TOKEN:
            raise _none_of(issuer) from None
        kid = header.get("kid", ONLY_KEY)
        is_name = isinstance(kid, str) and len(kid) <= MOST_OF_KID
        # Before anything is fetched for it.
        if header.get("alg") != issuer.algorithm or not is_name:
            raise _none_of(issuer)
        key = await self._published[issuer.section].key(kid)
        if key is None:
            raise _none_of(issuer)
        return key


_NO_TOKEN = (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError)
"""The errors of PyJWT for texts that are no tokens: besides its own, those of odd values."""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _none_of(issuer: Issuer) -> BadToken:
    return BadToken(f"This is no valid token of the issuer '{issuer.section}' for this server.")


# ── as a source of identities ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ByToken:
    """Knows people by the `tokens` of issuers."""

    tokens: Tokens
    clock: Clock
    kind: Final[Kind] = "token"

    async def find(self, given: Given | None, request: Request) -> Found | None:
        if given is None:
            return None
        claimed = self.tokens.verified(given.text)
        if claimed is None:
            issuer = self.tokens.issuer_of(given.text)
            if issuer is None:
                return None
            try:
                claimed = await self.tokens.verify(issuer, given.text)
            except BadToken as error:
                raise not_known(str(error)) from None
        credential = Credential(self.kind, _digest(given.text), claimed.expires_at)
        return claimed.found(credential)

    async def renew(self, identity: Identity) -> Found | None:
        # What a token says holds until it ends, and nobody but its issuer could take it back.
        expires_at = identity.credential.expires_at
        if expires_at is None or expires_at <= self.clock.now():
            return None
        return identity.as_found()


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


def _read(issuer: Issuer, claims: JsonObject) -> Claimed:
    return Claimed(
        name=_name(issuer, claims),
        roles=_roles(issuer, claims),
        tenant=_tenant(issuer, claims),
        expires_at=_expires_at(issuer, claims),
    )


def _name(issuer: Issuer, claims: JsonObject) -> str:
    claim = _found(claims, issuer.name)
    if not isinstance(claim, str) or not claim:
        raise Forbidden(
            f"Your token has no text in the claim '{issuer.name}', by which the issuer "
            f"'{issuer.section}' names people here."
        )
    if issuer.name == "email" and claims.get("email_verified") is not True:
        # Else whoever may change the address of their account could be anybody.
        raise Forbidden("Your token does not say that your address was verified.")
    name = issuer.prefix + claim
    if (reason := why_no_name(name)) is not None:
        raise Forbidden(f"Your token gives you a name that nobody can have here: it {reason}.")
    return name


def _roles(issuer: Issuer, claims: JsonObject) -> tuple[str, ...]:
    """The roles that the operator gives for those that the token names."""
    claim = _found(claims, issuer.roles)
    theirs = claim.split() if isinstance(claim, str) else claim
    named = [each for each in theirs if isinstance(each, str)] if isinstance(theirs, list) else []
    return tuple(sorted({ours for each in named for ours in issuer.role_map.get(each, ())}))


def _tenant(issuer: Issuer, claims: JsonObject) -> str | None:
    if not issuer.tenant:
        return None
    claim = _found(claims, issuer.tenant)
    if not isinstance(claim, str) or not is_tenant(claim):
        raise Forbidden(
            f"Your token names no tenant in the claim '{issuer.tenant}': 1 to 64 letters, digits, "
            "'_', '.' and '-'."
        )
    return claim


def _expires_at(issuer: Issuer, claims: JsonObject) -> datetime:
    try:
        return datetime.fromtimestamp(int(claims["exp"]) + issuer.leeway, UTC)
    except (OverflowError, ValueError, OSError):
        # So far away that there is no such time.
        return datetime.max.replace(tzinfo=UTC)


def _found(claims: JsonObject, path: str) -> Json:
    """The claim of this name, which may have dots in it; else the one that the path leads to."""
    if path in claims:
        return claims[path]
    found: Json = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
