"""LangGraph's `Auth` of a project: its `authenticate` says who sends a request, and its `on`
handlers what of the request is permitted.

A handler accepts a request, refuses it, or answers with a filter: then only threads whose metadata
matches are there for the request. It comes behind the roles and owners of this server, and so can
only take away.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, get_args

from fastapi import Request
from langgraph_sdk import Auth
from starlette.exceptions import HTTPException

from assent.api.access.given import Given
from assent.api.access.identity import IDENTITY, Credential, Found, Identity, Kind
from assent.api.access.origins import check_page
from assent.api.access.rules import Rule
from assent.api.access.sources import said_by
from assent.api.context import served
from assent.api.cors import Origins
from assent.core.access import Right
from assent.core.assistants import assistant_id_of
from assent.core.audit import Authentication
from assent.core.errors import ConfigurationError
from assent.core.json import Json, JsonObject
from assent.runs.asker import Asker
from assent.storage.matching import Matching

WHERE = '"auth" in langgraph.json'

FILTER = "assent_filter"
"""The name in a request's scope of the filter of a handler, if there is one."""

METADATA = "assent_metadata"
"""Where the scope of a request without a body has the metadata that a handler wrote."""

NAMESPACE = "assent_namespace"
"""Where the scope of a request has the namespace in the store that a handler has made of it."""

CHAT = "/api/chat"
"""The path of conversations, whose bodies name the thread otherwise."""

AGENT_IN_QUERY = (CHAT, "/ws/query")
"""The paths of requests whose query names the agent, and whose body does not."""

AGENT_LEFT_OUT = ("/agent/", *AGENT_IN_QUERY)
"""The beginnings of paths of requests that need not name the agent: it is the thread's, or the
first."""

COMMANDS = "/threads/{id}/commands"
BATCH = "/runs/batch"
PRUNE = "/threads/prune"
"""The paths of requests that ask for something else than their body, or for several things."""

MOST_PARTS = 1000
"""The most things that a request may ask for."""

IDS = {"threads": "thread_id", "crons": "cron_id", "assistants": "assistant_id"}
"""The names that LangGraph has for the id in a path."""

SCOPE = ("type", "http_version", "method", "scheme", "path", "root_path", "query_string")
"""The parts of a request's scope that a handler sees, besides headers and addresses. The rest is
ours."""


