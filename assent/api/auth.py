"""Authentication of clients by their keys."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from assent.api.context import served
from assent.core.audit import LOCAL, Actor, Authentication


async def principal(request: Request) -> str:
    """The name that the request's key belongs to. Raises 401 if the server has keys, and this is
    none of them."""
    keys = served(request).api_keys
    if not keys:
        return LOCAL

    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    secret = given.strip().encode()
    # Every key is compared, each in constant time, so that the time says nothing about any of
    # them.
    names = [name for name, key in keys.items() if hmac.compare_digest(key.encode(), secret)]
    if scheme.lower() != "bearer" or not names:
        raise HTTPException(
            401,
            "This server needs a key: send 'Authorization: Bearer <secret>'.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return names[0]


async def actor(request: Request, name: Annotated[str, Depends(principal)]) -> Actor:
    """The sender of the request, and the way in which the server knows that it is they."""
    has_keys = bool(served(request).api_keys)
    return Actor(name, Authentication.API_KEY if has_keys else Authentication.LOCAL)
