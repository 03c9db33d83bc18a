"""What a run is doing, folded from its events."""

from __future__ import annotations

from typing import Any

from assent.cli.progress import Work, is_notable, told


def at(second: float, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "ts": f"2026-01-01T00:00:{second:06.3f}Z", **fields}


def test_nodes_and_tools_are_at_work_between_their_events() -> None:
    work = Work()
    events = [
        at(0, "run_start", agent="clerk", run_id="r"),
        at(1, "node_start", node="agent", task_id="1", step=1),
        at(1, "node_start", node="inside", task_id="2", step=1, ns=["agent:1"]),
        at(
            2, "llm_end", task_id="2", ns=["agent:1"], usage={"input_tokens": 3, "output_tokens": 4}
        ),
        at(2, "tool_start", tool="find", tool_call_id="c", input={"a": 1}),
        at(2, "tool_start", tool="find", tool_call_id="d"),
    ]
    assert not work.is_going_on
    for event in events:
        assert work.add(event, now=5) is None
    assert work.is_going_on
    assert [*work.nodes] == ["1"]
    assert [task.name for task in work.tools.values()] == ["find(a=1)", "find()"]

    tool = work.add(end := at(4.5, "tool_end", tool="find", tool_call_id="c"))
    assert tool is not None and tool.seconds(end) == 2.5
    node = work.add(end := at(5, "node_end", node="agent", task_id="1", step=1))
    assert node is not None and told(node, end) == "agent · 4.0 s · 7 tokens"
    assert is_notable(node, end)

    work.add(at(6, "done", usage={"total_tokens": 1200}))
    assert not work.is_going_on and not work.tools
    work.cost = 0.0021
    assert work.totals == "clerk · 1 step · 6.0 s · 1,200 tokens · cost 0.0021"


def test_a_quick_node_without_a_model_is_not_notable() -> None:
    work = Work()
    work.add(at(0, "run_resumed", agent="a"))
    work.add(at(0, "node_start", node="n", task_id="1"))
    node = work.add(end := at(0.2, "node_end", node="n", task_id="1"))
    assert node is not None and not is_notable(node, end)


def test_what_a_crash_cut_off_is_not_at_work_any_more() -> None:
    work = Work()
    work.add(at(0, "run_start", agent="a"))
    work.add(at(0, "node_start", node="n", task_id="1"))
    work.add(at(1, "run_recovered", attempt=2))
    assert work.is_going_on and not work.nodes


def test_events_that_do_not_fit_together_are_no_trouble() -> None:
    work = Work()
    for event in (
        {"type": "tool_end", "tool": "x"},
        {"type": "node_end"},
        {"type": "llm_end", "usage": {}},
        {"type": "done"},
        {"type": "something of a newer server"},
    ):
        assert work.add(event) is None
