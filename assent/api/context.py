"""The server behind a request, whose scope says which one it is: an app may have several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import Request
from langgraph.store.base import BaseStore
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
from assent.notify.slack import Slack
from assent.runs.metrics import Metrics
from assent.runs.security_events import Refusals
from assent.runs.service import Runs

if TYPE_CHECKING:
    from assent.api.access.opening import SignIns
    from assent.api.access.project_auth import ProjectAuth

    # It needs an extra, and is there only where traces are asked for.
    from assent.runs.traces import Traces

SCOPE_KEY = "assent"
"""The name in a request's scope of its server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """All that requests need of a server, from its start to its end."""

    program: Runs
    """The runs of everybody. A route gets those that the sender sees (`TheRuns`)."""
    dispatcher: Dispatcher
    links: LinkKey | None
    link_issuers: tuple[str, ...]
    access: Access
    """Says who sends a request."""
    sign_ins: SignIns | None
    """The ways in which people are known, if there are any here."""
    project_auth: ProjectAuth | None = None
    origins: Origins
    """The origins whose pages may send requests."""
    proxies: Proxies
    """Those that are trusted to say for whom they ask."""
    is_behind_tls: bool
    """True if the server's public address says so."""
    limiting: Limiting | None
    """Says how often somebody may ask. On a server that knows nobody, nothing does."""
    refusals: Refusals
    """Notes what is refused."""
    store: BaseStore
    """What agents keep beyond their threads, if they have no store of their own."""
    descriptions: Mapping[str, str]
    """The purposes of agents, by their names, where a langgraph.json describes them."""
    connections: Connections
    encoders: Encoders
    heartbeat: float
    """A stream on which nothing was sent for so many seconds shows that it is alive."""
    idle_sockets: float
    """A query socket on which nothing was asked for so many seconds is closed."""
    metrics: Metrics
    traces: Traces | None
    slack: Slack | None = None
    """The app in Slack that sends what people click there."""
    asking: NamedLocks = field(default_factory=NamedLocks)
    """Queries on one thread begin one after the other."""

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
