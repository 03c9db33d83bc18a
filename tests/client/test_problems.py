"""Every refusal of a server comes out of the client as the error that it was."""

from __future__ import annotations

import json

import pytest

from assent.api.problems import STATUSES
from assent.client.problems import (
    LONGEST_WAIT,
    ServerFailed,
    Unauthorized,
    Unreachable,
    error_of,
    may_pass,
    unreachable,
    wait_of,
)
from assent.core import errors
from assent.core.errors import (
    AlreadyDecided,
    AssentError,
    Conflict,
    InvalidRequest,
    QueueFull,
    Unavailable,
)
from assent.core.json import Json


def answer(status: int, title: str, **members: Json) -> bytes:
    """The body of a problem document, as the server writes it."""
    kind = f"urn:assent:problem:{title.lower().replace(' ', '-')}"
    body = {"type": kind, "title": title, "status": status, "detail": "A sentence.", **members}
    return json.dumps(body).encode()


@pytest.mark.parametrize("status", [status for _, status in STATUSES])
def test_the_status_alone_gives_its_class(status: int) -> None:
    named = {number: kind for kind, number in STATUSES if number not in (429, 500)}
    error = error_of(status, {}, answer(status, "Something New"))
    assert isinstance(error, named.get(status, AssentError))
    assert error.message == "A sentence."


@pytest.mark.parametrize(
    ("status", "title", "kind"),
    [
        (409, "Already Decided", AlreadyDecided),
        (409, "Conflict", Conflict),
        (429, "Queue Full", QueueFull),
        (400, "Bad Request", InvalidRequest),
        (401, "Unauthorized", Unauthorized),
        (500, "Internal Error", ServerFailed),
        (500, "Tampered", errors.Tampered),
        (418, "Teapot", AssentError),
    ],
)
def test_the_title_gives_the_class(status: int, title: str, kind: type[AssentError]) -> None:
    assert type(error_of(status, {}, answer(status, title))) is kind


def test_members_are_details_also_those_named_as_a_parameter_is() -> None:
    body = answer(409, "Already Decided", decided_by="ann", message="why", self="x")
    details = error_of(409, {}, body).details
    assert details == {"decided_by": "ann", "message": "why", "self": "x"}


def test_what_is_no_problem_document_is_said_with_its_status() -> None:
    error = error_of(502, {}, b"<html>Bad Gateway</html>")
    assert isinstance(error, ServerFailed)
    assert error.message == "The server answered 502, as Assent does not: <html>Bad Gateway</html>"
    assert error.details == {"status": 502}
    moved = error_of(307, {"location": "https://elsewhere.example"}, b"")
    assert "https://elsewhere.example. Give its own address." in moved.message


def test_what_passes_may_be_asked_again_and_nothing_else() -> None:
    full = error_of(429, {"retry-after": "10"}, answer(429, "Queue Full"))
    assert (may_pass(full), wait_of(full)) == (True, 10.0)
    assert wait_of(error_of(429, {"retry-after": "9" * 400}, b"")) == LONGEST_WAIT
    assert wait_of(error_of(409, {}, answer(409, "Conflict", retry_after="soon"))) == 0
    assert may_pass(Unavailable("The disk is full."))
    assert may_pass(unreachable("http://here", "refused"))
    assert may_pass(error_of(502, {}, b""))
    assert not may_pass(error_of(500, {}, b""))
    assert not may_pass(error_of(409, {}, answer(409, "Conflict")))
    assert isinstance(unreachable("http://here", ""), Unreachable)
