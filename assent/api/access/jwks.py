"""The documents that an issuer publishes: its keys, and the one that says where they are.

Each is fetched once for all who wait for it, kept for ten minutes, and asked for anew at most once
in thirty seconds, whatever tokens come: so nobody can make this server ask an issuer all the time.
If the issuer is down, what it published last is good for a day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import jwt
import structlog
from jwt import PyJWK

from assent.config.issuers import Issuer
from assent.core.errors import ConfigurationError, Unavailable
from assent.core.json import JsonObject, read_strictly
from assent.notify.reaching import NotReached, Reach

T = TypeVar("T")

FRESH_SECONDS = 600.0
"""The time for which a document is taken as it is."""

BETWEEN_SECONDS = 30.0
"""The least time between two fetches of a document, also after one that failed."""

LAST_SECONDS = 86_400.0
"""The time for which the last document is used while no newer one can be had."""

MOST_BYTES = 256 * 1024
MOST_KEYS = 100

ONLY_KEY = ""
"""The name of a key that is the only one of its set, for tokens that name none."""

log = structlog.get_logger(__name__)


class Kept(Generic[T]):
    """A document of an issuer's, fetched when it is needed. `close` ends a fetch that is under
    way."""

    def __init__(
        self, issuer: str, fetch: Callable[[], Awaitable[T]], now: Callable[[], float]
    ) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._now = now
        self._document: T | None = None
        self._fetched_at = 0.0
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, suffices: Callable[[T], bool] = lambda document: True) -> T:
        """The document; the newest that can be had, if an older one does not suffice. Raises
        `Unavailable` if there is none."""
        kept = self._younger_than(FRESH_SECONDS)
        if kept is not None and suffices(kept):
            return kept
        fetching = self._begin()
        usable = self._younger_than(LAST_SECONDS)
        if usable is not None and suffices(usable):
            return usable
        if fetching is not None:
            # Whoever goes away meanwhile leaves the fetch to the others.
            await asyncio.shield(fetching)
            usable = self._younger_than(LAST_SECONDS)
        if usable is None:
            raise Unavailable(
                f"What the issuer '{self._issuer}' publishes cannot be had now, so its tokens "
                "cannot be checked. Try again later."
            )
        return usable

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _younger_than(self, seconds: float) -> T | None:
        return self._document if self._now() - self._fetched_at < seconds else None

    def _begin(self) -> asyncio.Task[None] | None:
        """The fetch that is under way; None if it is too early for one."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if self._tried_at is not None and self._now() - self._tried_at < BETWEEN_SECONDS:
            return None
        self._tried_at = self._now()
        self._fetching = asyncio.create_task(self._try(), name="issuer")
        return self._fetching

    async def _try(self) -> None:
        try:
            self._document = await self._fetch()
            self._fetched_at = self._now()
        except (NotReached, ConfigurationError) as error:
            log.warning("an issuer was not reached", issuer=self._issuer, reason=str(error))
        except Exception as error:
            reason = type(error).__name__
            log.exception("an issuer was not reached", issuer=self._issuer, reason=reason)


class Published:
    """The documents that one issuer publishes, by requests through `reach`. `now` is a monotonic
    clock."""

    def __init__(self, issuer: Issuer, reach: Reach, now: Callable[[], float]) -> None:
        self._issuer = issuer
        self._reach = reach
        self._discovery = Kept(issuer.section, self._fetch_discovery, now)
        self._keys = Kept(issuer.section, self._fetch_keys, now)

    async def key(self, kid: str) -> PyJWK | None:
        """The key of this name. Raises `Unavailable`."""
        keys = await self._keys.get(lambda kept: kid in kept)
        return keys.get(kid)

    async def discovery(self) -> JsonObject:
        """The issuer's discovery document (OpenID Connect Discovery 1.0). Raises `Unavailable`."""
        return await self._discovery.get()

    async def close(self) -> None:
        await self._keys.close()
        await self._discovery.close()

    async def _fetch_keys(self) -> Mapping[str, PyJWK]:
        url = self._issuer.jwks
        if not url:
            try:
                url = str((await self.discovery()).get("jwks_uri"))
            except Unavailable as error:
                raise NotReached(error.message) from None
        return keys_in(await self._document(url), self._issuer.algorithm)

    async def _fetch_discovery(self) -> JsonObject:
        url = f"{self._issuer.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = await self._document(url)
        # Else whoever could answer for one path of a host could be another issuer on it.
        if document.get("issuer") != self._issuer.issuer:
            raise NotReached("Its discovery document is of another issuer.")
        return document

    async def _document(self, url: str) -> JsonObject:
        answer = await self._reach.request(
            "GET", self._issuer.at(url), headers={"Accept": "application/json"}, most=MOST_BYTES
        )
        if not answer.is_success:
            raise NotReached(f"It answered with status {answer.status}.")
        if not answer.is_whole:
            raise NotReached(f"Its answer has more than {MOST_BYTES} bytes.")
        try:
            document = read_strictly(answer.body.decode())
        except (ValueError, RecursionError):
            raise NotReached("Its answer is no JSON.") from None
        if not isinstance(document, dict):
            raise NotReached("Its answer is no JSON object.")
        return document


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────

_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def keys_in(document: JsonObject, algorithm: str) -> Mapping[str, PyJWK]:
    """The keys of the set (RFC 7517) that may have signed by the algorithm, by their names. Raises
    `NotReached` if the document is no set."""
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise NotReached(f"Its answer has no list of at most {MOST_KEYS} keys.")
    fitting = [key for each in listed if (key := _key(each, algorithm)) is not None]
    keys: dict[str, PyJWK] = {}
    for key in fitting:
        keys.setdefault(key.key_id or ONLY_KEY, key)
    if len(fitting) > 1:
        keys.pop(ONLY_KEY, None)
    elif fitting:
        keys[ONLY_KEY] = fitting[0]
    return keys


def _key(written: object, algorithm: str) -> PyJWK | None:
    if not isinstance(written, dict) or not _fits(written, algorithm):
        return None
    try:
        return PyJWK(written, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        # One that makes no sense is left out, as those are that are meant for something else.
        return None


def _fits(key: JsonObject, algorithm: str) -> bool:
    """True if the key may have signed by this algorithm: a set has keys for other ends too."""
    if key.get("use", "sig") != "sig" or key.get("alg", algorithm) != algorithm:
        return False
    if "verify" not in key.get("key_ops", ("verify",)) or not isinstance(key.get("kid", ""), str):
        return False
    if algorithm in _CURVES:
        return (key.get("kty"), key.get("crv")) == ("EC", _CURVES[algorithm])
    return key.get("kty") == ("OKP" if algorithm == "EdDSA" else "RSA")
