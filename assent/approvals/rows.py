"""Approvals as they are stored, and as the questions that the rules are about; grants alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from assent.approvals.grants import Bound, Grant
from assent.approvals.rules import Comment, Delegation, Edited, Question, Vote
from assent.core.policy import Person, policy_digest, policy_from_json, policy_to_json
from assent.core.rows import Approval, StandingGrant

Json = Any
"""Any JSON value."""

S = TypeVar("S", bound=msgspec.Struct)


def question_of(row: Approval) -> Question:
    """What the row asks, and how it stands."""
    return Question(
        approval_id=row.approval_id,
        thread_id=row.thread_id,
        run_id=row.run_id,
        kind=row.kind,
        digest=row.digest,
        policy=policy_from_json(row.policy),
        allowed=row.allowed,
        requested_at=row.requested_at,
        # One that was asked before there were policies has none of what came with them.
        step_at=row.step_at or row.requested_at,
        tool=row.tool,
        tool_call_id=row.tool_call_id,
        args=row.args,
        requested_by=row.requested_by,
        status=row.status,
        edit=None if row.edit is None else _read(row.edit, Edited),
        step=row.step,
        expires_at=row.expires_at,
        reminded_at=row.reminded_at,
        votes=tuple(_read(each, Vote) for each in row.votes),
        delegations=tuple(_read(each, Delegation) for each in row.delegations),
        comments=tuple(_read(each, Comment) for each in row.comments),
        decision=None if row.decision is None else dict(row.decision),
        decided_by=row.decided_by,
        decided_at=row.decided_at,
    )


def row_of(row: Approval, question: Question) -> Approval:
    """The row with the question as it stands now; its version stays."""
    roles, names = question.policy.asked(question.step)
    roles |= {each.to.role for each in question.delegations if each.to.role}
    return replace(
        row,
        status=question.status,
        allowed=question.allowed,
        expires_at=question.expires_at,
        decision=question.decision,
        decided_by=question.decided_by,
        decided_at=question.decided_at,
        requested_by=question.requested_by,
        risk=str(question.policy.risk),
        roles=tuple(sorted(roles)),
        names=tuple(sorted(names)),
        assignees=tuple(each.to.name for each in question.delegations if each.to.name),
        step=question.step,
        step_at=question.step_at,
        reminded_at=question.reminded_at,
        policy_digest=policy_digest(question.policy),
        policy=policy_to_json(question.policy),
        edit=None if question.edit is None else _written(question.edit),
        votes=tuple(map(_written, question.votes)),
        delegations=tuple(map(_written, question.delegations)),
        comments=tuple(map(_written, question.comments)),
    )


def grant_of(row: StandingGrant) -> Grant:
    """The grant of a row."""
    return Grant(
        grant_id=row.grant_id,
        agent=row.agent,
        tool=row.tool,
        bounds=msgspec.convert(dict(row.bounds), dict[str, Bound]),
        given_by=Person(name=row.given_by, roles=row.roles),
        given_at=row.given_at,
        until=row.until,
        uses=row.uses,
        thread_id=row.thread_id,
        user=row.user,
        used=row.used,
        revoked_by=row.revoked_by,
        revoked_at=row.revoked_at,
    )


def grant_row(grant: Grant, version: int = 1) -> StandingGrant:
    """The grant as a row."""
    return StandingGrant(
        grant_id=grant.grant_id,
        agent=grant.agent,
        tool=grant.tool,
        bounds={name: _written(bound) for name, bound in grant.bounds.items()},
        given_by=grant.given_by.name,
        roles=grant.given_by.roles,
        given_at=grant.given_at,
        until=grant.until,
        uses=grant.uses,
        thread_id=grant.thread_id,
        user=grant.user,
        used=grant.used,
        revoked_by=grant.revoked_by,
        revoked_at=grant.revoked_at,
        version=version,
    )


def _read(value: Mapping[str, Json], kind: type[S]) -> S:
    # Times are texts in JSON.
    return msgspec.convert(dict(value), kind, strict=True)


def _written(value: msgspec.Struct) -> Mapping[str, Json]:
    return dict(msgspec.to_builtins(value))
