"""Our paths as clients have to ask for them.

The server may stand at the root, be mounted in another app, or be a router of one. So a request's
own path says under which prefix the others are.
"""

from __future__ import annotations

from urllib.parse import quote

from fastapi import Request
from starlette.types import Scope


def url(request: Request, path: str) -> str:
    """The path as clients of this server have to ask for it."""
    return prefix_of(request) + path


def prefix_of(request: Request) -> str:
    """The part of the request's URL under which our paths are: "" at the root."""
    prefix = inner_prefix(request.scope)
    outer: str = request.scope.get("root_path", "").rstrip("/")
    # A proxy may have taken a prefix off the path. Then only the scope has it.
    if outer and not f"{prefix}/".startswith(f"{outer}/"):
        prefix = outer + prefix
    return quote(prefix)


def inner_prefix(scope: Scope) -> str:
    """The part of the path under which our paths are, as the app around us sees it."""
    own_segments = scope["route"].own_path.count("/")
    prefix: str = scope["path"].rsplit("/", own_segments)[0]
    return prefix


def own_path_of(request: Request) -> str:
    """The request's path without the prefix."""
    own_segments = request.scope["route"].own_path.count("/")
    return "/" + "/".join(request.scope["path"].rsplit("/", own_segments)[1:])
