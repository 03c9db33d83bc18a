"""Giving each answer to the question that it is for, when a node that has asked runs again.

LangGraph keeps the answers of a task in a list, and hands them out by position: the first
`interrupt()` gets the first answer. But tools that run side by side in one task need not come to
theirs in the same order again, and a node may ask something else than what a person was shown. So:

- In the nodes of `matched(agent)`, a run that knows what was shown (`Shown`) gives an answer only
  to what it was given to, in whatever order that is asked. Anything else is asked.
- Tool calls that go through `ToolCalls` have answers of their own, whatever the calls beside them
  and the node around them ask: `asking_as` gives each of its questions an id that no other call's
  has. The task keeps these answers among its own, and in the nodes of `matched(agent)` nothing else
  is given them.

This rests on internals of LangGraph, which has no public way: the scratchpad of a task, whose
counter says which answer `interrupt()` takes; the writes to RESUME, which are the answers so far;
and the frame of `interrupt()`, which alone knows the question. Where there is no such frame, the
position decides, as LangGraph has it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph._internal._constants import (
    CONFIG_KEY_CHECKPOINT_NS,
    CONFIG_KEY_RESUME_MAP,
    CONFIG_KEY_SCRATCHPAD,
    CONFIG_KEY_SEND,
    RESUME,
)
from langgraph.errors import GraphInterrupt
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.pregel._read import PregelNode
from langgraph.types import Interrupt, _interrupt_id, interrupt

from assent.core.approval import Approval
from assent.core.digest import call_digest
from assent.graph.interrupts.forms import Question, read_interrupt

SHOWN_KEY = "__assent_shown"
"""The key of a run's `Shown` in `config["configurable"]`. LangGraph keeps names that start with
`__` out of checkpoints."""

KEPT_FOR = "interrupt"
"""The key of the interrupt's id in an answer that a task keeps for a tool call."""

OTHER_QUESTION = "It asks something else than what was answered before, so that answer is not used."

Send = Callable[[Sequence[tuple[str, Any]]], None]


# ── what was shown ────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Shown:
    """What people were shown for each answer that a run gives to its graph: `questions`, as digests
    by interrupt id. The run notes here what became of the answers."""

    questions: Mapping[str, str]
    invalid: str = ""
    _taken: set[str] = field(default_factory=set)
    _instead_of: dict[str, set[str]] = field(default_factory=dict)

    def takes(self, interrupt_id: str) -> None:
        """Note that the answer to this one was taken."""
        self._taken.add(interrupt_id)

    def asks_instead(self, interrupt_id: str, others: set[str]) -> None:
        """Note that this was asked while answers to others were there."""
        self._instead_of[interrupt_id] = others

    def problem(self, interrupt_id: str | None) -> str:
        """The reason why a question is asked although there was an answer; "" if there is none."""
        if self.invalid and interrupt_id in self.questions:
            return self.invalid
        others = self._instead_of.get(interrupt_id or "", set())
        return OTHER_QUESTION if others - self._taken else ""


def shown_questions(approvals: Sequence[Approval]) -> dict[str, str]:
    """What these approvals show, as digests by interrupt id."""
    parts: dict[str, list[Approval]] = {}
    for approval in approvals:
        if approval.interrupt_id is not None:
            parts.setdefault(approval.interrupt_id, []).append(approval)
    shown: dict[str, str] = {}
    for interrupt_id, asked in parts.items():
        in_order = sorted(asked, key=lambda approval: approval.position)
        shown[interrupt_id] = _digest(in_order)
    return shown


def _digest(asked: Sequence[Approval | Question]) -> str:
    return call_digest("", [[each.tool, each.args] for each in asked])


