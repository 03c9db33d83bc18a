"""The contract of files: the bytes of uploads, apart from their rows, so that they can be kept
where many servers reach them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """The size of what was written, and its SHA-256."""

    size: int
    sha256: str


class Files(ABC):
    """Files by their ids, each written once and never changed.

    Every method raises `Unavailable` if the place cannot serve. With encryption at rest, what is
    stored is sealed, and reading raises `Tampered` if another program changed it.
    """

    @abstractmethod
    async def write(self, file_id: str, chunks: AsyncIterator[bytes], *, most: int) -> WrittenFile:
        """Store the file durably, whole or not at all. Raises `TooLarge` for more than `most`
        bytes."""

    @abstractmethod
    def chunks(self, file_id: str) -> AsyncIterator[bytes]:
        """Yield the file's bytes, in order. Raises `NotFound` if there is no such file."""

    @abstractmethod
    def read_here(self, file_id: str) -> bytes:
        """Return all of the file, reading it in this thread. Raises what `chunks` does."""

    async def read(self, file_id: str) -> bytes:
        """Return all of the file. Raises what `chunks` does."""
        return b"".join([chunk async for chunk in self.chunks(file_id)])

    @abstractmethod
    async def remove(self, file_id: str) -> None:
        """Remove the file, if it is there."""

    @abstractmethod
    async def ids(self) -> list[str]:
        """List the ids of all files."""
