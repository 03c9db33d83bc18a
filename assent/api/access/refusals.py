"""Refusals as security events: of a decision, to somebody who is known."""

from __future__ import annotations

from fastapi import Request
from starlette.exceptions import HTTPException

from assent.api.access.identity import IDENTITY, SIGHT, TAKEN, Identity
from assent.api.access.rules import Rule, Thing
from assent.api.context import SCOPE_KEY, Served
from assent.core.access import Right
from assent.core.audit import Actor, AuditAction
from assent.core.errors import Forbidden
from assent.runs.security_events import Refusal

DECIDING = frozenset({Right.DECIDE, Right.RUN})
"""A message may decide too, in place of the decision that its thread waits for."""

NO_RIGHT = "they have no such right"
BY_RULE = "the rules of the approval"


def note_refused(request: Request, error: Exception, rule: Rule) -> None:
    """Note the error, if it refuses a decision to whoever sent the request."""
    identity: Identity | None = request.scope.get(IDENTITY)
    if identity is None:
        return
    if rule.thing is Thing.ITEMS:
        # What is refused there is somebody else's part of the store.
        return
    if isinstance(error, Forbidden) and rule.right in DECIDING:
        # They see what they may not decide, or it would be none for them: so its id is one of ours.
        is_seen = SIGHT in request.scope
        id = request.path_params.get("id", "") if is_seen else ""
        refuse(
            request,
            identity.actor,
            thread_id=id if rule.thing is Thing.THREAD else "",
            approval_id=id if rule.thing is Thing.APPROVAL else "",
        )
    elif _lacks_right(error) and _wants_to_decide(request, rule):
        refuse(request, identity.actor, why=NO_RIGHT)


def refuse(
    request: Request,
    actor: Actor,
    *,
    thread_id: str = "",
    approval_id: str = "",
    why: str = BY_RULE,
) -> None:
    """Note that a decision was refused to them."""
    server: Served | None = request.scope.get(SCOPE_KEY)
    if server is not None:
        server.refusals.note(
            Refusal(
                AuditAction.REFUSED,
                actor.authentication,
                actor.name,
                actor.tenant,
                thread_id=thread_id,
                approval_id=approval_id,
                why=why,
            )
        )


def _wants_to_decide(request: Request, rule: Rule) -> bool:
    """True if the request needed the right to decide, and got no further than that."""
    if rule.deciding:
        return request.scope.get(TAKEN) is Right.DECIDE
    return rule.right is Right.DECIDE and SIGHT not in request.scope


def _lacks_right(error: Exception) -> bool:
    return isinstance(error, HTTPException) and error.status_code == 403
