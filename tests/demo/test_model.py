from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import BaseTool

from assent.core.clock import Clock
from assent.core.errors import ConfigurationError
from assent.demo.model import MODEL_NAME, ClerkModel
from assent.demo.records import Records
from assent.demo.tools import record_tools


@pytest.fixture
def tools(records: Records) -> list[BaseTool]:
    return record_tools(records)


def asked(text: str, tool: str, args: dict[str, Any], *results: ToolMessage) -> list[BaseMessage]:
    """A conversation in which the clerk called a tool, up to the tool's answer."""
    calls = [{"name": tool, "args": args, "id": result.tool_call_id} for result in results]
    return [SystemMessage("…"), HumanMessage(text), AIMessage("I can.", tool_calls=calls), *results]


def result(content: Any, status: Any = "success", call_id: str = "call_1") -> ToolMessage:
    return ToolMessage(
        content if isinstance(content, str) else json.dumps(content),
        tool_call_id=call_id,
        status=status,
    )


async def said(*messages: BaseMessage) -> str:
    return (await ClerkModel(delay=0).ainvoke(list(messages))).text


async def test_words_stream_one_by_one_before_the_call(tools: list[BaseTool]) -> None:
    model = ClerkModel(delay=0).bind_tools(tools)
    chunks = [chunk async for chunk in model.astream("Delete all records older than 2015")]
    texts = [chunk.text for chunk in chunks if chunk.text]
    assert len(texts) == 12
    assert "".join(texts) == "I can delete the records from before 2015. This needs your approval."

    first_call = next(
        number
        for number, chunk in enumerate(chunks)
        if isinstance(chunk, AIMessageChunk) and chunk.tool_call_chunks
    )
    assert not any(chunk.text for chunk in chunks[first_call:])
    assert (
        sum(bool(chunk.tool_call_chunks) for chunk in chunks if isinstance(chunk, AIMessageChunk))
        > 2
    )

    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert isinstance(whole, AIMessageChunk)
    (call,) = whole.tool_calls
    assert (call["name"], call["args"]) == ("delete_records", {"before_year": 2015})
    assert whole.response_metadata["finish_reason"] == "tool_calls"
    assert whole.response_metadata["model_name"] == MODEL_NAME
    assert whole.chunk_position == "last"


async def test_all_ways_of_calling_say_the_same(tools: list[BaseTool]) -> None:
    ids = iter(range(100))
    model = ClerkModel(delay=0, clock=Clock(new_id=lambda: str(next(ids)))).bind_tools(tools)
    message = "find invoices and delete record 4"
    answers = [await model.ainvoke(message), await asyncio.to_thread(model.invoke, message)]
    for chunks in ([chunk async for chunk in model.astream(message)], list(model.stream(message))):
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
        answers.append(whole)
    assert len({answer.text for answer in answers}) == 1
    calls = [call for answer in answers for call in answer.tool_calls]
    assert [call["name"] for call in calls] == ["search_records", "delete_records"] * 4
    assert [call["id"] for call in calls] == [f"call_{number}" for number in range(8)]
    for answer in answers:
        assert answer.usage_metadata == answers[0].usage_metadata


async def test_the_usage_counts_words() -> None:
    answer = await ClerkModel(delay=0).ainvoke(
        [SystemMessage("Be brief."), HumanMessage("what is the weather?")]
    )
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == 6
    assert answer.usage_metadata["output_tokens"] == len(answer.text.split())
    assert answer.usage_metadata["total_tokens"] == 6 + len(answer.text.split())


async def test_a_person_sees_it_stream() -> None:
    assert ClerkModel().delay == 0.015
    started = time.monotonic()
    chunks = [chunk async for chunk in ClerkModel(delay=0.002).astream("hello")]
    assert time.monotonic() - started >= 0.002 * len(chunks)


async def test_only_bound_tools_are_called(tools: list[BaseTool]) -> None:
    for model in (
        ClerkModel(delay=0),
        ClerkModel(delay=0).bind_tools([tool for tool in tools if tool.name != "delete_records"]),
    ):
        answer = await model.ainvoke("delete record 17")
        assert answer.tool_calls == []
        assert "the tool delete_records, which I was not given" in answer.text
    assert (await ClerkModel(delay=0).bind_tools(tools).ainvoke("delete record 17")).tool_calls


def test_a_forced_choice_is_refused(tools: list[BaseTool]) -> None:
    with pytest.raises(ConfigurationError, match="tool_choice"):
        ClerkModel().bind_tools(tools, tool_choice="any")


async def test_it_says_what_it_is() -> None:
    answer = await said(HumanMessage("Tell me a joke"))
    assert "rule-based stand-in" in answer
    assert "ASSENT_MODEL" in answer


async def test_the_last_message_counts(tools: list[BaseTool]) -> None:
    model = ClerkModel(delay=0).bind_tools(tools)
    answer = await model.ainvoke(
        [HumanMessage("delete record 17"), AIMessage("Done."), HumanMessage("show record 18")]
    )
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("search_records", {"ids": [18]})
    ]


