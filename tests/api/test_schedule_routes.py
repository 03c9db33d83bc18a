"""Schedules over HTTP: made, listed, changed, run and removed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.server import Api, expect, problem
from tests.support.waiting import until

AGENTS = ("agent", "slow_agent", "chat_agent")

NEVER = "0 0 29 2 *"
"""Not during these tests, unless they run on the 29th of February."""


async def made(api: Api, **body: Any) -> Any:
    """A new schedule."""
    return (
        await expect(
            await api.http.post("/schedules", json={"cron": NEVER, "message": "tell 1", **body}),
            201,
        )
    ).json()


async def test_it_is_made_with_the_defaults_that_are_documented(api: Api) -> None:
    response = await api.http.post("/schedules", json={"cron": NEVER, "message": "tell 1"})
    schedule = response.json()
    assert response.headers["location"] == f"/schedules/{schedule['schedule_id']}"
    assert await api.get(response.headers["location"]) == schedule
    next_at = datetime.fromisoformat(schedule["next_at"])
    assert (next_at.month, next_at.day, next_at.utcoffset()) == (2, 29, timedelta(0))
    assert abs(datetime.fromisoformat(schedule.pop("created_at")) - datetime.now(UTC)) < timedelta(
        minutes=1
    )
    assert len(schedule.pop("next_times")) == 5
    assert schedule == {
        "schedule_id": schedule["schedule_id"],
        "owner": "local",
        "requested_by": ["local"],
        "agent": "agent",
        "thread_id": None,
        "cron": NEVER,
        "timezone": "UTC",
        "message": "tell 1",
        "on_busy": "enqueue",
        "if_missed": "once",
        "enabled": True,
        "metadata": {},
        "budget": {},
        "next_at": schedule["next_at"],
        "last_at": None,
        "last_run_id": None,
        "last_error": None,
        "ends_at": None,
    }


async def test_the_next_times_are_told_in_its_own_zone(api: Api) -> None:
    schedule = await made(api, cron="30 2 29 3 *", timezone="Europe/Berlin")
    times = [datetime.fromisoformat(time) for time in schedule["next_times"]]
    assert times[0] == datetime.fromisoformat(schedule["next_at"])
    assert [time.year - times[0].year for time in times] == list(range(5))
    assert {(time.month, time.day) for time in times} == {(3, 29)}
    # It is summer time from the last Sunday of March on, and on that Sunday half past two is left
    # out.
    for time in times:
        sunday = time - timedelta(days=(time.weekday() + 1) % 7)
        expected = (
            "03:00 +0200"
            if sunday == time
            else "02:30 +0200"
            if sunday.day >= 25
            else "02:30 +0100"
        )
        assert f"{time:%H:%M %z}" == expected


async def test_it_runs_on_time_and_says_so(api: Api, thread: str) -> None:
    schedule = await made(api, cron="* * * * * *", thread_id=thread, metadata={"k": "v"})
    path = f"/schedules/{schedule['schedule_id']}"

    async def once_it_has_run() -> Any:
        found = await api.get(path)
        return found if found["last_run_id"] else None

    now = await until(once_it_has_run)
    await expect(
        await api.http.patch(f"/schedules/{schedule['schedule_id']}", json={"enabled": False}), 200
    )
    (start,) = [
        event
        for event in await api.events(thread, types="run_start")
        if event["run_id"] == now["last_run_id"]
    ]
    assert (start["message"], start["metadata"]) == ("tell 1", {"k": "v"})
    late = datetime.fromisoformat(start["ts"]) - datetime.fromisoformat(now["last_at"])
    assert timedelta(0) <= late <= timedelta(seconds=20)


async def test_they_are_listed_newest_first_in_pages(api: Api) -> None:
    ids = [(await made(api))["schedule_id"] for _ in range(3)]
    page = await api.get("/schedules", limit=2)
    assert [schedule["schedule_id"] for schedule in page["schedules"]] == [ids[2], ids[1]]
    assert "next_times" not in page["schedules"][0]
    assert (await api.get("/schedules", limit=1, cursor=page["next"]))["schedules"][0][
        "schedule_id"
    ] == ids[0]
    for wrong in ({"limit": 0}, {"cursor": "nonsense"}):
        await problem(await api.http.get("/schedules", params=wrong), 422)


async def test_a_change_leaves_the_rest_as_it_was(api: Api, thread: str) -> None:
    schedule = await made(api, thread_id=thread, metadata={"k": "v"})
    path = f"/schedules/{schedule['schedule_id']}"
    changed = (
        await expect(
            await api.http.patch(path, json={"message": "tell 2", "on_busy": "reject"}), 200
        )
    ).json()
    assert changed == {**schedule, "message": "tell 2", "on_busy": "reject"}
    off = (
        await expect(await api.http.patch(path, json={"enabled": False, "thread_id": None}), 200)
    ).json()
    assert off == {
        **changed,
        "enabled": False,
        "thread_id": None,
        "next_at": None,
        "next_times": [],
    }
    again = await expect(
        await api.http.patch(path, json={"enabled": True, "timezone": "Asia/Tokyo"}), 200
    )
    assert again.json()["next_times"][0].endswith("-02-29T00:00:00+09:00")
    assert await api.get(path) == again.json()
    assert (await expect(await api.http.patch(path, json={}), 200)).json() == again.json()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"cron": "0 9 * *"},
            "The field 'cron' is '0 9 * *', which is no cron expression: wrong number of fields. Send",
        ),
        (
            {"cron": "0 0 30 2 *"},
            "The field 'cron' is '0 0 30 2 *', which is no cron expression: bad day-of-month. Send",
        ),
        (
            {"cron": "0 0 */31 2 MON#5"},
            "The field 'cron' is '0 0 */31 2 MON#5', and that time never comes. Send",
        ),
        ({"cron": "9" * 201}, "In the body, 'cron': String should have at most 200 characters."),
        ({"cron": 5}, "In the body, 'cron': Input should be a valid string."),
        (
            {"timezone": "Berlin"},
            "The field 'timezone' is 'Berlin', which is no time zone. Send an IANA name, as in 'Europe/Berlin'",
        ),
        (
            {"timezone": "../../etc/passwd"},
            "The field 'timezone' is '../../etc/passwd', which is no time zone.",
        ),
        ({"message": ""}, "In the body, 'message':"),
        ({"on_busy": "wait"}, "In the body, 'on_busy':"),
        ({"if_missed": "all"}, "In the body, 'if_missed':"),
        ({"thread_id": "a b"}, "In the body, 'thread_id':"),
        ({"metadata": []}, "In the body, 'metadata':"),
        ({"enabled": "perhaps"}, "In the body, 'enabled':"),
        ({"name": "x"}, "In the body, 'name':"),
        ({"message": None}, ""),
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    api: Api, wrong: dict[str, Any], says: str
) -> None:
    schedule = await made(api)
    path = f"/schedules/{schedule['schedule_id']}"
    before = await api.get("/schedules", limit=1000)
    for response in (
        await api.http.post("/schedules", json={"cron": NEVER, "message": "tell 1", **wrong}),
        await api.http.patch(path, json=wrong),
    ):
        assert (await problem(response, 422))["detail"].startswith(says)
    assert await api.get("/schedules", limit=1000) == before


async def test_what_is_missing_or_null_is_named(api: Api) -> None:
    assert (
        "'cron'"
        in (await problem(await api.http.post("/schedules", json={"message": "tell 1"}), 422))[
            "detail"
        ]
    )
    assert (
        "'message'"
        in (await problem(await api.http.post("/schedules", json={"cron": NEVER}), 422))["detail"]
    )
    path = f"/schedules/{(await made(api))['schedule_id']}"
    for name in (
        "cron",
        "timezone",
        "message",
        "agent",
        "on_busy",
        "if_missed",
        "enabled",
        "metadata",
    ):
        assert (
            f"'{name}' is null"
            in (await problem(await api.http.patch(path, json={name: None}), 422))["detail"]
        )


async def test_an_unknown_agent_or_schedule_is_a_404(api: Api) -> None:
    body = await problem(
        await api.http.post(
            "/schedules", json={"cron": NEVER, "message": "tell 1", "agent": "nobody"}
        ),
        404,
    )
    assert body["detail"].startswith("There is no agent 'nobody'.")
    path = f"/schedules/{(await made(api))['schedule_id']}"
    await problem(await api.http.patch(path, json={"agent": "nobody"}), 404)
    for method, suffix in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/run")):
        response = await api.http.request(
            method, f"/schedules/nothing{suffix}", json={} if method == "PATCH" else None
        )
        assert (await problem(response, 404))["detail"].startswith(
            "There is no schedule 'nothing'."
        )


async def test_a_thread_of_another_agent_is_refused(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread, agent="slow_agent")
    assert (await made(api, thread_id=thread))["agent"] == "slow_agent"
    body = {"cron": NEVER, "message": "tell 1", "thread_id": thread, "agent": "agent"}
    await problem(await api.http.post("/schedules", json=body), 422)


async def test_it_is_removed(api: Api) -> None:
    path = f"/schedules/{(await made(api))['schedule_id']}"
    response = await api.http.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    await problem(await api.http.get(path), 404)
    await problem(await api.http.delete(path), 404)


async def test_it_goes_with_its_thread(api: Api, thread: str) -> None:
    schedule = await made(api, thread_id=thread)
    await api.stream("tell 1", thread_id=thread)
    await expect(await api.http.delete(f"/threads/{thread}"), 204)
    await problem(await api.http.get(f"/schedules/{schedule['schedule_id']}"), 404)


async def test_it_runs_now_on_request(api: Api, thread: str, amount: int) -> None:
    schedule = await made(
        api, thread_id=thread, enabled=False, message=f"pay {amount}", on_busy="reject"
    )
    path = f"/schedules/{schedule['schedule_id']}"
    run = (await expect(await api.http.post(f"{path}/run"), 202)).json()
    assert (run["schedule_id"], run["thread_id"]) == (schedule["schedule_id"], thread)
    assert (
        (await api.until(thread, "run_paused"))[-1]["run_id"]
        == run["run_id"]
        == (await api.get(path))["last_run_id"]
    )
    # What it says decides nothing.
    body = await problem(await api.http.post(f"{path}/run"), 409)
    assert [approval["tool"] for approval in body["approvals"]] == ["pay"]
    await api.decided(thread, type="approve")
    assert await api.last_words(thread) == f"Results: paid {amount}"


async def test_a_word_of_consent_at_a_set_time_is_none(api: Api, thread: str, amount: int) -> None:
    """This agent takes a chat's next message for a decision; but not from a clock."""
    await api.paused(f"pay {amount}", thread_id=thread, agent="chat_agent")
    schedule = await made(api, thread_id=thread, message="yes")
    response = await expect(await api.http.post(f"/schedules/{schedule['schedule_id']}/run"), 202)
    run = response.json()
    assert response.headers["location"] == f"/runs/{run['run_id']}"
    assert run["status"] == "pending"
    assert len(await api.pending(thread)) == 1
    await api.decided(thread, type="reject")

    async def it_is_a_message() -> bool:
        return await api.last_words(thread) == "You said: yes"

    await until(it_is_a_message)


async def test_its_times_are_seen_before_it_is_made(api: Api) -> None:
    params = {"cron": "30 9 * * MON", "timezone": "Europe/Berlin", "count": 3}
    times = (await api.get("/schedules/preview", **params))["next_times"]
    seen = [datetime.fromisoformat(time) for time in times]
    assert [(time.weekday(), time.hour, time.minute) for time in seen] == [(0, 9, 30)] * 3
    assert seen == sorted(seen) and seen[0] > datetime.now(UTC)
    # The same as those of a schedule that is made then.
    schedule = await made(api, cron="30 9 * * MON", timezone="Europe/Berlin")
    assert schedule["next_times"][:3] == times


@pytest.mark.parametrize(
    "params",
    [
        {"cron": "never"},
        {"cron": NEVER, "timezone": "Mars/Olympus"},
        {"cron": NEVER, "count": 0},
        {"cron": NEVER, "count": 21},
        {},
    ],
)
async def test_a_preview_of_no_times_says_why(api: Api, params: dict[str, Any]) -> None:
    await problem(await api.http.get("/schedules/preview", params=params), 422)
