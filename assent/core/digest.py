"""What binds a decision to exactly what was shown: a SHA-256 digest over canonical JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import rfc8785


def call_digest(tool: str, args: Any) -> str:
    """The SHA-256, in hex, over the RFC 8785 form of `{"tool": …, "args": …}`.

    RFC 8785 knows only numbers that a double can hold, and text that UTF-8 can. Arguments with
    others (a 64-bit id, half a surrogate pair) are put into a JSON string with sorted keys first,
    under another name, so that the two forms can never be taken for one another. To it 1 and 1.0
    are one number, as they are in JSON.
    """
    try:
        canonical = rfc8785.dumps({"tool": tool, "args": args})
    except rfc8785.CanonicalizationError:
        canonical = rfc8785.dumps({"tool": tool, "args_json": json.dumps(args, sort_keys=True)})
    return hashlib.sha256(canonical).hexdigest()


def approval_id_for(parts: Mapping[str, str]) -> str:
    """The same question always has the same id, so asking again after a crash makes no second
    approval."""
    return "apr_" + hashlib.sha256(rfc8785.dumps(dict(parts))).hexdigest()[:32]
