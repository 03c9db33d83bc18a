"""The SQL of the storage's longer queries, and the conditions of its lists.

Each query is answered from an index, however many rows there are. The text below it names its
parameters in order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import orjson

from assent.core.access import Owner
from assent.core.clock import time_text
from assent.storage.sqlite.tables import Column, unerased


def _not_tampered(table: str) -> str:
    """The condition that leaves out the rows of threads that were tampered with."""
    return f"""
        NOT EXISTS (
            SELECT 1 FROM threads
            WHERE threads.thread_id = {table}.thread_id AND tampered IS NOT NULL
        )
    """


# ── runs and workers ──

HAS_COME = "(status != 'pending' OR coalesce(due_at, '') <= ?)"
"""Now. A run that has started stays so, also if the clock is set to before its time."""

RUNS_SINCE = "number >= (SELECT min(+number) FROM runs WHERE created_at >= ?)"
RUNS_UNTIL = "number <= (SELECT max(+number) FROM runs WHERE created_at <= ?)"
AUDIT_SINCE = "number >= (SELECT min(+number) FROM audit WHERE at >= ?)"
AUDIT_UNTIL = "number <= (SELECT max(+number) FROM audit WHERE at <= ?)"
"""Without these, a list would go through all rows behind the last that fits, or before the first.
By the plus SQLite finds them in the index of the times, and reads no row for it."""

DUE_RUNS = """
    WHERE number IN (
        WITH asked (now, agents, most) AS (VALUES (?, ?, ?))
        SELECT ready.number FROM json_each((SELECT agents FROM asked)) AS agents
        CROSS JOIN ready_runs AS ready ON ready.number IN (
            SELECT * FROM (
                SELECT number FROM ready_runs AS first INDEXED BY ready_runs_now
                WHERE agent = agents.value AND due_at IS NULL AND NOT EXISTS (
                    SELECT 1 FROM ready_runs AS earlier WHERE earlier.thread_id = first.thread_id
                    AND earlier.due_at <= (SELECT now FROM asked)
                )
                ORDER BY priority DESC, number LIMIT (SELECT most FROM asked)
            )
            UNION ALL SELECT * FROM (
                SELECT number FROM ready_runs INDEXED BY ready_runs_later
                WHERE agent = agents.value AND due_at <= (SELECT now FROM asked)
                ORDER BY due_at LIMIT 1000
            )
        )
        ORDER BY priority DESC, ready.number LIMIT (SELECT most FROM asked)
    )
    ORDER BY priority DESC, number
"""
"""Now, agents, limit. Of each thread, the run that it is busy with already, or else its first
pending one. If more than a thousand of an agent have come to their time, those of the earliest
times go first, whatever their priority."""

ORPHANED_RUNS = """
    WHERE status IN ('running', 'cancelling') AND agent IN (SELECT value FROM json_each(?))
    AND (worker IS NULL OR worker NOT IN (SELECT worker FROM workers))
    ORDER BY number LIMIT ?
"""
"""Agents, limit."""

UNFINISHED_RUNS = """
    SELECT agent, sum(runs) FROM (
        SELECT name AS agent, length AS runs FROM queue_lengths
        WHERE kind = 'agent' AND length > 0
        UNION ALL SELECT agent, 1 FROM runs WHERE status IN ('running', 'cancelling')
    )
    GROUP BY agent
"""

RUNS_BY_STATUS = """
    SELECT 'pending', coalesce(sum(length), 0) FROM queue_lengths WHERE kind = 'all' AND name = ''
    UNION ALL SELECT 'running', count(*) FROM runs WHERE status = 'running'
    UNION ALL SELECT 'cancelling', count(*) FROM runs WHERE status = 'cancelling'
