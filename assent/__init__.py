"""Assent runs LangGraph agents that must ask a person before they act."""

from assent.core.approval import Approval
from assent.core.decisions import Approve, Edit, Reject, Respond
from assent.core.errors import AssentError
from assent.core.policy import Escalation
from assent.graph.approval_rules import ApprovalPolicy
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

__all__ = [
    "Approval",
    "ApprovalPolicy",
    "Approve",
    "AssentError",
    "Edit",
    "Escalation",
    "Reject",
    "Respond",
    "apending_approvals",
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
