"""Errors as RFC 9457 problem documents. One table gives each of our errors its HTTP status."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from assent.api.access.headers import secured
from assent.api.answers import PROBLEM
from assent.api.context import SCOPE_KEY, Served, is_over_tls
from assent.api.idempotency import has_key
from assent.api.responses import json_response
from assent.api.schemas import KEY, THREAD_ID
from assent.api.views import approval_view
from assent.core.approval import Approval
from assent.core.errors import (
    AssentError,
    Conflict,
    FilesFull,
    Forbidden,
    Gone,
    InvalidRequest,
    NotFound,
    QueueFull,
    QuotaFull,
    StreamsFull,
    Tampered,
    TooLarge,
    TooManyRequests,
    Unavailable,
)
from assent.core.json import Json, JsonObject
from assent.runs.service import Runs

log = structlog.get_logger(__name__)

STATUSES: tuple[tuple[type[AssentError], int], ...] = (
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Gone, 410),
    (TooLarge, 413),
    (InvalidRequest, 422),
    (QueueFull, 429),
    (QuotaFull, 429),
    (StreamsFull, 429),
    (TooManyRequests, 429),
    # The request was right, and another would not help: the stored data is wrong.
    (Tampered, 500),
    (Unavailable, 503),
    (FilesFull, 507),
)
"""The status of an error is that of its first class here. Any other error is a 500 without
details."""

QUEUE_SECONDS = 10
"""A client that found a full queue, or no room for its stream, may try again then: within that
time, most runs end."""

QUOTA_SECONDS = 60
"""A client whose user has as much as they may have may try again then: it takes somebody to erase
something, or a run to end."""

RETRY_AFTER_SECONDS = 5
"""A client that was refused while the storage was away may try again then. The storage itself is
tried every two seconds, and a client in a hurry would only be refused again."""

_HTTP_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    410: "Gone",
    413: "Too Large",
    415: "Unsupported Media Type",
    421: "Misdirected Request",
    422: "Invalid Request",
    426: "Upgrade Required",
    429: "Too Many Requests",
    503: "Unavailable",
}

_VALIDATION_MESSAGES = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "model_type": "it should be a JSON object",
    "model_attributes_type": "it should be a JSON object",
    "dict_type": "it should be a JSON object",
    "int_parsing": "it should be a whole number",
    "int_type": "it should be a whole number",
    "float_type": "it should be a number",
    "bool_type": "it should be true or false",
    "int_parsing_size": "the number is too large",
}
"""Replacements for messages of pydantic that only a Python programmer understands."""

_PATTERNS = {
    THREAD_ID: "an id is 1 to 64 letters, digits, '_' or '-'",
    KEY: "a key is 1 to 255 visible characters of ASCII",
}
"""The forms that texts may have to be of, in words."""


EXPECTED = (AssentError, RequestValidationError, HTTPException)
"""The errors by which routes refuse a request."""


class Document(NamedTuple):
    """A problem document, and the status and headers of the response that it is the body of."""

    status: int
    body: JsonObject
    headers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request that a problem is about. `logged_as` is its path for the log, `docs` that of the
    page with all routes; `dialect` the one that has this route, and is not served; `runs` is None
    before the server has started."""

    method: str
    path: str
    logged_as: str
    has_key: bool
    runs: Runs | None
    docs: str | None = None
    dialect: str | None = None

    @classmethod
    def by(cls, request: Request) -> Asked:
        """What this request asked."""
        server: Served | None = request.scope.get(SCOPE_KEY)
        # Its URL begins with what the client calls the host.
        path = request.scope["path"]
        docs = getattr(request.scope.get("app"), "docs_url", None)
        # A link's token is a secret.
        token = request.path_params.get("token")
        return cls(
            # A WebSocket has none.
            method=request.scope.get("method", "GET"),
            path=path,
            logged_as=path.replace(token, "…") if token else path,
            has_key=has_key(request),
            runs=server.program if server is not None else None,
            docs=f"{request.scope.get('root_path', '')}{docs}" if docs else None,
            dialect=_unserved_dialect(request),
        )


def _unserved_dialect(request: Request) -> str | None:
    """The dialect that would take the request, if it were served."""
    state = getattr(request.scope.get("app"), "state", None)
    for name, routes in getattr(state, "unserved", {}).items():
        if any(route.matches(request.scope)[0] is Match.FULL for route in routes):
            return str(name)
    return None


