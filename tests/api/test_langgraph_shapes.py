"""The paths that have LangGraph's shapes, read by the langgraph-sdk package itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from langgraph_sdk import get_client, schema
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import UnprocessableEntityError

from assent.api.langgraph_shapes import state_view
from assent.core.assistants import assistant_id_of
from tests.support.sdk import check_state, fields
from tests.support.server import Api, Server, expect, problem

AGENTS = ("agent", "chat_agent", "foreign", "asking")

RUN_FIELDS = {*fields(schema.Run), "kwargs"}


@pytest.fixture
async def sdk(server: Server) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url) as client:
        yield client


# ── threads ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_thread_is_made_and_read(sdk: LangGraphClient, api: Api, thread: str) -> None:
    made = await sdk.threads.create(thread_id=thread, metadata={"user": "ann"})
    assert made.keys() >= fields(schema.Thread)
    assert (made["thread_id"], made["status"], made["metadata"]) == (
        thread,
        "idle",
        {"user": "ann"},
    )
    assert made == await sdk.threads.get(thread)
    assert made == await sdk.threads.create(thread_id=thread, if_exists="do_nothing")

    await api.stream("tell 1", thread_id=thread)
    found = await sdk.threads.get(thread)
    assert found["metadata"] == {
        "user": "ann",
        "graph_id": "agent",
        "assistant_id": assistant_id_of("agent"),
    }
    assert found["values"] == (await sdk.threads.get_state(thread))["values"]
    assert (found["config"], found["error"]) == ({"configurable": {}}, None)
    assert found["owner"] == made["owner"] == "local"
    assert found["state_updated_at"] == found["updated_at"] > made["updated_at"]


async def test_a_thread_says_why_its_last_run_failed(api: Api, thread: str) -> None:
    failed = (await api.stream("boom", thread_id=thread))[-1]
    found = await api.get(f"/threads/{thread}")
    assert found["status"] == failed["type"] == "error"
    assert found["error"] == (await api.get(f"/runs/{failed['run_id']}"))["error"] is not None
    await api.stream("tell 1", thread_id=thread)
    assert (await api.get(f"/threads/{thread}"))["error"] is None


async def test_the_rows_of_a_list_are_threads_without_what_their_states_hold(
    api: Api, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    (row,) = [
        row for row in (await api.get("/threads", limit=9))["threads"] if row["thread_id"] == thread
    ]
    found = await api.get(f"/threads/{thread}")
    empty = {"values": None, "interrupts": {}, "approvals": [], "error": None}
    assert row == {**found, **empty}
    assert len(found["approvals"]) == 1


async def test_metadata_is_changed_field_by_field(
    sdk: LangGraphClient, api: Api, thread: str, amount: int
) -> None:
    await sdk.threads.create(thread_id=thread, metadata={"a": {"b": 1}, "c": None, "d": 2})
    await api.paused(f"pay {amount}", thread_id=thread)
    before = await sdk.threads.get(thread)
    changed = await sdk.threads.update(thread, metadata={"a": {"e": 3}, "d": None, "f": 4})
    graph = {name: changed["metadata"][name] for name in ("graph_id", "assistant_id")}  # type: ignore[index]
    assert changed["metadata"] == {"a": {"e": 3}, "c": None, "f": 4, **graph}
    # All else is as it was, also the time of the last use.
    assert {**changed, "metadata": None} == {**before, "metadata": None}
    assert await sdk.threads.get(thread) == changed

    path = f"/threads/{thread}"
    many = {str(number): number for number in range(1000)}
    for wrong in ({"metadata": many}, {"metadata": None}, {"metadata": []}, {"ttl": 5}, None):
        await problem(await api.http.patch(path, json=wrong), 422)
    assert await sdk.threads.get(thread) == changed
    await problem(await api.http.patch(f"{path}-other", json={"metadata": {}}), 404)


async def test_metadata_that_is_added_to_has_an_end(api: Api, thread: str) -> None:
    """It is written with each change of the thread, and shown with it."""
    await expect(await api.http.post("/threads", json={"thread_id": thread}), 200)
    path = f"/threads/{thread}"
    large = "x" * 600_000
    await expect(await api.http.patch(path, json={"metadata": {"a": large}}), 200)
    told = await problem(await api.http.patch(path, json={"metadata": {"b": large}}), 422)
    assert "1,048,576 are the most" in told["detail"]
    # In the place of what was there.
    await expect(await api.http.patch(path, json={"metadata": {"a": None, "b": large}}), 200)


async def test_metadata_that_is_changed_while_runs_begin_and_end_is_not_lost(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    async def change(number: int) -> None:
        await sdk.threads.update(thread, metadata={str(number): number})

    await sdk.threads.create(thread_id=thread)
    said = [api.run(thread, "tell 3", on_busy="enqueue") for _ in range(5)]
    runs, *_ = await asyncio.gather(asyncio.gather(*said), *map(change, range(20)))
    ended = [(await api.ended(run["run_id"]))["status"] for run in runs]
    assert ended == ["success"] * 5
    metadata = (await sdk.threads.get(thread))["metadata"]
    assert metadata is not None
    assert metadata.items() >= {str(number): number for number in range(20)}.items()


async def test_fields_of_other_releases_are_ignored_unless_something_else_would_be_done(
    api: Api, thread: str
) -> None:
    body = {"thread_id": thread, "colour": "red", "ttl": None}
    assert (await api.http.post("/threads", json=body)).status_code == 200
    for name, value in (("ttl", 5), ("supersteps", []), ("graph_id", "agent")):
        refused = await problem(await api.http.post("/threads", json={name: value}), 422)
        assert f"'{name}' is not supported here. " in refused["detail"]
        assert ".." not in refused["detail"]


def test_assistants_have_the_ids_of_langgraphs_server() -> None:
    # As its server answers for a graph of this name.
    assert assistant_id_of("agent") == "fe096781-5601-53d2-b2f6-0d3403f7e9ca"
    assert assistant_id_of("agent") != str(uuid5(NAMESPACE_DNS, "agent"))


# ── states ────────────────────────────────────────────────────────────────────────────────────────


async def test_states_are_read_at_the_head_and_at_checkpoints(
    sdk: LangGraphClient, api: Api, thread: str, amount: int
) -> None:
    await api.paused(f"look {amount} then pay {amount}", thread_id=thread)
    head: Any = await sdk.threads.get_state(thread)
    check_state(head, thread)
    assert len(head["approvals"]) == 1
    history: list[Any] = await sdk.threads.get_history(thread, limit=1000)
    for state in history:
        check_state(state, thread)
        at = await sdk.threads.get_state(thread, checkpoint_id=state["checkpoint_id"])
        assert at == state
    assert {**head, "approvals": []} == history[0]
    assert await sdk.threads.get_state(thread, subgraphs=True) == head
    await problem(await api.http.get(f"/threads/{thread}/state/nothing"), 404)


async def test_the_history_begins_after_a_checkpoint_in_any_form(
    sdk: LangGraphClient, api: Api, thread: str, amount: int
) -> None:
    await api.stream(f"look {amount}", thread_id=thread)
    history = await sdk.threads.get_history(thread)
    third = history[2]["checkpoint"]
    for before in (third["checkpoint_id"], third, {"configurable": third}):
        found = await sdk.threads.get_history(thread, limit=2, before=before)  # type: ignore[arg-type]
        assert found == history[3:5]
    path = f"/threads/{thread}/history"
    assert await api.get(path, before=third["checkpoint_id"], limit=2) == history[3:5]
    for wrong in ({"before": {}}, {"before": {"configurable": 5}}, {"limit": 1001}, {"limit": 0}):
        await problem(await api.http.post(path, json=wrong), 422)
    for place in ("before", "checkpoint"):
        inner = {place: {**third, "checkpoint_ns": "inner:1"}}
        refused = await problem(await api.http.post(path, json=inner), 422)
        assert "'checkpoint_ns'" in refused["detail"]
    await problem(await api.http.post(path, json={"before": "nothing"}), 404)


async def test_the_history_is_searched_by_metadata(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    await api.stream("tell 1", thread_id=thread)
    run = (await api.stream("tell 1", thread_id=thread))[0]["run_id"]
    history = await sdk.threads.get_history(thread)
    asked = {"run_id": run, "source": "loop"}
    found = await sdk.threads.get_history(thread, metadata=asked)
    assert found == [
        state for state in history if (state["metadata"] or {}).items() >= asked.items()
    ]
    assert 0 < len(found) < len(history)


async def test_a_state_has_the_states_of_subgraphs_if_they_are_asked_for(
    thread: str,
) -> None:
    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": interrupt("Which?")}

    inner = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile()
    outer = StateGraph(MessagesState).add_node("inner", inner).add_edge(START, "inner")
    graph = outer.compile(checkpointer=InMemorySaver())
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    await graph.ainvoke({"messages": []}, config)
    (task,) = state_view(await graph.aget_state(config))["tasks"]
    assert task["state"] is None
    assert task["checkpoint"]["checkpoint_ns"] == f"{task['name']}:{task['id']}"
    (task,) = state_view(await graph.aget_state(config, subgraphs=True))["tasks"]
    check_state(task["state"], thread)
    assert task["state"]["checkpoint"] == task["checkpoint"]
    assert task["checkpoint"]["checkpoint_ns"] == f"{task['name']}:{task['id']}"


async def test_a_page_of_the_history_ends_behind_four_mebibytes(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    await sdk.threads.create(thread_id=thread)
    for _ in range(3):
        given = {"messages": ["x" * 450_000, "tell 1"]}
        await sdk.runs.wait(thread, "agent", input=given)
    every = [state["checkpoint"] for state in await pages_by_one(sdk, thread)]
    path, before, found = f"/threads/{thread}/history", None, []
    pages = 0
    while page := await sdk.threads.get_history(thread, limit=1000, before=before):
        before = page[-1]["checkpoint"]
        found += [state["checkpoint"] for state in page]
        pages += 1
    assert found == every
    assert pages > 1
    answer = await api.http.get(path, params={"limit": 1000})
    assert 3 << 20 < len(answer.content) <= (4 << 20) + 1000
    place = answer.headers["x-pagination-next"]
    assert place == answer.json()[-1]["checkpoint_id"]
    for left in (
        await api.http.post(path, json={"limit": 1000, "before": place}),
        await api.http.get(path, params={"limit": 1000, "before": place}),
    ):
        assert left.json()[0]["checkpoint"] == every[len(answer.json())]
    few = await api.http.get(path, params={"limit": 2})
    assert "x-pagination-next" not in few.headers

    # So does what a search finds, with the states.
    others = [f"{thread}-{number}" for number in range(5)]
    for other in others:
        await sdk.threads.create(thread_id=other, metadata={"of": thread})
        given = {"messages": ["x" * 1_000_000, "tell 1"]}
        await sdk.runs.wait(other, "agent", input=given)
    asked = {"metadata": {"of": thread}, "sort_order": "asc"}
    answer = await api.http.post("/threads/search", json=asked)
    ids = [each["thread_id"] for each in answer.json()]
    assert ids == others[: len(ids)]
    assert answer.headers["x-pagination-next"] == str(len(ids)) == "4"
    assert answer.headers["x-pagination-total"] == "5"
    (last,) = await sdk.threads.search(metadata={"of": thread}, sort_order="asc", offset=4)
    assert last["thread_id"] == others[4]


async def pages_by_one(sdk: LangGraphClient, thread: str) -> list[Any]:
    """The history, state by state."""
    states: list[Any] = []
    before = None
    while page := await sdk.threads.get_history(thread, limit=1, before=before):
        states += page
        before = page[-1]["checkpoint"]
    return states


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────


async def test_runs_are_listed_by_number_and_found(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    ids = [
        (await api.stream("tell 1", thread_id=thread, metadata={"number": number}))[0]["run_id"]
        for number in range(5)
    ][::-1]
    listed = await sdk.runs.list(thread)
    assert [run["run_id"] for run in listed] == ids
    assert [run["metadata"] for run in listed] == [{"number": number} for number in range(5)][::-1]
    for run in listed:
        assert run.keys() == RUN_FIELDS
        assert run == await sdk.runs.get(thread, run["run_id"])
        assert (run["thread_id"], run["status"]) == (thread, "success")
        assert run["assistant_id"] == assistant_id_of("agent")
        assert datetime.fromisoformat(str(run["created_at"])).tzinfo is not None

    path = f"/threads/{thread}/runs"
    page = await api.http.get(path, params={"limit": 2, "offset": 1})
    assert [run["run_id"] for run in page.json()] == ids[1:3]
    assert page.headers["x-pagination-next"] == "3"
    last = await api.http.get(path, params={"limit": 2, "offset": 3})
    assert [run["run_id"] for run in last.json()] == ids[3:]
    assert "x-pagination-next" not in last.headers
    for wrong in ({"limit": 0}, {"offset": -1}, {"offset": 10_001}, {"status": "cancelled"}):
        await problem(await api.http.get(path, params=wrong), 422)
    await problem(await api.http.get(f"/threads/{thread}-other/runs"), 404)
    await problem(await api.http.get(f"/threads/{thread}-other/runs/{ids[0]}"), 404)


async def test_a_page_of_runs_ends_behind_four_mebibytes(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    await sdk.threads.create(thread_id=thread)
    ids: list[str] = []
    for _ in range(6):
        given = {"messages": "x" * 900_000}
        run = await sdk.runs.create(thread, "agent", input=given, after_seconds=3600)
        ids.insert(0, run["run_id"])
    path = f"/threads/{thread}/runs"
    page = await api.http.get(path, params={"limit": 1000})
    assert len(page.content) <= 4 << 20
    assert [run["run_id"] for run in page.json()] == ids[:4]
    assert page.headers["x-pagination-next"] == "4"
    assert [run["run_id"] for run in await sdk.runs.list(thread, offset=4)] == ids[4:]
    await sdk.runs.cancel_many(thread_id=thread, status="pending")


async def test_a_run_that_waits_its_turn_shows_what_it_was_given(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    await sdk.threads.create(thread_id=thread)
    given: Any = {"messages": "tell 1"}
    config: Any = {"metadata": {"b": 2}}
    made = await sdk.runs.create(
        thread, "agent", input=given, metadata={"a": 1}, config=config, after_seconds=3600
    )
    assert (made["status"], made["metadata"]) == ("pending", {"a": 1})
    assert made["kwargs"] == {"input": given, "config": config}  # type: ignore[typeddict-item]
    assert made == await sdk.runs.get(thread, made["run_id"])
    assert [made] == await sdk.runs.list(thread)
    (listed,) = await api.runs(thread)
    assert (listed["status"], listed["metadata"]) == ("pending", {"a": 1})

    # From then on the thread belongs to its agent, and is found by that.
    of_agent = {"graph_id": "agent", "assistant_id": assistant_id_of("agent")}
    assert (await sdk.threads.get(thread))["metadata"] == of_agent
    found = await sdk.threads.search(ids=[thread], metadata=of_agent)
    assert [each["status"] for each in found] == ["idle"]
    with pytest.raises(UnprocessableEntityError, match="belongs to the agent 'agent'"):
        await sdk.runs.create(thread, "foreign", input=given, after_seconds=3600)
    assert [made] == await sdk.runs.list(thread)
    await sdk.runs.cancel_many(thread_id=thread, status="pending")


async def test_runs_have_the_statuses_that_langgraph_knows(
    sdk: LangGraphClient, api: Api, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    (paused,) = await sdk.runs.list(thread)
    assert paused["status"] == "success"
    assert await sdk.runs.list(thread, status="success") == [paused]
    await api.cancel(f"/threads/{thread}", wait=True)
    (cancelled,) = await sdk.runs.list(thread, status="interrupted")
    assert cancelled["run_id"] == paused["run_id"]
    assert await sdk.runs.list(thread, status="success") == []
    later = await api.run(thread, "tell 1", after_seconds=3600, on_busy="enqueue")
    (pending,) = await sdk.runs.list(thread, status="pending")
    assert (pending["run_id"], pending["multitask_strategy"]) == (later["run_id"], "enqueue")


async def test_a_run_is_started_with_the_graphs_own_input(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    await sdk.threads.create(thread_id=thread)
    said = {"messages": [{"role": "user", "content": "tell 1"}]}
    named: list[Any] = []
    run = await sdk.runs.create(
        thread,
        "agent",
        input=said,
        metadata={"a": 1},
        stream_mode="values",
        durability="async",
        on_run_created=named.append,
    )
    assert run.keys() == RUN_FIELDS
    assert (run["assistant_id"], run["metadata"]) == (assistant_id_of("agent"), {"a": 1})
    assert (run["kwargs"], run["multitask_strategy"]) == ({"input": said}, "enqueue")  # type: ignore[typeddict-item]
    assert named == [{"run_id": run["run_id"], "thread_id": thread}]
    assert (await api.ended(run["run_id"]))["status"] == "success"
    assert await api.last_words(thread) == "word0"

    # By the id that threads and runs show, and after those that go before.
    later = [
        await sdk.runs.create(thread, run["assistant_id"], input={"messages": "tell 2"})
        for _ in range(2)
    ]
    assert [(await api.ended(each["run_id"]))["status"] for each in later] == ["success"] * 2
    assert len((await api.get(f"/threads/{thread}"))["values"]["messages"]) == 6


async def test_a_started_run_names_its_place_and_is_started_once(api: Api, thread: str) -> None:
    body = {"assistant_id": "agent", "input": {"messages": "tell 1"}, "if_not_exists": "create"}
    path, headers = f"/threads/{thread}/runs", {"Idempotency-Key": thread}
    answers = [await api.http.post(path, json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    (run_id,) = {answer.json()["run_id"] for answer in answers}
    place = answers[0].headers["location"]
    assert place == answers[0].headers["content-location"] == f"{path}/{run_id}"
    assert (await api.get(place))["run_id"] == run_id


async def test_a_run_goes_on_from_a_checkpoint(sdk: LangGraphClient, api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    place = (await sdk.threads.get_state(thread))["checkpoint"]
    await api.stream("tell 2", thread_id=thread)
    for form in ({"checkpoint": place}, {"checkpoint_id": place["checkpoint_id"]}):
        run = await sdk.runs.create(thread, "agent", input={"messages": "tell 3"}, **form)  # type: ignore[call-overload]
        assert (await api.ended(run["run_id"]))["status"] == "success"
        values = (await api.get(f"/threads/{thread}"))["values"]
        contents = [message["content"] for message in values["messages"]]
        assert contents == ["tell 1", "word0", "tell 3", "word0 word1 word2"]


async def test_a_run_is_delayed(sdk: LangGraphClient, api: Api, thread: str) -> None:
    await sdk.threads.create(thread_id=thread)
    said = {"messages": "tell 1"}
    run = await sdk.runs.create(thread, "agent", input=said, after_seconds=3600)
    assert run["status"] == "pending"
    assert (await api.get(f"/runs/{run['run_id']}"))["due_at"] is not None
    body = {"assistant_id": "agent", "input": said, "after_seconds": 5}
    for strategy in ("reject", "interrupt", "rollback"):
        await problem(
            await api.http.post(
                f"/threads/{thread}/runs", json={**body, "multitask_strategy": strategy}
            ),
            422,
        )


REFUSED_RUNS: list[tuple[dict[str, Any], str]] = [
    ({"message": "tell 1"}, "'message' is not supported here. Send it to POST /agent/runs."),
    ({"command": {"resume": "yes"}, "after_seconds": 5}, "a 'command' decides, now"),
    ({"command": {}, "input": None}, "'command.resume'"),
    ({"command": {"resume": 1, "goto": "tools"}, "input": None}, "'goto' is not supported here"),
    ({"command": {"goto": ["tools"]}, "input": None}, "'goto' is not supported here"),
    ({"command": {"goto": {"node": "tools"}}, "input": None}, "'goto' is not supported here"),
    ({"command": {"resume": 1, "goto": "__end__"}, "input": None}, "send one of them"),
    ({"command": {"resume": 1, "update": {}}, "input": None}, "'update' is not supported here."),
    ({"webhook": "https://example.com"}, "this server may not send anything"),
    ({"budget": {"tool_calls": 1}}, "'budget' is not supported here."),
    ({"assistant_id": None}, "'assistant_id'"),
    ({"checkpoint": {"checkpoint_ns": "a:1", "checkpoint_id": "c"}}, "'checkpoint_ns'"),
    ({"checkpoint_id": "c", "checkpoint": {"checkpoint_id": "d"}}, "differ"),
    ({"multitask_strategy": "drop"}, "'multitask_strategy'"),
    ({"input": None}, "nothing to do"),
    ({"input": {"decisions": {}}}, "takes no input 'decisions'"),
    ({"interrupt_before": "*"}, "takes no other breakpoints"),
]


@pytest.mark.parametrize(("body", "sentence"), REFUSED_RUNS)
async def test_what_would_be_something_else_starts_no_run(
    api: Api, thread: str, body: dict[str, Any], sentence: str
) -> None:
    await api.http.post("/threads", json={"thread_id": thread})
    given = {"assistant_id": "agent", "input": {"messages": "tell 1"}, **body}
    refused = await api.http.post(f"/threads/{thread}/runs", json=given)
    assert sentence in (await problem(refused, 422))["detail"]
    assert await api.runs(thread) == []


async def test_a_command_decides_what_the_thread_waits_for(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    (asked,) = await api.paused(f"pay {amount}", thread_id=thread)
    run = await sdk.runs.create(thread, "agent", command={"resume": {"type": "approve"}})
    assert run["run_id"] != asked["run_id"]
    await api.ended(run["run_id"])
    assert len(server.traces(f"pay {amount}")) == 1

    again = {"assistant_id": "agent", "command": {"resume": {"type": "reject"}}}
    await problem(await api.http.post(f"/threads/{thread}/runs", json=again), 409)
    assert len(server.traces(f"pay {amount}")) == 1


async def test_words_beside_a_command_are_not_read(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    # CopilotKit sends all that it shows with a decision, and answers that it made up.
    state = await sdk.threads.get_state(thread)
    call = state["values"]["messages"][-1]["tool_calls"][0]
    made_up = {"type": "tool", "tool_call_id": call["id"], "content": "true"}
    said = [*state["values"]["messages"], made_up, {"role": "user", "content": "pay 1"}]
    run = await sdk.runs.create(
        thread, "agent", input={"messages": said}, command={"resume": {"type": "reject"}}
    )
    await api.ended(run["run_id"])
    kinds = [each["type"] for each in (await sdk.threads.get_state(thread))["values"]["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"]
    assert server.traces(f"pay {amount}") == []


async def test_agui_s_agent_for_langgraph_answers_several_questions_and_cancels(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}; pay {amount + 1}", thread_id=thread)
    ((asked,),) = (await sdk.threads.get(thread))["interrupts"].values()
    answer = {"__agui_cancelled__": True, "interrupt_id": asked["id"]}
    run = await sdk.runs.create(thread, "agent", command={"resume": answer})
    await api.ended(run["run_id"])
    assert (await sdk.threads.get(thread))["status"] == "idle"
    assert server.traces(f"pay {amount}") + server.traces(f"pay {amount + 1}") == []

    other = f"{thread}-other"
    await api.paused("Which?; When?", thread_id=other, agent="asking")
    asked_of = (await sdk.threads.get(other))["interrupts"]
    ids = {each["value"]["question"]: each["id"] for (each,) in asked_of.values()}
    answers = {
        ids["Which?"]: {"status": "resolved", "payload": "This one"},
        ids["When?"]: {"status": "resolved", "payload": "Now"},
    }
    resume = {"__agui_resume_map__": answers}
    for unclear in ({}, {ids["Which?"]: "This one"}):
        body = {"assistant_id": "asking", "command": {"resume": {"__agui_resume_map__": unclear}}}
        await problem(await api.http.post(f"/threads/{other}/runs", json=body), 422)
    values = await sdk.runs.wait(other, "asking", command={"resume": resume})
    told = {each["content"] for each in values["messages"][1:]}
    assert told == {"Answers: ['This one']", "Answers: ['Now']"}


async def test_a_run_is_streamed_decided_and_streamed_on(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.http.post("/threads", json={"thread_id": thread})
    said = {"messages": [{"role": "user", "content": f"pay {amount}"}]}
    modes = ["values", "messages-tuple", "updates"]
    parts = [part async for part in sdk.runs.stream(thread, "agent", input=said, stream_mode=modes)]
    assert (parts[0].event, parts[-1].event) == ("metadata", "end")
    (asked,) = parts[-2].data["__interrupt__"]
    (action,) = asked["value"]["action_requests"]
    assert (action["name"], action["args"]) == ("pay", {"amount": amount})
    state = await sdk.threads.get_state(thread)
    assert parts[-2].data == {**state["values"], "__interrupt__": [asked]}
    assert state["interrupts"] == state["tasks"][-1]["interrupts"] == [asked]
    assert [*(await sdk.threads.get(thread))["interrupts"].values()] == [[asked]]

    decided = {asked["id"]: {"decisions": [{"type": "approve"}]}}
    more = [
        part
        async for part in sdk.runs.stream(
            thread, "agent", command={"resume": decided}, stream_mode=modes
        )
    ]
    assert (more[0].event, more[-1].event) == ("metadata", "end")
    assert more[0].data["run_id"] != parts[0].data["run_id"]
    assert len(server.traces(f"pay {amount}")) == 1
    words = "".join(part.data[0]["content"] for part in more if part.event == "messages")
    values = [part.data for part in more if part.event == "values"]
    assert values[-1]["messages"][-1]["content"] in words


async def test_a_run_of_what_is_not_there_is_a_404(api: Api, thread: str) -> None:
    body = {"assistant_id": "agent", "input": {"messages": "tell 1"}}
    await problem(await api.http.post(f"/threads/{thread}/runs", json=body), 404)
    await problem(await api.http.get(f"/threads/{thread}"), 404)
    nobody = {**body, "assistant_id": "nobody", "if_not_exists": "create"}
    await problem(await api.http.post(f"/threads/{thread}/runs", json=nobody), 404)


@pytest.mark.parametrize("agent", ["agent", "chat_agent", "foreign"])
async def test_no_run_goes_on_from_a_pause_without_a_decision(
    api: Api, server: Server, thread: str, amount: int, agent: str
) -> None:
    """To LangGraph, null input on a pause means to go on, also from the checkpoint of the head."""
    await api.paused(f"pay {amount}", thread_id=thread, agent=agent)
    head = (await api.get(f"/threads/{thread}/state"))["checkpoint"]
    for given in (
        {},
        {"input": None},
        {"input": None, "checkpoint": head},
    ):
        body = {"assistant_id": agent, **given}
        await problem(await api.http.post(f"/threads/{thread}/runs", json=body), 409)
    assert len(await api.pending(thread)) == 1
    assert server.traces(f"pay {amount}") == []
