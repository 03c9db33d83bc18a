"""What is typed: by a person, who can edit it on a terminal, or by a program in a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TextIO, TypeVar, cast

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.application.current import get_app_session
from prompt_toolkit.buffer import ValidationState
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Always
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input.typeahead import clear_typeahead
from prompt_toolkit.layout.containers import HSplit, VerticalAlign
from prompt_toolkit.output import create_output
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style
from prompt_toolkit.validation import ValidationError, Validator
from rich.console import Console
from rich.text import Text

from assent.cli.folding import folded
from assent.core.question_text import NotUnderstood
from assent.core.text import visible

T = TypeVar("T")

MOST_REMEMBERED = 1000
"""Messages that the history keeps."""

HOW_TO_EDIT = "Esc Enter proposes it · Ctrl-X Ctrl-E opens your editor · Ctrl-C goes back"

HOW_TO_LEAVE = "Ctrl-C leaves it pending"

STYLE = Style.from_dict({"bottom-toolbar": "noreverse ansibrightblack"})


class Lines:
    """Reads lines, and what takes several.

    A person at a terminal that can redraw a line edits what they type, and is told beneath it what
    is wrong with it. Elsewhere a line is read as it comes, and asked for again.
    """

    def __init__(
        self, console: Console, *, commands: Sequence[str] = (), history: Path | None = None
    ) -> None:
        self.is_person = sys.stdin.isatty()
        self.can_edit = self.is_person and console.is_terminal and not console.is_dumb_terminal
        self._console = console
        self._commands = commands
        self._history = history
        self._messages: PromptSession[str] | None = None

    def message(self, prompt: str, toolbar: Callable[[], str]) -> str:
        """The next message. Raises `EOFError` at the end, and `KeyboardInterrupt` for Ctrl-C."""
        if not self.can_edit:
            return self._plain(prompt)
        if self._messages is None:
            self._messages = PromptSession(
                output=create_output(cast(TextIO, self._console.file)),
                style=STYLE,
                history=_history(self._history),
                completer=WordCompleter([*self._commands], sentence=True),
                complete_while_typing=False,
                complete_style=CompleteStyle.READLINE_LIKE,
            )
        return self._messages.prompt(
            _as_it_is(prompt), bottom_toolbar=lambda: _as_it_is(visible(toolbar(), keep=""))
        )

    def ask(
        self, question: str, read: Callable[[str], T], *, default: str = "", error: str = ""
    ) -> T:
        """What `read` makes of an answer: until it raises `NotUnderstood` no more. The `error` is
        what was wrong with the `default`, which was typed before."""
        if self.can_edit:
            return read(self._edited(question, read, default, error))
        self._tell(error)
        while True:
            typed = self._plain(question)
            try:
                return read(typed)
            except NotUnderstood as problem:
                self._tell(str(problem))

    def edit(
        self, text: str, read: Callable[[str], T], *, question: str = "", error: str = ""
    ) -> T | None:
        """What `read` makes of the text, as a person has changed it; None if they go back. In a
        pipe, the `question` asks for one line in its place."""
        if not self.is_person:
            return self.ask(question, read, error=error)
        if self.can_edit:
            try:
                return read(self._edited("", read, text, error, is_long=True))
            except (KeyboardInterrupt, EOFError):
                return None
        return self._in_editor(text, read, error)

    def forget(self) -> None:
        """Drop what was typed before a question was shown: it is no answer to it."""
        if self.can_edit:
            clear_typeahead(get_app_session().input)
        if self.is_person and os.name == "posix":
            import termios

            termios.tcflush(sys.stdin, termios.TCIFLUSH)

    # ── ways to read ──────────────────────────────────────────────────────────────────────────────

    def _plain(self, prompt: str) -> str:
        out = self._console.file
        out.write(prompt)
        out.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def _edited(
        self,
        question: str,
        read: Callable[[str], object],
        default: str,
        error: str,
        *,
        is_long: bool = False,
    ) -> str:
        # Answers are not remembered: unlike messages, they get a session of their own.
        session: PromptSession[str] = PromptSession(
            output=create_output(cast(TextIO, self._console.file)),
            style=STYLE,
            multiline=is_long,
            enable_open_in_editor=is_long,
            tempfile_suffix=".json",
            bottom_toolbar=lambda: _beneath(session, HOW_TO_EDIT if is_long else HOW_TO_LEAVE),
            validator=_Reading(read, lambda: session.output.get_size().columns),
            validate_while_typing=False,
        )
        _stand_together(session)
        return session.prompt(
            _as_it_is(question), default=default, pre_run=lambda: _show(session, error)
        )

    def _in_editor(self, text: str, read: Callable[[str], T], error: str) -> T | None:
        self._tell(error)
        while True:
            edited = click.edit(f"{text}\n", extension=".json")
            if edited is None:
                return None
            try:
                return read(edited)
            except NotUnderstood as problem:
                self._tell(str(problem))
            self._plain("Enter edits it again, Ctrl-C leaves it pending: ")
            text = edited.rstrip("\n")

    def _tell(self, sentence: str) -> None:
        if sentence:
            self._console.print(Text(visible(sentence), style="yellow"), soft_wrap=True)


class _Reading(Validator):
    """Accepts what can be read; what else is typed stays, with the reason beneath it."""

    def __init__(self, read: Callable[[str], object], width: Callable[[], int]) -> None:
        self._read = read
        self._width = width

    def validate(self, document: Document) -> None:
        try:
            self._read(document.text)
        except NotUnderstood as problem:
            sentence = _in_lines(str(problem), self._width())
            raise ValidationError(len(document.text), sentence) from problem


def _show(session: PromptSession[str], error: str) -> None:
    """Show what is wrong with the text that the session begins with."""
    if error:
        sentence = _in_lines(error, session.output.get_size().columns)
        session.default_buffer.validation_state = ValidationState.INVALID
        session.default_buffer.validation_error = ValidationError(0, sentence)


def _in_lines(sentence: str, width: int) -> str:
    return folded(visible(sentence, keep=""), width)


def _beneath(session: PromptSession[str], usual: str) -> FormattedText:
    """The lines beneath the text: the rest of what is wrong, of which the first line is shown
    above them, and what is usual there."""
    error = session.default_buffer.validation_error
    lines = error.message.split("\n")[1:] if error is not None else []
    if error is None or usual != HOW_TO_LEAVE or HOW_TO_LEAVE not in error.message:
        lines.append(_in_lines(usual, session.output.get_size().columns))
    return _as_it_is("\n".join(lines))


def _stand_together(session: PromptSession[str]) -> None:
    """Have what stands beneath a text right there, and not at the bottom of the terminal."""
    session.layout.current_window.dont_extend_height = Always()
    whole = session.layout.container
    assert isinstance(whole, HSplit)
    whole.align = VerticalAlign.TOP


def _as_it_is(text: str) -> FormattedText:
    """A text in which nothing is markup."""
    return FormattedText([("", text)])


# ── the history ───────────────────────────────────────────────────────────────────────────────────


def history_file(environment: Mapping[str, str]) -> Path:
    """The file of the messages that this person has typed."""
    state = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "assent" / "history"


class _KeptHistory(FileHistory):
    """A history that nobody else can read, and that does not grow without end."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._file = file
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        newest = [*super().load_history_strings()]
        if len(newest) > MOST_REMEMBERED:
            self._rewrite(reversed(newest[:MOST_REMEMBERED]))

    def store_string(self, string: str) -> None:
        # What cannot be remembered, on a full disk, is sent all the same.
        with suppress(OSError):
            super().store_string(string)

    def _rewrite(self, messages: Iterable[str]) -> None:
        # Only its owner can read a temporary file, and nobody sees it half-written.
        with NamedTemporaryFile(dir=self._file.parent, delete=False) as kept:
            self.filename = kept.name
            for message in messages:
                self.store_string(message)
        Path(kept.name).replace(self._file)
        self.filename = self._file


def _history(file: Path | None) -> History:
    """The history in this file; one that is forgotten, if there can be no file."""
    if file is None:
        return InMemoryHistory()
    try:
        return _KeptHistory(file)
    except OSError:
        return InMemoryHistory()
