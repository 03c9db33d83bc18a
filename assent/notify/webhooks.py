"""Signed webhooks (https://www.standardwebhooks.com), sent to where they may be sent and to nowhere
else.

A receiver's name is resolved once, every address that it has is looked at, and the connection goes
to such an address: what the name says a moment later does not matter. No proxy and no redirect is
followed. A receiver has 15 seconds for everything, and of what it answers no more than 64 KiB are
read.
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
"""What Standard Webhooks asks for."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, for a port. Raises `OSError` if it has none."""

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where webhooks go. `secrets` sign each, so that a receiver who knows one of them is
    satisfied; the first is the newest.

    `allow_private` lets it be in a private network. `allow_http` lets it be on this machine,
    without TLS.
    """

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    allow_private: bool = False
    allow_http: bool = False

    def __post_init__(self) -> None:
        _check_url(self)
        if not self.secrets:
            raise ConfigurationError(
                "A webhook has no secret, so nobody could tell who sent it. Give it one: 'whsec_' and base64."
            )
        for secret in self.secrets:
            _signer(secret)


class WebhookSender:
    """Sends webhooks to one target. Made by `open`."""

    def __init__(
        self,
        target: Target,
        transport: httpx.AsyncHTTPTransport,
        resolve: Resolve,
        total_seconds: float,
    ) -> None:
        self._target = target
        self._url = httpx.URL(target.url)
        self._signers = [_signer(secret) for secret in target.secrets]
        self._transport = transport
        self._resolve = resolve
        self._total_seconds = total_seconds

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
        """Ready to send, until the context is left. A test passes in what names resolve to, a
        transport that trusts its certificates, or less time."""
        # Connections are made to addresses. One that is kept would be taken for another name's at
        # the same address.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with transport or httpx.AsyncHTTPTransport(trust_env=False, limits=limits) as opened:
            yield cls(target, opened, resolve or resolve_by_system, total_seconds)

    async def send(self, id: str, body: bytes, now: datetime) -> None:
        """Send it. `id` tells a receiver that was sent something before that it was. Raises
        `NotDelivered`."""
        try:
            async with asyncio.timeout(self._total_seconds):
                await self._send(id, body, now)
        except TimeoutError:
            raise NotDelivered(
                f"It did not answer within {self._total_seconds:g} seconds."
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise NotDelivered(f"It could not be asked ({type(error).__name__}).") from None

    async def _send(self, id: str, body: bytes, now: datetime) -> None:
        headers = {
            "Host": self._url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": "Assent",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "webhook-id": id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(
                signer.sign(msg_id=id, timestamp=now, data=body.decode())
                for signer in self._signers
            ),
        }
        addresses = await self._addresses()
        for address in addresses:
            try:
                await self._post(address, headers, body)
            except httpx.ConnectError:
                # Nothing was sent yet. The machine may have no way to addresses of this kind.
                if address is addresses[-1]:
                    raise
            else:
                return

    async def _post(self, address: str, headers: dict[str, str], body: bytes) -> None:
        # The transport, and not a client: that would log the URL, which may hold a secret of the
        # receiver's.
        request = httpx.Request(
            "POST",
            self._url.copy_with(host=address),
            headers=headers,
            content=body,
            # By this name the receiver is asked for its certificate, and the certificate is
            # checked.
            extensions={"sni_hostname": self._url.raw_host.decode("ascii")}
            if self._url.scheme == "https"
            else {},
        )
        response = await self._transport.handle_async_request(request)
        try:
            await _read_some(response)
        finally:
            await response.aclose()
        if not response.is_success:
            raise NotDelivered(f"It answered with status {response.status_code}.")

    async def _addresses(self) -> list[str]:
        """The name's addresses, if each of them may be connected to."""
        host, port = (
            self._url.raw_host.decode("ascii").strip("[]"),
            self._url.port or (443 if self._url.scheme == "https" else 80),
        )
        try:
            addresses = list(dict.fromkeys(await self._resolve(host, port)))
        except (OSError, UnicodeError):
            raise NotDelivered("Its name could not be resolved.") from None
        if not addresses:
            raise NotDelivered("Its name has no address.")
        if refused := why_not(addresses, self._target):
            raise NotDelivered(refused)
        return addresses


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """The name's addresses, as this machine resolves it."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


# ── where to ──────────────────────────────────────────────────────────────────────────────────────


def why_not(addresses: Iterable[str], target: Target) -> str | None:
    """Why nothing is sent to these addresses, as a sentence; None if something may be."""
    meant = [meaning(ip_address(address)) for address in addresses]
    on_this_machine = all(address.is_loopback for address in meant)
    if target.url.lower().startswith("http:"):
        return (
            None
            if on_this_machine
            else "Without TLS, nothing is sent to another machine. Use https."
        )
    if on_this_machine and target.allow_http:
        return None
    if not all(is_receiver(address) for address in meant):
        return "Its name leads to an address at which nobody receives: link-local, of a group, or a cloud's metadata."
    if target.allow_private or all(is_public(address) for address in meant):
        return None
    return "Its name leads into a private network. If it is meant to be there, set 'allow_private' for it."


def is_public(address: Address) -> bool:
    """Whether it is an address in the internet, and not one of this machine or of a private
    network."""
    return address.is_global and not any(address in network for network in _PRIVATE)


def is_receiver(address: Address) -> bool:
    """Whether something could be there that is meant to receive. Where a cloud tells its machines
    their secrets, nothing is."""
    return not (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address == _METADATA
    )


def meaning(address: Address) -> Address:
    """The address that is meant by it: an IPv4 address has several forms in IPv6, all of which may
    lead to it."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour or address
    compatible = address in _IPV4_COMPATIBLE and not (address.is_loopback or address.is_unspecified)
    return IPv4Address(int(address) & 0xFFFFFFFF) if compatible or address in _NAT64 else address


