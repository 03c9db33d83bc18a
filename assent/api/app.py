"""Where the server is put together, and where everything it opens is closed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from assent.api import openapi
from assent.api import problems as errors
from assent.api.limits import BodyLimit, LoopbackNames
from assent.api.routes import (
    agent,
    approvals,
    audit,
    grants,
    links,
    notifications,
    runs,
    schedules,
    server,
    threads,
)
from assent.config.file import Configuration, read_configuration
from assent.config.settings import Settings
from assent.core.clock import Clock
from assent.graph.interrupts.resume import Agent
from assent.notify.audit_head import AUDIT_HEAD, publishing, to_endpoint, to_file
from assent.notify.channels import open_notifiers
from assent.notify.delivery import delivering
from assent.notify.links import LinkKey
from assent.notify.outbox import notifying
from assent.runs.retention import Retention, sweeping
from assent.runs.service import Runs
from assent.storage.sqlite import SqliteStorage

OpenAgents = Callable[[], AbstractAsyncContextManager[Mapping[str, Agent]]]
"""Opens the agents for as long as the server runs, by name; the first takes messages that name
none."""


def create_app(settings: Settings, open_agents: OpenAgents, clock: Clock | None = None) -> FastAPI:
    """The server as an ASGI app. Its lifespan opens the storage, the agents and the runs; what
    cannot be opened raises there."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            configuration = (
                read_configuration(settings.config, os.environ)
                if settings.config is not None
                else Configuration()
            )
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
            link_key = (
                LinkKey(settings.link_secret, settings.public_url)
                if settings.public_url is not None
                else None
            )
            app.state.links = link_key
            notifiers = await stack.enter_async_context(
                open_notifiers(configuration.endpoints, clock or Clock(), links=link_key)
            )
            # Before the runs, so that it is left after them: the head that is sent last is the last
            # one.
            sinks = [
                to_endpoint(each.name, notifiers[each.name])
                for each in configuration.endpoints
                if AUDIT_HEAD in each.events
            ]
            if settings.audit_head_file is not None:
                sinks.append(to_file(settings.audit_head_file))
            await stack.enter_async_context(publishing(storage, sinks, settings.audit_head_every))
            # Before the runs too: what is told of their ends is still sent.
            dispatcher = await stack.enter_async_context(
                delivering(
                    storage,
                    notifiers,
                    clock=clock or Clock(),
                    links=link_key,
                    drain_seconds=settings.drain_seconds,
                )
            )
            app.state.dispatcher = dispatcher
            app.state.runs = await stack.enter_async_context(
                Runs.open(
                    notifying(storage, configuration.endpoints, clock or Clock(), dispatcher.wake),
                    agents,
                    clock=clock,
                    recursion_limit=settings.recursion_limit,
                    drain_seconds=settings.drain_seconds,
                    max_runs=settings.max_runs,
                    state_types=settings.state_types,
                    budgets=configuration.budgets,
                    policies=configuration.policies,
                    people=configuration.people,
                )
            )
            retention = Retention(
                events_ttl=settings.events_ttl, checkpoints_keep=settings.checkpoints_keep
            )
            await stack.enter_async_context(sweeping(storage, retention, clock=clock or Clock()))
            yield

    app = FastAPI(
        title="Assent",
        version=version("assent"),
        description="Runs LangGraph agents that must ask a person before they act.",
        lifespan=lifespan,
    )
    app.state.api_keys = settings.api_keys
    app.state.link_issuers = settings.link_issuers
    app.add_middleware(BodyLimit)
    if not settings.api_keys:
        app.add_middleware(LoopbackNames)
    for part in (
        agent,
        threads,
        runs,
        approvals,
        grants,
        links,
        notifications,
        audit,
        schedules,
        server,
    ):
        app.include_router(part.router)
    errors.install(app)
    openapi.install(app)
    return app
