"""The lines for operators: of every event that has one, its name and its keys; and never content."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from assent.approvals.people import People
from assent.core.approval import ApprovalStatus
from assent.core.events import ApprovalEvent, ApprovalRequired, Event, RunStart
from assent.core.logs import APPROVALS
from assent.core.policy import Person
from assent.core.rows import NotificationStatus, RunKind, RunStatus
from assent.runs.log_lines import LINES, SHORT, OutageLines, log_lines
from assent.storage.base import Change
from tests.storage.samples import approval, notification, run
from tests.support.rows import replace

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "logs.md"
ROW = re.compile(r"^\| `([a-z ]+)` \| (\w+) \| (.*) \|$", re.MULTILINE)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECRET = "swordfish"


def documented() -> dict[str, tuple[str, set[str]]]:
    page = PAGE.read_text(encoding="utf-8")
    return {
        name: (level, set(re.findall(r"`(\w+)`", keys))) for name, level, keys in ROW.findall(page)
    }


def full(kind: type[Event], **values: Any) -> Event:
    """An event in which every text is secret, but for what a line may carry."""
    safe = {"by": "bob", "code": "agent_error", "node": "tools", "tool": "pay", "grant": "g"}
    safe |= {"decision": "approve", "kind": "tool", "approval_id": "a1"}
    for each in msgspec.structs.fields(kind):
        if each.name in safe:
            values.setdefault(each.name, safe[each.name])
        elif each.name in ("message", "reason", "args", "preview", "schema", "text"):
            values.setdefault(each.name, SECRET)
    if kind.__name__ == "RunRecovered":
        values["attempt"] = 2
    if kind.__name__ in ("RunPaused", "RunResumed"):
        values["approvals"] = ("a1",)
    if kind.__name__ in ("RunStart", "RunResumed"):
        values["agent"] = "clerk"
    return kind(thread_id="t1", run_id="r1", **values)


def rows(kind: type[Event]) -> Change:
    ended = kind.__name__ in ("RunPaused", "Done", "RunCancelled", "Error")
    of_run = run(
        "r1",
        thread_id="t1",
        agent="clerk",
        kind=RunKind.INPUT,
        status=RunStatus.SUCCESS if ended else RunStatus.RUNNING,
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=1.25) if ended else None,
    )
    return Change(rows=(of_run, approval("a1", thread_id="t1", agent="clerk")))


@pytest.mark.parametrize("kind", LINES, ids=lambda kind: kind.__name__)
def test_each_line_is_as_documented_and_tells_no_content(kind: type[Event]) -> None:
    (line,) = log_lines(replace(rows(kind), events=(full(kind),)))
    assert (line.level, set(line.values)) == documented()[line.event]
    assert line.values["agent"] == "clerk"
    assert SECRET not in str(line.values)
    if "duration" in line.values:
        assert line.values["duration"] == 1.25


def test_an_approval_that_too_few_can_decide_has_a_line_more() -> None:
    question = approval(
        "a1", status=ApprovalStatus.PENDING, votes=(), delegations=(), requested_by=("bob", "cy")
    )
    people = People({"dee": Person(name="dee", roles=("boss",))})
    asked = Change(rows=(question,), events=(full(ApprovalRequired),))
    _, line = log_lines(asked, people)
    assert line.event == SHORT
    assert (line.level, set(line.values)) == documented()[SHORT]
    assert (line.values["left"], line.values["needed"]) == (["dee"], 2)


def test_a_notification_that_is_given_up_has_a_line_as_documented() -> None:
    waits = notification("n1")
    assert list(log_lines(Change(rows=(replace(waits, status=NotificationStatus.PENDING),)))) == []
    (line,) = log_lines(Change(rows=(replace(waits, status=NotificationStatus.DEAD),)))
    assert (line.level, set(line.values)) == documented()[line.event]


def test_nothing_is_documented_that_there_is_not() -> None:
    elsewhere = {
        "server started",
        "the web page is not there",
        "a setting has no effect",
        "a setting goes before that of the project",
        "the project asks for a newer version",
        "a package of the project is not installed",
        "the file of variables is not there",
        "a policy asks a role that gives rights",
        "agent takes no messages",
        SHORT,
        "keys were made with another pepper",
        "engine started",
        "engine stopped",
        "all threads of sync nodes and tools are busy",
        "the event loop is blocked",
        "the event loop goes on",
        "runs wait for their agent",
        "notification given up",
        "run put back",
        "storage away",
        "storage back",
        "thread distrusted",
        "idle threads erased",
        "old runs removed",
        "old events removed",
        "unused uploads removed",
        "an issuer was not reached",
        "reader cut",
        "a stream failed",
        "a reader is not looked after",
        "a run of the program is not shown",
        "a run of the program is shown no further",
        "authentication failed",
        "decision refused",
    }
    assert set(documented()) == {name for _, name in LINES.values()} | elsewhere


def test_copies_in_the_feed_have_no_line() -> None:
    kind = next(kind for kind in LINES if issubclass(kind, ApprovalEvent))
    copy = msgspec.structs.replace(full(kind), thread_id=APPROVALS, about="t1")
    assert list(log_lines(Change(events=(copy,)))) == []


def test_a_run_that_never_started_has_no_duration() -> None:
    (line,) = log_lines(Change(events=(full(RunStart),)))
    assert "duration" not in line.values


def test_an_outage_has_a_line_a_minute_and_one_at_its_end() -> None:
    now = [0.0]
    lines = OutageLines(lambda: now[0])
    lines.back()
    with capture_logs() as logs:
        for now[0] in range(0, 150, 2):
            lines.away("The disk is full.")
        lines.back()
        # Another one, soon after.
        now[0] = 150
        lines.away("The disk is full.")
        lines.back()
        for now[0] in range(200, 210, 2):
            lines.away("The disk is full.")
    told = [(line["event"], line.get("seconds")) for line in logs]
    assert told == [
        *(("storage away", 0), ("storage away", 60), ("storage away", 120), ("storage back", 148)),
        ("storage away", 0),
    ]
    away, back = logs[0], logs[3]
    for line in (away, back):
        level, keys = documented()[line["event"]]
        assert (level, keys) == (line["log_level"], line.keys() - {"event", "log_level"})