_IPV4_COMPATIBLE = IPv6Network("::/96")
_NAT64 = IPv6Network("64:ff9b::/96")

_PRIVATE = (IPv4Network("192.0.0.0/24"), IPv6Network("64:ff9b:1::/48"))
"""Private networks that not every Python knows: one for protocols, and a NAT64's own."""

_METADATA = IPv6Address("fd00:ec2::254")
"""The other one is link-local: 169.254.169.254."""


def _check_url(target: Target) -> None:
    try:
        url = httpx.URL(target.url)
    except httpx.InvalidURL:
        raise ConfigurationError(
            "A webhook's URL is none. Write it as https://example.com/path."
        ) from None
    if not url.host:
        raise ConfigurationError(
            "A webhook's URL names no host. Write it as https://example.com/path."
        )
    if url.userinfo:
        raise ConfigurationError(
            "A webhook's URL has a user in it. Leave that out: its signature tells the receiver who sent it."
        )
    if url.scheme != "https" and not (url.scheme == "http" and target.allow_http):
        raise ConfigurationError(
            f"A webhook's URL begins with '{url.scheme}:'. Use https; or, for one on this machine during development, set 'allow_http'."
        )


def _signer(secret: str) -> Webhook:
    # What was wrong is said without the text of the error, which might repeat the secret.
    try:
        key = base64.b64decode(secret.removeprefix("whsec_") + "==")
    except ValueError:
        raise ConfigurationError(
            "A webhook's secret is no base64. Write 'whsec_' and base64."
        ) from None
    if len(key) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"A webhook's secret has less than {MIN_SECRET_BYTES} bytes. Make one: whsec_$(openssl rand -base64 32)"
        )
    return Webhook(key)


async def _read_some(response: httpx.Response) -> None:
    """Read what the receiver says, so that it can finish, but not more than it needs for that."""
    seen = 0
    async for chunk in response.aiter_raw():
        seen += len(chunk)
        if seen > MAX_ANSWER_BYTES:
            return
