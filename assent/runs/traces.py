"""Traces for OpenTelemetry: a span for each request, run, node, call of a model or tool, and wait
for a person. This module needs the extra `otel`, and is imported only where traces are asked for.

Spans are made from events, and have their times. A run that goes on after a pause is in the trace
of the paused one, and linked to it, also after a restart: its trace is in its row, and the ids of
runs' spans follow from those of the runs. No span has content: names, ids and numbers only.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, NamedTuple, cast

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from assent.approvals.feed import is_copy
from assent.core.approval import Approval
from assent.core.events import (
    TERMINAL_TYPES,
    ApprovalCancelled,
    ApprovalDecided,
    ApprovalEvent,
    ApprovalExpired,
    ApprovalSuperseded,
    Done,
    Error,
    Event,
    LlmEnd,
    LlmError,
    LlmStart,
    NodeEnd,
    NodeError,
    NodeEvent,
    NodeStart,
    RunCancelled,
    RunPaused,
    RunRecovered,
    RunResumed,
    RunStart,
    ToolEnd,
    ToolError,
    ToolStart,
    event_type,
)
from assent.core.rows import Lease, Run
from assent.core.trace_parent import current_trace_parent, traced_by
from assent.storage.base import Change, Storage
from assent.storage.wrapped import Wrapped

EXPORT_SECONDS: Final = 5
"""The time that the last spans have when the server stops."""

_BEGINS = (RunStart, RunResumed, RunRecovered)
_ENDS = (Done, Error, RunPaused, RunCancelled)
_DECIDES = (ApprovalDecided, ApprovalExpired, ApprovalCancelled, ApprovalSuperseded)
_INNER = (NodeStart, NodeEnd, NodeError, LlmStart, LlmEnd, LlmError, ToolStart, ToolEnd, ToolError)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Attributes = Mapping[str, AttributeValue]


@asynccontextmanager
async def open_traces(exporter: SpanExporter | None = None) -> AsyncIterator[Traces]:
    """Traces that are exported as the variables `OTEL_…` say, or to the `exporter`."""
    ids = _Ids()
    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: "assent"}).merge(Resource.create()),
        id_generator=ids,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    traces = Traces(provider, ids)
    try:
        yield traces
    finally:
        traces.end_all()
        # It waits for the network.
        await asyncio.to_thread(provider.force_flush, EXPORT_SECONDS * 1000)
        await asyncio.to_thread(provider.shutdown)


class _Key(NamedTuple):
    """A span that is open: what it is of, and its id."""

    kind: str
    id: str


class Traces:
    """Makes spans. Its methods may be called from any thread."""

    def __init__(self, provider: TracerProvider, ids: _Ids) -> None:
        self._tracer = provider.get_tracer("assent")
        self._ids = ids
        self._wire = TraceContextTextMapPropagator()
        # By run, since they end with it.
        self._open: dict[str, dict[_Key, Span]] = {}

    def over(self, storage: Storage) -> Storage:
        """The same storage, but what happens in runs also becomes spans."""
        return cast(Storage, _Tracing(storage, self))

    @contextmanager
    def request(
        self, method: str, route: str, headers: Mapping[str, str]
    ) -> Iterator[Callable[[int], None]]:
        """The span of a request, until its answer begins: what is yielded takes the status of
        that. What the request starts meanwhile belongs to it."""
        sent = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        context = self._wire.extract(sent, context=Context())
        attributes = {"http.request.method": method, "http.route": route}
        span = self._tracer.start_span(
            f"{method} {route}", context=context, kind=SpanKind.SERVER, attributes=attributes
        )

        def answered(status: int) -> None:
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                span.set_status(StatusCode.ERROR)

        try:
            with traced_by(_text_of(span.get_span_context())):
                yield answered
        finally:
            span.end()

    def learn(self, events: Sequence[Event]) -> None:
        """Begin and end the spans within runs that these events tell of."""
        for event in events:
            if isinstance(event, _INNER):
                self._learn_inner(event)

    def learn_change(self, change: Change) -> None:
        """Begin and end the spans that the committed change tells of."""
        rows = {row.run_id: row for row in change.rows if isinstance(row, Run)}
        asked = {row.approval_id: row for row in change.rows if isinstance(row, Approval)}
        for event in change.events:
            if is_copy(event):
                continue
            if isinstance(event, _BEGINS) and event.run_id in rows:
                self._begin_run(rows[event.run_id], event)
            elif event_type(event) in TERMINAL_TYPES:
                self._end_run(event)
            elif isinstance(event, _DECIDES) and event.approval_id in asked:
                self._waited(asked[event.approval_id], event, rows)
            elif isinstance(event, _INNER):
                self._learn_inner(event)

    def end_all(self) -> None:
        """End what is open: the next process goes on with it."""
        for run_id in list(self._open):
            for span in reversed(self._open.pop(run_id, {}).values()):
                span.end()

    # ── runs ──────────────────────────────────────────────────────────────────────────────────────

    def _begin_run(self, run: Run, event: RunStart | RunResumed | RunRecovered) -> None:
        if run.run_id in self._open:
            return
        paused = run.input.get("paused_run")
        links = []
        if isinstance(paused, str):
            links.append(Link(_context_of_run(run.trace, run.thread_id, paused)))
        decided_by = current_trace_parent()
        if paused and decided_by is not None and decided_by != run.trace:
            links.append(Link(_parsed(decided_by)))
        own = _context_of_run(run.trace, run.thread_id, run.run_id)
        with self._ids.next_is(own):
            span = self._tracer.start_span(
                f"run {run.agent}",
                context=_under(_parsed(run.trace)) if run.trace else Context(),
                links=links,
                start_time=_nanoseconds(event.ts),
                attributes={
                    "assent.agent": run.agent,
                    "assent.run_id": run.run_id,
                    "assent.thread_id": run.thread_id,
                    "assent.attempt": run.attempt,
                },
            )
        self._open[run.run_id] = {_Key("run", run.run_id): span}

    def _end_run(self, event: Event) -> None:
        spans = self._open.pop(event.run_id, {})
        for key, span in reversed(spans.items()):
            if key.kind == "run":
                span.set_attribute("assent.outcome", event_type(event))
                if isinstance(event, Error):
                    span.set_status(StatusCode.ERROR)
                    span.set_attribute("error.type", event.code)
            span.end(_nanoseconds(event.ts))

    def _waited(self, approval: Approval, event: ApprovalEvent, rows: Mapping[str, Run]) -> None:
        """The wait for a person, which is over: in the trace of the run that asked."""
        # The run that goes on has the trace of the paused one.
        trace = next((row.trace for row in rows.values() if row.trace), None)
        asking = _context_of_run(trace, approval.thread_id, approval.run_id)
        span = self._tracer.start_span(
            f"approval {approval.tool or approval.kind.value}",
            context=_under(asking),
            start_time=_nanoseconds(approval.requested_at),
            attributes={
                "assent.approval_id": approval.approval_id,
                "assent.outcome": approval.status.value,
                "assent.votes": len(approval.votes),
            },
        )
        span.end(_nanoseconds(max(event.ts, approval.requested_at)))

    # ── within runs ───────────────────────────────────────────────────────────────────────────────

    def _learn_inner(self, event: Any) -> None:
        spans = self._open.get(event.run_id)
        if spans is None:
            return
        match event:
            case NodeStart():
                attributes: Attributes = {
                    "assent.step": event.step,
                    "assent.attempt": event.attempt,
                }
                key = _Key("node", event.task_id)
                self._begin(spans, key, f"node {event.node}", event, _around(event), attributes)
            case LlmStart():
                key = _Key("model", event.message_id)
                attributes = {"gen_ai.request.model": event.model}
                self._begin(
                    spans, key, f"model {event.model}".rstrip(), event, _of_node(event), attributes
                )
            case ToolStart():
                key = _Key("tool", event.tool_call_id or event.task_id)
                attributes = {"gen_ai.tool.name": event.tool}
                self._begin(spans, key, f"tool {event.tool}", event, _of_node(event), attributes)
            case NodeEnd():
                self._end(spans, _Key("node", event.task_id), event)
            case NodeError():
                self._end(spans, _Key("node", event.task_id), event, failed=event.error.type)
            case LlmEnd():
                self._end(spans, _Key("model", event.message_id), event, _used(event))
            case LlmError():
                self._end(spans, _Key("model", event.message_id), event, failed=event.error.type)
            case ToolEnd():
                self._end(spans, _Key("tool", event.tool_call_id or event.task_id), event)
            case ToolError():
                key = _Key("tool", event.tool_call_id or event.task_id)
                self._end(spans, key, event, failed=event.error.type)

    def _begin(
        self,
        spans: dict[_Key, Span],
        key: _Key,
        name: str,
        event: Event,
        around: str,
        attributes: Attributes,
    ) -> None:
        outer = spans.get(_Key("node", around)) or next(iter(spans.values()), None)
        if outer is None or key in spans:
            return
        spans[key] = self._tracer.start_span(
            name,
            context=set_span_in_context(outer, Context()),
            start_time=_nanoseconds(event.ts),
            attributes=attributes,
        )

    def _end(
        self,
        spans: dict[_Key, Span],
        key: _Key,
        event: Event,
        attributes: Attributes | None = None,
        failed: str = "",
    ) -> None:
        span = spans.pop(key, None)
        if span is None:
            return
        span.set_attributes(attributes or {})
        if failed:
            span.set_status(StatusCode.ERROR)
            span.set_attribute("error.type", failed)
        span.end(_nanoseconds(event.ts))


class _Tracing(Wrapped):
    def __init__(self, inner: Storage, traces: Traces) -> None:
        super().__init__(inner)
        self._traces = traces

    def append(
        self,
        events: Sequence[Event],
        on_error: Callable[[Exception], None],
        lease: Lease | None = None,
    ) -> None:
        self.inner.append(events, on_error, lease)
        self._traces.learn(events)

    async def commit(self, change: Change) -> tuple[int, ...]:
        numbers = await self.inner.commit(change)
        self._traces.learn_change(change)
        return numbers


# ── ids ───────────────────────────────────────────────────────────────────────────────────────────


class _Ids(RandomIdGenerator):
    """Random ids, but for a span that must have a certain one."""

    def __init__(self) -> None:
        self._next = threading.local()

    @contextmanager
    def next_is(self, context: SpanContext) -> Iterator[None]:
        """While the context is entered, this thread's spans have these ids."""
        self._next.context = context
        try:
            yield
        finally:
            self._next.context = None

    def generate_span_id(self) -> int:
        given: SpanContext | None = getattr(self._next, "context", None)
        return given.span_id if given is not None else super().generate_span_id()

    def generate_trace_id(self) -> int:
        given: SpanContext | None = getattr(self._next, "context", None)
        return given.trace_id if given is not None else super().generate_trace_id()


