"""Finding what a paused thread waits for, from its checkpoint: in our own agents and in anybody's
graph, at any depth.

A graph waits in one of three ways, and each of its subgraphs does too: before the approval node of
one of our agents, by `interrupt()` (`forms.py` knows how it is asked), or before or after a node by
its own `interrupt_before/after`. To see into subgraphs, the state must have been read with
`subgraphs=True`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from langchain_core.messages import AnyMessage
from langchain_core.tools import BaseTool
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Interrupt, PregelTask, StateSnapshot

from assent.core import events
from assent.core.approval import Approval, ApprovalKind
from assent.core.digest import approval_id_for, call_digest
from assent.core.policy import Policy, plain_policy
from assent.graph.builder import APPROVAL_NODE, ASK_NODE
from assent.graph.gate import Gate
from assent.graph.interrupts.forms import Form, question_json, read_interrupt
from assent.graph.kinds import Agent, gate_of
from assent.graph.state import AgentState, messages_in, open_calls
from assent.graph.stream.jsonable import event_json
from assent.graph.stream.media import without_bytes

PATH = "|"
"""Between the names of a node in a subgraph and the nodes around it. LangGraph allows it in no
name."""


@dataclass(frozen=True, slots=True)
class Level:
    """A graph, its state, the nodes around it, and the subgraphs that its tasks are in, by task
    id."""

    graph: Agent
    snapshot: StateSnapshot
    path: tuple[str, ...]
    inner: Mapping[str, Level]

    @property
    def namespace(self) -> str:
        """The subgraph's checkpoint namespace; "" for the graph itself."""
        return str(self.snapshot.config["configurable"].get("checkpoint_ns", ""))

    @property
    def gate(self) -> Gate | None:
        """The gate, if the graph is an agent of `build_hitl_agent`."""
        return gate_of(self.graph)

    def node(self, name: str) -> str:
        """A node of this graph, with the nodes around it."""
        return PATH.join((*self.path, name))

    def walk(self) -> Iterator[Level]:
        """This graph, and all within."""
        yield self
        for level in self.inner.values():
            yield from level.walk()


def levels_of(agent: Agent, snapshot: StateSnapshot, path: tuple[str, ...] = ()) -> Level:
    """The graph with the subgraphs in which it is at this moment, as far as the snapshot has their
    states."""
    inside = [task for task in snapshot.tasks if isinstance(task.state, StateSnapshot)]
    graphs = subgraphs_of(agent) if inside else {}
    inner: dict[str, Level] = {}
    for task in inside:
        if task.name in graphs and isinstance(task.state, StateSnapshot):
            inner[task.id] = levels_of(graphs[task.name], task.state, (*path, task.name))
    return Level(agent, snapshot, path, inner)


def subgraphs_of(agent: Agent) -> dict[str, Agent]:
    """The state graphs that are, or are called by, nodes of this graph, by the node's name."""
    return {
        name: graph
        for name, graph in agent.get_subgraphs()
        if isinstance(graph, CompiledStateGraph)
    }


# ── finding ───────────────────────────────────────────────────────────────────────────────────────


