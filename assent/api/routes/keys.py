"""API keys over HTTP: one's own, and for an admin those of everybody in the tenant."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from fastapi import Query, Request, Response

from assent.api.access.identity import Identity
from assent.api.access.opening import SignIns
from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.context import served, sign_ins_of
from assent.api.deps import PageLimit, TheIdentity
from assent.api.responses import NO_STORE, json_response, page_response
from assent.api.routing import router_of
from assent.api.schemas import KeyRequest
from assent.api.shapes.signing import KeysPage, KeyView, MadeKeyView, RevokedKeysView
from assent.api.streams.renewing import withdraw
from assent.core.access import Owner, Right, Role, role_of, roles_in_policies
from assent.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from assent.core.json import JsonObject
from assent.core.text import visible
from assent.runs.keys import key_to_json
from assent.storage.base import Reads

router = router_of("keys")

MOST = 1_000
"""The most keys of one person, also counting those that are over, that requests can make."""


@router.post("/keys", status_code=201)
@may(Right.SELF, Thing.BODY)
@answers(MadeKeyView, 201)
@refuses(403, 409)
async def make_key(body: KeyRequest, request: Request, identity: TheIdentity) -> Response:
    """Make a key, for yourself or, as an admin, for somebody else. `key` in the answer is its text,
    which is shown this once. It has these roles alone; yours are the most that it can have, and one
    for somebody else gives no right to approve. It lasts no longer than the key, the token or the
    login at a provider by which you ask."""
    sign_ins = sign_ins_of(request)
    keys = sign_ins.stored.keys
    owner = _named(request, body.person or identity.owner.name, identity)
    check_may_give(identity, owner, body.roles)
    shown = await sign_ins.browsers.shown_by(identity)
    if len(await keys.of(owner)) >= MOST:
        raise Conflict(f"'{visible(owner.name)}' has {MOST:,} keys, also counting old ones.")
    made = await keys.make(
        owner,
        body.roles,
        identity.actor,
        made_by=(*identity.known_to, identity.owner.name)[0],
        expires_at=min(filter(None, (body.expires_at, shown.expires_at)), default=None),
        note=body.note,
        beside=sign_ins.settings.keys,
        by_key=shown.id if shown.kind == "key" else None,
    )
    view = {"key": made.text, **key_to_json(made.row)}
    return json_response(view, status=201, headers=NO_STORE)


@router.get("/keys")
@may(Right.SELF, Thing.LIST)
@answers(KeysPage)
@refuses(409)
async def list_keys(
    request: Request, identity: TheIdentity, limit: PageLimit = 100, cursor: str | None = None
) -> Response:
    """Your keys, newest first, also those that are over; an admin gets everybody's. None has its
    text. `next` is the cursor of the next page, or null."""
    page = await _seen(request, identity).api_keys(limit=limit, cursor=cursor)
    response = page_response("keys", page, key_to_json)
    response.headers.update(NO_STORE)
    return response


@router.delete("/keys/{id}")
@may(Right.SELF, Thing.KEY)
@answers(KeyView)
@refuses(409)
async def revoke_key(id: str, request: Request, identity: TheIdentity) -> Response:
    """Revoke it, and end the sessions that began with it: from now on it is good for nothing."""
    if await _seen(request, identity).api_key(id) is None:
        raise NotFound(f"There is no key '{visible(id)}'.")
    sign_ins = sign_ins_of(request)
    revoked = await sign_ins.stored.keys.revoke(id, identity.actor)
    sign_ins.forget_all()
    await withdraw(request, Owner(revoked.person, revoked.tenant))
    return json_response(key_to_json(revoked), headers=NO_STORE)


@router.delete("/keys")
@may(Right.SELF, Thing.LIST)
@answers(RevokedKeysView)
@refuses(403, 409)
async def revoke_keys(
    request: Request,
    identity: TheIdentity,
    person: Annotated[str, Query(min_length=1, max_length=200)],
) -> Response:
    """Revoke every key of a person, and end all their sessions: yourself or, as an admin, somebody
    else."""
    owner = _named(request, person, identity)
    if owner != identity.owner and not _is_admin(identity):
        raise Forbidden("Only an admin revokes the keys of others.")
    sign_ins = sign_ins_of(request)
    revoked, ended = await revoke_all(sign_ins, owner, identity)
    await withdraw(request, owner)
    return json_response({"keys": revoked, "sessions": ended}, headers=NO_STORE)


async def revoke_all(sign_ins: SignIns, owner: Owner, by: Identity) -> tuple[list[JsonObject], int]:
    """Revoke every key of the owner, and end their sessions: what was revoked, and how many
    ended."""
    revoked = await sign_ins.stored.keys.revoke_all(owner, by.actor)
    ended = await sign_ins.browsers.sessions.end_all(owner, by.actor)
    sign_ins.forget_all()
    return [*map(key_to_json, revoked)], ended


# ── who may make what ─────────────────────────────────────────────────────────────────────────────


def check_may_give(identity: Identity, owner: Owner, roles: Collection[str]) -> None:
    """Raise `Forbidden` unless they may make a key with these roles for the owner, and
    `InvalidRequest` if it would be good for nothing."""
    if not any(map(role_of, roles)):
        raise InvalidRequest(f"A key needs a role that lets it do something: {', '.join(Role)}.")
    if owner != identity.owner:
        _check_for_another(identity, roles)
        return
    for role in roles:
        if not _has(identity, role):
            raise Forbidden(
                f"You cannot give the role '{visible(role)}', since you do not have it. You have: "
                f"{', '.join(identity.roles)}."
            )


def _check_for_another(identity: Identity, roles: Collection[str]) -> None:
    if not _is_admin(identity):
        raise Forbidden("Only an admin makes keys for others.")
    if identity.known_to:
        raise Forbidden(
            f"Your key was made by '{identity.known_to[0]}', who knows it. Keys for others are "
            "made with one that nobody else knows."
        )
    # Whoever makes a key knows it: an admin would approve by it in the name of somebody else.
    if any(role_of(role) is Role.APPROVER for role in roles):
        raise Forbidden(
            "A key for somebody else gives no right to approve, since you know it too. Make it "
            "with assent keys create on the server's machine."
        )


def _has(identity: Identity, role: str) -> bool:
    """True if the role gives nothing that they do not have."""
    # Everybody may look at what is their own.
    theirs = {Role.VIEWER, *identity.roles, *roles_in_policies(identity.roles)}
    if role in theirs:
        return True
    kind, _, rest = role.partition(":")
    of, _, name = rest.partition(":")
    is_part = kind == Role.APPROVER and Role.APPROVER in identity.roles
    return is_part and (of == "tool" or (of == "role" and name in theirs))


def _named(request: Request, name: str, identity: Identity) -> Owner:
    """The person of this name, or of this alias, in the tenant of whoever asks."""
    return Owner(served(request).access.canonical(name), identity.owner.tenant)


def _is_admin(identity: Identity) -> bool:
    return Right.ADMIN in identity.rights


def _seen(request: Request, identity: Identity) -> Reads:
    """The keys that they may see: their own, or as an admin those of the tenant."""
    right = Right.ADMIN if _is_admin(identity) else Right.SELF
    return sign_ins_of(request).stored.keys.storage.seen_by(identity.sight(right))
