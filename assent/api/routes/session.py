"""Signing in in a browser, and out."""

from __future__ import annotations

from fastapi import Request, Response

from assent.api.access.identity import Identity
from assent.api.access.opening import SignIns
from assent.api.access.origins import check_page
from assent.api.access.rules import Thing, may, open_to_all
from assent.api.answers import answers, refuses
from assent.api.context import served, sign_ins_of
from assent.api.deps import TheIdentity
from assent.api.responses import json_response
from assent.api.routes.me import me_view
from assent.api.routing import router_of
from assent.api.schemas import SignInRequest
from assent.api.shapes.signing import MeView
from assent.core.access import Right
from assent.core.errors import Conflict
from assent.runs.sessions import SignIn

router = router_of("session")

NO_STORE = {"Cache-Control": "no-store"}


@router.post("/session")
@open_to_all("Who signs in is not known before.", Thing.SESSION)
@answers(MeView)
@refuses(401, 403, 409)
async def sign_in(body: SignInRequest, request: Request) -> Response:
    """Sign in in this browser, with a key: the answer, which is that of `GET /me`, sets a cookie.
    It is out of reach for scripts, and is sent by pages of this server only."""
    sign_ins = sign_ins_of(request)
    check_page(request, served(request).origins)
    sign_ins.browsers.cookie.check(request)
    found = await sign_ins.by_key(body.key, request)
    identity = served(request).access.identity_of(found)
    who = SignIn(
        owner=identity.owner,
        credential=sign_ins.browsers.credential_of(found),
        roles=found.roles,
        known_to=found.known_to,
        until=found.credential.expires_at,
    )
    return await _signed_in(request, sign_ins, who, identity)


@router.delete("/session")
@may(Right.SELF, Thing.SESSION)
@answers(None, 204)
@refuses(409)
async def sign_out(request: Request, identity: TheIdentity) -> Response:
    """Sign out in this browser: the cookie is good for nothing any more."""
    if identity.credential.kind != "session":
        raise Conflict("There is no session to end: you are known by something else.")
    browsers = sign_ins_of(request).browsers
    await browsers.end(identity.credential.id, identity.actor)
    response = Response(status_code=204, headers=NO_STORE)
    browsers.cookie.clear(request, response)
    return response


async def _signed_in(
    request: Request, sign_ins: SignIns, who: SignIn, identity: Identity
) -> Response:
    """Begin a session, and end the one that the browser had: nobody signs in to a session that
    somebody else has begun."""
    browsers = sign_ins.browsers
    made = await browsers.sessions.begin(who, identity.actor)
    for text in browsers.cookie.values(request):
        await browsers.end_of_cookie(text, identity.actor)
    found = await browsers.by_row(made.row)
    assert found is not None, "A session was over as it began."
    signed_in = served(request).access.identity_of(found)
    response = json_response(me_view(signed_in), headers=NO_STORE)
    seconds = int((made.row.expires_at - made.row.created_at).total_seconds())
    browsers.cookie.set(request, response, made.text, seconds)
    return response
