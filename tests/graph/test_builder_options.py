"""The options of `build_hitl_agent` beside tools and approvals: a store, a context, keys of the
state, a structured answer, and a model or tools that are chosen anew for each turn."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from langchain.agents.middleware.types import AgentState as LangchainState
from langchain.agents.middleware.types import OmitFromInput, PrivateStateAttr
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import MessagesState
from langgraph.prebuilt import ToolRuntime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from pydantic import BaseModel

from assent import ApprovalPolicy, Approve, Edit, apending_approvals, aresume, build_hitl_agent
from assent.core.errors import AssentError, ConfigurationError
from assent.graph.effects import EFFECTS_KEY
from assent.graph.tool_middleware import NO_SUCH_TOOL
from tests.graph.harness import ASKED, THREAD, AgentHarness, Killed, Ledger, asks, told
from tests.support.models import ScriptedModel, call, say


@pytest.fixture
def harness() -> AgentHarness:
    return AgentHarness()


def test_without_options_the_graph_has_the_nodes_that_it_always_had(harness: AgentHarness) -> None:
    agent = harness.agent(say("Hello."))
    nodes = {"agent", "tools", "settle", "approval", "ask"}
    assert set(agent.builder.nodes) == nodes
    assert set(agent.builder.channels) == {"messages", "decisions"}
    assert agent.builder.gate.around is None
    assert set(harness.agent(say("Hello."), chat_decisions=True).builder.nodes) == {
        *nodes,
        "consent",
    }


# ── the store, the context, the state ─────────────────────────────────────────────────────────────


@dataclass
class Account:
    user: str
    limit: int = 10


class Notes(MessagesState):
    topic: str
    found: Annotated[list[str], OmitFromInput]
    secret: Annotated[str, PrivateStateAttr]


async def test_tools_have_the_store_and_the_context_also_after_a_pause() -> None:
    seen: list[Any] = []

    @tool
    def pay(amount: int, runtime: ToolRuntime[Account]) -> str:
        """Pay."""
        assert runtime.store is not None
        seen.append((runtime.context, runtime.store.get(("rates",), "today").value))
        return f"Paid {amount}."

    store = InMemoryStore()
    store.put(("rates",), "today", {"rate": 3})
    agent = AgentHarness().agent(
        call("pay", amount=3),
        say("Done."),
        tools=[pay],
        approve="pay",
        store=store,
        context_schema=Account,
    )
    await agent.ainvoke(ASKED, THREAD, context={"user": "ada"})
    await aresume(agent, THREAD, Approve(), context={"user": "ada"})
    assert seen == [(Account("ada"), {"rate": 3})]


async def test_the_input_takes_the_keys_of_the_state_schema_and_none_that_decides() -> None:
    @tool
    def find(runtime: ToolRuntime) -> Command[Any]:
        """Find."""
        answer = told_by_tool(f"Found {runtime.state['topic']}.", runtime)
        return Command(update={"found": ["it"], "secret": "hidden", "messages": [answer]})

    agent = AgentHarness().agent(
        call("find"), say("Done."), tools=[find], approve=[], state_schema=Notes
    )
    given = {**ASKED, "topic": "tea", "found": ["forged"], "decisions": {"c1": {}}}
    result = await agent.ainvoke(given, THREAD)
    assert {key: value for key, value in result.items() if key != "messages"} == {
        "topic": "tea",
        "found": ["it"],
    }
    schemas = agent.builder.schemas
    assert set(schemas[agent.builder.input_schema]) == {"messages", "topic"}
    assert (await agent.aget_state(THREAD)).values["secret"] == "hidden"
    assert "decisions" not in agent.get_input_jsonschema()["properties"]


def told_by_tool(text: str, runtime: ToolRuntime) -> Any:
    return ToolMessage(text, tool_call_id=runtime.tool_call_id)


async def test_langchains_own_state_can_be_extended(harness: AgentHarness) -> None:
    class Own(LangchainState[Any]):
        topic: str

    agent = harness.agent(say("Hello."), state_schema=Own)
    result = await agent.ainvoke({**ASKED, "topic": "tea"}, THREAD)
    assert result["topic"] == "tea"
    assert "structured_response" not in agent.builder.channels


class Deciding(MessagesState):
    decisions: dict[str, Any]


class OtherMessages(MessagesState):
    messages: list[str]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("schema", "why"),
    [(Deciding, "'decisions'"), (OtherMessages, "'messages'"), (Account, "TypedDict")],
)
def test_a_state_schema_that_cannot_be_is_refused(
    harness: AgentHarness, schema: type, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"state_schema= .*{why}"):
        harness.agent(say("Hello."), state_schema=schema)


# ── the structured response ───────────────────────────────────────────────────────────────────────


class Receipt(BaseModel):
    """What was paid."""

    paid: int


async def test_the_last_answer_is_asked_for_in_the_form_of_the_schema(
    harness: AgentHarness,
) -> None:
    agent = harness.agent(
        asks(("c1", "pay", {"amount": 3})),
        say("Done."),
        call("Receipt", paid=3),
        say("Nothing more."),
        call("Receipt", paid=0),
        approve=["pay"],
        response_format=Receipt,
    )
    paused = await agent.ainvoke(ASKED, THREAD)
    assert paused["structured_response"] is None
    result = await aresume(agent, THREAD, Approve())
    assert result["structured_response"] == Receipt(paid=3)
    assert [message.text for message in result["messages"]][-1] == "Done."
    assert harness.ran == [("pay", 3)]
    again = await agent.ainvoke(ASKED, THREAD)
    assert again["structured_response"] == Receipt(paid=0)


def test_a_sync_run_has_a_structured_response_too(harness: AgentHarness) -> None:
    agent = harness.agent(say("Done."), call("Receipt", paid=1), response_format=Receipt)
    assert agent.invoke(ASKED, THREAD)["structured_response"] == Receipt(paid=1)


async def test_a_tool_that_is_called_in_the_structured_answer_does_not_run(
    harness: AgentHarness,
) -> None:
    agent = harness.agent(say("Done."), call("pay", amount=5), response_format=Receipt)
    with pytest.raises(AssentError, match="no answer in the form"):
        await agent.ainvoke(ASKED, THREAD)
    assert harness.ran == []


async def test_the_structured_answer_has_room_within_the_recursion_limit(
    harness: AgentHarness,
) -> None:
    agent = harness.agent(
        asks(("c1", "look", {"record": 1})),
        say("Done."),
        call("Receipt", paid=1),
        response_format=Receipt,
    )
    result = await agent.ainvoke(ASKED, {**THREAD, "recursion_limit": 2})
    assert result["structured_response"] == Receipt(paid=1)


async def test_a_strategy_of_the_provider_is_handed_to_the_model(harness: AgentHarness) -> None:
    asked: list[Any] = []

    class Own(ScriptedModel):
        def with_structured_output(self, schema: Any, **options: Any) -> Any:
            asked.append((schema, options))
            return super().with_structured_output(schema)

    model = Own(script=[say("Done."), call("Receipt", paid=1)])
    agent = harness.agent(model=model, response_format=ProviderStrategy(Receipt, strict=True))
    await agent.ainvoke(ASKED, THREAD)
    assert asked[-1] == (Receipt, {"method": "json_schema", "strict": True})


async def test_a_model_without_structured_answers_says_so(harness: AgentHarness) -> None:
    model = RunnableLambda(lambda messages: say("Done."))
    agent = harness.agent(model=lambda state, runtime: model, response_format=Receipt)
    with pytest.raises(ConfigurationError, match="no with_structured_output"):
        await agent.ainvoke(ASKED, THREAD)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (ToolStrategy(Receipt), "beside the gate"),
        (5, "Give it a pydantic model"),
    ],
)
def test_a_response_format_that_cannot_be_is_refused(
    harness: AgentHarness, given: Any, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        harness.agent(say("Hello."), response_format=given)


# ── the model of each turn ────────────────────────────────────────────────────────────────────────


async def test_a_function_chooses_the_model_of_each_turn(harness: AgentHarness) -> None:
    first = ScriptedModel(script=[asks(("c1", "look", {"record": 1}))])
    second = ScriptedModel(script=[say("Done.")])
    contexts: list[Any] = []

    async def choose(state: Any, runtime: Any) -> Any:
        contexts.append(runtime.context)
        return first if len(state["messages"]) == 1 else second

    agent = harness.agent(model=choose, context_schema=Account)
    result = await agent.ainvoke(ASKED, THREAD, context={"user": "ada"})
    assert result["messages"][-1].text == "Done."
    assert contexts == [Account("ada")] * 2
    assert [each.name for each in second.bound_tools] == ["look", "pay", "mail"]
    with pytest.raises(ConfigurationError, match="model= is an async function"):
        agent.invoke(ASKED, THREAD)


def test_a_model_that_has_its_tools_is_taken_as_it_is(harness: AgentHarness) -> None:
    model = ScriptedModel(script=[say("Done.")])
    bound = model.bind_tools(harness.tools()[:1]).with_config(tags=["bound"])
    agent = harness.agent(model=lambda state, runtime: bound)
    assert agent.invoke(ASKED, THREAD)["messages"][-1].text == "Done."
    assert len(model.bound_tools) == 1


# ── the tools of each turn ────────────────────────────────────────────────────────────────────────


class ToolBox:
    """Tools that come and go."""

    def __init__(self, harness: AgentHarness) -> None:
        self.there = harness.tools()

    def __call__(self, state: Any, runtime: Any) -> Any:
        return self.there


@pytest.mark.parametrize("approve", [["pay"], {"pay": True}, {}, lambda tool, args: False])
async def test_a_tool_that_only_a_turn_knows_needs_a_person(
    harness: AgentHarness, approve: Any
) -> None:
    agent = build_hitl_agent(
        ScriptedModel(script=[asks(("c1", "look", {"record": 1})), say("Done.")]),
        ToolBox(harness),
        approve=approve,
        checkpointer=harness.agent(say("")).checkpointer,
    )
    await agent.ainvoke(ASKED, THREAD)
    (approval,) = await apending_approvals(agent, THREAD)
    assert (approval.tool, approval.args, harness.ran) == ("look", {"record": 1}, [])
    result = await aresume(agent, THREAD, Edit({"record": 2}))
    assert harness.ran == [("look", 2)]
    assert "Record 2" in told(result, "c1").text


async def test_only_a_name_frees_a_tool_that_only_a_turn_knows(harness: AgentHarness) -> None:
    agent = harness.agent(
        asks(("c1", "look", {"record": 1}), ("c2", "pay", {"amount": 1})),
        say("Done."),
        tools=ToolBox(harness),
        approve={"look": False, "pay": ApprovalPolicy(when=lambda args: args["amount"] > 5)},
    )
    await agent.ainvoke(ASKED, THREAD)
    assert harness.ran == [("look", 1), ("pay", 1)]


def test_a_tool_that_only_a_turn_knows_runs_in_a_sync_run(harness: AgentHarness) -> None:
    agent = harness.agent(
        asks(("c1", "pay", {"amount": "much"}), ("c2", "look", {"record": 1})),
        say("Done."),
        tools=ToolBox(harness),
        approve={"look": False, "pay": False},
    )
    result = agent.invoke(ASKED, THREAD)
    assert harness.ran == [("look", 1)]
    assert "amount" in told(result, "c1").text


def test_calls_of_one_turn_may_make_its_tools_at_once(harness: AgentHarness) -> None:
    """A warning of LangChain's own making of tools fails the tests, as it may fail a server."""
    calls = [(f"c{number}", "look", {"record": number}) for number in range(40)]
    agent = harness.agent(
        asks(*calls), say("Done."), tools=ToolBox(harness), approve={"look": False}
    )
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # Threads change places often, so that they meet in the making.
    try:
        result = agent.invoke(ASKED, THREAD)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(harness.ran) == [("look", number) for number in range(40)]
    assert all(told(result, call).status == "success" for call, _tool, _args in calls)


