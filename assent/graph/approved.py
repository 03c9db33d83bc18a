"""What a tool can learn of the people who approved its call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langchain_core.messages import AIMessage, ToolCall
from langchain_core.runnables import RunnableConfig

from assent.core.approval import Approval, ApprovalKind
from assent.core.decisions import Approve, Edit
from assent.core.digest import call_digest
from assent.graph.interrupts.forms import question_json
from assent.graph.state import asked_call, recorded_decision

APPROVED_KEY = "__assent_approved"
"""The key of the configurable for the approvals that a run goes on with. LangGraph stores no key
that starts with `__` in checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """The approval of a call. `names` are the people who agreed, in the order of their votes;
    `edited` is True if they changed the arguments. Without a server nobody is known by name, and
    the id is empty."""

    approval_id: str = ""
    names: tuple[str, ...] = ()
    decided_at: datetime | None = None
    edited: bool = False


def approved_by(runtime: Any) -> Approved | None:
    """The approval of the tool call that this code runs in; None if the call needed nobody.

    `runtime` is the tool's `ToolRuntime`. Under a server it works in any graph whose state has the
    `messages` that ask for the call, for calls that were approved as calls and for those of a step
    that was approved as a whole.
    """
    turn, call = asked_call(runtime.state, runtime.tool_call_id)
    if turn is None or call is None:
        return None
    for approval in _approvals(runtime.config):
        if _is_of(approval, turn, call):
            return Approved(
                approval_id=approval.approval_id,
                names=_names(approval),
                decided_at=approval.decided_at,
                edited=isinstance(approval.decision, Edit),
            )
    decision = None
    if isinstance(runtime.state, Mapping) and runtime.state.get("decisions"):
        decision = recorded_decision(runtime.state, turn, call)  # type: ignore[arg-type]
    if not isinstance(decision, Approve | Edit):
        return None
    return Approved(edited=isinstance(decision, Edit))


def with_approvals(config: RunnableConfig, approvals: Sequence[Approval]) -> None:
    """Let the calls that run with this config know these approvals."""
    approved = [each for each in approvals if isinstance(each.decision, Approve | Edit)]
    # To run a call again after a crash is not what made it run at first.
    approved.sort(key=lambda each: each.kind is ApprovalKind.UNKNOWN_OUTCOME)
    if approved:
        config["configurable"][APPROVED_KEY] = tuple(approved)


def _approvals(config: RunnableConfig) -> Sequence[Approval]:
    found: Sequence[Approval] = config.get("configurable", {}).get(APPROVED_KEY, ())
    return found


def _is_of(approval: Approval, turn: AIMessage, call: ToolCall) -> bool:
    """True if the approval is for exactly this call: an id may be used again, and a graph of its
    user's may have put the edited arguments into the message."""
    if approval.kind is ApprovalKind.NODE:
        return any(_is_named(each, call) for each in _calls_in(approval))
    if approval.kind not in (ApprovalKind.TOOL, ApprovalKind.UNKNOWN_OUTCOME):
        return False
    if (approval.tool_call_id, approval.message_id) != (call["id"], turn.id):
        return False
    digest = call_digest(call["name"], question_json(call["args"]))
    return digest in (approval.digest, approval.current_digest)


def _calls_in(approval: Approval) -> Iterator[Mapping[str, Any]]:
    """The calls that a person saw when they approved a step."""
    calls = approval.args.get("tool_calls", []) if isinstance(approval.args, Mapping) else []
    yield from (each for each in calls if isinstance(each, Mapping))


def _is_named(seen: Mapping[str, Any], call: ToolCall) -> bool:
    named = (seen.get("id"), seen.get("name"), seen.get("args"))
    return named == (call["id"], call["name"], question_json(call["args"]))


def _names(approval: Approval) -> tuple[str, ...]:
    names = dict.fromkeys(vote.by for vote in approval.agreeing)
    return tuple(names) or ((approval.decided_by,) if approval.decided_by else ())
