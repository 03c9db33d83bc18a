"""The clerk's four tools, and the previews of the two that change something.

A result is JSON that a model can quote, with exact counts. A mistake in the arguments comes back as
a sentence with `status="error"`, so that a model can correct it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import orjson
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.v1 import ValidationError as ValidationErrorV1

from assent.core.errors import AssentError, InvalidRequest, NotFound
from assent.core.json import Json, JsonObject
from assent.demo.records import Editable, Filter, Grouping, Records
from assent.demo.samples import Category, Status
from assent.graph.effects import Effects

Preview = Callable[[JsonObject], Awaitable[Json]]
"""Computes the effect of a call from its arguments; it changes nothing."""

Year = Annotated[int, Field(ge=1900, le=2101)]
RecordId = Annotated[int, Field(ge=1, le=2**63 - 1)]


class Selection(BaseModel):
    """The records that fit everything given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[
        str | None,
        Field(
            max_length=200,
            description="Words that all occur in the record's title, owner or notes, in any case.",
        ),
    ] = None
    ids: Annotated[
        tuple[RecordId, ...] | None,
        Field(min_length=1, max_length=100, description="The records with these numbers."),
    ] = None
    category: Annotated[Category | None, Field(description="Only this category.")] = None
    status: Annotated[Status | None, Field(description="Only this status.")] = None
    from_year: Annotated[
        Year | None, Field(description="Only records of this year and later years.")
    ] = None
    before_year: Annotated[
        Year | None,
        Field(
            description="Only records of years before this one. "
            "'Older than 2015' is before_year=2015."
        ),
    ] = None

    def filter(self) -> Filter:
        """These arguments as a filter."""
        return Filter(**{name: getattr(self, name) for name in Selection.model_fields})


class SearchArguments(Selection):
    """The arguments of `search_records`."""

    limit: Annotated[
        int, Field(ge=1, le=50, description="How many of the found records to show.")
    ] = 10


class SummaryArguments(Selection):
    """The arguments of `summarise_records`."""

    by: Annotated[Grouping, Field(description="What to count by.")] = "category"


class UpdateArguments(BaseModel):
    """The arguments of `update_record`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    record_id: Annotated[RecordId, Field(description="The record's number.")]
    field: Annotated[Editable, Field(description="The field to change.")]
    value: Annotated[
        Annotated[str, Field(max_length=2000)] | int,
        Field(description="The new value. Years and amounts (in euros) are whole numbers."),
    ]


class DeleteArguments(Selection):
    """The arguments of `delete_records`: at least one of them."""


@dataclass(frozen=True, slots=True)
class _RecordTools:
    """The tools' bodies and the previews. Both read the arguments through the same schema."""

    records: Records

    async def search(self, **arguments: Any) -> str:
        asked = SearchArguments(**arguments)
        with _errors_for_the_model():
            found = await self.records.search(asked.filter(), asked.limit)
        return _json({"found": found.count, "shown": len(found.first), "records": found.first})

    async def summarise(self, **arguments: Any) -> str:
        asked = SummaryArguments(**arguments)
        with _errors_for_the_model():
            groups = await self.records.summarise(asked.filter(), asked.by)
        summary = {
            "records": sum(group.records for group in groups),
            "amount": sum(group.amount for group in groups),
            "by": asked.by,
            "groups": groups,
        }
        return _json(summary)

    async def update(self, **arguments: Any) -> str:
        asked = UpdateArguments(**arguments)
        with _errors_for_the_model():
            edit = await self.records.update(asked.record_id, asked.field, asked.value)
        change = {
            "updated": 1,
            "record": asked.record_id,
            "field": asked.field,
            "before": getattr(edit.before, asked.field),
            "after": getattr(edit.after, asked.field),
        }
        return _json(change)

    async def delete(self, **arguments: Any) -> str:
        asked = DeleteArguments(**arguments)
        with _errors_for_the_model():
            deleted, remaining = await self.records.delete(asked.filter())
        return _json({"deleted": deleted, "remaining": remaining})

    async def preview_update(self, arguments: JsonObject) -> Json:
        try:
            asked = UpdateArguments(**arguments)
            statement, edit = await self.records.preview_update(
                asked.record_id, asked.field, asked.value
            )
        except (ValidationError, InvalidRequest, NotFound) as error:
            return _refusal(error)
        return {
            "sql": statement.sql,
            "parameters": list(statement.parameters),
            "records": 1,
            "before": asdict(edit.before),
            "after": asdict(edit.after),
        }

    async def preview_delete(self, arguments: JsonObject) -> Json:
        try:
            asked = DeleteArguments(**arguments)
            statement, found = await self.records.preview_delete(asked.filter())
        except (ValidationError, InvalidRequest) as error:
            return _refusal(error)
        return {
            "sql": statement.sql,
            "parameters": list(statement.parameters),
            "records": found.count,
            "first": [asdict(record) for record in found.first],
        }


