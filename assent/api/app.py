"""Puts the server together: opens every resource, and closes it again. `embedding.py` is the server
as an object."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog
from fastapi import APIRouter, FastAPI
from langgraph.store.base import BaseStore
from starlette.types import Lifespan

from assent.api import openapi, problems
from assent.api.access.identity import Access, Roles, Source
from assent.api.access.limiting import Limiting
from assent.api.access.opening import SignIns
from assent.api.access.project_auth import ProjectAuth
from assent.api.access.sources import AppAround
from assent.api.access.tokens import Tokens
from assent.api.context import Served
from assent.api.cors import Origins
from assent.api.proxies import Proxies
from assent.api.routes import (
    agent,
    approvals,
    audit,
    callback,
    connections,
    docs,
    feeds,
    files,
    grants,
    keys,
    links,
    me,
    metrics,
    notifications,
    runs,
    schedules,
    server,
    session,
    slack,
    socket,
    thread_runs,
    threads,
    tickets,
)
from assent.api.routing import check_rules
from assent.api.run_webhooks import EndedRuns, RunNotifier, told_of
from assent.api.streams.broadcasts import broadcasting
from assent.api.streams.connections import Connections
from assent.api.streams.encoder import Encoders
from assent.api.streams.keeper import keeping
from assent.api.streams.renewing import renewing
from assent.approvals.people import People, check_names
from assent.config.file import Configuration, read_configuration
from assent.config.project import descriptions_of, open_store_options, with_project
from assent.config.settings import Settings
from assent.config.without_effect import without_effect
from assent.core.access import role_of
from assent.core.addresses import ANYWHERE, Egress, Permits, egress_from_texts
from assent.core.audit import AuditAction
from assent.core.clock import Clock
from assent.core.errors import ConfigurationError
from assent.graph.kinds import Agent
from assent.graph.loading import Project
from assent.notify.audit_head import AUDIT_HEAD, HeadSink, publish_heads, to_endpoint, to_file
from assent.notify.channels import make_notifiers
from assent.notify.delivery import Dispatcher
from assent.notify.links import LinkKey
from assent.notify.notifier import Notifier
from assent.notify.outbox import with_outbox
from assent.notify.reaching import Reach
from assent.notify.run_webhooks import RunReceiver, receiver_of, with_run_webhooks
from assent.notify.slack import Slack, SlackApp
from assent.runs.feeds import with_feeds
from assent.runs.log_lines import with_log_lines
from assent.runs.metrics import Metrics
from assent.runs.opening import open_runs
from assent.runs.recursion import RecursionLimits
from assent.runs.retention import Retention, sweeping
from assent.runs.security_events import Refusal, Refusals, with_security_events
from assent.runs.service import CheckWebhook, Runs
from assent.runs.uploads import UploadLimits
from assent.storage.base import Caps, QueueLimits, Storage
from assent.storage.sqlite import SqliteStorage, database
from assent.storage.sqlite.database import resolved
from assent.storage.store import StoreOptions

ROUTES = (
    *(agent, threads, thread_runs, runs, approvals, grants, links, notifications, audit),
    *(schedules, files, feeds, connections, socket, server, metrics, me, session, callback, keys),
    *(tickets, slack),
)

if TYPE_CHECKING:
    # It needs an extra.
    from assent.runs.traces import Traces

log = structlog.get_logger(__name__)

DELIVERIES_SECONDS = 2.0
"""The time that deliveries under way have when the server stops. Those that need longer are made
again after the next start, and the server has to end in a few seconds once its runs have."""

OpenAgents = Callable[[], AbstractAsyncContextManager[Mapping[str, Agent]]]
"""Opens the agents, by name, for as long as the server runs. The first one takes messages that name
no agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The surroundings of a server. In an app of somebody's own it takes no settings from the
    environment, and leaves the process alone; with `has_auth`, that app knows who sends a
    request; and `egress` is its word on which connections may be opened."""

    whole_process: bool = False
    has_auth: bool = False
    egress: Permits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A server whose resources are open: what its requests need, the `store` of its agents, and the
    `project` whose agents it serves, if they are of one."""

    served: Served
    store: BaseStore
    project: Project | None = None


