"""The agent on the real provider path: through langchain-openai and HTTP to a server that refuses
what OpenAI refuses.

Every test ends with the same question: was each history that the provider got one that it accepts?
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

import openai
import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import RetryPolicy, TimeoutPolicy

from assent.core.approval import Approval
from assent.core.decisions import Approve, Edit, Reject, Respond
from assent.core.events import Event, LlmRetry, Token
from assent.graph.builder import build_hitl_agent
from assent.graph.interrupts.resume import apending_approvals, aresume, pending_approvals, resume
from assent.graph.stream.astream_events import run_graph_v2
from assent.graph.stream.callbacks import run_graph
from tests.support.openai_server import (
    Call,
    Drop,
    OpenAIServer,
    Reply,
    Say,
    Status,
    history_problems,
)
from tests.support.waiting import PATIENCE

Json = dict[str, Any]


@dataclass
class Office:
    """What the tools did, in order."""

    done: list[tuple[str, Json]] = field(default_factory=list)
    queued: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def paid(self) -> Json:
        return {args["to"]: args["amount"] for tool, args in self.done if tool == "pay"}


def office_of(config: RunnableConfig) -> Office:
    """The office that a call is made in. The tools are made once for all of them: their schemas
    take longer than most tests."""
    office = config["configurable"]["office"]
    assert isinstance(office, Office)
    return office


@tool
def look(record: int, config: RunnableConfig) -> str:
    """Read a record."""
    office_of(config).done.append(("look", {"record": record}))
    return f"Record {record} is in order."


@tool
def pay(to: str, amount: int, config: RunnableConfig) -> str:
    """Pay somebody."""
    office_of(config).done.append(("pay", {"to": to, "amount": amount}))
    return f"Paid {amount} to {to}."


@tool
def mail(to: str, config: RunnableConfig) -> str:
    """Write to somebody."""
    office_of(config).done.append(("mail", {"to": to}))
    return f"Wrote to {to}."


@tool
def fail() -> str:
    """Fail."""
    raise ToolException("The drawer is stuck.")


@tool
async def queue(config: RunnableConfig) -> str:
    """Stand in a queue until the counter closes."""
    office = office_of(config)
    office.queued.set()
    await office.closed.wait()
    return "It closed."


TOOLS = [look, pay, mail, fail, queue]


@dataclass
class Bench:
    """An agent of an office, its provider, and one thread."""

    server: OpenAIServer
    office: Office
    agent: Any
    config: RunnableConfig

    async def say(self, text: str, *replies: Reply) -> Json:
        """Send a message; these are the provider's next replies."""
        self.server.replies += replies
        result: Json = await self.agent.ainvoke(
            {"messages": [("user", text)]}, self.config, durability="sync"
        )
        return result

    async def decide(self, decisions: Any, *replies: Reply) -> Json:
        self.server.replies += replies
        result: Json = await aresume(self.agent, self.config, decisions)
        return result

    async def cancel_in_queue(self, text: str, *replies: Reply) -> None:
        """Send a message, and cancel the run once it stands in the queue."""
        run = asyncio.create_task(self.say(text, *replies))
        await self.office.queued.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    async def pending(self) -> dict[str, Approval]:
        """What waits for a person, by tool."""
        return {
            approval.tool: approval
            for approval in await apending_approvals(self.agent, self.config)
        }

    @property
    def sent(self) -> list[str]:
        """The history of the latest request, one line a message: `user Hi`, `assistant
        pay(call_1)`, `tool call_1`."""
        return [_line(message) for message in self.server.histories[-1]]

    def answer(self, call_id: str) -> str:
        """What the provider was told of a call, in the latest request."""
        return next(
            str(message["content"])
            for message in self.server.histories[-1]
            if message.get("tool_call_id") == call_id
        )


def _line(message: Json) -> str:
    calls = ", ".join(
        f"{call['function']['name']}({call['id']})" for call in message.get("tool_calls", [])
    )
    return f"{message['role']} {message.get('tool_call_id') or calls or message['content']}"


def chat_model(server: OpenAIServer, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model="gpt-4o-mini", base_url=server.url, api_key="test", stream_usage=True, **options
    )


