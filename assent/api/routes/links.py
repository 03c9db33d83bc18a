"""Links by which one person decides one approval, once. To open one decides nothing: programs that
scan mail open every link."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from assent.api.auth import LOCAL
from assent.api.deps import TheRuns, Who
from assent.api.link_page import MAX_REASON_CHARACTERS, asking_page, decided_page, refusing_page
from assent.api.responses import json_response
from assent.api.schemas import Body
from assent.approvals.decide import Verdict
from assent.core.errors import (
    AlreadyDecided,
    AssentError,
    Conflict,
    Forbidden,
    Gone,
    InvalidRequest,
    NotFound,
    NothingPending,
    Superseded,
    Tampered,
    Unavailable,
)
from assent.core.rows import Approval, ApprovalStatus, AuditAction, AuditEntry, Authentication, Link
from assent.notify.links import (
    DEFAULT_LIFETIME,
    MAX_LIFETIME,
    LinkKey,
    check_usable,
    decision_by,
    mark_used,
    new_link,
)
from assent.runs.service import Runs
from assent.storage.base import Change

router = APIRouter(tags=["links"])


class LinkRequest(Body):
    """For whom, for which decision (or for the person to choose), and for how many seconds."""

    recipient: str = Field(min_length=1, max_length=200)
    decision: Literal["approve", "reject"] | None = None
    expires_in: float = Field(
        default=DEFAULT_LIFETIME.total_seconds(),
        gt=0,
        le=MAX_LIFETIME.total_seconds(),
        allow_inf_nan=False,
    )


@router.post("/approvals/{id}/links", status_code=201)
async def create_link(
    id: str, body: LinkRequest, request: Request, runs: TheRuns, who: Who
) -> Response:
    """A link by which the recipient decides this approval, as it is asked now, once. Whoever has
    the link can use it: give it to nobody else. `url` is not shown again."""
    _check_may_make(request, who, body.recipient)
    approval = await runs.storage.approval(id)
    if approval is None:
        raise NotFound(f"There is no approval '{id}'.")
    if approval.status is not ApprovalStatus.PENDING:
        raise Conflict(
            f"The approval '{id}' is '{approval.status}', so there is nothing to decide.",
            outcome=approval.status,
        )
    key, now = _key(request), runs.now()
    link = new_link(
        approval,
        body.recipient,
        link_id=runs.new_id(),
        now=now,
        by=who,
        decision=body.decision,
        lasts=timedelta(seconds=body.expires_in),
    )
    await runs.storage.commit(Change(rows=(link,), unchanged=(approval,)))
    view = {
        "link_id": link.link_id,
        "url": key.url(link),
        "expires_at": link.expires_at,
        "decisions": link.decisions,
    }
    return json_response(view, status=201, headers={"Cache-Control": "no-store"})


@router.get("/links/{token}", response_class=HTMLResponse)
async def show(token: str, request: Request, runs: TheRuns) -> Response:
    """The page that shows what is asked. It decides nothing, however often it is opened."""
    try:
        link, approval = await _usable(token, request, runs)
    except AssentError as error:
        return await _refused(error, runs)
    return asking_page(approval, link)


@router.post("/links/{token}", response_class=HTMLResponse)
async def decide(token: str, request: Request, runs: TheRuns) -> Response:
    """Decide, as the page's form does: `decision`, and a `message` to reject with."""
    try:
        form = await _form(request)
        link, approval = await _usable(token, request, runs)
        decided = await _decide(runs, link, approval, form)
    except AssentError as error:
        return await _refused(error, runs)
    return decided_page(decided, form["decision"])


