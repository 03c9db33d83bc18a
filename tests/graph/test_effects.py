"""What is declared of a tool, and what comes of its calls when they are cut off or run out of
time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.types import Command, interrupt

from assent import (
    Approve,
    Edit,
    Reject,
    Respond,
    apending_approvals,
    aresume,
    call_once,
    idempotency_key,
    resume,
)
from assent.core.digest import call_digest
from assent.core.errors import ConfigurationError
from assent.core.events import Custom, Event, NodeStart, Progress, ToolError
from assent.graph.effects import EFFECTS_KEY
from assent.graph.stream.callbacks import run_graph
from tests.graph.harness import ASKED, THREAD, AgentHarness, Json, Killed, Ledger, asks, told
from tests.support.models import say
from tests.support.waiting import PATIENCE


@dataclass
class Shop:
    """A tool `work(amount)` that notes the key of each of its calls and then does `plan`, one entry
    a call: return, raise, or never end."""

    plan: list[Any]
    ledger: Ledger | None = field(default_factory=Ledger)
    keys: list[str] = field(default_factory=list)
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: int = 0
    agent: Any = None

    async def work(self, amount: int) -> str:
        """Work."""
        self.keys.append(idempotency_key())
        step = self.plan.pop(0)
        if step is FOREVER:
            self.waits.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.stopped += 1
        if isinstance(step, BaseException):
            raise step
        return str(step() if callable(step) else step)

    @property
    def config(self) -> Any:
        return {
            "configurable": {
                "thread_id": "t",
                **({EFFECTS_KEY: self.ledger} if self.ledger else {}),
            }
        }

    async def run(self, effects: Any = None, **options: Any) -> Json:
        options.setdefault("approve", [])
        made = tool(self.work)
        self.agent = AgentHarness().agent(
            asks(("c1", "work", {"amount": 3})),
            say("Done."),
            tools=[made],
            effects=effects,
            **options,
        )
        return await self.go_on(ASKED)

    async def go_on(self, sent: Any = None) -> Json:
        result: Json = await self.agent.ainvoke(sent, self.config, durability="sync")
        return result

    async def decide(self, decision: Any) -> Json:
        result: Json = await aresume(self.agent, self.config, decision)
        return result

    async def asked(self) -> list[str]:
        return [
            question.kind.value for question in await apending_approvals(self.agent, self.config)
        ]


FOREVER = object()
NONE, IDEMPOTENT, ONCE = {"work": "none"}, {"work": "idempotent"}, {"work": "once"}


async def killed_in_the_middle(shop: Shop, effects: Any, **options: Any) -> None:
    with pytest.raises(Killed):
        await shop.run(effects, **options)


# ── declaring ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("effects", "sentence"),
    [
        (
            {"loook": "none"},
            "names the tool 'loook', and the agent has no such tool. It has: look, mail, pay.",
        ),
        (
            {"look": "nothing"},
            "gives the tool 'look' 'nothing'. Give it one of: none, idempotent, once.",
        ),
        ({"look": True}, "gives the tool 'look' True"),
        ({"look": ["none"]}, "gives the tool 'look' \\['none'\\]"),
        ("look", "Give it a mapping"),
        (["look"], "Give it a mapping"),
    ],
)
def test_effects_that_make_no_sense_are_refused(effects: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        AgentHarness().agent(effects=effects)


class Reader(BaseTool):
    name: str = "read"
    description: str = "Read."

    def _run(self, page: int) -> str:
        return f"page {page}"


def read(page: int) -> str:
    """Read."""
    return f"page {page}"


@pytest.mark.parametrize(
    "reader",
    [read, tool(read), Reader(), StructuredTool.from_function(read)],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize(
    ("effects", "rows"),
    [("none", []), ("idempotent", ["begin read", "finish"]), (None, ["begin read", "finish"])],
)
async def test_a_tool_of_any_kind_can_be_declared(
    reader: Any, effects: Any, rows: list[str]
) -> None:
    ledger = Ledger()
    config: Any = {"configurable": {"thread_id": "t", EFFECTS_KEY: ledger}}
    declared = {"read": effects} if effects else None
    agent = AgentHarness().agent(
        asks(("c1", "read", {"page": 7})),
        say("Done."),
        tools=[reader],
        approve=[],
        effects=declared,
    )
    assert told(await agent.ainvoke(ASKED, config), "c1").text == "page 7"
    assert ledger.log == rows


async def test_a_tool_that_the_model_made_up_leaves_no_rows() -> None:
    ledger = Ledger()
    config: Any = {"configurable": {"thread_id": "t", EFFECTS_KEY: ledger}}
    result = (
        await AgentHarness().agent(asks(("c1", "fly", {})), say("Sorry.")).ainvoke(ASKED, config)
    )
    assert told(result, "c1").status == "error"
    assert ledger.rows == {}


def test_a_sync_run_with_a_ledger_may_read_and_nothing_else() -> None:
    config: Any = {"configurable": {"thread_id": "t", EFFECTS_KEY: Ledger()}}
    harness = AgentHarness()
    script = asks(("c1", "look", {"record": 1})), say("Done.")
    assert (
        told(harness.agent(*script, effects={"look": "none"}).invoke(ASKED, config), "c1").status
        == "success"
    )
    assert harness.ran == [("look", 1)]
    with pytest.raises(ConfigurationError, match="must be async"):
        harness.agent(*script).invoke(ASKED, config)
    assert harness.ran == [("look", 1)]


# ── cut off ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_free_call_that_was_cut_off_asks_a_person() -> None:
    shop = Shop([Killed(), "done"])
    await killed_in_the_middle(shop, None)
    for _ in range(2):
        await shop.go_on()
        assert await shop.asked() == ["unknown_outcome"]
        assert len(shop.keys) == 1
    assert told(await shop.decide(Approve()), "c1").text == "done"
    assert shop.keys == [f"{shop.keys[0].removesuffix(':1')}:{attempt}" for attempt in (1, 2)]


@pytest.mark.parametrize("approve", [[], ["work"]])
async def test_a_call_that_changes_nothing_is_simply_called_again(approve: list[str]) -> None:
    shop = Shop([Killed(), "done"])
    if approve:
        await shop.run(NONE, approve=approve)
        with pytest.raises(Killed):
            await shop.decide(Approve())
    else:
        await killed_in_the_middle(shop, NONE)
    assert told(await shop.go_on(), "c1").text == "done"
    assert (len(shop.keys), len(set(shop.keys))) == (2, 1)
    assert shop.ledger is not None
    assert shop.ledger.rows == {}


async def test_an_idempotent_call_is_called_again_with_the_same_key() -> None:
    shop = Shop([Killed(), Killed(), "done"])
    await killed_in_the_middle(shop, IDEMPOTENT)
    with pytest.raises(Killed):
        await shop.go_on()
    assert told(await shop.go_on(), "c1").text == "done"
    assert (len(shop.keys), len(set(shop.keys))) == (3, 1)
    assert shop.ledger is not None
    assert shop.ledger.log == ["begin work", "finish"]


async def test_a_stored_outcome_of_an_idempotent_call_takes_its_place_too() -> None:
    shop = Shop(["done"], Ledger(kills=True))
    await killed_in_the_middle(shop, IDEMPOTENT)
    assert told(await shop.go_on(), "c1").text == "done"
    assert len(shop.keys) == 1


@pytest.mark.parametrize(("effects", "different_keys"), [(NONE, 1), (IDEMPOTENT, 1), (ONCE, 2)])
async def test_a_free_tool_may_ask_a_question_of_its_own(effects: Any, different_keys: int) -> None:
    """What it did before it asked is done again with the answer: an idempotent tool must know that
    by its key."""
    shop = Shop([lambda: interrupt("Which account?")] * 2)
    await shop.run(effects)
    assert await shop.asked() == ["input"]
    assert told(await shop.decide(Respond("savings")), "c1").text == "savings"
    assert (len(shop.keys), len(set(shop.keys))) == (2, different_keys)


async def test_an_idempotent_call_that_is_cut_off_after_its_question_goes_on_with_the_answer() -> (
    None
):
    shop = Shop([lambda: interrupt("Which?"), Killed(), lambda: interrupt("Which?")])
    await shop.run(IDEMPOTENT)
    (question,) = await apending_approvals(shop.agent, shop.config)
    with pytest.raises(Killed):
        await shop.decide(Respond("savings"))
    result = await shop.go_on(Command(resume={question.interrupt_id: "savings"}))
    assert told(result, "c1").text == "savings"
    assert (len(shop.keys), len(set(shop.keys))) == (3, 1)


async def test_the_ledger_has_the_digest_of_what_runs() -> None:
    """A person may have edited the arguments."""

    class Noting(Ledger):
        async def begin(self, intent: Any) -> Any:
            self.log.append(intent.digest)
            return await super().begin(intent)

    shop = Shop(["done"], Noting())
    await shop.run(approve={"work": lambda args: args["amount"] > 2})
    await shop.decide(Edit({"amount": 2}))
    assert shop.ledger is not None
    assert shop.ledger.log[0] == call_digest("work", {"amount": 2})


# ── the key ───────────────────────────────────────────────────────────────────────────────────────


async def seen_by(*kinds: Callable[..., Any]) -> dict[str, str]:
    """The keys that tools of these kinds see, called at once in one turn."""
    seen: dict[str, str] = {}
    both = asyncio.Barrier(len(kinds))

    def made(number: int, kind: Callable[..., Any]) -> Any:
        return kind(f"tool{number}", seen, both)

    turn = asks(*((f"c{number}", f"tool{number}", {}) for number in range(len(kinds))))
    tools = [made(number, kind) for number, kind in enumerate(kinds)]
    await AgentHarness().agent(turn, say("Done."), tools=tools, approve=[]).ainvoke(ASKED, THREAD)
    return seen


def async_tool(name: str, seen: dict[str, str], both: asyncio.Barrier) -> Any:
    async def work() -> str:
        async with asyncio.timeout(PATIENCE):
            await both.wait()
        seen[name] = await asyncio.create_task(_key_in_a_task())
        return "ok"

    return StructuredTool.from_function(coroutine=work, name=name, description="Work.")


async def _key_in_a_task() -> str:
    return idempotency_key()


def sync_tool(name: str, seen: dict[str, str], both: asyncio.Barrier) -> Any:
    def work() -> str:
        seen[name] = idempotency_key()
        return "ok"

    return StructuredTool.from_function(work, name=name, description="Work.")


async def test_calls_side_by_side_each_see_their_own_key() -> None:
    seen = await seen_by(async_tool, async_tool)
    assert [key.split(":")[0::2] for key in (seen["tool0"], seen["tool1"])] == [
        ["t", "c0"],
        ["t", "c1"],
    ]
    assert len(set(seen.values())) == 2


async def test_sync_tools_see_their_key_in_async_and_in_sync_runs() -> None:
    seen = await seen_by(sync_tool, sync_tool)
    assert {name: key.split(":")[2] for name, key in seen.items()} == {"tool0": "c0", "tool1": "c1"}

    in_sync: dict[str, str] = {}
    tools = [sync_tool(f"tool{number}", in_sync, asyncio.Barrier(1)) for number in range(2)]
    turn = asks(("c0", "tool0", {}), ("c1", "tool1", {}))
    AgentHarness().agent(turn, say("Done."), tools=tools, approve=[]).invoke(ASKED, THREAD)
    assert {name: key.split(":")[2] for name, key in in_sync.items()} == {
        "tool0": "c0",
        "tool1": "c1",
    }


async def test_without_a_ledger_the_key_is_the_same_after_a_crash_and_after_a_question() -> None:
    shop = Shop([Killed(), lambda: interrupt("Sure?"), lambda: interrupt("Sure?")], None)
    await killed_in_the_middle(shop, None)
    await shop.go_on()
    assert told(await shop.decide(Respond("yes")), "c1").text == "yes"
    assert (len(shop.keys), len(set(shop.keys))) == (3, 1)


def test_there_is_no_key_outside_of_a_call() -> None:
    with pytest.raises(ConfigurationError, match="outside of a call"):
        idempotency_key()


# ── out of time ───────────────────────────────────────────────────────────────────────────────────


async def test_an_ordinary_tool_that_runs_out_of_time_is_stopped_and_a_person_is_asked() -> None:
    shop = Shop([FOREVER, "done"])
    await shop.run(tool_timeout=0.5)
    assert (await shop.asked(), shop.stopped) == (["unknown_outcome"], 1)
    await shop.go_on()
    assert (await shop.asked(), len(shop.keys)) == (["unknown_outcome"], 1)
    assert told(await shop.decide(Approve()), "c1").text == "done"
    assert len(set(shop.keys)) == 2


@pytest.mark.parametrize(
    ("decision", "answer"),
    [
        (Reject(), "may or may not have happened. A person decided not to run it again."),
        (Respond("It was done."), "It was done."),
    ],
)
async def test_what_a_person_says_of_a_call_that_ran_out_of_time_is_told_to_the_model(
    decision: Any, answer: str
) -> None:
    shop = Shop([FOREVER])
    await shop.run(tool_timeout={"work": 0.5})
    assert answer in told(await shop.decide(decision), "c1").text
    assert len(shop.keys) == 1


async def test_a_call_that_runs_out_of_time_twice_is_asked_for_twice() -> None:
    shop = Shop([FOREVER, FOREVER, "done"])
    await shop.run(tool_timeout=0.5)
    (first,) = await apending_approvals(shop.agent, shop.config)
    await shop.decide(Approve())
    (second,) = await apending_approvals(shop.agent, shop.config)
    assert first.approval_id != second.approval_id
    assert told(await shop.decide(Approve()), "c1").text == "done"
    assert len(set(shop.keys)) == 3


async def test_of_calls_side_by_side_only_those_out_of_time_are_asked_of() -> None:
    ran: list[int] = []

    async def work(seconds: int) -> str:
        """Work."""
        ran.append(seconds)
        await asyncio.sleep(seconds)
        return f"{seconds} s"

    turn = asks(
        *(
            (f"c{number}", "work", {"seconds": seconds})
            for number, seconds in enumerate((60, 0, 70))
        )
    )
    agent = AgentHarness().agent(turn, say("Done."), tools=[work], approve=[], tool_timeout=0.5)
    config: Any = {"configurable": {"thread_id": "t", EFFECTS_KEY: Ledger()}}
    await agent.ainvoke(ASKED, config)
    assert [question.tool_call_id for question in await apending_approvals(agent, config)] == [
        "c0",
        "c2",
    ]
    result = await aresume(agent, config, {"c0": Respond("It was done."), "c2": Reject()})
    assert [told(result, f"c{number}").status for number in range(3)] == [
        "success",
        "success",
        "error",
    ]
    assert sorted(ran) == [0, 60, 70]


@pytest.mark.parametrize(
    ("effects", "ledger", "answer"),
    [
        (NONE, True, "was stopped."),
        (IDEMPOTENT, True, "may or may not have happened."),
        # Without a ledger nobody would remember the question: in another process the answer would
        # run the tool again.
        (ONCE, False, "may or may not have happened."),
    ],
)
async def test_what_the_model_is_told_of_a_call_that_ran_out_of_time(
    effects: Any, ledger: bool, answer: str
) -> None:
    shop = Shop([FOREVER], Ledger() if ledger else None)
    message = told(await shop.run(effects, tool_timeout=0.5), "c1")
    assert message.text.startswith("The tool ran out of time after 0.5 seconds")
    assert message.text.endswith(answer)
    assert message.status == "error"
    assert shop.stopped == 1


async def test_a_tool_that_makes_an_error_of_being_stopped_has_run_out_of_time_all_the_same() -> (
    None
):
    async def stubborn() -> str:
        """Raise something else when it is cancelled."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("The connection is gone.") from None
        return "never"

    agent = AgentHarness().agent(
        asks(("c1", "stubborn", {})), say("Done."), tools=[stubborn], approve=[], tool_timeout=0.5
    )
    config: Any = {"configurable": {"thread_id": "t", EFFECTS_KEY: Ledger()}}
    await agent.ainvoke(ASKED, config)
    assert [question.kind.value for question in await apending_approvals(agent, config)] == [
        "unknown_outcome"
    ]


