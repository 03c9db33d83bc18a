"""The names and addresses of this machine, as they are written."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from starlette.datastructures import URL
from starlette.types import Scope

IN_PROCESS = "testclient"
"""The address of Starlette's client within the process."""


def is_loopback(url: URL) -> bool:
    """True if the host is this machine as it is written, whatever a name server makes of it."""
    try:
        host = url.hostname or ""
    except ValueError:
        # It is no URL, as "http://[" is none.
        return False
    return host == "localhost" or _is_loopback_address(host)


def comes_from_loopback(scope: Scope) -> bool:
    """True if the client is on this machine."""
    client = scope.get("client")
    return client is not None and (client[0] == IN_PROCESS or _is_loopback_address(client[0]))


def _is_loopback_address(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback
