"""The credential that a request comes with. What may be in a URL is cut out of it, so that nothing
that comes later, such as a line of a log, can have it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote_plus

from fastapi import Request
from starlette.exceptions import HTTPException

from assent.api.access.rules import Rule
from assent.api.streams.transport import Transport

TOKEN = "token"
TICKET = "ticket"
"""The parameters of a URL that may have a key, or a ticket."""

PROTOCOL = "assent"
KEY_PROTOCOL = "assent.key."
"""The subprotocol of our WebSockets, and the beginning of one that has a key, in base64url: a page
can choose no other header of a handshake."""


@dataclass(frozen=True, slots=True)
class Given:
    """A text by which the sender of a request shows who they are, and where it was. A ticket is for
    a stream of the `transport`."""

    how: Literal["ticket", "token", "protocol", "header"]
    text: str = field(repr=False)
    transport: Transport | None = None


def given_by(request: Request, rule: Rule) -> Given | None:
    """The credential of the request: its ticket, if the rule takes one; else a key among its
    subprotocols, that of its headers, or of its URL, where the rule takes one there."""
    token = _cut(request, TOKEN) if rule.token else []
    ticket = _cut(request, TICKET) if rule.ticket is not None else []
    protocols = _cut_keys(request) if rule.ticket is Transport.WEBSOCKET else []
    if ticket:
        return Given("ticket", ticket[0] if len(ticket) == 1 else "", rule.ticket)
    if protocols:
        return Given("protocol", protocols[0] if len(protocols) == 1 else "")
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, text = authorization.partition(" ")
        return Given("header", text.strip() if scheme.lower() == "bearer" else "")
    if (key := request.headers.get("x-api-key")) is not None:
        return Given("header", key.strip())
    if token:
        return Given("token", token[0] if len(token) == 1 else "")
    return None


def check_one_header(request: Request) -> None:
    """Raise 400 for two headers with a key. Two of one name are refused for every request, before
    (`check_head`)."""
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


def offers(request: Request) -> list[str]:
    """The subprotocols that the client of a WebSocket offers."""
    given = ",".join(request.headers.getlist("sec-websocket-protocol"))
    return [each.strip() for each in given.split(",") if each.strip()]


def _cut_keys(request: Request) -> list[str]:
    """Take the keys out of the subprotocols that the scope has. Returns them; one that is no
    base64url is an empty text."""
    offered = offers(request)
    keys = [each for each in offered if each.startswith(KEY_PROTOCOL)]
    if keys:
        left = ", ".join(each for each in offered if each not in keys).encode()
        others = [each for each in request.scope["headers"] if each[0].lower() != _PROTOCOLS]
        request.scope["headers"] = [*others, (_PROTOCOLS, left)]
    return [_decoded(each.removeprefix(KEY_PROTOCOL)) for each in keys]


_PROTOCOLS = b"sec-websocket-protocol"


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()
    except ValueError:
        return ""


def _values(query: bytes) -> Iterator[str]:
    for _, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        yield value


def _name_in(part: bytes) -> str:
    """The name of the parameter in a part of a query."""
    return unquote_plus(part.partition(b"=")[0].decode("latin-1"))
