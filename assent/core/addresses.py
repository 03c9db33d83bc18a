"""Addresses that the server itself may open a connection to, as pure rules.

Some are refused wherever they turn up: nobody receives there, or a cloud hands out secrets. Of the
others an operator may list the few that are needed (`Egress`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from assent.core.errors import ConfigurationError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def address_in(text: str) -> Address | None:
    """The address in the text; that of IPv4, if IPv6 only stands for one, as where one socket takes
    both. None if it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


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


def is_public(address: Address) -> bool:
    """True if the address is in no private network."""
    return address.is_global and not any(address in network for network in _PRIVATE)


def is_receiver(address: Address) -> bool:
    """True if somebody may receive at the address, in whatever network."""
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


# ── the operator's list ───────────────────────────────────────────────────────────────────────────

Permits = Callable[[str, int, Sequence[str]], bool]
"""Says of a host, a port and the addresses that the name leads to if a connection may be opened."""

DEFAULT_PORTS = {"https": 443, "http": 80}

_CHANNEL = re.compile(r"apprise:([a-z][a-z0-9+.-]*)")
_HOST = re.compile(r"(?P<any>\*\.)?(?P<name>[a-z0-9_-]+(\.[a-z0-9_-]+)*)\.?(:(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class _Host:
    """A name, or with `below` every name below it, at one port; without a port, at the one that its
    scheme has by itself."""

    name: str
    below: bool
    port: int | None

    def permits(self, scheme: str, host: str, port: int) -> bool:
        is_named = host.endswith(f".{self.name}") if self.below else host == self.name
        return is_named and port == (self.port or DEFAULT_PORTS.get(scheme))


@dataclass(frozen=True, slots=True)
class Egress:
    """The connections that the server may open. `listed` are hosts, networks and channels of
    Apprise, as `egress_from_texts` reads them; None permits all that the rules of addresses do.
    `permits` is asked besides, and may refuse more."""

    hosts: tuple[_Host, ...] = ()
    networks: tuple[Network, ...] = ()
    channels: frozenset[str] = frozenset()
    is_limited: bool = False
    permits: Permits | None = None

    def allows(self, scheme: str, host: str, port: int, addresses: Sequence[str]) -> bool:
        """True if a connection to the host, which has these addresses, may be opened."""
        name = host.lower().removesuffix(".")
        if self.is_limited and not self._is_listed(scheme, name, port, addresses):
            return False
        return self.permits is None or self.permits(name, port, addresses)

    def allows_channel(self, schemes: Iterable[str]) -> bool:
        """True if Apprise may be used for a service that has these schemes."""
        return not self.is_limited or not self.channels.isdisjoint(schemes)

    def _is_listed(self, scheme: str, host: str, port: int, addresses: Sequence[str]) -> bool:
        if any(each.permits(scheme, host, port) for each in self.hosts):
            return True
        reached = [effective(ip_address(address)) for address in addresses]
        return bool(reached) and all(self._is_in_network(address) for address in reached)

    def _is_in_network(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


ANYWHERE = Egress()


def egress_from_texts(texts: Iterable[str]) -> Egress:
    """The list of `hooks.example.com`, `*.corp.example:8443`, `10.1.0.0/16` and `apprise:slack`.
    Raises `ConfigurationError` for what is none of these."""
    hosts: list[_Host] = []
    networks: list[Network] = []
    channels: set[str] = set()
    for text in texts:
        written = text.lower()
        if channel := _CHANNEL.fullmatch(written):
            channels.add(channel[1])
        elif network := _network(written):
            networks.append(network)
        elif host := _host(written):
            hosts.append(host)
        else:
            raise ConfigurationError(
                f"'{text}' is nothing that a connection could go to: write a host "
                "(hooks.example.com, *.corp.example:8443), a network (10.1.0.0/16) or a channel "
                "(apprise:slack); names with other letters in their ASCII form (xn--…)."
            )
    return Egress(tuple(hosts), tuple(networks), frozenset(channels), is_limited=True)


def _network(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _host(text: str) -> _Host | None:
    # The word for an empty list stands alone.
    found = _HOST.fullmatch(text) if text != "none" else None
    # A name that ends in digits alone would be read as an address, in one of many spellings.
    if found is None or found["name"].rpartition(".")[2].isdecimal():
        return None
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 1 << 16:
        return None
    return _Host(found["name"], found["any"] is not None, port)