def bench_of(server: OpenAIServer, model: ChatOpenAI | str, **options: Any) -> Bench:
    office = Office()
    agent = build_hitl_agent(
        model, TOOLS, approve=["pay", "mail"], checkpointer=InMemorySaver(), **options
    )
    return Bench(
        server=server,
        office=office,
        agent=agent,
        config={"configurable": {"thread_id": str(uuid4()), "office": office}},
    )


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server
    assert server.problems == []
    assert [history_problems(history) for history in server.histories] == [[]] * len(
        server.histories
    )
    assert list(server.replies) == [], "The provider was asked less often than the test expects."


@pytest.fixture(params=["whole", "streamed"])
def bench(request: pytest.FixtureRequest, server: OpenAIServer) -> Bench:
    """Answers come whole or streamed: langchain-openai reads the two with different code. Nothing
    is tried again."""
    return bench_of(
        server,
        chat_model(server, max_retries=0, streaming=request.param == "streamed"),
        model_retry=None,
    )


PAY_ADA = ("pay", {"to": "Ada", "amount": 300})
MAIL_BOB = ("mail", {"to": "Bob"})


# ── the turn ──────────────────────────────────────────────────────────────────────────────────────


async def test_chat(bench: Bench) -> None:
    result = await bench.say("Hi", Say("Good morning."))
    assert result["messages"][-1].text == "Good morning."
    assert result["messages"][-1].usage_metadata["total_tokens"] > 0
    await bench.say("And?", Say("That is all."))
    assert bench.sent == ["user Hi", "assistant Good morning.", "user And?"]


async def test_the_system_prompt_goes_first_and_is_not_kept(server: OpenAIServer) -> None:
    bench = bench_of(server, chat_model(server), system_prompt="Be brief.")
    await bench.say("Hi", Say("Yes."))
    await bench.say("And?", Say("No."))
    assert bench.sent == ["system Be brief.", "user Hi", "assistant Yes.", "user And?"]


async def test_a_free_call_runs_at_once(bench: Bench) -> None:
    result = await bench.say(
        "Is record 7 in order?", Call(("look", {"record": 7}), text="One moment."), Say("It is.")
    )
    assert result["messages"][-1].text == "It is."
    assert bench.office.done == [("look", {"record": 7})]
    assert bench.sent == ["user Is record 7 in order?", "assistant look(call_1)", "tool call_1"]
    assert bench.answer("call_1") == "Record 7 is in order."


async def test_a_tool_that_fails_is_an_answer_too(bench: Bench) -> None:
    result = await bench.say("Open it", Call(("fail", {})), Say("It is stuck."))
    assert result["messages"][-1].text == "It is stuck."
    assert "The drawer is stuck." in bench.answer("call_1")


async def test_calls_that_make_no_sense_are_answered(bench: Bench) -> None:
    await bench.say("Go", Call(("fly", {}), ("look", {"file": "x"})), Say("I cannot."))
    assert bench.sent == [
        "user Go",
        "assistant fly(call_1), look(call_2)",
        "tool call_1",
        "tool call_2",
    ]
    assert bench.office.done == []


# ── deciding ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_gated_call_waits_and_runs_when_approved(bench: Bench) -> None:
    await bench.say("Pay Ada", Call(PAY_ADA))
    pending = await bench.pending()
    assert bench.office.done == []
    assert (pending["pay"].tool_call_id, pending["pay"].args) == ("call_1", PAY_ADA[1])
    result = await bench.decide(Approve(), Say("Paid."))
    assert result["messages"][-1].text == "Paid."
    assert bench.office.done == [PAY_ADA]
    assert bench.sent == ["user Pay Ada", "assistant pay(call_1)", "tool call_1"]
    assert bench.answer("call_1") == "Paid 300 to Ada."


async def test_an_edited_call_runs_as_edited_and_the_model_is_told(bench: Bench) -> None:
    await bench.say("Pay Ada", Call(PAY_ADA))
    await bench.decide(Edit({"to": "Ada", "amount": 30}), Say("Paid less."))
    assert bench.office.done == [("pay", {"to": "Ada", "amount": 30})]
    assert bench.sent == ["user Pay Ada", "assistant pay(call_1)", "tool call_1"]
    assert "Paid 30 to Ada." in bench.answer("call_1")
    assert '"amount": 30}' in bench.answer("call_1")


