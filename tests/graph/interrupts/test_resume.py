"""What a paused thread waits for, which decisions it takes, and how other people's graphs go on."""

from __future__ import annotations

import asyncio
import functools
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import StructuredTool
from langgraph._internal._constants import NULL_TASK_ID
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel, Field

from assent import (
    ApprovalPolicy,
    Approve,
    Edit,
    Reject,
    Respond,
    apending_approvals,
    aresume,
    astream_resume,
    call_once,
    pending_approvals,
    resume,
    stream_resume,
)
from assent.core.digest import call_digest
from assent.core.errors import InvalidDecision, NotFound, NothingPending
from assent.core.json import encode_json
from assent.graph.interrupts.previews import MAX_BYTES, with_problem
from assent.graph.interrupts.resume import continuation
from tests.graph.harness import ASKED, THREAD, AgentHarness, Json, asks, told
from tests.support.models import ScriptedModel, say
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def harness() -> AgentHarness:
    return AgentHarness()


def paused(harness: AgentHarness, *calls: tuple[str, str, Json], **options: Any) -> Any:
    agent = harness.agent(
        asks(*(calls or [("c1", "pay", {"amount": 3})])),
        say("Done."),
        tools=harness.tools()[:2],
        **{"approve": "pay", **options},
    )
    agent.invoke(ASKED, THREAD)
    return agent


# ── whose answers ─────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_to_a_tool_call_is_none_to_the_node_around_it() -> None:
    """LangGraph hands a task's answers out by position, and `call_once` keeps its own among them."""
    told: list[Any] = []

    async def buy() -> str:
        """Buy."""
        told.append(interrupt("May I?"))
        return "Bought."

    tool = StructuredTool.from_function(coroutine=buy)
    tools = ToolNode([tool], awrap_tool_call=call_once([tool]))

    async def shop(state: MessagesState, config: RunnableConfig) -> Any:
        done = await tools.ainvoke(state, config)
        told.append(interrupt("Keep it?"))
        return done

    graph = StateGraph(MessagesState).add_node("shop", shop).add_edge(START, "shop")
    agent = graph.compile(checkpointer=InMemorySaver())
    await agent.ainvoke({"messages": [asks(("c1", "buy", {}))]}, THREAD)
    await aresume(agent, THREAD, Respond("yes"))
    assert told == ["yes"]
    (approval,) = await apending_approvals(agent, THREAD)
    assert approval.args == "Keep it?"
    await aresume(agent, THREAD, Respond("no"))
    assert told == ["yes", "yes", "no"]


# ── what is pending ───────────────────────────────────────────────────────────────────────────────


def test_an_approval_says_exactly_what_would_run(harness: AgentHarness) -> None:
    (approval,) = pending_approvals(paused(harness), THREAD)
    assert (approval.kind, approval.tool, approval.tool_call_id, approval.args) == (
        "tool",
        "pay",
        "c1",
        {"amount": 3},
    )
    assert approval.digest == call_digest("pay", {"amount": 3})
    assert approval.allowed == ("approve", "edit", "reject", "respond")
    assert approval.approval_id.startswith("apr_")


def test_asking_again_gives_the_same_ids(harness: AgentHarness) -> None:
    agent = paused(harness, ("c1", "pay", {"amount": 3}), ("c2", "pay", {"amount": 3}))
    first = [approval.approval_id for approval in pending_approvals(agent, THREAD)]
    agent.invoke(None, THREAD)
    assert [approval.approval_id for approval in pending_approvals(agent, THREAD)] == first
    assert len(set(first)) == 2


def test_another_thread_has_other_ids(harness: AgentHarness) -> None:
    agent = harness.agent(
        asks(("c1", "pay", {"amount": 3}), message_id="m1"),
        asks(("c1", "pay", {"amount": 3}), message_id="m1"),
    )
    other: Any = {"configurable": {"thread_id": "u"}}
    agent.invoke(ASKED, THREAD)
    agent.invoke(ASKED, other)
    (here,), (there,) = pending_approvals(agent, THREAD), pending_approvals(agent, other)
    assert here.approval_id != there.approval_id
    with pytest.raises(NotFound):
        resume(agent, other, {here.approval_id: Approve()})
    assert harness.ran == []


