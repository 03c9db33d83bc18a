"""Which records a person means: plain rules from English words to filters. Pure.

    >>> read_filters("the closed invoices for Miller from before 2012").filters
    ({'text': 'Miller', 'category': 'invoice', 'status': 'closed', 'before_year': 2012},)

Nothing is dropped in silence: a word that no rule knows is handed back, and whoever is about to
delete asks instead of guessing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from assent.demo.samples import CATEGORIES, STATUSES

FilterArgs = dict[str, Any]
"""The arguments of a tool that say which records: text, ids, category, status, from_year,
before_year."""

MOST_IDS = 100
"""How many records one filter may name by number."""

NOUNS = r"records?|files?|entry|entries|documents?|items?|rows?"


def _set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


FILLERS = _set_of("""
    a an the this that these those them all any each every everything anything of in from for and or also just only please kindly
    could can would will you we us i me my our your it its want wants need needs like to do does is are was were be been there here
    which who whose where what with have has having made dated year years status category state kind type now then database
    record records file files entry entries document documents item items row rows customer customers client clients
    hello hi hey thanks thank ok okay
""")
"""Words that change nothing about which records are meant."""

NAMING = _set_of(
    "for about of by with from named called titled containing mentioning matching regarding concerning on to"
)
"""Words after which a name or a text follows."""

LIMITING = _set_of("""
    not no never none except but without unless excluding besides instead keep other others rest half some few most many last past previous
    next first second oldest newest latest earliest recent ago today yesterday tomorrow day days week weeks month months quarter decade
    over under above below more less least than before after since until older newer larger smaller bigger between end start beginning
    early late amount amounts price euro euros eur value worth if when while because duplicate duplicates empty similar
    january february march april may june july august september october november december
