"""What is held against a server that was killed again and again: pure functions from what is known
and what was found to findings.

A finding is a kind and a sentence:

    duplicate    something happened twice in the world
    unapproved   something happened that nobody allowed, or otherwise than it was allowed
    forgotten    a decision that was acknowledged is not what is stored
    unhonoured   a decision that is stored was not acted upon
    open         a call was asked about twice, or has no answer though its thread is at rest
    stuck        a run has not come to an end
    ending       a run ended in a way that nobody asked for, or went on after its end
    recovered    a run was recovered without a restart, or too often
    message      a message that was taken is not there, or is there twice
    numbers      a follower missed an event or got one twice
    feed         the feed of the agent tells otherwise of a run or an approval than its thread
    status       an answer that no client should meet
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from assent.core.events import FEED_TYPES
from tests.acceptance.crash_agent import GATED, ONCE
from tests.acceptance.crash_people import Book, Log
from tests.support.server import Event

Json = Any
Finding = tuple[str, str]

WORK = frozenset({"run_start", "run_resumed", "node_start", "node_end", "tool_start", "tool_end"})
"""Events of a run that is being worked on."""

GIVEN_UP_AFTER = 3
"""Recoveries at one place, after which a run may end with an error that says so."""

ENDS = {
    "done": "success",
    "error": "error",
    "run_paused": "interrupted",
    "run_cancelled": "cancelled",
}
"""How a run's last event goes with its status."""

AFTER_A_PAUSE = ("approval_decided", "approval_cancelled", "checkpoint", "run_cancelled")
"""What is still said of a run that waits for a person."""


@dataclass(slots=True)
class Life:
    """One process: when it was started, and when it answered (None if it was killed before)."""

    started_at: datetime
    healthy_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found when all was over: threads with their values, runs and approvals, by id; the
    agent's feed; the ledger's lines; the processes, if the clock by which they are known was not
    moved."""

    threads: Mapping[str, Json]
    runs: Mapping[str, Json]
    approvals: Mapping[str, Json]
    feed: Sequence[Event]
    lines: Sequence[Json]
    lives: Sequence[Life]


@dataclass(slots=True)
class Call:
    """One call of a tool, by its id: the lines that it left, and the approvals that it asked
    for."""

    lines: list[Json] = field(default_factory=list)
    asked: Json = None
    asked_before: list[Json] = field(default_factory=list)
    lost: list[Json] = field(default_factory=list)

    @property
    def allowed_again(self) -> int:
        """How often a person said of a call whose outcome was lost: run it."""
        return sum(1 for approval in self.lost if approval["status"] == "approved")


def read_ledger(file: Path) -> list[Json]:
    """The lines of the ledger, the last of which a kill may have cut off."""
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []


def judge(book: Book, found: Found) -> list[Finding]:
    """All findings."""
    calls = calls_of(found)
    findings = list(book.complaints)
    findings += repeated(found.lines, calls)
    findings += unlike_decided(calls)
    findings += left_open(calls, found)
    findings += not_kept(book, found)
    findings += not_acted_upon(book, calls)
    for log in book.logs.values():
        findings += endings(log, found.runs)
        if found.lives:
            findings += recoveries(log, found.lives)
        findings += standing(log, found)
    findings += messages(book, found)
    findings += cancellations(book, found)
    findings += copies(book, found)
    return findings


def calls_of(found: Found) -> dict[str, Call]:
    """What is known of each call."""
    calls: dict[str, Call] = defaultdict(Call)
    for line in found.lines:
        calls[call_id(line)].lines.append(line)
    for approval in found.approvals.values():
        call = calls[approval["tool_call_id"]]
        if approval["kind"] == "tool":
            call.asked_before += [call.asked] if call.asked else []
            call.asked = approval
        else:
            call.lost.append(approval)
    return dict(calls)


def call_id(line: Json) -> str:
    """The call's part of an idempotency key."""
    return str(line["key"].split(":")[-2])


# ── the world ─────────────────────────────────────────────────────────────────────────────────────


def repeated(lines: Sequence[Json], calls: Mapping[str, Call]) -> Iterator[Finding]:
    """At most one line per key, but for what may be repeated; and each number is one call's, under
    one key if nobody said otherwise."""
    for key, times in Counter(line["key"] for line in lines if line["tool"] in ONCE).items():
        if times > 1:
            yield "duplicate", f"The key {key} has {times} lines."
    by_number = defaultdict(list)
    for line in lines:
        by_number[line["number"]].append(line)
    for number, its in by_number.items():
        again = sum(calls[id].allowed_again for id in {call_id(line) for line in its})
        if len({line["key"] for line in its}) > 1 + again:
            yield (
                "duplicate",
                f"{its[0]['tool']} {number} ran as {[line['key'] for line in its]}, and was allowed {again} times again.",
            )


