"""`assent audit`: the audit chain, verified and exported."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer

from assent.cli.terminal import errors_as_sentences, fail, read_settings
from assent.config.settings import Settings
from assent.core.clock import time_text
from assent.core.errors import InvalidRequest
from assent.storage.chain import Heads, head_of, heads_from_text, record_to_json, unchecked_sentence
from assent.storage.sqlite.audit_chain import AuditFile
from assent.storage.sqlite.database import resolved

commands = typer.Typer(
    help="Verify or export the audit chain, also while a server has the database open.",
    no_args_is_help=True,
)


class ExportFormat(StrEnum):
    """The ways to write rows."""

    JSONL = "jsonl"
    CSV = "csv"


@commands.command()
def verify(
    head: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NUMBER:MAC",
            help="A head that was sent away, or a file with one in each line: with it, a chain "
            "whose end was cut off is found too. Default: the file of ASSENT_AUDIT_HEAD_FILE.",
        ),
    ] = None,
) -> None:
    """Check that no row of the audit chain was edited, removed, moved or inserted.

    Names the first row that is not as it was written. Exits with 0 if the chain is whole, 1 if it
    is not, 2 if that cannot be known: a key is missing, or is another one.
    """
    settings = read_settings()
    with errors_as_sentences(code=2):
        # Read before the chain, which may grow meanwhile.
        heads = _heads(head or [], settings)
        with _open(settings) as file:
            result = file.verify(heads)

    if result.broken is not None:
        path = resolved(settings.database_path)
        fail(f"The audit chain of {path} is broken. {result.broken.sentence}")
    if result.unchecked:
        fail(unchecked_sentence(result.unchecked), code=2)
    if result.last is None:
        typer.echo("The audit chain is whole: it has no rows yet.")
        return

    last = head_of(result.last)
    typer.echo(
        f"The audit chain is whole: {last.number:,} row(s), the last of {time_text(last.at)}."
    )
    typer.echo(f"Its head: {last.number}:{last.mac}")
    if not heads:
        typer.echo(
            "To find out if its end was cut off, give a head that was kept elsewhere: --head."
        )


@commands.command()
def export(
    format: Annotated[
        ExportFormat, typer.Option(help="One JSON object per line, or CSV with a header.")
    ] = ExportFormat.JSONL,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only rows of this time or later: 2026-01-31, or RFC 3339."
        ),
    ] = None,
) -> None:
    """Write the audit chain to standard output, oldest row first.

    It is not verified: run `assent audit verify` too.
    """
    settings = read_settings()
    with errors_as_sentences(code=2), _open(settings) as file:
        records = map(record_to_json, file.records(_time(since)))
        if format is ExportFormat.CSV:
            _write_csv(records)
            return
        for record in records:
            sys.stdout.write(orjson.dumps(record).decode() + "\n")


def _open(settings: Settings) -> AbstractContextManager[AuditFile]:
    return AuditFile.open(
        settings.database_path,
        audit_key=settings.audit_secret,
        encryption_key=settings.encryption_secret,
    )


def _heads(given: list[str], settings: Settings) -> Heads | None:
    file = settings.audit_head_file
    if not given and file and file.is_file():
        given = [str(file)]
    return heads_from_text("\n".join(map(_head_text, given))) if given else None


def _head_text(given: str) -> str:
    if re.fullmatch("[0-9]+:[0-9a-fA-F]+", given):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The head '{given}' is neither a number and a MAC, such as 12:ab34…, "
            f"nor a file that can be read: {error}."
        ) from error


def _write_csv(records: Iterable[Mapping[str, object]]) -> None:
    writer: csv.DictWriter[str] | None = None
    for record in records:
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(record))
            writer.writeheader()
        writer.writerow({**record, "detail": orjson.dumps(record["detail"]).decode()})


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"'{text}' is not a time. Write 2026-01-31, or 2026-01-31T09:30:00Z."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