def test_a_thread_that_does_not_wait_has_nothing_pending(harness: AgentHarness) -> None:
    agent = harness.agent(say("Hi."))
    assert pending_approvals(agent, THREAD) == []
    agent.invoke(ASKED, THREAD)
    assert pending_approvals(agent, THREAD) == []


# ── previews ──────────────────────────────────────────────────────────────────────────────────────


def plain(args: Json) -> Json:
    return {"pays": args["amount"]}


async def asynchronous(args: Json) -> Json:
    await asyncio.sleep(0)
    return plain(args)


def failing(args: Json) -> Json:
    raise RuntimeError("postgres://admin:hunter2@db")


def meddling(args: Json) -> Json:
    args["amount"] += 1000
    return {"pays": args["amount"]}


class Previewer:
    async def __call__(self, args: Json) -> Json:
        return plain(args)


class Effect(BaseModel):
    rows: int


@pytest.mark.parametrize(
    ("preview", "shown"),
    [
        (None, None),
        (plain, {"pays": 3}),
        (asynchronous, {"pays": 3}),
        (functools.partial(asynchronous), {"pays": 3}),
        (lambda args: asynchronous(args), {"pays": 3}),
        (Previewer(), {"pays": 3}),
        (lambda args: Effect(rows=2), {"rows": 2}),
        (lambda args: "two rows", "two rows"),
        (failing, {"unavailable": "The preview failed with RuntimeError."}),
        (meddling, {"pays": 1003}),
    ],
)
def test_a_preview_shows_the_effect_and_stops_nothing(
    harness: AgentHarness, preview: Any, shown: Any
) -> None:
    agent = paused(harness, approve={"pay": ApprovalPolicy(preview=preview)})
    (approval,) = pending_approvals(agent, THREAD)
    assert approval.preview == shown
    assert approval.args == {"amount": 3}
    resume(agent, THREAD, Approve())
    assert harness.ran == [("pay", 3)]


@pytest.mark.parametrize(
    ("preview", "shown"),
    [
        (None, {}),
        (plain, {"pays": 3}),
        (lambda args: "two rows", {"preview": "two rows"}),
    ],
)
def test_why_something_is_asked_again_stands_beside_its_preview(
    harness: AgentHarness, preview: Any, shown: Json
) -> None:
    agent = paused(harness, approve={"pay": ApprovalPolicy(preview=preview)})
    (approval,) = pending_approvals(agent, THREAD)
    assert with_problem(approval, "") is approval
    assert with_problem(approval, "Too late.").preview == {**shown, "problem": "Too late."}


async def test_a_slow_preview_does_not_block_the_loop(harness: AgentHarness) -> None:
    begun, freed = threading.Event(), threading.Event()

    def preview(args: dict[str, Any]) -> str:
        begun.set()
        return "freed" if freed.wait(PATIENCE) else "The loop stood still."

    agent = harness.agent(
        asks(("c1", "pay", {"amount": 3})), approve={"pay": ApprovalPolicy(preview=preview)}
    )
    await agent.ainvoke(ASKED, THREAD)
    looking = asyncio.create_task(apending_approvals(agent, THREAD))
    await until(begun.is_set)
    freed.set()
    (approval,) = await looking
    assert approval.preview == "freed"


# ── which decisions it takes ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("decisions", "error", "sentence"),
    [
        (Approve(), InvalidDecision, "2 approvals are pending. Say which decision is for which"),
        ({"c3": Approve()}, NotFound, "No pending approval has the id 'c3'"),
        ({"": Approve()}, NotFound, "No pending approval has the id ''"),
        ({"c1": Approve(), "nobody": Reject()}, NotFound, "'nobody'"),
        ({}, InvalidDecision, "No decision was given"),
        (
            {"c1": Approve(), "c2": Edit({"amount": "much"})},
            InvalidDecision,
            "amount: Input should be a valid integer",
        ),
        ({"c1": Approve(), "c2": Respond({"paid": True})}, InvalidDecision, "must be a text"),
    ],
)
async def test_a_decision_that_does_not_fit_changes_nothing(
    harness: AgentHarness, decisions: Any, error: type[Exception], sentence: str
) -> None:
    agent = paused(harness, ("c1", "pay", {"amount": 3}), ("c2", "pay", {"amount": 4}))
    before = agent.get_state(THREAD).config
    with pytest.raises(error, match=sentence):
        resume(agent, THREAD, decisions)
    with pytest.raises(error, match=sentence):
        await aresume(agent, THREAD, decisions)
    assert harness.ran == []
    assert agent.get_state(THREAD).config == before


