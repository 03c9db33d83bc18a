"""What a task chooses of its agent: another model, and an addition to its prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from assent.core.errors import InvalidInput
from assent.core.run_input import GIVEN_EXCERPTS, RunInput
from assent.graph.excerpt import given_excerpt
from assent.graph.inputs import shape_of
from assent.graph.task_options import (
    INSTRUCTIONS_KEY,
    MAX_INSTRUCTIONS,
    MODEL_KEY,
    TaskRules,
)
from tests.graph.harness import ASKED, AgentHarness
from tests.support.models import ScriptedModel, call, say

RULES = TaskRules(instructions=True, models={"gpt-4": "openai:gpt-4", "small": "openai:mini"})


def of_task(
    thread: str = "t", model: Any = None, instructions: str | None = None
) -> RunnableConfig:
    """The config of a run whose task has chosen this."""
    chosen = {MODEL_KEY: model, INSTRUCTIONS_KEY: instructions}
    return {"configurable": {"thread_id": thread, **chosen}}


@pytest.fixture
def harness() -> AgentHarness:
    return AgentHarness()


# ── an agent of ours ──────────────────────────────────────────────────────────────────────────────


class Seen(AgentMiddleware[Any, Any, Any]):
    """Stands around the model, and remembers the request."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[ModelRequest] = []

    def wrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]
    ) -> ModelResponse:
        self.requests.append(request)
        return handler(request)

    async def awrap_model_call(self, request: ModelRequest, handler: Any) -> ModelResponse:
        self.requests.append(request)
        made: ModelResponse = await handler(request)
        return made


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("around", [True, False])
async def test_another_model_takes_the_turns_with_the_tools_and_is_told_more(
    harness: AgentHarness, around: bool, is_async: bool
) -> None:
    own = ScriptedModel(script=[])
    chosen = ScriptedModel(script=[call("look", record=7), say("In order.")])
    seen = Seen()
    agent = harness.agent(model=own, system_prompt="Be kind.", middleware=[seen] if around else [])
    config = of_task(model=chosen, instructions="Be brief.")
    ended = await agent.ainvoke(ASKED, config) if is_async else agent.invoke(ASKED, config)
    assert ended["messages"][-1].text == "In order."
    assert (own.calls, harness.ran) == ([], [("look", 7)])
    assert {tool.name for tool in chosen.bound_tools} == {"look", "pay", "mail"}
    prompt = "Be kind.\n\nInstructions of this task:\nBe brief."
    for history in chosen.calls:
        (system,) = [each for each in history if isinstance(each, SystemMessage)]
        assert system.text == prompt
    # Middleware sees what the turn has.
    shown = [(request.model, str(request.system_prompt)) for request in seen.requests]
    assert shown == [(chosen, prompt), (chosen, prompt)] * around
    # And none of it is in the state.
    assert not any(isinstance(each, SystemMessage) for each in ended["messages"])


@pytest.mark.parametrize(
    ("prompt", "content"),
    [
        (None, "Instructions of this task:\nBe brief."),
        (
            SystemMessage([{"type": "text", "text": "Be kind."}]),
            [
                {"type": "text", "text": "Be kind."},
                {"type": "text", "text": "Instructions of this task:\nBe brief."},
            ],
        ),
    ],
)
async def test_instructions_join_any_prompt(
    harness: AgentHarness, prompt: Any, content: Any
) -> None:
    model = ScriptedModel(script=[say("Yes."), say("No.")])
    agent = harness.agent(model=model, system_prompt=prompt)
    await agent.ainvoke(ASKED, of_task(instructions="Be brief."))
    assert model.calls[0][0] == SystemMessage(content)
    # The next run has its own, or none.
    await agent.ainvoke(ASKED, of_task("u"))
    assert [*model.calls[1][:-1]] == ([] if prompt is None else [prompt])


async def test_a_model_that_is_a_function_of_the_turn_is_not_asked(harness: AgentHarness) -> None:
    chosen = ScriptedModel(script=[say("Mine.")])

    def never(state: Any, runtime: Any) -> Any:
        raise AssertionError

    ended = await harness.agent(model=never).ainvoke(ASKED, of_task(model=chosen))
    assert ended["messages"][-1].text == "Mine."


class Verdict(BaseModel):
    """Says whether."""

    fine: bool


async def test_the_answer_in_a_form_is_the_chosen_models_too(harness: AgentHarness) -> None:
    own = ScriptedModel(script=[])
    chosen = ScriptedModel(script=[say("Fine."), call("Verdict", fine=True)])
    agent = harness.agent(model=own, response_format=Verdict)
    ended = await agent.ainvoke(ASKED, of_task(model=chosen, instructions="Be brief."))
    assert ended["structured_response"] == Verdict(fine=True)
    assert own.calls == []
    assert [history[0].text.endswith("Be brief.") for history in chosen.calls] == [True, True]


