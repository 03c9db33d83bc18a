"""Every error that Assent raises on purpose, as one tree.

AssentError
├── ConfigurationError     the program was put together wrongly: fix the code or the settings
│   └── AgentLoadError     a user's graph could not be loaded; names the file and the cause
├── InvalidRequest         what was asked makes no sense; nothing was changed
│   └── InvalidDecision    a decision does not fit the approval it answers
├── Forbidden              who asks may not do this; nothing was changed
├── NotFound               no such thread, run, approval or agent
├── Gone                   what was asked for was there, and has been removed for good
├── Conflict               what the change was computed from has moved; read again
│   ├── ThreadBusy         a run is active on the thread
│   ├── ThreadPaused       the thread waits for decisions; carries the pending approvals
│   ├── NothingPending     the thread waits for no decision
│   ├── AlreadyDecided     the approval is no longer pending; carries who, what and when
│   ├── Superseded         what the decision was about has been changed since; carries what is asked now
│   └── StaleLease         the run was given to another worker, or has ended: this one must let go of it
├── Tampered               what storage holds is not what was stored there; nothing of the thread it belongs to is run
└── Unavailable            storage cannot take the change now (disk full, read-only, locked); nothing was changed

A message is a sentence that says what was wrong, where, and what to do. It is written to be shown
to a client.
"""

from __future__ import annotations

from typing import Any


class AssentError(Exception):
    """The root. `details` holds JSON values that a client may act on."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class ConfigurationError(AssentError):
    """The program was put together wrongly."""


class AgentLoadError(ConfigurationError):
    """A user's graph could not be loaded."""


class InvalidRequest(AssentError):
    """What was asked makes no sense; nothing was changed."""


class InvalidDecision(InvalidRequest):
    """A decision does not fit the approval it answers."""


class Forbidden(AssentError):
    """Who asks is known, and may not do this; nothing was changed."""


class NotFound(AssentError):
    """No such thread, run, approval or agent."""


class Gone(AssentError):
    """What was asked for was there, and has been removed for good; of events, `details["first"]` is
    the first number that is left."""


class Conflict(AssentError):
    """What the change was computed from has moved."""


class ThreadBusy(Conflict):
    """A run is active on the thread."""


class ThreadPaused(Conflict):
    """The thread waits for decisions; `details["approvals"]` holds them."""


class NothingPending(Conflict):
    """The thread waits for no decision."""


class AlreadyDecided(Conflict):
    """The approval is no longer pending; `details` says who decided what, and when."""


class Superseded(Conflict):
    """What the decision was about has been changed since; `details` holds the `digest` and the
    `args` that are asked now."""


class StaleLease(Conflict):
    """The run was given to another worker, or has ended: whoever still writes for it must let
    go."""


class Tampered(AssentError):
    """What storage holds is not what was stored there; `details` has the `thread_id`, and says
    what: its `kind` and `name`."""


class Unavailable(AssentError):
    """Storage cannot take the change now; nothing was changed."""
