"""Query sockets: a client asks, one query after the other, and hears what the agent does for each.
Nothing is lost with a connection: the answer is an execution's (`queries.py`)."""

from __future__ import annotations

import time
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from pydantic import Field, StrictBool, StrictInt, StrictStr, ValidationError
from starlette.exceptions import HTTPException

from assent.api.access.identity import Identity
from assent.api.context import Served
from assent.api.dialects.query import EXECUTION_ERROR, QUERY_TYPES, Query, notice
from assent.api.json_body import read_as, read_json_text
from assent.api.problems import EXPECTED, Asked, document
from assent.api.queries import CASE, begin
from assent.api.schemas import Body
from assent.api.streams.connections import Connection, Heartbeat
from assent.api.streams.encoder import ws_text
from assent.api.streams.speech import Conversation, NotUnderstood, Said
from assent.core.access import Right
from assent.core.errors import Forbidden, Gone, InvalidRequest, QueueFull, ThreadPaused
from assent.core.json import Json, JsonObject, encode_json
from assent.core.logs import QUERIES
from assent.core.named_ids import named_id
from assent.runs.follow import (
    EXECUTION_TYPES,
    Batches,
    Execution,
    Following,
    follow_execution,
)
from assent.runs.service import INSTEAD_OF_A_DECISION, Runs
from assent.storage.base import LogEntry

MAX_QUERY_CHARACTERS = 100_000
MAX_CASE_CHARACTERS = 200
MAX_ID = 64

MOST_WAITING = 4
"""The queries of a socket that wait for the one before them."""

LOOKS = 10
"""An idle socket looks so often whether it has been for too long."""


class QueryMessage(Body):
    """What a client asks. Under the same `query_id`, the same query is asked once."""

    query: Annotated[StrictStr, Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)]
    case_id: StrictInt | Annotated[StrictStr, Field(max_length=MAX_CASE_CHARACTERS)] | None = None
    stream_thinking: StrictBool = True
    query_id: Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID)] | None = None


def read_message(data: str | bytes) -> QueryMessage:
    """The query in what a client sent. Raises `NotUnderstood` for what is no JSON, and
    `RequestValidationError` for JSON that is no query."""
    if isinstance(data, bytes):
        raise NotUnderstood(InvalidRequest("This socket takes text, and no binary messages."))
    try:
        value = read_json_text(data, "message")
    except HTTPException as error:
        raise NotUnderstood(error) from error
    return read_as(QueryMessage, value, "message")


# ── the queries of a socket ───────────────────────────────────────────────────────────────────────


