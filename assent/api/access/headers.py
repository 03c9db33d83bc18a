"""The headers by which a browser is told what our answers are for: none of them is a page that may
run scripts, load anything or stand in another page, unless it says so itself."""

from __future__ import annotations

from typing import Final, TypeVar

from starlette.responses import Response

NO_PAGE: Final = "default-src 'none'; frame-ancestors 'none'"

PAGE: Final = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""The policy of a page that runs no scripts."""

PAGE_WITH_SCRIPTS: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The policy of a page that runs scripts of ours, each from a file."""

WEB_PAGE: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""The policy of the web page. A script of its own that runs beside it has that of its file, so each
file has it."""

_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", NO_PAGE.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
)

_OVER_TLS: Final = (*_ALWAYS, (b"strict-transport-security", b"max-age=31536000"))

R = TypeVar("R", bound=Response)


def secured(response: R, *, over_tls: bool) -> R:
    """The response, with each of these headers that it has not itself."""
    own = {name for name, _ in response.raw_headers}
    added = _OVER_TLS if over_tls else _ALWAYS
    response.raw_headers.extend(each for each in added if each[0] not in own)
    return response
