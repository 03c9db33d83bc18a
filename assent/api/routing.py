"""What all routes share: a rule that says who may ask, a body of JSON within its limit, errors as
problem documents, and no query parameters but their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeGuard, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.params import Depends
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from assent.api.access.authorizing import authorize, authorized, may_be_authorized
from assent.api.access.given import TICKET, TOKEN
from assent.api.access.headers import secured
from assent.api.access.refusals import note_refused
from assent.api.access.rules import Rule, rule_of
from assent.api.answers import plain_responses
from assent.api.calling import Endpoint, is_plain
from assent.api.context import SCOPE_KEY, Served, is_over_tls
from assent.api.json_body import SHOWN, JsonRequest
from assent.api.limits import ANY_BODY, JSON_BODY, BodyLimits, LimitedBody
from assent.api.problems import EXPECTED, answer
from assent.api.streams.connections import PLACE
from assent.api.streams.handshake import Handshake
from assent.core.errors import InvalidRequest
from assent.core.json import JsonObject
from assent.core.text import visible

F = TypeVar("F", bound=Callable[..., Any])

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

BODY = "body_limits"
"""The attribute of an endpoint that has the limits of its body."""

CUT_OFF = (
    "The server stops before it could answer, and what you asked for may have been done or not. "
    "Look when the server is back, or repeat the request under the same Idempotency-Key."
)


OWN_PATH = "x-assent-path"
"""Where the document of an app has the path of a route of ours, as it is without a prefix. By that
`openapi.py` knows it again, and takes it out."""

UNTRACED = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
"""The routes that machines ask every few seconds, and whose requests start nothing."""


class JsonRoute(APIRoute):
    """A route whose rule says who may ask, and whose body is read by `read_json`, and not beyond
    its limits. It answers errors with problem documents, whosever app it is a part of. A request
    that is cut off because the server ends is told so with 503.

    Raises `TypeError` for an endpoint without a rule.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        methods = " ".join(sorted(options.get("methods") or ("GET",)))
        self.rule = rule_of(endpoint, f"{methods} {path}")
        options["dependencies"] = _authorized_first(options.get("dependencies") or ())
        extra = {OWN_PATH: path, **(options.get("openapi_extra") or {})}
        options["openapi_extra"] = _with_parameters(self.rule, extra)
        options["responses"] = plain_responses(endpoint)
        super().__init__(path, endpoint, **options)
        # An app that includes our router may make the route anew, with its prefix in the path.
        self.own_path: str = vars(endpoint).setdefault("own_path", path)
        usual = ANY_BODY if self.body_field is None else JSON_BODY
        self.body_limits: BodyLimits = vars(endpoint).get(BODY, usual)
        if is_plain(self.dependant):
            self.app = _app(self._guarded(Endpoint(self.dependant).respond))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().handle(scope, receive, send)
        finally:
            # Its stream is open by now, or never will be.
            if (place := scope.get(PLACE)) is not None:
                place.give_back()

    def get_route_handler(self) -> Handler:
        return self._guarded(super().get_route_handler())

    def _guarded(self, handle: Handler) -> Handler:
        """What handles requests, behind the rule."""

        async def respond(request: Request) -> Response:
            try:
                # Before a body is read: nobody who may not ask has the server parse anything.
                if may_be_authorized(request):
                    await authorize(request, self.rule)
                receive = LimitedBody(request.scope, request.receive, self.body_limits)
                return await handle(JsonRequest(request.scope, receive))
            except EXPECTED as error:
                note_refused(request, error, self.rule)
                response = await answer(request, error)
                if response.status_code == 429:
                    _count_limited(request, error)
                return response
            except asyncio.CancelledError:
                return await answer(request, HTTPException(503, CUT_OFF))

        async def handle_json(request: Request) -> Response:
            with _traced(request, self.own_path) as answered:
                response = await respond(request)
                answered(response.status_code)
            _count(request, self.own_path, response)
            return secured(response, over_tls=is_over_tls(request.scope))

        return handle_json


def _app(handle: Handler) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handle(Request(scope, receive, send))
        await response(scope, receive, send)

    return app


