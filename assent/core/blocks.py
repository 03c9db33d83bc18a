"""The content blocks of a message from outside: texts, and media by their URL, as base64, or by
the id of an upload.

Base64 does not stay: it is put aside as an upload, and the block names that.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assent.core.errors import InvalidInput
from assent.core.json import Json, JsonObject

MEDIA = ("image", "audio", "video", "file")
SOURCES = ("url", "base64", "file_id")
MEDIA_FIELDS = frozenset({"type", *SOURCES, "mime_type", "filename"})

UPLOAD = "upload_"
"""The ids of uploads begin so, and those of files that a provider keeps do not."""

MAX_TEXT_CHARACTERS = 200_000
"""The most characters of a message, all its texts together."""

MAX_URL_CHARACTERS = 8_192
MAX_NAME = 200


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
        return _source_problem(block)
    if kind == "input_audio":
        return None if _audio_of(block) else "it has 'input_audio', with 'data' and 'format'"
    return f"its 'type' is {kind!r:.40}, and it may be: text, {', '.join(MEDIA)}, image_url"


def _source_problem(block: JsonObject) -> str | None:
    sources = [name for name in SOURCES if name in block]
    if len(sources) != 1:
        return "it has exactly one of 'url', 'base64' and 'file_id'"
    for name in ("mime_type", "filename"):
        if not isinstance(block.get(name, ""), str) or len(block.get(name, "")) > MAX_NAME:
            return f"its '{name}' is a text of at most {MAX_NAME} characters"
    match sources[0]:
        case "url":
            return _url_problem(block["url"])
        case "base64":
            return _base64_problem(block["base64"])
    is_id = isinstance(block["file_id"], str) and 0 < len(block["file_id"]) <= MAX_NAME
    return None if is_id else f"its 'file_id' is a text of at most {MAX_NAME} characters"


def _base64_problem(text: Json) -> str | None:
    return "its 'base64' is not base64" if _decoded(text) is None else None


def _decoded(text: Json) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        return None


def _image_url_problem(block: JsonObject) -> str | None:
    """OpenAI's form of a picture by its URL."""
    image = block.get("image_url")
    if not isinstance(image, dict) or set(block) != {"type", "image_url"}:
        return "it has 'type' and 'image_url', which is an object with 'url'"
    return _url_problem(image.get("url"))


def _url_problem(url: Json) -> str | None:
    if isinstance(url, str) and url.startswith("data:"):
        return None if _data_of(url) else "its 'url' is not data:<type>;base64,<base64>"
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        return "its 'url' begins with https:// or http://"
    if len(url) > MAX_URL_CHARACTERS:
        return f"its 'url' has at most {MAX_URL_CHARACTERS:,} characters"
    return None


# ── files in blocks ──


@dataclass(frozen=True, slots=True)
class Embedded:
    """A file whose bytes are in a block: the type of the block, and what it says of the file."""

    kind: str
    data: bytes
    mime_type: str
    filename: str

    def by_id(self, file_id: str, mime_type: str) -> JsonObject:
        """The block that names the upload in place of the bytes."""
        named = {"filename": self.filename} if self.filename else {}
        return {"type": self.kind, "file_id": file_id, "mime_type": mime_type, **named}


def embedded_in(block: Json) -> Embedded | None:
    """The file whose bytes are in the block, in any form that messages may have it in; None if
    there is none."""
    if not isinstance(block, dict):
        return None
    kind = block.get("type")
    if kind == "input_audio":
        return _audio_of(block)
    if kind == "image_url":
        image = block.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        return _of_url("image", url, block)
    if kind not in MEDIA:
        return None
    if (data := _decoded(block.get("base64"))) is not None:
        return Embedded(kind, data, _text(block, "mime_type"), _text(block, "filename"))
    return _of_url(kind, block.get("url"), block)


def upload_in(block: Json) -> str | None:
    """The id of the upload that the block names; None if it names none."""
    if not isinstance(block, dict):
        return None
    file_id = block.get("file_id")
    is_upload = isinstance(file_id, str) and file_id.startswith(UPLOAD)
    return file_id if is_upload and block.get("type") in MEDIA else None


def block_lists(given: Json, messages_keys: frozenset[str]) -> Iterator[list[Json]]:
    """The lists of blocks in the messages of a graph's own input."""
    if not isinstance(given, dict):
        return
    for key in messages_keys & set(given):
        messages = given[key] if isinstance(given[key], list) else [given[key]]
        for message in messages:
            if isinstance(message, dict) and isinstance(message.get("content"), list):
                yield message["content"]


def _audio_of(block: JsonObject) -> Embedded | None:
    """OpenAI's form of a sound."""
    audio = block.get("input_audio")
    if not isinstance(audio, dict) or not isinstance(audio.get("format"), str):
        return None
    data = _decoded(audio.get("data"))
    return None if data is None else Embedded("audio", data, f"audio/{audio['format']}", "")


def _of_url(kind: str, url: Json, block: JsonObject) -> Embedded | None:
    found = _data_of(url) if isinstance(url, str) else None
    if found is None:
        return None
    mime_type, data = found
    return Embedded(kind, data, mime_type, _text(block, "filename"))


def _data_of(url: str) -> tuple[str, bytes] | None:
    """The type and the bytes of a `data:` URL."""
    head, comma, text = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    data = _decoded(text)
    mime_type = head.removeprefix("data:").removesuffix(";base64").partition(";")[0]
    return None if data is None else (mime_type, data)


def _text(block: JsonObject, name: str) -> str:
    value = block.get(name)
    return value if isinstance(value, str) else ""