def install(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    for kind in (*EXPECTED, Exception):
        app.add_exception_handler(kind, answer)


async def answer(request: Request, error: Exception) -> Response:
    """The response with the problem document for the error."""
    status, body, headers = await document(error, Asked.by(request))
    response = json_response(body, status=status, media_type=PROBLEM, headers=headers)
    return secured(response, over_tls=is_over_tls(request.scope))


async def document(error: Exception, asked: Asked) -> Document:
    """The RFC 9457 problem document for the error. One that is not among the `EXPECTED` is a
    failure of the server: it is logged, and shows no details."""
    if isinstance(error, AssentError):
        return await _ours(error, asked)
    if isinstance(error, RequestValidationError):
        return _invalid(error, asked)
    if isinstance(error, HTTPException):
        return _http(error, asked)
    return _unexpected(error, asked)


def _problem(
    status: int, title: str, detail: str, headers: Mapping[str, str] = {}, **members: Json
) -> Document:
    """A problem document; `members` are its extension members."""
    if status == 500:
        # An exception that nobody caught ends the connection, so the client must not use it again.
        headers = {**headers, "Connection": "close"}
    return Document(status, {**problem_body(status, title, detail), **members}, dict(headers))


def problem_body(status: int, title: str, detail: str) -> JsonObject:
    """The problem document with what each has."""
    name = title.lower().replace(" ", "-")
    return {
        "type": f"urn:assent:problem:{name}",
        "title": title,
        "status": int(status),
        "detail": detail,
    }


def status_of(error: AssentError) -> int | None:
    """The HTTP status of the error; None if it is the server's fault, and shows no details."""
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return status
    return None


async def distrust(runs: Runs, error: Tampered) -> None:
    """Run nothing more of the thread with tampered data, whichever request found it."""
    # If the storage cannot take the change now, the next request finds it again.
    with suppress(Unavailable):
        await runs.distrust(str(error.details["thread_id"]), error)


async def _ours(error: AssentError, asked: Asked) -> Document:
    status = status_of(error)
    if status is None:
        return _unexpected(error, asked)
    if isinstance(error, Tampered) and asked.runs is not None:
        log.error("a stored value was tampered with", path=asked.logged_as, **error.details)
        await distrust(asked.runs, error)

    title = re.sub(r"(?<=.)(?=[A-Z])", " ", type(error).__name__)
    members = {name: _member(value, asked) for name, value in error.details.items()}
    headers: dict[str, str] = {}
    # If the error names a run, the request was taken, and must not be sent again.
    if isinstance(error, Unavailable) and "run_id" not in error.details:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    elif isinstance(error, QueueFull | StreamsFull):
        headers["Retry-After"] = str(QUEUE_SECONDS)
    elif isinstance(error, QuotaFull):
        headers["Retry-After"] = str(QUOTA_SECONDS)
    elif isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.details["retry_after"])
    return _problem(status, title, error.message, headers, **members)


def _invalid(error: RequestValidationError, asked: Asked) -> Document:
    sentences = in_sentences(error)
    if asked.method != "GET":
        sentences.append("Nothing was changed.")
    return _problem(422, "Invalid Request", " ".join(sentences))


def _http(error: HTTPException, asked: Asked) -> Document:
    status, detail = error.status_code, str(error.detail)
    if status in (400, 422):
        detail = f"{detail} Nothing was changed."
    elif status == 404:
        detail = f"There is no {asked.path} on this server."
        if asked.docs:
            detail += f" {asked.docs} lists what there is."
    elif status == 405:
        takes = (error.headers or {}).get("Allow", "")
        detail = f"{asked.path} does not take {asked.method}." + (
            f" It takes {takes}." * bool(takes)
        )
    if status in (404, 405) and asked.dialect:
        detail += f" ASSENT_DIALECTS would have to name '{asked.dialect}'."
    return _problem(status, _HTTP_TITLES.get(status, "Error"), detail, error.headers or {})


def _unexpected(error: Exception, asked: Asked) -> Document:
    log.error("request failed", path=asked.logged_as, exc_info=error)
    detail = f"The server failed at this request. Its log has the details. {_whether_again(asked)}"
    return _problem(500, "Internal Error", detail)


def _whether_again(asked: Asked) -> str:
    """A sentence for the client of a request that failed, nobody knows where."""
    if asked.method == "GET":
        return "The request may be sent again."
    if asked.has_key:
        return "The request may be sent again with the same Idempotency-Key."
    return "It may have been carried out all the same: look before you send it again."


def _member(value: Json, asked: Asked) -> Json:
    if isinstance(value, Sequence) and value and isinstance(value[0], Approval):
        assert asked.runs is not None
        people = asked.runs.approvals.people
        return [approval_view(approval, people) for approval in value]
    return value


def in_sentences(error: RequestValidationError | ValidationError) -> list[str]:
    """What pydantic found wrong, in sentences."""
    return [_sentence({**item}) for item in error.errors()]


def _sentence(item: JsonObject) -> str:
    place, *path = map(str, item["loc"] or ["request"])
    pydantics = str(item["msg"]).removeprefix("Value error, ").replace(" after validation", "")
    # Our own messages may be whole sentences.
    message = _VALIDATION_MESSAGES.get(item["type"], pydantics).removesuffix(".")
    pattern = item.get("ctx", {}).get("pattern")
    message = _PATTERNS.get(pattern, message)
    if not path:
        return f"The {place}: {message}."
    return f"In the {place}, '{'.'.join(path)}': {message}."