"""

PENDING_APPROVALS = """
    SELECT
        (SELECT count(*) FROM approvals WHERE status = 'pending') - (
            SELECT count(*) FROM approvals
            WHERE thread_id IN (SELECT thread_id FROM erased_rows) AND status = 'pending'
        ),
        (
            SELECT requested_at FROM approvals
            WHERE status = 'pending' AND thread_id NOT IN (SELECT thread_id FROM erased_rows)
            ORDER BY requested_at, approval_id LIMIT 1
        )
"""
"""How many there are, and since when the oldest waits. The first count is of an index alone."""

HEARTBEAT = """
    INSERT INTO workers VALUES (?, ?, 1)
    ON CONFLICT (worker) DO UPDATE SET heartbeats = heartbeats + 1
"""
"""Worker, agents as JSON."""

RETIRE = "DELETE FROM workers WHERE worker = ?"
RETIRE_SILENT = f"{RETIRE} AND heartbeats = ?"

USAGE = """
    SELECT name, sum(amount) FROM (
        SELECT each.key AS name, each.value AS amount
        FROM runs, json_each(iif(json_valid(usage), usage, '{{}}')) AS each {}
        UNION ALL SELECT name, amount FROM past_usage {}
    )
    GROUP BY name
"""
"""The conditions on runs, of which `IS_NUMBER` is one, and on `past_usage` go into it. For an
agent, the runs of erased threads that are still in the file count too: their usage is not in
`past_usage` yet. One that is not valid JSON, or not a number, was not written by Assent, and counts
as nothing."""

IS_NUMBER = "each.type IN ('integer', 'real')"

IN_PAST = "created >= substr(?, 1, 15)"
"""The time from which on runs in `past_usage` were created."""


QUEUE_LENGTHS = """
    SELECT kind, length FROM queue_lengths
    WHERE kind = 'thread' AND name = ? OR kind = 'all' AND name = ''
"""
"""Thread. The length of its queue, and that of all queues."""

HOLDING = "SELECT amount FROM holdings WHERE tenant = ? AND owner = ? AND kind = ?"
"""Tenant, owner, kind. What an owner has, or with an empty one all of the tenant."""


# ── the event log ──

PIECES = frozenset({"token", "reasoning", "tool_call_delta"})
"""The pieces of messages, which the indexes of events leave out."""

_NO_PIECE = "type NOT IN ('token', 'reasoning', 'tool_call_delta')"

_BEHIND = """
    max(:after, ifnull((SELECT removed FROM log_heads WHERE thread_id = :thread_id), 0))
"""
"""The number behind which a page begins: events up to `removed` may still be in the file."""

_END = (1 << 63) - 1
"""No event has a higher number."""

_FORWARD = {"range": f"seq > {_BEHIND}", "last": str(_END), "order": "seq"}
_BACK = {
    "range": f"seq > {_BEHIND} AND seq < :before",
    "last": ":before - 1",
    "order": "seq DESC",
}
"""The two ways to read a log: on behind a number, or back from one."""

_WHOLE_LOG = """
    SELECT seq, type, run_id, body FROM events
    WHERE thread_id = :thread_id AND {range}
    AND (:types IS NULL OR type IN (SELECT value FROM json_each(:types)))
    ORDER BY {order} LIMIT :limit
"""

_OF_TYPE = f"""
    SELECT * FROM (
        SELECT seq FROM events INDEXED BY events_by_type
        WHERE thread_id = :thread_id AND type = :{{type}} AND {{range}} AND {_NO_PIECE}
        ORDER BY {{order}} LIMIT :limit
    )
"""

_OF_TYPES = """
    SELECT seq, type, run_id, body FROM events
    WHERE thread_id = :thread_id AND seq IN ({each} ORDER BY {order} LIMIT :limit)
    ORDER BY {order}
