"""Puts together who may use the server, and how people sign in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from fastapi import Request

from assent.api.access.given import Given
from assent.api.access.identity import Found, Source, not_known
from assent.api.access.keys import StoredKeys
from assent.api.access.oidc import Providers
from assent.api.access.sessions import SESSION, BySession, Cookie
from assent.api.access.sources import KeysOfSettings
from assent.api.access.tickets import ByTicket
from assent.api.access.tokens import ByToken, Tokens
from assent.api.cors import Origins
from assent.config.settings import Settings
from assent.core.clock import Clock
from assent.core.errors import ConfigurationError
from assent.notify.reaching import Reach
from assent.runs.keys import Keys
from assent.runs.sessions import Sessions
from assent.storage.base import Storage

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SignIns:
    """The ways in which people are known on a server whose app does not say who they are: keys of
    its `settings`, keys that are `stored`, tokens of `issuers`, and the sessions of `browsers`. In
    a browser they sign in with a key, or at one of the `providers`: `login` is the cookie of
    somebody who is about to. With one of the `tickets` a page opens a stream."""

    settings: KeysOfSettings
    stored: StoredKeys
    issuers: ByToken
    browsers: BySession
    providers: Providers
    login: Cookie
    tickets: ByTicket

    @classmethod
    def over(
        cls,
        storage: Storage,
        settings: Settings,
        origins: Origins,
        tokens: Tokens,
        reach: Reach,
        clock: Clock,
    ) -> SignIns:
        """Those over the keys and sessions of the storage. Raises `ConfigurationError`."""
        providers = Providers(tokens, reach, settings.public_url or "")
        if providers.names and settings.public_url is None:
            raise ConfigurationError(
                f"People are to sign in at {', '.join(providers.names)}, and there is no address "
                "at which they would come back. Set ASSENT_PUBLIC_URL."
            )
        pepper = settings.pepper
        of_settings = KeysOfSettings(settings.secrets_of_people)
        stored = StoredKeys(Keys(storage, pepper, clock))
        sessions = Sessions(
            storage,
            pepper,
            clock,
            lifetime=settings.session_lifetime,
            idle=settings.session_idle,
        )
        cookie = Cookie(SESSION)
        browsers = BySession(
            sessions,
            cookie,
            origins,
            stored=stored,
            settings=of_settings,
            providers=providers.readings,
        )
        issuers = ByToken(tokens, clock)
        known = (of_settings, stored, issuers, browsers)
        return cls(
            settings=of_settings,
            stored=stored,
            issuers=issuers,
            tickets=ByTicket(storage, pepper, clock, known),
            browsers=browsers,
            providers=providers,
            login=Cookie("assent-login"),
        )

    @property
    def sources(self) -> Sequence[Source]:
        """They, in the order in which they are asked: a header that says who asks comes before a
        cookie."""
        return (self.tickets, self.settings, self.stored, self.issuers, self.browsers)

    async def log_lost_keys(self) -> None:
        """Log that there are keys which nobody can use, since the pepper that they were made with
        is another one: nothing else says why they are refused."""
        count = await self.stored.keys.made_otherwise()
        if count:
            log.warning(
                "keys were made with another pepper",
                count=count,
                reason="They are refused. Put that pepper back (ASSENT_KEY_PEPPER, or the file "
                "beside the database), or revoke them and make others.",
            )

    async def by_key(self, text: str, request: Request) -> Found:
        """The person whose key this is. Raises 401."""
        for source in (self.settings, self.stored):
            found = await source.find(Given("header", text), request)
            if found is not None:
                return found
        raise not_known("This key is none of this server's.")

    def forget_all(self) -> None:
        """Ask the storage anew about everybody."""
        self.stored.forget_all()
        self.browsers.forget_all()
