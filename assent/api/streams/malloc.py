"""The memory that large bodies leave behind: glibc keeps what was freed, unless it is told not
to. Other C libraries are left alone."""

from __future__ import annotations

import ctypes

M_MMAP_THRESHOLD = -3
MMAP_BYTES = 128 << 10
"""What is larger is allocated by itself, and given back when it is freed. By default the threshold
grows to 32 MiB with what is freed, and then large bodies stay in the heap."""


def give_back_large() -> None:
    """Give large blocks back to the system as soon as they are freed."""
    _call("mallopt", M_MMAP_THRESHOLD, MMAP_BYTES)


def give_back_free() -> None:
    """Give back to the system what is free now. It takes a quarter of a millisecond for each MiB,
    and in a thread of its own it would hold the others up for as long."""
    _call("malloc_trim", 0)


def _call(name: str, *numbers: int) -> None:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):
        return
    function(*numbers)
