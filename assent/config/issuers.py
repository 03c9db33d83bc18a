"""Issuers: identity providers whose tokens say who somebody is, as the operator configures them.

    [issuers.corp]
    issuer = "https://login.example.com/realms/corp"
    audience = "assent"
    algorithm = "RS256"
    roles = "realm_access.roles"
    role_map = {"assent-users" = "operator", "assent-leads" = ["approver", "lead"]}

`env:NAME` stands for the value of an environment variable where a value may be secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

import msgspec
from pydantic import SecretStr

from assent.core.access import check_role
from assent.core.digest import call_digest
from assent.core.environment import value_of
from assent.core.errors import ConfigurationError
from assent.core.json import Json
from assent.core.named_tables import read_tables
from assent.notify.reaching import Destination

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""The algorithms by which tokens may be signed: those in which only the issuer has the key that
signs. With the others, whoever verifies can sign too."""

MAX_LEEWAY = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """An identity provider. Its tokens name the `issuer` and the `audience`, and are signed by the
    one `algorithm`, with a key of the set at `jwks`; without that, the issuer's discovery document
    says where it is.

    A claim of each token has the person's `name`, which gets the `prefix`; others their `roles`,
    which `role_map` makes roles of here, and their `tenant`, if there are any. A time may be wrong
    by `leeway` seconds. With a `client_id` people sign in from a browser, for these `scopes`,
    which have spaces between them.
    """

    section: str
    issuer: str
    audience: str
    algorithm: str
    jwks: str = ""
    name: str = "sub"
    roles: str = "roles"
    role_map: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tenant: str = ""
    prefix: str
    leeway: int = 30
    client_id: str = ""
    client_secret: SecretStr | None = None
    scopes: str = "openid"
    allow_private: bool = False
    allow_http: bool = False

    @property
    def reading(self) -> str:
        """A digest of all by which a person is made of a token: with another one, they may be
        somebody else, or have other roles."""
        role_map = {role: [*ours] for role, ours in self.role_map.items()}
        claims = [self.name, self.prefix, self.roles, self.tenant]
        return call_digest(self.issuer, [self.client_id, claims, role_map])

    def at(self, url: str) -> Destination:
        """The URL, as one that requests for this issuer may go to. Raises `ConfigurationError` for
        what is none."""
        return Destination(url=url, allow_private=self.allow_private, allow_http=self.allow_http)


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An issuer as the operator writes it."""

    issuer: str
    audience: str
    algorithm: str
    jwks: str = ""
    name: str = "sub"
    roles: str = "roles"
    role_map: dict[str, str | tuple[str, ...]] = {}
    tenant: str = ""
    prefix: str | None = None
    leeway: int = 30
    client_id: str = ""
    client_secret: str = ""
    scopes: str = "openid"
    allow_private: bool = False
    allow_http: bool = False


def issuers_from_json(value: Json, environment: Mapping[str, str]) -> tuple[Issuer, ...]:
    """Read the issuers from JSON or TOML, by the names of their sections. Raises
    `ConfigurationError`, which repeats no secret."""

    def read(section: str, written: _Written) -> Issuer:
        return _issuer(section, written, environment)

    issuers = read_tables(value, "issuer", _Written, read)
    _check_apart(issuers)
    return issuers


def _issuer(section: str, written: _Written, environment: Mapping[str, str]) -> Issuer:
    for name in ("issuer", "audience", "name"):
        if not getattr(written, name).strip():
            raise ConfigurationError(f"Its '{name}' is empty.")
    if written.algorithm not in ALGORITHMS:
        raise ConfigurationError(
            f"Its algorithm is '{written.algorithm}'. Write the one by which it signs its tokens, "
            f"of {', '.join(ALGORITHMS)}. With 'none' and 'HS256' anybody could make one."
        )
    if not 0 <= written.leeway <= MAX_LEEWAY:
        raise ConfigurationError(f"Its leeway is no number from 0 to {MAX_LEEWAY} seconds.")
    if written.client_secret and not written.client_id:
        raise ConfigurationError("It has a client_secret and no client_id.")
    if written.client_id and "openid" not in written.scopes.split():
        raise ConfigurationError("Its scopes lack 'openid', so it would not say who signs in.")
    options = msgspec.structs.asdict(written)
    options["prefix"] = f"{section}:" if written.prefix is None else written.prefix
    options["role_map"] = {
        theirs: (ours,) if isinstance(ours, str) else ours
        for theirs, ours in written.role_map.items()
    }
    for role in chain.from_iterable(options["role_map"].values()):
        check_role(role)
    secret = value_of(written.client_secret, environment)
    options["client_secret"] = SecretStr(secret) if secret else None
    issuer = Issuer(section=section, **options)
    for url in (issuer.issuer, *filter(None, [issuer.jwks])):
        issuer.at(url)
    return issuer


def _check_apart(issuers: tuple[Issuer, ...]) -> None:
    """Raise `ConfigurationError` if it is not clear of which issuer a token or a name is."""
    for number, issuer in enumerate(issuers):
        for other in issuers[:number]:
            if issuer.issuer == other.issuer:
                raise ConfigurationError(
                    f"'{other.section}' and '{issuer.section}' are the same issuer. Leave one."
                )
            longer, shorter = sorted((issuer, other), key=lambda each: -len(each.prefix))
            if longer.prefix.startswith(shorter.prefix):
                raise ConfigurationError(
                    f"The people of '{longer.section}' could have names of people of "
                    f"'{shorter.section}'. Give each a prefix with which no other's begins."
                )
