"""The tool by which an agent asks a person, in our agents and in langchain's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import ToolNode

from assent import (
    Approve,
    Edit,
    Reject,
    Respond,
    ask_human,
    build_hitl_agent,
    pending_approvals,
    resume,
)
from assent.core.errors import InvalidDecision
from assent.graph.provider_history import provider_history
from tests.support import any_graphs
from tests.support.models import ScriptedModel, calls, lc_history_problems, say

THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}
AGENTS = ("asker", "foreign_asker")


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))


def told(name: str, text: str) -> Any:
    agent = getattr(any_graphs, name).copy(update={"checkpointer": InMemorySaver()})
    agent.invoke({"messages": [("user", text)]}, THREAD)
    return agent


def last_words(result: Any) -> str:
    assert lc_history_problems(provider_history(result["messages"])) == []
    return str(result["messages"][-1].text)


@pytest.mark.parametrize("name", AGENTS)
def test_the_question_is_shown_whole(name: str) -> None:
    agent = told(name, "ask Which year? 2019 2020 2019")
    (approval,) = pending_approvals(agent, THREAD)
    assert approval.kind == "input"
    assert approval.args == {
        "prompt": "Which year?",
        "choices": ["2019", "2020"],
        "reasons": ["ambiguity"],
    }
    assert approval.schema == {"type": "string", "enum": ["2019", "2020"]}
    assert approval.allowed == ("respond", "reject")
    (call,) = agent.get_state(THREAD).values["messages"][-1].tool_calls
    assert approval.tool_call_id == call["id"]


@pytest.mark.parametrize("name", AGENTS)
def test_the_answer_is_the_tools_result(name: str) -> None:
    agent = told(name, "ask Which year? 2019 2020")
    for wrong in ("2021", 2020, None, ["2019"], ""):
        with pytest.raises(InvalidDecision, match="does not take this answer"):
            resume(agent, THREAD, Respond(wrong))
    for decision in (Approve(), Edit({"prompt": "Which month?"})):
        with pytest.raises(InvalidDecision, match="It takes: respond, reject"):
            resume(agent, THREAD, decision)
    assert last_words(resume(agent, THREAD, Respond("2020"))) == "I was told: 2020"
    assert pending_approvals(agent, THREAD) == []


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    ("answer", "words"),
    [("In spring.", "In spring."), (5, "5"), ({"year": 2020}, '{"year": 2020}'), (False, "false")],
)
def test_an_open_question_takes_any_answer_but_none(name: str, answer: Any, words: str) -> None:
    agent = told(name, "ask When?")
    with pytest.raises(InvalidDecision):
        resume(agent, THREAD, Respond(None))
    assert last_words(resume(agent, THREAD, Respond(answer))) == f"I was told: {words}"


@pytest.mark.parametrize("name", AGENTS)
def test_a_question_may_be_left_unanswered(name: str) -> None:
    assert (
        last_words(resume(told(name, "ask When?"), THREAD, Reject()))
        == "I was told: The person did not answer."
    )
    reason = Reject("It is in the file.")
    assert last_words(resume(told(name, "ask When?"), THREAD, reason)) == (
        "I was told: The person did not answer. The reason: It is in the file."
    )


def test_the_model_is_shown_what_it_may_ask() -> None:
    schema = tool(ask_human).tool_call_schema.model_json_schema()
    assert sorted(schema["properties"]) == ["choices", "context", "prompt", "reasons"]
    assert schema["required"] == ["prompt"]
    reasons = schema["properties"]["reasons"]["anyOf"][0]["items"]["enum"]
    assert {"ambiguity", "missing_field", "low_confidence"} <= set(reasons)


def test_two_questions_of_one_turn_are_answered_in_any_order() -> None:
    for order in ((0, 1), (1, 0)):
        turn = calls(
            ("ask_human", {"prompt": "Who?", "context": "The letter has no name."}),
            ("ask_human", {"prompt": "When?"}),
        )
        agent = build_hitl_agent(
            ScriptedModel(script=[turn, say("Thanks.")]),
            [ask_human],
            approve=[],
            checkpointer=InMemorySaver(),
        )
        agent.invoke({"messages": [("user", "Hi")]}, THREAD)
        asked = pending_approvals(agent, THREAD)
        assert [approval.args["prompt"] for approval in asked] == ["Who?", "When?"]
        for place in order:
            result = resume(agent, THREAD, {asked[place].tool_call_id: Respond(f"answer {place}")})
        answers = [
            message.text
            for message in provider_history(result["messages"])
            if isinstance(message, ToolMessage)
        ]
        assert sorted(answers) == ["answer 0", "answer 1"]


def test_a_question_that_needs_an_approval_first_is_asked_then() -> None:
    agent = told("gated_asker", "ask Which year? 2019 2020")
    (approval,) = pending_approvals(agent, THREAD)
    assert (approval.kind, approval.tool) == ("tool", "ask_human")
    resume(agent, THREAD, Approve())
    (question,) = pending_approvals(agent, THREAD)
    assert question.kind == "input"
    assert last_words(resume(agent, THREAD, Respond("2019"))) == "I was told: 2019"


def test_it_asks_in_a_plain_node_of_tools_too() -> None:
    from langgraph.graph import START, MessagesState, StateGraph

    graph = (
        StateGraph(MessagesState).add_node("tools", ToolNode([ask_human])).add_edge(START, "tools")
    )
    agent: Any = graph.compile(checkpointer=InMemorySaver())
    call = AIMessage("", tool_calls=[{"name": "ask_human", "args": {"prompt": "Who?"}, "id": "c1"}])
    agent.invoke({"messages": [call]}, THREAD)
    assert resume(agent, THREAD, {"c1": Respond("Ada")})["messages"][-1].text == "Ada"
