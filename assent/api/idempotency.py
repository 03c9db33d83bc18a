"""Idempotency keys over HTTP: whoever asks again under the same key gets the same answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from assent.api.deps import TheActor
from assent.api.paths import own_path_of
from assent.api.schemas import KEY
from assent.approvals.idempotency import Key


async def _key(
    request: Request,
    by: TheActor,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=KEY,
            description="1 to 255 visible characters of ASCII. For a day, the same request with "
            "the same key gets the same answer, and is not done again",
        ),
    ] = None,
) -> Key | None:
    if idempotency_key is None:
        return None
    request.state.has_key = True
    return Key.given(idempotency_key, by.owner, own_path_of(request), await request.json())


TheKey = Annotated[Key | None, Depends(_key)]
"""The key that came with the request, if one did."""


def has_key(request: Request) -> bool:
    """True if the request came with a key, on a route that takes one."""
    return getattr(request.state, "has_key", False)
