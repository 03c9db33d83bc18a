"""A program to be killed: several threads of writes that say what was acknowledged, one whose
events are removed as they get old, and one that puts checkpoints."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, empty_checkpoint
from msgspec.structs import replace as replace_event

from assent.core.events import Done
from assent.core.rows import ThreadStatus
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import NOON, piece, thread, token

THREADS = ("t0", "t1", "t2", "t3")
TOKENS = 3
"""Appended before each commit."""

SWEPT = "swept"
"""The thread whose events are removed. Its pieces are many, so that they are merged, and large, so
that there is room to give back."""

PIECES = 400

SAVED = "saved"
"""The thread that has checkpoints, whose messages are numbered. They are pruned now and then."""


def write_until_killed(path: Path, acknowledged: Connection) -> None:
    """Send `(thread_id, version, seq)` for each commit that returned: the thread's version, and the
    number of the event stored with it."""
    asyncio.run(_write(path, acknowledged))


async def _write(path: Path, acknowledged: Connection) -> None:
    async with SqliteStorage.open(path) as storage, asyncio.TaskGroup() as group:
        for thread_id in THREADS:
            group.create_task(_turns(storage, thread_id, acknowledged))
        group.create_task(_sweeps(storage, acknowledged))
        group.create_task(_saves(storage, acknowledged))


async def _turns(storage: Storage, thread_id: str, acknowledged: Connection) -> None:
    row = await storage.thread(thread_id)
    while True:
        row = (
            replace(row, version=row.version + 1)
            if row
            else thread(thread_id, status=ThreadStatus.IDLE, pending=())
        )
        for _ in range(TOKENS):
            storage.append([token(thread_id)], _fail)
        (seq,) = await storage.commit(
            Change(
                rows=(row,), events=(Done(thread_id=thread_id, run_id=f"version {row.version}"),)
            )
        )
        acknowledged.send((thread_id, row.version, seq))


async def _sweeps(storage: Storage, acknowledged: Connection) -> None:
    shrinking = asyncio.create_task(storage.shrink())
    while True:
        for _ in range(PIECES):
            storage.append([replace_event(piece("x" * 3000, SWEPT), ts=NOON)], _fail)
        (seq,) = await storage.commit(Change(events=(Done(thread_id=SWEPT, ts=NOON),)))
        acknowledged.send((SWEPT, 0, seq))
        await storage.remove_events(NOON + timedelta(days=1))
        if shrinking.done():
            shrinking = asyncio.create_task(storage.shrink())
        await asyncio.sleep(0.01)


async def _saves(storage: Storage, acknowledged: Connection) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": SAVED, "checkpoint_ns": ""}}
    while True:
        found = await storage.checkpointer.aget_tuple(config)
        messages = [*(found.checkpoint["channel_values"]["messages"] if found else [])]
        messages.append(HumanMessage("m" * 300, id=str(len(messages))))
        versions: ChannelVersions = {"messages": len(messages)}
        checkpoint = {
            **empty_checkpoint(),
            "channel_values": {"messages": messages},
            "channel_versions": versions,
        }
        parent = found.config if found else config
        saved = await storage.checkpointer.aput(
            parent,
            cast(Checkpoint, checkpoint),
            {"source": "loop", "step": len(messages)},
            versions,
        )
        acknowledged.send((SAVED, 0, len(messages)))
        await storage.checkpointer.aput_writes(
            saved, [("messages", f"after {len(messages)}")], "task"
        )
        if len(messages) % 7 == 0:
            await storage.prune_checkpoints([SAVED], 2)


def _fail(error: Exception) -> None:
    raise error