def make_app(routers: Sequence[APIRouter], lifespan: Lifespan[FastAPI]) -> FastAPI:
    """The server's routes as an ASGI app. The requests' scopes must have the server. Raises
    `TypeError` for a route that has no rule."""
    app = FastAPI(
        title="Assent",
        version=version("assent"),
        description="Runs LangGraph agents that must ask a person before they act.",
        lifespan=lifespan,
        # Its own routes have no rules, and its page loads the scripts of others.
        openapi_url=None,
        docs_url="/docs" if docs.router in routers else None,
        # A redirect to a path without the slash at its end would repeat the key in a URL.
        redirect_slashes=False,
        # The routes themselves, as they were made when they were imported. To include their routers
        # would be to make every route anew at the first request: half of the cost of a start.
        routes=check_rules([route for router in routers for route in router.routes]),
    )
    problems.install(app)
    openapi.install(app, routers)
    return app


@asynccontextmanager
async def open_server(
    settings: Settings, open_agents: OpenAgents, place: Place
) -> AsyncIterator[Opened]:
    """Open every resource in this order; they are closed in the opposite one. Raises if one cannot
    be opened."""
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        clock = Clock()
        configuration = _configuration(settings, place)
        endpoints = configuration.endpoints
        has_stored = database.has_keys(resolved(settings.database_path))
        people = _people(settings, configuration, place, has_stored=has_stored)

        # The agents first: one that cannot be loaded should leave no file behind.
        agents = await opened(open_agents())
        project = agents if isinstance(agents, Project) else None
        reach = await opened(Reach.open(egress=_egress(settings, place)))
        tokens = await opened(Tokens.open(configuration.issuers, reach, clock))
        origins = _origins(settings, project)
        settings = with_project(settings, agents)
        store = await opened(open_store_options(settings, agents))
        traces = await opened(_open_traces(settings))
        _warn_without_effect(settings, configuration, place, has_stored=has_stored)
        storage = with_feeds(await opened(_storage(settings, clock)))
        counted = Metrics()
        storage = with_security_events(with_log_lines(storage, people), counted)
        refusals = await opened(Refusals.open(storage, clock))

        # While the file is locked, so that nobody can make its first key meanwhile.
        sign_ins = _sign_ins(settings, storage, origins, tokens, reach, clock, place)
        if sign_ins is not None:
            await sign_ins.log_lost_keys()
        limiting = _limiting(settings, refusals)
        project_auth = _project_auth(project, origins, place)
        access = _access(settings, people, sign_ins, place, limiting, project_auth)
        origins = replace(origins, loopback=access.knows_nobody)

        link_key = _link_key(settings)
        _check_slack(configuration.slack, people, project_auth)
        slack_app = _slack(configuration, reach, clock, storage)
        notifiers = make_notifiers(endpoints, clock, reach, links=link_key, slack=slack_app)
        receivers, ended = _run_receivers(configuration, project), EndedRuns()
        run_notifiers = {
            each.endpoint: RunNotifier(each, reach, clock, ended) for each in receivers
        }

        # Both before the runs, and so closed after them: the head that is published last is the
        # last one, and notifications of the last events are still delivered.
        sinks = _head_sinks(settings, configuration, notifiers)
        await opened(publish_heads(storage, sinks, settings.audit_head_every))
        dispatcher = await opened(
            Dispatcher.open(
                storage,
                {**notifiers, **run_notifiers},
                clock=clock,
                links=link_key,
                pages=_pages(settings),
                drain_seconds=DELIVERIES_SECONDS,
            )
        )

        outbox = with_outbox(storage, endpoints, clock, dispatcher.wake)
        outbox = with_run_webhooks(outbox, receivers, told_of, clock, dispatcher.wake)
        outbox = outbox if traces is None else traces.over(outbox)
        people = replace(
            people,
            knows_nobody=access.knows_nobody,
            known_elsewhere=not place.whole_process
            or bool(configuration.issuers)
            or project_auth is not None,
        )
        made = _runs(
            settings,
            configuration,
            people,
            outbox,
            agents,
            clock,
            store,
            place,
            counted,
            partial(receiver_of, receivers),
        )
        runs = await opened(made)
        ended.open(runs)

        names = [*(each.name for each in endpoints), *run_notifiers]
        retention = _retention(settings, names)
        await opened(sweeping(storage, retention, clock=clock, uploads=runs.uploads))
        streams = _connections(settings, clock)
        heartbeat = settings.heartbeat.total_seconds()
        await opened(keeping(streams, heartbeat=heartbeat, whole_process=place.whole_process))
        await opened(renewing(streams, access))
        await opened(broadcasting(storage, streams))
        memory = storage.store(store)
        served = Served(
            program=runs,
            store=memory,
            dispatcher=dispatcher,
            links=link_key,
            access=access,
            project_auth=project_auth,
            sign_ins=sign_ins,
            link_issuers=settings.link_issuers,
            descriptions=descriptions_of(agents),
            origins=origins,
            connections=streams,
            encoders=Encoders(shared=lambda log_id: streams.on(log_id) > 1),
            metrics=counted,
            traces=traces,
            heartbeat=heartbeat,
            idle_sockets=settings.idle_sockets.total_seconds(),
            is_behind_tls=(settings.public_url or "").startswith("https:"),
            limiting=None if access.knows_nobody else limiting,
            refusals=refusals,
            proxies=Proxies(settings.trusted_proxies),
            slack=slack_app,
        )
        yield Opened(served=served, store=memory, project=project)


