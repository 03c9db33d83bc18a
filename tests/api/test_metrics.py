"""`GET /metrics`: each number moves when it should, and none of them names anybody or anything."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import agents, counted
from tests.support.disk import locked
from tests.support.server import Api, Server, asking, problem, project_of, serving
from tests.support.waiting import until

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"

CONFIG = """
[budgets.prices."penny-1"]
input = 100_000
output = 200_000
"""

Samples = dict[str, float]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("metrics")
    config = folder / "assent.toml"
    config.write_text(CONFIG)
    target = project_of(folder, {counted: ("counted",), agents: ("agent",)})
    settings = {"ASSENT_CONFIG": str(config), "ASSENT_SYNC_THREADS": "1"}
    with serving(folder, target, **settings, ASSENT_MAX_STREAMS_PER_CLIENT="2") as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


async def text(api: Api) -> str:
    response = await api.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return response.text


async def samples(api: Api) -> Samples:
    """Each sample's value by its name and labels, as the text has them."""
    found: Samples = {}
    for family in text_string_to_metric_families(await text(api)):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def risen(before: Samples, after: Samples, name: str) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)


async def test_runs_decisions_tokens_and_their_cost_are_counted(
    api: Api, thread: str, amount: int
) -> None:
    before = await samples(api)
    await api.paused(f"pay {amount}", thread_id=thread, agent="counted")
    paused = await samples(api)
    assert paused["assent_approvals_pending"] == before["assent_approvals_pending"] + 1
    assert paused["assent_approval_oldest_seconds"] > 0
    assert risen(before, paused, "assent_runs_ended_total{status=interrupted}") == 1
    assert risen(before, paused, "assent_tokens_total{agent=counted,kind=input}") == 10
    assert risen(before, paused, "assent_tokens_total{agent=counted,kind=output}") == 5
    assert risen(before, paused, "assent_cost_total{agent=counted}") == 2

    await api.decided(thread, type="approve")
    await api.at_rest(thread)
    after = await samples(api)
    assert after["assent_approvals_pending"] == before["assent_approvals_pending"]
    assert risen(before, after, "assent_runs_ended_total{status=success}") == 1
    assert risen(before, after, "assent_decision_seconds_count") == 1
    assert risen(before, after, "assent_decision_seconds_sum") > 0
    assert risen(before, after, "assent_decision_seconds_bucket{le=604800.0}") == 1
    assert risen(before, after, "assent_tokens_total{agent=counted,kind=input}") == 20


async def test_what_the_storage_does_is_counted(api: Api, thread: str) -> None:
    before = await samples(api)
    await api.stream("hello", thread_id=thread)
    after = await samples(api)
    commits = risen(before, after, "assent_commit_seconds_count")
    assert commits >= 2
    assert risen(before, after, "assent_commit_changes_count") == commits
    assert risen(before, after, "assent_commit_changes_sum") >= commits
    assert after["assent_commit_seconds_bucket{le=+Inf}"] == after["assent_commit_seconds_count"]
    assert after["assent_outage_seconds"] == 0
    assert after["assent_queue_depth"] >= 0


async def test_requests_are_counted_by_their_route(api: Api, thread: str) -> None:
    before = await samples(api)
    await api.stream("hello", thread_id=thread)
    await api.get(f"/threads/{thread}")
    await problem(await api.http.get("/threads/nobody-has-this"), 404)
    after = await samples(api)
    of_route = "assent_requests_total{{method={},route={},status={}}}"
    assert risen(before, after, of_route.format("GET", "/threads/{id}", 200)) == 1
    assert risen(before, after, of_route.format("GET", "/threads/{id}", 404)) == 1
    assert risen(before, after, of_route.format("POST", "/agent/stream", 200)) == 1


async def test_streams_and_refusals_are_counted(api: Api, thread: str) -> None:
    await api.stream("hello", thread_id=thread)
    before = await samples(api)
    async with api.following(thread) as one, api.following(thread) as two:
        await anext(one)
        await anext(two)
        during = await samples(api)
        await problem(await api.http.get(f"/threads/{thread}/events"), 429)
    assert risen(before, during, "assent_streams{transport=sse}") == 2
    assert during["assent_stream_lag_seconds"] >= 0
    assert risen(before, await samples(api), "assent_limited_total{kind=StreamsFull}") == 1

    async def are_closed() -> bool:
        return (await samples(api))["assent_streams{transport=sse}"] == 0

    await until(are_closed)


async def test_what_runs_and_what_waits_for_a_thread_is_shown(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    run = await api.run(thread, f"hold {amount}; hold {amount + 1}", agent="agent")

    async def one_waits() -> Any:
        found = await samples(api)
        return found if found["assent_executor_waiting"] == 1 else None

    found = await until(one_waits)
    assert found["assent_runs{status=running}"] == 1
    await api.run(thread, "hello", on_busy="enqueue")
    assert (await samples(api))["assent_runs{status=pending}"] == 1
    server.let_go(amount, amount + 1)
    await api.ended(run["run_id"])
    await api.at_rest(thread)
    found = await samples(api)
    assert found["assent_executor_waiting"] == 0
    assert found["assent_runs{status=running}"] == 0
    assert found["assent_loop_lag_seconds"] >= 0


async def test_an_outage_is_shown_while_it_lasts(api: Api, server: Server) -> None:
    with locked(server.folder / "assent.db"):
        await problem(await api.http.post("/threads", json={}), 503)
        assert (await samples(api))["assent_outage_seconds"] > 0

    async def is_back() -> bool:
        return (await samples(api))["assent_outage_seconds"] == 0

    await until(is_back)


async def test_nothing_in_it_names_a_thread_a_run_or_what_was_said(
    api: Api, thread: str, amount: int
) -> None:
    events = await api.stream(f"canary-{amount}; pay {amount}", thread_id=thread)
    (approval,) = await api.pending(thread)
    shown = await text(api)
    secrets = (thread, events[0]["run_id"], approval["approval_id"], "canary", "local")
    assert [secret for secret in secrets if secret in shown] == []
    # Every label is one of these, and of few values.
    assert set(re.findall(r"[{,](\w+)=", shown)) <= {
        *("agent", "kind", "le", "method", "route", "status", "transport", "event"),
    }


async def test_the_reference_lists_every_metric(api: Api) -> None:
    families = {family.name for family in text_string_to_metric_families(await text(api))}
    ours = {name for name in families if name.startswith("assent_")}
    listed = re.findall(r"^\| `(assent_\w+)", REFERENCE.read_text(), re.MULTILINE)
    assert {name.removesuffix("_total") for name in listed} == ours
    assert len(listed) == len(ours)