async def test_a_timeout_of_the_tools_own_is_the_tools_failure() -> None:
    shop = Shop([TimeoutError("The bank does not answer.")])
    message = told(await shop.run(tool_timeout=60), "c1")
    assert (message.text, message.status) == ("The tool failed with TimeoutError.", "error")


async def test_a_timeout_of_the_tools_own_goes_where_its_other_errors_go() -> None:
    """A `ToolNode` by itself lets them end the run."""

    async def ask_the_bank() -> str:
        """Ask."""
        raise TimeoutError("The bank does not answer.")

    tool = StructuredTool.from_function(coroutine=ask_the_bank)
    node = ToolNode([tool], awrap_tool_call=call_once([tool]))
    graph = StateGraph(MessagesState).add_node("tools", node).add_edge(START, "tools").compile()
    with pytest.raises(TimeoutError, match="The bank does not answer"):
        await graph.ainvoke({"messages": [asks(("c1", "ask_the_bank", {}))]})


async def test_a_tool_in_time_is_not_touched() -> None:
    shop = Shop(["done"])
    assert told(await shop.run(tool_timeout={"work": 60}), "c1").text == "done"


async def test_a_run_that_is_cancelled_in_a_timed_tool_stops_at_once() -> None:
    shop = Shop([FOREVER])
    running = asyncio.create_task(shop.run(tool_timeout=3600))
    async with asyncio.timeout(PATIENCE):
        await shop.waits.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert shop.stopped == 1
    await shop.go_on()
    assert await shop.asked() == ["unknown_outcome"]


