"""The sources of identities that need no storage: the keys of the settings, and the app that the
server is a part of."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from assent.api.access.given import Given
from assent.api.access.identity import BY_APP, Credential, Found, Identity, Kind
from assent.core.access import check_role
from assent.core.audit import Authentication
from assent.core.errors import ConfigurationError
from assent.core.json import JsonObject, encode_json
from assent.core.names import MAX_NAME, is_tenant, why_no_name

MAX_KNOWN_BYTES = 16 * 1024
"""The most bytes, as JSON, of what an app says of a person besides their name."""


@dataclass(frozen=True, slots=True)
class KeysOfSettings:
    """Knows people by the `keys` of `ASSENT_API_KEYS`, by name."""

    keys: Mapping[str, str] = field(repr=False)
    kind: Final[Kind] = "setting"

    async def find(self, given: Given | None, request: Request) -> Found | None:
        name = self._name_of(given.text) if given is not None else None
        return None if name is None else self.found(name)

    async def renew(self, identity: Identity) -> Found | None:
        # They are those of the process, to its end.
        name = identity.credential.id
        return self.found(name) if name in self.keys else None

    def _name_of(self, text: str) -> str | None:
        """The name that the key belongs to."""
        # Every key is compared, each in constant time, so that the time says nothing about any of
        # them.
        given = text.encode()
        keys = self.keys.items()
        names = [name for name, key in keys if hmac.compare_digest(key.encode(), given)]
        return names[0] if names else None

    def found(self, name: str) -> Found:
        """The person who has this key."""
        return Found(name, Authentication.API_KEY, Credential(self.kind, name))


# ── known by the app around ───────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class AppAround:
    """Knows those whom the app around the server has named for this request (`identifying`)."""

    kind: Final[Kind] = "host"

    async def find(self, given: Given | None, request: Request) -> Found | None:
        found: Found | None = request.scope.get(BY_APP)
        if found is None:
            raise HTTPException(401, "This server must know who you are, and does not.")
        return found

    async def renew(self, identity: Identity) -> Found | None:
        # Their app is asked anew with each request.
        return identity.as_found()


def identifying(auth: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, None]]:
    """A dependency that asks the app's own dependency who sends the request."""

    found_by_app = Depends(auth)

    async def identify(request: Request, found: Any = found_by_app) -> None:
        found_there = said_by("Assent(auth=…)", found, Authentication.HOST, Credential("host"))
        if found_there is None:
            raise HTTPException(401, "Log in first: this server must know who you are.")
        request.scope[BY_APP] = found_there

    return identify


OWN_FIELDS = ("identity", "assent_roles", "assent_tenant", "assent_known_to")
"""The fields of what an app says of a person that are for this server, and not for agents."""


def said_by(
    source: str, said: Any, authentication: Authentication, credential: Credential
) -> Found | None:
    """The person in what an app's code, the `source`, has said; None for nobody. Raises 403 for a
    name that nobody can have, and `ConfigurationError` for what makes no sense: that is the app's
    mistake."""
    name = _name_in(source, said)
    if not name:
        return None
    if (reason := why_no_name(name)) is not None:
        raise HTTPException(403, f"You have a name that nobody can have here: it {reason}.")
    roles = _texts(source, said, "assent_roles")
    for role in roles or ():
        check_role(role)
    tenant = _field(said, "assent_tenant")
    if tenant is not None and not (isinstance(tenant, str) and is_tenant(tenant)):
        raise ConfigurationError(f"{source} gave an 'assent_tenant' that is no name of a tenant.")
    return Found(
        name,
        authentication,
        credential,
        tenant=tenant,
        roles=roles or (),
        known=_known(source, said),
        known_to=_texts(source, said, "assent_known_to") or (),
        takes_defaults=roles is None,
    )


def _name_in(source: str, said: Any) -> str:
    if said is None:
        return ""
    name = said if isinstance(said, str) else _field(said, "identity")
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"{source} gave a {type(said).__name__} without a name. It should give a text of at "
            f"most {MAX_NAME} characters, a mapping with 'identity', an object with .identity, or "
            "None for nobody."
        )
    return name.strip()


def _field(said: Any, name: str) -> Any:
    return said.get(name) if isinstance(said, Mapping) else getattr(said, name, None)


def _texts(source: str, said: Any, name: str) -> tuple[str, ...] | None:
    found = _field(said, name)
    if found is None:
        return None
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
        raise ConfigurationError(f"{source} gave '{name}' that is no list of texts.")
    return tuple(found)


def _known(source: str, said: Any) -> JsonObject:
    """The rest of what the app says of a person, as JSON. It is kept with their runs. Raises
    `ConfigurationError` if it is too much."""
    if not isinstance(said, Mapping):
        fields = {name: getattr(said, name, None) for name in ("display_name", "permissions")}
        said = {name: each for name, each in fields.items() if isinstance(each, str | list)}
    try:
        known: JsonObject = msgspec.to_builtins(
            {name: each for name, each in said.items() if name not in OWN_FIELDS}
        )
    except TypeError as error:
        raise ConfigurationError(
            f"{source} gave a mapping that is not JSON: {error}. Leave out what your agents need "
            "not see."
        ) from error
    if (size := len(encode_json(known))) > MAX_KNOWN_BYTES:
        raise ConfigurationError(
            f"{source} gave {size} bytes about a person, and at most {MAX_KNOWN_BYTES} are kept "
            "with their runs. Leave out what your agents need not see."
        )
    return known
