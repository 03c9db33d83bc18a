"""Traces of a real server, as a collector of OpenTelemetry gets them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support import agents
from tests.support.receiver import Receiver, receiving
from tests.support.server import Api, Server, asking, events_of, expect, project_of, serving
from tests.support.waiting import until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"

Spans = dict[str, Any]


def spans_in(receiver: Receiver) -> list[Any]:
    """The spans that the collector has, in the order in which they came."""
    spans = []
    for received in receiver.got:
        request = ExportTraceServiceRequest.FromString(received.body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                spans += scope.spans
    return spans


async def spans_named(receiver: Receiver, *names: str) -> list[Any]:
    """The spans of these names, each the next of its name, once they have come."""

    def found() -> list[Any] | None:
        waiting, seen = list(names), []
        for span in spans_in(receiver):
            if span.name in waiting:
                waiting.remove(span.name)
                seen.append(span)
        by_name = sorted(seen, key=lambda span: names.index(span.name))
        return None if waiting else by_name

    async def come() -> list[Any] | None:
        return found()

    return await until(come)


@asynccontextmanager
async def traced(folder: Path) -> AsyncIterator[tuple[Receiver, Server]]:
    """A server that sends its traces to a collector."""
    async with receiving(Receiver(answer_bytes=0)) as receiver:
        environment = {
            "ASSENT_TRACES": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with serving(folder, project_of(folder, {agents: ("agent",)}), **environment) as server:
            yield receiver, server


async def say(api: Api, text: str, **headers: str) -> str:
    """Say something in the trace of a caller; the thread, once the run is over or pauses."""
    body = {"message": text}
    async with api.http.stream("POST", "/agent/stream", json=body, headers=headers) as response:
        await expect(response, 200)
        return [event async for event in events_of(response)][-1]["thread_id"]


def parent(span: Any) -> str:
    return str(span.parent_span_id.hex())


def attributes(span: Any) -> Spans:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_a_run_has_a_span_for_each_step_in_the_trace_of_its_request(tmp_path: Path) -> None:
    async with traced(tmp_path) as (receiver, server), asking(server) as api:
        thread = await say(api, "look 7", traceparent=f"00-{TRACE}-{CALLER}-01")
        request, run, node, tools, model, tool = await spans_named(
            receiver,
            *("POST /agent/stream", "run agent", "node agent", "node tools"),
            *("model", "tool look"),
        )
        everything = spans_in(receiver)
    ours = (request, run, node, tools, model, tool)
    assert {span.trace_id.hex() for span in ours} == {TRACE}
    assert [parent(span) for span in ours] == [
        CALLER,
        *(request.span_id.hex(), run.span_id.hex(), run.span_id.hex()),
        *(node.span_id.hex(), tools.span_id.hex()),
    ]
    for outer, inner in ((run, node), (node, model), (run, tools), (tools, tool)):
        assert outer.start_time_unix_nano <= inner.start_time_unix_nano
        assert inner.end_time_unix_nano <= outer.end_time_unix_nano
    assert attributes(request)["http.response.status_code"] == 200
    assert attributes(run)["assent.thread_id"] == thread
    assert attributes(run)["assent.outcome"] == "done"
    assert attributes(tool) == {"gen_ai.tool.name": "look"}
    # Names, ids and numbers: nothing of what was said, asked or answered.
    assert not [span for span in everything if "look 7" in str(span) or "amount" in str(span)]


async def test_one_trace_goes_on_over_a_pause_a_restart_and_the_decision(tmp_path: Path) -> None:
    async with traced(tmp_path) as (receiver, server):
        async with asking(server) as api:
            thread = await say(api, "pay 5", traceparent=f"00-{TRACE}-{CALLER}-01")
            request, paused = await spans_named(receiver, "POST /agent/stream", "run agent")
        server.restart()
        receiver.got.clear()
        async with asking(server) as api:
            await api.decided(thread, type="approve")
            decision, wait, resumed, tool = await spans_named(
                receiver, "POST /threads/{id}/resume", "approval pay", "run agent", "tool pay"
            )
    assert {span.trace_id.hex() for span in (paused, wait, resumed, tool)} == {TRACE}
    assert attributes(paused)["assent.outcome"] == "run_paused"
    assert parent(paused) == parent(resumed) == request.span_id.hex()
    links = [(link.trace_id.hex(), link.span_id.hex()) for link in resumed.links]
    assert links == [
        (TRACE, paused.span_id.hex()),
        (decision.trace_id.hex(), decision.span_id.hex()),
    ]
    assert parent(wait) == paused.span_id.hex()
    assert wait.start_time_unix_nano <= paused.end_time_unix_nano
    assert wait.end_time_unix_nano <= resumed.end_time_unix_nano
    assert attributes(wait)["assent.outcome"] == "approved"


async def test_what_fails_is_marked_and_what_no_request_started_is_traced_too(
    tmp_path: Path,
) -> None:
    async with traced(tmp_path) as (receiver, server), asking(server) as api:
        await say(api, "boom")
        run, node = await spans_named(receiver, "run agent", "node agent")
        assert run.status.code == node.status.code == 2
        assert attributes(node)["error.type"] == "RuntimeError"
        assert "swordfish" not in str(spans_in(receiver))

        receiver.got.clear()
        schedule = {"cron": "* * * * *", "message": "look 1", "timezone": "UTC"}
        made = (await expect(await api.http.post("/schedules", json=schedule), 201)).json()
        started = await api.http.post(f"/schedules/{made['schedule_id']}/run")
        await expect(started, 202)
        request, run = await spans_named(receiver, "POST /schedules/{id}/run", "run agent")
        assert parent(run) == request.span_id.hex()


async def test_a_collector_that_is_away_keeps_nobody_waiting(tmp_path: Path) -> None:
    folder = project_of(tmp_path, {agents: ("agent",)})
    away = {"ASSENT_TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with serving(tmp_path, folder, **away) as server:
        async with asking(server) as api:
            assert await say(api, "look 1")
        assert server.terminate() == -signal.SIGTERM


def test_without_it_no_exporter_and_none_of_our_spans_are_imported() -> None:
    # LangChain imports what there is of OpenTelemetry by itself.
    code = "import assent.api.app, sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = ran.stdout.split()
    assert "assent.api.app" in imported
    assert not [name for name in imported if "otlp" in name or name == "assent.runs.traces"]
