"""The server itself: its agents, its streams, its files, what it tells people, and its audit
chain."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from assent.api.shapes.common import Time
from assent.api.streams.transport import Transport
from assent.core.audit import AuditAction, Authentication
from assent.core.json import JsonObject
from assent.core.rows import NotificationStatus


class Health(TypedDict):
    """The server lives, or can take requests."""

    status: Literal["healthy", "ready"]
    timestamp: Time
    version: str


class InfoView(TypedDict):
    """What LangGraph's clients ask a server first. Of the `flags`, those that are false are of
    things that only LangSmith has."""

    version: str
    langgraph_py_version: str
    flags: dict[str, bool]
    host: JsonObject


class Ok(TypedDict):
    """The server can take requests."""

    ok: bool


class ToolOfAgent(TypedDict):
    """A tool, whether people must agree to its calls, and the JSON Schema of its arguments."""

    name: str
    description: str
    needs_approval: bool
    schema: JsonObject | None


class AgentView(TypedDict):
    """An agent: with its tools if Assent built it, else with its nodes."""

    agent: str
    description: str | None
    tools: NotRequired[list[ToolOfAgent]]
    chat_decisions: NotRequired[bool]
    nodes: NotRequired[list[str]]


class Agents(TypedDict):
    """The agents of the server."""

    agents: list[AgentView]


class NodeView(TypedDict):
    """A node of a graph. The graph always pauses on the sides of it that `pauses` has; whether its
    code asks somebody besides cannot be seen. `tools` are those that it calls."""

    id: str
    kind: Literal["start", "end", "node", "subgraph"]
    pauses: list[Literal["before", "after"]]
    tools: list[str]


class EdgeView(TypedDict):
    """An edge. One that is `conditional` is taken as the graph's code says, by the name `label` if
    it has one."""

    source: str
    target: str
    conditional: bool
    label: str | None


class GraphView(TypedDict):
    """A graph: with an empty `path` that of the agent, else the subgraph that is in the last of
    these nodes, within the graph of those before it."""

    path: list[str]
    nodes: list[NodeView]
    edges: list[EdgeView]


class AgentGraphs(TypedDict):
    """The graphs of an agent, its own first."""

    agent: str
    graphs: list[GraphView]


# ── files ─────────────────────────────────────────────────────────────────────────────────────────


class FileView(TypedDict):
    """What is known of a file."""

    file_id: str
    name: str
    mime_type: str
    size: int
    sha256: str
    owner: str
    created_at: Time


# ── notifications ─────────────────────────────────────────────────────────────────────────────────


class NotificationView(TypedDict):
    """A notification, without its data."""

    notification_id: str
    endpoint: str
    event: str
    thread_id: str
    approval_id: str
    run_id: str
    status: NotificationStatus
    attempts: int
    last_error: str | None
    created_at: Time
    next_at: Time | None
    delivered_at: Time | None


class NotificationWithData(NotificationView):
    """A notification with its data."""

    data: JsonObject


class NotificationsPage(TypedDict):
    """Notifications, and the cursor of the next page."""

    notifications: list[NotificationView]
    next: str | None


# ── the audit chain ───────────────────────────────────────────────────────────────────────────────


class AuditView(TypedDict):
    """A record of the audit chain: all that is signed, and the `mac`. Without tenants it has
    none."""

    number: int
    at: Time
    action: AuditAction
    actor: str
    authentication: Authentication
    thread_id: str
    approval_id: str
    run_id: str
    digest: str
    policy: str
    detail: JsonObject
    key: str
    mac: str
    tenant: NotRequired[str]


class AuditPage(TypedDict):
    """Records of the chain, and the cursor of the next page."""

    audit: list[AuditView]
    next: str | None


class Head(TypedDict):
    """The last record's number, mac, key and time."""

    number: int
    mac: str
    key: str
    at: Time


class AuditHeadView(TypedDict):
    """The head of the chain, if it has a record."""

    head: Head | None


class BrokenRecord(TypedDict):
    """The first record that is not as it was written, and a sentence that says what is wrong."""

    number: int
    sentence: str


class AuditVerification(TypedDict):
    """What was found of the chain: its last record that is right, the first that is wrong, and how
    many were signed with keys that the server does not have, by key."""

    head: Head | None
    broken: BrokenRecord | None
    unchecked: dict[str, int]


# ── streams ───────────────────────────────────────────────────────────────────────────────────────


class ConnectionView(TypedDict):
    """An open stream, and how far its reader is."""

    connection_id: str
    transport: Transport
    thread_id: str | None
    feed: str | None
    dialect: str
    user: str
    client: str
    since: Time
    last_activity: Time
    cursor: int
    acked: int | None
    lag_seconds: float
    unsent_bytes: int | None


class ConnectionsPage(TypedDict):
    """Open streams, and the cursor of the next page."""

    connections: list[ConnectionView]
    next: str | None


class BroadcastSent(TypedDict):
    """What was told to so many readers. `seq` is the number of the event on the thread."""

    reached: int
    thread_id: str | None
    seq: int | None


class QuerySocketTimes(TypedDict):
    """The times of an open query socket."""

    connected_at: Time
    last_activity: Time


class QuerySocketView(TypedDict):
    """An open query socket."""

    connection_id: str
    metadata: QuerySocketTimes


class QuerySockets(TypedDict):
    """The query sockets that are open."""

    active_connections: int
    connections: list[QuerySocketView]


class QueryBroadcastSent(TypedDict):
    """What was told to so many readers."""

    status: Literal["sent"]
    recipients: int


class ForeignEvents(TypedDict):
    """Events in the form of the dialect."""

    events: list[JsonObject]


class Updates(TypedDict):
    """The updates of a task, and when the first and the last were."""

    updates: int
    first: str
    last: str


class ProgressSummary(TypedDict):
    """All updates, and those of each agent's tasks."""

    updates: int
    agents: dict[str, dict[str, Updates]]
