"""Ids that follow from names: the same each time, in every process, so nothing is stored to find
what has one."""

from __future__ import annotations

import json
from uuid import UUID, uuid5

NAMESPACE = UUID("6f1d3c1e-53d5-5c0b-9f0e-0a5a1b7e4c11")


def named_id(*names: str) -> str:
    """The id for these names, in this order. The first says of what kind the id is."""
    return str(uuid5(NAMESPACE, json.dumps(names)))