DELETE = ("Delete all records older than 2015", "delete_records", {"before_year": 2015})


async def test_the_final_answer_has_the_results_count() -> None:
    answer = await said(*asked(*DELETE, result({"deleted": 1363, "remaining": 1637})))
    assert answer == "I deleted 1363 records from before 2015. 1637 records remain."
    assert (
        await said(
            *asked("", "delete_records", {"ids": [17]}, result({"deleted": 1, "remaining": 1}))
        )
    ) == ("I deleted 1 record. 1 record remains.")
    assert "I deleted 0 records" in await said(
        *asked(*DELETE, result({"deleted": 0, "remaining": 5}))
    )


async def test_a_rejection_is_reported_with_its_reason() -> None:
    rejected = "A person rejected this call. It did not run. The reason: Ask the auditors first."
    answer = await said(*asked(*DELETE, result(rejected, "error")))
    assert answer == (
        "A person rejected this, so I did not delete the records and nothing was changed. The reason given: “Ask the auditors first.”"
    )
    answer = await said(
        *asked(*DELETE, result("A person rejected this call. It did not run.", "error"))
    )
    assert "nothing was changed" in answer
    assert "reason" not in answer


async def test_changed_arguments_are_reported() -> None:
    note = 'A person changed the arguments of this call before it ran. It ran with: {"before_year": 2006}'
    answer = await said(*asked(*DELETE, result(note + '\n\n{"deleted": 120, "remaining": 2880}')))
    assert (
        'A person changed what I asked for before it ran; it ran with {"before_year": 2006}.'
        in answer
    )
    assert "I deleted 120 records from before 2006. 2880 records remain." in answer


async def test_an_error_or_an_unknown_outcome_is_quoted_without_a_claim() -> None:
    lost = "This call was cut off before its result was known. It may or may not have happened: check before you repeat it."
    answer = await said(*asked(*DELETE, result(lost, "error")))
    assert lost in answer
    assert "nothing was changed" not in answer
    assert "I deleted" not in answer


async def test_a_persons_own_answer_is_quoted() -> None:
    answer = await said(*asked(*DELETE, result("I did that by hand yesterday.")))
    assert answer == "The answer to my call of delete_records is: I did that by hand yesterday."
    for odd in ("[1, 2]", "{}", '{"deleted": "many"}', "", "null"):
        assert "I deleted" not in await said(*asked(*DELETE, result(odd)))


async def test_searches_summaries_and_changes_are_reported() -> None:
    record = {
        "id": 7,
        "title": "Letter for payroll",
        "category": "letter",
        "owner": "Sato",
        "year": 2012,
        "status": "closed",
    }
    record |= {"amount": 5, "notes": "Copy only."}
    search = asked(
        "find letters",
        "search_records",
        {"category": "letter"},
        result({"found": 700, "shown": 1, "records": [record]}),
    )
    assert await said(*search) == (
        "I found 700 letters. The first 1:\n- 7: Letter for payroll, Sato (letter, 2012, closed, 5 euros). Copy only."
    )
    nothing = asked(
        "find letters",
        "search_records",
        {"category": "letter"},
        result({"found": 0, "shown": 0, "records": []}),
    )
    assert await said(*nothing) == "I found no letters."

    groups = [
        {"value": 2005, "records": 4, "amount": 10},
        {"value": 2006, "records": 6, "amount": 5},
    ]
    count = asked(
        "count",
        "summarise_records",
        {"by": "year"},
        result({"records": 10, "amount": 15, "by": "year", "groups": groups}),
    )
    assert (
        await said(*count)
        == "There are 10 records, worth 15 euros in all. By year: 2005 4, 2006 6."
    )

    change = {
        "updated": 1,
        "record": 17,
        "field": "status",
        "before": "active",
        "after": "archived",
    }
    assert await said(*asked("…", "update_record", {}, result(change))) == (
        "I changed the status of record 17 from “active” to “archived”."
    )


async def test_several_results_are_reported_in_the_order_of_the_calls() -> None:
    first, second = (
        result({"deleted": 1, "remaining": 9}),
        result({"deleted": 2, "remaining": 7}, call_id="call_2"),
    )
    messages = asked("…", "delete_records", {}, first, second)
    for order in (messages, [*messages[:-2], second, first]):
        assert (
            await said(*order)
            == "I deleted 1 record. 9 records remain.\n\nI deleted 2 records. 7 records remain."
        )


async def test_words_written_while_a_call_waited_are_answered_too(tools: list[BaseTool]) -> None:
    messages = asked(*DELETE, result({"deleted": 1363, "remaining": 1637}))
    model = ClerkModel(delay=0).bind_tools(tools)
    answer = await model.ainvoke([*messages, HumanMessage("now show record 18")])
    assert answer.text.startswith("I deleted 1363 records")
    assert [call["name"] for call in answer.tool_calls] == ["search_records"]
    answer = await model.ainvoke([*messages, HumanMessage("is it done?")])
    assert answer.text == "I deleted 1363 records from before 2015. 1637 records remain."
