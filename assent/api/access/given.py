"""The credential that a request comes with. What may be in a URL is cut out of it, so that nothing
that comes later, such as a line of a log, can have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, unquote_plus

from fastapi import Request
from starlette.exceptions import HTTPException

from assent.api.access.rules import Rule

TOKEN = "token"
"""The parameter of a URL that may have a key."""

ONCE = ("authorization", "x-api-key", "host")
"""Headers that a request has at most once: of two, nobody knows which one a proxy has read."""


class Given(NamedTuple):
    """A text by which the sender of a request shows who they are, and where it was."""

    how: Literal["token", "header"]
    text: str


def given_by(request: Request, rule: Rule, *, check: bool) -> Given | None:
    """The credential of the request: that of its headers, if they have one, else that of its URL,
    if the rule takes one there. With `check`, raises 400 for a header that is there twice."""
    if check:
        _check_once(request)
    token = _cut(request, TOKEN) if rule.token else []
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, text = authorization.partition(" ")
        return Given("header", text.strip() if scheme.lower() == "bearer" else "")
    if (key := request.headers.get("x-api-key")) is not None:
        return Given("header", key.strip())
    if token:
        return Given("token", token[0] if len(token) == 1 else "")
    return None


def _check_once(request: Request) -> None:
    for name in ONCE:
        if len(request.headers.getlist(name)) > 1:
            raise HTTPException(400, f"The request has the header '{name}' more than once.")
    if "authorization" in request.headers and "x-api-key" in request.headers:
        raise HTTPException(400, "Send 'Authorization' or 'X-Api-Key', and not both.")


def _cut(request: Request, name: str) -> list[str]:
    """Take the parameter out of the URL that the scope has. Returns its values."""
    query: bytes = request.scope["query_string"]
    parts = query.split(b"&")
    cut = [part for part in parts if _name_in(part) == name]
    if cut:
        request.scope["query_string"] = b"&".join(part for part in parts if part not in cut)
    return list(_values(b"&".join(cut)))


def _values(query: bytes) -> Iterator[str]:
    for _, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        yield value


def _name_in(part: bytes) -> str:
    """The name of the parameter in a part of a query."""
    return unquote_plus(part.partition(b"=")[0].decode("latin-1"))
