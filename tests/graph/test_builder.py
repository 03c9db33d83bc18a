"""The agent as a graph: what may be built, how a turn's calls are routed, what tools may be, and
what the model is told of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, Any, Protocol

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, ToolException, tool
from langgraph.prebuilt import InjectedState, ToolRuntime
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from assent import (
    ApprovalPolicy,
    Approve,
    Edit,
    Reject,
    Respond,
    apending_approvals,
    aresume,
    build_hitl_agent,
    pending_approvals,
    resume,
)
from assent.core.errors import ConfigurationError
from tests.graph.harness import ASKED, THREAD, AgentHarness, Json, asks, told
from tests.support.models import ScriptedModel, call, lc_history_problems, say
from tests.support.waiting import PATIENCE

SECRET = "postgres://admin:hunter2@db"


@pytest.fixture
def harness() -> AgentHarness:
    return AgentHarness()


# ── building ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("no-such-provider:x", "The model 'no-such-provider:x' cannot be set up"),
        ("something", "The model 'something' cannot be set up"),
        ("groq:llama", "needs a package that is not installed"),
        (FakeListChatModel(responses=["Hi"]), "FakeListChatModel cannot call tools"),
    ],
)
def test_a_model_that_cannot_be_set_up_is_refused_in_a_sentence(
    harness: AgentHarness, model: Any, sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        harness.agent(model=model)
    assert sentence in refused.value.message


def test_two_tools_of_one_name_are_refused(harness: AgentHarness) -> None:
    with pytest.raises(ConfigurationError, match="same name"):
        harness.agent(tools=[*harness.tools(), harness.tools()[0]])


def test_an_agent_needs_no_tools() -> None:
    agent = build_hitl_agent(FakeListChatModel(responses=["Hi"]), [], approve=[])
    assert agent.invoke(ASKED)["messages"][-1].text == "Hi"


@pytest.mark.parametrize("prompt", ["Be brief.", SystemMessage("Be brief.")])
def test_the_system_prompt_goes_to_the_model_and_not_into_the_state(
    harness: AgentHarness, prompt: Any
) -> None:
    model = ScriptedModel(script=[call("look", record=1), say("In order.")])
    result = harness.agent(model=model, system_prompt=prompt).invoke(ASKED, THREAD)
    assert [history[0] for history in model.calls] == [SystemMessage("Be brief.")] * 2
    assert not any(isinstance(message, SystemMessage) for message in result["messages"])


def test_the_graph_is_named_and_pauses_before_its_approval_node(harness: AgentHarness) -> None:
    agent = harness.agent(name="clerk")
    assert agent.name == "clerk"
    assert agent.interrupt_before_nodes == ["approval"]


def test_what_goes_in_and_out_is_the_conversation(harness: AgentHarness) -> None:
    """Decisions are neither input nor output: the graph's schemas say so to every client that reads
    them."""
    agent = harness.agent()
    assert set(agent.get_input_jsonschema()["properties"]) == {"messages"}
    assert set(agent.get_output_jsonschema()["properties"]) == {"messages"}


# ── routing ───────────────────────────────────────────────────────────────────────────────────────


async def test_free_calls_run_at_once_each_as_a_task_of_its_own(harness: AgentHarness) -> None:
    script = [
        asks(*((f"c{record}", "look", {"record": record}) for record in range(4))),
        say("All in order."),
    ]
    updates = [
        update
        async for update in harness.agent(*script).astream(ASKED, THREAD, stream_mode="updates")
    ]
    assert Counter(node for update in updates for node in update) == {
        "agent": 2,
        "tools": 4,
        "settle": 1,
    }
    assert sorted(harness.ran) == [("look", record) for record in range(4)]


async def test_free_calls_run_side_by_side() -> None:
    both = asyncio.Barrier(2)

    @tool
    async def meet(who: str) -> str:
        """Wait until the other one is here."""
        async with asyncio.timeout(PATIENCE), both:
            return f"{who} was met"

    agent = AgentHarness().agent(
        asks(("c1", "meet", {"who": "Ada"}), ("c2", "meet", {"who": "Bob"})),
        say("Done."),
        tools=[meet],
        approve=[],
    )
    result = await agent.ainvoke(ASKED, THREAD)
    assert (told(result, "c1").text, told(result, "c2").text) == ("Ada was met", "Bob was met")


async def test_free_calls_do_not_wait_for_a_person_and_gated_ones_are_shown_together(
    harness: AgentHarness,
) -> None:
    turn = asks(
        ("c1", "pay", {"amount": 1}),
        ("c2", "look", {"record": 2}),
        ("c3", "mail", {"to": "Bob"}),
        ("c4", "look", {"record": 4}),
    )
    agent = harness.agent(turn, say("Done."))
    await agent.ainvoke(ASKED, THREAD)
    assert sorted(harness.ran) == [("look", 2), ("look", 4)]
    assert [
        (approval.tool_call_id, approval.tool)
        for approval in await apending_approvals(agent, THREAD)
    ] == [
        ("c1", "pay"),
        ("c3", "mail"),
    ]

    await aresume(agent, THREAD, {"c1": Approve(), "c3": Approve()})
    assert sorted(harness.ran[2:]) == [("mail", "Bob"), ("pay", 1)]


async def test_a_predicate_parts_calls_of_one_tool(harness: AgentHarness) -> None:
    turn = asks(("small", "pay", {"amount": 5}), ("large", "pay", {"amount": 500}))
    agent = harness.agent(turn, say("Done."), approve={"pay": lambda args: args["amount"] > 100})
    await agent.ainvoke(ASKED, THREAD)
    assert harness.ran == [("pay", 5)]
    assert [approval.tool_call_id for approval in await apending_approvals(agent, THREAD)] == [
        "large"
    ]


async def test_several_gated_turns_pause_once_each(harness: AgentHarness) -> None:
    agent = harness.agent(
        asks(("c1", "pay", {"amount": 1})), asks(("c2", "pay", {"amount": 2})), say("Done.")
    )
    await agent.ainvoke(ASKED, THREAD)
    await aresume(agent, THREAD, Approve())
    assert harness.ran == [("pay", 1)]
    result = await aresume(agent, THREAD, Approve())
    assert harness.ran == [("pay", 1), ("pay", 2)]
    assert result["messages"][-1].text == "Done."
    # What was decided ends with its turn, and the state does not grow by it.
    assert (await agent.aget_state(THREAD)).values["decisions"] == {}


def test_a_tool_that_the_model_made_up_is_answered_and_not_asked_for(harness: AgentHarness) -> None:
    result = harness.agent(
        asks(("c1", "fly", {})), say("Sorry."), approve=lambda tool, args: True
    ).invoke(ASKED, THREAD)
    assert told(result, "c1").status == "error"
    assert "fly is not a valid tool" in told(result, "c1").text


def test_a_message_id_that_is_taken_does_not_replace_the_earlier_message(
    harness: AgentHarness,
) -> None:
    """Otherwise the second turn's call would find the first one's answer, and pass for done."""
    turn = asks(("c1", "pay", {"amount": 1}), message_id="m1")
    agent = harness.agent(turn, turn, say("Done."))
    agent.invoke(ASKED, THREAD)
    resume(agent, THREAD, Approve())
    assert harness.ran == [("pay", 1)]
    assert len(pending_approvals(agent, THREAD)) == 1
    resume(agent, THREAD, Approve())
    assert harness.ran == [("pay", 1), ("pay", 1)]


@pytest.mark.parametrize("ids", [(None, None), ("", ""), ("c", "c")])
def test_calls_without_an_id_of_their_own_get_one(
    harness: AgentHarness, ids: tuple[Any, Any]
) -> None:
    turn = AIMessage(
        "",
        tool_calls=[
            {"name": "pay", "args": {"amount": amount}, "id": id_}
            for amount, id_ in zip((1, 2), ids, strict=True)
        ],
    )
    agent = harness.agent(turn, say("Done."))
    agent.invoke(ASKED, THREAD)
    first, second = pending_approvals(agent, THREAD)
    result = resume(
        agent, THREAD, {first.approval_id: Approve(), second.approval_id: Reject("Too much.")}
    )
    assert harness.ran == [("pay", 1)]
    assert told(result, first.tool_call_id).status == "success"
    assert told(result, second.tool_call_id).status == "error"


# ── sync and async ────────────────────────────────────────────────────────────────────────────────


def turns() -> list[AIMessage]:
    return [asks(("c1", "look", {"record": 1}), ("c2", "pay", {"amount": 3})), say("Done.")]


def sync_tools(harness: AgentHarness) -> list[Any]:
    return harness.tools()[:2]


def test_sync_from_end_to_end(harness: AgentHarness) -> None:
    agent = harness.agent(*turns(), tools=sync_tools(harness), approve="pay")
    nodes = [
        node for update in agent.stream(ASKED, THREAD, stream_mode="updates") for node in update
    ]
    assert nodes == ["agent", "tools", "settle", "__interrupt__"]
    (approval,) = pending_approvals(agent, THREAD)
    result = resume(agent, THREAD, {approval.approval_id: Edit({"amount": 2})})
    assert harness.ran == [("look", 1), ("pay", 2)]
    assert result["messages"][-1].text == "Done."
    assert pending_approvals(agent, THREAD) == []


async def test_async_from_end_to_end(harness: AgentHarness) -> None:
    agent = harness.agent(*turns())
    nodes = [
        node
        async for update in agent.astream(ASKED, THREAD, stream_mode="updates")
        for node in update
    ]
    assert nodes == ["agent", "tools", "settle", "__interrupt__"]
    (approval,) = await apending_approvals(agent, THREAD)
    result = await aresume(agent, THREAD, {approval.tool_call_id: Edit({"amount": 2})})
    assert harness.ran == [("look", 1), ("pay", 2)]
    assert result["messages"][-1].text == "Done."
    assert await apending_approvals(agent, THREAD) == []


async def test_sync_in_a_notebook(harness: AgentHarness) -> None:
    """A notebook's cell runs in a thread whose event loop is running."""

    async def preview(args: Json) -> Json:
        return {"pays": args["amount"]}

    agent = harness.agent(
        *turns(), tools=sync_tools(harness), approve={"pay": ApprovalPolicy(preview=preview)}
    )
    agent.invoke(ASKED, THREAD)
    assert pending_approvals(agent, THREAD)[0].preview == {"pays": 3}
    assert resume(agent, THREAD, Approve())["messages"][-1].text == "Done."


