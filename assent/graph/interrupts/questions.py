"""What a paused thread waits for, read from its checkpoint: of our own agents and of anybody's
graph, at any depth.

A graph waits in one of three ways, and each of its subgraphs does too: before the approval node of
one of our agents, by `interrupt()` (`forms.py` knows how it is asked), or before or after a node by
its own `interrupt_before/after`. To see into subgraphs, the state must have been read with
`subgraphs=True`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolCall
from langchain_core.tools import BaseTool
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Interrupt, PregelTask, StateSnapshot

from assent.core.digest import approval_id_for, call_digest
from assent.core.policy import Policy
from assent.core.rows import ApprovalKind
from assent.graph.builder import APPROVAL_NODE, HitlGraph
from assent.graph.gate import Gate
from assent.graph.interrupts.forms import Form, Question, Schema, read_interrupt, to_json
from assent.graph.state import messages_in, open_calls

Agent = CompiledStateGraph[Any, Any, Any, Any]

PATH = "|"
"""Between the names of a node in a subgraph and the nodes around it. LangGraph allows it in no
name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingApproval:
    """One question that waits for a person.

    `args` are exactly what will run (or, for a question of a graph, its value) and `digest` is
    their SHA-256. `preview` is what the tool's policy shows of the effect, and `description` what a
    graph says of its own question. `allowed` are the types of decision it takes. `schema` is what
    an edit's arguments, or the answer to a question of kind `input`, must be. `node` is where it
    waits, in a subgraph with the nodes around it: "outer|inner".

    `policy` is the one that the agent's code gives its tool, if it does.

    Several questions may be of one interrupt: they have its `interrupt_id` and each a `position`,
    and are answered together. `namespace` is the subgraph's, as LangGraph writes it ("" is the
    graph itself).
    """

    approval_id: str
    kind: ApprovalKind
    digest: str
    allowed: tuple[str, ...]
    tool: str = ""
    tool_call_id: str = ""
    args: Any = None
    preview: Any = None
    description: str = ""
    schema: Schema | None = None
    node: str = ""
    message_id: str = ""
    checkpoint_id: str = ""
    interrupt_id: str | None = None
    position: int = 0
    namespace: str = ""
    policy: Policy | None = None


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
        return self.graph.builder.gate if isinstance(self.graph.builder, HitlGraph) else None

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


def find_pending(
    agent: Agent, snapshot: StateSnapshot, *, pause: str = ""
) -> list[PendingApproval]:
    """The approvals that a thread in this state waits for; empty if it waits for nobody.

    Their ids are the same each time they are asked for; `pause` tells apart pauses that ask the
    same thing again. Read the snapshot with `subgraphs=True`: what waits in a subgraph by a static
    pause is not seen without.
    """
    configurable = snapshot.config["configurable"]
    finder = _Finder(
        str(configurable["thread_id"]), pause, str(configurable.get("checkpoint_id", ""))
    )
    return finder.waiting(levels_of(agent, snapshot))


@dataclass(frozen=True, slots=True)
class _Finder:
    thread_id: str
    pause: str
    checkpoint_id: str

    def waiting(self, level: Level) -> list[PendingApproval]:
        """What waits in a graph and within. While a task of a graph waits, the graph is past its
        own static pause."""
        inside = [
            approval for task in level.snapshot.tasks for approval in self._in_task(level, task)
        ]
        return inside or self._before_nodes(level)

    def _in_task(self, level: Level, task: PregelTask) -> list[PendingApproval]:
        within = self.waiting(level.inner[task.id]) if task.id in level.inner else []
        # The questions of a subgraph are its node's too.
        known = {approval.interrupt_id for approval in within}
        own = [
            approval
            for each in task.interrupts
            if each.id not in known
            for approval in self._asked(level, task, each)
        ]
        return within + own

    def _asked(self, level: Level, task: PregelTask, interrupt: Interrupt) -> list[PendingApproval]:
        form = read_interrupt(interrupt.value, interrupt.response_schema)
        turn, _ = open_calls(messages_of(level.snapshot))
        call_ids = _call_ids(form, messages_of(level.snapshot))
        return [
            self._question(level, task, interrupt, question, position, call_ids[position], turn)
            for position, question in enumerate(form.questions)
        ]

    def _question(
        self,
        level: Level,
        task: PregelTask,
        interrupt: Interrupt,
        question: Question,
        position: int,
        call_id: str,
        turn: AIMessage | None,
    ) -> PendingApproval:
        # A question of a subgraph has the same digest whether the subgraph's state was read or not.
        outermost = (*level.path, task.name)[0]
        digest = question.digest or call_digest(question.tool or outermost, question.args)
        # Those of the first positions are named as they were before there were others.
        parts = {
            "interrupt": interrupt.id,
            "digest": digest,
            **({"position": str(position)} if position else {}),
        }
        if question.kind is ApprovalKind.UNKNOWN_OUTCOME:
            parts["attempt"] = str(interrupt.value["attempt"])
        return PendingApproval(
            approval_id=self._id(parts),
            kind=question.kind,
            tool=question.tool,
            tool_call_id=call_id,
            args=question.args,
            digest=digest,
            allowed=question.allowed,
            description=question.description,
            schema=question.schema,
            node=level.node(task.name),
            message_id=(turn.id if turn and call_id else None) or "",
            checkpoint_id=self.checkpoint_id,
            interrupt_id=interrupt.id,
            position=position,
            namespace=level.namespace,
        )

    def _before_nodes(self, level: Level) -> list[PendingApproval]:
        if level.gate is not None:
            return (
                self._gated_calls(level, level.gate) if APPROVAL_NODE in level.snapshot.next else []
            )
        return self._static_pause(level)

    def _gated_calls(self, level: Level, gate: Gate) -> list[PendingApproval]:
        turn, _ = open_calls(level.snapshot.values["messages"])
        message_id = (turn.id if turn else None) or ""
        calls = gate.waiting(level.snapshot.values)  # type: ignore[arg-type]
        return [self._gated(level, gate, call, message_id) for call in calls]

    def _gated(self, level: Level, gate: Gate, call: ToolCall, message_id: str) -> PendingApproval:
        policy = gate.rules.policy_for(call)
        digest = call_digest(call["name"], call["args"])
        return PendingApproval(
            approval_id=self._id(
                {"message": message_id, "call": call["id"] or "", "digest": digest, **_where(level)}
            ),
            kind=ApprovalKind.TOOL,
            tool=call["name"],
            tool_call_id=call["id"] or "",
            args=call["args"],
            digest=digest,
            allowed=policy.allowed if policy else (),
            node=level.node(APPROVAL_NODE),
            message_id=message_id,
            checkpoint_id=self.checkpoint_id,
            namespace=level.namespace,
            policy=policy,
        )

    def _static_pause(self, level: Level) -> list[PendingApproval]:
        """A static pause carries nothing, so the question is made of the nodes that wait and the
        calls that the last message asks for."""
        nodes = level.snapshot.next
        if not nodes or not (stops_before(level.graph, nodes) or level.graph.interrupt_after_nodes):
            return []
        _, calls = open_calls(messages_of(level.snapshot))
        args = (
            {
                "tool_calls": [
                    {"id": call["id"], "name": call["name"], "args": call["args"]} for call in calls
                ]
            }
            if calls
            else {}
        )
        digest = call_digest(", ".join(nodes), args)
        own_checkpoint = str(level.snapshot.config["configurable"].get("checkpoint_id", ""))
        return [
            PendingApproval(
                approval_id=self._id(
                    {"checkpoint": own_checkpoint, "digest": digest, **_where(level)}
                ),
                kind=ApprovalKind.NODE,
                args=args,
                digest=digest,
                allowed=("approve", "reject"),
                node=level.node(", ".join(nodes)),
                checkpoint_id=self.checkpoint_id,
                namespace=level.namespace,
            )
        ]

    def _id(self, parts: Mapping[str, str]) -> str:
        return approval_id_for({"thread": self.thread_id, "pause": self.pause, **parts})


