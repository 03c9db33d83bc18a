"""The frames of a thread's WebSocket, and the commands that are on their way on it. No I/O.

A command that has an idempotency key is sent again if the connection breaks before its answer: the
server carries it out once. One that has none may have been carried out, and fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec

from assent.client.calls import Again, Decisions, answer_body, body_of, bound, names_of
from assent.client.following import FIRST_PAUSE, TRIES
from assent.client.problems import ServerFailed, Unreachable, may_pass, problem_error
from assent.client.values import Heard, Outcome, Run, ShownApproval
from assent.core.decisions import Decision
from assent.core.errors import AssentError, TooLarge
from assent.core.json import Json, JsonObject

T = TypeVar("T")

MOST_BYTES = 1 << 20
"""The most that a server takes as one frame."""

ASIDE = frozenset({"ready", "tick", "pong"})
"""Types of frames that say nothing to a reader."""


# ── frames ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the command of this id: a body, or why it was not carried out."""

    id: str
    body: JsonObject
    error: AssentError | None = None


class _Frame(msgspec.Struct):
    type: str
    id: Json = None


def read_frame(message: str | bytes) -> Heard | Reply | None:
    """The event or the reply in the frame, if it is one. Raises the error of a problem that is
    about no command."""
    body = message.encode() if isinstance(message, str) else message
    try:
        frame = msgspec.json.decode(body, type=_Frame)
    except msgspec.DecodeError as error:
        raise ServerFailed(f"The server sent what is no frame: {error}.") from error
    if frame.type == "answer":
        return Reply(str(frame.id), msgspec.json.decode(body).get("body", {}))
    if frame.type == "problem":
        problem = problem_error(msgspec.json.decode(body))
        if frame.id is None:
            raise problem
        return Reply(str(frame.id), {}, problem)
    return None if frame.type in ASIDE else Heard.read(body)


# ── commands ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[T]):
    """A command; `read` makes the result of the answer's body. One that `holds` goes on to its
    answer though nobody waits for it any more."""

    fields: JsonObject
    read: Callable[[JsonObject], T]
    again: Again = Again.NEVER
    holds: bool = False


def message(body: JsonObject, key: str) -> Command[Run]:
    """Start a run with the body of such a request."""
    fields = {**body, "type": "message", "idempotency_key": key}
    return Command(fields=fields, read=Run.of, again=Again.KEYED)


def decide(approval: ShownApproval, decision: Decision, key: str) -> Command[Outcome]:
    """Decide what was shown: if something else is asked by then, nothing is decided."""
    body = bound(approval, decision)
    return resume({approval.approval_id: body}, None, key)


def resume(decisions: Decisions, digests: Mapping[str, str] | None, key: str) -> Command[Outcome]:
    """Decide what the thread waits for."""
    body = answer_body(decisions, digests)
    if isinstance(body, dict) and "decisions" in body:
        body = body["decisions"]
    fields = {"type": "decide", "decisions": body, "idempotency_key": key}
    return Command(fields=fields, read=Outcome.of, again=Again.DECIDING)


def cancel(run_id: str | None, mode: Literal["interrupt", "rollback"]) -> Command[tuple[Run, ...]]:
    """Ask a run of the thread to stop, or all."""
    fields: JsonObject = {"type": "cancel", "mode": mode}
    if run_id is not None:
        fields["run_id"] = run_id
    return Command(fields=fields, read=lambda body: tuple(map(Run.of, body["runs"])))


def select(types: Sequence[str] | None, done: Callable[[int], None]) -> Command[int]:
    """Want other events; `done` is told the number after which the server sends them."""

    def read(body: JsonObject) -> int:
        after = int(body["after"])
        done(after)
        return after

    # The server may do it though nobody waits, and then the numbers that come have gaps.
    names = names_of(types)
    fields = {"type": "filter", "types": None if names is None else [*names]}
    return Command(fields=fields, read=read, again=Again.KEYED, holds=True)


