"""Messages in Slack: nobody's words are Slack's markup, and what is not shown is not approved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assent.core.approval import ApprovalKind
from assent.notify.notifier import Message
from assent.notify.slack_cards import MAX_TEXT_CHARACTERS, card, notice, offered
from tests.support.notifications import NOW, PENDING
from tests.support.rows import replace

ASKED = replace(PENDING, tenant=None)
ALL = ("approve", "edit", "reject", "respond")


def blocks(shown: Any, kind: str) -> list[Any]:
    return [each for each in shown["blocks"] if each["type"] == kind]


def test_what_others_wrote_is_no_markup_of_slacks() -> None:
    forged = "```\n*Approved by ann* <!channel> <https://evil.example|here> & \u202eevil"
    row = replace(ASKED, tool="pay <!here>", agent="<@U01>", args={"note": forged}, preview=forged)
    shown = card(row)
    assert shown["text"] == "Approval needed: pay &lt;!here&gt;"
    assert (shown["mrkdwn"], shown["unfurl_links"], shown["unfurl_media"]) == (False,) * 3
    assert "mrkdwn" not in json.dumps(shown["blocks"])
    preview, args = (each["elements"][1] for each in blocks(shown, "rich_text"))
    assert [preview["type"], args["type"]] == ["rich_text_preformatted"] * 2
    assert "\\u202e" in args["elements"][0]["text"] and "\u202e" not in json.dumps(
        shown, ensure_ascii=False
    )
    (warning,) = (each["text"]["text"] for each in blocks(shown, "section") if "text" in each)
    assert warning == "Careful: 1 hidden character(s) in them are shown as \\u…."
    said = notice(
        Message(
            id="n",
            endpoint="e",
            type="approval_reminder",
            at=NOW,
            data={"approval": {"tool": "<!here>"}},
        )
    )
    assert said["text"] == "Approval still needed: &lt;!here&gt;"


@pytest.mark.parametrize(
    ("changes", "offers"),
    [
        ({}, ("approve", "edit", "respond", "reject")),
        ({"allowed": ("approve", "reject")}, ("approve", "reject")),
        ({"args": "text"}, ("approve", "respond", "reject")),
        ({"args": {"note": "x" * MAX_TEXT_CHARACTERS}}, ("respond", "reject")),
        ({"args": {"note": "x" * MAX_TEXT_CHARACTERS}, "allowed": ("approve",)}, ()),
        ({"args": "x" * MAX_TEXT_CHARACTERS, "kind": ApprovalKind.INPUT}, ("reject",)),
    ],
)
def test_what_is_not_shown_whole_is_not_approved(changes: Any, offers: Any) -> None:
    row = replace(ASKED, **{"allowed": ALL, **changes})
    assert offered(row) == offers
    shown = card(row)
    buttons = [each["action_id"] for row in blocks(shown, "actions") for each in row["elements"]]
    assert buttons == [f"assent_{each}" for each in offers]
    assert ("so it is decided with a key" in json.dumps(shown)) == ("x" * 50 in json.dumps(shown))


def test_what_is_asked_in_a_tenant_has_no_buttons_since_nobody_in_slack_is_of_one() -> None:
    shown = card(replace(ASKED, tenant="acme"))
    assert blocks(shown, "actions") == []
    assert "nobody in Slack is one." in json.dumps(shown)


def test_a_question_is_answered_and_a_call_is_answered_instead() -> None:
    for kind, label in ((ApprovalKind.INPUT, "Answer…"), (ApprovalKind.TOOL, "Answer instead…")):
        (row,) = blocks(card(replace(ASKED, kind=kind, allowed=("respond",))), "actions")
        assert row["elements"][0]["text"]["text"] == label
