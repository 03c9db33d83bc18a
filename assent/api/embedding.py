"""The server as an object: to serve by itself, or as a part of an app of your own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cached_property, partial
from itertools import chain
from types import ModuleType, TracebackType
from typing import Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, Request, params
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from assent.api import openapi
from assent.api.access.sources import identifying
from assent.api.app import ROUTES, OpenAgents, Place, make_app, open_server
from assent.api.checks import Checked, check_head, check_loopback
from assent.api.context import SCOPE_KEY, Served
from assent.api.head import HeadAsGet
from assent.api.in_process import InProcess
from assent.api.project_app import project_app, under_prefix
from assent.api.proxies import BehindProxies
from assent.api.routes import docs, web
from assent.api.routes.dialects import DIALECT_ROUTES
from assent.api.routing import JsonRoute, check_rules
from assent.api.streams.later import LATER, Loop
from assent.api.streams.requests import HANDSHAKE
from assent.config.settings import SQLITE, Settings
from assent.core.addresses import Permits
from assent.core.errors import ConfigurationError, Unavailable
from assent.graph.kinds import Agent
from assent.graph.loading import open_agents
from assent.graph.retrying import unwrapped
from assent.runs.service import Runs

Agents = Mapping[str, Agent] | Agent | str | OpenAgents
"""Agents by name, or one; the target of `assent serve`, such as a langgraph.json; or a function
that opens them."""


NOT_OPEN = "This Assent is not open. Enter it in the lifespan of your app."


class Assent(InProcess):
    """Runs agents in an app of your own, and decides what they ask.

    Enter it once, in the app's lifespan: `async with assent`, or
    `FastAPI(lifespan=assent.lifespan)`. Then mount `assent.app`, include `assent.router`, or call
    its methods: all three do the same.

    `auth` is a dependency of FastAPI's that says who sends a request: it gives their name, a
    mapping with `identity` or an object with `.identity`. Without it, and without `api_keys`, only
    clients on this machine are answered. `settings` are those of the reference, by their names in
    small letters; the environment is not read. `database` is the setting of that name, or a path.
    `egress` is called with a host, a port and its addresses before the server itself opens a
    connection, and says if it may.
    With `whole_process` the process is the server's own, as that of `assent serve` is.
    """

    _dialects: ClassVar[Mapping[str, tuple[ModuleType, ...]]] = DIALECT_ROUTES

    def __init__(
        self,
        agents: Agents,
        *,
        database: str | None = None,
        auth: Callable[..., Any] | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
        egress: Permits | None = None,
        whole_process: bool = False,
    ) -> None:
        self._settings = _settings(settings, database)
        if auth is not None and self._settings.api_keys:
            raise ConfigurationError(
                "Assent takes auth or api_keys, and was given both: "
                "either your app says who somebody is, or their key does."
            )
        self._open_agents = _opener(agents)
        self._auth = auth
        self._place = Place(whole_process=whole_process, has_auth=auth is not None, egress=egress)
        self._stack: AsyncExitStack | None = None
        self._served: Served | None = None
        self._store: BaseStore | None = None
        self._around: ASGIApp | None = None

    async def __aenter__(self) -> Assent:
        if self._stack is not None:
            raise ConfigurationError(
                "This Assent is open already. Enter it once, in the lifespan of your app."
            )
        async with AsyncExitStack() as stack:
            opening = open_server(self._settings, self._open_agents, self._place)
            opened = await stack.enter_async_context(opening)
            around = self._protected(opened.served)
            if opened.project is not None:
                has_auth = self._place.has_auth
                mounting = project_app(self._routes, opened.project, has_auth=has_auth)
                await stack.enter_async_context(mounting)
                around = under_prefix(around, opened.project)
            self._stack = stack.pop_all()
        self._served, self._store, self._around = opened.served, opened.store, around
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the active runs reach the end of a step, and close everything."""
        stack, self._stack = self._stack, None
        try:
            if stack is not None:
                await stack.__aexit__(kind, error, traceback)
        finally:
            self._served = self._store = self._around = None

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """The lifespan of an app that is there while this is open."""
        async with self:
            yield

    @property
    def runs(self) -> Runs:
        if self._served is None:
            raise Unavailable(NOT_OPEN)
        return self._served.program

    @property
    def store(self) -> BaseStore:
        """What agents remember that have no store of their own."""
        if self._store is None:
            raise Unavailable(NOT_OPEN)
        return self._store

    async def drain(self) -> None:
        """Take no more runs, and let the active ones reach the end of a step."""
        await self.runs.drain()

    # ── over HTTP ─────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def app(self) -> ASGIApp:
        """The server as an ASGI app, to mount, or to serve alone. It answers 503 while this is not
        open."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope[SCOPE_KEY] = self._served
            later: list[Loop] = []
            scope[LATER] = later
            known = frozenset(scope)
            await (self._around or self._routes)(scope, receive, send)
            # A stream outlives the routing by hours, so nothing of that is kept for it. HEAD has
            # its head already.
            if later and scope.get("method") != "HEAD":
                for name in scope.keys() - known - {HANDSHAKE}:
                    del scope[name]
                await later.pop()(receive, send)

        return app

    @cached_property
    def router(self) -> APIRouter:
        """The server's routes, to include in an app of FastAPI's."""
        # The lifespan of an app begins those of the routers that it has included.
        router = APIRouter(dependencies=[Depends(self._bind)], lifespan=self._describing)
        router.include_router(self._routes_that_ask(True), dependencies=self._asking)
        router.include_router(self._routes_that_ask(False))
        return router

    def _describing(self, app: object) -> AbstractAsyncContextManager[None]:
        return openapi.describing(app, self._routers, by_key=self._auth is None)

    async def _bind(self, request: Request) -> None:
        request.scope[SCOPE_KEY] = self._served
        check_head(request.scope)
        if self._served is not None:
            self._served.proxies.look_behind(request.scope)
        if self._served is not None and self._served.knows_nobody:
            check_loopback(request.scope, self._served.origins)

    def _routes_that_ask(self, asking: bool) -> APIRouter:
        return APIRouter(routes=check_rules([*_routes(self._routers, asking=asking)]))

    @property
    def _asking(self) -> list[params.Depends]:
        """The dependency that says who sends a request, if the app around the server has one."""
        return [] if self._auth is None else [Depends(identifying(self._auth))]

    @property
    def _routers(self) -> Sequence[APIRouter]:
        """The routers of all that is served: of the dialects, those that are switched on."""
        spoken = [self._dialects.get(name, ()) for name in self._settings.dialects]
        return [each.router for each in (*ROUTES, *chain.from_iterable(spoken))]

    @cached_property
    def _routes(self) -> FastAPI:
        # An app around has a document and pages of its own.
        own = [docs.router] if self._settings.docs else []
        own += [web.router, web.root] if self._settings.ui else []
        if self._auth is None:
            app = make_app([*self._routers, *own], self._served_alone)
            app.state.unserved = self._unserved
            return app
        # Not by way of `router`: FastAPI makes the routes of a router within a router twice.
        app = make_app([self._routes_that_ask(False), *own], self._served_alone)
        app.include_router(self._routes_that_ask(True), dependencies=self._asking)
        openapi.install(app, self._routers, by_key=False)
        app.state.unserved = self._unserved
        return app

    @property
    def _unserved(self) -> Mapping[str, Sequence[BaseRoute]]:
        """The routes of each dialect that is switched off, by its name."""
        return {
            name: [route for each in modules for route in each.router.routes]
            for name, modules in self._dialects.items()
            if name not in self._settings.dialects
        }

    @asynccontextmanager
    async def _served_alone(self, app: FastAPI) -> AsyncIterator[None]:
        """The lifespan of `app`: opens this, unless it is open."""
        if self._stack is not None:
            yield
            return
        async with self:
            yield

    def _protected(self, served: Served) -> ASGIApp:
        app: ASGIApp = HeadAsGet(self._routes)
        if served.knows_nobody:
            app = Checked(app, partial(check_loopback, origins=served.origins))
        app = BehindProxies(served.origins.around(app), served.proxies)
        return Checked(app, check_head)


def _routes(routers: Sequence[APIRouter], *, asking: bool) -> Iterator[BaseRoute]:
    """The routes that ask who sends a request; or those that do not, such as `/health`."""
    for router in routers:
        for route in router.routes:
            # A WebSocket's own route asks nothing, and stays beside the GET that does.
            is_open = isinstance(route, JsonRoute) and route.rule.right is None
            if is_open is not asking:
                yield route


# ── what it is given ──────────────────────────────────────────────────────────────────────────────


def _settings(given: Settings | Mapping[str, Any] | None, database: str | None) -> Settings:
    settings = given if isinstance(given, Settings) else Settings.given(given or {})
    if database is None:
        return settings
    url = database if ":" in database else f"{SQLITE}{database}"
    return settings.model_copy(update={"database": Settings.given({"database": url}).database})


def _opener(agents: Agents) -> OpenAgents:
    if isinstance(agents, str):
        return lambda: open_agents(agents)
    if isinstance(agents, Mapping):
        return _having(agents)
    if callable(agents):
        return agents
    return _having({"agent": agents})


def _having(agents: Mapping[str, Any]) -> OpenAgents:
    if not agents:
        raise ConfigurationError("Assent was given no agents: it needs one at least.")
    graphs = {name: _graph(name, agent) for name, agent in agents.items()}

    @asynccontextmanager
    async def having() -> AsyncIterator[Mapping[str, Agent]]:
        yield graphs

    return having


def _graph(name: str, agent: Any) -> Agent:
    graph = unwrapped(agent.compile() if isinstance(agent, StateGraph) else agent)
    if not isinstance(graph, Pregel):
        raise ConfigurationError(
            f"The agent '{name}' is a {type(agent).__name__}, and not a compiled graph."
        )
    return graph
