"""The frames of LangGraph's stream modes are those that the graph by itself gives in `astream`.

The ids differ, and are numbered as they come. Where the server says something else on purpose, what
the graph says is rewritten here.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from langchain_core.messages import message_chunk_to_message
from langchain_core.messages.base import BaseMessageChunk
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from assent import Assent
from assent.api.views import state_json
from tests.support import streamed_graphs as graphs

SAID = {"messages": [{"role": "user", "content": "Hi.", "id": "h1"}]}
TOPIC = {"topic": "t", "notes": ["0"]}
APPROVED = {"decisions": [{"type": "approve"}]}
GO_ON = {"type": "approve"}

MODES = ("values", "updates", "messages-tuple", "custom", "tasks", "checkpoints", "debug")

Frame = list[Any]
"""The name of a frame, and its data."""


class Case(NamedTuple):
    """A graph, what it is given, and the answers to what it asks. A static pause has no answer for
    LangGraph."""

    make: Callable[[], Any]
    given: Any
    answers: Sequence[Any] = ()


CASES = {
    "an agent with langchain's middleware": Case(graphs.middleware, SAID, [APPROVED]),
    "an agent of ours": Case(graphs.own, SAID),
    "nodes side by side": Case(graphs.side_by_side, TOPIC),
    "tasks that were sent": Case(graphs.sent, TOPIC),
    "a subgraph": Case(graphs.nested, SAID),
    "a static pause": Case(graphs.stopping, TOPIC, [None]),
    "two questions of a node": Case(graphs.asking, TOPIC, ["one", "Ada"]),
    "a question in a subgraph": Case(graphs.asking_inside, TOPIC, ["Ada"]),
    "an error": Case(graphs.failing, TOPIC),
    "a node that is tried again": Case(graphs.retried, SAID),
    "a stream writer": Case(graphs.writing, TOPIC),
    "commands": Case(graphs.commanding, TOPIC),
    "a state that is no object": Case(graphs.listed, ["a"]),
    "messages that are there already": Case(graphs.repeating, SAID),
}
"""Our own agent is only compared up to its pause: LangGraph by itself cannot approve anything."""

STATIC = (graphs.own, graphs.stopping)
"""The graphs with static pauses, at which LangGraph tells nobody what is asked."""


@pytest.fixture
async def http(case: Case, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    database = str(tmp_path / "a.db")
    async with Assent({"agent": case.make()}, database=database) as assent:
        transport = httpx.ASGITransport(assent.app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            await http.post("/threads", json={"thread_id": "t"})
            yield http


async def streamed(http: httpx.AsyncClient, modes: Sequence[str], **asked: Any) -> list[Frame]:
    """The frames of a run but the first and the last, which LangGraph's server adds."""
    body = {
        "assistant_id": "agent",
        "stream_mode": modes,
        "stream_subgraphs": True,
        **asked,
    }
    answer = await http.post("/threads/t/runs/stream", json=body)
    assert answer.status_code == 200, answer.text
    found = re.findall(r"^event: (.*)\ndata: (.*)$", answer.text, re.MULTILINE)
    first, *frames, last = ([name, json.loads(data)] for name, data in found)
    assert first[0] == "metadata"
    assert last == ["end", None]
    return frames


async def of_the_graph(graph: Any, given: Any, modes: Sequence[str], **place: str) -> list[Frame]:
    """What LangGraph streams of a run."""
    config = {"configurable": {"thread_id": "t", **place}}
    real = ["messages" if mode == "messages-tuple" else mode for mode in modes]
    frames: list[Frame] = []
    try:
        async for ns, mode, chunk in graph.astream(
            given, config, stream_mode=real, subgraphs=True, durability="sync"
        ):
            frames.append(["|".join((mode, *ns)), chunk])
    except ValueError as error:
        frames.append(["error", type(error).__name__])
    return frames


