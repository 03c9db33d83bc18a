"""What people are shown beside a question: the effect of a call, as its tool's policy previews it,
and which arguments the tool takes; or the state that a node of a user's graph is about to see,
which is the graph's own, and bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph._internal._constants import PUSH, TASKS
from langgraph.types import Send, StateSnapshot
from msgspec.structs import replace

from assent.core.approval import Approval, ApprovalKind
from assent.core.json import Json, JsonObject, encode_json
from assent.core.text import shortened
from assent.graph.call_preview import preview_of
from assent.graph.checkpoints import saver_of
from assent.graph.interrupts.forms import question_json
from assent.graph.interrupts.questions import Level, graph_of, levels_of, tool_of
from assent.graph.json_schemas import schema_of_args
from assent.graph.kinds import Agent, gate_of

MAX_CHANNEL_BYTES = 4_000
"""Of one channel as JSON: about a screen. Of a list, the last items that fit are shown: those are
what the node acts on."""

MAX_SENT_BYTES = 8_000
"""Of what nodes are sent by `Send`."""

MAX_BYTES = 16_000
"""Of all channels together. A preview goes into notifications, which have 62 KiB for everything."""


async def with_previews(
    agent: Agent, pending: Sequence[Approval], snapshot: StateSnapshot
) -> list[Approval]:
    """The same approvals, which were found in this state, each with its preview, if it has any, and
    with the schema of a tool's arguments.

    A preview that fails says so and stops nothing.
    """
    return [
        replace(
            each,
            preview=await _preview(agent, each, snapshot),
            schema=_schema(agent, each),
        )
        for each in pending
    ]


def _schema(agent: Agent, approval: Approval) -> JsonObject | None:
    if not approval.is_gated_call or approval.schema is not None:
        return approval.schema
    return schema_of_args(tool_of(agent, approval.node, approval.tool))


def with_problem(approval: Approval, problem: str) -> Approval:
    """The approval with the reason why it is asked again, if there is one, beside its preview."""
    if not problem:
        return approval
    shown = approval.preview
    if shown is None:
        shown = {}
    elif not isinstance(shown, Mapping):
        shown = {"preview": shown}
    return replace(approval, preview={**shown, "problem": problem})


async def preview_of_args(agent: Agent, approval: Approval, args: JsonObject) -> Json:
    """What the policy of the approval's tool shows of a call with other arguments; None if it shows
    nothing, or is not known here."""
    gate = gate_of(graph_of(agent, approval.node))
    policy = gate.rules.policy_of(approval.tool) if gate else None
    return None if policy is None else await preview_of(policy, args)


async def _preview(agent: Agent, approval: Approval, snapshot: StateSnapshot) -> Json:
    if approval.interrupt_id:
        # It has brought its own.
        return approval.preview
    if not approval.tool:
        return await _state_preview(agent, approval, snapshot)
    if approval.kind is not ApprovalKind.TOOL:
        return approval.preview
    return await preview_of_args(agent, approval, approval.args)


# ── the state that a node sees ────────────────────────────────────────────────────────────────────


async def _state_preview(agent: Agent, approval: Approval, snapshot: StateSnapshot) -> Json:
    """What the waiting nodes are about to see. If it has no JSON form, that says so and stops
    nothing."""
    levels = levels_of(agent, snapshot).walk()
    level = next(each for each in levels if each.namespace == approval.namespace)
    try:
        sent = await _sent(agent, level)
        # In a thread, since the state may be large.
        return await asyncio.to_thread(state_preview, level, sent)
    except Exception as error:
        return {"unavailable": f"The state cannot be shown: {type(error).__name__}."}


async def _sent(agent: Agent, level: Level) -> list[Send]:
    """What the waiting nodes are called with by `Send`: they see that, and not the state."""
    paths = [task.path for task in level.snapshot.tasks]
    places = [path[1] for path in paths if path[0] == PUSH and isinstance(path[1], int)]
    if not places:
        return []
    saver, config = saver_of(agent), level.snapshot.config
    try:
        saved = await saver.aget_tuple(config)
    except NotImplementedError:
        saved = await asyncio.to_thread(saver.get_tuple, config)
    sends = saved.checkpoint["channel_values"].get(TASKS, []) if saved else []
    return [sends[place] for place in places]


def state_preview(level: Level, sent: Sequence[Send] = ()) -> JsonObject:
    """`{"state": {channel: value}}` with the channels that the waiting nodes of this graph read,
    and under `sent` what they are `sent`. `left_out` names the channels for which there is no
    room."""
    calls = [
        {"node": each.node, "input": _bounded(_without_state(each.arg), MAX_CHANNEL_BYTES)}
        for each in sent
    ]
    preview: JsonObject = {"sent": _last_items(calls, MAX_SENT_BYTES)} if calls else {}
    values = level.snapshot.values
    if not isinstance(values, Mapping):
        return {"state": _bounded(values, MAX_CHANNEL_BYTES), **preview}
    state: JsonObject = {}
    left_out: list[str] = []
    room = MAX_BYTES - len(encode_json(preview))
    for name in _channels(level):
        if name not in values:
            continue
        shown = _bounded(values[name], MAX_CHANNEL_BYTES)
        room -= len(encode_json(shown))
        if room < 0:
            left_out.append(name)
        else:
            state[name] = shown
    return {"state": state, **preview, **({"left_out": left_out} if left_out else {})}


def _without_state(sent: Any) -> Any:
    """What a node is sent; of a call that langchain's agents send to their tools, without the
    state that they send along."""
    if isinstance(sent, Mapping) and sent.get("__type") == "tool_call_with_context":
        return sent.get("tool_call")
    return sent


def _channels(level: Level) -> list[str]:
    """The channels that the waiting nodes read, each once."""
    names: dict[str, None] = {}
    for node in level.snapshot.next:
        read = level.graph.nodes[node].channels
        names |= dict.fromkeys([read] if isinstance(read, str) else read)
    return list(names)


def _bounded(value: Any, most: int) -> Json:
    if isinstance(value, list | tuple):
        return _last_items(value, most)
    if isinstance(value, str):
        return value if len(value) <= most else shortened(value, most)
    shown = _plain(value)
    text = encode_json(shown).decode()
    return shown if len(text) <= most else shortened(text, most)


def _last_items(items: Sequence[Any], most: int) -> list[Json]:
    shown: list[Json] = []
    room = most
    for item in reversed(items):
        # The last one is always shown, as far as it goes.
        bounded = _bounded(item, most if not shown else room)
        room -= len(encode_json(bounded))
        if shown and room < 0:
            break
        shown.append(bounded)
    earlier = len(items) - len(shown)
    shown.reverse()
    return [f"({earlier} more before these)", *shown] if earlier else shown


def _plain(value: Any) -> Json:
    """The value as JSON; of a message, what it says."""
    if not isinstance(value, BaseMessage):
        return question_json(value)
    said = {"type": value.type, "content": question_json(value.content)}
    calls = [
        {"name": call["name"], "args": question_json(call["args"])}
        for call in getattr(value, "tool_calls", ())
    ]
    return {**said, "tool_calls": calls} if calls else said
