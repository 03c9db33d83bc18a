"""An issuer of JSON Web Tokens that listens on a real port, and does what it is told, be it wrong.

async with issuing(KnownIssuer()) as corp:
    corp.token(sub="alice")
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from assent.config.issuers import Issuer, issuers_from_json
from assent.notify.reaching import Reach
from tests.support.listening import listening

DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"


def a_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class KnownIssuer:
    """What it signs with, by the names of its keys, and how it answers: with this status, after so
    many seconds, with this body in place of its own. `asked` counts by path."""

    keys: dict[str, Any] = field(default_factory=lambda: {"k1": a_key()})
    status: int = 200
    after: float = 0.0
    bodies: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def issuer(self, section: str = "corp", **options: Any) -> Issuer:
        """The issuer as it is configured."""
        written = {
            "issuer": self.url,
            "audience": "assent",
            "algorithm": "ES256",
            "allow_http": True,
            **options,
        }
        [issuer] = issuers_from_json({section: written}, {})
        return issuer

    def jwk(self, kid: str) -> dict[str, Any]:
        written: dict[str, Any] = ECAlgorithm.to_jwk(self.keys[kid].public_key(), as_dict=True)
        return {**written, "kid": kid, "use": "sig"}

    def claims(self, **claims: Any) -> dict[str, Any]:
        """The claims of a good token, but for these; those that are None are left out."""
        now = int(time.time())
        good = {"iss": self.url, "aud": "assent", "sub": "alice", "iat": now, "exp": now + 600}
        return {name: each for name, each in {**good, **claims}.items() if each is not None}

    def token(self, kid: str = "k1", header: dict[str, Any] | None = None, **claims: Any) -> str:
        return jwt.encode(
            self.claims(**claims),
            self.keys[kid],
            algorithm="ES256",
            headers={"kid": kid, **(header or {})},
        )

    def _body(self, path: str) -> bytes:
        if path in self.bodies:
            return self.bodies[path]
        if path == DISCOVERY:
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}{KEYS}"}).encode()
        return json.dumps({"keys": [self.jwk(kid) for kid in self.keys]}).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split()[1]
            self.asked[path] += 1
            await asyncio.sleep(self.after)
            body = self._body(path)
            writer.write(
                f"HTTP/1.1 {self.status} Whatever\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()


@asynccontextmanager
async def issuing(issuer: KnownIssuer, *, port: int = 0) -> AsyncIterator[KnownIssuer]:
    """It listens on loopback, until the context is left."""
    async with listening(issuer.serve, port=port) as issuer.port:
        yield issuer


@asynccontextmanager
async def reaching(**options: Any) -> AsyncIterator[Reach]:
    """Reach without the certificates of the world, which take a while to read."""
    transport = httpx.AsyncHTTPTransport(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False
    )
    async with Reach.open(transport=transport, **options) as reach:
        yield reach
