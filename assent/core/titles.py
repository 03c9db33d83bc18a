"""Titles of threads: one line, in which nothing is unseen or changes how the rest looks."""

from __future__ import annotations

from collections.abc import Mapping

from assent.core.json import Json
from assent.core.metadata import TITLE
from assent.core.rows import Thread
from assent.core.text import JOINERS, is_unseen

MAX_TITLE = 200
"""The most characters of a title that somebody gives."""

FROM_WORDS = 80
"""The most characters of a title that is the beginning of a message."""

_LOOKED_AT = 4000
"""The characters of a message among which its title is looked for: it may have a million."""


def one_line(text: str) -> str:
    """The text on one line, without unseen characters, but for those that scripts and emoji need.
    Empty if nothing of it can be seen."""
    shown = "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace() or char in JOINERS or not is_unseen(char)
    )
    line = " ".join(shown.split()).strip(JOINERS + " ")
    return line if any(char not in JOINERS for char in line) else ""


def title_from(words: str) -> str:
    """The title that a thread has by the first words on it: their beginning, up to the end of a
    word where one is near. Empty if nothing of them can be seen."""
    line = one_line(words[:_LOOKED_AT])
    if len(line) <= FROM_WORDS:
        return line
    beginning = line[: FROM_WORDS - 1]
    whole_words, _, rest = line[:FROM_WORDS].rpartition(" ")
    # Scripts without spaces, and very long words, are cut where they are.
    if len(whole_words) > FROM_WORDS // 2 and rest:
        beginning = whole_words
    return beginning.rstrip(JOINERS + " ") + "…"


def with_title(metadata: Mapping[str, Json], title: str | None) -> dict[str, Json]:
    """The metadata of a thread with this title, or as it is."""
    return {**metadata, TITLE: title} if title else dict(metadata)


def is_called(thread: Thread, *, words: str) -> bool:
    """True if the title has all of the words, whatever their case, or the id begins with them."""
    title = (thread.title or "").casefold()
    return thread.thread_id.startswith(words) or all(
        word in title for word in words.casefold().split()
    )