async def test_a_rejected_call_does_not_run_and_the_model_is_told_why(bench: Bench) -> None:
    await bench.say("Pay Ada", Call(PAY_ADA))
    await bench.decide(Reject("She was paid in May."), Say("I see."))
    assert bench.office.done == []
    assert "She was paid in May." in bench.answer("call_1")


async def test_a_response_takes_the_place_of_the_tools_result(bench: Bench) -> None:
    await bench.say("Pay Ada", Call(PAY_ADA))
    await bench.decide(Respond("Paid by hand."), Say("Thank you."))
    assert bench.office.done == []
    assert bench.answer("call_1") == "Paid by hand."


FOUR = Call(PAY_ADA, ("pay", {"to": "Bob", "amount": 5}), MAIL_BOB, ("mail", {"to": "Cy"}))


async def test_four_calls_of_a_turn_decided_in_four_ways(bench: Bench) -> None:
    await bench.say("Do it all", FOUR)
    decisions = {
        "call_1": Approve(),
        "call_2": Edit({"to": "Bob", "amount": 4}),
        "call_3": Reject("No."),
        "call_4": Respond("Cy knows."),
    }
    await bench.decide(decisions, Say("Done."))
    assert bench.office.paid == {"Ada": 300, "Bob": 4}
    assert len(bench.office.done) == 2
    assert [line.split()[0] for line in bench.sent] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "tool",
        "tool",
    ]
    assert [bench.answer("call_1"), bench.answer("call_4")] == ["Paid 300 to Ada.", "Cy knows."]


async def test_calls_of_a_turn_decided_one_after_another(bench: Bench) -> None:
    await bench.say("Do it all", FOUR)
    await bench.decide({"call_3": Reject("No.")})
    await bench.decide({"call_1": Approve()})
    assert [
        approval.tool_call_id for approval in await apending_approvals(bench.agent, bench.config)
    ] == ["call_2", "call_4"]
    assert bench.office.done == [PAY_ADA]
    await bench.decide({"call_4": Approve(), "call_2": Reject("No.")}, Say("Done."))
    assert bench.office.done == [PAY_ADA, ("mail", {"to": "Cy"})]
    assert len(bench.server.requests) == 2


async def test_free_calls_of_a_turn_do_not_wait_for_the_gated_ones(bench: Bench) -> None:
    await bench.say(
        "Look and pay",
        Call(PAY_ADA, ("look", {"record": 1}), MAIL_BOB, ("look", {"record": 2}), ("fail", {})),
    )
    assert sorted(args["record"] for _, args in bench.office.done) == [1, 2]
    pending = await bench.pending()
    assert list(pending) == ["pay", "mail"]
    await bench.decide(
        {pending["pay"].approval_id: Approve(), pending["mail"].approval_id: Reject()}, Say("Done.")
    )
    assert bench.office.done[2:] == [PAY_ADA]
    assert len(bench.sent) == 7


async def test_a_second_turn_of_calls_after_a_decision(bench: Bench) -> None:
    await bench.say("Pay Ada, then write to Bob", Call(PAY_ADA))
    await bench.decide(
        Approve(), Call(("look", {"record": 1})), Call(MAIL_BOB, text="Now the letter.")
    )
    assert list(await bench.pending()) == ["mail"]
    await bench.decide(Reject("Later."), Say("As you wish."))
    assert [name for name, _ in bench.office.done] == ["pay", "look"]