def record_tools(records: Records) -> list[BaseTool]:
    """The tools `search_records`, `summarise_records`, `update_record` and `delete_records`."""
    tools = _RecordTools(records)
    return [
        _tool(
            "search_records",
            "Find records and show the first of them. Returns how many were found in all, "
            "and the shown records. Give nothing to see any.",
            SearchArguments,
            tools.search,
        ),
        _tool(
            "summarise_records",
            "Count records and sum their amounts in euros, in all and by year, category, status "
            "or owner. Use this for every question of how many or how much.",
            SummaryArguments,
            tools.summarise,
        ),
        _tool(
            "update_record",
            "Change one field of one record. A person has to approve each call. "
            "Returns the field's value before and after.",
            UpdateArguments,
            tools.update,
        ),
        _tool(
            "delete_records",
            "Delete the records that fit everything given; at least one argument is needed. "
            "This cannot be undone, and a person has to approve each call. "
            "Returns how many records were deleted and how many remain.",
            DeleteArguments,
            tools.delete,
        ),
    ]


def record_effects() -> Mapping[str, Effects]:
    """The tools' effects. After a crash, a person is asked about the two that change something."""
    return {
        "search_records": "none",
        "summarise_records": "none",
        "update_record": "once",
        "delete_records": "once",
    }


def record_previews(records: Records) -> Mapping[str, Preview]:
    """The preview of each tool that needs approval: the exact effect of a call.

    `delete_records`: `{"sql", "parameters", "records": how many, "first": the first ten}`.
    `update_record`: `{"sql", "parameters", "records": 1, "before", "after"}`. For a call that the
    tool will refuse: `{"records": 0, "refused": why}`. Raises `Unavailable`.
    """
    tools = _RecordTools(records)
    return {"update_record": tools.preview_update, "delete_records": tools.preview_delete}


def _tool(
    name: str, description: str, arguments: type[BaseModel], run: Callable[..., Awaitable[str]]
) -> BaseTool:
    return StructuredTool(
        name=name,
        description=description,
        args_schema=arguments,
        coroutine=run,
        handle_tool_error=True,
        handle_validation_error=_problem,
    )


@contextmanager
def _errors_for_the_model() -> Iterator[None]:
    """Answer the model with an error's sentence, instead of failing the run."""
    try:
        yield
    except AssentError as error:
        raise ToolException(error.message) from error


def _refusal(error: ValidationError | AssentError) -> Json:
    """The preview of a call that the tool will refuse."""
    why = error.message if isinstance(error, AssentError) else _problem(error)
    return {"records": 0, "refused": why}


def _problem(error: ValidationError | ValidationErrorV1) -> str:
    """A sentence about arguments that do not fit the schema."""
    problems: list[str] = []
    for detail in error.errors():
        place = ".".join(map(str, detail["loc"])) or "arguments"
        problems.append(f"{place}: {detail['msg']}")
    return f"The arguments do not fit: {'; '.join(problems)}. Nothing was changed."


def _json(value: Json) -> str:
    return orjson.dumps(value).decode()
