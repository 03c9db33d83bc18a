"""The people whose words an action can be traced to: its *requesters*.

They are who started the run, whoever wrote to the thread's conversation before, and whoever changed
the schedule or the assistant that it was begun with, or went back to an earlier state. With four
eyes, none of them decides what came of it (`assent.approvals.rules`).

A run keeps its requesters to its end, through all its pauses; each answer, reason or edit that it
goes on with adds its author. A thread keeps those of its runs for the runs to come, until somebody
else has agreed with them: has approved, with four eyes, what they are the requesters of. Words that
were rejected, or approved in advance, stay with their authors, and so do those that came by the
decisions on other calls of the same pause, whenever these were. A checkpoint has the requesters of
the run that wrote it, so whoever goes back to it meets them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from assent.core.approval import Approval, ApprovalKind, ApprovalStatus
from assent.core.decisions import Edit, Reject, Respond


def each_once(*names: Iterable[str]) -> tuple[str, ...]:
    """All these names, each once, in their order."""
    return tuple(dict.fromkeys(name for group in names for name in group if name))


def after_decisions(requested_by: Iterable[str], decided: Sequence[Approval]) -> tuple[str, ...]:
    """A thread's requesters after these approvals of a pause were decided. If somebody has agreed
    with any, these must be all of the pause that are decided."""
    agreed_with = {name for each in decided if is_agreed(each) for name in each.requested_by}
    left = (name for name in requested_by if name not in agreed_with)
    return each_once(left, *map(authors, decided))


def authors(approval: Approval) -> tuple[str, ...]:
    """The people whose words the agent gets by the decision on this approval. Consent has no
    words; neither have the numbers of a budget."""
    decided_by, decision = approval.decided_by or "", approval.decision
    if approval.kind is ApprovalKind.BUDGET:
        return ()
    if isinstance(decision, Edit):
        edit = approval.edit
        return edit.editors if edit else (decided_by,)
    if isinstance(decision, Respond):
        return each_once(*(each.people for each in approval.votes if each.decision == decision))
    if isinstance(decision, Reject) and decision.message:
        return each_once([decided_by])
    return ()


def is_agreed(approval: Approval) -> bool:
    """True if people who are none of its requesters have looked at it and approved it."""
    is_approved = approval.status in (ApprovalStatus.APPROVED, ApprovalStatus.EDITED)
    in_advance = any(vote.grant for vote in approval.votes)
    return is_approved and approval.policy.needs_another and not in_advance
