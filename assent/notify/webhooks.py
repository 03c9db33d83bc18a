"""Signed webhooks (https://www.standardwebhooks.com), sent only to addresses that are allowed.

A receiver's name is resolved once, all of its addresses are checked, and the connection goes to one
of them: it does not matter if the name leads elsewhere a moment later. No proxy and no redirect is
followed. A receiver has 15 seconds in all, and no more than 64 KiB of its answer are read.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx
from standardwebhooks.webhooks import Webhook

from assent.core.errors import ConfigurationError
from assent.notify.notifier import NotDelivered

TOTAL_SECONDS = 15.0
MAX_ANSWER_BYTES = 64 * 1024

MIN_SECRET_BYTES = 24
"""The minimum of Standard Webhooks."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host and a port to addresses. Raises `OSError` if there are none."""

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The receiver of webhooks. Each of `secrets` signs, the newest first, so that a receiver needs
    to know only one of them.

    `allow_private` permits a private network; `allow_http` permits this machine, without TLS.
    """

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    allow_private: bool = False
    allow_http: bool = False

    def __post_init__(self) -> None:
        _check_url(self)
        if not self.secrets:
            raise ConfigurationError(
                "A webhook has no secret, so nobody could tell who sent it. "
                "Give it one: 'whsec_' and base64."
            )
        for secret in self.secrets:
            _signer(secret)


@dataclass(eq=False)
class WebhookSender:
    """Sends webhooks to one target. Made by `open`."""

    _target: Target
    _transport: httpx.AsyncHTTPTransport
    _resolve: Resolve
    _total_seconds: float

    def __post_init__(self) -> None:
        self._url = httpx.URL(self._target.url)
        self._signers = [_signer(secret) for secret in self._target.secrets]

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        target: Target,
        *,
        resolve: Resolve | None = None,
        transport: httpx.AsyncHTTPTransport | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> AsyncIterator[WebhookSender]:
        """Send until the context is left. Tests pass a resolver, a transport that trusts their
        certificates, or less time."""
        # Connections are made to addresses. One that is kept alive could be taken for another
        # name's at the same address.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with transport or httpx.AsyncHTTPTransport(trust_env=False, limits=limits) as opened:
            yield cls(target, opened, resolve or resolve_by_system, total_seconds)

    async def send(self, id: str, body: bytes, now: datetime) -> None:
        """Send the body. By the `id` a receiver recognises a repetition. Raises `NotDelivered`."""
        try:
            async with asyncio.timeout(self._total_seconds):
                await self._send(id, body, now)
        except TimeoutError:
            raise NotDelivered(
                f"It did not answer within {self._total_seconds:g} seconds."
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise NotDelivered(f"The request failed ({type(error).__name__}).") from None

    async def _send(self, id: str, body: bytes, now: datetime) -> None:
        text = body.decode()
        signatures = [signer.sign(msg_id=id, timestamp=now, data=text) for signer in self._signers]
        headers = {
            "Host": self._url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": "Assent",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "webhook-id": id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        addresses = await self._addresses()
        for address in addresses:
            try:
                await self._post(address, headers, body)
                return
            except httpx.ConnectError:
                # Nothing was sent yet. This machine may have no route to addresses of this kind.
                if address is addresses[-1]:
                    raise

    async def _post(self, address: str, headers: dict[str, str], body: bytes) -> None:
        extensions = {}
        if self._url.scheme == "https":
            # The certificate is asked for, and checked, by the name and not by the address.
            extensions["sni_hostname"] = self._url.raw_host.decode("ascii")
        request = httpx.Request(
            "POST",
            self._url.copy_with(host=address),
            headers=headers,
            content=body,
            extensions=extensions,
        )
        # A client would log the URL, which may hold a secret of the receiver's. The transport does
        # not.
        response = await self._transport.handle_async_request(request)
        try:
            await _read_some(response)
        finally:
            await response.aclose()
        if not response.is_success:
            raise NotDelivered(f"It answered with status {response.status_code}.")

    async def _addresses(self) -> list[str]:
        """The addresses of the target's name. Raises `NotDelivered` if one of them is not
        allowed."""
        host = self._url.raw_host.decode("ascii").strip("[]")
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        try:
            addresses = list(dict.fromkeys(await self._resolve(host, port)))
        except (OSError, UnicodeError):
            raise NotDelivered("Its name could not be resolved.") from None
        if not addresses:
            raise NotDelivered("Its name has no address.")
        check_addresses(addresses, self._target)
        return addresses


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as this machine resolves it."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def _read_some(response: httpx.Response) -> None:
    """Read enough of the answer for the receiver to finish, but no endless one."""
    seen = 0
    async for chunk in response.aiter_raw():
        seen += len(chunk)
        if seen > MAX_ANSWER_BYTES:
            return


# ── allowed addresses ─────────────────────────────────────────────────────────────────────────────


def check_addresses(addresses: Iterable[str], target: Target) -> None:
    """Raises `NotDelivered` unless the target may be reached at all of these addresses."""
    reached = [effective(ip_address(address)) for address in addresses]
    on_this_machine = all(address.is_loopback for address in reached)
    if target.url.lower().startswith("http:"):
        if not on_this_machine:
            raise NotDelivered("Without TLS, nothing is sent to another machine. Use https.")
        return
    if on_this_machine and target.allow_http:
        return
    if not all(_is_receiver(address) for address in reached):
        raise NotDelivered(
            "Its name leads to an address at which nobody receives: "
            "link-local, multicast, or a cloud's metadata."
        )
    if not target.allow_private and not all(_is_public(address) for address in reached):
        raise NotDelivered(
            "Its name leads into a private network. "
            "If it is meant to be there, set 'allow_private' for it."
        )


def effective(address: Address) -> Address:
    """The address that is reached: IPv6 has several forms that may lead to an IPv4 address."""
    if isinstance(address, IPv4Address):
        return address
    if embedded := address.ipv4_mapped or address.sixtofour:
        return embedded
    compatible = address in _IPV4_COMPATIBLE and not (address.is_loopback or address.is_unspecified)
    if compatible or address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    return address.is_global and not any(address in network for network in _PRIVATE)


def _is_receiver(address: Address) -> bool:
    return not (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        # Compared by their bytes, because one may have a zone (`%eth0`).
        or address.packed in _METADATA
    )


_IPV4_COMPATIBLE = IPv6Network("::/96")
_NAT64 = IPv6Network("64:ff9b::/96")

_PRIVATE = (
    IPv4Network("192.0.0.0/24"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("fec0::/10"),
)
"""Private networks that not every Python knows: IETF protocol assignments, local NAT64, and the
site-local addresses that RFC 3879 deprecated."""

_METADATA = frozenset(
    ip_address(address).packed
    for address in (
        # AWS, Azure, Google and most others.
        "169.254.169.254",
        # Azure's WireServer.
        "168.63.129.16",
        # Alibaba.
        "100.100.100.200",
        # Oracle.
        "192.0.0.192",
        # Google, on machines with IPv6 only.
        "fd20:ce::254",
        # AWS.
        "fd00:ec2::254",
    )
)
"""Clouds hand out secrets here, some of them at addresses that look private or even public."""


# ── configuration ─────────────────────────────────────────────────────────────────────────────────


def _check_url(target: Target) -> None:
    try:
        url = httpx.URL(target.url)
    except httpx.InvalidURL:
        raise ConfigurationError(
            "A webhook's URL is invalid. Write it as https://example.com/path."
        ) from None
    if not url.host:
        raise ConfigurationError(
            "A webhook's URL names no host. Write it as https://example.com/path."
        )
    if url.userinfo:
        raise ConfigurationError(
            "A webhook's URL has a user in it. "
            "Leave that out: its signature tells the receiver who sent it."
        )
    if url.scheme != "https" and not (url.scheme == "http" and target.allow_http):
        raise ConfigurationError(
            f"A webhook's URL begins with '{url.scheme}:'. Use https; "
            "or, for one on this machine during development, set 'allow_http'."
        )


def _signer(secret: str) -> Webhook:
    # The messages do not quote the decoder's error, which might repeat the secret.
    try:
        key = base64.b64decode(secret.removeprefix("whsec_") + "==")
    except ValueError:
        raise ConfigurationError(
            "A webhook's secret is not base64. Write 'whsec_' and base64."
        ) from None
    if len(key) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"A webhook's secret has less than {MIN_SECRET_BYTES} bytes. "
            "Make one: whsec_$(openssl rand -base64 32)"
        )
    return Webhook(key)
