"""LangGraph's own SDK for Python against the server, in the order in which programs call it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError

from tests.support.server import Api, Server, asking, problem, scripted_agents, serving
from tests.support.waiting import PATIENCE

MODES: Any = ["values", "updates", "messages-tuple"]
APPROVE = {"decisions": [{"type": "approve"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("server")
    with serving(folder, scripted_agents(folder, "agent", "foreign", "asking")) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


@pytest.fixture
async def sdk(server: Server) -> AsyncIterator[LangGraphClient]:
    async with asyncio.timeout(PATIENCE), get_client(url=server.url) as client:
        yield client


def said(text: str) -> Any:
    return {"messages": [{"role": "user", "content": text}]}


async def streamed(
    sdk: LangGraphClient, thread: str, text: str | None = None, **options: Any
) -> list[Any]:
    """The parts of a run's stream."""
    given = {"input": said(text)} if text is not None else {}
    stream = sdk.runs.stream(
        thread, "agent", stream_mode=MODES, if_not_exists="create", **given, **options
    )
    return [part async for part in stream]


def words(values: Any) -> list[Any]:
    return [message["content"] for message in values["messages"]]


# ── waiting and joining ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["approve", "edit", "reject", "respond"])
@pytest.mark.parametrize("named", [True, False], ids=["by id", "bare"])
async def test_a_run_is_waited_for_and_decided(
    sdk: LangGraphClient, server: Server, thread: str, amount: int, kind: str, named: bool
) -> None:
    other = amount + 1_000_000
    answer, done = {
        "approve": ({}, [f"pay {amount}"]),
        "edit": ({"edited_action": {"name": "pay", "args": {"amount": other}}}, [f"pay {other}"]),
        "reject": ({"message": "No."}, []),
        "respond": ({"message": "Paid by hand."}, []),
    }[kind]
    values: Any = await sdk.runs.wait(
        thread, "agent", input=said(f"pay {amount}"), if_not_exists="create"
    )
    (asked,) = values["__interrupt__"]
    (action,) = asked["value"]["action_requests"]
    assert (action["name"], action["args"]) == ("pay", {"amount": amount})
    resume = {"decisions": [{"type": kind, **answer}]}
    more: Any = await sdk.runs.wait(
        thread, "agent", command={"resume": {asked["id"]: resume} if named else resume}
    )
    assert "__interrupt__" not in more
    assert more["messages"][0] == values["messages"][0]
    paid = {f"pay {amount}", f"pay {other}"}
    assert [line for line in server.traces("pay ") if line in paid] == done