def _digest_of_question() -> str | None:
    """The digest of what `interrupt()` asks, given that it has called this; None if it has not."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code is not interrupt.__code__:
        frame = frame.f_back
    if frame.f_code is not interrupt.__code__:
        return None
    return _digest(read_interrupt(frame.f_locals["value"]).questions)


# ── matching ──────────────────────────────────────────────────────────────────────────────────────


class _Answers:
    """The answers of one asker, the interrupt id of each by its place, and what was shown for
    them. `keep` has LangGraph store them all with the task."""

    def __init__(
        self,
        answers: list[Any],
        id_of: Callable[[int], str],
        shown: Shown | None,
        keep: Callable[[], None],
    ) -> None:
        self._answers = answers
        self._id_of = id_of
        self._shown = shown or Shown({})
        self._keep = keep
        self._taken: set[int] = set()
        self._asked = 0
        self._lock = Lock()

    def place(self) -> int:
        """The place of the answer to what `interrupt()` asks now; behind all of them if there is
        none. `interrupt()` calls it in place of LangGraph's counter, from any thread."""
        digest = _digest_of_question() if self._answers else None
        with self._lock:
            position = self._asked
            self._asked += 1
            place = self._place_of(digest, position)
            if place is not None:
                self._taken.add(place)
                self._shown.takes(self._id_of(place))
                return place
            self._ask_instead()
            return len(self._answers)

    def _place_of(self, digest: str | None, position: int) -> int | None:
        """The place of an answer to what has this digest; or by its position, if nobody knows what
        was shown for that, or what is asked."""
        for number, place in enumerate(self._places()):
            shown = self._shown.questions.get(self._id_of(place)) if digest else None
            is_for_this = shown == digest if shown is not None else number == position
            if is_for_this and place not in self._taken:
                return place
        return None

    def _places(self) -> list[int]:
        """The places of the answers that are this asker's. Those that a task keeps for its tool
        calls stand among its own."""
        return [place for place, each in enumerate(self._answers) if not _is_kept(each)]

    def _ask_instead(self) -> None:
        places = set(self._places()) - self._taken
        if places:
            self._shown.asks_instead(self._id_of(len(self._answers)), set(map(self._id_of, places)))
        # LangGraph would store none that has not been taken yet.
        self._keep()


def _in_node(config: RunnableConfig) -> RunnableConfig:
    """The config in which a task's answers go to what they were given to."""
    outer = config.get("configurable", {})
    scratchpad = outer.get(CONFIG_KEY_SCRATCHPAD)
    if scratchpad is None:
        return config
    send: Send = outer[CONFIG_KEY_SEND]
    # Also without any: a tool call within the node puts what it keeps here.
    answers: list[Any] = scratchpad.resume

    def keep() -> None:
        if answers:
            send([(RESUME, list(answers))])

    id_of = partial(_interrupt_id, outer[CONFIG_KEY_CHECKPOINT_NS])
    place = _Answers(answers, id_of, outer.get(SHOWN_KEY), keep).place
    configurable = {
        **outer,
        CONFIG_KEY_SCRATCHPAD: replace(scratchpad, interrupt_counter=place),
        CONFIG_KEY_SEND: _sending(send, keep),
    }
    return {**config, "configurable": configurable}


def _sending(send: Send, keep: Callable[[], None]) -> Send:
    """Sends on what a task writes. `interrupt()` sends the answers up to the one that it takes;
    instead of these, all are kept."""

    def all_answers(writes: Sequence[tuple[str, Any]]) -> None:
        if any(channel == RESUME for channel, _ in writes):
            keep()
        others = [write for write in writes if write[0] != RESUME]
        if others:
            send(others)

    return all_answers


# ── the nodes of a graph ──────────────────────────────────────────────────────────────────────────


def matched(agent: Pregel[Any, Any, Any, Any]) -> Any:
    """The graph with nodes, those of its subgraphs too, in which an answer goes only to what it was
    given to. A graph that is called by a function keeps its own."""
    nodes = {name: _matched_node(node) for name, node in agent.nodes.items()}
    return agent.copy(update={"nodes": nodes})


