"""What a person asks the clerk for: plain rules from one message to tool calls. Pure.

    >>> read_request("Delete all records older than 2015").calls
    (Call(tool='delete_records', args={'before_year': 2015}),)

A search may guess: it does no harm. A change or a deletion may not: a word that no rule knows makes
the clerk ask back, and so does a sentence beside it that was not understood, for it may have been a
condition.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assent.core.errors import InvalidRequest
from assent.demo.filters import (
    CUT,
    FilterArgs,
    WhichRecords,
    describe,
    describe_definitely,
    plain_text,
    read_filters,
    read_ids,
)
from assent.demo.records import LIMITS, field_value
from assent.demo.samples import CATEGORIES, STATUSES

GATED = frozenset({"update_record", "delete_records"})

STAND_IN = (
    "I am the records clerk, and a rule-based stand-in for a language model: I understand only a few kinds of requests. "
    "To talk to a real model, set ASSENT_MODEL, for example to openai:gpt-4o-mini."
)
ABILITIES = (
    "I can search (“find contracts for Miller”), count (“how many records are there per year?”), change a field "
    "(“change the status of record 17 to archived”) and delete (“delete all records older than 2015”). "
    "I change and delete only what a person has approved."
)
INTRODUCTION = f"Hello. {STAND_IN} {ABILITIES}"
NOT_UNDERSTOOD = f"I did not understand that. {STAND_IN} {ABILITIES}"
WHICH_TO_DELETE = (
    "Which records should I delete? Name a year, a category, a status, a name or record numbers, for example "
    "“delete all records older than 2015” or “delete record 17”. I have deleted nothing."
)
WHICH_TO_CHANGE = (
    "I change one field of records that are named by number, for example “change the status of record 17 to archived”. "
    "The fields are title, category, owner, year, status, amount and notes. I have changed nothing."
)
LEFT_ALONE = "As you say: I have changed and deleted nothing."

MOST_CALLS = 8
"""How many calls one message may lead to; whoever wants more is asked to say it in several."""

MOST_CHARACTERS = 4000
"""How long a message the rules are put to."""

MOST_SHOWN = 50
"""How many records a search may show."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call to make."""

    tool: str
    args: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was read from a message: the words to say first, and the calls to make. `understood` is
    false if no rule fitted at all."""

    words: str
    calls: tuple[Call, ...] = ()
    understood: bool = True


def read_request(message: str) -> Request:
    """The words and the calls that answer a message."""
    if len(message) > MOST_CHARACTERS:
        return Request(
            words=f"Your message has {len(message)} characters, and I read at most {MOST_CHARACTERS}. Say it more briefly."
        )
    text = _THANKS.sub("", plain_text(message)).strip() or message
    clauses, strays = _clauses(text)
    if not clauses:
        return _no_demand(text)
    answers: list[Request] = []
    earlier: Sequence[FilterArgs] = ()
    for verb, clause in clauses:
        answer, earlier = _read_clause(verb, clause, earlier)
        answers.append(answer)
    calls = _each_once([call for answer in answers for call in answer.calls])
    if strays and any(call.tool in GATED for call in calls):
        return Request(
            words=f"I did not understand “{strays[0]}”, and it may be a condition, so I have done nothing. Say all of it in one sentence."
        )
    if len(calls) > MOST_CALLS:
        return Request(
            words=f"That would be {len(calls)} calls of my tools, and I make at most {MOST_CALLS} at once. Ask for less at a time."
        )
    return Request(words=" ".join(answer.words for answer in answers), calls=tuple(calls))


# ── clauses: one demand each ──────────────────────────────────────────────────────────────────────

_NUMBERED = r"\s+(?:the\s+)?(?:records?\b|#)"
_VERBS = {
    "delete": (
        r"\b(?:delete|remove|erase|drop|purge|destroy|discard|wipe|clean\s+up|clean\s+out|get\s+rid\s+of|throw\s+away)\b"
        r"|\b(?:should|must|have\s+to|need\s+to)\s+be\s+(?:deleted|removed|erased)\b"
    ),
    "update": (
        r"\b(?:change|update|set|edit|modify|correct|mark|rename|assign|reassign)\b"
        r"|\b(?:archive|close|activate|reopen)(?=\s+(?:the|all|every|contracts?|invoices?|letters?|reports?|records?|everything)\b|\s+#)"
        rf"|\bmake(?={_NUMBERED})"
    ),
    "count": (
        r"\b(?:how\s+many|how\s+much|count|numbers?\s+of|summari[sz]e|summary(?:\s+of)?|statistics|stats|totals?|sum|overview|break\s*down)\b"
    ),
    "search": (
        r"\b(?:search(?:\s+for)?|find|show|list|look\s+(?:for|up)|display|give\s+me|get|fetch|which"
        r"|what\s+(?=(?:records|contracts|invoices|letters|reports)\b))"
    ),
}
_VERB = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _VERBS.items()}
_POLITE = r"(?:(?:please|also|just|kindly|now)\s+)*"
_NEXT_CLAUSE = re.compile(
    rf"(?:\s*[,;]\s*(?:(?:and|but)\s+)?(?:then\s+)?|\s+(?:and\s+then|and|then|but)\s+)(?={_POLITE}(?:{'|'.join(_VERBS.values())}))"
    r"|(?<=[.;!?])\s+(?=\D)|\n+",
    re.IGNORECASE,
)
_QUOTE = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)")
_MASKED = re.compile("\ue000(\\d+)\ue001")
_THANKS_WORDS = r"thanks?(?:\s+you)?(?:\s+(?:a\s+lot|very\s+much))?"
_THANKS = re.compile(rf"[\s,]*\b{_THANKS_WORDS}[\s.!]*$", re.IGNORECASE)
_GREETING = rf"\b(?:hello|hi|hey|good\s+(?:morning|day|afternoon|evening)|{_THANKS_WORDS}|please|ok(?:ay)?|there)\b"
_SMALL_TALK = re.compile(rf"(?:{_GREETING}\W*)+", re.IGNORECASE)
_HELP = re.compile(r"\b(?:help|what\s+can\s+you\s+do|(?:who|what)\s+are\s+you)\b", re.IGNORECASE)
_REFUSAL = re.compile(r"\b(?:not|don't|dont|never|stop|without)\b", re.IGNORECASE)


def _no_demand(text: str) -> Request:
    if _SMALL_TALK.fullmatch(text) or _HELP.search(text):
        return Request(words=INTRODUCTION)
    return Request(words=NOT_UNDERSTOOD, understood=False)


def _clauses(text: str) -> tuple[list[tuple[re.Match[str], str]], list[str]]:
    """Each demand as its verb and its text, and the pieces that demand nothing. What stands in
    quotes is not looked into."""
    quotes = _QUOTE.findall(text)
    numbers = iter(range(len(quotes)))
    masked = _QUOTE.sub(lambda _: f"\ue000{next(numbers)}\ue001", text)
    clauses = []
    strays = []
    for piece in _NEXT_CLAUSE.split(masked):
        verb = _main_verb(piece)
        clause = _MASKED.sub(lambda match: quotes[int(match.group(1))], piece).strip()
        if verb is not None and (verb := verb.re.search(clause)):
            # Found anew, since the quotes that came back may have moved it.
            clauses.append((verb, clause))
        elif clause and not _SMALL_TALK.fullmatch(clause):
            strays.append(clause)
    return clauses, strays


def _main_verb(clause: str) -> re.Match[str] | None:
    """The first verb; but "show me the number of …" counts, and "which records should I delete" is
    about deleting."""
    found = {name: match for name, pattern in _VERB.items() if (match := pattern.search(clause))}
    first = min(found.values(), key=lambda match: match.start(), default=None)
    if first is None or first.re is not _VERB["search"]:
        return first
    asking = first.group().lower().startswith(("which", "what"))
    return found.get("count") or (found.get("delete") if asking else None) or first


def _read_clause(
    verb: re.Match[str], clause: str, earlier: Sequence[FilterArgs]
) -> tuple[Request, Sequence[FilterArgs]]:
    """The answer to one demand, and the filters that a later "them" stands for."""
    if verb.re in (_VERB["delete"], _VERB["update"]) and _REFUSAL.search(clause[: verb.start()]):
        return Request(words=LEFT_ALONE), ()
    if verb.re is _VERB["update"]:
        return _update(clause[: verb.start()], clause[verb.start() :]), ()
    rest = f"{clause[: verb.start()]} {CUT} {clause[verb.end() :]}"
    if verb.re is _VERB["search"]:
        return _search(rest)
    if verb.re is _VERB["count"]:
        return _count(_VERB["search"].sub(f" {CUT} ", rest))
    return _delete(rest, earlier)


def _each_once(calls: Sequence[Call]) -> list[Call]:
    return [call for number, call in enumerate(calls) if call not in calls[:number]]


# ── searching and counting ────────────────────────────────────────────────────────────────────────

_PLURALS = r"(?:records|contracts|invoices|letters|reports|entries|files|documents)"
_LIMIT = re.compile(
    rf"\b(?:first|top)\s+(\d{{1,3}})\b|\b(\d{{1,3}})(?=\s+(?:\w+\s+)?{_PLURALS}\b)", re.IGNORECASE
)
_GROUPING = re.compile(
    r"\b(?:(?:for|in|of)\s+)?(?:per|by|each|every)\s+(year|category|kind|type|status|state|owner|customer|client)s?\b",
    re.IGNORECASE,
)
_COUNTING = re.compile(
    r"\b(?:worth|amounts?|exist|stored|kept|in\s+(?:total|all)|totals?|altogether|number\s+of|summary|up)\b",
    re.IGNORECASE,
)
_COLUMNS = {"kind": "category", "type": "category", "state": "status", "customer": "owner", "client": "owner", "name": "title"} | {
    "price": "amount", "note": "notes", "comment": "notes"
}  # fmt: skip


def _search(rest: str) -> tuple[Request, Sequence[FilterArgs]]:
    limit = _LIMIT.search(rest)
    which = read_filters(_LIMIT.sub(f" {CUT} ", rest))
    shown = (
        {"limit": max(1, min(MOST_SHOWN, int(limit.group(1) or limit.group(2))))} if limit else {}
    )
    filters = _with_text(which, which.unknown)
    words = [
        f"I will search for {_list([describe(chosen) for chosen in filters])}.",
        _left_out(which.limits),
    ]
    return Request(
        words=_join(words),
        calls=tuple(Call("search_records", chosen | shown) for chosen in filters),
    ), filters


def _count(rest: str) -> tuple[Request, Sequence[FilterArgs]]:
    grouping = _GROUPING.search(rest)
    by = _column(grouping.group(1)) if grouping else None
    which = read_filters(_COUNTING.sub(f" {CUT} ", _GROUPING.sub(f" {CUT} ", rest)))
    # "How many Miller contracts": a capital letter makes a name, unless everything has one.
    names = [] if rest.isupper() else [word for word in which.unknown if word[0].isupper()]
    filters = _with_text(which, names)
    words = [
        f"I will count {_list([describe_definitely(chosen) for chosen in filters])}{f' by {by}' if by else ''}.",
        _left_out([word for word in which.unclear if word not in names]),
    ]
    return Request(
        words=_join(words),
        calls=tuple(
            Call("summarise_records", chosen | ({"by": by} if by else {})) for chosen in filters
        ),
    ), filters


def _with_text(which: WhichRecords, words: Sequence[str]) -> list[FilterArgs]:
    """The filters, with these words among the text that they look for."""
    if not words:
        return list(which.filters)
    return [
        {**chosen, "text": " ".join([*filter(None, [chosen.get("text")]), *words])}
        for chosen in which.filters
    ]


def _left_out(words: Sequence[str]) -> str:
    return f"I leave out “{' '.join(words)}”, which I do not understand." if words else ""


def _column(name: str) -> str:
    return _COLUMNS.get(name.lower(), name.lower())


# ── deleting ──────────────────────────────────────────────────────────────────────────────────────

_PRONOUN = re.compile(r"\b(?:them|those|these|it)\b", re.IGNORECASE)


def _delete(rest: str, earlier: Sequence[FilterArgs]) -> tuple[Request, Sequence[FilterArgs]]:
    read = [read_filters(part) for part in _parts(rest)]
    if unclear := [word for which in read for word in which.unclear]:
        return Request(
            words=f"I do not understand “{' '.join(unclear)}” here, and I do not guess at what to delete. {WHICH_TO_DELETE}"
        ), ()
    filters = [chosen for which in read for chosen in which.filters]
    if earlier and _PRONOUN.search(rest):
        filters = [{**before, **chosen} for before in earlier for chosen in filters]
    if not all(filters):
        return Request(words=WHICH_TO_DELETE), ()
    words = f"I can delete {_list([describe_definitely(chosen) for chosen in filters])}. This needs your approval."
    return Request(
        words=words, calls=tuple(Call("delete_records", chosen) for chosen in filters)
    ), filters


def _parts(rest: str) -> list[str]:
    """ "Invoices before 2010 and contracts before 2012" are two; "invoices and contracts before
    2010" is one."""
    parts = re.split(r"\s+and\s+|\s*,\s*", rest)
    return parts if len(parts) > 1 and all(_is_complete(part) for part in parts) else [rest]


