"""Tool calls from a few fixed phrases. Pure, in time that is linear in the message.

    >>> read_request("Delete all records older than 2015").calls
    (Call(tool='delete_records', args={'before_year': 2015}),)

This stands in for a language model, and does not pretend to be one: a message with a word that no
rule knows is answered by the list of what the rules understand. So nothing is deleted by a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from assent.core.errors import InvalidRequest
from assent.demo.filters import describe, describe_definitely
from assent.demo.records import EDITABLE, GROUPINGS, field_value
from assent.demo.samples import CATEGORIES, STATUSES

STAND_IN = (
    "I am a rule-based stand-in for a language model (set ASSENT_MODEL for a real one), and "
    "understand only such requests as “how many records are there per year?”, “find contracts for "
    "Miller”, “show record 17”, “delete all records older than 2015” and “change the status of "
    "record 17 to archived”."
)
WHICH_TO_DELETE = (
    "Which records should I delete? Name a year, a category, a status, a name or numbers. "
    "I have deleted nothing."
)

MOST_CALLS = 8
"""The most tool calls that one message may lead to."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call to make."""

    tool: str
    args: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The answer to a message: words to say first, and calls to make.

    `understood` is false if the message has a word that no rule knows.
    """

    words: str
    calls: tuple[Call, ...] = ()
    understood: bool = True


def read_request(message: str) -> Request:
    """The words and the calls that answer a message."""
    text = " ".join(message.translate(_PLAIN_QUOTES).split())
    try:
        calls = _calls(text)
    except InvalidRequest as error:
        return Request(words=error.message)
    if not calls:
        return Request(words=STAND_IN, understood=False)
    if Call("delete_records", {}) in calls:
        return Request(words=WHICH_TO_DELETE)
    return Request(words=" ".join(map(_announcement, calls)), calls=tuple(calls))


# ── the phrases ───────────────────────────────────────────────────────────────────────────────────

_PLAIN_QUOTES = str.maketrans("“”„", '"""')
_YEAR = r"(?:19|20)\d\d(?![-./]?\d)"
_ID = r"#?\d{1,18}"

# Tried in this order, each where the one before it ended. No pattern can match the same text in two
# ways, and the one that repeats has a bound, so no message takes more than linear time.
_PHRASES = {
    "summarise_records": r"(?:(?:show me )?how (?:many|much)|count|summari[sz]e)(?!\w)",
    "search_records": r"(?:search|find|show(?: me)?|list|which)(?!\w)",
    "delete_records": r"(?:delete|remove)(?!\w)",
    "update_record": (
        rf"(?:change|set) (?:the )?(?P<field>{'|'.join(EDITABLE)}) of record (?P<id>{_ID}) to "
        r'(?:"(?P<quoted>[^"]*)"|(?P<word>[^\s.,;!?"]+))'
    ),
    "before_year": rf"(?:older than|before) {_YEAR}",
    "after_year": rf"(?:newer than|after) {_YEAR}",
    "from_year": rf"since {_YEAR}",
    "year": _YEAR,
    "ids": rf"(?:records? |#){_ID}(?:(?:,| and|, and) {_ID}){{0,99}}(?![\w-])",
    "category": rf"(?:{'|'.join(CATEGORIES)})s?(?!\w)",
    "status": rf"(?:{'|'.join(STATUSES)})s?(?!\w)",
    "by": rf"(?:per|by|for each) (?:{'|'.join(GROUPINGS)})(?!\w)",
    "text": r'(?:for|about) (?:"[^"]+"|(?-i:[A-Z][a-z])[\w-]*)',
    "filler": (
        r"(?:all|any|of|the|an?|for|from|that|are|is|and|then|with|in|there|records?|everything"
        r"|now|also|please|could you|can you|hello|hi|hey|thanks|thank you)(?!\w)|[\s.,;!?]"
    ),
}
_PHRASE = re.compile(
    "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _PHRASES.items()), re.IGNORECASE
)
_TOOLS = ("summarise_records", "search_records", "delete_records")


def _calls(text: str) -> list[Call]:
    """The calls that the text asks for; none if it has a word that no rule knows.

    Raises `InvalidRequest` for too many calls, and for a new value that does not fit its field.
    """
    calls: list[Call] = []
    position = 0
    while position < len(text):
        phrase = _PHRASE.match(text, position)
        if phrase is None:
            return []
        position = phrase.end()

        kind = phrase.lastgroup
        if kind == "update_record":
            calls.append(_update(phrase))
        elif kind in _TOOLS:
            calls.append(Call(kind, {}))
        elif kind != "filler":
            arguments = _arguments(str(kind), phrase.group())
            if not calls or not _takes(calls[-1], arguments):
                return []
            calls[-1].args.update(arguments)

        if len(calls) > MOST_CALLS:
            raise InvalidRequest(f"I make at most {MOST_CALLS} calls at once. Ask for less.")
    return calls


def _takes(call: Call, arguments: dict[str, Any]) -> bool:
    """True if the arguments say something about this call that has not been said yet."""
    if call.tool == "update_record" or ("by" in arguments and call.tool != "summarise_records"):
        return False
    return not arguments.keys() & call.args.keys()


def _arguments(kind: str, phrase: str) -> dict[str, Any]:
    words = phrase.lower().split()
    last = words[-1]
    if kind == "ids":
        numbers = [int(number) for number in re.findall(r"\d+", phrase)]
        return {"ids": list(dict.fromkeys(numbers))}
    if kind in ("category", "status"):
        return {kind: last.removesuffix("s")}
    if kind == "by":
        return {"by": last}
    if kind == "text":
        return {"text": phrase.partition(" ")[2].strip('" ')}
    if kind == "year":
        return {"from_year": int(last), "before_year": int(last) + 1}
    if kind == "after_year":
        return {"from_year": int(last) + 1}
    return {kind: int(last)}


def _update(phrase: re.Match[str]) -> Call:
    field = phrase["field"].lower()
    value = phrase["quoted"] if phrase["word"] is None else phrase["word"]
    arguments = {
        "record_id": int(phrase["id"].lstrip("#")),
        "field": field,
        "value": field_value(field, value),
    }
    return Call("update_record", arguments)


def _announcement(call: Call) -> str:
    args = call.args
    if call.tool == "search_records":
        return f"I will search for {describe(args)}."
    if call.tool == "summarise_records":
        grouping = f" by {args['by']}" if "by" in args else ""
        return f"I will count {describe_definitely(args)}{grouping}."

    if call.tool == "delete_records":
        deed = f"delete {describe_definitely(args)}"
    else:
        deed = f"change the {args['field']} of record {args['record_id']} to “{args['value']}”"
    return f"I can {deed}. This needs your approval."
