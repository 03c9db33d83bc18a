"""Files that are whole at every moment, and that outlive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write the file durably under a temporary name, then rename it into place.

    A crash leaves the old content or the new, never half of either. Raises `OSError`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC

    with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

    temporary.replace(path)


def sync(path: Path) -> None:
    """Make durable what was written to the file, or what was renamed in the folder. Raises
    `OSError`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
