"""JSON Schemas: which of them can be used, and what does not fit them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, time, timedelta
from functools import cache, lru_cache
from typing import Any

import jsonschema
import msgspec
from jsonschema.validators import validator_for
from langchain_core.tools import BaseTool
from pydantic import AnyUrl, BaseModel, TypeAdapter
from referencing import Registry

from assent.core.json import JsonObject, encode_json
from assent.graph.stream.jsonable import event_json

Schema = Mapping[str, Any]
"""A JSON Schema."""

SCHEMA_WORDS = frozenset(
    (
        *("type", "enum", "const", "properties", "required", "items", "$ref"),
        *("anyOf", "oneOf", "allOf", "not", "if"),
    )
)
"""A mapping without any of these restricts nothing, and is something else of that name."""

LONGEST_REMEMBERED = 64 * 1024
"""Bytes of a schema whose check is remembered: with 256 of them, at most 16 MiB are held."""


def schema_of_args(tool: BaseTool | None) -> JsonObject | None:
    """The JSON Schema of what a model may call the tool with. Other names are refused, since a tool
    drops them in silence. None for a tool that only a turn knows."""
    if tool is None:
        return None
    schema = tool.tool_call_schema
    if isinstance(schema, dict):
        return schema
    assert issubclass(schema, BaseModel)
    return {"additionalProperties": False, **schema.model_json_schema()}


def validator(schema: Schema, **options: Any) -> Any:
    """The validator of a schema, by the draft that it names."""
    # With an empty registry, no schema can make the server fetch another document.
    kind = validator_for(schema, jsonschema.Draft202012Validator)
    return kind(schema, registry=Registry(), **options)


def schema_problem(value: Any, schema: Schema) -> str | None:
    """The reason why a value does not fit, as the end of a sentence; None if it fits."""
    errors = validator(schema, format_checker=_formats()).iter_errors(value)
    error = jsonschema.exceptions.best_match(errors)
    return None if error is None else f"{error.message} (at {error.json_path})"


@cache
def _formats() -> jsonschema.FormatChecker:
    """Checks a text's `format`. Of those that pydantic writes into a schema, jsonschema knows some,
    and pydantic itself the others."""
    checker = jsonschema.FormatChecker()
    parsed = {"date-time": datetime, "time": time, "duration": timedelta, "uri": AnyUrl}
    for name, kind in parsed.items():
        checker.checks(name, raises=ValueError)(_parses(TypeAdapter(kind)))
    return checker


def _parses(adapter: TypeAdapter[Any]) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if isinstance(value, str):
            adapter.validate_python(value)
        return True

    return check


def usable_schema(schema: Any) -> Schema | None:
    """The schema, if it is a valid one that refers to no other document."""
    if not isinstance(schema, Mapping) or not set(schema) & SCHEMA_WORDS:
        return None
    schema = event_json(schema, unknown=str)
    document = encode_json(schema)
    is_short = len(document) <= LONGEST_REMEMBERED
    is_usable = _remembered(document) if is_short else _is_usable(schema)
    return schema if is_usable else None


@lru_cache(maxsize=256)
def _remembered(document: bytes) -> bool:
    """A schema takes milliseconds to check, and each look at a pause asks again."""
    return _is_usable(msgspec.json.decode(document))


def _is_usable(schema: JsonObject) -> bool:
    try:
        validator_for(schema, jsonschema.Draft202012Validator).check_schema(schema)
    except jsonschema.SchemaError:
        return False
    return all(reference.startswith("#") for reference in references(schema))


def references(schema: Any) -> Iterator[str]:
    """The references in the schema, to its own definitions and to other documents."""
    if isinstance(schema, Mapping):
        for name, part in schema.items():
            if name in ("$ref", "$dynamicRef") and isinstance(part, str):
                yield part
            yield from references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from references(part)