def _warn_without_effect(
    settings: Settings, configuration: Configuration, place: Place, *, has_stored: bool
) -> None:
    elsewhere = configuration.issuers or configuration.slack
    for setting, reason in without_effect(
        settings,
        configuration,
        os.environ if place.whole_process else {},
        known_by_key=not (place.has_auth or elsewhere or has_stored),
        stored_keys=has_stored,
    ):
        log.warning("a setting has no effect", setting=setting, reason=reason)


def _people(
    settings: Settings, configuration: Configuration, place: Place, *, has_stored: bool
) -> People:
    # An app's own code, and its users, may have any name; and so may the people of issuers, and
    # those whose keys are stored.
    anybody = settings.public_url is not None or not place.whole_process
    anybody = anybody or has_stored or bool(configuration.issuers)
    in_slack = configuration.slack.people.values() if configuration.slack is not None else ()
    anybody = anybody or bool(in_slack)
    names = {*configuration.people, *settings.api_keys, *settings.roles, *in_slack}
    check_names(names, configuration.aliases)
    return People(
        configuration.people,
        frozenset(settings.api_keys),
        links=anybody,
        given=settings.roles,
        default=settings.default_roles,
        aliases=configuration.aliases,
    )


def _sign_ins(
    settings: Settings,
    storage: Storage,
    origins: Origins,
    tokens: Tokens,
    reach: Reach,
    clock: Clock,
    place: Place,
) -> SignIns | None:
    """The ways in which people are known. None on a server that knows nobody, and on one whose app
    says who they are."""
    has_keys = settings.api_keys or database.has_keys(resolved(settings.database_path))
    if place.has_auth or not (has_keys or tokens.issuers):
        return None
    return SignIns.over(storage, settings, origins, tokens, reach, clock)


