"""What a pause asks, in the words of LangGraph's clients."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from msgspec import structs

from assent.api.dialects.questions import hitl_request, pause_id, pause_interrupt
from assent.core.approval import Approval, ApprovalKind, Edited, approval_event
from assent.core.events import ApprovalRequired

NOW = datetime(2026, 11, 22, tzinfo=UTC)

PAY = Approval(
    approval_id="apr_1",
    thread_id="t",
    kind=ApprovalKind.TOOL,
    digest="d",
    allowed=("approve", "edit", "reject"),
    requested_at=NOW,
    tool="pay",
    args={"amount": 5},
    preview={"description": "Pays 5."},
)


def test_the_calls_that_a_gate_holds_back_are_one_interrupt() -> None:
    look = structs.replace(PAY, approval_id="apr_2", tool="look", args=None, preview=None)
    assert pause_interrupt("r", [PAY, look]) == {
        "id": pause_id("r"),
        "value": {
            "action_requests": [
                {
                    "name": "pay",
                    "args": {"amount": 5},
                    "arguments": {"amount": 5},
                    "description": "Pays 5.",
                },
                {"name": "look", "args": {}, "arguments": {}},
            ],
            "review_configs": [
                {"action_name": "pay", "allowed_decisions": ["approve", "edit", "reject"]},
                {"action_name": "look", "allowed_decisions": ["approve", "edit", "reject"]},
            ],
        },
    }


def test_an_interrupt_of_the_graph_asks_for_itself() -> None:
    own = structs.replace(PAY, interrupt_id="f" * 32)
    assert pause_interrupt("r", [own]) is None
    both = pause_interrupt("r", [own, PAY])
    assert both is not None
    assert [each["name"] for each in both["value"]["action_requests"]] == ["pay"]


def test_the_event_asks_the_same_as_the_row() -> None:
    event = approval_event(ApprovalRequired, PAY, NOW)
    assert hitl_request([event]) == hitl_request([PAY])


def test_an_edited_call_is_shown_as_it_is_asked_now() -> None:
    edit = Edited(args={"amount": 7}, digest="e", by="bob", at=NOW)
    edited = structs.replace(PAY, edit=edit)
    (action,) = hitl_request([edited])["action_requests"]
    assert action["args"] == action["arguments"] == {"amount": 7}


def test_a_question_without_a_tool_has_a_name_and_its_value() -> None:
    question = structs.replace(PAY, kind=ApprovalKind.INPUT, tool="", node="ask", args="Which one?")
    (action,) = hitl_request([question])["action_requests"]
    assert (action["name"], action["args"]) == ("ask", {"value": "Which one?"})


def test_the_id_of_a_pause_looks_like_one_of_langgraphs_and_is_its_own() -> None:
    assert re.fullmatch("[0-9a-f]{32}", pause_id("r"))
    assert pause_id("r") == pause_id("r") != pause_id("s")