async def test_words_stream_token_by_token(harness: AgentHarness) -> None:
    agent = harness.agent(say("All is well."))
    pieces = [chunk.text async for chunk, _ in agent.astream(ASKED, THREAD, stream_mode="messages")]
    assert [piece for piece in pieces if piece] == ["All ", "is ", "well."]


# ── kinds of tools ────────────────────────────────────────────────────────────────────────────────


@tool
def whoami(
    greeting: str, state: Annotated[dict[str, Any], InjectedState], runtime: ToolRuntime
) -> str:
    """Greet, with what is injected."""
    human = next(message for message in state["messages"] if isinstance(message, HumanMessage))
    return f"{greeting}, {human.text} {runtime.tool_call_id}"


@tool
def annotate(note: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Answer with a Command."""
    return Command(update={"messages": [ToolMessage(f"noted: {note}", tool_call_id=tool_call_id)]})


@tool
def annotate_twice(note: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> list[Any]:
    """Answer with a list."""
    return [
        Command(update={"messages": [ToolMessage(f"noted: {note}", tool_call_id=tool_call_id)]})
    ]


@tool
def picture(of: str) -> list[Json]:
    """Answer with content blocks."""
    return [{"type": "text", "text": f"a picture of {of}"}]


@pytest.mark.parametrize(
    ("gated", "args", "edited", "answer"),
    [
        (whoami, {"greeting": "Hi"}, {"greeting": "Ho"}, "Ho, Please. c1"),
        (annotate, {"note": "a"}, {"note": "b"}, "noted: b"),
        (annotate_twice, {"note": "a"}, {"note": "b"}, "noted: b"),
        (picture, {"of": "a cat"}, {"of": "a dog"}, "a picture of a dog"),
    ],
)
async def test_a_gated_tool_may_take_and_give_what_any_tool_may(
    gated: Any, args: Json, edited: Json, answer: str
) -> None:
    agent = AgentHarness().agent(
        asks(("c1", gated.name, args)), say("Done."), tools=[gated], approve=gated.name
    )
    await agent.ainvoke(ASKED, THREAD)
    (approval,) = await apending_approvals(agent, THREAD)
    assert approval.args == args
    message = told(await aresume(agent, THREAD, Edit(edited)), "c1")
    assert answer in message.text
    assert "A person changed the arguments" in message.text
    assert message.status == "success"


def test_a_tool_that_asks_something_itself_is_answered_like_any_question() -> None:
    answers = []

    @tool
    def confirm(what: str) -> str:
        """Ask."""
        answers.append(interrupt({"sure": what}))
        return f"{what}: {answers[-1]}"

    agent = AgentHarness().agent(
        asks(("c1", "confirm", {"what": "pay"})), say("Done."), tools=[confirm], approve="confirm"
    )
    agent.invoke(ASKED, THREAD)
    resume(agent, THREAD, Approve())
    (question,) = pending_approvals(agent, THREAD)
    assert (question.kind, question.args, question.allowed) == (
        "input",
        {"sure": "pay"},
        ("respond", "reject"),
    )
    result = resume(agent, THREAD, Respond({"yes": ["indeed"]}))
    assert answers == [{"yes": ["indeed"]}]
    assert told(result, "c1").text == "pay: {'yes': ['indeed']}"


async def test_a_tool_that_asks_does_not_make_the_others_run_again(harness: AgentHarness) -> None:
    @tool
    async def confirm(what: str) -> str:
        """Ask."""
        harness.ran.append(("confirm", what))
        return f"{what}: {interrupt('Sure?')}"

    turn = asks(
        ("c1", "pay", {"amount": 1}),
        ("c2", "confirm", {"what": "gated"}),
        ("c3", "look", {"record": 3}),
        ("c4", "mail", {"to": "Bob"}),
    )
    agent = harness.agent(
        turn, say("Done."), tools=[*harness.tools(), confirm], approve=["pay", "confirm", "mail"]
    )
    await agent.ainvoke(ASKED, THREAD)
    await aresume(agent, THREAD, {"c1": Approve(), "c2": Approve()})
    (question,) = await apending_approvals(agent, THREAD)
    await agent.ainvoke(None, THREAD)
    await aresume(agent, THREAD, {question.approval_id: Respond("yes")})
    # Then the call that nobody has decided yet waits, as before.
    assert [approval.tool_call_id for approval in await apending_approvals(agent, THREAD)] == ["c4"]
    result = await aresume(agent, THREAD, Reject())
    assert Counter(harness.ran) == {("look", 3): 1, ("pay", 1): 1, ("confirm", "gated"): 3}
    assert told(result, "c2").text == "gated: yes"


class Amount(BaseModel):
    amount: int


@tool
def stuck() -> str:
    """Fail with a text for the model."""
    raise ToolException("The drawer is stuck.")


@tool
def broken() -> str:
    """Fail with a text that nobody may see."""
    raise ValueError(SECRET)


@tool
def picky() -> str:
    """Fail on data of its own, in the middle of the work."""
    return str(Amount.model_validate({"amount": SECRET}))


@tool
def strict(amount: int) -> str:
    """Take a number."""
    return str(amount)


@pytest.mark.parametrize(
    ("failing", "args", "answer"),
    [
        (stuck, {}, "The drawer is stuck."),
        (broken, {}, "The tool failed with ValueError."),
        # Not "fix your arguments and try again": half of its work may be done.
        (picky, {}, "The tool failed with ValidationError."),
        (strict, {"amount": "much"}, "amount: Input should be a valid integer"),
        (strict, {}, "amount: Field required"),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_the_model_is_told_of_a_tool_that_fails(
    failing: Any, args: Json, answer: str, asynchronous: bool
) -> None:
    agent = AgentHarness().agent(
        asks(("c1", failing.name, args)), say("Sorry."), tools=[failing], approve=[]
    )
    result = await agent.ainvoke(ASKED, THREAD) if asynchronous else agent.invoke(ASKED, THREAD)
    message = told(result, "c1")
    assert answer in message.text
    assert message.status == "error"
    assert SECRET not in str(result)


async def test_the_log_has_what_the_model_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    agent = AgentHarness().agent(
        asks(("c1", "broken", {})), say("Sorry."), tools=[broken], approve=[]
    )
    await agent.ainvoke(ASKED, THREAD)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert SECRET in str(record.exc_info[1])


# ── histories ─────────────────────────────────────────────────────────────────────────────────────


class Step(Protocol):
    async def __call__(self, agent: Any) -> Any: ...


async def speak(agent: Any) -> Any:
    return await agent.ainvoke({"messages": [("user", "Hello?")]}, THREAD)


async def approve_first(agent: Any) -> Any:
    pending = await apending_approvals(agent, THREAD)
    return await aresume(agent, THREAD, {pending[0].approval_id: Approve()})


async def reject_first(agent: Any) -> Any:
    pending = await apending_approvals(agent, THREAD)
    return await aresume(agent, THREAD, {pending[0].approval_id: Reject("No.")})


@pytest.mark.parametrize(
    "steps",
    [
        (approve_first, reject_first),
        (speak, approve_first, speak, reject_first),
        (reject_first, speak, approve_first),
    ],
)
async def test_every_history_that_the_model_gets_is_one_that_a_provider_takes(
    harness: AgentHarness, steps: tuple[Step, ...]
) -> None:
    turn = asks(
        ("c1", "pay", {"amount": 1}), ("c2", "look", {"record": 1}), ("c3", "pay", {"amount": 3})
    )
    model = ScriptedModel(script=[turn, say("Done."), say("You are welcome.")])
    agent = harness.agent(model=model)
    await agent.ainvoke(ASKED, THREAD)
    for step in steps:
        await step(agent)
    state: list[AnyMessage] = (await speak(agent))["messages"]
    assert len(model.calls) == 3
    assert all(lc_history_problems(history) == [] for history in model.calls)
    heard = [message.text for message in model.calls[-1] if isinstance(message, HumanMessage)]
    assert heard == [message.text for message in state if isinstance(message, HumanMessage)]
