"""The server's operations, by what they are about. `aio_calls.py` is its twin."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime
from time import monotonic
from typing import Literal, Protocol, TypeVar

from assent.client import calls
from assent.client.calls import Call, Decisions, Page, Transport
from assent.client.values import (
    Agent,
    ApiKey,
    AuditRecord,
    AuditVerification,
    DecisionLink,
    EditPreview,
    EventPage,
    File,
    Grant,
    Health,
    Heard,
    MadeApiKey,
    Me,
    OneOutcome,
    OpenStream,
    Outcome,
    RevokedKeys,
    Run,
    RunResult,
    Schedule,
    ShownApproval,
    State,
    Thread,
    Told,
    Value,
    WrittenState,
)
from assent.core.clock import uuid7
from assent.core.decisions import Decision
from assent.core.json import Json, JsonObject
from assent.core.rows import UNFINISHED

T = TypeVar("T")
V = TypeVar("V", bound=Value)

WAIT_SECONDS = 30.0
"""One request waits so long for a run, so that a connection that is dead is noticed."""


class Asks(Protocol):
    """The way to the server."""

    def ask(self, call: Call[T]) -> T:
        """The result of the call."""
        ...

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
        """The events at the path, or of what the opening has begun."""
        ...


class Group:
    """Operations about one thing."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks

    def _all(self, page_at: Callable[[str | None], Call[Page[V]]]) -> Generator[V, None, None]:
        """The items of all pages."""
        cursor: str | None = None
        while True:
            page = self._asks.ask(page_at(cursor))
            yield from page.items
            if page.next is None:
                return
            cursor = page.next


