"""Policies as values: in JSON and back, in an operator's file, and what is refused."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.core.errors import ConfigurationError
from assent.core.policy import (
    Escalation,
    OnTimeout,
    Person,
    Policy,
    Risk,
    duration_text,
    plain_policy,
    policies_from_json,
    policy_digest,
    policy_from_json,
    policy_to_json,
)

HOUR = timedelta(hours=1)
FULL = Policy(
    allowed=("approve", "reject"),
    roles=("clerk",),
    names=("ann",),
    quorum=2,
    risk=Risk.HIGH,
    four_eyes=False,
    timeout=24 * HOUR,
    reminders=(2 * HOUR, -HOUR / 4),
    on_timeout=OnTimeout.ESCALATE,
    escalation=(Escalation(roles=("lead",), timeout=4 * HOUR), Escalation(names=("fay",))),
)


@pytest.mark.parametrize("policy", [Policy(), FULL])
def test_a_policy_survives_json(policy: Policy) -> None:
    stored = json.loads(json.dumps(policy_to_json(policy)))
    assert policy_from_json(stored) == policy
    assert stored == policy_to_json(policy)
    assert set(stored) == set(Policy.__struct_fields__)


def test_another_policy_has_another_digest() -> None:
    assert (
        policy_digest(Policy())
        == policy_digest(Policy(quorum=1))
        != policy_digest(Policy(quorum=2))
    )


class Coded(Policy, frozen=True, kw_only=True):
    when: Callable[[dict[str, Any]], bool] | None = None


def test_what_only_code_can_hold_is_left_out_of_what_is_kept() -> None:
    kept = plain_policy(Coded(roles=("clerk",), when=bool))
    assert type(kept) is Policy and kept == Policy(roles=("clerk",))
    assert plain_policy(kept) is kept


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90s", HOUR / 40),
        ("15m", HOUR / 4),
        ("2h", 2 * HOUR),
        ("1.5d", 36 * HOUR),
        (900, HOUR / 4),
        (0.5, HOUR / 7200),
        ("PT15M", HOUR / 4),
    ],
)
def test_durations_are_written_in_several_ways(written: Any, meant: timedelta) -> None:
    assert policy_from_json({"timeout": written}).timeout == meant


@given(st.integers(1, 10_000_000))
def test_a_duration_is_told_as_it_can_be_read(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert policy_from_json({"timeout": duration_text(duration)}).timeout == duration


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"quorums": 2}, "unknown field `quorums`"),
        ({"quorum": "2"}, "Expected `int`, got `str`"),
        ({"quorum": 0}, "quorum is 0. At least one"),
        ({"quorum": 3, "names": ["ann", "bob"]}, "names only 2 who may decide"),
        ({"names": [" "]}, "One of a policy's names is empty"),
        ({"allowed": ["approve", "maybe"]}, "'maybe' is no decision"),
        ({"allowed": ["approve", "edit"]}, "could not say no"),
        ({"allowed": ["edit", "reject"], "quorum": 2}, "others approve an edit"),
        ({"allowed": ["edit", "reject"], "risk": "high"}, "others approve an edit"),
        ({"risk": "huge"}, "Invalid enum value 'huge'"),
        ({"on_timeout": "approve"}, "Invalid enum value 'approve'"),
        ({"timeout": "soon"}, "Invalid ISO8601 duration"),
        ({"timeout": True}, "Expected `duration | null`"),
        ({"timeout": float("nan")}, "Expected `duration | null`"),
        ({"timeout": "99999999999d"}, "This is no policy"),
        ({"timeout": "0s"}, "longer than nothing and at most ten years"),
        ({"timeout": "20000d"}, "longer than nothing and at most ten years"),
        ({"timeout": "1h", "reminders": ["1h"]}, "reminder of 1h falls into nobody's time"),
        ({"reminders": ["-15m"]}, "reminder of -15m falls into nobody's time"),
        ({"timeout": "1h", "reminders": [0]}, "reminder of 0s falls into nobody's time"),
        ({"on_timeout": "escalate", "timeout": "1h"}, "needs a timeout, and an escalation"),
        (
            {"on_timeout": "escalate", "escalation": [{"roles": ["lead"]}]},
            "needs a timeout, and an escalation",
        ),
        ({"timeout": "1h", "escalation": [{"roles": ["lead"]}]}, "its on_timeout is 'reject'"),
        ({"timeout": "1h", "on_timeout": "escalate", "escalation": [{}]}, "asks nobody"),
        (
            {
                "timeout": "1h",
                "on_timeout": "escalate",
                "escalation": [{"names": ["a"]}, {"names": ["b"]}],
            },
            "Only the last of an escalation",
        ),
        (
            {"timeout": "1h", "on_timeout": "escalate", "escalation": ["lead"]},
            "Expected `object`, got `str`",
        ),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(value: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        policy_from_json(value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"risk": "critical"}, "risk is 'critical'. It may be: low, medium, high"),
        ({"on_timeout": "wait"}, "on_timeout is 'wait'. It may be: reject"),
        ({"roles": "finance"}, "roles are the text 'finance'. Give a tuple"),
    ],
)
def test_a_policy_in_python_is_held_to_what_can_be_stored(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Policy(**fields)


def test_a_reminder_may_fall_into_a_later_step_or_behind_a_pause() -> None:
    policy_from_json({"timeout": "1h", "on_timeout": "pause", "reminders": ["3h"]})
    policy_from_json(
        {
            "timeout": "1h",
            "on_timeout": "escalate",
            "reminders": ["3h"],
            "escalation": [{"roles": ["lead"]}],
        }
    )


def test_who_is_asked_at_each_step() -> None:
    ann, fay, eve = (Person(name=name) for name in ("ann", "fay", "eve"))
    clerk, lead = Person(name="x", roles=("clerk",)), Person(name="y", roles=("lead", "other"))
    asked = [
        [person for person in (ann, clerk, lead, fay, eve) if FULL.asks(person, step)]
        for step in range(3)
    ]
    assert asked == [[ann, clerk], [ann, clerk, lead], [ann, clerk, lead, fay]]
    assert Policy().asks(eve)


BOOK = """
[agents.records]
timeout = "1d"
roles = ["clerk"]

