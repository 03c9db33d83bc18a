"""Signing in at an identity provider: OpenID Connect's code flow, with PKCE.

Nothing is stored while somebody signs in. The browser keeps one secret in a cookie, and state,
nonce and code verifier are made of it: so only the browser that has begun a login can finish it,
and any process of this server can help it to. The requests to the provider go through `Reach`, and
what it answers is verified as any token is.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from assent.api.access.tokens import BadToken, Claimed, Tokens
from assent.config.issuers import Issuer
from assent.core.errors import ConfigurationError, InvalidRequest, NotFound, Unavailable
from assent.core.json import JsonObject, read_strictly
from assent.core.keys import LOGIN, Random, is_secret, new_secret, same
from assent.core.text import visible
from assent.notify.reaching import Answer, Destination, NotReached, Reach

log = structlog.get_logger(__name__)

CALLBACK = "/session/callback"

MAX_NEXT = 1_000
MAX_CODE = 4_000
MAX_ANSWER_BYTES = 256 * 1024

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Login:
    """A login that a browser has begun, at the issuer of this section of the configuration. Then it
    goes to the page `next`."""

    secret: str = field(repr=False)
    section: str
    next: str = "/"

    @classmethod
    def begin(cls, section: str, next: str, random: Random) -> Login:
        """A new login. Where it leads to is a page of this server: else "/"."""
        return cls(new_secret(LOGIN, random), section, own_page(next))

    @classmethod
    def of_cookie(cls, text: str) -> Login | None:
        """The login that the cookie is of; None if it is none of ours."""
        secret, _, rest = text.partition(".")
        section, _, encoded = rest.partition(".")
        if not is_secret(secret, LOGIN) or len(encoded) > 2 * MAX_NEXT:
            return None
        try:
            next_page = base64.urlsafe_b64decode(encoded + "==").decode()
        except ValueError:
            return None
        return cls(secret, section, own_page(next_page))

    @property
    def cookie(self) -> str:
        """The value of the cookie."""
        next_page = base64.urlsafe_b64encode(self.next.encode()).decode().rstrip("=")
        return f"{self.secret}.{self.section}.{next_page}"

    @property
    def state(self) -> str:
        """The text that comes back with the code, and shows that this browser has asked for it."""
        return self._made("state")

    @property
    def nonce(self) -> str:
        """The text that the provider puts into the token, which so is of this login."""
        return self._made("nonce")

    @property
    def verifier(self) -> str:
        """The text without which the code is worth nothing (RFC 7636)."""
        return self._made("verifier")

    def _made(self, use: str) -> str:
        made = hmac.digest(self.secret.encode(), use.encode(), "sha256")
        return base64.urlsafe_b64encode(made).decode().rstrip("=")


def own_page(path: str) -> str:
    """The path, if it is one on this server as every browser reads it; else "/"."""
    is_own = path.startswith("/") and not path.startswith("//")
    is_plain = len(path) <= MAX_NEXT and path.isprintable() and "\\" not in path
    return path if is_own and is_plain else "/"


@dataclass(frozen=True, slots=True)
class Providers:
    """The identity providers at which people sign in to the server at `public_url`: those of the
    issuers of `tokens` that have a client for it."""

    tokens: Tokens
    reach: Reach
    public_url: str

    @property
    def names(self) -> tuple[str, ...]:
        """The sections of the configuration that they are."""
        issuers = self.tokens.issuers.values()
        return tuple(issuer.section for issuer in issuers if issuer.client_id)

    @property
    def readings(self) -> Mapping[str, str]:
        """By their sections, the digests of what makes people of their tokens."""
        issuers = self.tokens.issuers
        return {section: issuers[section].reading for section in self.names}

    async def page(self, login: Login) -> str:
        """The URL of the provider's page where the login goes on. Raises `NotFound` and
        `Unavailable`."""
        issuer = self._issuer(login.section)
        document = await self.tokens.discovery(issuer)
        url: str = prepare_grant_uri(
            _endpoint(issuer, document, "authorization_endpoint").url,
            issuer.client_id,
            "code",
            redirect_uri=self._callback,
            scope=issuer.scopes,
            state=login.state,
            nonce=login.nonce,
            code_challenge=create_s256_code_challenge(login.verifier),
            code_challenge_method="S256",
        )
        return url

    async def finish(self, login: Login, *, code: str, state: str, issuer: str | None) -> Claimed:
        """The person who has signed in, for the code that came back with this state, and from this
        issuer, if that was said. Raises `BadToken`, `Forbidden`, `NotFound` and `Unavailable`."""
        if not same(state, login.state):
            raise BadToken("This browser has not begun this login.")
        known = self._issuer(login.section)
        document = await self.tokens.discovery(known)
        # RFC 9207: else the code of one provider could be handed to another one.
        says_issuer = document.get("authorization_response_iss_parameter_supported") is True
        if issuer != known.issuer and (says_issuer or issuer is not None):
            raise BadToken("The code is of another identity provider than the login.")
        answer = await self._exchange(known, document, login, code)
        return await self.tokens.verify_sign_in(known, _id_token(known, answer), login.nonce)

    async def end_page(self, section: str) -> str | None:
        """The URL of the provider's page that ends its own session too, if it has one."""
        issuer = self.tokens.issuers.get(section)
        if issuer is None:
            return None
        try:
            document = await self.tokens.discovery(issuer)
        except Unavailable:
            # Whoever signs out is signed out here, whatever the provider does.
            return None
        if not isinstance(document.get("end_session_endpoint"), str):
            return None
        parameters = [
            ("client_id", issuer.client_id),
            ("post_logout_redirect_uri", f"{self.public_url.rstrip('/')}/"),
        ]
        endpoint = _endpoint(issuer, document, "end_session_endpoint")
        url: str = add_params_to_uri(endpoint.url, parameters)
        return url

    @property
    def _callback(self) -> str:
        return f"{self.public_url.rstrip('/')}{CALLBACK}"

    def _issuer(self, section: str) -> Issuer:
        issuer = self.tokens.issuers.get(section)
        if issuer is None or not issuer.client_id:
            if not self.names:
                raise NotFound(
                    "There is no identity provider here to sign in at. One is a section "
                    "[issuers.<name>] of ASSENT_CONFIG that has a client_id."
                )
            asked = f"no issuer '{visible(section[:100])}'" if section else "more than one issuer"
            raise NotFound(
                f"There is {asked} here to sign in at. Write ?issuer= and one of: "
                f"{', '.join(self.names)}."
            )
        return issuer

    async def _exchange(
        self, issuer: Issuer, document: JsonObject, login: Login, code: str
    ) -> Answer:
        """The provider's answer to the code."""
        if not 1 <= len(code) <= MAX_CODE or not code.isprintable():
            raise InvalidRequest(f"A code has 1 to {MAX_CODE} characters.")
        to = _endpoint(issuer, document, "token_endpoint")
        form = prepare_token_request(
            "authorization_code",
            redirect_uri=self._callback,
            code=code,
            code_verifier=login.verifier,
        )
        client = ClientAuth(issuer.client_id, _secret(issuer), _method(issuer, document))
        _, headers, body = client.prepare("POST", to.url, {**FORM}, form)
        try:
            return await self.reach.request(
                "POST", to, headers=headers, body=body.encode(), most=MAX_ANSWER_BYTES
            )
        except NotReached as error:
            raise _away(issuer, str(error)) from None


