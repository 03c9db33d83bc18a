"""Disks that fill up and files that somebody else holds: what keeps a storage from serving."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest


@contextmanager
def files_at_most(size: int, pid: int = 0) -> Iterator[None]:
    """Let the process (this one, unless another is given) write no file beyond `size` bytes, as on
    a full disk."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        if pid == 0 or Path(f"/proc/{pid}").exists():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the database as another program would that writes to it."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def may_mount() -> bool:
    """True if this process may mount a disk."""
    return os.getuid() == 0 and _mount("-t", "tmpfs", "--fake", "tmpfs", "/mnt")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a disk of that size at the folder; what is yielded makes it another size."""
    if not _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        pytest.skip(
            "Only root may mount a small disk; the other tests of a full disk limit the size of files."
        )
    try:
        yield lambda size: _must_mount("-o", f"remount,size={size}", str(folder))
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _must_mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _mount(*arguments: str) -> bool:
    try:
        _must_mount(*arguments)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