def test_one_approval_cannot_be_decided_twice_at_once(harness: AgentHarness) -> None:
    agent = paused(harness)
    (approval,) = pending_approvals(agent, THREAD)
    with pytest.raises(InvalidDecision, match="decided twice"):
        resume(agent, THREAD, {approval.approval_id: Reject(), "c1": Approve()})
    assert harness.ran == []


def test_a_thread_that_waits_for_nobody_takes_no_decision(harness: AgentHarness) -> None:
    agent = paused(harness)
    resume(agent, THREAD, Reject())
    with pytest.raises(NothingPending):
        resume(agent, THREAD, Approve())
    with pytest.raises(NotFound):
        resume(agent, THREAD, {"c1": Approve()})
    assert harness.ran == []


@pytest.mark.parametrize(
    "decision", [Approve(), Edit({"amount": 1}), Reject("No."), Respond("Paid.")]
)
@pytest.mark.parametrize("allowed", [("approve", "reject"), ("edit", "respond"), ("reject",)])
def test_only_what_the_policy_allows_is_taken(
    harness: AgentHarness, decision: Any, allowed: tuple[str, ...]
) -> None:
    agent = paused(harness, approve={"pay": ApprovalPolicy(allowed=allowed)})
    assert pending_approvals(agent, THREAD)[0].allowed == allowed
    if type(decision).__name__.lower() in allowed:
        resume(agent, THREAD, decision)
        assert pending_approvals(agent, THREAD) == []
    else:
        with pytest.raises(InvalidDecision, match=f"It takes: {', '.join(allowed)}"):
            resume(agent, THREAD, decision)
        assert harness.ran == []
        assert len(pending_approvals(agent, THREAD)) == 1


# ── edited arguments ──────────────────────────────────────────────────────────────────────────────


class Payment(BaseModel):
    amount: int = Field(gt=0)
    to: str = "Ada"


def json_tool(**schema: Any) -> Callable[[list[Json]], StructuredTool]:
    def make(ran: list[Json]) -> StructuredTool:
        def pay(**args: Any) -> str:
            ran.append(args)
            return "Paid."

        return StructuredTool(
            name="pay",
            description="Pay.",
            args_schema={"type": "object", "title": "pay", **schema},
            func=pay,
        )

    return make


def pydantic_tool(ran: list[Json]) -> StructuredTool:
    def pay(amount: int, to: str = "Ada") -> str:
        ran.append({"amount": amount, "to": to})
        return "Paid."

    return StructuredTool.from_function(pay, name="pay", description="Pay.", args_schema=Payment)


with_schema = json_tool(
    properties={"amount": {"type": "integer", "exclusiveMinimum": 0}, "to": {"type": "string"}},
    required=["amount"],
)
without_properties = json_tool()
open_ended = json_tool(
    properties={"amount": {"type": "integer"}}, additionalProperties={"type": "string"}
)


@pytest.mark.parametrize(
    ("make", "edited", "sentence"),
    [
        (pydantic_tool, {"amount": 3, "too": "Ada"}, "The tool 'pay' has no argument 'too'. It has: amount, to."),
        (pydantic_tool, {"amount": "much"}, "amount: Input should be a valid integer"),
        (pydantic_tool, {"amount": None}, "amount: Input should be a valid integer"),
        (pydantic_tool, {"amount": -3}, "amount: Input should be greater than 0"),
        (pydantic_tool, {"to": "Bob"}, "amount: Field required"),
        (pydantic_tool, {}, "amount: Field required"),
        (with_schema, {"amount": 3, "too": "Ada"}, "has no argument 'too'"),
        (with_schema, {"amount": "3"}, r"'3' is not of type 'integer' \(at \$.amount\)"),
        (with_schema, {"amount": 0}, "less than or equal to the minimum"),
        (with_schema, {"to": "Bob"}, "'amount' is a required property"),
        (without_properties, {"amount": 3}, "has no argument 'amount'. It has: none."),
        (open_ended, {"amount": 3, "to": 4}, "4 is not of type 'string'"),
    ],
)  # fmt: skip
def test_edited_arguments_that_the_tool_does_not_take_are_refused(
    make: Any, edited: Json, sentence: str
) -> None:
    ran: list[Json] = []
    agent = AgentHarness().agent(
        asks(("c1", "pay", {"amount": 3})), say("Done."), tools=[make(ran)], approve="pay"
    )
    agent.invoke(ASKED, THREAD)
    with pytest.raises(InvalidDecision, match=sentence):
        resume(agent, THREAD, Edit(edited))
    assert ran == []
    assert len(pending_approvals(agent, THREAD)) == 1


