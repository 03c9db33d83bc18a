"""Files in a folder.

A file is a row of chunks, each behind its length and sealed for its number, and for whether it is
the last: so none can be left out, exchanged or cut off. Until it is whole it has a name that begins
with a dot.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from assent.core.atomic_file import sync
from assent.core.errors import NotFound, TooLarge, Unavailable
from assent.core.sealing import Part, Seal, tampered
from assent.storage.files import Files, WrittenFile

T = TypeVar("T")

CHUNK_BYTES = 1 << 20

LENGTH_BYTES = 4

THREADS = 2

WHOLE, UNFINISHED = "??/[!.]*", "??/.*"
"""The patterns of the files in the folder."""


class FolderFiles(Files):
    """The files in one folder, which is made when the first is written. Made by `open`."""

    def __init__(self, folder: Path, seal: Seal, threads: ThreadPoolExecutor) -> None:
        self._folder = folder
        self._seal = seal
        self._threads = threads

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, seal: Seal) -> AsyncIterator[FolderFiles]:
        """The files, until the context is left. What a kill left half-written is removed."""
        with ThreadPoolExecutor(THREADS, thread_name_prefix="assent-files") as threads:
            files = cls(folder, seal, threads)
            await files._do(files._remove_unfinished)
            yield files

    async def write(self, file_id: str, chunks: AsyncIterator[bytes], *, most: int) -> WrittenFile:
        path = self._path(file_id)
        writing = await self._do(lambda: _Writing(path, self._seal, file_id))
        try:
            async for chunk in chunks:
                if writing.size + len(chunk) > most:
                    raise TooLarge(
                        f"The file is larger than {most:,} bytes. Nothing was changed. Send a "
                        "smaller one, or raise ASSENT_MAX_UPLOAD_BYTES."
                    )
                if writing.take(chunk):
                    await self._do(writing.write_full)
            return await self._do(writing.finish)
        finally:
            writing.close()

    async def chunks(self, file_id: str) -> AsyncIterator[bytes]:
        path = self._path(file_id)
        file = await self._do(lambda: path.open("rb"))
        try:
            opened = self._opened(file, file_id)
            while (chunk := await self._do(lambda: next(opened, None))) is not None:
                yield chunk
        finally:
            file.close()

    def read_here(self, file_id: str) -> bytes:
        with _errors_as_ours(), self._path(file_id).open("rb") as file:
            return b"".join(self._opened(file, file_id))

    async def remove(self, file_id: str) -> None:
        await self._do(lambda: self._path(file_id).unlink(missing_ok=True))

    async def ids(self) -> list[str]:
        return await self._do(lambda: [path.name for path in self._folder.glob(WHOLE)])

    def _path(self, file_id: str) -> Path:
        # The last two digits are random.
        return self._folder / file_id[-2:] / file_id

    def _remove_unfinished(self) -> None:
        for path in self._folder.glob(UNFINISHED):
            path.unlink()

    def _opened(self, file: BinaryIO, file_id: str) -> Iterator[bytes]:
        """The chunks of the file, of which there is at least one."""
        frame = _next_frame(file, file_id)
        if frame is None:
            raise tampered("", "file", file_id)
        number = 0
        while frame is not None:
            following = _next_frame(file, file_id)
            yield self._seal.open(frame, *place(file_id, number, is_last=following is None))
            frame, number = following, number + 1

    async def _do(self, work: Callable[[], T]) -> T:
        """Do the work in a thread of ours, since those of the loop are the agents'."""
        with _errors_as_ours():
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


@contextmanager
def _errors_as_ours() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound("The file is not there any more.") from None
    except OSError as error:
        raise Unavailable(
            f"The folder of uploads cannot serve: {error.strerror}. Check the disk and the "
            "folder's permissions."
        ) from error


def place(file_id: str, number: int, *, is_last: bool) -> tuple[str, str, Part, Part, Part]:
    """The place that a chunk is sealed for."""
    return ("", "file", file_id, number, int(is_last))


def folder_of(database: Path) -> Path:
    """The folder of the uploads that a database has rows of."""
    return database.with_name(f"{database.name}.files")


def copy_files(folder: Path, copy: Path) -> int:
    """Copy the files that are not in the copy of the folder yet, and return how many it has. On one
    disk they share their bytes, which never change. Raises `OSError`."""
    count = 0
    for path in folder.glob(WHOLE):
        target = copy / path.parent.name / path.name
        _make_folder_of(target)
        # One that is removed meanwhile is not needed.
        with suppress(FileNotFoundError):
            if not target.exists():
                _copy(path, target)
            count += 1
    return count


def _copy(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:
        # It is on another disk, or on one without links.
        partial = target.with_name(f".{target.name}")
        with path.open("rb") as source, os.fdopen(_made(partial), "wb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    sync(target.parent)


def _make_folder_of(path: Path) -> None:
    """Make the folder of a file, in that of all of them, for its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.parent.chmod(0o700)


def _made(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


class _Writing:
    """A file that is being written, under a name of its own."""

    def __init__(self, path: Path, seal: Seal, file_id: str) -> None:
        _make_folder_of(path)
        self.size = 0
        self._path = path
        self._partial = path.with_name(f".{path.name}")
        self._seal = seal
        self._file_id = file_id
        self._digest = hashlib.sha256()
        self._number = 0
        self._waiting = bytearray()
        self._file = os.fdopen(_made(self._partial), "wb")

    def take(self, data: bytes) -> bool:
        """Take some bytes. True if they have to be written."""
        self._waiting += data
        self.size += len(data)
        return len(self._waiting) > CHUNK_BYTES

    def write_full(self) -> None:
        """Write what is more than one chunk: the last one may not be empty behind others."""
        while len(self._waiting) > CHUNK_BYTES:
            chunk = bytes(self._waiting[:CHUNK_BYTES])
            del self._waiting[:CHUNK_BYTES]
            self._write(chunk, is_last=False)

    def finish(self) -> WrittenFile:
        """Write the rest, and give the file its name."""
        self._write(bytes(self._waiting), is_last=True)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._partial.replace(self._path)
        sync(self._path.parent)
        sync(self._path.parent.parent)
        return WrittenFile(self.size, self._digest.hexdigest())

    def close(self) -> None:
        """Close it; if it has not got its name, remove it."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _write(self, chunk: bytes, *, is_last: bool) -> None:
        self._digest.update(chunk)
        sealed = self._seal.seal(chunk, *place(self._file_id, self._number, is_last=is_last))
        self._file.write(len(sealed).to_bytes(LENGTH_BYTES, "big"))
        self._file.write(sealed)
        self._number += 1


def _next_frame(file: BinaryIO, file_id: str) -> bytes | None:
    """The next sealed chunk; None at the end."""
    head = file.read(LENGTH_BYTES)
    if not head:
        return None
    length = int.from_bytes(head, "big")
    frame = file.read(min(length, 2 * CHUNK_BYTES))
    if len(head) < LENGTH_BYTES or len(frame) < length:
        raise tampered("", "file", file_id)
    return frame
