"""Endpoints that we call ourselves get what FastAPI would call them with."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Message

from assent.api.calling import Endpoint, is_plain


class Body(BaseModel):
    number: int
    text: str = "none"


async def counted(request: Request) -> int:
    request.state.count = getattr(request.state, "count", 0) + 1
    count: int = request.state.count
    return count


async def named(
    count: Annotated[int, Depends(counted)],
    name: Annotated[str | None, Header(pattern="^[a-z]+$")] = None,
) -> str:
    return f"{name} {count}"


async def noted(request: Request) -> None:
    request.state.noted = True


Name = Annotated[str, Path(alias="id", pattern="^[0-9]+$")]
Limit = Annotated[int, Query(ge=1, le=10)]
Named = Annotated[str, Depends(named)]
Count = Annotated[int, Depends(counted)]


async def takes(
    id: Name, body: Body, request: Request, named: Named, count: Count, limit: Limit = 5
) -> Response:
    said = [id, body.model_dump(), named, count, limit, request.state.noted]
    return JSONResponse(said)


async def takes_none_too(id: Name, body: Body | None = None) -> Response:
    return JSONResponse([id, None if body is None else body.number])


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return JSONResponse([[each["type"], *each["loc"]] for each in error.errors()], 422)


def asking(endpoint: Any, *, ours: bool) -> httpx.AsyncClient:
    route = APIRoute("/{id}", endpoint, methods=["POST"], dependencies=[Depends(noted)])
    assert is_plain(route.dependant)
    app = FastAPI(routes=[route], exception_handlers={RequestValidationError: refused})
    if ours:
        app = FastAPI(exception_handlers={RequestValidationError: refused})
        app.router.add_route("/{id}", Endpoint(route.dependant).respond, methods=["POST"])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


REQUESTS: dict[str, dict[str, Any]] = {
    "everything": {"url": "/1?limit=7", "json": {"number": 1}, "headers": {"name": "ann"}},
    "what it must have": {"url": "/1", "json": {"number": 1}},
    "another text": {"url": "/1", "json": {"number": 1, "text": "ä"}},
    "no body": {"url": "/1"},
    "a list": {"url": "/1", "json": [1]},
    "a field of another type": {"url": "/1", "json": {"number": "one"}},
    "a wrong path": {"url": "/one", "json": {"number": 1}},
    "a wrong header": {"url": "/1", "json": {"number": 1}, "headers": {"name": "ANN"}},
    "a number that is too large": {"url": "/1?limit=11", "json": {"number": 1}},
    "all of it": {"url": "/one?limit=x", "json": {}, "headers": {"name": "ANN"}},
}


@pytest.mark.parametrize("endpoint", [takes, takes_none_too])
@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS)
async def test_the_answer_is_that_of_fastapi(endpoint: Any, asked: dict[str, Any]) -> None:
    async with asking(endpoint, ours=True) as ours, asking(endpoint, ours=False) as fastapis:
        answers = [await client.post(**asked) for client in (ours, fastapis)]
    assert [each.status_code for each in answers] in ([200, 200], [422, 422])
    assert answers[0].json() == answers[1].json()


async def test_a_body_that_breaks_off_is_no_failure_of_the_server() -> None:
    route = APIRoute("/{id}", takes, methods=["POST"])

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "path_params": {"id": "1"}, "headers": [], "query_string": b""}
    with pytest.raises(Exception) as raised:
        await Endpoint(route.dependant).respond(Request(scope, gone))
    assert not isinstance(raised.value, ClientDisconnect)
    assert getattr(raised.value, "status_code", None) == 400


def of_a_response(response: Response) -> None:
    """It would be called in a thread, with a response that it changes."""


async def of_two_bodies(one: Body, other: Body) -> Response:
    raise AssertionError


@pytest.mark.parametrize("endpoint", [of_a_response, of_two_bodies])
def test_what_is_not_plain_is_left_to_fastapi(endpoint: Any) -> None:
    assert not is_plain(APIRoute("/", endpoint, response_model=None).dependant)
