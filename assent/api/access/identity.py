"""Identities: who sends a request, how that is known, and what they may do here.

An identity is a person, and not a credential: keys, tokens and what an app says all lead to one
name. Each kind of credential has a `Source`, which finds the person behind it, and later says
whether they still are. `Access` has all sources, in the order in which they are asked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

from fastapi import Request
from starlette.exceptions import HTTPException

from assent.api.access.given import Given, check_one_header, given_by
from assent.api.access.limiting import Limiting, attempting
from assent.api.access.rules import Rule
from assent.approvals.people import People
from assent.core.access import (
    APPROVES_ALL,
    EVERYTHING,
    Approves,
    Owner,
    Right,
    Role,
    Sight,
    approves_of,
    rights_of,
    role_of,
    roles_in_policies,
    sight_for,
)
from assent.core.audit import LOCAL, Actor, Authentication
from assent.core.json import Json
from assent.core.remembered import Remembered

IDENTITY = "assent_identity"
"""The name in a request's scope of its sender, once it is known who they are."""

BY_APP = "assent_by_app"
"""That of the sender as the app around the server knows them."""

SIGHT = "assent_sight"
"""That of the sight of a request that was authorized."""

ASKED_ANEW = "assent_asked_anew"
"""True in the scope of a request by which the server itself asks whether somebody still is who they
were: it counts against no limit."""

TAKEN = "assent_right"
"""Where it has the right that its body takes, if that is not the only one of its rule."""

SENDER_IN_SCOPE = (IDENTITY, BY_APP, SIGHT, TAKEN)

RENEWED_AFTER = 10.0
"""The seconds after which a request over a WebSocket that is open asks anew whether its sender
still is who they were."""

MOST_KEPT = 10_000
"""The people who are not put together anew with each of their requests, those who asked last."""

Kind = Literal["local", "setting", "key", "session", "token", "host", "project", "ticket", "slack"]


@dataclass(frozen=True, slots=True)
class Credential:
    """The thing by which somebody is known: its kind, and the id by which its source finds it
    again. None of it is a secret."""

    kind: Kind
    id: str = ""
    expires_at: datetime | None = None


class Found(NamedTuple):
    """Somebody as a source knows them: the roles that their credential gives, what their app says
    of them besides (`known`), and others who know their secret (`known_to`).

    With `only_these_roles` they have no others, whatever the server gives to people of that name.
    Where `takes_defaults` is False, they are not given the roles of those who have none.
    """

    name: str
    authentication: Authentication
    credential: Credential
    tenant: str | None = None
    roles: tuple[str, ...] = ()
    known: Mapping[str, Json] = {}
    known_to: tuple[str, ...] = ()
    only_these_roles: bool = False
    takes_defaults: bool = True


@dataclass
class Identity:
    """A person who sends requests, with their roles and rights here. `checked_at` is the monotonic
    time at which their source was asked last. Two are equal if nothing has changed between them,
    and what is equal is one object as long as they are among those who asked last."""

    owner: Owner
    authentication: Authentication
    credential: Credential
    roles: tuple[str, ...]
    rights: frozenset[Right]
    approves: Approves
    known_to: tuple[str, ...] = ()
    known: Mapping[str, Json] = field(default_factory=dict, compare=False, repr=False)
    checked_at: float = field(default=0.0, compare=False)
    _sights: dict[Right, Sight] = field(default_factory=dict, init=False, compare=False, repr=False)

    def sight(self, right: Right) -> Sight:
        """The sight of a request of theirs that needs this right."""
        if self.credential.kind == "local":
            return EVERYTHING
        sight = self._sights.get(right)
        if sight is None:
            sight = sight_for(self.owner, self.roles, self.approves, right)
            self._sights[right] = sight
        return sight

    @property
    def is_of_request(self) -> bool:
        """True if it is an app that says who they are, of each request anew."""
        return self.credential.kind in ("host", "project")

    def as_found(self) -> Found:
        """They, as they were found: for a source that would find nothing else now."""
        return Found(
            self.owner.name,
            self.authentication,
            self.credential,
            tenant=self.owner.tenant,
            roles=self.roles,
            known=self.known,
            known_to=self.known_to,
            only_these_roles=True,
            takes_defaults=False,
        )

    @cached_property
    def actor(self) -> Actor:
        """They, as whoever does something."""
        return Actor(
            self.owner.name,
            self.authentication,
            self.known,
            tenant=self.owner.tenant,
            roles=roles_in_policies(self.roles),
            approves=self.approves,
            known_to=self.known_to,
        )


