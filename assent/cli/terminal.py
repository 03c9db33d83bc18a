"""The parts that all commands share: their consoles, their settings, and their errors as one
sentence."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from assent.core.errors import AssentError
from assent.core.text import visible

if TYPE_CHECKING:
    from assent.config.settings import Settings


def console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def program() -> str:
    """This program as the person can call it again: by its path, if a shell would not find it."""
    called = sys.argv[0]
    if Path(called).name != "assent" or shutil.which("assent"):
        return "assent"
    return shlex.quote(called)


def print_sentence(out: Console, sentence: Text) -> None:
    """Print it in whole words on a terminal, and on one line for programs."""
    out.print(sentence, soft_wrap=not out.is_terminal)


def note(text: str, style: str = "dim") -> None:
    """Write to standard error, on one line, what is not part of the program's output."""
    console(stderr=True).print(Text(visible(text), style=style), soft_wrap=True)


def mebibytes(size: int) -> str:
    """This many bytes, for people."""
    return f"{size / (1 << 20):,.1f} MiB"


def complain(sentence: str) -> None:
    """Write to standard error what is wrong."""
    print_sentence(console(stderr=True), Text(visible(sentence), style="red"))


def fail(sentence: str, *, code: int = 1) -> NoReturn:
    """End the program with a sentence on standard error, and this exit code."""
    complain(sentence)
    raise typer.Exit(code)


@contextmanager
def errors_as_sentences(code: int = 1) -> Iterator[None]:
    """End the program with an `AssentError`'s sentence. A bug of ours keeps its traceback."""
    try:
        yield
    except AssentError as error:
        fail(error.message, code=code)


def read_settings() -> Settings:
    """The settings of the environment; a wrong one ends the program."""
    # Most commands have no use for them, and wait for no imports.
    from pydantic import ValidationError

    from assent.config.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        sentences = []
        for problem in error.errors():
            # The value is not repeated: it may hold secrets.
            name = f"ASSENT_{problem['loc'][0]}".upper()
            wrong = problem["msg"].removeprefix("Value error, ").rstrip(".")
            if problem["type"] == "bool_parsing":
                wrong = "it is a switch. Write true or false"
            sentences.append(f"The setting {name} is wrong: {wrong}.")
        fail(" ".join(sentences), code=2)
