"""The enforcement of a route's rule: who sends the request, whether they have the right, and what
they see. Nothing else says so, and what was not authorized sees nothing."""

from __future__ import annotations

from fastapi import Request
from starlette.exceptions import HTTPException

from assent.api.access.identity import BY_APP, IDENTITY, SIGHT, Identity
from assent.api.access.origins import check_page
from assent.api.access.rules import Rule
from assent.api.context import SCOPE_KEY, Served, served
from assent.core.access import NOTHING, RIGHTS, Right, Sight


async def authorize(request: Request, rule: Rule) -> None:
    """Raise 400, 401, 403 or 429 if the request may not be made. Else its scope has who sends it,
    and what they see."""
    server: Served | None = request.scope.get(SCOPE_KEY)
    limiting = server.limiting if server is not None else None
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
    if rule.right not in identity.rights:
        raise HTTPException(403, _lacking(rule.right, identity))
    request.scope[SIGHT] = identity.sight(rule.right)


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
    project = served(request).project_auth
    if project is not None and rule.right is not None:
        await project.permit(request, rule)


async def check_still(request: Request) -> None:
    """Raise 401 or 403 if whoever sent the request and waited may not have its answer any more."""
    known: Identity | None = request.scope.get(IDENTITY)
    if known is None:
        return
    identity = await served(request).access.still(known)
    right = request.scope["route"].rule.right
    if right not in identity.rights:
        raise HTTPException(403, _lacking(right, identity))


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


def _lacking(right: Right, identity: Identity) -> str:
    roles = [role for role, rights in RIGHTS.items() if right in rights]
    return (
        f"'{identity.owner.name}' may not do this: it takes the right '{right}', which comes with "
        f"the role {' or '.join(roles)}. They have: {', '.join(identity.roles)}."
    )
