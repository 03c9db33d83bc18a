"""Deciding over HTTP: every form of a decision, who gets what answer, and that exactly what was
decided happens."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import httpx
import pytest
import rfc8785

from tests.support.server import (
    Api,
    Server,
    expect,
    only,
    problem,
    types_of,
    volley,
    without_ends,
    without_tokens,
)

AGENTS = ("agent", "asking", "foreign", "stopping")

APPROVAL_FIELDS = {
    *("approval_id", "thread_id", "run_id", "tool_call_id", "kind", "tool", "args", "digest"),
    *("status", "allowed", "requested_at", "expires_at", "preview"),
}
"""What whoever decides is shown."""


async def unchanged(api: Api, thread: str) -> tuple[Any, ...]:
    """Everything that a refused request must leave as it is."""
    return (
        await api.get(f"/threads/{thread}"),
        await api.events(thread),
        await api.get("/approvals", thread_id=thread),
    )


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────


async def test_an_approval_says_exactly_what_will_run(api: Api, thread: str, amount: int) -> None:
    events = await api.stream(f"pay {amount}", thread_id=thread)
    (approval,) = await api.pending(thread)
    assert approval.keys() >= APPROVAL_FIELDS
    assert (approval["thread_id"], approval["run_id"], approval["status"]) == (
        thread,
        events[0]["run_id"],
        "pending",
    )
    assert (approval["kind"], approval["tool"], approval["args"]) == (
        "tool",
        "pay",
        {"amount": amount},
    )
    assert approval["allowed"] == ["approve", "edit", "reject", "respond"]
    assert approval["preview"] == {"pays": amount}
    shown = rfc8785.dumps({"tool": "pay", "args": {"amount": amount}})
    assert approval["digest"] == hashlib.sha256(shown).hexdigest()
    required = only(events, "approval_required")
    for name in (
        "approval_id",
        "kind",
        "tool",
        "tool_call_id",
        "args",
        "digest",
        "allowed",
        "preview",
    ):
        assert required[name] == approval[name], name
    assert events[-1]["approvals"] == [approval["approval_id"]]
    assert await api.approval(approval["approval_id"]) == approval


async def test_the_gated_calls_of_a_turn_are_shown_together_and_the_free_ones_do_not_wait(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    approvals = await api.paused(f"pay {amount}; look {amount}; slow {amount}", thread_id=thread)
    assert [approval["tool"] for approval in approvals] == ["pay", "slow"]
    assert server.traces(f"look {amount}") == [f"look {amount}"]


async def test_approvals_are_listed_in_the_order_in_which_the_agent_asks(
    api: Api, thread: str
) -> None:
    await api.stream("; ".join(f"pay {amount}" for amount in range(1, 9)), thread_id=thread)
    assert [approval["args"]["amount"] for approval in await api.pending(thread)] == list(
        range(1, 9)
    )


# ── the forms of a decision ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["approval id", "tool call id", "bare", "decide"])
async def test_each_form_of_a_decision_decides(
    api: Api, server: Server, thread: str, amount: int, form: str
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    last = len(await api.events(thread))
    approve = {"type": "approve"}
    response = await {
        "approval id": lambda: api.resume(thread, decisions={approval["approval_id"]: approve}),
        "tool call id": lambda: api.resume(thread, decisions={approval["tool_call_id"]: approve}),
        "bare": lambda: api.resume(thread, **approve),
        "decide": lambda: api.http.post(
            f"/approvals/{approval['approval_id']}/decide", json=approve
        ),
    }[form]()
    assert response.status_code == 202
    answer = response.json()
    assert answer.keys() >= {"thread_id", "run_id", "status", "decisions", "events"}
    assert (answer["thread_id"], answer["status"], answer["pending"]) == (thread, "running", [])
    (stored,) = answer["decisions"].values()
    assert (stored["approval_id"], stored["status"], stored["decided_by"]) == (
        approval["approval_id"],
        "approved",
        "local",
    )
    assert answer["events"] == f"/threads/{thread}/events?after={last}"
    assert response.headers["location"] == answer["events"]
    assert await api.last_words(thread) == f"Results: paid {amount}"
    after = (await api.http.get(answer["events"], headers={"accept": "application/json"})).json()[
        "events"
    ]
    assert without_tokens(after) == [
        "approval_decided",
        "run_resumed",
        "tool_start",
        "tool_end",
        "done",
    ]
    assert {event["run_id"] for event in after} == {answer["run_id"]}
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


@pytest.mark.parametrize("door", ["resume", "decide"])
@pytest.mark.parametrize(
    ("body", "paid"),
    [
        ({"decisions": [{"type": "approve"}]}, ""),
        ([{"type": "accept", "args": None}], ""),
        ({"type": "accept", "args": {"action": "pay", "args": {"amount": 0}}}, ""),
        (
            {
                "decisions": [
                    {
                        "type": "edit",
                        "edited_action": {"name": "pay", "args": {"amount": 7, "note": "rent"}},
                    }
                ]
            },
            "rent",
        ),
        (
            [{"type": "edit", "args": {"action": "pay", "args": {"amount": 7, "note": "rent"}}}],
            "rent",
        ),
        ({"decisions": [{"type": "reject", "message": "No."}]}, None),
        ([{"type": "ignore"}], None),
        ([{"type": "response", "args": "In cash."}], None),
    ],
    ids=repr,
)
async def test_a_decision_is_taken_in_the_words_of_langchain_and_of_agent_inbox(
    api: Api, thread: str, amount: int, door: str, body: Any, paid: str | None
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    if isinstance(body, dict) and body.get("type") == "accept":
        body = {**body, "args": {"action": "pay", "args": {"amount": amount}}}
    path = (
        f"/threads/{thread}/resume"
        if door == "resume"
        else f"/approvals/{approval['approval_id']}/decide"
    )
    await expect(await api.http.post(path, json=body), 202)
    words = await api.last_words(thread)
    assert ("paid" in words) == (paid is not None), words
    assert (paid or "") in words


async def test_the_resumed_events_come_to_who_accepts_a_stream(
    api: Api, thread: str, amount: int
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    last = len(await api.events(thread))
    sse = {"accept": "text/event-stream"}
    response = await api.http.post(
        f"/approvals/{approval['approval_id']}/decide", json={"type": "approve"}, headers=sse
    )
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-thread-id"] == thread
    events = await api.events(thread, after=last)
    assert response.headers["x-run-id"] == events[-1]["run_id"]
    assert events[-1]["type"] == "done"
    sent, reason = without_ends(response.content)
    assert reason == "done"
    assert sent.count(b"\n\n") == len(events)
    assert sent.startswith(b"id: %d\ndata: {" % (last + 1))


async def test_a_bare_decision_among_several_is_refused_with_their_ids(
    api: Api, thread: str, amount: int
) -> None:
    approvals = await api.paused(f"pay {amount}; pay {amount}", thread_id=thread)
    before = await unchanged(api, thread)
    body = await problem(await api.resume(thread, type="approve"), 422)
    assert sorted(body["approvals"]) == sorted(approval["approval_id"] for approval in approvals)
    assert await unchanged(api, thread) == before


async def test_one_decision_may_be_for_all(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}; pay {amount}", thread_id=thread)
    answer = await api.decided(thread, type="approve", all=True)
    assert len(answer["decisions"]) == 2
    assert await api.last_words(thread) == f"Results: paid {amount} | paid {amount}"
    assert server.traces(f"pay {amount}") == [f"pay {amount}"] * 2


async def test_decisions_for_some_leave_the_rest_pending_and_start_nothing(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    first, second, third = await api.paused(
        f"pay {amount}; pay {amount}; pay {amount}", thread_id=thread
    )
    last = len(await api.events(thread))
    answer = await api.decided(
        thread, decisions={second["approval_id"]: {"type": "reject", "message": "no"}}
    )
    assert (answer["run_id"], answer["status"]) == (None, "interrupted")
    assert answer["pending"] == [first["approval_id"], third["approval_id"]]
    assert types_of(await api.events(thread, after=last)) == ["approval_decided"]
    found = await api.get(f"/threads/{thread}")
    assert found["status"] == "interrupted"
    assert [approval["approval_id"] for approval in found["approvals"]] == answer["pending"]

    # As a stream: the events of these decisions, and its end.
    sse = {"accept": "text/event-stream"}
    body = {"decisions": {first["tool_call_id"]: {"type": "approve"}}}
    response = await api.http.post(f"/threads/{thread}/resume", json=body, headers=sse)
    sent, reason = without_ends(response.content)
    assert reason == "done"
    assert sent.startswith(b"id: %d\ndata: " % (last + 2))
    assert sent.count(b"\n\n") == 1
    assert server.traces(f"pay {amount}") == []

    # The last one may be bare again, and with it the run goes on with all three.
    await api.decided(thread, type="approve")
    words = await api.last_words(thread)
    assert words.startswith(f"Results: paid {amount} | ")
    assert words.count(f"paid {amount}") == 2
    assert server.traces(f"pay {amount}") == [f"pay {amount}"] * 2


async def test_what_an_edit_would_mean_is_shown_before_it_is_made(
    api: Api, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    (approval,) = await api.pending(thread)
    before = await unchanged(api, thread)
    path = f"/approvals/{approval['approval_id']}/preview"

    async def preview(args: Any, status: int = 200) -> Any:
        return (await expect(await api.http.post(path, json={"args": args}), status)).json()

    other = {"amount": amount + 700_000, "note": "re\u200bnt"}
    shown = await preview(other)
    assert shown["preview"] == {"pays": amount + 700_000}
    assert (shown["args"], shown["risk"], shown["quorum"], shown["four_eyes"]) == (
        other,
        approval["risk"],
        1,
        False,
    )
    signed = rfc8785.dumps({"tool": "pay", "args": other})
    assert shown["digest"] == hashlib.sha256(signed).hexdigest()
    assert ["invisible" in sentence for sentence in shown["warnings"]] == [True]
    # What the edit would be refused for, its preview is too.
    for wrong in ({"amount": "much"}, {"amount": -1}, {}, {"amount": 1, "amuont": 2}, [1], None):
        await preview(wrong, 422)
    assert await unchanged(api, thread) == before

    await api.decided(thread, type="edit", args=other)
    late = await preview(other, 409)
    assert late["decided_by"] == "local"
    (nobodys,) = await api.paused("die 1", thread_id=f"{thread}-2")
    path = f"/approvals/{nobodys['approval_id']}/preview"
    # It takes no edits.
    await preview({"amount": 2}, 422)


async def test_a_tool_says_which_arguments_it_takes(api: Api, thread: str, amount: int) -> None:
    events = await api.stream(f"pay {amount}", thread_id=thread)
    (approval,) = await api.pending(thread)
    schema = approval["schema"]
    assert schema["required"] == ["amount"] and schema["additionalProperties"] is False
    assert {"amount", "note"} <= schema["properties"].keys()
    assert only(events, "approval_required")["schema"] == schema
    # The tool is still the judge, as it is of the model: it takes a number in a text.
    await api.decided(thread, type="edit", args={"amount": str(amount + 700_000)})
    await api.until(thread, "done")


async def test_an_edit_runs_with_the_edited_arguments_and_the_model_is_told(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    answer = await api.decided(
        thread, type="edit", args={"amount": amount + 500_000, "note": "rent"}
    )
    (stored,) = answer["decisions"].values()
    assert stored["status"] == "edited"
    assert stored["args"] == {"amount": amount + 500_000, "note": "rent"}
    assert stored["asked_first"]["args"] == {"amount": amount}
    events = await api.until(thread, "done", after=0)
    assert only(events, "tool_start")["input"] == {"amount": amount + 500_000, "note": "rent"}
    assert only(events, "approval_decided")["args"] == {"amount": amount + 500_000, "note": "rent"}
    assert "A person changed the arguments" in await api.last_words(thread)
    assert server.traces(f"pay {amount}") == []
    assert server.traces(f"pay {amount + 500_000}") == [f"pay {amount + 500_000}"]


async def test_a_response_is_the_result_and_nothing_runs(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    await api.decided(thread, type="respond", message="I paid it in cash.")
    assert await api.last_words(thread) == "Results: I paid it in cash."
    assert server.traces(f"pay {amount}") == []


async def test_a_rejection_reaches_the_model_as_an_error_with_the_reason(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    await api.decided(thread, type="reject", message="Too much.")
    assert "Too much." in await api.last_words(thread)
    (told,) = [
        message
        for message in (await api.get(f"/threads/{thread}"))["values"]["messages"]
        if message["type"] == "tool"
    ]
    assert told["status"] == "error"
    assert server.traces(f"pay {amount}") == []


# ── what is refused, and changes nothing ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "approve",
        [{"type": "approve"}] * 2,
        {"decisions": [{"type": "approve"}] * 2},
        {"type": "accept", "args": {"amount": 1}},
        {"type": "approve", "all": "yes"},
        {"type": "edit", "edited_action": {"name": "slow", "args": {"amount": 1}}},
        {"type": "edit"},
        {"type": "edit", "args": None},
        {"type": "edit", "args": [1]},
        {"type": "edit", "args": {"amount": "much"}},
        {"type": "edit", "args": {"amount": -1}},
        {"type": "edit", "args": {}},
        {"type": "edit", "args": {"amount": 1, "amuont": 2}},
        {"type": "approve", "args": {"amount": 1}},
        {"type": "approve", "message": "but gently"},
        {"type": "reject", "message": 5},
        {"type": "respond"},
        {"type": "approve", "surprise": 1},
        {"decisions": {}},
        {"decisions": {"": {"type": "approve"}}, "type": "approve"},
        {"decisions": [{"type": "teleport"}]},
        {"decisions": {"ID": {"type": "approve"}}, "all": True},
        {"decisions": {"ID": {"type": "approve"}, "CALL": {"type": "reject"}}},
        {"decisions": {"ID": {"type": "edit", "args": {"amount": 1.5}}}},
        {"decisions": {"ID": "approve"}},
    ],
)
async def test_a_bad_body_changes_nothing(
    api: Api, server: Server, thread: str, amount: int, body: Any
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    names = {"ID": approval["approval_id"], "CALL": approval["tool_call_id"]}
    if isinstance(body, dict) and isinstance(body.get("decisions"), dict):
        body = {
            **body,
            "decisions": {names.get(key, key): value for key, value in body["decisions"].items()},
        }
    before = await unchanged(api, thread)
    for path in (f"/threads/{thread}/resume", f"/approvals/{approval['approval_id']}/decide"):
        await problem(await api.http.post(path, json=body), 422)
    assert await unchanged(api, thread) == before
    assert server.traces(f"pay {amount}") == []


async def test_one_bad_decision_spoils_the_good_ones_beside_it(
    api: Api, thread: str, amount: int
) -> None:
    first, second = await api.paused(f"pay {amount}; pay {amount}", thread_id=thread)
    before = await unchanged(api, thread)
    good = {first["approval_id"]: {"type": "approve"}}
    for bad, status in (
        ({second["approval_id"]: {"type": "edit", "args": {"amount": 0}}}, 422),
        ({"apr_unknown": {"type": "approve"}}, 404),
    ):
        await problem(await api.resume(thread, decisions={**good, **bad}), status)
    assert await unchanged(api, thread) == before


async def test_a_tool_takes_only_the_decisions_that_its_policy_allows(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    (approval,) = await api.paused(f"die {amount}", thread_id=thread)
    assert approval["allowed"] == ["approve", "reject"]
    for body in ({"type": "edit", "args": {"amount": 1}}, {"type": "respond", "message": "done"}):
        refused = await problem(await api.resume(thread, **body), 422)
        assert "approve, reject" in refused["detail"]
    assert server.traces(f"die {amount}") == []


async def test_what_does_not_exist_is_a_404(api: Api, thread: str, amount: int) -> None:
    await problem(await api.resume("nobody", type="approve"), 404)
    await problem(await api.http.get("/approvals/apr_nobody"), 404)
    await problem(
        await api.http.post("/approvals/apr_nobody/decide", json={"type": "approve"}), 404
    )
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    body = await problem(
        await api.resume(thread, decisions={"apr_nobody": {"type": "approve"}}), 404
    )
    assert approval["approval_id"] in body["detail"]
    # Another thread's approval is none of this thread's.
    (other,) = await api.paused(f"pay {amount}", thread_id=f"{thread}-2")
    await problem(
        await api.resume(thread, decisions={other["approval_id"]: {"type": "approve"}}), 404
    )
    assert len(await api.pending(thread)) == len(await api.pending(f"{thread}-2")) == 1


async def test_a_thread_that_waits_for_nothing_is_a_409(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    before = await unchanged(api, thread)
    await problem(await api.resume(thread, type="approve"), 409)
    assert await unchanged(api, thread) == before


async def test_who_comes_second_learns_who_decided_what_and_when(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    answer = await api.decided(thread, type="reject", message="Too much.")
    (decided,) = answer["decisions"].values()
    late: list[httpx.Response] = [
        await api.resume(thread, type="approve"),
        await api.resume(thread, decisions={approval["approval_id"]: {"type": "approve"}}),
        await api.resume(thread, decisions={approval["tool_call_id"]: {"type": "approve"}}),
        await api.http.post(
            f"/approvals/{approval['approval_id']}/decide", json={"type": "approve"}
        ),
        await api.http.post(
            f"/approvals/{approval['approval_id']}/decide", json=[{"type": "accept"}]
        ),
        await api.http.post(f"/threads/{thread}/resume", json={"decisions": [{"type": "approve"}]}),
    ]
    for response in late:
        body = await problem(response, 409)
        assert body["approval_id"] == approval["approval_id"]
        assert (body["decided_by"], body["decision"]) == (
            "local",
            {"type": "reject", "message": "Too much."},
        )
        assert body["decided_at"].replace("+00:00", "Z") == decided["decided_at"]
        assert "local" in body["detail"]
        assert "rejected" in body["detail"]
    await api.at_rest(thread)
    assert server.traces(f"pay {amount}") == []


async def test_of_fifty_decisions_at_once_one_wins(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    for attempt, winner_runs in enumerate((True, False)):
        id = f"{thread}-{attempt}"
        (approval,) = await api.paused(f"pay {amount}", thread_id=id)
        by_approval = f"/approvals/{approval['approval_id']}/decide"
        # Of the first fifty every one approves; of the second every other one rejects.
        decisions = [
            {"type": "approve"}
            if winner_runs or number % 2
            else {"type": "reject", "message": f"no {number}"}
            for number in range(50)
        ]
        paths = [f"/threads/{id}/resume", by_approval]
        answers = await volley(
            server,
            [(paths[number % 3 == 0], decision) for number, decision in enumerate(decisions)],
        )
        assert sorted(status for status, _ in answers) == [202] + [409] * 49
        stored = await api.approval(approval["approval_id"])
        for (status, body), decision in zip(answers, decisions, strict=True):
            assert (
                (stored["decision"] == decision)
                if status == 202
                else (body["decision"] == stored["decision"])
            )
            assert status == 202 or (body["decided_by"], body["approval_id"]) == (
                "local",
                approval["approval_id"],
            )
        await api.at_rest(id)
        assert types_of(await api.events(id)).count("approval_decided") == 1
        assert types_of(await api.events(id)).count("run_resumed") == 1
        if winner_runs:
            assert server.traces(f"pay {amount}") == [f"pay {amount}"]
    expected = 1 + (stored["decision"]["type"] == "approve")
    assert len(server.traces(f"pay {amount}")) == expected


async def test_decisions_on_different_approvals_of_one_pause_all_count(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    approvals = await api.paused("; ".join([f"pay {amount}"] * 10), thread_id=thread)
    answers = await volley(
        server,
        [
            (f"/approvals/{approval['approval_id']}/decide", {"type": "approve"})
            for approval in approvals
        ],
    )
    assert [status for status, _ in answers] == [202] * 10
    assert [body["run_id"] is not None for _, body in answers].count(True) == 1
    await api.at_rest(thread)
    assert server.traces(f"pay {amount}") == [f"pay {amount}"] * 10


# ── lists ─────────────────────────────────────────────────────────────────────────────────────────


async def test_approvals_are_listed_by_thread_and_status_in_pages(
    api: Api, thread: str, amount: int
) -> None:
    approvals = await api.paused("; ".join([f"pay {amount}"] * 5), thread_id=thread)
    ids = [approval["approval_id"] for approval in approvals]
    assert len(set(ids)) == 5
    await api.decided(thread, decisions={ids[0]: {"type": "reject"}})

    async def listed(**parameters: Any) -> list[str]:
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await api.get(
                "/approvals",
                thread_id=thread,
                **parameters,
                **({"cursor": cursor} if cursor else {}),
            )
            assert page.keys() == {"approvals", "next"}
            assert len(page["approvals"]) <= parameters.get("limit", 100)
            seen += [approval["approval_id"] for approval in page["approvals"]]
            cursor = page["next"]
            if cursor is None:
                return seen

    assert sorted(await listed()) == sorted(await listed(limit=2)) == sorted(ids)
    assert sorted(await listed(status="pending", limit=3)) == sorted(ids[1:])
    assert await listed(status="rejected") == [ids[0]]
    assert await listed(status="approved") == []
    for wrong in (
        {"status": "open"},
        {"limit": 0},
        {"limit": 5000},
        {"cursor": "nonsense"},
        {"thread_id": "a b"},
    ):
        await problem(await api.http.get("/approvals", params=wrong), 422)


# ── graphs of somebody else ───────────────────────────────────────────────────────────────────────


async def test_a_graph_that_interrupts_is_answered_with_any_json(api: Api, thread: str) -> None:
    which, how_many = await api.paused("Which?; How many?", thread_id=thread, agent="asking")
    assert (which["kind"], which["args"], which["node"]) == ("input", {"question": "Which?"}, "ask")
    answer = await api.decided(
        thread,
        decisions={which["approval_id"]: {"type": "respond", "message": {"colour": ["red"]}}},
    )
    assert answer["pending"] == [how_many["approval_id"]]
    await api.decided(thread, type="respond", message=3)
    await api.at_rest(thread)
    messages = (await api.get(f"/threads/{thread}"))["values"]["messages"]
    assert [message["content"] for message in messages[1:]] == [
        "Answers: [{'colour': ['red']}]",
        "Answers: [3]",
    ]


async def test_a_graph_that_asks_again_gets_the_answer_to_each_question(
    api: Api, thread: str
) -> None:
    (first,) = await api.paused("Which? then How many?", thread_id=thread, agent="asking")
    await api.decided(thread, type="respond", message="red")
    assert (await api.at_rest(thread))["status"] == "interrupted"
    (second,) = await api.pending(thread)
    assert second["args"] == {"question": "How many?"}
    assert second["approval_id"] != first["approval_id"]
    await api.decided(thread, type="respond", message=3)
    assert await api.last_words(thread) == "Answers: ['red', 3]"


async def test_a_message_may_reject_what_a_graph_asks_and_go_on(api: Api, thread: str) -> None:
    await api.paused("Which?", thread_id=thread, agent="asking")
    events = await api.stream("Never mind.", thread_id=thread, if_paused="reject")
    assert without_tokens(events) == ["approval_decided", "run_resumed", "done"]
    contents = [
        message["content"]
        for message in (await api.get(f"/threads/{thread}"))["values"]["messages"]
    ]
    assert sorted(contents) == [
        "Answers: [{'type': 'reject', 'message': 'Never mind.'}]",
        "Never mind.",
        "Which?",
    ]


async def test_a_pause_before_a_foreign_graphs_tools_is_approved(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread, agent="foreign")
    assert (approval["kind"], approval["node"], approval["allowed"]) == (
        "node",
        "tools",
        ["approve", "reject"],
    )
    assert [(call["name"], call["args"]) for call in approval["args"]["tool_calls"]] == [
        ("pay", {"amount": amount})
    ]
    assert server.traces(f"pay {amount}") == []
    await api.decided(thread, type="approve")
    assert await api.last_words(thread) == f"Results: paid {amount}"
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_a_pause_before_a_foreign_graphs_tools_is_rejected(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread, agent="foreign")
    await api.decided(thread, type="reject", message="Too much.")
    assert "Too much." in await api.last_words(thread)
    assert server.traces(f"pay {amount}") == []


async def test_a_message_may_reject_a_foreign_graphs_pause_and_go_on(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread, agent="foreign")
    await api.stream("tell 2", thread_id=thread, if_paused="reject")
    assert await api.last_words(thread) == "word0 word1"
    assert server.traces(f"pay {amount}") == []


async def test_a_node_that_a_person_rejects_does_not_run(
    api: Api, server: Server, thread: str
) -> None:
    (approval,) = await api.paused(f"page of {thread}", thread_id=thread, agent="stopping")
    assert (approval["kind"], approval["node"], approval["args"]) == ("node", "publish", {})
    seen = [{"type": "human", "content": f"page of {thread}"}]
    assert approval["preview"] == {"state": {"messages": seen}}
    await api.decided(thread, type="reject", message="Not yet.")
    assert (await api.at_rest(thread))["status"] == "idle"
    assert await api.last_words(thread) == "The step 'publish' was rejected. The reason: Not yet."
    assert server.traces(f"publish page of {thread}") == []
    # The thread is free again.
    await api.paused(f"book of {thread}", thread_id=thread, agent="stopping")
    await api.decided(thread, type="approve")
    assert await api.last_words(thread) == "Published."
    assert server.traces("publish book of") == [f"publish book of {thread}"]


async def test_a_message_that_rejects_a_node_is_what_the_graph_goes_on_with(
    api: Api, server: Server, thread: str
) -> None:
    await api.paused(f"page of {thread}", thread_id=thread, agent="stopping")
    await api.stream(f"leaf of {thread}", thread_id=thread, if_paused="reject")
    contents = [message["content"] for message in (await api.at_rest(thread))["values"]["messages"]]
    assert contents == [f"page of {thread}", f"leaf of {thread}"]
    assert server.traces(f"publish page of {thread}") == []


async def test_of_very_many_decisions_on_one_pause_none_is_lost(api: Api, thread: str) -> None:
    asks = "; ".join(f"pay {amount}" for amount in range(1, 1_002))
    assert (await api.stream(asks, thread_id=thread))[-1]["type"] == "run_paused"
    decided = await api.decided(thread, type="reject", all=True)
    assert decided["pending"] == []
    assert (await api.at_rest(thread))["status"] == "idle"


PEOPLE = 100 if "CRASH_CONTESTS" in os.environ else 40


async def test_all_people_who_decide_a_pause_at_once_count(
    api: Api, server: Server, thread: str
) -> None:
    asks = "; ".join(f"pay {amount}" for amount in range(1, PEOPLE + 1))
    assert (await api.stream(asks, thread_id=thread))[-1]["type"] == "run_paused"
    pending = await api.pending(thread)
    answers = await volley(
        server,
        [(f"/approvals/{each['approval_id']}/decide", {"type": "reject"}) for each in pending],
    )
    assert [status for status, _ in answers] == [202] * PEOPLE
    assert sum(bool(outcome["run_id"]) for _, outcome in answers) == 1
    assert (await api.at_rest(thread))["status"] == "idle"