def _authorized_first(dependencies: Sequence[Depends]) -> list[Depends]:
    """The dependencies behind the one that enforces the rule. A route that is made anew, with those
    of an app in front, has that one already: it must come behind the app's own, which say who sends
    the request."""
    if any(each.dependency is authorized for each in dependencies):
        return [*dependencies]
    return [Authorized, *dependencies]


Authorized = Depends(authorized)


KEY_PARAMETER: JsonObject = {
    "name": TOKEN,
    "in": "query",
    "required": False,
    "description": "A key, for clients that can send no header. ASSENT_ALLOW_QUERY_TOKEN",
    "schema": {"type": "string"},
}


TICKET_PARAMETER: JsonObject = {
    "name": TICKET,
    "in": "query",
    "required": False,
    "description": "A ticket (`POST /stream-tickets`), for pages that can send no header",
    "schema": {"type": "string"},
}


def _with_parameters(rule: Rule, extra: JsonObject) -> JsonObject:
    """The rest of what the document says of a route, with the credentials that its URL may have."""
    own = [KEY_PARAMETER] if rule.token else []
    own += [TICKET_PARAMETER] if rule.ticket is not None else []
    if not own:
        return extra
    kept = [each for each in extra.get("parameters", ()) if each not in own]
    return {**extra, "parameters": [*kept, *own]}


def _traced(request: Request, path: str) -> AbstractContextManager[Callable[[int], None]]:
    server: Served | None = request.scope.get(SCOPE_KEY)
    if server is None or server.traces is None or path in UNTRACED:
        return nullcontext(lambda status: None)
    return server.traces.request(request.method, path, request.headers)


def _count(request: Request, path: str, response: Response) -> None:
    server: Served | None = request.scope.get(SCOPE_KEY)
    if server is not None:
        server.metrics.requests[request.method, path, response.status_code] += 1


def _count_limited(request: Request, error: Exception) -> None:
    server: Served | None = request.scope.get(SCOPE_KEY)
    if server is not None:
        server.metrics.limited[type(error).__name__] += 1


def takes(limits: BodyLimits) -> Callable[[F], F]:
    """A route whose body has other limits than those of JSON."""

    def mark(endpoint: F) -> F:
        vars(endpoint)[BODY] = limits
        return endpoint

    return mark


def router_of(tag: str, route_class: type[JsonRoute] = JsonRoute) -> APIRouter:
    """A router of routes that refuse query parameters which they do not have."""
    return APIRouter(tags=[tag], route_class=route_class, dependencies=[Depends(only_known)])


async def only_known(request: Request) -> None:
    """Raise `InvalidRequest` for a query parameter that the route does not have. A misspelt filter
    that is ignored shows, or follows, something else than was asked for."""
    if not request.query_params:
        return
    route = request.scope["route"]
    assert isinstance(route, JsonRoute)
    known = set(_names(route.dependant)) | _of_rule(route)
    for name in request.query_params:
        if name not in known:
            has = f"It has: {', '.join(sorted(known))}" if known else "It has none"
            raise InvalidRequest(
                f"{request.url.path} has no query parameter '{visible(name[:SHOWN])}'. {has}."
            )


def _names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for part in dependant.dependencies:
        yield from _names(part)


def _of_rule(route: JsonRoute) -> set[str]:
    """The parameters with a credential. They are cut out of the scope's URL once they are read, but
    an app's own dependencies may have read them before."""
    rule = route.rule
    return {*([TOKEN] if rule.token else []), *([TICKET] if rule.ticket is not None else [])}


def check_rules(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """The routes. Raises `TypeError` for one that enforces no rule: each is ours, or the WebSocket
    beside one, which is the handshake of that."""
    handshakes = {each.path for each in routes if _is_ours(each) and "GET" in (each.methods or ())}
    for route in routes:
        path = getattr(route, "path", "?")
        is_beside = isinstance(route, WebSocketRoute) and isinstance(route.endpoint, Handshake)
        if not _is_ours(route) and not (is_beside and path in handshakes):
            raise TypeError(f"The route {path} has no rule: make it by a router of `router_of`.")
    return [*routes]


def _is_ours(route: BaseRoute) -> TypeGuard[JsonRoute]:
    return isinstance(route, JsonRoute)
