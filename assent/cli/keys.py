"""`assent keys`: the API keys of a server, in its file or over HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from assent.cli.connecting import ApiKey as Secret
from assent.cli.connecting import connected
from assent.cli.stopped import database_there, in_database
from assent.cli.terminal import console, errors_as_sentences, fail, note, read_settings
from assent.cli.wording import local_time
from assent.client import ApiKey
from assent.core.access import Owner
from assent.core.audit import LOCAL, Actor
from assent.core.clock import Clock, utc_now
from assent.core.policy import not_a_duration, read_duration
from assent.core.rows import ApiKey as Row
from assent.core.text import visible
from assent.runs.keys import Keys, check_owner, check_roles, key_to_json
from assent.runs.sessions import Sessions
from assent.storage.base import Storage

commands = typer.Typer(
    help="Make, list and revoke the API keys of a server: in its file while it is stopped, or with "
    "--url over HTTP. Exits with 0 if it is done, 1 if it was refused, 2 if the options make no "
    "sense.",
    no_args_is_help=True,
)

T = TypeVar("T")

Url = Annotated[
    str | None, typer.Option(help="A server that runs. Default: the file of ASSENT_DATABASE.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Tenant = Annotated[str | None, typer.Option(metavar="NAME", help="The tenant of the person.")]

DATE_WIDTH = len("2026-11-22")

BY = Actor(LOCAL)
"""Whoever has the machine."""


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="The person whose key it is.")],
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="A role: viewer, operator, approver, auditor, admin, approver:tool:TOOL, "
            "approver:role:ROLE, or one of policies. Also several times. Without any, the key "
            "gives what ASSENT_ROLES and ASSENT_DEFAULT_ROLES say; with --url it takes one."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long it is good, such as 90d.")
    ] = None,
    tenant: Tenant = None,
    about: Annotated[str, typer.Option("--note", help="What the key is for.")] = "",
    url: Url = None,
    api_key: Secret = None,
) -> None:
    """Make a key, and print it. It is shown this once, and kept nowhere."""
    owner, roles = Owner(name, tenant), role or []
    if url is not None and not roles:
        fail("With --url, name a --role: the key has those that are given to it alone.", code=2)
    with errors_as_sentences(code=2):
        ends = _end(expires)
        check_owner(owner)
        check_roles(roles)
    with errors_as_sentences():
        if url is not None:
            key = _made_by_request(url, api_key, owner, roles, ends, about)
        else:
            key = _in_file(lambda file: file.make(owner, roles, ends, about), new=True)
    until = "" if ends is None else f", good until {local_time(ends.isoformat())}"
    note(f"This is the key of '{name}'{until}. Keep it now: it is not shown again.")
    typer.echo(key)


@commands.command("list")
def list_keys(url: Url = None, api_key: Secret = None, as_json: AsJson = False) -> None:
    """List the keys, newest first, also those that are over. None is shown itself."""
    with errors_as_sentences():
        if url is not None:
            with connected(url, api_key, tell=note) as client:
                found = list(client.keys.list(limit=1000))
        else:
            found = [_shown(row) for row in _in_file(lambda file: file.keys.of())]
    if as_json:
        sys.stdout.write(json.dumps([key.fields for key in found], indent=2) + "\n")
    elif found:
        console().print(_table(found))
    else:
        note("There are no keys.")


@commands.command()
def revoke(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="The key's id.")] = None,
    person: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="All keys and sessions of this person instead."),
    ] = None,
    tenant: Tenant = None,
    url: Url = None,
    api_key: Secret = None,
) -> None:
    """Revoke a key, or all of a person's: it is good for nothing any more, and neither are the
    sessions that began with it."""
    if (id is None) == (person is None):
        fail("Name a key by its id, or a person by --person.", code=2)
    with errors_as_sentences():
        if person is not None:
            keys, sessions = _revoked_of(person, tenant, url, api_key)
            if not keys and not sessions:
                fail(
                    f"'{person}' has no key here that is good, and no session: nothing was "
                    "revoked. assent keys list says whose keys there are."
                )
            note(f"Revoked {keys} key(s) of '{person}', and ended {sessions} session(s).")
            return
        assert id is not None
        owner = _revoked(id, url, api_key)
        note(f"Revoked the key '{id}' of '{owner}'.")


# ── over HTTP ─────────────────────────────────────────────────────────────────────────────────────


def _made_by_request(
    url: str,
    secret: str | None,
    owner: Owner,
    roles: list[str],
    ends: datetime | None,
    about: str,
) -> str:
    if owner.tenant is not None:
        fail("Over HTTP a key is of the tenant of whoever makes it: leave --tenant.", code=2)
    with connected(url, secret, tell=note) as client:
        return client.keys.create(roles, person=owner.name, expires_at=ends, note=about).key


def _revoked(id: str, url: str | None, secret: str | None) -> str:
    """Revoke the key; whose it was."""
    if url is None:
        return _in_file(lambda file: file.keys.revoke(id, BY)).person
    with connected(url, secret, tell=note) as client:
        return client.keys.revoke(id).person


def _revoked_of(
    person: str, tenant: str | None, url: str | None, secret: str | None
) -> tuple[int, int]:
    """Revoke the person's keys and end their sessions; how many there were."""
    if url is None:
        return _in_file(lambda file: file.revoke_all(Owner(person, tenant)))
    with connected(url, secret, tell=note) as client:
        revoked = client.keys.revoke_all(person)
    return len(revoked.keys), revoked.sessions


