"""The type of a file, by its first bytes: what somebody says that it is may be a lie."""

from __future__ import annotations

import codecs

HEAD_BYTES = 8192
"""The bytes that the type is told by."""

UNKNOWN = "application/octet-stream"
TEXT = "text/plain"
ZIP = "application/zip"

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"PK\x03\x04", ZIP),
)

_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}

_OFFICE = "application/vnd.openxmlformats-officedocument"

_BY_NAME = {
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
}
"""Zip files that are something else."""

_TEXTS = frozenset(
    {"text/csv", "text/markdown", "text/html", "text/xml", "application/json", "application/xml"}
)
"""What a text may be said to be."""


def file_type(head: bytes, name: str, declared: str | None, *, is_all: bool) -> str:
    """The MIME type of a file that begins like this. What was `declared` counts only between types
    that begin alike, such as those of texts. `is_all` says that the file ends with the head."""
    found = _by_beginning(head)
    if found == ZIP:
        return next((kind for end, kind in _BY_NAME.items() if name.lower().endswith(end)), ZIP)
    if found is not None:
        return found
    if not _is_text(head, is_all=is_all):
        return UNKNOWN
    return declared if declared in _TEXTS else TEXT


def _by_beginning(head: bytes) -> str | None:
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return "audio/mp4" if head[8:11] == b"M4A" else "video/mp4"
    return next((kind for start, kind in _BEGINNINGS if head.startswith(start)), None)


def _is_text(head: bytes, *, is_all: bool) -> bool:
    try:
        # The head may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(head, final=is_all)
    except UnicodeDecodeError:
        return False
    return b"\x00" not in head