def unlike_decided(calls: Mapping[str, Call]) -> Iterator[Finding]:
    """What a person must allow ran only if it was allowed, and as it was."""
    for id, call in calls.items():
        for line in call.lines:
            if line["tool"] not in GATED:
                continue
            ran = {"number": line["number"], "text": line["text"]}
            if call.asked is None or (allowed := _allowed_args(call.asked)) is None:
                yield "unapproved", f"{line} has {call.asked} ({id})."
            elif ran != allowed:
                yield "unapproved", f"{line} ran otherwise than {allowed} ({id})."


def _allowed_args(approval: Json) -> Json:
    decision = approval["decision"] or {}
    if decision.get("type") == "approve":
        return {"text": "", **approval["args"]}
    return decision["args"] if decision.get("type") == "edit" else None


def left_open(calls: Mapping[str, Call], found: Found) -> Iterator[Finding]:
    """A person is asked once about each call, and on a thread that takes new messages each has its
    one answer."""
    for id, call in calls.items():
        if call.asked_before:
            asked = [
                (approval["run_id"], approval["decision"])
                for approval in (*call.asked_before, call.asked)
            ]
            yield (
                "open",
                f"{call.asked['tool']} {call.asked['args']} on {call.asked['thread_id']} was asked about as {asked} ({id}).",
            )
    for thread in found.threads.values():
        messages = (
            (thread["values"] or {}).get("messages", ()) if thread["status"] == "idle" else ()
        )
        answered = Counter(
            message["tool_call_id"] for message in messages if message["type"] == "tool"
        )
        asked_for = Counter(
            call["id"]
            for message in messages
            if message["type"] == "ai"
            for call in message["tool_calls"]
        )
        if answered != asked_for:
            yield (
                "open",
                f"{thread['thread_id']} is idle, with the calls {asked_for - answered} open, and {answered - asked_for} in excess.",
            )


# ── decisions ─────────────────────────────────────────────────────────────────────────────────────


def not_kept(book: Book, found: Found) -> Iterator[Finding]:
    """Whatever was acknowledged is what is stored."""
    for known in book.known:
        stored = found.approvals.get(known.approval_id)
        if stored is None or (stored["decision"], stored["decided_by"]) != (
            known.decision,
            known.by,
        ):
            yield (
                "forgotten",
                f"{known} is stored as {stored and (stored['decision'], stored['decided_by'])}.",
            )


def not_acted_upon(book: Book, calls: Mapping[str, Call]) -> Iterator[Finding]:
    """What was allowed has left a line, or is known to be unknown; unless others of its pause still
    wait, or it was stopped since."""
    waiting = {
        approval["run_id"]
        for call in calls.values()
        for approval in _approvals(call)
        if approval["status"] == "pending"
    }
    for id, call in calls.items():
        approval = call.asked
        if approval is None or approval["run_id"] in waiting or _allowed_args(approval) is None:
            continue
        log = book.logs[approval["thread_id"]]
        if not call.lines and not call.lost and not log.stopped and not _given_up(log):
            yield (
                "unhonoured",
                f"{approval['decision']} of {approval['tool']} {approval['args']} on {log.thread_id} left no line ({id}).",
            )


def _approvals(call: Call) -> list[Json]:
    return [*([call.asked] if call.asked else []), *call.lost]


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────


def _by_run(log: Log) -> dict[str, list[Event]]:
    runs: dict[str, list[Event]] = defaultdict(list)
    for event in log.events:
        runs[event["run_id"]].append(event)
    return runs


def endings(log: Log, runs: Mapping[str, Json]) -> Iterator[Finding]:
    """Each run ends once, as it may, and nothing of it comes after that."""
    for run_id, events in _by_run(log).items():
        where = f"The run {run_id} on {log.thread_id}"
        ends = [position for position, event in enumerate(events) if event["type"] in ENDS]
        if not ends:
            yield "stuck", f"{where} has no end: {[event['type'] for event in events][-5:]}"
            continue
        end, after = events[ends[0]], [event["type"] for event in events[ends[0] + 1 :]]
        allowed = AFTER_A_PAUSE if end["type"] == "run_paused" else ()
        if any(kind not in allowed for kind in after) or len(ends) > 2:
            yield "ending", f"{where} went on after {end['type']}: {after}"
        if "run_cancelled" in (end["type"], *after) and not log.stopped:
            yield "ending", f"{where} was cancelled, and nobody asked for it."
        if end["type"] == "error" and not is_given_up(events):
            yield "ending", f"{where} failed: {end['code']} {end['message']}"
        stored, last = runs.get(run_id, {}).get("status"), events[ends[-1]]["type"]
        if stored != ENDS[last]:
            yield "ending", f"{where} is stored as {stored}, and its last word was {last}."


def is_given_up(events: Sequence[Event]) -> bool:
    """Whether a run has ended because its process died at the same place again and again."""
    recoveries = sum(event["type"] == "run_recovered" for event in events)
    return (
        events[-1]["type"] == "error"
        and "died" in events[-1]["message"]
        and recoveries >= GIVEN_UP_AFTER
    )