# ── writing while calls wait ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "decision",
    [Approve(), Reject("No."), Respond("Paid by hand."), Edit({"to": "Ada", "amount": 1})],
)
async def test_a_message_while_a_call_waits_leaves_it_waiting(bench: Bench, decision: Any) -> None:
    await bench.say("Pay Ada", Call(PAY_ADA, ("look", {"record": 1})))
    before = await bench.pending()
    await bench.say("approved")
    await bench.say("Hello?")
    assert len(bench.server.requests) == 1
    assert {name: approval.approval_id for name, approval in (await bench.pending()).items()} == {
        "pay": before["pay"].approval_id
    }
    result = await bench.decide({before["pay"].approval_id: decision}, Say("Done."))
    assert result["messages"][-1].text == "Done."
    assert bench.sent == [
        "user Pay Ada",
        "assistant pay(call_1), look(call_2)",
        "tool call_1",
        "tool call_2",
        "user approved",
        "user Hello?",
    ]
    await bench.say("Thanks", Say("You are welcome."))


async def test_a_message_between_two_decisions(bench: Bench) -> None:
    await bench.say("Pay and write", Call(PAY_ADA, MAIL_BOB))
    await bench.decide({"call_1": Approve()})
    await bench.say("Go on!")
    assert list(await bench.pending()) == ["mail"]
    await bench.decide({"call_2": Approve()}, Say("Done."))
    assert bench.office.done == [PAY_ADA, MAIL_BOB]
    assert bench.sent[2:] == ["tool call_1", "tool call_2", "user Go on!"]


@pytest.mark.parametrize(("words", "done"), [("Go ahead!", [PAY_ADA]), ("Not approved", [])])
async def test_with_chat_decisions_a_message_decides(
    server: OpenAIServer, words: str, done: list[Any]
) -> None:
    bench = bench_of(server, chat_model(server), chat_decisions=True)
    await bench.say("Pay Ada", Call(PAY_ADA))
    await bench.say(words, Say("Very well."))
    assert bench.office.done == done
    assert bench.sent == ["user Pay Ada", "assistant pay(call_1)", "tool call_1", f"user {words}"]


# ── a provider that fails ─────────────────────────────────────────────────────────────────────────


async def test_a_429_is_tried_again_by_the_client_if_it_is_to(server: OpenAIServer) -> None:
    bench = bench_of(server, chat_model(server, max_retries=2), model_retry=None)
    await bench.say(
        "Pay Ada", Status(429, retry_after=0.01), Status(429, retry_after=0.01), Call(PAY_ADA)
    )
    await bench.decide(Approve(), Status(429, retry_after=0.01), Say("Paid."))
    assert bench.office.done == [PAY_ADA]
    assert server.histories[0] == server.histories[1] == server.histories[2]
    assert server.histories[3] == server.histories[4]


@pytest.mark.parametrize(
    ("status", "error"), [(429, openai.RateLimitError), (500, openai.InternalServerError)]
)
async def test_a_status_that_stays_fails_the_run_and_not_the_thread(
    bench: Bench, status: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await bench.say("Hi", Status(status))
    await bench.say("Hi again", Say("Good morning."))
    assert bench.sent == ["user Hi", "user Hi again"]


DROPS = [
    Drop(),
    Drop(after="Good mor"),
    Drop(after="One moment.", tool=PAY_ADA),
    Drop(tool=("look", {"record": 123456789})),
]


@pytest.mark.parametrize("drop", DROPS)
async def test_a_cut_connection_fails_the_run_and_not_the_thread(bench: Bench, drop: Drop) -> None:
    with pytest.raises(Exception, match=r"(?i)connection|closed"):
        await bench.say("Hi", drop)
    assert await bench.pending() == {}
    await bench.say("Hi again", Say("Good morning."))
    assert bench.sent == ["user Hi", "user Hi again"]
    assert bench.office.done == []


@pytest.mark.parametrize("then", ["a message", "nothing"])
async def test_a_connection_cut_after_a_decision_repeats_no_call(bench: Bench, then: str) -> None:
    await bench.say("Pay Ada", Call(PAY_ADA))
    with pytest.raises(Exception, match=r"(?i)connection|closed"):
        await bench.decide(Approve(), Drop(after="Pai"))
    if then == "a message":
        await bench.say("What happened?", Say("Paid."))
    else:
        bench.server.replies.append(Say("Paid."))
        await bench.agent.ainvoke(None, bench.config)
    assert bench.office.done == [PAY_ADA]
    assert bench.sent[:3] == ["user Pay Ada", "assistant pay(call_1)", "tool call_1"]


@pytest.mark.parametrize(
    "cut_off", [Call(("queue", {})), Call(("queue", {}), ("look", {"record": 1}))]
)
async def test_a_run_cancelled_in_a_tool_leaves_a_thread_that_goes_on(
    bench: Bench, cut_off: Call
) -> None:
    await bench.cancel_in_queue("Queue", cut_off)
    await bench.say("What happened?", Say("I do not know."))
    assert bench.sent[-1] == "user What happened?"
    assert "call_1" in bench.sent[2]


async def test_a_run_cancelled_in_a_tool_while_another_call_waits(bench: Bench) -> None:
    await bench.cancel_in_queue("Queue and pay", Call(("queue", {}), PAY_ADA))
    bench.office.closed.set()
    await bench.say("What happened?")
    await bench.decide({"call_2": Reject("No.")}, Say("It closed."))
    assert bench.sent == [
        "user Queue and pay",
        "assistant queue(call_1), pay(call_2)",
        "tool call_1",
        "tool call_2",
        "user What happened?",
    ]


# ── a provider that fails for a moment ────────────────────────────────────────────────────────────

QUICK = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3)


