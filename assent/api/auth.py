"""The senders of requests: known by their keys, or by the app that the server is a part of."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any
from urllib.parse import unquote_plus

import msgspec
from fastapi import Depends, HTTPException, Query, Request

from assent.api.context import Served, served
from assent.api.cors import Origins
from assent.api.streams.handshake import HANDSHAKE
from assent.core.audit import LOCAL, Actor, Authentication
from assent.core.errors import ConfigurationError
from assent.core.json import JsonObject, encode_json

USER_KEY = "assent_user"
"""Where the scope of a request has its sender, if the app around the server knows them."""

MAX_NAME = 200

MAX_KNOWN_BYTES = 16 * 1024
"""The most bytes, as JSON, of what an app says of a person besides their name."""

READING = ("GET", "HEAD", "OPTIONS")


async def actor(request: Request) -> Actor:
    """The sender of the request, and the way in which the server knows that it is they. Raises 401
    if it does not, and must."""
    server = served(request)
    if server.has_auth:
        user: Actor | None = request.scope.get(USER_KEY)
        if user is None:
            raise HTTPException(401, "This server must know who you are, and does not.")
        return user
    if server.knows_nobody:
        return Actor(LOCAL, Authentication.LOCAL)
    return Actor(_of_key(request, server), Authentication.API_KEY)


async def reader(
    request: Request,
    token: Annotated[
        list[str] | None,
        Query(description="A key, for clients that can send no header. ASSENT_ALLOW_QUERY_TOKEN"),
    ] = None,
) -> Actor:
    """`actor`, for a route that changes nothing: if the server allows it, a key in the URL does in
    place of the header."""
    if token is None:
        return await actor(request)
    _cut_token(request)
    server = served(request)
    if server.has_auth or server.knows_nobody or "authorization" in request.headers:
        return await actor(request)
    if not server.allow_query_token:
        raise _no_key(
            "This server takes no key in a URL: send 'Authorization: Bearer <secret>', or set "
            "ASSENT_ALLOW_QUERY_TOKEN."
        )
    names = _names_of(token[0], server)
    if len(token) > 1 or not names:
        raise _no_key("This server needs a key, and 'token' is none: send one of its keys, once.")
    return Actor(names[0], Authentication.API_KEY)


def _of_key(request: Request, server: Served) -> str:
    """The name that the request's key belongs to."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    names = _names_of(given.strip(), server)
    if scheme.lower() != "bearer" or not names:
        raise _no_key("This server needs a key: send 'Authorization: Bearer <secret>'.")
    return names[0]


def _names_of(secret: str, server: Served) -> list[str]:
    """The name that the secret belongs to, if there is one."""
    # Every key is compared, each in constant time, so that the time says nothing about any of
    # them.
    given = secret.encode()
    keys = server.api_keys.items()
    return [name for name, key in keys if hmac.compare_digest(key.encode(), given)]


def _no_key(reason: str) -> HTTPException:
    return HTTPException(401, reason, headers={"WWW-Authenticate": "Bearer"})


def _cut_token(request: Request) -> None:
    """Take the key out of the URL that the scope has, so that nothing that comes later, such as a
    line of a log, can have it."""
    parts = request.scope["query_string"].split(b"&")
    kept = [part for part in parts if _name_in(part) != "token"]
    request.scope["query_string"] = b"&".join(kept)


def _name_in(part: bytes) -> str:
    """The name of the parameter in a part of a query."""
    return unquote_plus(part.partition(b"=")[0].decode("latin-1"))


# ── known by the app around ───────────────────────────────────────────────────────────────────────


def identifying(auth: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, None]]:
    """A dependency that asks the app's own dependency who sends the request."""

    found_by_app = Depends(auth)

    async def identify(request: Request, found: Any = found_by_app) -> None:
        name = _identity(found)
        if not name:
            raise HTTPException(401, "Log in first: this server must know who you are.")
        _check_page(request, served(request).origins)
        request.scope[USER_KEY] = Actor(name, Authentication.HOST, _known(found))

    return identify


def _identity(found: Any) -> str:
    """The name in what the app's dependency has found, "" for nobody. Raises `ConfigurationError`
    if it gives something else: that is the app's mistake."""
    if found is None:
        return ""
    name = found
    if isinstance(found, Mapping):
        name = found.get("identity")
    elif not isinstance(found, str):
        name = getattr(found, "identity", None)
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"Assent(auth=…) gave a {type(found).__name__} without a name. It should give a text "
            f"of at most {MAX_NAME} characters, a mapping with 'identity', an object with "
            ".identity, or None for nobody."
        )
    return name.strip()


def _known(found: Any) -> JsonObject:
    """What the app says of a person besides their name, as JSON. It is kept with their runs. Raises
    `ConfigurationError` if it is too much."""
    if not isinstance(found, Mapping):
        fields = {name: getattr(found, name, None) for name in ("display_name", "permissions")}
        found = {name: each for name, each in fields.items() if isinstance(each, str | list)}
    try:
        known: JsonObject = msgspec.to_builtins(
            {name: each for name, each in found.items() if name != "identity"}
        )
    except TypeError as error:
        raise ConfigurationError(
            f"Assent(auth=…) gave a mapping that is not JSON: {error}. Leave out what your agents "
            "need not see."
        ) from error
    if (size := len(encode_json(known))) > MAX_KNOWN_BYTES:
        raise ConfigurationError(
            f"Assent(auth=…) gave {size} bytes about a person, and at most {MAX_KNOWN_BYTES} are "
            "kept with their runs. Leave out what your agents need not see."
        )
    return known


def _check_page(request: Request, origins: Origins) -> None:
    """Raise 403 for a change that a page of another site asks for, or a WebSocket, by which it
    could ask for some. A browser sends cookies along with what any page asks, so they do not say
    that the user wants it."""
    scheme = request.headers.get("authorization", "").partition(" ")[0]
    only_reads = request.method in READING and not request.scope.get(HANDSHAKE)
    if only_reads or scheme.lower() == "bearer":
        return
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if origin is not None and origins.allow(origin):
        return
    is_own = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if site in ("same-origin", "none") or (site is None and is_own):
        return
    raise HTTPException(
        403,
        "A page of another site may change nothing here. "
        "If it is yours, name its origin in the setting cors_origins.",
    )
