"""The arguments that routes share. All of it is async, since FastAPI runs what is not in a
thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Path, Query, Request

from assent.api.access import project_auth
from assent.api.access.authorizing import identity_of, sight_of, take
from assent.api.access.identity import Identity
from assent.api.context import served
from assent.api.schemas import THREAD_ID
from assent.api.streams.connections import PLACE, READER, Reader
from assent.core.access import Owner, Right, Sight
from assent.core.audit import Actor
from assent.runs.service import Runs


async def _runs(request: Request) -> Runs:
    return _as_seen(request)


async def _runs_by(request: Request) -> Callable[[Right], Runs]:
    def runs_by(right: Right) -> Runs:
        take(request, right)
        return _as_seen(request)

    return runs_by


def _as_seen(request: Request) -> Runs:
    return _seen_by(request, sight_of(request))


def runs_by_right(request: Request, right: Right) -> Runs:
    """The runs, as this right of the request's sender lets them see them."""
    return _seen_by(request, identity_of(request).sight(right))


def _seen_by(request: Request, sight: Sight) -> Runs:
    return served(request).program.seen_by(sight, project_auth.matching_of(request))


async def _identity(request: Request) -> Identity:
    return identity_of(request)


async def _actor(request: Request) -> Actor:
    return identity_of(request).actor


TheRuns = Annotated[Runs, Depends(_runs)]
"""The runs, as the sender of the request sees them: a route has no others."""

RunsBy = Callable[[Right], Runs]
"""Gives the runs to a request whose body takes this right. Raises 403."""

TheRunsBy = Annotated[RunsBy, Depends(_runs_by)]
"""In place of `TheRuns`, on a route whose body says whether it decides (`Rule.deciding`)."""

TheIdentity = Annotated[Identity, Depends(_identity)]
TheActor = Annotated[Actor, Depends(_actor)]

ThreadPath = Annotated[str, Path(alias="id", pattern=THREAD_ID)]
OfThread = Annotated[str | None, Query(pattern=THREAD_ID)]
PageLimit = Annotated[int, Query(ge=1, le=1000)]
Text = Annotated[str | None, Query(min_length=1, max_length=200)]


async def _admitted(request: Request, by: TheActor) -> None:
    _keep_place(request, by)


async def _admitted_if_streaming(request: Request, by: TheActor) -> None:
    _keep_place(request, by, streams=wants_stream(request))


async def _admitted_unless_page(request: Request, by: TheActor) -> None:
    _keep_place(request, by, streams=not wants_page(request))


def _keep_place(request: Request, by: Actor, *, streams: bool = True) -> None:
    """Keep a place for the stream of a request, until that is open or the request is over: its
    route gives it back."""
    _note_reader(request, by)
    if streams:
        reader: Reader = request.scope[READER]
        request.scope[PLACE] = served(request).connections.keep_place(reader.client)


async def _admitted_at_once(request: Request, by: TheActor) -> None:
    _note_reader(request, by)
    admit(request)


async def _noted_reader(request: Request, by: TheActor) -> None:
    _note_reader(request, by)


def _note_reader(request: Request, by: Actor) -> None:
    address = request.client.host if request.client is not None else ""
    client = Owner(address) if served(request).knows_nobody else by.owner
    request.scope[READER] = Reader(by.owner, address, client)


def admit(request: Request) -> None:
    """Raise `StreamsFull` if the client may open no other stream."""
    reader: Reader = request.scope[READER]
    served(request).connections.admit(reader.client)


NotedReader = Annotated[None, Depends(_noted_reader)]
"""Know whom a stream would be counted for. A page is none, unless it waits."""

Admitted = Annotated[None, Depends(_admitted)]
AdmittedIfStreaming = Annotated[None, Depends(_admitted_if_streaming)]
AdmittedUnlessPage = Annotated[None, Depends(_admitted_unless_page)]
AdmittedReader = Annotated[None, Depends(_admitted_at_once)]
"""Refuse another stream of somebody who has too many, before a route does anything."""


def wants_stream(request: Request) -> bool:
    """True if the client accepts Server-Sent Events by name."""
    return "text/event-stream" in request.headers.get("accept", "")


def wants_page(request: Request) -> bool:
    """True if the client accepts JSON by name, and no Server-Sent Events."""
    return "application/json" in request.headers.get("accept", "") and not wants_stream(request)