def find_pending(agent: Agent, snapshot: StateSnapshot, *, pause: str = "") -> list[Approval]:
    """The approvals that a thread in this state waits for; empty if it waits for nobody.

    `pause` is the id of the run that paused, if one did: later pauses that ask the same thing have
    approvals of their own. An approval's id is the same each time it is found. Read the snapshot
    with `subgraphs=True`, or static pauses of subgraphs are not seen.
    """
    configurable = snapshot.config["configurable"]
    requested_at = datetime.fromtimestamp(0, UTC)
    if snapshot.created_at:
        requested_at = datetime.fromisoformat(snapshot.created_at)
    finder = _Finder(
        thread_id=str(configurable["thread_id"]),
        pause=pause,
        checkpoint_id=str(configurable.get("checkpoint_id", "")),
        requested_at=requested_at,
    )
    return finder.waiting(levels_of(agent, snapshot))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finder:
    """Finds what one thread waits for at one checkpoint."""

    thread_id: str
    pause: str
    checkpoint_id: str
    requested_at: datetime

    def waiting(self, level: Level) -> list[Approval]:
        """The approvals of a graph and its subgraphs. While a task of a graph waits, the graph is
        past its own static pause."""
        inside: list[Approval] = []
        for task in level.snapshot.tasks:
            inside += self._in_task(level, task)
        return inside or self._before_nodes(level)

    def _in_task(self, level: Level, task: PregelTask) -> list[Approval]:
        within = self.waiting(level.inner[task.id]) if task.id in level.inner else []
        # LangGraph reports the interrupts of a subgraph at the node around it too.
        known = {approval.interrupt_id for approval in within}
        own: list[Approval] = []
        for interrupt in task.interrupts:
            if interrupt.id not in known:
                own += self._of_interrupt(level, task, interrupt)
        return within + own

    def _of_interrupt(
        self, level: Level, task: PregelTask, interrupt: Interrupt
    ) -> Iterator[Approval]:
        form = read_interrupt(interrupt.value, interrupt.response_schema)
        messages = messages_in(level.snapshot.values)
        turn, _ = open_calls(messages)
        call_ids = _call_ids(form, messages)
        # A question of a subgraph has the same digest whether the subgraph's state was read or not.
        outermost = (*level.path, task.name)[0]
        for position, question in enumerate(form.questions):
            call_id = call_ids[position]
            digest = call_digest(question.tool or outermost, question.args)
            parts = {"interrupt": interrupt.id, "digest": digest}
            if position:
                parts["position"] = str(position)
            node, schema = level.node(task.name), question.schema
            if question.message_id:
                # It is asked again, by another interrupt, if some other call was decided.
                parts = {"message": question.message_id, "call": call_id, "digest": digest}
                parts["namespace"] = question.namespace
                node = PATH.join((node, APPROVAL_NODE))
                if level.gate is not None and task.name == ASK_NODE:
                    # The agent is seen, and its tool itself checks an edit.
                    node, schema = level.node(APPROVAL_NODE), None
            if question.kind is ApprovalKind.UNKNOWN_OUTCOME:
                parts["attempt"] = str(interrupt.value["attempt"])
            preview = question.preview
            if question.description:
                preview = {"description": question.description}
            yield self._approval(
                level,
                parts,
                kind=question.kind,
                tool=question.tool,
                tool_call_id=call_id,
                args=question.args,
                digest=digest,
                allowed=question.allowed,
                preview=preview,
                schema=schema,
                node=node,
                message_id=question.message_id or (turn.id if turn and call_id else None) or "",
                interrupt_id=interrupt.id,
                position=position,
                policy=question.policy,
            )

    def _before_nodes(self, level: Level) -> list[Approval]:
        if level.gate is None:
            return list(self._static_pause(level))
        if APPROVAL_NODE in level.snapshot.next:
            return list(self._gated_calls(level, level.gate))
        return []

    def _gated_calls(self, level: Level, gate: Gate) -> Iterator[Approval]:
        state = cast(AgentState, level.snapshot.values)
        turn, _ = open_calls(state["messages"])
        message_id = (turn.id if turn else None) or ""
        for call in gate.waiting(state):
            policy = gate.rules.policy_for(call)
            call_id = call["id"] or ""
            args = question_json(call["args"])
            digest = call_digest(call["name"], args)
            yield self._approval(
                level,
                {"message": message_id, "call": call_id, "digest": digest, **_place(level)},
                kind=ApprovalKind.TOOL,
                tool=call["name"],
                tool_call_id=call_id,
                args=args,
                digest=digest,
                allowed=policy.allowed if policy else (),
                node=level.node(APPROVAL_NODE),
                message_id=message_id,
                policy=plain_policy(policy) if policy else Policy(),
            )

    def _static_pause(self, level: Level) -> Iterator[Approval]:
        """A static pause carries nothing, so the question is made of the nodes that wait and the
        calls that the last message asks for."""
        nodes = level.snapshot.next
        if not nodes or not (stops_before(level.graph, nodes) or level.graph.interrupt_after_nodes):
            return
        _, waiting = open_calls(messages_in(level.snapshot.values))
        calls = [{"id": call["id"], "name": call["name"], "args": call["args"]} for call in waiting]
        args = question_json({"tool_calls": calls} if calls else {})
        digest = call_digest(", ".join(nodes), args)
        own_checkpoint = str(level.snapshot.config["configurable"].get("checkpoint_id", ""))
        yield self._approval(
            level,
            {"checkpoint": own_checkpoint, "digest": digest, **_place(level)},
            kind=ApprovalKind.NODE,
            args=args,
            digest=digest,
            allowed=("approve", "reject"),
            node=level.node(", ".join(nodes)),
        )

    def _approval(self, level: Level, id_parts: Mapping[str, str], **fields: Any) -> Approval:
        return Approval(
            approval_id=approval_id_for(
                {"thread": self.thread_id, "pause": self.pause, **id_parts}
            ),
            thread_id=self.thread_id,
            run_id=self.pause,
            requested_at=self.requested_at,
            checkpoint_id=self.checkpoint_id,
            namespace=level.namespace,
            **fields,
        )


