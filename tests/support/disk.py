"""Disks that fill up and files that somebody else holds: what keeps a storage from serving."""

from __future__ import annotations

import errno
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
        _unmount(folder)


class Disk:
    """A disk of its own, which can be filled up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no room on it."""
        filler = self._folder / "filler"
        with filler.open("wb") as file:
            _fill(file.fileno(), os.fstatvfs(file.fileno()))
        try:
            yield
        finally:
            filler.unlink()


@contextmanager
def own_disk(folder: Path, size: str) -> Iterator[Disk | None]:
    """The folder as a disk of that size; None if only root may mount one. Then it is a folder like
    any other."""
    folder.mkdir()
    if not _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        yield None
        return
    try:
        yield Disk(folder)
    finally:
        _unmount(folder)


def unmount_garbage(root: Path) -> None:
    """Let go of disks in folders below this one that pytest wants to remove, and cannot: tests that
    were killed have left them, and each later run would end with an error of theirs."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return
    folders = [Path(line.split()[1]) for line in mounts.read_text().splitlines()]
    for folder in folders:
        if folder.is_relative_to(root) and any(
            part.startswith("garbage-") for part in folder.parts
        ):
            _unmount(folder)


def _fill(descriptor: int, disk: os.statvfs_result) -> None:
    """Make the file as large as it goes, though others take some of the room meanwhile."""
    size, filled = disk.f_bavail * disk.f_frsize, 0
    while size >= disk.f_frsize:
        try:
            os.posix_fallocate(descriptor, filled, size)
            filled += size
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            size //= 2


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _must_mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _mount(*arguments: str) -> bool:
    try:
        _must_mount(*arguments)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