@pytest.mark.parametrize(
    ("make", "edited", "expected"),
    [
        (pydantic_tool, {"amount": 2}, {"amount": 2, "to": "Ada"}),
        (pydantic_tool, {"amount": 2, "to": "Zoë"}, {"amount": 2, "to": "Zoë"}),
        (with_schema, {"amount": 2, "to": "Bob"}, {"amount": 2, "to": "Bob"}),
        (without_properties, {}, {}),
        (open_ended, {"amount": 2, "to": "Bob"}, {"amount": 2, "to": "Bob"}),
    ],
)
def test_edited_arguments_run_and_the_model_is_told(
    make: Any, edited: Json, expected: Json
) -> None:
    ran: list[Json] = []
    agent = AgentHarness().agent(
        asks(("c1", "pay", {"amount": 3})), say("Done."), tools=[make(ran)], approve="pay"
    )
    agent.invoke(ASKED, THREAD)
    result = resume(agent, THREAD, Edit(edited))
    assert ran == [expected]
    text = told(result, "c1").text
    assert text.startswith(
        "A person changed the arguments of this call before it ran. It ran with: {"
    )
    assert text.endswith("Paid.")
    assert all(str(value) in text for value in edited.values())
    # The model's own message stays what the model wrote.
    (turn,) = [
        message
        for message in result["messages"]
        if isinstance(message, AIMessage) and message.tool_calls
    ]
    assert turn.tool_calls[0]["args"] == {"amount": 3}


# ── other people's graphs ─────────────────────────────────────────────────────────────────────────


def stops_before_tools(harness: AgentHarness, **options: Any) -> Any:
    """An agent as tutorials build it, which stops before its tools."""
    model = ScriptedModel(
        script=[asks(("c1", "pay", {"amount": 3}), ("c2", "look", {"record": 1})), say("Done.")]
    )

    def agent(state: MessagesState) -> Json:
        return {"messages": [model.invoke(state["messages"])]}

    graph = (
        StateGraph(MessagesState)
        .add_node("agent", agent)
        .add_node("tools", ToolNode(harness.tools()[:2]))
    )
    graph.add_edge(START, "agent").add_edge("tools", "agent")
    graph.add_conditional_edges(
        "agent", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END]
    )
    return graph.compile(
        checkpointer=InMemorySaver(), **(options or {"interrupt_before": ["tools"]})
    )


@pytest.mark.parametrize(
    ("options", "earlier_pauses"),
    [
        ({"interrupt_before": ["tools"]}, 0),
        ({"interrupt_before": "*"}, 1),
        ({"interrupt_after": ["agent"]}, 0),
    ],
)
def test_a_static_pause_shows_the_node_and_its_calls(
    harness: AgentHarness, options: Any, earlier_pauses: int
) -> None:
    agent = stops_before_tools(harness, **options)
    agent.invoke(ASKED, THREAD)
    for _ in range(earlier_pauses):
        resume(agent, THREAD, Approve())
    (approval,) = pending_approvals(agent, THREAD)
    assert (approval.kind, approval.node, approval.allowed) == (
        "node",
        "tools",
        ("approve", "reject"),
    )
    assert [(call["name"], call["args"]) for call in approval.args["tool_calls"]] == [
        ("pay", {"amount": 3}),
        ("look", {"record": 1}),
    ]
    assert harness.ran == []


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_static_pause_is_approved(harness: AgentHarness, asynchronous: bool) -> None:
    agent = stops_before_tools(harness)
    await agent.ainvoke(ASKED, THREAD)
    result = (
        await aresume(agent, THREAD, Approve())
        if asynchronous
        else resume(agent, THREAD, Approve())
    )
    assert sorted(harness.ran) == [("look", 1), ("pay", 3)]
    assert result["messages"][-1].text == "Done."
    assert pending_approvals(agent, THREAD) == []


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_static_pause_is_rejected_with_an_answer_to_every_call(
    harness: AgentHarness, asynchronous: bool
) -> None:
    agent = stops_before_tools(harness)
    await agent.ainvoke(ASKED, THREAD)
    result = (
        await aresume(agent, THREAD, Reject("Not today."))
        if asynchronous
        else resume(agent, THREAD, Reject("Not today."))
    )
    assert harness.ran == []
    for call_id in ("c1", "c2"):
        assert (
            told(result, call_id).text
            == "A person rejected this call. It did not run. The reason: Not today."
        )
        assert told(result, call_id).status == "error"
    assert result["messages"][-1].text == "Done."


