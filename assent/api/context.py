"""The server behind a request, and the URLs that its answers name.

The server may stand at the root, be mounted in another app, or be a router of one. So a request
says whose it is, and its own path says under which prefix the other paths are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import Request
from starlette.types import Scope

from assent.api.access.identity import Access
from assent.api.access.limiting import Limiting
from assent.api.cors import Origins
from assent.api.proxies import Proxies
from assent.api.streams.connections import Connections
from assent.api.streams.encoder import Encoders
from assent.core.errors import Conflict, Unavailable
from assent.core.locks import NamedLocks
from assent.notify.delivery import Dispatcher
from assent.notify.links import LinkKey
from assent.runs.metrics import Metrics
from assent.runs.security_events import Refusals
from assent.runs.service import Runs

if TYPE_CHECKING:
    from assent.api.access.opening import SignIns
    from assent.api.access.project_auth import ProjectAuth

    # It needs an extra, and is there only where traces are asked for.
    from assent.runs.traces import Traces

SCOPE_KEY = "assent"
"""Where the scope of a request has its server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """All that requests need of a server, from its start to its end. `descriptions` say what its
    agents are for, by name, where a langgraph.json does. `access` says who sends a request, and
    pages of the `origins` may; `sign_ins` are the ways in which people are known, if there are any.
    A stream on which nothing was sent for `heartbeat` seconds shows that it is alive, and a query
    socket on which nothing is asked for `idle_sockets` seconds is closed. Whoever asks on a thread
    is `asking` there, one after the other. It `is_behind_tls` if its public address says so, and
    takes the word of some `proxies`. `limiting` says how often somebody may ask; on a server that
    knows nobody, nothing does.
    What is refused is noted in the `refusals`.

    The `program` has the runs of everybody. A route gets those that the sender sees (`TheRuns`).
    """

    program: Runs
    dispatcher: Dispatcher
    links: LinkKey | None
    access: Access
    project_auth: ProjectAuth | None = None
    sign_ins: SignIns | None
    link_issuers: tuple[str, ...]
    descriptions: Mapping[str, str]
    origins: Origins
    connections: Connections
    encoders: Encoders
    metrics: Metrics
    traces: Traces | None
    heartbeat: float
    idle_sockets: float
    is_behind_tls: bool
    limiting: Limiting | None
    refusals: Refusals
    proxies: Proxies
    asking: NamedLocks = field(default_factory=NamedLocks)

    @property
    def knows_nobody(self) -> bool:
        """True if anybody may ask, so that only those on this machine are let in."""
        return self.access.knows_nobody


def served(request: Request) -> Served:
    """The server that the request is for. Raises `Unavailable` before it has started, and after its
    end."""
    found: Served | None = request.scope.get(SCOPE_KEY)
    if found is None:
        raise Unavailable("The server is starting, or has stopped.")
    return found


def sign_ins_of(request: Request) -> SignIns:
    """The ways in which people are known on the server that the request is for. Raises `Conflict`
    if there are none."""
    sign_ins = served(request).sign_ins
    if sign_ins is None:
        raise Conflict(
            "This server keeps no keys: it knows nobody, or the app that it is a part of says who "
            "asks. Make a first key with assent keys create while it is stopped."
        )
    return sign_ins


def is_over_tls(scope: Scope) -> bool:
    """True if people reach the server over HTTPS, themselves or by a proxy."""
    server: Served | None = scope.get(SCOPE_KEY)
    by_proxy = server is not None and server.is_behind_tls
    return by_proxy or scope.get("scheme") in ("https", "wss")


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
