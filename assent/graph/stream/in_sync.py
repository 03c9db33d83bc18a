"""Asynchronous streams for programs that have no event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import TypeVar

from assent.core.errors import ConfigurationError

T = TypeVar("T")


def in_sync(stream: AsyncGenerator[T, None], name: str, instead: str) -> Generator[T, None, None]:
    """What the stream yields, in the calling thread. It goes on only while the next value is waited
    for, and is closed when the generator is. Raises as `check_no_loop` does."""
    check_no_loop(name, instead)
    return _in_a_loop_of_its_own(stream)


def check_no_loop(name: str, instead: str) -> None:
    """Raise `ConfigurationError` in a thread whose event loop runs. Its sentence has the `name` of
    the function, and what to use there `instead`."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigurationError(
        f"{name} has an event loop of its own, and this thread runs one already. Use {instead} "
        "here."
    )


def _in_a_loop_of_its_own(stream: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    async def following() -> T | None:
        return await anext(stream, None)

    # With a factory it leaves the thread's own loop alone.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            while (value := runner.run(following())) is not None:
                yield value
        finally:
            runner.run(stream.aclose())
