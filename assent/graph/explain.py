"""Errors of runs, explained without their internals."""

from __future__ import annotations

import re
from types import TracebackType

from langgraph.errors import GraphRecursionError

from assent.core.errors import AssentError
from assent.graph.model_retry import status_of

_SNAKE = re.compile(r"(?<=.)(?=[A-Z])")
"""Before each capital but the first: `NotFound` becomes `not_found`."""


PROVIDER_CLIENTS = frozenset({"openai", "anthropic"})
"""Packages whose errors are a provider's, also where a node uses them without LangChain."""

MODELS = "langchain_core.language_models."
"""The modules through which LangChain calls a model."""


def explain(error: BaseException) -> tuple[str, str]:
    """A code for programs, and a sentence for people that holds nothing of the exception's text
    unless that was written to be shown."""
    if isinstance(error, GraphRecursionError):
        return (
            "recursion_limit",
            "The agent took more steps than a run may take. Ask for less at once, or raise the "
            "limit: recursion_limit in the config or the request, or ASSENT_RECURSION_LIMIT.",
        )
    if isinstance(error, AssentError):
        return _SNAKE.sub("_", type(error).__name__).lower(), error.message
    status = status_of(error)
    if status is not None and _is_of_a_provider(error):
        return (
            "provider_error",
            f"The model's provider answered with status {status}. "
            "Send the message again to try once more.",
        )
    return "agent_error", f"The run failed with {type(error).__name__}."


def _is_of_a_provider(error: BaseException) -> bool:
    """True if a provider's client raised the error, or if it came out of a call of a model. A tool
    may have called any other server, whose status says nothing about the model's provider."""
    if type(error).__module__.partition(".")[0] in PROVIDER_CLIENTS:
        return True
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if module.startswith(MODELS):
            return True
        traceback = traceback.tb_next
    return False
