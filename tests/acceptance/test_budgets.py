"""Budgets of a real server: each kind of limit, what happens at it, and what a person may grant,
through kills too."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support import counted
from tests.support.server import (
    Api,
    Event,
    Server,
    asking,
    events_of,
    expect,
    only,
    problem,
    project_of,
    serving,
    types_of,
    without_tokens,
)

PAUSE = {"on_exceeded": "pause"}


def agents(folder: Path) -> str:
    return project_of(folder, {counted: counted.ALL})


BUDGETS = """
[thread]
output_tokens = 1000

[agents.other]
model_calls = 4
per = "day"
on_exceeded = "pause"

[agents.shared]
model_calls = 4
on_exceeded = "pause"

[agents.late]
model_calls = 3
on_exceeded = "pause"

[agents.own_late]
model_calls = 3
on_exceeded = "pause"

[prices."penny-1"]
input = 100_000
output = 200_000
"""
"""The budgets of the servers here."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("budgets")
    with serving(folder, agents(folder), **with_budgets(folder, BUDGETS)) as server:
        yield server


@pytest.fixture
def t() -> str:
    return f"t-{uuid4().hex}"


_amounts = iter(range(1000, 1_000_000))


@pytest.fixture
def n() -> int:
    """The first of ten amounts that no other test has."""
    return next(number for number in _amounts if number % 10 == 0)


def looks(n: int, count: int, between: str) -> str:
    return between.join(f"look {n + place}" for place in range(count))


def budget_events(events: list[Event]) -> list[tuple[str, str, str, float, float]]:
    return [
        (event["type"], event["scope"], event["budget"], event["used"], event["limit"])
        for event in events
        if event["type"].startswith("budget_")
    ]


async def asked(api: Api, thread: str) -> list[Any]:
    return [(each["kind"], each["args"], each["preview"]) for each in await api.pending(thread)]


async def decide(api: Api, thread: str, **decision: Any) -> list[Event]:
    """Decide; the events of the run that goes on, to its end."""
    url, headers = f"/threads/{thread}/resume", {"Accept": "text/event-stream"}
    async with api.http.stream("POST", url, json=decision, headers=headers) as response:
        await expect(response, 200)
        return [event async for event in events_of(response)]


async def talks_again(api: Api, thread: str) -> None:
    """New input on the thread reaches the model with a history that a provider accepts."""
    assert (await api.stream("hello", thread_id=thread))[-1]["type"] == "done"
    assert await api.last_words(thread) == "You said: hello"


# ── at the limit ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("budget", "used"),
    [
        ({"model_calls": 2}, 2),
        ({"input_tokens": 20}, 20),
        ({"output_tokens": 8}, 10),
        ({"total_tokens": 16}, 30),
        ({"cost": 3.5}, 4),
    ],
)
async def test_a_run_that_has_used_up_its_budget_ends_before_its_next_step(
    server: Server, api: Api, t: str, n: int, budget: dict[str, float], used: float
) -> None:
    ((name, limit),) = budget.items()
    events = await api.stream(looks(n, 3, " then "), thread_id=t, budget=budget)
    assert budget_events(events)[-1] == ("budget_exceeded", "run", name, used, limit)
    error = only(events, "error")
    assert error == events[-1]
    assert error["code"] == "budget_exceeded"
    assert error["message"].startswith(f"This run has used {used} of the {limit:g} {name}")
    # What the model's last message asked for is not done any more.
    assert server.traces(f"look {n // 10}") == [f"look {n}"]
    thread = await api.at_rest(t)
    assert thread["status"] == "error"
    assert "did not run" in thread["values"]["messages"][-1]["content"]
    await talks_again(api, t)


async def test_what_ends_by_itself_is_done(api: Api, t: str, n: int) -> None:
    events = await api.stream(f"look {n}", thread_id=t, budget={"model_calls": 2})
    assert budget_events(events) == [
        ("budget_warning", "run", "model_calls", 2, 2),
        ("budget_exceeded", "run", "model_calls", 2, 2),
    ]
    assert events[-1]["type"] == "done"


