"""The graph of an agent, as clients draw it."""

from __future__ import annotations

from typing import Any

from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph

from assent.graph.describing import graphs_of


def does_nothing(state: Any) -> Any:
    return {}


def graph_of(nodes: dict[str, Any], **options: Any) -> Any:
    """A graph whose nodes follow each other."""
    graph = StateGraph(MessagesState)
    for before, (name, node) in zip([START, *nodes], nodes.items(), strict=False):
        graph.add_node(name, node)
        graph.add_edge(before, name)
    graph.add_edge([*nodes][-1], END)
    return graph.compile(**options)


async def test_each_graph_is_drawn_where_it_is() -> None:
    inner = graph_of({"x": does_nothing, "y": does_nothing}, interrupt_before=["y"])
    middle = graph_of({"in": inner})
    agent = graph_of({"a": does_nothing, "sub": middle}, interrupt_after=["a"])
    graphs = {tuple(each["path"]): each for each in await graphs_of(agent)}
    assert [*graphs] == [(), ("sub",), ("sub", "in")]
    kinds = {path: [node["kind"] for node in each["nodes"]] for path, each in graphs.items()}
    assert kinds == {
        (): ["start", "node", "subgraph", "end"],
        ("sub",): ["start", "subgraph", "end"],
        ("sub", "in"): ["start", "node", "node", "end"],
    }
    pauses = {
        (*path, node["id"]): node["pauses"]
        for path, each in graphs.items()
        for node in each["nodes"]
        if node["pauses"]
    }
    assert pauses == {("a",): ["after"], ("sub", "in", "y"): ["before"]}


async def test_a_conditional_edge_has_the_name_that_it_is_taken_by() -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("x", does_nothing)
    graph.add_edge(START, "x")
    graph.add_conditional_edges("x", lambda state: "stop", {"again": "x", "stop": END})
    (drawn,) = await graphs_of(graph.compile(interrupt_before=["x"], interrupt_after=["x"]))
    assert drawn["edges"] == [
        {"source": START, "target": "x", "conditional": False, "label": None},
        {"source": "x", "target": END, "conditional": True, "label": "stop"},
        {"source": "x", "target": "x", "conditional": True, "label": "again"},
    ]
    assert [each["pauses"] for each in drawn["nodes"] if each["pauses"]] == [["before", "after"]]


async def test_a_workflow_is_drawn_as_what_it_is() -> None:
    @entrypoint()
    async def work(given: int) -> int:
        return given

    (drawn,) = await graphs_of(work)
    assert "work" in [node["id"] for node in drawn["nodes"]]