class RunCalls(Group):
    """Runs: what happens between a message or a decision and the next end or pause."""

    def start(
        self,
        message: Json = None,
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        idempotency_key: str | None = None,
        **options: Json,
    ) -> Run:
        """Start a run, now or `after_seconds`, and do not wait for it."""
        body = calls.run_body(message, {**options, "thread_id": thread_id, "agent": agent})
        return self._asks.ask(calls.start_run(body, idempotency_key or uuid7()))

    def invoke(
        self,
        message: Json = None,
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        idempotency_key: str | None = None,
        **options: Json,
    ) -> RunResult:
        """Start a run, and wait until it has ended or somebody is asked."""
        run = self.start(
            message, thread_id=thread_id, agent=agent, idempotency_key=idempotency_key, **options
        )
        return self.wait(run.run_id)

    def stream(
        self,
        message: Json = None,
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        idempotency_key: str | None = None,
        **options: Json,
    ) -> Generator[Heard, None, None]:
        """Start a run; its events, exactly as they came, up to its last one."""
        body = calls.run_body(message, {**options, "thread_id": thread_id, "agent": agent})
        return self._asks.follow(opening=calls.stream_run(body, idempotency_key or uuid7()))

    def resume(
        self,
        thread_id: str,
        decisions: Decisions,
        *,
        digests: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Generator[Heard, None, None]:
        """Decide; the events of the decisions, and of the run if it goes on."""
        key = idempotency_key or uuid7()
        return self._asks.follow(opening=calls.stream_answer(thread_id, decisions, digests, key))

    def get(self, run_id: str) -> Run:
        """The run."""
        return self._asks.ask(calls.get_run(run_id))

    def list(
        self,
        *,
        thread_id: str | None = None,
        status: str | None = None,
        agent: str | None = None,
        owner: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Generator[Run, None, None]:
        """All runs that fit, newest first, asked for `limit` at a time. `since` and `until` are the
        times between which they were submitted."""
        wanted = calls.params_of(
            thread_id=thread_id,
            status=status,
            agent=agent,
            owner=owner,
            since=since,
            until=until,
            limit=limit,
        )
        return self._all(lambda cursor: calls.list_runs(calls.at(wanted, cursor)))

    def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        types: Sequence[str] | None = None,
        limit: int | None = None,
        before: int | Literal["end"] | None = None,
    ) -> EventPage:
        """A page of the run's events past `after`; with `before`, the newest below that number, or
        at the end."""
        return self._asks.ask(
            calls.get_run_events(run_id, after, calls.types_of(types), limit, before)
        )

    def wait(self, run_id: str, timeout: float | None = None) -> RunResult:
        """The result of the run, once it has ended or somebody is asked. After `timeout` seconds,
        the run as it is."""
        end = None if timeout is None else monotonic() + timeout
        while True:
            left = WAIT_SECONDS if end is None else max(0.0, end - monotonic())
            result = self._asks.ask(calls.wait_for_run(run_id, min(left, WAIT_SECONDS)))
            if result.status not in UNFINISHED or left < WAIT_SECONDS:
                return result

    def cancel(
        self, run_id: str, mode: Literal["interrupt", "rollback"] = "interrupt"
    ) -> tuple[Run, ...]:
        """Cancel the run; the run as it is then, which a tool may hold up."""
        return self._asks.ask(calls.cancel_run(run_id, mode))


class ThreadCalls(Group):
    """Threads: conversations, their states and their events."""

    def create(
        self,
        thread_id: str | None = None,
        *,
        metadata: JsonObject | None = None,
        if_exists: Literal["raise", "do_nothing"] = "raise",
    ) -> Thread:
        """Make a thread."""
        return self._asks.ask(calls.create_thread(thread_id, metadata, if_exists))

    def get(self, thread_id: str) -> Thread:
        """The thread, with its state and what it waits for."""
        return self._asks.ask(calls.get_thread(thread_id))

    def list(
        self,
        *,
        status: str | None = None,
        agent: str | None = None,
        q: str | None = None,
        sort: Literal["newest", "used"] = "newest",
        limit: int = 100,
    ) -> Generator[Thread, None, None]:
        """All threads that fit, without their states, asked for `limit` at a time. `q` are words of
        their titles, or the beginning of an id."""
        wanted = calls.params_of(status=status, agent=agent, q=q, sort=sort, limit=limit)
        return self._all(lambda cursor: calls.list_threads(calls.at(wanted, cursor)))

    def change(
        self, thread_id: str, metadata: JsonObject | None = None, *, title: str | None = None
    ) -> Thread:
        """Change these fields of its metadata, of which None takes one off, or its title."""
        return self._asks.ask(calls.change_thread(thread_id, metadata, title))

    def delete(self, thread_id: str) -> None:
        """Remove all of the thread but its audit rows."""
        return self._asks.ask(calls.delete_thread(thread_id))

    def state(
        self, thread_id: str, checkpoint_id: str | None = None, *, subgraphs: bool = False
    ) -> State:
        """The state at the head of the thread, or at a checkpoint."""
        return self._asks.ask(calls.get_state(thread_id, checkpoint_id, subgraphs))

    def write_state(
        self,
        thread_id: str,
        values: JsonObject | None,
        *,
        as_node: str | None = None,
        checkpoint_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> WrittenState:
        """Write fields of the graph's input to the thread's state."""
        body = {"values": values, "as_node": as_node, "checkpoint_id": checkpoint_id}
        key = idempotency_key or uuid7()
        return self._asks.ask(calls.write_state(thread_id, body, key))

    def history(
        self, thread_id: str, *, limit: int = 10, before: str | None = None
    ) -> tuple[State, ...]:
        """States of the thread, newest first, from `before` this checkpoint on."""
        return self._asks.ask(calls.list_states(thread_id, limit, before))

    def fork(
        self,
        thread_id: str,
        *,
        checkpoint_id: str | None = None,
        to: str | None = None,
        metadata: JsonObject | None = None,
        idempotency_key: str | None = None,
    ) -> Thread:
        """A new thread, with the id `to` if it is given, that starts with this one's state."""
        body = {"checkpoint_id": checkpoint_id, "thread_id": to, "metadata": metadata or {}}
        key = idempotency_key or uuid7()
        return self._asks.ask(calls.fork_thread(thread_id, body, key))

    def cancel(
        self, thread_id: str, mode: Literal["interrupt", "rollback"] = "interrupt"
    ) -> tuple[Run, ...]:
        """Cancel all that runs or waits its turn there; those runs."""
        return self._asks.ask(calls.cancel_thread(thread_id, mode))

    def resume(
        self,
        thread_id: str,
        decisions: Decisions,
        *,
        digests: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Decide what the thread waits for: by ids, or one decision if one is pending. The
        `digests` are those that were shown, by the same ids."""
        key = idempotency_key or uuid7()
        return self._asks.ask(calls.resume_thread(thread_id, decisions, digests, key))

    def events(
        self,
        thread_id: str,
        *,
        after: int = 0,
        types: Sequence[str] | None = None,
        limit: int | None = None,
        timeout: float | None = None,
        before: int | Literal["end"] | None = None,
    ) -> EventPage:
        """A page of the thread's events past `after`. With a `timeout`, an empty page comes only
        after so many seconds. With `before`, the newest below that number, or at the end."""
        path = calls.log_path(thread_id=thread_id)
        call = calls.get_events(path, after, calls.types_of(types), limit, timeout, before)
        return self._asks.ask(call)


class ApprovalCalls(Group):
    """Approvals: what people are asked, and their decisions."""

    def list(
        self,
        *,
        status: str | None = None,
        thread_id: str | None = None,
        agent: str | None = None,
        tool: str | None = None,
        role: str | None = None,
        assignee: str | None = None,
        risk: str | None = None,
        mine: bool = False,
        older_than: str | None = None,
        sort: Literal["oldest", "newest", "expiring"] = "oldest",
        limit: int = 100,
    ) -> Generator[ShownApproval, None, None]:
        """All approvals that fit, asked for `limit` at a time; `mine` are those that you may decide
        now. `expiring` sorts by what expires next."""
        wanted = calls.params_of(
            status=status,
            thread_id=thread_id,
            agent=agent,
            tool=tool,
            role=role,
            assignee=assignee,
            risk=risk,
            mine=mine or None,
            older_than=older_than,
            sort=sort,
            limit=limit,
        )
        return self._all(lambda cursor: calls.list_approvals(calls.at(wanted, cursor)))

    def get(self, approval_id: str) -> ShownApproval:
        """The approval."""
        return self._asks.ask(calls.get_approval(approval_id))

    def preview(self, approval_id: str, args: JsonObject) -> EditPreview:
        """What an edit to these arguments would mean. Nothing is changed."""
        return self._asks.ask(calls.preview_edit(approval_id, args))

    def decide(
        self, approval: ShownApproval, decision: Decision, *, key: str | None = None
    ) -> Outcome:
        """Decide exactly what was shown. If something else is asked by now, nothing is decided:
        `Superseded`. It is decided once, however often it must be sent."""
        return self._asks.ask(calls.decide(approval, decision, key or uuid7()))

    def decide_several(
        self,
        decisions: Sequence[tuple[ShownApproval, Decision]],
        *,
        key: str | None = None,
    ) -> dict[str, OneOutcome]:
        """Decide several of a low risk, each as it was shown; each one's outcome by its id."""
        return self._asks.ask(calls.decide_several(decisions, key or uuid7()))

    def withdraw(self, approval_id: str) -> ShownApproval:
        """Withdraw your vote."""
        return self._asks.ask(calls.withdraw(approval_id))

    def delegate(
        self, approval_id: str, *, to: str | None = None, role: str | None = None
    ) -> ShownApproval:
        """Delegate your voting right to a person or a role."""
        return self._asks.ask(calls.delegate(approval_id, to, role))

    def comment(self, approval_id: str, text: str) -> ShownApproval:
        """Comment, and decide nothing."""
        return self._asks.ask(calls.comment(approval_id, text))

    def link(
        self,
        approval_id: str,
        recipient: str,
        *,
        decision: Literal["approve", "reject", "respond"] | None = None,
        expires_in: float | None = None,
    ) -> DecisionLink:
        """A link by which the recipient can decide, for so many seconds."""
        return self._asks.ask(calls.link(approval_id, recipient, decision, expires_in))


class ScheduleCalls(Group):
    """Schedules: runs at set times."""

    def create(self, cron: str, message: Json = None, **options: Json) -> Schedule:
        """Make a schedule."""
        return self._asks.ask(calls.create_schedule(cron, message, options))

    def preview(self, cron: str, *, timezone: str = "UTC", count: int = 5) -> tuple[datetime, ...]:
        """The next times of a cron expression, in its time zone. Nothing is scheduled."""
        return self._asks.ask(calls.preview_schedule(cron, timezone, count))

    def get(self, schedule_id: str) -> Schedule:
        """The schedule."""
        return self._asks.ask(calls.get_schedule(schedule_id))

    def list(self, *, limit: int = 100) -> Generator[Schedule, None, None]:
        """All schedules, newest first, asked for `limit` at a time."""
        return self._all(lambda cursor: calls.list_schedules(limit, cursor))

    def change(self, schedule_id: str, **changes: Json) -> Schedule:
        """Change these fields."""
        return self._asks.ask(calls.change_schedule(schedule_id, changes))

    def delete(self, schedule_id: str) -> None:
        """Remove the schedule; its runs stay."""
        return self._asks.ask(calls.delete_schedule(schedule_id))

    def run(self, schedule_id: str, *, idempotency_key: str | None = None) -> Run:
        """Run it now, in addition to its times."""
        return self._asks.ask(calls.run_schedule(schedule_id, idempotency_key or uuid7()))


class GrantCalls(Group):
    """Standing grants: what is approved in advance."""

    def give(
        self,
        tool: str,
        *,
        bounds: Mapping[str, JsonObject],
        until: datetime,
        uses: int,
        thread_id: str | None = None,
        user: str | None = None,
        agent: str | None = None,
    ) -> Grant:
        """Approve calls of the tool in advance, within bounds."""
        scope = {"thread_id": thread_id, "user": user, "agent": agent}
        return self._asks.ask(calls.give_grant(tool, bounds, until, uses, scope))

    def get(self, grant_id: str) -> Grant:
        """The grant."""
        return self._asks.ask(calls.get_grant(grant_id))

    def list(self, *, limit: int = 100) -> Generator[Grant, None, None]:
        """All grants, asked for `limit` at a time."""
        return self._all(lambda cursor: calls.list_grants(limit, cursor))

    def revoke(self, grant_id: str) -> Grant:
        """End the grant."""
        return self._asks.ask(calls.revoke_grant(grant_id))


class KeyCalls(Group):
    """API keys: one's own, and for an admin those of everybody in the tenant."""

    def create(
        self,
        roles: Sequence[str],
        *,
        person: str | None = None,
        expires_at: datetime | None = None,
        note: str | None = None,
    ) -> MadeApiKey:
        """Make a key with these roles alone, for oneself or another person."""
        fields = {"person": person, "expires_at": expires_at, "note": note}
        return self._asks.ask(calls.make_key(roles, fields))

    def list(self, *, limit: int = 100) -> Generator[ApiKey, None, None]:
        """All keys, also those that are over, asked for `limit` at a time."""
        return self._all(lambda cursor: calls.list_keys(limit, cursor))

    def revoke(self, key_id: str) -> ApiKey:
        """End the key, and the sessions that began with it."""
        return self._asks.ask(calls.revoke_key(key_id))

    def revoke_all(self, person: str) -> RevokedKeys:
        """End every key and every session of the person."""
        return self._asks.ask(calls.revoke_keys(person))


class AuditCalls(Group):
    """The audit chain: who did what, and when."""

    def list(
        self,
        *,
        thread_id: str | None = None,
        approval_id: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        sort: Literal["oldest", "newest"] = "oldest",
        limit: int = 100,
    ) -> Generator[AuditRecord, None, None]:
        """All records that fit, asked for `limit` at a time."""
        wanted = calls.params_of(
            thread_id=thread_id,
            approval_id=approval_id,
            actor=actor,
            action=action,
            since=since,
            until=until,
            sort=sort,
            limit=limit,
        )
        return self._all(lambda cursor: calls.list_audit(calls.at(wanted, cursor)))

    def head(self) -> AuditRecord | None:
        """The last record's number, mac, key and time; None for an empty chain."""
        return self._asks.ask(calls.audit_head())

    def verify(self, *, head: str | None = None) -> AuditVerification:
        """Check all of the chain; `head` is one that was kept elsewhere, as `12:ab34…`."""
        return self._asks.ask(calls.verify_audit(head))


class FileCalls(Group):
    """Files that messages may name."""

    def upload(self, data: bytes, name: str = "") -> File:
        """Send a file."""
        return self._asks.ask(calls.upload(data, name))

    def get(self, file_id: str) -> File:
        """What is known of the file."""
        return self._asks.ask(calls.get_file(file_id))

    def content(self, file_id: str) -> bytes:
        """The file."""
        return self._asks.ask(calls.get_content(file_id))

    def delete(self, file_id: str) -> None:
        """Remove the file."""
        return self._asks.ask(calls.delete_file(file_id))


class FeedCalls(Group):
    """Feeds: begin and end of runs and approvals, for dashboards. `Client.watch` follows them."""

    def events(
        self,
        *,
        agent: str | None = None,
        user: str | None = None,
        approvals: bool = False,
        after: int = 0,
        types: Sequence[str] | None = None,
        limit: int | None = None,
        timeout: float | None = None,
        before: int | Literal["end"] | None = None,
    ) -> EventPage:
        """A page of the feed of an agent, of a user, or of all approvals, past `after`. With a
        `timeout`, an empty page comes only after so many seconds. With `before`, the newest below
        that number, or at the end."""
        path = calls.log_path(agent=agent, user=user, approvals=approvals)
        call = calls.get_events(path, after, calls.types_of(types), limit, timeout, before)
        return self._asks.ask(call)


class ServerCalls(Group):
    """The server itself."""

    def agents(self) -> tuple[Agent, ...]:
        """The agents that it runs."""
        return self._asks.ask(calls.list_agents())

    def me(self) -> Me:
        """Whoever asks, and what they may do."""
        return self._asks.ask(calls.who_am_i())

    def health(self) -> Health:
        """The state of its process."""
        return self._asks.ask(calls.health())

    def ready(self) -> Health:
        """The same, if it can store what it is sent. Raises `Unavailable` while it cannot."""
        return self._asks.ask(calls.ready())

    def connections(
        self,
        *,
        transport: Transport | None = None,
        thread_id: str | None = None,
        limit: int = 100,
    ) -> Generator[OpenStream, None, None]:
        """The streams that are open in its process, oldest first, asked for `limit` at a time."""
        wanted = calls.params_of(transport=transport, thread_id=thread_id, limit=limit)
        return self._all(lambda cursor: calls.list_connections(calls.at(wanted, cursor)))

    def broadcast(
        self,
        message: str,
        *,
        data: Json = None,
        thread_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Told:
        """Tell something to everybody who follows anything now; with a `thread_id`, to those who
        follow that thread, as a numbered event of its log."""
        key = idempotency_key or uuid7()
        return self._asks.ask(calls.broadcast(message, data, thread_id, key))
