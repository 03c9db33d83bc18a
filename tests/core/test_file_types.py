"""The type of a file, by its first bytes."""

from __future__ import annotations

import pytest

from assent.core.file_types import HEAD_BYTES, file_type

PNG = b"\x89PNG\r\n\x1a\n"
HALF = ("é" * HEAD_BYTES).encode()[: HEAD_BYTES - 1]


@pytest.mark.parametrize(
    ("head", "name", "declared", "expected"),
    [
        (PNG, "a.html", "text/html", "image/png"),
        (b"\xff\xd8\xff\xe0", "", None, "image/jpeg"),
        (b"GIF89a", "", None, "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "", None, "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "", None, "audio/wav"),
        (b"\x00\x00\x00\x20ftypM4A ", "", None, "audio/mp4"),
        (b"\x00\x00\x00\x20ftypisom", "", None, "video/mp4"),
        (b"%PDF-1.7", "a.png", "image/png", "application/pdf"),
        (b"PK\x03\x04", "a.zip", None, "application/zip"),
        (
            b"PK\x03\x04", "A.DOCX", None,
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        # A picture that is a page is a text.
        (b"<script>alert(1)</script>", "a.png", "image/png", "text/plain"),
        (b"a,b\n1,2\n", "a.csv", "text/csv", "text/csv"),
        ("Größe".encode(), "", None, "text/plain"),
        (b"", "", None, "text/plain"),
        (b"a\x00b", "", "text/plain", "application/octet-stream"),
        (b"\xfe\xfe\xfe", "", "image/png", "application/octet-stream"),
    ],
)  # fmt: skip
def test_a_file_is_what_it_begins_with(
    head: bytes, name: str, declared: str | None, expected: str
) -> None:
    assert file_type(head, name, declared, is_all=True) == expected


def test_a_head_may_end_within_a_character() -> None:
    assert file_type(HALF, "", None, is_all=False) == "text/plain"
    assert file_type(HALF, "", None, is_all=True) == "application/octet-stream"