def _where(level: Level) -> dict[str, str]:
    return {"namespace": level.namespace} if level.namespace else {}


def _call_ids(form: Form, messages: Sequence[AnyMessage]) -> list[str]:
    """The tool call that each question is about: the one it names, or else the next open one of
    this tool and with these arguments."""
    _, calls = open_calls(messages)
    left = [(call["name"], to_json(call["args"]), call["id"] or "") for call in calls]
    found = []
    for question in form.questions:
        match = next(
            (call for call in left if question.tool and call[:2] == (question.tool, question.args)),
            None,
        )
        if match is not None and not question.tool_call_id:
            left.remove(match)
        found.append(question.tool_call_id or (match[2] if match else ""))
    return found


def stops_before(agent: Agent, nodes: Sequence[str]) -> bool:
    """Whether a graph pauses by itself before one of these nodes."""
    return agent.interrupt_before_nodes == "*" or bool(
        set(nodes) & set(agent.interrupt_before_nodes)
    )


def messages_of(snapshot: StateSnapshot) -> list[AnyMessage]:
    """The messages in a state; none if it keeps something else under that name."""
    return messages_in(snapshot.values)


# ── previews ──────────────────────────────────────────────────────────────────────────────────────


async def with_previews(agent: Agent, pending: Sequence[PendingApproval]) -> list[PendingApproval]:
    """The same approvals, each with what its tool's policy shows of the effect, or else with its
    graph's description of it.

    A preview that fails says so and stops nothing.
    """
    return [replace(approval, preview=await _preview(agent, approval)) for approval in pending]


async def _preview(agent: Agent, approval: PendingApproval) -> Any:
    graph = graph_of(agent, approval.node)
    policy = (
        graph.builder.gate.rules.policies.get(approval.tool)
        if isinstance(graph.builder, HitlGraph)
        else None
    )
    if policy is None or policy.preview is None or approval.kind is not ApprovalKind.TOOL:
        return {"description": approval.description} if approval.description else None
    try:
        # A copy, so that what is shown stays what will run. In a thread, since a plain function may
        # take its time.
        shown = await asyncio.to_thread(policy.preview, deepcopy(approval.args))
        if inspect.isawaitable(shown):
            shown = await shown
        return to_json(shown)
    except Exception as error:
        return {"unavailable": f"The preview failed with {type(error).__name__}."}


# ── where a question comes from ───────────────────────────────────────────────────────────────────


def graph_of(agent: Agent, node: str) -> Agent:
    """The graph that a node is of, given the node with those around it."""
    for name in node.split(PATH)[:-1]:
        agent = subgraphs_of(agent).get(name, agent)
    return agent


def tool_of(agent: Agent, node: str, tool: str) -> BaseTool | None:
    """The tool of this name in the graph that a node is of; None if it cannot be told."""
    graph = graph_of(agent, node)
    if isinstance(graph.builder, HitlGraph):
        return graph.builder.gate.tools.get(tool)
    for each in graph.nodes.values():
        if isinstance(each.bound, ToolNode) and tool in each.bound.tools_by_name:
            return each.bound.tools_by_name[tool]
    return None
