"""`assent doctor`: the database's check-up."""

from __future__ import annotations

from rich.text import Text

from assent.cli.terminal import console, fail, print_sentence, read_settings
from assent.core.text import visible
from assent.storage.sqlite.checkup import Level, check_up

SIGNS = {
    Level.OK: ("ok", "green"),
    Level.NOTE: ("note", "yellow"),
    Level.WRONG: ("WRONG", "bold red"),
}


def doctor() -> None:
    """Check the database, also while a server has it open. Nothing is changed.

    Exits with 0 if all is well, 1 if something is wrong, 2 if a setting makes no sense.
    """
    out = console()
    wrong = 0
    for finding in check_up(read_settings().database_path):
        sign, style = SIGNS[finding.level]
        line = Text.assemble(
            (f"{sign:5}  ", style),
            (f"{finding.subject:13}  ", "dim"),
            visible(finding.sentence),
        )
        print_sentence(out, line)
        wrong += finding.level is Level.WRONG
    if wrong:
        fail(f"{wrong} finding(s) need your attention.")
