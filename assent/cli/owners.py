"""`assent owners`: whose the threads of a server are."""

from __future__ import annotations

from typing import Annotated

import typer

from assent.cli.stopped import database_there, in_database
from assent.cli.terminal import console, errors_as_sentences, fail, read_settings
from assent.core.access import Owner
from assent.core.clock import Clock
from assent.core.text import visible
from assent.runs.keys import check_owner
from assent.runs.owners import Move, Moved
from assent.storage.base import Storage

commands = typer.Typer(
    help="Change whose the threads, schedules, assistants and uploads in a database are. Exits "
    "with 0 if it is done, 1 if it could not be, 2 if the request makes no sense.",
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
    """Give all threads, schedules, assistants and uploads of one person to another.

    What was made before the server had keys is `local`'s. Stop the server first. With four eyes the
    new owner is whoever the old one was. Standing grants go along, and unused links of the old name
    decide nothing any more. The audit chain, the feeds of what happened, answers to requests that
    are sent again, what agents keep in the store, and keys stay as they are.
    """
    old, new = Owner(source, from_tenant), Owner(target, tenant)
    settings = read_settings()
    database_there(settings)
    if old == new:
        fail(f"'{source}' has all that already. Name another.", code=2)
    with errors_as_sentences(code=2):
        check_owner(new)

    async def move_all(storage: Storage, clock: Clock) -> Moved:
        return await Move(storage, clock, old, new)()

    with errors_as_sentences():
        moved = in_database(settings, move_all, if_held="Stop it first.")
    sentence = (
        f"'{target}' has {moved.threads:,} thread(s), {moved.schedules:,} schedule(s), "
        f"{moved.uploads:,} upload(s), {moved.grants:,} standing grant(s) and "
        f"{moved.assistants:,} assistant(s) of '{source}' now. "
        "What agents keep in the store, the feeds and the audit chain stay as they are."
    )
    console().print(visible(sentence), soft_wrap=True)
