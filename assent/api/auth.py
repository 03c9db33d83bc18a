"""Who is asking."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from fastapi import HTTPException, Request

from assent.core.rows import Authentication

LOCAL = "local"
"""The name of everybody, where no keys are set and the server is bound to loopback."""


async def principal(request: Request) -> str:
    """The name that the request's key belongs to. Raises 401 for a key that nobody has, where keys
    are set."""
    keys: Mapping[str, str] = request.app.state.api_keys
    if not keys:
        return LOCAL
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Every key is compared, in constant time each, so that timing tells nothing about any of them.
    names = [
        name
        for name, secret in keys.items()
        if hmac.compare_digest(secret.encode(), given.strip().encode())
    ]
    if scheme.lower() != "bearer" or not names:
        raise HTTPException(
            401,
            "This server needs a key: send 'Authorization: Bearer <secret>'.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return names[0]


async def authentication(request: Request) -> Authentication:
    """How the server knows whose request it is."""
    return Authentication.API_KEY if request.app.state.api_keys else Authentication.LOCAL
