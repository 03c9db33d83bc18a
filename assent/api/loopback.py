"""The names and addresses of this machine, as they are written."""

from __future__ import annotations

from functools import lru_cache

from starlette.datastructures import URL
from starlette.types import Scope

from assent.core.addresses import address_in

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


@lru_cache
def _is_loopback_address(host: str) -> bool:
    address = address_in(host)
    return address is not None and address.is_loopback
