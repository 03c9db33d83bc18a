"""Uploads in messages, for the model alone: a message names an upload by its id, and only what a
provider is sent has the bytes. So neither states nor events nor traces hold them.

LangChain passes the messages of every call of a chat model through `_normalize_messages`, whichever
method is called. That function is replaced by one that first puts the bytes into the blocks; a test
holds that every call goes through it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

from langchain_core.language_models import chat_models
from langchain_core.messages import AIMessage, BaseMessage

from assent.core.blocks import upload_in
from assent.core.errors import ConfigurationError, NotFound
from assent.core.json import Json
from assent.core.remembered import Remembered

CACHE_CHARACTERS = 64 << 20
"""The most characters of base64 that are kept in memory for the next call of a model."""

_SEAM = "_normalize_messages"

_encoded: ContextVar[Callable[[str], str] | None] = ContextVar("encoded_upload", default=None)


class EncodedFiles:
    """The base64 of uploads, those that were used last. Safe to use on any thread."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read
        self._kept: Remembered[str] = Remembered(CACHE_CHARACTERS, weight=len)
        self._lock = Lock()

    def __call__(self, file_id: str) -> str:
        """The base64 of the upload. Raises `NotFound`, `Tampered` or `Unavailable`."""
        with self._lock:
            kept = self._kept.get(file_id)
        if kept is not None:
            return kept
        return self.keep(file_id, self._read(file_id))

    def keep(self, file_id: str, data: bytes) -> str:
        """Keep what was read of the upload, and return its base64."""
        text = base64.b64encode(data).decode()
        with self._lock:
            # One that is larger would put all others out.
            if len(text) <= CACHE_CHARACTERS:
                self._kept.put(file_id, text)
        return text


@contextmanager
def uploads_from(encoded: Callable[[str], str]) -> Iterator[None]:
    """Let the models that are called in this context see the uploads of their messages."""
    token = _encoded.set(encoded)
    try:
        yield
    finally:
        _encoded.reset(token)


def show_uploads_to_models() -> None:
    """Put the bytes of uploads into what chat models send, from now on.

    Raises `ConfigurationError` if LangChain has no place for that any more.
    """
    normalize = getattr(chat_models, _SEAM, None)
    if normalize is None:
        raise ConfigurationError(
            "This langchain-core has no place in which uploads get to the model. Install the one "
            "that requirements/ names."
        )
    if not hasattr(normalize, "shows_uploads"):
        setattr(chat_models, _SEAM, _showing(normalize))


def _showing(normalize: Callable[..., Any]) -> Callable[..., Any]:
    def with_uploads(messages: Sequence[BaseMessage]) -> Any:
        encoded = _encoded.get()
        if encoded is not None:
            messages = [_shown(message, encoded) for message in messages]
        return normalize(messages)

    with_uploads.shows_uploads = True  # type: ignore[attr-defined]
    return with_uploads


def _shown(message: BaseMessage, encoded: Callable[[str], str]) -> BaseMessage:
    """The message with the bytes of its uploads. A model that writes an id is shown nothing."""
    content = message.content
    if not isinstance(content, list) or isinstance(message, AIMessage):
        return message
    if not any(map(upload_in, content)):
        return message
    return message.model_copy(update={"content": [_block(block, encoded) for block in content]})


def _block(block: Json, encoded: Callable[[str], str]) -> Json:
    file_id = upload_in(block)
    if file_id is None:
        return block
    try:
        shown = {**block, "base64": encoded(file_id)}
    except NotFound:
        name = block.get("filename") or file_id
        return {"type": "text", "text": f"[The file '{name}' is not there any more.]"}
    del shown["file_id"]
    return shown