def test_a_static_pause_takes_no_edit_and_no_answer(harness: AgentHarness) -> None:
    agent = stops_before_tools(harness)
    agent.invoke(ASKED, THREAD)
    for decision in (Edit({"amount": 1}), Respond("Paid.")):
        with pytest.raises(InvalidDecision, match="It takes: approve, reject"):
            resume(agent, THREAD, decision)
    assert harness.ran == []


class Steps(TypedDict):
    done: Annotated[list[str], operator.add]


def step(name: str) -> Callable[[Steps], Json]:
    return lambda state: {"done": [name]}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("decision", "done"), [(Approve(), ["draft", "publish"]), (Reject("No."), ["draft"])]
)
async def test_a_static_pause_without_calls_goes_on_or_ends(
    decision: Any, done: list[str], asynchronous: bool
) -> None:
    graph = StateGraph(Steps).add_node("draft", step("draft")).add_node("publish", step("publish"))
    graph.add_edge(START, "draft").add_edge("draft", "publish")
    agent: Any = graph.compile(checkpointer=InMemorySaver(), interrupt_before=["publish"])
    agent.invoke({"done": []}, THREAD)
    (approval,) = pending_approvals(agent, THREAD)
    assert (approval.node, approval.args) == ("publish", {})
    result = (
        await aresume(agent, THREAD, decision) if asynchronous else resume(agent, THREAD, decision)
    )
    assert result["done"] == done
    assert agent.get_state(THREAD).next == ()
    assert pending_approvals(agent, THREAD) == []


async def test_a_message_that_rejects_a_static_pause_is_what_the_graph_begins_anew_with() -> None:
    """As on a server, where `"if_paused": "reject"` sends one."""
    graph = (
        StateGraph(MessagesState)
        .add_node("publish", lambda state: {"messages": [("ai", "Published.")]})
        .add_edge(START, "publish")
    )
    agent: Any = graph.compile(checkpointer=InMemorySaver(), interrupt_before=["publish"])
    await agent.ainvoke({"messages": [("user", "A page.")]}, THREAD)
    pending = await apending_approvals(agent, THREAD)

    snapshot = await agent.aget_state(THREAD)
    plan = continuation(
        agent, snapshot, [(pending[0], Reject("A leaf."))], messages=[HumanMessage("A leaf.")]
    )
    assert not plan.ended
    assert plan.updates == ()
    result = await agent.ainvoke(plan.input, THREAD)
    assert [message.text for message in result["messages"]] == ["A page.", "A leaf."]
    assert [approval.node for approval in await apending_approvals(agent, THREAD)] == ["publish"]


def publishing(**options: Any) -> Any:
    """A graph that keeps messages, and pauses before it publishes."""
    graph = StateGraph(MessagesState)
    graph.add_node("publish", lambda state: {"messages": [("ai", "Published.")]})
    graph.add_node("celebrate", lambda state: {"messages": [("ai", "Hooray.")]})
    graph.add_edge(START, "publish").add_edge("publish", "celebrate")
    return graph.compile(interrupt_before=["publish"], **options)


NOT_YET = "The step 'publish' was rejected. The reason: Not yet."


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("nested", [False, True])
async def test_the_reason_of_a_rejected_step_is_in_the_conversation(
    asynchronous: bool, nested: bool
) -> None:
    agent = publishing(checkpointer=InMemorySaver())
    if nested:
        graph = StateGraph(MessagesState).add_node("inner", publishing()).add_edge(START, "inner")
        agent = graph.compile(checkpointer=InMemorySaver())
    await agent.ainvoke({"messages": [("user", "A page.")]}, THREAD)
    before = len([state async for state in agent.aget_state_history(THREAD)])
    reject = Reject("Not yet.")
    result = await aresume(agent, THREAD, reject) if asynchronous else resume(agent, THREAD, reject)
    assert [message.text for message in result["messages"]] == ["A page.", NOT_YET]
    assert (await agent.aget_state(THREAD)).next == ()
    after = len([state async for state in agent.aget_state_history(THREAD)])
    assert after == before + 1


