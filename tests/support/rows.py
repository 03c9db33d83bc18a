"""Rows with other values, whether they are dataclasses or Structs."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def replace(row: T, **changes: Any) -> T:
    """The row with these values in place of its own."""
    if isinstance(row, msgspec.Struct):
        return msgspec.structs.replace(row, **changes)
    return dataclasses.replace(row, **changes)  # type: ignore[type-var]
