"""Threads of which something was tampered with: nothing runs on them any more."""

from __future__ import annotations

from assent.core.errors import Tampered
from assent.core.rows import Thread, ThreadStatus
from assent.runs.engine import Engine
from assent.storage.base import Storage, all_pages


async def distrust(storage: Storage, engine: Engine, thread_id: str, error: Tampered) -> None:
    """Mark the thread, and stop what runs on it."""
    await storage.distrust(thread_id, error.message)
    await engine.abandon(thread_id)
    await storage.distrust(thread_id, error.message, stopped=True)


async def check_trusted(storage: Storage, thread_id: str) -> None:
    """Raise `Tampered` if the thread is marked as tampered with.

    Call it after reading a list of the thread's rows: lists leave out what was tampered with, and
    mark the thread.
    """
    thread = await storage.thread(thread_id)
    if thread is not None:
        thread.check_trusted()


async def end_unreadable(storage: Storage) -> None:
    """Mark the busy threads whose active run cannot be read: no list shows such a run, so no engine
    would take it up."""
    async for threads in all_pages(storage.threads, status=ThreadStatus.BUSY):
        for thread in threads:
            reason = await _reason_to_distrust(storage, thread)
            if reason is not None:
                await storage.distrust(thread.thread_id, reason, stopped=True)


async def _reason_to_distrust(storage: Storage, thread: Thread) -> str | None:
    try:
        if thread.run_id is not None:
            await storage.run(thread.run_id)
    except Tampered as error:
        return error.message
    return thread.tampered
