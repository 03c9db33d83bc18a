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
from assent.api.access.origins import check_page
from assent.api.context import served
from assent.core.audit import Authentication
from assent.core.errors import ConfigurationError
from assent.core.json import JsonObject, encode_json

MAX_NAME = 200

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
        return Found(
            identity.owner.name,
            identity.authentication,
            identity.credential,
            tenant=identity.owner.tenant,
            known=identity.known,
        )


def identifying(auth: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, None]]:
    """A dependency that asks the app's own dependency who sends the request."""

    found_by_app = Depends(auth)

    async def identify(request: Request, found: Any = found_by_app) -> None:
        name = _name_in(found)
        if not name:
            raise HTTPException(401, "Log in first: this server must know who you are.")
        check_page(request, served(request).origins)
        request.scope[BY_APP] = Found(
            name, Authentication.HOST, Credential("host"), known=_known(found)
        )

    return identify


def _name_in(found: Any) -> str:
    """The name in what the app's dependency has found, "" for nobody. Raises `ConfigurationError`
    if it gives something else: that is the app's mistake."""
    if found is None:
        return ""
    name = found
    if isinstance(found, Mapping):
        name = found.get("identity")
    elif not isinstance(found, str):
        name = getattr(found, "identity", None)
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"Assent(auth=…) gave a {type(found).__name__} without a name. It should give a text "
            f"of at most {MAX_NAME} characters, a mapping with 'identity', an object with "
            ".identity, or None for nobody."
        )
    return name.strip()


def _known(found: Any) -> JsonObject:
    """What the app says of a person besides their name, as JSON. It is kept with their runs. Raises
    `ConfigurationError` if it is too much."""
    if not isinstance(found, Mapping):
        fields = {name: getattr(found, name, None) for name in ("display_name", "permissions")}
        found = {name: each for name, each in fields.items() if isinstance(each, str | list)}
    try:
        known: JsonObject = msgspec.to_builtins(
            {name: each for name, each in found.items() if name != "identity"}
        )
    except TypeError as error:
        raise ConfigurationError(
            f"Assent(auth=…) gave a mapping that is not JSON: {error}. Leave out what your agents "
            "need not see."
        ) from error
    if (size := len(encode_json(known))) > MAX_KNOWN_BYTES:
        raise ConfigurationError(
            f"Assent(auth=…) gave {size} bytes about a person, and at most {MAX_KNOWN_BYTES} are "
            "kept with their runs. Leave out what your agents need not see."
        )
    return known
