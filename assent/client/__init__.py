"""The client of a server: `Client` for asyncio, `SyncClient` without.

It needs no part of Assent but `assent.core`, so it can be installed without the server.
"""

from assent.client.aio import Client
from assent.client.aio_socket import ThreadSocket
from assent.client.problems import ServerFailed, Unauthorized, Unreachable
from assent.client.sync import SyncClient
from assent.client.sync_socket import SyncThreadSocket
from assent.client.values import (
    Agent,
    ApiKey,
    AuditRecord,
    AuditVerification,
    DecisionLink,
    EditPreview,
    EventPage,
    File,
    Grant,
    Health,
    Heard,
    Link,
    MadeApiKey,
    Me,
    OneOutcome,
    OpenStream,
    Outcome,
    RevokedKeys,
    Run,
    RunResult,
    Schedule,
    ShownApproval,
    SomeEvent,
    State,
    Thread,
    Told,
    UnknownEvent,
    WrittenState,
)

__all__ = [
    "Agent",
    "ApiKey",
    "AuditRecord",
    "AuditVerification",
    "Client",
    "DecisionLink",
    "EditPreview",
    "EventPage",
    "File",
    "Grant",
    "Health",
    "Heard",
    "Link",
    "MadeApiKey",
    "Me",
    "OneOutcome",
    "OpenStream",
    "Outcome",
    "RevokedKeys",
    "Run",
    "RunResult",
    "Schedule",
    "ServerFailed",
    "ShownApproval",
    "SomeEvent",
    "State",
    "SyncClient",
    "SyncThreadSocket",
    "Thread",
    "ThreadSocket",
    "Told",
    "Unauthorized",
    "UnknownEvent",
    "Unreachable",
    "WrittenState",
]
