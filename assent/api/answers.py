"""What a route answers, declared beside it: the shape of each answer, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from assent.api.shapes.common import EventFrame, ForeignFrame

JSON: Final = "application/json"
HTML: Final = "text/html"
TEXT: Final = "text/plain"
WHATEVER: Final = "*/*"
EVENTS: Final = "text/event-stream"
FOREIGN_EVENTS: Final = f"{EVENTS}; charset=utf-8"
PROBLEM: Final = "application/problem+json"

F = TypeVar("F", bound=Callable[..., Any])


class Answer(NamedTuple):
    """An answer with this status, whose body is of this type and shape; `shape` is None if it has
    none. With `location` it says where what was made is."""

    status: int
    media_type: str
    shape: Any
    description: str
    location: bool


def answers(
    shape: Any,
    status: int = 200,
    *,
    media_type: str = JSON,
    description: str = "",
    location: bool = False,
) -> Callable[[F], F]:
    """The route may answer so. It stands below the router's decorator, once for each answer."""

    def declare(endpoint: F) -> F:
        given = description or (getattr(shape, "__doc__", "") or "").strip() or "It was done"
        declared = vars(endpoint).setdefault("answers", [])
        # Decorators are applied from the last to the first.
        declared.insert(0, Answer(status, media_type, shape, given, location))
        return endpoint

    return declare


def refuses(*statuses: int) -> Callable[[F], F]:
    """The route may also refuse a request with these statuses, beside those that any route like it
    has."""

    def declare(endpoint: F) -> F:
        vars(endpoint).setdefault("refusals", set()).update(statuses)
        return endpoint

    return declare


def refuses_by_page(*statuses: int) -> Callable[[F], F]:
    """The route refuses requests with these statuses by a page for people, where it can."""

    def declare(endpoint: F) -> F:
        for status in statuses:
            answers(str, status, media_type=HTML, description="A page that says why")(endpoint)
        return refuses(*statuses)(endpoint)

    return declare


def streams_events(endpoint: F) -> F:
    """The route streams events of ours."""
    text = "Events, each as `id: <seq>` and `data: <an Event as JSON>`"
    return answers(EventFrame, media_type=EVENTS, description=text)(endpoint)


def streams_frames(endpoint: F) -> F:
    """The route streams what a dialect makes of events."""
    text = "Events, each as `data: <JSON>`, in the form of the dialect"
    return answers(ForeignFrame, media_type=FOREIGN_EVENTS, description=text)(endpoint)


def opens_socket(endpoint: F) -> F:
    """The route is the handshake of a WebSocket."""
    return answers(None, 101, description="The WebSocket is open")(endpoint)


def answers_of(endpoint: Callable[..., Any]) -> tuple[Answer, ...]:
    """What the route says that it answers."""
    return tuple(vars(endpoint).get("answers", ()))


def refusals_of(endpoint: Callable[..., Any]) -> frozenset[int]:
    """The statuses of its own with which the route refuses requests."""
    return frozenset(vars(endpoint).get("refusals", ()))


def plain_responses(endpoint: Callable[..., Any]) -> dict[int | str, dict[str, Any]]:
    """What the route answers, for the document of another app: until its lifespan has begun
    (`openapi.describing`), it has none of the schemas that references would name."""
    responses: dict[int | str, dict[str, Any]] = {}
    for answer in answers_of(endpoint):
        described = {"description": sentence(answer.description)}
        response = responses.setdefault(answer.status, described)
        if answer.shape is not None:
            schema = {"type": "string"} if answer.media_type.startswith(EVENTS) else {}
            response.setdefault("content", {})[answer.media_type] = {"schema": schema}
    return responses


def sentence(docstring: str) -> str:
    """The text of a docstring in one line."""
    return " ".join(docstring.split())
