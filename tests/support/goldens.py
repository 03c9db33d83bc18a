"""Long expected texts, each in a file of its own beside the test."""

from __future__ import annotations

import os
from difflib import unified_diff
from pathlib import Path

import pytest

REWRITE = bool(os.environ.get("REWRITE_GOLDENS"))


def check_golden(golden: Path, text: str) -> None:
    """Fail with a diff where the text is not the file's; a newline at the end counts for nothing.

    With `REWRITE_GOLDENS=1` the file is written instead. Read what `git diff` says of it then.
    """
    told = text.rstrip("\n") + "\n"
    if REWRITE:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(told)
        return
    expected = golden.read_text() if golden.exists() else ""
    if told != expected:
        lines = unified_diff(
            expected.splitlines(), told.splitlines(), str(golden), "what came", lineterm=""
        )
        pytest.fail("\n".join(lines), pytrace=False)
