"""Metadata: what clients keep with a thread, a run or a schedule."""

from __future__ import annotations

from assent.core.json import Json

MAX_METADATA_FIELDS = 1000
"""The most fields of metadata, at any depth: it is repeated with every thread, run and event that
shows it, and is for a handful of names."""

MAX_METADATA_BYTES = 1024 * 1024
"""The most bytes of a thread's metadata as JSON, as of one body: what changes it adds to it."""

OF_TASK = "assent_task"
"""The field of a thread's metadata that says what task it is."""

OBSERVED = "assent_observed"
"""The field of the metadata of a thread whose runs a program makes."""

OWN_METADATA = frozenset({OF_TASK, OBSERVED})
"""The fields that only the server gives a thread: it goes by what they say, so no client may set
them."""


def count_fields(metadata: Json) -> int:
    """The fields of the metadata, at any depth."""
    count = 0
    values: list[Json] = [metadata]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            count += len(value)
            values += value.values()
        elif isinstance(value, list):
            values += value
    return count
