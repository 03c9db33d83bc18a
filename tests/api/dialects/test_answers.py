"""The answer of an execution, from its events."""

from __future__ import annotations

import tracemalloc
from typing import Any

from assent.api.dialects.answers import MOST_CITATIONS, Answer
from assent.core.events import Event, RetrieverEnd, SourceDocument, StateUpdate, ToolEnd


def answer_of(*events: Event) -> Answer:
    answer = Answer()
    for event in events:
        answer.add(event)
    return answer


def ai(content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "ai", "content": content, **more}


def wrote(**update: Any) -> StateUpdate:
    return StateUpdate(update=update)


def test_the_last_words_that_call_no_tool() -> None:
    answer = answer_of(
        wrote(messages=[ai("First.")]),
        wrote(messages=[ai("Let me see.", tool_calls=[{"name": "look"}])]),
        wrote(messages=[{"type": "tool", "content": "rain"}, {"type": "human", "content": "?"}]),
        wrote(messages=ai(["It ", {"type": "text", "text": "rains."}, {"type": "reasoning"}])),
        wrote(steps=3),
    )
    assert answer.text == "It rains."


def test_nothing_was_said_yet() -> None:
    assert answer_of().text is None
    assert answer_of(StateUpdate(), ToolEnd(tool="look", output="rain")).text is None


def test_a_subgraph_answers_by_the_node_that_it_is() -> None:
    inner = StateUpdate(ns=("inner:1",), update={"messages": [ai("Inner")]})
    assert answer_of(wrote(messages=[ai("Outer")]), inner).text == "Outer"


def test_a_graph_without_messages_answers_by_what_it_wrote_last() -> None:
    assert answer_of(wrote(total=1), wrote(total=2, note="é")).text == '{"total": 2, "note": "é"}'
    assert answer_of(wrote(__root__="Done")).text == "Done"
    assert answer_of(wrote(__root__=[ai("Said")])).text == "Said"


def test_citations_are_the_documents_found_each_once() -> None:
    one = SourceDocument(id="1", text="One", metadata={"source": "a.pdf", "page": 2})
    two = SourceDocument(text="Two", metadata={"url": "https://example.com"})
    three = SourceDocument(id="3", text="Three")
    answer = answer_of(
        RetrieverEnd(retriever="library", documents=(one, two), count=2),
        ToolEnd(tool="look_up", documents=(one, three)),
    )
    assert answer.citations == [
        {"index": 1, "source": "a.pdf", "text": "One", "metadata": one.metadata},
        {"index": 2, "source": "https://example.com", "text": "Two", "metadata": two.metadata},
        {"index": 3, "source": "3", "text": "Three", "metadata": {}},
    ]


def test_citations_come_to_an_end() -> None:
    documents = tuple(SourceDocument(id=str(number)) for number in range(80))
    answer = answer_of(RetrieverEnd(retriever="library", documents=documents, count=80))
    assert [each["source"] for each in answer.citations] == [
        str(number) for number in range(MOST_CITATIONS)
    ]


def test_of_a_run_that_finds_more_and_more_little_is_kept() -> None:
    def kept(calls: int) -> int:
        tracemalloc.start()
        answer = Answer()
        for number in range(calls):
            found = SourceDocument(id=str(number), text=f"{number} " * 1000)
            answer.add(RetrieverEnd(retriever="library", documents=(found,), count=1))
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    assert kept(1000) < 2 * kept(MOST_CITATIONS)