class ProjectAuth:
    """Knows people by the project's `auth`. Raises `ConfigurationError` for one that cannot be
    asked."""

    kind: Final[Kind] = "project"

    def __init__(self, auth: object, origins: Origins) -> None:
        if not isinstance(auth, Auth):
            raise ConfigurationError(
                f"{WHERE} names a {type(auth).__name__}, and no Auth of langgraph_sdk."
            )
        authenticate: Any = auth._authenticate_handler
        if authenticate is None:
            raise ConfigurationError(
                f"{WHERE} has no function that says who somebody is. Add one: @auth.authenticate."
            )
        if not inspect.iscoroutinefunction(authenticate):
            raise ConfigurationError(
                f"{WHERE} has an authenticate function that is not async. Add 'async' before its "
                "'def'."
            )
        self._authenticate: Any = authenticate
        self._asks = _asked(authenticate)
        self._handlers: Mapping[tuple[str, str], Any] = {
            place: handlers[-1] for place, handlers in auth._handlers.items() if handlers
        }
        self._global: Any = auth._global_handlers[-1] if auth._global_handlers else None
        self._origins = origins

    # ── who ───────────────────────────────────────────────────────────────────────────────────────

    async def find(self, given: Given | None, request: Request) -> Found | None:
        try:
            said = await self._authenticate(
                **{name: self._asks[name](request) for name in self._asks}
            )
        except Auth.exceptions.HTTPException as refusal:
            raise _refused(refusal) from None
        found = said_by(WHERE, said, Authentication.PROJECT, Credential("project"))
        if found is not None:
            # It may have read a cookie, which a browser sends along with what any page asks.
            check_page(request, self._origins)
        return found

    async def renew(self, identity: Identity) -> Found | None:
        # The project is asked anew with each request.
        return identity.as_found()

    # ── what ──────────────────────────────────────────────────────────────────────────────────────

    async def permit(self, request: Request, rule: Rule) -> None:
        """Raise 403, or what the project's handler raises, unless that permits the request. What it
        writes into the metadata is in the body from here on."""
        identity: Identity | None = request.scope.get(IDENTITY)
        if rule.langgraph is None or identity is None:
            return
        resource, action = rule.langgraph
        handler = self._handler(resource, action)
        if handler is None:
            return
        context = _context(identity, resource, action)
        body = await _body(request)
        if resource == "store":
            value = _value_of_store(request, body if isinstance(body, dict) else None)
            _check_no_filter(await _answer(handler, context, value))
            request.scope[NAMESPACE] = _labels(value.get("namespace"))
            return
        filters: list[Mapping[str, Json]] = []
        for part in _parts(request, body):
            value = _value(request, resource, part.asked)
            if action == "create_run":
                await _name_assistant(request, identity, value)
            answer = await _answer(handler, context, value)
            if value["metadata"] and not part.takes_metadata:
                request.scope[METADATA] = value["metadata"]
            elif value["metadata"]:
                if part.asked is None:
                    raise HTTPException(
                        422,
                        "The project's own rules write metadata: send a JSON object, {} at least.",
                    )
                part.asked["metadata"] = value["metadata"]
            if answer is not None and answer is not True:
                filters.append(_checked_filter(answer))
        if filters:
            request.scope[FILTER] = (resource, filters)

    def _handler(self, resource: str, action: str) -> Any:
        """The most specific handler of the action."""
        for place in ((resource, action), (resource, "*"), ("*", action), ("*", "*")):
            if place in self._handlers:
                return self._handlers[place]
        return self._global


def _asked(authenticate: Any) -> Mapping[str, Callable[[Request], Any]]:
    """The values that the function asks for, by the names of its parameters."""
    asked: dict[str, Callable[[Request], Any]] = {}
    for parameter in inspect.signature(authenticate).parameters.values():
        if parameter.name in _OFFERED:
            asked[parameter.name] = _OFFERED[parameter.name]
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ):
            raise ConfigurationError(
                f"{WHERE} has an authenticate function with a parameter '{parameter.name}'. It may "
                f"have: {', '.join(_OFFERED)}. A body is not read before it is known who sends it."
            )
    return asked


def _scope(request: Request) -> JsonObject:
    found = {name: request.scope[name] for name in SCOPE if name in request.scope}
    return {**found, "headers": [*request.headers.raw], "client": request.scope.get("client")}


_OFFERED: Mapping[str, Callable[[Request], Any]] = {
    # Without a way to read the body, which is for the route.
    "request": lambda request: Request(_scope(request)),
    "path": lambda request: request.scope["path"],
    "method": lambda request: request.method,
    "path_params": lambda request: dict(request.path_params),
    "query_params": lambda request: dict(request.query_params),
    "headers": lambda request: dict(request.headers.raw),
    "authorization": lambda request: request.headers.get("authorization"),
    "scope": _scope,
}


def _refused(refusal: Auth.exceptions.HTTPException) -> HTTPException:
    status = refusal.status_code if refusal.status_code in (401, 403) else 403
    return HTTPException(status, str(refusal.detail), headers=dict(refusal.headers or {}) or None)


# ── what a handler sees, and says ─────────────────────────────────────────────────────────────────


def _context(identity: Identity, resource: str, action: str) -> Any:
    name = identity.owner.name
    usual = {"display_name": name, "permissions": [], "is_authenticated": True}
    user = Asker({**usual, **identity.known, "identity": name})
    context: Any = Auth.types.AuthContext
    return context(permissions=user["permissions"], user=user, resource=resource, action=action)


