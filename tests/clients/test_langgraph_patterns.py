"""The patterns of "Agentic AI Streaming & Human-in-the-Loop", as programs on our agent, and what is
different: nobody's words are consent."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Annotated, Any, TypedDict

import httpx
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, StateGraph, add_messages
from langgraph.prebuilt import ToolNode

from assent import Approve, Assent, apending_approvals, aresume, build_hitl_agent
from assent.core.errors import ThreadPaused
from assent.demo import ClerkModel, Records, build_clerk
from tests.support.command import REPOSITORY
from tests.support.models import ScriptedModel, call, say
from tests.support.programs import ran, starting
from tests.support.server import free_port
from tests.support.waiting import PATIENCE, until

EXAMPLES = REPOSITORY / "examples" / "langgraph_patterns"
COUNT = "How many records are there?"
DELETE = "Delete all records older than 2015"


def printed(name: str, *arguments: str, folder: Path) -> str:
    """What the example prints."""
    done = ran([EXAMPLES / f"{name}.py", *arguments], folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tokens_are_printed_as_they_come(tmp_path: Path) -> None:
    words = printed("token_streaming", COUNT, folder=tmp_path)
    assert words.startswith("I will count the records.There are 3000 records")
    assert "{" not in words


def test_events_are_those_of_the_model_its_tools_and_our_nodes(tmp_path: Path) -> None:
    lines = printed("event_streaming", COUNT, folder=tmp_path).splitlines()
    events = [json.loads(line) for line in lines]
    kinds = {event["type"] for event in events}
    assert kinds == {
        *("token", "llm_start", "llm_end", "tool_start", "tool_end", "node_start", "node_end")
    }
    text = "".join(event["content"] for event in events if event["type"] == "token")
    assert "There are 3000 records" in text
    (start,) = (event for event in events if event["type"] == "tool_start")
    (end,) = (event for event in events if event["type"] == "tool_end")
    assert (start["tool"], end["tool"]) == ("summarise_records", "summarise_records")
    assert isinstance(start["input"], dict) and 0 < len(end["output"]) <= 200
    nodes = {event["node"] for event in events if event["type"] == "node_start"}
    assert {"agent", "tools", "settle"} <= nodes


def test_state_updates_name_the_keys_of_each_node_and_a_pause(tmp_path: Path) -> None:
    counted = printed("state_updates", COUNT, folder=tmp_path).splitlines()
    assert counted[1] == "[tools] updated keys: ['messages']"
    assert counted[2] == "[settle] updated keys: []"
    paused = printed("state_updates", DELETE, folder=tmp_path).splitlines()
    assert paused[0].startswith("[agent] updated keys: ['messages'")
    assert paused[1:] == ["[__interrupt__] updated keys: []"]


# ── the route ─────────────────────────────────────────────────────────────────────────────────────


def read(stream: str) -> list[dict[str, Any]]:
    """The data of a stream, as a client of the document's route reads it."""
    lines = [line for line in stream.splitlines() if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines]


def hold(events: list[dict[str, Any]]) -> None:
    """The events have what the document's route promises."""
    text = "".join(event["content"] for event in events if event["type"] == "token")
    assert "There are 3000 records" in text
    (start,) = (event for event in events if event["type"] == "tool_start")
    (end,) = (event for event in events if event["type"] == "tool_end")
    assert (start["tool"], end["tool"]) == ("summarise_records", "summarise_records")
    assert "3000" in str(end["output"])
    assert events[-1]["type"] == "done"


BODY = {"message": COUNT, "thread_id": "thread-123"}


async def test_the_route_streams_tokens_and_tools_and_so_does_ours(tmp_path: Path) -> None:
    port = free_port()
    process = starting([EXAMPLES / "sse_route.py", str(port)], folder=tmp_path)
    url = f"http://127.0.0.1:{port}/agent/stream"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:

            async def answers() -> bool:
                try:
                    return (await client.get(url)).status_code == 405
                except httpx.TransportError:
                    return False

            await until(answers)
            response = await client.post(url, json=BODY)
    finally:
        process.send_signal(9)
        process.wait(PATIENCE)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    hold(read(response.text))


