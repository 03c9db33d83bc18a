"""Errors of runs, explained without their internals."""

from __future__ import annotations

import re

from langgraph.errors import GraphRecursionError

from assent.core.errors import AssentError

_SNAKE = re.compile(r"(?<=.)(?=[A-Z])")
"""Before each capital but the first: `NotFound` becomes `not_found`."""


def explain(error: BaseException) -> tuple[str, str]:
    """A code for programs, and a sentence for people that holds nothing of the exception's text
    unless that was written to be shown."""
    if isinstance(error, GraphRecursionError):
        return (
            "recursion_limit",
            "The agent took more steps than a run may take. Ask for less at once, or raise the "
            "limit: recursion_limit in the config, or ASSENT_RECURSION_LIMIT on a server.",
        )
    if isinstance(error, AssentError):
        return _SNAKE.sub("_", type(error).__name__).lower(), error.message
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return (
            "provider_error",
            f"The model's provider answered with status {status}. "
            "Send the message again to try once more.",
        )
    return "agent_error", f"The run failed with {type(error).__name__}."
