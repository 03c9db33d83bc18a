"""What the two clients share on their way to httpx: requests, answers, and tries. No I/O."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.request import getproxies

import httpx
import msgspec

from assent.client.calls import EVENTS, JSON, Again, Call
from assent.client.following import FIRST_PAUSE, TRIES
from assent.client.problems import (
    ServerFailed,
    Unreachable,
    error_of,
    may_pass,
    unreachable,
    wait_of,
)
from assent.client.values import Link
from assent.core.errors import AssentError, ConfigurationError

T = TypeVar("T")

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=10, keepalive_expiry=4)
"""As many connections as are asked for. Few are kept idle, because httpcore looks at all of them
for each request; and for less long than servers keep them, so that none is used as it closes."""

CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Wire:
    """The server's address, and what goes with each request."""

    url: str
    headers: Mapping[str, str]
    timeout: float
    trust_env: bool

    @classmethod
    def to(cls, url: str, key: str | None, timeout: float, *, trust_env: bool) -> Wire:
        """The way to this server. Raises `ConfigurationError` if it is no URL, or no key."""
        headers = {"Authorization": f"Bearer {_checked_key(key)}"} if key else {}
        return cls(_checked(url).rstrip("/"), headers, timeout, trust_env)

    def request(self, call: Call[Any], *, waits: float = 0.0) -> dict[str, Any]:
        """What httpx builds the request of, to which the server answers after so many seconds."""
        connect = min(CONNECT_SECONDS, self.timeout)
        return {
            "method": call.method,
            "url": self.url + call.path,
            "params": call.params or None,
            "headers": {"Accept": JSON, **self.headers, **call.headers},
            "content": call.body,
            "timeout": httpx.Timeout(waits + self.timeout, connect=connect),
        }

    def read(self, call: Call[T], response: httpx.Response) -> T:
        """The call's result. Raises what the server's answer is."""
        if not response.is_success:
            raise error_of(response.status_code, response.headers, response.content)
        try:
            return call.read(response.content)
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise ServerFailed(
                f"The server's answer to {call.method} {call.path} is none that this client "
                f"reads: {error}.",
                status=response.status_code,
            ) from error

    def lost(self, error: httpx.RequestError | AssentError) -> AssentError:
        """The error as one of ours."""
        return error if isinstance(error, AssentError) else unreachable(self.url, error)


def is_stream(response: httpx.Response) -> bool:
    """True for an answer that is events, or that there are none. Any other is an error, and has a
    body to be read."""
    kind = response.headers.get("content-type", "")
    return is_empty(response) or (response.status_code == 200 and kind.startswith(EVENTS))


def is_empty(response: httpx.Response) -> bool:
    """True for the answer that nothing more will come."""
    return response.status_code == 204


def refused(response: httpx.Response) -> AssentError:
    """The error that an answer is which is no stream."""
    return error_of(response.status_code, response.headers, response.content)


def expect_events(response: httpx.Response, seconds: float) -> None:
    """Read the body as a stream of events: in UTF-8, whatever its head says, and with so many
    seconds for each of its bytes. The request's time was for its answer's head, and httpx looks at
    it anew when the body is read."""
    response.encoding = "utf-8"
    timeout = response.request.extensions.get("timeout")
    if timeout is not None:
        timeout["read"] = seconds


def ignore_link(link: Link) -> None:
    """Do nothing at news of a stream's connection."""


class Tries:
    """The tries of one call."""

    def __init__(self, call: Call[Any], random: Callable[[], float]) -> None:
        self._again = call.again
        self._random = random
        self._tried = 0

    def failed(self, error: httpx.RequestError | AssentError, as_ours: AssentError) -> float:
        """The seconds before the next try. Raises the error if there is none."""
        self._tried += 1
        if not self._may_try(error, as_ours):
            raise as_ours
        if self._again is Again.READING:
            return 0.0
        pause = FIRST_PAUSE * self._tried * (1 - self._random() / 2)
        return max(pause, wait_of(as_ours))

    def _may_try(self, error: httpx.RequestError | AssentError, as_ours: AssentError) -> bool:
        match self._again:
            case Again.READING:
                # An idle connection may close just as it is used.
                broke = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
                return self._tried == 1 and broke and not isinstance(error, httpx.ConnectError)
            case Again.KEYED:
                return self._tried < TRIES and isinstance(as_ours, Unreachable)
            case Again.DECIDING:
                return self._tried < TRIES and may_pass(as_ours)
            case _:
                return False


def trusted(url: str, *, trust_env: bool) -> ssl.SSLContext | bool:
    """Whom httpx is to trust. Without TLS nobody: to read all certificates takes as long as many
    requests."""
    proxies = getproxies().values() if trust_env else ()
    if any(address.lower().startswith("https:") for address in (url, *proxies)):
        return True
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _checked(url: str) -> str:
    if _is_url(url):
        return url
    example = f"http://{url}" if "://" not in url and _is_url(f"http://{url}") else EXAMPLE
    raise ConfigurationError(f"'{url}' is not a URL. Write {example}.", parameter="url")


EXAMPLE = "http://127.0.0.1:8000"


def _checked_key(key: str) -> str:
    if key.isascii() and key.isprintable() and key == key.strip():
        return key
    # It is not repeated: it may be a secret but for one letter.
    raise ConfigurationError(
        "The key is none that a request can carry: write it in ASCII, without line breaks or "
        "spaces around it.",
        parameter="key",
    )


def _is_url(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)
