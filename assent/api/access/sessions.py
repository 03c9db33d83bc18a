"""The source of identities that knows people by the cookie of a session, and that cookie.

The cookie is out of reach for scripts, and browsers send it with requests of our own pages only.
With TLS its name begins with `__Host-`, so that no other host of the domain can set it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from assent.api.access.given import Given
from assent.api.access.identity import Credential, Found, Identity, Kind, signed_out
from assent.api.access.keys import StoredKeys
from assent.api.access.origins import READING, check_page
from assent.api.access.recent import RecentRows
from assent.api.access.sources import KeysOfSettings
from assent.api.context import is_over_tls
from assent.api.cors import Origins
from assent.api.loopback import comes_from_loopback, is_loopback
from assent.api.streams.requests import HANDSHAKE
from assent.core.audit import Actor, Authentication
from assent.core.errors import Forbidden
from assent.core.keys import same
from assent.core.rows import Session
from assent.runs.sessions import Sessions

SESSION = "assent"
"""The name of the cookie of a session."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie of ours. Over TLS its name begins with `__Host-`; without TLS it is taken on this
    machine only."""

    name: str

    def values(self, request: Request) -> list[str]:
        """The values of the cookie in the request."""
        name = self._name(request)
        return [value for each, value in _cookies(request) if each == name]

    def check(self, request: Request) -> None:
        """Raise `Forbidden` where others could read the cookie."""
        is_here = comes_from_loopback(request.scope) and is_loopback(request.url)
        if not is_here and not is_over_tls(request.scope):
            raise Forbidden(
                "A browser can be signed in over https only, where nobody reads along. Ask this "
                "server by https, and set ASSENT_PUBLIC_URL to that address."
            )

    def set(self, request: Request, response: Response, value: str, seconds: int) -> None:
        """Have the browser keep the value for so long."""
        response.set_cookie(
            self._name(request),
            value,
            max_age=seconds,
            path="/",
            secure=is_over_tls(request.scope),
            httponly=True,
            samesite="strict",
        )

    def clear(self, request: Request, response: Response) -> None:
        """Have the browser forget it."""
        self.set(request, response, "", 0)

    def _name(self, request: Request) -> str:
        return secure_name(self.name) if is_over_tls(request.scope) else self.name


def secure_name(name: str) -> str:
    """The name of the cookie over TLS. A browser takes it from this server alone."""
    return f"__Host-{name}"


def _cookies(request: Request) -> Iterator[tuple[str, str]]:
    """The cookies of the request, each as often as it is there."""
    for header in request.headers.getlist("cookie"):
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            yield name, value


class BySession:
    """Knows people by the cookies of their sessions. What a session is worth is asked of the
    credential that it was begun with: one of the keys in the storage, a key of the settings, or a
    token of one of the `providers`, each with the digest of what made a person of it. `now` is a
    monotonic clock."""

    kind: Final[Kind] = "session"

    def __init__(
        self,
        sessions: Sessions,
        cookie: Cookie,
        origins: Origins,
        *,
        stored: StoredKeys,
        settings: KeysOfSettings,
        providers: Mapping[str, str] = {},
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sessions = sessions
        self.cookie = cookie
        self._origins = origins
        self._stored = stored
        self._settings = settings
        self._marks = {name: self._mark(name) for name in settings.keys}
        self._providers = providers
        self._rows: RecentRows[Session] = RecentRows(sessions.read, now)

    async def find(self, given: Given | None, request: Request) -> Found | None:
        """The person who has signed in in this browser. A header that says who asks decides, and
        what is left of a session that is over says nothing. Raises 400 for two cookies, and 403 for
        a change that a page of another site asks for."""
        values = self.cookie.values(request) if given is None else []
        if not values:
            return None
        if len(values) > 1:
            raise HTTPException(400, "The request has the cookie of a session more than once.")
        session_id = self.sessions.id_of(values[0])
        row = None if session_id is None else await self._rows.get(session_id)
        found = None if row is None else await self.by_row(row)
        if row is None or found is None:
            return None
        self._check_page(request)
        await self._note(row)
        return found

    def shown(self, request: Request) -> str:
        """The text that the request shows of a session, good or not; empty if it shows none."""
        return " ".join(self.cookie.values(request))

    async def renew(self, identity: Identity) -> Found | None:
        row = await self._rows.get(identity.credential.id)
        return None if row is None else await self.by_row(row)

    async def shown_by(self, identity: Identity) -> Credential:
        """The credential that somebody has shown: of a session, the key that it was begun with.
        What they showed at a provider is good here for as long as the session. Raises 401."""
        if identity.credential.kind != self.kind:
            return identity.credential
        row = await self._rows.get(identity.credential.id)
        by = None if row is None else await self._by_credential(row)
        if by is None:
            raise signed_out()
        return identity.credential if by.credential.kind == "token" else by.credential

    def credential_of(self, found: Found) -> str:
        """The name of the credential that somebody signs in with, by which the session finds it
        again. It changes with the secret of a key of the settings, and with what the settings make
        of a provider's tokens."""
        kind, id = found.credential.kind, found.credential.id
        if kind == self._settings.kind:
            return f"{kind}:{self._marks[id]}"
        return f"{kind}:{self._providers[id]}:{id}" if kind == "token" else f"{kind}:{id}"

    @staticmethod
    def provider_of(row: Session) -> str:
        """The section of the provider where the session was begun; empty for none."""
        kind, _, id = row.credential.partition(":")
        return id.partition(":")[2] if kind == "token" else ""

    async def end(self, session_id: str, by: Actor) -> None:
        """End the session: its cookie is good for nothing any more."""
        await self.sessions.end(session_id, by)
        self._rows.drop(session_id)

    async def end_of_cookie(self, text: str, by: Actor) -> None:
        """End the session of the cookie with this text, if it is one."""
        session_id = self.sessions.id_of(text)
        if session_id is not None:
            await self.end(session_id, by)

    def forget_all(self) -> None:
        """Ask the storage anew about every session."""
        self._rows.drop_all()

    async def by_row(self, row: Session) -> Found | None:
        """The person of the session, while it and its credential are good."""
        if not self.sessions.is_good(row):
            return None
        by = await self._by_credential(row)
        if by is None:
            return None
        ends = [row.expires_at, *([by.credential.expires_at] if by.credential.expires_at else [])]
        return by._replace(
            name=row.person,
            authentication=Authentication.SESSION,
            credential=Credential("session", row.session_id, min(ends)),
            tenant=row.tenant,
        )

    async def _by_credential(self, row: Session) -> Found | None:
        """The person as their credential shows them now."""
        kind, _, id = row.credential.partition(":")
        if kind == self._stored.kind:
            return await self._stored.by_id(id)
        if kind == self._settings.kind:
            name = id.partition(":")[2]
            is_same = same(id, self._marks.get(name, ""))
            return self._settings.found(name) if is_same else None
        reading, _, section = id.partition(":")
        return _by_token(row, section) if self._providers.get(section) == reading else None

    def _mark(self, name: str) -> str:
        """The name of a key of the settings, behind what shows that its secret is the same."""
        mac = self.sessions.pepper.mac("key of the settings", self._settings.keys[name])
        return f"{mac}:{name}"

    def _check_page(self, request: Request) -> None:
        """Raise 403 unless a page of ours asks: the browser has sent the cookie, whatever page made
        it."""
        check_page(request, self._origins)
        only_reads = request.method in READING and not request.scope.get(HANDSHAKE)
        if not only_reads and not {"origin", "sec-fetch-site"} & {*request.headers.keys()}:
            raise HTTPException(
                403,
                "With a cookie, a change takes the header 'Origin', by which it is known which "
                "page asks for it. Programs send 'Authorization: Bearer <secret>'.",
            )

    async def _note(self, row: Session) -> None:
        """Note that the session is used, once a minute at most."""
        now = self.sessions.clock.now()
        if abs(now - row.seen_at) >= self.sessions.noted_after():
            noted = replace(row, seen_at=now)
            await self._rows.note(row.session_id, row, noted, self.sessions.use)


def _by_token(row: Session, section: str) -> Found:
    """The person whom the issuer of this section of the configuration has named as they signed
    in."""
    return Found(
        row.person,
        Authentication.TOKEN,
        Credential("token", section),
        tenant=row.tenant,
        roles=row.roles,
        known_to=row.known_to,
        takes_defaults=False,
    )
