"""The documents that retrievers and tools return, as events show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import ToolMessage

from assent.core.events import SourceDocument
from assent.core.json import valid_text
from assent.graph.stream.jsonable import bounded, event_json

MOST_DOCUMENTS = 20
"""The documents that are shown of one call."""

TEXT_CHARACTERS = 1000
METADATA_BYTES = 2048
"""The most that is shown of a document: the beginning of its text, and the shorter fields of its
metadata."""

MAX_DEPTH = 3
"""The lists and objects around each other in which documents are looked for."""


def shown_documents(documents: Iterable[Document]) -> tuple[SourceDocument, ...]:
    """The first of the documents."""
    shown: list[SourceDocument] = []
    for document in documents:
        if len(shown) == MOST_DOCUMENTS:
            break
        shown.append(_shown(document))
    return tuple(shown)


def documents_in(output: Any) -> Iterator[Document]:
    """The documents in what a tool or a retriever returned: among its values, or in the artifact of
    a tool's message."""
    return _found(output.artifact if isinstance(output, ToolMessage) else output, MAX_DEPTH)


def _found(value: Any, depth: int) -> Iterator[Document]:
    if isinstance(value, Document):
        yield value
    elif depth and isinstance(value, Mapping):
        for item in value.values():
            yield from _found(item, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for item in value:
            yield from _found(item, depth - 1)


def _shown(document: Document) -> SourceDocument:
    metadata = {valid_text(str(key)): event_json(value) for key, value in document.metadata.items()}
    return SourceDocument(
        id=valid_text(document.id or ""),
        text=valid_text(document.page_content[:TEXT_CHARACTERS]),
        metadata=bounded(metadata, METADATA_BYTES),
    )
