"""What a chat message decides, for an agent built with `chat_decisions=True`, and only for one."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from assent import Approve, Reject, apending_approvals, pending_approvals, resume
from assent.core.decisions import Decision
from assent.graph.chat_decisions import decision_from_message, decision_from_messages
from tests.graph.harness import ASKED, THREAD, AgentHarness, asks, told
from tests.support.models import say

APPROVING = [
    "yes",
    "Yes",
    "YES!",
    "y",
    "ok.",
    "OK",
    "okay",
    "approve",
    "Approved!",
    " approved \n",
    "go ahead",
    "Go  ahead.",
    "do it",
    "confirm",
]

REJECTING = [
    "not approved",
    "I approved of the old one",
    "yes but",
    "yes, but not now",
    "approve?",
    "approve\nnot",
    "no",
    "disapprove",
    "yes yes",
    '"approved"',
    "unapproved",
    "approve all but the last",
    "не approve",
]


@pytest.mark.parametrize("text", APPROVING)
def test_a_whole_message_that_is_a_word_of_consent_approves(text: str) -> None:
    assert decision_from_message(text) == Approve()


@pytest.mark.parametrize("text", [*REJECTING, "", " "])
def test_any_other_message_rejects_with_itself_as_the_reason(text: str) -> None:
    assert decision_from_message(text) == Reject(text.strip())


WITH_ATTACHMENT = (
    "The answer came with an attachment, and only a word of consent by itself approves."
)
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


@pytest.mark.parametrize(
    ("messages", "decision"),
    [
        ([HumanMessage("Hm."), HumanMessage("yes")], Reject("Hm.\nyes")),
        ([HumanMessage([{"type": "text", "text": "yes"}])], Approve()),
        ([HumanMessage([{"type": "text", "text": "yes"}, PICTURE])], Reject(WITH_ATTACHMENT)),
        ([HumanMessage([{"type": "text", "text": "this one"}, PICTURE])], Reject("this one")),
    ],
)
def test_everything_said_since_the_question_counts(
    messages: list[HumanMessage], decision: Decision
) -> None:
    assert decision_from_messages(messages) == decision


@pytest.fixture
def harness() -> AgentHarness:
    return AgentHarness()


def paused(harness: AgentHarness, *, chat_decisions: bool = True) -> Any:
    turn = asks(("c1", "pay", {"amount": 3}), ("c2", "pay", {"amount": 4}))
    agent = harness.agent(
        turn, say("Done."), tools=harness.tools()[:2], approve="pay", chat_decisions=chat_decisions
    )
    agent.invoke(ASKED, THREAD)
    return agent


def test_consent_runs_every_waiting_call_and_the_agent_goes_on(harness: AgentHarness) -> None:
    result = paused(harness).invoke({"messages": [("user", "Approved!")]}, THREAD)
    assert sorted(harness.ran) == [("pay", 3), ("pay", 4)]
    assert result["messages"][-1].text == "Done."


@pytest.mark.parametrize("text", REJECTING)
def test_other_words_run_nothing_and_reach_the_model_as_the_reason(
    harness: AgentHarness, text: str
) -> None:
    result = paused(harness).invoke({"messages": [("user", text)]}, THREAD)
    assert harness.ran == []
    assert (
        told(result, "c1").text
        == f"A person rejected this call. It did not run. The reason: {text}"
    )
    assert told(result, "c2").status == "error"


def test_only_a_persons_message_decides(harness: AgentHarness) -> None:
    agent = paused(harness)
    agent.invoke({"messages": [("system", "approved")]}, THREAD)
    agent.invoke({"messages": [("user", "yes"), ("system", "Noted.")]}, THREAD)
    assert harness.ran == []
    assert len(pending_approvals(agent, THREAD)) == 2


def test_decisions_by_id_work_beside_it(harness: AgentHarness) -> None:
    agent = paused(harness)
    resume(agent, THREAD, {"c1": Approve()})
    assert harness.ran == [("pay", 3)]
    agent.invoke({"messages": [("user", "not the other one")]}, THREAD)
    assert harness.ran == [("pay", 3)]
    assert pending_approvals(agent, THREAD) == []


async def test_words_decide_for_what_waits_and_not_for_what_comes_after(
    harness: AgentHarness,
) -> None:
    agent = harness.agent(
        asks(("c1", "pay", {"amount": 3})),
        asks(("c2", "pay", {"amount": 4})),
        say("Done."),
        chat_decisions=True,
    )
    await agent.ainvoke(ASKED, THREAD)
    await agent.ainvoke({"messages": [("user", "yes")]}, THREAD)
    assert harness.ran == [("pay", 3)]
    assert [approval.tool_call_id for approval in await apending_approvals(agent, THREAD)] == ["c2"]
    await agent.ainvoke(None, THREAD)
    assert harness.ran == [("pay", 3)]


@pytest.mark.parametrize("text", APPROVING)
def test_it_is_off_by_default(harness: AgentHarness, text: str) -> None:
    agent = harness.agent(asks(("c1", "pay", {"amount": 3})), say("Done."))
    agent.invoke(ASKED, THREAD)
    agent.invoke({"messages": [("user", text)]}, THREAD)
    assert harness.ran == []
    assert len(pending_approvals(agent, THREAD)) == 1
