"""The content blocks of a message from outside: texts, and media by their URL."""

from __future__ import annotations

from collections.abc import Sequence

from assent.core.errors import InvalidInput
from assent.core.json import Json, JsonObject

MEDIA = ("image", "audio", "video", "file")
MEDIA_FIELDS = frozenset({"type", "url", "mime_type", "filename"})

MAX_TEXT_CHARACTERS = 200_000
"""The most characters of a message, all its texts together."""

MAX_URL_CHARACTERS = 8_192


def check_blocks(blocks: Sequence[Json]) -> None:
    """Raise `InvalidInput` for a block that is not one, and name it by its place."""
    characters = 0
    for place, block in enumerate(blocks, 1):
        problem = _problem(block)
        if problem is not None:
            raise InvalidInput(f"In 'message', the block {place} is not one: {problem}.")
        if block["type"] == "text":
            characters += len(block["text"])
    if characters > MAX_TEXT_CHARACTERS:
        raise InvalidInput(
            f"The texts of 'message' have {characters:,} characters, and "
            f"{MAX_TEXT_CHARACTERS:,} are the most."
        )


def _problem(block: Json) -> str | None:
    """The reason why the value is no block, as the end of a sentence."""
    if not isinstance(block, dict):
        return 'send objects, such as {"type": "text", "text": "Hello."}'
    kind = block.get("type")
    if kind == "text":
        is_text = isinstance(block.get("text"), str) and set(block) == {"type", "text"}
        return None if is_text else "a text block has 'type' and 'text', and nothing else"
    if kind == "image_url":
        return _image_url_problem(block)
    if kind in MEDIA:
        unknown = sorted(set(block) - MEDIA_FIELDS)
        if unknown:
            known = ", ".join(sorted(MEDIA_FIELDS))
            return f"it has '{unknown[0]}', and a block of this type has {known}"
        return _url_problem(block.get("url"))
    return f"its 'type' is {kind!r:.40}, and it may be: text, {', '.join(MEDIA)}, image_url"


def _image_url_problem(block: JsonObject) -> str | None:
    """OpenAI's form of a picture by its URL."""
    image = block.get("image_url")
    if not isinstance(image, dict) or set(block) != {"type", "image_url"}:
        return "it has 'type' and 'image_url', which is an object with 'url'"
    return _url_problem(image.get("url"))


def _url_problem(url: Json) -> str | None:
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        return "its 'url' begins with https:// or http://"
    if len(url) > MAX_URL_CHARACTERS:
        return f"its 'url' has at most {MAX_URL_CHARACTERS:,} characters"
    return None
