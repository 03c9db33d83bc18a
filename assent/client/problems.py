"""Refusals of the server, and a server that is not there, as the errors of `assent.core.errors`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from assent.core import errors
from assent.core.errors import (
    AssentError,
    Conflict,
    FilesFull,
    Forbidden,
    Gone,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unavailable,
)
from assent.core.json import Json, JsonObject

SHOWN_CHARACTERS = 200
"""The most characters of an answer that is shown because nothing else is known of it."""

LONGEST_WAIT = 86_400.0

PASSING = frozenset({502, 503, 504})
"""Statuses of a proxy whose server is about to be there again."""


class Unauthorized(AssentError):
    """The server does not know the key, or there was none."""


class Unreachable(AssentError):
    """The server does not answer, or the connection to it was lost."""


class ServerFailed(AssentError):
    """The server failed at the request, or what answered is no Assent. `details` has the
    `status`."""


def _named(name: str) -> str:
    return re.sub(r"(?<=.)(?=[A-Z])", "-", name).lower()


_BY_NAME: Mapping[str, type[AssentError]] = {
    _named(name): kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, AssentError)
}
"""Each error of the tree by the last part of its problem's type."""

_BY_STATUS: Mapping[int, type[AssentError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: InvalidRequest,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    415: InvalidRequest,
    421: InvalidRequest,
    422: InvalidRequest,
    503: Unavailable,
    507: FilesFull,
}

_OF_PROBLEMS = frozenset({"type", "title", "status", "detail"})


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> AssentError:
    """The error that this answer is.

    `details` has the extension members of its problem document, and as `retry_after` the seconds
    after which it may be asked again, if the server said so.
    """
    problem = _problem(body)
    error = _unexpected(status, headers, body) if problem is None else _error(status, problem)
    seconds = headers.get("retry-after", "")
    if seconds.isdecimal():
        error.details["retry_after"] = float(seconds)
    return error


def problem_error(frame: JsonObject) -> AssentError:
    """The error of a problem that came as a frame of a WebSocket."""
    name = str(frame.get("title", "")).lower().replace(" ", "-")
    members = {key: value for key, value in frame.items() if key != "id"}
    problem = {"detail": "The server failed.", **members, "type": f":{name}"}
    return _error(int(frame.get("status", 500)), problem)


def unreachable(url: str, error: Exception | str) -> Unreachable:
    """The error of a server that does not answer."""
    cause = f": {error}" if str(error) else ""
    return Unreachable(f"The server at {url} does not answer{cause}. Is it running?")


def may_pass(error: AssentError) -> bool:
    """True if the same request may succeed a little later."""
    is_passing = isinstance(error, ServerFailed) and error.details.get("status") in PASSING
    return isinstance(error, Unreachable | Unavailable) or is_passing or wait_of(error) > 0


def wait_of(error: AssentError) -> float:
    """The seconds for which the server asks to be left alone, at most a day."""
    seconds = error.details.get("retry_after")
    return min(seconds, LONGEST_WAIT) if isinstance(seconds, int | float) else 0.0


def _problem(body: bytes) -> JsonObject | None:
    try:
        problem = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return problem if isinstance(problem, dict) and "detail" in problem else None


def _error(status: int, problem: JsonObject) -> AssentError:
    _, _, name = str(problem.get("type", "")).rpartition(":")
    kind = _BY_NAME.get(name) or _BY_STATUS.get(status)
    members: dict[str, Json] = {
        name: value for name, value in problem.items() if name not in _OF_PROBLEMS
    }
    if kind is None:
        kind = ServerFailed if status >= 500 else AssentError
        members["status"] = status
    error = kind(str(problem["detail"]))
    error.details.update(members)
    return error


def _unexpected(status: int, headers: Mapping[str, str], body: bytes) -> AssentError:
    """The error of an answer that has no problem document."""
    if 300 <= status < 400 and "location" in headers:
        place = headers["location"]
        return ServerFailed(f"The server sends on to {place}. Give its own address.", status=status)
    text = body.decode("utf-8", "replace")[:SHOWN_CHARACTERS].strip()
    said = f": {text}" if text else "."
    kind = Unauthorized if status == 401 else ServerFailed
    return kind(f"The server answered {status}, as Assent does not{said}", status=status)
