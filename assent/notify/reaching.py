"""HTTP requests of the server itself, sent only to addresses that are allowed.

A name is resolved once, all of its addresses are checked, and the connection goes to one of them:
it does not matter if the name leads elsewhere a moment later. No proxy and no redirect is followed.
An answer has 15 seconds in all, and no more of it is read than was asked for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

import httpx

from assent.core.addresses import (
    ANYWHERE,
    DEFAULT_PORTS,
    Egress,
    effective,
    is_public,
    is_receiver,
)
from assent.core.errors import ConfigurationError

TOTAL_SECONDS = 15.0

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host and a port to addresses. Raises `OSError` if there are none."""


class NotReached(Exception):
    """There was no answer, or nothing may be sent there. The text is a sentence without
    secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An address to send requests to. `allow_private` permits a private network; `allow_http`
    permits this machine, without TLS. Raises `ConfigurationError` for what is no such URL."""

    url: str = field(repr=False)
    allow_private: bool = False
    allow_http: bool = False

    def __post_init__(self) -> None:
        _check_url(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, and as much of its body as was asked for: all of it, if it `is_whole`."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    is_whole: bool

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(eq=False)
class Reach:
    """Sends requests to where the rules of addresses and the `egress` let them. Made by `open`."""

    egress: Egress
    _transport: httpx.AsyncBaseTransport
    _resolve: Resolve
    _total_seconds: float

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        egress: Egress = ANYWHERE,
        resolve: Resolve | None = None,
        transport: httpx.AsyncHTTPTransport | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> AsyncIterator[Reach]:
        """Send until the context is left. Tests pass a resolver, a transport that trusts their
        certificates, or less time."""
        async with transport or _LateTransport() as opened:
            yield cls(egress, opened, resolve or resolve_by_system, total_seconds)

    async def request(
        self,
        method: str,
        to: Destination,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        most: int,
    ) -> Answer:
        """The answer, whatever its status, with at most so many bytes of its body. Raises
        `NotReached`."""
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._request(method, to, headers or {}, body, most)
        except TimeoutError:
            raise NotReached(f"It did not answer within {self._total_seconds:g} seconds.") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise NotReached(f"The request failed ({type(error).__name__}).") from None

    async def _request(
        self, method: str, to: Destination, headers: Mapping[str, str], body: bytes, most: int
    ) -> Answer:
        url = httpx.URL(to.url)
        sent = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": "Assent",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **headers,
        }
        extensions = {}
        if url.scheme == "https":
            # The certificate is asked for, and checked, by the name and not by the address.
            extensions["sni_hostname"] = url.raw_host.decode("ascii")
        addresses = await self._addresses(url, to)
        for address in addresses:
            request = httpx.Request(
                method,
                url.copy_with(host=address),
                headers=sent,
                content=body,
                extensions=extensions,
            )
            try:
                return await self._answer(request, most)
            except httpx.ConnectError:
                # Nothing was sent yet. This machine may have no route to addresses of this kind.
                if address is addresses[-1]:
                    raise
        raise AssertionError("A name without an address was refused before.")

    async def _answer(self, request: httpx.Request, most: int) -> Answer:
        # A client would log the URL, which may hold a secret of the receiver's. The transport does
        # not.
        response = await self._transport.handle_async_request(request)
        try:
            body, is_whole = await _read(response, most)
        finally:
            await response.aclose()
        return Answer(
            status=response.status_code, headers=response.headers, body=body, is_whole=is_whole
        )

    async def _addresses(self, url: httpx.URL, to: Destination) -> list[str]:
        """The addresses of the URL's name. Raises `NotReached` if one of them is not allowed."""
        host = url.raw_host.decode("ascii").strip("[]")
        port = url.port or DEFAULT_PORTS[url.scheme]
        try:
            addresses = list(dict.fromkeys(await self._resolve(host, port)))
        except (OSError, UnicodeError):
            raise NotReached("Its name could not be resolved.") from None
        if not addresses:
            raise NotReached("Its name has no address.")
        check_addresses(addresses, to)
        if not self.egress.allows(url.scheme, host, port, addresses):
            raise NotReached(
                "This server may open no connection to it. "
                "If it is meant to, list its host in ASSENT_EGRESS."
            )
        return addresses


class _LateTransport(httpx.AsyncBaseTransport):
    """A transport that is made for the first request: it reads the certificates of all authorities,
    for 40 ms, and most servers send nothing."""

    def __init__(self) -> None:
        self._made: httpx.AsyncHTTPTransport | None = None
        self._making = asyncio.Lock()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(_transport)
        return await self._made.handle_async_request(request)

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()


def _transport() -> httpx.AsyncHTTPTransport:
    # Connections are made to addresses. One that is kept alive could be taken for another name's at
    # the same address.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncHTTPTransport(trust_env=False, limits=limits)


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as this machine resolves it."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def _read(response: httpx.Response, most: int) -> tuple[bytes, bool]:
    """The body, or so much of it, and whether that is all of it."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            return bytes(body[:most]), False
    return bytes(body), True


def check_addresses(addresses: Iterable[str], to: Destination) -> None:
    """Raises `NotReached` unless all of these addresses may be sent to."""
    reached = [effective(ip_address(address)) for address in addresses]
    on_this_machine = all(address.is_loopback for address in reached)
    if to.url.lower().startswith("http:"):
        if not on_this_machine:
            raise NotReached("Without TLS, nothing is sent to another machine. Use https.")
        return
    if on_this_machine and to.allow_http:
        return
    if not all(is_receiver(address) for address in reached):
        raise NotReached(
            "Its name leads to an address at which nobody receives: "
            "link-local, multicast, or a cloud's metadata."
        )
    if not to.allow_private and not all(is_public(address) for address in reached):
        raise NotReached(
            "Its name leads into a private network. "
            "If it is meant to be there, set 'allow_private' for it."
        )


def _check_url(to: Destination) -> None:
    try:
        url = httpx.URL(to.url)
    except httpx.InvalidURL:
        raise ConfigurationError(
            "Its URL is invalid. Write it as https://example.com/path."
        ) from None
    if not url.host:
        raise ConfigurationError("Its URL names no host. Write it as https://example.com/path.")
    if url.userinfo:
        raise ConfigurationError("Its URL has a user in it. Leave that out.")
    if url.scheme != "https" and not (url.scheme == "http" and to.allow_http):
        raise ConfigurationError(
            f"Its URL begins with '{url.scheme}:'. Use https; "
            "or, for one on this machine during development, set 'allow_http'."
        )


# ── parts of a URL, as a request to it is made ────────────────────────────────────────────────────

Origin = tuple[str, str, int]
"""Scheme, host and port."""


def origin_of(text: str) -> Origin | None:
    """The origin of a URL; None if it is none."""
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii").lower().removesuffix(".")
    except (httpx.InvalidURL, UnicodeError):
        return None
    if not host or url.scheme not in DEFAULT_PORTS:
        return None
    return url.scheme, host, url.port or DEFAULT_PORTS[url.scheme]


def has_path(text: str) -> bool:
    """True if the URL has more behind its origin than a slash."""
    return httpx.URL(text).raw_path != b"/"
