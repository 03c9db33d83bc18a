"""The progress of any compiled LangGraph graph, without a server: told to a callback step by step,
or as a generator.

    done = await run_with_steps(graph, input, config, step_callback=print)

    async for update in astream_progress(graph, input, config):
        print(update.agent, update.task)
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig

from assent.core.errors import ConfigurationError
from assent.core.events import Done, RunPaused
from assent.core.progress import ProgressUpdate, progress_of
from assent.graph.stream.in_sync import in_sync
from assent.graph.stream.typed import astream_typed

__all__ = ["astream_progress", "run_with_steps", "stream_progress"]


class OnStep(Protocol):
    """An object that is told of steps."""

    def on_step(self, update: ProgressUpdate, /) -> Any: ...


class Puts(Protocol):
    """A queue, such as `queue.Queue` or `asyncio.Queue`."""

    def put_nowait(self, update: ProgressUpdate, /) -> Any: ...


Told = Callable[[ProgressUpdate], Any]
StepCallback = Told | OnStep | Puts


async def run_with_steps(
    agent: Any,
    input: Any,
    config: RunnableConfig | None = None,
    *,
    step_callback: StepCallback,
    context: Any = None,
) -> Done | RunPaused:
    """Run a compiled graph to its end or its next pause, and tell the callback of each step.
    Returns the run's last event.

    `input`, `config` and `context` are as `astream_typed` takes them. The callback is a function,
    which may be async, an object with a method `on_step`, or a queue. A function is called in the
    event loop, and the next step is told when it has returned.

    If the callback raises, or the queue is full, the run is cancelled, and the exception is raised
    here. Raises what `astream_typed` does, and `ConfigurationError` for a callback that is none of
    these; then nothing has run.
    """
    tell = _told_by(step_callback)
    async with aclosing(astream_typed(agent, input, config, context=context)) as events:
        async for event in events:
            update = progress_of(event, agent.name)
            if update is not None:
                answer = tell(update)
                if inspect.isawaitable(answer):
                    await answer
    assert isinstance(event, Done | RunPaused)
    return event


async def astream_progress(
    agent: Any, input: Any, config: RunnableConfig | None = None, *, context: Any = None
) -> AsyncGenerator[ProgressUpdate, None]:
    """Run a compiled graph to its end or its next pause, and yield each step. The parameters are
    those of `astream_typed`, and so is what it raises. Closing the generator cancels the run."""
    async with aclosing(astream_typed(agent, input, config, context=context)) as events:
        async for event in events:
            update = progress_of(event, agent.name)
            if update is not None:
                yield update


def stream_progress(
    agent: Any, input: Any, config: RunnableConfig | None = None, *, context: Any = None
) -> Generator[ProgressUpdate, None, None]:
    """`astream_progress`, for sync code. The graph runs in this thread while the next step is
    waited for, and not in between. Raises `ConfigurationError` in a thread with a running event
    loop."""
    updates = astream_progress(agent, input, config, context=context)
    return in_sync(updates, "stream_progress", "astream_progress")


def _told_by(callback: Any) -> Told:
    """The function that tells the callback."""
    for name in ("on_step", "put_nowait"):
        method = getattr(callback, name, None)
        if callable(method):
            told: Told = method
            return told
    if callable(callback):
        return callback  # type: ignore[no-any-return]
    raise ConfigurationError(
        f"step_callback= is a {type(callback).__name__}. Give it a function of one update, an "
        "object with a method on_step, or a queue."
    )