async def _answer(handler: Any, context: Any, value: JsonObject) -> Any:
    """What the handler says of the request. Raises 403, or what the handler raises."""
    try:
        answer = await handler(ctx=context, value=value)
    except Auth.exceptions.HTTPException as refusal:
        raise _refused(refusal) from None
    if answer is False:
        raise HTTPException(403, "The project's own rules do not permit this.")
    return answer


async def _body(request: Request) -> Json:
    """The body of the request, as the route is about to read it; None if it reads none."""
    route = request.scope["route"]
    if route.body_field is None or not await request.body():
        return None
    return await request.json()


class _Part(NamedTuple):
    """One of the things that a request asks for: its fields, and whether metadata are among them
    that become those of what is begun."""

    asked: JsonObject | None
    takes_metadata: bool


def _parts(request: Request, body: Json) -> list[_Part]:
    """The things that a request asks for, most often one: a handler is asked about each."""
    path = request.scope["route"].own_path
    if path == COMMANDS and isinstance(body, dict) and isinstance(body.get("params"), dict):
        return [_Part(body["params"], True)]
    if path == BATCH and isinstance(body, list):
        _check_count(body)
        # Others are refused as soon as the body is read.
        return [_Part(each, True) for each in body if isinstance(each, dict)]
    asked = body if isinstance(body, dict) else None
    if path == PRUNE and asked and isinstance(asked.get("thread_ids"), list):
        _check_count(asked["thread_ids"])
        named = [{**asked, "thread_id": each} for each in asked["thread_ids"]]
        return [_Part(each, False) for each in named]
    return [_Part(asked, _takes_metadata(request))]


def _check_count(parts: Sequence[Json]) -> None:
    if len(parts) > MOST_PARTS:
        raise HTTPException(422, f"A request may ask for {MOST_PARTS:,} things at once.")


def _value(request: Request, resource: str, body: JsonObject | None) -> JsonObject:
    """The request as LangGraph's handlers expect it. Its metadata are a copy."""
    ids = {"run_id": "run_id", "execution_id": "run_id", "id": IDS[resource]}
    path = request.scope["route"].own_path
    if path.startswith(("/runs/", "/progress/")):
        ids["id"] = "run_id"
    named = {ids.get(name, name): each for name, each in request.path_params.items()}
    given = dict(body or {})
    if "threadId" in given:
        # AG-UI's name of it.
        named["thread_id"] = given["threadId"]
    elif path == CHAT and "id" in given:
        named["thread_id"] = given["id"]
    metadata = given.pop("metadata", None)
    return {
        **given,
        **named,
        "kwargs": given,
        "metadata": dict(metadata) if isinstance(metadata, dict) else {},
    }


async def _name_assistant(request: Request, identity: Identity, value: JsonObject) -> None:
    """Have the value name the assistant of a run by its id, as LangGraph's does, however the
    request names the agent: a rule about one holds for all the ways to it."""
    program, path = served(request).program, request.scope["route"].own_path
    in_path = (request.path_params.get(name) for name in ("agent", "agent_id"))
    named = next((each for each in in_path if each), None)
    if named is None and path in AGENT_IN_QUERY:
        named = request.query_params.get("agent")
    elif named is None:
        named = value.get("assistant_id") or value.get("agent")
    if named is None and path.startswith(AGENT_LEFT_OUT):
        id = value.get("thread_id")
        seen = program.seen_by(identity.sight(Right.RUN)).storage
        thread = await seen.thread(id) if isinstance(id, str) else None
        named = (thread.agent if thread else None) or next(iter(program.agents), None)
    if isinstance(named, str):
        value["assistant_id"] = assistant_id_of(named) if named in program.agents else named