def _limiting(settings: Settings, refusals: Refusals) -> Limiting:
    return Limiting(
        person=settings.rate_limit,
        address=settings.rate_limit_address,
        failures=settings.failed_keys,
        has_proxies=bool(settings.trusted_proxies),
        failed=lambda at: refusals.note(Refusal(AuditAction.AUTH_FAILED, address=at)),
    )


def _access(
    settings: Settings,
    people: People,
    sign_ins: SignIns | None,
    place: Place,
    limiting: Limiting,
    project_auth: ProjectAuth | None,
) -> Access:
    """Those who may use the server, in the order in which they are looked for."""
    sources: list[Source] = []
    if sign_ins is not None:
        sources += sign_ins.sources
    if project_auth is not None:
        sources.append(project_auth)
    if place.has_auth:
        sources.append(AppAround())
    return Access(
        sources,
        Roles(people),
        allows_query_token=settings.allow_query_token,
        limiting=limiting,
        cookie=sign_ins.browsers.shown if sign_ins is not None else lambda request: "",
    )


def _project_auth(project: Project | None, origins: Origins, place: Place) -> ProjectAuth | None:
    """The `Auth` of a project that has one."""
    if project is None or project.auth is None:
        return None
    if place.has_auth:
        raise ConfigurationError(
            'Assent takes auth, or that of "auth" in langgraph.json, and was given both: only one '
            "can say who somebody is."
        )
    return ProjectAuth(project.auth, origins)


def _origins(settings: Settings, project: Project | None) -> Origins:
    """The origins whose pages may use the server. Where the setting is made, it alone says."""
    http = project.file.http if project is not None and project.file is not None else None
    if settings.cors_origins or http is None or http.cors is None:
        return Origins(listed=settings.cors_origins)
    return Origins(
        listed=http.cors.allow_origins,
        pattern=http.cors.allow_origin_regex,
    )


def _egress(settings: Settings, place: Place) -> Egress:
    listed = ANYWHERE if settings.egress is None else egress_from_texts(settings.egress)
    return replace(listed, permits=place.egress)


def _configuration(settings: Settings, place: Place) -> Configuration:
    if settings.config is None:
        return Configuration()
    configuration = read_configuration(settings.config, os.environ)
    if place.has_auth and configuration.issuers:
        raise ConfigurationError(
            "Assent takes auth or issuers, and was given both: either your app says who somebody "
            "is, or their token does."
        )
    return configuration


