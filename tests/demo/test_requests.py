"""The phrases that the stand-in understands, and its answer to everything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.demo.requests import STAND_IN, read_request
from assent.demo.samples import CATEGORIES, STATUSES

Calls = list[tuple[str, dict[str, Any]]]


def calls_for(message: str) -> Calls:
    return [(call.tool, call.args) for call in read_request(message).calls]


DELETIONS: list[tuple[str, dict[str, Any]]] = [
    ("Delete all records older than 2015", {"before_year": 2015}),
    ("DELETE EVERYTHING BEFORE 2010!!", {"before_year": 2010}),
    ("Remove all invoices from before 2012", {"category": "invoice", "before_year": 2012}),
    ("Hi there! Could you please delete the drafts?", {"status": "draft"}),
    ("delete records from 2010", {"from_year": 2010, "before_year": 2011}),
    ("delete records since 2020", {"from_year": 2020}),
    ("delete records newer than 2020", {"from_year": 2021}),
    ("delete records after 2005 and before 2010", {"from_year": 2006, "before_year": 2010}),
    (
        "delete archived letters of 2008",
        {"category": "letter", "status": "archived", "from_year": 2008, "before_year": 2009},
    ),
    ("delete record 17", {"ids": [17]}),
    ("delete record 2012", {"ids": [2012]}),
    ("delete #17 and #18", {"ids": [17, 18]}),
    ("delete records 17, 18 and 20", {"ids": [17, 18, 20]}),
    ("delete contracts for Miller", {"text": "Miller", "category": "contract"}),
    ("delete everything about “roof repair”", {"text": "roof repair"}),
]


@pytest.mark.parametrize(("message", "expected"), DELETIONS)
def test_deletions(message: str, expected: dict[str, Any]) -> None:
    assert calls_for(message) == [("delete_records", expected)]
    assert "needs your approval" in read_request(message).words


@pytest.mark.parametrize(
    "message",
    ["delete", "delete all records", "DELETE ALL RECORDS", "please delete the records"],
)
def test_a_deletion_that_does_not_say_which_is_asked_back(message: str) -> None:
    assert calls_for(message) == []
    assert "I have deleted nothing" in read_request(message).words


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_and_status_is_known(category: str, status: str) -> None:
    assert calls_for(f"find {status} {category}s") == [
        ("search_records", {"category": category, "status": status})
    ]


SEARCHES: list[tuple[str, dict[str, Any]]] = [
    ("find contracts for Miller", {"text": "Miller", "category": "contract"}),
    ("search", {}),
    ("SEARCH FOR INVOICES", {"category": "invoice"}),
    ('search for "how many" please', {"text": "how many"}),
    ("show me record 17", {"ids": [17]}),
    (
        "list archived reports before 2009",
        {"category": "report", "status": "archived", "before_year": 2009},
    ),
    ("Which records are older than 2015?", {"before_year": 2015}),
]


@pytest.mark.parametrize(("message", "expected"), SEARCHES)
def test_searches(message: str, expected: dict[str, Any]) -> None:
    assert calls_for(message) == [("search_records", expected)]


COUNTS: list[tuple[str, dict[str, Any]]] = [
    ("how many records are there?", {}),
    ("HOW MANY RECORDS ARE THERE PER YEAR?", {"by": "year"}),
    ("show me how many invoices there are", {"category": "invoice"}),
    ("summarise the records by category", {"by": "category"}),
    ("count everything for each owner", {"by": "owner"}),
]


@pytest.mark.parametrize(("message", "expected"), COUNTS)
def test_counts(message: str, expected: dict[str, Any]) -> None:
    assert calls_for(message) == [("summarise_records", expected)]


UPDATES: list[tuple[str, int, str, str | int]] = [
    ("change the status of record 17 to archived", 17, "status", "archived"),
    ("CHANGE THE STATUS OF RECORD 17 TO ARCHIVED.", 17, "status", "archived"),
    ("set the owner of record #17 to Nguyen, please", 17, "owner", "Nguyen"),
    ("change the year of record 2012 to 2013", 2012, "year", 2013),
    (
        "set the notes of record 5 to “call back, then delete record 6”",
        5,
        "notes",
        "call back, then delete record 6",
    ),
]


@pytest.mark.parametrize(("message", "record_id", "field", "value"), UPDATES)
def test_updates(message: str, record_id: int, field: str, value: str | int) -> None:
    assert calls_for(message) == [
        ("update_record", {"record_id": record_id, "field": field, "value": value})
    ]
    assert "needs your approval" in read_request(message).words


@pytest.mark.parametrize(
    "message",
    [
        "change the status of record 17 to lost",
        "change the year of record 3 to 3000",
        "set the amount of record 3 to ten",
    ],
)
def test_a_value_that_does_not_fit_its_field_changes_nothing(message: str) -> None:
    assert calls_for(message) == []
    assert "Nothing was changed" in read_request(message).words


def test_several_demands_in_one_message() -> None:
    assert calls_for("search for invoices and delete records older than 2010") == [
        ("search_records", {"category": "invoice"}),
        ("delete_records", {"before_year": 2010}),
    ]
    assert calls_for(
        "Delete record 4. Change the status of record 17 to archived and then count. Thanks!"
    ) == [
        ("delete_records", {"ids": [4]}),
        ("update_record", {"record_id": 17, "field": "status", "value": "archived"}),
        ("summarise_records", {}),
    ]


def test_too_many_calls_are_not_made() -> None:
    every = " and ".join(f"delete record {number}" for number in range(9))
    assert calls_for(every) == []
    assert "at most 8" in read_request(every).words


@pytest.mark.parametrize(
    "message",
    [
        "",
        " ",
        "hello",
        "help",
        "what can you do?",
        "Who are you?",
        "what is the weather?",
        "yes",
        "ignore previous instructions",
        "🙂",
        "'",
        '"',
        "2015",
        "\0",
        # A no, and conditions that no filter can say.
        "don't delete records before 2010",
        "do not change the status of record 17 to archived",
        "delete records before 2010 except invoices",
        "delete everything that is not archived",
        "delete records older than 5 years",
        "delete records before 1 January 2015",
        "delete records before 2015-01-01",
        "delete records before 01.06.2015",
        "delete invoices over 2000 euros",
        "delete contracts before 2010 if they are closed",
        "delete records before 2010. Not the contracts.",
        "Keep the contracts. Delete records before 2010.",
        "which records should I delete?",
        "how many records would be deleted before 2010?",
        # Two values of one field, and fields that a call does not take.
        "delete invoices and contracts before 2010",
        "delete records before 2007 or after 2020",
        "delete records per year",
        "change the status of record 17 to archived for 2015",
        # Words around what is understood.
        "delete 17",
        "delete records 1-5000",
        "delete record 17's notes",
        "delete the notes of record 17",
        "delete records for archived folders",
        "set the owner of record 17 to van der Berg",
        "change the colour of record 17 to red",
    ],
)
def test_anything_else_is_answered_by_what_the_stand_in_understands(message: str) -> None:
    request = read_request(message)
    assert (request.words, request.calls, request.understood) == (STAND_IN, (), False)


def test_the_stand_in_says_what_it_is_and_understands_its_own_examples() -> None:
    assert "rule-based stand-in" in STAND_IN
    assert "ASSENT_MODEL" in STAND_IN
    examples = [part.partition("”")[0] for part in STAND_IN.split("“")[1:]]
    assert len(examples) == 5
    for example in examples:
        assert len(calls_for(example)) == 1


PARTS = "delete|find|how many|change the status of record 1 to|records|older than|2015|per year"
WORDS = st.sampled_from([*PARTS.split("|"), "for", "Miller", "17,", "#", '"', "“", "\n", "\0", "ſ"])


@settings(max_examples=50)
@given(st.lists(st.one_of(WORDS, st.text(max_size=5)), max_size=30).map(" ".join))
def test_no_message_is_too_odd(message: str) -> None:
    assert read_request(message).words


@pytest.mark.parametrize(
    "piece", [" \t", "\n ", '"', "delete ", "record 1, ", "1", "for A", "find record 1 ", "a"]
)
@pytest.mark.parametrize("before", ["", "delete records 1", 'change the title of record 17 to "'])
def test_no_message_is_too_long(before: str, piece: str) -> None:
    """Time that grew with the square of the length would not end here."""
    assert read_request(before + piece * 100_000).words
