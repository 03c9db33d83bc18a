"""What events show of documents."""

from __future__ import annotations

from langchain_core.documents import Document
from langchain_core.messages import ToolMessage

from assent.core.json import encode_json
from assent.graph.stream.documents import (
    METADATA_BYTES,
    MOST_DOCUMENTS,
    TEXT_CHARACTERS,
    documents_in,
    shown_documents,
)

ONE, TWO = Document("One", id="1"), Document("Two", id="2")


def test_documents_are_found_where_tools_put_them() -> None:
    assert list(documents_in(ONE)) == [ONE]
    assert list(documents_in({"found": [ONE, "text", TWO], "scores": [1, 2]})) == [ONE, TWO]
    message = ToolMessage("One", tool_call_id="c", artifact=(ONE, {"more": [TWO]}))
    assert list(documents_in(message)) == [ONE, TWO]
    assert list(documents_in(ToolMessage("One", tool_call_id="c"))) == []


def test_nothing_is_looked_for_in_texts_or_in_what_contains_itself() -> None:
    endless: list[object] = [ONE]
    endless.append(endless)
    assert set(map(id, documents_in(endless))) == {id(ONE)}
    assert list(documents_in('[{"page_content": "One"}]')) == []


def test_what_is_shown_of_a_document_is_bounded() -> None:
    metadata = {"source": "a.pdf", "page": 3, "vector": [0.5] * 2000, "by": object()}
    [shown] = shown_documents([Document("x" * 5000, metadata=metadata)])
    assert shown.text == "x" * TEXT_CHARACTERS
    assert shown.metadata == {"source": "a.pdf", "page": 3, "by": "<object>"}
    assert len(encode_json(shown.metadata)) <= METADATA_BYTES


def test_the_first_documents_are_shown() -> None:
    shown = shown_documents(Document("", id=str(number)) for number in range(100))
    assert [document.id for document in shown] == [str(n) for n in range(MOST_DOCUMENTS)]


def test_half_a_character_is_replaced() -> None:
    [shown] = shown_documents([Document("\ud83d", metadata={"\ud83d": "\ud83d"})])
    assert (shown.text, shown.metadata) == ("?", {"?": "?"})
