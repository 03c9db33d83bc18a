"""Questions of a graph as a person reads them, and their answers as a person types them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assent.core.json import Json, read_typed

# ── the question ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parts of an approval that a person reads: `notes` of ours, `words` of whoever asks, and
    the `value` that is left (None if none is)."""

    notes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    value: Json = None


def read_question(args: Json, schema: Json) -> Asked:
    """The parts of a question that a graph asked with `interrupt()`."""
    if isinstance(args, str):
        return Asked(words=(args,))
    if not isinstance(args, Mapping):
        return Asked(value=args)

    rest = dict(args)
    for name in ("schema", "response_schema"):
        if name in rest and rest[name] == schema:
            del rest[name]

    words: list[str] = []
    for name in ("prompt", "question", "context"):
        if isinstance(rest.get(name), str):
            words.append(rest.pop(name))

    notes: list[str] = []
    if words and _are_texts(rest.get("reasons")):
        reasons = [REASONS.get(reason, reason) for reason in rest.pop("reasons")]
        notes.append(f"It is asked because {' and '.join(reasons)}.")
    if words and _are_texts(rest.get("choices")):
        # They are listed where they are chosen from.
        rest.pop("choices")
    return Asked(notes=tuple(notes), words=tuple(words), value=rest or None)


REASONS = {
    "ambiguity": "something is ambiguous",
    "missing_field": "something is missing",
    "conflicting_data": "the facts contradict each other",
    "low_confidence": "the agent is not sure",
    "out_of_scope": "it is beyond what the agent may decide",
    "other": "the agent cannot go on by itself",
}
"""The reasons that `ask_human` knows, as the end of a sentence."""


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


# ── the answer ────────────────────────────────────────────────────────────────────────────────────


class NotUnderstood(Exception):
    """The text is no answer; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers that a question takes.

    `listed` are answers to choose from, by number if they are `numbered`; with `only`, there are no
    others. `type` is the JSON type of the answer; "" leaves it open: text, or JSON.
    """

    listed: tuple[Json, ...] = ()
    only: bool = False
    numbered: bool = True
    type: str = ""

    @property
    def hint(self) -> str:
        """A few words on what to type."""
        if not self.listed:
            return HINTS.get(self.type, "text, or JSON")
        hint = "a number or the answer itself" if self.numbered else "one of these, in full"
        return hint if self.only else f"{hint}, or another"

    @property
    def texts(self) -> tuple[str, ...]:
        """The answers to choose from, as they are typed."""
        return tuple(map(_as_text, self.listed))

    def lines(self) -> list[str]:
        """A line for each answer to choose from."""
        lines: list[str] = []
        for number, answer in enumerate(self.listed, 1):
            mark = f"{number:3}" if self.numbered else "  -"
            text = _as_text(answer)
            if not text.isprintable():
                text = json.dumps(answer, ensure_ascii=False)
            lines.append(f"{mark}  {text}")
        return lines

    def read(self, text: str) -> Json:
        """The answer that was typed. Raises `NotUnderstood`."""
        for answer in self.listed:
            if text == _as_text(answer):
                return answer
        if self.numbered and text.isdecimal() and 1 <= int(text) <= len(self.listed):
            return self.listed[int(text) - 1]
        if self.only:
            raise NotUnderstood("This is none of the answers.")
        return _read(text, self.type)


HINTS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "yes or no",
    "object": "JSON",
    "array": "JSON",
}

YES = frozenset({"y", "yes"})
NO = frozenset({"n", "no"})


def answers_for(args: Json, schema: Mapping[str, Json] | None) -> Answers:
    """The answers that a question takes, by its schema and by the choices that it names."""
    named: Json = args.get("choices") if isinstance(args, Mapping) else None
    return _answers_of(schema or {}, named if _are_texts(named) else ())


def _answers_of(schema: Mapping[str, Json], named: Sequence[str] = ()) -> Answers:
    """The answers that fit a schema; `named` are choices from elsewhere."""
    enum = schema.get("enum")
    has_enum = isinstance(enum, list)
    listed: tuple[Json, ...] = tuple(enum or ()) if has_enum else tuple(named)
    kind = schema.get("type")

    # Without numbers if an answer looks like the number of another.
    numbers = [str(number) for number in range(1, len(listed) + 1)]
    texts = map(_as_text, listed)
    numbered = all(
        text == number or text not in numbers for text, number in zip(texts, numbers, strict=True)
    )
    return Answers(
        listed=listed,
        only=has_enum,
        numbered=numbered,
        type=kind if isinstance(kind, str) else "",
    )


def _as_text(answer: Json) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _read(text: str, kind: str) -> Json:
    if kind == "string":
        return text
    if kind == "boolean" and text.lower() in YES | NO:
        return text.lower() in YES
    try:
        return read_typed(text)
    except ValueError as error:
        if not kind and text[:1] not in ("{", "[", '"'):
            return text
        if kind in ("integer", "number", "boolean"):
            raise NotUnderstood(f"This is not {HINTS[kind]}.") from error
        raise NotUnderstood(f"This is not JSON: {error}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a form."""

    name: str
    answers: Answers
    needed: bool
    description: str = ""


def form_of(schema: Mapping[str, Json] | None) -> list[Field]:
    """The fields of an object of plain values; none if the answer is anything else."""
    if not schema or schema.get("type") != "object":
        return []
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not all(map(_is_plain, properties.values())):
        return []

    needed = schema.get("required") or []
    return [
        Field(
            name=name,
            answers=_answers_of(each),
            needed=name in needed,
            description=str(each.get("description") or ""),
        )
        for name, each in properties.items()
    ]


def _is_plain(schema: Json) -> bool:
    if not isinstance(schema, Mapping):
        return False
    plain = schema.get("type") in ("string", "integer", "number", "boolean")
    return plain or isinstance(schema.get("enum"), list)