@pytest.fixture(params=["whole", "streamed"])
def patient(request: pytest.FixtureRequest, server: OpenAIServer) -> Bench:
    """A bench whose agent tries again, and whose client does not."""
    return bench_of(
        server,
        chat_model(server, max_retries=0, streaming=request.param == "streamed"),
        model_retry=QUICK,
    )


PASSING = [
    Status(429),
    Status(408),
    Status(500),
    Status(503),
    Status(529),
    *DROPS,
    Drop(after="Good mor", error="server_error"),
]


@pytest.mark.parametrize("failure", PASSING)
async def test_a_failure_that_passes_is_not_noticed(patient: Bench, failure: Reply) -> None:
    result = await patient.say("Hi", failure, failure, Say("Good morning."))
    assert [message.text for message in result["messages"]] == ["Hi", "Good morning."]
    assert patient.server.histories[0] == patient.server.histories[1] == patient.server.histories[2]
    await patient.say("And?", Say("That is all."))
    assert patient.sent == ["user Hi", "assistant Good morning.", "user And?"]


@pytest.mark.parametrize("failure", [Status(500), Drop(after="Pai"), Drop(tool=MAIL_BOB)])
async def test_a_failure_after_a_decision_repeats_no_call(patient: Bench, failure: Reply) -> None:
    await patient.say("Pay Ada", failure, Call(PAY_ADA, ("look", {"record": 1})))
    await patient.decide(Approve(), failure, failure, Say("Paid."))
    assert patient.office.done == [("look", {"record": 1}), PAY_ADA]
    assert patient.sent[0] == "user Pay Ada"
    assert len(patient.sent) == 4