def _endpoint(issuer: Issuer, document: JsonObject, name: str) -> Destination:
    """The address that the discovery document has under this name."""
    url = document.get(name)
    try:
        return issuer.at(url if isinstance(url, str) else "")
    except ConfigurationError as error:
        raise _away(issuer, f"Its discovery document has no good '{name}'. {error}") from None


def _method(issuer: Issuer, document: JsonObject) -> str:
    """The way in which the provider lets the client show that it is itself."""
    if issuer.client_secret is None:
        return "none"
    supported = document.get("token_endpoint_auth_methods_supported")
    basic, post = "client_secret_basic", "client_secret_post"
    if isinstance(supported, list) and post in supported and basic not in supported:
        return post
    return basic


def _secret(issuer: Issuer) -> str:
    return "" if issuer.client_secret is None else issuer.client_secret.get_secret_value()


def _id_token(issuer: Issuer, answer: Answer) -> str:
    """The token in the answer. Raises `BadToken` if the provider has refused the code."""
    try:
        given = read_strictly(answer.body.decode())
    except (ValueError, RecursionError):
        given = None
    fields = given if isinstance(given, dict) else {}
    if 400 <= answer.status < 500:
        error = fields.get("error")
        is_code = isinstance(error, str) and re.fullmatch("[a-z_]{1,40}", error)
        log.warning("a login was refused", issuer=issuer.section, error=error if is_code else "?")
        raise BadToken(
            "The identity provider does not take the code: it was used, is too old, or is of "
            "another login. Sign in again."
        )
    token = fields.get("id_token")
    if not answer.is_success or not isinstance(token, str):
        raise _away(issuer, f"It answered with status {answer.status}, and without a token.")
    return token


def _away(issuer: Issuer, reason: str) -> Unavailable:
    log.warning("an issuer was not reached", issuer=issuer.section, reason=reason)
    return Unavailable(
        f"The identity provider '{issuer.section}' does not answer as it should. Try again later."
    )