async def test_a_tool_that_is_gone_when_its_call_is_approved_does_not_run(
    harness: AgentHarness,
) -> None:
    box = ToolBox(harness)
    agent = harness.agent(
        asks(("c1", "pay", {"amount": 1})), say("Done."), tools=box, approve=["pay"]
    )
    await agent.ainvoke(ASKED, THREAD)
    box.there = box.there[:1]
    result = await aresume(agent, THREAD, Approve())
    assert told(result, "c1").text == NO_SUCH_TOOL
    assert harness.ran == []


async def test_a_call_of_a_tool_that_only_a_turn_knows_is_made_once() -> None:
    """A crash just after it ran: it is not made again, though no declaration names the tool."""
    harness, ledger = AgentHarness(), Ledger(kills=True)
    agent = harness.agent(
        asks(("c1", "pay", {"amount": 1})), say("Done."), tools=ToolBox(harness), approve=["pay"]
    )
    config: Any = {"configurable": {**THREAD["configurable"], EFFECTS_KEY: ledger}}
    await agent.ainvoke(ASKED, config, durability="sync")
    with pytest.raises(Killed):
        await aresume(agent, config, Approve())
    ledger.kills = False
    result = await agent.ainvoke(None, config)
    assert harness.ran == [("pay", 1)]
    assert told(result, "c1").text == "Paid 1 to Ada."


async def test_an_agent_with_such_tools_asks_within_another_graph(harness: AgentHarness) -> None:
    inner = build_hitl_agent(
        ScriptedModel(script=[asks(("c1", "pay", {"amount": 1})), say("Done.")]),
        ToolBox(harness),
        approve=["pay"],
    )

    async def helper() -> str:
        """Ask the helper."""
        result = await inner.ainvoke(ASKED)
        return str(result["messages"][-1].text)

    outer = AgentHarness().agent(
        asks(("h1", "helper", {})), say("All done."), tools=[helper], approve=[]
    )
    await outer.ainvoke(ASKED, THREAD)
    (approval,) = await apending_approvals(outer, THREAD)
    assert (approval.tool, harness.ran) == ("pay", [])
    await aresume(outer, THREAD, Approve())
    assert harness.ran == [("pay", 1)]
