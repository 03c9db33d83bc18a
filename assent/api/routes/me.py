"""People as they see themselves: their name, and what they may do here."""

from __future__ import annotations

from fastapi import Request, Response

from assent.api.access.identity import Identity
from assent.api.access.rules import Thing, may
from assent.api.answers import answers
from assent.api.deps import TheIdentity
from assent.api.responses import NO_STORE, json_response
from assent.api.routing import router_of
from assent.api.shapes.signing import MeView
from assent.core.access import Right
from assent.core.json import JsonObject

router = router_of("me")


@router.get("/me")
@may(Right.SELF, Thing.SERVER)
@answers(MeView)
async def me(request: Request, identity: TheIdentity) -> Response:
    """Your name, tenant and roles, what they let you do (`rights`), and on which approvals your
    word counts (`approves`). `expires_at` is when you have to show who you are again, if that is
    known."""
    return json_response(me_view(identity), headers=NO_STORE)


def me_view(identity: Identity) -> JsonObject:
    """A person, as they see themselves."""
    return {
        "name": identity.owner.name,
        "tenant": identity.owner.tenant,
        "roles": [*identity.roles],
        "rights": sorted(identity.rights),
        "approves": {
            "everything": identity.approves.everything,
            "tools": sorted(identity.approves.tools),
            "roles": sorted(identity.approves.roles),
        },
        "authentication": identity.authentication,
        "expires_at": identity.credential.expires_at,
    }
