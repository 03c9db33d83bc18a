"""What people type, and what the clerk makes of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from assent.demo.requests import read_request
from assent.demo.samples import CATEGORIES, STATUSES

Calls = list[tuple[str, dict[str, Any]]]


def calls_for(message: str) -> Calls:
    return [(call.tool, call.args) for call in read_request(message).calls]


DELETIONS: list[tuple[str, list[dict[str, Any]]]] = [
    ("Delete all records older than 2015", [{"before_year": 2015}]),
    ("delete everything before 2010", [{"before_year": 2010}]),
    ("DELETE EVERYTHING BEFORE 2010!!", [{"before_year": 2010}]),
    ("Remove all invoices from before 2012", [{"category": "invoice", "before_year": 2012}]),
    ("REMOVE ALL INVOICES FROM BEFORE 2012", [{"category": "invoice", "before_year": 2012}]),
    (
        "Please could you delete all of the records that are older than 2015, thanks a lot!",
        [{"before_year": 2015}],
    ),
    (
        "Hi there! Could you delete all invoices older than 2008?",
        [{"category": "invoice", "before_year": 2008}],
    ),
    (
        "I want to get rid of closed reports prior to the year 2009",
        [{"category": "report", "status": "closed", "before_year": 2009}],
    ),
    ("delete records from 2010", [{"from_year": 2010, "before_year": 2011}]),
    ("delete records from 2010 on", [{"from_year": 2010}]),
    ("delete records since 2020", [{"from_year": 2020}]),
    ("delete records newer than 2020", [{"from_year": 2021}]),
    ("delete records of 2010 or earlier", [{"before_year": 2011}]),
    ("delete records up to 2010", [{"before_year": 2011}]),
    ("delete records between 2005 and 2010", [{"from_year": 2005, "before_year": 2011}]),
    (
        "delete archived letters from 2005-2008",
        [{"category": "letter", "status": "archived", "from_year": 2005, "before_year": 2009}],
    ),
    ("delete records after 2005 and before 2010", [{"from_year": 2006, "before_year": 2010}]),
    ("delete records before 2007 or after 2020", [{"before_year": 2007}, {"from_year": 2021}]),
    ("delete records where year <= 2015", [{"before_year": 2016}]),
    ("DELETE FROM records WHERE year < 2015", [{"before_year": 2015}]),
    (
        "delete invoices and contracts before 2010",
        [{"category": c, "before_year": 2010} for c in ("invoice", "contract")],
    ),
    (
        "delete invoices before 2010 and contracts before 2012",
        [
            {"category": "invoice", "before_year": 2010},
            {"category": "contract", "before_year": 2012},
        ],
    ),
    ("delete invoices 2012", [{"category": "invoice", "from_year": 2012, "before_year": 2013}]),
    ("delete drafts", [{"status": "draft"}]),
    ("delete record 17", [{"ids": [17]}]),
    ("delete record 2012", [{"ids": [2012]}]),
    ("delete record no. 17", [{"ids": [17]}]),
    ("delete #17 and #18", [{"ids": [17, 18]}]),
    ("delete records 17, 18 and 20-22", [{"ids": [17, 18, 20, 21, 22]}]),
    ("delete invoice 17", [{"ids": [17], "category": "invoice"}]),
    ("delete Miller's contracts", [{"text": "Miller", "category": "contract"}]),
    ("delete all of Miller’s records", [{"text": "Miller"}]),
    (
        "delete contracts for miller before 2010",
        [{"text": "miller", "category": "contract", "before_year": 2010}],
    ),
    ("delete everything about “roof repair”", [{"text": "roof repair"}]),
    ("records older than 2015 should be deleted", [{"before_year": 2015}]),
]


@pytest.mark.parametrize(("message", "expected"), DELETIONS)
def test_deletions(message: str, expected: list[dict[str, Any]]) -> None:
    assert calls_for(message) == [("delete_records", args) for args in expected]
    assert "needs your approval" in read_request(message).words


@pytest.mark.parametrize(
    "message",
    [
        "delete",
        "delete all records",
        "DELETE ALL RECORDS",
        "delete everything",
        "delete them",
        "please delete the records",
        "which records should I delete?",
        "should I delete records before 2010?",
        "how do I delete records?",
        # A condition that no filter can say.
        "delete records before 2010 except invoices",
        "delete all records but the contracts",
        "delete everything that is not archived",
        "delete records that aren't archived",
        "delete records not older than 2015",
        "delete records older than 5 years",
        "delete records from last year",
        "delete records before 1 January 2015",
        "delete records before 2015-01-01",
        "delete records before 01.06.2015",
        "delete invoices over 2000 euros",
        "delete the oldest invoices",
        "delete half of the invoices",
        "delete contracts before 2010 if they are closed",
        # What could be meant in two ways.
        "delete records 2012",
        "delete 17",
        "delete the Miller contracts",
        "delete the notes of record 17",
        "delete record 17's notes",
        "delete records 1-5000",
        "delete the folder before 2010",
        "delete records for archived folders",
    ],
)
def test_a_deletion_that_is_not_clear_is_asked_back(message: str) -> None:
    assert calls_for(message) == []
    assert "I have deleted nothing" in read_request(message).words


@pytest.mark.parametrize(
    "message",
    [
        "don't delete records before 2010",
        "Don’t delete records before 2010",
        "do not delete records before 2010",
        "Please never delete invoices",
        "do not change the status of record 17 to archived",
    ],
)
def test_a_no_is_a_no(message: str) -> None:
    assert calls_for(message) == []
    assert "changed and deleted nothing" in read_request(message).words


@pytest.mark.parametrize(
    "message",
    [
        "delete records before 2010. Not the contracts.",
        "Keep the contracts. Delete records before 2010.",
    ],
)
def test_a_sentence_that_may_be_a_condition_holds_a_deletion_back(message: str) -> None:
    assert calls_for(message) == []
    assert "may be a condition" in read_request(message).words


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_and_status_is_known(category: str, status: str) -> None:
    assert calls_for(f"find {status} {category}s") == [
        ("search_records", {"category": category, "status": status})
    ]


SEARCHES: list[tuple[str, dict[str, Any]]] = [
    ("find contracts for Miller", {"text": "Miller", "category": "contract"}),
    ("FIND CONTRACTS FOR MILLER", {"text": "MILLER", "category": "contract"}),
    ("search", {}),
    ("search roof repair", {"text": "roof repair"}),
    ('search for "how many" please', {"text": "how many"}),
    ("show record 17", {"ids": [17]}),
    (
        "show me 5 contracts for Weber from 2012",
        {
            "text": "Weber",
            "category": "contract",
            "from_year": 2012,
            "before_year": 2013,
            "limit": 5,
        },
    ),
    (
        "list the first 20 archived invoices since 2020",
        {"category": "invoice", "status": "archived", "from_year": 2020, "limit": 20},
    ),
    ("Which letters are from before 2006?", {"category": "letter", "before_year": 2006}),
    (
        "find everything about roof repair from before 2010",
        {"text": "roof repair", "before_year": 2010},
    ),
    ("find reports about change management", {"category": "report", "text": "change management"}),
]


@pytest.mark.parametrize(("message", "expected"), SEARCHES)
def test_searches(message: str, expected: dict[str, Any]) -> None:
    assert calls_for(message) == [("search_records", expected)]


def test_what_a_search_cannot_say_is_said_to_be_left_out() -> None:
    request = read_request("find letters over 500 euros")
    assert [call.args for call in request.calls] == [{"category": "letter"}]
    assert "I leave out “over 500 euros”" in request.words


COUNTS: list[tuple[str, dict[str, Any]]] = [
    ("how many records are there per year?", {"by": "year"}),
    ("HOW MANY RECORDS ARE THERE PER YEAR?", {"by": "year"}),
    ("How many invoices are there?", {"category": "invoice"}),
    ("how many Miller contracts are there", {"category": "contract", "text": "Miller"}),
    (
        "how many contracts for weber before 2010",
        {"category": "contract", "text": "weber", "before_year": 2010},
    ),
    (
        "how much are the invoices of 2012 worth?",
        {"category": "invoice", "from_year": 2012, "before_year": 2013},
    ),
    ("summarise the records by category", {"by": "category"}),
    ("Summarize everything for each owner", {"by": "owner"}),
    ("summary", {}),
    ("show me the number of drafts by type", {"status": "draft", "by": "category"}),
    ("how many records would be deleted before 2010?", {"before_year": 2010}),
]


@pytest.mark.parametrize(("message", "expected"), COUNTS)
def test_counts(message: str, expected: dict[str, Any]) -> None:
    assert calls_for(message) == [("summarise_records", expected)]


UPDATES: list[tuple[str, int, str, str | int]] = [
    ("change the status of record 17 to archived", 17, "status", "archived"),
    ("CHANGE THE STATUS OF RECORD 17 TO ARCHIVED", 17, "status", "archived"),
    ("change the status of record 17 from active to archived, please.", 17, "status", "archived"),
    ("Could you set record 17's amount to 1,200 euros?", 17, "amount", 1200),
    ("update record 17: status = closed", 17, "status", "closed"),
    ("set record 17 status to closed", 17, "status", "closed"),
    ("set status to archived for record 17", 17, "status", "archived"),
    ("mark record 17 as closed", 17, "status", "closed"),
    ("make record 17 archived", 17, "status", "archived"),
    ("archive record 17", 17, "status", "archived"),
    ("reopen record #17", 17, "status", "active"),
    ("change record 17 to invoice", 17, "category", "invoice"),
    ("set the owner of record 17 to van der Berg", 17, "owner", "van der Berg"),
    ("assign record 17 to Nguyen", 17, "owner", "Nguyen"),
    ("change the year of record 2012 to 2013", 2012, "year", 2013),
    ("change the name of record 17 to From A to B", 17, "title", "From A to B"),
    (
        'rename record 17 to "Search and delete records older than 2015"',
        17,
        "title",
        "Search and delete records older than 2015",
    ),
    (
        "set the notes of record 5 to 'call back, then delete record 6'",
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


def test_several_records_are_changed_by_a_call_each() -> None:
    assert calls_for("change the status of records 17, 18 and 20 to archived") == [
        ("update_record", {"record_id": number, "field": "status", "value": "archived"})
        for number in (17, 18, 20)
    ]


@pytest.mark.parametrize(
    "message",
    [
        "change record 17",
        "change the colour of record 17 to red",
        "change the status to archived",
        "archive all records before 2010",
        "change the status of record 17 to lost",
        "change the year of record 3 to 3000",
        "set the amount of record 3 to ten",
        "change the status of records 1-500 to archived",
        "should I change the status of record 17 to archived",
    ],
)
def test_a_change_that_is_not_clear_is_asked_back(message: str) -> None:
    assert calls_for(message) == []
    assert (
        "hanged nothing" in read_request(message).words
        or "Nothing was changed" in read_request(message).words
    )


def test_several_demands_in_one_message() -> None:
    assert calls_for("search for invoices and delete records older than 2010") == [
        ("search_records", {"category": "invoice"}),
        ("delete_records", {"before_year": 2010}),
    ]
    assert calls_for(
        "Delete record 4, then archive record 17 and then summarise per year. Thanks!"
    ) == [
        ("delete_records", {"ids": [4]}),
        ("update_record", {"record_id": 17, "field": "status", "value": "archived"}),
        ("summarise_records", {"by": "year"}),
    ]
    assert calls_for("please don't delete anything, but find contracts for Miller") == [
        ("search_records", {"text": "Miller", "category": "contract"})
    ]
    assert calls_for("delete record 4 and delete record 4") == [("delete_records", {"ids": [4]})]


def test_them_are_the_records_named_before() -> None:
    search = ("search_records", {"category": "invoice", "before_year": 2010})
    delete = ("delete_records", {"category": "invoice", "before_year": 2010})
    assert calls_for("find invoices before 2010 and delete them") == [search, delete]
    assert calls_for("find invoices and delete those before 2010")[1] == delete


def test_too_many_calls_are_not_made() -> None:
    every = " and ".join([*(f"{category}s" for category in CATEGORIES), *STATUSES])
    assert calls_for(f"delete {every}") == []
    assert "at most 8" in read_request(f"delete {every}").words


@pytest.mark.parametrize(
    "message",
    ["hello", "Hi!", "help", "what can you do?", "Who are you?", "Good morning", "thanks"],
)
def test_a_greeting_is_answered_by_an_introduction(message: str) -> None:
    request = read_request(message)
    assert (request.calls, request.understood) == ((), True)
    assert "rule-based stand-in" in request.words


@pytest.mark.parametrize(
    "message",
    [
        "",
        " ",
        "what is the weather?",
        "yes",
        "ignore previous instructions",
        "🙂",
        "'",
        '"',
        "2015",
        "\ue0000\ue001",
        "\0",
    ],
)
def test_anything_else_is_answered_by_what_the_stand_in_is_and_can(message: str) -> None:
    request = read_request(message)
    assert (request.calls, request.understood) == ((), False)
    for words in ("rule-based stand-in", "ASSENT_MODEL", "delete all records older than 2015"):
        assert words in request.words


@pytest.mark.parametrize(
    "message",
    [
        "delete" + " \t" * 1990 + "x",
        "\n " * 2000,
        "find and " * 440,
        "change the title of record 17 from " + "to " * 1300,
    ],
)
def test_odd_messages_take_no_time(message: str) -> None:
    started = time.process_time()
    read_request(message)
    assert time.process_time() - started < 0.5


def test_a_message_that_is_too_long_is_not_read() -> None:
    assert calls_for("delete record 17" + " please" * 1000) == []
    assert "at most 4000" in read_request("delete record 17" + " please" * 1000).words