async def test_a_warning_comes_once_and_at_four_fifths(api: Api, t: str, n: int) -> None:
    events = await api.stream(
        looks(n, 4, " then "), thread_id=t, budget={"model_calls": 6, "total_tokens": 10_000}
    )
    assert budget_events(events) == [("budget_warning", "run", "model_calls", 5, 6)]
    assert events[-1]["type"] == "done"


async def test_of_several_calls_at_once_no_more_than_may_be_are_started(
    server: Server, api: Api, t: str, n: int
) -> None:
    events = await api.stream(looks(n, 5, "; "), thread_id=t, budget={"tool_calls": 3, **PAUSE})
    assert len(server.traces(f"look {n // 10}")) == 3
    assert types_of(events)[-1] == "run_paused"
    assert await asked(api, t) == [
        ("budget", {"scope": "run", "budget": "tool_calls", "limit": 6}, {"used": 3, "limit": 3})
    ]
    events = await decide(api, t, type="approve")
    assert events[-1]["type"] == "done"
    # Each of the five has run once, and the model has all their results.
    assert sorted(server.traces(f"look {n // 10}")) == [f"look {n + place}" for place in range(5)]
    assert await api.last_words(t) == "Results: " + " | ".join(
        f"saw {n + place}" for place in range(5)
    )


async def test_with_its_last_call_of_a_tool_a_run_may_still_answer(
    server: Server, api: Api, t: str, n: int
) -> None:
    for agent in ("counted", "own"):
        events = await api.stream(
            looks(n, 2, "; "), thread_id=f"{t}-{agent}", agent=agent, budget={"tool_calls": 2}
        )
        assert budget_events(events)[-1] == ("budget_exceeded", "run", "tool_calls", 2, 2)
        assert events[-1]["type"] == "done"
        assert await api.last_words(f"{t}-{agent}") == f"Results: saw {n} | saw {n + 1}"


async def test_an_agent_in_a_graph_of_ones_own_starts_no_more_than_may_be(
    server: Server, api: Api, t: str, n: int
) -> None:
    await api.stream(
        looks(n, 5, "; "), thread_id=t, agent="outer", budget={"tool_calls": 2, **PAUSE}
    )
    assert len(server.traces(f"look {n // 10}")) == 2
    assert await asked(api, t) == [
        ("budget", {"scope": "run", "budget": "tool_calls", "limit": 4}, {"used": 2, "limit": 2})
    ]
    await decide(api, t, type="edit", args={"limit": 9})
    assert sorted(server.traces(f"look {n // 10}")) == [f"look {n + place}" for place in range(5)]
    assert await api.last_words(t) == "Results: " + " | ".join(
        f"saw {n + place}" for place in range(5)
    )


async def test_calls_that_were_not_started_are_answered_when_the_run_ends(
    server: Server, api: Api, t: str, n: int
) -> None:
    events = await api.stream(looks(n, 4, "; "), thread_id=t, budget={"tool_calls": 1})
    assert events[-1]["code"] == "budget_exceeded"
    assert len(server.traces(f"look {n // 10}")) == 1
    await talks_again(api, t)


async def test_a_graph_of_ones_own_stops_between_two_steps(
    server: Server, api: Api, t: str, n: int
) -> None:
    """Its one node of tools runs all calls of a turn, so the last turn may call more than were
    left."""
    message = f"{looks(n, 2, '; ')} then {looks(n + 2, 2, '; ')} then look {n + 4}"
    events = await api.stream(message, thread_id=t, agent="own", budget={"tool_calls": 3, **PAUSE})
    assert len(server.traces(f"look {n // 10}")) == 4
    assert events[-1]["type"] == "run_paused"
    assert await asked(api, t) == [
        ("budget", {"scope": "run", "budget": "tool_calls", "limit": 7}, {"used": 4, "limit": 3})
    ]
    assert (await decide(api, t, type="approve"))[-1]["type"] == "done"
    assert len(server.traces(f"look {n // 10}")) == 5
    events = await api.stream(
        looks(n + 5, 2, " then "), thread_id=t, agent="own", budget={"model_calls": 1}
    )
    assert events[-1]["code"] == "budget_exceeded"
    assert len(server.traces(f"look {n // 10}")) == 5
    await talks_again(api, t)


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


