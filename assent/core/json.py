"""The names that JSON values have in annotations."""

from __future__ import annotations

from typing import Any

Json = Any
"""Any JSON value."""

JsonObject = dict[str, Any]
"""A JSON object."""
