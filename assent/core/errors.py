"""Every error that Assent raises on purpose, as one tree.

AssentError
├── ConfigurationError     the program is set up wrongly: fix the code or the settings
│   └── AgentLoadError     a user's graph could not be loaded; names the file and the cause
├── InvalidRequest         the request makes no sense; nothing was changed
│   ├── InvalidDecision    the decision does not fit its approval
│   ├── InvalidInput       the agent does not take this input, or nobody may send it
│   └── TooLarge           a file or a body has more bytes than are taken
├── Forbidden              the caller may not do this; nothing was changed
├── NotFound               no such thread, run, approval or agent
├── Gone                   it existed, and was removed for good
├── Conflict               the change was computed from an old state; read again
│   ├── ThreadBusy         a run is active on the thread
│   ├── ThreadPaused       the thread waits for decisions; has the pending approvals
│   ├── NothingPending     the thread waits for no decision
│   ├── AlreadyDecided     the approval is no longer pending; has who, what and when
│   ├── Superseded         the question was changed since it was shown; has the new one
│   └── StaleLease         the lease on the run was lost: stop writing for it
├── FilesFull              the uploads take all the room that they may; nothing was changed
├── QueueFull              too many runs wait already; try again later, nothing was changed
├── StreamsFull            too many streams are open; close some, or try again later
├── Tampered               stored data was changed from outside; its thread runs no more
└── Unavailable            the storage cannot take the change now (disk full, read-only,
                           locked); nothing was changed

A message is a sentence for clients: what was wrong, where, and what to do.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from assent.core.json import Json, JsonObject

if TYPE_CHECKING:
    from assent.core.decisions import Decision


class AssentError(Exception):
    """The root of the tree. `details` holds JSON values that a client may act on."""

    def __init__(self, message: str, **details: Json) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class ConfigurationError(AssentError):
    """The program is set up wrongly."""


class AgentLoadError(ConfigurationError):
    """A user's graph could not be loaded."""


class InvalidRequest(AssentError):
    """The request makes no sense; nothing was changed."""


class InvalidDecision(InvalidRequest):
    """The decision does not fit its approval."""


class InvalidInput(InvalidRequest):
    """The agent does not take this input, context or config, or no client may send it."""


class TooLarge(InvalidRequest):
    """A file, or a body, has more bytes than are taken; nothing was changed."""


class Forbidden(AssentError):
    """The caller is known and may not do this; nothing was changed."""


class NotFound(AssentError):
    """No such thread, run, approval or agent."""


class Gone(AssentError):
    """It existed, and was removed for good. For events, `details["first"]` is the lowest number
    that is left, or the next one to be given."""


class Conflict(AssentError):
    """The change was computed from a state that is no longer the current one."""


class ThreadBusy(Conflict):
    """A run is active on the thread."""


class ThreadPaused(Conflict):
    """The thread waits for decisions; `details["approvals"]` holds its approvals."""


class NothingPending(Conflict):
    """The thread waits for no decision."""


class AlreadyDecided(Conflict):
    """The approval is no longer pending. Of one that expired or was made void, nobody decided."""

    @property
    def by(self) -> str:
        """The name of who decided; empty if nobody did."""
        return str(self.details.get("decided_by") or "")

    @property
    def decision(self) -> Decision | None:
        """What they decided, if anything."""
        from assent.core.decisions import decision_from_json

        found = self.details.get("decision")
        return decision_from_json(found) if isinstance(found, dict) else None

    @property
    def at(self) -> datetime | None:
        """The time at which it was decided, if it was."""
        found = self.details.get("decided_at")
        return datetime.fromisoformat(found) if isinstance(found, str) else None


class Superseded(Conflict):
    """The question was changed since it was shown; `changed` holds its new `digest` and `args`."""

    @property
    def changed(self) -> JsonObject:
        """The question as it is now, as far as it still is one."""
        return self.details


class StaleLease(Conflict):
    """The run was acquired by another worker, or has ended. Whoever still writes for it must
    stop."""


class FilesFull(AssentError):
    """The uploads take all the room that they may; nothing was changed."""


class QueueFull(AssentError):
    """Too many runs wait for their turn already; nothing was changed."""


class QuotaFull(AssentError):
    """Somebody, or their tenant, has as many threads or waiting runs as they may; nothing was
    changed."""


class StreamsFull(AssentError):
    """Too many streams are open, of this client or of all; nothing was changed."""


class TooManyRequests(AssentError):
    """Somebody, or an address, has asked too often; `details["retry_after"]` has the seconds after
    which they may again. Nothing was changed."""


class Tampered(AssentError):
    """Stored data is not what Assent stored. `details` holds the `thread_id`, and the `kind` and
    `name` of the data."""


class Unavailable(AssentError):
    """The storage cannot take the change now; nothing was changed."""
