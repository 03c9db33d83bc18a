"""Links in the OpenAPI document: which routes take what an answer names, so that a program can go
from one to the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from assent.core.json import JsonObject

_SCHEMAS: Final = "#/components/schemas/"
_LINKS: Final = "#/components/links/"

_PARAMETER: Final = re.compile(r"\{(\w+)\}")

_EXECUTIONS: Final = frozenset({"execution_id", "progress_id"})
"""What the dialects call a run, or a thread."""


class _Target(NamedTuple):
    """An operation, and the field of an answer that each parameter of its path is."""

    operation_id: str
    fields: Mapping[str, str]


def add_links(document: JsonObject) -> None:
    """Put a link to each operation into the answers of those that make something, or list it, where
    these name what its path takes."""
    components = document["components"]
    targets = list(_targets(document))
    links: JsonObject = {}
    for path, method, operation in operations(document):
        makes = method == "post" or (method == "get" and not _PARAMETER.search(path))
        for status, response in operation["responses"].items():
            if not makes or not status.startswith("2"):
                continue
            schema = _schema_of(response, components["schemas"])
            found = dict(_links_from(schema, components["schemas"], targets))
            if found:
                response["links"] = {name: {"$ref": _LINKS + name} for name in found}
                links.update(found)
    components["links"] = links


def operations(document: JsonObject) -> Iterator[tuple[str, str, JsonObject]]:
    """Each operation with its path and method."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _targets(document: JsonObject) -> Iterator[_Target]:
    for path, _, operation in operations(document):
        parameters = _PARAMETER.findall(path)
        # Whoever opens a WebSocket does it by another protocol.
        if parameters and "101" not in operation["responses"]:
            fields = {name: _field_of(path, name) for name in parameters}
            yield _Target(operation["operationId"], fields)


def _field_of(path: str, parameter: str) -> str:
    """The field that answers have for the parameter: `thread_id` for the `id` of /threads/{id}."""
    of_first = path.split("/")[1].removesuffix("s")
    field = f"{of_first}_id" if parameter == "id" else parameter
    return "run_id" if field in _EXECUTIONS or of_first == "progres" else field


def _schema_of(response: JsonObject, schemas: JsonObject) -> JsonObject:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return _resolved(schema, schemas)


def _resolved(schema: JsonObject, schemas: JsonObject) -> JsonObject:
    reference = schema.get("$ref")
    found: JsonObject = schemas[reference.removeprefix(_SCHEMAS)] if reference else schema
    return found


def _links_from(
    schema: JsonObject, schemas: JsonObject, targets: list[_Target]
) -> Iterator[tuple[str, JsonObject]]:
    pointers = dict(_pointers(schema, schemas))
    for target in targets:
        if all(field in pointers for field in target.fields.values()):
            parameters = {
                name: f"$response.body#/{pointers[field]}" for name, field in target.fields.items()
            }
            listed = "_listed" if any("/0/" in each for each in parameters.values()) else ""
            link = {"operationId": target.operation_id, "parameters": parameters}
            yield f"{target.operation_id}{listed}", link


def _pointers(schema: JsonObject, schemas: JsonObject) -> Iterator[tuple[str, str]]:
    """Where the texts are of an answer with this schema, or of the first row of a page."""
    for name, part in schema.get("properties", {}).items():
        if part.get("type") == "string":
            yield name, name
        items = _resolved(part.get("items", {}), schemas)
        for field, inner in items.get("properties", {}).items():
            if inner.get("type") == "string" and "next" in schema["properties"]:
                yield field, f"{name}/0/{field}"