def in_messages(frames: Sequence[Frame]) -> list[Frame]:
    """What LangGraph's server makes of messages and their pieces in the mode `messages`: for each
    piece, what there is of the message."""
    so_far: dict[str, Any] = {}
    told: list[Frame] = []
    for name, (message, about) in frames:
        _, *ns = name.split("|")
        if message.id not in so_far:
            told.append(["|".join(("messages/metadata", *ns)), {message.id: {"metadata": about}}])
            so_far[message.id] = message
        else:
            so_far[message.id] += message
        kind = "partial" if isinstance(message, BaseMessageChunk) else "complete"
        whole = message_chunk_to_message(so_far[message.id])
        told.append(["|".join((f"messages/{kind}", *ns)), [whole]])
    return told


# ── what the server says in another way ───────────────────────────────────────────────────────────


def expected(frames: Sequence[Frame]) -> list[Frame]:
    """The frames of the graph as the server tells them."""
    told: list[Frame] = []
    values: dict[str, Any] = {}
    for name, data in json.loads(json.dumps(state_json(frames))):
        mode = name.partition("|")[0]
        if mode == "values" and values.get(name) == data:
            # A state that has not changed is told once.
            continue
        values[name] = data
        if mode == "error":
            data = None
        elif mode == "updates":
            data = {node: _changed(node, update) for node, update in data.items()}
        elif mode == "tasks":
            data = _task(data)
        elif mode == "checkpoints":
            data = _checkpoint(data)
        elif mode == "debug":
            data["payload"] = _of_debug(data)
        told.append([name, _without_schemas(data)])
    return told


def _changed(node: str, update: Any) -> Any:
    """The update without what a subgraph has found: LangGraph tells of its whole state."""
    if node != "inner":
        return update
    update = {channel: value for channel, value in update.items() if channel != "topic"}
    if "messages" in update:
        update["messages"] = [each for each in update["messages"] if each["id"] != "h1"]
    return update


def _task(task: dict[str, Any]) -> dict[str, Any]:
    if "result" in task:
        task["result"] = _changed(task["name"], task["result"])
    # What LangChain says of its agent is no part of the log, and neither is an error's text.
    task.pop("metadata", None)
    if task.get("error"):
        task["error"] = "ValueError"
    return task


def _checkpoint(payload: dict[str, Any]) -> dict[str, Any]:
    # What the thread asked there, and has been answered.
    payload["tasks"] = [{**task, "interrupts": []} for task in payload["tasks"]]
    return payload


def _of_debug(data: dict[str, Any]) -> dict[str, Any]:
    if data["type"] != "checkpoint":
        return _task(data["payload"])
    # As LangGraph's server adds them.
    payload = _checkpoint(data["payload"])
    parent = payload["parent_config"]
    tasks = []
    for task in payload["tasks"]:
        inner = task.pop("state")
        tasks.append(
            {**task, **({"checkpoint": inner["configurable"]} if inner else {"state": None})}
        )
    return {
        **payload,
        "tasks": tasks,
        "checkpoint": payload["config"]["configurable"],
        "parent_checkpoint": parent and parent["configurable"],
    }


def _without_schemas(data: Any) -> Any:
    """LangGraph's server leaves out what an interrupt has not."""
    if isinstance(data, list):
        return [_without_schemas(each) for each in data]
    if not isinstance(data, dict):
        return data
    return {
        name: _without_schemas(value)
        for name, value in data.items()
        if name != "response_schema" or value is not None
    }


def shown(frames: Sequence[Frame]) -> list[Frame]:
    """The server's frames without what only it says."""
    told: list[Frame] = []
    for name, data in frames:
        if name == "error":
            data = None
        if name.startswith("messages") and isinstance(data, list) and data[0]["type"] == "remove":
            # The graph by itself leaves the words of a failed attempt on the screen.
            continue
        told.append([name, data])
    return told


OF_THE_SERVER = frozenset({
    *("assent_requested_by", "assistant_id", "graph_id", "langgraph_auth_user_id", "run_id"),
    *("lc_agent_name", "lc_versions", "ls_integration"),
})  # fmt: skip
"""The metadata of runs on a server, and what LangChain says of its agents. Our own agent counts its
turns in the config, too."""

ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{32}\b|call_[0-9a-f]{24}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)")


