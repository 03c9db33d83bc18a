"""Links by which one person decides one approval, once. Opening a link decides nothing: programs
that scan mail open every link."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import Field, StrictFloat

from assent.api import link_answers
from assent.api.access.limiting import attempting
from assent.api.access.refusals import refuse
from assent.api.access.rules import Thing, may, open_to_all
from assent.api.answers import HTML, answers, refuses, refuses_by_page
from assent.api.context import served
from assent.api.deps import TheActor, TheRuns
from assent.api.limits import FORM_BODY
from assent.api.link_page import (
    MAX_REASON_CHARACTERS,
    STYLE,
    STYLE_FILE,
    asking_page,
    decided_page,
    refusing_page,
)
from assent.api.problems import distrust
from assent.api.responses import NO_STORE, json_response
from assent.api.routing import JsonRoute, takes
from assent.api.schemas import Body, Name
from assent.api.shapes.approvals import LinkView
from assent.approvals.decide import Verdict
from assent.approvals.people import check_alone
from assent.core.access import Right
from assent.core.approval import Approval
from assent.core.audit import Authentication
from assent.core.decisions import Approve, Decision, Reject, Respond
from assent.core.errors import (
    AlreadyDecided,
    AssentError,
    Conflict,
    Forbidden,
    Gone,
    InvalidDecision,
    InvalidRequest,
    NotFound,
    NothingPending,
    Superseded,
    Tampered,
    Unavailable,
)
from assent.core.question_text import NotUnderstood
from assent.core.rows import Link
from assent.notify.links import (
    DEFAULT_LIFETIME,
    MAX_LIFETIME,
    LinkKey,
    check_chosen,
    check_usable,
    new_link,
    store_link,
    using,
)
from assent.runs.service import Runs

# Programs that send links, or that open them, may add parameters of theirs: all are let in.
router = APIRouter(tags=["links"], route_class=JsonRoute)

MAX_FIELDS = 200
"""The most fields of a form: more than a question that a person can fill in has."""


class LinkRequest(Body):
    """The recipient of a link, its decision (default: the recipient chooses), and its lifetime in
    seconds."""

    recipient: Name
    decision: Literal["approve", "reject", "respond"] | None = None
    expires_in: StrictFloat = Field(
        default=DEFAULT_LIFETIME.total_seconds(),
        gt=0,
        le=MAX_LIFETIME.total_seconds(),
        allow_inf_nan=False,
    )


@router.post("/approvals/{id}/links", status_code=201)
@may(Right.DECIDE, Thing.APPROVAL)
@answers(LinkView, 201)
@refuses(409)
async def create_link(
    id: str, body: LinkRequest, request: Request, runs: TheRuns, by: TheActor
) -> Response:
    """Create a link by which the recipient can decide, once, what this approval asks now.

    Whoever has the link can use it: give it to nobody else. `url` is not shown again.
    """
    check_alone(by)
    recipient = runs.approvals.people.canonical(body.recipient)
    # Whoever can create a link can decide as its recipient.
    is_anybody = by.authentication is Authentication.LOCAL
    if not is_anybody and by.name not in (recipient, *served(request).link_issuers):
        raise Forbidden(
            f"'{by.name}' may not make links for others, because links decide in their name. "
            f"To permit it, add '{by.name}' to ASSENT_LINK_ISSUERS."
        )
    approval = await runs.approvals.get(id)
    if not by.approves.takes(approval):
        # What is decided by a link counts, whoever made it.
        raise Forbidden(f"'{by.name}' may not decide this, so they may make no link for it either.")
    if not approval.is_pending:
        raise Conflict(
            f"The approval '{id}' is '{approval.status}', so there is nothing to decide.",
            outcome=approval.status,
        )
    key, now = _key(request), runs.clock.now()
    link = new_link(
        approval,
        recipient,
        link_id=runs.clock.new_id(),
        now=now,
        by=by.name,
        decision=body.decision,
        lasts=timedelta(seconds=body.expires_in),
    )
    await store_link(runs.storage, link, approval)
    view = {
        "link_id": link.link_id,
        "url": key.url(link),
        "expires_at": link.expires_at,
        "decisions": link.decisions,
    }
    return json_response(view, status=201, headers=NO_STORE)


@router.get(f"/links/{STYLE_FILE}")
@open_to_all("The page looks the same to everybody.")
@answers(str, media_type="text/css", description="The styles of the page")
async def style() -> Response:
    """How the page looks."""
    return Response(STYLE, media_type="text/css", headers={"Cache-Control": "max-age=86400"})


@router.get("/links/{token}", response_class=HTMLResponse)
@open_to_all("The token in the URL is the authority.")
@answers(str, media_type=HTML, description="The page with the question")
@refuses_by_page(403, 404, 409, 410, 422, 500, 503)
async def show(token: str, request: Request) -> Response:
    """The page with the question. It decides nothing, however often it is opened."""
    runs = served(request).program
    try:
        link, approval = await _usable(token, request, runs)
        recipient = await runs.approvals.recipient(link, approval)
        if not recipient.approves.takes(approval):
            raise Forbidden(f"'{recipient.name}' may not decide this any more.")
    except AssentError as error:
        return await _refused(error, runs)
    return asking_page(approval, link)


@router.post("/links/{token}", response_class=HTMLResponse)
@open_to_all("The token in the URL is the authority.")
@answers(str, media_type=HTML, description="The page that says what was decided")
@refuses_by_page(403, 404, 409, 410, 422, 500, 503)
@takes(FORM_BODY)
async def decide(token: str, request: Request) -> Response:
    """Decide, as the page's form does: `decision`, and a `message` if it is `reject`, or the inputs
    of the answer if it is `respond`. An answer that the question does not take can be corrected on
    the same page."""
    runs = served(request).program
    try:
        # First, since who has no link could send forms all the time.
        link, approval = await _usable(token, request, runs)
        given = await _form(request)
        try:
            decision = _chosen(link, approval, given)
            decided = await _decide(request, runs, link, approval, decision)
        except (InvalidDecision, NotUnderstood) as problem:
            if given.get("decision") != "respond":
                raise
            return asking_page(approval, link, given=given, problem=str(problem))
    except AssentError as error:
        return await _refused(error, runs)
    return decided_page(decided, given["decision"])


def _chosen(link: Link, approval: Approval, given: Mapping[str, str]) -> Decision:
    """The decision in the form. Raises `InvalidRequest` or `NotUnderstood`."""
    chosen = given.get("decision", "")
    check_chosen(link, chosen)
    if chosen == "approve":
        return Approve()
    if chosen == "reject":
        return Reject(message=given.get("message", "")[:MAX_REASON_CHARACTERS])
    return Respond(message=link_answers.read(approval, given))


async def _decide(
    request: Request, runs: Runs, link: Link, approval: Approval, decision: Decision
) -> Approval:
    verdict = Verdict(
        decisions={approval.approval_id: decision},
        by=await runs.approvals.recipient(link, approval),
        digests={approval.approval_id: link.digest},
        also=using(link, approval, runs.clock.now()),
    )
    try:
        outcome = await runs.approvals.decide(approval.thread_id, verdict)
    except Forbidden:
        refuse(request, verdict.by, approval_id=approval.approval_id)
        raise
    return next(each for each in outcome.approvals if each.approval_id == approval.approval_id)


async def _usable(token: str, request: Request, runs: Runs) -> tuple[Link, Approval]:
    async with attempting(served(request).limiting, request, token, wrong=NotFound):
        link = await _key(request).find(runs.storage, token)
    approval = await runs.storage.approval(link.approval_id)
    if approval is None:
        raise NotFound("There is no such link.")
    check_usable(link, approval, runs.clock.now())
    return link, approval


async def _form(request: Request) -> dict[str, str]:
    """The form's fields. Of one that is given several times, the first counts."""
    body = (await request.body()).decode("utf-8", "replace")
    try:
        fields = parse_qs(body, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidRequest("The body is not that of the page's form.") from None
    return {name: values[0].replace("\r\n", "\n") for name, values in fields.items()}


def _key(request: Request) -> LinkKey:
    key = served(request).links
    if key is None:
        raise NotFound(
            "This server makes no links: it does not know its own address. Set ASSENT_PUBLIC_URL."
        )
    return key


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────

_PAGES: tuple[tuple[type[AssentError] | tuple[type[AssentError], ...], int, str, str], ...] = (
    (
        NotFound,
        404,
        "No such link",
        "There is no such link. It may have been cut off when it was copied: "
        "open it from its message.",
    ),
    (
        Forbidden,
        403,
        "Not yours to decide",
        "Others must decide this: it takes another role, or you asked for it yourself. "
        "Nothing was changed.",
    ),
    (
        Superseded,
        409,
        "This has changed",
        "The question has been changed since this link was made. Ask for a new link.",
    ),
    (
        (AlreadyDecided, NothingPending),
        409,
        "Already decided",
        "This has been decided already. Nothing was changed.",
    ),
    (Conflict, 410, "This link was used", "This link has been used. It works once."),
    (
        InvalidRequest,
        422,
        "Not possible",
        "This link is not for this decision. Nothing was changed.",
    ),
    (
        Tampered,
        500,
        "Something is wrong",
        "The server's stored data was changed from outside. Nothing was decided.",
    ),
    (
        Unavailable,
        503,
        "Not now",
        "The server cannot store a decision at the moment. "
        "Nothing was changed; try again in a minute.",
    ),
)


async def _refused(error: AssentError, runs: Runs) -> Response:
    """The page for an error. It shows nothing that is stored, as it may not be the recipient who
    has the link."""
    if isinstance(error, Gone):
        return refusing_page("This link is over", error.message, 410)
    if isinstance(error, Tampered):
        await distrust(runs, error)
    for kinds, status, title, sentence in _PAGES:
        if isinstance(error, kinds):
            return refusing_page(title, sentence, status)
    raise error