"""

_OF_RUN = f"""
    WITH of_run AS (
        SELECT seq, type FROM events INDEXED BY events_by_run
        WHERE thread_id = :thread_id AND run_id = :run_id AND {_NO_PIECE}
    )
    SELECT seq, type, run_id, body FROM events
    WHERE thread_id = :thread_id AND run_id = :run_id
    AND seq > max({_BEHIND}, ifnull((
        SELECT min(seq) - 1 FROM of_run HAVING sum(type IN ('run_start', 'run_resumed'))
    ), 0))
    AND seq <= min({{last}}, ifnull((
        SELECT max(seq) FROM of_run
        HAVING sum(type IN ('done', 'error', 'run_paused', 'run_cancelled'))
    ), {_END}))
    AND (:types IS NULL OR type IN (SELECT value FROM json_each(:types)))
    ORDER BY {{order}} LIMIT :limit
"""
"""A run's pieces are found between its other events: none is before its start, nor behind its end.
Where the start was removed, the run is at the beginning of the log anyway."""

_OF_RUN_AND_TYPES = f"""
    SELECT seq, type, run_id, body FROM events
    WHERE thread_id = :thread_id AND seq IN (
        SELECT seq FROM events INDEXED BY events_by_run
        WHERE thread_id = :thread_id AND run_id = :run_id AND {{range}}
        AND type IN (SELECT value FROM json_each(:types)) AND {_NO_PIECE}
        ORDER BY {{order}} LIMIT :limit
    )
    ORDER BY {{order}}
"""


def log_page(types: Collection[str] | None, run_id: str | None, *, back: bool = False) -> str:
    """The query for a page of a thread's log, of these types and this run only, if given: the first
    events behind `after`, or, going `back`, the last before `before`, newest first. Its parameters
    are `log_parameters`."""
    way = _BACK if back else _FORWARD
    with_pieces = types is None or not PIECES.isdisjoint(types)
    if run_id is not None:
        return (_OF_RUN if with_pieces else _OF_RUN_AND_TYPES).format(**way)
    if types is None or with_pieces:
        return _WHOLE_LOG.format(**way)
    # Of each type the first ones, so that no more is read than the page may need.
    each = (_OF_TYPE.format(type=f"type{number}", **way) for number in range(len(types)))
    some = " UNION ALL ".join(each) or "SELECT 0 AS seq WHERE false"
    return _OF_TYPES.format(each=some, **way)


_OF_SEEN_THREAD = """
    EXISTS (
        SELECT 1 FROM threads AS own WHERE own.thread_id = :thread_id AND own.tenant IS :tenant
        AND (:owner IS NULL OR own.owner = :owner)
        AND own.thread_id NOT IN (SELECT thread_id FROM erased_rows)
    )
"""
"""The condition that the thread of a log is shown: it is looked at once in a query."""


def of_seen_thread(sql: str) -> str:
    """The query of a log, of which nothing is read unless its thread is shown. Its other parameters
    are `thread_id`, `tenant` and `owner`, None for all of the tenant."""
    return sql.replace("WHERE thread_id = ", f"WHERE {_OF_SEEN_THREAD} AND thread_id = ")


def log_parameters(
    thread_id: str,
    after: int,
    limit: int,
    types: Collection[str] | None,
    run_id: str | None,
    before: int | None = None,
) -> dict[str, str | int | None]:
    """The parameters of `log_page`."""
    named = {f"type{number}": type_ for number, type_ in enumerate(types or ())}
    wanted = None if types is None else parameter(types)
    return {
        "thread_id": thread_id,
        "after": after,
        "before": _END if before is None else before,
        "limit": limit,
        "run_id": run_id,
        "types": wanted,
        **named,
    }


LOG_HEAD = "SELECT seq, removed FROM log_heads WHERE thread_id = ?"
"""Thread."""

NEWEST_EVENT = """
    SELECT seq, type, run_id, body FROM events WHERE thread_id = :thread_id AND +run_id = :run_id
    ORDER BY seq DESC LIMIT 1
"""
"""Read from the log's end, where the events of a run that has not ended are; so no index on the
runs of events is used."""


# ── timers ──

DUE_TIMERS = f"""
    WHERE due_at <= ? AND {_not_tampered("timers")} ORDER BY due_at, timer_id LIMIT ?
