"""The enforcement of a route's rule: who sends the request, whether they have the right, and what
they see. Nothing else says so, and what was not authorized sees nothing."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request
from starlette.exceptions import HTTPException

from assent.api.access.identity import (
    ASKED_ANEW,
    BY_APP,
    IDENTITY,
    SIGHT,
    TAKEN,
    Identity,
    signed_out,
)
from assent.api.access.origins import check_page
from assent.api.access.rules import Rule
from assent.api.context import SCOPE_KEY, Served, served
from assent.api.paths import inner_prefix
from assent.api.streams.connections import AsReader
from assent.api.streams.requests import Requests
from assent.core.access import NOTHING, RIGHTS, Right, Sight
from assent.core.errors import Unavailable

REFUSED = (401, 403)
"""The statuses by which somebody is told that they may not."""


async def authorize(request: Request, rule: Rule) -> None:
    """Raise 400, 401, 403 or 429 if the request may not be made. Else its scope has who sends it,
    and what they see."""
    server: Served | None = request.scope.get(SCOPE_KEY)
    is_anew = request.scope.get(ASKED_ANEW, False)
    limiting = server.limiting if server is not None and not is_anew else None
    if limiting is not None:
        limiting.count_address(request.scope)
    if rule.right is None:
        request.scope[SIGHT] = NOTHING
        return
    identity = await served(request).access.identify(request, rule)
    if identity.credential.kind != "local":
        # Without keys that is asked of every request, before anything else.
        check_page(request, served(request).origins)
    if limiting is not None:
        limiting.count_person(identity.owner)
    request.scope[IDENTITY] = identity
    if identity.rights.isdisjoint(rule.rights):
        raise HTTPException(403, _lacking(rule.rights, identity))
    if rule.whole and identity.owner.tenant is not None:
        raise HTTPException(
            403,
            f"This is about every tenant of the server, and '{identity.owner.name}' is of the "
            f"tenant '{identity.owner.tenant}'. It is for people without a tenant.",
        )
    request.scope[SIGHT] = _sight(identity, rule.rights)


def take(request: Request, right: Right) -> None:
    """Let the request see what comes with this right, which its body takes. Raises 403."""
    rule: Rule = request.scope["route"].rule
    assert right in rule.rights, f"The route has no rule for the right '{right}'."
    identity = identity_of(request)
    request.scope[TAKEN] = right
    if right not in identity.rights:
        raise HTTPException(403, _lacking((right,), identity))
    request.scope[SIGHT] = identity.sight(right)


def _sight(identity: Identity, rights: Sequence[Right]) -> Sight:
    """The sight that comes with the right; nothing while it is not known which of several the body
    takes."""
    return identity.sight(rights[0]) if len(rights) == 1 else NOTHING


def may_be_authorized(request: Request) -> bool:
    """True if it can be said who sends the request: not before an app's own dependencies have
    found its server, or its sender."""
    server = request.scope.get(SCOPE_KEY)
    return server is not None and (not server.access.waits_for_app or BY_APP in request.scope)


async def authorized(request: Request) -> None:
    """The dependency by which a route is authorized where its handler could not do it, and by which
    the project's own rules are asked, which see the body."""
    rule: Rule = request.scope["route"].rule
    if SIGHT not in request.scope:
        await authorize(request, rule)
    else:
        # Meanwhile the body has come, which may have taken a minute.
        await check_still(request)
    project = served(request).project_auth
    if project is not None and rule.right is not None:
        await project.permit(request, rule)


async def check_still(request: Request) -> None:
    """Raise 401 or 403 if whoever sent the request, and took their time with its body or waited for
    its answer, may not make it any more."""
    known: Identity | None = request.scope.get(IDENTITY)
    rights = _rights(request)
    if known is None or not rights:
        return
    access = served(request).access
    if known.is_of_request and not access.is_recent(known):
        if not await says_app(Requests(request.scope, inner_prefix(request.scope)), known):
            raise signed_out()
        return
    identity = await access.still(known)
    if identity.rights.isdisjoint(rights):
        raise HTTPException(403, _lacking(rights, identity))
    if identity is not known:
        request.scope.update({IDENTITY: identity, SIGHT: _sight(identity, rights)})


async def says_app(requests: AsReader, identity: Identity) -> bool:
    """True if the app around the server, or the project's own `Auth`, says the same of whoever
    has asked as it did then. Raises `Unavailable` if it says nothing."""
    status, body = await requests.get("/me")
    if status in REFUSED:
        return False
    if status != 200 or not isinstance(body, dict):
        raise Unavailable(f"Who has asked could not be made sure of: the app answered {status}.")
    return (body["name"], body["tenant"], tuple(body["roles"])) == (
        *identity.owner,
        identity.roles,
    )


def _rights(request: Request) -> tuple[Right, ...]:
    """The rights of which the request takes one: the one, once its body has said which."""
    rule: Rule = request.scope["route"].rule
    taken: Right | None = request.scope.get(TAKEN)
    return rule.rights if taken is None else (taken,)


def sight_of(request: Request) -> Sight:
    """The sight of a request that was authorized."""
    sight: Sight | None = request.scope.get(SIGHT)
    assert sight is not None, "The request was not authorized."
    return sight


def identity_of(request: Request) -> Identity:
    """The sender of a request that was authorized, on a route that is not open to all."""
    identity: Identity | None = request.scope.get(IDENTITY)
    assert identity is not None and SIGHT in request.scope, "The request was not authorized."
    return identity


def _lacking(wanted: Sequence[Right], identity: Identity) -> str:
    roles = [role for role, rights in RIGHTS.items() if not rights.isdisjoint(wanted)]
    named = " or ".join(f"'{right}'" for right in wanted)
    return (
        f"'{identity.owner.name}' may not do this: it takes the right {named}, which comes with "
        f"the role {' or '.join(roles)}. They have: {', '.join(identity.roles)}."
    )