def _place(level: Level) -> dict[str, str]:
    return {"namespace": level.namespace} if level.namespace else {}


def _call_ids(form: Form, messages: Sequence[AnyMessage]) -> list[str]:
    """The tool call that each question is about: the one it names, or else the next open one of
    this tool and with these arguments; "" if there is none."""
    _, calls = open_calls(messages)
    left = [(call["name"], question_json(call["args"]), call["id"] or "") for call in calls]
    found: list[str] = []
    for question in form.questions:
        call_id = question.tool_call_id
        if question.tool and not call_id:
            for call in left:
                if call[:2] == (question.tool, question.args):
                    call_id = call[2]
                    left.remove(call)
                    break
        found.append(call_id)
    return found


def stops_before(agent: Agent, nodes: Sequence[str]) -> bool:
    """True if the graph pauses by itself before one of these nodes."""
    return agent.interrupt_before_nodes == "*" or bool(
        set(nodes) & set(agent.interrupt_before_nodes)
    )


# ── what was asked with interrupt() ────────────────────────────────────────────────────────────


def interrupts_in(agent: Agent, snapshot: StateSnapshot) -> list[events.Interrupt]:
    """The events of what the tasks of a paused graph, and of the subgraphs that were read with it,
    asked with `interrupt()`. Each is told once, at the innermost task that is known to have
    asked."""
    told: list[events.Interrupt] = []
    known: set[str] = set()
    # The innermost first: LangGraph reports the interrupts of a subgraph at the node around it too.
    for level in reversed(list(levels_of(agent, snapshot).walk())):
        found: list[events.Interrupt] = []
        for task in level.snapshot.tasks:
            new = [each for each in task.interrupts if each.id not in known]
            found += [_told(level, task, interrupt) for interrupt in new]
            known.update(each.id for each in new)
        told = found + told
    return told


def _told(level: Level, task: PregelTask, interrupt: Interrupt) -> events.Interrupt:
    return events.Interrupt(
        node=task.name,
        ns=events.ns_of(level.namespace),
        task_id=task.id,
        interrupt_id=interrupt.id,
        value=without_bytes(event_json(interrupt.value)),
        response_schema=event_json(interrupt.response_schema),
    )


# ── the origin of a question ───────────────────────────────────────────────────────────────────


def graph_of(agent: Agent, node: str) -> Agent | None:
    """The graph that a node is of, given the node with those around it; None if it is not known, as
    for one that a tool has called."""
    graph: Agent | None = agent
    for name in node.split(PATH)[:-1]:
        graph = subgraphs_of(graph).get(name) if graph is not None else None
    return graph


def tool_of(agent: Agent, node: str, tool: str) -> BaseTool | None:
    """The tool of this name in the graph that a node is of; None if it is not known."""
    graph = graph_of(agent, node)
    if graph is None:
        return None
    if (gate := gate_of(graph)) is not None:
        return gate.tools.get(tool)
    for each in graph.nodes.values():
        if isinstance(each.bound, ToolNode) and tool in each.bound.tools_by_name:
            return each.bound.tools_by_name[tool]
    return None
