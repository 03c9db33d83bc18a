"""What a paused run asks, in the words of LangGraph's clients.

They know one way to be asked: an interrupt with an id and a value. What a graph's own code asked by
`interrupt()` is such a one already. Everything else that a run waits for (the calls that a gate
holds back, static breakpoints, budgets, lost calls) has no interrupt in the graph, and is shown as
one more: a `HITLRequest` of langchain's, with an action for each approval, in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol

from assent.core.json import Json, JsonObject


class Asked(Protocol):
    """An approval that is pending, or the event with which it began."""

    @property
    def approval_id(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def tool(self) -> str: ...

    @property
    def tool_call_id(self) -> str: ...

    @property
    def node(self) -> str: ...

    @property
    def allowed(self) -> tuple[str, ...]: ...

    @property
    def schema(self) -> Json: ...

    @property
    def args(self) -> Json: ...

    @property
    def digest(self) -> str: ...

    @property
    def preview(self) -> Json: ...

    @property
    def expires_at(self) -> datetime | None: ...

    @property
    def interrupt_id(self) -> str | None: ...


def pause_id(run_id: str) -> str:
    """The id of the interrupt that stands for what the run waits for, beside its graph's own: 32
    hex digits, as LangGraph's are."""
    return sha256(f"assent:pause:{run_id}".encode()).hexdigest()[:32]


def without_interrupt(asked: Iterable[Any]) -> list[Any]:
    """The approvals that no interrupt of the graph asks."""
    return [each for each in asked if not each.interrupt_id]


def pause_interrupt(run_id: str, asked: Sequence[Asked]) -> JsonObject | None:
    """The interrupt that asks for these approvals, as far as the graph has none for them; None if
    it has one for each."""
    left: list[Asked] = without_interrupt(asked)
    if not left:
        return None
    return {"id": pause_id(run_id), "value": hitl_request(left)}


def hitl_request(asked: Sequence[Asked]) -> JsonObject:
    """The approvals as langchain's `HITLRequest`. agent-inbox reads the arguments as `arguments`,
    langchain's own clients as `args`."""
    actions: list[JsonObject] = []
    reviews: list[JsonObject] = []
    for each in asked:
        name, args = _name(each), _args(each)
        actions.append({"name": name, "args": args, "arguments": args, **_description(each)})
        reviews.append({"action_name": name, "allowed_decisions": list(each.allowed)})
    return {"action_requests": actions, "review_configs": reviews}


def _name(asked: Asked) -> str:
    return asked.tool or asked.node or asked.kind


def _args(asked: Any) -> JsonObject:
    """The arguments as they stand now. A question that has none of its own names its value."""
    args = asked.current_args if hasattr(asked, "current_args") else asked.args
    if isinstance(args, dict):
        return args
    return {} if args is None else {"value": args}


def _description(asked: Asked) -> JsonObject:
    preview = asked.preview
    text = preview.get("description") if isinstance(preview, dict) else None
    return {"description": text} if isinstance(text, str) else {}
