"""The trace that a request is part of, as W3C Trace Context writes it. What the request starts
belongs to the same trace, however much later it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TRACE_PARENT: ContextVar[str | None] = ContextVar("assent_trace_parent", default=None)


def current_trace_parent() -> str | None:
    """The `traceparent` of the request that is being answered; None if none is, or if nothing is
    traced."""
    return _TRACE_PARENT.get()


@contextmanager
def traced_by(trace_parent: str) -> Iterator[None]:
    """While the context is entered, this is the `traceparent`."""
    token = _TRACE_PARENT.set(trace_parent)
    try:
        yield
    finally:
        _TRACE_PARENT.reset(token)
