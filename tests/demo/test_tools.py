from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from assent.demo.records import EDITABLE, GROUPINGS, Records
from assent.demo.tools import (
    SummaryArguments,
    UpdateArguments,
    record_effects,
    record_previews,
    record_tools,
)
from tests.demo.conftest import Sql


@pytest.fixture
def tools(records: Records) -> dict[str, BaseTool]:
    return {tool.name: tool for tool in record_tools(records)}


async def call(tool: BaseTool, **args: Any) -> ToolMessage:
    message = await tool.ainvoke(
        {"type": "tool_call", "id": "call_1", "name": tool.name, "args": args}
    )
    assert isinstance(message, ToolMessage)
    return message


def test_the_four_tools_say_what_they_take(tools: dict[str, BaseTool]) -> None:
    assert sorted(tools) == [
        "delete_records",
        "search_records",
        "summarise_records",
        "update_record",
    ]
    for tool in tools.values():
        function = convert_to_openai_tool(tool)["function"]
        assert len(function["description"]) > 40
        assert all(
            argument["description"] for argument in function["parameters"]["properties"].values()
        )
    # What the schemas list is what the records have.
    assert get_args(UpdateArguments.model_fields["field"].annotation) == EDITABLE
    assert get_args(SummaryArguments.model_fields["by"].annotation) == GROUPINGS


def test_what_is_declared_to_change_nothing_is_what_needs_no_approval(
    tools: dict[str, BaseTool], records: Records
) -> None:
    effects = record_effects()
    assert effects.keys() == tools.keys()
    assert {
        name for name, declared in effects.items() if declared == "none"
    } == tools.keys() - record_previews(records).keys()


async def test_search_shows_some_and_counts_all(tools: dict[str, BaseTool], sql: Sql) -> None:
    result = json.loads(
        (await call(tools["search_records"], text="miller", category="contract", limit=3)).text
    )
    ids = [
        id_
        for (id_,) in sql(
            "SELECT id FROM records WHERE owner = 'Miller' AND category = 'contract' ORDER BY id"
        )
    ]
    assert (result["found"], result["shown"]) == (len(ids), 3)
    assert [record["id"] for record in result["records"]] == ids[:3]


async def test_a_summary_counts_and_sums(tools: dict[str, BaseTool], sql: Sql) -> None:
    result = json.loads(
        (await call(tools["summarise_records"], by="status", before_year=2010)).text
    )
    assert (result["records"], result["amount"]) == sql(
        "SELECT count(*), sum(amount) FROM records WHERE year < 2010"
    )[0]
    assert len(result["groups"]) == 4


DELETIONS: list[dict[str, Any]] = [
    {"before_year": 2015},
    {"before_year": "2015"},
    {"category": "invoice", "from_year": 2020},
    {"status": "draft", "text": "roof repair"},
    {"ids": [1, 2, 99999]},
    {"before_year": 1990},
]


@pytest.mark.parametrize("args", DELETIONS, ids=str)
async def test_the_preview_of_a_deletion_is_its_effect(
    records: Records, tools: dict[str, BaseTool], sql: Sql, args: dict[str, Any]
) -> None:
    (total,) = sql("SELECT count(*) FROM records")[0]
    preview = await record_previews(records)["delete_records"](args)
    assert sql("SELECT count(*) FROM records") == [(total,)]
    assert [(preview["records"],)] == sql(
        preview["sql"].replace("DELETE", "SELECT count(*)"), *preview["parameters"]
    )
    shown = sql(
        preview["sql"].replace("DELETE", "SELECT id") + " ORDER BY id LIMIT 10",
        *preview["parameters"],
    )
    assert [(record["id"],) for record in preview["first"]] == shown

    message = await call(tools["delete_records"], **args)
    assert message.status == "success"
    assert json.loads(message.text) == {
        "deleted": preview["records"],
        "remaining": total - preview["records"],
    }
    assert sql("SELECT count(*) FROM records") == [(total - preview["records"],)]


async def test_the_preview_of_older_than_2015_names_the_statement(records: Records) -> None:
    preview = await record_previews(records)["delete_records"]({"before_year": 2015})
    assert (preview["sql"], preview["parameters"]) == ("DELETE FROM records WHERE year < ?", [2015])


async def test_the_preview_of_an_update_is_its_effect(
    records: Records, tools: dict[str, BaseTool], sql: Sql
) -> None:
    args = {"record_id": 17, "field": "amount", "value": "1200"}
    (amount,) = sql("SELECT amount FROM records WHERE id = 17")[0]
    preview = await record_previews(records)["update_record"](args)
    assert sql("SELECT amount FROM records WHERE id = 17") == [(amount,)]
    assert (preview["sql"], preview["parameters"]) == (
        "UPDATE records SET amount = ? WHERE id = ?",
        [1200, 17],
    )
    assert preview["records"] == 1
    assert preview["after"] == {**preview["before"], "amount": 1200}

    result = json.loads((await call(tools["update_record"], **args)).text)
    assert result == {
        "updated": 1,
        "record": 17,
        "field": "amount",
        "before": amount,
        "after": 1200,
    }
    assert sql("SELECT * FROM records WHERE id = 17") == [tuple(preview["after"].values())]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("delete_records", {}, "which records to delete"),
    ("delete_records", {"text": "  "}, "which records to delete"),
    ("delete_records", {"older_than": 2015}, "older_than"),
    ("delete_records", {"before_year": 2015, "categry": "invoice"}, "categry"),
    ("delete_records", {"category": "secret"}, "category"),
    ("delete_records", {"ids": []}, "ids"),
    ("update_record", {"record_id": 17, "field": "id", "value": 3}, "field"),
    ("update_record", {"record_id": 17, "field": "status", "value": "lost"}, "'lost' is not"),
    ("update_record", {"record_id": 99999, "field": "title", "value": "x"}, "no record 99999"),
]


@pytest.mark.parametrize(("tool", "args", "because"), REFUSED, ids=str)
async def test_a_call_that_makes_no_sense_is_refused_in_the_preview_and_in_the_result(
    records: Records,
    tools: dict[str, BaseTool],
    sql: Sql,
    tool: str,
    args: dict[str, Any],
    because: str,
) -> None:
    before = sql("SELECT * FROM records")
    preview = await record_previews(records)[tool](args)
    message = await call(tools[tool], **args)
    assert preview == {"records": 0, "refused": message.text}
    assert message.status == "error"
    assert because in message.text
    assert sql("SELECT * FROM records") == before


async def test_a_lost_file_is_told_to_the_model(
    records: Records, tools: dict[str, BaseTool]
) -> None:
    records.path.unlink()
    for tool, args in (
        ("search_records", {}),
        ("summarise_records", {}),
        ("delete_records", {"ids": [1]}),
    ):
        message = await call(tools[tool], **args)
        assert (message.status, "cannot be used now" in message.text) == ("error", True)
