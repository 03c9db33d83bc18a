"""Where the server is put together, and where everything it opens is closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from assent.api import errors, openapi
from assent.api.limits import BodyLimit, LoopbackNames
from assent.api.routes import agent, approvals, audit, runs, schedules, server, threads
from assent.approvals.audit import publishing, to_file
from assent.checkpoint.sqlite import SqliteStorage
from assent.clock import Clock
from assent.graph.pending import Agent
from assent.runs.budgets import Rules, read_rules
from assent.runs.service import Runs
from assent.runs.sweeping import Retention, sweeping
from assent.settings import Settings

OpenAgents = Callable[[], AbstractAsyncContextManager[Mapping[str, Agent]]]
"""Opens the agents for as long as the server runs, by name; the first takes messages that name none."""


def create_app(settings: Settings, open_agents: OpenAgents, clock: Clock | None = None) -> FastAPI:
    """The server as an ASGI app. Its lifespan opens the storage, the agents and the runs; what cannot be opened raises there."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            budgets = read_rules(settings.budgets) if settings.budgets is not None else Rules()
            # The agents first: one that cannot be loaded should leave no file behind.
            agents = await stack.enter_async_context(open_agents())
            opening = SqliteStorage.open(
                settings.database_path,
                clock,
                synchronous=settings.synchronous,
                encryption_key=settings.encryption_secret,
                audit_key=settings.audit_secret,
            )
            storage = await stack.enter_async_context(opening)
            # Before the runs, so that it is left after them: the head that is sent last is the last one.
            sinks = [to_file(settings.audit_head_file)] if settings.audit_head_file is not None else []
            await stack.enter_async_context(publishing(storage, sinks, settings.audit_head_every))
            app.state.runs = await stack.enter_async_context(
                Runs.open(
                    storage,
                    agents,
                    clock=clock,
                    recursion_limit=settings.recursion_limit,
                    drain_seconds=settings.drain_seconds,
                    max_runs=settings.max_runs,
                    state_types=settings.state_types,
                    budgets=budgets,
                )
            )
            retention = Retention(events_ttl=settings.events_ttl, checkpoints_keep=settings.checkpoints_keep)
            await stack.enter_async_context(sweeping(storage, retention, clock=clock or Clock()))
            yield

    app = FastAPI(
        title="Assent",
        version=version("assent"),
        description="Runs LangGraph agents that must ask a person before they act.",
        lifespan=lifespan,
    )
    app.state.api_keys = settings.api_keys
    app.add_middleware(BodyLimit)
    if not settings.api_keys:
        app.add_middleware(LoopbackNames)
    for router in (agent.router, threads.router, runs.router, approvals.router, audit.router, schedules.router, server.router):
        app.include_router(router)
    errors.install(app)
    openapi.install(app)
    return app
