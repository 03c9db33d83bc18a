"""Assent runs LangGraph agents that must ask a person before they act."""

from typing import TYPE_CHECKING, Any

from assent.core.approval import Approval
from assent.core.decisions import Approve, Edit, Reject, Respond
from assent.core.errors import AssentError
from assent.core.policy import Escalation
from assent.graph.approval_rules import ApprovalPolicy
from assent.graph.approved import Approved, approved_by
from assent.graph.ask_human import ask_human
from assent.graph.builder import build_hitl_agent
from assent.graph.effects import idempotency_key
from assent.graph.interrupts.resume import (
    apending_approvals,
    aresume,
    astream_resume,
    pending_approvals,
    resume,
    stream_resume,
)
from assent.graph.stream.typed import astream_typed
from assent.graph.tool_calls import call_once

if TYPE_CHECKING:
    from assent.api.embedding import Assent

__all__ = [
    "Approval",
    "ApprovalPolicy",
    "Approve",
    "Approved",
    "Assent",
    "AssentError",
    "Edit",
    "Escalation",
    "Reject",
    "Respond",
    "apending_approvals",
    "approved_by",
    "aresume",
    "ask_human",
    "astream_resume",
    "astream_typed",
    "build_hitl_agent",
    "call_once",
    "idempotency_key",
    "pending_approvals",
    "resume",
    "stream_resume",
]


def __getattr__(name: str) -> Any:
    # Whoever only builds an agent does not import the server.
    if name == "Assent":
        from assent.api.embedding import Assent

        return Assent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