async def test_a_rejection_that_a_crash_cut_off_is_told_once() -> None:
    agent = publishing(checkpointer=InMemorySaver())
    await agent.ainvoke({"messages": [("user", "A page.")]}, THREAD)
    pending = await apending_approvals(agent, THREAD)
    # The reason was stored, and the process died before the pause was ended.
    plan = continuation(
        agent, await agent.aget_state(THREAD, subgraphs=True), [(pending[0], Reject("Not yet."))]
    )
    (update,) = plan.updates
    head = agent.checkpointer.get_tuple(THREAD)
    agent.checkpointer.put_writes(head.config, list(update.first.items()), NULL_TASK_ID)
    assert [each.approval_id for each in await apending_approvals(agent, THREAD)] == [
        pending[0].approval_id
    ]
    result = await aresume(agent, THREAD, Reject("Not yet."))
    assert [message.text for message in result["messages"]] == ["A page.", NOT_YET]


# ── what a step is about to see ───────────────────────────────────────────────────────────────────


class Reads(MessagesState):
    """The part of a desk that a node reads."""

    notes: str
    rows: list[dict[str, Any]]


class Desk(Reads):
    """All that a desk has."""

    secret: str


def desk(notes: str = "", rows: int = 0) -> Any:
    """A graph that pauses before a node that sees messages, notes and rows."""

    def publish(state: Reads) -> Json:
        return {}

    graph = StateGraph(Desk)
    graph.add_node("publish", publish, input_schema=Reads)
    graph.add_edge(START, "publish")
    agent = graph.compile(checkpointer=InMemorySaver(), interrupt_before=["publish"])
    call = {"name": "pay", "args": {"amount": 3}, "id": "c1"}
    answered = [AIMessage("I pay.", tool_calls=[call]), ToolMessage("paid", tool_call_id="c1")]
    agent.invoke(
        {
            "messages": [HumanMessage("Publish the news."), *answered],
            "notes": notes,
            "rows": [{"row": number} for number in range(rows)],
            "secret": "not for this node",
        },
        THREAD,
    )
    return agent


async def test_a_step_is_shown_with_what_it_is_about_to_see() -> None:
    (approval,) = await apending_approvals(desk("The news is out.", 2), THREAD)
    assert approval.kind == "node"
    assert approval.preview == {
        "state": {
            "messages": [
                {"type": "human", "content": "Publish the news."},
                {
                    "type": "ai",
                    "content": "I pay.",
                    "tool_calls": [{"name": "pay", "args": {"amount": 3}}],
                },
                {"type": "tool", "content": "paid"},
            ],
            "notes": "The news is out.",
            "rows": [{"row": 0}, {"row": 1}],
        }
    }


class Sent(TypedDict):
    amount: int


def sends(amounts: Sequence[int]) -> Any:
    """A paused graph whose node gets these amounts by `Send`, beside the state."""
    graph = StateGraph(Desk)

    def plan(state: Desk) -> Command[Any]:
        return Command(goto=[Send("pay", {"amount": amount}) for amount in amounts])

    def pay(sent: Sent) -> Json:
        return {}

    graph.add_node("plan", plan)
    graph.add_node("pay", pay, input_schema=Sent)
    graph.add_edge(START, "plan")
    agent = graph.compile(checkpointer=InMemorySaver(), interrupt_before=["pay"])
    agent.invoke({"notes": "Pay them."}, THREAD)
    return agent


async def test_a_step_is_shown_with_what_it_is_sent() -> None:
    agent = sends([1, 1000])
    (approval,) = await apending_approvals(agent, THREAD)
    assert approval.preview["sent"] == [
        {"node": "pay", "input": {"amount": 1}},
        {"node": "pay", "input": {"amount": 1000}},
    ]
    assert pending_approvals(agent, THREAD)[0].preview == approval.preview