class Source(Protocol):
    """Knows people by one kind of credential."""

    @property
    def kind(self) -> Kind: ...

    async def find(self, given: Given | None, request: Request) -> Found | None:
        """The person whom the credential names. None if it is not for this source to say, so that
        the next one is asked. Raises 401 if it is, and the credential is none."""

    async def renew(self, identity: Identity) -> Found | None:
        """The same person, as they are now; None if they are no longer known by it."""


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles that people have here: those of their credential, those that the operator has given
    to their name, and for whoever has none of the program's own, the default."""

    people: People

    def of(self, found: Found) -> tuple[str, ...]:
        """The roles of somebody, sorted. Raises 403 if none of them is one of the program's."""
        roles = {*found.roles}
        if not found.only_these_roles:
            roles |= self.people.roles_of(found.name)
        if not any(map(role_of, roles)) and found.takes_defaults:
            roles |= {*self.people.default}
        if not any(map(role_of, roles)):
            raise HTTPException(
                403,
                f"'{found.name}' has no role here, so there is nothing that they may do. To give "
                f"them one of {', '.join(Role)}, name them in ASSENT_ROLES.",
            )
        return tuple(sorted(roles))


class _Kept(NamedTuple):
    """A person as they were put together of what their source says of them."""

    found: Found
    identity: Identity


