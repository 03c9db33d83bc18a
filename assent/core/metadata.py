"""Metadata: what clients keep with a thread, a run, a schedule or an assistant."""

from __future__ import annotations

from collections.abc import Mapping

from assent.core.errors import InvalidRequest
from assent.core.json import Json, encode_json

MAX_METADATA_FIELDS = 1000
"""The most fields of metadata, at any depth: it is repeated with every thread, run and event that
shows it, and is for a handful of names."""

MAX_METADATA_BYTES = 1024 * 1024
"""The most bytes of a thread's metadata as JSON, as of one body: what changes it adds to it."""

OF_TASK = "assent_task"
"""The field of a thread's metadata that says what task it is."""

OBSERVED = "assent_observed"
"""The field of the metadata of a thread whose runs a program makes."""

TITLE = "assent_title"
"""The field of a thread's metadata that has its title. It is shown beside the metadata."""

OWN_METADATA = frozenset({OF_TASK, OBSERVED, TITLE})
"""The fields that only the server gives a thread: it goes by what they say, so no client may set
them."""


def without_title(metadata: Mapping[str, Json]) -> dict[str, Json]:
    """The metadata of a thread as it is shown."""
    return {name: value for name, value in metadata.items() if name != TITLE}


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


MAX_ASSISTANT_METADATA_BYTES = 64 * 1024
"""The most bytes of an assistant's metadata as JSON: each of its versions and its runs has them."""


def check_metadata(
    what: str, metadata: Mapping[str, Json], most_bytes: int = MAX_METADATA_BYTES
) -> None:
    """Raise `InvalidRequest` if this, which is put together of several parts, is too much for
    `what` is to have it."""
    if (count := count_fields(dict(metadata))) > MAX_METADATA_FIELDS:
        raise InvalidRequest(
            f"The {what}'s metadata would have {count:,} fields, and {MAX_METADATA_FIELDS:,} are "
            "the most that it may have."
        )
    if (size := len(encode_json(metadata))) > most_bytes:
        raise InvalidRequest(
            f"The {what}'s metadata would have {size:,} bytes as JSON, and {most_bytes:,} are the "
            "most that it may have."
        )