def _given_up(log: Log) -> bool:
    return any(is_given_up(events) for events in _by_run(log).values())


def recoveries(log: Log, lives: Sequence[Life]) -> Iterator[Finding]:
    """A run is recovered at most once by each process, and never from that process itself."""
    seen = set()
    worked_on: dict[str, int] = {}
    for event in log.events:
        at = datetime.fromisoformat(event["ts"])
        begun = [number for number, life in enumerate(lives) if life.started_at <= at]
        number = max(begun, default=0)
        if event["type"] in WORK:
            worked_on[event["run_id"]] = number
        if event["type"] != "run_recovered":
            continue
        what = f"The run {event['run_id']} on {log.thread_id} was recovered at {at:%T.%f}"
        if number == 0:
            yield "recovered", f"{what}, before any kill."
        if (event["run_id"], number) in seen:
            yield (
                "recovered",
                f"{what}, for the second time since the start at {lives[number].started_at:%T.%f}.",
            )
        seen.add((event["run_id"], number))
        if worked_on.get(event["run_id"]) == number:
            yield "recovered", f"{what}, and the process that had it was alive."


def standing(log: Log, found: Found) -> Iterator[Finding]:
    """A thread is at rest, or waits for what can be decided."""
    thread = found.threads.get(log.thread_id)
    if thread is None:
        if log.events:
            yield "stuck", f"The thread {log.thread_id} is gone."
        return
    waits_for = [approval["approval_id"] for approval in thread["approvals"]]
    pending = [found.approvals[id]["status"] for id in waits_for]
    if thread["status"] == "busy":
        yield "stuck", f"The thread {log.thread_id} is busy."
    elif (thread["status"] == "interrupted") != bool(pending) or set(pending) - {"pending"}:
        yield "stuck", f"The thread {log.thread_id} is {thread['status']} with {pending} to decide."
    elif thread["status"] == "error" and not _given_up(log):
        yield "ending", f"The thread {log.thread_id} ended with an error."
    for run in found.runs.values():
        waits = run["status"] == "pending" and thread["status"] == "interrupted"
        if run["thread_id"] == log.thread_id and run["status"] not in ENDS.values() and not waits:
            yield (
                "stuck",
                f"The run {run['run_id']} on {log.thread_id}, which is {thread['status']}, is {run['status']}.",
            )
    left = {
        id
        for id, approval in found.approvals.items()
        if approval["thread_id"] == log.thread_id and approval["status"] == "pending"
    }
    if left != set(waits_for):
        yield (
            "stuck",
            f"The thread {log.thread_id} waits for {waits_for}, but pending are {left}.",
        )


# ── messages ──────────────────────────────────────────────────────────────────────────────────────


def messages(book: Book, found: Found) -> Iterator[Finding]:
    """What was taken has a run; what was refused has none; and nothing was said twice."""
    starts = Counter(
        event.get("message", "")
        for log in book.logs.values()
        for event in log.events
        if event["type"] == "run_start"
    )
    said: Counter[str] = Counter()
    for thread in found.threads.values():
        said.update(
            message["content"]
            for message in (thread["values"] or {}).get("messages", ())
            if message["type"] == "human"
        )
    for sent in book.sent:
        if sent.run_id and sent.run_id not in found.runs:
            yield "message", f"{sent} was taken, and nothing came of it."
        refused = sent.status in (404, 409, 503) and not sent.run_id
        if refused and (starts[sent.text] or said[sent.text]):
            yield "message", f"{sent} was refused, and is there."
        if starts[sent.text] > 1 or said[sent.text] > 1:
            yield (
                "message",
                f"{sent} began {starts[sent.text]} runs, and is there {said[sent.text]} times.",
            )


def cancellations(book: Book, found: Found) -> Iterator[Finding]:
    """What was acknowledged to stop has stopped, and did not end otherwise."""
    for stopped in book.stopped:
        run = found.runs.get(stopped.run_id)
        if run is None or run["status"] != "cancelled":
            yield "ending", f"{stopped} was to be cancelled, and is {run and run['status']}."


# ── the feed ──────────────────────────────────────────────────────────────────────────────────────


def copies(book: Book, found: Found) -> Iterator[Finding]:
    """An event and its copy are stored together: whatever was killed, both are there, or neither
    is."""
    told = Counter(
        told_of(event)
        for log in book.logs.values()
        for event in log.events
        if event["type"] in FEED_TYPES
    )
    copied = Counter(told_of(event) for event in found.feed)
    for event, times in (told - copied).items():
        yield "feed", f"{event} is {times} times less in the feed than on its thread."
    for event, times in (copied - told).items():
        yield "feed", f"{event} is {times} times more in the feed than on its thread."


def told_of(event: Event) -> tuple[str, str, str]:
    """The thread, the run or approval, and what happened."""
    return event["thread_id"], event.get("approval_id") or event["run_id"], event["type"]
