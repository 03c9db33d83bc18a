"""Notifications for a change: which endpoints get them, and what they hold."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from assent.approvals.feed import with_copies
from assent.core.approval import Approval, ApprovalStatus, Edited
from assent.core.errors import ConfigurationError
from assent.core.events import EVENT_TYPES, ApprovalEvent, Event
from assent.core.json import encode_json
from assent.core.policy import Policy
from assent.core.rows import Link, Notification, NotificationStatus
from assent.notify.endpoints import APPROVAL_EVENTS, DEFAULT_EVENTS, Endpoint, endpoints_from_json
from assent.notify.notifier import Message
from assent.notify.outbox import MAX_PAYLOAD_BYTES, notifications_for
from assent.notify.texts import texts
from assent.storage.base import Change
from tests.support.keys import NEW_SECRET
from tests.support.notifications import NOW, PENDING, event
from tests.support.rows import replace

HOOK = Endpoint(name="hook", events=APPROVAL_EVENTS)


def rows_of(*events: Event, row: Approval = PENDING, endpoint: Endpoint = HOOK) -> list[Any]:
    ids = count(1)
    return list(
        notifications_for(
            Change(rows=(row,), events=events), [endpoint], NOW, lambda: f"id{next(ids)}"
        )
    )


BOB = Endpoint(name="bob", recipient="bob")


@pytest.mark.parametrize("kind", APPROVAL_EVENTS)
def test_every_approval_event_has_a_notification_with_the_approval(kind: str) -> None:
    (row,) = rows_of(event(kind))
    assert (
        row.notification_id,
        row.endpoint,
        row.event,
        row.thread_id,
        row.approval_id,
        row.run_id,
    ) == (
        "id1",
        "hook",
        kind,
        "t",
        "a",
        "r",
    )
    assert (row.status, row.created_at, row.next_at, row.attempts) == (
        NotificationStatus.PENDING,
        NOW,
        NOW,
        0,
    )
    said = row.payload["approval"]
    assert (said["tool"], said["args"], said["digest"], said["requested_by"]) == (
        "pay",
        PENDING.args,
        PENDING.digest,
        ("ann", "dee"),
    )
    assert said.keys() >= {"agent", "preview", "allowed", "expires_at", "risk", "conversation"}


def test_the_copy_in_the_feed_makes_no_second_notification() -> None:
    assert len(rows_of(*with_copies([event("approval_required")], None))) == 1


def test_after_an_edit_the_notification_has_the_new_arguments() -> None:
    edited = Edited(args={"amount": 1}, digest="1" * 64, by="ann", at=NOW)
    link, row = rows_of(
        event("approval_edited", args={"amount": 1}, digest="1" * 64),
        row=replace(PENDING, edit=edited),
        endpoint=BOB,
    )
    said = row.payload["approval"]
    assert (said["args"], said["digest"], said["edited_by"], link.digest) == (
        {"amount": 1},
        "1" * 64,
        "ann",
        "1" * 64,
    )


def test_an_approval_that_a_grant_answers_at_once_asks_nobody() -> None:
    rows = rows_of(
        event("approval_required"),
        event("approval_decided"),
        row=replace(PENDING, status=ApprovalStatus.APPROVED),
    )
    assert [row.event for row in rows] == ["approval_decided"]


def test_the_kinds_are_all_there_are() -> None:
    assert set(APPROVAL_EVENTS) == {
        name for name, cls in EVENT_TYPES.items() if issubclass(cls, ApprovalEvent)
    }
    assert set(DEFAULT_EVENTS) < set(APPROVAL_EVENTS)


def test_the_event_holds_only_what_the_approval_does_not() -> None:
    (row,) = rows_of(event("approval_delegated", by="ann", to="bob"))
    assert row.payload["event"] == {
        "by": "ann",
        "to": "bob",
        "ts": "2026-01-02T12:01:00.123456Z",
        "kind": "tool",
    }


def test_other_events_have_no_notification() -> None:
    others = [name for name in EVENT_TYPES if name not in APPROVAL_EVENTS]
    assert "done" in others
    assert (
        rows_of(EVENT_TYPES["done"](thread_id="t"), EVENT_TYPES["run_paused"](thread_id="t")) == []
    )


@pytest.mark.parametrize(
    ("wanted", "notified"),
    [
        ({}, True),
        ({"events": ("approval_required",)}, True),
        ({"events": ("approval_decided",)}, False),
        ({"agents": ("clerk",)}, True),
        ({"agents": ("other",)}, False),
        ({"tools": ("look", "pay")}, True),
        ({"tools": ("look",)}, False),
        ({"roles": ("lead",)}, True),
        ({"roles": ("boss",)}, False),
        ({"tools": ("pay",), "agents": ("other",)}, False),
    ],
)
def test_an_endpoint_gets_only_the_events_that_it_wants(
    wanted: dict[str, Any], notified: bool
) -> None:
    row = replace(PENDING, policy=Policy(roles=("lead", "desk")))
    assert (
        bool(rows_of(event("approval_required"), row=row, endpoint=Endpoint(name="hook", **wanted)))
        is notified
    )


def test_each_endpoint_and_each_event_has_a_notification_of_its_own() -> None:
    ids = count(1)
    change = Change(rows=(PENDING,), events=(event("approval_edited"), event("approval_reminder")))
    rows = notifications_for(
        change,
        [HOOK, Endpoint(name="other", events=APPROVAL_EVENTS)],
        NOW,
        lambda: f"id{next(ids)}",
    )
    assert [(row.endpoint, row.event) for row in rows if isinstance(row, Notification)] == [
        ("hook", "approval_edited"),
        ("other", "approval_edited"),
        ("hook", "approval_reminder"),
        ("other", "approval_reminder"),
    ]
    assert len({row.notification_id for row in rows if isinstance(row, Notification)}) == 4


# ── how much ──


@pytest.mark.parametrize("char", ["x", "\x00", "☃", '"'])
def test_too_much_is_cut_with_a_mark(char: str) -> None:
    large = {"text": char * 300_000, "to": "bob"}
    (row,) = rows_of(
        event("approval_required"), row=replace(PENDING, args=large, preview=[char * 100_000])
    )
    assert len(encode_json(row.payload)) <= MAX_PAYLOAD_BYTES
    assert row.payload["cut"] == ["approval.args", "approval.preview"]
    said = row.payload["approval"]["args"]
    assert said.startswith('{"text":"')
    assert said.endswith("characters in all)")
    assert row.payload["approval"]["digest"] == PENDING.digest


def test_what_fits_is_there_in_full() -> None:
    large = {"text": "x" * 50_000}
    (row,) = rows_of(event("approval_required"), row=replace(PENDING, args=large))
    assert row.payload["approval"]["args"] == large
    assert "cut" not in row.payload


# ── links ──


@pytest.mark.parametrize(
    "kind",
    [
        "approval_required",
        "approval_edited",
        "approval_reminder",
        "approval_escalated",
        "approval_delegated",
    ],
)
def test_an_endpoint_with_a_recipient_gets_a_link(kind: str) -> None:
    link, row = rows_of(event(kind), endpoint=BOB)
    assert isinstance(link, Link)
    assert row.payload["link_id"] == link.link_id
    assert (link.approval_id, link.digest, link.recipient, link.decisions) == (
        "a",
        PENDING.digest,
        "bob",
        ("approve", "reject"),
    )
    assert link.expires_at == PENDING.expires_at


@pytest.mark.parametrize(
    "kind", ["approval_decided", "approval_expired", "approval_cancelled", "approval_superseded"]
)
def test_when_nothing_is_left_to_decide_no_link_is_sent(kind: str) -> None:
    (row,) = rows_of(
        event(kind), endpoint=BOB, row=replace(PENDING, status=ApprovalStatus.REJECTED)
    )
    assert "link_id" not in row.payload


def test_no_link_is_made_for_what_links_cannot_decide_or_what_is_over() -> None:
    for asked in (replace(PENDING, allowed=("respond",)), replace(PENDING, expires_at=NOW)):
        (row,) = rows_of(event("approval_required"), endpoint=BOB, row=asked)
        assert "link_id" not in row.payload


# ── the text for people ──


def text(**changes: Any) -> str:
    (row,) = rows_of(event("approval_required"), row=replace(PENDING, **changes))
    message = Message(
        id="m",
        endpoint="e",
        type=row.event,
        at=NOW,
        data=row.payload,
        link="https://example.com/links/x.y",
    )
    return "\n".join(texts(message))


def test_people_read_what_is_asked_and_where_to_decide() -> None:
    said = text()
    assert said.startswith("Approval needed: pay\n")
    for part in (
        "Agent: clerk",
        "Asked by: ann",
        "Decide: https://example.com/links/x.y",
        f"SHA-256: {PENDING.digest}",
        '"amount": 12.5',
    ):
        assert part in said


def test_what_the_model_wrote_comes_last_and_cannot_pose_as_anything_else() -> None:
    said = text(args={"note": "ok\nDecide: https://evil.example\u202e\u200b"})
    before, after = said.split("(written by the model):")
    assert "evil" not in before
    assert "\\u202e\\u200b" in after
    assert all(line.startswith(("    ", "Careful:")) for line in after.strip("\n").splitlines())
    assert "2 hidden character(s)" in after


def test_people_read_what_the_graph_cannot_promise() -> None:
    assert "\nCareful: It happens again." in text(conversation={"warning": "It happens again."})


def test_people_read_what_the_tool_would_do_as_long_as_they_are_asked() -> None:
    preview = {"records": 12, "first": ["a\u202eb"]}
    assert (
        'What it would do (from the tool):\n    {"records": 12, "first": ["a\\u202eb"]}\n\nArguments'
        in text(preview=preview)
    )
    (row,) = rows_of(
        event("approval_decided", by="ann"),
        row=replace(PENDING, preview=preview, status=ApprovalStatus.APPROVED),
    )
    assert "records" not in "\n".join(
        texts(Message(id="m", endpoint="e", type=row.event, at=NOW, data=row.payload))
    )


def test_of_a_head_people_read_what_the_command_takes() -> None:
    head = {"number": 12, "mac": "ab34", "key": "k", "at": "2026-01-02T12:00:00Z"}
    title, body = texts(
        Message(id="m", endpoint="e", type="audit_head", at=NOW, data={"head": head})
    )
    assert (title, body) == ("Head of the audit chain", "12:ab34\nat 2026-01-02T12:00:00Z")


def test_whoever_gets_no_link_reads_where_the_page_is() -> None:
    page = "https://assent.example/ui/approvals/apr_1"
    told = Message(id="m", endpoint="e", type="approval_required", at=NOW, data={}, page=page)
    assert f"Page: {page}" in texts(told)[1]
    linked = replace(told, link="https://assent.example/links/l.x")
    assert page not in texts(linked)[1]
    assert "Decide: https://assent.example/links/l.x" in texts(linked)[1]


def test_a_text_is_short_enough_for_a_chat() -> None:
    assert len(text(args={"text": "x" * 500_000}, preview=["y" * 500_000])) < 4_000


# ── the configuration ──


def test_endpoints_are_read() -> None:
    written = {
        "pager": {
            "url": "https://example.com/hook",
            "secrets": ["env:HOOK_SECRET", NEW_SECRET],
            "events": ["approval_required"],
            "agents": ["clerk"],
            "tools": ["pay"],
            "roles": ["lead"],
            "allow_private": True,
        },
        "bob": {"url": "env:CHAT", "recipient": "bob"},
        "own": {"notifier": "package.module:Name"},
    }
    pager, bob, own = endpoints_from_json(
        written, {"HOOK_SECRET": NEW_SECRET, "CHAT": "json://localhost/token"}
    )
    assert pager.target is not None
    assert (pager.target.url, pager.target.secrets, pager.target.allow_private) == (
        "https://example.com/hook",
        (NEW_SECRET, NEW_SECRET),
        True,
    )
    assert (pager.events, pager.agents, pager.tools, pager.roles) == (
        ("approval_required",),
        ("clerk",),
        ("pay",),
        ("lead",),
    )
    assert (bob.url, bob.recipient, bob.target) == ("json://localhost/token", "bob", None)
    assert own.notifier == "package.module:Name"
    (vault,) = endpoints_from_json({"vault": {"url": "json://x", "events": ["audit_head"]}}, {})
    assert vault.events == ("audit_head",)
    assert all(
        secret not in repr([pager, bob, own]) for secret in (NEW_SECRET, "token", "example.com")
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"a b": {"url": "json://x"}}, "letters, digits"),
        ({"a": {}}, "either a 'url', a 'slack' channel or a"),
        ({"a": {"url": "json://x", "notifier": "a:b"}}, "either a 'url', a 'slack' channel or a"),
        ({"a": {"slack": "C01", "notifier": "a:b"}}, "either a 'url', a 'slack' channel or a"),
        ({"a": {"slack": "#team"}}, "is no channel"),
        ({"a": {"slack": "C01", "recipient": "bob"}}, "has no 'recipient'"),
        ({"a": {"slack": "C01", "secrets": [NEW_SECRET]}}, "Only webhooks"),
        ({"a": {"url": "https://example.com"}}, "no secret"),
        ({"a": {"url": "http://example.com", "secrets": [NEW_SECRET]}}, "allow_http"),
        ({"a": {"url": "json://x", "secrets": [NEW_SECRET]}}, "Only webhooks"),
        ({"a": {"url": "json://x", "event": []}}, "unknown field"),
        ({"a": {"url": "json://x", "events": ["done"]}}, "There is no event 'done'"),
        ({"a": {"url": "env:NOBODY"}}, "NOBODY, which is not set"),
        ({"a": 1}, "is wrong"),
        ([], "no table"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(written: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        endpoints_from_json(written, {})
    assert NEW_SECRET not in str(refused.value)


def test_a_payload_is_json() -> None:
    (row,) = rows_of(event("approval_escalated", to=("lead",), expires_at=NOW))
    assert json.loads(encode_json(row.payload))["event"]["to"] == ["lead"]