def _storage(settings: Settings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
    return SqliteStorage.open(
        settings.database_path,
        clock,
        synchronous=settings.synchronous,
        encryption_key=settings.encryption_secret,
        audit_key=settings.audit_secret,
    )


@asynccontextmanager
async def _open_traces(settings: Settings) -> AsyncIterator[Traces | None]:
    if not settings.traces:
        yield None
        return
    try:
        from assent.runs.traces import open_traces
    except ImportError as error:
        raise ConfigurationError(
            f"ASSENT_TRACES needs OpenTelemetry, and there is no '{error.name}': "
            'pip install "assent[otel]".'
        ) from None
    async with open_traces() as traces:
        yield traces


def _connections(settings: Settings, clock: Clock) -> Connections:
    return Connections(
        clock,
        most=settings.max_streams,
        most_per_client=settings.max_streams_per_client,
        most_per_tenant=settings.max_streams_per_tenant,
        stalled=settings.stalled.total_seconds(),
    )


def _link_key(settings: Settings) -> LinkKey | None:
    if settings.public_url is None:
        return None
    return LinkKey(settings.link_secret, settings.public_url)


def _pages(settings: Settings) -> str:
    """The address below which people find the page of an approval; "" if there is none."""
    if settings.public_url is None or not settings.ui:
        return ""
    return f"{settings.public_url.rstrip('/')}/ui/approvals/"


def _slack(
    configuration: Configuration, reach: Reach, clock: Clock, storage: Storage
) -> Slack | None:
    app = configuration.slack
    return None if app is None else Slack(app, reach, clock, storage)


def _check_slack(app: SlackApp | None, people: People, project_auth: ProjectAuth | None) -> None:
    """Raise `ConfigurationError` if somebody in Slack has no role here, or if a project's own code
    is to say what anybody may do."""
    if app is None:
        return
    if project_auth is not None:
        raise ConfigurationError(
            "The project's Auth says who may do what, and cannot be asked of what people click in "
            "Slack. Leave out the configuration's section 'slack', or the Auth."
        )
    for name in app.people.values():
        if not any(map(role_of, people.roles_of(name))):
            raise ConfigurationError(
                f"The configuration's section 'slack' names '{name}', who has no role here, and so "
                "could do nothing. Give them one, such as approver, in the section 'people' or in "
                "ASSENT_ROLES."
            )


def _head_sinks(
    settings: Settings, configuration: Configuration, notifiers: Mapping[str, Notifier]
) -> list[HeadSink]:
    sinks: list[HeadSink] = []
    for endpoint in configuration.endpoints:
        if AUDIT_HEAD in endpoint.events:
            sinks.append(to_endpoint(endpoint.name, notifiers[endpoint.name]))
    if settings.audit_head_file is not None:
        sinks.append(to_file(settings.audit_head_file))
    return sinks


def _run_receivers(
    configuration: Configuration, project: Project | None
) -> tuple[RunReceiver, ...]:
    """Those that may be told of the ends of runs, unless the project wants none."""
    http = project.file.http if project is not None and project.file is not None else None
    if http is not None and http.disable_webhooks:
        return ()
    return configuration.run_receivers


def _retention(settings: Settings, endpoints: Iterable[str]) -> Retention:
    return Retention(
        threads_ttl=settings.threads_ttl,
        events_ttl=settings.events_ttl,
        checkpoints_keep=settings.checkpoints_keep,
        endpoints=frozenset(endpoints),
    )


def _recursion_limits(settings: Settings, configuration: Configuration) -> RecursionLimits:
    limits = RecursionLimits(
        agents=configuration.recursion_limits, most=settings.max_recursion_limit
    )
    if settings.recursion_limit is None:
        return limits
    return replace(limits, default=settings.recursion_limit)


def _caps(settings: Settings) -> Caps:
    return Caps(
        threads=settings.max_threads_per_user,
        pending=settings.max_pending_per_user,
        file_bytes=settings.max_uploads_bytes_per_user,
        assistants=settings.max_assistants_per_user,
        tenant_threads=settings.max_threads_per_tenant,
        tenant_pending=settings.max_pending_per_tenant,
        tenant_file_bytes=settings.max_uploads_bytes_per_tenant,
        tenant_assistants=settings.max_assistants_per_tenant,
    )


def _runs(
    settings: Settings,
    configuration: Configuration,
    people: People,
    storage: Storage,
    agents: Mapping[str, Agent],
    clock: Clock,
    store: StoreOptions,
    place: Place,
    counted: Metrics,
    check_webhook: CheckWebhook,
) -> AbstractAsyncContextManager[Runs]:
    return open_runs(
        storage,
        agents,
        clock=clock,
        recursion=_recursion_limits(settings, configuration),
        drain_seconds=settings.drain_seconds,
        max_runs=settings.max_runs,
        sync_threads=settings.sync_threads,
        queue=QueueLimits(per_thread=settings.max_pending_per_thread, in_all=settings.max_pending),
        caps=_caps(settings),
        state_types=settings.state_types,
        budgets=configuration.budgets,
        policies=configuration.policies,
        people=people,
        store=store,
        uploads=UploadLimits(each=settings.max_upload_bytes, in_all=settings.max_uploads_bytes),
        watch_loop=place.whole_process,
        configurable=configuration.configurable,
        tasks=configuration.tasks,
        metrics=counted,
        check_webhook=check_webhook,
        temporary_kept=settings.stateless_ttl,
    )