def _is_complete(part: str) -> bool:
    return all(
        "category" in chosen and {"from_year", "before_year"} & chosen.keys()
        for chosen in read_filters(part).filters
    )


# ── changing ──────────────────────────────────────────────────────────────────────────────────────

_FIELD = r"(?P<field>title|name|category|kind|type|owner|customer|client|year|status|state|amount|price|notes?|comment)"
_ID = r"#?\d+(?:\s*(?:-|–|\bto\b|\bthrough\b)\s*#?\d+(?=\s*(?:,|'|:|and\b|to\b|as\b|from\b|$)))?"
_WHICH = (
    r"(?:the\s+)?(?:(?:records?|contract|invoice|letter|report)\s+)?(?:with\s+(?:the\s+)?)?(?:(?:ids?|numbers?|no\.?|nr\.?)\s*)?"
    rf"(?P<ids>{_ID}(?:\s*(?:,\s*and\b|,|\band\b|&)\s*(?:records?\s+)?{_ID})*)"
)
_TO = r"(?:\s+from\s+.+?)?\s*(?:\b(?:to|as|into|be)\b|=|:)\s*"
_SET = r"(?:change|update|set|edit|modify|correct|make|mark)\s+"
_CHANGES = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), field)
    for pattern, field in (
        (rf"{_SET}(?:the\s+)?{_FIELD}\s+(?:of|for|on|in)\s+{_WHICH}{_TO}(?P<value>.+)", ""),
        (
            rf"{_SET}{_WHICH}(?:'s?)?\s*[:,]?\s*(?:the\s+|its\s+|their\s+)?{_FIELD}{_TO}(?P<value>.+)",
            "",
        ),
        (rf"{_SET}(?:the\s+)?{_FIELD}{_TO}(?P<value>.+?)\s+(?:of|for|on|in)\s+{_WHICH}", ""),
        (rf"rename\s+{_WHICH}\s+(?:to|as)\s+(?P<value>.+)", "title"),
        (rf"(?:re)?assign\s+{_WHICH}\s+to\s+(?P<value>.+)", "owner"),
        (rf"{_SET}{_WHICH}(?:\s+(?:to|as|into))?\s+(?P<value>{'|'.join(STATUSES)})", "status"),
        (
            rf"{_SET}{_WHICH}\s+(?:to|as|into)\s+(?:an?\s+)?(?P<value>{'|'.join(CATEGORIES)})",
            "category",
        ),
        (rf"(?P<verb>archive|close|activate|reopen)\s+{_WHICH}", "status"),
    )
)
_STATUS_OF_VERB = {
    "archive": "archived",
    "close": "closed",
    "activate": "active",
    "reopen": "active",
}


