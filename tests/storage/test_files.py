"""The bytes of uploads: whole or not at all, sealed, and believed only as they were written."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from assent.core.errors import NotFound, Tampered, TooLarge, Unavailable
from assent.core.sealing import KeySeal, NoSeal, parse_keys
from assent.storage.folder_files import CHUNK_BYTES, LENGTH_BYTES, FolderFiles, copy_files
from tests.support.keys import KEY

ID, OTHER = "upload_00ff", "upload_11ff"
MOST = 10 * CHUNK_BYTES
SEALED = KeySeal(parse_keys(KEY))


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def everything(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


@pytest.fixture(params=[NoSeal(), SEALED], ids=["clear", "sealed"])
async def files(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FolderFiles]:
    async with FolderFiles.open(tmp_path / "files", request.param) as files:
        yield files


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]
)
async def test_what_is_written_is_read(files: FolderFiles, size: int) -> None:
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    written = await files.write(ID, parts(data[:10], data[10:]), most=size)
    assert (written.size, written.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert await files.read(ID) == files.read_here(ID) == data
    assert await files.ids() == [ID]
    await files.remove(ID)
    await files.remove(ID)
    assert await files.ids() == []
    with pytest.raises(NotFound):
        await files.read(ID)


async def test_too_much_and_what_breaks_off_leave_nothing(
    files: FolderFiles, tmp_path: Path
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (2 * CHUNK_BYTES)
        raise ConnectionError

    with pytest.raises(TooLarge, match="larger than 5 bytes"):
        await files.write(ID, parts(b"abc", b"def"), most=5)
    with pytest.raises(ConnectionError):
        await files.write(ID, broken(), most=MOST)
    assert all(path.is_dir() for path in everything(tmp_path))


async def test_only_its_owner_can_open_a_file(files: FolderFiles, tmp_path: Path) -> None:
    await files.write(ID, parts(b"x"), most=MOST)
    modes = [path.stat().st_mode & 0o777 for path in everything(tmp_path)]
    assert sorted(modes) == [0o600, 0o700, 0o700]


async def test_only_its_owner_can_look_into_a_copy(files: FolderFiles, tmp_path: Path) -> None:
    await files.write(ID, parts(b"x"), most=MOST)
    copy = tmp_path / "copy"
    assert copy_files(tmp_path / "files", copy) == 1
    modes = [path.stat().st_mode & 0o777 for path in (copy, *everything(copy))]
    assert modes == [0o700, 0o700, 0o600]


async def test_a_place_that_cannot_serve_is_said_to_be_away(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("no folder")
    async with FolderFiles.open(tmp_path / "files", NoSeal()) as files:
        with pytest.raises(Unavailable, match="The folder of uploads cannot serve") as refused:
            await files.write(ID, parts(b"x"), most=MOST)
    assert refused.value.__cause__.errno in (errno.EEXIST, errno.ENOTDIR)  # type: ignore[union-attr]


async def test_what_a_kill_left_half_written_goes_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "files" / "ff" / f".{ID}"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    async with FolderFiles.open(tmp_path / "files", NoSeal()) as files:
        assert await files.ids() == []
    assert not left.exists()


# ── what another program changes ──

FRAME = LENGTH_BYTES + len(SEALED.seal(bytes(CHUNK_BYTES), "", "file", ID, 0, 0))

CHANGES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "a bit": lambda data, other: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "its last chunk": lambda data, other: data[: 2 * FRAME],
    "its first chunk": lambda data, other: data[FRAME:],
    "two chunks": lambda data, other: data[FRAME : 2 * FRAME] + data[:FRAME] + data[2 * FRAME :],
    "all of it": lambda data, other: b"",
    "half a chunk": lambda data, other: data[:-5],
    "half a length": lambda data, other: data[: 2 * FRAME + 2],
    "a chunk of another file": lambda data, other: other[:FRAME] + data[FRAME:],
    "all of another file": lambda data, other: other,
    "no encryption": lambda data, other: (4).to_bytes(4, "big") + b"evil",
    "a length without end": lambda data, other: b"\xff\xff\xff\xff" + data[4:],
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_sealed_file_that_was_changed_is_not_believed(tmp_path: Path, change: str) -> None:
    async with FolderFiles.open(tmp_path, SEALED) as files:
        for id in (ID, OTHER):
            await files.write(id, parts(b"swordfish" * (CHUNK_BYTES // 4)), most=MOST)
        path, other = tmp_path / "ff" / ID, tmp_path / "ff" / OTHER
        data = path.read_bytes()
        assert b"swordfish" not in data
        path.write_bytes(CHANGES[change](data, other.read_bytes()))
        with pytest.raises(Tampered, match=f"the file '{ID}'"):
            await files.read(ID)
        with pytest.raises(Tampered, match=f"the file '{ID}'"):
            files.read_here(ID)