async def test_a_run_is_joined_late_and_streamed_again(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    parts = await streamed(sdk, thread, "tell 3")
    assert (parts[0].event, parts[-1].event) == ("metadata", "end")
    run_id = parts[0].data["run_id"]
    joined: Any = await sdk.runs.join(thread, run_id)
    assert words(joined) == ["tell 3", "word0 word1 word2"]
    again = [part async for part in sdk.runs.join_stream(thread, run_id, stream_mode=MODES)]
    assert again == parts
    path = f"/threads/{thread}/runs/{run_id}/stream"
    modes = "?stream_mode=" + '["values","updates","messages-tuple"]'
    middle = len(parts) // 2
    rest = [
        part
        async for part in sdk.runs.join_stream(
            thread, run_id, stream_mode=MODES, last_event_id=parts[middle].id
        )
    ]
    assert rest == parts[middle + 1 :]
    whole = await api.http.get(path + modes, headers={"Last-Event-ID": "-1"})
    assert whole.text.count("event: values") == sum(part.event == "values" for part in parts)
    # A browser that has the end asks no more.
    over = await api.http.get(path, headers={"Last-Event-ID": str(parts[-1].id)})
    assert over.status_code == 204
    await problem(await api.http.get(path + "?stream_mode=colours"), 422)
    await problem(await api.http.get(f"/threads/{thread}/runs/nothing/join"), 404)


async def test_the_error_of_a_run_is_told_to_who_waits(sdk: LangGraphClient, thread: str) -> None:
    told: Any = await sdk.runs.wait(
        thread, "agent", input=said("boom"), if_not_exists="create", raise_error=False
    )
    assert set(told) == {"__error__"}
    assert told["__error__"].keys() == {"error", "message"}
    with pytest.raises(Exception, match=told["__error__"]["error"]):
        await sdk.runs.wait(thread, "agent", input=said("boom"))


async def test_a_thread_is_followed_across_its_runs(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    first = await streamed(sdk, thread, "tell 1")
    heard: list[Any] = []
    async with aclosing(await sdk.threads.join_stream(thread, last_event_id="-1")) as parts:  # type: ignore[type-var]
        async for part in parts:
            heard.append(part)
            if part.event == "metadata" and len(heard) == 1:
                second = asyncio.create_task(streamed(sdk, thread, "tell 2"))
            if part.event == "values" and words(part.data)[-1:] == ["word0 word1"]:
                break
    await second
    started = [part.data["run_id"] for part in heard if part.event == "metadata"]
    assert started == [first[0].data["run_id"], second.result()[0].data["run_id"]]
    # Without an id it begins with what comes next.
    async with api.http.stream("GET", f"/threads/{thread}/stream") as response:
        third = asyncio.create_task(streamed(sdk, thread, "tell 3"))
        told = [line async for line in _until_data(response.aiter_lines())]
    run_id = (await third)[0].data["run_id"]
    assert "event: metadata" in told
    assert run_id in told[-1]


async def _until_data(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        if line.startswith("data:"):
            return


# ── cancelling ────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_cancelled(
    sdk: LangGraphClient, server: Server, thread: str, amount: int
) -> None:
    run = await sdk.runs.create(
        thread, "agent", input=said(f"hold {amount}"), if_not_exists="create"
    )
    await server.until_traced(f"hold {amount}")
    cancelling = asyncio.create_task(sdk.runs.cancel(thread, run["run_id"], wait=True))
    await until_status(sdk, run, "running")
    server.let_go(amount)
    await cancelling
    await until_status(sdk, run, "interrupted")
    told: Any = await sdk.runs.join(thread, run["run_id"])
    assert told["__error__"]["error"] == "UserInterrupt"
    await sdk.runs.cancel(thread, run["run_id"])
    ended = await sdk.runs.create(thread, "agent", input=said("tell 1"))
    await sdk.runs.join(thread, ended["run_id"])
    with pytest.raises(ConflictError):
        await sdk.runs.cancel(thread, ended["run_id"])


async def until_status(sdk: LangGraphClient, run: Any, status: str) -> None:
    while (await sdk.runs.get(run["thread_id"], run["run_id"]))["status"] != status:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("way", ["stream", "wait", "join"])
async def test_a_run_stops_with_its_client_if_that_wants_it(
    sdk: LangGraphClient, server: Server, thread: str, amount: int, way: str
) -> None:
    kept = await sdk.runs.create(
        thread, "agent", input=said(f"hold {amount}"), if_not_exists="create"
    )
    await server.until_traced(f"hold {amount}")
    path, body = f"/threads/{thread}/runs", {"assistant_id": "agent", "input": said("tell 1")}
    options: dict[str, Any] = {"json": {**body, "on_disconnect": "cancel"}}
    method, place = "POST", f"{path}/{way}"
    if way == "join":
        run = await sdk.runs.create(thread, "agent", input=said("tell 1"))
        method, options = "GET", {"params": {"cancel_on_disconnect": True}}
        place = f"{path}/{run['run_id']}/join"
    # The client of other tests would read to the end.
    async with (
        httpx.AsyncClient(base_url=server.url, trust_env=False) as leaving,
        leaving.stream(method, place, **options) as response,
    ):
        left = response.headers["x-run-id"]
    await until_status(sdk, {"thread_id": thread, "run_id": left}, "interrupted")
    assert (await sdk.runs.get(thread, kept["run_id"]))["status"] == "running"
    server.let_go(amount)
    await sdk.runs.join(thread, kept["run_id"])


# ── dropping what is asked ────────────────────────────────────────────────────────────────────────


async def test_what_a_thread_waits_for_is_dropped(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    await streamed(sdk, thread, f"pay {amount}")
    # As agent-chat-ui resolves a thread.
    parts = await streamed(sdk, thread, input={}, command={"goto": "__end__"})
    assert [part.event for part in parts] == ["metadata", "values", "end"]
    assert "__interrupt__" not in parts[1].data
    assert await api.pending(thread) == []
    assert server.traces(f"pay {amount}") == []
    with pytest.raises(ConflictError, match="waits for nothing"):
        await streamed(sdk, thread, command={"goto": "__end__"})
    assert words(await sdk.runs.wait(thread, "agent", input=said("tell 1")))[-1] == "word0"


async def test_typing_instead_of_deciding_drops_what_is_asked(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    """agent-chat-ui and assistant-ui send made-up answers of the tools with what is typed."""
    paused = await streamed(sdk, thread, f"pay {amount}")
    head = (await sdk.threads.get_state(thread))["checkpoint"]
    (call,) = paused[-2].data["messages"][-1]["tool_calls"]
    made_up = {
        "type": "tool",
        "id": "made-up",
        "tool_call_id": call["id"],
        "name": "pay",
        "content": "Successfully handled tool call.",
    }
    typed = {"messages": [made_up, {"type": "human", "content": "tell 1"}]}
    parts = await streamed(sdk, thread, input=typed, checkpoint=head)
    assert words(parts[-2].data)[-1] == "word0"
    assert "Successfully" not in str(parts[-2].data)
    assert await api.pending(thread) == []
    assert server.traces(f"pay {amount}") == []


async def test_the_head_is_no_place_to_go_back_to(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    """The SDK for JavaScript sends the checkpoint that it shows with whatever it asks."""
    await streamed(sdk, thread, "tell 1")
    old = (await sdk.threads.get_state(thread))["checkpoint"]
    await streamed(sdk, thread, f"pay {amount}")
    head = (await sdk.threads.get_state(thread))["checkpoint"]
    with pytest.raises(ConflictError, match="not the last one"):
        await streamed(sdk, thread, command={"resume": APPROVE}, checkpoint=old)
    assert len(await api.pending(thread)) == 1
    parts = await streamed(sdk, thread, command={"resume": APPROVE}, checkpoint=head)
    assert words(parts[-2].data)[:2] == ["tell 1", "word0"]
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


# ── several at once ───────────────────────────────────────────────────────────────────────────────


async def test_the_first_of_two_decisions_counts(
    sdk: LangGraphClient, server: Server, thread: str, amount: int
) -> None:
    await streamed(sdk, thread, f"pay {amount}")
    asked = (await streamed(sdk, f"{thread}-2", f"pay {amount}"))[-2].data["__interrupt__"][0]
    both = await asyncio.gather(
        *(
            streamed(sdk, f"{thread}-2", command={"resume": {asked["id"]: APPROVE}})
            for _ in range(2)
        ),
        return_exceptions=True,
    )
    (late,) = [each for each in both if isinstance(each, BaseException)]
    assert isinstance(late, ConflictError)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


@pytest.mark.parametrize(
    ("strategy", "statuses"),
    [
        ("reject", ["success"]),
        ("enqueue", ["success", "success"]),
        ("interrupt", ["interrupted", "success"]),
        ("rollback", ["interrupted", "success"]),
    ],
)
async def test_a_thread_that_is_busy_takes_another_run(
    sdk: LangGraphClient,
    server: Server,
    thread: str,
    amount: int,
    strategy: Any,
    statuses: list[str],
) -> None:
    await sdk.runs.create(thread, "agent", input=said(f"hold {amount}"), if_not_exists="create")
    await server.until_traced(f"hold {amount}")
    other = sdk.runs.create(thread, "agent", input=said("tell 1"), multitask_strategy=strategy)
    if strategy == "reject":
        with pytest.raises(ConflictError):
            await other
    else:
        await other
    server.let_go(amount)
    for run in await sdk.runs.list(thread):
        await sdk.runs.join(thread, run["run_id"])
    assert [run["status"] for run in await sdk.runs.list(thread)][::-1] == statuses
    values: Any = (await sdk.threads.get_state(thread))["values"]
    assert (f"hold {amount}" in words(values)) is (strategy != "rollback")
    assert (words(values)[-1] == "word0") is (strategy != "reject")


# ── branches ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_made_anew_from_an_earlier_state(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    await streamed(sdk, thread, f"pay {amount}")
    place = (await sdk.threads.get_history(thread))[-1]["checkpoint"]
    # What is asked is dropped, and asked anew: nobody has agreed with it.
    parts = await streamed(sdk, thread, checkpoint=place)
    (asked,) = parts[-2].data["__interrupt__"]
    assert len(await api.pending(thread)) == 1
    assert server.traces(f"pay {amount}") == []
    await streamed(sdk, thread, command={"resume": {asked["id"]: APPROVE}})
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


# ── without a thread ──────────────────────────────────────────────────────────────────────────────


async def test_runs_without_a_thread_get_one_and_are_decided_there(
    sdk: LangGraphClient, server: Server, amount: int
) -> None:
    assert words(await sdk.runs.wait(None, "agent", input=said("tell 2")))[-1] == "word0 word1"
    named: list[Any] = []
    parts = [
        part
        async for part in sdk.runs.stream(
            None,
            "agent",
            input=said(f"pay {amount}"),
            stream_mode=MODES,
            on_run_created=named.append,
        )
    ]
    (asked,) = parts[-2].data["__interrupt__"]
    (created,) = named
    assert server.traces(f"pay {amount}") == []
    await streamed(sdk, created["thread_id"], command={"resume": {asked["id"]: APPROVE}})
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_several_runs_are_started_and_stopped(
    sdk: LangGraphClient, api: Api, server: Server, amount: int
) -> None:
    held, ended = await sdk.runs.create_batch(
        [
            {"assistant_id": "agent", "input": said(f"hold {amount}")},
            {"assistant_id": "agent", "input": said("tell 1")},
        ]
    )
    await server.until_traced(f"hold {amount}")
    await sdk.runs.join(ended["thread_id"], ended["run_id"])
    ids = [held["run_id"], ended["run_id"]]
    await problem(await api.http.post("/runs/cancel", json={"run_ids": [*ids, "nothing"]}), 404)
    assert (await api.get(f"/runs/{held['run_id']}"))["status"] == "running"
    await sdk.runs.cancel_many(run_ids=ids)
    server.let_go(amount)
    await until_status(sdk, held, "interrupted")
    assert (await sdk.runs.get(ended["thread_id"], ended["run_id"]))["status"] == "success"

    queued = [
        await sdk.runs.create(held["thread_id"], "agent", input=said("tell 1"), after_seconds=3600)
        for _ in range(2)
    ]
    await sdk.runs.cancel_many(thread_id=held["thread_id"], status="pending")
    for run in queued:
        await until_status(sdk, run, "interrupted")
    wrong = [{"assistant_id": "agent", "input": said("tell 1")}, {"assistant_id": "nobody"}]
    await problem(await api.http.post("/runs/batch", json=wrong), 404)
    command = {"assistant_id": "agent", "command": {"resume": "yes"}}
    await problem(await api.http.post("/runs", json=command), 422)
    await problem(await api.http.post("/runs/cancel", json={}), 422)