def _update(before_verb: str, text: str) -> Request:
    demand = re.sub(
        r"(?:[\s,]*\b(?:please|thanks|thank\s+you)\b)?[\s.!?]*$", "", text, flags=re.IGNORECASE
    )
    found = next(
        ((match, field) for pattern, field in _CHANGES if (match := pattern.fullmatch(demand))),
        None,
    )
    if found is None or read_filters(before_verb).unclear:
        return Request(words=WHICH_TO_CHANGE)
    match, field = found
    groups = match.groupdict()
    field = field or _column(groups["field"])
    ids = read_ids(groups["ids"])
    if not 0 < len(ids) <= MOST_CALLS:
        return Request(words=f"I change at most {MOST_CALLS} records at once. {WHICH_TO_CHANGE}")
    try:
        value = _value(field, groups.get("value") or _STATUS_OF_VERB[groups["verb"].lower()])
    except InvalidRequest as error:
        return Request(words=error.message)
    words = f"I can change the {field} of {_list([f'record {number}' for number in ids])} to “{value}”. This needs your approval."
    return Request(
        words=words,
        calls=tuple(
            Call("update_record", {"record_id": number, "field": field, "value": value})
            for number in ids
        ),
    )


def _value(field: str, text: str) -> str | int:
    """The value as the tool takes it. Raises `InvalidRequest`."""
    if field in LIMITS:
        text = re.sub(r"[\s,€]|\b(?:euros?|eur)\b", "", text, flags=re.IGNORECASE)
    quoted = _QUOTE.fullmatch(text)
    return field_value(field, quoted.group()[1:-1] if quoted else text)


# ── words ─────────────────────────────────────────────────────────────────────────────────────────


def _list(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _join(sentences: Sequence[str]) -> str:
    return " ".join(sentence for sentence in sentences if sentence)