async def test_our_own_route_takes_the_same_request_and_sends_the_same_fields(
    tmp_path: Path,
) -> None:
    clerk = build_clerk(await Records.open(tmp_path / "records.db"), ClerkModel(delay=0))
    async with Assent({"clerk": clerk}, database=str(tmp_path / "a.db")) as assent:
        transport = httpx.ASGITransport(assent.app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            response = await client.post("/agent/stream", json=BODY)
    *events, end = read(response.text)
    assert end == {"reason": "done"}
    hold(events)


# ── approvals ─────────────────────────────────────────────────────────────────────────────────────


def test_an_approval_that_nobody_decides_escalates_and_expires_and_nothing_runs(
    tmp_path: Path,
) -> None:
    lines = printed("approval_timeout", "0.5", folder=tmp_path).splitlines()
    asked = "delete_records"
    steps = [line for line in lines if line.endswith(f" {asked}")]
    assert steps == [
        f"approval_required {asked}",
        f"approval_escalated {asked}",
        f"approval_expired {asked}",
    ]
    for told in ("approval_required", "approval_escalated"):
        assert f"{told}: May {asked} run with {{'before_year': 2015}}?" in lines
    assert "The agent waits: interrupted" in lines
    assert any("Nobody decided in time." in line for line in lines)
    with sqlite3.connect(tmp_path / "records.db") as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (3000,)


THREAD: RunnableConfig = {"configurable": {"thread_id": "thread-123"}}


@pytest.mark.parametrize("takes_words", [False, True])
async def test_a_message_that_says_approved_is_consent_only_where_words_are_taken(
    takes_words: bool,
) -> None:
    """ "Resuming After Approval", step by step."""
    deleted: list[int] = []

    @tool
    def delete_tool(before: int) -> str:
        """Delete all records of earlier years."""
        deleted.append(before)
        return "Deleted."

    script = [call("delete_tool", before=2015), say("Done.")]
    graph = build_hitl_agent(
        ScriptedModel(script=script),
        [delete_tool],
        approve=["delete_tool"],
        checkpointer=InMemorySaver(),
        chat_decisions=takes_words,
    )
    result = await graph.ainvoke(
        {"messages": [HumanMessage(content="Delete all old records")]}, config=THREAD
    )
    assert result["messages"][-1].tool_calls[0]["name"] == "delete_tool"
    result = await graph.ainvoke({"messages": [HumanMessage(content="Approved")]}, config=THREAD)
    if takes_words:
        assert deleted == [2015]
        assert result["messages"][-1].text == "Done."
        return
    assert deleted == []
    assert len(await apending_approvals(graph, THREAD)) == 1
    result = await aresume(graph, THREAD, Approve())
    assert deleted == [2015]
    assert result["messages"][-1].text == "Done."


class AgentState(TypedDict):
    messages: Annotated[list[BaseMessage], add_messages]
    iteration_count: int


async def test_a_graph_that_stops_before_its_approval_node_is_asked_about_when_served(
    tmp_path: Path,
) -> None:
    """The document's own `build_hitl_agent`, without a checkpointer: that is the server's."""

    @tool
    def delete_tool(before: int) -> str:
        """Delete all records of earlier years."""
        raise AssertionError("Nobody has approved it.")

    tools = [delete_tool]
    llm = ScriptedModel(script=[call("delete_tool", before=2015), say("Done.")])

    async def agent_node(state: AgentState) -> dict[str, Any]:
        response = await llm.bind_tools(tools).ainvoke(state["messages"])
        return {
            "messages": [response],
            "iteration_count": state.get("iteration_count", 0) + 1,
        }

    async def approval_node(state: AgentState) -> dict[str, Any]:
        last_message = state["messages"][-1]
        if "approved" in last_message.text.lower():
            return {}
        return {"messages": [AIMessage(content="Action cancelled by user.")]}

    def should_continue(state: AgentState) -> str:
        last = state["messages"][-1]
        return "approval" if isinstance(last, AIMessage) and last.tool_calls else END

    graph = StateGraph(AgentState)
    graph.add_node("agent", agent_node)
    graph.add_node("approval", approval_node)
    graph.add_node("tools", ToolNode(tools))
    graph.set_entry_point("agent")
    graph.add_conditional_edges("agent", should_continue, ["approval", END])
    graph.add_edge("approval", "tools")
    graph.add_edge("tools", "agent")
    agent = graph.compile(interrupt_before=["approval"], name="theirs")

    async with Assent({"theirs": agent}, database=str(tmp_path / "a.db")) as assent:
        result = await assent.invoke("Delete all old records", user="ann", thread_id="t")
        assert result.status == "interrupted"
        with pytest.raises(ThreadPaused):
            await assent.invoke("Approved", user="ann", thread_id="t")
        (approval,) = await assent.approvals(thread_id="t")
        assert (approval.kind, approval.node) == ("node", "approval")
