"""Assent runs LangGraph agents that must ask a person before they act."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assent.core.approval import Approval
from assent.core.decisions import Approve, Edit, Reject, Respond
from assent.core.errors import AssentError
from assent.core.policy import Escalation

if TYPE_CHECKING:
    from assent.api.embedding import Assent
    from assent.cli.human_input_server import HumanInputServer
    from assent.core.progress import ProgressUpdate
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
    from assent.graph.stream.progress import astream_progress, run_with_steps, stream_progress
    from assent.graph.stream.typed import astream_typed
    from assent.graph.tool_calls import call_once

__all__ = [
    "Approval",
    "ApprovalPolicy",
    "Approve",
    "Approved",
    "Assent",
    "AssentError",
    "Edit",
    "Escalation",
    "HumanInputServer",
    "ProgressUpdate",
    "Reject",
    "Respond",
    "apending_approvals",
    "approved_by",
    "aresume",
    "ask_human",
    "astream_progress",
    "astream_resume",
    "astream_typed",
    "build_hitl_agent",
    "call_once",
    "idempotency_key",
    "pending_approvals",
    "resume",
    "run_with_steps",
    "stream_progress",
    "stream_resume",
]

# Whoever only talks to a server does not import LangGraph, and whoever only builds an agent does
# not import the server.
_MODULES = {
    "ApprovalPolicy": "assent.graph.approval_rules",
    "Approved": "assent.graph.approved",
    "Assent": "assent.api.embedding",
    "HumanInputServer": "assent.cli.human_input_server",
    "ProgressUpdate": "assent.core.progress",
    "apending_approvals": "assent.graph.interrupts.resume",
    "approved_by": "assent.graph.approved",
    "aresume": "assent.graph.interrupts.resume",
    "ask_human": "assent.graph.ask_human",
    "astream_progress": "assent.graph.stream.progress",
    "astream_resume": "assent.graph.interrupts.resume",
    "astream_typed": "assent.graph.stream.typed",
    "build_hitl_agent": "assent.graph.builder",
    "call_once": "assent.graph.tool_calls",
    "idempotency_key": "assent.graph.effects",
    "pending_approvals": "assent.graph.interrupts.resume",
    "resume": "assent.graph.interrupts.resume",
    "run_with_steps": "assent.graph.stream.progress",
    "stream_progress": "assent.graph.stream.progress",
    "stream_resume": "assent.graph.interrupts.resume",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_MODULES[name])
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("assent", "langgraph"):
            raise
        raise ImportError(
            f"'{name}' needs all of Assent, and only its client is installed: pip install assent."
        ) from error
    return getattr(module, name)
