"""The sample records: made up, and the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

Category = Literal["contract", "invoice", "letter", "report"]
Status = Literal["draft", "active", "closed", "archived"]

CATEGORIES: tuple[str, ...] = get_args(Category)
STATUSES: tuple[str, ...] = get_args(Status)
YEARS = range(2005, 2027)
SAMPLE_COUNT = 3000

OWNERS = (
    "Adler", "Brandt", "Castillo", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad",
    "Ivanova", "Jensen", "Kowalski", "Larsen", "Miller", "Nguyen", "Okafor", "Petrov",
    "Quinn", "Rossi", "Sato", "Tanaka", "Usman", "Virtanen", "Weber", "Yilmaz",
)  # fmt: skip

SUBJECTS = (
    "office cleaning", "network cabling", "roof repair", "fire safety",
    "staff training", "vehicle leasing", "catering", "bookkeeping",
    "heating maintenance", "translation", "warehouse rent", "lift inspection",
    "garden care", "payroll", "insurance", "printing",
)  # fmt: skip

NOTES = (
    "",
    "",
    "",
    "Scanned from paper.",
    "The original is in the Berlin office.",
    "Checked by the auditors.",
    "Renewed once.",
    "Copy only.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record. `owner` is the customer it belongs to; `amount` is in whole euros."""

    id: int
    title: str
    category: str
    owner: str
    year: int
    status: str
    amount: int
    notes: str


def sample_records() -> Iterator[Record]:
    """The `SAMPLE_COUNT` sample records, numbered from 1."""
    random = Random(2005)
    for number in range(1, SAMPLE_COUNT + 1):
        category = random.choice(CATEGORIES)
        subject = random.choice(SUBJECTS)
        year = random.choice(YEARS)
        yield Record(
            id=number,
            title=f"{category.capitalize()} for {subject}",
            category=category,
            owner=random.choice(OWNERS),
            year=year,
            status=_status(random, year),
            amount=random.randrange(50, 20_000),
            notes=random.choice(NOTES),
        )


def _status(random: Random, year: int) -> str:
    """Old records are mostly archived or closed, new ones mostly active or drafts."""
    weights = (1, 2, 5, 8) if year < 2016 else (2, 8, 4, 1)
    return random.choices(STATUSES, weights)[0]
