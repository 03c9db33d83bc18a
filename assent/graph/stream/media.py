"""Images, audio, video and files in messages, by reference: events never carry their bytes.

A block is read in each of the shapes that providers and LangChain write: the standard blocks
(`base64`, `url` or `file_id`), the earlier ones (`data`), OpenAI's `image_url`, `input_audio` and
`image_generation_call`, and Anthropic's `source`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assent.core.json import Json, JsonObject

KINDS = {
    "image": "image",
    "image_url": "image",
    "image_generation_call": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "file": "file",
}
"""Types of blocks, and the `media` that they are."""

BYTES_KEYS = ("base64", "data", "result")
"""The keys under which a block has its bytes, as base64."""

NESTED_KEYS = ("source", "image_url", "input_audio", "file", "audio")
"""The keys under which a block may have what it would otherwise have itself."""


def media_fields(block: Any) -> dict[str, Any] | None:
    """The fields of a `media` event about this block of a message's content. None if the block is
    no such medium, or the first piece of one that has nothing yet."""
    if not isinstance(block, Mapping) or block.get("type") not in KINDS:
        return None
    source: dict[str, Any] = dict(block)
    for key in NESTED_KEYS:
        nested = block.get(key)
        if isinstance(nested, Mapping):
            source |= nested
        elif isinstance(nested, str):
            source["url"] = nested

    mime_type = source.get("mime_type") or source.get("media_type") or ""
    url = source.get("url") or ""
    data = next((source[key] for key in BYTES_KEYS if source.get(key)), "")
    if url.startswith("data:"):
        header, _, data = url.partition(",")
        mime_type = header.removeprefix("data:").partition(";")[0]
        url = ""
    file_id = source.get("file_id") or ""
    if not (data or url or file_id):
        return None
    return {
        "media": KINDS[block["type"]],
        "mime_type": str(mime_type),
        "url": str(url),
        "file_id": str(file_id),
        "size": _size(data),
    }


def without_bytes(value: Json) -> Json:
    """The JSON, with the number of bytes in the place of those of each medium in it."""
    if isinstance(value, list):
        return [without_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("type"), str) and value["type"] in KINDS:
        return _without_its_bytes(value)
    shown: JsonObject = {}
    for key, item in value.items():
        # OpenAI's chat completions have the audio beside the content, without a type.
        is_audio = key == "audio" and isinstance(item, dict)
        shown[key] = _without_its_bytes(item) if is_audio else without_bytes(item)
    return shown


def _without_its_bytes(block: JsonObject) -> JsonObject:
    shown: JsonObject = {}
    for key, item in block.items():
        if key in BYTES_KEYS and isinstance(item, str) and item:
            item = f"<{_size(item)} bytes>"
        elif isinstance(item, str) and item.startswith("data:"):
            header, comma, data = item.partition(",")
            item = f"{header}{comma}<{_size(data)} bytes>"
        elif key in NESTED_KEYS and isinstance(item, dict):
            item = _without_its_bytes(item)
        shown[key] = item
    return shown


def _size(data: Any) -> int:
    """The number of bytes that this base64 stands for."""
    if isinstance(data, bytes):
        return len(data)
    if not isinstance(data, str):
        return 0
    return len(data) * 3 // 4 - data[-2:].count("=")