def acknowledgement(seq: int) -> str:
    """The frame that says that the events up to this number were dealt with."""
    # Nobody waits for the answer: there is none, unless there is something wrong with it.
    return body_of({"type": "ack", "id": "ack", "seq": seq}).decode()


def _frame(fields: JsonObject) -> str:
    """The frame with a command. Raises `TooLarge` for one that would end the connection, and all
    that is on its way there."""
    body = body_of(fields)
    if len(body) > MOST_BYTES:
        raise TooLarge(
            f"A command has at most {MOST_BYTES:,} bytes as JSON, and this one has {len(body):,}. "
            "Upload files, and name them by their ids. Nothing was sent."
        )
    return body.decode()


class Order(Generic[T]):
    """A command that was given, and what has become of it."""

    def __init__(self, id: str, command: Command[T]) -> None:
        self.id = id
        self.frame = _frame({**command.fields, "id": id})
        self.is_sent = False
        """True while it is on its way on the connection that there is."""
        self.is_done = False
        self.command = command
        self._tries = 0
        self._result: T | None = None
        self._error: AssentError | None = None

    @property
    def pause(self) -> float:
        """The seconds before it is sent."""
        return FIRST_PAUSE * self._tries

    @property
    def waits(self) -> bool:
        """True while its answer may come."""
        return self.is_sent and not self.is_done

    def sent(self) -> None:
        """Take note that it is being sent."""
        self.is_sent = True
        self._tries += 1

    def result(self) -> T:
        """The result. Raises why there is none."""
        if self._error is not None:
            raise self._error
        return cast(T, self._result)

    def answered(self, reply: Reply) -> None:
        """Take note of the answer. One by which it may succeed a little later is none."""
        if reply.error is None:
            self._read(reply.body)
        elif self.command.again is Again.DECIDING and may_pass(reply.error):
            self.lost(reply.error)
        else:
            self.failed(reply.error)

    def lost(self, error: AssentError) -> None:
        """Take note that no answer comes of this try."""
        if not self.is_sent:
            return
        self.is_sent = False
        if self.command.again is Again.NEVER or self._tries >= TRIES:
            self.failed(error)

    def failed(self, error: AssentError) -> None:
        """Take note that nothing comes of it."""
        if not self.is_done:
            self._error, self.is_done = error, True

    def _read(self, body: JsonObject) -> None:
        try:
            self._result, self.is_done = self.command.read(body), True
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            wrong = f"The server's answer to a command is none that this client reads: {error}."
            self.failed(ServerFailed(wrong))


class Orders:
    """The commands whose answers have not come."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._open: dict[str, Order[Any]] = {}

    def give(self, command: Command[T]) -> Order[T]:
        """Take the command. Raises `InvalidRequest` for one that is no JSON, or too large."""
        order = Order(f"c{next(self._ids)}", command)
        self._open[order.id] = order
        return order

    def drop(self, order: Order[Any]) -> None:
        """Take note that nobody waits for it any more."""
        if order.is_done or not order.command.holds:
            self._open.pop(order.id, None)

    def unsent(self) -> list[Order[Any]]:
        """Those that are to be sent on a new connection, in the order in which they were given."""
        return [each for each in self._open.values() if not each.is_sent and not each.is_done]

    def answered(self, reply: Reply) -> None:
        """Take note of an answer, if its command is known."""
        order = self._open.get(reply.id)
        if order is not None:
            order.answered(reply)
            if order.is_done:
                del self._open[order.id]

    def lost(self, error: AssentError) -> None:
        """Take note that the connection has broken."""
        for order in self._open.values():
            order.lost(error)

    def failed(self, error: AssentError) -> None:
        """Take note that there will be no other connection."""
        for order in self._open.values():
            order.failed(error)


def unanswered(url: str, seconds: float) -> Unreachable:
    """The error of a command whose answer did not come in time, over however many connections."""
    return Unreachable(f"The server at {url} has not answered the command within {seconds:g} s.")


class Closed(AssentError):
    """The WebSocket was closed here."""