async def test_when_its_time_is_up_a_run_is_cut_off(
    server: Server, api: Api, t: str, n: int
) -> None:
    events = await api.stream(f"slow {n}", thread_id=t, budget={"seconds": 2})
    assert [event[:3] for event in budget_events(events)] == [
        ("budget_warning", "run", "seconds"),
        ("budget_exceeded", "run", "seconds"),
    ]
    assert events[-1]["code"] == "budget_exceeded"
    run = await api.get(f"/threads/{t}")
    assert run["status"] == "error"
    # Nobody knows what became of the call, and the model is told so.
    assert "may or may not have happened" in run["values"]["messages"][-1]["content"]
    await talks_again(api, t)
    assert server.traces(f"slow {n}") == [f"slow {n}"]


async def test_time_is_up_amid_a_models_words(api: Api, t: str) -> None:
    events = await api.stream("tell 500", thread_id=t, agent="chatty", budget={"seconds": 1})
    assert events[-1]["code"] == "budget_exceeded"
    assert 0 < types_of(events).count("token") < 500


async def test_with_a_pause_the_step_comes_to_its_end_first(
    server: Server, api: Api, t: str, n: int
) -> None:
    waiting = asyncio.create_task(
        api.stream(f"slow {n}", thread_id=t, budget={"seconds": 2, **PAUSE})
    )
    await server.until_traced(f"slow {n}")
    await asyncio.sleep(2)
    assert not waiting.done()
    server.let_go(n)
    events = await waiting
    assert without_tokens(events)[-3:] == ["tool_end", "approval_required", "run_paused"]
    await asyncio.sleep(0.5)
    # Waiting for a person costs no time.
    events = await decide(api, t, type="edit", args={"limit": 30})
    assert events[-1]["type"] == "done"
    assert await api.last_words(t) == f"Results: slowly paid {n}"


# ── a person ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_person_grants_the_same_again_or_up_to_a_number_or_nothing(
    server: Server, api: Api, t: str, n: int
) -> None:
    events = await api.stream(
        looks(n, 8, " then "), thread_id=t, budget={"model_calls": 2, **PAUSE}
    )
    (approval,) = await api.pending(t)
    assert only(events, "approval_required")["kind"] == approval["kind"] == "budget"
    assert approval["allowed"] == ["approve", "edit", "reject"]
    assert (approval["args"], approval["preview"]) == (
        {"scope": "run", "budget": "model_calls", "limit": 4},
        {"used": 2, "limit": 2},
    )
    events = await decide(api, t, type="approve")
    assert budget_events(events)[-1] == ("budget_exceeded", "run", "model_calls", 4, 4)
    for wrong in (
        {"limit": 4},
        {"limit": "9"},
        {"limit": True},
        {"more": 9},
        {"limit": 9, "scope": "agent"},
        {},
    ):
        assert (
            "above the 4"
            in (await problem(await api.resume(t, type="edit", args=wrong), 422))["detail"]
        )
    await problem(await api.resume(t, type="respond", message="no"), 422)
    events = await decide(api, t, type="edit", args={**approval["args"], "limit": 7})
    assert budget_events(events)[-1] == ("budget_exceeded", "run", "model_calls", 7, 7)
    events = await decide(api, t, type="reject", message="that is enough")
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "budget_exceeded")
    assert "that is enough" in events[-1]["message"]
    assert len(server.traces(f"look {n // 10}")) == 6
    assert (await api.at_rest(t))["status"] == "error"
    await talks_again(api, t)


async def test_what_the_agent_asks_and_what_it_may_use_are_asked_together(
    server: Server, api: Api, t: str, n: int
) -> None:
    await api.stream(f"pay {n} then look {n + 1}", thread_id=t, budget={"model_calls": 1, **PAUSE})
    pay, more = await api.pending(t)
    assert (pay["kind"], more["kind"]) == ("tool", "budget")
    await api.decided(t, decisions={pay["approval_id"]: {"type": "approve"}})
    assert server.traces(f"pay {n}") == []
    await decide(api, t, decisions={more["approval_id"]: {"type": "approve"}})
    assert server.traces(f"pay {n}") == [f"pay {n}"]
    # What it has used counts on through its pauses.
    assert await asked(api, t) == [
        ("budget", {"scope": "run", "budget": "model_calls", "limit": 3}, {"used": 2, "limit": 2})
    ]
    assert (await decide(api, t, type="edit", args={"limit": 10}))[-1]["type"] == "done"


