"""The answer of an execution, as documents promise it: its last words, and the documents that were
found on the way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice

from assent.core.events import (
    ROOT_CHANNEL,
    Event,
    RetrieverEnd,
    SourceDocument,
    StateUpdate,
    ToolEnd,
)
from assent.core.json import Json, JsonObject

ANSWER_TYPES = frozenset({"state_update", "retriever_end", "tool_end"})
"""The types of the events that an answer is made of."""

MOST_CITATIONS = 50

NAMES_OF_SOURCES = ("source", "title", "url")
"""Where the metadata of documents says what they are, as loaders of LangChain do."""


class Answer:
    """An execution's answer, learnt from its events in order."""

    def __init__(self) -> None:
        self._said: str | None = None
        self._update: Json = None
        self._documents: dict[tuple[str, str], SourceDocument] = {}

    def add(self, event: Event) -> None:
        """Learn from the next event."""
        if isinstance(event, StateUpdate):
            # A subgraph's words count when its node has taken them over.
            if not event.ns:
                self._learn(event.update)
        elif isinstance(event, RetrieverEnd | ToolEnd):
            for document in event.documents:
                # A run may find any number, and each of its readers has an answer of their own.
                if len(self._documents) < MOST_CITATIONS:
                    self._documents.setdefault((document.id, document.text), document)

    @property
    def text(self) -> str | None:
        """The text of the last message of a model that called no tools; of a graph without
        messages, what was written to its state last; None if there is nothing yet."""
        if self._said is not None or self._update is None:
            return self._said
        if isinstance(self._update, str):
            return self._update
        return json.dumps(self._update, ensure_ascii=False)

    @property
    def citations(self) -> list[JsonObject]:
        """The documents that retrievers and tools have found, each once."""
        return citations_of(self._documents.values())

    def _learn(self, update: Json) -> None:
        if not isinstance(update, dict):
            return
        for value in update.values():
            for message in _final_messages(value):
                self._said = _text_of(message.get("content"))
        self._update = update.get(ROOT_CHANNEL, update)


def citations_of(documents: Iterable[SourceDocument]) -> list[JsonObject]:
    """The documents as citations, numbered from 1."""
    return [
        {
            "index": index,
            "source": _source_of(document),
            "text": document.text,
            "metadata": document.metadata,
        }
        for index, document in enumerate(islice(documents, MOST_CITATIONS), 1)
    ]


def _source_of(document: SourceDocument) -> str:
    for name in NAMES_OF_SOURCES:
        source = document.metadata.get(name)
        if source and isinstance(source, str):
            return source
    return document.id


def _final_messages(value: Json) -> Iterator[JsonObject]:
    """The messages of a model among the written values that ask for no tool."""
    for message in value if isinstance(value, list) else [value]:
        if not isinstance(message, dict) or message.get("type") not in ("ai", "AIMessageChunk"):
            continue
        if "content" in message and not message.get("tool_calls"):
            yield message


def _text_of(content: Json) -> str:
    """The text in the content of a message: the content itself, or that of its blocks."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for block in content if isinstance(content, list) else []:
        if isinstance(block, dict):
            block = block.get("text") if block.get("type") == "text" else None
        if isinstance(block, str):
            texts.append(block)
    return "".join(texts)