"""
"""Now, limit."""

NEXT_DUE = """
    SELECT min(due) FROM (
        SELECT (SELECT min(due_at) FROM timers WHERE due_at > ?) AS due
        UNION ALL SELECT (
            SELECT min(due_at) FROM runs INDEXED BY runs_due
            WHERE status = 'pending' AND due_at > ?
        )
    )
"""
"""The time after which to look, twice."""


# ── grants ──

OPEN_GRANTS = """
    WHERE agent = ? AND tool IN (SELECT value FROM json_each(?))
    AND revoked_at IS NULL AND "until" > ? AND used < uses AND +tenant IS ?
    ORDER BY given_at, grant_id
"""
"""Agent, tools as JSON, now, tenant."""


# ── uploads ──

USES_OF_THREAD = "WHERE thread_id = ?"
LINKS_OF_THREAD = "WHERE thread_id = ?"
"""Thread."""

HAS_FILE_USES = "SELECT EXISTS (SELECT 1 FROM file_uses WHERE file_id > '')"

SIZE_OF_FILES = "SELECT coalesce(sum(size), 0) FROM files"

KNOWN_FILES = """
    SELECT file_id FROM files WHERE file_id IN (SELECT value FROM json_each(?))
"""
"""The ids of files as JSON."""

_UNUSED = "NOT EXISTS (SELECT 1 FROM file_uses WHERE file_uses.file_id = files.file_id)"
"""The uses of erased threads count as long as they are in the file."""

UNUSED_FILES = f"""
    SELECT file_id FROM files
    WHERE thread_id = '' AND (created_at < ? OR version > 1) AND {_UNUSED}
    ORDER BY created_at LIMIT ?
"""
"""The time before which they were sent, limit. Those that a thread has referred to have another
version than the first, and do not wait for it."""

REMOVE_FILE = f"DELETE FROM files WHERE file_id = ? AND {_UNUSED}"
"""File."""


# ── notifications ──

_NOT_TAMPERED = _not_tampered("notifications")

DUE_NOTIFICATIONS = f"""
    WHERE endpoint = ? AND status = 'pending' AND next_at <= ? AND {_NOT_TAMPERED}
    ORDER BY next_at, notification_id LIMIT ?
"""
"""Endpoint, now, limit."""

NEXT_NOTIFICATION = f"""
    SELECT next_at FROM {unerased("notifications")}
    WHERE endpoint = ? AND status = 'pending' AND {_NOT_TAMPERED}
    ORDER BY next_at, notification_id LIMIT 1
"""
"""Endpoint."""


# ── retention ──

_IDLE = """
    +threads.status IN ('idle', 'error') AND threads.tampered IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM runs AS own WHERE own.thread_id = threads.thread_id
        AND own.status IN ('pending', 'running', 'cancelling')
    )
    AND NOT EXISTS (
        SELECT 1 FROM approvals
        WHERE approvals.thread_id = threads.thread_id AND +approvals.status = 'pending'
    )
"""
"""The `+` keeps SQLite from going through all that have a status, instead of those of the thread.
"""

_IN_NO_SCHEDULE = """
    NOT EXISTS (SELECT 1 FROM schedules WHERE schedules.thread_id = threads.thread_id)
"""

IDLE_THREAD = f"SELECT 1 FROM threads WHERE thread_id = ? AND {_IDLE} AND {_IN_NO_SCHEDULE}"
"""Thread."""

_NOT_ANSWERED = """
    NOT EXISTS (SELECT 1 FROM answers WHERE answers.thread_id = threads.thread_id)
"""

SETTLED_THREAD = f"""
    SELECT 1 FROM threads WHERE thread_id = ? AND {_NOT_ANSWERED}
    AND NOT EXISTS (
        SELECT 1 FROM notifications
        WHERE notifications.thread_id = threads.thread_id AND +notifications.status = 'pending'
    )