async def test_without_more_to_use_an_approved_call_does_not_run(
    server: Server, api: Api, t: str, n: int
) -> None:
    await api.stream(f"pay {n}", thread_id=t, budget={"model_calls": 1, **PAUSE})
    pay, more = await api.pending(t)
    said = {pay["approval_id"]: {"type": "approve"}, more["approval_id"]: {"type": "reject"}}
    events = await decide(api, t, decisions=said)
    assert events[-1]["code"] == "budget_exceeded"
    assert server.traces(f"pay {n}") == []
    await talks_again(api, t)


# ── threads and agents ────────────────────────────────────────────────────────────────────────────


async def test_an_agents_budget_is_of_all_its_runs(
    api: Api, server: Server, t: str, n: int
) -> None:
    """The window of a day holds both threads; and what goes on now counts, though it has not
    ended."""
    await api.stream(f"look {n}", thread_id=t, agent="other")
    events = await api.stream(looks(n, 5, " then "), thread_id=f"{t}-2", agent="other")
    exceeded = only(events, "budget_exceeded")
    assert (exceeded["scope"], exceeded["used"], exceeded["limit"]) == ("agent", 4, 4)
    (approval,) = await api.pending(f"{t}-2")
    assert approval["preview"] == {"used": 4, "limit": 4, "per": "day"}
    # Another run meets it at its start, and does nothing before a person lets it.
    events = await api.stream(f"look {n + 9}", thread_id=f"{t}-3", agent="other")
    assert without_tokens(events) == ["run_start", "approval_required", "run_paused"]
    assert "llm_start" not in types_of(events)
    assert (await decide(api, f"{t}-3", type="approve"))[-1]["type"] == "done"
    assert server.traces(f"look {n + 9}") == [f"look {n + 9}"]
    await api.http.delete(f"/threads/{t}-2")


async def test_what_others_use_while_they_go_on_counts(
    api: Api, server: Server, t: str, n: int
) -> None:
    message = f"look {n} then look {n + 1} then slow {n + 2} then look {n + 3}"
    going = asyncio.create_task(api.stream(message, thread_id=t, agent="shared"))
    await server.until_traced(f"slow {n + 2}")
    await api.stream(f"look {n + 4}", thread_id=f"{t}-2", agent="shared")
    (approval,) = await api.pending(f"{t}-2")
    assert approval["preview"] == {"used": 4, "limit": 4}
    server.let_go(n + 2)
    assert (await going)[-1]["type"] == "run_paused"
    assert (await api.pending(t))[0]["preview"] == {"used": 4, "limit": 4}
    assert server.traces(f"look {n + 3}") == server.traces(f"look {n + 4}") == []


@pytest.mark.parametrize("agent", ["late", "own_late"])
async def test_decisions_that_come_when_nothing_is_left_are_kept(
    api: Api, server: Server, t: str, n: int, agent: str
) -> None:
    """A person approves a call; meanwhile others have used up what the agent may. Once more is
    granted, the call runs, unasked."""
    await api.stream(f"pay {n}", thread_id=t, agent=agent)
    (approval,) = await api.pending(t)
    await api.stream("hello", thread_id=f"{t}-2", agent=agent)
    await api.stream("hello", thread_id=f"{t}-3", agent=agent)
    events = await decide(api, t, decisions={approval["approval_id"]: {"type": "approve"}})
    assert without_tokens(events) == [
        "approval_decided",
        "run_resumed",
        "approval_required",
        "run_paused",
    ]
    assert server.traces(f"pay {n}") == []
    (more,) = await api.pending(t)
    assert (more["kind"], more["preview"]) == ("budget", {"used": 3, "limit": 3})
    server.restart()
    events = await decide(api, t, type="approve")
    assert events[-1]["type"] == "done"
    assert server.traces(f"pay {n}") == [f"pay {n}"]
    assert await api.last_words(t) == f"Results: paid {n}"


