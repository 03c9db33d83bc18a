"""The longer questions that the storage asks its tables. Each is answered from an index, however
many runs have ended."""

from __future__ import annotations

from collections.abc import Sequence

DUE = """
    WHERE run_id IN (
        SELECT run_id FROM (
            SELECT runs.run_id, priority, runs.created_at, row_number() OVER (
                PARTITION BY runs.thread_id ORDER BY runs.run_id IS NOT threads.run_id, runs.created_at, runs.run_id
            ) AS place
            FROM runs INDEXED BY runs_waiting CROSS JOIN threads ON threads.thread_id = runs.thread_id
            WHERE runs.status = 'pending' AND coalesce(due_at, '') <= ? AND threads.tampered IS NULL
            AND (threads.run_id = runs.run_id OR threads.status IN ('idle', 'error'))
        )
        WHERE place = 1 ORDER BY priority DESC, created_at, run_id LIMIT ?
    )
    ORDER BY priority DESC, created_at, run_id
"""
"""At `now`, at most `limit`: of each thread the run that it is busy with already, or else the first
of those that wait."""

ORPHANED = """
    WHERE status IN ('running', 'cancelling')
    AND (worker IS NULL OR worker NOT IN (SELECT worker FROM workers WHERE expires_at > ?))
    ORDER BY created_at, run_id LIMIT ?
"""
"""At `now`, at most `limit`."""

BEAT = "INSERT INTO workers VALUES (?, ?) ON CONFLICT (worker) DO UPDATE SET expires_at = excluded.expires_at"
RETIRE = "DELETE FROM workers WHERE worker = ?"

DUE_TIMERS = """
    WHERE due_at <= ? AND NOT EXISTS (SELECT 1 FROM threads WHERE threads.thread_id = timers.thread_id AND tampered IS NOT NULL)
    ORDER BY due_at, timer_id LIMIT ?
"""
"""At `now`, at most `limit`. Nothing is done for a thread that was tampered with."""

NEXT_DUE = """
    SELECT min(due) FROM (
        SELECT (SELECT min(due_at) FROM timers WHERE due_at > ?) AS due
        UNION ALL SELECT (
            SELECT min(coalesce(due_at, '')) FROM runs INDEXED BY runs_waiting WHERE status = 'pending' AND coalesce(due_at, '') > ?
        )
    )
"""
"""After a time, which is given twice. `min` passes by what there is not."""

_TRUSTED = "NOT EXISTS (SELECT 1 FROM threads WHERE threads.thread_id = notifications.thread_id AND tampered IS NOT NULL)"

DUE_NOTIFICATIONS = f"""
    WHERE endpoint = ? AND status = 'pending' AND next_at <= ? AND {_TRUSTED}
    ORDER BY next_at, notification_id LIMIT ?
"""
"""Of an endpoint, at `now`, at most `limit`. Nothing is told of a thread that was tampered with."""

NEXT_NOTIFICATION = f"""
    SELECT next_at FROM notifications WHERE endpoint = ? AND status = 'pending' AND {_TRUSTED} ORDER BY next_at, notification_id LIMIT 1
"""
"""Of an endpoint."""

REMOVE_NOTIFICATIONS = """
    DELETE FROM notifications WHERE notification_id IN (
        SELECT notification_id FROM notifications WHERE status = ? AND created_at < ? ORDER BY created_at, notification_id LIMIT ?
    )
"""
"""Of a status, made before a time, at most `limit`."""


def used(where: Sequence[str]) -> str:
    """The sums of the runs that meet the conditions, by name. What is no number, or no JSON, is not
    Assent's, and counts nothing."""
    condition = " AND ".join([*where, "each.type IN ('integer', 'real')"])
    return f"""
        SELECT each.key, sum(each.value) FROM runs, json_each(iif(json_valid(usage), usage, '{{}}')) AS each
        WHERE {condition} GROUP BY each.key
    """
