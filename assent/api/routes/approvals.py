"""Approvals: what waits for people, on any thread."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import Query, Request, Response

from assent.api.access.refusals import refuse
from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses, streams_events
from assent.api.decision_bodies import ApprovalAnswer
from assent.api.deps import (
    AdmittedIfStreaming,
    AdmittedUnlessPage,
    OfThread,
    PageLimit,
    Text,
    TheActor,
    TheRuns,
)
from assent.api.dialects.native import FEED
from assent.api.event_query import TheReading
from assent.api.idempotency import TheKey
from assent.api.narrowing import narrowed
from assent.api.outcomes import decided_response, sees_thread
from assent.api.paths import prefix_of
from assent.api.problems import status_of
from assent.api.responses import json_response, page_response
from assent.api.routing import router_of
from assent.api.schemas import BatchRequest, CommentRequest, DelegateRequest, PreviewRequest
from assent.api.shapes.approvals import (
    ApprovalForYou,
    ApprovalsPage,
    EditPreview,
    Outcomes,
    OutcomeView,
)
from assent.api.shapes.common import EventsPage
from assent.api.streams.reading import events_response
from assent.api.streams.transport import Transport
from assent.api.views import approval_for, outcome_view
from assent.approvals.decide import Verdict
from assent.approvals.idempotency import Key
from assent.approvals.rules import AddComment, Delegate, PersonalAction, Withdraw
from assent.core.access import Right
from assent.core.approval import ApprovalStatus, Target
from assent.core.audit import Actor
from assent.core.digest import call_digest
from assent.core.errors import AssentError, ConfigurationError, Forbidden, InvalidRequest
from assent.core.json import Json, JsonObject
from assent.core.logs import feed_of_approvals
from assent.core.policy import Risk, duration_from_text
from assent.core.text import warnings
from assent.runs.approvals import Approvals
from assent.runs.service import Runs
from assent.storage.base import ApprovalOrder

router = router_of("approvals")

# ── looking ───────────────────────────────────────────────────────────────────────────────────────


@router.get("/approvals")
@may(Right.SEE, Thing.APPROVALS)
@answers(ApprovalsPage)
async def list_approvals(
    runs: TheRuns,
    by: TheActor,
    status: ApprovalStatus | None = None,
    thread_id: OfThread = None,
    agent: Text = None,
    tool: Text = None,
    role: Annotated[
        Text, Query(description="Approvals that people of this role may decide now")
    ] = None,
    assignee: Annotated[
        Text,
        Query(
            description="Approvals that this person may decide now, by name or by a voting right "
            "that was delegated to them"
        ),
    ] = None,
    risk: Risk | None = None,
    mine: Annotated[
        bool, Query(description="Only those that you may decide now, by approving or rejecting")
    ] = False,
    older_than: Annotated[Text, Query(description="A duration, such as `2h`")] = None,
    sort: Annotated[
        ApprovalOrder, Query(description="What comes first; `expiring` is what expires next")
    ] = "oldest",
    limit: PageLimit = 100,
    cursor: str | None = None,
) -> Response:
    """Approvals. `next` is the cursor of the next page, or null. With `mine` a page may have fewer
    than `limit`, and there may still be others behind it."""
    read = partial(
        runs.storage.approvals,
        status=status,
        thread_id=thread_id,
        agent=agent,
        tool=tool,
        role=role,
        assignee=assignee,
        risk=risk,
        before=None if older_than is None else _ago(older_than, runs.clock.now()),
        sort=sort,
        limit=limit,
    )
    if mine:
        page = await narrowed(read, cursor, lambda each: runs.approvals.standing(each, by).may)
    else:
        page = await read(cursor=cursor)
    return page_response("approvals", page, lambda each: approval_for(each, runs.approvals, by))


@router.get("/approvals/stream")
@may(Right.SEE, Thing.APPROVALS, ticket=Transport.SSE)
@streams_events
@answers(EventsPage)
@refuses(410)
async def stream(
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: AdmittedUnlessPage,
    reading: TheReading,
) -> Response:
    """Follow what happens to approvals on all threads, past `after` (or `Last-Event-ID`), replayed
    and then live; or a page of it as JSON, if you accept `application/json`. Numbers are the feed's
    own. What was asked and said is not in it: look at the approval."""
    return await events_response(request, runs.storage, feed_of_approvals(by.tenant), reading, FEED)


@router.get("/approvals/{id}")
@may(Right.SEE, Thing.APPROVAL)
@answers(ApprovalForYou)
async def get_approval(id: str, runs: TheRuns, by: TheActor) -> Response:
    """One approval, with what people said and decided, and what you may do about it."""
    return json_response(approval_for(await runs.approvals.get(id), runs.approvals, by))


# ── deciding ──────────────────────────────────────────────────────────────────────────────────────


@router.post("/approvals/decide")
@may(Right.DECIDE, Thing.BODY)
@answers(Outcomes)
@refuses(409)
async def decide_several(
    body: BatchRequest, request: Request, runs: TheRuns, by: TheActor, key: TheKey
) -> Response:
    """Decide several approvals of a low risk, on any threads. Each has an outcome of its own:
    `outcomes` has its `status` by id, and what `POST /approvals/{id}/decide` would have answered.
    Sent again under its key, what was decided is answered as then, and the rest is tried again."""
    if key is not None:
        await runs.approvals.claim(key)
    outcomes: dict[str, JsonObject] = {}
    for id, answer in body.decisions.items():
        outcomes[id] = await _decide_one(
            request, runs, id, answer, by, key.part(id) if key else None
        )
    return json_response({"outcomes": outcomes})


async def _decide_one(
    request: Request,
    runs: Runs,
    approval_id: str,
    answer: Json,
    by: Actor,
    key: Key | None,
) -> JsonObject:
    approvals = runs.approvals
    try:
        approval = await approvals.get(approval_id)
        if approval.risk != Risk.LOW:
            raise InvalidRequest(
                f"The approval {approval_id} is of {approval.risk} risk, "
                "so it is decided by itself, and not with others."
            )
        verdict = _verdict(approval_id, ApprovalAnswer(answer), by, key)
        outcome = await approvals.decide(approval.thread_id, verdict)
        is_seen = await sees_thread(request, runs, approval.thread_id)
        prefix = prefix_of(request)
        view = outcome_view(outcome, approvals.people, prefix, sees_thread=is_seen)
        return {**view, "status": 202}
    except AssentError as error:
        status = status_of(error)
        if status is None:
            raise
        if isinstance(error, Forbidden):
            refuse(request, by, approval_id=approval_id)
        return {"status": status, "detail": error.message, **error.details}


@router.post("/approvals/{id}/decide", status_code=202)
@may(Right.DECIDE, Thing.APPROVAL)
@streams_events
@answers(OutcomeView, 202, location=True)
@refuses(409, 410)
async def decide(
    id: str,
    body: ApprovalAnswer,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: AdmittedIfStreaming,
    key: TheKey,
) -> Response:
    """Decide one approval: the same as `POST /threads/{id}/resume` with its id. Where several must
    agree, it is pending until they do."""
    approval = await runs.approvals.get(id)
    is_seen = await sees_thread(request, runs, approval.thread_id)
    verdict = _verdict(id, body, by, key)
    outcome = await runs.approvals.decide(approval.thread_id, verdict)
    return decided_response(request, runs, outcome, sees_thread=is_seen)


@router.post("/approvals/{id}/preview")
@may(Right.DECIDE, Thing.APPROVAL)
@answers(EditPreview)
@refuses(409)
async def preview(id: str, body: PreviewRequest, runs: TheRuns, by: TheActor) -> Response:
    """What an edit to these arguments would mean, for whoever is about to make it: it is refused as
    the edit would be, and changes nothing."""
    edited, shown = await runs.approvals.preview(id, body.args, by)
    return json_response(
        {
            "args": body.args,
            "digest": call_digest(edited.tool, body.args),
            "preview": shown,
            "warnings": warnings({"args": body.args, "preview": shown}, "edit"),
            "risk": edited.risk,
            "quorum": edited.policy.quorum,
            "four_eyes": edited.policy.needs_another,
        }
    )


@router.post("/approvals/{id}/withdraw")
@may(Right.DECIDE, Thing.APPROVAL)
@answers(ApprovalForYou)
@refuses(409)
async def withdraw(id: str, runs: TheRuns, by: TheActor) -> Response:
    """Take your vote back."""
    return await _act(runs.approvals, id, Withdraw(by=runs.approvals.person(by)), by)


@router.post("/approvals/{id}/delegate")
@may(Right.DECIDE, Thing.APPROVAL)
@answers(ApprovalForYou)
@refuses(409)
async def delegate(id: str, body: DelegateRequest, runs: TheRuns, by: TheActor) -> Response:
    """Delegate your voting right to another person or role, or, by naming yourself, take it
    back."""
    to = Target(name=runs.approvals.people.canonical(body.to or ""), role=body.role or "")
    return await _act(runs.approvals, id, Delegate(by=runs.approvals.person(by), to=to), by)


@router.post("/approvals/{id}/comment", status_code=201)
@may(Right.SAY, Thing.APPROVAL)
@answers(ApprovalForYou, 201)
@refuses(409)
async def comment(id: str, body: CommentRequest, runs: TheRuns, by: TheActor) -> Response:
    """Say something about what is asked. It decides nothing."""
    action = AddComment(by=runs.approvals.person(by), text=body.text)
    return await _act(runs.approvals, id, action, by, status=201)


async def _act(
    approvals: Approvals, id: str, action: PersonalAction, by: Actor, *, status: int = 200
) -> Response:
    approval = await approvals.act(id, action, by)
    return json_response(approval_for(approval, approvals, by), status=status)


def _verdict(approval_id: str, answer: ApprovalAnswer, by: Actor, key: Key | None) -> Verdict:
    return Verdict(decisions=partial(answer.choices, approval_id), by=by, key=key)


def _ago(duration: str, now: datetime) -> datetime:
    try:
        return now - duration_from_text(duration)
    except ConfigurationError as error:
        raise InvalidRequest(f"The parameter older_than is wrong: {error.message}") from None
    except OverflowError:
        raise InvalidRequest(f"No calendar begins '{duration}' ago. Ask for less.") from None