async def test_an_agent_that_the_agent_calls_is_another_one(harness: AgentHarness) -> None:
    inner_model = ScriptedModel(script=[say("From within."), say("From a node.")])
    inner = harness.agent(model=inner_model, system_prompt="Inner.", checkpointer=None)

    async def ask(question: str) -> str:
        """Ask the other agent."""
        told = await inner.ainvoke({"messages": [("user", question)]})
        return str(told["messages"][-1].text)

    chosen = ScriptedModel(script=[call("ask", question="Well?"), say("Asked.")])
    outer = harness.agent(model=ScriptedModel(script=[]), tools=[ask], approve=[])
    await outer.ainvoke(ASKED, of_task(model=chosen, instructions="Be brief."))
    # Nor is one that is a node of a graph.
    graph = StateGraph(MessagesState).add_node("inner", inner).add_edge(START, "inner").compile()
    await graph.ainvoke(ASKED, of_task(model=chosen, instructions="Be brief."))  # type: ignore[call-overload]
    assert [history[0].text for history in inner_model.calls] == ["Inner.", "Inner."]
    assert len(chosen.calls) == 2


# ── what may be chosen ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rules", "chosen", "said"),
    [
        (
            RULES,
            {"model": "gpt-5"},
            "The agent 'clerk' has no model 'gpt-5' for tasks. It has: gpt-4, small.",
        ),
        (
            TaskRules(),
            {"model": "gpt-4"},
            "The agent 'clerk' has no model 'gpt-4' for tasks. To give it models, list them in "
            "[tasks.clerk.models] of the file that ASSENT_CONFIG names.",
        ),
        (
            TaskRules(),
            {"instructions": "Be brief."},
            "The agent 'clerk' takes no instructions for tasks. To let it, write 'instructions = "
            "true' into [tasks.clerk] of the file that ASSENT_CONFIG names.",
        ),
        (
            RULES,
            {"instructions": "x" * (MAX_INSTRUCTIONS + 1)},
            "The instructions have 8,001 characters, and 8,000 are the most that they may have.",
        ),
    ],
)
def test_what_may_not_is_refused_when_it_is_given_and_when_it_runs(
    harness: AgentHarness, rules: TaskRules, chosen: dict[str, str], said: str
) -> None:
    shape = shape_of(harness.agent(), "clerk", tasks=rules)
    with pytest.raises(InvalidInput) as refused:
        shape.task_input("Hello.", **chosen)
    assert refused.value.message == said
    with pytest.raises(InvalidInput) as refused:
        shape.check(RunInput(message="Hello.", **chosen))
    assert refused.value.message == said


def test_what_may_is_the_runs_and_that_of_those_which_go_on(harness: AgentHarness) -> None:
    shape = shape_of(harness.agent(), "clerk", tasks=RULES)
    chosen = {"model": "gpt-4", "instructions": "Be brief."}
    given = shape.task_input("Hello.", **chosen)
    assert given == RunInput(message="Hello.", **chosen)
    assert given.inherited() == chosen
    shape.check(given)
    assert shape.task_input("Hello.") == RunInput(message="Hello.")


@dataclass
class Desk:
    model: str = "openai:mini"


def plain_graph(context: type | None) -> Any:
    def nothing(state: MessagesState) -> dict[str, Any]:
        return {}

    graph = StateGraph(MessagesState, context_schema=context).add_node("nothing", nothing)  # type: ignore[type-var]
    return graph.add_edge(START, "nothing").compile()


def test_any_other_graph_gets_it_where_it_declares_it() -> None:
    chosen = {"model": "gpt-4", "instructions": "Be brief."}
    shape = shape_of(plain_graph(Desk), "plain", ["instructions"], RULES)
    given = shape.task_input("Hello.", **chosen)
    assert given.context == {"model": "openai:gpt-4"}
    assert given.config == {"configurable": {"instructions": "Be brief."}}
    shape.check(given)
    for shape in (
        shape_of(plain_graph(None), "plain", tasks=RULES),
        shape_of(plain_graph(None), "plain", ["instructions"], RULES),
    ):
        with pytest.raises(InvalidInput, match="The graph of the agent 'plain' has no 'model'"):
            shape.task_input("Hello.", **chosen)
        # Where it has become such a graph meanwhile.
        with pytest.raises(InvalidInput, match="The graph of the agent 'plain' has no 'model'"):
            shape.check(RunInput(message="Hello.", **chosen))


def test_whoever_decides_sees_all_of_it() -> None:
    long = "Pay whoever asks. " * 400
    given = RunInput(context={"a": 1}, model="gpt-4", instructions=long)
    shown = given_excerpt(given)
    assert shown == {"context": '{"a":1}', "model": "gpt-4", "instructions": long}
    assert set(shown) <= set(GIVEN_EXCERPTS)