[agents.records.tools.delete]
roles = ["lead"]
quorum = 2
risk = "high"
"""


def test_an_operator_says_how_each_agents_tools_are_approved() -> None:
    book = policies_from_json(tomllib.loads(BOOK))
    assert book.policy("records", "delete") == Policy(
        timeout=24 * HOUR, roles=("lead",), quorum=2, risk=Risk.HIGH
    )
    assert book.policy("records", "mail") == Policy(timeout=24 * HOUR, roles=("clerk",))
    assert book.policy("other", "mail") == Policy()


def test_what_an_operator_says_goes_before_what_is_written_in_code() -> None:
    book = policies_from_json(tomllib.loads(BOOK))
    written = Coded(roles=("boss",), allowed=("approve", "reject"), reminders=(HOUR,), when=bool)
    assert book.policy("records", "mail", written) == Policy(
        timeout=24 * HOUR, roles=("clerk",), allowed=("approve", "reject"), reminders=(HOUR,)
    )
    assert book.policy("other", "mail", written) == plain_policy(written)


def test_what_does_not_go_together_names_the_agent_and_the_tool() -> None:
    book = policies_from_json({"agents": {"records": {"timeout": "30m"}}})
    with pytest.raises(
        ConfigurationError,
        match="agent 'records' for its tool 'mail' is wrong: A policy's reminder of 1h",
    ):
        book.policy("records", "mail", Policy(reminders=(HOUR,)))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"agent": {}}, "have a part 'agent', which means nothing"),
        ({"agents": []}, "'agents' are no table"),
        ({"agents": {"a": 3}}, "the agent 'a' is 3. Write a table"),
        ({"agents": {"a": {"tools": []}}}, r"the tools of the agent 'a' is \[\]. Write a table"),
        ({"agents": {"a": {"tools": {"t": True}}}}, "the tool 't' of the agent 'a' is True"),
        (
            {"agents": {"a": {"quorom": 2}}},
            "the agent 'a' has 'quorom', and a policy has only: allowed, roles",
        ),
        (
            {"agents": {"a": {"tools": {"t": {"when": "x"}}}}},
            "the tool 't' of the agent 'a' has 'when'",
        ),
        (
            {"agents": {"a": {"roles": "lead"}}},
            "the agent 'a' has a wrong 'roles': Expected `array`, got `str`",
        ),
        ({"agents": {"a": {"timeout": "soon"}}}, "the agent 'a' has a wrong 'timeout'"),
        ({"agents": {"a": {"timeout": "9999999999999d"}}}, "the agent 'a' has a wrong 'timeout'"),
    ],
)
def test_a_wrong_book_is_refused_when_it_is_read(value: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        policies_from_json(value)