async def test_words_of_consent_grant_the_same_again(
    api: Api, server: Server, t: str, n: int
) -> None:
    for budget, first in (({"model_calls": 1}, 0), ({"tool_calls": 1}, 4)):
        await api.stream(
            looks(n + first, 3, "; "),
            thread_id=f"{t}-{first}",
            agent="talking",
            budget={**budget, "on_exceeded": "pause"},
        )
        before = server.traces(f"look {n // 10}")
        events = await api.stream("yes", thread_id=f"{t}-{first}")
        assert events[-1]["type"] in ("done", "run_paused"), events[-1]
        assert len(server.traces(f"look {n // 10}")) > len(before)


async def test_a_pause_for_more_can_be_cancelled(api: Api, server: Server, t: str, n: int) -> None:
    await api.stream(f"look {n}", thread_id=t, budget={"model_calls": 1, **PAUSE})
    await expect(await api.http.post(f"/threads/{t}/cancel", json={}), 202)
    assert (await api.at_rest(t))["status"] == "idle"
    assert [
        approval["status"] for approval in (await api.get("/approvals", thread_id=t))["approvals"]
    ] == ["cancelled"]
    await talks_again(api, t)
    assert server.traces(f"look {n}") == []


# ── what cannot be counted ────────────────────────────────────────────────────────────────────────


async def test_money_takes_a_price(api: Api, t: str, n: int) -> None:
    events = await api.stream(f"look {n}", thread_id=t, agent="mystery", budget={"cost": 5})
    assert events[-1]["code"] == "configuration_error"
    assert "no price for the model 'mystery-1'" in events[-1]["message"]
    assert "tool_start" not in types_of(events)


async def test_tokens_that_a_model_does_not_tell_cannot_be_limited(
    api: Api, t: str, n: int
) -> None:
    events = await api.stream(
        f"look {n}",
        thread_id=t,
        agent="uncounted",
        budget={"total_tokens": 500, "on_exceeded": "error"},
    )
    assert events[-1]["code"] == "configuration_error"
    assert "did not say how many tokens" in events[-1]["message"]
    assert "tool_start" not in types_of(events)


@pytest.mark.parametrize(
    "budget",
    [{"total_tokens": 0}, {"tokens": 5}, {"seconds": -1}, {"cost": "much"}, {"on_exceeded": "ask"}],
)
async def test_a_budget_that_makes_no_sense_is_refused(api: Api, t: str, budget: Any) -> None:
    await problem(
        await api.http.post(
            "/agent/stream", json={"message": "hello", "thread_id": t, "budget": budget}
        ),
        422,
    )


# ── crashes ───────────────────────────────────────────────────────────────────────────────────────


def with_budgets(folder: Path, text: str) -> dict[str, str]:
    """The setting that names a file with these budgets: TOML, as it stands within the part of that
    name."""
    file = folder / "assent.toml"
    file.write_text("[budgets]\n" + re.sub(r"^\[", "[budgets.", text, flags=re.MULTILINE))
    return {"ASSENT_CONFIG": str(file)}