def _value_of_store(request: Request, body: JsonObject | None) -> JsonObject:
    """A request to the store as LangGraph's handlers expect it: its namespace is a tuple, under one
    name, and they may put another one in its place."""
    given = dict(request.query_params) if body is None else dict(body)
    named = [given.pop(name, None) for name in ("namespace", "namespace_prefix", "prefix")]
    found: object = next((each for each in named if each is not None), [])
    labels = found.split(".") if isinstance(found, str) else found
    return {**given, "namespace": _labels(labels)}


def _labels(namespace: object) -> tuple[str, ...]:
    labels = namespace if isinstance(namespace, list | tuple) else [None]
    if not all(isinstance(each, str) and each for each in labels):
        raise HTTPException(422, "A namespace is a list of texts, none of which is empty.")
    return tuple(labels)


def _check_no_filter(answer: object) -> None:
    """Raise 403 for a filter: items of the store have no metadata that it could be about."""
    if answer is not None and answer is not True:
        raise HTTPException(
            403,
            "The project's own rules answer with a filter by metadata, and items of the store have "
            "none: they need a rule of their own, @auth.on.store.",
        )


def namespace_for(request: Request, given: Sequence[str]) -> tuple[str, ...]:
    """The namespace in the store that the request is about: the one that is given, or what a
    handler has put in its place."""
    known: tuple[str, ...] | None = request.scope.get(NAMESPACE)
    return tuple(given) if known is None else known


def _takes_metadata(request: Request) -> bool:
    """True if the body of the route may have metadata. It may be left out as a whole, or not."""
    info = getattr(request.scope["route"].body_field, "field_info", None)
    annotation = getattr(info, "annotation", None)
    models = get_args(annotation) or (annotation,)
    return any("metadata" in getattr(model, "model_fields", {}) for model in models)


def _checked_filter(answer: object) -> Mapping[str, Json]:
    if not isinstance(answer, Mapping):
        raise ConfigurationError(
            f"A handler of {WHERE} gave a {type(answer).__name__}. It should give None, True, "
            "False, or a filter."
        )
    for condition in answer.values():
        if isinstance(condition, Mapping) and {*condition} - {"$eq", "$contains"}:
            raise ConfigurationError(
                f"A handler of {WHERE} gave a filter with an operator that is none of $eq and "
                "$contains."
            )
    return answer


def metadata_of(request: Request) -> JsonObject:
    """The metadata that a handler wrote, for what a request without a body begins."""
    found: JsonObject = request.scope.get(METADATA, {})
    return found


def matching_of(request: Request) -> Matching | None:
    """The rows that the filter of a handler lets the request see; None if there is no filter."""
    found: tuple[str, Sequence[Mapping[str, Json]]] | None = request.scope.get(FILTER)
    if found is None:
        return None
    resource, filters = found
    match resource:
        case "crons":
            return Matching(schedules=partial(matches_all, filters))
        case "assistants":
            # Agents themselves are no rows: of them a handler permits all, or refuses.
            return Matching(assistants=partial(matches_all, filters))
        case "threads":
            return Matching(threads=partial(matches_all, filters))
    return None


def matches_all(filters: Sequence[Mapping[str, Json]], metadata: Mapping[str, Json]) -> bool:
    """True if the metadata meet every condition of each filter."""
    return all(matches(conditions, metadata) for conditions in filters)


def matches(conditions: Mapping[str, Json], metadata: Mapping[str, Json]) -> bool:
    """True if the metadata meet every condition of a filter."""
    return all(_meets(metadata.get(name), each) for name, each in conditions.items())


def _meets(value: Json, condition: Json) -> bool:
    if not isinstance(condition, Mapping):
        return _equal(value, condition)
    if "$eq" in condition and not _equal(value, condition["$eq"]):
        return False
    if "$contains" not in condition:
        return "$eq" in condition
    wanted = condition["$contains"]
    held = value if isinstance(value, list | tuple) else []
    each = wanted if isinstance(wanted, list | tuple) else [wanted]
    return all(any(_equal(one, other) for other in held) for one in each)


def _equal(one: Json, other: Json) -> bool:
    """True for what is the same in JSON: true is no 1 there."""
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)
