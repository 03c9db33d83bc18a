"""Text that comes in pieces, broken between words so that it fits a terminal. No I/O."""

from __future__ import annotations

import re

from rich.cells import cell_len, chop_cells

# Scripts that are written without spaces may be broken between any two characters.
_SPACELESS = r"\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uff60"
_ALONE = re.compile(f"[{_SPACELESS}]")
_PARTS = re.compile(rf"\n|[^\S\n]+|[{_SPACELESS}]|[^\s{_SPACELESS}]+")


def folded(text: str, width: int) -> str:
    """The whole text, broken between words."""
    folding = Folding()
    return folding.add(text, width) + folding.end(width)


class Folding:
    """The line that is being written.

    A word is held back until it has ended, since only then it is known which line it fits.
    """

    def __init__(self, column: int = 0) -> None:
        self._column = column
        self._space = ""
        self._word = ""

    def add(self, text: str, width: int) -> str:
        """What to write now that this piece has come."""
        written = []
        for part in _PARTS.findall(text):
            if part == "\n":
                written.append(self._end_word(width) + "\n")
                self._column, self._space = 0, ""
            elif part.isspace():
                written.append(self._end_word(width))
                self._space += part.expandtabs(4)
            elif _ALONE.fullmatch(part) or _ALONE.fullmatch(self._word):
                written.append(self._end_word(width))
                self._word = part
            else:
                self._word += part
        return "".join(written)

    def end(self, width: int) -> str:
        """What is left to write."""
        return self._end_word(width)

    def _end_word(self, width: int) -> str:
        word, self._word = self._word, ""
        if not word:
            return ""
        space, self._space = self._space, ""
        taken = cell_len(space) + cell_len(word)
        if self._column + taken <= width:
            self._column += taken
            return space + word

        # A line that is broken between words keeps no space at its end.
        begun = "\n" if self._column else ""
        *full, last = chop_cells(word, width)
        self._column = cell_len(last)
        return begun + "".join(f"{line}\n" for line in full) + last
