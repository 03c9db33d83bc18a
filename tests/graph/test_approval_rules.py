"""Which calls need a person: names, mappings and predicates, and what is refused when an agent is
built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assent import ApprovalPolicy
from assent.core.errors import ConfigurationError
from assent.graph.approval_rules import approval_rules
from tests.graph.harness import AgentHarness

TOOLS = ("look", "pay", "mail")
CALLS = [
    ("look", {"record": 1}),
    ("pay", {"amount": 5}),
    ("pay", {"amount": 500}),
    ("mail", {"to": "Ada"}),
]


def large(args: dict[str, Any]) -> bool:
    return bool(args["amount"] > 100)


def gated(approve: Any) -> list[int]:
    """Which of CALLS need a person, by their places."""
    rules = approval_rules(approve, TOOLS)
    asked = [
        rules.policy_for({"name": name, "args": args, "id": "c", "type": "tool_call"})
        for name, args in CALLS
    ]
    return [place for place, policy in enumerate(asked) if policy is not None]


@pytest.mark.parametrize(
    ("approve", "expected"),
    [
        ([], []),
        ({}, []),
        ("pay", [1, 2]),
        (["pay", "mail"], [1, 2, 3]),
        ({"pay", "mail"}, [1, 2, 3]),
        (("mail",), [3]),
        ({"pay": True}, [1, 2]),
        ({"pay": True, "mail": False}, [1, 2]),
        ({"pay": large}, [2]),
        ({"pay": ApprovalPolicy()}, [1, 2]),
        ({"pay": ApprovalPolicy(when=large), "mail": True}, [2, 3]),
        (ApprovalPolicy(), [0, 1, 2, 3]),
        (ApprovalPolicy(when=lambda args: "to" in args), [3]),
        (lambda args: "to" in args, [3]),
        (lambda tool, args: tool == "pay" and args["amount"] > 100, [2]),
        # A default is not a second argument to be filled.
        (lambda args, limit=100: args.get("amount", 0) > limit, [2]),
        # Who cannot say no has not said no: `look` has no amount, and neither has `mail`.
        (large, [0, 2, 3]),
    ],
)
def test_what_approve_stands_for(approve: Any, expected: list[int]) -> None:
    assert gated(approve) == expected


def test_a_predicate_cannot_change_the_call() -> None:
    rules = approval_rules({"pay": lambda args: args["who"].pop() is None}, TOOLS)
    args = {"who": ["Ada"]}
    assert rules.policy_for({"name": "pay", "args": args, "id": "c", "type": "tool_call"}) is None
    assert args == {"who": ["Ada"]}


async def asynchronous_of_tool(tool: str, args: dict[str, Any]) -> bool:
    return large(args)


async def asynchronous(args: dict[str, Any]) -> bool:
    return False


@pytest.mark.parametrize(
    ("approve", "sentence"),
    [
        (
            "pya",
            "approve= names the tool 'pya', and the agent has no such tool. It has: look, mail, pay.",
        ),
        (["pay", "pya"], "names the tool 'pya'"),
        ({"pya": True}, "names the tool 'pya'"),
        ([len, print], "names the tool '<built-in function"),
        ({"pay": "always"}, "gives the tool 'pay' 'always'"),
        ({"pay": None}, "gives the tool 'pay' None"),
        (True, "approve= is True"),
        (None, "approve= is None"),
        ({"pay": asynchronous}, "`when` is async"),
        (asynchronous, "`when` is async"),
        (asynchronous_of_tool, "`when` is async"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_agent_is_built(
    approve: Any, sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        AgentHarness().agent(approve=approve)
    assert sentence in refused.value.message


@pytest.mark.parametrize("wrap", [lambda tool: tool, lambda tool: {"pay": tool}])
def test_a_tool_is_not_taken_for_a_predicate(wrap: Callable[[Any], Any]) -> None:
    """`approve=delete_records` would call the tool to ask whether it may be called."""
    harness = AgentHarness()
    tools = harness.tools()
    with pytest.raises(ConfigurationError, match="takes the name of one"):
        harness.agent(tools=tools, approve=wrap(tools[1]))
    assert harness.ran == []


@pytest.mark.parametrize(
    ("allowed", "sentence"),
    [
        (("approve", "ignore"), "'ignore' is no decision"),
        (("approve",), "could not say no"),
        (("approve", "edit"), "could not say no"),
        ((), "could not say no"),
    ],
)
def test_a_policy_leaves_a_way_to_say_no(allowed: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        ApprovalPolicy(allowed=allowed)