def _context_of_run(trace: str | None, thread_id: str, run_id: str) -> SpanContext:
    """The ids of the run's span. Runs that no request started are in the trace of their thread."""
    span_id = int.from_bytes(sha256(f"run {run_id}".encode()).digest()[:8])
    if trace is not None:
        parent = _parsed(trace)
        return SpanContext(parent.trace_id, span_id, True, parent.trace_flags)
    trace_id = int.from_bytes(sha256(f"thread {thread_id}".encode()).digest()[:16])
    return SpanContext(trace_id, span_id, True, TraceFlags(TraceFlags.SAMPLED))


def _text_of(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _parsed(trace_parent: str) -> SpanContext:
    _, trace_id, span_id, flags = trace_parent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))


def _under(context: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(context), Context())


# ── events ────────────────────────────────────────────────────────────────────────────────────────


def _nanoseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000


def _around(event: NodeEvent) -> str:
    """The id of the task that the node's graph is; "" at the outermost."""
    return event.ns[-1].rpartition(":")[2] if event.ns else ""


def _of_node(event: NodeEvent) -> str:
    return event.task_id


def _used(event: LlmEnd) -> Attributes:
    usage = event.usage
    if usage is None:
        return {"gen_ai.response.model": event.model}
    return {
        "gen_ai.response.model": event.model,
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