# ── in the file ───────────────────────────────────────────────────────────────────────────────────


class _File:
    """The keys and sessions in the file of a server that is stopped."""

    def __init__(self, keys: Keys, sessions: Sessions, beside: Collection[str]) -> None:
        self.keys = keys
        self.sessions = sessions
        self._beside = beside

    async def make(self, owner: Owner, roles: list[str], ends: datetime | None, about: str) -> str:
        made = await self.keys.make(
            owner, roles, BY, expires_at=ends, note=about, beside=self._beside
        )
        return made.text

    async def revoke_all(self, owner: Owner) -> tuple[int, int]:
        revoked = await self.keys.revoke_all(owner, BY)
        return len(revoked), await self.sessions.end_all(owner, BY)


def _in_file(work: Callable[[_File], Awaitable[T]], *, new: bool = False) -> T:
    """The result of work in the file of ASSENT_DATABASE; `new` makes one that is missing."""
    settings = read_settings()
    if not new:
        database_there(settings)

    async def in_file(storage: Storage, clock: Clock) -> T:
        pepper = settings.pepper
        sessions = Sessions(
            storage, pepper, clock, settings.session_lifetime, settings.session_idle
        )
        return await work(_File(Keys(storage, pepper, clock), sessions, settings.api_keys))

    return in_database(
        settings,
        in_file,
        if_held="Ask it: --url http://127.0.0.1:8000, with a key in ASSENT_API_KEY; or stop it "
        "first, if it has no keys yet.",
    )


# ── shown ─────────────────────────────────────────────────────────────────────────────────────────


def _end(expires: str | None) -> datetime | None:
    """The time at which a key ends that is good for so long."""
    if expires is None:
        return None
    try:
        return utc_now() + msgspec.convert(read_duration(expires), timedelta)
    except (msgspec.ValidationError, OverflowError):
        fail(f"--expires: {not_a_duration(expires)}", code=2)


def _shown(row: Row) -> ApiKey:
    return ApiKey.of(key_to_json(row))


def _table(keys: Iterable[ApiKey]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("ID", "PERSON", "ROLES", "MADE BY", "MADE", "GOOD UNTIL", "LAST USED", "NOTE"):
        # On a narrow terminal a time is broken behind its date, and not within.
        width = DATE_WIDTH if column in ("MADE", "GOOD UNTIL", "LAST USED") else None
        table.add_column(column, overflow="fold", min_width=width)
    for key in keys:
        person = key.person if key.tenant is None else f"{key.person} ({key.tenant})"
        row = (
            *(key.key_id, person, ", ".join(key.roles), key.made_by or "this machine"),
            *(_time(key.created_at), _until(key), _time(key.last_used_at), key.note),
        )
        table.add_row(*(Text(visible(text, keep="")) for text in row))
    return table


def _until(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= utc_now():
        return "expired"
    return _time(key.expires_at, never="for ever")


def _time(moment: datetime | None, *, never: str = "never") -> str:
    return never if moment is None else local_time(moment.isoformat())