@pytest.mark.parametrize(
    ("failure", "error"),
    [(Status(429), openai.RateLimitError), (Status(500), openai.InternalServerError)],
)
async def test_after_three_tries_the_run_fails_and_the_thread_goes_on(
    patient: Bench, failure: Reply, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await patient.say("Hi", *[failure] * 3)
    assert len(patient.server.requests) == 3
    await patient.say("Hi again", Say("Good morning."))
    assert patient.sent == ["user Hi", "user Hi again"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_the_provider_refuses_is_not_tried_again(patient: Bench, status: int) -> None:
    with pytest.raises(openai.APIStatusError):
        await patient.say("Hi", Status(status))
    assert len(patient.server.requests) == 1


async def test_a_stream_that_says_it_refuses_is_not_tried_again(server: OpenAIServer) -> None:
    bench = bench_of(server, chat_model(server, max_retries=0, streaming=True), model_retry=QUICK)
    with pytest.raises(openai.APIError):
        await bench.say("Hi", Drop(after="Good mor", error="invalid_request_error", clean=True))
    assert len(bench.server.requests) == 1


Source = Callable[..., Any]
both_sources = pytest.mark.parametrize("source", [run_graph, run_graph_v2])


async def events_of(bench: Bench, source: Source, text: str, *replies: Reply) -> list[Event]:
    bench.server.replies += replies
    events: list[Event] = []
    asked = {"messages": [("user", text)]}
    await source(bench.agent, asked, bench.config, events.append, thread_id="t", run_id="r")
    return events


@both_sources
async def test_a_retry_is_told_and_names_the_text_to_discard(
    server: OpenAIServer, source: Source
) -> None:
    bench = bench_of(server, chat_model(server, max_retries=0), model_retry=QUICK)
    events = await events_of(
        bench, source, "Hi", Status(500), Drop(after="Good mor"), Say("Good evening.")
    )
    first, second = (event for event in events if isinstance(event, LlmRetry))
    assert (first.tries, first.delay_seconds, first.error.message, first.message_ids) == (
        1,
        0.001,
        "HTTP 500",
        (),
    )
    assert (second.tries, second.delay_seconds, len(second.message_ids)) == (2, 0.002, 1)
    assert second.node == "agent"

    shown: dict[str, str] = {}
    for event in events:
        if isinstance(event, Token):
            shown[event.message_id] = shown.get(event.message_id, "") + event.content
        elif isinstance(event, LlmRetry):
            assert all(shown.pop(message_id) for message_id in event.message_ids)
    answer = (await bench.agent.aget_state(bench.config)).values["messages"][-1]
    assert shown == {answer.id: "Good evening."}


async def test_the_wait_is_as_long_as_the_provider_asks(server: OpenAIServer) -> None:
    bench = bench_of(server, chat_model(server, max_retries=0), model_retry=QUICK)
    began = time.monotonic()
    events = await events_of(
        bench, run_graph, "Hi", Status(429, retry_after=0.25), Say("Good morning.")
    )
    assert time.monotonic() - began >= 0.25
    assert [event.delay_seconds for event in events if isinstance(event, LlmRetry)] == [0.25]


async def test_a_wait_that_is_too_long_is_not_begun(server: OpenAIServer) -> None:
    bench = bench_of(
        server, chat_model(server, max_retries=0), model_retry=QUICK._replace(max_interval=60)
    )
    with pytest.raises(openai.RateLimitError):
        await bench.say("Hi", Status(429, retry_after=3600))


async def test_a_model_named_by_a_string_leaves_its_retries_to_the_agent(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its client would make some by itself, which nobody sees, and each of ours three
    times."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    bench = bench_of(server, "openai:gpt-4o-mini", model_retry=QUICK)
    events = await events_of(bench, run_graph, "Hi", Status(429), Status(503), Say("Good morning."))
    assert [event.tries for event in events if isinstance(event, LlmRetry)] == [1, 2]


async def test_an_agent_tries_three_times_if_nothing_else_is_said(server: OpenAIServer) -> None:
    bench = bench_of(server, chat_model(server, max_retries=0))
    events = await events_of(bench, run_graph, "Hi", Status(503), Say("Good morning."))
    (retry,) = (event for event in events if isinstance(event, LlmRetry))
    assert 0.5 <= retry.delay_seconds <= 1.5


async def test_a_program_without_asyncio_tries_again_too(server: OpenAIServer) -> None:
    bench = bench_of(server, chat_model(server, max_retries=0), model_retry=QUICK)
    server.replies += [Status(500), Say("Good morning.")]
    result = await asyncio.to_thread(
        bench.agent.invoke, {"messages": [("user", "Hi")]}, bench.config
    )
    assert result["messages"][-1].text == "Good morning."


@both_sources
@pytest.mark.parametrize(
    "limit", [1.0, TimeoutPolicy(idle_timeout=1.0)], ids=["in all", "between two pieces"]
)
async def test_a_provider_that_hangs_is_given_up_and_tried_again(
    server: OpenAIServer, source: Source, limit: Any
) -> None:
    bench = bench_of(
        server, chat_model(server, max_retries=0), model_retry=QUICK, model_timeout=limit
    )
    never = asyncio.Event()
    try:
        events = await events_of(
            bench, source, "Hi", Say("Good morning.", hold=never), Say("Good evening.")
        )
    finally:
        never.set()
    (retry,) = (event for event in events if isinstance(event, LlmRetry))
    assert (retry.error.type, len(retry.message_ids)) == ("TimeoutError", 1)
    assert (await bench.agent.aget_state(bench.config)).values["messages"][
        -1
    ].text == "Good evening."


class Slowly(asyncio.Event):
    """Holds each piece for a while."""

    async def wait(self) -> Literal[True]:
        await asyncio.sleep(0.25)
        return True


async def test_a_provider_that_sends_slowly_does_not_hang(server: OpenAIServer) -> None:
    limit = TimeoutPolicy(idle_timeout=1.5)
    bench = bench_of(
        server,
        chat_model(server, max_retries=0, streaming=True),
        model_retry=None,
        model_timeout=limit,
    )
    began = time.monotonic()
    result = await bench.say("Hi", Say("One piece, and another one, and a third.", hold=Slowly()))
    assert result["messages"][-1].text == "One piece, and another one, and a third."
    assert time.monotonic() - began > 1.5


# ── a model that errs ─────────────────────────────────────────────────────────────────────────────


async def test_arguments_that_are_not_json_are_answered_and_sent_back_as_json(bench: Bench) -> None:
    """Many servers that speak this protocol read the arguments in a history, and refuse it for ever
    if they are not JSON."""
    await bench.say("Pay Ada", Call(("pay", '{"to": Ada}')), Say("I got that wrong."))
    assert bench.office.done == []
    assert bench.sent == ["user Pay Ada", "assistant pay(call_1)", "tool call_1"]


async def test_a_turn_with_one_good_call_and_one_that_is_not_json(bench: Bench) -> None:
    await bench.say("Pay Ada", Call(PAY_ADA, ("pay", '{"to": Bob}')))
    await bench.decide(Approve(), Say("Paid one."))
    assert bench.office.done == [PAY_ADA]


async def test_a_call_that_ran_into_the_token_limit_does_not_run(bench: Bench) -> None:
    """The arguments end in the middle: `{"record": 12` may have been on its way to 1234."""
    await bench.say(
        "Look", Call(("look", '{"record": 12'), finish_reason="length"), Say("That was cut off.")
    )
    assert bench.office.done == []


async def test_a_stream_that_ends_early_without_an_error_runs_nothing(server: OpenAIServer) -> None:
    """A proxy may hide the cut. What came so far reads as a whole number, and is the beginning of a
    longer one."""
    bench = bench_of(server, chat_model(server, streaming=True))
    # Whether the run fails or the model is told and answers again is the agent's choice.
    with contextlib.suppress(Exception):
        await bench.say(
            "Look",
            Drop(tool=("look", {"record": 3 * 10**20}), clean=True),
            Say("That was cut off."),
        )
    server.replies.clear()
    assert bench.office.done == []


async def test_an_id_that_the_provider_uses_again_is_a_new_call(bench: Bench) -> None:
    """Some count their ids anew in each answer."""
    await bench.say(
        "Look",
        Call(("look", {"record": 1}), ids=["call_0"]),
        Call(("look", {"record": 2}), ids=["call_0"]),
        Say("Both."),
    )
    assert bench.office.done == [("look", {"record": 1}), ("look", {"record": 2})]
    await bench.say("Pay Ada", Call(PAY_ADA, ids=["call_0"]))
    assert list(await bench.pending()) == ["pay"]
    await bench.decide(Approve(), Call(("pay", {"to": "Bob", "amount": 5}), ids=["call_0"]))
    assert [approval.args for approval in (await bench.pending()).values()] == [
        {"to": "Bob", "amount": 5}
    ]
    await bench.decide(Reject("No."), Say("Done."))
    assert bench.office.done[2:] == [PAY_ADA]


async def test_an_id_that_two_calls_of_a_turn_share(bench: Bench) -> None:
    await bench.say(
        "Pay both", Call(PAY_ADA, ("pay", {"to": "Bob", "amount": 5}), ids=["call_0", "call_0"])
    )
    ada, bob = await apending_approvals(bench.agent, bench.config)
    await bench.decide({ada.approval_id: Reject("No."), bob.approval_id: Approve()}, Say("Done."))
    assert bench.office.done == [("pay", {"to": "Bob", "amount": 5})]


# ── streaming, strings, sync ──────────────────────────────────────────────────────────────────────


async def test_text_arrives_while_the_answer_is_still_on_its_way(server: OpenAIServer) -> None:
    bench = bench_of(server, chat_model(server))
    release = asyncio.Event()
    server.replies.append(Say("Good morning, Ada.", hold=release))
    chunks: list[AIMessageChunk] = []
    async with asyncio.timeout(PATIENCE):
        async for chunk, _ in bench.agent.astream(
            {"messages": [("user", "Hi")]}, bench.config, stream_mode="messages"
        ):
            chunks.append(chunk)
            if chunk.content:
                release.set()
    texts = [chunk.text for chunk in chunks if chunk.content]
    assert texts == ["Good m", "orning", ", Ada."]
    assert sum(chunk.usage_metadata["total_tokens"] for chunk in chunks if chunk.usage_metadata) > 0


async def test_calls_arrive_in_pieces_and_are_asked_for_whole(server: OpenAIServer) -> None:
    bench = bench_of(server, chat_model(server))
    server.replies.append(Call(PAY_ADA, ("look", {"record": 1}), MAIL_BOB))
    stream = bench.agent.astream(
        {"messages": [("user", "Go")]}, bench.config, stream_mode="messages"
    )
    chunks = [chunk async for chunk, _ in stream if isinstance(chunk, AIMessageChunk)]
    assert sum(len(chunk.tool_call_chunks) for chunk in chunks) > 10
    pending = await bench.pending()
    assert {name: approval.args for name, approval in pending.items()} == dict([PAY_ADA, MAIL_BOB])
    await bench.decide(
        {approval.approval_id: Approve() for approval in pending.values()}, Say("Done.")
    )


async def test_a_model_named_by_a_string(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    bench = bench_of(server, "openai:gpt-4o-mini", system_prompt="Be brief.")
    await bench.say("Pay Ada", Call(PAY_ADA, ("look", {"record": 1})))
    await bench.say("Well?")
    result = await bench.decide(Approve(), Status(429, retry_after=0.01), Say("Paid."))
    assert result["messages"][-1].text == "Paid."
    assert bench.office.done == [("look", {"record": 1}), PAY_ADA]
    assert {request["model"] for request in server.requests} == {"gpt-4o-mini"}
    assert {tool["function"]["name"] for tool in server.requests[0]["tools"]} == {
        "look",
        "pay",
        "mail",
        "fail",
        "queue",
    }


async def test_the_same_in_a_program_without_asyncio(server: OpenAIServer) -> None:
    bench = bench_of(server, chat_model(server))
    server.replies += [Call(PAY_ADA, ("look", {"record": 1})), Say("Paid.")]

    def program() -> str:
        bench.agent.invoke({"messages": [("user", "Pay Ada")]}, bench.config)
        bench.agent.invoke({"messages": [("user", "Well?")]}, bench.config)
        (approval,) = pending_approvals(bench.agent, bench.config)
        return str(
            resume(bench.agent, bench.config, {approval.approval_id: Approve()})["messages"][
                -1
            ].text
        )

    assert await asyncio.to_thread(program) == "Paid."
    assert bench.sent == [
        "user Pay Ada",
        "assistant pay(call_1), look(call_2)",
        "tool call_1",
        "tool call_2",
        "user Well?",
    ]


async def test_the_provider_here_refuses_what_a_naive_agent_sends() -> None:
    """The check that all the others rest on: a call without its answer is a 400, through the same
    client."""
    history: list[Json] = [
        {"role": "user", "content": "Pay Ada"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_1", "name": "pay", "args": {}, "type": "tool_call"}],
        },
        {"role": "user", "content": "Hello?"},
    ]
    async with OpenAIServer(Say("Hi")) as server:
        with pytest.raises(
            openai.BadRequestError,
            match="calls 'call_1', which no tool message directly after it answers",
        ):
            await chat_model(server).ainvoke(history)
        assert len(server.problems) == 1