def numbered(frames: Sequence[Frame]) -> list[Frame]:
    """The frames with numbers in place of their ids."""
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return numbers.setdefault(found[0], f"#{len(numbers)}")

    texts = [json.dumps(_without_metadata(state_json(frame)), sort_keys=True) for frame in frames]
    told: list[Frame] = []
    # Tools that run side by side end in either order.
    for are_ends, neighbours in groupby(texts, _ends_a_tool):
        for text in sorted(neighbours, key=partial(ID.sub, "#")) if are_ends else neighbours:
            told.append(json.loads(TIME.sub("now", ID.sub(number, text))))
    return told


def _ends_a_tool(text: str) -> bool:
    """True for a frame that tells what a tool has returned."""
    match json.loads(text):
        case [str(), {"tools": _} | {"name": "tools", "result": _}]:
            return True
        case [str(), {"type": "task_result", "payload": {"name": "tools"}}]:
            return True
        case [str(), [{"type": "tool"}, *_]]:
            return True
    return False


def _without_metadata(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_metadata(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_metadata(each)
        for name, each in value.items()
        if name not in OF_THE_SERVER
        and not name.startswith("__assent")
        and not name.startswith("__assent")
    }


def of_mode(frames: Sequence[Frame], *modes: str) -> list[Frame]:
    return [frame for frame in frames if re.split(r"[|/]", frame[0])[0] in modes]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_each_mode_is_told_as_the_graph_itself_tells_it(
    case: Case, http: httpx.AsyncClient
) -> None:
    bare = case.make().copy(update={"checkpointer": InMemorySaver()})
    asked: Mapping[str, Any] = {"input": case.given}
    given = case.given
    for answer in (*case.answers, None):
        of_graph = await of_the_graph(bare, given, MODES)
        of_server = await streamed(http, MODES, **asked)
        for mode in (*MODES, "messages", "error"):
            told = of_mode(of_server, mode)
            if case.make in STATIC and mode in ("values", "updates"):
                told = [frame for frame in told if "__interrupt__" not in frame[1]]
            known = [each for each in of_mode(of_graph, mode) if each[1] != {"__interrupt__": ()}]
            assert numbered(shown(told)) == numbered(expected(known)), mode
        asked = {"command": {"resume": GO_ON if answer is None else answer}}
        given = None if answer is None else Command(resume=answer)


SAID_AGAIN = {"messages": [{"role": "user", "content": "Hello.", "id": "h2"}]}


@pytest.mark.parametrize("case", [Case(graphs.side_by_side, TOPIC), Case(graphs.nested, SAID)])
@pytest.mark.parametrize("back", [0, 1, 2, 3])
@pytest.mark.parametrize("has_input", [False, True])
async def test_a_run_that_goes_back_is_told_as_the_graph_itself_tells_it(
    case: Case, back: int, has_input: bool, http: httpx.AsyncClient
) -> None:
    """With an input the first state has it already: a client shows what it is told, and would take
    what was just said off the screen."""
    bare = case.make().copy(update={"checkpointer": InMemorySaver()})
    await of_the_graph(bare, case.given, MODES)
    await streamed(http, MODES, input=case.given)
    config = {"configurable": {"thread_id": "t"}}
    states = [state async for state in bare.aget_state_history(config)]
    of_server = (await http.get("/threads/t/history")).json()
    place = states[back].config["configurable"]["checkpoint_id"]
    again = SAID_AGAIN if case.given is SAID else TOPIC
    given = again if has_input else None
    modes = ("values", "messages-tuple", "custom")
    frames = await of_the_graph(bare, given, modes, checkpoint_id=place)
    told = await streamed(http, modes, input=given, checkpoint=of_server[back]["checkpoint"])
    for mode in modes:
        assert numbered(of_mode(told, mode)) == numbered(expected(of_mode(frames, mode))), mode


@pytest.mark.parametrize("case", [CASES["nodes side by side"]])
async def test_a_state_that_is_only_written_is_told(case: Case, http: httpx.AsyncClient) -> None:
    await streamed(http, MODES, input=case.given)
    await http.post("/threads/t/state", json={"values": {"topic": "other"}})
    run = (await http.get("/threads/t/runs")).json()[0]["run_id"]
    answer = await http.get(f"/threads/t/runs/{run}/stream", params={"stream_mode": "values"})
    found = re.findall(r"^event: values\ndata: (.*)$", answer.text, re.MULTILINE)
    assert [json.loads(data)["topic"] for data in found] == ["other"]


@pytest.mark.parametrize("case", [CASES["an agent with langchain's middleware"]])
async def test_messages_are_told_as_far_as_they_are_written(
    case: Case, http: httpx.AsyncClient
) -> None:
    bare = case.make().copy(update={"checkpointer": InMemorySaver()})
    given, asked = case.given, {"input": case.given}
    for _ in range(2):
        of_graph = in_messages(await of_the_graph(bare, given, ["messages"]))
        of_server = of_mode(await streamed(http, ["messages"], **asked), "messages")
        assert numbered(of_server) == numbered(expected(of_graph))
        given, asked = Command(resume=APPROVED), {"command": {"resume": APPROVED}}


# ── LangChain's events ────────────────────────────────────────────────────────────────────────────


async def events_of_the_graph(graph: Any, given: Any) -> list[Frame]:
    """What LangChain tells of a run."""
    config = {"configurable": {"thread_id": "t"}}
    return [["events", event] async for event in graph.astream_events(given, config, version="v2")]


def facts(frames: Sequence[Frame]) -> list[Any]:
    """What happened to nodes, models and tools, in their words, without the prompts of models."""
    told = []
    for _, event in frames:
        data, name, tags = event["data"], event["name"], event["tags"]
        node = event["metadata"].get("langgraph_node")
        match event["event"].split("_"):
            case ["on", "chat", "model", phase]:
                whole = data.get("chunk") or data.get("output")
                told.append([phase, node, whole and [whole["content"], whole["tool_calls"]]])
            case ["on", "tool", phase]:
                told.append([f"tool {phase}", node, name, data["input"]])
            case ["on", "custom", "event"]:
                told.append(["custom", node, name, data])
            case ["on", "chain", phase] if any(tag.startswith("graph:step") for tag in tags):
                step = event["metadata"]["langgraph_step"]
                whole = data["input"] if phase == "start" else data.get("chunk", data.get("output"))
                told.append([phase, node, step, whole])
    return told


@pytest.mark.parametrize("case", [Case(graphs.announcing, SAID)])
async def test_events_are_those_of_langchain(case: Case, http: httpx.AsyncClient) -> None:
    bare = case.make().copy(update={"checkpointer": InMemorySaver()})
    of_graph = state_json(await events_of_the_graph(bare, case.given))
    of_server = of_mode(await streamed(http, ["events"], input=case.given), "events")
    assert numbered(facts(of_server)) == numbered(facts(of_graph))
    start, *_, end = (event for _, event in of_server)
    assert (start["event"], end["event"]) == ("on_chain_start", "on_chain_end")
    assert start["run_id"] == end["run_id"]
    assert end["data"]["output"]["messages"][-1]["content"] == "Done it is."
    assert all(event["parent_ids"][0] == start["run_id"] for _, event in of_server[1:-1])


@pytest.mark.parametrize("case", [Case(graphs.announcing, SAID)])
async def test_events_stand_beside_other_modes(case: Case, http: httpx.AsyncClient) -> None:
    frames = await streamed(http, ["events", "updates"], input=case.given)
    assert [*of_mode(frames, "updates"), *of_mode(frames, "events")] == sorted(
        frames, key=lambda frame: frame[0], reverse=True
    )
    nodes = [[*update] for _, update in of_mode(frames, "updates")]
    assert nodes == [["talk"], ["tools"], ["talk"]]
