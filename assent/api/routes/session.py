"""Signing in in a browser, and out."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Query, Request, Response

from assent.api.access.identity import Credential, Found, not_known
from assent.api.access.limiting import attempting
from assent.api.access.oidc import Login
from assent.api.access.opening import SignIns
from assent.api.access.origins import check_page
from assent.api.access.rules import Thing, may, open_to_all
from assent.api.access.tokens import BadToken
from assent.api.answers import answers, refuses
from assent.api.context import served, sign_ins_of
from assent.api.deps import TheIdentity
from assent.api.limits import JSON, BodyLimits
from assent.api.responses import NO_STORE, json_response
from assent.api.routes.me import me_view
from assent.api.routing import router_of, takes
from assent.api.schemas import SignInRequest
from assent.api.shapes.signing import IssuersView, SignedInView, SignedOutView
from assent.api.streams.renewing import withdraw
from assent.core.access import Right
from assent.core.errors import Conflict, InvalidRequest
from assent.core.json import JsonObject
from assent.runs.sessions import SignIn

router = router_of("session")

CREDENTIALS = BodyLimits(most=64 << 10, within=60.0, media_type=JSON)
"""A key or a code is short, and who sends it may be anybody."""

LOGIN_SECONDS = 600
"""The time in which a login at an identity provider has to be finished."""


@router.post("/session")
@open_to_all("Who signs in is not known before.", Thing.SESSION)
@answers(SignedInView)
@refuses(401, 403, 404, 409)
@takes(CREDENTIALS)
async def sign_in(body: SignInRequest, request: Request) -> Response:
    """Sign in in this browser, with a key, or with the code of an identity provider: the answer,
    which is that of `GET /me`, sets a cookie. It is out of reach for scripts, and is sent by pages
    of this server only."""
    sign_ins = sign_ins_of(request)
    check_page(request, served(request).origins)
    sign_ins.browsers.cookie.check(request)
    if body.key is not None:
        async with attempting(served(request).limiting, request, body.key):
            found = await sign_ins.by_key(body.key, request)
        return await _signed_in(request, sign_ins, found)
    async with attempting(served(request).limiting, request, f"{body.state} {body.code}"):
        login = _login_of(request, sign_ins)
        found = await _by_code(body, sign_ins, login)
    response = await _signed_in(request, sign_ins, found, next=login.next)
    sign_ins.login.clear(request, response)
    return response


@router.delete("/session")
@may(Right.SELF, Thing.SESSION)
@answers(SignedOutView)
@answers(None, 204)
@refuses(409)
async def sign_out(request: Request, identity: TheIdentity) -> Response:
    """Sign out in this browser: the cookie is good for nothing any more. If you have signed in at
    an identity provider that has a page to sign out there too, the answer says where."""
    if identity.credential.kind != "session":
        raise Conflict("There is no session to end: you are known by something else.")
    sign_ins = sign_ins_of(request)
    browsers = sign_ins.browsers
    row = await browsers.sessions.read(identity.credential.id)
    await browsers.end(identity.credential.id, identity.actor)
    await withdraw(request, identity.owner)
    section = browsers.provider_of(row) if row is not None else ""
    page = await sign_ins.providers.end_page(section) if section else None
    response = Response(status_code=204, headers=NO_STORE)
    if page is not None:
        response = json_response({"end_session": page}, headers=NO_STORE)
    browsers.cookie.clear(request, response)
    return response


# ── at an identity provider ───────────────────────────────────────────────────────────────────────


@router.get("/session/issuers")
@open_to_all("Who is about to sign in is not known before.", Thing.SESSION)
@answers(IssuersView)
@refuses(409)
async def list_issuers(request: Request) -> Response:
    """The identity providers at which people sign in here, by the names that `/session/login`
    knows them by."""
    names = sign_ins_of(request).providers.names
    return json_response({"issuers": list(names)}, headers=NO_STORE)


@router.get("/session/login")
@open_to_all("Who signs in is not known before.", Thing.SESSION)
@answers(None, 302, description="The page of the identity provider", location=True)
@refuses(404, 409)
async def begin_login(
    request: Request,
    issuer: Annotated[str | None, Query(max_length=100)] = None,
    next: Annotated[str, Query(max_length=1_000)] = "/",
) -> Response:
    """Go to the page of an identity provider, to sign in there, and come back to the page `next` of
    this server. Where there is one provider, `issuer` may be left out."""
    sign_ins = sign_ins_of(request)
    sign_ins.login.check(request)
    names = sign_ins.providers.names
    if issuer is None and len(names) > 1:
        raise InvalidRequest(f"Name the issuer at which to sign in: {', '.join(names)}.")
    login = Login.begin(issuer or "".join(names), next, secrets.token_bytes)
    page = await sign_ins.providers.page(login)
    response = Response(status_code=302, headers={**NO_STORE, "Location": page})
    sign_ins.login.set(request, response, login.cookie, LOGIN_SECONDS)
    return response


def _login_of(request: Request, sign_ins: SignIns) -> Login:
    """The login that this browser has begun. Raises 401."""
    values = sign_ins.login.values(request)
    login = Login.of_cookie(values[0]) if len(values) == 1 else None
    if login is None:
        raise not_known(
            "This browser has not begun to sign in, or ten minutes ago and more. Begin anew at "
            "/session/login."
        )
    return login


async def _by_code(body: SignInRequest, sign_ins: SignIns, login: Login) -> Found:
    """The person who has signed in at their identity provider. Raises 401."""
    try:
        claimed = await sign_ins.providers.finish(
            login, code=body.code or "", state=body.state or "", issuer=body.iss
        )
    except BadToken as error:
        raise not_known(str(error)) from None
    return claimed.found(Credential("token", login.section))


# ── the session ───────────────────────────────────────────────────────────────────────────────────


async def _signed_in(request: Request, sign_ins: SignIns, found: Found, **more: str) -> Response:
    """Begin a session, and end the one that the browser had: nobody signs in to a session that
    somebody else has begun."""
    browsers, access = sign_ins.browsers, served(request).access
    identity = access.identity_of(found)
    who = SignIn(
        owner=identity.owner,
        credential=browsers.credential_of(found),
        roles=found.roles,
        known_to=found.known_to,
        until=found.credential.expires_at,
    )
    made = await browsers.sessions.begin(who, identity.actor)
    for text in browsers.cookie.values(request):
        await browsers.end_of_cookie(text, identity.actor)
    known = await browsers.by_row(made.row)
    assert known is not None, "A session was over as it began."
    view: JsonObject = {**me_view(access.identity_of(known)), **more}
    response = json_response(view, headers=NO_STORE)
    seconds = int((made.row.expires_at - made.row.created_at).total_seconds())
    browsers.cookie.set(request, response, made.text, seconds)
    return response
