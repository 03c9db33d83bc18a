"""What goes on after the routing of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import Receive, Send

LATER = "assent_later"
"""Where the scope of a request has the list that takes what goes on after the routing."""

Loop = Callable[[Receive, Send], Awaitable[None]]
"""What goes on after the routing."""
