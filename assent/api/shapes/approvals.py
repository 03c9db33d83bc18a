"""Approvals, what was decided, and what may be decided in advance or by a link."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from assent.api.shapes.common import Time
from assent.core.approval import ApprovalKind, ApprovalStatus, Comment, Delegation, Edited, Vote
from assent.core.decisions import Decision
from assent.core.grant import Bound
from assent.core.json import Json, JsonObject


class FirstAsked(TypedDict):
    """The arguments that were asked first, before somebody edited them."""

    args: Json
    digest: str


class ApprovalView(TypedDict):
    """A question to people, and where it stands. `args` and `digest` are what is asked now."""

    approval_id: str
    thread_id: str
    run_id: str
    agent: str
    node: str
    tool_call_id: str
    kind: ApprovalKind
    tool: str
    args: Json
    schema: JsonObject | None
    digest: str
    asked_first: FirstAsked | None
    status: ApprovalStatus
    allowed: list[str]
    requested_at: Time
    requested_by: list[str]
    expires_at: Time | None
    preview: Json
    conversation: dict[str, str]
    risk: str
    roles: list[str]
    names: list[str]
    assignees: list[str]
    step: int
    quorum: int
    four_eyes: bool
    edit: Edited | None
    votes: list[Vote]
    delegations: list[Delegation]
    comments: list[Comment]
    policy_digest: str
    decision: Decision | None
    decided_by: str | None
    decided_at: Time | None
    warnings: list[str]
    shortage: str | None


class Yours(TypedDict):
    """What you may do about an approval: the types of decision, and why not all that it takes."""

    may: list[str]
    why_not: str | None


class ApprovalForYou(ApprovalView):
    """An approval, and what you may do about it."""

    yours: Yours


class EditPreview(TypedDict):
    """What an edit would mean: the arguments with their digest, what the tool shows of such a call,
    and what it would take to approve it."""

    args: JsonObject
    digest: str
    preview: Json
    warnings: list[str]
    risk: str
    quorum: int
    four_eyes: bool


class ApprovalsPage(TypedDict):
    """Approvals, and the cursor of the next page."""

    approvals: list[ApprovalForYou]
    next: str | None


class OutcomeView(TypedDict):
    """What decisions have come to. `pending` are the approvals that still wait, and `events` is
    where to follow what happens now, null for whoever does not see the thread."""

    thread_id: str
    run_id: str | None
    status: str
    decisions: dict[str, ApprovalView]
    pending: list[str]
    events: str | None


class OutcomeOfOne(TypedDict):
    """The outcome of one approval of several: the `status` and the members that it would have been
    answered with by itself."""

    status: int
    detail: NotRequired[str]


class Outcomes(TypedDict):
    """The outcome of each approval, by its id."""

    outcomes: dict[str, OutcomeOfOne]


class GrantView(TypedDict):
    """A standing grant."""

    grant_id: str
    agent: str
    tool: str
    bounds: dict[str, Bound]
    thread_id: str | None
    user: str | None
    given_by: str
    given_at: Time
    until: Time
    uses: int
    used: int
    revoked_by: str | None
    revoked_at: Time | None


class GrantsPage(TypedDict):
    """Grants, and the cursor of the next page."""

    grants: list[GrantView]
    next: str | None


class LinkView(TypedDict):
    """A link by which its recipient can decide once. `url` is shown only here."""

    link_id: str
    url: str
    expires_at: Time
    decisions: list[str]
