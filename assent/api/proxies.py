"""Proxies in front of the server that are trusted to tell who has asked them, and how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from assent.core.addresses import Address, Network, address_in

log = structlog.get_logger(__name__)

FOR = b"x-forwarded-for"
PROTO = b"x-forwarded-proto"


@dataclass(slots=True)
class Proxies:
    """The networks of trusted proxies. What others say of whom they ask for is ignored, and told
    once."""

    networks: Sequence[Network] = ()
    _has_told: bool = field(default=False, init=False)

    def look_behind(self, scope: Scope) -> None:
        """Have the scope say whose request it is, and how they came, if a trusted proxy says so."""
        told = [name for name, _ in scope["headers"] if name in (FOR, PROTO)]
        if not told:
            return
        peer = _peer(scope)
        if peer is None or not self._trusts(peer):
            self._tell(scope)
            return
        scope["client"] = (str(self._client(scope, peer)), 0)
        scheme = next((each for each in _values(scope, PROTO) if each in ("http", "https")), None)
        if scheme is not None:
            is_socket = scope["type"] == "websocket"
            scope["scheme"] = scheme.replace("http", "ws") if is_socket else scheme

    def _client(self, scope: Scope, peer: Address) -> Address:
        """The nearest address that is no trusted proxy's: those in front of it may say anything."""
        for value in _values(scope, FOR):
            address = _address(value)
            if address is None:
                break
            peer = address
            if not self._trusts(peer):
                break
        return peer

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self.networks)

    def _tell(self, scope: Scope) -> None:
        if self._has_told:
            return
        self._has_told = True
        client = scope.get("client")
        log.warning(
            "a proxy is not trusted, so what it says of its clients is ignored: name it in "
            "ASSENT_TRUSTED_PROXIES if it is yours",
            client=client[0] if client else "",
        )


@dataclass(frozen=True, slots=True)
class BehindProxies:
    """The app, behind the proxies."""

    app: ASGIApp
    proxies: Proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            self.proxies.look_behind(scope)
        await self.app(scope, receive, send)


def _peer(scope: Scope) -> Address | None:
    client = scope.get("client")
    return _address(client[0]) if client else None


def _values(scope: Scope, name: bytes) -> Iterator[str]:
    """The values of the header, the last first: each proxy adds its own at the end."""
    for each, value in reversed(scope["headers"]):
        if each == name:
            yield from (part.strip() for part in reversed(value.decode("latin-1").split(",")))


def _address(text: str) -> Address | None:
    """The address in the text, which may have a port. None for a name, or for nonsense."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return address_in(text.partition("%")[0])