async def test_much_that_is_sent_is_shown_as_far_as_there_is_room() -> None:
    (approval,) = await apending_approvals(sends(range(5000)), THREAD)
    assert len(encode_json(approval.preview)) < MAX_BYTES
    first, *last = approval.preview["sent"]
    assert first == f"({5000 - len(last)} more before these)"
    assert last[-1] == {"node": "pay", "input": {"amount": 4999}}


async def test_of_a_large_state_the_newest_is_shown() -> None:
    (approval,) = await apending_approvals(desk("x" * 1_000_000, 100_000), THREAD)
    assert len(encode_json(approval.preview)) < MAX_BYTES + 1_000
    state = approval.preview["state"]
    assert state["notes"].endswith("x… (cut: 1000000 characters in all)")
    first, *rows = state["rows"]
    assert first == f"({100_000 - len(rows)} more before these)"
    assert rows[-1] == {"row": 99_999}


def asking(*questions: Any) -> Any:
    """A graph with one node for each question, side by side, which keep their answers."""
    graph = StateGraph(Steps)
    for at, question in enumerate(questions):
        graph.add_node(f"ask{at}", lambda state, question=question: {"done": [interrupt(question)]})
        graph.add_edge(START, f"ask{at}")
    return graph.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize(
    "answer", ["blue", 3, 2.5, True, False, None, ["a"], {"a": {"b": []}}, ""], ids=repr
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_question_of_a_graph_takes_any_json(answer: Any, asynchronous: bool) -> None:
    agent = asking({"question": "Which colour?"})
    agent.invoke({"done": []}, THREAD)
    (approval,) = pending_approvals(agent, THREAD)
    assert (approval.kind, approval.node, approval.args) == (
        "input",
        "ask0",
        {"question": "Which colour?"},
    )
    assert approval.allowed == ("respond", "reject")
    result = (
        await aresume(agent, THREAD, Respond(answer))
        if asynchronous
        else resume(agent, THREAD, Respond(answer))
    )
    assert result["done"] == [answer]


def test_a_question_may_be_rejected_and_the_graph_sees_why() -> None:
    agent = asking("Which colour?")
    agent.invoke({"done": []}, THREAD)
    assert resume(agent, THREAD, Reject("None."))["done"] == [
        {"type": "reject", "message": "None."}
    ]


def test_a_question_of_no_json_is_shown_as_far_as_it_can_be() -> None:
    agent = asking({"effect": Effect(rows=2), "when": {3}})
    agent.invoke({"done": []}, THREAD)
    assert pending_approvals(agent, THREAD)[0].args == {"effect": {"rows": 2}, "when": [3]}


@pytest.mark.parametrize("first", [0, 1])
async def test_two_questions_side_by_side_are_answered_one_by_one(first: int) -> None:
    agent = asking("Which colour?", "Which size?")
    await agent.ainvoke({"done": []}, THREAD)
    pending = await apending_approvals(agent, THREAD)
    assert [approval.args for approval in pending] == ["Which colour?", "Which size?"]
    with pytest.raises(InvalidDecision, match="2 approvals are pending"):
        await aresume(agent, THREAD, Respond("blue"))

    await aresume(agent, THREAD, {pending[first].approval_id: Respond(f"answer {first}")})
    (left,) = await apending_approvals(agent, THREAD)
    assert left.approval_id == pending[1 - first].approval_id
    result = await aresume(agent, THREAD, Respond(f"answer {1 - first}"))
    assert result["done"] == ["answer 0", "answer 1"]


def test_two_questions_side_by_side_are_answered_at_once() -> None:
    agent = asking("Which colour?", "Which colour?")
    agent.invoke({"done": []}, THREAD)
    first, second = pending_approvals(agent, THREAD)
    assert first.approval_id != second.approval_id
    result = resume(
        agent, THREAD, {first.approval_id: Respond("blue"), second.approval_id: Respond("red")}
    )
    assert result["done"] == ["blue", "red"]


def test_questions_one_after_the_other_in_one_node() -> None:
    graph = (
        StateGraph(Steps)
        .add_node("ask", lambda state: {"done": [interrupt("One?"), interrupt("Two?")]})
        .add_edge(START, "ask")
    )
    agent: Any = graph.compile(checkpointer=InMemorySaver())
    agent.invoke({"done": []}, THREAD)
    (one,) = pending_approvals(agent, THREAD)
    resume(agent, THREAD, {one.approval_id: Respond(1)})
    (two,) = pending_approvals(agent, THREAD)
    assert (one.args, two.args) == ("One?", "Two?")
    with pytest.raises(NotFound):
        resume(agent, THREAD, {one.approval_id: Respond("again")})
    assert resume(agent, THREAD, {two.approval_id: Respond(2)})["done"] == [1, 2]


def test_a_question_of_a_subgraph_is_the_graphs_question() -> None:
    inner = (
        StateGraph(Steps)
        .add_node("ask", lambda state: {"done": [interrupt("Which colour?")]})
        .add_edge(START, "ask")
        .compile()
    )
    agent: Any = (
        StateGraph(Steps)
        .add_node("inner", inner)
        .add_edge(START, "inner")
        .compile(checkpointer=InMemorySaver())
    )
    agent.invoke({"done": []}, THREAD)
    (approval,) = pending_approvals(agent, THREAD)
    assert (approval.kind, approval.args, approval.node) == ("input", "Which colour?", "inner|ask")
    assert resume(agent, THREAD, Respond("blue"))["done"] == ["blue"]


async def test_an_agent_inside_another_graph_runs_nothing_without_a_decision_either(
    harness: AgentHarness,
) -> None:
    inner = harness.agent(asks(("c1", "pay", {"amount": 3})), say("Done."), checkpointer=None)
    agent: Any = (
        StateGraph(MessagesState)
        .add_node("inner", inner)
        .add_edge(START, "inner")
        .compile(checkpointer=InMemorySaver())
    )
    await agent.ainvoke(ASKED, THREAD)
    for sent in (None, Command(resume=True), {"messages": [("user", "approved")]}):
        await agent.ainvoke(sent, THREAD)
        assert harness.ran == []


def test_messages_that_are_no_messages_do_not_matter() -> None:
    """A graph may keep something else under that name."""

    class Mail(TypedDict):
        messages: list[str]

    graph = (
        StateGraph(Mail)
        .add_node("send", lambda state: {"messages": ["sent"]})
        .add_edge(START, "send")
    )
    agent: Any = graph.compile(checkpointer=InMemorySaver(), interrupt_before=["send"])
    agent.invoke({"messages": ["draft"]}, THREAD)
    assert resume(agent, THREAD, Reject())["messages"] == ["draft"]


# ── the graph's own options ───────────────────────────────────────────────────────────────────────


def agent_with_context() -> Any:
    """An agent whose tool does what it does for somebody."""

    def pay(amount: int, runtime: ToolRuntime[str]) -> str:
        """Pay somebody."""
        return f"Paid {amount} to {runtime.context}."

    script = [asks(("c1", "pay", {"amount": 3})), say("Done.")]
    return AgentHarness().agent(*script, tools=[pay], approve="pay")


async def test_who_decides_gives_the_options_of_the_graph() -> None:
    agent = agent_with_context()
    agent.invoke(ASKED, THREAD)
    result = resume(agent, THREAD, Approve(), context="Ada", output_keys=["messages"])
    assert [message.text for message in result["messages"][2:]] == ["Paid 3 to Ada.", "Done."]

    agent = agent_with_context()
    await agent.ainvoke(ASKED, THREAD)
    result = await aresume(agent, THREAD, Approve(), context="Bob")
    assert [message.text for message in result["messages"][2:]] == ["Paid 3 to Bob.", "Done."]


async def test_a_decision_is_gone_on_with_as_a_stream() -> None:
    nodes = ["approval", "tools", "settle", "agent"]
    agent = agent_with_context()
    agent.invoke(ASKED, THREAD)
    options: Any = {"context": "Ada", "stream_mode": "updates"}
    updates = list(stream_resume(agent, THREAD, Approve(), **options))
    assert [name for update in updates for name in update] == nodes
    assert updates[1]["tools"]["messages"][0].text == "Paid 3 to Ada."

    agent = agent_with_context()
    await agent.ainvoke(ASKED, THREAD)
    updates = [each async for each in astream_resume(agent, THREAD, Approve(), **options)]
    assert [name for update in updates for name in update] == nodes

    with pytest.raises(NothingPending):
        await anext(astream_resume(agent, THREAD, Approve()))
    with pytest.raises(NothingPending):
        next(stream_resume(agent, THREAD, Approve()))
