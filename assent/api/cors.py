"""Pages of other origins that may use the server from a browser."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import URL, Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from assent.api.access.headers import secured
from assent.api.loopback import is_loopback

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")

REQUEST_HEADERS = (
    *("accept", "authorization", "content-type", "idempotency-key", "last-event-id"),
    "x-api-key",
)

RESPONSE_HEADERS = (
    *("Location", "Content-Location", "X-Thread-Id", "X-Run-Id", "Retry-After"),
    *("X-Pagination-Next", "X-Pagination-Total", "X-Heartbeat", "Date"),
)

PREFLIGHT_SECONDS = 600
"""The time for which a browser need not ask again."""

_LOOPBACK = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins whose pages may use the server: those `listed`, those that the whole of the
    `pattern` matches, and with `loopback` those of this machine, at any port."""

    listed: tuple[str, ...] = ()
    pattern: str | None = None
    loopback: bool = False

    def allow(self, origin: str) -> bool:
        """True if pages of the origin may."""
        if self.loopback and is_loopback(URL(origin)):
            return True
        matches = self.pattern is not None and re.fullmatch(self.pattern, origin)
        return origin in self.listed or bool(matches)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The app, telling browsers which pages may use it. A preflight takes no key: browsers send
        none with it."""
        patterns = [self.pattern, _LOOPBACK if self.loopback else None]
        pattern = "|".join(f"(?:{each})" for each in patterns if each is not None)
        if not self.listed and not pattern:
            return app
        return _Cors(
            app,
            allow_origins=self.listed,
            allow_origin_regex=pattern or None,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=RESPONSE_HEADERS,
            max_age=PREFLIGHT_SECONDS,
        )


class _Cors(CORSMiddleware):
    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        return secured(response, over_tls=False)
