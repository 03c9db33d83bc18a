"""Binds a decision to exactly what was shown: a SHA-256 digest of canonical JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import rfc8785

from assent.core.json import Json


def call_digest(tool: str, args: Json) -> str:
    """The SHA-256, in hex, of the RFC 8785 form of `{"tool": …, "args": …}`.

    RFC 8785 covers only numbers that fit a double, and text that UTF-8 can encode. Other arguments
    (a 64-bit id, half a surrogate pair) are first written as a JSON string with sorted keys, under
    another name, so that the two forms can never collide. 1 and 1.0 are one number, as in JSON.
    """
    try:
        canonical = rfc8785.dumps({"tool": tool, "args": args})
    except rfc8785.CanonicalizationError:
        canonical = rfc8785.dumps({"tool": tool, "args_json": json.dumps(args, sort_keys=True)})
    return hashlib.sha256(canonical).hexdigest()


def approval_id_for(parts: Mapping[str, str]) -> str:
    """The id of a question: the same each time it is found, so that a decision is compared with
    what is asked."""
    return "apr_" + hashlib.sha256(rfc8785.dumps(dict(parts))).hexdigest()[:32]
