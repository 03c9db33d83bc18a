"""LangGraph's thread protocol: streams of a thread's events in the channels that a client takes,
and sockets on which it says which those are, as often as it likes."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field, StrictInt
from starlette.exceptions import HTTPException

from assent.api.context import Served
from assent.api.dialects.langgraph.channels import CHANNEL, PLACES_OF_ENTRY, Subscription
from assent.api.dialects.langgraph.protocol import ThreadProtocol
from assent.api.dialects.positions import LAST_NUMBER
from assent.api.json_body import read_as, read_json_text
from assent.api.langgraph_shapes import LangGraphBody, state_view
from assent.api.problems import Asked, document
from assent.api.streams.connections import Connection, Heartbeat
from assent.api.streams.encoder import ws_text
from assent.api.streams.reading import check_readable
from assent.api.streams.requests import Requests
from assent.api.streams.speech import Conversation, NotUnderstood, Said
from assent.api.streams.states import with_states
from assent.api.thread_commands import COMMANDS, PARAMS, failure, method_of, success
from assent.core.errors import Conflict, Gone, InvalidRequest, NotFound
from assent.core.events import Checkpoint, RunResumed, decode
from assent.core.json import Json, JsonObject, encode_json
from assent.core.logs import UNBEGUN
from assent.core.rows import Thread
from assent.runs.follow import Batches, Following, entry_at, first_of
from assent.runs.service import Runs
from assent.storage.base import Storage

MOST_SUBSCRIPTIONS = 100

MOST_NAMESPACES = 100
"""The most namespaces of a request. What an entry tells is compared with those of all subscriptions
of a socket."""

Segment = Annotated[str, Field(max_length=1000)]

Number = Annotated[StrictInt, Field(ge=0, le=LAST_NUMBER)]


class StreamRequest(LangGraphBody):
    """The events to stream: of these channels, past the number `since`."""

    channels: list[Annotated[str, Field(pattern=CHANNEL, max_length=200)]] = Field(
        min_length=1, max_length=100
    )
    namespaces: list[Annotated[list[Segment], Field(max_length=100)]] | None = Field(
        default=None,
        max_length=MOST_NAMESPACES,
        description="Only of graphs whose paths begin with one of these, whose segments may be "
        "names of nodes",
    )
    depth: Number | None = Field(default=None, description="At most so many levels below those")
    since: Number | None = Field(
        default=None, description="The `seq` of the last event that you have"
    )

    def subscription(self, id: str, *, after: int = 0, states_after: int = 0) -> Subscription:
        """The subscription to this, of somebody who has what is up to `after`."""
        return Subscription(
            id=id,
            channels=frozenset(self.channels),
            namespaces=self.namespaces,
            depth=self.depth,
            after=after,
            states_after=states_after,
        )


async def subscription_to(
    asked: StreamRequest, id: str, storage: Storage, thread_id: str
) -> Subscription:
    """The subscription to events of the thread. Raises `Conflict` if events past `since` were
    removed, or if there is no such number."""
    since = asked.since or 0
    try:
        await check_readable(storage, thread_id, since // PLACES_OF_ENTRY)
    except Gone as error:
        raise Conflict(f"{error} Leave out 'since' for all that are left.") from error
    states_after = await _states_after(storage, thread_id, since // PLACES_OF_ENTRY)
    return asked.subscription(id, after=since, states_after=states_after)


async def _states_after(storage: Storage, thread_id: str, since: int) -> int:
    """The number up to which no states are shown. They are many and large, and those of earlier
    runs are in the thread's history; but whoever has some has all behind them to come."""
    last = await entry_at(storage, thread_id, since or await storage.last_seq(thread_id))
    if last is None:
        return 0
    run_id = last.run_id
    first = await first_of(storage, thread_id, run_id)
    resumed = await storage.read_log(thread_id, run_id=run_id, types=["run_resumed"], limit=1)
    event = decode(resumed[0].body) if resumed else None
    if isinstance(event, RunResumed) and event.paused_run:
        first = min(first, await first_of(storage, thread_id, event.paused_run))
    return first - 1


def followed(runs: Runs, thread: Thread, following: Following, dialect: ThreadProtocol) -> Batches:
    """What is followed of the thread, with the states that are shown."""

    async def load(event: Checkpoint) -> JsonObject | None:
        try:
            snapshot = await runs.state_behind(thread, event, is_shown=True)
        except NotFound:
            # This server does not have its agent, so nobody can read its states.
            return None
        return None if snapshot is None else state_view(snapshot)

    return with_states(following.batches(), dialect.wants, load)


# ── sockets ───────────────────────────────────────────────────────────────────────────────────────