async def _decide(runs: Runs, link: Link, approval: Approval, form: dict[str, str]) -> Approval:
    """The approval as it is then."""
    decision = decision_by(link, form["decision"], form["message"])
    verdict = Verdict(
        decisions={approval.approval_id: decision},
        by=link.recipient,
        digests={approval.approval_id: link.digest},
        authentication=Authentication.SIGNED_LINK,
    )
    now = runs.now()
    decided = await runs.decide(
        approval.thread_id,
        verdict,
        along=lambda _: Change(rows=(mark_used(link, now),), audit=(_entry(link, now),)),
    )
    return next(each for each in decided.approvals if each.approval_id == approval.approval_id)


def _entry(link: Link, now: datetime) -> AuditEntry:
    return AuditEntry(
        at=now,
        action=AuditAction.LINK_USED,
        actor=link.recipient,
        authentication=Authentication.SIGNED_LINK,
        thread_id=link.thread_id,
        approval_id=link.approval_id,
        digest=link.digest,
        detail={"link_id": link.link_id, "created_by": link.created_by},
    )


async def _usable(token: str, request: Request, runs: Runs) -> tuple[Link, Approval]:
    link = await _key(request).find(runs.storage, token)
    approval = await runs.storage.approval(link.approval_id)
    if approval is None:
        raise NotFound("There is no such link.")
    check_usable(link, approval, runs.now())
    return link, approval


async def _form(request: Request) -> dict[str, str]:
    body = (await request.body()).decode("utf-8", "replace")
    try:
        fields = parse_qs(body, max_num_fields=10)
    except ValueError:
        raise InvalidRequest("This is not what the page's form sends.") from None
    said = {name: fields.get(name, [""])[0] for name in ("decision", "message")}
    return {**said, "message": said["message"][:MAX_REASON_CHARACTERS].replace("\r\n", "\n")}


def _key(request: Request) -> LinkKey:
    key: LinkKey | None = request.app.state.links
    if key is None:
        raise NotFound(
            "This server makes no links: it does not know its own address. Set ASSENT_PUBLIC_URL."
        )
    return key


def _check_may_make(request: Request, who: str, recipient: str) -> None:
    """Whoever can make a link can decide as its recipient."""
    if who not in (LOCAL, recipient, *request.app.state.link_issuers):
        raise Forbidden(
            f"'{who}' may not make links for others, by which they decide. Name him in ASSENT_LINK_ISSUERS if he should."
        )


# ── what the page says ────────────────────────────────────────────────────────────────────────────

_PAGES: tuple[tuple[type[AssentError], int, str, str], ...] = (
    (
        NotFound,
        404,
        "No such link",
        "There is no such link. It may have been cut off when it was copied: open it from its message.",
    ),
    (
        Forbidden,
        403,
        "Not yours to decide",
        "This is for others to decide: for other roles, or because you asked for it yourself. Nothing was changed.",
    ),
    (
        Superseded,
        409,
        "This has changed",
        "What is asked has been changed since this link was made. Ask for a new one.",
    ),
    (AlreadyDecided, 409, "Already decided", "This has been decided already. Nothing was changed."),
    (NothingPending, 409, "Already decided", "This has been decided already. Nothing was changed."),
    (Conflict, 410, "This link was used", "This link has been used. It works once."),
    (
        InvalidRequest,
        422,
        "This cannot be",
        "This link is not for this decision. Nothing was changed.",
    ),
    (
        Tampered,
        500,
        "Something is wrong",
        "What the server has stored of this is not what it has written. Nothing was changed.",
    ),
    (
        Unavailable,
        503,
        "Not now",
        "The server cannot store a decision at the moment. Nothing was changed; try again in a minute.",
    ),
)


async def _refused(error: AssentError, runs: Runs) -> Response:
    """Why, without a word of what is stored: whoever has the link may not be whom it was for."""
    if isinstance(error, Gone):
        return refusing_page("This link is over", error.message, 410)
    if isinstance(error, Tampered):
        await runs.distrust(str(error.details["thread_id"]), error)
    for kind, status, title, sentence in _PAGES:
        if isinstance(error, kind):
            return refusing_page(title, sentence, status)
    raise error
