"""The client for asyncio. `sync.py` is its twin: the same names, parameters and types."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

import httpx
from httpx_sse import EventSource

from assent.client import calls
from assent.client.aio_calls import (
    ApprovalCalls,
    AuditCalls,
    FeedCalls,
    FileCalls,
    GrantCalls,
    KeyCalls,
    RunCalls,
    ScheduleCalls,
    ServerCalls,
    ThreadCalls,
)
from assent.client.aio_socket import ThreadSocket
from assent.client.calls import Call, Decisions, Transport
from assent.client.commands import read_frame
from assent.client.following import POLL_SECONDS, Follower, reason_of
from assent.client.values import Heard, Link, SomeEvent
from assent.client.wire import (
    EXAMPLE,
    LIMITS,
    Tries,
    Wire,
    expect_events,
    ignore_link,
    is_empty,
    is_stream,
    refused,
    trusted,
)
from assent.core.errors import AssentError
from assent.core.json import Json

T = TypeVar("T")


class Asking:
    """The way to one server: requests that are tried again, and streams that are taken up again."""

    def __init__(
        self, http: httpx.AsyncClient, wire: Wire, on_link: Callable[[Link], None]
    ) -> None:
        self._http = http
        self._wire = wire
        self._on_link = on_link

    async def ask(self, call: Call[T]) -> T:
        """The result of the call. Raises an `AssentError`."""
        tries = Tries(call, random.random)
        while True:
            try:
                request = self._http.build_request(**self._wire.request(call))
                return self._wire.read(call, await self._http.send(request))
            except (AssentError, httpx.RequestError) as error:
                pause = tries.failed(error, self._wire.lost(error))
            await asyncio.sleep(pause)

    async def follow(
        self,
        path: str = "",
        *,
        after: int | None = None,
        types: Sequence[str] | None = None,
        opening: Call[None] | None = None,
        is_one_run: bool = False,
        transport: Transport = "sse",
    ) -> AsyncGenerator[Heard, None]:
        """The events at the path, or of what the opening has begun, over any number of
        connections."""
        follower = Follower(
            self._wire.url,
            path,
            after=after,
            types=types,
            opening=opening,
            is_one_run=is_one_run,
            random=random.random,
        )
        transports = {"sse": self._sse, "websocket": self._websocket, "poll": self._poll}
        connection = transports[transport]
        while not follower.is_over:
            try:
                async with aclosing(connection(follower)) as events:
                    async for heard in events:
                        if follower.heard(heard):
                            yield heard
                        if follower.is_over:
                            return
            except (AssentError, httpx.RequestError) as error:
                lost = self._wire.lost(error)
                pause = follower.dropped(lost)
                if follower.has_begun:
                    self._on_link(Link("down", pause, lost.message))
                await asyncio.sleep(pause)

    def socket(self, path: str, after: int | None, types: Sequence[str] | None) -> ThreadSocket:
        """A WebSocket at the path."""
        follower = Follower(self._wire.url, path, after=after, types=types, random=random.random)
        return ThreadSocket(self._wire, follower, self._on_link)

    async def _sse(self, follower: Follower) -> AsyncGenerator[Heard, None]:
        """The events of one connection."""
        request = self._http.build_request(**self._wire.request(follower.request()))
        response = await self._http.send(request, stream=True)
        try:
            if not is_stream(response):
                await response.aread()
                raise refused(response)
            self._opened(follower, response.headers, is_empty=is_empty(response))
            expect_events(response, follower.silence)
            async for frame in EventSource(response).aiter_sse():
                if frame.event == "end":
                    follower.ended(reason_of(frame.data))
                    return
                # A comment that keeps the connection alive may come as an event without data.
                if frame.data:
                    yield Heard.read(frame.data.encode())
            follower.ended("")
        finally:
            await response.aclose()

    async def _websocket(self, follower: Follower) -> AsyncGenerator[Heard, None]:
        """The events of one WebSocket."""
        # Most clients open none, and the library takes as long to import as httpx does.
        from assent.client import sockets

        async with sockets.connected(self._wire, *follower.socket()) as socket:
            self._opened(follower, socket.headers)
            while True:
                frame = read_frame(await socket.receive(follower.silence))
                if isinstance(frame, Heard):
                    yield frame

    async def _poll(self, follower: Follower) -> AsyncGenerator[Heard, None]:
        """The events of one page after another."""
        while True:
            call = follower.page()
            request = self._http.build_request(**self._wire.request(call, waits=POLL_SECONDS))
            asked_at = monotonic()
            response = await self._http.send(request, stream=True)
            try:
                if response.is_success:
                    self._opened(follower, response.headers)
                await response.aread()
            finally:
                await response.aclose()
            page = self._wire.read(call, response)
            for heard in page.events:
                yield heard
            follower.turned(page, monotonic() - asked_at)

    def _opened(
        self, follower: Follower, headers: Mapping[str, str], *, is_empty: bool = False
    ) -> None:
        if follower.opened(headers, is_empty=is_empty):
            self._on_link(Link("up"))


class Client:
    """A server's API for asyncio.

        async with Client("http://127.0.0.1:8000", key=secret) as client:
            async for event in client.stream("Delete the old records."):
                print(event)

    `timeout` is the longest wait for an answer, in seconds. With `trust_env`, the proxies of the
    environment are used. An `http` client that is given is used as it is, and is the caller's to
    close. `on_link` is told when a stream's connection is lost and when it is back; an error that
    it raises ends the stream.

    Each method raises an `AssentError`: what the server refuses, as `assent.core.errors` has it, or
    `Unauthorized`, `Unreachable` or `ServerFailed`.
    """

    def __init__(
        self,
        url: str = EXAMPLE,
        *,
        key: str | None = None,
        timeout: float = 60.0,
        trust_env: bool = True,
        http: httpx.AsyncClient | None = None,
        on_link: Callable[[Link], None] | None = None,
    ) -> None:
        wire = Wire.to(url, key, timeout, trust_env=trust_env)
        self._own = None
        if http is None:
            verify = trusted(wire.url, trust_env=trust_env)
            http = self._own = httpx.AsyncClient(limits=LIMITS, trust_env=trust_env, verify=verify)
        self._asks = asks = Asking(http, wire, on_link or ignore_link)
        self.runs = RunCalls(asks)
        self.threads = ThreadCalls(asks)
        self.approvals = ApprovalCalls(asks)
        self.schedules = ScheduleCalls(asks)
        self.grants = GrantCalls(asks)
        self.keys = KeyCalls(asks)
        self.audit = AuditCalls(asks)
        self.files = FileCalls(asks)
        self.feeds = FeedCalls(asks)
        self.server = ServerCalls(asks)

    async def stream(
        self,
        message: Json = None,
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        idempotency_key: str | None = None,
        **options: Json,
    ) -> AsyncGenerator[SomeEvent, None]:
        """Start a run; its events up to its last one, over any number of connections. `options` are
        the other fields of `POST /agent/stream`."""
        stream = self.runs.stream(
            message, thread_id=thread_id, agent=agent, idempotency_key=idempotency_key, **options
        )
        async with aclosing(stream) as events:
            async for heard in events:
                yield heard.event

    async def resume(
        self,
        thread_id: str,
        decisions: Decisions,
        *,
        digests: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncGenerator[SomeEvent, None]:
        """Decide what the thread waits for; the events of the decisions, and of the run if it goes
        on. The `digests` are those that were shown, by the ids of the decisions."""
        stream = self.runs.resume(
            thread_id, decisions, digests=digests, idempotency_key=idempotency_key
        )
        async with aclosing(stream) as events:
            async for heard in events:
                yield heard.event

    def watch(
        self,
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        user: str | None = None,
        run_id: str | None = None,
        approvals: bool = False,
        after: int | None = None,
        types: Sequence[str] | None = None,
        transport: Transport = "sse",
    ) -> AsyncGenerator[Heard, None]:
        """The events of a thread, of a run, or of the feed of an agent, of a user or of all
        approvals: those past the number `after` (by default all that there are), and then live. A
        run's end with it; the others have no end. A thread's come over a "websocket" too, and all
        but a run's by "poll", where nothing else gets through."""
        path = calls.log_path(
            transport,
            thread_id=thread_id,
            agent=agent,
            user=user,
            run_id=run_id,
            approvals=approvals,
        )
        return self._asks.follow(
            path, after=after, types=types, is_one_run=run_id is not None, transport=transport
        )

    def socket(
        self, thread_id: str, *, after: int | None = None, types: Sequence[str] | None = None
    ) -> ThreadSocket:
        """A WebSocket of the thread: the events past the number `after`, as `watch` has them, and
        in the other direction messages, decisions and what else a client has to say."""
        path = calls.log_path("websocket", thread_id=thread_id)
        return self._asks.socket(path, after, types)

    async def close(self) -> None:
        """Close the connections."""
        if self._own is not None:
            await self._own.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