class Access:
    """Knows who sends a request, by its `sources`. Without any it knows nobody, and everybody is
    one person, `local`, who may do everything: only those on this machine are let in then.

    Keys are taken in a URL if it `allows_query_token`; `limiting` slows whoever guesses, at what is
    given and at the `cookie` of a session. `now` is a monotonic clock.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        roles: Roles,
        *,
        allows_query_token: bool,
        limiting: Limiting | None = None,
        cookie: Callable[[Request], str] = lambda request: "",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = sources
        self._cookie = cookie
        self._roles = roles
        self._allows_query_token = allows_query_token
        self._limiting = limiting
        self._now = now
        self._local = _local()
        self._withdrawn_at = -math.inf
        self._kept: Remembered[_Kept] = Remembered(MOST_KEPT)
        """Those who asked last, by credential. Thousands of streams may be of one person."""

    @property
    def knows_nobody(self) -> bool:
        """True if anybody may ask."""
        return not self._sources

    @property
    def waits_for_app(self) -> bool:
        """True if it is the app around the server that knows who sends a request, so that there is
        nobody to find before that app's own dependency has said so."""
        return any(source.kind == "host" for source in self._sources)

    def canonical(self, name: str) -> str:
        """The one name here of whoever is called this."""
        return self._roles.people.canonical(name)

    async def identify(self, request: Request, rule: Rule) -> Identity:
        """The sender of the request. Raises 400 or 401 if they do not show who they are, and must;
        403 if they have no role here; and `TooManyRequests` for one more guess at a key."""
        known: Identity | None = request.scope.get(IDENTITY)
        if known is not None:
            return await self.still(known)
        # Also where it does not matter: it is cut out of the URL.
        given = given_by(request, rule)
        if self.knows_nobody:
            return self._local
        check_one_header(request)
        if given is not None and given.how == "token" and not self._allows_query_token:
            raise not_known(
                "This server takes no key in a URL: send 'Authorization: Bearer <secret>', or set "
                "ASSENT_ALLOW_QUERY_TOKEN."
            )
        secret = self._cookie(request) if given is None else _secret_of(given, request)
        if given is None and not secret:
            return self.identity_of(await self._find(given, request))
        limiting = None if request.scope.get(ASKED_ANEW) else self._limiting
        async with attempting(limiting, request, secret, by_browser=given is None):
            found = await self._find(given, request)
        return self.identity_of(found)

    async def _find(self, given: Given | None, request: Request) -> Found:
        """The person whom the credential names. Raises 401."""
        for source in self._sources:
            found = await source.find(given, request)
            if found is not None:
                return found
        if given is not None and given.how == "token":
            raise not_known(
                "This server needs a key, and 'token' is none: send one of its keys, once."
            )
        if given is not None and given.text:
            raise not_known(
                "The key that was sent is none of this server's: send one that is, as "
                "'Authorization: Bearer <secret>'."
            )
        raise not_known("This server needs a key: send 'Authorization: Bearer <secret>'.")

    async def renew(self, identity: Identity) -> Identity | None:
        """The person as they are now: the same object, if nothing has changed. None if they are no
        longer known by their credential, or have no role left."""
        if identity is self._local:
            return identity
        found = await self._renewed(identity)
        if found is None:
            return None
        try:
            renewed = self.identity_of(found)
        except HTTPException:
            return None
        if renewed != identity:
            return renewed
        identity.checked_at = renewed.checked_at
        return identity

    async def still(self, known: Identity) -> Identity:
        """The person as they are now, or were a moment ago, if nothing was withdrawn from anybody
        since. Raises 401 if they are no longer known."""
        if self.is_recent(known):
            return known
        renewed = await self.renew(known)
        if renewed is None:
            raise signed_out()
        return renewed

    def withdrawn(self) -> None:
        """Something by which people are known has been withdrawn: nobody is who they were a moment
        ago before they are asked for anew."""
        self._withdrawn_at = self._now()

    def is_recent(self, known: Identity) -> bool:
        """True if the person was known a moment ago, and nothing was withdrawn from anybody since:
        then they need not be asked for again."""
        is_recent = self._now() - known.checked_at < RENEWED_AFTER
        return known is self._local or (is_recent and known.checked_at > self._withdrawn_at)

    async def _renewed(self, identity: Identity) -> Found | None:
        for source in self._sources:
            if source.kind == identity.credential.kind:
                return await source.renew(identity)
        return None

    def identity_of(self, found: Found) -> Identity:
        """The person with their roles here. Raises 403 if they have none."""
        if found.known:
            # What an app says of somebody may differ from request to request.
            return self._made(found)
        kept = self._kept.get(found.credential)
        if kept is None or kept.found != found:
            made = self._made(found)
            is_same = kept is not None and kept.identity == made
            kept = _Kept(found, kept.identity if kept is not None and is_same else made)
            self._kept.put(found.credential, kept)
        kept.identity.checked_at = self._now()
        return kept.identity

    def _made(self, found: Found) -> Identity:
        canonical = self._roles.people.canonical
        known_to = tuple(dict.fromkeys(map(canonical, found.known_to)))
        found = found._replace(name=canonical(found.name), known_to=known_to)
        roles = self._roles.of(found)
        return Identity(
            owner=Owner(found.name, found.tenant),
            authentication=found.authentication,
            credential=found.credential,
            roles=roles,
            rights=rights_of(roles),
            approves=approves_of(roles),
            known_to=found.known_to,
            known=found.known,
            checked_at=self._now(),
        )


def _secret_of(given: Given, request: Request) -> str:
    """The text that is given; of another scheme than ours, all of the header, which a project's own
    code may look at."""
    return given.text or request.headers.get("authorization", "")


def not_known(reason: str) -> HTTPException:
    """The refusal of somebody whom the server does not know, and must."""
    return HTTPException(401, reason, headers={"WWW-Authenticate": "Bearer"})


def signed_out() -> HTTPException:
    """The refusal of somebody whom the server knew, and does not know any more."""
    return not_known("You were signed out: what you were known by is no longer good here.")


def _local() -> Identity:
    """Everybody on a server that knows nobody."""
    return Identity(
        owner=Owner(LOCAL),
        authentication=Authentication.LOCAL,
        credential=Credential("local"),
        roles=(),
        rights=frozenset(Right),
        approves=APPROVES_ALL,
    )
