"""`assent owners`: whose the threads of a server are."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from assent.cli.terminal import console, errors_as_sentences, fail, read_settings
from assent.config.settings import Settings
from assent.core.access import Owner
from assent.core.clock import Clock
from assent.core.text import visible
from assent.runs.keys import check_owner
from assent.runs.owners import Move, Moved
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.database import is_held, resolved

commands = typer.Typer(
    help="Change whose the threads, schedules and uploads in a database are. Exits with 0 if it is "
    "done, 1 if it could not be, 2 if the request makes no sense.",
    no_args_is_help=True,
)

Tenant = Annotated[str | None, typer.Option(metavar="NAME", help="The tenant of the new owner.")]
FromTenant = Annotated[str | None, typer.Option(metavar="NAME", help="That of the old one.")]


@commands.callback()
def owners() -> None:
    """Change whose the threads in a database are."""


@commands.command()
def move(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Whose they are, such as local.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Whose they are to be.")],
    tenant: Tenant = None,
    from_tenant: FromTenant = None,
) -> None:
    """Give all threads, schedules and uploads of one person to another.

    What was made before the server had keys is `local`'s. Stop the server first. With four eyes the
    new owner is whoever the old one was.
    """
    old, new = Owner(source, from_tenant), Owner(target, tenant)
    settings = read_settings()
    path = resolved(settings.database_path)
    if not path.is_file():
        fail(f"There is no database at {path}. Set ASSENT_DATABASE.", code=2)
    if old == new:
        fail(f"'{source}' has all that already. Name another.", code=2)
    with errors_as_sentences(code=2):
        check_owner(new)
    if is_held(path):
        fail(f"A server has {path} open. Stop it first.")
    with errors_as_sentences():
        moved = asyncio.run(_moved(settings, old, new))
    sentence = (
        f"'{target}' has {moved.threads:,} thread(s), {moved.schedules:,} schedule(s) and "
        f"{moved.uploads:,} upload(s) of '{source}' now."
    )
    console().print(visible(sentence), soft_wrap=True)


async def _moved(settings: Settings, old: Owner, new: Owner) -> Moved:
    clock = Clock()
    opening = SqliteStorage.open(
        settings.database_path,
        clock,
        encryption_key=settings.encryption_secret,
        audit_key=settings.audit_secret,
    )
    async with opening as storage:
        return await Move(storage, clock, old, new)()
