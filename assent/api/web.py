"""The built web page, read from the package: its files by name, each as a browser takes it.

A build names the files below `assets/` by their content, so a browser may keep those for good. In
all of them addresses are relative, so that the server can be mounted anywhere; only for the page
itself, which answers at any depth, they are made so when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Final

UI = Path(__file__).parents[1] / "ui"
"""The folder that `web/build.py` writes, and that is in the wheel."""

INDEX: Final = "index.html"
ASSETS: Final = "assets/"

REASON: Final = "why-not.txt"
"""The file in which a build that failed says why."""

NO_BUILD: Final = "This server was installed without it."

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}

_RELATIVE = re.compile(rb'((?:href|src)=")\./')


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page, and what it is smaller, if it is. `lasting` ones never change."""

    content: bytes
    media_type: str
    compressed: bytes | None = None
    lasting: bool = False
    etag: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "etag", sha256(self.content).hexdigest()[:32])


@dataclass(frozen=True, slots=True)
class WebPage:
    """The page's files by their paths; without an index, `why_not` says why it is not there."""

    files: Mapping[str, PageFile]
    why_not: str = ""

    def file(self, path: str, depth: int) -> PageFile | None:
        """What answers at this path below the page's own, which a browser takes to be so many
        folders deep: a file, or the page, which shows what the path names. None where there can
        only be a file, and is none."""
        if _is_nowhere(path):
            return None
        if path and path != INDEX and (path in self.files or path.startswith(ASSETS)):
            return self.files.get(path)
        if "/" not in path and "." in path and path != INDEX:
            return None
        return self._index(depth)

    def _index(self, depth: int) -> PageFile | None:
        index = self.files.get(INDEX)
        if index is None or depth == 0:
            return index
        upwards = rb"\1" + b"../" * depth
        return PageFile(_RELATIVE.sub(upwards, index.content), index.media_type)


def web_page() -> WebPage:
    """The page as it is now: one that is built while the server runs is read anew."""
    try:
        built_at = (UI / INDEX).stat().st_mtime_ns
    except OSError:
        return WebPage({}, _reason(UI))
    return _read(UI, built_at)


@lru_cache(maxsize=1)
def _read(folder: Path, built_at: int) -> WebPage:
    contents: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            contents[path.relative_to(folder).as_posix()] = path.read_bytes()
    files = {
        name: PageFile(
            content,
            TYPES.get(Path(name).suffix, "application/octet-stream"),
            contents.get(f"{name}.gz"),
            lasting=name.startswith(ASSETS),
        )
        for name, content in contents.items()
        if not (name.endswith(".gz") and name.removesuffix(".gz") in contents)
    }
    return WebPage(files)


def _reason(folder: Path) -> str:
    try:
        return (folder / REASON).read_text(encoding="utf-8").strip() or NO_BUILD
    except OSError:
        return NO_BUILD


def _is_nowhere(path: str) -> bool:
    *folders, last = path.split("/")
    return any(name in ("", ".", "..") for name in folders) or last in (".", "..") or "\\" in path


def missing_page(reason: str, depth: int) -> str:
    """The page in the place of one that is not there, so many folders deep. It needs no script."""
    root = "../" * (depth + 1)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>Assent</title><link rel="stylesheet" href="{root}links/page.css"></head>'
        "<body><h1>The web page is not here</h1>"
        f"<p>{escape(reason)}</p>"
        "<p>The server itself works: agents run, and what they ask can be decided over HTTP, by "
        "links, and in a terminal with <code>assent approvals</code>.</p>"
        "<p>Whoever runs it can build the page where its sources are, with "
        "<code>make serve</code> or <code>python web/build.py</code>, and reload this one.</p>"
        "</body></html>"
    )
