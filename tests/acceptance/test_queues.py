"""Every queue has an end: whoever comes too late is told when to come again, and nothing that was
acknowledged is lost."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.server import asking, expect, problem, scripted_agents, serving, volley


async def test_as_many_wait_as_may_and_the_others_are_told_to_come_again(tmp_path: Path) -> None:
    limits = {"ASSENT_MAX_PENDING_PER_THREAD": "3", "ASSENT_MAX_PENDING": "5"}
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **limits) as server:
        async with asking(server) as api:
            await api.run("t", "hold 5")
            await server.until_traced("hold 5")
            asked = {"message": "look 1", "thread_id": "t", "on_busy": "enqueue"}
            answers = await volley(server, [("/agent/runs", asked)] * 20)
            assert sorted(status for status, _ in answers) == [202] * 3 + [429] * 17
            refused = await api.http.post("/agent/runs", json=asked)
            assert refused.headers["retry-after"] == "10"
            body = await problem(refused, 429)
            assert body["type"] == "urn:assent:problem:queue-full"
            assert "3 runs wait on the thread 't' already" in body["detail"]
            for path in ("/agent/stream", "/agent/invoke"):
                await problem(await api.http.post(path, json=asked), 429)

            # On other threads there is room for two, which are to start later.
            later = {"message": "look 2", "after_seconds": 3600}
            for thread_id in ("u", "v"):
                delayed = {**later, "thread_id": thread_id}
                await expect(await api.http.post("/agent/runs", json=delayed), 202)
            too_many = {**later, "thread_id": "w"}
            body = await problem(await api.http.post("/agent/runs", json=too_many), 429)
            assert "5 runs wait for their turn already" in body["detail"]
            assert (await api.http.get("/threads/w")).status_code == 404
            # A message that can start at once waits for nobody.
            assert (await api.stream("look 3", thread_id="w"))[-1]["type"] == "done"

            # A schedule says why there was no run.
            schedule = await api.http.post(
                "/schedules",
                json={
                    "cron": "0 0 1 1 *",
                    "message": "look 4",
                    "thread_id": "t",
                    "on_busy": "enqueue",
                },
            )
            made = (await expect(schedule, 201)).json()
            await problem(await api.http.post(f"/schedules/{made['schedule_id']}/run"), 429)

            # Those who replace what runs make room by it.
            await expect(await _replacing(api.http), 202)
            server.let_go(5)
            for run in await api.runs("t", status="pending"):
                await api.ended(run["run_id"])
            runs = await api.runs("t")
            assert len(runs) == 1 + 3 + 1
            assert {run["status"] for run in runs} == {"cancelled", "success"}
            await expect(await api.http.post("/agent/runs", json=asked), 202)


async def _replacing(http: httpx.AsyncClient) -> httpx.Response:
    body = {"message": "look 5", "thread_id": "t", "on_busy": "interrupt"}
    return await http.post("/agent/runs", json=body)
