"""The contract from which the types of the TypeScript client are made."""

from __future__ import annotations

from typing import Any

import pytest

from assent.core.events import ALWAYS_SENT, EVENT_TYPES
from tests.support.contract import CONTRACT, WRITE, contract
from tests.support.document import document

SCHEMAS = document()["components"]["schemas"]
"""The schemas that it names."""


# Other versions of FastAPI describe a parameter elsewhere: the committed one is of those pinned.
@pytest.mark.slow
def test_the_committed_contract_is_that_of_the_server() -> None:
    assert CONTRACT.is_file() and CONTRACT.read_text(encoding="utf-8") == contract(), (
        f"web/openapi.json is not what the server gives. Write it anew, and commit it: {WRITE}"
    )


def test_events_are_one_union_of_a_named_schema_for_each_type() -> None:
    event = SCHEMAS["Event"]
    names = {type_: f"#/components/schemas/{cls.__name__}" for type_, cls in EVENT_TYPES.items()}
    assert event["discriminator"] == {"propertyName": "type", "mapping": names}
    assert [each["$ref"] for each in event["anyOf"]] == list(names.values())
    for type_, cls in EVENT_TYPES.items():
        assert SCHEMAS[cls.__name__]["properties"]["type"] == {"enum": [type_]}


@pytest.mark.parametrize("type_", EVENT_TYPES)
def test_what_every_event_has_is_required(type_: str) -> None:
    # A message to everybody is of no thread and has no number.
    sent = ALWAYS_SENT if type_ != "broadcast" else ("type", "ts")
    assert {*sent} <= {*SCHEMAS[EVENT_TYPES[type_].__name__]["required"]}


@pytest.mark.parametrize(
    "path",
    [
        "/threads/{id}/events",
        "/approvals/stream",
        "/agents/{name}/events",
        "/users/{name}/events",
        "/runs/{id}/stream",
    ],
)
def test_streams_and_their_pages_are_of_that_union(path: str) -> None:
    content: Any = document()["paths"][path]["get"]["responses"]["200"]["content"]
    assert content["text/event-stream"]["schema"] == {"$ref": "#/components/schemas/EventFrame"}
    data = SCHEMAS["EventFrame"]["properties"]["data"]
    assert {"$ref": "#/components/schemas/Event"} in data["contentSchema"]["anyOf"]
    if page := content.get("application/json"):
        assert page["schema"] == {"$ref": "#/components/schemas/EventsPage"}
        items = SCHEMAS["EventsPage"]["properties"]["events"]["items"]
        assert items == {"$ref": "#/components/schemas/Event"}