class ProtocolSession(Conversation):
    """The subscriptions of one socket. With each new one the thread is read anew, for what that
    takes of the past.

    While nothing is subscribed to, or there is no such thread yet, a log is followed that never has
    an event.
    """

    def __init__(self, server: Served, runs: Runs, thread_id: str) -> None:
        super().__init__()
        self.idle = Following(runs.storage, UNBEGUN)
        self.runs = runs
        self.thread_id = thread_id
        self._server = server
        self._subscriptions: dict[str, Subscription] = {}
        self._is_changed = False
        self._is_idle = True

    def opened(self, connection: Connection) -> None:
        """The socket is open."""
        self._connection = connection

    async def subscribe(self, asked: StreamRequest) -> str:
        """Tell of these events from now on, and of those that there are. Returns the id of the
        subscription."""
        if len(self._subscriptions) == MOST_SUBSCRIPTIONS:
            raise InvalidRequest(
                f"This socket has {MOST_SUBSCRIPTIONS} subscriptions, and takes no more. "
                "End some, or open another."
            )
        id = self._server.connections.clock.new_id()
        storage = self.runs.storage
        if await storage.thread(self.thread_id) is None:
            subscription = asked.subscription(id)
        else:
            subscription = await subscription_to(asked, id, storage, self.thread_id)
        self._subscriptions[id] = subscription
        self._change()
        return id

    def unsubscribe(self, id: str) -> bool:
        """Tell no more of what is taken by this subscription alone. Returns False if there is no
        such one."""
        if self._subscriptions.pop(id, None) is None:
            return False
        self._change()
        return True

    def begun(self) -> None:
        """The thread may have begun."""
        if self._is_idle:
            self._change()

    async def batches(self) -> Batches:
        """What is told, until somebody ends the socket."""
        while self._goes_on:
            self._is_changed = False
            thread = await self.runs.storage.thread(self.thread_id)
            if self._is_changed:
                continue
            self._is_idle = thread is None or not self._subscriptions
            batches = self._idle() if thread is None or self._is_idle else self._events(thread)
            async with aclosing(batches):
                async for entries in batches:
                    yield entries
                    if self._is_changed:
                        break

    def _change(self) -> None:
        self._is_changed = True
        self._open.following.ring()

    def _idle(self) -> Batches:
        self._follow(self.idle)
        return self.idle.batches()

    def _events(self, thread: Thread) -> Batches:
        dialect = ThreadProtocol([*self._subscriptions.values()])
        following = Following(self.runs.storage, self.thread_id, types=dialect.types)
        self._follow(following)
        self._open.encoder = self._server.encoders.of(dialect, ws_text)
        return followed(self.runs, thread, following, dialect)

    def _follow(self, following: Following) -> None:
        """Follow this from here on. Whoever has stopped what was followed has stopped this too."""
        connection = self._open
        if connection.following.is_stopped:
            following.stop()
        connection.following = following


@dataclass(frozen=True, slots=True)
class ProtocolSpeech:
    """What is said on a socket beside the events: the answers to its client's commands. Those that
    do something are carried out as the `requests` that they stand for."""

    session: ProtocolSession
    requests: Requests
    asked: Asked
    keeps_open = True

    def greeting(self, connection: Connection) -> bytes | None:
        self.session.opened(connection)
        return None

    def heartbeat(self, now: datetime) -> Heartbeat | None:
        return None

    async def hear(self, connection: Connection, data: str | bytes) -> Said:
        command = _command_in(data)
        result = await self._subscribed(command)
        if result is not None:
            return Said(encode_json(success(command["id"], result)))
        path = COMMANDS.format(id=self.session.thread_id)
        status, body = await self.requests.post(path, command, None)
        if status >= 400:
            said = body.get("detail") if isinstance(body, dict) else None
            said = said or f"The command was refused: {status}."
            body = failure(command["id"], status, said)
        self.session.begun()
        return Said(encode_json(body), status)

    async def problem(self, error: Exception, heard: str | bytes | None) -> tuple[bytes, int]:
        status, body, _ = await document(error, self.asked)
        command = _heard(heard)
        answer = failure(command.get("id"), status, str(body["detail"]), method_of(command))
        return encode_json(answer), status

    async def _subscribed(self, command: JsonObject) -> JsonObject | None:
        """The result of a command about subscriptions; None for others."""
        params = command.get("params")
        match command["method"]:
            case "subscription.subscribe" | "subscription.reconnect":
                id = await self.session.subscribe(read_as(StreamRequest, params, PARAMS))
                return {"subscription_id": id}
            case "subscription.unsubscribe":
                given = params.get("subscription_id") if isinstance(params, dict) else None
                if not isinstance(given, str) or not self.session.unsubscribe(given):
                    raise NotFound("This socket has no such subscription.")
                return {}
        return None


def _command_in(data: str | bytes) -> JsonObject:
    """The command in what a client sent. Raises `NotUnderstood` for what is none."""
    if isinstance(data, bytes):
        raise NotUnderstood(InvalidRequest("This socket takes text, and no binary messages."))
    try:
        value: Json = read_json_text(data, "command")
    except HTTPException as error:
        raise NotUnderstood(error) from error
    if not isinstance(value, dict) or not isinstance(value.get("method"), str):
        raise NotUnderstood(InvalidRequest("A command is a JSON object with a 'method'."))
    if type(value.get("id")) is not int:
        raise NotUnderstood(InvalidRequest("A command has a whole number as its 'id'."))
    return value


def _heard(data: str | bytes | None) -> JsonObject:
    """The command that was heard; empty if it was none."""
    try:
        return {} if data is None else _command_in(data)
    except NotUnderstood:
        return {}