class QuerySession(Conversation):
    """The queries of one socket, on the `runs` that who asks may see. They are answered one after
    the other. What they begin has these `metadata`.

    While none is, `idle` is followed, a log that never has an event: so the socket still hears
    broadcasts, and ends with the server.
    """

    def __init__(
        self,
        server: Served,
        runs: Runs,
        identity: Identity,
        agent: str,
        asked: Asked,
        metadata: JsonObject,
    ) -> None:
        super().__init__()
        self.idle = Following(runs.storage, QUERIES, poll=server.idle_sockets / LOOKS)
        self._server = server
        self._runs = runs
        self._identity = identity
        self._by = identity.actor
        self._agent = agent
        self._asked = asked
        self._metadata = metadata
        self._waiting: deque[QueryMessage] = deque()
        self._own_thread = server.connections.clock.new_id()
        self._rested_at = 0.0

    def opened(self, connection: Connection) -> JsonObject:
        """The socket is open. The event that says so."""
        self._connection = connection
        id = connection.connection_id
        since = connection.since.timestamp()
        return {
            "type": "connection_established",
            "timestamp": since,
            "connection_id": id,
            "session_id": id,
            "agent_name": self._agent,
        }

    def ask(self, message: QueryMessage) -> None:
        """Have the query answered when its turn comes. Raises `QueueFull`."""
        if len(self._waiting) == MOST_WAITING:
            raise QueueFull(
                f"{MOST_WAITING} queries wait on this socket already. Ask again when the next one "
                "was answered, or open another socket."
            )
        self._waiting.append(message)
        self._open.following.ring()

    async def problem(self, error: Exception, about: JsonObject) -> tuple[JsonObject, int]:
        """The event that tells of an error which is of no execution, and its status."""
        sentence, status = await self._sentence(error)
        event = {
            "type": EXECUTION_ERROR,
            "timestamp": self._now().timestamp(),
            "session_id": self._open.connection_id,
            "agent_name": self._agent,
            "error": sentence,
            "metadata": about,
        }
        return event, status

    async def batches(self) -> Batches:
        """What happens on the socket, until it has been idle for too long or somebody ends it."""
        self._rested_at = time.monotonic()
        while self._goes_on:
            if self._waiting:
                batches = self._answered(self._waiting.popleft())
            elif self._is_idle:
                return
            else:
                batches = self._until_asked()
            async with aclosing(batches):
                async for entries in batches:
                    yield entries

    @property
    def _is_idle(self) -> bool:
        last = max(self._rested_at, self._open.heard_at)
        return time.monotonic() - last >= self._server.idle_sockets

    async def _until_asked(self) -> Batches:
        # What an operator said since the last events rang for what was followed then.
        yield ()
        async with aclosing(self.idle.batches()) as batches:
            async for entries in batches:
                yield entries
                if self._waiting or self._is_idle:
                    return

    # ── one query ─────────────────────────────────────────────────────────────────────────────────

    async def _answered(self, message: QueryMessage) -> Batches:
        """The events of the execution that answers the query."""
        query = self._query(message)
        try:
            async with aclosing(self._executed(query)) as batches:
                async for entries in batches:
                    yield entries
        except EXPECTED as error:
            sentence, _ = await self._sentence(error)
            yield (notice(query.problem(sentence, self._now())),)
        if self._goes_on:
            self._follow(self.idle)
            self._rested_at = time.monotonic()

    async def _executed(self, query: Query) -> Batches:
        received_at = self._now()
        await self._check_may()
        try:
            begun = await begin(self._runs, self._server.asking, self._by, query, self._metadata)
        except EXPECTED:
            yield (_received(query, received_at, joined=False),)
            raise
        run = begun.run
        query = replace(query, thread_id=run.thread_id)
        self._open.encoder = self._server.encoders.of(query, ws_text)
        yield (_received(query, received_at, joined=begun.joined),)

        storage = self._runs.storage
        await storage.check_cursor(run.thread_id, begun.first_seq - 1)
        types = QUERY_TYPES | EXECUTION_TYPES
        following = Following(storage, run.thread_id, begun.first_seq - 1, types=types)
        self._follow(following)
        execution = Execution(run.run_id)
        async with aclosing(follow_execution(following, execution)) as batches:
            async for entries in batches:
                yield entries
        if execution.ends_with is not None and execution.ends_with.type == "run_start":
            raise Gone("What the query waited for was given up: another run has its thread now.")

    async def _check_may(self) -> None:
        """Raise 401, or `Forbidden`, if whoever asks may not do so any more."""
        identity = await self._server.access.still(self._identity)
        if Right.RUN not in identity.rights:
            raise Forbidden(f"'{identity.owner.name}' may not run agents any more.")

    def _follow(self, following: Following) -> None:
        """Follow this from here on. Whoever has stopped what was followed has stopped this too."""
        connection = self._open
        if connection.following.is_stopped:
            following.stop()
        connection.following = following

    # ── its execution ─────────────────────────────────────────────────────────────────────────────

    def _query(self, message: QueryMessage) -> Query:
        thread_id = self._own_thread
        if message.case_id is not None:
            # A number and its digits are one case, since half of all clients confuse them.
            owner = [each for each in (self._by.tenant, self._by.name) if each is not None]
            thread_id = named_id("case", *owner, self._agent, str(message.case_id))
        return Query(
            session_id=self._open.connection_id,
            thread_id=thread_id,
            agent=self._agent,
            text=message.query,
            case_id=message.case_id,
            query_id=message.query_id,
            thinking=message.stream_thinking,
        )

    # ── what is said ──────────────────────────────────────────────────────────────────────────────

    def _now(self) -> datetime:
        return self._server.connections.clock.now()

    async def _sentence(self, error: Exception) -> tuple[str, int]:
        """What is wrong, and its status."""
        status, body, _ = await document(error, self._asked)
        sentence = str(body["detail"])
        if isinstance(error, ThreadPaused):
            # A query decides nothing, whatever else a message might say beside it.
            sentence = f"{sentence.removesuffix(INSTEAD_OF_A_DECISION)}, and ask again then."
        return sentence, status


def _received(query: Query, at: datetime, *, joined: bool) -> LogEntry:
    """The event that says that a query was taken, among those of its execution."""
    fields = {
        "input_data": query.asked,
        "metadata": {"joined": joined},
    }
    return notice(query.event("query_received", at, fields))


# ── the socket ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class QuerySpeech:
    """What is said on a query socket beside the events: a greeting, and what is wrong with what was
    asked. It stays open then."""

    session: QuerySession
    keeps_open = True

    def greeting(self, connection: Connection) -> bytes | None:
        return encode_json(self.session.opened(connection))

    def heartbeat(self, now: datetime) -> Heartbeat | None:
        return None

    async def hear(self, connection: Connection, data: str | bytes) -> Said:
        self.session.ask(read_message(data))
        return Said(None)

    async def problem(self, error: Exception, heard: str | bytes | None) -> tuple[bytes, int]:
        event, status = await self.session.problem(error, _about(heard))
        return encode_json(event), status


def _about(heard: str | bytes | None) -> JsonObject:
    """The query and the case in what was heard, as far as they can be read."""
    try:
        message: Json = read_json_text(heard, "message") if isinstance(heard, str) else None
    except HTTPException:
        message = None
    said = message if isinstance(message, dict) else {}
    return {name: _readable(name, said.get(name)) for name in ("query", CASE)}


def _readable(name: str, value: Json) -> Json:
    """The value of this field of a message; None if it is not right."""
    try:
        message = QueryMessage.model_validate({"query": "?", name: value})
    except ValidationError:
        return None
    return getattr(message, name)
