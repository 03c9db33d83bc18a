"""Our errors as HTTP statuses, in one table, and every error as an RFC 9457 problem document."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from assent.api.responses import json_response
from assent.api.views import approval_view
from assent.core.errors import (
    AssentError,
    Conflict,
    Forbidden,
    Gone,
    InvalidRequest,
    NotFound,
    Tampered,
    Unavailable,
)
from assent.core.rows import Approval
from assent.runs.service import Runs

log = structlog.get_logger(__name__)

STATUSES: tuple[tuple[type[AssentError], int], ...] = (
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Gone, 410),
    (InvalidRequest, 422),
    # The request was right, and sending another would not help: what the server has stored is
    # wrong.
    (Tampered, 500),
    (Unavailable, 503),
)
"""An error's status is that of the first class here that it belongs to. Any other error is a 500
that tells nothing."""

PROBLEM = "application/problem+json"


def install(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(AssentError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def problem(
    status: int, title: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
) -> Response:
    """An RFC 9457 problem document; `members` are its extension members."""
    body = {
        "type": f"urn:assent:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        **members,
    }
    return json_response(body, status=status, media_type=PROBLEM, headers=headers)


def status_of(error: AssentError) -> int | None:
    """The status that the error is answered with; None if it is a fault of the server's, of which
    nothing is told."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), None)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, AssentError)
    status = status_of(error)
    if status is None:
        return await _unexpected(request, error)
    if isinstance(error, Tampered):
        await _distrust(request, error)
    return problem(
        status,
        _title(type(error).__name__),
        error.message,
        **{key: _member(value) for key, value in error.details.items()},
    )


async def _distrust(request: Request, error: Tampered) -> None:
    """Whoever finds it, by whatever way: from now on nothing of the thread is run."""
    log.error("a stored value was tampered with", path=request.url.path, **error.details)
    runs: Runs = request.app.state.runs
    # A full disk, say. It is found again at the next request.
    with suppress(Unavailable):
        await runs.distrust(str(error.details["thread_id"]), error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    sentences = [_validation_sentence(item) for item in error.errors()]
    if request.method != "GET":
        sentences.append("Nothing was changed.")
    return problem(422, "Invalid Request", " ".join(sentences))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        # FastAPI's word for a body that breaks the parser itself, which is no better and no worse
        # than any other bad body.
        return problem(
            422,
            "Invalid Request",
            "The body is not JSON in UTF-8, or is nested too deeply. Nothing was changed.",
        )
    details = {
        404: f"There is no {request.url.path} on this server.",
        405: f"{request.url.path} does not take {request.method}.",
    }
    detail = details.get(error.status_code, str(error.detail))
    return problem(
        error.status_code,
        _HTTP_TITLES.get(error.status_code, "Error"),
        detail,
        headers=dict(error.headers or {}),
    )


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, exc_info=error)
    return problem(
        500,
        "Internal Error",
        "The server failed at this request. Its log has the details; the request may be sent again.",
    )


_HTTP_TITLES = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    410: "Gone",
    413: "Too Large",
}

_WORDS = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "model_type": "it should be a JSON object",
    "model_attributes_type": "it should be a JSON object",
    "dict_type": "it should be a JSON object",
    "int_parsing_size": "the number is too large",
    # The only pattern that there is.
    "string_pattern_mismatch": "an id is 1 to 64 letters, digits, '_' or '-'",
}
"""What is said of mistakes for which pydantic has only a Python programmer's words."""


def _title(name: str) -> str:
    return "".join(f" {letter}" if letter.isupper() else letter for letter in name).strip()


def _member(value: Any) -> Any:
    if isinstance(value, Sequence) and value and isinstance(value[0], Approval):
        return [approval_view(approval) for approval in value]
    return value


def _validation_sentence(item: dict[str, Any]) -> str:
    place, *path = (str(part) for part in item["loc"])
    if item["type"] == "json_invalid":
        return f"The body is not valid JSON: {item['ctx']['error']}."
    where, what = (
        ".".join(path),
        _WORDS.get(item["type"]) or str(item["msg"]).removeprefix("Value error, "),
    )
    return f"In the {place}, '{where}': {what}." if where else f"The {place}: {what}."
