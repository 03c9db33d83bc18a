"""`assent backup`: a copy of the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from assent.cli.stopped import database_there
from assent.cli.terminal import console, errors_as_sentences, fail, mebibytes, read_settings
from assent.config.settings import Settings
from assent.core.key_files import LINKS, PEPPER
from assent.core.text import visible
from assent.storage.folder_files import folder_of
from assent.storage.sqlite.audit_chain import key_file
from assent.storage.sqlite.database import back_up, resolved


def backup(
    file: Annotated[Path, typer.Argument(help="The copy, which must not exist yet.")],
) -> None:
    """Copy the database to one file, and its uploads to a folder beside that, also while a server
    has them open.

    The copy has everything that was committed when it began. Keys are named, and not copied: keep
    them in another place. Exits with 0 if the copy was made, 1 if it could not be, 2 if the request
    makes no sense.
    """
    settings = read_settings()
    path, copy = database_there(settings), resolved(file)
    if copy.exists():
        fail(f"There is a file {copy} already. Name another.", code=2)
    with errors_as_sentences():
        made = back_up(path, copy)

    out = console()
    out.print(
        visible(f"Copied {path} to {copy}, {mebibytes(copy.stat().st_size)}."), soft_wrap=True
    )
    if made.uploads:
        out.print(visible(f"Copied {made.uploads:,} uploads to {folder_of(copy)}."), soft_wrap=True)
    keys = list(_keys(path, made.keys, settings))
    if keys:
        out.print("These keys were not copied. Keep them too, in another place:")
    for key in keys:
        out.print(visible(f"  {key}"), soft_wrap=True)


def _keys(path: Path, key_ids: Sequence[str], settings: Settings) -> Iterator[str]:
    """The keys that a server over the copy needs, as their keepers know them."""
    if key_ids:
        yield f"ASSENT_ENCRYPTION_KEY: {', '.join(key_ids)}"
    for variable, is_set in (
        ("ASSENT_AUDIT_KEY", settings.audit_key),
        (LINKS.setting, settings.link_key),
        (PEPPER.setting, settings.key_pepper),
    ):
        if is_set is not None:
            yield variable
    # Those that were made because none was set.
    for file in (key_file(path), PEPPER.path(path), LINKS.path(path)):
        if file.is_file():
            yield str(file)