@pytest.mark.parametrize(
    ("timeout", "sentence"),
    [
        ({"loook": 1}, "names the tool 'loook'"),
        (0, "a number of seconds above 0"),
        (-1, "a number of seconds above 0"),
        (True, "a number of seconds above 0"),
        ({"mail": "5"}, "a number of seconds above 0"),
        (float("nan"), "a number of seconds above 0"),
        ({"pay": 5}, "the tool 'pay' too, which is a plain function"),
        (5, "which is a plain function"),
    ],
)
def test_limits_that_make_no_sense_are_refused(timeout: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        AgentHarness().agent(tool_timeout=timeout)


def test_a_plain_function_that_changes_nothing_may_have_a_limit_but_not_in_a_sync_run() -> None:
    harness = AgentHarness()
    agent = harness.agent(
        asks(("c1", "look", {"record": 1})), effects={"look": "none"}, tool_timeout={"look": 5}
    )
    with pytest.raises(
        ConfigurationError, match="'look' has a tool_timeout, so the run must be async"
    ):
        agent.invoke(ASKED, THREAD)
    assert harness.ran == []


async def test_a_plain_function_that_changes_nothing_is_no_longer_waited_for() -> None:
    def dawdle() -> str:
        """Take one's time."""
        time.sleep(0.3)
        return "late"

    agent = AgentHarness().agent(
        asks(("c1", "dawdle", {})),
        say("Done."),
        tools=[dawdle],
        approve=[],
        effects={"dawdle": "none"},
        tool_timeout=0.02,
    )
    assert "ran out of time" in told(await agent.ainvoke(ASKED, THREAD), "c1").text


# ── events ────────────────────────────────────────────────────────────────────────────────────────


async def events_of(agent: Any, *inputs: Any, config: Any = THREAD) -> list[Event]:
    events: list[Event] = []
    for number, graph_input in enumerate(inputs):
        await run_graph(
            agent, graph_input, config, events.append, thread_id="t", run_id=f"r{number}"
        )
    return events


async def test_a_call_that_ends_in_the_question_has_not_failed() -> None:
    shop = Shop([FOREVER])
    agent = AgentHarness().agent(
        asks(("c1", "work", {"amount": 1})), tools=[shop.work], approve=[], tool_timeout=0.5
    )
    events = await events_of(agent, ASKED, config=shop.config)
    assert not [event for event in events if isinstance(event, ToolError)]


async def test_what_tools_say_of_how_far_they_are() -> None:
    """By either of LangGraph's ways, in an async tool and in one that runs in a thread."""

    async def fetch(runtime: ToolRuntime) -> str:
        """Fetch."""
        get_stream_writer()({"progress": 0.25, "message": "half of a half"})
        runtime.stream_writer({"progress": 0.5})
        return "ok"

    def parse(runtime: ToolRuntime) -> str:
        """Parse."""
        get_stream_writer()({"progress": 1})
        runtime.stream_writer({"progress": 1.5})
        return "ok"

    turns = asks(("c1", "fetch", {})), asks(("c2", "parse", {})), say("Done.")
    events = await events_of(AgentHarness().agent(*turns, tools=[fetch, parse], approve=[]), ASKED)
    said = [event for event in events if isinstance(event, Progress | Custom)]
    assert [(event.progress, event.message) for event in said if isinstance(event, Progress)] == [
        (0.25, "half of a half"),
        (0.5, ""),
        (1, ""),
    ]
    assert [event.data for event in said if isinstance(event, Custom)] == [{"progress": 1.5}]
    assert {(event.node, bool(event.task_id)) for event in said} == {("tools", True)}


async def test_the_steps_of_a_run_are_counted_by_its_starts_of_nodes() -> None:
    harness = AgentHarness()
    turn = asks(("c1", "look", {"record": 1}), ("c2", "look", {"record": 2}))
    saver = InMemorySaver()
    agent = harness.agent(turn, say("Done."), say("Again."), checkpointer=saver)
    for asked, steps in (("First", 4), ("Second", 1)):
        events = await events_of(agent, {"messages": [("user", asked)]})
        starts = [event for event in events if isinstance(event, NodeStart) and not event.ns]
        # The model, two tools at once, the join, and the model again.
        assert len({event.step for event in starts}) == steps


def test_a_sync_run_goes_on_as_before() -> None:
    harness = AgentHarness()
    agent = harness.agent(
        asks(("c1", "pay", {"amount": 3})), say("Done."), effects={"pay": "idempotent"}
    )
    agent.invoke(ASKED, THREAD)
    assert told(resume(agent, THREAD, Approve()), "c1").text == "Paid 3 to Ada."
