"""The client without asyncio. `aio.py` is its twin: the same names, parameters and types."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

import httpx
from httpx_sse import EventSource

from assent.client import calls
from assent.client.calls import Call, Decisions, Transport
from assent.client.commands import read_frame
from assent.client.following import POLL_SECONDS, Follower, reason_of
from assent.client.sync_calls import (
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
from assent.client.sync_socket import SyncThreadSocket
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
        self, http: Callable[[], httpx.Client], wire: Wire, on_link: Callable[[Link], None]
    ) -> None:
        self._get_http = http
        self._wire = wire
        self._on_link = on_link

    @property
    def _http(self) -> httpx.Client:
        return self._get_http()

    def ask(self, call: Call[T]) -> T:
        """The result of the call. Raises an `AssentError`."""
        tries = Tries(call, random.random)
        while True:
            try:
                request = self._http.build_request(**self._wire.request(call))
                return self._wire.read(call, self._http.send(request))
            except (AssentError, httpx.RequestError) as error:
                pause = tries.failed(error, self._wire.lost(error))
            time.sleep(pause)

    def follow(
        self,
        path: str = "",
        *,
        after: int | None = None,
        types: Sequence[str] | None = None,
        opening: Call[None] | None = None,
        is_one_run: bool = False,
        transport: Transport = "sse",
    ) -> Generator[Heard, None, None]:
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
                with closing(connection(follower)) as events:
                    for heard in events:
                        if follower.heard(heard):
                            yield heard
                        if follower.is_over:
                            return
            except (AssentError, httpx.RequestError) as error:
                lost = self._wire.lost(error)
                pause = follower.dropped(lost)
                if follower.has_begun:
                    self._on_link(Link("down", pause, lost.message))
                time.sleep(pause)

    def socket(self, path: str, after: int | None, types: Sequence[str] | None) -> SyncThreadSocket:
        """A WebSocket at the path."""
        follower = Follower(self._wire.url, path, after=after, types=types, random=random.random)
        return SyncThreadSocket(self._wire, follower, self._on_link)

    def _sse(self, follower: Follower) -> Generator[Heard, None, None]:
        """The events of one connection."""
        request = self._http.build_request(**self._wire.request(follower.request()))
        response = self._http.send(request, stream=True)
        try:
            if not is_stream(response):
                response.read()
                raise refused(response)
            self._opened(follower, response.headers, is_empty=is_empty(response))
            expect_events(response, follower.silence)
            for frame in EventSource(response).iter_sse():
                if frame.event == "end":
                    follower.ended(reason_of(frame.data))
                    return
                # A comment that keeps the connection alive may come as an event without data.
                if frame.data:
                    yield Heard.read(frame.data.encode())
            follower.ended("")
        finally:
            response.close()

    def _websocket(self, follower: Follower) -> Generator[Heard, None, None]:
        """The events of one WebSocket."""
        # Most clients open none, and the library takes as long to import as httpx does.
        from assent.client import sockets

        with sockets.connected_sync(self._wire, *follower.socket()) as socket:
            self._opened(follower, socket.headers)
            while True:
                frame = read_frame(socket.receive(follower.silence))
                if isinstance(frame, Heard):
                    yield frame

    def _poll(self, follower: Follower) -> Generator[Heard, None, None]:
        """The events of one page after another."""
        while True:
            call = follower.page()
            request = self._http.build_request(**self._wire.request(call, waits=POLL_SECONDS))
            asked_at = monotonic()
            response = self._http.send(request, stream=True)
            try:
                if response.is_success:
                    self._opened(follower, response.headers)
                response.read()
            finally:
                response.close()
            page = self._wire.read(call, response)
            yield from page.events
            follower.turned(page, monotonic() - asked_at)

    def _opened(
        self, follower: Follower, headers: Mapping[str, str], *, is_empty: bool = False
    ) -> None:
        if follower.opened(headers, is_empty=is_empty):
            self._on_link(Link("up"))


class _Connections:
    """The connections of each process that uses a client, unless they are `given`. A process that
    was forked has others than the one before: on the same, either would read what the other is
    answered."""

    def __init__(self, wire: Wire, given: httpx.Client | None) -> None:
        self._wire = wire
        self._given = given
        self._verify = trusted(wire.url, trust_env=wire.trust_env)
        self._by_process: dict[int, httpx.Client] = {}

    def get(self) -> httpx.Client:
        """Those of this process."""
        if self._given is not None:
            return self._given
        found = self._by_process.get(os.getpid())
        if found is None:
            # Those of another process are kept, since to close them is that one's own.
            found = self._by_process[os.getpid()] = httpx.Client(
                limits=LIMITS, trust_env=self._wire.trust_env, verify=self._verify
            )
        return found

    def close(self) -> None:
        """Close those of this process, if they were not given."""
        if self._given is None:
            self.get().close()


class SyncClient:
    """A server's API, without asyncio.

        with SyncClient("http://127.0.0.1:8000", key=secret) as client:
            for event in client.stream("Delete the old records."):
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
        http: httpx.Client | None = None,
        on_link: Callable[[Link], None] | None = None,
    ) -> None:
        wire = Wire.to(url, key, timeout, trust_env=trust_env)
        self._connections = _Connections(wire, http)
        self._asks = asks = Asking(self._connections.get, wire, on_link or ignore_link)
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

    def stream(
        self,
        message: Json = None,
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        idempotency_key: str | None = None,
        **options: Json,
    ) -> Generator[SomeEvent, None, None]:
        """Start a run; its events up to its last one, over any number of connections. `options` are
        the other fields of `POST /agent/stream`."""
        stream = self.runs.stream(
            message, thread_id=thread_id, agent=agent, idempotency_key=idempotency_key, **options
        )
        with closing(stream) as events:
            for heard in events:
                yield heard.event

    def resume(
        self,
        thread_id: str,
        decisions: Decisions,
        *,
        digests: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Generator[SomeEvent, None, None]:
        """Decide what the thread waits for; the events of the decisions, and of the run if it goes
        on. The `digests` are those that were shown, by the ids of the decisions."""
        stream = self.runs.resume(
            thread_id, decisions, digests=digests, idempotency_key=idempotency_key
        )
        with closing(stream) as events:
            for heard in events:
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
    ) -> Generator[Heard, None, None]:
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
    ) -> SyncThreadSocket:
        """A WebSocket of the thread: the events past the number `after`, as `watch` has them, and
        in the other direction messages, decisions and what else a client has to say."""
        path = calls.log_path("websocket", thread_id=thread_id)
        return self._asks.socket(path, after, types)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
