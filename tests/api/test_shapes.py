"""Every answer of every route has a schema. That the answers are as it says is held by the client of
all other tests (`tests/support/document.py`)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from assent.api.answers import EVENTS, answers_of
from assent.api.app import ROUTES
from assent.api.routes.dialects import DIALECT_ROUTES
from assent.api.routing import JsonRoute
from tests.support.document import check_response, document

MODULES = [*ROUTES, *(module for modules in DIALECT_ROUTES.values() for module in modules)]
ENDPOINTS = [
    route.endpoint
    for module in MODULES
    for route in module.router.routes
    if isinstance(route, JsonRoute)
]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: str(endpoint.__qualname__))
def test_every_route_says_what_it_answers(endpoint: Any) -> None:
    declared = answers_of(endpoint)
    assert any(answer.status < 400 for answer in declared)
    for answer in declared:
        assert answer.shape is not None or answer.status in (101, 204, 302)


def test_every_response_has_a_schema_and_a_description() -> None:
    seen = 0
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                if "$ref" in response:
                    name = response["$ref"].rsplit("/", 1)[1]
                    response = document()["components"]["responses"][name]
                assert response["description"], (path, method, status)
                contents = response.get("content", {}).values()
                assert contents or status in ("101", "204", "302"), (path, method, status)
                assert all(content["schema"] for content in contents), (path, method, status)
                seen += 1
    assert seen > 500


def test_refusals_are_those_of_the_route() -> None:
    paths = document()["paths"]
    thread = paths["/threads/{id}"]
    assert "404" in thread["get"]["responses"]
    assert "404" not in paths["/threads"]["get"]["responses"]
    assert not {"408", "413", "415"} & thread["get"]["responses"].keys()
    assert {"408", "413", "415"} <= thread["patch"]["responses"].keys()
    assert "410" in paths["/threads/{id}/events"]["get"]["responses"]
    assert "410" not in thread["get"]["responses"]


def test_a_log_is_events_or_a_page_of_them() -> None:
    content = document()["paths"]["/threads/{id}/events"]["get"]["responses"]["200"]["content"]
    frame = content[EVENTS]["schema"]["$ref"].rsplit("/", 1)[1]
    data = document()["components"]["schemas"][frame]["properties"]["data"]
    assert {"$ref": "#/components/schemas/Event"} in data["contentSchema"]["anyOf"]
    page = content["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
    assert document()["components"]["schemas"][page]["properties"]["events"]["items"] == {
        "$ref": "#/components/schemas/Event"
    }


HEAD = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("status", "head", "body", "wrong"),
    [
        (418, HEAD, b"{}", "this status"),
        (200, {"content-type": "text/html"}, b"", "text/html is not"),
        (200, HEAD, b'{"head": {"number": 1, "mac": "a", "key": "k"}}', "not valid under any"),
        (200, HEAD, b'{"head": null, "more": 1}', "'more' was unexpected"),
    ],
)
async def test_an_answer_that_is_not_as_the_document_says_is_found(
    status: int, head: dict[str, str], body: bytes, wrong: str
) -> None:
    request = httpx.Request("GET", "http://localhost/audit/head")
    response = httpx.Response(status, headers=head, content=body, request=request)
    with pytest.raises(Exception, match=wrong):
        await check_response(response)
    good = httpx.Response(200, headers=HEAD, content=b'{"head": null}', request=request)
    await check_response(good)
