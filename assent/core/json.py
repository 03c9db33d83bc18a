"""JSON values: their names in annotations, and their encoding."""

from typing import Any

import msgspec

Json = Any
"""Any JSON value."""

JsonObject = dict[str, Any]
"""A JSON object."""

encode_json = msgspec.json.Encoder().encode
"""Encode a value as JSON bytes. Times are RFC 3339, enums their values."""