def _matched_node(node: PregelNode) -> PregelNode:
    inner = node.bound
    if isinstance(inner, CompiledStateGraph):
        node = node.copy({"bound": matched(inner)})
    else:
        node = node.copy({})
    # What a graph of another server asks comes as an interrupt of its node. To read the state, that
    # server is not asked: it may be away.
    node.subgraphs = [each for each in node.subgraphs if isinstance(each, Pregel)]
    if node.node is not None:
        # A cached property, which LangGraph runs.
        node.__dict__["node"] = _Matched(node.node)
    return node


class _Matched(Runnable[Any, Any]):
    """A node that runs in the config of `_in_node`."""

    def __init__(self, node: Runnable[Any, Any]) -> None:
        self._node = node

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return self._node.invoke(input, _in_node(config or {}), **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return await self._node.ainvoke(input, _in_node(config or {}), **kwargs)

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        return self._node.stream(input, _in_node(config or {}), **kwargs)

    def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        return self._node.astream(input, _in_node(config or {}), **kwargs)


# ── one of several in a task ──────────────────────────────────────────────────────────────────────


@contextmanager
def asking_as(config: RunnableConfig, asker: str) -> Iterator[None]:
    """What runs with this config asks as `asker` meanwhile, and gets only answers to that.

    The task keeps the answers of all its askers by interrupt id. The config is changed in place,
    since a `ToolNode` runs its tool with the very one that it has given to the call.
    """
    outer = config.get("configurable", {})
    scratchpad = outer.get(CONFIG_KEY_SCRATCHPAD)
    if scratchpad is None:
        yield
        return

    namespace = outer[CONFIG_KEY_CHECKPOINT_NS]
    id_of = partial(_own_id, namespace, asker)
    of_task: list[Any] = scratchpad.resume
    known = _kept(of_task)
    known.update(outer.get(CONFIG_KEY_RESUME_MAP) or {})
    answers: list[Any] = []
    while id_of(len(answers)) in known:
        answers.append(known[id_of(len(answers))])
    send: Send = outer[CONFIG_KEY_SEND]

    def keep() -> None:
        known.update({id_of(place): answer for place, answer in enumerate(answers)})
        new = known.keys() - _kept(of_task)
        of_task.extend({KEPT_FOR: id.encode(), "answer": known[id]} for id in sorted(new))
        send([(RESUME, list(of_task))])

    place = _Answers(answers, id_of, outer.get(SHOWN_KEY), keep).place
    config["configurable"] = {
        **outer,
        CONFIG_KEY_SCRATCHPAD: replace(scratchpad, interrupt_counter=place, resume=answers),
        CONFIG_KEY_SEND: _sending(send, keep),
    }
    token = var_child_runnable_config.set(config)
    try:
        yield
    except GraphInterrupt as asked:
        langgraphs = _interrupt_id(namespace, len(answers))
        raise GraphInterrupt(
            tuple(
                _renamed(each, id_of(len(answers))) if each.id == langgraphs else each
                for each in (asked.args[0] if asked.args else ())
            )
        ) from None
    finally:
        var_child_runnable_config.reset(token)
        config["configurable"] = outer


def _kept(of_task: Sequence[Any]) -> dict[str, Any]:
    """The answers that a task keeps for its askers, by interrupt id."""
    return {each[KEPT_FOR].decode(): each["answer"] for each in of_task if _is_kept(each)}


def _is_kept(answer: Any) -> bool:
    """True for an answer that a task keeps for a tool call. The id is in bytes, which JSON has not:
    so nobody can give an answer that looks like one to another question."""
    return (
        isinstance(answer, dict)
        and answer.keys() == {KEPT_FOR, "answer"}
        and isinstance(answer[KEPT_FOR], bytes)
    )


def _own_id(namespace: str, asker: str, place: int) -> str:
    """An id that LangGraph takes for one of an interrupt, and gives to none itself."""
    return hashlib.sha256(f"{namespace}|{asker}|{place}".encode()).hexdigest()[:32]


def _renamed(asked: Interrupt, id: str) -> Interrupt:
    return Interrupt(value=asked.value, id=id, response_schema=asked.response_schema)