async def test_killed_while_it_asks_for_more_it_keeps_what_was_used_and_what_is_granted(
    tmp_path: Path,
) -> None:
    rules = """
        on_exceeded = "pause"
        run = {model_calls = 2}
        thread = {cost = 9.0, per = "day"}
        prices."*" = {input = 100000, output = 200000}
    """
    with serving(tmp_path, agents(tmp_path), **with_budgets(tmp_path, rules)) as server:
        async with asking(server) as api:
            await api.stream("look 1 then die 2 then look 3 then look 4 then look 5", thread_id="t")
            (approval,) = await api.pending("t")
            server.restart()
            assert await api.pending("t") == [approval]
            # Granted, it goes on to a call that kills the process; that nobody knows what became of
            # it is asked.
            decided = await api.decided("t", type="approve")
            server.wait_for_death()
            server.restart()
            assert (await api.at_rest("t"))["status"] == "interrupted"
            lost = await api.pending("t")
            assert [each["kind"] for each in lost] == ["unknown_outcome"]
            await api.decided("t", type="respond", message="done")
            assert (await api.at_rest("t"))["status"] == "interrupted"
            # Four calls of the model were granted to the run, and the grant has outlived two
            # processes.
            assert await asked(api, "t") == [
                (
                    "budget",
                    {"scope": "run", "budget": "model_calls", "limit": 6},
                    {"used": 4, "limit": 4},
                ),
            ]
            server.restart()
            await api.decided("t", type="edit", args={"limit": 100})
            assert (await api.at_rest("t"))["status"] == "interrupted"
            # Five calls at 2.0 are more than the thread may spend.
            assert await asked(api, "t") == [
                (
                    "budget",
                    {"scope": "thread", "budget": "cost", "limit": 19},
                    {"used": 10, "limit": 9, "per": "day"},
                ),
            ]
            await api.decided("t", type="approve")
            assert await api.last_words("t") == "Results: saw 5"
            warned = [
                event for event in await api.events("t") if event["type"].startswith("budget_")
            ]
            told = [
                (event["run_id"], event["type"], event["scope"], event["budget"])
                for event in warned
            ]
            assert len(told) == len(set(told))
            assert sum(event["run_id"] == decided["run_id"] for event in warned) == 0
            # What a person granted to the thread is the thread's: the next run need not ask again,
            # until that is used up.
            server.restart()
            events = await api.stream("hello", thread_id="t")
            assert events[-1]["type"] == "done"
            assert ("budget_exceeded", "thread", "cost", 19, 19) not in budget_events(events)
    assert server.traces() == ["look 1", "die 2", "look 3", "look 4", "look 5"]


@pytest.mark.parametrize("on_exceeded", ["pause", "error"])
async def test_killed_amid_its_last_calls_a_run_starts_no_more_than_it_may(
    tmp_path: Path, on_exceeded: str
) -> None:
    with serving(tmp_path, agents(tmp_path)) as server:
        async with asking(server) as api:
            body = {
                "message": "look 1 then die 2; look 3",
                "thread_id": "t",
                "budget": {"tool_calls": 2, "on_exceeded": on_exceeded},
            }
            posted = asyncio.create_task(api.http.post("/agent/invoke", json=body))
            await asyncio.to_thread(server.wait_for_death)
            await asyncio.gather(posted, return_exceptions=True)
            server.restart()
            thread = await api.at_rest("t")
            assert server.traces() == ["look 1", "die 2"]
            events = await api.events("t")
            assert len(budget_events(events)) == 2, (
                "what was told before the crash is not told again"
            )
            if on_exceeded == "error":
                assert (events[-1]["code"], thread["status"]) == ("budget_exceeded", "error")
                said = [message["content"] for message in thread["values"]["messages"][-2:]]
                assert ["may or may not have happened" in said[0], "did not run" in said[1]] == [
                    True,
                    True,
                ]
                await talks_again(api, "t")
                return
            assert sorted(each["kind"] for each in await api.pending("t")) == [
                "budget",
                "unknown_outcome",
            ]
            decisions = {
                each["approval_id"]: {"type": "approve"}
                if each["kind"] == "budget"
                else {"type": "respond", "message": "it did"}
                for each in await api.pending("t")
            }
            assert (await decide(api, "t", decisions=decisions))[-1]["type"] == "done"
            assert await api.last_words("t") == "Results: it did | saw 3"
            assert server.traces() == ["look 1", "die 2", "look 3"]


def test_a_file_that_is_wrong_is_told_at_the_start(tmp_path: Path) -> None:
    for text, said in [
        ("[run]\ntokens = 5", "unknown field `tokens` - at `budgets.run`"),
        (
            "[agents.nobody]\ncost = 5",
            "There is a budget for the agent 'nobody', and no such agent.",
        ),
        ("[run", "assent.toml is wrong"),
    ]:
        with pytest.raises(AssertionError, match="ended with 1"):  # noqa: SIM117
            with serving(tmp_path, agents(tmp_path), **with_budgets(tmp_path, text)):
                pass
        log = (tmp_path / "server.log").read_text()
        assert said in " ".join(log.split())
        assert "Traceback" not in log