""")
"""Words that limit what is meant in a way that no filter can say."""

_YEAR = r"(?:the\s+)?(?:years?\s+)?(?<![\d./-])((?:19|20)\d\d)(?!\d|[./-]\d)"
_OPEN_YEAR = r"(?:the\s+)?(?:years?\s+)?(?<![\d./-])((?:19|20)\d\d)"
_CLOSE_YEAR = r"((?:19|20)\d\d)(?!\d|[./-]\d)"
_AND_OR = r"\s+(?:and|or)\s+"

_PERIODS = tuple(
    (re.compile(pattern, re.IGNORECASE), shift)
    for pattern, shift in (
        # (from the first year + a, before the last year + b); None leaves that side open.
        (rf"(?:\byears?\s*)?<=\s*{_YEAR}", (None, 1)),
        (rf"(?:\byears?\s*)?<\s*{_YEAR}", (None, 0)),
        (rf"(?:\byears?\s*)?>=\s*{_YEAR}", (0, None)),
        (rf"(?:\byears?\s*)?>\s*{_YEAR}", (1, None)),
        (rf"\bbetween\s+{_OPEN_YEAR}\s+and\s+{_CLOSE_YEAR}", (0, 1)),
        (
            rf"(?:\bfrom\s+)?{_OPEN_YEAR}\s*(?:-|–|\bto\b|\buntil\b|\btill\b|\bthrough\b)\s*{_CLOSE_YEAR}",
            (0, 1),
        ),
        (
            rf"(?:\bfrom\s+)?\b(?:older\s+than|before|prior\s+to|earlier\s+than)\s+{_YEAR}",
            (None, 0),
        ),
        (rf"(?:\bfrom\s+)?{_YEAR}{_AND_OR}(?:older|earlier|before)\b", (None, 1)),
        (rf"\b(?:up\s+to|until|till|through)\s+{_YEAR}", (None, 1)),
        (
            rf"(?:\bfrom\s+)?\b(?:newer\s+than|later\s+than|younger\s+than|after)\s+{_YEAR}",
            (1, None),
        ),
        (rf"(?:\bfrom\s+)?{_YEAR}{_AND_OR}(?:newer|younger|later|after|onwards?)\b", (0, None)),
        (rf"\b(?:since|starting(?:\s+(?:in|from|with))?)\s+{_YEAR}", (0, None)),
        (rf"\bfrom\s+{_YEAR}\s+(?:on|onwards?|upwards?)\b", (0, None)),
        (rf"(?:\b(?:in|of|from|for|dated|during)\s+)?{_YEAR}", (0, 1)),
    )
)

_NUMBER = r"#?\d+(?:\s*(?:-|–|\bto\b|\bthrough\b)\s*#?\d+)?"
_NUMBERS = rf"{_NUMBER}(?:\s*(?:,\s*and\b|,|\band\b|&)\s*{_NUMBER})*(?![\d.]*\d)"
_IDS = re.compile(
    rf"(?P<noun>\b(?:{NOUNS}|(?:{'|'.join(CATEGORIES)})s?)\s+)?(?P<mark>\b(?:ids?|numbers?|no\.|nr\.?)\s*)?(?P<list>{_NUMBERS})",
    re.IGNORECASE,
)
_CATEGORY = re.compile(rf"\b({'|'.join(CATEGORIES)})s?\b", re.IGNORECASE)
_STATUS = re.compile(r"\b(drafts?|active|closed|archived)\b", re.IGNORECASE)
_QUOTED = re.compile(r"\"([^\"]*)\"|(?<!\w)'([^']*)'(?!\w)")
CUT = "\0"
"""Stands where something was read, so that the words on its two sides do not seem to be
neighbours."""


class Period(NamedTuple):
    """From the first year on, and before the second; None leaves that side open."""

    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WhichRecords:
    """What was read. `filters` are alternatives: all records that fit any of them are meant.

    `unknown` are words that no rule knows; `limits` are words that limit what is meant in a way
    that no filter can say.
    """

    filters: tuple[FilterArgs, ...]
    unknown: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def unclear(self) -> tuple[str, ...]:
        """All words that the filters leave out."""
        return (*self.limits, *self.unknown)


def plain_text(text: str) -> str:
    """The text with typographic quotes made plain, and without the characters that the rules use as
    marks of their own.

    Runs of space become one, since the time that the rules take grows with the square of such a
    run.
    """
    text = re.sub(r"[^\S\n]+", " ", re.sub(f"[{CUT}\ue000\ue001]", " ", text))
    text = re.sub(r" ?\n[ \n]*", "\n", text)
    return re.sub("[“”„«»]", '"', re.sub("[‘’]", "'", text))


def read_filters(text: str) -> WhichRecords:
    """The filters that the words name. Quoted words are text to look for, whatever they are."""
    quoted, rest = _take_quoted(text)
    ids, rest, bad_numbers = _take_ids(rest)
    periods, rest = _take_periods(rest)
    categories, rest = _take(_CATEGORY, rest, CATEGORIES)
    statuses, rest = _take(_STATUS, rest, STATUSES)
    named, unknown, limits = _names(rest)
    common: FilterArgs = {}
    if words := [*quoted, *named]:
        common["text"] = " ".join(words)
    if ids:
        common["ids"] = ids
    filters = tuple(
        common
        | _given(
            category=category or None,
            status=status or None,
            from_year=period.start,
            before_year=period.end,
        )
        for category, status, period in product(
            categories or [""], statuses or [""], periods or [Period(None, None)]
        )
    )
    return WhichRecords(filters=filters, unknown=tuple(unknown), limits=(*bad_numbers, *limits))


def read_ids(text: str) -> list[int]:
    """The numbers in a list such as "17, 18 and 20-22"."""
    ids: list[int] = []
    for first, last in re.findall(
        r"#?(\d+)(?:\s*(?:-|–|to|through)\s*#?(\d+))?", text, re.IGNORECASE
    ):
        # One more than may be named is enough to see that it is too many.
        ids.extend(range(int(first), min(int(last or first), int(first) + MOST_IDS) + 1))
    return list(dict.fromkeys(ids))


def describe(chosen: Mapping[str, Any]) -> str:
    """The filter in words, without an article: "closed invoices with “Miller” from before 2012"."""
    ids = chosen.get("ids") or ()
    noun = chosen.get("category") or "record"
    words = [chosen.get("status") or "", noun if len(ids) == 1 else f"{noun}s"]
    if ids:
        words.append(", ".join(map(str, ids)))
    if text := chosen.get("text"):
        words.append(f"with “{text}”")
    words.append(_describe_years(chosen.get("from_year"), chosen.get("before_year")))
    return " ".join(word for word in words if word)


def describe_definitely(chosen: Mapping[str, Any]) -> str:
    """The filter in words, with its article: "the closed invoices", but "record 17"."""
    return describe(chosen) if len(chosen.get("ids") or ()) == 1 else f"the {describe(chosen)}"


def _describe_years(start: int | None, end: int | None) -> str:
    if start is None:
        return "" if end is None else f"from before {end}"
    if end is None:
        return f"from {start} on"
    return f"from {start}" if end == start + 1 else f"from {start} to {end - 1}"


def _given(**values: Any) -> FilterArgs:
    return {name: value for name, value in values.items() if value is not None}


def _take_quoted(text: str) -> tuple[list[str], str]:
    quoted = [double or single for double, single in _QUOTED.findall(text)]
    return [words for words in quoted if words.strip()], _QUOTED.sub(f" {CUT} ", text)


def _take(pattern: re.Pattern[str], text: str, values: tuple[str, ...]) -> tuple[list[str], str]:
    """The values that occur, in their singular, each once."""
    found = [match.group(1).lower() for match in pattern.finditer(text)]
    return list(
        dict.fromkeys(word if word in values else word.removesuffix("s") for word in found)
    ), pattern.sub(f" {CUT} ", text)


def _take_ids(text: str) -> tuple[list[int], str, list[str]]:
    """The numbers of records, the rest of the text, and what looks like numbers of records but
    cannot be.

    "record 2012" is a number and "invoices 2012" a year; "records 2012" could be either, and is
    handed back.
    """
    ids: list[int] = []
    unclear: list[str] = []

    def read(match: re.Match[str]) -> str:
        noun, mark, numbers = (
            (match.group("noun") or "").strip(),
            match.group("mark"),
            match.group("list"),
        )
        category = _CATEGORY.fullmatch(noun) is not None
        marked = bool(mark) or numbers.startswith("#")
        year = re.fullmatch(r"(?:19|20)\d\d", numbers) is not None and not marked
        if not (noun or marked) or (category and year):
            return match.group()
        found = read_ids(numbers)
        if (year and noun.lower().endswith("s")) or not found or len(ids) + len(found) > MOST_IDS:
            unclear.append(match.group().strip())
        else:
            ids.extend(found)
        return f" {noun if category else ''} {CUT} "

    rest = _IDS.sub(read, text)
    return list(dict.fromkeys(ids)), rest, unclear


def _take_periods(text: str) -> tuple[list[Period], str]:
    periods: list[Period] = []
    for pattern, (start, end) in _PERIODS:
        for match in pattern.finditer(text):
            years = [int(year) for year in match.groups()]
            periods.append(
                Period(
                    None if start is None else years[0] + start,
                    None if end is None else years[-1] + end,
                )
            )
        text = pattern.sub(f" {CUT} ", text)
    alternatives = re.search(rf"{CUT}\s+or\s+(?:\w+\s+)?{CUT}", text) is not None
    return list(dict.fromkeys(periods if alternatives else _joined(periods))), text


def _joined(periods: list[Period]) -> list[Period]:
    """ "After 2005" and "before 2010" together are one period, if any year is in both."""
    match periods:
        case [Period(None, int(end)), Period(int(start), None)] | [
            Period(int(start), None),
            Period(None, int(end)),
        ] if start < end:
            return [Period(start, end)]
    return periods


def _names(text: str) -> tuple[list[str], list[str], list[str]]:
    """The words of a name or text that a naming word announces, the words that nothing explains,
    and the limiting words."""
    named: list[str] = []
    unknown: list[str] = []
    limits: list[str] = []
    naming = False
    for word, possessive in _words(text):
        lower = word.lower()
        if lower in LIMITING or (
            word != CUT and not word.replace("'", "").replace("-", "").isalpha()
        ):
            limits.append(word)
        elif lower in FILLERS or lower in NAMING or word == CUT:
            naming = lower in NAMING or (naming and word != CUT)
        else:
            (named if naming or possessive else unknown).append(word)
    return named, unknown, limits


def _words(text: str) -> Iterator[tuple[str, bool]]:
    """The words of a text without their punctuation, and whether each is a possessive
    ("Miller's")."""
    for raw in re.findall(rf"{CUT}|[^\s,;:!?()\"{CUT}]+", text):
        word = raw.strip(".'-–")
        bare = re.sub(r"'s$", "", word)
        if bare:
            yield bare, bare != word
