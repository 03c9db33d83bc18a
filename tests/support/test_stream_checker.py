"""The checker of streams sees what it is there to see: each test forges one fault."""

from __future__ import annotations

import random

import pytest

from tests.support.stream_checker import MOST_FINDINGS, Checker

BODIES = {seq: b'{"seq":%d}' % seq for seq in range(1, 6)}


def heard(**clients: list[int]) -> Checker:
    """A checker to which each client has said that it heard these numbers of the thread t."""
    checker = Checker(clients)
    for client, numbers in clients.items():
        for seq in numbers:
            checker.heard(client, "t", seq, BODIES[seq])
    return checker


def test_clients_that_heard_all_once_in_order_are_right() -> None:
    checker = heard(sse=[1, 2, 3, 4, 5], poll=[1, 2, 3, 4, 5])
    assert checker.verdict({"t": 5}) == []
    assert checker.events == 10


def test_how_the_clients_take_turns_does_not_matter() -> None:
    clients, threads = ("sse", "poll"), ("t", "u")
    left = {(client, thread): 0 for client in clients for thread in threads}
    checker, draw = Checker(clients), random.Random(12)
    while left:
        client, thread = draw.choice(list(left))
        left[client, thread] += 1
        checker.heard(client, thread, left[client, thread], BODIES[left[client, thread]])
        if left[client, thread] == 5:
            del left[client, thread]
    assert checker.verdict({"t": 5, "u": 5}) == []


@pytest.mark.parametrize(
    ("numbers", "findings"),
    [
        ([1, 2, 4, 5], ["sse heard 4 of thread t though 3 should have come."]),
        ([1, 2, 2, 3, 4, 5], ["sse heard 2 of thread t again."]),
        (
            [1, 3, 2, 4, 5],
            [
                "sse heard 3 of thread t though 2 should have come.",
                "sse heard 2 of thread t again.",
            ],
        ),
        ([2, 3, 4, 5], ["sse heard 2 of thread t though 1 should have come."]),
        ([1, 2, 3], ["sse heard thread t up to 3, not 5."]),
        ([], ["sse heard nothing of thread t, which has 5 events."]),
    ],
    ids=["lost", "doubled", "swapped", "lost at first", "stopped early", "never began"],
)
def test_a_fault_of_one_client_is_found(numbers: list[int], findings: list[str]) -> None:
    assert heard(sse=numbers, poll=[1, 2, 3, 4, 5]).verdict({"t": 5}) == findings


def test_an_event_that_nobody_should_have_heard_is_found() -> None:
    assert heard(sse=[1, 2]).verdict({"t": 1}) == ["sse heard thread t up to 2, not 1."]
    assert heard(sse=[1]).verdict({}) == ["Nobody knows of the thread t that was heard."]


def test_another_body_under_one_number_is_found() -> None:
    checker = heard(sse=[1, 2], poll=[1])
    checker.heard("poll", "t", 2, b'{"seq":2,"content":"another"}')
    assert checker.verdict({"t": 2}) == [
        """poll heard b'{"seq":2,"content":"another"}' as 2 of thread t, and sse heard b'{"seq":2}'."""
    ]


def test_a_flood_of_findings_ends() -> None:
    checker = Checker({"sse"})
    for _ in range(10 * MOST_FINDINGS):
        checker.heard("sse", "t", 1, BODIES[1])
    assert len(checker.verdict({"t": 1})) == MOST_FINDINGS
