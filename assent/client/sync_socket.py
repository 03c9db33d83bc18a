"""A thread's WebSocket without asyncio, in both directions. `aio_socket.py` is its twin."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from assent.client import calls, commands
from assent.client.calls import Decisions
from assent.client.commands import Closed, Command, Order, Orders, Reply, read_frame, unanswered
from assent.client.following import Follower
from assent.client.values import Heard, Link, Outcome, Run, ShownApproval
from assent.client.wire import Wire
from assent.core.clock import uuid7
from assent.core.decisions import Decision
from assent.core.errors import AssentError, InvalidRequest
from assent.core.json import Json

if TYPE_CHECKING:
    from assent.client.sockets import SyncSocket

T = TypeVar("T")


class SyncThreadSocket:
    """A thread's events, and commands about it in the other direction, over one WebSocket. If its
    connection breaks, it is opened again after the last event.

        with client.socket("t-1") as socket:
            for heard in socket:
                ...

    A command may be given at any time, also amid the events, and waits for its answer: for the
    client's `timeout` at most, over however many connections.
    """

    def __init__(self, wire: Wire, follower: Follower, on_link: Callable[[Link], None]) -> None:
        self._wire = wire
        self._follower = follower
        self._on_link = on_link
        self._connection = ExitStack()
        self._using = threading.RLock()
        self._socket: SyncSocket | None = None
        self._deadline = math.inf
        """The moment until which the command that is being carried out may be waited for."""
        self._pause = 0.0
        self._heard: deque[Heard] = deque()
        self._given = 0
        """The number of the last event that the caller has got."""
        self._acked = 0
        self._orders = Orders()
        self._failed: AssentError | None = None

    # ── events ────────────────────────────────────────────────────────────────────────────────────

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Heard:
        """The next event. Raises an `AssentError` if there will be none."""
        with self._alone():
            try:
                self._until(lambda: bool(self._heard))
            except Closed:
                raise StopIteration from None
        heard = self._heard.popleft()
        self._given = heard.seq or self._given
        return heard

    def filter(self, types: Sequence[str] | None) -> int:
        """Get only events of these types from now on; None is all. Returns the number of the last
        event for which that does not hold yet."""
        return self._carried_out(commands.select(types, self._selected(types)))

    def ack(self, seq: int | None = None) -> None:
        """Say that the events up to this number were dealt with, by default all that you have got.
        `server.connections` shows it. Raises `InvalidRequest` for one that you have not got."""
        acked = self._given if seq is None else seq
        if acked > self._given:
            raise InvalidRequest(
                f"The event {acked} has not come yet. The last one was {self._given}."
            )
        self._acked = max(self._acked, acked)
        if self._socket is not None:
            with suppress(AssentError):
                # If the connection is lost, whoever reads from it finds that out.
                self._socket.send(commands.acknowledgement(self._acked))

    # ── commands ──────────────────────────────────────────────────────────────────────────────────

    def message(
        self,
        message: Json = None,
        *,
        agent: str | None = None,
        idempotency_key: str | None = None,
        **options: Json,
    ) -> Run:
        """Start a run on the thread, and do not wait for it. `options` are the other fields of
        `POST /agent/stream`."""
        body = calls.run_body(message, {**options, "agent": agent})
        return self._carried_out(commands.message(body, idempotency_key or uuid7()))

    def decide(
        self, approval: ShownApproval, decision: Decision, *, key: str | None = None
    ) -> Outcome:
        """Decide an approval of the thread, exactly as it was shown. Raises `AlreadyDecided`, or
        `Superseded` if something else is asked by now."""
        return self._carried_out(commands.decide(approval, decision, key or uuid7()))

    def resume(
        self,
        decisions: Decisions,
        *,
        digests: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Decide what the thread waits for. The `digests` are those that were shown, by the ids of
        the decisions."""
        key = idempotency_key or uuid7()
        return self._carried_out(commands.resume(decisions, digests, key))

    def cancel(
        self,
        run_id: str | None = None,
        *,
        mode: Literal["interrupt", "rollback"] = "interrupt",
    ) -> tuple[Run, ...]:
        """Ask a run of the thread to stop, or all. Raises `Unreachable` if the connection breaks
        before the answer: it may have been done."""
        return self._carried_out(commands.cancel(run_id, mode))

    def _carried_out(self, command: Command[T]) -> T:
        """The result of the command, sent again for as long as its answer does not come."""
        with self._alone():
            return self._answer_to(self._orders.give(command))

    def _answer_to(self, order: Order[T]) -> T:
        self._deadline = time.monotonic() + self._wire.timeout
        try:
            while not order.is_done:
                self._until(lambda: self._socket is not None)
                self._send(order)
                self._until(lambda: not order.waits)
                if not order.is_done:
                    time.sleep(order.pause)
        finally:
            self._deadline = math.inf
            self._orders.drop(order)
        return order.result()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread reads amid this. Raises `InvalidRequest` in the second one."""
        if not self._using.acquire(blocking=False):
            raise InvalidRequest(
                "Another thread uses this socket now. Open one in each thread. Nothing was sent."
            )
        try:
            yield
        finally:
            self._using.release()

    def _send(self, order: Order[T]) -> None:
        if self._socket is not None and not order.is_sent and not order.is_done:
            order.sent()
            with suppress(AssentError):
                self._socket.send(order.frame)

    def _selected(self, types: Sequence[str] | None) -> Callable[[int], None]:
        return lambda after: self._follower.select(types, after)

    # ── the connection ────────────────────────────────────────────────────────────────────────────

    def _until(self, is_there: Callable[[], bool]) -> None:
        """Read until this holds."""
        while not is_there():
            self._read()

    def _read(self) -> None:
        """Read a frame; or open a connection, if there is none."""
        if self._failed is not None:
            raise self._failed
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise unanswered(self._wire.url, self._wire.timeout)
        try:
            if self._socket is None:
                self._open()
            else:
                self._take(self._socket.receive(min(self._follower.silence, left)))
        except AssentError as error:
            if time.monotonic() < self._deadline:
                self._lost(error)

    def _take(self, body: str | bytes) -> None:
        frame = read_frame(body)
        if isinstance(frame, Reply):
            self._orders.answered(frame)
        elif frame is not None and self._follower.heard(frame):
            self._heard.append(frame)

    def _open(self) -> None:
        # Most clients open none, and the library takes as long to import as httpx does.
        from assent.client import sockets

        time.sleep(self._pause)
        opening = sockets.connected_sync(self._wire, *self._follower.socket())
        socket = self._connection.enter_context(opening)
        if self._failed is not None:
            raise self._failed
        if self._follower.opened(socket.headers):
            self._on_link(Link("up"))
        self._socket = socket
        if self._acked:
            socket.send(commands.acknowledgement(self._acked))
        for order in self._orders.unsent():
            self._send(order)

    def _lost(self, error: AssentError) -> None:
        """Take note that the connection is lost. Raises the error if there will be no other."""
        self._socket = None
        self._connection.close()
        if self._failed is not None:
            raise self._failed
        try:
            self._pause = self._follower.dropped(error)
        except AssentError as last:
            self._failed = last
            self._orders.failed(last)
            raise
        self._orders.lost(error)
        if self._follower.has_begun:
            self._on_link(Link("down", self._pause, error.message))

    def close(self) -> None:
        """Close the WebSocket."""
        self._failed = self._failed or Closed("The WebSocket is closed.")
        self._orders.failed(self._failed)
        self._socket = None
        self._connection.close()

    def __enter__(self) -> Self:
        try:
            self._until(lambda: self._socket is not None)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
