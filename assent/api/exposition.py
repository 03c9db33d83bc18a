"""The metrics in the text form of Prometheus. Everything is read as it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from assent.api.streams.connections import Connections
from assent.api.streams.transport import Transport
from assent.core.tally import Tally
from assent.runs.metrics import Metrics
from assent.storage.base import Load, Outage


class Exposition(Collector):
    """The metrics of a server: what its process has `metrics` of, its streams, and the `load` of
    its storage; None while that cannot be read."""

    def __init__(
        self,
        metrics: Metrics,
        connections: Connections,
        load: Load | None,
        outage: Outage | None,
        now: datetime,
    ) -> None:
        self._metrics = metrics
        self._connections = connections
        self._load = load
        self._outage = outage
        self._now = now

    def text(self) -> bytes:
        """All of it, with what the system says of the process."""
        # A registry of its own: that of the library is shared with an app that we are a part of.
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._of_storage()
        yield from self._of_runs()
        yield from self._of_streams()
        yield from self._of_process()

    def _of_storage(self) -> Iterator[Metric]:
        away = self._outage.seconds if self._outage is not None else 0.0
        yield _gauge("assent_outage_seconds", "How long the storage has been away, or 0", away)
        load = self._load
        if load is None:
            return
        runs = GaugeMetricFamily("assent_runs", "Runs that have not ended", labels=["status"])
        yield _filled(runs, load.runs)
        yield _gauge("assent_approvals_pending", "Approvals that wait for a person", load.pending)
        oldest = (self._now - load.oldest).total_seconds() if load.oldest is not None else 0.0
        yield _gauge(
            "assent_approval_oldest_seconds", "How long the oldest has waited", max(oldest, 0.0)
        )
        yield _gauge("assent_queue_depth", "Operations that wait to be committed", load.operations)
        yield _histogram("assent_commit_seconds", "The time of a transaction", load.commits)
        yield _histogram("assent_commit_changes", "The operations in a transaction", load.sizes)

    def _of_runs(self) -> Iterator[Metric]:
        metrics = self._metrics
        ended = CounterMetricFamily("assent_runs_ended", "Runs that ended", labels=["status"])
        yield _filled(ended, metrics.runs_ended)
        tokens = CounterMetricFamily(
            "assent_tokens", "Tokens of runs that ended", labels=["agent", "kind"]
        )
        yield _filled(tokens, metrics.tokens)
        cost = CounterMetricFamily(
            "assent_cost", "The cost of runs that ended, by the prices given", labels=["agent"]
        )
        yield _filled(cost, metrics.cost)
        yield _histogram(
            "assent_decision_seconds", "The time from asking to deciding", metrics.decisions
        )

    def _of_streams(self) -> Iterator[Metric]:
        open_now = Counter(connection.transport for connection in self._connections)
        streams = GaugeMetricFamily("assent_streams", "Open streams", labels=["transport"])
        yield _filled(streams, {each.value: open_now[each] for each in Transport})
        yield _gauge(
            "assent_stream_lag_seconds",
            "The longest time for which a byte has waited for its reader",
            max((each.lag for each in self._connections), default=0.0),
        )
        cut = self._connections.cut
        yield CounterMetricFamily("assent_streams_cut", "Readers that took nothing", value=cut)

    def _of_process(self) -> Iterator[Metric]:
        metrics = self._metrics
        requests = CounterMetricFamily(
            "assent_requests", "Requests answered", labels=["method", "route", "status"]
        )
        yield _filled(requests, metrics.requests)
        limited = CounterMetricFamily(
            "assent_limited", "Requests refused with 429", labels=["kind"]
        )
        yield _filled(limited, metrics.limited)
        events = CounterMetricFamily("assent_security_events", "Security events", labels=["event"])
        yield _filled(events, metrics.security_events)
        yield _gauge(
            "assent_executor_waiting",
            "Sync nodes and tools that wait for a thread",
            metrics.waiting_for_threads(),
        )
        if metrics.loop_lag is not None:
            yield _gauge(
                "assent_loop_lag_seconds",
                "The longest time by which the event loop was late in the last minute",
                metrics.loop_lag.worst,
            )


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, numbers: Mapping[Any, float]
) -> Metric:
    """The family with these numbers: each is under the value of its label, or the values of all of
    its labels."""
    for values, number in numbers.items():
        several = values if isinstance(values, tuple) else (values,)
        family.add_metric([*map(str, several)], number)
    return family


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)


def _histogram(name: str, documentation: str, tally: Tally) -> Metric:
    # A copy: the writer's thread may add meanwhile.
    counts, seen = list(tally.counts), 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, tally.bounds), "+Inf"), counts, strict=True):
        seen += count
        buckets.append((bound, seen))
    family = HistogramMetricFamily(name, documentation)
    family.add_metric([], buckets, tally.sum)
    return family