"""
"""Thread."""

FIRST_RECENT_RUN = """
    SELECT number FROM runs WHERE created_at >= ? AND created_at <= ? ORDER BY number LIMIT 1
"""
"""The time from which on a run is recent, and now: times that are yet to come are wrong. Whatever
was submitted after that run is more recent still, whatever its time says."""

IDLE_SINCE = f"""
    updated_at < ? AND {_IDLE} AND {_IN_NO_SCHEDULE}
    AND {_NOT_ANSWERED}
    AND NOT EXISTS (
        SELECT 1 FROM runs AS own WHERE own.thread_id = threads.thread_id
        AND (own.created_at >= ? OR own.ended_at >= ? OR own.number > ?)
    )
"""
"""The time since when, three times, and the number of the first recent run."""

_IS_OLD = f"""
    runs.ended_at < ? AND +runs.number < ? AND runs.run_id IS NOT threads.run_id AND {_IDLE}
"""

OLD_RUNS = f"""
    SELECT runs.ended_at, runs.run_id FROM runs INDEXED BY runs_by_end
    CROSS JOIN threads ON threads.thread_id = runs.thread_id
    WHERE {_IS_OLD} AND (runs.ended_at, runs.run_id) > (?, ?)
    ORDER BY runs.ended_at, runs.run_id LIMIT ?
"""
"""The time before which they ended, the number of the first recent run, the `ended_at` and `run_id`
behind which to go on, limit."""

STILL_OLD_RUNS = f"""
    SELECT runs.run_id, runs.thread_id FROM json_each(?)
    CROSS JOIN runs ON runs.run_id = json_each.value
    CROSS JOIN threads ON threads.thread_id = runs.thread_id
    WHERE {_IS_OLD}
"""
"""The ids of the runs as JSON, and then the first two as for `OLD_RUNS`."""

REMOVE_APPROVALS_OF_RUN = """
    DELETE FROM approvals WHERE approval_id IN (
        SELECT approval_id FROM approvals WHERE run_id = ? AND kind != 'budget' LIMIT ?
    )
"""
"""Run, limit. What a person granted to a budget goes on counting with what was used."""

REMOVE_EFFECTS_OF_RUN = """
    DELETE FROM effects WHERE number IN (
        SELECT number FROM effects WHERE thread_id = ? AND run_id = ? LIMIT ?
    )
"""
"""Thread, run, limit."""

REMOVE_RUN = "DELETE FROM runs WHERE run_id = ?"

REMOVE_GRANTS = """
    DELETE FROM grants WHERE grant_id IN (SELECT grant_id FROM grants WHERE "until" < ? LIMIT ?)
"""
"""The time at which they were over, limit."""

REMOVE_LINKS = """
    DELETE FROM links WHERE link_id IN (SELECT link_id FROM links WHERE expires_at < ? LIMIT ?)
"""
"""The time at which they had expired, limit."""

REMOVE_SESSIONS = """
    DELETE FROM sessions
    WHERE session_id IN (SELECT session_id FROM sessions WHERE expires_at < ? LIMIT ?)
"""
REMOVE_TICKETS = """
    DELETE FROM tickets
    WHERE ticket_id IN (SELECT ticket_id FROM tickets WHERE expires_at < ? LIMIT ?)
"""
"""The time at which they had expired, limit."""

JOIN_PAST_USAGE = """
    INSERT INTO past_usage
    SELECT thread_id, agent, '', name, sum(amount) FROM past_usage
    WHERE created > '' AND created < substr(?, 1, 15) GROUP BY thread_id, agent, name
    ON CONFLICT DO UPDATE SET amount = amount + excluded.amount
