"""What `graph.with_retry()` becomes: a policy of the nodes that may be tried again."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy, interrupt

from assent import Respond, aresume
from assent.core.errors import StaleLease
from assent.graph.breakpoints import with_breakpoints
from assent.graph.interrupts.matching import matched
from assent.graph.retrying import unwrapped
from tests.graph.harness import THREAD


def failing(ran: list[str], error: Exception, *, fails: int) -> StateGraph[Any, Any, Any, Any]:
    """First "begin", then "reach", which raises so often, and then answers."""

    def begin(state: MessagesState) -> None:
        ran.append("begin")

    def reach(state: MessagesState) -> dict[str, Any]:
        ran.append("reach")
        if ran.count("reach") <= fails:
            raise error
        return {"messages": [AIMessage("Done.")]}

    graph = StateGraph(MessagesState).add_node("begin", begin).add_node("reach", reach)
    return graph.add_edge(START, "begin").add_edge("begin", "reach")


def retried(graph: Any, **rule: Any) -> Any:
    return unwrapped(graph.with_retry(wait_exponential_jitter=False, **rule))


async def test_only_the_node_that_failed_runs_again() -> None:
    ran: list[str] = []
    graph = retried(failing(ran, OSError(), fails=2).compile())
    state = await graph.ainvoke({"messages": []})
    assert state["messages"][-1].text == "Done."
    assert ran == ["begin", "reach", "reach", "reach"]


@pytest.mark.parametrize(
    ("error", "rule", "times"),
    [
        (OSError(), {}, 3),
        (OSError(), {"stop_after_attempt": 5}, 5),
        (OSError(), {"retry_if_exception_type": (KeyError,)}, 1),
        (OSError(), {"retry_if_exception_type": lambda error: error.args == ()}, 3),
        (StaleLease("The lease was lost."), {}, 1),
    ],
)
async def test_the_rule_says_how_often_and_after_what(
    error: Exception, rule: dict[str, Any], times: int
) -> None:
    ran: list[str] = []
    graph = retried(failing(ran, error, fails=9).compile(), **rule)
    with pytest.raises(type(error)):
        await graph.ainvoke({"messages": []})
    assert ran.count("reach") == times


@pytest.mark.parametrize(
    "pause",
    [
        {"interrupt_before": ["reach"]},
        {"interrupt_before": "*"},
        {"interrupt_after": ["begin"]},
    ],
)
def test_what_a_person_may_have_approved_is_not_tried_again(pause: dict[str, Any]) -> None:
    graph = failing([], OSError(), fails=0)
    assert not retried(graph.compile(**pause)).nodes["reach"].retry_policy
    outer = StateGraph(MessagesState).add_node("inner", graph.compile(**pause))
    compiled = outer.add_edge(START, "inner").compile()
    assert not retried(compiled).nodes["inner"].retry_policy
    plain = StateGraph(MessagesState).add_node("inner", graph.compile())
    assert retried(plain.add_edge(START, "inner").compile()).nodes["inner"].retry_policy


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [(["reach"], [], ["begin"]), ("*", [], []), ([], ["begin"], []), ([], [], ["begin", "reach"])],
)
def test_nor_what_a_run_pauses_before(before: Any, after: Any, left: list[str]) -> None:
    graph = failing([], OSError(), fails=0)
    own = graph.add_node("own", lambda state: None, retry_policy=RetryPolicy()).compile()
    agent = with_breakpoints(matched(retried(own)), before, after)
    tried = [name for name, node in agent.nodes.items() if node.retry_policy]
    assert tried == [*left, "own"]
    for name in ("begin", "reach"):
        # It still is the node that gives an answer only to what it was given to.
        assert type(agent.nodes[name].node).__name__ == "_Matched"


def test_a_policy_of_a_nodes_own_stays() -> None:
    own = RetryPolicy(max_attempts=7)
    graph = StateGraph(MessagesState).add_node("mine", lambda state: None, retry_policy=own)
    node = retried(graph.add_edge(START, "mine").compile()).nodes["mine"]
    assert list(node.retry_policy) == [own]


def test_it_waits_as_the_rule_says() -> None:
    graph = failing([], OSError(), fails=0).compile()
    rule = {"initial": 0.5, "max": 8.0, "exp_base": 3.0, "jitter": 0.0}
    (policy,) = (
        unwrapped(graph.with_retry(exponential_jitter_params=rule)).nodes["reach"].retry_policy
    )
    waits = (policy.initial_interval, policy.max_interval, policy.backoff_factor, policy.jitter)
    assert waits == (0.5, 8.0, 3.0, False)
    (default,) = unwrapped(graph.with_retry()).nodes["reach"].retry_policy
    assert (default.initial_interval, default.max_interval, default.jitter) == (1.0, 60.0, True)


def test_what_else_the_wrapper_was_given_stays() -> None:
    graph = failing([], OSError(), fails=0).compile(name="mine")
    agent = unwrapped(graph.with_retry().with_config(tags=["t"]))
    assert (agent.name, agent.config["tags"]) == ("mine", ["t"])
    assert unwrapped(graph) is graph


async def test_nobody_is_asked_twice_by_a_node_that_fails_behind_its_question() -> None:
    ran: list[str] = []

    def ask(state: MessagesState) -> dict[str, Any]:
        answers = [interrupt("Which year?"), interrupt("Which month?")]
        ran.append(f"told {answers}")
        if len(ran) == 1:
            raise OSError
        return {"messages": [AIMessage("Done.")]}

    graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
    agent = retried(graph.compile(checkpointer=InMemorySaver()))
    await agent.ainvoke({"messages": []}, THREAD)
    await aresume(agent, THREAD, Respond(2019))
    state = await aresume(agent, THREAD, Respond("May"))
    assert state["messages"][-1].text == "Done."
    assert ran == ["told [2019, 'May']"] * 2
