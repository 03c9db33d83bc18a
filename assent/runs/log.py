"""What a run says while it runs, and what can be learnt from it: what it has used, and what a crash cut off."""

from __future__ import annotations

from collections.abc import Mapping

from assent.checkpoint.contracts import Lease, Storage
from assent.events import Event, LlmEnd, LlmStart, NodeEnd, NodeError, NodeEvent, NodeStart, Reasoning, Token, ToolCallDelta, ToolStart

LEFT_TYPES = frozenset(
    {"llm_start", "llm_end", "token", "reasoning", "tool_call_delta", "tool_start", "node_start", "node_end", "node_error"}
)
"""The events that `Left` learns from."""


class Usage:
    """What a run has used, in numbers by name: `input_tokens`, `output_tokens`, `total_tokens`, `model_calls`, `tool_calls`, `steps`."""

    def __init__(self, before: Mapping[str, float]) -> None:
        self.numbers = dict(before)
        self._steps: set[int] = set()

    def add(self, event: Event) -> None:
        """Count what the event tells of."""
        kind = type(event)
        if kind is LlmEnd:
            usage = event.usage  # type: ignore[attr-defined]
            self._count("model_calls", 1)
            if usage is not None:
                self._count("input_tokens", usage.input_tokens)
                self._count("output_tokens", usage.output_tokens)
                self._count("total_tokens", usage.total_tokens)
        elif kind is ToolStart:
            self._count("tool_calls", 1)
        elif kind is NodeStart and not event.ns and event.step not in self._steps:  # type: ignore[attr-defined]
            self._steps.add(event.step)  # type: ignore[attr-defined]
            self._count("steps", 1)

    def _count(self, name: str, amount: float) -> None:
        self.numbers[name] = self.numbers.get(name, 0) + amount


class RunLog:
    """Where a run's events go. Emitting is safe from any thread, and raises what the storage could not store before."""

    def __init__(self, storage: Storage, lease: Lease, used: Mapping[str, float]) -> None:
        self._append = storage.append
        self._lease = lease
        self._error: Exception | None = None
        self._usage = Usage(used)

    @property
    def usage(self) -> Mapping[str, float]:
        """What the run has used so far, by name."""
        return self._usage.numbers

    def emit(self, event: Event) -> None:
        """Queue the event for the log."""
        if self._error is not None:
            raise self._error
        self._append((event,), self._failed, self._lease)
        if type(event) is not Token:
            self._usage.add(event)

    def _failed(self, error: Exception) -> None:
        self._error = error


class Left:
    """What a run's events, read from the log in order, tell of it."""

    def __init__(self) -> None:
        self._usage = Usage({})
        self._open: dict[str, dict[str, None]] = {}
        self.failed_node = ""

    def add(self, event: Event) -> None:
        """Learn from the event."""
        self._usage.add(event)
        if isinstance(event, NodeError):
            self.failed_node = event.node
        if isinstance(event, NodeEnd):
            self._open.pop(event.task_id, None)
        elif isinstance(event, LlmStart | Token | Reasoning | ToolCallDelta | LlmEnd):
            self._begun(event, event.message_id)

    def _begun(self, event: NodeEvent, message_id: str) -> None:
        self._open.setdefault(event.task_id, {})[message_id] = None

    @property
    def usage(self) -> Mapping[str, float]:
        """What the run had used, by name."""
        return self._usage.numbers

    @property
    def message_ids(self) -> tuple[str, ...]:
        """The messages that the run had begun to show, and whose node had not ended."""
        return tuple(message_id for ids in self._open.values() for message_id in ids)
