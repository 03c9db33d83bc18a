"""What people click in Slack. Slack signs each request, and the operator has said who its users
are; their decisions are those that they would make with a key, by the same rules."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from fastapi import Request, Response
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from assent.api.access.identity import Credential, Found, Identity
from assent.api.access.refusals import NO_RIGHT, refuse
from assent.api.access.rules import open_to_all
from assent.api.answers import answers, refuses
from assent.api.context import served
from assent.api.limits import FORM_BODY
from assent.api.problems import distrust, status_of
from assent.api.responses import json_response
from assent.api.routing import router_of, takes
from assent.api.shapes.slack import SlackAnswer
from assent.api.slack_clicks import (
    CLICK,
    DIALOG,
    MAX_SAID,
    Interaction,
    decision_of,
    dialog,
    first_input,
    interaction_in,
    sentence,
)
from assent.approvals.decide import Verdict
from assent.approvals.idempotency import Key
from assent.approvals.people import listed
from assent.approvals.rules import already_decided
from assent.core.access import Right
from assent.core.approval import Approval
from assent.core.audit import Actor, Authentication
from assent.core.errors import (
    AssentError,
    Forbidden,
    InvalidRequest,
    NotFound,
    Superseded,
    Tampered,
    TooManyRequests,
)
from assent.core.text import clipped
from assent.notify.notifier import NotDelivered
from assent.notify.slack import Slack
from assent.notify.slack_cards import offered
from assent.runs.service import Runs

log = structlog.get_logger(__name__)

INTERACTION = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "payload": {"type": "string", "description": "The interaction, as JSON"}
                    },
                    "required": ["payload"],
                }
            }
        },
    }
}
"""The body of what Slack sends, for the OpenAPI document."""

router = router_of("slack")


class Refused(Exception):
    """Somebody is told this, and nothing was decided. It `is_outdated` if the message in which they
    clicked shows something else than the approval is now. What they typed into the `input` of a
    dialog can be corrected there."""

    def __init__(self, text: str, *, is_outdated: bool = False, input: str = "") -> None:
        super().__init__(text)
        self.is_outdated = is_outdated
        self.input = input


class Clicker(NamedTuple):
    """Whoever clicked, and the runs as they may decide on them."""

    identity: Identity
    runs: Runs


@router.post("/slack/actions", openapi_extra=INTERACTION)
@open_to_all("The signature of Slack is the authentication.")
@answers(SlackAnswer)
@refuses(401, 404, 422)
@takes(FORM_BODY)
async def act(request: Request) -> Response:
    """Take what somebody clicked in Slack, as Slack sends it (its app's request URL for
    interactivity). Whatever cannot be done is told to them, and to nobody else."""
    slack = served(request).slack
    if slack is None:
        raise NotFound(
            "This server has no app in Slack. Write the section 'slack' of its configuration."
        )
    body = await request.body()
    headers = request.headers
    signed = slack.is_signed(
        body,
        headers.get("x-slack-request-timestamp", ""),
        headers.get("x-slack-signature", ""),
    )
    if not signed:
        raise HTTPException(
            401,
            "Slack has not signed this for the app of this server, or more than five minutes ago.",
            headers={"WWW-Authenticate": "Slack"},
        )
    interaction = interaction_in(body)
    if interaction.type not in (CLICK, DIALOG) or not interaction.kind:
        return Response()
    click = _Click(request, slack, interaction, hashlib.sha256(body).hexdigest())
    return await (click.clicked() if interaction.type == CLICK else click.submitted())


@dataclass(frozen=True, slots=True)
class _Click:
    """A click on a button, or the end of a dialog. `digest` is the same if Slack sends it again."""

    request: Request
    slack: Slack
    interaction: Interaction
    digest: str

    async def clicked(self) -> Response:
        """Decide, or open the dialog for it. Slack waits three seconds for its answer, so all that
        is sent to Slack is sent behind that."""
        try:
            by = self._clicker()
            if self.interaction.kind == "approve":
                decided = await self._decide(by)
                if (text := _still_needed(decided)) is None:
                    return Response()
                return _before(self._tell, text)
            return _before(self._open, await self._shown(by))
        except Refused as refusal:
            return _before(self._refuse, refusal)

    async def submitted(self) -> Response:
        """Decide as the dialog says, or show in it what is wrong."""
        try:
            decided = await self._decide(self._clicker())
        except Refused as refusal:
            if not refusal.input:
                return _said(str(refusal))
            errors = {refusal.input: clipped(str(refusal), MAX_SAID)}
            return json_response({"response_action": "errors", "errors": errors})
        text = _still_needed(decided)
        return Response() if text is None else _said(text)

    # ── deciding ──

    async def _decide(self, by: Clicker) -> Approval:
        """The approval as it is after the decision. Raises `Refused`."""
        shown, kind = self.interaction.shown, self.interaction.kind
        approval = await self._seen(by)
        try:
            decision = decision_of(kind, approval, self.interaction.typed)
            verdict = Verdict(
                decisions={shown.approval_id: decision},
                by=by.identity.actor,
                digests={shown.approval_id: shown.digest},
                key=Key.given(self.digest, by.identity.owner, "slack", self.digest),
            )
            outcome = await by.runs.approvals.decide(approval.thread_id, verdict)
        except InvalidRequest as error:
            is_typed = self.interaction.type == DIALOG
            raise Refused(
                error.message, input=first_input(approval, kind) if is_typed else ""
            ) from None
        except AssentError as error:
            raise await self._refusal(error, by) from None
        return next(row for row in outcome.approvals if row.approval_id == shown.approval_id)

    async def _shown(self, by: Clicker) -> Approval:
        """The approval for which a dialog is to be opened. Raises `Refused`."""
        approval = await self._seen(by)
        if not approval.is_pending:
            raise await self._refusal(already_decided(approval), by)
        if approval.current_digest != self.interaction.shown.digest:
            changed = Superseded("This was changed since it was shown. Look at it again.")
            raise await self._refusal(changed, by)
        if self.interaction.kind not in offered(approval):
            raise Refused(
                "The approval does not take this decision, or not from here.", is_outdated=True
            )
        return approval

    async def _refusal(self, error: AssentError, by: Clicker) -> Refused:
        """What whoever clicked is told of an error. Raises it if it is the server's fault."""
        if isinstance(error, Tampered):
            await distrust(served(self.request).program, error)
        if status_of(error) is None:
            raise error
        shown = self.interaction.shown
        if isinstance(error, Forbidden):
            refuse(self.request, by.identity.actor, approval_id=shown.approval_id)
        approval = await by.runs.storage.approval(shown.approval_id)
        is_outdated = approval is not None and (
            not approval.is_pending or approval.current_digest != shown.digest
        )
        return Refused(f"{error.message} Nothing was changed.", is_outdated=is_outdated)

    async def _seen(self, by: Clicker) -> Approval:
        """The approval, if whoever clicked may see it. Raises `Refused`."""
        try:
            return await by.runs.approvals.get(self.interaction.shown.approval_id)
        except AssentError as error:
            raise await self._refusal(error, by) from None

    def _clicker(self) -> Clicker:
        """The person behind the Slack user. Raises `Refused` for somebody whom nobody has named,
        and for whoever may decide nothing."""
        server, user = served(self.request), self.interaction.user
        name = self.slack.app.person(self.interaction.team_id, user.id)
        if name is None:
            actor = Actor("", Authentication.SLACK)
            refuse(self.request, actor, why="a Slack user whom the configuration does not name")
            raise Refused(
                f"This server does not know you. Its operator can name you: you are {user.id} of "
                f"the workspace {self.interaction.team_id}. Nothing was changed."
            )
        # The keys that a person has elsewhere may give them less than everybody has.
        found = Found(
            name,
            Authentication.SLACK,
            Credential("slack", f"{self.interaction.team_id}:{user.id}"),
            takes_defaults=False,
        )
        identity = server.access.identity_of(found)
        if server.limiting is not None:
            try:
                server.limiting.count_person(identity.owner)
            except TooManyRequests as error:
                raise Refused(error.message) from None
        if Right.DECIDE not in identity.rights:
            refuse(self.request, identity.actor, why=NO_RIGHT)
            raise Refused(
                f"'{name}' may not decide anything here: it takes the role approver. "
                "Nothing was changed."
            )
        return Clicker(identity, server.program.seen_by(identity.sight(Right.DECIDE)))

    # ── telling ──

    async def _tell(self, text: str) -> None:
        """Tell whoever clicked."""
        try:
            await self.slack.tell(self.interaction.response_url, text)
        except NotDelivered as error:
            log.warning("somebody in Slack was not told", why=str(error))

    async def _refuse(self, refusal: Refused) -> None:
        """Tell whoever clicked why nothing was decided, and bring the message up to date in which
        they did: it may be one whose delivery was never recorded."""
        await self._tell(str(refusal))
        place = self.interaction.container
        if not refusal.is_outdated or not place.message_ts:
            return
        message = {"channel": place.channel_id, "ts": place.message_ts}
        try:
            await self.slack.bring_up_to_date(message, self.interaction.shown.approval_id)
        except NotDelivered as error:
            log.warning("a message in Slack is out of date", why=str(error))

    async def _open(self, approval: Approval) -> None:
        """Open the dialog for the decision."""
        try:
            view = dialog(approval, self.interaction.kind)
            trigger = self.interaction.trigger_id
            await self.slack.call("views.open", {"trigger_id": trigger, "view": view})
        except InvalidRequest as error:
            await self._tell(error.message)
        except NotDelivered as error:
            log.warning("a dialog in Slack was not opened", why=str(error))
            await self._tell("The dialog could not be opened. Nothing was changed: click again.")


def _before(then: Callable[..., Awaitable[None]], *args: object) -> Response:
    """An answer, after which that is done."""
    return Response(background=BackgroundTask(then, *args))


def _said(text: str) -> Response:
    """The dialog says this in place of what it was."""
    return json_response({"response_action": "update", "view": sentence(text)})


def _still_needed(approval: Approval) -> str | None:
    """Who is still needed, if the decision was a vote that has decided nothing yet."""
    if not approval.is_pending:
        return None
    agreed = [vote.by for vote in approval.agreeing]
    said = f"{listed(agreed)} agreed" if agreed else "nobody has agreed yet"
    return f"Noted. It takes {approval.policy.quorum} people, and so far {said}."
