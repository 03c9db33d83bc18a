"""How people are asked: a question's row and the event that tells of it, and what standing grants
make of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from assent.approvals.grants import cast_grants
from assent.approvals.record import recorded
from assent.approvals.rows import grant_of, grant_row, question_of, row_of
from assent.approvals.rules import Next, Question, asked
from assent.core.events import ApprovalRequired, Event
from assent.core.policy import Policy
from assent.core.rows import Approval, Row, StandingGrant
from assent.storage.base import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A question as it was put to people. `cast` are the events of the standing grants that have
    answered it."""

    row: Approval
    question: Question
    required: ApprovalRequired
    cast: tuple[Event, ...] = ()

    def change(self, *, with_cast: bool) -> Change:
        """What to store of it."""
        events = (self.required, *self.cast) if with_cast else (self.required,)
        return recorded(self.row, Next(self.question, events), None, new=True)


def under_policy(row: Approval, policy: Policy) -> Approval:
    """The row of a new question, put to the first people that the policy names: their time begins
    when it is asked."""
    question = structs.replace(question_of(row), policy=policy)
    return row_of(row, asked(question, row.requested_at))


def put(
    row: Approval, grants: Sequence[StandingGrant] = ()
) -> tuple[Put, tuple[StandingGrant, ...]]:
    """The question as it is put, and the grants as they are then."""
    question = question_of(row)
    done, used = cast_grants(
        question, row.agent, [grant_of(each) for each in grants], row.requested_at
    )
    after = {grant.grant_id: grant for grant in used}
    left = tuple(
        grant_row(after[each.grant_id], each.version) if each.grant_id in after else each
        for each in grants
    )
    return Put(row=row, question=done.question, required=_required(row), cast=done.events), left


def put_all(rows: Iterable[Approval], grants: Sequence[StandingGrant]) -> tuple[list[Put], Change]:
    """The questions as they are put, the first one first; and the use of the grants, as a
    change."""
    before, asked_now = {grant.grant_id: grant for grant in grants}, []
    for row in rows:
        each, grants = put(row, grants)
        asked_now.append(each)
    used: list[Row] = [
        replace(grant, version=grant.version + 1)
        for grant in grants
        if grant.used != before[grant.grant_id].used
    ]
    return asked_now, Change(rows=tuple(used))


def _required(row: Approval) -> ApprovalRequired:
    return ApprovalRequired(
        ts=row.requested_at,
        thread_id=row.thread_id,
        run_id=row.run_id,
        approval_id=row.approval_id,
        kind=row.kind,
        tool=row.tool,
        tool_call_id=row.tool_call_id,
        args=row.args,
        schema=row.schema,
        digest=row.digest,
        allowed=row.allowed,
        preview=row.preview,
        expires_at=row.expires_at,
    )
