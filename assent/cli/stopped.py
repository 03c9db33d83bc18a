"""The database, for commands that work in its file while no server has it open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from assent.cli.terminal import fail
from assent.config.settings import Settings
from assent.core.clock import Clock
from assent.storage.base import Storage
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.database import is_held, resolved

T = TypeVar("T")


def database_there(settings: Settings) -> Path:
    """The file of the database; where there is none, the program ends."""
    path = resolved(settings.database_path)
    if not path.is_file():
        fail(f"There is no database at {path}. Set ASSENT_DATABASE.", code=2)
    return path


def in_database(
    settings: Settings, work: Callable[[Storage, Clock], Awaitable[T]], *, if_held: str
) -> T:
    """The result of the work. Where a server has the database open, the program ends with the
    advice `if_held`."""
    path = resolved(settings.database_path)
    if is_held(path):
        fail(f"A server has {path} open. {if_held}")
    return asyncio.run(_done(settings, work))


async def _done(settings: Settings, work: Callable[[Storage, Clock], Awaitable[T]]) -> T:
    clock = Clock()
    opening = SqliteStorage.open(
        settings.database_path,
        clock,
        encryption_key=settings.encryption_secret,
        audit_key=settings.audit_secret,
    )
    async with opening as storage:
        return await work(storage, clock)
