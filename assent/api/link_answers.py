"""The answer to a question on the page behind a link, and in a dialog in Slack: its inputs, and
what was typed into them. The words are those of a terminal (`assent.core.question_text`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from assent.api.schemas import storable
from assent.core.approval import Approval
from assent.core.json import Json
from assent.core.question_text import Answers, Field, NotUnderstood, answers_for, form_of
from assent.core.text import visible

ANSWER = "answer"
"""The name of the only input, and the beginning of the names of several."""


class Input(NamedTuple):
    """An input by its name, and its label; `needed` if it must be filled in."""

    name: str
    label: str
    needed: bool


def inputs_in_words(approval: Approval) -> Sequence[Input]:
    """The inputs for the answer, where each is a field for a text."""
    fields = form_of(approval.schema)
    if not fields:
        answers = answers_for(approval.current_args, approval.schema)
        return [Input(ANSWER, _with_choices(f"Your answer ({answers.hint})", answers), True)]
    return [
        Input(name, _with_choices(_label(field), field.answers), field.needed)
        for name, field in _named(fields)
    ]


def inputs(approval: Approval, given: Mapping[str, str]) -> str:
    """The inputs for the answer; `given` is what was typed into them before."""
    fields = form_of(approval.schema)
    if not fields:
        answers = answers_for(approval.current_args, approval.schema)
        return _labelled(ANSWER, f"Your answer ({answers.hint})", answers, given)
    html = ""
    for name, field in _named(fields):
        html += _labelled(name, _label(field), field.answers, given, needed=field.needed)
    return html


def read(approval: Approval, given: Mapping[str, str]) -> Json:
    """The answer that was typed. Raises `NotUnderstood`."""
    fields = form_of(approval.schema)
    if not fields:
        return _read(
            answers_for(approval.current_args, approval.schema), given.get(ANSWER, "").strip()
        )
    filled: dict[str, Json] = {}
    for name, field in _named(fields):
        text = given.get(name, "").strip()
        if not text and not field.needed:
            continue
        try:
            filled[field.name] = _read(field.answers, text)
        except NotUnderstood as problem:
            raise NotUnderstood(f"{field.name}: {problem}") from None
    return filled


def _named(fields: Sequence[Field]) -> Iterator[tuple[str, Field]]:
    for number, field in enumerate(fields):
        yield f"{ANSWER}.{number}", field


def _read(answers: Answers, text: str) -> Json:
    if not text:
        raise NotUnderstood("An answer is needed.")
    try:
        return storable(answers.read(text))
    except ValueError as problem:
        # The page is a door like any other: what is stored must be what was typed.
        raise NotUnderstood(f"This cannot be taken: {problem}.") from None


def _label(field: Field) -> str:
    hint = field.answers.hint if field.needed else f"{field.answers.hint}; may be empty"
    about = f": {field.description}" if field.description else ""
    return f"{field.name}{about} ({hint})"


def _with_choices(label: str, answers: Answers) -> str:
    choices = f": {', '.join(answers.texts)}" if answers.texts else ""
    return visible(f"{label}{choices}", keep="")


def _labelled(
    name: str, label: str, answers: Answers, given: Mapping[str, str], *, needed: bool = True
) -> str:
    shown = escape(visible(label, keep=""))
    typed = given.get(name, "")
    options = answers.texts or (("yes", "no") if answers.type == "boolean" else ())
    if options and (answers.only or answers.type == "boolean"):
        control = _choice(name, options, typed, needed=needed)
    elif answers.type in ("integer", "number"):
        control = f'<input id="{name}" name="{name}" inputmode="decimal" value="{escape(typed)}">'
    else:
        control = f'<textarea id="{name}" name="{name}" rows="4">{escape(typed)}</textarea>'
        if options:
            shown += f": {escape(visible(', '.join(options), keep=''))}"
    return f'<h2><label for="{name}">{shown}</label></h2>{control}'


def _choice(name: str, options: Sequence[str], typed: str, *, needed: bool) -> str:
    html = "" if needed and typed else '<option value=""></option>'
    for option in options:
        chosen = " selected" if option == typed else ""
        value, shown = escape(option), escape(visible(option, keep=""))
        html += f'<option value="{value}"{chosen}>{shown}</option>'
    return f'<select id="{name}" name="{name}">{html}</select>'
