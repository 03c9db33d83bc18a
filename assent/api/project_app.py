"""The app that a project's langgraph.json names: its routes stand behind ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from assent.api.access.authorizing import authorize
from assent.api.access.rules import Rule, Thing
from assent.api.problems import answer
from assent.core.access import Right
from assent.core.errors import AgentLoadError, ConfigurationError
from assent.graph.langgraph_json import Http
from assent.graph.loading import Project

CUSTOM = Rule(Right.SELF, Thing.SERVER)
"""The rule of a project's own routes, where it wants them for those only whom the server knows."""

_ROOT: Scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}


@asynccontextmanager
async def project_app(app: FastAPI, project: Project, *, has_auth: bool) -> AsyncIterator[None]:
    """While the context is entered, the project's app has started, and what `app` has no route for
    goes to it."""
    if project.app is None:
        yield
        return
    if not isinstance(project.app, Starlette):
        raise AgentLoadError(
            f'"http.app" in langgraph.json names a {type(project.app).__name__}, '
            "and not an app of FastAPI or Starlette."
        )
    needs_key = _http(project).enable_custom_route_auth
    if needs_key and has_auth:
        raise ConfigurationError(
            '"http.enable_custom_route_auth" in langgraph.json holds for keys, and '
            "Assent(auth=…) has none: protect those routes in their own app."
        )
    async with project.app.router.lifespan_context(project.app):
        route = Mount("", app=WithKey(project.app) if needs_key else project.app)
        app.router.routes.append(route)
        app.state.answers_at_root = any(
            each.matches(_ROOT)[0] is Match.FULL for each in project.app.routes
        )
        try:
            yield
        finally:
            app.router.routes.remove(route)
            app.state.answers_at_root = False


def answers_at_root(app: Starlette) -> bool:
    """True if a project's app that stands behind this one has something at `/`."""
    return getattr(app.state, "answers_at_root", False)


def under_prefix(app: ASGIApp, project: Project) -> ASGIApp:
    """The app, also under the prefix that the project asks for."""
    prefix = (_http(project).mount_prefix or "").rstrip("/")
    if not prefix:
        return app
    return Router([Mount(prefix, app=app), Mount("", app=app)])


def _http(project: Project) -> Http:
    return (project.file.http if project.file is not None else None) or Http()


@dataclass(frozen=True, slots=True)
class WithKey:
    """Lets only senders in whom the server knows."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] in ("http", "websocket"):
            request = Request({**scope, "type": "http"})
            try:
                await authorize(request, CUSTOM)
            except HTTPException as refusal:
                app = await answer(request, refusal)
        await app(scope, receive, send)
