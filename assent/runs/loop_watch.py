"""Notices code that blocks the event loop, and names it in the log. While it does, nothing else in
the process goes on: no other run, no request, no timer.

The loop notes the time at short intervals, and a thread looks how old the note has become.
"""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import structlog

from assent.runs.metrics import LoopLag

log = structlog.get_logger(__name__)

BLOCKED_SECONDS = 1.0
"""The time after which the loop counts as blocked: about as long as nobody who reads an answer
notices that it has stopped."""

LOOK_SECONDS = 0.25

LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))

Found = Mapping[str, str]


@contextmanager
def watched_loop(lag: LoopLag) -> Iterator[None]:
    """Watch the running loop until the context is left, and note its `lag`."""
    watch = _LoopWatch(asyncio.get_running_loop(), threading.get_ident(), lag)
    watch.beat()
    # A daemon: a loop that is blocked for ever never leaves the context.
    thread = threading.Thread(target=watch.look_on, name="assent-loop-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.stopped.set()
        thread.join()


class _LoopWatch:
    """Watches a loop. `thread_id` is of the thread that the loop runs in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread_id: int, lag: LoopLag) -> None:
        self.stopped = threading.Event()
        self._lag = lag
        self._loop = loop
        self._thread_id = thread_id
        self._noted_at = 0.0

    def beat(self) -> None:
        """Note the time, again and again. Called on the loop."""
        now = time.monotonic()
        if self._noted_at:
            self._lag.note(max(now - self._noted_at - LOOK_SECONDS, 0.0))
        self._noted_at = now
        if not self.stopped.is_set():
            self._loop.call_later(LOOK_SECONDS, self.beat)

    def look_on(self) -> None:
        """Look until it is stopped. Called on a thread of its own."""
        while not self.stopped.wait(LOOK_SECONDS):
            noted_at = self._noted_at
            if time.monotonic() - noted_at < LOOK_SECONDS + BLOCKED_SECONDS:
                continue
            try:
                blocker = self._blocker()
            except Exception:
                # The frames may change while they are looked at.
                blocker = {}
            if blocker is not None:
                log.error("the event loop is blocked", **blocker)
                self._look_for_its_end(noted_at, blocker)

    def _look_for_its_end(self, noted_at: float, blocker: Found) -> None:
        while not self.stopped.wait(LOOK_SECONDS):
            if self._noted_at != noted_at:
                seconds = round(self._noted_at - noted_at, 1)
                log.warning("the event loop goes on", **blocker, seconds=seconds)
                return

    def _blocker(self) -> Found | None:
        """The code that the loop is in, as keys of a log line; None if it is in no task, and only
        this machine is slow."""
        innermost = sys._current_frames().get(self._thread_id)
        if innermost is None or asyncio.current_task(self._loop) is None:
            return None
        frames = list(_outwards(innermost))
        own = [each for each in frames if not each.f_code.co_filename.startswith(LIBRARIES)]
        at = own[0] if own else innermost
        place = f"{at.f_code.co_filename}:{at.f_lineno} in {at.f_code.co_name}"
        return {**_node_of(frames), "at": place}


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _node_of(frames: list[FrameType]) -> Found:
    """The node that these frames are in, and its run. LangGraph hands both on in a config."""
    for frame in frames:
        config = frame.f_locals.get("config")
        metadata = config.get("metadata") if isinstance(config, dict) else None
        if isinstance(metadata, Mapping) and "langgraph_node" in metadata:
            names = {"node": "langgraph_node", "run_id": "run_id", "thread_id": "thread_id"}
            return {name: str(metadata[key]) for name, key in names.items() if key in metadata}
    return {}