"""
FORGET_PAST_USAGE = "DELETE FROM past_usage WHERE created > '' AND created < substr(?, 1, 15)"
"""One after the other. The time before which the runs were created."""

REMOVE_NOTIFICATIONS = """
    DELETE FROM notifications WHERE notification_id IN (
        SELECT notification_id FROM notifications WHERE status = ? AND created_at < ?
        AND endpoint NOT IN (SELECT value FROM json_each(?))
        AND NOT EXISTS (
            SELECT 1 FROM approvals WHERE approvals.approval_id = notifications.approval_id
            AND approvals.status = 'pending' AND notifications.status = 'delivered'
        )
        ORDER BY created_at, notification_id LIMIT ?
    )
"""
"""Status, the time before which they were made, endpoints as JSON, limit. One that was delivered is
kept as long as its approval is pending: it may say where the message is."""

REMOVE_ANSWERS = """
    DELETE FROM answers WHERE answer_id IN (
        SELECT answer_id FROM answers WHERE created_at < ? LIMIT ?
    )
"""
"""The time before which they were given, limit."""

OLD_LOGS = """
    SELECT oldest, thread_id FROM log_heads
    WHERE oldest < ? AND (oldest, thread_id) > (?, ?) AND thread_id >= ?
    ORDER BY oldest, thread_id LIMIT 100
"""
"""The time (in milliseconds) before which events are old, and the `oldest` and `thread_id` behind
which to go on; and the id from which on logs are looked at."""

KEPT_RUNS = """
    SELECT run_id FROM runs
    WHERE thread_id = ? AND status IN ('pending', 'running', 'cancelling')
    UNION
    SELECT run_id FROM approvals WHERE thread_id = ? AND +status = 'pending'
"""
"""Thread, twice. The runs whose events are kept."""


# ── the conditions of lists ──


class Where:
    """The WHERE clause of a query, and its parameters.

    Everything that a list can be narrowed by is optional, so a condition on None is left out.
    """

    def __init__(self, **equal: str | None) -> None:
        self.parameters: list[Any] = []
        self._conditions: list[str] = []
        for column, value in equal.items():
            self.add(f"{column} = ?", value)

    def add(self, condition: str, *values: object) -> None:
        """Add a condition on these values. A time and a collection of strings are passed in the
        form in which the tables have them."""
        if None not in values:
            self._conditions.append(condition)
            self.parameters += map(parameter, values)

    def require(self, condition: str, *columns: Column) -> None:
        """Add a condition on these columns, also where one is None."""
        self._conditions.append(condition)
        self.parameters += columns

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self._conditions)}" if self._conditions else ""


def owner_where(owner: Owner | None) -> Where:
    """The condition on the rows of one person."""
    where = Where()
    if owner is not None:
        where.require("tenant IS ?", owner.tenant)
        where.add("person = ?", owner.name)
    return where


def runs_where(
    thread_id: str | None, status: Collection[str] | None, due_by: datetime | None
) -> Where:
    """The conditions of a list of runs. An index has those of one status in order, and those of
    several have to be sorted."""
    if status is not None and len(status) == 1:
        where = Where(thread_id=thread_id, status=next(iter(status)))
    elif status is not None and thread_id is not None:
        # As a pair, or SQLite goes through all runs of the thread, which are in order.
        where = Where()
        where.add("(thread_id, status) IN (SELECT ?, value FROM json_each(?))", thread_id, status)
    else:
        where = Where(thread_id=thread_id)
        where.add("status IN (SELECT value FROM json_each(?))", status)
    where.add(HAS_COME, due_by)
    return where


def where_few(few: Mapping[str, str | None], **others: str | None) -> Where:
    """The rows with these values; those with the first ones are few. By the plus SQLite looks for
    these, and not among all that have the others."""
    where = Where(**few)
    plus = "+" if where.parameters else ""
    for column, value in others.items():
        where.add(f"{plus}{column} = ?", value)
    return where


def parameter(value: Any) -> str | int:
    """The value as a parameter of a query."""
    match value:
        case str():
            return str(value)
        case int():
            return value
        case datetime():
            return time_text(value)
        case _:
            return orjson.dumps([str(each) for each in value]).decode()
