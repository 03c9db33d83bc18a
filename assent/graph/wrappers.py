"""Wrappers of langchain's middleware: functions of a request and of a handler, which makes the call
that they stand around."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from langgraph.types import Command

from assent.core.errors import AssentError, ConfigurationError
from assent.core.json import JsonObject
from assent.graph.state import without_own


@dataclass(frozen=True, slots=True)
class Wrapper:
    """One hook of one middleware, such as `wrap_tool_call` and `awrap_tool_call`; None for the one
    that it does not have."""

    middleware: str
    hook: str
    sync: Callable[..., Any] | None
    asynchronous: Callable[..., Any] | None

    def in_sync(self) -> Callable[..., Any]:
        """The hook for a sync run. Raises `ConfigurationError` if there is none."""
        if self.sync is None:
            raise ConfigurationError(
                f"The middleware '{self.middleware}' has only an async {self.hook}, so the run "
                "must be async: use ainvoke or astream."
            )
        return self.sync

    def in_async(self) -> Callable[..., Any]:
        """The hook for an async run. Raises `ConfigurationError` if there is none."""
        if self.asynchronous is None:
            raise ConfigurationError(
                f"The middleware '{self.middleware}' has no a{self.hook}, and the run is async. "
                "Give it one, or use invoke or stream."
            )
        return self.asynchronous


def within(wraps: Sequence[Callable[..., Any]], innermost: Callable[[Any], Any]) -> Any:
    """The call within these wrappers, the first of which is the outermost."""
    chain = innermost
    for wrap in reversed(wraps):
        chain = partial(_called_with, wrap, chain)
    return chain


def command_update(where: str, command: Command[Any]) -> JsonObject:
    """The update of a middleware's command, without decisions. Raises `AssentError` if the command
    does anything else: where the agent goes is up to the gate."""
    if command.goto or command.resume is not None or command.graph is not None:
        raise AssentError(
            f"The middleware's {where} has returned a Command with more than an update. To go to "
            "the model, the tools or the end, let before_model or after_model return 'jump_to'."
        )
    return without_own(dict(command._update_as_tuples()))


def _called_with(wrap: Callable[..., Any], handler: Any, request: Any) -> Any:
    return wrap(request, handler)
