"""The sizes of what is measured.

With `ASSENT_BENCH_SMALL=1` each is so small that a part takes seconds. The figures are then worth
nothing: it only shows that all parts still run.
"""

from __future__ import annotations

import os


def sized(whole: int, small: int) -> int:
    """This many, or the small number if that is asked for."""
    return small if os.environ.get("ASSENT_BENCH_SMALL") else whole
